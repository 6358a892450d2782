"""One product more for a block that is done: its label maps alone, beside what is there.

A cube is laid out for the products that the recipe had when its plan was drawn. One that joins
`labels` or `compare` afterwards gets arrays of its own in every round and a manifest of its own for
every block, `blocks/<block>.<product>.json`; imagery and the other products are neither read
nor written again. Which patches are stored was decided by the first products: where an added
one has nothing, the patch stays and the product is nodata.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from las_builder import __version__
from las_builder.access import Access, settle
from las_builder.catalogs import LabelProduct
from las_builder.core.types import Block, Gap, LabelMap, PinnedScene
from las_builder.core.workspace import SubsetSpace, plain_disk_errors, write_json
from las_builder.fetch.block import (
    READ_TOGETHER,
    PatchResult,
    label_maps,
    read_manifest,
    write_rows,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddJob:
    """Everything one task needs."""

    block: Block
    patches: tuple[PinnedScene, ...]
    """The rows of the block, in order."""

    product: LabelProduct
    access: Access
    group: Path
    """`cube.zarr/<round>`; the product's arrays are there."""

    first: Path
    """Manifest of the block, which is done."""

    manifest: Path
    give_up: bool = False
    """Record patches that failed as failed, instead of leaving the block undone."""


@dataclass(frozen=True, slots=True)
class AddedResult:
    """What an added product says of one row: a line of its manifest."""

    row: int
    site: str
    state: Literal["stored", "gap", "failed", "no patch"]
    """gap: the product has nothing here; no patch: the row has no imagery."""

    version: str = ""
    """The item or image it was read from."""

    reason: str = ""
    detail: str = ""


def add_product(job: AddJob) -> list[AddedResult]:
    """Fetch, write and commit one product of one block.

    Done is left alone; half done is written over, byte for byte.

    Raises:
        AccessError: The provider failed and `give_up` is not set.
        InputError: What the provider holds is broken.
        WorkspaceError: The disk is full or read-only.
    """
    if job.manifest.exists():
        return read_added(job.manifest)
    lines = read_manifest(job.first)
    found: list[Any] = []
    for start in range(0, len(lines), READ_TOGETHER):
        part = slice(start, start + READ_TOGETHER)
        stored = [line.state == "stored" for line in lines[part]]
        found += label_maps(job.product, job.patches[part], stored, job.access, job.give_up)
    settle(job.access)
    arrays, results = _arrays(job, lines, found)
    with plain_disk_errors(job.group):
        checksums = write_rows(job.group, job.block, arrays)
    content = {
        "block": job.block.name,
        "product": job.product.name,
        "rows": [job.block.start, job.block.stop],
        "patches": [asdict(result) for result in results],
        "checksums": checksums,
        "version": __version__,
    }
    write_json(job.manifest, content)
    return results


def read_added(path: Path) -> list[AddedResult]:
    """The lines of a finished product of a block."""
    return [AddedResult(**line) for line in json.loads(path.read_text())["patches"]]


def read_block(
    space: SubsetSpace, block: Block, added: Iterable[LabelProduct]
) -> tuple[list[PatchResult], bool]:
    """The lines of a block with the versions of added products, and whether all of it is done.

    A block that is not done has no lines.
    """
    manifest = space.block(block.name)
    if not manifest.exists():
        return [], False
    lines, done = read_manifest(manifest), True
    for product in added:
        path = space.added(block.name, product.name)
        if not path.exists():
            done = False
            continue
        for i, line in enumerate(read_added(path)):
            if line.state == "stored":
                versions = {**(lines[i].versions or {}), product.name: line.version}
                lines[i] = replace(lines[i], versions=versions)
    return lines, done


def _arrays(
    job: AddJob, lines: list[PatchResult], found: list[Any]
) -> tuple[dict[str, NDArray[Any]], list[AddedResult]]:
    product = job.product
    shape = (len(lines), *job.patches[0].grid.shape)
    codes = np.full(shape, product.nodata, product.dtype)
    share = np.zeros(shape, np.uint8)
    layers = np.zeros((shape[0], len(product.evidence), *shape[1:]), np.float32)
    results = []
    for i, (line, one) in enumerate(zip(lines, found, strict=True)):
        if line.state != "stored":
            results.append(AddedResult(line.row, line.site, "no patch"))
        elif isinstance(one, LabelMap):
            codes[i], share[i] = one.codes, one.share
            for k, layer in enumerate(product.evidence):
                layers[i, k] = one.evidence[layer]
            results.append(AddedResult(line.row, line.site, "stored", one.version))
        elif isinstance(one, Gap):
            results.append(
                AddedResult(line.row, line.site, "gap", "", one.reason.value, one.detail)
            )
        else:
            results.append(AddedResult(line.row, line.site, "failed", "", "provider", str(one)))
    arrays: dict[str, NDArray[Any]] = {
        f"labels/{product.name}": codes,
        f"shares/{product.name}": share,
    }
    if product.evidence:
        arrays[f"evidence/{product.name}"] = layers
    return arrays, results
