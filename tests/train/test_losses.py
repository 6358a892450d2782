"""Losses against what they say in numpy, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from las_builder.train import losses


@pytest.fixture
def given() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    chance = np.random.default_rng(0)
    logits = torch.tensor(chance.normal(0, 2, (4, 3, 5, 6)), dtype=torch.float32)
    label = torch.tensor(chance.choice([0, 1, 2, 255], (4, 5, 6)))
    label[3] = 255  # a sample of which nothing is known
    label[2][label[2] == 1] = 0  # one that lacks a class
    weight = torch.tensor(chance.uniform(0, 1, (4, 5, 6)), dtype=torch.float32)
    return logits, label, weight


def brute(logits, label, weight, of_pixel) -> float:
    p = np.exp(logits.double().numpy())
    p /= p.sum(axis=1, keepdims=True)
    total = 0.0
    for n, y, x in np.ndindex(*label.shape):
        k = int(label[n, y, x])
        if k != 255:
            total += float(weight[n, y, x]) * of_pixel(p[n, k, y, x])
    return total / label.numel()


def test_cross_entropy(given) -> None:
    want = brute(*given, lambda p: -np.log(p))
    assert losses.cross_entropy(*given).item() == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("q", [0.3, 0.7, 1.0])
def test_generalised_cross_entropy(given, q: float) -> None:
    want = brute(*given, lambda p: (1 - p**q) / q)
    got = losses.generalised_cross_entropy(*given, q).item()
    assert got == pytest.approx(want, rel=1e-5)


def test_a_wrong_label_pulls_less_in_the_robust_loss() -> None:
    label, weight = torch.zeros(1, 1, 1, dtype=torch.long), torch.ones(1, 1, 1)
    pull = []
    for loss in (
        losses.cross_entropy,
        lambda *a: losses.generalised_cross_entropy(*a, 0.7),
    ):
        logits = torch.tensor([-4.0, 4.0]).reshape(1, 2, 1, 1).requires_grad_()
        loss(logits, label, weight).backward()
        pull.append(logits.grad.abs().max().item())
    assert pull[1] < 0.1 * pull[0]


def test_dice(given) -> None:
    logits, label, weight = (x.double().numpy() for x in given)
    p = np.exp(logits)
    p /= p.sum(axis=1, keepdims=True)
    samples = []
    for n in range(4):
        known = label[n] != 255
        classes = []
        for k in np.unique(label[n][known]).astype(int):
            true, w = label[n] == k, weight[n] * known
            both = (p[n, k] * true * w).sum()
            classes.append(1 - (2 * both + 1) / ((p[n, k] * w).sum() + (true * w).sum() + 1))
        samples.append(np.mean(classes) if classes else 0.0)
    assert losses.dice(*given).item() == pytest.approx(np.mean(samples), rel=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        losses.cross_entropy,
        losses.dice,
        lambda *a: losses.generalised_cross_entropy(*a, 0.7),
    ],
)
def test_parts_of_a_batch_are_the_batch(given, loss) -> None:
    whole = loss(*given).item()
    parts = [loss(*(x[i : i + 2] for x in given)).item() for i in (0, 2)]
    assert whole == pytest.approx(np.mean(parts), rel=1e-5)


def test_pixels_that_do_not_count_have_no_gradient(given) -> None:
    logits, label, weight = given
    weight[0, 0, 0] = 0
    logits.requires_grad_()
    (losses.cross_entropy(logits, label, weight) + losses.dice(logits, label, weight)).backward()
    silent = (label == 255) | (weight == 0)
    assert silent.any()
    assert (logits.grad.movedim(1, -1)[silent] == 0).all()
    assert (logits.grad.movedim(1, -1)[~silent] != 0).any(dim=1).all()
