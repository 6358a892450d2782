"""From counts of tuples to a consensus: checks, priors, strata from the root down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from las_builder.catalogs import LabelProduct, Ontology, Taxonomy
from las_builder.core.options import ConsensusOptions
from las_builder.errors import RecipeError
from las_builder.harmonise.consensus import dawid_skene
from las_builder.harmonise.consensus.classes import Classes
from las_builder.harmonise.consensus.dawid_skene import Parameters, Tuples
from las_builder.harmonise.consensus.evidence import Evidence, widened
from las_builder.harmonise.consensus.model import ROOT, Consensus, Table
from las_builder.harmonise.consensus.symbols import Ballot, spoken
from las_builder.harmonise.consensus.voters import Voter, covers_of
from las_builder.harmonise.lookup import MISSING

Floats = NDArray[np.float64]

FIRST = 10.0
"""What the prior of the classes counts for at the root, in sites."""

EVEN = 0.1
"""Of that prior, what all classes share alike; the rest goes by what products say. Assumed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Design:
    """What can be known before anything is counted."""

    options: ConsensusOptions
    taxonomy: Taxonomy
    products: tuple[LabelProduct, ...]
    classes: Classes
    voters: tuple[Voter, ...]
    ballots: tuple[Ballot, ...]
    covers: Floats
    """(atom,) published accuracy of its cover, NaN where there is none."""

    exponents: tuple[float, ...]
    where: str

    @classmethod
    def of(
        cls,
        options: ConsensusOptions,
        taxonomy: Taxonomy,
        products: Sequence[LabelProduct],
        ontology: Ontology,
        published: Mapping[str, float],
        *,
        where: object = "recipe",
    ) -> Design:
        """Check that these products can be brought together.

        Args:
            options: Of the recipe.
            taxonomy: Whose classes are decided between.
            products: All that vote.
            ontology: What codes and classes mean.
            published: Cover at the top of the ontology to the accuracy of maps of its kind, 0-1.
            where: File that asks, for the message.

        Raises:
            RecipeError: One product alone; a product that shares no class with any other; a group
                or evidence that names none of them; accuracies that contradict the legend.
        """
        names = [product.name for product in products]
        if len(products) < 2:
            raise RecipeError(
                where, "consensus.method", options.method, "with two products or more",
                f"{', '.join(names)} alone can only be taken at its word: leave `consensus` out.",
            )  # fmt: skip
        # A vote is between classes; the other methods know what a class is made of.
        cut = () if options.method == "vote" else products
        classes = Classes.of(taxonomy, cut, ontology)
        voters = tuple(Voter.of(p, classes, taxonomy, ontology) for p in products)
        _share_classes(voters, classes, where)
        for voter in voters:
            if voter.codes.size > MISSING - 1:
                raise RecipeError(
                    where, f"labels.{voter.product}", voter.codes.size,
                    f"at most {MISSING - 1} codes with `means`",
                )  # fmt: skip
        groups = groups_of(options, products, where)
        return cls(
            options=options,
            taxonomy=taxonomy,
            products=tuple(products),
            classes=classes,
            voters=voters,
            ballots=tuple(
                Ballot(
                    product=voter.product,
                    codes=voter.codes,
                    silent=voter.silent,
                    evidence=_evidence(options, product, ontology, where),
                )
                for voter, product in zip(voters, products, strict=True)
            ),
            covers=covers_of(classes, published),
            exponents=tuple(dawid_skene.exponents_of(names, groups).tolist()),
            where=str(where),
        )


def fit(design: Design, counts: Mapping[str, Tuples], about: Mapping[str, Any]) -> Consensus:
    """Fit a consensus.

    Args:
        design: What is known beforehand.
        counts: Of every stratum that has sites, like "Cfb/Europe".
        about: What else is to be said in the fitted file.
    """
    options = design.options
    strata = _rolled_up(counts)
    root = strata[ROOT]
    prior = _prior(design, root)
    if options.method == "vote":
        says = [np.repeat(v.votes(len(design.classes.names)), b.levels, axis=1)
                for v, b in zip(design.voters, design.ballots, strict=True)]  # fmt: skip
        even = np.zeros(len(design.classes.atoms))
        tables = {ROOT: Table.of(even, says, float(root.sites.sum()))}
        return _consensus(design, tables, about)
    learn = options.method == "dawid-skene"
    ones = np.ones(len(design.voters))
    fitted: dict[str, Parameters] = {}
    tables = {}
    for name in sorted(strata, key=lambda name: (name != ROOT, name.count("/"), name)):
        here = strata[name]
        sites = float(here.sites.sum())
        if name == ROOT:
            above, strength = prior, (FIRST, options.strength)
        elif sites < options.min_sites or _parent(name) not in fitted:
            continue
        else:
            above, strength = fitted[_parent(name)], (FIRST, options.strength)
        fitted[name], _ = dawid_skene.fit(here, above, strength, ones, learn=learn)
        tables[name] = Table.of(*fitted[name].logs(), sites)
    return _consensus(design, tables, about)


def _consensus(design: Design, tables: Mapping[str, Table], about: Mapping[str, Any]) -> Consensus:
    options = design.options
    return Consensus(
        taxonomy=design.taxonomy.name,
        method=options.method,
        classes=design.classes,
        ballots=design.ballots,
        exponents=tuple(round(t, 6) for t in design.exponents),
        tables=tables,
        about={
            "options": options.model_dump(mode="json"),
            "versions": {product.name: product.version for product in design.products},
            **about,
        },
    )


def _prior(design: Design, root: Tuples) -> Parameters:
    """What is expected of every product, in symbols."""
    sizes = [ballot.codes.size * ballot.levels for ballot in design.ballots]
    says, shares = [], []
    for voter, ballot, product, often in zip(
        design.voters, design.ballots, design.products,
        spoken(root.said, root.sites, sizes), strict=True,
    ):  # fmt: skip
        counts = often.reshape(ballot.codes.size, ballot.levels)
        expected = voter.prior(counts.sum(axis=1), design.covers)
        shares.append(voter.shares(counts.sum(axis=1)))
        if ballot.evidence:
            expected = widened(expected, counts, _states(ballot, voter, design.classes, product))
        says.append(expected)
    # What no product tells apart is divided as here: a mine looks bare, and most of what does is none.
    common = (1 - EVEN) * np.mean(shares, axis=0) + EVEN * design.classes.even()
    return Parameters(classes=common / common.sum(), says=tuple(says))


def _states(ballot: Ballot, voter: Voter, classes: Classes, product: LabelProduct) -> Floats:
    """(atom, code, level) of all evidence of a product together."""
    out = np.ones((*voter.weight.shape, 1))
    for one in ballot.evidence:
        more = one.states(voter, classes, product)
        out = (out[..., :, None] * more[..., None, :]).reshape(*voter.weight.shape, -1)
    return out


def _rolled_up(counts: Mapping[str, Tuples]) -> dict[str, Tuples]:
    """Counts of every stratum and of all above it."""
    parts: dict[str, list[Tuples]] = {ROOT: []}
    for name in sorted(counts):
        at = name
        while True:
            parts.setdefault(at, []).append(counts[name])
            if at == ROOT:
                break
            at = _parent(at)
    return {name: joined(found) for name, found in parts.items()}


def joined(parts: Sequence[Tuples]) -> Tuples:
    """Several counts as one; tuples ascending."""
    said = np.concatenate([part.said for part in parts])
    sites = np.concatenate([part.sites for part in parts])
    found, place = np.unique(said, axis=0, return_inverse=True)
    return Tuples(said=found, sites=np.bincount(place.ravel(), sites, len(found)).astype(float))


def _parent(name: str) -> str:
    return name.rpartition("/")[0]


def _share_classes(voters: Sequence[Voter], classes: Classes, where: object) -> None:
    """Every product has to share a class with another, or it can only be believed.

    Raises:
        RecipeError: Names a product that shares none.
    """
    words = np.stack([voter.can_be.any(axis=1).astype(np.float64) for voter in voters])
    can = np.asarray(classes.summed(words) > 0)[:, : classes.labels]
    for voter, own in zip(voters, can, strict=True):
        if not (own & (can.sum(axis=0) > 1)).any():
            theirs = [n for n, has in zip(classes.names, own, strict=False) if has]
            raise RecipeError(
                where, "labels", voter.product, "products that share classes with one another",
                f"It can only say {', '.join(theirs) or 'nothing'}, which no other of them says; "
                "move it to `compare` or choose another taxonomy.",
            )  # fmt: skip
        for code, figure in zip(voter.codes.tolist(), voter.published.tolist(), strict=True):
            if figure < 1 / voter.codes.size:
                raise RecipeError(
                    where, f"labels.{voter.product}.accuracy", {code: round(100 * figure, 1)},
                    f"an accuracy above chance, {100 / voter.codes.size:.1f} percent",
                    f"So rarely right, code {code} does not mean what its `means` says.",
                )  # fmt: skip


def groups_of(
    options: ConsensusOptions, products: Sequence[LabelProduct], where: object
) -> list[tuple[tuple[str, ...], float]]:
    """Products that do not err independently, as the recipe says it or as they declare.

    Raises:
        RecipeError: A group names what is no product of the consensus.
    """
    names = [product.name for product in products]
    if options.groups is None:
        lineages = sorted({p.lineage for p in products if p.lineage is not None})
        return [
            (tuple(p.name for p in products if p.lineage == one), options.rho) for one in lineages
        ]
    for i, group in enumerate(options.groups):
        for name in group.products:
            if name not in names:
                raise RecipeError(
                    where, f"consensus.groups.{i}.products", name, f"of {', '.join(names)}"
                )
    return [(tuple(group.products), group.rho) for group in options.groups]


def _evidence(
    options: ConsensusOptions, product: LabelProduct, ontology: Ontology, where: object
) -> tuple[Evidence, ...]:
    """What of the recipe's evidence is this product's."""
    found = []
    for i, asked in enumerate(options.evidence):
        if asked.product != product.name:
            continue
        key = f"consensus.evidence.{i}"
        layer = asked.layer
        if layer in ("share", "stability"):
            found.append(Evidence(kind="share" if layer == "share" else "stability"))
        elif layer == "probabilities":
            names = {entry.name for entry in product.classes if entry.means}
            layers = tuple(name for name in product.evidence if name in names)
            if len(layers) < 2:
                raise RecipeError(
                    where, f"{key}.layer", layer, f"of a product that gives them; {product.name} "
                    f"gives {', '.join(product.evidence) or 'no layers'}",
                )  # fmt: skip
            found.append(Evidence(kind="probabilities", layers=layers))
        elif layer not in product.evidence:
            known = ["share", "stability", "probabilities", *product.evidence]
            raise RecipeError(where, f"{key}.layer", layer, f"one of {', '.join(known)}")
        elif asked.node is None or asked.node not in ontology.by_id:
            raise RecipeError(
                where, f"{key}.node", asked.node, "the ontology node that the layer is a share of"
            )
        else:
            found.append(Evidence(kind="fraction", layers=(layer,), node=asked.node))
    return tuple(found)
