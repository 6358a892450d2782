"""Shards: tar files whose bytes depend on their samples alone, and what is counted on the way.

Sums are exact within a sample (integers) and correctly rounded across samples and shards
(`math.fsum`), so statistics do not depend on how many workers packed or in which order they ended.
"""

from __future__ import annotations

import csv
import hashlib
import math
import os
import tarfile
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from las_builder import __version__
from las_builder.core.licence import combined
from las_builder.core.types import IGNORE
from las_builder.core.workspace import writing
from las_builder.pack.encode import Sample, checked_key, encode
from las_builder.pack.record import SubsetInfo

FORMAT = "las-shards-1"
"""Of manifest.json, index.parquet and the members; changes when an old reader would be wrong."""


@dataclass(frozen=True, slots=True)
class Member:
    """Where one file of one sample lies in its shard."""

    key: str
    member: str
    offset: int
    """Of the first byte of the content, from the start of the tar."""

    length: int


@dataclass(frozen=True, slots=True)
class BandSums:
    """What mean, spread and range of a band come from: valid pixels only, physical values."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    low: float | None = None
    high: float | None = None

    @staticmethod
    def merged(parts: Sequence[BandSums]) -> BandSums:
        """The sums of disjoint sets of pixels."""
        lows = [p.low for p in parts if p.low is not None]
        highs = [p.high for p in parts if p.high is not None]
        return BandSums(
            sum(p.count for p in parts),
            math.fsum(p.total for p in parts),
            math.fsum(p.squares for p in parts),
            min(lows, default=None),
            max(highs, default=None),
        )

    def statistics(self) -> dict[str, float | int | None]:
        """In the words of STAC's `statistics`: mean, stddev (of the population), range, count."""
        if self.count == 0:
            return {"count": 0, "mean": None, "stddev": None, "minimum": None, "maximum": None}
        mean = self.total / self.count
        spread = math.sqrt(max(self.squares / self.count - mean * mean, 0.0))
        return {
            "count": self.count,
            "mean": mean,
            "stddev": spread,
            "minimum": self.low,
            "maximum": self.high,
        }


@dataclass(frozen=True, slots=True)
class Rejected:
    """A stored patch that is in no shard."""

    key: str
    site: str
    stratum: str
    step: str
    """The filter that rejected it, or "drop": a reviewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardReport:
    """One finished shard. Without a sample, because all were rejected, there is no file."""

    name: str
    subset: str
    split: str
    sha256: str
    size: int
    """Bytes."""

    samples: int
    members: tuple[Member, ...]
    """In the order of the tar."""

    labels: Mapping[int, int]
    """Class index, 255 = ignore, to pixels."""

    labels_valid: Mapping[int, int]
    """The same, of pixels where the surface was seen."""

    bands: tuple[BandSums, ...]
    considered: Mapping[str, int] = field(default_factory=dict)
    """Stratum to patches that were laid out for the shard."""

    rejected: tuple[Rejected, ...] = ()
    """Those of them that it does not hold."""

    changed: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Filter or decision to {samples, ignored, lowered, relabelled}: what it changed in the others,
    pixels but for the first."""

    @classmethod
    def empty(cls, name: str, subset: str, split: str) -> ShardReport:
        """Of a shard without a sample."""
        return cls(
            name=name, subset=subset, split=split, sha256="", size=0, samples=0, members=(),
            labels={}, labels_valid={}, bands=(),
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` gives an equal report."""
        return asdict(self)

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> ShardReport:
        """From what `to_json` said."""
        return cls(
            **{
                **said,
                "members": tuple(Member(**m) for m in said["members"]),
                "labels": {int(k): n for k, n in said["labels"].items()},
                "labels_valid": {int(k): n for k, n in said["labels_valid"].items()},
                "bands": tuple(BandSums(**b) for b in said["bands"]),
                "rejected": tuple(Rejected(**r) for r in said["rejected"]),
            }
        )


def shard_name(subset: str, split: str, number: int) -> str:
    """File name of a shard: "las-s2-train-000000.tar"."""
    return f"{checked_key(subset)}-{checked_key(split)}-{number:06d}.tar"


def write_shard(path: Path, samples: Iterable[Sample], *, subset: str, split: str) -> ShardReport:
    """Write one shard whole or not at all; memory holds one sample at a time.

    Args:
        path: Of the tar; its name is the shard's.
        samples: In the order they are to have; all with the same bands.
        subset: They belong to.
        split: They belong to.

    Raises:
        ValueError: No sample, two samples of one key, or samples of different bands.
        WorkspaceError: The disk is full or read-only.
    """
    members: list[Member] = []
    labels: Counter[int] = Counter()
    labels_valid: Counter[int] = Counter()
    sums: list[tuple[BandSums, ...]] = []
    seen: set[str] = set()
    bands: tuple[str, ...] | None = None
    with writing(path) as part, Tar(part) as tar:
        for sample in samples:
            if sample.key in seen or sample.bands != (bands or sample.bands):
                raise ValueError(f"{path.name}: {sample.key} twice, or other bands than before")
            seen.add(sample.key)
            bands = sample.bands
            members += tar.append(sample.key, encode(sample))
            labels.update(_histogram(sample.label))
            labels_valid.update(_histogram(sample.label[sample.valid]))
            sums.append(band_sums(sample))
        if not seen:
            raise ValueError(f"{path.name}: a shard needs samples")
    return ShardReport(
        name=path.name,
        subset=subset,
        split=split,
        sha256=tar.sha256,
        size=tar.size,
        samples=len(seen),
        members=tuple(members),
        labels=dict(sorted(labels.items())),
        labels_valid=dict(sorted(labels_valid.items())),
        bands=tuple(BandSums.merged(band) for band in zip(*sums, strict=True)),
    )


def tar_header(name: str, size: int) -> bytes:
    """What `tarfile` writes before a file of nobody's and no time; made in a tenth of its time.

    Names beyond 100 bytes or ASCII, and files from 8 GiB, take PAX headers.
    """
    if len(name) > 100 or not name.isascii() or size >= 8**11:
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o644
        return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
    coded, digits = name.encode(), b"%011o" % size
    # The sum of all bytes, those of itself as spaces.
    total = b"%06o" % (_BLANK_SUM + sum(coded) + sum(digits))
    return b"".join(
        (coded.ljust(100, b"\0"), _BLANK[100:124], digits, _BLANK[135:148], total, _BLANK[154:])
    )


def _blank() -> bytes:
    info = tarfile.TarInfo("")
    info.mode = 0o644
    return info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")


_BLANK = _blank()
_BLANK_SUM = int(_BLANK[148:154], 8) - 11 * ord("0")
"""Less the digits of its size."""

_STARTED = 1 << 24
"""Bytes that are written before the disk is told to begin with them."""

_UNHASHED = 32
"""Samples that may be written before they are hashed."""


class Tar:
    """A tar that is written once, from its first byte to its last, and hashed on the way.

    Members are nobody's, of no time, so the bytes depend on names and contents alone. A sample is
    hashed in a thread while it is written and the next one is made.
    """

    def __init__(self, path: Path) -> None:
        self.size = 0
        """Bytes written so far."""
        self._file = path.open("wb", buffering=0)
        self._hash = hashlib.sha256()
        self._hasher = ThreadPoolExecutor(1, "sha256")
        self._hashing: deque[Future[None]] = deque()
        self._started = 0

    @property
    def sha256(self) -> str:
        """Of what was written so far."""
        for waiting in self._hashing:
            waiting.result()
        return self._hash.hexdigest()

    def append(self, key: str, members: Mapping[str, bytes]) -> list[Member]:
        """The members of one sample, in one write.

        Raises:
            OSError: The disk is full or read-only.
        """
        found, pieces, at = [], [], self.size
        for name, data in members.items():
            head = tar_header(f"{key}.{name}", len(data))
            pieces += [head, data, bytes(-len(data) % tarfile.BLOCKSIZE)]
            found.append(Member(key, name, at + len(head), len(data)))
            at += sum(map(len, pieces[-3:]))
        self._write(pieces)
        return found

    def _write(self, pieces: Sequence[bytes]) -> None:
        self._hashing.append(self._hasher.submit(self._update, pieces))
        if len(self._hashing) > _UNHASHED:
            self._hashing.popleft().result()
        size = sum(map(len, pieces))
        done = os.writev(self._file.fileno(), pieces)
        if done < size:  # a signal, or more than the system takes at once
            self._file.write(memoryview(b"".join(pieces))[done:])
        self.size += size
        if self.size - self._started > _STARTED:
            self._start()

    def _start(self) -> None:
        """Let the disk begin, so that little is left to do when the file is to be safe."""
        if hasattr(os, "posix_fadvise"):
            # Linux begins to write what is dirty, and forgets what has been written already.
            some = self._started, self.size - self._started
            os.posix_fadvise(self._file.fileno(), *some, os.POSIX_FADV_DONTNEED)
        self._started = self.size

    def _update(self, pieces: Sequence[bytes]) -> None:
        for piece in pieces:
            self._hash.update(piece)

    def __enter__(self) -> Tar:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._write([bytes(2 * tarfile.BLOCKSIZE)])  # the end of a tar
        self._hasher.shutdown(wait=False)  # `sha256` waits for it
        self._file.close()


def _histogram(label: NDArray[np.uint8]) -> dict[int, int]:
    counts = np.bincount(label.ravel(), minlength=256)
    return {int(i): int(counts[i]) for i in np.flatnonzero(counts)}


def band_sums(sample: Sample) -> tuple[BandSums, ...]:
    """Sums of the physical values (number * scale + offset) of a sample's valid pixels.

    Offsets differ between scenes of one sensor, so numbers of different scenes do not add up;
    reflectances do. Integers of up to 16 bits are summed exactly before they are scaled.
    """
    found = []
    for band, scale, offset in zip(sample.image, sample.scale, sample.offset, strict=True):
        if band.dtype.kind in "iu" and band.dtype.itemsize <= 2:
            n, total, squares, *extremes = (int(v) for v in _exact_sums(band, sample.valid))
        else:
            values = band[sample.valid]
            wide = values[np.isfinite(values)].astype(np.float64)
            n, total, squares = wide.size, wide.sum().item(), (wide * wide).sum().item()
            extremes = [wide.min(initial=np.inf), wide.max(initial=-np.inf)]
        if n == 0:
            found.append(BandSums())
            continue
        ends = sorted(float(v) * scale + offset for v in extremes)
        found.append(
            BandSums(
                n,
                total * scale + n * offset,
                squares * scale**2 + 2 * total * scale * offset + n * offset**2,
                *ends,
            )
        )
    return tuple(found)


@njit(cache=True, nogil=True)
def _exact_sums(band, valid):  # type: ignore[no-untyped-def]
    n, total, squares = np.int64(0), np.int64(0), np.int64(0)
    low, high = np.int64(1 << 16), np.int64(-(1 << 16))
    for y in range(band.shape[0]):
        for x in range(band.shape[1]):
            if valid[y, x]:
                value = np.int64(band[y, x])
                n += 1
                total += value
                squares += value * value
                low = min(low, value)
                high = max(high, value)
    return n, total, squares, low, high


def write_index(path: Path, reports: Sequence[ShardReport]) -> None:
    """`index.parquet`: a row a member, in the order of the shards' names and of their bytes.

    Columns: subset, split, shard, key, member (strings), offset, length (bytes, int64).

    Raises:
        WorkspaceError: The disk is full or read-only.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [(r, m) for r in _ordered(reports) for m in r.members]
    table = pa.table(
        {
            "subset": pa.array([r.subset for r, _ in rows], pa.string()),
            "split": pa.array([r.split for r, _ in rows], pa.string()),
            "shard": pa.array([r.name for r, _ in rows], pa.string()),
            "key": pa.array([m.key for _, m in rows], pa.string()),
            "member": pa.array([m.member for _, m in rows], pa.string()),
            "offset": pa.array([m.offset for _, m in rows], pa.int64()),
            "length": pa.array([m.length for _, m in rows], pa.int64()),
        },
        metadata={"format": FORMAT},
    )
    with writing(path) as part:
        pq.write_table(table, part, compression="zstd", row_group_size=1 << 17)


def manifest(
    reports: Sequence[ShardReport], subsets: Sequence[SubsetInfo], *, sources: Mapping[str, str]
) -> dict[str, Any]:
    """`manifest.json` as a value.

    Args:
        reports: Of every shard.
        subsets: Of the corpus.
        sources: What the shards were made from, name to hash: recipe, plan, cube manifests.

    Returns:
        {format, las_builder, from, synthetic, license: see `CorpusLicence`, shards: [{name, subset,
        split, sha256, size, samples}], subsets: {name: what it is; what filters and decisions did;
        and by split: samples, label pixels (all, and valid ones) by class name, band statistics of
        valid pixels in physical values}}.

    Raises:
        LicenceError: Two ingredients whose licences contradict each other.
    """
    by_subset: dict[str, dict[str, list[ShardReport]]] = defaultdict(lambda: defaultdict(list))
    for report in _ordered(reports):
        by_subset[report.subset][report.split].append(report)
    return {
        "format": FORMAT,
        "las_builder": __version__,
        "from": dict(sources),
        "synthetic": any(subset.synthetic for subset in subsets),
        "license": combined(
            (part for subset in subsets for part in subset.ingredients), where="manifest.json"
        ).as_json(),
        "shards": [
            {k: getattr(r, k) for k in ("name", "subset", "split", "sha256", "size", "samples")}
            for r in _ordered(reports)
            if r.samples
        ],
        "subsets": {
            subset.name: {
                **_described(subset),
                **_left_out([r for found in by_subset[subset.name].values() for r in found]),
                "splits": {
                    split: _counted(subset, found)
                    for split, found in sorted(by_subset[subset.name].items())
                },
            }
            for subset in subsets
        },
    }


def _ordered(reports: Sequence[ShardReport]) -> list[ShardReport]:
    return sorted(reports, key=lambda report: report.name)


def _described(subset: SubsetInfo) -> dict[str, Any]:
    imagery, taxonomy = subset.imagery, subset.taxonomy
    return {
        "imagery": imagery.name,
        "synthetic": subset.synthetic,
        "bands": [
            imagery.band(name).model_dump(mode="json", by_alias=True, exclude_none=True)
            for name in subset.bands
        ],
        "data_type": imagery.data_type,
        "rgb": list(imagery.rgb),
        "stretch": list(imagery.stretch),
        "taxonomy": taxonomy.name,
        "basis": taxonomy.basis,
        "ignore": IGNORE,
        "classes": [
            {"value": i, **entry.model_dump(include={"name", "title", "color_hint", "prompts"})}
            for i, entry in enumerate(taxonomy.classes)
        ],
        "products": {
            p.name: {"title": p.title, "version": p.version, "doi": p.doi} for p in subset.products
        },
        "licenses": subset.licenses,
        "attributions": subset.attributions,
    }


def _left_out(reports: Sequence[ShardReport]) -> dict[str, Any]:
    """What filters and decisions did: considered = rejected + samples, stratum by stratum."""
    considered: Counter[str] = Counter()
    rejected: dict[str, Counter[str]] = defaultdict(Counter)
    changed: dict[str, Counter[str]] = defaultdict(Counter)
    for report in reports:
        considered.update(report.considered)
        for line in report.rejected:
            rejected[line.step][line.stratum] += 1
        for step, counts in report.changed.items():
            changed[step].update(counts)
    return {
        "considered": dict(considered),
        "rejected": {step: dict(counts) for step, counts in rejected.items()},
        "changed": {step: dict(counts) for step, counts in changed.items()},
    }


def write_rejected(path: Path, reports: Sequence[ShardReport]) -> None:
    """`rejected.csv`: subset, split, stratum, site, key, step of every patch left out; none, no file.

    Raises:
        WorkspaceError: The disk is full or read-only.
    """
    rows = [
        (r.subset, r.split, line.stratum, line.site, line.key, line.step)
        for r in _ordered(reports)
        for line in r.rejected
    ]
    if not rows:
        path.unlink(missing_ok=True)
        return
    with writing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("subset", "split", "stratum", "site", "key", "step"))
        table.writerows(sorted(rows))


def _counted(subset: SubsetInfo, reports: Sequence[ShardReport]) -> dict[str, Any]:
    names = [entry.name for entry in subset.taxonomy.classes]

    def pixels(counts: Iterable[Mapping[int, int]]) -> dict[str, int]:
        total: Counter[int] = Counter()
        for count in counts:
            total.update(count)
        named = {name: total[i] for i, name in enumerate(names)}
        return {**named, "ignore": total[IGNORE]}

    parts = [r.bands for r in reports if r.samples] or [(BandSums(),) * len(subset.bands)]
    sums = [BandSums.merged(band) for band in zip(*parts, strict=True)]
    return {
        "samples": sum(r.samples for r in reports),
        "label_pixels": pixels(r.labels for r in reports),
        "label_pixels_valid": pixels(r.labels_valid for r in reports),
        "statistics": {
            name: band.statistics() for name, band in zip(subset.bands, sums, strict=True)
        },
    }
