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
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from las_builder.catalogs.strata import WGS84_A, WGS84_F, band_area
from las_builder.core.grid import Grid
from las_builder.core.options import Splits
from las_builder.core.types import Site, Split
from las_builder.plan.sphere import (
    RADIUS_MIN,
    Floats,
    angle_to_box,
    authalic_latitude,
    cartesian,
    circles,
    lonlat,
    outlines,
)

SPLITS: tuple[Split, ...] = ("train", "val", "test")
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
        near = angle_to_box(lon[place], lat[place], *self.box(block)) < angle[place]
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


def assign(sites: Sequence[Site], splits: Splits) -> list[Site]:
    """The same sites with their block and split.

    A site is `buffer` if it is train and its footprint is nearer than the buffer to a val or test
    block; if it is val and so near a test block; or if it is val or test and its footprint leaves
    its own block. So footprints of different splits are at least the buffer apart. Sites without a
    CRS are placed nowhere: they keep the split they have, block -1.

    Args:
        sites: Of every subset of the corpus.
        splits: Shares, block size, buffer, seed.
    """
    if not sites:
        return []
    blocks = Blocks.of(splits.block_km)
    grids = [site.grid for site in sites]
    lon, lat, radius = circles(grids)
    placed = np.flatnonzero(np.isfinite(lon))
    number = np.full(len(sites), -1, np.int64)
    number[placed] = blocks.number(lon[placed], lat[placed])
    kind = np.zeros(len(sites), np.int64)
    kind[placed] = split_of(number[placed], splits)
    ring = outlines([grids[i] for i in placed], 8)
    leaves = np.zeros(len(sites), bool)
    leaves[placed] = (blocks.number(ring[..., 0], ring[..., 1]) != number[placed][:, None]).any(
        axis=1
    )
    near = np.zeros(len(sites), bool)
    at = placed
    beside, block = blocks.near(lon[at], lat[at], radius[at] + splits.buffer_km)
    near[at[beside[split_of(block, splits) > kind[at[beside]]]]] = True
    out = (kind > 0) & leaves | near
    here = set(placed.tolist())
    return [
        dataclasses.replace(
            site, block=int(number[i]), split="buffer" if out[i] else SPLITS[kind[i]]
        )
        if i in here
        else site
        for i, site in enumerate(sites)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaks:
    """What `leaks.json` says."""

    violations: int
    """Pairs of footprints of different splits that are nearer than the buffer."""

    nearest_km: float | None
    """Least geodesic distance between footprints of different splits; None: no pair."""

    nearest: tuple[str, str] | None
    """The two sites, "subset/id" each."""

    buffer_km: float
    checked: int
    """Sites in train, val or test that have a place."""

    unchecked: int
    """Sites in train, val or test that have no place."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


def leaks(sites: Sequence[Site], splits: Splits) -> Leaks:
    """Measure every pair of footprints of different splits that could be too near.

    Candidates come from k-d trees of true chords between centres; the nearest points of two
    footprints are found on the plane between them and measured as a geodesic of WGS 84.
    """
    used = [site for site in sites if site.split in SPLITS]
    lon, lat, radius = circles([site.grid for site in used])
    placed = np.flatnonzero(np.isfinite(lon))
    at = cartesian(lon[placed], lat[placed])
    kind = np.array([SPLITS.index(used[i].split) for i in placed], np.int64)
    size = radius[placed]
    pairs = np.concatenate(
        [np.zeros((0, 2), np.int64)]
        + [
            _candidates(at, size, np.flatnonzero(kind == a), np.flatnonzero(kind == b), splits)
            for a, b in ((0, 1), (0, 2), (1, 2))
        ]
    )
    # Between centres less both radii: the footprints are no nearer.
    least = np.linalg.norm(at[pairs[:, 0]] - at[pairs[:, 1]], axis=1) - size[pairs].sum(axis=1)
    nearest, violations = math.inf, 0
    pair: tuple[Site, Site] | None = None
    for k in np.argsort(least, kind="stable").tolist():
        if least[k] >= max(nearest, splits.buffer_km):
            break
        one, other = (used[placed[i]] for i in pairs[k])
        apart = footprint_km(one.grid, other.grid)
        violations += int(apart < splits.buffer_km)
        if apart < nearest:
            nearest, pair = apart, (one, other)
    return Leaks(
        violations=violations,
        nearest_km=None if pair is None else round(nearest, 6),
        nearest=None if pair is None else (_name(pair[0]), _name(pair[1])),
        buffer_km=splits.buffer_km,
        checked=placed.size,
        unchecked=len(used) - placed.size,
    )


def _name(site: Site) -> str:
    return f"{site.subset}/{site.id}"


def _candidates(
    at: Floats, size: Floats, first: NDArray[np.intp], second: NDArray[np.intp], splits: Splits
) -> NDArray[np.int64]:
    """Pairs of two splits that may be nearer than the buffer, or the nearest of all."""
    if not first.size or not second.size:
        return np.zeros((0, 2), np.int64)
    from scipy.spatial import cKDTree

    one, other = cKDTree(at[first]), cKDTree(at[second])
    closest = float(other.query(at[first])[0].min())
    reach = max(splits.buffer_km, closest) + 2 * float(size.max())
    found = one.sparse_distance_matrix(other, reach, output_type="ndarray")
    return np.column_stack([first[found["i"]], second[found["j"]]]).astype(np.int64)


def footprint_km(a: Grid, b: Grid) -> float:
    """Geodesic distance between the ground under two grids, km; 0 where they touch."""
    import shapely
    from pyproj import Geod

    rings = outlines([a, b], _RING)
    points = cartesian(rings[..., 0], rings[..., 1])
    up = points.mean(axis=(0, 1))
    up /= np.linalg.norm(up)
    across = np.cross(up, np.eye(3)[np.argmin(np.abs(up))])
    across /= np.linalg.norm(across)
    plane = np.stack([points @ across, points @ np.cross(up, across)], axis=-1)
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
