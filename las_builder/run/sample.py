"""`las sample`: the plan of the whole corpus; it needs no pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from las_builder import plan
from las_builder.catalogs import Strata
from las_builder.core.types import Site
from las_builder.core.workspace import Workspace, write_json
from las_builder.errors import LeakError, RecipeError
from las_builder.recipe import Corpus, Subset


def sample(corpus: Corpus, space: Workspace) -> Sequence[Site]:
    """Draw the sites of every subset, divide them into splits, and write the plan.

    A plan that is there is read, not drawn again.

    Raises:
        RegionError: A region without land, or more sites than fit; nothing is written.
        WorkspaceError: Another recipe made the workspace; the disk is full or read-only.
        LeakError: Two sites of different splits are too near; nothing is written.
    """
    space.verify(corpus.lock())
    if space.plan.exists():
        return plan.read_plan(space.plan)
    strata = Strata.load(corpus.catalogs)
    drawn = plan.SiteTable.join([draw(subset, strata) for subset in corpus.subsets])
    sites = drawn.placed(plan.assign(drawn, corpus.splits))
    leaks = plan.leaks(sites, corpus.splits)
    if leaks.violations:
        raise LeakError(
            f"{leaks.violations} pairs of sites of different splits are nearer than "
            f"{corpus.splits.buffer_km} km (the nearest {leaks.nearest_km:.3f} km)"
        )
    space.claim(corpus.lock())
    write_json(space.leaks, leaks.as_json())
    plan.write_splits(space.splits, sites, corpus.splits)
    plan.draw_plan(space.plan_picture, sites, strata, title=corpus.name, synthetic=corpus.synthetic)
    plan.write_plan(space.plan, sites)
    return sites


def draw(subset: Subset, strata: Strata) -> plan.SiteTable:
    """The sites of one subset, without their split.

    Raises:
        RegionError: A region without land, or more sites than fit.
        RecipeError: `region: catalogue` of a provider without a static catalogue.
    """
    recipe = subset.recipe
    if recipe.sites.region != "catalogue":
        return plan.draw(
            subset=subset.name,
            sites=recipe.sites,
            patch=recipe.patch,
            imagery=subset.imagery,
            products=subset.labels,
            strata=strata,
            where=subset.file,
        )
    found = subset.access.sites(subset.imagery, subset.labels)
    if found is None:
        raise RecipeError(
            subset.file, "sites.region", "catalogue",
            f"a region: {subset.access.name} has scenes everywhere",
        )  # fmt: skip
    return plan.from_catalogue(
        subset=subset.name,
        sites=recipe.sites,
        patch=recipe.patch,
        imagery=subset.imagery,
        scenes=found,
        strata=strata,
        where=subset.file,
    )


def summary(corpus: Corpus, sites: Sequence[Site]) -> str:
    """A few lines on a plan: counts, splits as realised, area."""
    lines = []
    for subset in corpus.subsets:
        here = [s for s in sites if s.subset == subset.name]
        primary = [s for s in here if s.primary]
        splits = {
            name: sum(s.split == name for s in primary)
            for name in ("train", "val", "test", "buffer", "benchmark")
        }
        shares = ", ".join(f"{n} {name}" for name, n in splits.items() if n)
        weights = [s.weight_km2 for s in primary if s.weight_km2 is not None]
        area = f", standing for {np.sum(weights):,.0f} km2" if len(weights) == len(primary) else ""
        lines.append(
            f"{subset.name}: {len(primary)} sites ({shares}) and "
            f"{len(here) - len(primary)} reserves{area}"
        )
    return "\n".join(lines)
