"""Codes of many grids at once: the letters of `Grid.code`, where corners are whole numbers.

A million grids are hashed and written in half a second; Python's own strings take four times that.

Source: M.-J. Saarinen, J.-P. Aumasson (2015), The BLAKE2 Cryptographic Hash, RFC 7693 (BLAKE2s).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]

DIGEST = 3
"""Bytes of the hash that a code shows, two letters each."""

_DIGITS = 20  # of a whole number, its sign among them
_BLOCK = 64  # bytes that BLAKE2s takes at a time
_START = np.array(
    [
        0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
        0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19,
    ],
    np.uint32,
)  # fmt: skip
_ORDER = np.array(
    [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
        [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
        [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
        [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
        [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
        [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
        [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
        [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
        [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
    ],
    np.uint8,
)  # of the words of a block, by round
_FIRST = np.uint32(0x01010000 ^ DIGEST)  # no key, one leaf, so many bytes
_8, _12, _16, _7 = (np.uint32(n) for n in (8, 12, 16, 7))
_24, _20, _25 = (np.uint32(n) for n in (24, 20, 25))


def codes(
    west: Floats, north: Floats, form: NDArray[np.int64], parts: Sequence[tuple[str, ...]]
) -> list[str]:
    """`tag-west-north-digest` of each grid.

    Args:
        west: Whole numbers, (n,), none of them -0.
        north: Likewise.
        form: Which of the parts each has, (n,).
        parts: Of a form: its tag; and what is hashed before west, between west and north, and
            after north.
    """
    if not form.size:
        return []
    texts = [text.encode() for four in parts for text in four]
    ends = np.cumsum([0, *(len(text) for text in texts)])
    letters = np.frombuffer(b"".join(texts), np.uint8)
    longest = [max(len(four[i]) for four in parts) for i in range(4)]
    out = np.empty(form.size * (longest[0] + 2 * _DIGITS + 2 * DIGEST + 4), np.uint8)
    hashed = np.zeros((sum(longest[1:]) + 2 * _DIGITS + 4 + _BLOCK) // _BLOCK * _BLOCK, np.uint8)
    n = _codes(west, north, form, letters, ends, hashed, out)
    return out[: n - 1].tobytes().decode("ascii").split("\n")


@njit(cache=True, nogil=True)
def _codes(west, north, form, letters, ends, hashed, out):  # type: ignore[no-untyped-def]
    n = 0
    for i in range(form.size):
        x, y, part = int(west[i]), int(north[i]), 4 * form[i]
        size = _copy(letters, ends[part + 1], ends[part + 2], hashed, 0)
        size = _write(x, ord("-"), hashed, size)
        hashed[size], hashed[size + 1] = ord("."), ord("0")
        size = _copy(letters, ends[part + 2], ends[part + 3], hashed, size + 2)
        size = _write(y, ord("-"), hashed, size)
        hashed[size], hashed[size + 1] = ord("."), ord("0")
        size = _copy(letters, ends[part + 3], ends[part + 4], hashed, size + 2)
        digest = _blake2s(hashed, size)
        n = _copy(letters, ends[part], ends[part + 1], out, n)
        out[n] = ord("-")
        n = _write(x, ord("m"), out, n + 1)
        out[n] = ord("-")
        n = _write(y, ord("m"), out, n + 1)
        out[n] = ord("-")
        for k in range(2 * DIGEST):
            byte = (digest >> np.uint32(8 * (k // 2))) & np.uint32(255)
            digit = int(byte >> np.uint32(4)) if k % 2 == 0 else int(byte & np.uint32(15))
            out[n + 1 + k] = digit + (ord("0") if digit < 10 else ord("a") - 10)
        n += 1 + 2 * DIGEST
        out[n] = ord("\n")
        n += 1
    return n


@njit(cache=True)
def _copy(source: Bytes, start: int, end: int, out: Bytes, at: int) -> int:
    for i in range(start, end):
        out[at + i - start] = source[i]
    return at + end - start


@njit(cache=True)
def _write(value: int, minus: int, out: Bytes, at: int) -> int:
    """A whole number in decimal digits; where it ends."""
    if value < 0:
        out[at] = minus
        at, value = at + 1, -value
    size, rest = 1, value // 10
    while rest:
        size, rest = size + 1, rest // 10
    for i in range(size - 1, -1, -1):
        out[at + i] = ord("0") + value % 10
        value //= 10
    return at + size


@njit(cache=True)
def _mix(a, b, c, d, x, y):  # type: ignore[no-untyped-def]
    a = np.uint32(a + b + x)
    d ^= a
    d = (d >> _16) | np.uint32(d << _16)
    c = np.uint32(c + d)
    b ^= c
    b = (b >> _12) | np.uint32(b << _20)
    a = np.uint32(a + b + y)
    d ^= a
    d = (d >> _8) | np.uint32(d << _24)
    c = np.uint32(c + d)
    b ^= c
    b = (b >> _7) | np.uint32(b << _25)
    return a, b, c, d


@njit(cache=True)
def _blake2s(data: Bytes, size: int) -> np.uint32:
    """The first four bytes of the digest, the first lowest; `data` is written over behind `size`."""
    end = max(_BLOCK, (size + _BLOCK - 1) // _BLOCK * _BLOCK)
    data[size:end] = 0
    h, m = _START.copy(), np.empty(16, np.uint32)
    h[0] ^= _FIRST
    for start in range(0, end, _BLOCK):
        for i in range(16):
            j = start + 4 * i
            m[i] = (
                np.uint32(data[j])
                | np.uint32(np.uint32(data[j + 1]) << _8)
                | np.uint32(np.uint32(data[j + 2]) << _16)
                | np.uint32(np.uint32(data[j + 3]) << _24)
            )
        a0, a1, a2, a3, b0, b1, b2, b3 = h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]
        c0, c1, c2, c3 = _START[0], _START[1], _START[2], _START[3]
        d0, d1, d2, d3 = _START[4], _START[5], _START[6], _START[7]
        last = start + _BLOCK == end
        d0 ^= np.uint32(size if last else start + _BLOCK)
        if last:
            d2 = ~d2
        for r in range(10):
            s = _ORDER[r]
            a0, b0, c0, d0 = _mix(a0, b0, c0, d0, m[s[0]], m[s[1]])
            a1, b1, c1, d1 = _mix(a1, b1, c1, d1, m[s[2]], m[s[3]])
            a2, b2, c2, d2 = _mix(a2, b2, c2, d2, m[s[4]], m[s[5]])
            a3, b3, c3, d3 = _mix(a3, b3, c3, d3, m[s[6]], m[s[7]])
            a0, b1, c2, d3 = _mix(a0, b1, c2, d3, m[s[8]], m[s[9]])
            a1, b2, c3, d0 = _mix(a1, b2, c3, d0, m[s[10]], m[s[11]])
            a2, b3, c0, d1 = _mix(a2, b3, c0, d1, m[s[12]], m[s[13]])
            a3, b0, c1, d2 = _mix(a3, b0, c1, d2, m[s[14]], m[s[15]])
        h[0] ^= a0 ^ c0
        h[1] ^= a1 ^ c1
        h[2] ^= a2 ^ c2
        h[3] ^= a3 ^ c3
        h[4] ^= b0 ^ d0
        h[5] ^= b1 ^ d1
        h[6] ^= b2 ^ d2
        h[7] ^= b3 ^ d3
    return h[0]
