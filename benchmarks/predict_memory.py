"""Memory of `las predict` beyond the model: 20,000 x 20,000 pixels in less than 2 GiB.

Peak resident memory of the process less what it holds once the model is loaded. Twice: the whole raster
with a rule in place of the model (memory of reading, blending and writing), and as wide a raster of
fewer rows with `nano` itself (its activations too); both keep the same sums, as these grow with the width alone.

    python benchmarks/predict_memory.py [--side 20000] [--rows 1024] [--overlap 0.5] [--work DIR]

`--rows 20000 --overlap 0` is the whole raster with `nano`, in 1,600 windows (0.5: 6,084); most memory of all, as
whole rows of windows are finished at once.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin

from las_builder.catalogs import Catalogs
from las_builder.evaluate.predict import bands_of, colours, predict, write_map
from las_builder.models import checkpoint
from las_builder.models.config import sized
from las_builder.models.segmenter import LandSegmenter

NAMES = [
    "water", "tree cover", "shrubland", "grassland", "cropland", "built-up area", "bare ground",
    "wetland", "snow and ice", "mangroves",
]  # fmt: skip


def resident(key: str) -> float:
    """MiB of this process: VmRSS now, VmHWM at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def raster(path: Path, width: int, height: int) -> Path:
    profile = {
        "driver": "GTiff", "width": width, "height": height, "count": 4, "dtype": "uint16",
        "tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "zstd", "zstd_level": 1,
        "crs": "EPSG:32633", "transform": from_origin(300_000, 5_800_000, 10, 10),
    }  # fmt: skip
    with rasterio.Env(GDAL_CACHEMAX=64), rasterio.open(path, "w", **profile) as file:
        column = (np.arange(width) % 3000).astype(np.uint16)
        for row in range(0, height, 256):
            rows = min(256, height - row)
            data = np.broadcast_to(column + row % 2000, (4, rows, width))
            file.write(data, window=rasterio.windows.Window(0, row, width, rows))
        file.descriptions = ("B02", "B03", "B04", "B08")
    return path


def rule(images: np.ndarray) -> np.ndarray:
    value = np.arange(len(NAMES), dtype=np.float32)[:, None, None] / len(NAMES)
    near = np.exp(-np.square(images[:, :1] * 3 - value))
    return near / near.sum(axis=1, keepdims=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--overlap", type=float, default=0.5, help="of nano's windows")
    parser.add_argument("--work", type=Path)
    asked = parser.parse_args()
    work = asked.work or Path(tempfile.mkdtemp())
    torch.set_num_threads(1)
    catalogs, out = Catalogs.load(), {}
    torch.manual_seed(0)
    weights = work / "nano.safetensors"
    checkpoint.save(LandSegmenter(sized("nano", zoom=1)), weights)
    for name, height in (("rule", asked.side), ("nano", asked.rows)):
        path = raster(work / f"{name}.tif", asked.side, height)
        bands = bands_of(path, imagery=catalogs.imagery("sentinel-2-l2a"))
        model = checkpoint.load(weights)
        forget_peak()
        before, cpu = resident("VmRSS"), time.process_time()
        if name == "rule":
            write_map(path, work / "out.tif", bands, rule, NAMES, colours(NAMES, catalogs))
        else:
            classes = [(n,) for n in NAMES]
            predict(
                weights, path, classes, work / "out.tif", bands, catalogs=catalogs,
                overlap=asked.overlap,
            )  # fmt: skip
        out[name] = {
            "pixels": [asked.side, height], "overlap": asked.overlap if name == "nano" else 0.5,
            "mib_before": round(before),
            "mib_beyond_the_model": round(resident("VmHWM") - before),
            "cpu_s": round(time.process_time() - cpu, 1),
        }  # fmt: skip
        del model
        print(json.dumps(out), flush=True)


if __name__ == "__main__":
    main()
