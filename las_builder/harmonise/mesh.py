"""Coordinates of a whole patch in another CRS from a few dozen exact ones.

PROJ needs a microsecond a point, and a patch has a hundred thousand. Over a patch a projection is a
polynomial for all purposes: it is asked at 8 x 8 Chebyshev nodes and interpolated (Trefethen 2013,
Approximation Theory and Approximation Practice, chapters 2 to 5), and then at 36 places in between
whether that is true. Where it is not (a pole, the seam of a turn, the end of a CRS), the
caller asks for every point.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Project = Callable[[Floats, Floats], tuple[Floats, Floats]]

NODES = 8
CLOSE = 1e-8
"""Product pixels that interpolation may be off at a place in between: a hundredth of `EDGE`."""

_NODES = np.cos(np.pi * (2 * np.arange(NODES) + 1) / (2 * NODES))
_BETWEEN = np.cos(np.pi * np.array([0.02, 0.23, 0.41, 0.62, 0.8, 0.99]))


def mesh(project: Project, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Projected coordinates of every pair of an x and a y.

    Args:
        project: Of points of any shape, to coordinates of which `CLOSE` is far below all that matters.
        x: (w,) ascending or descending.
        y: (h,) likewise.

    Returns:
        (h, w) each, as `project` gives them to within `CLOSE`.
    """
    if x.size * y.size > 4 * NODES**2:
        nodes_x, nodes_y = _spread(x, _NODES), _spread(y, _NODES)
        values = project(*np.meshgrid(nodes_x, nodes_y))
        between = project(*np.meshgrid(_spread(x, _BETWEEN), _spread(y, _BETWEEN)))
        there = _weights(_BETWEEN, _NODES)
        with np.errstate(invalid="ignore"):
            close = all(
                np.abs(_interpolated(there, f, there) - exact).max() < CLOSE
                for f, exact in zip(values, between, strict=True)
            )
        if close:
            on_x, on_y = _weights(_unit(x), _NODES), _weights(_unit(y), _NODES)
            return _interpolated(on_y, values[0], on_x), _interpolated(on_y, values[1], on_x)
    cols, rows = project(*np.meshgrid(x, y))
    return cols, rows


def _spread(values: Floats, at: Floats) -> Floats:
    """Places from -1 to 1 as values between the first and the last."""
    return np.asarray((values[0] + values[-1]) / 2 + (values[-1] - values[0]) / 2 * at)


def _unit(values: Floats) -> Floats:
    """Values as places from -1 to 1 between the first and the last."""
    if values.size == 1:
        return np.zeros(1)
    half = (values[-1] - values[0]) / 2
    return np.asarray((values - (values[0] + values[-1]) / 2) / half)


@njit(cache=True, nogil=True)
def _weights(t: Any, nodes: Any) -> Any:
    """(n, nodes) what each node counts at each place: Lagrange's polynomials."""
    out = np.ones((t.size, nodes.size))
    for i in range(t.size):
        for k in range(nodes.size):
            for m in range(nodes.size):
                if m != k:
                    out[i, k] *= (t[i] - nodes[m]) / (nodes[k] - nodes[m])
    return out


@njit(cache=True, nogil=True)
def _interpolated(on_y: Any, values: Any, on_x: Any) -> Any:
    """(h, nodes) by (nodes, nodes) by (w, nodes) to (h, w), summed in a fixed order."""
    h, w, n = on_y.shape[0], on_x.shape[0], on_x.shape[1]
    across = np.zeros((n, w))
    for k in range(n):
        for m in range(n):
            for c in range(w):
                across[k, c] += values[k, m] * on_x[c, m]
    out = np.empty((h, w))
    for r in range(h):
        a, b, c, d = on_y[r, 0], on_y[r, 1], on_y[r, 2], on_y[r, 3]
        e, f, g, i = on_y[r, 4], on_y[r, 5], on_y[r, 6], on_y[r, 7]
        for x in range(w):
            out[r, x] = (
                a * across[0, x] + b * across[1, x] + c * across[2, x] + d * across[3, x]
                + e * across[4, x] + f * across[5, x] + g * across[6, x] + i * across[7, x]
            )  # fmt: skip
    return out
