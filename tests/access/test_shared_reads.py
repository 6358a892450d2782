"""Sites that look at one part of one file share what was read of it, and see the same."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from affine import Affine
from kit import Server

from las_builder.access import ReadRequest, ranges
from las_builder.access.read import read_scenes
from las_builder.catalogs import Catalogs
from las_builder.core.grid import Grid
from las_builder.core.types import AssetRef, Chip, Scene

SIDE = 1536


def test_looks_share_blocks_and_see_the_same(server: Server, write_tif, tmp_path: Path) -> None:
    scl = np.random.default_rng(1).choice([4, 9, 3], (SIDE, SIDE)).astype(np.uint8)
    write_tif("scl.tif", scl, pixel=20.0, blockxsize=512, blockysize=512)
    url = f"{server.url}/scl.tif"
    crs, west, north = "EPSG:32632", 600_000.0, 5_000_040.0
    scene = Scene(
        id="s", datetime=datetime(2021, 6, 1, tzinfo=UTC), cloud_cover=1.0,
        grid=Grid(crs, Affine(10, 0, west, 0, -10, north), 2 * SIDE, 2 * SIDE),
        assets={"SCL": AssetRef(href=url, shape=(SIDE, SIDE))},
    )  # fmt: skip
    # Three in the first block, one over the corner of four, two in the last block.
    corners = [(0, 0), (100, 200), (400, 30), (450, 450), (1100, 1200), (1300, 1400)]
    seen, asked = [], []
    for shared in (False, True):
        ranges.forget(url)
        server.requests.clear()
        chips = read_scenes(
            Catalogs.load().imagery("sentinel-2-l2a"),
            [
                ReadRequest(
                    site=f"{r}-{c}", scene=scene, bands=("SCL",), categorical=True, shared=shared,
                    grid=Grid(crs, Affine(10, 0, west + 20 * c, 0, -10, north - 20 * r), 200, 200),
                )
                for r, c in corners
            ],
        )  # fmt: skip
        asked.append(len(server.requests))
        seen.append([chip.data[0] for chip in chips if isinstance(chip, Chip)])
    for first, second, (r, c) in zip(*seen, corners, strict=True):
        assert np.array_equal(first, second)
        assert np.array_equal(first, scl[r : r + 100, c : c + 100].repeat(2, 0).repeat(2, 1))
    assert asked[1] <= asked[0] - 3, asked
