"""Open data with faults on the wire: is anything lost, asked twice, or asked too fast?

Rasters on a loopback server that speaks the providers' protocols (tests/kit_loopback.py) and counts.
The server allows so many requests a second and in flight (429 with Retry-After above), answers
after 50 ms, and refuses 1 % with 429, 2 % with 503 and cuts 1 % short; the other run has no faults.

    python benchmarks/open_data.py --sites 2000 --rate 100 --workers 4
    python benchmarks/open_data.py --sites 300 --outage 20      # gone for 20 s in the middle
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import yaml
from affine import Affine

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from kit_loopback import Loopback, serve  # noqa: E402
from replica import Replica, item  # noqa: E402

from las_builder.catalogs import Catalogs  # noqa: E402
from las_builder.core.grid import Grid, to_lonlat  # noqa: E402

TILE, STEP, PATCH = 1536, 1440, 64
SIDE = 6
"""Tiles along an edge; they overlap by more than a patch."""

WEST, NORTH, CRS = 600_000, 5_300_040, "EPSG:32632"
BANDS = ["B02", "B03", "B04", "B08"]


def publish(root: Path, side: int = SIDE, tile: int = TILE, step: int = STEP) -> Path:
    """Tiles with a few bands, clear all over, and one label map; the recipe."""
    catalogs, replica = Catalogs.load(), Replica(root)
    imagery = catalogs.imagery("sentinel-2-l2a")
    where = imagery.at("earth-search")
    assert where is not None
    chance = np.random.default_rng(1)
    host = "https://sentinel-cogs.s3.us-west-2.amazonaws.com"
    for row in range(side):
        for column in range(side):
            west, north = WEST + column * step * 10, NORTH - row * step * 10
            id_ = f"S2B_T32TPU_{row}{column}"
            assets = {}
            for name in [*BANDS, "SCL"]:
                k = 2 if name == "SCL" else 1
                grid = Grid(CRS, Affine(10 * k, 0, west, 0, -10 * k, north), tile // k, tile // k)
                fine = chance.integers(1, 3000, (tile // 8, tile // 8)).repeat(8, 0).repeat(8, 1)
                data = np.full(grid.shape, 4, np.uint8) if name == "SCL" else fine.astype(np.uint16)
                key = where.assets.get(name, name)
                href = f"{host}/{id_}/{key}.tif"
                replica.put(href, data, grid, 0, 256)
                assets[key] = {
                    "href": href, "type": "image/tiff", "proj:shape": list(grid.shape),
                    "proj:transform": list(grid.transform)[:6],
                }  # fmt: skip
            said = {
                "datetime": "2021-06-01T10:00:00Z", "eo:cloud_cover": 1.0, "proj:epsg": 32632,
                "s2:processing_baseline": "03.00", "platform": "sentinel-2b",
            }  # fmt: skip
            whole = Grid(CRS, Affine(10, 0, west, 0, -10, north), tile, tile)
            replica.items["earth-search"].append(item(id_, "sentinel-2-l2a", whole, said, assets))
    span = (side - 1) * step + tile
    lon, lat = to_lonlat(
        CRS, np.array([WEST, WEST, WEST + span * 10, WEST + span * 10]),
        np.array([NORTH, NORTH - span * 10] * 2),
    )  # fmt: skip
    pixel = 1 / 12000
    left, top = np.floor(lon.min() * 12000) * pixel, np.ceil(lat.max() * 12000) * pixel
    size = int((top - lat.min()) / pixel), int((lon.max() - left) / pixel)
    codes = chance.choice(
        np.array([10, 30, 40, 50], np.uint8), (size[0] // 16 + 1, size[1] // 16 + 1)
    )
    codes = codes.repeat(16, 0).repeat(16, 1)[: size[0], : size[1]]
    grid = Grid("EPSG:4326", Affine(pixel, 0, left, 0, -pixel, top), size[1], size[0])
    href = "https://ai4edataeuwest.blob.core.windows.net/wc/map.tif"
    replica.put(href, codes, grid, 0, 512)
    replica.items["planetary-computer"].append(item(
        "ESA_WorldCover_10m_2021", "esa-worldcover", grid,
        {"datetime": None, "start_datetime": "2021-01-01T00:00:00Z",
         "end_datetime": "2021-12-31T23:59:59Z", "proj:epsg": 4326, "proj:shape": list(grid.shape),
         "proj:transform": list(grid.transform)[:6], "esa_worldcover:product_version": "2.0.0"},
        {"map": {"href": href, "type": "image/tiff"}},
    ))  # fmt: skip
    replica.write_apis(page=100)
    margin = 0.02
    box = [
        float(v)
        for v in (lon.min() + margin, lat.min() + margin, lon.max() - margin, lat.max() - margin)
    ]
    recipe = {
        "name": "wire", "imagery": "sentinel-2-l2a", "bands": BANDS,
        "labels": ["esa-worldcover-v200"], "taxonomy": "native", "source": "earth-search",
        "patch": {"size": PATCH},
        "sites": {"count": 10, "seed": 1, "spacing_km": 0.65, "region": box,
                  "design": [{"share": 1, "uniform": "land"}]},
        "dates": {"period": "2021-01-01/2022-01-01", "per_site": 1, "patch_min_clear": 0.9},
        "splits": {"train": 18, "val": 1, "test": 1, "block_km": 300, "buffer_km": 1, "seed": 1},
    }  # fmt: skip
    path = root / "wire.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def limits(root: Path, rate: float, in_flight: int) -> Path:
    """Our declarations of providers with the limits that the server enforces."""
    folder = root / "catalogs" / "providers"
    folder.mkdir(parents=True, exist_ok=True)
    for file in (ROOT / "catalogs" / "providers").glob("*.yaml"):
        said = yaml.safe_load(file.read_text())
        for host in said["hosts"]:
            host.update(per_second=rate, in_flight=in_flight)
        (folder / file.name).write_text(yaml.safe_dump(said))
    return folder.parent


def run(server: Loopback, recipe: Path, work: Path, args: argparse.Namespace) -> dict[str, object]:
    """Plan, scenes and fetch; what the server saw of the last two, and how long they took."""
    common = [str(recipe), "--work", str(work), "--count", str(args.sites),
              "--catalogs", str(recipe.parent / "catalogs")]  # fmt: skip
    environ = {**os.environ, "LAS_MIRRORS": server.mirrors, "PYTHONPATH": str(ROOT)}

    def las(stage: str, *more: str) -> None:
        command = [sys.executable, "-m", "las_builder.cli", stage, *common, *more]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"las {stage} failed:\n{done.stderr[-2000:]}")
        if stage != "sample":
            print(done.stdout.strip(), flush=True)

    las("sample")
    server.ask("reset")
    began = time.monotonic()
    las("scenes", "--workers", str(args.workers))
    if args.outage:
        threading.Timer(3.0, lambda: server.set(gone_until=time.time() + args.outage)).start()
    las("fetch", "--workers", str(args.workers))
    seen = server.seen()
    seen["seconds"] = round(time.monotonic() - began, 1)
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sites", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--outage", type=float, default=0.0)
    args = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="open-data-"))
    recipe = publish(root)
    limits(root, args.rate, args.in_flight)
    server = serve(root)
    base = {"latency_ms": 50, "per_second": args.rate, "in_flight": args.in_flight}
    chance = {"throttled": 0.01, "unavailable": 0.02, "truncated": 0.01}
    cases = {"clean": {}, "faults": {} if args.outage else chance}
    results, cubes = {}, {}
    try:
        for name, faults in cases.items():
            server.set(**{**base, **dict.fromkeys(chance, 0.0), **faults})
            args.outage, wanted = (args.outage if name == "faults" else 0.0), args.outage
            results[name] = run(server, recipe, root / name, args)
            args.outage = wanted
            from las_builder.core.workspace import sha256_tree

            cubes[name] = sha256_tree(root / name / "wire" / "wire" / "cube.zarr")
            print(
                name,
                json.dumps({k: v for k, v in results[name].items() if k != "hosts"}),
                flush=True,
            )
    finally:
        server.stop()
        shutil.rmtree(root, ignore_errors=True)
    clean, faulty = results["clean"], results["faults"]
    lost = sum(faulty["faults"].values())
    print(f"same cube: {cubes['clean'] == cubes['faults']}")
    print(f"requests: {clean['requests']} clean, {faulty['requests']} with {lost} faults, "
          f"{faulty['requests'] - lost - clean['requests']} more than needed")  # fmt: skip
    print(f"speed with faults: {clean['seconds'] / faulty['seconds']:.2f} of that without")
    print(f"most a second {faulty['most_per_second']} of {args.rate:.0f}, "
          f"in flight {faulty['most_in_flight']} of {args.in_flight}")  # fmt: skip


if __name__ == "__main__":
    main()
