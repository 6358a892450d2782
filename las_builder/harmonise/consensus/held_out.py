"""Calibration with what it is worth: fitted on all reference sites, scored on halves held out."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from las_builder.errors import LasWarning
from las_builder.harmonise.consensus.calibrate import Calibration, calibrate
from las_builder.harmonise.consensus.model import Consensus
from las_builder.harmonise.consensus.score import (
    by_chance,
    ece_of,
    intraclass,
    site_bootstrap,
    table,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

LEAST = 10
"""Reference sites of a half below which nothing is scored."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observed:
    """Reference pixels of one site."""

    site: str
    block: object
    """Of the splits: sites of one block are never on both sides."""

    stratum: str
    said: Ints
    """(point, product) numbers of symbols."""

    truth: Ints
    """(point,) class; one that is no label makes every label wrong."""

    weight: Floats
    """(point,) km2."""


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """All reference pixels that have a label; arrays of one length."""

    label: Ints
    chance: Floats
    truth: Ints
    weight: Floats
    site: Ints
    stratum: NDArray[np.str_]
    half: NDArray[np.bool_]

    @classmethod
    def of(cls, learnt: Consensus, observed: Sequence[Observed]) -> _Sample:
        rows = []
        for number, one in enumerate(observed):
            label, chance = learnt.decide(one.said, one.stratum)
            n = label.size
            half = zlib.crc32(str(one.block).encode()) % 2
            stratum = learnt.table(one.stratum)[0]
            rows.append(
                (
                    label, chance, one.truth, one.weight, np.full(n, number),
                    np.full(n, stratum, "U200"), np.full(n, bool(half)),
                )
            )  # fmt: skip
        whole = [np.concatenate(part) for part in zip(*rows, strict=True)]
        kept = whole[0] >= 0
        return cls(*(part[kept] for part in whole))

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the label is."""
        return self.label == self.truth

    def calibration(self, kept: NDArray[np.bool_], classes: int) -> Calibration:
        """Fitted on some of the pixels."""
        return calibrate(
            self.chance[kept], self.label[kept], self.right[kept], self.stratum[kept],
            self.site[kept], self.weight[kept], self.truth[kept], classes,
        )  # fmt: skip


def calibrated_on(
    learnt: Consensus, observed: Sequence[Observed]
) -> tuple[Consensus, dict[str, Any]]:
    """Calibrate a consensus, and say what its confidence is worth on sites it has not seen.

    The calibration is fitted on every site. What it is worth is measured by fitting it on the sites
    of half of the blocks and scoring the other half, and the other way round.

    Returns:
        The consensus with its calibration; and sites, points, `ece` with its interval, that
        without calibration, that of a perfectly calibrated forecast, and names of classes `few`
        and `unseen`. Numbers are None where a half has fewer sites than `LEAST`.

    Warns:
        LasWarning: Classes without a reference point, by name.
    """
    names, labels = learnt.classes.names, learnt.classes.labels
    sample = _Sample.of(learnt, observed)
    whole = sample.calibration(np.ones(sample.label.size, bool), labels)
    report: dict[str, Any] = {
        "sites": whole.sites,
        "points": whole.points,
        "few": [names[k] for k in whole.few],
        "unseen": [names[k] for k in whole.unseen],
        "ece": None,
    }
    if whole.unseen:
        warnings.warn(
            f"no reference point of {', '.join(report['unseen'])}: confidence there is what the "
            "other classes teach", LasWarning, stacklevel=2,
        )  # fmt: skip
    halves = [sample.half, ~sample.half]
    if min(np.unique(sample.site[half]).size for half in halves) < LEAST:
        return learnt.calibrated(whole), report
    sure = np.empty(sample.label.size)
    for half in halves:
        found = sample.calibration(~half, labels)
        for stratum in np.unique(sample.stratum[half]).tolist():
            here = half & (sample.stratum == stratum)
            sure[here] = found.apply(sample.chance[here], sample.label[here], stratum)
    sure = np.round(sure, 2)
    report.update(scored(sure, sample.right, sample.site, sample.weight))
    report["uncalibrated"] = round(
        ece_of(*table(np.round(sample.chance, 2), sample.right, sample.weight)), 6
    )
    return learnt.calibrated(whole), report


def scored(
    sure: Floats, right: NDArray[np.bool_], site: Ints, weight: Floats, *, draws: int = 200
) -> dict[str, float]:
    """ECE with its site bootstrap, and what a perfectly calibrated forecast would get.

    Args:
        sure: (n,) stated confidence, in whole percent.
        right: (n,).
        site: (n,) number of the site.
        weight: (n,).
        draws: Of the bootstrap.
    """
    _, number = np.unique(site, return_inverse=True)
    number = number.ravel()
    percent = np.rint(sure * 100).astype(np.int64)
    sites = int(number.max()) + 1
    cell = number * 101 + percent
    mass = np.bincount(cell, weight, sites * 101).reshape(sites, 101)
    good = np.bincount(cell, weight * right, sites * 101).reshape(sites, 101)
    values = np.arange(101) / 100
    found = site_bootstrap(
        lambda times: ece_of(values, times @ mass, times @ good), sites, draws=draws
    )
    chance = by_chance(sure, number, weight, intraclass(right - sure, number))
    return {
        "ece": round(found.value, 6),
        "low": round(found.low, 6),
        "high": round(found.high, 6),
        "by_chance": round(chance, 6),
    }
