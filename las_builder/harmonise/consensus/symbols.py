"""From a product's map to the numbers that are counted: a code with the levels of its evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from las_builder.core.types import IGNORE, LabelMap
from las_builder.errors import LegendError
from las_builder.harmonise.consensus.evidence import Evidence
from las_builder.harmonise.lookup import MISSING, look_up


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ballot:
    """What one product can say.

    Symbol = (place of the code x levels of the first evidence + level) x levels of the second ...
    """

    product: str
    codes: NDArray[np.int64]
    """(code,) ascending: those that say something."""

    silent: NDArray[np.int64]
    """(any,) ascending: the other declared codes."""

    evidence: tuple[Evidence, ...] = ()

    @property
    def levels(self) -> int:
        """Symbols of one code."""
        return int(np.prod([one.levels for one in self.evidence], dtype=np.int64))

    @property
    def arrays(self) -> tuple[str, ...]:
        """Of a round of the cube, what it is read from; layers are large."""
        kinds = ["labels"]
        kinds += ["shares"] if any(one.kind == "share" for one in self.evidence) else []
        kinds += ["evidence"] if any(one.layers for one in self.evidence) else []
        return tuple(f"{kind}/{self.product}" for kind in kinds)

    def symbols(self, found: LabelMap) -> NDArray[np.signedinteger[Any]]:
        """(y, x) number of the symbol, -1 where the product says nothing; of the smallest type
        that holds them, because small numbers are counted faster.

        Raises:
            LegendError: The map holds a code that the legend does not list.
            GridMismatchError: The map lacks a layer of the evidence.
        """
        place, strange = look_up(found.codes, self._places)
        if strange:
            known = np.union1d(self.codes, self.silent)
            raise LegendError(
                f"{found.product} ({found.version})", "code",
                np.unique(found.codes[place == MISSING])[:8].tolist(),
                f"the codes {', '.join(map(str, known.tolist()))}",
                "Declare them in the product's legend, or check that this is the product.",
            )  # fmt: skip
        number = place.astype(np.min_scalar_type(-self.codes.size * self.levels - 1))
        for one in self.evidence:
            number = number * one.levels + one.level(found).astype(number.dtype)
        number[place == IGNORE] = -1
        return number

    @property
    def _places(self) -> dict[int, int]:
        """Code to its place among those that say something; 255: it says nothing."""
        places = {int(code): i for i, code in enumerate(self.codes)}
        return dict.fromkeys(self.silent.tolist(), IGNORE) | places

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "product": self.product,
            "codes": self.codes.tolist(),
            "silent": self.silent.tolist(),
            "evidence": [
                {"kind": one.kind, "layers": list(one.layers), "node": one.node}
                for one in self.evidence
            ],
        }

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Ballot:
        """And back."""
        return cls(
            product=said["product"],
            codes=np.array(said["codes"], np.int64),
            silent=np.array(said["silent"], np.int64),
            evidence=tuple(
                Evidence(kind=one["kind"], layers=tuple(one["layers"]), node=one["node"])
                for one in said["evidence"]
            ),
        )


def spoken(tuples: NDArray[np.int64], weight: NDArray[np.float64], sizes: Sequence[int]) -> list[
    NDArray[np.float64]
]:  # fmt: skip
    """How often each product says each of its symbols, by weight; one (symbol,) a product."""
    return [
        np.bincount(column[column >= 0], weight[column >= 0], size).astype(np.float64)
        for column, size in zip(tuples.T, sizes, strict=True)
    ]
