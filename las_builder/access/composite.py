"""Composites: one image of several scenes, made of whatever a provider reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from las_builder.access.cloudmask import Read, with_masks
from las_builder.access.protocol import ReadRequest
from las_builder.catalogs import Imagery
from las_builder.core.grid import Grid
from las_builder.core.types import Chip, Gap, GapReason, Scene

STRIP_BYTES = 64 * 2**20
"""Numbers of all members that are held at once; a larger patch is composed strip by strip."""


def composed(read: Read, imagery: Imagery, requests: Sequence[ReadRequest]) -> list[Chip | Gap]:
    """Answer requests for what no file holds: composites, by reading their members, and masks that
    a model makes of bands; pass the others on.

    Args:
        read: Of a provider, for single acquisitions.
        imagery: What is read.
        requests: Any; those of composites hold image bands only.
    """
    read = with_masks(read, imagery)
    plain = [r for r in requests if not r.scene.members]
    answers = iter(read(imagery, plain) if plain else [])
    return [_composite(read, imagery, r) if r.scene.members else next(answers) for r in requests]


def _composite(read: Read, imagery: Imagery, request: ReadRequest) -> Chip | Gap:
    chips = [
        _strip(read, imagery, request, part)
        for part in _strips(request.grid, len(request.bands), len(request.scene.members), imagery)
    ]
    inside = np.concatenate([chip.inside for chip in chips])
    if not inside.any():
        return Gap(request.site, GapReason.NOT_COVERED, request.scene.id)
    return Chip(
        grid=request.grid,
        bands=request.bands,
        data=np.concatenate([chip.data for chip in chips], axis=1),
        inside=inside,
        resampled=any(chip.resampled for chip in chips),
    )


def _strips(grid: Grid, bands: int, members: int, imagery: Imagery) -> Iterator[Grid]:
    """A grid in whole rows, few enough that the numbers of all members fit."""
    row = grid.width * bands * members * imagery.dtype.itemsize
    step = max(1, STRIP_BYTES // row)
    for top in range(0, grid.height, step):
        t = grid.transform
        place = Affine(t.a, 0.0, t.c, 0.0, t.e, t.f + top * t.e)
        yield Grid(grid.crs, place, grid.width, min(step, grid.height - top))


def _strip(read: Read, imagery: Imagery, request: ReadRequest, grid: Grid) -> Chip:
    """One strip of a composite; where no member saw the surface its numbers are nodata."""
    whole, bands = request.scene, request.bands
    seen = _seen(read, imagery, request, grid)
    asked = [scene for scene, mask in zip(whole.members, seen, strict=True) if mask.any()]
    masks = [mask for mask in seen if mask.any()]
    numbers: list[NDArray[np.generic]] = []
    kept: list[NDArray[np.bool_]] = []
    resampled = False
    chips = read(
        imagery, [ReadRequest(site=request.site, scene=s, grid=grid, bands=bands) for s in asked]
    )
    for scene, mask, chip in zip(asked, masks, chips, strict=True):
        if isinstance(chip, Chip):
            numbers.append(_raised(imagery, scene, whole, chip))
            kept.append(mask & chip.inside)
            resampled |= chip.resampled
    if not numbers:
        shape = (len(bands), *grid.shape)
        empty = np.full(shape, imagery.nodata or 0, imagery.dtype)
        return Chip(
            grid=grid, bands=bands, data=empty, inside=np.zeros(grid.shape, bool), resampled=False
        )
    valid = np.stack(kept)
    make = median if whole.composite == "median" else best
    data = make(np.stack(numbers), valid)
    inside = np.logical_or.reduce(kept)
    data[:, ~inside] = imagery.nodata or 0
    return Chip(grid=grid, bands=bands, data=data, inside=inside, resampled=resampled)


def _seen(
    read: Read, imagery: Imagery, request: ReadRequest, grid: Grid
) -> list[NDArray[np.bool_]]:
    """Where each member saw the surface, as far as its validity band says."""
    band = imagery.validity.band
    if band is None:
        return [np.ones(grid.shape, bool) for _ in request.scene.members]
    chips = read(
        imagery,
        [
            ReadRequest(site=request.site, scene=scene, grid=grid, bands=(band,), categorical=True)
            for scene in request.scene.members
        ],
    )
    return [
        imagery.validity.decode(chip.data[0]) & chip.inside
        if isinstance(chip, Chip)
        else np.zeros(grid.shape, bool)
        for chip in chips
    ]


def _raised(imagery: Imagery, scene: Scene, whole: Scene, chip: Chip) -> NDArray[np.generic]:
    """The numbers of a member with the offset of its composite; saturated ones stay so."""
    shifts = [imagery.counts_to(scene, whole, name) for name in chip.bands]
    if not any(shifts):
        return chip.data
    by = np.asarray(shifts).reshape(-1, 1, 1)
    if chip.data.dtype.kind not in "iu":
        return np.asarray((chip.data + by).astype(chip.data.dtype))
    limit = int(np.iinfo(np.dtype(chip.data.dtype.str)).max)
    return np.asarray(np.minimum(chip.data.astype(np.int64) + by, limit).astype(chip.data.dtype))


def median(numbers: NDArray[np.generic], valid: NDArray[np.bool_]) -> NDArray[np.generic]:
    """The median of each band and pixel over those members that are valid there.

    Args:
        numbers: (member, band, y, x).
        valid: (member, y, x).

    Returns:
        (band, y, x) in the same type. Of an even number of members the mean of the middle two,
        halves of whole numbers upwards; where none is valid a number without meaning.
    """
    whole = numbers.dtype.kind in "iu"
    last = np.iinfo(np.dtype(numbers.dtype.str)).max if whole else np.inf
    # Members last, so that those of a pixel lie together; invalid ones behind all others.
    held = np.ascontiguousarray(np.moveaxis(numbers, 0, -1))
    held[np.broadcast_to(~np.moveaxis(valid, 0, -1), held.shape)] = last
    held.sort(axis=-1)
    count = np.maximum(valid.sum(axis=0), 1)
    low, high = ((count + extra) // 2 for extra in (-1, 0))
    a, b = (
        np.take_along_axis(held, np.broadcast_to(i, held.shape[:-1])[..., None], -1)[..., 0]
        for i in (low, high)
    )
    if not whole:
        return np.asarray(((a.astype(np.float64) + b) / 2).astype(numbers.dtype))
    return np.asarray(((a.astype(np.int64) + b + 1) // 2).astype(numbers.dtype))


def best(numbers: NDArray[np.generic], valid: NDArray[np.bool_]) -> NDArray[np.generic]:
    """All bands of the first member that is valid at a pixel.

    Args:
        numbers: (member, band, y, x).
        valid: (member, y, x).

    Returns:
        (band, y, x); where none is valid, those of the first.
    """
    first = valid.argmax(axis=0)
    return np.asarray(np.take_along_axis(numbers, first[None, None], axis=0)[0])
