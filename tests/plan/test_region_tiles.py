"""MGRS squares and Sentinel-2 tiles against published references and recorded items."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import shapely
from pyproj import Geod, Transformer

from las_builder.catalogs import Strata
from las_builder.errors import RegionError
from las_builder.plan import resolve
from las_builder.plan.regions import mgrs

# What GEOTRANS (through the package mgrs 1.6) calls these places: cities, and places at an edge of
# a zone, of a band, of Norway's and Svalbard's cells, of the grid itself.
PLACES = [
    (-77.0365, 38.8977, "18SUJ"), (2.2945, 48.8582, "31UDQ"), (151.2153, -33.8568, "56HLH"),
    (-157.8583, 21.3069, "04QFJ"), (11.58, 48.14, "32UPU"), (11.58, 47.99, "32TPU"),
    (0.0001, 0.0001, "31NAA"), (-0.0001, -0.0001, "30MZE"), (178.44, -18.14, "60KXE"),
    (-179.99, -16.8, "01KAB"), (179.99, 66.0, "60WXU"), (-179.99, 66.0, "01WCP"),
    (2.99, 60.0, "31VDG"), (3.01, 60.0, "32VJM"), (5.33, 60.39, "32VKN"), (10.75, 59.91, "32VNM"),
    (8.99, 78.0, "31XFG"), (9.01, 78.0, "33XUG"), (20.99, 78.0, "33XXG"), (21.01, 78.0, "35XLG"),
    (33.5, 80.0, "37XCJ"), (41.99, 72.01, "37XFV"), (15.6, 78.22, "33XWG"),
    (25.0, 83.99, "35XMP"), (25.0, -79.99, "35CMM"), (-68.3, -54.8, "19FEV"), (5.0, 56.01, "32VKH"),
]  # fmt: skip


@pytest.mark.parametrize(("lon", "lat", "name"), PLACES)
def test_a_square_holds_the_places_that_are_called_by_it(lon: float, lat: float, name: str) -> None:
    assert shapely.intersects_xy(mgrs.tile(name, ""), lon, lat)
    others = {other for *_, other in PLACES} - {name}
    assert not any(shapely.intersects_xy(mgrs.tile(other, ""), lon, lat) for other in others)


def test_the_squares_of_a_zone_cover_it_once() -> None:
    """33X of Svalbard, 12° wide: no gap, no overlap, and the area of the cell on the ellipsoid."""
    squares = []
    for column in "STUVWXYZ":
        for row in mgrs.ROWS:
            try:
                squares.append(mgrs.tile(f"33X{column}{row}", ""))
            except RegionError:
                continue
    cell = shapely.box(9, 72, 21, 84)
    assert shapely.union_all(squares).symmetric_difference(cell).area < 1e-6
    assert sum(shapely.area(squares)) == pytest.approx(cell.area, rel=1e-9)
    # A square that the cell does not cut is 100 km a side, but for the scale of the projection.
    whole = mgrs.tile("33XWG", "")
    area, _ = Geod(ellps="WGS84").geometry_area_perimeter(shapely.segmentize(whole, 0.01))
    x, y = shapely.get_coordinates(whole).T
    assert abs(area) / 1e6 == pytest.approx(10_000 / 0.9996**2, rel=3e-4)
    east, north = Transformer.from_crs(4326, 32633, always_xy=True).transform(x, y)
    assert np.ptp(east) == pytest.approx(100_000, abs=0.05)
    assert np.ptp(north) == pytest.approx(100_000, abs=0.05)


@pytest.mark.parametrize("spelling", ["32UPU", "32upu", "MGRS:32UPU", "MGRS-32UPU", "mgrs:32UPU"])
def test_spellings(strata: Strata, spelling: str) -> None:
    places = np.array([11.58, 11.58]), np.array([48.14, 47.99])
    assert resolve(spelling, strata, "").contains(*places).tolist() == [True, False]


def test_a_tile_of_sentinel_2_is_whole(strata: Strata) -> None:
    """T32UPU goes south of 48° and into its neighbours; the square 32UPU does not."""
    places = np.array([11.58, 11.58]), np.array([48.14, 47.99])
    assert resolve("T32UPU", strata, "").contains(*places).tolist() == [True, True]


def test_recorded_tiles(shared_data: Path) -> None:
    """The corners that the providers state, of every recorded Sentinel-2 item."""
    seen = 0
    for path in sorted((shared_data / "stac" / "items").rglob("*.json")):
        properties = json.loads(path.read_text())["properties"]
        name = properties.get("s2:mgrs_tile") or properties.get("grid:code")
        if name is None and "mgrs:utm_zone" in properties:
            name = (
                f"{properties['mgrs:utm_zone']:02d}{properties['mgrs:latitude_band']}"
                f"{properties['mgrs:grid_square']}"
            )
        if name is None:
            continue
        name = name.removeprefix("MGRS-").removeprefix("T").rjust(5, "0")
        item = json.loads(path.read_text())
        assets = [a for a in item["assets"].values() if a.get("proj:transform")]
        corner = {(a["proj:transform"][2], a["proj:transform"][5]) for a in assets}
        corner |= {
            (a["proj:bbox"][0], a["proj:bbox"][3])
            for a in item["assets"].values()
            if a.get("proj:bbox")
        }
        if not corner:
            continue
        code = properties.get("proj:epsg") or int(properties["proj:code"].split(":")[1])
        tile = mgrs.tile(f"T{name}", "")
        utm = Transformer.from_crs(4326, code, always_xy=True)
        x, y = utm.transform(*shapely.get_coordinates(tile).T)
        for west, north in corner:
            assert (min(x), max(y)) == pytest.approx((west, north), abs=0.2), (name, path.name)
        assert np.ptp(x) == pytest.approx(109_800, abs=0.3)
        square = mgrs.tile(name, "")
        assert tile.buffer(1e-6).contains(square)
        seen += 1
    assert seen >= 10


@pytest.mark.parametrize("name", ["01KAB", "60KXF", "T01WCP", "T60CWS"])
def test_tiles_at_the_antimeridian_stay_in_one_piece_of_ground(name: str) -> None:
    tile = mgrs.tile(name, "")
    area, _ = Geod(ellps="WGS84").geometry_area_perimeter(shapely.segmentize(tile, 0.05))
    side = 109_800 if name.startswith("T") else 100_000
    assert 0 < abs(area) <= (side / 0.9996) ** 2 * 1.0005
    assert shapely.bounds(tile)[0] >= -180
    assert shapely.bounds(tile)[2] <= 180
    if name.startswith("T"):  # whole, on both sides where it lies on both
        assert math.sqrt(abs(area)) == pytest.approx(109_800, rel=1.5e-3)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("61UPU", "Zones are 1 to 60"),
        ("0UPU", ""),
        ("32IPU", "bands C to X"),
        ("32YPU", "bands C to X"),
        ("32UAU", "JKLMNPQR"),
        ("32UPW", "ABCDEFGHJKLMNPQRSTUV"),
        ("34XEA", "Svalbard"),
        ("32UPM", "Nothing of PM lies in 32U"),
        ("31VGG", "Nothing of GG lies in 31V"),
        ("MGRS:32U", ""),
        ("MGRS:Paris", ""),
    ],
)
def test_tiles_that_do_not_exist(strata: Strata, name: str, words: str) -> None:
    with pytest.raises(RegionError, match=r"recipe.yaml: `sites.region`") as error:
        resolve(name, strata, "recipe.yaml")
    assert "\n" not in str(error.value)
    assert words in str(error.value)
