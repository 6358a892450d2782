"""Stored densities are those of repeated draws: at coasts, near cities, in mixtures, crowded.

Sums of 1 / density over the primaries of a group of places have that group's area as their mean if
and only if the density stored is the true one there. `benchmarks/sampling_density.py` does the same
with 500 replicates of every design.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from las_builder.catalogs import Imagery, Strata
from las_builder.core.options import Patch, Sites
from las_builder.plan import Draft
from las_builder.plan.process import expected_in_cells

NILE, SAHARA = [30.0, 30.0, 32.5, 31.7], [0.0, 22.0, 2.0, 23.7]
MIXED = [
    {"share": 0.6, "near": "cities", "sigma_km": 25},
    {"share": 0.4, "strata": ["urbanisation"], "allocation": "sqrt"},
]
UNIFORM = [{"share": 1, "uniform": "land"}]
REPLICATES = 250


def draft(strata: Strata, sentinel: Imagery, **sites: object) -> Draft:
    return Draft.of(
        subset="a", sites=Sites(**sites), patch=Patch(size=64), imagery=sentinel, products=[],  # type: ignore[arg-type]
        strata=strata, where="r",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("region", "design", "spacing", "crowd"),
    [
        (NILE, MIXED, 0.0, 0.0),
        (NILE, MIXED, 6.0, 1.5),
        (NILE, UNIFORM, 12.0, 3.0),
        (NILE, [{"share": 1, "near": "cities", "sigma_km": 25}], 8.0, 3.2),
        (SAHARA, UNIFORM, 13.0, 4.0),
        ("FJI", UNIFORM, 2.0, 2.5),
    ],
)
def test_sums_of_weights_have_the_area_as_their_mean(
    region: object, design: list, spacing: float, crowd: float, strata: Strata, sentinel: Imagery
) -> None:
    count = 50
    if spacing:
        probe = draft(strata, sentinel, count=20, region=region, spacing_km=spacing, design=design)
        count = int(0.98 * (probe.law.fits or 0))
    made = draft(strata, sentinel, count=count, region=region, spacing_km=spacing, design=design)
    law, target = made.law, made.law.target
    m = expected_in_cells(target, law.parent, spacing)
    assert m.max() >= crowd
    # Groups: by how crowded, and at the coast or not.
    rank = np.searchsorted(np.quantile(law.wanted, [0.5, 0.85]), law.wanted)
    lon, lat = target.centres()
    rim = (np.abs(lon - 1) > 0.93) | (np.abs(lat - 22.85) > 0.8)  # where half a ball is outside
    group = rank * 2 + ((target.mixed >= 0) | (rim if region is SAHARA else False))
    drawn = law.wanted > 0
    areas = np.bincount(group, np.where(drawn, target.areas, 0), 6)
    totals, numbers = [], []
    for seed in range(REPLICATES):
        one = dataclasses.replace(made, sites=made.sites.model_copy(update={"seed": seed})).draw()
        numbers.append(len(one))
        one = one.of_rows(one.primary)
        cell = target.cell_at(one.lon, one.lat)
        totals.append(np.bincount(group[cell], one.weight_km2, 6))
    error = np.std(totals, axis=0) / math.sqrt(REPLICATES)
    some = areas > 0.01 * areas.sum()
    away = (np.mean(totals, axis=0) - areas)[some] / error[some]
    assert np.abs(away).max() < 3.5
    assert abs(np.sum(totals, axis=1).mean() / areas.sum() - 1) < 0.02
    mass = sum(float(mass.sum()) for mass in law.mass)
    assert np.mean(numbers) == pytest.approx(mass, abs=3.5 * np.std(numbers) / REPLICATES**0.5)


def test_nominal_weights_would_be_wrong_where_it_is_crowded(
    strata: Strata, sentinel: Imagery
) -> None:
    # Parents as dense as the wanted sites are, which spacing then thins: by what it is off.
    design = [{"share": 1, "near": "cities", "sigma_km": 25}]
    probe = draft(strata, sentinel, count=20, region=NILE, spacing_km=8, design=design)
    law = draft(
        strata, sentinel, count=int(0.98 * (probe.law.fits or 0)), region=NILE, spacing_km=8,
        design=design,
    ).law  # fmt: skip
    ratio = law.parent / law.wanted
    assert ratio.max() / ratio.min() > 2.5


def test_survivors_come_as_dense_as_is_asked(strata: Strata, sentinel: Imagery) -> None:
    made = draft(strata, sentinel, count=60, region=NILE, spacing_km=6, design=MIXED)
    target = made.law.target
    cell = np.repeat(np.arange(target.row.size), 3)
    lon, lat, inside = target.places(cell)
    got = made.law.yields(lon[inside], lat[inside], cell[inside])
    assert abs(got.mean() - 1) < 0.01
    assert np.quantile(np.abs(got - 1), 0.9) < 0.05


def test_a_mixture_s_weight_is_of_all_its_components(strata: Strata, sentinel: Imagery) -> None:
    sites = draft(strata, sentinel, count=2000, region=NILE, design=MIXED).draw()
    first = sites.of_rows(sites.primary)
    whole = draft(strata, sentinel, count=10, region=NILE).law.target.area
    assert first.weight_km2.sum() == pytest.approx(whole, rel=0.06)
    by_cell = {
        name: first.of_rows(first.component == name).weight_km2.sum()
        for name in ("cities", "urbanisation")
    }
    assert all(0.15 * whole < share < 0.85 * whole for share in by_cell.values())
    assert {s.cell for s in first} == {
        ("cities", "land"), ("urbanisation", "urban"), ("urbanisation", "peri-urban"),
        ("urbanisation", "rural"),
    }  # fmt: skip
    assert first.primary.sum() == 2000


@pytest.mark.parametrize("rule", ["matern", "cells"])
def test_the_same_bytes(rule: str, strata: Strata, sentinel: Imagery) -> None:
    import hashlib

    sites = draft(
        strata, sentinel, count=40, region=NILE, spacing_km=5, rule=rule, seed=7, design=MIXED
    ).draw()
    digest = hashlib.blake2b(digest_size=8)
    for column in (sites.lon, sites.lat, sites.density, sites.rank, sites.grids.west):
        digest.update(np.ascontiguousarray(column).tobytes())
    digest.update("".join(sites.id).encode())
    assert digest.hexdigest() == {"matern": "d9ab6dc307af56de", "cells": "13a625fc7fcb97c6"}[rule]
