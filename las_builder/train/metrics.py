"""Scores from one confusion matrix over a whole set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from las_builder.core.types import IGNORE


def confusion(
    truth: NDArray[np.integer], said: NDArray[np.integer], classes: int
) -> NDArray[np.int64]:
    """(truth, said) counts of pixels, those without a truth left out.

    Args:
        truth: Class indices of any shape, 255 = ignore.
        said: Class indices of the same shape.
        classes: How many.
    """
    known = truth != IGNORE
    pairs = truth[known].astype(np.int64) * classes + said[known]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


@dataclass(frozen=True, slots=True)
class Scores:
    """What a confusion matrix says. Against weak labels it is agreement, not accuracy."""

    iou: NDArray[np.float64]
    """Of each class; NaN of those that are not in the truth."""

    mean: float
    """Of `iou` over the classes in the truth; NaN if there are none."""

    overall: float
    """Share of pixels that are right."""

    @classmethod
    def of(cls, counts: NDArray[np.int64]) -> Scores:
        """From (truth, said) counts."""
        right = np.diag(counts).astype(np.float64)
        true, said = counts.sum(axis=1), counts.sum(axis=0)
        iou = np.full(len(counts), np.nan)
        there = true > 0
        iou[there] = right[there] / (true + said - right)[there]
        if not there.any():
            return cls(iou, float("nan"), float("nan"))
        return cls(iou, float(iou[there].mean()), float(right.sum() / counts.sum()))
