"""What a sensor sees of the truth: signatures, season, sun, snow, sky, point spread, noise, numbers.

A point of the ground is a mixture of two covers. A cover has a spectrum in leaf and one out of
season, soil between its plants, and differs from parcel to parcel, from soil to soil and from spot
to spot. A pixel is the mean of its points, in the light that falls on them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from las_builder.access.virtual.ground import EDGE, FINE, Window, World, glance, ground
from las_builder.access.virtual.leaves import LETTERS
from las_builder.access.virtual.noise import hashed, kernel, seed_of
from las_builder.access.virtual.parameters import Published, Share, Strict
from las_builder.access.virtual.planet import TruthParameters
from las_builder.access.virtual.sky import sky
from las_builder.catalogs import Imagery
from las_builder.core.types import Scene

Spectrum = tuple[Published, ...]
"""Percent at each of `wavelengths`."""

_COLOUR = {"coastal": 0.443, "blue": 0.48, "green": 0.56, "red": 0.655, "nir": 0.85}
_CIRRUS = (1.34, 1.41)
"""Micrometres between which water vapour hides the ground."""

_EVERGREEN, _TREES, _WATER = "ENOXmV", "BEQNFAOXmV", "~L=o"
_PLANTS = "BEQNFAOSHGTPUMCYIVWwXm"
_LARGEST = 1 << 17
"""Pixels worked on at a time."""

_TALLEST = 31.0
"""Metres: no shadow is cast from further up."""

_HIGH_SUN = (55.0, 165.0)
"""Elevation and azimuth for scenes that do not state the sun's."""


class Season(Strict):
    """Of a climate: the leaf's day of the peak in the north, swing and mean; temperature's swing."""

    peak: float
    swing: float
    mean: float
    cold: float


class Snow(Strict):
    """Temperature at the equator, its fall to the pole, its swing in a year, degrees; per km."""

    equator: float
    pole: float
    swing: float
    lapse: float
    patchy: float
    melt: float
    trees: Share


class Noise(Strict):
    """Standard deviation: floor + relative x reflectance."""

    floor: float
    relative: float


class Diffuse(Strict):
    """Light from the sky beside that of the sun."""

    diffuse: float


class SensorParameters(Strict):
    """`catalogs/virtual/sensors.yaml`."""

    verified: bool
    wavelengths: Spectrum
    green: Mapping[str, Spectrum]
    dry: Mapping[str, Spectrum]
    soils: tuple[Spectrum, ...]
    roofs: tuple[Spectrum, ...]
    cloud: Spectrum
    texture: Mapping[str, float]
    texture_otherwise: float
    kinds: float
    apart: tuple[float, ...]
    turbid: float
    bare: Mapping[str, Share]
    bare_spread: Share
    seasons: Mapping[str, Season]
    crops: Mapping[str, tuple[float, float]]
    evergreen: Share
    early: float
    relief: Diffuse
    snow: Snow
    haze: float
    blur: float
    noise: Noise


@dataclass(frozen=True, slots=True, eq=False)
class _Spectra:
    """Reflectance 0-1 in some bands."""

    green: NDArray[np.float64]
    dry: NDArray[np.float64]
    """(leaf, band)."""

    soils: NDArray[np.float64]
    roofs: NDArray[np.float64]
    """(n, band)."""

    snow: NDArray[np.float64]
    apart: NDArray[np.float64]
    """(band,)."""


@dataclass(frozen=True, slots=True, eq=False)
class _Light:
    """Sun and season of one scene."""

    sun: NDArray[np.float64]
    """Unit vector to the sun: east, north, up."""

    green: NDArray[np.float64]
    """(climate, leaf, 3) greenness, 0-1, of parcels that are behind, in time, ahead."""

    frost: NDArray[np.float64]
    """(climate,) degrees at the height of the plain."""


def bands(
    world: World, imagery: Imagery, scene: Scene, names: Sequence[str], window: Window
) -> NDArray[np.generic]:
    """Numbers of some bands on the scene's finest pixels, coarser bands repeated.

    Args:
        world: Which planet.
        imagery: Bands, type, scale and offset.
        scene: Date, sun, clouds, and the properties that rules of the declaration ask for.
        names: Bands of the declaration.
        window: Pixels of the scene, counted from its corner.

    Returns:
        (band, height, width) in the declared type; never the declared nodata.
    """
    out = np.empty((len(names), *window.shape), imagery.dtype)
    rows = max(1, _LARGEST // window.width)
    for top in range(0, window.height, rows):
        part = window.rows(top, min(rows, window.height - top))
        out[:, top : top + part.height] = _part(world, imagery, scene, names, part)
    return out


def snow(world: World, scene: Scene, window: Window) -> NDArray[np.bool_]:
    """Where snow of the season hides most of the ground that day, (height, width)."""
    p = world.parameters("sensors", SensorParameters)
    light = _light(world, scene)
    share = np.zeros(window.width * window.height)
    if light.frost.min() < _FREEZES:
        seen = glance(world, window, scene.datetime.year)
        _snowed(
            seen.cover, seen.climate, seen.elevation, seen.tone, seen.earth,
            light.frost, _snow_numbers(p), _traits(world), share,
        )  # fmt: skip
    return np.asarray(share > 0.5).reshape(window.shape)


_FREEZES = 25.0
"""Degrees at the plain above which no mountain of this world has snow of the season."""


def _part(
    world: World, imagery: Imagery, scene: Scene, names: Sequence[str], window: Window
) -> NDArray[np.generic]:
    p = world.parameters("sensors", SensorParameters)
    blocks = {name: round(imagery.band(name).gsd / imagery.gsd) for name in names}
    whole = window.grown_to(math.lcm(*blocks.values()))
    ground_up = _blurred(_reflectance(world, imagery, scene, tuple(names), whole), p.blur)
    above = sky(world, scene, whole)
    all_the_air = imagery.level == "toa"
    top, left = window.row - whole.row, window.column - whole.column
    out = np.empty((len(names), *window.shape), imagery.dtype)
    for number, name in enumerate(names):
        micrometres = _micrometres(imagery, name)
        rho = ground_up[number].astype(np.float64)
        if _hidden(imagery.band(name).center_wavelength):
            rho = 0.0015 + above.cirrus.astype(np.float64)
        else:
            # Rayleigh scattering falls with the fourth power of the wavelength; aerosols less.
            air = round(p.haze * (0.443 / micrometres) ** 4, 6) if all_the_air else 0.0
            dust = round((0.55 / micrometres) ** 1.3, 6) * above.haze.astype(np.float64)
            rho *= 1 - 0.75 * above.shade
            rho += 0.35 * dust.clip(0, 1) * (0.16 - rho)
            bright = round(float(np.interp(micrometres, p.wavelengths, p.cloud)) / 100, 6)
            rho += (bright - rho) * above.opacity
            rho = air + rho * (1 - air)
        k = blocks[name]
        h, w = whole.height // k, whole.width // k
        if k > 1:
            rho = rho.reshape(h, k, w, k).mean(axis=(1, 3))
        _add_noise(
            rho, whole.row // k, whole.column // k, p.noise.floor, p.noise.relative,
            np.uint64(seed_of(world.seed, scene.id, name)),
        )  # fmt: skip
        values = _numbers(rho, imagery, scene, name)
        fine = values if k == 1 else values.repeat(k, axis=0).repeat(k, axis=1)
        out[number] = fine[top : top + window.height, left : left + window.width]
    return out


def _reflectance(
    world: World, imagery: Imagery, scene: Scene, names: tuple[str, ...], window: Window
) -> NDArray[np.float32]:
    """What the ground sends up, with a pixel more on every side, (band, height + 2, width + 2)."""
    p = world.parameters("sensors", SensorParameters)
    light = _light(world, scene)
    metres = window.pixel[0]
    fall = light.sun[2] / max(1e-6, math.hypot(light.sun[0], light.sun[1]))
    shadow = min(128, math.ceil(_TALLEST / fall / metres)) if metres < FINE else 0
    below = ground(world, window.grown_by(1 + shadow), scene.datetime.year)
    seen = below.points
    lit = np.ones(0 if shadow == 0 else seen.height.size, np.float32)
    if shadow:
        _cast(seen.height.reshape(below.shape), light.sun, metres, lit.reshape(below.shape))
    spectra = _spectra(world, tuple(_micrometres(imagery, name) for name in names))
    out = np.zeros((len(names), *below.shape), np.float32)
    _shine(
        seen.cover, seen.under, seen.share, seen.tone, seen.vigour, seen.sort, seen.earth,
        seen.elevation, seen.east, seen.north, seen.climate, lit, below.each, below.edge,
        spectra.green, spectra.dry, spectra.soils, spectra.roofs, spectra.snow, spectra.apart,
        _traits(world), light.green, light.frost, light.sun, _snow_numbers(p),
        np.array([p.kinds, p.turbid, p.bare_spread, p.relief.diffuse]),
        out.reshape(len(names), -1),
    )  # fmt: skip
    inner = slice(shadow, -shadow or None)
    return out[:, inner, inner]


def _snow_numbers(p: SensorParameters) -> NDArray[np.float64]:
    return np.array([p.snow.lapse / 1000, p.snow.patchy, p.snow.melt, p.snow.trees])


_TEXTURE, _BARE, _TREE, _WET, _ROOF, _PLANT = range(6)


@functools.lru_cache(maxsize=8)
def _traits(world: World) -> NDArray[np.float64]:
    """(leaf, 6): texture, soil between the plants, and whether it is tree, water, roof, plant."""
    p = world.parameters("sensors", SensorParameters)
    return np.array(
        [
            [p.texture.get(k, p.texture_otherwise), p.bare.get(k, 0.0), k in _TREES, k in _WATER,
             k == "b", k in _PLANTS]
            for k in LETTERS
        ],
        np.float64,
    )  # fmt: skip


@functools.lru_cache(maxsize=32)
def _spectra(world: World, micrometres: tuple[float, ...]) -> _Spectra:
    p = world.parameters("sensors", SensorParameters)

    def at(spectrum: Sequence[float]) -> list[float]:
        return [float(np.interp(m, p.wavelengths, spectrum)) for m in micrometres]

    return _Spectra(
        green=np.array([at(p.green[k]) for k in LETTERS]) / 100,
        dry=np.array([at(p.dry.get(k, p.green[k])) for k in LETTERS]) / 100,
        soils=np.array([at(soil) for soil in p.soils]) / 100,
        roofs=np.array([at(roof) for roof in p.roofs]) / 100,
        snow=np.array(at(p.green["K"])) / 100,
        apart=np.array(at(p.apart)),
    )


@functools.lru_cache(maxsize=64)
def _light_of(world: World, day: int, lat: int, sun: tuple[float, float]) -> _Light:
    """Every sine is rounded, because its last digit depends on the machine."""
    p = world.parameters("sensors", SensorParameters)
    climates = list(world.parameters("truth", TruthParameters).climates)
    turn = 0.0 if lat >= 0 else 182.6
    season = min(1.0, 0.15 + abs(lat) / 14)  # under the equator's sun the year has no seasons

    def apart(peak: float) -> float:
        """Days from a peak, -182 to 182."""
        return (day - peak - turn + 182.625) % 365.25 - 182.625

    def greenness(climate: Season, letter: str, ahead: float) -> float:
        if letter not in _PLANTS:
            return 1.0
        if letter in p.crops:
            later, length = p.crops[letter]
            t = apart(climate.peak + later - ahead) / (182.625 * length)
            return max(0.0, 1 - t * t) * season + 0.45 * (1 - season)
        wave = math.cos(2 * math.pi * apart(climate.peak - 0.5 * ahead) / 365.25)
        green = climate.mean + climate.swing * season * wave
        if letter in _EVERGREEN:
            return p.evergreen + (1 - p.evergreen) * green
        return green

    green = [
        [[greenness(p.seasons[c], k, a * p.early) for a in (-1, 0, 1)] for k in LETTERS]
        for c in climates
    ]
    mean = p.snow.equator - p.snow.pole * (abs(lat) / 90) ** 1.6
    wave = -math.cos(2 * math.pi * apart(17.0) / 365.25) * p.snow.swing * min(1.0, abs(lat) / 45)
    elevation, azimuth = (math.radians(v) for v in sun)
    return _Light(
        sun=np.round(
            [
                math.cos(elevation) * math.sin(azimuth),
                math.cos(elevation) * math.cos(azimuth),
                math.sin(elevation),
            ],
            6,
        ),
        green=np.round(np.clip(green, 0, 1), 6),
        frost=np.round([mean + p.seasons[c].cold * wave for c in climates], 4),
    )


def _light(world: World, scene: Scene) -> _Light:
    lat = round(scene.grid.centre_lonlat()[1])
    sun = [
        float(scene.properties.get(f"view:sun_{name}", usual))
        for name, usual in zip(("elevation", "azimuth"), _HIGH_SUN, strict=True)
    ]
    day = scene.datetime.timetuple().tm_yday
    return _light_of(world, day, lat, (max(sun[0], 6.0), sun[1]))


@kernel()
def _snow_on(cover, climate, elevation, tone, earth, frost, numbers, traits):  # type: ignore[no-untyped-def]
    """Share of the ground under snow, 0-1."""
    degrees = frost[climate] - numbers[0] * elevation
    if traits[cover, _WET] > 0:
        degrees += 8  # a lake freezes late
    share = -(degrees + numbers[1] * (0.6 * earth + 0.4 * tone)) / numbers[2]
    share = min(1.0, max(0.0, share))
    return share * (numbers[3] if traits[cover, _TREE] > 0 else 1.0)


@njit(cache=True, nogil=True, error_model="numpy")
def _snowed(cover, climate, elevation, tone, earth, frost, numbers, traits, out):  # type: ignore[no-untyped-def]
    for n in range(out.size):
        out[n] = _snow_on(
            cover[n], climate[n], elevation[n], tone[n], earth[n], frost, numbers, traits
        )


@njit(cache=True, nogil=True, error_model="numpy")
def _cast(height, sun, metres, lit):  # type: ignore[no-untyped-def]
    """0 where something between a pixel and the sun is tall enough to shade it, else 1."""
    rows, columns = height.shape
    flat = math.sqrt(sun[0] * sun[0] + sun[1] * sun[1])
    if flat < 1e-6:
        return
    east, south = sun[0] / flat, -sun[1] / flat
    rise = sun[2] / flat * metres
    steps = min(128, int(_TALLEST / rise) + 1)
    for r in range(rows):
        for c in range(columns):
            for t in range(1, steps + 1):
                i, j = r + round(south * t), c + round(east * t)
                if i < 0 or j < 0 or i >= rows or j >= columns:
                    break
                if height[i, j] - height[r, c] > rise * t:
                    lit[r, c] = 0.0
                    break


@njit(cache=True, nogil=True, error_model="numpy")
def _shine(  # type: ignore[no-untyped-def]
    cover, under, share, tone, vigour, sort, earth, elevation, east, north, climate, lit, each,
    edge, green, dry, soils, roofs, snow_, apart, traits, season, frost, sun, snow_numbers,
    scalars, out,
):  # fmt: skip
    """Mean reflectance of the points of every pixel in the light of the day, (band, pixel)."""
    count = out.shape[1]
    kinds, turbid, bare_spread, diffuse = scalars[0], scalars[1], scalars[2], scalars[3]
    level = sun[2] + diffuse
    width = out.shape[0]
    rho = np.zeros(width)
    for turn in range(2):
        pixels = count if turn == 0 else edge.size
        points = each if turn == 0 else EDGE
        weigh = 1.0 / each if turn == 0 else 1.0 / (each + EDGE)
        for m in range(pixels):
            n = m if turn == 0 else edge[m]
            first = m * each if turn == 0 else count * each + m * EDGE
            if turn == 1:
                for b in range(width):
                    out[b, n] *= each * weigh
            for i in range(first, first + points):
                p, q = -east[i], -north[i]
                if traits[cover[i], _WET] > 0:
                    p, q = 0.0, 0.0
                face = (p * sun[0] + q * sun[1] + sun[2]) / math.sqrt(1 + p * p + q * q)
                face = max(0.0, face)
                if lit.size > 0:
                    face *= lit[i]
                bright = (face + diffuse) / level
                for b in range(width):
                    rho[b] = 0.0
                part = share[i]
                for k in range(2):
                    leaf = cover[i] if k == 0 else under[i]
                    weight = part if k == 0 else 1 - part
                    if weight <= 0:
                        continue
                    v = vigour[i]
                    g = season[climate[i], leaf]
                    lush = g[1] + ((g[2] - g[1]) * v if v > 0 else (g[1] - g[0]) * v)
                    plain = 1 + traits[leaf, _TEXTURE] * min(2.5, max(-2.5, tone[i]))
                    soil = traits[leaf, _BARE] * (1 - 0.75 * lush)
                    soil *= 1 + bare_spread * (2 * sort[i] - 1)
                    soil = min(1.0, max(0.0, soil))
                    shade = min(2.999, max(0.0, 1.5 + 0.9 * earth[i]))
                    s0 = int(shade)
                    s1 = shade - s0
                    kind = kinds * (2 * sort[i] - 1) if traits[leaf, _PLANT] > 0 else 0.0
                    if traits[leaf, _ROOF] > 0:
                        roof = min(roofs.shape[0] - 1, int(sort[i] * roofs.shape[0]))
                        for b in range(width):
                            rho[b] += weight * roofs[roof, b] * plain
                        continue
                    if traits[leaf, _WET] > 0:
                        # Murky water is brighter, most where light goes deepest.
                        murk = min(1.0, max(0.0, 0.5 + 0.28 * earth[i] + 0.25 * v))
                        for b in range(width):
                            rho[b] += weight * green[leaf, b] * (0.6 + turbid * murk * murk) * plain
                        continue
                    for b in range(width):
                        r = dry[leaf, b] + (green[leaf, b] - dry[leaf, b]) * lush
                        r *= 1 + kind * apart[b]
                        if soil > 0:
                            e = soils[s0, b] + (soils[s0 + 1, b] - soils[s0, b]) * s1
                            r += (e - r) * soil
                        elif traits[leaf, _PLANT] == 0:
                            r *= 1 + 0.10 * min(2.0, max(-2.0, earth[i]))
                        rho[b] += weight * r * plain
                white = _snow_on(
                    cover[i],
                    climate[i],
                    elevation[i],
                    tone[i],
                    earth[i],
                    frost,
                    snow_numbers,
                    traits,
                )
                for b in range(width):
                    r = rho[b] + (snow_[b] - rho[b]) * white
                    out[b, n] += r * bright * weigh


@njit(cache=True, nogil=True, error_model="numpy")
def _blurred(rho, blur):  # type: ignore[no-untyped-def]
    """Each pixel takes from its neighbours along both lines; one pixel less on every side."""
    n, rows, columns = rho.shape
    across = np.empty((rows, columns - 2), np.float64)
    out = np.empty((n, rows - 2, columns - 2), np.float32)
    own = 1 - 2 * blur
    for b in range(n):
        for r in range(rows):
            for c in range(columns - 2):
                across[r, c] = blur * (rho[b, r, c] + rho[b, r, c + 2]) + own * rho[b, r, c + 1]
        for r in range(rows - 2):
            for c in range(columns - 2):
                out[b, r, c] = blur * (across[r, c] + across[r + 2, c]) + own * across[r + 1, c]
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _add_noise(rho, row, column, floor, relative, seed):  # type: ignore[no-untyped-def]
    """Near enough normal: four uniforms of a hash of the pixel summed."""
    for r in range(rho.shape[0]):
        for c in range(rho.shape[1]):
            h = hashed(row + r, column + c, 0, seed)
            four = np.int64(0)
            for k in range(4):
                four += np.int64((h >> np.uint64(16 * k)) & np.uint64(0xFFFF))
            normal = (four - 131070) * (1 / 37837.22746520858)
            rho[r, c] += normal * (floor + relative * rho[r, c])


def _numbers(
    rho: NDArray[np.float64], imagery: Imagery, scene: Scene, name: str
) -> NDArray[np.generic]:
    """Reflectance to what the provider stores."""
    scale, offset = imagery.radiometry(scene, name, provider="virtual")
    if imagery.band(name).center_wavelength is None and imagery.data_type == "uint8":
        # A photograph: stretched for the eye, so that the square root of reflectance is linear.
        low, high = imagery.stretch
        rho = low + (high - low) * np.sqrt((rho / 0.5).clip(0, 1))
    numbers = (rho - offset) / scale
    if imagery.dtype.kind == "f":
        return numbers.astype(imagery.dtype)
    limits = np.iinfo(imagery.dtype)
    lowest = max(limits.min, 1) if imagery.nodata == 0 else limits.min
    return np.rint(numbers).clip(lowest, limits.max).astype(imagery.dtype)


def _micrometres(imagery: Imagery, name: str) -> float:
    band = imagery.band(name)
    return band.center_wavelength or _COLOUR.get(band.common_name or "", 0.6)


def _hidden(micrometres: float | None) -> bool:
    return micrometres is not None and _CIRRUS[0] <= micrometres <= _CIRRUS[1]
