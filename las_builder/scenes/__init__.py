"""Which scenes: searched, ranked, looked at over the patch, and pinned once."""

from las_builder.scenes.choose import MAX_TRIES, pin
from las_builder.scenes.table import Outcome, Outline, PinnedRows, SceneTable, join

__all__ = ["MAX_TRIES", "Outcome", "Outline", "PinnedRows", "SceneTable", "join", "pin"]
