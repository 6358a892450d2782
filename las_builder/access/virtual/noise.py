"""Smooth noise on the sphere, the same to the last bit on every machine.

Places are whole nanodegrees before anything is decided, so that a last-digit difference between two
builds of PROJ moves a place by 0.1 mm and not across a boundary. From there on there are integer
hashes, the four operations and the square root of IEEE float64, which every machine rounds alike
(Numba fuses and reorders nothing unless told to); sine and cosine are polynomials of ours for the
same reason. Noise lives on a cubic lattice in space and is cut by the sphere, so it has no seam at
±180° and no singularity at the poles.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numba import njit
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

_S0, _S1, _S2 = (np.uint64(step) for step in _STEPS)
_M0, _M1, _33, _11 = (
    np.uint64(v) for v in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53, 33, 11)
)  # fmt: skip
(_T00, _T01, _T02), (_T10, _T11, _T12), (_T20, _T21, _T22) = _TURNED

NOWHERE = np.iinfo(np.int64).min
"""In the key of a lattice cell: none yet."""


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


# ---- one point at a time: what kernels are built from

kernel = functools.partial(
    njit, cache=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True
)
"""Decorator of a function that only other kernels call."""


@kernel()
def hashed(i: int, j: int, k: int, seed: np.uint64) -> np.uint64:
    """A hash of three whole numbers: the finaliser of MurmurHash3 on their sum."""
    h = np.uint64(i) * _S0 + np.uint64(j) * _S1 + np.uint64(k) * _S2 + seed
    h ^= h >> _33
    h *= _M0
    h ^= h >> _33
    h *= _M1
    h ^= h >> _33
    return h


@kernel()
def uniform(h: np.uint64) -> float:
    """A hash to a number from 0 up to 1."""
    return float(h >> _11) * 2.0**-53


@kernel()
def sin_cos(angle: int) -> tuple[float, float]:
    """Sine and cosine of nanodegrees: Taylor series within 45°, exact at whole right angles."""
    quarter = (angle + _RIGHT_ANGLE // 2) // _RIGHT_ANGLE
    t = float(angle - quarter * _RIGHT_ANGLE) * (math.pi / 180e9)
    t2 = t * t
    sin, cos = _SIN[8], _COS[8]
    for k in range(7, -1, -1):
        sin = sin * t2 + _SIN[k]
        cos = cos * t2 + _COS[k]
    sin *= t
    if quarter & 1:
        sin, cos = cos, sin
    return (-sin if quarter & 2 else sin), (-cos if (quarter + 1) & 2 else cos)


@kernel()
def turned(x: float, y: float, z: float) -> tuple[float, float, float]:
    """Coordinates along the three fixed axes of the noise."""
    return (
        _T00 * x + _T01 * y + _T02 * z,
        _T10 * x + _T11 * y + _T12 * z,
        _T20 * x + _T21 * y + _T22 * z,
    )


@kernel()
def cube(
    slot: int,
    i: int,
    j: int,
    k: int,
    seed: np.uint64,
    key: NDArray[np.int64],
    value: NDArray[np.float64],
) -> None:
    """Fill in a cube's trilinear polynomial; a cube that is there is left alone.

    Points come in order, so the next one is mostly in the cube of the one before.
    """
    key[slot, 0], key[slot, 1], key[slot, 2] = i, j, k
    a = uniform(hashed(i, j, k, seed)) * 2 - 1
    b = uniform(hashed(i, j, k + 1, seed)) * 2 - 1
    c = uniform(hashed(i, j + 1, k, seed)) * 2 - 1
    d = uniform(hashed(i, j + 1, k + 1, seed)) * 2 - 1
    e = uniform(hashed(i + 1, j, k, seed)) * 2 - 1
    f = uniform(hashed(i + 1, j, k + 1, seed)) * 2 - 1
    g = uniform(hashed(i + 1, j + 1, k, seed)) * 2 - 1
    h = uniform(hashed(i + 1, j + 1, k + 1, seed)) * 2 - 1
    v = value[slot]
    v[0], v[1], v[2], v[3] = a, e - a, c - a, b - a
    v[4], v[5], v[6] = (g - c) - (e - a), (f - b) - (e - a), (d - b) - (c - a)
    v[7] = ((h - d) - (f - b)) - ((g - c) - (e - a))


@kernel()
def noise(
    slot: int,
    inverse: float,
    seed: np.uint64,
    x: float,
    y: float,
    z: float,
    key: NDArray[np.int64],
    value: NDArray[np.float64],
) -> float:
    """Value noise between -1 and 1 on cubes of side 1 / `inverse`.

    `key` (slots, 3) and `value` (slots, 8) hold the cube of the last point; `key` starts NOWHERE.
    """
    x, y, z = x * inverse, y * inverse, z * inverse
    i, j, k = math.floor(x), math.floor(y), math.floor(z)
    if key[slot, 0] != i or key[slot, 1] != j or key[slot, 2] != k:
        cube(slot, i, j, k, seed, key, value)
    x, y, z = x - i, y - j, z - k
    x, y, z = x * x * (3 - 2 * x), y * y * (3 - 2 * y), z * z * (3 - 2 * z)
    v = value[slot]
    return (
        (v[0] + v[1] * x) + (v[2] + v[4] * x) * y + ((v[3] + v[5] * x) + (v[6] + v[7] * x) * y) * z
    )


@kernel()
def noise_slope(
    slot: int,
    inverse: float,
    seed: np.uint64,
    x: float,
    y: float,
    z: float,
    key: NDArray[np.int64],
    value: NDArray[np.float64],
) -> tuple[float, float, float, float]:
    """`noise` and its derivative along the three axes, per metre."""
    x, y, z = x * inverse, y * inverse, z * inverse
    i, j, k = math.floor(x), math.floor(y), math.floor(z)
    if key[slot, 0] != i or key[slot, 1] != j or key[slot, 2] != k:
        cube(slot, i, j, k, seed, key, value)
    x, y, z = x - i, y - j, z - k
    dx, dy, dz = 6 * x * (1 - x), 6 * y * (1 - y), 6 * z * (1 - z)
    x, y, z = x * x * (3 - 2 * x), y * y * (3 - 2 * y), z * z * (3 - 2 * z)
    v = value[slot]
    low, side, up = v[0] + v[1] * x, v[2] + v[4] * x, v[6] + v[7] * x
    lift = (v[3] + v[5] * x) + up * y
    return (
        low + side * y + lift * z,
        ((v[1] + v[4] * y) + (v[5] + v[7] * y) * z) * dx * inverse,
        (side + up * z) * dy * inverse,
        lift * dz * inverse,
    )


# ---- arrays


def in_space(
    lon: NDArray[np.int64], lat: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Nanodegrees, any shape, to metres from the centre of the Earth along three fixed axes."""
    lon, lat = np.broadcast_arrays(lon, lat)
    out = np.empty((3, lon.size))
    _in_space(lon.ravel(), lat.ravel(), out)
    a, b, c = out.reshape(3, *lon.shape)
    return a, b, c


@njit(cache=True, error_model="numpy")
def _in_space(lon, lat, out):  # type: ignore[no-untyped-def]
    for n in range(lon.size):
        s, c = sin_cos(lon[n])
        sl, cl = sin_cos(lat[n])
        x, y, z = turned(c * cl, s * cl, sl)
        out[0, n], out[1, n], out[2, n] = RADIUS * x, RADIUS * y, RADIUS * z


def smooth(points: Sequence[NDArray[np.float64]], cell: float, seed: int) -> NDArray[np.float64]:
    """Value noise between -1 and 1 on a lattice of cubes, or squares, of side `cell`.

    Args:
        points: Two or three coordinates of one shape, metres.
        cell: Metres.
        seed: Another seed, another noise.
    """
    out = np.zeros(points[0].size)
    _add(*_coordinates(points), 1 / cell, np.uint64(seed & _MASK), 1.0, out)
    return out.reshape(points[0].shape)


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
    total = np.zeros(points[0].size)
    norm = deviation([a for _, a in scales], len(points))
    where = _coordinates(points)
    for number, (cell, amplitude) in enumerate(scales):
        _add(*where, 1 / cell, np.uint64((seed + number) & _MASK), amplitude / norm, total)
    return total.reshape(points[0].shape)


def deviation(amplitudes: Sequence[float], dimensions: int = 3) -> float:
    """Standard deviation over the world of noise of these amplitudes summed."""
    return math.sqrt(_MEAN_SQUARE**dimensions / 3 * sum(a * a for a in amplitudes))


def _coordinates(points: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    flat = [np.ascontiguousarray(p, np.float64).reshape(-1) for p in points]
    return flat if len(flat) == 3 else [*flat, np.zeros(flat[0].size)]


@njit(cache=True, error_model="numpy")
def _add(x, y, z, inverse, seed, amplitude, out):  # type: ignore[no-untyped-def]
    key, value = np.full((1, 3), NOWHERE, np.int64), np.empty((1, 8))
    for n in range(out.size):
        out[n] += amplitude * noise(0, inverse, seed, x[n], y[n], z[n], key, value)


def cell_random(
    points: Sequence[NDArray[np.float64]], cell: float, seed: int
) -> NDArray[np.float64]:
    """A number from 0 up to 1 for each cube of the lattice: cut by the ground, its parcels."""
    whole = [np.floor(p * (1 / cell)).astype(np.int64) for p in points]
    return _to_unit(mixed(whole, seed))


def mixed(integers: Sequence[NDArray[np.int64]], seed: int) -> NDArray[np.uint64]:
    """`hashed` of up to three arrays of integers, of shapes that broadcast."""
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
    spread = 65536 * math.sqrt(4 / 12)
    return np.asarray((total - 2 * 65535) * (1 / spread))


def _to_unit(hashes: NDArray[np.uint64]) -> NDArray[np.float64]:
    return np.asarray((hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53, np.float64)


_SIN = tuple((-1) ** k / math.factorial(2 * k + 1) for k in range(9))
_COS = tuple((-1) ** k / math.factorial(2 * k) for k in range(9))
