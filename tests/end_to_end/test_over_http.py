"""A static catalogue behind an HTTP server gives the shards that it gives from the disk, and links to
the items that they come from, which only it can give.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

from kit import Las, Server

from las_builder.core.workspace import sha256_tree


def build(
    recipe: Path, work: Path, source: str, stage: str = "build"
) -> subprocess.CompletedProcess[str]:
    """In a process of its own: GDAL may hold this one while the server has to answer."""
    command = [
        sys.executable, "-m", "las_builder.cli", stage, str(recipe), "--work", str(work),
        "--source", source, *(["--workers", "2"] * (stage != "sample")),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def members(shard: Path) -> dict[str, bytes]:
    with tarfile.open(shard) as tar:
        found = [(member.name, tar.extractfile(member)) for member in tar.getmembers()]
        return {name: file.read() for name, file in found if file is not None}


def test_disk_and_http_give_the_same_shards(
    las: Las, folder: Path, tmp_path: Path, server: Server,
    recipe: Callable[[dict[str, object]], Path], content: dict[str, object],
) -> None:  # fmt: skip
    assert las("index", folder, "--out", tmp_path / "catalogue").code == 0
    path = recipe(content)
    near = build(path, tmp_path / "near", str(tmp_path / "catalogue"))
    far = build(path, tmp_path / "far", f"{server.url}/catalogue/catalog.json")
    assert (near.returncode, far.returncode) == (0, 0), far.stderr
    assert {"/rasters/image.tif", "/rasters/label.tif", "/rasters/scl.tif"} <= server.paths()
    shards = [
        members(tmp_path / work / "tiny" / "shards" / "tiny-train-000000.tar")
        for work in ("near", "far")
    ]
    for name in [name for name in shards[0] if name.endswith(".json")]:
        near_said, far_said = (json.loads(shard.pop(name)) for shard in shards)
        (source,) = far_said.pop("sources")
        assert source.startswith(f"{server.url}/catalogue/")
        assert near_said == far_said
    cubes = [
        sha256_tree(tmp_path / work / "tiny" / "tiny" / "cube.zarr") for work in ("near", "far")
    ]
    assert shards[0] == shards[1]
    assert cubes[0] == cubes[1]


def test_a_server_that_fails_leaves_a_ledger_and_the_next_run_ends_the_work(
    las: Las, folder: Path, tmp_path: Path, server: Server,
    recipe: Callable[[dict[str, object]], Path], content: dict[str, object],
) -> None:  # fmt: skip
    assert las("index", folder, "--out", tmp_path / "catalogue").code == 0
    path, source = recipe(content), f"{server.url}/catalogue/catalog.json"
    for stage in ("sample", "scenes"):
        pinned = build(path, tmp_path / "work", source, stage)
        assert pinned.returncode == 0, pinned.stderr
    server.faults["/rasters/label.tif"] = [503] * 40
    broken = build(path, tmp_path / "work", source)
    assert broken.returncode == 1, broken.stderr
    assert "the same command retries only those" in broken.stderr
    ledger = tmp_path / "work" / "tiny" / "logs" / "failures.json"
    assert "503" in ledger.read_text()
    assert not list((tmp_path / "work").rglob("blocks/*.json"))
    server.faults.clear()
    mended = build(path, tmp_path / "work", source)
    assert mended.returncode == 0, mended.stderr
    assert "4 samples" in mended.stdout
    assert ledger.read_text().strip() == "{}"
