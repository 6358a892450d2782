"""Batches from shards: any sample by its byte range, decoded in threads, in an order that can resume.

The order of an epoch is one permutation of all samples, from the seed and the number of the epoch, so
a shuffle is whole however many shards there are; every rank takes its own part of it, all of one size.
Bytes come by `os.pread` or HTTP ranges, one a sample; pixels by `tiff`, which lets other threads run,
and by rasterio where a member is not of our writing.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from las_builder.errors import WorkspaceError
from las_builder.pack import tiff
from las_builder.pack.encode import MEMBERS
from las_builder.pack.read import check_names, pixels, reflectance_of
from las_builder.pack.write import FORMAT

_PLANES = {"label": "label.tif", "confidence": "confidence.tif", "valid": "valid.tif"}


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """`index.parquet` as columns, a row a sample: some 100 bytes each."""

    folder: str
    """Path or URL of the folder of the shards."""

    shards: tuple[str, ...]
    """Names of files."""

    sizes: tuple[int, ...]
    """Bytes that each is to have; none where there is no manifest."""

    shard: NDArray[np.int32]
    """(n,) number of the sample's shard."""

    keys: NDArray[np.object_]
    subsets: NDArray[np.object_]
    splits: NDArray[np.object_]
    offsets: NDArray[np.int64]
    """(n, member) of the first byte of each member, in the order of `MEMBERS`."""

    lengths: NDArray[np.int64]
    """(n, member) bytes."""

    def __len__(self) -> int:
        return len(self.shard)

    def where(
        self, *, subset: str | None = None, split: str | None = None,
        keys: Collection[str] | None = None,
    ) -> NDArray[np.int64]:  # fmt: skip
        """Rows of the samples that are all of this, ascending."""
        chosen = np.ones(len(self), np.bool_)
        if subset is not None:
            chosen &= self.subsets == subset
        if split is not None:
            chosen &= self.splits == split
        if keys is not None:
            wanted = frozenset(keys)
            chosen &= np.fromiter((key in wanted for key in self.keys), np.bool_, len(self))
        return np.flatnonzero(chosen)


def open_index(
    index: str | Path, folder: str | Path | None = None, manifest: Path | None = None
) -> Index:
    """The index of a corpus, ready to read from.

    Args:
        index: `index.parquet`.
        folder: Of the shards, a path or an http(s) URL; None: `shards` beside the index.
        manifest: `manifest.json`; None: beside the index, if it is there. It says how large a
            shard is, so that one of another packing is noticed.

    Raises:
        WorkspaceError: An index of another format, one that names files outside the folder, or
            samples without all members.
    """
    index = Path(index)
    rows = _rows(index)
    shards = tuple(sorted(rows.words["shard"]))
    place = {shard: i for i, shard in enumerate(shards)}
    number = np.array([place[shard] for shard in rows.words["shard"]], np.int32)
    shard, offset = number[rows.coded["shard"]], rows.numbers["offset"]
    later = (shard[1:] > shard[:-1]) | ((shard[1:] == shard[:-1]) & (offset[1:] > offset[:-1]))
    order = slice(None) if later.all() else np.lexsort((offset, shard))
    m = len(MEMBERS)
    n = len(shard) // m
    whole = len(shard) == n * m
    if whole:
        key = rows.coded["key"][order].reshape(n, m)
        others = np.nonzero(key != key[:, :1])  # the same word again, or another one
        whole = bool(
            (rows.coded["member"][order].reshape(n, m) == np.arange(m)).all()
            and (rows.keys[key[others]] == rows.keys[key[others[0], 0]]).all()
        )
    if not whole:
        raise WorkspaceError(
            index, "member", "others", f"{', '.join(MEMBERS)} of every sample, side by side"
        )
    keys = rows.keys[key[:, 0]]
    for one in shards:
        check_names(index, one, "x")
    for one in keys:
        check_names(index, "x.tar", one)

    def words(name: str) -> NDArray[np.object_]:
        return np.array(rows.words[name], np.object_)[rows.coded[name][order][::m]]

    manifest = index.with_name("manifest.json") if manifest is None else manifest
    sizes: Mapping[str, int] = {}
    if manifest.exists():
        listed = json.loads(manifest.read_text())["shards"]
        sizes = {line["name"]: line["size"] for line in listed}
    return Index(
        folder=str(index.parent / "shards" if folder is None else folder).rstrip("/"),
        shards=shards,
        sizes=tuple(sizes.get(shard, 0) for shard in shards),
        shard=shard[order][::m].copy(),
        keys=keys,
        subsets=words("subset"),
        splits=words("split"),
        offsets=offset[order].reshape(n, m),
        lengths=rows.numbers["length"][order].reshape(n, m),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """The columns of an index, a row a member."""

    words: Mapping[str, tuple[str, ...]]
    """Of subset, split and shard."""

    keys: NDArray[np.object_]
    """Of one sample, once or a few times."""

    coded: Mapping[str, NDArray[np.int32]]
    """Of subset, split, shard and key the place of the word; of member that in `MEMBERS`, their
    number for none of them."""

    numbers: Mapping[str, NDArray[np.int64]]
    """Offset and length."""


def _rows(index: Path) -> _Rows:
    """Some rows at a time: Arrow's table of a whole index takes ten times what is kept of it.

    By DLPack and lists: Arrow's `to_numpy` imports pandas, which is 32 MiB.

    Raises:
        WorkspaceError: An index of another format.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    words: dict[str, dict[str, int]] = {"subset": {}, "split": {}, "shard": {}}
    members = {name: i for i, name in enumerate(MEMBERS)}
    keys: list[NDArray[np.object_]] = [np.empty(0, np.object_)]
    numbers = {name: [np.empty(0, np.int64)] for name in ("offset", "length")}
    coded = {name: [np.empty(0, np.int32)] for name in (*words, "member", "key")}
    with pq.ParquetFile(index, read_dictionary=[*words, "member"]) as file:
        said = (file.schema_arrow.metadata or {}).get(b"format", b"").decode()
        if said != FORMAT:
            raise WorkspaceError(index, "format", said, FORMAT, "Pack again with this version.")
        known = 0
        for batch in file.iter_batches(_AT_ONCE, use_threads=False):
            for name, codes in words.items():
                column = batch.column(name)
                found = [codes.setdefault(w, len(codes)) for w in column.dictionary.to_pylist()]
                coded[name].append(_coded(column, found))
            column = batch.column("member")
            found = [members.get(w, len(MEMBERS)) for w in column.dictionary.to_pylist()]
            coded["member"].append(_coded(column, found))
            column = batch.column("key").dictionary_encode()
            keys.append(np.array(column.dictionary.to_pylist(), np.object_))
            coded["key"].append(np.add(known, np.from_dlpack(column.indices), dtype=np.int32))
            known += len(column.dictionary)
            for name, some in numbers.items():
                some.append(np.array(np.from_dlpack(batch.column(name)), np.int64))
    pa.default_memory_pool().release_unused()
    return _Rows(
        {name: tuple(codes) for name, codes in words.items()},
        np.concatenate(keys),
        {name: np.concatenate(some) for name, some in coded.items()},
        {name: np.concatenate(some) for name, some in numbers.items()},
    )


_AT_ONCE = 2048 * len(MEMBERS)
"""Rows of an index."""


def _coded(column: Any, numbers: Sequence[int]) -> NDArray[np.int32]:
    """Numbers in place of the words of a dictionary-encoded column."""
    return np.array(numbers, np.int32)[np.from_dlpack(column.indices)]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Some samples of one subset, stacked."""

    keys: tuple[str, ...]
    image: NDArray[Any]
    """(n, band, y, x): the provider's numbers, or float32 number * scale + offset."""

    label: NDArray[np.uint8]
    """(n, y, x) class index, 255 = ignore."""

    confidence: NDArray[np.uint8]
    """(n, y, x) percent, 255 = nothing is said."""

    valid: NDArray[np.uint8]
    """(n, y, x); 1 where the surface was seen."""

    scale: NDArray[np.float64]
    """(n, band)"""

    offset: NDArray[np.float64]
    """(n, band)"""

    metadata: tuple[Mapping[str, Any], ...]
    """The JSON members."""


@dataclass(frozen=True, slots=True)
class Damaged:
    """A sample that could not be read and was left out."""

    key: str
    shard: str
    why: str


class _Pages:
    """Memory of batches that nobody holds any more, for the next ones.

    New memory is cleared by the system page by page, which takes a third of the time of decoding. An
    array is handed out as a view of one that is kept here; all views of a view refer to that one, so
    when nothing but this refers to it, nobody can read it.
    """

    KEPT = 8
    """Batches; a caller that keeps more gets new memory for them."""

    ARRAYS = 1 + len(_PLANES)
    """Of a batch."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.kept: list[NDArray[Any]] = []

    def take(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An array of whatever was there."""
        with self.lock:
            for i in range(len(self.kept)):
                alike = self.kept[i].shape == shape and self.kept[i].dtype == dtype
                if alike and sys.getrefcount(self.kept[i]) == 2:  # the list's and the argument's
                    return self.kept[i].view()
            made = np.empty(shape, dtype)
            if len(self.kept) < self.KEPT * self.ARRAYS:
                self.kept.append(made)
            return made.view()


@dataclass(slots=True)
class Loader:
    """Batches of some samples, epoch after epoch.

    Iterating gives what is left of the epoch and then begins the next one. `state` after a batch,
    given to an equal loader's `resume`, makes that one go on with the next batch.
    """

    index: Index
    rows: NDArray[np.int64]
    """Of the index: what there is to draw from. All of one subset."""

    size: int
    """Samples a batch; the last of an epoch may have fewer."""

    seed: int | None = 0
    """Of the order; None: that of `rows`."""

    rank: int = 0
    world: int = 1
    """Every rank has len(rows) // world samples of an epoch, no two the same one."""

    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Over HTTP, take more than there are cores: 16."""

    ahead: int = 2
    """Batches that are made before they are asked for."""

    physical: bool = False
    """Whether images are float32 number * scale + offset."""

    damaged: Literal["raise", "skip"] = "raise"
    """What becomes of a sample that cannot be read; a batch with one skipped is shorter."""

    epoch: int = 0
    batch: int = 0
    """The next one of the epoch."""

    skipped: list[Damaged] = field(default_factory=list)
    _pages: _Pages = field(default_factory=_Pages, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if (
            self.size < 1
            or not 0 <= self.rank < self.world
            or self.damaged not in ("raise", "skip")
        ):
            raise ValueError("a batch has samples, a rank is below world, damaged is raise or skip")
        if len(self.rows) < self.world:
            raise ValueError(f"{len(self.rows)} samples for {self.world} ranks")

    def __len__(self) -> int:
        """Batches an epoch."""
        return math.ceil(len(self.rows) // self.world / self.size)

    def order(self) -> NDArray[np.int64]:
        """Rows of this rank in this epoch."""
        rows = self.rows
        if self.seed is not None:
            # Generator.permutation of PCG64: NumPy keeps its streams for a version of the bit
            # generator, and the order is nothing that a corpus depends on.
            rows = np.random.Generator(np.random.PCG64([self.seed, self.epoch])).permutation(rows)
        return np.asarray(rows[self.rank :: self.world][: len(self.rows) // self.world])

    def state(self) -> dict[str, Any]:
        """Where it is; plain values."""
        return {
            "seed": self.seed, "epoch": self.epoch, "batch": self.batch, "size": self.size,
            "world": self.world, "samples": len(self.rows),
        }  # fmt: skip

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        Raises:
            ValueError: It is of other samples, or of batches of another size or number of ranks.
        """
        mine = self.state()
        for key in ("seed", "size", "world", "samples"):
            if state[key] != mine[key]:
                raise ValueError(f"a state with {key} {state[key]}; this loader has {mine[key]}")
        self.epoch, self.batch = state["epoch"], state["batch"]

    def __iter__(self) -> Iterator[Batch]:
        """What is left of the epoch.

        Raises:
            WorkspaceError: A sample that cannot be read, unless they are skipped.
        """
        order = self.order()
        starts = iter(range(self.batch * self.size, len(order), self.size))
        fetch = fetcher(self.index.folder)
        with ThreadPoolExecutor(self.threads, "decode") as pool:
            waiting: deque[tuple[_Filling, list[Future[None]]]] = deque()

            def begin() -> None:
                start = next(starts, None)
                if start is None:
                    return
                some = order[start : start + self.size]
                filling = _Filling(self.index, some, self.physical, self._pages)
                # A job a thread, not a sample: each that ends wakes who waits, and takes the
                # interpreter's lock from those that decode.
                jobs = range(min(self.threads, len(some)))
                waiting.append((filling, [pool.submit(filling.fill, fetch) for _ in jobs]))

            try:
                for _ in range(self.ahead + 1):
                    begin()
                while waiting:
                    filling, jobs = waiting.popleft()
                    for job in jobs:
                        job.result()
                    begin()
                    bad = sorted(filling.bad)
                    if bad:
                        self._tell([filling.bad[i] for i in bad])
                    self.batch += 1
                    if len(bad) < len(filling.rows):
                        yield filling.batch(bad)
            finally:
                for filling, jobs in waiting:
                    filling.left = iter(())
                    for job in jobs:
                        job.cancel()
        self.epoch, self.batch = self.epoch + 1, 0

    def _tell(self, bad: Sequence[Damaged]) -> None:
        if self.damaged == "raise":
            first = bad[0]
            raise WorkspaceError(
                f"{self.index.folder}/{first.shard}", first.key, first.why, "a sample that is whole",
                "Pack again, or read with damaged='skip'.",
            )  # fmt: skip
        self.skipped += bad


Fetch = Callable[[str, int, int, int], bytes | memoryview]
"""(name of a shard, bytes that it is to have or 0, offset, length) to bytes.

A view is good until the thread fetches again.

Raises:
    ValueError: The shard is shorter, or another one.
    OSError: It cannot be read.
"""


def fetcher(folder: str) -> Fetch:
    """Byte ranges of the shards in a folder: a path, an http(s) URL, or any URL of fsspec."""
    if folder.startswith(("http://", "https://")):
        return _Web(folder)
    if "://" in folder:
        return lambda *where: _remote(folder, *where)
    return _Local(folder)


def _remote(folder: str, shard: str, size: int, offset: int, length: int) -> bytes:
    from fsspec.core import url_to_fs

    files, path = url_to_fs(f"{folder}/{shard}")
    data = bytes(files.cat_file(path, start=offset, end=offset + length))
    if len(data) != length or (size and files.size(path) != size):
        raise ValueError(f"{len(data)} bytes where {length} were asked for, or another shard")
    return data


@dataclass(slots=True)
class _Local:
    """Byte ranges of files, into memory that each thread keeps: new memory costs more than reading."""

    folder: str
    memory: threading.local = field(default_factory=threading.local)

    def __call__(self, shard: str, size: int, offset: int, length: int) -> memoryview:
        held = getattr(self.memory, "one", b"")
        if len(held) < length:
            held = self.memory.one = bytearray(length + length // 4)
        view = memoryview(held)[:length]
        file = os.open(f"{self.folder}/{shard}", os.O_RDONLY)
        try:
            there = os.fstat(file).st_size
            if size and there != size:
                raise ValueError(f"the shard has {there} bytes; the manifest says {size}")
            done = os.preadv(file, [view], offset)
        finally:
            os.close(file)
        if done != length:
            raise ValueError(f"the shard ends at byte {there}; the index says {offset + length}")
        return view


@dataclass(slots=True)
class _Web:
    """Byte ranges over HTTP, a session a thread."""

    base: str
    sessions: threading.local = field(default_factory=threading.local)

    def __call__(self, shard: str, size: int, offset: int, length: int) -> bytes:
        session = getattr(self.sessions, "one", None) or self._session()
        wanted = f"bytes={offset}-{offset + length - 1}"
        answer = session.get(
            f"{self.base}/{shard}", headers={"Range": wanted, "Accept-Encoding": "identity"},
            timeout=(10, 60),
        )  # fmt: skip
        if answer.status_code != 206:
            raise ValueError(f"HTTP {answer.status_code} where a range was asked for")
        whole = answer.headers.get("Content-Range", "").rpartition("/")[2]
        if size and whole.isdigit() and int(whole) != size:
            raise ValueError(f"the shard has {whole} bytes; the manifest says {size}")
        if len(answer.content) != length:
            raise ValueError(f"{len(answer.content)} bytes where {length} were asked for")
        return bytes(answer.content)

    def _session(self) -> Any:
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3 import Retry

        session = requests.Session()
        retry = Retry(total=5, backoff_factor=0.2, status_forcelist=(429, 500, 502, 503, 504))
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        self.sessions.one = session
        return session


class _Filling:
    """A batch on its way: whoever decodes first says how large its arrays are."""

    def __init__(
        self, index: Index, rows: NDArray[np.int64], physical: bool, pages: _Pages
    ) -> None:
        self.index, self.rows, self.physical, self.pages = index, rows, physical, pages
        self.lock = threading.Lock()
        self.left: Iterator[int] = iter(range(len(rows)))
        """Places that no thread has taken; a step of it is one, whoever takes it."""
        self.bad: dict[int, Damaged] = {}
        """By place."""
        self.image: NDArray[Any] | None = None
        self.planes: dict[str, NDArray[np.uint8]] = {}
        self.metadata: list[Mapping[str, Any]] = [{}] * len(rows)
        self.scale: NDArray[np.float64] = np.zeros((0, 0))
        self.offset: NDArray[np.float64] = np.zeros((0, 0))

    def fill(self, fetch: Fetch) -> None:
        """Read and decode samples until none is left that nobody has taken."""
        while (
            place := next(self.left, None)
        ) is not None:  # `left` is emptied when the epoch is left
            if found := self._one(place, fetch):
                self.bad[place] = found

    def _one(self, place: int, fetch: Fetch) -> Damaged | None:
        index, row = self.index, int(self.rows[place])
        number = index.shard[row]
        shard, key = index.shards[number], str(index.keys[row])
        offsets, lengths = index.offsets[row].tolist(), index.lengths[row].tolist()
        try:
            # Members lie side by side: one read for all.
            data = memoryview(
                fetch(
                    shard, index.sizes[number], offsets[0], offsets[-1] + lengths[-1] - offsets[0]
                )
            )
            parts = {
                name: data[start - offsets[0] : start - offsets[0] + length]
                for name, start, length in zip(MEMBERS, offsets, lengths, strict=True)
            }
            said = json.loads(bytes(parts["json"]))
            if said["key"] != key:
                raise ValueError(f"the sample here is {said['key']}: an index of another packing")
            self._decode(place, parts, said)
        except (ValueError, OSError, KeyError) as error:
            return Damaged(key, shard, str(error) or type(error).__name__)
        return None

    def _decode(self, place: int, parts: Mapping[str, memoryview], said: Any) -> None:
        scale = np.array([band["raster:scale"] for band in said["bands"]], np.float64)
        offset = np.array([band["raster:offset"] for band in said["bands"]], np.float64)
        data = parts["image.tif"]
        found = tiff.layout(data)
        if found is None:
            numbers = pixels(bytes(data))
            target = self._allocate(numbers.shape, numbers.dtype, scale.size)[place]
            target[:] = reflectance_of(numbers, scale, offset) if self.physical else numbers
        else:
            target = self._allocate(found.shape, found.dtype, scale.size)[place]
            if self.physical:
                scratch = self.pages.take(found.shape, found.dtype)
                tiff.read_into(data, found, scratch, (scale, offset, target))
            else:
                tiff.read_into(data, found, target)
        for name, member in _PLANES.items():
            plane = self.planes[name][place][None]
            layout = tiff.layout(parts[member])
            if layout is None:
                plane[:] = pixels(bytes(parts[member]))
            elif layout.shape != plane.shape or layout.dtype != plane.dtype:
                raise ValueError(f"{member} is {layout.dtype} {layout.shape}")
            else:
                tiff.read_into(parts[member], layout, plane)
        self.scale[place], self.offset[place] = scale, offset
        self.metadata[place] = said

    def _allocate(self, shape: tuple[int, ...], dtype: np.dtype[Any], bands: int) -> NDArray[Any]:
        with self.lock:
            n = len(self.rows)
            dtype = np.dtype(np.float32) if self.physical else dtype.newbyteorder("=")
            if shape[0] != bands:
                raise ValueError(f"an image of {shape[0]} bands, and {bands} in its JSON")
            if self.image is None:
                self.scale, self.offset = np.zeros((2, n, shape[0]))
                plane = (n, *shape[1:]), np.dtype(np.uint8)
                self.planes = {name: self.pages.take(*plane) for name in _PLANES}
                self.image = self.pages.take((n, *shape), dtype)
            elif self.image.shape[1:] != shape or self.image.dtype != dtype:
                raise ValueError(
                    f"an image of {dtype} {shape} among such of {self.image.dtype} "
                    f"{self.image.shape[1:]}; a batch is of one shape"
                )
            return self.image

    def batch(self, without: Sequence[int]) -> Batch:
        """The arrays, less the samples that were not read."""
        kept = np.setdiff1d(np.arange(len(self.rows)), without)
        assert self.image is not None

        def those(array: NDArray[Any]) -> NDArray[Any]:
            return array[kept] if without else array

        return Batch(
            keys=tuple(str(self.index.keys[row]) for row in self.rows[kept]),
            image=those(self.image),
            label=those(self.planes["label"]),
            confidence=those(self.planes["confidence"]),
            valid=those(self.planes["valid"]),
            scale=those(self.scale),
            offset=those(self.offset),
            metadata=tuple(self.metadata[i] for i in kept),
        )
