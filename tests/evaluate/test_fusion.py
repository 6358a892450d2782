"""Fusion of two maps of probabilities, by hand and by what it must leave alone."""

from __future__ import annotations

import numpy as np
import pytest

from las_builder.evaluate.fusion import Confidence, Fusion, class_confidence, uncertainty


def probabilities(seed: int, classes: int = 4, side: int = 9, sharp: float = 1.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, sharp, (classes, side, side))
    p = np.exp(logits)
    return (p / p.sum(axis=0)).astype(np.float32)


VARIANTS = [
    Fusion(confidence=confidence, below=below, gate=gate, relative=relative)  # type: ignore[arg-type]
    for confidence in ("mean", "max")
    for below in (None, 0.5)
    for gate, relative in ((True, False), (True, True), (False, False))
]


def test_uncertainty_is_entropy() -> None:
    p = np.array([[[1.0, 0.5, 1 / 3]], [[0.0, 0.5, 1 / 3]], [[0.0, 0.0, 1 / 3]]])
    found = uncertainty(p)
    np.testing.assert_allclose(found, [[0, np.log(2) / np.log(3), 1]], atol=1e-12)
    assert uncertainty(np.ones((1, 2, 2))).max() == 0


def test_confidence_of_classes_by_hand() -> None:
    p = np.array([[[0.9, 0.6, 0.3]], [[0.1, 0.4, 0.5]], [[0.0, 0.0, 0.2]]])
    np.testing.assert_allclose(class_confidence(p), [0.75, 0.5, 0.0])
    np.testing.assert_allclose(class_confidence(p, "max"), [0.9, 0.5, 0.2])


def test_confidence_of_parts_is_that_of_the_whole() -> None:
    p = probabilities(4)
    parts = Confidence(4)
    for part in (p[:, 3:6], p[:, :3], p[:, 6:]):
        parts.add(part)
    for how in ("mean", "max"):
        np.testing.assert_allclose(parts(how), class_confidence(p, how), rtol=1e-9)
    best = p.argmax(axis=0)
    want = [p[k][best == k].mean() for k in range(4)]
    np.testing.assert_allclose(class_confidence(p), want, rtol=1e-6)
    np.testing.assert_allclose(class_confidence(p, "max"), p.max(axis=(1, 2)))


def test_one_pixel_by_hand() -> None:
    own, clip = np.array([0.6, 0.4, 0.0])[:, None, None], np.array([0.1, 0.1, 0.8])[:, None, None]
    u = -(0.6 * np.log(0.6) + 0.4 * np.log(0.4)) / np.log(3)
    weight = np.array([0.4, 1.0, 1.0]) * u  # confidences 0.6, 0, 0
    raw = (1 - weight) * [0.6, 0.4, 0.0] + weight * [0.1, 0.1, 0.8]
    np.testing.assert_allclose(Fusion()(own, clip)[:, 0, 0], raw / raw.sum(), rtol=1e-12)


@pytest.mark.parametrize("fusion", VARIANTS)
def test_what_every_variant_keeps(fusion: Fusion) -> None:
    own, clip = probabilities(1), probabilities(2, sharp=3)
    found = fusion(own, clip)
    np.testing.assert_allclose(found.sum(axis=0), 1, rtol=1e-9)
    assert (found >= 0).all()
    np.testing.assert_allclose(fusion(own, own), own, rtol=1e-5)  # agreeing changes nothing
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(fusion(own[order], clip[order]), found[order], rtol=1e-9)
    with pytest.raises(ValueError, match="maps of"):
        fusion(own, clip[:3])


def test_sure_pixels_are_left_and_omitted_classes_come_back_where_it_is_unsure() -> None:
    own = np.zeros((3, 1, 4))
    own[:, 0, 0] = 1, 0, 0  # sure
    own[:, 0, 1] = 0.4, 0.35, 0.25  # unsure; class 2 wins nowhere
    own[:, 0, 2:] = np.array([0.97, 0.02, 0.01])[:, None]
    clip = np.zeros((3, 1, 4))
    clip[2] = 1
    found = Fusion()(own, clip)
    assert found[:, 0, 0].tolist() == [1, 0, 0]
    assert found[:, 0, 1].argmax() == 2
    assert (found[:, 0, 2:].argmax(axis=0) == 0).all()
    assert (Fusion(gate=False)(own, clip)[2] > found[2] - 1e-12).all()
    low = Fusion(below=0.1, gate=False)(own, clip)  # classes 1 and 2 are CLIP's, 0 is its own
    np.testing.assert_allclose(low[:, 0, 1], np.array([0.4, 0, 1]) / 1.4)


def test_who_is_surer_is_heard() -> None:
    own = np.array([[0.9, 0.9, 1.0], [0.06, 0.06, 0.0], [0.04, 0.04, 0.0]])[:, None]
    clip = np.array([[0.01, 1 / 3, 1.0], [0.01, 1 / 3, 0.0], [0.98, 1 / 3, 0.0]])[:, None]
    found = Fusion(confidence="max", relative=True)(own, clip)

    def entropy(p: list[float]) -> float:
        return -sum(v * np.log(v) for v in p)

    u, other = entropy([0.9, 0.06, 0.04]), entropy([0.01, 0.01, 0.98])
    weight = (1 - np.array([1.0, 0.06, 0.04])) * u / (u + other)
    raw = (1 - weight) * own[:, 0, 0] + weight * clip[:, 0, 0]
    np.testing.assert_allclose(found[:, 0, 0], raw / raw.sum(), rtol=1e-12)
    # A CLIP that knows nothing is heard less, and of two that are sure nothing is lost.
    lost = np.abs(found - own)[:, 0].max(axis=0)
    assert lost[1] < lost[0]
    assert found[:, 0, 2].tolist() == [1, 0, 0]
    plain = Fusion(confidence="max")(own, clip)
    assert found[2, 0, 0] > plain[2, 0, 0] + 0.05
