"""Rasters in which every pixel has its own value, and a server that can fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

WriteTif = Callable[..., str]


@pytest.fixture
def write_tif(tmp_path: Path) -> WriteTif:
    """Write a tiled GeoTIFF: write(name, data, west, north, pixel, crs=..., nodata=...) -> path."""

    def write(
        name: str,
        data: np.ndarray,
        west: float = 600000.0,
        north: float = 5000040.0,
        pixel: float | tuple[float, float] = 10.0,
        *,
        crs: str | None = "EPSG:32632",
        nodata: float | None = None,
        **more: Any,
    ) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cube = data if data.ndim == 3 else data[None]
        a, e = (pixel, pixel) if isinstance(pixel, int | float) else pixel
        profile: dict[str, Any] = {
            "driver": "GTiff", "count": cube.shape[0], "height": cube.shape[1],
            "width": cube.shape[2], "dtype": cube.dtype, "crs": crs, "nodata": nodata,
            "transform": Affine(a, 0, west, 0, -e, north),
            "tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate",
        }  # fmt: skip
        mask = more.pop("mask", None)
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(path, "w", **{**profile, **more}) as file,
        ):
            file.write(cube)
            if mask is not None:
                file.write_mask(mask)
        return str(path)

    return write


@pytest.fixture
def distinct() -> Callable[..., np.ndarray]:
    """An array in which no two pixels are equal and none is 0: a shift by one cannot hide."""

    def make(height: int, width: int, dtype: str = "uint16") -> np.ndarray:
        return (np.arange(height * width).reshape(height, width) + 1).astype(dtype)

    return make
