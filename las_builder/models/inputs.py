"""What the towers were trained on: their statistics, and how an image is brought to them.

The model is given reflectance (0-1, may exceed 1 over snow) or, at level `display`, values
stretched for looking at (0-1), with the centre wavelength of each band in micrometres. Everything a
tower wants beyond that (ImageNet's mean, 8-bit stretches) is done here, inside the model, by
wavelength, so that the order of the bands never matters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from las_builder.errors import InputError
from las_builder.models.config import LEVELS, Level

SHORTEST, LONGEST = 0.3, 3.0
"""Micrometres: where sunlight is reflected. Thermal and radar bands hold no reflectance."""

DISPLAY_WAVELENGTHS = {"red": 0.665, "green": 0.56, "blue": 0.49, "nir": 0.842}
"""For photographs whose camera is not declared, by `eo:common_name`: DOFA's for red, green, blue
(its README), Sentinel-2's for near infrared (ours)."""

_PRIMARIES = (0.665, 0.56, 0.49)
_WHITE = 0.3  # reflectance shown as white: the stretch of the catalogue's pictures
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_GREY = (0.449, 0.226)  # the mean of ImageNet's three, for further display bands (ours)

# Sentinel-2 L1C, digital numbers / 10000, of SSL4EO-S12 (as published with CromSS; PAPER of the
# same authors): wavelength, mean, standard deviation.
_S2 = np.array([
    (0.443, 0.1605575, 0.0786787), (0.490, 0.1390782, 0.0850348), (0.560, 0.1314873, 0.0875065),
    (0.665, 0.1363524, 0.1138850), (0.705, 0.1549444, 0.1122178), (0.740, 0.2091749, 0.1161592),
    (0.783, 0.2371717, 0.1274392), (0.842, 0.2299905, 0.1248429), (0.865, 0.2560295, 0.1345527),
    (1.610, 0.2177072, 0.1336099), (2.190, 0.1524065, 0.1136540),
])  # fmt: skip
# Bands inside absorption by water vapour: valid for themselves only, never interpolated from.
_S2_VAPOUR = np.array([(0.945, 0.0830066, 0.0577316), (1.375, 0.0022104, 0.0051151)])
_VAPOUR_REACH = 0.015  # micrometres

# DOFA's statistics of Sentinel-2 after clip(mean +- 2 sd) to 0-255.
_DOFA = np.array([
    (0.490, 126.64, 67.42), (0.560, 114.82, 69.97), (0.665, 114.11, 77.84), (0.705, 84.34, 64.57),
    (0.740, 97.85, 61.73), (0.783, 103.94, 61.34), (0.842, 101.44, 60.30), (1.610, 72.33, 47.89),
    (2.190, 56.67, 42.56),
])  # fmt: skip


def check(image: Tensor, wavelengths: Sequence[float], level: str) -> tuple[float, ...]:
    """The wavelengths as a tuple, once they and the image fit together.

    Args:
        image: (batch, band, y, x), floating point.
        wavelengths: Centre of each band, micrometres.
        level: Of `LEVELS`.

    Raises:
        InputError: Another number of wavelengths than bands, one outside 0.3 to 3 micrometres
            (nanometres, say), an unknown level, or an image that is not (batch, band, y, x).
    """
    if image.ndim != 4 or not image.is_floating_point():
        found = f"{tuple(image.shape)} {image.dtype}"
        raise InputError("image", "shape", found, "(batch, band, y, x) of floating point")
    waves = tuple(float(w) for w in wavelengths)
    if len(waves) != image.shape[1]:
        raise InputError("image", "wavelengths", len(waves), f"{image.shape[1]}, one for each band")
    for wave in waves:
        if not SHORTEST <= wave <= LONGEST:
            raise InputError(
                "image", "wavelengths", wave, f"{SHORTEST} to {LONGEST} micrometres",
                "Divide nanometres by 1000." if wave >= SHORTEST * 1000 else "",
            )  # fmt: skip
    if level not in LEVELS:
        raise InputError("image", "level", level, ", ".join(LEVELS))
    return waves


def for_spectral(image: Tensor, wavelengths: Sequence[float], level: Level) -> Tensor:
    """The image as DOFA takes it: clipped to mean +- 2 sd, 0-255, centred, scaled.

    Reflectance of either level goes through the statistics of Sentinel-2 L1C at its wavelength
    (interpolated; ours), display values through ImageNet's.

    Args:
        image: (batch, band, y, x).
        wavelengths: Micrometres.
        level: What the numbers are.

    Returns:
        Same shape.
    """
    if level == "display":
        stats = np.array([_display_stats(w) for w in wavelengths])
        return (image - _column(stats[:, 0], image)) / _column(stats[:, 1], image)
    mean, sd = s2_stats(wavelengths)
    m, s = (np.interp(wavelengths, _DOFA[:, 0], _DOFA[:, i]) for i in (1, 2))
    stretched = (image - _column(mean - 2 * sd, image)) / _column(4 * sd, image)
    return (stretched.clamp(0, 1) - _column(m / 255, image)) / _column(s / 255, image)


def for_hiera(image: Tensor, wavelengths: Sequence[float], level: Level) -> Tensor:
    """Red, green and blue as SAM2 takes them.

    Each colour is the band nearest to it (the mean of those equally near): true colour where the
    bands are there, else the pseudo-colour that comes nearest (ours).

    Args:
        image: (batch, band, y, x).
        wavelengths: Micrometres.
        level: Reflectance is shown with 0.3 as white; display values are taken as they are.

    Returns:
        (batch, 3, y, x), ImageNet's mean and sd taken out.
    """
    return _centred(colours(image, wavelengths, level), _IMAGENET)


def for_clip(
    image: Tensor,
    wavelengths: Sequence[float],
    level: Level,
    size: tuple[int, int] | None = None,
) -> Tensor:
    """Red, green and blue as CLIP takes them: `colours`, OpenAI's mean and sd taken out.

    Args:
        image: (batch, band, y, x); NaN reads as 0.
        wavelengths: Micrometres.
        level: What the numbers are.
        size: Rows and columns to bring it to (bicubic, smoothed where it gets smaller); None: its own.

    Returns:
        (batch, 3, y, x).
    """
    rgb = colours(torch.nan_to_num(image), wavelengths, level)
    if size is not None and size != tuple(rgb.shape[-2:]):
        rgb = F.interpolate(rgb, size=size, mode="bicubic", antialias=True, align_corners=False)
        rgb = rgb.clamp(0, 1)
    return _centred(rgb, _CLIP)


def colours(image: Tensor, wavelengths: Sequence[float], level: Level) -> Tensor:
    """Red, green and blue to look at, (batch, 3, y, x), 0 to 1: see `for_hiera`."""
    rgb = torch.einsum("cb,nbyx->ncyx", _mix(wavelengths, image), image)
    if level != "display":
        rgb = rgb / _WHITE
    return rgb.clamp(0, 1)


def _centred(rgb: Tensor, stats: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
    mean, sd = (_column(np.array(x), rgb) for x in stats)
    return (rgb - mean) / sd


def s2_stats(wavelengths: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of reflectance at these wavelengths, from Sentinel-2's bands."""
    waves = np.asarray(wavelengths, dtype=np.float64)
    mean, sd = (np.interp(waves, _S2[:, 0], _S2[:, i]) for i in (1, 2))
    for centre, m, s in _S2_VAPOUR:
        inside = np.abs(waves - centre) <= _VAPOUR_REACH
        mean[inside], sd[inside] = m, s
    return mean, sd


def _display_stats(wavelength: float) -> tuple[float, float]:
    """ImageNet's of the colour that a wavelength shows; grey outside the visible."""
    for edge, i in ((0.5, 2), (0.6, 1), (0.7, 0)):
        if wavelength < edge:
            return _IMAGENET[0][i], _IMAGENET[1][i]
    return _GREY


def _mix(wavelengths: Sequence[float], like: Tensor) -> Tensor:
    """(3, band) weights: which bands make red, green and blue."""
    away = np.abs(np.subtract.outer(_PRIMARIES, np.asarray(wavelengths, dtype=np.float64)))
    nearest = (away <= away.min(axis=1, keepdims=True) + 1e-9).astype(np.float64)
    return torch.as_tensor(nearest / nearest.sum(axis=1, keepdims=True)).to(like)


def _column(values: NDArray[np.float64], like: Tensor) -> Tensor:
    return torch.as_tensor(values).to(like)[:, None, None]
