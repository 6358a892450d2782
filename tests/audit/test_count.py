"""Counts of any code against loops over pixels; edges against distances; jobs that split a site."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from audit_kit import legend, row

from las_builder.audit import Counts, near_edges
from las_builder.audit.count import CENTRE, CODE, EDGE, PAIR, TIME
from las_builder.errors import LegendError

PIXELS = 12
ODD = {
    "byte": ("uint8", [255, 0, 10, 20]),
    "corine": ("int16", [-32768, -128, -1, 0, 111, 523, 32767]),
    "wide": ("int32", [2**31 - 1, -(2**31), -7, 3]),
    "huge": ("uint32", [2**32 - 1, 0, 5, 2**31]),
    "many": ("uint8", list(range(255, -1, -1))),
}


def as_counter(counts: Counts, kind: int, a: int, b: int = 0) -> Counter:
    out: Counter = Counter()
    for found in counts.rows(kind, a, b):
        keys = zip(
            *(found[k].tolist() for k in ("site", "edge", "when_a", "when_b", "code_a", "code_b")),
            strict=True,
        )
        for key, n in zip(keys, found["n"].tolist(), strict=True):
            out[key] += n
    return out


def near_by_loops(codes: np.ndarray, within: int) -> np.ndarray:
    """Steps to the nearest pixel of another code, one less than the way to it."""
    h, w = codes.shape
    out = np.zeros(codes.shape, bool)
    for y in range(h):
        for x in range(w):
            out[y, x] = any(
                abs(v - y) + abs(u - x) <= within and codes[v, u] != codes[y, x]
                for v in range(h)
                for u in range(w)
            )
    return out


@pytest.mark.parametrize("within", [0, 1, 2, 3])
def test_edges_against_distances(within: int) -> None:
    rng = np.random.default_rng(within)
    codes = np.kron(rng.integers(0, 3, (4, 5)), np.ones((5, 4), int))
    np.testing.assert_array_equal(near_edges(codes, within), near_by_loops(codes, within))


@pytest.mark.parametrize("order", [list(ODD), list(ODD)[::-1]], ids=["up", "down"])
def test_counts_and_pairs_of_any_code_against_loops(order: list[str], counted) -> None:
    rng = np.random.default_rng(3)
    products = [legend(name, ODD[name][1], ODD[name][0]) for name in order]
    labels = [
        np.kron(rng.choice(ODD[name][1], (5, 4, 4)), np.ones((1, 3, 3), int)).astype(ODD[name][0])
        for name in order
    ]
    v = ("v",) * len(order)
    rows = [row(0, 0, v), row(1, 1, v), row(3, 0, v), row(4, 2, v)]  # row 2 is a gap
    for size in (100, 1):
        counts = counted(products, labels, rows, size, f"s{size}")
        for a in range(len(order)):
            want, centre = Counter(), Counter()
            for r in rows:
                for code in labels[a][r.row].ravel().tolist():
                    want[r.site, 0, 0, 0, code, 0] += 1
                centre[r.site, 0, 0, 0, int(labels[a][r.row][6, 6]), 0] += 1
            assert as_counter(counts, CODE, a) == want
            assert as_counter(counts, CENTRE, a) == centre
            for b in range(a + 1, len(order)):
                want = Counter()
                for r in rows:
                    one, two = labels[a][r.row], labels[b][r.row]
                    edge = near_by_loops(one, EDGE) | near_by_loops(two, EDGE)
                    for e, c, d in zip(
                        edge.ravel().tolist(), one.ravel().tolist(), two.ravel().tolist(), strict=True
                    ):  # fmt: skip
                        want[r.site, int(e), 0, 0, c, d] += 1
                assert as_counter(counts, PAIR, a, b) == want


@pytest.mark.parametrize("size", [1, 2, 100])
def test_versions_of_a_site_meet_wherever_jobs_are_cut(size: int, counted) -> None:
    rng = np.random.default_rng(4)
    p, q = legend("p", [0, 1, 2, 3]), legend("q", [0, 5])
    labels = [rng.integers(0, 4, (4, PIXELS, PIXELS)).astype("uint8"),
              np.full((4, PIXELS, PIXELS), 5, "uint8")]  # fmt: skip
    rows = [
        row(0, 0, ("2019", "v"), 2019), row(1, 0, ("2020", "v"), 2020),
        row(2, 1, ("2019", "v"), 2019), row(3, 1, ("2019", "v"), 2020),  # the same map twice
    ]  # fmt: skip
    counts = counted([p, q], labels, rows, size)
    want: Counter = Counter()
    for c, d in zip(labels[0][0].ravel().tolist(), labels[0][1].ravel().tolist(), strict=True):
        want[0, 0, 2019, 2020, c, d] += 1
    assert as_counter(counts, TIME, 0, 0) == want
    assert not as_counter(counts, TIME, 1, 1)
    assert sum(as_counter(counts, CODE, 0).values()) == 4 * PIXELS**2


def test_codes_outside_the_legend_are_refused_and_said_to_be_interpolated(counted) -> None:
    for dtype in ("uint8", "int16"):
        product = legend("p", [0, 10, 20], dtype)
        codes = np.full((1, PIXELS, PIXELS), 10, dtype)
        codes[0, 3, 4], codes[0, 5, 5] = 15, 17
        with pytest.raises(LegendError, match="interpolated") as told:
            counted([product], [codes], [row(0, 0)], name=dtype)
        assert told.value.found == [15, 17]
        assert "\n" not in str(told.value)


def test_a_table_that_is_there_is_not_made_again(counted, tmp_path: Path) -> None:
    codes = np.full((1, PIXELS, PIXELS), 10, "uint8")
    products = [legend("p", [0, 10])]
    (first,) = counted(products, [codes], [row(0, 0)]).files
    stamp = first.stat().st_mtime_ns
    assert counted(products, [codes], [row(0, 0)]).files == (first,)
    assert first.stat().st_mtime_ns == stamp
    (other,) = counted(products, [codes], [row(0, 1)]).files
    assert other != first
