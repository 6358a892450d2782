"""The code with the largest area under each pixel of a grid: the kernels of `regrid`.

A grid pixel is a quadrilateral on the product's lattice. Its overlap with every product pixel is
exact: each of its edges is walked through the product pixels that it crosses and leaves, in each, the
signed area to its right; sums along the rows are the overlaps (the accumulation buffer of
font rasterisers). Where all product pixels that it can touch have one code, nothing is computed; where
none of its edges leaves a row or a column of product pixels, areas have a closed form.
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

FEW = 32
"""Codes of a window whose votes are all looked at; of more, those under the grid pixel are."""


def majority(
    codes: NDArray[np.integer],
    nodata: int,
    corners: tuple[Floats, Floats],
    turn: float,
    values: Floats,
) -> tuple[NDArray[np.integer], NDArray[np.uint8], Floats]:
    """The winning code of every pixel, its share, and means of evidence.

    Args:
        codes: (y, x) of the window, any integer type.
        nodata: Code that never wins over another.
        corners: Columns and rows (of pixel corners of the window) of the mesh of the grid's pixel
            corners, (h + 1, w + 1) each; not finite where there is no such place. Where the grid's
            edges run along the lattice, (w + 1,) and (h + 1,).
        turn: Columns of one turn of the globe; the corners of a pixel are brought onto the
            turn of its first. 0: they are on it.
        values: (layers, y, x) evidence on the window; NaN is left out.

    Returns:
        Codes (h, w) in their type, share (h, w) in percent, sums and areas (2, layers, h, w).
    """
    names, which = _plain(codes)
    shape = (len(corners[1]) - 1, corners[0].shape[-1] - 1)
    winner = np.empty(shape, dtype=which.dtype)
    share = np.zeros(shape, dtype=np.uint8)
    totals = np.zeros((2, values.shape[0], *shape))
    nothing = np.searchsorted(names, nodata) if names.size else nodata % (1 << 8 * codes.itemsize)
    if names.size and not (nothing < names.size and names[nothing] == nodata):
        names, nothing = np.append(names, nodata), names.size
    votes = np.zeros(names.size or 1 << 8 * codes.itemsize)
    rivals = _present(which, nothing, votes.size)
    if corners[0].ndim == 1:
        west, east = corners[0][:-1], corners[0][1:]
        if turn:
            east = east + turn * np.floor((west - east) / turn + 0.5)
        _majority_upright(
            which, nothing, west, east, corners[1][:-1], corners[1][1:], values, votes, winner,
            share, totals,
        )  # fmt: skip
    else:
        _majority(
            which, nothing, *corners, turn, values, votes, rivals, winner, share, totals
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
    which: Any, nothing: int, corner_cols: Any, corner_rows: Any, turn: float, values: Any,
    votes: Any, rivals: Any, winner: Any, share: Any, totals: Any,
) -> None:  # fmt: skip
    height, width = which.shape
    layers = values.shape[0]
    quick = layers == 0 and rivals.size > 0
    u, v = np.empty(4), np.empty(4)
    buffer = np.empty((MAX_SPAN + 2) * (MAX_SPAN + 4))  # only its start is ever touched
    for y in range(winner.shape[0]):
        for x in range(winner.shape[1]):
            winner[y, x] = nothing
            u[0], u[1] = corner_cols[y, x], corner_cols[y, x + 1]
            u[2], u[3] = corner_cols[y + 1, x + 1], corner_cols[y + 1, x]
            v[0], v[1] = corner_rows[y, x], corner_rows[y, x + 1]
            v[2], v[3] = corner_rows[y + 1, x + 1], corner_rows[y + 1, x]
            if turn != 0:
                for k in range(1, 4):
                    u[k] += turn * np.floor((u[0] - u[k]) / turn + 0.5)
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
            if inside and layers == 0 and _alike(which, row, col, rows, columns):
                winner[y, x] = which[row, col]
                share[y, x] = 0 if which[row, col] == nothing else 100
                continue
            whole = _shoelace(u, v)
            if quick and inside and (
                _tally_upright(which, row, col, rows, columns, u, v, votes)
                or _tally_leaning(which, row, col, rows, columns, u, v, votes)
            ):  # fmt: skip
                best, code, alone = _leader(rivals, votes, EDGE * whole, nothing)
                if alone and best > SLIVER:
                    winner[y, x] = code
                    share[y, x] = _percent(best, whole)
                    continue
            for k in range(4):
                u[k] -= col
                v[k] -= row
            for k in range(rows * (columns + 2)):
                buffer[k] = 0.0
            for k in range(4):
                n = (k + 1) & 3
                _walk(buffer, rows, columns, u[k], v[k], u[n], v[n])
            _sum_up(buffer, rows, columns)
            _decide(
                which, row, col, rows, columns, buffer, 0.25 * (u[0] + u[1] + u[2] + u[3]),
                0.25 * (v[0] + v[1] + v[2] + v[3]), whole, nothing, values, votes, y, x, winner,
                share, totals,
            )  # fmt: skip


@njit(cache=True, nogil=True)
def _majority_upright(
    which: Any, nothing: int, west: Any, east: Any, north: Any, south: Any, values: Any, votes: Any,
    winner: Any, share: Any, totals: Any,
) -> None:  # fmt: skip
    """As `_majority`, of grid pixels whose edges run along the lattice: what they cover of a column
    of product pixels and of a row are worked out once, and areas are products of both.
    """
    height, width = which.shape
    layers = values.shape[0]
    first_cols, columns_of, across = _spans(west, east, width)
    first_rows, rows_of, down = _spans(north, south, height)
    most_columns, most_rows = across.shape[1], down.shape[1]
    buffer = np.empty((most_columns + 2) * (most_rows + 1))
    for y in range(winner.shape[0]):
        row, rows = first_rows[y], rows_of[y]
        for x in range(winner.shape[1]):
            col, columns = first_cols[x], columns_of[x]
            winner[y, x] = nothing
            if rows < 0 or columns < 0:
                continue
            inside = row >= 0 and col >= 0 and row + rows <= height and col + columns <= width
            if inside and layers == 0 and _alike(which, row, col, rows, columns):
                winner[y, x] = which[row, col]
                share[y, x] = 0 if which[row, col] == nothing else 100
                continue
            for j in range(rows):
                high = down[y, j]
                for i in range(columns):
                    part = across[x, i] * high
                    buffer[np.uint64(j * (columns + 2) + i)] = part if part > SLIVER else 0.0
            _decide(
                which, row, col, rows, columns, buffer, 0.5 * (west[x] + east[x]) - col, 0.5 * (north[y] + south[y]) - row,
                (east[x] - west[x]) * (south[y] - north[y]), nothing, values, votes, y, x, winner,
                share, totals,
            )  # fmt: skip


@njit(cache=True, nogil=True)
def _spans(start: Any, stop: Any, size: int) -> Any:
    """First product pixel of each interval, how many it meets (-1: none of `size`, or too many), and
    how much of each it covers, (n, most).
    """
    n = start.size
    first, many = np.zeros(n, np.int64), np.full(n, -1, np.int64)
    most = 0
    for k in range(n):
        if stop[k] - start[k] <= MAX_SPAN and stop[k] >= 0 and start[k] <= size:
            first[k] = int(np.floor(start[k] + EDGE))
            many[k] = int(np.ceil(stop[k] - first[k] - EDGE))
            most = max(most, many[k])
    covered = np.zeros((n, most))
    for k in range(n):
        low, high = start[k] - first[k], stop[k] - first[k]
        for i in range(many[k]):
            covered[k, i] = max(min(high, i + 1.0) - max(low, float(i)), 0.0)
    return first, many, covered


@njit(cache=True, nogil=True, inline="always")
def _decide(
    which: Any, row: int, col: int, rows: int, columns: int, parts: Any, across: float, down: float,
    whole: float, nothing: int, values: Any, votes: Any, y: int, x: int, winner: Any, share: Any,
    totals: Any,
) -> None:  # fmt: skip
    """Winner, share and sums of evidence of one pixel from the areas of product pixels under it,
    which lie `columns + 2` apart; `across` and `down` are its centre's.
    """
    height, width = which.shape
    stride = columns + 2
    j0, j1 = max(0, -row), min(rows, height - row)
    i0, i1 = max(0, -col), min(columns, width - col)
    for k in range(values.shape[0]):
        for j in range(j0, j1):
            for i in range(i0, i1):
                part, value = parts[j * stride + i], values[k, row + j, col + i]
                if part > 0 and np.isfinite(value):
                    totals[0, k, y, x] += value * part
                    totals[1, k, y, x] += part
    best, code = _vote(
        which, row, col, j0, j1, i0, i1, parts, stride, across, down, nothing, EDGE * whole,
        votes,
    )  # fmt: skip
    if best > 0:
        winner[y, x] = code
        share[y, x] = _percent(best, whole)


@njit(cache=True, nogil=True, inline="always")
def _percent(part: float, whole: float) -> Any:
    """Half up, and what float noise leaves of a half is one; at least 1."""
    return np.uint8(min(100.0, max(1.0, np.floor(100 * part / whole + 0.5 + EDGE))))


@njit(cache=True, nogil=True, inline="always")
def _alike(which: Any, row: int, col: int, rows: int, columns: int) -> bool:
    """Whether all of a window is of one code."""
    first = which[np.uint64(row), np.uint64(col)]
    for j in range(rows):
        alike = True
        for i in range(columns):
            alike &= which[np.uint64(row + j), np.uint64(col + i)] == first
        if not alike:
            return False
    return True


@njit(cache=True, nogil=True)
def _present(which: Any, nothing: int, size: int) -> Any:
    """The codes of a window, nothing left out, of `size` that there can be; none: more than `FEW`."""
    seen = np.zeros(size, np.bool_)
    for j in range(which.shape[0]):
        for i in range(which.shape[1]):
            seen[which[j, i]] = True
    seen[nothing] = False
    found = np.flatnonzero(seen)
    return found if found.size <= FEW else found[:0]


@njit(cache=True, nogil=True, inline="always")
def _leader(rivals: Any, votes: Any, slack: float, nothing: int) -> Any:
    """The largest area, a code that has it but for `slack`, whether only one has; votes are 0 after."""
    best = 0.0
    for k in range(rivals.size):
        area = votes[np.uint64(rivals[np.uint64(k)])]
        best = area if area > best else best
    many, won = 0, np.int64(nothing)
    for k in range(rivals.size):
        name = rivals[np.uint64(k)]
        near = votes[np.uint64(name)] >= best - slack
        votes[np.uint64(name)] = 0.0
        many += near
        won = name if near else won
    votes[nothing] = 0.0
    return best, won, many == 1


@njit(cache=True, nogil=True, inline="always")
def _tally_upright(
    which: Any, row: int, col: int, rows: int, columns: int, u: Any, v: Any, votes: Any
) -> bool:  # fmt: skip
    """Add the areas of product pixels under a quadrilateral none of whose edges leaves its row or
    column of them; False, and nothing added, of any other.

    The areas between the edges are those of a rectangle, less trapezoids along its sides.
    """
    last_col, last_row = col + columns - 1, row + rows - 1
    upright = (
        (columns > 1) & (rows > 1) & (max(u[0], u[3]) < col + 1) & (max(v[0], v[1]) < row + 1)
        & (min(u[1], u[2]) > last_col) & (min(v[2], v[3]) > last_row)
    )  # fmt: skip
    if not upright:
        return False
    west, east = (u[3] - u[0]) / (v[3] - v[0]), (u[2] - u[1]) / (v[2] - v[1])
    north, south = (v[1] - v[0]) / (u[1] - u[0]), (v[2] - v[3]) / (u[2] - u[3])
    one, at_row, at_col, at_end = np.uint64(1), np.uint64(row), np.uint64(col), np.uint64(last_col)
    # The first row: below the northern edge, which is taken at the middle of each column.
    below, wide = row + 1.0, col + 1.0 - u[0]
    deep = below - v[0]
    votes[which[at_row, at_col]] += wide * (deep - north * 0.5 * wide) - 0.5 * deep * deep * west
    for i in range(col + 1, last_col):
        votes[which[at_row, np.uint64(i)]] += deep - north * (i + 0.5 - u[0])
    wide, deep = u[1] - last_col, below - v[1]
    votes[which[at_row, at_end]] += wide * (deep + north * 0.5 * wide) + 0.5 * deep * deep * east
    for j in range(row + 1, last_row):
        at_row += one
        votes[which[at_row, at_col]] += col + 1 - (u[0] + (j + 0.5 - v[0]) * west)
        for i in range(col + 1, last_col):
            votes[which[at_row, np.uint64(i)]] += 1.0
        votes[which[at_row, at_end]] += u[1] + (j + 0.5 - v[1]) * east - last_col
    at_row = np.uint64(last_row)
    wide, deep = col + 1.0 - u[3], v[3] - last_row
    votes[which[at_row, at_col]] += wide * (deep + south * 0.5 * wide) + 0.5 * deep * deep * west
    for i in range(col + 1, last_col):
        votes[which[at_row, np.uint64(i)]] += deep + south * (i + 0.5 - u[3])
    wide, deep = u[2] - last_col, v[2] - last_row
    votes[which[at_row, at_end]] += wide * (deep - south * 0.5 * wide) - 0.5 * deep * deep * east
    return True


@njit(cache=True, nogil=True, inline="always")
def _tally_leaning(
    which: Any, row: int, col: int, rows: int, columns: int, u: Any, v: Any, votes: Any
) -> bool:  # fmt: skip
    """Add the areas of product pixels under a quadrilateral that leans little; False, and nothing
    added, of any other.

    Each edge lies in one row (column) of product pixels or in two, and changes from one to the other
    away from the corners. Then areas are those of rectangles, less trapezoids along the sides.
    """
    end_row, end_col = row + rows - 1, col + columns - 1
    top, left = max(v[0], v[1]), max(u[0], u[3])
    bottom, right = min(v[2], v[3]), min(u[1], u[2])
    north_row = row + int(top >= row + 1)  # the lower of the rows that the northern edge is in
    south_row = end_row - int(bottom <= end_row)  # the upper one, and so on
    west_col, east_col = col + int(left >= col + 1), end_col - int(right <= end_col)
    if not (
        (top < row + 2) & (left < col + 2) & (bottom > end_row - 1) & (right > end_col - 1)
        & (north_row < south_row) & (west_col < east_col)
    ):  # fmt: skip
        return False
    west, east = (u[3] - u[0]) / (v[3] - v[0]), (u[2] - u[1]) / (v[2] - v[1])
    north, south = (v[1] - v[0]) / (u[1] - u[0]), (v[2] - v[3]) / (u[2] - u[3])
    nw, sw = col + int(u[0] >= col + 1), col + int(u[3] >= col + 1)
    ne, se = end_col - int(u[1] <= end_col), end_col - int(u[2] <= end_col)
    below, above = north_row + 1.0, float(south_row)
    if not (
        _between(nw, u[0] + (below - v[0]) * west) & _between(sw, u[3] + (above - v[3]) * west)
        & _between(ne, u[1] + (below - v[1]) * east) & _between(se, u[2] + (above - v[2]) * east)
    ):  # fmt: skip
        return False
    if north_row > row:
        line, a, b = row + 1, v[0] + (nw + 1 - u[0]) * north, v[1] + (ne - u[1]) * north
        if (v[0] < line) != (a < line) or (v[1] < line) != (b < line):
            return False
    if south_row < end_row:
        line, a, b = end_row, v[3] + (sw + 1 - u[3]) * south, v[2] + (se - u[2]) * south
        if (v[3] > line) != (a > line) or (v[2] > line) != (b > line):
            return False
    _tally_end(
        which, north_row, row, nw, ne, nw + 1 - u[0], u[1] - ne, below - v[0], below - v[1], -north,
        -west, east, votes,
    )  # fmt: skip
    for j in range(north_row + 1, south_row):
        at = np.uint64(j)
        area = west_col + 1 - (u[0] + (j + 0.5 - v[0]) * west)
        if west_col > col:
            over = _over(area + 0.5 * west, area - 0.5 * west)
            votes[which[at, np.uint64(col)]] += over
            area -= over
        votes[which[at, np.uint64(west_col)]] += area
        for i in range(west_col + 1, east_col):
            votes[which[at, np.uint64(i)]] += 1.0
        area = u[1] + (j + 0.5 - v[1]) * east - east_col
        if east_col < end_col:
            over = _over(area + 0.5 * east, area - 0.5 * east)
            votes[which[at, np.uint64(end_col)]] += over
            area -= over
        votes[which[at, np.uint64(east_col)]] += area
    _tally_end(
        which, south_row, end_row, sw, se, sw + 1 - u[3], u[2] - se, v[3] - above, v[2] - above,
        south, west, -east, votes,
    )  # fmt: skip
    return True


@njit(cache=True, nogil=True, inline="always")
def _between(pixel: int, place: float) -> bool:
    return bool((place >= pixel) & (place <= pixel + 1))


@njit(cache=True, nogil=True, inline="always")
def _over(a: float, b: float) -> float:
    """Mean of what exceeds 1 of something that goes from a to b evenly."""
    high, low = max(a, b) - 1, min(a, b) - 1
    if high <= 0:
        return 0.0
    return 0.5 * (high + low) if low >= 0 else 0.5 * high * high / (high - low)


@njit(cache=True, nogil=True, inline="always")
def _tally_end(
    which: Any, near: int, far: int, west: int, east: int, west_wide: float, east_wide: float,
    west_deep: float, east_deep: float, slope: float, west_lean: float, east_lean: float, votes: Any,
) -> None:  # fmt: skip
    """The rows at one end of a quadrilateral: `near` (to its middle) and `far`, or one twice.

    Of the columns `west` and `east` it covers what is within `wide` of the middle; it reaches `deep`
    beyond the inner side of `near`, deeper by `slope` with each column eastwards, and its sides
    `lean` outwards by so much with each row inwards.
    """
    two = near != far
    at, at_far = np.uint64(near), np.uint64(far)
    area = _corner(west_wide, west_deep, slope, west_lean)
    if two and west_deep > 1:
        over = _corner(west_wide, west_deep - 1, slope, west_lean)
        votes[which[at_far, np.uint64(west)]] += over
        area -= over
    votes[which[at, np.uint64(west)]] += area
    for i in range(west + 1, east):
        area = west_deep + slope * (i - west - 0.5 + west_wide)
        if two:
            over = _over(area - 0.5 * slope, area + 0.5 * slope)
            votes[which[at_far, np.uint64(i)]] += over
            area -= over
        votes[which[at, np.uint64(i)]] += area
    area = _corner(east_wide, east_deep, -slope, east_lean)
    if two and east_deep > 1:
        over = _corner(east_wide, east_deep - 1, -slope, east_lean)
        votes[which[at_far, np.uint64(east)]] += over
        area -= over
    votes[which[at, np.uint64(east)]] += area


@njit(cache=True, nogil=True, inline="always")
def _corner(wide: float, deep: float, slope: float, lean: float) -> float:
    return wide * (deep + slope * 0.5 * wide) + 0.5 * deep * deep * lean


@njit(cache=True, nogil=True, inline="always")
def _vote(
    which: Any, row: int, col: int, j0: int, j1: int, i0: int, i1: int, parts: Any, stride: int,
    across: float, down: float, nothing: int, slack: float, votes: Any,
) -> Any:  # fmt: skip
    """Area of the winning code and the code; ties go to the product pixel nearest the centre.

    `across` and `down` are the centre's; `votes` are 0 before and after. Areas only grow, so the
    largest and the second largest are known when the last is counted, without a branch: which
    code comes next, no processor can guess.
    """
    votes[nothing] = -1e300
    best, second, won = 0.0, 0.0, float(nothing)
    for j in range(j0, j1):
        for i in range(i0, i1):
            code = which[np.uint64(row + j), np.uint64(col + i)]
            area = votes[code] + parts[np.uint64(j * stride + i)]
            votes[code] = area
            name = float(code)
            below = min(area, best)
            second = max(second, 0.0 if won == name else below)
            won = name if area > best else won
            best = max(area, best)
    least = best - slack
    if second >= least and second > 0:
        nearest = np.inf
        for j in range(j0, j1):
            far = (j + 0.5 - down) * (j + 0.5 - down)
            for i in range(i0, i1):  # the last is furthest south-east
                code = which[np.uint64(row + j), np.uint64(col + i)]
                rival = (votes[code] >= least) & (parts[np.uint64(j * stride + i)] > EDGE)
                distance = far + (i + 0.5 - across) * (i + 0.5 - across)
                near = rival & (distance <= nearest + EDGE)
                won = float(code) if near else won
                nearest = min(nearest, distance) if rival else nearest
    for j in range(j0, j1):
        for i in range(i0, i1):
            votes[which[np.uint64(row + j), np.uint64(col + i)]] = 0.0
    votes[nothing] = 0.0
    return best, int(won)


@njit(cache=True, nogil=True, inline="always")
def _shoelace(u: Any, v: Any) -> float:
    """Area of a quadrilateral."""
    total = 0.0
    for k in range(4):
        n = (k + 1) & 3
        total += u[n] * v[k] - u[k] * v[n]
    return abs(total) / 2


@njit(cache=True, nogil=True, inline="always")
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
    top, bottom, stride = int(y0), min(rows, int(np.ceil(y1))), columns + 2
    first = int(low)
    if high <= first + 1:  # one column, as of most edges that run north and south
        at = np.uint64(top * stride + first)
        above = y0
        for j in range(top, bottom):
            end = min(j + 1.0, y1)
            d = sign * (end - above)
            right = d * (x0 + (0.5 * (above + end) - y0) * slope - first)
            buffer[at] += d - right
            buffer[at + np.uint64(1)] += right
            at += np.uint64(stride)
            above = end
        return
    x = x0
    for j in range(top, bottom):
        end = min(j + 1.0, y1)
        to = min(max(x0 + (end - y0) * slope, low), high)
        d = sign * (end - max(float(j), y0))
        a, b = min(x, to), max(x, to)
        first, last = int(a), int(np.ceil(b))
        at = np.uint64(j * stride + first)
        one = np.uint64(1)
        if last <= first + 1:
            right = d * (0.5 * (x + to) - first)
            buffer[at] += d - right
            buffer[at + one] += right
        else:
            # d is spread evenly over the columns from a to b; what is right of the edge in a column
            # is the integral of that up to its end, and the buffer holds differences of those.
            step = d / (b - a)
            begun, ended = first + 1 - a, b - (last - 1)
            head, tail = 0.5 * step * begun * begun, 0.5 * step * ended * ended
            end_at = np.uint64(j * stride + last)
            buffer[at] += head
            buffer[end_at] += tail
            if last == first + 2:
                buffer[at + one] += d - head - tail
            else:
                second = step * (begun + 0.5)
                buffer[at + one] += second - head
                for i in range(at + one + one, end_at - one):
                    buffer[np.uint64(i)] += step
                before = second + (last - first - 3) * step
                buffer[end_at - one] += d - before - tail
        x = to


@njit(cache=True, nogil=True, inline="always")
def _sum_up(buffer: Any, rows: int, columns: int) -> None:
    """From differences along the rows to areas."""
    for j in range(rows):
        total = 0.0
        for i in range(columns):
            at = np.uint64(j * (columns + 2) + i)
            total += buffer[at]
            buffer[at] = abs(total) if abs(total) > SLIVER else 0.0
