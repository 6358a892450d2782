"""Label products from their own lattice to the grid of a patch, once, by one rule.

Nearest where a product pixel has at least half the area of a grid pixel, else the code with the
largest area. Codes are never interpolated. The rule looks at the lattices at the centre of the
patch and never at the window that was read, so two providers of one product agree.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from las_builder.core.grid import Grid, is_geographic, transformer
from las_builder.core.types import LabelMap, LabelSource
from las_builder.errors import GridMismatchError, LegendError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Codes = NDArray[np.integer]
Evidence = Mapping[str, NDArray[np.generic]]

EDGE = 1e-6
"""Product pixels. What lies so near the edge of two pixels goes to the eastern (southern) one, and
areas that differ by less (in shares of the grid pixel) are equal: float noise decides nothing."""

MAX_NEAREST = 2.0
"""Nearest is used while a grid pixel covers at most so many product pixels."""

MAX_SPAN = 1024
"""Product pixels across a grid pixel. More is met only beside the poles of a lattice in degrees,
where a quadrilateral is no picture of a pixel: nothing is said there."""

BAND_ROWS = 32
"""Grid rows whose votes are counted at a time; bounds memory, changes no result."""


def regrid(source: LabelSource, grid: Grid, *, nodata: int, dtype: DTypeLike) -> LabelMap:
    """A label product on the pixels of a patch.

    Nearest: the product pixel under the centre of the grid pixel; `share` is 100. Majority: the
    grid pixel is a quadrilateral on the product's lattice (its four corners, transformed), and the
    code with the largest part of its area wins; of equal areas, the code whose product pixel has
    its centre nearest to the centre of the grid pixel (of equally near ones the south-eastern, as
    for nearest). Nodata and what lies outside the window win only where nothing else is; `share`
    is in percent of the whole grid pixel, at least 1 where there is a code, else 0.

    Args:
        source: Window on the product's own lattice; in degrees it may reach beyond ±180.
        grid: Grid of the patch.
        nodata: Code to write where the product says nothing; it counts as nothing in the source
            too, beside the source's own.
        dtype: Type of the codes written.

    Returns:
        Codes and share on `grid`. Evidence follows the same pixels: nearest, or the area-weighted
        mean (integers rounded) over the part of the grid pixel inside the window; NaN (integers:
        0) where there is none.

    Raises:
        GridMismatchError: The codes do not fill the window, or only one of the two grids has a CRS.
        LegendError: A code does not fit into `dtype`.
    """
    if source.codes.shape != source.grid.shape:
        raise GridMismatchError(
            f"{source.product}: codes {source.codes.shape} do not fill a window of "
            f"{source.grid.shape}"
        )
    if (source.grid.crs is None) != (grid.crs is None):
        raise GridMismatchError(
            f"{source.product}: a grid of CRS {source.grid.crs} cannot be put on one of {grid.crs}"
        )
    codes = _fitting(source, nodata, np.dtype(dtype))
    if product_pixels_per_pixel(source.grid, grid) <= MAX_NEAREST * (1 + EDGE):
        return _nearest(source, codes, grid, nodata)
    return _majority(source, codes, grid, nodata)


def product_pixels_per_pixel(product: Grid, grid: Grid) -> float:
    """How many product pixels the central pixel of `grid` covers, by area.

    Only the lattice of `product` matters, not where its window lies.
    """
    if product.crs == grid.crs:
        (a, e), (a2, e2) = grid.pixel, product.pixel
        return a * e / (a2 * e2)
    c, r = grid.width // 2, grid.height // 2
    x, y = _corner_xy(grid, slice(r, r + 1), slice(c, c + 2))
    cols, rows = _Lattices(product, grid).quads(x, y)
    area = _shoelace(cols, rows)[0, 0]
    return float(area) if np.isfinite(area) else 1.0


@dataclass(frozen=True, slots=True)
class _Lattices:
    """From coordinates of the patch to columns and rows (of pixel corners) of the product."""

    product: Grid
    grid: Grid

    def index(
        self, x: Floats, y: Floats, near: Floats | float | None = None
    ) -> tuple[Floats, Floats]:
        """Columns and rows of points, any shape; not finite where the product's CRS ends.

        Args:
            x: In the CRS of the patch.
            y: Likewise.
            near: Columns on whose turn of the globe the points lie; None: the window's middle.
        """
        product, grid = self.product, self.grid
        if product.crs is not None and product.crs != grid.crs and grid.crs is not None:
            x, y = transformer(grid.crs, product.crs).transform(x, y)
        t = product.transform
        cols, rows = (np.asarray(x) - t.c) / t.a, (np.asarray(y) - t.f) / t.e
        if product.crs is not None and is_geographic(product.crs):
            turn = 360.0 / t.a
            middle = product.width / 2 if near is None else near
            with np.errstate(invalid="ignore"):
                cols = cols + turn * np.round((middle - cols) / turn)
        return cols, rows

    def quads(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Corners of pixels from a mesh of (h + 1, w + 1) corner coordinates.

        Returns:
            Columns and rows, (4, h, w): north-west, north-east, south-east, south-west. The four
            corners of a pixel are on one turn of the globe, that of the window.
        """
        centre, _ = self.index(_middles(x), _middles(y))
        cols, rows = self.index(_corners(x), _corners(y), near=centre)
        return cols, rows


def _corner_xy(grid: Grid, rows: slice, cols: slice | None = None) -> tuple[Floats, Floats]:
    """Coordinates of the corners of some rows of pixels: (h + 1, w + 1) each."""
    t = grid.transform
    c = np.arange(grid.width + 1.0)[cols or slice(None)]
    r = np.arange(rows.start, rows.stop + 1.0)
    x, y = np.meshgrid(t.c + c * t.a, t.f + r * t.e)
    return x, y


def _corners(mesh: Floats) -> Floats:
    return np.stack([mesh[:-1, :-1], mesh[:-1, 1:], mesh[1:, 1:], mesh[1:, :-1]])


def _middles(mesh: Floats) -> Floats:
    return np.asarray(_corners(mesh).mean(axis=0))


def _shoelace(cols: Floats, rows: Floats) -> Floats:
    """Area of quadrilaterals, (4, ...) to (...)."""
    ahead = np.roll(cols, -1, 0) * rows - cols * np.roll(rows, -1, 0)
    return np.asarray(np.abs(ahead.sum(axis=0)) / 2)


def _fitting(source: LabelSource, nodata: int, dtype: np.dtype[Any]) -> Codes:
    """The source's codes in the type wanted, its nodata replaced by ours."""
    codes = source.codes
    if source.nodata is not None and source.nodata != nodata:
        codes = np.where(codes == source.nodata, np.asarray(nodata).astype(np.int64), codes)
    info = np.iinfo(dtype)
    low, high = min(int(codes.min()), nodata), max(int(codes.max()), nodata)
    if low < info.min or high > info.max:
        raise LegendError(
            source.product,
            "code",
            high if high > info.max else low,
            f"codes of {dtype}, {info.min} to {info.max}",
            f"Check `data_type` of the declaration and the raster {source.version}.",
        )
    return codes.astype(dtype)


def _nearest(source: LabelSource, codes: Codes, grid: Grid, nodata: int) -> LabelMap:
    """The product pixel under each centre."""
    lattices = _Lattices(source.grid, grid)
    x, y = grid.xy()
    if source.grid.crs == grid.crs:  # rows and columns do not depend on each other
        cols, _ = lattices.index(x, np.zeros_like(x))
        _, rows = lattices.index(np.zeros_like(y), y)
        col, has_col = _floor(cols, source.grid.width)
        row, has_row = _floor(rows, source.grid.height)
        at: tuple[Codes, Codes] = np.ix_(row, col)  # type: ignore[assignment]
        inside = has_row[:, None] & has_col[None, :]
    else:
        cols, rows = lattices.index(*np.meshgrid(x, y))
        col, has_col = _floor(cols, source.grid.width)
        row, has_row = _floor(rows, source.grid.height)
        at, inside = (row, col), has_row & has_col
    found = codes[at]
    found[~inside] = nodata
    share = np.where(found == nodata, 0, 100).astype(np.uint8)
    evidence = {name: _picked(layer, at, inside) for name, layer in source.evidence.items()}
    return LabelMap(
        product=source.product,
        version=source.version,
        grid=grid,
        codes=found,
        share=share,
        evidence=evidence,
    )


def _floor(position: Floats, size: int) -> tuple[Codes, Bools]:
    """Pixel numbers, clipped to the window, and whether they lie in it."""
    with np.errstate(invalid="ignore"):
        inside = (position + EDGE >= 0) & (position + EDGE < size)
    return np.floor(np.where(inside, position + EDGE, 0)).astype(np.intp), inside


def _picked(
    layer: NDArray[np.generic], at: tuple[Codes, Codes], inside: Bools
) -> NDArray[np.generic]:
    picked = np.array(layer[(..., *at)])
    picked[..., ~inside] = np.nan if picked.dtype.kind == "f" else 0
    return picked


def _majority(source: LabelSource, codes: Codes, grid: Grid, nodata: int) -> LabelMap:
    """The code with the largest area, a band of rows at a time."""
    lattices = _Lattices(source.grid, grid)
    legend = _Legend.of(codes, nodata)
    bands = [
        _band(lattices, legend, source.evidence, slice(r, min(r + BAND_ROWS, grid.height)))
        for r in range(0, grid.height, BAND_ROWS)
    ]
    return LabelMap(
        product=source.product, version=source.version, grid=grid,
        codes=np.concatenate([band[0] for band in bands]),
        share=np.concatenate([band[1] for band in bands]),
        evidence={
            name: np.concatenate([band[2][name] for band in bands], axis=-2)
            for name in source.evidence
        },
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Legend:
    """The codes of a window by their number among those that occur."""

    names: Codes
    """(n,) codes, ascending."""

    which: Codes
    """(y, x) number of the code of each product pixel."""

    nodata: int

    @classmethod
    def of(cls, codes: Codes, nodata: int) -> _Legend:
        """Number the codes of a window."""
        names = np.unique(codes)
        low, span = int(names[0]), int(names[-1]) - int(names[0]) + 1
        if span > 1 << 16:
            return cls(names, np.searchsorted(names, codes), nodata)
        numbers = np.zeros(span, dtype=np.uint16)
        numbers[names.astype(np.int64) - low] = np.arange(names.size)
        return cls(names, numbers[codes if low == 0 else codes.astype(np.int64) - low], nodata)


def _band(
    lattices: _Lattices, legend: _Legend, evidence: Evidence, rows: slice
) -> tuple[Codes, NDArray[np.uint8], dict[str, NDArray[np.generic]]]:
    """Codes, share and evidence of some rows of the patch."""
    overlap = _Overlap.of(lattices, rows)
    names, which, nodata = legend.names, legend.which, legend.nodata
    height, width = which.shape
    shape = overlap.col.shape
    area = np.zeros((names.size, overlap.col.size))
    totals = {name: np.zeros((2, *layer.shape[:-2], *shape)) for name, layer in evidence.items()}
    every = np.arange(overlap.col.size)
    for full, row_, col_ in overlap.parts():
        inside = (row_ >= 0) & (row_ < height) & (col_ >= 0) & (col_ < width) & (full > 0)
        part = np.where(inside, full, 0.0)
        row, col = np.clip(row_, 0, height - 1), np.clip(col_, 0, width - 1)
        area[which[row, col].ravel(), every] += part.ravel()
        for name, layer in evidence.items():
            values = layer[..., row, col].astype(np.float64)
            known = np.isfinite(values)
            totals[name] += np.stack([np.where(known, values, 0.0), known]) * part
    area[names == nodata] = 0.0

    whole = overlap.area.ravel()
    best = area.max(axis=0)
    tied = area >= (best - EDGE * whole)[None, :]
    winner = np.where(best > 0, names[area.argmax(axis=0)], nodata).reshape(shape)
    several = ((tied.sum(axis=0) > 1) & (best > 0)).reshape(shape)
    if several.any():
        nearest = _nearest_of(overlap, which, tied.reshape(-1, *shape), several)
        winner[several] = names[nearest]
    with np.errstate(invalid="ignore", divide="ignore"):
        percent = np.rint(100 * best / whole).reshape(shape)
    share = np.where(winner == nodata, 0, np.clip(percent, 1, 100)).astype(np.uint8)
    return (
        winner.astype(names.dtype), share,
        {name: _mean(totals[name], layer.dtype) for name, layer in evidence.items()},
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Overlap:
    """Which product pixels some grid pixels touch, and by how much area (in product pixels)."""

    col: Codes
    """(y, x) of the first product column that a grid pixel touches."""

    row: Codes
    """(y, x) of the first product row."""

    columns: int
    """How many columns at most."""

    rows: int

    centre: tuple[Floats, Floats]
    """(y, x) column and row of the centres of the grid pixels."""

    area: Floats
    """(y, x) of the whole grid pixel."""

    part: Callable[[int, int], Floats]
    """(y, x) area of the overlap with the product pixel `row + j`, `col + i`, from (j, i)."""

    @classmethod
    def of(cls, lattices: _Lattices, rows: slice) -> _Overlap:
        """The overlaps of some rows of the patch; pixels that have no place there touch nothing."""
        x, y = _corner_xy(lattices.grid, rows)
        centre = lattices.index(_middles(x), _middles(y))
        cols_, rows_ = lattices.quads(x, y)
        with np.errstate(invalid="ignore"):
            span = np.maximum(np.ptp(cols_, axis=0), np.ptp(rows_, axis=0))
        lost = ~(span <= MAX_SPAN)  # not finite, or too wide
        cols_[:, lost], rows_[:, lost] = -9.0, -9.0  # outside of every window, no area
        col = np.floor(cols_.min(axis=0) + EDGE).astype(np.intp)
        row = np.floor(rows_.min(axis=0) + EDGE).astype(np.intp)
        columns = int(np.ceil((cols_.max(axis=0) - col).max() - EDGE))
        rows_n = int(np.ceil((rows_.max(axis=0) - row).max() - EDGE))
        u, v = cols_ - col, rows_ - row
        if lattices.product.crs == lattices.grid.crs:
            part = _rectangles(u, v)
        else:
            part = _quadrilaterals(u, v)
        return cls(col, row, columns, rows_n, centre, _shoelace(cols_, rows_), part)

    def parts(self) -> Iterator[tuple[Floats, Codes, Codes]]:
        """(area, product row, product column) for every offset, (y, x) each."""
        for j in range(self.rows):
            for i in range(self.columns):
                yield self.part(j, i), self.row + j, self.col + i


def _rectangles(u: Floats, v: Floats) -> Callable[[int, int], Floats]:
    """Overlaps of upright rectangles, corners (4, y, x), with unit squares."""
    west, east, north, south = u[0], u[1], v[0], v[2]

    def part(j: int, i: int) -> Floats:
        across = np.minimum(east, i + 1) - np.maximum(west, i)
        down = np.minimum(south, j + 1) - np.maximum(north, j)
        return np.asarray(np.maximum(across, 0) * np.maximum(down, 0))

    return part


def _quadrilaterals(u: Floats, v: Floats) -> Callable[[int, int], Floats]:
    """Overlaps of any quadrilaterals, corners (4, y, x) clockwise as seen, with unit squares.

    Exact, by Green's theorem: the area left of i and above j is the integral of min(y - j, 0) dx
    along the outline with x cut off at i; four of these make a square.
    """
    du, dv = np.roll(u, -1, 0) - u, np.roll(v, -1, 0) - v
    slope = np.divide(dv, du, out=np.zeros_like(dv), where=du != 0)

    @functools.cache
    def quadrant(j: int, i: int) -> Floats:
        start, end = np.minimum(u, i), np.minimum(u + du, i)
        p, q = v + (start - u) * slope - j, v + (end - u) * slope - j
        below_p, below_q = np.minimum(p, 0), np.minimum(q, 0)
        drop = np.divide(below_p - below_q, p - q, out=np.ones_like(p), where=p != q)
        level = (p == q) | ((p < 0) & (q < 0))
        mean = np.where(level, (below_p + below_q) / 2, (below_p + below_q) / 2 * drop)
        return np.asarray(-((end - start) * mean).sum(axis=0))

    def part(j: int, i: int) -> Floats:
        return (quadrant(j + 1, i + 1) - quadrant(j + 1, i)) - (quadrant(j, i + 1) - quadrant(j, i))

    return part


def _nearest_of(overlap: _Overlap, which: Codes, tied: Bools, where: Bools) -> Codes:
    """For the pixels `where`: of the tied codes, the number of the one that is nearest."""
    height, width = which.shape
    y, x = np.nonzero(where)
    col, row = overlap.col[where], overlap.row[where]
    centre_col, centre_row = (c[where] for c in overlap.centre)
    nearest = np.full(y.size, np.inf)
    chosen = np.zeros(y.size, dtype=np.intp)
    for j in range(overlap.rows):
        for i in range(overlap.columns):
            r, c = row + j, col + i
            inside = (r >= 0) & (r < height) & (c >= 0) & (c < width)
            code = which[np.clip(r, 0, height - 1), np.clip(c, 0, width - 1)]
            touches = inside & tied[code, y, x] & (overlap.part(j, i)[where] > EDGE)
            distance = np.hypot(c + 0.5 - centre_col, r + 0.5 - centre_row)
            better = touches & (distance <= nearest + EDGE)  # later is further south-east
            nearest[better], chosen[better] = distance[better], code[better]
    return chosen


def _mean(totals: Floats, dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """Area-weighted mean in the layer's type from (sum | area, ..., y, x); empty without area."""
    total, covered = totals
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / covered
    if dtype.kind == "f":
        return np.asarray(np.where(covered > 0, mean, np.nan).astype(dtype))
    return np.asarray(np.where(covered > 0, np.rint(mean), 0).astype(dtype))
