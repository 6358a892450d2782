"""DOFA: a vision transformer whose patch embedding is generated from the wavelengths.

Xiong et al., arXiv 2403.15356; names of the tensors are those of the official checkpoints. Since
the kernels of a band depend on its wavelength and on the set of the others, not on their order,
bands may come in any order and number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from las_builder.models.config import SpectralConfig

_SCALE = 0.01  # DOFA's: keeps generated kernels small


def wave_code(wavelengths: Sequence[float], length: int, like: Tensor) -> Tensor:
    """(band, length): sines and cosines of the wavelengths in nanometres."""
    waves = torch.tensor(list(wavelengths), dtype=torch.float32, device=like.device) * 1000
    omega = torch.arange(length // 2, dtype=torch.float32, device=like.device) / (length / 2)
    angles = waves[:, None] * (1.0 / 10000**omega)[None]
    return torch.cat((angles.sin(), angles.cos()), dim=1)


class _Residual(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(dim, dim)
        self.w2 = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.relu(self.w2(F.relu(self.w1(x))))


class _WeightGenerator(nn.Module):
    def __init__(self, config: SpectralConfig) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            d_model=config.waves,
            nhead=4,
            dim_feedforward=config.feedforward,
            activation="gelu",
            dropout=0.0,
        )
        self.transformer_encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.fc_weight = nn.Linear(config.waves, config.patch**2 * config.dim)
        self.fc_bias = nn.Linear(config.waves, config.dim)
        self.weight_tokens = nn.Parameter(torch.randn(config.tokens, config.waves) * 0.02)
        self.bias_token = nn.Parameter(torch.randn(1, config.waves) * 0.02)

    def forward(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        """Kernels (band, patch^2 * dim) and bias (dim) from codes (band, waves)."""
        tokens = torch.cat((self.weight_tokens, waves, self.bias_token), dim=0)
        out = self.transformer_encoder(tokens)
        return self.fc_weight(out[len(self.weight_tokens) : -1] + waves), self.fc_bias(out[-1])


class _Embedding(nn.Module):
    def __init__(self, config: SpectralConfig) -> None:
        super().__init__()
        self.patch, self.dim, self.waves = config.patch, config.dim, config.waves
        self.weight_generator = _WeightGenerator(config)
        self.fclayer = _Residual(config.waves)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.constant_(module.bias, 0.01)

    def forward(self, image: Tensor, wavelengths: Sequence[float]) -> Tensor:
        """(batch, dim, y / patch, x / patch)."""
        waves = self.fclayer(wave_code(wavelengths, self.waves, image))
        weight, bias = self.weight_generator(waves)
        kernel = weight.view(len(waves), self.patch, self.patch, self.dim).permute(3, 0, 1, 2)
        # Padding of 1 at a stride of the patch is DOFA's own: patches begin one pixel early.
        return F.conv2d(image, kernel * _SCALE, bias * _SCALE, stride=self.patch, padding=1)


class _Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, count, dim = x.shape
        qkv = self.qkv(x).view(batch, count, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).reshape(batch, count, dim))


class _Mlp(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class _Block(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = _Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = _Mlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Spectral(nn.Module):
    """DOFA's encoder; its tokens as a map, without the pooling and the head.

    Args:
        config: Its size.
    """

    def __init__(self, config: SpectralConfig) -> None:
        super().__init__()
        self.grid = config.grid
        self.patch_embed = _Embedding(config)
        self.cls_token = nn.Parameter(torch.randn(1, 1, config.dim) * 0.02)
        fixed = np.concatenate((np.zeros((1, config.dim)), sincos(config.grid, config.dim)))
        self.register_buffer("pos_embed", torch.tensor(fixed, dtype=torch.float32)[None])
        self.blocks = nn.ModuleList(_Block(config.dim, config.heads) for _ in range(config.depth))

    def forward(self, image: Tensor, wavelengths: Sequence[float]) -> Tensor:
        """Features of the last block.

        Args:
            image: (batch, band, y, x), as `inputs.for_spectral` gives it; sides are multiples of
                the patch.
            wavelengths: Micrometres.

        Returns:
            (batch, dim, y / patch, x / patch).
        """
        x = self.patch_embed(image, wavelengths)
        batch, dim, height, width = x.shape
        x = x.flatten(2).transpose(1, 2) + self._positions(height, width)
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(batch, -1, -1)
        x = torch.cat((cls.to(x.dtype), x), dim=1)
        for block in self.blocks:
            x = block(x)
        return x[:, 1:].transpose(1, 2).reshape(batch, dim, height, width)

    def _positions(self, height: int, width: int) -> Tensor:
        at = self.pos_embed[:, 1:]
        if (height, width) == (self.grid, self.grid):
            return at
        square = at.transpose(1, 2).reshape(1, -1, self.grid, self.grid)
        resized = F.interpolate(square, size=(height, width), mode="bicubic", align_corners=False)
        return resized.flatten(2).transpose(1, 2)


def sincos(grid: int, dim: int) -> NDArray[np.float64]:
    """(grid^2, dim): the fixed two-dimensional position embedding of MAE, columns first."""
    omega = 1.0 / 10000 ** (np.arange(dim // 4) / (dim / 4))
    rows, columns = np.divmod(np.arange(grid * grid), grid)
    parts = [f(np.outer(at, omega)) for at in (columns, rows) for f in (np.sin, np.cos)]
    return np.concatenate(parts, axis=1)


class PixelSpectra(nn.Module):
    """One vector a pixel from its spectrum alone (ours).

    DOFA sees patches; where a pixel is a field, its own spectrum decides. The first layer has
    weights that depend on the wavelengths, two more make it no less than a small network of pixels.

    Args:
        channels: Of the result.
        width: Of the layers between.
        waves: Length of the code of a wavelength.
    """

    def __init__(self, channels: int, width: int = 64, waves: int = 64) -> None:
        super().__init__()
        self.waves = waves
        self.inner = nn.Sequential(
            nn.Linear(waves, width), nn.GELU(), nn.Linear(width, width), nn.LayerNorm(width)
        )
        self.weight = nn.Linear(width, width)
        nn.init.normal_(self.weight.weight, std=width**-0.5)  # kernels of unit size, which differ
        self.bias = nn.Linear(width, width)
        self.mix = nn.Sequential(
            nn.GELU(), nn.Conv2d(width, width, 1), nn.GELU(), nn.Conv2d(width, channels, 1)
        )
        for layer in self.mix[1::2]:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, image: Tensor, wavelengths: Sequence[float]) -> Tensor:
        """(batch, band, y, x) to (batch, channels, y, x); the order of the bands does not matter."""
        code = self.inner(wave_code(wavelengths, self.waves, image))
        kernel = self.weight(code).t()[:, :, None, None] / len(wavelengths) ** 0.5
        return self.mix(F.conv2d(image, kernel, self.bias(code).mean(dim=0)))


IGNORED = ("mask_token", "norm.", "fc_norm.", "head.", "projector.", "decoder")
"""What an official DOFA checkpoint holds beside the encoder."""


def from_dofa(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder out of an official DOFA state dict; the names are the same."""
    return {key: value for key, value in tensors.items() if not key.startswith(IGNORED)}
