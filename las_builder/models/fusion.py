"""AFM, the attention-based fusion module: further inputs join Hiera at every stage.

Known: one attention module an input, alike but each with its own weights; feature (channel) and
position attention; at every stage. The form of the two attentions is ours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class InputAttention(nn.Module):
    """One input at one stage: projected, then weighted by channel and by place.

    Args:
        channels: Of the input.
        to: Channels of the stage.
    """

    def __init__(self, channels: int, to: int) -> None:
        super().__init__()
        squeezed = max(to // 4, 8)
        self.project = nn.Conv2d(channels, to, 1)
        self.feature = nn.Sequential(
            nn.Linear(to, squeezed), nn.ReLU(inplace=True), nn.Linear(squeezed, to)
        )
        self.position = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """(batch, channels, any, any) to (batch, to, *size)."""
        u = self.project(
            x
        )  # a 1x1 convolution and a bilinear resize commute; this order is cheaper
        if u.shape[-2:] != size:
            u = F.interpolate(u, size=size, mode="bilinear", align_corners=False)
        by_channel = self.feature(u.mean(dim=(2, 3))).sigmoid()[:, :, None, None]
        by_place = self.position(torch.cat((u.mean(1, True), u.amax(1, True)), dim=1)).sigmoid()
        return by_place * (by_channel * u)


class Fusion(nn.Module):
    """The module of one stage: every input attended once, added before every block.

    Args:
        inputs: Channels of each input.
        to: Channels of the stage.
        times: How often it is added in this stage; each time has factors of its own.
        start: Their start value.
    """

    def __init__(self, inputs: tuple[int, ...], to: int, times: int, start: float) -> None:
        super().__init__()
        self.inputs = nn.ModuleList(InputAttention(c, to) for c in inputs)
        self.factor = nn.Parameter(torch.full((times, len(inputs), to), start))

    def attend(self, inputs: list[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """What is to be added: (batch, y, x, to) for each input."""
        pairs = zip(self.inputs, inputs, strict=True)
        return [module(x, size).permute(0, 2, 3, 1) for module, x in pairs]

    def add(self, features: Tensor, attended: list[Tensor], time: int) -> Tensor:
        """(batch, y, x, to) plus the attended inputs, for the `time`-th time."""
        for i, v in enumerate(attended):
            features = features + self.factor[time, i] * v
        return features
