"""Grids by the column against grids one by one."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine

from las_builder.catalogs import Catalogs
from las_builder.core.grid import Grid
from las_builder.plan.grids import Grids, grids_at


@pytest.mark.parametrize("name", ["sentinel-2-l2a", "landsat-c2-l2", "naip"])
@pytest.mark.parametrize("gsd", [None, 2.5])
def test_columns_are_what_a_lattice_gives_one_by_one(name: str, gsd: float | None) -> None:
    lattice = Catalogs.load().imagery(name).lattice
    rng = np.random.default_rng(0)
    lat = rng.uniform(-79 if lattice.polar is None else -89, 84, 400)
    lon = rng.uniform(-180, 180, 400)
    edge_lon = [-180.0, 179.9999999, 3.0, 2.9999999, 6, 12, 0, 9, 21, 33, 42, 41.9999, 12.0, 32.9]
    edge_lat = [0.0, -0.0000001, 56, 60, 63.9999, 64, 72, 75, 80, 78, 76, 84, 74, 72.5]
    lon, lat = np.append(lon, edge_lon), np.append(lat, edge_lat)
    if lattice.crs == "utm-nad83":  # has the zones of North America alone
        lon, lat = np.mod(lon, 130) - 179.9, np.abs(lat)
    found = grids_at(lattice, lon, lat, 132, gsd)
    want = [
        lattice.grid_at(x, y, 132, gsd) for x, y in zip(lon.tolist(), lat.tolist(), strict=True)
    ]
    assert [found.grid(i) for i in range(len(found))] == want
    assert found.codes() == [grid.code() for grid in want]
    np.testing.assert_array_equal(found.bounds().T, [grid.bounds for grid in want])


def test_columns_of_any_grids_and_back() -> None:
    grids = [
        Grid("EPSG:32632", Affine(10, 0, 500_040.5, 0, -10, -120.25), 8, 9),
        Grid(None, Affine(1, 0, 0, 0, -1, 0), 30, 20),
        Grid("EPSG:4326", Affine(1e-4, 0, 20, 0, -2e-4, 78), 264, 1),
    ]
    found = Grids.from_grids(grids)
    assert [found.grid(i) for i in range(3)] == grids
    assert found.codes() == [grid.code() for grid in grids]
    joined = Grids.join([found, found.of([1])])
    assert [joined.grid(i) for i in range(4)] == [*grids, grids[1]]
    assert len(Grids.from_grids([])) == 0


def test_codes_of_whole_corners_are_hashed_as_one_by_one() -> None:
    """Texts of every length around the blocks of the hash, both signs, 1 to 15 digits."""
    rng = np.random.default_rng(3)
    corners = np.rint(10.0 ** rng.uniform(0, 14.9, (400, 2)) * rng.choice([-1, 1], (400, 2)))
    corners[:3] = [[0, 0], [-1, 9], [10, -10]]
    grids = [
        Grid(
            "w" * (i % 150) or None, Affine(10, 0, west, 0, -10, north), 8 + i % 3, 264
        )
        for i, (west, north) in enumerate(corners.tolist())
    ]  # fmt: skip
    assert Grids.from_grids(grids).codes() == [grid.code() for grid in grids]
    minus = Grids.from_grids([Grid(None, Affine(1, 0, -0.0, 0, -1, 0), 1, 1)])
    assert minus.codes() == [minus.grid(0).code()]
    assert Grids.from_grids([]).codes() == []
