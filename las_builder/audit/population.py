"""What is estimated, and from which sites: the frame of every number of an audit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from las_builder.catalogs import LabelProduct, Taxonomy
from las_builder.core.types import IGNORE
from las_builder.plan import FEW, Z95, Ratios, Sample, ratios
from las_builder.plan.target import Floats


@dataclass(frozen=True, slots=True)
class Estimate:
    """A ratio with its standard error, and the sites it rests on."""

    value: float
    """NaN: nothing to estimate it from."""

    error: float
    """Standard error, linearised; NaN with fewer than two sites."""

    effective: float
    """Kish's effective number of the sites that hold what is counted."""

    sites: int
    """Sites that hold it."""

    @property
    def few(self) -> bool:
        """Whether the interval is not to be trusted."""
        return not self.effective >= FEW

    @property
    def interval(self) -> tuple[float, float]:
        """95 %; NaN without an error."""
        return self.value - Z95 * self.error, self.value + Z95 * self.error

    def times(self, factor: float) -> Estimate:
        """In another unit: a share of an area as an area."""
        return Estimate(self.value * factor, self.error * factor, self.effective, self.sites)

    def as_json(self) -> dict[str, Any]:
        """Numbers as they are, the interval, and whether it rests on too few sites."""
        low, high = self.interval
        numbers = {"value": self.value, "error": self.error, "low": low, "high": high}
        return {
            **{k: None if math.isnan(v) else v for k, v in numbers.items()},
            "effective_sites": round(self.effective, 1), "sites": self.sites, "few": self.few,
        }  # fmt: skip


def each(found: Ratios) -> list[Estimate]:
    """Ratios one by one."""
    rows = zip(
        found.value.tolist(), found.error.tolist(), found.effective.tolist(),
        found.sites.tolist(), strict=True,
    )  # fmt: skip
    return [Estimate(*row) for row in rows]


@dataclass(frozen=True, eq=False)
class Groups:
    """A division of the sites: by climate, by country."""

    names: tuple[str, ...]
    number: NDArray[np.intp]
    """Of each site; -1: in none."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Population:
    """The sites of one subset that have pixels."""

    ids: Sequence[str]
    sample: Sample
    patches: Floats
    """Stored patches of each site, (sites,)."""

    pixels: int
    """Of a patch."""

    area_km2: float | None
    """Of the target population; None: no areas are estimated."""

    refused: str = ""
    """Why not."""

    groups: Mapping[str, Groups] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def weighted(self) -> bool:
        """Whether every site has a known chance; if not, all count alike."""
        return self.area_km2 is not None

    def ratio(self, part: Floats, whole: Floats, *, held: Any = "whole") -> Estimate:
        """One ratio of two columns over sites."""
        return each(ratios(self.sample, part[:, None], whole, held=held))[0]

    def by(self, layer: str, part: Floats, whole: Floats) -> dict[str, Estimate]:
        """One ratio within each group of sites that has any, the most sites first."""
        groups = self.groups[layer]
        n = np.bincount(groups.number[(groups.number >= 0) & (whole > 0)], minlength=1)
        order = [g for g in np.argsort(-n, kind="stable").tolist() if n[g] > 0]
        out = {}
        for start in range(0, len(order), 32):
            some = np.array(order[start : start + 32])
            inside = groups.number[:, None] == some
            found = ratios(
                self.sample, part[:, None] * inside, whole[:, None] * inside, held="whole"
            )
            out.update(
                {groups.names[g]: e for g, e in zip(some.tolist(), each(found), strict=True)}
            )
        return out


def meeting(one: Sequence[frozenset[Any]], two: Sequence[frozenset[Any]]) -> NDArray[np.int8]:
    """1 where two sets share something, 0 where not, -1 where one is empty: (of one, of two)."""
    return np.array(
        [[-1 if not a or not b else int(bool(a & b)) for b in two] for a in one], np.int8
    ).reshape(len(one), len(two))


@dataclass(frozen=True, eq=False)
class Level:
    """Classes in which products are compared, and what each code of each product is in them."""

    taxonomy: Taxonomy
    tables: Mapping[str, Mapping[int, int]]
    """Product to code to class index, 255 where a code is in several classes or none; a product
    none of whose codes lies in one class is left out."""

    may: Mapping[str, Mapping[int, frozenset[int]]] = field(default_factory=dict)
    """Product to code to every class that it can be; of a product that is not there, see `tables`."""

    def can_be(self, product: LabelProduct) -> list[frozenset[int]]:
        """Classes that each code of the legend can be, codes ascending; empty: none."""
        table = self.tables.get(product.name, {})
        may = self.may.get(
            product.name, {c: frozenset({i}) for c, i in table.items() if i != IGNORE}
        )
        return [may.get(code, frozenset()) for code in sorted(product.codes)]

    def meets(self, a: LabelProduct, b: LabelProduct) -> NDArray[np.int8]:
        """Whether two codes can be of one class, (codes of a, codes of b), ascending.

        1 where the classes that they can be share one; 0 where not; -1 where one can be none.
        """
        return meeting(self.can_be(a), self.can_be(b))

    @property
    def size(self) -> int:
        """Classes."""
        return len(self.taxonomy.classes)

    def classes(self, product: LabelProduct, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Class indices of codes of the legend, any shape; 255: none or several."""
        known = np.array(sorted(product.codes), np.int64)
        table = self.tables[product.name]
        index = np.array([table.get(code, IGNORE) for code in known.tolist()], np.int64)
        return index[np.searchsorted(known, codes)]
