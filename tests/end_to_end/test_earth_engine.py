"""Recipes of ours through Earth Engine: the emulator, and Google's own client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
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


def test_pixels_and_labels_are_those_of_stac(world: World, las: Las, tmp_path: Path) -> None:
    both, server, recipe = world
    server.ask("reset")
    done = las("build", recipe, "--work", tmp_path, "--workers", 1)
    assert done.code == 0, done.err
    seen = server.seen()
    assert seen["requests"] == seen["answered"], "nothing failed, so nothing was asked twice"
    found = compare(both, recipe, tmp_path)
    assert found["patches"] >= 10
    assert found["maps"] >= 20
    log = [line[1] for line in server.ask("log")["log"]]
    searches = [line for line in log if line.endswith("value:compute")]
    assert len(searches) <= 8, "the scenes of all sites in one, and one for each product"
