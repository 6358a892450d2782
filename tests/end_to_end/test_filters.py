"""Filters and decisions through `las pack`: what is left out, recorded, counted; the same bytes."""

from __future__ import annotations

import csv
import json
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from kit import Las
from scipy.ndimage import distance_transform_cdt

from las_builder import plan, recipe, run
from las_builder.catalogs import Catalogs
from las_builder.core.workspace import Workspace, sha256_file, sha256_tree
from las_builder.errors import StageError
from las_builder.pack import Decoded, open_shards
from las_builder.run import Engine

BASE: dict[str, Any] = {
    "name": "v", "imagery": "sentinel-2-l2a", "bands": ["B03", "B04", "B08", "B11"],
    "labels": ["dynamic-world"], "source": "virtual", "taxonomy": "six", "patch": {"size": 48},
    "sites": {"count": 8, "region": "global", "seed": 5, "spacing_km": 4},
    "dates": {"period": "2021-01-01/2022-01-01", "per_site": 2, "max_cloud": 20,
              "patch_min_clear": 0.9},
    "shards": {"samples": 4},
}  # fmt: skip
FOLDER = Path(__file__).parent / "catalogs"
CATALOGS = Catalogs.load(FOLDER)
Pack = Callable[..., tuple[Workspace, str]]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("built")
    path = work / "v.yaml"
    path.write_text(yaml.safe_dump(BASE))
    with Engine(workers=1) as engine:
        run.build(recipe.read(str(path), catalogs=CATALOGS), Workspace(work / "v"), engine)
    return work / "v"


@pytest.fixture
def pack(built: Path, tmp_path: Path) -> Pack:
    """Pack a copy of the workspace with filters and decisions."""
    space = Workspace(tmp_path / "v")
    shutil.copytree(built, space.root)

    def packed(*steps: dict[str, Any], decisions: str = "", workers: int = 1, samples: int = 4):
        file = tmp_path / "v.yaml"
        file.write_text(
            yaml.safe_dump({**BASE, "filters": list(steps), "shards": {"samples": samples}})
        )
        space.subset("v").decisions.unlink(missing_ok=True)
        if decisions:
            space.subset("v").decisions.write_text("site,action,class,to,who,why\n" + decisions)
        with Engine(workers=workers) as engine:
            return space, run.pack(recipe.read(str(file), catalogs=CATALOGS), space, engine)

    return packed


def samples(space: Workspace) -> dict[str, Decoded]:
    shards = open_shards(space.shards, space.index)
    return {entry.key: shards.read(entry) for entry in shards.entries}


def digests(space: Workspace) -> dict[str, str]:
    return {
        **{p.name: sha256_file(p) for p in (space.index, space.manifest)},
        "shards": sha256_tree(space.shards),
        "rejected": sha256_file(space.rejected) if space.rejected.exists() else "",
    }


def adds_up(space: Workspace) -> dict[str, Any]:
    """considered = rejected + samples, by stratum, in the manifest, the table and the shards."""
    whole = json.loads(space.manifest.read_text())
    about = whole["subsets"]["v"]
    kept = Counter(s.metadata["stratum"] for s in samples(space).values())
    gone = Counter()
    for strata in about["rejected"].values():
        gone.update(strata)
    assert Counter(about["considered"]) == kept + gone
    assert sum(split["samples"] for split in about["splits"].values()) == kept.total()
    assert sum(shard["samples"] for shard in whole["shards"]) == kept.total()
    rows = (
        list(csv.DictReader(space.rejected.read_text().splitlines()))
        if space.rejected.exists()
        else []
    )
    counted = Counter((row["step"], row["stratum"]) for row in rows)
    assert counted == Counter(
        {(s, k): n for s, v in about["rejected"].items() for k, n in v.items()}
    )
    assert {p.name for p in space.shards.glob("*.tar")} == {s["name"] for s in whole["shards"]}
    for shard in whole["shards"]:
        assert sha256_file(space.shards / shard["name"]) == shard["sha256"]
        with tarfile.open(space.shards / shard["name"]) as tar:
            assert len(tar.getnames()) == 5 * shard["samples"]
    return about


def edge(label: np.ndarray) -> np.ndarray:
    """Labelled pixels one step from another class, by the distance to each class."""
    near = np.zeros(label.shape, bool)
    for value in set(np.unique(label)) - {255}:
        away = distance_transform_cdt(label != value, metric="chessboard")
        near |= (label != 255) & (label != value) & (away <= 1)
    return near


def test_patches_are_rejected_pixels_ignored_and_all_of_it_is_said(built: Path, pack: Pack) -> None:
    before = samples(Workspace(built))
    assert all(s.metadata["weight_km2"] > 0 for s in before.values())
    assert all(s.metadata["filters"] == [] for s in before.values())
    space, said = pack(
        {"step": "temporal_stability"}, {"step": "erode_edges"}, {"step": "void_share", "max": 0.3},
        {"step": "min_classes", "n": 2},
    )  # fmt: skip
    after = samples(space)
    by_site: dict[str, list[str]] = {}
    for key, sample in before.items():
        by_site.setdefault(sample.metadata["site"], []).append(key)
    want = {}
    for key, sample in before.items():
        label = sample.label.copy()
        first, second = [0, 0], 0
        for other in by_site[sample.metadata["site"]]:
            theirs = before[other].label
            label[(sample.label != 255) & (theirs != 255) & (theirs != sample.label)] = 255
        first = int((label != sample.label).sum())
        beside = edge(label)
        second = int(beside.sum())
        label[beside] = 255
        if (label == 255).mean() <= 0.3 and len(set(np.unique(label)) - {255}) >= 2:
            want[key] = (label, first, second)
    assert 0 < len(want) < len(before)
    assert after.keys() == want.keys()
    for key, (label, first, second) in want.items():
        np.testing.assert_array_equal(after[key].label, label)
        np.testing.assert_array_equal(after[key].image, before[key].image)
        said_of = after[key].metadata
        assert [(f["step"], f["ignored"]) for f in said_of["filters"]] == [
            ("temporal_stability", first), ("erode_edges", second),
        ]  # fmt: skip
        # Selected by its label: no weight, but still the design's.
        assert said_of["weight_km2"] is None
        assert said_of["weight_km2_design"] == before[key].metadata["weight_km2_design"]
    assert any(first for _, first, _ in want.values())
    about = adds_up(space)
    assert sum(about["considered"].values()) == len(before)
    assert about["changed"]["erode_edges"]["ignored"] == sum(n for _, _, n in want.values())
    assert f"{len(want)} samples" in said
    for step, strata in about["rejected"].items():
        assert f"{step} left out {sum(strata.values())}: land" in said


def test_the_same_bytes_however_it_is_packed_and_back_again(built: Path, pack: Pack) -> None:
    steps = ({"step": "erode_edges"}, {"step": "min_classes", "n": 3})
    space, _ = pack(*steps, samples=1)
    first = digests(space)
    parts = list((space.shards / ".parts").glob("*.json"))
    assert len(parts) > len(list(space.shards.glob("*.tar"))) > 0  # some shards have no sample
    adds_up(space)
    stamps = {p: p.stat().st_mtime_ns for p in space.shards.rglob("*.*") if p.is_file()}
    assert digests(pack(*steps, samples=1)[0]) == first
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps  # done is skipped
    for i, part in enumerate(sorted(parts)):  # killed in the middle: some are done, some half
        if i % 2:
            part.unlink()
    next(space.shards.glob("*.tar")).write_bytes(b"half")
    for part in sorted(parts):
        part.unlink(missing_ok=True)
    assert digests(pack(*steps, samples=1, workers=2)[0]) == first
    assert digests(pack()[0]) == digests(Workspace(built))


def test_pixel_steps_keep_the_weights(pack: Pack) -> None:
    space, said = pack({"step": "erode_edges"}, {"step": "spectral_veto"})
    assert all(s.metadata["weight_km2"] > 0 for s in samples(space).values())
    assert adds_up(space)["rejected"] == {}
    assert not space.rejected.exists()
    assert "erode_edges: " in said


def test_reviewers_decide(built: Path, pack: Pack) -> None:
    before = samples(Workspace(built))
    classes = next(iter(before.values())).metadata["classes"]
    sites = sorted({s.metadata["site"] for s in before.values()})
    one, two, three = sites[:3]
    most = {
        site: classes[Counter(
            np.concatenate([s.label.ravel() for s in before.values()
                            if s.metadata["site"] == site]).tolist()
        ).most_common(1)[0][0]]
        for site in (two, three)
    }  # fmt: skip
    other = next(c for c in classes if c != most[two])
    lines = (
        f"{one},drop,,,A. B.,shifted\n{two},relabel,{most[two]},{other},A. B.,seen\n"
        f"{three},ignore-class,{most[three]},,A. B.,unsure\n{three},keep,,,A. B.,rare\n"
    )
    impossible = {"step": "min_classes", "n": 6}
    with pytest.raises(StageError, match=r"left no sample.*rejected\.csv"):
        pack(impossible)
    space, said = pack(impossible, decisions=lines)
    after = samples(space)
    assert {s.metadata["site"] for s in after.values()} == {three}
    space, said = pack(decisions=lines)
    after = samples(space)
    assert {s.metadata["site"] for s in after.values()} == set(sites) - {one}
    assert "drop left out" in said
    for key, sample in after.items():
        label = before[key].label.copy()
        if sample.metadata["site"] == two:
            label[before[key].label == classes.index(most[two])] = classes.index(other)
        elif sample.metadata["site"] == three:
            label[label == classes.index(most[three])] = 255
        np.testing.assert_array_equal(sample.label, label)
        assert sample.metadata["weight_km2"] is None  # somebody looked, and left some out
        pixels = sum(d.get("pixels", 0) for d in sample.metadata["decisions"])
        assert pixels == int((label != before[key].label).sum())
        assert "A. B." not in json.dumps(dict(sample.metadata))
        assert sample.metadata["taxonomy_version"] == CATALOGS.taxonomy("six").version
    adds_up(space)
    whole = json.loads(space.manifest.read_text())
    counts = {"drop": 1, "relabel": 1, "ignore-class": 1, "keep": 1}
    assert whole["subsets"]["v"]["decisions"] == counts
    assert whole["from"]["v/decisions"] == sha256_file(space.subset("v").decisions)
    space, _ = pack(decisions="".join(f"{line}\n" for line in lines.splitlines()[1:3]))
    assert all(s.metadata["weight_km2"] > 0 for s in samples(space).values())


def test_a_site_that_is_not_packed_may_be_dropped_at_no_cost(built: Path, pack: Pack) -> None:
    packed = {s.metadata["site"] for s in samples(Workspace(built)).values()}
    reserve = next(s.id for s in plan.read_plan(Workspace(built).plan) if s.id not in packed)
    space, _ = pack(decisions=f"{reserve},drop,,,A. B.,sea\n")
    assert all(s.metadata["weight_km2"] > 0 for s in samples(space).values())


def test_what_is_wrong_is_one_line_and_changes_nothing(
    built: Path, las: Las, tmp_path: Path
) -> None:
    shutil.copytree(built, tmp_path / "work" / "v")
    space = Workspace(tmp_path / "work" / "v")
    first = digests(space)
    file = tmp_path / "v.yaml"
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"step": "void"}, ["filters.0.step", "'void'", "void_share", "erode_edges"]),
        ({"max": 0.3}, ["`filters.0.step` is None", "required"]),
        (
            {"step": "void_share", "max": 0.3, "mx": 1},
            ["filters.0.void_share.mx", "keys max, step"],
        ),
        ({"step": "min_classes", "n": 0}, ["filters.0.min_classes.n", "0"]),
        ({"step": "erode_edges", "pixel": 1}, ["keys pixels, step", "Did you mean 'pixels'"]),
    ]
    for step, words in cases:
        file.write_text(yaml.safe_dump({**BASE, "filters": [step]}))
        said = las("check", file, "--work", tmp_path / "work", "--catalogs", FOLDER)
        assert said.code == 2, said
        assert said.err.count("\n") == 1
        for word in words:
            assert word in said.err, said.err
    file.write_text(
        yaml.safe_dump({**BASE, "bands": ["B04"], "filters": [{"step": "spectral_veto"}]})
    )
    said = las("check", file, "--work", tmp_path / "elsewhere", "--catalogs", FOLDER)
    assert said.code == 2
    assert "nir or nir08, which ndvi needs; of sentinel-2-l2a" in said.err
    file.write_text(yaml.safe_dump(BASE))
    space.subset("v").decisions.write_text("site,action,class,to,who,why\nx,drop,,,a,b\n")
    said = las("pack", file, "--work", tmp_path / "work", "--workers", 1, "--catalogs", FOLDER)
    assert said.code == 2
    assert "decisions.csv:2: `site` is 'x'" in said.err
    assert digests(space) == first
    check = ("check", file, "--work", tmp_path / "work", "--catalogs", FOLDER)
    assert las(*check) == said  # the same line, before anything is packed
    site = next(s.id for s in plan.read_plan(space.plan))
    space.subset("v").decisions.write_text(f"site,action,class,to,who,why\n{site},drop,,,a,b\n")
    assert "v: decisions.csv on 1 sites: 1 drop" in las(*check).out


def test_two_taxonomies_of_one_workspace(built: Path, las: Las, tmp_path: Path) -> None:
    space = Workspace(tmp_path / "work" / "v")
    shutil.copytree(built, space.root)
    first = digests(space)
    file = tmp_path / "v.yaml"
    file.write_text(yaml.safe_dump({**BASE, "taxonomy": "three"}))
    into = tmp_path / "four"
    packed = ("pack", file, "--work", tmp_path / "work", "--workers", 1, "--catalogs", FOLDER)
    said = las(*packed, "--into", into)
    assert said.code == 0, said
    assert digests(space) == first
    assert sorted(p.name for p in into.iterdir()) == ["index.parquet", "manifest.json", "shards"]
    again = digests(Workspace(into))
    assert las(*packed, "--into", into).code == 0
    assert digests(Workspace(into)) == again
    said = las("diff", space.root, into, "--out", tmp_path / "diff")
    assert said.code == 0, said
    merged = {"tree_cover": "forest", "water": "water", "built_up": "built_up",
              "cropland": "cropland"}  # fmt: skip
    want: Counter[tuple[str, str]] = Counter()
    for sample in samples(space).values():
        for index, n in zip(*np.unique(sample.label, return_counts=True), strict=True):
            name = "ignore" if index == 255 else sample.metadata["classes"][index]
            other = merged.get(name, "ignore")
            if name != other:
                want[name, other] += int(n)
    found = json.loads((tmp_path / "diff" / "diff.json").read_text())
    transitions = {(t["from"], t["to"]): t["pixels"] for t in found["subsets"]["v"]["transitions"]}
    assert transitions == dict(want)
    assert ("tree_cover", "forest") in transitions
    assert found["inputs"] == ["v/declarations"]
    assert found["subsets"]["v"]["pixels"]["image"] == 0
    for wrong in (space.root, tmp_path / "mine"):  # a workspace; somebody's shards
        (tmp_path / "mine" / "shards").mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / "shards" / "x.tar").write_bytes(b"x")
        said = las(*packed, "--into", wrong)
        assert (said.code, said.err.count("\n")) == (2, 1), said
        assert "--into" in said.err
    assert (tmp_path / "mine" / "shards" / "x.tar").exists()
    assert digests(space) == first
