"""Smooth noise on the sphere, the same to the last bit on every machine.

Places are whole nanodegrees before anything is decided, so that a last-digit difference between two
builds of PROJ moves a place by 0.1 mm and not across a boundary. From there on there are integer
hashes and the four operations of IEEE float64, which every machine rounds alike; sine and cosine
are polynomials of ours for the same reason. Noise lives on a cubic lattice in space and is cut by
the sphere, so it has no seam at ±180° and no singularity at the poles.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RADIUS = 6_371_007.0
"""Radius of the sphere with the area of the Earth, metres."""

_MASK = (1 << 64) - 1
_STEPS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)
_TURNED = ((0.36, 0.48, -0.80), (-0.80, 0.60, 0.0), (0.48, 0.64, 0.60))
"""A rotation, so that no lattice plane lies along the equator or along the meridians of the axes."""

_MEAN_SQUARE = 26 / 35
"""Of the two weights of an interpolation by 3t² - 2t³, their squares summed, mean over t."""

_RIGHT_ANGLE = 90_000_000_000  # nanodegrees


def seed_of(*parts: object) -> int:
    """A 64-bit seed from anything with a stable `repr`: strings, numbers, tuples of these."""
    return _digest(repr(parts))


@functools.lru_cache(maxsize=65536)
def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2s(text.encode(), digest_size=8).digest(), "little")


def unit(*parts: object) -> float:
    """A number from 0 up to 1, uniform over seeds made of these parts."""
    return (seed_of(*parts) >> 11) * 2.0**-53


def nanodegrees(degrees: NDArray[np.float64]) -> NDArray[np.int64]:
    """Degrees, any shape, to the nearest whole nanodegree."""
    return np.rint(np.asarray(degrees, np.float64) * 1e9).astype(np.int64)


def in_space(
    lon: NDArray[np.int64], lat: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Nanodegrees, any shape, to metres from the centre of the Earth along three fixed axes."""
    sin_lon, cos_lon = _sin_cos(lon)
    sin_lat, cos_lat = _sin_cos(lat)
    x, y, z = cos_lon * cos_lat, sin_lon * cos_lat, sin_lat
    a, b, c = (RADIUS * (i * x + j * y + k * z) for i, j, k in _TURNED)
    return a, b, c


def smooth(points: Sequence[NDArray[np.float64]], cell: float, seed: int) -> NDArray[np.float64]:
    """Value noise between -1 and 1 on a lattice of cubes, or squares, of side `cell`.

    Args:
        points: Two or three coordinates of one shape, metres.
        cell: Metres.
        seed: Another seed, another noise.
    """
    scaled = [p * (1 / cell) for p in points]
    low = [np.floor(p) for p in scaled]
    weights = []
    for p, corner in zip(scaled, low, strict=True):
        t = p - corner
        weights.append(t * t * (3 - 2 * t))
    values = _corner_values([corner.astype(np.int64) for corner in low], seed)
    for weight in reversed(weights):
        values = [a + (b - a) * weight for a, b in zip(values[::2], values[1::2], strict=True)]
    return values[0]


def layered(
    points: Sequence[NDArray[np.float64]],
    scales: Sequence[tuple[float, float]],
    seed: int,
) -> NDArray[np.float64]:
    """A sum of noise of several scales, with mean 0 and variance 1 over the whole world.

    Args:
        points: As for `smooth`.
        scales: (cell in metres, amplitude) of each; only the ratios of the amplitudes matter.
        seed: As for `smooth`.
    """
    variance = _MEAN_SQUARE ** len(points) / 3 * sum(a * a for _, a in scales)
    total = np.zeros(points[0].shape)
    for number, (cell, amplitude) in enumerate(scales):
        total += amplitude / math.sqrt(variance) * smooth(points, cell, (seed + number) & _MASK)
    return total


def cell_random(
    points: Sequence[NDArray[np.float64]], cell: float, seed: int
) -> NDArray[np.float64]:
    """A number from 0 up to 1 for each cube of the lattice: cut by the ground, its parcels."""
    corners = [np.floor(p * (1 / cell)).astype(np.int64) for p in points]
    return _to_unit(mixed(corners, seed))


def mixed(integers: Sequence[NDArray[np.int64]], seed: int) -> NDArray[np.uint64]:
    """A hash of integers of shapes that broadcast: the finaliser of MurmurHash3 on their sum."""
    total: NDArray[np.uint64] = np.asarray(integers[0]).astype(np.uint64) * np.uint64(_STEPS[0])
    for values, step in zip(integers[1:], _STEPS[1:], strict=False):
        total = total + np.asarray(values).astype(np.uint64) * np.uint64(step)
    k = np.atleast_1d(total) + np.uint64(seed & _MASK)
    k ^= k >> np.uint64(33)
    k *= np.uint64(0xFF51AFD7ED558CCD)
    k ^= k >> np.uint64(33)
    k *= np.uint64(0xC4CEB9FE1A85EC53)
    k ^= k >> np.uint64(33)
    return k


def gaussian(hashes: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Hashes to numbers near enough to a standard normal: four 16-bit uniforms summed."""
    total = np.zeros(hashes.shape, np.int64)
    for shift in (0, 16, 32, 48):
        total += ((hashes >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.int64)
    deviation = 65536 * math.sqrt(4 / 12)
    return np.asarray((total - 2 * 65535) * (1 / deviation))


def _to_unit(hashes: NDArray[np.uint64]) -> NDArray[np.float64]:
    return np.asarray((hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53, np.float64)


def _corner_values(low: list[NDArray[np.int64]], seed: int) -> list[NDArray[np.float64]]:
    """Values of the 4 or 8 corners around each point, the last axis changing fastest.

    Neighbouring points share corners: where the box around all of them has fewer corners than
    there are points, its corners are hashed once and looked up. The values are the same.
    """
    corners = list(itertools.product((0, 1), repeat=len(low)))
    if low[0].size == 0:
        return [np.zeros(low[0].shape) for _ in corners]
    first = [int(axis.min()) for axis in low]
    sides = [int(axis.max()) - start + 2 for axis, start in zip(low, first, strict=True)]
    if math.prod(sides) > 4 * low[0].size:
        return [
            _to_unit(mixed([axis + step for axis, step in zip(low, corner, strict=True)], seed)) * 2
            - 1
            for corner in corners
        ]
    axes = [np.arange(start, start + side) for start, side in zip(first, sides, strict=True)]
    table = (_to_unit(mixed(np.ix_(*axes), seed)) * 2 - 1).ravel()
    strides = [math.prod(sides[axis + 1 :]) for axis in range(len(sides))]
    index = sum(
        (axis - start) * stride for axis, start, stride in zip(low, first, strides, strict=True)
    )
    return [
        table.take(index + sum(step * stride for step, stride in zip(corner, strides, strict=True)))
        for corner in corners
    ]


_SIN = tuple((-1) ** k / math.factorial(2 * k + 1) for k in range(9))
_COS = tuple((-1) ** k / math.factorial(2 * k) for k in range(9))


def _sin_cos(angle: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sine and cosine of nanodegrees: Taylor series within 45°, exact at whole right angles."""
    quarter = (angle + _RIGHT_ANGLE // 2) // _RIGHT_ANGLE
    t = (angle - quarter * _RIGHT_ANGLE).astype(np.float64) * (math.pi / 180e9)
    t2 = t * t
    sin, cos = np.full(t.shape, _SIN[-1]), np.full(t.shape, _COS[-1])
    for s, c in zip(_SIN[-2::-1], _COS[-2::-1], strict=True):
        sin *= t2
        sin += s
        cos *= t2
        cos += c
    sin *= t
    swap = (quarter & 1).astype(bool)
    sin, cos = np.where(swap, cos, sin), np.where(swap, sin, cos)
    return np.where(quarter & 2, -sin, sin), np.where((quarter + 1) & 2, -cos, cos)
