"""Bands of one scene: where they are, what they hold, and their pixels without resampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from las_builder.access.earth_engine import client
from las_builder.access.earth_engine.asking import INSIDE, computed, stored, with_mask
from las_builder.access.earth_engine.images import place_of
from las_builder.access.earth_engine.sizes import Piece, in_pieces
from las_builder.catalogs import Imagery, Where
from las_builder.catalogs.earth_engine import EarthEngineService
from las_builder.core.grid import Grid
from las_builder.core.types import AssetRef, Scene
from las_builder.errors import StacError

QA_KIND = np.dtype("uint16")
"""The widest type of a QA band that is declared."""

SCORE_KIND = np.dtype("float64")
"""The widest type of a score."""


@dataclass(frozen=True, slots=True)
class Image:
    """Bands of one scene, by our names."""

    service: EarthEngineService
    imagery: Imagery
    where: Where
    scene: Scene
    places: dict[str, tuple[str, str]]
    """Our names of bands to image and band of theirs."""

    def silent(self, name: str) -> bool:
        """Whether 0, as which a masked pixel comes, says that there is nothing."""
        return self.nodata(name) == 0 or name in self.where.unused_zero

    def nodata(self, name: str) -> float | None:
        """The declared one of a band."""
        return self.imagery.validity.nodata if self.categorical(name) else self.imagery.nodata

    def own(self, name: str) -> Grid:
        """The pixels of a band."""
        return own_grid(self.scene, self.scene.assets[name])

    def kind(self, name: str) -> np.dtype[Any]:
        """Type of a band, or a wider one."""
        if not self.categorical(name):
            return self.imagery.dtype
        return SCORE_KIND if self.imagery.validity.clear_at_least is not None else QA_KIND

    def categorical(self, name: str) -> bool:
        """Whether it must not be mixed."""
        return name == self.imagery.validity.band

    def fetch(
        self, grid: Grid, names: Sequence[str]
    ) -> dict[str, tuple[NDArray[np.generic], NDArray[np.bool_]]]:
        """Numbers and where there are any, on pixels of a grid that need no resampling; a request
        for each image that holds some of the bands.
        """
        out = {}
        for image in dict.fromkeys(self.places[name][0] for name in names):
            here = [name for name in names if self.places[name][0] == image]
            out.update(self._fetch(image, grid, here))
        return out

    def _fetch(
        self, image: str, grid: Grid, names: Sequence[str]
    ) -> dict[str, tuple[NDArray[np.generic], NDArray[np.bool_]]]:
        theirs = {name: self.places[name][1] for name in names}
        masked = [name for name in names if not self.silent(name)]
        wanted = tuple(dict.fromkeys(theirs.values()))
        kinds = {theirs[name]: self.kind(name) for name in names}
        if masked:
            wanted, kinds[INSIDE] = (*wanted, INSIDE), np.dtype("uint8")
            make = partial(with_mask, image, tuple(theirs[name] for name in masked))
            read = partial(computed, self.service, image, make)
        else:
            read = partial(stored, self.service, image)
        whole = Piece(grid, wanted, (0, grid.height), (0, grid.width))
        found = in_pieces(whole, kinds, self.service, read, (self.where.collection, bool(masked)))
        out = {}
        for name in names:
            data = found[theirs[name]]
            inside = data != 0 if self.silent(name) else found[INSIDE] != 0
            out[name] = data, inside
        return out


def own_grid(scene: Scene, ref: AssetRef) -> Grid:
    """The pixels of a band of a scene: the scene's extent in rows and columns of the band."""
    rows, cols = ref.shape or scene.grid.shape
    west, south, east, north = scene.grid.bounds
    place = Affine((east - west) / cols, 0.0, west, 0.0, (south - north) / rows, north)
    return Grid(scene.grid.crs, place, cols, rows)


def _ref(scene: Scene, name: str) -> AssetRef:
    found = scene.assets.get(name)
    if found is None:
        raise StacError(
            scene.id, "assets", ", ".join(sorted(scene.assets)), f"a scene that has the band {name}"
        )
    return found


def image_of(
    service: EarthEngineService, imagery: Imagery, scene: Scene, names: Sequence[str]
) -> Image:
    """Some bands of a scene.

    Raises:
        StacError: It lacks one.
    """
    places = {name: place_of(_ref(scene, name).href) for name in names}
    wheres = [w for w in imagery.where if w.provider == client.NAME]
    ids = [image for image, _ in places.values()]
    where = next(
        (w for w in wheres for id_ in ids if w.collection and id_.startswith(f"{w.collection}/")),
        wheres[0],
    )
    return Image(service, imagery, where, scene, places)
