"""Regions from files: any CRS, across ±180°, at the poles, and everything that can be wrong."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pystac
import pytest
import shapely
import yaml
from kit import Las, Said
from pyproj import Geod, Transformer

from las_builder import cli
from las_builder.catalogs import Strata
from las_builder.errors import LasWarning, RegionError, StacError
from las_builder.plan import Region, resolve
from las_builder.plan.target import Target

GEOD = Geod(ellps="WGS84")
CHANCE = np.random.default_rng(11)

KANSAS = shapely.Polygon([(-101, 37.2), (-95, 37.5), (-96, 39.8), (-100.5, 39.5)])
BOW = shapely.Polygon([(10, 45), (12, 47), (12, 45), (10, 47)])
FIJI = [(177, -19), (-178, -19), (-178, -15), (177, -15)]
"""Across ±180°, as many programs write it: not cut there."""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A vector file of geometries; beside the recipe that the tests name."""

    def call(name: str, *geometries: Any, crs: object = 4326, **more: Any) -> Path:
        path = tmp_path / name
        frame = geopandas.GeoDataFrame(geometry=list(geometries), crs=crs)
        if path.suffix == ".parquet":
            frame.to_parquet(path)
        else:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "'crs' was not provided")  # it is what we test
                frame.to_file(path, **more)
        return path

    return call


@pytest.fixture
def region(strata: Strata, tmp_path: Path) -> Callable[[object], Region]:
    return lambda spec: resolve(spec, strata, tmp_path / "recipe.yaml")


def km2(polygon: Any) -> float:
    """Geodesic area of a polygon whose edges are straight in degrees."""
    area, _ = GEOD.geometry_area_perimeter(shapely.segmentize(polygon, 0.02))
    return abs(area) / 1e6


# ---- what is read


@pytest.mark.parametrize(
    ("name", "crs"),
    [
        ("a.geojson", 4326), ("a.json", 4326), ("a.gpkg", 4326), ("a.shp", 4326), ("a.fgb", 4326),
        ("a.parquet", 4326), ("a.gpkg", 3857), ("a.shp", 5070), ("a.parquet", 32614),
        ("a.gpkg", 4267), ("a.fgb", "ESRI:102003"),
    ],
)  # fmt: skip
def test_formats_and_crs(write: Write, region: Any, name: str, crs: int | str) -> None:
    """The same ground in every format and CRS; the area is the geodesic one."""
    there = geopandas.GeoSeries([KANSAS], crs=4326).segmentize(0.01).to_crs(crs)
    write(name, *there, crs=crs)
    area = Target.of(region(name)).area
    assert area == pytest.approx(km2(KANSAS), rel=2e-5)


@pytest.mark.parametrize("crs", [3857, 3035, 32661])
def test_edges_of_other_crs_stay_where_they_are(write: Write, region: Any, crs: int) -> None:
    """A box of 2,000 km with four vertices: its edges are no lines in degrees."""
    to = Transformer.from_crs(4326, crs, always_xy=True)
    x, y = to.transform(15.0, 60.0)
    write("box.gpkg", shapely.box(x - 1e6, y - 1e6, x + 1e6, y + 1e6), crs=crs)
    lon, lat = CHANCE.uniform(-60, 90, 40_000), CHANCE.uniform(30, 90, 40_000)
    away = np.maximum(*(np.abs(v - c) for v, c in zip(to.transform(lon, lat), (x, y), strict=True)))
    sure = np.abs(away - 1e6) > 1
    assert sure.mean() > 0.99
    inside = region("box.gpkg").contains(lon, lat)
    assert inside.any()
    np.testing.assert_array_equal(inside[sure], (away < 1e6)[sure])


def test_layers(write: Write, region: Any) -> None:
    path = write("two.gpkg", KANSAS, layer="kansas")
    write("two.gpkg", shapely.box(7, 50, 8, 51), layer="rhine")
    places = np.array([-98.0, 7.5]), np.array([38.5, 50.5])
    assert region("two.gpkg:kansas").contains(*places).tolist() == [True, False]
    assert region(f"{path}:rhine").contains(*places).tolist() == [False, True]
    both = region(["two.gpkg:rhine", "two.gpkg:kansas"])
    assert both.contains(*places).tolist() == [True, True]
    for name, words in (("two.gpkg", "kansas, rhine"), ("two.gpkg:rhein", "kansas, rhine")):
        with pytest.raises(RegionError, match=words):
            region(name)


def test_a_file_beside_the_recipe_comes_before_one_here(
    write: Write, region: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    write("here/a.gpkg", shapely.box(0, 40, 1, 41))
    assert region("a.gpkg").contains(0.5, 40.5)
    write("a.gpkg", KANSAS)
    assert region("a.gpkg").contains(-98, 38.5)
    assert region("here/a.gpkg").contains(0.5, 40.5)
    with pytest.raises(RegionError, match=r"Looked for .*b\.gpkg and .*b\.gpkg"):
        region("b.gpkg")


def test_a_file_that_changes_is_read_again(write: Write, region: Any) -> None:
    write("a.geojson", shapely.box(0, 40, 1, 41))
    assert region("a.geojson").contains(0.5, 40.5)
    write("a.geojson", shapely.box(10, 40, 11, 41.5))
    assert not region("a.geojson").contains(0.5, 40.5)


def test_a_polygon_adds_to_what_else_is_listed(write: Write, region: Any) -> None:
    write("rhine, upper.geojson", shapely.box(6, 49.5, 8, 51))  # a comma in the name
    # Bonn, Mainz, Nairobi, Paris, Vienna; the box holds Paris
    lon, lat = np.array([[7.1, 50.73], [8.27, 50.0], [36.8, -1.3], [2.35, 48.85], [16.4, 48.2]]).T
    union = region(["rhine, upper.geojson", "kenya", "[2, 48, 3, 49]"])
    assert union.contains(lon, lat).tolist() == [True, False, True, True, False]
    assert union.surrounds(lon, lat).tolist() == [True, False, True, True, False]
    cut = union.within((0, 0, 20, 60)).covered(["DEU", "KEN"], "")
    assert cut.contains(lon, lat).tolist() == [True, False, False, False, False]
    apart = [Target.of(region([spec])).area for spec in ("rhine, upper.geojson", "2,48,3,49")]
    both = Target.of(region(["rhine, upper.geojson", "2,48,3,49"])).area
    assert both == pytest.approx(sum(apart), rel=1e-9)
    overlap = Target.of(region(["rhine, upper.geojson", "7,50,9,50.5"])).area
    more = Target.of(region("8,50,9,50.5")).area
    assert overlap == pytest.approx(apart[0] + more, rel=1e-9), "nothing counts twice"


# ---- ±180° and the poles


def split_fiji() -> Any:
    """As RFC 7946 asks for it."""
    return shapely.MultiPolygon(
        [shapely.box(177, -19, 180, -15), shapely.box(-180, -19, -178, -15)]
    )


SEAM = [
    (177, -19), (180, -19), (-180, -19), (-178, -19),
    (-178, -15), (-180, -15), (180, -15), (177, -15),
]  # fmt: skip
"""The same, with vertices on both sides of the seam."""


@pytest.mark.parametrize("how", ["unsplit", "seam", "split", "turned", "0 to 360", "other crs"])
def test_across_the_antimeridian(write: Write, region: Any, how: str) -> None:
    if how in ("unsplit", "seam"):
        write("a.geojson", shapely.Polygon(FIJI if how == "unsplit" else SEAM))
        with pytest.warns(LasWarning, match="polygon 1 with edges over ±180°"):
            found = region("a.geojson")
    else:
        shape, crs = {
            "split": (split_fiji(), 4326),
            "turned": (shapely.box(-183, -19, -178, -15), 4326),
            "0 to 360": (shapely.box(177, -19, 182, -15), 4326),
            "other crs": (shapely.box(27, -19, 32, -15), "+proj=longlat +pm=150 +datum=WGS84"),
        }[how]
        name = "a.geojson" if crs == 4326 else "a.gpkg"
        write(name, shape, crs=crs)
        found = region(name)
    lon = np.array([176.9, 177.0, 179.9, 180.0, -180.0, 540.0, -179.0, -178.0, -177.9, 181.5, 0.0])
    want = [False, True, True, True, True, True, True, True, False, True, False]
    assert found.contains(lon, np.full(lon.size, -17.0)).tolist() == want
    assert found.outline is not None
    assert sum(map(km2, shapely.get_parts(found.outline.polygons))) == pytest.approx(
        km2(split_fiji()), rel=1e-9
    )
    assert Target.of(found).area == pytest.approx(
        Target.of(region("177,-19,-178,-15")).area, rel=1e-6
    )


def test_holes_across_the_antimeridian(write: Write, region: Any) -> None:
    shell = [(170, -30), (-170, -30), (-170, -10), (170, -10)]
    holes = [
        [(178, -22), (178, -18), (-178, -18), (-178, -22)],  # across
        [(-175, -22), (-175, -18), (-172, -18), (-172, -22)],  # east of it
        [(172, -22), (172, -18), (175, -18), (175, -22)],
    ]
    write("a.geojson", shapely.Polygon(shell, holes))
    with pytest.warns(LasWarning, match="±180°"):
        found = region("a.geojson")
    lon = np.array([171, 173.5, 176, 179, 180, -179, -176, -173.5, -171, -169])
    want = [True, False, True, False, False, False, True, False, True, False]
    assert found.contains(lon, np.full(lon.size, -20.0)).tolist() == want


@pytest.mark.parametrize(("crs", "sign"), [(3031, -1), (3413, 1)])
def test_around_a_pole_with_a_hole_around_it(
    write: Write, region: Any, crs: int, sign: int
) -> None:
    """Squares of 2,000 km and 400 km around the pole; pyproj says who is between them."""
    write("a.gpkg", shapely.box(-1e6, -1e6, 1e6, 1e6) - shapely.box(-2e5, -2e5, 2e5, 2e5), crs=crs)
    write("b.gpkg", shapely.box(-1e6, -1e6, 1e6, 1e6), crs=crs)
    lon, lat = CHANCE.uniform(-180, 180, 20_000), sign * CHANCE.uniform(74, 90, 20_000)
    to = Transformer.from_crs(4326, crs, always_xy=True)
    away = np.maximum(*map(np.abs, to.transform(lon, lat)))
    sure = np.minimum(np.abs(away - 1e6), np.abs(away - 2e5)) > 1
    ring, whole = region("a.gpkg"), region("b.gpkg")
    np.testing.assert_array_equal(
        ring.contains(lon, lat)[sure], ((away < 1e6) & (away > 2e5))[sure]
    )
    np.testing.assert_array_equal(whole.contains(lon, lat)[sure], (away < 1e6)[sure])
    poles = whole.contains([-180.0, 0.0, 77.0], [sign * 90.0] * 3)
    assert poles.all()
    assert not ring.contains(0.0, sign * 90.0)


def test_a_vertex_on_the_pole(write: Write, region: Any) -> None:
    """A quarter and a half of a square, both with an edge or a vertex on the South Pole."""
    write("quarter.gpkg", shapely.box(0, 0, 1e6, 1e6), crs=3031)
    write("half.gpkg", shapely.Polygon([(0, -1e6), (0, 0), (0, 1e6), (-1e6, 1e6), (-1e6, -1e6)]),
          crs=3031)  # fmt: skip
    lon, lat = CHANCE.uniform(-180, 180, 20_000), CHANCE.uniform(-90, -76, 20_000)
    x, y = Transformer.from_crs(4326, 3031, always_xy=True).transform(lon, lat)
    sure = np.min(np.abs([x, y, x - 1e6, y - 1e6, x + 1e6, y + 1e6]), axis=0) > 2
    assert sure.mean() > 0.99
    near = (np.abs(x) < 1e6) & (np.abs(y) < 1e6)
    for name, want in (("quarter", (x > 0) & (y > 0) & near), ("half", (x < 0) & near)):
        inside = region(f"{name}.gpkg").contains(lon, lat)
        np.testing.assert_array_equal(inside[sure], want[sure])


def test_a_ring_of_degrees_around_a_pole(write: Write, region: Any) -> None:
    ring = [(lon, -70 + 5 * np.sin(np.radians(3 * lon))) for lon in range(-180, 180, 5)]
    write("a.geojson", shapely.Polygon(ring))
    with pytest.warns(LasWarning, match="±180°"):
        found = region("a.geojson")
    lon = CHANCE.uniform(-180, 180, 5000)
    edge = np.interp(lon, *np.array([*ring, (180, ring[0][1])]).T)
    assert not found.contains(lon, edge + 0.01).any()
    assert found.contains(lon, edge - 0.01).all()
    assert found.contains(lon, np.full(5000, -90.0)).all()
    assert not found.contains(lon, np.full(5000, 80.0)).any()


def test_a_belt_around_the_globe_is_as_wide_as_it_is_written(write: Write, region: Any) -> None:
    """Edges from -180° to 180° are meant, here and in the Antarctica of Natural Earth."""
    antarctic = [(-180, -90), (180, -90), (180, -75), (100, -70), (0, -68), (-90, -72), (-180, -75)]
    write("a.geojson", shapely.box(-180, -10, 180, 10), shapely.Polygon(antarctic))
    lon = np.array([-180.0, -90, 0, 1, 180, 0, 0, -150, 150])
    lat = np.array([0.0, 9.9, -9.9, 10.1, 0, -90, -67, -89, -80])
    want = [True, True, True, False, True, True, False, True, True]
    assert region("a.geojson").contains(lon, lat).tolist() == want


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "flaws"),
    [
        ("ne_110m_admin_0_countries", ["polygon 236 not valid (Self-intersection"]),  # Sudan
        ("ne_110m_land", ["polygon 79 not valid (Ring Self-intersection"]),  # Antarctica
        ("ne_50m_land", []),
    ],
)
def test_natural_earth(shared_data: Path, strata: Strata, name: str, flaws: list[str]) -> None:
    """Russia and Fiji are cut at ±180°, Antarctica goes along the edge of the map."""
    path = shared_data / "natural_earth" / f"{name}.geojson"
    frame = geopandas.read_file(path)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = resolve(str(path), strata, "")
    assert len(said) == len(flaws)
    assert all(flaw in str(one.message) for flaw, one in zip(flaws, said, strict=True))
    lon = np.degrees(CHANCE.uniform(-np.pi, np.pi, 5000))
    lat = np.degrees(np.arcsin(CHANCE.uniform(-1, 1, 5000)))
    points = geopandas.GeoSeries(geopandas.points_from_xy(lon, lat), crs=4326)
    shapes = frame[["geometry"]].set_geometry(frame.make_valid())
    want = points.to_frame("geometry").sjoin(shapes).index.unique()
    np.testing.assert_array_equal(np.flatnonzero(found.contains(lon, lat)), np.sort(want))
    assert found.contains(0.0, -89.998)


# ---- STAC


def item(name: str, geometry: Any, **more: Any) -> pystac.Item:
    shape = None if geometry is None else shapely.geometry.mapping(geometry)
    box = None if geometry is None else list(geometry.bounds)
    when = datetime(2021, 6, 1, tzinfo=UTC)
    return pystac.Item(name, shape, more.get("bbox", box), when, properties={})


PLACES = np.array([0.5, 10.5, 179.5, -179.5, 5.0]), np.array([40.5, 40.5, -17.0, -17.0, 45.0])


@pytest.fixture
def footprints() -> list[pystac.Item]:
    across = [shapely.box(179, -18, 180, -16), shapely.box(-180, -18, -179, -16)]
    return [
        item("a", shapely.box(0, 40, 1, 41)),
        item("b", shapely.box(10, 40, 11, 41)),
        item("c", shapely.MultiPolygon(across)),
    ]


def test_a_stac_catalogue(region: Any, tmp_path: Path, footprints: list[pystac.Item]) -> None:
    catalogue = pystac.Catalog("all", "All of it")
    child = pystac.Catalog("some", "Some of it")
    catalogue.add_items(footprints[:2])
    catalogue.add_child(child)
    child.add_item(footprints[2])
    catalogue.normalize_and_save(str(tmp_path / "stac"), pystac.CatalogType.SELF_CONTAINED)
    want = [True, True, True, True, False]
    assert region("stac/catalog.json").contains(*PLACES).tolist() == want
    one = region("stac/some/catalog.json").contains(*PLACES)
    assert one.tolist() == [False, False, True, True, False]
    union = region("stac/some/catalog.json,ESP,[4, 44, 6, 46]").contains(*PLACES)
    assert union.tolist() == [True, False, True, True, True]
    (tmp_path / "stac" / "a" / "a.json").unlink()
    (tmp_path / "stac" / "catalog.json").touch()
    with pytest.raises(StacError, match=r"a\.json"):
        region("stac/catalog.json")


def test_an_item_collection(region: Any, tmp_path: Path, footprints: list[pystac.Item]) -> None:
    path = tmp_path / "search.json"
    pystac.ItemCollection(footprints).save_object(str(path))
    assert region("search.json").contains(*PLACES).tolist() == [True, True, True, True, False]
    lost = pystac.Item("d", None, None, datetime(2021, 6, 1, tzinfo=UTC), properties={})
    pystac.ItemCollection([footprints[0], lost]).save_object(str(path))
    with pytest.warns(LasWarning, match="1 of 2 items have no geometry"):
        assert region("search.json").contains(*PLACES).tolist() == [True] + 4 * [False]
    pystac.ItemCollection([lost]).save_object(str(path))
    with pytest.raises(RegionError, match="features"):
        region("search.json")


def test_a_collection_without_items_has_its_extent(region: Any, tmp_path: Path) -> None:
    boxes = [[-180, -60, 180, 60], [0, 40, 1, 41], [179, -18, -179, -16]]  # all, then each
    collection = pystac.Collection(
        "c", "Boxes",
        pystac.Extent(pystac.SpatialExtent(boxes), pystac.TemporalExtent([[None, None]])),
    )  # fmt: skip
    collection.save_object(dest_href=str(tmp_path / "c.json"), include_self_link=False)
    assert region("c.json").contains(*PLACES).tolist() == [True, False, True, True, False]


def test_a_recorded_collection(shared_data: Path, strata: Strata) -> None:
    path = shared_data / "stac" / "collections" / "pc_chesapeake-lc-7.json"
    found = resolve(str(path), strata, "")
    assert found.contains([-77.0, -98.0], [39.0, 39.0]).tolist() == [True, False]


# ---- what is wrong


@pytest.fixture
def las(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Las:
    """`las sample RECIPE --region ...` in this process, with a recipe that is otherwise right."""
    content = {
        "name": "tiny", "imagery": "sentinel-2-l2a", "labels": ["esa-worldcover-v200"],
        "source": "virtual", "patch": {"size": 64}, "sites": {"count": 4, "region": "global"},
        "dates": {"period": "2021-01-01/2022-01-01"},
    }  # fmt: skip
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(content))

    def run(*arguments: object) -> Said:
        work = ("--work", str(tmp_path / "work"))
        monkeypatch.setattr(
            sys, "argv", ["las", "sample", str(recipe), *map(str, arguments), *work]
        )
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return run


SWAPPED = shapely.Polygon([(-25, 135), (-20, 135), (-20, 140)])
CATALOGUE = {"type": "Catalog", "stac_version": "1.0.0", "id": "x", "description": "", "links": []}
ITEMS = [{"type": "Feature", "stac_version": "1.0.0", "id": "x"}]

BAD: dict[str, Callable[[Write, Path], object]] = {
    "no-crs.gpkg": lambda write, _: write("no-crs.gpkg", KANSAS, crs=None),
    "no-crs.shp": lambda write, _: write("no-crs.shp", KANSAS).with_suffix(".prj").unlink(),
    "empty.gpkg": lambda write, _: write("empty.gpkg"),
    "nothing.gpkg": lambda write, _: write("nothing.gpkg", shapely.Polygon(), None),
    "points.geojson": lambda write, _: write("points.geojson", shapely.Point(2, 48)),
    "lines.gpkg": lambda write, _: write("lines.gpkg", shapely.LineString([(2, 48), (3, 49)])),
    "flat.geojson": lambda write, _: write(
        "flat.geojson", shapely.Polygon([(2, 48), (3, 49), (4, 50)])
    ),
    "swapped.geojson": lambda write, _: write("swapped.geojson", SWAPPED),
    "metres.geojson": lambda write, _: write("metres.geojson", shapely.box(5e5, 5e6, 6e5, 6e6)),
    "nowhere.gpkg": lambda write, _: write(
        "nowhere.gpkg", shapely.box(1e9, 1e9, 2e9, 2e9), crs=32632
    ),
    "two.gpkg": lambda write, _: [write("two.gpkg", KANSAS, layer=layer) for layer in "ab"],
    "broken.geojson": lambda _, here: (here / "broken.geojson").write_text('{"type": "Feat'),
    "text.gpkg": lambda _, here: (here / "text.gpkg").write_text("not at all"),
    "table.csv": lambda _, here: (here / "table.csv").write_text("a,b\n1,2\n"),
    "empty-catalog.json": lambda _, here: (here / "empty-catalog.json").write_text(
        json.dumps(CATALOGUE)
    ),
    "bad-items.json": lambda _, here: (here / "bad-items.json").write_text(
        json.dumps({"type": "FeatureCollection", "features": ITEMS})
    ),
}
"""Every file that must be refused, by what is wrong with it."""


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("no-crs.gpkg", ["no-crs.gpkg", "`crs` is None", "ogr2ogr -a_srs"]),
        ("no-crs.shp", ["no-crs.shp", "`crs` is None", "ogr2ogr -a_srs"]),
        ("empty.gpkg", ["empty.gpkg", "`features` is 0", "empty"]),
        ("nothing.gpkg", ["nothing.gpkg", "`features` is 2", "empty"]),
        ("points.geojson", ["points.geojson", "'Point'", "polygons", "Buffer"]),
        ("lines.gpkg", ["lines.gpkg", "'LineString'", "polygons"]),
        ("flat.geojson", ["flat.geojson", "without area"]),
        ("swapped.geojson", ["swapped.geojson", "'-25, 135'", "probably swapped"]),
        ("metres.geojson", ["metres.geojson", "'600000, 5000000'", "probably metres"]),
        ("nowhere.gpkg", ["nowhere.gpkg", "`coordinates`", "UTM zone 32N"]),
        ("two.gpkg", ["two.gpkg", "`layer` is None", "a, b", "two.gpkg:a"]),
        ("two.gpkg:c", ["two.gpkg", "`layer` is 'c'", "a, b"]),
        ("broken.geojson", ["broken.geojson", "GDAL"]),
        ("text.gpkg", ["text.gpkg", "GDAL"]),
        ("table.csv", ["table.csv", "`layer`"]),
        ("empty-catalog.json", ["empty-catalog.json", "`features` is 0"]),
        ("bad-items.json", ["bad-items.json", "STAC items"]),
        ("missing.gpkg", ["tiny.yaml", "'missing.gpkg'", "Looked for"]),
        ("Frnace", ["tiny.yaml", "'Frnace'", "Did you mean 'France'"]),
        ("africa,Madagaskar", ["'Madagaskar'", "Did you mean 'Madagascar'"]),
        ("westen europe", ["'westen europe'", "Western Europe"]),
        ("999", ["'999'", "M49"]),
        ("micronesia", ["'FSM' for the country", "'057'"]),
        ("48,2,49,150", ["south < north"]),
        ("-10,120,-5,150", ["`sites.region`", "latitude first"]),
        ("32XNG", ["'32XNG'", "Svalbard"]),
        ("32UPU,32UPM", ["'32UPM'", "Nothing of PM"]),
    ],
)
def test_bad_input_is_one_line(
    las: Las, write: Write, tmp_path: Path, spec: str, words: list[str]
) -> None:
    if (make := BAD.get(spec.partition(":")[0])) is not None:
        make(write, tmp_path)
    said = las("--region", spec)
    assert said.code == 2, said
    assert said.err.count("\n") == 1, said.err
    for word in words:
        assert word in said.err
    assert not (tmp_path / "work").exists(), "nothing is written"


@pytest.mark.parametrize(
    ("name", "geometry", "words"),
    [
        ("bow.geojson", BOW, "polygon 1 not valid (Self-intersection[11 46]); repaired"),
        ("fiji.geojson", shapely.Polygon(FIJI), "polygon 1 with edges over ±180°"),
        ("mixed.gpkg", shapely.GeometryCollection([KANSAS, shapely.Point(0, 0)]), "1 points and"),
    ],
)
def test_what_is_put_right_is_said_in_one_line(
    las: Las, write: Write, name: str, geometry: Any, words: str
) -> None:
    write(name, geometry)
    said = las("--region", name, "--count", 4)
    assert said.code == 0, said
    assert said.err.count("\n") == 1, said.err
    assert said.err.startswith("las: warning: ")
    assert f"{name}: {words}" in said.err
    assert "4 sites" in said.out


@pytest.mark.parametrize("crs", [4326, 3857])
def test_a_bow_tie_is_two_triangles(write: Write, region: Any, crs: int) -> None:
    shape = geopandas.GeoSeries([BOW], crs=4326).to_crs(crs)[0]
    write("bow.gpkg", shape, crs=crs)
    with pytest.warns(LasWarning, match="Self-intersection"):
        found = region("bow.gpkg")
    lon, lat = np.array([10.2, 11.8, 11.0, 11.0]), np.array([46.0, 46.0, 46.8, 45.2])
    assert found.contains(lon, lat).tolist() == [True, True, False, False]


# ---- speed


def test_a_detailed_outline_is_quick(write: Write, region: Any) -> None:
    """100,000 vertices, the size of a country: a million places in a second or two."""
    t = np.linspace(0, 2 * np.pi, 100_000, endpoint=False)
    wave = sum(np.cos(k * t + k * k) / k**1.3 for k in range(1, 300)) * 0.06 + 1
    path = write("a.fgb", shapely.Polygon(np.column_stack(
        [10 + 6 * wave * np.cos(t), 50 + 4 * wave * np.sin(t)]
    )))  # fmt: skip
    found = region(str(path))
    lon, lat = CHANCE.uniform(0, 20, 1_000_000), CHANCE.uniform(44, 56, 1_000_000)
    start = time.process_time()
    inside = found.contains(lon, lat)
    assert time.process_time() - start < 2
    start = time.process_time()
    target = Target.of(found)
    assert time.process_time() - start < 20
    assert found.outline is not None
    # Brute force: the area of the polygon times the share of its places that are land.
    land = found.strata.is_land(lon, lat)
    weight = np.cos(np.radians(lat))
    share = (weight * (inside & land)).sum() / (weight * inside).sum()
    assert target.area == pytest.approx(share * km2(found.outline.polygons), rel=5e-3)
