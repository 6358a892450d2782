"""`las train`: corpora that have been packed, official weights, and the loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from las_builder.catalogs import Ontology
from las_builder.errors import InputError
from las_builder.models import checkpoint
from las_builder.models.segmenter import LandSegmenter
from las_builder.models.text import Prompter, encoder
from las_builder.pack import Shards, SubsetInfo
from las_builder.train.config import TrainConfig
from las_builder.train.data import ShardSource
from las_builder.train.loop import NOTHING, train

TOWERS = ("sam2", "dofa", "georsclip")
"""What `--init` names."""


def begin(
    packed: Sequence[tuple[Sequence[SubsetInfo], Shards]],
    ontology: Ontology,
    config: TrainConfig,
    folder: Path,
    *,
    init: Mapping[str, str],
    start: Path | None,
    device: str,
    told: Callable[[str], None],
) -> Path:
    """Train on corpora, or go on with it.

    Args:
        packed: Of each corpus, its subsets and its shards.
        ontology: Of their classes.
        config: The run.
        folder: Of the run.
        init: Tower to its official weights, by path or name.
        start: A model to begin with, whole.
        device: cpu, cuda; auto: cuda where there is one.
        told: Takes lines of progress.

    Returns:
        The trained model, see `loop.train`.

    Raises:
        InputError: Two subsets of one name, bands that no model can take, no samples.
        CheckpointError: Weights of another model or size.
    """
    sources = [
        ShardSource(info, shards, config.cache_mib) for infos, shards in packed for info in infos
    ]
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise InputError("las train", "RECIPE", name, "subsets of different names")
    text_file = checkpoint.locate(init["georsclip"]) if "georsclip" in init else None
    prompter = Prompter(encoder(config.of_model().text, text_file))

    before: Mapping[str, Any] | None = NOTHING
    if start is not None and start.is_file():  # a run that goes on needs it no more
        before = checkpoint.record_of(checkpoint.describe(start)[1])

    def fill(model: LandSegmenter) -> None:
        if start is not None:
            checkpoint.describe(start)
            checkpoint.fill(model, checkpoint.read(start), where=start)
        if "sam2" in init:
            checkpoint.init_sam2(model, init["sam2"])
        if "dofa" in init:
            checkpoint.init_dofa(model, init["dofa"])

    return train(
        sources,
        ontology,
        config,
        folder,
        prompter=prompter,
        start=fill,
        before=before,
        device=best_device(device),
        told=told,
    )


def best_device(name: str) -> str:
    """The device of this name; of `auto`, cuda where there is one.

    Raises:
        InputError: There is none of this name here.
    """
    there = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if name == "auto":
        return "cuda" if there else "cpu"
    known = ["cpu", *(["cuda"] if there else []), *there]
    if name not in known:
        raise InputError("command", "--device", name, f"auto, {', '.join(known)}")
    return name


def parse_init(words: Sequence[str], towers: Sequence[str] = TOWERS) -> dict[str, str]:
    """{tower: weights} from words like sam2=PATH.

    Raises:
        InputError: Another tower, or no path.
    """
    out = {}
    for word in words:
        tower, _, source = word.partition("=")
        if tower not in towers or not source:
            raise InputError("command", "--init", word, " or ".join(f"{t}=PATH" for t in towers))
        out[tower] = source
    return out
