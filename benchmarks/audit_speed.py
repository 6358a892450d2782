"""`las audit` of 10,000 sites and five products: seconds, and memory against 2,000 sites.

    python benchmarks/audit_speed.py [--sites 2000 10000] [--workers 2] [--places 64]

The plan is drawn as ever; the cube is written without a provider. What the products say is what five of
the virtual Earth say at `--places` places, a window of 264 x 264 pixels each, which every stored patch
takes one of, turned or mirrored. Images stay empty: an audit reads those of twelve patches. Counts are made
anew, none are there before.

Bars: 10,000 sites x 5 products in less than 120 s on 2 cores; the largest process and the process tree
with 10,000 sites within 10 % of 2,000. Seconds by the clock mean little on a busy machine, so those of
the processor are printed beside them: half of these is what two idle cores need at best.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import yaml
import zarr
from fetch_memory import las, watched

from las_builder import plan, recipe, run
from las_builder.access.virtual import VirtualEarth
from las_builder.access.virtual.confusion import errors_of
from las_builder.access.virtual.products import codes_of_leaves, legend_of, said
from las_builder.catalogs import Catalogs, LabelProduct
from las_builder.core.types import PinnedScene, Scene
from las_builder.core.workspace import Workspace, write_json
from las_builder.fetch import PatchResult, blocks_of
from las_builder.fetch.cube import create_round
from las_builder.scenes.table import Outcome, SceneTable

SIZE = 264
PRODUCTS = (
    "esa-worldcover-v200",
    "esa-worldcover-v100",
    "io-lulc-annual",
    "dynamic-world",
    "glc-fcs30d",
)


def recipe_of(sites: int) -> dict[str, object]:
    return {
        "name": "speed", "imagery": "sentinel-2-l2a", "bands": ["B04", "B03", "B02"],
        "labels": [PRODUCTS[0]], "compare": list(PRODUCTS[1:]), "taxonomy": "native",
        "source": "virtual", "patch": {"size": SIZE},
        "sites": {"count": sites, "region": "global", "seed": 1, "spacing_km": 4,
                  "design": [{"share": 1, "strata": ["climate-group"]}]},
        "dates": {"period": "2021-01-01/2022-01-01", "label_years": 1},
    }  # fmt: skip


def looked(earth: VirtualEarth, product: LabelProduct, places: np.ndarray) -> np.ndarray:
    """What a product says at some places, (places, y, x), pixels of 30 m repeated to 10 m."""
    from virtual_products import window_at

    ontology = earth.catalogs.ontology
    errors = errors_of(earth.world, product, ontology, codes_of_leaves(product, ontology))
    legend = legend_of(product, ontology)
    year = 2021 if product.epoch.rule == "same-scene" else product.epoch.year_for(2021)
    times = max(1, round(product.gsd / 10))
    out = np.empty((len(places), SIZE, SIZE), product.dtype)
    for i, (lon, lat) in enumerate(places.tolist()):
        window = window_at(product, lon, lat, -(-SIZE // times))
        codes = legend.codes[said(errors, legend, product.gsd, window, year, year).classes]
        out[i] = np.kron(codes, np.ones((times, times), codes.dtype))[:SIZE, :SIZE]
    return out


def turned(patches: np.ndarray, way: Sequence[int]) -> np.ndarray:
    """Each patch turned by quarters and mirrored."""
    return np.stack(
        [
            np.rot90(patch if w < 4 else patch[:, ::-1], w % 4)
            for patch, w in zip(patches, way, strict=True)
        ]
    )


def fabricate(file: Path, root: Path, pool: dict[str, np.ndarray]) -> None:
    """A workspace as `las fetch` leaves it."""
    corpus = recipe.read(str(file), catalogs=Catalogs.load())
    (subset,), space = corpus.subsets, Workspace(root)
    run.sample(corpus, space)
    home = space.subset(subset.name)
    day = datetime(2021, 6, 1, tzinfo=UTC)
    pinned = [
        PinnedScene(
            site=site.id, slot=0, grid=site.grid, clear=1.0,
            scene=Scene(id=f"s-{site.id}", datetime=day, cloud_cover=0.0, grid=site.grid, assets={}),
        )
        for site in plan.read_plan(space.plan)
        if site.primary
    ]  # fmt: skip
    SceneTable(tuple(Outcome(p.site, (p,), None) for p in pinned)).write(home.scenes(0))
    create_round(home.cube / "0", pinned, subset.layout)
    group = zarr.open_group(home.cube / "0", mode="r+")
    rng = np.random.default_rng(0)
    for block in blocks_of(0, len(pinned), subset.layout):
        rows = slice(block.start, block.stop)
        n = block.stop - block.start
        take, way = rng.integers(0, len(pool[PRODUCTS[0]]), n), rng.integers(0, 8, n).tolist()
        for name, patches in pool.items():
            group[f"labels/{name}"][rows] = turned(patches[take], way)
        versions = dict.fromkeys(PRODUCTS, "2021")
        lines = [
            PatchResult(row=i, site=pinned[i].site, slot=0, scene=pinned[i].scene.id, state="stored",
                        clear=1.0, versions=versions)
            for i in range(block.start, block.stop)
        ]  # fmt: skip
        content = {
            "block": block.name, "rows": [block.start, block.stop],
            "patches": [asdict(line) for line in lines], "checksums": {}, "version": "0",
        }  # fmt: skip
        write_json(home.block(block.name), content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, nargs="+", default=[2000, 10_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--places", type=int, default=64)
    asked = parser.parse_args()
    earth = VirtualEarth(Catalogs.load())
    from virtual_products import places

    first = earth.catalogs.label(PRODUCTS[0])
    at = places(first, earth.world, asked.places, 3)
    pool = {name: looked(earth, earth.catalogs.label(name), at) for name in PRODUCTS}
    found = {}
    for sites in asked.sites:
        work = Path(tempfile.mkdtemp(prefix="las-audit-"))
        try:
            file = work / "speed.yaml"
            file.write_text(yaml.safe_dump(recipe_of(sites)))
            fabricate(file, work / "speed", pool)
            before, clock = os.times(), time.monotonic()
            peak = watched(
                las("audit", str(file), "--work", str(work), "--workers", str(asked.workers))
            )
            after = os.times()
            said_ = json.loads((work / "speed" / "speed" / "audit" / "audit.json").read_text())
            if said_["sites"] != sites or len(said_["agreement"]) != 10:
                raise SystemExit("the audit is not of all sites and pairs")
            found[sites] = peak | {
                "seconds": time.monotonic() - clock,
                "cpu_seconds": after.children_user + after.children_system
                - before.children_user - before.children_system,
            }  # fmt: skip
        finally:
            shutil.rmtree(work)
        ratio = {
            k: round(found[sites][k] / found[asked.sites[0]][k], 3)
            for k in ("tree_mb", "largest_mb")
        }
        print(json.dumps({"sites": sites, **{k: round(v, 1) for k, v in found[sites].items()},
                          "ratio": ratio}), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
