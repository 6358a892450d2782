"""Shares and agreement of label products, estimated from the cube before any filter.

The site is the sampling unit: the pixels of a patch are a cluster, so a thousand pixels of one
patch are one observation. Estimates are Hájek ratios over sites,

    R = sum(w_i a_i) / sum(w_i n_i),

with linearised variance (Särndal, Swensson and Wretman 1992, section 5.6), sites taken as drawn
with replacement. Against another product the word is agreement, never accuracy. Patches are not
dilated by the draw, so whole-patch shares are composition and not area (DESIGN section 6).
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from las_builder.catalogs import LabelProduct
from las_builder.fetch import PatchResult
from las_builder.fetch.cube import open_round


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditJob:
    """The stored rows of one block."""

    group: Path
    rows: tuple[PatchResult, ...]
    products: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SiteCounts:
    """Pixels of one site, over its dates."""

    site: str
    codes: Mapping[str, Mapping[int, int]]
    """Product to code to pixels."""

    pairs: Mapping[tuple[str, str], Mapping[tuple[int, int], int]]
    """Two products to a pair of codes to pixels."""


def count_block(job: AuditJob) -> list[SiteCounts]:
    """Count codes and pairs of codes of every site that has rows in a block."""
    group = open_round(job.group)
    out = []
    for site in dict.fromkeys(row.site for row in job.rows):
        codes: dict[str, Counter[int]] = {name: Counter() for name in job.products}
        pairs: dict[tuple[str, str], Counter[tuple[int, int]]] = {}
        for row in (row for row in job.rows if row.site == site):
            found = {}
            for name in job.products:
                codes_here = np.asarray(group[f"labels/{name}"][row.row])  # type: ignore[index]
                values, place, n = np.unique(codes_here, return_inverse=True, return_counts=True)
                codes[name].update(dict(zip(values.tolist(), n.tolist(), strict=True)))
                found[name] = values.tolist(), place.ravel()
            for a, b in itertools.combinations(job.products, 2):
                (codes_a, place_a), (codes_b, place_b) = found[a], found[b]
                # Places among the codes that occur, so that codes of any size and sign pair up.
                joint = np.bincount(place_a * len(codes_b) + place_b)
                table = pairs.setdefault((a, b), Counter())
                for value in np.flatnonzero(joint).tolist():
                    i, j = divmod(value, len(codes_b))
                    table[codes_a[i], codes_b[j]] += int(joint[value])
        out.append(SiteCounts(site, codes, pairs))
    return out


def merge(a: SiteCounts | None, b: SiteCounts) -> SiteCounts:
    """The counts of a site whose rows lie in two blocks."""
    if a is None:
        return b
    return SiteCounts(
        a.site,
        {name: Counter(a.codes[name]) + Counter(b.codes[name]) for name in a.codes},
        {pair: Counter(a.pairs[pair]) + Counter(b.pairs[pair]) for pair in a.pairs},
    )


@dataclass(frozen=True, slots=True)
class Estimate:
    """A ratio with its standard error, and the sites it rests on."""

    value: float
    error: float
    """NaN with fewer than two sites."""

    sites: int
    """Sites in which what is counted occurs."""


@dataclass(frozen=True, slots=True)
class Composition:
    """Shares of a product's codes, nodata left out."""

    product: str
    shares: Mapping[int, Estimate]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often two products say the same, in classes both can be put in."""

    a: str
    b: str
    taxonomy: str
    overall: Estimate
    table: Mapping[tuple[int, int], float]
    """(class of a, class of b) to share of the compared pixels, weighted."""


def ratio(
    numerator: Sequence[float], denominator: Sequence[float], weight: Sequence[float]
) -> Estimate:
    """The Hájek ratio of site totals with its linearised standard error.

    Args:
        numerator: Pixels counted, a value a site.
        denominator: Pixels looked at, a value a site.
        weight: km2 a site stands for.
    """
    a, n, w = (np.asarray(v, float) for v in (numerator, denominator, weight))
    used = n > 0
    a, n, w = a[used], n[used], w[used]
    total = float((w * n).sum())
    if total == 0:
        return Estimate(math.nan, math.nan, 0)
    value = float((w * a).sum()) / total
    residual = w * (a - value * n)
    sites = len(a)
    error = math.nan
    if sites > 1:
        spread = float(((residual - residual.mean()) ** 2).sum())
        error = math.sqrt(sites / (sites - 1) * spread) / total
    return Estimate(value, error, int((a > 0).sum()))


def composition(
    counts: Sequence[SiteCounts], weights: Mapping[str, float | None], product: LabelProduct
) -> Composition:
    """Shares of the codes of one product; sites without a known chance count alike."""
    weight = [weights.get(c.site) or 1.0 for c in counts]
    looked = [
        sum(n for code, n in c.codes[product.name].items() if code != product.nodata)
        for c in counts
    ]
    return Composition(
        product.name,
        {
            entry.value: ratio(
                [c.codes[product.name].get(entry.value, 0) for c in counts], looked, weight
            )
            for entry in product.classes
            if entry.value != product.nodata
            and any(c.codes[product.name].get(entry.value) for c in counts)
        },
    )


def agreement(
    counts: Sequence[SiteCounts], weights: Mapping[str, float | None], pair: tuple[str, str],
    tables: tuple[Mapping[int, int], Mapping[int, int]], taxonomy: str,
) -> Agreement:  # fmt: skip
    """Agreement of two products over pixels where each is in exactly one class.

    Args:
        counts: Of every site.
        weights: Site to final weight, km2.
        pair: Names of the products.
        tables: Code to class index of each, 255 = in no or several classes.
        taxonomy: Whose classes.
    """
    same, both, weight = [], [], []
    joint: Counter[tuple[int, int]] = Counter()
    for c in counts:
        w = weights.get(c.site) or 1.0
        agree = compared = 0
        for (code_a, code_b), n in c.pairs.get(pair, {}).items():
            a, b = tables[0].get(code_a, 255), tables[1].get(code_b, 255)
            if 255 in (a, b):
                continue
            compared += n
            agree += n * (a == b)
            joint[a, b] += w * n  # type: ignore[assignment]
        same.append(agree)
        both.append(compared)
        weight.append(w)
    total = sum(joint.values())
    return Agreement(
        *pair, taxonomy, ratio(same, both, weight),
        {key: value / total for key, value in sorted(joint.items())},
    )  # fmt: skip
