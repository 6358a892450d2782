"""What a product gives beside its code, as part of what it says.

A layer is cut into a few levels, and a *symbol* is a code with the levels of its layers, so that
tuples stay countable. Where the product's code is c and the layer is at level b, the prior expects

    m[y, (c, b)] = m[y, c] P(b | y, c),    P(b | y, c) ~ f(b | c) L[y, c, b]

with f how often the product shows the level beside that code at all, and L what the layer states of
atom y: by Bayes a stated chance is, but for f, a likelihood. EM learns how far it is to be believed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from las_builder.catalogs import LabelProduct
from las_builder.core.types import LabelMap
from las_builder.errors import GridMismatchError, LegendError
from las_builder.harmonise.consensus.classes import Classes
from las_builder.harmonise.consensus.voters import Voter

Floats = NDArray[np.float64]

EDGES = (0.5, 0.75)
"""Between levels, of what is stated as a chance or a share."""

STATED = (0.35, 0.63, 0.9)
"""What each level states."""

SECOND = 0.5
"""Of what the first class leaves over: the part of the second one; assumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One layer of one product.

    - share: part of the pixel that has the code (`LabelMap.share`);
    - stability: part of the site's other dates on which the product said the same code
      (`LabelMap.evidence["stability"]`, 0-1, negative where there is no other date);
    - probabilities: those of all classes (layers named as the codes); their first and second;
    - fraction: part of the pixel that is below an ontology node (a layer, 0-1).
    """

    kind: Literal["share", "stability", "probabilities", "fraction"]
    layers: tuple[str, ...] = ()
    """probabilities: one a class; fraction: the layer."""

    node: str | None = None
    """fraction: what it is the fraction of."""

    @property
    def levels(self) -> int:
        """How many there are; the last one says nothing."""
        return len(STATED) * max(1, len(self.layers)) + 1

    def level(self, found: LabelMap) -> NDArray[np.int64]:
        """The level of every pixel, the shape of the map.

        Raises:
            GridMismatchError: The map lacks the layer.
        """
        if self.kind == "share":
            share = found.share.astype(np.int64)
            return np.where(share > 0, np.digitize(share, [100 * e for e in EDGES], right=True), 3)
        if self.kind == "stability":
            part = _layer(found, "stability")
            return np.where(part >= 0, np.digitize(part, EDGES, right=True), 3)
        if self.kind == "fraction":
            return np.asarray(np.digitize(_layer(found, self.layers[0]), EDGES, right=True))
        chances = np.stack([_layer(found, name) for name in self.layers])
        order = np.argsort(-chances, axis=0, kind="stable")  # ties to the first layer
        first = np.take_along_axis(chances, order[:1], axis=0)[0]
        place = np.digitize(first, EDGES, right=True)
        return np.where(first > 0, order[1] * len(STATED) + place, self.levels - 1)

    def states(self, voter: Voter, classes: Classes, product: LabelProduct) -> Floats:
        """L, (atom, code, level): what each level states of an atom beside a code."""
        atoms, codes = voter.right.shape
        out = np.ones((atoms, codes, self.levels))
        stated = np.array(STATED)
        can_be = voter.can_be
        if self.kind in ("share", "stability"):
            out[..., : len(STATED)] = np.where(can_be[..., None], stated, 1 - stated)
        elif self.kind == "fraction":
            below = [all(leaf.startswith(f"{self.node}") for leaf in a) for a in classes.atoms]
            out[..., : len(STATED)] = np.where(np.array(below)[:, None, None], stated, 1 - stated)
        else:
            value = {entry.name: entry.value for entry in product.classes}
            missing = [name for name in self.layers if value.get(name) not in set(voter.codes)]
            if missing:
                raise LegendError(
                    product.name, "evidence", missing[0], "layers named as codes that can be labels"
                )
            of_layer = [int(np.searchsorted(voter.codes, value[name])) for name in self.layers]
            others = max(1, len(self.layers) - 2)
            for second, column in enumerate(of_layer):
                for place, first in enumerate(STATED):
                    rest = np.where(
                        can_be[:, [column]],
                        SECOND * (1 - first),
                        (1 - SECOND) * (1 - first) / others,
                    )
                    out[..., second * len(STATED) + place] = np.where(can_be, first, rest)
        return out


def widened(prior: Floats, counts: Floats, states: Floats) -> Floats:
    """Expected emissions of symbols from those of codes, (atom, code x level).

    Args:
        prior: (atom, code) m.
        counts: (code, level) how often the product shows each, any scale.
        states: (atom, code, level) L.
    """
    often = counts + counts.sum(axis=0) * 1e-3 + 1e-9
    chance = often / often.sum(axis=1, keepdims=True) * states
    chance /= chance.sum(axis=2, keepdims=True)
    return np.asarray((prior[..., None] * chance).reshape(len(prior), -1))


def _layer(found: LabelMap, name: str) -> NDArray[np.float64]:
    layer = found.evidence.get(name)
    if layer is None:
        raise GridMismatchError(
            f"{found.product} comes without its layer {name}; it has {sorted(found.evidence)}"
        )
    return np.asarray(layer, np.float64)
