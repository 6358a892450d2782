"""The law of a draw: how dense parents must be so that survivors are as dense as is asked.

With μ parents per km2 and M(x) = ∫ of μ over the target within the spacing of x, survivors have the
density λ = μ (1 - exp(-M)) / M. μ is found by fixed-point iteration, μ ← λ* M / (1 - exp(-M)), from
the value that is exact where λ* is constant. The iteration only decides how near λ comes to the λ*
asked: μ is then a known function, and the densities stored are computed from it at every site.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from las_builder.core.options import Sites
from las_builder.errors import InputError, RegionError
from las_builder.plan.cells import EARTH, most
from las_builder.plan.design import RESERVES, Part, density, parts
from las_builder.plan.elementary import log, survival
from las_builder.plan.passes import room, strata_masses, systematic
from las_builder.plan.process import expected, expected_in_cells
from las_builder.plan.target import Floats, Target, row_areas

CROWD = 5.0
"""Most parents, expected within the spacing of a place; more would hardly add survivors."""

_FULL = -math.expm1(-CROWD)  # survivors within the spacing, of which there can be less than one
_ROUNDS = 24
_CLOSE = 2e-3
_POINTS = 1 << 16  # at which ∫λ is taken
_LEAST = 256  # of them in a stratum


@dataclass(frozen=True, eq=False)
class Law:
    """Densities of parents and survivors, known everywhere."""

    target: Target
    parts: tuple[Part, ...]
    spacing_km: float
    asked: tuple[Floats, ...]
    """Sites asked for in every stratum of every part, reserves included."""

    wanted: Floats
    """λ*, sites per km2 asked for in every cell, (cells,)."""

    parent: Floats
    """μ, parents per km2 in every cell, (cells,)."""

    regions: int | None
    """Of the partition that keeps sites apart instead of Matérn's rule; None: it is his."""

    fits: int | None
    """Most sites that fit, with their reserves, in the same proportions; None: any number."""

    crowd: Floats
    """Sites asked for within the spacing of every cell, reserves included; in partitions, per
    km2; (cells,)."""

    @classmethod
    def solve(cls, target: Target, sites: Sites, where: object, whole: tuple[str, str]) -> Law:
        """The law of a recipe's design on a target.

        Raises:
            RegionError: More sites than fit; says how many do.
            InputError: See `design.parts`.
        """
        found = tuple(parts(sites, target, where, whole))
        asked = [np.asarray(RESERVES * part.counts, np.float64) for part in found]
        # Of a few sites, chance could leave too few: five sigma more, where there is room.
        more = [
            np.asarray(np.maximum(part.counts + 5 * np.sqrt(part.counts), base) - base)
            for part, base in zip(found, asked, strict=True)
        ]
        if sites.rule == "cells":
            return cls._in_cells(target, found, asked, more, sites, where)
        crowd, wanted = np.zeros(target.row.size), np.zeros(target.row.size)
        spare = np.zeros(target.row.size if sites.spacing_km > 0 else 0)
        fits = None
        if sites.spacing_km > 0:
            expected_in_cells(target, density(found, asked, wanted), sites.spacing_km, crowd)
            fits = fit(sites.count, crowd)
            if crowd.max() > _FULL:
                raise _too_many(target, found, sites, crowd, where, whole)
            if any(mass.any() for mass in more):
                density(found, more, wanted)
                extra = expected_in_cells(target, wanted, sites.spacing_km, spare)
                free = room(crowd, extra, _FULL)
                more = [np.asarray(free * mass) for mass in more]
                extra *= free
                crowd += extra
        asked = [np.asarray(base + mass) for base, mass in zip(asked, more, strict=True)]
        density(found, asked, wanted)
        parent = _parents(target, wanted, crowd, sites.spacing_km, spare)
        return cls(target, found, sites.spacing_km, tuple(asked), wanted, parent, None, fits, crowd)

    @classmethod
    def _in_cells(
        cls, target: Target, found: tuple[Part, ...], asked: Sequence[Floats],
        more: Sequence[Floats], sites: Sites, where: object,
    ) -> Law:  # fmt: skip
        base = density(found, asked)
        fits = None
        if sites.spacing_km > 0:
            cells = most(sites.spacing_km)
            fits = math.floor(sites.count * cells / (float(base.max()) * EARTH))
            if fits < sites.count:
                raise RegionError(
                    where, _key(sites), sites.count,
                    f"at most {fits} sites {sites.spacing_km:g} km apart in cells of equal area, and "
                    f"their reserves, on {target.area:,.0f} km2 of land",
                    f"Lower {_key(sites)} or spacing_km, or widen the region.",
                )  # fmt: skip
            extra = density(found, more)
            some = extra > 0
            free = ((cells / EARTH - base[some]) / extra[some]).min(initial=1.0)
            more = [np.asarray(max(0.0, min(1.0, float(free))) * mass) for mass in more]
        both = tuple(np.asarray(a + m) for a, m in zip(asked, more, strict=True))
        wanted = density(found, both)
        regions = max(3, math.ceil(float(wanted.max()) * EARTH))
        if sites.spacing_km > 0:
            regions = min(regions, cells)
        nothing = np.zeros(target.row.size)
        return cls(target, found, sites.spacing_km, both, wanted, nothing, regions, fits, base)

    @property
    def exact(self) -> bool:
        """Whether sites are as dense as asked, without any thinning by distance."""
        return self.spacing_km == 0 or self.regions is not None

    @functools.cached_property
    def mass(self) -> tuple[Floats, ...]:
        """∫ of λ_k over every stratum of every part: the survivors expected."""
        if self.exact:
            return self.asked
        return tuple(mass * _mean_yield(self, k) for k, mass in enumerate(self.asked))

    def fit(self, count: int, crowd: float) -> int | None:
        """How many fit of the sites of a cell that stands so thick, neighbours in proportion."""
        if self.spacing_km == 0:
            return None
        if self.regions is not None:
            return math.floor(count * most(self.spacing_km) / (crowd * EARTH))
        return fit(count, np.array([crowd]))

    def yields(self, lon: Floats, lat: Floats, cell: NDArray[np.integer]) -> Floats:
        """λ / λ* at places of the target (degrees) that lie in these cells."""
        if self.exact:
            return np.ones(lon.size)
        m = expected(self.target, self.parent, lon, lat, self.spacing_km)
        return np.asarray(survive(m) * self.parent[cell] / self.wanted[cell])


def survive(m: Floats) -> Floats:
    """(1 - exp(-m)) / m of each."""
    out = np.empty(m.size)
    _survive(m, out)
    return out


@njit(cache=True, nogil=True)
def _guess(wanted, crowd, out):  # type: ignore[no-untyped-def]
    """μ where λ* is constant: λ* · -log(1 - L) / L, with L survivors within the spacing."""
    for n in range(crowd.size):
        x = min(crowd[n], _FULL)
        out[n] = wanted[n] * (1 + x / 2 if x < 1e-6 else -log(1 - x) / x)


@njit(cache=True, nogil=True)
def _better(wanted, m, areas, parent):  # type: ignore[no-untyped-def]
    """μ of the next round, in place; the parts of ∫μ that moved."""
    moved, total = 0.0, 0.0
    for n in range(m.size):
        better = wanted[n] / survival(m[n])
        moved += abs(better - parent[n]) * areas[n]
        total += better * areas[n]
        parent[n] = better
    return moved / total


@njit(cache=True, nogil=True)
def _survive(m, out):  # type: ignore[no-untyped-def]
    for n in range(m.size):
        out[n] = survival(m[n])


def fit(count: int, crowd: Floats) -> int:
    """Most sites in the same proportions."""
    worst = float(crowd.max(initial=0.0))
    return math.floor(count * _FULL / worst * (1 + 1e-12)) if worst > 0 else count


def _parents(
    target: Target, wanted: Floats, crowd: Floats, spacing_km: float, spare: Floats
) -> Floats:
    """μ in every cell, (cells,); `spare` is written over."""
    if spacing_km == 0:
        return wanted
    parent = np.empty(wanted.size)
    _guess(wanted, crowd, parent)
    for _ in range(_ROUNDS):
        m = expected_in_cells(target, parent, spacing_km, spare)
        if _better(wanted, m, target.areas, parent) < _CLOSE:
            break
    return parent


def _mean_yield(law: Law, k: int) -> Floats:
    """The mean of λ / λ* over every stratum of a part, weighted by what the part asks for.

    Taken at points that are systematic along the cells of a stratum and in proportion to λ*_k.
    """
    part, target = law.parts[k], law.target
    names = len(part.names)
    if not law.asked[k].any():
        return np.ones(names)  # a part too small for one site asks for none
    cells = (*part.passed, target.areas, target.row, row_areas())
    rate = part.rate(law.asked[k])
    total, size = np.zeros(names), np.zeros(names, np.int64)
    strata_masses(rate, *cells, total, size)
    number = np.where(
        total > 0, np.maximum(_LEAST, np.round(_POINTS * total / total.sum())), 0
    ).astype(np.int64)
    before = np.concatenate([[0.0], np.cumsum(total)[:-1]])
    at = np.repeat(before, number) + np.concatenate(
        [
            (np.arange(n) + 0.5) / n * t
            for n, t in zip(number.tolist(), total.tolist(), strict=True)
            if n
        ]
    )
    cell = np.empty(at.size, np.int64)
    systematic(rate, *cells, np.cumsum(size) - size, at, cell)
    lon, lat, inside = target.places(cell)
    cell, lon, lat = cell[inside], lon[inside], lat[inside]
    got = law.yields(lon, lat, cell)
    here = part.stratum(cell)
    n = np.bincount(here, minlength=names)
    return np.asarray(np.bincount(here, got, names) / np.maximum(n, 1) + (n == 0))


def _key(sites: Sites) -> str:
    """What of a recipe says how many sites the draw is made for."""
    return "sites.count" if sites.capacity is None else "sites.capacity"


def _too_many(
    target: Target, found: Sequence[Part], sites: Sites, crowd: Floats, where: object,
    whole: tuple[str, str],
) -> InputError:  # fmt: skip
    worst = int(crowd.argmax())
    fits = fit(sites.count, crowd)
    for _ in range(16):  # shares of a smaller count round differently
        if fits < 1:
            break
        try:
            fewer = parts(sites.model_copy(update={"count": fits}), target, where, whole)
        except InputError:
            fits = 0
            break
        masses = [np.asarray(RESERVES * p.counts, np.float64) for p in fewer]
        again = expected_in_cells(target, density(fewer, masses), sites.spacing_km)
        if again.max() <= _FULL:
            break
        fits = min(fits - 1, fit(fits, again))
    at = np.array([worst])
    full = max(found, key=lambda p: float(p.density(p.counts.astype(float), at)[0]))
    h = int(full.stratum(at)[0])
    lon, lat = target.centres()
    reason = ""
    if len(found) > 1 or len(full.names) > 1:
        part_fits = math.floor(full.counts[h] * _FULL / crowd[worst])
        reason = (
            f"Fullest is {full.name}: {full.names[h]} at {lon[worst]:.2f}, {lat[worst]:.2f}, where "
            f"{part_fits} of {full.counts[h]} fit. "
        )
    return RegionError(
        where,
        _key(sites),
        sites.count,
        f"at most {fits} sites {sites.spacing_km:g} km apart, and their reserves, on "
        f"{target.area:,.0f} km2 of land",
        f"{reason}Lower {_key(sites)} or spacing_km, or widen the region.",
    )
