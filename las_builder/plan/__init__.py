"""Where the samples are: regions, draws with known densities, splits that do not leak."""

from las_builder.plan.allocation import Allocation
from las_builder.plan.estimate import FEW, Z95, Ratios, Sample, ratios
from las_builder.plan.extension import extend, same_places, too_many
from las_builder.plan.page import Chapter, chapter_html, write_page
from las_builder.plan.picture import draw_plan
from las_builder.plan.published import from_tiles
from las_builder.plan.regions import Region, resolve
from las_builder.plan.sampling import Draft, covered, draw, from_catalogue
from las_builder.plan.selection import first_phase, second_phase, unweighted
from las_builder.plan.splits import Blocks, Leaks, assign, leaks, leaks_page, split_of
from las_builder.plan.table import SiteTable, plan_parquet, read_plan, write_plan, write_splits
from las_builder.plan.weights import Weights, final_weights

__all__ = [
    "FEW",
    "Z95",
    "Allocation",
    "Blocks",
    "Chapter",
    "Draft",
    "Leaks",
    "Ratios",
    "Region",
    "Sample",
    "SiteTable",
    "Weights",
    "assign",
    "chapter_html",
    "covered",
    "draw",
    "draw_plan",
    "extend",
    "final_weights",
    "first_phase",
    "from_catalogue",
    "from_tiles",
    "leaks",
    "leaks_page",
    "plan_parquet",
    "ratios",
    "read_plan",
    "resolve",
    "same_places",
    "second_phase",
    "split_of",
    "too_many",
    "unweighted",
    "write_page",
    "write_plan",
    "write_splits",
]
