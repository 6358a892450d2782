"""What may be built, and what of it passed on: asked before anything is written."""

from __future__ import annotations

from las_builder.core.licence import CorpusLicence
from las_builder.core.workspace import Workspace
from las_builder.errors import LicenceError
from las_builder.recipe import Corpus


def consented(corpus: Corpus, space: Workspace) -> CorpusLicence:
    """The licence of the corpus, once everything in it is accepted.

    What was accepted when the plan was made is in the workspace's `recipe.json`.

    Raises:
        LicenceError: Ingredients contradict each other; or one is non-commercial, restricted or
            of unknown terms and the user has not accepted it.
    """
    licence = corpus.licence()
    asked = {p.consent: p for s in corpus.subsets for p in s.ingredients if p.consent}
    missing = {name: asked[name] for name in sorted(set(asked) - corpus.accepted - space.accepted)}
    if missing:
        found = ", ".join(
            f"{name}: {part.licence.id}" + ("" if part.licence.known else " (terms unknown)")
            for name, part in missing.items()
        )
        options = " ".join(f"--accept-licence {name}" for name in missing)
        raise LicenceError(
            corpus.file, "licences", found, "licences that let anybody use and pass on the corpus",
            f"If you may use them, say so: {options}.",
        )  # fmt: skip
    return licence


def accepted(corpus: Corpus) -> frozenset[str]:
    """Of what the user accepts, what this corpus asks for."""
    asked = {part.consent for subset in corpus.subsets for part in subset.ingredients}
    return frozenset(corpus.accepted & asked)
