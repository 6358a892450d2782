"""100 km squares of the Military Grid Reference System, and the tiles of Sentinel-2 named by them.

Source: NGA.STND.0037 (2014), The Universal Grids and the Transverse Mercator and Polar
Stereographic Map Projections, chapter 3 and appendix B; the tiles' corners are those of the
recorded STAC items.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import shapely

from las_builder.core.grid import to_lonlat
from las_builder.errors import RegionError
from las_builder.plan.regions.outline import Outline, unrolled

NAME = re.compile(r"(?:(MGRS)[:-]|(T))?(\d{1,2})([A-Z])([A-Z])([A-Z])", re.IGNORECASE)

BANDS = "CDEFGHJKLMNPQRSTUVWX"
"""From 80° S, 8° each; X goes on to 84° N."""

COLUMNS = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")
"""From 100 km east, in zones 1, 2, 3 and every third after them."""

ROWS = "ABCDEFGHJKLMNPQRSTUV"
"""From the equator in odd zones, F first in even ones; over again after 2,000 km."""

WIDE = {
    (31, "V"): (0, 3), (32, "V"): (3, 12), (31, "X"): (0, 9), (33, "X"): (9, 21),
    (35, "X"): (21, 33), (37, "X"): (33, 42), (32, "X"): None, (34, "X"): None, (36, "X"): None,
}  # fmt: skip
"""Longitudes of the cells of Norway and Svalbard, which are not 6° wide; None: there is none."""

SIDE = 100_000.0
GRANULE = 109_800.0
"""Side of a tile of Sentinel-2, metres; its upper left corner is the square's, out to 60 m."""


def tile(name: str, where: object) -> Any:
    """What a name stands for, as valid polygons in degrees, -180 to 180.

    Args:
        name: "32UPU", "MGRS:32UPU" or "MGRS-32UPU": the square of 100 km, cut to its zone and its
            band as the standard has it, so that squares cover the ground once. "T32UPU": the tile
            of Sentinel-2, which is larger, whole, and overlaps its neighbours.
        where: Who asks, for messages.

    Raises:
        RegionError: No such square; says why.
    """
    match = NAME.fullmatch(name.strip())
    if match is None:
        raise _none(where, name, "")
    _, granule, digits, *letters = match.groups()
    zone, (band, column, row) = int(digits), (letter.upper() for letter in letters)
    if not 1 <= zone <= 60 or band not in BANDS:
        raise _none(where, name, "Zones are 1 to 60, bands C to X without I and O.")
    cell = WIDE.get((zone, band), (6 * zone - 186, 6 * zone - 180))
    if cell is None:
        raise _none(where, name, f"Around Svalbard there is no {zone}{band}: its neighbours are.")
    columns = COLUMNS[(zone - 1) % 3]
    if column not in columns or row not in ROWS:
        raise _none(where, name, f"Columns of zone {zone} are {columns}, rows {ROWS}.")
    south = -80 + 8 * BANDS.index(band)
    limits = shapely.box(cell[0], south, cell[1], 84 if band == "X" else south + 8)

    east = SIDE * (columns.index(column) + 1)
    first = (ROWS.index(row) - (5 if zone % 2 == 0 else 0)) % len(ROWS)
    epsg = f"EPSG:{326 if band >= 'N' else 327}{zone:02d}"
    for north in SIDE * (first + len(ROWS) * np.arange(5)):
        _, middle = to_lonlat(epsg, np.array([500_000.0]), np.array([north + SIDE / 2]))
        if not south - 2 < middle[0] < south + 14:
            continue
        square = shapely.intersection(_ring(epsg, east, north, SIDE), limits)
        if shapely.area(square) > 0:
            if granule:
                base = 10_000_000 % 60 if band < "N" else 0  # the lattice begins at the equator
                west = 60 * math.floor(east / 60)
                top = 60 * math.ceil((north + SIDE - base) / 60) + base
                return _ring(epsg, west, top - GRANULE, GRANULE)
            return square
    raise _none(where, name, f"Nothing of {column}{row} lies in {zone}{band}.")


def _ring(epsg: str, west: float, south: float, side: float) -> Any:
    """A square, its edges in steps of 1 km or less, as polygons in degrees to 1e-7."""
    box = shapely.segmentize(shapely.box(west, south, west + side, south + side), 1000)
    x, y = shapely.get_coordinates(box).T
    lonlat = np.round(np.column_stack(to_lonlat(epsg, x, y)), 7)
    return Outline.of([unrolled(shapely.Polygon(lonlat))]).polygons


def _none(where: object, name: str, why: str) -> RegionError:
    return RegionError(where, "sites.region", name, "a square of MGRS such as 32UPU", why)
