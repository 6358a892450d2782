"""A product joins the recipe of a cube that exists: it alone is fetched, and it may leave again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from kit import Las

from las_builder import plan, recipe
from las_builder.access.virtual import VirtualEarth
from las_builder.core.workspace import Workspace, sha256_file, sha256_tree
from las_builder.fetch import open_cube
from las_builder.run.rounds import standing

BASE: dict[str, Any] = {
    "name": "v", "imagery": "sentinel-2-l2a", "bands": ["B04", "B08"],
    "labels": ["esa-worldcover-v200"], "source": "virtual", "patch": {"size": 32},
    "sites": {"count": 5, "region": "global", "seed": 5, "spacing_km": 4},
    "dates": {"period": "2021-01-01/2022-01-01", "max_cloud": 20, "patch_min_clear": 0.9},
}  # fmt: skip


def write(home: Path, **changes: Any) -> Path:
    path = home / "v.yaml"
    path.write_text(yaml.safe_dump({**BASE, **changes}))
    return path


def forbidden(*_: object, **__: object) -> Any:
    raise AssertionError("read again")


def test_only_the_product_that_joins_is_fetched(
    las: Las, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--work", tmp_path, "--workers", 1)
    assert las("build", write(tmp_path), *options).code == 0
    space = Workspace(tmp_path / "v")
    home = space.subset("v")
    made = sha256_file(space.lock)
    objects = {p: p.stat().st_mtime_ns for p in home.root.rglob("*") if p.is_file()}

    joined = write(tmp_path, compare=["io-lulc-annual", "nlcd"])
    said = las("pack", joined, *options)
    assert said.code == 1
    assert "blocks are not fetched" in said.err + said.out
    asked: list[str] = []
    labels = VirtualEarth.labels

    def counted(self: VirtualEarth, product: Any, requests: Any) -> Any:
        asked.extend([product.name] * len(requests))
        return labels(self, product, requests)

    with monkeypatch.context() as patched:
        patched.setattr(VirtualEarth, "read", forbidden)
        patched.setattr(VirtualEarth, "search", forbidden)
        patched.setattr(VirtualEarth, "labels", counted)
        said = las("fetch", joined, *options)
        assert said.code == 0, said.err
        assert sorted(set(asked)) == ["io-lulc-annual", "nlcd"]
        assert asked.count("nlcd") == asked.count("io-lulc-annual") == 5
        first = sha256_tree(home.root)
        asked.clear()
        assert las("fetch", joined, *options).code == 0  # done is skipped
        assert not asked
        # One manifest lost: its rows are written over, byte for byte.
        manifest = home.added("r0-00000", "io-lulc-annual")
        manifest.unlink()
        assert las("fetch", joined, *options).code == 0
        assert sha256_tree(home.root) == first
    assert sha256_file(space.lock) == made
    assert {p: p.stat().st_mtime_ns for p in objects} == objects
    assert "v: nlcd has nothing on" in said.out  # sites outside of its country stay, without it
    lines = json.loads(home.added("r0-00000", "nlcd").read_text())["patches"]
    assert {line["state"] for line in lines} >= {"gap"}

    corpus = recipe.read(str(joined)).resuming(space)
    sites = [site for site in plan.read_plan(space.plan) if site.subset == "v"]
    now = standing(sites, home, corpus.subsets[0].layout)
    stored = [line for _, line in now.results if line.state == "stored"]
    assert now.undone == 0
    assert len(stored) == 5
    assert all("io-lulc-annual" in (line.versions or {}) for line in stored)
    cube = open_cube(home.cube)
    assert cube["labels/io-lulc-annual"].shape == (5, 32, 32)
    assert (cube["labels/io-lulc-annual"].values != 0).mean() > 0.5
    assert np.array_equal(
        cube["shares/io-lulc-annual"].values > 0, cube["labels/io-lulc-annual"].values != 0
    )
    cube.close()

    assert las("pack", joined, *options).code == 0
    assert las("audit", joined, *options).code == 0
    left = write(tmp_path, compare=["nlcd"])
    with monkeypatch.context() as patched:
        patched.setattr(VirtualEarth, "read", forbidden)
        patched.setattr(VirtualEarth, "labels", forbidden)
        assert las("fetch", left, *options).code == 0
    assert las("audit", left, *options).code == 0
    assert "io-lulc-annual" not in (home.audit / "audit.json").read_text()


def test_a_plan_that_is_extended_keeps_the_products_of_its_cube(las: Las, tmp_path: Path) -> None:
    more = {**BASE["sites"], "capacity": 8}
    options = ("--work", tmp_path, "--workers", 1)
    assert las("build", write(tmp_path, sites=more), *options).code == 0
    space = Workspace(tmp_path / "v")
    joined = write(tmp_path, sites={**more, "count": 7}, compare=["io-lulc-annual"])
    assert las("sample", joined, "--work", tmp_path, "--extend").code == 0
    assert space.locked()["subsets"]["v"]["compare"] == []
    assert las("build", joined, *options).code == 0
    cube = open_cube(space.subset("v").cube)
    assert cube.sizes["patch"] == 7
    assert all(np.any(codes != 0) for codes in cube["labels/io-lulc-annual"].values)
    cube.close()
    assert len(list(space.subset("v").blocks.glob("*.io-lulc-annual.json"))) == 2  # a block a round


def test_anything_else_that_changes_is_still_refused(las: Las, tmp_path: Path) -> None:
    assert las("sample", write(tmp_path), "--work", tmp_path).code == 0
    said = las("sample", write(tmp_path, patch={"size": 40}, compare=["nlcd"]), "--work", tmp_path)
    assert said.code == 2
    assert "patch.size" in said.err
