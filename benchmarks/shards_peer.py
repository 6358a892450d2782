"""Peers of `shards.py`, each in a process of its own: `shards_peer.py NAME FOLDER CORPUS WORKERS`.

Writes the samples of a corpus in the peer's form, then answers every line of input: `digest` (of the
pixels of an epoch), `bytes` (of its files), `wall` or `cpu` (seconds of an epoch). Needs las_builder
and torch; `litdata` and `mds` the packages of these names.

- `webdataset`: the shards as they are, its shuffles of shards and of 64 samples, our function for the pixels.
- `litdata`, `mds`: the members of the tars as they are, decoded with our function; their shuffle.
- `zarr`: version 3, a chunk a sample, 64 in a shard, the codecs of the members (differences and
  Zstandard with a checksum; differences run on over rows). `zarr blosc`: Zstandard 5 and bit shuffle.
- `memmap`: pixels as they are, copied into one batch by two threads: what the memory gives.
- `tarfile`: the standard library from the first sample to the last, our function for the pixels.
- `tar scan`: headers walked in the mapped file, decoded into one batch by two threads: what a tar
  gives that is read in order.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from las_builder.pack import tiff
from las_builder.pack.encode import ZSTD_LEVEL
from las_builder.pack.read import pixels

TIFFS = ("image.tif", "label.tif", "confidence.tif", "valid.tif")
BATCH, PER_SHARD, THREADS = 32, 64, 2
Batches = Callable[[], Iterable[Sequence[Any]]]
"""One epoch: of each batch the arrays of TIFFS, samples first."""


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


def digest(batches: Iterable[Sequence[Any]]) -> int:
    """Of all pixels of an epoch, in whatever order its samples come."""
    total = 0
    for batch in batches:
        for sample in zip(*batch, strict=True):
            one = hashlib.blake2b(digest_size=8)
            for array in sample:
                one.update(np.ascontiguousarray(array))
            total += int.from_bytes(one.digest(), "big")
    return total % 2**64


def litdata(folder: Path, corpus: Path, workers: int) -> Batches:
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
        Decoded(str(folder), shuffle=True), batch_size=BATCH, num_workers=workers,
        persistent_workers=workers > 0,
    )  # fmt: skip
    return lambda: loader


def mds(folder: Path, corpus: Path, workers: int) -> Batches:
    from streaming import MDSWriter, StreamingDataset

    if not folder.exists():
        columns = {name.replace(".", "_"): "bytes" for name in (*TIFFS, "json")}
        with MDSWriter(out=str(folder), columns=columns, size_limit=1 << 26) as writer:
            for sample in members(corpus):
                writer.write(sample)

    class Decoded(StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, index: Any) -> Any:
            return arrays(super().__getitem__(index))

    data = Decoded(local=str(folder), shuffle=True, batch_size=BATCH)
    loader = DataLoader(data, batch_size=BATCH, num_workers=workers, persistent_workers=workers > 0)
    return lambda: loader


def webdataset(folder: Path, corpus: Path, workers: int) -> Batches:
    import webdataset as wds

    del folder
    shards = [str(shard) for shard in sorted((corpus / "shards").glob("*.tar"))]

    def plain(sample: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(pixels(sample[name]) for name in TIFFS)

    data = wds.WebDataset(shards, shardshuffle=100, seed=1, empty_check=False)
    data = data.shuffle(64).map(plain).batched(BATCH)
    loader = DataLoader(data, batch_size=None, num_workers=workers, persistent_workers=workers > 0)
    return lambda: loader


class OfArrays(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Samples of Zarr arrays, one by one: `oindex` of a whole batch took six times as long."""

    def __init__(self, arrays: Sequence[Any]) -> None:
        self.arrays = arrays

    def __len__(self) -> int:
        return int(self.arrays[0].shape[0])

    def __getitem__(self, i: int) -> list[Any]:
        return [torch.from_numpy(array[i]) for array in self.arrays]


def zarr(folder: Path, corpus: Path, workers: int, *, blosc: bool = False) -> Batches:
    import zarr
    from zarr.codecs import BloscCodec, ZstdCodec
    from zarr.codecs.numcodecs import Delta

    if not folder.exists():
        samples = [arrays(sample) for sample in members(corpus)]
        for i, name in enumerate(TIFFS):
            data = np.stack([sample[i].numpy() for sample in samples])
            kind = data.dtype.str
            codecs: dict[str, Any] = {
                "filters": [Delta(dtype=kind)],
                "compressors": [ZstdCodec(level=ZSTD_LEVEL, checksum=True)],
            }
            if blosc:
                shuffled = BloscCodec(
                    cname="zstd", clevel=5, shuffle="bitshuffle", typesize=data.itemsize
                )
                codecs = {"compressors": [shuffled]}
            shape = data.shape[1:]
            made = zarr.create_array(
                str(folder / name), shape=data.shape, dtype=data.dtype, chunks=(1, *shape),
                shards=(PER_SHARD, *shape), **codecs,
            )  # fmt: skip
            made[:] = data
    data = OfArrays([zarr.open_array(str(folder / name), mode="r") for name in TIFFS])
    # Its threads do not outlive a fork.
    apart = {"multiprocessing_context": "spawn", "persistent_workers": True} if workers else {}
    loader = DataLoader(data, batch_size=BATCH, shuffle=True, num_workers=workers, **apart)
    return lambda: loader


def zarr_blosc(folder: Path, corpus: Path, workers: int) -> Batches:
    return zarr(folder, corpus, workers, blosc=True)


def memmap(folder: Path, corpus: Path, workers: int) -> Batches:
    del workers
    if not folder.exists():
        folder.mkdir()
        for sample in members(corpus):
            for name, data in zip(TIFFS, arrays(sample), strict=True):
                with (folder / name).open("ab") as file:
                    file.write(data.numpy().tobytes())
    shapes = [(a.shape, a.numpy().dtype) for a in arrays(next(members(corpus)))]
    kept = [
        np.memmap(folder / name, dtype, "r").reshape(-1, *shape)
        for name, (shape, dtype) in zip(TIFFS, shapes, strict=True)
    ]
    out = [np.empty((BATCH, *shape), dtype) for shape, dtype in shapes]

    def copy(places: Sequence[tuple[int, int]]) -> None:
        for place, i in places:
            for whole, part in zip(kept, out, strict=True):
                part[place] = whole[i]

    def epoch() -> Iterator[Sequence[Any]]:
        order = np.random.default_rng().permutation(len(kept[0])).tolist()
        with ThreadPoolExecutor(THREADS) as pool:
            for some in [order[i : i + BATCH] for i in range(0, len(order), BATCH)]:
                places = list(enumerate(some))
                list(pool.map(copy, [places[i::THREADS] for i in range(THREADS)]))
                yield [torch.from_numpy(part[: len(some)]) for part in out]

    return epoch


def with_tarfile(folder: Path, corpus: Path, workers: int) -> Batches:
    del folder, workers

    def epoch() -> Iterator[Sequence[Any]]:
        some: list[tuple[Any, ...]] = []
        for sample in members(corpus):
            some.append(arrays(sample))
            if len(some) == BATCH:
                yield [torch.stack(part) for part in zip(*some, strict=True)]
                some = []
        if some:
            yield [torch.stack(part) for part in zip(*some, strict=True)]

    return epoch


def walk(shard: Path) -> Iterator[list[memoryview]]:
    """The members of TIFFS of each sample, mapped, by the headers of the tar alone."""
    with shard.open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    at, sample = 0, {}
    while any(data[at : at + 1]):
        name = bytes(data[at : at + 100]).partition(b".")[2].rstrip(b"\0").decode()
        size = int(bytes(data[at + 124 : at + 136]).rstrip(b"\0 "), 8)
        sample[name] = data[at + 512 : at + 512 + size]
        at += 512 + size + -size % 512
        if len(sample) == len(TIFFS) + 1:
            yield [sample[name] for name in TIFFS]
            sample = {}


def tar_scan(folder: Path, corpus: Path, workers: int) -> Batches:
    del folder, workers
    shapes = [(a.shape, a.numpy().dtype) for a in arrays(next(members(corpus)))]
    out = [np.empty((BATCH, *shape), dtype) for shape, dtype in shapes]

    def decode(some: Sequence[tuple[int, list[memoryview]]]) -> None:
        for place, sample in some:
            for data, part in zip(sample, out, strict=True):
                found = tiff.layout(data)
                assert found is not None
                tiff.read_into(data, found, part[place])

    def epoch() -> Iterator[Sequence[Any]]:
        shards = sorted((corpus / "shards").glob("*.tar"))
        found = [sample for shard in shards for sample in walk(shard)]
        with ThreadPoolExecutor(THREADS) as pool:
            for some in [found[i : i + BATCH] for i in range(0, len(found), BATCH)]:
                places = list(enumerate(some))
                list(pool.map(decode, [places[i::THREADS] for i in range(THREADS)]))
                yield [torch.from_numpy(part[: len(some)]) for part in out]

    return epoch


PEERS: dict[str, Callable[[Path, Path, int], Batches]] = {
    "webdataset": webdataset, "litdata": litdata, "mds": mds, "zarr": zarr,
    "zarr blosc": zarr_blosc, "memmap": memmap,
    "tarfile": with_tarfile, "tar scan": tar_scan,
}  # fmt: skip


def main() -> None:
    name, folder, corpus, workers = sys.argv[1], *map(Path, sys.argv[2:4]), int(sys.argv[4])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # peers print
    epoch = PEERS[name](folder, corpus, workers)
    expected = sum(1 for _ in members(corpus))
    for line in sys.stdin:
        if line.strip() == "digest":
            print(digest(epoch()), file=answers)
        elif line.strip() == "bytes":
            form = folder if folder.exists() else corpus / "shards"
            print(sum(f.stat().st_size for f in form.rglob("*") if f.is_file()), file=answers)
        else:
            before, start = os.times(), time.perf_counter()
            n = sum(len(batch[0]) for batch in epoch())
            assert n == expected, (n, expected)
            spent = [b - a for a, b in zip(before[:4], os.times()[:4], strict=True)]
            print(
                sum(spent) if line.strip() == "cpu" else time.perf_counter() - start, file=answers
            )


if __name__ == "__main__":
    main()
