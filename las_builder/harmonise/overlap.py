"""The code with the largest area under each pixel of a grid: the kernels of `regrid`.

A grid pixel is a quadrilateral on the product's lattice. Its overlap with every product pixel is
exact: each of its edges is walked through the product pixels that it crosses and leaves, in each, the
signed area to its right; sums along the rows are the overlaps (the accumulation buffer of
font rasterisers). Where all product pixels that it can touch have one code, nothing is computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EDGE = 1e-6
"""Product pixels. What lies so near the edge of two pixels goes to the eastern (southern) one, and
areas that differ by less (in shares of the grid pixel) are equal: float noise decides nothing."""

SLIVER = 1e-9
"""Product pixels of area that count as nothing: what float noise leaves beyond an edge."""

MAX_SPAN = 1024
"""Product pixels across a grid pixel. More is met only beside the poles of a lattice in degrees,
where a quadrilateral is no picture of a pixel: nothing is said there."""


def majority(
    codes: NDArray[np.integer],
    nodata: int,
    corners: tuple[Floats, Floats],
    centres: tuple[Floats, Floats],
    turn: float,
    values: Floats,
) -> tuple[NDArray[np.integer], NDArray[np.uint8], Floats]:
    """The winning code of every pixel, its share, and means of evidence.

    Args:
        codes: (y, x) of the window, any integer type.
        nodata: Code that never wins over another.
        corners: Columns and rows (of pixel corners of the window) of the mesh of the grid's pixel
            corners, (h + 1, w + 1) each; not finite where there is no such place.
        centres: Of the grid's pixel centres, (h, w) each.
        turn: Columns of one turn of the globe; the corners of a pixel are brought onto the
            turn of its centre. 0: they are on it.
        values: (layers, y, x) evidence on the window; NaN is left out.

    Returns:
        Codes (h, w) in their type, share (h, w) in percent, sums and areas (2, layers, h, w).
    """
    names, which = _plain(codes)
    shape = centres[0].shape
    winner = np.empty(shape, dtype=which.dtype)
    share = np.zeros(shape, dtype=np.uint8)
    totals = np.zeros((2, values.shape[0], *shape))
    nothing = np.searchsorted(names, nodata) if names.size else nodata % (1 << 8 * codes.itemsize)
    if names.size and not (nothing < names.size and names[nothing] == nodata):
        names, nothing = np.append(names, nodata), names.size
    _majority(
        which, nothing, corners[0], corners[1], centres[0], centres[1], turn, values,
        np.zeros(names.size or 1 << 8 * codes.itemsize), winner, share, totals,
    )  # fmt: skip
    return (names[winner] if names.size else winner.view(codes.dtype)), share, totals


def _plain(codes: NDArray[np.integer]) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Unsigned numbers to vote for and the codes they stand for; none: they are the codes."""
    codes = np.ascontiguousarray(codes)
    if codes.itemsize <= 2:
        return np.zeros(0, codes.dtype), codes.view(f"u{codes.itemsize}")
    names, which = np.unique(codes, return_inverse=True)
    return names, which.reshape(codes.shape).astype(np.uint32)


@njit(cache=True, nogil=True)
def _majority(
    which: Any, nothing: int, corner_cols: Any, corner_rows: Any, centre_cols: Any, centre_rows: Any,
    turn: float, values: Any, votes: Any, winner: Any, share: Any, totals: Any,
) -> None:  # fmt: skip
    height, width = which.shape
    layers = values.shape[0]
    u, v = np.empty(4), np.empty(4)
    buffer = np.empty((MAX_SPAN + 2) * (MAX_SPAN + 4))  # only its start is ever touched
    touched = np.empty(votes.size + 1, np.int64)
    for y in range(winner.shape[0]):
        for x in range(winner.shape[1]):
            winner[y, x] = nothing
            u[0], u[1] = corner_cols[y, x], corner_cols[y, x + 1]
            u[2], u[3] = corner_cols[y + 1, x + 1], corner_cols[y + 1, x]
            v[0], v[1] = corner_rows[y, x], corner_rows[y, x + 1]
            v[2], v[3] = corner_rows[y + 1, x + 1], corner_rows[y + 1, x]
            if turn != 0:
                for k in range(4):
                    u[k] += turn * np.floor((centre_cols[y, x] - u[k]) / turn + 0.5)
            west, east = min(u[0], u[1], u[2], u[3]), max(u[0], u[1], u[2], u[3])
            north, south = min(v[0], v[1], v[2], v[3]), max(v[0], v[1], v[2], v[3])
            if not (east - west <= MAX_SPAN and south - north <= MAX_SPAN):
                continue  # not finite, or too wide
            if east < 0 or south < 0 or west > width or north > height:
                continue
            col, row = int(np.floor(west + EDGE)), int(np.floor(north + EDGE))
            columns = int(np.ceil(east - col - EDGE))
            rows = int(np.ceil(south - row - EDGE))
            inside = row >= 0 and col >= 0 and row + rows <= height and col + columns <= width
            if inside and layers == 0:
                first = which[row, col]
                alike = True
                for j in range(rows):
                    for i in range(columns):
                        alike &= which[row + j, col + i] == first
                if alike:
                    winner[y, x] = first
                    share[y, x] = 0 if first == nothing else 100
                    continue
            stride = columns + 2
            for k in range(rows * stride):
                buffer[k] = 0.0
            for k in range(4):
                u[k] -= col
                v[k] -= row
            whole = _shoelace(u, v)
            upright = u[0] == u[3] and u[1] == u[2] and v[0] == v[1] and v[2] == v[3]
            if upright:
                _rectangle(buffer, rows, columns, u[0], u[1], v[0], v[2])
            else:
                for k in range(4):
                    n = (k + 1) & 3
                    _walk(buffer, rows, columns, u[k], v[k], u[n], v[n])
                _sum_up(buffer, rows, columns)
            n_touched = 0
            j0, j1 = max(0, -row), min(rows, height - row)
            i0, i1 = max(0, -col), min(columns, width - col)
            for j in range(j0, j1):
                for i in range(i0, i1):
                    part = buffer[j * stride + i]
                    part = part if part > SLIVER else 0.0
                    code = which[row + j, col + i]
                    before = votes[code]
                    touched[n_touched] = code
                    n_touched += int((before == 0.0) & (part > 0.0))
                    votes[code] = before + part
            votes[nothing] = 0.0
            for k in range(layers):
                for j in range(j0, j1):
                    for i in range(i0, i1):
                        part, value = buffer[j * stride + i], values[k, row + j, col + i]
                        if part > SLIVER and np.isfinite(value):
                            totals[0, k, y, x] += value * part
                            totals[1, k, y, x] += part
            best, tied = 0.0, 0
            for k in range(n_touched):
                best = max(best, votes[touched[k]])
            least = best - EDGE * whole
            for k in range(n_touched):
                vote = votes[touched[k]]
                if vote >= least and vote > 0:
                    tied += 1
                    winner[y, x] = touched[k]
            if tied > 1:
                nearest = np.inf
                for j in range(j0, j1):
                    for i in range(i0, i1):
                        code = which[row + j, col + i]
                        if code == nothing or buffer[j * stride + i] <= EDGE or votes[code] < least:
                            continue
                        across = col + i + 0.5 - centre_cols[y, x]
                        down = row + j + 0.5 - centre_rows[y, x]
                        distance = np.sqrt(across * across + down * down)
                        if distance <= nearest + EDGE:  # later is further south-east
                            nearest = distance
                            winner[y, x] = code
            if best > 0:
                # Half up, and what float noise leaves of a half is one.
                percent = np.floor(100 * best / whole + 0.5 + EDGE)
                share[y, x] = np.uint8(min(100.0, max(1.0, percent)))
            for k in range(n_touched):
                votes[touched[k]] = 0.0


@njit(cache=True, nogil=True)
def _shoelace(u: Any, v: Any) -> float:
    """Area of a quadrilateral."""
    total = 0.0
    for k in range(4):
        n = (k + 1) & 3
        total += u[n] * v[k] - u[k] * v[n]
    return abs(total) / 2


@njit(cache=True, nogil=True)
def _rectangle(
    buffer: Any, rows: int, columns: int, west: float, east: float, north: float, south: float
) -> None:
    """Overlaps of an upright rectangle with the first unit squares."""
    for j in range(rows):
        down = min(south, j + 1.0) - max(north, float(j))
        for i in range(columns):
            across = min(east, i + 1.0) - max(west, float(i))
            buffer[j * (columns + 2) + i] = max(across, 0.0) * max(down, 0.0)


@njit(cache=True, nogil=True)
def _walk(buffer: Any, rows: int, columns: int, x0: float, y0: float, x1: float, y1: float) -> None:
    """Leave the signed area to the right of an edge in the rows it crosses, as differences."""
    x0, x1 = min(max(x0, 0.0), float(columns)), min(max(x1, 0.0), float(columns))
    y0, y1 = min(max(y0, 0.0), float(rows)), min(max(y1, 0.0), float(rows))
    if y0 == y1:
        return
    sign = 1.0
    if y0 > y1:
        x0, y0, x1, y1 = x1, y1, x0, y0
        sign = -1.0
    slope = (x1 - x0) / (y1 - y0)
    low, high = min(x0, x1), max(x0, x1)
    x = x0
    for j in range(int(y0), min(rows, int(np.ceil(y1)))):
        at = j * (columns + 2)
        end = min(j + 1.0, y1)
        to = min(max(x0 + (end - y0) * slope, low), high)
        d = sign * (end - max(float(j), y0))
        a, b = min(x, to), max(x, to)
        first, last = int(a), int(np.ceil(b))
        if last <= first + 1:
            right = 0.5 * (x + to) - first
            buffer[at + first] += d - d * right
            buffer[at + first + 1] += d * right
        else:
            # d is spread evenly over the columns from a to b; what is right of the edge in column
            # i is the integral of that up to i + 1, and the buffer holds its differences.
            step = d / (b - a)
            before = 0.0
            for i in range(first, last):
                p, q = max(a, float(i)), min(b, i + 1.0)
                area = step * (p - a) + step * (q - p) * (i + 1.0 - 0.5 * (p + q))
                buffer[j * (columns + 2) + i] += area - before
                before = area
            buffer[at + last] += d - before
        x = to


@njit(cache=True, nogil=True)
def _sum_up(buffer: Any, rows: int, columns: int) -> None:
    """From differences along the rows to areas."""
    for j in range(rows):
        total = 0.0
        for i in range(columns):
            total += buffer[j * (columns + 2) + i]
            buffer[j * (columns + 2) + i] = abs(total)
