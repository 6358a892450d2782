"""Label products from their own lattice to the grid of a patch, once, by one rule.

Nearest where a product pixel has at least half the area of a grid pixel, else the code with the
largest area. Codes are never interpolated. The rule looks at the lattices at the centre of the
patch and never at the window that was read, so two providers of one product agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from las_builder.core.grid import Grid, is_geographic, transformer
from las_builder.core.types import LabelMap, LabelSource
from las_builder.errors import GridMismatchError, LegendError
from las_builder.harmonise.mesh import mesh
from las_builder.harmonise.overlap import EDGE, majority

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Codes = NDArray[np.integer]

MAX_NEAREST = 2.0
"""Nearest is used while a grid pixel covers at most so many product pixels."""

INTERPOLATED = (
    "Codes outside the legend point to interpolated labels (a map resampled with bilinear or cubic): "
    "get the map as it was published."
)


def regrid(source: LabelSource, grid: Grid, *, nodata: int, dtype: DTypeLike) -> LabelMap:
    """A label product on the pixels of a patch.

    Nearest: the product pixel under the centre of the grid pixel; `share` is 100. Majority: the
    grid pixel is a quadrilateral on the product's lattice (its four corners, transformed), and the
    code with the largest part of its area wins; of equal areas, the code whose product pixel has
    its centre nearest to the centre of the grid pixel (of equally near ones the south-eastern, as
    for nearest). Nodata and what lies outside the window win only where nothing else is; `share`
    is in percent of the whole grid pixel, half up, at least 1 where there is a code, else 0.

    Args:
        source: Window on the product's own lattice; in degrees it may reach beyond ±180.
        grid: Grid of the patch.
        nodata: Code to write where the product says nothing; it counts as nothing in the source
            too, beside the source's own and NaN.
        dtype: Type of the codes written.

    Returns:
        Codes and share on `grid`. Evidence follows the same pixels: nearest, or the area-weighted
        mean (integers rounded) over the part of the grid pixel inside the window; NaN (integers:
        0) where there is none.

    Raises:
        GridMismatchError: The codes do not fill the window, or only one of the two grids has a CRS.
        LegendError: A code is no whole number, or does not fit into `dtype`.
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
    c, r, t = grid.width // 2, grid.height // 2, grid.transform
    x = t.c + (c + np.array([0.5, 0, 1, 1, 0])) * t.a
    y = t.f + (r + np.array([0.5, 0, 0, 1, 1])) * t.e
    lattices = _Lattices(product, grid)
    cols, rows = lattices.index(x, y)
    if lattices.turn:
        cols += lattices.turn * np.round((cols[0] - cols) / lattices.turn)
    area = _shoelace(cols[1:], rows[1:])
    return float(area) if np.isfinite(area) else 1.0


@dataclass(frozen=True, slots=True)
class _Lattices:
    """From coordinates of the patch to columns and rows (of pixel corners) of the product."""

    product: Grid
    grid: Grid

    def index(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Columns and rows of points, any shape; not finite where the product's CRS ends.

        Args:
            x: In the CRS of the patch.
            y: Likewise.
        """
        product, grid = self.product, self.grid
        if product.crs is not None and product.crs != grid.crs and grid.crs is not None:
            x, y = transformer(grid.crs, product.crs).transform(x, y)
        t = product.transform
        cols, rows = (np.asarray(x) - t.c) / t.a, (np.asarray(y) - t.f) / t.e
        if self.turn:
            with np.errstate(invalid="ignore"):
                cols = cols + self.turn * np.round((product.width / 2 - cols) / self.turn)
        return cols, rows

    @property
    def turn(self) -> float:
        """Columns of one turn of the globe; 0 for a projected product."""
        crs = self.product.crs
        return 360.0 / self.product.transform.a if crs is not None and is_geographic(crs) else 0.0

    def mesh(self, offset: float) -> tuple[Floats, Floats]:
        """Columns and rows of the patch's pixel corners (0), (h + 1, w + 1), or centres (0.5),
        (h, w); each on the turn of the globe that is nearest to the window's middle. In one CRS
        with the product (w + 1,) and (h + 1,), or (w,) and (h,).
        """
        t, more = self.grid.transform, int(offset == 0)
        x = t.c + (np.arange(self.grid.width + more) + offset) * t.a
        y = t.f + (np.arange(self.grid.height + more) + offset) * t.e
        if self.product.crs == self.grid.crs:  # rows and columns do not depend on each other
            return self.index(x, np.zeros_like(x))[0], self.index(np.zeros_like(y), y)[1]
        return mesh(self.index, x, y)


def _shoelace(cols: Floats, rows: Floats) -> Floats:
    """Area of quadrilaterals, (4, ...) to (...)."""
    ahead = np.roll(cols, -1, 0) * rows - cols * np.roll(rows, -1, 0)
    return np.asarray(np.abs(ahead.sum(axis=0)) / 2)


def _fitting(source: LabelSource, nodata: int, dtype: np.dtype[Any]) -> Codes:
    """The source's codes in the type wanted, its nodata and NaN replaced by ours."""
    codes: NDArray[Any] = source.codes
    if codes.dtype.kind == "f":
        nothing = np.isnan(codes) | (codes == source.nodata)
        codes = np.where(nothing, np.float64(nodata), codes)
        strange = codes[codes != np.rint(codes)]  # infinities are told below, by their size
        if strange.size:
            raise LegendError(
                source.product,
                "code",
                np.unique(strange)[:8].tolist(),
                "whole numbers",
                INTERPOLATED,
            )
    elif source.nodata is not None and source.nodata != nodata:
        codes = np.where(codes == source.nodata, np.asarray(nodata).astype(np.int64), codes)
    info = np.iinfo(dtype)
    low, high = min(codes.min().item(), nodata), max(codes.max().item(), nodata)
    if low < info.min or high > info.max:
        raise LegendError(
            source.product,
            "code",
            high if high > info.max else low,
            f"codes of {dtype}, {info.min} to {info.max}",
            f"{INTERPOLATED} If it is not, check `data_type` of the declaration and the raster "
            f"{source.version}.",
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
        cols, rows = lattices.mesh(0.5)
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
    """The code with the largest area, and means of evidence by area."""
    lattices = _Lattices(source.grid, grid)
    layers = [layer.reshape(-1, *codes.shape) for layer in source.evidence.values()]
    values = np.concatenate([np.zeros((0, *codes.shape)), *layers])
    winner, share, totals = majority(codes, nodata, lattices.mesh(0.0), lattices.turn, values)
    evidence, at = {}, 0
    for (name, layer), flat in zip(source.evidence.items(), layers, strict=True):
        shape = (2, *layer.shape[:-2], *grid.shape)
        evidence[name] = _mean(totals[:, at : at + len(flat)].reshape(shape), layer.dtype)
        at += len(flat)
    return LabelMap(
        product=source.product, version=source.version, grid=grid, codes=winner, share=share,
        evidence=evidence,
    )  # fmt: skip


def _mean(totals: Floats, dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """Area-weighted mean in the layer's type from (sum | area, ..., y, x); empty without area."""
    total, covered = totals
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / covered
    if dtype.kind == "f":
        return np.asarray(np.where(covered > 0, mean, np.nan).astype(dtype))
    return np.asarray(np.where(covered > 0, np.rint(mean), 0).astype(dtype))
