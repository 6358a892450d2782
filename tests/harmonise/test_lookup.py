"""Look-ups against a Python dict, pixel by pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from las_builder.harmonise.lookup import MISSING, look_up

TYPES = ["uint8", "int8", "uint16", "int16", "int32", "uint32", "int64"]


def _slow(codes: Any, table: dict[int, int]) -> Any:
    flat = [table.get(code, MISSING) for code in codes.ravel().tolist()]
    return np.array(flat, np.uint8).reshape(codes.shape)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", [0, 1, 2, 9, 8191, 8192, 8193, 20_001])
def test_every_entry_is_that_of_the_dict(dtype: str, size: int) -> None:
    rng = np.random.default_rng(size)
    info = np.iinfo(dtype)
    legend = [info.min, info.min + 1, 10, 95, info.max]
    table = {code: int(rng.choice([0, 7, 100, 253, 255])) for code in legend}
    codes = np.array(legend).astype(dtype)[rng.integers(0, len(legend), size)]
    out, missing = look_up(codes, {**table, 10**12: 3})
    assert np.array_equal(out, _slow(codes, table))
    assert out.dtype == np.uint8
    assert not missing


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
@pytest.mark.parametrize("listed", [1, 4, 19, 20, 21, 134, 255, 256])
def test_tables_of_any_length(dtype: str, listed: int) -> None:
    rng = np.random.default_rng(listed)
    codes = rng.permutation(256)[:listed] - (128 if dtype == "int8" else 0)
    table = {int(code): int(rng.integers(0, 254)) for code in codes}
    every = np.arange(-128, 128) if dtype == "int8" else np.arange(256)
    for found in (every.astype(dtype), rng.choice(codes, 12_345).astype(dtype)):
        out, missing = look_up(found, table)
        assert np.array_equal(out, _slow(found, table))
        assert missing == (out == MISSING).any()


@pytest.mark.parametrize("byte", [0, 255])
def test_codes_of_two_bytes_do_not_pass_for_those_of_one(byte: int) -> None:
    out, missing = look_up(np.array([byte, 256 + byte, 65535], np.uint16), {byte: 7})
    assert out.tolist() == [7, MISSING, MISSING]
    assert missing


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("place", [0, 1, 8191, 8192, -1])
def test_one_unknown_code_is_found_wherever_it_is(dtype: str, place: int) -> None:
    codes = np.full(16_385, 20, dtype)
    codes[place] = 21
    out, missing = look_up(codes, {20: 1, 255: 255})
    assert missing
    assert np.array_equal(out, _slow(codes, {20: 1}))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_views_that_are_not_contiguous_or_begin_at_an_odd_byte(dtype: str) -> None:
    whole = np.random.default_rng(1).integers(0, 5, (40, 31)).astype(dtype)
    table = {code: 3 * code for code in range(5)}
    for view in (whole.T, whole[::2, ::-3], whole.ravel()[1:], np.asfortranarray(whole)):
        out, missing = look_up(view, table)
        assert np.array_equal(out, _slow(view, table))
        assert not missing


def test_a_table_is_not_that_of_another_product() -> None:
    codes = np.arange(4, dtype=np.uint8)
    assert look_up(codes, {0: 0, 1: 1, 2: 2, 3: 3})[0].tolist() == [0, 1, 2, 3]
    assert look_up(codes, {0: 3, 1: 2, 2: 1, 3: 0})[0].tolist() == [3, 2, 1, 0]
    assert look_up(codes.astype(np.uint16), {0: 9, 1: 9, 2: 9})[0].tolist() == [9, 9, 9, MISSING]


def test_codes_that_the_type_cannot_hold_do_not_wrap_into_it() -> None:
    out, missing = look_up(np.array([-56, 10], np.int8), {200: 1, 10: 2, -300: 3})
    assert out.tolist() == [MISSING, 2]
    assert missing
