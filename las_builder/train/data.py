"""Shards as samples that a model takes, and samples as batches.

The model is given reflectance (or 0-1 for display), wavelengths in micrometres and a level. That
much is decided here, from the declarations; nothing is normalised (the model does that itself).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from las_builder.catalogs import Imagery, Ontology
from las_builder.core.types import IGNORE, NO_CONFIDENCE
from las_builder.errors import InputError
from las_builder.models.config import Level
from las_builder.models.inputs import DISPLAY_WAVELENGTHS, LONGEST, SHORTEST
from las_builder.pack import Decoded, Entry, Shards, SubsetInfo, reflectance
from las_builder.train.augment import Asked, Name, asked, cut, everything
from las_builder.train.config import TrainConfig
from las_builder.train.schedule import SAMPLE, Schedule, stream


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """One sample."""

    key: str
    image: NDArray[np.float32]
    """(band, y, x): reflectance, or 0-1 for display."""

    label: NDArray[np.uint8]
    """(y, x) class index; 255 where nothing is said or the surface was not seen."""

    weight: NDArray[np.float32]
    """(y, x), 0-1: the confidence of the label; 1 where none is stated."""


class Source(Protocol):
    """The samples of one subset."""

    @property
    def name(self) -> str:
        """The subset's."""
        ...

    @property
    def wavelengths(self) -> tuple[float, ...]:
        """Micrometres, of the bands of every image."""
        ...

    @property
    def level(self) -> Level:
        """What the numbers of the images are."""
        ...

    @property
    def classes(self) -> tuple[Name, ...]:
        """By class index."""
        ...

    @property
    def colours(self) -> tuple[str, ...]:
        """Of the classes, RRGGBB."""
        ...

    @property
    def products(self) -> tuple[str, ...]:
        """Names of the label products, or of the annotated set, that the labels are from."""
        ...

    def count(self, split: str) -> int:
        """Samples of a split."""
        ...

    def read(self, split: str, index: int) -> Patch:
        """One of them; from any thread."""
        ...


def level_of(imagery: Imagery) -> Level:
    """What the physical values of an imagery source are."""
    return imagery.level or ("display" if imagery.data_type == "uint8" else "surface")


def usable(imagery: Imagery, bands: Sequence[str]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Which bands a model can take, and their wavelengths.

    Thermal and radar bands hold no reflectance and are left out. Bands of photographs whose
    camera is not declared have the wavelengths of their colour (`inputs.DISPLAY_WAVELENGTHS`).

    Raises:
        InputError: A band with neither a wavelength nor a colour, or none that can be taken.
    """
    places, waves = [], []
    for place, name in enumerate(bands):
        band = imagery.band(name)
        wave = band.center_wavelength or DISPLAY_WAVELENGTHS.get(band.common_name or "")
        if wave is None:
            raise InputError(
                imagery.name, f"bands.{name}.eo:center_wavelength", None, "micrometres",
                f"Or an eo:common_name among {', '.join(DISPLAY_WAVELENGTHS)}.",
            )  # fmt: skip
        if SHORTEST <= wave <= LONGEST:
            places.append(place)
            waves.append(wave)
    if not places:
        raise InputError(imagery.name, "bands", list(bands), "a band of 0.3 to 3 micrometres")
    return tuple(places), tuple(waves)


class ShardSource:
    """The packed samples of one subset.

    Args:
        info: Its declarations.
        shards: Of the corpus; entries of other subsets are passed over.
        cache_mib: Decoded samples that are kept in memory.

    Raises:
        InputError: Bands that no model can take.
    """

    def __init__(self, info: SubsetInfo, shards: Shards, cache_mib: int = 0) -> None:
        self.info, self.shards = info, shards
        self._places, self.wavelengths = usable(info.imagery, info.bands)
        self.level = level_of(info.imagery)
        self.classes = names_of(info)
        self.colours = tuple(entry.color_hint for entry in info.taxonomy.classes)
        self.products = tuple(product.name for product in info.products)
        self._entries: dict[str, list[Entry]] = {}
        for entry in sorted(shards.entries, key=lambda e: e.key):
            if entry.subset == info.name:
                self._entries.setdefault(entry.split, []).append(entry)
        self._room, self._kept = cache_mib * 2**20, dict[str, Decoded]()
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The subset's."""
        return self.info.name

    def count(self, split: str) -> int:
        """Samples of a split."""
        return len(self._entries.get(split, ()))

    def read(self, split: str, index: int) -> Patch:
        """One sample.

        Raises:
            InputError: Its bands or classes are not those of the subset.
        """
        entry = self._entries[split][index]
        sample = self._kept.get(entry.key) or self._decoded(entry)
        values = reflectance(sample)[list(self._places)]
        if self.level == "display":
            low, high = self.info.imagery.stretch
            values = (values - np.float32(low)) / np.float32(high - low)
        label = np.where(sample.valid, sample.label, np.uint8(IGNORE))
        weight: NDArray[np.float32] = sample.confidence.astype(np.float32) / np.float32(100)
        weight[sample.confidence == NO_CONFIDENCE] = 1
        return Patch(entry.key, values, label, weight)

    def _decoded(self, entry: Entry) -> Decoded:
        sample = self.shards.read(entry)
        where = f"{self.shards.folder / entry.shard}: {entry.key}"
        if sample.bands != self.info.bands:
            raise InputError(
                where, "bands", ", ".join(sample.bands), ", ".join(self.info.bands),
                "The shards are of another recipe: pack again.",
            )  # fmt: skip
        classes = [entry.name for entry in self.info.taxonomy.classes]
        if sample.metadata["classes"] != classes:
            raise InputError(
                where, "classes", ", ".join(sample.metadata["classes"]), ", ".join(classes),
                "The shards are of another recipe: pack again.",
            )  # fmt: skip
        with self._lock:
            if self._room > 0:
                self._room -= sample.image.nbytes + 3 * sample.label.nbytes
                self._kept[entry.key] = sample
        return sample


def names_of(info: SubsetInfo) -> tuple[Name, ...]:
    """The classes of a subset and the nodes that each is nearest to.

    Those of a taxonomy: its whole branches if it takes in any, else all members; of a native legend:
    the node that the product's declaration names, else all that the code can mean.
    """
    codes = {entry.name: entry for product in info.products for entry in product.classes}
    out = []
    for entry in info.taxonomy.classes:
        nodes = entry.members
        code = codes.get(entry.name)
        if not nodes and code is not None:
            nodes = [code.node] if code.node else code.means
        whole = [node for node in nodes if "." not in node]
        out.append(Name(tuple(entry.prompts), tuple(whole or nodes)))
    return tuple(out)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Samples of one subset, ready for the model."""

    subset: int
    keys: tuple[str, ...]
    image: Tensor
    """(sample, band, y, x), float32."""

    label: Tensor
    """(sample, y, x), int64, 255 = ignore."""

    weight: Tensor
    """(sample, y, x), float32, 0 where the label is ignored."""

    wavelengths: tuple[float, ...]
    level: Level
    classes: tuple[Name, ...]


def assemble(
    source: Source, which: int, asked: Asked, patches: Sequence[Patch], *, confidence: bool = True
) -> Batch:
    """Patches of one subset as one batch.

    Raises:
        InputError: Patches of different bands or sizes.
    """
    first = patches[0]
    for patch in patches:
        if patch.image.shape != first.image.shape:
            raise InputError(
                source.name, "image", f"{patch.key}: {patch.image.shape}",
                f"the (band, y, x) of {first.key}: {first.image.shape}",
                "One batch has one number of bands and one size.",
            )  # fmt: skip
    bands = list(asked.bands)
    label = asked.table[np.stack([patch.label for patch in patches])]
    weight = np.stack([patch.weight for patch in patches])
    if not confidence:
        weight = np.ones_like(weight)
    return Batch(
        which,
        tuple(patch.key for patch in patches),
        torch.from_numpy(np.stack([patch.image[bands] for patch in patches])),
        torch.from_numpy(label.astype(np.int64)),
        torch.from_numpy(np.where(label == IGNORE, np.float32(0), weight)),
        tuple(source.wavelengths[i] for i in bands),
        source.level,
        asked.classes,
    )


def step_batches(
    sources: Sequence[Source],
    schedule: Schedule,
    config: TrainConfig,
    ontology: Ontology,
    step: int,
    rank: int = 0,
    world: int = 1,
) -> list[Callable[[], Batch]]:
    """The batches of a step on one device, `config.accumulate` of them, not yet read.

    Whatever is drawn depends on seed, step and the sample's place in the step, so that one device
    with two batches a step sees what two devices with one batch see.
    """
    which = schedule.subset(step)
    source = sources[which]
    asks = asked(config, step, len(source.wavelengths), source.classes, ontology)
    samples = list(enumerate(schedule.samples(step)))

    def batch(first: int) -> Batch:
        patches = []
        for place, index in samples[first : first + config.batch]:
            patch = source.read("train", index)
            chance = stream(config.seed, SAMPLE, step, place)
            patches.append(
                Patch(patch.key, *cut(patch.image, patch.label, patch.weight, config, chance))
            )
        return assemble(source, which, asks, patches, confidence=config.confidence)

    firsts = [(turn * world + rank) * config.batch for turn in range(config.accumulate)]
    return [lambda first=first: batch(first) for first in firsts]  # type: ignore[misc]


def whole_batches(source: Source, which: int, split: str, limit: int, size: int) -> Iterator[Batch]:
    """Samples of a split as they are, evenly chosen if there are more than the limit."""
    count = source.count(split)
    picked = np.unique(np.linspace(0, count - 1, min(count, limit)).round().astype(int)).tolist()
    asks = everything(len(source.wavelengths), source.classes)
    for first in range(0, len(picked), size):
        patches = [source.read(split, index) for index in picked[first : first + size]]
        yield assemble(source, which, asks, patches)


def ahead(
    work: Iterator[Callable[[], Batch]], workers: int, device: torch.device
) -> Generator[Batch]:
    """The results of some work in its order, done by threads before it is asked for.

    Args:
        work: Calls, without end or with one.
        workers: Threads; 0: each call is made when its result is asked for.
        device: Where the tensors go.
    """
    if workers == 0:
        for call in work:
            yield _on(call(), device)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="las-train") as pool:
        waiting: deque[Future[Batch]] = deque()
        try:
            for call in work:
                waiting.append(pool.submit(call))
                if len(waiting) > 2 * workers:
                    yield _on(waiting.popleft().result(), device)
            while waiting:
                yield _on(waiting.popleft().result(), device)
        finally:
            for future in waiting:
                future.cancel()


def _on(batch: Batch, device: torch.device) -> Batch:
    if device.type == "cpu":
        return batch
    image, label, weight = (
        x.pin_memory().to(device, non_blocking=True)
        for x in (batch.image, batch.label, batch.weight)
    )
    return Batch(
        batch.subset, batch.keys, image, label, weight, batch.wavelengths, batch.level,
        batch.classes,
    )  # fmt: skip
