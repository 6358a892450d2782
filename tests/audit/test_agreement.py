"""Agreement, composition, areas and drift of a small cube against loops over its pixels."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from audit_kit import CATALOGS, legend, population, row

from las_builder.audit import (
    Groups,
    Level,
    both_right,
    class_shares,
    compare,
    drift,
    drifts_in_time,
    related,
    stated,
)

PIXELS = 12
COVER = CATALOGS.taxonomy("cover-9")
ROWS = [row(0, 0), row(1, 1), row(2, 0), row(3, 2), row(4, 3)]  # site 0 has two dates
SITE = [0, 1, 0, 2, 3]
DATES = [2, 1, 1, 1]
WEIGHT = [2.0, 3.5, 50.0, 1.0]


@pytest.fixture
def pair(counted):
    rng = np.random.default_rng(5)
    p, q = legend("p", [9, 1, 2, 3], "int16"), legend("q", [-5, 20, 30, 40], "int16")
    labels = [
        rng.choice([9, 1, 2, 3], (5, PIXELS, PIXELS)).astype("int16"),
        rng.choice([-5, 20, 30, 40], (5, PIXELS, PIXELS)).astype("int16"),
    ]
    labels[1][3] = 40  # site 2 says nothing that compares
    level = Level(COVER, {"p": {1: 0, 2: 1, 3: 255, 9: 255}, "q": {20: 0, 30: 1, -5: 255, 40: 255}})
    return (p, q), labels, level, counted((p, q), labels, ROWS)


def test_agreement_against_loops(pair) -> None:
    products, labels, level, counts = pair
    groups = Groups(("north", "south"), np.array([0, 1, 0, 1]))
    people = population(WEIGHT, DATES, PIXELS**2, groups={"climate": groups})
    can = np.array([[1, 0, -1, 1], [0, 1, -1, 1], [-1] * 4, [1, 1, -1, 1]], np.int8)
    can = np.ones((4, 4), np.int8)
    can[0, 0] = 0  # codes 1 and -5
    found = compare(counts, people, products, (0, 1), [level], can)
    (at,) = found.levels

    joint: Counter = Counter()
    part, whole, possible, by = Counter(), Counter(), Counter(), Counter()
    row_of, hit = Counter(), Counter()
    for r, site in zip(ROWS, SITE, strict=True):
        share = 1 / DATES[site] / PIXELS**2
        for c, d in zip(labels[0][r.row].flat, labels[1][r.row].flat, strict=True):
            possible[site] += share * (not (c == 1 and d == -5))
            one, two = level.tables["p"][int(c)], level.tables["q"][int(d)]
            if 255 in (one, two):
                continue
            joint[one, two] += WEIGHT[site] * share
            whole[site] += share
            part[site] += share * (one == two)
            row_of[one] += WEIGHT[site] * share
            hit[one] += WEIGHT[site] * share * (one == two)
            by[site % 2 == 1, one == two] += WEIGHT[site] * share
    total = sum(joint.values())
    assert at.table == pytest.approx({k: v / total for k, v in joint.items()})
    assert at.overall.value == pytest.approx(sum(WEIGHT[s] * part[s] for s in part) / total)
    assert at.overall.sites == 3
    z = [WEIGHT[s] * (part[s] - at.overall.value * whole[s]) / total for s in range(4)]
    assert at.overall.error == pytest.approx(math.sqrt(4 / 3 * sum(v * v for v in z)))
    assert at.compared.value == pytest.approx(total / sum(WEIGHT))
    assert found.possible.value == pytest.approx(
        sum(WEIGHT[s] * possible[s] for s in range(4)) / sum(WEIGHT)
    )
    for c in at.classes:
        assert c.of_a.value == pytest.approx(hit[c.index] / row_of[c.index])
        assert c.share_a.value == pytest.approx(row_of[c.index] / total)
    south = at.by["climate"]["south"]
    assert south.value == pytest.approx(by[True, True] / (by[True, True] + by[True, False]))
    assert list(at.by["climate"]) == ["south", "north"]  # two sites that compare against one
    edge, inner, near = at.edge, at.interior, at.at_edges
    parts = near.value * edge.value + (1 - near.value) * (inner.value if near.value < 1 else 0)
    assert parts == pytest.approx(at.overall.value)


def test_edges_and_interiors_against_loops(counted) -> None:
    rng = np.random.default_rng(9)
    p, q = legend("p", [9, 1, 2]), legend("q", [9, 1, 2])
    labels = [
        np.kron(rng.integers(1, 3, (5, 2, 2)), np.ones((1, 8, 8), int)).astype("uint8")
        for _ in "pq"
    ]
    labels[1][:, :, 3:] = np.where(rng.random((5, 16, 13)) < 0.02, 1, labels[1][:, :, 3:])
    level = Level(COVER, {name: {1: 0, 2: 1, 9: 255} for name in "pq"})
    counts = counted((p, q), labels, ROWS, name="blocks")
    can = np.ones((3, 3), np.int8)
    (at,) = compare(counts, population(WEIGHT, DATES, 256), (p, q), (0, 1), [level], can).levels
    part, whole = Counter(), Counter()
    for r, site in zip(ROWS, SITE, strict=True):
        for y in range(16):
            for x in range(16):
                near = any(
                    abs(v - y) + abs(u - x) <= 2 and one[r.row, v, u] != one[r.row, y, x]
                    for one in labels
                    for v in range(max(0, y - 2), min(16, y + 3))
                    for u in range(max(0, x - 2), min(16, x + 3))
                )
                weight = WEIGHT[site] / DATES[site]
                whole[near] += weight
                part[near] += weight * (labels[0][r.row, y, x] == labels[1][r.row, y, x])
    assert whole[False] > 0.2 * whole[True]
    assert at.edge.value == pytest.approx(part[True] / whole[True])
    assert at.interior.value == pytest.approx(part[False] / whole[False])
    assert at.at_edges.value == pytest.approx(whole[True] / (whole[True] + whole[False]))


def test_where_both_can_be_right_against_loops(pair) -> None:
    products, labels, level, counts = pair
    may = {
        "p": {1: frozenset({0}), 2: frozenset({1, 4}), 3: frozenset({2, 0})},
        "q": {20: frozenset({0}), 30: frozenset({4}), 40: frozenset({2, 1})},
    }
    coarse = Level(COVER, level.tables, may)
    can = np.ones((4, 4), np.int8)
    people = population(WEIGHT, DATES, 144)
    (at,) = compare(counts, people, products, (0, 1), [coarse], can).levels
    part = whole = 0.0
    for r, site in zip(ROWS, SITE, strict=True):
        for c, d in zip(
            labels[0][r.row].ravel().tolist(), labels[1][r.row].ravel().tolist(), strict=True
        ):
            one, two = may["p"].get(c, frozenset()), may["q"].get(d, frozenset())
            if one and two:
                whole += WEIGHT[site] / DATES[site]
                part += WEIGHT[site] / DATES[site] * bool(one & two)
    assert 0.1 < part / whole < 0.9
    assert at.can_agree.value == pytest.approx(part / whole)
    # Without sets, a code is what its single class says.
    (plain,) = compare(counts, people, products, (0, 1), [level], can).levels
    assert plain.can_agree.value == pytest.approx(plain.overall.value)


def test_dates_of_a_site_are_no_more_evidence(pair, counted) -> None:
    products, labels, level, counts = pair
    can = np.ones((4, 4), np.int8)
    once = compare(counts, population(WEIGHT, DATES, 144), products, (0, 1), [level], can)
    twice = [np.concatenate([one, one]) for one in labels]
    rows = sorted((*ROWS, *(row(r.row + 5, r.site) for r in ROWS)), key=lambda r: r.site)
    again = compare(
        counted(products, twice, sorted(rows, key=lambda r: r.row), name="twice"),
        population(WEIGHT, [2 * n for n in DATES], 144), products, (0, 1), [level], can,
    )  # fmt: skip
    one, two = once.levels[0].overall, again.levels[0].overall
    assert (two.value, two.error) == pytest.approx((one.value, one.error), rel=1e-12)


def test_composition_and_areas_against_loops(pair) -> None:
    products, labels, level, counts = pair
    found = stated(counts, population(WEIGHT, DATES, 144, area_km2=1000.0), 0, products[0], [level])
    share, centre, said = Counter(), Counter(), 0.0
    for r, site in zip(ROWS, SITE, strict=True):
        for c in labels[0][r.row].ravel().tolist():
            share[c] += WEIGHT[site] / DATES[site] / 144
        centre[int(labels[0][r.row][6, 6])] += WEIGHT[site] / DATES[site]
    said = sum(v for c, v in share.items() if c != 9)
    assert set(found.composition) == {1, 2, 3}
    for code, e in found.composition.items():
        assert e.value == pytest.approx(share[code] / said)
    assert found.nothing.value == pytest.approx(share[9] / sum(WEIGHT))
    areas = {code: e.value for code, e in found.areas.items()}
    assert areas == pytest.approx({c: 1000 * v / sum(WEIGHT) for c, v in centre.items()})
    assert sum(areas.values()) == pytest.approx(1000)  # what it says nothing of is area too
    by_class = found.by_class["cover-9"]
    assert by_class[255].value == pytest.approx(share[3] / said)
    assert sum(e.value for e in found.class_areas["cover-9"].values()) == pytest.approx(1000)


def test_shares_for_reference_points_are_those_of_areas(pair) -> None:
    products, labels, level, counts = pair
    people = population(WEIGHT, DATES, 144, area_km2=1.0)
    shares = class_shares(counts, people, 0, products[0], level)
    centre = np.zeros((4, 9))
    for r, site in zip(ROWS, SITE, strict=True):
        index = level.tables["p"][int(labels[0][r.row][6, 6])]
        if index != 255:
            centre[site, index] += 1 / DATES[site]
    np.testing.assert_allclose(shares.value, np.array(WEIGHT) @ centre / sum(WEIGHT))
    areas = stated(counts, people, 0, products[0], [level]).class_areas["cover-9"]
    error = np.sqrt(shares.variance(np.eye(9)))
    for index, e in areas.items():
        if index != 255:
            assert (shares.value[index], error[index]) == pytest.approx((e.value, e.error))
    whole = class_shares(counts, people, 0, products[0], level, centre=False)
    assert abs(whole.value - shares.value).max() > 0.01


def test_without_known_chances_there_are_no_areas(pair) -> None:
    products, _, level, counts = pair
    people = population([1] * 4, DATES, 144, area_km2=None, refused="chosen by hand")
    found = stated(counts, people, 0, products[0], [level])
    assert found.areas is None
    assert found.class_areas is None
    assert found.composition


def test_products_that_share_no_class(pair) -> None:
    products, _, level, counts = pair
    alone = Level(COVER, {"p": level.tables["p"]})
    can = np.full((4, 4), -1, np.int8)
    found = compare(counts, population(WEIGHT, DATES, 144), products, (0, 1), [alone], can)
    assert found.levels == ()
    assert math.isnan(found.possible.value)


def test_drift_against_loops(counted) -> None:
    rng = np.random.default_rng(6)
    old, new = (CATALOGS.label(f"esa-worldcover-{v}") for v in ("v100", "v200"))
    assert related(old, new)
    assert related(new, old)
    assert not related(old, CATALOGS.label("corine"))
    a = rng.choice([0, 10, 30, 50], (5, PIXELS, PIXELS)).astype("uint8")
    b = np.where(rng.random(a.shape) < 0.2, rng.choice([0, 10, 30, 80], a.shape), a).astype("uint8")
    people = population(WEIGHT, DATES, 144)
    for name, products, labels in (
        ("as", (old, new), (a, b)), ("turned", (new, old), (b, a)),
    ):  # fmt: skip
        found = drift(counted(products, labels, ROWS, name=name), people, products, (0, 1))
        assert (found.before, found.after) == (old.name, new.name)  # the earlier epoch first
        moved, total, before, after = Counter(), 0.0, Counter(), Counter()
        for r, site in zip(ROWS, SITE, strict=True):
            for c, d in zip(a[r.row].ravel().tolist(), b[r.row].ravel().tolist(), strict=True):
                if 0 in (c, d):
                    continue
                w = WEIGHT[site] / DATES[site]
                total += w
                before[c] += w
                after[d] += w
                moved[c, d] += w * (c != d)
        assert found.changed.value == pytest.approx(sum(moved.values()) / total)
        for code, turn in found.codes.items():
            assert turn.before.value == pytest.approx(before[code] / total)
            assert turn.net.value == pytest.approx((after[code] - before[code]) / total)
        assert found.moves[0][:2] == max(moved, key=moved.get)
        assert found.codes[50].kept.value == pytest.approx(
            1 - sum(v for (c, _), v in moved.items() if c == 50) / before[50]
        )


def test_drift_between_years_of_one_product(counted) -> None:
    product = CATALOGS.label("esa-worldcover-v200")
    codes = np.full((3, PIXELS, PIXELS), 10, "uint8")
    codes[1, :3] = 30
    rows = [row(0, 0, ("a",), 2019), row(1, 0, ("b",), 2020), row(2, 1, ("a",), 2019)]
    counts = counted((product,), (codes,), rows)
    (found,) = drifts_in_time(counts, population([1, 1], [2, 1], 144), 0, product)
    assert (found.before, found.after) == (f"{product.name} 2019", f"{product.name} 2020")
    assert found.changed.value == pytest.approx(3 / 12)
    assert found.moves == ((10, 30, pytest.approx(0.25)),)


def test_both_can_be_right_where_sets_meet() -> None:
    worldcover, io = CATALOGS.label("esa-worldcover-v200"), CATALOGS.label("io-lulc-annual")
    table = both_right(worldcover, io, CATALOGS.ontology)
    assert table.shape == (len(worldcover.codes), len(io.codes))
    at = {c: i for i, c in enumerate(sorted(worldcover.codes))}
    to = {c: i for i, c in enumerate(sorted(io.codes))}
    assert table[at[10], to[2]] == 1  # trees
    assert table[at[10], to[7]] == 0  # trees and built area
    assert table[at[30], to[11]] == 1  # grass may be rangeland
    assert (table[at[worldcover.nodata]] == -1).all()
