"""The CLIP branch, against loops written from the formula, and against the authors' own tower."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from golden.seeded import SEED, pixels, tensors
from numpy.typing import NDArray
from safetensors.torch import load_file

from las_builder.evaluate.predict import asker
from las_builder.evaluate.proxyclip import Proxy, attention, both, given_size, proxied
from las_builder.models import checkpoint
from las_builder.models.clip import Clip
from las_builder.models.config import ClipConfig, sized
from las_builder.models.inputs import for_clip
from las_builder.models.segmenter import LandSegmenter
from las_builder.models.text import Prompter

GOLDEN = Path(__file__).parents[1] / "golden"
CONFIG = ClipConfig(
    size="nano", image=32, patch=8, width=96, layers=3, heads=3,
    text_width=64, text_layers=1, dim=32, quick=True,
)  # fmt: skip
PUBLISHED = Proxy(centred=False)
WAVES = (0.49, 0.56, 0.665, 0.842)
CLASSES = ["water", "forest", "town"]


@pytest.fixture(scope="module")
def clip() -> Clip:
    torch.manual_seed(5)
    return Clip(CONFIG).eval()


@pytest.fixture(scope="module")
def model() -> LandSegmenter:
    torch.manual_seed(6)
    return LandSegmenter(sized("nano")).eval()


def slow_attention(features: NDArray[np.float64], beta: float, gamma: float) -> list[list[float]]:
    """From the formula, number by number; features (channel, y, x)."""
    rows = features.reshape(len(features), -1).T
    n = len(rows)
    alike = [[float(a @ b) / float(np.sqrt(a @ a) * np.sqrt(b @ b)) for b in rows] for a in rows]
    mean = sum(map(sum, alike)) / n**2
    out = []
    for row in alike:
        logits = [(s - beta * mean) * gamma for s in row]
        weights = [np.exp(x) if x >= 0 else 0.0 for x in logits]
        out.append([float(w / sum(weights)) for w in weights])
    return out


def test_attention_is_the_formula() -> None:
    features = np.random.default_rng(0).normal(0.3, 1, (4, 3, 5))
    got = attention(torch.tensor(features[None], dtype=torch.float32), PUBLISHED)[0]
    want = np.array(slow_attention(features, 1.2, 3.0))
    assert (want == 0).any()
    assert (want > 0).sum(axis=1).max() > 1
    np.testing.assert_allclose(got.numpy(), want, atol=1e-5)
    centred = features - features.mean(axis=(1, 2), keepdims=True)
    got = attention(torch.tensor(features[None], dtype=torch.float32), Proxy(beta=0.7, gamma=5))[0]
    np.testing.assert_allclose(got.numpy(), slow_attention(centred, 0.7, 5), atol=1e-5)


def test_where_all_is_alike_places_keep_their_own_value() -> None:
    """Mean similarity above 1 / beta: the published formula leaves nothing, and is not a number."""
    alike = torch.ones(1, 3, 4, 4) + 0.001 * torch.randn(1, 3, 4, 4)
    assert torch.equal(attention(alike, PUBLISHED)[0], torch.eye(16))
    for how in (PUBLISHED, Proxy()):
        for same in (torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4), alike):
            rows = attention(same, how)
            assert rows.isfinite().all()
            torch.testing.assert_close(rows.sum(dim=2), torch.ones(rows.shape[:2]))


def test_proxied_is_the_last_block_with_other_weights(clip) -> None:
    """Head by head, place by place, in float64 from the state dict."""
    torch.manual_seed(3)
    image, features = torch.randn(1, 3, 32, 32), torch.randn(1, 5, 4, 4)
    with torch.inference_mode():
        hidden = clip.visual.hidden(image)
        got = proxied(clip.visual, hidden, (4, 4), features, PUBLISHED)[0].numpy()
    state = {k: v.double().numpy() for k, v in clip.visual.state_dict().items()}
    last = "transformer.resblocks.2."

    def normed(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        x = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
        return x * state[f"{name}.weight"] + state[f"{name}.bias"]

    tokens = hidden[0, 1:].double().numpy()
    weight, bias = (
        state[f"{last}attn.in_proj_weight"][192:],
        state[f"{last}attn.in_proj_bias"][192:],
    )
    values = [weight @ normed(token, f"{last}ln_1") + bias for token in tokens]
    weights = slow_attention(features[0].double().numpy(), 1.2, 3.0)
    for i, row in enumerate(weights):
        heads = []
        for head in range(3):
            part = slice(32 * head, 32 * head + 32)
            heads.append(sum(w * value[part] for w, value in zip(row, values, strict=True)))
        mixed = np.concatenate(heads)
        told = state[f"{last}attn.out_proj.weight"] @ mixed + state[f"{last}attn.out_proj.bias"]
        want = normed(told, "ln_post") @ state["proj"]
        np.testing.assert_allclose(got[:, i // 4, i % 4], want, atol=1e-4 * np.abs(want).max())


def test_proxied_is_what_the_authors_code_gives() -> None:
    golden = load_file(GOLDEN / "golden.safetensors")
    shapes = json.loads(gzip.decompress((GOLDEN / "shapes.json.gz").read_bytes()))["clip"]
    theirs = Clip(CONFIG).eval()
    checkpoint.fill(theirs, tensors(shapes, SEED), where="golden")
    image = pixels((2, 3, 32, 32), SEED).float() / 64 - 2
    with torch.inference_mode():
        hidden = theirs.visual.hidden(image)
        got = proxied(theirs.visual, hidden, (4, 4), golden["proxyclip.features"], PUBLISHED)
    want = golden["proxyclip.dense"].transpose(1, 2).unflatten(2, (7, 9))
    assert want.abs().max() > 0.05
    assert (got - want).abs().max() <= 1e-4 * want.abs().max()


def test_all_maps_of_a_window_at_once(clip, model) -> None:
    """The first is LandSegmenter's own to the bit; all are probabilities; a class stands for itself."""
    images = np.random.default_rng(1).random((2, 4, 40, 52)).astype(np.float32) * 0.3
    images[0, :, :5] = np.nan
    say = both(model, clip, [[c] for c in CLASSES], WAVES, "surface", Proxy())
    p = say(images)
    assert p.shape == (2, 9, 40, 52)
    alone = asker(model, [[c] for c in CLASSES], WAVES, "surface")(images)
    np.testing.assert_array_equal(p[:, :3], alone)
    np.testing.assert_allclose(p.reshape(2, 3, 3, 40, 52).sum(axis=2), 1, rtol=1e-5)
    turned = both(model, clip, [[c] for c in CLASSES[::-1]], WAVES, "surface", Proxy())(images)
    np.testing.assert_allclose(turned[:, [8, 7, 6]], p[:, 6:], atol=1e-3)  # the proxy sees classes
    np.testing.assert_allclose(turned[:, [5, 4, 3]], p[:, 3:6], atol=1e-6)
    one = say(images[1:])
    np.testing.assert_allclose(one[0], p[1], atol=1e-5)


def test_patches_are_clips_own_answer(clip, model) -> None:
    images = np.random.default_rng(2).random((1, 4, 64, 64)).astype(np.float32) * 0.3
    how = Proxy(side=32)
    p = both(model, clip, [[c] for c in CLASSES], WAVES, "surface", how)(images)[0, 3:6]
    text = Prompter(clip.encoder())(CLASSES)
    with torch.inference_mode():
        small = for_clip(torch.from_numpy(images), WAVES, "surface", (32, 32))
        vectors = clip.visual.patches(clip.visual.hidden(small), (4, 4))[0]
    cosines = torch.nn.functional.cosine_similarity(vectors[None], text[:, :, None, None], dim=1)
    # Bilinear: a pixel 1/16 of a patch from its centre, in a corner, has that patch's own answer.
    want = (40 * cosines).softmax(dim=0)[:, 0, 0]
    np.testing.assert_allclose(p[:, 0, 0], want, rtol=1e-3)


@pytest.mark.parametrize("embedding", ["pixels", "neck", "decoded"])
def test_every_embedding_is_over_the_same_ground(embedding, clip, model) -> None:
    """Left half water, right half land, by colour: the proxy says where the border is, to its own grid."""
    image = np.full((1, 4, 48, 80), 0.05, np.float32)
    image[..., 40:] = 0.28
    how = Proxy(embedding=embedding)
    p = both(model, clip, [[c] for c in CLASSES], WAVES, "surface", how)(image)[0, 6:]
    assert p.shape == (3, 48, 80)
    left, right = p[:, :, :24].mean(axis=(1, 2)), p[:, :, 56:].mean(axis=(1, 2))
    apart = np.abs(left - right).sum()
    assert apart > 0.01
    assert np.abs(p[:, :, :24] - left[:, None, None]).mean() < 0.3 * apart


def test_what_clip_is_given() -> None:
    assert given_size(CONFIG, (512, 512), Proxy()) == (48, 48)
    official = replace(CONFIG, image=224, patch=14)
    assert given_size(official, (512, 512), Proxy()) == (336, 336)
    assert given_size(official, (100, 300), Proxy()) == (112, 336)
    assert given_size(official, (1, 300), Proxy(side=224)) == (14, 224)
