"""The high-frequency branch: what remains of a picture without its low frequencies.

As in EVP and SAM-Adapter (known to be used in kind; sizes are ours): a square around the zero
frequency is cut out, and the magnitude of what comes back is embedded at the strides of Hiera.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHARE = 0.25
"""Of the spectrum's area that is cut out: EVP's freq_nums."""


def high_frequencies(rgb: Tensor) -> Tensor:
    """Magnitude of the image without its lowest frequencies.

    Args:
        rgb: (batch, channel, y, x).

    Returns:
        Same shape, float32.
    """
    with torch.autocast(rgb.device.type, enabled=False):
        spectrum = torch.fft.fftshift(torch.fft.fft2(rgb.float()), dim=(-2, -1))
        height, width = rgb.shape[-2:]
        half = int((height * width * SHARE) ** 0.5 // 2)
        y, x = height // 2, width // 2
        keep = torch.ones(height, width, device=rgb.device)
        keep[max(y - half, 0) : y + half, max(x - half, 0) : x + half] = 0
        back = torch.fft.ifft2(torch.fft.ifftshift(spectrum * keep, dim=(-2, -1)))
        return back.real.abs()


class HighFrequency(nn.Module):
    """Its pyramid.

    Args:
        width: Channels at stride 4; they double with every stage.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channels = tuple(width * 2**i for i in range(4))
        first = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1), nn.GELU(), _down(width, width)
        )
        self.stages = nn.ModuleList([first, *(_down(c, 2 * c) for c in self.channels[:3])])

    def forward(self, rgb: Tensor) -> list[Tensor]:
        """(batch, channel, y, x) at strides 4, 8, 16, 32 from (batch, 3, y, x)."""
        x, out = high_frequencies(rgb), []
        for stage in self.stages:
            x = stage(x)
            out.append(x)
        return out


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of (batch, channel, y, x)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        y = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, 1e-6)
        return y.permute(0, 3, 1, 2)


def _down(channels: int, to: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, to, 3, stride=2, padding=1), LayerNorm2d(to), nn.GELU()
    )
