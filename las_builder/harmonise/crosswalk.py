"""From a product's own codes to the classes of a taxonomy.

A code means every ontology leaf below the nodes of its `means`. It is a label where all of them lie
in one class, and no label where they lie in several or in none; unless the taxonomy takes the class
with the greatest of the code's weights (`on_ambiguous: prior`).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from las_builder.catalogs import LabelClass, LabelProduct, Ontology, Taxonomy, TaxonomyClass
from las_builder.core.types import IGNORE, NO_CONFIDENCE, Harmonised, LabelMap
from las_builder.errors import GridMismatchError, LegendError, RecipeError
from las_builder.harmonise.lookup import MISSING, look_up

NATIVE: Literal["native"] = "native"
"""In a recipe: the classes are the legend of the only product."""


def native(product: LabelProduct) -> Taxonomy:
    """A product's own legend as a taxonomy: its codes that mean something, in the legend's order.

    A class has the code's name and colour and its title as the only prompt; it has no `members`,
    because a native legend needs no ontology.

    Raises:
        LegendError: No code means anything, or more than 254 do.
    """
    entries = native_codes(product)
    if not 1 <= len(entries) < IGNORE:
        raise LegendError(
            product.name, "classification:classes", len(entries), "1 to 254 codes with `means`",
            "Name a taxonomy instead of native.",
        )  # fmt: skip
    return Taxonomy(
        name=f"{NATIVE}-{product.name}",
        title=f"The legend of {product.title}",
        basis="use" if product.basis == "use" else "cover",
        classes=[
            TaxonomyClass(
                name=entry.name,
                title=entry.title,
                color_hint=entry.color_hint or _colour(entry.name),
                members=[],
                prompts=[entry.title],
            )
            for entry in entries
        ],
        verified=product.verified,
        sources=product.sources,
    )


def native_codes(product: LabelProduct) -> list[LabelClass]:
    """The codes of a legend that are classes of its native taxonomy."""
    return [e for e in product.classes if e.means and e.value != product.nodata]


@dataclass(frozen=True, slots=True, kw_only=True)
class Crosswalk:
    """What every code of one product is in one taxonomy."""

    taxonomy: Taxonomy
    product: str

    table: Mapping[int, int]
    """Code, nodata included, to class index; 255 where the code is no label."""

    prior: Mapping[int, int] = field(default_factory=dict)
    """Code to percent: the published chance that a pixel of this code is right, where there is
    one (user's accuracy of the declaration)."""

    nodata: int

    @classmethod
    def build(
        cls,
        taxonomy: Taxonomy | Literal["native"],
        products: Sequence[LabelProduct],
        ontology: Ontology | None = None,
        *,
        where: object = "recipe",
    ) -> Crosswalk:
        """The crosswalk of a subset.

        Args:
            taxonomy: Classes; "native": the legend of the only product.
            products: The products that make the label.
            ontology: Not needed for a native legend.
            where: File that asked, for the message.

        Raises:
            RecipeError: Not exactly one product, or a taxonomy without an ontology.
            LegendError: No code of the product is a class of the taxonomy.
        """
        if len(products) != 1:
            raise RecipeError(
                where, "labels", [p.name for p in products],
                "one label product",
                "Several are a consensus: see `harmonise.consensus`.",
            )  # fmt: skip
        product = products[0]
        prior = _priors(product)
        if isinstance(taxonomy, str):
            legend = native(product)
            found = {entry.value: i for i, entry in enumerate(native_codes(product))}
        elif ontology is None:
            raise RecipeError(where, "taxonomy", taxonomy.name, "an ontology to read it with")
        else:
            legend = taxonomy
            read = {e.value: read_code(e, product, taxonomy, ontology) for e in product.classes}
            found = {code: reading.index for code, reading in read.items()}
            prior.update(_weighed(read, prior))
        table = {entry.value: found.get(entry.value, IGNORE) for entry in product.classes}
        table[product.nodata] = IGNORE
        if all(index == IGNORE for index in table.values()):
            raise LegendError(
                product.name, "means", sorted(table), f"a code inside one class of {legend.name}",
                "Choose another taxonomy or `taxonomy: native`.",
            )  # fmt: skip
        return cls(
            taxonomy=legend, product=product.name, table=table, prior=prior,
            nodata=product.nodata,
        )  # fmt: skip

    @property
    def products(self) -> tuple[str, ...]:
        """Whose maps it is given."""
        return (self.product,)

    @property
    def arrays(self) -> tuple[str, ...]:
        """Of a round of the cube, what labels are read from."""
        return (f"labels/{self.product}",)

    def said(self) -> dict[str, dict[str, int]]:
        """What decides a label, for hashes."""
        return {
            "table": {str(k): v for k, v in self.table.items()},
            "prior": {str(k): v for k, v in self.prior.items()},
        }

    def harmonise(self, maps: Sequence[LabelMap]) -> Harmonised:
        """The classes of one patch; the only map is that of this crosswalk's product.

        Confidence is the published prior of the code where there is one, never more than that;
        pixels that are no label carry none.

        Raises:
            GridMismatchError: Not one map, or a map of another product.
            LegendError: The map holds a code that the legend does not list.
        """
        if [m.product for m in maps] != [self.product]:
            raise GridMismatchError(
                f"a crosswalk of {self.product} was given maps of {[m.product for m in maps]}"
            )
        codes = maps[0].codes
        classes, strange = look_up(codes, self.table)
        if strange:
            raise LegendError(
                f"{self.product} ({maps[0].version})", "code",
                np.unique(codes[classes == MISSING])[:8].tolist(),
                f"the codes {', '.join(map(str, sorted(self.table)))}",
                "Declare them in the product's legend, or check that this is the product.",
            )  # fmt: skip
        confidence, _ = look_up(codes, {
            code: NO_CONFIDENCE if index == IGNORE else self.prior.get(code, NO_CONFIDENCE)
            for code, index in self.table.items()
        })  # fmt: skip
        said = bool((confidence != NO_CONFIDENCE).any())
        return Harmonised(
            taxonomy=self.taxonomy.name,
            classes=classes,
            confidence=confidence,
            confidence_kind="prior" if said else None,
            voters=(codes != self.nodata).astype(np.uint8),
        )


def harmonise(
    maps: Sequence[LabelMap],
    taxonomy: Taxonomy | Literal["native"],
    products: Sequence[LabelProduct],
    ontology: Ontology | None = None,
) -> Harmonised:
    """One patch in the classes of a taxonomy; see `Crosswalk`, which does many with one table."""
    return Crosswalk.build(taxonomy, products, ontology).harmonise(maps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What becomes of one node of a code's `means` in a taxonomy of a basis."""

    node: str
    how: Literal["itself", "seen as", "like the head"]
    """itself: it counts as it is; seen as: as what can be seen there; like the head: as nothing,
    because the product states cover and that part of the class looks like its head."""

    nodes: tuple[str, ...]
    """What it counts as."""


def parts(
    entry: LabelClass, product: LabelProduct, basis: Literal["cover", "use"], ontology: Ontology
) -> list[Part]:
    """What every node of a code counts as, the head first.

    Use: every node as it is. Cover: a land-use node is replaced by what can be seen there (its
    `cover`), which the head of the code (its `node`, or the first of `means`) always is; another
    node adds nothing where the product states cover and the head is among what can be seen there,
    because that part of the class looks like the head.
    """
    if not entry.means:
        return []
    head = entry.node if entry.node in entry.means else entry.means[0]
    found = []
    for node in [head, *(n for n in entry.means if n != head)]:
        cover = ontology.cover_of(node) if basis == "cover" else None
        alike = cover is not None and _root(head) in map(_root, cover)
        if node != head and product.basis == "cover" and alike:
            found.append(Part(node=node, how="like the head", nodes=()))
        elif cover is not None:
            found.append(Part(node=node, how="seen as", nodes=tuple(cover)))
        else:
            found.append(Part(node=node, how="itself", nodes=(node,)))
    return found


def candidates(
    entry: LabelClass, product: LabelProduct, basis: Literal["cover", "use"], ontology: Ontology
) -> frozenset[str]:
    """The ontology leaves that a code can be, in a taxonomy of this basis; see `parts`."""
    found = parts(entry, product, basis, ontology)
    return _leaves(ontology, [node for part in found for node in part.nodes])


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one code is in one taxonomy, and between what it lies if it is nothing."""

    index: int
    """Of the class; 255: no label."""

    how: Literal["no label", "inside", "by name", "prior", "across", "outside"]
    """no label: the code states no cover or use; inside: all it can be is in the class; by name:
    the class names the concept itself, whatever can be seen there; prior: the class with the
    greatest weight; across: it can be several classes, or one and what is in none; outside: nothing
    it can be is in any class."""

    can_be: frozenset[str]
    """Ontology leaves."""

    between: tuple[int, ...]
    """Classes that share leaves with what it can be."""

    beyond: frozenset[str]
    """Leaves that it can be and that no class has."""

    share: float = 1.0
    """Of the weights, that of the class; below 1 with `prior` only."""


def read_code(
    entry: LabelClass, product: LabelProduct, taxonomy: Taxonomy, ontology: Ontology
) -> Reading:
    """Which class of a taxonomy a code is.

    A class that names a boundary concept itself (mangroves) means it, whatever can be seen there.
    """
    can_be = candidates(entry, product, taxonomy.basis, ontology)
    meant = candidates(entry, product, "use", ontology)
    owned = [_leaves(ontology, c.members) for c in taxonomy.classes]
    between = tuple(i for i, leaves in enumerate(owned) if leaves & can_be)
    beyond = can_be.difference(*owned)

    def reading(index: int, how: Any, share: float = 1.0) -> Reading:
        return Reading(
            index=index, how=how, can_be=can_be, between=between, beyond=beyond, share=share
        )

    if not can_be:
        return reading(IGNORE, "no label")
    for index, declared in enumerate(taxonomy.classes):
        named = [m for m in declared.members if ontology.cover_of(m) is not None]
        if meant <= _leaves(ontology, named):
            return reading(index, "by name")
    for index, leaves in enumerate(owned):
        if can_be <= leaves:
            return reading(index, "inside")
    if taxonomy.on_ambiguous == "prior" and entry.weights:
        best, share = _heaviest(entry.weights, owned, ontology)
        if best is not None:
            return reading(best, "prior", share)
    return reading(IGNORE, "across" if between else "outside")


def _heaviest(
    weights: Mapping[str, float], owned: Sequence[frozenset[str]], ontology: Ontology
) -> tuple[int | None, float]:
    """The class with the greatest weight and its share of all weights; None: a tie, or more weight
    lies in no class. A node that lies across classes counts for none of them.
    """
    total = math.fsum(weights.values())
    sums = []
    for leaves in owned:
        inside = [w for node, w in sorted(weights.items()) if ontology.below(node) <= leaves]
        sums.append(math.fsum(inside))
    rest = total - math.fsum(sums)
    best = max(range(len(sums)), key=lambda i: sums[i])
    if sums[best] <= max([rest, *sums[:best], *sums[best + 1 :]]):
        return None, 0.0
    return best, sums[best] / total


def check_told(
    taxonomy: Taxonomy, products: Sequence[LabelProduct], ontology: Ontology, *, where: object
) -> None:
    """Refuse classes that the products can never say.

    One product tells a class by a code that lies inside it. Several together also tell one where
    what their codes leave over lies inside it: "tree or crop" and "tree or grass" are trees.

    Args:
        taxonomy: Of the subset.
        products: That make its label.
        ontology: What both speak of.
        where: File that asked, for the message.

    Raises:
        LegendError: Names the classes, and which codes come near.
    """
    told = _told_together(taxonomy, products, ontology)
    near: dict[int, list[str]] = {}
    for product in products:
        for entry in product.classes:
            reading = read_code(entry, product, taxonomy, ontology)
            told.add(reading.index)
            if reading.how == "across":
                for index in reading.between:
                    near.setdefault(index, []).append(f"{product.name} {entry.value}")
    untold = [i for i in range(len(taxonomy.classes)) if i not in told]
    if not untold:
        return
    words = []
    for i in untold:
        close = near.get(i, [])
        also = f" (only among others: {', '.join(close[:4])})" if close else ""
        words.append(f"{taxonomy.classes[i].name}{also}")
    raise LegendError(
        where, "taxonomy", taxonomy.name,
        f"classes that {' or '.join(p.name for p in products)} can tell; not {', '.join(words)}",
        "Drop or merge them, add a product that tells them, or see `las explain PRODUCT "
        f"{taxonomy.name}`.",
    )  # fmt: skip


def _told_together(
    taxonomy: Taxonomy, products: Sequence[LabelProduct], ontology: Ontology
) -> set[int]:
    """Classes in which all leaves lie that some codes, one a product, have in common."""
    legends = []
    for product in products:
        entries = [entry for entry in product.classes if entry.value != product.nodata]
        seen = (
            candidates(entry, product, "use", ontology)
            | candidates(entry, product, taxonomy.basis, ontology)
            for entry in entries
        )
        legends.append({leaves for leaves in seen if leaves})
    told = set()
    for index, declared in enumerate(taxonomy.classes):
        owned = _leaves(ontology, declared.members)
        for leaf in sorted(owned):
            left: set[frozenset[str]] = {frozenset(ontology.leaves)}
            for legend in legends:
                said = [leaves for leaves in legend if leaf in leaves]
                # A product without a code for the leaf may be silent or wrong; it narrows nothing.
                left = {a & b for a in left for b in said} or left
            if any(rest <= owned for rest in left):
                told.add(index)
                break
    return told


def _priors(product: LabelProduct) -> dict[int, int]:
    """Published user's accuracy of each code, percent; rows read in a source come first."""
    priors: dict[int, int] = {}
    for row in sorted(product.accuracy, key=lambda row: not row.verified):
        if row.value is not None and row.users is not None:
            priors.setdefault(row.value, round(row.users))
    return priors


def _weighed(readings: Mapping[int, Reading], priors: Mapping[int, int]) -> dict[int, int]:
    """Priors of the codes that are labels by their weights: never surer than their share is."""
    return {
        code: round(priors.get(code, 100) * reading.share)
        for code, reading in readings.items()
        if reading.how == "prior"
    }


def _leaves(ontology: Ontology, nodes: Iterable[str]) -> frozenset[str]:
    return frozenset(leaf for node in nodes for leaf in ontology.below(node))


def _root(node: str) -> str:
    return node.split(".", 1)[0]


def _colour(name: str) -> str:
    """A colour for a class without one: always the same for the same name, never near black."""
    return "".join(f"{64 + (zlib.crc32(f'{name}{i}'.encode()) % 160):02X}" for i in range(3))
