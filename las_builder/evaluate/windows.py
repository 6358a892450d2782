"""Windows over a raster of any size, blended, in bounded memory. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Read = Callable[[int, int, int, int], NDArray[np.float32]]
"""(first row, first column, rows, columns) to pixels, (band, y, x)."""

Say = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(window, band, y, x) to probabilities, (window, class, y, x)."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A part of the raster that is finished."""

    row: int
    column: int
    probability: NDArray[np.float32]
    """(class, y, x): weighted mean over all windows; they sum to 1."""


def starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin along a side, the last one flush with its end."""
    if length <= window:
        return [0]
    return [*range(0, length - window, stride), length - window]


def hann(size: int) -> NDArray[np.float32]:
    """Weights along a window: a raised cosine over its pixels' centres, nowhere 0."""
    return (np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2).astype(np.float32)


def blended(
    read: Read,
    say: Say,
    height: int,
    width: int,
    *,
    classes: int,
    window: int = 512,
    overlap: float = 0.5,
    batch: int = 4,
    memory: int = 256 * 2**20,
) -> Iterator[Piece]:
    """Probabilities of a whole raster, from windows that overlap, by Hann weights.

    What comes out does not depend on `batch` and `memory`: the windows lie on one lattice over the
    raster and are added row by row. Where sums would not fit the memory, the raster is cut
    into strips of columns, and windows across a cut are asked twice.

    Args:
        read: Gives pixels; may be asked for a place more than once.
        say: Gives probabilities.
        height: Rows.
        width: Columns.
        classes: How many.
        window: Side of a window; a raster that is smaller is one window of its size.
        overlap: Share of a window that the next one repeats.
        batch: Windows asked at once.
        memory: Bytes for the sums.
    """
    tall, wide = min(window, height), min(window, width)
    stride = max(round(window * (1 - overlap)), 1)
    rows, columns = starts(height, window, stride), starts(width, window, stride)
    weight = hann(tall)[:, None] * hann(wide)
    strip = max(memory // (4 * (classes + 1) * tall) // 256 * 256, 256)
    for left in range(0, width, strip):
        right = min(left + strip, width)
        inside = [c for c in columns if c < right and c + wide > left]
        sums = np.zeros((classes + 1, tall, right - left), np.float32)  # the last: the weights
        for i, row in enumerate(rows):
            for first in range(0, len(inside), batch):
                some = inside[first : first + batch]
                said = say(np.stack([read(row, c, tall, wide) for c in some]))
                for c, p in zip(some, said, strict=True):
                    a, b = max(c, left), min(c + wide, right)
                    here = np.s_[..., a - c : b - c]
                    sums[:-1, :, a - left : b - left] += p[here] * weight[here]
                    sums[-1, :, a - left : b - left] += weight[here]
            done = rows[i + 1] - row if i + 1 < len(rows) else tall
            yield Piece(row, left, sums[:-1, :done] / sums[-1, :done])
            sums[:, : tall - done] = sums[:, done:].copy()
            sums[:, tall - done :] = 0
