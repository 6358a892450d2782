"""All that going on needs, as one dict, in one file, whole or not at all.

Tensors are `model.*` (weights), `average.*` (their running mean) and `optimiser.*` (moments, by
the name of the weight); everything else is JSON in the header. The data need nothing: which
samples a step has is a function of the step (`schedule`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from las_builder.core.workspace import writing
from las_builder.errors import CheckpointError
from las_builder.models import checkpoint

FORMAT = "landsegmenter-run-1"


def capture(
    model: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    progress: Mapping[str, Any],
) -> dict[str, Any]:
    """The state of a run: tensors by name, and `progress`, which is plain values."""
    names = {id(p): name for name, p in model.named_parameters()}
    moments = {
        f"optimiser.{names[id(p)]}.{key}": torch.as_tensor(value)
        for p, values in optimiser.state.items()
        for key, value in values.items()
    }
    return {
        **{f"model.{k}": v for k, v in model.state_dict().items()},
        **{f"average.{k}": v for k, v in average.state_dict().items()},
        **moments,
        "progress": dict(progress),
    }


def save(state: Mapping[str, Any], file: Path) -> None:
    """Write a state whole or not at all.

    Raises:
        WorkspaceError: The disk is full or read-only.
    """
    tensors = {k: v.detach().cpu().contiguous() for k, v in state.items() if k != "progress"}
    header = {"format": FORMAT, "progress": json.dumps(state["progress"])}
    with writing(file) as part:
        save_file(tensors, part, metadata=header)


def load(file: Path) -> dict[str, Any]:
    """The state of a file that `save` wrote.

    Raises:
        CheckpointError: Not such a file, or a damaged one.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            header = dict(opened.metadata() or {})
        tensors = load_file(file)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            file, "checkpoint", type(error).__name__, "the last.safetensors of `las train`",
            "Remove the run's folder to begin again.",
        ) from error  # fmt: skip
    if header.get("format") != FORMAT:
        raise CheckpointError(file, "format", header.get("format"), FORMAT)
    return {**tensors, "progress": json.loads(header["progress"])}


def restore(
    state: Mapping[str, Any],
    model: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    *,
    where: object,
) -> dict[str, Any]:
    """Put a state back into what `capture` took it from.

    Returns:
        `progress`.

    Raises:
        CheckpointError: It is of another model.
    """
    checkpoint.fill(model, _part(state, "model."), where=where)
    checkpoint.fill(average, _part(state, "average."), where=where)
    moments = _part(state, "optimiser.")
    for name, p in model.named_parameters():
        mine = {
            key.removeprefix(f"{name}."): value
            for key, value in moments.items()
            if key.rpartition(".")[0] == name
        }
        if mine:  # steps are counted on the CPU, moments lie with their weights
            optimiser.state[p] = {
                k: v.clone() if k == "step" else v.to(p.device, copy=True) for k, v in mine.items()
            }
    return dict(state["progress"])


def _part(state: Mapping[str, Any], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
