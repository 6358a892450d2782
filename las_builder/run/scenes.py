"""`las scenes`: the next round of pinned scenes of every subset that still wants sites."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from las_builder.access import Access, settle
from las_builder.catalogs import Imagery, LabelProduct
from las_builder.core.options import Dates, Patch
from las_builder.core.types import Site
from las_builder.core.workspace import SubsetSpace, Workspace
from las_builder.errors import LasError, StageError
from las_builder.recipe import Corpus, Subset
from las_builder.run.engine import Engine
from las_builder.run.rounds import standing
from las_builder.scenes import Days, Outline, SceneTable, join, local_seasons, pin

SITES_PER_SEARCH = 32
"""Sites of one search request: neighbours, so that a provider can answer from few pages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchJob:
    """The sites of one request, and where its part of the table goes."""

    access: Access
    imagery: Imagery
    sites: tuple[Site, ...]
    dates: Dates
    patch: Patch
    bands: tuple[str, ...]
    """Those that will be read: size and ETag of their files are pinned too."""

    labels: tuple[LabelProduct, ...]
    """Products without which a patch is a gap."""

    compare: tuple[LabelProduct, ...]
    """The others."""

    seasons: tuple[Days | None, ...]
    """Of each site, for `choose: phenology`."""

    part: Path


def search_part(job: SearchJob) -> None:
    """Pin the scenes of some neighbours and write them as a part; done if the part is there."""
    if job.part.exists():
        return
    outcomes = pin(
        job.access, job.imagery, job.sites, dates=job.dates, patch=job.patch, bands=job.bands,
        labels=job.labels, compare=job.compare, seasons=job.seasons,
    )  # fmt: skip
    settle(job.access)
    SceneTable(tuple(outcomes)).write(job.part)


def scenes(corpus: Corpus, sites: Sequence[Site], space: Workspace, engine: Engine) -> bool:
    """Pin one more round of scenes in every subset that wants one.

    Returns:
        Whether any subset got a new round.

    Raises:
        StageError: The provider failed for some sites; running it again asks only for those.
        InputError: What the provider holds is broken.
    """
    new = [
        _next_round(subset, [s for s in sites if s.subset == subset.name], space, engine)
        for subset in corpus.subsets
    ]
    return any(new)


def _next_round(subset: Subset, sites: list[Site], space: Workspace, engine: Engine) -> bool:
    home = space.subset(subset.name)
    for done in home.rounds():  # a run may have been killed before it swept its pieces away
        shutil.rmtree(home.scene_parts(done), ignore_errors=True)
    now = standing(sites, home, subset.layout)
    if now.undone or not now.open():
        return False
    number = now.rounds
    wanted, spare = now.wanted(), now.spare()
    taken: list[Site] = []
    parts: list[Path] = []
    wave = 0
    while batch := [s for cell, n in wanted.items() for s in _take(spare.get(cell, []), n)]:
        found = _search(subset, home, number, wave, batch, engine)
        parts += found
        taken += batch
        gaps = {site for part in found for site in Outline.read(part).gaps}
        for site in batch:
            wanted[site.cell] -= site.id not in gaps
        wave += 1
    order = [site.id for site in sorted(taken, key=lambda s: (s.block, s.id))]
    join(parts, order, home.scenes(number))
    shutil.rmtree(home.scene_parts(number), ignore_errors=True)
    return True


def _take(spare: list[Site], n: int) -> list[Site]:
    head, spare[:] = spare[:n], spare[n:]
    return head


def _search(
    subset: Subset, home: SubsetSpace, number: int, wave: int, batch: list[Site], engine: Engine
) -> list[Path]:
    near = sorted(batch, key=lambda s: (s.block, s.id))
    folder = home.scene_parts(number)
    chunks = {
        folder / f"{wave}-{i:05d}.parquet": near[start : start + SITES_PER_SEARCH]
        for i, start in enumerate(range(0, len(near), SITES_PER_SEARCH))
    }
    failed: list[LasError] = []
    for _, result in engine.each(
        search_part,
        [part for part in chunks if not part.exists()],
        prepare=partial(_job, subset, chunks),
        title=f"{subset.name} scenes r{number}",
        unit="sites",
        size=lambda part: len(chunks[part]),
    ):
        if isinstance(result, LasError):
            failed.append(result)
    if failed:
        raise StageError(
            f"{subset.name}: {len(failed)} searches failed, the first: {failed[0]}; "
            "the same command asks only for those again"
        )
    return list(chunks)


def _job(subset: Subset, chunks: dict[Path, list[Site]], part: Path) -> SearchJob:
    return SearchJob(
        access=subset.access,
        imagery=subset.imagery,
        sites=tuple(chunks[part]),
        dates=subset.recipe.dates,
        patch=subset.recipe.patch,
        bands=subset.bands,
        labels=tuple(p for p in subset.layout.products if p.name in subset.required),
        compare=tuple(p for p in subset.layout.products if p.name not in subset.required),
        seasons=tuple(
            local_seasons(chunks[part], subset.catalogs)
            if subset.recipe.dates.choose == "phenology"
            else ()
        ),
        part=part,
    )
