"""Scores from one confusion matrix."""

from __future__ import annotations

import numpy as np
import pytest

from las_builder.train.metrics import confusion, metrics


def test_against_sets_of_pixels() -> None:
    chance = np.random.default_rng(1)
    truth = chance.choice([0, 1, 3, 255], (6, 20, 20), p=[0.5, 0.2, 0.2, 0.1]).astype(np.uint8)
    said = np.where(chance.random(truth.shape) < 0.6, truth, chance.integers(0, 4, truth.shape))
    said[said == 255] = 2
    counts = sum(confusion(t, s, 4) for t, s in zip(truth, said, strict=True))
    scores = metrics(counts)
    known = truth != 255
    iou = {}
    for k in (0, 1, 3):
        a, b = (truth == k) & known, (said == k) & known
        iou[k] = (a & b).sum() / (a | b).sum()
    assert scores.miou == pytest.approx(np.mean(list(iou.values())))
    assert np.isnan(scores.iou[2])
    assert scores.overall == pytest.approx((truth == said)[known].mean())
    # One matrix over the set is not the mean over its parts.
    each = [metrics(confusion(t, s, 4)).miou for t, s in zip(truth, said, strict=True)]
    assert scores.miou != pytest.approx(np.mean(each), abs=1e-4)


def test_nothing_known_is_no_score() -> None:
    scores = metrics(confusion(np.full((3, 3), 255, np.uint8), np.zeros((3, 3), np.uint8), 2))
    assert np.isnan(scores.miou)
    assert np.isnan(scores.overall)
