"""A region answers one question: is this place in it?"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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

    def within_region(self, other: Region) -> Region:
        """What this region and another share.

        Raises:
            ValueError: Both list places of several kinds, of which no union can be told.
        """
        both = dataclasses.replace(
            self,
            name=f"{self.name} & {other.name}",
            extents=(*self.extents, *other.extents),
            only=_fewer(self.only, other.only),
        )
        for one, two in ((self, other), (other, self)):
            said = dataclasses.replace(
                both, boxes=one.boxes, countries=one.countries, outline=one.outline
            )
            if two.outline is None and not two.countries and len(two.boxes) == 1:
                return said.within(*two.boxes)
            if two.outline is None and not two.boxes:
                return dataclasses.replace(said, only=_fewer(both.only, two.countries))
        if self.countries or other.countries:
            raise ValueError("countries beside boxes or polygons")
        shared = _polygons(self).intersection(_polygons(other))
        return dataclasses.replace(both, boxes=(), outline=Outline.of([shared]))

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


def _fewer(some: frozenset[int] | None, others: frozenset[int] | None) -> frozenset[int] | None:
    """Countries that both allow; None allows all."""
    if some is None or others is None:
        return others if some is None else some
    return some & others


def _polygons(region: Region) -> Any:
    """Boxes and outline as one shapely geometry, -180 to 180."""
    import shapely

    boxes = [shapely.box(w, s, e if e > w else e + 360, n) for w, s, e, n in region.boxes]
    outline = [] if region.outline is None else [region.outline.polygons]
    return Outline.of([*boxes, *outline]).polygons


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
