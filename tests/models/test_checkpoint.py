"""Official files into the model. The files are drawn here, in the official form (see golden)."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from golden.seeded import tensors

from las_builder.errors import CheckpointError
from las_builder.models import checkpoint
from las_builder.models.config import HieraConfig, ModelConfig, SpectralConfig, sized
from las_builder.models.segmenter import LandSegmenter

SHAPES = json.loads(
    gzip.decompress((Path(__file__).parents[1] / "golden" / "shapes.json.gz").read_bytes())
)
# Of the golden references; a decoder of 32 channels and 8 heads.
CONFIG = replace(
    sized("nano"),
    hiera=HieraConfig(embed=16, heads=1, blocks=(1, 2, 3, 2), global_blocks=(4,)),
    spectral=SpectralConfig(dim=48, depth=2, heads=4, grid=4),
    width=32,
    decoder_heads=8,
    decoder_hidden=64,
)


@pytest.fixture
def sam2(tmp_path: Path) -> Path:
    file = tmp_path / "sam2.1_hiera_other.pt"
    shapes = SHAPES["hiera"] | SHAPES["decoder"] | {"memory_encoder.out_proj.weight": [3, 3]}
    torch.save({"model": tensors(shapes, 1)}, file)
    return file


def built(config: ModelConfig = CONFIG) -> LandSegmenter:
    torch.manual_seed(0)
    return LandSegmenter(config)


def changed(model: LandSegmenter) -> set[str]:
    """Which parts are no longer as they were built."""
    before = built(model.config).state_dict()
    return {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}


def test_sam2_fills_encoder_neck_and_decoder(sam2) -> None:
    model = built()
    checkpoint.init_sam2(model, sam2)
    given = torch.load(sam2, weights_only=True)["model"]
    parts = {key.split(".")[0] for key in changed(model)}
    assert parts == {"hiera", "neck", "decoder"}
    own = {k for k in model.state_dict() if k.startswith(("hiera", "neck", "decoder"))}
    assert own - changed(model) == {
        k for k in own if k.startswith(("decoder.text.", "decoder.keep"))
    }
    key = "image_encoder.trunk.blocks.5.mlp.layers.1.weight"
    assert torch.equal(model.hiera.body.blocks[5].mlp.proj_out.weight, given[key])


def test_the_independent_decoder_takes_what_it_has(sam2) -> None:
    model = built(replace(CONFIG, independent_classes=True))
    checkpoint.init_sam2(model, sam2)
    assert "decoder.transformer.layers.0.norm2.weight" in changed(model)


@pytest.mark.parametrize("change", [{"width": 64}, {"decoder_blocks": 3}])
def test_what_has_another_size_stays_ours(sam2, change) -> None:
    model = built(replace(CONFIG, **change))
    checkpoint.init_sam2(model, sam2)
    parts = {key.split(".")[0] for key in changed(model)}
    assert parts == ({"hiera"} if "width" in change else {"hiera", "neck"})


def test_the_first_mismatch_is_named(sam2) -> None:
    wider = replace(CONFIG, hiera=replace(CONFIG.hiera, embed=24))
    message = (
        r"sam2.1_hiera_other.pt: `body.pos_embed` is \(1, 16, 7, 7\); allowed: \(1, 24, 7, 7\)"
    )
    model = built(wider)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.init_sam2(model, sam2)
    assert not changed(model)
    deeper = replace(CONFIG, hiera=replace(CONFIG.hiera, blocks=(1, 2, 4, 2)))
    with pytest.raises(CheckpointError, match=r"`body\.blocks\..* is "):
        checkpoint.init_sam2(built(deeper), sam2)
    shallower = replace(CONFIG, hiera=replace(CONFIG.hiera, blocks=(1, 2, 3, 1)))
    with pytest.raises(CheckpointError, match=r"another model"):
        checkpoint.init_sam2(built(shallower), sam2)


def test_dofa_fills_the_spectral_encoder(tmp_path) -> None:
    """In both official forms: with a head (torchgeo) and with what pre-training leaves."""
    model, encoder = built(), SHAPES["spectral"]
    left = {"mask_token": [1, 1, 48], "norm.weight": [48], "projector.weight": [48, 48]}
    pretrained = {k: v for k, v in encoder.items() if not k.startswith(("head", "fc_norm"))} | left
    for shapes in (encoder, pretrained):
        file = tmp_path / "DOFA_ViT_other.pth"
        torch.save(tensors(shapes, 2), file)
        model = built()
        checkpoint.init_dofa(model, file)
        assert changed(model) == {k for k in model.state_dict() if k.startswith("spectral.")}
    with pytest.raises(CheckpointError, match="a model with a spectral encoder"):
        checkpoint.init_dofa(built(replace(CONFIG, spectral=None)), file)


def test_files_that_are_no_checkpoints(tmp_path, sam2) -> None:
    with pytest.raises(CheckpointError, match=r"a file, or sam2\.1-hiera-small, "):
        checkpoint.locate(tmp_path / "missing.pt")
    assert checkpoint.locate(sam2) == sam2
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(CheckpointError, match=r"text.pt: .*\.safetensors file or a PyTorch"):
        checkpoint.read(tmp_path / "text.pt")
    torch.save({"model": {"step": 3}}, tmp_path / "steps.pt")
    with pytest.raises(CheckpointError, match="tensors by name"):
        checkpoint.read(tmp_path / "steps.pt")
    torch.save({"x": torch.ones(1)}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="allowed: a SAM2 checkpoint"):
        checkpoint.init_sam2(built(), tmp_path / "x.pt")


def test_a_pickle_is_not_run(tmp_path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"x": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError):
        checkpoint.read(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


def test_official_names_are_of_the_hub() -> None:
    for repository, file in checkpoint.OFFICIAL.values():
        assert re.fullmatch(r"[\w-]+/[\w.-]+", repository)
        assert file.endswith((".pt", ".pth"))
