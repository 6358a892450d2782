"""The pixel grid that every array of one site shares, and the lattices that imagery comes on."""

from __future__ import annotations

import functools
import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS, Transformer

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

CrsRule = Literal["mgrs-utm", "utm-north", "utm-nad83", "source"]


@dataclass(frozen=True, slots=True)
class Grid:
    """Rows and columns of pixels on the ground; y runs north to south.

    Raises:
        ValueError: No pixels, or a transform that is not north-up.
    """

    crs: str | None
    """Authority code ("EPSG:32632") or WKT2; None for pictures without georeference."""

    transform: Affine
    """Column, row (of pixel corners) to x, y in the units of the CRS; north-up."""

    width: int
    """Columns."""

    height: int
    """Rows."""

    def __post_init__(self) -> None:
        t = self.transform
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f"a grid needs pixels, got {self.width} x {self.height}")
        if t.b != 0 or t.d != 0 or t.a <= 0 or t.e >= 0:
            raise ValueError(f"a grid must be north-up, got the transform {tuple(t)[:6]}")

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width), the order of numpy axes."""
        return self.height, self.width

    @property
    def pixel(self) -> tuple[float, float]:
        """Pixel (width, height) in the units of the CRS, both positive."""
        return self.transform.a, -self.transform.e

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(west, south, east, north) in the CRS."""
        t = self.transform
        return t.c, t.f + self.height * t.e, t.c + self.width * t.a, t.f

    def pixel_area(self) -> float:
        """Area of the central pixel, square metres (on the ellipsoid for a geographic CRS)."""
        a, e = self.pixel
        if self.crs is None or not is_geographic(self.crs):
            return a * e * metres_per_unit(self.crs) ** 2
        lat = math.radians((self.bounds[1] + self.bounds[3]) / 2)
        # One degree on WGS 84, meridian and parallel (series of Snyder 1987, eq. 3-21 and 3-22).
        meridian = 111132.954 - 559.822 * math.cos(2 * lat) + 1.175 * math.cos(4 * lat)
        parallel = 111412.84 * math.cos(lat) - 93.5 * math.cos(3 * lat) + 0.118 * math.cos(5 * lat)
        return abs(a * parallel * e * meridian)

    def xy(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixel centres in the CRS: x (width,) and y (height,)."""
        t = self.transform
        x = t.c + (np.arange(self.width) + 0.5) * t.a
        y = t.f + (np.arange(self.height) + 0.5) * t.e
        return x, y

    def lonlat(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixel centres, WGS 84 degrees, (height, width) each.

        Raises:
            ValueError: The grid has no CRS.
        """
        x, y = np.meshgrid(*self.xy())
        return to_lonlat(self.crs, x, y)

    def centre_lonlat(self) -> tuple[float, float]:
        """Longitude and latitude of the middle of the grid, degrees, rounded to 1e-7."""
        t = self.transform
        x, y = t.c + self.width / 2 * t.a, t.f + self.height / 2 * t.e
        lon, lat = to_lonlat(self.crs, np.array([x]), np.array([y]))
        return round(float(lon[0]), 7), round(float(lat[0]), 7)

    def outline_lonlat(self, per_side: int = 8) -> NDArray[np.float64]:
        """The edge as a closed ring of (lon, lat) degrees, counter-clockwise, (n, 2)."""
        s = np.linspace(0, 1, per_side, endpoint=False)
        c = np.concatenate([0 * s, s, 0 * s + 1, 1 - s, [0]]) * self.width
        r = np.concatenate([s, 0 * s + 1, 1 - s, 0 * s, [0]]) * self.height
        t = self.transform
        lon, lat = to_lonlat(self.crs, t.c + c * t.a, t.f + r * t.e)
        return np.column_stack([lon, lat])

    def size_m(self) -> tuple[float, float]:
        """(width, height) of the whole grid in metres, from the central pixel."""
        a, e = self.pixel
        scale = math.sqrt(self.pixel_area() / (a * e))
        return self.width * a * scale, self.height * e * scale

    def contains(self, other: Grid, slack: float = 1e-6) -> bool:
        """Whether `other` lies inside this grid; same CRS, slack in pixels of this grid."""
        if self.crs != other.crs:
            return False
        (w, s, e, n), (w2, s2, e2, n2) = self.bounds, other.bounds
        dx, dy = (slack * p for p in self.pixel)
        return w2 >= w - dx and e2 <= e + dx and s2 >= s - dy and n2 <= n + dy

    def geobox(self) -> GeoBox:
        """The same grid as an odc-geo `GeoBox`."""
        from odc.geo.geobox import GeoBox  # heavy, and only users of odc-geo need it

        return GeoBox(self.shape, self.transform, self.crs)

    def code(self) -> str:
        """A stable lower-case name: CRS, corner in whole units, and a hash of every digit.

        The name of a site comes from its grid, never from row order: the same place drawn
        twice gets the same name, in every run and on every machine.
        """
        exact = repr((self.crs, tuple(self.transform)[:6], self.width, self.height))
        digest = hashlib.blake2s(exact.encode(), digest_size=3).hexdigest()
        corner = "-".join(
            f"{'m' if v < 0 else ''}{abs(round(v))}" for v in (self.transform.c, self.transform.f)
        )
        return f"{crs_tag(self.crs)}-{corner}-{digest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lattice:
    """The family of grids that an imagery source delivers without resampling.

    Declared by each imagery file of `catalogs/imagery`; nominal grids of sampled sites lie on it.
    """

    crs: CrsRule
    """mgrs-utm: the zone of the MGRS, with the exceptions of Norway and Svalbard, 326xx north and
    327xx south of the equator. utm-north: plain zones, always 326xx (Landsat). utm-nad83: 269xx.
    source: each file its own; nothing can be drawn on it."""

    pixel: float
    """Side of the finest pixel, metres."""

    cell: float | None
    """Origins are congruent modulo this many metres; None: every scene has its own origin."""

    origin_north: tuple[float, float] = (0.0, 0.0)
    """(x, y) of an origin modulo `cell` in 326xx."""

    origin_south: tuple[float, float] = (0.0, 0.0)
    """(x, y) of an origin modulo `cell` in 327xx."""

    polar: str | None = None
    """CRS south of 63° S where the provider leaves UTM (Landsat: EPSG:3031)."""

    def crs_at(self, lon: float, lat: float) -> str:
        """The CRS in which this imagery comes at a place (degrees).

        Raises:
            ValueError: Every file has its own.
        """
        if self.crs == "source":
            raise ValueError("nothing can be drawn on pixels that each file has of its own")
        if self.polar is not None and lat < -63:
            return self.polar
        if self.crs == "mgrs-utm":
            return f"EPSG:{326 if lat >= 0 else 327}{mgrs_zone(lon, lat):02d}"
        if self.crs == "utm-north":
            return f"EPSG:326{utm_zone(lon):02d}"
        return f"EPSG:269{utm_zone(lon):02d}"

    def grid_at(self, lon: float, lat: float, size: int, pixel: float | None = None) -> Grid:
        """The `size` x `size` grid of this lattice whose centre is nearest to a place.

        Args:
            lon: Degrees east.
            lat: Degrees north.
            size: Columns and rows.
            pixel: Side in metres where it differs from the lattice's (a recipe's `gsd`).
        """
        crs = self.crs_at(lon, lat)
        pixel = pixel or self.pixel
        xs, ys = from_lonlat(crs, np.array([lon]), np.array([lat]))
        cell = self.cell or pixel
        ox, oy = self.origin_south if crs.startswith("EPSG:327") else self.origin_north
        half = size * pixel / 2
        west = round((float(xs[0]) - half - ox) / cell) * cell + ox
        north = round((float(ys[0]) + half - oy) / cell) * cell + oy
        return Grid(crs, Affine(pixel, 0.0, west, 0.0, -pixel, north), size, size)

    def holds(self, crs: str, transform: Affine) -> bool:
        """Whether a raster with this CRS and transform lies on the lattice."""
        if self.cell is None:
            return True
        ox, oy = self.origin_south if crs.startswith("EPSG:327") else self.origin_north
        off = ((transform.c - ox) / self.cell, (transform.f - oy) / self.cell)
        return all(abs(v - round(v)) * self.cell < 1e-6 * self.pixel for v in off)


def utm_zone(lon: float) -> int:
    """UTM zone 1-60 of a longitude in degrees, any turn of the circle."""
    return int(((lon + 180) % 360) // 6) + 1


def mgrs_zone(lon: float, lat: float) -> int:
    """UTM zone as the MGRS has it: 32V is wide, 31X-37X are four wide zones.

    Source: NGA.STND.0037, the Universal Grids; the exceptions of Norway and Svalbard.
    """
    lon = (lon + 180) % 360 - 180
    zone = utm_zone(lon)
    if 56 <= lat < 64 and 3 <= lon < 12:
        return 32
    if 72 <= lat <= 84 and 0 <= lon < 42:
        return 31 + 2 * int((lon + 3) // 12) if lon >= 9 else 31
    return zone


def to_lonlat(
    crs: str | None, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """CRS coordinates to WGS 84 degrees, any shape.

    Raises:
        ValueError: `crs` is None: the picture has no place.
    """
    lon, lat = transformer(_need(crs), "EPSG:4326").transform(x, y)
    return np.asarray(lon), np.asarray(lat)


def from_lonlat(
    crs: str | None, lon: NDArray[np.float64], lat: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """WGS 84 degrees to CRS coordinates, any shape.

    Raises:
        ValueError: `crs` is None: the picture has no place.
    """
    x, y = transformer("EPSG:4326", _need(crs)).transform(lon, lat)
    return np.asarray(x), np.asarray(y)


@functools.lru_cache(maxsize=256)
def transformer(source: str, target: str) -> Transformer:
    """A cached x/y-ordered transformer between two CRS (authority codes or WKT2)."""
    return Transformer.from_crs(source, target, always_xy=True)


@functools.lru_cache(maxsize=256)
def is_geographic(crs: str) -> bool:
    """Whether the units of a CRS are degrees."""
    return bool(CRS.from_user_input(crs).is_geographic)


@functools.lru_cache(maxsize=256)
def metres_per_unit(crs: str | None) -> float:
    """Metres in one unit of a projected CRS; 1 for None."""
    if crs is None:
        return 1.0
    return float(CRS.from_user_input(crs).axis_info[0].unit_conversion_factor)


@functools.lru_cache(maxsize=256)
def crs_name(wkt_or_code: str) -> str:
    """The authority code of a CRS where it has one, else its WKT2; a datum shift is left out."""
    crs = CRS.from_user_input(wkt_or_code)
    if crs.is_bound and crs.source_crs is not None:  # WKT1 with TOWGS84, as old GeoTIFFs have it
        crs = crs.source_crs
    authority = crs.to_authority(min_confidence=100)
    return f"{authority[0]}:{authority[1]}" if authority else crs.to_wkt()


def crs_tag(crs: str | None) -> str:
    """A short lower-case tag of a CRS: "32632", "esri102039", "wkt1f3a", "nocrs"."""
    if crs is None:
        return "nocrs"
    if len(crs) < 24 and ":" in crs:
        authority, code = crs.lower().split(":")
        return code if authority == "epsg" else authority + code
    return "wkt" + hashlib.blake2s(crs.encode(), digest_size=2).hexdigest()


def _need(crs: str | None) -> str:
    if crs is None:
        raise ValueError("this grid has no CRS, so it has no place on the Earth")
    return crs
