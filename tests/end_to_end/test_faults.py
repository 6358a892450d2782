"""A small run on a bad day: what fails is retried, named, given up and asked for again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit_loopback import Loopback, serve

from las_builder.core.workspace import sha256_tree

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Loopback, Path]]:
    """The tiles of `benchmarks/open_data.py`, few of them."""
    root = tmp_path_factory.mktemp("faults")
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import open_data
    finally:
        sys.path.remove(str(BENCHMARKS))
    recipe = open_data.publish(root, side=2, tile=512, step=440)
    open_data.limits(root, 200, 16)
    server = serve(root)
    yield server, recipe
    server.stop()


def las(served: tuple[Loopback, Path], work: Path, stage: str, *more: str, patience: str = "60"
        ) -> subprocess.CompletedProcess[str]:  # fmt: skip
    server, recipe = served
    command = [
        sys.executable, "-m", "las_builder.cli", stage, str(recipe), "--work", str(work),
        "--catalogs", str(recipe.parent / "catalogs"), *more,
    ]  # fmt: skip
    environ = {**os.environ, "LAS_MIRRORS": server.mirrors, "LAS_PATIENCE_S": patience}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=200, env=environ
    )


def test_faults_change_nothing_and_cost_no_request_more(
    served: tuple[Loopback, Path], tmp_path: Path
) -> None:
    server, _ = served
    rough = {
        "throttled": 0.05,
        "unavailable": 0.05,
        "truncated": 0.05,
        "page": 0.03,
        "other_file": 0.0,
    }
    seen, cubes = {}, {}
    for name, faults in {"clean": dict.fromkeys(rough, 0.0), "rough": rough}.items():
        work = tmp_path / name
        for stage in ("sample", "scenes", "fetch"):
            if stage == "scenes":
                server.set(per_second=200, in_flight=16, **faults)
                server.ask("reset")
            workers = () if stage == "sample" else ("--workers", "2" if name == "rough" else "1")
            done = las(served, work, stage, *workers)
            assert done.returncode == 0, done.stderr
        seen[name] = server.seen()
        cubes[name] = sha256_tree(work / "wire" / "wire" / "cube.zarr")
        server.set(**dict.fromkeys(rough, 0.0))
    assert cubes["clean"] == cubes["rough"]
    failed = sum(seen["rough"]["faults"].values())
    assert failed >= 10
    assert (
        "10 sites = 10 stored" in las(served, tmp_path / "rough", "fetch", "--workers", "1").stdout
    )
    # Two workers ask for headers and landing pages of their own: nothing else is asked twice.
    more = seen["rough"]["requests"] - failed - seen["clean"]["requests"]
    assert more <= 25
    assert seen["rough"]["over_limit"] == 0
    assert seen["rough"]["most_in_flight"] <= 16
    said = json.loads((tmp_path / "rough" / "wire" / "logs" / "wire.json").read_text())
    assert sum(said["failures"].values()) > 0


def test_a_provider_gone_for_a_while_loses_nothing(
    served: tuple[Loopback, Path], tmp_path: Path
) -> None:
    server, _ = served
    for stage in ("sample", "scenes"):
        assert las(served, tmp_path, stage).returncode == 0
    gone = 6.0
    server.set(gone_until=time.time() + 3600)
    threading.Timer(gone, lambda: server.set(gone_until=0.0)).start()
    began = time.monotonic()
    done = las(served, tmp_path, "fetch", "--workers", "2")
    assert time.monotonic() - began >= gone
    assert done.returncode == 0, done.stderr
    assert "10 sites = 10 stored" in done.stdout


def test_the_ledger_names_class_message_and_attempts_and_retry_mends(
    served: tuple[Loopback, Path], tmp_path: Path
) -> None:
    server, _ = served
    for stage in ("sample", "scenes"):
        assert las(served, tmp_path, stage).returncode == 0
    server.set(unavailable=1.0)
    try:
        broken = las(served, tmp_path, "fetch", "--workers", "1", patience="1")
        assert broken.returncode == 1
        assert len(broken.stderr.strip().splitlines()[-1].splitlines()) == 1
        ledger = json.loads((tmp_path / "wire" / "logs" / "failures.json").read_text())
        line = next(iter(ledger.values()))
        assert line["class"] == "server"
        assert line["attempts"] >= 2
        assert line["message"] == "HTTP 503: Please reduce your request rate"
        assert line["provider"] == "sentinel-cogs.s3.us-west-2.amazonaws.com"
        given_up = las(served, tmp_path, "fetch", "--workers", "1", "--give-up", patience="0")
        assert given_up.returncode == 0, given_up.stderr
        assert "10 provider" in given_up.stdout
    finally:
        server.set(unavailable=0.0)
    nothing = las(served, tmp_path, "fetch", "--workers", "1", "--retry", "gaps")
    assert nothing.stdout.startswith("0 blocks are fetched again")
    mended = las(served, tmp_path, "fetch", "--workers", "1", "--retry", "failed")
    assert mended.returncode == 0, mended.stderr
    assert mended.stdout.startswith("1 blocks are fetched again")
    assert "10 sites = 10 stored" in mended.stdout
