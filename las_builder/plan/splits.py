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
from las_builder.core.options import Splits
from las_builder.core.types import Site, Split
from las_builder.plan.sphere import (
    RADIUS_MIN,
    Floats,
    angle_to_box,
    authalic_latitude,
    cartesian,
    circles,
    outlines,
)

SPLITS: tuple[Split, ...] = ("train", "val", "test")
_RING = 16  # points on each side of a footprint when two are measured against each other
_FEW_COLUMNS = 8  # bands of so few blocks are looked at whole


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
    near[placed] = _near_later(
        blocks, splits, lon[placed], lat[placed], radius[placed], kind[placed]
    )
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


def _near_later(
    blocks: Blocks, splits: Splits, lon: Floats, lat: Floats, radius: Floats,
    kind: NDArray[np.int64],
) -> NDArray[np.bool_]:  # fmt: skip
    """Whether a footprint (a circle, km) is nearer than the buffer to a block of a later split."""
    near = np.zeros(lon.size, bool)
    if lon.size == 0:
        return near
    reach = splits.buffer_km + radius
    farthest = math.degrees(float(reach.max()) / RADIUS_MIN)
    height = float((blocks.north - blocks.south).min())
    for step in range(-math.ceil(farthest / height) - 1, math.ceil(farthest / height) + 2):
        beside = np.clip(lat + step * height, -90, 90)
        band = blocks.band(beside)
        n = blocks.columns[band]
        turn = math.ceil(float(reach.max()) / (splits.block_km / 2)) + 1
        few = int(n[n <= _FEW_COLUMNS].max(initial=0))
        column = np.floor(np.mod(lon + 180, 360) / 360 * n).astype(np.int64)
        for sideways in range(-max(turn, few), max(turn, few) + 1):
            number = blocks.first[band] + (column + sideways) % n
            later = split_of(number, splits) > kind
            if later.any():
                west, south, east, north = blocks.box(number[later])
                angle = angle_to_box(lon[later], lat[later], west, south, east, north)
                near[later] |= angle * RADIUS_MIN < reach[later]
    return near


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaks:
    """What `leaks.json` says."""

    violations: int
    """Pairs of footprints of different splits that are nearer than the buffer."""

    nearest_km: float | None
    """Between footprints of different splits, never more than the true distance; None: no pair."""

    nearest: tuple[str, str] | None
    """The two sites, "subset/id" each."""

    buffer_km: float
    checked: int
    """Sites in train, val or test."""

    unchecked: int
    """Sites in train, val or test that have no place."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


def leaks(sites: Sequence[Site], splits: Splits) -> Leaks:
    """Measure every pair of footprints of different splits that could be too near.

    Distances are chords between points on the two outlines, less the spacing of the points: never
    more than the geodesic between the footprints, and less by at most a sixteenth of a side.
    """
    from scipy.spatial import cKDTree

    used = [site for site in sites if site.split in SPLITS]
    lon, lat, radius = circles([site.grid for site in used])
    placed = np.flatnonzero(np.isfinite(lon))
    at = cartesian(lon[placed], lat[placed])
    kind = np.array([SPLITS.index(used[i].split) for i in placed], np.int64)
    size = radius[placed]
    widest = float(size.max(initial=0))
    nearest, violations = math.inf, 0
    pair: tuple[Site, Site] | None = None
    for a, b in ((0, 1), (0, 2), (1, 2)):
        first, second = np.flatnonzero(kind == a), np.flatnonzero(kind == b)
        if not first.size or not second.size:
            continue
        tree = cKDTree(at[first])
        away, neighbour = tree.query(at[second])
        candidates = {(int(first[n]), int(j)) for n, j in zip(neighbour, second, strict=True)}
        # Whatever could be nearer than the nearest centres say, or than the buffer.
        bound = max(float(away.min()), splits.buffer_km + 2 * widest)
        within = tree.query_ball_point(at[second], bound)
        for late, found in zip(second, within, strict=True):
            candidates |= {(int(first[n]), int(late)) for n in found}
        for i, j in sorted(candidates):
            least = float(np.linalg.norm(at[i] - at[j])) - size[i] - size[j]
            if least > nearest and least > splits.buffer_km:
                continue
            apart = _apart(used[placed[i]], used[placed[j]])
            violations += int(apart < splits.buffer_km)
            if apart < nearest:
                nearest, pair = apart, (used[placed[i]], used[placed[j]])
    return Leaks(
        violations=violations,
        nearest_km=None if pair is None else round(nearest, 3),
        nearest=None if pair is None else (_name(pair[0]), _name(pair[1])),
        buffer_km=splits.buffer_km,
        checked=len(used),
        unchecked=len(used) - placed.size,
    )


def _name(site: Site) -> str:
    return f"{site.subset}/{site.id}"


def _apart(a: Site, b: Site) -> float:
    """Kilometres between two footprints, never more than the truth; 0 where they may overlap."""
    rings = outlines([a.grid, b.grid], _RING)
    points = cartesian(rings[..., 0], rings[..., 1])
    chord = np.linalg.norm(points[0][:, None, :] - points[1][None, :, :], axis=-1).min()
    spacing = sum(
        np.linalg.norm(np.diff(ring, axis=0), axis=-1).max(initial=0) / 2 for ring in points
    )
    lon, lat, radius = circles([a.grid, b.grid])
    centres = cartesian(lon, lat)
    overlap = np.linalg.norm(centres[0] - centres[1]) < max(radius)
    return 0.0 if overlap else max(0.0, float(chord - spacing))
