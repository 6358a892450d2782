"""Confidence-guided fusion: where LandSegmenter omits a class, CLIP may say it.

The paper (Liu, Huang, Zhu, arXiv 2511.08156) has a class-wise confidence-guided fusion of its own
softmax maps with ProxyCLIP, and shows the entropy of the probabilities as uncertainty. Its equations
were not at hand: what is here is our proposal, with variants. Pure functions of arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Fusion:
    """How two maps of probabilities become one."""

    confidence: Literal["mean", "max"] = "mean"
    """Of a class: mean probability over the pixels that it wins, 0 if it wins none; or the largest
    probability that it has anywhere."""

    below: float | None = None
    """Classes less confident than this come from CLIP whole, others not at all; None: by as much as
    they lack confidence."""

    gate: bool = True
    """Whether CLIP is heard only as far as LandSegmenter is uncertain of the pixel."""

    relative: bool = False
    """The gate is LandSegmenter's uncertainty beside CLIP's, u / (u + u'): whoever is surer of the pixel is
    heard. Ours; LandSegmenter may be as sure of the class that it mistakes an unheard-of one for as of
    any, so that u alone holds CLIP back just there."""

    def __call__(self, own: Floats, clip: Floats) -> Floats:
        """Probabilities, (class, y, x), float64, summing to 1.

        p_k = (1 - w_k) own_k + w_k clip_k with w_k(x) = (1 - c_k) u(x), normalised: w differs between
        classes, so the sum does too.

        Args:
            own: (class, y, x) of LandSegmenter, summing to 1.
            clip: (class, y, x) of the other branch, likewise.

        Raises:
            ValueError: Their shapes differ.
        """
        return self.join(own, clip, class_confidence(own, self.confidence))

    def join(self, own: Floats, clip: Floats, sure: Floats) -> Floats:
        """The same of a part of the maps; `sure`, (class,), is the confidence over all of them.

        Raises:
            ValueError: Their shapes differ.
        """
        if own.shape != clip.shape:
            raise ValueError(f"maps of {own.shape} and {clip.shape}")
        own, clip = own.astype(np.float64), clip.astype(np.float64)
        lacking = 1 - sure if self.below is None else (sure < self.below).astype(np.float64)
        weight = lacking[:, None, None] * self._gate(own, clip)
        fused = (1 - weight) * own + weight * clip
        total = fused.sum(axis=0)
        return np.asarray(np.where(total > 0, fused / np.where(total > 0, total, 1), own))

    def _gate(self, own: Floats, clip: Floats) -> NDArray[np.float64]:
        """How much of CLIP a pixel hears, 0 to 1, (y, x)."""
        if not self.gate:
            return np.ones(own.shape[1:])
        u = uncertainty(own)
        if not self.relative:
            return u
        both = u + uncertainty(clip)
        return np.asarray(np.where(both > 0, u / np.where(both > 0, both, 1), 0.5))


FUSIONS: Mapping[str, Fusion] = MappingProxyType({
    "mean": Fusion(),
    "max": Fusion(confidence="max"),
    "omitted": Fusion(below=0.5),
    "ungated": Fusion(gate=False),
    "surer": Fusion(confidence="max", relative=True),
})  # fmt: skip
"""Variants by name; `mean` is the proposal of docs/evaluation.md, `surer` did best in
benchmarks/zero_shot.py."""


def uncertainty(p: Floats) -> NDArray[np.float64]:
    """Entropy of probabilities over the logarithm of their number, 0 to 1, (y, x).

    Args:
        p: (class, y, x), summing to 1. Of one class nothing is uncertain: 0.
    """
    p = p.astype(np.float64)
    if len(p) == 1:
        return np.zeros(p.shape[1:])
    entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(axis=0)
    return np.asarray(np.clip(entropy / np.log(len(p)), 0, 1))


def class_confidence(p: Floats, how: Literal["mean", "max"] = "mean") -> NDArray[np.float64]:
    """How sure a model is of each class of a picture, 0 to 1, (class,): see `Fusion.confidence`."""
    found = Confidence(len(p))
    found.add(p)
    return found(how)


class Confidence:
    """`class_confidence` of a picture that comes in parts.

    Args:
        classes: How many.
    """

    def __init__(self, classes: int) -> None:
        self._pixels = np.zeros(classes, np.int64)
        self._won = np.zeros(classes)
        self._most = np.zeros(classes)

    def add(self, p: Floats) -> None:
        """Take in a part, (class, y, x)."""
        n, flat = len(p), p.reshape(len(p), -1)
        best = flat.argmax(axis=0)
        of_best = np.take_along_axis(flat, best[None], axis=0)[0].astype(np.float64)
        self._pixels += np.bincount(best, minlength=n)
        self._won += np.bincount(best, of_best, minlength=n)
        self._most = np.maximum(self._most, flat.max(axis=1, initial=0))

    def __call__(self, how: Literal["mean", "max"] = "mean") -> NDArray[np.float64]:
        """(class,), of all that was taken in."""
        if how == "max":
            return self._most
        return np.asarray(self._won / np.maximum(self._pixels, 1))
