"""A checkpoint of `las train`, or what needs none, on the benchmarks of a user: see `score`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from las_builder.catalogs import Catalogs
from las_builder.core.workspace import sha256_file
from las_builder.errors import CheckpointError, InputError
from las_builder.evaluate import score as scores
from las_builder.evaluate.benchmark import Task, tiles_of, training_of
from las_builder.evaluate.branches import ClipOptions, rows_of
from las_builder.evaluate.page import write_page
from las_builder.evaluate.predict import asker
from las_builder.evaluate.transfer import Transfer, learn
from las_builder.evaluate.windows import Say
from las_builder.models import checkpoint

Baseline = Literal["closed-set", "majority"]


def evaluate(
    weights: Path,
    benchmarks: Sequence[str],
    folder: Path,
    out: Path,
    *,
    catalogs: Catalogs,
    zero_shot: bool = False,
    transfer: Transfer | None = None,
    baselines: Sequence[Baseline] = (),
    products: Sequence[tuple[str, Path]] = (),
    clip: ClipOptions | None = None,
    text_file: Path | None = None,
    window: int = 512,
    overlap: float = 0.5,
    batch: int = 4,
    device: str = "cpu",
    told: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """Score a checkpoint on benchmarks and write `index.html` over all scores of the folder.

    Args:
        weights: A model of `las train`.
        benchmarks: Names of `catalogs/benchmarks`.
        folder: The user's copies: a folder each, by the benchmark's name; or the copy of the only one.
        out: Of scores.
        catalogs: Declarations.
        zero_shot: Refuse a checkpoint that does not say what it was trained on, or that was trained on
            the benchmark: its annotated set under any name, or a subset of its name.
        transfer: Learn from some of the training tiles first; None: the model is asked as it is.
        baselines: Rows to write beside: `closed-set` asks the model for the classes that it was trained
            on and takes the nearest by the ontology; `majority` is the best constant answer.
        products: Label products and a map of each, read as predictions.
        clip: Rows of CLIP, ProxyCLIP and the fusion with it, and what they are made with; not with
            `transfer`.
        text_file: Checkpoint of a GeoRSCLIP text tower, where the model wants one.
        window: Side of the windows, pixels.
        overlap: Share of a window that the next one repeats.
        batch: Windows at once.
        device: cpu, cuda.
        told: Takes a line now and then.

    Returns:
        The JSON files.

    Raises:
        CheckpointError: Not a model or no CLIP; `zero_shot` or `closed-set` and no record of its training.
        InputError: A copy that is not whole, class names that no model can answer, or a map of a product
            that is none; `transfer` beside `clip` or `zero_shot`.
        WorkspaceError: The disk is full or read-only.
    """
    if transfer is not None and (clip is not None or zero_shot):
        raise InputError(
            "las evaluate", "transfer", transfer.name, "neither clip nor zero_shot",
            "What is learnt there is no zero-shot, and CLIP's rows stand beside the model as it is.",
        )  # fmt: skip
    tasks = [Task.of(name, catalogs) for name in benchmarks]
    for name, count in Counter(name for name, _ in products).items():
        if count > 1:
            raise InputError(
                "las evaluate", "--product", name, "one map of each product",
                "Put its files together, e.g. with gdalbuildvrt.",
            )  # fmt: skip
    config, header = checkpoint.describe(weights)
    record = checkpoint.record_of(header)
    if record is None and (zero_shot or "closed-set" in baselines):
        raise CheckpointError(
            weights, "trained_on", None, "a checkpoint that says which classes it was trained on",
            "Train it again, or leave --zero-shot and closed-set out.",
        )  # fmt: skip
    for task in tasks:
        if not zero_shot or record is None:
            continue
        # Records of an earlier version name the subsets alone.
        there = {*record["subsets"], *record.get("products", ())}
        if found := sorted({task.name, task.scored.dataset} & there):
            raise CheckpointError(
                weights, "trained_on", ", ".join(found), f"nothing of {task.name}",
                "It was trained there: that is no zero-shot.",
            )  # fmt: skip
    copies = {task.name: _copy(folder, task.name, len(tasks)) for task in tasks}
    opened = [(task, tiles_of(task, copies[task.name])) for task in tasks]
    if transfer is not None:  # before the first of them has taken an hour
        for task in tasks:
            training_of(task, copies[task.name], "train")
    model = checkpoint.load(weights)
    name = scores.named(weights)
    written = []
    for task, tiles in opened:
        n = len(task.classes)
        maps = [_map_of(name, file, task, catalogs) for name, file in products]
        facts = {
            **scores.facts_of(weights, header),
            "size": config.size,
            "text": config.text,
            **({"text_sha256": sha256_file(text_file)} if text_file is not None else {}),
            "setting": "zero-shot" if zero_shot else "as it is",
            "windows": {"side": window, "overlap": overlap},
            "bands": scores.bands_said(task, config, record),
        }

        def asked(classes: Sequence[Sequence[str]], task: Task = task) -> Say:
            return asker(
                model, classes, task.wavelengths, task.level, text_file=text_file, device=device
            )

        def windows(say: Say, n: int = n) -> scores.Answer:
            return scores.by_windows(say, n, window=window, overlap=overlap, batch=batch)

        flags = scores.unseen(task, record, catalogs.ontology)
        if transfer is None:
            rows = [
                scores.Method(
                    name=name, kind="checkpoint", facts=facts, answer=windows(asked(task.classes))
                )
            ]
        else:
            label = f"{name}-{transfer.name}"
            learnt = learn(
                transfer, task, copies[task.name], weights, out / f"{label}-{task.name}",
                catalogs=catalogs, text_file=text_file, window=window, batch=batch, device=device,
                told=told,
            )  # fmt: skip
            more = {**facts, "setting": transfer.protocol, "learnt": learnt.facts}
            rows = [
                scores.Method(
                    name=label, kind=transfer.protocol, facts=more, answer=windows(learnt.say)
                )
            ]
        if clip is not None:
            rows = rows_of(
                rows[0], model, task, clip, out, text_file=text_file,
                window=window, overlap=overlap, batch=batch, device=device,
            )  # fmt: skip
        if "closed-set" in baselines and record is not None:
            trained = scores.told_apart(record)
            own = [names for names, _ in trained]
            places = scores.nearest([nodes for _, nodes in trained], task.means, catalogs.ontology)
            if all(place is None for place in places):
                raise InputError(
                    weights, "trained_on", [one[0] for one in own], f"a class that {task.name} has"
                )
            said = {one[0]: p if p is None else task.classes[p][0]
                    for one, p in zip(own, places, strict=True)}  # fmt: skip
            rows.append(
                scores.Method(
                    name=f"{name}-closed-set", kind="closed-set",
                    facts={**facts, "nearest": said},
                    answer=windows(scores.gathered(asked(own), places, n)),
                )
            )  # fmt: skip
        if "majority" in baselines:
            best = scores.majority(tiles, n)
            rows.append(
                scores.Method(
                    name="majority", kind="majority", facts={"constant": task.classes[best][0]},
                    answer=scores.constant(best, n),
                )
            )  # fmt: skip
        rows += maps
        flagged = [(row, flags if row.kind in scores.ZERO_SHOT else None) for row in rows]
        written += scores.score_all(task, tiles, flagged, out, told=told)
    write_page(out, catalogs)
    return written


def _map_of(name: str, file: Path, task: Task, catalogs: Catalogs) -> scores.Method:
    """A map of a label product as a row."""
    legend = catalogs.label(name, where="las evaluate", key="--product")
    answer, near = scores.product(legend, file, task.means, catalogs.ontology)
    words = {own: None if p is None else task.classes[p][0] for own, p in near.items()}
    return scores.Method(
        name=name, kind="product", answer=answer,
        facts={"sha256": sha256_file(file), "nearest": words},
    )  # fmt: skip


def _copy(folder: Path, name: str, count: int) -> Path:
    """Of one benchmark the folder itself, where it has none of that name."""
    inside = folder / name
    return folder if count == 1 and not inside.is_dir() else inside
