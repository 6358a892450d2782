"""`las fetch`: every block that has no manifest yet, of every round whose scenes are pinned."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from las_builder.core.report import Tally
from las_builder.core.types import Block
from las_builder.core.workspace import Workspace, write_json
from las_builder.errors import LasError, StageError
from las_builder.fetch import FetchJob, blocks_of, create_round, fetch_block
from las_builder.recipe import Corpus, Subset
from las_builder.run.engine import Engine
from las_builder.scenes import PinnedRows


@dataclass(frozen=True, slots=True)
class _Round:
    """One round of one subset: what a job is prepared from."""

    subset: Subset
    rows: PinnedRows


def fetch(corpus: Corpus, space: Workspace, engine: Engine, *, give_up: bool = False) -> Tally:
    """Fetch what is not fetched yet.

    Args:
        corpus: Checked.
        space: With pinned scenes.
        engine: Runs the blocks.
        give_up: Record sites that fail as failed, so that their block counts as done.

    Returns:
        Rows (not sites) of the blocks that this call fetched, by how they ended.

    Raises:
        StageError: Blocks failed; `logs/failures.json` says which, and the same command retries
            only those.
        InputError: What a provider holds is broken; the block at fault is not written.
    """
    todo: dict[tuple[str, Block], _Round] = {}
    for subset in corpus.subsets:
        home, layout = space.subset(subset.name), subset.layout
        for number in home.rounds():
            rows = PinnedRows(home.scenes(number))
            if not len(rows):
                continue
            create_round(home.cube / str(number), rows, layout)
            for block in blocks_of(number, len(rows), layout):
                if not home.block(block.name).exists():
                    todo[subset.name, block] = _Round(subset, rows)
    tally, failures = Tally(), {}
    for (name, block), result in engine.each(
        fetch_block,
        list(todo),
        prepare=partial(_job, todo, space, give_up),
        title="fetch",
        unit="patches",
        size=lambda job: job[1].stop - job[1].start,
    ):
        if isinstance(result, LasError):
            failures[f"{name}/{block.name}"] = str(result)
            continue
        for line in result:
            tally += Tally(
                stored=int(line.state == "stored"),
                gaps={line.reason: 1} if line.state == "gap" else {},
                failed={line.reason: 1} if line.state == "failed" else {},
            )
    write_json(space.logs / "failures.json", failures)
    if failures:
        raise StageError(
            f"{len(failures)} of {len(todo)} blocks failed ({space.logs / 'failures.json'}), "
            f"the first: {next(iter(failures.values()))}; the same command retries only those, "
            "--give-up records their sites as failed"
        )
    return tally


def _job(
    todo: dict[tuple[str, Block], _Round], space: Workspace, give_up: bool, key: tuple[str, Block]
) -> FetchJob:
    name, block = key
    round_ = todo[key]
    home = space.subset(name)
    return FetchJob(
        block=block,
        patches=tuple(round_.rows.rows(block.start, block.stop)),
        layout=round_.subset.layout,
        required=frozenset(product.name for product in round_.subset.labels),
        access=round_.subset.access,
        group=home.cube / str(block.round),
        manifest=home.block(block.name),
        min_clear=round_.subset.recipe.dates.patch_min_clear,
        give_up=give_up,
    )
