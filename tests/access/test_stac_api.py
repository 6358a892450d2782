"""STAC APIs of both dialects, replaying what the providers answered, by the real client."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine
from kit_loopback import PAYER, Loopback, serve
from pyproj import Transformer
from rasterio.shutil import copy as copy_raster
from replica import APIS, HOSTS, Replica
from shapely.geometry import shape

from las_builder.access import (
    Access,
    ReadRequest,
    SearchRequest,
    open_access,
    pin_files,
    ranges,
    raster,
)
from las_builder.access.items import Entry, scene_of
from las_builder.access.stac_api import StacApi, any_api, boxes_of, cells_of
from las_builder.catalogs import Catalogs
from las_builder.core.grid import Grid
from las_builder.core.types import AssetRef, Chip, Gap, GapReason, Period, Scene
from las_builder.errors import AccessError, LasWarning, SourceError, StacError

CATALOGS = Catalogs.load()
ALWAYS = Period.parse("2013-01-01/2030-01-01")
EVERYTHING = ["filter", "query", "fields"]


def changed(item: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A copy with another id and other properties; None takes one away."""
    out = copy.deepcopy(item)
    out["id"] = more.pop("id")
    for key, value in more.items():
        out["properties"][key.replace("__", ":")] = value
    out["properties"] = {k: v for k, v in out["properties"].items() if v is not None}
    return out


@pytest.fixture(scope="module")
def recorded(shared_data: Path) -> dict[str, list[dict[str, Any]]]:
    stac = shared_data / "stac"
    return {
        place: [json.loads(path.read_text()) for path in sorted(stac.glob(pattern))]
        for place, pattern in {
            "planetary-computer": "items/pc_*/*.json", "earth-search": "items/earthsearch_*/*.json",
            "pc-collections": "collections/pc_*.json", "es-collections": "collections/earthsearch_*.json",
            "jp2": "items/stactools_sentinel2/*.json",
        }.items()
    }  # fmt: skip


@pytest.fixture(scope="module")
def server(
    recorded: dict[str, list[dict[str, Any]]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Loopback]:
    root = tmp_path_factory.mktemp("providers")
    es = recorded["earth-search"]
    s2 = next(i for i in es if i["id"] == "S2B_24MUV_20250731_0_L2A")
    landsat = next(i for i in recorded["planetary-computer"] if "LC09" in i["id"])
    over = [
        {**i, "collection": "sentinel-2-l2a", "stac_version": "1.0.0"} for i in recorded["jp2"]
    ]  # fmt: skip
    worldcover = {
        **landsat, "id": "has2021", "collection": "esa-worldcover",
        "assets": {"map": {"href": "https://ai4edataeuwest.blob.core.windows.net/x.tif"}},
        "properties": {
            "datetime": None, "start_datetime": "2021-01-01T00:00:00Z", "proj:epsg": 4326,
            "end_datetime": "2021-12-31T23:59:59Z", "esa_worldcover:product_version": "2.0.0",
            "proj:shape": [36000, 36000], "proj:transform": [1 / 12000, 0, 6, 0, -1 / 12000, 3],
        },
    }  # fmt: skip
    es = [
        *es,
        changed(s2, id="doubtful", earthsearch__boa_offset_applied=False),
        changed(s2, id="old", earthsearch__boa_offset_applied=False, s2__processing_baseline="03.01"),
        changed(s2, id="cloudy", eo__cloud_cover=99.0),
        changed(s2, id="unsaid", eo__cloud_cover=None),
    ]  # fmt: skip
    pc = [
        *recorded["planetary-computer"],
        changed(landsat, id="LC08", platform="landsat-8"), changed(landsat, id="LE07", platform="landsat-7"),
        worldcover,
    ]  # fmt: skip
    places = {
        APIS["planetary-computer"]: {"items": pc, "collections": recorded["pc-collections"], "extensions": EVERYTHING, "page": 2},
        APIS["earth-search"]: {"items": es, "collections": recorded["es-collections"], "extensions": ["query", "fields"], "page": 2},
        "plain.example.org/v1": {"items": es, "collections": recorded["es-collections"], "extensions": [], "page": 100},
        "plain-pc.example.org/v1": {"items": pc, "collections": recorded["pc-collections"], "extensions": [], "page": 100},
        "full.example.org/v1": {"items": es, "collections": recorded["es-collections"], "extensions": EVERYTHING, "page": 1},
        "over.example.org/v1": {"items": over, "collections": recorded["es-collections"], "extensions": ["filter"], "page": 5},
    }  # fmt: skip
    (root / "apis.json").write_text(json.dumps(places))
    running = serve(root)
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def _mirrored(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAS_MIRRORS", server.mirrors)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    server.set(revoked=[])
    server.ask("reset")


def grid_in(item: dict[str, Any], crs: str, pixel: float, size: int = 16) -> Grid:
    place = shape(item["geometry"]).representative_point()
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(place.x, place.y)
    return Grid(crs, Affine(pixel, 0, round(x), 0, -pixel, round(y)), size, size)


def found(access: Access, imagery: str, grid: Grid, max_cloud: float = 100) -> list[Scene]:
    request = SearchRequest(site="p", grid=grid, period=ALWAYS, max_cloud=max_cloud)
    return access.search(CATALOGS.imagery(imagery), [request])[0]


# ---- both dialects


@pytest.mark.parametrize(
    ("provider", "imagery", "folder"),
    [("planetary-computer", "sentinel-2-l2a", "pc_sentinel"), ("planetary-computer", "naip", "pc_naip"),
     ("planetary-computer", "landsat-c2-l2", "pc_landsat"),
     ("earth-search", "sentinel-2-l2a", "earthsearch_sentinel-2-l2a"),
     ("earth-search", "sentinel-2-c1-l2a", "earthsearch_sentinel-2-c1"),
     ("earth-search", "landsat-c2-l2", "earthsearch_landsat")],
)  # fmt: skip
def test_every_recorded_item_is_found_on_its_lattice(
    shared_data: Path, provider: str, imagery: str, folder: str
) -> None:
    declared, access = CATALOGS.imagery(imagery), open_access(provider, catalogs=CATALOGS)
    seen = 0
    for path in sorted((shared_data / "stac" / "items").glob(f"{folder}*/*.json")):
        item = json.loads(path.read_text())
        crs, pixel = f"EPSG:{item['properties']['proj:epsg']}", declared.lattice.pixel
        scenes = {s.id: s for s in found(access, imagery, grid_in(item, crs, pixel))}
        scene = scenes[item["id"]]
        # What the item says, read here without any of our code.
        red = item["assets"].get("red") or item["assets"].get("B04") or item["assets"]["image"]
        transform = red.get("proj:transform") or item["properties"]["proj:transform"]
        rows, columns = red.get("proj:shape") or item["properties"]["proj:shape"]
        assert tuple(scene.grid.transform)[:6] == tuple(transform[:6])
        assert (scene.grid.crs, scene.grid.shape) == (crs, (rows, columns))
        assert declared.lattice.cell is None or declared.lattice.holds(
            scene.grid.crs or "", scene.grid.transform
        )
        href = scene.assets[declared.rgb[0]].href
        want = red["href"].replace(
            "s3://usgs-landsat/", "https://usgs-landsat.s3.us-west-2.amazonaws.com/"
        )
        assert href == want
        seen += 1
    assert seen >= 1


def test_the_offset_is_applied_exactly_once_however_it_is_told(recorded: Any) -> None:
    """Earth Search: applied, although its bands say -0.1; Planetary Computer: by the baseline."""
    declared = CATALOGS.imagery("sentinel-2-l2a")
    item = next(i for i in recorded["earth-search"] if i["id"] == "S2B_24MUV_20250731_0_L2A")
    assert item["assets"]["red"]["raster:bands"][0]["offset"] == -0.1, "the known-wrong statement"
    here = grid_in(item, "EPSG:32724", 10)
    scenes = {s.id: s for s in found(open_access("earth-search"), "sentinel-2-l2a", here)}
    assert declared.radiometry(scenes[item["id"]], "B04") == (1e-4, 0.0)
    assert declared.radiometry(scenes["old"], "B04") == (1e-4, 0.0)
    assert "doubtful" not in scenes, "false is said of pixels that have it applied, and of others"
    first = next(i for i in recorded["earth-search"] if i["id"].startswith("S2B_T24MUV"))
    (found_c1, *_) = found(
        open_access("earth-search"), "sentinel-2-c1-l2a", grid_in(first, "EPSG:32724", 10)
    )
    assert CATALOGS.imagery("sentinel-2-c1-l2a").radiometry(found_c1, "B04") == (1e-4, -0.1)
    assert found_c1.assets["B04"].size == first["assets"]["red"]["file:size"]
    pc = next(i for i in recorded["planetary-computer"] if i["id"].startswith("S2A"))
    crs = f"EPSG:{pc['properties']['proj:epsg']}"
    old = {
        s.id: s
        for s in found(open_access("planetary-computer"), "sentinel-2-l2a", grid_in(pc, crs, 10))
    }[pc["id"]]
    assert declared.radiometry(old, "B04") == (1e-4, 0.0)
    new = dataclasses.replace(old, properties={**old.properties, "s2:processing_baseline": "05.09"})
    assert declared.radiometry(new, "B04") == (1e-4, -0.1)


@pytest.mark.parametrize("api", ["plain", "full"])
def test_what_an_api_cannot_do_is_done_here(recorded: Any, api: str, server: Loopback) -> None:
    """Without filter, query, fields and with one item a page: the same scenes, to the last field."""
    item = next(i for i in recorded["earth-search"] if i["id"] == "S2B_24MUV_20250731_0_L2A")
    here = grid_in(item, "EPSG:32724", 10)
    declared = CATALOGS.provider("earth-search")
    other = StacApi((declared.model_copy(update={"api": f"https://{api}.example.org/v1"}),))
    ids = {}
    for name, access in (("known", open_access("earth-search")), (api, other)):
        for most in (100.0, 60.0):
            ids[name, most] = [
                (s.id, s.cloud_cover, s.grid, dict(s.assets)) for s in found(access, "sentinel-2-l2a", here, most)
            ]  # fmt: skip
    assert ids["known", 100.0] == ids[api, 100.0]
    assert ids["known", 60.0] == ids[api, 60.0]
    assert [i[0] for i in ids[api, 60.0]] == sorted(
        ["S2B_24MUV_20250731_0_L2A", "old", "unsaid"]
    ), "one that does not say is kept"
    if api == "full":
        asked = [
            line
            for line in server.ask("log")["log"]
            if line[1].startswith("full.") and line[0] == "POST"
        ]
        assert len(asked) >= 4, "pages are followed"


@pytest.mark.parametrize("api", ["filter", "nothing"])
def test_landsat_8_and_9_are_one_sensor_and_7_is_not(recorded: Any, api: str) -> None:
    """Whether the API can be asked for them or not."""
    declared = CATALOGS.provider("planetary-computer")
    plain = declared.model_copy(update={"api": "https://plain-pc.example.org/v1"})
    access = StacApi((declared if api == "filter" else plain,))
    item = next(i for i in recorded["planetary-computer"] if "LC09" in i["id"])
    crs = f"EPSG:{item['properties']['proj:epsg']}"
    scenes = found(access, "landsat-c2-l2", grid_in(item, crs, 30))
    platforms = {s.properties["platform"] for s in scenes}
    assert platforms == {"landsat-8", "landsat-9"}


def test_many_sites_are_one_search(recorded: Any, server: Loopback) -> None:
    items = [i for i in recorded["planetary-computer"] if i["id"].startswith("S2A")]
    grids = [grid_in(i, f"EPSG:{i['properties']['proj:epsg']}", 10) for i in items]
    requests = [
        SearchRequest(site=str(i), grid=g, period=ALWAYS, max_cloud=100)
        for i, g in enumerate(grids)
    ]
    access = open_access("planetary-computer")
    single = [access.search(CATALOGS.imagery("sentinel-2-l2a"), [r])[0] for r in requests]
    server.ask("reset")
    together = access.search(CATALOGS.imagery("sentinel-2-l2a"), requests)
    assert [[s.id for s in a] for a in together] == [[s.id for s in a] for a in single]
    assert all(items[i]["id"] in {s.id for s in a} for i, a in enumerate(together))
    assert server.seen()["requests"] <= 4, "pages of two"


# ---- the antimeridian


@pytest.mark.parametrize(
    ("lon", "lat", "crs"), [(179.999, 66.2, "EPSG:32601"), (-179.999, 66.2, "EPSG:32660"),
                            (179.99, -79.8, "EPSG:32760")],
)  # fmt: skip
def test_a_patch_over_180_degrees_finds_the_tiles_of_both_sides(
    lon: float, lat: float, crs: str
) -> None:
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon, lat)
    grid = Grid(crs, Affine(10, 0, round(x) - 640, 0, -10, round(y) + 640), 128, 128)
    boxes = boxes_of(grid)
    assert len(boxes) == 2
    assert sorted((w == -180.0, e == 180.0) for w, _, e, _ in boxes) == [
        (False, True),
        (True, False),
    ]
    assert all(e - w < 1 for w, _, e, _ in boxes)
    provider = any_api("https://over.example.org/v1")
    scenes = found(StacApi((provider,)), "sentinel-2-l2a", grid)
    assert [s.id[:12] for s in scenes] == (["S2A_T01WCP_2"] if lat > 0 else ["S2A_OPER_MSI"])


def test_boxes_near_a_pole_go_all_the_way_round() -> None:
    grid = Grid("EPSG:3031", Affine(30, 0, -960, 0, -30, 960), 64, 64)
    ((west, south, east, north),) = boxes_of(grid)
    assert (west, east, south) == (-180.0, 180.0, -90.0)
    assert -90 < north < -89


@pytest.mark.parametrize(
    ("crs", "x", "y", "cells"),
    [
        ("EPSG:32660", 833_900, 40_000, {(179, 0), (-180, 0)}),
        ("EPSG:4326", 179.9, 0.05, {(179, 0), (179, -1)}),  # ends at 180 degrees
        ("EPSG:4326", 11.95, 90.0, {(11, 89), (12, 89)}),
        ("EPSG:3031", -320, 320, {(lon, -90) for lon in range(-180, 180)}),
    ],
)
def test_cells_of_maps_are_none_of_them_empty(
    crs: str, x: float, y: float, cells: set[tuple[int, int]]
) -> None:
    pixel = 10 if crs != "EPSG:4326" else 0.1 / 64
    found = cells_of(Grid(crs, Affine(pixel, 0, x, 0, -pixel, y), 64, 64))
    assert {(w, s) for w, s, _, _ in found} == cells
    assert all((e - w, n - s) == (1, 1) for w, s, e, n in found)


# ---- what is wrong with items and collections


def test_an_incomplete_item_is_passed_over_where_others_are_not(
    shared_data: Path, recorded: Any, tmp_path: Path
) -> None:
    whole = next(i for i in recorded["earth-search"] if i["id"] == "S2B_24MUV_20250731_0_L2A")
    broken = changed(whole, id="broken", proj__epsg=None)
    for asset in broken["assets"].values():
        asset.pop("proj:transform", None)
    replica = Replica(tmp_path)
    for kept in ([broken], [broken, whole]):
        replica.items["earth-search"] = kept
        replica.write_apis()
        running = serve(tmp_path)
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("LAS_MIRRORS", running.mirrors)
                from las_builder.access import stac_api

                stac_api._client.cache_clear()
                here = grid_in(whole, "EPSG:32724", 10)
                if len(kept) == 1:
                    with pytest.raises(StacError, match=r"items/broken: `proj:code` is None"):
                        found(open_access("earth-search"), "sentinel-2-l2a", here)
                else:
                    assert [
                        s.id for s in found(open_access("earth-search"), "sentinel-2-l2a", here)
                    ] == [whole["id"]]
        finally:
            stac_api._client.cache_clear()
            running.stop()


def test_who_pays_is_said_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    access, landsat = open_access("earth-search"), CATALOGS.imagery("landsat-c2-l2")
    with pytest.raises(SourceError, match=r"AWS_ACCESS_KEY_ID.*planetary-computer"):
        access.check(landsat, [], [])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with pytest.warns(LasWarning, match="your AWS account pays"):
        access.check(landsat, [], [])
    access.check(CATALOGS.imagery("sentinel-2-l2a"), [], [CATALOGS.label("esa-worldcover-v200")])


def test_a_collection_that_is_not_there_is_named() -> None:
    imagery = CATALOGS.imagery("naip")
    where = [w.model_copy(update={"collection": "naip-2"}) for w in imagery.where]
    with pytest.raises(SourceError, match="It has no naip-2"):
        open_access("planetary-computer").check(imagery.model_copy(update={"where": where}), [], [])


# ---- signatures


@pytest.fixture
def blob(server: Loopback, recorded: Any) -> tuple[Scene, Grid, np.ndarray]:
    """A scene of the Planetary Computer whose red band is there."""
    data = np.random.default_rng(1).integers(1, 9000, (600, 600)).astype(np.uint16)
    grid = Grid("EPSG:32659", Affine(10, 0, 600000, 0, -10, 6300000), 600, 600)
    href = f"{HOSTS['planetary-computer', 'sentinel-2-l2a']}/x/B04.tif"
    Replica(server.root).put(href, data, grid, 0, 128)
    raster.forget(href)  # the test before left it open, and this is another state of it
    imagery = CATALOGS.imagery("sentinel-2-l2a")
    item = next(i for i in recorded["planetary-computer"] if i["id"].startswith("S2A"))
    crs = f"EPSG:{item['properties']['proj:epsg']}"
    (scene, *_) = found(open_access("planetary-computer"), imagery.name, grid_in(item, crs, 10))
    ref = dataclasses.replace(scene.assets["B04"], href=href, shape=None)
    return dataclasses.replace(scene, grid=grid, assets={"B04": ref}), grid, data


def test_tokens_are_asked_for_just_before_reading_and_renewed_when_refused(
    server: Loopback, blob: tuple[Scene, Grid, np.ndarray]
) -> None:
    scene, grid, data = blob
    access, imagery = open_access("planetary-computer"), CATALOGS.imagery("sentinel-2-l2a")
    part = dataclasses.replace(grid, width=64, height=64)
    request = ReadRequest(site="p", scene=scene, grid=part, bands=("B04",))

    def tokens() -> list[str]:
        return [line[1] for line in server.ask("log")["log"] if "/sas/" in line[1]]

    (chip,) = access.read(imagery, [request])
    assert isinstance(chip, Chip)
    np.testing.assert_array_equal(chip.data[0], data[:64, :64])
    before = len(tokens())
    server.set(revoked=[f"t{n}" for n in range(1, 100)])
    far = Grid(grid.crs, Affine(10, 0, 604000, 0, -10, 6296000), 64, 64)
    with pytest.raises(AccessError, match="403") as caught:
        access.read(imagery, [dataclasses.replace(request, grid=far)])
    assert (caught.value.kind, caught.value.attempts) == ("refused", 2)
    assert len(tokens()) == before + 1
    server.set(revoked=[f"t{n}" for n in range(1, before + 2)])
    (chip,) = access.read(imagery, [dataclasses.replace(request, grid=far)])
    assert len(tokens()) == before + 2
    assert isinstance(chip, Chip)
    np.testing.assert_array_equal(chip.data[0], data[400:464, 400:464])


@pytest.fixture
def bucket(server: Loopback, recorded: Any) -> tuple[Scene, Grid, np.ndarray]:
    """The recorded Landsat scene of Earth Search; its red band is in USGS's bucket, small."""
    data = np.random.default_rng(2).integers(1, 9000, (300, 300)).astype(np.uint16)
    item = next(i for i in recorded["earth-search"] if i["id"].startswith("LC08"))
    crs, (left, top) = f"EPSG:{item['properties']['proj:epsg']}", (399_990, 4_500_015)
    (scene, *_) = found(open_access("earth-search"), "landsat-c2-l2", grid_in(item, crs, 30))
    href = scene.assets["SR_B4"].href
    assert href.startswith("https://usgs-landsat.s3.us-west-2.amazonaws.com/")
    grid = Grid(crs, Affine(30, 0, left, 0, -30, top), 300, 300)
    Replica(server.root).put(href, data, grid, 0, 128)
    ref = dataclasses.replace(scene.assets["SR_B4"], shape=None)
    return dataclasses.replace(scene, grid=grid, assets={"SR_B4": ref}), grid, data


def test_what_its_reader_pays_for_is_read_with_a_signature_and_not_without(
    bucket: tuple[Scene, Grid, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bucket works the signature out by botocore."""
    scene, grid, data = bucket
    access, landsat = open_access("earth-search"), CATALOGS.imagery("landsat-c2-l2")
    part = dataclasses.replace(grid, width=64, height=64)
    request = ReadRequest(site="p", scene=scene, grid=part, bands=("SR_B4",))
    with pytest.raises(AccessError, match="the reader pays, and there is no AWS access key"):
        access.read(landsat, [request])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", PAYER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(AccessError, match=r"HTTP 403.*AccessDenied") as caught:
        access.read(landsat, [request])
    assert caught.value.kind == "refused"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PAYER[1])
    (chip,) = access.read(landsat, [request])
    assert isinstance(chip, Chip)
    np.testing.assert_array_equal(chip.data[0], data[:64, :64])
    ranges.forget(scene.assets["SR_B4"].href)
    pinned = pin_files(scene, ["SR_B4"])  # by HEAD, which is signed as such
    assert pinned.assets["SR_B4"].size
    assert pinned.assets["SR_B4"].etag


def test_jpeg_2000_of_sentinel_2_l1c_is_read_in_place(
    server: Loopback, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real numbers in ESA's format, behind an item like Earth Search's: its bucket is in Frankfurt,
    its reader pays, 20 m bands are files of their own."""
    tile, host = "tiles/18/S/VG/2016/1/12/0", "sentinel-s2-l1c.s3.eu-central-1.amazonaws.com"
    imagery = CATALOGS.imagery("sentinel-2-l1c")
    where = imagery.at("earth-search")
    assert where is not None
    assets, truth = {}, {}
    for band in ("B05", "B11", "B01"):
        source = shared_data / "s2_l1c_virginia_mixed_res" / f"s2_{band}.tif"
        there = server.root / host / tile / f"{band}.jp2"
        there.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(source) as file:
            truth[band], t, shape = file.read(1), file.transform, file.shape
        copy_raster(source, there, driver="JP2OpenJPEG", REVERSIBLE="YES", QUALITY=100,
                    BLOCKXSIZE=128, BLOCKYSIZE=128)  # fmt: skip
        assets[where.assets[band]] = {
            "href": f"s3://sentinel-s2-l1c/{tile}/{band}.jp2", "type": "image/jp2",
            "proj:shape": list(shape), "proj:transform": list(t)[:6],
        }  # fmt: skip
    item = pystac.Item("S2A_18SVG_20160112_0_L1C", None, None, datetime(2016, 1, 12, 16, tzinfo=UTC),
                       {"proj:epsg": 32618, "s2:processing_baseline": "02.01"})  # fmt: skip
    said = item.to_dict() | {"assets": assets, "collection": "sentinel-2-l1c"}
    entry = Entry(pystac.Item.from_dict(said), "item", "sentinel-2-l1c", "earth-search")
    scene = scene_of(entry, imagery)
    assert scene.assets["B05"].href == f"https://{host}/{tile}/B05.jp2"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", PAYER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PAYER[1])
    access = open_access("earth-search")
    assert isinstance(access, StacApi)
    for row, column in ((0, 0), (100, 37), (350, 400)):  # in pixels of 20 m
        left, top = 441720 + 20 * column, 4173460 - 20 * row
        grid = Grid("EPSG:32618", Affine(20, 0, left, 0, -20, top), 64, 64)
        (chip,) = access.read(imagery, [ReadRequest(site="p", scene=scene, grid=grid, bands=("B05", "B11"))])  # fmt: skip
        assert isinstance(chip, Chip)
        for k, band in enumerate(("B05", "B11")):
            want = truth[band][row : row + 64, column : column + 64]
            np.testing.assert_array_equal(chip.data[k], want)
    grid = Grid("EPSG:32618", Affine(60, 0, 441720 + 600, 0, -60, 4173480 - 1200), 64, 64)
    (chip,) = access.read(imagery, [ReadRequest(site="p", scene=scene, grid=grid, bands=("B01",))])
    assert isinstance(chip, Chip)
    np.testing.assert_array_equal(chip.data[0], truth["B01"][20:84, 10:74])
    asked = [line for line in server.ask("log")["log"] if line[1].endswith(".jp2")]
    assert all(line[2].startswith("bytes=") for line in asked), "never a whole file"


# ---- files that are not what they were


@pytest.mark.parametrize(
    ("size", "crs", "west", "pinned", "match"),
    [(300, "EPSG:32659", 600000, None, "rows and columns"), (600, "EPSG:32660", 600000, None, "it lies in"),
     (600, "EPSG:32659", 700000, None, "it lies within"), (600, "EPSG:32659", 600000, 123, "bytes, and had 123")],
)  # fmt: skip
def test_another_file_is_a_failure_and_never_pixels(
    server: Loopback, blob: tuple[Scene, Grid, np.ndarray], size: int, crs: str, west: int,
    pinned: int | None, match: str,
) -> None:  # fmt: skip
    scene, grid, data = blob
    href = (
        f"{HOSTS['planetary-computer', 'sentinel-2-l2a']}/{size}-{crs[-2:]}-{west}-{pinned}/B04.tif"
    )
    other = Grid(crs, Affine(10, 0, west, 0, -10, 6300000), size, size)
    Replica(server.root).put(href, data[:size, :size], other, 0, 128)
    ref = dataclasses.replace(scene.assets["B04"], href=href, shape=(600, 600), size=pinned)
    scene = dataclasses.replace(scene, assets={"B04": ref})
    part = dataclasses.replace(grid, width=64, height=64)
    request = ReadRequest(site="p", scene=scene, grid=part, bands=("B04",))
    with pytest.raises(AccessError, match=match) as caught:
        open_access("planetary-computer").read(CATALOGS.imagery("sentinel-2-l2a"), [request])
    assert (caught.value.kind, caught.value.retryable) == ("changed", False)


def test_a_file_that_was_never_seen_is_a_gap_and_one_that_was_a_failure(
    blob: tuple[Scene, Grid, np.ndarray],
) -> None:
    scene, grid, _ = blob
    access, imagery = open_access("planetary-computer"), CATALOGS.imagery("sentinel-2-l2a")
    whole = scene.assets["B04"]
    gone = dataclasses.replace(whole, href=whole.href.replace("B04.tif", "gone.tif"))
    part = dataclasses.replace(grid, width=64, height=64)

    def read(**assets: AssetRef) -> list[Chip | Gap]:
        request = ReadRequest(
            site="p",
            scene=dataclasses.replace(scene, assets=assets),
            grid=part,
            bands=tuple(assets),
        )
        return access.read(imagery, [request])

    (found,) = read(B04=whole, B03=gone)
    assert isinstance(found, Gap)
    assert found.reason is GapReason.NO_FILE
    assert gone.href in found.detail
    with pytest.raises(AccessError, match="HTTP 404") as caught:
        read(B04=whole, B03=dataclasses.replace(gone, etag='"pinned"'))
    assert (caught.value.kind, caught.value.retryable) == ("absent", False)
    both = dataclasses.replace(scene, assets={"B04": whole, "B03": gone})
    pinned = pin_files(both, ["B04", "B03"]).assets
    assert pinned["B04"].etag
    assert pinned["B03"] == gone, "what is not there is found out when it is read"


# ---- doctor


def test_doctor_says_what_a_provider_says_today(server: Loopback) -> None:
    from las_builder.run.doctor import doctor, live

    said = live("earth-search", CATALOGS)
    head, *lines = said.splitlines()
    asked = int(head.split("; ")[1].split()[0])
    assert 3 <= asked <= 20
    assert "as assumed: landsat-c2-l2: lies on the declared lattice" in lines
    assert any(line.startswith("DIFFERS: sentinel-2-l1c") for line in lines), "there are none here"
    assert any(
        "SCL cannot be read" in line or ("landsat" in line and "reader pays" in line)
        for line in lines
    )
    said = live("planetary-computer", CATALOGS)
    head, *lines = said.splitlines()
    assert int(head.split("; ")[1].split()[0]) <= 20
    assert server.seen()["requests"] <= 40, "both, by the server's count"
    assert "as assumed: esa-worldcover-v200: has2021 has an asset with its codes" in lines
    assert "as assumed: esa-worldcover-v200: lies in EPSG:4326" in lines
    assert any(
        "collections are there: it lacks chesapeake-lu, esa-cci-lc" in line for line in lines
    )
    assert any(line.startswith("DIFFERS: usda-cdl: no item in usda-cdl") for line in lines)
    assert lines[-1].startswith("not asked: ")
    there = doctor(Path("work"), CATALOGS)
    assert "earth-search: https://earth-search.aws.element84.com/v1; never run live" in there
    assert "AWS access key (what readers pay for): none" in there
