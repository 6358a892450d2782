"""Counts of pairs and tuples against Python's own Counter, pixel by pixel."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from las_builder.errors import GridMismatchError
from las_builder.harmonise.count import confusion, count_pairs, count_tuples, number_tuples

TYPES = ["uint8", "uint16", "int16", "int32", "int8"]


def _maps(k: int, dtype: str, shape: tuple[int, ...] = (37, 41), codes: int = 9) -> list[Any]:
    rng = np.random.default_rng(k)
    info = np.iinfo(dtype)
    low = info.min if info.bits < 32 else -70_000
    high = info.max if info.bits < 32 else 70_000
    legend = rng.integers(low, high, codes, endpoint=True).astype(dtype)
    legend[:2] = low, high
    return [legend[rng.integers(0, codes, shape)] for _ in range(k)]


def _brute(maps: list[Any], valid: NDArray[np.bool_] | None = None) -> dict[tuple[int, ...], int]:
    columns = [m.ravel().tolist() for m in maps]
    mask = [True] * maps[0].size if valid is None else valid.ravel().tolist()
    return dict(Counter(t for t, v in zip(zip(*columns, strict=True), mask, strict=True) if v))


def _as_dict(a: Any, b: Any, n: Any) -> dict[tuple[int, int], int]:
    return {
        (x, y): c for x, y, c in zip(a.tolist(), b.tolist(), n.tolist(), strict=True)
    }  # fmt: skip


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("masked", [False, True])
def test_pairs_are_those_of_a_counter(dtype: str, masked: bool) -> None:
    a, b = _maps(2, dtype)
    valid = np.random.default_rng(1).random(a.shape) < 0.7 if masked else None
    codes_a, codes_b, counts = count_pairs(a, b, valid=valid)
    assert _as_dict(codes_a, codes_b, counts) == _brute([a, b], valid)
    assert codes_a.dtype == a.dtype
    assert codes_b.dtype == b.dtype
    assert list(zip(codes_a.tolist(), codes_b.tolist(), strict=True)) == sorted(
        zip(codes_a.tolist(), codes_b.tolist(), strict=True)
    )


@pytest.mark.parametrize("size", [1, 15, 16, 4095, 4096, 4097, 3 * 4096 + 21])
@pytest.mark.parametrize("spread", [5, 255])
def test_pairs_over_any_number_of_tiles(size: int, spread: int) -> None:
    rng = np.random.default_rng(size)
    a, b = (rng.integers(0, spread, size).astype(np.uint8) for _ in range(2))
    valid = rng.random(size) < 0.5
    assert _as_dict(*count_pairs(a, b)) == _brute([a, b])
    assert _as_dict(*count_pairs(a, b, valid=valid)) == _brute([a, b], valid)


@pytest.mark.parametrize("top", [(254, 256), (255, 255), (65534, 0), (65535, 0), (0, 65534)])
def test_pairs_where_a_table_just_fits_or_just_does_not(top: tuple[int, int]) -> None:
    rng = np.random.default_rng(8)
    a, b = (rng.integers(0, n + 1, 5000).astype(np.uint16) for n in top)
    a[0], b[0] = top
    valid = rng.random(5000) < 0.5
    assert _as_dict(*count_pairs(a, b)) == _brute([a, b])
    assert _as_dict(*count_pairs(a, b, valid=valid)) == _brute([a, b], valid)


def test_two_maps_of_different_types_and_strides() -> None:
    a = _maps(1, "uint8", (60, 50))[0][::2, ::-1].T
    b = np.asfortranarray(_maps(1, "uint16", (50, 30))[0])
    valid = np.random.default_rng(2).random((30, 100))[:, ::2].T > 0.5
    assert not a.flags.c_contiguous
    codes_a, codes_b, counts = count_pairs(a, b, valid=valid)
    assert _as_dict(codes_a, codes_b, counts) == _brute([a, b], valid)


def test_pairs_of_so_many_codes_that_no_table_holds_them() -> None:
    rng = np.random.default_rng(3)
    a, b = (rng.integers(0, 1 << 16, 9000).astype(np.uint16) for _ in range(2))
    assert _as_dict(*count_pairs(a, b)) == _brute([a, b])


def test_nothing_to_count() -> None:
    empty = np.zeros((0, 5), np.uint8)
    assert [part.size for part in count_pairs(empty, empty)] == [0, 0, 0]
    tuples, counts = count_tuples([empty, empty, empty])
    assert tuples.shape == (0, 3)
    assert counts.size == 0
    full = np.full((4, 4), 7, np.uint8)
    none = np.zeros((4, 4), bool)
    assert [part.size for part in count_pairs(full, full, valid=none)] == [0, 0, 0]
    assert count_tuples([full], valid=none)[1].size == 0
    assert confusion(full, full, (3, 3)).sum() == 0


def test_maps_of_one_code_only() -> None:
    a, b = np.full(13, 255, np.uint8), np.zeros(13, np.uint16)
    assert _as_dict(*count_pairs(a, b)) == {(255, 0): 13}


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64"])
def test_confusion_of_classes_leaves_out_what_is_none(dtype: str) -> None:
    rng = np.random.default_rng(4)
    a, b = (rng.choice([0, 1, 2, 3, 120], (5, 11, 7)).astype(dtype) for _ in range(2))
    if dtype != "uint8":
        a[0, 0, 0], b[0, 0, 1] = -1, -200
    valid = rng.random(a.shape) < 0.8
    table = confusion(a, b, (3, 4), valid=valid)
    brute = _brute([a, b], valid)
    assert table.tolist() == [[brute.get((i, j), 0) for j in range(4)] for i in range(3)]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16"])
@pytest.mark.parametrize("shape", [(200, 3), (128, 254), (255, 255), (255, 256), (300, 400)])
def test_confusion_of_many_classes(dtype: str, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(9)
    info = np.iinfo(dtype)
    a, b = (rng.integers(info.min, info.max, 9001, endpoint=True, dtype=dtype) for _ in range(2))
    a[:4000], b[2000:7000] = rng.integers(0, 127, 4000), rng.integers(0, 127, 5000)
    table = confusion(a, b, shape)
    expected = np.zeros(shape, np.int64)
    for (i, j), n in _brute([a, b]).items():
        if 0 <= i < shape[0] and 0 <= j < shape[1]:
            expected[i, j] = n
    assert np.array_equal(table, expected)


def test_confusion_weighted_by_site() -> None:
    rng = np.random.default_rng(5)
    a, b = (rng.integers(0, 3, (4, 10, 10)).astype(np.uint8) for _ in range(2))
    weights = np.array([1.0, 0.0, 12.5, 3.25])
    expected = np.zeros((3, 3))
    for site in range(4):
        for (i, j), n in _brute([a[site], b[site]]).items():
            expected[i, j] += weights[site] * n
    assert np.array_equal(confusion(a, b, (3, 3), weights=weights), expected)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("masked", [False, True])
def test_tuples_are_those_of_a_counter(k: int, masked: bool) -> None:
    maps = _maps(k, "uint8") if k < 5 else [_maps(1, t)[0] for t in TYPES]
    valid = np.random.default_rng(6).random(maps[0].shape) < 0.6 if masked else None
    tuples, counts, which = number_tuples(maps, valid=valid)
    brute = _brute(maps, valid)
    found = {tuple(t): n for t, n in zip(tuples.tolist(), counts.tolist(), strict=True)}
    assert found == brute
    assert tuples.tolist() == sorted(tuples.tolist())
    if valid is not None:
        assert ((which == -1) == ~valid).all()
    counted = which >= 0
    for i, codes in enumerate(maps):
        assert np.array_equal(tuples[which[counted], i], codes[counted])


def test_twenty_maps_of_a_hundred_codes_need_more_than_64_bits() -> None:
    rng = np.random.default_rng(7)
    maps = [rng.integers(0, 100, 3000).astype(np.uint8) for _ in range(20)]
    tuples, counts = count_tuples(maps)
    found = {tuple(t): n for t, n in zip(tuples.tolist(), counts.tolist(), strict=True)}
    assert found == _brute(maps)


def test_shapes_that_differ_are_refused() -> None:
    a, b = np.zeros((3, 4), np.uint8), np.zeros((4, 3), np.uint8)
    with pytest.raises(GridMismatchError, match=r"\(3, 4\)"):
        count_pairs(a, b)
    with pytest.raises(GridMismatchError):
        count_tuples([a, a], valid=np.ones((4, 3), bool))
    with pytest.raises(GridMismatchError):
        confusion(a, a, (2, 2), weights=np.ones(4))
    with pytest.raises(GridMismatchError, match="no map"):
        count_tuples([])
