"""Where the samples are: regions, draws with known densities, splits that do not leak."""

from las_builder.plan.picture import draw_plan
from las_builder.plan.regions import Region, resolve
from las_builder.plan.sampling import draw, from_catalogue
from las_builder.plan.splits import Blocks, Leaks, assign, leaks, split_of
from las_builder.plan.table import read_plan, write_plan, write_splits

__all__ = [
    "Blocks",
    "Leaks",
    "Region",
    "assign",
    "draw",
    "draw_plan",
    "from_catalogue",
    "leaks",
    "read_plan",
    "resolve",
    "split_of",
    "write_plan",
    "write_splits",
]
