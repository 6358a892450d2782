"""One block: read its patches, regrid its labels, write its rows, and last its manifest."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from las_builder import __version__
from las_builder.access import Access, LabelRequest, ReadRequest, label_key, label_requests, settle
from las_builder.catalogs import LabelProduct
from las_builder.core.types import (
    Block,
    Chip,
    Gap,
    GapReason,
    LabelMap,
    LabelSource,
    PinnedScene,
)
from las_builder.core.workspace import plain_disk_errors, sha256_file, write_json
from las_builder.errors import AccessError
from las_builder.fetch.cube import CubeLayout, open_round
from las_builder.harmonise import regrid


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchJob:
    """Everything one task needs; nothing in it grows with the number of blocks."""

    block: Block
    patches: tuple[PinnedScene, ...]
    """The rows of the block, in order."""

    layout: CubeLayout
    required: frozenset[str]
    """Products without which a patch is a gap; the others are only compared."""

    access: Access
    group: Path
    """`cube.zarr/<round>`."""

    manifest: Path
    min_clear: float
    """Share of the patch that must be valid."""

    give_up: bool = False
    """Record sites that failed as failed, instead of leaving the block undone."""


@dataclass(frozen=True, slots=True)
class PatchResult:
    """How one row of the cube ended: a line of the manifest."""

    row: int
    site: str
    slot: int
    scene: str
    state: Literal["stored", "gap", "failed"]
    reason: str = ""
    detail: str = ""
    clear: float = 0.0
    """Share of the patch that is valid, as stored."""

    resampled: bool = False
    versions: Mapping[str, str] | None = None
    """Product to the item or image it was read from; absent where it had nothing."""


def fetch_block(job: FetchJob) -> list[PatchResult]:
    """Fetch, write and commit one block.

    A block that is done is left alone; one that is half done is written over, byte for byte.

    Raises:
        AccessError: The provider failed for some site and `give_up` is not set; nothing of the
            block counts until it is run again.
        InputError: What the provider holds is broken.
        WorkspaceError: The disk is full or read-only.
    """
    if job.manifest.exists():
        return read_manifest(job.manifest)
    pixels = _Pixels.empty(job)
    results = _fill(pixels, job)
    settle(job.access)
    with plain_disk_errors(job.group):
        checksums = pixels.write(job)
    content = {
        "block": job.block.name,
        "rows": [job.block.start, job.block.stop],
        "patches": [asdict(result) for result in results],
        "checksums": checksums,
        "version": __version__,
    }
    write_json(job.manifest, content)
    return results


def read_manifest(path: Path) -> list[PatchResult]:
    """The lines of a finished block."""
    return [PatchResult(**line) for line in json.loads(path.read_text())["patches"]]


@dataclass(slots=True)
class _Pixels:
    """The arrays of one block while it is filled."""

    image: NDArray[Any]
    valid: NDArray[np.bool_]
    codes: dict[str, NDArray[Any]]
    shares: dict[str, NDArray[np.uint8]]
    evidence: dict[str, NDArray[np.float32]]
    stored: NDArray[np.bool_]
    resampled: NDArray[np.bool_]

    @classmethod
    def empty(cls, job: FetchJob) -> _Pixels:
        n, layout = len(job.patches), job.layout
        shape = (n, layout.height, layout.width)
        bands = (n, len(layout.bands), layout.height, layout.width)
        return cls(
            image=np.full(bands, layout.imagery.nodata or 0, layout.imagery.dtype),
            valid=np.zeros(shape, bool),
            codes={p.name: np.full(shape, p.nodata, p.dtype) for p in layout.products},
            shares={p.name: np.zeros(shape, np.uint8) for p in layout.products},
            evidence={
                p.name: np.zeros((n, len(p.evidence), *shape[1:]), np.float32)
                for p in layout.products
                if p.evidence
            },
            stored=np.zeros(n, bool),
            resampled=np.zeros(n, bool),
        )

    def store(
        self,
        i: int,
        row: int,
        patch: PinnedScene,
        chip: tuple[Chip, NDArray[np.bool_]],
        maps: Mapping[str, LabelMap | Gap | AccessError],
        products: Sequence[LabelProduct],
    ) -> PatchResult:
        """Put one patch into place `i` of the block; products that have nothing stay nodata."""
        image, valid = chip
        self.image[i], self.valid[i] = image.data, valid
        self.stored[i], self.resampled[i] = True, image.resampled
        versions = {}
        for product in products:
            found = maps[product.name]
            if isinstance(found, LabelMap):
                self.codes[product.name][i] = found.codes
                self.shares[product.name][i] = found.share
                versions[product.name] = found.version
                for k, layer in enumerate(product.evidence):
                    self.evidence[product.name][i, k] = found.evidence[layer]
        return PatchResult(
            row,
            patch.site,
            patch.slot,
            patch.scene.id,
            "stored",
            clear=round(float(valid.mean()), 6),
            resampled=image.resampled,
            versions=versions,
        )

    def write(self, job: FetchJob) -> dict[str, str]:
        """Write the rows of the block; array name to the sha256 of its shard object."""
        arrays: dict[str, NDArray[Any]] = {
            "image": self.image,
            "valid": self.valid,
            **{f"labels/{name}": codes for name, codes in self.codes.items()},
            **{f"shares/{name}": share for name, share in self.shares.items()},
            **{f"evidence/{name}": layers for name, layers in self.evidence.items()},
            "resampled": self.resampled,
            "stored": self.stored,
        }
        return write_rows(job.group, job.block, arrays)


def write_rows(path: Path, block: Block, arrays: Mapping[str, NDArray[Any]]) -> dict[str, str]:
    """Write the rows of a block into arrays of a round, in whole shard objects.

    Args:
        path: `cube.zarr/<round>`.
        block: Whose rows.
        arrays: Name of an array that is there to its rows.

    Returns:
        Array name to the sha256 of its shard object.
    """
    group = open_round(path, "r+")
    rows = slice(block.start, block.stop)
    checksums = {}
    for name, data in arrays.items():
        array = group[name]
        array[rows] = data  # type: ignore[index]
        key = "/".join(["c", str(block.number), *["0"] * (data.ndim - 1)])
        written = path / name / key
        if written.exists():  # an object of nothing but fill values is not written
            checksums[name] = sha256_file(written)
        for stale in written.parent.glob(f"{written.name}.*.partial"):
            stale.unlink(missing_ok=True)  # what Zarr leaves when it is killed
    return checksums


READ_TOGETHER = 8
"""Patches asked for at once: enough for a provider to answer several from one tile, few enough
that what was read and what is stored are not both in memory for the whole block."""


def _fill(pixels: _Pixels, job: FetchJob) -> list[PatchResult]:
    return [
        result
        for start in range(0, len(job.patches), READ_TOGETHER)
        for result in _fill_some(pixels, job, start, job.patches[start : start + READ_TOGETHER])
    ]


def _fill_some(
    pixels: _Pixels, job: FetchJob, start: int, patches: Sequence[PinnedScene]
) -> list[PatchResult]:
    chips = _images(job, patches)
    has = [isinstance(chip, tuple) for chip in chips]
    maps = {
        p.name: label_maps(p, patches, has, job.access, job.give_up) for p in job.layout.products
    }
    results = []
    for k, (patch, chip) in enumerate(zip(patches, chips, strict=True)):
        here = {name: found[k] for name, found in maps.items()}
        row = job.block.start + start + k
        problem = _problem(patch, chip, here, job)
        if problem is None and isinstance(chip, tuple):
            results.append(pixels.store(start + k, row, patch, chip, here, job.layout.products))
        elif isinstance(problem, Gap):
            results.append(_ended(row, patch, "gap", problem.reason.value, problem.detail))
        else:
            results.append(_ended(row, patch, "failed", "provider", str(problem)))
    return results


def _ended(
    row: int, patch: PinnedScene, state: Literal["gap", "failed"], reason: str, detail: str
) -> PatchResult:
    return PatchResult(row, patch.site, patch.slot, patch.scene.id, state, reason, detail)


_Image = tuple[Chip, NDArray[np.bool_]]


def _images(job: FetchJob, patches: Sequence[PinnedScene]) -> list[_Image | Gap | AccessError]:
    """Imagery and validity; a patch's two requests follow each other, so that caches serve. What
    is inside of a composite has been seen.
    """
    validity = job.layout.imagery.validity
    requests = []
    for p in patches:
        bands = job.layout.bands
        requests.append(ReadRequest(site=p.site, scene=p.scene, grid=p.grid, bands=bands))
        if validity.band is not None and not p.scene.members:
            requests.append(
                ReadRequest(
                    site=p.site,
                    scene=p.scene,
                    grid=p.grid,
                    bands=(validity.band,),
                    categorical=True,
                )
            )
    answers = iter(_ask(job, requests))
    out: list[_Image | Gap | AccessError] = []
    for p in patches:
        chip = next(answers)
        alone = validity.band is None or bool(p.scene.members)
        mask = chip if alone else next(answers)
        if not isinstance(chip, Chip):
            out.append(chip)
        elif not isinstance(mask, Chip):
            out.append(mask)
        else:
            valid = chip.inside & mask.inside
            if not alone:
                valid &= validity.decode(mask.data[0])
            out.append((chip, valid))
    return out


def _ask(job: FetchJob, requests: Sequence[ReadRequest]) -> list[Chip | Gap | AccessError]:
    """All requests at once; where the provider fails, each by itself, to know whose it was."""
    try:
        return list(job.access.read(job.layout.imagery, requests))
    except AccessError as error:
        if not job.give_up:
            raise
        if len(requests) == 1:
            return [error]
        return [answer for request in requests for answer in _ask(job, [request])]


def label_maps(
    product: LabelProduct,
    patches: Sequence[PinnedScene],
    wanted: Sequence[bool],
    access: Access,
    give_up: bool,
) -> list[LabelMap | Gap | AccessError]:
    """The product on the grid of every wanted patch; asked once where the rows of a site share a map.

    Raises:
        AccessError: The provider failed and `give_up` is not set.
        InputError: What the provider holds is broken.
    """
    keys = [label_key(product, patch) for patch in patches]
    requests = label_requests(product, itertools.compress(patches, wanted))
    found = dict(
        zip(requests, _ask_labels(product, list(requests.values()), access, give_up), strict=True)
    )
    maps = {
        key: regrid(source, requests[key].grid, nodata=product.nodata, dtype=product.dtype)
        if isinstance(source, LabelSource)
        else source
        for key, source in found.items()
    }  # fmt: skip
    nothing = Gap("", GapReason.NO_LABEL, product.name)
    return [maps.get(key, nothing) for key in keys]


def _ask_labels(
    product: LabelProduct, requests: list[LabelRequest], access: Access, give_up: bool
) -> list[LabelSource | Gap | AccessError]:
    if not requests:
        return []
    try:
        return list(access.labels(product, requests))
    except AccessError as error:
        if not give_up:
            raise
        if len(requests) == 1:
            return [error]
        return [a for request in requests for a in _ask_labels(product, [request], access, give_up)]


def _problem(
    patch: PinnedScene,
    chip: _Image | Gap | AccessError,
    maps: Mapping[str, LabelMap | Gap | AccessError],
    job: FetchJob,
) -> Gap | AccessError | None:
    """Why this patch cannot be stored; None if it can."""
    if not isinstance(chip, tuple):
        return chip
    for product in job.layout.products:
        found = maps[product.name]
        if isinstance(found, AccessError):
            return found
        if product.name not in job.required:
            continue
        if isinstance(found, Gap):
            detail = f"{product.name} {found.detail}".strip()
            return Gap(patch.site, GapReason.NO_LABEL, detail)
        if (found.codes == product.nodata).all():
            detail = f"{product.name} is nodata all over the patch"
            return Gap(patch.site, GapReason.NO_LABEL, detail)
    clear = float(chip[1].mean())
    if clear < job.min_clear:
        return Gap(patch.site, GapReason.NOT_COVERED, f"{clear:.3f} valid")
    return None
