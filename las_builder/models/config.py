"""What a LandSegmenter is made of: one frozen value, its sizes, and its JSON. No torch here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Literal

from las_builder.errors import InputError, UnknownNameError

Level = Literal["toa", "surface", "display"]
LEVELS: tuple[Level, ...] = ("toa", "surface", "display")
"""What the numbers of an image are: reflectance at the top of the atmosphere, reflectance of the
surface, or values stretched for looking at (0-1)."""

TEXT_DIMS: Mapping[str, int] = MappingProxyType({
    "georsclip-vit-b-32": 512,
    "georsclip-vit-l-14": 768,
    "georsclip-vit-h-14": 1024,
    "minilm": 384,
    "ontology": 256,
    "names": 256,
})  # fmt: skip
"""Text encoders by name, and the length of their vectors."""


@dataclass(frozen=True, kw_only=True)
class HieraConfig:
    """SAM2's image encoder; numbers of the official sizes from `sam2/configs/sam2.1/*.yaml`."""

    embed: int
    """Channels of the first stage; they double with every stage."""

    heads: int
    """Attention heads of the first stage; they double too."""

    blocks: tuple[int, int, int, int]
    windows: tuple[int, int, int, int] = (8, 4, 14, 7)
    """Side of the attention windows of each stage, in tokens."""

    global_blocks: tuple[int, ...] = ()
    """Blocks, counted through all stages, that attend to the whole image."""

    background: tuple[int, int] = (7, 7)
    """Grid of the learnt position embedding that is enlarged to the image."""

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """Of the four stages, at strides 4, 8, 16, 32."""
        e = self.embed
        return (e, 2 * e, 4 * e, 8 * e)


@dataclass(frozen=True, kw_only=True)
class SpectralConfig:
    """The wavelength-conditioned encoder; base and large are DOFA's."""

    dim: int
    depth: int
    heads: int
    patch: int = 16
    waves: int = 128
    """Length of the code of a wavelength."""

    tokens: int = 128
    """Weight tokens of the generator."""

    feedforward: int = 2048
    """Hidden width of the generator's transformer layer (PyTorch's default, as in DOFA)."""

    grid: int = 14
    """Side of the grid of the position embedding (224 / 16)."""


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """A CLIP: a vision and a text tower; the official numbers are those of open_clip's files."""

    size: str
    image: int
    """Side of the pictures that it was trained on, pixels."""

    patch: int
    """Side of a patch, pixels."""

    width: int
    """Channels of the vision tower; of the text tower `text_width`."""

    layers: int
    heads: int
    text_width: int
    text_layers: int
    dim: int
    """Length of the vectors that both towers end in."""

    quick: bool = False
    """OpenAI's approximation of the GELU."""

    def __post_init__(self) -> None:
        checks: list[tuple[str, int, bool, str]] = [
            ("image", self.image, self.image % self.patch == 0, f"a multiple of {self.patch}"),
            ("width", self.width, self.width % self.heads == 0, f"a multiple of {self.heads}"),
            ("text_width", self.text_width, self.text_width % 64 == 0, "a multiple of 64"),
        ]
        for key, found, right, allowed in checks:
            if not right:
                raise InputError("clip", key, found, allowed)

    def to_json(self) -> str:
        """One line; `from_json` gives the same value back."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str, *, where: object = "clip") -> ClipConfig:
        """The inverse of `to_json`.

        Raises:
            InputError: Not JSON, or a key that is missing or that nothing has.
        """
        built: ClipConfig = _build(cls, _parsed(text, where, "JSON of a CLIP"), where, "config")
        return built


CLIPS: Mapping[str, ClipConfig] = MappingProxyType({
    # Ours, for tests and CPUs.
    "nano": ClipConfig(
        size="nano", image=64, patch=8, width=192, layers=6, heads=3, text_width=128,
        text_layers=3, dim=128,
    ),
    # GeoRSCLIP's. Its authors load B-32 into open_clip's "openai" model and H-14 into its "laion2b"
    # one (their test script), hence the activations; L-14 goes with B-32 (unverified).
    "georsclip-vit-b-32": ClipConfig(
        size="georsclip-vit-b-32", image=224, patch=32, width=768, layers=12, heads=12,
        text_width=512, text_layers=12, dim=512, quick=True,
    ),
    "georsclip-vit-l-14": ClipConfig(
        size="georsclip-vit-l-14", image=224, patch=14, width=1024, layers=24, heads=16,
        text_width=768, text_layers=12, dim=768, quick=True,
    ),
    "georsclip-vit-h-14": ClipConfig(
        size="georsclip-vit-h-14", image=224, patch=14, width=1280, layers=32, heads=16,
        text_width=1024, text_layers=24, dim=1024,
    ),
})  # fmt: skip
"""The sizes of CLIP by name."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything that decides the tensors of a LandSegmenter and what they compute.

    Which of it is published and which is ours: docs/model.md.
    """

    size: str
    hiera: HieraConfig
    spectral: SpectralConfig | None
    """None: no spectral encoder (ablation)."""

    frequency: int
    """Channels of the high-frequency branch at stride 4; 0: none (ablation)."""

    width: int = 256
    """Channels of the neck and the decoder; a multiple of 8."""

    decoder_blocks: int = 2
    decoder_heads: int = 8
    decoder_hidden: int = 2048
    text: str = "georsclip-vit-b-32"
    """Which text encoder its class vectors come from (`TEXT_DIMS`)."""

    independent_classes: bool = False
    """No attention between classes, and image tokens are not updated by them: what is said of a
    class does not depend on which others were asked for."""

    pixel_skip: bool = True
    """Spectra of single pixels join the decoder at full resolution."""

    zoom: int = 1
    """The image is enlarged this often (1, 2 or 4) before the encoders; changes no tensor."""

    fusion_init: float = 0.01
    """Start value of the factors by which the fusion adds to the stages."""

    frozen: tuple[str, ...] = ()
    """Parts that are not trained: `hiera`, `spectral`."""

    def __post_init__(self) -> None:
        checks: list[tuple[str, object, bool, str]] = [
            ("zoom", self.zoom, self.zoom in (1, 2, 4), "1, 2 or 4"),
            ("text", self.text, self.text in TEXT_DIMS, ", ".join(TEXT_DIMS)),
            ("width", self.width, self.width % 8 == 0 and self.width > 0, "a multiple of 8"),
            ("frozen", self.frozen, {"hiera", "spectral"} >= set(self.frozen), "hiera, spectral"),
        ]
        for key, found, right, allowed in checks:
            if not right:
                raise InputError("model", key, found, allowed)

    @property
    def text_dim(self) -> int:
        """Length of the class vectors that the model takes."""
        return TEXT_DIMS[self.text]

    def to_json(self) -> str:
        """One line; `from_json` gives the same value back."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str, *, where: object = "model") -> ModelConfig:
        """The inverse of `to_json`.

        Raises:
            InputError: Not JSON, or a key that is missing or that nothing has.
        """
        raw = _parsed(text, where, "JSON of a model")
        parts: dict[str, type[Any]] = {"hiera": HieraConfig, "spectral": SpectralConfig}
        for key, part in parts.items():
            if raw.get(key) is not None:
                raw[key] = _build(part, raw[key], where, key)
        built: ModelConfig = _build(cls, raw, where, "config")
        return built


def _parsed(text: str, where: object, wanted: str) -> dict[str, Any]:
    try:
        raw = json.loads(text)
    except ValueError:
        raw = None
    if not isinstance(raw, dict):
        raise InputError(where, "config", text[:40], wanted)
    return raw


def _build(kind: type[Any], raw: Mapping[str, Any], where: object, key: str) -> Any:
    known = {f.name for f in fields(kind)}
    for name in raw:
        if name not in known:
            raise UnknownNameError("key", name, known, where=where, key=key)
    tupled = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
    try:
        return kind(**tupled)
    except TypeError as error:
        raise InputError(where, key, sorted(raw), str(error)) from None


_DOFA_BASE = SpectralConfig(dim=768, depth=12, heads=12)
_DOFA_LARGE = SpectralConfig(dim=1024, depth=24, heads=16)

SIZES: Mapping[str, ModelConfig] = MappingProxyType({
    # Ours, for tests and CPUs: everything the others have, small.
    "nano": ModelConfig(
        size="nano",
        hiera=HieraConfig(
            embed=24, heads=1, blocks=(1, 1, 2, 1), windows=(8, 4, 8, 4), global_blocks=(3,)
        ),
        spectral=SpectralConfig(
            dim=96, depth=2, heads=4, patch=8, waves=32, tokens=8, feedforward=64, grid=8
        ),
        frequency=8, width=128, decoder_heads=4, decoder_hidden=256, text="ontology", zoom=2,
        fusion_init=1.0,
    ),
    # SAM2.1 small, base+ and large; DOFA base and large.
    "small": ModelConfig(
        size="small",
        hiera=HieraConfig(embed=96, heads=1, blocks=(1, 2, 11, 2), global_blocks=(7, 10, 13)),
        spectral=_DOFA_BASE, frequency=32, frozen=("spectral",),
    ),
    "base": ModelConfig(
        size="base",
        hiera=HieraConfig(
            embed=112, heads=2, blocks=(2, 3, 16, 3), global_blocks=(12, 16, 20),
            background=(14, 14),
        ),
        spectral=_DOFA_BASE, frequency=32, frozen=("spectral",),
    ),
    "large": ModelConfig(
        size="large",
        hiera=HieraConfig(
            embed=144, heads=2, blocks=(2, 6, 36, 4), windows=(8, 4, 16, 8),
            global_blocks=(23, 33, 43),
        ),
        spectral=_DOFA_LARGE, frequency=32, frozen=("spectral",), text="georsclip-vit-l-14",
    ),
})  # fmt: skip
"""The sizes by name."""


def sized(name: str, **changes: Any) -> ModelConfig:
    """The configuration of a size, with changes: `sized("nano", spectral=None)`.

    Raises:
        UnknownNameError: No size of this name.
    """
    if name not in SIZES:
        raise UnknownNameError("model size", name, SIZES, where="model", key="size")
    return replace(SIZES[name], **changes)
