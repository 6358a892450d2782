"""Regions: names, codes, boxes and footprints to one question, is this place in it?"""

from __future__ import annotations

import dataclasses
import difflib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from las_builder.catalogs import Strata
from las_builder.errors import RegionError

if TYPE_CHECKING:
    from shapely import Geometry

Box = tuple[float, float, float, float]
"""West, south, east, north, degrees; west > east crosses ±180°."""

WORLD: Box = (-180.0, -90.0, 180.0, 90.0)


@dataclass(frozen=True, eq=False)
class Region:
    """A union of boxes and countries, cut to extents and an outline; edges belong to it."""

    name: str
    """As the recipe has it."""

    strata: Strata
    boxes: tuple[Box, ...] = ()
    countries: frozenset[int] = frozenset()
    """Indices of `Strata.countries`."""

    extents: tuple[Box, ...] = ()
    """Every place lies in all of these."""

    only: frozenset[int] | None = None
    """Every place lies in one of these countries; None: in any, or in none."""

    outline: Geometry | None = None
    """Every place lies in these polygons, degrees; what is beyond ±180° is meant a turn away."""

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
        found = resolve(countries, self.strata, where).countries
        return dataclasses.replace(self, only=found if self.only is None else self.only & found)

    def contains(self, lon: ArrayLike, lat: ArrayLike) -> NDArray[np.bool_]:
        """Whether places (degrees, any turn, shapes that broadcast) are in the region."""
        x, y = np.broadcast_arrays(np.asarray(lon, np.float64), np.asarray(lat, np.float64))
        inside = self.surrounds(x, y)
        if self.outline is not None:
            import shapely

            shapely.prepare(self.outline)
            x = (x[inside] + 180) % 360 - 180
            hit = [shapely.intersects_xy(self.outline, x + t, y[inside]) for t in (0, 360, -360)]
            inside[inside] = np.any(hit, axis=0)
        return inside

    def surrounds(self, lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Like `contains`, for places of one shape, but the outline is not asked."""
        inside = np.zeros(lon.shape, np.bool_)
        for box in self.boxes:
            inside |= in_box(box, lon, lat)
        if self.countries:
            inside |= self._in_any(self.countries, lon, lat)
        if self.only is not None:
            inside &= self._in_any(self.only, lon, lat)
        for box in self.extents:
            inside &= in_box(box, lon, lat)
        return inside

    def _in_any(
        self, countries: frozenset[int], lon: NDArray[np.float64], lat: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        chosen = np.zeros(len(self.strata.countries), np.bool_)
        chosen[list(countries)] = True
        return np.asarray(chosen[self.strata.country(lon, lat)])


def in_box(box: Box, lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether places lie in a box, edges included; shapes that broadcast."""
    west, south, east, north = box
    inside = (lat >= south) & (lat <= north)
    if east - west < 360:
        inside = inside & (np.mod(lon - west, 360) <= np.mod(east - west, 360))
    return np.broadcast_to(inside, np.broadcast_shapes(lon.shape, lat.shape))


def footprints(name: str, rings: Sequence[NDArray[np.float64]], strata: Strata) -> Region:
    """The union of closed rings of (lon, lat) degrees, each of a patch of ground that is small
    beside the globe; across ±180° and around a pole too.
    """
    import shapely

    outline = shapely.union_all([shapely.make_valid(shapely.Polygon(_unroll(r))) for r in rings])
    parts = shapely.get_parts(outline)
    boxes = [part.bounds for part in parts] if len(parts) <= 16 else [outline.bounds]
    return Region(name, strata, boxes=tuple(boxes), outline=outline)


def _unroll(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """Longitudes without jumps; a ring around a pole goes up to it and back."""
    lon = np.degrees(np.unwrap(np.radians(ring[:, 0])))
    lon -= 360 * np.floor((lon.mean() + 180) / 360)
    turned = lon[-1] - lon[0]
    if abs(turned) < 180:
        return np.column_stack([lon, ring[:, 1]])
    pole = np.copysign(90.0, ring[:, 1].mean())
    return np.column_stack([[*lon, lon[-1], lon[0]], [*ring[:, 1], pole, pole]])


def resolve(spec: str | Sequence[float] | Sequence[str], strata: Strata, where: object) -> Region:
    """What a recipe's `sites.region` means.

    Args:
        spec: "global"; continents, ISO 3166 codes (two or three letters) or names of countries,
            in any case, alone, comma-joined or in a list; or [west, south, east, north] in
            degrees, as a list or "w,s,e,n", where west > east crosses ±180°.
        strata: Knows the countries.
        where: The file that asks, for messages.

    Raises:
        RegionError: An unknown name, or a box that is none.
    """
    text = spec if isinstance(spec, str) else ",".join(str(part) for part in spec)
    numbers = _numbers(text)
    if numbers is not None:
        return Region(text, strata, boxes=(_box(numbers, text, where),))
    names = {_fold(word): codes for word, codes in _known(strata).items()}
    parts = [spec] if isinstance(spec, str) and _fold(spec) in names else text.split(",")
    boxes: list[Box] = []
    countries: set[int] = set()
    for part in parts:
        word = _fold(part)
        if word in ("global", "world"):
            boxes.append(WORLD)
        elif word in names:
            countries |= names[word]
        else:
            raise _unknown(part.strip(), strata, where)
    return Region(text, strata, boxes=tuple(boxes), countries=frozenset(countries))


def _known(strata: Strata) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for country in strata.countries[1:]:
        found.setdefault(country.continent, set()).add(country.index)
        for word in (country.name, country.iso2, country.iso3):
            found[word] = {country.index}
    return found


def _unknown(part: str, strata: Strata, where: object) -> RegionError:
    shown = {_fold(word): word for word in ("global", *_known(strata)) if len(word) > 2}
    near = difflib.get_close_matches(_fold(part), shown, n=1, cutoff=0.5)
    return RegionError(
        where,
        "sites.region",
        part,
        "global, a continent, a country by name or ISO code, or [west, south, east, north]",
        f"Did you mean {shown[near[0]]!r}?" if near else "",
    )


def _fold(word: str) -> str:
    """Without case, accents and punctuation: "Côte d'Ivoire" is "cote d ivoire"."""
    plain = unicodedata.normalize("NFKD", word).encode("ascii", "ignore").decode()
    return " ".join(re.sub(r"[^a-z0-9]+", " ", plain.casefold()).split())


def _numbers(text: str) -> list[float] | None:
    try:
        return [float(part) for part in text.strip("[] ").split(",")]
    except ValueError:
        return None


def _box(numbers: list[float], text: str, where: object) -> Box:
    allowed = "[west, south, east, north] in degrees, south < north, west ≠ east"
    if len(numbers) != 4:
        raise RegionError(where, "sites.region", text, allowed)
    west, south, east, north = numbers
    longitudes = -360 <= west <= 360 and -360 <= east <= 360 and west != east
    if not (longitudes and -90 <= south < north <= 90):
        raise RegionError(where, "sites.region", text, allowed)
    return west, south, east, north
