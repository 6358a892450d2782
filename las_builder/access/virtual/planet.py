"""A world as arrays that kernels read: its parameters, its seeds, and the real strata below it."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Any

import annotated_types as at
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from las_builder.access.virtual.lattice import GIRTH
from las_builder.access.virtual.leaves import INDEX, LEAVES
from las_builder.access.virtual.noise import NOWHERE, deviation, seed_of
from las_builder.access.virtual.parameters import Share, Strict, parameters
from las_builder.catalogs import Catalogs
from las_builder.catalogs.strata import Strata

Octaves = tuple[tuple[float, float], ...]
Letters = Annotated[str, at.Len(4, 4)]

FIELDS = ("coast", "fray", "range", "dry", "kind", "use", "belt", "town", "tone", "soil")
COAST, FRAY, RANGE, DRY, KIND, USE, BELT, TOWN, TONE, SOIL = range(len(FIELDS))

LATTICES = ("district", "stand", "lake", "pond", "quarter", "highway")
DISTRICT, STAND, LAKE, POND, QUARTER, HIGHWAY = range(len(LATTICES))
CROWN = len(LATTICES)
"""Lattice slots from here on hold crowns, one size each."""

(
    FARM, FIELD_A, FIELD_B, STRIPS, HEDGES, PIVOTS, RIVER, STREAM, LAKES, PONDS, VILLAGE,
    TREE_LINE, SNOW_LINE,
) = range(13)  # fmt: skip
"""Columns of `Planet.climate`."""

SHARE, SPREAD, CROWN_M, HEIGHT = range(4)
"""Columns of `Planet.cover`."""


class Climate(Strict):
    """What grows, and how people live, in some Köppen-Geiger zones."""

    zones: str
    wild: tuple[Letters, ...] = Field(min_length=6, max_length=6)
    """Rows from wet to dry, four kinds each."""

    alpine: Letters
    """Above the trees."""

    shore: Letters
    tree: str
    """Beside roads and in gardens."""

    ground: str
    """Between shrubs."""

    farm: Share
    """Of the land where people live and that is flat enough."""

    crops: tuple[str, str]
    """What parcels grow, in equal parts, in districts of two kinds."""

    field: tuple[float, float]
    """Sides of a block of parcels."""

    strips: int
    """Most parcels in a block."""

    hedges: Share
    pivots: Share
    river: float
    stream: float
    """Widths."""

    lakes: Share
    ponds: Share
    """Of the places of their lattices."""

    village: float
    """Radius."""

    tree_line: float
    snow_line: float
    """Above the plain."""


class Cover(Strict):
    """What a cover is made of, seen from nearby."""

    crown_of: str | None = None
    under: str
    share: Share
    spread: Share
    crown: float
    height: float
    one_use: bool = False
    """Whether what lies between the crowns is of the same use, so the same leaf."""


class Relief(Strict):
    """Heights: per octave the cell and the amplitude, in mountains and in hills."""

    mountains: Octaves = Field(min_length=5, max_length=5)
    hills: tuple[float, ...] = Field(min_length=5, max_length=5)
    floor: float
    from_: float = Field(alias="from")
    to: float
    meander: float


class Settled(Strict):
    """Where people live."""

    half: float
    radius: float
    fringe: float


class TruthParameters(Strict):
    """`catalogs/virtual/truth.yaml`."""

    verified: bool
    fields: Mapping[str, Octaves]
    relief: Relief
    lattices: Mapping[str, float]
    settled: Settled
    wetness: tuple[float, ...]
    climates: Mapping[str, Climate]
    covers: Mapping[str, Cover]


Planet = NDArray[np.void]
"""(1,) record of arrays: everything the kernels read. One record, because Numba hands it on as a
pointer, where a tuple of arrays would be counted up and down at every call.

first (field + 1,): field to its first octave.
octave (octave, 2): 1 / cell, normalised amplitude; octave_seed, where the relief's five come last.
relief (5, 3): 1 / cell, metres in mountains, metres in hills.
shape (7,): floor, from, to, meander of `Relief`; half, radius, fringe of `Settled`.
cell, cell_seed: of each lattice, metres.
climate (group, 13). wild (group, 6, 4), alpine, shore (group, 4), crops (group, 2, 8),
letters (group, 2): leaves; the last are tree and ground.
wet (5,): quantiles of a standard normal at which the rows of `wild` end. normal (101,): at percents.
cover (leaf, 4). crown_of, under (leaf,): leaf; 254 is the climate's tree, 255 its ground.
crown_slot (leaf,): lattice of its crowns, -1: none. one_use (leaf,).
group (256,): climate code to group, -1: none. zones: climate codes of the globe.
land: cells of 0.05°: 0 sea and 1 land all around too, 2 sea, 3 land, 4 both.
coast_at, coast_bits: flat index of the mixed cells and their 36 pixels.
people (360, 720): share settled. town (n, 3): turn, metres north, radius.
town_first: cell of a quarter degree to its first entry of town_at; one more at the end.
seed.
"""

Scratch = NDArray[np.void]
"""(1,) record: what kernels remember from point to point, so that neighbours are cheap.

out (9,): elevation, slope east, slope north, share, tone, vigour, height, sort, earth.
cover (3,): what covers `share` of the ground here, what the rest, and the climate group.
The others are the memory of `noise`, `nearest`, `district` and the mask.
"""


def _record(**arrays: NDArray[Any] | np.generic) -> NDArray[np.void]:
    plain = {name: np.asarray(a) for name, a in arrays.items()}
    kind = np.dtype([(name, a.dtype, a.shape) for name, a in plain.items()], align=True)
    out = np.zeros(1, kind)
    for name, a in plain.items():
        out[name][0] = a
    return out


ELEVATION, EAST, NORTH, PART, TONED, VIGOUR, TALL, SORT, EARTH = range(9)


def scratch(planet: Planet) -> Scratch:
    """Fresh memory for one array of points."""
    octaves, lattices = 48, planet["cell"].shape[1]
    return _record(
        key=np.full((octaves, 3), NOWHERE, np.int64),
        value=np.zeros((octaves, 8)),
        cell_key=np.full((lattices, 7), NOWHERE, np.int64),
        place=np.zeros((lattices, 9, 2)),
        name=np.zeros((lattices, 9), np.uint64),
        hit=np.zeros((lattices, 6)),
        district=np.zeros(16),
        district_name=np.zeros(1, np.uint64),
        mask=np.full(8, NOWHERE, np.int64),
        out=np.zeros(9),
        cover=np.zeros(3, np.uint8),
    )


@functools.lru_cache(maxsize=8)
def planet(folders: tuple[Path, ...], seed: int, spread: float = 0.0, draw: int = 0) -> Planet:
    """The arrays of one world.

    Raises:
        CatalogError: `virtual/truth.yaml` or the strata are missing or wrong.
    """
    p = parameters(folders, "truth", TruthParameters, spread, draw)
    strata = Strata.load(Catalogs(folders))
    groups = list(p.climates.values())
    octaves = [
        (1 / cell, amplitude / deviation([a for _, a in p.fields[name]]))
        for name in FIELDS
        for cell, amplitude in p.fields[name]
    ]
    seeds = [seed_of(seed, name, n) for name in FIELDS for n in range(len(p.fields[name]))]
    seeds += [seed_of(seed, "relief", n) for n in range(5)]
    crowns = sorted({cover.crown for cover in p.covers.values()})
    wet = np.cumsum(np.array(p.wetness) / sum(p.wetness))[:-1]
    zq = [-4.0, *(round(NormalDist().inv_cdf(i / 100), 6) for i in range(1, 100)), 4.0]
    first = np.cumsum([0, *(len(p.fields[name]) for name in FIELDS)])
    at, bits = strata._coast  # noqa: SLF001 - the one other reader of the mask
    town, town_first, town_at = _towns(strata, p.settled)
    return _record(
        first=first.astype(np.int64),
        octave=np.array(octaves),
        octave_seed=np.array(seeds, np.uint64),
        relief=np.array(
            [(1 / c, a, h) for (c, a), h in zip(p.relief.mountains, p.relief.hills, strict=True)]
        ),
        shape=np.array(
            [p.relief.floor, p.relief.from_, p.relief.to, p.relief.meander,
             p.settled.half, p.settled.radius, p.settled.fringe]
        ),
        cell=np.array([p.lattices[name] for name in LATTICES] + crowns),
        cell_seed=np.array(
            [seed_of(seed, "lattice", n) for n in range(len(LATTICES) + len(crowns))], np.uint64
        ),
        climate=np.array(
            [[g.farm, *g.field, g.strips, g.hedges, g.pivots, g.river, g.stream, g.lakes, g.ponds,
              g.village, g.tree_line, g.snow_line] for g in groups], np.float64
        ),
        wild=np.array([[_leaves(row) for row in g.wild] for g in groups], np.uint8),
        alpine=np.array([_leaves(g.alpine) for g in groups], np.uint8),
        shore=np.array([_leaves(g.shore) for g in groups], np.uint8),
        letters=np.array([_leaves(g.tree + g.ground) for g in groups], np.uint8),
        crops=np.array([[_leaves(row) for row in g.crops] for g in groups], np.uint8),
        wet=np.array([round(NormalDist().inv_cdf(float(q)), 6) for q in wet]),
        normal=np.array(zq),
        **_covers(p, crowns),
        group=_group_of_code(p, strata),
        zones=strata._array("climate"),  # noqa: SLF001
        land=_land(strata),
        coast_at=at.astype(np.int64),
        coast_bits=bits,
        people=_people(strata, p.settled.half),
        town=town,
        town_first=town_first,
        town_at=town_at,
        seed=np.uint64(seed_of(seed, "planet")),
    )  # fmt: skip


def _leaves(letters: str) -> list[int]:
    return [INDEX[letter] for letter in letters]


def _covers(p: TruthParameters, crowns: list[float]) -> dict[str, NDArray[np.generic]]:
    n = len(LEAVES)
    cover = np.zeros((n, 4))
    cover[:, SHARE] = 1
    crown_of, under = np.arange(n, dtype=np.uint8), np.arange(n, dtype=np.uint8)
    slot, one_use = np.full(n, -1, np.int64), np.zeros(n, np.uint8)
    for letter, c in p.covers.items():
        i = INDEX[letter]
        cover[i] = c.share, c.spread, c.crown, c.height
        if c.crown_of is not None:
            crown_of[i] = 254 if c.crown_of == "." else INDEX[c.crown_of]
        under[i] = 255 if c.under == "." else INDEX[c.under]
        slot[i], one_use[i] = CROWN + crowns.index(c.crown), c.one_use
    return {"cover": cover, "crown_of": crown_of, "under": under, "crown_slot": slot,
            "one_use": one_use}  # fmt: skip


def _group_of_code(p: TruthParameters, strata: Strata) -> NDArray[np.int64]:
    of = {zone: i for i, c in enumerate(p.climates.values()) for zone in c.zones.split()}
    table = np.full(256, -1, np.int64)
    for code, name in strata.climates.items():
        table[code] = of.get(name, -1)
    return table


def _land(strata: Strata) -> NDArray[np.uint8]:
    """How the mask can be looked up fast; see `Planet.land`."""
    share = strata.land_cells
    kind = np.where(share == 0, 0, np.where(share == 1, 1, 4)).astype(np.uint8)
    alone = kind.copy()
    padded = np.pad(np.pad(kind, ((0, 0), (1, 1)), "wrap"), ((1, 1), (0, 0)), "edge")
    rows, columns = kind.shape
    same = np.ones(kind.shape, np.bool_)
    for i in range(3):
        for j in range(3):
            same &= padded[i : i + rows, j : j + columns] == kind
    alone[~same & (kind == 0)] = 2
    alone[~same & (kind == 1)] = 3
    return alone


def _people(strata: Strata, half: float) -> NDArray[np.float64]:
    """Share of the land that people have taken, 0-1, at the centres of half degrees."""
    cities = strata.cities
    row = np.floor((90 - cities.lat) * 2).astype(np.int64).clip(0, 359)
    column = np.floor((cities.lon + 180) * 2).astype(np.int64) % 720
    people = np.zeros((360, 720), np.int64)
    np.add.at(people, (row, column), np.minimum(cities.population, 1_500_000))
    for _ in range(2):  # whole numbers: sums do not depend on their order
        people = sum(np.roll(people, k, 1) for k in (-1, 0, 1))  # type: ignore[assignment]
        padded = np.pad(people, ((1, 1), (0, 0)), "edge")
        people = padded[:-2] + padded[1:-1] + padded[2:]
    # A half degree of latitude is 55.6 km; 81 cells were summed.
    cosine = np.array([round(math.cos(math.radians(89.75 - 0.5 * r)), 9) for r in range(360)])
    density = people / (81 * 55.6**2 * cosine[:, None])
    return np.round(density / (density + half), 4)


def _towns(
    strata: Strata, settled: Settled
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Towns and, for every quarter degree, those that reach it."""
    cities = strata.cities
    radius = np.round(settled.radius * 1000 * np.sqrt(cities.population / 1000), 3)
    radius = np.minimum(radius, 26_000.0)
    north = np.round(cities.lat * (GIRTH / 360), 3)
    turn = np.round((cities.lon + 180) / 360 % 1, 12)
    reach = radius * 1.75 + 200
    rows, columns = 720, 1440
    entries: list[tuple[int, int]] = []
    high = np.floor((90 - (north + reach) / (GIRTH / 360)) * 4).astype(int).clip(0, rows - 1)
    low = np.floor((90 - (north - reach) / (GIRTH / 360)) * 4).astype(int).clip(0, rows - 1)
    for n in range(len(turn)):
        edge = min(89.0, max(abs(90 - high[n] / 4), abs(90 - (low[n] + 1) / 4)))
        half = reach[n] / (GIRTH * math.cos(math.radians(edge)))
        left, right = math.floor((turn[n] - half) * columns), math.floor((turn[n] + half) * columns)
        for row in range(high[n], low[n] + 1):
            entries += [(row * columns + column % columns, n) for column in range(left, right + 1)]
    pairs = np.array(sorted(set(entries)), np.int64)
    first = np.searchsorted(pairs[:, 0], np.arange(rows * columns + 1))
    return np.column_stack([turn, north, radius]), first.astype(np.int64), pairs[:, 1].copy()
