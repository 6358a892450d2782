"""A recipe in a smaller region: the densities stay, so the counts shrink with what is left."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from las_builder.catalogs import Imagery, LabelProduct, Strata
from las_builder.core.options import Sites
from las_builder.plan.allocation import rounded
from las_builder.plan.design import parts
from las_builder.plan.regions import resolve
from las_builder.plan.sampling import _reach
from las_builder.plan.target import Target


def restricted(
    sites: Sites,
    region: str,
    *,
    count: int | None,
    imagery: Imagery,
    products: Sequence[LabelProduct],
    strata: Strata,
    where: object,
) -> Sites | None:
    """What a recipe asks of the part of its region that lies in another one.

    Every component of the design keeps the density of primaries it asks for in the recipe's own
    region, place by place; of a stratified one the number is kept, and it is allocated anew. So the
    count becomes the integral of those densities over what is left: for sites that are uniform on
    land, its share of the area. What the plan may be extended to shrinks alike.

    Args:
        sites: What the recipe asks.
        region: Which is cut by; like `sites.region`.
        count: Sites wanted whatever the densities say; the components stay in proportion.
        imagery: Its extent and lattice cut both regions.
        products: Their extents too.
        strata: Knows the regions and the land.
        where: The recipe, for messages.

    Returns:
        The sites with region, count and shares of the part; None: nothing is left.

    Raises:
        RegionError: Unknown region.
        InputError: See `design.parts`.
    """
    own = sites.region if isinstance(sites.region, str) else _text(sites.region)
    shared = region if own == "global" else f"{own} & {region}"

    def target(spec: str) -> Target:
        found = resolve(spec, strata, where).within(_reach(imagery.lattice))
        for extent in (imagery.extent, *(product.extent for product in products)):
            found = found.within(extent.bbox).covered(extent.countries, where)
        return Target.of(found)

    part = target(shared)
    if part.area == 0:
        return None
    whole = target(own)
    # Cells of both are in the order of the lattice, and those of the part are among the whole's.
    at = np.searchsorted(whole.key, part.key)
    masses = [
        float((component.density(component.counts.astype(np.float64))[at] * part.areas).sum())
        for component in parts(sites, whole, where)
    ]
    total = sum(masses)
    if total <= 0:
        return None
    fewer = max(1, round(round(total, 6))) if count is None else count
    # What gets no site of so few is left out.
    some = rounded(np.array(masses), fewer) > 0
    kept = [(c, mass) for c, mass, got in zip(sites.design, masses, some, strict=True) if got]
    shares = [round(mass / sum(mass for _, mass in kept), 9) for _, mass in kept]
    most = shares.index(max(shares))
    shares[most] = round(1 - sum(shares[:most] + shares[most + 1 :]), 9)
    design = [
        component.model_copy(update={"share": share})
        for (component, _), share in zip(kept, shares, strict=True)
    ]
    room = sites.capacity
    if room is not None:
        room = max(fewer, round(round(room * fewer / sites.count, 6)))
    return sites.model_copy(
        update={"region": shared, "count": fewer, "capacity": room, "design": design}
    )


def _text(region: Sequence[float] | Sequence[str]) -> str:
    if all(isinstance(part, float) for part in region):
        return f"[{', '.join(map(str, region))}]"
    return ", ".join(str(part) for part in region)
