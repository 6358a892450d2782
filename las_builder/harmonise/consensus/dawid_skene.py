"""Dawid-Skene with rectangular emissions, priors, tempered votes and strata that share strength.

Of a pixel in stratum s whose products say c = (c_1 ... c_P), c_p = -1 where p says nothing,

    score[y] = log pi_s[y] + sum over p with c_p >= 0 of t_p log theta_sp[y, c_p]
    P(y | c) = softmax of the scores

with exponents t_p of at most 1 (Dawid and Skene 1979, Applied Statistics 28; t_p = 1 is theirs).
pi and theta maximise

    sum over c of n_s(c) log sum over y of exp(score[y])
      + sum over y of a_s[y] log pi_s[y] + sum over p, y, code of t_p b_sp[y, code] log theta_sp[y, code]

by EM: it never decreases. n_s(c) are counts of distinct tuples in sites: a site counts for 1 on
average, however many pixels it has, because its pixels are no independent evidence. a and b are what
the prior knows, in sites: at the root strength times the expectation of the voter, in every other
stratum strength times what its parent has learnt. Strata with fewer sites than a minimum are not
fitted at all and use their parent's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TINY = 1e-9
"""The least of any probability of the model."""

DECIMALS = 4
"""Of the log-probabilities that decide labels: what differs between machines is far below."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parameters:
    """What one stratum has learnt."""

    classes: Floats
    """pi, (class,)."""

    says: tuple[Floats, ...]
    """theta of each product, (class, symbol); rows sum to 1."""

    def logs(self) -> tuple[Floats, tuple[Floats, ...]]:
        """Their logarithms, rounded, so that sums of them decide alike on every machine."""
        return _log(self.classes), tuple(_log(one) for one in self.says)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tuples:
    """Distinct tuples of one stratum."""

    said: Ints
    """(tuple, product) number of the symbol, -1 where the product says nothing."""

    sites: Floats
    """(tuple,) how many sites it fills, by weight."""


def scores(parameters: Parameters, exponents: Floats, said: Ints) -> Floats:
    """(tuple, class) the log-posteriors before they are normed."""
    start, tables = parameters.logs()
    out = np.repeat(start[None, :], len(said), axis=0)
    for p, table in enumerate(tables):
        spoke = said[:, p] >= 0
        out[spoke] += exponents[p] * table[:, said[spoke, p]].T
    return out


def posterior(parameters: Parameters, exponents: Floats, said: Ints) -> Floats:
    """(tuple, class) P(class | tuple)."""
    return softmax(scores(parameters, exponents, said))


def softmax(scores: Floats) -> Floats:
    """Rows to chances that sum to 1."""
    out = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(out / out.sum(axis=1, keepdims=True))


def fit(
    tuples: Tuples,
    prior: Parameters,
    strength: tuple[float, float],
    exponents: Floats,
    *,
    rounds: int = 200,
    tolerance: float = 1e-7,
    learn: bool = True,
) -> tuple[Parameters, list[float]]:
    """Fit one stratum by EM.

    Args:
        tuples: What the products say.
        prior: Expectation of both, pi and theta.
        strength: What the prior counts for, in sites: for pi as a whole; for theta, each row.
        exponents: (product,) what each vote counts for.
        rounds: At most so many.
        tolerance: EM ends where a site gains less than this.
        learn: Whether theta is learnt; else it is the prior's and only pi is.

    Returns:
        What was learnt, and the objective after each round.
    """
    now, path = prior, []
    total = max(float(tuples.sites.sum()), 1.0)
    heard = _heard(tuples.said, prior)
    for _ in range(rounds):
        found = _raw(now, exponents, heard)
        top = found.max(axis=1, keepdims=True)
        chance = np.exp(found - top)
        norm = chance.sum(axis=1, keepdims=True)
        value = float((tuples.sites * (top + np.log(norm))[:, 0]).sum())
        path.append(value + _knows(now, prior, strength, exponents, learn=learn))
        if len(path) > 1 and path[-1] - path[-2] < tolerance * total:
            break
        now = _step(heard, chance / norm * tuples.sites[:, None], prior, strength, now, learn)
    return now, path


def _heard(said: Ints, prior: Parameters) -> list[csr_array]:
    """Of each product, (tuple, symbol): 1 where the tuple says it."""
    from scipy.sparse import csr_array

    found = []
    for p, one in enumerate(prior.says):
        at = np.flatnonzero(said[:, p] >= 0)
        found.append(
            csr_array((np.ones(at.size), (at, said[at, p])), shape=(len(said), one.shape[1]))
        )
    return found


def _step(
    heard: Sequence[csr_array], filled: Floats, prior: Parameters, strength: tuple[float, float],
    now: Parameters, learn: bool,
) -> Parameters:  # fmt: skip
    """From what each class is said to fill to the parameters that make it likeliest."""
    classes = _normed(filled.sum(axis=0) + strength[0] * prior.classes)
    if not learn:
        return Parameters(classes=classes, says=now.says)
    says = tuple(
        _normed((said.T @ filled).T + strength[1] * one)
        for said, one in zip(heard, prior.says, strict=True)
    )
    return Parameters(classes=classes, says=says)


def _knows(
    now: Parameters, prior: Parameters, strength: tuple[float, float], exponents: Floats,
    *, learn: bool,
) -> float:  # fmt: skip
    """The logarithm of the prior, but for a constant."""
    value = float(((strength[0] * prior.classes + TINY) * np.log(now.classes)).sum())
    if learn:
        for t, one, said in zip(exponents, prior.says, now.says, strict=True):
            value += float(t) * float(((strength[1] * one + TINY) * np.log(said)).sum())
    return value


def _raw(parameters: Parameters, exponents: Floats, heard: Sequence[csr_array]) -> Floats:
    """As `scores`, without rounding, which EM cannot climb on."""
    out = np.repeat(np.log(parameters.classes)[None, :], heard[0].shape[0], axis=0)
    for t, table, said in zip(exponents, parameters.says, heard, strict=True):
        out += said @ (t * np.log(table).T)
    return out


def _normed(count: Floats) -> Floats:
    count = np.maximum(count, 0) + TINY
    return np.asarray(count / count.sum(axis=-1, keepdims=True))


def _log(chances: Floats) -> Floats:
    return np.asarray(np.round(np.log(np.maximum(chances, TINY)), DECIMALS))


def exponents_of(products: Sequence[str], groups: Sequence[tuple[Sequence[str], float]]) -> Floats:
    """What each vote counts for: 1 / (1 + (n - 1) rho) in a group of n that errs alike by rho.

    n votes whose errors correlate by rho say as much as n / (1 + (n - 1) rho) that do not: the
    design effect of a cluster (Kish 1965, section 5.4).
    """
    out = np.ones(len(products))
    for members, rho in groups:
        here = [i for i, name in enumerate(products) if name in members]
        for i in here:
            out[i] = min(out[i], 1 / (1 + (len(here) - 1) * rho))
    return out
