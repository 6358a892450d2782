"""Sites of an annotated set: its pictures cut into windows; nobody knows their chances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from las_builder.core.grid import to_lonlat
from las_builder.core.types import PUBLISHED, Tile
from las_builder.plan.grids import Grids
from las_builder.plan.sampling import generator
from las_builder.plan.sphere import quantise
from las_builder.plan.table import SiteTable

OURS = "imported"
"""Component of imported sites that the corpus's own splits divide."""


def from_tiles(
    *, subset: str, tiles: Sequence[Tile], size: int, count: int, seed: int, kept: bool
) -> SiteTable:
    """A site for every window, row by row from the upper left corner of each tile.

    Weights are unknown: a publisher chose the places. Sites beyond `count` are reserves of their
    publisher's split, in a random order.

    Args:
        subset: Name of the recipe.
        tiles: What `ImportedFolder.tiles` found.
        size: Columns and rows of a window.
        count: Primaries, at most.
        seed: Of their order.
        kept: Whether the publisher's split stays (where a place allows it); else located sites
            get that of their block.
    """
    codes, corners, wests, norths, pixels, crs, split = [], [], [], [], [], [], []
    for tile in sorted(tiles, key=lambda one: one.code):
        t = tile.grid.transform
        for row in range(0, tile.grid.height, size):
            for col in range(0, tile.grid.width, size):
                codes.append(tile.code)
                corners.append((row, col))
                wests.append(t.c + col * t.a)
                norths.append(t.f + row * t.e)
                pixels.append(tile.grid.pixel)
                crs.append(tile.grid.crs)
                split.append(tile.split)
    n = len(codes)
    side = np.full(n, size, np.int32)
    grids = Grids(
        _names(crs), np.array(wests), np.array(norths), np.array(pixels).reshape(n, 2), side, side
    )
    lon, lat = np.full(n, np.nan), np.full(n, np.nan)
    bounds = grids.bounds()
    for name in sorted({name for name in crs if name is not None}):
        here = np.flatnonzero(grids.crs == name)
        west, south, east, north = bounds[:, here]
        lon[here], lat[here] = quantise(*to_lonlat(name, (west + east) / 2, (south + north) / 2))
    place = generator(seed, subset).permutation(n)
    order = np.empty(n, np.int64)
    order[place] = np.arange(n)
    return SiteTable(
        subset=_names([subset] * n),
        id=_names([f"{c}-{row}-{col}" for c, (row, col) in zip(codes, corners, strict=True)]),
        lon=lon, lat=lat, grids=grids,
        component=_names([PUBLISHED if kept else OURS] * n),
        stratum=_names(split),
        density=np.full(n, np.nan), weight_km2=np.full(n, np.nan),
        rank=order, primary=order < count, block=np.full(n, -1, np.int64),
        split=_names(split), p2=np.full(n, np.nan),
    )  # fmt: skip


def _names(values: Sequence[str | None]) -> np.ndarray:
    out = np.empty(len(values), np.object_)
    out[:] = values
    return out
