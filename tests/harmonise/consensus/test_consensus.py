"""The model against enumeration by hand, scipy and brute force; what is refused."""

from __future__ import annotations

import itertools
import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

from las_builder.catalogs import Catalogs
from las_builder.core.grid import Grid
from las_builder.core.options import ConsensusOptions
from las_builder.core.types import LabelMap
from las_builder.errors import GridMismatchError, InputError, LasWarning, LegendError, RecipeError
from las_builder.harmonise.consensus import (
    REST,
    Consensus,
    Design,
    Tuples,
    dawid_skene,
    fit,
    score,
)
from las_builder.harmonise.consensus.calibrate import calibrate, logistic, logit
from las_builder.harmonise.consensus.classes import meanings
from las_builder.harmonise.consensus.dawid_skene import Parameters
from las_builder.harmonise.consensus.held_out import Observed, calibrated_on
from las_builder.harmonise.consensus.reference import pixels_of, read_points
from las_builder.harmonise.consensus.strata import strata_at
from las_builder.harmonise.crosswalk import check_told
from las_builder.run.consensus import maps_of_row

CATALOGS = Catalogs.load()
NAMES = ("esa-worldcover-v200", "dynamic-world", "io-lulc-annual", "glc-fcs30d")


def design(names: tuple[str, ...] = NAMES, taxonomy: str = "cover-9", **options: object) -> Design:
    return Design.of(
        ConsensusOptions(**options), CATALOGS.taxonomy(taxonomy),
        [CATALOGS.label(name) for name in names], CATALOGS.ontology, CATALOGS.accuracies.values,
        where="test.yaml",
    )  # fmt: skip


def small(seed: int, symbols: tuple[int, ...] = (3, 5, 4)) -> tuple[Tuples, Parameters]:
    chance = np.random.default_rng(seed)
    said = np.array(list(itertools.product(*(range(-1, n) for n in symbols))))
    prior = Parameters(
        classes=chance.dirichlet(np.ones(3)),
        says=tuple(chance.dirichlet(np.ones(n), size=3) for n in symbols),
    )
    return Tuples(said=said, sites=chance.gamma(0.5, 2.0, len(said))), prior


def by_hand(tuples: Tuples, prior: Parameters, strength: tuple[float, float], rounds: int):
    """EM in loops over lists, from the definition."""
    pi = [float(v) for v in prior.classes]
    theta = [[[float(v) for v in row] for row in one] for one in prior.says]
    for _ in range(rounds):
        n_pi = [strength[0] * float(v) for v in prior.classes]
        n_theta = [[[strength[1] * float(v) for v in row] for row in one] for one in prior.says]
        for said, weight in zip(tuples.said.tolist(), tuples.sites.tolist(), strict=True):
            joint = []
            for y in range(3):
                p = pi[y]
                for voter, symbol in enumerate(said):
                    if symbol >= 0:
                        p *= theta[voter][y][symbol]
                joint.append(p)
            for y in range(3):
                share = weight * joint[y] / sum(joint)
                n_pi[y] += share
                for voter, symbol in enumerate(said):
                    if symbol >= 0:
                        n_theta[voter][y][symbol] += share
        pi = [v / sum(n_pi) for v in n_pi]
        theta = [[[v / sum(row) for v in row] for row in one] for one in n_theta]
    return pi, theta


def test_em_is_what_the_definition_says() -> None:
    tuples, prior = small(1)
    found, _ = dawid_skene.fit(tuples, prior, (2.0, 3.0), np.ones(3), rounds=7, tolerance=-1)
    pi, theta = by_hand(tuples, prior, (2.0, 3.0), 7)
    assert np.allclose(found.classes, pi, atol=1e-7)
    for one, other in zip(found.says, theta, strict=True):
        assert np.allclose(one, other, atol=1e-7)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("exponents", [(1.0, 1.0, 1.0), (0.5, 1.0, 0.7)])
def test_the_objective_never_decreases(seed: int, exponents: tuple[float, ...]) -> None:
    tuples, prior = small(seed)
    for learn in (True, False):
        _, path = dawid_skene.fit(
            tuples, prior, (2.0, 3.0), np.array(exponents), rounds=60, tolerance=-1, learn=learn
        )
        steps = np.diff(path)
        assert len(path) == 60
        assert (steps > -1e-9 * abs(path[0])).all()
        assert path[-1] > path[0]


def test_order_of_products_and_codes_does_not_matter() -> None:
    tuples, prior = small(3)
    found, _ = dawid_skene.fit(tuples, prior, (2.0, 3.0), np.ones(3))
    turn, codes = [2, 0, 1], np.random.default_rng(0).permutation(5)
    said = tuples.said[:, turn].copy()
    column = turn.index(1)
    said[:, column] = np.where(said[:, column] >= 0, codes[said[:, column]], -1)
    says = [prior.says[i] for i in turn]
    says[column] = prior.says[1][:, np.argsort(codes)]
    other, _ = dawid_skene.fit(
        Tuples(said=said, sites=tuples.sites),
        Parameters(classes=prior.classes, says=tuple(says)), (2.0, 3.0), np.ones(3),
    )  # fmt: skip
    assert np.allclose(found.classes, other.classes, atol=1e-9)
    assert np.allclose(found.says[1], other.says[column][:, codes], atol=1e-9)


def test_em_finds_the_matrices_that_made_the_votes() -> None:
    chance = np.random.default_rng(5)
    says = [0.75 * np.eye(3)[:, list(range(3))] + 0.25 / 3 for _ in range(4)]
    truth = chance.choice(3, 60_000, p=[0.5, 0.3, 0.2])
    said = np.stack([[chance.choice(3, p=one[y]) for y in truth[:20_000]] for one in says], axis=1)
    found, count = np.unique(said, axis=0, return_counts=True)
    prior = Parameters(
        classes=np.full(3, 1 / 3), says=tuple(0.5 * np.eye(3) + 0.5 / 3 for _ in says)
    )
    learnt, _ = dawid_skene.fit(
        Tuples(said=found, sites=count.astype(float)), prior, (1.0, 5.0), np.ones(4)
    )
    assert np.allclose(learnt.classes, np.bincount(truth[:20_000]) / 20_000, atol=0.02)
    assert all(np.allclose(a, b, atol=0.03) for a, b in zip(learnt.says, says, strict=True))


def test_atoms_are_what_codes_cut_the_ontology_into() -> None:
    made = design()
    leaves = [leaf for atom in made.classes.atoms for leaf in atom]
    ground = {leaf for leaf in CATALOGS.ontology.leaves if not leaf.startswith("special")}
    assert len(leaves) == len(set(leaves))
    assert set(leaves) == ground
    open_woodland = next(a for a in made.classes.atoms if "tree.open_woodland" in a)
    row = made.classes.atoms.index(open_woodland)
    worldcover, dynamic = made.voters[0], made.voters[1]
    assert worldcover.weight[row, list(worldcover.codes).index(10)] > 0
    assert dynamic.weight[row, list(dynamic.codes).index(5)] > 0  # shrub and scrub, by its words
    assert made.classes.names[made.classes.of_atom[row]] == "tree_cover"


def test_priors_are_emissions_that_keep_to_the_published_accuracy() -> None:
    for voter in design().voters:
        said = np.ones(voter.codes.size)
        expected = voter.prior(said, design().covers)
        assert np.allclose(expected.sum(axis=1), 1)
        assert (expected >= 0).all()
        covers = np.full(expected.shape[0], np.nan)
        share = (said * voter.right / voter.right.sum(axis=0).clip(1e-12)).sum(axis=1)
        right = voter.accuracy(said, covers)
        overall = (right * share)[share > 0].sum() / share.sum()
        assert overall == pytest.approx(voter.overall, abs=0.01)


def test_what_products_say_is_shared_by_what_their_codes_can_mean() -> None:
    made = design()
    voter = made.voters[0]
    said = np.zeros(voter.codes.size)
    said[list(voter.codes).index(60)] = 30.0
    said[list(voter.codes).index(80)] = 10.0
    shares = voter.shares(said)
    of = {leaf: i for i, atom in enumerate(made.classes.atoms) for leaf in atom}
    assert shares.sum() == pytest.approx(1)
    assert made.classes.summed(shares[None])[0, made.classes.names.index("water")] >= 0.25
    assert shares[of["crop.annual.rainfed"]] == 0
    # A mine is one of the things that WorldCover calls bare; seen under it alone counts a tenth.
    assert 0 < shares[of["built.extraction.mine"]] < 0.75 / 4
    # Mangroves: the code names them, and they look like trees.
    entry = next(one for one in made.products[0].classes if one.value == 95)
    named, seen = meanings(entry, made.products[0], made.taxonomy, CATALOGS.ontology)
    column, trees = list(voter.codes).index(95), of["tree.broadleaf.evergreen"]
    assert voter.weight[of["wetland.mangrove"], column] == pytest.approx(1 / len(named))
    part = len(made.classes.atoms[trees] & seen) / len(seen)
    assert voter.weight[trees, column] == pytest.approx(0.1 * part)
    assert part > 0
    # So much is expected before anything is learnt: with all the weight on the prior it stays.
    rows = np.array([[list(b.codes).index(c) for b, c in zip(made.ballots, r, strict=True)]
                     for r in ((60, 7, 8, 200), (80, 0, 1, 210))])  # fmt: skip
    learnt = fit(made, {"": Tuples(said=rows, sites=np.array([3e-9, 1e-9]))}, {})
    chance = np.exp(learnt.tables[""].classes / 10_000)
    water = made.classes.summed(chance[None])[0, made.classes.names.index("water")]
    assert water == pytest.approx(0.9 * 0.25 + 0.1 / 9, abs=0.02)


def fitted(**options: object) -> tuple[Design, Consensus, np.ndarray]:
    made = design(**options)
    chance = np.random.default_rng(0)
    sizes = [b.codes.size * b.levels for b in made.ballots]
    said = np.stack([chance.integers(-1, n, 3000) for n in sizes], axis=1)
    said[0] = -1
    found = np.unique(said, axis=0)
    counts = {"dry": Tuples(said=found, sites=np.full(len(found), 0.05)),
              "polar": Tuples(said=found[:40], sites=np.full(40, 0.1))}  # fmt: skip
    return made, fit(made, counts, {}), said


@pytest.mark.parametrize("method", ["vote", "bayes", "dawid-skene"])
def test_what_is_stored_labels_alike(method: str) -> None:
    _, learnt, said = fitted(method=method)
    again = Consensus.from_json(json.loads(json.dumps(learnt.to_json())))
    assert again.digest == learnt.digest
    for a, b in zip(learnt.decide(said, "dry"), again.decide(said, "dry"), strict=True):
        assert np.array_equal(a, b, equal_nan=True)
    label, sure = learnt.decide(said, "dry")
    nobody = (said < 0).all(axis=1)
    assert nobody.any()
    assert (label[nobody] == -1).all()
    assert np.isnan(sure[nobody]).all()
    assert ((sure[~nobody] > 0) & (sure[~nobody] <= 1)).all()


def test_a_stratum_of_few_sites_uses_the_one_above() -> None:
    _, learnt, said = fitted()
    assert set(learnt.tables) == {"", "dry"}  # polar has 4 sites
    assert learnt.table("polar/Asia")[0] == ""
    assert learnt.table("dry/Asia")[0] == "dry"
    assert np.array_equal(learnt.decide(said, "polar")[0], learnt.decide(said, "")[0])


def test_posterior_is_bayes_in_loops() -> None:
    _, learnt, said = fitted(rho=0.3)
    table = learnt.tables["dry"]
    for row in said[:20].tolist():
        joint = []
        for atom in range(len(learnt.classes.atoms)):
            z = table.classes[atom] / 10_000
            for p, symbol in enumerate(row):
                if symbol >= 0:
                    z += learnt.exponents[p] * table.says[p][atom, symbol] / 10_000
            joint.append(math.exp(z))
        classes = [0.0] * len(learnt.classes.names)
        for atom, value in enumerate(joint):
            classes[learnt.classes.of_atom[atom]] += value / sum(joint)
        assert np.allclose(learnt.posterior(np.array([row]), "dry")[0], classes, atol=2e-6)


def test_votes_of_one_lineage_count_for_less() -> None:
    alone, three = 1.0, 1 / (1 + 2 * 0.4)
    assert design(rho=0.4).exponents == pytest.approx((three, three, three, alone), abs=1e-6)
    assert design(rho=0.0).exponents == (1.0,) * 4
    asked = [{"products": [NAMES[0], NAMES[3]], "rho": 1.0}]
    assert design(groups=asked).exponents == (0.5, 1.0, 1.0, 0.5)


def test_what_is_likeliest_none_of_the_classes_has_no_label() -> None:
    made = design(taxonomy="forest-water-built-crop", strata=[])
    place = [{int(code): i for i, code in enumerate(b.codes)} for b in made.ballots]
    # As all four say it: grass, trees, water, built-up, crops.
    said = [(30, 2, 11, 130), (10, 1, 2, 51), (80, 0, 1, 210), (50, 6, 7, 190), (40, 4, 5, 10)]
    rows = [[place[p][code] for p, code in enumerate(row)] for row in said]
    learnt = fit(made, {"": Tuples(said=np.array(rows), sites=np.full(5, 100.0))}, {})
    label, sure = learnt.decide(np.array(rows), "")
    assert learnt.classes.names[-1] == REST
    named = [learnt.classes.names[i] if i >= 0 else None for i in label]
    assert named == [None, "forest", "water", "built_up", "cropland"]
    assert np.isnan(sure).tolist() == [True, False, False, False, False]


def maps(made: Design, side: int = 6, seed: int = 0) -> list[LabelMap]:
    from affine import Affine

    chance = np.random.default_rng(seed)
    grid = Grid("EPSG:32633", Affine(10, 0, 500_000, 0, -10, 5_000_000), side, side)
    return [
        LabelMap(
            product=p.name, version="x", grid=grid,
            codes=chance.choice(sorted(p.codes), (side, side)), share=np.full((side, side), 100, np.uint8),
            evidence={name: chance.random((side, side)) for name in p.evidence},
        )
        for p in made.products
    ]  # fmt: skip


def test_a_patch_is_labelled_pixel_by_pixel() -> None:
    made, learnt, _ = fitted()
    given = maps(made)
    found = learnt.harmonise(given[::-1], "dry")
    for y, x in np.ndindex(6, 6):
        row = [int(b.symbols(m)[y, x]) for b, m in zip(made.ballots, given, strict=True)]
        label, sure = learnt.decide(np.array([row]), "dry")
        assert found.classes[y, x] == (255 if label[0] < 0 else label[0])
        assert found.confidence[y, x] == (255 if label[0] < 0 else round(100 * sure[0]))
        assert found.voters[y, x] == sum(v >= 0 for v in row)
    assert found.confidence_kind == "uncalibrated"


def test_maps_that_are_not_asked_for() -> None:
    made, learnt, _ = fitted()
    with pytest.raises(GridMismatchError, match="was given maps of"):
        learnt.harmonise(maps(made)[:3], "dry")
    strange = maps(made)
    strange[0].codes[0, 0] = 11
    with pytest.raises(LegendError, match=r"\[11\]"):
        learnt.harmonise(strange, "dry")


@pytest.mark.parametrize("layer", ["share", "stability", "probabilities"])
def test_evidence_makes_the_code_it_supports_likelier(layer: str) -> None:
    made = design(evidence=[{"product": "dynamic-world", "layer": layer}], method="bayes")
    ballot, voter, product = made.ballots[1], made.voters[1], made.products[1]
    (one,) = ballot.evidence
    states = one.states(voter, made.classes, product)
    tree = next(i for i, a in enumerate(made.classes.atoms) if "tree.broadleaf.evergreen" in a)
    water = next(i for i, a in enumerate(made.classes.atoms) if "water.inland_permanent.lake" in a)
    code = list(voter.codes).index(1)
    ratio = states[tree, code, :3] / states[water, code, :3]
    assert ratio[0] < ratio[1] < ratio[2]
    assert states[tree, code, -1] == states[water, code, -1]
    found = maps(made)[1]
    found.evidence.__setitem__("stability", np.full(found.codes.shape, -1.0))  # type: ignore[attr-defined]
    symbols = ballot.symbols(found)
    spoke = symbols >= 0
    assert (
        symbols[spoke] // ballot.levels == np.searchsorted(voter.codes, found.codes[spoke])
    ).all()
    assert symbols.max() < voter.codes.size * ballot.levels


def test_a_class_that_only_one_product_tells() -> None:
    names = ("esa-worldcover-v200", "dynamic-world", "io-lulc-annual")
    eleven = CATALOGS.taxonomy("worldcover-11")
    check_told(eleven, [CATALOGS.label(n) for n in names], CATALOGS.ontology, where="r.yaml")
    with pytest.raises(LegendError, match="moss_and_lichen"):
        check_told(eleven, [CATALOGS.label(n) for n in names[1:]], CATALOGS.ontology, where="r")
    made = design(names, "worldcover-11")
    place = [{int(code): i for i, code in enumerate(b.codes)} for b in made.ballots]
    # Moss to WorldCover is bare to the others, which call everything bare that is not trees.
    said = {(100, 7, 8): 40.0, (60, 7, 8): 60.0, (10, 1, 2): 100.0, (100, 1, 2): 1.0}
    rows = np.array([[place[p][code] for p, code in enumerate(row)] for row in said])
    learnt = fit(made, {"": Tuples(said=rows, sites=np.array(list(said.values())))}, {})
    label, sure = learnt.decide(rows, "")
    named = [learnt.classes.names[i] for i in label]
    assert named == ["moss_and_lichen", "bare_sparse_vegetation", "tree_cover", "tree_cover"]
    assert sure[0] > 0.5


@pytest.mark.parametrize("kind", ["share", "stability", None])
def test_only_arrays_that_are_asked_for_are_read(kind: str | None) -> None:
    asked = [] if kind is None else [{"product": "dynamic-world", "layer": kind}]
    made = design(evidence=asked, strata=[])
    given = maps(made)
    cube = {f"labels/{found.product}": found.codes[None] for found in given}
    cube["shares/dynamic-world"] = np.full((1, 6, 6), 60, np.uint8)
    arrays = [name for ballot in made.ballots for name in ballot.arrays]
    assert ("shares/dynamic-world" in arrays) == (kind == "share")
    found = maps_of_row(cube, 0, made.products, arrays=arrays)
    for before, after in zip(given, found, strict=True):
        assert np.array_equal(before.codes, after.codes)
    assert (found[1].share == (60 if kind == "share" else 0)).all()
    assert not set(found[1].evidence) - {"stability"}


@pytest.mark.parametrize(("codes", "levels", "dtype"), [(9, 1, "int8"), (9, 28, "int16")])
def test_symbols_are_numbers_of_code_and_level(codes: int, levels: int, dtype: str) -> None:
    layer = {1: [], 28: [{"product": "dynamic-world", "layer": "probabilities"}]}[levels]
    made = design(evidence=layer)
    ballot, found = made.ballots[1], maps(made, side=40)[1]
    assert (ballot.codes.size, ballot.levels) == (codes, levels)
    symbols = ballot.symbols(found)
    assert symbols.dtype == dtype
    level = ballot.evidence[0].level(found) if ballot.evidence else np.zeros((40, 40), int)
    for y, x in np.ndindex(40, 40):
        code = int(found.codes[y, x])
        silent = code in ballot.silent
        wanted = -1 if silent else list(ballot.codes).index(code) * levels + level[y, x]
        assert symbols[y, x] == wanted


# ---- calibration


def test_logistic_is_at_scipys_optimum() -> None:
    chance = np.random.default_rng(2)
    design_, weight = chance.normal(size=(400, 5)), chance.gamma(1.0, 1.0, 400)
    right = (chance.random(400) < 1 / (1 + np.exp(-design_ @ chance.normal(size=5)))).astype(float)
    ridge, start = np.array([0.1, 1, 2, 3, 4.0]), np.array([1.0, 0, 0, 0, 0])

    def loss(beta: np.ndarray) -> float:
        z = design_ @ beta
        fit_ = (weight * (np.logaddexp(0, z) - right * z)).sum()
        return float(fit_ + (ridge * (beta - start) ** 2).sum() / 2)

    best = minimize(loss, start, method="BFGS", options={"gtol": 1e-8})
    found = logistic(design_, right, weight, ridge, start)
    assert loss(found) <= best.fun + 1e-8
    assert np.allclose(found, best.x, atol=1e-4)


def test_calibration_undoes_a_known_overconfidence() -> None:
    chance = np.random.default_rng(4)
    n, sites = 40_000, 800
    stated = chance.uniform(0.3, 0.999, n)
    true = 1 / (1 + np.exp(-(0.5 * logit(stated) - 0.3)))
    right = chance.random(n) < true
    site, label = chance.integers(0, sites, n), chance.integers(0, 3, n)
    found = calibrate(
        stated, label, right, np.full(n, "a"), site, np.ones(n), np.where(right, label, 2), 4
    )
    now = found.apply(stated, label, "a")
    assert np.abs(now - true).mean() < 0.02 < np.abs(stated - true).mean()
    assert found.few == (3,)
    assert found.unseen == (3,)


def test_a_rare_class_at_many_sites_has_a_bias_of_its_own() -> None:
    """Rare is what has few pixels at each site, not what nobody has looked at."""
    chance = np.random.default_rng(9)
    sites, points = 300, 64
    site = np.repeat(np.arange(sites), points)
    label = np.where(chance.random(site.size) < 0.03, 1, 0)
    stated = np.full(site.size, 0.9)
    right = chance.random(site.size) < np.where(label == 1, 0.4, 0.9)
    found = calibrate(stated, label, right, np.full(site.size, "a"), site, np.ones(site.size),
                      np.where(right, label, 1 - label), 2)  # fmt: skip
    now = found.apply(np.full(2, 0.9), np.arange(2), "a")
    assert np.allclose(now, [0.9, 0.4], atol=0.05)


def test_ece_by_brute_force() -> None:
    chance = np.random.default_rng(6)
    sure = np.round(chance.random(500), 2)
    right, weight = chance.random(500) < sure**2, chance.gamma(1, 1, 500)
    bins: dict[int, list[float]] = {}
    before = 0.0
    for value in sorted(set(sure.tolist())):
        here = sure == value
        slot = bins.setdefault(min(14, int(before / weight.sum() * 15)), [0.0, 0.0])
        slot[0] += float((weight * value)[here].sum())
        slot[1] += float((weight * right)[here].sum())
        before += float(weight[here].sum())
    wanted = sum(abs(a - b) for a, b in bins.values()) / weight.sum()
    assert score.ece(sure, right, weight) == pytest.approx(wanted, rel=1e-9)


def test_chance_alone_has_an_ece_that_grows_with_correlation() -> None:
    chance = np.random.default_rng(7)
    sure, site = np.round(chance.uniform(0.4, 1, 6400), 2), np.repeat(np.arange(100), 64)
    alone = score.by_chance(sure, site, np.ones(6400), 0.0)
    together = score.by_chance(sure, site, np.ones(6400), 0.5)
    assert 0 < alone < 0.7 * together
    outcome = chance.random(100)[site]
    assert score.intraclass(outcome - outcome.mean(), site) == pytest.approx(1.0, abs=0.02)
    assert score.intraclass(chance.normal(size=8000), np.repeat(np.arange(2000), 4)) < 0.05


def test_reference_of_a_consensus_is_scored_on_blocks_held_out() -> None:
    _, learnt, said = fitted()
    chance = np.random.default_rng(8)
    observed = []
    for i in range(80):
        rows = said[chance.integers(0, len(said), 30)]
        label, _ = learnt.decide(rows, "dry")
        truth = np.where(chance.random(30) < 0.4, label, chance.integers(0, 8, 30))
        observed.append(Observed(site=f"s{i}", block=f"b{i}", stratum="dry", said=rows,
                                 truth=truth, weight=np.ones(30)))  # fmt: skip
    with pytest.warns(LasWarning, match="no reference point of snow_and_ice"):
        now, report = calibrated_on(learnt, observed)
    assert report["ece"] < report["uncalibrated"]
    assert report["low"] <= report["ece"] <= report["high"]
    assert "snow_and_ice" in report["unseen"]
    assert now.calibration is not None
    assert np.array_equal(now.decide(said, "dry")[0], learnt.decide(said, "dry")[0])


@pytest.mark.filterwarnings("ignore:no reference point of")
def test_what_is_scored_was_not_calibrated_on() -> None:
    """Halves of which one is nearly always right and the other hardly ever: each misleads the other."""
    _, learnt, said = fitted()
    chance, observed = np.random.default_rng(10), []
    for i in range(120):
        rows = said[chance.integers(1, len(said), 20)]
        label, _ = learnt.decide(rows, "dry")
        right = chance.random(20) < (0.9 if zlib.crc32(f"b{i}".encode()) % 2 else 0.1)
        truth = np.where(right, label, (label + 1) % 9)
        observed.append(Observed(site=f"s{i}", block=f"b{i}", stratum="dry", said=rows,
                                 truth=truth, weight=np.ones(20)))  # fmt: skip
    assert calibrated_on(learnt, observed)[1]["ece"] > 0.6


# ---- what is refused


def test_one_product_alone() -> None:
    with pytest.raises(RecipeError, match="with two products or more"):
        design(("dynamic-world",))


def test_products_that_share_no_class(monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch
    product = CATALOGS.label("esa-worldcover-v200")
    water = product.model_copy(
        update={"name": "only-water", "classes": [c for c in product.classes if c.value == 80]}
    )
    crops = CATALOGS.label("glc-fcs30d")
    crops = crops.model_copy(
        update={"name": "only-crops", "classes": [c for c in crops.classes if c.value == 10]}
    )
    with pytest.raises(RecipeError, match=r"only-water.*which no other of them says"):
        Design.of(
            ConsensusOptions(), CATALOGS.taxonomy("cover-9"), [water, crops], CATALOGS.ontology, {}
        )


def test_accuracies_that_contradict_the_legend() -> None:
    product = CATALOGS.label("esa-worldcover-v200")
    row = product.accuracy[0].model_copy(update={"value": 10, "users": 2.0, "overall": None})
    odd = product.model_copy(update={"accuracy": [*product.accuracy, row]})
    with pytest.raises(RecipeError, match="code 10 does not mean what its `means` says"):
        Design.of(
            ConsensusOptions(), CATALOGS.taxonomy("cover-9"),
            [odd, CATALOGS.label("dynamic-world")], CATALOGS.ontology, {},
        )  # fmt: skip


def test_groups_and_evidence_that_name_nothing() -> None:
    with pytest.raises(RecipeError, match=r"consensus.groups.0.products"):
        design(groups=[{"products": ["nlcd", "corine"], "rho": 0.5}])
    with pytest.raises(RecipeError, match=r"consensus.evidence.0.layer"):
        design(evidence=[{"product": "glc-fcs30d", "layer": "probabilities"}])


def test_points_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "points.csv"
    file.write_text("lon,lat,class\n10.5,48,water\n-170,-60,tree\n")
    found = read_points(file, ["tree", "water"])
    assert found.klass.tolist() == [1, 0]
    assert found.weight is None
    for text, said in (
        ("lon,lat\n1,2\n", "columns"), ("lon,lat,class\n1,2,lava\n", "class in line 2"),
        ("lon,lat,class\n1,99,tree\n", "place in line 2"), ("lon,lat,class\n", "points"),
        ("lon,lat,class,weight\n1,2,tree,0\n", "weight in line 2"),
    ):  # fmt: skip
        file.write_text(text)
        with pytest.raises(InputError, match=said):
            read_points(file, ["tree", "water"])


@pytest.mark.parametrize(
    ("crs", "lon", "lat"),
    [("EPSG:32760", 179.999, -44.0), ("EPSG:32601", -179.999, 66.0), ("EPSG:3031", 0.0, -89.9)],
)
def test_points_find_their_pixel(crs: str, lon: float, lat: float) -> None:
    from affine import Affine

    from las_builder.core.grid import from_lonlat

    x, y = (float(v[0]) for v in from_lonlat(crs, np.array([lon]), np.array([lat])))
    grid = Grid(crs, Affine(10, 0, math.floor(x) - 80, 0, -10, math.floor(y) + 80), 16, 16)
    at_lon, at_lat = grid.lonlat()
    inside, row, column = pixels_of(grid, at_lon.ravel(), at_lat.ravel())
    assert inside.all()
    assert np.array_equal(row, np.repeat(np.arange(16), 16))
    assert np.array_equal(column, np.tile(np.arange(16), 16))
    assert not pixels_of(grid, np.array([lon]), np.array([-lat]))[0].any()


def test_strata_of_places() -> None:
    found = strata_at(
        CATALOGS, ["climate-group", "continent"], [11.0, 25.0, None], [48.0, 25.0, 1.0]
    )
    assert found[0].endswith("/Europe")
    assert found[1] == "dry/Africa"
    assert found[2] == ""
    assert strata_at(CATALOGS, [], [11.0], [48.0]) == [""]
    with pytest.raises(RecipeError, match="cities"):
        strata_at(CATALOGS, ["cities"], [11.0], [48.0])
