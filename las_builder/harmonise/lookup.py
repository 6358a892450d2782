"""From codes to whatever a table says of them, as fast as memory allows.

Codes of one byte are looked up two at a time: the table has an entry for every pair, 128 kB of which
maps use a few lines. NumPy turns every code into an eight-byte index first.
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
    single, pairs = _tables(tuple(table.items()), flat.dtype)
    out = np.empty(flat.size, dtype=np.uint8)
    if flat.dtype.itemsize == 2:
        missing = _each(flat.view(np.uint16), single, out)
    else:
        plain, even = flat.view(np.uint8), flat.size - flat.size % 2
        missing = _in_pairs(plain[:even].view(np.uint16), pairs, out[:even].view(np.uint16), out)
        if even < flat.size:
            out[-1] = single[plain[-1]]
            missing = missing or out[-1] == MISSING
    return out.reshape(codes.shape), bool(missing)


@functools.lru_cache(maxsize=256)
def _tables(
    items: tuple[tuple[int, int], ...], dtype: np.dtype[Any]
) -> tuple[Bytes, NDArray[np.uint16]]:
    """By code (negative ones wrapped), and for codes of one byte by pair as it lies in memory."""
    info = np.iinfo(dtype)
    single = np.full(1 << info.bits, MISSING, dtype=np.uint8)
    for code, entry in items:
        if info.min <= code <= info.max:
            single[code % (1 << info.bits)] = entry
    if info.bits > 8:
        return single, np.zeros(0, np.uint16)
    pair = np.arange(1 << 16, dtype=np.uint16).view(np.uint8)
    return single, single[pair].view(np.uint16)


TILE = 4096
"""Entries that are written and at once looked over for a missing one, while the cache has them."""


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
def _in_pairs(codes: Any, table: Any, out: Any, flat: Any) -> bool:
    """`flat` are the bytes of `out`."""
    missing = False
    for start in range(0, codes.size, TILE):
        here, to = codes[start : start + TILE], out[start : start + TILE]
        for i in range(here.size):
            to[i] = table[here[i]]
        written = flat[2 * start : 2 * (start + here.size)]
        for i in range(written.size):
            missing |= written[i] == MISSING
    return missing
