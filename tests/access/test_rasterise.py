"""Polygons on grids against shapely (areas, points in polygons) and GDAL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.features import rasterize

from las_builder.access.rasterise import Rule, burn
from las_builder.core.grid import Grid

GRID = Grid("EPSG:32633", Affine(10, 0, 500_040, 0, -10, 5_000_040), 40, 30)
RULES: tuple[Rule, ...] = ("centre", "all-touched")


def covered(shape: Any, grid: Grid = GRID, rule: Rule = "centre") -> np.ndarray:
    out = np.full(grid.shape, 9, np.int32)
    for part in shapely.get_parts(shape):
        rings = [shapely.get_coordinates(ring) for ring in (part.exterior, *part.interiors)]
        burn(rings, 3, grid, rule, out)
    assert set(np.unique(out)) <= {3, 9}
    return out == 3


def pixels(grid: Grid = GRID) -> np.ndarray:
    t = grid.transform
    row, col = np.mgrid[: grid.height, : grid.width]
    west, north = t.c + col * t.a, t.f + row * t.e
    return np.asarray(shapely.box(west, north + t.e, west + t.a, north))


def stars(seed: int, n: int = 12) -> Iterator[Any]:
    """Valid polygons with a hole, of all sizes, also far beyond the grid."""
    chance = np.random.default_rng(seed)
    for _ in range(n):
        angle = np.sort(chance.uniform(0, 2 * np.pi, chance.integers(3, 12)))
        far = chance.uniform(0.3, 1, angle.size) * 10 ** chance.uniform(0.5, 3)
        x, y = chance.uniform(500_000, 500_500), chance.uniform(4_999_700, 5_000_100)
        ring = np.column_stack([x + far * np.cos(angle), y + far * np.sin(angle)])
        star = shapely.make_valid(shapely.Polygon(ring))
        hole = shapely.Point(x, y).buffer(chance.uniform(1, 60))
        parts = shapely.get_parts(star.difference(hole))
        if polygons := [p for p in parts if p.geom_type == "Polygon" and not p.is_empty]:
            yield shapely.MultiPolygon(polygons)


@pytest.mark.parametrize("seed", range(6))
def test_centres_are_those_that_lie_inside(seed: int) -> None:
    x, y = np.meshgrid(*GRID.xy())
    found = 0
    for star in stars(seed):
        want = shapely.contains_xy(star, x, y)
        np.testing.assert_array_equal(covered(star), want)
        found += int(want.sum())
    assert found > 100


@pytest.mark.parametrize("seed", range(6))
def test_touched_are_those_that_share_an_area(seed: int) -> None:
    found = 0
    for star in stars(seed):
        area = shapely.area(shapely.intersection(pixels(), star))
        got = covered(star, rule="all-touched")
        assert got[area > 1e-3].all()
        assert not got[area == 0].any()
        found += int(got.sum())
    assert found > 100


@pytest.mark.parametrize("rule", RULES)
def test_gdal_says_the_same_of_polygons_in_no_special_place(rule: Rule) -> None:
    for star in stars(77, 30):
        want = rasterize(
            [star], GRID.shape, transform=GRID.transform, all_touched=rule == "all-touched"
        )
        got = covered(star, rule=rule)
        off = (got != want.astype(bool)).sum()
        # GDAL counts some pixels as touched that an edge passes at less than a thousandth.
        assert off <= (2 if rule == "all-touched" else 0)


@pytest.mark.parametrize("shift", [0.0, 2.5, 5.0, 7.0])
def test_what_fits_together_neither_overlaps_nor_leaves_a_gap(shift: float) -> None:
    """Squares whose edges go through centres, and triangles of them."""
    counts = np.zeros(GRID.shape, int)
    for i in range(-1, 12):
        for j in range(-1, 12):
            x, y = 500_040 + 35 * i + shift, 5_000_040 - 35 * j - shift
            upper = shapely.Polygon([(x, y), (x + 35, y), (x + 35, y - 35)])
            lower = shapely.Polygon([(x, y), (x, y - 35), (x + 35, y - 35)])
            counts += covered(upper).astype(int) + covered(lower).astype(int)
    assert (counts == 1).all()


def test_edges_between_pixels_touch_neither_neighbour() -> None:
    square = shapely.box(500_060, 4_999_980, 500_080, 5_000_000)
    for rule in RULES:
        got = covered(square, rule=rule)
        assert np.argwhere(got).tolist() == [[4, 2], [4, 3], [5, 2], [5, 3]]
    thin = shapely.box(500_061, 4_999_981, 500_062, 4_999_982)
    assert not covered(thin).any()
    assert np.argwhere(covered(thin, rule="all-touched")).tolist() == [[5, 2]]
    row = shapely.box(500_060, 4_999_985, 500_100, 4_999_985.5)  # a flat edge through centres
    assert np.argwhere(covered(row)).tolist() == []
    assert np.argwhere(covered(row, rule="all-touched")).tolist() == [[5, c] for c in (2, 3, 4, 5)]


@pytest.mark.parametrize("rule", RULES)
def test_every_window_says_the_same_of_the_same_ground(rule: Rule) -> None:
    t = GRID.transform
    for star in stars(5):
        whole = covered(star, rule=rule)
        for row, col, height, width in ((3, 7, 11, 13), (0, 39, 30, 1), (17, 0, 13, 40)):
            place = Affine(t.a, 0, t.c + col * t.a, 0, t.e, t.f + row * t.e)
            window = Grid(GRID.crs, place, width, height)
            np.testing.assert_array_equal(
                covered(star, window, rule), whole[row : row + height, col : col + width]
            )


def test_the_smaller_value_stays() -> None:
    out = np.full(GRID.shape, 1, np.int32)
    ring = shapely.get_coordinates(shapely.box(500_000, 4_999_000, 501_000, 5_001_000).exterior)
    burn([ring], 5, GRID, "centre", out)
    assert (out == 1).all()
    burn([ring], 0, GRID, "centre", out)
    assert (out == 0).all()
