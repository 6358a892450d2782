"""The packaged strata: land, climate, country, continent and cities of the whole globe.

Global arrays, row 0 at 90° N and column 0 at 180° W; the size of a cell follows from the shape.
`scripts/derive_strata.py` made them and says from what; the layers' declarations say what they
mean and whom to name.
"""

from __future__ import annotations

import functools
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from las_builder.catalogs.loader import Catalogs
from las_builder.errors import CatalogError

WGS84_A = 6378.137
"""Semi-major axis of WGS 84, kilometres."""

WGS84_F = 1 / 298.257223563
"""Flattening of WGS 84."""

_MASK = 6  # mask pixels along a side of a land cell


@dataclass(frozen=True, slots=True)
class Country:
    """A row of the country table."""

    index: int
    """What the raster holds; 0 is no land."""

    iso3: str
    iso2: str
    name: str
    continent: str


@dataclass(frozen=True, slots=True, eq=False)
class Cities:
    """Populated places, the largest first; arrays of one length."""

    lon: NDArray[np.float64]
    """Degrees east, to 1e-5."""

    lat: NDArray[np.float64]
    """Degrees north, to 1e-5."""

    population: NDArray[np.int64]
    country: NDArray[np.uint16]
    """Index into `Strata.countries`."""


class Strata:
    """The strata layers, each read when it is first asked for.

    Every lookup takes degrees: `lon` of any turn, `lat` from -90 to 90, any shapes that
    broadcast; and returns an array of the broadcast shape.
    """

    def __init__(self, catalogs: Catalogs) -> None:
        self._catalogs = catalogs
        self._arrays: dict[str, NDArray[Any]] = {}

    @classmethod
    def load(cls, catalogs: Catalogs) -> Strata:
        """The layers that these declarations name; one object for each set of folders."""
        return _load(catalogs.folders)

    @property
    def catalogs(self) -> Catalogs:
        """The declarations that these layers, and the names of regions, come from."""
        return self._catalogs

    def land(self, lon: ArrayLike, lat: ArrayLike) -> NDArray[np.float32]:
        """Share of the cell of 0.05° that is land, 0-1; inland water counts as land."""
        row, column = _cell(lon, lat, self.land_cells.shape)
        return self.land_cells[row, column]

    def is_land(self, lon: ArrayLike, lat: ArrayLike) -> NDArray[np.bool_]:
        """Whether the mask pixel of 30 seconds (1 km) is land.

        The finest mask there is: the share of a land cell is the share of its 36 pixels.
        """
        rows, columns = self.land_cells.shape
        row, column = _cell(lon, lat, (rows * _MASK, columns * _MASK))
        cell = (row // _MASK) * columns + column // _MASK
        share = self.land_cells.ravel()[cell]
        land = np.asarray(share == 1)
        mixed = (share > 0) & ~land
        at, coast = self._coast
        pixel = ((row % _MASK) * _MASK + column % _MASK)[mixed].astype(np.uint64)
        land[mixed] = (coast[np.searchsorted(at, cell[mixed])] >> pixel) & np.uint64(1)
        return land

    def land_pixels(
        self, row: NDArray[np.integer], column: NDArray[np.integer]
    ) -> NDArray[np.bool_]:
        """Which of the 36 mask pixels of some land cells are land, (cells, 36), north to south."""
        cell = row.astype(np.int64) * self.land_cells.shape[1] + column
        share = self.land_cells.ravel()[cell]
        land = np.repeat((share == 1)[:, None], _MASK**2, axis=1)
        mixed = (share > 0) & (share < 1)
        at, coast = self._coast
        bits = coast[np.searchsorted(at, cell[mixed])]
        land[mixed] = (bits[:, None] >> np.arange(_MASK**2, dtype=np.uint64)) & np.uint64(1)
        return land

    def climate(self, lon: ArrayLike, lat: ArrayLike) -> NDArray[np.uint8]:
        """Code of the Köppen-Geiger zone; 0 where there is no land within 5 minutes."""
        return self._lookup("climate", lon, lat)

    def climate_name(self, code: int) -> str:
        """The zone of a code, such as "Cfb"; "" for 0.

        Raises:
            KeyError: No zone has this code.
        """
        return "" if code == 0 else self.climates[int(code)]

    def country(self, lon: ArrayLike, lat: ArrayLike) -> NDArray[np.uint16]:
        """Index into `countries`; 0 where there is no land within 0.1°."""
        return self._lookup("country", lon, lat).astype(np.uint16)

    def continent(self, lon: ArrayLike, lat: ArrayLike) -> NDArray[np.uint8]:
        """Code of the continent of the country (`continents`); 0 where there is no land."""
        return self._lookup("continent", lon, lat)

    @functools.cached_property
    def land_cells(self) -> NDArray[np.float32]:
        """Share of land, 0-1, in every cell of 0.05°; (3600, 7200)."""
        pixels = np.rint(np.arange(101) * (_MASK**2 / 100))  # of 36: percent were rounded
        share: NDArray[np.float32] = (pixels / _MASK**2).astype(np.float32)[self._array("land")]
        return share

    @functools.cached_property
    def climates(self) -> Mapping[int, str]:
        """Code to name of the Köppen-Geiger zones."""
        return self._classes("climate")

    @functools.cached_property
    def continents(self) -> Mapping[int, str]:
        """Code to name."""
        return self._classes("continent")

    @functools.cached_property
    def countries(self) -> tuple[Country, ...]:
        """The country table; row 0 stands for no land and has empty names."""
        file = self._file("country")
        names = {0: "", **self.continents}
        rows = zip(file["iso3"], file["iso2"], file["name"], file["continent_of"], strict=True)
        return tuple(
            Country(i, str(iso3), str(iso2), str(name), names[int(continent)])
            for i, (iso3, iso2, name, continent) in enumerate(rows)
        )

    @functools.cached_property
    def cities(self) -> Cities:
        """Places of the list cities15000 of GeoNames (a few have fewer people)."""
        table = self._array("cities")
        return Cities(
            table[:, 0] / 1e5,
            table[:, 1] / 1e5,
            table[:, 2].astype(np.int64),
            table[:, 3].astype(np.uint16),
        )

    @functools.cached_property
    def _coast(self) -> tuple[NDArray[np.intp], NDArray[np.uint64]]:
        """Flat index of every mixed cell, ascending, and the bits of its 36 mask pixels."""
        flat = self.land_cells.ravel()
        at = np.flatnonzero((flat > 0) & (flat < 1))
        coast = self._file("land").get("coast")
        if coast is None or coast.shape != at.shape:
            raise CatalogError(
                self._catalogs.file("strata", "land"),
                "coast",
                None if coast is None else len(coast),
                f"the masks of its {len(at)} mixed cells",
            )
        return at, coast

    def _lookup(self, name: str, lon: ArrayLike, lat: ArrayLike) -> NDArray[np.uint8]:
        array = self._array(name)
        row, column = _cell(lon, lat, array.shape)
        return array[row, column]

    def _classes(self, name: str) -> Mapping[int, str]:
        return self._catalogs.strata(name).classes or {}

    def array(self, name: str) -> NDArray[Any]:
        """The global array of a layer that has a file, row 0 at 90° N, column 0 at 180° W.

        Raises:
            CatalogError: Its file is none, or lacks the array.
        """
        return self._array(name)

    def _array(self, name: str) -> NDArray[Any]:
        if name not in self._arrays:  # declarations are read once
            layer = self._catalogs.strata(name)
            file = self._file(name)
            if layer.array is None or layer.array not in file:
                path = self._catalogs.file("strata", name)
                raise CatalogError(path, "array", layer.array, f"one of {sorted(file)}")
            self._arrays[name] = file[layer.array]
        return self._arrays[name]

    def _file(self, name: str) -> Mapping[str, NDArray[Any]]:
        path = self._catalogs.file("strata", name)
        file = self._catalogs.strata(name).file
        if file is None:
            raise CatalogError(path, "file", None, "a NumPy .npz without pickles")
        return _read(path.parent / file)


def band_area(south: ArrayLike, north: ArrayLike) -> NDArray[np.float64]:
    """Area of a whole belt between two latitudes (degrees) of WGS 84, km2; exact.

    Source: Snyder (1987), Map Projections: A Working Manual, eq. 3-12, times the radius squared.
    """
    return np.asarray(_area_from_equator(north) - _area_from_equator(south))


def cell_area(rows: int, columns: int) -> NDArray[np.float64]:
    """Area of a cell of each row of a global array of this shape on WGS 84, km2, (rows,)."""
    edges = 90 - np.arange(rows + 1) * (180 / rows)
    return band_area(edges[1:], edges[:-1]) / columns


def cell_centres(rows: int, columns: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitudes (columns,) and latitudes (rows,) of the cells of a global array, degrees."""
    lon = (np.arange(columns) + 0.5) * (360 / columns) - 180
    lat = 90 - (np.arange(rows) + 0.5) * (180 / rows)
    return np.asarray(lon, np.float64), np.asarray(lat, np.float64)


def _area_from_equator(lat: ArrayLike) -> NDArray[np.float64]:
    e2 = WGS84_F * (2 - WGS84_F)
    e = math.sqrt(e2)
    s = np.sin(np.radians(np.asarray(lat, np.float64)))
    q = (1 - e2) * (s / (1 - e2 * s * s) + np.arctanh(e * s) / e)
    return np.asarray(math.pi * WGS84_A**2 * q)


def _cell(
    lon: ArrayLike, lat: ArrayLike, shape: tuple[int, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rows, columns = shape
    x, y = np.broadcast_arrays(np.asarray(lon, np.float64), np.asarray(lat, np.float64))
    column = np.floor((x + 180) * (columns / 360)).astype(np.int64) % columns
    row = np.floor((90 - y) * (rows / 180)).astype(np.int64)
    return np.clip(row, 0, rows - 1), column


@functools.lru_cache(maxsize=8)
def _load(folders: tuple[Path, ...]) -> Strata:
    return Strata(Catalogs(folders))


@functools.lru_cache(maxsize=16)
def _read(path: Path) -> Mapping[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as problem:
        raise CatalogError(path, "file", str(problem), "a NumPy .npz without pickles") from None
