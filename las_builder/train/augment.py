"""What a step asks of its subset, and how its samples are cut and turned."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from las_builder.catalogs import Ontology
from las_builder.core.types import IGNORE
from las_builder.train.config import TrainConfig
from las_builder.train.schedule import STEP, stream

S = TypeVar("S", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Name:
    """A class as the model is asked for it."""

    names: tuple[str, ...]
    """The usual one first."""

    nodes: tuple[str, ...]
    """Of the ontology, that it means."""


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What all samples of a step share: bands and classes."""

    bands: tuple[int, ...]
    """Of the subset's, in its order."""

    classes: tuple[Name, ...]
    table: NDArray[np.uint8]
    """(256,): class index of the subset to that among `classes`; 255 where it is not asked for."""


def everything(bands: int, classes: Sequence[Name]) -> Asked:
    """All bands and classes as they are."""
    table = np.full(256, IGNORE, np.uint8)
    table[: len(classes)] = np.arange(len(classes))
    return Asked(tuple(range(bands)), tuple(classes), table)


def asked(
    config: TrainConfig, step: int, bands: int, classes: Sequence[Name], ontology: Ontology
) -> Asked:
    """What a step asks: some bands, some classes, some of them merged.

    Args:
        config: Of the run.
        step: Decides everything, with the seed.
        bands: Of the subset.
        classes: Of the subset.
        ontology: That merges.
    """
    chance = stream(config.seed, STEP, step)
    kept = tuple(range(bands))
    if bands > config.keep_bands and chance.random() < config.drop_bands:
        count = int(chance.integers(config.keep_bands, bands))
        kept = tuple(sorted(chance.choice(bands, count, replace=False).tolist()))
    groups: list[tuple[Name, tuple[int, ...]]] = [(name, (i,)) for i, name in enumerate(classes)]
    if chance.random() < config.merge_classes:
        groups = merged(classes, int(chance.integers(1, 3)), ontology)
    stays = chance.random(len(groups)) >= config.drop_classes
    if stays.sum() < 2:  # a softmax over one class says nothing
        stays[:] = True
    table = np.full(256, IGNORE, np.uint8)
    chosen = [group for group, stay in zip(groups, stays, strict=True) if stay]
    for index, (_, members) in enumerate(chosen):
        table[list(members)] = index
    return Asked(kept, tuple(name for name, _ in chosen), table)


def merged(
    classes: Sequence[Name], level: int, ontology: Ontology
) -> list[tuple[Name, tuple[int, ...]]]:
    """Classes of one node of a level (1 is the highest) as one class of that node's name.

    A class that lies across nodes, or above the level, stays as it is; so does everything if a
    node's name is already that of a class that stays.

    Returns:
        Of each class that there is then, its name and the indices that it is made of.
    """
    home: dict[str, list[int]] = {}
    for i, one in enumerate(classes):
        above = {".".join(node.split(".")[:level]) for node in one.nodes}
        deep = all(node.count(".") >= level - 1 for node in one.nodes)
        key = above.pop() if deep and len(above) == 1 else f"class {i}"
        home.setdefault(key, []).append(i)
    out = [
        (classes[members[0]], tuple(members))
        if len(members) == 1
        else (Name(titles(ontology.by_id[node].title), (node,)), tuple(members))
        for node, members in home.items()
    ]
    usual = [name.names[0].casefold() for name, _ in out]
    if len(set(usual)) < len(usual) or len(out) < 2:
        return [(name, (i,)) for i, name in enumerate(classes)]
    return out


def titles(title: str) -> tuple[str, ...]:
    """The names that a node's title lists: "Grassland / herbaceous" are two."""
    parts = (part.strip().lower() for part in re.split(r"[/,]", re.sub(r"\(.*?\)", "", title)))
    return tuple(dict.fromkeys(part for part in parts if part))


def cut(
    image: NDArray[np.float32],
    label: NDArray[np.uint8],
    weight: NDArray[np.float32],
    config: TrainConfig,
    chance: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32]]:
    """A random square of a patch, enlarged or reduced, turned.

    Args:
        image: (band, y, x).
        label: (y, x).
        weight: (y, x).
        config: crop, scale, flips.
        chance: Of this sample.

    Returns:
        The same, with sides of `config.crop` or of the whole patch if that is smaller.
    """
    height, width = label.shape
    side = min(config.crop, height, width)
    low, high = np.log(config.scale)
    factor = float(np.exp(chance.uniform(low, high)))
    window = int(np.clip(round(side / factor), 8, min(height, width)))
    top = int(chance.integers(height - window + 1))
    left = int(chance.integers(width - window + 1))
    here = np.s_[..., top : top + window, left : left + window]
    image, label, weight = image[here], label[here], weight[here]
    if window != side:
        image = F.interpolate(
            torch.from_numpy(np.ascontiguousarray(image))[None], size=(side, side), mode="bilinear",
            align_corners=False, antialias=window > side,
        )[0].numpy()  # fmt: skip
        nearest = ((np.arange(side) + 0.5) * window / side).astype(np.int64)
        label, weight = (x[nearest[:, None], nearest] for x in (label, weight))
    if config.flips:
        turns, mirrored = int(chance.integers(4)), bool(chance.random() < 0.5)
        image, label, weight = (
            _laid(image, turns, mirrored=mirrored),
            _laid(label, turns, mirrored=mirrored),
            _laid(weight, turns, mirrored=mirrored),
        )
    return image, label, weight


def _laid(array: NDArray[S], turns: int, *, mirrored: bool) -> NDArray[S]:
    return np.rot90(array[..., ::-1] if mirrored else array, turns, axes=(-2, -1))
