"""Ratios over sites with their standard errors: the one way in which anything is estimated.

The site is the sampling unit: the pixels of a patch are a cluster, and ten thousand of them are one
observation. An estimate is a Hájek ratio over the stored sites,

    R = Σ w_i y_i / Σ w_i x_i,    linearised: z_i = w_i (y_i - R x_i) / Σ w_j x_j,

with the final weights w. Its variance depends on how the sites were drawn. Under Matérn's rule sites
of a cell (component, stratum) are as good as independent, and their number is fixed:

    V = Σ_h n_h / (n_h - 1) Σ_{i in h} (z_i - mean_h z)².

One site at most in each cell of a rotated partition spreads them evenly, and that formula would claim
too little: there the variance is local, of each site among itself and its three nearest,

    V = Σ_i 1/3 Σ_{j near i} (z_j - mean z of those near i)².

Sites at which nothing was looked at (x = 0) are of the sample still, with z = 0.

Source: Särndal, Swensson and Wretman (1992), Model Assisted Survey Sampling, §5.6-5.7; Stevens and
Olsen (2003), Variance estimation for spatially balanced samples, Environmetrics 14, whose weights
of neighbours are equal here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from las_builder.plan.ellipsoid import cartesian
from las_builder.plan.table import SiteTable
from las_builder.plan.target import Floats

FEW = 30
"""Effective sites below which an interval is not to be trusted: pages say "too few"."""

Z95 = 1.96
"""Half of a 95 % interval, in standard errors."""

_NEAR = 4
_COLUMNS = 32  # estimated at a time: bounds memory, changes no result


@dataclass(frozen=True, eq=False)
class Sample:
    """Sites as a sample: what an estimate has to know of them; arrays of one length."""

    weight: Floats
    """km2 each stands for, or 1 where chances are not known."""

    cell: NDArray[np.intp]
    """Number of its variance stratum."""

    near: NDArray[np.intp] | None = None
    """(n, 4) each with its nearest, itself included, where the rule is `cells`; else None."""

    @classmethod
    def of(
        cls, sites: SiteTable, weight: Floats, rule: Literal["matern", "cells"] = "matern"
    ) -> Sample:
        """The sample that some sites of one subset are.

        Args:
            sites: Those with pixels.
            weight: Final weight of each, (sites,).
            rule: How they were kept apart.
        """
        pairs = zip(sites.component.tolist(), sites.stratum.tolist(), strict=True)
        number: dict[tuple[str, str], int] = {}
        cell = np.array([number.setdefault(pair, len(number)) for pair in pairs], np.intp)
        near = None
        if rule == "cells" and len(sites) >= _NEAR:
            from scipy.spatial import cKDTree

            at = cartesian(sites.lon, sites.lat)
            near = np.asarray(cKDTree(at).query(at, k=_NEAR)[1], np.intp)
        return cls(np.asarray(weight, np.float64), cell, near)

    def variance(self, z: Floats) -> Floats:
        """Of the sum of linearised values (n, k) over sites: (k,)."""
        if not len(z):
            return np.zeros(z.shape[1])
        if self.near is not None:
            around = z[self.near]
            spread = ((around - around.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
            return np.asarray(spread.sum(axis=0) / (_NEAR - 1), np.float64)
        order = np.argsort(self.cell, kind="stable")
        _, start, n = np.unique(self.cell[order], return_index=True, return_counts=True)
        z = z[order]
        mean = np.add.reduceat(z, start, axis=0) / n[:, None]
        lonely = n == 1  # nothing to compare it with: as if its cell were expected to have none
        mean[lonely] = 0.0
        factor = np.where(lonely, 1.0, n / np.maximum(n - 1, 1))
        away = (z - np.repeat(mean, n, axis=0)) ** 2
        return np.asarray(factor @ np.add.reduceat(away, start, axis=0), np.float64)


@dataclass(frozen=True, eq=False)
class Ratios:
    """Estimates, arrays of one length; NaN where there is nothing to estimate from."""

    value: Floats
    error: Floats
    """Standard error; NaN with fewer than two sites."""

    effective: Floats
    """Kish's effective number of the sites that hold what is counted, (Σw)² / Σw²; of what is said
    about a class, w times how much of it they hold: a hundred points in three patches are three."""

    sites: NDArray[np.int64]
    """Sites that hold it."""

    def __len__(self) -> int:
        return self.value.size


def ratios(
    sample: Sample, part: Floats, whole: Floats, *, held: Literal["part", "whole"]
) -> Ratios:
    """Σ w part / Σ w whole for several things at once.

    Args:
        sample: The sites.
        part: What is counted at every site, (n, k).
        whole: What was looked at, (n,) or (n, k).
        held: Which of the two must be above 0 for a site to count among those that hold it: `part`
            for shares of a class, `whole` for what is said about a class.
    """
    part = np.asarray(part, np.float64)
    k = part.shape[1]
    out = np.full((3, k), np.nan)
    sites = np.zeros(k, np.int64)
    w = sample.weight[:, None]
    for first in range(0, k, _COLUMNS):
        some = slice(first, first + _COLUMNS)
        y = part[:, some]
        x = np.broadcast_to(whole[:, None] if whole.ndim == 1 else whole[:, some], y.shape)
        total = (w * x).sum(axis=0)
        known = total > 0
        scale = np.where(known, total, 1.0)
        value = (w * y).sum(axis=0) / scale
        variance = sample.variance(w * (y - value * x) / scale)
        holds = w * (y > 0) if held == "part" else w * x
        square = (holds**2).sum(axis=0)
        out[0, some] = np.where(known, value, np.nan)
        looked = (x > 0).sum(axis=0)
        out[1, some] = np.where(known & (looked > 1), np.sqrt(variance), np.nan)
        out[2, some] = holds.sum(axis=0) ** 2 / np.where(square > 0, square, 1.0)
        sites[some] = (holds > 0).sum(axis=0)
    return Ratios(out[0], out[1], out[2], sites)
