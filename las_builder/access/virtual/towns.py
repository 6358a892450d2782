"""Towns: quarters with a street grid of their own, blocks, plots and houses."""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import math

import numpy as np

from las_builder.access.virtual.fields import block
from las_builder.access.virtual.lattice import GIRTH
from las_builder.access.virtual.leaves import INDEX
from las_builder.access.virtual.noise import hashed, kernel, uniform
from las_builder.access.virtual.planet import SORT, TALL, TOWN, VIGOUR
from las_builder.access.virtual.relief import field

_BUILDING, _ROAD, _SEALED = INDEX["b"], INDEX["r"], INDEX["i"]
_DENSE, _SPARSE, _INDUSTRY = INDEX["d"], INDEX["s"], INDEX["n"]
_TURF, _POOL, _POND = INDEX["U"], INDEX["o"], INDEX["L"]

NOT_BUILT = 255
"""Leaf of a place in a town's reach that nobody has built on."""

COARSE = 18.0
"""Resolution in metres from which on streets and houses cannot be told apart."""

_HOUSES, _ROWS, _FLATS, _CORE, _WORKS, _PARK = range(6)
_SIDES = (
    (124.0, 66.0),
    (110.0, 58.0),
    (150.0, 110.0),
    (98.0, 76.0),
    (250.0, 170.0),
    (340.0, 260.0),
)
_STREET = (4.0, 4.0, 4.5, 5.5, 6.0, 3.0)  # half widths


@kernel()
def intensity(turn, north, lat, cos, x, y, z, w, s):
    """How much of a town a place is: 0 and less is country, 1 the middle of a city."""
    row = min(719, max(0, math.floor((90e9 - lat) / 25e7)))
    cell = row * 1440 + math.floor(turn * 1440) % 1440
    best = -1.0
    for n in range(w.town_first[cell], w.town_first[cell + 1]):
        t = w.town_at[n]
        dx = turn - w.town[t, 0]
        dx = (dx - round(dx)) * GIRTH * cos
        dy = north - w.town[t, 1]
        reach = 1 - math.sqrt(dx * dx + dy * dy) / w.town[t, 2]
        best = max(best, reach)
    if best < -0.75:
        return -1.0
    return best + w.shape[6] * 0.5 * field(TOWN, x, y, z, w, s)


@kernel()
def town(t, village, a, b, name, side, resolution, g, w, s):
    """The leaf of a place in a town, or NOT_BUILT.

    Args:
        t: `intensity`.
        village: Whether it is but a village: houses and gardens.
        a: Metres east of the middle of its quarter.
        b: Metres north of it.
        name: Of the quarter.
        side: Metres to the next quarter.
        resolution: Metres.
        g: Climate group.
        w: Planet.
        s: Scratch; height and roof are filled in.
    """
    n = int(name >> np.uint64(1))
    u = uniform(hashed(n, 0, 21, w.seed))
    if village:
        kind = _HOUSES
    elif t > 0.62:
        kind = _CORE if u < 0.62 else (_FLATS if u < 0.8 else (_PARK if u < 0.9 else _WORKS))
    elif t > 0.25:
        kind = (
            _ROWS
            if u < 0.34
            else (_HOUSES if u < 0.58 else (_FLATS if u < 0.78 else (_WORKS if u < 0.9 else _PARK)))
        )
    else:
        kind = _HOUSES if u < 0.66 else (_WORKS if u < 0.82 else (_PARK if u < 0.9 else _ROWS))
    turning = uniform(hashed(n, 0, 22, w.seed)) * 2 - 1
    cos, sin = (
        (1 - turning * turning) / (1 + turning * turning),
        2 * turning / (1 + turning * turning),
    )
    a, b = cos * a + sin * b, cos * b - sin * a
    side_a, side_b = _SIDES[kind]
    i, j, p, q, width, height = block(a, b, side_a, side_b, name)
    h = hashed(n, i, j, w.seed)
    taken = 1.0 if village else min(1.0, max(0.0, t / 0.16))
    if uniform(h) > taken:
        return NOT_BUILT
    s.out[VIGOUR] = 2 * uniform(hashed(n, i, j + 7, w.seed)) - 1
    if resolution >= COARSE:
        if kind == _PARK:
            return _TURF
        if kind == _WORKS:
            return _INDUSTRY
        return _DENSE if kind == _CORE or (kind == _ROWS and t > 0.45) else _SPARSE
    arterial = 8.5 if t > 0.3 else 5.0
    edge = min(p, width - p, q, height - q)
    if (not village and side < arterial) or edge < _STREET[kind]:
        return _ROAD
    if resolution < 3 and edge < _STREET[kind] + 2.2 and kind != _PARK:
        return _SEALED
    if kind in (_HOUSES, _ROWS):
        return _plots(kind, t, h, p, q, height, g, w, s)
    if kind in (_CORE, _FLATS):
        return _courts(kind, h, p, q, width, height, edge, g, w, s)
    if kind == _WORKS:
        return _works(h, p, q, edge, w, s)
    path = abs(p - q * width / height)
    if path < 1.8 and resolution < 4:
        return _SEALED
    dx, dy = p - width * 0.6, q - height * 0.4
    r = 22 + 40 * uniform(hashed(int(h >> np.uint64(1)), 2, 0, w.seed))
    if dx * dx + 2 * dy * dy < r * r and h & np.uint64(3) == np.uint64(0):
        return _POND
    return w.letters[g, 0] if _grove(p, q, h, 26.0, 0.45, w) else _TURF


@kernel()
def _grove(p, q, h, cell, share, w):
    """Whether a tree, or a clump of them, stands at a place of a block."""
    i, j = math.floor(p / cell), math.floor(q / cell)
    k = hashed(int(h >> np.uint64(1)), i, j + 91, w.seed)
    if uniform(k) > share:
        return False
    k = hashed(int(k >> np.uint64(1)), 1, 1, w.seed)
    dx = p - (i + 0.3 + 0.4 * uniform(k)) * cell
    dy = q - (j + 0.5) * cell
    r = (0.26 + 0.16 * uniform(hashed(int(k >> np.uint64(1)), 2, 2, w.seed))) * cell
    return dx * dx + dy * dy < r * r


@kernel()
def _plots(kind, t, h, p, q, height, g, w, s):
    lot_width = (
        9.0 if kind == _ROWS else 17.0 + 9.0 * uniform(hashed(int(h >> np.uint64(1)), 9, 9, w.seed))
    )
    far = q > height / 2
    depth = height - q if far else q
    number = math.floor(p / lot_width)
    h = hashed(int(h >> np.uint64(1)), number, 1 if far else 0, w.seed)
    along = p - number * lot_width
    u, v = uniform(h), uniform(hashed(int(h >> np.uint64(1)), 1, 0, w.seed))
    front = 8.0 + 3 * u
    long_, deep = (lot_width, 10.0 + 2 * v) if kind == _ROWS else (9.5 + 5 * u, 8.5 + 4 * v)
    left = 0.0 if kind == _ROWS else (lot_width - long_) * (0.25 + 0.5 * v)
    taken = 0.97 if kind == _ROWS else 0.75 + 0.22 * min(1.0, t * 2)
    third = uniform(hashed(int(h >> np.uint64(1)), 2, 0, w.seed))
    if third < taken:
        if left <= along < left + long_ and front <= depth < front + deep:
            s.out[TALL] = 5.0 + 4.0 * v
            s.out[SORT] = u
            return _BUILDING
        if depth < front and abs(along - left - 2.0) < 1.5:
            return _SEALED
        warm = g in (0, 1, 2, 4)
        if kind == _HOUSES and warm and u < 0.16:
            x, y = along - lot_width / 2, depth - front - deep - 5
            if abs(x) < 3.4 and abs(y) < 2.0:
                return _POOL
    if depth > front and _grove(p, q, h, 9.0, 0.42, w):
        s.out[TALL] = 7.0
        return w.letters[g, 0]
    return _TURF


@kernel()
def _courts(kind, h, p, q, width, height, edge, g, w, s):
    u = uniform(hashed(int(h >> np.uint64(1)), 3, 0, w.seed))
    if kind == _CORE:
        beside = min(p, width - p) < min(q, height - q)
        unit = math.floor((q if beside else p) / 19.0) + (1000 if beside else 0)
        k = hashed(int(h >> np.uint64(1)), unit, 4, w.seed)
        if edge < 19.5 + 4 * u and uniform(k) < 0.94:
            s.out[TALL] = 12.0 + 9.0 * uniform(hashed(int(k >> np.uint64(1)), 5, 0, w.seed))
            s.out[SORT] = uniform(hashed(int(k >> np.uint64(1)), 6, 0, w.seed))
            return _BUILDING
        if _grove(p, q, h, 8.0, 0.3, w):
            s.out[TALL] = 8.0
            return w.letters[g, 0]
        return _TURF if u < 0.3 else _SEALED
    number = math.floor((q - 9.0) / 42.0)
    across = q - 9.0 - number * 42.0
    if 0 <= across < 13.0 and 12 < p < width - 12 and q < height - 9:
        gap = p - math.floor(p / 68.0) * 68.0
        if gap > 9.0:
            s.out[TALL] = 14.0 + 16.0 * u
            s.out[SORT] = u
            return _BUILDING
    if 13.0 <= across < 20.0 + 6 * u:
        return _SEALED
    if _grove(p, q, h, 10.0, 0.45, w):
        s.out[TALL] = 9.0
        return w.letters[g, 0]
    return _TURF


@kernel()
def _works(h, p, q, edge, w, s):
    i, j = math.floor(p / 84.0), math.floor(q / 62.0)
    k = hashed(int(h >> np.uint64(1)), i, j + 31, w.seed)
    u, v = uniform(k), uniform(hashed(int(k >> np.uint64(1)), 7, 0, w.seed))
    x, y = p - i * 84.0, q - j * 62.0
    if u < 0.78 and edge > 13 and 8 < x < 50 + 26 * v and 8 < y < 36 + 20 * u:
        s.out[TALL] = 8.0 + 6.0 * v
        s.out[SORT] = v
        return _BUILDING
    return _TURF if edge < 12 else _SEALED
