"""`las build`: sample to publish; what is done is skipped."""

from __future__ import annotations

from las_builder.core.workspace import Workspace
from las_builder.recipe import Corpus
from las_builder.run.check import report
from las_builder.run.engine import Engine
from las_builder.run.fetch import fetch
from las_builder.run.pack import pack
from las_builder.run.publish import publish
from las_builder.run.sample import sample, summary
from las_builder.run.scenes import scenes
from las_builder.run.searched import searched


def build(
    corpus: Corpus, space: Workspace, engine: Engine, *, give_up: bool = False, items: bool = False
) -> str:
    """Everything a recipe asks for.

    Rounds of scenes and fetch follow each other until every primary is stored or the reserves of
    its cell have ended.

    Returns:
        The closing report.

    Raises:
        InputError: What the recipe or a provider holds is broken.
        StageError: A provider failed; the same command retries only that.
    """
    for subset in corpus.subsets:
        _ = subset.access  # asked now: a provider that cannot serve is known before the plan
    sites = sample(corpus, space)
    fetch(corpus, space, engine, give_up=give_up)
    while scenes(corpus, sites, space, engine):
        fetch(corpus, space, engine, give_up=give_up)
    lines = [summary(corpus, sites), searched(corpus, sites, space), report(corpus, space)]
    lines += [pack(corpus, space, engine), publish(corpus, space, items=items)]
    return "\n".join(lines)
