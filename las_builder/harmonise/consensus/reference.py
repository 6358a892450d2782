"""Reference points: places whose class somebody knows."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from las_builder.core.grid import Grid, from_lonlat
from las_builder.errors import InputError

COLUMNS = ("lon", "lat", "class")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Points:
    """Places of known class; arrays of one length."""

    lon: NDArray[np.float64]
    """Degrees east."""

    lat: NDArray[np.float64]
    """Degrees north."""

    klass: NDArray[np.int64]
    """Index into the taxonomy's classes."""

    weight: NDArray[np.float64] | None = None
    """km2 that a point stands for; None: its site's weight, shared by the site's points."""


def read_points(path: Path, classes: Sequence[str]) -> Points:
    """Points of a CSV file with the columns lon, lat, class and perhaps weight, or of a vector file
    (GeoPackage, GeoJSON, GeoParquet) with points and the columns class and perhaps weight.

    Args:
        path: The file; degrees in a CSV, any CRS elsewhere.
        classes: Names of the taxonomy's classes.

    Raises:
        InputError: No file; a column is missing; a class that is none, a place off the Earth, a
            weight that is not positive: names file and line.
    """
    if not path.is_file():
        raise InputError(path, "reference", str(path), "a file of points that is there")
    rows = _csv(path) if path.suffix.lower() in (".csv", ".txt") else _vector(path)
    if not rows:
        raise InputError(path, "points", 0, "at least one point")
    number = {name: i for i, name in enumerate(classes)}
    lon, lat, klass, weight = [], [], [], []
    weighted = "weight" in rows[0]
    for line, row in enumerate(rows, start=2):
        if row["class"] not in number:
            raise InputError(
                path, f"class in line {line}", row["class"], f"one of {', '.join(classes)}"
            )
        x, y = _number(path, line, row, "lon"), _number(path, line, row, "lat")
        if not (-360 <= x <= 360 and -90 <= y <= 90):
            raise InputError(path, f"place in line {line}", (x, y), "degrees east and north")
        lon.append(x)
        lat.append(y)
        klass.append(number[row["class"]])
        if weighted:
            w = _number(path, line, row, "weight")
            if not w > 0:
                raise InputError(path, f"weight in line {line}", w, "a positive number")
            weight.append(w)
    return Points(
        lon=np.array(lon), lat=np.array(lat), klass=np.array(klass, np.int64),
        weight=np.array(weight) if weighted else None,
    )  # fmt: skip


def _csv(path: Path) -> list[Mapping[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            has = reader.fieldnames or []
            missing = [name for name in COLUMNS if name not in has]
            if missing:
                raise InputError(
                    path, "columns", ", ".join(has), f"{', '.join(COLUMNS)} and perhaps weight"
                )
            return [{k: (v or "").strip() for k, v in row.items() if k} for row in reader]
    except (UnicodeDecodeError, csv.Error) as problem:
        raise InputError(path, "file", str(problem), "a CSV file in UTF-8") from None


def _vector(path: Path) -> list[Mapping[str, str]]:
    import geopandas

    try:
        frame = (
            geopandas.read_parquet(path)
            if path.suffix.lower() in (".parquet", ".geoparquet")
            else geopandas.read_file(path)
        )
    except Exception as problem:  # noqa: BLE001 - GDAL's and pyarrow's own, of many kinds
        raise InputError(path, "file", str(problem), "a vector file that GDAL reads") from None
    if "class" not in frame.columns:
        raise InputError(path, "columns", ", ".join(map(str, frame.columns)), "one named class")
    if frame.crs is None or not (frame.geometry.geom_type == "Point").all():
        raise InputError(path, "geometry", str(frame.crs), "points with a CRS")
    places = frame.geometry.to_crs("EPSG:4326")
    rows: list[Mapping[str, str]] = []
    for i in range(len(frame)):
        row = {"lon": repr(places.iloc[i].x), "lat": repr(places.iloc[i].y)}
        row["class"] = str(frame["class"].iloc[i])
        if "weight" in frame.columns:
            row["weight"] = str(frame["weight"].iloc[i])
        rows.append(row)
    return rows


def _number(path: Path, line: int, row: Mapping[str, str], key: str) -> float:
    try:
        value = float(row[key])
    except ValueError:
        raise InputError(path, f"{key} in line {line}", row[key], "a number") from None
    if not np.isfinite(value):
        raise InputError(path, f"{key} in line {line}", row[key], "a finite number")
    return value


def pixels_of(
    grid: Grid, lon: NDArray[np.float64], lat: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Which points lie in a patch, and the row and column of the pixel that holds each of those.

    Args:
        grid: Of the patch; it must have a CRS.
        lon: Degrees, (n,).
        lat: Degrees, (n,).
    """
    x, y = from_lonlat(grid.crs or "", lon, lat)
    t = grid.transform
    column, row = np.floor((x - t.c) / t.a), np.floor((y - t.f) / t.e)
    inside = np.isfinite(x) & np.isfinite(y)
    inside &= (column >= 0) & (column < grid.width) & (row >= 0) & (row < grid.height)
    return inside, row[inside].astype(np.int64), column[inside].astype(np.int64)
