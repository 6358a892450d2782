"""Real rasters as images of Earth Engine: what comes back is what rasterio reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from ee_kit import anew
from ee_replica import home
from kit_loopback import serve
from rasterio.windows import Window

from las_builder.access import LabelRequest, ReadRequest, SearchRequest, raster
from las_builder.access.earth_engine import EarthEngine
from las_builder.catalogs import Catalogs, Imagery
from las_builder.core.grid import Grid, from_lonlat
from las_builder.core.types import Chip, LabelSource, Period, Scene

SCENE = "LC08_L2SP_017036_20130419_20200913_02_T2"
BANDS = tuple(f"SR_B{k}" for k in (2, 3, 4, 5, 6, 7))
WORLDCOVER = "ESA_WorldCover_10m_2021_v200_N00E006_Map.tif"


def imagery() -> Imagery:
    real = Catalogs.load().imagery("landsat-c2-l2")
    return real.model_copy(update={"bands": [b for b in real.bands if b.name in BANDS]})


@pytest.fixture
def engine(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[EarthEngine]:
    (tmp_path / "data").symlink_to(shared_data)
    folder = f"data/landsat_c2l2/{SCENE}/{SCENE}"
    bands = [{"id": b, "file": f"{folder}_{b}.TIF"} for b in (*BANDS, "QA_PIXEL")]
    assets: dict[str, Any] = {
        "LANDSAT/LC08/C02/T1_L2": {"type": "IMAGE_COLLECTION"},
        "LANDSAT/LC09/C02/T1_L2": {"type": "IMAGE_COLLECTION"},
        "LANDSAT/LC08/C02/T1_L2/LC08_017036_20130419": {
            "type": "IMAGE", "bands": bands,
            "properties": {"system:time_start": 1366387200000, "CLOUD_COVER": 50},
        },
        "ESA/WorldCover/v200": {"type": "IMAGE_COLLECTION"},
        "ESA/WorldCover/v200/2021": {
            "type": "IMAGE", "bands": [{"id": "Map", "file": f"data/worldcover/{WORLDCOVER}"}],
            "properties": {"system:time_start": 1609459200000, "system:time_end": 1640995200000},
        },
    }  # fmt: skip
    (tmp_path / "earth_engine.json").write_text(
        json.dumps({"assets": assets, "projects": {"good": ""}})
    )
    server = serve(tmp_path)
    monkeypatch.setenv("HOME", str(home(tmp_path)))
    monkeypatch.setenv("LAS_MIRRORS", server.mirrors)
    monkeypatch.setenv("LAS_EE_PROFILE", "0")
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    anew()
    yield EarthEngine(Catalogs.load().earth_engine)
    anew()
    server.stop()


@pytest.mark.real
def test_a_landsat_scene_and_its_composite(engine: EarthEngine, shared_data: Path) -> None:
    folder = shared_data / "landsat_c2l2" / SCENE
    layers = {b: rasterio.open(folder / f"{SCENE}_{b}.TIF") for b in (*BANDS, "QA_PIXEL")}
    first = layers["SR_B4"]
    size = min(96, first.width, first.height)
    at = first.transform @ Affine.translation(
        first.width // 2 - size // 2, first.height // 2 - size // 2
    )
    grid = Grid(f"EPSG:{first.crs.to_epsg()}", Affine(*tuple(at)[:6]), size, size)
    window = Window(first.width // 2 - size // 2, first.height // 2 - size // 2, size, size)
    want = {name: layer.read(1, window=window) for name, layer in layers.items()}
    asked = SearchRequest(
        site="s", grid=grid, period=Period.parse("2013-01-01/2014-01-01"), max_cloud=60
    )
    (scene,) = engine.search(imagery(), [asked])[0]
    assert scene.id == "LC08_017036_20130419"
    assert scene.cloud_cover == 50
    chip, qa = engine.read(
        imagery(),
        [ReadRequest(site="s", scene=scene, grid=grid, bands=BANDS),
         ReadRequest(site="s", scene=scene, grid=grid, bands=("QA_PIXEL",), categorical=True)],
    )  # fmt: skip
    assert isinstance(chip, Chip)
    assert isinstance(qa, Chip)
    np.testing.assert_array_equal(chip.data, [want[b] for b in BANDS])
    np.testing.assert_array_equal(chip.inside, np.all([want[b] != 0 for b in BANDS], axis=0))
    np.testing.assert_array_equal(qa.data[0][qa.inside], want["QA_PIXEL"][qa.inside])
    clear = chip.inside & imagery().validity.decode(want["QA_PIXEL"]) & (want["QA_PIXEL"] != 0)
    (whole,) = engine.read(
        imagery(),
        [ReadRequest(site="s", scene=Scene.of("median", [scene]), grid=grid, bands=BANDS)],
    )
    if not clear.any():
        assert not isinstance(whole, Chip)
        return
    assert isinstance(whole, Chip)
    np.testing.assert_array_equal(whole.inside, clear)
    np.testing.assert_array_equal(whole.data, np.where(clear, chip.data, 0))


@pytest.mark.real
def test_a_window_of_worldcover(engine: EarthEngine, shared_data: Path) -> None:
    file = shared_data / "worldcover" / WORLDCOVER
    with rasterio.open(file) as source:
        lon, lat = source.transform @ (source.width * 0.4, source.height * 0.6)
    x, y = from_lonlat("EPSG:32632", np.array([lon]), np.array([lat]))
    grid = Grid("EPSG:32632", Affine(10, 0, round(float(x[0])), 0, -10, round(float(y[0]))), 40, 40)
    when = datetime(2021, 6, 1, tzinfo=UTC)
    scene = Scene(id="s", datetime=when, cloud_cover=None, grid=grid, assets={})
    product = Catalogs.load().label("esa-worldcover-v200")
    (found,) = engine.labels(product, [LabelRequest(site="s", grid=grid, scene=scene)])
    (want,) = raster.read_around(grid, str(file))
    assert isinstance(found, LabelSource)
    np.testing.assert_array_equal(found.codes, want.data)
    assert found.grid == want.grid
    assert len(np.unique(found.codes)) > 0
