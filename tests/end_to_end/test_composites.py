"""Composites and same-scene labels through the whole way, against the scenes read one by one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from las_builder import recipe, run
from las_builder.access import ReadRequest
from las_builder.access.virtual import VirtualEarth
from las_builder.core.workspace import Workspace
from las_builder.errors import RecipeError, SourceError, UnknownNameError
from las_builder.fetch import open_cube
from las_builder.pack import open_shards
from las_builder.scenes import SceneTable


def write(folder: Path, **more: object) -> Path:
    content = {
        "name": "made", "imagery": "sentinel-2-l2a", "bands": ["B04", "B11"],
        "labels": ["esa-worldcover-v200"], "source": "virtual", "patch": {"size": 48},
        "sites": {"count": 2, "region": [177.0, -19.0, -179.0, -16.0], "seed": 4},
        "splits": {"train": 1, "val": 0, "test": 0}, **more,
    }  # fmt: skip
    path = folder / "made.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("way", ["median", "best"])
def test_a_composite_is_made_of_its_pinned_scenes_and_says_so(tmp_path: Path, way: str) -> None:
    dates = {
        "period": "2021-01-01/2022-01-01", "per_site": 2, "composite": way, "composite_scenes": 4,
        "patch_min_clear": 0.95, "max_cloud": 80,
    }  # fmt: skip
    corpus = recipe.read(str(write(tmp_path, dates=dates)))
    space = Workspace(tmp_path / "work")
    with run.Engine(workers=1) as engine:
        run.build(corpus, space, engine, items=True)
    imagery, earth = corpus.subsets[0].imagery, VirtualEarth(corpus.catalogs)
    patches = SceneTable.read(space.subset("made").scenes(0)).patches
    assert len(patches) == 4
    assert max(len(p.scene.members) for p in patches) > 1
    cube = open_cube(space.subset("made").cube)
    shards = open_shards(space.shards, space.index)
    packed = {entry.key: shards.read(entry) for entry in shards.entries}
    for i, pinned in enumerate(patches):
        numbers, seen = [], []
        for scene in pinned.scene.members:
            asked = [("B04", "B11"), ("SCL",)]
            chip, scl = earth.read(
                imagery,
                [
                    ReadRequest(site="", scene=scene, grid=pinned.grid, bands=b, categorical=j == 1)
                    for j, b in enumerate(asked)
                ],
            )
            numbers.append(np.where(chip.inside, chip.data, 0).astype(float))
            seen.append(np.isin(scl.data[0], [4, 5, 6, 7, 11]) & scl.inside & chip.inside)
        masks = np.stack(seen)
        stack = np.where(masks[:, None], np.stack(numbers), np.nan)
        first = np.take_along_axis(np.stack(numbers), masks.argmax(axis=0)[None, None], 0)[0]
        valid = masks.any(axis=0)
        stack[..., ~valid] = 0
        want = np.floor(np.nanmedian(stack, axis=0) + 0.5) if way == "median" else first
        assert np.array_equal(cube["valid"][i].values, valid)
        assert pinned.clear == pytest.approx(valid.mean(), abs=1e-6)
        assert np.array_equal(cube["image"][i].values[:, valid], want[:, valid])
        days = sorted(f"{s.datetime:%Y%m%d}" for s in pinned.scene.members)
        sample = packed[f"{pinned.site}-{days[0]}-{days[-1]}"]
        assert np.array_equal(sample.image, cube["image"][i].values)
        assert sample.metadata["composite"] == way
        assert sample.metadata["scenes"] == [s.id for s in pinned.scene.members]
        assert sample.metadata["eo:cloud_cover"] is None
    items = [json.loads(p.read_text()) for p in (space.root / "catalog").rglob("made*-2021*.json")]
    assert len(items) == 4
    for item in items:
        said = item["properties"]
        assert said["las:composite"] == way
        assert said["start_datetime"] <= said["datetime"] <= said["end_datetime"]
        assert f"{said['start_datetime'][:10]} to {said['end_datetime'][:10]}" in said["title"]


def test_dynamic_world_is_paired_with_scenes_that_it_is_a_map_of(tmp_path: Path) -> None:
    dates = {"period": "2021-01-01/2022-01-01", "max_cloud": 100, "choose": "clearest"}
    path = write(tmp_path, labels=["dynamic-world"], dates=dates)
    corpus = recipe.read(str(path))
    space = Workspace(tmp_path / "work")
    with run.Engine(workers=1) as engine:
        run.build(corpus, space, engine)
    (one, *_), *_ = [o.pinned for o in SceneTable.read(space.subset("made").scenes(0)).outcomes]
    assert one.scene.cloud_cover <= 35
    counts = SceneTable.read(space.subset("made").scenes(0)).outcomes[0].counts
    assert counts["unlabelled"] > 0
    shards = open_shards(space.shards, space.index)
    for entry in shards.entries:
        said = shards.read(entry).metadata
        assert said["products"]["dynamic-world"] == f"VIRT_dynamic-world_{said['scenes'][0]}"


def test_a_composite_beside_maps_of_single_scenes_is_refused(tmp_path: Path) -> None:
    dates = {"period": "2021-01-01/2022-01-01", "composite": "median"}
    for key in ("labels", "compare"):
        names = {"labels": ["esa-worldcover-v200"], key: ["dynamic-world"]}
        with pytest.raises(RecipeError, match=r"dates\.composite.*dynamic-world is a map of each"):
            recipe.read(str(write(tmp_path, dates=dates, **names)))
    sun = {"imagery": "landsat-c2-l1", "bands": ["B4"]}
    with pytest.raises(RecipeError, match=r"landsat-c2-l1 are of each scene's own scale"):
        recipe.read(str(write(tmp_path, dates=dates, **sun)))
    for wrong, words in (
        ({"composite": "mean"}, "composite"),
        ({"composite_scenes": 4}, "composite_scenes only beside"),
        ({"composite": "best", "choose": "clearest", "per_site": 2}, "per_site 1"),
    ):
        with pytest.raises(RecipeError, match=words):
            recipe.read(str(write(tmp_path, dates={"period": "2021-01-01/2022-01-01", **wrong})))


def test_a_recipe_says_how_it_is_told_what_was_seen(tmp_path: Path) -> None:
    dates = {"period": "2021-01-01/2022-01-01", "validity": "cloud-score-plus"}
    corpus = recipe.read(str(write(tmp_path, dates=dates)))
    assert corpus.subsets[0].imagery.validity.band == "cs_cdf"
    assert corpus.subsets[0].lock()["dates"]["validity"] == "cloud-score-plus"
    with pytest.raises(
        SourceError, match=r"dates\.validity.*'cloud-score-plus'.*earth-search.*earth-engine"
    ):
        recipe.read(str(write(tmp_path, dates=dates, source="earth-search")))
    with pytest.raises(UnknownNameError, match=r"cloud-score.*cloud-score-plus"):
        recipe.read(str(write(tmp_path, dates={**dates, "validity": "cloud-score"})))
