"""Scenes lie as the real ones do: on the lattice, with the real names, at the real pace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from affine import Affine

from las_builder.access import SearchRequest
from las_builder.access.virtual import VirtualEarth
from las_builder.access.virtual.ground import Window
from las_builder.access.virtual.sky import CLOUD, sky
from las_builder.catalogs import Catalogs
from las_builder.core.grid import Grid
from las_builder.core.types import Period
from las_builder.scenes.choose import covers

Visit = Callable[..., Any]  # the fixture of conftest.py

# Name, CRS, west and north edge of tiles as recorded STAC items have them.
REAL_TILES = [
    ("59VPC", "EPSG:32659", 600000, 6300000),
    ("59VPD", "EPSG:32659", 600000, 6400020),
    ("60VUK", "EPSG:32660", 300000, 6500040),
    ("01WCP", "EPSG:32601", 300000, 7400040),
    ("06VVN", "EPSG:32606", 399960, 6800040),
    ("20EPT", "EPSG:32720", 600000, 3300040),
    ("24MUV", "EPSG:32724", 300000, 9500020),
    ("24MVV", "EPSG:32724", 399960, 9500020),
    ("60CWS", "EPSG:32760", 499980, 1200040),
]


@pytest.mark.parametrize(("name", "crs", "west", "north"), REAL_TILES)
def test_sentinel_tiles_are_the_real_ones(
    earth: VirtualEarth, catalogs: Catalogs, name: str, crs: str, west: int, north: int
) -> None:
    imagery = catalogs.imagery("sentinel-2-l2a")
    everywhere = imagery.model_copy(
        update={"extent": imagery.extent.model_copy(update={"bbox": (-180, -90, 180, 90)})}
    )
    # Inside the square, where no neighbour reaches, on the side that is in the zone.
    east = 95_000 if west == 300_000 else 20_000
    grid = Grid(crs, Affine(10, 0, west + east, 0, -10, north - 50_000), 66, 66)
    period = Period.parse("2021-03-01/2021-03-21")
    found = earth.search(
        everywhere, [SearchRequest(site="a", grid=grid, period=period, max_cloud=100)]
    )[0]
    tiles = {s.properties["s2:mgrs_tile"]: s.grid for s in found if s.grid.contains(grid)}
    assert set(tiles) == {name}
    assert tuple(tiles[name].transform)[:6] == (10, 0, west, 0, -10, north)
    assert tiles[name].shape == (10980, 10980)
    assert len(found) == 4


def test_quarter_quads_are_the_real_ones(visit: Visit) -> None:
    # mt_m_4911557_se_11_060_20231117, its recorded box within a pixel or two of rounding.
    _, _, scenes = visit(
        "naip", -115.906, 49.031, pixel=0.6, size=256, period="2015-01-01/2024-01-01"
    )
    assert scenes
    assert {s.id.split("_2")[0] for s in scenes} == {"m_4911557_se_11_060"}
    for scene in scenes:
        assert scene.grid.bounds == pytest.approx((577416, 5427798, 582486, 5435214), abs=13)
        assert scene.cloud_cover == 0
        assert 5 < scene.datetime.month < 10
        assert scene.grid.pixel == (0.6, 0.6)
    years = sorted(s.datetime.year for s in scenes)
    assert set(np.diff(years)) <= {2, 3}
    # Every flight has an origin of its own: their lattices do not coincide.
    phases = {round(s.grid.transform.c % 0.6, 3) for s in scenes}
    assert len(phases) == len(scenes)


LANDSAT_PLACES = [
    (11.5, 48.2, "EPSG:32632"),
    (18.6, -33.5, "EPSG:32634"),  # north zone, negative northings
    (-63.0, -68.0, "EPSG:3031"),
    (179.99, -16.7, "EPSG:32660"),
    (36.8, 0.001, "EPSG:32637"),
]


@pytest.mark.parametrize(("lon", "lat", "crs"), LANDSAT_PLACES)
def test_landsat_frames(visit: Visit, lon: float, lat: float, crs: str) -> None:
    imagery, grid, scenes = visit(
        "landsat-c2-l2", lon, lat, size=264, period="2022-01-01/2023-01-01"
    )
    assert grid.crs == crs
    assert scenes
    for scene in scenes:
        t = scene.grid.transform
        assert scene.grid.crs == crs
        assert (t.c % 30, t.f % 30) == (15, 15)
        assert imagery.lattice.holds(crs, t)
    tile = scenes[0].id.split("_")[2]
    passes = [s for s in scenes if s.id.split("_")[2] == tile]
    assert len(passes) in (45, 46)  # two satellites, 16 days each
    assert {s.properties["platform"] for s in passes} == {"landsat-8", "landsat-9"}


def test_sentinel_nearly_always_covers(earth: VirtualEarth, catalogs: Catalogs) -> None:
    imagery = catalogs.imagery("sentinel-2-l2a")
    rng = np.random.default_rng(4)
    lon = rng.uniform(-180, 180, 300)
    lat = np.degrees(np.arcsin(rng.uniform(-0.8, 0.99, 300)))
    grids = [imagery.lattice.grid_at(x, y, 264) for x, y in zip(lon, lat, strict=True)]
    period = Period.parse("2021-06-01/2021-06-16")
    found = earth.search(
        imagery,
        [
            SearchRequest(site=str(i), grid=g, period=period, max_cloud=100)
            for i, g in enumerate(grids)
        ],
    )
    uncovered = 0
    for grid, scenes in zip(grids, found, strict=True):
        uncovered += not any(s.grid.contains(grid) for s in scenes)
        keys = [(s.datetime, s.id) for s in scenes]
        assert keys == sorted(keys)
        assert len(set(keys)) == len(keys)
        for scene in scenes:
            assert period.holds(scene.datetime)
            assert imagery.lattice.holds(scene.grid.crs or "", scene.grid.transform)
            assert set(scene.assets) == {*(b.name for b in imagery.bands), "SCL"}
            west, south, east, north = scene.grid.bounds
            if scene.grid.crs == grid.crs:
                assert west < grid.bounds[2]
                assert east > grid.bounds[0]
                assert south < grid.bounds[3]
                assert north > grid.bounds[1]
    assert uncovered <= 0.02 * len(grids)


@pytest.mark.parametrize(
    ("lon", "lat"), [(36.8, -0.0005), (36.8, 0.0005), (180.0, -16.7), (12.0, 60.0)]
)
def test_patches_on_a_border_of_zones_are_covered_by_some_tile(
    visit: Visit, earth: VirtualEarth, lon: float, lat: float
) -> None:
    imagery, grid, _ = visit("sentinel-2-l2a", lon, lat, size=264)
    request = SearchRequest(
        site="a", grid=grid, period=Period.parse("2021-06-01/2021-06-11"), max_cloud=100
    )
    assert any(covers(s.grid, grid) for s in earth.search(imagery, [request])[0])


def test_cloud_filter_and_climate(visit: Visit) -> None:
    def mean(lon: float, lat: float) -> float:
        scenes = visit("sentinel-2-l2a", lon, lat, period="2020-01-01/2022-01-01").scenes
        return float(np.mean([s.cloud_cover for s in scenes]))

    assert mean(5, 24) < 25  # Sahara
    assert mean(-61, -4) > 45  # Amazon
    few = visit("sentinel-2-l2a", 11.5, 48.2, max_cloud=20).scenes
    every = visit("sentinel-2-l2a", 11.5, 48.2).scenes
    assert [s.id for s in few] == [s.id for s in every if (s.cloud_cover or 0) <= 20]
    assert 0 < len(few) < len(every)


@pytest.mark.parametrize("name", ["sentinel-2-l2a", "landsat-c2-l2"])
def test_cloud_share_is_the_stated_one(visit: Visit, earth: VirtualEarth, name: str) -> None:
    scenes = visit(name, 11.5, 48.2, period="2021-01-01/2021-12-01").scenes[:24]
    for scene in scenes:
        grid = scene.grid
        side = grid.width * grid.pixel[0] / 250
        window = Window(
            grid.crs or "", (grid.transform.c, grid.transform.f), (side, side), 0, 0, 250, 250
        )
        above = sky(earth.world, scene, window)
        assert 100 * (above.state == CLOUD).mean() == pytest.approx(scene.cloud_cover, abs=3)
        assert np.array_equal(above.opacity > 0, above.state == CLOUD)


def test_nothing_outside_the_extent(visit: Visit, earth: VirtualEarth) -> None:
    imagery, grid, scenes = visit("naip", -100.0, 40.0, pixel=1.0, period="2015-01-01/2022-01-01")
    assert scenes
    before = SearchRequest(
        site="a", grid=grid, period=Period.parse("1999-01-01/2002-01-01"), max_cloud=100
    )
    assert earth.search(imagery, [before]) == [[]]
    assert visit("naip", 2.0, 48.0, pixel=1.0, period="2015-01-01/2022-01-01").scenes == []
    assert visit("sentinel-2-l2a", 0.0, -70.0).scenes == []
