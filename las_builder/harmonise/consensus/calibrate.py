"""Confidence that means something: top-label calibration on a reference sample.

With p the posterior of the label, of class k in stratum g, the calibrated confidence is

    logit c = (1/T + u_g + v_k) logit p + (b + d_g + e_k)

a temperature T and a bias b that are pooled, and deviations of strata and of classes that are
shrunk to 0 by a ridge: normal ones of mean 0 and the deviations of `SPREAD` beforehand, where each
site that has pixels of the stratum or class counts as one observation. One weighted logistic regression (Platt 1999; Guo et al. 2017, ICML) finds
them all; it is convex. The label stays as it is. A stratum or class with fewer reference sites than
`FEW` keeps the pooled figures, and is listed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FEW = 30
"""Reference sites below which a stratum or a class has no figures of its own."""

SPREAD = (0.5, 1.0)
"""How far slopes and biases of strata and classes are expected from the pooled ones; assumed. A
product that says built-up twice as often as there is any is off by a bias of more than 1."""

SUREST = 1e-6
"""From 0 and 1, as far as a posterior is told from them: it is rounded to a millionth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """(slope, bias) pooled, and what strata and classes add."""

    pooled: tuple[float, float]
    strata: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    classes: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    sites: int = 0
    """Reference sites it rests on."""

    points: int = 0
    few: tuple[int, ...] = ()
    """Classes with fewer than `FEW` reference sites, of which they have the pooled figures."""

    unseen: tuple[int, ...] = ()
    """Classes that no reference point has."""

    def apply(self, chance: Floats, label: Ints, stratum: str) -> Floats:
        """Calibrated confidence of labels with these posteriors, (n,) each."""
        own = self.strata.get(stratum, (0.0, 0.0))
        top = int(label.max(initial=-1)) + 1
        slope, bias = np.zeros(top), np.zeros(top)
        for k in range(top):
            slope[k], bias[k] = self.classes.get(k, (0.0, 0.0))
        z = logit(chance)
        z = (self.pooled[0] + own[0] + slope[label]) * z + self.pooled[1] + own[1] + bias[label]
        return np.asarray(1 / (1 + np.exp(-z)))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "pooled": list(self.pooled),
            "strata": {k: list(v) for k, v in sorted(self.strata.items())},
            "classes": {str(k): list(v) for k, v in sorted(self.classes.items())},
            "sites": self.sites,
            "points": self.points,
            "few": list(self.few),
            "unseen": list(self.unseen),
        }

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Calibration:
        """And back."""
        return cls(
            pooled=(said["pooled"][0], said["pooled"][1]),
            strata={k: (v[0], v[1]) for k, v in said["strata"].items()},
            classes={int(k): (v[0], v[1]) for k, v in said["classes"].items()},
            sites=said["sites"], points=said["points"],
            few=tuple(said["few"]), unseen=tuple(said["unseen"]),
        )  # fmt: skip


def logit(chance: Floats) -> Floats:
    """Log-odds of chances, which are kept `SUREST` from 0 and 1."""
    p = np.clip(chance, SUREST, 1 - SUREST)
    return np.asarray(np.log(p / (1 - p)))


def calibrate(
    chance: Floats, label: Ints, right: NDArray[np.bool_], stratum: NDArray[np.str_],
    site: Ints, weight: Floats, truth: Ints, classes: int,
) -> Calibration:  # fmt: skip
    """Fit a calibration.

    Args:
        chance: (n,) posterior of the label.
        label: (n,) the class it is of.
        right: (n,) whether it is right.
        stratum: (n,) name.
        site: (n,) number of the reference site.
        weight: (n,) area that a point stands for.
        truth: (n,) the class that is there.
        classes: How many there are.
    """
    # A site counts for 1 on average: its points are a cluster.
    unit = weight / weight.sum() * np.unique(site).size
    groups = [g for g in sorted(set(stratum.tolist())) if np.unique(site[stratum == g]).size >= FEW]
    groups = groups if len(groups) > 1 else []
    held = [np.unique(site[label == k]).size for k in range(classes)]
    there = [np.unique(site[truth == k]).size for k in range(classes)]
    own = [k for k in range(classes) if held[k] >= FEW and there[k] >= FEW]
    z = logit(chance)
    parts = [*(stratum == g for g in groups), *(label == k for k in own)]
    member = np.stack([np.ones(z.size), *parts], axis=1).astype(float)
    design = np.concatenate([member * z[:, None], member], axis=1)
    # The few pixels of a class at a site weigh less than a site, and say as much about the class.
    size = np.array([unit[part].sum() / np.unique(site[part]).size for part in parts])
    ridge = np.concatenate([[1e-3, *(size / spread**2)] for spread in SPREAD])
    start = np.zeros(design.shape[1])
    start[0] = 1.0
    found = np.round(logistic(design, right.astype(float), unit, ridge, start), 6)
    slopes, biases = found[: member.shape[1]].tolist(), found[member.shape[1] :].tolist()
    pairs = list(zip(slopes, biases, strict=True))
    return Calibration(
        pooled=pairs[0],
        strata=dict(zip(groups, pairs[1 : 1 + len(groups)], strict=True)),
        classes=dict(zip(own, pairs[1 + len(groups) :], strict=True)),
        sites=int(np.unique(site).size),
        points=int(site.size),
        few=tuple(k for k in range(classes) if k not in own),
        unseen=tuple(k for k in range(classes) if there[k] == 0),
    )


def logistic(design: Floats, right: Floats, weight: Floats, ridge: Floats, start: Floats) -> Floats:
    """Weighted ridge logistic regression towards `start`, by Newton's method with halved steps.

    Minimises sum of weight x log-loss + sum of ridge / 2 (beta - start)^2.
    """
    beta = start.copy()
    value = _loss(design, right, weight, ridge, start, beta)
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(design @ beta, -500, 500)))
        slope = design.T @ (weight * (p - right)) + ridge * (beta - start)
        bend = (design * (weight * p * (1 - p))[:, None]).T @ design + np.diag(ridge)
        step = np.linalg.solve(bend, slope)
        size = 1.0
        while size > 1e-6:
            tried = beta - size * step
            new = _loss(design, right, weight, ridge, start, tried)
            if new <= value:
                break
            size /= 2
        else:
            break
        done = value - new < 1e-10 * max(1.0, abs(value))
        beta, value = tried, new
        if done:
            break
    return beta


def _loss(
    design: Floats, right: Floats, weight: Floats, ridge: Floats, start: Floats, beta: Floats
) -> float:
    z = design @ beta
    return float(
        (weight * (np.logaddexp(0, z) - right * z)).sum() + (ridge * (beta - start) ** 2).sum() / 2
    )
