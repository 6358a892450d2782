"""A Poisson process on the target population, and Matérn's second rule that thins it.

Densities are constant within a land cell, so a process is its number of parents per km2 in every
cell. What a cell draws follows from the seed, the cell and its density alone: a generator that runs
in its own time, from 0 up to the density. So a denser process contains the thinner one, a region
draws what the whole Earth would draw there, and nothing depends on an order.

A parent's mark is its time over the density, uniform from 0 to 1. It survives if no parent nearer
than the spacing has a smaller mark; a parent that is dead itself kills all the same. Then a parent
at x survives with probability (1 - exp(-M)) / M, where M is the number of parents expected in the
target within the spacing of x: what makes densities known.

Source: B. Matérn (1960), Spatial Variation; D. Stoyan, W. S. Kendall, J. Mecke (1995), Stochastic
Geometry and its Applications, §5.4.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from las_builder.plan.elementary import arcsin, log, sin_cos, uniform
from las_builder.plan.ellipsoid import DEGREE, cartesian, chord, latitude, span
from las_builder.plan.passes import held, starts
from las_builder.plan.target import (
    CELL,
    COLUMNS,
    SIDE,
    Floats,
    Ints,
    Target,
    row_areas,
    row_edges,
)

_UNITS = 500_000
"""Of 1e-7 degrees, along a side of a land cell: coordinates are whole units."""

_TIME, _EAST, _NORTH, _ORDER, _COMPONENT = range(5)  # what a random number is for
_MIDDLES = np.arange(COLUMNS) + 0.5
_ALIKE = 2e-4  # densities that differ by less than this part of themselves are one

# Gauss-Legendre nodes and weights on -1 to 1, a row a number of nodes.
_NODES, _WEIGHTS = np.zeros((6, 5)), np.zeros((6, 5))
_NODES[1, 0], _WEIGHTS[1, 0] = 0.0, 2.0
_NODES[2, :2], _WEIGHTS[2, :2] = (-0.5773502691896257, 0.5773502691896257), (1.0, 1.0)
_NODES[3, :3] = (-0.7745966692414834, 0.0, 0.7745966692414834)
_WEIGHTS[3, :3] = (0.5555555555555556, 0.8888888888888888, 0.5555555555555556)
_NODES[5] = (-0.906179845938664, -0.5384693101056831, 0.0, 0.5384693101056831, 0.906179845938664)
_WEIGHTS[5] = (
    0.23692688505618908, 0.47862867049936647, 0.5688888888888889, 0.47862867049936647,
    0.23692688505618908,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Points:
    """Points of a process, by cell; arrays of one length."""

    lon: Floats
    """Degrees, whole 1e-7."""

    lat: Floats
    cell: Ints
    """Of the target."""

    number: Ints
    """Which of the cell's draws it is."""

    mark: Floats

    def __len__(self) -> int:
        return self.lon.size

    def of(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> Points:
        """Some of them."""
        return Points(
            self.lon[which], self.lat[which], self.cell[which], self.number[which],
            self.mark[which],
        )  # fmt: skip


def key_of(seed: int, name: str) -> np.uint64:
    """What keeps the random numbers of one subset and seed apart from all others."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "big"))


def parents(target: Target, density: Floats, key: np.uint64) -> Points:
    """A Poisson process in the target.

    Args:
        target: Where.
        density: Parents per km2 in every cell, (cells,).
        key: See `key_of`.
    """
    mass = held(density, target.row, row_areas())
    room = int(mass + 12 * math.sqrt(mass) + 64)
    lon, lat, cell, number = (np.empty(room, np.int32) for _ in range(4))
    mark, unsure = np.empty(room), np.empty(room, np.bool_)
    n = _parents(
        target.row, target.column, target.mixed, target.pixels, density, row_areas(),
        row_edges() / row_edges()[0], key, lon, lat, cell, number, mark, unsure,
    )  # fmt: skip
    found = Points(lon[:n] / 1e7, lat[:n] / 1e7, cell[:n], number[:n], mark[:n])
    some = np.flatnonzero(unsure[:n])
    if not some.size:
        return found
    keep = np.ones(n, np.bool_)
    keep[some] = target.contains(found.lon[some], found.lat[some])
    return found.of(keep)


@njit(cache=True, nogil=True)
def _parents(  # type: ignore[no-untyped-def]
    row, column, mixed, pixels, density, whole, edges, key, lon, lat, cell, number, mark, unsure
):
    n = 0
    for i in range(row.size):
        place = row[i] * COLUMNS + column[i]
        time, j = 0.0, -1
        while True:
            j += 1
            time -= log(uniform(key, place, j, _TIME)) / whole[row[i]]
            if time >= density[i]:
                break
            east = int(uniform(key, place, j, _EAST) * _UNITS)
            share = edges[row[i] + 1] + uniform(key, place, j, _NORTH) * (
                edges[row[i]] - edges[row[i] + 1]
            )
            top = 900_000_000 - row[i] * _UNITS
            north = math.ceil(latitude(share) * 1e7)
            north = min(max(north, top - _UNITS + 1), top)
            part = 1.0
            if mixed[i] >= 0:
                pixel = (top - north) * SIDE // _UNITS * SIDE + east * SIDE // _UNITS
                part = pixels[mixed[i], pixel]
            if part == 0:
                continue
            lon[n], lat[n] = column[i] * _UNITS + east - 1_800_000_000, north
            cell[n], number[n] = i, j
            mark[n], unsure[n] = time / density[i], part < 1
            n += 1
    return n


def survivors(target: Target, points: Points, spacing_km: float) -> NDArray[np.bool_]:
    """Which points live by Matérn's second rule; distances are true chords, (points,)."""
    alive = np.ones(len(points), np.bool_)
    if spacing_km > 0 and len(points):
        start = np.empty(target.row.size + 1, np.int32)
        starts(points.cell, start)
        xyz = cartesian(points.lon, points.lat)
        _survivors(
            points.lon, points.lat, points.mark, xyz, start, target.number, target.top,
            spacing_km, alive,
        )  # fmt: skip
    return alive


@njit(cache=True, nogil=True)
def _survivors(lon, lat, mark, xyz, start, number, top, spacing, alive):  # type: ignore[no-untyped-def]
    rows = number.shape[0]
    for n in range(lon.size):
        up, wide = span(lat[n], spacing)
        first = max(math.floor((90 - lat[n] - up * 1.01) / CELL) - top, 0)
        last = min(math.floor((90 - lat[n] + up * 1.01) / CELL) - top, rows - 1)
        west = math.floor((lon[n] + 180 - wide) / CELL)
        east = math.floor((lon[n] + 180 + wide) / CELL)
        if east - west >= COLUMNS:
            west, east = 0, COLUMNS - 1
        for r in range(first, last + 1):
            for c in range(west, east + 1):
                cell = number[r, c % COLUMNS]
                if cell < 0:
                    continue
                for m in range(start[cell], start[cell + 1]):
                    if mark[m] >= mark[n]:
                        continue
                    x, y, z = (
                        xyz[m, 0] - xyz[n, 0], xyz[m, 1] - xyz[n, 1], xyz[m, 2] - xyz[n, 2],
                    )  # fmt: skip
                    if x * x + y * y + z * z < spacing * spacing:
                        alive[n] = False
                        break
                if not alive[n]:
                    break
            if not alive[n]:
                break


def expected(target: Target, density: Floats, lon: Floats, lat: Floats, radius_km: float) -> Floats:
    """M: points expected in the target within a radius of places, (n,).

    The ball is cut by parallels, along which land and density are exact. Between two rows of the
    lattice they lie at Gauss-Legendre nodes of the angle at which a disc would be cut there, which
    makes the area of a disc exact to 1e-3; where a cell is mixed, between two rows of mask pixels.

    Args:
        target: What counts.
        density: Points per km2 in every cell, (cells,).
        lon: Degrees, -180 to 180.
        lat: Degrees.
        radius_km: Of the chord.
    """
    out = np.zeros(lon.size)
    if radius_km > 0:
        _expected(
            lon, lat, radius_km, target.number, target.top, target.mixed, target.pixels, density,
            out,
        )  # fmt: skip
    return out


@njit(cache=True, nogil=True)
def _expected(lon, lat, radius, number, top, mixed, pixels, density, out):  # type: ignore[no-untyped-def]
    rows = number.shape[0]
    for n in range(lon.size):
        middle, half, wide = _extent(lat[n], radius)
        x, reach = (lon[n] + 180) / CELL, wide / CELL
        first, last = int((90 - middle - half) / CELL), int((90 - middle + half) / CELL)
        here = _even(number, mixed, density, first - top, last - top, x - reach, x + reach)
        if here >= 0:
            out[n] = density[here] * math.pi * radius * radius
            continue
        s0, c0 = sin_cos(lat[n])
        pieces = 16 if middle - half <= -90 or middle + half >= 90 else 1  # at a pole it is no disc
        start, total = 0.0, 0.0
        for row in range(first, last + 1):
            end = math.pi if row == last else _cut_at(90 - (row + 1) * CELL, middle, half)
            kind = 0
            if 0 <= row - top < rows:
                kind = _kind(number[row - top], mixed, x - reach, x + reach)
            if kind == 1:
                for piece in range(pieces):
                    total += _part(
                        start + (end - start) * piece / pieces,
                        start + (end - start) * (piece + 1) / pieces,
                        3, middle, half, s0, c0, radius, x, number[row - top], mixed, pixels,
                        density, 0,
                    )  # fmt: skip
            elif kind == 2:
                begin = start
                for p in range(SIDE):
                    south = 90 - (row + (p + 1) / SIDE) * CELL
                    stop = end if p == SIDE - 1 else min(end, _cut_at(south, middle, half))
                    if stop > begin:
                        total += _part(
                            begin, stop, 2, middle, half, s0, c0, radius, x, number[row - top],
                            mixed, pixels, density, p * SIDE,
                        )  # fmt: skip
                        begin = stop
            start = end
        out[n] = total * (half * DEGREE) * (CELL * DEGREE)


@njit(cache=True)
def _even(number, mixed, density, first, last, west, east):  # type: ignore[no-untyped-def]
    """The cell in the middle of some rows and columns if all are whole and alike, else -1."""
    if first < 0 or last >= number.shape[0]:
        return -1
    here = number[(first + last) // 2, math.floor((west + east) / 2) % COLUMNS]
    if here < 0:
        return -1
    least, most = density[here] * (1 - _ALIKE), density[here] * (1 + _ALIKE)
    for r in range(first, last + 1):
        for c in range(math.floor(west), math.floor(east) + 1):
            cell = number[r, c % COLUMNS]
            if cell < 0 or mixed[cell] >= 0 or not least <= density[cell] <= most:
                return -1
    return here


@njit(cache=True)
def _extent(lat: float, radius: float) -> tuple[float, float, float]:
    """Middle and half height of the latitudes of a ball, and half its width; degrees."""
    up, wide = span(lat, radius)
    low, high = max(lat - up, -90.0), min(lat + up, 90.0)
    return (low + high) / 2, (high - low) / 2, wide


@njit(cache=True)
def _cut_at(phi: float, middle: float, half: float) -> float:
    """The angle, 0 in the north to π, at which a parallel cuts a disc."""
    return math.pi / 2 - arcsin((phi - middle) / half)


@njit(cache=True)
def _kind(number, mixed, west, east):  # type: ignore[no-untyped-def]
    """Of the cells of a row between two columns: 0 there is none, 1 all are whole, 2 some mixed."""
    kind = 0
    for c in range(math.floor(west), math.floor(east) + 1):
        cell = number[c % COLUMNS]
        if cell >= 0:
            if mixed[cell] >= 0:
                return 2
            kind = 1
    return kind


@njit(cache=True)
def _part(  # type: ignore[no-untyped-def]
    start, end, nodes, middle, half, s0, c0, radius, x, number, mixed, pixels, density, pixel_row
):
    """∫ between two angles of what the parallels hold, in columns times radians."""
    total = 0.0
    if end - start > 1.6:
        nodes = 5
    for k in range(nodes):
        theta = (start + end) / 2 + (end - start) / 2 * _NODES[nodes, k]
        sin, cos = sin_cos(theta / DEGREE)
        reach, area = chord(s0, c0, middle + half * cos, radius)
        if reach == 0:
            continue
        west, east = x - reach / CELL, x + reach / CELL
        held = 0.0
        for c in range(math.floor(west), math.floor(east) + 1):
            cell = number[c % COLUMNS]
            if cell < 0:
                continue
            a, b = max(west, c) - c, min(east, c + 1) - c
            if mixed[cell] < 0:
                held += density[cell] * (b - a)
                continue
            for p in range(int(a * SIDE), min(int(b * SIDE), SIDE - 1) + 1):
                part = pixels[mixed[cell], pixel_row + p]
                if part > 0:
                    wide = min(b, (p + 1) / SIDE) - max(a, p / SIDE)
                    held += density[cell] * part * max(wide, 0.0)
        total += held * area * sin * _WEIGHTS[nodes, k] * (end - start) / 2
    return total


def expected_in_cells(
    target: Target, density: Floats, radius_km: float, out: Floats | None = None
) -> Floats:
    """`expected` at the middle of every cell, (cells,), the land of a cell taken as evenly spread.

    For solving, where a per cent does not matter: a row of cells shares the geometry of its ball.
    `out` is filled and given back, if there is one.
    """
    out = np.zeros(target.row.size) if out is None else out
    if radius_km > 0 and out.size:
        rows = len(target.number)
        start = np.searchsorted(target.row, target.top + np.arange(rows + 1))
        _expected_in_cells(
            start, target.column, target.areas, density, row_areas(), radius_km, target.top, out
        )
    return out


@njit(cache=True, nogil=True)
def _expected_in_cells(start, column, areas, density, whole, radius, top, out):  # type: ignore[no-untyped-def]
    rows = start.size - 1
    up, _ = span(90 - (top + rows / 2) * CELL, radius)
    slots = min(rows, int(2.1 * up / CELL) + 4)  # rows that one ball can meet, and one more
    running, held = np.empty((slots, COLUMNS + 1)), np.full(slots, -1)
    at = np.empty(5 * slots, np.int64)
    reach, weight = np.empty(5 * slots), np.empty(5 * slots)
    for row in range(rows):
        if start[row] == start[row + 1]:
            continue
        lat = 90 - (top + row + 0.5) * CELL
        middle, half, _ = _extent(lat, radius)
        s0, c0 = sin_cos(lat)
        first, last = int((90 - middle - half) / CELL), int((90 - middle + half) / CELL)
        nodes = 3 if last - first < 4 else 2 if last - first < 12 else 1
        begin, lines = 0.0, 0
        for r in range(first, last + 1):
            end = math.pi if r == last else _cut_at(90 - (r + 1) * CELL, middle, half)
            here = r - top
            if 0 <= here < rows:
                slot = here % slots
                if held[slot] != here:
                    held[slot] = here
                    _sum_row(start, column, areas, density, whole[r], here, running[slot])
                some = 5 if end - begin > 1.6 else nodes
                for k in range(some):
                    theta = (begin + end) / 2 + (end - begin) / 2 * _NODES[some, k]
                    sin, cos = sin_cos(theta / DEGREE)
                    long, area = chord(s0, c0, middle + half * cos, radius)
                    if long > 0:
                        at[lines], reach[lines] = slot, long / CELL
                        weight[lines] = (
                            area * sin * _WEIGHTS[some, k] * (end - begin) / 2 * half
                            * (CELL * DEGREE * DEGREE)
                        )  # fmt: skip
                        lines += 1
            begin = end
        n = start[row]
        while n < start[row + 1]:
            stop = n + 1  # of cells side by side
            while stop < start[row + 1] and column[stop] == column[stop - 1] + 1:
                stop += 1
            _over_cells(running, at, reach, weight, lines, column[n], out[n:stop])
            n = stop


@njit(cache=True)
def _over_cells(running, at, reach, weight, lines, column, out):  # type: ignore[no-untyped-def]
    """What the lines hold around cells side by side, the first of them in a column.

    Line after line, so that many cells are worked out at a time; a cell at a turn, or beside which
    a line ends at the edge of a cell, on its own. The bits are those of `_run`.
    """
    turns = False
    for k in range(lines):
        off = 0.5 + reach[k] - math.floor(0.5 + reach[k])
        turns |= not 1e-9 < off < 1 - 1e-9 or reach[k] > column
        turns |= column + out.size + reach[k] > COLUMNS
    if turns:
        for n in range(out.size):
            x = column + n + 0.5
            total = 0.0
            for k in range(lines):
                total += weight[k] * (
                    _run(running, at[k], x + reach[k]) - _run(running, at[k], x - reach[k])
                )
            out[n] = max(total, 0.0)
        return
    out[:] = 0.0
    for k in range(lines):
        _add_line(running[at[k]], reach[k], weight[k], column, out)
    for n in range(out.size):
        out[n] = max(out[n], 0.0)


@njit(cache=True)
def _add_line(running, reach, weight, column, out):  # type: ignore[no-untyped-def]
    n = out.size
    east, west = math.floor(0.5 + reach), math.floor(0.5 - reach)
    a, b = running[column + east :][:n], running[column + east + 1 :][:n]
    c, d = running[column + west :][:n], running[column + west + 1 :][:n]
    middle = _MIDDLES[column:][:n]
    for i in range(n):
        x = middle[i]
        far = a[i] + ((x + reach) - (x + (east - 0.5))) * (b[i] - a[i])
        near = c[i] + ((x - reach) - (x + (west - 0.5))) * (d[i] - c[i])
        out[i] += weight * (far - near)


@njit(cache=True)
def _sum_row(start, column, areas, density, whole, row, out):  # type: ignore[no-untyped-def]
    """The running sum, along a row of the lattice, of what its cells hold per area of a cell."""
    total, done = 0.0, 0
    for n in range(start[row], start[row + 1]):
        for c in range(done, column[n] + 1):
            out[c] = total
        done = column[n] + 1
        total += density[n] * areas[n] / whole
    for c in range(done, COLUMNS + 1):
        out[c] = total


@njit(cache=True)
def _run(running: Floats, row: int, x: float) -> float:
    """The running sum of a row up to a column and a part of it, a turn on either side."""
    turn = 0.0
    if x < 0:
        x += COLUMNS
        turn = -running[row, COLUMNS]
    elif x >= COLUMNS:
        x -= COLUMNS
        turn = running[row, COLUMNS]
    whole = int(x)
    left = running[row, whole]
    return float(turn + left + (x - whole) * (running[row, whole + 1] - left))


def order_of(target: Target, points: Points, key: np.uint64) -> Floats:
    """A random number of each point that is independent of its mark, 0 to 1: the order of a cell."""
    return _numbers(target, points, key, _ORDER)


def choice_of(target: Target, points: Points, key: np.uint64) -> Floats:
    """Another one: which component drew it."""
    return _numbers(target, points, key, _COMPONENT)


def _numbers(target: Target, points: Points, key: np.uint64, purpose: int) -> Floats:
    out = np.empty(len(points))
    place = target.row[points.cell].astype(np.int64) * COLUMNS + target.column[points.cell]
    _uniforms(place, points.number, key, purpose, out)
    return out


@njit(cache=True, nogil=True)
def _uniforms(place, number, key, purpose, out):  # type: ignore[no-untyped-def]
    for n in range(out.size):
        out[n] = uniform(key, place[n], number[n], purpose)
