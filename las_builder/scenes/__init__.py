"""Which scenes: searched, ranked, looked at over the patch, and pinned once."""

from las_builder.scenes.choose import MAX_TRIES, pin
from las_builder.scenes.seasons import Days, local_seasons
from las_builder.scenes.table import Outcome, Outline, PinnedRows, SceneTable, counts_in, join

__all__ = [
    "MAX_TRIES",
    "Days",
    "Outcome",
    "Outline",
    "PinnedRows",
    "SceneTable",
    "counts_in",
    "join",
    "local_seasons",
    "pin",
]
