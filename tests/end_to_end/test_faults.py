"""A small run on a bad day: what fails is retried, named, given up and asked for again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from kit_loopback import Loopback, serve

from las_builder.access import ranges, wire
from las_builder.access.limit import Limit
from las_builder.access.together import together
from las_builder.cli import las as command
from las_builder.core.workspace import sha256_tree
from las_builder.errors import LasError, StageError
from las_builder.run.engine import Engine
from las_builder.scenes import SceneTable

pytestmark = pytest.mark.timeout(600)  # a dozen commands, on a busy machine

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


def las(
    served: tuple[Loopback, Path], work: Path, stage: str, *more: str
) -> subprocess.CompletedProcess[str]:
    server, recipe = served
    command = [
        sys.executable, "-m", "las_builder.cli", stage, str(recipe), "--work", str(work),
        "--catalogs", str(recipe.parent / "catalogs"), *more,
    ]  # fmt: skip
    environ = {**os.environ, "LAS_MIRRORS": server.mirrors, "LAS_PATIENCE_S": "60"}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=200, env=environ
    )


@pytest.fixture
def here(
    served: tuple[Loopback, Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:  # fmt: skip
    """The same in this process."""
    server, recipe = served
    monkeypatch.setenv("LAS_MIRRORS", server.mirrors)
    monkeypatch.setenv("LAS_PATIENCE_S", "20")

    def run(work: Path, stage: str, *more: str) -> Result:
        place = [str(recipe), "--work", str(work), "--catalogs", str(recipe.parent / "catalogs")]
        return CliRunner().invoke(command, [stage, *place, "--workers", "1", *more])

    return run


@pytest.fixture(scope="module")
def planned(served: tuple[Loopback, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a plan."""
    work = tmp_path_factory.mktemp("planned")
    done = las(served, work, "sample")
    assert done.returncode == 0, done.stderr
    return work


@pytest.fixture(scope="module")
def pinned(
    served: tuple[Loopback, Path], planned: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, int]:
    """A workspace with pinned scenes, and the requests that they took."""
    work = tmp_path_factory.mktemp("pinned") / "work"
    shutil.copytree(planned, work)
    served[0].ask("reset")
    done = las(served, work, "scenes", "--workers", "1")
    assert done.returncode == 0, done.stderr
    return work, served[0].seen()["requests"]


def test_faults_change_nothing_and_cost_no_request_more(
    served: tuple[Loopback, Path], planned: Path, pinned: tuple[Path, int], tmp_path: Path
) -> None:
    server, _ = served
    clean, rough = tmp_path / "clean", tmp_path / "rough"
    shutil.copytree(pinned[0], clean)
    shutil.copytree(planned, rough)
    server.ask("reset")
    assert las(served, clean, "fetch", "--workers", "1").returncode == 0
    needed = pinned[1] + server.seen()["requests"]
    server.ask("reset")
    server.set(
        per_second=200, in_flight=16, throttled=0.05, unavailable=0.05, truncated=0.05, page=0.03
    )
    try:
        for stage in ("scenes", "fetch"):
            done = las(served, rough, stage, "--workers", "1")
            assert done.returncode == 0, done.stderr
    finally:
        server.set(throttled=0.0, unavailable=0.0, truncated=0.0, page=0.0)
    seen = server.seen()
    cubes = [sha256_tree(work / "wire" / "wire" / "cube.zarr") for work in (clean, rough)]
    assert cubes[0] == cubes[1]
    assert "10 sites = 10 stored" in done.stdout
    failed = sum(seen["faults"].values())
    assert failed >= 5
    # What GDAL still holds of a block depends on which thread was first, hence a few fewer.
    assert needed - 5 <= seen["requests"] - failed <= needed, "only what failed is asked again"
    assert seen["over_limit"] == 0
    assert seen["most_in_flight"] <= 16
    said = json.loads((rough / "wire" / "logs" / "wire.json").read_text())
    assert sum(said["failures"].values()) > 0


def test_a_provider_gone_for_a_while_loses_nothing(
    served: tuple[Loopback, Path], pinned: tuple[Path, int], tmp_path: Path,
    here: Callable[..., Result],
) -> None:  # fmt: skip
    server, _ = served
    shutil.copytree(pinned[0], tmp_path / "work")
    server.set(latency_ms=400)
    server.ask("reset")

    def go_and_come_back() -> None:
        while sum(bool(line[2]) for line in server.ask("log")["log"]) < 10:
            time.sleep(0.02)
        _, faults = server.vanish()
        time.sleep(3.0)
        server.come_back(faults | {"latency_ms": 0})

    away = threading.Thread(target=go_and_come_back)
    away.start()
    done = here(tmp_path / "work", "fetch")
    away.join()
    assert done.exit_code == 0, done.exception
    assert "10 sites = 10 stored" in done.output
    said = json.loads((tmp_path / "work" / "wire" / "logs" / "wire.json").read_text())
    assert any(key.endswith(" connection") for key in said["failures"]), said["failures"]


def test_the_ledger_names_class_message_and_attempts_and_retry_mends(
    served: tuple[Loopback, Path], pinned: tuple[Path, int], tmp_path: Path,
    here: Callable[..., Result], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    server, _ = served
    shutil.copytree(pinned[0] / "wire", tmp_path / "wire")
    server.set(unavailable=1.0, only=".amazonaws.com")
    try:
        monkeypatch.setenv("LAS_PATIENCE_S", "1")
        broken = here(tmp_path, "fetch")
        assert isinstance(broken.exception, StageError)
        assert "\n" not in str(broken.exception)
        ledger = json.loads((tmp_path / "wire" / "logs" / "failures.json").read_text())
        line = next(iter(ledger.values()))
        assert line["class"] == "server"
        assert line["attempts"] >= 2
        assert line["message"] == "HTTP 503: Please reduce your request rate"
        assert line["provider"] == "sentinel-cogs.s3.us-west-2.amazonaws.com"
        monkeypatch.setenv("LAS_PATIENCE_S", "0")
        given_up = here(tmp_path, "fetch", "--give-up")
        assert given_up.exit_code == 0, given_up.exception
        assert "10 provider" in given_up.output
    finally:
        server.set(unavailable=0.0, only="")
    monkeypatch.setenv("LAS_PATIENCE_S", "20")
    nothing = here(tmp_path, "fetch", "--retry", "gaps")
    assert nothing.output.startswith("0 blocks are fetched again")
    mended = here(tmp_path, "fetch", "--retry", "failed")
    assert mended.exit_code == 0, mended.exception
    assert mended.output.startswith("1 blocks are fetched again")
    assert "10 sites = 10 stored" in mended.output


def test_a_file_that_is_gone_fails_its_sites_alone_and_retry_mends(
    served: tuple[Loopback, Path], pinned: tuple[Path, int], tmp_path: Path,
    here: Callable[..., Result],
) -> None:  # fmt: skip
    """A pinned file that a provider has deleted: named, given up for its own sites, asked again."""
    server, _ = served
    shutil.copytree(pinned[0] / "wire", tmp_path / "wire")
    home = tmp_path / "wire" / "wire"
    patches = SceneTable.read(home / "scenes" / "0.parquet").patches
    scenes = [p.scene.id for p in patches]
    rarest = min(sorted(set(scenes)), key=scenes.count)
    theirs = {p.site for p in patches if p.scene.id == rarest}
    assert 0 < len(theirs) < 10
    href = next(p.scene.assets["B04"].href for p in patches if p.scene.id == rarest)
    file = server.root / href.removeprefix("https://")
    away = file.rename(file.with_suffix(".away"))
    try:
        server.ask("reset")
        broken = here(tmp_path, "fetch")
        assert isinstance(broken.exception, StageError)
        ledger = json.loads((tmp_path / "wire" / "logs" / "failures.json").read_text())
        (line,) = ledger.values()
        assert (line["class"], line["attempts"], line["retryable"]) == ("absent", 1, False)
        assert line["what"] == href
        assert line["message"].startswith("HTTP 404")
        given_up = here(tmp_path, "fetch", "--give-up")
        assert given_up.exit_code == 0, given_up.exception
        (manifest,) = home.glob("blocks/*.json")
        failed = [p for p in json.loads(manifest.read_text())["patches"] if p["state"] == "failed"]
        assert {p["site"] for p in failed} == theirs
        assert all(href in p["detail"] for p in failed)
    finally:
        away.rename(file)
    mended = here(tmp_path, "fetch", "--retry", "failed")
    assert mended.exit_code == 0, mended.exception
    assert "10 sites = 10 stored" in mended.output


def test_a_hole_in_the_catalogue_does_not_stop_the_search(
    served: tuple[Loopback, Path], planned: Path, pinned: tuple[Path, int], tmp_path: Path,
    here: Callable[..., Result],
) -> None:  # fmt: skip
    """The validity of one scene is not there: its sites are gaps, and reserves take their place."""
    server, _ = served
    first = SceneTable.read(pinned[0] / "wire" / "wire" / "scenes" / "0.parquet").patches[0].scene
    shutil.copytree(planned, tmp_path / "work")
    href = first.assets["SCL"].href
    file = server.root / href.removeprefix("https://")
    away = file.rename(file.with_suffix(".away"))
    ranges.forget(href)
    try:
        done = here(tmp_path / "work", "scenes")
    finally:
        away.rename(file)
    assert done.exit_code == 0, done.exception
    taken = SceneTable.read(tmp_path / "work" / "wire" / "wire" / "scenes" / "0.parquet").patches
    assert taken
    assert first.id not in {p.scene.id for p in taken}


def test_a_file_that_another_took_the_place_of_is_a_failure(
    served: tuple[Loopback, Path], pinned: tuple[Path, int], tmp_path: Path,
    here: Callable[..., Result],
) -> None:  # fmt: skip
    """As large, as well-formed, in the same place: only its ETag is not the pinned one."""
    server, _ = served
    shutil.copytree(pinned[0] / "wire", tmp_path / "wire")
    patches = SceneTable.read(tmp_path / "wire" / "wire" / "scenes" / "0.parquet").patches
    href = patches[0].scene.assets["B03"].href
    file = server.root / href.removeprefix("https://")
    before = file.stat()
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    try:
        assert isinstance(here(tmp_path, "fetch").exception, StageError)
    finally:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    ledger = json.loads((tmp_path / "wire" / "logs" / "failures.json").read_text())
    (line,) = ledger.values()
    assert (line["class"], line["retryable"]) == ("changed", False)
    assert "ETag" in line["message"] or "412" in line["message"]


def ask(job: tuple[str, Limit, int]) -> int:
    """So many requests, sixteen at once as far as the gate lets them; runs in a worker."""
    url, limit, many = job
    wire.know((wire.Host(url.split("/")[2], limit),))
    return len(together([partial(wire.get_range, url, 0, 99)] * many))


def test_workers_of_a_cluster_share_one_limiter(
    served: tuple[Loopback, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the server's clock: never more than one limit, at good speed; halved where it refuses."""
    server, _ = served
    monkeypatch.setenv("LAS_MIRRORS", server.mirrors)
    monkeypatch.setenv("LAS_PATIENCE_S", "60")
    file = next(server.root.glob("sentinel-cogs*/**/*.tif"))
    url = f"https://{file.relative_to(server.root)}"
    limit = Limit(per_second=40, in_flight=5)
    server.set(latency_ms=60, per_second=40, in_flight=5)
    with Engine(workers=2) as engine:
        engine.client().wait_for_workers(2)
        server.ask("reset")
        began = time.monotonic()
        jobs = [(url, limit, 20)] * 9
        done = list(
            engine.each(ask, jobs, title="ask", unit="jobs", prepare=lambda job: job)
        )  # fmt: skip
        took = time.monotonic() - began
        seen = server.seen()
        assert not engine.slowed().total()
        # A host that allows a fourth of what we believe.
        server.set(per_second=10)
        server.ask("reset")
        began = time.monotonic()
        done += engine.each(ask, jobs[:4], title="ask", unit="jobs", prepare=lambda job: job)
        strict, slowed = server.seen(), engine.slowed()
        assert 1 <= slowed[url.split("/")[2]] <= time.monotonic() - began
        assert strict["answered"] == 80
        assert strict["requests"] - strict["over_limit"] == 80
    server.set(latency_ms=0, per_second=200, in_flight=16)
    assert not any(isinstance(result, LasError) for _, result in done)
    assert seen["requests"] == 180, "nothing was refused, nothing asked twice"
    assert seen["most_per_second"] <= 40
    assert seen["most_in_flight"] <= 5
    assert seen["most_in_flight"] >= 3, "the workers do ask side by side"
    assert 180 / took > 0.6 * 40
