"""Do 95 % intervals of an audit hold the truth in 95 % of draws, on the virtual Earth?

    python benchmarks/audit_coverage.py [--product NAME] [--rules uniform sqrt cells] [--grid 0]

The map that is audited is a label product with its errors, which come in clumps (`--product none`: what is
true at the middle of each cell of 0.003 degrees). Estimated, every replicate from `--sites` sites of
another seed, in level 1 of the ontology:

- the area of every cover by the map and by an errorless map, from the central pixel of each patch;
- overall, user's and producer's accuracy of the map against the truth, from one reference point a
  site and from a grid of 4 x 4 points in each patch (unless `--grid 0`), with weights;
- for the uniform rule also without weights, as Olofsson et al. (2014) do it, from one and from 16
  points a site, once with the areas W_i of the map's classes taken as known.

A weight is the area that a point stands for. Points outside of the target population stand for none; one near
a coast lies in fewer patches, whose middles are on land, and stands for more: the weight of its site
over the number of places, among the 16 from which it can be looked at, that can be drawn.

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
from collections.abc import Callable

import numpy as np
from sampling_coverage import COVER_OF, COVERS, RULES, draft
from virtual_products import covers as covers_of_codes
from virtual_products import window_at

from las_builder import plan
from las_builder.access.virtual import VirtualEarth
from las_builder.access.virtual.confusion import errors_of
from las_builder.access.virtual.products import codes_of_leaves, legend_of, said
from las_builder.audit import Shares, accuracy
from las_builder.catalogs import Catalogs
from las_builder.core.grid import to_lonlat

CELL = 0.003
SIDE = 4
PIXELS = 264 * 264

Map = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Cover, an index into `COVERS`, at degrees of any one shape."""


def true_cover(earth: VirtualEarth, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    return COVER_OF[earth.truth(lon, lat)]


def coarse(earth: VirtualEarth) -> Map:
    """What is true at the middle of the cell."""

    def at(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
        x, y = (np.floor(v / CELL) * CELL + CELL / 2 for v in (lon, lat))
        return true_cover(earth, x, np.clip(y, -90, 90))

    return at


def product_map(earth: VirtualEarth, name: str) -> Map:
    """What a label product says, in its own pixels."""
    product, ontology = earth.catalogs.label(name), earth.catalogs.ontology
    errors = errors_of(earth.world, product, ontology, codes_of_leaves(product, ontology))
    legend = legend_of(product, ontology)
    year = product.epoch.year_for(2021)
    named = covers_of_codes(product)
    table = np.full(256, -1)
    for number, code in enumerate(legend.codes.tolist()):
        if named.get(code) in COVERS:
            table[number] = COVERS.index(named[code])

    def at(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
        out = np.empty(lon.size, int)
        for i, (x, y) in enumerate(zip(lon.ravel().tolist(), lat.ravel().tolist(), strict=True)):
            window = window_at(product, x, y, 1)
            out[i] = said(errors, legend, product.gsd, window, year, year).classes[0, 0]
        found = table[out]
        if (found < 0).any():
            raise SystemExit(f"{name} says something outside of level 1")
        return found.reshape(lon.shape)

    return at


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


def truths(earth: VirtualEarth, mapped: Map, target, points: int) -> dict[tuple[str, str], float]:
    """Of everything that is estimated."""
    rng = np.random.default_rng(0)
    table = np.zeros((len(COVERS),) * 2)
    for start in range(0, points, 1 << 18):
        lon, lat = places(target, min(points - start, 1 << 18), rng)
        both = mapped(lon, lat) * len(COVERS) + true_cover(earth, lon, lat)
        table += np.bincount(both, minlength=table.size).reshape(table.shape)
    table /= table.sum()
    out = {("overall accuracy", ""): float(np.trace(table))}
    for k, cover in enumerate(COVERS):
        map_, true = table[k].sum(), table[:, k].sum()
        out["area by the map", cover] = float(map_)
        out["area by truth", cover] = float(true)
        out["user's", cover] = float(table[k, k] / map_) if map_ else np.nan
        out["producer's", cover] = float(table[k, k] / true) if true else np.nan
    return out


def grids(sites: plan.SiteTable, target) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Degrees of a grid of points in each patch, and what each stands for, (sites, SIDE * SIDE)."""
    lon = np.empty((len(sites), SIDE * SIDE))
    lat, stands = np.empty_like(lon), np.empty_like(lon)
    west, south, east, north = sites.grids.bounds()
    step = (np.arange(SIDE) + 0.5) / SIDE
    wide = 0.5 + np.arange(1 - SIDE, SIDE) / SIDE  # middles that look at any of the points

    def at(crs: str, some: np.ndarray, along: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = west[some, None, None] + along[None, None, :] * (east - west)[some, None, None]
        y = south[some, None, None] + along[None, :, None] * (north - south)[some, None, None]
        return to_lonlat(crs, *np.broadcast_arrays(x, y))

    def inside(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return target.contains(x.ravel(), y.ravel()).reshape(x.shape)

    for crs in set(sites.grids.crs.tolist()):
        some = np.flatnonzero(sites.grids.crs == crs)
        x, y = at(crs, some, step)
        seen = np.lib.stride_tricks.sliding_window_view(
            inside(*at(crs, some, wide)), (SIDE, SIDE), axis=(1, 2)
        )
        ways = np.maximum(seen.sum(axis=(3, 4)), 1)
        weight = np.where(inside(x, y), sites.weight_km2[some, None, None] / ways, 0.0)
        lon[some], lat[some], stands[some] = (v.reshape(some.size, -1) for v in (x, y, weight))
    return lon, lat, stands


def one_hot(codes: np.ndarray) -> np.ndarray:
    return (codes[..., None] == np.arange(len(COVERS))).astype(float)


def replicate(
    earth: VirtualEarth, at: Map, sites: plan.SiteTable, target, rule: str, name: str, grid: bool
):  # fmt: skip
    """(kind, estimand, class) to value, error, effective sites."""
    n, out = len(sites), {}
    weight = sites.weight_km2
    sample = plan.Sample.of(sites, weight, rule)
    ones = np.ones(n)
    mapped, true = at(sites.lon, sites.lat), true_cover(earth, sites.lon, sites.lat)
    for what, codes in (("area by the map", mapped), ("area by truth", true)):
        found = plan.ratios(sample, one_hot(codes), ones, held="part")
        for k, cover in enumerate(COVERS):
            out["sites", what, cover] = found.value[k], found.error[k], found.effective[k]
    if rule != "matern":
        return out
    everyone = np.arange(n)
    ways = [("one point a site", mapped, true, weight, everyone, None)]
    if grid:
        lon, lat, stands = grids(sites, target)
        used = stands > 0
        m, t = np.zeros(used.shape, int), np.zeros(used.shape, int)
        m[used], t[used] = at(lon[used], lat[used]), true_cover(earth, lon[used], lat[used])
        shares = (one_hot(m) * stands[..., None]).sum(axis=1)
        whole = plan.ratios(
            sample, shares / weight[:, None], stands.sum(axis=1) / weight, held="part"
        )
        for k, cover in enumerate(COVERS):
            p = whole.value[k]
            error = np.sqrt(p * (1 - p) / (n * PIXELS))
            out["pixels as independent", "area by the map", cover] = p, error, whole.effective[k]
        clusters = np.repeat(everyone, SIDE**2).reshape(n, -1)[used]
        ways.append(("16 points a site", m[used], t[used], stands[used], clusters, None))
        p = float(((m == t) * stands).sum() / stands.sum())
        error = np.sqrt(p * (1 - p) / (n * PIXELS))
        out["pixels as independent", "overall accuracy", ""] = p, error, float(n)
    areas = Shares.estimated(sample, one_hot(mapped), ones)
    if name == "uniform":
        ways.append(("Olofsson, one point a site", mapped, true, None, everyone, areas))
        known = Shares(areas.value)
        ways.append(("the same, W_i as known", mapped, true, None, everyone, known))
        if grid:
            ways.append(("Olofsson, 16 points a site", m[used], t[used], None, clusters, areas))
    for kind, a, b, w, cluster, shares in ways:
        found = accuracy(
            a, b, size=len(COVERS), shares=shares, weight=w, cluster=cluster,
            stratum=sample.cell[cluster],
        )  # fmt: skip
        kept = {("overall accuracy", ""): found.overall}
        for c in found.classes:
            kept["user's", COVERS[c.index]] = c.users
            kept["producer's", COVERS[c.index]] = c.producers
            if w is None:
                kept["area by truth", COVERS[c.index]] = c.area
        for (what, cover), e in kept.items():
            out[kind, what, cover] = e.value, e.error, e.effective
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--product", default="esa-worldcover-v200")
    parser.add_argument("--sites", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--points", type=int, default=500_000)
    parser.add_argument("--grid", type=int, default=1, choices=[0, 1])
    parser.add_argument("--rules", nargs="*", default=["uniform", "sqrt", "cells"])
    arguments = parser.parse_args()
    earth = VirtualEarth(Catalogs.load())
    name_of_map = arguments.product
    mapped = coarse(earth) if name_of_map == "none" else product_map(earth, name_of_map)
    want = None
    pooled: dict[tuple[str, str], list[bool]] = defaultdict(list)
    worst: dict[tuple[str, str], tuple[float, str]] = {}
    start = time.process_time()
    for name in arguments.rules:
        rule, design = RULES[name]
        made = draft(rule, design, arguments.sites, 4.0)
        target = made.law.target
        if want is None:
            want = truths(earth, mapped, target, arguments.points)
        found = defaultdict(list)
        for seed in range(arguments.seeds):
            changed = made.sites.model_copy(update={"seed": seed})
            sites = dataclasses.replace(made, sites=changed).draw()
            sites = sites.of_rows(sites.primary)
            for key, one in replicate(
                earth, mapped, sites, target, rule, name, bool(arguments.grid)
            ).items():
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
