"""Scores against scikit-learn's and torchmetrics', and brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn
from torchmetrics.functional import classification as functional

from las_builder.evaluate.metrics import boundary_counts, boundary_iou, interval, paired
from las_builder.train.metrics import confusion, metrics


def maps(seed: int, classes: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Truth without class 4 and with ignored pixels; class 2 is never said."""
    rng = np.random.default_rng(seed)
    truth = rng.choice([0, 1, 2, 3, 5, 255], (40, 50), p=[0.3, 0.25, 0.1, 0.2, 0.05, 0.1])
    said = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, classes, truth.shape))
    said[(said == 2) | (said == 255)] = 4
    return truth.astype(np.uint8), said.astype(np.uint8)


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_those_of_scikit_learn(seed: int) -> None:
    truth, said = maps(seed)
    known = truth != 255
    t, s = truth[known], said[known]
    found = metrics(confusion(truth, said, 6))
    there = np.unique(t)
    jaccard = sklearn.jaccard_score(t, s, labels=there, average=None)
    np.testing.assert_allclose(found.iou[there], jaccard, rtol=0, atol=1e-12)
    f1 = sklearn.f1_score(t, s, labels=there, average=None)
    np.testing.assert_allclose(found.f1[there], f1, rtol=0, atol=1e-12)
    recall = sklearn.recall_score(t, s, labels=there, average=None)
    np.testing.assert_allclose(found.recall[there], recall, rtol=0, atol=1e-12)
    both = np.intersect1d(there, s)
    precision = sklearn.precision_score(t, s, labels=both, average=None)
    np.testing.assert_allclose(found.precision[both], precision, rtol=0, atol=1e-12)
    assert found.miou == pytest.approx(jaccard.mean(), abs=1e-12)
    assert found.mf1 == pytest.approx(f1.mean(), abs=1e-12)
    assert found.overall == pytest.approx(sklearn.accuracy_score(t, s), abs=1e-12)
    assert np.isnan(found.iou[4])
    assert np.isnan(found.precision[2])
    assert found.absent == {4: int((s == 4).sum())}
    assert found.over([0, 4]) == found.iou[0]
    assert np.isnan(found.over([4]))


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_torchmetrics(seed: int) -> None:
    truth, said = maps(seed)
    t, s = torch.from_numpy(truth).long(), torch.from_numpy(said).long()
    found = metrics(confusion(truth, said, 6))
    more = {"num_classes": 6, "ignore_index": 255, "average": "none"}
    there = np.unique(truth[truth != 255])
    with np.errstate(invalid="ignore"):
        iou = functional.multiclass_jaccard_index(s, t, **more).double().numpy()[there]
        f1 = functional.multiclass_f1_score(s, t, **more).double().numpy()[there]
    np.testing.assert_allclose(found.iou[there], iou, rtol=0, atol=1e-6)  # it works in float32
    np.testing.assert_allclose(found.f1[there], f1, rtol=0, atol=1e-6)


def test_nothing_to_score() -> None:
    found = metrics(np.zeros((3, 3), np.int64))
    assert np.isnan([found.miou, found.mf1, found.overall]).all()
    assert np.isnan(boundary_iou(np.zeros((3, 2), np.int64))).all()


def brute_rims(mask: np.ndarray, width: int) -> np.ndarray:
    """Pixels of a mask with a pixel outside of it at most so many king's moves away."""
    out = np.zeros(mask.shape, bool)
    for r, c in np.argwhere(mask):
        near = mask[max(0, r - width) : r + width + 1, max(0, c - width) : c + width + 1]
        out[r, c] = not near.all()
    return out


@pytest.mark.parametrize("width", [1, 2, 3])
def test_boundary_iou_by_brute_force(width: int) -> None:
    rng = np.random.default_rng(3)
    small = rng.integers(0, 4, (6, 7))
    truth = np.kron(small, np.ones((7, 7), int)).astype(np.uint8)
    said = np.roll(truth, (1, 2), (0, 1))
    truth[10:14, 20:30] = 255
    found = boundary_counts(truth, said, 5, width)
    for k in range(5):
        known = truth != 255
        g, p = brute_rims((truth == k) & known, width), brute_rims((said == k) & known, width)
        assert found[:, k].tolist() == [int((g & p).sum()), int(g.sum()), int(p.sum())]
        if g.any():
            assert boundary_iou(found)[k] == (g & p).sum() / (g | p).sum()
    assert np.isnan(boundary_iou(found)[4])


def test_an_interval_holds_what_more_tiles_say() -> None:
    rng = np.random.default_rng(0)

    def tiles(n: int) -> np.ndarray:
        """Tiles that differ in their classes and in how hard they are."""
        out = []
        for _ in range(n):
            truth = rng.choice(3, 400, p=rng.dirichlet([1, 1, 1]))
            right = rng.random(400) < rng.beta(6, 2)
            said = np.where(right, truth, rng.integers(0, 3, 400))
            out.append(confusion(truth, said, 3))
        return np.stack(out)

    true = metrics(tiles(4000).sum(axis=0)).miou
    found = [interval(tiles(60), 300, seed) for seed in range(60)]
    covered = sum(one.low <= true <= one.high for one in found)
    assert 50 <= covered <= 60
    assert interval(tiles(30), 200, 1).low < interval(tiles(30), 200, 1).high


def test_a_difference_on_the_same_tiles() -> None:
    rng = np.random.default_rng(1)
    a, b, same = [], [], []
    for _ in range(50):
        truth = rng.integers(0, 3, 500)
        right = rng.random(500)
        hard = rng.beta(4, 2)
        for out, more in ((a, 0.0), (b, 0.05)):
            said = np.where(right < hard + more, truth, (truth + 1) % 3)
            out.append(confusion(truth, said, 3))
        same.append(a[-1])
    one, two = np.stack(a), np.stack(b)
    found = paired(one, two, 400, 0)
    assert 0 < found.low < found.value < found.high < 0.1
    assert found.value == pytest.approx(
        metrics(two.sum(axis=0)).miou - metrics(one.sum(axis=0)).miou
    )
    apart = [interval(x, 400, 0) for x in (one, two)]
    assert found.high - found.low < (apart[0].high - apart[0].low) / 2  # tiles are shared
    assert paired(one, np.stack(same), 50, 0).value == 0
    with pytest.raises(ValueError, match="other tiles"):
        paired(one, two[:-1])
    with pytest.raises(ValueError, match="another truth"):
        paired(one, two[::-1])
