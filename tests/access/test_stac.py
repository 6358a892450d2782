"""Static catalogues: which items are found, what is read of them, and what is refused."""

from __future__ import annotations

import json
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from pydantic import ValidationError
from pyproj import Transformer

from las_builder.access import (
    Access,
    LabelRequest,
    ReadRequest,
    SearchRequest,
    open_access,
    open_paired,
    web,
)
from las_builder.access.items import Entry, scene_of
from las_builder.access.stac import StaticStac
from las_builder.catalogs import Catalogs, Imagery, LabelProduct
from las_builder.core.grid import Grid
from las_builder.core.types import Chip, Gap, GapReason, LabelSource, Period, Scene
from las_builder.errors import AccessError, LegendError, RasterError, SourceError, StacError

YEAR = Period.parse("2021-01-01/2022-01-01")


@pytest.fixture
def imagery() -> Imagery:
    """Two bands and a cloud mask of its own resolution."""
    return Imagery.model_validate({
        "name": "two-bands", "title": "Two bands", "license": "CC0-1.0", "attribution": "nobody",
        "platforms": ["none"], "data_type": "uint16", "nodata": 0, "rgb": ["B1", "B1", "B2"],
        "lattice": {"crs": "mgrs-utm", "pixel": 10, "cell": 60},
        "bands": [
            {"name": "B1", "gsd": 10, "eo:common_name": "red"},
            {"name": "B2", "gsd": 20, "eo:common_name": "nir"},
        ],
        "validity": {"band": "QA", "clear_values": [1], "nodata": 0},
        "where": [
            {"provider": "stac", "collection": "two-bands"},
            {"provider": "planetary-computer", "collection": "pc-two",
             "assets": {"B1": "red", "B2": "nir08", "QA": "qa"}, "match": {"platform": ["x", "y"]}},
        ],
        "verified": False, "sources": [],
    })  # fmt: skip


def product_of(name: str, epoch: dict[str, Any], **more: Any) -> LabelProduct:
    return LabelProduct.model_validate({
        "name": name, "title": name, "version": "1", "license": "CC0-1.0", "attribution": "nobody",
        "nodata": 0, "gsd": 10, "lattice": {"crs": "EPSG:4326", "pixel": 0.01}, "epoch": epoch,
        "basis": "cover", "where": [{"provider": "stac", "collection": name}],
        "verified": False, "sources": [],
        "classification:classes": [
            {"value": v, "name": f"class_{v}", "title": str(v), "means": []} for v in range(1, 251)
        ],
        **more,
    })  # fmt: skip


@pytest.fixture
def fixed() -> LabelProduct:
    return product_of("map", {"rule": "fixed", "start": "2020-01-01"})


def item(
    id_: str, collection: str, assets: dict[str, Any], grid: Grid | None = None, **properties: Any
) -> dict[str, Any]:
    said: dict[str, Any] = {"datetime": "2021-06-01T10:00:00Z", **properties}
    if grid is not None:
        said |= {
            "proj:code": grid.crs, "proj:transform": list(grid.transform)[:6],
            "proj:shape": list(grid.shape),
        }  # fmt: skip
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": id_, "collection": collection,
        "geometry": None, "properties": {k: v for k, v in said.items() if v != "-"},
        "links": [], "assets": assets,
    }  # fmt: skip


Publish = Callable[..., StaticStac]


@pytest.fixture
def publish(tmp_path: Path) -> Publish:
    """Write items as a catalogue: publish(item, ...) -> StaticStac."""

    def write(*items: dict[str, Any], name: str = "catalog") -> StaticStac:
        folder = tmp_path / name
        links = []
        for one in items:
            path = folder / "items" / f"{one['id']}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(one))
            links.append({"rel": "item", "href": f"./{one['id']}.json"})
        inner = {"type": "Catalog", "id": "inner", "description": "-", "stac_version": "1.1.0"}
        (folder / "items").mkdir(parents=True, exist_ok=True)
        back = {"rel": "root", "href": "../catalog.json"}
        (folder / "items" / "inner.json").write_text(json.dumps({**inner, "links": [*links, back]}))
        root = {**inner, "id": "root", "links": [{"rel": "child", "href": "items/inner.json"}]}
        (folder / "catalog.json").write_text(json.dumps(root))
        return StaticStac.at(str(folder))

    return write


def grid_at(west: float, north: float, pixel: float, size: int, crs: str = "EPSG:32632") -> Grid:
    return Grid(crs, Affine(pixel, 0, west, 0, -pixel, north), size, size)


TILE = grid_at(600000, 5000040, 10, 240)
PATCH = grid_at(600600, 4999440, 10, 60)


def scene_at(grid: Grid = PATCH, when: str = "2021-06-01", id_: str = "s") -> Scene:
    moment = datetime.fromisoformat(when).replace(tzinfo=UTC)
    return Scene(id=id_, datetime=moment, cloud_cover=None, grid=grid, assets={})


def ask(access: Access, imagery: Imagery, grid: Grid = PATCH, cloud: float = 100) -> list[str]:
    request = SearchRequest(site="p", grid=grid, period=YEAR, max_cloud=cloud)
    return [scene.id for scene in access.search(imagery, [request])[0]]


@pytest.fixture
def three_files(write_tif, distinct) -> dict[str, Any]:
    """The assets of a scene: B1 at 10 m, B2 at 20 m, QA at 60 m."""
    qa = np.ones((40, 40), "uint8")
    qa[12, 11] = 0
    return {
        "B1": {"href": write_tif("b1.tif", distinct(240, 240))},
        "B2": {"href": write_tif("b2.tif", distinct(120, 120), pixel=20)},
        "QA": {"href": write_tif("qa.tif", qa, pixel=60)},
    }


# ---- search


def test_search_keeps_period_cloud_and_order(publish, imagery, three_files) -> None:
    def one(id_: str, when: str, cloud: Any) -> dict[str, Any]:
        more = {"datetime": when, "eo:cloud_cover": cloud}
        return item(id_, "two-bands", three_files, TILE, **more)

    access = publish(
        one("late", "2021-09-01T00:00:00Z", 5), one("b", "2021-03-01T00:00:00Z", 50),
        one("a", "2021-03-01T01:00:00+01:00", 20), one("unsaid", "2021-04-01T00:00:00Z", "-"),
        one("before", "2020-12-31T23:59:59Z", 0), one("after", "2022-01-01T00:00:00Z", 0),
        item("other", "other", three_files, TILE),
    )  # fmt: skip
    assert ask(access, imagery) == ["a", "b", "unsaid", "late"]
    assert ask(access, imagery, cloud=20) == ["a", "unsaid", "late"]
    assert ask(access, imagery, grid_at(602400, 4999440, 10, 60)) == [], "next to the tile"
    assert len(ask(access, imagery, grid_at(602390, 4999440, 10, 60))) == 4, "one column of it"
    again = pickle.loads(pickle.dumps(access))
    assert again == access
    assert [s.id for s in again.sites(imagery, [])] == [
        "before",
        "a",
        "b",
        "unsaid",
        "late",
        "after",
    ]


@pytest.mark.parametrize(("lat", "north"), [(65.0, True), (-17.0, False)])
def test_search_goes_over_the_antimeridian(publish, imagery, three_files, lat, north) -> None:
    base = 32600 if north else 32700

    def tile(zone: int, lon: float) -> dict[str, Any]:
        x, y = Transformer.from_crs(4326, base + zone, always_xy=True).transform(lon, lat)
        crs = f"EPSG:{base + zone}"
        grid = Grid(
            crs, Affine(10, 0, round(x, -1) - 54900, 0, -10, round(y, -1) + 54900), 10980, 10980
        )
        return item(f"z{zone}", "two-bands", three_files, grid)

    access = publish(tile(60, 179.5), tile(1, -179.5), tile(31, 0.5), tile(2, -173.0))
    x, y = Transformer.from_crs(4326, base + 1, always_xy=True).transform(180.0, lat)
    patch = grid_at(x - 1320, y + 1320, 10, 264, f"EPSG:{base + 1}")
    assert sorted(ask(access, imagery, patch)) == ["z1", "z60"]


def test_items_are_told_by_collection_and_by_what_must_match(publish, imagery, three_files) -> None:
    assets = {"red": three_files["B1"], "nir08": three_files["B2"], "qa": three_files["QA"]}
    access = publish(
        item("own", "two-bands", three_files, TILE),
        item("x", "pc-two", assets, TILE, platform="x"),
        item("z", "pc-two", assets, TILE, platform="z"),
        item("none", "pc-two", assets, TILE),
    )
    assert ask(access, imagery) == ["own", "x"]


def test_versions_that_share_a_collection_are_never_mixed(publish, write_tif) -> None:
    def version(n: str) -> LabelProduct:
        where = {
            "provider": "stac",
            "collection": "wc",
            "assets": {"codes": "map"},
            "match": {"v": n},
        }
        return product_of(f"wc-{n}", {"rule": "fixed", "start": "2020-01-01"}, where=[where])

    items = []
    for n, code in (("1", 10), ("2", 20)):
        path = write_tif(f"{n}.tif", np.full((240, 240), code, "uint8"))
        items.append(
            item(
                f"wc{n}", "wc", {"map": {"href": path}}, TILE, datetime="2020-01-01T00:00:00Z", v=n
            )
        )
    access = publish(*items)
    for n, code in (("1", 10), ("2", 20)):
        got = one_label(access, version(n))
        assert set(np.unique(got.codes)) == {code}
        assert got.version == f"wc{n}"


# ---- scenes


def test_a_scene_says_where_its_bands_are(publish, imagery, write_tif, distinct) -> None:
    path = write_tif("all.tif", np.stack([distinct(240, 240)] * 3))
    bands = [
        {"name": "QA"},
        {"name": "B2", "raster:scale": 0.5},
        {"name": "B1", "raster:offset": -0.1},
    ]
    access = publish(
        item(
            "a", "two-bands", {"image": {"href": path, "bands": bands}}, TILE, **{"s2:x": "04.00"}
        ),
    )
    (scene,) = access.sites(imagery, [])
    assert {name: ref.index for name, ref in scene.assets.items()} == {"QA": 1, "B2": 2, "B1": 3}
    assert (scene.assets["B2"].scale, scene.assets["B2"].offset) == (0.5, None)
    assert (scene.assets["B1"].scale, scene.assets["B1"].offset) == (None, -0.1)
    assert scene.properties["s2:x"] == "04.00"
    assert scene.datetime == datetime(2021, 6, 1, 10, tzinfo=UTC)
    assert scene.grid == TILE


def test_older_items_are_read_too(publish, imagery, write_tif, distinct) -> None:
    path = write_tif("all.tif", np.stack([distinct(240, 240)] * 2))
    qa = write_tif("qa.tif", np.ones((40, 40), "uint8"), pixel=60)
    old = item(
        "a", "pc-two",
        {
            "red": {"href": path, "proj:transform": [10, 0, 600000, 0, -10, 5000040, 0, 0, 1],
                    "proj:shape": [240, 240],
                    "eo:bands": [{"name": "X", "common_name": "nir"}, {"name": "Y", "common_name": "red"}],
                    "raster:bands": [{"scale": 2.0}, {"scale": 3.0, "offset": 1.0}]},
            "nir08": {"href": path, "proj:bbox": [600000, 4997640, 602400, 5000040],
                      "proj:shape": [240, 240], "eo:bands": [{"name": "X", "common_name": "nir"}]},
            "qa": {"href": qa},
        },
        platform="y", **{"proj:epsg": 32632},
    )  # fmt: skip
    (scene,) = publish(old).sites(imagery, [])
    assert scene.grid == TILE
    assert (scene.assets["B1"].index, scene.assets["B1"].scale, scene.assets["B1"].offset) == (
        2,
        3,
        1,
    )
    assert scene.assets["B2"].index == 1


def test_one_asset_for_all_bands_without_names_goes_by_order() -> None:
    import pystac

    naip = Catalogs.load().imagery("naip")
    said = item("n", "naip", {"image": {"href": "/n.tif"}}, grid_at(0, 0, 1, 9, "EPSG:26917"))
    entry = Entry(pystac.Item.from_dict(said, href="/n.json"), "/n.json", "naip")
    scene = scene_of(entry, naip)
    assert {n: a.index for n, a in scene.assets.items()} == {"R": 1, "G": 2, "B": 3, "N": 4}


def test_a_common_name_that_several_bands_have_tells_nothing() -> None:
    import pystac

    said = Catalogs.load().imagery("sentinel-2-l2a").model_dump(by_alias=True, mode="json")
    rededge = dict.fromkeys(("B05", "B06", "B07"), "stack")
    said["where"] = [{"provider": "stac", "collection": "s2", "assets": rededge}]
    said["validity"] = {}
    stack = {
        "href": "/s.tif",
        "eo:bands": [{"name": str(i), "common_name": "rededge"} for i in range(3)],
    }
    entry = Entry(
        pystac.Item.from_dict(item("s", "s2", {"stack": stack}, TILE), href="/s.json"),
        "/s.json",
        "s2",
    )
    scene = scene_of(entry, Imagery.model_validate(said))
    assert {n: a.index for n, a in scene.assets.items()} == {"B05": 1, "B06": 2, "B07": 3}


# ---- pixels


def test_bands_are_read_on_one_grid(publish, imagery, three_files) -> None:
    access = publish(item("a", "two-bands", three_files, TILE))
    (scene,) = access.sites(imagery, [])
    chip, qa, gap = access.read(imagery, [
        ReadRequest(site="p", scene=scene, grid=PATCH, bands=("B1", "B2", "QA")),
        ReadRequest(site="p", scene=scene, grid=PATCH, bands=("QA",), categorical=True),
        ReadRequest(site="far", scene=scene, grid=grid_at(700000, 4999440, 10, 8), bands=("B1",)),
    ])  # fmt: skip
    assert isinstance(chip, Chip)
    assert chip.bands == ("B1", "B2", "QA")
    assert not chip.resampled
    r, c = np.mgrid[60:120, 60:120]
    np.testing.assert_array_equal(chip.data[0], r * 240 + c + 1)
    np.testing.assert_array_equal(chip.data[1], (r // 2) * 120 + c // 2 + 1)
    outside = np.zeros((60, 60), bool)
    outside[12:18, 6:12] = True  # the one QA pixel outside the swath
    np.testing.assert_array_equal(chip.inside, ~outside)
    assert isinstance(qa, Chip)
    assert qa.data.dtype == np.uint8, "QA holds codes: it keeps the type of its file"
    assert gap == Gap("far", GapReason.NOT_COVERED, "a")


def test_quality_codes_are_never_averaged(publish, imagery, three_files, write_tif) -> None:
    codes = np.random.default_rng(0).choice([1, 9], (240, 240)).astype("uint8")
    three_files["QA"] = {"href": write_tif("fine.tif", codes)}
    access = publish(item("a", "two-bands", three_files, TILE))
    (scene,) = access.sites(imagery, [])
    grid = grid_at(600000, 5000040, 30, 80)
    for bands, categorical in ((("QA",), True), (("QA",), False), (("B1", "QA"), False)):
        request = ReadRequest(
            site="p", scene=scene, grid=grid, bands=bands, categorical=categorical
        )
        (chip,) = access.read(imagery, [request])
        np.testing.assert_array_equal(chip.data[-1], codes[1::3, 1::3])


def test_a_catalogue_over_http_is_the_catalogue_on_disk(
    publish, imagery, three_files, server, tmp_path
) -> None:
    for asset in three_files.values():
        asset["href"] = "../../" + Path(asset["href"]).name
    access = publish(item("a", "two-bands", three_files, TILE))
    remote = open_access(f"{server.url}/catalog/catalog.json")
    assert open_access(f"{server.url}/catalog").sites(imagery, [])
    chips = []
    for one in (access, remote):
        (scene,) = one.sites(imagery, [])
        chips += one.read(
            imagery, [ReadRequest(site="p", scene=scene, grid=PATCH, bands=("B1", "B2"))]
        )
    np.testing.assert_array_equal(chips[0].data, chips[1].data)
    assert chips[1].data.any()


# ---- labels


def one_label(
    access: Access, product: LabelProduct, grid: Grid = PATCH, **scene: str
) -> LabelSource | Gap:
    request = LabelRequest(site="p", grid=grid, scene=scene_at(grid, **scene))
    return access.labels(product, [request])[0]


def test_the_epoch_rule_chooses_the_map(publish, write_tif) -> None:
    def year(n: int) -> dict[str, Any]:
        path = write_tif(f"{n}.tif", np.full((240, 240), n - 2000, "uint8"))
        when = {
            "datetime": "-",
            "start_datetime": f"{n}-01-01T00:00:00Z",
            "end_datetime": f"{n}-12-31T23:59:59Z",
        }
        return item(f"y{n}", "map", {"codes": {"href": path}}, TILE, **when)

    access = publish(year(2011), year(2016), year(2019))

    def of(rule: dict[str, Any], when: str) -> int | None:
        got = one_label(access, product_of("map", rule), when=when)
        return None if isinstance(got, Gap) else 2000 + int(got.codes[0, 0])

    assert of({"rule": "fixed", "start": "2016-01-01"}, "2021-06-01") == 2016
    assert of({"rule": "image-year"}, "2019-06-01") == 2019
    assert of({"rule": "image-year"}, "2018-06-01") is None
    declared = {"rule": "image-year", "years": [2011, 2013, 2016, 2019]}
    assert of(declared, "2018-06-01") == 2019
    assert of(declared, "2013-06-01") == 2011, "2013 is not in this catalogue"
    gap = one_label(access, product_of("map", {"rule": "image-year"}), when="2018-06-01")
    assert gap == Gap("p", GapReason.NO_LABEL, "map for 2018-06-01")
    far = grid_at(700000, 4999440, 10, 8)
    assert isinstance(one_label(access, product_of("map", declared), far), Gap)


def test_a_map_of_the_same_scene(publish, write_tif) -> None:
    def of(id_: str, code: int, **more: Any) -> dict[str, Any]:
        path = write_tif(f"{code}.tif", np.full((240, 240), code, "uint8"))
        return item(id_, "map", {"codes": {"href": path}}, TILE, **more)

    access = publish(of("S1", 1), of("dw", 2, **{"dw:scene": "S2"}))
    product = product_of("map", {"rule": "same-scene"})
    assert one_label(access, product, id_="S1").codes[0, 0] == 1
    assert one_label(access, product, id_="S2").codes[0, 0] == 2
    assert isinstance(one_label(access, product, id_="S3"), Gap)


def degrees(west: float, north: float, rows: int, cols: int) -> Grid:
    return Grid("EPSG:4326", Affine(0.01, 0, west, 0, -0.01, north), cols, rows)


def world_code(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """A code for every pixel of 0.01 degrees, none of its eight neighbours has the same."""
    col, row = np.floor((lon + 180) % 360 * 100 + 1e-7), np.floor((90 - lat) * 100 + 1e-7)
    return ((col * 7 + row * 31) % 249 + 1).astype("uint8")


@pytest.fixture
def world_tile(write_tif) -> Callable[..., dict[str, Any]]:
    def make(
        id_: str, west: float, north: float, rows: int = 100, cols: int = 100
    ) -> dict[str, Any]:
        grid = degrees(west, north, rows, cols)
        codes = world_code(*np.meshgrid(*grid.xy()))
        path = write_tif(f"{id_}.tif", codes, west, north, 0.01, crs="EPSG:4326", nodata=0)
        return item(id_, "map", {"codes": {"href": path}}, grid, datetime="2020-01-01T00:00:00Z")

    return make


def check_codes_under(source: LabelSource, patch: Grid) -> None:
    """Every centre of the patch finds its code, with at least a pixel to spare on each side."""
    lons, lats = patch.lonlat()
    west, south, east, north = source.grid.bounds
    turned = west + (lons - west) % 360
    assert west + 0.01 < turned.min() < turned.max() < east - 0.01
    assert south + 0.01 < lats.min() < lats.max() < north - 0.01
    col = np.floor((turned - west) / source.grid.pixel[0]).astype(int)
    row = np.floor((north - lats) / source.grid.pixel[1]).astype(int)
    np.testing.assert_array_equal(source.codes[row, col], world_code(lons, lats))


def test_tiles_are_joined_at_their_seams(publish, world_tile, fixed) -> None:
    tiles = [world_tile(f"t{i}{j}", 9 + i, 46 - j) for i in (0, 1) for j in (0, 1)]
    access = publish(*tiles)
    x, y = Transformer.from_crs(4326, 32632, always_xy=True).transform(10.0, 45.0)
    patch = grid_at(x - 5000, y + 5000, 100, 100)
    got = one_label(access, fixed, patch)
    assert got.version == "t00+t01+t10+t11"
    check_codes_under(got, patch)
    west = one_label(access, fixed, grid_at(x - 40000, y + 40000, 100, 100))
    assert west.version == "t00"


@pytest.mark.parametrize(
    ("crs", "lat"), [("EPSG:32601", 65.5), ("EPSG:32660", 65.5), ("EPSG:32701", -16.5)]
)
def test_maps_are_joined_over_the_antimeridian(publish, world_tile, fixed, crs, lat) -> None:
    top = np.ceil(lat)
    access = publish(world_tile("east", 179, top), world_tile("west", -180, top))
    x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(180.0, lat)
    patch = grid_at(x - 9000, y + 9000, 100, 180, crs)
    got = one_label(access, fixed, patch)
    assert got.version == "east+west"
    assert got.grid.width < 100, "contiguous, not a turn around the Earth"
    check_codes_under(got, patch)


def test_one_map_of_the_whole_world_is_joined_with_itself(publish, world_tile, fixed) -> None:
    access = publish(world_tile("world", -180, 66, rows=100, cols=36000))
    x, y = Transformer.from_crs(4326, 32601, always_xy=True).transform(180.0, 65.5)
    patch = grid_at(x - 9000, y + 9000, 100, 180, "EPSG:32601")
    got = one_label(access, fixed, patch)
    assert got.version == "world"
    check_codes_under(got, patch)


def test_of_tiles_in_two_zones_the_one_that_covers_more_is_taken(publish, write_tif, fixed) -> None:
    to33 = Transformer.from_crs(32632, 32633, always_xy=True)
    x, y = to33.transform(PATCH.bounds[0], PATCH.bounds[1])

    def tile(id_: str, code: int, grid: Grid) -> dict[str, Any]:
        path = write_tif(
            f"{id_}.tif", np.full(grid.shape, code, "uint8"), grid.bounds[0], grid.bounds[3],
            grid.pixel[0], crs=grid.crs,
        )  # fmt: skip
        return item(id_, "map", {"codes": {"href": path}}, grid, datetime="2020-01-01T00:00:00Z")

    whole = grid_at(round(x) - 2000, round(y) + 2000, 10, 400, "EPSG:32633")
    part = grid_at(PATCH.bounds[0] + 300, PATCH.bounds[3], 10, 100)
    got = one_label(publish(tile("a", 1, part), tile("b", 2, whole), name="one"), fixed)
    assert (got.grid.crs, got.version) == ("EPSG:32633", "b")
    got = one_label(publish(tile("c", 1, TILE), tile("d", 2, whole), name="two"), fixed)
    assert (got.grid.crs, got.version) == ("EPSG:32632", "c"), "at a tie, that of the patch"


def test_where_maps_overlap_the_first_that_says_something_counts(publish, write_tif, fixed) -> None:
    a = np.zeros((240, 240), "uint8")
    a[:, :90] = 5
    items = [
        item(
            id_,
            "map",
            {"codes": {"href": write_tif(f"{id_}.tif", data)}},
            TILE,
            datetime="2020-01-01T00:00:00Z",
        )
        for id_, data in (("a", a), ("b", np.full((240, 240), 7, "uint8")))
    ]
    got = one_label(publish(*items), fixed)
    np.testing.assert_array_equal(got.codes[0], [5] * 32 + [7] * 32)


def test_the_nodata_of_a_file_becomes_the_declared(publish, write_tif, fixed) -> None:
    data = np.full((240, 240), 4294967295, "uint32")
    data[80:] = 42
    path = write_tif("a.tif", data, nodata=4294967295)
    access = publish(
        item("a", "map", {"codes": {"href": path}}, TILE, datetime="2020-01-01T00:00:00Z")
    )
    got = one_label(access, fixed)
    assert got.codes.dtype == np.uint8
    assert set(np.unique(got.codes)) == {0, 42}
    assert (got.codes[:22] == 0).all()


def test_numbers_that_stand_for_codes_are_translated(publish, write_tif) -> None:
    """The CORINE raster of the EEA: 44 classes in the order of their codes, 48 = no data."""
    product = Catalogs.load().label("corine")
    codes = [entry.value for entry in product.classes]
    assert len(codes) == 44
    want = np.array([*sorted(codes), product.nodata, 231])
    own = np.array([*range(1, 45), 48, 18], "int16")
    for name, data in (("numbers", own), ("codes", want.astype("int16"))):
        path = write_tif(
            f"{name}.tif", np.kron(data[None], np.ones((46 * 5, 5), data.dtype)), nodata=48
        )
        grid = grid_at(600000, 5000040, 10, 230)
        said = item("a", "corine", {"codes": {"href": path}}, grid, datetime="2018-07-01T00:00:00Z")
        got = one_label(publish(said, name=name), product, grid)
        assert isinstance(got, LabelSource)
        np.testing.assert_array_equal(got.codes[7, 2::5], want)
    path = write_tif("45.tif", np.full((230, 230), 45, "int16"))
    said = item("a", "corine", {"codes": {"href": path}}, grid, datetime="2018-07-01T00:00:00Z")
    with pytest.raises(LegendError, match=r"`corine` is \[45\]"):
        one_label(publish(said, name="45"), product, grid)
    declared = product.model_dump(by_alias=True)
    for wrong in ({1: 999}, {111: 112}):
        with pytest.raises(ValidationError, match="recode"):
            LabelProduct.model_validate({**declared, "recode": wrong})


@pytest.mark.parametrize(
    ("data", "nodata", "message"),
    [
        (np.array([[3, 251], [252, 3]], "uint8"), None, r"a\.tif: `map` is \[251, 252\]; allowed: the codes of catalogs/labels/map\.yaml: 0, 1, 2"),
        (np.array([[3, 300], [-1, 3]], "int16"), None, r"`map` is \[-1, 300\].*Declare these codes"),
        (np.array([[3, 3.5], [7.25, np.nan]], "float32"), np.nan, r"`map` is \[3\.5, 7\.25\].*interpolated"),
    ],
)  # fmt: skip
def test_codes_that_no_legend_lists_are_refused(
    publish, write_tif, fixed, data, nodata, message
) -> None:
    path = write_tif("a.tif", np.kron(data, np.ones((120, 120), data.dtype)), nodata=nodata)
    access = publish(
        item("a", "map", {"codes": {"href": path}}, TILE, datetime="2020-01-01T00:00:00Z")
    )
    with pytest.raises(LegendError, match=message):
        one_label(access, fixed, grid_at(600000, 5000040, 10, 240))


def test_declared_evidence_comes_with_the_codes(publish, write_tif, distinct) -> None:
    product = product_of(
        "map", {"rule": "fixed", "start": "2020-01-01"}, evidence=["chance", "absent"]
    )
    assets = {
        "codes": {"href": write_tif("a.tif", np.full((240, 240), 9, "uint8"))},
        "chance": {"href": write_tif("p.tif", distinct(240, 240))},
    }
    got = one_label(
        publish(item("a", "map", assets, TILE, datetime="2020-01-01T00:00:00Z")), product
    )
    assert set(got.evidence) == {"chance"}
    np.testing.assert_array_equal(got.evidence["chance"], distinct(240, 240)[58:122, 58:122])


# ---- what is refused


def test_check_names_what_an_item_lacks(publish, imagery, three_files, write_tif, fixed) -> None:
    def refused(
        match: str, *items: dict[str, Any], products: tuple[LabelProduct, ...] = ()
    ) -> None:
        access = publish(*items)
        with pytest.raises(StacError, match=match) as caught:
            access.check(imagery, [b.name for b in imagery.bands] if imagery else [], products)
        assert "\n" not in str(caught.value)

    good = item("good", "two-bands", three_files, TILE)
    publish(good).check(imagery, [b.name for b in imagery.bands], [])
    nowhere = item("bad", "two-bands", three_files)
    refused(r"bad\.json: `proj:code` is None; allowed: a CRS", good, nowhere)
    shapeless = item("bad", "two-bands", three_files, **{"proj:code": "EPSG:32632"})
    refused(r"bad\.json: `proj:shape`", shapeless)
    less = item("bad", "two-bands", {k: three_files[k] for k in ("B1", "QA")}, TILE)
    refused(r"bad\.json: `assets` is 'B1, QA'; allowed: an asset or band called nir08 or B2", less)
    blind = item("bad", "two-bands", {k: three_files[k] for k in ("B1", "B2")}, TILE)
    refused(r"bad\.json: `assets`.*qa or QA", blind)
    gone = item("bad", "two-bands", {**three_files, "B2": {"href": "/nowhere/b2.tif"}}, TILE)
    refused(r"bad\.json: `assets \(B2\)` is '/nowhere/b2\.tif'", gone)
    refused(
        r"bad\.json: `item` is .*datetime",
        item("bad", "two-bands", three_files, TILE, datetime="-"),
    )
    unknown = item("bad", "two-bands", three_files, TILE, **{"proj:code": "EPSG:999999"})
    unknown["properties"]["proj:code"] = "EPSG:999999"
    refused(r"bad\.json: `proj:code` is 'EPSG:999999'", unknown)
    refused(
        r"bad\.json: `assets` is 'x'",
        good,
        item("bad", "map", {"x": {"href": "x"}}, TILE),
        products=(fixed,),
    )
    nowhere = item("bad", "map", {"codes": {"href": "/nowhere/m.tif"}}, TILE)
    refused(r"bad\.json: `assets \(codes\)`", good, nowhere, products=(fixed,))


def test_check_names_who_has_what_is_not_here(publish, imagery, three_files) -> None:
    access = publish(item("good", "two-bands", three_files, TILE))
    dynamic = Catalogs.load().label("dynamic-world")
    with pytest.raises(SourceError, match="dynamic-world comes from: earth-engine, virtual"):
        access.check(imagery, [b.name for b in imagery.bands], [dynamic])
    with pytest.raises(SourceError, match=r"`labels` is 'nlcd'; allowed: .*two-bands"):
        access.check(None, [], [Catalogs.load().label("nlcd")])
    with pytest.raises(SourceError, match="`imagery` is 'naip'"):
        access.check(Catalogs.load().imagery("naip"), [], [])


def test_a_source_that_is_nothing_is_named(tmp_path) -> None:
    with pytest.raises(SourceError, match="`source` is 'no/such/place'"):
        open_access("no/such/place")
    with pytest.raises(SourceError, match="las index"):
        open_access(str(tmp_path))


def test_a_path_may_be_relative_to_the_recipe(publish, tmp_path) -> None:
    publish()
    access = open_access("catalog", where=tmp_path / "recipe.yaml")
    assert access.root == str(tmp_path / "catalog" / "catalog.json")
    assert access.name == "catalog"


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("{", r"catalog\.json: `json`"),
        ("[]", "a STAC document"),
        ('{"type": "FeatureCollection"}', "`type` is 'FeatureCollection'"),
        ('{"type": "Catalog", "links": [{"rel": "item", "href": "gone.json"}]}', r"gone\.json: `link`"),
        ('{"type": "Catalog", "links": [{"rel": "item", "href": "bad.json"}]}', r"bad\.json: `item`"),
        ('{"type": "Catalog", "conformsTo": ["https://api.stacspec.org/v1.0.0/core"]}', "a STAC API"),
        ('{"type": "Catalog", "links": [{"rel": "search", "href": "/search"}]}', "a STAC API"),
    ],
)  # fmt: skip
def test_documents_that_are_no_static_catalogue(tmp_path, imagery, content, match) -> None:
    (tmp_path / "catalog.json").write_text(content)
    (tmp_path / "bad.json").write_text('{"type": "Feature"}')
    with pytest.raises((StacError, SourceError), match=match):
        open_access(str(tmp_path)).sites(imagery, [])


def test_a_catalogue_on_a_failing_server(publish, imagery, three_files, server) -> None:
    publish(item("a", "two-bands", three_files, TILE))
    access = open_access(f"{server.url}/catalog/catalog.json")
    server.faults["/catalog/items/a.json"] = [503, 404]
    with pytest.raises(AccessError) as caught:
        access.sites(imagery, [])
    assert caught.value.retryable
    with pytest.raises(StacError, match=r"a\.json: `link` is 'HTTP 404'"):
        access.sites(imagery, [])
    assert access.sites(imagery, []), "failures are not remembered"


def test_a_band_that_a_scene_lacks_is_refused_when_read(publish, imagery, three_files) -> None:
    del three_files["B2"]
    access = publish(item("a", "two-bands", three_files, TILE))
    (scene,) = access.sites(imagery, [])
    with pytest.raises(StacError, match="a scene that has the band B2"):
        access.read(imagery, [ReadRequest(site="p", scene=scene, grid=PATCH, bands=("B1", "B2"))])


# ---- two providers


def test_labels_may_come_from_elsewhere(publish, imagery, three_files, world_tile, fixed) -> None:
    scenes = publish(item("a", "two-bands", three_files, TILE), name="scenes")
    maps = publish(world_tile("t", 9, 46), name="maps")
    both = open_paired(scenes, maps)
    both.check(imagery, [b.name for b in imagery.bands], [fixed])
    assert [scene.id for scene in both.sites(imagery, [fixed])] == ["a"]
    assert ask(both, imagery) == ["a"]
    assert not both.synthetic
    assert one_label(both, fixed, grid_at(530000, 5050000, 10, 60)).version == "t"
    with pytest.raises(SourceError):
        open_paired(maps, scenes).check(imagery, [b.name for b in imagery.bands], [fixed])
    # Imagery that is everywhere: the sites are where the maps are.
    endless = open_paired(open_access("virtual"), maps)
    (footprint,) = endless.sites(Catalogs.load().imagery("sentinel-2-l2a"), [fixed])
    assert footprint.grid == degrees(9, 46, 100, 100)
    assert endless.synthetic


def test_each_product_comes_from_the_first_that_has_it(publish, world_tile, fixed) -> None:
    """Of those declared by what they declare; of catalogues the first."""
    mine, other = (publish(world_tile(t, 9, 46), name=t) for t in ("mine", "other"))
    here = grid_at(530000, 5050000, 10, 60)
    assert one_label(open_paired(mine, mine, other), fixed, here).version == "mine"
    assert one_label(open_paired(mine, other, mine), fixed, here).version == "other"
    # The virtual Earth declares no such product, so the catalogue after it is asked.
    assert fixed.at("virtual") is None
    both = open_paired(mine, open_access("virtual"), other)
    assert one_label(both, fixed, here).version == "other"
    assert both.synthetic
    both.check(None, [], [fixed])


# ---- real documents and files


@pytest.mark.real
def test_recorded_items_are_scenes_on_their_lattice(shared_data) -> None:
    import pystac

    catalogs = Catalogs.load()
    by_folder = {
        "earthsearch_sentinel-2-l2a": "sentinel-2-l2a", "pc_sentinel-2-l2a": "sentinel-2-l2a",
        "earthsearch_landsat-c2-l2": "landsat-c2-l2", "pc_landsat-c2-l2": "landsat-c2-l2",
        "pc_naip": "naip",
    }  # fmt: skip
    seen = 0
    for folder, name in by_folder.items():
        imagery = catalogs.imagery(name)
        for path in sorted((shared_data / "stac" / "items" / folder).glob("*.json")):
            said = pystac.Item.from_dict(
                json.loads(path.read_text()), href=str(path), migrate=False
            )
            scene = scene_of(Entry(said, str(path), said.collection_id), imagery)
            qa = imagery.validity.band
            wanted = {band.name for band in imagery.bands} | ({qa} if qa else set())
            assert set(scene.assets) == wanted, path.name
            assert imagery.lattice.holds(scene.grid.crs, scene.grid.transform), path.name
            assert scene.datetime.tzinfo is UTC
            seen += 1
            if name == "naip":
                assert [scene.assets[b].index for b in "RGBN"] == [1, 2, 3, 4]
    assert seen == 19


@pytest.mark.real
def test_an_incomplete_item_is_refused(shared_data) -> None:
    import pystac

    path = next((shared_data / "stac" / "items" / "incomplete").glob("*.json"))
    said = pystac.Item.from_dict(json.loads(path.read_text()), href=str(path), migrate=False)
    with pytest.raises(StacError, match="S2C_T13TDE"):
        scene_of(Entry(said, str(path), "x"), Catalogs.load().imagery("sentinel-2-l2a"))


@pytest.mark.real
def test_both_worldcovers_in_one_collection(shared_data, tmp_path) -> None:
    folder = shared_data / "worldcover"
    (tmp_path / "items").mkdir()
    links = []
    for version in ("2020_v100", "2021_v200"):
        said = json.loads(
            (folder / f"ESA_WorldCover_10m_{version}_N00E006.stac-item.json").read_text()
        )
        said["assets"]["map"]["href"] = str(
            folder / f"ESA_WorldCover_10m_{version}_N00E006_Map.tif"
        )
        (tmp_path / "items" / f"{version}.json").write_text(json.dumps(said))
        links.append({"rel": "item", "href": f"./items/{version}.json"})
    collection = json.loads((folder / "esa-worldcover.stac-collection.json").read_text())
    (tmp_path / "collection.json").write_text(json.dumps({**collection, "links": links}))
    access, catalogs = open_access(str(tmp_path)), Catalogs.load()
    x, y = Transformer.from_crs(4326, 32632, always_xy=True).transform(7.42, 1.64)
    patch = grid_at(round(x, -1) - 1320, round(y, -1) + 1320, 10, 264)
    products = [catalogs.label(f"esa-worldcover-v{n}") for n in ("100", "200")]
    access.check(None, [], products)
    got = {}
    for product, version in zip(products, ("2020_v100", "2021_v200"), strict=True):
        got[version] = one_label(access, product, patch, when="2021-06-01")
        assert got[version].version == f"ESA_WorldCover_10m_{version}_N00E006"
        with rasterio.open(folder / f"ESA_WorldCover_10m_{version}_N00E006_Map.tif") as file:
            west, _, _, north = got[version].grid.bounds
            row, col = file.index(west + 1e-6, north - 1e-6)
            height, width = got[version].grid.shape
            want = file.read(1, window=((row, row + height), (col, col + width)))
        np.testing.assert_array_equal(got[version].codes, want)
    assert (got["2020_v100"].codes != got["2021_v200"].codes).any()


@pytest.mark.real
def test_real_labels_with_foreign_nodata_and_with_fractions(shared_data, publish) -> None:
    def of(collection: str, path: Path, year: int = 2021) -> StaticStac:
        with rasterio.open(path) as file:
            where = {
                "proj:wkt2": file.crs.to_wkt(), "proj:transform": list(file.transform)[:6],
                "proj:shape": list(file.shape),
            }  # fmt: skip
        said = item(
            "a",
            collection,
            {"codes": {"href": str(path)}},
            datetime=f"{year}-01-01T00:00:00Z",
            **where,
        )
        return publish(said, name=collection)

    path = shared_data / "nlcd_cdl_north_carolina" / "Annual_NLCD_LndCov_2021_CU_C1V0.tif"
    product = Catalogs.load().label("nlcd-annual")
    x, y = Transformer.from_crs(4326, 32617, always_xy=True).transform(-78.85, 36.0)
    got = one_label(of("nlcd-annual", path), product, grid_at(x, y, 30, 88, "EPSG:32617"))
    assert isinstance(got, LabelSource)
    with rasterio.open(path) as file:
        assert file.nodata == 4294967295
        west, _, _, north = got.grid.bounds
        row, col = file.index(west + 1, north - 1)
        want = file.read(1, window=((row, row + got.grid.height), (col, col + got.grid.width)))
    assert want.dtype == np.uint32
    np.testing.assert_array_equal(got.codes, np.where(want == 4294967295, product.nodata, want))

    harz = shared_data / "corine_harz_bilinear" / "corine_harz.tif"
    product = product_of("corine-x", {"rule": "fixed", "start": "2021-01-01"})
    patch = Grid("EPSG:4326", Affine(0.001, 0, 10.25, 0, -0.001, 51.92), 60, 60)
    with pytest.raises(LegendError, match=r"corine_harz\.tif.*interpolated"):
        one_label(of("corine-x", harz), product, patch)
    corine = Catalogs.load().label("corine")  # whose numbers of one and two digits are translated
    with pytest.raises(LegendError, match=r"corine_harz\.tif.*interpolated"):
        one_label(of("corine", harz, 2018), corine, patch)


@pytest.mark.real
def test_a_raster_without_georeference_is_refused(shared_data, publish, fixed) -> None:
    path = shared_data / "chesapeake_1m_chips" / "id_000051_lc.tif"
    access = publish(
        item("a", "map", {"codes": {"href": str(path)}}, TILE, datetime="2020-01-01T00:00:00Z")
    )
    with pytest.raises(RasterError, match=r"id_000051_lc\.tif: `crs`"):
        one_label(access, fixed)


@pytest.mark.real
def test_real_files_over_http_are_those_on_disk(shared_data, publish) -> None:
    tool = shared_data.parent / "tools" / "range_server.py"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(tool), str(shared_data), "--port", str(port)]
    with subprocess.Popen([*command, "--latency-ms", "1", "3"]) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            for _ in range(100):
                try:
                    web.get(f"{url}/__reset")
                    break
                except AccessError:
                    time.sleep(0.05)
            name = "worldcover/ESA_WorldCover_10m_2021_v200_N00E006_Map.tif"
            with rasterio.open(shared_data / name) as file:
                grid = Grid("EPSG:4326", Affine(*file.transform[:6]), file.width, file.height)
            got = []
            for where, root in (("disk", str(shared_data)), ("web", url)):
                said = item(
                    "v200", "esa-worldcover", {"map": {"href": f"{root}/{name}"}}, grid,
                    datetime="2021-01-01T00:00:00Z", **{"esa_worldcover:product_version": "2.0.0"},
                )  # fmt: skip
                access = publish(said, name=where)
                product = Catalogs.load().label("esa-worldcover-v200")
                x, y = Transformer.from_crs(4326, 32632, always_xy=True).transform(7.42, 1.64)
                got.append(one_label(access, product, grid_at(x - 1320, y + 1320, 10, 264)))
            np.testing.assert_array_equal(got[0].codes, got[1].codes)
            assert got[0].grid == got[1].grid
            stats = json.loads(web.get(f"{url}/__stats"))
            assert stats["requests"] < 12
            assert stats["bytes"] < (shared_data / name).stat().st_size / 2
        finally:
            process.terminate()
