"""How often codes meet: confusion tables and tuples of any number of maps, in one pass each.

Counting is what audits and consensus spend their time on. `np.bincount(a * k + b)` writes the key of
every pixel as eight bytes and reads it again; here the keys of a few thousand pixels are made in two bytes
each, many at once, and counted while the nearest cache has them. Four tables are filled in turn, or
four places of a tile, because neighbours are mostly alike and a processor waits for a counter that
it has just written.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from las_builder.errors import GridMismatchError

Codes = NDArray[np.integer]
Bools = NDArray[np.bool_]
Counts = NDArray[np.int64]

MAX_CELLS = 1 << 22
"""Cells of a dense table at most; codes that span more are counted by hashing."""

DENSE_CELLS = (1 << 16) - 1
"""Two maps whose codes span no more are counted by the codes themselves, without numbering them."""

MAX_KEY = 1 << 62

NO_MASK = np.zeros(0, np.uint8)


def count_pairs(a: Codes, b: Codes, *, valid: Bools | None = None) -> tuple[Codes, Codes, Counts]:
    """Which pairs of codes two maps hold, and in how many pixels.

    Args:
        a: Codes, any integer type, any shape, not necessarily contiguous.
        b: Likewise, of the same shape; its type may differ.
        valid: Of the same shape, True where a pixel counts; None: everywhere.

    Returns:
        Codes of `a`, codes of `b` (each in its own type) and pixels (int64), all (n,), in
        ascending order of (a, b); only pairs that occur.

    Raises:
        GridMismatchError: The shapes differ.
    """
    _same_shape((a, b), valid)
    dense = _dense(a, b, _flat_mask(valid))
    if dense is not None:
        return dense
    first, second = _Numbered.of(a), _Numbered.of(b)
    if (first.names.size + 1) * (second.names.size + 1) > MAX_CELLS:
        tuples, counts = count_tuples((a, b), valid=valid)
        return tuples[:, 0].astype(a.dtype), tuples[:, 1].astype(b.dtype), counts
    table = _table(first, second, first.names.size, second.names.size, _flat_mask(valid))
    i, j = np.nonzero(table)
    return first.names[i], second.names[j], table[i, j]


def confusion(
    a: Codes,
    b: Codes,
    shape: tuple[int, int],
    *,
    valid: Bools | None = None,
    weights: NDArray[np.floating[Any]] | None = None,
) -> NDArray[np.int64] | NDArray[np.float64]:
    """The confusion table of two maps of class indices.

    Args:
        a: Class indices, any integer type; what is not from 0 to `shape[0]` - 1 is not counted
            (255, for one).
        b: Likewise, up to `shape[1]` - 1.
        shape: Classes of `a` and of `b`.
        valid: Of the same shape as both maps, True where a pixel counts.
        weights: (n,) a weight for every entry of the first axis, as of sites.

    Returns:
        `shape`: pixels (int64), or with weights the sum over entries of weight times pixels
        (float64).

    Raises:
        GridMismatchError: The shapes differ, or there is not a weight for every entry.
    """
    _same_shape((a, b), valid)
    if weights is None:
        rows, columns = shape
        cells = np.zeros((rows + 1) * (columns + 1), dtype=_counter(a.size))
        add = _add_classes if cells.size <= 1 << 16 else _add_many_classes
        first, second = _beyond(a, rows), _beyond(b, columns)
        add(*first, *second, _flat_mask(valid), columns + 1, cells)
        table = cells.reshape(rows + 1, columns + 1)[:rows, :columns]
        return np.ascontiguousarray(table, dtype=np.int64)
    if weights.shape != a.shape[:1]:
        raise GridMismatchError(f"weights {weights.shape} for maps of {a.shape}")
    total = np.zeros(shape)
    for i, weight in enumerate(weights.tolist()):
        total += weight * confusion(a[i], b[i], shape, valid=None if valid is None else valid[i])
    return total


def count_tuples(
    maps: Sequence[Codes], *, valid: Bools | None = None
) -> tuple[NDArray[np.int64], Counts]:
    """Which tuples of codes any number of maps hold, and in how many pixels.

    Args:
        maps: Of one shape, any integer types.
        valid: Of the same shape, True where a pixel counts; None: everywhere.

    Returns:
        Tuples (n, maps) int64 in ascending (lexicographic) order, and pixels (n,) int64.

    Raises:
        GridMismatchError: The shapes differ, or there is no map.
    """
    tuples, counts, _ = number_tuples(maps, valid=valid)
    return tuples, counts


def number_tuples(
    maps: Sequence[Codes], *, valid: Bools | None = None
) -> tuple[NDArray[np.int64], Counts, NDArray[np.int32]]:
    """Like `count_tuples`, and which tuple every pixel holds.

    Whatever depends on the codes alone is then computed once a tuple instead of once a pixel.

    Returns:
        Tuples (n, maps) int64, pixels (n,) int64, and the number of its tuple for every pixel:
        int32 in the shape of the maps, -1 where a pixel does not count.
    """
    if not maps:
        raise GridMismatchError("no map to count")
    _same_shape(maps, valid)
    numbered = [_Numbered.of(codes) for codes in maps]
    keys = 1
    for one in numbered:
        keys *= max(one.names.size, 1)
    if keys > MAX_KEY:  # more combinations than a 64-bit key holds: halves first
        return _by_halves(maps, valid)
    mask = _flat_mask(valid)
    key = np.zeros(maps[0].size, dtype=np.int64)
    for one in numbered:
        _append_digit(key, one.codes, one.number, one.names.size)
    found, counts, which = _count_keys(key, mask)
    order = np.argsort(found, kind="stable")
    rank = np.full(order.size + 1, -1, dtype=np.int32)  # the last one is that of masked pixels
    rank[order] = np.arange(order.size, dtype=np.int32)
    place = rank.take(which, mode="wrap")
    tuples = np.empty((found.size, len(maps)), dtype=np.int64)
    rest = found[order]
    for k in range(len(maps) - 1, -1, -1):
        names = numbered[k].names
        rest, digit = np.divmod(rest, max(names.size, 1))
        tuples[:, k] = names[digit]
    return tuples, counts[order], place.reshape(maps[0].shape)


def _by_halves(
    maps: Sequence[Codes], valid: Bools | None
) -> tuple[NDArray[np.int64], Counts, NDArray[np.int32]]:
    middle = len(maps) // 2
    left, _, of_left = number_tuples(maps[:middle], valid=valid)
    right, _, of_right = number_tuples(maps[middle:], valid=valid)
    pairs, counts, which = number_tuples((of_left, of_right), valid=valid)
    return np.hstack([left[pairs[:, 0]], right[pairs[:, 1]]]), counts, which


@dataclass(frozen=True, slots=True)
class _Numbered:
    """The codes of a map as unsigned numbers, and the small number that stands for each."""

    codes: NDArray[np.unsignedinteger[Any]]
    """(pixels,) uint8 or uint16; what a map of a wider type holds is its codes' own numbers."""

    names: Codes
    """(n,) the codes that occur, ascending, in the map's type."""

    number: NDArray[np.int64]
    """By value of `codes`: place in `names`; -1 where it is none of them."""

    @classmethod
    def of(cls, codes: Codes) -> _Numbered:
        """Of the codes that occur."""
        if codes.dtype.itemsize > 2:
            flat = np.ascontiguousarray(codes).ravel()
            names, places = np.unique(flat, return_inverse=True)
            if names.size > 1 << 16:
                return cls(places.astype(np.uint32), names, np.arange(names.size))
            return cls(places.astype(np.uint16), names, np.arange(names.size))
        plain = _unsigned(codes)
        values = np.flatnonzero(_seen(plain, 1 << (8 * codes.dtype.itemsize)))
        names = np.sort(values.astype(plain.dtype).view(codes.dtype))
        number = np.full(1 << (8 * codes.dtype.itemsize), -1, dtype=np.int64)
        number[names.view(plain.dtype)] = np.arange(names.size)
        return cls(plain, names, number)


def _table(
    first: _Numbered, second: _Numbered, rows: int, columns: int, mask: NDArray[np.uint8]
) -> Counts:
    """Dense table by numbers; row and column 0 take what is not counted, and are cut off."""
    width = columns + 1
    cells = np.zeros(4 * (rows + 1) * width, dtype=np.int64)
    row, column = (first.number + 1) * width, second.number + 1
    _add_pairs(first.codes, second.codes, mask, row, column, cells)
    return np.ascontiguousarray(cells.reshape(4, rows + 1, width).sum(axis=0)[1:, 1:])


def _dense(a: Codes, b: Codes, mask: NDArray[np.uint8]) -> tuple[Codes, Codes, Counts] | None:
    """Pairs by a table of the codes themselves; None where they span too much or are negative."""
    if a.size == 0 or max(a.dtype.itemsize, b.dtype.itemsize) > 2:
        return None
    none = _counter(a.size)()
    counted = _count_codes(_unsigned(a), _unsigned(b), mask, none, _most(a.dtype), _most(b.dtype))
    if counted is None:
        return None
    i, j, counts = counted
    return i.view(a.dtype), j.view(b.dtype), counts


@functools.lru_cache(maxsize=16)
def _most(dtype: np.dtype[Any]) -> int:
    """Codes that are not negative, as unsigned numbers, are below it."""
    return int(np.iinfo(dtype).max) + 1


def _unsigned(codes: Codes) -> NDArray[np.unsignedinteger[Any]]:
    """Flat and contiguous; what is negative becomes large."""
    flat: NDArray[Any] = np.ascontiguousarray(codes).ravel()
    return flat if flat.dtype.kind == "u" else flat.view(f"u{codes.dtype.itemsize}")


def _beyond(codes: Codes, classes: int) -> tuple[NDArray[np.unsignedinteger[Any]], Any]:
    """Unsigned numbers, and the least of them that is no class; none of few bytes may be one."""
    if codes.dtype.kind == "i" and classes > np.iinfo(codes.dtype).max:
        codes = codes.astype(np.int64)  # or a negative one would become a class
    plain = _unsigned(codes)
    return plain, plain.dtype.type(min(classes, np.iinfo(plain.dtype).max))


def _flat_mask(valid: Bools | None) -> NDArray[np.uint8]:
    """Contiguous and flat, 1 = counts; empty where every pixel does."""
    return NO_MASK if valid is None else np.ascontiguousarray(valid, bool).ravel().view(np.uint8)


def _counter(pixels: int) -> type[np.unsignedinteger[Any]]:
    """A counter that so many pixels cannot overflow."""
    return np.uint32 if pixels < 1 << 32 else np.uint64


def _same_shape(maps: Sequence[Codes], valid: Bools | None) -> None:
    shape = maps[0].shape
    for other in maps if valid is None else (*maps, valid):
        if other.shape != shape:
            shapes = [m.shape for m in maps] + ([] if valid is None else [valid.shape])
            raise GridMismatchError(f"maps and masks of different shapes: {shapes}")


@njit(cache=True, nogil=True)
def _seen(codes: Any, size: int) -> Any:
    """(size,) True for every value that occurs."""
    seen = np.zeros(size, np.bool_)
    for i in range(codes.size):
        seen[codes[i]] = True
    return seen


@njit(cache=True, nogil=True)
def _add_pairs(a: Any, b: Any, mask: Any, row: Any, column: Any, cells: Any) -> None:
    """Add every pixel to cell `row[a] + column[b]`, masked ones to cell 0; four tables in turn.

    Indices are unsigned, or each would be asked whether it counts from the end.
    """
    n = a.size
    size = np.uint64(cells.size // 4)
    one = np.uint64(1)
    whole = n - n % 4
    if mask.size > 0:
        for i in range(n):
            cells[np.uint64((row[a[i]] + column[b[i]]) * mask[i])] += 1
        return
    for j in range(whole // 4):
        at = np.uint64(j) * np.uint64(4)
        cells[np.uint64(row[a[at]] + column[b[at]])] += 1
        at += one
        cells[np.uint64(row[a[at]] + column[b[at]]) + size] += 1
        at += one
        cells[np.uint64(row[a[at]] + column[b[at]]) + size + size] += 1
        at += one
        cells[np.uint64(row[a[at]] + column[b[at]]) + size + size + size] += 1
    for i in range(whole, n):
        cells[np.uint64(row[a[i]] + column[b[i]])] += 1


TILE = 4096
"""Pixels whose keys are made before they are counted."""


@njit(cache=True, nogil=True)
def _count_codes(a: Any, b: Any, mask: Any, none: Any, most_a: Any, most_b: Any) -> Any:
    """Codes of `a`, of `b` and pixels of the pairs that occur.

    None where a code reaches `most`, so that it is negative, or where too many cells are spanned;
    `none` is a counter at 0.
    """
    rows, columns = np.int64(a.max()) + 1, np.int64(b.max()) + 1
    if rows > most_a or columns > most_b or rows * columns > DENSE_CELLS:
        return None
    last = np.uint16(rows * columns)
    cells = np.full((rows * columns // GROUP + 1) * GROUP, none)
    keys = np.empty(TILE // 4, np.uint64).view(np.uint16)
    width = np.uint16(columns)
    for start in range(0, a.size, TILE):
        x, y = a[start : start + TILE], b[start : start + TILE]
        for i in range(x.size):
            keys[i] = np.uint16(np.uint16(x[i]) * width) + np.uint16(y[i])
        if mask.size > 0:
            here = mask[start : start + TILE]
            for i in range(x.size):
                keys[i] = keys[i] if here[i] else last
        _count(keys, x.size, cells)
    cells[last] = none
    where, counts = _occurring(cells)
    of_a, of_b = np.empty(where.size, a.dtype), np.empty(where.size, b.dtype)
    for k in range(where.size):
        of_a[k], of_b[k] = where[k] // np.uint64(columns), where[k] % np.uint64(columns)
    return of_a, of_b, counts


@njit(cache=True, nogil=True)
def _add_classes(
    a: Any, last_row: Any, b: Any, last_column: Any, mask: Any, columns: int, cells: Any
) -> None:  # fmt: skip
    """Add every pixel to its cell of a table whose last row and column are of no class."""
    keys = np.empty(TILE // 4, np.uint64).view(np.uint16)
    width = np.uint16(columns)
    last = np.uint16(cells.size - 1)
    for start in range(0, a.size, TILE):
        x, y = a[start : start + TILE], b[start : start + TILE]
        for i in range(x.size):
            row = x[i] if x[i] < last_row else last_row
            column = y[i] if y[i] < last_column else last_column
            keys[i] = np.uint16(np.uint16(row) * width) + np.uint16(column)
        if mask.size > 0:
            here = mask[start : start + TILE]
            for i in range(x.size):
                keys[i] = keys[i] if here[i] else last
        _count(keys, x.size, cells)


@njit(cache=True, nogil=True)
def _add_many_classes(
    a: Any, last_row: Any, b: Any, last_column: Any, mask: Any, columns: int, cells: Any
) -> None:  # fmt: skip
    """As `_add_classes`, for tables whose cells have no number of two bytes."""
    one = cells.dtype.type(1)
    for i in range(a.size):
        if mask.size == 0 or mask[i]:
            row, column = min(a[i], last_row), min(b[i], last_column)
            cells[np.uint64(row) * np.uint64(columns) + np.uint64(column)] += one


@njit(cache=True, nogil=True)
def _count(keys: Any, size: int, cells: Any) -> None:
    """Count the first keys, (TILE,) uint16, read in fours from four places in turn."""
    n = np.uint64(size) // np.uint64(16)
    words, two, low = keys.view(np.uint64), np.uint64(16), np.uint64(0xFFFF)
    one = cells.dtype.type(1)
    for k in range(n):
        i = np.uint64(k)
        p, q, r, s = words[i], words[i + n], words[i + n + n], words[i + n + n + n]
        for _ in range(4):
            cells[p & low] += one
            cells[q & low] += one
            cells[r & low] += one
            cells[s & low] += one
            p, q, r, s = p >> two, q >> two, r >> two, s >> two
    for k in range(n * np.uint64(16), np.uint64(size)):
        cells[keys[k]] += one


GROUP = 16
"""Cells that are looked at together: most hold nothing."""


@njit(cache=True, nogil=True)
def _occurring(cells: Any) -> Any:
    """Place and content of the cells that are not 0; their number is one of groups."""
    where = np.empty(cells.size, np.uint64)
    n = np.uint64(0)
    for group in range(cells.size // GROUP):
        first = np.uint64(group) * np.uint64(GROUP)
        some = cells[first]
        for i in range(GROUP):
            some |= cells[first + np.uint64(i)]
        if some:
            for i in range(GROUP):
                where[n] = first + np.uint64(i)
                n += np.uint64(cells[first + np.uint64(i)] > 0)
    where = where[:n].copy()
    return where, cells[where].astype(np.int64)


@njit(cache=True, nogil=True)
def _append_digit(key: Any, codes: Any, number: Any, base: int) -> None:
    """One more digit, least significant, to the key of every pixel."""
    for i in range(key.size):
        key[i] = key[i] * base + number[codes[i]]


def _count_keys(
    key: NDArray[np.int64], mask: NDArray[np.uint8]
) -> tuple[Counts, Counts, NDArray[np.int32]]:
    """Distinct keys (not negative) in order of appearance, pixels of each, place of each pixel."""
    which = np.full(key.size, -1, dtype=np.int32)
    bits, start, n = 10, 0, 0
    found, counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
    while start < key.size:
        half = 1 << (bits - 1)  # slots are at most half full
        found = np.concatenate([found, np.zeros(half - found.size, np.int64)])
        counts = np.concatenate([counts, np.zeros(half - counts.size, np.int64)])
        slots = _slots_of(found[:n], bits)
        start, n = _count_some(
            key, mask, start, n, slots, np.uint64(64 - bits), found, counts, which
        )
        bits += 1
    return found[:n], counts[:n], which


@njit(cache=True, nogil=True)
def _count_some(
    key: Any, mask: Any, start: int, n: int, slots: Any, shift: Any, found: Any, counts: Any, which: Any
) -> Any:  # fmt: skip
    """Count from pixel `start` until the end or until `found` is full; (next pixel, keys found).

    Open addressing with Fibonacci hashing; a pixel like the last one needs no search.
    """
    masked = mask.size > 0
    last, at = np.int64(-1), np.int32(0)
    around = np.uint64(slots.size - 1)
    for i in range(start, key.size):
        if masked and not mask[i]:
            continue
        k = key[i]
        if k != last:
            if n == found.size:
                return i, n
            s = (np.uint64(k) * np.uint64(0x9E3779B97F4A7C15)) >> shift
            at = slots[s]
            while at >= 0 and found[at] != k:
                s = (s + np.uint64(1)) & around
                at = slots[s]
            if at < 0:
                at = np.int32(n)
                slots[s] = at
                found[n] = k
                n += 1
            last = k
        counts[at] += 1
        which[i] = at
    return key.size, n


@njit(cache=True, nogil=True)
def _slots_of(found: Any, bits: int) -> Any:
    """A hash table that holds these keys: place in `found` by slot, -1 = free."""
    slots = np.full(1 << bits, -1, np.int32)
    around, shift = np.uint64((1 << bits) - 1), np.uint64(64 - bits)
    for j in range(found.size):
        s = (np.uint64(found[j]) * np.uint64(0x9E3779B97F4A7C15)) >> shift
        while slots[s] >= 0:
            s = (s + np.uint64(1)) & around
        slots[s] = j
    return slots
