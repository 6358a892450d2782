"""What lies below the climate: lattices, relief, rivers, towns, parcels, at any resolution."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numba import njit

from las_builder.access.virtual import LEAVES, VirtualEarth
from las_builder.access.virtual.lattice import GIRTH, nearest, scratch
from las_builder.access.virtual.leaves import COLOURS, LETTERS, branch
from las_builder.access.virtual.noise import (
    NOWHERE,
    hashed,
    in_space,
    nanodegrees,
    noise_slope,
    sin_cos,
)
from las_builder.access.virtual.parameters import PUBLISHED, Published, Share, Strict, varied
from las_builder.access.virtual.planet import TruthParameters
from las_builder.access.virtual.sensors import SensorParameters
from las_builder.access.virtual.truth import look
from las_builder.catalogs import Catalogs

TOP = np.array([sorted({branch(x, 1) for x in LEAVES}).index(branch(x, 1)) for x in LEAVES])
SECOND = np.array([sorted({branch(x, 2) for x in LEAVES}).index(branch(x, 2)) for x in LEAVES])


def patch(lon: float, lat: float, metres: float, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Degrees of n x n points so many metres apart."""
    step = (np.arange(n) - n / 2 + 0.5) * metres / 111_195
    return np.meshgrid(lon + step / math.cos(math.radians(lat)), lat - step)


# ---- the lattice, against all places of it


@njit
def ask(turn, north, cos, cell, seed):  # type: ignore[no-untyped-def]
    key, place, name = (
        np.full((1, 7), NOWHERE, np.int64),
        np.empty((1, 9, 2)),
        np.zeros((1, 9), np.uint64),
    )
    out = np.zeros((turn.size, 6))
    names = np.zeros((turn.size, 2), np.uint64)
    for i in range(turn.size):
        names[i] = nearest(
            0, cell, seed, turn[i], north[i], cos[i], key, place, name, out[i]
        )  # fmt: skip
    return names, out


def all_places(cell: float, seed: int) -> np.ndarray:
    """(n, 2) turn and metres north of every place of a lattice, by plain Python."""
    mask = (1 << 64) - 1

    def mixed(i: int, j: int) -> int:
        h = (i * 0x9E3779B97F4A7C15 + j * 0xC2B2AE3D27D4EB4F + seed) & mask
        h ^= h >> 33
        h = h * 0xFF51AFD7ED558CCD & mask
        h ^= h >> 33
        h = h * 0xC4CEB9FE1A85EC53 & mask
        return h ^ (h >> 33)

    found = []
    half = GIRTH / 4
    for belt in range(math.floor(-half / cell) - 1, math.floor(half / cell) + 2):
        middle = (belt + 0.5) * cell / half * 90
        if abs(middle) > 90:
            middle = 180 - abs(middle)
            if middle < 90 - 2 * cell / half * 90:
                continue
        n = max(1, round(GIRTH * math.cos(math.radians(middle)) / cell))
        for j in range(n):
            h = mixed(belt, j)
            a, d = (h >> 32) / 2**32, (h & 0xFFFFFFFF) / 2**32
            found.append(((j + 0.5 + 0.75 * (a - 0.5)) / n, (belt + 0.5 + 0.75 * (d - 0.5)) * cell))
    return np.array(found)


def test_nearest_is_the_nearest_of_all() -> None:
    cell, seed = 400_000.0, 12345
    places = all_places(cell, seed)
    assert len(places) == pytest.approx(4 * math.pi * 6_371_007**2 / cell**2, rel=0.05)
    rng = np.random.default_rng(0)
    turn = np.concatenate([rng.random(300), [0.0, 1e-9, 1 - 1e-9]])
    lat = np.degrees(np.arcsin(rng.uniform(-0.95, 0.95, turn.size)))
    north, cos = lat * GIRTH / 360, np.cos(np.radians(lat))
    _, out = ask(turn, north, cos, cell, np.uint64(seed))
    dx = turn[:, None] - places[:, 0]
    dx = (dx - np.rint(dx)) * GIRTH * cos[:, None]
    d = np.sort(dx**2 + (north[:, None] - places[:, 1]) ** 2, axis=1)
    # Now and then the nearest lies beyond the neighbouring cells; then a side is moved a little.
    assert (np.abs(out[:, 2] / d[:, 0] - 1) < 1e-9).mean() > 0.98
    assert (np.abs(out[:, 5] / d[:, 1] - 1) < 1e-6).mean() > 0.85


def test_names_do_not_depend_on_the_way_there() -> None:
    rng = np.random.default_rng(1)
    turn, lat = rng.random(400), rng.uniform(-89.9, 89.9, 400)
    arguments = [turn, lat * GIRTH / 360, np.cos(np.radians(lat))]
    names, _ = ask(*arguments, 50_000.0, np.uint64(9))
    again, _ = ask(*(a[::-1].copy() for a in arguments), 50_000.0, np.uint64(9))
    assert np.array_equal(names, again[::-1])
    assert len(np.unique(names[:, 0])) > 390
    assert scratch(2)[0].shape == (2, 7)


def test_slope_of_noise_is_its_derivative() -> None:
    @njit
    def at(x, y, z):  # type: ignore[no-untyped-def]
        return noise_slope(
            0, 1 / 300.0, np.uint64(4), x, y, z,
            np.full((1, 3), NOWHERE, np.int64), np.empty((1, 8)),
        )  # fmt: skip

    for x, y, z in np.random.default_rng(2).uniform(-5000, 5000, (20, 3)):
        _, *slope = at(x, y, z)
        for axis, step in enumerate(np.eye(3) * 1e-3):
            up, down = (
                at(x + step[0], y + step[1], z + step[2]),
                at(x - step[0], y - step[1], z - step[2]),
            )
            assert slope[axis] == pytest.approx((up[0] - down[0]) / 2e-3, abs=1e-8)


def test_sine_and_cosine() -> None:
    @njit
    def at(angle):  # type: ignore[no-untyped-def]
        return sin_cos(angle)

    for degrees in np.random.default_rng(3).uniform(-540, 540, 200):
        nano = round(degrees * 1e9)
        want = math.sin(math.radians(nano / 1e9)), math.cos(math.radians(nano / 1e9))
        assert at(nano) == pytest.approx(want, abs=1e-14)


def test_kernels_and_arrays_hash_alike() -> None:
    from las_builder.access.virtual.noise import mixed

    @njit
    def at(i, j, k, seed):  # type: ignore[no-untyped-def]
        return hashed(i, j, k, seed)

    rng = np.random.default_rng(4)
    i, j, k = rng.integers(-(2**40), 2**40, (3, 50))
    assert [at(a, b, c, np.uint64(7)) for a, b, c in zip(i, j, k, strict=True)] == list(
        mixed([i, j, k], 7)
    )


# ---- the ground


def test_rivers_run_in_valleys(earth: VirtualEarth) -> None:
    river = LEAVES.index("water.inland_permanent.river")
    lower = []
    for lon, lat in (
        (11.0, 48.0),
        (100.0, 60.0),
        (-60.0, -8.0),
        (20.0, -28.0),
        (85.0, 28.5),
        (-123, 47),
    ):
        x, y = patch(lon, lat, 60.0, 400)
        seen = look(nanodegrees(x).ravel(), nanodegrees(y).ravel(), earth.world.planet, 10.0, 2021)
        height, wet = seen.elevation.reshape(400, 400), (seen.leaf == river).reshape(400, 400)
        if 50 < wet.sum() < 40_000:
            here = height[wet].mean()
            around = [
                np.roll(height, shift, axis)[wet].mean() for shift in (-25, 25) for axis in (0, 1)
            ]
            lower.append(np.mean(around) - here)
    assert len(lower) >= 3
    assert np.mean(lower) > 0
    assert max(lower) > 10  # in the mountains a valley is deep


def test_slope_is_that_of_the_elevation(earth: VirtualEarth) -> None:
    lon, lat = 10.31, 46.52
    step = 5.0
    degrees = step / (6_371_007.0 * math.pi / 180)
    at = np.random.default_rng(5).uniform(-0.3, 0.3, (400, 2)) + np.array([lon, lat])

    def height(east: float, north: float) -> np.ndarray:
        x = at[:, 0] + east * degrees / np.cos(np.radians(at[:, 1]))
        seen = look(
            nanodegrees(x), nanodegrees(at[:, 1] + north * degrees), earth.world.planet, 10.0, 2021
        )
        return seen.elevation.astype(np.float64)

    seen = look(nanodegrees(at[:, 0]), nanodegrees(at[:, 1]), earth.world.planet, 10.0, 2021)
    land = seen.leaf != 0
    for slope, (e, n) in ((seen.east, (1, 0)), (seen.north, (0, 1))):
        want = (height(e, n) - height(-e, -n)) / (2 * step)
        difference = np.abs(want - slope)[land]
        assert np.median(difference) < 0.01
        assert np.abs(want[land]).max() > 0.2


@pytest.mark.parametrize(
    ("lon", "lat"), [(2.3488, 48.8534), (-46.6361, -23.5475), (139.6917, 35.6895)]
)
def test_cities_are_where_they_are(earth: VirtualEarth, lon: float, lat: float) -> None:
    built = np.array([name.startswith("built.") for name in LEAVES])
    middle = built[earth.truth(*patch(lon, lat, 20.0), 10.0)].mean()
    assert middle > 0.45
    away = [
        built[earth.truth(*patch(lon + e, lat + n, 40.0, 60), 10.0)].mean()
        for e, n in ((1.9, 0.0), (-1.9, 0.0), (0.0, 1.6), (0.0, -1.6))
    ]
    assert min(away) < 0.1


def test_coarse_is_what_most_of_the_fine_is(earth: VirtualEarth) -> None:
    """The truth at 10 m is, as a rule, what covers most of the 10 m at 1 m."""
    same = []
    for lon, lat in (
        (11.0, 48.0),
        (-93.5, 42.1),
        (103.0, 62.0),
        (2.5, 48.7),
        (30.0, 31.0),
        (-48.0, -16.0),
    ):
        x, y = patch(lon, lat, 1.0, 300)
        fine = TOP[earth.truth(x, y, 1.0)].reshape(30, 10, 30, 10).swapaxes(1, 2).reshape(900, 100)
        most = np.array([np.bincount(row, minlength=9).argmax() for row in fine])
        x, y = (v.reshape(30, 10, 30, 10).mean(axis=(1, 3)) for v in (x, y))
        same.append((TOP[earth.truth(x, y, 10.0)].ravel() == most).mean())
    assert np.mean(same) > 0.9
    assert min(same) > 0.7


def test_roads_are_seen_from_near_and_houses_not_from_afar(earth: VirtualEarth) -> None:
    x, y = patch(2.5, 48.7, 5.0, 400)
    names = np.array(LEAVES)
    near, far = names[earth.truth(x, y, 2.0)], names[earth.truth(x, y, 30.0)]
    assert (near == "built.building").mean() > 0.01
    assert (near == "built.transport.road").mean() > 0.01
    assert not (far == "built.building").any()
    assert np.char.startswith(far, "built.").mean() > 0.02


def test_crops_take_turns_and_nothing_else_does(earth: VirtualEarth) -> None:
    x, y = patch(-93.5, 42.1, 40.0)
    one, other = earth.truth(x, y, 10.0, 2020), earth.truth(x, y, 10.0, 2021)
    changed = one != other
    assert 0.05 < changed.mean() < 0.9
    annual = np.array([name.startswith("crop.annual.") for name in LEAVES])
    assert annual[one[changed]].all()
    assert annual[other[changed]].all()
    assert np.array_equal(SECOND[one], SECOND[other])


def test_any_resolution_at_the_edges_of_the_map(earth: VirtualEarth) -> None:
    for resolution in (0.5, 10.0, 100.0):
        for lon, lat in ((180.0, 66.5), (-180.0, -16.7), (12.0, 90.0), (77.0, -90.0)):
            here = earth.truth(np.array([lon, lon - 360, lon + 360]), np.full(3, lat), resolution)
            assert len(set(here.tolist())) == 1
        poles = earth.truth(np.linspace(-180, 180, 37), np.full(37, -90.0), resolution)
        assert len(set(poles.tolist())) == 1
    # Across ±180° the ground goes on: as many changes of class there as anywhere.
    lat = np.linspace(65.5, 68.5, 4000)
    step = 30 / 111_195 / math.cos(math.radians(67))
    across = earth.truth(np.full(4000, 180 - step / 2), lat) != earth.truth(
        np.full(4000, -180 + step / 2), lat
    )
    beside = earth.truth(np.full(4000, 178.0), lat) != earth.truth(np.full(4000, 178.0 + step), lat)
    assert across.mean() < beside.mean() + 0.05


# ---- parameters


class Declared(Strict):
    length: float
    share: Share
    theirs: Published
    many: tuple[Published, ...]
    of: dict[str, Share]
    count: int


def test_every_number_turns_but_the_published(catalogs: Catalogs) -> None:
    one = Declared(length=10.0, share=0.95, theirs=3.0, many=(1.0, 2.0), of={"a": 0.99}, count=4)
    lengths, shares = [], []
    for draw in range(60):
        other = varied(one, 0.3, (draw,))
        assert (other.theirs, other.many, other.count) == (3.0, (1.0, 2.0), 4)
        assert 7 <= other.length <= 13
        assert 0 < other.share <= 1
        assert 0 < other.of["a"] <= 1
        lengths.append(other.length)
        shares.append(other.of["a"])
    assert len(set(lengths)) == 60
    assert 1.0 in shares
    assert varied(one, 0.3, (5,)) == varied(one, 0.3, (5,))
    assert PUBLISHED == "published"
    world = VirtualEarth(catalogs, spread=0.3, draw=2).world
    declared = VirtualEarth(catalogs).world
    for name, model in (("truth", TruthParameters), ("sensors", SensorParameters)):
        assert world.parameters(name, model) != declared.parameters(name, model)
    green = world.parameters("sensors", SensorParameters).green
    assert green == declared.parameters("sensors", SensorParameters).green


def test_other_worlds_are_other_worlds(catalogs: Catalogs, earth: VirtualEarth) -> None:
    x, y = patch(11.0, 48.0, 100.0)
    plain = earth.truth(x, y)
    for other in (
        VirtualEarth(catalogs, seed=1),
        VirtualEarth(catalogs, spread=0.3, draw=1),
        VirtualEarth(catalogs, spread=0.3, draw=2),
    ):
        assert 0.15 < (TOP[other.truth(x, y)] != TOP[plain]).mean() < 0.9


def test_every_letter_has_a_leaf_and_a_colour(catalogs: Catalogs) -> None:
    assert set(COLOURS) == set(LETTERS)
    assert len(set(COLOURS.values())) == len(COLOURS)
    assert set(LEAVES) <= catalogs.ontology.leaves
    points = in_space(np.array([0]), np.array([0]))
    assert np.linalg.norm(np.array(points)) == pytest.approx(6_371_007)
