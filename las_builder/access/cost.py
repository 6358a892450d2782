"""What reading windows of files on the web costs: requests and bytes, without reading them.

The rules are those of `ranges` and of GDAL: one request for the first 32 KiB of a file, which a
process remembers; of the blocks under a window, those of a row follow each other in the file and
are one range, and ranges less than 16 KiB apart are one request.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from las_builder.access import raster, web
from las_builder.access.meet import windows_around
from las_builder.access.ranges import CHUNK, NEAR
from las_builder.core.grid import Grid
from las_builder.core.types import AssetRef, PinnedScene


@dataclass(frozen=True, slots=True)
class Layout:
    """How the pixels of a file lie in it."""

    block: tuple[int, int]
    """Rows and columns."""

    grid: Grid
    size: int
    """Bytes of the file."""

    def cost(self, window: tuple[tuple[int, int], tuple[int, int]]) -> tuple[int, float]:
        """Requests and bytes of the blocks under rows and columns, the first chunk held."""
        if self.size <= CHUNK:
            return 0, 0.0
        (top, bottom), (left, right) = (
            (a // n * n, min(size, math.ceil(b / n) * n))
            for (a, b), n, size in zip(window, self.block, self.grid.shape, strict=True)
        )
        rows = math.ceil((bottom - top) / self.block[0])
        dense = self.size / self._levels / (self.grid.width * self.grid.height)
        row = dense * self.block[0]  # bytes a column of pixels of one row of blocks
        gap = row * (self.grid.width - (right - left))
        if gap <= NEAR:
            span = dense * (bottom - top) * (right - left) + (rows - 1) * gap
            return 1, max(span, CHUNK)
        each = dense * (bottom - top) * (right - left) / rows
        return rows, rows * max(each, CHUNK)

    @property
    def _levels(self) -> float:
        """Pixels of the file with its overviews, each a quarter, to those of its full resolution."""
        total, side = 1.0, max(self.grid.shape) / 2
        while side >= max(self.block) / 2 and side > 1:
            total, side = total + (max(self.grid.shape) / side) ** -2, side / 2
        return total


def layout_of(href: str) -> Layout | None:
    """The layout of a file, from its header; None: it is on disk.

    Raises:
        AccessError: The server failed.
        RasterError: It is no raster.
    """
    if not web.is_url(href):
        return None
    try:
        found = raster.open_raster(href)
        if found.grid is None or found.web is None:
            return None
        return Layout(found.dataset.block_shapes[0], found.grid, found.web.bytes)
    finally:
        raster.close_web()


@dataclass(frozen=True, slots=True)
class Cost:
    """Requests and bytes of one stage."""

    headers: float = 0.0
    ranges: float = 0.0
    bytes: float = 0.0
    others: float = 0.0
    """Requests that are no ranges of files: searches, collections, tokens."""

    @property
    def requests(self) -> float:
        """All of them."""
        return self.headers + self.ranges + self.others

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.headers + other.headers, self.ranges + other.ranges, self.bytes + other.bytes,
            self.others + other.others,
        )  # fmt: skip

    def times(self, factor: float) -> Cost:
        """So many times as much."""
        return Cost(
            self.headers * factor, self.ranges * factor, self.bytes * factor, self.others * factor
        )


def cost_of(
    patches: Sequence[PinnedScene], bands: Iterable[str], typical: dict[str, Layout]
) -> Cost:
    """What reading bands of patches costs, headers left out.

    Args:
        patches: With pinned scenes.
        bands: Of every patch.
        typical: Band to the layout of one of its files; sizes are each file's own, where pinned.
    """
    names = list(bands)
    total = Cost()
    for grid, scene in [(p.grid, scene) for p in patches for scene in p.scene.parts]:
        files: dict[str, tuple[str, AssetRef]] = {}
        for name in names:
            ref = scene.assets[name]
            files.setdefault(ref.href, (name, ref))  # bands that share a file are read together
        for name, ref in files.values():
            if name not in typical:
                continue
            model = typical[name]
            there = _resized(scene.grid, model.grid)
            layout = Layout(model.block, there, ref.size or model.size)
            for piece in windows_around(grid, there, 0 if there.crs == grid.crs else 2):
                ranges, size = layout.cost((piece.rows, piece.cols))
                total += Cost(0.0, ranges, size)
    return total


def window_cost(grid: Grid, layout: Layout, margin: int = 2) -> Cost:
    """What a label product costs over a grid, headers left out."""
    total = Cost()
    for piece in windows_around(grid, layout.grid, margin):
        ranges, size = layout.cost((piece.rows, piece.cols))
        total += Cost(0.0, ranges, size)
    return total


def _resized(scene: Grid, model: Grid) -> Grid:
    """The extent of a scene in the pixels of another scene's file of the same band."""
    from affine import Affine

    west, south, east, north = scene.bounds
    a, e = model.pixel
    return Grid(
        scene.crs, Affine(a, 0.0, west, 0.0, -e, north),
        max(1, round((east - west) / a)), max(1, round((north - south) / e)),
    )  # fmt: skip
