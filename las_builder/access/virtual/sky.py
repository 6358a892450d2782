"""What stands between a sensor and the ground: clouds, their shadows, haze; and the QA bands."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from las_builder.access.virtual.ground import Window, World
from las_builder.access.virtual.noise import layered, seed_of, unit
from las_builder.access.virtual.track import Overpass
from las_builder.access.virtual.truth import LETTERS
from las_builder.catalogs import Imagery
from las_builder.core.types import Scene

_SHADOW = (-480.0, 600.0)
"""Metres from a cloud to its shadow, east and away from the equator: a sun of mid-morning."""

CLEAR, SHADOW, CLOUD, CIRRUS = 0, 1, 2, 3
"""States of the sky over a pixel; cirrus is thin: the ground shows through."""

QA_BANDS = ("SCL", "QA_PIXEL")
"""Validity bands that this world can fill in."""

_COVER_OF = {"~": 1, "L": 1, "=": 1, "K": 2, **dict.fromkeys("briDZR", 3)}
_COVER = np.array([_COVER_OF.get(letter, 0) for letter in LETTERS])
"""Leaf to 0 plants, 1 water, 2 snow, 3 bare or built."""

_SCL = np.array([4, 6, 11, 5])
_QA_PIXEL = np.array([21824, 21952, 30048, 21824])
"""Values of clear land, clear water, snow: bit 6, all confidences low, and the bit of the cover."""

_SCL_SKY = {SHADOW: 3, CLOUD: 9}
_QA_PIXEL_SKY = {SHADOW: 23888, CLOUD: 22280}


@dataclass(frozen=True, slots=True, eq=False)
class Sky:
    """What is over the pixels of a window, (height, width) each."""

    state: NDArray[np.uint8]
    """CLEAR, SHADOW, CLOUD or CIRRUS."""

    opacity: NDArray[np.float32]
    """How much of the light in a band that sees the ground is the cloud's, 0-1; 0 without cloud."""

    shade: NDArray[np.float32]
    """How much of the direct sunlight a cloud elsewhere takes from this place, 0-1."""

    haze: NDArray[np.float32]
    """Optical thickness of the aerosol at 0.55 micrometres."""

    cirrus: NDArray[np.float32]
    """Reflectance in a band in which water vapour hides the ground (1.38 micrometres)."""


def sky(world: World, scene: Scene, window: Window) -> Sky:
    """The sky over every pixel of a window.

    Args:
        world: Which planet.
        scene: Whose `cloud_cover` is about the share of it that is under cloud or cirrus.
        window: In the scene's CRS; its pixels may be any.
    """
    state = np.zeros(window.shape, np.uint8)
    opacity, shade, haze, cirrus = (np.zeros(window.shape, np.float32) for _ in range(4))
    seed = seed_of(world.seed, scene.id, "cloud")
    limit = _cloud_limit(seed, scene.grid.bounds, scene.cloud_cover or 0.0)
    if math.isinf(limit):
        return Sky(state, opacity, shade, haze, cirrus)
    x, y = window.xy()
    away = 1 if scene.grid.centre_lonlat()[1] >= 0 else -1
    behind = _cloud_field(seed, x - _SHADOW[0], y - away * _SHADOW[1])
    state[behind > limit] = SHADOW
    shade[behind > limit] = 1.0
    above = _cloud_field(seed, x, y) - limit
    state[above > 0] = CLOUD
    opacity[above > 0] = (0.4 + 1.2 * above[above > 0]).clip(0, 1)
    cirrus[above > 0] = 0.03
    return Sky(state, opacity, shade, haze, cirrus)


_CLOUDINESS = {"A": 0.8, "B": 6.0, "C": 1.4, "D": 1.3, "E": 1.1}
"""Mean cloud share is 1 / (1 + this), by the first letter of the climate."""


def cloud_cover(world: World, overpass: Overpass) -> float:
    """Percent; deserts are clear, the rain forest hardly ever is."""
    lon, lat = (np.array([v]) for v in overpass.grid.centre_lonlat())
    zone = world.strata.climate_name(int(world.strata.climate(lon, lat)[0]))
    power = _CLOUDINESS.get(zone[:1], 1.4)
    # Rounded, because the last digit of a power depends on the machine.
    return float(round(100 * unit(repr(overpass), "cloud cover") ** power, 4))


def _cloud_field(seed: int, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """(y, x) of coordinates (x,) and (y,)."""
    out = np.empty((y.size, x.size))
    scales = ((17_000.0, 1.0), (5_000.0, 0.55), (1_500.0, 0.3), (400.0, 0.13))
    for top in range(0, y.size, rows := max(1, (1 << 14) // x.size)):
        points = np.meshgrid(x, y[top : top + rows])
        out[top : top + rows] = layered(points, scales, seed)
    return out


@functools.lru_cache(maxsize=1024)
def _cloud_limit(seed: int, bounds: tuple[float, float, float, float], cloud_cover: float) -> float:
    """What the field must exceed to be cloud, so that the scene's share of cloud is as stated."""
    west, south, east, north = bounds
    side = (np.arange(64) + 0.5) / 64
    field = _cloud_field(seed, west + side * (east - west), south + side * (north - south))
    clouded = round(cloud_cover / 100 * field.size)
    return math.inf if clouded == 0 else float(np.sort(field, axis=None)[-clouded])


def qa(
    world: World,
    imagery: Imagery,
    scene: Scene,
    window: Window,
    leaf: NDArray[np.uint8],
    snow: NDArray[np.bool_] | None = None,
) -> NDArray[np.integer[Any]]:
    """The validity band on its own pixels, coded as the real one is, (height, width).

    Args:
        world: Which planet.
        imagery: Its validity band is one of `QA_BANDS`.
        scene: Any.
        window: On the scene's lattice, at the pixel of the validity band.
        leaf: Index into `truth.LEAVES` of its pixels.
        snow: Which of them are under seasonal snow.
    """
    state = sky(world, scene, window).state
    scl = imagery.validity.band == "SCL"
    cover = _COVER[leaf]
    if snow is not None:
        cover = np.where(snow, 2, cover)
    codes: NDArray[np.integer[Any]] = (_SCL if scl else _QA_PIXEL)[cover]
    for value, code in (_SCL_SKY if scl else _QA_PIXEL_SKY).items():
        codes[state == value] = code
    return codes.astype(qa_dtype(imagery))


def qa_dtype(imagery: Imagery) -> np.dtype[Any]:
    """Type of the validity band."""
    return np.dtype(np.uint8 if imagery.validity.band == "SCL" else np.uint16)
