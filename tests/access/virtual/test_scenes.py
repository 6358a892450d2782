"""Scenes lie as the real ones do: on the lattice, with the real names, on the real days.

Facts of recorded STAC items, with their ids, are what the orbits are held to.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from affine import Affine

from las_builder.access import SearchRequest
from las_builder.access.virtual import VirtualEarth
from las_builder.access.virtual.ground import Window
from las_builder.access.virtual.orbits import seen
from las_builder.access.virtual.sky import CIRRUS, CLOUD, sky
from las_builder.access.virtual.track import LANDSAT, centre_of, ground, path_row, sun
from las_builder.catalogs import Catalogs, Imagery
from las_builder.core.grid import Grid, from_lonlat, to_lonlat
from las_builder.core.types import Period, Scene
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


def everywhere(imagery: Imagery) -> Imagery:
    """The same source without the limits of its systematic acquisition."""
    extent = imagery.extent.model_copy(update={"bbox": (-180, -90, 180, 90)})
    return imagery.model_copy(update={"extent": extent})


def search(earth: VirtualEarth, imagery: Imagery, grid: Grid, period: str) -> list[Scene]:
    request = SearchRequest(site="a", grid=grid, period=Period.parse(period), max_cloud=100)
    return earth.search(imagery, [request])[0]


def sees(scene: Scene, lon: float, lat: float) -> bool:
    """Whether a scene shows the pixel at a place."""
    x, y = (float(v[0]) for v in from_lonlat(scene.grid.crs, np.array([lon]), np.array([lat])))
    return bool(seen(scene, Window(scene.grid.crs or "", (x, y), (0.01, 0.01), 0, 0, 1, 1))[0, 0])


@pytest.mark.parametrize(("name", "crs", "west", "north"), REAL_TILES)
def test_sentinel_tiles_are_the_real_ones(
    earth: VirtualEarth, catalogs: Catalogs, name: str, crs: str, west: int, north: int
) -> None:
    imagery = everywhere(catalogs.imagery("sentinel-2-l2a"))
    # Inside the square, where no neighbour reaches, on the side that is in the zone.
    east = 95_000 if west == 300_000 else 20_000
    grid = Grid(crs, Affine(10, 0, west + east, 0, -10, north - 50_000), 66, 66)
    # With the sun high enough at either pole.
    period = "2021-12-01/2021-12-21" if north < 4_000_000 else "2021-06-01/2021-06-21"
    found = search(earth, imagery, grid, period)
    tiles = {s.properties["s2:mgrs_tile"]: s.grid for s in found if s.grid.contains(grid)}
    assert set(tiles) == {name}
    assert tuple(tiles[name].transform)[:6] == (10, 0, west, 0, -10, north)
    assert tiles[name].shape == (10980, 10980)
    # Each relative orbit comes back after 10 days, once with each satellite.
    by_orbit: dict[object, list[datetime]] = {}
    for scene in found:
        if scene.properties["s2:mgrs_tile"] == name:
            by_orbit.setdefault(scene.properties["sat:relative_orbit"], []).append(scene.datetime)
    for times in by_orbit.values():
        assert len(times) == 4
        assert set(np.diff(times)) == {timedelta(days=5)}
    assert len({scene.id for scene in found}) == len(found)


# Platform, day, relative orbit, tile, moment (of the tile, where the item has it), number of the
# revolution, two places in the image, two of the tile outside it; all as recorded.
SENTINEL_ITEMS = [
    # S2B_T24MUV_20250731T130245_L2A: its western side is the edge of the swath
    ("sentinel-2b", 95, "24MUV", "2025-07-31T13:03:27", 43879,
     [(-40.25, -4.60), (-39.85, -4.70)], [(-40.46, -4.60), (-40.55, -4.85)]),
    # S2A_MSIL2A_20190101T000001_R116_T59VPD: its eastern side is
    ("sentinel-2a", 116, "59VPD", "2019-01-01T00:00:25", 18417,
     [(173.02, 56.80), (173.60, 57.65)], [(173.40, 56.80), (173.80, 57.40)]),
    ("sentinel-2a", 116, "60VUK", "2019-01-01T00:00:10", 18417,
     [(174.02, 58.20), (174.03, 58.15)], [(173.95, 57.80), (174.60, 58.20)]),
    # S2A_MSIL2A_20230625T234621_N0509_R073_T01WCP: whole, across ±180°
    ("sentinel-2a", 73, "01WCP", "2023-06-25T23:47:50", 41826,
     [(-179.30, 65.80), (-179.10, 66.60)], []),
    # S2B_MSIL2A_20190629T212529_R043_T06VVN: whole
    ("sentinel-2b", 43, "06VVN", "2019-06-29T21:28:22", 12081,
     [(-148.80, 60.40), (-146.90, 61.25)], []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("platform", "orbit", "tile", "when", "number", "inside", "outside"), SENTINEL_ITEMS
)
def test_sentinel_flies_as_recorded(
    earth: VirtualEarth, catalogs: Catalogs, platform: str, orbit: int, tile: str, when: str,
    number: int, inside: list[tuple[float, float]], outside: list[tuple[float, float]],
) -> None:  # fmt: skip
    imagery = catalogs.imagery("sentinel-2-l2a")
    moment = datetime.fromisoformat(when).replace(tzinfo=UTC)
    days = f"{(moment - timedelta(1)).date()}/{(moment + timedelta(2)).date()}"
    for lon, lat in inside:
        grid = imagery.lattice.grid_at(lon, lat, 6)
        found = [
            s
            for s in search(earth, imagery, grid, days)
            if s.properties["s2:mgrs_tile"] == tile
            and s.properties["sat:relative_orbit"] == orbit
            and s.properties["platform"] == platform
        ]
        assert len(found) == 1
        scene = found[0]
        assert abs(scene.datetime - moment) < timedelta(seconds=15)
        assert str(scene.properties["s2:datatake_id"]).split("_")[2] == f"{number:06d}"
        assert sees(scene, lon, lat)
        for place in outside:
            assert not sees(scene, *place)
        assert (scene.properties["s2:nodata_pixel_percentage"] > 0) == bool(outside)


# Id, day and time, middle of the recorded outline, sun (elevation, azimuth), CRS; its corners.
LANDSAT_ITEMS = [
    ("LC08", "033032", "2023-10-08T17:37:27", (41.18722795, 157.5994568), "EPSG:32613",
     [(-105.0467, 41.3828), (-105.5642, 39.6658), (-103.4660, 39.2699), (-102.8921, 40.9844)]),
    ("LC09", "084069", "2025-07-22T23:07:05", (45.34676271, 42.68895384), "EPSG:32658",
     [(163.7237, -11.9711), (163.3358, -13.7019), (165.0294, -14.0596), (165.4056, -12.3250)]),
    ("LC09", "084082", "2025-07-22T23:12:16", (28.95618809, 36.53847911), "EPSG:32657",
     [(159.1465, -30.6941), (158.6662, -32.4090), (160.6297, -32.7924), (161.0734, -31.0712)]),
    ("LC08", "081119", "2020-01-01T22:53:00", (22.72192082, 93.54107327), "EPSG:3031",
     [(106.0673, -79.6117), (111.5055, -81.0684), (101.3314, -81.9333), (97.0135, -80.3494)]),
]  # fmt: skip


@pytest.mark.parametrize(("code", "name", "when", "angles", "crs", "corners"), LANDSAT_ITEMS)
def test_landsat_flies_as_recorded(
    earth: VirtualEarth, catalogs: Catalogs, code: str, name: str, when: str,
    angles: tuple[float, float], crs: str, corners: list[tuple[float, float]],
) -> None:  # fmt: skip
    imagery = catalogs.imagery("landsat-c2-l2")
    moment = datetime.fromisoformat(when).replace(tzinfo=UTC)
    points = np.array(corners)
    x, y = from_lonlat(crs, points[:, 0], points[:, 1])
    middle = to_lonlat(crs, np.array([x.mean()]), np.array([y.mean()]))
    grid = Grid(
        crs, Affine(30, 0, x.mean() // 30 * 30 + 15, 0, -30, y.mean() // 30 * 30 + 15), 8, 8
    )
    days = f"{moment.date()}/{(moment + timedelta(1)).date()}"
    found = {s.id: s for s in search(earth, imagery, grid, days)}
    scene = found[f"{code}_L2SP_{name}_{moment:%Y%m%d}_VIRT_T1"]
    if name != "081119":  # whose item has no time of day
        assert abs(scene.datetime - moment) <= timedelta(seconds=2)
    assert (scene.properties["landsat:wrs_path"], scene.properties["landsat:wrs_row"]) == (
        name[:3],
        name[3:],
    )
    assert scene.grid.crs == crs
    if name != "081119":
        assert sun(moment, float(middle[0][0]), float(middle[1][0])) == pytest.approx(
            angles, abs=0.06
        )
        said = scene.properties["view:sun_elevation"], scene.properties["view:sun_azimuth"]
        assert said == pytest.approx(angles, abs=0.1)
    # 5 km inside each recorded corner is seen, 7 km outside is not.
    for px, py in zip(x, y, strict=True):
        to_middle = np.array([x.mean() - px, y.mean() - py])
        to_middle /= np.hypot(*to_middle)
        for metres, want in ((5_000, True), (-7_000, False)):
            at = np.array([px, py]) + metres * to_middle
            lon, lat = to_lonlat(crs, at[:1], at[1:])
            assert sees(scene, float(lon[0]), float(lat[0])) == want


# The USGS acquisition calendar: paths that Landsat 8 flies by day on a day. Paths 89 to 98 are
# flown around midnight UTC, and the calendar has them on the day that ends then.
CALENDAR = {
    "2021-01-01": [108, 124, 140, 156, 172, 188, 204, 220, 3, 19, 35, 51, 67, 83],
    "2021-01-03": [106, 122, 138, 154, 170, 186, 202, 218, 1, 17, 33, 49, 65, 81, 97],
    "2021-01-14": [103, 119, 135, 151, 167, 183, 199, 215, 231, 14, 30, 46, 62, 78, 94],
    "2021-04-26": [113, 129, 145, 161, 177, 193, 209, 225, 8, 24, 40, 56, 72, 88],
}


@pytest.mark.parametrize("day", CALENDAR)
def test_landsat_paths_keep_the_calendar(earth: VirtualEarth, catalogs: Catalogs, day: str) -> None:
    imagery = catalogs.imagery("landsat-c2-l2")
    start = datetime.fromisoformat(day).date()
    days = f"{start}/{start + timedelta(1)}"
    flown = set()
    for lon in range(-180, 180, 1):
        grid = imagery.lattice.grid_at(lon, 0.0, 8)
        for scene in search(earth, imagery, grid, days):
            assert scene.properties["platform"] == "landsat-8"
            assert scene.properties["landsat:wrs_row"] in ("059", "060", "061")
            flown.add(int(scene.properties["landsat:wrs_path"]))
    midnight = set(range(89, 99))
    assert flown - midnight == set(CALENDAR[day]) - midnight


# Names of scenes as they are published.
PUBLISHED = [
    ("landsat-8", 97, 75, "2022-08-03"),
    ("landsat-9", 97, 75, "2022-08-27"),
    ("landsat-9", 92, 81, "2022-06-21"),
    ("landsat-9", 95, 74, "2022-06-26"),
    ("landsat-8", 47, 27, "2020-12-04"),
    ("landsat-8", 5, 9, "2015-07-10"),
    ("landsat-8", 20, 39, "2015-08-04"),
]


@pytest.mark.parametrize(("platform", "path", "row", "day"), PUBLISHED)
def test_published_scenes_are_there(
    earth: VirtualEarth, catalogs: Catalogs, platform: str, path: int, row: int, day: str
) -> None:
    imagery = catalogs.imagery("landsat-c2-l2")
    revolution = next(k for k in range(233) if path_row(k, 0)[0] == path)
    lon, lat = ground(LANDSAT, revolution, np.array([centre_of(row - 60)]), np.zeros(1))
    grid = imagery.lattice.grid_at(float(lon[0]), float(lat[0]), 8)
    start = datetime.fromisoformat(day).date()
    days = f"{start}/{start + timedelta(1)}"
    wanted = (platform, f"{path:03d}", f"{row:03d}")
    keys = ("platform", "landsat:wrs_path", "landsat:wrs_row")
    found = search(earth, imagery, grid, days)
    assert [tuple(s.properties[k] for k in keys) for s in found].count(wanted) == 1


def test_rows_of_wrs_2() -> None:
    # NASA: row 1 at 80°47' N, row 60 on the equator, row 122 at 81°51' S, row 246 at 81°51' N,
    # row 248 at 81°22' N.
    known = {1: 80 + 47 / 60, 60: 0.0, 122: -81 - 51 / 60, 246: 81 + 51 / 60, 248: 81 + 22 / 60}
    seen_rows = {}
    for step in range(-62, 63):
        path, row = path_row(32, step)
        assert path == (LANDSAT.days * (31 if row > 200 else 32)) % 233 + 1
        _, lat = ground(LANDSAT, 32, np.array([centre_of(step)]), np.zeros(1))
        seen_rows[row] = float(lat[0])
    for row, lat in known.items():
        assert seen_rows[row] == pytest.approx(lat, abs=0.02)
    lon, _ = ground(LANDSAT, 0, np.array([centre_of(0)]), np.zeros(1))
    assert lon[0] == pytest.approx(-64.6)


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
    (179.0, -16.7, "EPSG:32660"),
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
        # The frame is inclined in its rectangle: it touches every side, and no corner is in it.
        n = 400
        side = scene.grid.width * 30 / n, scene.grid.height * 30 / n
        mask = seen(scene, Window(crs, (t.c, t.f), side, 0, 0, n, n))
        assert 0.45 < mask.mean() < 0.9
        assert not mask[[0, 0, -1, -1], [0, -1, 0, -1]].any()
        assert all(line.any() for line in (mask[1], mask[-2], mask[:, 1], mask[:, -2]))
    passes: dict[str, list[Scene]] = {}
    for scene in scenes:
        passes.setdefault(scene.id.split("_")[2], []).append(scene)
    frame = max(passes.values(), key=len)
    if abs(lat) < 60:
        assert len(frame) in (45, 46)  # two satellites, 16 days each
        assert set(np.diff([s.datetime.date() for s in frame])) == {timedelta(days=8)}
    else:  # no reflectance from under a low sun
        assert 10 < len(frame) < 35
        assert all(s.properties["view:sun_elevation"] >= 14 for s in frame)
        assert not any(5 <= s.datetime.month <= 7 for s in frame)
    assert {s.properties["platform"] for s in frame} == {"landsat-8", "landsat-9"}


def test_across_the_antimeridian_nothing_changes(earth: VirtualEarth, catalogs: Catalogs) -> None:
    for name in ("sentinel-2-l2a", "landsat-c2-l2"):
        imagery = catalogs.imagery(name)
        looks = []
        for lon in (179.9999, -179.9999, 180.0, -180.0):
            grid = imagery.lattice.grid_at(lon, -16.7, 66)
            found = search(earth, imagery, grid, "2022-03-01/2022-04-01")
            looks.append({s.id for s in found if sees(s, lon, -16.7)})
        assert looks[0]
        assert looks.count(looks[0]) == 4


def test_how_often_a_place_is_seen(earth: VirtualEarth, catalogs: Catalogs) -> None:
    """The area that swaths cover in 10 days, over the area there is."""
    imagery = catalogs.imagery("sentinel-2-l2a")
    rng = np.random.default_rng(8)
    inclination = np.radians(98.62)
    for lat in (0.0, 40.0, 60.0, 75.0):
        # How fast a track goes east on the turning Earth decides how wide a swath cuts a parallel.
        phi = np.radians(lat)
        north = np.sqrt(np.sin(inclination) ** 2 - np.sin(phi) ** 2) / np.cos(phi)
        east = -np.sqrt(1 - north**2) - 10 / 143 * np.cos(phi)
        slant = north / np.hypot(north, east)
        expected = 2 * 143 * 290_000 / slant / (2 * np.pi * 6_371_007 * np.cos(phi))
        counts = []
        for lon in rng.uniform(-180, 180, 24):
            grid = imagery.lattice.grid_at(lon, lat, 2)
            found = search(earth, imagery, grid, "2021-06-10/2021-06-20")
            takes = {s.properties["s2:datatake_id"] for s in found if sees(s, lon, lat)}
            counts.append(len(takes))
        assert np.mean(counts) == pytest.approx(expected, rel=0.12)
        if lat == 0:
            assert min(counts) >= 2  # every five days with two satellites
            assert expected == pytest.approx(2.1, abs=0.1)
    assert np.mean(counts) > 8


def test_tiles_of_one_pass_belong_together(earth: VirtualEarth, catalogs: Catalogs) -> None:
    imagery = catalogs.imagery("sentinel-2-l2a")
    grid = imagery.lattice.grid_at(10.4, 48.65, 264)  # where four tiles overlap
    takes: dict[object, list[Scene]] = {}
    for scene in search(earth, imagery, grid, "2021-06-01/2021-06-11"):
        takes.setdefault(scene.properties["s2:datatake_id"], []).append(scene)
    assert any(len(tiles) >= 4 for tiles in takes.values())
    for tiles in takes.values():
        assert len({s.properties["s2:mgrs_tile"] for s in tiles}) == len(tiles)
        assert max(s.datetime for s in tiles) - min(s.datetime for s in tiles) < timedelta(
            seconds=40
        )
        for lon, lat in grid.outline_lonlat(2):
            shown = {sees(s, lon, lat) for s in tiles if inside(s.grid, lon, lat)}
            assert len(shown) == 1
        # Southwards in time.
        rows = sorted(tiles, key=lambda s: -s.grid.centre_lonlat()[1])
        for north, south in itertools.pairwise(rows):
            if north.grid.transform.f - south.grid.transform.f > 90_000:
                assert north.datetime < south.datetime


def inside(grid: Grid, lon: float, lat: float) -> bool:
    x, y = from_lonlat(grid.crs, np.array([lon]), np.array([lat]))
    west, south, east, north = grid.bounds
    return bool(west < x[0] < east and south < y[0] < north)


def test_what_is_seen_is_a_matter_of_place(visit: Visit) -> None:
    scenes = visit("sentinel-2-l2a", 11.5, 48.2).scenes
    scene = min(scenes, key=lambda s: abs(s.properties["s2:nodata_pixel_percentage"] - 50))
    t = scene.grid.transform
    whole = seen(scene, Window(scene.grid.crs, (t.c, t.f), (10, 10), 0, 0, 10980, 500))
    assert 0 < whole.mean() < 1
    edge = int(np.flatnonzero(np.diff(whole[100]))[0])
    for column, row, width, height in ((edge - 100, 30, 264, 264), (edge - 3, 90, 7, 11)):
        window = Window(scene.grid.crs, (t.c, t.f), (10, 10), column, row, width, height)
        part = whole[row : row + height, column : column + width]
        assert 0 < part.mean() < 1
        assert np.array_equal(seen(scene, window), part)
    window = Window(scene.grid.crs, (t.c, t.f), (10, 10), edge, 0, 264, 264)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        seen(scene, window)
        times.append(time.perf_counter() - start)
    assert min(times) < 4 * 0.010
    # Photographs show all of their rectangle.
    photo = visit("naip", -93.5, 42.1, pixel=1.0, period="2015-01-01/2022-01-01").scenes[0]
    assert seen(photo, Window.of(photo.grid)).all()


def test_second_satellites_come_when_they_came(earth: VirtualEarth, catalogs: Catalogs) -> None:
    def platforms(name: str, period: str) -> set[object]:
        imagery = catalogs.imagery(name)
        grid = imagery.lattice.grid_at(11.5, 48.2, 66)
        return {s.properties["platform"] for s in search(earth, imagery, grid, period)}

    assert platforms("sentinel-2-l2a", "2016-05-01/2016-07-01") == {"sentinel-2a"}
    assert platforms("sentinel-2-l2a", "2018-05-01/2018-07-01") == {"sentinel-2a", "sentinel-2b"}
    assert platforms("landsat-c2-l2", "2021-08-01/2021-10-31") == {"landsat-8"}
    assert platforms("landsat-c2-l2", "2021-10-31/2021-12-01") == {"landsat-8", "landsat-9"}


def test_no_scene_in_the_polar_night(visit: Visit) -> None:
    assert visit("sentinel-2-l2a", 20.0, 78.0, period="2021-11-15/2022-01-25").scenes == []
    assert len(visit("sentinel-2-l2a", 20.0, 78.0, period="2021-06-01/2021-06-11").scenes) > 10


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
    year = "2021-01-01/2022-01-01"
    few = visit("sentinel-2-l2a", 11.5, 48.2, period=year, max_cloud=20).scenes
    every = visit("sentinel-2-l2a", 11.5, 48.2, period=year).scenes
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
        clouded = np.isin(above.state, (CLOUD, CIRRUS))
        share = 100 * clouded[seen(scene, window)].mean()
        assert share == pytest.approx(scene.cloud_cover, abs=3)
        assert np.array_equal(above.opacity > 0, clouded)


def test_nothing_outside_the_extent(visit: Visit, earth: VirtualEarth) -> None:
    imagery, grid, scenes = visit("naip", -100.0, 40.0, pixel=1.0, period="2015-01-01/2022-01-01")
    assert scenes
    before = SearchRequest(
        site="a", grid=grid, period=Period.parse("1999-01-01/2002-01-01"), max_cloud=100
    )
    assert earth.search(imagery, [before]) == [[]]
    assert visit("naip", 2.0, 48.0, pixel=1.0, period="2015-01-01/2022-01-01").scenes == []
    assert visit("sentinel-2-l2a", 0.0, -70.0).scenes == []
