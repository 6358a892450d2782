"""What is a trained model worth where there is some labelled data? Asked as it is, probed, tuned; 1, 10 and 100 % of 100 tiles.

    python benchmarks/transfer.py MODEL [--work /tmp/transfer]

100 tiles of 64 x 64 to learn from and 40 to score, Sentinel-2 L2A, of **another** virtual Earth than the model was trained
on (seed 9), in WorldCover's classes under other names; labels are the truth, as those of public benchmarks are meant to be. Beside
MODEL the same is done with a model of its size that has learnt nothing. Everything is `las evaluate`; tiles, scores and runs are
kept in --work, so that a killed run goes on. One thread, some 7 CPU minutes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from las_builder.access import ReadRequest, SearchRequest
from las_builder.access.virtual import VirtualEarth
from las_builder.catalogs import Catalogs
from las_builder.core.types import Chip, Period
from las_builder.core.workspace import write_bytes
from las_builder.evaluate.transfer import Transfer
from las_builder.evaluate.zero_shot import evaluate
from las_builder.models import checkpoint
from las_builder.models.segmenter import LandSegmenter
from las_builder.pack.encode import class_tiff, image_tiff

SIDE, TRAIN, TEST, WORLD = 64, 100, 40, 9
TUNING = ("steps=60", "batch=16", "crop=32", "warmup=10", "workers=0", "ema=0.9", "save_every=20")
SEEDS = {0.01: (0, 1, 2), 0.1: (0, 1, 2), 1.0: (0,)}
NAMES = {
    10: "[woodland, trees]", 20: "[scrub, bushes]", 30: "[meadow, pasture]", 40: "[farmland, fields]",
    50: "[houses and streets]", 60: "[bare soil, rock]", 70: "[snow]", 80: "[lake, river]",
    90: "[marsh, bog]", 95: "[mangroves]", 100: "[moss, lichen]",
}  # fmt: skip
BANDS = {
    "B01": 0.443, "B02": 0.49, "B03": 0.56, "B04": 0.665, "B05": 0.704, "B06": 0.74, "B07": 0.783,
    "B08": 0.842, "B8A": 0.865, "B09": 0.945, "B11": 1.61, "B12": 2.19,
}  # fmt: skip


def declared(home: Path) -> Catalogs:
    """The set, as a user declares it."""
    bands = "\n".join(
        f"    - {{name: {name}, eo:center_wavelength: {wave}, gsd: 10, raster:scale: 0.0001}}"
        for name, wave in BANDS.items()
    )
    files = {
        "imports/elsewhere.yaml": f"""title: Another virtual Earth
version: "1"
license: CC0-1.0
attribution: made up
obtain: "python benchmarks/transfer.py"
gsd: 10
images:
  platforms: [sentinel-2a]
  data_type: uint16
  level: surface
  rgb: [B04, B03, B02]
  bands:
{bands}
  files: [{{path: "{{division}}/{{tile}}.tif", bands: [{", ".join(BANDS)}]}}]
masks:
  encoding: codes
  files: [{{path: "{{division}}-truth/{{tile}}.tif"}}]
  nodata: 0
parts: {{division: "train|test"}}
place: [tile]
splits: {{part: division, names: {{train: train, test: test}}}}
date: {{day: 2021-07-01}}
basis: cover
legend: esa-worldcover-v200
verified: true
sources: [made up]
""",
        "benchmarks/elsewhere.yaml": """title: Another virtual Earth
kind: unlocated
georeferenced: true
verified: true
sources: [made up]
scored:
  dataset: elsewhere
  split: test
  prompts:
"""
        + "".join(f"    {code}: {names}\n" for code, names in NAMES.items())
        + "  verified: true\n  sources: [made up]\n",
    }
    for name, text in files.items():
        write_bytes(home / "catalogs" / name, text.encode())
    return Catalogs.load(home / "catalogs")


def tiles(home: Path) -> Path:
    """Pictures of land with little cloud and their truth, drawn evenly over the sphere."""
    catalogs = Catalogs.load()
    earth, imagery = VirtualEarth(catalogs, WORLD), catalogs.imagery("sentinel-2-l2a")
    legend = catalogs.label("esa-worldcover-v200")
    period = Period.parse("2021-05-15/2021-09-15")
    chance = np.random.default_rng(4)
    names = tuple(band.name for band in imagery.bands if band.name in BANDS)
    assert names == tuple(BANDS)
    done = 0
    while done < TRAIN + TEST:
        lon, z = chance.uniform(-180, 180), chance.uniform(np.sin(-0.9), np.sin(1.1))
        division, i = ("train", done) if done < TRAIN else ("test", done - TRAIN)
        picture = home / "copy" / division / f"{i:03d}.tif"
        truth_of = home / "copy" / f"{division}-truth" / f"{i:03d}.tif"
        grid = imagery.lattice.grid_at(lon, float(np.degrees(np.arcsin(z))), SIDE)
        codes = earth.truth_codes(legend, *grid.lonlat()).astype(np.uint8)
        if (codes == 80).mean() > 0.5 or np.unique(codes).size < 2:
            continue
        asked = SearchRequest(site="a", grid=grid, period=period, max_cloud=20)
        scenes = [s for s in earth.search(imagery, [asked])[0] if s.grid.contains(grid, slack=0.5)]
        if not scenes:
            continue
        if not (picture.exists() and truth_of.exists()):
            scene = min(scenes, key=lambda s: (s.cloud_cover or 0, s.id))
            [chip] = earth.read(
                imagery, [ReadRequest(site="a", scene=scene, grid=grid, bands=names)]
            )
            assert isinstance(chip, Chip)
            n = len(names)
            write_bytes(
                truth_of,
                class_tiff(grid, "truth", codes, {c.value: c for c in legend.classes}, nodata=0),
            )
            write_bytes(picture, image_tiff(grid, chip.bands, chip.data, (0.0001,) * n, (0.0,) * n))
        done += 1
    return home / "copy"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("model", type=Path)
    options.add_argument("--work", type=Path, default=Path("/tmp/transfer"))
    said = options.parse_args()
    torch.set_num_threads(1)
    catalogs, copy = declared(said.work), tiles(said.work)
    nothing = said.work / "nothing" / "learnt.safetensors"
    if not nothing.exists():
        torch.manual_seed(0)
        checkpoint.save(LandSegmenter(checkpoint.describe(said.model)[0]), nothing)
    more: dict[str, Any] = {"catalogs": catalogs, "window": SIDE, "batch": 8}
    for weights in (said.model, nothing):
        [file] = evaluate(weights, ["elsewhere"], copy, said.work / "scores", **more)
        print(f"{weights.stem:8s} as it is {json.loads(file.read_text())['miou']:.3f}", flush=True)
        for protocol in ("linear-probe", "fine-tune"):
            for share, several in SEEDS.items():
                seeds = several if weights == said.model else several[:1]
                found = []
                for seed in seeds:
                    what = Transfer(protocol=protocol, share=share, seed=seed, settings=TUNING)  # type: ignore[arg-type]
                    [file] = evaluate(
                        weights, ["elsewhere"], copy, said.work / "scores", transfer=what, **more
                    )
                    found.append(json.loads(file.read_text())["miou"])
                each = ", ".join(f"{value:.3f}" for value in found)
                print(
                    f"{weights.stem:8s} {protocol:12s} {100 * share:3.0f} %: {np.mean(found):.3f} ({each})",
                    flush=True,
                )


if __name__ == "__main__":
    main()
