"""An Earth Engine of a few small images, and the client of Google that talks to it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import xarray as xr
from affine import Affine
from kit_loopback import Loopback, serve

from las_builder.access.earth_engine import client, images, sizes

PLACE = "earthengine-highvolume.googleapis.com"
UTM = "EPSG:32632"
ORIGIN = Affine(10, 0, 600_000, 0, -10, 5_300_040)
SIZE = 60
CLEAR = (4, 5)


@dataclass
class Small:
    """Five images of two bands, a QA band and a quality; a code map in another CRS."""

    server: Loopback
    stack: xr.Dataset
    """(time, y, x): B4, B5 (20 m, repeated), SCL (20 m, repeated), Q; what the files hold."""

    codes: np.ndarray[Any, Any]
    place: Affine
    """Of the codes, in degrees."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}/{PLACE}"


def write(path: Path, data: np.ndarray[Any, Any], crs: str, place: Affine, nodata: Any) -> None:
    with rasterio.open(
        path, "w", driver="GTiff", width=data.shape[1], height=data.shape[0], count=1,
        dtype=data.dtype, crs=crs, transform=place, nodata=nodata,
    ) as out:  # fmt: skip
        out.write(data, 1)


def small_world(root: Path) -> Small:
    """Write it and serve it."""
    rng = np.random.default_rng(5)
    assets: dict[str, Any] = {"T/S2": {"type": "IMAGE_COLLECTION"}, "T/DW": {"type": "IMAGE_COLLECTION"}}  # fmt: skip
    layers: dict[str, list[Any]] = {"B4": [], "B5": [], "SCL": [], "Q": []}
    half = ORIGIN @ Affine.scale(2)
    for i in range(5):
        b4 = rng.integers(0, 9000, (SIZE, SIZE), dtype=np.uint16)
        b4[rng.random(b4.shape) < 0.2] = 0
        b5 = rng.integers(1, 9000, (SIZE // 2, SIZE // 2), dtype=np.uint16)
        scl = rng.choice([0, 3, 4, 5, 8], (SIZE // 2, SIZE // 2)).astype(np.uint8)
        q = rng.integers(0, 6, (SIZE, SIZE), dtype=np.uint8)
        write(root / f"{i}-B4.tif", b4, UTM, ORIGIN, 0)
        write(root / f"{i}-B5.tif", b5, UTM, half, 0)
        write(root / f"{i}-SCL.tif", scl, UTM, half, 0)
        write(root / f"{i}-Q.tif", q, UTM, ORIGIN, None)
        assets[f"T/S2/{i}"] = {
            "type": "IMAGE",
            "bands": [{"id": b, "file": f"{i}-{b}.tif"} for b in layers],
            "properties": {"system:time_start": 1.6e12 + i * 86.4e6, "CLOUDY": 10 * i},
        }
        for name, data in (("B4", b4), ("B5", b5), ("SCL", scl), ("Q", q)):
            layers[name].append(
                data.repeat(SIZE // data.shape[0], 0).repeat(SIZE // data.shape[1], 1)
            )
        if i % 2 == 0:
            write(
                root / f"{i}-dw.tif",
                rng.integers(0, 9, (SIZE, SIZE), dtype=np.uint8),
                UTM,
                ORIGIN,
                None,
            )
            assets[f"T/DW/{i}"] = {
                "type": "IMAGE", "bands": [{"id": "label", "file": f"{i}-dw.tif"}],
                "properties": {"system:time_start": 1.6e12 + i * 86.4e6},
            }  # fmt: skip
    place = Affine(1e-4, 0, 10.335, 0, -1e-4, 47.851)
    codes = rng.choice([10, 20, 30], (120, 160)).astype(np.uint8)
    write(root / "codes.tif", codes, "EPSG:4326", place, 0)
    assets["T/CODES"] = {
        "type": "IMAGE", "bands": [{"id": "Map", "file": "codes.tif"}], "properties": {},
    }  # fmt: skip
    # Around the Earth along the equator.
    belt = rng.choice([10, 30, 50], (40, 7200)).astype(np.uint8)
    write(root / "belt.tif", belt, "EPSG:4326", Affine(0.05, 0, -180, 0, -0.05, 1), 0)
    assets["T/BELT"] = {
        "type": "IMAGE", "bands": [{"id": "Map", "file": "belt.tif"}], "properties": {},
    }  # fmt: skip
    # What `las doctor` looks at.
    town = Affine(1 / 12000, 0, 137_950 / 12000, 0, -1 / 12000, 578_450 / 12000)
    write(
        root / "town.tif",
        rng.choice([10, 30, 50], (100, 100)).astype(np.uint8),
        "EPSG:4326",
        town,
        0,
    )
    assets["ESA/WorldCover/v200"] = {"type": "IMAGE_COLLECTION"}
    assets["ESA/WorldCover/v200/2021"] = {
        "type": "IMAGE", "bands": [{"id": "Map", "file": "town.tif"}],
        "properties": {"system:time_start": 1609459200000},
    }  # fmt: skip
    said = {"assets": assets, "projects": {"good": "", "new": "unregistered", "spent": "used-up"}}
    (root / "earth_engine.json").write_text(json.dumps(said))
    server = serve(root)
    stack = xr.Dataset({k: (("time", "y", "x"), np.stack(v)) for k, v in layers.items()})
    return Small(server, stack, codes, place)


def anew() -> None:
    """A client that knows nothing yet."""
    client.go_on()
    images.forget()
    sizes.MEMORY.most.clear()
