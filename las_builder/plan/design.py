"""A design: components with their strata and counts, and the densities they ask for.

Components superpose. Component k asks for the density n_kh · s_k(x) / ∫_h s_k of primaries at a
place x of its stratum h, where s_k is 1 for uniform and stratified components and a sum of
Gaussians for cities; both are constant within a land cell, so integrals are sums.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from las_builder.core.options import Component, Sites
from las_builder.errors import RecipeError, RegionError
from las_builder.plan.allocation import allocate, rounded
from las_builder.plan.cities import Towns, gaussians
from las_builder.plan.passes import NO_FLOATS, NO_INTS, add_density, sums
from las_builder.plan.strata import Stratification, shares, stratify
from las_builder.plan.target import Floats, Ints, Target

RESERVES = 1.3
"""Sites drawn for each site wanted."""


@dataclass(frozen=True, eq=False)
class Part:
    """One component on the cells of a target."""

    name: str
    names: tuple[str, ...]
    """Of its strata."""

    counts: NDArray[np.int64]
    """Primaries wanted of each stratum."""

    target: Target
    number: Ints | None = None
    """Stratum of every cell, (cells,); None: one stratum."""

    shape: Floats | None = None
    """Relative density of every cell within its stratum; None: 1."""

    @functools.cached_property
    def norms(self) -> Floats:
        """∫ of the shape over each stratum, km2."""
        areas = self.target.areas
        if self.number is None:
            return np.array([float((areas if self.shape is None else areas * self.shape).sum())])
        out = np.zeros(len(self.names))
        sums(self.number, areas if self.shape is None else areas * self.shape, out)
        return out

    def stratum(self, cell: NDArray[np.integer]) -> Ints:
        """Number of the stratum of cells."""
        return np.zeros(cell.shape, np.int32) if self.number is None else self.number[cell]

    def rate(self, mass: Floats) -> Floats:
        """Per km2 and shape, where the strata have these masses, (strata,)."""
        return np.divide(mass, self.norms, out=np.zeros(len(mass)), where=self.norms > 0)

    @property
    def passed(self) -> tuple[Ints, Floats]:
        """Strata and shape of the cells as `passes` take them."""
        number = NO_INTS if self.number is None else self.number
        return number, NO_FLOATS if self.shape is None else self.shape

    def density(self, mass: Floats, cell: NDArray[np.integer] | None = None) -> Floats:
        """Per km2 of cells (None: of all), where the strata have these masses."""
        if cell is None:
            return density([self], [mass])
        each = self.rate(mass)[self.stratum(cell)]
        return each if self.shape is None else each * self.shape[cell]

    @functools.cached_property
    def areas(self) -> Floats:
        """Target population of each stratum where the component draws, km2."""
        areas = self.target.areas
        if self.shape is None:
            return self.norms
        areas = np.where(self.shape > 0, areas, 0)
        if self.number is None:
            return np.array([float(areas.sum())])
        return np.asarray(np.bincount(self.number, areas, len(self.names)), np.float64)


def density(found: Sequence[Part], masses: Sequence[Floats], out: Floats | None = None) -> Floats:
    """Σ of the densities of all parts where their strata have these masses, per km2, (cells,).

    `out` is filled and given back, if there is one.
    """
    if out is None:
        out = np.zeros(found[0].target.row.size)
    else:
        out.fill(0)
    for part, mass in zip(found, masses, strict=True):
        add_density(part.rate(mass), *part.passed, out)
    return out


def parts(
    sites: Sites, target: Target, where: object, whole: tuple[str, str] = ("uniform", "land")
) -> list[Part]:
    """The components of a recipe on a target, with the count divided between them.

    Args:
        sites: Count and design.
        target: Where.
        where: The recipe, for messages.
        whole: Names of a uniform component and of its one stratum.

    Raises:
        InputError: A layer that is not there or broken, a table that names no stratum, more
            strata than sites, no city near the region.
    """
    shares = np.array([c.share for c in sites.design])
    counts, drawn = rounded(shares, sites.count), rounded(shares, sites.drawn)
    found = []
    named: Counter[str] = Counter()
    both = zip(counts.tolist(), drawn.tolist(), strict=True)
    for i, (component, of) in enumerate(zip(sites.design, both, strict=True)):
        part = _part(component, of, target, where, f"sites.design.{i}", whole)
        named[part.name] += 1
        if named[part.name] > 1:
            part = _renamed(part, f"{part.name}-{named[part.name]}")
        found.append(part)
    return found


def _renamed(part: Part, name: str) -> Part:
    return Part(name, part.names, part.counts, part.target, part.number, part.shape)


def _part(
    component: Component, of: tuple[int, int], target: Target, where: object, key: str,
    whole: tuple[str, str],
) -> Part:  # fmt: skip
    """A component of so many sites, drawn for so many."""
    one = np.array([of[0]], np.int64)
    if component.uniform is not None:
        return Part(whole[0], (whole[1],), one, target)
    if component.near is not None:
        towns = Towns.of(target.region.strata, component.top)
        weight = towns.people if component.weight == "population" else np.ones(towns.lon.size)
        shape = gaussians(target, towns, weight / weight.mean(), component.sigma_km or 0.0)
        part = Part(component.near, ("land",), one, target, shape=shape)
        if part.norms[0] <= 0:
            raise RegionError(
                where, f"{key}.near", component.near,
                f"a region with one of the {component.top:,} largest cities within reach",
            )  # fmt: skip
        return part
    return _stratified(component, of, target, where, key)


def _stratified(
    component: Component, of: tuple[int, int], target: Target, where: object, key: str
) -> Part:
    count, drawn = of
    layers = component.strata or []
    rule = component.allocation
    # Two sites each: one tells nothing of its spread. What is given by name is not merged. Strata are
    # those of the draw, whatever the count is raised to.
    named = isinstance(rule, dict) or isinstance(component.spread, dict)
    most = None if named else drawn // 2
    strata = stratify(layers, target, component.merge_km2, where, f"{key}.strata", most=most)
    if not isinstance(rule, str):
        _known(list(rule), strata.names, where, f"{key}.allocation")
    spread = None if component.spread is None else _spread(component, strata, target, where, key)
    inside = len(strata.names) if isinstance(rule, str) else sum(v > 0 for v in rule.values())
    if not inside or inside > count:
        raise RecipeError(
            where, f"{key}.strata", "+".join(layers),
            f"at most as many strata as sites: {inside} strata for {count} sites",
            "Raise count or merge_km2, or name fewer strata.",
        )  # fmt: skip
    counts = allocate(rule, strata.names, strata.areas, spread, count)
    return Part("+".join(layers), strata.names, counts, target, number=strata.number)


def _known(given: Sequence[str], names: Sequence[str], where: object, key: str) -> None:
    for name in given:
        if name not in names:
            shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
            raise RecipeError(where, key, name, f"the strata {shown}")


def _spread(
    component: Component, strata: Stratification, target: Target, where: object, key: str
) -> Floats:
    """Standard deviation of what is estimated in each stratum.

    From class fractions: √(1 - Σ p²), of the shares p of the classes in the stratum, which is the
    root of the variances of all class indicators at a random point, summed.
    """
    if isinstance(component.spread, dict):
        _known(list(component.spread), strata.names, where, f"{key}.spread")
        return np.array([component.spread.get(name, 0.0) for name in strata.names])
    fractions, classes = shares(component.spread or "", target, where=where, key=f"{key}.spread")
    n = len(strata.names)
    total = np.stack(
        [
            np.bincount(strata.number, target.areas * fractions[:, c], n)
            for c in range(len(classes))
        ],
        axis=1,
    )
    p = total / np.maximum(total.sum(axis=1, keepdims=True), 1e-12)
    return np.asarray(np.sqrt(np.maximum(1 - (p * p).sum(axis=1), 1e-4)), np.float64)
