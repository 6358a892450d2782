"""Looks at validity bands on the web: does reading an overview first, or sites together, save anything?

Scene classifications of the virtual Earth (20 m, one in 8 overviews and coarser, by mode) as COGs on
a loopback server that counts. Sites at least 4 km apart; scenes are looked at in order until one is
clear on 90 % of the patch.

    python benchmarks/validity_looks.py --out /tmp/looks     # 2 CPU minutes the first time

full: windows at full resolution. 1 in 8 first: that overview, then full resolution of scenes that are
not cloudy on it beyond a slack. las scenes: full resolution, sites of one part of one file one after
the other from one open file (`ReadRequest.shared`).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.shutil import copy as copy_raster
from rasterio.windows import Window

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from kit_loopback import serve

from las_builder.access import ReadRequest, SearchRequest, ranges, raster
from las_builder.access.read import read_scenes
from las_builder.access.virtual import VirtualEarth
from las_builder.catalogs import Catalogs
from las_builder.core.grid import Grid
from las_builder.core.types import AssetRef, Chip, Period, Scene

SIDE, SCENES, PATCH, SITES, CLEAR = 2048, 10, 132, 40, 0.9
HOST = "https://sentinel-cogs.s3.us-west-2.amazonaws.com"
Look = Callable[[str, tuple[int, int]], float]


def publish(root: Path, block: int) -> list[str]:
    """COGs of scene classifications, clouds of all kinds; their URLs."""
    imagery, earth = Catalogs.load().imagery("sentinel-2-l2a"), VirtualEarth(Catalogs.load())
    crs, pixel = "EPSG:32632", 20
    grid = Grid(crs, Affine(pixel, 0, 640_020, 0, -pixel, 5_350_020), SIDE, SIDE)
    small = Grid(crs, Affine(10, 0, 660_000, 0, -10, 5_330_040), 64, 64)
    request = SearchRequest(
        site="a", grid=small, period=Period.parse("2021-01-01/2022-01-01"), max_cloud=90
    )
    (found,) = earth.search(imagery, [request])
    scenes = [s for s in found if s.grid.crs == crs and s.grid.contains(small)]
    scenes = [s for s in scenes if (s.cloud_cover or 0) >= 25]
    scenes = sorted(scenes, key=lambda s: (s.cloud_cover or 0, s.id))[:SCENES]
    urls = []
    for scene in scenes:
        url = f"{HOST}/{block}/{scene.id}.tif"
        path = root / url.removeprefix("https://")
        urls.append(url)
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        flat = root / f"{scene.id}.npy"
        if not flat.exists():
            rows = []
            for top in range(0, SIDE, 256):
                t = grid.transform
                part = Grid(crs, Affine(pixel, 0, t.c, 0, -pixel, t.f - top * pixel), SIDE, 256)
                asked = ReadRequest(
                    site="a", scene=scene, grid=part, bands=("SCL",), categorical=True
                )
                (chip,) = earth.read(imagery, [asked])
                rows.append(
                    chip.data[0] if isinstance(chip, Chip) else np.zeros(part.shape, np.uint8)
                )
            np.save(flat, np.concatenate(rows))
        with rasterio.open(
            path.with_suffix(".flat"), "w", driver="GTiff", width=SIDE, height=SIDE, count=1,
            dtype="uint8", crs=crs, transform=grid.transform, nodata=0,
        ) as out:  # fmt: skip
            out.write(np.load(flat), 1)
        copy_raster(
            path.with_suffix(".flat"), path, driver="COG", blocksize=block, compress="deflate",
            overview_resampling="mode",
        )  # fmt: skip
        path.with_suffix(".flat").unlink()
    return urls


def places() -> list[tuple[int, int]]:
    """Rows and columns of patches, no two nearer than 4 km."""
    chance, out = np.random.default_rng(3), []
    while len(out) < SITES:
        at = chance.integers(0, SIDE - PATCH, 2)
        if all(np.hypot(*(at - other)) * 20 >= 4000 for other in out):
            out.append(at)
    return [(int(r), int(c)) for r, c in out]


def clear(data: np.ndarray) -> float:
    return float(np.isin(data, [4, 5, 6, 7, 11]).mean())


def full(url: str, at: tuple[int, int]) -> float:
    try:
        return clear(
            raster.read_pixels(
                raster.open_raster(url), 1, (at[0], at[0] + PATCH), (at[1], at[1] + PATCH)
            )
        )
    finally:
        raster.close_web()


def overview(url: str, at: tuple[int, int], thin: int) -> float:
    try:
        opened = raster.open_raster(url)
        window = Window(at[1], at[0], PATCH, PATCH)
        return clear(
            opened.dataset.read(1, window=window, out_shape=(PATCH // thin, PATCH // thin))
        )
    finally:
        raster.close_web()


def choose(
    urls: list[str], look: Look, before: Look | None, slack: float
) -> tuple[dict[tuple[int, int], str], int]:
    """The first scene of each place that is clear enough; how many looks at full resolution."""
    out, looks = {}, 0
    for at in places():
        for url in urls:
            if before is not None and before(url, at) < CLEAR - slack:
                continue
            looks += 1
            if look(url, at) >= CLEAR:
                out[at] = url
                break
    return out, looks


def as_it_is(urls: list[str], shared: bool) -> tuple[dict[tuple[int, int], str], int]:
    """By `read_scenes`, a round of looks a request as `scenes.pin` does; some sites share reads."""
    imagery = Catalogs.load().imagery("sentinel-2-l2a")
    out: dict[tuple[int, int], str] = {}
    looks = 0
    for url in urls:
        grid = Grid("EPSG:32632", Affine(20, 0, 640_020, 0, -20, 5_350_020), SIDE, SIDE)
        scene = Scene(
            id=url, datetime=datetime(2021, 6, 1, tzinfo=UTC), cloud_cover=None, grid=grid,
            assets={"SCL": AssetRef(href=url, shape=(SIDE, SIDE))},
        )  # fmt: skip
        waiting = [at for at in places() if at not in out]
        for start in range(0, len(waiting), 32):
            some = waiting[start : start + 32]
            asked = [
                ReadRequest(
                    site="a", scene=scene, bands=("SCL",), categorical=True, shared=shared,
                    grid=Grid(
                        grid.crs, Affine(20, 0, 640_020 + 20 * c, 0, -20, 5_350_020 - 20 * r),
                        PATCH, PATCH,
                    ),
                )
                for r, c in some
            ]  # fmt: skip
            for at, chip in zip(some, read_scenes(imagery, asked), strict=True):
                looks += 1
                if isinstance(chip, Chip) and clear(chip.data) >= CLEAR:
                    out[at] = url
    return out, looks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    root = parser.parse_args().out.resolve()
    for block in (512, 1024):
        urls = publish(root, block)
        size = np.mean([(root / u.removeprefix("https://")).stat().st_size for u in urls])
        server = serve(root)
        os.environ["LAS_MIRRORS"] = server.mirrors
        try:
            print(f"blocks of {block}, files of {size / 1e3:.0f} kB, {SITES} sites")
            ways = [("full", partial(choose, urls, full, None, 0.0))]
            for thin in (8, 16):
                for slack in (0.0, 0.1, 0.3):
                    before = partial(overview, thin=thin)
                    name = f"1 in {thin} first, slack {slack}"
                    ways.append((name, partial(choose, urls, full, before, slack)))
            ways.append(("las scenes, unshared", partial(as_it_is, urls, False)))
            ways.append(("las scenes", partial(as_it_is, urls, True)))
            want = None
            for name, way in ways:
                for url in urls:
                    ranges.forget(url)  # every way asks for the headers itself
                server.ask("reset")
                chosen, looks = way()
                seen = server.seen()
                want = want or chosen
                other = sum(chosen.get(at) != url for at, url in want.items())
                other += len(set(chosen) - set(want))
                print(
                    f"  {name}: {looks} looks, {seen['requests']} requests, "
                    f"{seen['bytes'] / 1e6:.2f} MB; {other} of {SITES} sites chosen otherwise"
                )
        finally:
            server.stop()


if __name__ == "__main__":
    main()
