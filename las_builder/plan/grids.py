"""Nominal grids of many sites at once: the columns of what `Lattice.grid_at` makes one by one."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from las_builder.core.grid import Grid, Lattice, crs_tag, from_lonlat
from las_builder.plan.codes import codes
from las_builder.plan.target import Floats

Names = NDArray[np.object_]
"""Strings (or None), many of them the same object."""


@dataclass(frozen=True, eq=False)
class Grids:
    """North-up grids; arrays of one length."""

    crs: Names
    west: Floats
    north: Floats
    pixel: Floats
    """(width, height) of a pixel, (n, 2), both positive."""

    width: NDArray[np.int32]
    """Columns."""

    height: NDArray[np.int32]

    def __len__(self) -> int:
        return self.crs.size

    def grid(self, i: int) -> Grid:
        """One of them."""
        a, e = self.pixel[i].tolist()
        place = Affine(a, 0.0, float(self.west[i]), 0.0, -e, float(self.north[i]))
        return Grid(self.crs[i], place, int(self.width[i]), int(self.height[i]))

    def of(self, which: Any) -> Grids:
        """Some of them: a slice, a mask or indices."""
        return Grids(
            self.crs[which], self.west[which], self.north[which], self.pixel[which],
            self.width[which], self.height[which],
        )  # fmt: skip

    @functools.cached_property
    def by_crs(self) -> dict[str, NDArray[np.intp]]:
        """The rows of each CRS; those without one are in none."""
        number: dict[str | None, int] = {}
        codes = np.array([number.setdefault(name, len(number)) for name in self.crs.tolist()], int)
        order = np.argsort(codes, kind="stable")
        ends = np.cumsum(np.bincount(codes, minlength=len(number)))[:-1]
        rows = np.split(order, ends) if number else []
        return {name: found for name, found in zip(number, rows, strict=True) if name is not None}

    def bounds(self) -> Floats:
        """West, south, east, north of each in its CRS, (4, n)."""
        east = self.west + self.width * self.pixel[:, 0]
        south = self.north - self.height * self.pixel[:, 1]
        return np.stack([self.west, south, east, self.north])

    def codes(self) -> list[str]:
        """`Grid.code` of each."""
        if not all(_whole(corner) for corner in (self.west, self.north)):
            return [self.grid(i).code() for i in range(len(self))]
        number: dict[str | None, int] = {}
        of = np.array(
            [number.setdefault(name, len(number)) for name in self.crs.tolist()], np.int64
        )
        look = np.column_stack([self.pixel, self.width, self.height])
        one = len(self) > 0 and bool((look == look[0]).all())  # as grids of a lattice are
        looks, which = (look[:1], 0) if one else np.unique(look, axis=0, return_inverse=True)
        parts = [
            (
                crs_tag(crs),
                f"({crs!r}, ({a!r}, 0.0, ",
                f", 0.0, {-e!r}, ",
                f"), {int(w)}, {int(h)})",
            )
            for crs in number
            for a, e, w, h in looks.tolist()
        ]
        form = of * len(looks) + np.reshape(which, -1)
        return codes(self.west, self.north, form, parts)

    @classmethod
    def from_grids(cls, grids: list[Grid]) -> Grids:
        """Columns of some grids."""
        crs = np.empty(len(grids), np.object_)
        crs[:] = [grid.crs for grid in grids]
        t = np.array([tuple(g.transform)[:6] for g in grids], np.float64).reshape(-1, 6)
        return cls(
            crs, t[:, 2].copy(), t[:, 5].copy(), np.column_stack([t[:, 0], -t[:, 4]]),
            np.array([g.width for g in grids], np.int32),
            np.array([g.height for g in grids], np.int32),
        )  # fmt: skip

    @classmethod
    def join(cls, several: list[Grids]) -> Grids:
        """One after the other."""
        return cls(
            *(
                np.concatenate([getattr(grids, name) for grids in several])
                for name in ("crs", "west", "north", "pixel", "width", "height")
            )
        )


def grids_at(
    lattice: Lattice, lon: Floats, lat: Floats, size: int, pixel: float | None = None
) -> Grids:
    """`Lattice.grid_at` of every place, (n,) degrees."""
    zone = _zones(lattice, lon, lat)
    pixel = pixel or lattice.pixel
    cell, half = lattice.cell or pixel, size * pixel / 2
    west, north = np.empty(lon.size), np.empty(lon.size)
    crs = np.empty(lon.size, np.object_)
    order = np.argsort(zone, kind="stable")
    codes, start = np.unique(zone[order], return_index=True)
    for code, some in zip(codes.tolist(), np.split(order, start[1:]), strict=True):
        name = f"EPSG:{code}" if code else lattice.polar
        x, y = from_lonlat(name, lon[some], lat[some])
        ox, oy = lattice.origin_south if code // 100 == 327 else lattice.origin_north
        west[some] = np.round((x - half - ox) / cell) * cell + ox
        north[some] = np.round((y + half - oy) / cell) * cell + oy
        crs[some] = name
    n = np.full(lon.size, size, np.int32)
    return Grids(crs, west, north, np.full((lon.size, 2), pixel), n, n)


def _whole(values: Floats) -> bool:
    """Whether all are whole numbers that are written without a sign or with one that counts."""
    zero = np.signbit(values[values == 0])
    return bool(
        (np.abs(values) < 1e15).all() and (values == np.rint(values)).all() and not zero.any()
    )


def _zones(lattice: Lattice, lon: Floats, lat: Floats) -> NDArray[np.int64]:
    """EPSG code of `Lattice.crs_at`, 0 where it is the polar CRS."""
    lon = np.mod(lon + 180, 360)
    zone = (lon // 6).astype(np.int64) + 1
    if lattice.crs == "mgrs-utm":
        lon = lon - 180
        zone[(lat >= 56) & (lat < 64) & (lon >= 3) & (lon < 12)] = 32
        svalbard = (lat >= 72) & (lat <= 84) & (lon >= 0) & (lon < 42)
        wide = np.where(lon >= 9, 31 + 2 * ((lon + 3) // 12).astype(np.int64), 31)
        zone[svalbard] = wide[svalbard]
        zone += np.where(lat >= 0, 32600, 32700)
    else:
        zone += 32600 if lattice.crs == "utm-north" else 26900
    if lattice.polar is not None:
        zone[lat < -63] = 0
    return zone
