"""Images of the cube that are in shards, freed: `las pack --consume`."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from las_builder.core.workspace import SubsetSpace, sha256_file, write_bytes
from las_builder.errors import StageError
from las_builder.fetch import CubeLayout
from las_builder.pack import ShardReport


def verify(reports: Iterable[ShardReport], shards: Path) -> None:
    """Read every shard again and compare.

    Raises:
        StageError: One is gone, or holds other bytes than were written.
    """
    for report in reports:
        path = shards / report.name
        if report.samples and (not path.exists() or sha256_file(path) != report.sha256):
            raise StageError(
                f"{path} is not what was packed: nothing is freed; remove it and pack again"
            )


def consume(
    stored: Mapping[tuple[int, int], str], reports: Sequence[ShardReport], home: SubsetSpace,
    layout: CubeLayout,
) -> str:  # fmt: skip
    """Free the images of the blocks all of whose stored patches are in shards.

    Codes, shares, evidence and validity stay, so audits and consensus go on; so do manifests, by
    which a block is done.

    Args:
        stored: (round, row) of every stored patch to its key; "" where its split is not packed.
        reports: Of the subset's shards, verified.
        home: With its cube.
        layout: Of it.

    Returns:
        What was freed, for people.
    """
    packed = {member.key for report in reports for member in report.members}
    blocks: dict[tuple[int, int], list[bool]] = defaultdict(list)
    for (round_, row), key in stored.items():
        blocks[round_, row // layout.block_patches].append(key in packed)
    freed = size = kept = 0
    for (round_, number), here in sorted(blocks.items()):
        folder = home.cube / str(round_) / "image" / "c" / str(number)
        if not all(here):
            kept += 1
        elif folder.exists():
            # The mark comes first: without it, what is gone would be read as nothing.
            write_bytes(home.consumed(f"r{round_}-{number:05d}"), b"")
            size += sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            shutil.rmtree(folder)
            freed += 1
    more = f"; {kept} hold patches that are in no shard and stay" if kept else ""
    return f"freed the images of {freed} blocks, {size / 1e6:,.1f} MB{more}"
