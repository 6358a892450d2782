"""Does the model learn more than its labels say? On the virtual Earth, where the truth is known.

Three subsets with labels of three products that err as often as published ones: Sentinel-2 L2A with
WorldCover (eleven classes), Landsat-8/9 with NLCD (its legend), Sentinel-2 L1C with Dynamic World
(its legend). `nano` is trained on the labels of one part of the world, in blocks of 300 km, and
held against the truth of another; so are those labels themselves, and random forests trained on
single pixels with the same labels (two million in all, a third from each subset: one forest a
subset). Scenes are of the northern summer: under snow nothing tells what the truth is. mIoU is the
mean over the classes in the truth, of one confusion matrix over all test pixels of a subset whose
surface was seen and that have a label; the figure is the mean over the three subsets.

    python benchmarks/learning.py [--work /tmp/learning] [--only headline forest base no-text ...]

Every run writes benchmarks/results/learning/<run>.json when it ends, and is skipped if that is there (those
of the tables are: delete one to make it again); one that was killed goes on where it was. One thread. The headline run has 8,000 steps of 32 crops of 32 x 32;
ablations and seeds run on a short schedule of 1,000. Packing takes some
20 minutes of two cores, the headline run 30 CPU minutes, a short one 4. Needs scikit-learn.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from las_builder import recipe, run
from las_builder.access.virtual import VirtualEarth
from las_builder.catalogs import Catalogs
from las_builder.core.types import IGNORE
from las_builder.core.workspace import Workspace, write_json
from las_builder.evaluate.windows import blended
from las_builder.harmonise import Crosswalk
from las_builder.models import checkpoint
from las_builder.models.text import Prompter, encoder
from las_builder.pack import Shards, open_shards
from las_builder.run.pack import subset_info
from las_builder.train.config import TrainConfig
from las_builder.train.data import ShardSource
from las_builder.train.loop import train
from las_builder.train.metrics import confusion, metrics

RESULTS = Path(__file__).parent / "results" / "learning"
PRODUCTS = ["io-lulc-annual", "glc-fcs30d", "dynamic-world"]
PIXELS = 2_000_000
SEEDS = (0, 1, 2)


def _subset(name: str, imagery: str, label: str, **more: Any) -> dict[str, Any]:
    sites = {"count": 900, "seed": 7, "spacing_km": 4, **more.pop("sites", {})}
    return {
        "name": name, "imagery": imagery, "labels": [label], "compare": [], "taxonomy": "native",
        "source": "virtual", "patch": {"size": 96}, "sites": sites,
        "dates": {"period": "2021-05-15/2021-09-15", "per_site": 1, "choose": "clearest",
                  "max_cloud": 30, "patch_min_clear": 0.9},
        "shards": {"samples": 128}, **more,
    }  # fmt: skip


SUBSETS = [
    _subset("learn-s2", "sentinel-2-l2a", "esa-worldcover-v200", compare=PRODUCTS,
            taxonomy="worldcover-11"),
    _subset("learn-l89", "landsat-c2-l2", "nlcd", sites={"count": 700, "region": "USA"}),
    _subset("learn-toa", "sentinel-2-l1c", "dynamic-world"),
]  # fmt: skip
SPLITS = {"train": 10, "val": 1, "test": 2, "block_km": 300, "buffer_km": 10, "seed": 1}

# Many small crops: pixels of one place are alike, so a step learns from places rather than from pixels
# (one subset, 25 CPU s of a network of pixels: 8 crops of 64 0.38, 128 of 8 0.62).
# Augmentation of bands, names and classes is off: all test patches have all bands and are asked for the
# names of training. (All of it at once, one seed, 200 steps: 0.153 with it, 0.202 without.)
COMMON: dict[str, Any] = {
    "size": "nano", "batch": 32, "crop": 32, "scale": (1.0, 1.0), "lr": 3e-3, "clip": 1.0,
    "weight_decay": 0.02, "drop_bands": 0, "drop_classes": 0, "merge_classes": 0,
    "synonyms": False, "log_every": 20, "look_samples": 32, "workers": 0, "cache_mib": 3000,
}  # fmt: skip
LONG: dict[str, Any] = {"steps": 8000, "warmup": 200, "ema": 0.998, "look_every": 700,
                        "save_every": 100}  # fmt: skip
SHORT: dict[str, Any] = {"steps": 1000, "warmup": 50, "ema": 0.99, "look_every": 1000,
                         "save_every": 100}  # fmt: skip
MODEL: dict[str, Any] = {"zoom": 1}
WINDOW = 96
"""Of prediction, pixels: a whole patch."""


@dataclass(frozen=True)
class Variant:
    """One thing that is done differently."""

    run: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    labels: str = "single"


VARIANTS = {
    "base": Variant(),
    "no-text": Variant(model={"text": "names"}),
    "no-dofa": Variant(model={"spectral": None}),
    "no-high-frequencies": Variant(model={"frequency": 0}),
    "no-confidence": Variant(run={"confidence": False}),
    "consensus": Variant(labels="consensus"),
    "consensus-no-confidence": Variant(run={"confidence": False}, labels="consensus"),
    "gce": Variant(run={"loss": "gce"}),
}
IRRELEVANT = (
    "airplane", "swimming pool", "parking lot", "solar panel", "stadium", "ship", "tennis court",
    "storage tank", "wind turbine", "greenhouse", "railway station", "golf course", "bridge",
    "airport runway", "cemetery", "quarry", "dam", "harbour", "oil well", "church",
)  # fmt: skip


def prepare(work: Path, kind: str) -> tuple[recipe.Corpus, Shards]:
    """The corpus, built once, and packed: `single`, with one product a subset, or `consensus`, with
    a consensus of four products on learn-s2."""
    folder = work / "recipes" / kind
    folder.mkdir(parents=True, exist_ok=True)
    for subset in SUBSETS:
        said = dict(subset)
        if kind == "consensus" and said["compare"]:
            said["labels"], said["compare"] = said["labels"] + said["compare"], []
        (folder / f"{said['name']}.yaml").write_text(yaml.safe_dump(said))
    parts = [{"recipe": f"{subset['name']}.yaml"} for subset in SUBSETS]
    file = folder / "learn.yaml"
    file.write_text(yaml.safe_dump({"name": "learn", "subsets": parts, "splits": SPLITS}))
    space = Workspace(work / "work" / "learn")
    corpus = recipe.read(str(file), catalogs=Catalogs.load()).resuming(space)
    into = work / "consensus" if kind == "consensus" else None
    where = into or space.root
    if not (where / "manifest.json").exists():
        with run.Engine(workers=2) as engine:
            if kind == "single":
                run.build(corpus, space, engine)
            else:
                run.pack(corpus, space, engine, into=into)
    return corpus, open_shards(where / "shards", where / "index.parquet")


def sources_of(corpus: recipe.Corpus, shards: Shards, cache: int = 0) -> list[ShardSource]:
    return [ShardSource(subset_info(s), shards, cache) for s in corpus.subsets]


def truths(corpus: recipe.Corpus, shards: Shards, work: Path) -> dict[str, dict[str, NDArray[Any]]]:
    """Of every subset, key of a test patch to the classes that it really has."""
    file = work / "truth.npz"
    earth = VirtualEarth(corpus.catalogs)
    if not file.exists():
        out = {}
        for subset in corpus.subsets:
            crosswalk, (product,) = subset.crosswalk, subset.labels
            assert isinstance(crosswalk, Crosswalk)
            table = np.full(max(crosswalk.table) + 1, IGNORE, np.uint8)
            for code, index in crosswalk.table.items():
                table[code] = index
            for entry in shards.entries:
                if entry.subset == subset.name and entry.split == "test":
                    grid = shards.read(entry).grid
                    codes = earth.truth_codes(product, *grid.lonlat())
                    out[f"{subset.name}/{entry.key}"] = table[codes]
        np.savez_compressed(file, **out)
    by: dict[str, dict[str, NDArray[Any]]] = {}
    with np.load(file) as stored:
        for name in stored.files:
            subset_name, _, key = name.partition("/")
            by.setdefault(subset_name, {})[key] = stored[name]
    return by


def summary(counts: dict[str, NDArray[np.int64]]) -> dict[str, Any]:
    """Of (truth, said) counts of every subset."""
    scores = {name: metrics(c) for name, c in counts.items()}
    return {
        "miou": float(np.mean([s.miou for s in scores.values()])),
        "subsets": {
            name: {
                "miou": s.miou, "overall": s.overall,
                "iou": [None if np.isnan(v) else round(v, 4) for v in s.iou.tolist()],
            }
            for name, s in scores.items()
        },
    }  # fmt: skip


def judged(
    sources: list[ShardSource], truth: dict[str, dict[str, NDArray[Any]]], say: Any, limit: int = 0
) -> dict[str, Any]:
    """Test patches against the truth: what `say(source, patch)` makes of them, and their labels."""
    said, labels = {}, {}
    for source in sources:
        k = len(source.classes)
        said[source.name], labels[source.name] = np.zeros((2, k, k), np.int64)
        for i in range(min(source.count("test"), limit or 10**9)):
            patch = source.read("test", i)
            true = np.where(patch.label == IGNORE, np.uint8(IGNORE), truth[source.name][patch.key])
            said[source.name] += confusion(true, say(source, patch), k)
            labels[source.name] += confusion(true, patch.label, k)
    return {"model": summary(said), "labels": summary(labels)}


def model_says(model: Any, prompter: Prompter, extra: tuple[str, ...] = ()) -> Any:
    """The class that a model finds likeliest; names in `extra` are asked for too and never right."""

    def say(source: ShardSource, patch: Any) -> NDArray[np.int64]:
        names = [c.names for c in source.classes] + [(name,) for name in extra]

        def probabilities(images: NDArray[np.float32]) -> NDArray[np.float32]:
            with torch.inference_mode():
                given = torch.from_numpy(images), source.wavelengths, prompter(names), source.level
                return model(*given).softmax(dim=1).numpy()

        best = np.zeros(patch.label.shape, np.int64)
        for piece in blended(  # as `las predict` does
            lambda r, c, h, w: patch.image[:, r : r + h, c : c + w], probabilities,
            *patch.label.shape, classes=len(names), window=WINDOW,
        ):  # fmt: skip
            best[piece.row : piece.row + piece.probability.shape[1]] = piece.probability.argmax(0)
        if not extra:
            return best
        # An irrelevant name costs the pixel: it goes to a class that the truth never is there.
        wrong = (np.clip(patch.label, 0, len(source.classes) - 1) + 1) % len(source.classes)
        return np.where(best < len(source.classes), best, wrong)

    return say


def learn(name: str, seed: int, truth: Any, work: Path) -> dict[str, Any]:
    """One run of the model."""
    variant = VARIANTS.get(name, VARIANTS["base"])
    corpus, shards = prepare(work, "single")
    plain = sources_of(corpus, shards)  # the same test pixels for all
    schedule = LONG if name == "headline" else SHORT
    config = TrainConfig(
        **{**COMMON, **schedule, **variant.run, "seed": seed, "model": {**MODEL, **variant.model}}
    )
    sources = sources_of(*prepare(work, variant.labels), config.cache_mib)
    prompter = Prompter(encoder(config.of_model().text))
    folder = work / "runs" / f"{name}-{seed}"
    cpu, wall = time.process_time(), time.time()
    final = train(
        sources, corpus.catalogs.ontology, config, folder, prompter=prompter,
        told=lambda line: print(f"{name}-{seed}: {line}", flush=True),
    )  # fmt: skip
    spent = {"cpu_s": round(time.process_time() - cpu), "wall_s": round(time.time() - wall)}
    model = checkpoint.load(final).eval()
    out = {"run": name, "seed": seed, **spent, "config": config.model_dump(mode="json"),
           "samples": {s.name: [s.count(p) for p in ("train", "val", "test")] for s in sources},
           **judged(plain, truth, model_says(model, prompter))}  # fmt: skip
    if variant.labels == "consensus":
        out["labels"] = judged(sources, truth, lambda _, patch: patch.label * 0)["labels"]
    if name == "headline":
        out["irrelevant_names"] = {
            n: judged(plain, truth, model_says(model, prompter, IRRELEVANT[:n]), 100)["model"][
                "miou"
            ]
            for n in (0, 1, 5, 20)
        }
    return out


def forest(corpus: Any, shards: Any, truth: Any) -> dict[str, Any]:
    """Random forests on single pixels, one a subset."""
    from sklearn.ensemble import RandomForestClassifier

    sources, cpu = sources_of(corpus, shards), time.process_time()
    trees = {}
    for source in sources:
        count = source.count("train")
        each = -(-PIXELS // len(sources) // count)
        chance, x, y = np.random.default_rng(5), [], []
        for i in range(count):
            patch = source.read("train", i)
            known = np.flatnonzero(patch.label.ravel() != IGNORE)
            pick = chance.choice(known, min(each, len(known)), replace=False)
            x.append(patch.image.reshape(len(patch.image), -1)[:, pick].T)
            y.append(patch.label.ravel()[pick])
        fitted = RandomForestClassifier(60, min_samples_leaf=4, n_jobs=1, random_state=0)
        trees[source.name] = fitted.fit(np.concatenate(x), np.concatenate(y))
        print(f"forest: {source.name}, {sum(map(len, y))} pixels", flush=True)

    def say(source: ShardSource, patch: Any) -> NDArray[np.int64]:
        pixels = patch.image.reshape(len(patch.image), -1).T
        return trees[source.name].predict(pixels).reshape(patch.label.shape)

    scores = judged(sources, truth, say)
    return {"run": "forest", "cpu_s": round(time.process_time() - cpu), "trees": 60,
            "min_samples_leaf": 4, "pixels": PIXELS, **scores}  # fmt: skip


def table() -> str:
    """What has been run so far, as Markdown."""
    rows = [
        "| run | seeds | mIoU, mean of three subsets | s2 | l89 | toa |",
        "|---|---|---|---|---|---|",
    ]
    found: dict[str, list[dict[str, Any]]] = {}
    for file in sorted(RESULTS.glob("*.json")):
        one = json.loads(file.read_text())
        found.setdefault(one["run"], []).append(one)
    for name in ("headline", "forest", *VARIANTS):
        for part in ("labels", "model") if name == "headline" else ("model",):
            some = [one[part] for one in found.get(name, [])]
            if some:
                cells = [[s["miou"] for s in some]] + [
                    [s["subsets"][subset["name"]]["miou"] for s in some] for subset in SUBSETS
                ]
                said = [
                    f"{np.mean(c):.3f}" + (f" ± {np.std(c, ddof=1):.3f}" if len(c) > 1 else "")
                    for c in cells
                ]
                title = "labels that it was trained on" if part == "labels" else name
                rows.append(f"| {title} | {len(some)} | {' | '.join(said)} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("/tmp/learning"))
    parser.add_argument("--only", nargs="*", help="headline, forest, and names of variants")
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    corpus, shards = prepare(asked.work, "single")
    truth = truths(corpus, shards, asked.work)
    todo = [("headline", 0), ("forest", 0)]
    todo += [(name, seed) for seed in asked.seeds for name in VARIANTS]
    for name, seed in todo:
        file = RESULTS / (
            f"{name}.json" if name in ("headline", "forest") else f"{name}-{seed}.json"
        )
        if file.exists() or (asked.only and name not in asked.only):
            continue
        write_json(
            file,
            forest(corpus, shards, truth)
            if name == "forest"
            else learn(name, seed, truth, asked.work),
        )
        print(table(), flush=True)
    print(table())


if __name__ == "__main__":
    main()
