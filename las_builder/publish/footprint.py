"""Outlines of patches as GeoJSON, across ±180° and over the poles."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from las_builder.core.grid import Grid, to_lonlat

BBox = tuple[float, float, float, float]
"""West, south, east, north; west > east crosses ±180°."""

DIGITS = 7
"""Of degrees: a centimetre."""


def footprint(grid: Grid) -> tuple[dict[str, Any] | None, BBox | None]:
    """Geometry and bounding box of a patch, WGS 84 degrees.

    A patch on ±180° is a MultiPolygon cut there, as RFC 7946 asks, and its box has west > east. A
    patch that holds a pole is cut the same way and reaches to it, all the way round.

    Returns:
        (None, None) for a grid without a CRS.
    """
    if grid.crs is None:
        return None, None
    import shapely
    import shapely.affinity
    from shapely.geometry import Polygon, box, mapping

    ring = grid.outline_lonlat()
    lon, lat = _unwrapped(ring[:, 0]), ring[:, 1]
    turned = round((lon[-1] - lon[0]) / 360)
    if turned != 0:
        pole = 90.0 if lat.mean() > 0 else -90.0
        lon = np.append(lon, [lon[-1], lon[0]])
        lat = np.append(lat, [pole, pole])
    outline = shapely.make_valid(Polygon(np.column_stack([lon, lat])))
    pieces = []
    for turn in range(int(np.floor((lon.min() + 180) / 360)), int((lon.max() + 180) // 360) + 1):
        world = box(-180 + 360 * turn, -90, 180 + 360 * turn, 90)
        cut = outline.intersection(world)
        parts = [g for g in getattr(cut, "geoms", [cut]) if g.geom_type == "Polygon" and g.area > 0]
        pieces += [_rounded(shapely.affinity.translate(part, -360.0 * turn)) for part in parts]
    if turned:
        whole = (-180.0, float(lat.min()), 180.0, float(lat.max()))
    else:
        ends = [(x + 180) % 360 - 180 for x in (float(lon.min()), float(lon.max()))]
        east = 180.0 if ends[1] == -180.0 else ends[1]
        whole = (ends[0], float(lat.min()), east, float(lat.max()))
    # Around a pole the first and the last piece share a meridian: one polygon, not two.
    shape = shapely.orient_polygons(shapely.union_all(pieces))
    west, south, east, north = (round(v, DIGITS) for v in whole)
    return _as_lists(mapping(shape)), (west, south, east, north)


@dataclass(frozen=True, slots=True, eq=False)
class Outlines:
    """Where some patches are."""

    wkb: list[bytes]
    """WGS 84 degrees; an empty polygon without a place."""

    boxes: NDArray[np.float64]
    """(n, 4) of west, south, east, north, west > east across ±180°; NaN without a place."""

    gsd: list[float | None]
    """Metres, along a side of the central pixel; None without a place."""

    def known(self) -> list[BBox]:
        """The boxes of those that have a place."""
        return [tuple(box) for box in self.boxes[~np.isnan(self.boxes[:, 0])].tolist()]


def outlines(grids: Sequence[Grid]) -> Outlines:
    """`footprint` of many patches, a CRS at a time."""
    import shapely
    from shapely.geometry import shape

    wkb = [shapely.to_wkb(shapely.Polygon())] * len(grids)
    boxes = np.full((len(grids), 4), np.nan)
    by_crs: dict[str, list[int]] = defaultdict(list)
    for i, grid in enumerate(grids):
        if grid.crs is not None:
            by_crs[grid.crs].append(i)
    for crs, rows in by_crs.items():
        corner = np.array([tuple(grids[i].transform)[:6] for i in rows])[:, :, None]
        size = np.array([grids[i].shape for i in rows])[:, :, None]
        along, down = _RING[0] * size[:, 1], _RING[1] * size[:, 0]
        lon, lat = to_lonlat(
            crs, corner[:, 2] + along * corner[:, 0], corner[:, 5] + down * corner[:, 4]
        )
        # The others cross ±180° or hold a pole, or state longitudes beyond.
        plain = (np.abs(np.diff(lon, axis=1)) < 180).all(axis=1) & (np.abs(lon) <= 180).all(axis=1)
        ring = np.stack([lon, lat], axis=-1).round(DIGITS)
        here = np.asarray(rows)
        for i, polygon in zip(here[plain].tolist(), _polygons(ring[plain]), strict=True):
            wkb[i] = polygon
        boxes[here] = np.concatenate([ring.min(axis=1), ring.max(axis=1)], axis=1)
        for i in here[~plain].tolist():
            geometry, box = footprint(grids[i])
            wkb[i], boxes[i] = shapely.to_wkb(shape(geometry)), box
    gsd = [None if grid.crs is None else round(math.sqrt(grid.pixel_area()), 6) for grid in grids]
    return Outlines(wkb, boxes, gsd)


def _polygons(rings: NDArray[np.float64]) -> list[bytes]:
    """Closed rings (n, point, 2) as well-known binary of polygons, counter-clockwise.

    OGC 06-103r4, 8.2: byte order, type 3, one ring, its points. By GEOS it takes ten times as long.
    """
    x, y = rings[..., 0], rings[..., 1]
    twice = (x[:, :-1] * y[:, 1:] - x[:, 1:] * y[:, :-1]).sum(axis=1)
    ordered = np.where((twice < 0)[:, None, None], rings[:, ::-1], rings)
    points = rings.shape[1]
    out = np.empty(
        len(rings),
        [
            ("order", "u1"),
            ("type", "<u4"),
            ("rings", "<u4"),
            ("points", "<u4"),
            ("xy", "<f8", (points, 2)),
        ],
    )
    out["order"], out["type"], out["rings"], out["points"], out["xy"] = 1, 3, 1, points, ordered
    return [row.tobytes() for row in out]


def _ring(per_side: int) -> NDArray[np.float64]:
    """Shares of width and height along the edge, as `Grid.outline_lonlat` goes, (2, n)."""
    s = np.linspace(0, 1, per_side, endpoint=False)
    return np.stack(
        [
            np.concatenate([0 * s, s, 0 * s + 1, 1 - s, [0]]),
            np.concatenate([s, 0 * s + 1, 1 - s, 0 * s, [0]]),
        ]
    )


_RING = _ring(8)


def overall(boxes: Iterable[BBox]) -> BBox | None:
    """The smallest box around boxes: it leaves out the widest gap of longitudes.

    Returns:
        None for no boxes; west > east where the smallest box crosses ±180°.
    """
    found = sorted(set(boxes))
    if not found:
        return None
    south, north = min(b[1] for b in found), max(b[3] for b in found)
    spans = sorted((b[0], b[2] if b[2] >= b[0] else b[2] + 360) for b in found)
    reach, gaps = spans[0][1], []
    for west, east in spans[1:]:
        gaps.append((west - reach, reach, west))
        reach = max(reach, east)
    first = spans[0][0] + 360
    gaps.append((first - reach, reach, first))
    width, before, after = max(gaps)
    if width <= 0:
        return -180.0, south, 180.0, north
    if after == first:
        return spans[0][0], south, before if before <= 180 else before - 360, north
    return after, south, before if before <= 180 else before - 360, north


def _unwrapped(lon: NDArray[np.float64]) -> NDArray[np.float64]:
    """Longitudes of a line without jumps of a whole turn."""
    return np.asarray(np.unwrap(lon, period=360.0))


def _rounded(polygon: Any) -> Any:
    import shapely

    return shapely.transform(polygon, lambda xy: np.round(xy, DIGITS))


def _as_lists(geometry: Any) -> dict[str, Any]:
    def lists(value: Any) -> Any:
        return [lists(v) for v in value] if isinstance(value, tuple | list) else float(value)

    return {"type": geometry["type"], "coordinates": lists(geometry["coordinates"])}
