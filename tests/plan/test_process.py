"""The parents, Matérn's rule and the expected number of parents, each by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from pyproj import Geod
from scipy.stats import chi2

from las_builder.catalogs import Strata
from las_builder.plan import resolve
from las_builder.plan.ellipsoid import cartesian
from las_builder.plan.process import (
    choice_of,
    expected,
    expected_in_cells,
    key_of,
    order_of,
    parents,
    survivors,
)
from las_builder.plan.target import Target

GEOD = Geod(ellps="WGS84")
KEY = key_of(3, "test")
FIJI, POLE, SAHARA = [176, -20, -178, -15], [-180, -90, 180, -89], [0.0, 22.0, 2.0, 24.0]


def target_of(spec: object, strata: Strata) -> Target:
    return Target.of(resolve(spec, strata, ""))  # type: ignore[arg-type]


def uneven(target: Target, mean: float) -> np.ndarray:
    """A density that varies between neighbours by up to nine times."""
    wave = 1 + 0.8 * np.sin(target.row * 0.9) * np.cos(target.column * 0.7)
    return mean * wave


@pytest.mark.parametrize("spec", [FIJI, POLE, SAHARA])
def test_parents_are_a_poisson_process_of_this_density(spec: object, strata: Strata) -> None:
    target = target_of(spec, strata)
    density = uneven(target, 20_000 / target.area)
    points = parents(target, density, KEY)
    mass = density * target.areas
    groups = np.searchsorted(np.cumsum(mass) / mass.sum(), (np.arange(200) + 1) / 200)
    got = np.bincount(np.searchsorted(groups, points.cell), minlength=200)[:200]
    want = np.bincount(np.searchsorted(groups, np.arange(mass.size)), mass, 200)[:200]
    some = want > 5
    assert chi2.sf(((got - want)[some] ** 2 / want[some]).sum(), some.sum()) > 1e-3
    assert abs(len(points) - mass.sum()) < 4 * np.sqrt(mass.sum())
    assert (target.cell_at(points.lon, points.lat) == points.cell).all()
    assert target.contains(points.lon, points.lat).all()
    assert (np.diff(points.cell) >= 0).all()
    for u in (points.mark, order_of(target, points, KEY), choice_of(target, points, KEY)):
        counts = np.histogram(u, 50, (0, 1))[0]
        assert chi2.sf(((counts - u.size / 50) ** 2 / (u.size / 50)).sum(), 49) > 1e-3
    assert abs(np.corrcoef(points.mark, order_of(target, points, KEY))[0, 1]) < 0.03


def test_coordinates_are_whole_units_of_1e_7_degrees(strata: Strata) -> None:
    target = target_of(FIJI, strata)
    points = parents(target, np.full(target.row.size, 0.2), KEY)
    for values in (points.lon, points.lat):
        assert (values == np.round(values, 7)).all()
    assert points.lon.min() >= -180
    assert points.lon.max() < 180


def test_a_denser_process_holds_the_thinner_one_in_the_same_order(strata: Strata) -> None:
    target = target_of(FIJI, strata)
    thin, dense = (parents(target, np.full(target.row.size, d), KEY) for d in (0.05, 0.15))
    places = dict(zip(zip(dense.lon, dense.lat, strict=True), dense.mark, strict=True))
    found = [places.get(p) for p in zip(thin.lon, thin.lat, strict=True)]
    assert None not in found
    assert np.array(found, float) * 3 == pytest.approx(thin.mark)
    # Marks are times: what lives in the thinner process lives in the denser one.
    alive, still = survivors(target, thin, 2.0), survivors(target, dense, 2.0)
    kept = {p for p, a in zip(zip(dense.lon, dense.lat, strict=True), still, strict=True) if a}
    assert {
        p for p, a in zip(zip(thin.lon, thin.lat, strict=True), alive, strict=True) if a
    } <= kept
    assert still.sum() > 1.2 * alive.sum()


def test_a_region_draws_what_the_earth_draws_there(strata: Strata) -> None:
    large, small = target_of("africa", strata), target_of("KEN", strata)
    a, b = (parents(t, np.full(t.row.size, 0.001), KEY) for t in (large, small))
    kenya = small.contains(a.lon, a.lat)
    assert sorted(zip(a.lon[kenya], a.lat[kenya], a.mark[kenya], strict=True)) == sorted(
        zip(b.lon, b.lat, b.mark, strict=True)
    )


@pytest.mark.parametrize(
    ("spec", "spacing", "mean"), [(FIJI, 3.0, 0.05), (POLE, 5.0, 0.02), (SAHARA, 14.0, 0.004)]
)
def test_spacing_is_matern_s_second_rule_by_brute_force(
    spec: object, spacing: float, mean: float, strata: Strata
) -> None:
    target = target_of(spec, strata)
    points = parents(target, uneven(target, mean), KEY)
    points = points.of(np.arange(len(points)) < 2500)
    at = cartesian(points.lon, points.lat)
    near = np.linalg.norm(at[:, None] - at[None], axis=2) < spacing
    kills = near & (points.mark[None, :] < points.mark[:, None])
    alive = survivors(target, points, spacing)
    assert alive.tolist() == (~kills.any(axis=1)).tolist()
    assert 0.05 < alive.mean() < 0.95
    i, j = np.triu_indices(int(alive.sum()), 1)
    lon, lat = points.lon[alive], points.lat[alive]
    assert GEOD.inv(lon[i], lat[i], lon[j], lat[j])[2].min() / 1000 >= spacing
    assert survivors(target, points, 0).all()


@pytest.mark.parametrize(
    ("spec", "radius"),
    [(FIJI, 4.0), (FIJI, 40.0), (POLE, 7.0), (SAHARA, 3.0), ([-61.5, 15.2, -61.2, 15.7], 12.0),
     ([25.003, 79.8, 26.31, 80.107], 6.0)],
)  # fmt: skip
def test_expected_parents_against_points_thrown_at_the_ball(
    spec: object, radius: float, strata: Strata
) -> None:
    target = target_of(spec, strata)
    density = uneven(target, 1.0)
    rng = np.random.default_rng(1)
    cell = np.sort(rng.choice(target.row.size, 12))
    lon, lat, inside = target.places(cell)
    lon, lat = lon[inside], lat[inside]
    found = expected(target, density, lon, lat, radius)
    east = np.stack([-np.sin(np.radians(lon)), np.cos(np.radians(lon)), 0 * lon], axis=1)
    at = cartesian(lon, lat)
    up = at / np.linalg.norm(at, axis=1)[:, None]
    north = np.cross(up, east)
    n = 60_000
    i = np.arange(n)
    chord, turn = radius * np.sqrt((i + 0.5) / n), i * np.pi * (3 - np.sqrt(5))
    for k in range(lon.size):
        ball = at[k] + chord[:, None] * (
            np.cos(turn)[:, None] * east[k] + np.sin(turn)[:, None] * north[k]
        )
        ball_lon = np.degrees(np.arctan2(ball[:, 1], ball[:, 0]))
        flat = 1 - (1 - 1 / 298.257223563) ** 2
        ball_lat = np.degrees(np.arctan2(ball[:, 2], np.hypot(ball[:, 0], ball[:, 1]) * (1 - flat)))
        there = target.cell_at(ball_lon, ball_lat)
        value = np.where(
            (there >= 0) & target.contains(ball_lon, ball_lat), density[np.maximum(there, 0)], 0
        )
        want = value.mean() * np.pi * radius**2
        assert found[k] == pytest.approx(want, rel=0.01, abs=1e-3 * np.pi * radius**2)


def test_a_ball_of_land_holds_its_area(strata: Strata) -> None:
    target = target_of(SAHARA, strata)
    ones = np.ones(target.row.size)
    for radius in (0.3, 2.0, 30.0):
        found = expected(target, ones, np.array([1.0, 1.013]), np.array([23.0, 22.977]), radius)
        assert found == pytest.approx(np.pi * radius**2, rel=1e-4)
    assert expected(target, ones, np.array([1.0]), np.array([23.0]), 0)[0] == 0


@pytest.mark.parametrize(
    ("spec", "radius"), [(SAHARA, 5.0), (SAHARA, 30.0), (FIJI, 9.0), (POLE, 20.0)]
)
def test_the_quick_integral_is_near_the_exact_one(
    spec: object, radius: float, strata: Strata
) -> None:
    target = target_of(spec, strata)
    density = uneven(target, 1.0)
    lon, lat = target.centres()
    which = np.arange(0, target.row.size, 1 + target.row.size // 600)
    exact = expected(target, density, lon[which], lat[which], radius)
    quick = expected_in_cells(target, density, radius)[which]
    some = (target.mixed[which] < 0) & (exact > 0)
    away = np.abs(quick / np.where(exact > 0, exact, 1) - 1)[some]
    assert np.median(away) < 0.03
    assert quick.sum() == pytest.approx(exact.sum(), rel=0.04)
