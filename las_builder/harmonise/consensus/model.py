"""A fitted consensus: what it has learnt, how it labels, how it is stored."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from las_builder.core.types import IGNORE, NO_CONFIDENCE, Harmonised, LabelMap
from las_builder.core.workspace import canonical_json
from las_builder.errors import GridMismatchError
from las_builder.harmonise.consensus.calibrate import Calibration
from las_builder.harmonise.consensus.classes import Classes
from las_builder.harmonise.consensus.dawid_skene import softmax
from las_builder.harmonise.consensus.symbols import Ballot
from las_builder.harmonise.count import number_tuples

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

SCALE = 10_000
"""Log-chances are kept as whole numbers of 1 / SCALE, so that labels are alike on every machine."""

VERSION = 2
"""Of what is stored and of how it is fitted: what another version fitted is fitted again."""

ROOT = ""
"""The stratum that all others are part of."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """The log-chances of one stratum, times `SCALE`."""

    classes: Ints
    """(atom,) log pi."""

    says: tuple[Ints, ...]
    """(atom, symbol) log theta of each product."""

    sites: float
    """By weight, that it rests on."""

    @classmethod
    def of(cls, classes: Floats, says: Sequence[Floats], sites: float) -> Table:
        """From log-chances."""
        return cls(
            classes=np.rint(classes * SCALE).astype(np.int64),
            says=tuple(np.rint(one * SCALE).astype(np.int64) for one in says),
            sites=round(sites, 3),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Consensus:
    """How several products become one label."""

    taxonomy: str
    method: str
    classes: Classes
    ballots: tuple[Ballot, ...]
    """What each product can say, in the order of the tuples."""

    exponents: tuple[float, ...]
    """What each vote counts for."""

    tables: Mapping[str, Table]
    """Of every stratum that was fitted, `ROOT` among them."""

    calibration: Calibration | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    """What else decided it: options, versions, hashes of what was counted."""

    def table(self, stratum: str) -> tuple[str, Table]:
        """Of a stratum, or of the nearest one above it that was fitted."""
        while stratum not in self.tables:
            stratum = stratum.rpartition("/")[0]
        return stratum, self.tables[stratum]

    def posterior(self, said: Ints, stratum: str) -> Floats:
        """P(class | symbols), (n, class), rounded to a millionth.

        Args:
            said: (n, product) numbers of symbols, -1 where a product says nothing.
            stratum: Where; see `table`.
        """
        _, table = self.table(stratum)
        out = np.repeat(table.classes[None, :].astype(np.float64), len(said), axis=0)
        for p, (exponent, says) in enumerate(zip(self.exponents, table.says, strict=True)):
            spoke = said[:, p] >= 0
            out[spoke] += exponent * says.T[said[spoke, p]]
        return np.asarray(np.round(self.classes.summed(softmax(out / SCALE)), 6))

    def decide(self, said: Ints, stratum: str) -> tuple[Ints, Floats]:
        """The label of each tuple, (n,), and its confidence, 0-1; -1 and NaN where there is none:
        nobody speaks, or it is likeliest that it is none of the classes.
        """
        chances = self.posterior(said, stratum)
        label = chances.argmax(axis=1)
        sure = chances[np.arange(len(label)), label]
        if self.calibration is not None:
            sure = self.calibration.apply(sure, label, self.table(stratum)[0])
        none = (label >= self.classes.labels) | (said < 0).all(axis=1)
        return np.where(none, -1, label), np.where(none, np.nan, sure)

    def harmonise(self, maps: Sequence[LabelMap], stratum: str = ROOT) -> Harmonised:
        """The classes of one patch.

        Args:
            maps: One of each product, in any order.
            stratum: Of the patch.

        Raises:
            GridMismatchError: A product is missing, or one too many, or a layer of its evidence.
            LegendError: A map holds a code that its legend does not list.
        """
        by_name = {found.product: found for found in maps}
        names = [ballot.product for ballot in self.ballots]
        if sorted(by_name) != sorted(names) or len(maps) != len(names):
            raise GridMismatchError(
                f"a consensus of {names} was given maps of {[m.product for m in maps]}"
            )
        symbols = [ballot.symbols(by_name[ballot.product]) for ballot in self.ballots]
        tuples, _, place = number_tuples(symbols)
        label, sure = self.decide(tuples, stratum)
        percent = np.where(np.isfinite(sure), np.rint(np.nan_to_num(sure) * 100), NO_CONFIDENCE)
        return Harmonised(
            taxonomy=self.taxonomy,
            classes=np.where(label < 0, IGNORE, label).astype(np.uint8)[place],
            confidence=percent.astype(np.uint8)[place],
            confidence_kind="uncalibrated" if self.calibration is None else "calibrated",
            voters=(tuples >= 0).sum(axis=1).astype(np.uint8)[place],
        )

    @property
    def products(self) -> tuple[str, ...]:
        """Names, in the order of the tuples."""
        return tuple(ballot.product for ballot in self.ballots)

    @property
    def arrays(self) -> tuple[str, ...]:
        """Of a round of the cube, what labels are read from."""
        return tuple(name for ballot in self.ballots for name in ballot.arrays)

    @property
    def needs_siblings(self) -> bool:
        """Whether other dates of a site are evidence."""
        return any(one.kind == "stability" for ballot in self.ballots for one in ballot.evidence)

    def said(self) -> dict[str, Any]:
        """What decides a label, for hashes."""
        return {"consensus": self.digest}

    def about_label(self, stratum: str) -> dict[str, Any]:
        """What a sample says of how its label was made."""
        return {
            "method": self.method,
            "products": list(self.products),
            "versions": dict(self.about.get("versions", {})),
            "stratum": self.table(stratum)[0],
            "reference_sites": 0 if self.calibration is None else self.calibration.sites,
            "parameters": self.digest,
        }

    def calibrated(self, calibration: Calibration) -> Consensus:
        """The same labels with confidences of this calibration."""
        return replace(self, calibration=calibration)

    @functools.cached_property
    def digest(self) -> str:
        """Hash of all that decides a label."""
        return hashlib.sha256(canonical_json(self.to_json())).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Plain values, from which `from_json` makes the same again."""
        return {
            "version": VERSION,
            "taxonomy": self.taxonomy,
            "method": self.method,
            "about": dict(self.about),
            "classes": {
                "names": list(self.classes.names),
                "labels": self.classes.labels,
                "atoms": [sorted(atom) for atom in self.classes.atoms],
                "of_atom": self.classes.of_atom.tolist(),
            },
            "products": [ballot.to_json() for ballot in self.ballots],
            "exponents": list(self.exponents),
            "strata": {
                name: {
                    "sites": table.sites,
                    "classes": table.classes.tolist(),
                    "says": [one.tolist() for one in table.says],
                }
                for name, table in sorted(self.tables.items())
            },
            "calibration": None if self.calibration is None else self.calibration.to_json(),
        }

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Consensus:
        """What `to_json` wrote."""
        parts = said["classes"]
        return cls(
            taxonomy=said["taxonomy"],
            method=said["method"],
            classes=Classes(
                names=tuple(parts["names"]),
                labels=parts["labels"],
                atoms=tuple(frozenset(atom) for atom in parts["atoms"]),
                of_atom=np.array(parts["of_atom"], np.int64),
            ),
            ballots=tuple(Ballot.from_json(one) for one in said["products"]),
            exponents=tuple(said["exponents"]),
            tables={
                name: Table(
                    classes=np.array(one["classes"], np.int64),
                    says=tuple(np.array(rows, np.int64) for rows in one["says"]),
                    sites=one["sites"],
                )
                for name, one in said["strata"].items()
            },
            calibration=(
                None if said["calibration"] is None else Calibration.from_json(said["calibration"])
            ),
            about=said["about"],
        )
