"""The virtual Earth in ten climates at 0.3, 1, 10 and 30 m: `docs/virtual-earth.jpg`.

    python scripts/virtual_sheet.py

Of each climate the most varied of some hundred places around a given one, by the number of leaves
within 200 m and 2 km. Left the image of a sensor of that pixel, right the truth.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from affine import Affine
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from las_builder.access.virtual import VirtualEarth
from las_builder.access.virtual.ground import Window
from las_builder.access.virtual.leaves import COLOURS, LEAVES, LETTERS
from las_builder.access.virtual.sensors import bands
from las_builder.catalogs import Catalogs, Imagery
from las_builder.core.grid import Grid, from_lonlat, mgrs_zone
from las_builder.core.types import Scene

PLACES = {
    "rainforest": (-60.1, -2.95, 8),
    "savanna": (-0.9, 9.45, 10),
    "desert": (46.6, 24.5, 2),
    "steppe": (-101.9, 35.2, 6),
    "mediterranean": (-4.8, 37.85, 4),
    "temperate": (2.6, 48.95, 6),
    "continental": (-93.65, 41.95, 7),
    "boreal": (25.5, 65.0, 7),
    "tundra": (-121.0, 73.0, 7),
    "ice": (-66.0, 67.0, 8),
}
"""Longitude, latitude, month."""

SENSORS = {0.3: "naip", 1.0: "naip", 10.0: "sentinel-2-l2a", 30.0: "landsat-c2-l2"}
SIDE = 220
PALETTE = np.array([list(bytes.fromhex(COLOURS[letter])) for letter in LETTERS], np.uint8)


def varied(earth: VirtualEarth, lon: float, lat: float, must: int | None) -> tuple[float, float]:
    """The place with the most leaves near and around it, of those that hold much of one."""
    rng = np.random.default_rng(5)
    x = lon + rng.uniform(-0.3, 0.3, 150) / np.cos(np.radians(lat))
    y = lat + rng.uniform(-0.3, 0.3, 150)
    step = np.linspace(-1, 1, 24)
    east, north = np.meshgrid(step / np.cos(np.radians(lat)), step)
    best, score = (lon, lat), -1.0
    for a, b in zip(x, y, strict=True):
        total = 0.0
        for metres, resolution in ((30, 0.6), (110, 1.0), (1100, 10.0)):
            degrees = metres / 111_320
            leaf = earth.truth(a + east * degrees, b + north * degrees, resolution)
            share = np.bincount(leaf.ravel(), minlength=len(LEAVES)) / leaf.size
            if must is not None and share[must] < 0.3:
                total = -2.0
                break
            share = share[share > 0]
            total += float(-(share * np.log(share)).sum())
        if total > score:
            best, score = (float(a), float(b)), total
    return best


def picture(
    earth: VirtualEarth, imagery: Imagery, lon: float, lat: float, metres: float, month: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Image and truth, (SIDE, SIDE, 3) each."""
    crs = f"EPSG:{326 if lat >= 0 else 327}{mgrs_zone(lon, lat):02d}"
    x, y = from_lonlat(crs, np.array([lon]), np.array([lat]))
    west = round((float(x[0]) - SIDE / 2 * metres) / 60) * 60.0
    north = round((float(y[0]) + SIDE / 2 * metres) / 60) * 60.0
    if metres < 10:
        west, north = float(x[0]) - SIDE / 2 * metres, float(y[0]) + SIDE / 2 * metres
    grid = Grid(crs, Affine(metres, 0, west, 0, -metres, north), SIDE, SIDE)
    scene = Scene(
        id="sheet", datetime=datetime(2021, month, 15, 11, tzinfo=UTC), cloud_cover=0.0,
        grid=grid, assets={},
        properties={"view:sun_elevation": 50.0, "view:sun_azimuth": 150.0 if lat > 0 else 30.0,
                    "s2:processing_baseline": "03.01"},
    )  # fmt: skip
    window = Window.of(grid)
    found = bands(earth.world, imagery, scene, imagery.rgb, window)
    radiometry = [imagery.radiometry(scene, name, provider="virtual") for name in imagery.rgb]
    low, high = imagery.stretch
    planes = [(v * s + o - low) / (high - low) for v, (s, o) in zip(found, radiometry, strict=True)]
    gamma = 1.0 if imagery.data_type == "uint8" else 0.7
    shown = (np.stack(planes, -1).clip(0, 1) ** gamma * 255).astype(np.uint8)
    return shown, PALETTE[earth.truth(*grid.lonlat(), metres)]


def main() -> None:
    """Draw it."""
    catalogs = Catalogs.load()
    earth = VirtualEarth(catalogs)
    inch, gap, head = 1.0, 0.04, 0.34
    columns = 2 * len(SENSORS)
    width = columns * (inch + gap) + gap + 0.24
    height = len(PLACES) * (inch + gap) + head
    figure = Figure(figsize=(width, height), dpi=SIDE, facecolor="white")
    FigureCanvasAgg(figure)
    for row, (climate, (lon, lat, month)) in enumerate(PLACES.items()):
        ice = LEAVES.index("snow_ice.permanent") if climate == "ice" else None
        at = varied(earth, lon, lat, ice)
        top = height - head - row * (inch + gap)
        figure.text(
            0.1 / width,
            (top - inch / 2) / height,
            climate,
            rotation=90,
            va="center",
            ha="center",
            fontsize=6,
        )
        for k, (metres, sensor) in enumerate(SENSORS.items()):
            pair = picture(earth, catalogs.imagery(sensor), *at, metres, month)
            for side, shown in enumerate(pair):
                left = 0.24 + (2 * k + side) * (inch + gap)
                axes = figure.add_axes(
                    (left / width, (top - inch) / height, inch / width, inch / height)
                )
                axes.imshow(shown, interpolation="nearest")
                axes.set_axis_off()
                if row == 0:
                    name = f"{metres:g} m" if side == 0 else "truth"
                    axes.set_title(name, fontsize=6, pad=2, loc="left")
    figure.text(
        0.24 / width, 1 - 0.12 / height,
        "The virtual Earth: SYNTHETIC images of places that do not exist. Each row is one place, seen 66 m, 220 m, 2.2 km and 6.6 km wide.",
        fontsize=6, va="center",
    )  # fmt: skip
    out = Path(__file__).parents[1] / "docs" / "virtual-earth.jpg"
    figure.savefig(out, pil_kwargs={"quality": 88})
    print(out)


if __name__ == "__main__":
    main()
