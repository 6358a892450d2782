"""Batches against the members that rasterio decodes, in every order that is asked for."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from kit import Server

from las_builder.errors import WorkspaceError
from las_builder.pack import (
    Decoded,
    Sample,
    SampleRecord,
    SubsetInfo,
    decode,
    encode,
    manifest,
    reflectance,
    shard_name,
    write_index,
    write_shard,
)
from las_builder.pack.loader import Batch, Fetch, Loader, fetcher, open_index

Make = Callable[..., tuple[Sample, SampleRecord]]
PLACES = ("north", "south", "antimeridian", "nowhere")


@pytest.fixture(scope="module")
def samples(make: Make) -> list[Sample]:
    return [make(place, number)[0] for place in PLACES for number in range(6)]


@pytest.fixture
def corpus(samples: list[Sample], subset: SubsetInfo, tmp_path: Path) -> Path:
    """24 samples in three shards of train and one of test."""
    cuts = [("train", samples[:8]), ("train", samples[8:13]), ("train", samples[13:20])]
    reports = [
        write_shard(
            tmp_path / "shards" / shard_name("s2-test", split, i), found,
            subset="s2-test", split=split,
        )
        for i, (split, found) in enumerate([*cuts, ("test", samples[20:])])
    ]  # fmt: skip
    write_index(tmp_path / "index.parquet", reports)
    said = manifest(reports, [subset], sources={})
    (tmp_path / "manifest.json").write_text(json.dumps(said))
    return tmp_path


def loader(corpus: Path, size: int = 4, **more: object) -> Loader:
    index = open_index(corpus / "index.parquet")
    return Loader(index, index.where(split="train"), size, **more)  # type: ignore[arg-type]


def keys(batches: list[Batch]) -> list[str]:
    return [key for batch in batches for key in batch.keys]


def equal(batch: Batch, i: int, sample: Decoded) -> None:
    np.testing.assert_array_equal(batch.image[i], sample.image)
    np.testing.assert_array_equal(batch.label[i], sample.label)
    np.testing.assert_array_equal(batch.confidence[i], sample.confidence)
    np.testing.assert_array_equal(batch.valid[i] == 1, sample.valid)
    assert tuple(batch.scale[i]) == sample.scale
    assert tuple(batch.offset[i]) == sample.offset
    assert batch.metadata[i] == sample.metadata


@pytest.mark.parametrize("threads", [1, 3])
def test_a_batch_is_what_rasterio_decodes(
    corpus: Path, samples: list[Sample], threads: int
) -> None:
    expected = {sample.key: decode(encode(sample)) for sample in samples}
    batches = list(loader(corpus, 6, threads=threads))
    assert [len(batch.keys) for batch in batches] == [6, 6, 6, 2]
    assert sorted(keys(batches)) == sorted(sample.key for sample in samples[:20])
    for batch in batches:
        for i, key in enumerate(batch.keys):
            equal(batch, i, expected[key])
    for batch in loader(corpus, 6, threads=threads, physical=True):
        for i, key in enumerate(batch.keys):
            np.testing.assert_array_equal(batch.image[i], reflectance(expected[key]))


def test_floats_go_by_rasterio(make: Make, subset: SubsetInfo, tmp_path: Path) -> None:
    sample, _ = make(dtype="float32")
    report = write_shard(
        tmp_path / "shards" / shard_name("f", "train", 0), [sample], subset="f", split="train"
    )
    write_index(tmp_path / "index.parquet", [report])
    (batch,) = loader(tmp_path)
    assert batch.image.dtype == np.float32
    equal(batch, 0, decode(encode(sample)))


def test_samples_are_chosen_by_the_index(corpus: Path, samples: list[Sample]) -> None:
    index = open_index(corpus / "index.parquet")
    assert len(index) == 24
    assert index.where(split="test").size == 4
    assert index.where(subset="other").size == 0
    wanted = {samples[3].key, samples[17].key, samples[21].key}
    assert set(index.keys[index.where(keys=wanted)]) == wanted
    assert set(index.keys[index.where(keys=wanted, split="test")]) == {samples[21].key}
    batches = list(Loader(index, index.where(keys=wanted), 2, seed=None))
    assert keys(batches) == [key for key in index.keys if key in wanted]


def test_an_index_is_read_in_parts_and_in_any_order(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samples that lie in two parts, and rows of members far from each other."""
    whole = open_index(corpus / "index.parquet")
    table = pq.read_table(corpus / "index.parquet")
    monkeypatch.setattr("las_builder.pack.loader._AT_ONCE", 7)
    mixed = table.take(np.random.default_rng(0).permutation(len(table)))
    for rows in (table, mixed):
        pq.write_table(rows, corpus / "parts.parquet", row_group_size=31)
        parts = open_index(corpus / "parts.parquet")
        assert parts.shards == whole.shards
        for name in ("shard", "keys", "subsets", "splits", "offsets", "lengths"):
            np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    nothing = table.slice(0, 0)
    pq.write_table(nothing, corpus / "parts.parquet")
    assert len(open_index(corpus / "parts.parquet")) == 0


def test_an_epoch_is_all_of_it_in_another_order(corpus: Path) -> None:
    one = loader(corpus)
    first, second = keys(list(one)), keys(list(one))
    assert first != second
    assert sorted(first) == sorted(second)
    assert len(set(first)) == 20
    again = loader(corpus)
    assert keys(list(again)) == first
    assert keys(list(loader(corpus, seed=1))) != first


def test_what_somebody_holds_is_never_written_over(corpus: Path) -> None:
    """Batches, slices of them and tensors on them stay as they were while others are made."""
    torch = pytest.importorskip("torch")
    held, copies, owners = [], [], set()
    for _ in range(6):
        for batch in loader(corpus, 2, seed=None, ahead=1):
            ways = (batch.image[1:, 1], batch.image[0], torch.from_numpy(batch.image))
            held.append(ways[len(held) % 3])
            copies.append(np.asarray(held[-1]).copy())
    for one, copy in zip(held, copies, strict=True):
        np.testing.assert_array_equal(np.asarray(one), copy)
    for batch in loader(corpus, 2, seed=None, ahead=1):  # held by nobody: used again
        owners.add(batch.image.base.ctypes.data)
    assert len(owners) < 5


def test_an_epoch_that_is_left_reads_no_further(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def slow(folder: str) -> Fetch:
        fetch = fetcher(folder)

        def one(*where: Any) -> bytes | memoryview:
            asked.append(where)
            time.sleep(0.02)
            return fetch(*where)

        return one

    monkeypatch.setattr("las_builder.pack.loader.fetcher", slow)
    batches = iter(loader(corpus, 10, threads=1))
    next(batches)
    batches.close()
    assert 10 <= len(asked) <= 13  # and not all of the batch that was begun


@pytest.mark.parametrize("world", [2, 3, 7])
def test_ranks_share_evenly_and_nothing_twice(corpus: Path, world: int) -> None:
    found = [list(loader(corpus, 3, rank=rank, world=world)) for rank in range(world)]
    assert len({len(batches) for batches in found}) == 1
    assert {len(keys(batches)) for batches in found} == {20 // world}
    every = [key for batches in found for key in keys(batches)]
    assert len(every) == len(set(every))


@pytest.mark.parametrize("world", [1, 2])
def test_it_goes_on_where_it_was(corpus: Path, world: int) -> None:
    for rank in range(world):
        whole = loader(corpus, 3, rank=rank, world=world)
        undisturbed = [batch.keys for _ in range(2) for batch in whole]
        for stop in range(len(undisturbed)):
            broken = loader(corpus, 3, rank=rank, world=world)
            seen = []
            while len(seen) < stop:
                for batch in broken:
                    seen.append(batch.keys)
                    if len(seen) == stop:
                        break
            state = json.loads(json.dumps(broken.state()))
            new = loader(corpus, 3, rank=rank, world=world)
            new.resume(state)
            while len(seen) < len(undisturbed):
                seen += [batch.keys for batch in new]
            assert seen == undisturbed
    with pytest.raises(ValueError, match="size"):
        loader(corpus, 4, world=world).resume(state)


def test_a_damaged_member_is_named_or_left_out(corpus: Path, samples: list[Sample]) -> None:
    index = open_index(corpus / "index.parquet")
    (row,) = index.where(keys={samples[10].key})
    shard = corpus / "shards" / index.shards[index.shard[row]]
    data = bytearray(shard.read_bytes())
    data[index.offsets[row, 0] + index.lengths[row, 0] - 40] ^= 1
    shard.write_bytes(data)
    with pytest.raises(WorkspaceError) as error:
        list(loader(corpus))
    assert samples[10].key in str(error.value)
    assert shard.name in str(error.value)
    one = loader(corpus, damaged="skip")
    assert sorted(keys(list(one))) == sorted(s.key for s in samples[:20] if s != samples[10])
    assert [bad.key for bad in one.skipped] == [samples[10].key]


def test_a_shard_of_another_length_is_named(corpus: Path, samples: list[Sample]) -> None:
    shard = corpus / "shards" / shard_name("s2-test", "train", 1)
    shard.write_bytes(shard.read_bytes()[:-5000])
    one = loader(corpus, damaged="skip")
    assert sorted(keys(list(one))) == sorted(s.key for s in [*samples[:8], *samples[13:20]])
    assert {bad.shard for bad in one.skipped} == {shard.name}
    assert "the manifest says" in one.skipped[0].why
    (corpus / "manifest.json").unlink()  # then what is there is read, and the rest is noticed
    one = loader(corpus, damaged="skip")
    assert 0 < len(keys(list(one))) <= 19
    assert "ends at byte" in one.skipped[0].why
    shard.unlink()
    with pytest.raises(WorkspaceError, match=shard.name):
        list(loader(corpus))


def test_an_index_of_another_packing(corpus: Path, samples: list[Sample]) -> None:
    """Two samples that changed places: sizes are right, what lies there is another sample."""
    path = corpus / "index.parquet"
    table = pq.read_table(path)
    held = table["key"].to_pylist()
    swap = {samples[0].key: samples[1].key, samples[1].key: samples[0].key}
    column = [swap.get(key, key) for key in held]
    changed = table.set_column(3, "key", [column])
    pq.write_table(changed, path)
    one = loader(corpus, damaged="skip")
    assert len(keys(list(one))) == 18
    assert all("another packing" in bad.why for bad in one.skipped)
    pq.write_table(table.replace_schema_metadata({"format": "las-shards-0"}), path)
    with pytest.raises(WorkspaceError, match="las-shards-0"):
        open_index(path)
    pq.write_table(table.slice(1), path)
    with pytest.raises(WorkspaceError, match="of every sample"):
        open_index(path)


def test_samples_of_two_shapes_are_no_batch(
    corpus: Path, make: Make, samples: list[Sample], tmp_path: Path
) -> None:
    sample = make()[0]
    fewer = {**{f: getattr(sample, f) for f in sample.__slots__}, "bands": sample.bands[:2]}
    for name in ("image", "scale", "offset"):
        fewer[name] = fewer[name][:2]
    fewer["metadata"] = {**sample.metadata, "bands": sample.metadata["bands"][:2]}
    out = tmp_path / "two"
    reports = [
        write_shard(
            out / "shards" / shard_name("x", "train", i), [found], subset="x", split="train"
        )
        for i, found in enumerate([Sample(**fewer), sample])
    ]
    write_index(out / "index.parquet", reports)
    with pytest.raises(WorkspaceError, match="a batch is of one shape"):
        list(loader(out))


def test_over_http_it_is_the_same(corpus: Path, server: Server) -> None:
    here = list(loader(corpus))
    index = open_index(corpus / "index.parquet", f"{server.url}/shards/")
    server.faults[f"/shards/{index.shards[1]}"] = [503, 429]
    there = list(Loader(index, index.where(split="train"), 4, threads=8))
    assert len(server.requests) == 20 + 2
    assert keys(here) == keys(there)
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.label, other.label)


def test_ranks_and_sizes_that_cannot_be(corpus: Path) -> None:
    for bad in ({"rank": 2, "world": 2}, {"size": 0}, {"world": 21}, {"damaged": "ignore"}):
        with pytest.raises(ValueError, match=r"rank|ranks"):
            replace(loader(corpus), **bad)
