"""`plan.png`: where the sites are, a map a subset, coloured by split; areas on it are true."""

from __future__ import annotations

import functools
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer

from las_builder.catalogs import Strata
from las_builder.core.types import Site
from las_builder.plan.sphere import normal
from las_builder.plan.splits import COLOURS
from las_builder.plan.table import SiteTable

_MARKERS = {"train": "o", "val": "^", "test": "s", "buffer": "o", "benchmark": "D"}
_SEA, _LAND, _COAST, _LINES = "#eef3f7", "#dedbd3", "#a9a59b", "#cdd6de"
_DPI = 160
_WIDE = 100.0  # degrees of a great circle; sites that spread further are drawn on the whole globe
_GLOBE = 0.4867  # height of an Equal Earth map over its width
_FINE = 3000.0  # metres a pixel; below, the cells of 0.05° would show

_APART = 16  # looks between those that are projected

_MARGIN, _GAP, _HEAD, _NAME, _FOOT = 0.25, 0.3, 0.85, 0.52, 0.3  # inches
_PAGE = 12.0  # inches across

Box = tuple[float, float, float, float]
"""West, south, east, north of a map, metres."""


@dataclass(frozen=True, eq=False)
class View:
    """A projection in which areas are true, and the part of it to show."""

    project: Transformer
    box: Box

    @classmethod
    def of(
        cls, lon: NDArray[np.float64], lat: NDArray[np.float64], shape: float | None = None
    ) -> View:
        """Of places (degrees): Lambert's azimuthal around them, or Equal Earth where they are far.

        Args:
            lon: (n,).
            lat: (n,).
            shape: Height over width that a map around places is to have; None: as it comes.
        """
        if lon.size:
            x, y = np.radians(lon), np.radians(lat)
            ups = np.column_stack([np.cos(y) * np.cos(x), np.cos(y) * np.sin(x), np.sin(y)])
            middle = ups.mean(axis=0)
            middle /= max(float(np.linalg.norm(middle)), 1e-9)
            spread = np.degrees(np.arccos(np.clip(ups @ middle, -1, 1)))
            if spread.max() * 2 <= _WIDE:
                at = np.round(
                    np.degrees([np.arctan2(middle[1], middle[0]), np.arcsin(middle[2])]), 1
                )
                return cls._around(float(at[0]), float(at[1]), lon, lat, shape)
        project = Transformer.from_crs("EPSG:4326", "+proj=eqearth +datum=WGS84", always_xy=True)
        half_x = float(project.transform(180.0, 0.0)[0])
        half_y = float(project.transform(0.0, 90.0)[1])
        return cls(project, (-half_x, -half_y, half_x, half_y))

    @classmethod
    def _around(
        cls, lon0: float, lat0: float, lon: NDArray[np.float64], lat: NDArray[np.float64],
        shape: float | None,
    ) -> View:  # fmt: skip
        project = Transformer.from_crs(
            "EPSG:4326", f"+proj=laea +lon_0={lon0:.1f} +lat_0={lat0:.1f} +datum=WGS84",
            always_xy=True,
        )  # fmt: skip
        east, north = project.transform(lon, lat)
        half_x = max(float(np.ptp(east)) * 0.54, 50_000.0)
        half_y = max(float(np.ptp(north)) * 0.54, half_x * 0.45)
        half_x = max(half_x, half_y * 0.8)  # never much taller than wide
        if shape is not None:
            half_x, half_y = max(half_x, half_y / shape), max(half_y, half_x * shape)
        x, y = (east.min() + east.max()) / 2, (north.min() + north.max()) / 2
        box = (x - half_x, y - half_y, x + half_x, y + half_y)
        west, south, east_, north_ = (round(float(v), -2) for v in box)
        return cls(project, (west, south, east_, north_))

    @property
    def globe(self) -> bool:
        """Whether it is the whole Earth."""
        return self.box[2] - self.box[0] > 3e7

    @property
    def shape(self) -> float:
        """Height over width."""
        return (self.box[3] - self.box[1]) / (self.box[2] - self.box[0])

    def degrees(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Longitude and latitude of a mesh of columns and rows, NaN beyond the map; (y, x)."""
        if self.globe:  # lines of latitude are straight, and longitude is even along them
            lat = np.asarray(self.project.transform(np.zeros(y.size), y, direction="INVERSE")[1])
            edge = np.asarray(self.project.transform(np.full(y.size, 180.0), lat)[0])
            lon = x[None, :] / edge[:, None] * 180
            lon[np.abs(lon) > 180] = np.nan
            return lon, np.broadcast_to(lat[:, None], lon.shape)
        # Projected every few places; between them the Earth is as good as flat.
        across, down = _knots(x), _knots(y)
        lon, lat = self.project.transform(*np.meshgrid(across, down), direction="INVERSE")
        lon[~np.isfinite(lon)] = np.nan
        up = _between(normal(lon, lat), down, y, across, x)
        lon = np.degrees(np.arctan2(up[1], up[0]))
        lat = np.degrees(np.arctan2(up[2], np.hypot(up[0], up[1])))
        return lon, np.where(np.isfinite(lon), lat, 0.0)


def _knots(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Some of evenly spaced places, their ends among them."""
    return np.linspace(places[0], places[-1], max(2, 1 + -(-(places.size - 1) // _APART)))


def _between(
    values: NDArray[np.float64], down: NDArray[np.float64], y: NDArray[np.float64],
    across: NDArray[np.float64], x: NDArray[np.float64],
) -> NDArray[np.float64]:  # fmt: skip
    """Values of knots, (down, across, n), by straight lines at a mesh: (n, y, x)."""
    i, v = _steps(down, y)
    j, u = _steps(across, x)
    some = np.moveaxis(values, -1, 0)
    lines = some[:, i] * (1 - v)[:, None] + some[:, i + 1] * v[:, None]
    return np.asarray(lines[:, :, j] * (1 - u) + lines[:, :, j + 1] * u)


def _steps(
    knots: NDArray[np.float64], places: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The knot before each place, and how far it is on the way to the next, 0 to 1."""
    way = (places - knots[0]) / (knots[1] - knots[0])
    at = np.clip(np.floor(way), 0, knots.size - 2).astype(np.intp)
    return at, way - at


def draw_plan(sites: Sequence[Site], strata: Strata, *, title: str, synthetic: bool) -> bytes:
    """The primaries of every subset over land, coloured by split: a PNG; equal sites, equal bytes.

    Args:
        sites: Of the whole corpus; reserves are counted and not drawn.
        strata: Gives the land.
        title: Name of the corpus.
        synthetic: Whether the pixels will be made up; then the picture says so.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    table = SiteTable.of(sites)
    primary = table.of_rows(table.primary)
    spare = Counter(table.subset[~table.primary].tolist())
    # The largest first: where the number of maps is odd, it has a line of its own.
    number = Counter(primary.subset.tolist())
    names = sorted(set(table.subset.tolist()), key=lambda name: (-number[name], name)) or [""]
    parts = [primary.of_subset(name) for name in names]
    shape = None if len(names) == 1 else _GLOBE
    here = [part.of_rows(np.isfinite(part.lon)) for part in parts]  # pictures may have no place
    views = [View.of(part.lon, part.lat, shape) for part in here]

    wide = _PAGE - 2 * _MARGIN
    half = (wide - _GAP) / 2
    places, top = [], _HEAD  # left, top, width, height of every map, inches
    for i, view in enumerate(views):
        alone = len(views) % 2 == 1 and i == 0
        across = wide if alone else half
        column = 0 if alone else (i - len(views) % 2) % 2
        tall = across * view.shape
        name = 0.0 if names == [""] else 0.3 if names == [title] else _NAME
        places.append((_MARGIN + column * (half + _GAP), top + name, across, tall))
        if alone or column == 1:
            top += name + tall + 0.15
    page = top + _FOOT
    figure = Figure(figsize=(_PAGE, page), dpi=_DPI)
    FigureCanvasAgg(figure)

    figure.text(
        _MARGIN / _PAGE, 1 - 0.36 / page, title, fontsize=18, fontweight="bold", va="center"
    )
    _legend(figure, primary, page)
    for name, view, part, dots, (left, above, across, tall) in zip(
        names, views, parts, here, places, strict=True
    ):
        axes = figure.add_axes(
            (left / _PAGE, 1 - (above + tall) / page, across / _PAGE, tall / page)
        )
        _map(axes, view, dots, strata, across, synthetic=synthetic)
        if name:
            counts = f"{len(part):,} sites, {spare[name]:,} reserves"
            if len(dots) < len(part):
                counts += f", {len(part) - len(dots):,} without a place"
            shown = "" if names == [title] else name
            _headings(figure, shown, counts, part, left / _PAGE, 1 - above / page, 1 / page)
    figure.text(
        _MARGIN / _PAGE, 0.16 / page,
        "Primary sites of each subset, by split. Areas are true: Equal Earth, or Lambert's "
        "azimuthal equal-area projection around a region.",
        fontsize=8, color="#5c6670", va="center",
    )  # fmt: skip
    done = io.BytesIO()
    figure.savefig(done, format="png", metadata={"Software": None})
    return done.getvalue()


def _headings(
    figure: Any, name: str, counts: str, part: SiteTable, left: float, top: float, inch: float
) -> None:
    """The name of a subset, how many sites it has, and how many in every split."""
    figure.text(left, top + 0.36 * inch, name, fontsize=12, fontweight="bold", va="center")
    splits = Counter(part.split.tolist())
    shares = "   ".join(f"{split} {splits[split]:,}" for split in COLOURS if splits[split])
    figure.text(
        left, top + 0.15 * inch, f"{counts}:   {shares}" if shares else counts, fontsize=7.6,
        color="#444444", va="center",
    )  # fmt: skip


def _legend(figure: Any, primary: SiteTable, page: float) -> None:
    from matplotlib.lines import Line2D

    total = Counter(primary.split.tolist())
    handles = [
        Line2D([], [], marker=_MARKERS[split], linestyle="none", color=colour, markersize=6.5,
               markerfacecolor="none" if split == "buffer" else colour,
               label=f"{split}  {total[split]:,}")
        for split, colour in COLOURS.items()
        if total[split] or split in ("train", "val", "test")
    ]  # fmt: skip
    legend = figure.legend(
        handles=handles, loc="center right", bbox_to_anchor=(1 - _MARGIN / _PAGE, 1 - 0.36 / page),
        ncols=len(handles), frameon=False, fontsize=10.5, columnspacing=1.5, handletextpad=0.1,
        borderpad=0, borderaxespad=0,
    )  # fmt: skip
    figure.add_artist(legend)


def _map(
    axes: Any, view: View, part: SiteTable, strata: Strata, across: float, *, synthetic: bool
) -> None:
    """Land, lines and dots of one subset, `across` inches wide."""
    box = view.box
    picture, land = _land(view, strata, round(across * _DPI))
    axes.imshow(picture, extent=(box[0], box[2], box[1], box[3]), zorder=0, interpolation="nearest")
    _graticule(axes, view)
    if synthetic:
        axes.text(
            0.5, 0.5, "SYNTHETIC", transform=axes.transAxes, fontsize=5.2 * across, color="black",
            alpha=0.09, ha="center", va="center", rotation=20, fontweight="bold", zorder=2,
        )  # fmt: skip
    x, y = view.project.transform(part.lon, part.lat)
    x, y = np.round(x), np.round(y)  # metres: the last bits of a projection draw nothing
    points = (across * 72) ** 2 * view.shape  # of the map, square points
    size = float(np.clip(0.22 * points * max(land, 0.02) / max(len(part), 1), 0.8, 30))
    rim = 0.3 if size > 6 else 0.0  # a white rim tells few dots apart and hides many
    for z, split in enumerate(("buffer", "train", "val", "test", "benchmark")):
        which = part.split == split
        if not which.any():
            continue
        colour = COLOURS[split]
        ring = split == "buffer" and size > 3
        larger = 1.6 if split in ("val", "test", "benchmark") else 1.0
        axes.scatter(
            x[which], y[which], s=size * larger, marker=_MARKERS[split],
            facecolors="none" if ring else colour, edgecolors=colour if ring else "white",
            linewidths=0.5 if ring else rim, zorder=3 + z,
        )  # fmt: skip
    if not view.globe:
        _scale_bar(axes, box)
    axes.set_xlim(box[0], box[2])
    axes.set_ylim(box[1], box[3])
    axes.set_axis_off()


def _scale_bar(axes: Any, box: Box) -> None:
    wide = box[2] - box[0]
    nice = [m * 10.0**e for e in range(3, 7) for m in (1, 2, 5)]  # metres
    length = max(n for n in nice if n <= max(wide / 5, nice[0]))
    x, y = box[0] + 0.03 * wide, box[1] + 0.03 * wide
    axes.plot([x, x + length], [y, y], color="#444444", lw=1.6, zorder=9, solid_capstyle="butt")
    axes.text(x + length / 2, y + 0.008 * wide, f"{length / 1000:g} km", ha="center", va="bottom",
              fontsize=8, color="#444444", zorder=9)  # fmt: skip


@functools.lru_cache(maxsize=2)
def _globe(strata: Strata, width: int) -> tuple[NDArray[np.float64], float]:
    return _painted(View.of(np.zeros(0), np.zeros(0)), strata, width)


def _land(view: View, strata: Strata, width: int) -> tuple[NDArray[np.float64], float]:
    """Sea, land, coast and white beyond the map as RGB, (y, x, 3), north up; the share of land."""
    return _globe(strata, width) if view.globe else _painted(view, strata, width)


def _painted(view: View, strata: Strata, width: int) -> tuple[NDArray[np.float64], float]:
    from matplotlib.colors import to_rgb

    box, height = view.box, round(width * view.shape)
    fine = 2  # looks along a side of a pixel
    x = box[0] + (np.arange(width * fine) + 0.5) * (box[2] - box[0]) / (width * fine)
    y = box[3] - (np.arange(height * fine) + 0.5) * (box[3] - box[1]) / (height * fine)
    lon, lat = view.degrees(x, y)
    on = np.isfinite(lon)
    look = strata.is_land if (box[2] - box[0]) / width < _FINE else strata.land
    share = look(np.where(on, lon, 0), lat).astype(np.float64) * on
    cells = (height, fine, width, fine)
    share = share.reshape(cells).mean(axis=(1, 3))
    inside = on.reshape(cells).mean(axis=(1, 3))
    sea, land, coast = (np.array(to_rgb(c)) for c in (_SEA, _LAND, _COAST))
    s = np.divide(share, inside, out=np.zeros_like(share), where=inside > 0)[..., None]
    edge = np.clip(6 * s * (1 - s), 0, 1)  # the line of the coast is where pixels are mixed
    colour = (sea * (1 - s) + land * s) * (1 - edge) + coast * edge
    return colour * inside[..., None] + (1 - inside[..., None]), float(share.mean())


def _graticule(axes: Any, view: View) -> None:
    wide = view.box[2] - view.box[0]
    step = 30 if view.globe else 10 if wide > 3e6 else 5 if wide > 1e6 else 1
    fine = np.linspace(-1, 1, 361 if view.globe else 3601)
    for lon in range(-180, 181 if view.globe else 180, step):
        axes.plot(
            *view.project.transform(np.full(fine.size, float(lon)), fine * 89.999), color=_LINES,
            lw=0.4, zorder=1,
        )  # fmt: skip
    for lat in range(-90 + step, 90, step):
        axes.plot(
            *view.project.transform(fine * 180, np.full(fine.size, float(lat))), color=_LINES,
            lw=0.4, zorder=1,
        )  # fmt: skip
