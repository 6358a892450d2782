"""Splits that do not leak: 150,000 sites of six subsets, every pair of them, by brute force.

    python benchmarks/sampling_leaks.py [--corpus las] [--count N] [--edges 4000]

Draws the subsets of the corpus that need no folder, divides them, writes the leak report, and takes
the times. Then, with code of its own: the chord between the centres of every two sites whose z
differ by less than could matter (no grid, no tree, no blocks); of those that could matter, the geodesic between the nearest of
64 points round each footprint; and for two of one subset, whether a point of one lies in the other,
in its own CRS. The same for sites forced around ±180°, above 80° N and beyond 80° S.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, prange
from pyproj import Geod, Transformer

from las_builder import plan, recipe
from las_builder.catalogs import Catalogs, Strata
from las_builder.core.options import Sites, Splits
from las_builder.errors import RegionError
from las_builder.plan.splits import leaks_page
from las_builder.plan.table import SiteTable
from las_builder.run.sample import draft

A, F = 6378.137, 1 / 298.257223563
E2 = F * (2 - F)
GEOD = Geod(ellps="WGS84")
SIDE = 16  # points along a side of a footprint


@njit(parallel=True, cache=True)
def count_near(x, y, z, split, subset, reach, radius):
    """Of every site, in order of z, the later ones whose centres are near enough to matter."""
    most = reach + 2 * radius.max()
    n = x.size
    counts = np.zeros(n, np.int64)
    for i in prange(n):
        found = 0
        for j in range(i + 1, n):
            if z[j] - z[i] > most:
                break
            d2 = (x[i] - x[j]) ** 2 + (y[i] - y[j]) ** 2 + (z[i] - z[j]) ** 2
            both = radius[i] + radius[j]
            if d2 < (reach + both) ** 2:
                cross = split[i] != split[j] and split[i] >= 0 and split[j] >= 0
                if cross or (subset[i] == subset[j] and d2 < both * both):
                    found += 1
        counts[i] = found
    return counts


@njit(parallel=True, cache=True)
def list_near(x, y, z, split, subset, reach, radius, first, pairs):
    """What `count_near` counted."""
    n = x.size
    most = reach + 2 * radius.max()
    for i in prange(n):
        at = first[i]
        if first[i + 1] == at:
            continue
        for j in range(i + 1, n):
            if z[j] - z[i] > most:
                break
            d2 = (x[i] - x[j]) ** 2 + (y[i] - y[j]) ** 2 + (z[i] - z[j]) ** 2
            both = radius[i] + radius[j]
            if d2 < (reach + both) ** 2:
                cross = split[i] != split[j] and split[i] >= 0 and split[j] >= 0
                if cross or (subset[i] == subset[j] and d2 < both * both):
                    pairs[at, 0] = i
                    pairs[at, 1] = j
                    at += 1


@njit(cache=True)
def closest_points(rings, pairs):
    """Of each pair, the two nearest points (by chord) of the rings."""
    out = np.zeros((len(pairs), 2), np.int64)
    for k in range(len(pairs)):
        best = np.inf
        for p in range(rings.shape[1]):
            for q in range(rings.shape[1]):
                d = 0.0
                for c in range(3):
                    d += (rings[pairs[k, 0], p, c] - rings[pairs[k, 1], q, c]) ** 2
                if d < best:
                    best = d
                    out[k, 0], out[k, 1] = p, q
    return out


def cartesian(lon: Any, lat: Any) -> Any:
    a, b = np.radians(lon), np.radians(lat)
    n = A / np.sqrt(1 - E2 * np.sin(b) ** 2)
    return np.stack(
        [n * np.cos(b) * np.cos(a), n * np.cos(b) * np.sin(a), n * (1 - E2) * np.sin(b)], axis=-1
    )


def rings_of(table: SiteTable) -> Any:
    """Points round each footprint, degrees, (n, 64, 2)."""
    t = np.arange(SIDE) / SIDE
    u = np.concatenate([t, 0 * t + 1, 1 - t, 0 * t])
    v = np.concatenate([0 * t, t, 0 * t + 1, 1 - t])
    g = table.grids
    x = g.west[:, None] + u * (g.width * g.pixel[:, 0])[:, None]
    y = g.north[:, None] - v * (g.height * g.pixel[:, 1])[:, None]
    out = np.empty((len(table), u.size, 2))
    for crs in set(g.crs.tolist()):
        of = np.flatnonzero(g.crs == crs)
        to = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
        out[of] = np.stack(to.transform(x[of], y[of]), axis=-1)
    return out


def inside(table: SiteTable, ring: Any, i: int, j: int) -> bool:
    """Whether a point round footprint i lies in footprint j."""
    grid = table.grids.grid(j)
    to = Transformer.from_crs("EPSG:4326", grid.crs, always_xy=True)
    x, y = to.transform(ring[i, :, 0], ring[i, :, 1])
    w, s, e, n = grid.bounds
    tight = 1e-3  # a millimetre: footprints may touch
    return bool(((x > w + tight) & (x < e - tight) & (y > s + tight) & (y < n - tight)).any())


def brute(table: SiteTable, buffer_km: float) -> dict[str, Any]:
    """Every pair."""
    started = time.perf_counter()
    degrees = rings_of(table)
    ring = cartesian(degrees[..., 0], degrees[..., 1])
    centre = ring.mean(axis=1)
    radius = np.linalg.norm(ring - centre[:, None], axis=-1).max(axis=1) * 1.001
    order = ("train", "val", "test")
    split = np.array([order.index(s) if s in order else -1 for s in table.split.tolist()])
    names = sorted(set(table.subset.tolist()))
    subset = np.array([names.index(s) for s in table.subset.tolist()])
    x, y, z = np.ascontiguousarray(centre.T)
    # Chords are shorter than geodesics, by nothing at these lengths; a tenth more is looked at.
    looked = max(buffer_km * 1.1, 1.0)
    order_z = np.argsort(z, kind="stable")
    columns = [v[order_z] for v in (x, y, z, split, subset)]
    counts = count_near(*columns, looked, radius[order_z])
    first = np.concatenate([[0], np.cumsum(counts)])
    pairs = np.empty((first[-1], 2), np.int64)
    list_near(*columns, looked, radius[order_z], first, pairs)
    pairs = order_z[pairs]
    same = subset[pairs[:, 0]] == subset[pairs[:, 1]]
    apart = np.linalg.norm(centre[pairs[:, 0]] - centre[pairs[:, 1]], axis=1)
    close = pairs[same & (apart < radius[pairs].sum(axis=1))]
    overlaps = sum(
        inside(table, degrees, i, j) or inside(table, degrees, j, i) for i, j in close.tolist()
    )
    cross = (split[pairs] >= 0).all(axis=1) & (split[pairs[:, 0]] != split[pairs[:, 1]])
    pairs = pairs[cross]
    nearest: dict[str, float] = {}
    violations = 0
    if len(pairs):
        ends = closest_points(ring, pairs)
        a, b = degrees[pairs[:, 0], ends[:, 0]], degrees[pairs[:, 1], ends[:, 1]]
        km = GEOD.inv(a[:, 0], a[:, 1], b[:, 0], b[:, 1])[2] / 1000
        violations = int((km < buffer_km).sum())
        kinds = np.sort(split[pairs], axis=1)
        for p, q in ((0, 1), (0, 2), (1, 2)):
            these = km[(kinds[:, 0] == p) & (kinds[:, 1] == q)]
            if these.size:
                nearest[f"{order[p]}-{order[q]}"] = round(float(these.min()), 4)
    return {
        "sites": len(table),
        "pairs_measured": len(pairs),
        "pairs_of_circles_within_subsets": len(close),
        "violations": violations,
        "nearest_km": nearest,
        "overlapping_within_subsets": overlaps,
        "seconds": round(time.perf_counter() - started, 1),
    }


def examine(drawn: SiteTable, splits: Splits) -> tuple[dict[str, Any], SiteTable]:
    cpu, wall = time.process_time(), time.perf_counter()
    sites = plan.assign(drawn, splits)
    one, middle = time.process_time() - cpu, time.perf_counter() - wall
    found = plan.leaks(sites, splits)
    page = leaks_page(found, "benchmark")
    two, end = time.process_time() - cpu, time.perf_counter() - wall
    ours = {
        "seconds": {"splits": round(middle, 2), "leaks": round(end - middle, 2)},
        "cpu_seconds": {"splits": round(one, 2), "leaks": round(two - one, 2)},
        "violations": found.violations,
        "nearest_km": {"-".join(p.splits): round(p.km, 4) for p in found.pairs},
        "overlapping_within_subsets": dict(found.overlapping),
        "checked": found.checked,
        "splits": {k: int((sites.split == k).sum()) for k in sorted(set(sites.split.tolist()))},
        "page_bytes": len(page),
    }
    return {"ours": ours, "brute_force": brute(sites, splits.buffer_km)}, sites


def edges(strata: Strata, count: int, corpus: Any) -> SiteTable:
    """The subsets of the corpus on lattices that are everywhere, where geography is awkward."""
    places = {
        "antimeridian": [177.0, 50.0, -177.0, 72.0],
        "south of the equator": [177.0, -20.0, -178.0, -15.0],
        "80 north": [-180.0, 80.0, 180.0, 84.0],
        "80 south": [-180.0, -90.0, 180.0, -80.0],
    }
    tables = []
    for subset in corpus.subsets:
        if subset.imagery.name == "naip":
            continue
        for name, box in places.items():
            polar = name == "80 south" and subset.imagery.lattice.polar is None
            region = [-180.0, -82.0, 180.0, -79.5] if polar else box
            for n in (count, count // 4, count // 16, count // 64):
                like = subset.recipe.sites
                sites = Sites(
                    count=max(n, 1), region=region, seed=like.seed, spacing_km=like.spacing_km
                )
                try:
                    tables.append(
                        plan.draw(
                            subset=subset.name, sites=sites, patch=subset.recipe.patch,
                            imagery=subset.imagery, products=[], strata=strata, where=Path(name),
                        )
                    )  # fmt: skip
                    break
                except RegionError:  # more than fit
                    continue
    return SiteTable.join(tables)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--corpus", default="las")
    parser.add_argument("--count", type=int)
    parser.add_argument("--edges", type=int, default=4000)
    args = parser.parse_args()
    catalogs = Catalogs.load()
    corpus = recipe.read(
        args.corpus,
        catalogs=catalogs,
        overrides=recipe.Overrides(source="virtual", count=args.count),
    )
    strata = Strata.load(catalogs)
    tables, report = [], {}
    started = time.perf_counter()
    for subset in corpus.subsets:
        known = draft(subset, strata)
        if known is not None:
            tables.append(known.draw())
    drawn = SiteTable.join(tables)
    report["draw_seconds"] = round(time.perf_counter() - started, 1)
    report["primaries"] = int(drawn.primary.sum())
    report["corpus"], sites = examine(drawn, corpus.splits)
    half = plan.assign(drawn[: len(drawn) // 2], corpus.splits)
    assert half == sites[: len(half)]
    report["unchanged_by_extending"] = True
    awkward = edges(strata, args.edges, corpus)
    report["edges"], on = examine(awkward, corpus.splits)
    report["edges"]["north_of_80"] = int((on.lat > 80).sum())
    report["edges"]["south_of_80"] = int((on.lat < -80).sum())
    report["edges"]["within_half_a_degree_of_180"] = int((np.abs(on.lon) > 179.5).sum())
    # Without the buffer the brute force must find pairs, or it sees nothing.
    naked = plan.split_of(on.block, corpus.splits)
    names = np.array(["train", "val", "test"], object)[naked]
    report["edges"]["violations_if_nothing_were_set_aside"] = brute(
        dataclasses.replace(on, split=names), corpus.splits.buffer_km
    )["violations"]
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
