"""Speed of plans: a million stratified, spaced sites; the whole corpus; the method of SSL4EO-S12.

The method is "a city of the 10,000 largest, a Gaussian of 50 km around it in degrees, rejected if
its box meets one in an R-tree", written from its description; once with one generator, and once
with the generator and the choice from a list that the published code makes for every point
(zhu-xlab/SSL4EO-S12, src/download_data/ssl4eo_s12_downloader.py), which is timed on few points.
It needs `pip install rtree`. Every part runs in a process of its own, and is warmed up by a small
draw, so that compiling (cached on disk) is not in it. Seconds are of CPU, imports left out.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def draft(count: int, region: str = "global"):
    from las_builder import plan
    from las_builder.catalogs import Catalogs, Strata
    from las_builder.core.options import Patch, Sites

    catalogs = Catalogs.load()
    design = [{"share": 1.0, "strata": ["climate", "continent"], "allocation": "proportional"}]
    return plan.Draft.of(
        subset="a", sites=Sites(count=count, region=region, spacing_km=4, design=design),
        patch=Patch(size=264), imagery=catalogs.imagery("sentinel-2-l2a"), products=[],
        strata=Strata.load(catalogs), where="benchmark",
    )  # fmt: skip


def million(count: int) -> dict[str, float]:
    draft(200, "KEN").draw()
    start, wall = time.process_time(), time.perf_counter()
    made = draft(count)
    places = time.process_time()
    table = made.draw()
    done = time.process_time()
    return {
        "sites": int(table.primary.sum()),
        "reserves": int((~table.primary).sum()),
        "cpu_s": done - start,
        "draft_cpu_s": places - start,
        "wall_s": time.perf_counter() - wall,
        "nearest_km": nearest(table),
    }


def nearest(table) -> float:
    from scipy.spatial import cKDTree

    from las_builder.plan.sphere import cartesian

    return float(cKDTree(cartesian(table.lon, table.lat)).query(
        cartesian(table.lon, table.lat), k=2
    )[0][:, 1].min())  # fmt: skip


def corpus(_: int) -> dict[str, float]:
    from las_builder.core.workspace import Workspace
    from las_builder.recipe import read
    from las_builder.run.sample import sample

    draft(200, "KEN").draw()
    found = read("las")
    with tempfile.TemporaryDirectory() as folder:
        start, wall = time.process_time(), time.perf_counter()
        sites = sample(found, Workspace(Path(folder) / "las"))
        cpu, waited = time.process_time() - start, time.perf_counter() - wall
    names = {site.subset for site in sites} if len(sites) < 1e6 else ()
    return {
        "sites": sum(site.primary for site in sites), "subsets": len(names), "cpu_s": cpu,
        "wall_s": waited,
    }  # fmt: skip


def ssl4eo(count: int, *, as_published: bool = False) -> dict[str, float]:
    import rtree

    from las_builder.catalogs import Catalogs, Strata

    cities = Strata.load(Catalogs.load()).cities
    points = np.column_stack([cities.lon, cities.lat])[:10_000]
    listed = points.tolist()
    degree = 2 * np.pi * 6371 / 360
    spread, half = 50 / degree, 1.32 / degree
    rng = np.random.default_rng(0)
    tree = rtree.index.Index()
    found: list[tuple[float, float]] = []
    tries = 0
    start = time.process_time()
    while len(found) < count:
        tries += 1
        if as_published:
            at = np.random.default_rng().choice(listed)
            lon, lat = np.random.normal(loc=at, scale=[spread, spread])  # noqa: NPY002
        else:
            lon, lat = rng.normal(points[rng.integers(len(points))], spread)
        box = (lon - half, lat - half, lon + half, lat + half)
        if tree.count(box):
            continue
        tree.insert(len(found), box)
        found.append((lon, lat))
    return {"sites": count, "tries": tries, "cpu_s": time.process_time() - start}


def published(count: int) -> dict[str, float]:
    return ssl4eo(count, as_published=True)


PARTS = {"million": million, "corpus": corpus, "ssl4eo": ssl4eo, "published": published}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--part", choices=PARTS)
    arguments = parser.parse_args()
    if arguments.part:
        said = PARTS[arguments.part](arguments.count)
        said["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(said))
        return
    got = {}
    for part in PARTS:
        count = 3000 if part == "published" else arguments.count
        line = subprocess.run(
            [sys.executable, __file__, "--part", part, "--count", str(count)],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        got[part] = json.loads(line.splitlines()[-1])
        print(part, {k: round(v, 2) for k, v in got[part].items()}, flush=True)
    ours = got["million"]["cpu_s"]
    each = got["published"]["cpu_s"] / got["published"]["sites"]
    print(f"against the method with one generator: {got['ssl4eo']['cpu_s'] / ours:.1f} times")
    print(
        f"against it as published: {each * arguments.count / ours:.0f} times "
        f"({1000 * each:.2f} ms a point on an empty tree, rejections left out)"
    )


if __name__ == "__main__":
    main()
