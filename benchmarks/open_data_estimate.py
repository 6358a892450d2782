"""How far `las estimate` is off: our three recipes of open data, against what the server counts.

Files are laid out as the providers' are (blocks, overviews, pixels, bands per file, two dates of
Sentinel-2), smaller, and unevenly full: a third of the ground is flat and costs next to nothing.
Designs are uniform, since a few tiles are all the ground there is.

    python benchmarks/open_data_estimate.py                      # all three
    python benchmarks/open_data_estimate.py las-hr-naip --sites 20
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import yaml
from affine import Affine
from rasterio.shutil import copy as copy_raster

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from kit_loopback import serve  # noqa: E402
from replica import Replica, inner_box, item  # noqa: E402

from las_builder.catalogs import Catalogs  # noqa: E402
from las_builder.core.grid import Grid, transformer  # noqa: E402

CATALOGS = Catalogs.load()
ES, PC, STAC = "earth-search", "planetary-computer", "https://stac.example.org/api"
CHANCE = np.random.default_rng(1)


def rough(rows: int, columns: int, top: int, cell: int) -> np.ndarray:
    """Numbers from 1 to `top`: noise of four bits on a level; in a third of the cells all alike."""
    fine = CHANCE.integers(1, min(top, 16), (rows, columns), np.uint16) + max(0, top // 2 - 16)
    flat = CHANCE.random((rows // cell + 1, columns // cell + 1)) < 1 / 3
    fine[flat.repeat(cell, 0)[:rows].repeat(cell, 1)[:, :columns]] = 1
    return fine


@dataclass
class Ground:
    """Where the files are, and what lists them."""

    replica: Replica

    def cog(self, href: str, data: np.ndarray, grid: Grid, nodata: float | None, block: int) -> None:  # fmt: skip
        """A cloud-optimised GeoTIFF as GDAL makes it, quickly packed."""
        path = self.replica.file(href)
        path.parent.mkdir(parents=True, exist_ok=True)
        cube = data if data.ndim == 3 else data[None]
        with rasterio.MemoryFile() as memory:
            with memory.open(driver="GTiff", count=len(cube), height=grid.height, width=grid.width,
                             dtype=cube.dtype, crs=grid.crs, transform=grid.transform,
                             nodata=nodata) as out:  # fmt: skip
                out.write(cube)
            with memory.open() as source:
                copy_raster(source, path, driver="COG", blocksize=block, compress="deflate", level=1)  # fmt: skip

    def scene(self, provider: str, imagery: str, id_: str, grid: Grid, block: int, day: str,
              clear: int | None, **said: Any) -> None:  # fmt: skip
        """All bands of a scene; those of one asset are one file."""
        declared = CATALOGS.imagery(imagery)
        where = declared.at(provider)
        assert where is not None
        collection, qa = where.collection or imagery, declared.validity.band
        host = "https://sentinel-cogs.s3.us-west-2.amazonaws.com" if provider == ES else "https://imagery.blob.core.windows.net"  # fmt: skip
        keys: dict[str, list[str]] = {}
        for name in [*(b.name for b in declared.bands), *([qa] if qa else [])]:
            keys.setdefault(where.assets.get(name, name), []).append(name)
        assets = {}
        for key, names in keys.items():
            gsd = declared.validity.gsd if names[0] == qa else declared.band(names[0]).gsd
            k = max(1, round((gsd or grid.pixel[0]) / grid.pixel[0]))
            own = Grid(
                grid.crs, grid.transform * Affine.scale(k), grid.width // k, grid.height // k
            )
            top = 255 if declared.dtype == np.uint8 else 4000
            layers = [rough(*own.shape, top, 700 // k).astype(declared.dtype) for _ in names]
            data = np.stack(layers)
            if names[0] == qa:
                data = np.full(data.shape, clear, np.uint16 if clear and clear > 255 else np.uint8)
            href = f"{host}/{collection}/{id_}/{key}.tif"
            self.cog(href, data, own, declared.nodata, block)
            assets[key] = {"href": href, "type": "image/tiff", "proj:shape": list(own.shape),
                           "proj:transform": list(own.transform)[:6]}  # fmt: skip
        properties = {"datetime": f"{day}T10:00:00Z", "eo:cloud_cover": 1.0,
                      "proj:epsg": int((grid.crs or "")[5:]), **said}  # fmt: skip
        self.replica.items[provider].append(item(id_, collection, grid, properties, assets))

    def again(self, provider: str, id_: str, other: str, day: str) -> None:
        """The same files as another scene of another day."""
        (first,) = [i for i in self.replica.items[provider] if i["id"] == id_]
        said = json.loads(json.dumps(first).replace(id_, other))
        said["properties"]["datetime"] = f"{day}T10:00:00Z"
        for mine, theirs in zip(said["assets"].values(), first["assets"].values(), strict=True):
            there = self.replica.file(mine["href"])
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.replica.file(theirs["href"]), there)
        self.replica.items[provider].append(said)

    def labels(self, product: str, provider: str, crs: str, around: Grid, pixel: float, block: int,
               years: str) -> None:  # fmt: skip
        """One map around a place, in a CRS of its own."""
        declared = CATALOGS.label(product)
        where = declared.at(provider)
        assert where is not None
        west, south, east, north = around.bounds
        there = transformer(around.crs or "", crs)
        x, y = there.transform([west, west, east, east], [south, north, north, south])
        spare = 50 * pixel
        left, top = np.floor((min(x) - spare) / pixel) * pixel, np.ceil((max(y) + spare) / pixel) * pixel  # fmt: skip
        shape = (int((top - min(y) + spare) / pixel), int((max(x) + spare - left) / pixel))
        codes = np.array(sorted(declared.codes - {declared.nodata}))
        data = codes[rough(*shape, len(codes), 700) % len(codes)].astype(declared.dtype)
        grid = Grid(crs, Affine(pixel, 0, left, 0, -pixel, top), shape[1], shape[0])
        href = f"https://maps.blob.core.windows.net/{product}/map.tif"
        self.cog(href, data, grid, declared.nodata, block)
        first, _, last = years.partition("/")
        said = {
            "datetime": None, "start_datetime": f"{first}-01-01T00:00:00Z",
            "end_datetime": f"{last or first}-12-31T23:59:59Z", "proj:epsg": int(crs[5:]),
            "proj:shape": list(shape), "proj:transform": list(grid.transform)[:6],
            **{k: v[0] if isinstance(v, list) else v for k, v in where.match.items()},
        }  # fmt: skip
        asset = {where.assets.get("codes", "codes"): {"href": href, "type": "image/tiff"}}
        collection = where.collection or product
        self.replica.items[provider].append(
            item(f"{product}-{first}", collection, grid, said, asset)
        )


def s2_worldcover(ground: Ground) -> tuple[Grid, float, str]:
    """A quarter of a tile of Sentinel-2 on two dates, blocks of 1024; WorldCover, annual LULC."""
    grid = Grid("EPSG:32632", Affine(10, 0, 600_000, 0, -10, 5_300_040), 5460, 5460)
    said = {"s2:processing_baseline": "03.00", "platform": "sentinel-2a"}
    ground.scene(ES, "sentinel-2-l2a", "S2A_1", grid, 1024, "2021-05-01", 4, **said)
    ground.again(ES, "S2A_1", "S2A_2", "2021-09-01")
    ground.labels("esa-worldcover-v200", PC, "EPSG:4326", grid, 1 / 12000, 1024, "2021")
    ground.labels("io-lulc-annual", PC, "EPSG:32632", grid, 10, 512, "2021")
    return grid, 4.0, ES


def l89_nlcd(ground: Ground) -> tuple[Grid, float, str]:
    """A quarter of a scene of Landsat, blocks of 256; NLCD and WorldCover."""
    grid = Grid("EPSG:32614", Affine(30, 0, 600_015, 0, -30, 4_500_015), 3900, 3900)
    ground.scene(PC, "landsat-c2-l2", "LC08_X", grid, 256, "2021-06-01", 21824, platform="landsat-8")  # fmt: skip
    ground.labels("nlcd", "stac", "EPSG:5070", grid, 30, 512, "2021")
    ground.labels("esa-worldcover-v200", PC, "EPSG:4326", grid, 1 / 12000, 1024, "2021")
    return grid, 8.2, f"{PC},{STAC}"


def hr_naip(ground: Ground) -> tuple[Grid, float, str]:
    """Nine tiles of NAIP of 3 km at 1 m, four bands a file, blocks of 512; NLCD, Chesapeake, CDL."""
    whole = Grid("EPSG:26914", Affine(1, 0, 690_000, 0, -1, 4_520_000), 9000, 9000)
    for row in range(3):
        for column in range(3):
            place = Affine(1, 0, 690_000 + 2900 * column, 0, -1, 4_520_000 - 2900 * row)
            tile = Grid(whole.crs, place, 3200, 3200)
            ground.scene(PC, "naip", f"m_{row}{column}", tile, 512, "2013-07-01", None, gsd=1.0)
    ground.labels("nlcd", "stac", "EPSG:5070", whole, 30, 512, "2013")
    ground.labels("chesapeake-lc13", PC, "EPSG:5070", whole, 1, 512, "2013/2014")
    ground.labels("usda-cdl", PC, "EPSG:5070", whole, 30, 512, "2013")
    return whole, 0.75, f"{PC},{STAC}"


RECIPES: dict[str, Callable[[Ground], tuple[Grid, float, str]]] = {
    "las-s2-worldcover": s2_worldcover, "las-l89-nlcd": l89_nlcd, "las-hr-naip": hr_naip,
}  # fmt: skip


SITES = {"las-s2-worldcover": 30, "las-l89-nlcd": 30, "las-hr-naip": 24}


def measure(name: str, sites: int, workers: int) -> dict[str, Any]:
    """Estimated and counted requests and bytes of `las fetch` of one recipe."""
    root = Path(tempfile.mkdtemp(prefix="estimate-"))
    ground = Ground(Replica(root))
    whole, spacing, source = RECIPES[name](ground)
    ground.replica.write_apis(page=100)
    said = yaml.safe_load((ROOT / "pipelines" / f"{name}.yaml").read_text())
    said["sites"] = {"count": sites, "seed": 7, "spacing_km": spacing,
                     "region": inner_box(whole, 0.06),
                     "design": [{"share": 1, "uniform": "land"}]}  # fmt: skip
    said["splits"] = {"train": 18, "val": 1, "test": 1, "block_km": 300, "buffer_km": 1, "seed": 1}
    recipe = root / f"{name}.yaml"
    recipe.write_text(yaml.safe_dump(said))
    server = serve(root)
    environ = {**os.environ, "LAS_MIRRORS": server.mirrors, "PYTHONPATH": str(ROOT)}

    def las(stage: str) -> str:
        more = [] if stage == "sample" else ["--workers", str(workers)]
        command = [sys.executable, "-m", "las_builder.cli", stage, str(recipe), "--work",
                   str(root / "work"), "--source", source, *more]  # fmt: skip
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"las {stage} failed:\n{done.stderr[-2000:]}")
        return done.stdout.strip() + done.stderr[-400:]

    try:
        las("sample")
        las("scenes")
        print(las("estimate"), flush=True)
        server.ask("reset")
        told = las("fetch").splitlines()
        seen = server.seen()
        log = server.ask("log")["log"]
        logs = root / "work" / name / "logs"
        guess = json.loads((logs / "estimate.json").read_text())[name]
    finally:
        server.stop()
        shutil.rmtree(root, ignore_errors=True)
    headers = sum(line[2] == "bytes=0-32767" for line in log)
    return {
        "recipe": name, "sites": sites, "patches": guess["patches"], "workers": workers,
        "requests": [guess["requests"], seen["requests"]], "bytes": [guess["bytes"], seen["bytes"]],
        "headers": headers, "ranges": sum(bool(line[2]) for line in log) - headers,
        "others": Counter(line[1].partition("?")[0][-50:] for line in log if not line[2]),
        "told": [line for line in told if "over the wire" in line],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipes", nargs="*", default=list(RECIPES))
    parser.add_argument(
        "--sites", type=int, help="else as many as the ground holds: 30, of NAIP 24"
    )
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    for name in args.recipes:
        one = measure(name, args.sites or SITES[name], args.workers)
        print(json.dumps(one), flush=True)
        for what in ("requests", "bytes"):
            guess, counted = one[what]
            print(f"{name}: {what} {guess:,} estimated, {counted:,} counted: {guess / counted - 1:+.1%}")  # fmt: skip


if __name__ == "__main__":
    main()
