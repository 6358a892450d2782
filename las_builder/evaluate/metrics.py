"""What scores have beside `train.metrics`: outlines, and intervals by drawing places again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from las_builder.core.types import IGNORE
from las_builder.train.metrics import Counts, Floats, metrics


def boundary_counts(
    truth: NDArray[np.integer], said: NDArray[np.integer], classes: int, width: int = 2
) -> Counts:
    """Pixels of one tile for boundary IoU, (3, class): in both boundaries, in the truth's, in what is
    said.

    Cheng et al. 2021, arXiv 2103.16562: of each class, the pixels of its mask within `width` of its
    outline. Distances are steps in any of eight directions, the border of the tile is no outline (there
    the paper's code pads with another class), pixels without a truth are in no mask.

    Args:
        truth: (y, x) class index, 255 = ignore.
        said: (y, x) class index.
        classes: How many.
        width: Pixels.
    """
    known = truth != IGNORE
    out = np.zeros((3, classes), np.int64)
    edges = [_rim(np.where(known, codes, IGNORE), width) for codes in (truth, said)]
    rims = [
        np.where(edge & known, codes, IGNORE)
        for edge, codes in zip(edges, (truth, said), strict=True)
    ]
    both = np.where(rims[0] == rims[1], rims[0], IGNORE)
    for i, layer in enumerate((both, *rims)):
        out[i] = np.bincount(layer[layer != IGNORE].astype(np.int64), minlength=classes)
    return out


def boundary_iou(counts: Counts) -> Floats:
    """Of summed `boundary_counts`, (class,); NaN of classes without an outline in the truth."""
    both, true, said = counts.astype(np.float64)
    out = np.full(counts.shape[1], np.nan)
    there = true > 0
    out[there] = both[there] / (true + said - both)[there]
    return out


def _rim(codes: NDArray[np.integer], width: int) -> NDArray[np.bool_]:
    """Pixels within so many steps of another code."""
    from scipy.ndimage import maximum_filter, minimum_filter

    size = 2 * width + 1
    high = maximum_filter(codes, size=size, mode="nearest")
    return np.asarray(high != minimum_filter(codes, size=size, mode="nearest"))


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and what it would be on other tiles of the kind."""

    value: float
    low: float
    high: float


def together(tiles: Counts, groups: NDArray[np.int64]) -> Counts:
    """(group, class, class) sums of (tile, class, class), by the group of each tile."""
    out = np.zeros((int(groups.max()) + 1, *tiles.shape[1:]), np.int64)
    np.add.at(out, groups, tiles)
    return out


def interval(
    tiles: Counts, draws: int = 1000, seed: int = 0, *, groups: NDArray[np.int64] | None = None
) -> Interval:
    """MIoU with a 95 % interval by drawing groups of tiles with replacement (percentiles).

    Args:
        tiles: (tile, class, class) counts.
        draws: How many.
        seed: Of them.
        groups: Of each tile the group that it is drawn with (`places`); None: each alone.
    """
    values = _drawn(tiles if groups is None else together(tiles, groups), draws, seed)
    return Interval(metrics(tiles.sum(axis=0)).miou, *_middle(values))


def paired(
    a: Counts,
    b: Counts,
    draws: int = 1000,
    seed: int = 0,
    *,
    groups: NDArray[np.int64] | None = None,
) -> Interval:
    """What the mIoU of b is above that of a on the same tiles, drawn together.

    Args:
        a: (tile, class, class) counts.
        b: Of the same tiles in the same order.
        draws: How many.
        seed: Of them.
        groups: As of `interval`.

    Raises:
        ValueError: They are of other tiles: the pixels of a class differ.
    """
    if a.shape != b.shape or (a.sum(axis=2) != b.sum(axis=2)).any():
        raise ValueError("scores of other tiles, or against another truth")
    first, second = (c if groups is None else together(c, groups) for c in (a, b))
    values = _drawn(second, draws, seed) - _drawn(first, draws, seed)
    difference = metrics(b.sum(axis=0)).miou - metrics(a.sum(axis=0)).miou
    return Interval(difference, *_middle(values))


def _drawn(tiles: Counts, draws: int, seed: int) -> Floats:
    chance = np.random.default_rng(seed)
    n = len(tiles)
    out = np.empty(draws)
    flat = tiles.reshape(n, -1)
    for i in range(draws):
        times = np.bincount(chance.integers(0, n, n), minlength=n)
        out[i] = metrics((times @ flat).reshape(tiles.shape[1:])).miou
    return out


def _middle(values: Floats) -> tuple[float, float]:
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)
