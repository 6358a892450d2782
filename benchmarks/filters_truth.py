"""Are the pixels that filters ignore wrong more often than those that they leave?

Builds a corpus of the virtual Earth, applies each pixel step alone to its packed labels, and holds
the labels against the truth at the centre of every product pixel. A step earns its keep if the
error among what it takes is a multiple of the error among what it leaves; one that takes at random
has a ratio of 1.

    python benchmarks/filters_truth.py [--sites 120] [--work /tmp/filters]
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import yaml
from pydantic import TypeAdapter
from pyproj import Transformer

from las_builder import recipe, run
from las_builder.access.virtual import VirtualEarth
from las_builder.catalogs import LabelProduct
from las_builder.core.grid import Grid
from las_builder.core.types import IGNORE, Harmonised
from las_builder.core.workspace import Workspace
from las_builder.harmonise.filters import Filters, Seen, Step
from las_builder.pack import Decoded, open_shards

STEPS = (
    {"step": "spectral_veto"},
    {"step": "temporal_stability"},
    {"step": "erode_edges", "pixels": 1},
    {"step": "erode_edges", "pixels": 3},
)


def truth_of(earth: VirtualEarth, product: LabelProduct, grid: Grid) -> np.ndarray:
    """Codes that the product has where it does not err, under the centre of every pixel."""
    x, y = np.meshgrid(*grid.xy())
    crs = grid.crs if product.lattice.crs == "mgrs-utm" else product.lattice.crs
    px, py = Transformer.from_crs(grid.crs, crs, always_xy=True).transform(x, y)
    (ox, oy), pixel = product.lattice.origin, product.lattice.pixel
    cx = (np.floor((px - ox) / pixel) + 0.5) * pixel + ox
    cy = (np.floor((py - oy) / pixel) + 0.5) * pixel + oy
    lon, lat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(cx, cy)
    return earth.truth_codes(product, lon, lat)


def label_of(sample: Decoded) -> Harmonised:
    return Harmonised(
        taxonomy="", classes=sample.label, confidence=sample.confidence,
        confidence_kind=sample.metadata["confidence_kind"], voters=sample.label * 0 + 1,
    )  # fmt: skip


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--sites", type=int, default=120)
    arguments.add_argument("--size", type=int, default=96)
    arguments.add_argument("--label", default="dynamic-world")
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--work", type=Path)
    asked = arguments.parse_args()
    work = asked.work or Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    path = work / "filters.yaml"
    content = {
        "name": "filters", "imagery": "sentinel-2-l2a", "bands": ["B03", "B04", "B08", "B11"],
        "labels": [asked.label], "source": "virtual", "taxonomy": "cover-9",
        "patch": {"size": asked.size}, "sites": {"count": asked.sites, "seed": 11},
        "dates": {"period": "2021-01-01/2022-01-01", "per_site": 2, "max_cloud": 30,
                  "patch_min_clear": 0.8},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(content))
    corpus = recipe.read(str(path))
    (subset,) = corpus.subsets
    space = Workspace(work / "filters")
    with run.Engine(workers=asked.workers) as engine:
        run.build(corpus, space, engine)

    product, catalogs = subset.labels[0], corpus.catalogs
    earth = VirtualEarth(catalogs)
    shards = open_shards(space.shards, space.index)
    by_site: dict[str, list[Decoded]] = defaultdict(list)
    for entry in shards.entries:
        sample = shards.read(entry)
        by_site[sample.metadata["site"]].append(sample)
    chains = []
    for said in STEPS:
        if said["step"] == "temporal_stability" and product.epoch.rule == "fixed":
            continue
        chain = Filters.build(
            TypeAdapter(list[Step]).validate_python([said]),
            taxonomy=subset.crosswalk.taxonomy, products=subset.labels, imagery=subset.imagery,
            bands=subset.bands, dates=subset.recipe.dates, catalogs=catalogs, where=path,
        )  # fmt: skip
        chains.append((said, chain))
    taken, wrong = np.zeros((len(chains), 2)), np.zeros((len(chains), 2))
    classes = [entry.name for entry in subset.crosswalk.taxonomy.classes]
    vetoed: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for samples in by_site.values():
        for sample in samples:
            codes = truth_of(earth, product, sample.grid)
            right = np.vectorize(lambda code: subset.crosswalk.table[int(code)])(codes)
            others = [label_of(other) for other in samples if other is not sample]
            label = label_of(sample)
            seen = Seen(
                grid=sample.grid, image=sample.image, valid=sample.valid, scale=sample.scale,
                offset=sample.offset, others=others,
            )  # fmt: skip
            judged = sample.valid & (sample.label != IGNORE) & (right != IGNORE)
            errs = judged & (sample.label != right)
            for i, (said, chain) in enumerate(chains):
                gone = (chain.apply(label, seen).label.classes == IGNORE) & judged
                for side, mask in enumerate((gone, judged & ~gone)):
                    taken[i, side] += mask.sum()
                    wrong[i, side] += (errs & mask).sum()
                if said["step"] == "spectral_veto":
                    for index in np.unique(sample.label[gone]):
                        here = gone & (sample.label == index)
                        vetoed[classes[index]][0] += int(here.sum())
                        vetoed[classes[index]][1] += int((errs & here).sum())
    print(f"{product.name}: {sum(map(len, by_site.values()))} patches of {len(by_site)} sites")
    for i, (said, _) in enumerate(chains):
        rate = wrong[i] / np.maximum(taken[i], 1)
        print(
            f"{said}: takes {taken[i, 0] / taken[i].sum():.3%} of valid labelled pixels; wrong "
            f"{rate[0]:.1%} of them, {rate[1]:.1%} of the rest: ratio {rate[0] / rate[1]:.1f}"
        )
    for name, (n, bad) in sorted(vetoed.items()):
        print(f"  vetoed {name}: {n} pixels, {bad / n:.1%} wrong")


if __name__ == "__main__":
    main()
