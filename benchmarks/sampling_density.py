"""Are stored densities true? 500 draws of every design, spacing and mixture.

Sums of 1 / density over the primaries that fall into a group of land cells have that group's area
as their mean if and only if the density stored is the true one there. Groups are by how many
parents are expected within the spacing (Λ), and at a coast or not. Printed: the mean over the area
with its Monte-Carlo error, and what weights would give that took sites to be as dense as a plain
Poisson process of the same number.
"""

from __future__ import annotations

import argparse
import dataclasses
import math

import numpy as np
from scipy.stats import chi2

from las_builder import plan
from las_builder.catalogs import Catalogs, Strata
from las_builder.core.options import Patch, Sites
from las_builder.plan.process import expected

UNIFORM = [{"share": 1.0, "uniform": "land"}]
CITIES = [{"share": 1.0, "near": "cities", "sigma_km": 25}]
MIXED = [
    {"share": 0.6, "near": "cities", "sigma_km": 25},
    {"share": 0.4, "strata": ["urbanisation"], "allocation": "sqrt"},
]
CLIMATE = [{"share": 1.0, "strata": ["climate-group"], "allocation": "equal"}]
NILE, JAVA, SAHARA = [30.0, 30.0, 32.5, 31.7], [105.0, -9.0, 115.0, -5.5], [0.0, 22.0, 2.0, 23.7]

DESIGNS = {
    # name: region, design, spacing, rule, count (None: as many as fit)
    "uniform": (NILE, UNIFORM, 0.0, "matern", 200),
    "cities": (NILE, CITIES, 0.0, "matern", 200),
    "mixture": (JAVA, MIXED, 0.0, "matern", 300),
    "strata, equal": (JAVA, CLIMATE, 0.0, "matern", 300),
    "uniform, 13 km, full": (SAHARA, UNIFORM, 13.0, "matern", None),
    "uniform, 12 km, coast, full": (NILE, UNIFORM, 12.0, "matern", None),
    "uniform, 2 km, islands, full": ("FJI", UNIFORM, 2.0, "matern", None),
    "uniform, 8 km, Svalbard, full": ([10, 76, 32, 81], UNIFORM, 8.0, "matern", None),
    "cities, 8 km, full": (NILE, CITIES, 8.0, "matern", None),
    "mixture, 6 km, full": (NILE, MIXED, 6.0, "matern", None),
    "mixture, 4 km, full": (JAVA, MIXED, 4.0, "matern", None),
    "cells, uniform, 8 km": (NILE, UNIFORM, 8.0, "cells", 200),
    "cells, mixture, 4 km": (JAVA, MIXED, 4.0, "cells", 300),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicates", type=int, default=500)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    print(
        "| design | sites | largest Λ | groups | chi2 p | worst group (z) | all of it | nominal |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, (region, design, spacing, rule, count) in DESIGNS.items():
        if arguments.only in name:
            print(one(name, region, design, spacing, rule, count, arguments.replicates), flush=True)


def one(
    name: str, region: object, design: list, spacing: float, rule: str, count: int | None,
    replicates: int,
) -> str:  # fmt: skip
    catalogs = Catalogs.load()

    def draft(n: int) -> plan.Draft:
        return plan.Draft.of(
            subset="a",
            sites=Sites(count=n, region=region, spacing_km=spacing, rule=rule, design=design),
            patch=Patch(size=64), imagery=catalogs.imagery("sentinel-2-l2a"), products=[],
            strata=Strata.load(catalogs), where="benchmark",
        )  # fmt: skip

    made = draft(count or 20)
    for _ in range(0 if count else 3):  # small counts round, so their proportions differ
        made = draft(math.floor(0.97 * (made.law.fits or 20)))
    law, target = made.law, made.law.target
    lon, lat = target.centres()
    crowd = expected(target, law.parent, lon, lat, spacing) if law.regions is None else law.wanted
    key = crowd if spacing and law.regions is None else law.wanted
    steps = np.unique(np.quantile(key[law.wanted > 0], [0.2, 0.4, 0.6, 0.8, 0.95]))
    group = np.searchsorted(steps, key) * 2 + (target.mixed >= 0)
    n = int(group.max()) + 1
    areas = np.bincount(group, np.where(law.wanted > 0, target.areas, 0), n)
    # As if survivors were as dense as parents: what weights without the spacing would be.
    mass = float(np.sum(law.parent * target.areas)) or 1.0
    nominal = made.sites.count * law.parent / mass
    totals, plain = [], []
    for seed in range(replicates):
        sites = dataclasses.replace(made, sites=made.sites.model_copy(update={"seed": seed})).draw()
        sites = sites.of_rows(sites.primary)
        cell = target.cell_at(sites.lon, sites.lat)
        totals.append(np.bincount(group[cell], sites.weight_km2, n))
        if law.regions is None:
            plain.append(np.bincount(group[cell], 1 / nominal[cell], n))
    mean, error = np.mean(totals, axis=0), np.std(totals, axis=0) / math.sqrt(replicates)
    error = np.maximum(error, 1e-9 * areas.sum())  # one stratum, no spacing: always its area
    some = areas > 0.005 * areas.sum()
    z = (mean - areas)[some] / error[some]
    # Groups of one draw are not independent: with their covariance.
    inside = np.array(totals)[:, some]
    covariance = np.atleast_2d(np.cov(inside.T)) / replicates
    away = (mean - areas)[some]
    values, vectors = np.linalg.eigh(covariance)
    known = values > 1e-9 * values.max()
    p = chi2.sf(float(((vectors.T @ away)[known] ** 2 / values[known]).sum()), known.sum())
    whole = np.sum(totals, axis=1)
    off = ""
    if plain:
        ratio = np.mean(plain, axis=0)[some] / areas[some]
        off = f"{ratio.min():.2f} to {ratio.max():.2f}"
    return (
        f"| {name} | {made.sites.count} | {crowd.max() if law.regions is None else 0:.2f} "
        f"| {some.sum()} | {p:.3f} | {z[np.abs(z).argmax()]:+.2f} "
        f"| {whole.mean() / areas.sum():.4f} ± {whole.std() / math.sqrt(replicates) / areas.sum():.4f} "
        f"| {off} |"
    )


if __name__ == "__main__":
    main()
