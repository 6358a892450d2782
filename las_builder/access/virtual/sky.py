"""What stands between a sensor and the ground: clouds, their shadows, haze; and the QA bands.

The sky belongs to a pass, not to a scene. It is a field over the pass's own coordinates (`track`):
weather that changes over hundreds of kilometres, with the climate's and the season's mean, plus
the shapes of the clouds; where the sum is above 0 there is cloud. So neighbouring tiles of one
pass show the same clouds where they overlap, and `cloud_cover` is measured from the field.

Low clouds are heaps or sheets, by a field of their own; above them are veils of cirrus, drawn out
along the wind. A low cloud takes the sunlight from the ground that lies away from the sun, by its
height; cirrus casts no shadow. Sheets and heaps share their noise and differ in how much of it is
at which scale.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from las_builder.access.virtual.ground import Window, World
from las_builder.access.virtual.noise import RADIUS, seed_of
from las_builder.access.virtual.parameters import Share, Strict
from las_builder.access.virtual.track import Orbit, Overpass, beside, ground, sun, track_over
from las_builder.access.virtual.truth import LEAVES
from las_builder.catalogs import Catalogs, Imagery
from las_builder.catalogs.strata import Strata
from las_builder.core.grid import Grid
from las_builder.core.types import Scene

Array = NDArray[np.float64]
Pair = tuple[float, float]

CLEAR, SHADOW, CLOUD, CIRRUS = 0, 1, 2, 3
"""States of the sky over a pixel; cirrus is thin: the ground shows through."""

QA_BANDS = ("SCL", "QA_PIXEL", "Fmask", "QA60", "cs_cdf")
"""Validity bands that this world can fill in."""


class Climate(Strict):
    """Of the sky in one climate: midsummer, midwinter."""

    low: tuple[Share, Share]
    heaped: tuple[Share, Share]
    veil: tuple[Share, Share]
    haze: Pair


class Weather(Strict):
    """What changes over hundreds of kilometres."""

    cells: list[Pair]
    swing: float


class Low(Strict):
    """Clouds that cast shadows."""

    shapes: list[tuple[float, float, float]]
    kinds: float
    warp: Pair
    half: Pair
    base: Pair
    base_cell: float


class Veil(Strict):
    """Cirrus."""

    shapes: list[Pair]
    stretch: float
    shared: Share
    half: float
    opacity: Share
    bright: Share


class Haze(Strict):
    """Aerosol."""

    daily: float
    cells: list[Pair]
    least: float


class Detector(Strict):
    """Faults of those who look for clouds."""

    medium: Share
    thin: Share
    missed: Share
    cirrus: Share
    shade: Share
    shadow_missed: Share
    spot: float
    dilated: int
    taken_for_cloud: dict[str, Share]
    taken_for_shadow: dict[str, Share]


class Skies(Strict):
    """`catalogs/virtual/sky.yaml`, which says what each number is."""

    verified: bool
    climates: dict[str, Climate]
    weather: Weather
    low: Low
    veil: Veil
    haze: Haze
    detector: Detector


@dataclass(frozen=True, slots=True, eq=False)
class Sky:
    """What is over the pixels of a window, (height, width) each; not to be written to."""

    state: NDArray[np.uint8]
    """CLEAR, SHADOW, CLOUD or CIRRUS."""

    opacity: NDArray[np.float32]
    """How much of the light in a band that sees the ground is the cloud's, 0-1; 0 without cloud."""

    shade: NDArray[np.float32]
    """How much of the direct sunlight a cloud elsewhere takes from this place, 0-1."""

    haze: NDArray[np.float32]
    """Optical thickness of the aerosol at 0.55 micrometres."""

    cirrus: NDArray[np.float32]
    """Reflectance of cirrus where water vapour hides all below it (1.38 micrometres)."""


def sky(world: World, scene: Scene, window: Window) -> Sky:
    """The sky over every pixel of a window; a photograph's is clear.

    Args:
        world: Which planet.
        scene: Of this world.
        window: In the scene's CRS; its pixels may be any.
    """
    overpass = Overpass.of(scene)
    if overpass is None:
        return _nothing(window.shape)
    return _sky(world, overpass, window)


def _nothing(shape: tuple[int, int]) -> Sky:
    layers = [np.zeros(shape, np.float32) for _ in range(4)]
    return Sky(np.zeros(shape, np.uint8), *layers)


@functools.lru_cache(maxsize=4)
def _sky(world: World, overpass: Overpass, window: Window) -> Sky:
    track, above = overpass.track, _nothing(window.shape)
    layers = above.state, above.opacity, above.shade, above.haze, above.cirrus
    x, y = window.xy()
    u, v = (x - track.centre[0]) / track.half[0], (y - track.centre[1]) / track.half[1]
    nodes, first, right, shapes, day = _air(world, overpass)
    towards = _sunwards(overpass)
    along, across = track.at(np.linspace(x[0], x[-1], 5), np.linspace(y[0], y[-1], 5))
    start, last = _reach(along, shapes.highest * towards[0])
    side, left = _reach(across, shapes.highest * towards[1])
    weather = np.empty((last - start + 1, left - side + 1, _FIELDS))
    _weathers(nodes, first, right, shapes, day, start, side, weather)
    _paint(u, v, track.along, track.across, weather, start, side, shapes, day, towards, *layers)
    for layer in layers:
        layer.flags.writeable = False
    return above


@functools.lru_cache(maxsize=1 << 16)
def cloud_cover(world: World, overpass: Overpass) -> float:
    """Percent of what an image shows of the ground that is under low cloud or cirrus.

    Measured on some places; what the smaller shapes do around each is taken as drawn from a
    normal distribution. Off by about a point.
    """
    track = overpass.track
    limits = np.array([track.first, track.last, track.half_swath])
    share = _cover(track.along, track.across, limits, track.seen, *_air(world, overpass))
    # Rounded, because the last digit of an error function depends on the machine.
    return round(100 * float(share), 4)


def _reach(coordinates: Array, shift: float) -> tuple[int, int]:
    """First and last place of the weather around coordinates and around these, shifted."""
    low, high = float(coordinates.min()), float(coordinates.max())
    return (
        math.floor((low + min(shift, 0.0)) / _FINE) - 1,
        math.floor((high + max(shift, 0.0)) / _FINE) + 2,
    )


# ---- the air of a pass


_NODE = 100_000.0
"""Metres between the places of a pass at which its climate is looked up."""

_AROUND = 40_000.0
_RIPPLE = 0.2158
"""Standard deviation of `_ripple`, over 2 million places."""


class _Shapes(NamedTuple):
    """The parameters as kernels read them; amplitudes of noise are in standard deviations."""

    weather: Array
    """Each octave (1 / cell turned: its cosine and sine part, amplitude); likewise below."""

    low: Array
    """Two amplitudes: in sheets, in heaps."""

    low_coarse: int
    """How many octaves are computed with the weather."""

    rest_sheet: float
    """Standard deviation of the others, in sheets."""

    rest_heap: float
    warp: Array
    """Of one octave."""

    kinds: Array
    base_cell: Array
    veil: Array
    veil_coarse: int
    rest_veil: float
    haze: Array
    daily: float
    """Relative spread of the haze from pass to pass."""

    swing: float
    half_sheet: float
    half_heap: float
    lowest: float
    highest: float
    stretch: float
    shared: float
    half_veil: float
    opacity: float
    bright: float
    least: float


class _Day(NamedTuple):
    """What one pass adds."""

    seed: np.uint64
    wind_along: float
    wind_across: float
    hazy: float
    """How many times its mean the haze is."""


_Air = tuple[Array, int, int, _Shapes, _Day]
"""Fields (of `_LOW`..., along, across) at nodes, the numbers of the first node, and the above."""


def _air(world: World, overpass: Overpass) -> _Air:
    summer, winter, first, right, shapes = _climate(
        world, overpass.grid, overpass.satellite.orbit, overpass.revolution, overpass.step
    )
    # Rounded, because the last digit of a cosine depends on the machine.
    phase = 2 * math.pi * (overpass.when.timetuple().tm_yday - 200) / 365.25
    nodes = summer + round(math.cos(phase), 6) * winter
    seed = seed_of(world.seed, overpass.satellite.platform, overpass.cycle, overpass.revolution)
    turn = 2 * math.pi * (seed >> 48) / 65536
    hazy = 1 + shapes.daily * math.sqrt(3) * ((seed >> 31 & 65535) / 32768 - 1)
    day = _Day(np.uint64(seed), round(math.cos(turn), 6), round(math.sin(turn), 6), hazy)
    return nodes, first, right, shapes, day


@functools.lru_cache(maxsize=4096)
def _climate(
    world: World, grid: Grid, orbit: Orbit, revolution: int, step: int | None
) -> tuple[Array, Array, int, int, _Shapes]:
    """Means over the year and half the swing to a northern midsummer; the first node; shapes."""
    west, south, east, north = grid.bounds
    track = track_over(grid, orbit, revolution, step)
    places = track.at(np.linspace(west, east, 5), np.linspace(south, north, 5))
    first, right = (math.floor((float(v.min()) - _AROUND) / _NODE) for v in places)
    last, left = (math.ceil((float(v.max()) + _AROUND) / _NODE) for v in places)
    along, across = np.meshgrid(
        np.arange(first, last + 1) * _NODE, np.arange(right, left + 1) * _NODE, indexing="ij"
    )
    lon, lat = ground(orbit, revolution, along, across)
    hemisphere = np.round((lat / 15).clip(-1, 1), 6)
    # (along, across, field, season) to (field, along, across, season)
    row, column = ((90 - lat) * 4).astype(int).clip(0, 719), ((lon + 180) * 4).astype(int) % 1440
    pairs = np.moveaxis(_table(world)[_zones(world.folders)[row, column]], 2, 0)
    swing = (pairs[..., 0] - pairs[..., 1]) / 2 * hemisphere
    return np.ascontiguousarray(pairs.mean(axis=-1)), swing, first, right, _shapes(world)


@functools.lru_cache(maxsize=8)
def _zones(folders: tuple[Path, ...]) -> NDArray[np.uint8]:
    """Codes of the climates at the middles of cells of a quarter degree, from 90° N and 180° W.

    One look-up costs the strata as much as a million do, and skies need many small ones.
    """
    lon, lat = (np.arange(1440) + 0.5) / 4 - 180, 90 - (np.arange(720) + 0.5) / 4
    zones: NDArray[np.uint8] = Strata.load(Catalogs(folders)).climate(lon, lat[:, None])
    return zones


@functools.lru_cache(maxsize=8)
def _table(world: World) -> Array:
    """(code of a climate, field, season)."""
    skies, strata = world.parameters("sky", Skies), world.strata
    rows = []
    for code in range(max(strata.climates) + 1):
        name = strata.climate_name(code) if code in strata.climates else ""
        key = max((k for k in skies.climates if name.startswith(k) and (k or not name)), key=len)
        said = skies.climates[key]
        swing = math.hypot(1.0, skies.weather.swing)
        low, veil = _above(said.low, swing), _above(said.veil, swing)
        rows.append([low, _above(said.heaped, 1.0), veil, said.haze])
    return np.array(rows)


def _above(shares: Pair, deviation: float) -> Pair:
    """Means that a normal field must have to be above 0 on these shares of its ground."""
    normal = NormalDist()
    summer, winter = (
        round(deviation * normal.inv_cdf(min(max(s, 0.001), 0.999)), 6) for s in shares
    )
    return summer, winter


@functools.lru_cache(maxsize=8)
def _shapes(world: World) -> _Shapes:
    skies = world.parameters("sky", Skies)
    low, veil = skies.low, skies.veil

    def octaves(shapes: Sequence[tuple[float, ...]], deviation: float | None) -> Array:
        """Amplitudes with squares that sum to that of the deviation, where one is given."""
        cells, *columns = (np.array(column) for column in zip(*shapes, strict=True))
        if deviation is not None:
            columns = [c * deviation / math.sqrt(float((c**2).sum())) for c in columns]
        # Each octave lies another way, so that no two lattices coincide.
        turn = [round(2.4 * n, 1) for n in range(cells.size)]
        cos, sin = (np.round([f(t) for t in turn], 9) for f in (math.cos, math.sin))
        return np.column_stack([cos / cells, sin / cells, *[c / _RIPPLE for c in columns]])

    def coarse(shapes: Sequence[tuple[float, ...]]) -> int:
        return sum(shape[0] >= _COARSE for shape in shapes)

    def rest(column: Array) -> float:
        return math.sqrt(float((column**2).sum())) * _RIPPLE

    sheets, veils = octaves(low.shapes, 1.0), octaves(veil.shapes, 1.0)
    fine, thin = coarse(low.shapes), coarse(veil.shapes)
    return _Shapes(
        weather=octaves(skies.weather.cells, 1.0),
        low=sheets,
        low_coarse=fine,
        rest_sheet=rest(sheets[fine:, 2]),
        rest_heap=rest(sheets[fine:, 3]),
        warp=octaves([low.warp], None)[0],
        kinds=octaves([(low.kinds, 1.0)], None)[0],
        base_cell=octaves([(low.base_cell, 1.0)], None)[0],
        veil=veils,
        veil_coarse=thin,
        rest_veil=rest(veils[thin:, 2]),
        haze=octaves(skies.haze.cells, None),
        daily=skies.haze.daily,
        swing=skies.weather.swing,
        half_sheet=low.half[0],
        half_heap=low.half[1],
        lowest=low.base[0],
        highest=low.base[1],
        stretch=veil.stretch,
        shared=veil.shared,
        half_veil=veil.half,
        opacity=veil.opacity,
        bright=veil.bright,
        least=skies.haze.least,
    )


def _sunwards(overpass: Overpass) -> Pair:
    """Metres along and across to the cloud that shades a place, for each metre of its height."""
    lon, lat = overpass.grid.centre_lonlat()
    elevation, azimuth = sun(overpass.when, lon, lat)
    away = 1_000.0
    north = away * math.cos(math.radians(azimuth)) / math.radians(RADIUS)
    east = away * math.sin(math.radians(azimuth)) / math.radians(RADIUS)
    lons = np.array([lon, lon + east / math.cos(math.radians(lat))])
    along, across = beside(
        overpass.satellite.orbit, overpass.revolution, lons, np.array([lat, lat + north])
    )
    length = 1 / math.tan(math.radians(max(elevation, 1.0))) / away
    return (
        round(float(along[1] - along[0]) * length, 4),
        round(float(across[1] - across[0]) * length, 4),
    )


# ---- kernels: one place of a pass at a time

_SIN, _COS = (
    np.array([round(f(2 * math.pi * k / 16), 9) for k in range(16)]) for f in (math.sin, math.cos)
)
_I, _J, _K, _M, _32, _60 = (
    np.uint64(v)
    for v in (
        0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xFF51AFD7ED558CCD, 32, 60,
    )
)  # fmt: skip

_FINE = 1_000.0
"""Metres between the places of a pass at which its weather is computed; linear in between."""

_COARSE = 5_000.0
"""Shapes of cells of this and more are computed with the weather."""

_SAMPLES, _MOST = 180, 3000
"""Places of a whole image at which its cloud cover is measured, and of a sliver's rectangle."""

_GOLDEN = 0.6180339887498949

_RARE = 3.2
"""Standard deviations that a sum of octaves does not reach."""

# Layers of noise: each has a seed of its own.
_WEATHER, _KIND, _WARP, _SHAPE, _BASE = 0, 4, 5, 7, 19
_HIGH, _CIRRUS, _AEROSOL = 20, 24, 32

# Fields of the weather.
_LOW, _HEAPED, _VEIL, _HAZE, _CLOUD_BASE, _NORM, _FIELDS = range(7)


@njit(cache=True, error_model="numpy", inline="always")
def _ripple(layer, seed, octave, s, d):  # type: ignore[no-untyped-def]
    """Gradient noise in the plane (Perlin 2002), mean 0, of one octave.

    The hash is a short one, a multiplication of whole numbers less than `noise.hashed`.
    """
    s, d = s * octave[0] + d * octave[1], d * octave[0] - s * octave[1]
    i, j = math.floor(s), math.floor(d)
    s, d = s - i, d - j
    h = np.uint64(i) * _I + np.uint64(j) * _J + np.uint64(layer) * _K + seed
    g, k, m = h + _J, h + _I, h + _I + _J
    h, g = ((h ^ (h >> _32)) * _M) >> _60, ((g ^ (g >> _32)) * _M) >> _60
    k, m = ((k ^ (k >> _32)) * _M) >> _60, ((m ^ (m >> _32)) * _M) >> _60
    a, b = _COS[h] * s + _SIN[h] * d, _COS[g] * s + _SIN[g] * (d - 1)
    e, f = _COS[k] * (s - 1) + _SIN[k] * d, _COS[m] * (s - 1) + _SIN[m] * (d - 1)
    s, d = s * s * s * (s * (s * 6 - 15) + 10), d * d * d * (d * (d * 6 - 15) + 10)
    a, e = a + (b - a) * d, e + (f - e) * d
    return a + (e - a) * s


@njit(cache=True, error_model="numpy")
def _sum(layer, seed, octaves, first, last, s, d):  # type: ignore[no-untyped-def]
    total = 0.0
    for n in range(first, last):
        total += octaves[n, 2] * _ripple(layer + n, seed, octaves[n], s, d)
    return total


@njit(cache=True, error_model="numpy")
def _shape(low, first, last, heaps, seed, s, d):  # type: ignore[no-untyped-def]
    """Some octaves of the shapes of low clouds, not yet divided by the norm."""
    total = 0.0
    for n in range(first, last):
        amplitude = low[n, 2] + (low[n, 3] - low[n, 2]) * heaps
        total += amplitude * _ripple(_SHAPE + n, seed, low[n], s, d)
    return total


@njit(cache=True, error_model="numpy")
def _slow(nodes, first, right, shapes, day, s, d, out):  # type: ignore[no-untyped-def]
    """Fields of the weather at one place by what changes over hundreds of kilometres.

    How far above 0 low cloud is before its shapes are added; 0 for sheets to 1 for heaps; the same
    as the first of cirrus; mean optical thickness of the aerosol.
    """
    s1, d1 = s / _NODE - first, d / _NODE - right
    i, j = min(max(int(s1), 0), nodes.shape[1] - 2), min(max(int(d1), 0), nodes.shape[2] - 2)
    s1, d1 = min(max(s1 - i, 0.0), 1.0), min(max(d1 - j, 0.0), 1.0)
    for n in range(4):
        a = nodes[n, i, j] + (nodes[n, i, j + 1] - nodes[n, i, j]) * d1
        b = nodes[n, i + 1, j] + (nodes[n, i + 1, j + 1] - nodes[n, i + 1, j]) * d1
        out[n] = a + (b - a) * s1
    octaves = shapes.weather.shape[0]
    shared = _sum(_WEATHER, day.seed, shapes.weather, 0, octaves, s, d)
    own = _sum(_HIGH, day.seed, shapes.weather, 0, octaves, s, d)
    kind = _ripple(_KIND, day.seed, shapes.kinds, s, d) / _RIPPLE
    t = min(max(0.5 + 1.6 * (kind + out[_HEAPED]), 0.0), 1.0)
    out[_HEAPED] = t * t * (3 - 2 * t)
    out[_LOW] += shapes.swing * shared
    rest = math.sqrt(1 - shapes.shared * shapes.shared)
    out[_VEIL] += shapes.swing * (shapes.shared * shared + rest * own)


@njit(cache=True, error_model="numpy")
def _shape_low(shapes, day, s, d, out):  # type: ignore[no-untyped-def]
    """Add the larger shapes of low clouds, and what is to divide the smaller ones."""
    low, power = shapes.low, 0.0
    for n in range(low.shape[0]):
        power += (low[n, 2] + (low[n, 3] - low[n, 2]) * out[_HEAPED]) ** 2
    out[_NORM] = 1 / (math.sqrt(power) * _RIPPLE)
    total = _shape(low, 0, shapes.low_coarse, out[_HEAPED], day.seed, s, d)
    out[_LOW] += total * out[_NORM]


@njit(cache=True, error_model="numpy")
def _shape_veil(shapes, day, s, d, out):  # type: ignore[no-untyped-def]
    """Add the larger shapes of cirrus."""
    a, b = s * day.wind_along + d * day.wind_across, d * day.wind_along - s * day.wind_across
    a /= shapes.stretch
    out[_VEIL] += _sum(_CIRRUS, day.seed, shapes.veil, 0, shapes.veil_coarse, a, b)


@njit(cache=True, error_model="numpy")
def _weathers(nodes, first, right, shapes, day, start, side, out):  # type: ignore[no-untyped-def]
    """All fields at places every `_FINE` metres, (along, across, field)."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            s, d = (start + i) * _FINE, (side + j) * _FINE
            air = out[i, j]
            _slow(nodes, first, right, shapes, day, s, d, air)
            _shape_low(shapes, day, s, d, air)
            _shape_veil(shapes, day, s, d, air)
            octaves = shapes.haze.shape[0]
            aerosol = _sum(_AEROSOL, day.seed, shapes.haze, 0, octaves, s, d)
            air[_HAZE] *= max(day.hazy + aerosol, shapes.least)
            up = _ripple(_BASE, day.seed, shapes.base_cell, s, d) / _RIPPLE
            up = min(max(0.5 + 0.35 * up, 0.0), 1.0)
            air[_CLOUD_BASE] = shapes.lowest + (shapes.highest - shapes.lowest) * up


@njit(cache=True, error_model="numpy", inline="always")
def _between(weather, start, side, s, d, n, fields, out):  # type: ignore[no-untyped-def]
    """Fields `n` to `fields` of the weather between the places where it was computed."""
    s, d = s / _FINE - start, d / _FINE - side
    i, j = int(s), int(d)
    s, d = s - i, d - j
    for m in range(n, fields):
        a = weather[i, j, m] + (weather[i, j + 1, m] - weather[i, j, m]) * d
        b = weather[i + 1, j, m] + (weather[i + 1, j + 1, m] - weather[i + 1, j, m]) * d
        out[m] = a + (b - a) * s


@njit(cache=True, error_model="numpy")
def _hiding(base, heaps, norm, shapes, seed, s, d):  # type: ignore[no-untyped-def]
    """Opacity of low cloud over a place."""
    if base < -_RARE * (shapes.rest_sheet + (shapes.rest_heap - shapes.rest_sheet) * heaps):
        return 0.0
    along = _ripple(_WARP, seed, shapes.warp, s, d)
    across = _ripple(_WARP + 1, seed, shapes.warp, s, d)
    s, d = s + shapes.warp[2] * along, d + shapes.warp[2] * across
    n = shapes.low.shape[0]
    base += norm * _shape(shapes.low, shapes.low_coarse, n, heaps, seed, s, d)
    if base <= 0:
        return 0.0
    return base / (base + shapes.half_sheet + (shapes.half_heap - shapes.half_sheet) * heaps)


@njit(cache=True, error_model="numpy")
def _paint(  # type: ignore[no-untyped-def]
    u, v, track_along, track_across, weather, start, side, shapes, day, sunwards,
    state, opacity, shade, haze, cirrus,
):  # fmt: skip
    """Fill in the layers of a sky at pixels (v, u) of a grid that runs from -1 to 1."""
    powers, air = np.empty((2, 5)), np.empty(_FIELDS)
    seed, octaves = day.seed, shapes.veil.shape[0]
    for row in range(v.size):
        for n in range(5):
            powers[0, n], powers[1, n] = track_along[4, n], track_across[4, n]
            for m in range(3, -1, -1):
                powers[0, n] = powers[0, n] * v[row] + track_along[m, n]
                powers[1, n] = powers[1, n] * v[row] + track_across[m, n]
        for column in range(u.size):
            s, d = powers[0, 4], powers[1, 4]
            for n in range(3, -1, -1):
                s = s * u[column] + powers[0, n]
                d = d * u[column] + powers[1, n]
            _between(weather, start, side, s, d, 0, _FIELDS, air)
            veiled = air[_VEIL]
            if veiled > -_RARE * shapes.rest_veil:
                a = (s * day.wind_along + d * day.wind_across) / shapes.stretch
                b = d * day.wind_along - s * day.wind_across
                veiled += _sum(_CIRRUS, seed, shapes.veil, shapes.veil_coarse, octaves, a, b)
            share = veiled / (veiled + shapes.half_veil) if veiled > 0 else 0.0
            cirrus[row, column] = shapes.bright * share
            haze[row, column] = air[_HAZE]
            hidden = _hiding(air[_LOW], air[_HEAPED], air[_NORM], shapes, seed, s, d)
            shaded = 0.0
            if hidden < 0.98:
                s += air[_CLOUD_BASE] * sunwards[0]
                d += air[_CLOUD_BASE] * sunwards[1]
                _between(weather, start, side, s, d, 0, _FIELDS, air)
                shaded = _hiding(air[_LOW], air[_HEAPED], air[_NORM], shapes, seed, s, d)
            opacity[row, column] = 1 - (1 - hidden) * (1 - shapes.opacity * share)
            shade[row, column] = shaded
            if hidden > 0:
                state[row, column] = CLOUD
            elif veiled > 0:
                state[row, column] = CIRRUS
            elif shaded > 0:
                state[row, column] = SHADOW
            else:
                state[row, column] = CLEAR


@njit(cache=True, error_model="numpy")
def _cover(  # type: ignore[no-untyped-def]
    track_along, track_across, limits, share, nodes, first, right, shapes, day
):
    """Share of what is seen of a grid, itself a share of it, that is under cloud of any kind."""
    air, seen, clouded, m = np.empty(_FIELDS), 0, 0.0, 7
    slow = np.empty((m + 1, m + 1, _FIELDS))
    for row in range(m + 1):
        for column in range(m + 1):
            s, d = _at(track_along, track_across, 2 * column / m - 1, 2 * row / m - 1)
            _slow(nodes, first, right, shapes, day, s, d, slow[row, column])
    # As many places are seen of an image that shows little.
    n = min(int(_SAMPLES / max(share, 1e-3)), _MOST)
    for k in range(n):
        x, y = (k + 0.5) / n * m, (k + 0.5) * _GOLDEN % 1.0 * m
        i, j = int(y), int(x)
        s, d = _at(track_along, track_across, 2 * x / m - 1, 2 * y / m - 1)
        if s < limits[0] or s > limits[1] or abs(d) > limits[2]:
            continue
        seen += 1
        for f in range(3):
            a = slow[i, j, f] + (slow[i, j + 1, f] - slow[i, j, f]) * (x - j)
            b = slow[i + 1, j, f] + (slow[i + 1, j + 1, f] - slow[i + 1, j, f]) * (x - j)
            air[f] = a + (b - a) * (y - i)
        clear = 1.0
        if air[_LOW] > -_RARE:
            _shape_low(shapes, day, s, d, air)
            rest = shapes.rest_sheet + (shapes.rest_heap - shapes.rest_sheet) * air[_HEAPED]
            clear = _chance(-air[_LOW], rest)
        if clear > 0.01 and air[_VEIL] > -_RARE:
            _shape_veil(shapes, day, s, d, air)
            clear *= _chance(-air[_VEIL], shapes.rest_veil)
        clouded += 1 - clear
    return clouded / max(seen, 1)


@njit(cache=True, error_model="numpy", inline="always")
def _at(track_along, track_across, u, v):  # type: ignore[no-untyped-def]
    """Metres along and across."""
    s, d = 0.0, 0.0
    for i in range(4, -1, -1):
        a, b = 0.0, 0.0
        for j in range(4, -1, -1):
            a = a * u + track_along[i, j]
            b = b * u + track_across[i, j]
        s, d = s * v + a, d * v + b
    return s, d


@njit(cache=True, error_model="numpy")
def _chance(limit, deviation):  # type: ignore[no-untyped-def]
    """That a normal variable of mean 0 is below a limit."""
    return 0.5 * (1 + math.erf(limit / (math.sqrt(2) * deviation)))


# ---- the QA bands

_PLANTS, _WATER, _SNOW, _BARE = range(4)
_PLACE, _DAY, _THIN, _DARK = range(4)


def qa(
    world: World,
    imagery: Imagery,
    scene: Scene,
    window: Window,
    leaf: NDArray[np.uint8],
    snow: NDArray[np.bool_] | None = None,
) -> NDArray[np.generic]:
    """The validity band on its own pixels, coded as the real one is, (height, width).

    What a detector says, faults included: thin edges of clouds are missed, bright ground and snow
    are taken for cloud, dark ground for shadow, in spots at the rates of `Detector`.

    Args:
        world: Which planet.
        imagery: Its validity band is one of `QA_BANDS`.
        scene: Any.
        window: On the scene's lattice, at the pixel of the validity band.
        leaf: Index into `truth.LEAVES` of its pixels.
        snow: Which of them are under seasonal snow.
    """
    declared = world.parameters("sky", Skies).detector
    band = imagery.validity.band or ""
    if band == "cs_cdf":
        return _as_score(sky(world, scene, window))
    around = declared.dilated if band in ("QA_PIXEL", "Fmask") else 0
    found = _found(declared, world, scene, _grown(window, around))
    inner = (slice(around, around + window.height), slice(around, around + window.width))
    near = _dilated(found.cloud, around)[inner]
    found = _Found(*(layer[inner] for layer in found))
    snowy = np.zeros(window.shape, bool) if snow is None else snow
    cover = np.where(snowy, _SNOW, _table_of(_COVERS)[leaf])
    spots = [_spots(declared.spot, world, scene, kind, window) for kind in (_PLACE, _DAY)]
    cloud = found.cloud | _mistaken(declared.taken_for_cloud, leaf, snowy, spots)
    others = [-noise for noise in spots]
    shadow = found.shadow | _mistaken(declared.taken_for_shadow, leaf, snowy, others)
    found = found._replace(cloud=cloud, shadow=shadow & ~cloud)
    if band == "SCL":
        return _as_scl(found, cover)
    if band == "QA60":
        return _as_qa60(found)
    make = _as_fmask if band == "Fmask" else _as_qa_pixel
    return make(found, cover, near & ~cloud)


def qa_dtype(imagery: Imagery) -> np.dtype[Any]:
    """Type of the validity band."""
    narrow = {"SCL": np.uint8, "Fmask": np.uint8, "cs_cdf": np.float32}
    return np.dtype(narrow.get(imagery.validity.band or "", np.uint16))


class _Found(NamedTuple):
    """What a detector finds in the sky, (height, width) each."""

    cloud: NDArray[np.bool_]
    sure: NDArray[np.bool_]
    """Of the cloud."""

    missed: NDArray[np.bool_]
    """Thin cloud that is not found, but nearly."""

    cirrus: NDArray[np.bool_]
    shadow: NDArray[np.bool_]


def _found(declared: Detector, world: World, scene: Scene, window: Window) -> _Found:
    above = sky(world, scene, window)
    low = above.state == CLOUD
    thin = low & (above.opacity < declared.thin)
    spots = _spots(declared.spot, world, scene, _THIN, window)
    missed = thin & (spots > _limit(declared.missed))
    dark = _spots(declared.spot, world, scene, _DARK, window)
    shadow = (above.shade >= declared.shade) & (dark <= _limit(declared.shadow_missed))
    return _Found(
        cloud=low & ~missed,
        sure=above.opacity >= declared.medium,
        missed=missed & (above.opacity >= declared.thin / 2),
        cirrus=above.cirrus >= declared.cirrus,
        shadow=shadow & ~low,
    )


def _grown(window: Window, around: int) -> Window:
    return replace(
        window,
        column=window.column - around,
        row=window.row - around,
        width=window.width + 2 * around,
        height=window.height + 2 * around,
    )


def _dilated(mask: NDArray[np.bool_], around: int) -> NDArray[np.bool_]:
    """The mask and all within so many pixels of it, along rows and columns."""
    for axis in (0, 1):
        grown = mask.copy()
        for step in range(1, around + 1):
            ahead, behind = [slice(None)] * 2, [slice(None)] * 2
            ahead[axis], behind[axis] = slice(step, None), slice(None, -step)
            grown[tuple(ahead)] |= mask[tuple(behind)]
            grown[tuple(behind)] |= mask[tuple(ahead)]
        mask = grown
    return mask


def _spots(cell: float, world: World, scene: Scene, kind: int, window: Window) -> Array:
    """Noise on the scene's map, (height, width); that of `_PLACE` is the same on every date."""
    day = "" if kind == _PLACE else scene.id
    seed = np.uint64(seed_of(world.seed, day, "spots"))
    out = np.empty(window.shape)
    _speckle(*window.xy(), kind, seed, np.array([0.8, 0.6]) / cell, out)
    return out


@njit(cache=True, error_model="numpy")
def _speckle(x, y, kind, seed, octave, out):  # type: ignore[no-untyped-def]
    for row in range(y.size):
        for column in range(x.size):
            out[row, column] = _ripple(kind, seed, octave, x[column], y[row])


@functools.lru_cache(maxsize=256)
def _limit(share: float) -> float:
    """What spots exceed on this share of the ground, from a sample."""
    sample, steps = np.empty((400, 400)), np.arange(400)
    _speckle(steps * 1.618034, steps * 1.324718, 0, np.uint64(1), np.array([0.8, 0.6]), sample)
    above = round(share * sample.size)
    if above == 0:
        return math.inf
    return float(np.sort(sample, axis=None)[sample.size - above])


def _mistaken(
    rates: Mapping[str, float], leaf: NDArray[np.uint8], snow: NDArray[np.bool_], spots: list[Array]
) -> NDArray[np.bool_]:
    """Where ground is taken for something of the sky: half of it by its place, half by the day."""
    kinds = np.where(snow, _KINDS.index("snow"), _table_of(_KIND_OF)[leaf])
    half = [rates.get(kind, rates.get("other", 0.0)) / 2 for kind in _KINDS]
    limits = np.array([_limit(rate) for rate in half])[kinds]
    return (spots[0] > limits) | (spots[1] > limits)


_KINDS = ("other", "water", "snow", "built", "sand", "salt")
_KIND_OF = {
    "water": 1, "snow_ice": 2, "built": 3, "bare.soil_sand": 4, "bare.soil_sand.saline": 5,
}  # fmt: skip
_COVERS = {"water": _WATER, "snow_ice": _SNOW, "built": _BARE, "bare": _BARE}


@functools.cache
def _leaves(pairs: tuple[tuple[str, int], ...]) -> NDArray[np.int64]:
    def of(leaf: str) -> int:
        fitting = [(len(node), v) for node, v in pairs if f"{leaf}.".startswith(f"{node}.")]
        return max(fitting, default=(0, 0))[1]

    return np.array([of(leaf) for leaf in LEAVES])


def _table_of(nodes: Mapping[str, int]) -> NDArray[np.int64]:
    """(leaf,) to the number of the lowest of these nodes of the ontology that holds it, or 0."""
    return _leaves(tuple(nodes.items()))


_SCL_COVER = np.array([4, 6, 11, 5], np.uint8)
"""Vegetation, water, snow or ice, not vegetated."""


def _as_scl(found: _Found, cover: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Source: ESA, Sen2Cor scene classification: 3 cloud shadow, 7 unclassified, 8 and 9 cloud of
    medium and high probability, 10 thin cirrus.
    """
    codes = _SCL_COVER[cover]
    codes[found.shadow] = 3
    codes[found.missed] = 7
    codes[found.cirrus] = 10
    codes[found.cloud] = 8
    codes[found.cloud & found.sure] = 9
    return codes


def _as_qa60(found: _Found) -> NDArray[np.uint16]:
    """Source: Earth Engine's catalogue, COPERNICUS/S2: bits 10 opaque clouds, 11 cirrus."""
    opaque = found.cloud.astype(np.uint16) << np.uint16(10)
    return np.asarray(opaque | (found.cirrus & ~found.cloud).astype(np.uint16) << np.uint16(11))


def _as_fmask(
    found: _Found, cover: NDArray[np.int64], dilated: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Source: HLS User Guide 2.0, quality assessment layer: bits 1 cloud, 2 adjacent to cloud or
    shadow, 3 cloud shadow, 4 snow or ice, 5 water, 6 and 7 aerosol level (1 low here).
    """
    ground = ~found.cloud & ~found.shadow
    bits = {
        1: found.cloud, 2: dilated & ground, 3: found.shadow, 4: ground & (cover == _SNOW),
        5: ground & (cover == _WATER), 6: np.ones(cover.shape, bool),
    }  # fmt: skip
    codes = np.zeros(cover.shape, np.uint8)
    for bit, mask in bits.items():
        codes |= mask.astype(np.uint8) << np.uint8(bit)
    return codes


def _as_score(above: Sky) -> NDArray[np.float32]:
    """How clear the view is, 0 to 1 in hundredths, as Cloud Score+ says it of cloud and shadow."""
    worst = np.maximum(above.opacity, above.shade)
    return np.asarray(np.rint((1 - worst) * 100).clip(0, 100) / 100, np.float32)


def _as_qa_pixel(
    found: _Found, cover: NDArray[np.int64], dilated: NDArray[np.bool_]
) -> NDArray[np.uint16]:
    """Source: USGS, Landsat 8-9 Collection 2 data format control book, QA_PIXEL.

    Bits 1 dilated cloud, 2 cirrus, 3 cloud, 4 shadow, 5 snow, 6 neither cloud nor dilated, 7
    water; pairs of bits from 8 on: confidence of cloud, shadow, snow, cirrus (1 low, 2 medium, 3
    high). Which go together is as in recorded images: no water or snow under cloud or shadow.
    """
    ground = ~found.cloud & ~found.shadow
    snow, water = ground & (cover == _SNOW), ground & (cover == _WATER)
    bits = {
        1: dilated, 2: found.cirrus, 3: found.cloud, 4: found.shadow, 5: snow,
        6: ~found.cloud & ~dilated, 7: water,
    }  # fmt: skip
    codes = np.zeros(cover.shape, np.uint16)
    for bit, mask in bits.items():
        codes |= mask.astype(np.uint16) << np.uint16(bit)
    cloud = np.where(found.cloud, 3, np.where(found.missed, 2, 1))
    sure = (cloud, *(np.where(mask, 3, 1) for mask in (found.shadow, snow, found.cirrus)))
    for bit, confidence in zip((8, 10, 12, 14), sure, strict=True):
        codes |= confidence.astype(np.uint16) << np.uint16(bit)
    return codes
