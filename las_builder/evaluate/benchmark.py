"""The tiles of a benchmark: pictures and truth, from the publisher's folder or the LAS release's LMDB."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from las_builder.access import lmdb
from las_builder.access.imports import ImportedFolder
from las_builder.access.listing import parts_of
from las_builder.access.maps import codes_of
from las_builder.access.protocol import LabelRequest, ReadRequest
from las_builder.catalogs import AnnotatedSet, Catalogs, Imagery, LabelProduct
from las_builder.catalogs.models import Scored
from las_builder.core.grid import Grid
from las_builder.core.types import IGNORE, Gap, Scene, Split
from las_builder.errors import InputError
from las_builder.models.config import Level
from las_builder.models.inputs import DISPLAY_WAVELENGTHS
from las_builder.train.data import level_of, usable


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """One picture with its truth."""

    name: str
    image: NDArray[np.float32]
    """(band, y, x): reflectance, or 0-1 for display; NaN outside the picture."""

    truth: NDArray[np.uint8]
    """(y, x) class index; 255 where nothing is scored."""

    rgb: tuple[int, int, int]
    """Bands to look at it by."""

    grid: Grid | None = None
    """Where it is; None, or one without a CRS: its files do not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a model is asked on a benchmark."""

    name: str
    title: str
    scored: Scored
    declared: AnnotatedSet
    product: LabelProduct
    imagery: Imagery
    order: tuple[str | None, ...]
    """Bands of its files, in their order; None: one that is never read."""

    bands: tuple[str, ...]
    """Those that a model is given: with a wavelength, or a colour that stands for one."""

    wavelengths: tuple[float, ...]
    """Micrometres, of `bands`."""

    level: Level

    @classmethod
    def of(cls, name: str, catalogs: Catalogs) -> Task:
        """Of the benchmark of this name.

        Raises:
            UnknownNameError: Nothing declares it.
            CatalogError: Its declaration is wrong, or says nothing of scores.
        """
        scored, declared, product = catalogs.scored(name, where="las evaluate")
        imagery = declared.imagery()
        order = tuple(band for file in declared.images.files for band in file.bands)
        known = [
            band.name for band in imagery.bands
            if band.center_wavelength or band.common_name in DISPLAY_WAVELENGTHS
        ]  # fmt: skip
        read = [band for band in order if band in known]
        places, waves = usable(imagery, [band for band in read if band is not None])
        return cls(
            name=name, title=catalogs.benchmark(name).title, scored=scored, declared=declared,
            product=product, imagery=imagery, order=order,
            bands=tuple(str(read[i]) for i in places), wavelengths=waves, level=level_of(imagery),
        )  # fmt: skip

    @property
    def classes(self) -> tuple[tuple[str, ...], ...]:
        """Names of each class, the usual one first, by class index."""
        return tuple(tuple(names) for _, names in sorted(self.scored.prompts.items()))

    @property
    def codes(self) -> tuple[int, ...]:
        """Of the legend, by class index."""
        return tuple(sorted(self.scored.prompts))

    @property
    def means(self) -> tuple[tuple[str, ...], ...]:
        """Ontology nodes of each class, by class index; none where it is no cover (a car)."""
        by_code = {entry.value: tuple(entry.means) for entry in self.product.classes}
        return tuple(by_code[code] for code in self.codes)

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Places in `bands` of those nearest to red, green and blue."""
        away = [[abs(wave - colour) for wave in self.wavelengths] for colour in (0.665, 0.56, 0.49)]
        red, green, blue = (row.index(min(row)) for row in away)
        return red, green, blue

    @property
    def splits(self) -> frozenset[str]:
        """That the layout tells apart, as far as it is declared."""
        rule = self.declared.splits
        return frozenset(
            split for split in (rule.all, *(rule.lists or {}), *rule.names.values()) if split
        )

    def area(self, name: str) -> tuple[str, ...] | None:
        """The area that a tile of this name is of; None: names do not say."""
        parts = parts_of(self.declared, name) if self.scored.area else {}
        return tuple(parts[part] for part in self.scored.area) if parts else None

    def physical(self, numbers: NDArray[Any]) -> NDArray[np.float32]:
        """Numbers of `bands`, (band, y, x), as a model takes them."""
        if self.level == "display":
            low, high = self.imagery.stretch
            return ((numbers.astype(np.float32) - low) / (high - low)).astype(np.float32)
        bands = [self.imagery.band(name) for name in self.bands]
        scale, offset = (
            np.array([getattr(b, k) for b in bands], np.float32) for k in ("scale", "offset")
        )
        return np.asarray(numbers * scale[:, None, None] + offset[:, None, None], np.float32)

    def indices(self, codes: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Codes of the legend as class indices; what is not scored as 255."""
        table = np.full(int(max(self.product.nodata, *self.product.codes)) + 1, IGNORE, np.uint8)
        table[list(self.codes)] = np.arange(len(self.codes))
        return np.asarray(table[codes])


class Tiles(Protocol):
    """The tiles of a user's copy, read one at a time."""

    @property
    def names(self) -> list[str]:
        """Of all, in order."""
        ...

    def read(self, i: int) -> Tile:
        """One of them.

        Raises:
            InputError: It is damaged, of other bands, or holds codes that the legend does not list.
        """
        ...


def tiles_of(task: Task, folder: Path) -> Tiles:
    """The tiles in a folder: `data.mdb` or `<name>_lmdb` in it make it the LAS release's.

    Raises:
        SourceError: There is no such folder; says how to get a copy.
        ImportFolderError: It is not laid out as its publisher does; files are missing.
        InputError: An LMDB that is cut off, or of other records.
    """
    release = task.scored.lmdb
    for place in (folder, *([folder / release.file] if release else [])):
        if (place / "data.mdb").exists():
            return _Release.opened(task, place)
    return FolderTiles(
        task, ImportedFolder(task.declared, str(folder), 1, only=frozenset([task.scored.split]))
    )


def training_of(task: Task, folder: Path, split: Split) -> FolderTiles:
    """Tiles of a publisher's folder that are not scored: of train, or val where that is not.

    Raises:
        InputError: All that the benchmark has is scored; or the copy holds the release's tiles alone.
        SourceError: There is no such folder; says how to get a copy.
        ImportFolderError: As of `tiles_of`.
    """
    if split not in task.splits - {task.scored.split}:
        raise InputError(
            task.name, "split", f"only {task.scored.split}, which is scored",
            f"a benchmark that has {split} beside it", "Nothing can be learnt there.",
        )  # fmt: skip
    release = task.scored.lmdb
    if (folder / "data.mdb").exists() or (
        release is not None
        and (folder / release.file / "data.mdb").exists()
        and not any(path.name != release.file for path in folder.iterdir())
    ):
        raise InputError(
            folder, split, "the LMDB of the release, which holds what is scored alone",
            f"the folder of {task.title} as its publisher laid it out", task.declared.obtain,
        )  # fmt: skip
    return FolderTiles(task, ImportedFolder(task.declared, str(folder), 1, only=frozenset([split])))


@dataclass(frozen=True)
class FolderTiles:
    """As the publisher lays it out. Windows of one pixel: a picture is whole whatever its size."""

    task: Task
    access: ImportedFolder

    @cached_property
    def _scenes(self) -> list[Scene]:
        self.access.tiles()  # every header is looked at before the first picture is asked for
        return sorted(self.access.sites(self.task.imagery, []) or [], key=lambda one: one.id)

    @property
    def names(self) -> list[str]:
        """Of all, in order."""
        return [scene.id for scene in self._scenes]

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Rows and columns of each."""
        return [self._grid(scene).shape for scene in self._scenes]

    def read(self, i: int) -> Tile:
        """One of them, whole."""
        return self._cut(self._scenes[i], self._grid(self._scenes[i]))

    def part(self, i: int, row: int, column: int, side: int) -> Tile:
        """A square of a tile; beyond the tile there is neither picture nor truth."""
        grid = self._grid(self._scenes[i])
        moved = grid.transform @ Affine.translation(column, row)
        return self._cut(self._scenes[i], Grid(grid.crs, moved, side, side))

    @staticmethod
    def _grid(scene: Scene) -> Grid:
        if scene.grid is None:
            raise ValueError(f"{scene.id} without a grid")
        return scene.grid

    def _cut(self, scene: Scene, grid: Grid) -> Tile:
        task = self.task
        asked = ReadRequest(site=scene.id, scene=scene, grid=grid, bands=task.bands)
        [chip] = self.access.read(task.imagery, [asked])
        [label] = self.access.labels(
            task.product, [LabelRequest(site=scene.id, grid=grid, scene=scene)]
        )
        shape = (len(task.bands), *grid.shape)
        if isinstance(chip, Gap) or isinstance(label, Gap):  # nothing but nodata
            return Tile(
                scene.id,
                np.full(shape, np.nan, np.float32),
                np.full(shape[1:], IGNORE, np.uint8),
                task.rgb,
                grid,
            )
        image = task.physical(chip.data)
        image[:, ~chip.inside] = np.nan
        return Tile(
            scene.id,
            image,
            np.where(chip.inside, task.indices(label.codes), IGNORE).astype(np.uint8),
            task.rgb,
            grid,
        )


@dataclass(frozen=True)
class _Release:
    """An LMDB of LAS: `<image>_<i>` and `<label>_<i>`."""

    task: Task
    path: Path
    images: lmdb.Records
    labels: lmdb.Records

    @classmethod
    def opened(cls, task: Task, path: Path) -> _Release:
        counts, said = lmdb.kinds(path), task.scored.lmdb
        image, label = (said.image, said.label) if said else (None, None)
        if image is None or label is None:
            sides = {kind: len(lmdb.shape_of(path, kind)) for kind in counts}
            three = [kind for kind, n in sides.items() if n == 3]
            two = [kind for kind, n in sides.items() if n == 2]
            if len(three) != 1 or len(two) != 1:
                raise InputError(
                    path, "keys", f"images {three}, labels {two}", "one kind of each",
                    f"Name them in catalogs/benchmarks/{task.name}.yaml: scored.lmdb.image, label.",
                )  # fmt: skip
            [image], [label] = three, two
        for kind in (image, label):
            if counts.get(kind, 0) != counts.get(image) or kind not in counts:
                raise InputError(
                    path, "keys", counts, f"as many {label}_<i> as {image}_<i>", "Unpack it again."
                )
        return cls(
            task, path, lmdb.Records(path, image, task.declared.images.data_type),
            lmdb.Records(path, label, task.declared.masks.data_type),
        )  # fmt: skip

    @cached_property
    def names(self) -> list[str]:
        return [f"{self.labels.kind}_{i}" for i in range(len(self.labels))]

    def read(self, i: int) -> Tile:
        task, record, label = self.task, self.images.read(i), self.labels.read(i)
        data, count = record.data, len(task.order)
        if data.ndim == 3 and data.shape[0] != count and data.shape[2] == count:
            data = data.transpose(2, 0, 1)
        if data.ndim != 3 or data.shape[0] != count or data.shape[1:] != label.data.shape:
            raise InputError(
                self.path, record.key, f"{record.data.shape}, its label {label.data.shape}",
                f"{count} bands of {task.declared.title}, and a label of the same size",
                "Bands are those of its declaration, in that order.",
            )  # fmt: skip
        codes = codes_of(label.data, None, task.product, f"{self.path}: {label.key}")
        nodata = task.imagery.nodata
        empty = np.zeros(codes.shape, bool) if nodata is None else (data == nodata).all(axis=0)
        image = task.physical(data[[task.order.index(name) for name in task.bands]])
        image[:, empty] = np.nan
        truth = np.where(empty, IGNORE, task.indices(codes)).astype(np.uint8)
        return Tile(f"{self.labels.kind}_{i}", image, truth, task.rgb)
