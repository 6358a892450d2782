"""Splits that cannot leak: equal-area blocks of the whole Earth, shared by all subsets and dates.

The Earth is cut into bands from the equator to the poles; a band holds as many blocks of about
`block_km` a side as fit round it, and is as high as gives each exactly block_km² on WGS 84. The
last band of each hemisphere takes what is left. Blocks are numbered along the bands; each
`train + val + test` of them in a row are a super-block, in which a permutation seeded by (seed,
super-block) says which is which. So the split of a place depends on the corpus' seed and block
size alone: sites can be added, never moved.
"""

from __future__ import annotations

import dataclasses
import functools
import html
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from las_builder.catalogs.strata import WGS84_A, WGS84_F, band_area
from las_builder.core.grid import Grid, is_geographic, to_lonlat
from las_builder.core.options import Splits
from las_builder.core.types import PUBLISHED, Site, Split
from las_builder.plan.grids import Grids
from las_builder.plan.sphere import (
    RADIUS_MIN,
    Floats,
    angle_to_box,
    authalic_latitude,
    cartesian,
    lonlat,
    outlines,
    quantise,
)

if TYPE_CHECKING:
    from las_builder.plan.footprints import Footprint
    from las_builder.plan.table import SiteTable

SPLITS: tuple[Split, ...] = ("train", "val", "test")
COLOURS = {
    "train": "#0b6e4f",
    "val": "#f2a900",
    "test": "#a3123f",
    "buffer": "#8a94a0",
    "benchmark": "#1f1f1f",
}
"""One a split; told apart by lightness too, so in grey and by people who see few colours."""

_NUMBER = {name: i for i, name in enumerate(SPLITS)}
_RING = 16  # points on each side of a footprint when two are measured against each other


@dataclass(frozen=True, eq=False)
class Blocks:
    """The blocks of one side length."""

    south: Floats
    """Of each band, degrees, (bands,); northern bands from the equator up, then southern ones."""

    north: Floats
    columns: NDArray[np.int64]
    """Blocks in each band."""

    first: NDArray[np.int64]
    """Number of the westernmost block of each band; blocks are numbered eastwards from 180° W."""

    @classmethod
    @functools.lru_cache(maxsize=4)
    def of(cls, block_km: float) -> Blocks:
        """Cut the Earth."""
        hemisphere, area = float(band_area(0, 90)), block_km**2
        low, columns, edges = 0.0, [], [0.0]
        while low < hemisphere:
            lat = math.radians(edges[-1])
            e2 = WGS84_F * (2 - WGS84_F)
            across = WGS84_A / math.sqrt(1 - e2 * math.sin(lat) ** 2)
            n = max(1, round(2 * math.pi * across * math.cos(lat) / block_km))
            if low + 1.5 * n * area >= hemisphere:  # the pole: what is left, in fewer blocks
                n = max(1, round((hemisphere - low) / area))
                low = hemisphere
            else:
                low += n * area
            columns.append(n)
            share = 0.5 + low / hemisphere / 2
            edges.append(90.0 if low >= hemisphere else round(float(authalic_latitude(share)), 9))
        up = np.array(edges)
        counts = np.array(columns * 2, np.int64)
        return cls(
            south=np.concatenate([up[:-1], -up[1:]]),
            north=np.concatenate([up[1:], -up[:-1]]),
            columns=counts,
            first=np.concatenate([[0], np.cumsum(counts)[:-1]]),
        )

    def band(self, lat: Floats) -> NDArray[np.int64]:
        """Band of each latitude, any shape; the equator belongs to the north."""
        half = len(self.south) // 2
        above = np.clip(np.searchsorted(self.south[:half], lat, side="right") - 1, 0, half - 1)
        below = np.searchsorted(self.north[half:] * -1, -lat, side="right") - 1
        return np.where(lat >= 0, above, half + np.clip(below, 0, half - 1)).astype(np.int64)

    def number(self, lon: Floats, lat: Floats) -> NDArray[np.int64]:
        """Block of each place, degrees, any shape."""
        band = self.band(lat)
        n = self.columns[band]
        column = np.floor((np.mod(lon + 180, 360)) / 360 * n).astype(np.int64)
        return np.asarray(self.first[band] + np.minimum(column, n - 1))

    def box(self, number: NDArray[np.int64]) -> tuple[Floats, Floats, Floats, Floats]:
        """West, south, east, north of blocks, degrees."""
        band = np.searchsorted(self.first, number, side="right") - 1
        width = 360 / self.columns[band]
        west = -180 + (number - self.first[band]) * width
        return west, self.south[band], west + width, self.north[band]

    def near(
        self, lon: Floats, lat: Floats, reach_km: Floats
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The blocks that lie nearer to places than their reach: index of the place, block.

        A block is named if the angle to it times the least radius of curvature is below the
        reach, which is so for every block that is truly nearer, and for none 1.1 % beyond it.
        """
        angle = reach_km / RADIUS_MIN
        degrees = np.degrees(angle)
        half = len(self.south) // 2
        order = np.concatenate([np.arange(2 * half - 1, half - 1, -1), np.arange(half)])
        edges = np.append(self.south[order], 90.0)  # from pole to pole
        low, high = np.searchsorted(edges, [lat - degrees, lat + degrees], side="right") - 1
        low, high = np.clip(low, 0, 2 * half - 1), np.clip(high, 0, 2 * half - 1)
        # Half the longitudes that a cap of this angle spans: all of them if it holds a pole.
        polar = np.abs(lat) + degrees >= 90
        ratio = np.sin(np.minimum(angle, math.pi / 2)) / np.cos(np.radians(np.where(polar, 0, lat)))
        span = np.where(polar, 180.0, np.degrees(np.arcsin(np.minimum(ratio, 1))))
        places, blocks = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for up in range(int((high - low).max(initial=-1)) + 1):
            place = np.flatnonzero(low + up <= high)
            band = order[(low + up)[place]]
            n = self.columns[band]
            west = np.floor((lon[place] - span[place] + 180) / 360 * n).astype(np.int64)
            east = np.floor((lon[place] + span[place] + 180) / 360 * n).astype(np.int64)
            count = np.minimum(east - west + 1, n)
            which = np.repeat(np.arange(place.size), count)
            along = np.arange(which.size) - np.repeat(np.cumsum(count) - count, count)
            places.append(place[which])
            blocks.append(self.first[band[which]] + (west[which] + along) % n[which])
        place, block = np.concatenate(places), np.concatenate(blocks)
        near = np.round(angle_to_box(lon[place], lat[place], *self.box(block)), 12) < angle[place]
        return place[near], block[near]


def split_of(number: NDArray[np.int64], splits: Splits) -> NDArray[np.int64]:
    """Index into SPLITS of blocks, any shape."""
    deck = np.repeat([0, 1, 2], [splits.train, splits.val, splits.test])
    supers, inverse = np.unique(number // len(deck), return_inverse=True)
    dealt = np.stack(
        [
            np.random.Generator(
                np.random.PCG64(np.random.SeedSequence([splits.seed, int(s)]))
            ).permutation(deck)
            for s in supers
        ]
    )
    return np.asarray(dealt[inverse.reshape(number.shape), number % len(deck)])


def assign(
    sites: Sequence[Site], splits: Splits, benchmarks: Sequence[Footprint] = ()
) -> SiteTable:
    """The same sites with their block and split.

    A site is `benchmark` if its footprint is nearer than the buffer to one of a benchmark. Else it
    is `buffer` if it is train and its footprint is nearer than the buffer to a val or test block;
    if it is val and so near a test block; or if it is val or test and its footprint leaves its own
    block. So footprints of different splits are at least the buffer apart. Sites without a CRS are
    placed nowhere: they keep the split they have, block -1.

    Sites of the component `PUBLISHED` keep the split of their publisher, which is their stratum: a
    train one near a val or test block, or a val one near a test block, is `buffer`; so is any site
    near a val or test one of theirs that is of an earlier split.

    Args:
        sites: Of every subset of the corpus.
        splits: Shares, block size, buffer, seed.
        benchmarks: What `benchmark_footprints` found.
    """
    from las_builder.plan.table import SiteTable

    table = SiteTable.of(sites)
    lon, lat, radius = _circles(table.grids)
    at = np.flatnonzero(np.isfinite(lon))
    blocks = Blocks.of(splits.block_km)
    number, split = np.full(len(table), -1, np.int64), table.split.copy()
    if at.size:
        x, y, r = lon[at], lat[at], radius[at]
        number[at] = blocks.number(x, y)
        kept = table.component[at] == PUBLISHED
        kind = split_of(number[at], splits)
        kind[kept] = [_NUMBER[name] for name in table.stratum[at][kept].tolist()]
        grids = table.grids.of(at)
        out = _leave(blocks, number[at], np.where(kept, 0, kind), grids, (x, y, r))
        beside, block = blocks.near(x, y, r + splits.buffer_km)
        out[beside[split_of(block, splits) > kind[beside]]] = True
        aside = np.zeros(at.size, bool)
        for footprint in benchmarks:
            aside[footprint.near(x, y, r + splits.buffer_km)] = True
        for later in (2, 1):  # what is set aside itself keeps nobody away
            late = np.flatnonzero(kept & (kind == later) & ~out & ~aside)
            early = np.flatnonzero((kind < later) & ~out & ~aside)
            out[early[_beside(cartesian(x, y), r, late, early, splits.buffer_km)]] = True
        names = np.array([*SPLITS, "buffer", "benchmark"], np.object_)
        code = np.where(aside, 4, np.where(out, 3, kind))
        split[at] = names[code]
    return dataclasses.replace(table, block=number, split=split)


def _beside(
    at: Floats, radius: Floats, late: NDArray[np.intp], early: NDArray[np.intp], buffer_km: float
) -> NDArray[np.bool_]:
    """Which of some footprints may be nearer than the buffer to one of others.

    Between centres it is the chord, less the radius of the one and the largest of the others: more
    may be named than are truly so near, never fewer.
    """
    from scipy.spatial import cKDTree

    if not late.size or not early.size:
        return np.zeros(early.size, bool)
    chord = cKDTree(at[late]).query(at[early])[0]
    return np.asarray(np.round(chord - radius[early] - radius[late].max(), 9) < buffer_km)


def _leave(
    blocks: Blocks,
    number: NDArray[np.int64],
    kind: NDArray[np.int64],
    grids: Grids,
    circle: tuple[Floats, Floats, Floats],
) -> NDArray[np.bool_]:
    """Which footprints are val or test and not wholly in their own block."""
    out = np.zeros(number.size, bool)
    late = np.flatnonzero(kind > 0)
    touched, _ = blocks.near(*(v[late] for v in circle))
    late = late[np.bincount(touched, minlength=late.size) > 1]  # the others lie deep inside
    ring = _outlines(grids.of(late), 8)
    out[late] = (blocks.number(*quantise(*np.moveaxis(ring, -1, 0))) != number[late][:, None]).any(
        axis=1
    )
    return out


@functools.lru_cache(maxsize=1)
def _circles(grids: Grids) -> tuple[Floats, Floats, Floats]:
    """Centre (lon, lat degrees) and radius (km) of a circle around each grid; NaN without CRS."""
    lon, lat = np.full(len(grids), np.nan), np.full(len(grids), np.nan)
    radius = np.full(len(grids), np.nan)
    bounds = grids.bounds()
    for crs, where in grids.by_crs.items():
        box = bounds[:, where]
        west, south, east, north = box
        x, y = (west + east) / 2, (south + north) / 2
        lon[where], lat[where] = quantise(*to_lonlat(crs, x, y))
        # Nothing of a rectangle in a plane is farther than a corner; in degrees, sides bulge.
        ring = _ring(crs, box, 8 if is_geographic(crs) else 1)
        away = cartesian(ring[..., 0], ring[..., 1])
        away -= cartesian(lon[where], lat[where])[:, None, :]
        chord = np.sqrt((away**2).sum(axis=-1).max(axis=1))
        # From chord to arc (of the tightest curvature); more, for sides that bulge and rounding.
        arc = 2 * RADIUS_MIN * np.arcsin(np.minimum(chord / (2 * RADIUS_MIN), 1))
        radius[where] = arc * 1.0001 + 2e-5
    return lon, lat, radius


def _outlines(grids: Grids, per_side: int) -> Floats:
    """`sphere.outlines` of columns: (grids, 4·per_side, 2) degrees."""
    ring = np.full((len(grids), 4 * per_side, 2), np.nan)
    bounds = grids.bounds()
    for crs, where in grids.by_crs.items():
        ring[where] = _ring(crs, bounds[:, where], per_side)
    return ring


def _ring(crs: str, bounds: Floats, per_side: int) -> Floats:
    """Outlines of boxes, (4, n), of one CRS: (n, 4·per_side, 2) degrees."""
    step = np.arange(per_side) / per_side
    c = np.concatenate([0 * step, step, 0 * step + 1, 1 - step])
    r = np.concatenate([step, 0 * step + 1, 1 - step, 0 * step])
    west, south, east, north = bounds[..., None]
    x, y = west + c * (east - west), north - r * (north - south)
    return np.stack(to_lonlat(crs, x, y), axis=-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """The two nearest footprints of two splits, or of the splits and a benchmark."""

    splits: tuple[str, str]
    """("train", "val"), or ("split", name of a benchmark)."""

    km: float
    """Geodesic distance; 0 where they touch. Rounded to millimetres."""

    sites: tuple[str, str]
    """"subset/id" of each; of a benchmark its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaks:
    """What `leaks.json` says."""

    violations: int
    """Pairs of footprints that are nearer than the buffer, of different splits; and sites in train,
    val or test that are so near to a benchmark."""

    nearest_km: float | None
    """Least geodesic distance between footprints of different splits; None: no pair."""

    nearest: tuple[str, str] | None
    """The two sites, "subset/id" each."""

    pairs: tuple[Nearest, ...]
    """The nearest of every two splits that both have sites, and of every located benchmark."""

    overlapping: Mapping[str, int]
    """Pairs of footprints that share ground, in each subset; of one split, so no violation."""

    buffer_km: float
    checked: int
    """Sites in train, val or test that have a place."""

    unchecked: int
    """Sites in train, val or test that have no place."""

    benchmarks: tuple[Mapping[str, Any], ...]
    """name, kind, verified, and the sites that are set aside for it (None: it has no place)."""

    block_km: float
    blocks: Mapping[str, tuple[int, ...]]
    """Split to its blocks that hold sites; for the map, not in `leaks.json`."""

    @property
    def verdict(self) -> str:
        """In one sentence."""
        if not self.violations:
            return f"No footprint of one split is nearer than {self.buffer_km:g} km to another's."
        worst = min(self.pairs, key=lambda one: one.km)
        return (
            f"{self.violations} pairs of footprints of different splits, or of a split and a "
            f"benchmark, are nearer than {self.buffer_km:g} km: the nearest, {worst.km:.3f} km, are "
            f"{worst.sites[0]} and {worst.sites[1]}."
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        plain = dataclasses.asdict(self)
        return {key: plain[key] for key in plain if key not in ("blocks", "block_km")}


def leaks(sites: Sequence[Site], splits: Splits, benchmarks: Sequence[Footprint] = ()) -> Leaks:
    """Measure every pair of footprints of different splits that could be too near.

    Candidates come from k-d trees of true chords between centres; the nearest points of two
    footprints are found on the plane between them and measured as a geodesic of WGS 84. Nothing is
    taken from the blocks.
    """
    from las_builder.plan.table import SiteTable

    table = SiteTable.of(sites)
    lon, lat, radius = _circles(table.grids)
    packed = np.isin(table.split, np.array(SPLITS, np.object_))
    placed = np.isfinite(lon)
    rows = np.flatnonzero(packed & placed)
    at = cartesian(lon, lat)
    kind = {name: rows[table.split[rows] == name] for name in SPLITS}
    found: list[Nearest] = []
    violations = 0
    for a, b in itertools.combinations(SPLITS, 2):
        pairs = _candidates(at, radius, kind[a], kind[b], splits)
        # Between centres less both radii: the footprints are no nearer.
        least = np.linalg.norm(at[pairs[:, 0]] - at[pairs[:, 1]], axis=1)
        least -= radius[pairs].sum(axis=1)
        nearest, pair = math.inf, (-1, -1)
        for k in np.argsort(least, kind="stable").tolist():
            if least[k] >= max(nearest, splits.buffer_km):
                break
            i, j = pairs[k].tolist()
            apart = footprint_km(table.grids.grid(i), table.grids.grid(j))
            violations += int(apart < splits.buffer_km)
            if apart < nearest:
                nearest, pair = apart, (i, j)
        if pair[0] >= 0:
            names = (_name(table, pair[0]), _name(table, pair[1]))
            found.append(Nearest(splits=(a, b), km=round(nearest, 6), sites=names))
    closest = min(found, key=lambda one: one.km, default=None)
    for footprint in benchmarks:
        count, km, i = footprint.nearest(
            lon[rows], lat[rows], radius[rows], table.grids.of(rows), splits.buffer_km
        )
        violations += count
        if i >= 0:
            names = (_name(table, int(rows[i])), footprint.name)
            found.append(Nearest(splits=("split", footprint.name), km=round(km, 6), sites=names))
    return Leaks(
        violations=violations,
        nearest_km=None if closest is None else closest.km,
        nearest=None if closest is None else closest.sites,
        pairs=tuple(found),
        overlapping=_overlapping(table, np.flatnonzero(placed), at, radius),
        buffer_km=splits.buffer_km,
        checked=rows.size,
        unchecked=int((packed & ~placed).sum()),
        benchmarks=tuple(_set_aside(one, table, lon, lat, radius, splits) for one in benchmarks),
        block_km=splits.block_km,
        blocks={
            name: tuple(np.unique(Blocks.of(splits.block_km).number(lon[on], lat[on])).tolist())
            for name, on in kind.items()
        },
    )


def _name(table: SiteTable, i: int) -> str:
    return f"{table.subset[i]}/{table.id[i]}"


def _set_aside(
    footprint: Footprint,
    table: SiteTable,
    lon: Floats,
    lat: Floats,
    radius: Floats,
    splits: Splits,
) -> dict[str, Any]:
    away = np.flatnonzero((table.split == "benchmark") & np.isfinite(lon))
    near = footprint.near(lon[away], lat[away], radius[away] + splits.buffer_km)
    return {
        "name": footprint.name,
        "kind": footprint.kind,
        "verified": footprint.verified,
        "sites": int(near.sum()) if footprint.kind != "unlocated" else None,
    }


def _overlapping(
    table: SiteTable, placed: NDArray[np.intp], at: Floats, radius: Floats
) -> dict[str, int]:
    """Pairs of footprints of one subset that share ground."""
    from scipy.spatial import cKDTree

    counts = {}
    bounds = table.grids.bounds()
    for subset in sorted(set(table.subset.tolist())):
        rows = placed[table.subset[placed] == subset]
        if not rows.size:
            continue
        pairs = cKDTree(at[rows]).query_pairs(2 * radius[rows].max(), output_type="ndarray")
        i, j = rows[pairs[:, 0]], rows[pairs[:, 1]]
        close = np.linalg.norm(at[i] - at[j], axis=1) < radius[i] + radius[j]
        i, j = i[close], j[close]
        same = table.grids.crs[i] == table.grids.crs[j]
        (w, s, e, n), (w2, s2, e2, n2) = bounds[:, i], bounds[:, j]
        both = (w < e2) & (w2 < e) & (s < n2) & (s2 < n)
        count = int((same & both).sum())
        for a, b in zip(i[~same].tolist(), j[~same].tolist(), strict=True):
            count += footprint_km(table.grids.grid(a), table.grids.grid(b)) == 0
        counts[subset] = count
    return counts


def _candidates(
    at: Floats, size: Floats, first: NDArray[np.intp], second: NDArray[np.intp], splits: Splits
) -> NDArray[np.int64]:
    """Pairs of two splits that may be nearer than the buffer, or the nearest of all."""
    if not first.size or not second.size:
        return np.zeros((0, 2), np.int64)
    from scipy.spatial import cKDTree

    one, other = cKDTree(at[first]), cKDTree(at[second])
    closest = float(one.query(at[second])[0].min())
    reach = max(splits.buffer_km, closest) + float(size[first].max() + size[second].max())
    found = other.sparse_distance_matrix(one, reach, output_type="ndarray")
    return np.column_stack([first[found["j"]], second[found["i"]]]).astype(np.int64)


def footprint_km(a: Grid, b: Grid) -> float:
    """Geodesic distance between the ground under two grids, km; 0 where they touch."""
    return apart_km(grid_outline(a), grid_outline(b))


def grid_outline(grid: Grid) -> Floats:
    """The edge of a grid as an open ring of degrees, (n, 2)."""
    return outlines([grid], _RING)[0]


def apart_km(*rings: Floats) -> float:
    """Geodesic distance between two polygons, km; 0 where they touch.

    Args:
        rings: Two open rings of (lon, lat) degrees, of polygons small beside the Earth.
    """
    import shapely
    from pyproj import Geod

    points = [cartesian(ring[:, 0], ring[:, 1]) for ring in rings]
    up = np.mean([p.mean(axis=0) for p in points], axis=0)
    up /= np.linalg.norm(up)
    across = np.cross(up, np.eye(3)[np.argmin(np.abs(up))])
    across /= np.linalg.norm(across)
    plane = [np.stack([p @ across, p @ np.cross(up, across)], axis=-1) for p in points]
    one, other = (shapely.Polygon(ring) for ring in plane)
    if one.intersects(other):
        return 0.0
    ends = shapely.get_coordinates(shapely.shortest_line(one, other))
    (lon1, lat1), (lon2, lat2) = (
        _lift(end, *ring) for end, ring in zip(ends, zip(plane, rings, strict=True), strict=True)
    )
    return float(Geod(ellps="WGS84").inv(lon1, lat1, lon2, lat2)[2]) / 1000


def _lift(end: Floats, plane: Floats, degrees: Floats) -> tuple[float, float]:
    """Degrees of a point on the edge of a ring: as far along its side as in the plane."""
    side = np.roll(plane, -1, axis=0) - plane
    t = np.clip(((end - plane) * side).sum(axis=1) / (side**2).sum(axis=1), 0, 1)
    k = int(np.argmin(((plane + t[:, None] * side - end) ** 2).sum(axis=1)))
    ends = cartesian(
        degrees[[k, (k + 1) % len(degrees)], 0], degrees[[k, (k + 1) % len(degrees)], 1]
    )
    lon, lat = lonlat(ends[0] + t[k] * (ends[1] - ends[0]))
    return float(lon), float(lat)


# --- the page ------------------------------------------------------------------------------------

_WIDE, _HIGH = 1000.0, 500.0  # of the map; Behrmann's cylinder is 2.36 times as wide as high


def leaks_section(found: Leaks) -> str:
    """Verdict, nearest pairs and map of blocks, as a fragment of HTML."""
    good = found.violations == 0
    rows = "".join(
        f"<tr><td>{html.escape(' – '.join(one.splits))}</td><td>{one.km:,.3f}</td>"
        f"<td><code>{html.escape(one.sites[0])}</code></td>"
        f"<td><code>{html.escape(one.sites[1])}</code></td></tr>"
        for one in found.pairs
    )
    overlaps = ", ".join(f"{html.escape(k)} {n:,}" for k, n in found.overlapping.items())
    aside = "".join(
        f"<tr><td>{html.escape(one['name'])}</td><td>{one['kind']}</td>"
        f"<td>{'yes' if one['verified'] else 'no'}</td>"
        f"<td>{'not known' if one['sites'] is None else format(one['sites'], ',')}</td></tr>"
        for one in found.benchmarks
    )
    parts = [
        f'<section id="leaks"><h2>Leaks</h2><p class="{"good" if good else "bad"}">{html.escape(found.verdict)}</p>',
        f"<p>{found.checked:,} sites of train, val and test measured, {found.unchecked:,} without "
        "a place. Distances are geodesics between footprints, across subsets, whatever the blocks "
        "say.</p>",
    ]
    if rows:
        parts.append(
            "<table><thead><tr><th>splits</th><th>nearest, km</th><th colspan=2>sites</th></tr>"
            f"</thead><tbody>{rows}</tbody></table>"
        )
    parts.append(f"<p>Overlapping footprints within a subset: {overlaps or 'none'}.</p>")
    if aside:
        parts.append(
            "<table><thead><tr><th>benchmark</th><th>footprints</th><th>verified</th>"
            f"<th>sites set aside</th></tr></thead><tbody>{aside}</tbody></table>"
        )
    parts.append(_block_map(found))
    return "\n".join([*parts, "</section>\n"])


def leaks_page(found: Leaks, title: str) -> str:
    """`leaks_section` as a page of its own."""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}: leaks</title><style>body{{font:15px/1.5 system-ui,sans-serif;"
        "max-width:64rem;margin:2rem auto;padding:0 1rem}td,th{text-align:left;padding:.2rem .8rem "
        ".2rem 0}.bad{color:#b00020;font-weight:700}.good{color:#0b6e4f;font-weight:700}"
        "svg{width:100%;height:auto;margin-top:1rem;background:#eef3f7}code{overflow-wrap:anywhere}</style>\n"
        f"<h1>{html.escape(title)}</h1>\n{leaks_section(found)}</html>\n"
    )


def _block_map(found: Leaks) -> str:
    """Blocks that hold sites, in a cylindrical projection in which areas are true."""
    blocks = Blocks.of(found.block_km)
    paths, legend = [], []
    for x, (name, numbers) in zip((0, 130, 240), found.blocks.items(), strict=True):
        number = np.array(numbers, np.int64)
        west, south, east, north = blocks.box(number)
        # Neighbours in a band are one rectangle: a tenth of the bytes.
        follows = (np.diff(number) == 1) & (np.diff(south) == 0)
        starts = np.flatnonzero(np.append(True, ~follows)[: number.size])
        ends = np.flatnonzero(np.append(~follows, True)[: number.size])
        left, right = (west[starts] + 180) / 360 * _WIDE, (east[ends] + 180) / 360 * _WIDE
        top, bottom = (
            (1 - np.sin(np.radians(edge[starts]))) / 2 * _HIGH for edge in (north, south)
        )
        path = "".join(
            f"M{a:.1f} {b:.2f}h{c - a:.1f}v{d - b:.2f}h{a - c:.1f}z"
            for a, b, c, d in zip(
                left.tolist(), top.tolist(), right.tolist(), bottom.tolist(), strict=True
            )
        )
        paths.append(f'<path d="{path}" fill="{COLOURS[name]}"/>')
        legend.append(
            f'<rect x="{x}" y="{_HIGH + 8:g}" width="12" height="12" fill="{COLOURS[name]}"/>'
            f'<text x="{x + 18}" y="{_HIGH + 19:g}" font-size="13">{name}: {number.size:,}</text>'
        )
    return (
        f'<svg viewBox="0 0 {_WIDE:g} {_HIGH + 26:g}" role="img" aria-label="Blocks by split">'
        f"{''.join(paths)}{''.join(legend)}</svg>"
        f"<p>Blocks of {found.block_km:g} km that hold sites, by split; areas are true.</p>"
    )
