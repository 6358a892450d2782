"""`plan.png`: where the sites are."""

from __future__ import annotations

from collections.abc import Sequence
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
_WIDE = 70.0  # degrees of a great circle; sites that spread further are drawn on the whole globe


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
    from matplotlib.lines import Line2D

    drawn = [site for site in sites if site.primary]
    lon, lat = np.array([s.lon for s in drawn]), np.array([s.lat for s in drawn])
    project, box = _view(lon, lat)
    figure = Figure(figsize=(12, 12 * (box[3] - box[1]) / (box[2] - box[0]) + 1.3), dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.02, 0.02, 0.96, 0.86))
    axes.imshow(_land(project, box, strata), extent=(box[0], box[2], box[1], box[3]), zorder=0)
    _graticule(axes, project, box)
    handles = []
    size = float(np.clip(6000 / max(len(drawn), 1), 1.2, 36))
    edge = 0.3 if size > 6 else 0.0  # a white rim tells few dots apart and hides many
    for colour, subset in zip(
        [COLOURS[i % len(COLOURS)] for i in range(99)],
        sorted({s.subset for s in sites}),
        strict=False,
    ):
        here = np.array([s.subset == subset for s in drawn], bool)
        kinds = np.array([s.split for s in drawn])
        for split, marker, big in (
            ("train", "o", 1.0), ("buffer", "o", 1.0), ("val", "^", 2.2), ("test", "s", 2.2),
        ):  # fmt: skip
            which = here & (kinds == split)
            if not which.any():
                continue
            x, y = project.transform(lon[which], lat[which])
            face = colour if split != "buffer" else "none"
            axes.scatter(
                x, y, s=size * big, marker=marker, facecolors=face, edgecolors=colour if
                split == "buffer" else "white", linewidths=edge, zorder=3 + (split != "train"),
            )  # fmt: skip
        spare = sum(s.subset == subset and not s.primary for s in sites)
        handles.append(
            Line2D([], [], marker="o", linestyle="none", color=colour, markersize=7,
                   label=f"{subset}: {int(here.sum()):,} sites, {spare:,} reserves")
        )  # fmt: skip
    for marker, name, face in (("o", "train", "grey"), ("^", "val", "grey"), ("s", "test", "grey"),
                               ("o", "buffer", "none")):  # fmt: skip
        n = sum(s.split == name for s in drawn)
        handles.append(
            Line2D([], [], marker=marker, linestyle="none", color="grey", markersize=6,
                   markerfacecolor=face, label=f"{name}: {n:,}")
        )  # fmt: skip
    axes.set_xlim(box[0], box[2])
    axes.set_ylim(box[1], box[3])
    axes.set_axis_off()
    figure.text(0.02, 0.965, title, fontsize=17, fontweight="bold", va="center")
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0.012, 0.955), ncols=4, frameon=False,
        fontsize=10, columnspacing=1.4, handletextpad=0.3,
    )  # fmt: skip
    if synthetic:
        figure.text(
            0.5, 0.42, "SYNTHETIC", fontsize=60, color="black", alpha=0.08, ha="center",
            va="center", rotation=20, fontweight="bold", zorder=9,
        )  # fmt: skip
    with writing(path) as part:
        figure.savefig(part, format="png", metadata={"Software": None})


Box = tuple[float, float, float, float]


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
            half_x = max(float(np.abs(east).max()), 50_000.0) * 1.12
            half_y = float(np.clip(np.abs(north).max() * 1.12, half_x * 0.45, half_x * 1.0))
            half_x = max(half_x, half_y)
            return project, (-half_x, -half_y, half_x, half_y)
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
    share = strata.land(np.where(on, lon, 0), np.where(on, lat, 0))[..., None]
    colour = np.array(to_rgb(_SEA)) * (1 - share) + np.array(to_rgb(_LAND)) * share
    return np.where(on[..., None], colour, 1.0)


def _graticule(axes: Any, project: Transformer, box: Box) -> None:
    step = 30 if box[2] > 1e7 else 10 if box[2] > 1.5e6 else 2
    fine = np.linspace(-1, 1, 721)
    for lon in range(-180, 181, step):
        axes.plot(*project.transform(np.full(721, float(lon)), fine * 89.999), color=_LINES, lw=0.5)
    for lat in range(-90 + step, 90, step):
        axes.plot(*project.transform(fine * 180, np.full(721, float(lat))), color=_LINES, lw=0.5)
