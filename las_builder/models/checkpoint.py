"""Weights: official ones, taken over key by key, and our own files, whole or not at all."""

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
from las_builder.models import decoder, hiera, spectral
from las_builder.models.config import ModelConfig
from las_builder.models.segmenter import LandSegmenter

FORMAT = "landsegmenter-1"
OFFICIAL: Mapping[str, tuple[str, str]] = {
    "sam2.1-hiera-small": ("facebook/sam2.1-hiera-small", "sam2.1_hiera_small.pt"),
    "sam2.1-hiera-base-plus": ("facebook/sam2.1-hiera-base-plus", "sam2.1_hiera_base_plus.pt"),
    "sam2.1-hiera-large": ("facebook/sam2.1-hiera-large", "sam2.1_hiera_large.pt"),
    "dofa-base": ("XShadow/DOFA", "DOFA_ViT_base_e100.pth"),
    "dofa-large": ("XShadow/DOFA", "DOFA_ViT_large_e100.pth"),
    "georsclip-vit-b-32": ("Zilun/GeoRSCLIP", "ckpt/RS5M_ViT-B-32.pt"),
    "georsclip-vit-l-14": ("Zilun/GeoRSCLIP", "ckpt/RS5M_ViT-L-14.pt"),
    "georsclip-vit-h-14": ("Zilun/GeoRSCLIP", "ckpt/RS5M_ViT-H-14.pt"),
}
"""Names of official checkpoints: repository on the Hugging Face hub, and file. From their READMEs;
never downloaded here."""

_WRAPPERS = ("model", "state_dict")


def locate(name_or_path: str | Path) -> Path:
    """The file of a checkpoint: a path as it is, a name of `OFFICIAL` from the hub's cache or the hub.

    Raises:
        CheckpointError: No such file, and no such name; or the hub does not give it.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    name = str(name_or_path).removeprefix("facebook/")
    if name not in OFFICIAL:
        raise CheckpointError(
            name_or_path, "checkpoint", str(name_or_path), "a file, or " + ", ".join(OFFICIAL)
        )
    from huggingface_hub import hf_hub_download

    repository, file = OFFICIAL[name]
    try:
        return Path(hf_hub_download(repository, file))
    except Exception as error:
        raise CheckpointError(
            name, "checkpoint", f"{repository}/{file}", "a file that the hub gives",
            f"{type(error).__name__}. Download it and give its path.",
        ) from error  # fmt: skip


def read(file: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or a PyTorch file (read without running its pickle).

    Raises:
        CheckpointError: No such file, or not one of these.
    """
    if not file.is_file():
        raise CheckpointError(file, "checkpoint", str(file), "a file that exists")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        raw = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(
            file, "checkpoint", type(error).__name__, "a .safetensors file or a PyTorch state dict"
        ) from error
    while isinstance(raw, Mapping) and not any(isinstance(v, Tensor) for v in raw.values()):
        inner = next((raw[key] for key in _WRAPPERS if key in raw), None)
        if inner is None:
            break
        raw = inner
    if not isinstance(raw, Mapping):
        raise CheckpointError(file, "checkpoint", type(raw).__name__, "a mapping of tensors")
    tensors = {str(k).removeprefix("module."): v for k, v in raw.items() if isinstance(v, Tensor)}
    if not tensors:
        raise CheckpointError(file, "checkpoint", sorted(map(str, raw))[:3], "tensors by name")
    return tensors


def compare(module: nn.Module, tensors: Mapping[str, Tensor], *, where: object) -> None:
    """Refuse tensors that are not the module's own, by name and shape, one for one.

    Args:
        module: What they are for.
        tensors: By the module's own names.
        where: The file, for the message.

    Raises:
        CheckpointError: The first key that is missing, of another shape, or left over.
    """
    own = module.state_dict()
    for key, value in own.items():
        if key not in tensors:
            raise CheckpointError(where, key, "missing", f"a tensor of {tuple(value.shape)}")
        if tensors[key].shape != value.shape:
            raise CheckpointError(
                where, key, tuple(tensors[key].shape), f"{tuple(value.shape)}",
                "The checkpoint is of another size.",
            )  # fmt: skip
    for key in tensors:
        if key not in own:
            raise CheckpointError(
                where, key, tuple(tensors[key].shape), "only what the model has",
                "The checkpoint is of another model.",
            )  # fmt: skip


def fill(module: nn.Module, tensors: Mapping[str, Tensor], *, where: object) -> None:
    """Copy tensors into a module, every one of it, once `compare` has nothing against it.

    Raises:
        CheckpointError: See `compare`; then nothing was copied.
    """
    compare(module, tensors, where=where)
    module.load_state_dict(dict(tensors))


def init_sam2(model: LandSegmenter, source: str | Path) -> None:
    """Take over SAM2.1's image encoder, and its mask decoder where ours has the same size.

    Args:
        model: Changed in place.
        source: An official checkpoint, by path or name.

    Raises:
        CheckpointError: At the first key that does not fit.
    """
    file = locate(source)
    tensors = read(file)
    trunk, neck = hiera.from_sam2(tensors)
    if not trunk:
        raise CheckpointError(file, "image_encoder.trunk", "missing", "a SAM2 checkpoint")
    fill(model.hiera, trunk, where=file)
    config = model.config
    if neck and next(iter(neck.values())).shape[0] != config.width:
        return  # a neck of our own width learns from nothing, and the decoder with it
    fill(model.neck, neck, where=file)
    if (config.decoder_blocks, config.decoder_heads) != (2, 8):
        return
    mine = model.decoder.state_dict().items()
    own = {key: value for key, value in mine if key.startswith(("text.", "keep"))}
    theirs = decoder.from_sam2(tensors, independent=config.independent_classes)
    fill(model.decoder, {**own, **theirs}, where=file)


def init_dofa(model: LandSegmenter, source: str | Path) -> None:
    """Take over DOFA's encoder.

    Args:
        model: Changed in place.
        source: An official checkpoint, by path or name.

    Raises:
        CheckpointError: The model has no spectral encoder, or the first key that does not fit.
    """
    file = locate(source)
    if model.spectral is None:
        raise CheckpointError(file, "spectral", None, "a model with a spectral encoder")
    fill(model.spectral, spectral.from_dofa(read(file)), where=file)


def save(model: LandSegmenter, file: Path, notes: Mapping[str, str] | None = None) -> None:
    """Write the model and its configuration as one safetensors file, whole or not at all.

    Args:
        model: What to keep.
        file: Overwritten in one step.
        notes: Further strings for the header (step, recipe, ...).
    """
    header = {**(notes or {}), "format": FORMAT, "config": model.config.to_json()}
    write(model, file, header)


def write(module: nn.Module, file: Path, header: Mapping[str, str]) -> None:
    """Write the tensors of a module as one safetensors file, whole or not at all."""
    tensors = {key: value.contiguous() for key, value in module.state_dict().items()}
    with writing(file) as part:
        save_file(tensors, part, metadata=dict(header))


def describe(file: Path) -> tuple[ModelConfig, dict[str, str]]:
    """Configuration and notes of a file that `save` wrote, without its tensors.

    Raises:
        CheckpointError: Not such a file.
    """
    if not file.is_file():
        raise CheckpointError(file, "checkpoint", str(file), "a file that exists")
    try:
        with safe_open(file, framework="pt") as opened:
            header = dict(opened.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            file, "checkpoint", type(error).__name__, "a .safetensors file of `las train`"
        ) from error
    if header.get("format") != FORMAT:
        raise CheckpointError(file, "format", header.get("format"), FORMAT)
    config = ModelConfig.from_json(header.pop("config", ""), where=file)
    header.pop("format")
    return config, header


def record_of(header: Mapping[str, str]) -> dict[str, Any] | None:
    """What a model was trained on (`train.loop.trained_on`), by its header; None where it does not say."""
    text = header.get("trained_on")
    found = json.loads(text) if text else None
    return found if isinstance(found, dict) else None


def load(file: Path, expected: ModelConfig | None = None) -> LandSegmenter:
    """The model of a file that `save` wrote.

    Args:
        file: The checkpoint.
        expected: What it has to be; None: whatever it is.

    Raises:
        CheckpointError: Not such a file, damaged, or of another size or variant than expected.
    """
    config, _ = describe(file)
    if expected is not None and config != expected:
        key = next(k for k, v in vars(expected).items() if getattr(config, k) != v)
        raise CheckpointError(
            file, key, getattr(config, key), repr(getattr(expected, key)),
            f"The checkpoint is a {config.size}, the model asked for a {expected.size}.",
        )  # fmt: skip
    model = LandSegmenter(config)
    fill(model, read(file), where=file)
    return model
