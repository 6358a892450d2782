"""`las index`: what a folder becomes, and what is refused before anything is written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
import yaml
from affine import Affine
from pystac.validation import validate_dict

from las_builder.access import LabelRequest, ReadRequest, open_access
from las_builder.access.folders import index_folder
from las_builder.catalogs import Catalogs
from las_builder.core.grid import Grid
from las_builder.core.workspace import sha256_tree
from las_builder.errors import (
    CatalogError,
    InputError,
    LegendError,
    RasterError,
    UnknownNameError,
    WorkspaceError,
)

S2 = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]


@pytest.fixture
def folder(write_tif, distinct, tmp_path: Path) -> Path:
    """A Sentinel-2 scene in two files, and a WorldCover map."""
    stack = np.stack([distinct(60, 50) + np.uint16(i) for i in range(len(S2))])
    write_tif("in/image.tif", stack, nodata=0)
    write_tif("in/scl.tif", np.full((30, 25), 4, "uint8"), pixel=20, nodata=0)
    codes = np.random.default_rng(0).choice([10, 30, 80], (60, 50)).astype("uint8")
    write_tif("in/map.tif", codes)
    return tmp_path / "in"


def config_of(**changes: Any) -> dict[str, Any]:
    files = [{"path": "image.tif", "bands": S2}, {"path": "scl.tif", "bands": ["SCL"]}]
    scene = {
        "imagery": "sentinel-2-l2a", "date": "2022-10-05", "cloud_cover": 12.5,
        "properties": {"s2:processing_baseline": "04.00"}, "files": files,
    }  # fmt: skip
    label = {
        "product": "esa-worldcover-v200", "start": "2021-01-01", "end": "2021-12-31",
        "file": "map.tif",
    }  # fmt: skip
    said: dict[str, Any] = {
        "title": "A test",
        "license": "CC0-1.0",
        "scenes": [scene],
        "labels": [label],
    }
    for path, value in changes.items():
        *way, last = [int(k) if k.isdigit() else k for k in path.split("__")]
        at: Any = said
        for key in way:
            at = at[key]
        at[last] = value
    # Dates without quotes, as people write them.
    return yaml.safe_load(
        yaml.safe_dump(said)
        .replace("'20", "20")
        .replace("-31'", "-31")
        .replace("-01'", "-01")
        .replace("-05'", "-05")
    )


Indexer = Callable[..., Path]


@pytest.fixture
def index(folder: Path, tmp_path: Path) -> Indexer:
    """Index the folder with changes to the config: index(scenes__0__imagery="naip") -> out."""

    def run(out: str = "out", **changes: Any) -> Path:
        (folder / "index.yaml").write_text(yaml.safe_dump(config_of(**changes)))
        index_folder(folder, None, tmp_path / out)
        return tmp_path / out

    return run


def test_a_folder_becomes_a_catalogue_that_is_read_back(index, distinct) -> None:
    out = index()
    access = open_access(str(out))
    catalogs = Catalogs.load()
    imagery, product = catalogs.imagery("sentinel-2-l2a"), catalogs.label("esa-worldcover-v200")
    access.check(imagery, [b.name for b in imagery.bands], [product])
    (scene,) = access.sites(imagery, [product])
    assert scene.grid == Grid("EPSG:32632", Affine(10, 0, 600000, 0, -10, 5000040), 50, 60)
    assert scene.datetime.isoformat() == "2022-10-05T12:00:00+00:00"
    assert scene.cloud_cover == 12.5
    assert imagery.radiometry(scene, "B04") == (0.0001, -0.1), "baseline 04.00, by the declaration"
    (chip,) = access.read(imagery, [
        ReadRequest(site="p", scene=scene, grid=scene.grid, bands=("B01", "B12", "SCL"))
    ])  # fmt: skip
    np.testing.assert_array_equal(chip.data[0], distinct(60, 50))
    np.testing.assert_array_equal(chip.data[1], distinct(60, 50) + 11)
    assert (chip.data[2] == 4).all()
    (label,) = access.labels(product, [LabelRequest(site="p", grid=scene.grid, scene=scene)])
    with rasterio.open(out.parent / "in" / "map.tif") as file:
        np.testing.assert_array_equal(label.codes, file.read(1))


def test_it_is_valid_stac_and_asks_for_no_server(index) -> None:
    out = index()
    catalog = pystac.Catalog.from_file(str(out / "catalog.json"))
    assert catalog.catalog_type == pystac.CatalogType.SELF_CONTAINED
    assert [c.id for c in catalog.get_children()] == ["esa-worldcover-v200", "sentinel-2-l2a"]
    items = list(catalog.get_items(recursive=True))
    assert len(items) == 2
    for thing in [*items, *catalog.get_children(), catalog]:
        said = thing.to_dict(include_self_link=False)
        assert said["stac_version"] == "1.1.0"
        said["stac_extensions"] = []  # their schemas are on the web
        validate_dict(said)
    (scene,) = (i for i in items if i.collection_id == "sentinel-2-l2a")
    assert scene.properties["proj:code"] == "EPSG:32632"
    assert scene.assets["image"].extra_fields["bands"][3] == {
        "name": "B04", "eo:common_name": "red", "eo:center_wavelength": 0.665,
        "eo:full_width_half_max": 0.038,
    }  # fmt: skip
    assert scene.assets["SCL"].roles == ["data-mask"]
    for item in items:
        for asset in item.assets.values():
            assert not Path(asset.href).is_absolute()
            assert Path(asset.get_absolute_href()).is_file()
    lon, lat = (scene.bbox[0] + scene.bbox[2]) / 2, (scene.bbox[1] + scene.bbox[3]) / 2
    assert (lon, lat) == pytest.approx((10.2746, 45.1458), abs=0.01)


def test_same_input_same_bytes_and_the_second_run_changes_nothing(index, folder) -> None:
    first, second = index("a"), index("b")
    assert sha256_tree(first) == sha256_tree(second)
    before = {p: p.stat().st_mtime_ns for p in first.rglob("*")}
    index("a")
    assert {p: p.stat().st_mtime_ns for p in first.rglob("*")} == before
    with pytest.raises(WorkspaceError, match="`--out` is 'another content'"):
        index("a", scenes__0__cloud_cover=13.0)
    assert {p: p.stat().st_mtime_ns for p in first.rglob("*")} == before


def test_folder_and_catalogue_move_together(index, tmp_path) -> None:
    index()
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("in", "out"):
        shutil.move(tmp_path / name, moved / name)
    imagery = Catalogs.load().imagery("sentinel-2-l2a")
    open_access(str(moved / "out")).check(imagery, [b.name for b in imagery.bands], [])


def test_a_raster_over_the_antimeridian_has_a_box_over_it(index, write_tif, folder) -> None:
    codes = np.full((100, 100), 10, "uint8")
    write_tif("in/map.tif", codes, 346000.0, 7220000.0, 1000, crs="EPSG:32601")
    out = index(scenes=[])
    (item,) = pystac.Catalog.from_file(str(out / "catalog.json")).get_items(recursive=True)
    west, south, east, north = item.bbox
    assert west > 173
    assert east < -176
    assert 63 < south < north < 66
    (footprint,) = open_access(str(out)).sites(
        Catalogs.load().imagery("naip"), [Catalogs.load().label("esa-worldcover-v200")]
    )
    assert footprint.grid.crs == "EPSG:32601"


def test_a_crs_without_a_code_stays_what_it_is(index, write_tif) -> None:
    albers = "+proj=aea +lat_0=23 +lon_0=-96 +lat_1=29.5 +lat_2=45.5 +ellps=WGS84 +units=m"
    write_tif("in/map.tif", np.full((60, 50), 10, "uint8"), 1500000.0, 1600000.0, 30, crs=albers)
    (item,) = pystac.Catalog.from_file(str(index(scenes=[]) / "catalog.json")).get_items(
        recursive=True
    )
    assert "proj:code" not in item.properties
    assert "proj:epsg" not in item.properties
    assert item.properties["proj:wkt2"].startswith("PROJCRS")


# ---- refusals


@pytest.mark.parametrize(
    ("kind", "match", "changes"),
    [
        (UnknownNameError, r"`scenes\.0\.imagery` is 'sentinel-2-l2'.*Did you mean 'sentinel-2-l2a'", {"scenes__0__imagery": "sentinel-2-l2"}),
        (UnknownNameError, r"`labels\.0\.product` is 'esa-worldcover'", {"labels__0__product": "esa-worldcover"}),
        (UnknownNameError, r"`scenes\.0\.files\.1\.bands` is 'B10'", {"scenes__0__files__1__bands": ["B10"]}),
        (CatalogError, r"`scenes\.0\.files\.1\.bands` is 'B01'; allowed: every band once", {"scenes__0__files__1__bands": ["B01"]}),
        (RasterError, r"image\.tif: `bands` is 12; allowed: 2, as", {"scenes__0__files__0__bands": ["B01", "B02"]}),
        (CatalogError, r"`scenes\.0\.files\.0\.path` is 'gone\.tif'; allowed: a file in", {"scenes__0__files__0__path": "gone.tif"}),
        (CatalogError, r"`labels\.0\.file` is 'gone\.tif'", {"labels__0__file": "gone.tif"}),
        (RasterError, r"map\.tif: `band` is 2; allowed: 1 to 1", {"labels__0__band": 2}),
        (CatalogError, r"`labels\.0\.end` is '2020-01-01'; allowed: a day from 2021-01-01 on", {"labels__0__end": "2020-01-01"}),
        (CatalogError, r"`scenes\.0\.date` is 'autumn'", {"scenes__0__date": "autumn"}),
        (CatalogError, r"`scenes\.0\.cloud_cover` is 120", {"scenes__0__cloud_cover": 120}),
        (CatalogError, r"`scenes\.0\.sensor` is 'sensor'; allowed: the keys", {"scenes__0__sensor": "x"}),
        (CatalogError, r"`scenes` is None", {"scenes": [], "labels": []}),
        (RasterError, r"scl\.tif: `type of band 1 \(B\)` is 'uint16'", {"scenes__0": {"imagery": "naip", "date": "2022-10-05", "files": [{"path": "scl.tif", "bands": ["B"]}]}}),
    ],
)  # fmt: skip
def test_what_the_config_must_not_say(index, write_tif, tmp_path, kind, match, changes) -> None:
    if "naip" in str(changes):
        write_tif("in/scl.tif", np.ones((8, 8), "uint16"))
    with pytest.raises(kind, match=match) as caught:
        index(**changes)
    assert isinstance(caught.value, InputError)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*out*")), "nothing was written"


def test_what_the_rasters_must_not_be(index, write_tif, folder, tmp_path) -> None:
    def refused(kind: type[InputError], match: str) -> None:
        with pytest.raises(kind, match=match) as caught:
            index()
        assert "\n" not in str(caught.value)
        assert not list(tmp_path.glob("*out*")), "nothing was written"

    whole = (folder / "image.tif").read_bytes()
    (folder / "image.tif").write_bytes(whole[: len(whole) - 100])
    refused(RasterError, r"image\.tif: `pixels`.*truncated")
    (folder / "image.tif").write_bytes(whole)
    good = (folder / "map.tif").read_bytes()
    write_tif("in/map.tif", np.full((60, 50), 10, "uint8"), crs=None)
    refused(RasterError, r"map\.tif: `crs` is None")
    write_tif("in/map.tif", np.full((60, 50), 11, "uint8"))
    refused(LegendError, r"map\.tif: `esa-worldcover-v200` is \[11\]; allowed: .*10, 20, 30")
    write_tif("in/map.tif", np.full((60, 50), 10.5, "float32"))
    refused(LegendError, r"map\.tif.*interpolated")
    (folder / "map.tif").write_bytes(good)
    index()


def test_two_items_need_two_ids(index, tmp_path) -> None:
    scene = config_of()["scenes"][0]
    with pytest.raises(
        CatalogError, match=r"`scenes\.1\.id` is 'image'; allowed: an id that scenes\.0"
    ):
        index(scenes=[scene, scene])
    out = index(scenes=[scene, {**scene, "id": "second"}])
    assert (out / "sentinel-2-l2a" / "second" / "second.json").is_file()


def test_no_folder_and_no_config_are_named(tmp_path) -> None:
    with pytest.raises(CatalogError, match="`DIR`"):
        index_folder(tmp_path / "nowhere", None, tmp_path / "out")
    with pytest.raises(CatalogError, match=r"index\.yaml: `file`"):
        index_folder(tmp_path, None, tmp_path / "out")


# ---- the real folders


REAL = Path(__file__).parents[1] / "real"


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "items"),
    [
        ("denmark-chile-hudson", {"terramesh-s2-l2a": 3, "terramesh-lulc": 3}),
        ("slovenia", {"slovenia-s2-l1c": 5, "slovenia-lulc": 1}),
        ("west-virginia", {"naip": 2, "chesapeake-lc7": 1, "nlcd": 1, "wv-buildings": 1}),
        ("t29unu", {"sentinel-2-l2a": 1}),
    ],
)
def test_real_folders_are_indexed_and_read_pixel_for_pixel(
    shared_data, tmp_path, name, items
) -> None:
    catalogs = Catalogs.load(REAL / "catalogs")
    config = REAL / name / "index.yaml"
    report = index_folder(shared_data, config, tmp_path / "out", catalogs=catalogs)
    assert dict(report.items) == items
    said = yaml.safe_load(config.read_text())
    access = open_access(str(tmp_path / "out"))
    scenes = {}
    for entry in said["scenes"]:
        imagery = catalogs.imagery(entry["imagery"])
        (scene,) = (s for s in access.sites(imagery, []) if s.id == entry["id"])
        scenes[scene.id] = scene
        for file in entry["files"]:
            with rasterio.open(shared_data / file["path"]) as source:
                want, place = source.read(), source.transform
                grid = Grid(scene.grid.crs, Affine(*place[:6]), source.width, source.height)
            request = ReadRequest(
                site="p", scene=scene, grid=grid, bands=tuple(file["bands"]),
                categorical=file["bands"] == [imagery.validity.band],
            )  # fmt: skip
            (chip,) = access.read(imagery, [request])
            assert not chip.resampled
            assert chip.data.dtype == want.dtype
            np.testing.assert_array_equal(chip.data, want)
    for entry in said.get("labels", []):
        product = catalogs.label(entry["product"])
        with rasterio.open(shared_data / entry["file"]) as source:
            want = source.read(1)
        near = [
            s for s in scenes.values()
            if (product.epoch.rule == "fixed" or entry["start"].year <= s.datetime.year <= entry["end"].year)
            and s.grid.shape == want.shape and (s.id == entry["id"] or name != "denmark-chile-hudson")
        ]  # fmt: skip
        assert near
        for scene in near:
            (got,) = access.labels(product, [LabelRequest(site="p", grid=scene.grid, scene=scene)])
            assert got.grid == scene.grid
            np.testing.assert_array_equal(got.codes, want)


@pytest.mark.real
def test_reflectance_of_baseline_0400_is_number_minus_1000(shared_data, tmp_path) -> None:
    catalogs = Catalogs.load(REAL / "catalogs")
    index_folder(shared_data, REAL / "t29unu" / "index.yaml", tmp_path / "out", catalogs=catalogs)
    imagery = catalogs.imagery("sentinel-2-l2a")
    (scene,) = open_access(str(tmp_path / "out")).sites(imagery, [])
    assert scene.grid.pixel == (60, 60)
    assert len(scene.assets) == 12
    for band in scene.assets:
        if band != "SCL":
            assert imagery.radiometry(scene, band) == (0.0001, -0.1)


@pytest.mark.real
def test_whole_worldcover_tiles_are_indexed(shared_data, tmp_path) -> None:
    index_folder(shared_data, REAL / "worldcover" / "index.yaml", tmp_path / "out")
    catalogs = Catalogs.load()
    access = open_access(str(tmp_path / "out"))
    for version in ("v100", "v200"):
        product = catalogs.label(f"esa-worldcover-{version}")
        access.check(None, [], [product])
        (footprint,) = access.sites(catalogs.imagery("naip"), [product])
        assert version in footprint.id
        assert footprint.grid.shape == (36000, 36000)
