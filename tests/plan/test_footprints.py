"""Benchmarks' footprints: nearness by brute force on the ellipsoid, files by rasters made here."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from affine import Affine
from kit import raster
from numpy.typing import NDArray
from pyproj import Geod, Transformer

from las_builder import cli
from las_builder.catalogs import Catalogs, Strata
from las_builder.core.grid import Grid
from las_builder.core.options import Patch, Sites, Splits
from las_builder.errors import (
    CatalogError,
    InputError,
    LasWarning,
    RasterError,
    RecipeError,
    UnknownNameError,
)
from las_builder.plan import SiteTable, assign, draw, leaks
from las_builder.plan.footprints import (
    Footprint,
    benchmark_footprints,
    read_footprints,
    write_footprints,
)
from las_builder.plan.regions.outline import Outline
from las_builder.plan.splits import leaks_page, leaks_section
from las_builder.run.footprints import footprints

GEOD = Geod(ellps="WGS84")
Floats = NDArray[np.float64]
CATALOGS = Catalogs.load()
IMAGERY = CATALOGS.imagery("sentinel-2-l2a")


def exact(*polygons: shapely.Polygon) -> Footprint:
    return Footprint("b", "exact", True, Outline.of(polygons).polygons)


def true_km(polygon: shapely.Geometry, lon: float, lat: float) -> float:
    """To the edge (points every 300 m or so in degrees), 0 inside; by pyproj."""
    turns = [shapely.Point(lon + t, lat) for t in (-360, 0, 360)]
    if any(polygon.intersects(point) for point in turns):
        return 0.0
    step = 0.1 if polygon.bounds[3] == 90 else 0.004
    edge = shapely.get_coordinates(shapely.segmentize(polygon.boundary, step))
    edge = edge[edge[:, 1] < 90]  # the pole is inside
    some = np.full(len(edge), lon), np.full(len(edge), lat)
    return float(GEOD.inv(*some, edge[:, 0], edge[:, 1])[2].min()) / 1000


SHAPES = {
    "an L with a hole": (
        shapely.Polygon(
            [(10, 45), (11, 45), (11, 45.3), (10.4, 45.3), (10.4, 45.8), (10, 45.8)],
            [[(10.1, 45.1), (10.3, 45.1), (10.3, 45.6), (10.1, 45.6)]],
        ),
        (9.8, 11.2, 44.8, 46.0),
    ),
    "across 180": (shapely.box(179.6, -17.2, 180.3, -16.8), (179.2, 180.7, -17.6, -16.4)),
    "a cap": (shapely.box(-180, 89.5, 180, 90), (-180, 180, 88.9, 90)),
    "80 S": (shapely.box(20, -81, 22, -80.8), (18.5, 23.5, -81.4, -80.4)),
    "tiny": (shapely.box(5, 52, 5.001, 52.001), (4.7, 5.3, 51.8, 52.2)),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("reach", [0.5, 12.0])
def test_near_by_brute_force(name: str, reach: float) -> None:
    polygon, (w, e, s, n) = SHAPES[name]
    rng = np.random.default_rng(3)
    lon = (rng.uniform(w, e, 250) + 180) % 360 - 180
    lat = rng.uniform(s, n, 250)
    said = exact(polygon).near(lon, lat, np.full(250, reach))
    km = np.array([true_km(polygon, x, y) for x, y in zip(lon.tolist(), lat.tolist(), strict=True)])
    assert said[km < reach - 0.01].all()
    assert not said[km > reach * 1.011 + 0.05].any()
    assert (~said).any()
    if reach == 12.0:
        assert said.any()


def test_each_place_has_its_own_reach() -> None:
    lon, lat = np.array([5.1, 5.1]), np.array([52.0, 52.0])  # 6.8 km away
    assert exact(SHAPES["tiny"][0]).near(lon, lat, np.array([5.0, 8.0])).tolist() == [False, True]


def drawn(region: list[float], count: int) -> SiteTable:
    return draw(
        subset="a", sites=Sites(count=count, region=region), patch=Patch(size=64), imagery=IMAGERY,
        products=[], strata=Strata.load(CATALOGS), where="recipe.yaml",
    )  # fmt: skip


def test_sites_near_a_benchmark_are_set_aside_and_measured() -> None:
    splits = Splits(block_km=50)
    polygon = SHAPES["an L with a hole"][0]
    there = exact(polygon)
    sites = drawn([9.0, 44.0, 12.0, 47.0], 1500)
    plain, apart = assign(sites, splits), assign(sites, splits, [there])
    km = np.array(
        [
            true_km(polygon, x, y)
            for x, y in zip(sites.lon.tolist(), sites.lat.tolist(), strict=True)
        ]
    )
    moved = apart.split == "benchmark"
    assert moved[km < 10].all()
    assert not moved[km > 10 * 1.011 + 0.6].any()  # half the diagonal of a patch: 0.46 km
    assert (apart.split[~moved] == plain.split[~moved]).all()
    assert (apart.block == plain.block).all()
    packed = np.isin(apart.split, ["train", "val", "test"])

    found = leaks(apart, splits, [there])
    assert found.violations == 0
    [nearest] = [one for one in found.pairs if one.splits == ("split", "b")]
    assert nearest.km == pytest.approx(float(km[packed].min()), abs=0.5)
    assert nearest.km >= 10
    assert found.as_json()["benchmarks"] == (
        {"name": "b", "kind": "exact", "verified": True, "sites": int(moved.sum())},
    )

    bare = leaks(plain, splits, [there])
    packed = np.isin(plain.split, ["train", "val", "test"])
    assert (packed & (km < 9.4)).sum() <= bare.violations <= (packed & (km < 10.6)).sum()
    assert bare.violations > 20
    assert "nearer than 10 km" in bare.verdict


@pytest.mark.parametrize("name", ["an L with a hole", "80 S", "tiny"])
def test_the_nearest_site_of_a_benchmark_far_away(name: str) -> None:
    polygon = SHAPES[name][0]
    sites = drawn([20.0, -5.0, 32.0, 4.0], 60)
    found = leaks(assign(sites, Splits(), [exact(polygon)]), Splits(), [exact(polygon)])
    [nearest] = [one for one in found.pairs if one.splits == ("split", "b")]
    packed = np.isin(assign(sites, Splits()).split, ["train", "val", "test"])
    km = {
        f"a/{site.id}": true_km(polygon, site.lon, site.lat)
        for site, is_in in zip(sites, packed.tolist(), strict=True)
        if is_in
    }
    assert found.violations == 0
    assert nearest.km == pytest.approx(min(km.values()), abs=0.5)  # half a patch
    assert km[nearest.sites[0]] == pytest.approx(min(km.values()), abs=0.5)


def test_a_site_deep_inside_a_benchmark_is_a_leak() -> None:
    there = exact(shapely.box(10, 0, 10.24, 0.24))  # 13 km to each side
    grid = IMAGERY.lattice.grid_at(10.12, 0.12, 64)
    [site] = drawn([9.0, 44.0, 12.0, 47.0], 1)[:1]
    inside = dataclasses.replace(site, grid=grid, split="train")
    found = leaks([inside], Splits(), [there])
    assert (found.violations, found.pairs[0].km) == (1, 0.0)
    assert "nearest, 0.000 km" in found.verdict
    assert 'class="bad"' in leaks_section(found)
    assert leaks(assign([inside], Splits(), [there]), Splits(), [there]).violations == 0


def test_an_unlocated_benchmark_is_named_and_sets_nothing_aside() -> None:
    splits = Splits(benchmarks=["openearthmap"])
    there = benchmark_footprints(splits, CATALOGS, where=Path("corpus.yaml"))
    sites = drawn([9.0, 44.0, 12.0, 47.0], 50)
    assert assign(sites, splits, there) == assign(sites, splits)
    [one] = leaks(assign(sites, splits, there), splits, there).benchmarks
    assert (one["kind"], one["sites"]) == ("unlocated", None)


# --- declarations --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CATALOGS.names("benchmarks"))
def test_every_declaration_says_where_or_that_nobody_knows(name: str) -> None:
    declared = CATALOGS.benchmark(name)
    [one] = benchmark_footprints(Splits(benchmarks=[name]), CATALOGS, where=Path("corpus.yaml"))
    assert (one.name, one.kind, one.verified) == (name, declared.kind, declared.verified)
    assert one.polygons.is_empty == (one.kind == "unlocated")
    for w, s, e, n in declared.boxes:
        middle = np.array([(w + e) / 2]), np.array([(s + n) / 2])
        assert one.near(*middle, np.array([0.1])).all()
    # A box that sets a tenth of all land aside says less than none.
    assert one.polygons.area < 500


def test_boxes_known_from_elsewhere() -> None:
    # Centres of towns as any atlas has them: longitude and latitude are not swapped.
    for name, lon, lat in (
        ("potsdam", 13.06, 52.40), ("vaihingen", 8.96, 48.93), ("new-york-city", -73.97, 40.78),
        ("loveda", 114.3, 30.6), ("loveda", 118.8, 32.06), ("dfc2020", 18.42, -33.92),
        ("multisenge", 7.75, 48.58), ("landcover-ai", 21.01, 52.23), ("inria", 16.37, 48.21),
        ("chesapeake", -76.5, 38.97), ("flair", 2.35, 48.86), ("treesatai", 9.73, 52.37),
    ):  # fmt: skip
        [one] = benchmark_footprints(Splits(benchmarks=[name]), CATALOGS, where=Path("c.yaml"))
        assert one.near(np.array([lon]), np.array([lat]), np.array([0.01])).all(), name


def test_what_a_recipe_may_not_name(tmp_path: Path) -> None:
    recipe = tmp_path / "corpus.yaml"
    with pytest.raises(UnknownNameError, match=r"splits.benchmarks.0.*loveda"):
        benchmark_footprints(Splits(benchmarks=["lovda"]), CATALOGS, where=recipe)
    with pytest.raises(RecipeError, match=r"splits.footprints.0.*las footprints"):
        benchmark_footprints(Splits(footprints=["no.gpkg"]), CATALOGS, where=recipe)
    folder = tmp_path / "mine" / "benchmarks"
    folder.mkdir(parents=True)
    for text, why in (("kind: box\nboxes: []", "kind: box"),
                      ("kind: box\nboxes: [[0, 5, 1, 4]]", "west, south"),
                      ("kind: unlocated\nboxes: [[0, 4, 1, 5]]", "kind: box")):  # fmt: skip
        (folder / "x.yaml").write_text(
            f"title: x\n{text}\ngeoreferenced: true\nverified: false\nsources: []\n"
        )
        with pytest.raises(CatalogError, match=why):
            Catalogs.load(tmp_path / "mine").benchmark("x")


# --- files ---------------------------------------------------------------------------------------


def test_rasters_become_footprints_that_a_recipe_names(tmp_path: Path) -> None:
    copy, data = tmp_path / "copy", np.zeros((64, 128), np.uint8)
    raster(copy / "a" / "image.tif", data)
    raster(copy / "a" / "label.tif", data)  # the same place
    raster(copy / "b.tif", data, transform=Affine(10, 0, 900_000, 0, -10, 5_000_040))
    out = tmp_path / "loveda.gpkg"
    said = footprints("loveda", copy, out, catalogs=CATALOGS)
    assert "2 footprints of loveda" in said
    frame = geopandas.read_file(out)
    assert frame.crs.to_epsg() == 4326
    assert frame["item"].tolist() == ["a/image.tif", "b.tif"]
    area = [abs(GEOD.geometry_area_perimeter(g)[0]) for g in frame.geometry]
    assert area == pytest.approx([64 * 128 * 100] * 2, rel=0.01)  # UTM's scale, squared
    # Exactly there: the corners by pyproj.
    to = Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True)
    corner = shapely.Point(*to.transform(500_040, 5_000_040))
    assert frame.geometry[0].exterior.distance(corner) < 1e-6

    splits = Splits(benchmarks=["loveda", "potsdam"], footprints=["loveda.gpkg"])
    found = benchmark_footprints(splits, CATALOGS, where=tmp_path / "corpus.yaml")
    assert [(one.name, one.kind) for one in found] == [("loveda", "exact"), ("potsdam", "box")]
    nanjing = np.array([118.8]), np.array([32.06]), np.array([50.0])
    assert not found[0].near(*nanjing).any()  # no longer the box
    again = tmp_path / "again.gpkg"
    footprints("loveda", copy, again, catalogs=CATALOGS)
    assert again.read_bytes() == out.read_bytes()
    with pytest.raises(RecipeError, match="one file of loveda"):
        benchmark_footprints(
            Splits(footprints=["loveda.gpkg", "again.gpkg"]), CATALOGS, where=tmp_path / "c.yaml"
        )


PLACES = {
    "antimeridian": ("EPSG:32601", Affine(100, 0, 160_000, 0, -100, 8_000_000), 600, 400),
    "north pole": ("EPSG:3995", Affine(100, 0, -30_000, 0, -100, 30_000), 600, 600),
    "turned": ("EPSG:32719", Affine(8, 6, 500_000, 6, -8, 6_000_000), 500, 500),
    "degrees": ("EPSG:4326", Affine(0.001, 0, -70, 0, -0.001, -30), 300, 200),
}


@pytest.mark.parametrize("name", PLACES)
def test_outlines_where_geography_is_awkward(name: str, tmp_path: Path) -> None:
    crs, transform, width, height = PLACES[name]
    data = np.zeros((height, width), np.uint8)
    raster(tmp_path / "copy" / "a.tif", data, crs=crs, transform=transform)
    out = tmp_path / "x.parquet"
    footprints("dynamicearthnet", tmp_path / "copy", out, catalogs=CATALOGS)
    one = read_footprints(out)
    assert (one.name, one.kind) == ("dynamicearthnet", "exact")
    w, s, e, n = shapely.bounds(one.polygons)
    assert -180 <= w < e <= 180
    assert s < n <= 90
    to = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    rng = np.random.default_rng(1)
    c, r = rng.uniform(-0.3, 1.3, (2, 500))
    t, col, row = transform, c * width, r * height
    x, y = t.a * col + t.b * row + t.c, t.d * col + t.e * row + t.f
    lon, lat = to.transform(x, y)
    inside = (c > 0) & (c < 1) & (r > 0) & (r < 1)
    # 20 m at the edge: sides are cut into 64.
    edge = np.min(np.abs([c * width, (c - 1) * width, r * height, (r - 1) * height]), axis=0) < 1
    said = one.near(np.asarray(lon), np.asarray(lat), np.full(500, 1e-4))
    assert (said == inside)[~edge].all()
    assert 100 < inside.sum() < 400


def test_an_index_says_where_pictures_are(tmp_path: Path) -> None:
    index = tmp_path / "index.geojson"
    frame = geopandas.GeoDataFrame(geometry=[shapely.box(1, 2, 1.1, 2.1)], crs="EPSG:4326")
    frame.to_file(index)
    out = tmp_path / "deepglobe.parquet"
    footprints("deepglobe", index, out, catalogs=CATALOGS)
    one = read_footprints(out)
    assert one.name == "deepglobe"
    assert one.polygons.bounds == (1, 2, 1.1, 2.1)
    # A file of the user's own goes by its name.
    assert read_footprints(index).name == "index"


def test_what_has_no_place(tmp_path: Path) -> None:
    copy, data = tmp_path / "copy", np.zeros((64, 64), np.uint8)
    copy.mkdir()
    out = tmp_path / "x.gpkg"
    with pytest.raises(InputError, match="georeferenced rasters"):
        footprints("loveda", copy, out, catalogs=CATALOGS)
    raster(copy / "a.tif", data, crs=None)
    with pytest.raises(InputError, match=r"1 rasters have no CRS\. Name loveda in"):
        footprints("loveda", copy, out, catalogs=CATALOGS)
    raster(copy / "b.tif", data)
    with pytest.warns(LasWarning, match=r"1 rasters without CRS left out \(the first: a.tif\)"):
        footprints("loveda", copy, out, catalogs=CATALOGS)
    assert len(geopandas.read_file(out)) == 1
    with pytest.raises(InputError, match="--out"):
        footprints("loveda", copy, tmp_path / "x.csv", catalogs=CATALOGS)
    (copy / "c.tif").write_bytes((copy / "b.tif").read_bytes()[:150])
    with pytest.raises(RasterError):
        footprints("loveda", copy, out, catalogs=CATALOGS)


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raster(tmp_path / "copy" / "a.tif", np.zeros((64, 64), np.uint8))

    def las(name: str) -> str | int | None:
        words = [
            "las",
            "footprints",
            name,
            str(tmp_path / "copy"),
            "--out",
            str(tmp_path / "x.gpkg"),
        ]
        monkeypatch.setattr("sys.argv", words)
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code

    assert las("loveda") == 0
    assert "1 footprints of loveda" in capsys.readouterr().out
    assert las("lovda") == 2
    assert "Did you mean 'loveda'?" in capsys.readouterr().err


# --- overlaps and the page -----------------------------------------------------------------------


def test_overlaps_within_a_subset_are_counted() -> None:
    [site] = drawn([9.0, 44.0, 12.0, 47.0], 1)[:1]
    w, _, e, n = site.grid.bounds
    side = e - w

    def moved(dx: float, dy: float, name: str, subset: str = "a", crs: str | None = None) -> object:
        grid = Grid(crs or site.grid.crs, Affine(10, 0, w + dx, 0, -10, n + dy), 64, 64)
        return dataclasses.replace(site, id=name, subset=subset, grid=grid, split="train")

    far = 20 * side
    sites = [
        moved(0, 0, "a"), moved(side, 0, "touches"), moved(0.7 * side, -0.7 * side, "over two"),
        moved(0, 0, "other", "b"), moved(far, 0, "far"), moved(far + 0.9 * side, 0.9 * side, "over"),
        moved(far + 1.1 * side, -1.1 * side, "corner"),
    ]  # fmt: skip
    found = leaks(sites, Splits())  # type: ignore[arg-type]
    assert found.overlapping == {"a": 3, "b": 0}
    # The same ground in the next zone's coordinates.
    other = "EPSG:32633" if site.grid.crs == "EPSG:32632" else "EPSG:32632"
    x, y = Transformer.from_crs(site.grid.crs, other, always_xy=True).transform(w + 60, n - 60)
    sites = [moved(0, 0, "a"), moved(x - w, y - n, "b", crs=other)]
    assert leaks(sites, Splits()).overlapping == {"a": 1}  # type: ignore[arg-type]


def test_the_page_says_what_was_measured() -> None:
    splits = Splits(train=3, val=1, test=1, block_km=40)
    there = exact(shapely.box(10, 45, 10.2, 45.2))
    sites = assign(drawn([6.0, 42.0, 14.0, 49.0], 3000), splits, [there])
    found = leaks(sites, splits, [there])
    section = leaks_section(found)
    for one in found.pairs:
        assert f"{one.km:,.3f}" in section
        assert one.sites[0] in section
    assert {one.splits for one in found.pairs} == {
        ("train", "val"), ("train", "test"), ("val", "test"), ("split", "b"),
    }  # fmt: skip
    assert found.nearest_km == min(one.km for one in found.pairs[:3])
    assert "No footprint of one split is nearer than 10 km" in section
    for name in ("train", "val", "test"):
        assert f"{name}: {len(set(sites.block[sites.split == name].tolist())):,}</text>" in section
    # The rectangles cover what the blocks cover, in a projection in which areas are true.
    for name, path in zip(found.blocks, re.findall(r'<path d="([^"]*)"', section), strict=True):
        sizes = re.findall(r"h(-?[\d.]+)v([\d.]+)h", path)
        drawn_km2 = sum(float(w) * float(h) for w, h in sizes) / (1000 * 500) * 510_065_622
        assert drawn_km2 == pytest.approx(40**2 * len(found.blocks[name]), rel=0.1)
        assert len(sizes) < len(found.blocks[name]) or name != "train"
    page = leaks_page(found, "<corpus>")
    assert page.startswith("<!doctype html>")
    assert "&lt;corpus&gt;" in page
    assert page == leaks_page(leaks(sites, splits, [there]), "<corpus>")
    assert "<script" not in page
    assert set(found.as_json()) == {
        "violations", "nearest_km", "nearest", "pairs", "overlapping", "buffer_km", "checked",
        "unchecked", "benchmarks",
    }  # fmt: skip


def test_files_are_equal_where_footprints_are(tmp_path: Path) -> None:
    frame = geopandas.GeoDataFrame(
        {"benchmark": ["b"], "item": ["x"]}, geometry=[shapely.box(1, 2, 3, 4)], crs="EPSG:4326"
    )
    for end in (".gpkg", ".parquet"):
        one, two = tmp_path / f"one{end}", tmp_path / f"two{end}"
        write_footprints(one, frame)
        write_footprints(two, frame)
        assert one.read_bytes() == two.read_bytes()
        assert read_footprints(one).name == "b"
        assert [p.name for p in tmp_path.glob(".*")] == []
