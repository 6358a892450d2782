"""Which scenes there are: tiles and frames on each sensor's real lattice, when it flies over.

The rule of the lattice says whose scenes they are. mgrs-utm: Sentinel-2, tiles of 109.8 km on the
squares of 100 km, cut by the swath, which is 290 km wide. utm-north: Landsat, frames of WRS-2,
inclined in the rectangle of pixels that encloses them. utm-nad83: quarter quadrangles of 3.75', a
flight every second or third summer.
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

from las_builder.access.virtual import sky
from las_builder.access.virtual.ground import Window, World
from las_builder.access.virtual.noise import RADIUS, seed_of, unit
from las_builder.access.virtual.track import (
    FRAME,
    LANDSAT,
    SATELLITES,
    SENTINEL_2,
    SWATH,
    Overpass,
    Track,
    beside,
    centre_of,
    ground,
    path_row,
    step_at,
    sun,
    track_over,
)
from las_builder.catalogs import Imagery
from las_builder.core.grid import Grid, Lattice, from_lonlat, to_lonlat
from las_builder.core.types import AssetRef, Period, Scene

_SQUARE, _TILE = 100_000.0, 109_800.0
_QUAD = 1 / 16  # degrees: 3.75'
_QUAD_MARGIN = 200.0
_BASELINE_4 = date(2022, 1, 25)
_COLUMNS, _ROWS = "ABCDEFGHJKLMNPQRSTUVWXYZ", "ABCDEFGHJKLMNPQRSTUV"
_BANDS = "CDEFGHJKLMNPQRSTUVWX"

_POLE = 62
"""Rows from the descending node to the northernmost and to the southernmost frame."""

_LOWEST_SUN = {SENTINEL_2: 4.0, LANDSAT: 14.0}
"""Degrees above the horizon at the middle of a scene; lower, and there is none. Landsat: surface
reflectance is not made beyond a zenith angle of 76° (USGS). Sentinel-2: ours; the lowest of the
recorded items has 4.2°."""


@dataclass(frozen=True, slots=True)
class _Tile:
    """A place that is imaged again and again."""

    name: str
    grid: Grid


@dataclass(frozen=True, slots=True)
class _Look:
    """One look at a place, before it is known whether it is wanted."""

    id: str
    when: datetime
    grid: Grid
    properties: Mapping[str, str | float]
    overpass: Overpass | None


def scenes(
    world: World, imagery: Imagery, grid: Grid, period: Period, max_cloud: float
) -> list[Scene]:
    """Scenes that share ground with a patch, by (datetime, id).

    Args:
        world: Whose climate makes the clouds.
        imagery: Which lattice, from when to when, where.
        grid: The patch; of photographs the scene has its pixel.
        period: Days, in UTC.
        max_cloud: Percent of what was seen of the whole scene.
    """
    if not in_bbox(imagery.extent.bbox, *(np.array([v]) for v in grid.centre_lonlat()))[0]:
        return []
    lattice = imagery.lattice
    if lattice.cell is None:  # photographs: every flight has an origin of its own
        looks = _flights(grid, lattice, period)
    elif lattice.crs == "mgrs-utm":
        looks = _sentinel(grid, lattice, period)
    else:
        looks = _landsat(grid, lattice, period)
    first, last = imagery.extent.interval
    names = tuple(dict.fromkeys([*(band.name for band in imagery.bands), *imagery.validity.reads]))
    found = []
    for look in looks:
        day = look.when.date()
        if not period.holds(look.when) or day < (first or day) or day > (last or day):
            continue
        cloud = sky.cloud_cover(world, look.overpass) if look.overpass else 0.0
        if cloud <= max_cloud:
            found.append(_scene(names, imagery.name, look, cloud))
    return sorted(found, key=lambda scene: (scene.datetime, scene.id))


def seen(scene: Scene, window: Window) -> NDArray[np.bool_]:
    """Which pixels the sensor saw, (height, width): those within the swath, or the frame.

    Args:
        scene: Of this world.
        window: In the scene's CRS, wherever; a place has one answer in all of them.
    """
    overpass = Overpass.of(scene)
    if overpass is None:
        return np.ones(window.shape, bool)
    track = overpass.track
    return track.holds(*track.at(*window.xy()))


def in_bbox(
    bbox: tuple[float, float, float, float], lon: NDArray[np.float64], lat: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether places (degrees, any turn) lie in (west, south, east, north), west > east included."""
    west, south, east, north = bbox
    width = east - west if east >= west else east - west + 360
    return np.asarray((lat >= south) & (lat <= north) & ((lon - west) % 360 <= width))


@dataclass(frozen=True, slots=True)
class _Assets(Mapping[str, AssetRef]):
    """Where the bands of a scene are. Of a hundred scenes found, few are looked at."""

    names: tuple[str, ...]
    folder: str

    def __getitem__(self, name: str) -> AssetRef:
        if name not in self.names:
            raise KeyError(name)
        return AssetRef(href=f"{self.folder}/{name}")

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def _scene(names: tuple[str, ...], source: str, look: _Look, cloud_cover: float) -> Scene:
    return Scene(
        id=look.id,
        datetime=look.when,
        cloud_cover=cloud_cover,
        grid=look.grid,
        assets=_Assets(names, f"virtual://{source}/{look.id}"),
        properties=look.properties,
    )


# ---- passes


@dataclass(frozen=True, slots=True)
class _View:
    """A track over a tile or frame."""

    track: Track
    revolution: int
    step: int | None
    along: float
    """Where on the track the middle of the tile is, metres."""


def _sentinel(grid: Grid, lattice: Lattice, period: Period) -> Iterator[_Look]:
    for tile in _squares(grid, lattice):
        lon, lat = tile.grid.centre_lonlat()
        for view in _views(tile.grid):
            if not _shows(view.track, grid, tile.grid.crs):
                continue
            for satellite in SATELLITES:
                if satellite.orbit is not SENTINEL_2:
                    continue
                for cycle in satellite.cycles(view.revolution, view.along, period):
                    when = satellite.when(cycle, view.revolution, view.along)
                    elevation, azimuth = sun(when, lon, lat)
                    if elevation < _LOWEST_SUN[SENTINEL_2]:
                        continue
                    start = satellite.when(cycle, view.revolution, math.pi / 2 * RADIUS)
                    number = satellite.number + cycle * SENTINEL_2.revolutions + view.revolution
                    baseline = "05.10" if when.date() >= _BASELINE_4 else "03.01"
                    yield _Look(
                        f"{satellite.code}_T{tile.name}_{start:%Y%m%dT%H%M%S}"
                        f"_R{view.revolution + 1:03d}_VIRT",
                        when,
                        tile.grid,
                        {
                            "platform": satellite.platform,
                            "sat:relative_orbit": view.revolution + 1,
                            "sat:orbit_state": "descending",
                            "s2:mgrs_tile": tile.name,
                            "s2:processing_baseline": baseline,
                            "s2:datatake_id": f"G{satellite.code}_{start:%Y%m%dT%H%M%S}"
                            f"_{number:06d}_N{baseline}",
                            "s2:nodata_pixel_percentage": round(100 * (1 - view.track.seen), 4),
                            "view:sun_elevation": elevation,
                            "view:sun_azimuth": azimuth,
                        },
                        Overpass(satellite, cycle, view.revolution, tile.grid, None, when),
                    )


def _landsat(grid: Grid, lattice: Lattice, period: Period) -> Iterator[_Look]:
    for revolution, step in _near(grid):
        frame, view = _frame(lattice, revolution, step)
        if not _shows(view.track, grid, frame.grid.crs):
            continue
        lon, lat = frame.grid.centre_lonlat()
        path, row = path_row(revolution, step)
        for satellite in SATELLITES:
            if satellite.orbit is not LANDSAT:
                continue
            for cycle in satellite.cycles(revolution, view.along, period):
                when = satellite.when(cycle, revolution, view.along)
                elevation, azimuth = sun(when, lon, lat)
                if elevation < _LOWEST_SUN[LANDSAT]:
                    continue
                yield _Look(
                    f"{satellite.code}_L2SP_{frame.name}_{when:%Y%m%d}_VIRT_T1",
                    when,
                    frame.grid,
                    {
                        "platform": satellite.platform,
                        "landsat:wrs_path": f"{path:03d}",
                        "landsat:wrs_row": f"{row:03d}",
                        "landsat:scene_id": f"LC{satellite.code[-1]}{frame.name}{when:%Y%j}LGN00",
                        "landsat:correction": "L2SP",
                        "landsat:collection_category": "T1",
                        "view:off_nadir": 0,
                        "view:sun_elevation": elevation,
                        "view:sun_azimuth": azimuth,
                    },
                    Overpass(satellite, cycle, revolution, frame.grid, step, when),
                )


def _shows(track: Track, grid: Grid, crs: str | None) -> bool:
    """Whether an image in some CRS shows any of five by five places of a patch."""
    west, south, east, north = _bounds_in(grid, crs or "")
    x, y = np.linspace(west, east, 5), np.linspace(south, north, 5)
    return bool(track.holds(*track.at(x, y)).any())


@functools.lru_cache(maxsize=4096)
def _views(grid: Grid) -> tuple[_View, ...]:
    """Relative orbits of Sentinel-2 that see some of a tile."""
    lon, lat = (np.array(v) for v in grid.centre_lonlat())
    along, across = beside(SENTINEL_2, np.arange(SENTINEL_2.revolutions), lon, lat)
    views = []
    for revolution in np.flatnonzero(np.abs(across) < SWATH + 0.75 * _TILE).tolist():
        track = track_over(grid, SENTINEL_2, revolution, None)
        if track.seen > 0:
            views.append(_View(track, revolution, None, float(along[revolution])))
    return tuple(views)


def _near(grid: Grid) -> Iterator[tuple[int, int]]:
    """Revolution and step of every Landsat frame that could show some of a patch."""
    lon, lat = grid.centre_lonlat()
    cell = round(lon * 2) / 2, round(lat * 2) / 2
    reach = 10_000.0 * math.ceil(max(grid.size_m()) * 0.71 / 10_000) + 40_000.0
    return iter(_frames_around(*cell, reach))


@functools.lru_cache(maxsize=4096)
def _frames_around(lon: float, lat: float, reach: float) -> tuple[tuple[int, int], ...]:
    """Revolution and step of frames within some metres of a place."""
    along, across = beside(LANDSAT, np.arange(LANDSAT.revolutions), np.array(lon), np.array(lat))
    found: list[tuple[int, int]] = []
    for revolution in np.flatnonzero(np.abs(across) < FRAME[1] + reach).tolist():
        first, last = (
            step_at(float(along[revolution]) + k * (FRAME[0] + 1.1 * reach)) for k in (-1, 1)
        )
        steps = range(max(math.ceil(first), -_POLE), min(math.floor(last), _POLE) + 1)
        found += [(revolution, step) for step in steps]
    return tuple(found)


@functools.lru_cache(maxsize=1 << 14)  # most of those on land
def _frame(lattice: Lattice, revolution: int, step: int) -> tuple[_Tile, _View]:
    """A frame of WRS-2: the rectangle of pixels around it, in the CRS of its middle."""
    middle = centre_of(step)
    side = np.linspace(-1, 1, 17)
    edge = np.ones(17)
    s = np.concatenate([side, side, edge, -edge, [0.0]]) * FRAME[0] + middle
    d = np.concatenate([edge, -edge, side, side, [0.0]]) * FRAME[1]
    lon, lat = ground(LANDSAT, revolution, s, d)
    crs = lattice.crs_at(float(lon[-1]), float(lat[-1]))
    x, y = (np.round(v, 3) for v in from_lonlat(crs, lon, lat))
    (ox, oy), pixel = lattice.origin_north, lattice.pixel
    left, right = math.floor((x.min() - ox) / pixel), math.ceil((x.max() - ox) / pixel)
    top, bottom = math.ceil((y.max() - oy) / pixel), math.floor((y.min() - oy) / pixel)
    place = Affine(pixel, 0.0, left * pixel + ox, 0.0, -pixel, top * pixel + oy)
    grid = Grid(crs, place, right - left, top - bottom)
    path, row = path_row(revolution, step)
    track = track_over(grid, LANDSAT, revolution, step)
    return _Tile(f"{path:03d}{row:03d}", grid), _View(track, revolution, step, middle)


def _flights(grid: Grid, lattice: Lattice, period: Period) -> Iterator[_Look]:
    for year in range(period.start.year - 1, period.end.year + 1):
        for tile in _quads(grid, lattice, year):
            state = tuple(v // 4 for v in map(math.floor, tile.grid.centre_lonlat()))
            every = 2 + seed_of(state, "every") % 2
            if (year + seed_of(state, "phase")) % every:
                continue
            day = date(year, 6, 10) + timedelta(days=seed_of(tile.name, year) % 80)
            yield _Look(
                f"m_{tile.name}_{day:%Y%m%d}_VIRT",
                datetime(day.year, day.month, day.day, 16, tzinfo=UTC),
                tile.grid,
                {"platform": "aircraft", "gsd": tile.grid.pixel[0], "naip:year": str(year)},
                None,
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
