"""Which pixels of a grid a polygon covers, by one of two rules.

centre: pixels whose centre lies in it; of two polygons that share an edge through centres the eastern
(southern) one has them, so that what fits together neither overlaps nor leaves a gap. all-touched: pixels
of which it covers any area at all. Crossings of edges and rows decide, in float64 and no other operations
than the basic ones, and vertices are brought to 2^-20 of a pixel first: the noise of a projection is below
that, so the same ground gives the same pixels in every window.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from las_builder.core.grid import Grid

Rule = Literal["centre", "all-touched"]

SNAP = float(1 << 20)
"""Vertices are whole multiples of one over this, in pixels."""


def burn(
    polygon: list[NDArray[np.float64]], value: int, grid: Grid, rule: Rule, out: NDArray[np.int32]
) -> None:
    """Write a value into the pixels of a polygon, where they hold a greater one.

    Args:
        polygon: Closed rings, (n, 2) each, x and y in the CRS of the grid; a place inside an even
            number of them is outside: holes are rings like others.
        value: To write.
        grid: Any that is north-up.
        rule: Which pixels are covered.
        out: (y, x), changed.
    """
    t = grid.transform
    points = np.concatenate(polygon)
    u = np.round((points[:, 0] - t.c) / t.a * SNAP) / SNAP
    v = np.round((points[:, 1] - t.f) / t.e * SNAP) / SNAP
    starts = np.cumsum([0, *(len(ring) for ring in polygon)])
    if u.max() <= 0 or v.max() <= 0 or u.min() >= grid.width or v.min() >= grid.height:
        return
    _fill(u, v, starts, value, out)
    if rule == "all-touched":
        _touch(u, v, starts, value, out)


@njit(cache=True, nogil=True)
def _fill(u: Any, v: Any, starts: Any, value: int, out: Any) -> None:
    """Pixels whose centres lie inside: each crossing of an edge with a row of centres turns all that
    follow it.
    """
    height, width = out.shape
    top = min(max(int(np.ceil(v.min() - 0.5)), 0), height)
    bottom = min(max(int(np.ceil(v.max() - 0.5)), 0), height)
    left = min(max(int(np.ceil(u.min() - 0.5)), 0), width)
    right = min(max(int(np.ceil(u.max() - 0.5)), 0), width)
    turns = np.zeros((max(bottom - top, 0), right - left + 1), np.bool_)
    for k in range(starts.size - 1):
        for i in range(starts[k], starts[k + 1] - 1):
            x0, y0, x1, y1 = u[i], v[i], u[i + 1], v[i + 1]
            if y0 > y1:  # the same numbers for whoever shares the edge
                x0, y0, x1, y1 = x1, y1, x0, y0
            if y0 == y1:
                continue
            slope = (x1 - x0) / (y1 - y0)
            for row in range(max(top, int(np.ceil(y0 - 0.5))), min(bottom, int(np.ceil(y1 - 0.5)))):
                x = x0 + (row + 0.5 - y0) * slope
                x = min(max(x, min(x0, x1)), max(x0, x1))
                column = min(max(int(np.ceil(x - 0.5)), left), right)
                turns[row - top, column - left] ^= True
    for row in range(top, bottom):
        inside = False
        for column in range(left, right):
            inside ^= turns[row - top, column - left]
            if inside and out[row, column] > value:
                out[row, column] = value


@njit(cache=True, nogil=True)
def _touch(u: Any, v: Any, starts: Any, value: int, out: Any) -> None:
    """Pixels that an edge goes through; one that runs between two rows or columns goes through none."""
    height, width = out.shape
    for k in range(starts.size - 1):
        for i in range(starts[k], starts[k + 1] - 1):
            x0, y0, x1, y1 = u[i], v[i], u[i + 1], v[i + 1]
            if y0 > y1:
                x0, y0, x1, y1 = x1, y1, x0, y0
            if y0 == y1 and y0 == np.floor(y0):
                continue
            slope = (x1 - x0) / (y1 - y0) if y1 > y0 else 0.0
            last = int(np.floor(y0)) + 1 if y0 == y1 else int(np.ceil(y1))
            for row in range(max(0, int(np.floor(y0))), min(height, last)):
                a = x0 + (max(y0, float(row)) - y0) * slope
                b = x0 + (min(y1, row + 1.0) - y0) * slope if y1 > y0 else x1
                if y1 <= row + 1.0:
                    b = x1
                a, b = min(a, b), max(a, b)
                for column in range(max(0, int(np.floor(a))), min(width, int(np.ceil(b)))):
                    out[row, column] = min(out[row, column], value)
