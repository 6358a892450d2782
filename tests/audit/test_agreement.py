"""Ratios against the bootstrap and by hand; counts and tables of a small cube against loops."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import zarr

from las_builder.audit import (
    AuditJob,
    SiteCounts,
    agreement,
    composition,
    count_block,
    merge,
    ratio,
)
from las_builder.catalogs import Catalogs, LabelProduct
from las_builder.fetch import PatchResult

PIXELS = 12


def clusters(sites: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels counted and looked at and weight of sites that differ as patches do."""
    rng = np.random.default_rng(seed)
    n = rng.integers(40, 400, sites)
    return rng.binomial(n, rng.beta(0.8, 1.6, sites)), n, rng.uniform(1, 6, sites)


def test_a_ratio_by_hand() -> None:
    # R = (1*1 + 1*0 + 2*2) / (1*2 + 1*2 + 2*4) = 5/12; residuals 1/6, -5/6, 4/6;
    # sum of squares 42/36, times 3/2 is 7/4; error sqrt(7/4) / 12.
    found = ratio([1, 0, 2], [2, 2, 4], [1, 1, 2])
    assert found.value == pytest.approx(5 / 12, rel=1e-15)
    assert found.error == pytest.approx(math.sqrt(7) / 24, rel=1e-14)
    assert found.sites == 2


def test_with_sites_alike_the_error_is_that_of_a_mean() -> None:
    a = np.array([3.0, 9, 0, 5, 7, 7, 1, 2])
    found = ratio(a, [10] * 8, [4.2] * 8)
    assert found.value == pytest.approx(a.mean() / 10)
    assert found.error == pytest.approx(a.std(ddof=1) / 10 / math.sqrt(8))


def test_the_error_is_that_of_drawing_sites_again() -> None:
    a, n, w = clusters(150)
    rng = np.random.default_rng(1)
    drawn = rng.integers(0, len(a), (4000, len(a)))
    again = (w * a)[drawn].sum(1) / (w * n)[drawn].sum(1)
    found = ratio(a, n, w)
    assert found.value == pytest.approx((w * a).sum() / (w * n).sum())
    assert found.error == pytest.approx(again.std(), rel=0.06)


def test_more_pixels_of_the_same_sites_are_no_more_evidence() -> None:
    a, n, w = clusters(30)
    once, often = ratio(a, n, w), ratio(a * 1000, n * 1000, w)
    assert (often.value, often.error) == pytest.approx((once.value, once.error), rel=1e-12)
    pixels = math.sqrt(once.value * (1 - once.value) / n.sum())
    assert once.error > 3 * pixels  # what counting pixels as independent would claim
    scaled = ratio(a, n, w * 7)
    assert (scaled.value, scaled.error) == pytest.approx((once.value, once.error), rel=1e-12)


def test_sites_that_show_nothing_change_nothing() -> None:
    a, n, w = clusters(20)
    assert ratio([*a, 0, 0], [*n, 0, 0], [*w, 5, 9]) == ratio(a, n, w)
    nothing = ratio([0], [0], [1])
    assert math.isnan(nothing.value)
    assert math.isnan(nothing.error)
    assert nothing.sites == 0
    one = ratio([3], [4], [2])
    assert one.value == 0.75
    assert math.isnan(one.error)


def cube(path: Path, labels: Mapping[str, np.ndarray]) -> Path:
    group = zarr.open_group(path, mode="w", zarr_format=3)
    for name, codes in labels.items():
        group.create_array(f"labels/{name}", data=codes)
    return path


def rows(*sites: str) -> tuple[PatchResult, ...]:
    return tuple(
        PatchResult(row=i, site=site, slot=0, scene="s", state="stored")
        for i, site in enumerate(sites)
        if site
    )


def by_loops(
    labels: Mapping[str, np.ndarray], sites: tuple[str, ...]
) -> dict[str, tuple[dict[str, Counter[int]], dict[tuple[str, str], Counter[tuple[int, int]]]]]:
    names = list(labels)
    out = {s: ({n: Counter() for n in names}, {}) for s in sites if s}
    for row, site in enumerate(sites):
        if not site:
            continue
        codes, pairs = out[site]
        for y in range(PIXELS):
            for x in range(PIXELS):
                values = {n: int(labels[n][row, y, x]) for n in names}
                for i, a in enumerate(names):
                    codes[a][values[a]] += 1
                    for b in names[i + 1 :]:
                        pairs.setdefault((a, b), Counter())[values[a], values[b]] += 1
    return out


ODD: dict[str, tuple[str, list[int]]] = {
    "byte": ("uint8", [0, 10, 20, 255]),
    "corine": ("int16", [-32768, -128, -1, 0, 111, 523, 32767]),
    "wide": ("int32", [-(2**31), -7, 3, 2**31 - 1]),
    "huge": ("uint32", [0, 5, 2**31, 2**32 - 1]),
}


@pytest.mark.parametrize("order", [list(ODD), list(ODD)[::-1]], ids=["up", "down"])
def test_counts_and_pairs_of_any_code_against_loops(order: list[str], tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    sites = ("a", "b", "", "a", "c")  # row 2 is a gap; a has two dates
    labels = {
        name: rng.choice(ODD[name][1], (len(sites), PIXELS, PIXELS)).astype(ODD[name][0])
        for name in order
    }
    job = AuditJob(group=cube(tmp_path / "0", labels), rows=rows(*sites), products=tuple(order))
    found = count_block(job)
    assert [c.site for c in found] == ["a", "b", "c"]
    want = by_loops(labels, sites)
    for counts in found:
        assert (counts.codes, counts.pairs) == want[counts.site]
        assert all(sum(c.values()) % PIXELS**2 == 0 for c in counts.pairs.values())


def test_a_site_in_two_blocks_is_one_site(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    labels = {n: rng.integers(0, 4, (4, PIXELS, PIXELS)).astype("uint8") for n in ("p", "q")}
    group = cube(tmp_path / "0", labels)
    lines = rows("a", "b", "a", "b")
    (whole,) = [
        c for c in count_block(AuditJob(group=group, rows=lines, products=("p", "q")))
        if c.site == "a"
    ]  # fmt: skip
    merged = None
    for line in lines:
        if line.site == "a":
            (part,) = count_block(AuditJob(group=group, rows=(line,), products=("p", "q")))
            merged = merge(merged, part)
    assert merged == whole


@pytest.fixture(scope="module")
def corine() -> LabelProduct:
    return Catalogs.load().label("corine")


def test_composition_leaves_out_nodata_and_weighs_sites(corine: LabelProduct) -> None:
    one, two, three = [c.value for c in corine.classes if c.value != corine.nodata][:3]
    name = corine.name
    counts = [
        SiteCounts("a", {name: {one: 30, two: 10, corine.nodata: 60}}, {}),
        SiteCounts("b", {name: {two: 100}}, {}),
        SiteCounts("c", {name: {corine.nodata: 100}}, {}),
    ]
    found = composition(counts, {"a": 4.0, "b": 1.0, "c": 1000.0}, corine)
    assert set(found.shares) == {one, two}  # what occurs, and never nodata
    assert three not in found.shares
    assert found.shares[one].value == pytest.approx(4 * 30 / (4 * 40 + 100))
    assert found.shares[two].value == pytest.approx((4 * 10 + 100) / (4 * 40 + 100))
    assert (found.shares[one].sites, found.shares[two].sites) == (1, 2)
    assert sum(e.value for e in found.shares.values()) == pytest.approx(1)
    alike = composition(counts, {"a": None, "b": None}, corine)
    assert alike.shares[one].value == pytest.approx(30 / 140)


def test_agreement_of_a_cube_against_loops(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    sites = ("a", "b", "a", "c", "d")
    labels = {
        "p": rng.choice([-128, 1, 2, 3], (5, PIXELS, PIXELS)).astype("int16"),
        "q": rng.choice([-5, 20, 30, 40], (5, PIXELS, PIXELS)).astype("int16"),
    }
    labels["q"][3] = 40  # c says nothing that compares
    tables = {1: 0, 2: 1, 3: 255, -128: 255}, {20: 0, 30: 1, -5: 1, 40: 255}
    weights = {"a": 2.0, "b": 3.5, "c": 50.0, "d": None}
    group = cube(tmp_path / "0", labels)
    counts = count_block(AuditJob(group=group, rows=rows(*sites), products=("p", "q")))
    found = agreement(counts, weights, ("p", "q"), tables, "cover-9")

    joint: Counter[tuple[int, int]] = Counter()
    for row, site in enumerate(sites):
        for code_p, code_q in zip(labels["p"][row].flat, labels["q"][row].flat, strict=True):
            pair = tables[0][int(code_p)], tables[1][int(code_q)]
            if 255 not in pair:
                joint[pair] += weights[site] or 1.0  # type: ignore[assignment]
    total = sum(joint.values())
    assert found.table == pytest.approx({k: v / total for k, v in joint.items()})
    assert sum(found.table.values()) == pytest.approx(1)
    same = sum(v for (a, b), v in joint.items() if a == b) / total
    assert found.overall.value == pytest.approx(same)
    assert found.overall.sites == 3
    assert found.overall.error > 0
    # the same site once more, pixel for pixel, is no second site
    doubled = count_block(
        AuditJob(group=group, rows=rows(*sites) + rows(*sites), products=("p", "q"))
    )
    again = agreement(doubled, weights, ("p", "q"), tables, "cover-9").overall
    assert (again.value, again.error) == pytest.approx(
        (found.overall.value, found.overall.error), rel=1e-12
    )


def test_products_that_never_meet() -> None:
    counts = [SiteCounts("a", {}, {("p", "q"): {(1, 2): 9}}), SiteCounts("b", {}, {})]
    found = agreement(counts, {}, ("p", "q"), ({1: 0}, {2: 255}), "cover-9")
    assert found.table == {}
    assert math.isnan(found.overall.value)
