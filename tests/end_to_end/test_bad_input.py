"""Promise 5: one line naming file, key, value and what is allowed; exit code 2; nothing written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from kit import Las, Said, raster

Content = dict[str, object]
Recipe = Callable[[Content], Path]


def refused(said: Said, *words: str) -> None:
    # Progress of the stages before it may stand above; the error itself is one line, the last.
    # A slow stage counts seconds a site, a quick one sites a second.
    progress = re.compile(r"(sites|patches)/s|s/(sites|patches)")
    lines = [line for line in said.err.splitlines() if not progress.search(line)]
    assert said.code == 2, said
    assert len(lines) == 1, said.err
    for word in words:
        assert word in lines[0], lines[0]


def nothing_in(work: Path) -> bool:
    return not any(p.is_file() for p in work.rglob("*"))


def change(content: Content, dotted: str, value: object) -> Content:
    keys = dotted.split(".")
    here = content
    for key in keys[:-1]:
        here = here[key]
    here[keys[-1]] = value
    return content


@pytest.fixture
def catalogue(las: Las, folder: Path, tmp_path: Path) -> Path:
    out = tmp_path / "catalogue"
    said = las("index", folder, "--out", out)
    assert said.code == 0, said
    return out


def test_the_good_case_goes_through(
    las: Las, catalogue: Path, recipe: Recipe, content: Content, tmp_path: Path
) -> None:
    said = las("build", recipe(content), "--work", tmp_path / "work", "--workers", 1)
    assert said.code == 0, said
    assert "4 samples" in said.out


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("seed", 3, ["tiny.yaml", "`seed`", "allowed: the keys", "sites"]),
        ("sites.sede", 3, ["tiny.yaml", "sites.sede", "Did you mean 'seed'?"]),
        ("imagery", "sentinel2-l2a", ["tiny.yaml", "`imagery`", "Did you mean 'sentinel-2-l2a'?"]),
        ("labels", ["esa-worldcover-v20"], ["labels.0", "esa-worldcover-v200"]),
        ("compare", ["nlcdd"], ["compare.0", "Did you mean 'nlcd'?"]),
        ("taxonomy", "cover9", ["`taxonomy`", "Did you mean 'cover-9'?"]),
        ("bands", ["B02", "B99"], ["bands.1", "'B99'", "B02"]),
        ("patch.size", 4, ["patch.size", "4", "greater than or equal to 8"]),
        ("sites.count", "many", ["sites.count", "'many'", "integer"]),
        ("dates.period", "2022-01-01/2021-01-01", ["dates.period", "must end after it starts"]),
        ("dates.min", 3, ["dates", "at most dates.per_site"]),
        ("name", "Not A Name", ["`name`", "'Not A Name'"]),
        ("labels", ["esa-worldcover-v200", "nlcd"], ["`taxonomy`", "'native'", "consensus"]),
        ("source", "nowhere/catalog.json", ["`source`", "nowhere/catalog.json"]),
    ],
)
def test_recipes(
    las: Las, catalogue: Path, recipe: Recipe, content: Content, tmp_path: Path,
    key: str, value: object, words: list[str],
) -> None:  # fmt: skip
    path = recipe(change(content, key, value))
    for stage in ("check", "build"):
        said = las(stage, path, "--work", tmp_path / "work")
        refused(said, "tiny.yaml", *words)
    assert nothing_in(tmp_path / "work")


def test_yaml_that_is_none(las: Las, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: [unclosed\n")
    refused(las("check", bad), "bad.yaml", "YAML")


def test_no_such_recipe(las: Las) -> None:
    refused(las("check", "las-s2-worldcovr"), "Did you mean 'las-s2-worldcover'?")


def test_dynamic_world_from_stac(
    las: Las, tmp_path: Path, recipe: Recipe, content: Content
) -> None:
    for source in ("earth-search", "planetary-computer"):
        content = {
            **content, "labels": ["dynamic-world"], "source": source, "patch": {"size": 64},
            "sites": {"count": 4, "region": "global"},
        }  # fmt: skip
        said = las("check", recipe(content))
        refused(said, "dynamic-world", "earth-engine", "virtual")
        assert source in said.err


def test_a_service_without_credentials_is_refused_before_anything_is_written(
    las: Las, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("HOME", "CLOUDSDK_CONFIG"):
        monkeypatch.setenv(key, str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    refused(
        las("build", "las-l89-nlcd", "--count", 5, "--work", tmp_path / "work"),
        "earth-engine",
        "earthengine authenticate",
    )
    assert nothing_in(tmp_path / "work")


def test_a_live_service_that_does_not_answer_ends_before_anything_is_written(
    las: Las, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAS_MIRRORS", "https://=http://127.0.0.1:9/")
    said = las("build", "las-s2-worldcover", "--count", 5, "--work", tmp_path / "work")
    assert said.code == 1
    assert said.err.startswith("las: earth-search.aws.element84.com: ")
    assert len(said.err.strip().splitlines()) == 1
    assert nothing_in(tmp_path / "work")


def test_a_region_that_nobody_knows(las: Las, tmp_path: Path) -> None:
    said = las("sample", "demo", "--region", "Atlantis", "--work", tmp_path / "work")
    refused(said, "Atlantis", "region")
    assert nothing_in(tmp_path / "work")


def test_a_region_without_land(las: Las, tmp_path: Path, recipe: Recipe, content: Content) -> None:
    ocean = {
        **content, "source": "virtual", "patch": {"size": 64},
        "sites": {"count": 4, "region": [-140.0, -45.0, -120.0, -35.0]},
    }  # fmt: skip
    said = las("sample", recipe(ocean), "--work", tmp_path / "work")
    refused(said, "tiny.yaml", "region", "land")
    assert nothing_in(tmp_path / "work")


def test_a_workspace_of_another_recipe(
    las: Las, tmp_path: Path, catalogue: Path, recipe: Recipe, content: Content
) -> None:
    work = tmp_path / "work"
    assert las("sample", recipe(content), "--work", work).code == 0
    before = {p: p.read_bytes() for p in work.rglob("*") if p.is_file()}
    other = recipe(change(content, "sites.seed", 9))
    for stage in ("sample", "build", "pack"):
        refused(las(stage, other, "--work", work), "recipe.json", "seed", "--work")
    assert {p: p.read_bytes() for p in work.rglob("*") if p.is_file()} == before


def test_a_stage_before_its_time(
    las: Las, tmp_path: Path, catalogue: Path, recipe: Recipe, content: Content
) -> None:
    path = recipe(content)
    for stage, need in (("scenes", "las sample"), ("fetch", "las scenes"), ("publish", "las pack")):
        refused(las(stage, path, "--work", tmp_path / "work"), need)
    assert nothing_in(tmp_path / "work")


# Rasters: `las index` refuses before it writes; `las fetch` refuses what broke since.


def damaged(folder: Path, name: str) -> None:
    """Cut off in the middle, as a download that broke off leaves it."""
    path = folder / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def test_a_truncated_tiff(
    las: Las, folder: Path, tmp_path: Path, recipe: Recipe, content: Content
) -> None:
    out, work = tmp_path / "catalogue", tmp_path / "work"
    assert las("index", folder, "--out", out).code == 0
    damaged(folder, "image.tif")
    refused(las("index", folder, "--out", tmp_path / "again"), "image.tif")
    assert not (tmp_path / "again").exists()
    said = las("build", recipe(content), "--work", work, "--workers", 1)
    refused(said, "image.tif")
    assert not list(work.rglob("blocks/*.json"))
    assert not (work / "tiny" / "shards").exists()


def test_one_line_from_worker_processes_too(
    las: Las, folder: Path, tmp_path: Path, recipe: Recipe, content: Content
) -> None:
    assert las("index", folder, "--out", tmp_path / "catalogue").code == 0
    damaged(folder, "image.tif")
    done = subprocess.run(
        [
            sys.executable, "-m", "las_builder.cli", "build", str(recipe(content)),
            "--work", str(tmp_path / "work"), "--workers", "2",
        ],
        check=False, capture_output=True, text=True, timeout=900,  # two workers start: a busy machine
    )  # fmt: skip
    refused(Said(done.returncode, done.stdout, done.stderr), "image.tif", "truncated")


def test_a_raster_without_crs(las: Las, folder: Path, tmp_path: Path) -> None:
    raster(folder / "label.tif", np.full((64, 64), 10, np.uint8), crs=None)
    refused(las("index", folder, "--out", tmp_path / "catalogue"), "label.tif", "CRS")
    assert not (tmp_path / "catalogue").exists()


def test_a_code_that_no_legend_lists(
    las: Las, folder: Path, tmp_path: Path, recipe: Recipe, content: Content
) -> None:
    out, work = tmp_path / "catalogue", tmp_path / "work"
    assert las("index", folder, "--out", out).code == 0
    raster(folder / "label.tif", np.full((64, 64), 33, np.uint8))
    refused(
        las("index", folder, "--out", tmp_path / "again"), "label.tif", "33", "esa-worldcover-v200"
    )
    assert not (tmp_path / "again").exists()
    refused(las("build", recipe(content), "--work", work, "--workers", 1), "label.tif", "33")
    assert not list(work.rglob("blocks/*.json"))


def item_of(catalogue: Path, name: str) -> Path:
    return next(p for p in catalogue.rglob("*.json") if p.stem == name)


def test_an_item_without_projection(
    las: Las, catalogue: Path, tmp_path: Path, recipe: Recipe, content: Content
) -> None:
    path = item_of(catalogue, "scene-1")
    item = json.loads(path.read_text())
    for holder in (item["properties"], *item["assets"].values()):
        for key in [k for k in holder if k.startswith("proj:")]:
            del holder[key]
    path.write_text(json.dumps(item))
    for stage in ("check", "build"):
        refused(las(stage, recipe(content), "--work", tmp_path / "work"), "scene-1", "proj:")
    assert nothing_in(tmp_path / "work")


def test_an_item_with_a_missing_asset(
    las: Las, catalogue: Path, tmp_path: Path, recipe: Recipe, content: Content
) -> None:
    path = item_of(catalogue, "scene-1")
    item = json.loads(path.read_text())
    item["assets"] = {
        key: asset
        for key, asset in item["assets"].items()
        if "B02" not in json.dumps(asset.get("bands", key))
    }
    path.write_text(json.dumps(item))
    for stage in ("check", "build"):
        refused(las(stage, recipe(content), "--work", tmp_path / "work"), "scene-1", "B02")
    assert nothing_in(tmp_path / "work")


def test_an_asset_whose_file_is_gone(
    las: Las, catalogue: Path, folder: Path, tmp_path: Path, recipe: Recipe, content: Content
) -> None:
    (folder / "scl.tif").unlink()
    refused(las("check", recipe(content), "--work", tmp_path / "work"), "scl.tif")


def test_an_index_that_names_what_is_not_there(las: Las, folder: Path, tmp_path: Path) -> None:
    content = yaml.safe_load((folder / "index.yaml").read_text())
    content["labels"][0]["product"] = "esa-worldcovr-v200"
    (folder / "index.yaml").write_text(yaml.safe_dump(content))
    said = las("index", folder, "--out", tmp_path / "catalogue")
    refused(said, "index.yaml", "Did you mean 'esa-worldcover-v200'?")
    assert not (tmp_path / "catalogue").exists()


def mounted(tmp_path: Path, options: str) -> Path:
    """A file system of its own, where this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)],
        check=False,
        capture_output=True,
    )
    if done.returncode:
        pytest.skip("needs the right to mount a small file system")
    return place


@pytest.fixture
def disk(tmp_path: Path):
    places = []

    def of(options: str) -> Path:
        places.append(mounted(tmp_path, options))
        return places[-1]

    yield of
    for place in places:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk(
    las: Las, catalogue: Path, recipe: Recipe, content: Content, disk: Callable[[str], Path]
) -> None:
    work = disk("size=64k")
    (work / "filler").write_bytes(bytes(40_000))
    said = las("build", recipe(content), "--work", work, "--workers", 1)
    refused(said, os.strerror(28), "--work")
    assert not [p for p in work.rglob("*") if p.name.startswith(".") and p.is_file()]


def test_a_read_only_disk(
    las: Las, catalogue: Path, recipe: Recipe, content: Content, disk: Callable[[str], Path]
) -> None:
    work = disk("size=1m,ro")
    refused(
        las("build", recipe(content), "--work", work, "--workers", 1), os.strerror(30), "--work"
    )
