from __future__ import annotations

import numpy as np
import pytest

from las_builder.catalogs import Imagery, Strata
from las_builder.errors import RegionError
from las_builder.plan import resolve
from las_builder.plan.regions import footprints

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


def test_a_product_of_one_country_keeps_the_draw_there(strata: Strata) -> None:
    everywhere = resolve("global", strata, "recipe.yaml").covered(["USA"], "recipe.yaml")
    lon, lat = np.array([-98.0, -99.1, -106.3]), np.array([39.0, 19.4, 56.1])  # Kansas, Mexico City
    assert everywhere.contains(lon, lat).tolist() == [True, False, False]
    assert not everywhere.covered(["Canada"], "recipe.yaml").contains(lon, lat).any()
    with pytest.raises(RegionError, match="Atlantis"):
        everywhere.covered(["Atlantis"], "recipe.yaml")
