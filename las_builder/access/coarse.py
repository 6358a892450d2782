"""Rasters at overview level: what strata are made of, a look every few kilometres, no more."""

from __future__ import annotations

import functools
import hashlib
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from las_builder.access.virtual import LEAVES, VirtualEarth
from las_builder.catalogs import Catalogs, Strata
from las_builder.core.grid import from_lonlat, is_geographic
from las_builder.core.workspace import writing
from las_builder.errors import LasError, RasterError

_MOST = 1 << 26  # pixels read at once
_FEW = 20_000  # coarse cells of which it costs less to compute them than to look for the cache

COVERS = tuple(dict.fromkeys(leaf.split(".")[0] for leaf in sorted(LEAVES)))
"""Level-1 covers of the ontology, in the order in which `truth_covers` counts them."""


def codes_at(
    path: str, band: int, lon: NDArray[np.float64], lat: NDArray[np.float64], step_km: float
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The nearest pixel of a raster at each place, from the overview that has about two a step.

    Args:
        path: A file or URL that GDAL opens.
        band: From 1.
        lon: Degrees east, -180 to 180, any shape.
        lat: Degrees north.
        step_km: How far the places are apart.

    Returns:
        Codes, and whether there is any: the place is in the raster and not its nodata.

    Raises:
        RasterError: It cannot be read, lacks a CRS or the band, or its numbers are not whole.
    """
    import rasterio

    try:
        with rasterio.open(path) as file:
            return _codes(file, path, band, lon, lat, step_km)
    except rasterio.errors.RasterioError as problem:
        raise RasterError(path, "raster.path", path, f"a raster that opens ({problem})") from None


def _codes(
    file: Any, path: str, band: int, lon: NDArray[np.float64], lat: NDArray[np.float64],
    step_km: float,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:  # fmt: skip
    if file.crs is None:
        raise RasterError(path, "raster.path", "no CRS", "a raster that says its CRS")
    if band > file.count:
        raise RasterError(path, "raster.band", band, f"1 to {file.count}")
    if np.dtype(file.dtypes[band - 1]).kind not in "iu":
        raise RasterError(path, "raster.path", file.dtypes[band - 1], "a raster of whole numbers")
    crs = file.crs.to_wkt()
    x, y = (lon, lat) if file.crs.to_epsg() == 4326 else from_lonlat(crs, lon, lat)
    t = file.transform
    if is_geographic(crs):
        x = t.c + np.mod(x - t.c, 360)
    back = ~t
    column, row = back.a * x + back.b * y + back.c, back.d * x + back.e * y + back.f
    inside = np.isfinite(column) & np.isfinite(row)
    inside &= (column >= 0) & (column < file.width) & (row >= 0) & (row < file.height)
    codes = np.zeros(lon.shape, np.int64)
    if not inside.any():
        return codes, inside
    column, row = column[inside].astype(np.int64), row[inside].astype(np.int64)
    left, right = int(column.min()), int(column.max()) + 1
    top, bottom = int(row.min()), int(row.max()) + 1
    side = math.sqrt(abs(t.a * t.e)) * (111.2 if is_geographic(crs) else 1e-3)  # km, about
    thin = max(1, int(step_km / 2 / side))
    thin = max(thin, math.ceil(math.sqrt((right - left) * (bottom - top) / _MOST)))
    shape = (max(1, (bottom - top) // thin), max(1, (right - left) // thin))
    window = ((top, bottom), (left, right))
    numbers = file.read(band, window=window, out_shape=shape)
    valid = file.read_masks(band, window=window, out_shape=shape) > 0
    at = (
        (row - top) * shape[0] // (bottom - top),
        (column - left) * shape[1] // (right - left),
    )
    codes[inside] = numbers[at]
    inside[inside] = valid[at]
    return codes, inside


def raster_shares(
    path: str, band: int, classes: list[int], cell: float, samples: int,
    row: NDArray[np.int64], column: NDArray[np.int64],
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:  # fmt: skip
    """Shares of classes in coarse cells, from `samples` x `samples` places in each.

    Args:
        path: As for `codes_at`.
        band: As for `codes_at`.
        classes: Codes.
        cell: Side of the coarse cells, degrees.
        samples: Places along a side.
        row: Of the cells, from 90° N.
        column: Of the cells, from 180° W.

    Returns:
        Shares of the places that have a code, (cells, classes), and the codes that are no class.
    """
    lon, lat = _places(row, column, cell, samples)
    codes, valid = codes_at(path, band, lon, lat, 111.2 * cell / samples)
    shares = np.stack([((codes == c) & valid).sum(axis=1) for c in classes], axis=1)
    looked = np.maximum(valid.sum(axis=1), 1)
    odd = np.setdiff1d(np.unique(codes[valid]), classes)
    return (shares / looked[:, None]).astype(np.float32), odd


def truth_shares(
    catalogs: Catalogs, cell: float, samples: int, row: NDArray[np.int64], column: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Shares of `COVERS` in coarse cells of the virtual Earth, of 255, (cells, covers).

    Counted at `samples` x `samples` places of every cell, sea left out. Where many cells are asked
    for, those of all land are computed and kept in a file of the user's cache (`LAS_CACHE`), whose
    name says what they follow from.

    Args:
        catalogs: Which planet.
        cell: Side of the coarse cells, degrees.
        samples: Places along a side.
        row: Of the cells, from 90° N.
        column: Of the cells, from 180° W.
    """
    if row.size <= _FEW:
        return _truth_shares(catalogs, cell, samples, row, column)
    file = _cache() / f"truth-{_print_of(catalogs, cell, samples)}.npz"
    try:
        with np.load(file, allow_pickle=False) as stored:
            return np.asarray(stored["shares"][row, column])
    except (OSError, ValueError, KeyError):
        pass
    block = round(cell * 20)
    cells = Strata.load(catalogs).land_cells
    rows, columns = cells.shape[0] // block, cells.shape[1] // block
    land = np.nonzero(cells.reshape(rows, block, columns, block).max(axis=(1, 3)))
    shares = np.zeros((rows, columns, len(COVERS)), np.uint8)
    shares[land] = _truth_shares(catalogs, cell, samples, *land)
    try:
        with writing(file) as part, part.open("wb") as stream:
            np.savez_compressed(stream, shares=shares)
    except (LasError, OSError):
        pass  # a cache that cannot be written is only slow
    return shares[row, column]


def _truth_shares(
    catalogs: Catalogs, cell: float, samples: int, row: NDArray[np.int64], column: NDArray[np.int64]
) -> NDArray[np.uint8]:
    earth, strata = VirtualEarth(catalogs), Strata.load(catalogs)
    cover = np.array([COVERS.index(leaf.split(".")[0]) for leaf in LEAVES])
    shares = np.zeros((row.size, len(COVERS)), np.uint8)
    for start in range(0, row.size, 1 << 14):
        part = slice(start, start + (1 << 14))
        lon, lat = _places(row[part], column[part], cell, samples)
        on = strata.is_land(lon, lat)
        found = np.full(lon.shape, -1)
        found[on] = cover[earth.truth(lon[on], lat[on])]
        counts = np.stack([(found == k).sum(axis=1) for k in range(len(COVERS))], axis=1)
        looked = np.maximum(counts.sum(axis=1), 1)
        shares[part] = (counts * 255 + looked[:, None] // 2) // looked[:, None]
    return shares


def _places(
    row: NDArray[np.int64], column: NDArray[np.int64], cell: float, samples: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A regular net in every coarse cell, degrees, (cells, samples²)."""
    at = (np.arange(samples) + 0.5) / samples
    lon = (column[:, None, None] + at[None, None, :]) * cell - 180
    lat = 90 - (row[:, None, None] + at[None, :, None]) * cell
    lon, lat = np.broadcast_arrays(lon, lat)
    return lon.reshape(row.size, -1), lat.reshape(row.size, -1)


def _cache() -> Path:
    return Path(os.environ.get("LAS_CACHE") or Path.home() / ".cache" / "las-builder")


@functools.lru_cache(maxsize=8)
def _print_of(catalogs: Catalogs, cell: float, samples: int) -> str:
    """A hash of all that the truth follows from: this package's code of it, its declarations."""
    digest = hashlib.blake2b(f"{cell}/{samples}".encode(), digest_size=8)
    here = Path(__file__).parent
    files = [Path(__file__), *sorted((here / "virtual").glob("*.py"))]
    for name in ("land", "climate"):
        files += [path := catalogs.file("strata", name), path.with_suffix(".npz")]
    for folder in catalogs.folders:
        files += sorted((folder / "virtual").rglob("*.yaml"))
        files += [f for f in [folder / "ontology.yaml"] if f.is_file()]
    for file in files:
        digest.update(file.read_bytes() if file.is_file() else b"-")
    return digest.hexdigest()
