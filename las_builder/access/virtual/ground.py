"""Pixels of a lattice, and what lies under them: evaluated once, shared by bands, dates, products."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from affine import Affine
from numba import njit
from numpy.typing import NDArray
from pydantic import BaseModel

from las_builder.access.virtual.noise import nanodegrees
from las_builder.access.virtual.parameters import parameters
from las_builder.access.virtual.planet import Planet, planet
from las_builder.access.virtual.truth import Look, look, truth
from las_builder.catalogs import Catalogs
from las_builder.catalogs.strata import Strata
from las_builder.core.grid import Grid, from_lonlat, is_geographic, to_lonlat

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class World:
    """Which planet."""

    folders: tuple[Path, ...]
    """Of the declarations, which hold the strata."""

    seed: int

    spread: float = 0.0
    """By how much of itself every parameter may differ from the declared one."""

    draw: int = 0
    """Which of the worlds of that spread."""

    def parameters(self, name: str, model: type[M]) -> M:
        """What `catalogs/virtual/<name>.yaml` says, turned by this world's spread and draw."""
        found: M = parameters(self.folders, name, model, self.spread, self.draw)
        return found

    def truth(
        self,
        lon: NDArray[np.float64],
        lat: NDArray[np.float64],
        resolution: float = 10.0,
        year: int = 2021,
    ) -> NDArray[np.uint8]:
        """Index into `truth.LEAVES` at degrees of any shape.

        Args:
            lon: Degrees east, any turn.
            lat: Degrees north.
            resolution: Metres; what is narrower than about half of it is not drawn.
            year: Whose crops stand in the fields.
        """
        x, y = np.broadcast_arrays(nanodegrees(lon), nanodegrees(lat))
        leaf = truth(x.ravel(), y.ravel(), self.planet, resolution, year)
        return leaf.reshape(x.shape)

    @property
    def planet(self) -> Planet:
        """What the kernels of the truth read."""
        return planet(self.folders, self.seed, self.spread, self.draw)

    @property
    def strata(self) -> Strata:
        """Real land and climate."""
        return Strata.load(Catalogs(self.folders))


@dataclass(frozen=True, slots=True)
class Window:
    """Some pixels of an endless lattice, counted from its origin.

    A pixel's place is computed from its own number, never from the corner of a window, so every
    window that holds it has it at the same place to the last bit.
    """

    crs: str
    origin: tuple[float, float]
    """x, y of a corner that all pixels are counted from."""

    pixel: tuple[float, float]
    """(width, height), both positive, in units of the CRS."""

    column: int
    row: int
    """Of the first pixel; rows count southwards; both may be negative."""

    width: int
    height: int

    @classmethod
    def of(cls, grid: Grid, anchor: Grid | None = None) -> Window:
        """A grid as a window, counted from the corner of another grid of its lattice."""
        anchor = anchor or grid
        (a, e), t = anchor.pixel, anchor.transform
        column, row = round((grid.transform.c - t.c) / a), round((t.f - grid.transform.f) / e)
        return cls(anchor.crs or "", (t.c, t.f), (a, e), column, row, grid.width, grid.height)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    def grid(self) -> Grid:
        """Its place on the ground."""
        west = self.origin[0] + self.column * self.pixel[0]
        north = self.origin[1] - self.row * self.pixel[1]
        place = Affine(self.pixel[0], 0.0, west, 0.0, -self.pixel[1], north)
        return Grid(self.crs, place, self.width, self.height)

    def numbers(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Column (width,) and row (height,) of every pixel."""
        columns = self.column + np.arange(self.width, dtype=np.int64)
        return columns, self.row + np.arange(self.height, dtype=np.int64)

    def xy(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixel centres in the CRS: x (width,) and y (height,)."""
        columns, rows = self.numbers()
        x = self.origin[0] + (columns + 0.5) * self.pixel[0]
        y = self.origin[1] - (rows + 0.5) * self.pixel[1]
        return np.asarray(x, np.float64), np.asarray(y, np.float64)

    def lonlat(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixel centres, degrees, (height, width) each; longitude may be of another turn."""
        x, y = np.meshgrid(*self.xy())
        return (x, y) if is_geographic(self.crs) else to_lonlat(self.crs, x, y)

    def grown_to(self, block: int) -> Window:
        """The smallest window around it that is made of whole blocks of pixels."""
        column, row = self.column // block * block, self.row // block * block
        right, bottom = self.column + self.width, self.row + self.height
        return Window(
            self.crs,
            self.origin,
            self.pixel,
            column,
            row,
            -(-right // block) * block - column,
            -(-bottom // block) * block - row,
        )

    def grown_by(self, margin: int) -> Window:
        """The window with so many pixels more on every side."""
        return replace(
            self,
            column=self.column - margin,
            row=self.row - margin,
            width=self.width + 2 * margin,
            height=self.height + 2 * margin,
        )

    def rows(self, top: int, height: int) -> Window:
        """Some of its rows, counted from its own first."""
        return replace(self, row=self.row + top, height=height)


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """What lies under the pixels of a window, looked at in several points of each.

    Four points a pixel; five more where the four differ in cover. Of pixels of a metre and less,
    one point.
    """

    shape: tuple[int, int]
    points: Look
    """First the points of all pixels, pixel by pixel, row by row; then those of the edges."""

    each: int
    """Points of every pixel."""

    edge: NDArray[np.int64]
    """Flat index of the pixels that have `EDGE` more, in the order of these."""

    def cover(self) -> NDArray[np.uint8]:
        """What covers the first point of each pixel, (height, width)."""
        n = self.shape[0] * self.shape[1]
        return self.points.cover[: n * self.each : self.each].reshape(self.shape)


EDGE = 5
"""More points of a pixel that an edge runs through: its centre and towards its sides."""

_MORE = (np.array([3, 1, 5, 3, 3]) / 6, np.array([3, 3, 3, 1, 5]) / 6)

FINE = 2.0
"""Metres: of a pixel smaller than this, one point is enough."""

_NODE = 16  # pixels between places that are projected; between them it is linear


@functools.lru_cache(maxsize=8)
def leaves(
    world: World, window: Window, resolution: float = 10.0, year: int = 2021
) -> NDArray[np.uint8]:
    """The truth at the centre of every pixel, (height, width); not to be written to."""
    leaf = world.truth(*window.lonlat(), resolution, year)
    leaf.flags.writeable = False
    return leaf


@functools.lru_cache(maxsize=4)
def glance(world: World, window: Window, year: int) -> Look:
    """The middle of every pixel, (height x width,): enough for a mask, shared by its dates."""
    columns, rows = (v.ravel() for v in np.meshgrid(*window.numbers()))
    middle = (np.array([0.5]), np.array([0.5]))
    return _look(world, window, columns, rows, middle, 1, year)


@functools.lru_cache(maxsize=3)
def ground(world: World, window: Window, year: int) -> Ground:
    """What the bands and dates of a patch share.

    Args:
        world: Which planet.
        window: Of a lattice in metres.
        year: Whose crops stand in the fields.
    """
    metres, n = window.pixel[0], window.width * window.height
    side = 1 if metres < FINE else 2
    columns, rows = (v.ravel() for v in np.meshgrid(*window.numbers()))
    offset = (np.arange(side) + 0.5) / side
    x, y = (v.ravel() for v in np.meshgrid(offset, offset))
    seen = [_look(world, window, columns, rows, (x, y), side, year)]
    edge = np.empty(0, np.int64)
    if side > 1:
        cover = seen[0].cover.reshape(n, side * side)
        edge = np.flatnonzero((cover != cover[:, :1]).any(axis=1))
        if edge.size:
            seen.append(_look(world, window, columns[edge], rows[edge], _MORE, side, year))
    points = seen[0] if len(seen) == 1 else Look(
        **{f.name: np.concatenate([getattr(part, f.name) for part in seen]) for f in fields(Look)}
    )  # fmt: skip
    return Ground(window.shape, points, side * side, edge)


def _look(
    world: World,
    window: Window,
    columns: NDArray[np.int64],
    rows: NDArray[np.int64],
    at: tuple[NDArray[np.float64], NDArray[np.float64]],
    side: int,
    year: int,
) -> Look:
    """Points at these shares of each pixel from its corner, pixel by pixel."""
    x, y = columns[:, None] + at[0], rows[:, None] + at[1]
    lon, lat = _between(window, x.ravel(), y.ravel())
    return look(lon, lat, world.planet, window.pixel[0] / side, year)


def _between(
    window: Window, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Nanodegrees of places counted in pixels of the lattice, (n,).

    In UTM, places are projected every 16 pixels of the endless lattice and linear in between: off
    by a few centimetres at most, and the same for every window. Polar maps are projected in full.
    """
    if not window.crs.startswith(("EPSG:326", "EPSG:327", "EPSG:269")):
        east = window.origin[0] + x * window.pixel[0]
        north = window.origin[1] - y * window.pixel[1]
        lon, lat = (
            (east, north) if is_geographic(window.crs) else to_lonlat(window.crs, east, north)
        )
        return nanodegrees(lon), nanodegrees(lat)
    i0, j0 = math.floor(x.min() / _NODE), math.floor(y.min() / _NODE)
    i1, j1 = math.floor(x.max() / _NODE) + 1, math.floor(y.max() / _NODE) + 1
    i, j = np.meshgrid(np.arange(i0, i1 + 1), np.arange(j0, j1 + 1))
    lon, lat = to_lonlat(
        window.crs,
        window.origin[0] + i * (_NODE * window.pixel[0]),
        window.origin[1] - j * (_NODE * window.pixel[1]),
    )
    lon = lon - 360 * np.rint((lon - lon[0, 0]) / 360)
    out = np.empty((2, x.size), np.int64)
    _bilinear(x * (1 / _NODE) - i0, y * (1 / _NODE) - j0, nanodegrees(lon), nanodegrees(lat), out)
    return out[0], out[1]


@njit(cache=True)
def _bilinear(x, y, lon, lat, out):  # type: ignore[no-untyped-def]
    for n in range(x.size):
        i, j = math.floor(x[n]), math.floor(y[n])
        u, v = x[n] - i, y[n] - j
        for k in range(2):
            t = lon if k == 0 else lat
            # Offsets from a corner are small: exact in float64, whatever the window.
            a = t[j, i]
            above = (t[j, i + 1] - a) * u
            below = (t[j + 1, i] - a) + (t[j + 1, i + 1] - t[j + 1, i]) * u
            out[k, n] = a + round(above + (below - above) * v)


def locate(grid: Grid, crs: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixel centres of a grid in another CRS, (height, width) each."""
    x, y = np.meshgrid(*grid.xy())
    return (x, y) if grid.crs == crs else from_lonlat(crs, *to_lonlat(grid.crs, x, y))
