"""A product as a voter: what it can say, and what it is expected to say of each atom.

Its expectation is the mean of the Dirichlet prior of the model:

    m[y, c] = a[y] R[y, c] + (1 - a[y]) W[y, c]

R[y] is how a product that is right speaks of atom y: with the codes that can mean it, a narrow
word rather than a broad one, and one that names it rather than one it is merely seen under. W[y] is how it speaks when it is wrong: with the other codes, in proportion to how often the product says
them at all. a[y] is the published accuracy: that of the codes of y where there is one, else that
of y's cover among maps of its kind, with the log-odds of all atoms moved alike so that the product
is right as often as its published overall accuracy says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from las_builder.catalogs import LabelProduct, Ontology, Taxonomy
from las_builder.harmonise.consensus.classes import Classes, meanings

Floats = NDArray[np.float64]

LEAST, MOST = 0.05, 0.99
"""Between which an accuracy is believed."""

SMOOTHED = 0.01
"""Of what a wrong product says: the part that is spread over all codes alike."""

SEEN = 0.1
"""What a code that an atom is merely seen under counts for against one that names it; assumed."""

UNKNOWN = 0.7
"""Accuracy of a product that publishes none, and whose classes have none either; assumed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Voter:
    """One product, its codes numbered."""

    product: str
    codes: NDArray[np.int64]
    """(code,) ascending: those that say something."""

    silent: NDArray[np.int64]
    """(any,) the other declared codes, nodata among them: no vote."""

    weight: Floats
    """(atom, code) what a code counts for as a word for an atom; 0: it cannot mean it."""

    published: Floats
    """(code,) published accuracy of a code, NaN where there is none."""

    overall: float
    """Published overall accuracy, NaN where there is none."""

    @classmethod
    def of(
        cls, product: LabelProduct, classes: Classes, taxonomy: Taxonomy, ontology: Ontology
    ) -> Voter:
        """A product that votes on these classes."""
        said = {
            entry.value: found
            for entry in product.classes
            if any(found := meanings(entry, product, taxonomy, ontology))
        }
        codes = np.array(sorted(said), np.int64)
        weight = np.zeros((len(classes.atoms), codes.size))
        for column, code in enumerate(sorted(said)):
            named, seen = said[code]
            for row, atom in enumerate(classes.atoms):
                weight[row, column] = len(atom & named) / max(1, len(named))
                weight[row, column] += SEEN * len(atom & (seen - named)) / max(1, len(seen))
        return cls(
            product=product.name,
            codes=codes,
            silent=np.array(sorted(product.codes - set(said)), np.int64),
            weight=weight,
            published=_published(product, codes),
            overall=overall if (overall := published_overall(product)) is not None else np.nan,
        )

    @property
    def can_be(self) -> NDArray[np.bool_]:
        """(atom, code) whether the code can mean the atom."""
        return self.weight > 0

    @property
    def right(self) -> Floats:
        """(atom, code) R; rows sum to 1, or to 0 where no code can mean the atom."""
        return np.asarray(self.weight / self.weight.sum(axis=1, keepdims=True).clip(1e-300))

    def shares(self, said: Floats) -> Floats:
        """(atom,) how common the atoms are by the product alone: what it says, (code,), shared by
        what the codes can mean; sums to 1.
        """
        each = self.weight / self.weight.sum(axis=0).clip(1e-300)
        return np.asarray((each * (said / max(float(said.sum()), 1e-300))).sum(axis=1))

    def votes(self, classes: int) -> Floats:
        """(atom, code) log-odds with which a code speaks for each of some classes, where the
        product errs alike between them; a code that can be several is shared between them.
        """
        overall = self.overall if np.isfinite(self.overall) else UNKNOWN
        sure = np.where(np.isfinite(self.published), self.published, overall).clip(LEAST, MOST)
        odds = np.log(sure * max(1, classes - 1) / (1 - sure)).clip(0)
        share = self.weight / self.weight.sum(axis=0, keepdims=True).clip(1e-300)
        return np.asarray(odds * share)

    def prior(self, said: Floats, covers: Floats) -> Floats:
        """The expected emissions m, (atom, code); rows sum to 1.

        Args:
            said: (code,) how often the product says each code, any scale.
            covers: (atom,) accuracy of its cover among maps of this kind; NaN: not published.
        """
        said = said / max(float(said.sum()), 1e-300)
        said = (1 - SMOOTHED) * said + SMOOTHED / said.size
        wrong = said * ~self.can_be
        wrong = np.where(wrong.sum(axis=1, keepdims=True) > 0, wrong, said)
        wrong /= wrong.sum(axis=1, keepdims=True)
        accuracy = self.accuracy(said, covers)[:, None]
        return np.asarray(accuracy * self.right + (1 - accuracy) * wrong)

    def accuracy(self, said: Floats, covers: Floats) -> Floats:
        """(atom,) a: the chance that the product is right where the atom is; 0 where no code of
        its can mean the atom.
        """
        right = self.right
        # How common the atoms are, by the product itself: a code is shared by what it can mean.
        share = (said * right / right.sum(axis=0).clip(1e-12)).sum(axis=1)
        share /= max(float(share.sum()), 1e-300)
        overall = self.overall if np.isfinite(self.overall) else UNKNOWN
        base = np.where(np.isfinite(covers), covers, overall).clip(LEAST, MOST)
        # A legend that puts two atoms into one code does not err when it takes one for the other.
        together = right @ self.can_be.T.astype(float)
        others = np.repeat(share[None, :], share.size, axis=0)
        np.fill_diagonal(others, 0.0)
        stays = (others * together).sum(axis=1) / others.sum(axis=1).clip(1e-12)
        base = (1 - (1 - base) * (1 - stays)).clip(LEAST, MOST)
        if np.isfinite(self.overall):
            base = _moved(base, share, self.overall)
        known = np.isfinite(self.published) * right
        figures = (known * np.nan_to_num(self.published)).sum(axis=1)
        # A figure of one code holds for the part of the atom that the code speaks of.
        mixed = figures + (1 - known.sum(axis=1)) * base
        return np.asarray(np.where(right.any(axis=1), mixed.clip(LEAST, MOST), 0.0))


def _moved(base: Floats, share: Floats, overall: float) -> Floats:
    """Accuracies with their log-odds moved alike, so that their mean over `share` is `overall`."""
    odds = np.log(base / (1 - base))
    low, high = -8.0, 8.0
    for _ in range(50):  # halves 16 down to 1e-14
        middle = (low + high) / 2
        if float((share / (1 + np.exp(-odds - middle))).sum()) < overall:
            low = middle
        else:
            high = middle
    return np.asarray(1 / (1 + np.exp(-odds - low)))


def _published(product: LabelProduct, codes: NDArray[np.int64]) -> Floats:
    """Producer's accuracy of each code, else user's; rows read in a source come first."""
    found: dict[int, float] = {}
    for row in sorted(product.accuracy, key=lambda row: not row.verified):
        figure = row.producers if row.producers is not None else row.users
        if row.value is not None and figure is not None:
            found.setdefault(row.value, figure / 100)
    return np.array([found.get(int(code), np.nan) for code in codes])


def published_overall(product: LabelProduct) -> float | None:
    """The first published overall accuracy, 0-1; rows read in a source come first."""
    rows = sorted(product.accuracy, key=lambda row: not row.verified)
    return next((row.overall / 100 for row in rows if row.overall is not None), None)


def covers_of(classes: Classes, published: Mapping[str, float]) -> Floats:
    """(atom,) accuracy of each atom's cover among maps: the mean over its leaves; NaN: none.

    Args:
        classes: Whose atoms.
        published: Cover at the top of the ontology to its accuracy, 0-1.
    """
    out = np.full(len(classes.atoms), np.nan)
    for y, leaves in enumerate(classes.atoms):
        tops = [leaf.split(".")[0] for leaf in sorted(leaves)]
        figures = [published[top] for top in tops if top in published]
        if figures:
            out[y] = sum(figures) / len(figures)
    return out
