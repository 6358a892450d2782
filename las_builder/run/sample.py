"""`las sample`: the plan of the whole corpus; it needs no pixels."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from las_builder import plan
from las_builder.catalogs import Strata
from las_builder.core.types import Site
from las_builder.core.workspace import ACCEPTED, EXTENDED, YEARS, Workspace, write_bytes, write_json
from las_builder.errors import LeakError, RecipeError
from las_builder.plan.footprints import Footprint, benchmark_footprints
from las_builder.recipe import EVERY, Corpus, Subset
from las_builder.run.engine import side_by_side
from las_builder.run.licences import accepted, consented
from las_builder.run.select import select


def sample(corpus: Corpus, space: Workspace) -> Sequence[Site]:
    """Draw the sites of every subset, divide them into splits, and write the plan.

    A plan that is there is read, not drawn again.

    Raises:
        RegionError: A region without land, or more sites than fit; nothing is written.
        WorkspaceError: Another recipe made the workspace; the disk is full or read-only.
        LeakError: Two sites of different splits are too near; nothing is written.
        LicenceError: A licence is not accepted, or two contradict each other.
    """
    space.verify(corpus.lock())
    consented(corpus, space)
    if space.plan.exists():
        return plan.read_plan(space.plan)
    strata = Strata.load(corpus.catalogs)
    # What needs no provider is drawn side by side, the rest one after the other.
    quick = [subset for subset in corpus.subsets if _offline(subset)]
    drawn = dict(
        zip(
            [subset.name for subset in quick],
            side_by_side(
                [functools.partial(_part, subset, strata) for subset in quick],
                [float(subset.recipe.sites.count) for subset in quick],
            ),
            strict=True,
        )
    )
    parts = [drawn.get(subset.name) or _part(subset, strata) for subset in corpus.subsets]
    joined = plan.SiteTable.join([table for table, _ in parts]).ordered()
    sites = joined.placed(plan.assign(joined, corpus.splits, _benchmarks(corpus)))
    space.verify(corpus.lock())
    _write(corpus, space, sites, [body for _, body in parts], strata)
    space.claim(corpus.lock(), accepted(corpus))
    return sites


def allocations(corpus: Corpus) -> str:
    """What every cell of every subset would get; nothing is written, nothing is drawn.

    Raises:
        RegionError: A region without land, or more sites than fit; says how many do.
    """
    strata = Strata.load(corpus.catalogs)
    parts = []
    for subset in corpus.subsets:
        known = draft(subset, strata)
        count = subset.recipe.sites.count
        some = f"{count:,}" if subset.imported is None or count < EVERY else "all"
        parts.append(
            f"{subset.name}: {some} sites where the catalogue has scenes"
            if known is None
            else known.allocation.table()
        )
    return "\n\n".join(parts)


def extend(corpus: Corpus, space: Workspace) -> Sequence[Site]:
    """Raise the counts of a plan: see `plan.extend`.

    Raises:
        RecipeError: Reserves do not hold so many; a count is lower than the plan's; sites that
            are selected by their labels. Nothing is written.
        WorkspaceError: No plan; or another recipe made it.
    """
    lock, old = corpus.lock(), space.locked()
    first: dict[str, int] = old.get(EXTENDED, {})
    had = {name: recipe["sites"]["count"] for name, recipe in old.get("subsets", {}).items()}
    counts = {subset.name: subset.recipe.sites.count for subset in corpus.subsets}
    for subset in corpus.subsets:
        if subset.name in had:
            lock["subsets"][subset.name]["sites"]["count"] = had[subset.name]
    space.verify(lock)  # the counts apart, it is the recipe that made the workspace
    before = plan.read_plan(space.plan)
    strata = Strata.load(corpus.catalogs)
    tables: list[plan.SiteTable] = []
    drafts: list[plan.Draft | None] = []
    for subset in corpus.subsets:
        name, asked = subset.name, subset.recipe.sites
        if subset.sites_of is not None:
            tables.append(renamed(next(t for t in tables if t.subset[0] == subset.sites_of), name))
            drafts.append(None)
            continue
        if subset.imported is not None:  # has all that there is, or is cut by its own recipe
            counts[name] = had[name]
            tables.append(before.of_subset(name))
            drafts.append(None)
            continue
        if asked.count < had[name]:
            raise RecipeError(
                subset.file, "sites.count", asked.count, f"at least {had[name]}, the plan's",
                "A plan is extended, never cut.",
            )  # fmt: skip
        if asked.select is not None and asked.count > had[name]:
            raise RecipeError(
                subset.file, "sites.count", asked.count, f"{had[name]}, the plan's",
                "Sites are selected by their labels, with chances that belong to this count.",
            )  # fmt: skip
        again = (
            subset if asked.select else _with(subset, asked.capacity or first.get(name, had[name]))
        )
        known, here = draft(again, strata), before.of_subset(name)
        drafts.append(known)
        if asked.count == had[name]:
            tables.append(here)
        elif known is not None:
            tables.append(plan.extend(known, here, subset.file))
        else:
            if asked.count > len(here):
                raise plan.too_many(subset.file, asked.count, len(here))
            tables.append(plan.same_places(draw(again, strata), here, subset.file))
    sites = plan.SiteTable.join(tables).ordered()
    bodies = [
        plan.chapter_html(_chapter(subset, known), sites)
        for subset, known in zip(corpus.subsets, drafts, strict=True)
    ]
    _write(corpus, space, sites, bodies, strata)
    for name, count in counts.items():
        lock["subsets"][name]["sites"]["count"] = count
    grown = {name: first.get(name, n) for name, n in had.items() if counts[name] > n}
    kept = {key: old[key] for key in (ACCEPTED, YEARS) if key in old}
    write_json(space.lock, {**lock, **kept, EXTENDED: {**first, **grown}})
    return sites


def another_period(corpus: Corpus, space: Workspace, base: str | None, period: str) -> Corpus:
    """Add a subset with the sites of another one and images of another period to a plan.

    Nothing happens if it is there already. Sites, splits and weights are those of the base.

    Args:
        corpus: As the workspace has it.
        space: With a plan.
        base: Subset that has the sites; None: the only one that was drawn.
        period: As in a recipe.

    Returns:
        The corpus with the new subset.

    Raises:
        UnknownNameError, RecipeError: As of `Corpus.in_period`.
    """
    new = corpus.in_period(base, period)
    name = new.sites_of
    assert name is not None
    if new.name in {subset.name for subset in corpus.subsets}:
        return corpus
    grown = dataclasses.replace(corpus, subsets=(*corpus.subsets, new))
    before = plan.read_plan(space.plan)
    table = before.of_subset(name)
    sites = plan.SiteTable.join([before, renamed(table, new.name)]).ordered()
    strata = Strata.load(corpus.catalogs)
    bodies = [plan.chapter_html(_chapter(subset), sites) for subset in grown.subsets]
    _write(grown, space, sites, bodies, strata)
    old = space.locked()
    kept = {key: old[key] for key in (ACCEPTED, EXTENDED) if key in old}
    years = {**old.get(YEARS, {}), new.name: {"of": name, "period": period}}
    write_json(space.lock, {**grown.lock(), **kept, YEARS: years})
    return grown


def renamed(table: plan.SiteTable, name: str) -> plan.SiteTable:
    """The same sites as those of another subset."""
    return dataclasses.replace(table, subset=np.full_like(table.subset, name, dtype=object))


def _benchmarks(corpus: Corpus) -> Sequence[Footprint]:
    return benchmark_footprints(corpus.splits, corpus.catalogs, where=corpus.file)


def _with(subset: Subset, drawn_for: int) -> Subset:
    """The subset, drawn for so many; its count may be higher, as far as reserves go."""
    sites = subset.recipe.sites.model_copy(update={"capacity": drawn_for})
    recipe = subset.recipe.model_copy(update={"sites": sites})
    return dataclasses.replace(subset, recipe=recipe)


def _offline(subset: Subset) -> bool:
    return subset.recipe.sites.region != "catalogue" and subset.recipe.sites.select is None


def _part(subset: Subset, strata: Strata) -> tuple[plan.SiteTable, str]:
    """The sites of a subset, without their split, and its chapter, which needs none.

    Both at once, because a draft of the globe is some 700 MB and is let go with it.
    """
    known = draft(subset, strata)
    table = _drawn(subset, known, strata).ordered()
    return table, plan.chapter_html(_chapter(subset, known), table)


def _chapter(subset: Subset, known: plan.Draft | None = None) -> plan.Chapter:
    return plan.Chapter(
        subset.name,
        f"{subset.imagery.title} with {', '.join(p.title for p in subset.labels)}.",
        subset.recipe.sites,
        known,
    )


def _write(
    corpus: Corpus, space: Workspace, sites: plan.SiteTable, bodies: Sequence[str], strata: Strata
) -> None:
    """Write what there is of a plan; the plan itself comes last.

    Raises:
        LeakError: Two sites of different splits are too near; nothing is written.
    """
    jobs: list[Callable[[], Any]] = [
        lambda: plan.draw_plan(sites, strata, title=corpus.name, synthetic=corpus.synthetic),
        lambda: plan.leaks(sites, corpus.splits, _benchmarks(corpus)),
        lambda: plan.plan_parquet(sites),
    ]
    picture, leaks, table = side_by_side(jobs)
    if leaks.violations:
        raise LeakError(leaks.verdict)
    write_json(space.leaks, leaks.as_json())
    write_bytes(space.leaks_page, plan.leaks_page(leaks, corpus.name).encode())
    write_bytes(space.plan_picture, picture)
    plan.write_splits(space.splits, sites, corpus.splits)
    plan.write_page(
        space.plan_page, title=corpus.name, description=corpus.description,
        synthetic=corpus.synthetic, sites=sites,
        chapters=[_chapter(subset) for subset in corpus.subsets], splits=corpus.splits,
        leaks=leaks, picture=space.plan_picture, bodies=bodies,
    )  # fmt: skip
    write_bytes(space.plan, table)


def draft(subset: Subset, strata: Strata) -> plan.Draft | None:
    """What `draw` will do; None where that depends on a catalogue's scenes.

    Of a selection in two phases it is the first: the candidates.
    """
    recipe = subset.recipe
    if recipe.sites.region == "catalogue":
        return None
    return plan.Draft.of(
        subset=subset.name,
        sites=recipe.sites if recipe.sites.select is None else plan.first_phase(recipe.sites),
        patch=recipe.patch,
        imagery=subset.imagery,
        products=subset.labels,
        strata=strata,
        where=subset.file,
    )


def draw(subset: Subset, strata: Strata) -> plan.SiteTable:
    """The sites of one subset, without their split.

    Raises:
        RegionError: A region without land, or more sites than fit.
        RecipeError: `region: catalogue` of a provider without a static catalogue; see `select`.
    """
    return _drawn(subset, draft(subset, strata), strata)


def _drawn(subset: Subset, known: plan.Draft | None, strata: Strata) -> plan.SiteTable:
    recipe = subset.recipe
    if recipe.sites.select is not None:
        return select(subset, known)
    if known is not None:
        return known.draw()
    if subset.imported is not None:
        return plan.from_tiles(
            subset=subset.name,
            tiles=subset.folder.tiles(),
            size=recipe.patch.size,
            count=recipe.sites.count,
            seed=recipe.sites.seed,
            kept=subset.imported[0].split == "publisher",
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
    table = plan.SiteTable.of(sites)
    lines = []
    for subset in corpus.subsets:
        here = table.of_subset(subset.name)
        primary = here.of_rows(here.primary)
        splits = {
            name: int((primary.split == name).sum())
            for name in ("train", "val", "test", "buffer", "benchmark")
        }
        shares = ", ".join(f"{n} {name}" for name, n in splits.items() if n)
        known = bool(np.isfinite(primary.weight_km2).all())
        area = f", standing for {primary.weight_km2.sum():,.0f} km2" if known else ""
        asked = subset.recipe.sites.count
        short = 0 if asked == EVERY else asked - len(primary)
        missing = f", {short} fewer than asked: their cells are short" if short > 0 else ""
        lines.append(
            f"{subset.name}: {len(primary)} sites ({shares}) and "
            f"{len(here) - len(primary)} reserves{area}{missing}"
        )
    return "\n".join(lines)
