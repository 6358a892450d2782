"""Two phases: probabilities that are kept, samples that are richer in rare classes, no bias."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from las_builder.core.options import Select, Sites
from las_builder.errors import RecipeError
from las_builder.plan import first_phase, second_phase, unweighted
from las_builder.plan.selection import chances, systematic

NAMES = ("tree", "crop", "built")


def mixture(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet([1.5, 0.5, 0.03], n)
    shares[rng.random(n) < 0.05] = 0  # nothing known
    return shares


@pytest.mark.parametrize("classes", ["equal", "sqrt", {"built": 1, "tree": 1}])
def test_chances_turn_the_composition_towards_what_is_wanted(classes: object) -> None:
    shares = mixture(4000)
    p2 = chances(shares, 800, classes, NAMES, 0.1)  # type: ignore[arg-type]
    assert p2.sum() == pytest.approx(800)
    assert 0 < p2.min() < p2.max() <= 1
    have, got = shares.mean(axis=0), p2 @ shares
    have, got = have / have.sum(), got / got.sum()
    assert got[2] > 2 * have[2]
    if classes == "sqrt":
        want = np.sqrt(shares.mean(axis=0))
        assert got == pytest.approx(want / want.sum(), abs=0.06)
    assert p2.min() >= 0.1 * p2.mean() * 0.5
    assert chances(shares, 4000, "equal", NAMES, 0.1).tolist() == [1.0] * 4000
    assert chances(np.zeros((10, 3)), 5, "equal", NAMES, 0.1).tolist() == [0.5] * 10


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 60), st.floats(0, 1, exclude_max=True))
def test_systematic_samples_have_their_size(seed: int, n: int, start: float) -> None:
    rng = np.random.default_rng(seed)
    p = rng.random(n)
    p = (
        p * round(p.sum()) / p.sum()
        if round(p.sum()) and (p * round(p.sum()) / p.sum()).max() <= 1
        else p
    )
    taken = systematic(p, rng.random(n), start)
    assert abs(taken.sum() - p.sum()) < 1
    assert taken[p >= 1].all()


def test_systematic_samples_take_each_with_its_probability() -> None:
    rng = np.random.default_rng(0)
    p = np.array([0.05, 0.5, 0.9, 1.0, 0.3, 0.25])
    taken = np.mean([systematic(p, rng.random(6), rng.random()) for _ in range(20_000)], axis=0)
    assert taken == pytest.approx(p, abs=0.012)


def test_two_phases_stay_unbiased_and_say_both_chances(drawn) -> None:
    sites = Sites(count=150, region="KEN", select=Select(candidates=4, classes="equal"))
    assert first_phase(sites).count == 600
    assert first_phase(sites).select is None
    totals, rare, plain = [], [], []
    for seed in range(60):
        drawn_ = drawn(600, "KEN", seed=seed)
        candidates = drawn_.of_rows(drawn_.primary)
        # Crops in the west, tiny towns in the east: what the labels are follows from the place.
        crop = np.clip((38 - candidates.lon) / 4, 0, 1)
        built = (np.sin(candidates.lon * 91) > 0.97) * 0.4
        shares = np.column_stack([(1 - crop) * (1 - built), crop * (1 - built), built])
        chosen = second_phase(
            candidates, shares, NAMES, sites.model_copy(update={"seed": seed}), "r"
        )
        assert chosen.primary.sum() == 150
        assert len(chosen) == pytest.approx(195, abs=2)
        assert chosen.rank.tolist() == list(range(len(chosen)))
        at = {name: i for i, name in enumerate(candidates.id)}
        rows = np.array([at[name] for name in chosen.id])
        np.testing.assert_allclose(chosen.density, candidates.density[rows] * chosen.p2)
        np.testing.assert_allclose(chosen.weight_km2 * chosen.density, 1)
        first = chosen.of_rows(chosen.primary)
        own = shares[rows][chosen.primary]
        totals.append(first.weight_km2 @ own)
        rare.append(own[:, 2].mean())
        plain.append(candidates.weight_km2 @ shares)
    error = np.std(np.array(totals) - plain, axis=0) / np.sqrt(60)
    assert (np.abs(np.mean(np.array(totals) - plain, axis=0)) < 3.5 * error).all()
    assert np.mean(rare) > 3 * np.mean(plain, axis=0)[2] / np.sum(np.mean(plain, axis=0))


def test_other_selections_have_no_weight(drawn) -> None:
    sites = drawn(20, "KEN")
    found = unweighted(sites)
    assert all(s.weight_km2 is None and s.density is not None for s in found)
    assert dataclasses.replace(found, weight_km2=sites.weight_km2) == sites


def test_a_class_that_is_not_there_is_refused(drawn) -> None:
    sites = Sites(count=5, region="KEN", select=Select(classes={"bulit": 1}))
    with pytest.raises(RecipeError, match="'bulit'; allowed: the classes tree, crop, built"):
        second_phase(drawn(20, "KEN"), mixture(27), NAMES, sites, "r")
