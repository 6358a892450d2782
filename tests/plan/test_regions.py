from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import shapely
import yaml
from pyproj import Geod

from las_builder.catalogs import Catalogs, Imagery, Strata
from las_builder.errors import CatalogError, RegionError
from las_builder.plan import resolve
from las_builder.plan.regions import Outline, footprints

PARIS, TANA, NAIROBI, BONN = (2.35, 48.85), (47.5, -18.9), (36.8, -1.3), (7.1, 50.73)


def inside(spec: object, strata: Strata, *places: tuple[float, float]) -> list[bool]:
    lon, lat = np.array(places).T
    return resolve(spec, strata, "recipe.yaml").contains(lon, lat).tolist()


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        ("global", [True, True, True, True]),
        ("France", [True, False, False, False]),
        ("fr", [True, False, False, False]),
        ("FRA", [True, False, False, False]),
        ("europe", [True, False, False, True]),
        ("kenya,MDG", [False, True, True, False]),
        (["Kenya", "de"], [False, False, True, True]),
        ([0, 40, 5, 50], [True, False, False, False]),
        ("0,40,5,50", [True, False, False, False]),
        ([5, 40, 0, 51], [False, False, False, True]),
        ("155", [True, False, False, True]),
        ("western europe", [True, False, False, True]),
        ("014", [False, True, True, False]),
        ("276", [False, False, False, True]),
        ("Sub-Saharan Africa,[0, 40, 5, 50]", [True, True, True, False]),
        ("0,40,5,50,6,50,8,51,MDG", [True, True, False, True]),
        (["0,40,5,50", "404"], [True, False, True, False]),
        ("250,276,404,450", [True, True, True, True]),
        ("32ULB,37MBU", [False, False, True, True]),
    ],
)
def test_names_codes_boxes_and_unions(strata: Strata, spec: object, want: list[bool]) -> None:
    assert inside(spec, strata, PARIS, TANA, NAIROBI, BONN) == want


def test_box_across_the_antimeridian_takes_any_turn(strata: Strata) -> None:
    suva, samoa, lima = (178.44, -18.14), (-171.76, -13.8), (-77.0, -12.0)
    assert inside([170, -25, -165, -10], strata, suva, samoa, lima) == [True, True, False]
    turned = [(lon + 360, lat) for lon, lat in (suva, samoa, lima)]
    assert inside([170, -25, -165, -10], strata, *turned) == [True, True, False]
    assert inside([170, -25, 195, -10], strata, suva, samoa, lima) == [True, True, False]


def members(spec: object, strata: Strata) -> set[str]:
    return {strata.countries[i].iso3 for i in resolve(spec, strata, "").countries}


def test_regions_of_m49(strata: Strata) -> None:
    """Sizes as the UN's table has them (248 areas), and TWN and XKX, which it has not."""
    everywhere = {country.iso3 for country in strata.countries[1:]}
    sizes = {"002": 60, "019": 57, "142": 51, "150": 52, "009": 29}
    found = {code: members(code, strata) for code in sizes}
    assert {code: len(of) for code, of in found.items()} == sizes
    assert Counter(iso3 for of in found.values() for iso3 in of) == Counter(everywhere - {"ATA"})
    smaller = {
        "015": 7, "202": 53, "011": 17, "014": 22, "017": 9, "018": 5, "021": 5, "419": 52,
        "005": 16, "013": 8, "029": 28, "030": 8, "034": 9, "035": 11, "143": 5, "145": 18,
        "039": 17, "151": 10, "154": 16, "155": 9, "053": 6, "054": 5, "057": 8, "061": 10,
    }  # fmt: skip
    assert {code: len(members(code, strata)) for code in smaller} == smaller
    assert members("northern africa,sub-saharan africa", strata) == members("002", strata)
    assert members("western europe", strata) == {
        "AUT", "BEL", "CHE", "DEU", "FRA", "LIE", "LUX", "MCO", "NLD"
    }  # fmt: skip


def test_a_name_that_two_have_is_the_continents(strata: Strata) -> None:
    """Cyprus is in the Europe of the continents' layer, and in Western Asia for the UN."""
    assert "CYP" in members("Europe", strata)
    assert "CYP" not in members("150", strata)
    assert members("Antarctica", strata) > members("ATA", strata) == members("010", strata)
    with pytest.raises(RegionError, match="'FSM' for the country, or '057' for UN M49"):
        resolve("Micronesia", strata, "")
    assert members("FSM", strata) == {"FSM"} < members("057", strata)


@pytest.mark.parametrize(
    ("word", "iso3"),
    [
        ("Côte d'Ivoire", "CIV"), ("cote d’ivoire", "CIV"), ("Ivory Coast", "CIV"), ("UK", "GBR"),
        ("Viet Nam", "VNM"), ("Türkiye", "TUR"), ("Czech Republic", "CZE"), ("Congo", "COG"),
        ("Bonaire, Saint Eustatius and Saba", "BES"), ("Bonaire, Sint Eustatius and Saba", "BES"),
        ("Bolivia (Plurinational State of)", "BOL"), ("  kenya ", "KEN"), ("na", "NAM"),
        ("Netherlands", "NLD"), ("504", "MAR"), ("008", "ALB"), ("Georgia", "GEO"),
    ],
)  # fmt: skip
def test_countries_by_any_of_their_names(strata: Strata, word: str, iso3: str) -> None:
    assert members(word, strata) == {iso3}


def test_every_country_has_a_code_of_its_own(strata: Strata) -> None:
    for country in strata.countries[1:]:
        for word in (country.iso2, country.iso3):
            assert members(word, strata) == {country.iso3}
        if country.iso3 != "FSM" and country.name != "Antarctica":
            assert members(country.name, strata) == {country.iso3}


def test_every_code_is_given_once(strata: Strata) -> None:
    file = yaml.safe_load((strata.catalogs.folders[-1] / "regions" / "m49.yaml").read_text())
    assert set(file["codes"]) == {c.iso3 for c in strata.countries[1:]} - {"XKX"}
    codes = [*file["codes"].values(), *file["regions"]]
    assert len(set(codes)) == len(codes) == 249 + 29, "countries of ISO 3166-1, and regions"
    assert all(len(code) == 3 for code in codes)


def own_regions(folder: Path, **regions: list[str]) -> Strata:
    (folder / "regions").mkdir(parents=True)
    content = {
        "title": "Ours", "license": "other", "attribution": "us", "verified": True, "sources": [],
        "regions": {key: {"name": key.title(), "parts": parts} for key, parts in regions.items()},
    }  # fmt: skip
    (folder / "regions" / "ours.yaml").write_text(yaml.safe_dump(content))
    return Strata.load(Catalogs.load(folder))


def test_a_long_list(strata: Strata) -> None:
    every = [country.iso3 for country in strata.countries[1:]]
    assert members(",".join(every), strata) == members(every, strata) == set(every)
    with pytest.raises(RegionError, match="M49"):
        resolve("x" * 5000, strata, "")


def test_regions_of_the_users_own(tmp_path: Path) -> None:
    strata = own_regions(tmp_path / "a", sahel=["MRT", "MLI", "core"], core=["NER", "TCD"])
    assert members("sahel,Kenya", strata) == {"MRT", "MLI", "NER", "TCD", "KEN"}
    assert members("155", strata), "and the packaged ones"
    for name, parts, words in (
        ("b", {"x": ["FRA", "XXX"]}, r"ours.yaml: `regions.x.parts` is 'XXX'"),
        ("c", {"x": ["y"], "y": ["x"]}, r"ours.yaml: .* no region that holds itself"),
    ):
        with pytest.raises(CatalogError, match=words):
            resolve("x", own_regions(tmp_path / name, **parts), "")


def test_extents_cut_every_part(strata: Strata) -> None:
    region = resolve("africa", strata, "").within((30.0, -10.0, 60.0, 10.0))
    assert region.contains([36.8, 47.5], [-1.3, -18.9]).tolist() == [True, False]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("Frnace", "France"),
        ("kenia", "Kenya"),
        ("africa,Nowhereland", "Nowhereland"),
        ([1, 2, 3], "west, south, east, north"),
        ([0, 50, 5, 40], "south < north"),
        ([0, -95, 5, 40], "south < north"),
        ([7, 0, 7, 5], "west"),
        ("nan,0,1,2", "west"),
        ("0,40,5,50,7", "west"),
        ("[0,40,5", "west"),
        ("39", "west"),
        ("999", "UN M49"),
        ("", "global"),
        ("southern afrika", "'Southern Africa'"),
        ("AXQ", "Did you mean 'AX'"),
        ("48.1,11.2,48.9,100", "latitude first"),
    ],
)
def test_refused_with_the_way_out(strata: Strata, spec: object, words: str) -> None:
    with pytest.raises(RegionError, match=r"recipe.yaml: `sites.region`") as error:
        resolve(spec, strata, "recipe.yaml")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("region", [[-40, 20, -35, 25], [-30, -75, 0, -70]])
def test_region_without_land_that_the_imagery_covers(drawn, region: list[float]) -> None:
    # Open ocean; and Antarctica, which is land but outside Sentinel-2's systematic acquisition.
    with pytest.raises(RegionError, match="a region with land that sentinel-2-l2a cover"):
        drawn(5, region)


def test_label_extent_counts(drawn, catalogs, sentinel: Imagery) -> None:
    corine = catalogs.label("corine")
    assert drawn(5, "MDG")
    with pytest.raises(RegionError, match="corine"):
        drawn(5, "MDG", products=[corine])


def test_footprints_across_the_antimeridian_and_around_a_pole(strata: Strata) -> None:
    turn = np.radians(np.arange(0, 360, 10))
    across = np.column_stack([(179.5 + np.cos(turn) + 180) % 360 - 180, -17 + np.sin(turn)])
    polar = np.column_stack([np.degrees(turn) - 180, np.full(turn.size, -85.0)])
    region = footprints("catalogue", [across, polar], strata)
    lon = np.array([-179.7, 179.0, 178.3, -179.3, 12.0, 12.0, -180.0])
    lat = np.array([-17.0, -17.0, -17.0, -17.0, -89.0, -84.0, -90.0])
    assert region.contains(lon, lat).tolist() == [True, True, False, False, True, False, True]


def test_an_outline_is_cut_into_the_globe_once() -> None:
    """Polygons a turn apart are one; the share of rectangles adds up to the area."""
    star = shapely.Point(180, 10).buffer(20, 64) - shapely.Point(178, 8).buffer(5, 64)
    turned = shapely.transform(star, lambda points: points - np.array([360.0, 0.0]))
    outline = Outline.of([star, turned])
    assert shapely.bounds(outline.polygons).tolist() == pytest.approx([-180, -10, 180, 30])
    assert outline.polygons.area == pytest.approx(star.area, rel=1e-12)
    assert len(outline.frames) == 2
    west, south = (
        a.ravel() for a in np.meshgrid(np.arange(-180, 180, 0.5), np.arange(-20, 40, 0.5))
    )
    share = outline.share(west, south, west + 0.5, south + 0.5)
    assert share.sum() * 0.25 == pytest.approx(star.area, rel=1e-12)
    assert set(np.unique(share[np.abs(west) < 150])) == {0.0}
    assert (share == 1).sum() > 3000


def test_frames_hold_everything_in_few_boxes() -> None:
    islands = [shapely.Point(x, y).buffer(0.5) for x in range(-178, 178, 4) for y in (-20, 50)]
    outline = Outline.of(islands)
    boxes = [shapely.box(*frame) for frame in outline.frames]
    assert len(boxes) <= 16
    assert shapely.union_all(boxes).buffer(1e-9).contains(outline.polygons)
    # The sixteen go where the sea is wide: around a mainland with bays, and far from each other.
    land = [shapely.box(0, 0, 20, 1), *(shapely.box(x, 2, x + 0.5, 3) for x in range(1, 19))]
    far = [shapely.box(x, 0, x + 1, 1) for x in (-170, 60, 61.5, 150)]
    assert sorted(Outline.of([*land, *far]).frames) == [
        (-170, 0, -169, 1), (0, 0, 20, 3), (60, 0, 61, 1), (61.5, 0, 62.5, 1), (150, 0, 151, 1)
    ]  # fmt: skip
    many = [shapely.box(x, 0, x + 0.5, 1) for x in range(-100, -60)] + far
    assert sum(east - west for west, _, east, _ in Outline.of(many).frames) < 40 + 4


def test_vertices_on_one_spot_do_not_stop_it() -> None:
    corner = 2000 * [(1.0, 1.0)]
    outline = Outline.of([shapely.Polygon([(0, 0), (1, 0), *corner, (0, 1)])])
    one = np.array([1.0])
    assert outline.share(one * 0, one * 0, one * 2, one * 2).tolist() == [0.25]


def test_the_seam_is_one_meridian() -> None:
    west = Outline.of([shapely.box(-180, 0, -170, 1)])
    east = Outline.of([shapely.box(170, 0, 180, 1)])
    lon = np.array([180.0, -180.0, 540.0, 179.9, -179.9])
    assert west.contains(lon, np.full(5, 0.5)).tolist() == [True, True, True, False, True]
    assert east.contains(lon, np.full(5, 0.5)).tolist() == [True, True, True, True, False]


def test_the_area_of_footprints_is_geodesic(strata: Strata) -> None:
    """Two overlapping scenes in the middle of Asia, all land."""
    from las_builder.plan.target import Target

    rings = [np.array(shapely.box(x, 44, x + 3, 46).exterior.coords) for x in (100, 102)]
    region = footprints("catalogue", rings, strata)
    whole = shapely.segmentize(shapely.box(100, 44, 105, 46), 0.01)
    area, _ = Geod(ellps="WGS84").geometry_area_perimeter(whole)
    assert Target.of(region).area == pytest.approx(abs(area) / 1e6, rel=1e-6)


def test_a_product_of_one_country_keeps_the_draw_there(strata: Strata) -> None:
    everywhere = resolve("global", strata, "recipe.yaml").covered(["USA"], "recipe.yaml")
    lon, lat = np.array([-98.0, -99.1, -106.3]), np.array([39.0, 19.4, 56.1])  # Kansas, Mexico City
    assert everywhere.contains(lon, lat).tolist() == [True, False, False]
    assert not everywhere.covered(["Canada"], "recipe.yaml").contains(lon, lat).any()
    with pytest.raises(RegionError, match="Atlantis"):
        everywhere.covered(["Atlantis"], "recipe.yaml")
