"""LandSegmenter: the model.

Liu, Huang, Zhu, arXiv 2511.08156. What is published of it and what is ours: docs/model.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from las_builder.errors import InputError
from las_builder.models import inputs
from las_builder.models.config import LEVELS, Level, ModelConfig
from las_builder.models.decoder import Decoder
from las_builder.models.frequency import HighFrequency, LayerNorm2d
from las_builder.models.fusion import Fusion
from las_builder.models.hiera import Hiera, Neck, fusions
from las_builder.models.spectral import PixelSpectra, Spectral

_STRIDE = 32  # of Hiera's last stage: sides are padded to a multiple


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Seen:
    """What a LandSegmenter sees on its way to the logits."""

    pixels: Tensor
    """(batch, channel, y, x), of the image's size."""

    names: Tensor
    """(batch, class, channel)."""

    embedding: Tensor
    """E: (batch, width, y, x) at stride 16 of the (enlarged, padded) image, the sum of stages 4 and 3
    that the decoder is given; the same whatever classes are asked for."""

    decoded: Tensor
    """E': the same after the two-way blocks, where image and classes saw each other."""

    @property
    def logits(self) -> Tensor:
        """(batch, class, y, x)."""
        return torch.einsum("bkc,bcyx->bkyx", self.names, self.pixels)


class LandSegmenter(nn.Module):
    """Any bands and any class names to a map of logits a class.

    Args:
        config: Its size and variant; weights start random (see `checkpoint` for official ones).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.hiera.channels
        self.hiera = Hiera(config.hiera)
        self.neck = Neck(channels, config.width)
        self.spectral = Spectral(config.spectral) if config.spectral else None
        self.frequency = HighFrequency(config.frequency) if config.frequency else None
        self.level = nn.Embedding(len(LEVELS), config.spectral.dim) if config.spectral else None
        if self.level is not None:
            nn.init.zeros_(self.level.weight)
        joined = [
            (*([config.spectral.dim] if config.spectral else []),
             *([self.frequency.channels[i]] if self.frequency else []))
            for i in range(4)
        ]  # fmt: skip
        self.fusion = nn.ModuleList(
            Fusion(joined[i], channels[i], times, config.fusion_init)
            for i, times in enumerate(fusions(config.hiera))
            if joined[i]
        )
        self.decoder = Decoder(
            config.text_dim,
            config.width,
            config.decoder_blocks,
            config.decoder_heads,
            config.decoder_hidden,
            independent=config.independent_classes,
        )
        self.pixels: PixelSpectra | None = None
        if config.pixel_skip:
            fine = self.decoder.channels
            self.pixels = PixelSpectra(fine)
            self.refine = nn.Sequential(
                LayerNorm2d(fine), nn.GELU(), nn.Conv2d(fine, fine, 3, padding=1)
            )
        for part in config.frozen:
            module = getattr(self, part)
            if module is not None:
                module.requires_grad_(False)

    def forward(
        self, image: Tensor, wavelengths: Sequence[float], text: Tensor, level: Level = "toa"
    ) -> Tensor:
        """Logits; their softmax over the classes is what the model believes.

        Args:
            image: (batch, band, y, x), reflectance, or 0-1 at level `display`; NaN reads as 0.
            wavelengths: Centre of each band, micrometres, 0.3 to 3, in the order of the bands.
            text: (class, text_dim) vectors of the classes, from a `text.Prompter`.
            level: What the numbers of the image are; one for the batch.

        Returns:
            (batch, class, y, x).

        Raises:
            InputError: Bands, wavelengths, level or class vectors that do not fit.
        """
        return self.seen(image, wavelengths, text, level).logits

    def seen(
        self, image: Tensor, wavelengths: Sequence[float], text: Tensor, level: Level = "toa"
    ) -> Seen:
        """What `forward` makes its logits of; arguments and errors are its."""
        wavelengths = inputs.check(image, wavelengths, level)
        self._check_text(text)
        height, width = image.shape[-2:]
        config = self.config
        padded = self.padded(image)
        grown = padded.shape[-2:]
        large = _enlarged(padded, config.zoom)
        rgb = inputs.for_hiera(large, wavelengths, level)
        pyramid = self.neck(self._stages(large, rgb, wavelengths, level))
        tokens, decoded = self.decoder.attend(pyramid[2], text)
        pixels = self.decoder.enlarge(pyramid, decoded)
        pixels = F.interpolate(pixels, size=grown, mode="bilinear", align_corners=False)
        if self.pixels is not None:
            own = self.pixels(inputs.for_spectral(padded, wavelengths, level), wavelengths)
            pixels = pixels + self.refine(pixels + own)
        return Seen(
            pixels=pixels[..., :height, :width], names=self.decoder.head(tokens),
            embedding=pyramid[2], decoded=decoded,
        )  # fmt: skip

    def padded(self, image: Tensor) -> Tensor:
        """The image as the stages take it: 0 for NaN, its last row and column repeated to whole strides."""
        unit = _STRIDE // self.config.zoom
        height, width = image.shape[-2:]
        more = (0, -width % unit, 0, -height % unit)
        return F.pad(torch.nan_to_num(image), more, mode="replicate")

    def _stages(
        self, image: Tensor, rgb: Tensor, wavelengths: Sequence[float], level: Level
    ) -> list[Tensor]:
        joining: list[list[Tensor]] = [[], [], [], []]
        if self.spectral is not None and self.level is not None:
            z = self.spectral(inputs.for_spectral(image, wavelengths, level), wavelengths)
            z = z + self.level.weight[LEVELS.index(level)][:, None, None]
            for inputs_of_stage in joining:
                inputs_of_stage.append(z)
        if self.frequency is not None:
            for inputs_of_stage, z in zip(joining, self.frequency(rgb), strict=True):
                inputs_of_stage.append(z)
        if not self.fusion:
            stages: list[Tensor] = self.hiera(rgb)
            return stages
        sizes = [(image.shape[-2] // s, image.shape[-1] // s) for s in (4, 8, 16, 32)]
        attended = [
            fusion.attend(z, size)
            for fusion, z, size in zip(self.fusion, joining, sizes, strict=True)
        ]

        def fuse(stage: int, time: int, features: Tensor) -> Tensor:
            added: Tensor = self.fusion[stage].add(features, attended[stage], time)
            return added

        fused: list[Tensor] = self.hiera(rgb, fuse)
        return fused

    def _check_text(self, text: Tensor) -> None:
        wanted = self.config.text_dim
        if text.ndim != 2 or text.shape[0] == 0 or text.shape[1] != wanted:
            raise InputError(
                "classes", "text", tuple(text.shape),
                f"(classes, {wanted}), as the encoder {self.config.text} gives them",
            )  # fmt: skip


def _enlarged(image: Tensor, zoom: int) -> Tensor:
    if zoom == 1:
        return image
    return F.interpolate(image, scale_factor=float(zoom), mode="bilinear", align_corners=False)
