"""One small Earth Engine for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ee_kit import Small, small_world


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    world = small_world(tmp_path_factory.mktemp("earth-engine"))
    yield world
    world.server.stop()
