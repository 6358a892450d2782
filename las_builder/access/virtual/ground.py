"""Pixels of a lattice, and what lies under them: evaluated once, shared by bands, dates, products."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from pydantic import BaseModel

from las_builder.access.virtual.noise import cell_random, in_space, layered, nanodegrees, seed_of
from las_builder.access.virtual.parameters import parameters
from las_builder.access.virtual.truth import truth
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
        del resolution, year
        return truth(lon, lat, seed=self.seed, strata=self.strata)

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


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """What lies under the pixels of a window, (height, width) each."""

    leaf: NDArray[np.uint8]
    """Index into `truth.LEAVES`."""

    texture: NDArray[np.float32]
    """Light and dark spots that stay where they are; standard deviations."""

    vigour: NDArray[np.float32]
    """What the plants here are ahead of or behind their kind; the same within a field; -1 to 1."""


@functools.lru_cache(maxsize=8)
def leaves(
    world: World, window: Window, resolution: float = 10.0, year: int = 2021
) -> NDArray[np.uint8]:
    """The truth at the centre of every pixel, (height, width); not to be written to."""
    leaf = world.truth(*window.lonlat(), resolution, year)
    leaf.flags.writeable = False
    return leaf


@functools.lru_cache(maxsize=3)
def ground(world: World, window: Window) -> Ground:
    """The truth and what makes one place of a class differ from the next."""
    lon, lat = window.lonlat()
    texture, vigour = (np.empty(window.shape, np.float32) for _ in range(2))
    metres = window.pixel[0]
    for top in range(0, window.height, rows := max(1, (1 << 14) // window.width)):
        part = slice(top, top + rows)
        points = in_space(nanodegrees(lon[part]), nanodegrees(lat[part]))
        texture[part] = layered(
            points, ((2.5 * metres, 1.0), (18 * metres, 0.7)), seed_of(world.seed, "texture")
        )
        field = cell_random(points, 260.0, seed_of(world.seed, "parcel", "vigour"))
        patchy = layered(points, ((700.0, 1.0),), seed_of(world.seed, "vigour"))
        vigour[part] = 1.4 * (field - 0.5) + 0.3 * patchy.clip(-1, 1)
    return Ground(leaves(world, window), texture, vigour)


def locate(grid: Grid, crs: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixel centres of a grid in another CRS, (height, width) each."""
    x, y = np.meshgrid(*grid.xy())
    return (x, y) if grid.crs == crs else from_lonlat(crs, *to_lonlat(grid.crs, x, y))
