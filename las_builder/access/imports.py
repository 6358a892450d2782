"""An annotated set in a folder as an `Access`: its pictures are the scenes, its masks the labels.

A picture is cut into windows of one size that do not overlap, from its upper left corner. Pixels
are never resampled: bands of coarser files are repeated.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any, Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from las_builder.access.listing import Pair, listing, some
from las_builder.access.maps import codes_of
from las_builder.access.protocol import LabelRequest, ReadRequest, SearchRequest
from las_builder.access.raster import Raster, open_raster, read_pixels
from las_builder.catalogs import AnnotatedSet, Imagery, LabelProduct
from las_builder.core.grid import Grid
from las_builder.core.types import (
    AssetRef,
    Chip,
    Gap,
    GapReason,
    LabelSource,
    Scene,
    Tile,
)
from las_builder.errors import GridMismatchError, ImportFolderError, LasWarning, LegendError

Remainder = Literal["pad", "drop"]
ALL: frozenset[str] = frozenset({"train", "val", "test"})


@dataclass(frozen=True, slots=True)
class ImportedFolder:
    """A user's copy of an annotated set.

    Cheap to make and to pickle: the folder is listed when first asked for, once per process.
    """

    declared: AnnotatedSet
    folder: str
    size: int
    """Columns and rows of a patch."""

    remainder: Remainder = "pad"
    """What of pixels right of and below the last whole window: a window that reaches beyond the
    picture (invalid there), or none."""

    only: frozenset[str] = ALL
    """Splits of the publisher that are imported."""

    synthetic: bool = False

    @property
    def name(self) -> str:
        """The folder."""
        return self.folder

    def tiles(self) -> list[Tile]:
        """Every place of which there are pictures, once all headers have been looked at.

        Raises:
            ImportFolderError: The folder is not what the declaration says; masks of another size
                than their images, images of other bands, a place with pictures of different sizes.
            RasterError: A file is no raster.

        Warns:
            LasWarning: Pictures are left out: without masks, or too small.
        """
        found = listing(self.declared, self.folder, self.only)
        problems: dict[str, list[str]] = {}
        tiles: list[Tile] = []
        small = 0
        for code, pairs in found.places.items():
            grids = []
            for pair in pairs:
                wrong = self._wrong(pair)
                if wrong is not None:
                    problems.setdefault(wrong[0], []).append(wrong[1])
                else:
                    grids.append(self._grid(pair))
            if not grids:
                small += not problems
                continue
            if any(grid != grids[0] for grid in grids):
                problems.setdefault("grids of one place", []).append(pairs[0].images[0])
            elif grids[0] is not None:
                tiles.append(Tile(code=code, grid=grids[0], split=pairs[0].split))
            else:
                small += 1
        for what, files in problems.items():
            raise ImportFolderError(
                self.folder, what, f"{len(files):,} of {len(found.pairs):,} wrong: {some(files)}",
                _ALLOWED[what], "Get these files again, or remove them with all that belongs to them.",
            )  # fmt: skip
        if not tiles:
            raise ImportFolderError(
                self.folder, "patch.size", self.size, "a patch no larger than the pictures",
                "Or `remainder: pad`.",
            )  # fmt: skip
        if found.left_out or small:
            warnings.warn(
                f"{self.folder}: {found.left_out:,} pictures without masks or images and {small:,} "
                f"smaller than {self.size} pixels are left out",
                LasWarning,
                stacklevel=2,
            )
        return tiles

    def search(self, imagery: Imagery, requests: Sequence[SearchRequest]) -> list[list[Scene]]:
        """The pictures of the place that the site is cut from; see `Access.search`."""
        del imagery
        found = listing(self.declared, self.folder, self.only)
        answers = []
        for request in requests:
            code, _, _ = request.site.rsplit("-", 2)
            scenes = [self._scene(pair) for pair in found.places.get(code, [])]
            answers.append(
                [s for s in scenes if s is not None and request.period.holds(s.datetime)]
            )
        return answers

    def read(self, imagery: Imagery, requests: Sequence[ReadRequest]) -> list[Chip | Gap]:
        """See `Access.read`; nothing is ever resampled."""
        return [self._chip(imagery, request) for request in requests]

    def labels(
        self, product: LabelProduct, requests: Sequence[LabelRequest]
    ) -> list[LabelSource | Gap]:
        """See `Access.labels`; the masks of the picture itself, on its pixels."""
        return [self._label(product, request) for request in requests]

    def labelled(self, product: LabelProduct, requests: Sequence[LabelRequest]) -> list[bool]:
        """See `Access.labelled`; a picture without masks is no picture of the set."""
        del product
        return [True] * len(requests)

    def sites(self, imagery: Imagery, products: Sequence[LabelProduct]) -> list[Scene] | None:
        """Every picture; plans are made of `tiles`."""
        del imagery, products
        found = listing(self.declared, self.folder, self.only)
        return [scene for pair in found.pairs if (scene := self._scene(pair)) is not None]

    def check(
        self, imagery: Imagery | None, bands: Sequence[str], products: Sequence[LabelProduct]
    ) -> None:
        """Whether the folder is laid out as declared, by the names of its files."""
        del imagery, bands, products
        listing(self.declared, self.folder, self.only)

    # ---- pictures

    def _open(self, path: str) -> Raster:
        return open_raster(str((Path(self.folder) / path).resolve()), placed=False)

    def _wrong(self, pair: Pair) -> tuple[str, str] | None:
        """What is wrong with the files of a picture, and which; by their headers."""
        images = self.declared.images
        height, width = self._shape(pair)
        for pattern, path in zip(images.files, pair.images, strict=True):
            dataset = self._open(path).dataset
            if dataset.count != len(pattern.bands):
                return "bands", f"{path} ({dataset.count}, not {len(pattern.bands)})"
            for kind, name in zip(dataset.dtypes, pattern.bands, strict=True):
                qa = name is None or name == images.validity.band
                if not qa and not np.can_cast(np.dtype(kind), np.dtype(images.data_type), "safe"):
                    return "types", f"{path} ({kind}, not {images.data_type})"
            step = height // dataset.height
            if (dataset.height * step, dataset.width * step) != (height, width):
                return (
                    "sizes of bands",
                    f"{path} ({dataset.width} x {dataset.height} for {width} x {height})",
                )
        for path in pair.masks:
            dataset = self._open(path).dataset
            if (dataset.height, dataset.width) != (height, width):
                return (
                    "sizes of masks",
                    f"{path} ({dataset.width} x {dataset.height}, its image {width} x {height})",
                )
            want = {"colours": 3, "one-hot": len(self.declared.masks.bands)}
            least = want.get(self.declared.masks.encoding, 1)
            if dataset.count < least:
                return "bands of masks", f"{path} ({dataset.count}, not {least})"
        return None

    def _shape(self, pair: Pair) -> tuple[int, int]:
        """Rows and columns of its finest file."""
        return max(
            (self._open(path).dataset.height, self._open(path).dataset.width)
            for path in pair.images
        )

    def _grid(self, pair: Pair) -> Grid | None:
        """Of whole windows, on the pixels of the finest file; None: not one fits."""
        height, width = self._shape(pair)
        size = self.size
        if self.remainder == "pad":
            high, wide = math.ceil(height / size), math.ceil(width / size)
        else:
            high, wide = height // size, width // size
        if not high or not wide:
            return None
        opened = [self._open(path) for path in pair.images]
        finest = next(r for r in opened if (r.dataset.height, r.dataset.width) == (height, width))
        if finest.crs and finest.grid is None:
            raise ImportFolderError(
                finest.href, "transform", str(tuple(finest.dataset.transform)[:6]),
                "north-up pixels", "Warp the image and its masks with nearest neighbour first.",
            )  # fmt: skip
        placed = finest.grid
        transform = Affine(1.0, 0.0, 0.0, 0.0, -1.0, 0.0) if placed is None else placed.transform
        return Grid(finest.crs or None, transform, wide * size, high * size)

    def _scene(self, pair: Pair) -> Scene | None:
        grid = self._grid(pair)
        if grid is None:
            return None
        height, width = self._shape(pair)
        root = Path(self.folder).resolve()
        assets: dict[str, AssetRef] = {}
        for pattern, path in zip(self.declared.images.files, pair.images, strict=True):
            for index, name in enumerate(pattern.bands, start=1):
                if name is not None:
                    assets[name] = AssetRef(href=str(root / path), index=index)
        for i, path in enumerate(pair.masks):
            assets[f"{MASK}{i}"] = AssetRef(href=str(root / path))
        span = {} if pair.first == pair.last else {
            "start_datetime": f"{pair.first}T00:00:00Z", "end_datetime": f"{pair.last}T23:59:59Z"
        }  # fmt: skip
        return Scene(
            id=pair.id,
            datetime=datetime.combine(pair.first, time(12), UTC),
            cloud_cover=None,
            grid=grid,
            assets=assets,
            properties={
                HEIGHT: height,
                WIDTH: width,
                **span,
                **({} if pair.code is None else {CODE: pair.code}),
            },
        )

    # ---- pixels

    def _chip(self, imagery: Imagery, request: ReadRequest) -> Chip | Gap:
        bounds = _window(request.grid, request.scene)
        if bounds is None:
            return Gap(request.site, GapReason.NOT_COVERED, request.scene.id)
        rows, cols = bounds
        height = int(request.scene.properties[HEIGHT])
        layers, empty = [], []
        for name in request.bands:
            qa = name == imagery.validity.band
            nodata = imagery.validity.nodata if qa else imagery.nodata
            asset = request.scene.assets[name]
            raster = open_raster(asset.href, placed=False)
            data = _repeated(raster, asset.index, rows, cols, height // raster.dataset.height)
            stated = raster.dataset.nodatavals[asset.index - 1]
            empty.append(_is(data, nodata) | _is(data, stated))
            dtype = data.dtype if qa or request.categorical else imagery.dtype
            layer = np.full(request.grid.shape, 0 if nodata is None else nodata, dtype)
            layer[: data.shape[0], : data.shape[1]] = data
            layers.append(layer)
        inside = np.zeros(request.grid.shape, bool)
        # A dark pixel may be 0 in one band; outside the picture it is in all.
        inside[: empty[0].shape[0], : empty[0].shape[1]] = ~np.logical_and.reduce(empty)
        if not inside.any():
            return Gap(request.site, GapReason.NOT_COVERED, request.scene.id)
        return Chip(
            grid=request.grid, bands=request.bands, data=np.stack(layers), inside=inside,
            resampled=False,
        )  # fmt: skip

    def _label(self, product: LabelProduct, request: LabelRequest) -> LabelSource | Gap:
        bounds = _window(request.grid, request.scene)
        if bounds is None:
            return Gap(request.site, GapReason.NO_LABEL, request.scene.id)
        masks = [open_raster(href, placed=False) for href in _masks(request.scene)]
        codes = np.full(request.grid.shape, product.nodata, product.dtype)
        if CODE in request.scene.properties:
            shape = [stop - start for start, stop in bounds]
            here = np.full(shape, request.scene.properties[CODE], product.dtype)
        else:
            here = decode(self.declared, product, masks, *bounds)
        codes[: here.shape[0], : here.shape[1]] = here
        relative = [Path(raster.href).relative_to(Path(self.folder).resolve()) for raster in masks]
        return LabelSource(
            product=product.name,
            version="+".join(path.as_posix() for path in relative) or request.scene.id,
            grid=request.grid,
            codes=codes,
            nodata=product.nodata,
        )


MASK, HEIGHT, WIDTH, CODE = "mask-", "las:height", "las:width", "las:code"


def _masks(scene: Scene) -> Iterator[str]:
    for i in range(len(scene.assets)):
        if f"{MASK}{i}" in scene.assets:
            yield scene.assets[f"{MASK}{i}"].href


_ALLOWED = {
    "bands": "images of the bands that the declaration lists",
    "types": "numbers that the declared type holds without loss",
    "sizes of bands": "bands whose pixels are a whole multiple of the finest",
    "sizes of masks": "masks of the size of their image",
    "bands of masks": "masks of the declared encoding",
    "grids of one place": "pictures of one place on the same pixels",
}


Span = tuple[int, int]


def _window(grid: Grid, scene: Scene) -> tuple[Span, Span] | None:
    """Rows and columns of the picture under a window of it; None: it lies outside."""
    (a, e), t = scene.grid.pixel, scene.grid.transform
    col, row = (grid.transform.c - t.c) / a, (t.f - grid.transform.f) / e
    left, top = round(col), round(row)
    if grid.crs != scene.grid.crs or max(abs(col - left), abs(row - top)) > 1e-3:
        raise GridMismatchError(f"{scene.id}: a window that is not on the pixels of the picture")
    bottom = min(top + grid.height, int(scene.properties[HEIGHT]))
    right = min(left + grid.width, int(scene.properties[WIDTH]))
    if top < 0 or left < 0 or bottom <= top or right <= left:
        return None
    return (top, bottom), (left, right)


def _repeated(raster: Raster, index: int, rows: Span, cols: Span, step: int) -> NDArray[Any]:
    """Pixels of a band whose own are `step` times as large, each as often as it is needed."""
    first, last = (rows[0] // step, cols[0] // step), (-(-rows[1] // step), -(-cols[1] // step))
    data = read_pixels(raster, index, (first[0], last[0]), (first[1], last[1]))
    if step == 1:
        return data
    data = data.repeat(step, axis=0).repeat(step, axis=1)
    top, left = rows[0] - first[0] * step, cols[0] - first[1] * step
    return data[top : top + rows[1] - rows[0], left : left + cols[1] - cols[0]]


def _is(data: NDArray[Any], value: float | None) -> NDArray[np.bool_]:
    if value is None:
        return np.zeros(data.shape, bool)
    return np.isnan(data) if math.isnan(value) else np.asarray(data == value)


# ---- masks


def decode(
    declared: AnnotatedSet, product: LabelProduct, masks: Sequence[Raster], rows: Span, cols: Span
) -> NDArray[np.integer]:
    """The codes of a window of a picture, (y, x), in the product's type.

    Args:
        declared: Its encoding.
        product: Its legend.
        masks: Open, in the order of `masks.files`.
        rows: First, and one after the last.
        cols: Likewise.

    Raises:
        LegendError: Codes or colours that the declaration does not list, or a pixel of several
            classes where that is an error; names the file.
    """
    said = declared.masks
    if said.encoding == "codes":
        raster = masks[0]
        stated = raster.dataset.nodatavals[0]
        # What the legend lists is a class, whatever the file says of it.
        stated = None if stated in product.codes else stated
        return codes_of(read_pixels(raster, 1, rows, cols), stated, product, raster.href)
    if said.encoding == "colours":
        red, green, blue = (
            read_pixels(masks[0], i, rows, cols).astype(np.int64) for i in (1, 2, 3)
        )
        if said.threshold is not None:
            red, green, blue = (255 * (band >= said.threshold) for band in (red, green, blue))
        return _from_colours(declared, product, (red << 16) | (green << 8) | blue, masks[0].href)
    if said.encoding == "one-hot":
        layers = [
            (read_pixels(masks[0], i + 1, rows, cols), code) for i, code in enumerate(said.bands)
        ]
    else:
        layers = [
            (read_pixels(raster, 1, rows, cols), int(file.value or 0))
            for raster, file in zip(masks, said.files, strict=True)
        ]
    nothing = product.nodata if said.background is None else said.background
    codes = np.full(layers[0][0].shape, nothing, product.dtype)
    claims = np.zeros(codes.shape, np.uint8)
    for layer, code in layers:
        on = np.asarray(layer, np.float64) > 0
        codes[on] = code
        claims += on
    if (claims > 1).any():
        if said.overlap == "error":
            raise LegendError(
                masks[0].href, "classes of a pixel", f"{int((claims > 1).sum()):,} pixels of several",
                "one class a pixel", "Correct the masks, or declare `overlap: nodata`.",
            )  # fmt: skip
        codes[claims > 1] = product.nodata
    return codes


def _from_colours(
    declared: AnnotatedSet, product: LabelProduct, packed: NDArray[np.int64], href: str
) -> NDArray[np.integer]:
    """Colours as 0xRRGGBB, exactly as declared, to codes."""
    known = {
        int(colour, 16): code
        for code, colours in declared.masks.colours.items()
        for colour in colours
    }
    values = np.array(sorted(known), np.int64)
    place = np.minimum(np.searchsorted(values, packed), values.size - 1)
    strange = values[place] != packed
    if strange.any():
        found, count = np.unique(packed[strange], return_counts=True)
        order = np.argsort(-count, kind="stable")[:8]
        shown = ", ".join(f"{found[i]:06X} ({count[i]:,} pixels)" for i in order.tolist())
        more = f" and {found.size - 8:,} more" if found.size > 8 else ""
        raise LegendError(
            href, "colours", shown + more, ", ".join(f"{value:06X}" for value in values.tolist()),
            "Masks that were resampled or saved as JPEG have mixed colours; get the original, or "
            "declare the colours.",
        )  # fmt: skip
    return np.array([known[int(v)] for v in values], product.dtype)[place]
