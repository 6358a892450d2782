"""What declarations compute: radiometry, validity, epochs, who an item belongs to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from affine import Affine
from pydantic import ValidationError

from las_builder.catalogs import Catalogs, Where
from las_builder.catalogs.models import Epoch, LabelProduct, Validity, Vector
from las_builder.core.grid import Grid
from las_builder.core.types import AssetRef, Scene

CATALOGS = Catalogs.load()


def scene(
    properties: dict[str, Any], *, scale: float | None = None, offset: float | None = None
) -> Scene:
    return Scene(
        id="a",
        datetime=datetime(2022, 10, 5, tzinfo=UTC),
        cloud_cover=None,
        grid=Grid("EPSG:32629", Affine(10.0, 0.0, 500000.0, 0.0, -10.0, 5900040.0), 10, 10),
        assets={"B02": AssetRef(href="b.tif", scale=scale, offset=offset)},
        properties=properties,
    )


BASELINE = "s2:processing_baseline"


@pytest.mark.parametrize("name", ["sentinel-2-l2a", "sentinel-2-l1c"])
@pytest.mark.parametrize(
    ("given", "stated", "provider", "offset"),
    [
        ({BASELINE: "02.12"}, None, "stac", 0.0),
        ({BASELINE: "03.01"}, -0.1, "stac", 0.0),  # a statement that the rule overrules
        ({BASELINE: "04.00"}, None, "stac", -0.1),
        ({BASELINE: "05.11"}, None, "planetary-computer", -0.1),
        ({BASELINE: "05.11"}, 0.0, "earth-search", -0.1),
        ({BASELINE: "10.00"}, None, "stac", -0.1),
        ({BASELINE: "3.01"}, None, "stac", 0.0),  # numbers, not text
        ({BASELINE: "05.11", "earthsearch:boa_offset_applied": True}, -0.1, "earth-search", 0.0),
        ({BASELINE: "05.11", "earthsearch:boa_offset_applied": False}, 0.0, "earth-search", -0.1),
        ({BASELINE: "05.11"}, None, "earth-engine", 0.0),  # *_HARMONIZED
        ({}, -0.1, "stac", -0.1),  # no baseline: what the provider states
        ({}, None, "stac", 0.0),
    ],
)
def test_offset_of_sentinel_2(
    name: str, given: dict[str, Any], stated: float | None, provider: str, offset: float
) -> None:
    imagery = CATALOGS.imagery(name)
    assert imagery.radiometry(scene(given, offset=stated), "B02", provider=provider) == (
        1e-4, offset,
    )  # fmt: skip


def test_reflectance_of_landsat() -> None:
    scale, offset = CATALOGS.imagery("landsat-c2-l2").radiometry(scene({}), "SR_B4")
    # USGS: numbers 7273 to 43636 are reflectances 0 to 1.
    assert 7273 * scale + offset == pytest.approx(0, abs=2e-5)
    assert 43636 * scale + offset == pytest.approx(1, abs=2e-5)


def test_naip_has_no_nodata_and_no_reflectance() -> None:
    naip = CATALOGS.imagery("naip")
    assert naip.nodata is None
    assert naip.validity.band is None
    assert naip.radiometry(scene({}), "N") == (1.0, 0.0)


def test_band_of_unknown_name() -> None:
    with pytest.raises((KeyError, StopIteration)):
        CATALOGS.imagery("naip").band("SWIR")


def test_validity_by_bits() -> None:
    clear = CATALOGS.imagery("landsat-c2-l2").validity.decode(
        np.array([[1, 21824, 21952], [22280, 23888, 30048]], np.uint16)
    )
    # fill; clear land; clear water | cloud; shadow; snow
    assert clear.tolist() == [[False, True, True], [False, False, True]]


def test_validity_by_values() -> None:
    clear = CATALOGS.imagery("sentinel-2-l2a").validity.decode(np.arange(12, dtype=np.uint8))
    assert np.flatnonzero(clear).tolist() == [4, 5, 6, 7, 11]


@pytest.mark.parametrize(
    "given",
    [
        {"band": "QA"},
        {"clear_values": [1]},
        {"band": "QA", "clear_values": [1], "clear_when_zero": [0]},
    ],
)
def test_validity_is_said_in_one_way(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Validity(**given)


def test_match_of_one_or_of_several_values() -> None:
    where = Where(provider="stac", match={"platform": ["landsat-8", "landsat-9"], "version": "2"})
    assert where.holds({"platform": "landsat-9", "version": "2", "more": 1})
    assert not where.holds({"platform": "landsat-7", "version": "2"})
    assert not where.holds({"platform": "landsat-8"})
    assert Where(provider="stac").holds({})


@pytest.mark.parametrize(
    ("product", "image_year", "year"),
    [
        ("esa-worldcover-v100", 2015, 2020),
        ("esa-worldcover-v200", 2024, 2021),
        ("nlcd", 2012, 2011),  # a tie with 2013 goes to the earlier
        ("nlcd", 2020, 2019),
        ("nlcd", 1990, 2001),
        ("nlcd-annual", 1990, 1990),
        ("io-lulc-annual", 2016, 2017),
        ("io-lulc-annual", 2020, 2020),
        ("corine", 2016, 2018),
        ("usda-cdl", 2019, 2019),
        ("chesapeake-lc7", 2018, 2013),
        ("dynamic-world", 2019, 2019),
    ],
)
def test_year_of_the_map(product: str, image_year: int, year: int) -> None:
    assert CATALOGS.label(product).epoch.year_for(image_year) == year


def test_a_fixed_epoch_needs_a_start() -> None:
    with pytest.raises(ValueError, match="start"):
        Epoch(rule="fixed").year_for(2020)


@pytest.mark.parametrize(
    ("product", "image_year", "off"),
    [
        ("esa-worldcover-v200", 2021, 0), ("esa-worldcover-v200", 2018, 3),
        ("chesapeake-lc7", 2014, 0), ("chesapeake-lc7", 2016, 2), ("chesapeake-lc7", 2010, 3),
        ("nlcd", 2012, 1), ("nlcd", 2021, 0), ("nlcd", 2025, 4), ("dynamic-world", 1999, 0),
        ("jrc-gsw-transition", 2000, 0), ("openstreetmap-landuse", 2020, 0),
    ],
)  # fmt: skip
def test_years_between_an_image_and_its_map(product: str, image_year: int, off: int) -> None:
    assert CATALOGS.label(product).epoch.years_off(image_year) == off


# ---- vector products

TAGS = Vector(
    crs="EPSG:4326", rule="centre", outside=0,
    features=[
        {"value": 3, "match": {"power": "plant", "plant:source": ["solar", "wind"]}},
        {"value": 1, "match": {"building": "*"}},
        {"value": 2, "layer": "roads", "match": {"highway": "*"}, "width": 6},
        {"value": 4, "at_least": {"confidence": 0.65}},
    ],
)  # fmt: skip


@pytest.mark.parametrize(
    ("properties", "layer", "code"),
    [
        ({"building": "yes"}, None, 1),
        ({"building": "no"}, None, None),
        ({"building": ""}, None, None),
        ({"building": None}, None, None),
        ({"building": "yes", "power": "plant", "plant:source": "solar"}, None, 3),  # first wins
        ({"power": "plant", "plant:source": "gas"}, None, None),
        ({"highway": "track"}, "roads", 2),
        ({"highway": "track"}, "areas", None),
        ({"confidence": 0.65}, None, 4),
        ({"confidence": 0.6499}, "any", None),
        ({"confidence": "0.9"}, None, None),
        ({"confidence": float("nan")}, None, None),
        ({}, None, None),
    ],
)
def test_features_become_codes(
    properties: dict[str, Any], layer: str | None, code: int | None
) -> None:
    assert TAGS.code_of(properties, layer) == code


def test_a_product_is_either_raster_or_vector() -> None:
    declared = CATALOGS.label("google-open-buildings").model_dump(by_alias=True)
    with pytest.raises(ValidationError, match="`vector` with geometry"):
        LabelProduct.model_validate({**declared, "geometry": "raster"})
    with pytest.raises(ValidationError, match="`vector` with geometry"):
        LabelProduct.model_validate({**declared, "lattice": {"crs": "EPSG:4326", "pixel": 1}})
    vector = {**declared["vector"], "features": [{"value": 9}]}
    with pytest.raises(ValidationError, match=r"not \[9\]"):
        LabelProduct.model_validate({**declared, "vector": vector})
