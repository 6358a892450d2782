"""The target population: exact areas whatever cuts it, and cells that no region changes."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from pyproj import Geod

from las_builder.catalogs import Strata
from las_builder.plan import Region, resolve
from las_builder.plan.regions import Outline
from las_builder.plan.target import CELL, COLUMNS, Target

GEOD = Geod(ellps="WGS84")


def km2(west: float, south: float, east: float, north: float) -> float:
    n = 9
    x, y = np.linspace(west, east, n), np.linspace(south, north, n)
    lon = np.concatenate([x, np.full(n, east), x[::-1], np.full(n, west)])
    lat = np.concatenate([np.full(n, south), y, np.full(n, north), y[::-1]])
    return abs(GEOD.polygon_area_perimeter(lon, lat)[0]) / 1e6


def land_pixels(box: list[float], strata: Strata) -> float:
    """Land of a box by its mask pixels, cut by hand."""
    west, south, east, north = box
    total, step = 0.0, 1 / 120
    for top in np.arange(np.floor(south * 120), np.ceil(north * 120)) / 120:
        for left in np.arange(np.floor(west * 120), np.ceil(east * 120)) / 120:
            if strata.is_land(np.array([left + step / 2]), np.array([top + step / 2]))[0]:
                total += km2(
                    max(west, left), max(south, top), min(east, left + step), min(north, top + step)
                )
    return total


@pytest.mark.parametrize(
    "box",
    [
        [178.013, -17.9991, 178.2777, -17.7113],  # a coast, cut off every line of the lattice
        [-61.51, 15.21, -61.21, 15.66],  # an island
        [25.1, 79.87, 26.0, 80.003],  # far north
        [10.0112, 49.0105, 10.0203, 49.0187],  # within one cell
    ],
)
def test_areas_are_those_of_the_mask_pixels(box: list[float], strata: Strata) -> None:
    target = Target.of(resolve(box, strata, ""))
    assert target.area == pytest.approx(land_pixels(box, strata), rel=1e-5)
    assert target.areas.sum() == target.area


@pytest.mark.parametrize(
    "spec", [[176, -20, -178, -12], "NZL", [25.003, 79.777, 26.001, 80.01], "FJI,[170,-80,180,-75]"]
)
def test_cells_and_pixels_say_what_contains_says(spec: object, strata: Strata) -> None:
    target = Target.of(resolve(spec, strata, ""))  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    cell = rng.integers(0, target.row.size, 20_000)
    lon = (target.column[cell] + rng.random(cell.size)) * CELL - 180
    lat = 90 - (target.row[cell] + rng.random(cell.size)) * CELL
    assert (target.cell_at(lon, lat) == cell).all()
    pixel = (np.floor((90 - lat) * 120) % 6 * 6 + np.floor((lon + 180) * 120) % 6).astype(int)
    part = np.where(
        target.mixed[cell] < 0, 1, target.pixels[np.maximum(target.mixed[cell], 0), pixel]
    )
    inside = target.contains(lon, lat)
    assert (inside[part == 1]).all()
    assert not inside[part == 0].any()
    cut = (part > 0) & (part < 1)
    if cut.sum() > 300:
        assert inside[cut].mean() == pytest.approx(part[cut].mean(), abs=0.1)
    assert (target.cell_at(lon + 0.0, -lat) == -1).mean() > 0.5


def test_a_polygon_s_edge_cuts_pixels(strata: Strata) -> None:
    # All land (Niger), askew to every lattice; its own area, by the geodesic.
    ring = np.array([[8.013, 15.02], [9.41, 15.317], [9.2, 16.5], [8.1, 16.41]])
    region = Region("file", strata, outline=Outline.of([shapely.Polygon(ring)]))
    target = Target.of(region)
    fine = shapely.get_coordinates(shapely.segmentize(shapely.Polygon(ring), 0.01))
    want = abs(GEOD.polygon_area_perimeter(*fine.T)[0]) / 1e6
    assert target.area == pytest.approx(want, rel=1e-5)


def test_a_cell_is_the_same_for_every_region(strata: Strata) -> None:
    large, small = (Target.of(resolve(r, strata, "")) for r in ("africa", "KEN"))
    both, one, other = np.intersect1d(large.key, small.key, return_indices=True)
    assert both.size == small.row.size
    whole = small.mixed[other] < 0
    assert (large.areas[one][whole] == small.areas[other][whole]).all()
    assert (small.key == small.row.astype(np.int64) * COLUMNS + small.column).all()


def test_the_sea_is_no_target(strata: Strata) -> None:
    target = Target.of(resolve([-140, -45, -120, -35], strata, ""))
    assert (target.area, target.row.size, target.number.shape[0]) == (0, 0, 0)
    assert (target.cell_at(np.array([0.0]), np.array([0.0])) == -1).all()


def test_places_for_integrals_are_per_area(strata: Strata) -> None:
    target = Target.of(resolve([-180, -90, 180, -86], strata, ""))
    chance = target.areas / target.area
    cell = np.searchsorted(np.cumsum(chance), (np.arange(4000) + 0.5) / 4000)
    lon, lat, inside = target.places(np.minimum(cell, target.row.size - 1))
    # On a cap of all land, area grows with the square of the distance from the pole.
    near = GEOD.inv(lon, lat, lon, np.full(lon.size, -90.0))[2]
    edge = GEOD.inv(0, -86, 0, -90)[2]
    assert (near < edge / 2).mean() == pytest.approx(0.25, abs=0.01)
    assert inside.all()
    for within in (lon * 20 % 1, lat * 20 % 1):
        assert np.histogram(within, 4, (0, 1))[0] / 4000 == pytest.approx(0.25, abs=0.03)
