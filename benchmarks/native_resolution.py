"""What storing 20 m and 60 m bands as they are would save, on real patches of BigEarthNet.

    python benchmarks/native_resolution.py [../shared/data/bigearthnet_clc]

Each patch has 12 bands of Sentinel-2 L2A at their own resolution (120, 60 and 20 pixels a side). They
are compressed as shards are (differences, Zstandard) as they are, and repeated to 120 pixels, as
shards have them; then both are decoded, the first repeated afterwards, by turns. One thread, CPU.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import numpy as np
import rasterio
from numcodecs import zstd

from las_builder.pack import tiff
from las_builder.pack.encode import ZSTD_LEVEL


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data/bigearthnet_clc")
    patches: dict[str, list[np.ndarray]] = {}
    for path in sorted(folder.rglob("*_B*.tif")):
        with rasterio.open(path) as file:
            patches.setdefault(path.stem.rpartition("_")[0], []).append(file.read(1))
    sizes, spent = [], []
    for bands in patches.values():
        side = max(band.shape[0] for band in bands)
        whole = [
            np.repeat(np.repeat(b, side // b.shape[0], 0), side // b.shape[0], 1) for b in bands
        ]
        packed = [
            [zstd.compress(tiff.differences(b), ZSTD_LEVEL, True) for b in some]
            for some in (bands, whole)
        ]
        sizes.append([sum(map(len, some)) for some in packed])
        out = np.empty((1, side, side), bands[0].dtype)

        def undo(data: bytes, band: np.ndarray, out: np.ndarray = out) -> None:
            target = out.reshape(-1)[: band.size].reshape(1, *band.shape)
            found = tiff.Layout(target.shape, target.dtype, ((0, len(data)),))
            tiff.read_into(data, found, target)

        for _ in range(20):
            start = time.thread_time()
            for data, band in zip(packed[0], bands, strict=True):
                undo(data, band)
                by = side // band.shape[0]
                np.repeat(np.repeat(out.reshape(-1)[: band.size].reshape(band.shape), by, 0), by, 1)
            middle = time.thread_time()
            for data, band in zip(packed[1], whole, strict=True):
                undo(data, band)
            spent.append((time.thread_time() - middle) / (middle - start))
    native, repeated = np.sum(sizes, axis=0)
    print(f"{len(patches)} patches, {native} bytes as they are, {repeated} repeated")
    print(f"repeated / as they are: bytes {repeated / native:.2f}, ", end="")
    print(f"time to decode {statistics.median(spent):.2f}")


if __name__ == "__main__":
    main()
