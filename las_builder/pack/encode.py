"""One sample as the members of a shard: GeoTIFFs that open by themselves, and JSON.

Pixels stay as the provider gave them; scale and offset are metadata of the bands. The bytes depend
on the sample alone: nothing in them tells when or where they were made.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from las_builder.catalogs import LabelClass, TaxonomyClass
from las_builder.core.grid import Grid
from las_builder.core.types import IGNORE, NO_CONFIDENCE
from las_builder.core.workspace import canonical_json
from las_builder.errors import GridMismatchError

if TYPE_CHECKING:
    from rasterio.io import DatasetWriter

MEMBERS = ("image.tif", "label.tif", "confidence.tif", "valid.tif", "json")
"""What a sample consists of, in the order of the tar; the key and a dot come before each."""

ZSTD_LEVEL = 9
"""Measured on real Sentinel-2 (264 x 264 x 13): one strip a band at level 9 takes 10 ms and is 19 %
smaller than GDAL's default strips, 17 % smaller than pixel interleaving; level 12 takes four times
as long and saves nothing."""

_KEY = re.compile(r"[a-z0-9][a-z0-9_-]*")


def sample_key(site: str, when: date) -> str:
    """Key of a sample: "<site>-<yyyymmdd>", lower-case ASCII, no dots.

    Raises:
        ValueError: The site's id has other characters.
    """
    return checked_key(f"{site}-{when:%Y%m%d}")


def checked_key(key: str) -> str:
    """The key itself; it becomes part of file names, so nothing but a-z, 0-9, - and _ is in it.

    Raises:
        ValueError: It has other characters.
    """
    if not _KEY.fullmatch(key):
        raise ValueError(f"a sample's key has only a-z, 0-9, - and _, got {key!r}")
    return key


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """One patch at one date, ready for a shard."""

    key: str
    """See `sample_key`; unique in its subset."""

    grid: Grid
    bands: tuple[str, ...]

    image: NDArray[np.generic]
    """(band, y, x) in the provider's numbers."""

    valid: NDArray[np.bool_]
    """(y, x); True where the surface was seen. The label is not altered by it."""

    label: NDArray[np.uint8]
    """(y, x) class index, 255 = ignore."""

    confidence: NDArray[np.uint8]
    """(y, x) percent, 255 = nothing is said."""

    scale: tuple[float, ...]
    """Of each band: physical = number * scale + offset."""

    offset: tuple[float, ...]
    """Of each band."""

    classes: tuple[TaxonomyClass, ...]
    """Of the label; names and colours travel in the file."""

    metadata: Mapping[str, Any]
    """What the JSON member says; see `SampleRecord.metadata`."""

    def __post_init__(self) -> None:
        checked_key(self.key)
        n, shape = len(self.bands), self.grid.shape
        if self.image.shape != (n, *shape) or len(self.scale) != n or len(self.offset) != n:
            raise GridMismatchError(
                f"{self.key}: an image of {self.image.shape}, {len(self.scale)} scales and "
                f"{len(self.offset)} offsets; bands and grid ask for {(n, *shape)}"
            )
        for name in ("valid", "label", "confidence"):
            if (found := getattr(self, name).shape) != shape:
                raise GridMismatchError(f"{self.key}: {name} is {found}; the grid is {shape}")


def encode(sample: Sample) -> dict[str, bytes]:
    """The members of a sample, by name without the key, in the order of `MEMBERS`.

    `image.tif` has band names, scales and offsets; `label.tif` the classes as colour table (255
    transparent) and, as GDAL metadata of the band, their names (`class_<index>`); `valid.tif` is 1
    where the surface was seen. A sample without CRS has no georeference at all.
    """
    return {
        "image.tif": _image(sample),
        "label.tif": _label(sample),
        "confidence.tif": _plane(sample, sample.confidence, "confidence", nodata=NO_CONFIDENCE),
        "valid.tif": _plane(sample, sample.valid.astype(np.uint8), "valid"),
        "json": canonical_json(sample.metadata),
    }


def _image(sample: Sample) -> bytes:
    return image_tiff(sample.grid, sample.bands, sample.image, sample.scale, sample.offset)


def _label(sample: Sample) -> bytes:
    classes = dict(enumerate(sample.classes))
    return class_tiff(sample.grid, "label", sample.label, classes, nodata=IGNORE)


def image_tiff(
    grid: Grid,
    bands: Sequence[str],
    image: NDArray[np.generic],
    scale: Sequence[float],
    offset: Sequence[float],
) -> bytes:
    """A GeoTIFF of numbers, (band, y, x), with names, scales and offsets of the bands."""
    with _tiff(grid, len(bands), image.dtype) as (file, done):
        file.write(image)
        for i, name in enumerate(bands, start=1):
            file.set_band_description(i, name)
        file.scales, file.offsets = scale, offset
    return done[0]


def class_tiff(
    grid: Grid,
    name: str,
    codes: NDArray[np.integer],
    classes: Mapping[int, TaxonomyClass | LabelClass],
    nodata: int | None,
) -> bytes:
    """A GeoTIFF of codes, (y, x), with colours and, as `class_<code>` of the band, names.

    Colour tables are for codes of unsigned bytes; others have names only.
    """
    with _tiff(grid, 1, codes.dtype, nodata=nodata) as (file, done):
        file.write(codes, 1)
        file.set_band_description(1, name)
        if codes.dtype == np.uint8:
            file.write_colormap(1, {code: rgba(entry) for code, entry in classes.items()})
        file.update_tags(1, **{f"class_{code}": entry.name for code, entry in classes.items()})
    return done[0]


def _plane(
    sample: Sample, values: NDArray[np.uint8], name: str, nodata: int | None = None
) -> bytes:
    with _tiff(sample.grid, 1, np.dtype(np.uint8), nodata=nodata) as (file, done):
        file.write(values, 1)
        file.set_band_description(1, name)
    return done[0]


def rgba(entry: TaxonomyClass | LabelClass) -> tuple[int, int, int, int]:
    """A class's colour as four bytes; grey where none is declared."""
    red, green, blue = bytes.fromhex(entry.color_hint or "808080")
    return red, green, blue, 255


@contextmanager
def _tiff(
    grid: Grid, count: int, dtype: np.dtype[Any], nodata: int | None = None
) -> Iterator[tuple[DatasetWriter, list[bytes]]]:
    """A GeoTIFF being written; its bytes are in the list when the block has ended."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning
    from rasterio.io import MemoryFile

    place = {} if grid.crs is None else {"crs": grid.crs, "transform": grid.transform}
    done: list[bytes] = []
    # GDAL_TIFF_ENDIANNESS: the same bytes on every machine.
    with rasterio.Env(GDAL_TIFF_ENDIANNESS="LITTLE"), MemoryFile() as memory:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with memory.open(
                driver="GTiff",
                width=grid.width,
                height=grid.height,
                count=count,
                dtype=dtype,
                nodata=nodata,
                compress="zstd",
                zstd_level=ZSTD_LEVEL,
                predictor=3 if dtype.kind == "f" else 2,
                interleave="band",
                blockysize=grid.height,
                photometric="minisblack",
                **place,
            ) as file:
                yield file, done
        done.append(bytes(memory.getbuffer()))
