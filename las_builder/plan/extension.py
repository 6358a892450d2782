"""Extending a plan: more of the sites that were drawn become primaries; no place is added or moved.

A draw is made once, for `Sites.drawn` sites and their reserves. The sites of a cell are in a random
order that is independent of everything else, so its first n are as good a sample as its first m:
raising the count turns reserves into primaries by their rank, and the plan of a higher count is the
one that the draw would have given at once. Densities follow from the counts, so they stay exact;
they and the weights are all that changes of a site, beside `primary`.

What reserves do not hold is refused. A second draw over the first, kept away from the sites that
are there, would have no known density: its chances would depend on the first one's sites.
"""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np

from las_builder.errors import InputError, RecipeError, WorkspaceError
from las_builder.plan.design import parts
from las_builder.plan.sampling import Draft
from las_builder.plan.table import SiteTable

_WAY_OUT = "Lower it; a plan drawn with sites.capacity has room from the start."


def extend(draft: Draft, before: SiteTable, where: object) -> SiteTable:
    """The sites of a plan with more primaries.

    A cell keeps at least the primaries it has, so rounding may give a site or two more than asked.

    Args:
        draft: Of the same recipe with a higher count, drawn for what the plan was drawn for.
        before: The plan of this subset, as `read_plan` gives it.
        where: The recipe, for messages.

    Returns:
        The same rows, ordered; only `primary`, `density` and `weight_km2` may differ.

    Raises:
        RecipeError: Reserves do not hold so many; says how many they do.
        WorkspaceError: The plan is not what the recipe draws.
    """
    cells = list(zip(before.component.tolist(), before.stratum.tolist(), strict=True))
    found = Counter(cells)
    had = Counter(cell for cell, first in zip(cells, before.primary.tolist(), strict=True) if first)
    wanted = _counts(draft, draft.sites.count, had)
    short = _short(wanted, found, had)
    if short:
        cell = short[0]
        raise too_many(
            where, draft.sites.count, _most(draft, found, had),
            f"{cell[0]}: {cell[1]} holds {found[cell]:,} of {wanted[cell]:,}. ",
        )  # fmt: skip
    counts = tuple(
        np.array([wanted[part.name, name] for name in part.names], np.int64)
        for part in draft.law.parts
    )
    return same_places(dataclasses.replace(draft, counts=counts).draw(), before, where)


def same_places(drawn: SiteTable, before: SiteTable, where: object) -> SiteTable:
    """A draw with the blocks and splits of a plan that has the same sites.

    Raises:
        WorkspaceError: It has other sites, or more or fewer.
    """
    drawn, before = drawn.ordered(), before.ordered()
    same = len(drawn) == len(before) and all(
        np.array_equal(getattr(drawn, name), getattr(before, name))
        for name in ("id", "lon", "lat", "component", "stratum", "rank")
    )
    if not same:
        raise WorkspaceError(
            where, "sites", f"{len(drawn)} sites, others than in plan.parquet",
            f"those {len(before)}: the same recipe, declarations and version",
            "Choose another --work.",
        )  # fmt: skip
    return dataclasses.replace(drawn, block=before.block, split=before.split)


def too_many(where: object, count: int, most: int, reason: str = "") -> InputError:
    """A count that reserves do not hold."""
    return RecipeError(
        where, "sites.count", count, f"at most {most}, which the reserves of the plan hold",
        reason + _WAY_OUT,
    )  # fmt: skip


Cells = Counter[tuple[str, str]]


def _counts(draft: Draft, count: int, had: Cells) -> Cells:
    """Primaries of every cell."""
    law, sites = draft.law, draft.sites
    if count == sites.count:
        counts = draft.counts
    else:
        fewer = sites.model_copy(update={"count": count})
        counts = tuple(part.counts for part in parts(fewer, law.target, draft.subset))
    out: Cells = Counter()
    for part, numbers in zip(law.parts, counts, strict=True):
        for name, n in zip(part.names, numbers.tolist(), strict=True):
            out[part.name, name] = max(n, had[part.name, name])
    return out


def _short(wanted: Cells, found: Cells, had: Cells) -> list[tuple[str, str]]:
    """Cells that would have to grow beyond what was drawn; one that was short before stays so."""
    return [
        cell for cell, n in sorted(wanted.items()) if n > found[cell] and had[cell] < found[cell]
    ]


def _most(draft: Draft, found: Cells, had: Cells) -> int:
    """The most that reserves hold: by halving, then down, because shares round."""
    low, high = sum(had.values()), draft.sites.count
    while high - low > 1:
        middle = (low + high) // 2
        if _short(_counts(draft, middle, had), found, had):
            high = middle
        else:
            low = middle
    return low
