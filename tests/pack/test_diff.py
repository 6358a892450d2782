"""Two packings compared, against NumPy on the samples themselves."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
from kit import Las

from las_builder import run
from las_builder.core.workspace import Workspace, sha256_file, write_json
from las_builder.errors import WorkspaceError
from las_builder.pack import (
    Sample,
    SampleRecord,
    ShardReport,
    SortedShards,
    SubsetInfo,
    manifest,
    open_shards,
    shard_name,
    write_index,
    write_shard,
)

Make = Callable[..., tuple[Sample, SampleRecord]]
PLACES = ("north", "south", "antimeridian", "nowhere")


def packed(
    root: Path, samples: Iterable[Sample], subset: SubsetInfo, *, each: int = 2
) -> Workspace:
    space = Workspace(root)
    by_split: dict[str, list[Sample]] = {}
    for sample in samples:
        by_split.setdefault(sample.metadata["split"], []).append(sample)
    reports: list[ShardReport] = []
    for split, found in by_split.items():
        for number, start in enumerate(range(0, len(found), each)):
            name = shard_name(subset.name, split, number)
            reports.append(
                write_shard(space.shards / name, found[start : start + each], subset=subset.name,
                            split=split)
            )  # fmt: skip
    write_index(space.index, reports)
    sources = {"recipe": "r", "plan": str(len(reports))}
    write_json(space.manifest, manifest(reports, [subset], sources=sources))
    return space


def but(sample: Sample, **changes: Any) -> Sample:
    metadata = {**sample.metadata, **changes.pop("metadata", {})}
    return replace(sample, metadata=metadata, **changes)


def rows(out: Path) -> dict[str, dict[str, str]]:
    return {row["key"]: row for row in csv.DictReader((out / "diff.csv").read_text().splitlines())}


def renamed(subset: SubsetInfo, names: Sequence[str]) -> SubsetInfo:
    """Other classes: fewer, merged, renamed."""
    kept = [
        subset.taxonomy.classes[0].model_copy(update={"name": name, "title": name})
        for name in names
    ]
    taxonomy = subset.taxonomy.model_copy(update={"name": "other", "classes": kept})
    return replace(subset, taxonomy=taxonomy)


def test_the_same_is_the_same(make: Make, subset: SubsetInfo, tmp_path: Path) -> None:
    samples = [make(place, i)[0] for i, place in enumerate(PLACES)]
    a = packed(tmp_path / "a", samples, subset)
    b = packed(tmp_path / "b", samples[::-1], subset, each=1)  # other shards, same patches
    said, differs = run.diff(a.root, b.root, tmp_path / "out")
    assert not differs
    assert "4 patches in both (0 changed), 0 only in A, 0 only in B" in said
    assert "no patch differs" in said
    assert "made from other: plan" in said
    assert {row["state"] for row in rows(tmp_path / "out").values()} == {"same"}


def test_what_differs_is_counted(make: Make, subset: SubsetInfo, tmp_path: Path) -> None:
    chance = np.random.default_rng(4)
    one, two, three, four = (make(place, i)[0] for i, place in enumerate(PLACES))
    gone, come = make("north", 7)[0], make("south", 9)[0]
    label = two.label.copy()
    label[5:15, 3:20] = chance.choice([0, 2, 4, 255], (10, 17))
    confidence = np.where(label == 255, 255, 70).astype(np.uint8)
    image = three.image.copy()
    image[1, 4:9, 7] += 1
    image[3, 4:9, 7] += 1  # the same pixels
    image[0, 20, 20:23] += 2
    valid = three.valid.copy()
    valid[:2, :5] ^= True
    names = [c.name for c in subset.taxonomy.classes]
    b_samples = [
        but(one, metadata={"weight_km2": None, "filters": [{"step": "x"}]}),
        but(two, label=label, confidence=confidence),
        but(three, image=image, valid=valid),
        but(four, metadata={"split": "val"}),
        come,
    ]
    a = packed(tmp_path / "a", [one, two, three, four, gone], subset)
    b = packed(tmp_path / "b", b_samples, subset)
    out = tmp_path / "out"
    said, differs = run.diff(a.root, b.root, out)
    assert differs
    found = rows(out)
    assert list(found) == sorted(found)
    state = {key: row["state"] for key, row in found.items()}
    assert state == {
        **{s.key: "changed" for s in (one, two, three, four)},
        gone.key: "only-a", come.key: "only-b",
    }  # fmt: skip

    def name(index: int) -> str:
        return "ignore" if index == 255 else names[index]

    want = Counter(
        (name(x), name(y))
        for x, y in zip(two.label.ravel().tolist(), label.ravel().tolist(), strict=True)
        if x != y
    )
    whole = json.loads((out / "diff.json").read_text())["subsets"]["s2-test"]
    transitions = {(t["from"], t["to"]): t["pixels"] for t in whole["transitions"]}
    assert transitions == dict(want)
    assert list(transitions.values()) == sorted(transitions.values(), reverse=True)
    assert {t["patches"] for t in whole["transitions"]} == {1}
    size = one.label.size
    assert whole["pixels"] == {
        "compared": 4 * size,
        "label": want.total(),
        "confidence": int((confidence != two.confidence).sum()),
        "image": int((image != three.image).any(axis=0).sum()),
        "valid": 10,
    }
    assert whole["pixels"]["image"] == 8
    assert whole["patches"] == {"same": 0, "changed": 4, "only-a": 1, "only-b": 1}
    assert whole["changed_patches"] == {
        "image": 1, "label": 1, "confidence": 1, "valid": 1, "metadata": 2, "grid": 0, "split": 1,
    }  # fmt: skip
    assert whole["metadata"] == {"weight_km2": 1, "filters": 1, "split": 1}
    assert found[two.key]["label"] == str(want.total())
    first = want.most_common(1)[0]
    assert f"{first[0][0]} > {first[0][1]}: {first[1]}" in found[two.key]["transitions"]
    assert found[one.key]["metadata"] == "filters; weight_km2"
    assert (found[four.key]["split_a"], found[four.key]["split_b"]) == ("train", "val")
    assert f"{want.total():,} of {4 * size:,} pixels" in said
    package = geopandas.read_file(out / "diff.gpkg").set_index("key")
    assert len(package) == len(found)
    for sample in (one, two, three, gone, come):
        place = package.loc[sample.key]
        centre = sample.grid.centre_lonlat()
        assert place.geometry.buffer(1e-9).contains(
            geopandas.points_from_xy(*[[c] for c in centre])[0]
        )
        assert place["state"] == state[sample.key]
    assert package.loc[four.key].geometry is None  # nobody knows where it is


def test_taxonomies_are_compared_by_their_names(
    make: Make, subset: SubsetInfo, tmp_path: Path
) -> None:
    sample, _ = make("north", 3)
    names = [c.name for c in subset.taxonomy.classes]
    other = renamed(subset, [names[4], "anything", names[0]])
    table = np.full(256, 255, np.uint8)
    table[0], table[2], table[4] = 2, 1, 0  # the same index may be another class, and the reverse
    label = table[sample.label]
    changed = but(sample, label=label, classes=tuple(other.taxonomy.classes),
                  metadata={"classes": [c.name for c in other.taxonomy.classes],
                            "taxonomy": "other"})  # fmt: skip
    a, b = packed(tmp_path / "a", [sample], subset), packed(tmp_path / "b", [changed], other)
    said, _ = run.diff(a.root, b.root, tmp_path / "out")
    whole = json.loads((tmp_path / "out" / "diff.json").read_text())["subsets"]["s2-test"]
    want = {(names[2], "anything"): int((sample.label == 2).sum())}
    for index in set(np.unique(sample.label)) - {0, 2, 4, 255}:
        want[names[index], "ignore"] = int((sample.label == index).sum())
    assert {(t["from"], t["to"]): t["pixels"] for t in whole["transitions"]} == want
    assert whole["classes_only_b"] == ["anything"]
    assert whole["taxonomy"] == {"a": subset.taxonomy.name, "b": "other"}
    assert f"taxonomy: {subset.taxonomy.name} in A, other in B" in said
    # The same numbers under other names are other labels, though not a byte of them differs.
    named = but(sample, metadata={"classes": names[::-1]})
    c = packed(tmp_path / "c", [named], subset)
    run.diff(a.root, c.root, tmp_path / "again")
    again = json.loads((tmp_path / "again" / "diff.json").read_text())["subsets"]["s2-test"]
    middle = len(names) // 2 if len(names) % 2 else -1
    moved = sum(int((sample.label == i).sum()) for i in range(len(names)) if i != middle)
    assert again["pixels"]["label"] == moved
    assert again["pixels"]["image"] == 0


def test_another_grid_or_other_bands(make: Make, subset: SubsetInfo, tmp_path: Path) -> None:
    one, two = make("north", 1)[0], make("south", 2)[0]
    moved = replace(one.grid, transform=one.grid.transform.translation(10, 0) @ one.grid.transform)
    far = but(one, grid=moved, metadata={"proj:transform": list(moved.transform)[:6]})
    fewer = but(two, image=two.image[[2, 0]], bands=("B04", "B02"), scale=two.scale[:2],
                offset=two.offset[:2],
                metadata={"bands": [two.metadata["bands"][2], two.metadata["bands"][0]]})  # fmt: skip
    a = packed(tmp_path / "a", [one, two], subset)
    b = packed(tmp_path / "b", [far], replace(subset, name="s2-test"))
    _, differs = run.diff(a.root, b.root, tmp_path / "out")
    row = rows(tmp_path / "out")[one.key]
    assert differs
    assert (row["grid_changed"], row["pixels"], row["label"]) == ("True", "0", "0")
    c = packed(tmp_path / "c", [fewer], replace(subset, bands=("B04", "B02")))
    run.diff(a.root, c.root, tmp_path / "again")
    row = rows(tmp_path / "again")[two.key]
    assert (row["image"], row["metadata"]) == ("0", "bands")  # what both have is the same


def test_the_same_bytes_twice_and_exit_codes(
    make: Make, subset: SubsetInfo, las: Las, tmp_path: Path
) -> None:
    samples = [make("north", i)[0] for i in range(5)]
    a = packed(tmp_path / "a", samples[:4], subset)
    b = packed(tmp_path / "b", samples[1:], subset)
    digests = []
    for name in ("one", "two"):
        said = las("diff", a.root, b.root, "--out", tmp_path / name)
        assert said.code == 0, said
        digests.append(
            [sha256_file(tmp_path / name / f"diff.{e}") for e in ("json", "csv", "gpkg")]
        )
        assert sorted(p.name for p in (tmp_path / name).iterdir()) == [
            "diff.csv", "diff.gpkg", "diff.json"
        ]  # fmt: skip
    assert digests[0] == digests[1]
    assert las("diff", a.root, b.root, "--exit-code").code == 1
    assert las("diff", a.root, a.root, "--exit-code").code == 0
    said = las("diff", a.root, tmp_path / "one")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "manifest.json" in said.err
    shard = next(b.shards.glob("*.tar"))
    shard.write_bytes(shard.read_bytes()[:2000])
    said = las("diff", a.root, b.root, "--out", tmp_path / "three")
    assert said.code == 2
    assert "cut off" in said.err
    assert not any(p.is_file() for p in tmp_path.glob("three/*"))


def test_chunks_of_polygons_are_all_written(
    make: Make, subset: SubsetInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = packed(tmp_path / "a", [make("nowhere", 0)[0], *(make("north", i)[0] for i in range(1, 6))],
               subset)  # fmt: skip
    monkeypatch.setattr(sys.modules["las_builder.run.diff"], "CHUNK", 2)
    run.diff(a.root, a.root, tmp_path / "out")
    package = geopandas.read_file(tmp_path / "out" / "diff.gpkg")
    assert len(package) == 6
    assert package.crs == "EPSG:4326"


def test_sorted_shards_are_the_shards(make: Make, subset: SubsetInfo, tmp_path: Path) -> None:
    samples = [make(place, i)[0] for i, place in enumerate((*PLACES, *PLACES))]
    a = packed(tmp_path / "a", samples, subset)
    entries = list(SortedShards(a.shards, a.index))
    assert [e.key for e in entries] == sorted(s.key for s in samples)
    assert sorted(open_shards(a.shards, a.index).entries, key=lambda e: e.key) == entries
    report = write_shard(tmp_path / "x-train-000000.tar", samples[:1], subset="x", split="train")
    for wrong in ([report, replace(report, name="x-val-000000.tar", split="val")],
                  [replace(report, members=report.members[1:])],
                  [replace(report, name="../x.tar")]):  # fmt: skip
        write_index(tmp_path / "wrong.parquet", wrong)
        with pytest.raises(WorkspaceError):
            list(SortedShards(tmp_path, tmp_path / "wrong.parquet"))
