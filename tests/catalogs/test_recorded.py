"""Declarations against what providers themselves say: recorded STAC documents and real rasters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from pyproj import Transformer

from las_builder.catalogs import Catalogs, LabelProduct

pytestmark = pytest.mark.real

CATALOGS = Catalogs.load()


def document(folder: Path, *parts: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(folder.joinpath(*parts).read_text())
    return content


def item_assets(folder: Path, collection: str) -> dict[str, Any]:
    assets: dict[str, Any] = document(folder, "stac", "collections", f"{collection}.json")[
        "item_assets"
    ]
    return assets


# ---- bands


@pytest.mark.parametrize(
    ("imagery", "provider", "recorded"),
    [
        ("sentinel-2-l2a", "earth-search", "earthsearch_sentinel-2-l2a"),
        ("sentinel-2-c1-l2a", "earth-search", "earthsearch_sentinel-2-c1-l2a"),
        ("sentinel-2-l1c", "earth-search", "earthsearch_sentinel-2-l1c"),
        ("sentinel-2-l2a", "planetary-computer", "pc_sentinel-2-l2a"),
    ],
)
def test_bands_of_sentinel_2(shared_data: Path, imagery: str, provider: str, recorded: str) -> None:
    declared = CATALOGS.imagery(imagery)
    where = declared.at(provider)
    assert where is not None
    assets = item_assets(shared_data, recorded)
    named = 0
    for band in declared.bands:
        asset = assets[where.assets.get(band.name, band.name)]
        (stated,) = asset["eo:bands"]
        assert band.center_wavelength == pytest.approx(stated["center_wavelength"], abs=1e-9)
        assert band.full_width_half_max == pytest.approx(stated["full_width_half_max"], abs=1e-9)
        # Planetary Computer calls B8A a red edge and B09 nothing.
        if not (provider == "planetary-computer" and band.name in {"B8A", "B09"}):
            assert band.common_name == stated["common_name"]
        if stated["name"].startswith("B"):
            assert stated["name"] == band.name
            named += 1
        for raster in asset.get("raster:bands", []):
            assert band.gsd == raster["spatial_resolution"]
            assert band.scale == raster["scale"]
            assert declared.nodata == raster["nodata"]
            assert declared.data_type == raster["data_type"]
    assert named in (0, len(declared.bands))
    others = {k for k, v in assets.items() if "eo:bands" in v and len(v["eo:bands"]) == 1}
    reached = {where.assets.get(band.name, band.name) for band in declared.bands}
    assert {k for k in others if not k.endswith("-jp2")} == reached, "a band nobody declared"
    if declared.validity.band:
        assert where.assets.get(declared.validity.band, declared.validity.band) in assets


def landsat_items(folder: Path) -> Iterator[dict[str, Any]]:
    for provider in ("pc_landsat-c2-l2", "earthsearch_landsat-c2-l2"):
        for path in sorted((folder / "stac" / "items" / provider).glob("*.json")):
            yield json.loads(path.read_text())


def test_bands_of_landsat(shared_data: Path) -> None:
    declared = CATALOGS.imagery("landsat-c2-l2")
    seen = 0
    for item in landsat_items(shared_data):
        for provider in ("planetary-computer", "earth-search"):
            where = declared.at(provider)
            assert where is not None
            assert where.collection == item["collection"]
            assert where.holds(item["properties"])
            assert not where.holds({**item["properties"], "platform": "landsat-7"})
            for number, band in enumerate(declared.bands, start=1):
                asset = item["assets"][where.assets[band.name]]
                (stated,), (raster,) = asset["eo:bands"], asset["raster:bands"]
                assert stated["name"] == f"OLI_B{number}"
                assert band.name == f"SR_B{number}"
                assert band.common_name == stated["common_name"]
                # Catalogues round to 0.01 micrometres.
                assert band.center_wavelength == pytest.approx(
                    stated["center_wavelength"], abs=6e-3
                )
                assert band.full_width_half_max == pytest.approx(
                    stated["full_width_half_max"], abs=6e-3
                )
                assert (band.scale, band.offset) == (raster["scale"], raster["offset"])
                assert declared.nodata == raster["nodata"]
                assert declared.data_type == raster["data_type"]
                assert band.gsd == raster["spatial_resolution"]
                seen += 1
    assert seen == 6 * 2 * 7


def test_bands_of_naip_in_the_order_of_the_file(shared_data: Path) -> None:
    declared = CATALOGS.imagery("naip")
    for provider, recorded in (("planetary-computer", "pc"), ("earth-search", "earthsearch")):
        where = declared.at(provider)
        assert where is not None
        stated = item_assets(shared_data, f"{recorded}_naip")["image"]["eo:bands"]
        assert [band.common_name for band in declared.bands] == [b["common_name"] for b in stated]
        assert where.assets == dict.fromkeys([band.name for band in declared.bands], "image")


# ---- validity


def test_clear_bits_of_landsat(shared_data: Path) -> None:
    validity = CATALOGS.imagery("landsat-c2-l2").validity
    for item in landsat_items(shared_data):
        asset = item["assets"]["qa_pixel"]
        bits = {b["name"]: b["offset"] for b in asset["classification:bitfields"]}
        unclear = ("fill", "dilated_cloud", "cirrus", "cloud", "cloud_shadow")
        assert sorted(validity.clear_when_zero or []) == sorted(bits[name] for name in unclear)
        assert validity.nodata == asset["raster:bands"][0]["nodata"]


def test_clear_values_of_sentinel_2(shared_data: Path) -> None:
    validity = CATALOGS.imagery("sentinel-2-l2a").validity
    paths = sorted((shared_data / "stac" / "items" / "stactools_sentinel2").glob("*.json"))
    assert paths
    for path in paths:
        raster = json.loads(path.read_text())["assets"]["scl"]["raster:bands"][0]
        names = {c["value"]: c["name"] for c in raster["classification:classes"]}
        assert {names[value] for value in validity.clear_values or []} == {
            "vegetation", "not_vegetated", "water", "unclassified", "snow",
        }  # fmt: skip
        assert names[validity.nodata] == "no_data"
        assert validity.gsd == raster["spatial_resolution"]


def test_validity_of_real_pixels(shared_data: Path) -> None:
    """Decoded with Python integers, one distinct number at a time."""
    folder = shared_data / "landsat_c2l2" / "LC08_L2SP_005009_20150710_20200908_02_T2"
    with rasterio.open(next(folder.glob("*QA_PIXEL.TIF"))) as source:
        qa = source.read(1)
    clear = CATALOGS.imagery("landsat-c2-l2").validity.decode(qa)
    for value in np.unique(qa).tolist():
        bits = f"{value:016b}"[::-1]
        want = bits[:5] == "00000" and value != 1
        assert (clear[qa == value] == want).all(), value
    assert 0 < clear.mean() < 1

    scl_file = "s2_l2a_t29unu_baseline0400/T29UNU_20221005T115411_SCL_20m_crop.tif"
    with rasterio.open(shared_data / scl_file) as source:
        scl = source.read(1)
    clear = CATALOGS.imagery("sentinel-2-l2a").validity.decode(scl)
    assert sorted(np.unique(scl[clear]).tolist()) == [4, 5, 6, 7]
    assert sorted(np.unique(scl[~clear]).tolist()) == [3, 8, 9, 10]


# ---- legends


def legend(asset: dict[str, Any]) -> dict[int, tuple[str, str | None]]:
    """Code to name and colour, from either way STAC has of saying it."""
    if "file:values" in asset:
        return {v: (c["summary"], None) for c in asset["file:values"] for v in c["values"]}
    return {
        c["value"]: (c["description"], c.get("color_hint") or c.get("color-hint"))
        for c in asset["classification:classes"]
    }


def agree(product: LabelProduct, stated: dict[int, tuple[str, str | None]]) -> None:
    declared = {c.value: c for c in product.classes}
    assert set(stated) <= set(declared)
    assert all(not declared[code].means for code in set(declared) - set(stated))
    for code, (name, colour) in stated.items():
        assert declared[code].title == name
        if colour is not None:
            assert declared[code].color_hint == colour


@pytest.mark.parametrize(
    ("product", "recorded", "asset"),
    [
        ("esa-worldcover-v100", "pc_esa-worldcover", "map"),
        ("esa-worldcover-v200", "pc_esa-worldcover", "map"),
        ("io-lulc-annual", "pc_io-lulc-annual-v02", "data"),
        ("chesapeake-lc7", "pc_chesapeake-lc-7", "data"),
        ("chesapeake-lc13", "pc_chesapeake-lc-13", "data"),
    ],
)
def test_legends_of_collections(shared_data: Path, product: str, recorded: str, asset: str) -> None:
    declared = CATALOGS.label(product)
    collection = document(shared_data, "stac", "collections", f"{recorded}.json")
    agree(declared, legend(collection["item_assets"][asset]))
    where = declared.at("planetary-computer")
    assert where is not None
    assert where.collection == collection["id"]
    assert where.assets["codes"] == asset
    rasters = [
        *collection["item_assets"][asset].get("raster:bands", []),
        *collection.get("summaries", {}).get("raster:bands", []),
    ]
    assert rasters
    for raster in rasters:
        assert declared.nodata == raster["nodata"]
        assert declared.data_type == raster.get("data_type", "uint8")
        assert declared.gsd == raster["spatial_resolution"]


def test_legend_of_the_cropland_data_layer(shared_data: Path) -> None:
    """Same codes; names and colours differ where the collection abbreviates or errs."""
    declared = CATALOGS.label("usda-cdl")
    stated = legend(item_assets(shared_data, "pc_usda-cdl")["cropland"])
    assert {c.value for c in declared.classes} == {*stated, declared.nodata}
    assert len(declared.classes) == 134
    far, other = [], []
    for entry in declared.classes:
        if entry.value not in stated:
            continue
        name, colour = stated[entry.value]
        assert colour is not None
        assert entry.color_hint is not None
        channels = [
            int(a, 16) - int(b, 16)
            for a, b in zip(_pairs(colour), _pairs(entry.color_hint), strict=True)
        ]
        if max(map(abs, channels)) > 6:
            far.append(entry.value)
        if name != entry.title and not entry.title.startswith("Dbl Crop"):
            other.append(entry.value)
    assert far == [228, 233]
    assert other == [47, 176, 221], "an abbreviation, a synonym and a misspelling"


def _pairs(colour: str) -> list[str]:
    return [colour[i : i + 2] for i in (0, 2, 4)]


@pytest.mark.parametrize(
    ("product", "year", "other"),
    [
        ("esa-worldcover-v100", 2020, "esa-worldcover-v200"),
        ("esa-worldcover-v200", 2021, "esa-worldcover-v100"),
    ],
)
def test_worldcover_items(shared_data: Path, product: str, year: int, other: str) -> None:
    version = product[-4:]
    stem = f"ESA_WorldCover_10m_{year}_{version}_N00E006.stac-item.json"
    item = document(shared_data, "worldcover", stem)
    declared = CATALOGS.label(product)
    for provider in ("stac", "planetary-computer"):
        where, wrong = declared.at(provider), CATALOGS.label(other).at(provider)
        assert where is not None
        assert wrong is not None
        assert where.collection == item["collection"]
        assert where.holds(item["properties"])
        assert not wrong.holds(item["properties"])
        agree(declared, legend(item["assets"][where.assets["codes"]]))
    assert str(declared.epoch.start) == item["properties"]["start_datetime"][:10]
    assert str(declared.epoch.end) == item["properties"]["end_datetime"][:10]
    pixel = item["assets"]["map"]["proj:transform"][0]
    assert declared.lattice.pixel == pytest.approx(pixel, rel=1e-15)


# ---- rasters

RASTERS = [
    ("esa-worldcover-v100", "worldcover/ESA_WorldCover_10m_2020_v100_N00E006_Map.tif"),
    ("esa-worldcover-v100", "worldcover/ESA_WorldCover_10m_2020_v100_N66E177_Map_decimated.tif"),
    ("esa-worldcover-v200", "worldcover/ESA_WorldCover_10m_2021_v200_N00E006_Map.tif"),
    ("nlcd-annual", "nlcd_cdl_north_carolina/Annual_NLCD_LndCov_2021_CU_C1V0.tif"),
    ("usda-cdl", "nlcd_cdl_north_carolina/cdl_2019_crop_to_nlcd.tif"),
    ("nlcd", "nlcd_zion/nlcd2011.tif"),
    ("nlcd", "chesapeake_naip_wv/m_3907833_nw_17_1_nlcd.tif"),
    ("chesapeake-lc7", "chesapeake_naip_wv/m_3907833_nw_17_1_lc.tif"),
    ("chesapeake-lc7", "chesapeake_lulc_wv_1m/chesapeake_lc7_crop.tif"),
    ("chesapeake-lc13", "chesapeake_lulc_wv_1m/chesapeake_lc13_crop.tif"),
    ("chesapeake-lu", "chesapeake_lulc_wv_1m/chesapeake_lu_crop.tif"),
    ("terramesh-lulc", "s2_lulc_pairs/637U_59R_1_3_denmark/LULC.tif"),
    ("terramesh-lulc", "s2_lulc_pairs/433D_629L_3_1_chile/LULC.tif"),
    ("terramesh-lulc", "s2_lulc_pairs/609U_541L_3_0_hudson_bay_canada/LULC.tif"),
    ("slovenia-lulc", "s2_lulc_pairs/eolearn_slovenia/LULC.tif"),
]


@pytest.mark.parametrize(("product", "file"), RASTERS)
def test_real_rasters_hold_declared_codes_only(shared_data: Path, product: str, file: str) -> None:
    declared = CATALOGS.label(product)
    with rasterio.open(shared_data / file) as source:
        step = max(1, source.height // 2250)  # an overview of the tiles of 36000 pixels
        codes = source.read(1, out_shape=(source.height // step, source.width // step))
        nothing = set() if source.nodata is None else {int(source.nodata)}
    assert set(np.unique(codes).tolist()) - nothing <= declared.codes


ON_LATTICE = [
    r for r in RASTERS if r[0] not in {"terramesh-lulc", "slovenia-lulc"}
    and not any(cut in r[1] for cut in ("zion", "naip_wv", "decimated"))
]  # fmt: skip
"""Rasters that nobody warped."""


@pytest.mark.parametrize(("product", "file"), ON_LATTICE)
def test_real_rasters_lie_on_the_declared_lattice(
    shared_data: Path, product: str, file: str
) -> None:
    lattice = CATALOGS.label(product).lattice
    with rasterio.open(shared_data / file) as source:
        crs, transform = source.crs.to_wkt(), source.transform
        west, south, east, north = source.bounds
    assert transform.a == pytest.approx(lattice.pixel, rel=1e-12)
    assert transform.e == pytest.approx(-lattice.pixel, rel=1e-12)
    for corner, origin in zip((transform.c, transform.f), lattice.origin, strict=True):
        pixels = (corner - origin) / lattice.pixel
        assert pixels == pytest.approx(round(pixels), abs=1e-4)
    # The same coordinates are the same place: to the digit, but for Annual NLCD on WGS 84, whose
    # datum PROJ holds to be the same as NAD 83 to within two metres.
    there = Transformer.from_crs(crs, lattice.crs, always_xy=True)
    middle = (west + east) / 2, (south + north) / 2
    assert there.transform(*middle) == pytest.approx(middle, abs=2 if "AEA" in crs else 1e-4)


def test_real_rasters_cover_most_products() -> None:
    assert len({product for product, _ in RASTERS}) == 10
    assert len(ON_LATTICE) == 7
