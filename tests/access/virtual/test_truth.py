"""The truth: without seams, the same everywhere and always, and like the Earth."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
import time

import numpy as np
import pytest

from las_builder.access.virtual import LEAVES, VirtualEarth
from las_builder.access.virtual.noise import (
    gaussian,
    in_space,
    layered,
    mixed,
    nanodegrees,
    smooth,
)
from las_builder.catalogs import Catalogs

PROBE = """
import hashlib, numpy as np
from las_builder.access.virtual import VirtualEarth
from las_builder.access.virtual.noise import in_space, layered
from las_builder.access.virtual.truth import look
from las_builder.catalogs import Catalogs
lon = np.arange(0, 60_000) * 5_999_999 - 180_000_000_000
lat = np.arange(0, 60_000) * 2_999_999 - 90_000_000_000
field = layered(in_space(lon, lat), ((20_000.0, 1.0), (90.0, 0.5)), 11)
print(hashlib.sha256(np.ascontiguousarray(field).astype("<f8").tobytes()).hexdigest())
planet = VirtualEarth(Catalogs.load()).world.planet
seen = [look(lon, lat, planet, resolution, 2021) for resolution in (1.0, 10.0)]
layers = [getattr(s, name) for s in seen for name in s.__slots__]
print(hashlib.sha256(b"".join(layer.tobytes() for layer in layers)).hexdigest())
"""
PROBE_SHA = "d1f23b2c9b1a7d1b0e7541aa330872f37fca9b40e763c8452d103b6f1fd5f105"
LOOK_SHA = "8ccc54205ae7a5c37a72d6deee98625511b65c29f9a48c0c816075e7b295e03d"
TRUTH_SHA = "05dcae45f5c9e9dae73b773b5f678d3c8afd0986cb2bb62f7451b9ced9109f45"


def world_points(n: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Uniform on the sphere, degrees."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-180, 180, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))


def box(west: float, south: float, east: float, north: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.uniform(west, east, 4000), rng.uniform(south, north, 4000)


def test_space_is_the_sphere() -> None:
    lon, lat = world_points(2000)
    points = np.array(in_space(nanodegrees(lon), nanodegrees(lat)))
    assert np.allclose(np.linalg.norm(points, axis=0), 6_371_007.0, rtol=1e-14)
    # Distances do not care about the rotation: compare with the haversine's cousin.
    a, b = np.radians(lon), np.radians(lat)
    plain = np.array([np.cos(a) * np.cos(b), np.sin(a) * np.cos(b), np.sin(b)])
    chord = np.linalg.norm(plain[:, 1:] - plain[:, :-1], axis=0) * 6_371_007.0
    assert np.allclose(np.linalg.norm(points[:, 1:] - points[:, :-1], axis=0), chord, atol=2e-2)


def test_one_point_at_the_antimeridian_and_at_each_pole() -> None:
    lat = nanodegrees(np.linspace(-90, 90, 181))
    turn = [np.array(in_space(nanodegrees(np.full(181, v)), lat)) for v in (180.0, -180.0, 540.0)]
    assert np.array_equal(turn[0], turn[1])
    assert np.array_equal(turn[0], turn[2])
    for pole in (-90.0, 90.0):
        lon = np.linspace(-180, 180, 37)
        points = np.array(in_space(nanodegrees(lon), nanodegrees(np.full(37, pole))))
        assert np.ptp(points, axis=1).max() == 0


@pytest.mark.parametrize("place", ["antimeridian", "pole"])
def test_noise_is_continuous(place: str) -> None:
    step = np.arange(-200, 200)
    if place == "antimeridian":
        lon, lat = 180 + step * 1e-5, np.full(400, 12.3)
        lon = np.where(lon > 180, lon - 360, lon)
    else:  # over the pole, from one meridian to the opposite one
        lon, lat = np.where(step < 0, 40.0, -140.0), 90 - np.abs(step) * 1e-5
    field = smooth(in_space(nanodegrees(lon), nanodegrees(lat)), 300.0, 5)
    assert np.abs(np.diff(field)).max() < 0.02  # 1.1 m of 300
    assert np.ptp(field) > 0.1


def test_value_noise_of_one_corner_by_hand() -> None:
    # In the middle of a cell the noise is the mean of the corners; on a corner it is its value.
    corners = [
        float(smooth([np.array([100.0 * i]), np.array([100.0 * j])], 100.0, 9)[0])
        for i in (3, 4)
        for j in (7, 8)
    ]
    middle = smooth([np.array([350.0]), np.array([750.0])], 100.0, 9)[0]
    assert middle == pytest.approx(np.mean(corners), abs=1e-12)


def test_lookup_and_direct_hashing_agree() -> None:
    lon, lat = np.linspace(10, 10.01, 5000), np.linspace(50, 50.01, 5000)
    near = in_space(nanodegrees(lon), nanodegrees(lat))
    alone = np.array(
        [smooth([p[i : i + 1] for p in near], 200.0, 3)[0] for i in range(0, 5000, 50)]
    )
    assert np.array_equal(smooth(near, 200.0, 3)[::50], alone)


def test_moments() -> None:
    points = in_space(*(nanodegrees(v) for v in world_points(100_000)))
    field = layered(points, ((20_000.0, 0.5), (2_000.0, 0.6), (200.0, 0.3)), 4)
    assert abs(field.mean()) < 0.02
    assert abs(field.std() - 1) < 0.02
    normal = gaussian(mixed([np.arange(100_000)], 8))
    assert abs(normal.mean()) < 0.02
    assert abs(normal.std() - 1) < 0.02


def test_same_bits_on_other_processors() -> None:
    """With every instruction beyond the oldest of its kind switched off, in NumPy and in Numba."""
    features = np._core._multiarray_umath.__cpu_features__
    dispatched = np._core._multiarray_umath.__cpu_dispatch__
    off = " ".join(f for f in dispatched if features.get(f))
    plain = {"NPY_DISABLE_CPU_FEATURES": off, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    said = []
    for disabled in ({}, plain):
        out = subprocess.run(
            [sys.executable, "-c", PROBE],
            env={**os.environ, **disabled}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        said.append(out.stdout.split())
    assert said[0] == said[1]
    assert said[0] == [PROBE_SHA, LOOK_SHA]


def test_same_truth_as_ever(earth: VirtualEarth) -> None:
    leaf = earth.truth(*world_points(40_000, seed=5))
    assert hashlib.sha256(leaf.tobytes()).hexdigest() == TRUTH_SHA


def test_a_last_digit_of_a_coordinate_changes_nothing(earth: VirtualEarth) -> None:
    lon, lat = box(10, 47, 12, 49)
    lon, lat = np.round(lon, 7), np.round(lat, 7)
    nudged = earth.truth(np.nextafter(lon, 1e3), np.nextafter(lat, -1e3))
    assert np.array_equal(earth.truth(lon, lat), nudged)


def test_any_shape_any_turn_any_company(earth: VirtualEarth, catalogs: Catalogs) -> None:
    lon, lat = world_points(600, seed=9)
    whole = earth.truth(lon, lat)
    assert np.array_equal(earth.truth(lon + 360, lat), whole)
    assert np.array_equal(earth.truth(lon.reshape(20, 30), lat.reshape(20, 30)).ravel(), whole)
    assert [int(earth.truth(lon[i : i + 1], lat[i : i + 1])[0]) for i in range(50)] == list(
        whole[:50]
    )
    assert earth.truth(np.empty((0, 4)), np.empty((0, 4))).shape == (0, 4)
    again = pickle.loads(pickle.dumps(earth))
    assert again == earth
    assert np.array_equal(again.truth(lon, lat), whole)
    assert (VirtualEarth(catalogs, seed=1).truth(lon, lat) != whole).any()


def test_leaves_are_leaves(catalogs: Catalogs) -> None:
    assert set(LEAVES) <= catalogs.ontology.leaves
    assert len(set(LEAVES)) == len(LEAVES)


@pytest.mark.parametrize(
    ("where", "prefixes", "least"),
    [
        ((-2, 20, 10, 26), ("bare.",), 0.75),  # Sahara
        ((-66, -6, -58, -1), ("tree.", "wetland.woody"), 0.65),  # Amazon
        ((-45, 70, -35, 76), ("snow_ice.",), 0.95),  # Greenland
        ((20, -85, 100, -76), ("snow_ice.",), 0.95),  # Antarctica
        ((-130, 0, -110, 15), ("water.marine",), 1.0),  # Pacific
        ((90, 58, 105, 64), ("tree.", "wetland.", "shrub."), 0.75),  # taiga
        ((-97, 40, -88, 43), ("crop.", "grass.managed"), 0.4),  # corn belt
    ],
)
def test_covers_are_where_they_belong(
    earth: VirtualEarth, where: tuple[float, ...], prefixes: tuple[str, ...], least: float
) -> None:
    leaf = earth.truth(*box(*where))
    right = np.array([name.startswith(prefixes) for name in LEAVES])
    assert right[leaf].mean() >= least


def test_land_is_the_land_of_the_mask(earth: VirtualEarth) -> None:
    lon, lat = world_points(30_000, seed=2)
    sea = earth.truth(lon, lat) == LEAVES.index("water.marine.ocean")
    assert (sea == ~earth.world.strata.is_land(lon, lat)).mean() > 0.998


def test_a_patch_holds_some_classes(earth: VirtualEarth) -> None:
    lon, lat = world_points(400, seed=6)
    kept = earth.world.strata.is_land(lon, lat) & (np.abs(lat) < 60)
    step = np.arange(-66, 66) * 20 / 111_320
    counts = []
    for x, y in zip(lon[kept], lat[kept], strict=True):
        xs, ys = np.meshgrid(x + step / np.cos(np.radians(y)), y - step)
        shares = np.bincount(earth.truth(xs, ys).ravel(), minlength=len(LEAVES)) / xs.size
        counts.append(int((shares > 0.01).sum()))
    assert 3 <= np.median(counts) <= 7
    assert max(counts) < 18


def test_speed_of_a_patch(earth: VirtualEarth) -> None:
    step = np.arange(264) * 1e-4
    lon, lat = np.meshgrid(11 + 1.4 * step, 48 - 0.9 * step)
    earth.truth(lon[:2], lat[:2])
    times = []
    for _ in range(3):
        start = time.process_time()
        earth.truth(lon, lat)
        times.append(time.process_time() - start)
    assert min(times) < 3 * 0.070  # a million points a second, and room for a busy machine
