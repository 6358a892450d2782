"""Does `las evaluate` keep the model busy? Bar: at least 0.9 times the bare model on the same windows.

    python benchmarks/evaluate_speed.py [--tiles 2] [--rounds 3] [--clip]

Pictures in the layout of LoveDA, 512 x 512 pixels; an untrained nano model on one thread, windows of 256, half
over each other. Bare: the windows are in memory already and what the model says is thrown away. Ours: pictures and masks
are read from the disk, blended, scored and kept. CPU seconds, one after the other in each round. With --clip: an untrained nano CLIP
too; bare is LandSegmenter and then both CLIP branches on the same windows; ours are the four rows of it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from las_builder.catalogs import Catalogs
from las_builder.evaluate import score as scores
from las_builder.evaluate.benchmark import Task, tiles_of
from las_builder.evaluate.branches import ClipOptions, rows_of
from las_builder.evaluate.predict import asker
from las_builder.evaluate.proxyclip import Proxy, both
from las_builder.evaluate.windows import starts
from las_builder.models.clip import Clip, load, save
from las_builder.models.config import CLIPS, sized
from las_builder.models.segmenter import LandSegmenter

SIDE, WINDOW, BATCH = 512, 256, 4


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--tiles", type=int, default=2)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--clip", action="store_true")
    said = options.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    task = Task.of("loveda", Catalogs.load())
    model = LandSegmenter(sized("nano"))
    say = asker(model, task.classes, task.wavelengths, task.level)
    classes = len(task.classes)
    answer = scores.by_windows(say, classes, window=WINDOW, overlap=0.5, batch=BATCH)
    method = scores.Method(name="nano", kind="checkpoint", facts={"windows": {}}, answer=answer)
    rows = [method]
    with tempfile.TemporaryDirectory() as home:
        if said.clip:
            file = Path(home) / "clip.safetensors"
            save(Clip(CLIPS["nano"]), file)
            asked = {"text_file": None, "device": "cpu"}
            cut = {"window": WINDOW, "overlap": 0.5, "batch": BATCH}
            rows = rows_of(method, model, task, ClipOptions(file=file), Path(home), **asked, **cut)
            say = both(
                model, load(file), task.classes, task.wavelengths, task.level, Proxy(), **asked
            )
        copy = Path(home) / "copy" / "Val" / "Urban"
        chance = np.random.default_rng(0)
        for kind in ("images_png", "masks_png"):
            (copy / kind).mkdir(parents=True)
        for i in range(said.tiles):
            rgb = chance.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
            mask = np.kron(chance.integers(0, 8, (16, 16)), np.ones((32, 32))).astype(np.uint8)
            Image.fromarray(rgb).save(copy / "images_png" / f"{i}.png")
            Image.fromarray(mask).save(copy / "masks_png" / f"{i}.png")
        held = tiles_of(task, copy.parents[1])
        images = [held.read(i).image for i in range(said.tiles)]

        def bare() -> None:
            places = starts(SIDE, WINDOW, WINDOW // 2)
            for image in images:
                for row in places:
                    for first in range(0, len(places), BATCH):
                        some = places[first : first + BATCH]
                        cut = [image[:, row : row + WINDOW, c : c + WINDOW] for c in some]
                        say(np.stack(cut))

        def ours(k: int) -> None:
            tiles = tiles_of(task, copy.parents[1])
            every = [(row, None) for row in rows]
            scores.score_all(task, tiles, every, Path(home) / f"scores-{k}")

        bare()
        ratios = []
        for k in range(said.rounds):
            at = time.process_time()
            bare()
            between = time.process_time()
            ours(k)
            ratios.append((between - at) / (time.process_time() - between))
            print(f"bare {between - at:.2f} CPU s, ours {(between - at) / ratios[-1]:.2f}")
    print(f"speed of las evaluate over the bare model's: {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
