"""Final weights: what a site stands for once reserves have replaced gaps.

A reserve replaces a gap of its own cell, so within a cell

    final weight = design weight · Σ design weights of primaries / Σ design weights of stored sites,

and the primaries' area is kept. A stratum none of whose sites is stored cannot stand for its area:
it is pooled with all strata of its parent (the stratum name without its last part), then with the
whole component, then with the subset, until something is stored, and the pool is named. Visited
over stored is a response rate and no weight: replacement is non-response.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from las_builder.core.types import Site
from las_builder.plan.strata import parent

Pool = tuple[str, str]
"""(component, stratum); ("uniform", "") is all of a component, ("", "") all of a subset."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Of the stored sites of one subset."""

    km2: Mapping[str, float | None]
    """Site to final weight; None where its selection has no known chance."""

    pooled: Mapping[Pool, Pool]
    """Cell without a stored site to the pool that stands for it now."""


def final_weights(sites: Iterable[Site], stored: Collection[str]) -> Weights:
    """The final weights of one subset.

    Args:
        sites: Its plan, primaries and reserves.
        stored: Ids of the sites that have pixels.
    """
    primaries: defaultdict[Pool, float] = defaultdict(float)
    found: defaultdict[Pool, list[Site]] = defaultdict(list)
    none: list[str] = []
    for site in sites:
        if site.weight_km2 is None:
            none += [site.id] if site.id in stored else []
            continue
        if site.primary:
            primaries[site.cell] += site.weight_km2
        if site.id in stored:
            found[site.cell].append(site)
    pool = {cell: cell for cell in sorted({*primaries, *found})}
    while True:
        standing = {pool[cell] for cell in found}
        empty = {pool[cell] for cell in primaries} - standing
        if not empty or ("", "") in empty:
            break
        above = {_above(one) for one in empty}
        pool = {cell: _within(one, above) for cell, one in pool.items()}
    wanted: defaultdict[Pool, float] = defaultdict(float)
    have: defaultdict[Pool, float] = defaultdict(float)
    for cell, weight in primaries.items():
        wanted[pool[cell]] += weight
    for cell, several in found.items():
        have[pool[cell]] += sum(site.weight_km2 or 0.0 for site in several)
    km2: dict[str, float | None] = dict.fromkeys(none)
    for cell, several in found.items():
        factor = wanted[pool[cell]] / have[pool[cell]]
        km2.update({site.id: (site.weight_km2 or 0.0) * factor for site in several})
    return Weights(
        km2, {cell: pool[cell] for cell in primaries if not found.get(cell) and pool[cell] != cell}
    )


def _above(pool: Pool) -> Pool:
    """The next larger pool."""
    component, stratum = pool
    return (component, parent(stratum)) if stratum else ("", "")


def _within(pool: Pool, larger: set[Pool]) -> Pool:
    """The largest of some pools that a pool lies in, or itself."""
    chain = [pool]
    while chain[-1] != ("", ""):
        chain.append(_above(chain[-1]))
    return next((one for one in reversed(chain) if one in larger), pool)
