"""Distances to cities on the lattice of land cells: Gaussians around them, rings, people nearby."""

from __future__ import annotations

import hashlib
import math
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from las_builder.catalogs import Strata
from las_builder.catalogs.strata import WGS84_A
from las_builder.plan.elementary import exp, sin_cos
from las_builder.plan.ellipsoid import cartesian, span
from las_builder.plan.passes import join, merged
from las_builder.plan.target import CELL, COLUMNS, Floats, Ints, Target, lattice_centres

_FAR = 5.0  # standard deviations; what is beyond is 0
_BELTS = 8  # of rows, each a task
_KEPT = 2  # sets of Gaussians
_KNOWN: dict[bytes, tuple[Ints, Floats]] = {}  # by what they are: cells and sums
_LOCK = threading.Lock()
_RADIUS = 6371.0  # km, for the few parts per thousand by which an arc is longer than its chord


@dataclass(frozen=True, eq=False)
class Towns:
    """Some cities of the list, the largest first; arrays of one length."""

    lon: Floats
    lat: Floats
    people: Floats

    @classmethod
    def of(cls, strata: Strata, top: int | None = None) -> Towns:
        """The largest `top` of the world; None: all."""
        cities = strata.cities
        order = np.argsort(-cities.population, kind="stable")[:top]
        return cls(
            cities.lon[order], cities.lat[order], cities.population[order].astype(np.float64)
        )


def gaussians(target: Target, towns: Towns, weight: Floats, sigma_km: float) -> Floats:
    """Σ weight · exp(-d²/2σ²) over cities, at the middle of every cell, (cells,).

    d is the geodesic distance, as exact as an arc over a chord is (1e-4 of it at 1,000 km). What a
    cell has does not depend on the target, so cells of an earlier one are not computed again.
    """
    what = hashlib.blake2b(repr((sigma_km, towns.lon.size)).encode(), digest_size=16)
    for column in (towns.lon, towns.lat, weight):
        what.update(np.ascontiguousarray(column).tobytes())
    with _LOCK:
        key, known = _KNOWN.get(what.digest(), (np.zeros(0, np.int32), np.zeros(0)))
        size = target.row.size
        out, fresh = np.zeros(size), np.empty(size, np.bool_)
        new = merged(target.row, target.column, key, known, out, fresh, COLUMNS)
        if new:
            _over(target, towns, weight, sigma_km, _FAR * sigma_km, 0, fresh, out)
            every, both = np.empty(key.size + new, np.int32), np.empty(key.size + new)
            join(target.row, target.column, fresh, out, key, known, every, both, COLUMNS)
            while len(_KNOWN) >= _KEPT:
                _KNOWN.pop(next(iter(_KNOWN)))
            _KNOWN[what.digest()] = every, both
        return out


def people_around(target: Target, towns: Towns, within_km: float) -> Floats:
    """People of the cities within a distance of the middle of every cell, (cells,)."""
    out = np.zeros(target.row.size)
    _over(target, towns, towns.people, 1.0, within_km, 1, _every(target), out)
    return out


def nearest_class(
    target: Target, towns: Towns, rules: Sequence[tuple[int, int, float]], otherwise: int
) -> NDArray[np.int64]:
    """The value of the first rule that holds, (cells,).

    Args:
        target: Whose cells.
        towns: All that count.
        rules: (value, people at least, within km) of each.
        otherwise: Where none holds.
    """
    found = np.full(target.row.size, otherwise, np.int64)
    for value, people, within in reversed(rules):
        large = towns.people >= people
        some = Towns(towns.lon[large], towns.lat[large], towns.people[large])
        out = np.zeros(target.row.size)
        _over(target, some, np.ones(some.lon.size), 1.0, within, 1, _every(target), out)
        found[out > 0] = value
    return found


def _every(target: Target) -> NDArray[np.bool_]:
    return np.ones(target.row.size, np.bool_)


def _over(
    target: Target, towns: Towns, weight: Floats, sigma: float, radius: float, kind: int,
    which: NDArray[np.bool_], out: Floats,
) -> None:  # fmt: skip
    """Add to some cells what the towns around give them; the belts of a target in threads."""
    from concurrent.futures import ThreadPoolExecutor

    lon, lat = lattice_centres()
    across, along = cartesian(lon, 0 * lon), cartesian(0 * lat, lat)
    turn = across[:, :2] / WGS84_A  # cosine and sine of the longitude of each column
    at = cartesian(towns.lon, towns.lat)
    belts = np.linspace(0, len(target.number), _BELTS + 1).astype(int).tolist()

    def stamp(first: int, end: int) -> None:
        _stamp(
            target.number, target.top, first, end, along, turn, towns.lon, towns.lat, at, weight,
            sigma, radius, kind, which, out,
        )  # fmt: skip

    with ThreadPoolExecutor(min(_BELTS, os.cpu_count() or 1)) as pool:
        for _ in pool.map(stamp, belts[:-1], belts[1:]):
            pass


@njit(cache=True, nogil=True)
def _stamp(  # type: ignore[no-untyped-def]
    number, top, start, end, along, turn, lon, lat, at, weight, sigma, radius, kind, which, out
):
    sine, _ = sin_cos(min(radius / (2 * _RADIUS), 1.5) * (180 / math.pi))
    reach = 4 * _RADIUS * _RADIUS * sine * sine
    small, narrow = 1 / (4 * _RADIUS * _RADIUS), -1 / (2 * sigma * sigma)
    for n in range(lon.size):
        up, wide = span(lat[n], radius)
        first = max(math.floor((90 - lat[n] - up * 1.01) / CELL) - top, start)
        last = min(math.floor((90 - lat[n] + up * 1.01) / CELL) - top, end - 1)
        west = math.floor((lon[n] + 180 - wide) / CELL)
        east = math.floor((lon[n] + 180 + wide) / CELL)
        if east - west >= COLUMNS:
            west, east = 0, COLUMNS - 1
        sin, cos = sin_cos(lon[n])
        across = math.sqrt(at[n, 0] * at[n, 0] + at[n, 1] * at[n, 1])
        for r in range(first, last + 1):
            rho, z = along[r + top, 0] - across, along[r + top, 2] - at[n, 2]
            straight, around = rho * rho + z * z, 2 * along[r + top, 0] * across
            if straight > reach:
                continue
            for c in range(west, east + 1):
                column = c if c < COLUMNS else c - COLUMNS
                column = column if column >= 0 else column + COLUMNS
                cell = number[r, column]
                if cell < 0 or not which[cell]:
                    continue
                d2 = straight + around * (1 - (turn[column, 0] * cos + turn[column, 1] * sin))
                if d2 > reach:
                    continue
                if kind == 0:
                    # The arc over the chord: d (1 + (d/2R)²/6 + 3 (d/2R)⁴/40).
                    q = d2 * small
                    arc = 1 + q * (1 / 6 + q * (3 / 40))
                    out[cell] += weight[n] * exp(d2 * arc * arc * narrow)
                else:
                    out[cell] += weight[n]
