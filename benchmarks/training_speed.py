"""How much of a training step is not the towers? Bar, on a GPU: at least 0.75 times the samples a second
of the bare towers (same weights, batch, compile), waiting for data less than 5 % of the time.

    python benchmarks/training_speed.py [--size base --side 512 --batch 8 --device cuda --compile]

Bare towers: SAM2's image encoder with its pyramid, and DOFA, on pixels that lie on the device; forward,
backward and AdamW of what is trained of them. Ours: `train` itself, from shards on the disk, with fusion, text,
decoder, losses, clipping and the mean of weights. In turns within one process: `train` tells of every `--steps` steps, and
between two tellings the towers run. Also written: floating-point operations of a step (counted by torch), their share of
what the card can do (`--peak`, TFLOP/s), and a profile of a step of the whole model.

Patches of 13 bands from the virtual Earth, built once into `--work`.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from las_builder import recipe, run
from las_builder.catalogs import Catalogs
from las_builder.core.workspace import Workspace
from las_builder.models import inputs
from las_builder.models.segmenter import LandSegmenter
from las_builder.models.text import Prompter, encoder, offline
from las_builder.pack import open_shards
from las_builder.run.pack import subset_info
from las_builder.train.config import TrainConfig
from las_builder.train.data import Batch, ShardSource, step_batches
from las_builder.train.loop import groups, loss_of, train
from las_builder.train.schedule import Schedule

PEAKS = {"H100": 989.0, "H200": 989.0, "A100": 312.0}
"""Dense bf16, TFLOP/s, from the makers' data sheets."""


def corpus(work: Path, side: int, sites: int, workers: int) -> tuple[Catalogs, ShardSource]:
    file = work / f"speed-{side}.yaml"
    work.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump({
        "name": f"speed-{side}", "imagery": "sentinel-2-l1c", "labels": ["dynamic-world"],
        "taxonomy": "native", "source": "virtual", "patch": {"size": side},
        "sites": {"count": sites, "seed": 3, "spacing_km": 20},
        "dates": {"period": "2021-05-15/2021-09-15", "per_site": 1, "max_cloud": 30},
        "splits": {"train": 1, "val": 0, "test": 0, "seed": 1},
    }))  # fmt: skip
    catalogs = Catalogs.load()
    space = Workspace(work / file.stem)
    found = recipe.read(str(file), catalogs=catalogs).resuming(space)
    if not (space.root / "manifest.json").exists():
        with run.Engine(workers=workers) as engine:
            run.build(found, space, engine)
    shards = open_shards(space.root / "shards", space.root / "index.parquet")
    return catalogs, ShardSource(subset_info(found.subsets[0]), shards)


def towers(model: LandSegmenter, batch: Batch, config: TrainConfig) -> Callable[[], None]:
    """A step of the encoders alone."""
    alone = copy.deepcopy(model).train()
    for name, part in alone.named_children():
        if name not in ("hiera", "neck", "spectral"):
            part.requires_grad_(False)
    optimiser = torch.optim.AdamW(groups(alone, config), lr=0.0, fused=True)
    place = next(alone.parameters()).device
    waves = tuple(batch.wavelengths)
    rgb = inputs.for_hiera(batch.image, waves, batch.level)
    bands = inputs.for_spectral(batch.image, waves, batch.level)

    class Both(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.alone = alone

        def forward(self, rgb: torch.Tensor, bands: torch.Tensor) -> torch.Tensor:
            out = torch.stack([p.float().mean() for p in self.alone.neck(self.alone.hiera(rgb))])
            if self.alone.spectral is not None:
                return out.sum() + self.alone.spectral(bands, waves).float().mean()
            return out.sum()

    both: Any = torch.compile(Both()) if config.compile else Both()

    def step() -> None:
        with torch.autocast(place.type, torch.bfloat16, enabled=place.type == "cuda"):
            loss = both(rgb, bands)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        float(loss.detach())

    return step


def timed(step: Callable[[], None], times: int) -> float:
    """Seconds of each."""
    began = time.perf_counter()
    for _ in range(times):
        step()
    return (time.perf_counter() - began) / times


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--size", default="base")
    asked.add_argument("--side", type=int, default=512)
    asked.add_argument("--sites", type=int, default=96)
    asked.add_argument("--batch", type=int, default=8)
    asked.add_argument("--steps", type=int, default=10, help="of a round")
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--workers", type=int, default=8, help="threads that read")
    asked.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    asked.add_argument("--compile", action="store_true")
    asked.add_argument("--peak", type=float, help="TFLOP/s of the device; known for some")
    asked.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "speed")
    asked.add_argument("--out", type=Path)
    said = asked.parse_args()
    place = torch.device(said.device)
    card = torch.cuda.get_device_name(place) if place.type == "cuda" else "CPU"
    catalogs, source = corpus(said.work, said.side, said.sites, min(said.workers, 8))
    rounds = said.rounds + 1  # the first warms up
    config = TrainConfig(
        size=said.size, model={"text": offline(), "zoom": 1}, steps=said.steps * rounds, batch=said.batch,
        crop=said.side, workers=said.workers, compile=said.compile, log_every=said.steps,
        save_every=10**9, look_every=10**9, drop_bands=0.0, warmup=1, cache_mib=8192,
    )  # fmt: skip
    prompter = Prompter(encoder(config.of_model().text))
    counts = [source.count("train")]
    schedule = Schedule(counts, config.steps, config.batch, config.seed, config.balance)
    batch = step_batches([source], schedule, config, catalogs.ontology, 0)[0]()
    torch.manual_seed(config.seed)
    model = LandSegmenter(config.of_model()).to(place)
    here = Batch(
        batch.subset, batch.keys, batch.image.to(place), batch.label.to(place),
        batch.weight.to(place), batch.wavelengths, batch.level, batch.classes,
    )  # fmt: skip
    text = torch.cat([prompter([one.names]) for one in here.classes]).to(place)

    def whole() -> None:
        with torch.autocast(place.type, torch.bfloat16, enabled=place.type == "cuda"):
            logits = model(here.image, here.wavelengths, text, here.level)
        loss_of(logits, here, config).backward()
        model.zero_grad(set_to_none=True)

    with FlopCounterMode(display=False) as counter:
        whole()
    flops = counter.get_total_flops()
    kinds = [torch.profiler.ProfilerActivity.CPU]
    key = "self_cpu_time_total"
    if place.type == "cuda":
        kinds, key = [*kinds, torch.profiler.ProfilerActivity.CUDA], "self_cuda_time_total"
    whole()
    with torch.profiler.profile(activities=kinds) as profile:
        whole()
        if place.type == "cuda":
            torch.cuda.synchronize()
    costs = profile.key_averages().table(sort_by=key, row_limit=15, max_name_column_width=60)
    bare = towers(model, here, config)
    timed(bare, 2)

    pairs: list[tuple[float, float]] = []
    waits: list[str] = []
    began = [time.perf_counter()]

    def told(line: str) -> None:
        if ", loss " not in line:
            return
        ours = (time.perf_counter() - began[0]) / said.steps
        pairs.append((ours, timed(bare, said.steps)))
        waits.append(line.rsplit(", ", 1)[1])
        print(
            f"{line}; a step of the towers {pairs[-1][1]:.4f} s, of ours {ours:.4f} s", flush=True
        )
        began[0] = time.perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        train(
            [source], catalogs.ontology, config, Path(folder) / "run", prompter=prompter,
            device=said.device, told=told,
        )  # fmt: skip
    pairs = pairs[1:]  # the last one's files are written after it is told
    ratio = [bare_s / ours for ours, bare_s in pairs]
    ours = statistics.median(one for one, _ in pairs)
    peak = said.peak or next((tflops for name, tflops in PEAKS.items() if name in card), None)
    result = {
        "device": card, "size": said.size, "side": said.side, "batch": said.batch,
        "compile": said.compile, "precision": "bf16" if place.type == "cuda" else "fp32",
        "samples_a_second": round(said.batch / ours, 3),
        "of_the_bare_towers": [round(f(ratio), 3) for f in (min, statistics.median, max)],
        "waiting": waits[1:], "tflop_a_step": round(flops / 1e12, 4),
        "mfu": round(flops / ours / peak / 1e12, 4) if peak else None,
    }  # fmt: skip
    print(costs)
    print(json.dumps(result, indent=1))
    if said.out:
        said.out.mkdir(parents=True, exist_ok=True)
        (said.out / "training_speed.json").write_text(json.dumps(result, indent=1) + "\n")
        (said.out / "training_speed.txt").write_text(costs)


if __name__ == "__main__":
    main()
