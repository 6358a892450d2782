"""What the references and the tests both need: inputs, and state dicts that a seed and the shapes determine: the same here and where the references ran."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch

SEED = 20260
TEXTS = [
    "a satellite photo of water.",
    "tree cover",
    "Built-up area (30 % impervious)",
    "farmer's field, 2021",
    "bare ground &amp; rock",
    "vignes et oliveraies près de Nîmes",
    "NDVI_0.5-0.7",
    "  snow   and\tice ",
    "x" * 400,
]
BANDS = {
    "s2": [0.665, 0.56, 0.49, 0.705, 0.74, 0.783, 0.842, 1.61, 2.19],
    "rgb": [0.665, 0.56, 0.49],
}


def tensors(shapes: Mapping[str, Sequence[int]], seed: int) -> dict[str, torch.Tensor]:
    """Tensors of these shapes, of a size that keeps activations near one.

    Each depends on its own name and the seed only. NumPy promises that the stream of RandomState
    never changes.
    """
    return {key: _draw(key, tuple(shape), seed) for key, shape in shapes.items()}


def _draw(key: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    numbers = np.random.RandomState((zlib.crc32(key.encode()) + seed) % 2**32)
    values = numbers.standard_normal(shape)
    tables = ("token_embedding.weight", "tokens.weight", "token.weight")
    if len(shape) >= 2 and key.endswith("weight") and not key.endswith(tables):
        values /= np.sqrt(np.prod(shape[1:]))
    elif key.endswith("weight") and len(shape) == 1:  # of a norm
        values = 1 + 0.1 * values
    else:
        values *= 0.3
    return torch.tensor(values, dtype=torch.float32)


def pixels(shape: Sequence[int], seed: int) -> torch.Tensor:
    """uint8 pixels with structure at several scales."""
    numbers = np.random.RandomState(seed)
    *lead, height, width = shape
    y, x = np.mgrid[:height, :width]
    waves = sum(
        np.sin(numbers.uniform(0.05, 1, (*lead, 1, 1)) * (y + numbers.uniform(-1, 1) * x) + i)
        for i in range(3)
    )
    noise = numbers.standard_normal(tuple(shape))
    return torch.tensor(np.clip(128 + 30 * waves + 20 * noise, 0, 255), dtype=torch.uint8)
