"""Polygons on the globe: rings that cross ±180° or go around a pole become plain ones."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

Box = tuple[float, float, float, float]
"""West, south, east, north, degrees; west > east crosses ±180°."""

WORLD: Box = (-180.0, -90.0, 180.0, 90.0)

FRAMES = 16
"""Boxes around an outline, at most: more would cost more than they keep out."""

POLE = 90 - 1e-9
"""Latitude above which a longitude means nothing."""

_PIECE = 256  # coordinates of a piece of an outline, at most
_SMALL = 1e-6  # degrees: a piece that is not halved again, whatever its coordinates


@dataclass(frozen=True, eq=False)
class Outline:
    """Polygons in degrees, from -180 to 180 and -90 to 90; their edges belong to them."""

    polygons: Any
    """shapely.MultiPolygon, valid."""

    @classmethod
    def of(cls, polygons: Iterable[Any]) -> Outline:
        """The union of valid polygons in degrees; what is beyond ±180° is meant a turn away."""
        whole = shapely.union_all(list(polygons))
        west, _, east, _ = shapely.bounds(whole) if not whole.is_empty else WORLD
        first, last = np.floor((west + 180) / 360 + 1e-12), np.ceil((east - 180) / 360 - 1e-12)
        turns = range(int(first), int(last) + 1)
        world = shapely.box(*WORLD)
        if list(turns) != [0]:
            moved = [_turned(whole, -360.0 * turn) for turn in turns]
            whole = shapely.union_all([shapely.intersection(part, world) for part in moved])
        parts = shapely.get_parts(shapely.make_valid(whole))
        return cls(shapely.multipolygons(_polygons_in(parts)))

    def contains(self, lon: ArrayLike, lat: ArrayLike) -> NDArray[np.bool_]:
        """Whether places (degrees, any turn, arrays of one shape) are in it."""
        x, y = np.asarray(lon, np.float64), np.asarray(lat, np.float64)
        x = np.where(np.abs(x) > 180, np.mod(x + 180, 360) - 180, x)
        shapely.prepare(self.polygons)
        inside = shapely.intersects_xy(self.polygons, x, y)
        seam = np.abs(x) == 180  # 180° and -180° are one meridian
        inside[seam] |= shapely.intersects_xy(self.polygons, -x[seam], y[seam])
        return np.asarray(inside, np.bool_)

    def share(self, west: Floats, south: Floats, east: Floats, north: Floats) -> Floats:
        """Which part of each rectangle, -180 to 180, lies in it: 0 to 1, of square degrees."""
        box = shapely.box(west, south, east, north)
        shapely.prepare(self.polygons)
        share = np.asarray(shapely.contains_properly(self.polygons, box), np.float64)
        rest = np.flatnonzero(share == 0)
        tree, pieces = self._pieces
        found, piece = tree.query(box[rest], predicate="intersects")
        part = shapely.area(shapely.intersection(pieces[piece], box[rest[found]]))
        np.add.at(share, rest[found], part / shapely.area(box[rest[found]]))
        return np.minimum(share, 1)

    @functools.cached_property
    def frames(self) -> tuple[Box, ...]:
        """Boxes that hold all of it, side by side, at most `FRAMES`."""
        parts = shapely.get_parts(self.polygons)
        if not len(parts):
            return ()
        west, south, east, north = shapely.bounds(parts[np.argsort(shapely.bounds(parts)[:, 0])]).T
        gap = west[1:] - np.maximum.accumulate(east)[:-1]
        widest = np.argsort(-gap, kind="stable")[: FRAMES - 1]
        cut = np.sort(widest[gap[widest] > 0]) + 1
        start = np.concatenate([[0], cut])
        return tuple(
            zip(
                np.minimum.reduceat(west, start).tolist(),
                np.minimum.reduceat(south, start).tolist(),
                np.maximum.reduceat(east, start).tolist(),
                np.maximum.reduceat(north, start).tolist(),
                strict=True,
            )
        )

    @functools.cached_property
    def _pieces(self) -> tuple[Any, NDArray[np.object_]]:
        """The polygons halved until each has few vertices, and the tree that finds them."""
        done: list[Any] = []
        waiting = list(shapely.get_parts(self.polygons))
        while waiting:
            polygon = waiting.pop()
            west, south, east, north = shapely.bounds(polygon)
            size = max(east - west, north - south)
            if shapely.get_num_coordinates(polygon) <= _PIECE or size < _SMALL:
                done.append(polygon)
                continue
            x, y = (west + east) / 2, (south + north) / 2
            halves = (
                [(west, south, x, north), (x, south, east, north)]
                if east - west > north - south
                else [(west, south, east, y), (west, y, east, north)]
            )
            for half in halves:
                cut = shapely.intersection(polygon, shapely.box(*half))
                waiting += _polygons_in(shapely.get_parts(cut))
        return shapely.STRtree(done), np.array(done, np.object_)


def unrolled(polygon: Any, *, pole_lost: bool = False) -> Any:
    """A polygon of (lon, lat) degrees whose rings jump from one side of ±180° to the other,
    without the jumps: a step of more than 180° is meant the short way round.

    A ring that goes around a pole goes up to it and back; the pole is the one of its mean latitude.

    Args:
        polygon: shapely.Polygon.
        pole_lost: Whether the longitude of a vertex on a pole is no more than what a projection
            happened to give; the vertex then takes those of its neighbours.

    Returns:
        A valid shapely geometry of polygons, which may go beyond ±180°.
    """
    shell = _planar(polygon.exterior, pole_lost)
    for hole in polygon.interiors:
        planar = _planar(hole, pole_lost)
        for turn in (-360.0, 0.0, 360.0):
            shell = shapely.difference(shell, _turned(planar, turn))
    return shell


def _planar(ring: Any, pole_lost: bool) -> Any:
    points = shapely.get_coordinates(ring)
    if pole_lost and (np.abs(points[:, 1]) >= POLE).any():
        points = _over_the_pole(points)
    lon, lat = points.T
    lon = lon - 360 * np.concatenate([[0], np.cumsum(np.rint(np.diff(lon) / 360))])
    if lon[-1] != lon[0]:  # once around
        pole = np.copysign(90.0, lat.mean())
        lon, lat = np.append(lon, [lon[-1], lon[0]]), np.append(lat, [pole, pole])
    # Near 0, so that a hole is at most a turn away from its shell.
    lon = lon - 360 * np.floor((lon.mean() + 180) / 360)
    return polygonal(shapely.Polygon(np.column_stack([lon, lat])))


def _over_the_pole(ring: Floats) -> Floats:
    """A vertex on a pole becomes two, with the longitudes of the vertices beside it."""
    ring = ring[:-1]
    polar = np.abs(ring[:, 1]) >= POLE
    once = ~(polar & np.roll(polar, 1))
    ring, polar = ring[once], polar[once]
    points: list[tuple[float, float]] = []
    for i, (lon, lat) in enumerate(ring.tolist()):
        if polar[i]:
            beside = (ring[i - 1, 0], ring[(i + 1) % len(ring), 0])
            points += [(float(x), float(np.copysign(90, lat))) for x in beside]
        else:
            points.append((lon, lat))
    return np.array([*points, points[0]])


def _turned(geometry: Any, turn: float) -> Any:
    return shapely.transform(geometry, lambda points: points + np.array([turn, 0.0]))


def polygonal(geometry: Any) -> Any:
    """Its polygons, made valid; lines and points that repairing leaves over are dropped."""
    if shapely.is_valid(geometry):
        return geometry
    parts = shapely.get_parts(shapely.make_valid(geometry))
    return shapely.union_all(_polygons_in(parts))


def _polygons_in(parts: Sequence[Any]) -> list[Any]:
    flat = shapely.get_parts(list(parts)) if len(parts) else []
    return [part for part in flat if shapely.get_type_id(part) == 3 and not part.is_empty]
