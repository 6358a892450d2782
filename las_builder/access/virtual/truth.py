"""The true land cover of the virtual Earth: one ontology leaf at every point of the globe.

Land and climate are real (the packaged strata); what lies below them is drawn. Two smooth fields
say how dry and how much used a place is, and the chart of its climate turns the two into a leaf.
Rivers, roads and towns are laid over that. Any point has one truth, whatever asks for it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from las_builder.access.virtual.noise import (
    cell_random,
    in_space,
    layered,
    nanodegrees,
    seed_of,
    smooth,
)
from las_builder.catalogs import Catalogs
from las_builder.catalogs.strata import Strata

LETTERS: Mapping[str, str] = {
    "~": "water.marine.ocean",
    "L": "water.inland_permanent.lake",
    "=": "water.inland_permanent.river",
    "B": "tree.broadleaf.deciduous",
    "E": "tree.broadleaf.evergreen",
    "N": "tree.needleleaf.evergreen",
    "F": "tree.needleleaf.deciduous",
    "O": "tree.plantation.oil_palm",
    "S": "shrub.open",
    "H": "shrub.heath_moor",
    "G": "grass.natural.savanna",
    "T": "grass.natural.tundra",
    "P": "grass.managed.pasture_hay",
    "U": "grass.managed.turf",
    "M": "crop.annual.maize",
    "C": "crop.annual.wheat",
    "Y": "crop.annual.soy",
    "I": "crop.flooded",
    "V": "crop.permanent.olive",
    "b": "built.building",
    "r": "built.transport.road",
    "i": "built.impervious_other",
    "D": "bare.soil_sand.sand_beach",
    "Z": "bare.soil_sand.saline",
    "R": "bare.rock",
    "J": "bare.lichen_moss",
    "W": "wetland.herbaceous",
    "X": "wetland.woody.swamp_forest",
    "K": "snow_ice.permanent",
}
"""The leaves of this world, by the letter that the charts use."""

LEAVES: tuple[str, ...] = tuple(LETTERS.values())
"""Ontology leaves; the truth is an index into them."""

_ROWS = (-1.9, -1.45, -0.7, -0.1, 0.5, 1.0, 1.6)
"""Where the rows of a chart end on the field of dryness (standard deviations): 3 % of the area is
wetter than the first, 5 % drier than the last."""

_COLUMNS = (-1.15, -0.67, -0.32, 0.0, 0.32, 0.67, 1.15)
"""Where the columns end on the field of use: eighths."""

_CHARTS: Mapping[str, tuple[tuple[str, ...], str]] = {
    # Rows from wet to dry, columns from wild to used; after each chart its Köppen-Geiger zones.
    "rainforest": (
        (
            "LLLLLLLL",
            "XXXXXXLL",
            "EEEEEEIO",
            "EEEEEEPO",
            "EEEEEPMO",
            "EEEEEPMM",
            "EEEEBGPM",
            "EEBBGGGP",
        ),
        "Af Am",
    ),
    "savanna": (
        (
            "LLLLLLLL",
            "WWWXXWLL",
            "EEBBGIII",
            "BBBGGPMM",
            "BBGGGPMM",
            "BGGGSGMY",
            "SGGGSSMM",
            "SSGSSRRG",
        ),
        "As Aw",
    ),
    "desert": (
        (
            "ZZZZZZLC",
            "ZDDSSSCV",
            "DDDSSDDV",
            "DDDDSDDR",
            "DDDDDDRR",
            "DDDDDRRR",
            "DDDDRRRR",
            "DDDRRRRR",
        ),
        "BWh BWk",
    ),
    "steppe": (
        (
            "LLLLLLLL",
            "WWWWWGCC",
            "GGGGPCCC",
            "GGGGGCCC",
            "SGGGGGCC",
            "SSGGGGCC",
            "SSSGGGDC",
            "RRSSDDDG",
        ),
        "BSh BSk",
    ),
    "mediterranean": (
        (
            "LLLLLLLL",
            "WWWPPIII",
            "NNBBPCCV",
            "NNSBPCCV",
            "ENSSGCVV",
            "ESSSGCCV",
            "SSSGGGVV",
            "RRSSSGGV",
        ),
        "Csa Csb Csc Dsa Dsb",
    ),
    "temperate": (
        (
            "LLLLLLLL",
            "WWXBPPMM",
            "BBBBPPMC",
            "NBBBPPMC",
            "NNBBPPCC",
            "NNBPPCCY",
            "NNHBPCCM",
            "HHHNPPCC",
        ),
        "Cfa Cfb Cfc Cwa Cwb Cwc",
    ),
    "continental": (
        (
            "LLLLLLLL",
            "WWWXPPMM",
            "NBBBPMMY",
            "NNBBPMMY",
            "NNBBPCMY",
            "NNBBPCCY",
            "NNNPPCCC",
            "NHHPGGCC",
        ),
        "Dfa Dfb Dwa Dwb",
    ),
    "boreal": (
        (
            "LLLLLLLL",
            "LLWWWXXX",
            "FFNNNXWW",
            "FNNNNNBW",
            "NNNNNBBP",
            "NNNNNBHP",
            "NNNHHHJP",
            "RJJHHNNP",
        ),
        "Dfc Dfd Dsc Dsd Dwc Dwd",
    ),
    "tundra": (
        (
            "LLLLLLLL",
            "WWWWWWWL",
            "TTTTTWWW",
            "TTTTTTTH",
            "TTTTTTHH",
            "JTTTTHHH",
            "JJJTTTRR",
            "KKRRRRRR",
        ),
        "ET",
    ),
    "ice": (
        (
            "KKKKKKKK",
            "KKKKKKKK",
            "KKKKKKKK",
            "KKKKKKKK",
            "KKKKKKKK",
            "KKKKKKKK",
            "KKKKKKKK",
            "KKKKRRRR",
        ),
        "EF",
    ),
}

_TOWNS: Mapping[str, float] = {
    "rainforest": 2.5,
    "savanna": 2.3,
    "desert": 2.8,
    "steppe": 2.4,
    "mediterranean": 1.9,
    "temperate": 1.8,
    "continental": 2.0,
    "boreal": 2.9,
}
"""Where the field of towns starts to be a town; no towns where a climate is missing."""

_RIVERS: Mapping[str, float] = {
    "rainforest": 0.016,
    "savanna": 0.008,
    "steppe": 0.005,
    "mediterranean": 0.006,
    "temperate": 0.009,
    "continental": 0.009,
    "boreal": 0.012,
    "tundra": 0.010,
}
"""Rivers run where the field of rivers is nearer to 0 than this, which is 20 to 60 m wide."""

_ROTATIONS: Mapping[str, str] = {
    "rainforest": "MMMMIIYP",
    "savanna": "MMMMYYCP",
    "desert": "CCCCCCMP",
    "steppe": "CCCCCMMP",
    "mediterranean": "CCCCMMMP",
    "temperate": "CCCMMMYP",
    "continental": "CCMMMYYP",
    "boreal": "CCCCCCPP",
}
"""What the parcels of land for annual crops (C, M, Y of the charts) grow, an eighth each."""

_GROUPS = tuple(_CHARTS)
_COAST = ((1000.0, 1.0), (210.0, 0.4), (50.0, 0.15))
_DRY = ((23_000.0, 0.50), (2_700.0, 0.60), (310.0, 0.30), (60.0, 0.12))
_USE = ((31_000.0, 0.50), (2_100.0, 0.65), (420.0, 0.30), (60.0, 0.12))
_TOWN = ((9_000.0, 1.0), (1_600.0, 0.45), (250.0, 0.2))
_CHUNK = 1 << 14
"""Points at a time: what they need stays in the cache of a core."""


def truth(
    lon: NDArray[np.float64],
    lat: NDArray[np.float64],
    *,
    seed: int = 0,
    strata: Strata | None = None,
) -> NDArray[np.uint8]:
    """The leaf that is seen at each point, as an index into `LEAVES`.

    Args:
        lon: Degrees east, any turn, any shape.
        lat: Degrees north, -90 to 90, of the same shape.
        seed: Which world.
        strata: Land and climate; the packaged ones where None.
    """
    strata = strata or Strata.load(Catalogs.load())
    x, y = nanodegrees(lon), nanodegrees(lat)
    out = np.empty(x.shape, np.uint8)
    flat, x, y = out.reshape(-1), x.reshape(-1), y.reshape(-1)
    for at in range(0, flat.size, _CHUNK):
        part = slice(at, at + _CHUNK)
        flat[part] = _leaves(x[part], y[part], seed, strata)
    return out


def _leaves(
    lon: NDArray[np.int64], lat: NDArray[np.int64], seed: int, strata: Strata
) -> NDArray[np.uint8]:
    leaf = np.full(lon.shape, _OCEAN, np.uint8)
    share = _land_share(lon, lat, strata)
    land = share > 0
    if not land.any():
        return leaf
    points = list(in_space(lon, lat))
    mixed = land & (share < 1)
    if mixed.any():
        coast = layered([p[mixed] for p in points], _COAST, seed_of(seed, "coast"))
        land[mixed] = share[mixed] + 0.22 * coast > 0.5
        if not land.any():
            return leaf
    if not land.all():
        points = [p[land] for p in points]
        lon, lat = lon[land], lat[land]
    leaf[land] = _on_land(points, _groups(points, lon, lat, seed, strata), seed)
    return leaf


def _on_land(
    points: Sequence[NDArray[np.float64]], group: NDArray[np.intp], seed: int
) -> NDArray[np.uint8]:
    dry = layered(points, _DRY, seed_of(seed, "dry"))
    use = layered(points, _USE, seed_of(seed, "use"))
    row, column = np.searchsorted(_ROWS, dry), np.searchsorted(_COLUMNS, use)
    leaf = _CHART_TABLE[group, row, column]

    field = np.flatnonzero(_ARABLE[leaf])
    parcel = cell_random([p[field] for p in points], 260.0, seed_of(seed, "parcel"))
    leaf[field] = _ROTATION_TABLE[group[field], (parcel * 8).astype(np.intp)]

    river = layered(points, ((14_000.0, 1.0), (2_600.0, 0.3)), seed_of(seed, "river"))
    leaf[np.abs(river) < _RIVER_TABLE[group] * (1.2 - 0.4 * dry).clip(0.2, 2)] = _INDEX["="]

    dry_land = ~_WATER[leaf]
    lane = layered(points, ((2_900.0, 1.0), (700.0, 0.12)), seed_of(seed, "lane"))
    leaf[dry_land & (np.abs(lane) < 0.007) & (use > -0.2) & _SETTLED[group]] = _INDEX["r"]

    over = layered(points, _TOWN, seed_of(seed, "town")) - _TOWN_TABLE[group]
    town = dry_land & (over > -0.35)
    if town.any():
        leaf[town] = _in_town([p[town] for p in points], over[town], leaf[town], seed)
    return leaf


def _in_town(
    points: Sequence[NDArray[np.float64]],
    over: NDArray[np.float64],
    wild: NDArray[np.uint8],
    seed: int,
) -> NDArray[np.uint8]:
    """Streets between blocks of plots; denser, and with fewer gardens, the further inside."""
    plot = cell_random(points, 24.0, seed_of(seed, "plot"))
    street = np.abs(smooth(points, 330.0, seed_of(seed, "street")))
    density = (0.25 + 0.6 * over).clip(0, 0.62)
    kinds = np.where(plot > 0.86, _INDEX["B"], np.where(plot > 0.75, _INDEX["i"], _INDEX["U"]))
    leaf = np.where(plot < density, _INDEX["b"], kinds)
    leaf = np.where(street < 0.02, _INDEX["r"], leaf)
    outskirts = (over < 0) & (plot > 0.75 + over) & (street >= 0.02)
    return np.where(outskirts, wild, leaf).astype(np.uint8)


def _groups(
    points: Sequence[NDArray[np.float64]],
    lon: NDArray[np.int64],
    lat: NDArray[np.int64],
    seed: int,
    strata: Strata,
) -> NDArray[np.intp]:
    """Index of the chart that holds; the edges of the climate's cells of 5' are frayed."""
    scales = ((9_000.0, 1.0), (1_500.0, 0.4))
    east = layered(points, scales, seed_of(seed, "climate east"))
    north = layered(points, scales, seed_of(seed, "climate north"))
    zone = strata.climate((lon + np.rint(east * 4e7)) / 1e9, (lat + np.rint(north * 4e7)) / 1e9)
    unknown = zone == 0
    if unknown.any():
        zone[unknown] = strata.climate(lon[unknown] / 1e9, lat[unknown] / 1e9)
    group = _group_of_code(strata)[zone]
    unknown = group < 0
    if unknown.any():
        cold = np.abs(lat[unknown]) > 60_000_000_000
        group[unknown] = np.where(cold, _GROUPS.index("tundra"), _GROUPS.index("temperate"))
    return group


def _land_share(
    lon: NDArray[np.int64], lat: NDArray[np.int64], strata: Strata
) -> NDArray[np.float64]:
    """The mask of 30 seconds, interpolated between the centres of its pixels, 0-1."""
    column, right = _mask_position(lon + 180_000_000_000)
    row, down = _mask_position(90_000_000_000 - lat)
    middle = int(column[0]) - _MASK_COLUMNS // 2
    column = (column - middle) % _MASK_COLUMNS + middle
    r0, r1 = int(row.min()), int(row.max()) + 2
    c0, c1 = int(column.min()), int(column.max()) + 2
    if (r1 - r0) * (c1 - c0) <= 4 * lon.size:
        table = _mask(np.arange(c0, c1)[None], np.arange(r0, r1)[:, None], strata)
        if table.all() or not table.any():
            return np.full(lon.shape, float(table.flat[0]))
        at = (row - r0) * (c1 - c0) + column - c0
        corners = [table.ravel()[at + step] for step in (0, 1, c1 - c0, c1 - c0 + 1)]
    else:
        corners = [_mask(column + i, row + j, strata) for j in (0, 1) for i in (0, 1)]
    a, b, c, d = (corner.astype(np.float64) for corner in corners)
    above, below = a + (b - a) * right, c + (d - c) * right
    return np.asarray(above + (below - above) * down)


_MASK_COLUMNS = 360 * 120
"""Pixels of 30 seconds around the globe."""


def _mask_position(
    nanodegrees_: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Index of the pixel centre before a place and the share of the way to the next."""
    pixels = nanodegrees_ * 120 - 500_000_000
    index = pixels // 1_000_000_000
    return index, np.asarray((pixels - index * 1_000_000_000) * 1e-9, np.float64)


def _mask(column: NDArray[np.int64], row: NDArray[np.int64], strata: Strata) -> NDArray[np.bool_]:
    lat = (90 - (row + 0.5) / 120).clip(-90, 90)
    return strata.is_land((column + 0.5) / 120 - 180, lat)


@functools.lru_cache(maxsize=4)
def _group_of_code(strata: Strata) -> NDArray[np.intp]:
    """Code of the climate layer to index of the chart, -1 where no chart names its zone."""
    chart_of = {name: i for i, chart in enumerate(_CHARTS.values()) for name in chart[1].split()}
    table = np.full(256, -1, np.intp)
    for code, name in strata.climates.items():
        table[code] = chart_of.get(name, -1)
    return table


_INDEX = {letter: i for i, letter in enumerate(LETTERS)}
_OCEAN = _INDEX["~"]
_WATER = np.array([leaf.startswith(("water.", "snow_ice.")) for leaf in LEAVES])
_CHART_TABLE = np.array(
    [[[_INDEX[letter] for letter in row] for row in chart] for chart, _ in _CHARTS.values()],
    np.uint8,
)
_TOWN_TABLE = np.array([_TOWNS.get(group, 99.0) for group in _GROUPS])
_SETTLED = np.array([group in _TOWNS for group in _GROUPS])
_RIVER_TABLE = np.array([_RIVERS.get(group, 0.0) for group in _GROUPS])

_ARABLE = np.array([letter in "CMY" for letter in LETTERS])
_ROTATION_TABLE = np.array(
    [[_INDEX[letter] for letter in _ROTATIONS.get(group, "P" * 8)] for group in _GROUPS], np.uint8
)
