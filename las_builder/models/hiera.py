"""SAM2.1's image encoder: Hiera and its feature pyramid, open at every stage for the fusion.

Hiera itself is `transformers`' (its blocks are proved against `sam2` by tests/golden); the loop over
them is here, because the fusion adds to the features between blocks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from las_builder.models.config import HieraConfig

Fuse = Callable[[int, int, Tensor], Tensor]
"""(stage, how often in this stage, features (batch, y, x, channel)) -> features."""


class Hiera(nn.Module):
    """SAM2's trunk.

    Args:
        config: Its size.
    """

    def __init__(self, config: HieraConfig) -> None:
        super().__init__()
        from transformers.models.sam2.configuration_sam2 import Sam2HieraDetConfig
        from transformers.models.sam2.modeling_sam2 import Sam2HieraDetModel

        heads = [config.heads * 2**i for i in range(4)]
        settings = Sam2HieraDetConfig(
            hidden_size=config.embed,
            num_attention_heads=config.heads,
            blocks_per_stage=list(config.blocks),
            embed_dim_per_stage=list(config.channels),
            num_attention_heads_per_stage=heads,
            window_size_per_stage=list(config.windows),
            global_attention_blocks=list(config.global_blocks),
            window_positional_embedding_background_size=list(config.background),
        )
        settings._attn_implementation = "sdpa"  # noqa: SLF001 - the only way without a hub model
        self.body = Sam2HieraDetModel(settings)
        self.blocks = config.blocks
        nn.init.trunc_normal_(self.body.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.body.pos_embed_window, std=0.02)

    def forward(self, rgb: Tensor, fuse: Fuse | None = None) -> list[Tensor]:
        """Features of the four stages.

        Args:
            rgb: (batch, 3, y, x), ImageNet's mean and sd taken out; sides are multiples of 32.
            fuse: Called before every block that works on the grid of its stage: before each block
                of stage 0; after the first block of the others, which changes the grid, and before
                each later one.

        Returns:
            (batch, channel, y, x) at strides 4, 8, 16, 32.
        """
        x = self.body.patch_embed(rgb)
        x = x + self._positions(x.shape[1], x.shape[2])
        stages = []
        block = iter(self.body.blocks)
        for stage, count in enumerate(self.blocks):
            for i in range(count):
                if fuse and stage == 0:
                    x = fuse(stage, i, x)
                x = next(block)(x)
                if fuse and stage > 0 and i <= max(count - 2, 0):
                    x = fuse(stage, i, x)
            stages.append(x.permute(0, 3, 1, 2))
        return stages

    def _positions(self, height: int, width: int) -> Tensor:
        window = self.body.pos_embed_window
        ground = F.interpolate(self.body.pos_embed, size=(height, width), mode="bicubic")
        tiles = (1, 1, height // window.shape[2], width // window.shape[3])
        return (ground + window.tile(tiles)).permute(0, 2, 3, 1)


def fusions(config: HieraConfig) -> tuple[int, ...]:
    """How often the fusion is called in each stage."""
    first, *others = config.blocks
    return (first, *(max(n - 1, 1) for n in others))


class Neck(nn.Module):
    """SAM2's FpnNeck: 1x1 convolutions; the coarsest map is enlarged into the next.

    Its map at stride 16 is the sum of stages 4 (enlarged) and 3: what the paper's decoder is given.

    Args:
        channels: Of the four stages, finest first.
        width: Channels of every output.
    """

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(c, width, 1) for c in reversed(channels))

    def forward(self, stages: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """(batch, width, y, x) at strides 4, 8 and 16."""
        coarsest, third, second, first = (
            conv(x) for conv, x in zip(self.convs, reversed(stages), strict=True)
        )
        up = F.interpolate(coarsest.float(), scale_factor=2.0, mode="nearest").to(third.dtype)
        return first, second, third + up


_TRUNK = (
    (r"^patch_embed\.proj\.", "patch_embed.projection."),
    (r"\.norm([12])\.", r".layer_norm\1."),
    (r"\.mlp\.layers\.0\.", ".mlp.proj_in."),
    (r"\.mlp\.layers\.1\.", ".mlp.proj_out."),
)


def from_sam2(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The trunk and the neck out of an official SAM2 state dict, under our names.

    Args:
        tensors: As in the official files: `image_encoder.trunk.*`, `image_encoder.neck.*`.
    """
    trunk, neck = {}, {}
    for key, value in tensors.items():
        if key.startswith("image_encoder.trunk."):
            name = key.removeprefix("image_encoder.trunk.")
            for pattern, new in _TRUNK:
                name = re.sub(pattern, new, name)
            trunk[f"body.{name}"] = value
        elif key.startswith("image_encoder.neck.convs."):
            name = key.removeprefix("image_encoder.neck.")
            neck[name.replace(".conv.", ".")] = value
    return trunk, neck


def sine_positions(height: int, width: int, matrix: Tensor) -> Tensor:
    """SAM's random Fourier positions of pixel centres.

    Args:
        height: Rows.
        width: Columns.
        matrix: (2, channels / 2), the frequencies of x and y.

    Returns:
        (1, height * width, channels).
    """
    y = (torch.arange(height, device=matrix.device, dtype=torch.float32) + 0.5) / height
    x = (torch.arange(width, device=matrix.device, dtype=torch.float32) + 0.5) / width
    at = torch.stack(
        (x[None, :].expand(height, width), y[:, None].expand(height, width)), dim=-1
    ).reshape(-1, 2)
    angles = 2 * torch.pi * ((2 * at - 1) @ matrix.float())
    return torch.cat((angles.sin(), angles.cos()), dim=-1)[None]
