"""`plan.png`: where the sites are."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer

from las_builder.catalogs import Strata
from las_builder.core.types import Site
from las_builder.core.workspace import writing

COLOURS = ("#0b6e4f", "#c8553d", "#2e5eaa", "#8f5d9f", "#b8860b", "#3d7068", "#7a4419", "#555555")
"""One a subset; told apart by people who do not see red and green alike."""

_SEA, _LAND, _LINES = "#eef3f7", "#d9d6cf", "#c5ced6"
_ABREAST = 3  # subsets in one line of the legend
_MARKERS = {"train": ("o", 1.0), "val": ("^", 2.2), "test": ("s", 2.2), "buffer": ("o", 1.0)}
_WIDE = 70.0  # degrees of a great circle; sites that spread further are drawn on the whole globe


Box = tuple[float, float, float, float]
"""West, south, east, north of a map, metres."""


def draw_plan(
    path: Path, sites: Sequence[Site], strata: Strata, *, title: str, synthetic: bool
) -> None:
    """Draw primaries by subset over land; val and test sites have marks of their own.

    Args:
        path: PNG to write; equal sites give equal bytes.
        sites: Of the whole corpus; reserves are counted and not drawn.
        strata: Gives the land.
        title: Name of the corpus.
        synthetic: Whether the pixels will be made up; then the picture says so.

    Raises:
        WorkspaceError: The disk is full or read-only.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = [site for site in sites if site.primary]
    lon, lat = np.array([s.lon for s in drawn]), np.array([s.lat for s in drawn])
    project, box = _view(lon, lat)
    colours = dict(zip(sorted({s.subset for s in sites}), itertools.cycle(COLOURS), strict=False))

    rows = math.ceil(len(colours) / _ABREAST)
    head = 0.95 + 0.25 * rows  # inches for title and legends
    high = 11.6 * (box[3] - box[1]) / (box[2] - box[0])
    figure = Figure(figsize=(12, high + head + 0.2), dpi=150)
    FigureCanvasAgg(figure)
    inch = 1 / (high + head + 0.2)
    axes = figure.add_axes((0.2 / 12, 0.2 * inch, 11.6 / 12, high * inch))
    axes.imshow(_land(project, box, strata), extent=(box[0], box[2], box[1], box[3]), zorder=0)
    _graticule(axes, project, box)
    _dots(axes, drawn, np.column_stack(project.transform(lon, lat)), colours)
    if box[2] - box[0] < 1e7:
        _scale_bar(axes, box)
    axes.set_xlim(box[0], box[2])
    axes.set_ylim(box[1], box[3])
    axes.set_axis_off()

    left = 0.2 / 12
    figure.text(left, 1 - 0.32 * inch, title, fontsize=17, fontweight="bold", va="center")
    _legends(figure, sites, colours, left=left, top=1 - 0.52 * inch, row=0.25 * inch * rows)
    if synthetic:
        figure.text(
            0.5, (0.2 + high / 2) * inch, "SYNTHETIC", fontsize=60, color="black", alpha=0.08,
            ha="center", va="center", rotation=20, fontweight="bold", zorder=9,
        )  # fmt: skip
    with writing(path) as part:
        figure.savefig(part, format="png", metadata={"Software": None})


def _dots(
    axes: Any, drawn: Sequence[Site], at: NDArray[np.float64], colours: Mapping[str, str]
) -> None:
    size = float(np.clip(6000 / max(len(drawn), 1), 1.2, 36))
    edge = 0.3 if size > 6 else 0.0  # a white rim tells few dots apart and hides many
    subsets = np.array([s.subset for s in drawn])
    splits = np.array([s.split for s in drawn])
    for name, colour in colours.items():
        for split, (marker, big) in _MARKERS.items():
            which = (subsets == name) & (splits == split)
            if not which.any():
                continue
            ring = split == "buffer"
            axes.scatter(
                at[which, 0], at[which, 1], s=size * big, marker=marker,
                facecolors="none" if ring else colour, edgecolors=colour if ring else "white",
                linewidths=max(edge, 0.4) if ring else edge, zorder=3 + (big > 1),
            )  # fmt: skip


def _legends(
    figure: Any, sites: Sequence[Site], colours: Mapping[str, str], *, left: float, top: float,
    row: float,
) -> None:  # fmt: skip
    """Subsets with their counts, and below them what the marks mean."""
    from matplotlib.lines import Line2D

    primary = Counter(s.subset for s in sites if s.primary)
    spare = Counter(s.subset for s in sites if not s.primary)
    of_split = Counter(str(s.split) for s in sites if s.primary)
    subsets = [
        Line2D([], [], marker="o", linestyle="none", color=colour, markersize=7,
               label=f"{name}: {primary[name]:,} sites, {spare[name]:,} reserves")
        for name, colour in colours.items()
    ]  # fmt: skip
    splits = [
        Line2D([], [], marker=marker, linestyle="none", color="#666666", markersize=6,
               markerfacecolor="none" if split == "buffer" else "#666666",
               label=f"{split}: {of_split[split]:,}")
        for split, (marker, _) in _MARKERS.items()
    ]  # fmt: skip
    for handles, columns, y in ((subsets, _ABREAST, top), (splits, len(splits), top - row)):
        legend = figure.legend(
            handles=handles, loc="upper left", bbox_to_anchor=(left, y), ncols=columns,
            frameon=False, fontsize=10, columnspacing=1.6, handletextpad=0.2, borderpad=0,
            borderaxespad=0, handlelength=1.2,
        )  # fmt: skip
        figure.add_artist(legend)


def _scale_bar(axes: Any, box: Box) -> None:
    wide = box[2] - box[0]
    nice = [m * 10.0**e for e in range(3, 7) for m in (1, 2, 5)]  # metres
    length = max(n for n in nice if n <= max(wide / 5, nice[0]))
    x, y = box[0] + 0.03 * wide, box[1] + 0.03 * wide
    axes.plot([x, x + length], [y, y], color="#444444", lw=1.6, zorder=6, solid_capstyle="butt")
    axes.text(x + length / 2, y + 0.008 * wide, f"{length / 1000:g} km", ha="center", va="bottom",
              fontsize=9, color="#444444", zorder=6)  # fmt: skip


def _view(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> tuple[Transformer, Box]:
    """A projection in which areas are true, and the part of it to show, metres."""
    if lon.size:
        x, y = np.radians(lon), np.radians(lat)
        ups = np.column_stack([np.cos(y) * np.cos(x), np.cos(y) * np.sin(x), np.sin(y)])
        middle = ups.mean(axis=0)
        spread = np.degrees(np.arccos(np.clip(ups @ (middle / np.linalg.norm(middle)), -1, 1)))
        if spread.max() * 2 <= _WIDE:
            at = (
                np.degrees(np.arctan2(middle[1], middle[0])),
                np.degrees(np.arctan2(middle[2], np.hypot(middle[0], middle[1]))),
            )
            project = Transformer.from_crs(
                "EPSG:4326",
                f"+proj=laea +lon_0={at[0]:.6f} +lat_0={at[1]:.6f} +datum=WGS84",
                always_xy=True,
            )
            east, north = project.transform(lon, lat)
            half_x = max(float(np.ptp(east)) * 0.54, 50_000.0)
            half_y = max(float(np.ptp(north)) * 0.54, half_x * 0.45)
            half_x = max(half_x, half_y * 0.8)  # never much taller than wide
            x0, y0 = (east.min() + east.max()) / 2, (north.min() + north.max()) / 2
            return project, (x0 - half_x, y0 - half_y, x0 + half_x, y0 + half_y)
    project = Transformer.from_crs("EPSG:4326", "+proj=eqearth +datum=WGS84", always_xy=True)
    half_x = float(project.transform(180.0, 0.0)[0])
    half_y = float(project.transform(0.0, 90.0)[1])
    return project, (-half_x, -half_y, half_x, half_y)


def _land(project: Transformer, box: Box, strata: Strata) -> NDArray[np.float64]:
    """Sea, land and white beyond the map as RGB, (y, x, 3), north up."""
    from matplotlib.colors import to_rgb

    width = 1728
    height = round(width * (box[3] - box[1]) / (box[2] - box[0]))
    x = box[0] + (np.arange(width) + 0.5) * (box[2] - box[0]) / width
    y = box[3] - (np.arange(height) + 0.5) * (box[3] - box[1]) / height
    mesh = np.meshgrid(x, y)
    lon, lat = project.transform(*mesh, direction="INVERSE")
    back = project.transform(lon, lat)
    tolerance = 2 * (box[2] - box[0]) / width
    on = np.isfinite(lon) & np.isfinite(lat)
    on &= np.hypot(back[0] - mesh[0], back[1] - mesh[1]) < tolerance
    fine = (box[2] - box[0]) / width < 3000  # metres: here the cells of 0.05° would show
    land = strata.is_land if fine else strata.land
    share = land(np.where(on, lon, 0), np.where(on, lat, 0)).astype(np.float32)[..., None]
    colour = np.array(to_rgb(_SEA)) * (1 - share) + np.array(to_rgb(_LAND)) * share
    return np.where(on[..., None], colour, 1.0)


def _graticule(axes: Any, project: Transformer, box: Box) -> None:
    step = 30 if box[2] > 1e7 else 10 if box[2] > 1.5e6 else 2
    fine = np.linspace(-1, 1, 721)
    for lon in range(-180, 181, step):
        axes.plot(*project.transform(np.full(721, float(lon)), fine * 89.999), color=_LINES, lw=0.5)
    for lat in range(-90 + step, 90, step):
        axes.plot(*project.transform(fine * 180, np.full(721, float(lat))), color=_LINES, lw=0.5)
