"""Promise 1: kill it anywhere, and the same command again gives the same bytes."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from las_builder.core.workspace import sha256_file, sha256_tree

HERE = Path(__file__).parent
pytestmark = pytest.mark.timeout(900)


def command(work: Path, workers: int) -> list[str]:
    return [
        sys.executable, "-m", "las_builder.cli", "build", str(HERE / "small.yaml"),
        "--work", str(work), "--workers", str(workers),
    ]  # fmt: skip


def digests(work: Path) -> dict[str, str]:
    """Everything that a run promises, `logs/` left out."""
    root = work / "small"
    found = {
        name: sha256_file(root / name)
        for name in (
            "recipe.json", "plan.parquet", "splits.parquet", "leaks.json", "leaks.html", "plan.png",
            "index.parquet", "manifest.json",
        )
    }  # fmt: skip
    for name in ("shards", "catalog"):
        found[name] = sha256_tree(root / name)
    for subset in ("small-s2", "small-l89"):
        for part in ("scenes", "cube.zarr", "blocks"):
            found[f"{subset}/{part}"] = sha256_tree(root / subset / part)
    return found


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], float, Path]:
    """One undisturbed run with one worker: its digests and its seconds."""
    work = tmp_path_factory.mktemp("once")
    started = time.monotonic()
    subprocess.run(command(work, 1), check=True, capture_output=True)
    return digests(work), time.monotonic() - started, work


def test_four_workers_give_the_same_bytes(
    once: tuple[dict[str, str], float, Path], tmp_path: Path
) -> None:
    subprocess.run(command(tmp_path, 4), check=True, capture_output=True)
    assert digests(tmp_path) == once[0]


def test_five_kills_give_the_same_bytes(
    once: tuple[dict[str, str], float, Path], tmp_path: Path
) -> None:
    chance = random.Random(20211)
    killed = 0
    for _ in range(20):
        run = subprocess.Popen(
            command(tmp_path, 2), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            run.wait(timeout=chance.uniform(0.2, 0.6) * once[1])
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL)
            run.wait()
            killed += 1
        if killed == 5:
            break
        if run.returncode == 0:  # it got through: begin again where little is left to redo
            for name in ("manifest.json", "index.parquet"):
                (tmp_path / "small" / name).unlink()
            for block in (tmp_path / "small" / "small-s2" / "blocks").glob("*.json"):
                block.unlink()
    assert killed == 5
    subprocess.run(command(tmp_path, 2), check=True, capture_output=True)
    assert digests(tmp_path) == once[0]


def test_done_is_skipped(once: tuple[dict[str, str], float, Path]) -> None:
    found, seconds, work = once
    stamps = {p: p.stat().st_mtime_ns for p in (work / "small").rglob("c/*") if p.is_file()}
    started = time.monotonic()
    subprocess.run(command(work, 1), check=True, capture_output=True)
    assert digests(work) == found
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    assert time.monotonic() - started < seconds
