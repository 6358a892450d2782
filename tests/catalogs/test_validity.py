"""Where the surface was seen: real masks bit by bit, thresholds, days of silence, models; and numbers
that need the sun.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import rasterio
from affine import Affine

from las_builder.access import ReadRequest, SearchRequest
from las_builder.access.cloudmask import omnicloudmask, with_masks
from las_builder.access.earth_engine.images import entries_of
from las_builder.access.items import scene_of
from las_builder.access.virtual import VirtualEarth
from las_builder.catalogs import Catalogs, Imagery
from las_builder.core.grid import Grid
from las_builder.core.types import Chip, Gap, GapReason, Period, Scene
from las_builder.errors import SourceError, StacError

CATALOGS = Catalogs.load()


@pytest.mark.parametrize(
    ("imagery", "file", "bad", "fill", "share"),
    [
        ("hls2-s30", "hls_s30_t38pmb_fmask.tif", (1, 2, 3), 255, 0.975),
        ("hls2-l30", "hls_s30_t38pmb_fmask.tif", (1, 2, 3), 255, 0.975),
        ("landsat-c2-l2", "landsat_qa_pixel_dateline_100m.tif", (0, 1, 2, 3, 4), 1, 0.434),
        ("landsat-c2-l1", "landsat_qa_pixel_dateline_100m.tif", (0, 1, 2, 3, 4), 1, 0.434),
    ],
)
def test_bits_of_real_masks(
    shared_data: Path, imagery: str, file: str, bad: tuple[int, ...], fill: int, share: float
) -> None:
    with rasterio.open(shared_data / "edge_cases" / file) as source:
        qa = source.read(1)
    clear = CATALOGS.imagery(imagery).validity.decode(qa)
    for value in np.unique(qa).tolist():
        bits = f"{value:016b}"[::-1]
        want = value != fill and all(bits[bit] == "0" for bit in bad)
        assert (clear[qa == value] == want).all(), value
    assert clear.mean() == pytest.approx(share, abs=0.002)


def test_scores_and_bits_of_sentinel_2() -> None:
    l1c = CATALOGS.imagery("sentinel-2-l1c")
    score = l1c.seen_by("cloud-score-plus").validity
    qa = np.array([0.0, 0.59, 0.6, 1.0, np.nan], np.float64)
    assert score.decode(qa).tolist() == [False, False, True, True, False]
    qa60 = l1c.seen_by("qa60").validity
    codes = np.array([0, 1, 1 << 10, 1 << 11, 3 << 10, 512], np.uint16)
    assert qa60.decode(codes).tolist() == [True, True, False, False, False, True]
    days = {date(2022, 1, 24): True, date(2022, 1, 25): False, date(2024, 2, 28): False,
            date(2024, 2, 29): True}  # fmt: skip
    for day, speaks in days.items():
        assert qa60.speaks_of(datetime(*day.timetuple()[:3], 23, 59, tzinfo=UTC)) == speaks
    assert score.speaks_of(datetime(2023, 1, 1, tzinfo=UTC))
    with pytest.raises(KeyError):
        l1c.seen_by("fmask")


def look(imagery: Imagery) -> tuple[VirtualEarth, Scene, Grid]:
    """A place of the virtual Earth under a broken sky."""
    earth = VirtualEarth(CATALOGS)
    grid = imagery.lattice.grid_at(18.6, -33.5, 264 if imagery.gsd == 10 else 88)
    period = Period.parse("2021-01-01/2022-01-01")
    request = SearchRequest(site="a", grid=grid, period=period, max_cloud=60)
    (scenes,) = earth.search(imagery, [request])
    whole = [s for s in scenes if s.grid.crs == grid.crs and s.grid.contains(grid)]
    return earth, max(whole, key=lambda s: s.cloud_cover or 0), grid


def seen(earth: VirtualEarth, imagery: Imagery, scene: Scene, grid: Grid) -> np.ndarray:
    band = imagery.validity.band
    assert band is not None
    request = ReadRequest(site="a", scene=scene, grid=grid, bands=(band,), categorical=True)
    (chip,) = earth.read(imagery, [request])
    assert isinstance(chip, Chip)
    return imagery.validity.decode(chip.data[0])


def test_masks_of_the_virtual_earth_agree_on_one_sky() -> None:
    l2a = CATALOGS.imagery("sentinel-2-l2a")
    earth, scene, grid = look(l2a)
    scl = seen(earth, l2a, scene, grid)
    assert 0.05 < scl.mean() < 0.95
    score = seen(earth, l2a.seen_by("cloud-score-plus"), scene, grid)
    assert (scl == score).mean() > 0.85
    qa60 = seen(earth, l2a.seen_by("qa60"), scene, grid)
    assert (qa60 | ~scl).mean() > 0.97  # it knows no shadows, so it calls more clear
    hls = CATALOGS.imagery("hls2-s30")
    assert seen(*look(hls)[:1], hls, *look(hls)[1:]).mean() < 1


def test_a_model_is_asked_for_red_green_and_infrared(monkeypatch: pytest.MonkeyPatch) -> None:
    imagery = CATALOGS.imagery("sentinel-2-l2a").seen_by("omnicloudmask")
    asked: list[tuple[np.ndarray, dict[str, int]]] = []

    def predict(data: np.ndarray, **more: int) -> np.ndarray:
        asked.append((data, more))
        return np.where(data[:1] > 3000, 1, np.where(data[2:] < 100, 3, 0)).astype(np.uint8)

    module = ModuleType("omnicloudmask")
    vars(module)["predict_from_array"] = predict
    monkeypatch.setitem(sys.modules, "omnicloudmask", module)
    earth, scene, grid = look(imagery)
    image = ReadRequest(site="a", scene=scene, grid=grid, bands=("B04", "B03", "B08"))
    (bands,) = earth.read(imagery, [image])
    mask = ReadRequest(site="a", scene=scene, grid=grid, bands=("omnicloudmask",), categorical=True)
    (chip,) = earth.read(imagery, [mask])
    assert isinstance(chip, Chip)
    assert isinstance(bands, Chip)
    assert np.array_equal(asked[0][0], np.where(bands.inside, bands.data, 0).astype(np.float32))
    assert asked[0][1] == {"patch_size": 264, "patch_overlap": 132}
    small = omnicloudmask(np.full((3, 20, 40), 5000, np.float32))
    assert small.shape == (20, 40)
    assert (small == 1).all()
    assert asked[-1][0].shape == (3, 32, 40)
    want = (bands.data[0] <= 3000) & (bands.data[2] >= 100)
    assert np.array_equal(imagery.validity.decode(chip.data[0]), want)
    assert 0 < want.mean() < 1
    # Composites see through it too.
    whole = Scene.of("best", [scene])
    (made,) = earth.read(imagery, [ReadRequest(site="a", scene=whole, grid=grid, bands=("B04",))])
    assert isinstance(made, Chip)
    assert np.array_equal(made.inside, want & bands.inside)


def test_looks_at_a_mask_that_is_made_share_their_reads() -> None:
    imagery = CATALOGS.imagery("sentinel-2-l2a").seen_by("omnicloudmask")
    asked: list[ReadRequest] = []

    def nothing(imagery: Imagery, requests: Sequence[ReadRequest]) -> list[Chip | Gap]:
        del imagery
        asked.extend(requests)
        return [Gap(r.site, GapReason.NOT_COVERED) for r in requests]

    _, scene, grid = look(imagery)
    mask = ReadRequest(
        site="a", scene=scene, grid=grid, bands=("omnicloudmask",), categorical=True, shared=True
    )
    with_masks(nothing, imagery)(imagery, [mask])
    assert asked == [replace(mask, bands=("B04", "B03", "B08"), categorical=False)]


def test_a_model_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "omnicloudmask", None)
    with pytest.raises(SourceError, match=r"dates\.validity.*pip install omnicloudmask"):
        omnicloudmask(np.ones((3, 8, 8), np.float32))


# ---- Landsat Level-1: numbers and the sun


def test_level_1_of_landsat_becomes_reflectance_by_the_sun(shared_data: Path) -> None:
    imagery = CATALOGS.imagery("landsat-c2-l1")
    text = (shared_data / "landsat8_l1_alabama" / "l8_MTL.txt").read_text()
    said = {k: float(v) for k, v in re.findall(r"(\w+) = (-?[\d.]+(?:E-?\d+)?)\n", text)}
    elevation = said["SUN_ELEVATION"]
    grid = Grid("EPSG:32616", Affine(30, 0, 452475, 0, -30, 3408645), 512, 512)
    scene = Scene(
        id="l8", datetime=datetime(2015, 8, 4, tzinfo=UTC), cloud_cover=60.0, grid=grid, assets={},
        properties={"view:sun_elevation": elevation},
    )  # fmt: skip
    for number in (2, 3, 4, 5, 6, 7):
        with rasterio.open(shared_data / "landsat8_l1_alabama" / f"l8_B{number}.tif") as file:
            dn = file.read(1).astype(float)
            assert imagery.lattice.holds("EPSG:32616", file.transform)
        gain, bias = (said[f"REFLECTANCE_{what}_BAND_{number}"] for what in ("MULT", "ADD"))
        want = (gain * dn + bias) / math.sin(math.radians(elevation))
        scale, offset = imagery.radiometry(scene, f"B{number}")
        assert np.abs(dn * scale + offset - want).max() < 1e-6
        assert 0 < want.mean() < 1


@pytest.mark.parametrize("above", [None, 0, -3.0, 91, "high"])
def test_level_1_without_the_sun_names_the_field(above: object) -> None:
    imagery = CATALOGS.imagery("landsat-c2-l1")
    properties = {} if above is None else {"view:sun_elevation": above}
    scene = SimpleNamespace(id="LC08_x", members=(), assets={}, properties=properties)
    with pytest.raises(StacError, match=r"view:sun_elevation"):
        imagery.radiometry(scene, "B4")


def test_images_of_earth_engine_say_where_the_sun_was() -> None:
    imagery = CATALOGS.imagery("landsat-c2-l1")
    name, where = "LANDSAT/LC08/C02/T1/LC08_020039_20150804", imagery.where[0]
    place = {"crs": "EPSG:32616", "crs_transform": [30, 0, 452475, 0, -30, 3408645]}
    said = {
        "id": name,
        "properties": {
            "system:index": "LC08_020039_20150804", "system:time_start": 1438704000000,
            "CLOUD_COVER": 41.2, "SUN_ELEVATION": 30.0,
        },
        "bands": [{"id": b, "dimensions": [512, 512], **place} for b in ("B4", "QA_PIXEL")],
    }  # fmt: skip
    (entry,) = entries_of(said, imagery, where)
    scene = scene_of(entry, imagery)
    assert scene.cloud_cover == 41.2
    assert imagery.radiometry(scene, "B4") == (0.00004, -0.2), "the sine of 30 degrees is a half"
    del said["properties"]["SUN_ELEVATION"]
    (entry,) = entries_of(said, imagery, where)
    with pytest.raises(StacError, match=r"view:sun_elevation"):
        imagery.radiometry(scene_of(entry, imagery), "B4")


def test_one_imager_has_one_set_of_wavelengths() -> None:
    l2 = {b.common_name: b for b in CATALOGS.imagery("landsat-c2-l2").bands}
    for name in ("landsat-c2-l1", "hls2-l30"):
        for band in CATALOGS.imagery(name).bands:
            if band.common_name != "cirrus":
                assert band.center_wavelength == l2[band.common_name].center_wavelength
                assert band.full_width_half_max == l2[band.common_name].full_width_half_max
