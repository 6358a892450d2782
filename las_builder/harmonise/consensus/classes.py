"""What a consensus decides between.

A class of a taxonomy is too coarse to be what products err about: open woodland is trees to one
legend and shrub to another, and both are right. So the hidden state of the model is the *atom*: a
set of leaves of one class that every code of every product either can mean as a whole or not at
all. Atoms are what the codes' sets of leaves and the classes cut the ontology into; a class is a
sum of atoms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from las_builder.catalogs import LabelClass, LabelProduct, Ontology, Taxonomy
from las_builder.harmonise.crosswalk import candidates

REST = "(none of these)"
"""The name of what lies outside the taxonomy; it is never a label."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Classes:
    """The classes of a taxonomy, cut into atoms by the legends of some products."""

    names: tuple[str, ...]
    """Of the taxonomy's classes in its order, then `REST` where there is any."""

    labels: int
    """How many of them are labels: all, or all but the last."""

    atoms: tuple[frozenset[str], ...]
    """Ontology leaves of each atom."""

    of_atom: NDArray[np.int64]
    """(atom,) number of the class that each is part of; ascending."""

    @classmethod
    def of(
        cls, taxonomy: Taxonomy, products: Sequence[LabelProduct], ontology: Ontology
    ) -> Classes:
        """The classes of a taxonomy, and the rest of the ontology if there is a rest."""
        owned = [
            frozenset(leaf for node in entry.members for leaf in ontology.below(node))
            for entry in taxonomy.classes
        ]
        names = tuple(entry.name for entry in taxonomy.classes)
        # `special.*` are no ground that a pixel can be.
        ground = frozenset(leaf for leaf in ontology.leaves if not leaf.startswith("special"))
        rest = ground.difference(*owned)
        if rest:
            names, owned = (*names, REST), [*owned, rest]
        sets = [
            leaves
            for product in products
            for entry in product.classes
            for leaves in meanings(entry, product, taxonomy, ontology)
        ]
        atoms, of_atom = [], []
        for number, leaves in enumerate(owned):
            parts: dict[tuple[bool, ...], set[str]] = {}
            for leaf in sorted(leaves):
                parts.setdefault(tuple(leaf in can_be for can_be in sets), set()).add(leaf)
            atoms += [frozenset(part) for part in parts.values()]
            of_atom += [number] * len(parts)
        return cls(
            names=names,
            labels=len(taxonomy.classes),
            atoms=tuple(atoms),
            of_atom=np.array(of_atom, np.int64),
        )

    def even(self) -> NDArray[np.float64]:
        """(atom,) chances where all classes are alike, and all atoms of a class."""
        parts = np.bincount(self.of_atom, minlength=len(self.names))
        return np.asarray(1 / len(self.names) / parts[self.of_atom])

    def summed(self, of_atoms: NDArray[np.float64]) -> NDArray[np.float64]:
        """(any, atom) chances of atoms to (any, class)."""
        starts = np.searchsorted(self.of_atom, np.arange(len(self.names)))
        return np.asarray(np.add.reduceat(of_atoms, starts, axis=1))


def meanings(
    entry: LabelClass, product: LabelProduct, taxonomy: Taxonomy, ontology: Ontology
) -> tuple[frozenset[str], frozenset[str]]:
    """The leaves that a code names itself, and those that can be seen where they hold, in a
    taxonomy of this basis. Both empty: the code says nothing.
    """
    if entry.value == product.nodata:
        return frozenset(), frozenset()
    return (
        candidates(entry, product, "use", ontology),
        candidates(entry, product, taxonomy.basis, ontology),
    )
