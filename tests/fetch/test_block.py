"""Blocks into the cube: whole or not at all, the same bytes however often."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from fetch_kit import BANDS, SIZE, FakeAccess, job, numbers, patches

from las_builder.catalogs import Catalogs
from las_builder.core.workspace import sha256_tree
from las_builder.errors import AccessError
from las_builder.fetch import (
    BLOCK_BYTES,
    CubeLayout,
    blocks_of,
    create_round,
    fetch_block,
    open_cube,
    read_manifest,
)


def test_a_block_is_at_most_96_mib_of_raw_pixels() -> None:
    catalogs = Catalogs.load()
    real = CubeLayout(
        imagery=catalogs.imagery("sentinel-2-l2a"),
        bands=tuple(b.name for b in catalogs.imagery("sentinel-2-l2a").bands),
        products=(catalogs.label("esa-worldcover-v200"),), height=264, width=264,
    )  # fmt: skip
    assert real.block_patches == 32
    huge = replace(real, height=1024, width=1024)
    assert huge.block_patches * huge.patch_bytes <= BLOCK_BYTES
    assert (huge.block_patches + 1) * huge.patch_bytes > BLOCK_BYTES
    assert real.patch_bytes >= 264 * 264 * (len(real.bands) * 2 + 1 + 1)


def test_every_row_is_in_exactly_one_block(layout: CubeLayout, small_blocks: int) -> None:
    rows = [r for b in blocks_of(0, 10, layout) for r in range(b.start, b.stop)]
    assert rows == list(range(10))


def test_xarray_reads_the_cube_without_us(
    tmp_path: Path, layout: CubeLayout, small_blocks: int
) -> None:
    rows = patches(10)
    create_round(tmp_path / "cube.zarr" / "0", rows, layout)
    for n in (2, 0, 1):
        fetch_block(job(tmp_path, layout, rows, n))
    cube = xr.open_zarr(tmp_path / "cube.zarr" / "0", consolidated=False)
    labels = xr.open_zarr(tmp_path / "cube.zarr" / "0", group="labels", consolidated=False)
    assert cube["image"].dims == ("patch", "band", "y", "x")
    assert cube["image"].dtype == np.uint16
    assert list(cube["band"].values) == list(BANDS)
    assert cube["time"].dtype.kind == "M"
    classes = layout.products[0]
    codes = np.array([c.value for c in classes.classes if c.means])
    for i, row in enumerate(rows):
        got = cube.isel(patch=i)
        for k in range(3):
            np.testing.assert_array_equal(got["image"][k].values, numbers(row.grid, k))
        want = codes[numbers(row.grid, 0) % len(codes)]
        np.testing.assert_array_equal(labels["esa-worldcover-v200"][i].values, want)
        assert not bool(got["valid"][0, 0])  # cloud
        assert not bool(got["valid"][-1, -1])  # outside
        assert int(got["valid"].sum()) == SIZE * SIZE - 2
        assert Affine(*got["transform"].values) == row.grid.transform
        assert str(got["crs"].values) == row.grid.crs
        assert str(got["site"].values) == row.site
        # The offset of baseline 04.00 is metadata, once, beside numbers that are the provider's.
        assert float(got["offset"][0]) == (-0.1 if i % 3 else 0.0)
    cube.close()
    labels.close()


def test_one_object_a_block_and_the_manifest_comes_last(
    tmp_path: Path, layout: CubeLayout, small_blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = patches(10)
    create_round(tmp_path / "cube.zarr" / "0", rows, layout)
    first = job(tmp_path, layout, rows, 0)

    def die(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("las_builder.fetch.block.write_json", die)
        with pytest.raises(KeyboardInterrupt):
            fetch_block(first)
    assert not first.manifest.exists()
    left = first.group / "image" / "c" / "0" / "0" / "0" / f"0.{'a' * 32}.partial"
    left.write_bytes(b"what Zarr leaves when it is killed")
    fetch_block(first)
    assert not left.exists()
    objects = sorted(
        p.relative_to(first.group / "image").as_posix()
        for p in (first.group / "image").rglob("c/**/0")
        if p.is_file()
    )
    assert objects == ["c/0/0/0/0"]
    checksums = json.loads(first.manifest.read_text())["checksums"]
    assert {"image", "valid", "stored", "labels/esa-worldcover-v200"} <= set(checksums)


def test_twice_gives_the_same_bytes_and_done_is_left_alone(
    tmp_path: Path, layout: CubeLayout, small_blocks: int
) -> None:
    rows = patches(10)
    digests = []
    for home, order in ((tmp_path / "a", (0, 1, 2)), (tmp_path / "b", (2, 1, 0))):
        create_round(home / "cube.zarr" / "0", rows, layout)
        for n in order:
            fetch_block(job(home, layout, rows, n))
        digests.append(sha256_tree(home))
        assert fetch_block(job(home, layout, rows, 0, access=None)) == read_manifest(
            job(home, layout, rows, 0).manifest
        )
        assert sha256_tree(home) == digests[-1]
    assert digests[0] == digests[1]


def test_gaps_are_recorded_and_leave_empty_rows(tmp_path: Path, layout: CubeLayout) -> None:
    rows = patches(4)
    create_round(tmp_path / "cube.zarr" / "0", rows, layout)
    access = FakeAccess(no_label=("site-1",), cloudy=("site-2",))
    results = fetch_block(job(tmp_path, layout, rows, access=access))
    assert [(r.state, r.reason) for r in results] == [
        ("stored", ""), ("gap", "no-label"), ("gap", "not-covered"), ("stored", ""),
    ]  # fmt: skip
    cube = open_cube(tmp_path / "cube.zarr")
    assert list(cube["site"].values) == ["site-0", "site-3"]
    assert cube["labels/esa-worldcover-v200"].shape == (2, SIZE, SIZE)
    cube.close()


def test_a_product_that_is_only_compared_may_be_missing(tmp_path: Path, layout: CubeLayout) -> None:
    rows = patches(1)
    create_round(tmp_path / "cube.zarr" / "0", rows, layout)
    access = FakeAccess(no_product="io-lulc-annual")
    results = fetch_block(job(tmp_path, layout, rows, access=access))
    assert results[0].state == "stored"
    assert set(results[0].versions or {}) == {"esa-worldcover-v200"}
    cube = open_cube(tmp_path / "cube.zarr")
    assert (cube["labels/io-lulc-annual"].values == layout.products[1].nodata).all()
    cube.close()


def test_failure_leaves_the_block_undone_unless_given_up(
    tmp_path: Path, layout: CubeLayout
) -> None:
    rows = patches(3)
    create_round(tmp_path / "cube.zarr" / "0", rows, layout)
    broken = job(tmp_path, layout, rows, access=FakeAccess(fails=("site-1",)))
    with pytest.raises(AccessError, match="503"):
        fetch_block(broken)
    assert not broken.manifest.exists()
    results = fetch_block(replace(broken, give_up=True))
    assert [r.state for r in results] == ["stored", "failed", "stored"]


def test_a_round_is_made_once(tmp_path: Path, layout: CubeLayout) -> None:
    create_round(tmp_path / "0", patches(3), layout)
    before = sha256_tree(tmp_path)
    create_round(tmp_path / "0", patches(5), layout)
    assert sha256_tree(tmp_path) == before
