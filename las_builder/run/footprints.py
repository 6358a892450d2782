"""`las footprints`: where a benchmark is, from the user's own copy of it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from las_builder.access.raster import Raster, open_raster
from las_builder.catalogs import Catalogs
from las_builder.core.grid import is_geographic, metres_per_unit, to_lonlat
from las_builder.errors import InputError, LasWarning, RasterError
from las_builder.plan.footprints import write_footprints
from las_builder.plan.regions import files
from las_builder.plan.regions.outline import Outline, unrolled

RASTERS = frozenset({".tif", ".tiff", ".jp2", ".img", ".vrt", ".png", ".jpg", ".jpeg"})
WRITTEN = (".gpkg", ".parquet")
_SIDE = 64  # points along a side of a raster: its edge is a curve in degrees
_METRES = 1.0  # copies of one outline (bands, labels) that differ by less are one


def footprints(benchmark: str, source: Path, out: Path, *, catalogs: Catalogs) -> str:
    """Write the exact footprints of a benchmark, one polygon a place.

    Args:
        benchmark: Its name in `catalogs/benchmarks`.
        source: A folder, whose rasters count, in it and below it; or an index of the places: a STAC
            catalogue, GeoJSON, GeoPackage, GeoParquet.
        out: .gpkg or .parquet; equal copies give equal bytes.
        catalogs: Declarations.

    Returns:
        What was found, in a line.

    Raises:
        UnknownNameError: A benchmark that nothing declares.
        InputError: Another kind of `out`; nothing in `source` says where it is.
        RasterError: A raster is truncated.
        RegionError: An index without CRS, or without polygons.
        WorkspaceError: The disk is full or read-only.
    """
    import geopandas

    declared = catalogs.benchmark(benchmark, where="las footprints", key="BENCHMARK")
    if out.suffix.lower() not in WRITTEN:
        raise InputError("las footprints", "--out", str(out), "a file .gpkg or .parquet")
    places: dict[str, Any] = {}
    nowhere: list[str] = []
    if source.is_dir():
        seen: set[tuple[Any, ...]] = set()
        for path in _files(source):
            item = path.relative_to(source).as_posix()
            try:
                raster = open_raster(str(path.absolute()))
            except RasterError as problem:
                if problem.key != "crs":
                    raise
                nowhere.append(item)
                continue
            corners = _corners(raster)
            key = (raster.crs, *np.round(corners / _metre(raster.crs), 0).ravel().tolist())
            if key not in seen:
                seen.add(key)
                places[item] = _polygon(raster.crs, corners)
    else:
        places[source.name] = files.read(source, None).polygons
    if not places:
        way_out = (
            f"{len(nowhere)} rasters have no CRS. Name {benchmark} in `splits.benchmarks` for its "
            f"boxes, or give an index of its places."
            if nowhere and declared.kind == "box"
            else f"{len(nowhere)} rasters have no CRS. Give an index of its places."
            if nowhere
            else "An index in it is named as a file: las footprints BENCHMARK DIR/index.geojson."
        )
        raise InputError(
            "las footprints", "DIR", str(source), "a folder with georeferenced rasters", way_out
        )
    if nowhere:
        text = f"{source}: {len(nowhere)} rasters without CRS left out (the first: {nowhere[0]})"
        warnings.warn(text, LasWarning, stacklevel=2)
    items = sorted(places)
    frame = geopandas.GeoDataFrame(
        {"benchmark": [benchmark] * len(items), "item": items},
        geometry=[places[item] for item in items],
        crs="EPSG:4326",
    )
    write_footprints(out, frame)
    where = f"; {len(nowhere)} rasters have no place" if nowhere else ""
    return f"{out}: {len(items)} footprints of {benchmark}{where}"


def _files(folder: Path) -> Iterator[Path]:
    return (
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in RASTERS and path.is_file()
    )


def _metre(crs: str) -> float:
    return _METRES / (111_320.0 if is_geographic(crs) else metres_per_unit(crs))


def _corners(raster: Raster) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Of a raster, turned or not, in its CRS, (4, 2)."""
    t, w, h = raster.dataset.transform, raster.dataset.width, raster.dataset.height
    column, row = np.array([0, 0, w, w]), np.array([0, h, h, 0])
    return np.column_stack([t.a * column + t.b * row + t.c, t.d * column + t.e * row + t.f])


def _polygon(crs: str, corners: np.ndarray[Any, np.dtype[np.float64]]) -> Any:
    """The ground within four corners, degrees from -180 to 180."""
    import shapely

    step = (np.arange(_SIDE) / _SIDE)[:, None]
    ring = np.concatenate(
        [a + step * (b - a) for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True)]
    )
    lon, lat = to_lonlat(crs, ring[:, 0], ring[:, 1])
    polygon = shapely.Polygon(np.round(np.column_stack([lon, lat]), 7))
    jumps = np.abs(np.diff(lon, append=lon[0])) > 180
    if jumps.any():
        whole = Outline.of([unrolled(polygon, pole_lost=True)]).polygons
        return shapely.segmentize(whole, 90.0)  # along a pole: no edge of more than 180°
    return shapely.normalize(polygon)
