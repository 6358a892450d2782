"""Where public benchmarks are, so that what is trained on is not what is tested on.

A benchmark is declared in `catalogs/benchmarks`: with boxes around the areas it is said to cover,
or as `unlocated`. `las footprints` derives exact polygons from the user's copy; a corpus recipe that
names them gets these instead of the boxes.
"""

from __future__ import annotations

import functools
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import shapely
from numpy.typing import NDArray

from las_builder.catalogs import Catalogs
from las_builder.core.options import Splits
from las_builder.errors import RecipeError
from las_builder.plan.grids import Grids
from las_builder.plan.regions import files
from las_builder.plan.regions.outline import Outline
from las_builder.plan.sphere import RADIUS_MIN, Floats, cartesian, normal

if TYPE_CHECKING:
    import geopandas

Kind = Literal["box", "exact", "unlocated"]

_STEP = 0.01  # degrees between vertices: 1.1 km, which a chord of the plane leaves by 0.1 m
_GAP = 0.6  # km: to the nearest vertex it is no farther than to the edge, plus this
_PIECE = 0.25  # degrees: the size of a piece, at least
_PIECES = 5000  # of one benchmark, about, where they would be smaller than need be
_AT_ONCE = 200_000  # pairs


@dataclass(frozen=True, eq=False)
class Footprint:
    """Where one benchmark is."""

    name: str
    kind: Kind
    verified: bool
    """Whether a source says so; of exact ones, that they come from the data themselves."""

    polygons: Any
    """shapely.MultiPolygon in degrees, -180 to 180; empty where it is unlocated."""

    @functools.cached_property
    def _pieces(self) -> NDArray[np.object_]:
        """Polygons without holes, small enough for a plane, with a vertex every kilometre."""
        waiting = list(shapely.get_parts(self.polygons))
        size = max(_PIECE, math.sqrt(float(shapely.area(self.polygons)) / _PIECES))
        done = []
        while waiting:
            polygon = waiting.pop()
            west, south, east, north = shapely.bounds(polygon)
            wide = (east - west) * max(math.cos(math.radians(min(abs(south), abs(north)))), 0.01)
            holes = shapely.get_num_interior_rings(polygon)
            small = max(wide, north - south) <= (size if not holes else _STEP)
            if small and east - west <= 90:
                done.append(shapely.polygons(shapely.get_exterior_ring(polygon)))
                continue
            x, y = (west + east) / 2, (south + north) / 2
            halves = (
                [(west, south, x, north), (x, south, east, north)]
                if wide > north - south or east - west > 90
                else [(west, south, east, y), (west, y, east, north)]
            )
            for half in halves:
                cut = shapely.get_parts(shapely.intersection(polygon, shapely.box(*half)))
                waiting += list(cut[shapely.get_type_id(cut) == 3])
        return np.array(shapely.segmentize(np.array(done, np.object_), _STEP), np.object_)

    @functools.cached_property
    def _vertices(self) -> tuple[Floats, NDArray[np.int64]]:
        """Degrees of the vertices of the pieces, (n, 2), and the piece of each."""
        points, piece = shapely.get_coordinates(self._pieces, return_index=True)
        return points, piece

    def near(self, lon: Floats, lat: Floats, reach_km: Floats) -> NDArray[np.bool_]:
        """Which places, degrees, are nearer to it than their reach.

        Distances are angles between normals times the least radius of curvature, as for blocks:
        every place that is truly nearer is named, and none 1.1 % (and 10 m) beyond its reach.
        """
        out = np.zeros(lon.size, bool)
        if not lon.size or not len(self._pieces):
            return out
        from scipy.spatial import cKDTree

        points, piece = self._vertices
        up = normal(points[:, 0], points[:, 1])
        first = np.flatnonzero(np.diff(piece, prepend=-1))
        centre = np.add.reduceat(up, first)
        centre /= np.linalg.norm(centre, axis=1)[:, None]
        size = np.maximum.reduceat(np.linalg.norm(up - centre[piece], axis=1), first)
        angle = reach_km / RADIUS_MIN
        at = normal(lon, lat)
        far = 1.02 * (float(angle.max()) + float(size.max()))
        about = np.flatnonzero(_within(at, centre, far))
        at, angle, lon, lat = at[about], angle[about], lon[about], lat[about]
        pairs = cKDTree(at).sparse_distance_matrix(cKDTree(centre), far, output_type="ndarray")
        near = pairs["v"] <= 1.02 * (angle[pairs["i"]] + size[pairs["j"]])
        i, j = pairs["i"][near], pairs["j"][near]
        for start in range(0, i.size, _AT_ONCE):
            some, of = i[start : start + _AT_ONCE], j[start : start + _AT_ONCE]
            apart = _angle_from(lon[some], lat[some], self._pieces[of])
            hit = np.round(apart, 12) < angle[some] + 0.01 / RADIUS_MIN
            out[about[some[hit]]] = True
        return out

    def nearest(
        self, lon: Floats, lat: Floats, radius: Floats, grids: Grids, buffer_km: float
    ) -> tuple[int, float, int]:
        """Measure footprints against it, as geodesics, apart from `near`.

        Args:
            lon: Centres of circles around the footprints, degrees.
            lat: Likewise.
            radius: Kilometres.
            grids: The footprints.
            buffer_km: What counts as too near.

        Returns:
            How many are too near; the least distance, km; which it is, -1 where nothing is located.
        """
        if not lon.size or not len(self._pieces):
            return 0, math.inf, -1
        from scipy.spatial import cKDTree

        from las_builder.plan.splits import apart_km, grid_outline

        points, piece = self._vertices
        corners = cartesian(points[:, 0], points[:, 1])
        tree, at = cKDTree(corners), cartesian(lon, lat)
        # A footprint beyond this is neither too near nor the nearest; trees are slow at far ones.
        one = float(np.linalg.norm(at - corners[0], axis=1).min())
        first = float(cKDTree(at[_within(at, corners, one)]).query(corners)[0].min())
        arc = 2 * RADIUS_MIN * math.asin(min(first / (2 * RADIUS_MIN), 1)) * 1.011
        reach = max(arc, buffer_km) + 2 * (float(radius.max()) + _GAP)
        away = np.full(lon.size, math.inf)
        about = _within(at, corners, reach)
        away[about] = tree.query(at[about], distance_upper_bound=reach)[0]
        away[Outline(self.polygons).contains(lon, lat)] = 0.0
        least = away - radius - _GAP
        count, best, which = 0, math.inf, -1
        for i in np.argsort(least, kind="stable").tolist():
            if least[i] >= max(best, buffer_km):
                break
            km = 0.0
            if away[i] > 0:
                ring = grid_outline(grids.grid(i))
                around = tree.query_ball_point(at[i], away[i] + 2 * (radius[i] + _GAP))
                km = min(
                    apart_km(ring, shapely.get_coordinates(self._pieces[k])[:-1])
                    for k in np.unique(piece[around]).tolist()
                )
            count += int(km < buffer_km)
            if km < best:
                best, which = km, i
        return count, best, which


def _within(at: Floats, points: Floats, reach: float) -> NDArray[np.bool_]:
    """Which places, (n, 3), may be within reach of any of some points: all that are, and more."""
    middle = points.mean(axis=0)
    size = float(np.linalg.norm(points - middle, axis=1).max())
    return np.asarray(np.linalg.norm(at - middle, axis=1) <= (size + reach) * (1 + 1e-9))


def _angle_from(lon: Floats, lat: Floats, polygons: NDArray[np.object_]) -> Floats:
    """Least angle, radians, from each place's normal to those of its polygon; 0 inside.

    In the azimuthal equidistant plane around each place.
    """
    points, of = shapely.get_coordinates(polygons, return_index=True)
    a, b = np.radians(lon[of]), np.radians(lat[of])
    up = normal(points[:, 0], points[:, 1])
    east = up[:, 1] * np.cos(a) - up[:, 0] * np.sin(a)
    out = up[:, 0] * np.cos(a) + up[:, 1] * np.sin(a)
    north = up[:, 2] * np.cos(b) - out * np.sin(b)
    across = np.hypot(east, north)
    angle = np.arctan2(across, out * np.cos(b) + up[:, 2] * np.sin(b))
    scale = np.where(across > 0, angle / np.where(across > 0, across, 1), 1)
    plane = shapely.linearrings(np.column_stack([east, north]) * scale[:, None], indices=of)
    return np.asarray(shapely.distance(shapely.points(0.0, 0.0), shapely.polygons(plane)))


# --- what a recipe names -------------------------------------------------------------------------


def benchmark_footprints(
    splits: Splits, catalogs: Catalogs, *, where: Path
) -> tuple[Footprint, ...]:
    """The benchmarks that a recipe names, by name; a file of exact ones goes before a box.

    Args:
        splits: Names of benchmarks and of files.
        catalogs: Declarations.
        where: The recipe; files lie beside it, else in the working folder.

    Raises:
        UnknownNameError: A benchmark that nothing declares.
        RecipeError: A file that is not there, or two of one benchmark.
        RegionError: A file that cannot be read as polygons.
    """
    found: dict[str, Footprint] = {}
    for key, path in _named_files(splits, where).items():
        one = read_footprints(path)
        if one.name in found:
            raise RecipeError(where, key, path.name, f"one file of {one.name}")
        found[one.name] = one
    for i, name in enumerate(splits.benchmarks):
        declared = catalogs.benchmark(name, where=where, key=f"splits.benchmarks.{i}")
        if name in found:
            continue
        if declared.file is not None:
            path = catalogs.file("benchmarks", name).parent / declared.file
            found[name] = read_footprints(path, name)
            continue
        boxes = [shapely.box(w, s, e + 360 * (e < w), n) for w, s, e, n in declared.boxes]
        polygons = Outline.of(boxes).polygons if boxes else shapely.MultiPolygon()
        found[name] = Footprint(name, declared.kind, declared.verified, polygons)
    return tuple(found[name] for name in sorted(found))


def _named_files(splits: Splits, where: Path) -> dict[str, Path]:
    """The files that a recipe names, by its key."""
    found = {}
    for i, name in enumerate(splits.footprints):
        key = f"splits.footprints.{i}"
        places = list(dict.fromkeys([(where.parent / name).absolute(), Path(name).absolute()]))
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            looked = " and ".join(str(place) for place in places)
            raise RecipeError(
                where, key, name, "a file that is there",
                f"Looked for {looked}; `las footprints BENCHMARK DIR --out FILE` writes one.",
            )  # fmt: skip
        found[key] = path
    return found


def footprint_files(splits: Splits, catalogs: Catalogs, *, where: Path) -> list[Path]:
    """The files that `benchmark_footprints` reads: what the recipe and its benchmarks name.

    Raises:
        UnknownNameError: A benchmark that nothing declares.
        RecipeError: A file that is not there.
    """
    found = list(_named_files(splits, where).values())
    for i, name in enumerate(splits.benchmarks):
        declared = catalogs.benchmark(name, where=where, key=f"splits.benchmarks.{i}")
        if declared.file is not None:
            found.append(catalogs.file("benchmarks", name).parent / declared.file)
    return found


def read_footprints(path: Path, name: str | None = None) -> Footprint:
    """What `write_footprints` wrote, or any other file of polygons with a CRS.

    Args:
        path: GeoPackage, GeoParquet, GeoJSON, a STAC catalogue.
        name: Of the benchmark; None: what the file's column `benchmark` says, else the file's name.

    Raises:
        RegionError: It has no CRS, no polygons, or cannot be read.
    """
    polygons = files.read(path, None).polygons
    return Footprint(name or _named(path) or path.stem, "exact", True, polygons)


def _named(path: Path) -> str | None:
    """The benchmark that a file of ours says it is of."""
    import geopandas
    import pyarrow.parquet as pq

    if path.suffix.lower() in (".parquet", ".geoparquet"):
        if "benchmark" not in pq.read_schema(path).names:
            return None
        names = pq.read_table(path, columns=["benchmark"])["benchmark"].to_pylist()
    elif path.suffix.lower() == ".gpkg":
        frame = geopandas.read_file(path, ignore_geometry=True, rows=1)
        names = frame["benchmark"].tolist() if "benchmark" in frame else []
    else:
        return None
    return str(names[0]) if names else None


def write_footprints(path: Path, frame: geopandas.GeoDataFrame) -> None:
    """Write columns benchmark, item and polygons; equal ones, equal bytes.

    Args:
        path: .gpkg or .parquet.
        frame: In WGS 84 degrees.

    Raises:
        WorkspaceError: The disk is full or read-only.
    """
    import pyogrio  # type: ignore[import-untyped]

    from las_builder.core.workspace import writing

    with writing(path) as part:
        if path.suffix.lower() != ".gpkg":
            frame.to_parquet(part, index=False, compression="zstd")
            return
        before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "2000-01-01T00:00:00Z"})
        try:
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
                made = Path(folder) / "footprints.gpkg"  # GDAL wants the ending
                frame.to_file(made, driver="GPKG", layer="footprints", engine="pyogrio")
                made.replace(part)
        finally:
            pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})
