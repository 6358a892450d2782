"""The catalogue against pystac, pyarrow, rasterio, shapely, and the rules of the extensions.

pystac bundles the core schemas of STAC 1.1.0; those of extensions lie in `schemas/`, as the source
packages of pystac's extensions on PyPI have recorded them. No package has those of eo and raster
2.0.0: the rules of their fields are in `check_extensions`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pystac
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import CRS, Geod, Transformer
from pystac.validation import RegisteredValidator, validate_dict
from shapely.geometry import shape
from stac_geoparquet.arrow import stac_table_to_items

from las_builder.core.grid import Grid
from las_builder.core.workspace import sha256_file
from las_builder.errors import WorkspaceError
from las_builder.publish import publish
from las_builder.publish.footprint import footprint, outlines, overall

Corpus = Callable[..., Any]


@pytest.fixture(autouse=True)
def _schemas(schemas: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every schema that validation asks for, from the disk."""
    for uri, said in schemas.items():
        monkeypatch.setitem(RegisteredValidator.get_validator().schema_cache, uri, said)


def published(made: Any, **more: Any) -> dict[str, dict[str, Any]]:
    """Publish, and read every JSON document back."""
    publish(made.space.catalog, made.corpus, made.records, write_items=True, **more)
    paths = sorted(made.space.catalog.rglob("*.json"))
    return {str(p.relative_to(made.space.catalog)): json.loads(p.read_text()) for p in paths}


def check_extensions(said: dict[str, Any]) -> set[str]:
    """The rules of the extension schemas on the fields we use; returns the prefixes seen."""
    seen = set()

    def walk(value: Any) -> None:
        if isinstance(value, list):
            for part in value:
                walk(part)
        if not isinstance(value, dict):
            return
        for key, part in value.items():
            prefix = key.split(":")[0] if ":" in key else None
            if prefix:
                seen.add(prefix)
            if key == "proj:code":
                assert part is None or re.fullmatch(r"[A-Z]+:[0-9A-Za-z]+", part)
            elif key == "proj:wkt2":
                assert CRS.from_wkt(part)
            elif key == "proj:shape":
                assert [type(v) for v in part] == [int, int]
            elif key == "proj:transform":
                assert len(part) == 6
                assert all(isinstance(v, float) for v in part)
            elif key == "eo:cloud_cover":
                assert 0 <= part <= 100
            elif key in ("raster:scale", "raster:offset"):
                assert isinstance(part, float)
            elif key == "file:checksum":
                assert re.fullmatch(r"1220[0-9a-f]{64}", part)
            elif key == "file:size":
                assert isinstance(part, int)
                assert part > 0
            elif key == "classification:classes":
                values = [entry["value"] for entry in part]
                assert len(values) == len(set(values)) > 0
                for entry in part:
                    assert re.fullmatch(r"[0-9A-Za-z_-]+", entry["name"])
                    assert re.fullmatch(r"[0-9A-F]{6}", entry.get("color_hint", "000000"))
            elif prefix not in (None, "las", "eo", "sci", "view", "processing", "raster"):
                raise AssertionError(f"no rule for {key}")
            walk(part)

    walk(said)
    declared = {re.sub(r".*github.io/([a-z-]+)/.*", r"\1", uri) for uri in said["stac_extensions"]}
    names = {"proj": "projection", "sci": "scientific"}
    assert {names.get(prefix, prefix) for prefix in seen} - {"las"} <= declared
    return seen


def test_everything_is_valid_stac(whole: Any) -> None:
    documents = published(whole)
    assert len(documents) == 1 + 2 + len(whole.records) == 3 + 7 + 2
    for said in documents.values():
        assert said["stac_version"] == "1.1.0"
        validate_dict(said)
        check_extensions(said)


def test_pystac_walks_the_catalogue(whole: Any) -> None:
    published(whole)
    root = pystac.Catalog.from_file(str(whole.space.catalog / "catalog.json"))
    assert [c.id for c in root.get_collections()] == ["s2", "l8"]
    items = list(root.get_items(recursive=True))
    assert len(items) == len(whole.records)
    for item in items:
        item.validate()
        assert item.get_collection().id == item.collection_id == item.get_parent().id
        assert item.get_root().id == "tiny"
    things = [*items, *root.get_collections()]
    for asset in [asset for thing in things for asset in thing.assets.values()]:
        assert Path(asset.get_absolute_href()).is_file()


def test_a_broken_document_would_be_noticed(whole: Any) -> None:
    said = published(whole)["s2/collection.json"]
    with pytest.raises(pystac.errors.STACValidationError):
        validate_dict({**said, "license": "no such thing"})
    with pytest.raises(pystac.errors.STACValidationError):
        validate_dict({**said, "assets": {"a": {"href": "x", "file:size": "many"}}})
    item = {**said, "stac_extensions": [], "assets": {"a": {"file:checksum": "abc"}}}
    with pytest.raises(AssertionError):
        check_extensions(item)


def test_items_open_the_pixels(whole: Any) -> None:
    """The range of bytes that an asset states: GDAL reads what was packed, on its grid."""
    documents = published(whole)
    for record in whole.records:
        said = documents[f"{record.subset}/items/{record.subset}-{record.key}.json"]
        home = whole.space.catalog / record.subset / "items"
        if record.grid.crs is None:
            assert said["geometry"] is None
            assert "bbox" not in said
            continue
        for name, asset in said["assets"].items():
            path = home / asset["href"]
            with path.open("rb") as file:
                file.seek(asset["las:offset"])
                start = file.read(asset["las:length"])
            assert start[:2] == (b"{\n" if name == "metadata" else b"II")
            if name == "metadata":
                continue
            range_ = f"{asset['las:offset']}_{asset['las:length']}"
            with rasterio.open(f"/vsisubfile/{range_},{path}") as file:
                assert file.transform == Affine(*said["properties"]["proj:transform"])
                assert list(file.shape) == said["properties"]["proj:shape"]
                if name == "image":
                    assert file.scales == tuple(b["raster:scale"] for b in asset["bands"])
                    assert file.offsets == tuple(b["raster:offset"] for b in asset["bands"])
                    assert file.descriptions == tuple(b["name"] for b in asset["bands"])


def test_checksums_sizes_and_what_the_collections_say(whole: Any) -> None:
    documents = published(whole)
    root, said = documents["catalog.json"], documents["s2/collection.json"]
    home = whole.space.catalog / "s2"
    for asset in said["assets"].values():
        path = home / asset["href"]
        assert asset["file:size"] == path.stat().st_size
        assert asset["file:checksum"] == "1220" + sha256_file(path)
    assert len([a for a in said["assets"].values() if a["type"] == "application/x-tar"]) == 2
    licence = json.loads(whole.space.manifest.read_text())["license"]
    for thing in (root, said):
        assert thing["title"].startswith("SYNTHETIC")
        assert thing["description"].startswith("SYNTHETIC")
    assert said["license"] == licence["id"] == "CC-BY-4.0"
    assert root["las:license"] == licence
    assert said["summaries"]["las:license"] == [licence]
    assert said["summaries"]["las:licenses"] == [
        {"name": "esa-worldcover-v200", "license": "CC-BY-4.0"},
        {"name": "sentinel-2-l2a", "license": "other"},
    ]
    assert {p["name"] for p in said["providers"]} > {"las_builder"}
    assert "ESA WorldCover project 2021" in said["sci:citation"]
    assert said["sci:publications"][0]["doi"] == "10.5281/zenodo.7254221"
    assert "https://creativecommons.org/licenses/by/4.0/" in [
        link["href"] for link in said["links"] if link["rel"] == "license"
    ]
    assert said["summaries"]["platform"] == ["sentinel-2a"]
    l8 = documents["l8/collection.json"]
    assert l8["summaries"]["gsd"] == [30.0]
    assert l8["summaries"]["las:samples"] == [
        {"split": "train", "samples": 1}, {"split": "val", "samples": 1},
    ]  # fmt: skip
    assert [b["eo:common_name"] for b in said["item_assets"]["image"]["bands"]] == ["blue", "red"]
    classes = said["item_assets"]["label"]["classification:classes"]
    assert classes[0] == {
        "value": 0, "name": "tree_cover", "title": "Tree cover", "color_hint": "006400"
    }  # fmt: skip
    assert classes[-1]["nodata"] is True
    assert said["extent"]["temporal"]["interval"] == [
        ["2021-06-01T10:30:11.024000Z", "2021-06-11T10:30:11.024000Z"]
    ]


def test_properties_of_items(whole: Any) -> None:
    documents = published(whole)
    said = documents["s2/items/s2-south-20210602.json"]["properties"]
    assert said["title"] == "SYNTHETIC: s2, south, 2021-06-02"
    assert said["datetime"] == "2021-06-02T10:30:11.024000Z"
    assert said["proj:code"] == "EPSG:32718"
    assert said["gsd"] == 10.0
    assert said["eo:cloud_cover"] == 3.5
    assert said["las:products"] == [{"name": "esa-worldcover-v200", "version": "item-1"}]
    assert (said["las:weight_km2"], said["las:weight_km2_design"]) == (12.5, 12)
    assert said["las:synthetic"] is True
    assert (said["version"], said["license"]) == ("1", "CC-BY-4.0")
    assert (said["platform"], said["view:sun_elevation"]) == ("sentinel-2a", 41.5)
    links = documents["s2/items/s2-south-20210602.json"]["links"]
    assert [link["href"] for link in links if link["rel"] == "derived_from"] == [
        "https://stac.example/items/scene-1"
    ]
    own = documents["s2/items/s2-own-crs-20210605.json"]["properties"]
    assert own["proj:code"] is None
    assert "Lambert" in own["proj:wkt2"]
    nowhere = documents["s2/items/s2-nowhere-20210604.json"]["properties"]
    assert "las:weight_km2" not in nowhere
    assert "proj:code" not in nowhere
    assert "eo:cloud_cover" not in documents["s2/items/s2-north-20210601.json"]["properties"]


def test_parquet_holds_the_same_items(whole: Any) -> None:
    documents = published(whole)
    table = pq.read_table(whole.space.catalog / "items.parquet")
    assert table["id"].to_pylist() == [f"{r.subset}-{r.key}" for r in whole.records]
    geo = json.loads(table.schema.metadata[b"geo"])
    assert geo["primary_column"] == "geometry"
    about = json.loads(table.schema.metadata[b"stac-geoparquet"])["collections"]
    assert set(about) == {"s2", "l8"}
    for one in about.values():
        validate_dict(one)
    for row in stac_table_to_items(table):
        said = documents[f"{row['properties']['las:subset']}/items/{row['id']}.json"]
        known = {k: v for k, v in said["properties"].items() if v is not None and k != "datetime"}
        assert {k for k, v in row["properties"].items() if v is not None} == {*known, "datetime"}
        assert known == {k: row["properties"][k] for k in known}
        when = datetime.fromisoformat(row["properties"]["datetime"])
        assert when == datetime.fromisoformat(said["properties"]["datetime"])
        if said["geometry"] is None:
            assert row["geometry"]["coordinates"] == []
            assert list(row["bbox"]) == [-180, -90, 180, 90]
        else:
            assert shape(row["geometry"]).equals(shape(said["geometry"]))
            assert list(row["bbox"]) == said["bbox"]
        for name, asset in row["assets"].items():
            assert asset["las:offset"] == said["assets"][name]["las:offset"]
            assert (whole.space.catalog / asset["href"]).is_file()


def test_the_same_bytes_twice_and_no_leftovers(whole: Any, tmp_path: Path) -> None:
    def digests() -> dict[str, str]:
        home = whole.space.catalog
        return {
            str(p.relative_to(home)): sha256_file(p) for p in sorted(home.rglob("*")) if p.is_file()
        }

    publish(whole.space.catalog, whole.corpus, whole.records, write_items=True)
    first = digests()
    publish(whole.space.catalog, whole.corpus, iter(whole.records), write_items=True)
    assert digests() == first
    publish(whole.space.catalog, whole.corpus, whole.records[-3:], write_items=True)
    assert len(digests()) == 3 + 3
    publish(whole.space.catalog, whole.corpus, whole.records)
    assert set(digests()) == {
        "catalog.json", "items.parquet", "s2/collection.json", "l8/collection.json"
    }  # fmt: skip


def test_chunks_change_nothing_but_row_groups(whole: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(whole.space.catalog, whole.corpus, whole.records)
    one = pq.read_table(whole.space.catalog / "items.parquet")
    monkeypatch.setattr("las_builder.publish.stac.CHUNK", 2)
    publish(whole.space.catalog, whole.corpus, whole.records)
    assert pq.read_metadata(whole.space.catalog / "items.parquet").num_row_groups == 5
    two = pq.read_table(whole.space.catalog / "items.parquet")
    assert one.schema == two.schema
    assert one.drop(["bbox"]).equals(two.drop(["bbox"]))


def test_nothing_and_twice_the_same_are_refused(whole: Any) -> None:
    with pytest.raises(WorkspaceError, match="las pack"):
        publish(whole.space.catalog, whole.corpus, [])
    with pytest.raises(WorkspaceError, match="one sample"):
        publish(whole.space.catalog, whole.corpus, [whole.records[0], whole.records[0]])
    with pytest.raises(WorkspaceError, match="order of ids"):
        publish(whole.space.catalog, whole.corpus, whole.records[::-1])


PATCHES = [
    pytest.param(Grid("EPSG:32632", Affine(10, 0, 549890, 0, -10, 6344080), 264, 264), id="north"),
    pytest.param(Grid("EPSG:32718", Affine(10, 0, 717730, 0, -10, 5700090), 264, 264), id="south"),
    pytest.param(
        Grid("EPSG:32660", Affine(10, 0, 621120, 0, -10, 7324490), 3000, 264), id="180 north"
    ),
    pytest.param(
        Grid("EPSG:32701", Affine(10, 0, 166000, 0, -10, 8000080), 3000, 264), id="180 south"
    ),
    pytest.param(Grid("EPSG:3031", Affine(30, 0, -3000, 0, -30, 1e6), 264, 264), id="3031 on 0"),
    pytest.param(Grid("EPSG:3031", Affine(30, 0, -3000, 0, -30, -1e6), 264, 264), id="3031 on 180"),
    pytest.param(
        Grid("EPSG:4326", Affine(1e-4, 0, 179.99, 0, -1e-4, 66), 200, 200), id="beyond 180"
    ),
]


@pytest.mark.parametrize("grid", PATCHES)
def test_footprints_hold_every_pixel_and_little_else(grid: Grid) -> None:
    geometry, bbox = footprint(grid)
    found = shape(geometry)
    assert found.is_valid
    west, south, east, north = found.bounds
    assert west >= -180
    assert east <= 180
    to = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    x, y = np.meshgrid(*grid.xy())
    lon, lat = to.transform(x[::13, ::13].ravel(), y[::13, ::13].ravel())
    lon = (lon + 180) % 360 - 180
    inside = shapely.contains_xy(found, lon, lat)
    assert inside.mean() > 0.999
    assert south >= bbox[1] - 1e-6
    assert north <= bbox[3] + 1e-6
    crosses = bbox[0] > bbox[2]
    assert crosses == (found.geom_type == "MultiPolygon")
    assert crosses == (np.ptp(lon) > 180)
    in_box = (lon >= bbox[0]) | (lon <= bbox[2]) if crosses else (lon >= bbox[0]) & (lon <= bbox[2])
    assert in_box.all()
    # what a kilometre of the map is on the ground: UTM within 0.1 %, 3031 within 5 % at 81 S
    area = abs(Geod(ellps="WGS84").geometry_area_perimeter(found)[0])
    assert area == pytest.approx(grid.pixel_area() * grid.width * grid.height, rel=0.05)
    parts = getattr(found, "geoms", [found])
    assert all(part.exterior.is_ccw for part in parts)  # RFC 7946


@pytest.mark.parametrize(("crs", "pole"), [("EPSG:3031", -90.0), ("EPSG:3413", 90.0)])
def test_a_patch_on_a_pole(crs: str, pole: float) -> None:
    grid = Grid(crs, Affine(30, 0, -3000, 0, -30, 4000), 264, 264)
    geometry, bbox = footprint(grid)
    found = shape(geometry)
    assert found.is_valid
    assert (bbox[0], bbox[2]) == (-180, 180)
    assert pole in (bbox[1], bbox[3])
    for lon in (-179.9, -90, 0, 45, 179.9):
        assert shapely.contains_xy(found, lon, pole - np.sign(pole) * 1e-4)
        assert not shapely.contains_xy(found, lon, pole - np.sign(pole) * 0.2)


def test_the_box_around_boxes_leaves_out_the_widest_gap() -> None:
    assert overall([]) is None
    assert overall([(10, 0, 11, 1), (20, -5, 21, 0)]) == (10, -5, 21, 1)
    assert overall([(177, 0, 178, 1), (-179, 2, -178, 3)]) == (177, 0, -178, 3)
    assert overall([(177, 0, -179, 1)]) == (177, 0, -179, 1)
    assert overall([(177, 0, -179, 1), (-179, 0, -170, 1)]) == (177, 0, -170, 1)
    assert overall([(-180, 0, 180, 1), (5, 2, 6, 3)]) == (-180, 0, 180, 3)
    assert overall([(170, 0, 175, 1), (179, 0, 180, 1)]) == (170, 0, 180, 1)


def test_footprint_of_nothing() -> None:
    assert footprint(Grid(None, Affine(1, 0, 0, 0, -1, 0), 4, 4)) == (None, None)


def test_many_outlines_are_the_outlines_of_each() -> None:
    grids = [grid.values[0] for grid in PATCHES]
    grids += [Grid(None, Affine(1, 0, 0, 0, -1, 0), 4, 4), *grids[::-1]]
    grids += [Grid("EPSG:3031", Affine(30, 0, -3000, 0, -30, 4000), 264, 264)]
    grids += [Grid("EPSG:2193", Affine(10, 0, 1570000, 0, -10, 5180000), 264, 264)]
    found = outlines(grids)
    for grid, wkb, box, gsd in zip(grids, found.wkb, found.boxes, found.gsd, strict=True):
        geometry, bbox = footprint(grid)
        if geometry is None:
            assert shapely.from_wkb(wkb).is_empty
            assert np.isnan(box).all()
            assert gsd is None
            continue
        assert shapely.from_wkb(wkb).normalize().equals_exact(shape(geometry).normalize(), 1e-7)
        parts = getattr(shapely.from_wkb(wkb), "geoms", [shapely.from_wkb(wkb)])
        assert all(part.exterior.is_ccw for part in parts)  # RFC 7946
        assert box == pytest.approx(bbox, abs=1e-7)
        assert gsd == pytest.approx(np.sqrt(grid.pixel_area()))


def test_datetimes_are_utc(whole: Any) -> None:
    for said in published(whole).values():
        if said["type"] == "Feature":
            assert datetime.fromisoformat(said["properties"]["datetime"]).tzinfo == UTC
