"""Scores from one confusion matrix over a whole set.

Means are over the classes that the truth holds. What is said of other classes is wrong on the
pixels where it is said, which costs those, and is counted apart. Against weak labels all of it is
agreement, not accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from las_builder.core.types import IGNORE

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


def confusion(truth: NDArray[np.integer], said: NDArray[np.integer], classes: int) -> Counts:
    """(truth, said) counts of pixels, those without a truth left out.

    Args:
        truth: Class indices of any shape, 255 = ignore.
        said: Class indices of the same shape.
        classes: How many.
    """
    known = truth != IGNORE
    pairs = truth[known].astype(np.int64) * classes + said[known]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


@dataclass(frozen=True, slots=True, eq=False)
class Metrics:
    """Arrays are by class, (class,), NaN where the truth does not hold the class."""

    iou: Floats
    f1: Floats
    precision: Floats
    """NaN also where the class is never said."""

    recall: Floats
    miou: float
    """Mean of `iou` over the classes in the truth; NaN without any."""

    mf1: float
    overall: float
    """Share of pixels that are right."""

    support: Counts
    """Pixels of the truth."""

    absent: dict[int, int]
    """Class that the truth does not hold to pixels that are said to be it."""

    def over(self, classes: Sequence[int]) -> float:
        """Mean of `iou` over those of some classes that the truth holds: seen ones, or unseen."""
        found = self.iou[list(classes)]
        found = found[~np.isnan(found)]
        return float(found.mean()) if found.size else float("nan")


def metrics(counts: Counts) -> Metrics:
    """Of (truth, said) counts of pixels, (class, class)."""
    right = np.diag(counts).astype(np.float64)
    true, said = counts.sum(axis=1), counts.sum(axis=0)
    there = true > 0

    def ratio(part: Floats, whole: Counts, where: NDArray[np.bool_]) -> Floats:
        out = np.full(len(counts), np.nan)
        out[where] = part[where] / whole[where]
        return out

    iou, f1 = (
        ratio(right, true + said - np.diag(counts), there),
        ratio(2 * right, true + said, there),
    )
    some = bool(there.any())
    return Metrics(
        iou=iou,
        f1=f1,
        precision=ratio(right, said, there & (said > 0)),
        recall=ratio(right, true, there),
        miou=float(iou[there].mean()) if some else float("nan"),
        mf1=float(f1[there].mean()) if some else float("nan"),
        overall=float(right.sum() / counts.sum()) if some else float("nan"),
        support=true,
        absent={int(k): int(said[k]) for k in np.flatnonzero(~there & (said > 0))},
    )
