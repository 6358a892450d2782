"""The second rule: one site at most at a random place of each cell of a rotated partition.

The sphere is cut into N regions of exactly equal area: a cap at each pole and collars of latitude
between them, each in as many regions as fit. The partition is turned by a random rotation. Each
region has one candidate at a random place of its inner part, which ends half the spacing inside
its edges, so no two candidates are nearer than the spacing. As every rotation is equally likely,
the candidates' density is N over the area of the Earth everywhere, however small the inner parts.
A candidate is kept with probability λ*(x) over that density, by a systematic sample along the
collars: so the density of sites is λ* exactly, and where λ* is largest every region has its site.

Partition and rotation live on the sphere that WGS 84 maps to with equal areas, on which no distance
is off by more than 0.12 %.

Source: P. Leopardi (2006), A partition of the unit sphere into regions of equal area and small
diameter, ETNA 25, 309-327; K. Shoemake (1992), Uniform random rotations, Graphics Gems III.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from las_builder.plan.elementary import angle, arcsin, sin_cos, uniform
from las_builder.plan.ellipsoid import DEGREE, latitude
from las_builder.plan.process import Points
from las_builder.plan.target import Floats, Target

EARTH = 510065621.72408843
"""Area of WGS 84, km2."""

_RADIUS = math.sqrt(EARTH / (4 * math.pi))
_STRETCH = 1.0013  # distances on the sphere may be this much too long
_EAST, _NORTH, _MARK, _START, _TURN = range(16, 21)  # what a random number is for


@dataclass(frozen=True, eq=False)
class Partition:
    """Collars of a sphere, from one pole to the other; caps are collars of one region."""

    edges: Floats
    """Colatitudes, radians, (collars + 1,)."""

    regions: Floats
    """In each collar, whole numbers, (collars,)."""

    @classmethod
    def of(cls, n: int) -> Partition:
        """N regions of equal area."""
        if n < 3:
            return cls(np.array([0.0, math.pi]), np.array([1.0]))
        area = 4 * math.pi / n
        cap = 2 * arcsin(math.sqrt(1 / n))
        collars = max(1, round((math.pi - 2 * cap) / math.sqrt(area)))
        height = (math.pi - 2 * cap) / collars
        ideal = np.array(
            [(_cap(cap + (i + 1) * height) - _cap(cap + i * height)) * n for i in range(collars)]
        )
        rounded, carried = [], 0.0
        for want in ideal.tolist():
            whole = round(want + carried)
            carried += want - whole
            rounded.append(whole)
        rounded[-1] += n - 2 - sum(rounded)
        regions = np.array([1, *rounded, 1], np.float64)
        inside = np.cumsum(regions)[:-1] / n
        edges = [2 * arcsin(math.sqrt(share)) for share in inside.tolist()]
        return cls(np.array([0.0, *edges, math.pi]), regions)

    def inner(self, spacing_km: float) -> tuple[Floats, Floats, Floats] | None:
        """Where candidates may be: colatitudes from, to (radians), and how much of the width of a
        region, (collars,) each; None: the regions are too small for this spacing.
        """
        far = spacing_km * _STRETCH / _RADIUS  # radians
        low, high = self.edges[:-1] + far / 2, self.edges[1:] - far / 2
        low[0], high[-1] = 0.0, math.pi
        least = np.minimum([_sine(v) for v in low], [_sine(v) for v in high])
        wide = np.ones(low.size)
        for i in range(low.size):
            if self.regions[i] == 1:
                continue
            half = _sine(far / 2) / max(least[i], 1e-12)
            gap = 2 * arcsin(half) if half < 1 else math.inf
            wide[i] = 1 - gap * self.regions[i] / (2 * math.pi)
        if spacing_km > 0 and (self.regions.size < 2 or (high < low).any() or (wide < 0).any()):
            return None
        return low, high, wide


def _cap(colatitude: float) -> float:
    """Share of the sphere in a cap."""
    s = _sine(colatitude / 2)
    return s * s


def _sine(radians: float) -> float:
    return float(sin_cos(radians / DEGREE)[0])


def most(spacing_km: float) -> int:
    """About the most regions whose candidates keep this distance, and no more than that."""
    high = int(EARTH / spacing_km**2) + 3
    low = 2
    while high - low > max(1, low // 1000):
        middle = (low + high) // 2
        if Partition.of(middle).inner(spacing_km) is None:
            high = middle
        else:
            low = middle
    return low


def sites(target: Target, wanted: Floats, n: int, spacing_km: float, key: np.uint64) -> Points:
    """Sites of density `wanted`.

    Args:
        target: Where.
        wanted: Sites per km2 in every cell, at most n / EARTH, (cells,).
        n: Regions of the partition.
        spacing_km: Least distance; `Partition.inner` must allow it.
        key: See `process.key_of`.
    """
    partition = Partition.of(n)
    inner = partition.inner(spacing_km)
    assert inner is not None
    turn = _rotation(key)
    first, some = _around(target, partition.edges, partition.regions, turn)
    lon, lat = np.empty(int(some.sum())), np.empty(int(some.sum()))
    number = np.empty(lon.size, np.int64)
    _candidates(partition.regions, first, some, *inner, turn, key, lon, lat, number)
    cell = target.cell_at(lon, lat)
    here = np.flatnonzero(cell >= 0)
    mixed = here[target.mixed[cell[here]] >= 0]
    out = mixed[~target.contains(lon[mixed], lat[mixed])]
    cell[out] = -1
    on = cell >= 0
    chance = np.zeros(lon.size)
    chance[on] = wanted[cell[on]] * (EARTH / n)
    running = np.cumsum(np.minimum(chance, 1)) + uniform(key, 0, 0, _START)
    chosen = np.flatnonzero(np.floor(running) > np.floor(np.concatenate([[0.0], running[:-1]])))
    chosen = chosen[chance[chosen] > 0]
    chosen = chosen[np.argsort(cell[chosen], kind="stable")]
    mark = np.empty(chosen.size)
    _marks(number[chosen], key, mark)
    return Points(lon[chosen], lat[chosen], cell[chosen], number[chosen].astype(np.int32), mark)


def _around(
    target: Target, edges: Floats, regions: Floats, turn: Floats
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which regions of each collar may meet a target: the first column and how many, (collars,)."""
    every = regions.astype(np.int64)
    lon, lat = (np.radians(v) for v in target.centres())
    up = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    middle = up.mean(axis=1)
    length = float(np.linalg.norm(middle))
    if length < 0.1:
        return 0 * every, every
    middle /= length
    radius = math.acos(max(-1.0, float((middle @ up).min()))) + math.radians(0.5)
    x, y, z = turn.T @ middle
    colatitude, along = math.acos(max(-1.0, min(1.0, z))), math.atan2(y, x)
    near = (edges[1:] > colatitude - radius) & (edges[:-1] < colatitude + radius)
    # Half the longitudes that a cap spans; all of them if it holds a pole.
    span = math.pi
    if radius < min(colatitude, math.pi - colatitude):
        span = math.asin(math.sin(radius) / math.sin(colatitude))
    west = np.floor((along - span) / (2 * math.pi) * regions).astype(np.int64)
    east = np.floor((along + span) / (2 * math.pi) * regions).astype(np.int64)
    some = np.where(near, np.minimum(east - west + 1, every), 0)
    return west % every, some


def _rotation(key: np.uint64) -> Floats:
    """A rotation matrix, all equally likely."""
    u = [uniform(key, 0, i, _TURN) for i in range(3)]
    s1, c1 = sin_cos(360 * u[1])
    s2, c2 = sin_cos(360 * u[2])
    a, b = math.sqrt(1 - u[0]), math.sqrt(u[0])
    x, y, z, w = a * s1, a * c1, b * s2, b * c2
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


@njit(cache=True, nogil=True)
def _candidates(regions, first, some, low, high, wide, turn, key, lon, lat, number):  # type: ignore[no-untyped-def]
    n, before = 0, 0
    for i in range(regions.size):
        count = int(regions[i])
        _, top = sin_cos(low[i] / DEGREE)
        _, bottom = sin_cos(high[i] / DEGREE)
        for j in range(count if some[i] > 0 else 0):
            # There and back again, so that neighbours in the order are neighbours on the sphere.
            column = j if i % 2 == 0 else count - 1 - j
            if (column - first[i]) % count >= some[i]:
                continue
            number[n] = before + j
            u, v = uniform(key, number[n], 0, _EAST), uniform(key, number[n], 0, _NORTH)
            along = (column + 0.5 + (u - 0.5) * wide[i]) * (360.0 / count)
            z = bottom + v * (top - bottom)
            across = math.sqrt(max(0.0, 1 - z * z))
            s, c = sin_cos(along)
            x, y = across * c, across * s
            a = turn[0, 0] * x + turn[0, 1] * y + turn[0, 2] * z
            b = turn[1, 0] * x + turn[1, 1] * y + turn[1, 2] * z
            d = turn[2, 0] * x + turn[2, 1] * y + turn[2, 2] * z
            east = np.rint(angle(a, b) * 1e7) / 1e7
            lon[n] = east - 360 if east >= 180 else east
            lat[n] = np.rint(latitude((1 + d) / 2) * 1e7) / 1e7
            n += 1
        before += count


@njit(cache=True, nogil=True)
def _marks(number, key, out):  # type: ignore[no-untyped-def]
    for n in range(number.size):
        out[n] = uniform(key, number[n], 0, _MARK)
