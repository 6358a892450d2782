"""Do 95 % intervals of an audit hold the truth in 95 % of draws, on the virtual Earth?

    python benchmarks/audit_coverage.py

The map that is audited is a coarse one: at every place it says what is true at the middle of its
cell of 0.003 degrees, so it errs in clumps, as maps do, and what it says of a patch is nearly one
observation. What is estimated, every replicate from `--sites` sites of another seed:

- the area of every cover by the map and by an errorless map, from the central pixel of each patch;
- overall, user's and producer's accuracy of the map against the truth, from one reference point a
  site and from a grid of 4 x 4 points in each patch, with the sites' weights;
- for the uniform rule also without weights, as Olofsson et al. (2014) do it, from one point a site.

Truths are counted at `--points` points of the target population, without the sampler. Beside them are
the intervals that take the 264 x 264 pixels of a patch as independent.

Bars: pooled coverage in [0.93, 0.97] for Matérn's rule (partitions up to 0.99); no kind and class of
30 effective sites below 0.88; mean half-width at most 1.2 x 1.96 x the empirical SD.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections import defaultdict

import numpy as np
from sampling_coverage import COVER_OF, COVERS, RULES, draft

from las_builder import plan
from las_builder.access.virtual import VirtualEarth
from las_builder.audit import accuracy
from las_builder.catalogs import Catalogs
from las_builder.core.grid import to_lonlat

CELL = 0.003
SIDE = 4
PIXELS = 264 * 264


def true_cover(earth: VirtualEarth, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    return COVER_OF[earth.truth(lon, lat)]


def mapped_cover(earth: VirtualEarth, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """What the coarse map says."""
    x, y = (np.floor(v / CELL) * CELL + CELL / 2 for v in (lon, lat))
    return COVER_OF[earth.truth(x, np.clip(y, -90, 90))]


def places(target, points: int, rng) -> tuple[np.ndarray, np.ndarray]:
    """Points of the target population, in proportion to area."""
    running = np.cumsum(target.areas) / target.area
    cell = np.searchsorted(running, rng.random(points))
    lon, lat = np.empty(points), np.empty(points)
    rest = np.arange(points)
    while rest.size:  # a mixed cell is chosen by the area of its part that is in: tried until hit
        lon[rest] = (target.column[cell[rest]] + rng.random(rest.size)) / 20 - 180
        lat[rest] = 90 - (target.row[cell[rest]] + rng.random(rest.size)) / 20
        rest = rest[~target.contains(lon[rest], lat[rest])]
    return lon, lat


def truths(earth: VirtualEarth, target, points: int) -> dict[tuple[str, str], float]:
    """Of everything that is estimated."""
    rng = np.random.default_rng(0)
    table = np.zeros((len(COVERS),) * 2)
    for _ in range(0, points, 1 << 18):
        lon, lat = places(target, 1 << 18, rng)
        both = mapped_cover(earth, lon, lat) * len(COVERS) + true_cover(earth, lon, lat)
        table += np.bincount(both, minlength=table.size).reshape(table.shape)
    table /= table.sum()
    out = {("overall accuracy", ""): float(np.trace(table))}
    for k, cover in enumerate(COVERS):
        out["area by the map", cover] = float(table[k].sum())
        out["area by truth", cover] = float(table[:, k].sum())
        out["user's", cover] = float(table[k, k] / table[k].sum())
        out["producer's", cover] = float(table[k, k] / table[:, k].sum())
    return out


def grids(sites: plan.SiteTable) -> tuple[np.ndarray, np.ndarray]:
    """Degrees of a grid of points in each patch, (sites, SIDE * SIDE)."""
    lon = np.empty((len(sites), SIDE * SIDE))
    lat = np.empty_like(lon)
    west, south, east, north = sites.grids.bounds()
    step = (np.arange(SIDE) + 0.5) / SIDE
    for crs in set(sites.grids.crs.tolist()):
        some = np.flatnonzero(sites.grids.crs == crs)
        x = west[some, None, None] + step[None, None, :] * (east - west)[some, None, None]
        y = south[some, None, None] + step[None, :, None] * (north - south)[some, None, None]
        x, y = np.broadcast_arrays(x, y)
        lon[some], lat[some] = (v.reshape(some.size, -1) for v in to_lonlat(crs, x, y))
    return lon, lat


def one_hot(codes: np.ndarray) -> np.ndarray:
    return (codes[:, None] == np.arange(len(COVERS))).astype(float)


def replicate(earth: VirtualEarth, sites: plan.SiteTable, rule: str, name: str):
    """(kind, estimand, class) to value, error, effective sites."""
    n, out = len(sites), {}
    weight = sites.weight_km2
    sample = plan.Sample.of(sites, weight, rule)
    ones = np.ones(n)
    mapped = mapped_cover(earth, sites.lon, sites.lat)
    true = true_cover(earth, sites.lon, sites.lat)
    for what, codes in (("area by the map", mapped), ("area by truth", true)):
        found = plan.ratios(sample, one_hot(codes), ones, held="part")
        for k, cover in enumerate(COVERS):
            out["sites", what, cover] = found.value[k], found.error[k], found.effective[k]
    lon, lat = grids(sites)
    m, t = (cover(earth, lon, lat) for cover in (mapped_cover, true_cover))
    shares = np.stack([(m == k).mean(axis=1) for k in range(len(COVERS))], axis=1)
    whole = plan.ratios(sample, shares, ones, held="part")
    for k, cover in enumerate(COVERS):
        p = whole.value[k]
        error = np.sqrt(p * (1 - p) / (n * PIXELS))
        out["pixels as independent", "area by the map", cover] = p, error, whole.effective[k]
    everyone = np.arange(n)
    if rule == "matern":
        ways = [
            ("one point a site", mapped, true, weight, everyone),
            ("16 points a site", m.ravel(), t.ravel(), np.repeat(weight, SIDE**2),
             np.repeat(everyone, SIDE**2)),
        ]  # fmt: skip
        if name == "uniform":
            ways.append(("Olofsson, one point a site", mapped, true, None, everyone))
        for kind, a, b, w, cluster in ways:
            counted = np.bincount(a, minlength=len(COVERS)).astype(float)
            found = accuracy(
                a, b, size=len(COVERS), shares=counted, weight=w, cluster=cluster,
                stratum=sample.cell[cluster],
            )  # fmt: skip
            kept = {("overall accuracy", ""): found.overall}
            for c in found.classes:
                kept["user's", COVERS[c.index]] = c.users
                kept["producer's", COVERS[c.index]] = c.producers
            for (what, cover), e in kept.items():
                out[kind, what, cover] = e.value, e.error, e.effective
        p = float((m == t).mean(axis=1) @ weight / weight.sum())
        error = np.sqrt(p * (1 - p) / (n * PIXELS))
        out["pixels as independent", "overall accuracy", ""] = p, error, float(n)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--points", type=int, default=4_000_000)
    parser.add_argument("--rules", nargs="*", default=["uniform", "sqrt", "cells"])
    arguments = parser.parse_args()
    earth = VirtualEarth(Catalogs.load())
    want = None
    pooled: dict[tuple[str, str], list[bool]] = defaultdict(list)
    worst: dict[tuple[str, str], tuple[float, str]] = {}
    start = time.process_time()
    for name in arguments.rules:
        rule, design = RULES[name]
        made = draft(rule, design, arguments.sites, 4.0)
        if want is None:
            want = truths(earth, made.law.target, arguments.points)
        found = defaultdict(list)
        for seed in range(arguments.seeds):
            changed = made.sites.model_copy(update={"seed": seed})
            sites = dataclasses.replace(made, sites=changed).draw()
            sites = sites.of_rows(sites.primary)
            for key, one in replicate(earth, sites, rule, name).items():
                found[key].append(one)
        print(f"\n{name} ({rule}): {arguments.seeds} draws of {arguments.sites} sites")
        for (kind, what, cover), rows in found.items():
            value, error, effective = np.array(rows).T
            known = np.isfinite(value) & np.isfinite(error)
            held = np.abs(value - want[what, cover])[known] <= 1.96 * error[known]
            few = effective.mean() < plan.FEW
            width = error[known].mean() / value[known].std() if value[known].std() > 0 else 1.0
            if not few:
                pooled[rule, kind].extend(held.tolist())
                here = float(held.mean()), f"{name}, {what} {cover}"
                worst[rule, kind] = min(worst.get((rule, kind), (2.0, "")), here)
            print(
                f"  {kind:26} {what:17} {cover:10} truth {100 * want[what, cover]:6.2f} %  mean "
                f"{100 * value[known].mean():6.2f} %  covered {held.mean():.3f}  half-width "
                f"{width:.2f} x SD{'  too few' if few else ''}",
                flush=True,
            )
    print()
    for (rule, kind), held in pooled.items():
        low, which = worst[rule, kind]
        print(
            f"{rule}, {kind}: coverage pooled {np.mean(held):.3f} over {len(held)} intervals; lowest "
            f"{low:.3f} ({which})"
        )
    print(f"{time.process_time() - start:.0f} CPU seconds")


if __name__ == "__main__":
    main()
