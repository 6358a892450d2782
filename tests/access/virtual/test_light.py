"""Sun, season, snow, shadows, and how points become pixels."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pytest
from affine import Affine

from las_builder.access.virtual import LEAVES, VirtualEarth
from las_builder.access.virtual.ground import EDGE, Window, ground
from las_builder.access.virtual.sensors import _blurred, _reflectance, bands, snow
from las_builder.access.virtual.truth import look
from las_builder.catalogs import Catalogs
from las_builder.core.grid import Grid, from_lonlat, mgrs_zone
from las_builder.core.types import Scene


def scene_at(
    lon: float,
    lat: float,
    *,
    month: int = 7,
    size: int = 120,
    pixel: float = 10.0,
    sun: tuple[float, float] = (45.0, 150.0),
) -> tuple[Scene, Window]:
    """A cloudless scene around a place, and all of it as a window."""
    crs = f"EPSG:{326 if lat >= 0 else 327}{mgrs_zone(lon, lat):02d}"
    x, y = from_lonlat(crs, np.array([lon]), np.array([lat]))
    west, north = (round(float(v[0]) / 600) * 600.0 for v in (x, y))
    grid = Grid(crs, Affine(pixel, 0, west, 0, -pixel, north), size, size)
    when = datetime(2021, month, 15, 11, tzinfo=UTC)
    properties = {
        "view:sun_elevation": sun[0],
        "view:sun_azimuth": sun[1],
        "s2:processing_baseline": "03.01",
    }
    scene = Scene(
        id=f"light-{lon}-{lat}-{month}", datetime=when, cloud_cover=0.0, grid=grid, assets={},
        properties=properties,
    )  # fmt: skip
    return scene, Window.of(grid)


def test_pixels_are_the_mean_of_their_points(earth: VirtualEarth, catalogs: Catalogs) -> None:
    """Four points of a pixel, nine at an edge: close to 400 points of it, in every band."""
    imagery = catalogs.imagery("sentinel-2-l2a")
    scene, window = scene_at(11.0, 48.3, size=40)
    names = tuple(band.name for band in imagery.bands)
    rough = _reflectance(earth.world, imagery, scene, names, window)
    # The same ground at 0.5 m: as many windows of the same lattice, finer.
    fine = Window(window.crs, window.origin, (2.5, 2.5), 0, 0, 160, 160)
    smooth = _reflectance(earth.world, imagery, scene, names, fine)[:, 1:-1, 1:-1]
    smooth = smooth.reshape(len(names), 40, 4, 40, 4).mean(axis=(2, 4))
    for one, other in zip(rough[:, 1:-1, 1:-1], smooth, strict=True):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.93
        assert one.mean() == pytest.approx(other.mean(), rel=0.03)


def test_edges_have_more_points(earth: VirtualEarth) -> None:
    _, window = scene_at(11.0, 48.3, size=64)
    below = ground(earth.world, window, 2021)
    n = 64 * 64
    assert below.each == 4
    assert below.points.cover.size == n * 4 + below.edge.size * EDGE
    mixed = (below.points.cover[: n * 4].reshape(n, 4) != below.cover().reshape(n, 1)).any(axis=1)
    assert np.array_equal(np.flatnonzero(mixed), below.edge)
    assert 0.02 < mixed.mean() < 0.6


def test_projecting_every_sixteenth_pixel_is_near_enough(earth: VirtualEarth) -> None:
    """Points between projected nodes are where pyproj says, to some centimetres."""
    from pyproj import Transformer

    from las_builder.access.virtual.ground import _between

    rng = np.random.default_rng(0)
    for lon, lat, pixel in ((11.0, 48.3, 10.0), (179.98, -16.7, 10.0), (20.0, 79.0, 30.0)):
        _, window = scene_at(lon, lat, size=500, pixel=pixel)
        x, y = rng.uniform(0, 500, (2, 400))
        got = np.array(_between(window, x, y)) / 1e9
        there = Transformer.from_crs(window.crs, "EPSG:4326", always_xy=True)
        want = there.transform(window.origin[0] + x * pixel, window.origin[1] - y * pixel)
        east = ((got[0] - want[0] + 180) % 360 - 180) * math.cos(math.radians(lat))
        off = np.hypot(east, got[1] - want[1]) * 111_195
        assert off.max() < 0.12 * pixel / 10


def test_slopes_that_face_the_sun_are_bright(earth: VirtualEarth, catalogs: Catalogs) -> None:
    imagery = catalogs.imagery("sentinel-2-l2a")
    for lon, lat, azimuth in ((-124.39, 47.82, 150.0), (-68.1, -34.85, 40.0)):
        scene, window = scene_at(lon, lat, size=200, sun=(35.0, azimuth))
        nir = _reflectance(earth.world, imagery, scene, ("B08",), window)[0, 1:-1, 1:-1]
        seen = look(
            *(np.round(v.ravel() * 1e9).astype(np.int64) for v in window.lonlat()),
            earth.world.planet, 10.0, 2021,
        )  # fmt: skip
        a = math.radians(azimuth)
        towards = -(seen.east * math.sin(a) + seen.north * math.cos(a)).reshape(200, 200)
        assert towards.std() > 0.15
        leaf = seen.leaf.reshape(200, 200)
        # Within the commonest plant of the place.
        plants = [
            i for i, name in enumerate(LEAVES) if name.startswith(("tree.", "grass.", "shrub."))
        ]
        common = max(plants, key=lambda i: (leaf == i).sum())
        here = leaf == common
        assert np.corrcoef(towards[here], nir[here])[0, 1] > 0.35


@pytest.mark.parametrize("azimuth", [150.0, 45.0])
def test_houses_cast_shadows_away_from_the_sun(
    earth: VirtualEarth, catalogs: Catalogs, azimuth: float
) -> None:
    imagery = catalogs.imagery("naip")
    scene, window = scene_at(2.35, 48.86, size=400, pixel=0.5, sun=(40.0, azimuth))
    red = _reflectance(earth.world, imagery, scene, ("R",), window)[0, 1:-1, 1:-1]
    seen = look(
        *(np.round(v.ravel() * 1e9).astype(np.int64) for v in window.lonlat()),
        earth.world.planet, 0.5, 2021,
    )  # fmt: skip
    height = seen.height.reshape(400, 400)
    flat = height == 0
    a = math.radians(azimuth)
    darker = {}
    for name, sign in (("behind", 1), ("before", -1)):
        # Ground 4 m from a roof: `behind` has the roof between itself and the sun.
        rows, columns = round(8 * math.cos(a) * sign), round(-8 * math.sin(a) * sign)
        tall = np.roll(height, (rows, columns), (0, 1)) > 8
        darker[name] = red[flat & tall].mean()
    assert darker["behind"] < 0.75 * darker["before"]


def test_snow_comes_and_goes(earth: VirtualEarth) -> None:
    def share(lon: float, lat: float, month: int) -> float:
        scene, window = scene_at(lon, lat, month=month, size=60, pixel=30.0)
        return float(snow(earth.world, scene, window).mean())

    assert share(103.0, 62.0, 1) > 0.25  # trees hide some of it
    assert share(103.0, 62.0, 7) == 0
    assert share(-100.0, 47.0, 1) > 0.2
    assert share(-68.9, -50.5, 7) >= share(-68.9, -50.5, 1)
    assert share(-61.2, -4.1, 1) == share(-61.2, -4.1, 7) == 0
    scene, window = scene_at(-100.0, 47.0, month=1, size=60)
    assert not np.isnan(snow(earth.world, scene, window)).any()


def test_blur_keeps_the_light(earth: VirtualEarth) -> None:
    rng = np.random.default_rng(1)
    one = rng.random((2, 40, 50)).astype(np.float32)
    out = _blurred(one, 0.11)
    assert out.shape == (2, 38, 48)
    weights = np.array([0.11, 0.78, 0.11])
    want = sum(
        weights[i] * weights[j] * one[:, i : i + 38, j : j + 48] for i in range(3) for j in range(3)
    )
    assert out == pytest.approx(want, abs=1e-6)


def test_memory_does_not_grow_with_requests(earth: VirtualEarth, catalogs: Catalogs) -> None:
    import resource

    imagery = catalogs.imagery("sentinel-2-l2a")

    def ask(first: int, last: int) -> int:
        for k in range(first, last):
            scene, window = scene_at(5.0 + 0.37 * k, 46.0, size=128)
            bands(earth.world, imagery, scene, ("B04", "B8A"), window)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = ask(0, 10)
    assert ask(10, 40) - before < 25_000  # kB; one ground of this size is 4 MB
