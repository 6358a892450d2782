"""Pixels of scenes as they are stored.

What can be had without resampling is asked for on the patch itself, all bands at once; all else in the
image's own pixels, to be averaged or warped here as the pixels of any file are.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from las_builder.access import raster
from las_builder.access.cloudmask import with_masks
from las_builder.access.composite import composed
from las_builder.access.earth_engine import client
from las_builder.access.earth_engine.composites import easy_members, read_composites
from las_builder.access.earth_engine.scene_bands import Image, image_of
from las_builder.access.earth_engine.sizes import Piece
from las_builder.access.protocol import ReadRequest
from las_builder.access.raster import Pixels, Place
from las_builder.access.read import chip_of
from las_builder.access.together import together
from las_builder.catalogs import Imagery
from las_builder.catalogs.earth_engine import EarthEngineService
from las_builder.core.grid import Grid
from las_builder.core.types import Chip, Gap
from las_builder.errors import AccessError


@dataclass(slots=True)
class _Windows:
    """Bands of an image that share pixels, fetched together, in the image's own pixels."""

    image: Image
    names: tuple[str, ...]
    grid: Grid
    last: tuple[Hashable, dict[str, tuple[NDArray[np.generic], NDArray[np.bool_]]]] | None = None

    def read(
        self, name: str, rows: tuple[int, int], cols: tuple[int, int]
    ) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        """Numbers and validity of one of them."""
        key = rows, cols
        if self.last is None or self.last[0] != key:
            piece = Piece(self.grid, (), rows, cols)
            self.last = key, self.image.fetch(piece.place, self.names)
        return self.last[1][name]


@dataclass(frozen=True, slots=True)
class _Band:
    """One of them, as `raster` knows sources."""

    windows: _Windows
    name: str

    @property
    def place(self) -> Place:
        """See `raster.Source`."""
        grid = self.windows.grid
        return Place(str(grid.crs), grid.transform, grid.height, grid.width, grid)

    def read(
        self, rows: tuple[int, int], cols: tuple[int, int]
    ) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        """See `raster.Source`."""
        return self.windows.read(self.name, rows, cols)


def read_images(
    service: EarthEngineService, imagery: Imagery, requests: Sequence[ReadRequest]
) -> list[Chip | Gap]:
    """See `Access.read`: requests of one image on one grid are one request to the service.

    Raises:
        StacError: A scene lacks a band.
        AccessError: The service failed.
    """
    read = with_masks(partial(_read_images, service), imagery)
    return read(imagery, requests)


def _read_images(
    service: EarthEngineService, imagery: Imagery, requests: Sequence[ReadRequest]
) -> list[Chip | Gap]:
    groups: dict[tuple[str, Grid], list[int]] = {}
    for i, request in enumerate(requests):
        groups.setdefault((request.scene.id, request.grid), []).append(i)
    jobs: dict[int, Callable[[], list[Chip | Gap]]] = {}
    here: list[int] = []
    for k, group in enumerate(groups.values()):
        first = requests[group[0]]
        if not first.scene.members:
            jobs[k] = partial(_group, service, imagery, [requests[i] for i in group])
        elif (members := easy_members(service, imagery, first)) is not None:
            jobs[k] = partial(
                read_composites, service, imagery, [requests[i] for i in group], members
            )
        else:
            here.append(k)  # composed of reads that go side by side themselves
    answers = dict(zip(jobs, together(list(jobs.values())), strict=True))
    out: dict[int, Chip | Gap] = {}
    for k, group in enumerate(groups.values()):
        if k in here:
            asked = [requests[i] for i in group]
            answers[k] = composed(partial(_read_images, service), imagery, asked)
        out.update(zip(group, answers[k], strict=True))
    return [out[i] for i in range(len(requests))]


def _group(
    service: EarthEngineService, imagery: Imagery, requests: Sequence[ReadRequest]
) -> list[Chip | Gap]:
    names = list(dict.fromkeys(name for request in requests for name in request.bands))
    image, grid = image_of(service, imagery, requests[0].scene, names), requests[0].grid
    layers = _layers(image, grid, names)
    return [chip_of(request, [layers[name] for name in request.bands]) for request in requests]


def _layers(image: Image, grid: Grid, names: Sequence[str]) -> dict[str, Pixels]:
    fills = {
        name: raster.fill_of(image.nodata(name), None, image.kind(name)) for name in names
    }  # fmt: skip
    easy = [
        name for name in names
        if raster.repeats(grid, image.own(name), categorical=image.categorical(name))
    ]  # fmt: skip
    out: dict[str, Pixels] = {}
    for name, (data, inside) in (image.fetch(grid, easy) if easy else {}).items():
        out[name] = _pixels(data, inside, image, name, fills[name])
    together_: dict[Grid, list[str]] = {}
    for name in names:
        if name not in out:
            together_.setdefault(image.own(name), []).append(name)
    for own, shared in together_.items():
        windows = _Windows(image, tuple(shared), own)
        for name in shared:
            qa = image.categorical(name)
            out[name] = raster.put_on(
                grid, _Band(windows, name), categorical=qa,
                dtype=image.kind(name), fill=fills[name],
            )  # fmt: skip
    return out


def _pixels(
    data: NDArray[np.generic], inside: NDArray[np.bool_], image: Image, name: str, fill: float
) -> Pixels:
    kind = data.dtype if image.categorical(name) else image.imagery.dtype
    if not np.can_cast(data.dtype, kind, "safe"):
        raise AccessError(
            client.NAME,
            image.places[name][0],
            f"{name} is {data.dtype}, declared {kind}",
            kind="changed",
        )
    data = data.astype(kind)
    data[~inside] = fill
    return Pixels(data, inside, False)
