"""The target population: the land of a region, its exact area, and uniform draws from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from las_builder.catalogs.strata import band_area
from las_builder.plan.regions import Region, in_box
from las_builder.plan.sphere import authalic_latitude, quantise

Floats = NDArray[np.float64]

_FINE = 40_000  # land cells; up to so many are taken apart into mask pixels


@dataclass(frozen=True, eq=False)
class Target:
    """The land of a region, as rectangles of longitude and latitude that hold it.

    No rectangle straddles an edge of a box of the region. Land is the 1 km mask
    (`Strata.is_land`): a region of up to 40,000 land cells (of 0.05°) is made of its pixels and
    has its exact area; a larger one is made of cells, and only cells cut by a box edge assume that
    their land lies evenly.
    """

    region: Region
    west: Floats
    """Of the columns of rectangles, degrees, (columns,)."""

    east: Floats
    south: Floats
    """Of the rows of rectangles, degrees, (rows,)."""

    north: Floats
    row: NDArray[np.int32]
    """Of each rectangle that holds land, (rectangles,)."""

    column: NDArray[np.int32]
    reach: Floats
    """Running sum of the rectangles' areas, km2, (rectangles,)."""

    area: float
    """Land, km2, on WGS 84."""

    @classmethod
    def of(cls, region: Region) -> Target:
        """The land of a region; its area is 0 if it has none."""
        rows, columns = region.strata.land_cells.shape
        lines = _lines(region)
        south, north = _split(*_grid(-90, 90, rows), lines[1])
        west, east = _split(*_grid(-180, 180, columns), lines[0])
        rows_in, columns_in = _crossed(region, west, south, east, north)
        south, north, west, east = (
            south[rows_in],
            north[rows_in],
            west[columns_in],
            east[columns_in],
        )
        row, column, share = _holding(region, west, south, east, north, pixels=False)
        if row.size <= _FINE:
            kept_rows, kept_columns = np.unique(row), np.unique(column)
            lines = (
                np.concatenate([lines[0], _grid(-180, 180, columns * 6)[0]]),
                np.concatenate([lines[1], _grid(-90, 90, rows * 6)[0]]),
            )
            south, north = _split(south[kept_rows], north[kept_rows], lines[1])
            west, east = _split(west[kept_columns], east[kept_columns], lines[0])
            row, column, share = _holding(region, west, south, east, north, pixels=True)
        area = (band_area(south, north) / 360)[row] * (east - west)[column]
        return cls(
            region=region,
            west=west,
            east=east,
            south=south,
            north=north,
            row=row.astype(np.int32),
            column=column.astype(np.int32),
            reach=np.cumsum(area),
            area=float(np.sum(area * share)),
        )

    @property
    def frame_area(self) -> float:
        """Area of all rectangles, their sea included, km2."""
        return float(self.reach[-1]) if self.reach.size else 0.0

    def contains(self, lon: Floats, lat: Floats) -> NDArray[np.bool_]:
        """Whether places (degrees, any shape) belong to the target population."""
        inside = self.region.strata.is_land(lon, lat)
        inside[inside] = self.region.contains(lon[inside], lat[inside])
        return inside

    def at(self, u: Floats) -> tuple[Floats, Floats]:
        """Map the unit cube, (n, 3), to the frame, per km2; quantised degrees, (n,) each."""
        rectangle = np.searchsorted(self.reach, u[:, 0] * self.frame_area, side="right")
        rectangle = np.minimum(rectangle, self.reach.size - 1)
        row, column = self.row[rectangle], self.column[rectangle]
        west, east = self.west[column], self.east[column]
        pole = band_area(-90, self.south[row]) / band_area(-90, 90)
        top = band_area(-90, self.north[row]) / band_area(-90, 90)
        lat = authalic_latitude(pole + u[:, 2] * (top - pole))
        lat = np.clip(lat, self.south[row], self.north[row])
        return quantise(west + u[:, 1] * (east - west), lat)

    def spread(self, n: int) -> tuple[Floats, Floats]:
        """About `n` places spread evenly over the target, for integrals; degrees.

        Systematic along the rectangles and low-discrepancy within: no random numbers.
        """
        wanted = max(1, round(n * self.frame_area / self.area))
        i = np.arange(wanted)
        # Powers of the plastic number: the R2 sequence of Roberts (2018).
        u = np.column_stack(
            [(i + 0.5) / wanted, i * 0.7548776662466927 % 1, i * 0.5698402909980532 % 1]
        )
        lon, lat = self.at(u)
        inside = self.contains(lon, lat)
        return lon[inside], lat[inside]


def _lines(region: Region) -> tuple[Floats, Floats]:
    boxes = (*region.frames, *region.extents)
    x = np.array([v for w, _, e, _ in boxes for v in (w, e)], np.float64)
    y = np.array([v for _, s, _, n in boxes for v in (s, n)], np.float64)
    return np.mod(x + 180, 360) - 180, y


def _grid(low: float, high: float, n: int) -> tuple[Floats, Floats]:
    """Lower and upper ends of n equal intervals, to 1e-9 degrees."""
    edges = np.round(low + np.arange(n + 1) * ((high - low) / n), 9)
    return edges[:-1], edges[1:]


def _split(low: Floats, high: Floats, lines: Floats) -> tuple[Floats, Floats]:
    """The ascending, disjoint intervals [low, high), cut wherever a line runs through."""
    points = np.unique(np.round(np.concatenate([low, high, lines]), 9))
    a, b = points[:-1], points[1:]
    owner = np.clip(np.searchsorted(low, (a + b) / 2, side="right") - 1, 0, None)
    inside = (low[owner] <= a) & (b <= high[owner]) if low.size else np.zeros(a.size, np.bool_)
    return a[inside], b[inside]


def _crossed(
    region: Region, west: Floats, south: Floats, east: Floats, north: Floats
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which rows and which columns a region's boxes cross at all: a small one is found fast."""
    lon, lat = (west + east) / 2, (south + north) / 2
    rows, columns = np.ones(lat.size, np.bool_), np.ones(lon.size, np.bool_)
    if not region.countries:
        rows = np.any([(lat >= s) & (lat <= n) for _, s, _, n in region.frames], axis=0)
        columns = np.any(
            [in_box((w, -90, e, 90), lon, np.zeros(1)) for w, _, e, _ in region.frames], axis=0
        )
    for w, s, e, n in region.extents:
        rows &= (lat >= s) & (lat <= n)
        columns &= in_box((w, -90, e, 90), lon, np.zeros(1))
    return rows, columns


def _holding(
    region: Region, west: Floats, south: Floats, east: Floats, north: Floats, *, pixels: bool
) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """Row and column of the rectangles that hold land of the region, and what share of each."""
    lon, lat = (west + east) / 2, (south + north) / 2
    strata = region.strata
    found = []
    for start in range(0, lat.size, 256):  # strips: memory stays small
        y, x = lat[start : start + 256, None], lon[None, :]
        land = strata.is_land(x, y) if pixels else strata.land(x, y)
        row, column = np.nonzero(land)
        share = land[row, column].astype(np.float64)
        row += start
        inside = region.surrounds(lon[column], lat[row])
        row, column, share = row[inside], column[inside], share[inside]
        if region.outline is not None:
            share *= region.share(west[column], south[row], east[column], north[row])
            row, column, share = row[share > 0], column[share > 0], share[share > 0]
        found.append((row, column, share))
    if not found:  # no strip at all: a box of no land, taken apart into no pixels
        none = np.zeros(0, np.intp)
        return none, none, np.zeros(0)
    rows, columns, shares = (np.concatenate(part) for part in zip(*found, strict=True))
    return rows, columns, shares
