"""`las publish`: the catalogue, from what the shards say of themselves."""

from __future__ import annotations

import json

from las_builder.core.workspace import Workspace
from las_builder.pack import SortedShards
from las_builder.publish import CorpusInfo
from las_builder.publish import publish as write_catalog
from las_builder.recipe import Corpus
from las_builder.run.pack import subset_info


def publish(corpus: Corpus, space: Workspace, *, items: bool = False) -> str:
    """Describe the packed corpus in STAC.

    Returns:
        A line: the collection and its items.

    Raises:
        WorkspaceError: The disk is full or read-only; the index is not of these shards.
    """
    info = CorpusInfo(
        name=corpus.name,
        description=corpus.description,
        subsets=tuple(subset_info(subset) for subset in corpus.subsets),
        manifest=json.loads(space.manifest.read_text()),
        synthetic=corpus.synthetic,
    )
    shards = SortedShards(space.shards, space.index)
    count = write_catalog(space.catalog, info, shards.records(), write_items=items)
    return f"{space.catalog / 'catalog.json'}: {count} items"
