"""Subsets made on the spot: fields of colours whose classes a small model learns in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from las_builder.train.augment import Name
from las_builder.train.config import TrainConfig
from las_builder.train.data import Patch

COLOURS = np.array([[0.05, 0.06, 0.03], [0.04, 0.08, 0.35], [0.25, 0.22, 0.2]], np.float32)


@dataclass
class Fields:
    """Squares of 8 pixels, each of one class; a share of the labels of train is wrong."""

    name: str = "fields"
    wavelengths: tuple[float, ...] = (0.49, 0.56, 0.842)
    level: str = "surface"
    classes: tuple[Name, ...] = (
        Name(("water", "lake"), ("water",)),
        Name(("tree cover", "forest"), ("tree",)),
        Name(("bare ground",), ("bare",)),
    )
    colours: tuple[str, ...] = ("0064C8", "006400", "B4B4B4")
    products: tuple[str, ...] = ("drawn-by-hand",)
    counts: tuple[int, int] = (24, 6)
    side: int = 32
    wrong: float = 0.0
    seed: int = 0
    spoilt: str = ""
    """Key of a sample whose weights are no numbers."""

    def count(self, split: str) -> int:
        return {"train": self.counts[0], "val": self.counts[1]}.get(split, 0)

    def truth(self, split: str, index: int) -> np.ndarray:
        chance = np.random.default_rng([self.seed, split == "val", index])
        squares = chance.integers(0, len(self.classes), (self.side // 8, self.side // 8))
        return np.kron(squares, np.ones((8, 8), int)).astype(np.uint8)

    def read(self, split: str, index: int) -> Patch:
        truth = self.truth(split, index)
        chance = np.random.default_rng([self.seed, 7, split == "val", index])
        image = COLOURS[truth][..., : len(self.wavelengths)].transpose(2, 0, 1)
        image = image + chance.normal(0, 0.01, image.shape).astype(np.float32)
        label = truth.copy()
        flipped = chance.random(label.shape) < self.wrong
        label[flipped] = chance.integers(0, len(self.classes), int(flipped.sum()))
        key = f"{split}-{index}"
        weight = np.full(label.shape, np.nan if key == self.spoilt else 1.0, np.float32)
        return Patch(key, image.astype(np.float32), label, weight)


TINY: dict[str, Any] = {
    "hiera": {"embed": 8, "blocks": (1, 1, 2, 1), "global_blocks": (3,)},
    "spectral": {"dim": 16, "depth": 1, "heads": 2, "waves": 16, "tokens": 2, "feedforward": 16},
    "frequency": 4, "width": 32, "decoder_hidden": 32, "decoder_blocks": 1, "zoom": 1,
}  # fmt: skip


def quick(**changes: Any) -> TrainConfig:
    """A run of seconds."""
    said: dict[str, Any] = {
        "size": "nano", "model": TINY, "steps": 12, "batch": 4, "crop": 32, "lr": 3e-3, "warmup": 3,
        "ema": 0.9, "log_every": 2, "save_every": 4, "look_every": 6, "look_samples": 4,
        "workers": 0, "deterministic": False,
    }  # fmt: skip
    return TrainConfig(**{**said, **changes})
