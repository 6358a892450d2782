"""Reading shards back: by byte range, into memory, and never onto the disk."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import ArrayLike, NDArray

from las_builder.core.grid import Grid
from las_builder.errors import WorkspaceError
from las_builder.pack import tiff
from las_builder.pack.encode import MEMBERS, checked_key
from las_builder.pack.record import SampleRecord

_SHARD = re.compile(r"[a-z0-9][a-z0-9_-]*\.tar")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One sample in the index."""

    subset: str
    split: str
    shard: str
    """File name."""

    key: str
    members: Mapping[str, tuple[int, int]]
    """Name without the key to (offset, length) in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decoded:
    """A sample as it was read back; see `encode.Sample`."""

    grid: Grid
    """Without a CRS where the sample has no place."""

    bands: tuple[str, ...]
    image: NDArray[np.generic]
    valid: NDArray[np.bool_]
    label: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Shards:
    """The shards of a corpus, through its index."""

    folder: Path
    entries: tuple[Entry, ...]

    def read(self, entry: Entry) -> Decoded:
        """One sample, all members."""
        return decode({name: self.member(entry, name) for name in MEMBERS})

    def member(self, entry: Entry, name: str) -> bytes:
        """One member of one sample."""
        return read_member(self.folder / entry.shard, *entry.members[name])

    def records(self) -> Iterator[SampleRecord]:
        """What is known of every sample beside its pixels, in the order of the index."""
        for entry in self.entries:
            said = json.loads(self.member(entry, "json"))
            yield SampleRecord.from_metadata(said, shard=entry.shard, members=entry.members)


def open_shards(folder: Path, index: Path, only: Collection[str] | None = None) -> Shards:
    """The shards of a corpus.

    Args:
        folder: Where the tar files are.
        index: `index.parquet`.
        only: File names of the shards that are wanted; None: all.

    Raises:
        WorkspaceError: The index names a file outside the folder, or has keys that are no names.
    """
    import pyarrow.parquet as pq

    found: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
    about: dict[tuple[str, str], tuple[str, str]] = {}
    filters = None if only is None else [("shard", "in", list(only))]
    for row in pq.read_table(index, filters=filters).to_pylist():
        place = row["shard"], row["key"]
        if place not in about:
            check_names(index, *place)
        about[place] = row["subset"], row["split"]
        found.setdefault(place, {})[row["member"]] = (row["offset"], row["length"])
    return Shards(
        folder,
        tuple(
            Entry(
                subset=about[place][0],
                split=about[place][1],
                shard=place[0],
                key=place[1],
                members=members,
            )
            for place, members in found.items()
        ),
    )


@dataclass(frozen=True, slots=True)
class SortedShards:
    """The samples of a corpus in the order of subset and key, one at a time.

    Unlike `Shards` it holds the index as columns: some 60 bytes a member.
    """

    folder: Path
    index: Path

    def __iter__(self) -> Iterator[Entry]:
        """Every sample.

        Raises:
            WorkspaceError: The index names a file outside the folder, keys that are no names, a
                sample twice, or one without all members.
        """
        import pyarrow.parquet as pq

        table = pq.read_table(self.index, read_dictionary=["split", "shard", "member"])
        table = table.sort_by([("subset", "ascending"), ("key", "ascending")])
        members: dict[str, tuple[int, int]] = {}
        last: tuple[str, str, str, str] | None = None
        for batch in table.to_batches(max_chunksize=4096):
            for row in batch.to_pylist():
                place = row["subset"], row["split"], row["shard"], row["key"]
                if place != last:
                    if last is not None:
                        yield self._entry(last, members)
                        if (last[0], last[3]) == (row["subset"], row["key"]):
                            raise WorkspaceError(self.index, "key", last[3], "a key of one sample")
                    check_names(self.index, row["shard"], row["key"])
                    last, members = place, {}
                members[row["member"]] = (row["offset"], row["length"])
        if last is not None:
            yield self._entry(last, members)

    def member(self, entry: Entry, name: str) -> bytes:
        """One member of one sample."""
        return read_member(self.folder / entry.shard, *entry.members[name])

    def records(self) -> Iterator[SampleRecord]:
        """What is known of every sample beside its pixels, in this order."""
        for entry in self:
            said = json.loads(self.member(entry, "json"))
            yield SampleRecord.from_metadata(said, shard=entry.shard, members=entry.members)

    def _entry(
        self, place: tuple[str, str, str, str], members: Mapping[str, tuple[int, int]]
    ) -> Entry:
        missing = [name for name in MEMBERS if name not in members]
        if missing:
            raise WorkspaceError(self.index, place[3], missing[0], "rows of every member")
        subset, split, shard, key = place
        return Entry(subset=subset, split=split, shard=shard, key=key, members=members)


def pixels(member: bytes) -> NDArray[np.generic]:
    """(band, y, x) of one GeoTIFF member."""
    found = tiff.layout(member)
    if found is not None:
        image = np.empty(found.shape, found.dtype)
        tiff.read_into(member, found, image)
        return image
    from rasterio.errors import NotGeoreferencedWarning
    from rasterio.io import MemoryFile

    with warnings.catch_warnings(), MemoryFile(member) as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open() as file:
            return np.asarray(file.read())


def check_names(index: Path, shard: str, key: str) -> None:
    """Refuse what could lead out of the folder of the shards.

    Raises:
        WorkspaceError: A shard that is no name of a tar file, or a key that is no key.
    """
    if not _SHARD.fullmatch(shard):
        raise WorkspaceError(index, "shard", shard, "the name of a tar file in the shards' folder")
    try:
        checked_key(key)
    except ValueError as error:
        raise WorkspaceError(index, "key", key, "a-z, 0-9, - and _") from error


def read_member(path: Path, offset: int, length: int) -> bytes:
    """One byte range of a shard.

    Raises:
        WorkspaceError: The shard ends before it: cut off, or not the one of this index.
    """
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(length)
    if len(data) != length:
        raise WorkspaceError(
            path, "bytes", offset + len(data), f"at least {offset + length}",
            "The shard is cut off or not of this index: pack again.",
        )  # fmt: skip
    return data


def decode(members: Mapping[str, bytes]) -> Decoded:
    """The members of a sample, names without the key, as arrays.

    Raises:
        ValueError: A member is damaged.
    """
    said = json.loads(members["json"])
    height, width = said["proj:shape"]
    crs = said.get("proj:code") or said.get("proj:wkt2")
    return Decoded(
        grid=Grid(crs, Affine(*said["proj:transform"][:6]), width, height),
        bands=tuple(band["name"] for band in said["bands"]),
        image=pixels(members["image.tif"]),
        valid=pixels(members["valid.tif"])[0] == 1,
        label=pixels(members["label.tif"])[0].astype(np.uint8, copy=False),
        confidence=pixels(members["confidence.tif"])[0].astype(np.uint8, copy=False),
        scale=tuple(band["raster:scale"] for band in said["bands"]),
        offset=tuple(band["raster:offset"] for band in said["bands"]),
        metadata=said,
    )


def reflectance(sample: Decoded) -> NDArray[np.float32]:
    """(band, y, x) physical values, number * scale + offset, applied here and nowhere else.

    Invalid pixels are converted like all others; multiply by `valid` where that matters.
    """
    return reflectance_of(sample.image, sample.scale, sample.offset)


def reflectance_of(
    image: NDArray[np.generic], scale: ArrayLike, offset: ArrayLike
) -> NDArray[np.float32]:
    """The same of an image (band, y, x) with scales and offsets of its bands."""
    by_band = [np.asarray(v, np.float64).reshape(-1, 1, 1) for v in (scale, offset)]
    physical: NDArray[np.float32] = (image.astype(np.float64) * by_band[0] + by_band[1]).astype(
        "f4"
    )
    return physical
