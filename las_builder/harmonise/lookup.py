"""From codes to whatever a table says of them, as fast as memory allows.

NumPy turns every code into an eight-byte index first. Here codes of one byte stay bytes. Of a short
table every code is compared with every pixel, which a processor does for 16 to 64 pixels at once; of a
longer one, pixels are looked up two at a time, in a table that has an entry for every pair.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

MISSING = 254
"""What stands for a code that the table does not list: no class index (at most 253), no percent,
and not 255, which stands for none."""

COMPARED = 20
"""Codes of a table that pixels are compared with at most; above it, looking up pairs is quicker."""


def look_up(codes: NDArray[np.integer], table: Mapping[int, int]) -> tuple[Bytes, bool]:
    """The entry of every code.

    Args:
        codes: Any integer type, any shape, not necessarily contiguous.
        table: Code to entry, 0 to 253 or 255; codes beyond the type of `codes` are never met.

    Returns:
        Entries in the shape of `codes`, `MISSING` where the table has none; whether any is missing.
    """
    flat = np.ascontiguousarray(codes).ravel()
    if flat.dtype.itemsize > 2:
        known = np.array(sorted(table), dtype=np.int64)
        entries = np.array([table[int(code)] for code in known], dtype=np.uint8)
        place = np.minimum(np.searchsorted(known, flat), known.size - 1)
        found = np.where(known[place] == flat, entries[place], np.uint8(MISSING))
        return found.reshape(codes.shape), bool((found == MISSING).any())
    if flat.dtype.kind == "i":
        flat = flat.view(f"u{flat.dtype.itemsize}")
    tables = _tables(tuple(table.items()), codes.dtype)
    words = np.empty(-(-flat.size // 8), dtype=np.uint64)
    out = words.view(np.uint8)[: flat.size]
    missing = _each(flat, *tables, out) if len(tables) == 1 else _in_bytes(flat, *tables, words)
    return out.reshape(codes.shape), bool(missing)


@functools.lru_cache(maxsize=256)
def _tables(items: tuple[tuple[int, int], ...], dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """What `_in_bytes` takes, or, where the codes of a table need two bytes, what `_each` does.

    Negative codes are wrapped.
    """
    info = np.iinfo(dtype)
    size = 1 << info.bits
    listed = {code % size: entry for code, entry in items if info.min <= code <= info.max}
    single = np.full(size, MISSING, dtype=np.uint8)
    single[list(listed)] = list(listed.values())
    strange = next((code for code in range(256) if code not in listed), None)
    if max(listed, default=0) > 255 or (size > 256 and strange is None):
        return (single,)
    pairs = np.zeros(0, np.uint16)
    known = listed or {0: MISSING}
    if len(known) > COMPARED:
        pairs = single[np.arange(1 << 16, dtype=np.uint16).view(np.uint8)].view(np.uint16)
    # Four codes are compared at a time; the first one again does no harm.
    first = next(iter(known.items()))
    compared = [*known.items(), *[first] * (-len(known) % 4)]
    keys, entries = np.array(compared, dtype=np.uint8).T.copy()
    return np.uint8(strange or 0), keys, entries, pairs


TILE = 4096
"""Pixels that go through all passes while the nearest cache has them; a multiple of 8."""

ONES, HIGH = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
EIGHT_MISSING = np.uint64(MISSING * 0x0101010101010101)
PAIR = np.uint64(0xFFFF)


@njit(cache=True, nogil=True)
def _each(codes: Any, table: Any, out: Any) -> bool:
    missing = False
    for start in range(0, codes.size, TILE):
        here, to = codes[start : start + TILE], out[start : start + TILE]
        for i in range(here.size):
            to[i] = table[here[i]]
        for i in range(to.size):
            missing |= to[i] == MISSING
    return missing


@njit(cache=True, nogil=True)
def _in_bytes(
    codes: Any, strange: Any, keys: Any, entries: Any, pairs: Any, words: Any
) -> bool:  # fmt: skip
    """`strange` is a byte that is no key, for codes of two bytes; entries lie eight in a word."""
    missing = np.uint64(0)
    out = words.view(np.uint8)
    eight = np.empty(TILE // 8, np.uint64)
    small = eight.view(np.uint8)
    for start in range(0, codes.size, TILE):
        here = codes[start : start + TILE]
        to, to_words = out[start : start + TILE], words[start // 8 : (start + TILE) // 8]
        for i in range(here.size):
            small[i] = np.uint8(here[i]) if here[i] < 256 else strange
        for i in range(here.size, to.size):  # up to a whole word
            small[i] = keys[0]
        if pairs.size > 0:
            _paired(eight, pairs, to_words)
        else:
            _compared(small, keys, entries, to)
        for i in range(to_words.size):  # eight at once: is there a byte that is MISSING?
            x = to_words[i] ^ EIGHT_MISSING
            missing |= (x - ONES) & ~x & HIGH
    return missing != 0


@njit(cache=True, nogil=True)
def _compared(codes: Any, keys: Any, entries: Any, out: Any) -> None:
    """Entries by comparing with four keys at a time; a loop for the compiler to make vectors of."""
    for k in range(0, keys.size, 4):
        k0, k1, k2, k3 = keys[k], keys[k + 1], keys[k + 2], keys[k + 3]
        e0, e1, e2, e3 = entries[k], entries[k + 1], entries[k + 2], entries[k + 3]
        if k == 0:
            for i in range(out.size):
                v = e0 if codes[i] == k0 else np.uint8(MISSING)
                v = e1 if codes[i] == k1 else v
                v = e2 if codes[i] == k2 else v
                out[i] = e3 if codes[i] == k3 else v
        else:
            for i in range(out.size):
                v = e0 if codes[i] == k0 else out[i]
                v = e1 if codes[i] == k1 else v
                v = e2 if codes[i] == k2 else v
                out[i] = e3 if codes[i] == k3 else v


@njit(cache=True, nogil=True)
def _paired(eight: Any, pairs: Any, out: Any) -> None:
    """Entries of eight codes at a time, two by two."""
    for i in range(out.size):
        w = eight[i]
        out[i] = (
            np.uint64(pairs[w & PAIR])
            | np.uint64(pairs[(w >> np.uint64(16)) & PAIR]) << np.uint64(16)
            | np.uint64(pairs[(w >> np.uint64(32)) & PAIR]) << np.uint64(32)
            | np.uint64(pairs[w >> np.uint64(48)]) << np.uint64(48)
        )
