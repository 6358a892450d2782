"""Districts and their parcels: blocks between tracks, cut into strips that grow one thing."""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import math

import numpy as np

from las_builder.access.virtual.leaves import INDEX
from las_builder.access.virtual.noise import RADIUS, hashed, kernel, sin_cos, turned, uniform
from las_builder.access.virtual.planet import (
    BELT,
    FARM,
    FIELD_A,
    FIELD_B,
    HEDGES,
    PIVOTS,
    RANGE,
    SORT,
    STRIPS,
    VIGOUR,
    VILLAGE,
)
from las_builder.access.virtual.relief import field, ramp

_PASTURE, _BARE = INDEX["P"], INDEX["D"]
_MAIZE, _WHEAT, _SOY = INDEX["M"], INDEX["C"], INDEX["Y"]

COS, SIN, BLOCK_A, BLOCK_B, FARMED, SETTLED, RADIUS_M, PIVOT, KIND_OF, GROUP, HEDGED = range(11)
"""What a district is like: slots of `Scratch.district`."""

_WILD = 2
_ROAD_HALF = 3.0
_TRACK_HALF = 1.6
_HEDGE_HALF = 2.6


@kernel()
def settled(turn, lat, w):
    """Share of the land that people have taken, between the centres of half degrees."""
    x, y = turn * 720 - 0.5, (90e9 - lat) / 5e8 - 0.5
    i, j = math.floor(x), math.floor(y)
    u, v = x - i, y - j
    a, b = min(359, max(0, j)), min(359, max(0, j + 1))
    left, right = i % 720, (i + 1) % 720
    p = w.people
    above = p[a, left] + (p[a, right] - p[a, left]) * u
    below = p[b, left] + (p[b, right] - p[b, left]) * u
    return above + (below - above) * v


@kernel()
def climate_group(turn, lat, w):
    """Group of the climate zone of a place; by latitude where no zone is known."""
    rows, columns = w.zones.shape
    column = math.floor(turn * columns) % columns
    row = min(rows - 1, max(0, math.floor((90e9 - lat) * (rows / 180e9))))
    return w.group[w.zones[row, column]]


@kernel()
def district(name, turn, north, w, s):
    """Fill `s.district` for the district whose village is at this place, unless it is there."""
    if s.district_name[0] == name:
        return
    s.district_name[0] = name
    d = s.district
    lat = round(north * (180e9 / (math.pi * RADIUS)))
    lat = min(90_000_000_000, max(-90_000_000_000, lat))
    lon = round(turn * 360e9) - 180_000_000_000
    sl, cl = sin_cos(lon)
    sp, cp = sin_cos(lat)
    x, y, z = turned(cl * cp, sl * cp, sp)
    x, y, z = RADIUS * x, RADIUS * y, RADIUS * z
    g = climate_group(turn - math.floor(turn), lat, w)
    if g < 0:
        g = 5 if abs(lat) < 60_000_000_000 else 8
    c = w.climate[g]
    h = [uniform(hashed(int(name >> np.uint64(1)), k, 7, w.seed)) for k in range(7)]
    people = settled(turn - math.floor(turn), lat, w)
    steep = ramp(field(RANGE, x, y, z, w, s), w.shape[1], w.shape[2])
    # A direction without trigonometry: the rational points of a circle.
    t = h[0] * 2 - 1
    d[COS], d[SIN] = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    size = 0.65 + 0.8 * h[1]
    d[PIVOT] = 1.0 if h[2] < c[PIVOTS] else 0.0
    d[BLOCK_A], d[BLOCK_B] = c[FIELD_A] * size, c[FIELD_B] * size
    if d[PIVOT] > 0:
        d[BLOCK_A], d[BLOCK_B] = 820.0, 820.0
    farmed = c[FARM] * (0.12 + 0.88 * people) * (1 - 0.75 * steep) + 0.14 * (h[3] - 0.5)
    d[FARMED] = min(0.97, max(0.0, farmed)) if c[FARM] * people > 0.004 else 0.0
    d[SETTLED] = people
    d[RADIUS_M] = c[VILLAGE] * (0.35 + h[4] * h[4]) if h[5] < 1.3 * people - 0.03 else 0.0
    d[KIND_OF] = 1.0 if field(BELT, x, y, z, w, s) + 0.6 * (h[6] - 0.5) > 0 else 0.0
    d[GROUP] = g
    d[HEDGED] = c[HEDGES]


@kernel()
def block(a, b, side_a, side_b, name):
    """The block of a crooked grid that holds a point.

    Args:
        a: Metres along the first axis of the grid.
        b: Metres along the second.
        side_a: Metres between its lines, on average.
        side_b: Likewise.
        name: Of the grid.

    Returns:
        Column and row, metres from the left and lower line, width and height of the block.
    """
    n = int(name >> np.uint64(1))
    i = math.floor(a / side_a)
    low, high = _line(i, side_a, n, 0), _line(i + 1, side_a, n, 0)
    if a < low:
        i, high, low = i - 1, low, _line(i - 1, side_a, n, 0)
    elif a >= high:
        i, low, high = i + 1, high, _line(i + 2, side_a, n, 0)
    b += side_b * uniform(hashed(n, i, 3, np.uint64(11)))
    j = math.floor(b / side_b)
    k = 1 + 2 * (i & 1023)
    bottom, top = _line(j, side_b, n, k), _line(j + 1, side_b, n, k)
    if b < bottom:
        j, top, bottom = j - 1, bottom, _line(j - 1, side_b, n, k)
    elif b >= top:
        j, bottom, top = j + 1, top, _line(j + 2, side_b, n, k)
    return i, j, a - low, b - bottom, high - low, top - bottom


@kernel()
def _line(i, side, name, which):
    return (i + 0.36 * (uniform(hashed(name, i, which, np.uint64(5))) - 0.5)) * side


@kernel()
def parcel(east, north, name, year, resolution, g, w, s):
    """What grows at a place of a district, metres east and north of its village.

    Fills the vigour of the parcel. Returns a leaf and a hash of the parcel.
    """
    d = s.district
    a, b = d[COS] * east + d[SIN] * north, d[COS] * north - d[SIN] * east
    i, j, p, q, width, height = block(a, b, d[BLOCK_A], d[BLOCK_B], name)
    h = hashed(int(name >> np.uint64(1)), i, j, w.seed)
    edge = min(p, width - p, q, height - q)
    if d[PIVOT] > 0:
        dx, dy = p - width / 2, q - height / 2
        r = 0.47 * min(width, height)
        strip = 0 if dx > 0 or uniform(h) < 0.7 else 1
        inside = dx * dx + dy * dy < r * r
        edge = 100.0
    else:
        strips = 1 + int(uniform(h) * w.climate[g, STRIPS])
        along = p / width if h & np.uint64(1) else q / height
        strip = int(along * strips)
        inside = True
        size = width if h & np.uint64(1) else height
        cut = (along * strips - strip) * size / strips
        edge_strip = min(cut, size / strips - cut)
        if resolution < 3 and edge_strip < 0.8:
            edge = min(edge, edge_strip)
    h = hashed(int(h >> np.uint64(1)), strip, 1, w.seed)
    u = uniform(hashed(int(h >> np.uint64(1)), year, 2, w.seed))
    s.out[VIGOUR] = 2 * u - 1
    s.out[SORT] = uniform(hashed(int(h >> np.uint64(1)), year, 3, w.seed))
    if not inside:
        return w.letters[g, 1], h
    if edge < _HEDGE_HALF and resolution < 2.5 * _HEDGE_HALF:
        hedge = uniform(hashed(int(h >> np.uint64(2)), 5, 3, w.seed)) < d[HEDGED]
        if hedge:
            return w.letters[g, 0], h
        if edge < _TRACK_HALF:
            return _PASTURE, h
    crops = w.crops[g, int(d[KIND_OF])]
    slot = int(uniform(h) * 8)
    leaf = crops[slot]
    if leaf in (_MAIZE, _WHEAT, _SOY):
        # Annual crops take turns: next year the parcel grows what another grew.
        for step in range(8):
            other = crops[(slot + year + step) % 8]
            if other in (_MAIZE, _WHEAT, _SOY):
                return other, h
    return leaf, h
