"""Label maps of a static catalogue: which one goes with a scene, and its tiles put together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from las_builder.access import ranges, raster, web
from las_builder.access.features import draw
from las_builder.access.items import Index, Map, find_asset, reference_to
from las_builder.access.meet import same_crs
from las_builder.access.protocol import LabelRequest
from las_builder.access.read import changed_since, not_another
from las_builder.catalogs import LabelProduct
from las_builder.core.grid import Grid, is_geographic, transformer
from las_builder.core.types import AssetRef, Gap, GapReason, LabelSource, PinnedMap, Scene
from las_builder.errors import AccessError, LegendError, RasterError

Around = Callable[[Grid, Map, AssetRef], list[raster.Window]]
"""What a band of a map says around a grid, on the map's own pixels; see `raster.read_around`."""


def _of_file(grid: Grid, one: Map, ref: AssetRef) -> list[raster.Window]:
    del one
    if web.is_url(ref.href):
        not_another(ref.href, partial(changed_since, ref))
    return raster.read_around(grid, ref.href, ref.index)


def read_map(
    product: LabelProduct, index: Index[Map], request: LabelRequest, around: Around = _of_file
) -> LabelSource | Gap:
    """What a label product says around one grid, on the product's own pixels; of a vector, on those
    of the grid.

    Args:
        product: Its epoch rule chooses the map.
        index: The maps there are.
        request: The grid, and the scene that the labels go with.
        around: How pixels are read; of files, where nothing is said.

    Raises:
        LegendError: A file holds numbers that the legend does not list.
        RasterError: A file cannot be read.
        AccessError: The server failed.
    """
    try:
        return _read_map(product, index, request, around)
    finally:
        raster.close_web()


def _read_map(
    product: LabelProduct, index: Index[Map], request: LabelRequest, around: Around
) -> LabelSource | Gap:
    maps = _chosen(product, index, request)
    when = request.scene.datetime.date()
    nothing = Gap(request.site, GapReason.NO_LABEL, f"{product.name} for {when}")
    if product.vector is not None:
        return draw(product, maps, request.grid) or nothing
    windows = []
    for one in maps:
        for window in around(request.grid, one, one.asset):
            codes = codes_of(window.data, window.nodata, product, one.asset.href)
            windows.append(_Part(one, window.grid, codes))
    if not windows:
        return nothing
    parts = _one_lattice(windows, request.grid)
    grid = _hull([part.grid for part in parts])
    used = list(dict.fromkeys(part.map.id for part in parts))
    return LabelSource(
        product=product.name,
        version="+".join(used),
        grid=grid,
        codes=_paste(parts, grid, product.nodata),
        nodata=product.nodata,
        evidence=_evidence(product, parts, grid, request.grid, around),
    )


def files_of(product: LabelProduct, index: Index[Map], request: LabelRequest) -> list[str]:
    """The files that `read_map` would read."""
    return [one.asset.href for one in _chosen(product, index, request)]


def pinned_maps(
    product: LabelProduct, index: Index[Map], request: LabelRequest
) -> tuple[PinnedMap, ...]:
    """The maps that `read_map` would read now, with size and ETag of their files on the web; of a
    file that is not there, or may not be asked about, neither: reading it will say so.

    Raises:
        AccessError: A server failed.
    """
    out = []
    for one in _chosen(product, index, request):
        href, size, etag = one.asset.href, None, None
        try:
            if web.is_url(href):
                size, etag = ranges.state(href)
        except AccessError as problem:
            if problem.kind not in ("absent", "refused"):
                raise
        out.append(PinnedMap(id=one.id, href=href.partition("?")[0], size=size, etag=etag))
    return tuple(out)


def _chosen(product: LabelProduct, index: Index[Map], request: LabelRequest) -> list[Map]:
    """Those that were pinned, as they were; else those of the epoch rule.

    Raises:
        AccessError: (class `changed`) The catalogue has one of them no more, or elsewhere.
    """
    near = list(index.meeting(request.grid))
    if request.maps is None:
        return _epoch(product, near, request.scene)
    by_id = {one.id: one for one in near}
    out = []
    for pinned in request.maps:
        one = by_id.get(pinned.id)
        moved = one is not None and one.asset.href.partition("?")[0] != pinned.href
        if one is None or (moved and web.is_url(pinned.href)):
            now = "is there no more" if one is None else f"is now at {one.asset.href}"
            raise AccessError(
                product.name, pinned.id, f"it was pinned at {pinned.href}, and {now}",
                kind="changed",
            )  # fmt: skip
        asset = replace(one.asset, size=pinned.size, etag=pinned.etag)
        out.append(replace(one, asset=asset))
    return out


def have_maps(
    product: LabelProduct, index_at: Callable[[Grid], Index[Map]], requests: Sequence[LabelRequest]
) -> list[bool]:
    """Whether there is a map that goes with the scene of each request, at its place.

    Args:
        product: Its epoch rule chooses.
        index_at: The maps near a grid.
        requests: Those of one grid are answered from one look.
    """
    near: dict[Grid, list[Map]] = {}
    for request in requests:
        if request.grid not in near:
            near[request.grid] = list(index_at(request.grid).meeting(request.grid))
    return [bool(_epoch(product, near[r.grid], r.scene)) for r in requests]


def _epoch(product: LabelProduct, maps: list[Map], scene: Scene) -> list[Map]:
    """Those maps that the epoch rule pairs with a scene."""
    if product.epoch.rule == "same-scene":
        return [m for m in maps if m.id == scene.id or scene.id in m.entry.item.properties.values()]
    image_year = scene.datetime.year
    years = [product.epoch.year_for(image_year)]
    if product.epoch.rule == "image-year" and product.epoch.years:
        years = sorted(product.epoch.years, key=lambda year: (abs(year - image_year), year))
    for year in years:
        if found := [m for m in maps if m.speaks_of(year)]:
            return found
    return []


def codes_of(
    data: NDArray[np.generic], stated: float | None, product: LabelProduct, href: str
) -> NDArray[np.integer]:
    """The codes of a label raster in the declared type, its own nodata turned into the declared and
    numbers that stand for others (`recode`) into those.

    Args:
        data: Any shape and type, as the file has it.
        stated: Nodata as the file states it.
        product: Declares the codes.
        href: The file, for the message.

    Raises:
        LegendError: Numbers that the legend does not list, or that are not whole.
    """
    values, empty = check_codes(data, stated, product, href)
    codes = np.where(empty, product.nodata, np.nan_to_num(values.astype(np.float64)))
    for number, code in product.recode.items():
        codes[(values == number) & ~empty] = code
    if np.array_equal(codes, values):
        return np.asarray(data.astype(product.dtype))
    return np.asarray(codes.astype(product.dtype)[np.searchsorted(values, data)])


def check_codes(
    data: NDArray[np.generic], stated: float | None, product: LabelProduct, href: str
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """The numbers that a label raster holds, sorted, and which of them is its own nodata.

    Raises:
        LegendError: Numbers that the legend does not list, or that are not whole.
    """
    if data.dtype == np.uint8:  # a hundred times faster, and whole tiles are checked by it
        values = np.flatnonzero(np.bincount(data.ravel(), minlength=256)).astype(np.uint8)
    else:
        values = np.unique(data)
    empty = values == stated
    if stated is not None and math.isnan(stated):
        empty = np.isnan(values)
    known = product.codes | set(product.recode)
    foreign = [v for v in values[~empty].tolist() if v not in known]
    if foreign:
        whole = all(float(value).is_integer() for value in foreign)
        allowed = ", ".join(str(code) for code in sorted(product.codes))
        lattice = product.lattice
        folder = "imports" if lattice is not None and lattice.crs == "source" else "labels"
        raise LegendError(
            href,
            product.name,
            foreign[:8],
            f"the codes of catalogs/{folder}/{product.name}.yaml: {allowed}",
            "Declare these codes, or correct the file."
            if whole
            else "The file was interpolated; labels are only ever resampled by nearest neighbour.",
        )
    return values, empty


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """What one map says on one window."""

    map: Map
    grid: Grid
    data: NDArray[np.generic]


def _one_lattice(parts: list[_Part], grid: Grid) -> list[_Part]:
    """Those parts that share pixels and cover most of the grid; at a tie, in the grid's CRS."""
    groups: list[list[_Part]] = []
    for part in parts:
        for group in groups:
            if _offset(group[0].grid, part.grid) is not None:
                group.append(part)
                break
        else:
            groups.append([part])
    return max(
        groups, key=lambda g: (round(_covered(g, grid), 6), same_crs(g[0].grid.crs, grid.crs))
    )


def _covered(parts: list[_Part], grid: Grid) -> float:
    """Share of a grid's pixels whose centre lies in one of the parts."""
    crs = parts[0].grid.crs or ""
    x, y = np.meshgrid(*grid.xy())
    if grid.crs != crs:
        x, y = transformer(grid.crs or "", crs).transform(x, y)
    inside = np.zeros(grid.shape, bool)
    for part in parts:
        west, south, east, north = part.grid.bounds
        px = west + (x - west) % 360.0 if is_geographic(crs) else x
        inside |= (px >= west) & (px < east) & (y > south) & (y <= north)
    return float(inside.mean())


def _offset(grid: Grid, other: Grid) -> tuple[int, int] | None:
    """(row, column) of `other` on the pixels of `grid`; None where they share none."""
    if not same_crs(grid.crs, other.crs):
        return None
    s, t = grid.transform, other.transform
    if abs(s.a - t.a) * other.width > raster.ALIGNED * s.a:
        return None
    if abs(s.e - t.e) * other.height > raster.ALIGNED * -s.e:
        return None
    row, col = (t.f - s.f) / s.e, (t.c - s.c) / s.a
    if max(abs(row - round(row)), abs(col - round(col))) > raster.ALIGNED:
        return None
    return round(row), round(col)


def _hull(grids: list[Grid]) -> Grid:
    """The smallest grid on the pixels of the first that holds them all."""
    first = grids[0]
    spots = [offset for grid in grids if (offset := _offset(first, grid)) is not None]
    top, left = (min(spot[i] for spot in spots) for i in (0, 1))
    bottom = max(r + grid.height for (r, _), grid in zip(spots, grids, strict=True))
    right = max(c + grid.width for (_, c), grid in zip(spots, grids, strict=True))
    t = first.transform
    place = Affine(t.a, 0.0, t.c + left * t.a, 0.0, t.e, t.f + top * t.e)
    return Grid(first.crs, place, right - left, bottom - top)


def _paste(parts: list[_Part], grid: Grid, fill: float) -> NDArray[Any]:
    """The parts on one grid; where two speak, the first by id that does not say `fill`."""
    canvas = np.full(grid.shape, fill, parts[0].data.dtype)
    for part in parts:
        offset = _offset(grid, part.grid)
        assert offset is not None
        view = canvas[
            offset[0] : offset[0] + part.grid.height, offset[1] : offset[1] + part.grid.width
        ]
        hole = view == fill
        view[hole] = part.data[hole]
    return canvas


def _evidence(
    product: LabelProduct, parts: list[_Part], grid: Grid, asked: Grid, around: Around
) -> dict[str, NDArray[np.generic]]:
    """The declared extras that the items have, on the window of the codes."""
    maps = list({id(part.map): part.map for part in parts}.values())
    layers: dict[str, NDArray[np.generic]] = {}
    for name in product.evidence:
        found = [find_asset(m.entry, product, name, None) for m in maps]
        extras = []
        for one, asset in zip(maps, found, strict=True):
            if asset is None:
                break
            reference = reference_to(one.entry, *asset)
            for window in around(asked, one, reference):
                if _offset(grid, window.grid) is None:
                    raise RasterError(
                        reference.href, "transform", str(tuple(window.grid.transform)[:6]),
                        f"the pixels of the codes of {product.name}",
                    )  # fmt: skip
                extras.append(_Part(one, window.grid, window.data))
        else:
            layers[name] = _paste(extras, grid, 0)
    return layers
