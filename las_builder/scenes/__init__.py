"""Which scenes: searched, ranked, looked at over the patch, and pinned once."""

from las_builder.scenes.choose import MAX_TRIES, pin
from las_builder.scenes.table import Outcome, SceneTable

__all__ = ["MAX_TRIES", "Outcome", "SceneTable", "pin"]
