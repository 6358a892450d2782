"""What a training run is: one frozen declaration. No torch here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from las_builder.catalogs.loader import explain, read_yaml
from las_builder.core.options import Strict
from las_builder.errors import InputError
from las_builder.models.config import ModelConfig, sized

FREE = frozenset({
    "workers", "cache_mib", "log_every", "save_every", "look_every", "look_samples", "compile",
})  # fmt: skip
"""Keys that may differ when a run goes on: they decide no weight."""


class TrainConfig(Strict):
    """Everything that decides the weights of a run, and how it is run.

    All numbers are ours: the paper's were not at hand (docs/training.md).
    """

    size: str = "base"
    """Of `models.config.SIZES`."""

    model: Mapping[str, Any] = Field(default_factory=dict)
    """Keys of `ModelConfig` that differ from the size's: {zoom: 1, text: minilm}."""

    seed: int = Field(default=0, ge=0)
    steps: int = Field(default=100_000, ge=1)
    batch: int = Field(default=8, ge=1)
    """Samples that go through the model at once, on each device."""

    accumulate: int = Field(default=1, ge=1)
    """Batches on each device whose gradients make one step."""

    crop: int = Field(default=512, ge=16)
    """Side of what is cut from a patch, pixels; smaller patches are taken whole."""

    lr: float = Field(default=1e-4, gt=0)
    hiera_lr: float = Field(default=1.0, ge=0)
    """Times `lr`, for the image encoder; 0.1 is our advice where it starts from SAM2's weights."""

    weight_decay: float = Field(default=0.05, ge=0)
    """Of matrices; not of biases, norms and factors."""

    warmup: int = Field(default=1000, ge=0)
    """Steps until `lr` is reached; then a half cosine down to `lr` x `lr_end`."""

    lr_end: float = Field(default=0.01, ge=0, le=1)
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of the gradients."""

    ema: float = Field(default=0.999, ge=0, lt=1)
    """Of the averaged weights, which are looked at and kept; shorter in the first steps."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 on CUDA, fp32 elsewhere. Weights, sums and losses stay fp32."""

    compile: bool = False
    deterministic: bool = False
    """Refuse operations that are not."""

    loss: Literal["ce", "gce"] = "ce"
    """Cross-entropy; or generalised cross-entropy, which wrong labels pull less (`losses`)."""

    dice: float = Field(default=1.0, ge=0)
    """Weight of the Dice loss beside it; 0: none."""

    gce_q: float = Field(default=0.7, gt=0, le=1)
    confidence: bool = True
    """A pixel counts for the confidence of its label; false: for 1."""

    balance: float = Field(default=0.5, ge=0, le=1)
    """A subset of n samples is drawn in proportion to n to this power."""

    flips: bool = True
    """One of the eight ways to lay a square, at random."""

    scale: tuple[float, float] = (0.5, 2.0)
    """Range of the random enlargement."""

    drop_bands: float = Field(default=0.3, ge=0, lt=1)
    """Chance of a step that some of its bands are left out: a random number of them, at least
    `keep_bands` stay."""

    keep_bands: int = Field(default=3, ge=1)
    synonyms: bool = True
    """One name in one template a class and step, at random; false: their mean."""

    drop_classes: float = Field(default=0.1, ge=0, lt=1)
    """Chance of each class of a step to be left out; its pixels are ignored."""

    merge_classes: float = Field(default=0.1, ge=0, le=1)
    """Chance of a step that classes of one branch of the ontology become one class."""

    workers: int = Field(default=2, ge=0)
    """Threads that read and augment; 0: none beside the loop."""

    cache_mib: int = Field(default=0, ge=0)
    """Decoded patches that are kept in memory, as they are in the shards."""

    log_every: int = Field(default=20, ge=1)
    """Steps between points of the curves."""

    save_every: int = Field(default=500, ge=1)
    look_every: int = Field(default=2000, ge=1)
    """Steps between looks at the val split."""

    look_samples: int = Field(default=256, ge=1)
    """Of each subset, at most."""

    @model_validator(mode="after")
    def _fits(self) -> TrainConfig:
        low, high = self.scale
        if not 0.1 <= low <= high <= 10:
            raise ValueError("scale: [low, high] between 0.1 and 10")
        if self.crop % 16:
            raise ValueError("crop: a multiple of 16")
        return self

    def of_model(self) -> ModelConfig:
        """The model that it trains.

        Raises:
            InputError: An unknown size, or a key or value that the model does not have.
        """
        said = json.loads(sized(self.size).to_json())
        for key, value in self.model.items():
            part = said.get(key)
            said[key] = {**part, **value} if isinstance(part, dict) and value else value
        return ModelConfig.from_json(json.dumps(said), where="model")

    def deciding(self) -> dict[str, Any]:
        """The keys that decide the weights, as JSON has them."""
        return self.model_dump(mode="json", exclude=set(FREE))


def read_config(
    file: Path | Mapping[str, Any] | None, said: Sequence[str] = (), **more: Any
) -> TrainConfig:
    """A run from a YAML file (or its keys), `key=value` words and named values, the later the stronger.

    Raises:
        InputError: A key that nothing has, or a value that it cannot have.
    """
    base: Mapping[str, Any] = file if isinstance(file, Mapping) else {}
    if isinstance(file, Path):
        base = read_yaml(file, TrainConfig, error=InputError).model_dump()
    words: dict[str, Any] = {}
    for word in said:
        key, equals, value = word.partition("=")
        if not equals:
            raise InputError("las train", "--set", word, "KEY=VALUE, like lr=0.0003")
        words[key.strip()] = yaml.safe_load(value)
    named = {key: value for key, value in more.items() if value is not None}
    try:
        return TrainConfig.model_validate({**base, **words, **named})
    except ValidationError as problem:
        raise explain(
            problem, file if isinstance(file, Path) else "las train", TrainConfig, InputError
        ) from None
