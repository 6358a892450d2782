"""Where two grids meet: in any two CRS, over the antimeridian and the poles."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS

from las_builder.core.grid import Grid, from_lonlat, is_geographic, transformer

_OUTLINE = 32
_TURNS = (-360.0, 0.0, 360.0)


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows and columns of a raster, and by how many degrees to turn them so that pieces join."""

    turn: float
    rows: tuple[int, int]
    cols: tuple[int, int]


def windows_around(grid: Grid, source: Grid, margin: int = 0) -> list[Piece]:
    """Which rows and columns of `source` lie around `grid`; none where they do not meet.

    Args:
        grid: In any CRS, also over the antimeridian or a pole.
        source: The raster's grid.
        margin: Pixels of the raster to spare on each side; it makes nothing meet that is apart.
    """
    if not discs_meet(grid, np.array([disc(source)]))[0]:
        return []
    x, y = extent_in(grid, source.crs or "")
    if x[0] > x[1]:
        return []
    turns = _TURNS if is_geographic(source.crs or "") else (0.0,)
    t = source.transform
    rows = span((y[1] - t.f) / t.e, (y[0] - t.f) / t.e, source.height, margin)
    pieces = []
    for turn in turns:
        west = t.c + turn
        cols = span((x[0] - west) / t.a, (x[1] - west) / t.a, source.width, margin)
        if rows is not None and cols is not None:
            pieces.append(Piece(turn, rows, cols))
    return pieces


@functools.lru_cache(maxsize=1024)
def same_crs(one: str | None, other: str | None) -> bool:
    """Whether two CRS are one, whatever they are called and however they are written."""
    if one is None or other is None or one == other:
        return one == other
    return CRS.from_user_input(one).equals(CRS.from_user_input(other), ignore_axis_order=True)


def overlap(grid: Grid, source: Grid) -> bool:
    """Whether two grids, in any two CRS, share ground."""
    return bool(windows_around(grid, source))


@functools.lru_cache(maxsize=4096)
def extent_in(grid: Grid, crs: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """Smallest and largest x and y of a grid in another CRS; (inf, -inf) if it has no place there.

    In a geographic CRS x is continuous around the middle of the grid, so it may pass 180, and is
    a whole turn where the grid holds a pole.
    """
    west, south, east, north = grid.bounds
    if grid.crs == crs:
        return (west, east), (south, north)
    s = np.linspace(0.0, 1.0, _OUTLINE)
    px = np.concatenate([west + s * (east - west)] * 2 + [0 * s + west, 0 * s + east])
    py = np.concatenate([0 * s + south, 0 * s + north] + [south + s * (north - south)] * 2)
    # The middle first: what the outline is continuous with.
    px, py = np.append((west + east) / 2, px), np.append((south + north) / 2, py)
    x, y = transformer(grid.crs or "", crs).transform(px, py)
    if not is_geographic(crs):
        x, y = x[np.isfinite(x) & np.isfinite(y)], y[np.isfinite(x) & np.isfinite(y)]
        if not x.size:
            return (math.inf, -math.inf), (math.inf, -math.inf)
        return (float(x.min()), float(x.max())), (float(y.min()), float(y.max()))
    x = x[0] + (x - x[0] + 180.0) % 360.0 - 180.0
    low, high = float(y.min()), float(y.max())
    for pole in (-90.0, 90.0):
        if _holds_pole(grid, pole):
            return (x[0] - 180.0, x[0] + 180.0), (min(low, pole), max(high, pole))
    return (float(x.min()), float(x.max())), (low, high)


def _holds_pole(grid: Grid, lat: float) -> bool:
    if is_geographic(grid.crs or ""):
        return False
    x, y = from_lonlat(grid.crs, np.array([0.0]), np.array([lat]))
    west, south, east, north = grid.bounds
    return bool(west <= x[0] <= east and south <= y[0] <= north)


@functools.lru_cache(maxsize=65536)
def disc(grid: Grid) -> tuple[float, float, float]:
    """Longitude, latitude (radians) and angular radius of a disc that holds a grid, 5 % to spare."""
    lon, lat = np.radians(grid.centre_lonlat())
    ring = np.radians(grid.outline_lonlat())
    ring = ring[np.isfinite(ring).all(axis=1)]
    if not (np.isfinite(lon) and np.isfinite(lat)) or not len(ring):
        return 0.0, 0.0, math.pi
    radius = float(_arc(lon, lat, ring[:, 0], ring[:, 1]).max())
    return float(lon), float(lat), radius * 1.05 + 1e-6


def discs_meet(grid: Grid, discs: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of many discs, (n, 3), meet that of a grid: cheap, and right at any longitude.

    It also keeps far places out of projections that give them meaningless coordinates: transverse
    Mercator runs on over the pole and down the other side.
    """
    lon, lat, radius = disc(grid)
    return np.asarray(_arc(lon, lat, discs[:, 0], discs[:, 1]) <= radius + discs[:, 2])


def _arc(lon: float, lat: float, lons: NDArray[np.float64], lats: NDArray[np.float64]) -> Any:
    """Great-circle angles by the haversine formula; everything in radians."""
    half = (
        np.sin((lats - lat) / 2) ** 2 + math.cos(lat) * np.cos(lats) * np.sin((lons - lon) / 2) ** 2
    )
    return 2 * np.arcsin(np.sqrt(np.clip(half, 0, 1)))


def span(start: float, stop: float, size: int, margin: int) -> tuple[int, int] | None:
    """Whole pixels from `start` to `stop` with a margin, cut to `size`; None where there are none."""
    first, last = math.floor(start + 1e-6), math.ceil(stop - 1e-6)
    if last <= 0 or first >= size or last <= first:
        return None
    return max(0, first - margin), min(size, last + margin)
