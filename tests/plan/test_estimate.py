"""Ratios of site totals against arithmetic by hand, drawing again, and plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from las_builder.plan import Sample, ratios


def sample(weight, cell=None) -> Sample:
    weight = np.asarray(weight, float)
    return Sample(weight, np.zeros(weight.size, int) if cell is None else np.asarray(cell))


def one(part, whole, weight, cell=None, held="part"):
    part, whole = np.asarray(part, float)[:, None], np.asarray(whole, float)
    found = ratios(sample(weight, cell), part, whole, held=held)
    return float(found.value[0]), float(found.error[0]), float(found.effective[0])


def clusters(sites: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels counted and looked at and weight of sites that differ as patches do."""
    rng = np.random.default_rng(seed)
    n = rng.integers(40, 400, sites)
    return rng.binomial(n, rng.beta(0.8, 1.6, sites)), n, rng.uniform(1, 6, sites)


def test_a_ratio_by_hand() -> None:
    # R = (1*1 + 1*0 + 2*2) / (1*2 + 1*2 + 2*4) = 5/12; residuals 1/6, -5/6, 4/6;
    # sum of squares 42/36, times 3/2 is 7/4; error sqrt(7/4) / 12.
    value, error, effective = one([1, 0, 2], [2, 2, 4], [1, 1, 2])
    assert value == pytest.approx(5 / 12, rel=1e-15)
    assert error == pytest.approx(math.sqrt(7) / 24, rel=1e-14)
    assert effective == pytest.approx(9 / 5)  # of the sites with weights 1 and 2


def test_what_few_sites_hold_is_of_few_sites() -> None:
    looked = [100, 1, 1, 0]
    _, _, effective = one([50, 1, 0, 0], looked, [2, 2, 2, 5], held="whole")
    assert effective == pytest.approx(102**2 / (100**2 + 2))  # as good as one site
    _, _, effective = one([50, 1, 0, 0], looked, [2, 2, 2, 5])
    assert effective == 2


def test_cells_by_hand() -> None:
    # Two cells of two: R = 10/20; z = (1, -1, 2, 2) * ... within cells only the first differs.
    value, error, _ = one([6, 4, 0, 0], [5, 5, 5, 5], [1, 1, 1, 1], [0, 0, 1, 1])
    assert value == 0.5
    z = np.array([3.5, 1.5, -2.5, -2.5]) / 20
    assert error == pytest.approx(math.sqrt(2 * ((z[0] - z[1]) / 2) ** 2 * 2))
    whole = one([6, 4, 0, 0], [5, 5, 5, 5], [1, 1, 1, 1])[1]
    assert error < whole / 2  # what lies between cells is no error


def test_with_sites_alike_the_error_is_that_of_a_mean() -> None:
    a = np.array([3.0, 9, 0, 5, 7, 7, 1, 2])
    value, error, effective = one(a, [10] * 8, [4.2] * 8)
    assert value == pytest.approx(a.mean() / 10)
    assert error == pytest.approx(a.std(ddof=1) / 10 / math.sqrt(8))
    assert effective == pytest.approx(7)


def test_the_error_is_that_of_drawing_sites_again() -> None:
    a, n, w = clusters(150)
    cell = np.repeat([0, 1, 2], 50)
    a = a + cell * n // 4
    rng = np.random.default_rng(1)
    drawn = np.concatenate([rng.integers(50 * k, 50 * k + 50, (4000, 50)) for k in range(3)], 1)
    again = (w * a)[drawn].sum(1) / (w * n)[drawn].sum(1)
    value, error, _ = one(a, n, w, cell)
    assert value == pytest.approx((w * a).sum() / (w * n).sum())
    assert error == pytest.approx(again.std(), rel=0.06)


def test_more_pixels_of_the_same_sites_are_no_more_evidence() -> None:
    a, n, w = clusters(30)
    once, often = one(a, n, w), one(a * 1000, n * 1000, w)
    assert once == pytest.approx(often, rel=1e-12)
    pixels = math.sqrt(once[0] * (1 - once[0]) / n.sum())
    assert once[1] > 3 * pixels  # what counting pixels as independent would claim
    assert one(a, n, w * 7) == pytest.approx(once, rel=1e-12)


def test_nothing_and_one_site() -> None:
    value, error, effective = one([0, 0], [0, 0], [1, 1])
    assert math.isnan(value)
    assert math.isnan(error)
    assert effective == 0
    value, error, _ = one([3, 0], [4, 0], [2, 2])
    assert value == 0.75
    assert math.isnan(error)


def test_many_columns_are_each_alone() -> None:
    rng = np.random.default_rng(5)
    part, whole = rng.random((40, 70)), rng.random((40, 70)) + 1
    made = sample(rng.uniform(1, 3, 40), rng.integers(0, 5, 40))
    many = ratios(made, part, whole, held="whole")
    for k in (0, 31, 32, 69):
        alone = ratios(made, part[:, [k]], whole[:, k], held="whole")
        assert (alone.value[0], alone.error[0]) == pytest.approx((many.value[k], many.error[k]))


def test_neighbours_see_a_trend_as_no_error() -> None:
    # On a line of sites with a trend the local variance is that of neighbours, by loops.
    n = 60
    z = np.linspace(0, 1, n) + 0.01 * np.random.default_rng(0).standard_normal(n)
    near = np.array([np.argsort(np.abs(np.arange(n) - i), kind="stable")[:4] for i in range(n)])
    local = Sample(np.ones(n), np.zeros(n, int), near)
    want = sum(z[near[i]].var(ddof=1) for i in range(n))
    assert local.variance(z[:, None])[0] == pytest.approx(want)
    assert want < 0.05 * sample(np.ones(n)).variance(z[:, None])[0]
