"""Our members against GDAL's of the same sample: rasterio sees no difference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from affine import Affine
from rasterio.io import MemoryFile

from las_builder.core.grid import Grid
from las_builder.pack import Sample, SampleRecord, encode, tiff
from las_builder.pack.encode import Template

Make = Callable[..., tuple[Sample, SampleRecord]]
GRID = Grid("EPSG:32719", Affine(10, 0, 717729.835, 0, -10, 5700093.331), 40, 30)
KINDS = [
    Template(("B02", "B03"), "uint16", scale=(1e-4, 2e-4), offset=(-0.1, 0.3)),
    Template(("label",), "uint8", 255, colours=((0, (1, 2, 3, 255)),), names=((0, "water"),)),
    Template(("one",), "int16", -32768),
    Template(("a", "b", "c"), "int8"),
]


def noise(kind: Template, seed: int = 0, grid: Grid = GRID) -> np.ndarray:
    info = np.iinfo(kind.dtype)
    rng = np.random.default_rng(seed)
    return rng.integers(info.min, info.max, (len(kind.bands), *grid.shape), kind.dtype, True)


def seen(data: bytes) -> dict[str, Any]:
    with MemoryFile(data) as memory, memory.open() as file:
        structure = file.tags(ns="IMAGE_STRUCTURE")
        colours = file.colormap(1) if file.colorinterp[0].name == "palette" else None
        return {
            "pixels": file.read().tolist(), "profile": dict(file.profile), "colours": colours,
            "names": file.descriptions, "scales": file.scales, "offsets": file.offsets,
            "tags": [file.tags(), *(file.tags(i) for i in file.indexes)],
            "interpretation": file.colorinterp, "structure": structure, "mask": file.mask_flag_enums,
        }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.dtype)
def test_rasterio_sees_no_difference_from_gdals(kind: Template) -> None:
    image = noise(kind)
    ours = tiff.write(GRID, image, 9, kind)
    assert ours is not None
    assert seen(ours) == seen(kind(GRID, image))


def test_a_template_serves_every_place_of_its_crs() -> None:
    kind = KINDS[0]
    moved = Grid(GRID.crs, Affine(0.25, 0, -1234.5678901234567, 0, -0.5, 1e7 / 3), 40, 30)
    other = Grid("EPSG:3413", GRID.transform, 40, 30)
    for grid in (GRID, moved, other, GRID):
        ours = tiff.write(grid, noise(kind), 9, kind)
        assert ours is not None
        assert seen(ours) == seen(kind(grid, noise(kind)))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.dtype)
@pytest.mark.parametrize("by_gdal", [False, True])
def test_what_is_written_is_read(kind: Template, by_gdal: bool) -> None:
    image = noise(kind, 1)
    data = kind(GRID, image) if by_gdal else tiff.write(GRID, image, 3, kind)
    assert data is not None
    found = tiff.layout(data)
    assert found is not None
    assert (found.shape, found.dtype) == (image.shape, image.dtype)
    out = np.empty_like(image)
    tiff.read_into(data, found, out)
    np.testing.assert_array_equal(out, image)


def test_physical_values_are_those_of_double_precision() -> None:
    kind = KINDS[2]
    image = noise(kind, 2)
    data = kind(GRID, image)
    found = tiff.layout(data)
    assert found is not None
    out = np.empty(image.shape, np.float32)
    scale, offset = np.array([2.75e-05]), np.array([-0.2])
    tiff.read_into(data, found, np.empty_like(image), (scale, offset, out))
    np.testing.assert_array_equal(out, (image * 2.75e-05 - 0.2).astype(np.float32))


def test_what_is_not_for_us_is_left_to_gdal(make: Make) -> None:
    kind, image = KINDS[0], noise(KINDS[0])
    assert tiff.write(GRID, image.astype(np.float32), 9, kind) is None
    assert tiff.write(GRID, image.astype(np.int32), 9, kind) is None
    for more in (
        {"compress": "deflate", "predictor": 2}, {"compress": "zstd"}, {"dtype": "float32"},
        {"compress": "zstd", "predictor": 2, "interleave": "pixel"},
        {"compress": "zstd", "predictor": 2, "tiled": True, "blockxsize": 16, "blockysize": 16},
        {"compress": "zstd", "predictor": 2, "blockysize": 8}, {"BIGTIFF": "YES"},
    ):  # fmt: skip
        with MemoryFile() as memory:
            profile = {"dtype": "uint16", "driver": "GTiff", "interleave": "band", **more}
            with memory.open(
                width=40, height=30, count=2, crs=GRID.crs, transform=GRID.transform, **profile
            ) as file:
                file.write(image)
            assert tiff.layout(bytes(memory.getbuffer())) is None, more
    assert tiff.layout(b"") is None
    assert tiff.layout(b"<html>no TIFF</html>") is None


def test_no_byte_of_a_strip_changes_unnoticed(make: Make) -> None:
    data = encode(make()[0])["image.tif"]
    found = tiff.layout(data)
    assert found is not None
    out = np.empty(found.shape, found.dtype)
    rng = np.random.default_rng(0)
    for start, length in found.strips:
        for at in [start + 4, start + length - 1, *rng.integers(start, start + length, 20)]:
            changed = bytearray(data)
            changed[at] ^= 1 << int(rng.integers(8))
            with pytest.raises(ValueError, match="strip"):
                tiff.read_into(bytes(changed), found, out)
    with pytest.raises(ValueError, match="a strip ends at byte"):
        tiff.read_into(data[:-1], found, out)


def test_a_broken_head_is_no_layout_of_ours(make: Make) -> None:
    """Whatever it says, there is a layout of so many strips or none, and no other error."""
    data = encode(make()[0])["image.tif"]
    whole = tiff.layout(data)
    assert whole is not None
    n = int.from_bytes(data[8:10], "little")
    rng = np.random.default_rng(0)
    counts = [10 + 12 * i + 4 for i in range(n)]
    for at in [*counts, *rng.integers(0, 10 + 12 * n, 300)]:
        for value in (0, 1, 0xFFFFFFFF):
            changed = bytearray(data)
            changed[at : at + 4] = value.to_bytes(4, "little")
            found = tiff.layout(bytes(changed))
            assert found is None or len(found.strips) == found.shape[0] > 0
    emptied = bytearray(data)
    for at in counts:
        emptied[at : at + 4] = bytes(4)
    bands = next(at for at in counts if data[at - 4 : at - 2] == (277).to_bytes(2, "little"))
    emptied[bands : bands + 8] = (1).to_bytes(4, "little") + bytes(4)
    assert tiff.layout(bytes(emptied)) is None
