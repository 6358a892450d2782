"""WGS 84 in basic operations: the same bits on every machine, one place at a time in kernels.

`sphere` has the same geometry for arrays, where a last bit decides nothing.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from las_builder.catalogs.strata import WGS84_A, WGS84_F
from las_builder.plan.elementary import arcsin, log, sin_cos

Floats = NDArray[np.float64]

DEGREE = math.pi / 180
_E2 = WGS84_F * (2 - WGS84_F)
_E = math.sqrt(_E2)


def belts(edges: Floats) -> Floats:
    """Area south of each latitude (degrees), km2.

    Source: Snyder (1987), Map Projections: A Working Manual, eq. 3-12.
    """
    out = np.empty(edges.size)
    _belts(np.ascontiguousarray(edges, np.float64), out)
    return out


@njit(cache=True)
def _belts(edges, out):  # type: ignore[no-untyped-def]
    for n in range(edges.size):
        out[n] = south_of(edges[n])


@njit(cache=True)
def south_of(lat: float) -> float:
    """Area south of a latitude, km2."""
    return math.pi * WGS84_A * WGS84_A * (_q(lat) + _q(90.0))


@njit(cache=True)
def _q(lat: float) -> float:
    s, _ = sin_cos(lat)
    flat = s / (1 - _E2 * s * s)
    return (1 - _E2) * (flat + log((1 + _E * s) / (1 - _E * s)) / (2 * _E))


@njit(cache=True)
def latitude(share: float) -> float:
    """The latitude, degrees, with a share of the Earth's area south of it.

    Source: Snyder (1987), eq. 3-18, whose multiple angles need no other sine; errs by 1e-8 degrees.
    """
    s = min(max(2 * share - 1, -1.0), 1.0)
    c = math.sqrt(1 - s * s)
    s2, c2 = 2 * s * c, 1 - 2 * s * s
    s4, c4 = 2 * s2 * c2, 1 - 2 * s2 * s2
    e2, e4, e6 = _E2, _E2 * _E2, _E2 * _E2 * _E2
    phi = (
        arcsin(s)
        + (e2 / 3 + 31 * e4 / 180 + 517 * e6 / 5040) * s2
        + (23 * e4 / 360 + 251 * e6 / 3780) * s4
        + (761 * e6 / 45360) * (s4 * c2 + c4 * s2)
    )
    return phi / DEGREE


def cartesian(lon: Floats, lat: Floats) -> Floats:
    """Earth-centred coordinates, kilometres, (n, 3)."""
    out = np.empty((lon.size, 3))
    _cartesian(np.ascontiguousarray(lon), np.ascontiguousarray(lat), out)
    return out


@njit(cache=True)
def _cartesian(lon, lat, out):  # type: ignore[no-untyped-def]
    for n in range(lon.size):
        sl, cl = sin_cos(lon[n])
        s, c = sin_cos(lat[n])
        across = WGS84_A / math.sqrt(1 - _E2 * s * s)
        out[n, 0], out[n, 1], out[n, 2] = across * c * cl, across * c * sl, across * (1 - _E2) * s


@njit(cache=True)
def span(lat: float, radius_km: float) -> tuple[float, float]:
    """Degrees of latitude, and at least the degrees of longitude, that a ball reaches each way."""
    s, _ = sin_cos(lat)
    flat = 1 - _E2 * s * s
    meridian = WGS84_A * (1 - _E2) / (flat * math.sqrt(flat))
    up = 2 * arcsin(radius_km / (2 * meridian)) / DEGREE
    far = abs(lat) + up * 1.01
    if far >= 90:
        return up, 180.0
    _, c = sin_cos(far)
    wide = radius_km / (WGS84_A * (1 - _E2) * c)
    return up, 180.0 if wide >= 1 else arcsin(wide) / DEGREE * 1.01


@njit(cache=True)
def chord(s0: float, c0: float, phi: float, radius_km: float) -> tuple[float, float]:
    """How far a ball reaches along a parallel, and what a square radian is worth there.

    Args:
        s0: Sine of the latitude of the ball's middle.
        c0: Its cosine.
        phi: Latitude of the parallel, degrees.
        radius_km: Of the ball: a true chord.

    Returns:
        Half its length, degrees of longitude, 0 if they do not meet; km2 of a square radian.
    """
    s, c = sin_cos(phi)
    flat = 1 - _E2 * s * s
    a0, a = WGS84_A / math.sqrt(1 - _E2 * s0 * s0), WGS84_A / math.sqrt(flat)
    rho, z = a * c - a0 * c0, (1 - _E2) * (a * s - a0 * s0)
    left = radius_km * radius_km - rho * rho - z * z
    if left <= 0:
        return 0.0, 0.0
    across = 4 * a * c * a0 * c0
    area = WGS84_A * WGS84_A * (1 - _E2) * c / (flat * flat)
    if left >= across:
        return 180.0, area
    return 2 * arcsin(math.sqrt(left / across)) / DEGREE, area
