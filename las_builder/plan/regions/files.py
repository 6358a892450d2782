"""Polygons from files: whatever GDAL or GeoPandas reads, and the footprints of a STAC catalogue."""

from __future__ import annotations

import functools
import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray

from las_builder.errors import LasWarning, RegionError
from las_builder.plan.regions.outline import POLE, Outline, polygonal, unrolled

if TYPE_CHECKING:
    import geopandas
    from pyproj import CRS

_LOOKS_LIKE_A_PATH = re.compile(r"[/\\]|\.[a-z][a-z0-9]{1,9}(:[^/\\]+)?$", re.IGNORECASE)
_STEP = 1000.0  # metres between vertices before a polygon is reprojected
_MOST = 1_000_000  # vertices put in, at most: of polygons as large as that, steps may be longer
_NEAR = 1e-9  # degrees: files have 180.00000000000014
_PARQUET = (".parquet", ".geoparquet", ".pq")


def exists(text: str, where: object) -> bool:
    """Whether a text, commas and all, is a file."""
    return any(_is_there(path) for path in _places(text, where))


def find(text: str, where: object) -> tuple[Path, str | None] | None:
    """The file, and its layer, that a text names: beside the recipe, else here; None: no path.

    Raises:
        RegionError: A path where no file is.
    """
    head, _, layer = text.rpartition(":")
    for name, part in ((text, None), (head, layer)):
        for path in _places(name, where) if name else ():
            if _is_there(path):
                return path, part
    if _LOOKS_LIKE_A_PATH.search(text) is None:
        return None
    raise RegionError(
        where, "sites.region", text, "a file that is there",
        f"Looked for {' and '.join(str(path) for path in _places(text, where))}.",
    )  # fmt: skip


def read(path: Path, layer: str | None) -> Outline:
    """The union of a file's polygons; read once per process, and again if the file is replaced.

    What is put right (self-intersections, jumps across ±180°), or left out, is a `LasWarning`.

    Args:
        path: A vector file of GDAL or GeoPandas, or a STAC document.
        layer: Its layer; None: the only one with geometry.

    Raises:
        RegionError: No CRS, no polygons, coordinates that are none; a file that cannot be read.
        StacError: A STAC catalogue that cannot be read.
    """
    stat = path.stat()
    return _read(path.absolute(), layer, (stat.st_mtime_ns, stat.st_size))


@functools.lru_cache(maxsize=32)
def _read(path: Path, layer: str | None, stamp: tuple[int, int]) -> Outline:  # noqa: ARG001  # the stamp is part of the key
    document = _stac_document(path) if path.suffix.lower() == ".json" else None
    where = path if layer is None else f"{path}:{layer}"
    if document is not None:
        return _outline(_footprints(path, document), None, path)
    frame = _frame(path, layer)
    if frame.crs is None or frame.crs.name.startswith("Undefined"):
        raise RegionError(
            where, "crs", None, "a file that says its CRS",
            "Write it into the file: ogr2ogr -a_srs EPSG:4326 OUT IN, with the CRS it is in.",
        )  # fmt: skip
    return _outline(frame.geometry.to_numpy(), frame.crs, where)


# ---- files


def _places(text: str, where: object) -> list[Path]:
    path = Path(text).expanduser() if text.startswith("~/") else Path(text)
    if path.is_absolute():
        return [path]
    beside = (Path(str(where)).parent / path).absolute()
    return list(dict.fromkeys([beside, path.absolute()]))


def _is_there(path: Path) -> bool:
    """Whether a path is a file, or a folder that is one data set (.gdb)."""
    try:
        return path.is_file() or (path.is_dir() and bool(path.suffix))
    except (OSError, ValueError):  # a list of countries is too long for a name
        return False


def _frame(path: Path, layer: str | None) -> geopandas.GeoDataFrame:
    import geopandas

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            if path.suffix.lower() in _PARQUET:
                frame = geopandas.read_parquet(path)
            else:
                frame = geopandas.read_file(path, layer=_layer(path, layer), columns=[])
        except RegionError:
            raise
        except (OSError, ValueError, RuntimeError, shapely.errors.ShapelyError) as problem:
            raise RegionError(
                path, "file", str(problem).split(".; ")[0], "what GDAL or GeoPandas can read"
            ) from None
    for one in said:
        warnings.warn(f"{path}: {one.message}", LasWarning, stacklevel=2)
    if not isinstance(frame, geopandas.GeoDataFrame):
        raise RegionError(path, "geometry", None, "a layer with polygons")
    return frame


def _layer(path: Path, layer: str | None) -> str:
    import geopandas

    listed = geopandas.list_layers(path)
    layers = [str(name) for name in listed.name[listed.geometry_type.notna()]]
    if layer is None and len(layers) == 1:
        return layers[0]
    if layer not in layers:
        raise RegionError(
            path, "layer", layer, f"one of its layers: {', '.join(layers) or '(none)'}",
            f"Write {path.name}:{layers[0]}." if layers else "",
        )  # fmt: skip
    return layer


# ---- STAC


def _stac_document(path: Path) -> dict[str, Any] | None:
    """The content of a JSON file if it is STAC; None: something else, for GDAL to read."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict):
        return None
    features = content.get("features")
    first = features[0] if isinstance(features, list) and features else content
    return content if isinstance(first, dict) and "stac_version" in first else None


def _footprints(path: Path, document: dict[str, Any]) -> NDArray[np.object_]:
    """Geometries of the items of a catalogue; of a collection without items, its boxes."""
    import pystac

    from las_builder.access.items import catalogue_at

    if document.get("type") == "FeatureCollection":
        try:
            items = list(pystac.ItemCollection.from_dict(document).items)
        except (pystac.STACError, pystac.STACTypeError, LookupError, TypeError, ValueError) as why:
            raise RegionError(path, "features", str(why), "STAC items") from None
    else:
        items = [entry.item for entry in catalogue_at(str(path)).entries]
    found = []
    for item in items:
        if item.geometry is not None:
            found.append(_geometry(item.geometry, f"{path}: item {item.id}"))
        elif item.bbox is not None:
            found.append(_rectangle(item.bbox, f"{path}: item {item.id}"))
    without = len(items) - len(found)
    if found and without:
        text = f"{path}: {without} of {len(items)} items have no geometry; left out"
        warnings.warn(text, LasWarning, stacklevel=2)
    if not items and document.get("type") == "Collection":
        boxes = ((document.get("extent") or {}).get("spatial") or {}).get("bbox") or []
        # The first box is around all others, where there are others.
        found = [_rectangle(box, path) for box in (boxes[1:] or boxes)]
    return np.array(found, np.object_)


def _geometry(content: dict[str, Any], where: object) -> Any:
    try:
        return shapely.geometry.shape(content)
    except (shapely.errors.ShapelyError, LookupError, TypeError, ValueError, AttributeError) as why:
        raise RegionError(where, "geometry", str(why), "a GeoJSON geometry") from None


def _rectangle(box: Any, where: object) -> Any:
    try:
        numbers = [float(number) for number in box]
        west, south, east, north = (
            numbers if len(numbers) == 4 else [numbers[i] for i in (0, 1, 3, 4)]
        )
    except (TypeError, ValueError, IndexError):
        raise RegionError(where, "bbox", box, "[west, south, east, north]") from None
    return shapely.box(west, south, east + 360 * (east < west), north)


# ---- polygons


def _outline(geometries: NDArray[np.object_], crs: CRS | None, where: object) -> Outline:
    """The union of the polygons in a CRS; None: WGS 84 degrees."""
    polygons = _polygons(geometries, where)
    if crs is None or crs.equals("EPSG:4326", ignore_axis_order=True):
        _check_degrees(polygons, where)
        jumps = np.unique(_jumps(polygons))
        over = [i for i in jumps.tolist() if not _spans_the_globe(polygons[i])]
        polygons[over] = [unrolled(polygon) for polygon in polygons[over]]
        if over:
            warnings.warn(
                f"{where}: {_count(over)} with edges over ±180° that are not cut there; read as going "
                "the short way round (a polygon that is wider needs a vertex every 180°)",
                LasWarning,
                stacklevel=2,
            )
        return Outline.of(_repaired(polygons, where))
    polygons = np.array(_repaired(polygons, where), np.object_)
    polygons = _to_degrees(polygons, crs, where)
    points, of = shapely.get_coordinates(polygons, return_index=True)
    polar = of[np.abs(points[:, 1]) >= POLE]
    over = np.unique(np.concatenate([_jumps(polygons), polar])).tolist()
    polygons[over] = [unrolled(polygon, pole_lost=True) for polygon in polygons[over]]
    return Outline.of(map(polygonal, polygons))


def _polygons(geometries: NDArray[np.object_], where: object) -> NDArray[np.object_]:
    kept = shapely.force_2d(
        geometries[~(shapely.is_missing(geometries) | shapely.is_empty(geometries))]
    )
    if not len(kept):
        raise RegionError(where, "features", len(geometries), "polygons", "The file is empty.")
    parts = shapely.get_parts(shapely.get_parts(kept))  # twice: collections of multi-polygons
    kinds = shapely.get_type_id(parts)
    polygons = parts[kinds == 3]
    if not len(polygons):
        names = ", ".join(sorted({part.geom_type for part in parts}))
        raise RegionError(
            where, "geometry", names, "polygons",
            "Buffer points and lines first, or give [west, south, east, north].",
        )  # fmt: skip
    if len(polygons) < len(parts):
        text = f"{where}: {len(parts) - len(polygons)} points and lines among polygons; left out"
        warnings.warn(text, LasWarning, stacklevel=2)
    return np.asarray(polygons, np.object_)


def _check_degrees(polygons: NDArray[np.object_], where: object) -> None:
    """Refuse what is no longitude and latitude."""
    x, y = shapely.get_coordinates(polygons).T
    bad = np.flatnonzero(~((np.abs(x) <= 360) & (np.abs(y) <= 90)))
    if not bad.size:
        return
    place = f"{x[bad[0]]:.10g}, {y[bad[0]]:.10g}"
    swapped = (np.abs(x) <= 90).all() and (np.abs(y) <= 360).all()
    raise RegionError(
        where, "coordinates", place, "longitude -180 to 180 first, then latitude -90 to 90",
        "They are probably swapped: latitude first." if swapped
        else "They are probably metres: write the CRS they are in into the file.",
    )  # fmt: skip


def _jumps(polygons: NDArray[np.object_]) -> NDArray[np.intp]:
    """Index of the polygon of every edge of more than 180° of longitude.

    An edge along a pole from 180° to -180° has no length, and closes a map of the globe.
    """
    rings, of = shapely.get_rings(polygons, return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    step = np.abs(np.diff(points[:, 0]))
    polar = np.abs(points[:, 1]) >= POLE
    closing = (np.abs(step - 360) < _NEAR) & polar[1:] & polar[:-1]
    wide = (step > 180) & ~closing & (np.diff(ring) == 0)
    return np.asarray(of[ring[:-1][wide]])


def _spans_the_globe(polygon: Any) -> bool:
    """Whether the long edges of a polygon are meant: all go from -180° to 180°, and it is valid."""
    points, ring = shapely.get_coordinates(shapely.get_rings(polygon), return_index=True)
    step = np.abs(np.diff(points[:, 0]))[np.diff(ring) == 0]
    return bool((np.abs(step[step > 180] - 360) < _NEAR).all() and shapely.is_valid(polygon))


def _repaired(polygons: NDArray[np.object_], where: object) -> Sequence[Any]:
    fixed = [polygonal(polygon) for polygon in polygons]
    if not shapely.area(fixed).any():
        raise RegionError(where, "geometry", "polygons without area", "polygons")
    bad = np.flatnonzero(~shapely.is_valid(polygons)).tolist()
    if bad:
        why = shapely.is_valid_reason(polygons[bad[0]])
        text = f"{where}: {_count(bad)} not valid ({why}); repaired by make_valid"
        warnings.warn(text, LasWarning, stacklevel=2)
    return [part for part in shapely.get_parts(fixed) if not part.is_empty]


def _to_degrees(polygons: NDArray[np.object_], crs: CRS, where: object) -> NDArray[np.object_]:
    """Polygons in WGS 84 degrees to 1e-7; edges are first cut short, so that they stay in place.

    To 10 cm up to 80° of latitude; the last kilometre before a pole is coarse.
    """
    from pyproj import Transformer
    from pyproj.exceptions import ProjError

    step = 1.0 if crs.is_geographic else _STEP / crs.axis_info[0].unit_conversion_factor
    step = max(step, float(shapely.length(polygons).sum()) / _MOST)
    polygons = shapely.segmentize(polygons, step)
    x, y = shapely.get_coordinates(polygons).T
    try:
        transformer = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
        lon, lat = transformer.transform(x, y, errcheck=True)
    except ProjError as problem:
        raise RegionError(
            where, "coordinates", str(problem), f"coordinates of its CRS, {crs.name}"
        ) from None
    degrees = np.round(np.column_stack([lon, lat]), 7)
    return np.asarray(shapely.set_coordinates(polygons, degrees), np.object_)


def _count(which: list[int]) -> str:
    many = f"{len(which)} polygons (the first: number {which[0] + 1})"
    return f"polygon {which[0] + 1}" if len(which) == 1 else many
