"""Where a map errs: noise of several scales summed, in space, so that errors come in blotches.

A field exceeds a limit on a known share of the world (`ranks`, `above`), and what the ground is
taken for there is settled by a race between the classes, each with a field of its own, so that its
patches have no order and no bands.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import annotated_types as at
import numpy as np
from numba import njit
from numpy.typing import NDArray

from las_builder.access.virtual.noise import NOWHERE, deviation, hashed, mixed, noise

Floats = NDArray[np.float64]
MOST_SCALES = 4

Scales = Annotated[tuple[tuple[float, float], ...], at.Len(1, MOST_SCALES)]
"""(cell in metres, amplitude) of each; as for `noise.layered`."""

_SAMPLE = 1 << 16
_WIDEST = 4.0  # standard deviations of a field of choice


@functools.lru_cache(maxsize=64)
def ranks(scales: Scales, speckle: float) -> Floats:
    """A sample of the values of a field, ascending."""
    numbers = np.arange(_SAMPLE)
    points = np.stack([mixed([numbers], axis).astype(np.float64) * 1e-12 for axis in range(3)])
    out = np.empty(_SAMPLE)
    fields = Fields.of([(scales, speckle, 0)])
    _sample(points, numbers, *fields.arrays(), out)
    return np.sort(out)


def above(ranked: Floats, share: Floats) -> Floats:
    """What a field exceeds on these shares of the world; inf for none."""
    n = ranked.size
    wrong = np.rint(share * n).astype(int)
    padded = np.append(ranked, np.inf)
    return np.asarray(padded[(n - wrong).clip(0, n)])


@functools.lru_cache(maxsize=8)
def waits(scales: Scales) -> Floats:
    """Values of a field, in equal steps from -`_WIDEST` to `_WIDEST`, to an exponential variate."""
    ranked = ranks(scales, 0.0)
    steps = np.linspace(-_WIDEST, _WIDEST, 4096)
    share = (np.searchsorted(ranked, steps) + 0.5) / (ranked.size + 1)
    return np.asarray(np.round(-np.log(share), 9), np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Fields:
    """Several sums of noise, as kernels take them."""

    inverse: Floats
    """(field, scale) one over metres."""

    amplitude: Floats
    """(field, scale); 0 ends the scales."""

    speckle: Floats
    """(field,)"""

    seed: NDArray[np.uint64]
    """(field,)"""

    @classmethod
    def of(cls, fields: Sequence[tuple[Scales, float, int]]) -> Fields:
        """From (scales, speckle, seed) of each; the scales alone have variance 1."""
        inverse, amplitude = (np.zeros((len(fields), MOST_SCALES)) for _ in range(2))
        for f, (scales, _, _) in enumerate(fields):
            norm = deviation([a for _, a in scales])
            for s, (cell, a) in enumerate(scales):
                inverse[f, s], amplitude[f, s] = 1 / cell, a / norm
        speckle = np.array([speckle for _, speckle, _ in fields])
        seeds = [seed & ((1 << 64) - 1) for _, _, seed in fields]
        return cls(inverse, amplitude, speckle, np.array(seeds, np.uint64))

    def arrays(self) -> tuple[Floats, Floats, Floats, NDArray[np.uint64]]:
        """In the order of `field`."""
        return self.inverse, self.amplitude, self.speckle, self.seed


@njit(cache=True, inline="always")
def field(f, x, y, z, column, row, variant, inverse, amplitude, speckle, seed, key, value):  # type: ignore[no-untyped-def]
    """Field number `f` at a point and pixel; `key` and `value` as for `noise`.

    Each variant is a field of its own, and needs its own `key` and `value`.
    """
    total = salt(f, column, row, speckle, seed)
    for s in range(inverse.shape[1]):
        if amplitude[f, s] == 0:
            break
        slot = f * inverse.shape[1] + s
        total += amplitude[f, s] * noise(
            slot, inverse[f, s], seed[f] + np.uint64(s + 1009 * variant), x, y, z, key, value
        )
    return total


@njit(cache=True, inline="always")
def exceeds(limit, f, x, y, z, column, row, inverse, amplitude, speckle, seed, key, value):  # type: ignore[no-untyped-def]
    """Whether `field`, variant 0, is at least the limit: it stops where it cannot be any more."""
    rest = 0.0
    for s in range(inverse.shape[1]):
        rest += amplitude[f, s]
    total = salt(f, column, row, speckle, seed)
    for s in range(inverse.shape[1]):
        if amplitude[f, s] == 0:
            break
        if total + rest + 1e-9 < limit:
            return False
        slot = f * inverse.shape[1] + s
        total += amplitude[f, s] * noise(
            slot, inverse[f, s], seed[f] + np.uint64(s), x, y, z, key, value
        )
        rest -= amplitude[f, s]
    return total >= limit


@njit(cache=True, inline="always")
def salt(f, column, row, speckle, seed):  # type: ignore[no-untyped-def]
    """What a pixel adds to field number `f`: four 16-bit uniforms summed, near enough normal."""
    if speckle[f] == 0:
        return 0.0
    h = hashed(column, row, 0, seed[f] + np.uint64(77))
    four = np.int64(0)
    for _ in range(4):
        four += np.int64(h & np.uint64(0xFFFF))
        h >>= np.uint64(16)
    return speckle[f] * (four - 131070) * (1 / 37837.22746520858)


@njit(cache=True)
def _sample(points, numbers, inverse, amplitude, speckle, seed, out):  # type: ignore[no-untyped-def]
    key = np.full((inverse.size, 3), NOWHERE, np.int64)
    value = np.empty((inverse.size, 8))
    for n in range(out.size):
        out[n] = field(
            0, points[0, n], points[1, n], points[2, n], numbers[n], 0, 0,
            inverse, amplitude, speckle, seed, key, value,
        )  # fmt: skip


@njit(cache=True)
def see(  # type: ignore[no-untyped-def]
    points, leaf, top, left, drift, columns, rows, which, told, errs, chances, wait,
    inverse, amplitude, speckle, seed, moved, taken, why,
):  # fmt: skip
    """Where each pixel looks, and what is seen there.

    Args:
        points: (3, height, width) in space.
        leaf: The truth with a margin of `top` rows and `left` columns.
        top: Rows.
        left: Columns.
        drift: (height, 2): columns and rows that a displacement of one standard deviation is.
        columns: (width,) numbers for the speckle.
        rows: (height,).
        which: (height, width) region.
        told: `confusion.Errors.told`; an error that the legend cannot tell is none, another may be.
        errs: `confusion.Limits.errs`.
        chances: `confusion.Limits.chances`.
        wait: `waits` of the fields of choice.
        inverse: Of `Fields`: east, south, then occurrence and choice of each field of errors.
        amplitude: Likewise.
        speckle: Likewise.
        seed: Likewise.
        moved: Out, the leaf where the pixel truly is.
        taken: Out, what that leaf is taken for.
        why: Out, 0 where it is right, else 1 + the number of the field.
    """
    height, width = taken.shape
    key = np.full((inverse.size, 3), NOWHERE, np.int64)
    value = np.empty((inverse.size, 8))
    leaves = told.shape[0]
    keys = np.full((3 * leaves, inverse.size, 3), NOWHERE, np.int64)
    values = np.empty((3 * leaves, inverse.size, 8))
    step = (wait.size - 1) / (2 * _WIDEST)
    for r in range(height):
        for c in range(width):
            x, y, z = points[0, r, c], points[1, r, c], points[2, r, c]
            i, j = columns[c], rows[r]
            east = field(0, x, y, z, i, j, 0, inverse, amplitude, speckle, seed, key, value)
            south = field(1, x, y, z, i, j, 0, inverse, amplitude, speckle, seed, key, value)
            right = left + c + math.floor(east * drift[r, 0] + 0.5)
            down = top + r + math.floor(south * drift[r, 1] + 0.5)
            true = leaf[down, right]
            moved[r, c], taken[r, c], why[r, c] = true, true, 0
            for layer in range(3):
                limit = errs[layer, which[r, c], true]
                if limit == np.inf:
                    continue
                f = 2 + 2 * layer
                if (
                    field(f, x, y, z, i, j, 0, inverse, amplitude, speckle, seed, key, value)
                    < limit
                ):
                    continue
                # A race of exponential variates: each wins as often as its rate has it.
                chance = chances[layer, which[r, c], true]
                chosen, first = true, np.inf
                for k in range(leaves):
                    if chance[k] == 0:
                        continue
                    at_ = layer * leaves + k
                    one = field(
                        f + 1, x, y, z, i, j, k + 1, inverse, amplitude, speckle, seed,
                        keys[at_], values[at_],
                    )  # fmt: skip
                    time = wait[min(max(int((one + _WIDEST) * step), 0), wait.size - 1)] / chance[k]
                    if time < first:
                        chosen, first = k, time
                if told[true, chosen]:
                    taken[r, c], why[r, c] = chosen, layer + 1
                    break
