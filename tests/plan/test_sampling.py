from __future__ import annotations

import math

import numpy as np
import pytest
from pyproj import Geod, Transformer
from scipy.stats import chi2

from las_builder.catalogs import Imagery, Strata
from las_builder.core.types import Site
from las_builder.errors import RegionError

GEOD = Geod(ellps="WGS84")
CYLINDER = Transformer.from_crs("EPSG:4326", "EPSG:6933", always_xy=True)


def places(sites: list[Site]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([s.lon for s in sites]), np.array([s.lat for s in sites])


def land_by_band(strata: Strata, edges: np.ndarray) -> np.ndarray:
    """km2 of land between latitudes, by PROJ's equal-area cylinder."""
    rows = len(strata.land_cells)
    y = CYLINDER.transform(np.zeros(rows + 1), np.linspace(90, -90, rows + 1))[1]
    x = CYLINDER.transform(180.0, 0.0)[0] - CYLINDER.transform(-180.0, 0.0)[0]
    row = strata.land_cells.mean(axis=1, dtype=np.float64) * -np.diff(y) * x / 1e6
    lat = 90 - (np.arange(rows) + 0.5) * 180 / rows
    return np.histogram(lat, edges, weights=row)[0]


def test_uniform_on_the_sphere(drawn, strata: Strata) -> None:
    sites = drawn(30_000, seed=1)
    edges = np.arange(-56, 85, 4.0)
    seen = np.histogram(places(sites)[1], edges)[0]
    land = land_by_band(strata, edges)
    want = land / land.sum() * seen.sum()
    keep = want > 5
    statistic = ((seen - want)[keep] ** 2 / want[keep]).sum()
    assert chi2.sf(statistic, keep.sum() - 1) > 0.01
    # The test has the power to refuse degrees without cosine.
    flat = land / np.cos(np.radians((edges[:-1] + edges[1:]) / 2))
    flat *= seen.sum() / flat.sum()
    wrong = ((seen - flat)[keep] ** 2 / flat[keep]).sum()
    assert chi2.sf(wrong, keep.sum() - 1) < 1e-6


def test_every_site_is_on_land_within_the_region_and_on_the_lattice(
    drawn, strata: Strata, sentinel: Imagery
) -> None:
    sites = drawn(300, [170, -25, -165, -10], spacing_km=3)
    lon, lat = places(sites)
    assert strata.is_land(lon, lat).all()
    assert ((lon >= 170) | (lon <= -165)).all()
    assert {True, False} == set((lon > 0).tolist())
    for site in sites:
        assert site.id == site.grid.code()
        assert sentinel.lattice.holds(site.grid.crs, site.grid.transform)
        x, y = site.grid.centre_lonlat()
        assert GEOD.inv(x, y, site.lon, site.lat)[2] <= 30 * math.sqrt(2) * 1.01
        assert site.lon == round(site.lon, 7)
    assert len({s.id for s in sites}) == len(sites)


@pytest.mark.parametrize("region", [[170, -25, -165, -10], [-180, 80, 180, 84], "NZL"])
def test_no_two_sites_are_nearer_than_the_spacing(drawn, region: object) -> None:
    sites = drawn(80, region, spacing_km=8, seed=3)
    lon, lat = places(sites)
    a, b = np.triu_indices(len(sites), 1)
    away = GEOD.inv(lon[a], lat[a], lon[b], lat[b])[2] / 1000
    assert away.min() >= 8
    assert away.min() < 13  # near enough that the rule had work to do


def test_weights_add_up_to_the_land(drawn, strata: Strata) -> None:
    sites = drawn(3000, spacing_km=20, seed=2)
    land = land_by_band(strata, np.array([-56.0, 84.0]))[0]
    primaries = [s for s in sites if s.primary]
    assert sum(s.weight_km2 for s in primaries) == pytest.approx(land, rel=0.01)
    assert all(s.weight_km2 == pytest.approx(1 / s.density) for s in sites)


def test_primaries_first_then_reserves_by_a_number_of_its_own(drawn) -> None:
    sites = drawn(1000, "africa", spacing_km=10)
    assert [s.rank for s in sites] == list(range(len(sites)))
    assert [s.primary for s in sites] == [rank < 1000 for rank in range(len(sites))]
    assert 1220 < len(sites) < 1380
    assert {s.cell for s in sites} == {("uniform", "land")}


def test_few_sites_are_not_short_of_any(drawn) -> None:
    for seed in range(20):
        assert sum(s.primary for s in drawn(6, [0, 20, 5, 25], seed=seed)) == 6


def test_the_same_twice_and_nothing_shared_between_subsets_or_seeds(drawn) -> None:
    one = drawn(200, "kenya", spacing_km=5, seed=4)
    assert drawn(200, "kenya", spacing_km=5, seed=4) == one
    for other in (
        drawn(200, "kenya", spacing_km=5, seed=4, subset="b"),
        drawn(200, "kenya", spacing_km=5, seed=5),
    ):
        assert not {s.id for s in one} & {s.id for s in other}


@pytest.mark.parametrize("spacing", [5.0, 60.0])
def test_what_does_not_fit_is_refused_with_the_count_that_does(drawn, spacing: float) -> None:
    with pytest.raises(RegionError, match=r"recipe.yaml: `sites.count` is 5000; allowed: at most"):
        drawn(5000, "FJI", spacing_km=spacing)
    with pytest.raises(RegionError) as error:
        drawn(5000, "FJI", spacing_km=spacing)
    fits = int(str(error.value).split("at most ")[1].split()[0])
    if fits:
        assert sum(s.primary for s in drawn(fits, "FJI", spacing_km=spacing)) == fits
    with pytest.raises(RegionError, match="at most"):
        drawn(fits + 1, "FJI", spacing_km=spacing)


def test_landsat_turns_polar_in_the_far_south(drawn, landsat: Imagery) -> None:
    sites = drawn(200, "antarctica", imagery=landsat, spacing_km=20)
    far = [s for s in sites if s.lat < -63]
    assert {s.grid.crs for s in far} == {"EPSG:3031"}
    assert min(s.lat for s in sites) >= -82.7
    assert len(far) > 150
