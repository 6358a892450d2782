"""Is a consensus better than its products, and does its confidence mean what it says?

    python benchmarks/consensus.py [--work work/consensus] [--gather] [--score] [--runs NAME ...]

Sites are those of a plan (60 % uniform on land, 40 % by the root of climates), so every site has a
weight; of each, an 8 x 8 grid of pixels 30 m apart. Four products say their codes there, in worlds
of the virtual Earth: the frozen one, other seeds, parameters turned by up to 30 %, common shares of
errors of 0, 0.25 and 0.5. The consensus sees codes, declarations and what is published; the truth
is used to score it, and at 500 reference sites (of the blocks of val and test) to calibrate it.
Scores of calibration are of 5,000 other sites, of the blocks of train.

What was gathered (an .npz a run, some 90 CPU seconds for all sites, 30 for a third) and scored (a
.json a run) is kept in --work and not made again; then the tables are printed.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from las_builder import plan, recipe
from las_builder.access.virtual.ground import Window, World
from las_builder.access.virtual.products import label
from las_builder.catalogs import Catalogs, LabelProduct
from las_builder.core.grid import Grid, from_lonlat, mgrs_zone, to_lonlat
from las_builder.core.types import Scene, Site
from las_builder.core.workspace import Workspace
from las_builder.run.sample import sample

PRODUCTS = ("esa-worldcover-v200", "dynamic-world", "io-lulc-annual", "glc-fcs30d")
TAXONOMY = "cover-9"
SIDE, APART = 8, 30.0
YEAR = 2021
REFERENCE, SCORED = 500, 5000
DRAWS = 200
DYNAMIC = {"product": "dynamic-world", "layer": "probabilities"}

SITES = """
name: consensus
imagery: sentinel-2-l2a
labels: [esa-worldcover-v200]
source: virtual
patch: {size: 48}
sites:
  count: 6200
  region: global
  seed: 3
  spacing_km: 4
  design:
    - {share: 0.6, uniform: land}
    - {share: 0.4, strata: [climate-group], allocation: sqrt}
dates: {period: 2021-01-01/2022-01-01}
splits: {train: 18, val: 1, test: 1, block_km: 100, buffer_km: 1, seed: 1}
"""


@dataclass(frozen=True)
class Run:
    """A world, and how many of the sites are looked at: every `step`-th."""

    name: str
    seed: int = 0
    share: float = 0.25
    """Of errors that are common to all products; 0.25 is the frozen one."""

    spread: float = 0.0
    draw: int = 0
    step: int = 1


RUNS = (
    Run("frozen"),
    Run("independent", share=0.0),
    Run("seed1", seed=1),
    Run("seed2", seed=2),
    Run("seed3", seed=3),
    Run("turned1", spread=0.3, draw=1),
    Run("turned2", spread=0.3, draw=2),
    *(Run(f"share{share:g}-seed{seed}", seed=seed, share=share, step=3)
      for share, seeds in ((0.5, range(5)), (0.0, range(1, 5)), (0.25, (4,))) for seed in seeds),
)


# ---- gathering


def catalogs_of(share: float, work: Path) -> Catalogs:
    """Our declarations, with this common share of errors."""
    ours = Catalogs.load()
    text = ours.file("virtual", "products").read_text()
    if f"common_share: {share:g} " in text or f"common_share: {share:g}\n" in text:
        return ours
    folder = work / f"catalogs-{share:g}"
    (folder / "virtual").mkdir(parents=True, exist_ok=True)
    changed = text.replace("common_share: 0.25", f"common_share: {share:g}")
    (folder / "virtual" / "products.yaml").write_text(changed)
    return Catalogs.load(folder)


def sites_of(work: Path) -> list[Site]:
    """The plan's, in the order of their ids."""
    work.mkdir(parents=True, exist_ok=True)
    file = work / "consensus.yaml"
    file.write_text(SITES)
    space = Workspace(work / "plan")
    found = (
        plan.read_plan(space.plan) if space.plan.exists() else sample(recipe.read(str(file)), space)
    )
    kept = [s for s in found if s.primary and s.split in ("train", "val", "test")]
    return sorted(kept, key=lambda s: s.id)


def points_of(site: Site) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Degrees of the middles of 8 x 8 pixels of 10 m of its UTM zone."""
    crs = _utm(site.lon or 0.0, site.lat or 0.0)
    x, y = from_lonlat(crs, np.array([site.lon]), np.array([site.lat]))
    steps = (np.arange(SIDE) - SIDE // 2) * APART
    middle = [np.floor(float(v[0]) / 10) * 10 + 5 for v in (x, y)]
    return to_lonlat(crs, *np.meshgrid(middle[0] + steps, middle[1] - steps))


def _utm(lon: float, lat: float) -> str:
    return f"EPSG:{326 if lat >= 0 else 327}{mgrs_zone(lon, lat):02d}"


def said_at(
    world: World, product: LabelProduct, catalogs: Catalogs, lon: NDArray[np.float64],
    lat: NDArray[np.float64], scene: Scene,
) -> tuple[NDArray[np.integer], NDArray[np.float32] | None]:  # fmt: skip
    """Codes, and layers of evidence, of the product's pixels under points."""
    crs = product.lattice.crs
    if crs == "mgrs-utm":
        crs = _utm(float(lon[SIDE // 2, SIDE // 2]), float(lat[SIDE // 2, SIDE // 2]))
    x, y = from_lonlat(crs, lon.ravel(), lat.ravel())
    (ox, oy), pixel = product.lattice.origin, product.lattice.pixel
    column, row = np.floor((x - ox) / pixel).astype(int), np.floor((oy - y) / pixel).astype(int)
    window = Window(
        crs, (ox, oy), (pixel, pixel), int(column.min()), int(row.min()),
        int(np.ptp(column)) + 1, int(np.ptp(row)) + 1,
    )  # fmt: skip
    found = label(world, product, catalogs.ontology, window, scene)
    if found is None:
        return np.full(lon.size, product.nodata, product.dtype), None
    codes, layers = found
    at = (row - window.row, column - window.column)
    return codes[at], np.stack([layer[at] for layer in layers.values()]) if layers else None


def gather(run: Run, work: Path) -> None:
    """Codes of every product, and the truth, at the points of the sites of a run."""
    out = work / f"{run.name}.npz"
    if out.exists():
        return
    started = time.process_time()
    catalogs = catalogs_of(run.share, work)
    world = World(catalogs.folders, run.seed, run.spread, run.draw)
    products = [catalogs.label(name) for name in PRODUCTS]
    sites = sites_of(work)[:: run.step]
    # By region: what a product does in a region is computed once.
    sites.sort(
        key=lambda s: (int((90 - (s.lat or 0)) / 13.5), int(((s.lon or 0) + 180) / 15), s.id)
    )
    codes: dict[str, list[Any]] = {name: [] for name in PRODUCTS}
    truth, chances = [], []
    for site in sites:
        lon, lat = points_of(site)
        place = Affine(0.001, 0, site.lon or 0, 0, -0.001, site.lat or 0)
        scene = Scene(
            id=f"scene-{site.id}", datetime=datetime(YEAR, 7, 1, tzinfo=UTC), cloud_cover=0.0,
            grid=Grid("EPSG:4326", place, SIDE, SIDE), assets={},
        )  # fmt: skip
        truth.append(world.truth(lon, lat, 10.0, YEAR).ravel())
        for product in products:
            found, layers = said_at(world, product, catalogs, lon, lat, scene)
            codes[product.name].append(found)
            if product.name == "dynamic-world":
                none = np.zeros((len(product.evidence), SIDE * SIDE), np.float32)
                chances.append(none if layers is None else layers)
    np.savez_compressed(
        out.with_suffix(".part.npz"),
        truth=np.array(truth, np.uint8),
        chances=np.round(np.array(chances) * 250).astype(np.uint8),
        weight=[s.weight_km2 or 0.0 for s in sites],
        lon=[s.lon for s in sites],
        lat=[s.lat for s in sites],
        split=[s.split for s in sites],
        **{name: np.array(rows) for name, rows in codes.items()},
    )
    out.with_suffix(".part.npz").rename(out)
    print(
        f"# {run.name}: {len(sites)} sites, {time.process_time() - started:.0f} CPU s", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("work/consensus"))
    parser.add_argument("--runs", nargs="*", default=[run.name for run in RUNS])
    options = parser.parse_args()
    runs = [run for run in RUNS if run.name in options.runs]
    for run in runs:
        gather(run, options.work)


if __name__ == "__main__":
    main()
