"""How fast labels are looked up, regridded and counted, against peers in the same run.

    python benchmarks/labels_speed.py [--repeat 15]

Bars: crosswalk look-up at least 0.25x memcpy of the same bytes and 5x NumPy indexing; majority at
least 2x GDAL's mode; confusion counting at least 3x `np.bincount(a * 101 + b)`. Every figure is a
ratio of medians, ours and the peer's by turns. Ours and NumPy use one thread; GDAL is run with
one and with two, and the quicker median is taken. Times are of the clock for GDAL and ours against
it, and CPU seconds of the thread for the rest, so that a busy machine does not decide; for majority the
ratio of CPU seconds to GDAL on one thread is said too.

Label maps are of two kinds: noise in squares of `blob` product pixels (1 and 2 are the worst that
can be met: hardly a pixel is of one code) and, with 16, like a real map.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from affine import Affine
from pyproj import Transformer
from rasterio.warp import Resampling, reproject

from las_builder.core.grid import Grid
from las_builder.core.types import LabelSource
from las_builder.harmonise.count import confusion, count_pairs
from las_builder.harmonise.lookup import look_up
from las_builder.harmonise.regrid import regrid

WORLDCOVER = [10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100]
MANY = list(range(1, 135))
"""As many codes as the Cropland Data Layer has: too many to compare with each."""

BLOCK = 96 * 2**20
"""Bytes of a block, which no cache holds."""


def medians(
    repeat: int, clock: Callable[[], float], *work: Callable[[], object], times: int = 1
) -> list[float]:
    """Median seconds of each, run by turns after one run unseen; each turn is `times` runs, since
    a clock of CPU seconds costs as much as copying a patch."""
    seconds: list[list[float]] = [[] for _ in work]
    for turn in range(repeat + 1):
        for i, one in enumerate(work):
            start = clock()
            for _ in range(times):
                one()
            if turn:
                seconds[i].append((clock() - start) / times)
    return [statistics.median(taken) for taken in seconds]


def look_ups(repeat: int) -> None:
    rng = np.random.default_rng(1)
    for dtype, known in ((np.uint8, WORLDCOVER), (np.uint16, WORLDCOVER), (np.uint8, MANY)):
        table = {code: i for i, code in enumerate(known)}
        legend = np.array(known, dtype)
        for name, size in (("a block", BLOCK // legend.itemsize), ("a patch", 264 * 264)):
            codes = legend[rng.integers(0, len(known), size, dtype=np.uint8)]
            copy = np.zeros_like(codes)
            dense = np.zeros(1 << 8 * legend.itemsize, np.uint8)
            dense[list(table)] = list(table.values())
            ours, memcpy, index, take = medians(
                max(3, repeat // 3) if size > 1e6 else 10 * repeat, time.thread_time,
                lambda c=codes, t=table: look_up(c, t), lambda c=codes, d=copy: np.copyto(d, c),
                lambda c=codes, d=dense: d[c], lambda c=codes, d=dense: np.take(d, c),
                times=1 if size > 1e6 else 20,
            )  # fmt: skip
            print(
                f"look-up of {name} of {np.dtype(dtype)}, {len(known)} codes: {memcpy / ours:.2f}x memcpy, "
                f"{min(index, take) / ours:.1f}x NumPy ({1e9 * ours / size:.2f} ns a pixel)"
            )


def maps(blob: int, shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    h, w = (-(-n // blob) for n in shape)
    small = np.random.default_rng(seed).integers(0, 11, (h, w))
    codes = np.array(WORLDCOVER, np.uint8)[small]
    return np.kron(codes, np.ones((blob, blob), np.uint8))[: shape[0], : shape[1]]


def under(grid: Grid) -> Grid:
    """The window of WorldCover's lattice below a patch."""
    west, south, east, north = grid.bounds
    to = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    lon, lat = to.transform([west, west, east, east], [south, north, south, north])
    px = 1 / 12000
    col, row = int(min(lon) / px) - 2, int(max(lat) / px) + 3
    return Grid(
        "EPSG:4326", Affine(px, 0, col * px, 0, -px, row * px),
        int(max(lon) / px) + 3 - col, row - int(min(lat) / px) + 2,
    )  # fmt: skip


def majorities(repeat: int) -> None:
    grid = Grid("EPSG:32633", Affine(30, 0, 500010, 0, -30, 4431000), 264, 264)
    aligned = Grid("EPSG:32633", Affine(10, 0, 499980, 0, -10, 4431030), 798, 798)
    edge = Grid("EPSG:32633", Affine(30, 0, 720000, 0, -30, 4431000), 264, 264)
    north = Grid("EPSG:32633", Affine(30, 0, 660000, 0, -30, 6660000), 264, 264)
    for name, grid, there in (  # noqa: B020
        ("10 m to 30 m, one CRS", grid, aligned),
        ("WorldCover to 30 m UTM, 40 N, middle of the zone", grid, under(grid)),
        ("WorldCover to 30 m UTM, 40 N, edge of the zone", edge, under(edge)),
        ("WorldCover to 30 m UTM, 60 N, edge of the zone", north, under(north)),
    ):
        for blob in (1, 2, 16):
            codes = maps(blob, there.shape)
            source = LabelSource(product="p", version="v", grid=there, codes=codes, nodata=0)
            out = np.zeros(grid.shape, np.uint8)

            def gdal(threads: int, grid=grid, there=there, codes=codes, out=out) -> None:
                reproject(
                    codes, out, src_transform=there.transform, src_crs=there.crs,
                    dst_transform=grid.transform, dst_crs=grid.crs, src_nodata=0, dst_nodata=0,
                    resampling=Resampling.mode, num_threads=threads,
                )  # fmt: skip

            ours, one, two = medians(
                repeat, time.perf_counter,
                lambda s=source, grid=grid: regrid(s, grid, nodata=0, dtype="uint8"),
                lambda g=gdal: g(1), lambda g=gdal: g(2),
            )  # fmt: skip
            spent, theirs = medians(
                repeat, time.thread_time,
                lambda s=source, grid=grid: regrid(s, grid, nodata=0, dtype="uint8"), lambda g=gdal: g(1),
            )  # fmt: skip
            print(
                f"majority, {name}, squares of {blob}: {min(one, two) / ours:.2f}x GDAL "
                f"({1e3 * ours:.1f} ms a patch); {theirs / spent:.2f}x by CPU seconds"
            )


def counts(repeat: int) -> None:
    for name, shape in (("a block", (8000, 8000)), ("a patch", (264, 264))):
        for blob in (1, 16):
            a, b = maps(blob, shape, 1), maps(blob, shape, 2)
            valid = np.random.default_rng(3).random(shape) < 0.8
            n, times = (max(3, repeat // 3), 1) if a.size > 1e6 else (5 * repeat, 20)
            ours, masked, peer, peer_masked = medians(
                n, time.thread_time,
                lambda a=a, b=b: count_pairs(a, b),
                lambda a=a, b=b, v=valid: count_pairs(a, b, valid=v),
                lambda a=a, b=b: np.bincount((a.astype(np.intp) * 101 + b).ravel()),
                lambda a=a, b=b, v=valid: np.bincount(a[v].astype(np.intp) * 101 + b[v]),
                times=times,
            )  # fmt: skip
            i, j = a // 10, b // 10
            table, flat = medians(
                n, time.thread_time,
                lambda i=i, j=j: confusion(i, j, (11, 11)),
                lambda i=i, j=j: np.bincount((i.astype(np.intp) * 11 + j).ravel()),
                times=times,
            )  # fmt: skip
            print(
                f"counting {name}, squares of {blob}: pairs {peer / ours:.1f}x, with a mask "
                f"{peer_masked / masked:.1f}x, classes {flat / table:.1f}x bincount"
            )


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--repeat", type=int, default=15)
    repeat = options.parse_args().repeat
    look_ups(repeat)
    majorities(repeat)
    counts(repeat)
