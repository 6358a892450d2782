"""How fast patches are read from COGs, against other readers of the same files in the same process.

    las build benchmarks/shards.yaml --work work            # the pixels
    work/peers/bin/pip install odc-stac stackstac async-geotiff torchgeo rslearn imagecodecs uvicorn
    work/peers/bin/python benchmarks/cog_readers.py work/shards [--rounds 5] [--patches 8] [--cpu]

Scenes are mosaics of patches of the virtual Earth, 2112 x 2112 pixels of 10 m, one COG a band at 10,
20 or 60 m (tiles of 512, deflate, predictor 2, overviews): the layout of Sentinel-2 on Earth Search. A
patch is 264 x 264 of 13 bands, coarse ones repeated, read alone. All readers get the same windows by
turns, fresh ones each round; their pixels are compared with rasterio's before anything is timed. A peer
that is not installed is left out and named. The limit is libdeflate on the tiles that a window needs, whole, in
memory, into one buffer, predictor and all that comes after left out.

Files are on disk, in the cache of the system, then on a server of the loopback (tests/kit_loopback.py),
at once and `--latency` ms late. There every reader has URLs of its own, as GDAL's are cached for
the whole process; what can read its bands side by side does so, 16 at once; `bytes` is what the server sent
over what it sent ours. Requests and bytes a patch are in the JSON. The server's CPU is on the
clock, not in `--cpu`.

`rasterio, kept open` is the peer of the table in docs: datasets kept open, a block cache of 16 MB. Ours is
`access.read`, which also checks each file against its item. rslearn is its `DirectMaterializeDataSource`, from
which its readers of Earth Search and Planetary Computer are made, without the writing of windows.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

os.environ.update(
    GDAL_CACHEMAX="16", GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", GDAL_NUM_THREADS="1"
)
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np
import rasterio
import results
import shards
from affine import Affine
from kit_loopback import Loopback, serve
from rasterio.shutil import copy as copy_raster
from rasterio.windows import Window

from las_builder.access import ReadRequest, wire
from las_builder.access.limit import Limit
from las_builder.access.read import read_scenes
from las_builder.catalogs import Catalogs
from las_builder.core.grid import Grid
from las_builder.core.types import AssetRef, Chip, Scene

SIDE, PATCH, SCENES = 2112, 264, 3
IN_FLIGHT = 16
CRS, WEST, NORTH = "EPSG:32631", 600000.0, 5000040.0
FACTOR = {
    **dict.fromkeys(("B02", "B03", "B04", "B08"), 1), **dict.fromkeys(("B01", "B09"), 6),
    **dict.fromkeys(("B05", "B06", "B07", "B8A", "B11", "B12", "SCL"), 2),
}  # fmt: skip
Window4 = tuple[int, int, int]
"""Scene, row and column of a patch."""

Read = Callable[[Window4], np.ndarray]
Make = Callable[[str, int], Read]
"""From where the scenes are (a folder or a URL) and how many bands to read at once."""


def archive(workspace: Path, folder: Path) -> None:
    """The COGs, SCENE/BAND.tif."""
    samples = shards.read_samples(workspace, 64)
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


def with_rasterio(base: str, at_once: int, *, keep: bool) -> Read:
    kept: dict[tuple[int, str], Any] = {}
    pool = ThreadPoolExecutor(at_once)

    def one(window: Window4, band: str, factor: int) -> np.ndarray:
        scene, row, column = window
        file = kept.get((scene, band)) or rasterio.open(f"{base}/{scene}/{band}.tif")
        if keep:
            kept[scene, band] = file
        part = Window(column // factor, row // factor, PATCH // factor, PATCH // factor)
        data = file.read(1, window=part).repeat(factor, 0).repeat(factor, 1)
        if not keep:
            file.close()
        return np.asarray(data)

    def read(window: Window4) -> np.ndarray:
        run = pool.map if at_once > 1 else map
        return np.stack(list(run(lambda b: one(window, *b), FACTOR.items())))

    return read


def ours(base: str, at_once: int) -> Read:
    del at_once  # as it does: in turn on disk, side by side on the web
    # Others know no limit; ours asks a host that nothing is known of a hundred times a second.
    wire.know((wire.Host("127.0.0.1:*", Limit(per_second=10_000, in_flight=IN_FLIGHT)),))
    imagery = Catalogs.load().imagery("sentinel-2-l2a")
    whole = Grid(CRS, Affine(10, 0, WEST, 0, -10, NORTH), SIDE, SIDE)
    scenes = [
        Scene(
            id=str(n), datetime=datetime(2021, 6, 1, tzinfo=UTC), cloud_cover=0.0, grid=whole,
            assets={band: AssetRef(href=f"{base}/{n}/{band}.tif") for band in FACTOR},
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


def items(base: str) -> list[Any]:
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
                f"{base}/{n}/{band}.tif",
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


def with_odc(base: str, at_once: int) -> Read:
    import odc.stac
    from odc.geo.geobox import GeoBox

    known = items(base)

    def read(window: Window4) -> np.ndarray:
        grid = grid_of(window)
        box = GeoBox(grid.shape, grid.transform, CRS)
        found = odc.stac.load([known[window[0]]], bands=list(FACTOR), geobox=box, pool=at_once)
        return np.stack([found[band].values[0] for band in FACTOR])

    return read


def with_stackstac(base: str, at_once: int) -> Read:
    import dask
    import stackstac

    known = items(base)

    def read(window: Window4) -> np.ndarray:
        west, south, east, north = grid_of(window).bounds
        found = stackstac.stack(
            [known[window[0]].to_dict()], assets=list(FACTOR), epsg=int(CRS[5:]), resolution=10,
            bounds=(west, south, east, north), dtype="uint16", fill_value=np.uint16(0),
            rescale=False, snap_bounds=False,
        )  # fmt: skip
        how = {"scheduler": "threads", "num_workers": at_once}
        with dask.config.set(how if at_once > 1 else {"scheduler": "synchronous"}):
            return np.asarray(found.compute().values[0])

    return read


def with_async_geotiff(base: str, at_once: int) -> Read:
    import async_geotiff
    from obstore.store import HTTPStore, LocalStore

    del at_once  # all bands of a patch
    far = base.startswith("http")
    store = HTTPStore(base, client_options={"allow_http": True}) if far else LocalStore(base)
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


def with_torchgeo(base: str, at_once: int) -> Read:
    import torch
    from torchgeo.datasets import RasterDataset

    del at_once  # one band after the other

    class Scenes(RasterDataset):  # type: ignore[misc]
        filename_glob = "B02.tif"
        filename_regex = r"(?P<band>[0-9A-Z]+)\.tif"
        separate_files = True
        all_bands = tuple(FACTOR)
        dtype = torch.int32  # as it is, no resampling in between

    kept = [Scenes([f"{base}/{n}/B02.tif"]) for n in range(SCENES)]

    def read(window: Window4) -> np.ndarray:
        west, south, east, north = grid_of(window).bounds
        found = kept[window[0]][west:east:10, south:north:10]
        return np.asarray(found["image"].numpy().astype(np.uint16))

    return read


def with_rslearn(base: str, at_once: int) -> Read:
    from rasterio.enums import Resampling
    from rslearn.data_sources import Item
    from rslearn.data_sources.direct_materialize_data_source import DirectMaterializeDataSource
    from rslearn.utils.geometry import Projection, STGeometry
    from shapely.geometry import box

    del at_once  # one band after the other
    projection = Projection(rasterio.CRS.from_string(CRS), 10, -10)

    class Scenes(DirectMaterializeDataSource):  # type: ignore[misc, type-arg]
        def get_asset_url(self, item: Item, asset_key: str) -> str:
            return f"{base}/{item.name}/{asset_key}.tif"

        def get_items(self, *_: Any) -> Any:
            raise NotImplementedError

        deserialize_item = get_items

    source = Scenes({band: [band] for band in FACTOR})
    x, y = round(WEST / 10), round(-NORTH / 10)
    whole = STGeometry(projection, box(x, y, x + SIDE, y + SIDE), None)
    known = [Item(str(n), whole) for n in range(SCENES)]

    def read(window: Window4) -> np.ndarray:
        scene, row, column = window
        bounds = (x + column, y + row, x + column + PATCH, y + row + PATCH)
        found = [
            source.read_raster("s2", known[scene], [band], projection, bounds, Resampling.nearest)
            for band in FACTOR
        ]
        return np.stack([one.array[0, 0] for one in found])

    return read


def inflating(folder: Path) -> Callable[[Window4], None]:
    from imagecodecs import deflate_decode

    tiles: dict[tuple[int, str], tuple[int, dict[tuple[int, int], bytes]]] = {}
    for path in folder.glob("*/*.tif"):
        data = path.read_bytes()
        with rasterio.open(path) as file:
            side = file.block_shapes[0][0]
            across = range(-(-file.width // side))
            place = {
                (y, x): [
                    int(file.get_tag_item(f"BLOCK_{k}_{x}_{y}", "TIFF", bidx=1))
                    for k in ("OFFSET", "SIZE")
                ]
                for y in across for x in across
            }  # fmt: skip
        found = {at: data[start : start + size] for at, (start, size) in place.items()}
        tiles[int(path.parent.name), path.stem] = side, found
    buffer = bytearray(2 * 512 * 512)

    def read(window: Window4) -> None:
        scene, row, column = window
        for band, factor in FACTOR.items():
            side, found = tiles[scene, band]
            first, last = (
                [(at + more) // factor // side for at in (row, column)] for more in (0, PATCH - 1)
            )
            for y in range(first[0], last[0] + 1):
                for x in range(first[1], last[1] + 1):
                    deflate_decode(found[y, x], out=buffer)

    return read


MAKE: dict[str, Make] = {
    "ours": ours,
    "rasterio, kept open": partial(with_rasterio, keep=True),
    "rasterio, opened a patch": partial(with_rasterio, keep=False),
    "odc-stac": with_odc,
    "stackstac": with_stackstac,
    "async-geotiff": with_async_geotiff,
    "torchgeo": with_torchgeo,
    "rslearn": with_rslearn,
}


def readers(base: Callable[[str], str], at_once: int) -> Iterator[tuple[str, Read]]:
    """Those that are installed, ours first."""
    for name, make in MAKE.items():
        try:
            yield name, make(base(name), at_once)
        except (ImportError, RuntimeError) as problem:  # torchvision of another torch
            print(f"{name} is left out: {problem}")


def windows(rng: np.random.Generator, n: int) -> list[Window4]:
    corner = 60 // 10 * rng.integers(0, (SIDE - PATCH) // 6, (n, 2))
    return [
        (int(s), int(r), int(c))
        for s, (r, c) in zip(rng.integers(0, SCENES, n), corner, strict=True)
    ]


def compared(
    what: str, known: list[tuple[str, Read]], rounds: int, patches: int,
    server: Loopback | None = None, limits: Sequence[tuple[str, Callable[[Window4], None]]] = (),
) -> Iterator[tuple[results.Row, dict[str, float]]]:  # fmt: skip
    """A row of each peer and limit, and what a patch took of the server."""
    rng = np.random.default_rng(1)
    for window in windows(rng, 4):
        want = dict(known)["rasterio, kept open"](window)
        for label, read in known:
            if not np.array_equal(read(window), want):
                raise SystemExit(f"{label} reads other pixels than rasterio at {window}")
    fresh: list[Window4] = []
    every = [*known, *limits]
    asked = {label: np.zeros(2) for label, _ in every}

    def epoch(label: str, read: Callable[[Window4], object]) -> float:
        before = server.seen() if server else {"requests": 0, "bytes": 0}
        start = shards.clock()
        for window in fresh:
            read(window)
        took = shards.clock() - start
        after = server.seen() if server else before
        asked[label] += [after[k] - before[k] for k in ("requests", "bytes")]
        return took

    def begin() -> None:
        fresh[:] = windows(rng, patches)

    work = [partial(epoch, label, read) for label, read in every]
    found = shards.by_turns(rounds, work[0], *work[1:], begin=begin)
    n = patches * (rounds + 1)
    for (label, _), ratios in zip(every[1:], found, strict=True):
        share = asked[label][1] / asked["ours"][1] if server else 0
        took = {
            f"{who}: {what} a patch": float(count / n)
            for who in ("ours", label)
            for what, count in zip(("requests", "bytes"), asked[who], strict=True)
        }
        yield results.row(f"COGs, {what}", label, 0, ratios, size=share), took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--patches", type=int, default=8, help="a round; half as many over HTTP")
    parser.add_argument("--latency", type=float, default=30, help="ms of each answer")
    parser.add_argument("--cpu", action="store_true", help="CPU seconds in place of the clock")
    parser.add_argument("--out", type=Path, help="folder of JSON and plot")
    given = parser.parse_args()
    shards.CPU = given.cpu
    rows: list[results.Row] = []
    served: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(dir=given.workspace.parent) as name:
        folder = Path(name).resolve()  # odc-stac takes no relative path
        archive(given.workspace, folder / "cogs")
        print(results.HEAD)
        known = list(readers(lambda _: str(folder / "cogs"), 1))
        bare = ("bare inflate of the tiles", inflating(folder / "cogs"))
        found = compared("disk", known, given.rounds, given.patches, limits=[bare])
        rows += [row for row, _ in found]
        server = serve(folder)
        try:
            for late in (0.0, given.latency):
                server.set(latency_ms=late)

                def base(label: str, late: float = late) -> str:
                    own = folder / re.sub(r"\W+", "-", f"{label} {late:g}")
                    own.symlink_to("cogs")
                    return f"http://127.0.0.1:{server.port}/{own.name}"

                what = f"HTTP {late:g} ms"
                known = list(readers(base, IN_FLIGHT))
                for row, took in compared(
                    what, known, given.rounds, max(1, given.patches // 2), server
                ):
                    rows.append(row)
                    served.setdefault(what, {}).update(took)
        finally:
            server.stop()
    if given.out is not None:
        about = {"patches": given.patches, "rounds": given.rounds, "cpu": given.cpu}
        results.write(given.out, "cog_readers", rows, {**about, "served": served})


if __name__ == "__main__":
    main()
