"""Regridding against brute force: pyproj a pixel at a time, shapely for areas."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import Transformer
from shapely.geometry import Polygon, box

from las_builder.core.grid import Grid, from_lonlat
from las_builder.core.types import LabelMap, LabelSource
from las_builder.errors import GridMismatchError, LegendError
from las_builder.harmonise.mesh import mesh
from las_builder.harmonise.regrid import product_pixels_per_pixel, regrid

WORLDCOVER = 1 / 12000
NODATA = 0


def grid_at(crs: str, lon: float, lat: float, pixel: float, size: int) -> Grid:
    """A grid around a place whose corner is on the pixel's lattice."""
    x, y = from_lonlat(crs, np.array([lon]), np.array([lat]))
    west = math.floor(x[0] / pixel - size / 2) * pixel
    north = math.ceil(y[0] / pixel + size / 2) * pixel
    return Grid(crs, Affine(pixel, 0, west, 0, -pixel, north), size, size)


def window(crs: str, grid: Grid, pixel: float, margin: int = 2, off: float = 0.0) -> Grid:
    """A window of a product's lattice that covers a grid; beyond 180 where the grid crosses it."""
    to = Transformer.from_crs(grid.crs, crs, always_xy=True)
    w, s, e, n = grid.bounds
    edge = np.linspace(0, 1, 50)
    x = np.concatenate([w + (e - w) * edge, w + (e - w) * edge, 0 * edge + w, 0 * edge + e])
    y = np.concatenate([0 * edge + n, 0 * edge + s, s + (n - s) * edge, s + (n - s) * edge])
    px, py = to.transform(x, y)
    if crs == "EPSG:4326" and np.ptp(px) > 180:
        px = np.where(px < 0, px + 360, px)
    col0 = math.floor((px.min() - off) / pixel) - margin
    row0 = math.ceil((py.max() - off) / pixel) + margin
    width = math.ceil((px.max() - off) / pixel) + margin - col0
    height = row0 - math.floor((py.min() - off) / pixel) + margin
    return Grid(
        crs, Affine(pixel, 0, col0 * pixel + off, 0, -pixel, row0 * pixel + off), width, height
    )


def source_of(grid: Grid, codes: np.ndarray, **more: object) -> LabelSource:
    given = {"product": "p", "version": "v", "nodata": NODATA, **more}
    return LabelSource(grid=grid, codes=codes, **given)


def noise(grid: Grid, seed: int = 0, top: int = 6, blob: int = 1) -> np.ndarray:
    """Codes 0 (nodata) to `top` - 1, in squares of `blob` pixels."""
    h, w = -(-grid.height // blob), -(-grid.width // blob)
    small = np.random.default_rng(seed).integers(0, top, (h, w))
    return np.kron(small, np.ones((blob, blob), int))[: grid.height, : grid.width].astype(np.uint8)


def at(grid: Grid, row: float, col: float) -> tuple[float, float]:
    west, south, east, north = grid.bounds
    return west + (east - west) * col / grid.width, north + (south - north) * row / grid.height


def brute_nearest(source: LabelSource, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """One pyproj call and one floor a pixel; `near` marks pixels too close to an edge to judge."""
    to = Transformer.from_crs(grid.crs, source.grid.crs, always_xy=True)
    t, codes = source.grid.transform, source.codes
    out, near = np.zeros(grid.shape, int), np.zeros(grid.shape, bool)
    for j in range(grid.height):
        for i in range(grid.width):
            x, y = to.transform(*(at(grid, j + 0.5, i + 0.5)))
            hits = []
            for turn in (0, 360, -360) if source.grid.crs == "EPSG:4326" else (0,):
                c, r = (x + turn - t.c) / t.a, (y - t.f) / t.e
                if 0 <= c < source.grid.width and 0 <= r < source.grid.height:
                    hits.append((c, r))
            if not hits:
                continue
            c, r = hits[0]
            near[j, i] = min(abs(c - round(c)), abs(r - round(r))) < 1e-5
            out[j, i] = codes[math.floor(r), math.floor(c)]
    return out, near


def brute_areas(
    source: LabelSource, grid: Grid, j: int, i: int
) -> tuple[dict[int, float], Polygon]:
    """Area of every code, in product pixels, under one grid pixel, by polygon clipping."""
    to = Transformer.from_crs(grid.crs, source.grid.crs, always_xy=True)
    t = source.grid.transform
    ring = []
    for a, b in ((0, 0), (1, 0), (1, 1), (0, 1)):
        x, y = to.transform(*(at(grid, j + b, i + a)))
        if source.grid.crs == "EPSG:4326":
            middle = t.c + source.grid.width / 2 * t.a
            x += 360 * round((middle - x) / 360)
        ring.append(((x - t.c) / t.a, (y - t.f) / t.e))
    quad = Polygon(ring)
    found: dict[int, float] = defaultdict(float)
    c0, r0, c1, r1 = quad.bounds
    for r in range(math.floor(r0), math.ceil(r1)):
        for c in range(math.floor(c0), math.ceil(c1)):
            if 0 <= r < source.grid.height and 0 <= c < source.grid.width:
                found[int(source.codes[r, c])] += quad.intersection(box(c, r, c + 1, r + 1)).area
    return found, quad


def check_majority(source: LabelSource, grid: Grid, got: LabelMap, step: int = 1) -> int:
    """Every `step`-th pixel; returns how many were beyond doubt."""
    sure = 0
    for j in range(0, grid.height, step):
        for i in range(0, grid.width, step):
            areas, quad = brute_areas(source, grid, j, i)
            areas.pop(NODATA, None)
            areas = {code: area for code, area in areas.items() if area > 1e-9}
            if not areas:
                assert got.codes[j, i] == NODATA
                assert got.share[j, i] == 0
                continue
            ranked = sorted(areas.values(), reverse=True)
            share = 100 * areas[int(got.codes[j, i])] / quad.area
            assert areas[int(got.codes[j, i])] == pytest.approx(ranked[0], abs=2e-6 * quad.area)
            assert abs(float(got.share[j, i]) - max(share, 1)) <= 0.5 + 1e-3
            sure += len(ranked) == 1 or ranked[0] - ranked[1] > 1e-3
    return sure


PLACES = [
    pytest.param("EPSG:32631", 3.0, 0.01, id="equator"),
    pytest.param("EPSG:32632", 11.9, 47.0, id="Alps, edge of the zone"),
    pytest.param("EPSG:32756", 151.2, -33.9, id="south"),
    pytest.param("EPSG:32660", 179.999, 66.5, id="east of nothing: 180"),
    pytest.param("EPSG:32601", -179.999, -16.8, id="180, north numbering in the south"),
]


@pytest.mark.parametrize(("crs", "lon", "lat"), PLACES)
@pytest.mark.parametrize("pixel", [10.0, 4.0])
def test_nearest_in_degrees_is_brute_force(crs: str, lon: float, lat: float, pixel: float) -> None:
    grid = grid_at(crs, lon, lat, pixel, 24)
    there = window("EPSG:4326", grid, WORLDCOVER * 2)
    source = source_of(there, noise(there))
    got = regrid(source, grid, nodata=NODATA, dtype=np.uint8)
    want, near = brute_nearest(source, grid)
    assert near.mean() < 0.02
    np.testing.assert_array_equal(got.codes[~near], want[~near])
    np.testing.assert_array_equal(got.share, np.where(got.codes == NODATA, 0, 100))
    assert len(np.unique(got.codes)) == 6


def test_windows_beyond_180_on_either_side_say_the_same() -> None:
    grid = grid_at("EPSG:32660", 180.0, 66.5, 10, 32)
    east = window("EPSG:4326", grid, WORLDCOVER * 2)
    assert east.bounds[0] < 180 < east.bounds[2]
    t = east.transform
    west = Grid("EPSG:4326", Affine(t.a, 0, t.c - 360, 0, t.e, t.f), east.width, east.height)
    codes = noise(east)
    a, b = (regrid(source_of(w, codes), grid, nodata=0, dtype="uint8") for w in (east, west))
    np.testing.assert_array_equal(a.codes, b.codes)
    assert (a.codes[:, :8] != 0).mean() > 0.5
    assert (a.codes[:, -8:] != 0).mean() > 0.5


@pytest.mark.parametrize(("crs", "lon", "lat"), PLACES)
def test_majority_in_degrees_is_brute_force(crs: str, lon: float, lat: float) -> None:
    grid = grid_at(crs, lon, lat, 30.0, 12)
    there = window("EPSG:4326", grid, WORLDCOVER)
    source = source_of(there, noise(there, blob=2))
    assert product_pixels_per_pixel(there, grid) > 2
    got = regrid(source, grid, nodata=NODATA, dtype=np.uint8)
    assert check_majority(source, grid, got) > 100
    assert np.any((got.share > 0) & (got.share < 100))


def test_majority_between_projections_that_turn() -> None:
    """Albers and polar stereographic against UTM: the quadrilaterals are far from upright."""
    grid = grid_at("EPSG:32618", -77.9, 39.6, 100.0, 10)
    there = window("EPSG:5070", grid, 30.0, off=15.0)
    source = source_of(there, noise(there, 1))
    assert check_majority(source, grid, regrid(source, grid, nodata=0, dtype="uint8")) > 50

    pole = grid_at("EPSG:3031", 100.0, -75.0, 60.0, 10)
    there = window("EPSG:32747", pole, 10.0)
    source = source_of(there, noise(there, 2, blob=2))
    got = regrid(source, pole, nodata=0, dtype="uint8")
    assert check_majority(source, pole, got) > 50


@pytest.mark.parametrize(
    ("coarse", "fine", "off"),
    [(30.0, 10.0, 0.0), (30.0, 10.0, 5.0), (10.0, 4.0, 1.3), (20.0, 10.0, 0.0)],
)
def test_majority_in_one_projection_is_brute_force(coarse: float, fine: float, off: float) -> None:
    grid = grid_at("EPSG:32733", 15.0, -20.0, coarse, 12)
    there = window("EPSG:32733", grid, fine, off=off)
    source = source_of(there, noise(there, 3, top=4))
    got = regrid(source, grid, nodata=0, dtype="uint8")
    assert check_majority(source, grid, got) > 60


def test_nearest_in_one_projection_by_whole_numbers() -> None:
    """The product's 10 m pixels under a 10 m grid, and a 30 m product under it: plain indexing."""
    grid = Grid("EPSG:32733", Affine(10, 0, 500000, 0, -10, 7800000), 9, 6)
    same = Grid("EPSG:32733", Affine(10, 0, 499970, 0, -10, 7800020), 20, 12)
    codes = noise(same, 4)
    got = regrid(source_of(same, codes), grid, nodata=0, dtype="uint8")
    np.testing.assert_array_equal(got.codes, codes[2:8, 3:12])
    coarse = Grid("EPSG:32733", Affine(30, 0, 500000, 0, -30, 7800000), 3, 2)
    codes = np.arange(1, 7, dtype=np.uint8).reshape(2, 3)
    got = regrid(source_of(coarse, codes), grid, nodata=0, dtype="uint8")
    np.testing.assert_array_equal(got.codes, np.kron(codes, np.ones((3, 3), int)))


def test_a_centre_on_an_edge_goes_south_east_whatever_the_float_noise() -> None:
    """A grid of 20 m whose centres lie on the corners of a 20 m product shifted by half."""
    for base in (500000.0, 500000.1, 1 / 3):
        grid = Grid("EPSG:32633", Affine(20, 0, base, 0, -20, base), 4, 4)
        there = Grid("EPSG:32633", Affine(20, 0, base - 10, 0, -20, base + 10), 6, 6)
        codes = np.arange(1, 37, dtype=np.uint8).reshape(6, 6)
        got = regrid(source_of(there, codes), grid, nodata=0, dtype="uint8")
        np.testing.assert_array_equal(got.codes, codes[1:5, 1:5])


def test_area_decides_between_nearest_and_majority() -> None:
    """Half the area is the limit, whichever window was read, and in degrees as well."""
    grid = grid_at("EPSG:32633", 15.0, 40.0, 10.0, 8)
    for pixel, majority in [(7.0, True), (10 / math.sqrt(2), False), (7.2, False)]:
        there = window("EPSG:32633", grid, pixel)
        got = regrid(source_of(there, noise(there, 5, top=3)), grid, nodata=0, dtype="uint8")
        assert bool(np.any((got.share > 0) & (got.share < 100))) is majority
    # a WorldCover pixel is 9.3 m x 9.3 m cos(lat): half of 100 m2 is reached near 54.4 degrees
    for lat, majority in [(54.0, False), (55.0, True)]:
        grid = grid_at("EPSG:32633", 15.0, lat, 10.0, 8)
        for margin in (2, 400):
            there = window("EPSG:4326", grid, WORLDCOVER, margin)
            assert (product_pixels_per_pixel(there, grid) > 2) is majority


def test_ties_go_to_the_code_nearest_the_centre() -> None:
    grid = Grid("EPSG:32633", Affine(30, 0, 0, 0, -30, 0), 1, 1)
    there = Grid("EPSG:32633", Affine(10, 0, 0, 0, -10, 0), 3, 3)

    def winner(codes: list[list[int]]) -> tuple[int, int]:
        got = regrid(source_of(there, np.array(codes, np.uint8)), grid, nodata=0, dtype="uint8")
        return int(got.codes[0, 0]), int(got.share[0, 0])

    assert winner([[1, 1, 1], [1, 2, 2], [2, 2, 0]]) == (2, 44)
    assert winner([[2, 2, 2], [2, 1, 1], [1, 1, 0]]) == (1, 44)
    assert winner([[3, 3, 5], [3, 3, 5], [0, 5, 5]]) == (3, 44)
    assert winner([[0, 0, 0], [0, 0, 0], [0, 0, 7]]) == (7, 11)  # nodata never wins over a code
    assert winner([[0, 0, 0], [0, 0, 0], [0, 0, 0]]) == (0, 0)
    two = Grid("EPSG:32633", Affine(15, 0, 0, 0, -15, 0), 2, 2)
    got = regrid(
        source_of(two, np.array([[9, 9], [4, 4]], np.uint8)), grid, nodata=0, dtype="uint8"
    )
    assert (int(got.codes[0, 0]), int(got.share[0, 0])) == (4, 50)  # the south-eastern, as nearest
    got = regrid(
        source_of(two, np.array([[4, 4], [9, 9]], np.uint8)), grid, nodata=0, dtype="uint8"
    )
    assert int(got.codes[0, 0]) == 9  # not the smaller code


def test_outside_the_window_and_nodata_of_the_file() -> None:
    grid = Grid("EPSG:32633", Affine(10, 0, 0, 0, -10, 0), 4, 2)
    there = Grid("EPSG:32633", Affine(10, 0, 10, 0, -10, 0), 2, 2)
    codes = np.array([[1, 255], [0, 2]], np.uint8)
    got = regrid(source_of(there, codes, nodata=255), grid, nodata=0, dtype=np.int16)
    np.testing.assert_array_equal(got.codes, [[0, 1, 0, 0], [0, 0, 2, 0]])
    np.testing.assert_array_equal(got.share, [[0, 100, 0, 0], [0, 0, 100, 0]])
    assert got.codes.dtype == np.int16
    wide = Grid("EPSG:32633", Affine(20, 0, 0, 0, -20, 0), 2, 1)
    got = regrid(source_of(there, codes, nodata=255), wide, nodata=0, dtype=np.int16)
    np.testing.assert_array_equal(got.codes, [[1, 2]])
    np.testing.assert_array_equal(got.share, [[25, 25]])


def test_evidence_follows_the_pixels() -> None:
    there = Grid("EPSG:32633", Affine(10, 0, 0, 0, -10, 0), 4, 2)
    codes = np.ones((2, 4), np.uint8)
    share = np.arange(8, dtype=np.uint8).reshape(1, 2, 4)
    chance = share.astype(np.float32) / 10
    chance[0, 0, 0] = np.nan
    source = source_of(there, codes, evidence={"share": share, "chance": chance})
    nearest = regrid(
        source, Grid("EPSG:32633", Affine(10, 0, 10, 0, -10, 0), 4, 1), nodata=0, dtype="uint8"
    )
    np.testing.assert_array_equal(nearest.evidence["share"], [[[1, 2, 3, 0]]])
    np.testing.assert_allclose(nearest.evidence["chance"], np.float32([[[0.1, 0.2, 0.3, np.nan]]]))
    mean = regrid(
        source, Grid("EPSG:32633", Affine(20, 0, 0, 0, -20, 0), 3, 1), nodata=0, dtype="uint8"
    )
    np.testing.assert_array_equal(
        mean.evidence["share"], [[[2, 4, 0]]]
    )  # 2.5 and 4.5, half to even
    np.testing.assert_allclose(
        mean.evidence["chance"], np.float32([[[(0.1 + 0.4 + 0.5) / 3, 0.45, np.nan]]]), rtol=1e-6
    )
    assert mean.evidence["share"].dtype == np.uint8
    flat = source_of(there, codes, evidence={"share": share[0]})  # (y, x), as providers give it
    for grid, want in [(nearest.grid, [[1, 2, 3, 0]]), (mean.grid, [[2, 4, 0]])]:
        got = regrid(flat, grid, nodata=0, dtype="uint8")
        np.testing.assert_array_equal(got.evidence["share"], want)


def test_pictures_without_a_place_and_mixtures() -> None:
    grid = Grid(None, Affine(1, 0, 0, 0, -1, 0), 5, 4)
    codes = noise(grid, 6)
    np.testing.assert_array_equal(
        regrid(source_of(grid, codes), grid, nodata=0, dtype="uint8").codes, codes
    )
    placed = Grid("EPSG:32633", grid.transform, 5, 4)
    with pytest.raises(GridMismatchError, match="None"):
        regrid(source_of(placed, codes), grid, nodata=0, dtype="uint8")
    with pytest.raises(GridMismatchError, match="window"):
        regrid(source_of(placed, codes[:2]), placed, nodata=0, dtype="uint8")
    with pytest.raises(LegendError, match="999"):
        regrid(source_of(placed, codes.astype(np.int16) + 994), placed, nodata=0, dtype="uint8")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("pixel", [10, 30])  # of the grid: nearest, and majority
def test_whole_numbers_in_floats_are_codes(pixel: int, dtype: str) -> None:
    there = Grid("EPSG:32633", Affine(10, 0, 0, 0, -10, 0), 30, 30)
    grid = Grid("EPSG:32633", Affine(pixel, 0, 0, 0, -pixel, 0), 300 // pixel, 300 // pixel)
    whole = noise(there, 3)
    want = regrid(source_of(there, whole), grid, nodata=0, dtype="uint8")
    floats = np.where(whole == 0, np.nan, whole).astype(dtype)
    floats[::2][whole[::2] == 0] = -9999
    got = regrid(source_of(there, floats, nodata=-9999), grid, nodata=0, dtype="uint8")
    assert got.codes.dtype == np.uint8
    np.testing.assert_array_equal(got.codes, want.codes)
    np.testing.assert_array_equal(got.share, want.share)


@pytest.mark.parametrize("strange", [2.5, 1 + 1e-6, -1.0, 256.0, 1e300, np.inf, -np.inf])
def test_floats_that_are_no_codes_are_said_to_be_interpolated(strange: float) -> None:
    there = Grid("EPSG:32633", Affine(10, 0, 0, 0, -10, 0), 4, 3)
    codes = np.ones(there.shape)
    codes[1, 2] = strange
    with pytest.raises(LegendError, match="outside the legend point to interpolated") as told:
        regrid(source_of(there, codes), there, nodata=0, dtype="uint8")
    assert repr(strange) in str(told.value)


def test_corine_that_was_resampled_bilinearly(shared_data: Path) -> None:
    """Refused as it is; with its numbers made whole again, it is a map like another."""
    with rasterio.open(shared_data / "corine_harz_bilinear/corine_harz.tif") as file:
        data = file.read(1)
        there = Grid("EPSG:4326", file.transform, file.width, file.height)
    assert (data % 1 > 0).any()
    grid = grid_at("EPSG:32632", 10.3, 51.9, 20, 64)
    with pytest.raises(LegendError, match="outside the legend point to interpolated") as told:
        regrid(source_of(there, data, product="corine"), grid, nodata=0, dtype="uint8")
    assert "\n" not in str(told.value)
    whole = np.rint(data)
    got = regrid(source_of(there, whole), grid, nodata=0, dtype="uint8")
    assert set(np.unique(got.codes)) <= set(np.unique(np.nan_to_num(whole).astype(int)))
    assert len(np.unique(got.codes)) > 3


def test_the_pole_of_a_lattice_in_degrees_says_nothing_rather_than_hang() -> None:
    grid = Grid("EPSG:3031", Affine(60, 0, -300, 0, -60, 300), 10, 10)
    there = Grid("EPSG:4326", Affine(1e-3, 0, -180, 0, -1e-4, -89.98), 2000, 200)
    got = regrid(source_of(there, np.ones(there.shape, np.uint8)), grid, nodata=0, dtype="uint8")
    assert got.codes.shape == grid.shape


@pytest.mark.parametrize(("crs", "lon", "lat"), PLACES)
def test_a_patch_says_the_same_as_its_parts(crs: str, lon: float, lat: float) -> None:
    """Large ones are interpolated between nodes of PROJ, small ones are asked pixel by pixel."""
    for pixel, fine in ((30.0, WORLDCOVER), (10.0, 2 * WORLDCOVER)):
        grid = grid_at(crs, lon, lat, pixel, 60)
        there = window("EPSG:4326", grid, fine)
        source = source_of(there, noise(there, 8, blob=2))
        whole = regrid(source, grid, nodata=0, dtype="uint8")
        t = grid.transform
        for r, c in ((0, 0), (54, 0), (23, 37), (54, 54)):
            moved = Affine(t.a, 0, t.c + c * t.a, 0, t.e, t.f + r * t.e)
            part = regrid(source, Grid(crs, moved, 6, 6), nodata=0, dtype="uint8")
            np.testing.assert_array_equal(part.codes, whole.codes[r : r + 6, c : c + 6])
            np.testing.assert_array_equal(part.share, whole.share[r : r + 6, c : c + 6])


@pytest.mark.parametrize(("crs", "lon", "lat"), PLACES)
@pytest.mark.parametrize("top", [2, 6, 200])  # a code, some, more than are all looked at
def test_areas_in_closed_form_decide_as_those_walked_along_edges(
    crs: str, lon: float, lat: float, top: int
) -> None:
    """Evidence wants the areas themselves, so beside it none has a closed form."""
    grid = grid_at(crs, lon, lat, 30.0, 80)
    there = window("EPSG:4326", grid, WORLDCOVER)
    codes = noise(there, 5, top=top)
    bare = source_of(there, codes)
    full = LabelSource(
        product=bare.product, version=bare.version, grid=there, codes=codes, nodata=NODATA,
        evidence={"depth": np.zeros(there.shape, np.float32)},
    )  # fmt: skip
    quick, slow = (regrid(s, grid, nodata=NODATA, dtype="uint8") for s in (bare, full))
    np.testing.assert_array_equal(quick.codes, slow.codes)
    np.testing.assert_array_equal(quick.share, slow.share)
    assert (quick.codes != NODATA).any()


def _in_pixels(to: Transformer, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    lon, lat = to.transform(x, y)
    return lon / WORLDCOVER, lat / WORLDCOVER


def test_interpolated_coordinates_are_those_of_proj() -> None:
    """Also where they cannot be interpolated: over a pole, across the seam, beyond a CRS's end."""
    for crs, lon, lat in (
        ("EPSG:32633", 15.0, 40.0), ("EPSG:32633", 15.0, 84.0), ("EPSG:3031", 0.0, -89.999),
        ("EPSG:3995", 179.99, 80.0), ("EPSG:32660", 179.99, 66.5),
    ):  # fmt: skip
        grid = grid_at(crs, lon, lat, 30.0, 300)
        to = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
        x = grid.transform.c + 30.0 * np.arange(300)
        y = grid.transform.f - 30.0 * np.arange(300)
        exact = to.transform(*np.meshgrid(x, y))
        got = mesh(partial(_in_pixels, to), x, y)
        for one, other in zip(got, exact, strict=True):
            np.testing.assert_allclose(one * WORLDCOVER, other, rtol=0, atol=2e-8 * WORLDCOVER)


def test_a_half_percent_goes_up_whatever_the_float_noise() -> None:
    for off in (0.0, 0.3, 1 / 3):
        there = Grid("EPSG:32633", Affine(5, 0, off, 0, -5, 40 + off), 8, 8)
        grid = Grid("EPSG:32633", Affine(20, 0, off, 0, -20, 40 + off), 2, 2)
        codes = np.ones((8, 8), np.uint8)
        codes[::2, ::2], codes[0, 1] = 2, 2  # 5 of 16 in the first, 4 of 16 in the others
        codes[7, 7], codes[7, 5] = 2, 2  # 6 of 16 in the last
        got = regrid(source_of(there, codes), grid, nodata=0, dtype="uint8")
        np.testing.assert_array_equal(got.share, [[69, 75], [75, 63]])  # 68.75, 62.5


def test_fast_enough_for_thirty_thousand_sites() -> None:
    """Loose limits (ten times what was measured): a quadratic mistake, not a slow machine."""
    grid = grid_at("EPSG:32633", 15.0, 40.0, 10.0, 264)
    for crs, pixel, limit in [("EPSG:32633", 10.0, 0.15), ("EPSG:4326", WORLDCOVER, 0.8)]:
        there = window(crs, grid, pixel)
        source = source_of(there, noise(there, 9))
        regrid(source, grid, nodata=0, dtype="uint8")
        start = time.perf_counter()
        regrid(source, grid, nodata=0, dtype="uint8")
        assert time.perf_counter() - start < limit
