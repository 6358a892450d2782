"""Vector products: from a file to codes on the grid of a patch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
import yaml
from affine import Affine
from pyproj import Transformer
from rasterio.features import rasterize

from las_builder.access import LabelRequest, open_access
from las_builder.access.folders import index_folder
from las_builder.catalogs import Catalogs, LabelProduct
from las_builder.core.grid import Grid
from las_builder.core.types import Gap, LabelSource, Scene
from las_builder.errors import CatalogError, RasterError, StacError
from las_builder.harmonise import regrid

GRID = Grid("EPSG:32633", Affine(10, 0, 500_040, 0, -10, 5_000_040), 64, 48)
KINDS = ("gpkg", "fgb", "geojson", "parquet")

Draw = Callable[..., LabelSource | Gap]


def product_of(
    *features: dict[str, Any], rule: str = "centre", outside: int = 0, **more: Any
) -> LabelProduct:  # fmt: skip
    return LabelProduct.model_validate({
        "name": "mapped", "title": "m", "version": "1", "license": "CC0-1.0", "attribution": "us",
        "nodata": 0, "gsd": 1, "geometry": "vector", "basis": "cover", "verified": False,
        "vector": {"crs": "EPSG:4326", "rule": rule, "outside": outside, "features": features},
        "epoch": {"rule": "fixed", "start": "2020-01-01"}, "sources": [],
        "where": [{"provider": "stac", "collection": "mapped"}],
        "classification:classes": [
            {"value": v, "name": f"class_{v}", "title": str(v), "means": []} for v in range(1, 9)
        ],
        **more,
    })  # fmt: skip


def lonlat(x: Any, y: Any, crs: str = "EPSG:32633") -> tuple[Any, Any]:
    lon, lat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    return lon, lat


def write(
    path: Path, rows: list[dict[str, Any]], crs: str | None = "EPSG:32633", **more: Any
) -> str:
    frame = gpd.GeoDataFrame(rows, geometry="geometry", crs=crs)
    if path.suffix == ".geojson":
        frame = frame.to_crs("EPSG:4326")
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        pyogrio.write_dataframe(frame, path, **more)
    return path.name


@pytest.fixture
def draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Draw:
    """Index a folder with one file of a product, and ask for its codes on a grid."""

    def run(
        product: LabelProduct, file: str, grid: Grid = GRID, folder: Path = tmp_path,
        more: Sequence[tuple[str, list[float]]] = (), **entry: Any,
    ) -> LabelSource | Gap:  # fmt: skip
        catalogs = Catalogs.load()
        monkeypatch.setattr(Catalogs, "label", lambda *a, **k: product)
        said = {"product": product.name, "start": "2020-01-01", "end": "2020-12-31", "file": file}
        config = tmp_path / "index.yaml"
        labels = [{**said, **entry}, *({**said, "file": f, "bbox": b} for f, b in more)]
        text = yaml.safe_dump({"title": "T", "license": "CC0-1.0", "labels": labels})
        config.write_text(text.replace("'20", "20").replace("-01'", "-01").replace("-31'", "-31"))
        out = tmp_path / f"out{len(list(tmp_path.glob('out*')))}"
        index_folder(folder, config, out, catalogs=catalogs)
        access = open_access(str(out))
        access.check(None, [], [product])
        moment = datetime(2020, 6, 1, tzinfo=UTC)
        scene = Scene(id="s", datetime=moment, cloud_cover=None, grid=grid, assets={})
        (found,) = access.labels(product, [LabelRequest(site="p", grid=grid, scene=scene)])
        return found

    return run


def box(col: float, row: float, width: float, height: float) -> Any:
    """Columns and rows of `GRID` as a box on the ground."""
    x, y = 500_040 + 10 * col, 5_000_040 - 10 * row
    return shapely.box(x, y - 10 * height, x + 10 * width, y)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_says_the_same(draw: Draw, tmp_path: Path, kind: str) -> None:
    chance = np.random.default_rng(3)
    rows, want = [], np.zeros(GRID.shape, np.uint8)
    for _ in range(40):
        col, row, width, height = chance.uniform(-9.9, 60, 4).round(1) + 0.03
        sure, floors = float(chance.random()), [None, 1, 2][chance.integers(3)]
        shape = box(col, row, abs(width) / 4 + 1, abs(height) / 4 + 1)
        rows.append({"geometry": shape, "sure": sure, "floors": floors, "name": "x"})
        x, y = np.meshgrid(*GRID.xy())
        if floors == 2 and sure >= 0.3:
            want[shapely.contains_xy(shape, x, y)] = 4
    for row in rows:
        if row["floors"] == 1:
            want[shapely.contains_xy(row["geometry"], x, y)] = 6
    product = product_of(
        {"value": 6, "match": {"floors": "1"}},
        {"value": 4, "match": {"floors": ["2", "3"]}, "at_least": {"sure": 0.3}},
    )
    found = draw(product, write(tmp_path / f"f.{kind}", rows))
    assert isinstance(found, LabelSource)
    assert set(np.unique(want)) == {0, 4, 6}
    np.testing.assert_array_equal(found.codes, want)
    assert (found.grid, found.codes.dtype, found.nodata) == (GRID, np.uint8, 0)
    on_patch = regrid(found, GRID, nodata=0, dtype="uint8")
    np.testing.assert_array_equal(on_patch.codes, want)


def test_absence_is_said_only_where_the_map_reaches(draw: Draw, tmp_path: Path) -> None:
    name = write(tmp_path / "f.gpkg", [{"geometry": box(10, 10, 4, 4)}])
    product = product_of({"value": 1}, outside=2)
    west, south = lonlat(500_040 + 55, 5_000_040 - 295)
    east, north = lonlat(500_040 + 405, 5_000_040 - 45)
    found = draw(product, name, bbox=[west, south, east, north])
    assert isinstance(found, LabelSource)
    x, y = lonlat(*np.meshgrid(*GRID.xy()))
    inside = (x > west) & (x < east) & (y > south) & (y < north)
    want = np.where(inside, 2, 0)
    want[10:14, 10:14] = 1
    np.testing.assert_array_equal(found.codes, want)
    assert 0 < inside.sum() < inside.size
    tight = draw(product, name)  # without a box: as far as its features
    assert isinstance(tight, LabelSource)
    assert set(np.unique(tight.codes[10:14, 10:14])) == {1}
    assert (tight.codes == 2).sum() <= 8 + 8
    away = Grid(GRID.crs, Affine(10, 0, 700_000, 0, -10, 5_000_040), 8, 8)
    assert isinstance(draw(product, name, away), Gap)


def test_features_beyond_the_reach_of_their_map_are_not_drawn(draw: Draw, tmp_path: Path) -> None:
    name = write(tmp_path / "f.gpkg", [{"geometry": box(0, 0, 64, 48)}])
    other = write(tmp_path / "g.gpkg", [{"geometry": box(50, 40, 2, 2)}])
    west, south = lonlat(500_040 - 5, 5_000_040 - 105)
    east, north = lonlat(500_040 + 105, 5_000_040 + 5)
    product = product_of({"value": 1}, outside=2)
    found = draw(product, name, bbox=[west, south, east, north], more=[(other, [14, 44, 16, 46])])
    assert isinstance(found, LabelSource)
    x, y = lonlat(*np.meshgrid(*GRID.xy()))
    inside = (x > west) & (x < east) & (y > south) & (y < north)
    inside[40:42, 50:52] = True
    np.testing.assert_array_equal(found.codes, np.where(inside, 1, 2))
    assert found.version == "f+g"


def test_layers_and_rare_tags_of_openstreetmap(draw: Draw, tmp_path: Path) -> None:
    file = tmp_path / "osm.gpkg"
    areas = [
        {"geometry": box(1, 1, 6, 6), "natural": "wood", "other_tags": '"leaf_type"=>"mixed"'},
        {
            "geometry": box(10, 1, 6, 6),
            "natural": None,
            "other_tags": '"wetland"=>"marsh","a\\"b"=>"c"',
        },
        {"geometry": box(4, 4, 9, 9), "natural": None, "other_tags": None},
    ]
    write(file, areas, layer="multipolygons")
    road = shapely.LineString([(500_040, 4_999_800), (500_680, 4_999_801)])
    write(
        file,
        [{"geometry": road, "natural": "wood", "other_tags": None}],
        layer="lines",
        append=True,
    )
    found = draw(
        product_of(
            {"value": 5, "layer": "lines", "match": {"natural": "wood"}, "width": 40},
            {"value": 3, "match": {"wetland": "marsh"}},
            {"value": 1, "match": {"natural": "wood"}},
        ),
        "osm.gpkg",
        bbox=[14, 44, 16, 46],
    )
    assert isinstance(found, LabelSource)
    want = np.zeros(GRID.shape, int)
    want[1:7, 1:7], want[1:7, 10:16] = 1, 3
    want[22:26] = 5
    np.testing.assert_array_equal(found.codes, want)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32633", "EPSG:3035"])
def test_a_line_is_as_wide_as_declared(draw: Draw, tmp_path: Path, crs: str) -> None:
    line = shapely.LineString(
        [(499_000, 4_999_903.3), (500_311, 4_999_711.7), (500_402, 4_999_990), (502_000, 5_000_700)]
    )
    there = gpd.GeoSeries([shapely.segmentize(line, 20)], crs="EPSG:32633").to_crs(crs)
    name = write(tmp_path / "f.gpkg", [{"geometry": there[0], "road": "a"}], crs=crs)
    wide = product_of({"value": 2, "match": {"road": "*"}, "width": 33})
    found = draw(wide, name, bbox=[14, 44, 16, 46])
    assert isinstance(found, LabelSource)
    x, y = np.meshgrid(*GRID.xy())
    far = shapely.distance(shapely.points(x, y), line)
    np.testing.assert_array_equal(found.codes[far < 16.4], 2)
    assert not found.codes[far > 16.6].any()
    thin = draw(product_of({"value": 2, "match": {"road": "*"}}), name)
    assert isinstance(thin, LabelSource)
    assert not thin.codes.any()


def degrees_grid(crs: str, lon: float, lat: float, pixel: float) -> Grid:
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon, lat)
    return Grid(crs, Affine(pixel, 0, x - 32 * pixel, 0, -pixel, y + 32 * pixel), 64, 64)


@pytest.mark.parametrize(
    ("crs", "lon", "lat"),
    [
        ("EPSG:32701", -179.99, -16.8), ("EPSG:32760", 179.99, -16.8), ("EPSG:32660", 180, 0.02),
        ("EPSG:3031", 100, -89.99), ("EPSG:3031", -180, -80), ("EPSG:3413", 0, 89.99),
        ("EPSG:4326", 180, 40), ("EPSG:32733", 17.99, -33.9),
    ],
)  # fmt: skip
def test_over_the_antimeridian_and_the_poles(
    draw: Draw, tmp_path: Path, crs: str, lon: float, lat: float
) -> None:
    """Cells of one degree, cut at 180; a cell is 1 + (floor(lon) + floor(lat)) % 5."""
    cells = []
    for i in range(-180, 180):
        for j in range(max(-90, int(lat) - 3), min(90, int(lat) + 3)):
            cells.append({"geometry": shapely.box(i, j, i + 1, j + 1), "n": (i + j) % 5})
    name = write(tmp_path / "f.gpkg", cells, crs="EPSG:4326")
    pixel = 0.05 if crs == "EPSG:4326" else 5000
    grid = degrees_grid(crs, lon, lat, pixel)
    product = product_of(*({"value": n + 1, "match": {"n": str(n)}} for n in range(5)))
    found = draw(product, name, grid)
    assert isinstance(found, LabelSource)
    x, y = lonlat(*np.meshgrid(*grid.xy()), crs)
    x = (x + 180) % 360 - 180
    sure = (np.abs(x - np.round(x)) > 1e-6) & (np.abs(y - np.round(y)) > 1e-6)
    sure &= (y > max(-90, int(lat) - 3)) & (y < min(90, int(lat) + 3))
    want = (np.floor(x) + np.floor(y)).astype(int) % 5 + 1
    assert sure.mean() > 0.5
    np.testing.assert_array_equal(found.codes[sure], want[sure])


def test_what_files_must_not_be(draw: Draw, tmp_path: Path) -> None:
    wood = product_of({"value": 1, "match": {"natural": "wood"}})
    name = write(tmp_path / "f.gpkg", [{"geometry": box(0, 0, 5, 5), "landuse": "forest"}])
    with pytest.raises(RasterError, match=r"f\.gpkg: `attributes` is 'landuse'.*natural"):
        draw(wood, name)
    frame = gpd.GeoDataFrame({"landuse": ["a"]}, geometry=[box(0, 0, 5, 5)], crs="EPSG:32633")
    frame.to_parquet(tmp_path / "f.parquet")
    with pytest.raises(RasterError, match=r"f\.parquet: `attributes`"):
        draw(wood, "f.parquet")
    (tmp_path / "broken.gpkg").write_bytes(b"no")
    with pytest.raises(RasterError, match=r"broken\.gpkg: `file`.*GDAL reads"):
        draw(wood, "broken.gpkg")
    none = write(tmp_path / "none.gpkg", [{"geometry": box(0, 0, 5, 5), "natural": "rock"}])
    with pytest.raises(CatalogError, match=r"labels\.0\.bbox.*no feature"):
        draw(wood, none)
    empty = draw(wood, none, bbox=[14, 44, 16, 46])
    assert isinstance(empty, LabelSource)
    assert not empty.codes.any()
    metres = {
        "type": "Polygon",
        "coordinates": [[[5e5, 5e6], [5e5 + 50, 5e6], [5e5, 5e6 + 9], [5e5, 5e6]]],
    }
    feature = {"type": "Feature", "properties": {"natural": "wood"}, "geometry": metres}
    text = json.dumps({"type": "FeatureCollection", "features": [feature]})
    (tmp_path / "wrong.geojson").write_text(text)
    with pytest.raises(RasterError, match=r"wrong\.geojson: `coordinates`.*degrees"):
        draw(wood, "wrong.geojson")
    with pytest.raises(CatalogError, match=r"labels\.0\.file.*a file in"):
        draw(wood, "nothing.gpkg")
    out = sorted(tmp_path.glob("out*/**/none.json"))[0]
    shutil.copytree(out.parents[2], tmp_path / "thin")
    thin = tmp_path / "thin" / out.relative_to(out.parents[2])
    thin.write_text(json.dumps({**json.loads(out.read_text()), "bbox": [14, 44, 14, 46]}))
    with pytest.raises(StacError, match="box in degrees that is not empty"):
        open_access(str(tmp_path / "thin")).check(None, [], [wood])


# ---- the real files


@pytest.mark.real
@pytest.mark.parametrize("rule", ["centre", "all-touched"])
def test_real_footprints_of_atlanta(draw: Draw, shared_data: Path, rule: str) -> None:
    """Buildings on the picture they were drawn on, and on a patch ten times coarser."""
    folder = shared_data / "spacenet_atlanta_0p5m"
    with rasterio.open(folder / "sample_geotiff.tif") as picture:
        grid = Grid(str(picture.crs), Affine(*picture.transform[:6]), picture.width, picture.height)
    buildings = gpd.read_file(folder / "geotiff_labels.geojson")
    parts = shapely.get_parts(buildings.geometry.values)
    product = product_of({"value": 1, "match": {"building": "*"}}, rule=rule, outside=2)
    for step in (1, 10):
        t = grid.transform
        coarse = Grid(
            grid.crs,
            Affine(t.a * step, 0, t.c, 0, t.e * step, t.f),
            grid.width // step,
            grid.height // step,
        )
        found = draw(product, "geotiff_labels.geojson", coarse, folder)
        assert isinstance(found, LabelSource)
        got = found.codes == 1
        area = np.zeros(coarse.shape)
        col, row = np.meshgrid(np.arange(coarse.width), np.arange(coarse.height))
        p = coarse.transform
        cells = shapely.box(
            p.c + col * p.a, p.f + (row + 1) * p.e, p.c + (col + 1) * p.a, p.f + row * p.e
        )
        tree = shapely.STRtree(cells.ravel())
        pairs = tree.query(parts)
        shared = shapely.area(shapely.intersection(cells.ravel()[pairs[1]], parts[pairs[0]]))
        np.add.at(area.ravel(), pairs[1], shared)
        if rule == "centre":
            x, y = np.meshgrid(*coarse.xy())
            want = shapely.contains_xy(shapely.union_all(parts), x, y)
            np.testing.assert_array_equal(got, want)
            # Exact areas: what centres count is right to a few pixels of the outlines.
            outline = shapely.length(parts).sum()
            assert abs(got.sum() * p.a**2 - area.sum()) < 0.05 * outline * p.a
        else:
            assert got[area > 1e-6 * p.a**2].all()
            assert not got[area == 0].any()
        gdal = rasterize(parts, coarse.shape, transform=p, all_touched=rule == "all-touched")
        assert (gdal.astype(bool) != got).sum() <= (0 if rule == "centre" else 3)
        assert 0.03 < got.mean() < 0.2


@pytest.mark.real
def test_real_land_use_is_what_its_publisher_made_of_it(draw: Draw, shared_data: Path) -> None:
    """The Slovenian parcels against the raster that came with them."""
    folder = shared_data / "s2_lulc_pairs" / "eolearn_slovenia"
    with rasterio.open(folder / "LULC.tif") as source:
        theirs = source.read(1)
        grid = Grid(str(source.crs), Affine(*source.transform[:6]), source.width, source.height)
    ids = sorted({int(n) for n in gpd.read_file(folder / "LULC.gpkg")["LULC_ID"]})
    product = product_of(*({"value": n, "match": {"LULC_ID": str(n)}} for n in ids if n))
    found = draw(product, "LULC.gpkg", grid, folder)
    assert isinstance(found, LabelSource)
    assert (found.codes == theirs).mean() > 0.97
