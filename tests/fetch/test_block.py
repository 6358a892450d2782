"""Blocks into the cube: whole or not at all, the same bytes however often."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from affine import Affine

from las_builder.access import LabelRequest, ReadRequest
from las_builder.catalogs import Catalogs, Imagery, LabelProduct
from las_builder.core.grid import Grid
from las_builder.core.types import (
    AssetRef,
    Chip,
    Gap,
    GapReason,
    LabelSource,
    PinnedScene,
    Scene,
)
from las_builder.core.workspace import sha256_tree
from las_builder.errors import AccessError
from las_builder.fetch import (
    BLOCK_BYTES,
    CubeLayout,
    FetchJob,
    blocks_of,
    create_round,
    fetch_block,
    open_cube,
    read_manifest,
)

SIZE = 24
BANDS = ("B02", "B05", "B01")


def numbers(grid: Grid, k: int) -> np.ndarray:
    """A different number for every pixel on the ground and band."""
    x, y = np.meshgrid(*grid.xy())
    return ((x // 10 * 31 + y // 10 * 17 + k * 7) % 65521).astype(np.uint16)


@dataclass(frozen=True)
class FakeAccess:
    """Imagery and labels by formula; some sites have no label, some fail."""

    no_label: tuple[str, ...] = ()
    no_product: str = ""
    fails: tuple[str, ...] = ()
    cloudy: tuple[str, ...] = ()
    name: str = "fake"
    synthetic: bool = True

    def read(self, imagery: Imagery, requests: Sequence[ReadRequest]) -> list[Chip | Gap]:
        chips: list[Chip | Gap] = []
        for r in requests:
            if r.site in self.fails:
                raise AccessError("fake", r.site, "503", retryable=True)
            if r.bands == ("SCL",):
                data = np.full((1, *r.grid.shape), 9 if r.site in self.cloudy else 4, np.uint8)
                data[0, 0, 0] = 9
            else:
                data = np.stack([numbers(r.grid, k) for k in range(len(r.bands))])
            inside = np.ones(r.grid.shape, bool)
            inside[-1, -1] = False
            chips.append(
                Chip(grid=r.grid, bands=r.bands, data=data, inside=inside, resampled=False)
            )
        return chips

    def labels(
        self, product: LabelProduct, requests: Sequence[LabelRequest]
    ) -> list[LabelSource | Gap]:
        codes = np.array([c.value for c in product.classes if c.means], product.dtype)
        return [
            Gap(r.site, GapReason.NO_LABEL, "not here")
            if r.site in self.no_label or product.name == self.no_product
            else LabelSource(
                product=product.name, version=f"{product.name}-v", grid=r.grid, nodata=product.nodata,
                codes=codes[numbers(r.grid, 0) % len(codes)],
            )
            for r in requests
        ]  # fmt: skip


@pytest.fixture(scope="module")
def layout() -> CubeLayout:
    catalogs = Catalogs.load()
    return CubeLayout(
        imagery=catalogs.imagery("sentinel-2-l2a"), bands=BANDS,
        products=(catalogs.label("esa-worldcover-v200"), catalogs.label("io-lulc-annual")),
        height=SIZE, width=SIZE,
    )  # fmt: skip


def patches(n: int) -> list[PinnedScene]:
    out = []
    for i in range(n):
        crs = ("EPSG:32633", "EPSG:32733")[i % 2]
        grid = Grid(crs, Affine(10, 0, 300000 + 600 * i, 0, -10, 5000040), SIZE, SIZE)
        scene = Scene(
            id=f"scene-{i}", datetime=datetime(2022, 6, 1 + i % 28, tzinfo=UTC), cloud_cover=1.0,
            grid=grid, assets={b: AssetRef(href="mem://x") for b in (*BANDS, "SCL")},
            properties={"s2:processing_baseline": "04.00" if i % 3 else "02.14"},
        )  # fmt: skip
        out.append(PinnedScene(site=f"site-{i}", slot=0, scene=scene, grid=grid, clear=1.0))
    return out


def job(home: Path, layout: CubeLayout, rows: list[PinnedScene], n: int = 0, **more) -> FetchJob:
    block = blocks_of(0, len(rows), layout)[n]
    settings = {
        "block": block, "patches": tuple(rows[block.start : block.stop]), "layout": layout,
        "required": frozenset({"esa-worldcover-v200"}), "access": FakeAccess(),
        "group": home / "cube.zarr" / "0", "manifest": home / "blocks" / f"{block.name}.json",
        "min_clear": 0.5, **more,
    }  # fmt: skip
    return FetchJob(**settings)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch, layout: CubeLayout) -> int:
    monkeypatch.setattr("las_builder.fetch.cube.BLOCK_BYTES", 4 * layout.patch_bytes + 5)
    return 4


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
