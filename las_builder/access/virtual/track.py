"""Where a satellite's ground track runs, and where a place lies beside it.

A sun-synchronous orbit on a sphere, seen from the turning Earth: its node keeps the mean sun's
pace, so the Earth turns once a day under it, and after a whole number of days and of revolutions
it flies over the same ground again. Latitudes of the ground are geodetic, as in the USGS's
conversion of WRS-2 paths and rows (`ll2PathRow`), whose formulae are these. Cameras look straight
down and are yawed so that a line of pixels is perpendicular to the track on the ground.

A place has two coordinates in a pass: metres along the track since the ascending node, and metres
across it, positive to the left of the flight. They are the map that the swath, its frames and the
weather of that pass live in; no seam of any map of the Earth is in it.

Checked against recorded STAC items: edges of Sentinel-2 swaths to 3 km (the half-width itself is
142.4 km in the west and 145.4 km in the east, constant to 0.1 km), corners of Landsat frames to
3 km, times of day to 1 s.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
from numba import njit
from numpy.typing import NDArray

from las_builder.access.virtual.noise import RADIUS
from las_builder.core.grid import Grid, to_lonlat
from las_builder.core.types import Period, Scene

Array = NDArray[np.float64]

_FLAT = 1 - 0.00669437999014
"""1 - e² of WGS 84: tangent of the geocentric over that of the geodetic latitude."""

_DAY = 86_400.0
_TRIES = 6

_EVEN = np.linspace(-1, 1, 5)
_POWERS = (
    np.array([[0, 0, 6, 0, 0], [1, -8, 0, 8, -1], [-1, 16, -30, 16, -1], [-4, 8, 0, -8, 4],
              [4, -16, 24, -16, 4]]) / 6
)  # fmt: skip
"""From values at `_EVEN` to the coefficients of the polynomial through them, 1 to x⁴."""


@dataclass(frozen=True, slots=True, eq=False)
class Orbit:
    """A sun-synchronous orbit that repeats its ground track."""

    inclination: float
    """Degrees."""

    revolutions: int
    """In a cycle."""

    days: int
    """In a cycle."""

    node: float
    """Longitude at which revolution 0 of a cycle crosses the equator northwards, degrees."""

    @property
    def period(self) -> float:
        """Seconds from ascending node to ascending node."""
        return self.days * _DAY / self.revolutions

    @property
    def turn(self) -> float:
        """By how much the Earth turns below it while it flies one radian."""
        return self.days / self.revolutions

    def ascends(self, revolution: NDArray[np.int64] | int) -> Array:
        """Longitude of the ascending node of revolutions, radians, in no particular turn."""
        return np.asarray(math.radians(self.node) - revolution * (2 * math.pi * self.turn))

    def seconds(self, along: float) -> float:
        """From the ascending node to a place on the track."""
        return along / (2 * math.pi * RADIUS) * self.period


SENTINEL_2 = Orbit(98.62, 143, 10, 1.0)
"""Relative orbit 1 ascends at 1° E. Sources: ESA, Sentinel-2 orbit (98.62°, 786 km, 10:30 at the
descending node); orbit scenario files S2A_OPER_MPL_ORBSCT_..._0008 and S2B_..._0007 (143 orbits in
10 days, ANX longitude 1.000000)."""

LANDSAT = Orbit(98.2096, 233, 16, -64.6 - 180 + 180 * 16 / 233)
"""WRS-2: path 1 descends at 64.6° W. Source: USGS, `ll2PathRow` (98.2096°, 233 orbits in 16 days,
row 60 of path 1 at -64.6°, 248 rows an orbit)."""


@njit(cache=True, error_model="numpy")
def _frame(inclined, turn, angle):  # type: ignore[no-untyped-def]
    """Unit vectors above the track, along it on the turning Earth, and to its left."""
    cos, sin, level, steep = (
        math.cos(angle),
        math.sin(angle),
        math.cos(inclined),
        math.sin(inclined),
    )
    up = (cos, level * sin, steep * sin)
    x, y, z = turn * up[1] - sin, level * cos - turn * up[0], steep * cos
    length = math.sqrt(x * x + y * y + z * z)
    x, y, z = x / length, y / length, z / length
    left = (up[1] * z - up[2] * y, up[2] * x - up[0] * z, up[0] * y - up[1] * x)
    return up, (x, y, z), left


@njit(cache=True, error_model="numpy")
def _ground(inclined, turn, node, along, across, lon, lat):  # type: ignore[no-untyped-def]
    for n in range(along.size):
        angle = along[n] / RADIUS
        up, _, left = _frame(inclined, turn, angle)
        cos, sin = math.cos(across[n] / RADIUS), math.sin(across[n] / RADIUS)
        x, y, z = (
            up[0] * cos + left[0] * sin,
            up[1] * cos + left[1] * sin,
            up[2] * cos + left[2] * sin,
        )
        east = math.degrees(math.atan2(y, x) + node - turn * angle)
        lon[n] = (east + 180) % 360 - 180
        lat[n] = math.degrees(math.atan2(z, math.sqrt(x * x + y * y) * _FLAT))


def ground(orbit: Orbit, revolution: int, along: Array, across: Array) -> tuple[Array, Array]:
    """Coordinates of a pass to longitude (-180 to 180) and latitude, degrees, rounded to 1e-9."""
    along, across = np.broadcast_arrays(np.asarray(along, float), np.asarray(across, float))
    lon, lat = np.empty(along.size), np.empty(along.size)
    inclined, node = math.radians(orbit.inclination), float(orbit.ascends(revolution))
    _ground(inclined, orbit.turn, node, along.ravel(), across.ravel(), lon, lat)
    return np.round(lon, 9).reshape(along.shape), np.round(lat, 9).reshape(along.shape)


@njit(cache=True, error_model="numpy")
def _beside(inclined, turn, nodes, lon, lat, along, across):  # type: ignore[no-untyped-def]
    for n in range(along.size):
        at, node = min(n, lon.size - 1), nodes[min(n, nodes.size - 1)]
        centric = math.atan(math.tan(math.radians(lat[at])) * _FLAT)
        from_node = math.radians(lon[at]) - node
        level, high = math.cos(centric), math.sin(centric)
        angle = math.pi - math.asin(min(max(high / math.sin(inclined), -1.0), 1.0))
        behind, aside = 0.0, 0.0
        for _ in range(_TRIES):  # each brings it 20 times nearer and more
            turned = from_node + turn * angle
            x, y = level * math.cos(turned), level * math.sin(turned)
            up, ahead, left = _frame(inclined, turn, angle)
            behind = x * up[0] + y * up[1] + high * up[2]
            aside = x * left[0] + y * left[1] + high * left[2]
            angle += math.atan2(x * ahead[0] + y * ahead[1] + high * ahead[2], behind)
        along[n] = angle * RADIUS
        across[n] = math.asin(min(max(aside, -1.0), 1.0)) * RADIUS if behind > 0 else math.inf


def beside(
    orbit: Orbit, revolution: NDArray[np.int64] | int, lon: Array, lat: Array
) -> tuple[Array, Array]:
    """Places to the coordinates of a pass, or one place to those of many; southbound by preference.

    Args:
        orbit: Which.
        revolution: One, or (n,) for one place.
        lon: Degrees, any turn.
        lat: Degrees.

    Returns:
        Metres along and across, rounded to millimetres; infinite across where a place lies on
        the far side of the Earth.
    """
    shape = np.broadcast_shapes(np.shape(revolution), np.shape(lon), np.shape(lat))
    lon, lat = (np.ravel(v).astype(float) for v in np.broadcast_arrays(lon, lat))
    along, across = np.empty(shape), np.empty(shape)
    nodes = orbit.ascends(revolution).ravel()
    inclined = math.radians(orbit.inclination)
    _beside(inclined, orbit.turn, nodes, lon, lat, along.ravel(), across.ravel())
    return np.round(along, 3), np.round(across, 3)


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """Coordinates of a pass on the pixels of one grid, as polynomials of its map's coordinates.

    They are fitted once, at 5 by 5 places of the grid, and are off by less than a metre.
    """

    centre: tuple[float, float]
    """x, y of the middle of the grid."""

    half: tuple[float, float]
    """Half the width and height of the grid."""

    along: Array
    """(power of y, power of x), metres; y and x run from -1 to 1 over the grid."""

    across: Array
    """Likewise."""

    first: float
    """Metres along the track at which the image begins."""

    last: float
    half_swath: float
    seen: float
    """Share of the grid that is in the image, on 48 by 48 places."""

    @classmethod
    def over(
        cls, grid: Grid, orbit: Orbit, revolution: int, limits: tuple[float, float, float]
    ) -> Track:
        """Of one revolution; `limits` are where the image begins, ends, and half its width."""
        west, south, east, north = grid.bounds
        centre, half = (
            ((west + east) / 2, (south + north) / 2),
            ((east - west) / 2, (north - south) / 2),
        )
        x, y = np.meshgrid(centre[0] + _EVEN * half[0], centre[1] + _EVEN * half[1])
        lon, lat = to_lonlat(grid.crs, x, y)
        fitted = []
        for values in beside(orbit, revolution, lon, lat):
            # Rounded, because the order in which a matrix product sums depends on the machine.
            fitted.append(np.round(_POWERS @ values @ _POWERS.T, 6))
        side = (np.arange(48) + 0.5) / 24 - 1
        track = cls(centre, half, fitted[0], fitted[1], *limits, seen=0.0)
        places = track.at(centre[0] + side * half[0], centre[1] + side * half[1])
        return replace(track, seen=round(float(track.holds(*places).mean()), 6))

    def at(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Metres along and across, (y, x) each, at coordinates (x,) and (y,) of the map."""
        u, v = (x - self.centre[0]) / self.half[0], (y - self.centre[1]) / self.half[1]
        return _horner(self.along, u, v), _horner(self.across, u, v)

    def holds(self, along: Array, across: Array) -> NDArray[np.bool_]:
        """Whether places are in the image."""
        inside = np.abs(across) <= self.half_swath
        inside &= (along >= self.first) & (along <= self.last)
        return inside


def _horner(powers: Array, u: Array, v: Array) -> Array:
    # Element by element, so that a pixel has the same value in every window.
    rows = powers[4][:, None]
    for row in powers[3::-1]:
        rows = rows * v + row[:, None]
    out = np.broadcast_to(rows[4][:, None], (v.size, u.size))
    for column in rows[3::-1]:
        out = out * u + column[:, None]
    return np.asarray(out)


@dataclass(frozen=True, slots=True, eq=False)
class Satellite:
    """Who flies an orbit, and when."""

    platform: str
    code: str
    """As its scenes' names begin."""

    orbit: Orbit
    ascends: datetime
    """A moment at which it begins revolution 0 of a cycle, UTC."""

    number: int
    """Of that revolution, counted from the launch; 0 where nobody names it."""

    since: date

    def when(self, cycle: int, revolution: int, along: float) -> datetime:
        """The moment it is above a place on its track, to the second."""
        days, seconds = cycle * self.orbit.days, revolution * self.orbit.period
        passed = timedelta(days, round(seconds + self.orbit.seconds(along)))
        return self.ascends + passed

    def cycles(self, revolution: int, along: float, period: Period) -> Iterator[int]:
        """Cycles in which it is above a place on its track in a period."""
        first = self.when(0, revolution, along)
        start, end = (datetime.combine(d, time(), UTC) for d in (period.start, period.end))
        length = timedelta(self.orbit.days)
        for cycle in range(-((first - start) // length), -((first - end) // length)):
            if (first + cycle * length).date() >= self.since:
                yield cycle


SATELLITES = (
    Satellite(
        "sentinel-2a", "S2A", SENTINEL_2,
        datetime(2021, 1, 1, 22, 26, 1, tzinfo=UTC), 28884, date(2015, 7, 3),
    ),
    Satellite(
        "sentinel-2b", "S2B", SENTINEL_2,
        datetime(2020, 12, 27, 22, 26, 1, tzinfo=UTC), 19904, date(2017, 7, 1),
    ),
    Satellite(
        "landsat-8", "LC08", LANDSAT,
        datetime(2021, 1, 3, 13, 41, 24, tzinfo=UTC), 0, date(2013, 3, 18),
    ),
    Satellite(
        "landsat-9", "LC09", LANDSAT,
        datetime(2021, 1, 11, 13, 41, 6, tzinfo=UTC), 0, date(2021, 10, 31),
    ),
)  # fmt: skip
"""Sentinel-2: moments and numbers from the orbit scenario files; A keeps to the cycle of 10 days
from 2015-07-03 on. Landsat: moments from the times of recorded STAC items (path 33 row 32 of
2023-10-08, path 84 rows 69 to 82 of 2025-07-22); the days are those of the USGS acquisition
calendar (Landsat 8 flies path 1 on 2021-01-03). Sentinel-2C, which took A's place in 2025, is not
flown here; A flies on."""

_ROWS, _EQUATOR = 248, 60
"""Rows of WRS-2 in a revolution, and the one at the descending node."""

_BACK = pow(LANDSAT.days, -1, LANDSAT.revolutions)
_HALF_TURN = math.pi * RADIUS

FRAME = (96_700.0, 94_000.0)
"""Half the length and width of a Landsat frame, metres: corners of seven recorded STAC items lie
95.9 to 97.3 km along and 91.2 to 96.7 km across. The USGS says 180 km by 185 km."""

SWATH = 145_000.0
"""Half the swath of Sentinel-2, metres. Source: ESA, 290 km."""


def path_row(revolution: int, step: int) -> tuple[int, int]:
    """WRS-2 path and row of the frame that lies `step` rows after the one at the descending node.

    Rows before row 1 are counted with the path before: the revolution that it came from.
    """
    before = 1 if _EQUATOR + step < 1 else 0
    path = (revolution - before) * LANDSAT.days % LANDSAT.revolutions + 1
    return path, _EQUATOR + step + before * _ROWS


def centre_of(step: int) -> float:
    """Metres along the track of the middle of that frame."""
    return round(_HALF_TURN * (1 + 2 * step / _ROWS), 3)


def step_at(along: float) -> float:
    """Which step has its middle there."""
    return (along / _HALF_TURN - 1) * _ROWS / 2


@dataclass(frozen=True, slots=True)
class Overpass:
    """One image that one satellite took on one revolution."""

    satellite: Satellite
    cycle: int
    revolution: int
    grid: Grid
    """Of the image."""

    step: int | None
    """Which frame of the pass, in rows after the descending node; None: all of it southbound."""

    when: datetime

    @classmethod
    def of(cls, scene: Scene) -> Overpass | None:
        """How a scene of this world was taken; None for a photograph."""
        said = scene.properties
        satellite = next((s for s in SATELLITES if s.platform == said.get("platform")), None)
        if satellite is None:
            return None
        orbit, step = satellite.orbit, None
        if orbit is SENTINEL_2:
            revolution = int(said["sat:relative_orbit"]) - 1
        else:
            path, row = int(said["landsat:wrs_path"]), int(said["landsat:wrs_row"])
            revolution = (path - 1) * _BACK % orbit.revolutions
            step = row - _EQUATOR
            if row > _ROWS * 3 // 4:  # still on its way to the northernmost point
                revolution, step = (revolution + 1) % orbit.revolutions, step - _ROWS
        near = satellite.when(0, revolution, _HALF_TURN)
        cycle = round((scene.datetime - near) / timedelta(orbit.days))
        return cls(satellite, cycle, revolution, scene.grid, step, scene.datetime)

    @property
    def track(self) -> Track:
        """Its coordinates on its pixels."""
        return track_over(self.grid, self.satellite.orbit, self.revolution, self.step)


@functools.lru_cache(maxsize=1 << 14)
def track_over(grid: Grid, orbit: Orbit, revolution: int, step: int | None) -> Track:
    """The coordinates of a pass on a grid, and which of them are in the image."""
    if step is None:
        return Track.over(grid, orbit, revolution, (_HALF_TURN / 2, _HALF_TURN * 1.5, SWATH))
    middle = centre_of(step)
    limits = (middle - FRAME[0], middle + FRAME[0], FRAME[1])
    return Track.over(grid, orbit, revolution, limits)


def sun(when: datetime, lon: float, lat: float) -> tuple[float, float]:
    """Elevation and azimuth (from north over east) of the sun, degrees, rounded to 1e-4.

    Good to 0.02°, refraction left out. Source: the low-precision formulae of the Astronomical
    Almanac, as in Michalsky (1988), Solar Energy 40, 227-235.
    """
    days = (when - datetime(2000, 1, 1, 12, tzinfo=UTC)).total_seconds() / _DAY
    anomaly = math.radians((357.528 + 0.9856003 * days) % 360)
    mean = (280.460 + 0.9856474 * days) % 360
    ecliptic = math.radians(mean + 1.915 * math.sin(anomaly) + 0.020 * math.sin(2 * anomaly))
    tilt = math.radians(23.439 - 0.0000004 * days)
    ascension = math.atan2(math.cos(tilt) * math.sin(ecliptic), math.cos(ecliptic))
    declination = math.asin(math.sin(tilt) * math.sin(ecliptic))
    sidereal = 280.46062 + 360.98564737 * days + lon
    hour = math.radians(sidereal % 360) - ascension
    here = math.radians(lat)
    east = -math.cos(declination) * math.sin(hour)
    north = math.sin(declination) * math.cos(here)
    north -= math.cos(declination) * math.cos(hour) * math.sin(here)
    up = math.sin(declination) * math.sin(here)
    up += math.cos(declination) * math.cos(hour) * math.cos(here)
    elevation = math.degrees(math.asin(max(-1.0, min(1.0, up))))
    return round(elevation, 4), round(math.degrees(math.atan2(east, north)) % 360, 4)
