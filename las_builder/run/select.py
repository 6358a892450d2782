"""The second phase of a selection: what classes the labels of candidates hold."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from las_builder import plan
from las_builder.access import LabelRequest
from las_builder.core.grid import Grid
from las_builder.core.types import IGNORE, LabelSource, Scene
from las_builder.errors import RecipeError
from las_builder.harmonise import Crosswalk, regrid
from las_builder.harmonise.consensus import Design
from las_builder.plan.target import Floats
from las_builder.recipe import Subset

_AT_ONCE = 64  # candidates of a request
_SIDE = 33  # pixels along a side of a candidate's grid, about: composition needs no more


def select(subset: Subset, candidates: plan.Draft | None) -> plan.SiteTable:
    """Draw candidates, look at their labels, and choose sites with known chances.

    Args:
        subset: With `sites.select`.
        candidates: The first phase: see `plan.first_phase`; None for `region: catalogue`.

    Raises:
        RecipeError: A product that goes with the scene, which is not known yet; several label
            products; `region: catalogue`; a class that is not in the taxonomy.
        AccessError: The provider failed.
    """
    sites = subset.recipe.sites
    product = subset.labels[0]
    if product.epoch.rule == "same-scene":
        raise RecipeError(
            subset.file, "sites.select", product.name,
            "a label product that is known before the scene: its epoch is fixed or the image's year",
        )  # fmt: skip
    if isinstance(subset.crosswalk, Design) or candidates is None:
        raise RecipeError(
            subset.file,
            "sites.select",
            "on",
            "one label product, and a region that is no catalogue",
        )
    drawn = candidates.draw()
    first = drawn.of_rows(drawn.primary)
    names = [entry.name for entry in subset.crosswalk.taxonomy.classes]
    shares = class_shares(subset, first, subset.crosswalk, len(names))
    return plan.second_phase(first, shares, names, sites, subset.file)


def class_shares(
    subset: Subset, candidates: plan.SiteTable, crosswalk: Crosswalk, classes: int
) -> Floats:
    """Shares of the classes in the labelled part of each patch, (candidates, classes)."""
    product = subset.labels[0]
    start = subset.recipe.dates.period.start
    when = datetime(start.year, start.month, start.day, tzinfo=UTC)
    shares = np.zeros((len(candidates), classes))
    for first in range(0, len(candidates), _AT_ONCE):
        rows = range(first, min(first + _AT_ONCE, len(candidates)))
        grids = [_coarse(candidates.grids.grid(i)) for i in rows]
        requests = [
            LabelRequest(
                site=candidates.id[i],
                grid=grid,
                scene=Scene(id="", datetime=when, cloud_cover=None, grid=grid, assets={}),
            )
            for i, grid in zip(rows, grids, strict=True)
        ]
        found = subset.access.labels(product, requests)
        for i, grid, source in zip(rows, grids, found, strict=True):
            if not isinstance(source, LabelSource):
                continue
            label = crosswalk.harmonise(
                [regrid(source, grid, nodata=product.nodata, dtype=product.dtype)]
            )
            counts = np.bincount(label.classes[label.classes != IGNORE], minlength=classes)
            if counts.any():
                shares[i] = counts / counts.sum()
    return shares


def _coarse(grid: Grid) -> Grid:
    """The same ground in few pixels."""
    times = max(1, min(grid.shape) // _SIDE)
    while grid.width % times or grid.height % times:
        times -= 1
    t = grid.transform
    place = type(t)(t.a * times, 0.0, t.c, 0.0, t.e * times, t.f)
    return Grid(grid.crs, place, grid.width // times, grid.height // times)
