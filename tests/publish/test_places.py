"""Where the items are, by pyproj and shapely; what geopandas, tarfile and RFC 7946 make of them."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pystac
import pytest
import shapely
from pyproj import Transformer
from shapely.geometry import shape

from las_builder.publish import publish

Corpus = Callable[..., Any]


def items(made: Any) -> dict[str, dict[str, Any]]:
    """Publish; the JSON items by id."""
    publish(made.space.catalog, made.corpus, made.records, write_items=True)
    paths = made.space.catalog.glob("*/items/*.json")
    return {path.stem: json.loads(path.read_text()) for path in paths}


def in_crs(found: shapely.Geometry, crs: str) -> shapely.Geometry:
    """A WGS 84 geometry in a CRS; its edges are parted first, as they are straight in degrees."""
    to = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    parts = [
        shapely.transform(part, lambda xy: np.column_stack(to.transform(*xy.T)))
        for part in getattr(shapely.segmentize(found, 1.0), "geoms", [found])
    ]
    # two hundredths of a metre close the cut at 180 degrees, which is rounded to a centimetre
    return shapely.union_all([shapely.make_valid(p).buffer(0.02) for p in parts]).buffer(-0.02)


def test_the_transform_and_shape_of_an_item_give_its_footprint(whole: Any) -> None:
    located = [i for i in items(whole).values() if i["geometry"] is not None]
    assert len(located) == len(whole.records) - 1
    for said in located:
        about = said["properties"]
        a, b, c, d, e, f = about["proj:transform"]  # x = a * column + b * row + c, y likewise
        rows, columns = about["proj:shape"]
        ends = [(a * i + b * j + c, d * i + e * j + f) for i, j in ((0, 0), (columns, rows))]
        want = shapely.MultiPoint(ends).envelope
        crs = about["proj:code"] or about["proj:wkt2"]
        found = in_crs(shape(said["geometry"]), crs)
        wrong = found.symmetric_difference(want).area / want.area
        # Straight lines in degrees are bent around a pole: 32 of them are no square.
        assert wrong < (0.03 if "pole" in said["id"] else 1e-3), said["id"]


def test_an_item_across_180_degrees(whole: Any) -> None:
    (said,) = [i for i in items(whole).values() if i["properties"]["las:site"] == "antimeridian"]
    assert said["geometry"]["type"] == "MultiPolygon"
    west, south, east, north = said["bbox"]
    assert 179.9 < west <= 180
    assert -180 <= east < -179.9
    assert south < north
    parts = shape(said["geometry"]).geoms
    assert sorted((p.bounds[0] > 0, p.bounds[2] in (180.0, east)) for p in parts) == [
        (False, True), (True, True),
    ]  # fmt: skip
    for part in parts:
        assert part.exterior.is_ccw
        assert part.bounds[2] - part.bounds[0] < 0.1
        assert -180 <= part.bounds[0] <= part.bounds[2] <= 180


def test_an_item_on_the_pole(whole: Any) -> None:
    (said,) = [i for i in items(whole).values() if i["properties"]["las:site"] == "pole"]
    west, south, east, north = said["bbox"]
    assert (west, south, east) == (-180, -90, 180)
    to = Transformer.from_crs("EPSG:3031", "EPSG:4326", always_xy=True)
    _, corners = to.transform([-250, -250, 230, 230], [230, -250, 230, -250])
    _, sides = to.transform([-250, 230, 0, 0], [0, 0, 230, -250])
    assert max(sides) <= north <= max(corners) + 1e-6
    assert shape(said["geometry"]).is_valid


def test_the_box_of_the_collection_around_180_degrees(corpus: Corpus) -> None:
    made = corpus("antimeridian")
    items(made)
    said = json.loads((made.space.catalog / "s2" / "collection.json").read_text())
    ((west, _, east, _),) = said["extent"]["spatial"]["bbox"]
    assert west > 179.9
    assert east < -179.9
    loaded = pystac.Collection.from_file(str(made.space.catalog / "s2" / "collection.json"))
    assert loaded.extent.spatial.bboxes[0][0] == west


def test_every_item_opens_by_itself(whole: Any) -> None:
    wanted = items(whole)
    paths = sorted(whole.space.catalog.glob("*/items/*.json"))
    for path in paths:
        loaded = pystac.Item.from_file(str(path))
        assert loaded.id == path.stem
        assert loaded.geometry == wanted[path.stem]["geometry"]
        assert loaded.get_collection().id == path.parents[1].name == loaded.collection_id
        assert loaded.datetime.tzinfo is not None
    assert len(paths) == len(whole.records)


def test_geopandas_opens_the_table(whole: Any) -> None:
    wanted = items(whole)
    table = geopandas.read_parquet(whole.space.catalog / "items.parquet").set_index("id")
    assert table.crs.equals("EPSG:4326") or table.crs.to_epsg() == 4326
    assert set(table.index) == set(wanted)
    for name, row in table.iterrows():
        geometry = wanted[name]["geometry"]
        if geometry is None:
            assert row.geometry.is_empty
        else:
            assert shapely.equals_exact(row.geometry, shape(geometry), tolerance=0)
        for key in ("las:split", "las:subset", "las:site", "las:synthetic", "title"):
            assert row[key] == wanted[name]["properties"][key]


def test_byte_ranges_of_the_table_are_the_members(whole: Any) -> None:
    """Hrefs are relative to the folder of items.parquet."""
    items(whole)
    home = whole.space.catalog
    read = 0
    for row in pq.read_table(home / "items.parquet").to_pylist():
        for asset in row["assets"].values():
            path = home / asset["href"]
            with tarfile.open(path) as tar:
                content = tar.extractfile(asset["las:member"]).read()
            with path.open("rb") as file:
                file.seek(asset["las:offset"])
                assert file.read(asset["las:length"]) == content
            read += 1
    assert read == 5 * len(whole.records)


@pytest.mark.parametrize("synthetic", [True, False])
def test_titles_say_what_is_synthetic(corpus: Corpus, synthetic: bool) -> None:
    made = corpus("north", "south")
    made = replace(
        made,
        corpus=replace(
            made.corpus, synthetic=synthetic,
            subsets=tuple(replace(s, synthetic=synthetic) for s in made.corpus.subsets),
        ),
        records=[replace(record, synthetic=synthetic) for record in made.records],
    )  # fmt: skip
    found = items(made)
    said = json.loads((made.space.catalog / "s2" / "collection.json").read_text())
    root = json.loads((made.space.catalog / "catalog.json").read_text())
    for thing in (said, root, *(i["properties"] for i in found.values())):
        assert thing["title"].startswith("SYNTHETIC") == synthetic
    assert ("synthetic" in json.dumps(said["keywords"])) == synthetic
    assert said["summaries"]["las:synthetic"] == [synthetic]
