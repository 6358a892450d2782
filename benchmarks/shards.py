"""How fast shards are written and read, against peers and limits in the same run.

    las build benchmarks/shards.yaml --work work            # the pixels: 64 sites, 13 bands, 264 x 264
    python -m venv work/peers && work/peers/bin/pip install litdata mosaicml-streaming torch
    python benchmarks/shards.py work/shards [--rounds 7] [--samples 512] [--peers work/peers/bin/python]

Every row is ours against something that does the same work on the same bytes, by turns; what is
printed is the least, the median and the greatest ratio of a round. Results are compared before
anything is timed. `--only` takes parts of rows' names. `--cpu` compares CPU seconds in place of the
clock, for a machine that others use too; it is no measure of threads.

`--real ../shared/data/s2_lulc_pairs` takes real images and labels in place of the virtual Earth's.

Rows:

- `pack raw`: members that are already encoded (TIFFs without compression) into a shard, its SHA-256
  and fsync. The limit is one writev a sample of the same bytes, SHA-256 in a thread beside it, as
  ours has it, and fsync; the peer is
  webdataset's ShardWriter, then SHA-256 of what it wrote. Each writes a file that was not there.
- `pack`: samples into shards with statistics, in two processes. The limit is Zstandard of the same
  differences and SHA-256 of what comes out, in two processes.
- `read`: batches of 32 in two threads. Limits: the same strips, in memory, decoded into one buffer, in
  two threads (`bare`); a scan of the tar in order; pixels that are mapped as they are. Peers are those of
  `shards_peer.py`, with no workers and with two; `bytes` is what their files take over what ours take.
- `random`: one sample in a hundred after the cache was dropped, against a scan of the tar.
- `memory`: greatest resident size of an epoch of 20,000 samples over that of 1,000.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import webdataset
from numcodecs import zstd
from results import HEAD, Row, row, write

from las_builder.catalogs import TaxonomyClass
from las_builder.pack import MEMBERS, Sample, decode, open_shards, tiff, write_index, write_shard
from las_builder.pack.encode import ZSTD_LEVEL, encode
from las_builder.pack.loader import Loader, open_index
from las_builder.pack.read import pixels
from las_builder.pack.write import ShardReport, Tar

PER_SHARD = 64
TIFFS = MEMBERS[:4]
CORES = 2


def clock() -> float:
    """Of the wall, or of the CPU with all children that have ended."""
    if CPU:
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system
    return time.perf_counter()


CPU = False


def by_turns(
    rounds: int, ours: Callable[[], object], *others: Callable[[], object],
    begin: Callable[[], None] = lambda: None,
) -> list[list[float]]:  # fmt: skip
    """For each other, its time over ours in every round; the first round is not counted and the
    order is turned from round to round. `begin` is called before each."""
    work = [ours, *others]
    ratios: list[list[float]] = [[] for _ in others]
    for turn in range(rounds + 1):
        begin()
        took = [0.0] * len(work)
        for i in [(turn + k) % len(work) for k in range(len(work))]:
            start = clock()
            said = work[i]()
            # A peer in a process of its own, and whoever clears up before, tells its own time.
            took[i] = said if isinstance(said, float) else clock() - start
        if turn:
            for found, other in zip(ratios, took[1:], strict=True):
                found.append(other / took[0])
    return ratios


def read_samples(workspace: Path, n: int) -> list[Sample]:
    """So many samples of the workspace, over and over where it has fewer, with keys of their own."""
    shards = open_shards(workspace / "shards", workspace / "index.parquet")
    said = json.loads((workspace / "manifest.json").read_text())["subsets"]
    largest = max(shards.entries, key=lambda e: e.members["image.tif"][1]).subset
    entries = [entry for entry in shards.entries if entry.subset == largest][:n]
    found = []
    for i in range(n):
        entry = entries[i % len(entries)]
        if i < len(entries):
            one = shards.read(entry)
            classes = tuple(
                TaxonomyClass.model_construct(**{k: v for k, v in c.items() if k != "value"})
                for c in said[entry.subset]["classes"]
            )
            found.append(
                Sample(
                    key=f"s{i:06d}", grid=one.grid, bands=one.bands, image=one.image,
                    valid=one.valid, label=one.label, confidence=one.confidence, scale=one.scale,
                    offset=one.offset, classes=classes,
                    metadata={**one.metadata, "key": f"s{i:06d}"},
                )
            )  # fmt: skip
        else:
            base = found[i % len(entries)]
            again = {**base.metadata, "key": f"s{i:06d}"}
            found.append(replace(base, key=f"s{i:06d}", metadata=again))
    return found


def real_samples(samples: Sequence[Sample], folder: Path) -> list[Sample]:
    """The same with real images and labels, of 224 pixels, turned and mirrored."""
    import rasterio

    pairs = []
    for path in sorted(folder.glob("*/S2L2A.tif")):
        with rasterio.open(path) as image, rasterio.open(path.with_name("LULC.tif")) as label:
            pairs.append((image.read().astype(np.uint16), label.read(1).astype(np.uint8)))
    found = []
    for i, sample in enumerate(samples):
        turn = i // len(pairs) % 8
        planes = [
            np.ascontiguousarray(np.rot90(plane, turn, (-2, -1))[..., :: 1 if turn < 4 else -1])
            for plane in pairs[i % len(pairs)]
        ]
        height, width = planes[1].shape
        found.append(
            replace(
                sample, grid=replace(sample.grid, width=width, height=height), image=planes[0],
                label=planes[1], valid=np.ones((height, width), bool),
                confidence=np.full((height, width), 100, np.uint8),
            )
        )  # fmt: skip
    return found


# ------------------------------------------------------------------------------------- writing


def raw_members(sample: Sample) -> dict[str, bytes]:
    """The members, their pixels as they are."""
    members = encode(sample)
    return {
        name: (pixels(data).tobytes() if name in TIFFS else data) for name, data in members.items()
    }


def write_ours(path: Path, samples: Sequence[tuple[str, dict[str, bytes]]]) -> str:
    with Tar(path) as tar:
        for key, members in samples:
            tar.append(key, members)
    sync(path)
    return tar.sha256


def write_limit(path: Path, pieces: Sequence[Sequence[bytes]]) -> str:
    digest = hashlib.sha256()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def update() -> None:
        for some in pieces:
            for piece in some:
                digest.update(piece)

    with ThreadPoolExecutor(1) as hasher:
        hashed = hasher.submit(update)
        for some in pieces:
            os.writev(file, some)
        os.fsync(file)
        hashed.result()
    os.close(file)
    return digest.hexdigest()


def write_webdataset(path: Path, samples: Sequence[tuple[str, dict[str, bytes]]]) -> str:
    with webdataset.TarWriter(str(path), encoder=False) as sink:
        for key, members in samples:
            sink.write({"__key__": key, **members})
    sync(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def pieces_of(path: Path, per_sample: int) -> list[list[bytes]]:
    """The bytes of a tar as a writer would hand them on, a list a sample."""
    data = path.read_bytes()
    found: list[bytes] = []
    with tarfile.open(path) as tar:
        for info in tar:
            end = info.offset_data + info.size
            padded = end + -info.size % 512
            found += [
                data[info.offset : info.offset_data], data[info.offset_data : end],
                data[end:padded],
            ]  # fmt: skip
    step = 3 * per_sample
    whole = [found[i : i + step] for i in range(0, len(found), step)]
    return [*whole, [bytes(1024)]]


def packing_raw(samples: Sequence[Sample], rounds: int, folder: Path) -> Iterator[Row]:
    members = [(s.key, raw_members(s)) for s in samples[:128]]
    ours, limit, peer = (folder / f"{name}.tar" for name in ("ours", "limit", "peer"))
    digest = write_ours(ours, members)
    assert digest == hashlib.sha256(ours.read_bytes()).hexdigest()
    pieces = pieces_of(ours, len(MEMBERS))
    assert write_limit(limit, pieces) == digest
    write_webdataset(peer, members)
    back = {s["__key__"]: s for s in webdataset.WebDataset(str(ours), shardshuffle=False)}
    for key, found in members:
        assert all(back[key][name] == data for name, data in found.items())
    ratios = by_turns(
        rounds,
        anew(ours, lambda: write_ours(ours, members)),
        anew(limit, lambda: write_limit(limit, pieces)),
        anew(peer, lambda: write_webdataset(peer, members)),
    )
    yield row("pack raw", "writev + sha256 + fsync", 0.8, ratios[0])
    yield row("pack raw", "webdataset TarWriter + sha256", 3.0, ratios[1])


def anew(path: Path, work: Callable[[], object]) -> Callable[[], float]:
    """The time of work that writes a file which is not there yet, as shards are: emptying
    an old one is no part of packing."""

    def timed() -> float:
        path.unlink()
        start = clock()
        work()
        return clock() - start

    return timed


SAMPLES: list[Sample] = []
"""Of the processes that pack."""


def remember(samples: list[Sample]) -> None:
    SAMPLES[:] = samples
    for sample in samples:  # kernels and templates, as in a run of thousands
        encode(sample)


def pack_part(path: Path, part: slice) -> str:
    return write_shard(path, SAMPLES[part], subset="b", split="train").sha256


def bare_part(part: slice) -> int:
    digest, size = hashlib.sha256(), 0
    for sample in SAMPLES[part]:
        planes = [sample.label, sample.confidence, sample.valid.view(np.uint8)]
        for band in [*sample.image, *planes]:
            data = zstd.compress(tiff.differences(band), ZSTD_LEVEL, True)
            digest.update(data)
            size += len(data)
    return size


def packing(samples: list[Sample], rounds: int, folder: Path) -> Iterator[Row]:
    samples = samples[:96]
    parts = [slice(i, None, CORES) for i in range(CORES)]
    paths = [folder / f"b-train-{i:06d}.tar" for i in range(CORES)]
    with ProcessPoolExecutor(CORES, initializer=remember, initargs=(samples,)) as pool:
        ratios = by_turns(
            rounds,
            lambda: list(pool.map(pack_part, paths, parts)),
            lambda: list(pool.map(bare_part, parts)),
        )
    yield row("pack", "zstd of the same + sha256", 0.85, ratios[0])


# ------------------------------------------------------------------------------------- reading


def corpus_of(samples: Sequence[Sample], folder: Path) -> list[ShardReport]:
    """Shards and index of some samples; what is there is left."""
    shards = folder / "shards"
    reports = [
        write_shard(
            shards / f"b-train-{i:06d}.tar", samples[start : start + PER_SHARD],
            subset="b", split="train",
        )
        for i, start in enumerate(range(0, len(samples), PER_SHARD))
    ]  # fmt: skip
    write_index(folder / "index.parquet", reports)
    return reports


def loader_of(folder: Path, size: int = 32, **more: Any) -> Loader:
    index = open_index(folder / "index.parquet")
    return Loader(index, index.where(), size, threads=CORES, **more)


def epoch(loader: Loader) -> int:
    import torch

    return sum(len(torch.from_numpy(batch.image)) for batch in loader)


def bare_epoch(strips: Sequence[Sequence[tuple[Any, Any]]]) -> None:
    """Every strip decoded, into one buffer a thread."""

    def decode_some(part: Sequence[Sequence[tuple[Any, Any]]]) -> None:
        out: dict[Any, Any] = {}
        for sample in part:
            for data, found in sample:
                key = found.shape, found.dtype
                if key not in out:
                    out[key] = np.empty(found.shape, found.dtype)
                tiff.read_into(data, found, out[key])

    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(decode_some, [strips[i::CORES] for i in range(CORES)]))


class Peer:
    """A peer in a process of its own: see `shards_peer.py`."""

    def __init__(self, python: str, name: str, folder: Path, samples: Path, workers: int) -> None:
        here = Path(__file__).with_name("shards_peer.py")
        root = str(Path(__file__).parents[1])
        self.process = subprocess.Popen(
            [python, str(here), name, str(folder), str(samples), str(workers)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": root, "PYTHONWARNINGS": "ignore"},
        )  # fmt: skip

    def ask(self, what: str) -> str:
        """Its answer to a line."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(what, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a peer ended before its time; its error is above")
        return line.strip()

    def epoch(self) -> float:
        """Seconds of one epoch, in wall or CPU time."""
        return float(self.ask("cpu" if CPU else "wall"))

    def close(self) -> None:
        """It ends with its input."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()


LIMITS = ("tar scan", "tarfile", "memmap")
PEERS = {"zarr": 0.0, "zarr blosc": 0.0, "litdata": 1.0, "mds": 1.0}
"""Of `shards_peer.py`, with their bars: what has no workers, and what lives elsewhere."""


def reading(samples: list[Sample], rounds: int, folder: Path, peers: str | None) -> Iterator[Row]:
    from shards_peer import digest

    corpus_of(samples, folder)
    shards = sorted((folder / "shards").glob("*.tar"))
    known = open_shards(folder / "shards", folder / "index.parquet")
    by_key = {sample.key: sample for sample in samples}
    for batch in loader_of(folder):
        for i, key in enumerate(batch.keys):
            assert (batch.image[i] == by_key[key].image).all()
            assert (batch.label[i] == by_key[key].label).all()
    strips = []
    for entry in known.entries:
        members = [known.member(entry, name) for name in TIFFS]
        strips.append([(data, tiff.layout(data)) for data in members])
    ours = loader_of(folder)
    pixels_of = digest((b.image, b.label, b.confidence, b.valid) for b in ours)
    names, bars, sizes = ["bare decoder, two threads"], [0.8], [0.0]
    others: list[Callable[[], object]] = [lambda: bare_epoch(strips)]
    size = sum(shard.stat().st_size for shard in shards)
    running = []
    asked = [(sys.executable, name, 0, 0.0) for name in LIMITS]
    asked += [(sys.executable, "webdataset", workers, 2.0) for workers in (0, 1, 2)]
    if peers is not None:
        asked += [(peers, name, workers, bar) for name, bar in PEERS.items() for workers in (0, 2)]
    for python, name, workers, bar in asked:
        peer = Peer(python, name, folder / f"{name}-{workers}", folder, workers)
        running.append(peer)
        if int(peer.ask("digest")) != pixels_of:
            raise SystemExit(f"{name} with {workers} workers reads other pixels")
        names.append(name if name in LIMITS else f"{name}, {workers} workers")
        others.append(peer.epoch)
        bars.append(bar)
        sizes.append(int(peer.ask("bytes")) / size)
    try:
        ratios = by_turns(rounds, lambda: epoch(ours), *others)
    finally:
        for peer in running:
            peer.close()
    for name, bar, found, share in zip(names, bars, ratios, sizes, strict=True):
        yield row("read", name, bar, found, size=share)


def forget(paths: Sequence[Path]) -> None:
    """Drop what the system keeps of files."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def random_access(samples: list[Sample], rounds: int, folder: Path) -> Iterator[Row]:
    if not (folder / "index.parquet").exists():
        corpus_of(samples, folder)
    shards = sorted((folder / "shards").glob("*.tar"))
    rng = np.random.default_rng(0)
    wanted = {samples[i].key for i in rng.choice(len(samples), max(1, len(samples) // 100), False)}

    def ours() -> dict[str, Any]:
        forget(shards)
        index = open_index(folder / "index.parquet")
        loader = Loader(index, index.where(keys=wanted), 1, threads=1, ahead=0)
        return {batch.keys[0]: batch.image[0] for batch in loader}

    def scan() -> dict[str, Any]:
        forget(shards)
        found = {}
        for shard in shards:
            with tarfile.open(shard, "r|") as tar:
                for info in tar:
                    key, _, member = info.name.partition(".")
                    if key in wanted:
                        file = tar.extractfile(info)
                        assert file is not None
                        found.setdefault(key, {})[member] = file.read()
        return {key: decode(members).image for key, members in found.items()}

    one, other = ours(), scan()
    assert one.keys() == other.keys() == wanted
    assert all((one[key] == other[key]).all() for key in wanted)
    yield row("random", "scan of the tar, 1 in 100", 3.0, by_turns(rounds, ours, scan)[0])


def resident(folder: Path, n: int) -> float:
    """Greatest resident MiB of a process that reads an epoch of a corpus.

    Of its own memory alone: `ru_maxrss` of a process begins with what its parent held.
    """
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from las_builder.pack.loader import Loader, open_index\n"
        "index = open_index(Path(sys.argv[1]))\n"
        "n = sum(len(b.keys) for b in Loader(index, index.where(), 32, threads=2))\n"
        "said = Path('/proc/self/status').read_text().partition('VmHWM:')[2]\n"
        "print(n, int(said.split()[0]) / 1024)"
    )
    root = str(Path(__file__).parents[1])
    said = subprocess.run(
        [sys.executable, "-c", code, str(folder / "index.parquet")],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": root},
    ).stdout.split()  # fmt: skip
    assert int(said[0]) == n
    return float(said[1])


def memory(samples: list[Sample], folder: Path) -> Iterator[Row]:
    """The same patches under other keys; 20,000 of them are 12 GB, so the patches are cut."""
    cut = []
    for sample in samples[:64]:
        grid = replace(sample.grid, width=128, height=128)
        part = (slice(0, 128), slice(0, 128))
        cut.append(
            replace(
                sample, grid=grid, image=np.ascontiguousarray(sample.image[:, *part]),
                **{k: np.ascontiguousarray(getattr(sample, k)[part])
                   for k in ("label", "valid", "confidence")},
            )
        )  # fmt: skip
    found = []
    for n in (1_000, 20_000):
        where = folder / f"memory-{n}"
        if not (where / "index.parquet").exists():
            reports = []
            for i, start in enumerate(range(0, n, 1000)):
                keys = [f"m{start + j:06d}" for j in range(1000)]
                some = [
                    replace(cut[j % 64], key=key, metadata={**cut[j % 64].metadata, "key": key})
                    for j, key in enumerate(keys)
                ]
                path = where / "shards" / f"b-train-{i:06d}.tar"
                reports.append(write_shard(path, some, subset="b", split="train"))
            write_index(where / "index.parquet", reports)
        found.append(resident(where, n))
    print(f"memory: {found[0]:.0f} MiB at 1,000 samples, {found[1]:.0f} MiB at 20,000")
    yield row("memory", "1,000 samples over 20,000", 0.95, [found[0] / found[1]])


def main() -> None:
    global CPU  # noqa: PLW0603 - one switch of the whole run
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--real", type=Path, help="folder of pairs: */S2L2A.tif of the bands, LULC.tif"
    )
    parser.add_argument("--peers", help="the Python that has litdata and streaming")
    parser.add_argument("--only", nargs="*", default=["raw", "pack", "read", "random", "memory"])
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--out", type=Path, help="folder of JSON and plot")
    given = parser.parse_args()
    CPU = given.cpu
    samples = read_samples(given.workspace, given.samples)
    if given.real is not None:
        samples = real_samples(samples, given.real)
    found: list[Row] = []
    print(HEAD)
    with tempfile.TemporaryDirectory(dir=given.workspace.parent) as name:
        folder = Path(name)
        parts: dict[str, Callable[[], Iterator[Row]]] = {
            "raw": lambda: packing_raw(samples, given.rounds, folder),
            "pack": lambda: packing(samples, given.rounds, folder),
            "read": lambda: reading(samples, given.rounds, folder, given.peers),
            "random": lambda: random_access(samples, given.rounds, folder),
            "memory": lambda: memory(samples, folder),
        }
        for part in given.only:
            found += parts[part]()
    if given.out is not None:
        kind = "virtual" if given.real is None else "real"
        about = {"pixels": kind, "samples": given.samples, "rounds": given.rounds, "cpu": given.cpu}
        write(given.out, "shards", found, about)


if __name__ == "__main__":
    main()
