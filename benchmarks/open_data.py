"""Open data with faults on the wire: is anything lost, asked twice, or asked too fast?

Rasters on a loopback server that speaks the providers' protocols (tests/kit_loopback.py) and counts.
The server allows so many requests a second and in flight (429 with Retry-After above), answers
after 50 ms, and refuses 1 % with 429, 2 % with 503 and cuts 1 % short; the other run has no faults.

    python benchmarks/open_data.py --sites 2000 --rate 100 --workers 4
    python benchmarks/open_data.py --sites 500 --rate 30            # the rate sets the pace
    python benchmarks/open_data.py --sites 300 --outage 20          # killed in the middle, back after 20 s

    python benchmarks/open_data.py --sites 200 --rate 60 --allows 25  # we believe what is not so

With `--root DIR` what is there already is kept, and `--case` runs one case of it: a long benchmark
in parts.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from affine import Affine

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from kit_loopback import Loopback, serve  # noqa: E402
from replica import Replica, item  # noqa: E402

from las_builder.catalogs import Catalogs  # noqa: E402
from las_builder.core.grid import Grid, to_lonlat  # noqa: E402
from las_builder.core.workspace import sha256_tree  # noqa: E402

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


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a running process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(server: Loopback, recipe: Path, work: Path, args: argparse.Namespace) -> dict[str, object]:
    """Plan, scenes and fetch; what the server saw of the last two, and how long they took."""
    common = [str(recipe), "--work", str(work), "--count", str(args.sites),
              "--catalogs", str(recipe.parent / "catalogs")]  # fmt: skip
    environ = {**os.environ, "LAS_MIRRORS": server.mirrors, "PYTHONPATH": str(ROOT)}

    def las(stage: str, *more: str) -> float:
        began = time.monotonic()
        command = [sys.executable, "-m", "las_builder.cli", stage, *common, *more]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"las {stage} failed:\n{done.stderr[-2000:]}")
        if stage != "sample":
            print(done.stdout.strip(), flush=True)
        return time.monotonic() - began

    las("sample")
    server.ask("reset")
    before, there = resource.getrusage(resource.RUSAGE_CHILDREN), cpu_of(server.process.pid)
    scenes = las("scenes", "--workers", str(args.workers))
    first: list[dict[str, Any]] = []
    if work.name == "outage":
        wanted = server.seen()["requests"] + args.after

        def vanish() -> None:
            while server.seen()["requests"] < wanted:
                time.sleep(0.1)
            seen, faults = server.vanish()
            time.sleep(args.outage)
            server.come_back(faults)
            first.append(seen)

        threading.Thread(target=vanish, daemon=True).start()
    fetch = las("fetch", "--workers", str(args.workers))
    after, seen = resource.getrusage(resource.RUSAGE_CHILDREN), server.seen()
    for one in first:  # what was counted before the server went
        seen |= {k: max(one[k], seen[k]) for k in ("most_per_second", "most_in_flight")}
        seen |= {k: one[k] + seen[k] for k in ("requests", "answered", "bytes", "over_limit")}
        there = 0.0
    wire = json.loads((work / "wire" / "logs" / "wire.json").read_text())
    cube = work / "wire" / "wire" / "cube.zarr"
    return {k: v for k, v in seen.items() if k != "hosts"} | {
        "seconds": round(scenes + fetch, 1), "scenes_s": round(scenes, 1), "fetch_s": round(fetch, 1),
        "cpu_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "server_cpu_s": round(cpu_of(server.process.pid) - there, 1),
        "allowed": args.allows or args.rate, "failures": wire["failures"],
        "slowed": wire["slowed"], "load": os.getloadavg()[1], "cube": sha256_tree(cube), "sites": args.sites,
        "rate": args.rate, "allowed_in_flight": args.in_flight, "workers": args.workers,
    }  # fmt: skip


CHANCE = {"throttled": 0.01, "unavailable": 0.02, "truncated": 0.01}
WELL = dict.fromkeys(CHANCE, 0.0)
CASES = {"clean": WELL, "faults": CHANCE, "outage": WELL}


def main(
    publish: Callable[[Path], Path] = publish,
    limits: Callable[[Path, float, int], Path] = limits,
) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sites", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--allows", type=float, help="what the server allows, if not the rate")
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument(
        "--outage", type=float, default=0.0, help="seconds without it, instead of faults"
    )
    parser.add_argument("--after", type=int, default=200, help="requests of fetch before it")
    parser.add_argument("--root", type=Path, help="keep everything here, go on from what is there")
    parser.add_argument("--case", choices=list(CASES), help="only this one")
    args = parser.parse_args()
    root = args.root or Path(tempfile.mkdtemp(prefix="open-data-"))
    recipe = root / "wire.yaml"
    if not recipe.exists():
        root.mkdir(parents=True, exist_ok=True)
        publish(root)
        limits(root, args.rate, args.in_flight)
    other = "outage" if args.outage else "faults"
    base = {"latency_ms": 50, "per_second": args.allows or args.rate,
            "in_flight": args.in_flight}  # fmt: skip
    server, kept = serve(root), {}
    try:
        for name in ("clean", other):
            result = root / f"{name}.json"
            if not result.exists() and args.case in (None, name):
                server.set(**base, **CASES[name], gone_until=0.0)
                shutil.rmtree(root / name, ignore_errors=True)
                said = run(server, recipe, root / name, args)
                result.write_text(json.dumps(said, indent=1))
                print(name, json.dumps(said), flush=True)
            if result.exists():
                kept[name] = json.loads(result.read_text())
    finally:
        server.stop()
        if args.root is None:
            shutil.rmtree(root, ignore_errors=True)
    if len(kept) == 2:
        report(kept["clean"], kept[other])


def report(clean: dict[str, Any], other: dict[str, Any]) -> None:
    """Both runs side by side."""
    lost = sum(other["faults"].values())
    print(f"same cube: {clean['cube'] == other['cube']}; of no use: {other['failures']}")
    print(f"requests: {clean['requests']} clean, {other['requests']} with {lost} faults, "
          f"{other['requests'] - lost - clean['requests']} more than needed")  # fmt: skip
    print(f"fetch took {clean['fetch_s']} s, and {other['fetch_s']} s on the bad day: "
          f"{clean['fetch_s'] / other['fetch_s']:.2f} of the speed; with scenes "
          f"{clean['seconds'] / other['seconds']:.2f}")  # fmt: skip
    for name, one in (("clean", clean), ("bad day", other)):
        print(f"{name}: {one['requests'] / one['seconds']:.1f} requests a second of {one['rate']:.0f}; "
              f"most in one second {one['most_per_second']}, in flight {one['most_in_flight']} of "
              f"{one['allowed_in_flight']}; refused for the limits {one['over_limit']}; "
              f"CPU {one['cpu_s']} s, server {one['server_cpu_s']} s")  # fmt: skip


if __name__ == "__main__":
    main()
