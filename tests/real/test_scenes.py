"""Scenes of real files: all cloud, over 180°, and HLS's own mask."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from affine import Affine
from rasterio.windows import from_bounds

from las_builder.access import ReadRequest
from las_builder.access.folders import index_folder
from las_builder.access.stac import StaticStac
from las_builder.catalogs import Catalogs
from las_builder.core.grid import Grid
from las_builder.core.options import Dates, Patch
from las_builder.core.types import Chip, GapReason, Site
from las_builder.scenes import Outcome, pin

pytestmark = pytest.mark.real
CATALOGS = Catalogs.load()


def catalogue(data: Path, home: Path, scene: dict[str, object]) -> StaticStac:
    (home / "index.yaml").write_text(
        yaml.safe_dump({"title": "one scene", "license": "CC0-1.0", "scenes": [scene]})
    )
    index_folder(data, home / "index.yaml", home / "catalogue", catalogs=CATALOGS)
    return StaticStac.at(str(home / "catalogue"))


def at(grid: Grid) -> Site:
    lon, lat = grid.centre_lonlat()
    return Site(
        id=grid.code(), subset="s", lon=lon, lat=lat, grid=grid, component="uniform",
        stratum="land", density=1.0, weight_km2=1.0, rank=0, primary=True, block=0, split="train",
    )  # fmt: skip


def chosen(access: StaticStac, imagery: str, sites: list[Site], **dates: object) -> list[Outcome]:
    found = Dates.model_validate({"period": "2015-01-01/2023-01-01", **dates})
    size = sites[0].grid.width
    return pin(access, CATALOGS.imagery(imagery), sites, dates=found, patch=Patch(size=size))


@pytest.mark.parametrize("composite", [None, "median", "best"])
def test_a_scene_that_is_all_cloud_gives_nothing(
    shared_data: Path, tmp_path: Path, composite: str | None
) -> None:
    folder = "landsat_c2l2/LC08_L2SP_005009_20150710_20200908_02_T2"
    stem = "LC08_L2SP_005009_20150710_20200908_02_T2"
    access = catalogue(
        shared_data, tmp_path,
        {
            "imagery": "landsat-c2-l2", "id": stem, "date": "2015-07-10", "cloud_cover": 100,
            "files": [
                {"path": f"{folder}/{stem}_{b}.TIF", "bands": [b]} for b in ("SR_B4", "QA_PIXEL")
            ],
        },
    )  # fmt: skip
    with rasterio.open(shared_data / folder / f"{stem}_SR_B4.TIF") as file:
        a, e = file.transform.a, -file.transform.e
        west, north = file.transform @ (file.width // 2 - 50, file.height // 2 - 50)
        grids = [
            Grid(
                f"EPSG:{file.crs.to_epsg()}", Affine(a, 0, west + a * 40 * i, 0, -e, north), 32, 32
            )
            for i in range(3)
        ]
    sites = [at(grid) for grid in grids]
    asked = {} if composite is None else {"composite": composite}
    for limit, reason in ((20, GapReason.NO_SCENE), (100, GapReason.TOO_CLOUDY)):
        for outcome in chosen(
            access, "landsat-c2-l2", sites, max_cloud=limit, patch_min_clear=0.3, **asked
        ):
            assert outcome.gap is not None
            assert outcome.gap.reason is reason
            assert outcome.counts.get("cloudy", 0) == (limit == 100)


def test_a_median_of_slovenia_leaves_its_cloudy_dates_out(
    shared_data: Path, tmp_path: Path
) -> None:
    """Pixels of 9.995 x 9.997 m and reflectance in floating point, as the five dates come."""
    here = Path(__file__).parent
    catalogs = Catalogs.load(here / "catalogs")
    index_folder(shared_data, here / "slovenia" / "index.yaml", tmp_path / "out", catalogs=catalogs)
    access, imagery = StaticStac.at(str(tmp_path / "out")), catalogs.imagery("slovenia-s2-l1c")
    (first, *_) = access.sites(imagery, []) or []
    grid = Grid(first.grid.crs, first.grid.transform, 96, 100)
    asked = Dates.model_validate(
        {"period": "2015-01-01/2016-01-01", "composite": "median", "patch_min_clear": 0.9}
    )
    (outcome,) = pin(
        access, imagery, [at(grid)], dates=asked, patch=Patch(size=100, lattice="source")
    )
    (one,) = outcome.pinned
    days = sorted(f"{scene.datetime:%Y-%m-%d}" for scene in one.scene.members)
    assert days == ["2015-07-11", "2015-08-30", "2015-09-09"]
    request = ReadRequest(site="a", scene=one.scene, grid=one.grid, bands=("B04", "B08"))
    (chip,) = access.read(imagery, [request])
    assert isinstance(chip, Chip)
    folder = shared_data / "s2_lulc_pairs" / "eolearn_slovenia"
    numbers, masks = [], []
    for day in days:
        with rasterio.open(folder / f"S2L1C_{day}.tif") as file:
            numbers.append(file.read([4, 8], window=((0, 100), (0, 96))))
        with rasterio.open(folder / f"CLM_{day}.tif") as file:
            masks.append(file.read(1, window=((0, 100), (0, 96))) == 0)
    assert np.all(masks), "the three are clear all over, so the median is that of three"
    assert np.array_equal(chip.data, np.median(np.stack(numbers), axis=0))
    assert chip.inside.all()
    assert not chip.resampled


def test_patches_over_180_degrees_see_what_the_file_says(shared_data: Path, tmp_path: Path) -> None:
    path = "edge_cases/landsat_qa_pixel_dateline_100m.tif"
    access = catalogue(
        shared_data, tmp_path,
        {
            "imagery": "landsat-c2-l2", "id": "dateline", "date": "2021-06-01", "cloud_cover": 90,
            "files": [{"path": path, "bands": ["QA_PIXEL"]}, {"path": path, "bands": ["SR_B4"]}],
        },
    )  # fmt: skip
    with rasterio.open(shared_data / path) as file:
        t, (height, width) = file.transform, file.shape
        whole = Grid("EPSG:32660", t, width, height)
        x, _ = np.meshgrid(np.arange(0, width - 32, 32), [0])
        grids = [
            Grid("EPSG:32660", Affine(t.a, 0, t.c + c * t.a, 0, t.e, t.f + r * t.e), 32, 32)
            for c in x[0].tolist() for r in range(0, height - 32, 32)
        ]  # fmt: skip
        over = [
            g for g in grids
            if np.ptp(g.outline_lonlat()[:, 0]) > 180 and whole.contains(g)
        ]  # fmt: skip
        assert len(over) > 20
        wanted = []
        for grid in over:
            qa = file.read(1, window=from_bounds(*grid.bounds, transform=t))
            wanted.append(((qa & 0b11111) == 0).mean())
    found = chosen(access, "landsat-c2-l2", [at(g) for g in over], patch_min_clear=0.05)
    assert len({site.site for site in found}) == len(over)
    for outcome, grid, want in zip(found, over, wanted, strict=True):
        if want >= 0.05:
            (one,) = outcome.pinned
            assert one.clear == pytest.approx(want, abs=1e-6)
            assert one.grid == grid
        else:
            assert outcome.gap is not None
            assert outcome.gap.reason is GapReason.TOO_CLOUDY
    assert 0 < sum(o.gap is None for o in found) < len(found)


def test_hls_is_seen_by_its_own_mask(shared_data: Path, tmp_path: Path) -> None:
    path = "edge_cases/hls_s30_t38pmb_fmask.tif"
    with rasterio.open(shared_data / path) as file:
        fmask, t = file.read(1), file.transform
    red = tmp_path / "data" / "red.tif"
    red.parent.mkdir()
    (tmp_path / "data" / "edge_cases").symlink_to(shared_data / "edge_cases")
    profile = {"driver": "GTiff", "count": 1, "dtype": "int16", "nodata": -9999}
    with rasterio.open(
        red, "w", height=224, width=224, crs="EPSG:32638", transform=t, **profile
    ) as out:
        out.write(np.full((1, 224, 224), 1000, np.int16))
    access = catalogue(
        tmp_path / "data", tmp_path,
        {
            "imagery": "hls2-s30", "id": "HLS.S30.T38PMB", "date": "2022-05-25",
            "files": [{"path": "red.tif", "bands": ["B04"]}, {"path": path, "bands": ["Fmask"]}],
        },
    )  # fmt: skip
    grids = [
        Grid("EPSG:32638", Affine(30, 0, t.c + 960 * c, 0, -30, t.f - 960 * r), 32, 32)
        for r in range(7) for c in range(7)
    ]  # fmt: skip
    for i, outcome in enumerate(chosen(access, "hls2-s30", [at(g) for g in grids])):
        r, c = divmod(i, 7)
        part = fmask[32 * r : 32 * r + 32, 32 * c : 32 * c + 32].astype(int)
        (one,) = outcome.pinned
        assert one.clear == pytest.approx(((part & 0b1110) == 0).mean(), abs=1e-6)
        assert one.scene.datetime == datetime(2022, 5, 25, 12, tzinfo=UTC)
        assert CATALOGS.imagery("hls2-s30").lattice.holds("EPSG:32638", one.grid.transform)
