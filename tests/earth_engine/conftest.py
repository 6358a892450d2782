"""One small Earth Engine for all tests of this folder, and a client that is at home there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ee_kit import Small, anew, small_world
from ee_replica import home

from las_builder.access.earth_engine import EarthEngine
from las_builder.catalogs import Catalogs

Strain = Callable[..., None]


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    world = small_world(tmp_path_factory.mktemp("earth-engine"))
    yield world
    world.server.stop()


@pytest.fixture
def engine(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EarthEngine]:
    """With the credentials of `earthengine authenticate`; nothing is known of the service yet."""
    monkeypatch.setenv("HOME", str(home(tmp_path)))
    monkeypatch.setenv("LAS_MIRRORS", small.server.mirrors)
    monkeypatch.setenv("LAS_PATIENCE_S", "20")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("LAS_EE_PROFILE", "0")
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    anew()
    small.server.ask("reset")
    yield EarthEngine(Catalogs.load().earth_engine)
    anew()


@pytest.fixture
def strain(small: Small) -> Iterator[Strain]:
    """What the service does not manage, as `ee_emulator.app` says."""
    file = small.server.root / "las_ee.json"

    def set_(**said: Any) -> None:
        file.write_text(json.dumps(said))

    yield set_
    file.unlink(missing_ok=True)
    small.server.set(throttled=0.0, unavailable=0.0, truncated=0.0, page=0.0, latency_ms=0.0)
