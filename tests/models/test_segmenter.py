"""What must hold of the model whatever its weights are."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from las_builder.errors import CheckpointError, InputError
from las_builder.models import checkpoint
from las_builder.models.config import SIZES, HieraConfig, ModelConfig, SpectralConfig, sized
from las_builder.models.segmenter import LandSegmenter
from las_builder.models.text import OntologyText, Prompter

S2 = (0.443, 0.49, 0.56, 0.665, 0.704, 0.74, 0.783, 0.842, 0.865, 0.945, 1.3735, 1.61, 2.19)
LANDSAT = (0.443, 0.482, 0.5615, 0.6545, 0.865, 1.6085, 2.2005)
RGB = (0.665, 0.56, 0.49)
TINY = replace(
    sized("nano"),
    hiera=HieraConfig(embed=8, heads=1, blocks=(1, 2, 2, 1), windows=(8, 4, 8, 4)),
    spectral=SpectralConfig(
        dim=16, depth=1, heads=2, patch=8, waves=16, tokens=4, feedforward=16, grid=4
    ),
    frequency=4,
    width=32,
    decoder_hidden=32,
)


def built(config: ModelConfig = TINY) -> LandSegmenter:
    torch.manual_seed(1)
    return LandSegmenter(config).eval()


def picture(bands: int = 13, size: tuple[int, int] = (32, 48), batch: int = 1) -> torch.Tensor:
    drawn = torch.rand(batch, bands, *size, generator=torch.Generator().manual_seed(2))
    return drawn * 0.4


def names(count: int, config: ModelConfig = TINY) -> torch.Tensor:
    drawn = torch.randn(count, config.text_dim, generator=torch.Generator().manual_seed(3))
    return F.normalize(drawn, dim=1)


def close(got: torch.Tensor, want: torch.Tensor, relative: float = 1e-5) -> bool:
    return bool((got - want).abs().max() <= relative * want.abs().max())


@pytest.mark.parametrize("waves", [S2, LANDSAT, RGB, (0.842,), (1.61, 2.19)])
@pytest.mark.parametrize("size", [(32, 48), (33, 20)])
def test_any_bands_and_sides(waves, size) -> None:
    with torch.inference_mode():
        logits = built()(picture(len(waves), size, 2), waves, names(5), "surface")
    assert logits.shape == (2, 5, *size)
    assert logits.isfinite().all()
    assert logits.std() > 1e-3


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        replace(TINY, spectral=None),
        replace(TINY, frequency=0),
        replace(TINY, spectral=None, frequency=0, pixel_skip=False, zoom=1),
        replace(TINY, independent_classes=True),
        replace(TINY, frozen=("spectral",)),
        replace(TINY, frozen=("hiera", "spectral")),
        sized("nano"),
    ],
    ids=["all", "rgb", "smooth", "bare", "independent", "frozen", "both frozen", "nano"],
)
def test_gradients_reach_every_trainable_tensor(config) -> None:
    model = built(config).train()
    logits = model(picture(batch=2), S2, names(4, config))
    F.cross_entropy(logits, torch.arange(32 * 48).view(1, 32, 48).expand(2, -1, -1) % 4).backward()
    for key, value in model.named_parameters():
        reached = value.grad is not None and bool(value.grad.abs().sum() > 0)
        assert reached == value.requires_grad, key
    frozen = {
        key.split(".")[0] for key, value in model.named_parameters() if not value.requires_grad
    }
    assert frozen == set(config.frozen)


@pytest.mark.parametrize("independent", [False, True])
def test_classes_permuted_permute_the_output(independent) -> None:
    model = built(replace(TINY, independent_classes=independent))
    order = torch.tensor([3, 0, 4, 2, 1])
    with torch.inference_mode():
        want = model(picture(), S2, names(5))
        got = model(picture(), S2, names(5)[order])
    assert close(got, want[:, order])
    assert not close(got, want)


def test_an_added_class_changes_no_other_only_when_independent() -> None:
    for independent in (True, False):
        model = built(replace(TINY, independent_classes=independent))
        with torch.inference_mode():
            few, many = (model(picture(), S2, names(9)[:count]) for count in (4, 9))
        assert close(many[:, :4], few) == independent


@pytest.mark.parametrize("level", ["toa", "display"])
def test_bands_permuted_with_their_wavelengths_give_the_same(level) -> None:
    model, order = built(), torch.randperm(13, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        want = model(picture(), S2, names(4), level)
        got = model(picture()[:, order], [S2[i] for i in order], names(4), level)
        wrong = model(picture()[:, order], S2, names(4), level)
    assert close(got, want)
    assert not close(wrong, want, 1e-2)


def test_every_input_matters() -> None:
    """Each band, each wavelength, the level and the class vectors."""
    model = built()
    torch.nn.init.normal_(model.level.weight)
    with torch.inference_mode():
        want = model(picture(), S2, names(3))
        for i in (0, 3, 9, 12):
            changed = picture()
            changed[:, i] = changed[:, i].flip(-1)
            assert not close(model(changed, S2, names(3)), want), i
            waves = [w + 0.05 * (j == i) for j, w in enumerate(S2)]
            assert not close(model(picture(), waves, names(3)), want), i
        assert not close(model(picture(), S2, names(3), "surface"), want)
        assert not close(model(picture(), S2, names(4)[1:]), want)


def test_samples_of_a_batch_do_not_meet() -> None:
    model, two = built(), picture(batch=2)
    with torch.inference_mode():
        together = model(two, S2, names(3))
        alone = torch.cat([model(two[i : i + 1], S2, names(3)) for i in range(2)])
    assert close(together, alone)


def test_not_a_number_reads_as_zero() -> None:
    holed, zeroed = picture(), picture()
    holed[:, :, 3:9, 4:9] = float("nan")
    zeroed[:, :, 3:9, 4:9] = 0
    with torch.inference_mode():
        assert torch.equal(built()(holed, S2, names(3)), built()(zeroed, S2, names(3)))


def test_padding_is_cut_off_where_it_was_added() -> None:
    """A wider picture agrees far from the seam better than with its mirror."""
    model = built(replace(TINY, frequency=0))
    with torch.inference_mode():
        whole = model(picture(13, (32, 64)), S2, names(3))
        cut = model(picture(13, (32, 64))[..., :56], S2, names(3))
    assert cut.shape[-1] == 56
    near = (whole[..., :16] - cut[..., :16]).abs().mean()
    assert near < 0.5 * (whole[..., :16] - cut[..., -16:]).abs().mean()


def test_it_learns_to_tell_three_covers_apart() -> None:
    """By their spectra, in 30 steps: the loss halves, and most pixels are right."""
    torch.manual_seed(5)
    model = built(sized("nano", zoom=1)).train()
    labels = torch.randint(0, 3, (2, 4, 4)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    spectra = torch.tensor(
        [[0.05, 0.06, 0.04, 0.03], [0.06, 0.1, 0.08, 0.4], [0.2, 0.25, 0.3, 0.35]]
    )
    image = spectra[labels].permute(0, 3, 1, 2) + 0.01 * torch.randn(2, 4, 32, 32)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    first = 0.0
    for step in range(31):
        logits = model(image, (0.49, 0.56, 0.665, 0.842), names(3))
        loss = F.cross_entropy(logits, labels)
        first = loss.item() if step == 0 else first
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < first / 2
    assert (logits.argmax(1) == labels).float().mean() > 0.8


@pytest.mark.parametrize(
    ("image", "waves", "count", "level", "message"),
    [
        (picture(), S2[:5], 3, "toa", "`wavelengths` is 5; allowed: 13, one for each band"),
        (picture(1), (665.0,), 3, "toa", "Divide nanometres by 1000"),
        (picture(1), (10.9,), 3, "toa", "0.3 to 3.0 micrometres"),
        (picture(1), (0.665,), 3, "dn", "`level` is 'dn'; allowed: toa, surface, display"),
        (picture(1), (0.665,), 0, "toa", r"`text` is \(0, 256\)"),
        (picture()[0], S2, 3, "toa", r"\(batch, band, y, x\)"),
        (torch.ones(1, 1, 32, 32, dtype=torch.uint8), (0.665,), 3, "toa", "floating point"),
    ],
)
def test_wrong_input_is_one_line(image, waves, count, level, message) -> None:
    with pytest.raises(InputError, match=message) as caught:
        built()(image, waves, names(count), level)
    assert "\n" not in str(caught.value)


def test_vectors_of_another_encoder_are_refused() -> None:
    with pytest.raises(InputError, match=r"as the encoder ontology gives them"):
        built()(picture(), S2, torch.ones(3, 512))


def test_sizes() -> None:
    """Parameters in millions; of Hiera the published 46, 80.8 and 224.4 less SAM2's other parts."""
    with torch.device("meta"):
        counts = {
            name: {
                part: sum(p.numel() for p in module.parameters()) / 1e6
                for part, module in LandSegmenter(config).named_children()
            }
            for name, config in SIZES.items()
        }
    assert 0.2 < sum(counts["nano"].values()) < 2
    assert [round(counts[n]["hiera"]) for n in ("small", "base", "large")] == [34, 69, 212]
    assert [round(counts[n]["spectral"]) for n in ("base", "large")] == [111, 337]


# Files ---------------------------------------------------------------------------------------------


def test_a_checkpoint_gives_the_same_model_back(tmp_path) -> None:
    model, file = built(), tmp_path / "model.safetensors"
    checkpoint.save(model, file, {"step": "7"})
    again = checkpoint.load(file).eval()
    assert again.config == model.config
    assert checkpoint.describe(file) == (TINY, {"step": "7"})
    assert list(tmp_path.iterdir()) == [file]
    with torch.inference_mode():
        assert torch.equal(again(picture(), S2, names(3)), model(picture(), S2, names(3)))


def test_configurations_survive_json() -> None:
    for config in (*SIZES.values(), TINY, replace(TINY, spectral=None)):
        assert ModelConfig.from_json(config.to_json()) == config
    with pytest.raises(InputError, match=r"'zom'.*Did you mean 'zoom'"):
        ModelConfig.from_json(TINY.to_json().replace('"zoom"', '"zom"'))


def test_a_checkpoint_of_another_size_is_refused(tmp_path) -> None:
    file = tmp_path / "model.safetensors"
    checkpoint.save(built(), file)
    with pytest.raises(CheckpointError, match="`width` is 32; allowed: 128") as caught:
        checkpoint.load(file, replace(TINY, width=128))
    assert "\n" not in str(caught.value)
    header = {"format": checkpoint.FORMAT, "config": replace(TINY, width=64).to_json()}
    save_file(load_file(file), file, metadata=header)
    with pytest.raises(CheckpointError, match=r"`neck.convs.0.weight` is .*another size"):
        checkpoint.load(file)


def test_what_is_no_checkpoint_is_refused(tmp_path) -> None:
    file = tmp_path / "model.safetensors"
    with pytest.raises(CheckpointError, match="a file that exists"):
        checkpoint.load(file)
    file.write_bytes(b"not one")
    with pytest.raises(CheckpointError, match="SafetensorError"):
        checkpoint.load(file)
    save_file({"x": torch.ones(1)}, file)
    with pytest.raises(CheckpointError, match="`format` is None"):
        checkpoint.load(file)
    checkpoint.save(built(), file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError):
        checkpoint.load(file)


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch) -> None:
    file = tmp_path / "model.safetensors"
    checkpoint.save(built(), file)
    before = file.read_bytes()

    def full(tensors, part, metadata) -> None:
        part.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save(built(), file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_new_weights_keep_classes_apart() -> None:
    """SAM2's blocks alone bring class vectors from a spread of 0.7 to 0.05: nothing to learn from."""
    torch.manual_seed(0)
    model = LandSegmenter(sized("nano", zoom=1)).eval()
    text = Prompter(OntologyText())(["water", "tree cover", "cropland", "built-up area", "grass"])
    with torch.no_grad():
        image = torch.rand(1, 3, 64, 64) * 0.3
        names = model.seen(image, (0.49, 0.56, 0.842), text, "surface").names
        own = model.decoder.text(text)

    def spread(vectors: torch.Tensor) -> float:
        return float((vectors.var(dim=0).mean() / vectors.square().mean()).sqrt())

    assert spread(names[0]) > 0.5 * spread(own)
