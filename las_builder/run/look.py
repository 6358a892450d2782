"""`las look`: a contact sheet of a workspace, from its shards alone."""

from __future__ import annotations

import json
from pathlib import Path

from las_builder.core.workspace import Workspace
from las_builder.pack import contact_sheet, open_shards


def look(space: Workspace, patches: int) -> tuple[Path, Path]:
    """Write `look.png` and `look.html` into a workspace; needs no recipe.

    Raises:
        WorkspaceError: The disk is full or read-only; the index is not of these shards.
    """
    png, html = space.root / "look.png", space.root / "look.html"
    contact_sheet(
        png,
        html,
        open_shards(space.shards, space.index),
        json.loads(space.manifest.read_text()),
        title=space.root.resolve().name,
        patches=patches,
    )
    return png, html
