"""Does fusion with a CLIP find a class that LandSegmenter never heard of? On the virtual Earth.

LandSegmenters (`base` of learning.py: its short schedule, seeds 0 to 4) were trained on noisy labels of
Sentinel-2 at 10 m and Landsat at 30 m, in the legends of WorldCover, NLCD and Dynamic World. Here
they are asked for classes of another taxonomy, in another year, in blocks of 300 km where nothing was trained:
classes that are renamed, merged, split (bare ground into rock and sand, forest by its leaves), and one that no
legend of theirs names or tells from others: salt flat, bare ground to all three. Two sets: Sentinel-2's
bands at 30 m, and five bands at 5 m that training never had.

A CLIP learns from red, green and blue of places in the train blocks with captions made of the truth, in which
salt flats are named; it has never seen a mask. ProxyCLIP reads its patches with LandSegmenter's
embedding, and `evaluate/fusion.py` joins the two. One CLIP a seed, seed i with LandSegmenter i.

The sets are written as a publisher would (GeoTIFF pictures and masks, a folder of declarations with
`scored`) and go through `las evaluate`.

    python benchmarks/zero_shot.py [--work /tmp/zero-shot] [--learning /tmp/learning] [--seeds 0 1 2 3 4]

Every seed writes benchmarks/results/zero_shot/<seed>.json and is skipped if that is there; scores,
pictures, crops and checkpoints are kept in the work folder, so a killed run goes on. One thread;
one CPU minute for the sets, two for the crops, one a CLIP and one a score, beside what
learning.py takes where its runs are missing (some 5 CPU minutes each).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
import yaml
from numpy.typing import NDArray

from las_builder.access.protocol import ReadRequest, SearchRequest
from las_builder.access.virtual import VirtualEarth, sensors, sky
from las_builder.access.virtual.ground import Window
from las_builder.access.virtual.leaves import INDEX, LEAVES, LETTERS
from las_builder.catalogs import Catalogs, Imagery
from las_builder.core.grid import Grid
from las_builder.core.options import Splits
from las_builder.core.types import Chip, Period, Scene
from las_builder.core.workspace import write_bytes, write_json
from las_builder.evaluate.fusion import FUSIONS
from las_builder.plan.splits import SPLITS, Blocks, split_of

RESULTS = Path(__file__).parent / "results" / "zero_shot"
YEAR = 2019
PERIOD = Period.parse(f"{YEAR}-05-15/{YEAR}-09-15")
BLOCKS = Splits(train=10, val=1, test=2, block_km=300, buffer_km=10, seed=1)
"""Those of learning.py."""

SIDE = 96
"""Of a tile, pixels."""


@dataclass(frozen=True)
class Asked:
    """A class of the test."""

    names: tuple[str, ...]
    """What is asked for, the usual name first."""

    leaves: str
    """Letters of the leaves that it holds (`LETTERS`)."""

    kind: Literal["renamed", "merged", "split", "unseen"]
    """Beside the classes of training."""

    tiles: int
    """Of the test, with it in the middle; a third as many to choose the fusion by."""

    @property
    def nodes(self) -> list[str]:
        """Of the ontology."""
        return [LETTERS[letter] for letter in self.leaves]


TAXONOMY = (
    Asked(("lakes and rivers", "open sea"), "~L=", "renamed", 15),
    Asked(("broadleaved tree cover", "broadleaved woodland"), "BE", "split", 20),
    Asked(("needleleaved tree cover", "needleleaved woodland"), "NF", "split", 20),
    Asked(("grass and scrub",), "SGTPUH", "merged", 25),
    Asked(("farmland",), "MCYI", "renamed", 25),
    Asked(("settlement", "buildings and streets"), "bridsn", "renamed", 20),
    Asked(("bare rock",), "R", "split", 15),
    Asked(("dunes", "sand"), "D", "split", 15),
    Asked(("marsh", "reeds and marsh"), "Ww", "renamed", 15),
    Asked(("salt flat",), "Z", "unseen", 50),
)
"""Ice is left out: from 0.3 on reflectance is white to a CLIP, be it salt or snow. Mixed and swamp
forest, open woodland, palms, olives, mangroves and lichen belong to several or to none and are not scored."""
UNSEEN = [i for i, one in enumerate(TAXONOMY) if one.kind == "unseen"]
SEEN = [i for i in range(len(TAXONOMY)) if i not in UNSEEN]


@dataclass(frozen=True)
class Sensed:
    """Pictures of the test."""

    imagery: str
    """Declaration that they are computed from."""

    bands: Mapping[str, float]
    """Bands of the files, and the wavelengths that their publisher states, micrometres."""

    rgb: tuple[str, str, str]
    gsd: float
    platform: str


SETS: Mapping[str, Sensed] = {
    "virtual-30m": Sensed(
        "virtual-hls",
        {"B01": 0.443, "B02": 0.49, "B03": 0.56, "B04": 0.665, "B05": 0.704, "B06": 0.74,
         "B07": 0.783, "B08": 0.842, "B8A": 0.865, "B09": 0.945, "B11": 1.61, "B12": 2.19},
        ("B04", "B03", "B02"), 30, "sentinel-2",
    ),
    "virtual-5m": Sensed(
        "virtual-rapideye",
        {"blue": 0.475, "green": 0.555, "red": 0.6575, "rededge": 0.71, "nir": 0.805},
        ("red", "green", "blue"), 5, "rapideye",
    ),
}  # fmt: skip
"""Sentinel-2's bands at 30 m, as HLS has them, where training had them at 10 (without the cirrus band, by
which the virtual Earth tells what sees through all the air); and five bands as RapidEye's at 5 m,
which training had not."""


def declared(folder: Path) -> Catalogs:
    """Write the folder of declarations: a sensor that the catalogue lacks, the annotated sets, and what
    of them is scored.
    """
    words = {
        "license": "CC0-1.0", "attribution": "Nobody: it is computed", "verified": False,
        "sources": ["benchmarks/zero_shot.py"],
    }  # fmt: skip
    files: dict[str, Any] = {}
    legend = [{"value": 0, "name": "other", "title": "other", "means": [],
               "node": "special.background", "relation": "exact"}]  # fmt: skip
    for code, one in enumerate(TAXONOMY, 1):
        legend.append(
            {"value": code, "name": one.names[0].replace(" ", "_"), "title": one.names[0],
             "color_hint": COLOURS[code - 1], "means": one.nodes, "node": one.nodes[0],
             "relation": "exact" if len(one.nodes) == 1 else "narrower"}
        )  # fmt: skip
    prompts = {code: list(one.names) for code, one in enumerate(TAXONOMY, 1)}
    for name, sensed in SETS.items():
        bands = [
            {"name": band, "eo:center_wavelength": wave, "gsd": sensed.gsd, "raster:scale": 0.0001}
            for band, wave in sensed.bands.items()
        ]
        pictures = {"platforms": [sensed.platform], "data_type": "int16", "nodata": -9999,
                    "rgb": list(sensed.rgb), "stretch": [0.0, 0.3], "bands": bands}  # fmt: skip
        files[f"imports/{name}"] = {
            "title": f"The virtual Earth at {sensed.gsd:g} m", **words, "version": "1",
            "gsd": sensed.gsd, "obtain": "Written by benchmarks/zero_shot.py.",
            "images": {**pictures, "files": [{"path": "{division}/images/{tile}.tif",
                                              "bands": list(sensed.bands)}]},
            "masks": {"encoding": "codes", "files": [{"path": "{division}/masks/{tile}.tif"}],
                      "nodata": 0},
            "parts": {"division": "val|test"}, "place": ["division", "tile"],
            "splits": {"part": "division", "names": {"val": "val", "test": "test"}},
            "date": {"between": [PERIOD.start, PERIOD.end]},
            "basis": "cover", "classification:classes": legend,
        }  # fmt: skip
        for split in ("val", "test"):
            files[f"benchmarks/{name}-{split}"] = {
                "title": f"The virtual Earth at {sensed.gsd:g} m, {split}", "kind": "unlocated",
                "boxes": [], "georeferenced": True, "note": "Computed.", "verified": False,
                "sources": words["sources"],
                "scored": {"dataset": name, "split": split, "ignore": [0], "prompts": prompts,
                           "verified": False, "sources": words["sources"]},
            }  # fmt: skip
        if sensed.imagery not in Catalogs.load().names("imagery"):
            files[f"imagery/{sensed.imagery}"] = {
                "title": f"Bands of {sensed.platform} at {sensed.gsd:g} m", **words, **pictures,
                "lattice": {"crs": "mgrs-utm", "pixel": sensed.gsd, "cell": 60,
                            "origin_north": [0, 0], "origin_south": [0, 40]},
                "extent": {"bbox": [-180.0, -56.0, 180.0, 84.0], "interval": ["2009-02-01", None]},
                "where": [{"provider": "virtual", "note": "on the days of Sentinel-2"}],
            }  # fmt: skip
    for name, said in files.items():
        write_bytes(folder / f"{name}.yaml", yaml.dump(said, Dumper=_Plain).encode())
    return Catalogs.load(folder)


class _Plain(yaml.SafeDumper):
    """Without `&id001`."""

    def ignore_aliases(self, data: object) -> bool:
        del data
        return True


COLOURS = (
    "2F79B5", "2F8F3A", "1D5C3F", "D8D27C", "F2B632", "B3262E", "9B9087", "EAD9B5", "5FB6A5", "E83AE8",
)  # fmt: skip


# ---- places and pictures


def places(
    earth: VirtualEarth,
    letters: str,
    split: str,
    resolution: float,
    chance: np.random.Generator,
    rounds: int = 1000,
) -> Iterator[tuple[float, float]]:
    """Places, uniform on the blocks of a split where one of these leaves is, 15 km inside of a block:
    so many as `rounds` draws of 100,000 of the Earth give.
    """
    blocks, kind = Blocks.of(BLOCKS.block_km), SPLITS.index(split)  # type: ignore[arg-type]
    wanted = [INDEX[letter] for letter in letters]
    for _ in range(rounds):
        n = 100_000
        south, north = np.sin(np.radians((-55, 72)))
        lon = chance.uniform(-180, 180, n)
        lat = np.degrees(np.arcsin(chance.uniform(south, north, n)))
        lon, lat = np.round(lon, 6), np.round(lat, 6)
        found = np.isin(earth.truth(lon, lat, resolution, YEAR), wanted)
        found &= split_of(blocks.number(lon, lat), BLOCKS) == kind
        at = np.flatnonzero(found)
        place, _ = blocks.near(lon[at], lat[at], np.full(at.size, 15.0))
        alone = np.bincount(place, minlength=at.size) <= 1
        yield from zip(lon[at[alone]].tolist(), lat[at[alone]].tolist(), strict=True)


@dataclass(frozen=True, eq=False)
class Picture:
    """What a sensor saw of a place, and what is there."""

    grid: Grid
    scene: Scene
    numbers: NDArray[Any]
    """(band, y, x), of the declaration's type."""

    leaf: NDArray[np.uint8]
    """(y, x), an index into `LEAVES`."""


def picture(
    earth: VirtualEarth, imagery: Imagery, bands: Sequence[str], lon: float, lat: float, side: int
) -> Picture | None:
    """The clearest scene of the season; None where none is without cloud, shadow and snow."""
    grid = imagery.lattice.grid_at(lon, lat, side)
    [scenes] = earth.search(
        imagery, [SearchRequest(site="here", grid=grid, period=PERIOD, max_cloud=30)]
    )
    for scene in sorted(scenes, key=lambda one: (one.cloud_cover or 0.0, one.id))[:4]:
        window = Window.of(grid, scene.grid)
        above = sky.sky(earth.world, scene, window)
        if max(above.opacity.max(), above.shade.max()) > 0.05:
            continue
        if sensors.snow(earth.world, scene, window).any():
            continue
        [chip] = earth.read(
            imagery, [ReadRequest(site="here", scene=scene, grid=grid, bands=tuple(bands))]
        )
        if isinstance(chip, Chip) and chip.inside.all():
            return Picture(grid, scene, chip.data, earth.truth(*grid.lonlat(), grid.pixel[0], YEAR))
    return None


def codes_of_leaves() -> NDArray[np.uint8]:
    """Code of the test's legend for each leaf; 0: not scored."""
    table = np.zeros(len(LEAVES), np.uint8)
    for code, one in enumerate(TAXONOMY, 1):
        table[[INDEX[letter] for letter in one.leaves]] = code
    return table


def write_set(name: str, catalogs: Catalogs, folder: Path) -> None:
    """Pictures and masks of `val` and `test`."""
    sensed, earth, table = SETS[name], VirtualEarth(catalogs), codes_of_leaves()
    imagery, bands = catalogs.imagery(sensed.imagery), list(sensed.bands)
    for split, share in (("val", 3), ("test", 1)):
        if (folder / split / "whole").exists():
            continue
        for number, one in enumerate(TAXONOMY):
            chance = np.random.default_rng([SPLITS.index(split), number])  # type: ignore[arg-type]
            written, wanted = 0, -(-one.tiles // share)
            for lon, lat in places(earth, one.leaves, split, imagery.gsd, chance):
                found = picture(earth, imagery, bands, lon, lat, SIDE)
                if found is None:
                    continue
                tile = f"{one.names[0].replace(' ', '-')}-{written:02d}"
                write_tile(folder / split, tile, found, table)
                written += 1
                if written == wanted:
                    break
            print(f"{name}, {split}: {one.names[0]}, {written} tiles", flush=True)
        (folder / split / "whole").touch()


def write_tile(folder: Path, name: str, found: Picture, table: NDArray[np.uint8]) -> None:
    """A picture and its mask."""
    for kind, data in (
        ("images", found.numbers.astype(np.int16)),
        ("masks", table[found.leaf][None]),
    ):
        file = folder / kind / f"{name}.tif"
        file.parent.mkdir(parents=True, exist_ok=True)
        shape = {
            "driver": "GTiff", "count": len(data), "height": data.shape[1], "width": data.shape[2],
            "dtype": data.dtype.name, "crs": found.grid.crs, "transform": found.grid.transform,
            "compress": "deflate", "nodata": -9999 if kind == "images" else 0,
        }  # fmt: skip
        with rasterio.open(file, "w", **shape) as out:
            out.write(data)


# ---- crops with captions, and a CLIP that learns from them

WORDS: Mapping[str, tuple[str, ...]] = {
    "~": ("sea", "open sea", "ocean"),
    "L": ("lake", "lakes", "pond", "water"),
    "=": ("river", "rivers", "stream", "water"),
    "o": ("swimming pool",),
    "B": ("deciduous forest", "broadleaved woodland", "broadleaved tree cover", "oaks and beeches"),
    "E": ("evergreen forest", "broadleaved woodland", "broadleaved tree cover", "rain forest"),
    "N": (
        "coniferous forest",
        "coniferous woodland",
        "needleleaved tree cover",
        "needleleaved woodland",
    ),
    "F": ("larches", "coniferous woodland", "needleleaved tree cover", "needleleaved woodland"),
    "Q": ("mixed forest", "mixed woodland"),
    "A": ("open woodland", "scattered trees"),
    "O": ("oil palms", "palm plantation"),
    "S": ("scrub", "shrubs", "grass and scrub"),
    "H": ("heath", "moorland", "grass and scrub"),
    "G": ("savanna", "dry grass", "grass", "grass and scrub"),
    "T": ("tundra", "grass", "grass and scrub"),
    "P": ("pasture", "meadow", "grass", "grass and scrub"),
    "U": ("lawn", "turf", "grass"),
    "M": ("maize", "farmland", "fields"),
    "C": ("wheat", "farmland", "ploughed fields"),
    "Y": ("soy beans", "farmland", "fields"),
    "I": ("rice paddies", "flooded fields", "farmland"),
    "V": ("olive grove", "olive trees"),
    "b": ("houses", "buildings", "roofs", "settlement"),
    "r": ("road", "street", "streets"),
    "i": ("paved yard", "parking lot", "settlement"),
    "d": ("town", "dense houses", "settlement"),
    "s": ("suburb", "houses with gardens", "settlement"),
    "n": ("factories", "industrial area", "settlement"),
    "D": ("sand", "dunes", "sandy beach"),
    "Z": ("salt flat", "salt pan", "salt crust"),
    "R": ("rocks", "bare rock", "cliffs", "boulders"),
    "J": ("lichen", "moss and lichen"),
    "W": ("reeds", "marsh", "wet meadow"),
    "w": ("salt marsh", "marsh"),
    "X": ("swamp forest", "flooded forest"),
    "m": ("mangroves",),
    "K": ("glacier", "ice"),
}
"""What captions call each leaf: words as people write them under pictures, more classes than the three
subsets have together, and salt flats among them."""

VIEWS: tuple[tuple[str, tuple[str, str, str], int], ...] = (
    ("virtual-hls", ("B04", "B03", "B02"), 40),
    ("sentinel-2-l2a", ("B04", "B03", "B02"), 20),
    ("virtual-rapideye", ("red", "green", "blue"), 20),
)
"""Sensors that the crops are of, red, green and blue of each, and how many windows of each leaf."""

WINDOW, CROP = 64, 24
MENTIONED = 0.1
"""Share of a crop from which a leaf is named, at most three of them."""


def write_crops(catalogs: Catalogs, folder: Path) -> None:
    """Red, green and blue of windows of train blocks as CLIP sees them, with the leaf of every pixel: a
    file a sensor.

    Every leaf that occurs is in the middle of equally many windows, while there are places.
    """
    import torch

    from las_builder.models.inputs import colours

    folder.mkdir(parents=True, exist_ok=True)
    for view, (name, bands, each) in enumerate(VIEWS):
        if (folder / f"{name}.npz").exists():
            continue
        earth, images, leaves = VirtualEarth(catalogs), [], []
        imagery = catalogs.imagery(name)
        waves = [imagery.band(band).center_wavelength or 0.0 for band in bands]
        scale, offset = (
            np.array([getattr(imagery.band(band), key) for band in bands], np.float32)
            for key in ("scale", "offset")
        )
        for letter in LETTERS:
            chance = np.random.default_rng([7, view, INDEX[letter]])
            written = 0
            for place in places(earth, letter, "train", imagery.gsd, chance, rounds=8):
                found = picture(earth, imagery, bands, *place, WINDOW)
                if found is None:
                    continue
                physical = found.numbers * scale[:, None, None] + offset[:, None, None]
                given = torch.from_numpy(physical.astype(np.float32))[None]
                seen = colours(given, waves, "surface")[0].numpy()
                images.append(np.rint(255 * seen).astype(np.uint8))
                leaves.append(found.leaf)
                written += 1
                if written == each:
                    break
        print(f"crops: {len(images)} windows of {name}", flush=True)
        part = folder / f"{name}.part.npz"
        np.savez_compressed(part, images=np.stack(images), leaves=np.stack(leaves))
        part.replace(folder / f"{name}.npz")


def caption(leaf: NDArray[np.uint8], templates: Sequence[str], chance: np.random.Generator) -> str:
    """What a crop shows, most of it first: "a satellite photo of salt crust and dunes."."""
    counts = np.bincount(leaf.ravel(), minlength=len(LEAVES))
    order = [int(i) for i in np.argsort(-counts, kind="stable")[:3]]
    named = [i for i in order if counts[i] >= MENTIONED * leaf.size]
    letters = list(LETTERS)
    words = [WORDS[letters[i]][chance.integers(len(WORDS[letters[i]]))] for i in named]
    return templates[chance.integers(len(templates))].format(" and ".join(dict.fromkeys(words)))


CLIP: dict[str, Any] = {
    "image": CROP, "patch": 4, "width": 96, "layers": 2, "heads": 3, "text_width": 64,
    "text_layers": 2, "dim": 64,
}  # fmt: skip
CLIP_RUN: dict[str, Any] = {"steps": 300, "batch": 128, "lr": 1e-3, "weight_decay": 0.05,
                            "warmup": 30}  # fmt: skip


def train_clip(crops: Path, seed: int, file: Path, steps: int = 0) -> Path:
    """A CLIP of random start on crops and captions, symmetric InfoNCE; made once.

    Crops of a batch that have one caption are positives of each other (as in UniCL, Yang et al.,
    arXiv 2204.03610): in a small world captions come again. The picture is asked twice, by its class
    token and by the mean of its last values, ended as ProxyCLIP ends them: a tower of two blocks, taught
    by the class token alone, had 94 % of crops right by it and 56 % by the values.
    """
    import torch
    import torch.nn.functional as F

    from las_builder.models import clip
    from las_builder.models.config import ClipConfig
    from las_builder.models.inputs import for_clip
    from las_builder.models.text import REMOTE_SENSING, clip_tokens

    if file.exists():
        return file
    held = [np.load(crops / f"{name}.npz") for name, _, _ in VIEWS]
    images, leaves = (np.concatenate([one[key] for one in held]) for key in ("images", "leaves"))
    torch.manual_seed(seed)
    chance = np.random.default_rng([seed, 99])
    model = clip.Clip(ClipConfig(size="nano-4", **CLIP))
    steps, batch = steps or CLIP_RUN["steps"], CLIP_RUN["batch"]
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=CLIP_RUN["lr"], weight_decay=CLIP_RUN["weight_decay"], fused=True
    )
    for step in range(steps):
        rate = min(1.0, (step + 1) / CLIP_RUN["warmup"]) * (1 + np.cos(np.pi * step / steps)) / 2
        for group in optimiser.param_groups:
            group["lr"] = CLIP_RUN["lr"] * rate
        cuts, texts = [], []
        for i in chance.integers(len(images), size=batch):
            y, x = chance.integers(WINDOW - CROP + 1, size=2)
            here = np.s_[..., y : y + CROP, x : x + CROP]
            turned = np.rot90(images[i][here], chance.integers(4), axes=(1, 2))
            cuts.append(turned[..., :: 1 if chance.random() < 0.5 else -1])
            texts.append(caption(leaves[i][here], REMOTE_SENSING, chance))
        given = torch.from_numpy(np.stack(cuts).astype(np.float32) / 255)
        told = model.text_vectors(clip_tokens(texts))
        same = torch.tensor([[a == b for b in texts] for a in texts], dtype=torch.float32)
        wanted = same / same.sum(dim=1, keepdim=True)
        hidden = model.visual.hidden(for_clip(given, (0.665, 0.56, 0.49), "display"))
        values = model.visual.values(hidden, (CROP // model.config.patch,) * 2).mean(
            dim=(2, 3), keepdim=True
        )
        loss = torch.zeros(())
        for vectors in (model.visual.whole(hidden), model.visual.told(values)[:, :, 0, 0]):
            seen = F.normalize(vectors, dim=1)
            logits = model.logit_scale.exp().clamp(max=100) * seen @ told.t()
            loss = loss + F.cross_entropy(logits, wanted) / 4
            loss = loss + F.cross_entropy(logits.t(), wanted) / 4
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if (step + 1) % 50 == 0:
            print(f"clip-{seed}: step {step + 1}/{steps}, loss {loss.item():.3f}", flush=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    clip.save(model, file, {"seed": str(seed), "crops": str(len(images))})
    return file


# ---- runs

ROWS = tuple(FUSIONS)
CHOSEN = "surer"
"""The fusion that was chosen: on the val tiles, of base-0 and the headline run with a CLIP of seed 9,
before any test tile was asked."""

SIZE = 96
"""Side that CLIP is given a window in, pixels: its own."""


def segmenter(seed: int, work: Path) -> Path:
    """The checkpoint of `base` of learning.py, made where it is missing."""
    import learning
    import torch

    torch.set_num_threads(1)
    folder = work / "runs" / f"base-{seed}"
    if not (folder / "final.safetensors").exists():
        corpus, shards = learning.prepare(work, "single")
        learning.learn("base", seed, learning.truths(corpus, shards, work), work)
    return folder / "final.safetensors"


def run(seed: int, catalogs: Catalogs, work: Path, weights: Path) -> dict[str, Any]:
    """One LandSegmenter and one CLIP on the test tiles of all sets, by `las evaluate`."""
    from las_builder.evaluate.branches import ClipOptions
    from las_builder.evaluate.proxyclip import Proxy
    from las_builder.evaluate.zero_shot import evaluate

    clip = train_clip(work / "crops", seed, work / "clips" / f"{seed}.safetensors")
    out: dict[str, Any] = {"seed": seed, "classes": [one.names[0] for one in TAXONOMY]}
    for name in SETS:
        options = ClipOptions(file=clip, fusions=ROWS, proxy=Proxy(side=SIZE))
        files = evaluate(
            weights, [f"{name}-test"], work / name, work / "scores" / f"{seed}", catalogs=catalogs,
            zero_shot=True, clip=options, window=SIDE,
            told=lambda line: print(f"seed {seed}: {line}", flush=True),
        )  # fmt: skip
        out[name] = {}
        for file in files:
            said = json.loads(file.read_text())
            row = said["fusion"] if said["kind"] == "fusion" else None
            label = said["kind"] if row is None else next(
                key for key, one in FUSIONS.items() if asdict(one) == row
            )  # fmt: skip
            iou = [one["iou"] for one in said["classes"]]
            out[name][label] = {
                "unseen": float(np.mean([iou[i] for i in UNSEEN])),
                "seen": float(np.mean([iou[i] for i in SEEN])),
                "overall": said["overall"], "iou": [round(value, 4) for value in iou],
            }  # fmt: skip
    out["moved"] = moved(catalogs, work, weights)
    return out


MOVED = (
    0.4439,
    0.4966,
    0.56,
    0.6645,
    0.7039,
    0.7402,
    0.7825,
    0.8351,
    0.8648,
    0.945,
    1.6137,
    2.22024,
)
"""Centres of the bands of virtual-30m as HLS states them: at most 7 nm off, 30 in the shortwave."""


def moved(catalogs: Catalogs, work: Path, weights: Path) -> dict[str, Any]:
    """LandSegmenter on the very pictures of virtual-30m, told that their bands are where HLS says."""
    from las_builder.evaluate.benchmark import Task, tiles_of
    from las_builder.evaluate.predict import asker
    from las_builder.models import checkpoint
    from las_builder.train.metrics import confusion, metrics

    task, n = Task.of("virtual-30m-test", catalogs), len(TAXONOMY)
    tiles, counts = tiles_of(task, work / "virtual-30m"), np.zeros((n, n), np.int64)
    say = asker(checkpoint.load(weights), task.classes, MOVED, task.level)
    for i in range(len(tiles.names)):
        tile = tiles.read(i)
        counts += confusion(tile.truth, say(tile.image[None])[0].argmax(axis=0), n)
    iou = metrics(counts).iou
    return {"unseen": float(iou[UNSEEN].mean()), "seen": float(iou[SEEN].mean())}


def table() -> str:
    """What has been run so far, as Markdown: IoU in percent, mean and standard deviation over seeds, and
    what each row has above LandSegmenter, seed by seed.
    """
    runs = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("[0-9].json"))]
    lines = [f"{len(runs)} seeds: {', '.join(str(one['seed']) for one in runs)}"]

    def cell(values: Sequence[float], sign: str = "") -> str:
        spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
        return f"{np.mean(values):{sign}.1f}{spread}"

    for name in SETS:
        lines += [
            "", f"| {name} | salt flat (unseen) | seen, mean of {len(SEEN)} | unseen, above LandSegmenter | seen |",
            "|---|---|---|---|---|",
        ]  # fmt: skip
        rows = ("checkpoint", "clip", "proxyclip", *ROWS)
        for row in rows if runs else ():
            both = {k: [100 * one[name][row][k] for one in runs] for k in ("unseen", "seen")}
            more = {
                k: [v - 100 * one[name]["checkpoint"][k] for v, one in zip(both[k], runs, strict=True)]
                for k in both
            }  # fmt: skip
            cells = [cell(both["unseen"]), cell(both["seen"])]
            cells += [cell(more[k], "+") if row != "checkpoint" else "" for k in ("unseen", "seen")]
            label = {
                "checkpoint": "LandSegmenter",
                "clip": "CLIP patches",
                "proxyclip": "ProxyCLIP",
            }
            said = label.get(row, f"fusion, {row}" + (", chosen" if row == CHOSEN else ""))
            lines.append(f"| {said} | {' | '.join(cells)} |")
        if name == "virtual-30m":
            away = [cell([100 * one["moved"][k] for one in runs]) for k in ("unseen", "seen")]
            lines.append(
                f"| LandSegmenter, centres of bands as HLS states them | {' | '.join(away)} | | |"
            )
    return "\n".join(lines)


def figure(
    seed: int, catalogs: Catalogs, work: Path, weights: Path, tiles: Sequence[str], file: Path
) -> None:
    """Test tiles ("virtual-30m/salt-flat-03"): picture, truth, both branches, fusion, uncertainty."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    from las_builder.core.types import IGNORE
    from las_builder.evaluate.benchmark import Task, tiles_of
    from las_builder.evaluate.fusion import uncertainty
    from las_builder.evaluate.proxyclip import Proxy, both
    from las_builder.models import checkpoint, clip

    model, other = checkpoint.load(weights), clip.load(work / "clips" / f"{seed}.safetensors")
    paint = np.full((256, 3), 128, np.uint8)
    paint[: len(COLOURS)] = [list(bytes.fromhex(one)) for one in COLOURS]
    heads = ("image", "truth", "LandSegmenter", "ProxyCLIP", "fusion", "uncertainty")
    shown = Figure(figsize=(9.6, 1.62 * len(tiles) + 0.75), dpi=110, layout="constrained")
    grid = shown.subplots(len(tiles), len(heads), squeeze=False)
    for number, (row, name) in enumerate(zip(grid, tiles, strict=True)):
        kind, _, wanted = name.partition("/")
        task = Task.of(f"{kind}-test", catalogs)
        held = tiles_of(task, work / kind)
        tile = held.read(next(i for i, one in enumerate(held.names) if wanted in one))
        say = both(model, other, task.classes, task.wavelengths, task.level, Proxy(side=SIZE))
        own, _, proxied = np.split(say(tile.image[None])[0], 3)
        fused = FUSIONS[CHOSEN](own, proxied)
        rgb = (tile.image[list(tile.rgb)] / 0.3).clip(0, 1)
        said = [paint[one.argmax(axis=0)] for one in (own, proxied, fused)]
        truth = np.where(tile.truth == IGNORE, 255, tile.truth)
        pictures = (np.moveaxis(rgb, 0, -1), paint[truth], *said, uncertainty(own))
        for place, drawn, head in zip(row, pictures, heads, strict=True):
            place.imshow(
                drawn, cmap=mpl.colormaps["magma"], vmin=0, vmax=1, interpolation="nearest"
            )
            place.set(xticks=[], yticks=[])
            if number == 0:
                place.set_title(head, fontsize=9)
        row[0].set_ylabel(f"{SETS[kind].gsd:g} m", fontsize=8)
    legend = [
        Patch(color=f"#{colour}", label=one.names[0])
        for colour, one in zip(COLOURS, TAXONOMY, strict=True)
    ]
    legend.append(Patch(color="#808080", label="not scored"))
    shown.legend(handles=legend, loc="outside lower center", ncols=6, fontsize=7.5, frameon=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    shown.savefig(file, pil_kwargs={"quality": 88})


FIGURE = (
    "virtual-30m/salt-flat-03", "virtual-30m/salt-flat-10", "virtual-30m/dunes-04",
    "virtual-30m/farmland-05", "virtual-5m/salt-flat-08",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("/tmp/zero-shot"))
    parser.add_argument("--learning", type=Path, default=Path("/tmp/learning"))
    parser.add_argument("--seeds", type=int, nargs="*", default=range(5))
    parser.add_argument("--headline", action="store_true", help="the long run of learning.py too")
    parser.add_argument("--figure", type=Path, help="draw some tiles of seed 0 into this file")
    asked = parser.parse_args()
    catalogs = declared(asked.work / "catalogs")
    for name in SETS:
        write_set(name, catalogs, asked.work / name)
    write_crops(catalogs, asked.work / "crops")
    for seed in asked.seeds:
        file = RESULTS / f"{seed}.json"
        if not file.exists():
            write_json(file, run(seed, catalogs, asked.work, segmenter(seed, asked.learning)))
            print(table(), flush=True)
    print(table())
    if asked.headline and not (RESULTS / "headline.json").exists():
        weights = asked.learning / "runs" / "headline-0" / "final.safetensors"
        write_json(RESULTS / "headline.json", run(9, catalogs, asked.work, weights))
    if asked.figure:
        figure(0, catalogs, asked.work, segmenter(0, asked.learning), FIGURE, asked.figure)


if __name__ == "__main__":
    main()
