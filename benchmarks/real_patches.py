"""What a model makes of the real patches of ../shared/data; without that folder it ends at once.

    python benchmarks/real_patches.py MODEL [--out work/real_patches] [--window 96]

`real_patches/` declares them as a user would (`las evaluate MODEL terramesh --folder ../shared/data/s2_lulc_pairs
--catalogs benchmarks/real_patches`); all work is done by `las evaluate` and `las predict`. Prints a line a place, best
constant answer beside it, and writes scores with their page, maps as GeoTIFF, and a picture a place: image, label, prediction,
confidence. That both commands say the same of every pixel is checked on the way.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray

from las_builder.catalogs import Catalogs
from las_builder.core.types import IGNORE
from las_builder.evaluate.benchmark import FolderTiles, Task, tiles_of
from las_builder.evaluate.predict import Bands, colours, predict
from las_builder.evaluate.zero_shot import evaluate
from las_builder.train.metrics import confusion, metrics

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "shared" / "data"
CLEAR = ("2015-07-11", "2015-08-30", "2015-09-09")
"""Of Slovenia's five dates, those without a cloud."""


def laid_out(home: Path) -> dict[str, Path]:
    """Benchmark to its folder; copies of those that lie otherwise than they are declared."""
    chips = home / "chesapeake"
    for state, names, source in (
        ("va", ("id_000051", "id_000184"), "chesapeake_1m_chips"),
        ("wv", ("m_3907833_nw_17_1",), "chesapeake_naip_wv"),
    ):
        to = chips / f"{state}_1m_2014_extended-debuffered-test_tiles"
        to.mkdir(parents=True, exist_ok=True)
        for name in names:
            image = "naip" if state == "va" else "naip-new"
            shutil.copyfile(DATA / source / f"{name}_{image}.tif", to / f"{name}_naip-new.tif")
            shutil.copyfile(DATA / source / f"{name}_lc.tif", to / f"{name}_lc.tif")
    for day in CLEAR:
        to = home / "slovenia" / day
        to.mkdir(parents=True, exist_ok=True)
        source = "s2_lulc_pairs/eolearn_slovenia"
        shutil.copyfile(DATA / source / f"S2L1C_{day}.tif", to / "S2L1C.tif")
        shutil.copyfile(DATA / source / "LULC.tif", to / "LULC.tif")
    return {
        "terramesh": DATA / "s2_lulc_pairs", "slovenia": home / "slovenia",
        "west-virginia-nlcd": DATA / "chesapeake_naip_wv",
        "west-virginia-lc": DATA / "chesapeake_naip_wv", "chesapeake": chips,
    }  # fmt: skip


def bands_of(task: Task) -> Bands:
    """The bands of a benchmark's files, as `las predict` wants them."""
    known = [task.imagery.band(name) for name in task.bands]
    scale, offset = tuple(b.scale for b in known), tuple(b.offset for b in known)
    if task.level == "display":
        low, high = task.imagery.stretch
        scale, offset = (1 / (high - low),) * len(known), (-low / (high - low),) * len(known)
    return Bands(
        indices=tuple(task.order.index(name) + 1 for name in task.bands),
        wavelengths=task.wavelengths, level=task.level, scale=scale, offset=offset,
    )  # fmt: skip


def picture(
    file: Path, title: str, task: Task, tile: Any, said: NDArray[Any], palette: Any
) -> None:
    """Image, label, prediction and confidence side by side, with the classes that occur."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    paint = np.full((IGNORE + 1, 3), 255, np.uint8)
    paint[: len(palette)] = palette
    planes = tile.image[list(tile.rgb)]
    low, high = np.nanpercentile(planes, [2, 98], axis=(1, 2), keepdims=True)
    rgb = np.nan_to_num((planes - low) / np.maximum(high - low, 1e-6)).clip(0, 1)
    figure = Figure(figsize=(13, 4.1), layout="constrained")
    axes = figure.subplots(1, 4)
    for at, shown, words in zip(
        axes, (np.moveaxis(rgb, 0, -1), paint[tile.truth], paint[said[0]]),
        ("image", "label", "prediction"), strict=False,
    ):  # fmt: skip
        at.imshow(shown, interpolation="nearest")
        at.set_title(words, fontsize=10)
    sure = np.where(said[1] == IGNORE, np.nan, said[1].astype(float))
    drawn = axes[3].imshow(sure, vmin=0, vmax=100, cmap="magma", interpolation="nearest")
    axes[3].set_title("confidence", fontsize=10)
    figure.colorbar(drawn, ax=axes[3], shrink=0.8, label="%")
    for at in axes:
        at.set_axis_off()
    there = np.union1d(np.unique(tile.truth), np.unique(said[0]))
    figure.legend(
        handles=[
            Patch(facecolor=np.array(palette[k]) / 255, edgecolor="#777", label=task.classes[k][0])
            for k in there if k != IGNORE
        ],
        loc="outside lower center", ncols=6, fontsize=9, frameon=False,
    )  # fmt: skip
    figure.suptitle(title, fontsize=11)
    figure.savefig(file, dpi=90)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("model", type=Path)
    options.add_argument("--out", type=Path, default=Path("work/real_patches"))
    options.add_argument("--window", type=int, default=96)
    said = options.parse_args()
    if not (DATA / "MANIFEST.md").is_file():
        print(f"no real patches: {DATA} is not there")
        return
    torch.set_num_threads(1)
    catalogs = Catalogs.load(HERE / "real_patches")
    for name, folder in laid_out(said.out / "copies").items():
        task = Task.of(name, catalogs)
        products = []
        if name == "west-virginia-lc":  # how well a product of experts does
            products = [("nlcd", folder / "m_3907833_nw_17_1_nlcd.tif")]
        files = evaluate(
            said.model, [name], folder, said.out / "scores", catalogs=catalogs, zero_shot=True,
            baselines=["closed-set", "majority"], products=products, window=said.window,
        )  # fmt: skip
        for file in files:
            one = json.loads(file.read_text())
            print(
                f"{name:20s} {one['method']:32s} mIoU {one['miou']:.3f} overall {one['overall']:.3f} "
                f"mean F1 {one['mf1']:.3f} tiles {len(one['tiles'])}"
            )
        scored = json.loads(files[0].read_text())
        tiles = tiles_of(task, folder)
        assert isinstance(tiles, FolderTiles)
        usual = [names[0] for names in task.classes]
        hints = {entry.value: entry.color_hint for entry in task.product.classes}
        palette = [
            tuple(bytes.fromhex(own)) if (own := hints[code]) else other
            for code, other in zip(task.codes, colours(usual, catalogs), strict=True)
        ]
        for i, tile_name in enumerate(tiles.names):
            tile = tiles.read(i)
            [raster] = [p for p in folder.rglob("*.tif") if str(p).endswith(f"{tile_name}.tif")]
            short = f"{name}-{tile_name.replace('/', '-')}"
            written = predict(
                said.model, raster, task.classes, said.out / f"{short}.tif", bands_of(task),
                catalogs=catalogs, window=said.window,
            )  # fmt: skip
            with rasterio.open(written) as file:
                both = file.read()
            counts = confusion(tile.truth, both[0], len(usual))
            assert counts.tolist() == scored["tiles"][i]["counts"], (
                "las predict and las evaluate differ"
            )
            here, true = metrics(counts), counts.sum(axis=1)
            print(
                f"  {tile_name[-44:]:44s} classes {int((true > 0).sum())} mIoU {here.miou:.3f} overall "
                f"{here.overall:.3f} (best constant {true.max() / true.sum():.3f}); IoU "
                + ", ".join(f"{usual[k]} {here.iou[k]:.2f}" for k in np.argsort(-true) if true[k])
            )
            title = f"{tile_name}: mIoU {here.miou:.2f}, overall {here.overall:.2f}"
            picture(said.out / f"{short}.png", title, task, tile, both, palette)


if __name__ == "__main__":
    main()
