"""`las pack --consume`: images that are in shards are freed, and nothing is lost or made up by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from kit import Las, Said

from las_builder.core.workspace import sha256_tree

RECIPE: dict[str, Any] = {
    "name": "one", "imagery": "sentinel-2-l2a", "bands": ["B04"], "labels": ["esa-worldcover-v200"],
    "compare": ["io-lulc-annual"], "taxonomy": "native", "patch": {"size": 24}, "source": "virtual",
    "sites": {"count": 6, "region": [-10, 36, 20, 55], "seed": 5, "spacing_km": 4},
    "dates": {"period": "2021-01-01/2022-01-01"},
    "splits": {"train": 1, "val": 0, "test": 0},
}  # fmt: skip


def test_images_in_shards_are_freed(las: Las, tmp_path: Path) -> None:
    recipe, work = tmp_path / "one.yaml", tmp_path / "work"
    recipe.write_text(yaml.safe_dump(RECIPE))
    home = work / "one" / "one"
    cube = home / "cube.zarr"

    def step(*arguments: str, code: int = 0) -> Said:
        said = las(arguments[0], recipe, "--work", work, *arguments[1:], "--workers", 1)
        assert said.code == code, said.err
        return said

    las("sample", recipe, "--work", work)
    step("scenes")
    step("fetch")
    step("pack")
    before, shards = sha256_tree(cube), sha256_tree(work / "one" / "shards")
    (shard,) = (work / "one" / "shards").glob("*.tar")

    # A shard that is not what was packed frees nothing.
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + b"x")
    assert "nothing is freed" in step("pack", "--consume", code=1).err
    assert sha256_tree(cube) == before
    shard.write_bytes(whole)

    # Nor does a block with a patch that is in no shard.
    site = next(iter(sorted(_sites(shard))))
    (home / "decisions.csv").write_text(f"site,action,class,who,why\n{site},drop,,me,cloud\n")
    assert "1 hold patches that are in no shard and stay" in step("pack", "--consume").out
    assert sha256_tree(cube) == before
    (home / "decisions.csv").unlink()

    said = step("pack", "--consume").out
    assert "freed the images of 1 blocks" in said
    assert not list((cube / "0" / "image" / "c").iterdir())
    assert list((cube / "0" / "labels" / "esa-worldcover-v200" / "c").iterdir())
    assert sha256_tree(work / "one" / "shards") == shards
    assert "freed the images of 0 blocks" in step("pack", "--consume").out
    step("audit")
    assert "<img" not in (home / "audit" / "index.html").read_text()

    # What is gone is never read as nothing: it is asked for again.
    shard.unlink()
    problem = step("pack", code=1).err
    assert "block r0-00000" in problem
    assert "las fetch --retry consumed" in problem
    assert not shard.exists()
    assert "1 blocks are fetched again" in step("fetch", "--retry", "consumed").out
    assert sha256_tree(cube) == before
    step("pack")
    assert sha256_tree(work / "one" / "shards") == shards
    step("audit")
    assert "<img" in (home / "audit" / "index.html").read_text()


def test_another_folder_is_not_what_is_freed_for(las: Las, tmp_path: Path) -> None:
    recipe = tmp_path / "one.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE))
    said = las("pack", recipe, "--consume", "--into", tmp_path / "there", "--work", tmp_path)
    assert said.code == 2


def _sites(shard: Path) -> set[str]:
    import json
    import tarfile

    found = set()
    with tarfile.open(shard) as tar:
        for name in tar.getnames():
            if name.endswith(".json"):
                member = tar.extractfile(name)
                assert member is not None
                found.add(json.load(member)["site"])
    return found
