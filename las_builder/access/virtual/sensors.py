"""What a sensor sees of the truth: signatures, season, numbers.

Reflectances follow the published shapes of each cover (green peak, red edge, shortwave plateau of
soils, dark water, bright snow that is dark in the shortwave); their levels are ours. A source with
a band in the cirrus window is one at the top of the atmosphere and gets a blue haze.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from las_builder.access.virtual.ground import Ground, Window, World, ground
from las_builder.access.virtual.noise import gaussian, mixed, seed_of
from las_builder.access.virtual.sky import SHADOW, sky
from las_builder.access.virtual.truth import LETTERS
from las_builder.catalogs import Imagery
from las_builder.core.types import Scene

WAVELENGTHS = (0.443, 0.490, 0.560, 0.665, 0.705, 0.783, 0.865, 0.945, 1.610, 2.200)
"""Micrometres of the columns below."""

_GREEN: Mapping[str, str] = {
    "~": "3.6 3.0 2.0 0.8 0.6 0.4 0.3 0.25 0.1 0.1",
    "L": "3.4 3.4 3.8 2.4 2.1 1.4 1.0 0.8 0.4 0.3",
    "=": "4.2 5.0 6.4 3.8 3.4 2.3 1.9 1.5 0.7 0.5",
    "B": "2.5 3.0 5.5 3.0 9.0 32 38 39 17 7.5",
    "E": "2.0 2.3 4.5 2.3 7.0 28 34 35 14 6.0",
    "N": "1.8 2.0 3.2 2.2 5.0 17 21 22 9.0 4.2",
    "F": "2.2 2.6 4.6 3.0 8.0 24 29 30 14 7.0",
    "O": "2.3 2.8 5.8 3.1 9.5 34 40 41 17 7.5",
    "S": "5.0 6.0 9.0 10 14 22 25 26 27 19",
    "H": "3.0 3.8 5.5 5.5 9.0 17 20 21 18 11",
    "G": "4.0 5.0 8.5 7.5 13 26 30 31 26 16",
    "T": "3.5 4.5 7.0 7.0 11 20 24 25 22 13",
    "P": "3.0 3.8 8.0 4.5 13 38 43 44 25 12",
    "U": "3.2 4.0 9.0 5.0 14 40 45 46 24 12",
    "M": "3.0 3.6 7.5 4.5 12 36 43 44 22 10",
    "C": "3.2 4.0 8.0 5.5 13 34 39 40 24 13",
    "Y": "2.8 3.4 8.0 4.0 13 42 48 49 22 9.0",
    "I": "4.0 5.0 8.0 5.5 11 28 33 34 16 8.0",
    "V": "5.0 6.5 9.5 11 15 23 27 28 30 21",
    "b": "14 16 18.5 20.5 21 22.5 24 25 28 26",
    "r": "9.0 9.5 10.5 11.5 12 13 14 15 17 16",
    "i": "12 13.5 15.5 17 17.5 19 20 21 24 22",
    "D": "13 18 27 36 38.5 43 46 48 57 54",
    "Z": "30 34 39 43 44 46 47 46 40 32",
    "R": "9.0 11 14 17 18 20 22 23 27 25",
    "J": "12 15 19 21 23 28 31 32 30 20",
    "W": "3.2 4.0 6.5 5.5 9.0 20 24 24 16 8.0",
    "X": "2.0 2.4 4.2 2.8 6.5 22 26 27 11 5.0",
    "K": "92 92 91 88 87 83 78 70 10 7.0",
}
"""Percent, in full leaf."""

_DRY: Mapping[str, str] = {
    "B": "4.0 5.0 7.0 8.0 11 17 20 22 20 13",
    "E": "2.4 2.9 5.2 3.2 8.0 25 30 31 16 7.5",
    "N": "2.0 2.3 3.4 2.8 5.2 15 18 19 9.5 5.0",
    "F": "3.5 4.5 6.0 7.0 9.0 15 18 19 19 13",
    "S": "6.0 8.0 11 14 17 22 25 26 31 24",
    "H": "3.8 5.0 7.0 8.0 10 15 18 19 20 14",
    "G": "6.0 8.0 12 16 19 25 29 30 37 28",
    "T": "5.0 6.5 9.0 11.5 14 19 22 23 27 19",
    "P": "5.0 6.5 10 12 16 25 29 30 33 24",
    "U": "4.5 6.0 10 9.0 15 30 34 35 28 18",
    "M": "7.0 8.5 11 14 16.5 20 22.5 24 32 28",
    "C": "8.0 10.5 15 20 23 28 31 32 38 30",
    "Y": "6.0 7.5 10 13 15.5 19 21.5 23 30 26",
    "I": "6.0 7.0 9.0 10 12 14 16 17 15 11",
    "V": "5.5 7.0 10.5 13 16 23 26 27 32 24",
    "W": "4.0 5.0 7.5 9.0 11 16 19 19 20 13",
}
"""Percent, out of season; the others look the same all year."""

_TEXTURE: Mapping[str, float] = {
    "B": 0.12, "E": 0.14, "N": 0.16, "F": 0.14, "O": 0.08, "S": 0.13, "H": 0.10, "G": 0.08,
    "T": 0.09, "P": 0.05, "U": 0.05, "V": 0.12, "b": 0.25, "r": 0.07, "i": 0.18, "D": 0.06,
    "R": 0.14, "J": 0.08, "W": 0.12, "X": 0.15, "K": 0.02, "~": 0.03, "L": 0.04, "=": 0.05,
}  # fmt: skip
"""Relative standard deviation of brightness within a class; 0.05 for those not named."""

_LATE: Mapping[str, int] = {"C": -45, "M": 20, "Y": 30, "P": -20, "N": 0}
"""Days by which a plant's greenest day is later than midsummer."""

_CLOUD = (0.68, 0.68, 0.67, 0.66, 0.66, 0.66, 0.65, 0.60, 0.48, 0.38)
_COLOUR = {"coastal": 0.443, "blue": 0.48, "green": 0.56, "red": 0.655, "nir": 0.85}
_CIRRUS = (1.34, 1.41)
"""Micrometres between which water vapour hides the ground."""


def bands(
    world: World, imagery: Imagery, scene: Scene, names: Sequence[str], window: Window
) -> NDArray[np.generic]:
    """Numbers of some bands on the scene's finest pixels, coarser bands repeated.

    Args:
        world: Which planet.
        imagery: Bands, type, scale and offset.
        scene: Date, clouds, and the properties that rules of the declaration ask for.
        names: Bands of the declaration.
        window: Pixels of the scene, counted from its corner.

    Returns:
        (band, height, width) in the declared type; never the declared nodata.
    """
    blocks = {name: round(imagery.band(name).gsd / imagery.gsd) for name in names}
    whole = window.grown_to(math.lcm(*blocks.values()))
    below = ground(world, whole)
    above = sky(world, scene, whole)
    clear = not above.state.any()
    greenness = _greenness(below, scene)
    light = 1 + _of_leaf(_TEXTURE, 0.05)[below.leaf] * below.texture.clip(-2.5, 2.5)
    light *= np.where(above.state == SHADOW, 0.5, 1.0)
    top, left = window.row - whole.row, window.column - whole.column
    out = np.empty((len(names), *window.shape), imagery.dtype)
    for number, name in enumerate(names):
        green, dry, cloud, haze = _signature(imagery, name)
        rho = (dry[below.leaf] + (green - dry)[below.leaf] * greenness) * light
        if not clear:
            rho += (cloud - rho) * above.opacity
        rho = haze + rho * (1 - haze)
        k = blocks[name]
        h, w = whole.height // k, whole.width // k
        if k > 1:
            rho = rho.reshape(h, k, w, k).mean(axis=(1, 3))
        columns = whole.column // k + np.arange(w)
        rows = whole.row // k + np.arange(h)
        hashes = mixed(np.ix_(rows, columns), seed_of(scene.id, name))
        rho += gaussian(hashes) * (0.0012 + 0.008 * rho)
        values = _numbers(rho, imagery, scene, name)
        fine = values if k == 1 else values.repeat(k, axis=0).repeat(k, axis=1)
        out[number] = fine[top : top + window.height, left : left + window.width]
    return out


def _greenness(below: Ground, scene: Scene) -> NDArray[np.float64]:
    """How near each place is to full leaf, 0-1, from the day of the year and the latitude."""
    lat = round(scene.grid.centre_lonlat()[1])
    season = []
    for letter in LETTERS:
        peak = (196 if lat >= 0 else 15) + _LATE.get(letter, 0)
        angle = 2 * math.pi * (scene.datetime.timetuple().tm_yday - peak) / 365.25
        strength = min(1.0, abs(lat) / 40)
        # Rounded, because the last digit of a cosine depends on the machine.
        season.append(round(0.75 - 0.2 * strength + 0.45 * strength * math.cos(angle), 6))
    amplitude = _of_leaf(dict.fromkeys("CMYIP", 0.55), 0.15)
    green = np.array(season)[below.leaf] + amplitude[below.leaf] * below.vigour
    return np.asarray(green.clip(0, 1))


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


@functools.lru_cache(maxsize=256)
def _curves() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Reflectance in leaf and out of season, (leaf, wavelength) each."""
    rows = [
        [[float(v) / 100 for v in table.get(k, _GREEN[k]).split()] for k in LETTERS]
        for table in (_GREEN, _DRY)
    ]
    return np.array(rows[0]), np.array(rows[1])


def _signature(
    imagery: Imagery, name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], float, float]:
    """(leaf,) in leaf, (leaf,) out of season, cloud, haze: reflectances in one band."""
    band = imagery.band(name)
    micrometres = band.center_wavelength or _COLOUR.get(band.common_name or "", 0.6)
    top_of_atmosphere = any(_hidden(b.center_wavelength) for b in imagery.bands)
    if _hidden(band.center_wavelength):
        dark = np.full(len(LETTERS), 0.0015)
        return dark, dark, 0.03, 0.0
    green, dry = (
        np.array([np.interp(micrometres, WAVELENGTHS, curve) for curve in table])
        for table in _curves()
    )
    cloud = float(np.interp(micrometres, WAVELENGTHS, _CLOUD))
    # Rayleigh scattering falls with the fourth power of the wavelength.
    haze = 0.11 * (0.443 / micrometres) ** 4 if top_of_atmosphere else 0.0
    return green, dry, cloud, round(haze, 6)


def _hidden(micrometres: float | None) -> bool:
    return micrometres is not None and _CIRRUS[0] <= micrometres <= _CIRRUS[1]


def _of_leaf(table: Mapping[str, float], otherwise: float) -> NDArray[np.float64]:
    return np.array([table.get(letter, otherwise) for letter in LETTERS])
