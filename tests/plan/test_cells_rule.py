"""The second rule: regions of equal area, candidates apart, densities exactly those asked."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from pyproj import Geod
from scipy.spatial import cKDTree

from las_builder.catalogs import Imagery, Strata
from las_builder.core.options import Patch, Sites
from las_builder.errors import RegionError
from las_builder.plan import Draft, resolve
from las_builder.plan.cells import EARTH, Partition, most, sites
from las_builder.plan.ellipsoid import cartesian
from las_builder.plan.process import key_of
from las_builder.plan.target import Target

GEOD = Geod(ellps="WGS84")


@pytest.mark.parametrize("n", [3, 4, 17, 500, 99_999])
def test_regions_are_of_equal_area_and_squarish(n: int) -> None:
    found = Partition.of(n)
    area = -np.diff(np.cos(found.edges)) / 2 / found.regions
    np.testing.assert_allclose(area, 1 / n, rtol=1e-9)
    assert found.regions.sum() == n
    if n > 100:
        height = np.diff(found.edges)[1:-1]
        middle = (found.edges[1:-2] + found.edges[2:-1]) / 2
        shape = height * found.regions[1:-1] / (2 * math.pi * np.sin(middle))
        assert 0.6 < shape.min() < shape.max() < 1.6


@pytest.mark.parametrize("spacing", [40.0, 300.0])
def test_as_many_as_fit_keep_apart_all_over_the_earth(spacing: float, strata: Strata) -> None:
    n = most(spacing)
    assert n * spacing**2 / EARTH > 0.7
    target = Target.of(resolve("global", strata, ""))
    full = np.full(target.row.size, n / EARTH)
    for seed in range(2):
        found = sites(target, full, n, spacing, key_of(seed, "a"))
        assert len(found) == pytest.approx(n * target.area / EARTH, rel=0.05)
        pairs = cKDTree(cartesian(found.lon, found.lat)).query_pairs(
            spacing * 1.2, output_type="ndarray"
        )
        (i, j), lon, lat = pairs.T, found.lon, found.lat
        least = GEOD.inv(lon[i], lat[i], lon[j], lat[j])[2].min() / 1000
        assert spacing <= least < spacing * 1.2


def test_density_is_what_is_asked_at_a_coast_and_near_cities(
    strata: Strata, sentinel: Imagery
) -> None:
    def draft(seed: int) -> Draft:
        return Draft.of(
            subset="a",
            sites=Sites(
                count=90, region=[27, 30, 32, 32], rule="cells", spacing_km=8, seed=seed,
                design=[{"share": 0.7, "near": "cities", "sigma_km": 40},
                        {"share": 0.3, "uniform": "land"}],
            ),
            patch=Patch(size=64), imagery=sentinel, products=[], strata=strata, where="r",
        )  # fmt: skip

    made = draft(0)
    target = made.law.target
    group = (target.mixed >= 0).astype(int) + 2 * (target.column > np.median(target.column))
    areas = np.bincount(group, target.areas, 4)
    totals = []
    for seed in range(150):
        one = dataclasses.replace(made, sites=made.sites.model_copy(update={"seed": seed})).draw()
        one = one.of_rows(one.primary)
        assert len(one) == 90
        cell = target.cell_at(one.lon, one.lat)
        totals.append(np.bincount(group[cell], one.weight_km2, 4))
    error = np.std(totals, axis=0) / math.sqrt(len(totals))
    assert (np.abs(np.mean(totals, axis=0) - areas) < 3.5 * error).all()


def test_it_spreads_more_evenly_than_chance(strata: Strata, sentinel: Imagery) -> None:
    spread = {}
    for rule in ("matern", "cells"):
        totals = []
        for seed in range(40):
            one = Draft.of(
                subset="a", sites=Sites(count=200, region=[0, 10, 10, 20], rule=rule, seed=seed),  # type: ignore[arg-type]
                patch=Patch(size=64), imagery=sentinel, products=[], strata=strata, where="r",
            ).draw()  # fmt: skip
            totals.append(np.histogram2d(one.lon, one.lat, 4, [(0, 10), (10, 20)])[0].ravel())
        spread[rule] = np.var(totals, axis=0).mean()
    assert spread["cells"] < 0.5 * spread["matern"]


def test_more_than_fit_are_refused(strata: Strata, sentinel: Imagery) -> None:
    def call(count: int) -> Draft:
        return Draft.of(
            subset="a", sites=Sites(count=count, region="FJI", rule="cells", spacing_km=9),
            patch=Patch(size=64), imagery=sentinel, products=[], strata=strata, where="r",
        )  # fmt: skip

    with pytest.raises(RegionError, match="in cells of equal area") as error:
        call(9999)
    fits = int(str(error.value).split("at most ")[1].split()[0])
    assert len(call(fits).draw()) > 0.8 * fits
    with pytest.raises(RegionError):
        call(fits + 1)
