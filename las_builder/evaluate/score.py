"""`las evaluate`: a checkpoint (or a baseline) on a benchmark, tile by tile, to one JSON of scores.

A tile is cut into windows that overlap and are blended, gives one confusion matrix, and is kept on
disk: a run that was killed goes on with the next. Everything is computed from the sum of the
matrices, intervals by drawing tiles again.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from las_builder.access.maps import codes_of
from las_builder.catalogs import LabelProduct, Ontology
from las_builder.core.types import IGNORE
from las_builder.core.workspace import sha256_file, write_bytes
from las_builder.errors import InputError, RasterError
from las_builder.evaluate import kept
from las_builder.evaluate.benchmark import Task, Tile, Tiles
from las_builder.evaluate.fusion import uncertainty
from las_builder.evaluate.metrics import boundary_counts, boundary_iou, interval, paired
from las_builder.evaluate.places import grouped, where
from las_builder.evaluate.predict import opened
from las_builder.evaluate.windows import Piece, Say, blended
from las_builder.models.config import ModelConfig
from las_builder.train.metrics import confusion, metrics

FORMAT = "las-scores-1"
SHOWN = 4
"""Tiles of a benchmark that the page shows."""

SAME_BAND = 0.04
"""Bands whose middles are no further apart, micrometres, count as the same."""

SIDE = 256
"""Of the part of a tile that it shows, pixels."""

ZERO_SHOT = ("checkpoint", "clip", "proxyclip", "fusion", "closed-set")
"""Kinds of rows that never saw the benchmark, of which unseen classes are told apart."""

Answer = Callable[[Tile], Iterable[Piece]]
"""Probabilities of a tile, (class, y, x) in pieces that cover it; 0 of every class: nothing is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """What answers, and all that its scores depend on."""

    name: str
    """Of the row: runs/demo/best.safetensors is demo-best."""

    kind: str
    """checkpoint, linear-probe, fine-tune, clip, proxyclip, fusion, closed-set, majority, product."""

    facts: Mapping[str, Any]
    """For the row, and to tell tiles of another run: checkpoint and its hash, windows, bands."""

    answer: Answer


@dataclass(frozen=True, slots=True, eq=False)
class TileScore:
    """What is kept of a tile."""

    name: str
    counts: NDArray[np.int64]
    """(truth, said) pixels."""

    boundary: NDArray[np.int64]
    """(3, class), see `boundary_counts`."""

    entropy: float
    """Sum of the uncertainty over the pixels with a truth."""

    silent: int = 0
    """Pixels with a truth of which nothing was said; they are in no matrix."""

    where: tuple[float, float] | None = None
    """Longitude and latitude of its middle, degrees."""

    panels: NDArray[np.uint8] | None = None
    """(6, y, x): red, green, blue, truth, said, uncertainty in 255ths; of those that are shown."""


def by_windows(say: Say, classes: int, *, window: int, overlap: float, batch: int) -> Answer:
    """A model that is asked in windows."""

    def answer(tile: Tile) -> Iterator[Piece]:
        def read(row: int, column: int, rows: int, columns: int) -> NDArray[np.float32]:
            return tile.image[:, row : row + rows, column : column + columns]

        yield from blended(
            read, say, *tile.truth.shape,
            classes=classes, window=window, overlap=overlap, batch=batch,
        )  # fmt: skip

    return answer


def constant(index: int, classes: int) -> Answer:
    """The same class everywhere."""

    def answer(tile: Tile) -> Iterator[Piece]:
        p = np.zeros((classes, *tile.truth.shape), np.float32)
        p[index] = 1
        yield Piece(0, 0, p)

    return answer


def majority(tiles: Tiles, classes: int) -> int:
    """The class that most pixels of the truth are: the best constant answer, chosen knowing the truth."""
    counts = np.zeros(classes, np.int64)
    for i in range(len(tiles.names)):
        truth = tiles.read(i).truth
        counts += np.bincount(truth[truth != IGNORE], minlength=classes)
    return int(counts.argmax())


def product(
    legend: LabelProduct, file: Path, asked: Sequence[Sequence[str]], ontology: Ontology
) -> tuple[Answer, dict[str, int | None]]:
    """A map of a label product read as a prediction: each pixel has the code that lies on its middle,
    and the code is read as the class that comes nearest (`nearest`).

    Where the map has no data, or a code without a near class, nothing is said.

    Args:
        legend: Its legend.
        file: The map.
        asked: Ontology nodes of each class of the benchmark.
        ontology: Of both.

    Returns:
        What answers, and the place of each class of the product by its title.

    Raises:
        RasterError: No raster, or one without a place.
        InputError: Of the answer: a tile that does not say where it is; codes that no legend lists.
    """
    with opened(file) as source:
        if source.crs is None:
            raise RasterError(file, "crs", None, "a map that says where it is")
    entries = [entry for entry in legend.classes if entry.means]
    places = nearest([entry.means for entry in entries], asked, ontology)

    def answer(tile: Tile) -> Iterator[Piece]:
        from rasterio.enums import Resampling
        from rasterio.vrt import WarpedVRT

        grid = tile.grid
        if grid is None or grid.crs is None:
            raise InputError(tile.name, "crs", None, "tiles that say where they are")
        with (
            opened(file) as source,
            WarpedVRT(
                source, crs=grid.crs, transform=grid.transform, width=grid.width,
                height=grid.height, resampling=Resampling.nearest, nodata=legend.nodata,
            ) as laid,
        ):  # fmt: skip
            codes = codes_of(laid.read(1), source.nodata, legend, str(file))
        p = np.zeros((len(asked), *codes.shape), np.float32)
        for entry, place in zip(entries, places, strict=True):
            if place is not None:
                p[place, codes == entry.value] = 1
        yield Piece(0, 0, p)

    said = {entry.title: place for entry, place in zip(entries, places, strict=True)}
    return answer, said


def nearest(
    own: Sequence[Sequence[str]], asked: Sequence[Sequence[str]], ontology: Ontology
) -> list[int | None]:
    """The class of a benchmark that comes nearest to each class of a closed-set model.

    By shared leaves over all leaves of both (Jaccard); the first of equals; None where they share
    none.

    Args:
        own: Ontology nodes of each class of the model.
        asked: Of each class of the benchmark.
        ontology: Of both.
    """

    def leaves(nodes: Sequence[str]) -> frozenset[str]:
        return frozenset().union(*(ontology.below(node) for node in nodes))

    theirs = [leaves(nodes) for nodes in asked]
    out: list[int | None] = []
    for nodes in own:
        mine = leaves(nodes)
        alike = [len(mine & one) / max(len(mine | one), 1) for one in theirs]
        best = int(np.argmax(alike)) if alike else 0
        out.append(best if alike and alike[best] > 0 else None)
    return out


def gathered(say: Say, places: Sequence[int | None], classes: int) -> Say:
    """A closed-set model as one of a benchmark: probabilities of its classes go to the nearest ones.

    Those without a near one are dropped before the rest is normalised.
    """

    def to(images: NDArray[np.float32]) -> NDArray[np.float32]:
        p = say(images)
        out = np.full((len(p), classes, *p.shape[2:]), 1e-9, np.float32)
        for i, place in enumerate(places):
            if place is not None:
                out[:, place] += p[:, i]
        return np.asarray(out / out.sum(axis=1, keepdims=True))

    return to


def bands_said(
    task: Task, config: ModelConfig | None, record: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Which bands of a benchmark a model is given, which stand in for others, which are left out; and
    what it was trained with that is not there (nothing stands in for it).

    Red, green and blue of the picture encoder are the bands nearest to 0.665, 0.56 and 0.49
    micrometres, whatever they are; a model without a spectral encoder sees no other, nor does CLIP (None).

    Returns:
        `used`, `filled` (colour to band), `left_out`; where the record says it, `missing` (micrometres)
        and `foreign` (the level of the benchmark, if nothing of that level was trained on).
    """
    waves = np.array(task.wavelengths)
    colour = {"red": 0.665, "green": 0.56, "blue": 0.49}
    rgb = {name: task.bands[int(np.abs(waves - w).argmin())] for name, w in colour.items()}
    filled = {
        name: band for name, band in rgb.items()
        if abs(waves[task.bands.index(band)] - colour[name]) > SAME_BAND
    }  # fmt: skip
    spectral = config is not None and (config.spectral is not None or config.pixel_skip)
    used = [band for band in task.bands if spectral or band in rgb.values()]
    every = [band for band in task.order if band is not None]
    said = {"used": used, "filled": filled, "left_out": [b for b in every if b not in used]}
    if record is None or "images" not in record:
        return said
    trained = sorted({wave for one in record["images"] for wave in one["wavelengths"]})
    given = np.array([wave for wave, b in zip(waves, task.bands, strict=True) if b in used])
    away = [float(np.abs(given - wave).min()) for wave in trained]
    levels = {one["level"] for one in record["images"]}
    return {
        **said,
        "missing": [
            wave for wave, far in zip(trained, away, strict=True) if spectral and far > SAME_BAND
        ],
        "foreign": None if task.level in levels else task.level,
    }


def unseen(task: Task, record: Mapping[str, Any] | None, ontology: Ontology) -> list[bool] | None:
    """Whether each class was never trained on; None where the checkpoint does not say what was.

    A class was seen if a trained one has one of its names, or means the same leaves.

    Args:
        task: Its classes.
        record: What `train.loop.trained_on` wrote.
        ontology: Of both.
    """
    if record is None:
        return None
    names = {name.casefold() for one in record["classes"] for name in one["names"]}

    def leaves(nodes: Sequence[str]) -> frozenset[str]:
        known = [node for node in nodes if node in ontology.by_id]
        return frozenset().union(*(ontology.below(node) for node in known))

    trained = {leaves(one["nodes"]) for one in record["classes"]} - {frozenset()}
    return [
        not (names & {name.casefold() for name in said} or leaves(nodes) in trained)
        for said, nodes in zip(task.classes, task.means, strict=True)
    ]


def told_apart(record: Mapping[str, Any]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Names and ontology nodes of the classes that a checkpoint was trained on, asked as one set: a name
    that several subsets have belongs to the first, a class without a name of its own is left out.
    """
    seen: set[str] = set()
    out = []
    for one in record["classes"]:
        names = tuple(name for name in one["names"] if name.casefold() not in seen)
        seen.update(name.casefold() for name in names)
        if names:
            out.append((names, tuple(one["nodes"])))
    return out


def score_tile(tile: Tile, answer: Answer, classes: int, *, shown: bool) -> TileScore:
    """One tile. Memory is that of the tile and a row of windows."""
    said = np.zeros(tile.truth.shape, np.uint8)
    unsure = np.zeros(tile.truth.shape, np.float32)
    silent = np.zeros(tile.truth.shape, bool)
    for piece in answer(tile):
        rows, columns = piece.probability.shape[1:]
        here = np.s_[piece.row : piece.row + rows, piece.column : piece.column + columns]
        said[here] = piece.probability.argmax(axis=0)
        unsure[here] = uncertainty(piece.probability)
        silent[here] = ~piece.probability.any(axis=0)
    known = (tile.truth != IGNORE) & ~silent
    truth = np.where(silent, IGNORE, tile.truth).astype(np.uint8)
    said[silent] = IGNORE
    return TileScore(
        name=tile.name,
        counts=confusion(truth, said, classes),
        boundary=boundary_counts(truth, said, classes),
        entropy=float(unsure[known].sum(dtype=np.float64)),
        silent=int((silent & (tile.truth != IGNORE)).sum()),
        where=where(tile),
        panels=_panels(tile, said, unsure) if shown else None,
    )


def score(
    task: Task,
    tiles: Tiles,
    method: Method,
    out: Path,
    *,
    unseen_classes: Sequence[bool] | None,
    told: Callable[[str], None] = lambda _: None,
) -> Path:
    """Score every tile and write `<method>-<benchmark>.json`: `score_all` of one row.

    Args:
        task: The benchmark.
        tiles: Of the user's copy.
        method: What answers.
        out: The folder of scores.
        unseen_classes: See `unseen`.
        told: Takes a line now and then.

    Raises:
        InputError: No tiles, or one that cannot be read.
        WorkspaceError: The disk is full or read-only.
    """
    (written,) = score_all(task, tiles, [(method, unseen_classes)], out, told=told)
    return written


def score_all(
    task: Task,
    tiles: Tiles,
    rows: Sequence[tuple[Method, Sequence[bool] | None]],
    out: Path,
    *,
    told: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """Score every tile in every row, tile by tile, and write `<method>-<benchmark>.json` of each row.

    Tiles are kept in a folder of the same name; those of this very run are not asked again, and one
    that every row has is not read.

    Args:
        task: The benchmark.
        tiles: Of the user's copy.
        rows: What answers, and which classes are called unseen (see `unseen`).
        out: The folder of scores.
        told: Takes a line now and then.

    Raises:
        InputError: No tiles, or one that cannot be read.
        WorkspaceError: The disk is full or read-only.
    """
    names, classes = tiles.names, len(task.classes)
    if not names:
        raise InputError(task.name, "tiles", 0, "at least one")
    legend = {
        "set": task.declared.model_dump(mode="json"), "asked": task.scored.model_dump(mode="json")
    }  # fmt: skip
    stems, keys = [], []
    for method, _ in rows:
        said = json.dumps([FORMAT, method.kind, dict(method.facts), legend], sort_keys=True)
        keys.append(hashlib.sha256(said.encode()).hexdigest())
        stems.append(f"{method.name}-{task.name}")
    pick = shown_of(len(names))
    done: list[list[TileScore]] = [[] for _ in rows]
    for i, name in enumerate(names):
        tile: Tile | None = None
        for (method, _), stem, key, scored in zip(rows, stems, keys, done, strict=True):
            file = out / stem / f"{i:06d}.npz"
            found = _kept(file, key, name)
            if found is None:
                tile = tile or tiles.read(i)
                found = score_tile(tile, method.answer, classes, shown=i in pick)
                found = replace(found, name=name)
                _keep(file, key, found)
            scored.append(found)
        if tile is not None:
            told(f"{task.name}: {i + 1} of {len(names)} tiles, {name}")
    written = []
    for (method, flags), stem, scored in zip(rows, stems, done, strict=True):
        result = summary(task, method, scored, flags)
        written.append(out / f"{stem}.json")
        write_bytes(written[-1], (json.dumps(result, separators=(",", ":")) + "\n").encode())
    return written


def summary(
    task: Task, method: Method, tiles: Sequence[TileScore], unseen_classes: Sequence[bool] | None
) -> dict[str, Any]:
    """All that is said of a run, as it is written: numbers, or None where there are none."""
    counts = np.stack([tile.counts for tile in tiles])
    whole = metrics(counts.sum(axis=0))
    rims = boundary_iou(np.sum([tile.boundary for tile in tiles], axis=0))
    groups = grouped(task, [tile.name for tile in tiles], [tile.where for tile in tiles])
    some = interval(counts, groups=groups.of) if groups.count > 1 and counts.any() else None
    pixels = int(counts.sum())
    names = [one[0] for one in task.classes]
    by_class = [
        {
            "name": name, "code": task.codes[i], "iou": _number(whole.iou[i]),
            "f1": _number(whole.f1[i]), "precision": _number(whole.precision[i]),
            "recall": _number(whole.recall[i]), "boundary_iou": _number(rims[i]),
            "pixels": int(whole.support[i]),
            "unseen": None if unseen_classes is None else bool(unseen_classes[i]),
        }
        for i, name in enumerate(names)
    ]  # fmt: skip
    apart: dict[str, float | None] = {"seen": None, "unseen": None}
    if unseen_classes is not None:
        new = [i for i, flag in enumerate(unseen_classes) if flag]
        apart = {
            "seen": _number(whole.over([i for i in range(len(names)) if i not in new])),
            "unseen": _number(whole.over(new)),
        }
    return {
        "format": FORMAT, "benchmark": task.name, "title": task.title, "split": task.scored.split,
        "note": task.scored.note, "method": method.name, "kind": method.kind,
        **dict(method.facts),
        "miou": _number(whole.miou), "miou_95": [some.low, some.high] if some else None,
        "mf1": _number(whole.mf1), "overall": _number(whole.overall),
        "boundary_miou": _number(float(np.nanmean(rims)) if not np.isnan(rims).all() else np.nan),
        "miou_seen": apart["seen"], "miou_unseen": apart["unseen"],
        "absent": {names[i]: n for i, n in whole.absent.items()},
        "uncertainty": _number(sum(tile.entropy for tile in tiles) / pixels if pixels else np.nan),
        "pixels": pixels, "silent": sum(tile.silent for tile in tiles), "classes": by_class,
        "drawn": {"by": groups.by, "groups": groups.count, "places": groups.places},
        "tiles": [
            {"name": tile.name, "group": group, "counts": tile.counts.tolist()}
            for tile, group in zip(tiles, groups.of.tolist(), strict=True)
        ],
    }  # fmt: skip


def read_scores(file: Path) -> dict[str, Any]:
    """What `score` wrote.

    Raises:
        InputError: Not such a file.
    """
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError) as problem:
        raise InputError(file, "file", type(problem).__name__, "scores of `las evaluate`") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise InputError(file, "format", str(found)[:60], f"{FORMAT}, written by `las evaluate`")
    return found


def compare(a: Path, b: Path) -> str:
    """What b has above a on the same tiles, in words, with a 95 % interval.

    Raises:
        InputError: Not scores, or of other tiles.
    """
    both = [read_scores(file) for file in (a, b)]
    named = [[tile["name"] for tile in one["tiles"]] for one in both]
    if both[0]["benchmark"] != both[1]["benchmark"] or named[0] != named[1]:
        raise InputError(
            b, "tiles", f"{len(named[1])} of {both[1]['benchmark']}",
            f"the {len(named[0])} of {both[0]['benchmark']} of {a}", "Score both on one copy.",
        )  # fmt: skip
    first, second = (np.array([t["counts"] for t in one["tiles"]], np.int64) for one in both)
    try:
        groups = np.array([tile["group"] for tile in both[0]["tiles"]], np.int64)
        found = paired(first, second, groups=groups)
    except ValueError as problem:
        raise InputError(b, "tiles", str(problem), "scores against the same truth") from None
    sure = "no difference shown" if found.low <= 0 <= found.high else "a difference"
    lines = [
        f"{both[0]['benchmark']}, {len(named[0])} tiles: mIoU {_percent(both[0]['miou'])} of "
        f"{both[0]['method']}, {_percent(both[1]['miou'])} of {both[1]['method']}",
        f"difference {100 * found.value:+.2f} points, 95 % of draws of {drawn_of(both[0])} "
        f"{100 * found.low:+.2f} to {100 * found.high:+.2f}: {sure}",
    ]
    return "\n".join(lines)


def drawn_of(scores: Mapping[str, Any]) -> str:
    """What the intervals of some scores are drawn from, in words."""
    drawn = scores["drawn"]
    if drawn["by"] == "tiles":
        few = f" ({drawn['places']} places only)" if drawn["places"] < drawn["groups"] else ""
        return f"the {drawn['groups']:,} tiles{few}"
    return f"{drawn['groups']:,} places ({drawn['by']})"


def shown_of(count: int) -> list[int]:
    """Places of the tiles that the page shows, of so many."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(SHOWN, count))})


def panels_of(out: Path, scores: Mapping[str, Any]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Names and pictures of the tiles that are shown, (6, y, x); none where the folder is gone."""
    folder = out / f"{scores['method']}-{scores['benchmark']}"
    for i in shown_of(len(scores["tiles"])):
        name, found = scores["tiles"][i]["name"], kept.read(folder / f"{i:06d}.npz")
        if found is not None and "panels" in found and str(found.get("name")) == name:
            yield name, found["panels"]


def named(weights: Path) -> str:
    """What a checkpoint is called in a row: with its folder, as every run has a best.safetensors."""
    return "-".join(part for part in (weights.resolve().parent.name, weights.stem) if part)


def facts_of(weights: Path, header: Mapping[str, str]) -> dict[str, Any]:
    """What a row says of a checkpoint."""
    return {
        "checkpoint": weights.name,
        "sha256": sha256_file(weights),
        "step": header.get("step"),
    }


def _kept(file: Path, key: str, name: str) -> TileScore | None:
    """A tile of this very run; anything else is made again."""
    found = kept.read(file)
    if found is None or (str(found.get("key")), str(found.get("name"))) != (key, name):
        return None
    lon, lat = found["where"].tolist()
    return TileScore(
        name, found["counts"], found["boundary"], float(found["entropy"]),
        int(found["silent"]), None if math.isnan(lon) else (lon, lat), found.get("panels"),
    )  # fmt: skip


def _keep(file: Path, key: str, tile: TileScore) -> None:
    arrays: dict[str, Any] = {
        "key": key, "name": tile.name, "counts": tile.counts, "boundary": tile.boundary,
        "entropy": tile.entropy, "silent": tile.silent,
        "where": tile.where or (math.nan, math.nan),
    }  # fmt: skip
    if tile.panels is not None:
        arrays["panels"] = tile.panels
    kept.write(file, **arrays)  # a few panels a row: not worth the time of packing


def _panels(tile: Tile, said: NDArray[np.uint8], unsure: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The middle of a tile; the picture from the 2nd to the 98th percentile, for looking at only."""
    height, width = tile.truth.shape
    top, left = max(height - SIDE, 0) // 2, max(width - SIDE, 0) // 2
    here = np.s_[..., top : top + SIDE, left : left + SIDE]
    planes = tile.image[here][list(tile.rgb)]
    seen = planes[~np.isnan(planes)]
    low, high = np.percentile(seen, [2, 98]) if seen.size else (0.0, 1.0)
    shown = np.nan_to_num((planes - low) / max(high - low, 1e-6)).clip(0, 1)
    return np.concatenate(
        [
            (255 * shown).astype(np.uint8), tile.truth[here][None], said[here][None],
            np.rint(255 * unsure[here][None]).astype(np.uint8),
        ]
    )  # fmt: skip


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.2f}"
