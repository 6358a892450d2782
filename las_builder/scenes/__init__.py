"""Which scenes: searched, ranked, looked at over the patch, and pinned once."""

from las_builder.scenes.choose import MAX_TRIES, pin
from las_builder.scenes.table import Outcome, PinnedRows, SceneTable

__all__ = ["MAX_TRIES", "Outcome", "PinnedRows", "SceneTable", "pin"]
