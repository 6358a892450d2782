"""Do 95 % intervals of class areas on the virtual Earth hold the truth in 95 % of draws?

The truth of every level-1 cover is counted at 20 million points of land, in proportion to area and
without the sampler. Every replicate draws 2,000 sites by an allocation rule, looks at an 8 x 8 grid
of truth points over each patch (those on land), and estimates the area of each cover by a Hájek
ratio times the area of the population (`plan.ratios`); the variance is linearised over cells
(component, stratum) for Matérn's rule, and from nearest neighbours for partitions (Stevens and
Olsen 2003). Points at a coast, which fewer patches can hold, count for more (`looked`).

Bars: pooled over covers, rules and seeds in [0.93, 0.97] (partitions up to 0.99); no cover and rule
with 30 effective sites below 0.88; mean half-width at most 1.2 x 1.96 x the empirical SD. Covers
with fewer effective sites print "too few".

With `--keep FILE` every draw is a line of that file, and the same command goes on where it ended.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np

from las_builder import plan
from las_builder.access.virtual import LEAVES, VirtualEarth
from las_builder.catalogs import Catalogs, Strata
from las_builder.core.grid import to_lonlat
from las_builder.core.options import Patch, Sites

COVERS = tuple(dict.fromkeys(leaf.split(".")[0] for leaf in sorted(LEAVES)))
COVER_OF = np.array([COVERS.index(leaf.split(".")[0]) for leaf in LEAVES])
SIDE = 8

RULES = {
    "uniform": ("matern", [{"share": 1, "uniform": "land"}]),
    "proportional": ("matern", [{"share": 1, "strata": ["climate-group"]}]),
    "equal": ("matern", [{"share": 1, "strata": ["climate-group"], "allocation": "equal"}]),
    "sqrt": ("matern", [{"share": 1, "strata": ["climate"], "allocation": "sqrt"}]),
    "neyman": (
        "matern",
        [{"share": 1, "strata": ["climate"], "allocation": "neyman", "spread": "landcover"}],
    ),
    "mixture": (
        "matern",
        [
            {"share": 0.3, "near": "cities", "sigma_km": 50},
            {"share": 0.7, "strata": ["climate"], "allocation": "sqrt"},
        ],
    ),
    "cells": ("cells", [{"share": 1, "uniform": "land"}]),
}


def draft(rule: str, design: list, count: int, spacing: float) -> plan.Draft:
    catalogs = Catalogs.load()
    return plan.Draft.of(
        subset="a", sites=Sites(count=count, spacing_km=spacing, rule=rule, design=design),
        patch=Patch(size=264), imagery=catalogs.imagery("sentinel-2-l2a"), products=[],
        strata=Strata.load(catalogs), where="benchmark",
    )  # fmt: skip


def covers(earth: VirtualEarth, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """Index into COVERS, -1 at sea, of degrees of any shape."""
    found = np.full(lon.shape, -1)
    on = Strata.load(earth.catalogs).is_land(lon, lat)
    found[on] = COVER_OF[earth.truth(lon[on], lat[on])]
    return found


def truth(earth: VirtualEarth, target, points: int) -> np.ndarray:
    """Shares of the covers in the target, from points on its mask pixels in proportion to area."""
    rng = np.random.default_rng(0)
    total = np.zeros(len(COVERS))
    running = np.cumsum(target.areas) / target.area
    while total.sum() < points:
        cell = np.searchsorted(running, rng.random(1 << 20))
        lon = (target.column[cell] + rng.random(cell.size)) / 20 - 180
        lat = 90 - (target.row[cell] + rng.random(cell.size)) / 20
        # A mixed cell is chosen by the area of its part that is in, so that part is tried until hit.
        inside = target.contains(lon, lat)
        while not inside.all():
            rest = np.flatnonzero(~inside)
            lon[rest] = (target.column[cell[rest]] + rng.random(rest.size)) / 20 - 180
            lat[rest] = 90 - (target.row[cell[rest]] + rng.random(rest.size)) / 20
            inside[rest] = target.contains(lon[rest], lat[rest])
        found = COVER_OF[earth.truth(lon, lat)]
        total += np.bincount(found, minlength=len(COVERS))
    return total / total.sum()


def looked(earth: VirtualEarth, sites: plan.SiteTable) -> np.ndarray:
    """Points of each cover in the patch of each site, (sites, covers).

    A point at a coast lies in fewer patches, for their middles are on land. It counts for one over
    the share of the square around it that is land: then no place is seen less than another.
    """
    counts = np.zeros((len(sites), len(COVERS)))
    west, south, east, north = sites.grids.bounds()
    strata = Strata.load(earth.catalogs)
    step = (np.arange(SIDE) + 0.5) / SIDE
    wide = (np.arange(2 * SIDE - 1) - SIDE / 2 + 1) / SIDE  # middles that see any of the points

    def places(crs: str, some: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = west[some, None, None] + at[None, None, :] * (east - west)[some, None, None]
        y = south[some, None, None] + at[None, :, None] * (north - south)[some, None, None]
        return to_lonlat(crs, *np.broadcast_arrays(x, y))

    for crs in set(sites.grids.crs.tolist()):
        some = np.flatnonzero(sites.grids.crs == crs)
        found = covers(earth, *places(crs, some, step)).reshape(some.size, -1)
        land = strata.is_land(*places(crs, some, wide))
        seen = np.lib.stride_tricks.sliding_window_view(land, (SIDE, SIDE), axis=(1, 2))
        share = seen.mean(axis=(3, 4)).reshape(some.size, -1)
        weight = 1 / np.maximum(share, 1 / SIDE**2)
        counts[some] = np.stack(
            [((found == k) * weight).sum(axis=1) for k in range(len(COVERS))], axis=1
        )
    return counts


def estimate(
    sites: plan.SiteTable, counts: np.ndarray, rule: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Share, standard error and effective sites of every cover: what audits use."""
    sample = plan.Sample.of(sites, sites.weight_km2, rule)
    found = plan.ratios(sample, counts, counts.sum(axis=1), held="part")
    return found.value, found.error, found.effective


class Kept:
    """Numbers by name, lines of a file (None: of nothing) that are read and not worked out again."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path is not None and path.exists() else []
        self.known = dict(map(json.loads, lines))

    def get(self, key: str, work) -> list:
        if key not in self.known:
            self.known[key] = np.asarray(work()).tolist()
            if self.path is not None:
                with self.path.open("a") as file:
                    file.write(json.dumps([key, self.known[key]]) + "\n")
        return self.known[key]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--points", type=int, default=20_000_000)
    parser.add_argument("--spacing", type=float, default=4.0)
    parser.add_argument("--rules", nargs="*", default=list(RULES))
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    earth, kept = VirtualEarth(Catalogs.load()), Kept(arguments.keep)
    pooled: dict[str, list[float]] = {"matern": [], "cells": []}
    least, widest, few = 1.0, 0.0, 0
    for name in arguments.rules:
        rule, design = RULES[name]
        made = draft(rule, design, arguments.sites, arguments.spacing)
        want = np.array(
            kept.get(
                f"truth {arguments.points}",
                lambda target=made.law.target: truth(earth, target, arguments.points),
            )
        )

        def draw(seed: int, made=made, rule=rule) -> tuple:
            changed = made.sites.model_copy(update={"seed": seed})
            sites = dataclasses.replace(made, sites=changed).draw()
            sites = sites.of_rows(sites.primary)
            return estimate(sites, looked(earth, sites), rule)

        what = f"{name} {arguments.sites} {arguments.spacing:g}"
        draws = [
            kept.get(f"{what} {seed}", lambda seed=seed, draw=draw: draw(seed))
            for seed in range(arguments.seeds)
        ]
        got, error, effective = np.moveaxis(np.array(draws), 1, 0)
        mean, sd = got.mean(axis=0), got.std(axis=0)
        held = np.abs(got - want) <= 1.96 * error
        print(f"\n{name} ({rule}): {arguments.seeds} draws of {arguments.sites} sites")
        for k, cover in enumerate(COVERS):
            enough = effective.mean(axis=0)[k] >= plan.FEW
            width = error.mean(axis=0)[k] / sd[k] if sd[k] else 1.0
            covered = held[:, k].mean()
            if enough:
                pooled[rule] += held[:, k].tolist()
                least, widest = min(least, covered), max(widest, width)
            few += not enough
            print(
                f"  {cover:10} truth {100 * want[k]:6.3f} %  mean {100 * mean[k]:6.3f} %  "
                f"covered {covered:.3f}  half-width {width:.2f} x SD"
                + ("" if enough else "  too few"),
                flush=True,
            )
    print()
    for rule, every in pooled.items():
        if every:
            print(f"{rule}: coverage pooled {np.mean(every):.3f} over {len(every)} intervals")
    print(f"least of a cover and rule {least:.3f}, widest {widest:.2f} x, {few} too few")


if __name__ == "__main__":
    main()
