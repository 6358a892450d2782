"""Scattered places on the sphere, about `cell` metres apart: villages, lakes, stands, crowns.

Belts of equal height around the globe hold whole numbers of cells, each with one place in it that
a hash has moved. The nearest and second nearest place of a point cut the ground into cells with
straight sides (Voronoi). No seam at ±180°, none at the poles.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from las_builder.access.virtual.noise import NOWHERE, RADIUS, hashed, kernel, sin_cos, uniform

GIRTH = 2 * math.pi * RADIUS
"""Metres around the globe."""

CANDIDATES = 9

_JITTER = 0.75  # of a cell; more, and the nearest could lie beyond the neighbouring cells
_TO_NANODEGREES = 180e9 / (math.pi * RADIUS)
_BITS = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_HALF = 2.0**-32


@kernel()
def cells_in_belt(belt: int, cell: float) -> int:
    """How many cells a belt has; 0 beyond the poles."""
    middle = (belt + 0.5) * cell * _TO_NANODEGREES
    if abs(middle) > 90e9:
        middle = 180e9 - abs(middle)
        if middle < 90e9 - 2 * cell * _TO_NANODEGREES:
            return 0
    _, cos = sin_cos(round(middle))
    return max(1, round(GIRTH * cos / cell))


@kernel()
def nearest(
    slot: int,
    cell: float,
    seed: np.uint64,
    turn: float,
    north: float,
    cos: float,
    key: NDArray[np.int64],
    place: NDArray[np.float64],
    name: NDArray[np.uint64],
    out: NDArray[np.float64],
) -> tuple[np.uint64, np.uint64]:
    """The two nearest places of a point.

    Args:
        slot: Which lattice, in the arrays below.
        cell: Metres.
        seed: Another seed, other places.
        turn: Longitude from 180° W, in turns, 0-1.
        north: Metres from the equator.
        cos: Of the latitude.
        key: (slots, 4) belt and first columns of the candidates of the last point.
        place: (slots, 9, 2) their turn and metres north.
        name: (slots, 9) their names.
        out: (6,) is filled: east and north offset in metres of the point from the nearest place and
            the square of the distance; the same of the second nearest.

    Returns:
        Names of the two.
    """
    belt = math.floor(north / cell)
    n0, n1, n2 = (
        (
            cells_in_belt(belt - 1, cell),
            cells_in_belt(belt, cell),
            cells_in_belt(belt + 1, cell),
        )
        if key[slot, 0] != belt
        else (key[slot, 4], key[slot, 5], key[slot, 6])
    )
    c0, c1, c2 = (
        math.floor(turn * n0),
        math.floor(turn * n1),
        math.floor(turn * n2),
    )
    if key[slot, 0] != belt or key[slot, 1] != c0 or key[slot, 2] != c1 or key[slot, 3] != c2:
        key[slot, 0], key[slot, 1], key[slot, 2], key[slot, 3] = belt, c0, c1, c2
        key[slot, 4], key[slot, 5], key[slot, 6] = n0, n1, n2
        for b in range(3):
            n = n0 if b == 0 else (n1 if b == 1 else n2)
            column = c0 if b == 0 else (c1 if b == 1 else c2)
            for c in range(3):
                at = 3 * b + c
                if n == 0:
                    place[slot, at, 1] = 1e12
                    continue
                j = (column + c - 1) % n
                h = hashed(belt + b - 1, j, 0, seed)
                a = float(h >> _32) * _HALF
                d = float(h & _BITS) * _HALF
                place[slot, at, 0] = (j + 0.5 + _JITTER * (a - 0.5)) / n
                place[slot, at, 1] = (belt + b - 1 + 0.5 + _JITTER * (d - 0.5)) * cell
                name[slot, at] = hashed(belt + b - 1, j, 1, seed)
    best, second = 1e30, 1e30
    first, other = 0, 0
    for at in range(CANDIDATES):
        dx = turn - place[slot, at, 0]
        dx = (dx - round(dx)) * GIRTH * cos
        dy = north - place[slot, at, 1]
        d = dx * dx + dy * dy
        if d < best:
            second, other = best, first
            out[3], out[4], out[5] = out[0], out[1], out[2]
            best, first = d, at
            out[0], out[1], out[2] = dx, dy, d
        elif d < second:
            second, other = d, at
            out[3], out[4], out[5] = dx, dy, d
    return name[slot, first], name[slot, other]


@kernel()
def to_side(out: NDArray[np.float64]) -> float:
    """Metres from the point to the side between the cells of its two nearest places."""
    dx, dy = out[0] - out[3], out[1] - out[4]
    return (out[5] - out[2]) / (2 * math.sqrt(dx * dx + dy * dy) + 1e-9)


@kernel()
def to_path(out: NDArray[np.float64]) -> float:
    """Metres from the point to the straight path between its two nearest places."""
    vx, vy = out[0] - out[3], out[1] - out[4]
    length = vx * vx + vy * vy + 1e-9
    t = min(1.0, max(0.0, (out[0] * vx + out[1] * vy) / length))
    dx, dy = out[0] - t * vx, out[1] - t * vy
    return math.sqrt(dx * dx + dy * dy)


def scratch(slots: int) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.uint64]]:
    """Fresh `key`, `place` and `name` for `nearest`."""
    return (
        np.full((slots, 7), NOWHERE, np.int64),
        np.empty((slots, CANDIDATES, 2)),
        np.zeros((slots, CANDIDATES), np.uint64),
    )


__all__ = ["GIRTH", "cells_in_belt", "nearest", "scratch", "to_path", "to_side", "uniform"]
