"""A corpus that grows: more sites, another year; what was packed stays byte for byte."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pystac
import pytest
import yaml
from kit import Las

import las_builder
from las_builder import recipe as recipes
from las_builder.core.workspace import Workspace, sha256_file
from las_builder.errors import RecipeError, UnknownNameError, WorkspaceError
from las_builder.run import Engine
from las_builder.run.extend import extend
from las_builder.run.versions import read_versions

RECIPE: dict[str, Any] = {
    "name": "grows",
    "imagery": "sentinel-2-l2a",
    "bands": ["B02", "B04"],
    "labels": ["esa-worldcover-v200"],
    "source": "virtual",
    "patch": {"size": 32},
    "sites": {"count": 6, "capacity": 12, "region": "FRA", "seed": 5, "spacing_km": 4},
    "dates": {"period": "2021-01-01/2022-01-01", "per_site": 1, "label_years": 1},
    "captions": True,
    "shards": {"samples": 4},
}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "grows.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    return path


def shards(space: Path) -> dict[str, str]:
    return {p.name: sha256_file(p) for p in sorted((space / "shards").glob("*.tar"))}


def collection(space: Path, name: str) -> dict[str, Any]:
    return json.loads((space / "catalog" / name).read_text())


def test_a_corpus_grows_and_nothing_is_written_again(
    las: Las, recipe: Path, tmp_path: Path
) -> None:
    work = ["--work", tmp_path / "work", "--workers", 1]
    space = tmp_path / "work" / "grows"
    assert las("build", recipe, *work).code == 0
    first = shards(space)
    assert len(las_builder.open_corpus(space)) >= 4
    before = las_builder.open_corpus(space).items().set_index("id")
    one = collection(space, "grows/collection.json")
    assert one["version"] == "1"
    assert not [link for link in one["links"] if "version" in link["rel"]]

    more = ["--sites", 12, "--period", "2022-01-01/2023-01-01"]
    said = las("extend", recipe, *work, *more)
    assert said.code == 0, said.err
    second = shards(space)
    assert {name: second[name] for name in first} == first
    corpus = las_builder.open_corpus(space)
    both = corpus.items().set_index("id")
    after = both[both.collection == "grows"]
    assert set(before.index) < set(after.index)
    assert (after.loc[before.index, "version"] == "1").all()
    assert (after.drop(before.index)["version"] == "2").all()
    # Weights are those of the corpus as it is: they add up to the same land.
    assert (after.loc[before.index, "las:weight_km2"] < before["las:weight_km2"]).all()
    assert after["las:weight_km2"].sum() == pytest.approx(before["las:weight_km2"].sum(), rel=0.15)
    assert len(list(corpus.samples())) == len(both)
    two, old = (
        collection(space, "grows/collection.json"),
        collection(space, "grows/versions/1.json"),
    )
    links = {link["rel"]: link["href"] for link in two["links"]}
    assert (two["version"], links["predecessor-version"]) == ("2", "./versions/1.json")
    links = {link["rel"]: link["href"] for link in old["links"]}
    assert links["successor-version"] == links["latest-version"] == "../collection.json"
    assert set(old["assets"]) & {name.removesuffix(".tar") for name in second} == {
        name.removesuffix(".tar") for name in first
    }
    assert old["extent"] != two["extent"]
    path = str(space / "catalog" / "grows" / "versions" / "1.json")
    loaded = pystac.Collection.from_file(path)
    for asset in loaded.assets.values():
        assert Path(asset.get_absolute_href()).is_file()

    year = both[both.collection == "grows-2022"]
    assert len(year) >= len(after) - 2
    assert set(year["las:site"]) <= set(after["las:site"])
    assert (year.datetime.dt.year == 2022).all()
    assert (year.version == "2").all()
    assert (both.groupby("las:site")["las:split"].nunique() == 1).all()
    assert json.loads((space / "leaks.json").read_text())["violations"] == 0

    # Built again, nothing changes; the year is found in the workspace.
    digest = {p: sha256_file(p) for p in (space / "catalog").rglob("*") if p.is_file()}
    assert "or say --count 12" in las("check", recipe, "--work", tmp_path / "work").err
    assert las("build", recipe, *work, "--count", 12).code == 0
    assert shards(space) == second
    assert {p: sha256_file(p) for p in (space / "catalog").rglob("*") if p.is_file()} == digest

    # Captions are in the shard and in the table.
    captions = pq.read_table(space / "catalog" / "items.parquet")["las:caption"].to_pylist()
    assert all("Labelled by ESA WorldCover" in text and "France" in text for text in captions)
    (sample,) = corpus.samples([both.index[0]])
    assert sample.metadata["caption"] == captions[0]

    # Labels that are made otherwise do not go beside those that are there.
    recipe.write_text(yaml.safe_dump({**RECIPE, "filters": [{"step": "void_share", "max": 0.5}]}))
    (subset,) = recipes.read(str(recipe)).subsets
    with pytest.raises(WorkspaceError, match="not written again"):
        read_versions(Workspace(space)).reports(subset, Workspace(space))
    assert read_versions(Workspace(space)).number_from("grows", "train") == len(
        [name for name in first if "-train-" in name]
    )


def test_what_cannot_be_extended(las: Las, recipe: Path, tmp_path: Path) -> None:
    work = ["--work", tmp_path / "work", "--workers", 1]
    assert "--sites N or --period" in las("extend", recipe, *work).err
    assert "las build" in las("extend", recipe, *work, "--sites", 8).err
    assert las("sample", recipe, "--work", tmp_path / "work").code == 0
    said = las("extend", recipe, *work, "--period", "2017-01-01/2018-01-01")
    assert said.code == 2
    assert "dates.label_years" in said.err
    said = las("extend", recipe, *work, "--period", "2022-01-01/2023-01-01", "--subset", "other")
    assert said.code == 2
    assert "grows" in said.err
    assert not (tmp_path / "work" / "grows" / "versions.json").exists()


def test_what_is_refused_changes_nothing(recipe: Path, tmp_path: Path) -> None:
    """Two subsets and no --subset: nobody says whose sites; days that are there otherwise."""
    (tmp_path / "other.yaml").write_text(yaml.safe_dump({**RECIPE, "name": "other"}))
    parts = [{"recipe": "grows.yaml"}, {"recipe": "other.yaml"}]
    splits = {"train": 8, "val": 1, "test": 1, "block_km": 100, "buffer_km": 10}
    corpus = {"name": "both", "subsets": parts, "splits": splits}
    (tmp_path / "both.yaml").write_text(yaml.safe_dump(corpus))
    both = recipes.read(str(tmp_path / "both.yaml"))
    space = Workspace(tmp_path / "both")
    space.root.mkdir()
    space.manifest.write_text('{"shards": []}')
    with Engine(workers=1) as engine, pytest.raises(UnknownNameError, match="--subset"):
        extend(both, space, engine, more=True, period="2022-01-01/2023-01-01", subset=None)
    assert not space.versions.exists()
    one = recipes.read(str(recipe))
    new = one.in_period(None, "2022-01-01/2023-01-01")
    grown = replace(one, subsets=(*one.subsets, new))
    assert grown.in_period(None, "2022-01-01/2023-01-01").name == "grows-2022"
    with pytest.raises(RecipeError, match="another year: grows-2022 is there already"):
        grown.in_period(None, "2022-03-01/2023-01-01")
