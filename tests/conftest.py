"""What every folder of tests shares."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real rasters and recorded STAC documents beside the checkout."""
    folder = ROOT.parent / "shared" / "data"
    if not (folder / "MANIFEST.md").is_file():
        pytest.skip("needs the real rasters and recorded STAC documents in ../shared/data")
    return folder
