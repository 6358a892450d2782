"""Audits of real products of one place: what is known of the maps has to be what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

pytestmark = pytest.mark.real

NEAR = 1e-4
"""Weights of patches of one tile differ as the area of their pixels on the ellipsoid does."""


def pair(said: dict[str, Any], a: str, b: str) -> dict[str, Any]:
    return next(p for p in said["agreement"] if (p["a"], p["b"]) == (a, b))


def level(said: dict[str, Any], a: str, b: str, name: str = "level-1") -> dict[str, Any]:
    return next(lv for lv in pair(said, a, b)["levels"] if lv["taxonomy"] == name)


def composition(said: dict[str, Any], product: str) -> dict[int, float]:
    (found,) = (s for s in said["stated"] if s["product"] == product)
    return {int(code): e["value"] for code, e in found["composition"].items()}


def cube_of(built, products: list[str]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Weight of each stored patch of one date a site, and the codes of its products."""
    from las_builder import plan

    sites = plan.read_plan(built.space.plan)
    km2 = dict(zip(sites.id.tolist(), sites.weight_km2.tolist(), strict=True))
    cube = built.cube()
    some = np.flatnonzero(cube["stored"].values)
    stored = [str(site) for site in cube["site"].values[some]]
    weight = np.array([km2[site] for site in stored])
    codes = {name: cube[f"labels/{name}"].values[some] for name in products}
    cube.close()
    return weight / weight.sum(), codes


def test_west_virginia_is_counted_as_the_rasters_are(build, shared_data: Path) -> None:
    # Four patches of two dates cover the tile once each date: every share is one of its pixels.
    built = build("west-virginia")
    said = built.audit()
    stem = shared_data / "chesapeake_naip_wv" / "m_3907833_nw_17_1"
    raster = {
        product: rasterio.open(f"{stem}_{name}.tif").read(1)
        for product, name in (
            ("chesapeake-lc7", "lc"), ("nlcd", "nlcd"), ("wv-buildings", "buildings"),
        )
    }  # fmt: skip
    cover, nlcd, house = raster.values()
    for product in ("chesapeake-lc7", "nlcd"):
        codes, n = np.unique(raster[product], return_counts=True)
        want = dict(zip(codes.tolist(), (n / n.sum()).tolist(), strict=True))
        assert composition(said, product) == pytest.approx(want, rel=NEAR)
    (buildings,) = (s for s in said["stated"] if s["product"] == "wv-buildings")
    assert buildings["nothing"]["value"] == pytest.approx((house == 0).mean(), rel=NEAR)

    # A building that land cover calls impervious (5, 6) can be one; trees, lawn and water cannot.
    on_house = level(said, "chesapeake-lc7", "wv-buildings")
    assert on_house["can_agree"]["value"] == pytest.approx(
        np.isin(cover[house == 1], (5, 6)).mean()
    )
    assert 0.75 < on_house["can_agree"]["value"] < 0.9
    # NLCD says no building: its developed codes (21 to 24) can be one, and none is only that.
    on_house = level(said, "nlcd", "wv-buildings")
    assert on_house["can_agree"]["value"] == pytest.approx(
        np.isin(nlcd[house == 1], (21, 22, 23, 24)).mean(), rel=NEAR
    )
    assert on_house["overall"]["value"] == 0
    # Forest of NLCD can be the canopy of the other and not its low vegetation; water only water.
    both = level(said, "chesapeake-lc7", "nlcd")
    water = (cover == 1) & (nlcd == 11)
    classes = {(a, b): share for a, b, share in both["table"]}
    assert classes["water", "water"] * both["compared"]["value"] == pytest.approx(
        water.mean(), rel=NEAR
    )
    assert both["can_agree"]["value"] > 0.85
    assert both["compared"]["value"] < 0.05  # coarse codes: this is why it is not the headline
    assert len(said["contested"]) == 4


def test_the_thirteen_classes_merge_into_the_seven(build) -> None:
    built = build("chesapeake")
    said = built.audit()
    seven, thirteen = (composition(said, f"chesapeake-lc{n}") for n in (7, 13))
    merged = {1: (1,), 2: (3, 4, 10, 11, 12), 3: (2, 5), 4: (6,), 5: (7, 8), 6: (9,)}
    for code, parts in merged.items():
        assert sum(thirteen.get(c, 0.0) for c in parts) == pytest.approx(
            seven.get(code, 0.0), abs=1e-12
        )
    assert set(seven) >= {
        1,
        2,
        3,
        5,
        6,
    }  # water, canopy, low vegetation, sealed, roads: not an empty check
    for name in ("level-1", "level-2"):
        same = level(said, "chesapeake-lc7", "chesapeake-lc13", name)
        assert same["can_agree"]["value"] == 1
        assert same["overall"]["value"] == 1
    assert pair(said, "chesapeake-lc7", "chesapeake-lc13")["both_can_be_right"]["value"] == 1
    # Land use was made from land cover, and lies a fraction of a metre off: all but edges agree.
    for lc in ("chesapeake-lc7", "chesapeake-lc13"):
        use = level(said, lc, "chesapeake-lu")
        assert 0.95 < use["can_agree"]["value"] < 1
    inside = level(said, "chesapeake-lc13", "chesapeake-lu")
    assert inside["interior"]["value"] > inside["edge"]["value"]
    _, codes = cube_of(built, ["chesapeake-lc7", "chesapeake-lc13", "chesapeake-lu"])
    assert ((codes["chesapeake-lc7"] == 15) == (codes["chesapeake-lc13"] == 0)).all()


def test_nlcd_and_cdl_of_north_carolina_show_a_map_that_lies_off(build) -> None:
    said = build("north-carolina").audit()
    both = level(said, "nlcd-annual", "usda-cdl")
    # CDL takes what is no crop from NLCD: lakes and forest are all but the same.
    assert both["classes"]["water"]["of_a"]["value"] > 0.95
    assert both["classes"]["water"]["of_b"]["value"] > 0.9
    assert both["classes"]["tree"]["of_a"]["value"] > 0.95
    assert both["can_agree"]["value"] > 0.9
    # The file as it came lies 540 m to the north, and the audit says so.
    off = build("north-carolina", as_it_came=True).audit()
    shifted = level(off, "nlcd-annual", "usda-cdl")
    assert shifted["classes"]["water"]["of_a"]["value"] < 0.8
    assert shifted["can_agree"]["value"] < both["can_agree"]["value"] - 0.1


def test_worldcover_2021_has_more_built_up_and_less_bare_than_2020(build) -> None:
    built = build("worldcover")
    said = built.audit()
    names = [f"esa-worldcover-{v}" for v in ("v100", "v200")]
    weight, codes = cube_of(built, names)
    old, new = (codes[name] for name in names)
    both = (old != 0) & (new != 0)
    share = weight[:, None, None] / old[0].size
    total = (share * both).sum()
    (drift,) = said["drift"]
    assert (drift["before"], drift["after"]) == tuple(names)
    assert drift["changed"]["value"] == pytest.approx((share * (both & (old != new))).sum() / total)
    for code, turn in drift["codes"].items():
        for when, maps in (("before", old), ("after", new)):
            want = (share * (both & (maps == int(code)))).sum() / total
            assert turn[when]["value"] == pytest.approx(want)
    # In the whole tile: built-up 131,868 to 181,604 pixels, bare 205,654 to 124,660.
    assert drift["codes"]["50"]["net"]["value"] > 0
    assert drift["codes"]["60"]["net"]["value"] < 0
    at = level(said, names[1], names[0])
    assert at["compared"]["value"] == pytest.approx(1)  # every code of it is one class
    assert at["overall"]["value"] == pytest.approx(1 - drift["changed"]["value"])
    assert at["can_agree"]["value"] == pytest.approx(at["overall"]["value"])


@pytest.mark.parametrize("case", ["west-virginia", "north-carolina", "chesapeake", "worldcover"])
def test_a_page_is_made_and_every_code_is_known(case: str, build) -> None:
    built = build(case)
    said = built.audit()
    for found in said["stated"]:
        product = built.corpus.catalogs.label(found["product"])
        assert {int(code) for code in found["composition"]} <= set(product.codes)
        assert sum(e["value"] for e in found["composition"].values()) == pytest.approx(1)
        assert sum(e["value"] for e in found["areas_km2"].values()) == pytest.approx(
            said["area_km2"]
        )
    page = (built.space.subset(built.subset.name).audit / "index.html").read_text()
    assert "nan" not in page
    assert ("SYNTHETIC: the images are made up" in page) == (case != "west-virginia")
