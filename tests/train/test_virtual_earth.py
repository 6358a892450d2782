"""benchmarks/learning.py in seconds: pixels and labels of the virtual Earth, held against its truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from train_kit import TINY, quick

from las_builder.access import ReadRequest, SearchRequest
from las_builder.access.protocol import LabelRequest
from las_builder.access.virtual import VirtualEarth
from las_builder.catalogs import Catalogs
from las_builder.core.types import IGNORE, Period
from las_builder.harmonise import Crosswalk
from las_builder.harmonise.regrid import regrid
from las_builder.models import checkpoint
from las_builder.train.augment import Name
from las_builder.train.data import Patch
from las_builder.train.loop import train
from las_builder.train.metrics import confusion, metrics

PLACES = {"train": 60, "test": 16}
SPOILT = 0.3
"""Share of the pixels whose label is drawn at random, beside what the product gets wrong."""


class Earth:
    """Sentinel-2 in summer, WorldCover in four classes, with more errors than it has."""

    name, level, products = "earth", "surface", ("esa-worldcover-v200",)

    def __init__(self) -> None:
        catalogs = Catalogs.load()
        earth = VirtualEarth(catalogs)
        imagery, product = catalogs.imagery("sentinel-2-l2a"), catalogs.label("esa-worldcover-v200")
        taxonomy = catalogs.taxonomy("forest-water-built-crop")
        crosswalk = Crosswalk.build(taxonomy, [product], catalogs.ontology, where="test")
        bands = [band for band in imagery.bands if band.center_wavelength and band.gsd <= 20]
        self.wavelengths = tuple(band.center_wavelength for band in bands)
        self.classes = tuple(Name(tuple(c.prompts), tuple(c.members)) for c in taxonomy.classes)
        self.colours = tuple(c.color_hint for c in taxonomy.classes)
        self.patches: dict[str, list[tuple[Patch, np.ndarray]]] = {"train": [], "test": []}
        chance = np.random.default_rng(3)
        period = Period.parse("2021-06-01/2021-08-31")
        table = np.full(256, IGNORE, np.uint8)
        for code, index in crosswalk.table.items():
            table[code] = index
        while any(len(found) < PLACES[part] for part, found in self.patches.items()):
            lon, lat = chance.uniform(-5, 30), chance.uniform(44, 54)
            part = "train" if lon < 22 else "test"
            if len(self.patches[part]) == PLACES[part]:
                continue
            grid = imagery.lattice.grid_at(lon, lat, 32, None)
            truth = table[earth.truth_codes(product, *grid.lonlat())]
            if len(np.unique(truth[truth != IGNORE])) < 2:
                continue
            request = SearchRequest(site="a", grid=grid, period=period, max_cloud=5)
            scenes = [s for s in earth.search(imagery, [request])[0] if s.grid.contains(grid)]
            if not scenes:
                continue
            scene = min(scenes, key=lambda s: s.cloud_cover)
            asked = ReadRequest(
                site="a", scene=scene, grid=grid, bands=tuple(b.name for b in bands)
            )
            [chip] = earth.read(imagery, [asked])
            [map_] = earth.labels(product, [LabelRequest(site="a", grid=grid, scene=scene)])
            label = table[regrid(map_, grid, nodata=product.nodata, dtype=np.uint8).codes]
            wrong = chance.random(label.shape) < SPOILT
            label[wrong] = chance.integers(0, len(self.classes), int(wrong.sum()))
            scale, offset = (np.array([getattr(b, k) for b in bands]) for k in ("scale", "offset"))
            image = chip.data * scale[:, None, None] + offset[:, None, None]
            weight = np.ones(label.shape, np.float32)
            patch = Patch(f"{lon:.3f}", image.astype(np.float32), label, weight)
            self.patches[part].append((patch, truth))

    def count(self, split: str) -> int:
        return len(self.patches.get(split, ()))

    def read(self, split: str, index: int) -> Patch:
        return self.patches[split][index][0]


def test_nano_learns_more_than_its_labels_say(tmp_path: Path, ontology, prompter) -> None:
    earth = Earth()
    config = quick(
        model={**TINY, "pixel_skip": True}, steps=80, batch=16, crop=16, lr=1e-2, warmup=10,
        look_every=80, save_every=80, drop_bands=0, scale=(1, 1), drop_classes=0,
        merge_classes=0, synonyms=False, ema=0.95,
    )  # fmt: skip
    model = checkpoint.load(
        train([earth], ontology, config, tmp_path / "run", prompter=prompter)
    ).eval()
    text = prompter([one.names for one in earth.classes])
    said, labels = np.zeros((2, 4, 4), np.int64)
    for patch, true in earth.patches["test"]:
        truth = np.where(patch.label == IGNORE, np.uint8(IGNORE), true)
        with torch.inference_mode():
            logits = model(
                torch.from_numpy(patch.image)[None], earth.wavelengths, text, earth.level
            )
        said += confusion(truth, logits[0].argmax(dim=0).numpy(), 4)
        labels += confusion(truth, patch.label, 4)
    assert metrics(said).miou > metrics(labels).miou + 0.1
    assert metrics(said).overall > metrics(labels).overall + 0.1
