"""Lattices against every recorded STAC item, and against pyproj at the seams of the world."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import CRS, Geod, Transformer

from las_builder.catalogs import Catalogs, LabelProduct
from las_builder.core.grid import Lattice, mgrs_zone, utm_zone

CATALOGS = Catalogs.load()
S2 = CATALOGS.imagery("sentinel-2-l2a").lattice
LANDSAT = CATALOGS.imagery("landsat-c2-l2").lattice
NAIP = CATALOGS.imagery("naip").lattice

WITHOUT_PROJECTION = {"incomplete/S2C_T13TDE_20250729T180310_L2A.json"}
"""Answers to searches that asked for a few fields only; nothing to check there."""


@dataclass(frozen=True)
class Item:
    path: str
    lattice: Lattice
    crs: str
    transforms: list[Affine]
    lon: float
    lat: float
    """Centre of the raster, by pyproj."""


def items(folder: Path) -> list[Item]:
    found = []
    for path in sorted((folder / "stac" / "items").glob("*/*.json")):
        name = f"{path.parent.name}/{path.name}"
        if name in WITHOUT_PROJECTION:
            continue
        item = json.loads(path.read_text())
        properties = item["properties"]
        crs = properties.get("proj:code") or f"EPSG:{properties['proj:epsg']}"
        rasters = [
            (Affine(*part["proj:transform"][:6]), part["proj:shape"])
            for part in [properties, *item["assets"].values()]
            if part.get("proj:transform") and part.get("proj:shape")
        ]
        assert rasters, name
        transform, (rows, columns) = rasters[0]
        to_lonlat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
        lon, lat = to_lonlat.transform(
            transform.c + columns / 2 * transform.a, transform.f + rows / 2 * transform.e
        )
        kind = {"S2": S2, "LC": LANDSAT}.get(path.name[:2], NAIP)
        found.append(Item(name, kind, crs, [t for t, _ in rasters], lon, lat))
    return found


@pytest.mark.real
def test_every_recorded_item_lies_on_its_lattice(shared_data: Path) -> None:
    found = items(shared_data)
    assert len(found) == 26
    assert {id(item.lattice) for item in found} == {id(S2), id(LANDSAT), id(NAIP)}
    for item in found:
        for transform in item.transforms:
            assert item.lattice.holds(item.crs, transform), (item.path, transform)


RASTERS = [
    p for name in CATALOGS.names("labels") if (p := CATALOGS.label(name)).lattice is not None
]


@pytest.mark.parametrize("product", RASTERS, ids=lambda product: product.name)
def test_the_pixels_of_a_product_are_as_large_as_it_says(product: LabelProduct) -> None:
    """By pyproj on the ellipsoid: the square root of a pixel's area, where the product is."""
    lattice = product.lattice
    assert lattice is not None
    west, south, east, north = product.extent.bbox
    lon = (west + ((east - west) % 360 or 360) / 2 + 180) % 360 - 180
    lat = min(max((south + north) / 2, -60), 60)
    crs = CRS(S2.crs_at(lon, lat) if lattice.crs == "mgrs-utm" else lattice.crs)
    if crs.is_geographic:
        turn = 360 / lattice.pixel
        assert turn >= 1000
        lat = 0.0  # of degrees, sizes are stated at the equator
    to = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    x, y = to.transform(lon, lat)
    side = lattice.pixel
    square = [(x, y), (x + side, y), (x + side, y + side), (x, y + side)]
    places = [to.transform(*corner, direction="INVERSE") for corner in square]
    area, _ = Geod(ellps="WGS84").polygon_area_perimeter(*zip(*places, strict=True))
    assert abs(area) ** 0.5 == pytest.approx(product.gsd, rel=0.11)
    if crs.is_geographic:
        # What divides a degree does so exactly; Earth Engine's are metres on the sphere by degrees.
        per_degree = 1 / lattice.pixel
        of_ee = 111_319.49079327358 * lattice.pixel
        assert min(abs(n - round(n)) for n in (per_degree, of_ee)) < 1e-6, lattice.pixel


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("nlcd-annual", "nlcd_cdl_north_carolina/Annual_NLCD_LndCov_2021_CU_C1V0.tif"),
        ("usda-cdl", "nlcd_cdl_north_carolina/cdl_2019_crop_to_nlcd.tif"),
        ("esa-worldcover-v100", "worldcover/ESA_WorldCover_10m_2020_v100_N00E006_Map.tif"),
        ("esa-worldcover-v200", "worldcover/ESA_WorldCover_10m_2021_v200_N00E006_Map.tif"),
        ("chesapeake-lc7", "chesapeake_lulc_wv_1m/chesapeake_lc7_crop.tif"),
        ("chesapeake-lc13", "chesapeake_lulc_wv_1m/chesapeake_lc13_crop.tif"),
        ("chesapeake-lu", "chesapeake_lulc_wv_1m/chesapeake_lu_crop.tif"),
    ],
)
def test_real_label_rasters_lie_on_the_declared_lattice(
    shared_data: Path, name: str, file: str
) -> None:
    lattice = CATALOGS.label(name).lattice
    assert lattice is not None
    with rasterio.open(shared_data / file) as raster:
        t = raster.transform
        theirs = CRS(raster.crs.to_wkt())
    x, y = (np.array([t.c]), np.array([t.f]))
    if not theirs.is_geographic:  # ESRI:102039 and EPSG:5070 are one projection
        x, y = Transformer.from_crs(theirs, lattice.crs, always_xy=True).transform(x, y)
    assert (t.a, -t.e) == pytest.approx((lattice.pixel, lattice.pixel), rel=1e-9)
    for place, origin in ((x[0], lattice.origin[0]), (y[0], lattice.origin[1])):
        off = (place - origin) / lattice.pixel
        assert abs(off - round(off)) < 1e-4, (name, place)


@pytest.mark.real
def test_a_shifted_item_does_not_lie_on_its_lattice(shared_data: Path) -> None:
    """The check above can fail: by one pixel of 10 m, by half a pixel of 30 m."""
    for item in items(shared_data):
        if item.lattice is NAIP:
            continue
        step, t = 10 if item.lattice is S2 else 15, item.transforms[0]
        for dx, dy in ((step, 0), (0, step)):
            shifted = Affine(t.a, t.b, t.c + dx, t.d, t.e, t.f + dy)
            assert not item.lattice.holds(item.crs, shifted), item.path


@pytest.mark.real
def test_every_recorded_item_is_in_the_crs_of_its_place(shared_data: Path) -> None:
    beside = []
    for item in items(shared_data):
        if item.crs == "EPSG:3031" or abs(_from_meridian(item)) <= 3:
            assert item.lattice.crs_at(item.lon, item.lat) == item.crs, item.path
        else:
            beside.append(item)
    # Tiles of the MGRS are whole squares of 100 km: at the edge of a zone, and above all in high
    # latitudes, they reach into the next one, whose own tiles cover that ground too.
    assert len(beside) < 8
    for item in beside:
        assert item.lattice is S2, item.path
        near = int(item.lattice.crs_at(item.lon, item.lat)[-2:])
        assert (near - int(item.crs[-2:])) % 60 in (1, 59), item.path


@pytest.mark.real
def test_nominal_grids_are_pixels_of_the_recorded_items(shared_data: Path) -> None:
    """A grid drawn at the centre of an item falls on pixel edges of each of its bands."""
    checked = 0
    for item in items(shared_data):
        if item.lattice is NAIP or item.lattice.crs_at(item.lon, item.lat) != item.crs:
            continue
        grid = item.lattice.grid_at(item.lon, item.lat, 264)
        for transform in item.transforms:
            if transform.a > 60:
                continue  # previews and decimated copies
            column = (grid.transform.c - transform.c) / transform.a
            row = (grid.transform.f - transform.f) / transform.e
            assert abs(column - round(column)) < 1e-6, item.path
            assert abs(row - round(row)) < 1e-6, item.path
            checked += 1
    assert checked > 50


def _from_meridian(item: Item) -> float:
    meridian = int(item.crs[-2:]) * 6 - 183
    return (item.lon - meridian + 180) % 360 - 180


# The Universal Grids (NGA.STND.0037): where zones are not six degrees wide.
EXCEPTIONS = [
    # zone, west, east, south, north
    (31, 0, 3, 56, 64),
    (32, 3, 12, 56, 64),
    (31, 0, 9, 72, 84),
    (33, 9, 21, 72, 84),
    (35, 21, 33, 72, 84),
    (37, 33, 42, 72, 84),
]


def test_mgrs_zones_of_the_whole_world() -> None:
    for lat in np.arange(-79.75, 84, 0.5):
        for lon in np.arange(-179.75, 180, 0.5):
            special = [z for z, w, e, s, n in EXCEPTIONS if w <= lon < e and s <= lat < n]
            plain = int(np.floor((lon + 180) / 6)) + 1
            assert mgrs_zone(lon, lat) == (special or [plain])[0], (lon, lat)


@pytest.mark.parametrize(
    ("lon", "lat", "zone"),
    [
        (2.9999999, 60, 31), (3, 60, 32), (11.9999999, 60, 32), (12, 60, 33),
        (5, 55.9999999, 31), (5, 56, 32), (5, 63.9999999, 32), (5, 64, 31),
        (8.9999999, 78, 31), (9, 78, 33), (20.9999999, 78, 33), (21, 78, 35),
        (32.9999999, 78, 35), (33, 78, 37), (41.9999999, 78, 37), (42, 78, 38),
        (10, 71.9999999, 32), (10, 72, 33), (10, 84, 33),
        (-180, 0, 1), (180, 0, 1), (179.9999999, 0, 60), (363, 60, 32), (-357, 60, 32),
    ],
)  # fmt: skip
def test_mgrs_zone_at_edges(lon: float, lat: float, zone: int) -> None:
    assert mgrs_zone(lon, lat) == zone


def test_utm_zones_know_no_exceptions() -> None:
    assert [utm_zone(lon) for lon in (-180, -0.1, 0, 5, 10, 179.9, 180)] == [
        1, 30, 31, 31, 32, 60, 1,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("lattice", "lon", "lat", "crs"),
    [
        (S2, 5, 60, "EPSG:32632"),
        (S2, 10, 78, "EPSG:32633"),
        (S2, 10, 0, "EPSG:32632"),
        (S2, 10, -0.0000001, "EPSG:32732"),
        (S2, 180, -16, "EPSG:32701"),
        (S2, -179.9, 66, "EPSG:32601"),
        (LANDSAT, 5, 60, "EPSG:32631"),
        (LANDSAT, 30, -30, "EPSG:32636"),
        (LANDSAT, 30, -62.9, "EPSG:32636"),
        (LANDSAT, 30, -63.1, "EPSG:3031"),
        (LANDSAT, -60, -82, "EPSG:3031"),
        (NAIP, -79.0, 39.4, "EPSG:26917"),
        (NAIP, -122.5, 47.5, "EPSG:26910"),
    ],
)
def test_crs_of_a_place(lattice: Lattice, lon: float, lat: float, crs: str) -> None:
    assert lattice.crs_at(lon, lat) == crs


def test_landsat_has_negative_northings_south_of_the_equator() -> None:
    grid = LANDSAT.grid_at(30, -30, 256)
    assert grid.crs == "EPSG:32636"
    assert grid.transform.f < -3_000_000
    assert (grid.transform.c % 30, grid.transform.f % 30) == (15, 15)


def test_sentinel_2_counts_northings_from_the_false_origin_south_of_the_equator() -> None:
    south, north = S2.grid_at(30, -0.5, 264), S2.grid_at(30, 0.5, 264)
    assert south.transform.f > 9_900_000
    assert (south.transform.c % 60, south.transform.f % 60) == (0, 40)
    assert (north.transform.c % 60, north.transform.f % 60) == (0, 0)


def test_antarctic_grids_of_landsat_are_polar_stereographic() -> None:
    grid = LANDSAT.grid_at(104, -80.8, 256)
    assert grid.crs == "EPSG:3031"
    assert (grid.transform.c % 30, grid.transform.f % 30) == (15, 15)


@pytest.mark.parametrize(
    ("lattice", "west", "east"),
    [(S2, -180, 180), (LANDSAT, -180, 180), (NAIP, -124.8, -66.9)],
    ids=["s2", "landsat", "naip"],
)
def test_grids_are_centred_on_their_place(lattice: Lattice, west: float, east: float) -> None:
    """Whatever the place, the centre is at most half a cell away, by pyproj."""
    rng = np.random.default_rng(5)
    lons, lats = rng.uniform(west, east, 40), rng.uniform(-79, 83, 40)
    if lattice is not NAIP:  # NAD 83 has zones around the USA only
        lons = np.concatenate([lons, [-180, 179.9999999, 180, 0, 3, 9]])
        lats = np.concatenate([lats, [10, 66, -16.5, 0, 60, 78]])
    for lon, lat in zip(lons, lats, strict=True):
        grid = lattice.grid_at(lon, lat, 250)
        project = Transformer.from_crs("EPSG:4326", grid.crs, always_xy=True)
        x, y = project.transform(lon, lat)
        middle_x = grid.transform.c + 125 * lattice.pixel
        middle_y = grid.transform.f - 125 * lattice.pixel
        reach = (lattice.cell or lattice.pixel) / 2 + 1e-6
        assert abs(middle_x - x) <= reach
        assert abs(middle_y - y) <= reach
        assert lattice.holds(str(grid.crs), grid.transform)
