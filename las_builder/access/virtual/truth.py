"""The true land cover of the virtual Earth: one ontology leaf at every point of the globe.

Land, climate, cities are real (the packaged strata); what lies below them is drawn, from the
coast down to single crowns and houses. Any point has one truth at any resolution, whatever asks.

A resolution says what a map of that pixel could show: a road or a hedge narrower than about half
of it is not drawn, and below 4 m woodland falls apart into crowns and what is between them.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from las_builder.access.virtual.fields import (
    FARMED,
    RADIUS_M,
    SETTLED,
    climate_group,
    district,
    parcel,
)
from las_builder.access.virtual.lattice import nearest, to_path, to_side
from las_builder.access.virtual.leaves import INDEX, LEAVES, LETTERS
from las_builder.access.virtual.noise import (
    RADIUS,
    hashed,
    kernel,
    noise,
    sin_cos,
    turned,
    uniform,
)
from las_builder.access.virtual.planet import (
    COAST,
    CROWN_M,
    DISTRICT,
    DRY,
    EARTH,
    EAST,
    ELEVATION,
    FRAY,
    HEIGHT,
    HIGHWAY,
    KIND,
    LAKE,
    LAKES,
    NORTH,
    PART,
    POND,
    PONDS,
    QUARTER,
    RIVER,
    SHARE,
    SNOW_LINE,
    SOIL,
    SORT,
    SPREAD,
    STAND,
    STREAM,
    TALL,
    TONE,
    TONED,
    TREE_LINE,
    USE,
    VIGOUR,
    Planet,
    scratch,
)
from las_builder.access.virtual.relief import field, relief
from las_builder.access.virtual.towns import NOT_BUILT, intensity, town

_OCEAN, _LAKE, _RIVER, _SALT = INDEX["~"], INDEX["L"], INDEX["="], INDEX["Z"]
_ROAD, _ICE, _ROCK, _SAND, _WETLAND = INDEX["r"], INDEX["K"], INDEX["R"], INDEX["D"], INDEX["W"]
_FALLS_APART = 4.0
_ICE_GROUP, _DESERT, _STEPPE, _MOUNTAIN_ROCK = 9, 2, 3, 1.05
_BAYS = 46
"""Slots of `Scratch.key` from here on: noise of scales that are not the world's own."""

__all__ = ["LEAVES", "LETTERS", "Look", "look", "truth"]


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """Points of the ground in all that can be seen of them; arrays of one shape."""

    leaf: NDArray[np.uint8]
    """The truth, an index into `LEAVES`."""

    cover: NDArray[np.uint8]
    under: NDArray[np.uint8]
    """What covers `share` of the ground around the point, and what the rest; leaves too."""

    share: NDArray[np.float32]
    tone: NDArray[np.float32]
    """Light and dark, standard deviations."""

    vigour: NDArray[np.float32]
    """What the plants here are ahead of or behind their kind, -1 to 1; the same in a parcel."""

    elevation: NDArray[np.float32]
    """Metres above the plain."""

    east: NDArray[np.float32]
    north: NDArray[np.float32]
    """Slope, metres per metre."""

    height: NDArray[np.float32]
    """Of trees and houses, metres; only where the resolution tells them apart."""

    sort: NDArray[np.float32]
    """Which roof, which species, which state of a crop, 0-1; the same in a parcel."""

    earth: NDArray[np.float32]
    """Which soil, standard deviations."""

    climate: NDArray[np.uint8]
    """Index into `TruthParameters.climates`."""


def truth(
    lon: NDArray[np.int64], lat: NDArray[np.int64], planet: Planet, resolution: float, year: int
) -> NDArray[np.uint8]:
    """The leaf at each point, (n,), as an index into `LEAVES`.

    Args:
        lon: Nanodegrees east, any turn, (n,).
        lat: Nanodegrees north, (n,).
        planet: Which world.
        resolution: Metres.
        year: Whose crops stand in the fields.
    """
    leaves = np.empty((1, lon.size), np.uint8)
    nothing = np.empty((0, 0), np.float32)
    _fill(lon, lat, float(resolution), int(year), planet, scratch(planet), leaves, nothing)
    return leaves[0]


def look(
    lon: NDArray[np.int64], lat: NDArray[np.int64], planet: Planet, resolution: float, year: int
) -> Look:
    """All that can be seen at each point; arguments as for `truth`."""
    n = lon.size
    leaves = np.empty((4, n), np.uint8)
    seen = np.empty((9, n), np.float32)
    _fill(lon, lat, float(resolution), int(year), planet, scratch(planet), leaves, seen)
    return Look(
        leaf=leaves[0],
        cover=leaves[1],
        under=leaves[2],
        elevation=seen[ELEVATION],
        east=seen[EAST],
        north=seen[NORTH],
        share=seen[PART],
        tone=seen[TONED],
        vigour=seen[VIGOUR],
        height=seen[TALL],
        sort=seen[SORT],
        earth=seen[EARTH],
        climate=leaves[3],
    )


@njit(cache=True, nogil=True, error_model="numpy")
def _fill(lon, lat, resolution, year, worlds, scratches, leaves, seen):
    w, s = worlds[0], scratches[0]
    everything = seen.size > 0
    for n in range(lon.size):
        leaves[0, n] = _at(lon[n], lat[n], resolution, year, everything, w, s)
        if everything:
            leaves[1, n], leaves[2, n], leaves[3, n] = s.cover[0], s.cover[1], s.cover[2]
            for k in range(9):
                seen[k, n] = s.out[k]


@kernel()
def _at(lon, lat, resolution, year, everything, w, s):
    """The leaf of one point; fills `s.out` and `s.cover` if everything is asked for."""
    lon = (lon + 180_000_000_000) % 360_000_000_000
    turn = lon / 360e9
    for k in range(9):
        s.out[k] = 0.0
    share = _land_share(lon, lat, w, s)
    if share == 0.0 and not everything:
        return _OCEAN
    sl, cl = sin_cos(lon - 180_000_000_000)
    sp, cp = sin_cos(lat)
    x, y, z = turned(cl * cp, sl * cp, sp)
    x, y, z = RADIUS * x, RADIUS * y, RADIUS * z
    north = lat * (math.pi * RADIUS / 180e9)
    shore = 1.0
    if share < 1.0:
        shore = share + 0.22 * field(COAST, x, y, z, w, s) - 0.5 if share > 0 else -1.0
        if shore <= 0:
            if everything:
                s.out[TONED] = field(TONE, x, y, z, w, s)
                s.out[VIGOUR] = max(-1.0, 4 * shore)
                s.cover[0], s.cover[1], s.cover[2], s.out[PART] = _OCEAN, _OCEAN, 0, 1.0
                s.out[EARTH] = field(SOIL, x, y, z, w, s)
            return _OCEAN
    fray = field(FRAY, x, y, z, w, s)
    g = climate_group((turn + fray * (4e7 / 360e9)) % 1.0, lat + int(fray * 4e7), w)
    if g < 0:
        g = climate_group(turn, lat, w)
    if g < 0:
        g = 5 if abs(lat) < 60_000_000_000 else 8
    leaf = _on_land(lat, turn, north, cp, sl, cl, sp, x, y, z, shore, g, resolution, year, w, s)
    return _nearby(leaf, turn, north, cp, x, y, z, g, resolution, everything, w, s)


@kernel()
def _on_land(lat, turn, north, cp, sl, cl, sp, x, y, z, shore, g, resolution, year, w, s):
    c = w.climate[g]
    wild, river, stream, slope = relief(x, y, z, sl, cl, sp, cp, w, s)
    height = s.out[ELEVATION]
    half = resolution / 2
    if g == _ICE_GROUP:
        return _ICE if slope < 0.55 else w.alpine[g, 2]
    cold = height - c[TREE_LINE]

    # Water
    broad = 1 - 0.65 * wild
    if c[RIVER] * broad > half and river < 0.5 * c[RIVER] * broad and slope < 0.5:
        return _RIVER
    if c[STREAM] > half and stream < 0.5 * c[STREAM]:
        return _RIVER
    ring = 1e9
    if wild < 0.6 and c[LAKES] > 0:
        name, d = _lake(LAKE, c[LAKES], 0.05, 0.30, turn, north, cp, x, y, z, w, s)
        if d < 0:
            salty = g in (_DESERT, _STEPPE) and fresh(name, 2, w) < 0.55
            return _SALT if salty else _LAKE
        ring = d
    if wild < 0.6 and c[PONDS] > 0:
        _, d = _lake(POND, c[PONDS], 0.08, 0.22, turn, north, cp, x, y, z, w, s)
        if d < 0 and half < 40:
            return _LAKE
        ring = min(ring, d * 2)

    # Rock and ice
    if slope > _MOUNTAIN_ROCK:
        return _ROCK
    kind = field(KIND, x, y, z, w, s)
    if cold > 0:
        if height > c[SNOW_LINE] + 180 * kind:
            return _ICE
        column = 3 if kind > 0.67 else (2 if kind > 0 else (1 if kind > -0.67 else 0))
        if slope > 0.75 or cold > 0.55 * (c[SNOW_LINE] - c[TREE_LINE]) + 150 * kind:
            return w.alpine[g, 2]
        return w.alpine[g, column]
    if shore < 0.07:
        column = 3 if kind > 0.67 else (2 if kind > 0 else (1 if kind > -0.67 else 0))
        if shore < 0.035 + 0.02 * kind:
            return w.shore[g, column]

    # People
    name, _ = nearest(
        DISTRICT,
        w.cell[DISTRICT],
        w.cell_seed[DISTRICT],
        turn,
        north,
        cp,
        s.cell_key,
        s.place,
        s.name,
        s.hit[DISTRICT],
    )
    hit = s.hit[DISTRICT]
    back = north - hit[1]
    district(name, turn - hit[0] / (2 * math.pi * RADIUS * cp), back, w, s)
    d = s.district
    t = intensity(turn, north, lat, cp, x, y, z, w, s)
    village = False
    if t < 0.05 and d[RADIUS_M] > 0:
        far = math.sqrt(hit[2]) / d[RADIUS_M]
        if far < 1.6:
            v = 0.3 * (1 - far) + 0.09 * field(COAST, x, y, z, w, s)
            if v > 0 and v > t:
                t, village = v, True
    if t > 0 and slope < 0.4:
        quarter, _ = nearest(
            QUARTER,
            w.cell[QUARTER],
            w.cell_seed[QUARTER],
            turn,
            north,
            cp,
            s.cell_key,
            s.place,
            s.name,
            s.hit[QUARTER],
        )
        q = s.hit[QUARTER]
        leaf = town(t, village, q[0], q[1], quarter, to_side(q), resolution, g, w, s)
        if leaf != NOT_BUILT:
            return leaf
    if d[SETTLED] > 0.05 and slope < 0.6:
        if half < 12.0:
            nearest(
                HIGHWAY,
                w.cell[HIGHWAY],
                w.cell_seed[HIGHWAY],
                turn,
                north,
                cp,
                s.cell_key,
                s.place,
                s.name,
                s.hit[HIGHWAY],
            )
            if to_side(s.hit[HIGHWAY]) < 12.5:
                return _ROAD
        if half < 3.6 * 2 and d[FARMED] > 0.02:
            wide = 3.6 if half > 2.5 else 3.2
            if half < 2 * wide and to_path(hit) < wide:
                return _ROAD
    damp = max(0.0, 1 - river / 500) + 0.6 * max(0.0, 1 - stream / 160)
    damp += 0.8 * max(0.0, 1 - ring / 90) if ring < 90 else 0.0
    if d[FARMED] > 0:
        use = field(USE, x, y, z, w, s) + 0.25 * min(damp, 1.0)
        use -= 5.0 * slope + max(0.0, 1.5 * (cold / c[TREE_LINE] + 0.5))
        if (
            use > -w.normal[int(d[FARMED] * 100)]
            and ring > 12
            and (river > c[RIVER] * broad * 0.5 + 14 or c[RIVER] == 0)
        ):
            leaf, _ = parcel(hit[0], hit[1], name, year, resolution, g, w, s)
            return leaf

    # Nature
    stand, _ = nearest(
        STAND,
        w.cell[STAND],
        w.cell_seed[STAND],
        turn,
        north,
        cp,
        s.cell_key,
        s.place,
        s.name,
        s.hit[STAND],
    )
    u, v = uniform(stand), uniform(hashed(int(stand >> np.uint64(1)), 1, 0, w.seed))
    s.out[VIGOUR] = 2 * v - 1
    s.out[SORT] = fresh(stand, 5, w)
    dry = field(DRY, x, y, z, w, s) - 0.9 * damp + 0.35 * (u - 0.5) + 0.9 * min(slope, 1.0)
    row = 0
    while row < 5 and dry > w.wet[row]:
        row += 1
    mix = kind + 0.8 * (v - 0.5)
    column = 3 if mix > 0.67 else (2 if mix > 0 else (1 if mix > -0.67 else 0))
    leaf = w.wild[g, row, column]
    # No lake lies on a slope: there the next drier row grows.
    return w.wild[g, row + 1, column] if leaf == _LAKE and slope > 0.05 else leaf


@kernel()
def fresh(name, which, w):
    """Another number from 0 up to 1 for something that has a name."""
    return uniform(hashed(int(name >> np.uint64(1)), which, 0, w.seed))


@kernel()
def _lake(slot, chance, least, more, turn, north, cp, x, y, z, w, s):
    """Name of the nearest lake of a lattice, and metres to its shore, negative on it.

    Lakes are ellipses of any direction with bays; 1e9 where there is none.
    """
    cell = w.cell[slot]
    hit = s.hit[slot]
    name, _ = nearest(
        slot, cell, w.cell_seed[slot], turn, north, cp, s.cell_key, s.place, s.name, hit
    )
    if uniform(name) >= chance:
        return name, 1e9
    u = fresh(name, 1, w)
    size = cell * (least + more * u * u)
    t = 2 * fresh(name, 3, w) - 1
    cos, sin = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    slim = 0.45 + 0.55 * fresh(name, 4, w)
    a, b = cos * hit[0] + sin * hit[1], (cos * hit[1] - sin * hit[0]) / slim
    bays = noise(_BAYS, 2.2 / size, w.cell_seed[slot], x, y, z, s.key, s.value) + 0.4 * noise(
        _BAYS + 1, 6.5 / size, w.cell_seed[slot], x, y, z, s.key, s.value
    )
    return name, math.sqrt(a * a + b * b) - size * (1 + 0.75 * bays)


@kernel()
def _nearby(leaf, turn, north, cp, x, y, z, g, resolution, everything, w, s):
    """Crowns and gaps: the leaf as a near look shows it, and what it is made of."""
    fine = resolution < _FALLS_APART
    slot = w.crown_slot[leaf]
    if everything:
        s.out[TONED] = field(TONE, x, y, z, w, s)
        s.out[EARTH] = field(SOIL, x, y, z, w, s)
        s.cover[0], s.cover[1], s.cover[2], s.out[PART] = leaf, leaf, g, 1.0
    if slot < 0 or not (fine or everything):
        return leaf
    crown, under = w.crown_of[leaf], w.under[leaf]
    if crown == 254:
        crown = w.letters[g, 0]
    if under == 255:
        under = w.letters[g, 1]
    tone = s.out[TONED] if everything else field(TONE, x, y, z, w, s)
    share = w.cover[leaf, SHARE] + w.cover[leaf, SPREAD] * (0.6 * s.out[VIGOUR] + 0.4 * tone)
    share = min(1.0, max(0.0, share))
    if not fine:
        s.cover[0], s.cover[1], s.out[PART] = crown, under, share
        return leaf
    cell = w.cover[leaf, CROWN_M]
    name, _ = nearest(
        slot, cell, w.cell_seed[slot], turn, north, cp, s.cell_key, s.place, s.name, s.hit[slot]
    )
    hit = s.hit[slot]
    # Crowns on a closed cover meet at the sides between them; on an open one they are round.
    r2 = hit[2] / (cell * cell)
    size = 0.5 + 0.5 * uniform(hashed(int(name >> np.uint64(1)), 3, 0, w.seed))
    open_ = share < 0.6
    if open_:
        there = uniform(name) < min(1.0, share * 1.9) and r2 < 0.2 * size
    else:
        there = r2 < 0.62 * size * share + 0.1 and to_side(hit) > (1 - share) * 0.9
    if there:
        s.out[TALL] = w.cover[leaf, HEIGHT] * (0.6 + 0.4 * size) * max(0.25, 1 - 1.6 * r2)
        s.out[SORT] = 0.5 * s.out[SORT] + 0.5 * fresh(name, 4, w)
    part = crown if there else under
    if everything:
        s.cover[0], s.cover[1], s.out[PART] = part, part, 1.0
    return leaf if w.one_use[leaf] else part


@kernel()
def _land_share(lon, lat, w, s):
    """The mask of 30 seconds between the centres of its pixels, 0-1; `lon` from 180° W."""
    x = lon * 120 - 500_000_000
    y = (90_000_000_000 - lat) * 120 - 500_000_000
    i, j = x // 1_000_000_000, y // 1_000_000_000
    rows, columns = w.land.shape
    cell_row = min(rows - 1, max(0, j // 6))
    kind = w.land[cell_row, (i // 6) % columns]
    if kind == 0:
        return 0.0
    if kind == 1:
        return 1.0
    u, v = (x - i * 1_000_000_000) * 1e-9, (y - j * 1_000_000_000) * 1e-9
    if s.mask[0] != i or s.mask[1] != j:
        s.mask[0], s.mask[1] = i, j
        for k in range(4):
            s.mask[2 + k] = _mask(i + (k & 1), j + (k >> 1), w)
    a, b, c, d = s.mask[2], s.mask[3], s.mask[4], s.mask[5]
    above, below = a + (b - a) * u, c + (d - c) * u
    return above + (below - above) * v


@kernel()
def _mask(i, j, w):
    rows, columns = w.land.shape
    i = i % (columns * 6)
    j = min(rows * 6 - 1, max(0, j))
    row, column = j // 6, i // 6
    kind = w.land[row, column]
    if kind != 4:
        return 1 if kind in (1, 3) else 0
    at = np.searchsorted(w.coast_at, row * columns + column)
    bit = np.uint64((j % 6) * 6 + i % 6)
    return int((w.coast_bits[at] >> bit) & np.uint64(1))
