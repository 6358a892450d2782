"""Which blocks lie near a place: every one that truly does, at poles and seams, against pyproj."""

from __future__ import annotations

import numpy as np
import pytest
from pyproj import Geod

from las_builder.plan import Blocks

GEOD = Geod(ellps="WGS84")
EDGE = np.linspace(0, 1, 400)


def true_km(lon: float, lat: float, box: tuple[float, float, float, float]) -> float:
    """Geodesic distance to a box of longitudes and latitudes, from points all along its edge."""
    west, south, east, north = box
    if south <= lat <= north and (lon - west) % 360 <= east - west:
        return 0.0
    x, y = west + EDGE * (east - west), south + EDGE * (north - south)
    ring_lon = np.concatenate([x, x, 0 * y + west, 0 * y + east])
    ring_lat = np.concatenate([0 * x + south, 0 * x + north, y, y])
    n = ring_lon.size
    return GEOD.inv(np.full(n, lon), np.full(n, lat), ring_lon, ring_lat)[2].min() / 1000


@pytest.mark.parametrize("side", [40.0, 100.0, 700.0])
@pytest.mark.parametrize(
    ("lon", "lat"),
    [(10.0, 89.97), (-120.0, -89.99), (77.0, -90.0), (3.0, 89.2), (-179.999, 0.001), (179.99, 65.0),
     (12.3, -0.02), (60.0, -47.0)],
)  # fmt: skip
def test_every_near_block_is_named(side: float, lon: float, lat: float) -> None:
    blocks = Blocks.of(side)
    numbers = np.arange(int(blocks.columns.sum()))
    boxes = np.array(blocks.box(numbers)).T
    reach = 30.0
    around = np.abs((boxes[:, 1] + boxes[:, 3]) / 2 - lat) < (boxes[:, 3] - boxes[:, 1]) / 2 + 1
    away = np.full(numbers.size, np.inf)
    for i in np.flatnonzero(around):
        middle = (boxes[i, 0] + boxes[i, 2]) / 2
        aside = abs((middle - lon + 180) % 360 - 180) - (boxes[i, 2] - boxes[i, 0]) / 2
        if abs(lat) > 88 or aside < 2:
            away[i] = true_km(lon, lat, tuple(boxes[i]))
    place, found = blocks.near(np.array([lon]), np.array([lat]), np.array([reach]))
    assert len(set(found.tolist())) == found.size
    assert set(place.tolist()) == {0}
    assert set(np.flatnonzero(away < reach - 0.01)) <= set(found.tolist())
    assert set(found.tolist()) <= set(np.flatnonzero(away < reach * 1.012 + 0.2))
    assert blocks.number(np.array([lon]), np.array([lat]))[0] in found


def test_places_keep_their_own_blocks() -> None:
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(-180, 180, 500), np.degrees(np.arcsin(rng.uniform(-1, 1, 500)))
    blocks = Blocks.of(100)
    place, block = blocks.near(lon, lat, np.full(500, 1e-6))
    assert place.tolist() == list(range(500))
    assert block.tolist() == blocks.number(lon, lat).tolist()
