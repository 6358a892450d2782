"""One sample as the members of a shard: GeoTIFFs that open by themselves, and JSON.

Pixels stay as the provider gave them; scale and offset are metadata of the bands. The bytes depend
on the sample alone: nothing in them tells when or where they were made.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
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
from las_builder.pack import tiff

if TYPE_CHECKING:
    from rasterio.io import DatasetWriter

MEMBERS = ("image.tif", "label.tif", "confidence.tif", "valid.tif", "json")
"""What a sample consists of, in the order of the tar; the key and a dot come before each."""

ZSTD_LEVEL = 9
"""Measured on real Sentinel-2 (264 x 264 x 13): one strip a band at level 9 takes 10 ms and is 19 %
smaller than GDAL's default strips, 17 % smaller than pixel interleaving; level 12 takes four times
as long and saves nothing."""

_KEY = re.compile(r"[a-z0-9][a-z0-9_-]*")


def sample_key(site: str, first: date, last: date | None = None) -> str:
    """Key of a sample: "<site>-<yyyymmdd>", lower-case ASCII, no dots; of a composite the days of
    its first and last scene, "<site>-<yyyymmdd>-<yyyymmdd>".

    Raises:
        ValueError: The site's id has other characters.
    """
    return checked_key(f"{site}-{first:%Y%m%d}" + (f"-{last:%Y%m%d}" if last else ""))


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
        "image.tif": image_tiff(
            sample.grid, sample.bands, sample.image, sample.scale, sample.offset
        ),
        "label.tif": class_tiff(
            sample.grid, "label", sample.label, dict(enumerate(sample.classes)), nodata=IGNORE
        ),
        "confidence.tif": _tiff(
            Template(("confidence",), "uint8", NO_CONFIDENCE), sample.grid, sample.confidence[None]
        ),
        "valid.tif": _tiff(
            Template(("valid",), "uint8"), sample.grid, sample.valid.view(np.uint8)[None]
        ),
        "json": canonical_json(sample.metadata),
    }


@dataclass(frozen=True, slots=True)
class Template:
    """What a GeoTIFF says beside its pixels and its place; by value, so that GDAL writes it once."""

    bands: tuple[str, ...]
    dtype: str
    nodata: int | None = None
    scale: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    colours: tuple[tuple[int, tuple[int, int, int, int]], ...] = ()
    names: tuple[tuple[int, str], ...] = ()
    """Of codes."""

    def __call__(self, grid: Grid, image: NDArray[np.generic] | None = None) -> bytes:
        """The file as GDAL writes it, (band, y, x); without an image it is all zeros."""
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning
        from rasterio.io import MemoryFile

        dtype = np.dtype(self.dtype)
        place = {} if grid.crs is None else {"crs": grid.crs, "transform": grid.transform}
        # GDAL_TIFF_ENDIANNESS: the same bytes on every machine.
        with rasterio.Env(GDAL_TIFF_ENDIANNESS="LITTLE"), MemoryFile() as memory:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                with memory.open(
                    driver="GTiff",
                    width=grid.width,
                    height=grid.height,
                    count=len(self.bands),
                    dtype=dtype,
                    nodata=self.nodata,
                    compress="zstd",
                    zstd_level=ZSTD_LEVEL,
                    predictor=3 if dtype.kind == "f" else 2,
                    interleave="band",
                    blockysize=grid.height,
                    photometric="minisblack",
                    **place,
                ) as file:
                    blank = np.zeros((len(self.bands), *grid.shape), dtype)
                    file.write(blank if image is None else image)
                    self._describe(file)
            return bytes(memory.getbuffer())

    def _describe(self, file: DatasetWriter) -> None:
        for i, name in enumerate(self.bands, start=1):
            file.set_band_description(i, name)
        if self.scale:
            file.scales, file.offsets = self.scale, self.offset
        if self.colours:
            file.write_colormap(1, dict(self.colours))
        if self.names:
            file.update_tags(1, **{f"class_{code}": name for code, name in self.names})


def _tiff(template: Template, grid: Grid, image: NDArray[np.generic]) -> bytes:
    return tiff.write(grid, image, ZSTD_LEVEL, template) or template(grid, image)


def image_tiff(
    grid: Grid,
    bands: Sequence[str],
    image: NDArray[np.generic],
    scale: Sequence[float],
    offset: Sequence[float],
) -> bytes:
    """A GeoTIFF of numbers, (band, y, x), with names, scales and offsets of the bands."""
    about = Template(tuple(bands), image.dtype.name, scale=tuple(scale), offset=tuple(offset))
    return _tiff(about, grid, image)


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
    shown = classes.items() if codes.dtype == np.uint8 else ()
    about = Template(
        (name,), codes.dtype.name, nodata,
        colours=tuple((code, rgba(entry)) for code, entry in shown),
        names=tuple((code, entry.name) for code, entry in classes.items()),
    )  # fmt: skip
    return _tiff(about, grid, codes[None])


def rgba(entry: TaxonomyClass | LabelClass) -> tuple[int, int, int, int]:
    """A class's colour as four bytes; grey where none is declared."""
    red, green, blue = bytes.fromhex(entry.color_hint or "808080")
    return red, green, blue, 255
