"""Is a consensus better than its products, and does its confidence mean what it says?

    python benchmarks/consensus.py [--work work/consensus] [--runs NAME ...]

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
import dataclasses
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from scipy.stats import t as student

from las_builder import plan, recipe
from las_builder.access.virtual.ground import Window, World
from las_builder.access.virtual.leaves import LEAVES
from las_builder.access.virtual.products import label
from las_builder.catalogs import Catalogs, LabelProduct
from las_builder.core.grid import Grid, from_lonlat, mgrs_zone, to_lonlat
from las_builder.core.options import ConsensusOptions
from las_builder.core.types import LabelMap, Scene, Site
from las_builder.core.workspace import Workspace
from las_builder.harmonise import Crosswalk
from las_builder.harmonise.consensus import Consensus, Design, Tuples, calibrate, fit, score
from las_builder.harmonise.consensus.dawid_skene import TINY
from las_builder.harmonise.consensus.held_out import scored
from las_builder.harmonise.consensus.model import ROOT, Table
from las_builder.harmonise.consensus.strata import strata_at
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
    *(Run(f"independent-seed{seed}", seed=seed, share=0.0) for seed in (1, 2, 3)),
    Run("independent-turned1", share=0.0, spread=0.3, draw=1),
    *(
        Run(f"share{share:g}-seed{seed}", seed=seed, share=share, step=3)
        for share, seeds in ((0.5, range(5)), (0.0, (4,)), (0.25, (4,)))
        for seed in seeds
    ),
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


# ---- scoring


@dataclass(frozen=True, eq=False)
class Gathered:
    """What is known of a run; (site, point) unless said otherwise."""

    codes: Mapping[str, NDArray[np.int64]]
    chances: NDArray[np.float64]
    """(site, layer, point) of Dynamic World."""

    truth: NDArray[np.uint8]
    weight: NDArray[np.float64]
    """(site,) km2."""

    stratum: NDArray[np.str_]
    """(site,) group of climates."""

    train: NDArray[np.bool_]
    """(site,) whether its block is one of train."""

    @classmethod
    def read(cls, path: Path, catalogs: Catalogs) -> Gathered:
        with np.load(path) as z:
            strata = strata_at(catalogs, ["climate-group"], z["lon"].tolist(), z["lat"].tolist())
            return cls(
                {name: z[name].astype(np.int64) for name in PRODUCTS}, z["chances"] / 250,
                z["truth"], z["weight"], np.array(strata), z["split"] == "train",
            )  # fmt: skip


class Bench:
    """One run's codes, and everything that is asked of them."""

    def __init__(self, catalogs: Catalogs, found: Gathered) -> None:
        self.catalogs, self.found = catalogs, found
        self.products = [catalogs.label(name) for name in PRODUCTS]
        self.taxonomy = catalogs.taxonomy(TAXONOMY)
        self.pixel = np.broadcast_to(found.weight[:, None], found.truth.shape)

    def design(self, **options: Any) -> Design:
        return Design.of(
            ConsensusOptions(**options), self.taxonomy, self.products, self.catalogs.ontology,
            self.catalogs.accuracies.values,
        )  # fmt: skip

    def symbols(self, design: Design) -> NDArray[np.int64]:
        """(site, point, product)."""
        layers = []
        for product, ballot in zip(self.products, design.ballots, strict=True):
            codes = self.found.codes[product.name]
            grid = Grid(None, Affine(1, 0, 0, 0, -1, 0), codes.shape[1], codes.shape[0])
            evidence = {
                name: self.found.chances[:, i] for i, name in enumerate(product.evidence)
            } if product.name == "dynamic-world" else {}  # fmt: skip
            layers.append(
                ballot.symbols(
                    LabelMap(
                        product=product.name, version="", grid=grid, codes=codes,
                        share=np.full(codes.shape, 100, np.uint8), evidence=evidence,
                    )
                )
            )  # fmt: skip
        return np.stack(layers, axis=-1).astype(np.int64)

    def atoms(self, design: Design) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """True atom and class of every point."""
        of = {leaf: i for i, atom in enumerate(design.classes.atoms) for leaf in atom}
        atom = np.array([of[leaf] for leaf in LEAVES])[self.found.truth]
        return atom, design.classes.of_atom[atom]

    def fit(self, design: Design, said: NDArray[np.int64]) -> Consensus:
        """On all sites; nothing of the truth goes in."""
        share = self.found.weight / self.found.weight.mean() / said.shape[1]
        counts = {}
        names = self.found.stratum if design.options.strata else np.full(len(share), "")
        for name in np.unique(names).tolist():
            here = np.flatnonzero(names == name)
            flat = said[here].reshape(-1, said.shape[-1])
            found, place = np.unique(flat, axis=0, return_inverse=True)
            weight = np.repeat(share[here], said.shape[1])
            counts[name] = Tuples(said=found, sites=np.bincount(place.ravel(), weight))
        return fit(design, counts, {})

    def decide(
        self, consensus: Consensus, said: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Label and confidence of every point."""
        label = np.empty(said.shape[:2], np.int64)
        sure = np.empty(said.shape[:2])
        for name in np.unique(self.found.stratum).tolist():
            here = np.flatnonzero(self.found.stratum == name)
            flat = said[here].reshape(-1, said.shape[-1])
            tuples, place = np.unique(flat, axis=0, return_inverse=True)
            a, b = consensus.decide(tuples, name)
            label[here] = a[place.ravel()].reshape(len(here), -1)
            sure[here] = b[place.ravel()].reshape(len(here), -1)
        return label, sure

    def told(self, design: Design, said: NDArray[np.int64]) -> Consensus:
        """A consensus of the same form that is told the true matrices, stratum by stratum."""
        atom, _ = self.atoms(design)
        n = len(design.classes.atoms)
        plain = self.fit(design, said)
        tables = {}
        for name in plain.tables:
            here = np.ones(len(atom), bool) if name == ROOT else self.found.stratum == name
            weight = self.pixel[here].ravel()
            says = []
            for p, ballot in enumerate(design.ballots):
                count = np.zeros((n, ballot.codes.size * ballot.levels))
                symbol = said[here][..., p].ravel()
                spoke = symbol >= 0
                np.add.at(count, (atom[here].ravel()[spoke], symbol[spoke]), weight[spoke])
                count += 1e-6 * max(1.0, float(count.sum())) / count.size
                says.append(np.log(count / count.sum(axis=1, keepdims=True)))
            prior = np.bincount(atom[here].ravel(), weight, n) / weight.sum()
            tables[name] = Table.of(np.log(np.maximum(prior, TINY)), says, float(here.sum()))
        return dataclasses.replace(plain, tables=tables, exponents=(1.0,) * len(design.ballots))

    def single(self) -> dict[str, NDArray[np.int64]]:
        """What every product says alone; -1 where its code is in no one class."""
        out = {}
        for product in self.products:
            table = Crosswalk.build(self.taxonomy, [product], self.catalogs.ontology).table
            code = np.array(sorted(table))
            index = np.array([table[c] for c in code.tolist()])
            found = index[np.searchsorted(code, self.found.codes[product.name])]
            out[product.name] = np.where(found == 255, -1, found)
        return out

    def matrix(self, truth: NDArray[np.int64], said: NDArray[np.int64]) -> NDArray[np.float64]:
        return score.confusion(
            truth.ravel(), said.ravel(), self.pixel.ravel(), len(self.taxonomy.classes)
        )


def score_run(run: Run, work: Path) -> dict[str, Any]:
    """All figures of a run."""
    out = work / f"{run.name}.json"
    if out.exists():
        return dict(json.loads(out.read_text()))
    catalogs = Catalogs.load()
    bench = Bench(catalogs, Gathered.read(work / f"{run.name}.npz", catalogs))
    plain = bench.design()
    _, truth = bench.atoms(plain)
    labels: dict[str, NDArray[np.int64]] = dict(bench.single())
    calibration = {}
    whole = run.step == 1
    methods: dict[str, dict[str, Any]] = {
        "vote": {"method": "vote"}, "bayes": {"method": "bayes"}, "dawid-skene": {},
    }  # fmt: skip
    if whole:
        methods |= {"dawid-skene, no lineage": {"rho": 0.0},
                    "dawid-skene with probabilities": {"evidence": [DYNAMIC]}}  # fmt: skip
    for name, options in methods.items():
        design = bench.design(**options)
        said = bench.symbols(design)
        fitted = bench.fit(design, said)
        labels[name], _ = bench.decide(fitted, said)
        if whole and name.startswith("dawid-skene") and "no" not in name:
            calibration[name] = calibrated(bench, fitted, said, truth)
    labels["told"], _ = bench.decide(bench.told(plain, bench.symbols(plain)), bench.symbols(plain))
    names = [entry.name for entry in bench.taxonomy.classes]
    result = {
        "seed": run.seed, "share": run.share, "spread": run.spread, "sites": len(truth),
        "area": [round(float(v), 4) for v in
                 np.bincount(truth.ravel(), bench.pixel.ravel(), len(names)) / bench.pixel.sum()],
        "classes": names,
        "miou": {k: round(score.mean_iou(bench.matrix(truth, v)), 4) for k, v in labels.items()},
        "iou": {k: [round(float(x), 3) for x in score.ious(bench.matrix(truth, v))]
                for k, v in labels.items()},
        "calibration": calibration,
    }  # fmt: skip
    out.write_text(json.dumps(result, indent=1))
    print(f"# {run.name}: {result['miou']}", flush=True)
    return result


def calibrated(
    bench: Bench, fitted: Consensus, said: NDArray[np.int64], truth: NDArray[np.int64]
) -> dict[str, Any]:
    """Calibrated on 500 sites of val and test, scored on 5,000 of train; all and each class."""
    reference = np.flatnonzero(~bench.found.train)[
        :: max(1, int((~bench.found.train).sum()) // REFERENCE)
    ]
    reference = reference[:REFERENCE]
    others = np.random.default_rng(0).permutation(np.flatnonzero(bench.found.train))[:SCORED]
    label, sure = bench.decide(fitted, said)
    site = np.broadcast_to(np.arange(len(label))[:, None], label.shape)
    stratum = np.repeat(bench.found.stratum[reference], label.shape[1])
    n = len(bench.taxonomy.classes)
    # Where nobody speaks there is no label.
    has = label[reference].ravel() >= 0
    found = calibrate(
        sure[reference].ravel()[has], label[reference].ravel()[has],
        (label == truth)[reference].ravel()[has], stratum[has], site[reference].ravel()[has],
        bench.pixel[reference].ravel()[has], truth[reference].ravel()[has], n,
    )  # fmt: skip
    _, now = bench.decide(fitted.calibrated(found), said)
    has = label[others].ravel() >= 0
    right, where = (label == truth)[others].ravel()[has], site[others].ravel()[has]
    weight, k = bench.pixel[others].ravel()[has], label[others].ravel()[has]
    stated, raw = (np.round(v[others].ravel()[has], 2) for v in (now, sure))
    rows = {"all": np.ones(k.size, bool)}
    rows |= {e.name: k == i for i, e in enumerate(bench.taxonomy.classes) if (k == i).any()}
    out: dict[str, Any] = {
        "reference": len(reference),
        "scored": len(others),
        "few": list(found.few),
    }
    for name, here in rows.items():
        out[name] = {
            **scored(stated[here], right[here], where[here], weight[here], draws=DRAWS),
            "uncalibrated": round(score.ece(raw[here], right[here], weight[here]), 4),
        }
    return out


def report(results: Mapping[str, Mapping[str, Any]]) -> None:
    """The tables."""
    methods = ["vote", "bayes", "dawid-skene", "dawid-skene, no lineage",
               "dawid-skene with probabilities", "told"]  # fmt: skip
    print("\nmIoU | run | best single |", " | ".join(methods))
    for name, r in results.items():
        best = max(r["miou"][p] for p in PRODUCTS)
        cells = [f"{r['miou'][m]:.3f}" if m in r["miou"] else "" for m in methods]
        print(f"| {name} ({r['sites']} sites) | {best:.3f} | {' | '.join(cells)} |")
    print("\npaired gain of dawid-skene over the best single product, five seeds")
    of = {(r["share"], r["seed"]): r for r in results.values() if not r["spread"]}
    for share in (0.0, 0.25, 0.5):
        gain = np.array([
            of[share, seed]["miou"]["dawid-skene"] - max(of[share, seed]["miou"][p] for p in PRODUCTS)
            for seed in range(5) if (share, seed) in of
        ])  # fmt: skip
        if gain.size > 1:
            half = student.ppf(0.95, gain.size - 1) * gain.std(ddof=1) / math.sqrt(gain.size)
            print(f"| {share:g} | {gain.size} seeds | mean {gain.mean():+.3f} | "
                  f"lower 95 % bound {gain.mean() - half:+.3f} | least {gain.min():+.3f} |")  # fmt: skip
    print("\nindependent errors: gain over the best single product; below the one that is told")
    for name, r in results.items():
        if r["share"] == 0:
            best = max(r["miou"][p] for p in PRODUCTS)
            for method in ("dawid-skene", "dawid-skene, no lineage"):
                if method in r["miou"]:
                    print(f"| {name} ({r['sites']} sites), {method} | {r['miou'][method] - best:+.3f} | "
                          f"{r['miou']['told'] - r['miou'][method]:.3f} |")  # fmt: skip
    print("\ncalibration errors above the bars (0.05; 0.10 in classes of 1 % and 30 sites)")
    for name, r in results.items():
        for method, c in r["calibration"].items():
            rows = [k for i, k in enumerate(r["classes"])
                    if k in c and r["area"][i] >= 0.01 and i not in c["few"]]  # fmt: skip
            over = [f"{k} {c[k]['ece']:.3f}" for k in rows if c[k]["ece"] > 0.10]
            over += [f"all {c['all']['ece']:.3f}"] if c["all"]["ece"] > 0.05 else []
            print(f"| {name}, {method} | all {c['all']['ece']:.3f} | worst class "
                  f"{max(c[k]['ece'] for k in rows):.3f} | {', '.join(over) or 'none'} |")  # fmt: skip
    for name, r in results.items():
        for method, c in r["calibration"].items():
            print(f"\n{name}, {method}: ECE on {c['scored']} sites, from {c['reference']}; few: "
                  f"{[r['classes'][k] for k in c['few']]}")  # fmt: skip
            for row in ("all", *r["classes"]):
                if row in c:
                    v = c[row]
                    area = 1.0 if row == "all" else r["area"][r["classes"].index(row)]
                    print(f"| {row} | {area:.3f} | {v['ece']:.3f} ({v['low']:.3f} to {v['high']:.3f})"
                          f" | {v['uncalibrated']:.3f} | {v['by_chance']:.3f} |")  # fmt: skip
    for name, r in results.items():
        print(f"\n{name}: IoU by class | {' | '.join(r['classes'])}")
        for method, row in r["iou"].items():
            print(f"| {method} | {' | '.join(f'{v:.2f}' for v in row)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("work/consensus"))
    parser.add_argument("--runs", nargs="*", default=[run.name for run in RUNS])
    options = parser.parse_args()
    results = {}
    for run in (run for run in RUNS if run.name in options.runs):
        gather(run, options.work)
        results[run.name] = score_run(run, options.work)
    report(results)


if __name__ == "__main__":
    main()
