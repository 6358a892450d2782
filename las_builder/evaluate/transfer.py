"""A checkpoint that learns from some of a benchmark's training tiles before it is scored.

Linear probe: the model stays as it is, and a linear classifier is fitted to what it makes of pixels
(`LandSegmenter.seen`: at full resolution, right before the class vectors). What the model says in
words is one of the linear maps of these vectors, so that the two rows differ by what words lose
and not by what the features lack. Fine-tuning: the loop of `las train`, from the checkpoint, with
the benchmark's names. Tiles that are scored are never opened here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from las_builder.catalogs import Catalogs
from las_builder.core.types import IGNORE
from las_builder.core.workspace import sha256_file
from las_builder.errors import ImportFolderError, InputError
from las_builder.evaluate import kept
from las_builder.evaluate.benchmark import FolderTiles, Task, training_of
from las_builder.evaluate.predict import asker, colours
from las_builder.evaluate.windows import Say, blended, starts
from las_builder.models import checkpoint
from las_builder.models.config import Level
from las_builder.models.segmenter import LandSegmenter
from las_builder.models.text import Prompter, encoder
from las_builder.train.augment import Name
from las_builder.train.config import read_config
from las_builder.train.data import Patch
from las_builder.train.loop import train

Protocol = Literal["linear-probe", "fine-tune"]

PIXELS = 100_000
"""That a probe is fitted to, at most; as many of each tile."""

L2 = 1.0
"""Penalty of a probe, as scikit-learn's 1 / C on features of unit variance."""

SCHEDULE: Mapping[str, Any] = MappingProxyType({
    "steps": 500, "batch": 8, "crop": 256, "lr": 1e-4, "hiera_lr": 0.1, "warmup": 50, "ema": 0.99,
    "drop_bands": 0.0, "synonyms": False, "drop_classes": 0.0, "merge_classes": 0.0,
    "save_every": 50, "look_every": 500,
})  # fmt: skip
"""Of fine-tuning, keys of `TrainConfig`: short, and always in the benchmark's own classes. Ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """What is learnt, and from how much."""

    protocol: Protocol
    share: float = 1.0
    """Of the training tiles, 0 to 1; at least one tile."""

    seed: int = 0
    """Of the tiles, the pixels and the run."""

    settings: tuple[str, ...] = ()
    """Of fine-tuning, KEY=VALUE as of `las train --set`, in place of `SCHEDULE`."""

    @property
    def name(self) -> str:
        """For rows and files."""
        seed = f"-seed-{self.seed}" if self.seed else ""
        return f"{self.protocol}-{100 * self.share:g}pc{seed}"


@dataclass(frozen=True, slots=True, eq=False)
class Learnt:
    """What came of it."""

    say: Say
    facts: Mapping[str, Any]
    """For the row: protocol, share, tiles, of, seed, and what was learnt by its hash."""


def chosen(names: Sequence[str], share: float, seed: int) -> list[int]:
    """Places of a share of some tiles, in order: those with the smallest hashes of seed and name, so
    that the tiles of a smaller share are among those of a larger one, on every machine.
    """
    drawn = sorted(
        range(len(names)), key=lambda i: hashlib.sha256(f"{seed}/{names[i]}".encode()).digest()
    )
    return sorted(drawn[: max(round(share * len(names)), 1)])


def learn(
    transfer: Transfer,
    task: Task,
    folder: Path,
    weights: Path,
    out: Path,
    *,
    catalogs: Catalogs,
    text_file: Path | None = None,
    window: int = 512,
    batch: int = 4,
    device: str = "cpu",
    told: Callable[[str], None] = lambda _: None,
) -> Learnt:
    """Learn from a share of the training tiles of a benchmark, or go on with it.

    Args:
        transfer: What.
        task: The benchmark.
        folder: The user's copy, as its publisher lays it out.
        weights: Where the model begins.
        out: Folder for what is learnt: vectors of the tiles and `head.npz`, or the run's folder.
        catalogs: For colours and the ontology.
        text_file: As of `predict.asker`.
        window: Side of the windows that pixels are embedded in.
        batch: Windows at once.
        device: cpu, cuda.
        told: Takes a line now and then.

    Raises:
        InputError: The benchmark has only the tiles that are scored, or none with a truth is there;
            settings that no run has.
        ImportFolderError: The copy lacks its training tiles, or files of them.
    """
    tiles = training_of(task, folder, "train")
    names = tiles.names
    some = chosen(names, transfer.share, transfer.seed)
    key = hashlib.sha256()
    key.update(task.declared.model_dump_json().encode() + task.scored.model_dump_json().encode())
    tower = None if text_file is None else sha256_file(text_file)
    for part in (sha256_file(weights), tower, [names[i] for i in some], transfer.seed, window):
        key.update(json.dumps(part).encode())
    facts: dict[str, Any] = {
        "protocol": transfer.protocol, "share": transfer.share, "seed": transfer.seed,
        "tiles": len(some), "of": len(names),
    }  # fmt: skip
    said = f"{task.name}: {transfer.protocol} on {len(some)} of {len(names)} tiles"
    told(said)
    model = checkpoint.load(weights)
    prompter = Prompter(encoder(model.config.text, text_file))
    if transfer.protocol == "linear-probe":
        vectors = embedder(model, prompter, task, device)
        home = out / f"probe-{key.hexdigest()[:12]}"
        places = [(i, home / f"{i:06d}.npz") for i in some]
        each = max(PIXELS // len(some), 1)
        for turn, (i, file) in enumerate(places):
            if kept.read(file) is None:
                x, y = tile_vectors(tiles, i, vectors, each, transfer.seed, window, batch)
                kept.write(file, x=x, y=y)
                told(f"{said}, {turn + 1} embedded")
        head = home / "head.npz"
        fitted = kept.read(head)
        if fitted is None:
            parts = [_must(file) for _, file in places]
            x, y = (np.concatenate([part[k] for part in parts]) for k in ("x", "y"))
            if not len(y):
                raise InputError(task.name, "train", "no pixel with a truth", "some")
            weight, bias, steps = logistic(x, y, len(task.classes), L2)
            fitted = {
                "weight": weight,
                "bias": bias,
                "steps": np.array(steps),
                "n": np.array(len(y)),
            }
            kept.write(head, **fitted)
        facts |= {
            "steps": int(fitted["steps"]), "pixels": int(fitted["n"]),
            "head": _digest({k: torch.from_numpy(fitted[k]) for k in ("weight", "bias")}),
        }  # fmt: skip
        return Learnt(probe(vectors, fitted["weight"], fitted["bias"]), facts)
    own = json.loads(model.config.to_json())
    size = own.pop("size")
    config = read_config(SCHEDULE, transfer.settings, size=size, model=own, seed=transfer.seed)
    key.update(json.dumps(config.deciding(), sort_keys=True).encode())
    source = TileSource(
        task, tiles, some, _looked_at(task, folder), 2 * config.crop,
        tuple("".join(f"{v:02x}" for v in c) for c in colours([n[0] for n in task.classes], catalogs)),
    )  # fmt: skip
    tuned = train(
        [source], catalogs.ontology, config, out / f"run-{key.hexdigest()[:12]}",
        prompter=prompter, start=lambda model: checkpoint.fill(
            model, checkpoint.read(weights), where=weights
        ),
        before=checkpoint.record_of(checkpoint.describe(weights)[1]),
        device=device, told=told,
    )  # fmt: skip
    model = checkpoint.load(tuned)
    facts |= {
        "steps": config.steps, "pieces": source.count("train"), "head": _digest(checkpoint.read(tuned)),
        "settings": {k: v for k, v in config.deciding().items() if k in SCHEDULE},
    }  # fmt: skip
    say = asker(
        model, task.classes, task.wavelengths, task.level, text_file=text_file, device=device
    )
    return Learnt(say, facts)


# ---- linear probe


def embedder(model: LandSegmenter, prompter: Prompter, task: Task, device: str) -> Say:
    """Pixels in, (window, band, y, x); what the model makes of them out, (window, channel, y, x).

    The benchmark's names are asked for: where classes attend to the image, it is seen with them.
    """
    place = torch.device(device)
    model = model.eval().to(place)
    text = prompter([tuple(names) for names in task.classes]).to(place)

    @torch.inference_mode()
    def say(images: NDArray[np.float32]) -> NDArray[np.float32]:
        image = torch.from_numpy(images).to(place)
        with torch.autocast(place.type, torch.bfloat16, enabled=place.type == "cuda"):
            pixels = model.seen(image, task.wavelengths, text, task.level).pixels
        out: NDArray[np.float32] = pixels.float().cpu().numpy()
        return out

    return say


def tile_vectors(
    tiles: FolderTiles, i: int, vectors: Say, most: int, seed: int, window: int, batch: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Some pixels of a tile that have a truth, drawn evenly by its name: (pixel, channel), (pixel,)."""
    tile = tiles.read(i)
    known = np.flatnonzero(tile.truth != IGNORE)
    digest = hashlib.sha256(f"{seed}/pixels/{tile.name}".encode()).digest()
    chance = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    if len(known) > most:
        known = np.sort(chance.choice(known, most, replace=False))
    rows, columns = np.unravel_index(known, tile.truth.shape)

    def read(row: int, column: int, high: int, wide: int) -> NDArray[np.float32]:
        return tile.image[:, row : row + high, column : column + wide]

    corner = tile.image[:, : min(window, 32), : min(window, 32)]
    channels = vectors(corner[None]).shape[1]
    out = np.zeros((len(known), channels), np.float32)
    if len(known):
        for piece in blended(
            read, vectors, *tile.truth.shape,
            classes=channels, window=window, overlap=0.0, batch=batch,
        ):  # fmt: skip
            high, wide = piece.probability.shape[1:]
            r, c = rows - piece.row, columns - piece.column
            here = (r >= 0) & (r < high) & (c >= 0) & (c < wide)
            out[here] = piece.probability[:, r[here], c[here]].T
    return out, tile.truth[rows, columns]


def logistic(
    x: NDArray[np.floating], y: NDArray[np.integer], classes: int, l2: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Multinomial logistic regression on features of unit variance: sum of cross-entropies plus
    l2 / 2 times the squared weights, which has one minimum, found by L-BFGS in float64.

    Args:
        x: (pixel, channel).
        y: (pixel,) class index.
        classes: How many; those that are not in y get no probability.
        l2: Of the weights, not of the constants.

    Returns:
        Weights (channel, class) and constants (class,) for the features as they are, -inf for
        classes that are not in y; and the iterations.
    """
    from scipy.optimize import minimize

    there, index = np.unique(y, return_inverse=True)
    x = x.astype(np.float64)
    middle, spread = x.mean(axis=0), x.std(axis=0)
    spread[spread == 0] = 1
    z = (x - middle) / spread
    n, d = z.shape
    k = len(there)
    hot = np.zeros((n, k))
    hot[np.arange(n), index] = 1

    def cost(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        w = flat.reshape(d + 1, k)
        logits = z @ w[:d] + w[d]
        logits -= logits.max(axis=1, keepdims=True)
        e = np.exp(logits)
        total = e.sum(axis=1, keepdims=True)
        loss = np.log(total).sum() - (hot * logits).sum() + l2 / 2 * (w[:d] ** 2).sum()
        wrong = e / total - hot
        grad = np.concatenate([z.T @ wrong + l2 * w[:d], wrong.sum(axis=0)[None]])
        return float(loss) / n, grad.ravel() / n

    found = minimize(
        cost, np.zeros((d + 1) * k), jac=True, method="L-BFGS-B",
        options={"maxiter": 500, "ftol": 1e-12, "gtol": 1e-7},
    )  # fmt: skip
    w = found.x.reshape(d + 1, k)
    weight, bias = np.zeros((d, classes)), np.full(classes, -np.inf)
    weight[:, there] = w[:d] / spread[:, None]
    bias[there] = w[d] - middle @ weight[:, there]
    return weight, bias, int(found.nit)


def probe(vectors: Say, weight: NDArray[np.float64], bias: NDArray[np.float64]) -> Say:
    """A linear classifier behind a model, as what windows are asked of."""

    def say(images: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = np.einsum("bcyx,ck->bkyx", vectors(images), weight.astype(np.float32))
        logits = logits + bias.astype(np.float32)[:, None, None]
        e = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(e / e.sum(axis=1, keepdims=True), np.float32)

    return say


# ---- fine-tuning


@dataclass(frozen=True)
class TileSource:
    """Training tiles of a benchmark as the samples of a run: squares of one size, each read alone."""

    task: Task
    tiles: FolderTiles
    some: Sequence[int]
    """Places of the tiles that are learnt from."""

    looked_at: FolderTiles | None
    """Tiles that the run's report shows; nothing is chosen by them."""

    side: int
    """Of the squares, pixels; no larger than the largest tile."""

    colours: tuple[str, ...]

    @property
    def name(self) -> str:
        """The benchmark's."""
        return self.task.name

    @property
    def wavelengths(self) -> tuple[float, ...]:
        """Micrometres."""
        return self.task.wavelengths

    @property
    def products(self) -> tuple[str, ...]:
        """The annotated set."""
        return (self.task.scored.dataset,)

    @property
    def level(self) -> Level:
        """What the numbers are."""
        return self.task.level

    @cached_property
    def classes(self) -> tuple[Name, ...]:
        """By class index."""
        return tuple(
            Name(names, means)
            for names, means in zip(self.task.classes, self.task.means, strict=True)
        )

    @cached_property
    def _pieces(self) -> dict[str, list[tuple[FolderTiles, int, int, int]]]:
        side = self._side
        splits = {"train": (self.tiles, self.some)}
        if self.looked_at is not None:
            splits["val"] = (self.looked_at, range(len(self.looked_at.names)))
        return {
            split: [
                (tiles, i, row, column)
                for i in some
                for row in starts(tiles.shapes[i][0], side, side)
                for column in starts(tiles.shapes[i][1], side, side)
            ]
            for split, (tiles, some) in splits.items()
        }  # fmt: skip

    @cached_property
    def _side(self) -> int:
        return min(self.side, max(max(self.tiles.shapes[i]) for i in self.some))

    def count(self, split: str) -> int:
        """Squares of a split."""
        return len(self._pieces.get(split, ()))

    def read(self, split: str, index: int) -> Patch:
        """One square; beyond a small tile there is nothing, and no truth."""
        tiles, i, row, column = self._pieces[split][index]
        tile = tiles.part(i, row, column, self._side)
        image = np.nan_to_num(tile.image)
        return Patch(
            f"{tile.name} {row},{column}", image, tile.truth, np.ones(tile.truth.shape, np.float32)
        )


def _looked_at(task: Task, folder: Path) -> FolderTiles | None:
    """The validation tiles of a copy, where the benchmark has some that are not scored."""
    if "val" not in task.splits - {task.scored.split}:
        return None
    try:
        tiles = training_of(task, folder, "val")
        return tiles if tiles.names else None
    except ImportFolderError:  # the user has not got them
        return None


# ---- what is kept


def _digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Of the numbers: files of the same weights differ in the order of their headers."""
    out = hashlib.sha256()
    for name in sorted(tensors):
        out.update(name.encode() + tensors[name].contiguous().numpy().tobytes())
    return out.hexdigest()


def _must(file: Path) -> dict[str, NDArray[Any]]:
    found = kept.read(file)
    if found is None:
        raise InputError(
            file, "file", "damaged while it was in use", "a disk that keeps what it is given"
        )
    return found
