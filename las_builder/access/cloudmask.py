"""Masks of clouds that a model makes of the image itself, where a provider has none or a poor one.

OmniCloudMask (Wright et al. 2025, doi:10.1016/j.rse.2025.114694) is the only one: `pip install
omnicloudmask`, whose first use downloads its weights. It needs PyTorch. Its numbers are those of
floating-point sums, so unlike everything else that chooses scenes they may differ between machines
in single pixels. The code of its version 1.8 has run here on random weights; its own could not be had.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from las_builder.access.protocol import ReadRequest
from las_builder.catalogs import Imagery
from las_builder.core.types import Chip, Gap
from las_builder.errors import SourceError

LEAST = 32
"""Pixels on a side below which the model refuses; what is smaller is put beside nodata."""

Read = Callable[[Imagery, Sequence[ReadRequest]], list[Chip | Gap]]


def with_masks(read: Read, imagery: Imagery) -> Read:
    """A read that also answers for the validity band, where a model makes it.

    Args:
        read: Of a provider.
        imagery: Its validity says which model, and of which bands.
    """
    return read if imagery.validity.computed is None else partial(_read, read)


def _read(read: Read, imagery: Imagery, requests: Sequence[ReadRequest]) -> list[Chip | Gap]:
    validity = imagery.validity
    masks = [r.bands == (validity.band,) for r in requests]
    asked = [
        replace(r, bands=tuple(validity.of), categorical=False) if mask else r
        for r, mask in zip(requests, masks, strict=True)
    ]
    chips = read(imagery, asked)
    return [
        _mask(imagery, chip) if mask and isinstance(chip, Chip) else chip
        for chip, mask in zip(chips, masks, strict=True)
    ]


def _mask(imagery: Imagery, chip: Chip) -> Chip:
    data = np.where(chip.inside, chip.data, 0).astype(np.float32)
    classes = omnicloudmask(data)
    return Chip(
        grid=chip.grid,
        bands=(imagery.validity.band or "",),
        data=classes[None],
        inside=chip.inside,
        resampled=chip.resampled,
    )


def omnicloudmask(data: NDArray[np.float32]) -> NDArray[np.uint8]:
    """0 clear, 1 thick cloud, 2 thin cloud, 3 cloud shadow, (y, x).

    Args:
        data: Red, green and near infrared, (3, y, x), in any unit; 0 is nodata. The model was
            trained on pixels of 10 to 50 m.

    Raises:
        SourceError: It is not installed.
    """
    predict = _predictor()
    height, width = data.shape[1:]
    side = max(LEAST, min(height, width))
    if min(height, width) < LEAST:
        data = np.pad(data, ((0, 0), (0, max(0, LEAST - height)), (0, max(0, LEAST - width))))
    found = predict(data, patch_size=min(1000, side), patch_overlap=min(300, side // 2))
    return np.asarray(found[0], np.uint8)[:height, :width]


def _predictor() -> Any:
    try:
        from omnicloudmask import predict_from_array
    except ImportError as problem:
        raise SourceError(
            "dates.validity", "omnicloudmask", str(problem), "the package omnicloudmask",
            "pip install omnicloudmask, which downloads its weights at first use.",
        ) from None  # fmt: skip
    return predict_from_array
