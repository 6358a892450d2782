"""Training, flat and in order."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn as averaged

from las_builder.catalogs import Ontology
from las_builder.errors import CheckpointError, InputError, TrainingError
from las_builder.models import checkpoint
from las_builder.models.segmenter import LandSegmenter
from las_builder.models.text import Prompter, check_classes
from las_builder.train import losses, state
from las_builder.train.augment import Name
from las_builder.train.config import TrainConfig
from las_builder.train.data import Batch, Source, ahead, step_batches, whole_batches
from las_builder.train.metrics import confusion, metrics
from las_builder.train.report import Picture, write_report
from las_builder.train.schedule import Schedule, stream

NOTHING: Mapping[str, Any] = {"subsets": [], "products": [], "classes": []}
"""What weights that no run of ours has made were trained on, see `trained_on`."""

_NAMES = 9  # stream of random numbers: which synonym a class is asked by


@dataclass(frozen=True, slots=True)
class Ranks:
    """The processes that train together (torchrun)."""

    rank: int = 0
    world: int = 1
    local: int = 0

    @classmethod
    def join(cls, device: torch.device) -> Ranks:
        """Those that the environment speaks of; alone without."""
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world == 1:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(dist.get_rank(), world, int(os.environ.get("LOCAL_RANK", "0")))

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0


def train(
    sources: Sequence[Source],
    ontology: Ontology,
    config: TrainConfig,
    folder: Path,
    *,
    prompter: Prompter,
    start: Callable[[LandSegmenter], None] | None = None,
    before: Mapping[str, Any] | None = NOTHING,
    device: str = "cpu",
    until: int | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> Path:
    """Train until `config.steps`; kill it at any time and call it again to go on.

    In `folder`: `last.safetensors` (the state), `best.safetensors` (averaged weights that agreed
    most with the val split's labels), `final.safetensors`, `report.html`, `events/` (TensorBoard).

    Args:
        sources: The subsets, each with samples to train on.
        ontology: Of their classes.
        config: The run.
        folder: Its own.
        prompter: Of the text encoder that the model is built for.
        start: Fills a new model, e.g. with official weights; not called when a run goes on.
        before: What the weights of `start` were trained on here (`checkpoint.record_of`); None: they
            do not say, and nor will this model.
        device: cpu, cuda, cuda:1.
        until: Stop after this step as if killed (the state is saved).
        told: Takes a line of progress now and then, on the first process.

    Returns:
        `final.safetensors`, or `last.safetensors` where it was stopped before.

    Raises:
        InputError: No samples, a text encoder of another model, or a folder of another run.
        TrainingError: The loss is no number; the last good state stays.
    """
    # 0. Who trains, where, and what
    place = torch.device(device)
    ranks = Ranks.join(place)
    if place.type == "cuda" and ranks.world > 1:
        place = torch.device("cuda", ranks.local)
        torch.cuda.set_device(place)
    told = told if ranks.first else lambda _: None
    sizes = config.of_model()
    _check(sources, prompter, sizes.text, folder)
    if config.deterministic:
        torch.use_deterministic_algorithms(True)
    bf16 = config.precision == "bf16" or (config.precision == "auto" and place.type == "cuda")
    torch.manual_seed(config.seed)
    model = LandSegmenter(sizes)
    last = folder / "last.safetensors"
    if start is not None and not last.exists():
        start(model)
    model.to(place)
    average = copy.deepcopy(model).eval().requires_grad_(False)
    optimiser = torch.optim.AdamW(
        groups(model, config), lr=config.lr, betas=(0.9, 0.999), fused=True
    )
    said = {
        "config": config.deciding(),
        "data": [[s.name, s.count("train"), [c.names[0] for c in s.classes]] for s in sources],
        "world": ranks.world,
    }
    progress: dict[str, Any] = {
        **said,
        "step": 0,
        "curve": [],
        "looks": [],
        "best": -1.0,
        "since": [],
        "before": before,
    }
    if last.exists():
        found = state.load(last)
        _same(found["progress"], said, last)
        progress = state.restore(found, model, average, optimiser, where=last)
    each = config.batch * config.accumulate * ranks.world
    counts = [source.count("train") for source in sources]
    schedule = Schedule(counts, config.steps, each, config.seed, config.balance)
    runner: nn.Module = model
    if config.compile:
        runner = torch.compile(runner)
    if ranks.world > 1:
        runner = nn.parallel.DistributedDataParallel(runner)
    events = _events(folder, progress["step"], ranks)
    batches = ahead(
        (
            batch
            for step in range(progress["step"], config.steps)
            for batch in step_batches(
                sources, schedule, config, ontology, step, ranks.rank, ranks.world
            )
        ),
        config.workers,
        place,
    )
    clock = Clock()
    end = min(until or config.steps, config.steps)

    while progress["step"] < end:
        step = progress["step"]

        # 1. Learn
        rate = learning_rate(step, config)
        for group in optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        loss, keys = 0.0, list[str]()
        for turn in range(config.accumulate):
            with clock.waiting():
                batch = next(batches)
            keys += batch.keys
            text = asked_names(prompter, batch.classes, config, step).to(place)
            with _talking(runner, now=turn == config.accumulate - 1):
                with torch.autocast(place.type, torch.bfloat16, enabled=bf16):
                    logits = runner(batch.image, batch.wavelengths, text, batch.level)
                part = loss_of(logits, batch, config) / config.accumulate
                part.backward()
            loss += float(part.detach())  # waits for the device; once a batch, here only
        norm = float(nn.utils.clip_grad_norm_(model.parameters(), config.clip))
        _finite(loss, norm, step, keys, last, ranks, place)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        decay = min(config.ema, (1 + step) / (10 + step))
        with (
            torch.no_grad()
        ):  # all tensors at once: a call each is what a small GPU step would wait for
            averaged(decay)(list(average.parameters()), list(model.parameters()), 0)
        progress["step"] = step = step + 1
        progress["since"].append(loss)
        ended = step == config.steps

        # 2. Tell
        if step % config.log_every == 0 or ended:
            mean_loss = float(np.mean(progress["since"]))
            done = each * len(progress["since"])
            progress["since"] = []
            progress["curve"].append({"step": step, "loss": mean_loss, "lr": rate, "norm": norm})
            told(f"step {step}/{config.steps}, loss {mean_loss:.4f}, {clock.said(done)}")
            for key in ("loss", "lr", "norm"):
                events(f"train/{key}", progress["curve"][-1][key], step)

        # 3. Look
        if ranks.first and (step % config.look_every == 0 or ended):
            seen = look(average, sources, prompter, config, place, bf16=bf16)
            progress["looks"].append({"step": step, "subsets": seen})
            agreement = {k: v["agreement"] for k, v in seen.items() if v["agreement"] is not None}
            score = float(np.mean(list(agreement.values()))) if agreement else 0.0
            if agreement:
                told(f"step {step}, agreement with the labels of val {score:.4f}")
            for name, value in agreement.items():
                events(f"agreement/{name}", value, step)
            notes = {"step": str(step), "agreement": f"{score:.6f}"}
            # Runs that began with an earlier version kept nothing of `before`.
            if (known := progress.get("before", before)) is not None:
                notes["trained_on"] = trained_on(sources, known)
            if score > progress["best"]:
                progress["best"] = score
                checkpoint.save(average, folder / "best.safetensors", notes)
            if ended:
                checkpoint.save(average, folder / "final.safetensors", notes)
            pictures = look_at(average, sources, prompter, place, bf16=bf16)
            write_report(folder / "report.html", config, progress, sources, pictures)
            clock = Clock()

        # 4. Keep
        if ranks.first and (step % config.save_every == 0 or step == end):
            state.save(state.capture(model, average, optimiser, progress), last)

    batches.close()
    if ranks.world > 1:
        dist.barrier()
        dist.destroy_process_group()
    final = folder / "final.safetensors"
    return final if progress["step"] == config.steps else last


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear to `lr` over `warmup` steps, then half a cosine to `lr` x `lr_end`."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    gone = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return config.lr * (
        config.lr_end + (1 - config.lr_end) * (1 + math.cos(math.pi * min(gone, 1))) / 2
    )


def groups(model: LandSegmenter, config: TrainConfig) -> list[dict[str, Any]]:
    """Weights by learning rate (the image encoder has its own) and by whether they decay."""
    found: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, p in model.named_parameters():
        if p.requires_grad:
            factor = config.hiera_lr if name.startswith("hiera.") else 1.0
            decay = config.weight_decay if p.ndim > 1 else 0.0
            found.setdefault((factor, decay), []).append(p)
    return [
        {"params": ps, "factor": factor, "weight_decay": decay}
        for (factor, decay), ps in found.items()
    ]


def loss_of(logits: Tensor, batch: Batch, config: TrainConfig) -> Tensor:
    """The loss of a batch, as the run says."""
    given = (logits, batch.label, batch.weight)
    if config.loss == "gce":
        loss = losses.generalised_cross_entropy(*given, config.gce_q)
    else:
        loss = losses.cross_entropy(*given)
    return loss + config.dice * losses.dice(*given) if config.dice else loss


def trained_on(sources: Sequence[Source], before: Mapping[str, Any] = NOTHING) -> str:
    """Subsets, the products that label them, names and ontology nodes of their classes, levels and
    wavelengths of their images, after what was there before, as the JSON that a checkpoint keeps: what
    an evaluation must know to say which benchmarks, classes and bands a model never saw.
    """
    classes = {(tuple(c["names"]), tuple(c["nodes"])): None for c in before["classes"]}
    classes |= {(c.names, c.nodes): None for source in sources for c in source.classes}
    subsets = [*before["subsets"], *(source.name for source in sources)]
    products = [*before.get("products", ()), *(one for s in sources for one in s.products)]
    images = [{"level": s.level, "wavelengths": list(s.wavelengths)} for s in sources]
    if before["subsets"] and "images" not in before:  # of an earlier version: not known in full
        images = []
    return json.dumps({
        "subsets": list(dict.fromkeys(subsets)),
        "products": list(dict.fromkeys(products)),
        "classes": [{"names": list(names), "nodes": list(nodes)} for names, nodes in classes],
        **({"images": [*before.get("images", ()), *images]} if images else {}),
    })  # fmt: skip


def asked_names(
    prompter: Prompter, classes: Sequence[Name], config: TrainConfig, step: int
) -> Tensor:
    """(class, dim): one name in one template of each class, or the mean of them."""
    vectors = [prompter.classes([one.names]) for one in classes]
    if not config.synonyms:
        return torch.cat([v.mean for v in vectors])
    chance = stream(config.seed, _NAMES, step)
    return torch.stack([v.every[0][int(chance.integers(len(v.every[0])))] for v in vectors])


@torch.inference_mode()
def look(
    model: LandSegmenter,
    sources: Sequence[Source],
    prompter: Prompter,
    config: TrainConfig,
    place: torch.device,
    *,
    bf16: bool,
) -> dict[str, dict[str, Any]]:
    """Agreement with the labels of the val split: of each subset {agreement, overall, iou}.

    Agreement is the mean IoU over the classes that the labels hold, of one confusion matrix over
    all of the subset's samples that are looked at. Weights of pixels play no part.
    """
    out: dict[str, dict[str, Any]] = {}
    for which, source in enumerate(sources):
        text = prompter([one.names for one in source.classes]).to(place)
        classes = len(source.classes)
        counts = np.zeros((classes, classes), np.int64)
        work = whole_batches(source, which, "val", config.look_samples, config.batch)
        for batch in ahead((lambda b=b: b for b in work), 0, place):  # type: ignore[misc]
            with torch.autocast(place.type, torch.bfloat16, enabled=bf16):
                said = model(batch.image, batch.wavelengths, text, batch.level).argmax(dim=1)
            counts += confusion(batch.label.cpu().numpy(), said.cpu().numpy(), classes)
        scores = metrics(counts)
        out[source.name] = {
            "agreement": _known(scores.miou),
            "overall": _known(scores.overall),
            "iou": [_known(value) for value in scores.iou.tolist()],
        }
    return out


@torch.inference_mode()
def look_at(
    model: LandSegmenter,
    sources: Sequence[Source],
    prompter: Prompter,
    place: torch.device,
    *,
    bf16: bool,
    each: int = 3,
) -> list[Picture]:
    """A few samples of the val split of every subset, with what the model says of them."""
    out = []
    for which, source in enumerate(sources):
        text = prompter([one.names for one in source.classes]).to(place)
        for batch in whole_batches(source, which, "val", each, 1):
            image = batch.image.to(place)
            with torch.autocast(place.type, torch.bfloat16, enabled=bf16):
                logits = model(image, batch.wavelengths, text, batch.level)
            sure, said = logits.float().softmax(dim=1)[0].max(dim=0)
            arrays = (batch.image[0], batch.label[0], said.cpu(), sure.cpu())
            out.append(Picture(which, batch.keys[0], *(x.numpy() for x in arrays)))
    return out


class Clock:
    """How fast it goes, and what part of the time is spent waiting for data."""

    def __init__(self) -> None:
        self._mark, self._waited = time.perf_counter(), 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Time spent in here is waiting."""
        before = time.perf_counter()
        yield
        self._waited += time.perf_counter() - before

    def said(self, samples: int) -> str:
        """What was done since the last call."""
        spent = max(time.perf_counter() - self._mark, 1e-9)
        waited = self._waited / spent
        self._mark, self._waited = time.perf_counter(), 0.0
        return f"{samples / spent:.1f} samples/s, {waited:.0%} of the time waiting for data"


def _check(sources: Sequence[Source], prompter: Prompter, text: str, folder: Path) -> None:
    if not sources:
        raise InputError(folder, "subsets", [], "at least one subset")
    for source in sources:
        check_classes([one.names for one in source.classes])
        if source.count("train") == 0:
            raise InputError(
                source.name, "train", 0, "samples of the split train",
                "Raise the count of the recipe, or leave the subset out.",
            )  # fmt: skip
    if prompter.encoder.name != text:
        raise InputError("model", "text", prompter.encoder.name, repr(text))


def _same(found: Mapping[str, Any], said: Mapping[str, Any], where: Path) -> None:
    """Refuse to go on with a run of other numbers or other data."""
    for part, mine in said.items():
        old, new = found[part], json.loads(json.dumps(mine))
        if old == new:
            continue
        key = part
        if isinstance(new, dict):
            key = next(k for k in new if old.get(k) != new[k])
            old, new = old.get(key), new[key]
        raise CheckpointError(
            where, key, new, f"{old!r}, which began this run", "Choose another folder for the run."
        )


def _finite(
    loss: float, norm: float, step: int, keys: Sequence[str], last: Path, ranks: Ranks,
    place: torch.device,
) -> None:  # fmt: skip
    """Stop everywhere if the loss or its gradient is no number anywhere."""
    mine = math.isfinite(loss) and math.isfinite(norm)
    everywhere = mine
    if ranks.world > 1:
        good = torch.tensor(float(mine), device=place)
        dist.all_reduce(good, dist.ReduceOp.MIN)
        everywhere = bool(good.item())
    if not everywhere:
        kept = f"the last good state is {last}" if last.exists() else "nothing was kept yet"
        these = f"its samples: {', '.join(keys)}" if not mine else "samples of another process"
        raise TrainingError(
            f"step {step + 1}: loss {loss}, norm of the gradient {norm}; {these}; {kept}"
        )


def _talking(runner: nn.Module, *, now: bool) -> contextlib.AbstractContextManager[object]:
    """Gradients are exchanged with the last batch of a step only."""
    if now or not isinstance(runner, nn.parallel.DistributedDataParallel):
        return contextlib.nullcontext()
    return cast("contextlib.AbstractContextManager[object]", runner.no_sync())


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _events(folder: Path, step: int, ranks: Ranks) -> Callable[[str, float, int], None]:
    """Writes TensorBoard's files, where it is installed; what a killed run wrote later is void."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return lambda *_: None
    if not ranks.first:
        return lambda *_: None
    writer = SummaryWriter(str(folder / "events"), purge_step=step, flush_secs=10)

    def write(key: str, value: float, at: int) -> None:
        writer.add_scalar(key, value, at)

    return write
