"""Which scenes there are: tiles on each sensor's real lattice, and the days it passes.

The rule of the lattice says how its scenes lie. mgrs-utm: tiles of 109.8 km on the squares of
100 km, every 5 days. utm-north: frames of 185 km, every 16 days for each of two satellites.
utm-nad83: quarter quadrangles of 3.75', a flight every second or third summer.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from las_builder.access.virtual.ground import World
from las_builder.access.virtual.noise import seed_of, unit
from las_builder.catalogs import Imagery
from las_builder.core.grid import Grid, Lattice, from_lonlat, to_lonlat
from las_builder.core.types import AssetRef, Period, Scene

_SQUARE, _TILE = 100_000.0, 109_800.0
_FRAME, _FRAME_STEP = 185_010.0, 170_010.0  # whole pixels of 30 m; 15 km of overlap
_QUAD = 1 / 16  # degrees: 3.75'
_QUAD_MARGIN = 200.0
_LANDSAT_9 = date(2021, 10, 31)
_SENTINEL_2B = date(2017, 7, 1)
_BASELINE_4 = date(2022, 1, 25)
_COLUMNS, _ROWS = "ABCDEFGHJKLMNPQRSTUVWXYZ", "ABCDEFGHJKLMNPQRSTUV"
_BANDS = "CDEFGHJKLMNPQRSTUVWX"

_CLOUDINESS = {"A": 0.8, "B": 6.0, "C": 1.4, "D": 1.3, "E": 1.1}
"""Mean cloud share is 1 / (1 + this), by the first letter of the climate."""


@dataclass(frozen=True, slots=True)
class _Tile:
    """A place that is imaged again and again."""

    name: str
    grid: Grid


@dataclass(frozen=True, slots=True)
class _Pass:
    """One look at a tile, before it is known whether it is wanted."""

    id: str
    when: datetime
    grid: Grid
    properties: Mapping[str, str | float]


def scenes(
    world: World, imagery: Imagery, grid: Grid, period: Period, max_cloud: float
) -> list[Scene]:
    """Scenes that share ground with a patch, by (datetime, id).

    Args:
        world: Whose climate makes the clouds.
        imagery: Which lattice, from when to when, where.
        grid: The patch; of photographs the scene has its pixel.
        period: Days, in UTC.
        max_cloud: Percent of the whole scene.
    """
    if not in_bbox(imagery.extent.bbox, *(np.array([v]) for v in grid.centre_lonlat()))[0]:
        return []
    lattice = imagery.lattice
    passes: list[_Pass] = []
    if lattice.crs == "utm-nad83":
        passes += _flights(grid, lattice, period)
    elif lattice.crs == "mgrs-utm":
        for tile in _squares(grid, lattice):
            passes += _sentinel(tile, period)
    else:
        for tile in _frames(grid, lattice):
            passes += _landsat(tile, period)
    first, last = imagery.extent.interval
    found = []
    for look in passes:
        day = look.when.date()
        if not period.holds(look.when) or day < (first or day) or day > (last or day):
            continue
        cloud = 0.0 if lattice.crs == "utm-nad83" else _cloud_cover(world, look)
        if cloud <= max_cloud:
            found.append(_scene(imagery, look, cloud))
    return sorted(found, key=lambda scene: (scene.datetime, scene.id))


def in_bbox(
    bbox: tuple[float, float, float, float], lon: NDArray[np.float64], lat: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether places (degrees, any turn) lie in (west, south, east, north), west > east included."""
    west, south, east, north = bbox
    width = east - west if east >= west else east - west + 360
    return np.asarray((lat >= south) & (lat <= north) & ((lon - west) % 360 <= width))


def _scene(imagery: Imagery, look: _Pass, cloud_cover: float) -> Scene:
    names = [band.name for band in imagery.bands]
    if imagery.validity.band is not None:
        names.append(imagery.validity.band)
    return Scene(
        id=look.id,
        datetime=look.when,
        cloud_cover=cloud_cover,
        grid=look.grid,
        assets={n: AssetRef(href=f"virtual://{imagery.name}/{look.id}/{n}") for n in names},
        properties=look.properties,
    )


def _cloud_cover(world: World, look: _Pass) -> float:
    """Percent; deserts are clear, the rain forest hardly ever is."""
    zone = _zone_of(world, look.grid)
    power = _CLOUDINESS.get(zone[:1], 1.4)
    # Rounded, because the last digit of a power depends on the machine.
    return float(round(100 * unit(look.id, "cloud cover") ** power, 4))


@functools.lru_cache(maxsize=4096)
def _zone_of(world: World, grid: Grid) -> str:
    lon, lat = (np.array([v]) for v in grid.centre_lonlat())
    return world.strata.climate_name(int(world.strata.climate(lon, lat)[0]))


# ---- days


def _days(period: Period, cycle: int, phase: int) -> Iterator[date]:
    """Every `cycle`-th day, from the day before to the day after a period: UTC is not local."""
    first, last = period.start.toordinal() - 1, period.end.toordinal() + 1
    for ordinal in range(first + (phase - first) % cycle, last + 1, cycle):
        yield date.fromordinal(ordinal)


def _morning(day: date, tile: _Tile, minute: int) -> datetime:
    """That minute after half past ten, local solar time."""
    lon = round(tile.grid.centre_lonlat()[0])
    local = datetime(day.year, day.month, day.day, 10, 30, tzinfo=UTC)
    seconds = seed_of(tile.name, day.toordinal()) % 60
    return local + timedelta(minutes=minute - 4 * lon, seconds=seconds)


def _sentinel(tile: _Tile, period: Period) -> Iterator[_Pass]:
    for day in _days(period, 5, seed_of(tile.name) % 5):
        b = day.toordinal() // 5 % 2 == 1
        if b and day < _SENTINEL_2B:
            continue
        when = _morning(day, tile, 0)
        yield _Pass(
            f"S2{'B' if b else 'A'}_T{tile.name}_{when:%Y%m%dT%H%M%S}_VIRT",
            when,
            tile.grid,
            {
                "platform": f"sentinel-2{'b' if b else 'a'}",
                "s2:mgrs_tile": tile.name,
                "s2:processing_baseline": "05.10" if when.date() >= _BASELINE_4 else "03.01",
            },
        )


def _landsat(tile: _Tile, period: Period) -> Iterator[_Pass]:
    phase = seed_of(tile.name) % 16
    for number, start, lag in ((8, date.min, 0), (9, _LANDSAT_9, 8)):
        for day in _days(period, 16, phase + lag):
            if day >= start:
                when = _morning(day, tile, -15)
                yield _Pass(
                    f"LC0{number}_L2SP_{tile.name}_{when:%Y%m%d}_VIRT_T1",
                    when,
                    tile.grid,
                    {"platform": f"landsat-{number}", "landsat:collection_category": "T1"},
                )


def _flights(grid: Grid, lattice: Lattice, period: Period) -> Iterator[_Pass]:
    for year in range(period.start.year - 1, period.end.year + 1):
        for tile in _quads(grid, lattice, year):
            state = tuple(v // 4 for v in map(math.floor, tile.grid.centre_lonlat()))
            every = 2 + seed_of(state, "every") % 2
            if (year + seed_of(state, "phase")) % every:
                continue
            day = date(year, 6, 10) + timedelta(days=seed_of(tile.name, year) % 80)
            yield _Pass(
                f"m_{tile.name}_{day:%Y%m%d}_VIRT",
                datetime(day.year, day.month, day.day, 16, tzinfo=UTC),
                tile.grid,
                {"platform": "aircraft", "gsd": tile.grid.pixel[0], "naip:year": str(year)},
            )


# ---- tiles


def _bounds_in(grid: Grid, crs: str) -> tuple[float, float, float, float]:
    if grid.crs == crs:
        return grid.bounds
    ring = grid.outline_lonlat()
    x, y = from_lonlat(crs, ring[:, 0], ring[:, 1])
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def _crs_around(grid: Grid, lattice: Lattice) -> list[str]:
    """Every CRS in which imagery of this lattice comes somewhere on the patch."""
    return sorted({lattice.crs_at(lon, lat) for lon, lat in grid.outline_lonlat(2)})


def _steps(low: float, high: float, step: float, size: float) -> range:
    """Which of the intervals [i step, i step + size] meet [low, high]."""
    return range(math.floor((low - size) / step), math.floor(high / step) + 2)


def _squares(grid: Grid, lattice: Lattice) -> Iterator[_Tile]:
    """Sentinel-2: west edge rounded down, north edge up, to the lattice around each square."""
    cell, size = lattice.cell or lattice.pixel, round(_TILE / lattice.pixel)
    for crs in _crs_around(grid, lattice):
        west, south, east, north = _bounds_in(grid, crs)
        is_south = crs.startswith("EPSG:327")
        ox, oy = lattice.origin_south if is_south else lattice.origin_north
        for i in _steps(west, east, _SQUARE, _TILE):
            left = math.floor((i * _SQUARE - ox) / cell) * cell + ox
            for j in _steps(south, north, _SQUARE, _TILE):
                if (j > 99) if is_south else (j < 0):  # the other hemisphere has its own
                    continue
                top = math.ceil(((j + 1) * _SQUARE - oy) / cell) * cell + oy
                if left < east and left + _TILE > west and top > south and top - _TILE < north:
                    place = Affine(lattice.pixel, 0.0, left, 0.0, -lattice.pixel, top)
                    yield _Tile(_mgrs(crs, i, j), Grid(crs, place, size, size))


@functools.lru_cache(maxsize=4096)
def _mgrs(crs: str, i: int, j: int) -> str:
    """Name of the square of 100 km: zone, band, column, row."""
    zone = int(crs[-2:])
    x, y = np.array([(i + 0.5) * _SQUARE]), np.array([(j + 0.5) * _SQUARE])
    lat = float(to_lonlat(crs, x, y)[1][0])
    band = _BANDS[min(max(int((lat + 80) // 8), 0), 19)]
    column = _COLUMNS[((zone - 1) % 3 * 8 + i - 1) % 24]
    row = _ROWS[(j + (5 if zone % 2 == 0 else 0)) % 20]
    return f"{zone:02d}{band}{column}{row}"


def _frames(grid: Grid, lattice: Lattice) -> Iterator[_Tile]:
    size = round(_FRAME / lattice.pixel)
    ox, oy = lattice.origin_north
    for crs in _crs_around(grid, lattice):
        west, south, east, north = _bounds_in(grid, crs)
        for i in _steps(west - ox, east - ox, _FRAME_STEP, _FRAME):
            left = ox + i * _FRAME_STEP
            for j in _steps(-north + oy, -south + oy, _FRAME_STEP, _FRAME):
                top = oy - j * _FRAME_STEP
                if left < east and left + _FRAME > west and top > south and top - _FRAME < north:
                    place = Affine(lattice.pixel, 0.0, left, 0.0, -lattice.pixel, top)
                    yield _Tile(f"{crs[5:]}{_signed(i)}{_signed(j)}", Grid(crs, place, size, size))


def _signed(number: int) -> str:
    return f"{'m' if number < 0 else 'p'}{abs(number):02d}"


def _quads(grid: Grid, lattice: Lattice, year: int) -> Iterator[_Tile]:
    """NAIP: the box around each quarter quadrangle and 200 m more, from an origin of its own."""
    ring = grid.outline_lonlat(2)
    columns = range(
        *(math.floor(v / _QUAD) + k for v, k in zip(_span(ring[:, 0]), (-1, 2), strict=True))
    )
    rows = range(
        *(math.floor(v / _QUAD) + k for v, k in zip(_span(ring[:, 1]), (-1, 2), strict=True))
    )
    pixel = grid.pixel[0]
    for column in columns:
        for row in rows:
            name, crs, bounds = _quad(column, row, lattice)
            west, north = (
                math.floor(v / pixel) * pixel + unit(name, year, axis) * pixel
                for v, axis in ((bounds[0], "x"), (bounds[3], "y"))
            )
            place = Affine(pixel, 0.0, round(west, 3), 0.0, -pixel, round(north, 3))
            width = math.ceil((bounds[2] - bounds[0]) / pixel)
            height = math.ceil((bounds[3] - bounds[1]) / pixel)
            tile = Grid(crs, place, width, height)
            (w, s, e, n), (w2, s2, e2, n2) = tile.bounds, _bounds_in(grid, crs)
            if w < e2 and e > w2 and s < n2 and n > s2:
                yield _Tile(f"{name}_{int(crs[-2:]):02d}_{round(pixel * 100):03d}", tile)


def _span(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(values.min()), float(values.max())


@functools.lru_cache(maxsize=4096)
def _quad(
    column: int, row: int, lattice: Lattice
) -> tuple[str, str, tuple[float, float, float, float]]:
    """Name, CRS and bounds of a quarter quadrangle, as the USGS numbers them."""
    west, south = column * _QUAD, row * _QUAD
    crs = lattice.crs_at(west + _QUAD / 2, south + _QUAD / 2)
    s = np.linspace(0, _QUAD, 5)
    lon, lat = (v.ravel() for v in np.meshgrid(west + s, south + s))
    x, y = from_lonlat(crs, lon, lat)
    bounds = (
        float(x.min()) - _QUAD_MARGIN,
        float(y.min()) - _QUAD_MARGIN,
        float(x.max()) + _QUAD_MARGIN,
        float(y.max()) + _QUAD_MARGIN,
    )
    degree_lat, degree_lon = math.floor(south), -math.floor(west) - 1
    # 64 quadrangles of 7.5' in a degree, counted from its north-western corner, row by row.
    number = (7 - row % 16 // 2) * 8 + column % 16 // 2 + 1
    quarter = ("s", "n")[row % 2] + ("w", "e")[column % 2]
    return f"{degree_lat:02d}{degree_lon:03d}{number:02d}_{quarter}", crs, bounds
