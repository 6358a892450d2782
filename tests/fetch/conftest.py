"""A small layout, and blocks of four patches."""

from __future__ import annotations

import pytest
from fetch_kit import BANDS, SIZE

from las_builder.catalogs import Catalogs
from las_builder.fetch import (
    CubeLayout,
)


@pytest.fixture(scope="module")
def layout() -> CubeLayout:
    catalogs = Catalogs.load()
    return CubeLayout(
        imagery=catalogs.imagery("sentinel-2-l2a"), bands=BANDS,
        products=(catalogs.label("esa-worldcover-v200"), catalogs.label("io-lulc-annual")),
        height=SIZE, width=SIZE,
    )  # fmt: skip


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch, layout: CubeLayout) -> int:
    monkeypatch.setattr("las_builder.fetch.cube.BLOCK_BYTES", 4 * layout.patch_bytes + 5)
    return 4
