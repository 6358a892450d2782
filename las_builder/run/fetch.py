"""`las fetch`: every block that has no manifest yet, of every round whose scenes are pinned."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from las_builder.catalogs import LabelProduct
from las_builder.core.report import Tally
from las_builder.core.types import Block
from las_builder.core.workspace import Workspace, write_json
from las_builder.errors import AccessError, LasError, StageError
from las_builder.fetch import (
    AddJob,
    FetchJob,
    add_arrays,
    add_product,
    blocks_of,
    create_round,
    fetch_block,
    read_block,
)  # fmt: skip
from las_builder.recipe import Corpus, Subset
from las_builder.run.engine import Engine
from las_builder.run.estimate import remember
from las_builder.scenes import Outline, PinnedRows


@dataclass(frozen=True, slots=True)
class _Round:
    """One round of one subset: what a job is prepared from."""

    subset: Subset
    rows: PinnedRows


def fetch(corpus: Corpus, space: Workspace, engine: Engine, *, give_up: bool = False) -> Tally:
    """Fetch what is not fetched yet: blocks, then products that joined later, for them alone.

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
    tally, before, slowed = Tally(), engine.sent.copy(), engine.slowed()
    failures: dict[str, dict[str, Any]] = {}
    for (name, block), result in engine.each(
        fetch_block,
        list(todo),
        prepare=partial(_job, todo, space, give_up),
        title="fetch",
        unit="patches",
        size=lambda job: job[1].stop - job[1].start,
    ):
        if isinstance(result, LasError):
            failures[f"{name}/{block.name}"] = ledger_line(result)
            continue
        for line in result:
            tally += Tally(
                stored=int(line.state == "stored"),
                gaps={line.reason: 1} if line.state == "gap" else {},
                failed={line.reason: 1} if line.state == "failed" else {},
            )
    failures.update(_fetch_added(corpus, space, engine, give_up))
    if said := remember(space, engine.sent.since(before), engine.slowed() - slowed):
        sys.stderr.write(f"{said}\n")
    write_json(space.logs / "failures.json", failures)
    if failures:
        raise StageError(
            f"{len(failures)} blocks failed ({space.logs / 'failures.json'}), "
            f"the first: {next(iter(failures.values()))['error']}; the same command retries only those, "
            "--give-up records their sites as failed"
        )
    return tally


def ledger_line(error: LasError) -> dict[str, Any]:
    """What the ledger keeps of a failure: who said what, its class, and how often it was tried."""
    if not isinstance(error, AccessError):
        return {"error": str(error)}
    return {
        "error": str(error),
        "provider": error.provider,
        "what": error.what,
        "message": error.problem,
        "class": error.kind,
        "attempts": error.attempts,
        "retryable": error.retryable,
    }


Retry = Literal["failed", "gaps", "consumed"]


def reopen(corpus: Corpus, space: Workspace, what: Retry) -> int:
    """Make blocks undone that hold sites given up, or patches that the provider had nothing for, or
    whose images were freed.

    Scenes stay as they were pinned: nothing is searched again.

    Returns:
        Blocks that the next `fetch` will fetch again.
    """
    state = {"failed": "failed", "gaps": "gap", "consumed": None}[what]
    count = 0
    for subset in corpus.subsets:
        home = space.subset(subset.name)
        for number in home.rounds():
            patches = Outline.read(home.scenes(number)).patches
            for block in blocks_of(number, patches, subset.layout):
                lines, _ = read_block(home, block, ())
                mark = home.consumed(block.name)
                if mark.exists() if state is None else any(line.state == state for line in lines):
                    for path in home.blocks.glob(f"{block.name}.*json"):
                        path.unlink()
                    mark.unlink(
                        missing_ok=True
                    )  # last: no block is done whose images are not there
                    count += 1
    return count


def _fetch_added(
    corpus: Corpus, space: Workspace, engine: Engine, give_up: bool
) -> dict[str, dict[str, Any]]:
    """Products that joined later, for the blocks that are done; block to what went wrong."""
    todo: dict[tuple[str, Block, str], tuple[_Round, LabelProduct]] = {}
    for subset in corpus.subsets:
        home, layout = space.subset(subset.name), subset.layout
        for number in home.rounds() if layout.added else []:
            rows = PinnedRows(home.scenes(number))
            for product in layout.added if len(rows) else ():
                add_arrays(home.cube / str(number), len(rows), layout, product)
                for block in blocks_of(number, len(rows), layout):
                    first = home.block(block.name).exists()
                    if first and not home.added(block.name, product.name).exists():
                        todo[subset.name, block, product.name] = _Round(subset, rows), product
    return {
        f"{name}/{block.name} {product}": ledger_line(result)
        for (name, block, product), result in engine.each(
            add_product,
            list(todo),
            prepare=partial(_add_job, todo, space, give_up),
            title="fetch added products",
            unit="patches",
            size=lambda key: key[1].stop - key[1].start,
        )
        if isinstance(result, LasError)
    }


def _add_job(
    todo: dict[tuple[str, Block, str], tuple[_Round, LabelProduct]], space: Workspace,
    give_up: bool, key: tuple[str, Block, str],
) -> AddJob:  # fmt: skip
    name, block, _ = key
    round_, product = todo[key]
    home = space.subset(name)
    return AddJob(
        block=block,
        patches=tuple(round_.rows.rows(block.start, block.stop)),
        product=product,
        access=round_.subset.access,
        group=home.cube / str(block.round),
        first=home.block(block.name),
        manifest=home.added(block.name, product.name),
        give_up=give_up,
    )


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
        required=round_.subset.required,
        access=round_.subset.access,
        group=home.cube / str(block.round),
        manifest=home.block(block.name),
        min_clear=round_.subset.recipe.dates.patch_min_clear,
        give_up=give_up,
    )
