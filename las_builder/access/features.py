"""Vector label products: features of a file as codes on the grid of a patch.

A vector product has no pixels of its own, so it is drawn on those of the patch, once, by the rule that
its declaration states (`rasterise`). What a feature is, `Vector.entry_of` says; where features overlap,
the earlier entry of the declaration wins, whatever their order in the file.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from las_builder.access import web
from las_builder.access.items import Map
from las_builder.access.meet import extent_in, same_crs
from las_builder.access.rasterise import burn
from las_builder.catalogs import LabelProduct
from las_builder.core.grid import (
    Grid,
    crs_name,
    is_geographic,
    metres_per_unit,
    transformer,
    utm_zone,
)
from las_builder.core.types import LabelSource
from las_builder.errors import AccessError, RasterError

if TYPE_CHECKING:
    from shapely import Geometry

WHOLE = (".geojson", ".json", ".parquet", ".geoparquet")
"""Files without an index of places: they are read once a process, all of them."""

PARQUET = (".parquet", ".geoparquet")

STRAIGHT_M = 250.0
"""Edges are straight in the file's CRS; longer ones are cut before they are projected. The arc over
such a chord is a millimetre high."""

DEGREE_M = 111_320.0

WIDE_M = 100.0
"""Lines are looked for so far beyond a grid, or half of it: none is drawn wider."""


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer of a vector file, read whole or around a place."""

    name: str
    crs: str
    """Authority code or WKT2: its own, or that of the declaration."""

    entries: NDArray[np.int64]
    """(n,) place of each feature among the entries of the declaration."""

    geometries: NDArray[Any]
    """(n,) of shapely."""

    @functools.cached_property
    def tree(self) -> Any:
        """Which features lie in a box."""
        import shapely

        return shapely.STRtree(self.geometries)

    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in the CRS."""
        import shapely

        west, south, east, north = shapely.total_bounds(self.geometries).tolist()
        return west, south, east, north


def draw(product: LabelProduct, maps: Sequence[Map], grid: Grid) -> LabelSource | None:
    """What the maps of a vector product say on one grid.

    Args:
        product: Declares what features mean, and the rule.
        maps: Of the right time; each reaches as far as the footprint of its item.
        grid: Of the patch.

    Returns:
        Codes on `grid` itself; `outside` where a map reaches and has no feature, nodata where none
        reaches. None: none reaches.

    Raises:
        RasterError: A file cannot be read, lacks every attribute that is asked for, or has
            coordinates that its CRS has not.
        AccessError: The server failed.
    """
    vector = product.vector
    assert vector is not None
    none = len(vector.features)
    found = np.full(grid.shape, none, np.int32)
    reached = np.zeros(grid.shape, bool)
    for one in maps:
        here = np.full(grid.shape, 1, np.int32)
        for part in _placed(footprint(one), "EPSG:4326", grid, 0.0, one.asset.href):
            burn(part, 0, grid, "centre", here)
        reached |= here == 0
        entries = np.full(grid.shape, none, np.int32)
        for layer in layers_around(one.asset.href, product, grid):
            for entry, geometry in zip(layer.entries.tolist(), layer.geometries, strict=True):
                width = vector.features[entry].width or 0.0
                for part in _placed(geometry, layer.crs, grid, width, one.asset.href):
                    burn(part, entry, grid, vector.rule, entries)
        np.minimum(found, entries, out=found, where=here == 0)
    if not reached.any():
        return None
    codes = np.array([*(entry.value for entry in vector.features), vector.outside], product.dtype)
    return LabelSource(
        product=product.name,
        version="+".join(dict.fromkeys(one.id for one in maps)),
        grid=grid,
        codes=np.where(reached, codes[found], product.dtype.type(product.nodata)),
        nodata=product.nodata,
    )


def footprint(one: Map) -> Geometry:
    """As far as a map reaches: the geometry of its item, lon and lat."""
    import shapely

    geometry = one.entry.item.geometry
    if geometry is not None:
        return shapely.from_geojson(json.dumps(geometry))
    return shapely.box(*one.grid.bounds)


def features_reach(
    href: str, product: LabelProduct
) -> tuple[float, float, float, float] | None:  # fmt: skip
    """Box of all features of a file, every one of them read: west, south, east, north in degrees,
    rounded outwards to 1e-7; west > east over the antimeridian. None: it has none.

    Raises:
        RasterError: As of `layers_around`.
    """
    west, south, east, north = math.inf, math.inf, -math.inf, -math.inf
    for layer in layers_around(href, product, None):
        if not layer.geometries.size:
            continue
        x0, y0, x1, y1 = layer.bounds()
        if is_geographic(layer.crs):
            box = (x0, x1), (y0, y1)
        else:
            box = extent_in(
                Grid(layer.crs, Affine(x1 - x0, 0, x0, 0, y0 - y1, y1), 1, 1), "EPSG:4326"
            )
        west, east = min(west, box[0][0]), max(east, box[0][1])
        south, north = min(south, box[1][0]), max(north, box[1][1])
    if not west < east or not south < north:
        return None
    if east - west >= 360:
        west, east = -180.0, 180.0
    elif west < -180 or east > 180:
        west, east = ((x + 180) % 360 - 180 for x in (west, east))
    return (
        math.floor(west * 1e7) / 1e7, math.floor(south * 1e7) / 1e7,
        math.ceil(east * 1e7) / 1e7, math.ceil(north * 1e7) / 1e7,
    )  # fmt: skip


# ---- from a file


def layers_around(href: str, product: LabelProduct, grid: Grid | None) -> list[Layer]:
    """The layers of a file, with the features that mean something.

    Args:
        href: Path or URL.
        product: Declares which features mean what.
        grid: Only features around it; None: all.

    Raises:
        RasterError: No vector file, no attribute that any entry asks for, or coordinates that the
            CRS has not.
        AccessError: The server failed.
    """
    if grid is None or href.lower().endswith(WHOLE):
        stamp = 0 if web.is_url(href) else web.local_path(href).stat().st_mtime_ns
        whole = _whole(href, stamp, _Declared(product))
        return whole if grid is None else [_cut(layer, grid) for layer in whole]
    return _all(href, product, grid)


@dataclass(frozen=True, slots=True)
class _Declared:
    """A product as a key of a cache: by name and what it says of features."""

    product: LabelProduct

    def __hash__(self) -> int:
        return hash(self.product.name)


@functools.lru_cache(maxsize=4)
def _whole(href: str, stamp: int, declared: _Declared) -> list[Layer]:  # noqa: ARG001  # of the key
    if href.lower().endswith(PARQUET):
        return [_of_parquet(href, declared.product)]
    return _all(href, declared.product, None)


def _all(href: str, product: LabelProduct, grid: Grid | None) -> list[Layer]:
    """The layers that an entry may be told in; there is one, or it is the wrong file."""
    import pyogrio

    with _Failures(href):
        names = [name for name, geometry in pyogrio.list_layers(href).tolist() if geometry]
    found = [layer for name in names if (layer := _read(href, name, product, grid)) is not None]
    if not found:
        with _Failures(href):
            fields = {field for name in names for field in pyogrio.read_info(href, name)["fields"]}
        raise _nothing_to_tell_by(href, product, fields)
    return found


class _Failures:
    """GDAL's failures in our words."""

    def __init__(self, href: str) -> None:
        self.href = href

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> None:
        from pyogrio.errors import DataLayerError, DataSourceError

        if not isinstance(problem, DataSourceError | DataLayerError | OSError | ValueError):
            return
        text = str(problem) or type(problem).__name__
        if web.is_url(self.href):
            raise AccessError("vector file", self.href, text, retryable=True) from None
        raise RasterError(self.href, "file", text, "a vector file that GDAL reads") from None


def _read(href: str, name: str, product: LabelProduct, grid: Grid | None) -> Layer | None:
    """One layer of a file that GDAL reads; None where it has nothing that an entry asks for."""
    import pyogrio
    import shapely

    vector = product.vector
    assert vector is not None
    with _Failures(href):
        about = pyogrio.read_info(href, layer=name)
    fields = set(about["fields"])
    if not _tells(product, name, fields):
        return None
    crs = crs_name(about["crs"]) if about["crs"] else vector.crs
    wanted = {key for entry in vector.features for key in (*entry.match, *entry.at_least)}
    columns = sorted(wanted & fields) + (["other_tags"] if "other_tags" in fields else [])
    tables = []
    for box in [None] if grid is None else _boxes(grid, crs, WIDE_M):
        with _Failures(href):
            meta, table = pyogrio.read_arrow(
                href, layer=name, columns=columns, bbox=box, return_fids=True
            )
        tables.append(
            (meta["geometry_name"] or "wkb_geometry", meta["fid_column"] or "OGC_FID", table)
        )
    entries, blobs, seen = [], [], set()
    for geometry, fid, table in tables:
        rows = table.select([c for c in columns if c in table.column_names]).to_pylist()
        ids = table[fid].to_pylist() if fid in table.column_names else range(len(rows))
        for row, blob, number in zip(rows, table[geometry].to_pylist(), ids, strict=True):
            entry = vector.entry_of(_properties(row), name)
            if entry is not None and blob is not None and (number not in seen or len(tables) == 1):
                entries.append(entry)
                blobs.append(blob)
            seen.add(number)
    shapes = shapely.from_wkb(np.array(blobs, dtype=object))
    return _checked(href, Layer(name, crs, np.array(entries, np.int64), np.atleast_1d(shapes)))


def _of_parquet(href: str, product: LabelProduct) -> Layer:
    import geopandas as gpd

    vector = product.vector
    assert vector is not None
    if web.is_url(href):
        raise RasterError(
            href, "file", "GeoParquet on the web", "GeoParquet on disk",
            "Download it, or serve a GeoPackage or FlatGeobuf.",
        )  # fmt: skip
    with _Failures(href):
        frame = gpd.read_parquet(href)
    if not _tells(product, "", set(frame.columns)):
        raise _nothing_to_tell_by(href, product, set(frame.columns) - {frame.geometry.name})
    rows = frame.drop(columns=frame.geometry.name).to_dict("records")
    said = [vector.entry_of(_properties(row)) for row in rows]
    shapes = np.asarray(frame.geometry.values)
    kept = [i for i, entry in enumerate(said) if entry is not None and shapes[i] is not None]
    crs = crs_name(frame.crs.to_wkt()) if frame.crs is not None else vector.crs
    entries = np.array([said[i] for i in kept], np.int64)
    return _checked(href, Layer("", crs, entries, shapes[kept]))


def _tells(product: LabelProduct, layer: str, fields: set[str]) -> bool:
    """Whether any entry can hold in a layer with these attributes."""
    vector = product.vector
    assert vector is not None
    return "other_tags" in fields or any(
        {*entry.match, *entry.at_least} <= fields
        for entry in vector.features
        if entry.layer in (None, layer)
    )


def _nothing_to_tell_by(href: str, product: LabelProduct, fields: set[str]) -> RasterError:
    vector = product.vector
    assert vector is not None
    keys = sorted({key for entry in vector.features for key in (*entry.match, *entry.at_least)})
    return RasterError(
        href, "attributes", ", ".join(sorted(fields)[:12]) or "(none)",
        f"those that {product.name} is told by: {', '.join(keys[:12]) or '(any)'}",
        "It is another file, or its attributes are called differently.",
    )  # fmt: skip


def _checked(href: str, layer: Layer) -> Layer:
    """Refuse degrees that are none: a file that states the wrong CRS, or none."""
    if not layer.geometries.size or not is_geographic(layer.crs):
        return layer
    west, south, east, north = layer.bounds()
    if west < -540 or east > 540 or south < -90.001 or north > 90.001:
        raise RasterError(
            href, "coordinates", f"{west:g} {south:g} {east:g} {north:g}",
            f"degrees, as {layer.crs} has them",
            "The file states another CRS than its numbers are of: correct it with ogr2ogr -a_srs.",
        )  # fmt: skip
    return layer


_TAG = re.compile(r'"((?:[^"\\]|\\.)*)"=>"((?:[^"\\]|\\.)*)"')


def _properties(row: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes as the declaration compares them; GDAL keeps rare tags of OpenStreetMap in one."""
    said = {key: _plain(value) for key, value in row.items()}
    rest = said.pop("other_tags", None)
    if isinstance(rest, str):
        for key, value in _TAG.findall(rest):
            said.setdefault(re.sub(r"\\(.)", r"\1", key), re.sub(r"\\(.)", r"\1", value))
    return said


def _plain(value: Any) -> Any:
    """None for NaN, and whole numbers without a point: a column with gaps turns them into floats."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return int(value) if value.is_integer() else value
    return value


# ---- onto a grid


def _boxes(grid: Grid, crs: str, margin_m: float = 0.0) -> list[tuple[float, float, float, float]]:
    """Where a grid lies in another CRS, with half of it to spare on each side; in degrees on every
    turn that a file may be on.
    """
    (west, east), (south, north) = extent_in(grid, crs)
    if west > east:
        return []
    if is_geographic(crs):
        high = min(math.radians(max(abs(south), abs(north))), math.radians(89.9))
        x_more, y_more = margin_m / (DEGREE_M * math.cos(high)), margin_m / DEGREE_M
    else:
        x_more = y_more = margin_m / metres_per_unit(crs)
    x_more, y_more = x_more + (east - west) / 2, y_more + (north - south) / 2
    turns = (-360.0, 0.0, 360.0) if is_geographic(crs) else (0.0,)
    return [
        (west - x_more + turn, south - y_more, east + x_more + turn, north + y_more)
        for turn in turns
    ]


def _cut(layer: Layer, grid: Grid) -> Layer:
    """The features of a layer around a grid, in their order."""
    import shapely

    near = [layer.tree.query(shapely.box(*box)) for box in _boxes(grid, layer.crs, WIDE_M)]
    kept = np.unique(np.concatenate([np.zeros(0, np.int64), *near]))
    return Layer(layer.name, layer.crs, layer.entries[kept], layer.geometries[kept])


def _placed(
    geometry: Geometry, crs: str, grid: Grid, width: float, href: str
) -> Iterator[list[NDArray[np.float64]]]:
    """The rings of a feature in the CRS of a grid, a polygon at a time; lines become bands.

    Points, and lines without a width, are nothing.
    """
    import shapely

    to = grid.crs or ""
    same = same_crs(crs, to)
    for box in _boxes(grid, crs, 2 * width):
        (west, south, east, north), part = geometry.bounds, geometry
        if not (west <= box[2] and east >= box[0] and south <= box[3] and north >= box[1]):
            continue  # an empty one too, whose bounds are no numbers
        if west < box[0] or south < box[1] or east > box[2] or north > box[3]:
            part = shapely.clip_by_rect(part, *box)
        if not same:
            step = STRAIGHT_M / (DEGREE_M if is_geographic(crs) else metres_per_unit(crs))
            part = shapely.segmentize(part, step)
        for one in shapely.get_parts(part):
            yield from _rings_of(one, crs, to, grid, width, href)


def _rings_of(
    one: Geometry, crs: str, to: str, grid: Grid, width: float, href: str
) -> Iterator[list[NDArray[np.float64]]]:
    import shapely

    if one.geom_type in ("LineString", "LinearRing"):
        if not width:
            return
        metric = to
        if is_geographic(to):
            metric = f"EPSG:326{utm_zone(grid.centre_lonlat()[0]):02d}"
        line = shapely.transform(one, functools.partial(_projected, crs, metric, href))
        one, crs = line.buffer(width / 2 / metres_per_unit(metric)), metric
    if one.geom_type == "GeometryCollection" or one.geom_type.startswith("Multi"):
        for inner in shapely.get_parts(one):
            yield from _rings_of(inner, crs, to, grid, width, href)
    if one.geom_type != "Polygon" or one.is_empty:
        return
    rings = [
        _projected(crs, to, href, shapely.get_coordinates(ring))
        for ring in (one.exterior, *one.interiors)
    ]
    if is_geographic(to):  # on the turn that the grid is on
        west, _, east, _ = grid.bounds
        for ring in rings:
            ring[:, 0] += 360.0 * np.round(((west + east) / 2 - ring[:, 0]) / 360.0)
    yield rings


def _projected(
    crs: str, to: str, href: str, points: NDArray[np.float64]
) -> NDArray[np.float64]:  # fmt: skip
    if same_crs(crs, to):
        return points
    x, y = transformer(crs, to).transform(points[:, 0], points[:, 1])
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise RasterError(
            href, "coordinates", points[~np.isfinite(x)][:1].tolist(), f"places that {to} has"
        )
    return np.column_stack([x, y])
