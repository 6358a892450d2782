"""Shards as others read them: rasterio through /vsitar/, webdataset, tarfile, pyarrow."""

from __future__ import annotations

import hashlib
import json
import tarfile
import warnings
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from affine import Affine

from las_builder.core.grid import Grid
from las_builder.errors import GridMismatchError, WorkspaceError
from las_builder.pack import (
    MEMBERS,
    BandSums,
    Sample,
    SampleRecord,
    ShardReport,
    SubsetInfo,
    decode,
    encode,
    manifest,
    open_shards,
    read_member,
    reflectance,
    sample_key,
    shard_name,
    write_index,
    write_shard,
)
from las_builder.pack.write import tar_header

Make = Callable[..., tuple[Sample, SampleRecord]]
NAME = shard_name("s2-test", "train", 0)


def vsi(shard: Path, key: str, member: str) -> str:
    return f"/vsitar/{shard}/{key}.{member}"


def same_crs(one: str, other: object) -> bool:
    return rasterio.crs.CRS.from_user_input(one) == other


def test_rasterio_opens_every_member_inside_the_tar(make: Make, tmp_path: Path) -> None:
    samples = [make("north", 0), make("south", 1), make("antimeridian", 2)]
    write_shard(tmp_path / NAME, (s for s, _ in samples), subset="s2-test", split="train")
    for sample, _ in samples:
        with rasterio.open(vsi(tmp_path / NAME, sample.key, "image.tif")) as file:
            np.testing.assert_array_equal(file.read(), sample.image)
            assert file.dtypes == ("uint16",) * 4
            assert file.transform == sample.grid.transform  # to the last digit
            assert same_crs(sample.grid.crs, file.crs)
            assert file.descriptions == ("B02", "B03", "B04", "B08")
            assert (file.scales, file.offsets) == ((1e-4,) * 4, (-0.1,) * 4)
            structure = file.tags(ns="IMAGE_STRUCTURE")
            assert (structure["COMPRESSION"], structure["PREDICTOR"]) == ("ZSTD", "2")
            assert "TIFFTAG_DATETIME" not in file.tags()
        for name in ("label", "confidence", "valid"):
            with rasterio.open(vsi(tmp_path / NAME, sample.key, f"{name}.tif")) as file:
                np.testing.assert_array_equal(file.read(1), getattr(sample, name))
                assert file.transform == sample.grid.transform
                assert same_crs(sample.grid.crs, file.crs)
                assert file.nodata == (None if name == "valid" else 255)
                assert file.descriptions == (name,)


def test_the_label_brings_its_colours_and_names(make: Make, tmp_path: Path) -> None:
    sample, _ = make()
    write_shard(tmp_path / NAME, [sample], subset="s2-test", split="train")
    with rasterio.open(vsi(tmp_path / NAME, sample.key, "label.tif")) as file:
        colours, names = file.colormap(1), file.tags(1)
        assert file.colorinterp[0].name == "palette"
    assert colours[0] == (0x00, 0x64, 0x00, 255)  # tree cover, as WorldCover has it
    assert colours[255][3] == 0
    for i, entry in enumerate(sample.classes):
        assert "{:02X}{:02X}{:02X}".format(*colours[i][:3]) == entry.color_hint
        assert names[f"class_{i}"] == entry.name


def test_a_picture_without_a_place_has_no_georeference(make: Make, tmp_path: Path) -> None:
    sample, _ = make("nowhere")
    write_shard(tmp_path / NAME, [sample], subset="s2-test", split="train")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(vsi(tmp_path / NAME, sample.key, "image.tif")) as file:
            assert file.crs is None
            assert file.transform.is_identity
            np.testing.assert_array_equal(file.read(), sample.image)
    back = decode(encode(sample))
    assert back.grid == sample.grid


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_every_type_survives(make: Make, dtype: str) -> None:
    sample, _ = make(dtype="int16" if dtype == "int16" else "float32")
    image = (sample.image / (20 if dtype == "uint8" else 1)).astype(dtype)
    changed = Sample(**{**{f: getattr(sample, f) for f in sample.__slots__}, "image": image})
    back = decode(encode(changed))
    assert back.image.dtype == dtype
    np.testing.assert_array_equal(back.image, image)


def test_a_crs_without_a_code(make: Make) -> None:
    wkt = rasterio.crs.CRS.from_proj4(
        "+proj=laea +lat_0=12 +lon_0=34 +datum=WGS84 +units=m"
    ).to_wkt(version="WKT2_2019")
    sample, _ = make()
    grid = Grid(wkt, Affine(30, 0, 15.123456789012345, 0, -30, -0.1), 40, 40)
    changed = Sample(**{**{f: getattr(sample, f) for f in sample.__slots__}, "grid": grid})
    for name, data in encode(changed).items():
        if name != "json":
            with rasterio.MemoryFile(data) as memory, memory.open() as file:
                assert file.transform == grid.transform
                assert same_crs(wkt, file.crs)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves its tar open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_every_sample(make: Make, tmp_path: Path) -> None:
    import webdataset

    samples = [make("north", i)[0] for i in range(3)]
    write_shard(tmp_path / NAME, samples, subset="s2-test", split="train")
    read = list(webdataset.WebDataset(str(tmp_path / NAME), shardshuffle=False))
    assert [s["__key__"] for s in read] == [s.key for s in samples]
    for got, sample in zip(read, samples, strict=True):
        assert set(MEMBERS) <= set(got)
        assert json.loads(got["json"])["site"] == sample.metadata["site"]
        with rasterio.MemoryFile(got["label.tif"]) as memory, memory.open() as file:
            np.testing.assert_array_equal(file.read(1), sample.label)


def test_offsets_point_at_the_content(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("las_builder.pack.write._STARTED", 1000)
    samples = [make("north", i)[0] for i in range(2)]
    report = write_shard(tmp_path / NAME, samples, subset="s2-test", split="train")
    with tarfile.open(tmp_path / NAME) as tar:
        infos = tar.getmembers()
        assert [(i.name, i.offset_data, i.size) for i in infos] == [
            (f"{m.key}.{m.member}", m.offset, m.length) for m in report.members
        ]
        assert [i.name.split(".", 1)[1] for i in infos[:5]] == list(MEMBERS)
        for info in infos:
            assert (info.mtime, info.uid, info.gid, info.uname, info.gname) == (0, 0, 0, "", "")
            assert (info.mode, info.isfile()) == (0o644, True)
    raw = (tmp_path / NAME).read_bytes()
    write_index(tmp_path / "index.parquet", [report])
    table = pq.read_table(tmp_path / "index.parquet").to_pylist()
    with tarfile.open(tmp_path / NAME) as tar:
        for row in table:
            content = tar.extractfile(f"{row['key']}.{row['member']}").read()
            assert raw[row["offset"] : row["offset"] + row["length"]] == content
            assert read_member(tmp_path / NAME, row["offset"], row["length"]) == content
    assert report.size == len(raw)
    assert report.sha256 == hashlib.sha256(raw).hexdigest()
    assert ShardReport.from_json(json.loads(json.dumps(report.to_json()))) == report


def test_long_names_are_still_one_tar(make: Make, tmp_path: Path) -> None:
    sample, _ = make()
    key = "site-" + "x" * 180 + "-20210601"
    long = Sample(**{**{f: getattr(sample, f) for f in sample.__slots__}, "key": key})
    report = write_shard(tmp_path / NAME, [long, sample], subset="s2-test", split="train")
    with tarfile.open(tmp_path / NAME) as tar:
        found = {i.name: i.offset_data for i in tar.getmembers()}
    assert found == {f"{m.key}.{m.member}": m.offset for m in report.members}


@pytest.mark.parametrize("name", ["a", "x" * 100, "x" * 101, "é", "s2-1-20210101.image.tif"])
def test_a_header_is_what_tarfile_writes(name: str) -> None:
    for size in (0, 1, 511, 8**7, 8**11 - 1, 8**11):
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o644
        assert tar_header(name, size) == info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def test_the_same_bytes_twice_and_nothing_but_whole_files(make: Make, tmp_path: Path) -> None:
    digests = []
    for folder in ("a", "b"):
        samples = (make("south", i)[0] for i in range(3))
        report = write_shard(tmp_path / folder / NAME, samples, subset="s2-test", split="train")
        write_index(tmp_path / folder / "index.parquet", [report])
        digests.append(
            [
                hashlib.sha256(p.read_bytes()).hexdigest()
                for p in sorted((tmp_path / folder).iterdir())
            ]
        )
    assert digests[0] == digests[1]

    def broken():
        yield make("north", 0)[0]
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_shard(tmp_path / "c" / NAME, broken(), subset="s2-test", split="train")
    assert list((tmp_path / "c").iterdir()) == []


def test_index_and_reading_back(make: Make, subset: SubsetInfo, tmp_path: Path) -> None:
    made = {
        split: [make(place, i) for i, place in enumerate(("north", "south", "nowhere"))]
        for split in ("train", "val")
    }
    reports = [
        write_shard(
            tmp_path / shard_name("s2-test", split, 0),
            (s for s, _ in pairs),
            subset="s2-test",
            split=split,
        )
        for split, pairs in made.items()
    ]
    write_index(tmp_path / "index.parquet", reports[::-1])
    table = pq.read_table(tmp_path / "index.parquet")
    assert table.num_rows == 2 * 3 * 5
    assert table.column_names == ["subset", "split", "shard", "key", "member", "offset", "length"]
    shards = open_shards(tmp_path, tmp_path / "index.parquet")
    assert [(e.split, e.key) for e in shards.entries] == [
        (split, r.key) for split, pairs in made.items() for _, r in pairs
    ]
    for entry, (sample, _) in zip(
        shards.entries, [p for pairs in made.values() for p in pairs], strict=True
    ):
        back = shards.read(entry)
        for name in ("image", "valid", "label", "confidence"):
            np.testing.assert_array_equal(getattr(back, name), getattr(sample, name))
        assert (back.bands, back.grid, back.scale, back.offset) == (
            sample.bands,
            sample.grid,
            sample.scale,
            sample.offset,
        )
        want = (sample.image.astype(float) - 1000) / 10000  # baseline 04.00, once
        np.testing.assert_allclose(reflectance(back), want, atol=1e-7)
        assert reflectance(back).dtype == np.float32
    for record, (_, want) in zip(shards.records(), made["train"] + made["val"], strict=True):
        assert record.members["json"][1] > 0
        assert record.metadata(subset) == want.metadata(subset)
        assert (record.grid, record.datetime, record.scenes) == (
            want.grid,
            want.datetime,
            want.scenes,
        )


def test_statistics_are_of_valid_pixels_and_physical_values(
    make: Make, subset: SubsetInfo, tmp_path: Path
) -> None:
    pairs = [make("north", 0, offset=-0.1), make("south", 1, offset=0.0), make("north", 2)]
    samples = [s for s, _ in pairs]
    one = write_shard(tmp_path / NAME, samples, subset="s2-test", split="train")
    two = [
        write_shard(
            tmp_path / shard_name("s2-test", "train", i + 1), [s], subset="s2-test", split="train"
        )
        for i, s in enumerate(samples)
    ]
    whole = manifest([one], [subset], sources={"recipe": "abc"})
    parts = manifest(two[::-1], [subset], sources={"recipe": "abc"})
    counted = whole["subsets"]["s2-test"]["splits"]["train"]
    values = np.concatenate(
        [(s.image.astype(float) * s.scale[0] + s.offset[0])[:, s.valid] for s in samples], axis=1
    )
    for i, band in enumerate(subset.bands):
        found = counted["statistics"][band]
        assert found["count"] == values.shape[1] < 3 * 1600
        assert found["mean"] == pytest.approx(values[i].mean(), rel=1e-12)
        assert found["stddev"] == pytest.approx(values[i].std(), rel=1e-9)
        assert (found["minimum"], found["maximum"]) == pytest.approx(
            (values[i].min(), values[i].max())
        )
        again = parts["subsets"]["s2-test"]["splits"]["train"]["statistics"][band]
        assert again == pytest.approx(found, rel=1e-14)
    labels = np.concatenate([s.label.ravel() for s in samples])
    valid = np.concatenate([s.valid.ravel() for s in samples])
    names = [c.name for c in subset.taxonomy.classes]
    assert counted["label_pixels"] == {
        **{n: int((labels == i).sum()) for i, n in enumerate(names)},
        "ignore": int((labels == 255).sum()),
    }
    assert sum(counted["label_pixels_valid"].values()) == valid.sum()
    assert counted["label_pixels_valid"]["ignore"] == ((labels == 255) & valid).sum()
    assert counted["samples"] == 3
    assert whole["from"] == {"recipe": "abc"}
    assert whole["shards"] == [
        {
            "name": NAME,
            "subset": "s2-test",
            "split": "train",
            "sha256": one.sha256,
            "size": one.size,
            "samples": 3,
        }
    ]
    about = whole["subsets"]["s2-test"]
    assert about["classes"][0]["prompts"]
    assert about["bands"][0]["eo:common_name"] == "blue"
    json.dumps(whole, allow_nan=False)
    assert manifest(two, [subset], sources={}) == manifest(two[::-1], [subset], sources={})


def test_a_band_that_nobody_saw() -> None:
    nothing = BandSums.merged([BandSums(), BandSums()]).statistics()
    assert nothing == {"count": 0, "mean": None, "stddev": None, "minimum": None, "maximum": None}


def test_keys_and_shapes_are_checked(make: Make, tmp_path: Path) -> None:
    assert sample_key("32632-5-a1", date(2021, 7, 5)) == "32632-5-a1-20210705"
    for site in ("../x", "a.b", "A", "", "ä"):
        with pytest.raises(ValueError, match="key"):
            sample_key(site, date(2021, 7, 5)) if site else shard_name("", "train", 0)
    sample, _ = make()
    fields = {f: getattr(sample, f) for f in sample.__slots__}
    for wrong in ({"label": sample.label[1:]}, {"scale": (1.0,)}, {"bands": ("a",)}):
        with pytest.raises(GridMismatchError, match=sample.key):
            Sample(**{**fields, **wrong})
    with pytest.raises(ValueError, match="twice"):
        write_shard(tmp_path / NAME, [sample, sample], subset="s2-test", split="train")
    with pytest.raises(ValueError, match="needs samples"):
        write_shard(tmp_path / NAME, [], subset="s2-test", split="train")


def test_an_index_cannot_lead_outside_and_a_cut_shard_is_said(make: Make, tmp_path: Path) -> None:
    sample, _ = make()
    report = write_shard(tmp_path / NAME, [sample], subset="s2-test", split="train")
    fields = report.to_json()
    for wrong in ("../evil.tar", "../../etc/passwd.tar", "/etc/passwd", "a/b.tar", ".x.tar"):
        write_index(tmp_path / "evil.parquet", [ShardReport.from_json({**fields, "name": wrong})])
        with pytest.raises(WorkspaceError, match="shards' folder"):
            open_shards(tmp_path, tmp_path / "evil.parquet")
    for key in ("a/b", "../a", "a.b", "A", ""):
        members = [{**member, "key": key} for member in fields["members"]]
        evil = ShardReport.from_json({**fields, "members": members})
        write_index(tmp_path / "evil.parquet", [evil])
        with pytest.raises(WorkspaceError, match="`key`"):
            open_shards(tmp_path, tmp_path / "evil.parquet")
    cut = tmp_path / "cut.tar"
    cut.write_bytes((tmp_path / NAME).read_bytes()[:3000])
    with pytest.raises(WorkspaceError, match="cut off"):
        read_member(cut, report.members[-1].offset, report.members[-1].length)
