"""`las publish`: the catalogue, from what the shards say of themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from las_builder.core.workspace import Workspace, write_bytes
from las_builder.errors import InputError, LicenceError
from las_builder.pack import SortedShards, contact_sheet, open_shards
from las_builder.publish import CorpusInfo, write_cards
from las_builder.publish import publish as write_catalog
from las_builder.publish.push import push as send
from las_builder.recipe import Corpus
from las_builder.run.pack import subset_info
from las_builder.run.versions import read_weights

PICTURE, MAP = "catalog/preview.png", "catalog/sites.png"


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
    now = read_weights(space)
    records = (replace(r, weight_km2=now[r.subset, r.site]) if now else r for r in shards.records())
    count = write_catalog(space.catalog, info, records, write_items=items)
    first: dict[tuple[str, str], str] = {}
    for shard in manifest["shards"]:
        first.setdefault((shard["subset"], shard["split"]), shard["name"])
    some = open_shards(space.shards, space.index, first.values())
    contact_sheet(space.root / PICTURE, None, some, manifest, title=corpus.name, patches=6)
    pictures = {PICTURE: "Some patches of each subset with their labels"}
    if space.plan_picture.exists():
        write_bytes(space.root / MAP, space.plan_picture.read_bytes())
        pictures = {MAP: "Where the sites were drawn, reserves included", **pictures}
    write_cards(space.root, info, pictures)
    return f"{space.catalog / 'catalog.json'}: {count} items"


def push(space: Workspace, url: str, *, synthetic: bool, told: Callable[[str], None]) -> str:
    """Send a published corpus to a folder or URL.

    Args:
        space: Published.
        url: See `publish.push`.
        synthetic: Whether the user knows that pixels are made up.
        told: Is told each file that is sent.

    Returns:
        A line: where, and how many files were sent.

    Raises:
        LicenceError: Something in it must not be passed on.
        InputError: Pixels are made up, and nobody has said that they may be sent away.
        StageError: The target refused.
    """
    manifest = json.loads(space.manifest.read_text())
    if "://" in url and not url.startswith(("file://", "memory://")):
        if not manifest["license"]["redistribution"]:
            raise LicenceError(
                space.manifest, "license", ", ".join(manifest["license"]["because"]),
                "what may be passed on", "Keep it, or leave that out.",
            )  # fmt: skip
        if manifest["synthetic"] and not synthetic:
            raise InputError(
                space.manifest, "synthetic", True, "measured pixels",
                "Say --synthetic if others may have a corpus that is made up.",
            )  # fmt: skip
    sent, kept = send(space.root, url, told=told)
    return f"{url}: {sent} files sent, {kept} were there"
