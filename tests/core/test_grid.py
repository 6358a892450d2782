"""Grids against rasterio and pyproj; lattices are tested against recorded items in catalogs/."""

from __future__ import annotations

import math

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod, Transformer
from rasterio.transform import array_bounds, xy

from las_builder.core.grid import Grid, Lattice, crs_name, mgrs_zone, utm_zone

S2 = Lattice(crs="mgrs-utm", pixel=10, cell=60, origin_south=(0.0, 40.0))
LANDSAT = Lattice(
    crs="utm-north", pixel=30, cell=30, origin_north=(15, 15), origin_south=(15, 15),
    polar="EPSG:3031",
)  # fmt: skip


def test_bounds_and_centres_are_rasterios() -> None:
    grid = Grid("EPSG:32723", Affine(10, 0, 335280, 0, -10, 7401520), 7, 5)
    assert grid.bounds == array_bounds(5, 7, grid.transform)
    x, y = grid.xy()
    for row in range(5):
        for col in range(7):
            assert xy(grid.transform, row, col) == (x[col], y[row])


@given(
    lon=st.floats(-180, 180, exclude_max=True),
    lat=st.floats(-79, 83),
    size=st.sampled_from([64, 224, 256, 264]),
)
def test_a_nominal_grid_is_centred_and_on_its_lattice(lon: float, lat: float, size: int) -> None:
    for lattice in (S2, LANDSAT):
        grid = lattice.grid_at(lon, lat, size)
        assert grid.crs is not None
        assert lattice.holds(grid.crs, grid.transform)
        to_grid = Transformer.from_crs("EPSG:4326", grid.crs, always_xy=True)
        x, y = to_grid.transform(lon, lat)
        west, south, east, north = grid.bounds
        slack = (lattice.cell or 0) / 2 + 1e-6
        assert abs((west + east) / 2 - x) <= slack
        assert abs((south + north) / 2 - y) <= slack


def test_moving_by_a_pixel_leaves_the_lattice() -> None:
    grid = S2.grid_at(15.0, 46.0, 264)
    moved = Affine(10, 0, grid.transform.c + 10, 0, -10, grid.transform.f)
    assert not S2.holds("EPSG:32633", moved)


@pytest.mark.parametrize(
    ("lon", "lat", "zone"),
    [
        (-180.0, 0, 1), (179.999, 0, 60), (180.0, 0, 1), (5.0, 60.0, 32), (2.9, 60.0, 31),
        (5.0, 64.0, 31), (8.9, 75.0, 31), (9.0, 75.0, 33), (20.9, 75.0, 33), (21.0, 75.0, 35),
        (32.9, 75.0, 35), (33.0, 75.0, 37), (41.9, 75.0, 37), (42.0, 75.0, 38), (10.0, 71.9, 32),
    ],
)  # fmt: skip
def test_zones_of_the_mgrs(lon: float, lat: float, zone: int) -> None:
    assert mgrs_zone(lon, lat) == zone


def test_landsat_is_north_below_the_equator_and_polar_in_antarctica() -> None:
    assert LANDSAT.crs_at(151.0, -33.0) == "EPSG:32656"
    assert LANDSAT.grid_at(151.0, -33.0, 64).transform.f < 0
    assert LANDSAT.crs_at(0.0, -75.0) == "EPSG:3031"
    assert S2.crs_at(151.0, -33.0) == "EPSG:32756"


def test_longitudes_of_any_turn_are_the_same_place() -> None:
    assert utm_zone(190.0) == utm_zone(-170.0)
    assert S2.grid_at(190.0, 10.0, 64) == S2.grid_at(-170.0, 10.0, 64)


@pytest.mark.parametrize("lat", [0.0, 45.0, -60.0, 80.0])
def test_area_of_a_pixel_in_degrees_is_the_ellipsoids(lat: float) -> None:
    step = 1 / 120
    grid = Grid("EPSG:4326", Affine(step, 0, 10, 0, -step, lat + step / 2), 1, 1)
    west, south, east, north = grid.bounds
    ring = [(west, south), (east, south), (east, north), (west, north)]
    area, _ = Geod(ellps="WGS84").polygon_area_perimeter(*zip(*ring, strict=True))
    assert grid.pixel_area() == pytest.approx(abs(area), rel=2e-4)


def test_area_in_feet_is_in_metres() -> None:
    feet = Grid("EPSG:2264", Affine(10, 0, 2000000, 0, -10, 700000), 4, 4)
    assert feet.pixel_area() == pytest.approx((10 * 1200 / 3937) ** 2)


def test_the_outline_goes_round_counter_clockwise() -> None:
    ring = S2.grid_at(15.0, 46.0, 64).outline_lonlat()
    x, y = ring[:, 0], ring[:, 1]
    assert np.array_equal(ring[0], ring[-1])
    assert np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) > 0


def test_the_code_names_the_grid_to_the_last_digit() -> None:
    grid = S2.grid_at(-46.6, -23.5, 264)
    assert grid.code() == "32723-335280-7401520-77572c"
    nudged = Affine(10, 0, math.nextafter(335280, 0), 0, -10, 7401520)
    other = Grid(grid.crs, nudged, 264, 264)
    assert other.code() != grid.code()
    assert LANDSAT.grid_at(151.0, -33.0, 64).code().split("-")[2].startswith("m")


@pytest.mark.parametrize(
    ("transform", "width"),
    [
        (Affine(10, 0, 0, 0, 10, 0), 4),
        (Affine(10, 1, 0, 0, -10, 0), 4),
        (Affine(10, 0, 0, 0, -10, 0), 0),
    ],
)
def test_what_is_no_grid_is_refused(transform: Affine, width: int) -> None:
    with pytest.raises(ValueError, match="grid"):
        Grid("EPSG:32633", transform, width, 4)


def test_a_picture_without_a_place_says_so() -> None:
    grid = Grid(None, Affine(1, 0, 0, 0, -1, 0), 4, 4)
    assert grid.code().startswith("nocrs-")
    with pytest.raises(ValueError, match="no CRS"):
        grid.lonlat()


def test_crs_names() -> None:
    from rasterio.crs import CRS

    assert crs_name(CRS.from_epsg(32633).to_wkt()) == "EPSG:32633"
    assert crs_name("ESRI:102039") == "ESRI:102039"


def test_odc_sees_the_same_grid() -> None:
    grid = S2.grid_at(15.0, 46.0, 64)
    box = grid.geobox()
    assert box.shape == grid.shape
    assert box.affine == grid.transform
    assert box.crs.epsg == 32633
