from __future__ import annotations

import numpy as np
import pytest
from pyproj import Geod, Transformer

from las_builder.core.grid import Grid, Lattice
from las_builder.plan.sphere import (
    RADIUS_MIN,
    angle_to_box,
    authalic_latitude,
    cartesian,
    circles,
    disc,
    lonlat,
    quantise,
)

GEOD = Geod(ellps="WGS84")


def test_cartesian_is_proj_s_geocentric() -> None:
    lon, lat = np.array([0.0, 179.9, -60, 12, 0]), np.array([0.0, -17, 84, -90, 90])
    xyz = Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True).transform(
        lon, lat, 0 * lon
    )
    np.testing.assert_allclose(cartesian(lon, lat), np.column_stack(xyz) / 1000, atol=1e-9)
    back = lonlat(cartesian(lon[:3], lat[:3]))
    np.testing.assert_allclose(back, [lon[:3], lat[:3]], atol=1e-12)


def test_authalic_latitude_inverts_the_equal_area_cylinder() -> None:
    cylinder = Transformer.from_crs("EPSG:4326", "EPSG:6933", always_xy=True)
    lat = np.linspace(-89.9, 89.9, 401)
    y, top = cylinder.transform(0 * lat, lat)[1], cylinder.transform(0, 90)[1]
    np.testing.assert_allclose(authalic_latitude((y / top + 1) / 2), lat, atol=2e-8)


@pytest.mark.parametrize(("lon", "lat"), [(10, 0), (-179.99, 45), (20, -79.9), (0, 89.999)])
def test_disc_is_a_disc_of_equal_areas(lon: float, lat: float) -> None:
    x, y = disc(np.array([lon]), np.array([lat]), 40.0, 400)
    away = GEOD.inv(np.full(400, lon), np.full(400, lat), x[0], y[0])[2] / 1000
    want = 40 * np.sqrt((np.arange(400) + 0.5) / 400)
    np.testing.assert_allclose(away, want, rtol=0.004)


def test_angle_to_box_never_exceeds_the_geodesic_and_is_within_two_percent() -> None:
    rng = np.random.default_rng(1)
    checked = 0
    for _ in range(150):
        west, width = rng.uniform(-180, 180), rng.choice([0.5, 3.0, 40.0])
        south = rng.choice([rng.uniform(-88, 85), -90.0, 88.0])
        north = min(90.0, south + rng.uniform(0.3, 3))
        lon, lat = west + rng.uniform(-20, width + 20), np.clip(south + rng.uniform(-4, 6), -90, 90)
        box = [np.array([v]) for v in (west, south, west + width, north)]
        least = RADIUS_MIN * angle_to_box(np.array([lon]), np.array([lat]), *box)[0]
        edge = np.linspace(0, 1, 1500)
        ring_lon = np.concatenate(
            [west + edge * width] * 2 + [0 * edge + west, 0 * edge + west + width]
        )
        ring_lat = np.concatenate(
            [0 * edge + south, 0 * edge + north] + [south + edge * (north - south)] * 2
        )
        inside = south <= lat <= north and (lon - west) % 360 <= width
        true = 0.0 if inside else GEOD.inv(
            np.full(ring_lon.size, lon), np.full(ring_lon.size, lat), ring_lon, ring_lat
        )[2].min() / 1000  # fmt: skip
        assert least <= true + 1e-9
        assert least >= true * 0.98 - 0.3  # the densified edge is itself only so fine
        checked += not inside
    assert checked > 50


def test_circles_hold_the_ground_of_every_kind_of_grid() -> None:
    from affine import Affine

    sentinel = Lattice(crs="mgrs-utm", pixel=10, cell=60, origin_south=(0, 40))
    grids = [
        sentinel.grid_at(-179.999, -17, 264),
        sentinel.grid_at(5.0, 60.0, 264),
        Grid("EPSG:3031", Affine(30, 0, -3000, 0, -30, 3000), 264, 264),
        Grid("EPSG:3857", Affine(10, 0, 1e6, 0, -10, 1.1e7), 264, 264),
        Grid("EPSG:4326", Affine(1e-4, 0, 20, 0, -1e-4, 78), 264, 264),
    ]
    lon, lat, radius = circles(grids)
    for i, grid in enumerate(grids):
        ring = grid.outline_lonlat(64)
        n = len(ring)
        away = GEOD.inv(np.full(n, lon[i]), np.full(n, lat[i]), ring[:, 0], ring[:, 1])[2] / 1000
        assert away.max() <= radius[i]
        assert radius[i] < away.max() * 1.001 + 1e-4


def test_quantised_longitudes_have_one_name() -> None:
    lon, lat = quantise([180, -180, 539.99999999, 10.12345678], [0, -0.0, 1, 2])
    assert lon.tolist() == [-180, -180, -180, 10.1234568]
    assert not np.signbit(lat[1])
