"""Peers of `shards.py`, in an environment of their own: `shards_peer.py NAME FOLDER CORPUS WORKERS`.

Writes the members of a corpus in the peer's form, then reads an epoch for every line of input and
prints how long it took. Needs numpy, numcodecs, numba, affine, pyproj and torch beside the peer.
"""

from __future__ import annotations

import os
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from las_builder.pack.read import pixels

TIFFS = ("image.tif", "label.tif", "confidence.tif", "valid.tif")


def members(corpus: Path) -> Iterator[dict[str, bytes]]:
    """The samples of all shards, in order."""
    for shard in sorted((corpus / "shards").glob("*.tar")):
        sample: dict[str, bytes] = {}
        with tarfile.open(shard) as tar:
            for info in tar:
                file = tar.extractfile(info)
                assert file is not None
                sample[info.name.partition(".")[2].replace(".", "_")] = file.read()
                if "json" in sample:
                    yield sample
                    sample = {}


def arrays(sample: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(torch.from_numpy(pixels(sample[n.replace(".", "_")])) for n in TIFFS)


def litdata(folder: Path, corpus: Path, workers: int) -> Callable[[], int]:
    import litdata as ld

    if not folder.exists():
        writer = ld.streaming.writer.BinaryWriter(str(folder), chunk_bytes="64MB")
        for i, sample in enumerate(members(corpus)):
            writer.add_item(i, sample)
        writer.done()
        writer.merge(1)

    class Decoded(ld.StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, index: Any) -> Any:
            return arrays(super().__getitem__(index))

    loader = ld.StreamingDataLoader(
        Decoded(str(folder), shuffle=True), batch_size=32, num_workers=workers
    )
    return lambda: sum(len(batch[0]) for batch in loader)


def mds(folder: Path, corpus: Path, workers: int) -> Callable[[], int]:
    from streaming import MDSWriter, StreamingDataset

    if not folder.exists():
        columns = {name.replace(".", "_"): "bytes" for name in (*TIFFS, "json")}
        with MDSWriter(out=str(folder), columns=columns, size_limit=1 << 26) as writer:
            for sample in members(corpus):
                writer.write(sample)

    class Decoded(StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, index: Any) -> Any:
            return arrays(super().__getitem__(index))

    data = Decoded(local=str(folder), shuffle=True, batch_size=32)
    loader = DataLoader(data, batch_size=32, num_workers=workers)
    return lambda: sum(len(batch[0]) for batch in loader)


def main() -> None:
    name, folder, corpus, workers = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # peers print
    make = {"litdata": litdata, "mds": mds}[name]
    epoch = make(Path(folder), Path(corpus), int(workers))
    expected = sum(1 for _ in members(Path(corpus)))
    for line in sys.stdin:
        before, start = os.times(), time.perf_counter()
        n = epoch()
        assert n == expected, (n, expected)
        spent = [b - a for a, b in zip(before[:4], os.times()[:4], strict=True)]
        print(sum(spent) if line.strip() == "cpu" else time.perf_counter() - start, file=answers)


if __name__ == "__main__":
    main()
