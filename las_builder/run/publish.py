"""`las publish`: the catalogue, from what the shards say of themselves."""

from __future__ import annotations

import json

from las_builder.core.workspace import Workspace
from las_builder.pack import SortedShards, contact_sheet, open_shards
from las_builder.publish import CorpusInfo, write_cards
from las_builder.publish import publish as write_catalog
from las_builder.recipe import Corpus
from las_builder.run.pack import subset_info

PICTURE = "catalog/preview.png"


def publish(corpus: Corpus, space: Workspace, *, items: bool = False) -> str:
    """Describe the packed corpus: STAC catalogue, Croissant, dataset card with a picture.

    Returns:
        A line: the catalogue and its items.

    Raises:
        WorkspaceError: The disk is full or read-only; the index is not of these shards.
    """
    manifest = json.loads(space.manifest.read_text())
    info = CorpusInfo(
        name=corpus.name,
        description=corpus.description,
        subsets=tuple(subset_info(subset) for subset in corpus.subsets),
        manifest=manifest,
        synthetic=corpus.synthetic,
    )
    shards = SortedShards(space.shards, space.index)
    count = write_catalog(space.catalog, info, shards.records(), write_items=items)
    first: dict[tuple[str, str], str] = {}
    for shard in manifest["shards"]:
        first.setdefault((shard["subset"], shard["split"]), shard["name"])
    some = open_shards(space.shards, space.index, first.values())
    contact_sheet(space.root / PICTURE, None, some, manifest, title=corpus.name, patches=6)
    write_cards(space.root, info, {PICTURE: "Some patches of each subset with their labels"})
    return f"{space.catalog / 'catalog.json'}: {count} items"
