"""A published corpus read back: from a folder, from memory, over HTTP; as torch tensors and as LMDB."""

from __future__ import annotations

import io
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import geopandas
import lmdb
import numpy as np
import pyarrow.compute as pc
import pytest
import rasterio
from kit import Server

import las_builder
from las_builder.errors import InputError, WorkspaceError
from las_builder.pack import open_shards
from las_builder.publish import publish
from las_builder.publish.lmdb import export, prefix

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
"""One of the samples has no place."""


@pytest.fixture
def home(whole: Any) -> Path:
    """The folder of a published corpus."""
    publish(whole.space.catalog, whole.corpus, whole.records)
    return Path(whole.space.root)


def truth(home: Path) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Image, label, valid by id: the members by the index of the packing, opened by GDAL."""
    shards, out = open_shards(home / "shards", home / "index.parquet"), {}
    for entry in shards.entries:
        found = []
        for member in ("image.tif", "label.tif", "valid.tif"):
            with (
                rasterio.MemoryFile(shards.member(entry, member)) as memory,
                memory.open() as file,
            ):
                found.append(file.read())
        out[f"{entry.subset}-{entry.key}"] = (found[0], found[1][0], found[2][0] == 1)
    return out


@pytest.mark.parametrize("end", ["", "/", "/catalog", "/catalog/catalog.json"])
def test_every_sample_is_what_was_packed(home: Path, end: str) -> None:
    corpus, wanted = las_builder.open_corpus(f"{home}{end}"), truth(home)
    assert len(corpus) == len(wanted) == 9
    read = 0
    for name, one in zip(corpus.table["id"].to_pylist(), corpus.samples(), strict=True):
        image, label, valid = wanted[name]
        assert np.array_equal(one.image, image)
        assert one.image.dtype == image.dtype
        assert np.array_equal(one.label, label)
        assert np.array_equal(one.valid, valid)
        read += 1
    assert read == 9
    assert corpus.classes("s2")[0] == "tree_cover"
    assert corpus.collections["l8"]["license"] == "CC-BY-4.0"


def test_what_is_chosen(home: Path) -> None:
    corpus = las_builder.open_corpus(home)
    items = corpus.items()
    assert isinstance(items, geopandas.GeoDataFrame)
    south = items[(items.bounds.maxy < 0) & (items["las:split"] == "train")]
    keys = [one.metadata["key"] for one in corpus.samples(south)]
    assert keys == ["pole-20210606", "south-20210602"]
    table = str(home / "catalog" / "items.parquet")
    ids = duckdb.sql(
        f"select id from '{table}' where collection = 'l8' order by id desc"
    ).fetchall()
    assert [f"l8-{one.metadata['key']}" for one in corpus.samples([i for (i,) in ids])] == [
        "l8-north-20210611", "l8-north-20210601",
    ]  # fmt: skip
    chosen = (pc.field("collection") == "s2") & (pc.field("eo:cloud_cover") > 1)
    assert len(list(corpus.samples(chosen))) == 6
    with pytest.raises(InputError, match="s2-nothing"):
        list(corpus.samples(["s2-nothing"]))


def test_one_request_a_sample_over_http(home: Path, server: Server) -> None:
    shutil.copytree(home, server.root / "tiny")
    corpus = las_builder.open_corpus(f"{server.url}/tiny")
    assert [path for _, path in server.requests] == ["/tiny/catalog/items.parquet"]
    wanted = truth(home)
    del server.requests[:]
    for count, name in enumerate(sorted(wanted), 1):
        (one,) = corpus.samples([name])
        assert np.array_equal(one.image, wanted[name][0])
        assert len(server.requests) == count


def test_any_file_system_and_what_is_broken(home: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(home), "/bucket", recursive=True)
    corpus = las_builder.open_corpus("memory://bucket")
    assert len(list(corpus.samples())) == 9
    ids = corpus.table["id"].to_pylist()
    swapped = corpus.table.set_column(3, "id", [[ids[1], ids[0], *ids[2:]]])
    with pytest.raises(WorkspaceError, match="another packing"):
        list(replace(corpus, table=swapped).samples())
    shard = sorted((home / "shards").glob("s2-train*.tar"))[0]
    shard.write_bytes(shard.read_bytes()[:4000])
    with pytest.raises(WorkspaceError, match="whole"):
        list(las_builder.open_corpus(home).samples())
    with pytest.raises(InputError, match="las publish"):
        las_builder.open_corpus(home / "nowhere")
    memory.rm("/bucket", recursive=True)


def test_a_data_set_of_torch(home: Path) -> None:
    torch = pytest.importorskip("torch")
    from las_builder.train.torchgeo import CorpusDataset

    corpus, wanted = las_builder.open_corpus(home), truth(home)
    data = CorpusDataset(corpus, corpus.items().query("collection == 's2'"))
    assert len(data) == 7
    for name, sample in zip(data.ids, data, strict=True):
        image, label, valid = wanted[name]
        assert sample["image"].dtype == torch.float32
        assert sample["mask"].dtype == torch.int64
        assert sample["image"].numpy() == pytest.approx(image * 1e-4 - 0.1, abs=1e-6)
        assert np.array_equal(sample["mask"].numpy(), np.where(valid, label, 255))
    with pytest.raises(InputError, match="one subset"):
        CorpusDataset(corpus)


class Restricted(pickle.Unpickler):
    """Tuples, bytes, numbers and text alone."""

    def find_class(self, module: str, name: str) -> Any:
        raise AssertionError(f"a record asks for {module}.{name}")


def test_lmdb_of_the_official_record_form(home: Path, tmp_path: Path) -> None:
    corpus, wanted = las_builder.open_corpus(home), truth(home)
    ids = corpus.table.filter(pc.field("collection") == "s2")["id"].to_pylist()
    image = prefix("sentinel-2-l2a", {"sentinel-2": "s2"}, "image")
    assert export(tmp_path / "out", corpus.samples(ids), image=image, label="dw") == 7
    for kind, at in (("s2", 0), ("dw", 1)):
        path = str(tmp_path / "out" / f"{kind}_lmdb")
        with lmdb.open(path, readonly=True) as env, env.begin() as batch:
            assert env.stat()["entries"] == 7
            for i, name in enumerate(ids):
                value = Restricted(io.BytesIO(batch.get(f"{kind}_{i}".encode()))).load()
                data, shape, key = value
                array = np.frombuffer(data, np.uint16 if kind == "s2" else np.uint8)
                assert np.array_equal(array.reshape(shape), wanted[name][at])
                assert name == f"s2-{key}"
    with pytest.raises(InputError, match="not there yet"):
        export(tmp_path / "out", [], image="s2", label="dw")
