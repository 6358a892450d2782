"""A provider by formula, rows of a cube, jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from affine import Affine

from las_builder.access import LabelRequest, ReadRequest
from las_builder.catalogs import Imagery, LabelProduct
from las_builder.core.grid import Grid
from las_builder.core.types import (
    AssetRef,
    Chip,
    Gap,
    GapReason,
    LabelSource,
    PinnedScene,
    Scene,
)
from las_builder.errors import AccessError
from las_builder.fetch import (
    CubeLayout,
    FetchJob,
    blocks_of,
)

SIZE = 24
BANDS = ("B02", "B05", "B01")


def numbers(grid: Grid, k: int) -> np.ndarray:
    """A different number for every pixel on the ground and band."""
    x, y = np.meshgrid(*grid.xy())
    return ((x // 10 * 31 + y // 10 * 17 + k * 7) % 65521).astype(np.uint16)


@dataclass(frozen=True)
class FakeAccess:
    """Imagery and labels by formula; some sites have no label, some fail."""

    no_label: tuple[str, ...] = ()
    no_product: str = ""
    fails: tuple[str, ...] = ()
    cloudy: tuple[str, ...] = ()
    name: str = "fake"
    synthetic: bool = True

    def read(self, imagery: Imagery, requests: Sequence[ReadRequest]) -> list[Chip | Gap]:
        chips: list[Chip | Gap] = []
        for r in requests:
            if r.site in self.fails:
                raise AccessError("fake", r.site, "503", retryable=True)
            if r.bands == ("SCL",):
                data = np.full((1, *r.grid.shape), 9 if r.site in self.cloudy else 4, np.uint8)
                data[0, 0, 0] = 9
            else:
                data = np.stack([numbers(r.grid, k) for k in range(len(r.bands))])
            inside = np.ones(r.grid.shape, bool)
            inside[-1, -1] = False
            chips.append(
                Chip(grid=r.grid, bands=r.bands, data=data, inside=inside, resampled=False)
            )
        return chips

    def labels(
        self, product: LabelProduct, requests: Sequence[LabelRequest]
    ) -> list[LabelSource | Gap]:
        codes = np.array([c.value for c in product.classes if c.means], product.dtype)
        return [
            Gap(r.site, GapReason.NO_LABEL, "not here")
            if r.site in self.no_label or product.name == self.no_product
            else LabelSource(
                product=product.name, version=f"{product.name}-v", grid=r.grid, nodata=product.nodata,
                codes=codes[numbers(r.grid, 0) % len(codes)],
            )
            for r in requests
        ]  # fmt: skip


def patches(n: int) -> list[PinnedScene]:
    out = []
    for i in range(n):
        crs = ("EPSG:32633", "EPSG:32733")[i % 2]
        grid = Grid(crs, Affine(10, 0, 300000 + 600 * i, 0, -10, 5000040), SIZE, SIZE)
        scene = Scene(
            id=f"scene-{i}", datetime=datetime(2022, 6, 1 + i % 28, tzinfo=UTC), cloud_cover=1.0,
            grid=grid, assets={b: AssetRef(href="mem://x") for b in (*BANDS, "SCL")},
            properties={"s2:processing_baseline": "04.00" if i % 3 else "02.14"},
        )  # fmt: skip
        out.append(PinnedScene(site=f"site-{i}", slot=0, scene=scene, grid=grid, clear=1.0))
    return out


def job(home: Path, layout: CubeLayout, rows: list[PinnedScene], n: int = 0, **more) -> FetchJob:
    block = blocks_of(0, len(rows), layout)[n]
    settings = {
        "block": block, "patches": tuple(rows[block.start : block.stop]), "layout": layout,
        "required": frozenset({"esa-worldcover-v200"}), "access": FakeAccess(),
        "group": home / "cube.zarr" / "0", "manifest": home / "blocks" / f"{block.name}.json",
        "min_clear": 0.5, **more,
    }  # fmt: skip
    return FetchJob(**settings)
