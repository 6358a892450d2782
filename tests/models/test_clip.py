"""CLIP whole. That the vision tower computes what open_clip's does: test_golden.py."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from golden.seeded import tensors
from safetensors.torch import save_file

from las_builder.errors import CheckpointError, InputError
from las_builder.models import checkpoint, clip, inputs
from las_builder.models.config import CLIPS, TEXT_DIMS, ClipConfig
from las_builder.models.text import GeoRsClip, Prompter, clip_tokens

SHAPES = json.loads(
    gzip.decompress((Path(__file__).parents[1] / "golden" / "shapes.json.gz").read_bytes())
)
TINY = ClipConfig(
    size="georsclip-vit-b-32", image=32, patch=8, width=96, layers=3, heads=3,
    text_width=64, text_layers=1, dim=32, quick=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as GeoRSCLIP's are: an open_clip state dict, half precision."""
    file = tmp_path_factory.mktemp("clip") / "RS5M_ViT-B-32.pt"
    drawn = {f"module.{k}": v.half() for k, v in tensors(SHAPES["clip"], 1).items()}
    torch.save({"epoch": 3, "state_dict": drawn}, file)
    return file


@pytest.fixture
def sized(monkeypatch: pytest.MonkeyPatch) -> None:
    """The official size is as small as the file."""
    monkeypatch.setattr(clip, "CLIPS", {**CLIPS, TINY.size: TINY})
    monkeypatch.setattr("las_builder.models.text.CLIPS", {**CLIPS, TINY.size: TINY})


@pytest.mark.parametrize("size", [name for name in CLIPS if name in TEXT_DIMS])
def test_the_official_sizes_fit(size) -> None:
    """Names and shapes of the whole state dict are open_clip's."""
    with torch.device("meta"):
        whole = clip.Clip(CLIPS[size])
        given = {k: torch.empty(s) for k, s in SHAPES[size].items()}
    checkpoint.compare(whole, given, where=size)
    assert TEXT_DIMS[size] == CLIPS[size].dim
    assert clip._size_of(given, Path("x")) == CLIPS[size]


def test_one_file_fills_both_towers(official, sized) -> None:
    whole = clip.load(official)
    given = torch.load(official, weights_only=True)["state_dict"]
    for key, value in whole.state_dict().items():
        assert torch.equal(value, given[f"module.{key}"].float()), key
    assert not any(p.requires_grad for p in whole.parameters())
    assert whole.config == TINY
    alone = GeoRsClip(TINY.size, official).encode(["water", "tree cover"])
    assert torch.equal(whole.encoder().encode(["water", "tree cover"]), alone)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"visual.proj": None}, r"`visual.proj` is 'missing'; allowed: a tensor of \(96, 32\)"),
        ({"ln_final.bias": torch.zeros(7)}, r"`ln_final.bias` is \(7,\); .*of another size"),
        ({"visual.extra": torch.zeros(7)}, r"`visual.extra` is \(7,\); .*of another model"),
        (
            {"visual.conv1.weight": torch.zeros(96, 3, 9, 9)},
            r"\(96, 3, 9, 9\); allowed: .*vit-h-14",
        ),
        ({"visual.conv1.weight": None}, "'missing'; allowed: .*vit-h-14"),
    ],
)
def test_the_first_tensor_that_does_not_fit_is_named(change, message, tmp_path, sized) -> None:
    file = tmp_path / "other.pt"
    torch.save(
        {k: v for k, v in (tensors(SHAPES["clip"], 1) | change).items() if v is not None}, file
    )
    with pytest.raises(CheckpointError, match=message) as caught:
        clip.load(file)
    assert "\n" not in str(caught.value)
    assert "other.pt" in str(caught.value)


def test_ours_is_kept_with_its_configuration(tmp_path) -> None:
    torch.manual_seed(0)
    made = clip.Clip(replace(TINY, size="nano", width=64, heads=2, text_width=64))
    clip.save(made, tmp_path / "nano.safetensors", {"step": "7"})
    again = clip.load(tmp_path / "nano.safetensors")
    assert again.config == made.config
    mine = made.state_dict()
    assert all(torch.equal(value, mine[key]) for key, value in again.state_dict().items())
    assert [f.name for f in tmp_path.iterdir()] == ["nano.safetensors"]
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors", {"format": checkpoint.FORMAT})
    with pytest.raises(CheckpointError, match="landsegmenter-1"):
        clip.load(tmp_path / "model.safetensors")


def test_configurations_that_cannot_be_are_one_line() -> None:
    assert ClipConfig.from_json(TINY.to_json()) == TINY
    with pytest.raises(InputError, match="`image` is 30; allowed: a multiple of 8"):
        replace(TINY, image=30)
    with pytest.raises(InputError, match="JSON of a CLIP"):
        ClipConfig.from_json("[1]")
    with pytest.raises(InputError, match="widht"):
        ClipConfig.from_json('{"widht": 3}')


def test_nano_learns_to_tell_pictures_by_their_captions() -> None:
    """A step of CLIP's own loss, again and again on one batch: every part has a gradient."""
    torch.manual_seed(0)
    made = clip.Clip(
        replace(CLIPS["nano"], width=64, heads=1, layers=2, text_width=64, text_layers=1)
    )
    names = ["water", "forest", "field of wheat", "town"]
    tokens = clip_tokens([f"a satellite photo of {name}." for name in names])
    looks = torch.rand(4, 3, 32, 32) * torch.rand(4, 3, 1, 1)
    images = inputs.for_clip(looks, (0.665, 0.56, 0.49), "display")
    optimiser = torch.optim.Adam(made.parameters(), 1e-3)
    target = torch.arange(4)
    losses = []
    for _ in range(25):
        logits = made.logit_scale.exp() * made.image_vectors(images) @ made.text_vectors(tokens).t()
        loss = torch.nn.functional.cross_entropy(logits, target)
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.any() for p in made.parameters())
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    vectors = Prompter(made.eval().encoder())(names)
    assert vectors.shape == (4, 128)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4))


def test_sides_have_to_be_whole_patches() -> None:
    tower = clip.ClipVision(TINY)
    with pytest.raises(InputError, match=r"\(32, 30\); allowed: multiples of 8"):
        tower(torch.zeros(1, 3, 32, 30))
    with torch.inference_mode():
        assert tower(torch.zeros(1, 3, 8, 40)).shape == (1, 32)


def test_the_last_block_taken_apart_is_the_last_block() -> None:
    """`values` are what torch's own attention mixes, and `told` what it then says, less the way around."""
    torch.manual_seed(1)
    tower = clip.ClipVision(TINY).eval()
    image = torch.randn(2, 3, 32, 48)
    with torch.inference_mode():
        hidden = tower.hidden(image)
        grid = (4, 6)
        values = tower.values(hidden, grid)
        assert values.shape == (2, 96, 4, 6)
        block = tower.transformer["resblocks"][-1]
        # A query that sees one key alone gets that key's value: attention masked to its diagonal.
        alone = torch.full((25, 25), float("-inf")).fill_diagonal_(0)
        y = block.ln_1(hidden)
        want = block.attn(y, y, y, need_weights=False, attn_mask=alone)[0][:, 1:]
        want = (tower.ln_post(want) @ tower.proj).transpose(1, 2).unflatten(2, grid)
        torch.testing.assert_close(tower.told(values), want, rtol=1e-5, atol=1e-5)
        whole = tower.ln_post(block(hidden)) @ tower.proj
        torch.testing.assert_close(tower(image), whole[:, 0])
        patches = tower.patches(hidden, grid)
        torch.testing.assert_close(patches.flatten(2).transpose(1, 2), whole[:, 1:])
