"""How many sites each stratum gets, and the table that says so before anything is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from las_builder.plan.target import Floats

FEW = 30
"""Primaries; a cell with fewer is flagged."""


def rounded(share: Floats, total: int, least: int = 0) -> NDArray[np.int64]:
    """Whole numbers in proportion that add up to a total, by largest remainders.

    Args:
        share: Not negative, some above 0.
        total: Sum of the result.
        least: What each with a share above 0 gets at least, as far as the total goes.
    """
    some = share > 0
    least = min(least, total // max(1, int(some.sum())))
    exact = share / share.sum() * total
    # Those that get too little take from the others, until nobody does.
    fixed = np.zeros(share.size, np.bool_)
    while True:
        low = some & ~fixed & (exact < least)
        if not low.any():
            break
        fixed |= low
        exact[fixed] = least
        free = some & ~fixed
        exact[free] = share[free] / share[free].sum() * (total - least * fixed.sum())
    counts = np.floor(exact + 1e-9).astype(np.int64)
    short = total - int(counts.sum())
    order = np.argsort(-(exact - counts), kind="stable")
    counts[order[:short]] += 1
    return np.asarray(counts, np.int64)


def allocate(
    rule: str | Mapping[str, float],
    names: Sequence[str],
    areas: Floats,
    spread: Floats | None,
    total: int,
) -> NDArray[np.int64]:
    """Primaries of each stratum.

    proportional is to area, equal to 1, sqrt to the root of the area, neyman to area times
    spread (Neyman 1934: least variance of a mean for a given total); a table gives the numbers.
    Every stratum that is in gets two at least, as far as the total goes: one site tells nothing
    of its spread.
    """
    if isinstance(rule, str):
        share = {
            "proportional": areas,
            "equal": np.ones(areas.size),
            "sqrt": np.sqrt(areas),
            "neyman": areas * (np.ones(areas.size) if spread is None else spread),
        }[rule]
    else:
        share = np.array([rule.get(name, 0.0) for name in names])
    return rounded(np.where(areas > 0, share, 0.0), total, least=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A stratum of a component: a row of the allocation."""

    component: str
    stratum: str
    area_km2: float
    """Of target population."""

    population: float
    """Share of the target population."""

    count: int
    """Primaries wanted."""

    fits: int | None
    """Most that fit at this spacing with their reserves, the other cells as they are; None: any."""

    expected: float
    """Sites that the draw expects, reserves included."""

    effective: float
    """Kish size of the primaries: as many equally weighted ones would be as good."""

    @property
    def reserves(self) -> float:
        """Reserves that the draw expects."""
        return self.expected - self.count

    @property
    def few(self) -> bool:
        """Whether so few that an estimate for this cell alone means little."""
        return self.count < FEW


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """What a design asks of every cell; what `--dry-run` prints."""

    subset: str
    count: int
    target_km2: float
    """Of the region's land that the imagery and the products cover."""

    outside_km2: float
    """Of it where no component draws, so it is no part of the target population."""

    fits: int | None
    """Most sites that fit at this spacing with their reserves; None: any."""

    cells: tuple[Cell, ...]

    @property
    def few(self) -> tuple[Cell, ...]:
        """Cells with too few primaries to say much alone."""
        return tuple(cell for cell in self.cells if cell.few)

    def table(self) -> str:
        """A line a cell, with a head."""
        head = ("cell", "km2", "share", "count", "fits", "reserves", "effective", "")
        rows = [
            (
                f"{c.component}: {c.stratum}", f"{c.area_km2:,.0f}", f"{100 * c.population:.2f} %",
                f"{c.count:,}", "any" if c.fits is None else f"{c.fits:,}",
                f"{c.reserves:,.0f}", f"{c.effective:,.0f}", "few" if c.few else "",
            )
            for c in self.cells
        ]  # fmt: skip
        width = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
        lines = [
            "  ".join(
                text.ljust(width[i]) if i == 0 else text.rjust(width[i])
                for i, text in enumerate(row)
            ).rstrip()
            for row in (head, *rows)
        ]
        whole = f"{self.subset}: {self.count:,} sites for {self.target_km2:,.0f} km2"
        if self.fits is not None:
            whole += f"; at most {self.fits:,} fit"
        if self.outside_km2 > 0:
            whole += f"; {self.outside_km2:,.0f} km2 get none and are not in the population"
        return "\n".join([whole, *lines])
