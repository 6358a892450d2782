"""Are sites uniform on the land of the sphere? Latitudes of a million sites against PROJ, 20 seeds.

Land by band of 2 degrees is counted on the 1 km mask and weighed with PROJ's equal-area cylinder,
so nothing of the sampler's geometry is in it.
"""

from __future__ import annotations

import argparse
import dataclasses
import time

import numpy as np
from pyproj import Transformer
from scipy.stats import chi2

from las_builder import plan
from las_builder.catalogs import Catalogs, Strata
from las_builder.core.options import Patch, Sites

SOUTH, NORTH, STEP = -56, 84, 2


def land(strata: Strata) -> np.ndarray:
    """km2 of land in every band."""
    to = Transformer.from_crs("EPSG:4326", "EPSG:6933", always_xy=True)
    rows = 21600
    edges = 90 - np.arange(rows + 1) * (180 / rows)
    y = to.transform(0 * edges, edges)[1]
    around = to.transform(180.0, 0)[0] * 2
    lon = (np.arange(43200) + 0.5) / 120 - 180
    share = np.zeros(rows)
    for start in range(0, rows, 120):
        lat = (edges[start : start + 120] + edges[start + 1 : start + 121]) / 2
        share[start : start + 120] = strata.is_land(lon[None, :], lat[:, None]).mean(axis=1)
    area = share * -np.diff(y) * around / 1e6
    band = np.floor(((edges[:-1] + edges[1:]) / 2 - SOUTH) / STEP).astype(int)
    inside = (band >= 0) & (band < (NORTH - SOUTH) // STEP)
    return np.bincount(band[inside], area[inside], (NORTH - SOUTH) // STEP)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--spacing", type=float, default=0.0)
    arguments = parser.parse_args()
    catalogs = Catalogs.load()
    strata = Strata.load(catalogs)
    made = plan.Draft.of(
        subset="uniform", sites=Sites(count=arguments.count, spacing_km=arguments.spacing),
        patch=Patch(size=264), imagery=catalogs.imagery("sentinel-2-l2a"), products=[],
        strata=strata, where="benchmark",
    )  # fmt: skip
    area = land(strata)
    print(f"land by PROJ {area.sum():,.0f} km2, by the plan {made.law.target.area:,.0f} km2")
    passed = 0
    for seed in range(arguments.seeds):
        start = time.process_time()
        sites = dataclasses.replace(made, sites=made.sites.model_copy(update={"seed": seed})).draw()
        cpu = time.process_time() - start
        first = sites.of_rows(sites.primary)
        seen = np.histogram(first.lat, np.arange(SOUTH, NORTH + 1, STEP))[0]
        want = area / area.sum() * len(first)
        some = want >= 5
        statistic = ((seen - want)[some] ** 2 / want[some]).sum()
        p = chi2.sf(statistic, some.sum() - 1)
        passed += p > 0.01
        print(f"seed {seed:2d}: {len(first):,} sites, chi2 {statistic:6.1f}, p {p:.3f}, "
              f"{cpu:.1f} CPU s", flush=True)  # fmt: skip
    print(f"p > 0.01 in {passed} of {arguments.seeds} seeds (bar: 19 of 20)")


if __name__ == "__main__":
    main()
