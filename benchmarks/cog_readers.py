"""How fast patches are read from COGs, against other readers of the same files in the same process.

    las build benchmarks/shards.yaml --work work            # the pixels
    work/peers/bin/pip install odc-stac stackstac async-geotiff   # what is not there is left out
    work/peers/bin/python benchmarks/cog_readers.py work/shards [--rounds 5] [--patches 8] [--cpu]

Scenes are mosaics of patches of the virtual Earth, 2112 x 2112 pixels of 10 m, one COG a band at 10,
20 or 60 m (tiles of 512, deflate, predictor 2, overviews): the layout of Sentinel-2 on Earth Search. A
patch is 264 x 264 of 13 bands, coarse ones repeated. All readers get the same windows by turns; their
pixels are compared with rasterio's before anything is timed. Files are in the cache of the system.

`rasterio, kept open` is the peer of the table in docs: datasets kept open, a block cache of 16 MB. Ours is
`access.read`, which also checks each file against its item.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.update(
    GDAL_CACHEMAX="16", GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", GDAL_NUM_THREADS="1"
)

import numpy as np
import rasterio
import results
from affine import Affine
from rasterio.shutil import copy as copy_raster
from rasterio.windows import Window
from shards import by_turns, read_samples

from las_builder.access import ReadRequest
from las_builder.access.read import read_scenes
from las_builder.catalogs import Catalogs
from las_builder.core.grid import Grid
from las_builder.core.types import AssetRef, Chip, Scene

SIDE, PATCH, SCENES = 2112, 264, 3
CRS, WEST, NORTH = "EPSG:32631", 600000.0, 5000040.0
FACTOR = {
    **dict.fromkeys(("B02", "B03", "B04", "B08"), 1), **dict.fromkeys(("B01", "B09"), 6),
    **dict.fromkeys(("B05", "B06", "B07", "B8A", "B11", "B12", "SCL"), 2),
}  # fmt: skip
Window4 = tuple[int, int, int]
"""Scene, row and column of a patch."""

Read = Callable[[Window4], np.ndarray]


def archive(workspace: Path, folder: Path) -> None:
    """The COGs, SCENE/BAND.tif."""
    samples = read_samples(workspace, 64)
    rng = np.random.default_rng(0)
    per_side = SIDE // PATCH
    for scene in range(SCENES):
        order = rng.permutation(len(samples)).reshape(per_side, per_side)
        for number, (band, factor) in enumerate(FACTOR.items()):
            layer = number % len(samples[0].image)
            data = np.block([[samples[i].image[layer] for i in row] for row in order])
            data = np.ascontiguousarray(data[::factor, ::factor])
            path = folder / str(scene) / f"{band}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            transform = Affine(10 * factor, 0, WEST, 0, -10 * factor, NORTH)
            with rasterio.MemoryFile() as memory:
                with memory.open(
                    driver="GTiff", width=data.shape[1], height=data.shape[0], count=1,
                    dtype=data.dtype, crs=CRS, transform=transform, nodata=0,
                ) as file:  # fmt: skip
                    file.write(data, 1)
                copy_raster(
                    memory.name, path, driver="COG", COMPRESS="DEFLATE", PREDICTOR="YES",
                    BLOCKSIZE=512,
                )  # fmt: skip


def grid_of(window: Window4, factor: int = 1) -> Grid:
    _, row, column = window
    return Grid(
        CRS, Affine(10 * factor, 0, WEST + 10 * column, 0, -10 * factor, NORTH - 10 * row),
        PATCH // factor, PATCH // factor,
    )  # fmt: skip


def with_rasterio(folder: Path, *, keep: bool) -> Read:
    kept: dict[tuple[int, str], Any] = {}

    def read(window: Window4) -> np.ndarray:
        scene, row, column = window
        out = np.empty((len(FACTOR), PATCH, PATCH), np.uint16)
        for i, (band, factor) in enumerate(FACTOR.items()):
            file = kept.get((scene, band)) or rasterio.open(folder / str(scene) / f"{band}.tif")
            if keep:
                kept[scene, band] = file
            part = Window(column // factor, row // factor, PATCH // factor, PATCH // factor)
            out[i] = file.read(1, window=part).repeat(factor, 0).repeat(factor, 1)
            if not keep:
                file.close()
        return out

    return read


def ours(folder: Path) -> Read:
    imagery = Catalogs.load().imagery("sentinel-2-l2a")
    whole = Grid(CRS, Affine(10, 0, WEST, 0, -10, NORTH), SIDE, SIDE)
    scenes = [
        Scene(
            id=str(n), datetime=datetime(2021, 6, 1, tzinfo=UTC), cloud_cover=0.0, grid=whole,
            assets={band: AssetRef(href=str(folder / str(n) / f"{band}.tif")) for band in FACTOR},
        )
        for n in range(SCENES)
    ]  # fmt: skip

    def read(window: Window4) -> np.ndarray:
        request = ReadRequest(
            site="s", scene=scenes[window[0]], grid=grid_of(window), bands=tuple(FACTOR)
        )
        (chip,) = read_scenes(imagery, [request])
        assert isinstance(chip, Chip)
        return chip.data

    return read


def items(folder: Path) -> list[Any]:
    """STAC items of the scenes, for readers that want them."""
    import pystac
    from pyproj import Transformer
    from shapely.geometry import box, mapping

    to = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    bounds = to.transform_bounds(WEST, NORTH - 10 * SIDE, WEST + 10 * SIDE, NORTH)
    found = []
    for n in range(SCENES):
        item = pystac.Item(
            str(n), mapping(box(*bounds)), list(bounds),
            datetime(2021, 6, 1, tzinfo=UTC), {"proj:code": CRS, "proj:epsg": int(CRS[5:])},
        )  # fmt: skip
        for band, factor in FACTOR.items():
            asset = pystac.Asset(
                str(folder / str(n) / f"{band}.tif"),
                media_type="image/tiff; application=geotiff; profile=cloud-optimized",
            )
            transform = [10 * factor, 0, WEST, 0, -10 * factor, NORTH]
            asset.extra_fields = {
                "proj:shape": [SIDE // factor] * 2, "proj:transform": transform,
                "raster:bands": [{"data_type": "uint16", "nodata": 0}],
            }  # fmt: skip
            item.add_asset(band, asset)
        found.append(item)
    return found


def with_odc(folder: Path) -> Read:
    import odc.stac
    from odc.geo.geobox import GeoBox

    known = items(folder)

    def read(window: Window4) -> np.ndarray:
        grid = grid_of(window)
        box = GeoBox(grid.shape, grid.transform, CRS)
        found = odc.stac.load([known[window[0]]], bands=list(FACTOR), geobox=box)
        return np.stack([found[band].values[0] for band in FACTOR])

    return read


def with_stackstac(folder: Path) -> Read:
    import stackstac

    known = items(folder)

    def read(window: Window4) -> np.ndarray:
        west, south, east, north = grid_of(window).bounds
        found = stackstac.stack(
            [known[window[0]].to_dict()], assets=list(FACTOR), epsg=int(CRS[5:]), resolution=10,
            bounds=(west, south, east, north), dtype="uint16", fill_value=np.uint16(0),
            rescale=False, snap_bounds=False,
        )  # fmt: skip
        return np.asarray(found.compute(scheduler="synchronous").values[0])

    return read


def with_async_geotiff(folder: Path) -> Read:
    import async_geotiff
    from obstore.store import LocalStore

    store = LocalStore(str(folder))
    loop = asyncio.new_event_loop()
    kept: dict[tuple[int, str], Any] = {}

    async def one(window: Window4, band: str, factor: int) -> np.ndarray:
        scene, row, column = window
        file = kept.get((scene, band))
        if file is None:
            file = await async_geotiff.GeoTIFF.open(f"{scene}/{band}.tif", store=store)
            kept[scene, band] = file
        part = async_geotiff.Window(
            col_off=column // factor, row_off=row // factor, width=PATCH // factor,
            height=PATCH // factor,
        )  # fmt: skip
        data = await file.read(window=part)
        return np.asarray(data.data)[0].repeat(factor, 0).repeat(factor, 1)

    async def whole(window: Window4) -> np.ndarray:
        return np.stack(
            await asyncio.gather(*(one(window, band, factor) for band, factor in FACTOR.items()))
        )

    return lambda window: loop.run_until_complete(whole(window))


def readers(folder: Path) -> Iterator[tuple[str, Read]]:
    yield "rasterio, kept open", with_rasterio(folder, keep=True)
    yield "rasterio, opened a patch", with_rasterio(folder, keep=False)
    for name, make in (
        ("odc-stac", with_odc), ("stackstac", with_stackstac), ("async-geotiff", with_async_geotiff),
    ):  # fmt: skip
        try:
            yield name, make(folder)
        except ImportError as problem:
            print(f"{name} is left out: {problem}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--patches", type=int, default=8)
    parser.add_argument("--cpu", action="store_true", help="CPU seconds in place of the clock")
    parser.add_argument("--out", type=Path, help="folder of JSON and plot")
    given = parser.parse_args()
    import shards

    shards.CPU = given.cpu
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory(dir=given.workspace.parent) as name:
        folder = Path(name)
        archive(given.workspace, folder)
        mine, peers = ours(folder), list(readers(folder))

        def windows(n: int) -> list[Window4]:
            corner = 60 // 10 * rng.integers(0, (SIDE - PATCH) // 6, (n, 2))
            return [
                (int(s), int(r), int(c))
                for s, (r, c) in zip(rng.integers(0, SCENES, n), corner, strict=True)
            ]

        oracle = peers[0][1]
        for window in windows(4):
            want = oracle(window)
            for label, read in [("ours", mine), *peers]:
                if not np.array_equal(read(window), want):
                    raise SystemExit(f"{label} reads other pixels than rasterio at {window}")
        fresh: list[Window4] = []

        def epoch(read: Read) -> Callable[[], object]:
            return lambda: [read(window) for window in fresh]

        print(results.HEAD)
        found: list[list[float]] = [[] for _ in peers]
        for turn in range(given.rounds + 1):  # fresh windows every round, the same for all
            fresh[:] = windows(given.patches)
            once = by_turns(0, epoch(mine), *(epoch(read) for _, read in peers), keep_first=True)
            if turn:
                for all_, one in zip(found, once, strict=True):
                    all_.extend(one)
        rows = [
            results.row("patch of COGs", label, 0, r)
            for (label, _), r in zip(peers, found, strict=True)
        ]
    if given.out is not None:
        results.write(
            given.out,
            "cog_readers",
            rows,
            {"patches": given.patches, "rounds": given.rounds, "cpu": given.cpu},
        )


if __name__ == "__main__":
    main()
