"""Which tiles lie together: pixels of one place are alike, so that intervals draw places, not tiles."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from las_builder.evaluate.benchmark import Task, Tile
from las_builder.plan.splits import Blocks

BLOCK_KM = 10.0
"""Side of the equal-area blocks; those of splits are larger, as they have to keep places apart."""

LEAST = 10
"""Fewer places than this are not drawn: percentiles of so few say nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Tiles that are drawn together."""

    by: str
    """In words: what makes a group."""

    of: NDArray[np.int64]
    """(tile,) group from 0, in the order in which they first come."""

    places: int
    """How many places there are; more than one tile each where `of` keeps to them."""

    @property
    def count(self) -> int:
        """Groups that are drawn."""
        return int(self.of.max()) + 1 if len(self.of) else 0


def grouped(
    task: Task, names: Sequence[str], where: Sequence[tuple[float, float] | None]
) -> Groups:
    """Groups of tiles by the areas of the declaration (`scored.area`), else by blocks of `BLOCK_KM`, else
    each alone; each alone also where there are fewer than `LEAST` places.

    Args:
        task: The benchmark.
        names: Of the tiles.
        where: Longitude and latitude of each, degrees; None: its files do not say.
    """
    blocks = Blocks.of(BLOCK_KM)
    keys: list[Hashable] = []
    kinds: set[str] = set()
    for name, at in zip(names, where, strict=True):
        area = task.area(name)
        if area is not None:
            kinds.add(" and ".join(task.scored.area))
            keys.append(("area", area))
        elif at is not None:
            kinds.add(f"blocks of {BLOCK_KM:g} km")
            keys.append(("block", int(blocks.number(np.array(at[0]), np.array(at[1])))))
        else:
            kinds.add("tiles")
            keys.append(("tile", name))
    places = len(set(keys))
    if places < LEAST or ("tiles" in kinds and len(kinds) == 1):
        return Groups("tiles", np.arange(len(names)), places)
    first: dict[Hashable, int] = {}
    of = np.array([first.setdefault(key, len(first)) for key in keys], np.int64)
    return Groups(", ".join(sorted(kinds)), of, places)


def where(tile: Tile) -> tuple[float, float] | None:
    """Longitude and latitude of the middle of a tile, degrees; None: its files do not say."""
    return tile.grid.centre_lonlat() if tile.grid is not None and tile.grid.crs else None
