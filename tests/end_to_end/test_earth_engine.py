"""Recipes of ours through Earth Engine: the emulator, and Google's own client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml
from ee_end_to_end import compare
from ee_replica import Both, home, make
from kit import Las
from kit_loopback import Loopback, serve

from las_builder.access.earth_engine import client, images

World = tuple[Both, Loopback, Path]


@pytest.fixture(scope="module", params=["las-s2-clc", "las-hr-naip"])
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    root = tmp_path_factory.mktemp(request.param)
    both, recipe = make(root, request.param)
    server = serve(root)
    yield both, server, recipe
    server.stop()


@pytest.fixture(autouse=True)
def _at_home(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Credentials of `earthengine authenticate`, and a client that knows nothing yet."""
    monkeypatch.setenv("HOME", str(home(tmp_path)))
    monkeypatch.setenv("LAS_MIRRORS", world[1].mirrors)
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    client.go_on()
    images.forget()
    yield
    client.go_on()
    images.forget()


def tell(server: Loopback, what: str) -> Any:
    url = f"http://127.0.0.1:{server.port}/earthengine-highvolume.googleapis.com/{what}"
    with urlopen(url, timeout=10) as answer:
        return json.loads(answer.read())


def work(server: Loopback) -> float:
    """EECU-seconds of all pixels so far."""
    return float(tell(server, "work"))


def asked(server: Loopback) -> list[dict[str, Any]]:
    """Paths and bodies of requests."""
    said: list[dict[str, Any]] = tell(server, "asked")
    return said


def test_a_recipe_end_to_end(world: World, las: Las, tmp_path: Path) -> None:
    """Pixels and labels are those of STAC; nothing is asked twice; the estimate holds."""
    both, server, recipe = world
    server.ask("reset")
    server.set(per_second=100, in_flight=40)
    rough = las("estimate", recipe, "--work", tmp_path, "--workers", 1)
    assert "rough, no scenes are pinned: a request a patch and map" in rough.out
    for stage in ("sample", "scenes", "estimate"):
        done = las(stage, recipe, "--work", tmp_path, *(["--workers", 1] * (stage != "sample")))
        assert done.code == 0, done.err
        if stage == "scenes":
            bodies = [b["body"] for b in asked(server) if b["path"].endswith("value:compute")]
            assert sum("Filter.intersects" in json.dumps(b) for b in bodies) == 1, (
                "the scenes of all sites in one request"
            )
    assert "EECU-hours (0.0% of the 150 a month of the tier community)" in done.out
    before, spent = server.seen(), work(server)
    done = las("build", recipe, "--work", tmp_path, "--workers", 1)
    assert done.code == 0, done.err
    seen = server.seen()
    assert seen["over_limit"] == 0, "never above 100 a second and 40 at once"
    assert seen["requests"] == seen["answered"], "nothing failed, so nothing was asked twice"
    name = yaml.safe_load(recipe.read_text())["name"]
    logs = tmp_path / name / "logs"
    guess, sent = (json.loads((logs / f"{n}.json").read_text()) for n in ("estimate", "wire"))
    count, size = seen["requests"] - before["requests"] - 1, seen["bytes"] - before["bytes"]
    assert sent["requests"] == pytest.approx(count, abs=2)
    assert guess[name]["requests"] == pytest.approx(count, rel=0.15)
    assert guess[name]["bytes"] == pytest.approx(size, rel=0.15)
    assert guess[name]["eecu_seconds"] == pytest.approx(work(server) - spent, rel=0.15)
    assert "EECU-hours, 0.0% of a month of the tier community" in done.err
    found = compare(both, recipe, tmp_path)
    assert found["patches"] >= 10
    assert found["maps"] >= 20
