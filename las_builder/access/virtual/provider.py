"""`VirtualEarth`: a provider like any other, except that its truth can be asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from las_builder.access.composite import composed
from las_builder.access.protocol import LabelRequest, ReadRequest, SearchRequest
from las_builder.access.virtual import orbits, products, sensors, sky
from las_builder.access.virtual.ground import Window, World, glance, locate
from las_builder.catalogs import Catalogs, Imagery, LabelProduct
from las_builder.core.grid import Grid
from las_builder.core.types import Chip, Gap, GapReason, LabelSource, Scene
from las_builder.errors import SourceError

_ALIGNED = 1e-6  # of a pixel


@dataclass(frozen=True)
class VirtualEarth:
    """Every imagery source and label product whose declaration has `provider: virtual`.

    Any place has one truth; scenes, bands and products are functions of it, of their declaration
    and of the seed, so nothing is stored and two requests that overlap agree.
    """

    catalogs: Catalogs
    seed: int = 0
    spread: float = 0.0
    """Every parameter differs from the declared one by up to this share of itself."""

    draw: int = 0
    """Which of the worlds of that spread."""

    name: str = "virtual"
    synthetic: bool = True

    @property
    def world(self) -> World:
        """The planet itself."""
        return World(self.catalogs.folders, self.seed, self.spread, self.draw)

    def truth(
        self,
        lon: NDArray[np.float64],
        lat: NDArray[np.float64],
        resolution: float = 10.0,
        year: int = 2021,
    ) -> NDArray[np.uint8]:
        """Index into `LEAVES` of what is there, at degrees of any shape; see `World.truth`."""
        return self.world.truth(lon, lat, resolution, year)

    def truth_codes(
        self, product: LabelProduct, lon: NDArray[np.float64], lat: NDArray[np.float64]
    ) -> NDArray[np.integer]:
        """What a product without errors, limits or clouds would say at degrees of any shape."""
        return products.codes_of_leaves(product, self.catalogs.ontology)[
            self.truth(lon, lat, product.gsd)
        ]

    def search(self, imagery: Imagery, requests: Sequence[SearchRequest]) -> list[list[Scene]]:
        """See `Access.search`."""
        self.check(imagery, [], [])
        return [orbits.scenes(self.world, imagery, r.grid, r.period, r.max_cloud) for r in requests]

    def read(self, imagery: Imagery, requests: Sequence[ReadRequest]) -> list[Chip | Gap]:
        """See `Access.read`."""
        self.check(imagery, [], [])
        return composed(self._read_all, imagery, requests)

    def labels(
        self, product: LabelProduct, requests: Sequence[LabelRequest]
    ) -> list[LabelSource | Gap]:
        """See `Access.labels`."""
        self.check(None, [], [product])
        return [self._label(product, request) for request in requests]

    def labelled(self, product: LabelProduct, requests: Sequence[LabelRequest]) -> list[bool]:
        """See `Access.labelled`: by the cloud of the scene, as the product declares."""
        return [product.epoch.maps(request.scene) for request in requests]

    def sites(self, imagery: Imagery, products: Sequence[LabelProduct]) -> list[Scene] | None:
        """None: its scenes have no end."""
        del imagery, products
        return None

    def check(
        self, imagery: Imagery | None, bands: Sequence[str], products: Sequence[LabelProduct]
    ) -> None:
        """Refuse what the declarations do not give to the virtual Earth.

        Raises:
            SourceError: No `virtual` entry in `where`, or a validity band it cannot fill in.
        """
        del bands  # it has every band of what it has
        for thing in ([imagery] if imagery is not None else []) + list(products):
            if thing.at(self.name) is None:
                raise SourceError(
                    thing.name,
                    "source",
                    self.name,
                    f"one of {', '.join(sorted({w.provider for w in thing.where}))}",
                    "Or add `{provider: virtual}` to `where` of its declaration.",
                )
        band = imagery.validity.band if imagery is not None else None
        made = imagery is not None and imagery.validity.computed is not None
        if imagery is not None and band is not None and not made and band not in sky.QA_BANDS:
            raise SourceError(
                imagery.name, "validity.band", band, f"one of {', '.join(sky.QA_BANDS)}"
            )

    def _read_all(self, imagery: Imagery, requests: Sequence[ReadRequest]) -> list[Chip | Gap]:
        return [self._read(imagery, request) for request in requests]

    def _read(self, imagery: Imagery, request: ReadRequest) -> Chip | Gap:
        pieces = [
            _on_grid(self.world, imagery, request, names) for names in _by_kind(imagery, request)
        ]
        inside = np.logical_and.reduce([piece.inside for piece in pieces])
        if not inside.any():
            return Gap(request.site, GapReason.NOT_COVERED, request.scene.id)
        by_name = {
            name: layer
            for piece in pieces
            for name, layer in zip(piece.bands, piece.data, strict=True)
        }
        return Chip(
            grid=request.grid,
            bands=request.bands,
            data=np.stack([by_name[name] for name in request.bands]),
            inside=inside,
            resampled=any(piece.resampled for piece in pieces),
        )

    def _label(self, product: LabelProduct, request: LabelRequest) -> LabelSource | Gap:
        scene = request.scene
        if product.epoch.rule == "same-scene" and not product.epoch.maps(scene):
            return Gap(request.site, GapReason.NO_LABEL, f"{product.name} for {scene.id}")
        window = products.window_around(product, request.grid, scene)
        if window is None:
            return Gap(request.site, GapReason.NO_LABEL, f"{product.name}: around a pole")
        found = products.label(self.world, product, self.catalogs.ontology, window, scene)
        if found is None or (found[0] == product.nodata).all():
            return Gap(request.site, GapReason.NO_LABEL, product.name)
        codes, evidence = found
        same_scene = product.epoch.rule == "same-scene"
        year = None if same_scene else product.epoch.year_for(scene.datetime.year)
        return LabelSource(
            product=product.name,
            version=f"VIRT_{product.name}_{scene.id if same_scene else year}",
            grid=window.grid(),
            codes=codes,
            nodata=product.nodata,
            evidence=evidence,
        )


@dataclass(frozen=True, slots=True)
class _Layer:
    """Bands of one scene that share pixels, and how to make them."""

    world: World
    imagery: Imagery
    scene: Scene
    names: tuple[str, ...]
    categorical: bool
    whole: Window
    """All of the scene, at the pixel of these bands."""

    @classmethod
    def of(cls, world: World, imagery: Imagery, scene: Scene, names: tuple[str, ...]) -> _Layer:
        qa = names == (imagery.validity.band,)
        coarser = (imagery.validity.gsd or imagery.gsd) / imagery.gsd if qa else 1.0
        full = Window.of(scene.grid)
        whole = Window(
            full.crs,
            full.origin,
            (full.pixel[0] * coarser, full.pixel[1] * coarser),
            0,
            0,
            math.ceil(full.width / coarser),
            math.ceil(full.height / coarser),
        )
        return cls(world, imagery, scene, names, qa, whole)

    def numbers(self, columns: _Span, rows: _Span) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        """(band, y, x) of some columns and rows of the scene, ends excluded; what was seen, (y, x)."""
        w = self.whole
        window = Window(
            w.crs,
            w.origin,
            w.pixel,
            columns[0],
            rows[0],
            columns[1] - columns[0],
            rows[1] - rows[0],
        )
        seen = orbits.seen(self.scene, window)
        if self.categorical:
            leaf = glance(self.world, window, self.scene.datetime.year).leaf.reshape(window.shape)
            white = sensors.snow(self.world, self.scene, window)
            return sky.qa(self.world, self.imagery, self.scene, window, leaf, white)[None], seen
        return sensors.bands(self.world, self.imagery, self.scene, self.names, window), seen

    def nothing(self, grid: Grid, *, resampled: bool) -> Chip:
        """A chip in which no pixel is inside."""
        imagery = self.imagery
        nodata = imagery.validity.nodata if self.categorical else imagery.nodata
        dtype = sky.qa_dtype(imagery) if self.categorical else imagery.dtype
        data = np.full((len(self.names), *grid.shape), nodata or 0, dtype)
        inside = np.zeros(grid.shape, bool)
        return Chip(grid=grid, bands=self.names, data=data, inside=inside, resampled=resampled)


_Span = tuple[int, int]


def _by_kind(imagery: Imagery, request: ReadRequest) -> list[tuple[str, ...]]:
    """The image bands asked for, and the validity band, which has pixels of its own."""
    qa = imagery.validity.band
    image = tuple(name for name in request.bands if name != qa)
    return [names for names in (image, (qa,) if qa in request.bands else ()) if names]


def _on_grid(world: World, imagery: Imagery, request: ReadRequest, names: tuple[str, ...]) -> Chip:
    """Bands on a grid by the rules of `Access.read`."""
    layer = _Layer.of(world, imagery, request.scene, names)
    if request.grid.crs == layer.whole.crs:
        lines = [_lines(request.grid, layer.whole, axis) for axis in (0, 1)]
        if lines[0] is not None and lines[1] is not None:
            return _aligned(layer, request.grid, lines[0], lines[1])
    return _warped(layer, request.grid)


def _lines(grid: Grid, whole: Window, axis: int) -> tuple[NDArray[np.int64], int] | None:
    """Columns (axis 0) or rows (axis 1) of the scene under each of the grid's, and how many each.

    None where edges do not coincide.
    """
    g, s = grid.pixel[axis], whole.pixel[axis]
    west_or_north = (grid.transform.c, -grid.transform.f)[axis]
    start = west_or_north - (whole.origin[0], -whole.origin[1])[axis]
    n = (grid.width, grid.height)[axis]
    repeat, block = (round(s / g), 1) if s >= g else (1, round(g / s))
    fine = s / repeat
    first = start / fine
    drift = abs(n * g / fine - n * block)
    if abs(first - round(first)) > _ALIGNED * n or drift > _ALIGNED * n:
        return None
    return (round(first) + np.arange(n * block, dtype=np.int64)) // repeat, block


def _aligned(
    layer: _Layer,
    grid: Grid,
    columns: tuple[NDArray[np.int64], int],
    rows: tuple[NDArray[np.int64], int],
) -> Chip:
    """Copied, repeated where the scene is coarser, averaged where it is finer."""
    (x, kx), (y, ky) = columns, rows
    xs = (max(0, int(x[0])), min(layer.whole.width, int(x[-1]) + 1))
    ys = (max(0, int(y[0])), min(layer.whole.height, int(y[-1]) + 1))
    chip = layer.nothing(grid, resampled=False)
    if xs[0] >= xs[1] or ys[0] >= ys[1]:
        return chip
    if layer.categorical:
        x, y, kx, ky = x[kx // 2 :: kx], y[ky // 2 :: ky], 1, 1
    inside = np.logical_and.outer((y >= ys[0]) & (y < ys[1]), (x >= xs[0]) & (x < xs[1]))
    found, seen = layer.numbers(xs, ys)
    at = (y.clip(ys[0], ys[1] - 1) - ys[0])[:, None], x.clip(xs[0], xs[1] - 1) - xs[0]
    picked = found[:, *at]
    inside &= seen[at]
    if kx > 1 or ky > 1:
        blocks = inside.reshape(grid.height, ky, grid.width, kx)
        count = blocks.sum(axis=(1, 3))
        total = np.where(inside, picked, 0).reshape(-1, grid.height, ky, grid.width, kx)
        mean = total.sum(axis=(2, 4), dtype=np.float64) / np.maximum(count, 1)
        picked, inside = _as(chip.data.dtype, mean), count > 0
    chip.data[:, inside] = picked[:, inside]
    chip.inside[:] = inside
    return chip


def _warped(layer: _Layer, grid: Grid) -> Chip:
    """Bilinear between the centres of the scene's pixels, categorical nearest.

    Meant for pixels of about one size: a finer scene is sampled, not averaged.
    """
    chip = layer.nothing(grid, resampled=True)
    w = layer.whole
    x, y = locate(grid, w.crs)
    column, row = (x - w.origin[0]) / w.pixel[0] - 0.5, (w.origin[1] - y) / w.pixel[1] - 0.5
    inside = np.isfinite(column) & np.isfinite(row)
    inside &= (column >= -0.5) & (column < w.width - 0.5) & (row >= -0.5) & (row < w.height - 0.5)
    if not inside.any():
        return chip
    column, row = column[inside], row[inside]
    xs = (max(0, math.floor(column.min())), min(w.width, math.floor(column.max()) + 2))
    ys = (max(0, math.floor(row.min())), min(w.height, math.floor(row.max()) + 2))
    found, seen = layer.numbers(xs, ys)

    def at(i: NDArray[np.float64], j: NDArray[np.float64]) -> NDArray[Any]:
        i, j = i.clip(xs[0], xs[1] - 1) - xs[0], j.clip(ys[0], ys[1] - 1) - ys[0]
        return found[:, j.astype(np.int64), i.astype(np.int64)]

    if layer.categorical:
        chip.data[:, inside] = at(np.floor(column + 0.5), np.floor(row + 0.5))
    else:
        i, j = np.floor(column), np.floor(row)
        u, v = column - i, row - j
        above = at(i, j) * (1 - u) + at(i + 1, j) * u
        below = at(i, j + 1) * (1 - u) + at(i + 1, j + 1) * u
        chip.data[:, inside] = _as(chip.data.dtype, above * (1 - v) + below * v)
    column, row = np.floor(column + 0.5), np.floor(row + 0.5)
    chip.inside[inside] = seen[
        (row.clip(ys[0], ys[1] - 1) - ys[0]).astype(np.int64),
        (column.clip(xs[0], xs[1] - 1) - xs[0]).astype(np.int64),
    ]
    chip.data[:, ~chip.inside] = layer.nothing(grid, resampled=True).data[:, ~chip.inside]
    return chip


def _as(dtype: np.dtype[Any], values: NDArray[np.float64]) -> NDArray[np.generic]:
    return (np.rint(values) if dtype.kind in "iu" else values).astype(dtype)
