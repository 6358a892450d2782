"""WGS 84 in basic operations against PROJ."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pyproj import Geod, Transformer

from las_builder.plan.cells import EARTH
from las_builder.plan.elementary import sin_cos
from las_builder.plan.ellipsoid import DEGREE, belts, cartesian, chord, latitude, span

GEOD = Geod(ellps="WGS84")


def test_areas_and_the_latitude_of_a_share() -> None:
    to = Transformer.from_crs("EPSG:4326", "EPSG:6933", always_xy=True)
    lat = np.concatenate([[-90, 90, 0], np.linspace(-89.99, 89.99, 301)])
    y, top = to.transform(0 * lat, lat)[1], to.transform(0, 90)[1]
    x = to.transform(180.0, 0)[0]
    found = belts(lat)
    np.testing.assert_allclose(found, (y + top) * 2 * x / 1e6, rtol=1e-10, atol=1e-3)
    whole = float(belts(np.array([90.0]))[0])
    assert whole == EARTH
    assert [latitude(v / whole) for v in found] == pytest.approx(lat.tolist(), abs=2e-8)


def test_cartesian_is_proj_s_geocentric() -> None:
    lon, lat = np.array([0.0, 179.9, -60, 12, 0]), np.array([0.0, -17, 84, -90, 90])
    to = Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True)
    want = np.column_stack(to.transform(lon, lat, 0 * lon)) / 1000
    np.testing.assert_allclose(cartesian(lon, lat), want, atol=2e-12 * 6400)


@pytest.mark.parametrize("lat", [0.0, -33.3, 60.0, 83.9, 89.97, -89.99])
@pytest.mark.parametrize("radius", [0.5, 4.0, 60.0])
def test_a_ball_cut_by_parallels(lat: float, radius: float) -> None:
    up, wide = span(lat, radius)
    assert GEOD.inv(0, 0, 0, min(up, 89))[2] / 1000 == pytest.approx(radius, rel=0.011)
    s, c = sin_cos(lat)
    centre = cartesian(np.array([10.0]), np.array([lat]))
    for phi in np.clip(lat + np.linspace(-1.05, 1.05, 43) * up, -90, 90).tolist():
        half, area = chord(s, c, phi, radius)
        turn = np.linspace(-180, 180, 4001)
        there = cartesian(10 + turn, np.full(4001, phi))
        inside = np.linalg.norm(there - centre, axis=1) < radius
        assert half == pytest.approx(np.abs(turn[inside]).max(initial=0.0), abs=0.1)
        if half == 0:
            continue
        if half < 180:
            edge = cartesian(np.array([10 + half]), np.array([phi]))
            assert np.linalg.norm(edge - centre) == pytest.approx(radius, rel=1e-9)
        assert half <= wide
        strip = belts(np.array([phi + 5e-4]))[0] - belts(np.array([phi - 5e-4]))[0]
        if abs(phi) < 89.9:
            assert area == pytest.approx(strip / (2 * math.pi * 1e-3 * DEGREE), rel=1e-4)
