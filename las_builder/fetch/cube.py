"""The cube: Zarr v3, a group a round, sized beforehand and never resized.

    cube.zarr/<round>/
      image             (patch, band, y, x)   the provider's own numbers
      valid             (patch, y, x)         True where the surface was seen
      labels/<product>  (patch, y, x)         the product's own codes
      shares/<product>  (patch, y, x)         percent of the pixel that has the code
      evidence/<product> (patch, layer, y, x) declared extras
      stored resampled  (patch,)              written with the pixels; False until then
      site slot time scene clear crs          (patch,)  known before any pixel
      transform (patch, 6)   scale offset (patch, band)   band (band,)

One chunk is one patch and one shard object is one block, so a block is written in whole objects
by one task and a training sample is read by one range request.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from las_builder.catalogs import Imagery, LabelProduct
from las_builder.core.types import Block, PinnedScene
from las_builder.core.workspace import writing, writing_folder

if TYPE_CHECKING:
    import xarray as xr
    import zarr

BLOCK_BYTES = 96 * 2**20
"""Raw pixels of a block at most: what one task holds in memory."""


BLOCK_PATCHES = 32
"""Patches of a block at most: a killed run loses little, and a small corpus keeps all workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CubeLayout:
    """What every round of one subset's cube looks like."""

    imagery: Imagery
    bands: tuple[str, ...]
    products: tuple[LabelProduct, ...]
    """Those that it was laid out for: label products first, then those only compared."""

    height: int
    width: int
    added: tuple[LabelProduct, ...] = ()
    """Products that joined the recipe later; see `fetch.added`. They change no block."""

    @property
    def patch_bytes(self) -> int:
        """Raw bytes of one patch in all arrays."""
        pixels = self.height * self.width
        image = len(self.bands) * self.imagery.dtype.itemsize
        labels = sum(p.dtype.itemsize + 1 + len(p.evidence) * 4 for p in self.products)
        return pixels * (image + 1 + labels)

    @property
    def block_patches(self) -> int:
        """Patches in one block."""
        return max(1, min(BLOCK_PATCHES, BLOCK_BYTES // self.patch_bytes))


def blocks_of(round_: int, patches: int, layout: CubeLayout) -> list[Block]:
    """The blocks of a round of so many patches, in the order of their rows."""
    n = layout.block_patches
    return [
        Block(round_, i, start, min(start + n, patches))
        for i, start in enumerate(range(0, patches, n))
    ]


class Patches(Protocol):
    """The pinned scenes of a round, however they are held."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[PinnedScene]: ...


def create_round(path: Path, patches: Patches, layout: CubeLayout) -> None:
    """Lay out the arrays of one round and write all that is known before any pixel.

    Does nothing where the round exists. Another run may do the same at the same time: the first
    to finish stays, and both would have written the same bytes.

    Args:
        path: `cube.zarr/<round>`.
        patches: A row each.
        layout: Of the subset.

    Raises:
        WorkspaceError: The disk is full or read-only.
    """
    if path.exists():
        return
    with writing_folder(path) as part:
        _create(part, patches, layout)


def _create(path: Path, patches: Patches, layout: CubeLayout) -> None:
    import zarr

    n, block = len(patches), layout.block_patches
    pixels = (layout.height, layout.width)
    group = zarr.open_group(path, mode="w", zarr_format=3)

    def pixel_array(name: str, dtype: np.dtype[Any], fill: float, *layers: tuple[str, int]) -> None:
        group.create_array(name, **_pixel_array(dtype, fill, (n, *pixels), block, *layers))

    bands = ("band", len(layout.bands))
    pixel_array("image", layout.imagery.dtype, layout.imagery.nodata or 0, bands)
    pixel_array("valid", np.dtype(bool), False)
    for product in layout.products:
        for kind, settings in _arrays_of(product, (n, *pixels), block).items():
            group.create_array(f"{kind}/{product.name}", **settings)
    for flag in ("stored", "resampled"):
        group.create_array(
            flag,
            shape=(n,),
            chunks=(block,),
            dtype="bool",
            fill_value=False,
            dimension_names=("patch",),
        )

    def known(name: str, values: Any, *dims: str, **attributes: Any) -> None:
        array = np.asarray(values)
        array = array.astype(object) if array.dtype.kind in "UO" else array
        made = group.create_array(
            name,
            shape=array.shape,
            chunks=array.shape,
            dtype=str if array.dtype == object else array.dtype,
            dimension_names=dims,
            attributes=dict(attributes),
        )
        made[...] = array

    site, slot, scene, time, clear, crs = [], [], [], [], [], []
    transform = np.empty((n, 6))
    radiometry = np.empty((n, len(layout.bands), 2))
    for i, p in enumerate(patches):
        site.append(p.site)
        slot.append(p.slot)
        scene.append(p.scene.id)
        time.append(int(p.scene.datetime.timestamp()))
        clear.append(p.clear)
        crs.append(p.grid.crs or "")
        transform[i] = p.grid.transform[:6]
        radiometry[i] = [layout.imagery.radiometry(p.scene, band) for band in layout.bands]
    known("site", site, "patch")
    known("slot", np.array(slot, np.int16), "patch")
    known("scene", scene, "patch")
    since = {"units": "seconds since 1970-01-01", "calendar": "proleptic_gregorian"}
    known("time", np.array(time, np.int64), "patch", **since)
    known("clear", np.array(clear), "patch")
    known("crs", crs, "patch")
    known("transform", transform, "patch", "coefficient")
    known("scale", radiometry[..., 0], "patch", "band")
    known("offset", radiometry[..., 1], "patch", "band")
    known("band", list(layout.bands), "band")
    group.attrs.update(
        imagery=layout.imagery.name,
        labels=[product.name for product in layout.products],
        block_patches=block,
    )


def _arrays_of(
    product: LabelProduct, shape: tuple[int, int, int], block: int
) -> dict[str, dict[str, Any]]:
    """Group of each array of a product to what makes the array."""
    arrays = {
        "labels": _pixel_array(product.dtype, product.nodata, shape, block),
        "shares": _pixel_array(np.dtype("uint8"), 0, shape, block),
    }
    if product.evidence:
        layers = ("layer", len(product.evidence))
        arrays["evidence"] = {
            **_pixel_array(np.dtype("float32"), 0.0, shape, block, layers),
            "attributes": {"layers": list(product.evidence)},
        }
    return arrays


def _pixel_array(
    dtype: np.dtype[Any], fill: float, shape: tuple[int, int, int], block: int,
    *layers: tuple[str, int],
) -> dict[str, Any]:  # fmt: skip
    """What makes an array of pixels: a chunk a patch, a shard object a block."""
    from zarr.codecs import BloscCodec

    inner = (*(count for _, count in layers), *shape[1:])
    return {
        "shape": (shape[0], *inner),
        "chunks": (1, *inner),
        "shards": (block, *inner),
        "dtype": dtype,
        "fill_value": fill,
        # Measured on Sentinel-2-like patches: 3.6x smaller, decoded at 1 GB/s a core
        # (zstd 5 with bitshuffle; level 1 is a tenth larger and writes four times as fast).
        "compressors": BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"),
        "dimension_names": ("patch", *(layer for layer, _ in layers), "y", "x"),
    }


def add_arrays(path: Path, patches: int, layout: CubeLayout, product: LabelProduct) -> None:
    """Lay out the arrays of a product that joined later; does nothing where they are.

    Args:
        path: `cube.zarr/<round>`, which is there.
        patches: Rows of the round.
        layout: Of the subset.
        product: Not one of `layout.products`.

    Raises:
        WorkspaceError: The disk is full or read-only.
    """
    import zarr

    shape = (patches, layout.height, layout.width)
    for kind, settings in _arrays_of(product, shape, layout.block_patches).items():
        if not (path / kind / "zarr.json").exists():
            with writing(path / kind / "zarr.json") as part, tempfile.TemporaryDirectory() as empty:
                zarr.open_group(empty, mode="w", zarr_format=3)
                part.write_bytes((Path(empty) / "zarr.json").read_bytes())
        if not (path / kind / product.name).exists():
            with writing_folder(path / kind / product.name) as folder:
                zarr.create_array(folder, zarr_format=3, **settings)


def open_round(path: Path, mode: str = "r") -> zarr.Group:
    """One round of a cube as a Zarr group."""
    import zarr

    return zarr.open_group(path, mode=mode)  # type: ignore[arg-type]


def open_cube(path: Path) -> xr.Dataset:
    """All rounds of a cube as one data set, the stored patches only, lazily.

    Args:
        path: `cube.zarr`.

    Returns:
        Variables `image`, `valid`, `labels/<product>`, `shares/<product>` along `patch`; what is
        known of each patch as coordinates.
    """
    import xarray as xr

    rounds = []
    for folder in _rounds(path):
        tree = xr.open_datatree(folder, engine="zarr", consolidated=False)
        parts = [
            node.to_dataset(inherit=False).rename(
                {name: f"{key}/{name}" for name in node.data_vars}
            )
            for key, node in tree.children.items()
        ]
        whole = xr.merge([tree.to_dataset(), *parts], compat="no_conflicts", join="exact")
        whole = whole.set_coords(
            [v for v in whole.variables if v not in whole.dims and "y" not in whole[v].dims]
        )
        rounds.append(whole.isel(patch=np.flatnonzero(whole["stored"].values)))
    return xr.concat(rounds, "patch", coords="all", compat="equals", join="exact")


def _rounds(path: Path) -> Iterator[Path]:
    found = [p for p in path.iterdir() if p.name.isdigit()] if path.is_dir() else []
    return iter(sorted(found, key=lambda p: int(p.name)))
