"""CLIP whole: the vision tower beside the text tower of `text`.

Radford et al., arXiv 2103.00020; GeoRSCLIP (Zhang et al., arXiv 2306.11300) is such a model. Tensors
have the names of open_clip's state dicts, so that a file of it goes in as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

from las_builder.errors import CheckpointError, InputError
from las_builder.models import checkpoint
from las_builder.models.config import CLIPS, ClipConfig
from las_builder.models.text import ClipBlock, ClipText, ClipWords

FORMAT = "las-clip-1"


class ClipVision(nn.Module):
    """CLIP's vision tower: open_clip's `VisionTransformer`.

    Args:
        config: Its size; weights start random.
    """

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        width, scale = config.width, config.width**-0.5
        self.patch = config.patch
        self.conv1 = nn.Conv2d(3, width, config.patch, stride=config.patch, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        tokens = (config.image // config.patch) ** 2 + 1
        self.positional_embedding = nn.Parameter(scale * torch.randn(tokens, width))
        self.ln_pre = nn.LayerNorm(width)
        blocks = (ClipBlock(width, config.heads, config.quick) for _ in range(config.layers))
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList(blocks)})
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, config.dim))

    def forward(self, images: Tensor) -> Tensor:
        """(batch, dim), not normalised, of `inputs.for_clip` images (batch, 3, y, x).

        Raises:
            InputError: Sides that are no multiples of the patch.
        """
        return self.whole(self.hidden(images))

    def whole(self, hidden: Tensor) -> Tensor:
        """What its class token says of the picture, (batch, dim), not normalised; of `hidden`."""
        return self.ln_post(self._last(hidden)[:, 0]) @ self.proj

    def hidden(self, images: Tensor) -> Tensor:
        """(batch, 1 + patches, width) before the last block; the first token is the class token.

        Args:
            images: (batch, 3, y, x); of another size than the tower's own its positions are interpolated
                (bicubic, as open_clip does when it loads a tower of another size).

        Raises:
            InputError: Sides that are no multiples of the patch.
        """
        height, width = images.shape[-2:]
        if height % self.patch or width % self.patch or not height or not width:
            raise InputError("image", "size", (height, width), f"multiples of {self.patch}")
        x = self.conv1(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.to(x.dtype).expand(len(x), 1, -1), x], dim=1)
        x = x + self._positions(height // self.patch, width // self.patch).to(x.dtype)
        x = self.ln_pre(x)
        for block in self.transformer["resblocks"][:-1]:
            x = block(x)
        return x

    def patches(self, hidden: Tensor, grid: tuple[int, int]) -> Tensor:
        """What the tower itself says of its patches, (batch, dim, *grid), not normalised.

        Args:
            hidden: Of `hidden`.
            grid: Patches along y and x.
        """
        tokens = self.ln_post(self._last(hidden)[:, 1:]) @ self.proj
        return tokens.transpose(1, 2).unflatten(2, grid)

    def values(self, hidden: Tensor, grid: tuple[int, int]) -> Tensor:
        """Values of the last attention, (batch, width, *grid), heads one after the other."""
        block = self.transformer["resblocks"][-1]
        width = self.ln_post.normalized_shape[0]
        weight, bias = block.attn.in_proj_weight[2 * width :], block.attn.in_proj_bias[2 * width :]
        tokens = F.linear(block.ln_1(hidden[:, 1:]), weight, bias)
        return tokens.transpose(1, 2).unflatten(2, grid)

    def told(self, attended: Tensor) -> Tensor:
        """Values that were attended to, (batch, width, y, x), to vectors, (batch, dim, y, x), not normalised.

        The last block ends after its attention: neither what went around it nor its MLP is added
        (as ProxyCLIP has it).
        """
        block = self.transformer["resblocks"][-1]
        tokens = block.attn.out_proj(attended.movedim(1, -1))
        return (self.ln_post(tokens) @ self.proj).movedim(-1, 1)

    def _last(self, hidden: Tensor) -> Tensor:
        x: Tensor = self.transformer["resblocks"][-1](hidden)
        return x

    def _positions(self, rows: int, columns: int) -> Tensor:
        own = math.isqrt(len(self.positional_embedding) - 1)
        if (rows, columns) == (own, own):
            return self.positional_embedding
        first, grid = self.positional_embedding[:1], self.positional_embedding[1:]
        laid = grid.reshape(1, own, own, -1).permute(0, 3, 1, 2)
        laid = F.interpolate(
            laid, size=(rows, columns), mode="bicubic", antialias=True, align_corners=False
        )
        return torch.cat([first, laid[0].flatten(1).t()])


class Clip(ClipText):
    """A CLIP: the text tower with a vision tower beside it, in one state dict as open_clip keeps it.

    Called, it is the text tower (`ClipText.forward`); `image_vectors` and `text_vectors` are of length 1.

    Args:
        config: Its size; weights start random.
    """

    def __init__(self, config: ClipConfig) -> None:
        super().__init__(config.text_width, config.text_layers, config.dim, quick=config.quick)
        self.config = config
        self.visual = ClipVision(config)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def image_vectors(self, images: Tensor) -> Tensor:
        """(batch, dim), of length 1, of `inputs.for_clip` images (batch, 3, y, x)."""
        return F.normalize(self.visual(images), dim=1)

    def text_vectors(self, tokens: Tensor) -> Tensor:
        """(text, dim), of length 1, of `text.clip_tokens`."""
        return F.normalize(self(tokens), dim=1)

    def encoder(self) -> ClipWords:
        """Its text tower for a `Prompter`."""
        return ClipWords(self.config.size, self)


def save(clip: Clip, file: Path, notes: Mapping[str, str] | None = None) -> None:
    """Write a CLIP and its configuration as one safetensors file, whole or not at all."""
    header = {**(notes or {}), "format": FORMAT, "config": clip.config.to_json()}
    checkpoint.write(clip, file, header)


def load(file: Path) -> Clip:
    """A CLIP of `save`, or an open_clip state dict of one of the sizes, for asking: no gradients.

    Which size a state dict is of is told by its first layer.

    Raises:
        CheckpointError: Not such a file, or the first tensor that does not fit.
    """
    config, tensors = _own(file), checkpoint.read(file)
    if config is None:
        config = _size_of(tensors, file)
    clip = Clip(config)
    checkpoint.fill(clip, {key: value.float() for key, value in tensors.items()}, where=file)
    return clip.eval().requires_grad_(False)


def _own(file: Path) -> ClipConfig | None:
    """The configuration in the header; None of a file of somebody else."""
    if file.suffix != ".safetensors" or not file.is_file():
        return None
    try:
        with safe_open(file, framework="pt") as opened:
            header = dict(opened.metadata() or {})
    except Exception as error:
        raise CheckpointError(file, "clip", type(error).__name__, "a .safetensors file") from error
    if header.get("format") == FORMAT:
        return ClipConfig.from_json(header.get("config", ""), where=file)
    if "format" in header and header["format"] != "pt":
        raise CheckpointError(
            file, "format", header["format"], f"{FORMAT}, or an open_clip state dict"
        )
    return None


def _size_of(tensors: Mapping[str, Tensor], file: Path) -> ClipConfig:
    key = "visual.conv1.weight"
    found: Sequence[int] = tuple(tensors[key].shape) if key in tensors else ()
    shapes = {(c.width, 3, c.patch, c.patch): c for c in CLIPS.values()}
    if found not in shapes:
        raise CheckpointError(
            file, key, found or "missing", ", ".join(f"{shape} ({c.size})" for shape, c in shapes.items()),
            "An open_clip state dict of a ViT has it.",
        )  # fmt: skip
    return shapes[found]
