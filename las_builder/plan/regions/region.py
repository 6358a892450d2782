"""A region answers one question: is this place in it?"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from las_builder.catalogs import Strata
from las_builder.plan.regions.names import countries_of
from las_builder.plan.regions.outline import WORLD, Box, Floats, Outline, unrolled


@dataclass(frozen=True, eq=False)
class Region:
    """The union of boxes, countries and an outline, cut to extents; edges belong to it."""

    name: str
    """As the recipe has it."""

    strata: Strata
    boxes: tuple[Box, ...] = ()
    countries: frozenset[int] = frozenset()
    """Indices of `Strata.countries`."""

    outline: Outline | None = None
    """Polygons: files, footprints, tiles."""

    extents: tuple[Box, ...] = ()
    """Every place lies in all of these."""

    only: frozenset[int] | None = None
    """Every place lies in one of these countries; None: in any, or in none."""

    def within(self, *extents: Box) -> Region:
        """This region, cut to these boxes."""
        whole = tuple(box for box in extents if tuple(box) != WORLD)
        return dataclasses.replace(self, extents=(*self.extents, *whole))

    def covered(self, countries: Sequence[str] | None, where: object) -> Region:
        """This region, cut to countries (codes or names); None cuts nothing.

        Raises:
            RegionError: A country that nobody knows.
        """
        if countries is None:
            return self
        found = countries_of(countries, self.strata, where)
        return dataclasses.replace(self, only=found if self.only is None else self.only & found)

    @functools.cached_property
    def frames(self) -> tuple[Box, ...]:
        """Boxes that hold all that is not a country."""
        return (*self.boxes, *(self.outline.frames if self.outline else ()))

    def contains(self, lon: ArrayLike, lat: ArrayLike) -> NDArray[np.bool_]:
        """Whether places (degrees, any turn, shapes that broadcast) are in the region."""
        x, y = np.broadcast_arrays(np.asarray(lon, np.float64), np.asarray(lat, np.float64))
        inside = self.surrounds(x, y)
        if self.outline is not None:
            rest = inside & ~self._named(x, y)
            inside[rest] = self.outline.contains(x[rest], y[rest])
        return inside

    def surrounds(self, lon: Floats, lat: Floats) -> NDArray[np.bool_]:
        """Like `contains`, for places of one shape, but frames stand for the outline."""
        inside = self._named(lon, lat)
        for box in self.frames[len(self.boxes) :]:
            inside |= in_box(box, lon, lat)
        if self.only is not None:
            inside &= self._in_any(self.only, lon, lat)
        for box in self.extents:
            inside &= in_box(box, lon, lat)
        return inside

    def share(self, west: Floats, south: Floats, east: Floats, north: Floats) -> Floats:
        """Which part of each rectangle (degrees, -180 to 180) is in the region, cuts apart.

        No rectangle may straddle an edge of a box, or lie in two countries.
        """
        share = self._named((west + east) / 2, (south + north) / 2).astype(np.float64)
        if self.outline is not None:
            rest = share == 0
            share[rest] = self.outline.share(west[rest], south[rest], east[rest], north[rest])
        return share

    def _named(self, lon: Floats, lat: Floats) -> NDArray[np.bool_]:
        """Whether places are in the boxes or the countries."""
        inside = np.zeros(lon.shape, np.bool_)
        for box in self.boxes:
            inside |= in_box(box, lon, lat)
        if self.countries:
            inside |= self._in_any(self.countries, lon, lat)
        return inside

    def _in_any(self, countries: frozenset[int], lon: Floats, lat: Floats) -> NDArray[np.bool_]:
        chosen = np.zeros(len(self.strata.countries), np.bool_)
        chosen[list(countries)] = True
        return np.asarray(chosen[self.strata.country(lon, lat)])


def in_box(box: Box, lon: Floats, lat: Floats) -> NDArray[np.bool_]:
    """Whether places lie in a box, edges included; shapes that broadcast."""
    west, south, east, north = box
    inside = (lat >= south) & (lat <= north)
    if east - west < 360:
        inside = inside & (np.mod(lon - west, 360) <= np.mod(east - west, 360))
    return np.broadcast_to(inside, np.broadcast_shapes(lon.shape, lat.shape))


def footprints(name: str, rings: Sequence[Floats], strata: Strata) -> Region:
    """The union of closed rings of (lon, lat) degrees, each of a patch of ground that is small
    beside the globe; across ±180° and around a pole too.
    """
    import shapely

    return Region(
        name,
        strata,
        outline=Outline.of(unrolled(shapely.Polygon(ring), pole_lost=True) for ring in rings),
    )
