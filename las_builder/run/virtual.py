"""`las virtual`: one place of the virtual Earth, as files: an image, its truth, its products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from las_builder.access import LabelRequest, ReadRequest, SearchRequest
from las_builder.access.virtual import VirtualEarth
from las_builder.access.virtual.leaves import COLOURS, LETTERS
from las_builder.catalogs import Imagery, LabelClass, LabelProduct
from las_builder.core.grid import Grid
from las_builder.core.types import Chip, LabelSource, Period, Scene
from las_builder.core.workspace import write_bytes, writing
from las_builder.errors import InputError
from las_builder.harmonise.regrid import regrid
from las_builder.pack.encode import class_tiff, image_tiff

_LOOKED_AT = 8
"""Scenes that are read, the least cloudy first, to find one that shows the whole place."""


@dataclass(frozen=True, slots=True, eq=False)
class _Map:
    """Codes on the image's pixels, and what they mean."""

    name: str
    codes: NDArray[np.integer]
    classes: Mapping[int, LabelClass]
    nodata: int | None

    def picture(self) -> NDArray[np.uint8]:
        """(y, x, 3) in the legend's colours; nodata light grey."""
        shown = np.full((*self.codes.shape, 3), 235, np.uint8)
        for code in np.unique(self.codes).tolist():
            if code in self.classes:
                hint = self.classes[code].color_hint or "808080"
                shown[self.codes == code] = tuple(bytes.fromhex(hint))
        return shown


def virtual(
    earth: VirtualEarth,
    imagery: Imagery,
    products: Sequence[LabelProduct],
    out: Path,
    *,
    at: tuple[float, float],
    size: int,
    gsd: float | None,
    period: Period,
) -> list[Path]:
    """Write one place: GeoTIFFs and PNGs, all on the pixels of the image.

    Args:
        earth: Which world.
        imagery: Which sensor.
        products: Those that say nothing of the place are left out.
        out: Folder to write into.
        at: Longitude and latitude of the middle, degrees.
        size: Pixels along a side.
        gsd: Metres a pixel where it is not the sensor's own.
        period: The scene is the least cloudy of these days that shows the whole place.

    Returns:
        What was written, the overview last.

    Raises:
        InputError: No scene of these days shows the whole place.
        SourceError: The virtual Earth has no such sensor.
    """
    grid = imagery.lattice.grid_at(*at, size, gsd)
    scene, chip = _clearest(earth, imagery, grid, period)
    maps = [_truth(earth, grid, scene)]
    for product in products:
        request = LabelRequest(site="a", grid=grid, scene=scene)
        found = earth.labels(product, [request])[0]
        if isinstance(found, LabelSource):
            maps.append(_product(product, found, grid))
    radiometry = [imagery.radiometry(scene, name, provider="virtual") for name in chip.bands]
    scale, offset = zip(*radiometry, strict=True)
    written = [out / "image.tif", out / "image.png"]
    write_bytes(written[0], image_tiff(grid, chip.bands, chip.data, scale, offset))
    shown = _rgb(imagery, chip, scale, offset)
    _png(written[1], shown)
    for item in maps:
        paths = [out / f"{item.name}.tif", out / f"{item.name}.png"]
        write_bytes(
            paths[0], class_tiff(grid, item.name, item.codes, item.classes, nodata=item.nodata)
        )
        _png(paths[1], item.picture())
        written += paths
    lon, lat = grid.centre_lonlat()
    place = f"{abs(lat):.3f}° {'N' if lat >= 0 else 'S'} {abs(lon):.3f}° {'E' if lon >= 0 else 'W'}"
    title = f"{imagery.title}, {scene.datetime:%Y-%m-%d}, {place}"
    _overview(out / "overview.png", title, shown, maps)
    return [*written, out / "overview.png"]


def _clearest(
    earth: VirtualEarth, imagery: Imagery, grid: Grid, period: Period
) -> tuple[Scene, Chip]:
    request = SearchRequest(site="a", grid=grid, period=period, max_cloud=100.0)
    scenes = [s for s in earth.search(imagery, [request])[0] if s.grid.contains(grid, slack=0.5)]
    best: tuple[float, Scene] | None = None
    band = imagery.validity.band
    for scene in sorted(scenes, key=lambda s: (s.cloud_cover or 0, s.id))[:_LOOKED_AT]:
        names = (imagery.bands[0].name,) if band is None else (band,)
        seen = earth.read(imagery, [ReadRequest(site="a", scene=scene, grid=grid, bands=names)])[0]
        if not isinstance(seen, Chip) or not seen.inside.all():
            continue
        clear = 1.0 if band is None else float(imagery.validity.decode(seen.data[0]).mean())
        if best is None or clear > best[0]:
            best = clear, scene
    if best is None:
        raise InputError(
            "las virtual",
            "--period",
            str(period),
            f"days on which {imagery.title} shows all of the place",
            "Widen the period, choose another place, or a smaller --size.",
        )
    bands = tuple(b.name for b in imagery.bands)
    chip = earth.read(imagery, [ReadRequest(site="a", scene=best[1], grid=grid, bands=bands)])[0]
    assert isinstance(chip, Chip)  # it was read a moment ago
    return best[1], chip


def _truth(earth: VirtualEarth, grid: Grid, scene: Scene) -> _Map:
    leaf = earth.truth(*grid.lonlat(), grid.pixel[0], scene.datetime.year)
    titles = earth.catalogs.ontology.by_id
    classes = {
        i: LabelClass(
            value=i, name=name.replace(".", "_"), title=titles[name].title,
            color_hint=COLOURS[letter].upper(), means=[name],
        )
        for i, (letter, name) in enumerate(LETTERS.items())
    }  # fmt: skip
    return _Map("truth", leaf, classes, None)


def _product(product: LabelProduct, source: LabelSource, grid: Grid) -> _Map:
    codes = regrid(source, grid, nodata=product.nodata, dtype=product.dtype).codes
    classes = {entry.value: entry for entry in product.classes}
    return _Map(product.name, codes, classes, product.nodata)


def _rgb(
    imagery: Imagery, chip: Chip, scale: Sequence[float], offset: Sequence[float]
) -> NDArray[np.uint8]:
    low, high = imagery.stretch
    planes = [
        (chip.data[i] * scale[i] + offset[i] - low) / (high - low)
        for i in (chip.bands.index(name) for name in imagery.rgb)
    ]
    gamma = 1.0 if imagery.data_type == "uint8" else 0.7
    return np.asarray((np.stack(planes, -1).clip(0, 1) ** gamma * 255).astype(np.uint8))


def _png(path: Path, picture: NDArray[np.uint8]) -> None:
    from PIL import Image

    with writing(path) as part, part.open("wb") as file:
        Image.fromarray(picture).save(file, format="PNG")


def _overview(path: Path, title: str, shown: NDArray[np.uint8], maps: Sequence[_Map]) -> None:
    """Image, truth and products side by side, each map with the classes it holds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    panels = 1 + len(maps)
    columns = min(4, panels)
    rows = -(-panels // columns)
    figure = Figure(figsize=(3.4 * columns, 0.5 + 4.6 * rows), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12, fontweight="bold", x=0.01, ha="left")
    grid = figure.add_gridspec(
        rows, columns, left=0.01, right=0.99, top=1 - 0.75 / (0.5 + 4.6 * rows), bottom=0.24 / rows,
        hspace=0.42, wspace=0.04,
    )  # fmt: skip
    for k in range(panels):
        axes = figure.add_subplot(grid[k // columns, k % columns])
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title("image" if k == 0 else maps[k - 1].name, fontsize=10, loc="left")
        if k == 0:
            axes.imshow(shown)
            axes.text(
                0.5, 0.5, "SYNTHETIC", transform=axes.transAxes, ha="center", va="center",
                rotation=35, fontsize=20, color="white", alpha=0.3, fontweight="bold",
            )  # fmt: skip
            continue
        item = maps[k - 1]
        axes.imshow(item.picture(), interpolation="nearest")
        codes, counts = np.unique(item.codes, return_counts=True)
        order = [
            int(c) for c in codes[np.argsort(-counts, kind="stable")] if int(c) in item.classes
        ]
        marks = [
            Patch(facecolor=f"#{entry.color_hint or '808080'}", edgecolor="#777777", linewidth=0.4,
                  label=entry.title if len(entry.title) < 24 else entry.title[:22] + "…")
            for entry in (item.classes[c] for c in order[:10])
        ]  # fmt: skip
        axes.legend(
            handles=marks, loc="upper left", bbox_to_anchor=(-0.02, -0.01), ncols=2, frameon=False,
            fontsize=6.5, handlelength=1.0, handleheight=0.9, columnspacing=0.8, labelspacing=0.3,
        )  # fmt: skip
    with writing(path) as part, part.open("wb") as file:
        figure.savefig(file, format="png")
