"""`las extend`: more sites, or another year of the same ones, after what is packed."""

from __future__ import annotations

from las_builder.core.workspace import Workspace
from las_builder.recipe import Corpus
from las_builder.run.build import build
from las_builder.run.engine import Engine
from las_builder.run.sample import another_period
from las_builder.run.sample import extend as extend_plan
from las_builder.run.versions import freeze


def extend(
    corpus: Corpus, space: Workspace, engine: Engine, *, more: bool, period: str | None,
    subset: str | None, give_up: bool = False, items: bool = False,
) -> str:  # fmt: skip
    """Extend a corpus and build what is new; shards that are there stay as they are.

    Args:
        corpus: With the counts that are wanted.
        space: With a plan.
        engine: To work with.
        more: Whether counts are raised.
        period: Days of another year of the same sites, as in a recipe; None: none.
        subset: That has the sites; None: the only one.
        give_up: See `build`.
        items: See `build`.

    Returns:
        The closing report.

    Raises:
        RecipeError: Reserves do not hold so many sites; no such subset; products that do not speak
            of the period.
        WorkspaceError: Labels are made otherwise than in the shards that are there.
    """
    if period is not None:
        corpus.in_period(subset, period)  # refused before all else
    freeze(corpus, space)
    if more:
        extend_plan(corpus, space)
    if period is not None:
        corpus = another_period(corpus, space, subset, period)
    return build(corpus, space, engine, give_up=give_up, items=items)
