"""Windows of rasters, local or over HTTP: the only place that opens them.

Two questions are answered. What are the numbers of a band on this grid (`read_on`)? And what does
a raster say around this grid, on its own pixels (`read_around`)?
"""

from __future__ import annotations

import functools
import math
import os
import threading
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from las_builder.access import web
from las_builder.access.meet import same_crs, span, windows_around
from las_builder.core.grid import Grid, crs_name, is_geographic, transformer
from las_builder.errors import AccessError, RasterError, StacError

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

    from las_builder.access.ranges import Opener

OPEN_AT_ONCE = 32
"""Rasters that a thread keeps open: two Sentinel-2 scenes of 13 bands."""

GDAL = {
    # Without it every open lists the folder.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    # Bytes. As fast as the default for windows of single patches, at half the memory.
    "GDAL_CACHEMAX": 16 * 2**20,
    # rasterio knows an opener only in the thread that opened the file: with threads of GDAL's own
    # the tiles of a JPEG 2000 on the web came back as whatever was in memory, without an error.
    "GDAL_NUM_THREADS": "1",
}

ALIGNED = 1e-3
"""Edges nearer to each other than this share of the finer pixel coincide: the noise of transforms
written in decimal is below it, and it moves nothing by more than a centimetre at 10 m."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Raster:
    """An open raster and where its pixels are."""

    href: str
    dataset: DatasetReader
    crs: str
    """Authority code or WKT2."""

    grid: Grid | None
    """None where it is not north-up."""

    web: Opener | None = None
    """How it is read, where it is on the web."""

    kept: dict[Any, NDArray[np.generic]] = field(default_factory=dict)
    """The last window of a file whose pixels hold all bands, see `_read_shared`."""


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """A band on a grid."""

    data: NDArray[np.generic]
    """(y, x); where `inside` is False the number means nothing."""

    inside: NDArray[np.bool_]
    """(y, x); True where the raster had a number that is not its nodata."""

    resampled: bool
    """Whether it was warped."""


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Part of a raster, on the raster's own pixels."""

    data: NDArray[np.generic]
    """(y, x) in the type of the file."""

    grid: Grid
    """Its place; in a geographic CRS x may lie beyond 180, so that windows join."""

    nodata: float | None
    """What the file says."""


def open_raster(href: str, *, placed: bool = True) -> Raster:
    """A raster, opened once per thread and kept while it is among the last few used.

    Args:
        href: Path or http(s) URL, without signature.
        placed: Whether it has to say where it is; a picture that need not has "" for a CRS.

    Raises:
        RasterError: It is no raster, is truncated (both: on disk), or has no CRS.
        StacError: There is no such file on disk.
        AccessError: The server failed, has no such file (class `absent`), or one that is no raster
            or truncated (class `broken`): of one scene of many, no fault of what the user gave.
    """
    key = (*_stamp(href), placed)
    kept = _kept()
    if key in kept:
        kept.move_to_end(key)
        return kept[key]
    kept[key] = raster = _open(href, placed=placed)
    while len(kept) > OPEN_AT_ONCE:
        kept.popitem(last=False)  # closes itself when nobody holds it any more
    return raster


def read_on(
    grid: Grid,
    href: str,
    index: int = 1,
    *,
    categorical: bool = False,
    nodata: float | None = None,
    dtype: np.dtype[Any] | None = None,
) -> Pixels:
    """The numbers of one band on a grid, by the rules of `Access.read`.

    Where edges coincide, a coarser band is repeated (also when the grid begins inside one of its
    pixels) and a finer one averaged over its valid pixels (categorical: the pixel at, or just
    south-east of, the centre). All else is warped once: bilinear over valid pixels, categorical
    nearest.

    Args:
        grid: In any CRS.
        href: Path or URL.
        index: Band in the file, from 1.
        categorical: Numbers are codes or bits, which must not be mixed.
        nodata: As declared; the file's own nodata and mask hold as well.
        dtype: As declared; None keeps the type of the file.

    Raises:
        RasterError: Truncated, no CRS, no such band, or a type that `dtype` cannot hold.
        StacError: There is no such file.
        AccessError: The server failed.
    """
    raster = open_raster(href)
    _check_band(raster, index)
    own = np.dtype(raster.dataset.dtypes[index - 1])
    dtype = own if dtype is None else dtype
    if not np.can_cast(own, dtype, "safe"):
        raise RasterError(
            href,
            f"type of band {index}",
            str(own),
            f"a type that {dtype} holds without loss",
            "Correct `data_type` of the declaration.",
        )
    fill = fill_of(nodata, raster.dataset.nodatavals[index - 1], dtype)
    source = _Band(raster, index, nodata)
    return put_on(grid, source, categorical=categorical, dtype=dtype, fill=fill)


def put_on(
    grid: Grid, source: Source, *, categorical: bool, dtype: np.dtype[Any], fill: float
) -> Pixels:
    """The numbers of a source on a grid, by the rules of `read_on`; `fill` where there are none."""
    place = source.place
    if place.grid is not None and same_crs(grid.crs, place.crs):
        fit = _fit(grid, place.grid)
        if fit is not None:
            return _aligned(source, grid, fit, categorical=categorical, dtype=dtype, fill=fill)
    return _warped(source, grid, categorical=categorical, dtype=dtype, fill=fill)


def repeats(grid: Grid, source: Grid, *, categorical: bool) -> bool:
    """Whether every number of a grid is one of the source's, neither averaged nor warped."""
    fit = _fit(grid, source) if same_crs(grid.crs, source.crs) else None
    return fit is not None and (categorical or fit.block == (1, 1))


def read_around(grid: Grid, href: str, index: int = 1, *, margin: int = 2) -> list[Window]:
    """What a raster holds around a grid, in the raster's own numbers on its own pixels.

    Args:
        grid: In any CRS, also over the antimeridian or a pole.
        href: Path or URL.
        index: Band in the file, from 1.
        margin: Pixels of the raster to spare on each side.

    Returns:
        No window where they do not meet; one; or one for each side of the antimeridian.

    Raises:
        RasterError: Truncated, no CRS, no such band, not north-up.
        StacError: There is no such file.
        AccessError: The server failed.
    """
    raster = open_raster(href)
    _check_band(raster, index)
    if raster.grid is None:
        raise RasterError(
            href,
            "transform",
            str(tuple(raster.dataset.transform)[:6]),
            "north-up pixels",
            "Warp it with nearest neighbour first.",
        )
    t = raster.grid.transform
    windows = []
    for piece in windows_around(grid, raster.grid, margin):
        data = _read(raster, index, piece.rows, piece.cols)
        west = t.c + piece.turn + piece.cols[0] * t.a
        place = Affine(t.a, 0.0, west, 0.0, t.e, t.f + piece.rows[0] * t.e)
        windows.append(
            Window(
                data,
                Grid(raster.crs, place, data.shape[1], data.shape[0]),
                raster.dataset.nodatavals[index - 1],
            )
        )
    return windows


def read_pixels(
    raster: Raster, index: int, rows: tuple[int, int], cols: tuple[int, int]
) -> NDArray[np.generic]:
    """Rows and columns of a band, (y, x) in the type of the file.

    Args:
        raster: Open, with a place or without.
        index: Band in the file, from 1.
        rows: First, and one after the last; they exist.
        cols: Likewise.

    Raises:
        RasterError: No such band, or a raster that is truncated.
    """
    _check_band(raster, index)
    return _read(raster, index, rows, cols)


def read_blocks(raster: Raster, index: int = 1) -> Iterator[NDArray[np.generic]]:
    """Every block of a band, in the type of the file: proof that the raster is whole.

    Args:
        raster: Open.
        index: Band in the file, from 1.

    Raises:
        RasterError: No such band, or a block that cannot be read.
    """
    _check_band(raster, index)
    height, width = raster.dataset.height, raster.dataset.width
    # Many blocks at once: strips of one row would be thousands of calls.
    tall, wide = (max(1, 1024 // n) * n for n in raster.dataset.block_shapes[index - 1])
    for top in range(0, height, tall):
        for left in range(0, width, wide):
            rows, cols = (top, min(top + tall, height)), (left, min(left + wide, width))
            yield _read(raster, index, rows, cols)


# ---- one band on a grid


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where the pixels of a source are."""

    crs: str
    transform: Affine
    height: int
    width: int
    grid: Grid | None
    """None where it is not north-up."""


class Source(Protocol):
    """A band that can be asked for its own pixels."""

    @property
    def place(self) -> Place:
        """Where they are."""
        ...

    def read(
        self, rows: tuple[int, int], cols: tuple[int, int]
    ) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        """Numbers and validity of rows and columns that exist."""
        ...


@dataclass(frozen=True, slots=True)
class _Band:
    raster: Raster
    index: int
    nodata: float | None

    @property
    def place(self) -> Place:
        """See `Source`."""
        file = self.raster.dataset
        return Place(self.raster.crs, file.transform, file.height, file.width, self.raster.grid)

    def read(
        self, rows: tuple[int, int], cols: tuple[int, int]
    ) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        """Numbers and validity of rows and columns that exist."""
        data = _read_shared(self.raster, self.index, rows, cols)
        valid = np.isfinite(data) if data.dtype.kind == "f" else np.ones(data.shape, bool)
        for value in {self.nodata, self.raster.dataset.nodatavals[self.index - 1]}:
            if value is not None and not math.isnan(value):
                valid &= data != value
        flags = self.raster.dataset.mask_flag_enums[self.index - 1]
        # An "alpha" is not believed: GDAL calls the near infrared of four-band NAIP an alpha.
        if {flag.name for flag in flags} == {"per_dataset"}:
            valid &= _read(self.raster, self.index, rows, cols, masks=True) != 0
        return data, valid


@dataclass(frozen=True, slots=True)
class _Fit:
    """How a grid lies on a raster whose edges it shares, along (y, x)."""

    repeat: tuple[int, int]
    """Grid pixels in one pixel of the raster; 1 where the raster is finer."""

    block: tuple[int, int]
    """Pixels of the raster in one grid pixel; 1 where the raster is coarser."""

    start: tuple[int, int]
    """The grid's first edge from the raster's first, in units of the finer pixel."""


def _fit(grid: Grid, source: Grid) -> _Fit | None:
    g, s = grid.transform, source.transform
    axes = [
        _fit_axis(g.f, -g.e, grid.height, s.f, -s.e, -1.0),
        _fit_axis(g.c, g.a, grid.width, s.c, s.a, 1.0),
    ]
    if axes[0] is None or axes[1] is None:
        return None
    (ry, by, y0), (rx, bx, x0) = axes[0], axes[1]
    if max(ry, rx) > 1 and max(by, bx) > 1:  # coarser one way, finer the other
        return None
    return _Fit((ry, rx), (by, bx), (y0, x0))


def _fit_axis(
    g0: float, g: float, n: int, s0: float, s: float, sign: float
) -> tuple[int, int, int] | None:
    """(repeat, block, start) along one axis, or None where edges do not coincide."""
    coarser = s >= g
    k = round(s / g) if coarser else round(g / s)
    fine = s / k if coarser else s  # the raster decides; the grid must agree at both ends
    step = 1 if coarser else k
    first = sign * (g0 - s0) / fine
    last = first + n * g / fine
    start = round(first)
    if abs(first - start) > ALIGNED or abs(last - (start + n * step)) > ALIGNED:
        return None
    return (k, 1, start) if coarser else (1, k, start)


def _aligned(
    band: Source, grid: Grid, fit: _Fit, *, categorical: bool, dtype: np.dtype[Any], fill: float
) -> Pixels:
    """Repeat, copy or average: no number of a coarser or equal band changes."""
    sizes = (band.place.height, band.place.width)
    # Row (or column) of the raster for each fine row of the grid; may lie outside the raster.
    lines = [
        (fit.start[i] + np.arange(grid.shape[i] * fit.block[i])) // fit.repeat[i] for i in (0, 1)
    ]
    spans = [
        (max(0, int(v[0])), min(size, int(v[-1]) + 1)) for v, size in zip(lines, sizes, strict=True)
    ]
    if any(a >= b for a, b in spans):
        return Pixels(np.full(grid.shape, fill, dtype), np.zeros(grid.shape, bool), False)
    data, valid = band.read(spans[0], spans[1])
    if categorical or fit.block == (1, 1):
        lines = [v[k // 2 :: k] for v, k in zip(lines, fit.block, strict=True)]
        return Pixels(*_take(data.astype(dtype), valid, lines, spans, fill), False)
    data, valid = _take(data, valid, lines, spans, 0)
    (h, w), (ky, kx) = grid.shape, fit.block
    count = valid.reshape(h, ky, w, kx).sum(axis=(1, 3))
    total = np.where(valid, data, 0).reshape(h, ky, w, kx).sum(axis=(1, 3), dtype=np.float64)
    mean = total / np.maximum(count, 1)
    return Pixels(_as(dtype, np.where(count > 0, mean, fill)), count > 0, False)


def _take(
    data: NDArray[np.generic],
    valid: NDArray[np.bool_],
    lines: list[NDArray[np.int_]],
    spans: list[tuple[int, int]],
    fill: float,
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Rows and columns by number, `fill` where the raster has none."""
    there = [(v >= a) & (v < b) for v, (a, b) in zip(lines, spans, strict=True)]
    at = np.ix_(*(np.clip(v, a, b - 1) - a for v, (a, b) in zip(lines, spans, strict=True)))
    outside = ~np.logical_and.outer(*there)
    data, valid = data[at], valid[at]
    if outside.any():
        data[outside], valid[outside] = fill, False
    return data, valid


def _warped(
    band: Source, grid: Grid, *, categorical: bool, dtype: np.dtype[Any], fill: float
) -> Pixels:
    """Warp once, every pixel by its own exact position.

    GDAL's warper interpolates positions along each row and guesses the width of its kernel from
    the window at hand, so that two patches disagree about the pixels they share; hence our own.
    """
    place = band.place
    window = _window_for_warp(grid, place)
    if window is None:
        return Pixels(np.full(grid.shape, fill, dtype), np.zeros(grid.shape, bool), True)
    data, valid = band.read(*window)
    row, col = _positions(grid, place)
    height, width = place.height, place.width
    inside = (row >= 0) & (row < height) & (col >= 0) & (col < width)  # False for NaN too
    row, col = np.where(inside, row, 0) - window[0][0], np.where(inside, col, 0) - window[1][0]
    if categorical:
        at = _near(row, data.shape[0]), _near(col, data.shape[1])
        inside &= valid[at]
        return Pixels(np.where(inside, data[at], fill).astype(dtype), inside, True)
    high, wide = _source_pixels(grid, place)
    numbers = np.where(valid, data, 0).astype(np.float64)
    total, weight = np.zeros(grid.shape), np.zeros(grid.shape)
    for y, wy in _taps(row - 0.5, high, data.shape[0]):
        for x, wx in _taps(col - 0.5, wide, data.shape[1]):
            w = wy * wx * valid[y, x]
            total += w * numbers[y, x]
            weight += w
    inside &= weight > 1e-6
    return Pixels(
        _as(dtype, np.where(inside, total / np.maximum(weight, 1e-6), fill)), inside, True
    )


def _near(position: NDArray[np.float64], size: int) -> NDArray[np.int_]:
    return np.clip(np.floor(position), 0, size - 1).astype(np.int_)


def _taps(
    position: NDArray[np.float64], reach: float, size: int
) -> Iterator[tuple[NDArray[np.int_], NDArray[np.float64]]]:
    """Line numbers near each position and their weights: a triangle of half-width `reach` >= 1."""
    first = np.floor(position - reach).astype(np.int_) + 1
    for k in range(math.ceil(2 * reach)):
        line = first + k
        weight = np.maximum(0.0, 1 - np.abs(line - position) / reach)
        yield np.clip(line, 0, size - 1), weight * ((line >= 0) & (line < size))


def _positions(grid: Grid, place: Place) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Row and column in the raster, in pixels from its corner, of every centre of the grid."""
    x, y = _centres_in(grid, place.crs)
    t, inverse = place.transform, ~place.transform
    if is_geographic(place.crs):
        x = t.c + (x - t.c) % 360.0
    row = inverse.d * x + inverse.e * y + inverse.f
    return row, inverse.a * x + inverse.b * y + inverse.c


@functools.lru_cache(maxsize=8)  # the bands of one scene share it; 1 MB at 264 x 264
def _centres_in(grid: Grid, crs: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = np.meshgrid(*grid.xy())
    if same_crs(grid.crs, crs):
        return x, y
    x, y = transformer(grid.crs or crs, crs).transform(x, y)
    return np.where(np.isfinite(x), x, np.nan), np.where(np.isfinite(y), y, np.nan)


def _source_pixels(grid: Grid, place: Place) -> tuple[float, float]:
    """Rows and columns of the raster under one pixel of the grid; 1 where the raster is coarser.

    Rounded, so that neighbours agree.
    """
    west, south, east, north = grid.bounds
    a, e = grid.pixel
    x, y = (west + east) / 2 + np.array([0, a, 0]), (south + north) / 2 + np.array([0, 0, e])
    x, y = transformer(grid.crs or place.crs, place.crs).transform(x, y)
    inverse = ~place.transform
    rows, cols = inverse.d * x + inverse.e * y, inverse.a * x + inverse.b * y
    spans = [np.abs(v[1:] - v[0]).max() for v in (rows, cols)]
    return max(1.0, round(float(spans[0]), 1)), max(1.0, round(float(spans[1]), 1))


def _window_for_warp(grid: Grid, place: Place) -> tuple[tuple[int, int], tuple[int, int]] | None:
    row, col = _positions(grid, place)
    if not np.isfinite(row + col).any():
        return None
    margin = math.ceil(max(_source_pixels(grid, place))) + 1  # what the kernel reaches for
    y = span(float(np.nanmin(row)), float(np.nanmax(row)), place.height, margin)
    x = span(float(np.nanmin(col)), float(np.nanmax(col)), place.width, margin)
    return None if y is None or x is None else (y, x)


def fill_of(declared: float | None, stated: float | None, dtype: np.dtype[Any]) -> float:
    """What stands where there is nothing: the nodata, if the type can hold it; else 0."""
    value = declared if declared is not None else stated
    if value is None:
        return 0
    if dtype.kind == "f":
        return value
    limits = np.iinfo(dtype)
    return int(value) if value == value // 1 and limits.min <= value <= limits.max else 0


def _as(dtype: np.dtype[Any], values: NDArray[np.float64]) -> NDArray[np.generic]:
    return (np.rint(values) if dtype.kind in "iu" else values).astype(dtype)


# ---- opening, reading, and what failures are called


_here = threading.local()
_warnings = threading.Lock()


def _kept() -> OrderedDict[tuple[Any, ...], Raster]:
    """The open rasters of this thread; a forked child must not share file positions with its
    parent, so it starts with none.
    """
    if getattr(_here, "pid", None) != os.getpid():
        _here.pid, _here.rasters = os.getpid(), OrderedDict()
    return _here.rasters  # type: ignore[no-any-return]


def _stamp(href: str) -> tuple[Any, ...]:
    """A file that was replaced is another file."""
    if web.is_url(href):
        return (href,)
    try:
        stat = web.local_path(href).stat()
    except OSError:
        return (href,)
    return href, stat.st_mtime_ns, stat.st_size


def _open(href: str, *, placed: bool = True) -> Raster:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    from las_builder.access.ranges import opener

    if not web.is_url(href) and not web.local_path(href).is_file():
        raise StacError(href, "href", href, "a file that exists")
    far = opener(href) if web.is_url(href) else None
    if far is not None:
        far.begin()
    # The filters of warnings belong to all threads; the network has been waited for before.
    with _gdal(href, far), _warnings, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # we raise, in our words
        if far is None:
            dataset = rasterio.open(str(web.local_path(href)))
        else:
            dataset = rasterio.open(href, opener=far, sharing=False)
    if dataset.crs is None and not placed:
        return _noted(Raster(href, dataset, "", None, far))
    if dataset.crs is None:
        dataset.close()
        raise RasterError(
            href,
            "crs",
            None,
            "a CRS",
            "Give it one, e.g. with `rio edit-info --crs`.",
        )
    crs = crs_name(dataset.crs.to_wkt())
    t = dataset.transform
    grid = None
    if t.b == 0 and t.d == 0 and t.a > 0 and t.e < 0:
        grid = Grid(crs, Affine(*tuple(t)[:6]), dataset.width, dataset.height)
    return _noted(Raster(href, dataset, crs, grid, far))


def _noted(raster: Raster) -> Raster:
    if raster.web is not None:
        _close_at_exit()
        _far.add(raster)
    return raster


def _check_band(raster: Raster, index: int) -> None:
    count = raster.dataset.count
    if not 1 <= index <= count:
        raise RasterError(raster.href, "band", index, f"1 to {count}, the bands of the file")


def _read(
    raster: Raster,
    index: int | list[int],
    rows: tuple[int, int],
    cols: tuple[int, int],
    *,
    masks: bool = False,
) -> NDArray[np.generic]:
    """Rows and columns that exist, from the file as it is now; of several bands (band, y, x)."""
    try:
        return _read_once(raster, index, rows, cols, masks=masks)
    except AccessError as problem:
        if problem.kind != BROKEN:
            raise
        # All bytes came, and make no sense: what is so twice is the file.
        return _read_once(open_raster(raster.href), index, rows, cols, masks=masks)


TOGETHER = 32
"""Bands of a file that are read at once where its pixels hold them all."""


def _read_shared(
    raster: Raster, index: int, rows: tuple[int, int], cols: tuple[int, int]
) -> NDArray[np.generic]:
    """A band's rows and columns; of pixels that hold all bands, all are kept for the next band.

    A block of such a file is fetched and unpacked for all bands, and GDAL's cache, which threads
    share, may have dropped it before the next is asked for.
    """
    count, types = raster.dataset.count, set(raster.dataset.dtypes)
    if raster.web is None or not 1 < count <= TOGETHER or len(types) > 1:
        return _read(raster, index, rows, cols)
    if raster.dataset.profile.get("interleave") != "pixel":
        return _read(raster, index, rows, cols)
    if (rows, cols) not in raster.kept:
        raster.kept.clear()
        raster.kept[rows, cols] = _read(raster, list(range(1, count + 1)), rows, cols)
    return np.array(raster.kept[rows, cols][index - 1])


def _read_once(
    raster: Raster,
    index: int | list[int],
    rows: tuple[int, int],
    cols: tuple[int, int],
    *,
    masks: bool,
) -> NDArray[np.generic]:
    from rasterio.windows import Window as RioWindow

    window = RioWindow(cols[0], rows[0], cols[1] - cols[0], rows[1] - rows[0])
    with _gdal(raster.href, raster.web):
        read = raster.dataset.read_masks if masks else raster.dataset.read
        return np.asarray(read(index, window=window))


BROKEN = "broken"
"""Class of a file on the web whose bytes all came and make no sense."""


@contextmanager
def _gdal(href: str, far: Opener | None) -> Iterator[None]:
    """Our settings, and our names for what goes wrong."""
    import rasterio
    from rasterio.errors import RasterioError

    try:
        with rasterio.Env(**GDAL):
            yield
    except RasterioError as problem:
        forget(href)
        if far is not None and far.failure is not None:
            raise far.failure from None
        first: BaseException = problem
        while first.__cause__ is not None:
            first = first.__cause__
        if far is not None:
            said = f"no whole, readable raster: {first}"
            raise AccessError(urlsplit(href).netloc, href, said, kind=BROKEN) from problem
        raise RasterError(
            href,
            "pixels",
            str(first),
            "a whole, readable raster",
            "The file is truncated, damaged or no raster; fetch it again.",
        ) from problem
    if far is not None and far.failure is not None:
        forget(href)
        raise far.failure


_far: weakref.WeakSet[Raster] = weakref.WeakSet()


@functools.cache
def _close_at_exit() -> None:
    """GDAL must not call an opener of an interpreter that is gone, whoever still holds a raster."""
    import atexit

    def close() -> None:
        for one in list(_far):
            with suppress(Exception):  # opened by a thread that is gone
                one.dataset.close()

    atexit.register(close)


def close_web() -> None:
    """Close what this thread has open on the web.

    rasterio lets go of an opener only in the thread that opened the file, so this is called before
    a thread turns to something else; what the file's first bytes were is remembered elsewhere.
    """
    kept = _kept()
    for key in [key for key in kept if kept[key].web is not None]:
        kept.pop(key).dataset.close()


def forget(href: str) -> None:
    """Let go of a raster that failed, so that the next try opens it anew."""
    from las_builder.access import ranges

    ranges.forget(href)
    kept = _kept()
    for key in [key for key in kept if key[0] == href]:
        gone = kept.pop(key)
        if gone.web is not None:  # tracebacks may hold it until the interpreter ends
            gone.dataset.close()
