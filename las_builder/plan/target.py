"""The target population: the land of a region, on the lattice of the land cells, with exact areas.

Land is the 1 km mask (`Strata.is_land`). Each land cell of 0.05° is either whole in the target or
mixed, and then it is known which part of each of its 36 mask pixels is in: all or nothing at a
coast, a part where the edge of a region cuts it. What a cell is, its stratum and its density never
depend on the region that asks, so the same place gets the same answer.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from las_builder.catalogs import Strata
from las_builder.plan.ellipsoid import belts, latitude
from las_builder.plan.passes import look_up
from las_builder.plan.regions import Box, Region, in_box

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]

ROWS, COLUMNS = 3600, 7200
"""Of the global lattice of land cells; row 0 at 90° N, column 0 at 180° W."""

SIDE = 6
"""Mask pixels along a side of a land cell."""

CELL = 180 / ROWS
"""Degrees."""


@functools.cache
def row_edges() -> Floats:
    """Area south of the northern edge of each row, and of the last one's southern, km2."""
    return belts(np.asarray(90 - np.arange(ROWS + 1) * (180 / ROWS), np.float64))


@functools.cache
def row_areas() -> Floats:
    """Of a cell of each row, km2."""
    south = row_edges()
    return np.asarray((south[:-1] - south[1:]) / COLUMNS)


@dataclass(frozen=True, eq=False)
class Target:
    """The land of a region."""

    region: Region

    number: Ints
    """Of the cell in each row and column of the lattice, -1 where it holds none; (rows, 7200)."""

    top: int
    """Row of the lattice that is the first of `number`."""

    row: Ints
    """Of each cell, on the lattice, (cells,), ascending."""

    column: Ints
    mixed: Ints
    """Row of `pixels`, or -1 where all of the cell is in the target, (cells,)."""

    pixels: NDArray[np.float32]
    """Part of each mask pixel that is in, 0 to 1; (mixed cells, 36), rows north to south."""

    areas: Floats
    """Of the part of each cell that is in, km2 on WGS 84, (cells,)."""

    @classmethod
    def of(cls, region: Region) -> Target:
        """The land of a region; its area is 0 if it has none."""
        strata = region.strata
        lines = _lines(region)
        row, column, share = _surrounded(region, lines)
        if region.outline is not None:
            rest = np.flatnonzero(share == 1)
            share[rest] = region.share(*_box(row[rest], column[rest]))
            keep = share > 0
            row, column, share = row[keep], column[keep], share[keep]

        parts = np.flatnonzero((share < 1) | (strata.land_cells[row, column] < 1))
        pixels = strata.land_pixels(row[parts], column[parts]).astype(np.float32)
        some = share[parts] < 1
        pixels[some] *= _shares(region, row[parts][some], column[parts][some], lines)
        empty = ~pixels.any(axis=1)
        partial = (pixels < 1).any(axis=1) & ~empty
        mixed = np.full(row.size, -1, np.int32)
        mixed[parts[partial]] = np.arange(int(partial.sum()))
        pixels = pixels[partial]
        if empty.any():
            here = np.ones(row.size, np.bool_)
            here[parts[empty]] = False
            row, column, mixed = row[here], column[here], mixed[here]

        areas = row_areas()[row]
        south = belts(np.asarray(90 - np.arange(ROWS * SIDE + 1) * (CELL / SIDE), np.float64))
        each = ((south[:-1] - south[1:]) / (COLUMNS * SIDE)).reshape(ROWS, SIDE)
        where = np.flatnonzero(mixed >= 0)
        covered = pixels.astype(np.float64).reshape(-1, SIDE, SIDE).sum(axis=2)
        areas[where] = (covered * each[row[where]]).sum(axis=1)

        top, end = (int(row[0]), int(row[-1]) + 1) if row.size else (0, 0)
        number = np.empty((end - top, COLUMNS), np.int32)
        _number(row, column, top, number)
        return cls(region, number, top, row, column, mixed, pixels, areas)

    @functools.cached_property
    def area(self) -> float:
        """km2 on WGS 84."""
        return float(self.areas.sum())

    @property
    def key(self) -> NDArray[np.int64]:
        """Number of each cell on the whole lattice, which no region changes, (cells,)."""
        return self.row.astype(np.int64) * COLUMNS + self.column

    def contains(self, lon: Floats, lat: Floats) -> NDArray[np.bool_]:
        """Whether places (degrees, any shape) belong to the target population."""
        inside = self.region.strata.is_land(lon, lat)
        inside[inside] = self.region.contains(lon[inside], lat[inside])
        return inside

    def cell_at(self, lon: Floats, lat: Floats) -> Ints:
        """Which cell places (degrees, any shape) lie in; -1 where it holds no target."""
        row = np.clip(np.floor((90 - lat) / CELL), 0, ROWS - 1).astype(np.int64) - self.top
        column = np.floor((np.asarray(lon) + 180) / CELL).astype(np.int64) % COLUMNS
        found = np.full(np.shape(lon), -1, np.int32)
        here = (row >= 0) & (row < len(self.number))
        found[here] = self.number[row[here], column[here]]
        return found

    def centres(self) -> tuple[Floats, Floats]:
        """Longitude and latitude of the middle of each cell, degrees, (cells,)."""
        lon, lat = lattice_centres()
        return lon[self.column], lat[self.row]

    def meant(self, array: NDArray[np.integer], codes: Ints) -> Ints:
        """What the code of each cell in a global array means: that of its middle, (cells,)."""
        out = np.empty(self.row.size, np.int32)
        look_up(array, *places_in(array.shape), self.row, self.column, codes, out)
        return out

    def places(self, cell: NDArray[np.integer]) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """A place in each of some cells, spread per km2; they follow from no seed, for integrals.

        Returns:
            Longitude and latitude, degrees, and whether they are in the target, (n,) each.
        """
        lon, lat = np.empty(cell.size), np.empty(cell.size)
        _places(self.row, self.column, cell, row_edges() / row_edges()[0], lon, lat)
        inside = np.ones(lon.size, np.bool_)
        some = self.mixed[cell] >= 0
        inside[some] = self.contains(lon[some], lat[some])
        return lon, lat, inside


@njit(cache=True, nogil=True)
def _places(row, column, cell, share, lon, lat):  # type: ignore[no-untyped-def]
    """The R2 sequence of Roberts (2018): powers of the plastic number."""
    for n in range(cell.size):
        r, c = row[cell[n]], column[cell[n]]
        u = (n + 0.5) * 0.7548776662466927
        v = (n + 0.5) * 0.5698402909980532
        lon[n] = (c + u - math.floor(u)) * CELL - 180
        lat[n] = latitude(share[r + 1] + (v - math.floor(v)) * (share[r] - share[r + 1]))


def lattice_centres() -> tuple[Floats, Floats]:
    """Longitudes of the columns and latitudes of the rows of land cells, degrees."""
    lon = (np.arange(COLUMNS, dtype=np.float64) + 0.5) * (360 / COLUMNS) - 180
    return np.asarray(lon), np.asarray(90 - (np.arange(ROWS) + 0.5) * (180 / ROWS), np.float64)


def _surrounded(
    region: Region, lines: tuple[Floats, Floats]
) -> tuple[Ints, Ints, NDArray[np.float32]]:
    """Row and column of every cell of land that may be in a region, by rows, and which part is: 1
    if its middle is (frames stand for outlines), ½ if a line cuts it and it is to be looked at.
    """
    strata = region.strata
    near = _near(region) or (np.ones(ROWS, np.bool_), np.ones(COLUMNS, np.bool_))
    cut = _cut(lines[1], -90, ROWS)[::-1], _cut(lines[0], -180, COLUMNS)
    frames, extents = (_flags(boxes) for boxes in (region.frames, region.extents))
    named = _chosen(strata, region.countries)
    only = _chosen(strata, region.only or ())
    room = int((near[0] * _land_by_row(strata)).sum())
    row, column = np.empty(room, np.int32), np.empty(room, np.int32)
    share = np.empty(room, np.float32)
    countries = strata.array("country") if region.countries or region.only is not None else None
    n = _surround(
        strata.land_cells, *near, *cut, *frames, *extents, named, only, region.only is not None,
        np.zeros((1, 1), np.uint8) if countries is None else countries,
        *places_in((1, 1) if countries is None else countries.shape), row, column, share,
    )  # fmt: skip
    return row[:n], column[:n], share[:n]


@njit(cache=True, nogil=True)
def _surround(  # type: ignore[no-untyped-def]
    land, near_row, near_column, cut_row, cut_column, frame_rows, frame_columns, extent_rows,
    extent_columns, named, only, some, country, country_rows, country_columns, row, column, share,
):  # fmt: skip
    n = 0
    for r in range(land.shape[0]):
        if not near_row[r]:
            continue
        for c in range(land.shape[1]):
            if not (land[r, c] > 0 and near_column[c]):
                continue
            part = np.float32(0.5)
            if not (cut_row[r] or cut_column[c]):
                of = country[country_rows[r], country_columns[c]]
                inside = named[of]
                for i in range(frame_rows.shape[0]):
                    inside |= frame_rows[i, r] and frame_columns[i, c]
                if some:
                    inside &= only[of]
                for i in range(extent_rows.shape[0]):
                    inside &= extent_rows[i, r] and extent_columns[i, c]
                if not inside:
                    continue
                part = np.float32(1)
            row[n], column[n], share[n] = r, c, part
            n += 1
    return n


@njit(cache=True, nogil=True)
def _number(row, column, top, out):  # type: ignore[no-untyped-def]
    """The number of the cell in each row and column, -1 where there is none."""
    n = 0
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            out[r, c] = -1
        while n < row.size and row[n] == top + r:
            out[r, column[n]] = n
            n += 1


def _flags(boxes: Sequence[Box]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which middles of rows and of columns of the lattice lie in each box: (boxes, rows), ..."""
    lon, lat = lattice_centres()
    rows, columns = (
        np.zeros((len(boxes), ROWS), np.bool_),
        np.zeros((len(boxes), COLUMNS), np.bool_),
    )
    for i, (west, south, east, north) in enumerate(boxes):
        rows[i] = in_box((-180, south, 180, north), np.zeros(1), lat)
        columns[i] = in_box((west, -90, east, 90), lon, np.zeros(1))
    return rows, columns


def _chosen(strata: Strata, countries: Collection[int]) -> NDArray[np.bool_]:
    """Whether each country is one of some."""
    chosen = np.zeros(len(strata.countries), np.bool_)
    chosen[list(countries)] = True
    return chosen


@functools.lru_cache(maxsize=1)
def _land_by_row(strata: Strata) -> NDArray[np.intp]:
    """Cells with land in each row of the lattice."""
    return np.count_nonzero(strata.land_cells, axis=1)


def places_in(shape: tuple[int, ...]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row and column of a global array in which those of the lattice have their middle."""
    lon, lat = lattice_centres()
    rows, columns = shape
    row = np.floor((90 - lat) * (rows / 180)).astype(np.intp)
    return row, np.floor((lon + 180) * (columns / 360)).astype(np.intp)


def _lines(region: Region) -> tuple[Floats, Floats]:
    """Longitudes and latitudes along which the region has edges."""
    boxes = (*region.frames, *region.extents)
    x = np.array([v for w, _, e, _ in boxes if e - w < 360 for v in (w, e)], np.float64)
    y = np.array([v for _, s, _, n in boxes for v in (s, n)], np.float64)
    return np.mod(x + 180, 360) - 180, y


def _near(region: Region) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
    """Which rows and which columns of the lattice a region's boxes touch; None: any may be."""
    lon, lat = lattice_centres()
    rows, columns = np.ones(ROWS, np.bool_), np.ones(COLUMNS, np.bool_)

    def row_in(south: float, north: float) -> NDArray[np.bool_]:
        return (lat >= south - CELL) & (lat <= north + CELL)

    def column_in(west: float, east: float) -> NDArray[np.bool_]:
        if east - west >= 360 - 2 * CELL:
            return np.ones(COLUMNS, np.bool_)
        return in_box((west - CELL, -90, west + (east - west) % 360 + CELL, 90), lon, np.zeros(1))

    rows = np.any([row_in(s, n) for _, s, _, n in region.frames] or [~rows], axis=0)
    columns = np.any([column_in(w, e) for w, _, e, _ in region.frames] or [~columns], axis=0)
    if region.countries:
        more = _of_countries(region.strata, region.countries)
        rows, columns = rows | more[0], columns | more[1]
    if region.only is not None:
        less = _of_countries(region.strata, region.only)
        rows, columns = rows & less[0], columns & less[1]
    for w, s, e, n in region.extents:
        rows &= row_in(s, n)
        columns &= column_in(w, e)
    return None if rows.all() and columns.all() else (rows, columns)


def _of_countries(
    strata: Strata, countries: frozenset[int]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which rows and which columns of the lattice have land of some countries."""
    found = _chosen(strata, countries)[strata.array("country")]
    times = (-(-ROWS // found.shape[0]), -(-COLUMNS // found.shape[1]))
    return np.repeat(found.any(axis=1), times[0]), np.repeat(found.any(axis=0), times[1])


def _cut(lines: Floats, low: float, n: int) -> NDArray[np.bool_]:
    """Which of n equal intervals from `low` up have a line inside, (n,)."""
    at = (lines - low) / CELL
    inside = np.abs(at - np.rint(at)) > 1e-7
    found = np.zeros(n, np.bool_)
    found[np.clip(np.floor(at[inside]), 0, n - 1).astype(np.intp)] = True
    return found


def _box(row: Ints, column: Ints) -> tuple[Floats, Floats, Floats, Floats]:
    """West, south, east, north of cells, degrees."""
    edges = (column * CELL - 180, 90 - (row + 1) * CELL, (column + 1) * CELL - 180, 90 - row * CELL)
    west, south, east, north = (np.asarray(edge, np.float64) for edge in edges)
    return west, south, east, north


def _shares(region: Region, row: Ints, column: Ints, lines: tuple[Floats, Floats]) -> Floats:
    """Which part of each mask pixel of some cells lies in a region, (cells, 36)."""
    share = np.zeros((row.size, SIDE * SIDE))
    if not row.size:
        return share
    west, width, across = _pieces(column * SIDE, -180.0, lines[0])
    # Rows count from the north: pieces of the upside-down lattice, whose lines are mirrored.
    top, height, down = _pieces(row * SIDE, -90.0, -lines[1])
    a, b = np.arange(down.shape[1]), np.arange(across.shape[1])
    shape = (row.size, a.size, b.size)
    w, wide = (np.broadcast_to(v[:, None, :], shape) for v in (west, width))
    n, high = (np.broadcast_to(v[:, :, None], shape) for v in (-top, height))
    real = (wide > 0) & (high > 0)
    w, wide, n, high = w[real], wide[real], n[real], high[real]
    part = wide * high / (CELL / SIDE) ** 2
    part *= region.surrounds(w + wide / 2, n - high / 2)
    if region.outline is not None:
        some = part > 0
        part[some] *= region.share(w[some], (n - high)[some], (w + wide)[some], n[some])
    pixel = down[:, :, None] * SIDE + across[:, None, :]
    where = np.broadcast_to(np.arange(row.size)[:, None, None], shape)
    np.add.at(share, (where[real], pixel[real]), part)
    share[np.abs(share - 1) < 1e-6] = 1
    return share


def _pieces(first: Ints, low: float, lines: Floats) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """Six mask pixels from `first` on, cut wherever a line runs through.

    Returns:
        Start and length of the pieces, degrees (0: no piece), and the pixel that each belongs to,
        0 to 5; (cells, pieces) each.
    """
    step = CELL / SIDE
    firsts, inverse = np.unique(first, return_inverse=True)
    found = []
    for start in firsts.tolist():
        edges = low + (start + np.arange(SIDE + 1)) * step
        inside = lines[(lines > edges[0]) & (lines < edges[-1])]
        edges = np.unique(np.round(np.concatenate([edges, inside]), 9))
        pixel = np.floor(((edges[:-1] + edges[1:]) / 2 - low) / step).astype(np.intp) - start
        found.append((edges[:-1], np.diff(edges), np.clip(pixel, 0, SIDE - 1)))
    most = max(len(starts) for starts, _, _ in found)
    starts, lengths = np.zeros((len(found), most)), np.zeros((len(found), most))
    pixels = np.zeros((len(found), most), np.intp)
    for i, (start_, length, pixel) in enumerate(found):
        starts[i, : len(start_)], lengths[i, : len(start_)] = start_, length
        pixels[i, : len(start_)] = pixel
    return starts[inverse], lengths[inverse], pixels[inverse]
