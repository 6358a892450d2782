"""Images: bands that are asked for the pixels of a frame, by the centres of its pixels."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from pyproj import CRS, Transformer
from rasterio.windows import Window

Array = np.ndarray[Any, Any]


class Refused(Exception):
    """What Earth Engine answers with an error.

    Args:
        message: In its words, as far as they are known.
        status: Of HTTP.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message, self.status = message, status


@dataclass(frozen=True)
class Frame:
    """Pixels that somebody asks for."""

    crs: str
    transform: Affine
    width: int
    height: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.height, self.width

    def centres(self, crs: str) -> tuple[Array, Array]:
        """x and y of the pixels' centres in a CRS, (y, x) each."""
        cols, rows = np.meshgrid(np.arange(self.width) + 0.5, np.arange(self.height) + 0.5)
        x, y = self.transform @ (cols, rows)
        if crs == self.crs or same(crs, self.crs):
            return x, y
        return turn(self.crs, crs).transform(x, y)


@functools.lru_cache(maxsize=512)
def same(one: str, other: str) -> bool:
    return CRS.from_user_input(one).equals(CRS.from_user_input(other), ignore_axis_order=True)


@functools.lru_cache(maxsize=512)
def turn(one: str, other: str) -> Transformer:
    return Transformer.from_crs(one, other, always_xy=True)


@functools.lru_cache(maxsize=512)
def degrees(crs: str) -> bool:
    return bool(CRS.from_user_input(crs).is_geographic)


DEGREES = Affine(1, 0, 0, 0, 1, 0)
"""The pixels of what has none of its own."""

Pull = Callable[[Frame], tuple[Array, Array]]
"""A frame to numbers and mask (True: there is one), (y, x) each."""


@dataclass(frozen=True)
class Band:
    name: str
    dtype: np.dtype[Any]
    pull: Pull
    crs: str = "EPSG:4326"
    transform: Affine = DEGREES
    size: tuple[int, int] | None = None
    """Columns and rows, of a stored band."""

    gather: str | None = None
    """A reducer that `reduceResolution` set: it is used where coarser pixels are asked for."""


@dataclass(frozen=True)
class Image:
    bands: tuple[Band, ...]
    properties: dict[str, Any] = field(default_factory=dict)
    id: str | None = None

    def band(self, name: str) -> Band:
        for band in self.bands:
            if band.name == name:
                return band
        raise Refused(
            f"Image.select: Band pattern '{name}' did not match any bands. Available bands: "
            f"[{', '.join(b.name for b in self.bands)}]"
        )

    def each(self, change: Callable[[Band], Band]) -> Image:
        return replace(self, bands=tuple(change(band) for band in self.bands))


@dataclass(frozen=True)
class Collection:
    images: tuple[Image, ...]
    id: str | None = None


# ---- stored bands

_open = threading.local()


def _dataset(path: str) -> rasterio.DatasetReader:
    kept = _open.__dict__.setdefault("files", {})
    if path not in kept:
        kept[path] = rasterio.open(path)
    return kept[path]


def stored(name: str, path: str, index: int = 1, nodata: float | None = None) -> Band:
    """A band of a GeoTIFF; its nodata, and what lies outside of it, is masked (assumption 1)."""
    file = _dataset(path)
    crs = file.crs.to_string() if file.crs.to_epsg() is None else f"EPSG:{file.crs.to_epsg()}"
    empty = file.nodatavals[index - 1] if nodata is None else nodata
    dtype = np.dtype(file.dtypes[index - 1])

    def pull(frame: Frame) -> tuple[Array, Array]:
        source = _dataset(path)
        x, y = frame.centres(crs)
        if degrees(crs):  # a frame may lie over the antimeridian
            x = source.transform.c + (x - source.transform.c) % 360.0
        cols, rows = ~source.transform @ (x, y)
        rows, cols = _floor(rows), _floor(cols)
        inside = (rows >= 0) & (rows < source.height) & (cols >= 0) & (cols < source.width)
        values = np.zeros(frame.shape, dtype)
        if not inside.any():
            return values, inside
        top, left = int(rows[inside].min()), int(cols[inside].min())
        high, wide = int(rows[inside].max()) - top + 1, int(cols[inside].max()) - left + 1
        data = source.read(index, window=Window(left, top, wide, high))
        values[inside] = data[rows[inside] - top, cols[inside] - left]
        if empty is not None:
            inside = inside & ~(np.isnan(values) if np.isnan(empty) else values == empty)
        return values, inside

    return Band(name, dtype, pull, crs, file.transform, (file.width, file.height))


def _floor(position: Array) -> Array:
    """The pixel that holds a position (assumption 4); noise of coordinates moves nothing."""
    return np.floor(np.round(np.where(np.isfinite(position), position, -1), 6)).astype(np.int64)


def constant(name: str, value: float, dtype: str | None = None) -> Band:
    kind = np.dtype(dtype or ("int32" if float(value).is_integer() else "float64"))

    def pull(frame: Frame) -> tuple[Array, Array]:
        return np.full(frame.shape, value, kind), np.ones(frame.shape, bool)

    return Band(name, kind, pull)


# ---- from bands to bands


def pointwise(
    name: str, dtype: Any, bands: Sequence[Band], make: Callable[..., tuple[Array, Array]]
) -> Band:
    """A band worked out pixel by pixel; `make` gets numbers and mask of every band in turn."""

    def pull(frame: Frame) -> tuple[Array, Array]:
        pairs = [band.pull(frame) for band in bands]
        values, mask = make(*[part for pair in pairs for part in pair])
        return np.broadcast_to(values, frame.shape), np.broadcast_to(mask, frame.shape)

    first = bands[0]
    return Band(name, np.dtype(dtype), pull, first.crs, first.transform)


def reprojected(band: Band, crs: str, transform: Affine) -> Band:
    """Worked out on the pixels of a projection, then nearest (assumptions 3 and 4)."""

    def pull(frame: Frame) -> tuple[Array, Array]:
        x, y = frame.centres(crs)
        cols, rows = ~transform @ (x, y)
        rows, cols = _floor(rows), _floor(cols)
        top, left = int(rows.min()), int(cols.min())
        inner = Frame(
            crs, transform @ Affine.translation(left, top),
            int(cols.max()) - left + 1, int(rows.max()) - top + 1,
        )  # fmt: skip
        values, mask = gathered(band).pull(inner)
        return values[rows - top, cols - left], mask[rows - top, cols - left]

    return replace(band, pull=pull, crs=crs, transform=transform, size=None, gather=None)


def gathered(band: Band) -> Band:
    """What `reduceResolution` makes of a band where coarser pixels are asked for."""
    if band.gather is None:
        return band

    def pull(frame: Frame) -> tuple[Array, Array]:
        own = band.transform
        if not same(frame.crs, band.crs):
            raise Refused("emulator: reduceResolution into another CRS is not emulated")
        if frame.transform.a <= own.a * (1 + 1e-9):
            return band.pull(frame)
        columns, x0 = _overlaps(frame.transform.c, frame.transform.a, frame.width, own.c, own.a)
        rows, y0 = _overlaps(frame.transform.f, frame.transform.e, frame.height, own.f, own.e)
        inner = Frame(band.crs, own @ Affine.translation(x0, y0), columns.shape[1], rows.shape[1])
        values, mask = band.pull(inner)
        weight = rows @ mask.astype(np.float64) @ columns.T
        if band.gather == "mean":
            total = rows @ np.where(mask, values, 0).astype(np.float64) @ columns.T
            return total / np.maximum(weight, 1e-12), weight > 1e-12
        if band.gather == "mode":
            codes = np.unique(values[mask])
            shares = [rows @ ((values == c) & mask).astype(np.float64) @ columns.T for c in codes]
            if not shares:
                return np.zeros(frame.shape, band.dtype), np.zeros(frame.shape, bool)
            return codes[np.argmax(shares, axis=0)], weight > 1e-12
        raise Refused(f"emulator: reduceResolution with {band.gather} is not emulated")

    dtype = np.dtype("float64") if band.gather == "mean" else band.dtype
    return replace(band, pull=pull, dtype=dtype)


def _overlaps(start: float, step: float, count: int, own_start: float, own_step: float) -> Any:
    """Shares of our pixels (rows) that their pixels (columns) cover, and the first of theirs."""
    first = (start - own_start) / own_step + np.arange(count) * step / own_step
    last = first + step / own_step
    low, high = int(np.floor(first.min() + 1e-9)), int(np.ceil(last.max() - 1e-9))
    edges = np.arange(low, high)
    share = np.minimum(last[:, None], edges + 1.0) - np.maximum(first[:, None], edges)
    return np.clip(share, 0, None), low
