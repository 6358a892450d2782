"""A tiny folder of rasters, and the command line in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from kit import raster


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two bands, a scene classification and a WorldCover, 64 x 64, and what they are."""
    home = tmp_path / "rasters"
    chance = np.random.default_rng(3)
    numbers = chance.integers(1, 9000, (2, 64, 64)).astype(np.uint16)
    raster(home / "image.tif", numbers)
    raster(home / "scl.tif", np.full((64, 64), 4, np.uint8))
    raster(home / "label.tif", chance.choice([10, 30, 50, 80], (64, 64)).astype(np.uint8))
    index = {
        "title": "Two bands",
        "license": "CC0-1.0",
        "scenes": [
            {
                "imagery": "sentinel-2-l2a",
                "id": "scene-1",
                "date": "2021-06-01",
                "cloud_cover": 0,
                "files": [
                    {"path": "image.tif", "bands": ["B02", "B03"]},
                    {"path": "scl.tif", "bands": ["SCL"]},
                ],
            }
        ],
        "labels": [
            {
                "product": "esa-worldcover-v200",
                "start": "2021-01-01",
                "end": "2021-12-31",
                "file": "label.tif",
            }
        ],
    }
    (home / "index.yaml").write_text(yaml.safe_dump(index))
    return home


@pytest.fixture
def content(tmp_path: Path) -> dict[str, object]:
    """A recipe over that folder."""
    return {
        "name": "tiny",
        "imagery": "sentinel-2-l2a",
        "bands": ["B02", "B03"],
        "labels": ["esa-worldcover-v200"],
        "source": str(tmp_path / "catalogue"),
        "patch": {"size": 32, "lattice": "source"},
        "sites": {"count": 4, "region": "catalogue"},
        "dates": {"period": "2021-01-01/2022-01-01"},
    }


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[[dict[str, object]], Path]:
    def write(content: dict[str, object]) -> Path:
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write
