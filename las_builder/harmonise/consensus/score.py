"""How good a label and its confidence are, with the site as the sampling unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BINS = 15


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with the middle 95 % of its bootstrap distribution over sites."""

    value: float
    low: float
    high: float


def ece(confidence: Floats, right: NDArray[np.bool_], weight: Floats, bins: int = BINS) -> float:
    """Expected calibration error of top labels, in bins of equal mass.

    sum over bins of share x |mean confidence - share right|, all weighted (Naeini, Cooper and
    Hauskrecht 2015, AAAI; bins of equal mass as in Nguyen and O'Connor 2015, EMNLP). Pixels of one
    confidence are never parted: a bin ends where its confidence does.

    Args:
        confidence: (n,) 0-1.
        right: (n,) whether the label is.
        weight: (n,) area or any other measure.
        bins: At most so many.
    """
    return ece_of(*table(confidence, right, weight), bins=bins)


def table(
    confidence: Floats, right: NDArray[np.bool_], weight: Floats
) -> tuple[Floats, Floats, Floats]:
    """Distinct confidences ascending, their weight, and the weight that is right; (m,) each."""
    values, place = np.unique(confidence, return_inverse=True)
    place = place.ravel()
    return values, _sums(place, weight, values.size), _sums(place, weight * right, values.size)


def ece_of(values: Floats, mass: Floats, right: Floats, bins: int = BINS) -> float:
    """`ece` from a `table`."""
    total = float(mass.sum())
    if total <= 0:
        return float("nan")
    before = np.cumsum(mass) - mass
    bin_ = np.minimum((before / total * bins).astype(np.int64), bins - 1)
    stated = np.bincount(bin_, mass * values, bins)
    found = np.bincount(bin_, right, bins)
    return float(np.abs(stated - found).sum() / total)


def site_bootstrap(
    statistic: Callable[[Floats], float], sites: int, *, draws: int = 200, seed: int = 0
) -> Interval:
    """A statistic of site weights, with its interval from sites drawn with replacement.

    Args:
        statistic: From how often each site counts, (sites,), to a number.
        sites: How many.
        draws: Of the bootstrap.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    value = statistic(np.ones(sites))
    found = [
        statistic(np.bincount(rng.integers(0, sites, sites), minlength=sites).astype(float))
        for _ in range(draws)
    ]
    finite = [v for v in found if np.isfinite(v)]
    low, high = np.percentile(finite, [2.5, 97.5]) if finite else (float("nan"), float("nan"))
    return Interval(value, float(low), float(high))


def by_chance(
    confidence: Floats, site: NDArray[np.int64], weight: Floats, correlation: float,
    *, draws: int = 50, seed: int = 0, bins: int = BINS,
) -> float:  # fmt: skip
    """The ECE that a perfectly calibrated forecast gets on these pixels, on average.

    Every pixel is right with the chance it states; whether it is, correlates within a site: a
    pixel looks at the site's common die with the chance sqrt(correlation), else at its own.

    Args:
        confidence: (n,) 0-1.
        site: (n,) number of the site.
        weight: (n,).
        correlation: Within sites; see `intraclass`.
        draws: How many outcomes are drawn.
        seed: Of the draws.
        bins: As for `ece`.
    """
    rng = np.random.default_rng(seed)
    shared = np.sqrt(min(max(correlation, 0.0), 1.0))
    values, place = np.unique(confidence, return_inverse=True)
    place, mass = place.ravel(), _sums(place.ravel(), weight, values.size)
    found = []
    for _ in range(draws):
        die = rng.random(int(site.max()) + 1)[site]
        own = rng.random(site.size)
        right = np.where(rng.random(site.size) < shared, die, own) < confidence
        found.append(ece_of(values, mass, _sums(place, weight * right, values.size), bins))
    return float(np.mean(found))


def intraclass(residual: Floats, site: NDArray[np.int64]) -> float:
    """Correlation of residuals within sites: the mean product of two of a site over the mean
    square, both over all pairs and pixels; not below 0.
    """
    n = np.bincount(site).astype(float)
    total, square = np.bincount(site, residual), np.bincount(site, residual**2)
    pairs = float((n * (n - 1)).sum())
    spread = float(square.sum()) / max(float(n.sum()), 1.0)
    if pairs <= 0 or spread <= 0:
        return 0.0
    return max(0.0, float((total**2 - square).sum()) / pairs / spread)


def confusion(
    truth: NDArray[np.int64], said: NDArray[np.int64], weight: Floats, classes: int
) -> Floats:
    """(class, class + 1) weight of what is and what is said; the last column is no label."""
    said = np.where((said < 0) | (said >= classes), classes, said)
    kept = (truth >= 0) & (truth < classes)
    key = truth[kept] * (classes + 1) + said[kept]
    return _sums(key, weight[kept], classes * (classes + 1)).reshape(classes, classes + 1)


def ious(matrix: Floats) -> Floats:
    """(class,) intersection over union; NaN for a class that is neither there nor said."""
    both = np.diagonal(matrix)
    union = matrix.sum(axis=1) + matrix[:, : len(matrix)].sum(axis=0) - both
    return np.asarray(np.where(union > 0, both / np.where(union > 0, union, 1), np.nan))


def mean_iou(matrix: Floats) -> float:
    """Mean over the classes that are there."""
    there = matrix.sum(axis=1) > 0
    return float(ious(matrix)[there].mean()) if there.any() else float("nan")


def _sums(place: NDArray[np.intp], weight: Floats, size: int) -> Floats:
    return np.bincount(place, weight, size).astype(np.float64)
