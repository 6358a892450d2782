"""Selection in two phases: candidates with known densities, then those whose labels are wanted.

The second phase takes each candidate with a probability p2 that follows from the shares of the
classes in its labels, so the density of a chosen site is π1 · p2 and its weight 1 / (π1 · p2): rare
classes come more often, and estimates stay unbiased. A selection by anything else leaves no known
chance; `unweighted` says so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from las_builder.core.options import Select, Sites
from las_builder.errors import RecipeError
from las_builder.plan.design import RESERVES
from las_builder.plan.elementary import uniform
from las_builder.plan.process import key_of
from las_builder.plan.table import SiteTable
from las_builder.plan.target import Floats

_ROUNDS = 100
_PHASE_TWO, _RANK = 32, 33  # what a random number is for


def first_phase(sites: Sites) -> Sites:
    """What to draw as candidates: more sites of the same design."""
    assert sites.select is not None
    count = round(sites.count * sites.select.candidates)
    return sites.model_copy(update={"count": count, "select": None, "capacity": None})


def chances(
    shares: Floats,
    total: float,
    classes: str | Mapping[str, float],
    names: Sequence[str],
    floor: float,
) -> Floats:
    """p2 of every candidate, (n,), adding up to `total`, none above 1.

    A candidate's size is Σ_c a_c · share_c, and at least `floor` of the mean size. The a are found
    by iterative proportional fitting, so that the sample's expected composition comes as near to
    the wanted one as mixed patches, `floor` and 1 allow.

    Args:
        shares: Of the classes in the labels of each candidate, (n, classes); a row of zeros where
            nothing is known.
        total: Sites to choose, at most n.
        classes: equal, sqrt (of what the candidates have), or class to number.
        names: Of the classes, (classes,).
        floor: See above; above 0 to 1.
    """
    n = len(shares)
    if total >= n:
        return np.ones(n)
    have = shares.mean(axis=0)
    if isinstance(classes, str):
        goal = np.where(have > 0, 1.0 if classes == "equal" else np.sqrt(have), 0.0)
    else:
        goal = np.where(have > 0, [classes.get(name, 0.0) for name in names], 0.0)
    if not goal.any():
        return np.full(n, total / n)
    goal = goal / goal.sum()
    factor = np.divide(goal, have, out=np.zeros(goal.size), where=have > 0)
    p2 = np.full(n, total / n)
    for _ in range(_ROUNDS):
        size = shares @ factor
        p2 = _capped(np.maximum(size, floor * size.mean()), total)
        got = p2 @ shares
        got = got / got.sum()
        ratio = np.divide(goal, got, out=np.ones(goal.size), where=got > 0)
        if np.abs(ratio[goal > 0] - 1).max() < 1e-3:
            break
        factor = factor * np.clip(ratio, 0.5, 2)
        factor = np.maximum(factor / factor.max(), np.where(goal > 0, 1e-4, 0))
    return p2


def _capped(size: Floats, total: float) -> Floats:
    """Probabilities in proportion to sizes that add up to a total, none above 1."""
    sure = np.zeros(size.size, np.bool_)
    while True:
        free = size[~sure].sum()
        p = np.where(sure, 1.0, size * ((total - sure.sum()) / free) if free > 0 else 1.0)
        over = (p > 1) & ~sure
        if not over.any():
            return np.minimum(p, 1.0)
        sure |= over


def systematic(p: Floats, order: Floats, start: float) -> NDArray[np.bool_]:
    """A sample in which each is taken with exactly its probability, in a random order.

    Source: Madow (1949), On the theory of systematic sampling II, Annals of Mathematical Statistics 20.
    """
    by = np.argsort(order, kind="stable")
    running = np.cumsum(p[by]) + start
    whole = np.floor(np.round(running, 9))
    taken = np.zeros(p.size, np.bool_)
    taken[by] = whole > np.concatenate([[np.floor(round(start, 9))], whole[:-1]])
    return taken


def second_phase(
    candidates: SiteTable,
    shares: Floats,
    names: Sequence[str],
    sites: Sites,
    where: object,
) -> SiteTable:
    """Choose sites among candidates, cell by cell.

    Args:
        candidates: The first phase of one subset: its primaries, with their densities.
        shares: Of the classes in the labels of each, (candidates, classes).
        names: Of the classes.
        sites: What the recipe asks, `select` included.
        where: The recipe, for messages.

    Returns:
        Primaries and reserves with `p2`, and density and weight of both phases together.

    Raises:
        RecipeError: The table names a class that is not there.
    """
    select = sites.select
    assert select is not None
    _check(select, names, where)
    key = key_of(sites.seed, f"{candidates.subset[0]}/select" if len(candidates) else "select")
    u = np.empty((len(candidates), 2))
    _draws(np.arange(len(candidates)), key, u)
    cells: dict[tuple[str, str], list[int]] = {}
    pairs = zip(candidates.component.tolist(), candidates.stratum.tolist(), strict=True)
    for i, cell in enumerate(pairs):
        cells.setdefault(cell, []).append(i)
    kept, p2, ranks, first = [], [], [], []
    for number, rows in enumerate(cells.values()):
        at = np.array(rows)
        count = max(1, round(at.size / select.candidates))
        p = chances(shares[at], min(RESERVES * count, at.size), select.classes, names, select.floor)
        start = uniform(key, number, 1, _PHASE_TWO)
        taken = systematic(p, u[at, 0], start)
        chosen, chance = at[taken], p[taken]
        order = np.argsort(u[chosen, 1], kind="stable")
        chosen, chance = chosen[order], chance[order]
        have = min(count, chosen.size)
        kept.append(chosen)
        p2.append(chance * (have / max(1, chosen.size)))
        ranks.append(np.arange(chosen.size))
        first.append(np.arange(chosen.size) < have)
    if not kept:
        return candidates
    rows_ = np.concatenate(kept)
    table = candidates.of_rows(rows_)
    chance = np.concatenate(p2)
    density = table.density * chance
    return dataclasses.replace(
        table, p2=chance, density=density, weight_km2=1 / density,
        rank=np.concatenate(ranks).astype(np.int64), primary=np.concatenate(first),
    )  # fmt: skip


def unweighted(table: SiteTable) -> SiteTable:
    """The same sites, chosen by what has no known chance: no weight; the design's density stays."""
    return dataclasses.replace(table, weight_km2=np.full(len(table), np.nan))


def _check(select: Select, names: Sequence[str], where: object) -> None:
    if isinstance(select.classes, str):
        return
    for name in select.classes:
        if name not in names:
            raise RecipeError(
                where, "sites.select.classes", name, f"the classes {', '.join(names)}"
            )


@njit(cache=True)
def _draws(number, key, out):  # type: ignore[no-untyped-def]
    for n in range(number.size):
        out[n, 0] = uniform(key, number[n], 0, 32)
        out[n, 1] = uniform(key, number[n], 0, 33)
