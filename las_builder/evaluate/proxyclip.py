"""The CLIP branch: CLIP's patches, and ProxyCLIP with LandSegmenter's own features as the proxy.

ProxyCLIP: Lan et al., ECCV 2024, arXiv 2408.04883. The attention of CLIP's last block is replaced by how alike
the proxy's features are, and that block ends after it: its values are mixed as LandSegmenter sees the
ground. What differs from the publication is said in docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from las_builder.evaluate.windows import Say
from las_builder.models import inputs
from las_builder.models.clip import Clip, ClipVision
from las_builder.models.config import ClipConfig, Level
from las_builder.models.segmenter import LandSegmenter, Seen
from las_builder.models.text import Prompter, encoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """How CLIP is asked. beta, gamma and scale are published; the rest is ours."""

    embedding: Literal["pixels", "neck", "decoded"] = "pixels"
    """Which features of LandSegmenter: those of the pixels, whose product with the class vectors are its
    logits; E, the sum of stages 4 and 3 (`neck`); or E' after the two-way blocks (`decoded`)."""

    centred: bool = True
    """Their mean over the window is taken out. Without it (as published, with DINO) nothing is left
    where all of them are alike at more than 1 / beta."""

    grid: int = 42
    """Places along the longer side of a window at most (336 / 8, as with DINO ViT-B/8)."""

    beta: float = 1.2
    gamma: float = 3.0
    scale: float = 40.0
    """Of the cosines before their softmax."""

    side: int | None = None
    """The longer side of a window as CLIP is given it, pixels; None: 1.5 times that of its training
    (336 for 224)."""


def attention(features: Tensor, how: Proxy) -> Tensor:
    """Who attends to whom: softmax of (S - beta mean(S)) gamma, negative entries left out.

    S is the cosine of two places. A place that nothing is left for attends to itself.

    Args:
        features: (batch, channel, y, x) of the proxy.
        how: Its numbers.

    Returns:
        (batch, place, place); rows sum to 1.
    """
    flat = features.float().flatten(2)
    if how.centred:
        flat = flat - flat.mean(dim=2, keepdim=True)
    unit = F.normalize(flat, dim=1)
    with torch.autocast(unit.device.type, enabled=False):
        alike = unit.transpose(1, 2) @ unit
    logits = (alike - how.beta * alike.mean(dim=(1, 2), keepdim=True)) * how.gamma
    logits = logits.masked_fill(logits < 0, float("-inf"))
    empty = logits.amax(dim=2) == float("-inf")
    logits.diagonal(dim1=1, dim2=2)[empty] = 0
    return logits.softmax(dim=2)


def proxied(
    tower: ClipVision, hidden: Tensor, grid: tuple[int, int], features: Tensor, how: Proxy
) -> Tensor:
    """ProxyCLIP's vectors at the places of the proxy, (batch, dim, y, x), not normalised.

    Args:
        tower: CLIP's.
        hidden: Of `ClipVision.hidden`.
        grid: Its patches along y and x.
        features: (batch, channel, y, x) of the proxy, over the same ground.
        how: Its numbers.
    """
    size = (features.shape[2], features.shape[3])
    values = tower.values(hidden, grid)
    values = F.interpolate(values, size=size, mode="bilinear", align_corners=False).flatten(2)
    mixed = [  # one picture after the other: the attention is the largest thing here
        v @ attention(f[None], how)[0].t() for v, f in zip(values, features, strict=True)
    ]
    return tower.told(torch.stack(mixed).unflatten(2, size))


def both(
    model: LandSegmenter,
    clip: Clip,
    classes: Sequence[Sequence[str]],
    wavelengths: Sequence[float],
    level: Level,
    how: Proxy,
    *,
    text_file: Path | None = None,
    device: str = "cpu",
) -> Say:
    """A model and a CLIP as what windows are asked of, each once.

    What they say are (window, 3 x class, y, x): probabilities of LandSegmenter, of CLIP's patches and of
    ProxyCLIP, one after the other.

    Args:
        model: The segmenter.
        clip: The other branch.
        classes: Names of each, asked of both.
        wavelengths: Of the windows' bands, micrometres.
        level: What their numbers are.
        how: The proxy.
        text_file: Checkpoint of a GeoRSCLIP text tower, where the model wants one.
        device: cpu, cuda.

    Raises:
        InputError: Class names that no model can answer.
    """
    place = torch.device(device)
    model, clip = model.eval().to(place), clip.eval().to(place)
    names = [tuple(one) for one in classes]
    own_text = Prompter(encoder(model.config.text, text_file))(names).to(place)
    text = Prompter(clip.encoder())(names).to(place)

    @torch.inference_mode()
    def say(images: NDArray[np.float32]) -> NDArray[np.float32]:
        given = torch.from_numpy(images).to(place)
        height, width = given.shape[-2:]
        with torch.autocast(place.type, torch.bfloat16, enabled=place.type == "cuda"):
            padded = model.padded(given)  # E covers the padding too, so CLIP has to
            seen = model.seen(padded, wavelengths, own_text, level)
            # Cut before the product, as `forward` does: the same to the bit.
            own = replace(seen, pixels=seen.pixels[..., :height, :width]).logits
            theirs = _clip_logits(clip, padded, seen, wavelengths, level, text, how)
        maps = [own, *(one[..., :height, :width] for one in theirs)]
        p: NDArray[np.float32] = (
            torch.cat([m.float().softmax(dim=1) for m in maps], 1).cpu().numpy()
        )
        return p

    return say


def _clip_logits(
    clip: Clip,
    image: Tensor,
    seen: Seen,
    wavelengths: Sequence[float],
    level: Level,
    text: Tensor,
    how: Proxy,
) -> tuple[Tensor, Tensor]:
    """(batch, class, y, x) of the patches and of ProxyCLIP."""
    size = (image.shape[2], image.shape[3])
    tall, wide = given_size(clip.config, size, how)
    grid = (tall // clip.config.patch, wide // clip.config.patch)
    hidden = clip.visual.hidden(inputs.for_clip(image, wavelengths, level, (tall, wide)))
    features = _fitted(_features(seen, how), how)
    vectors = (
        clip.visual.patches(hidden, grid), proxied(clip.visual, hidden, grid, features, how)
    )  # fmt: skip
    told = [
        how.scale * torch.einsum("kc,bcyx->bkyx", text, F.normalize(v.float(), dim=1))
        for v in vectors
    ]
    patches, proxy = (
        F.interpolate(one, size=size, mode="bilinear", align_corners=False) for one in told
    )
    return patches, proxy


def side_of(config: ClipConfig, how: Proxy) -> int:
    """The longer side of a window as CLIP is given it, in whole patches, pixels."""
    longer = how.side if how.side is not None else 1.5 * config.image
    return max(round(longer / config.patch), 1) * config.patch


def given_size(config: ClipConfig, size: tuple[int, int], how: Proxy) -> tuple[int, int]:
    """Rows and columns, in whole patches, of a window of this size as CLIP is given it."""
    longer = side_of(config, how) / config.patch
    rows, columns = (max(round(longer * n / max(size)), 1) for n in size)
    return rows * config.patch, columns * config.patch


def _features(seen: Seen, how: Proxy) -> Tensor:
    named = {"pixels": seen.pixels, "neck": seen.embedding, "decoded": seen.decoded}
    return named[how.embedding]


def _fitted(features: Tensor, how: Proxy) -> Tensor:
    """Means over the places of a grid of `how.grid` at most."""
    sides = features.shape[2:]
    share = min(how.grid / max(sides), 1.0)
    rows, columns = (max(round(n * share), 1) for n in sides)
    return F.adaptive_avg_pool2d(features, (rows, columns))
