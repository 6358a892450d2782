"""Points, discs and footprints on WGS 84.

Points are Earth-centred Cartesian coordinates in kilometres, so a k-d tree measures true chords:
no seam at ±180°, no pole. A chord is never longer than the geodesic, and shorter by less than
5 mm at 20 km.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from las_builder.catalogs.strata import WGS84_A, WGS84_F
from las_builder.core.grid import Grid, to_lonlat

Floats = NDArray[np.float64]

_E2 = WGS84_F * (2 - WGS84_F)

RADIUS_MIN = WGS84_A * (1 - _E2)
"""Smallest radius of curvature of WGS 84 (the meridian's, at the equator), kilometres.

A path of length s turns the surface normal by at most s / RADIUS_MIN, so an angle between the
normals of two places times RADIUS_MIN is never more than the geodesic between them.
"""

DECIMALS = 7
"""Coordinates are rounded to 1e-7 degrees, a centimetre, before anything is decided by them."""


def quantise(lon: ArrayLike, lat: ArrayLike) -> tuple[Floats, Floats]:
    """Degrees rounded to 1e-7; longitude in [-180, 180)."""
    x = np.round(np.mod(np.asarray(lon, np.float64) + 180, 360) - 180, DECIMALS)
    x = np.where(x >= 180, x - 360, x)
    y = np.asarray(np.round(np.asarray(lat, np.float64), DECIMALS) + 0.0, np.float64)
    return x + 0.0, y


def normal(lon: ArrayLike, lat: ArrayLike) -> Floats:
    """The unit vector that points up at a place, (..., 3)."""
    x, y = np.radians(np.asarray(lon, np.float64)), np.radians(np.asarray(lat, np.float64))
    return np.stack([np.cos(y) * np.cos(x), np.cos(y) * np.sin(x), np.sin(y)], axis=-1)


def cartesian(lon: ArrayLike, lat: ArrayLike) -> Floats:
    """Earth-centred coordinates of places on the ellipsoid, kilometres, (..., 3)."""
    up = normal(lon, lat)
    across = WGS84_A / np.sqrt(1 - _E2 * up[..., 2] ** 2)
    return np.asarray(up * np.stack([across, across, across * (1 - _E2)], axis=-1))


def lonlat(point: Floats) -> tuple[Floats, Floats]:
    """Degrees of Earth-centred coordinates that lie on (or straight above) the ellipsoid."""
    x, y, z = point[..., 0], point[..., 1], point[..., 2]
    lon = np.degrees(np.arctan2(y, x))
    return lon, np.degrees(np.arctan2(z, np.hypot(x, y) * (1 - _E2)))


def disc(lon: Floats, lat: Floats, radius_km: float, n: int) -> tuple[Floats, Floats]:
    """`n` points that stand for equal areas of the disc around each place, degrees, (sites, n).

    A sunflower: chords r·sqrt((i+½)/n), turned by the golden angle. Equal chord squared is equal
    area on a sphere; on WGS 84 it is to within 0.3 %.
    """
    i = np.arange(n)
    chord = radius_km * np.sqrt((i + 0.5) / n)
    turn = i * (math.pi * (3 - math.sqrt(5)))
    up, at = normal(lon, lat)[:, None, :], cartesian(lon, lat)[:, None, :]
    a, b = np.radians(lon)[:, None], np.radians(lat)[:, None]
    east = np.stack([-np.sin(a), np.cos(a), 0 * a], axis=-1)
    north = np.stack([-np.sin(b) * np.cos(a), -np.sin(b) * np.sin(a), np.cos(b)], axis=-1)
    radius = np.linalg.norm(at, axis=-1)[..., None]
    angle = (2 * np.arcsin(np.minimum(chord / (2 * radius[..., 0]), 1)))[..., None]
    along = np.sin(turn)[:, None] * east + np.cos(turn)[:, None] * north
    return lonlat(at + radius * (np.sin(angle) * along - (1 - np.cos(angle)) * up))


def authalic_latitude(share: ArrayLike) -> Floats:
    """The latitude, degrees, with `share` of the area from pole to pole south of it.

    Source: Snyder (1987), eq. 3-18; the series errs by less than 1e-8 degrees on WGS 84.
    """
    e2, e4, e6 = _E2, _E2**2, _E2**3
    beta = np.arcsin(np.clip(2 * np.asarray(share, np.float64) - 1, -1, 1))
    phi = (
        beta
        + (e2 / 3 + 31 * e4 / 180 + 517 * e6 / 5040) * np.sin(2 * beta)
        + (23 * e4 / 360 + 251 * e6 / 3780) * np.sin(4 * beta)
        + (761 * e6 / 45360) * np.sin(6 * beta)
    )
    return np.asarray(np.degrees(phi))


def angle_to_box(
    lon: Floats, lat: Floats, west: Floats, south: Floats, east: Floats, north: Floats
) -> Floats:
    """Least angle, radians, from each place's normal to those of its box of longitudes, latitudes.

    0 inside. Times RADIUS_MIN it is never more than the geodesic distance. Boxes run east from
    `west` to `east`, up to 360°; they may hold a pole and cross ±180°.
    """
    y, s, n = np.radians(lat), np.radians(south), np.radians(north)
    over = np.mod(lon - west, 360) <= east - west
    best = np.where(over, np.maximum(0, np.maximum(s - y, y - n)), np.inf)
    for edge in (west, east):
        # Each side is an arc of a great circle: the foot of the perpendicular, kept on the arc.
        turn = np.radians(lon - edge)
        foot = np.clip(np.arctan2(np.sin(y), np.cos(y) * np.cos(turn)), s, n)
        half = np.sin((y - foot) / 2) ** 2 + np.cos(y) * np.cos(foot) * np.sin(turn / 2) ** 2
        best = np.minimum(best, 2 * np.arcsin(np.sqrt(np.clip(half, 0, 1))))
    return np.asarray(best)


def outlines(grids: Sequence[Grid], per_side: int) -> Floats:
    """The edge of each grid as an open ring of degrees, (grids, 4·per_side, 2).

    All grids of one CRS are transformed at once; a grid without CRS is NaN.
    """
    step = np.arange(per_side) / per_side
    c = np.concatenate([0 * step, step, 0 * step + 1, 1 - step])
    r = np.concatenate([step, 0 * step + 1, 1 - step, 0 * step])
    ring = np.full((len(grids), c.size, 2), np.nan)
    for crs, where in _by_crs(grids).items():
        west, south, east, north = _bounds(grids, where)
        x, y = west + c * (east - west), north - r * (north - south)
        ring[where] = np.stack(to_lonlat(crs, x, y), axis=-1)
    return ring


def circles(grids: Sequence[Grid]) -> tuple[Floats, Floats, Floats]:
    """Centre (lon, lat degrees) and radius (km) of a circle around each grid; (grids,) each.

    NaN for a grid without CRS.
    """
    lon, lat = np.full(len(grids), np.nan), np.full(len(grids), np.nan)
    for crs, where in _by_crs(grids).items():
        west, south, east, north = _bounds(grids, where)
        lon[where], lat[where] = to_lonlat(crs, (west + east)[:, 0] / 2, (south + north)[:, 0] / 2)
    ring = outlines(grids, 4)
    away = cartesian(ring[..., 0], ring[..., 1]) - cartesian(lon, lat)[:, None, :]
    chord = np.linalg.norm(away, axis=-1).max(axis=1, initial=0)
    # From chord to arc (of the tightest curvature), and a millimetre for rounding.
    arc = 2 * RADIUS_MIN * np.arcsin(np.minimum(chord / (2 * RADIUS_MIN), 1))
    return lon, lat, arc + 1e-6


def _bounds(grids: Sequence[Grid], where: list[int]) -> Floats:
    """West, south, east, north of some grids, (4, grids, 1)."""
    return np.array([grids[i].bounds for i in where]).T[..., None]


def _by_crs(grids: Sequence[Grid]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for i, grid in enumerate(grids):
        if grid.crs is not None:
            groups.setdefault(grid.crs, []).append(i)
    return groups
