"""Blocks and buffers, against areas and distances of pyproj and boxes told apart by hand."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
from affine import Affine
from numpy.typing import NDArray
from pyproj import Geod, Transformer

from las_builder.catalogs import Catalogs, Strata
from las_builder.core.grid import Grid
from las_builder.core.options import Patch, Sites, Splits
from las_builder.core.types import Site
from las_builder.plan import Blocks, SiteTable, assign, draw, leaks, split_of

GEOD = Geod(ellps="WGS84")
Floats = NDArray[np.float64]
Box = tuple[float, float, float, float]

CATALOGS = Catalogs.load()
IMAGERY = CATALOGS.imagery("sentinel-2-l2a")
GRIDS = IMAGERY.lattice


def draw_sites(*, subset: str = "a", **asked: Any) -> list[Site]:
    return draw(
        subset=subset, sites=Sites(**asked), patch=Patch(size=64), imagery=IMAGERY, products=[],
        strata=Strata.load(CATALOGS), where="recipe.yaml",
    )  # fmt: skip


def site(
    lon: float, lat: float, *, size: int = 64, name: str = "", grid: Grid | None = None
) -> Site:
    grid = grid or GRIDS.grid_at(lon, lat, size)
    return Site(
        id=name or grid.code(), subset="a", lon=lon, lat=lat, grid=grid, component="uniform",
        stratum="land", density=None, weight_km2=None, rank=0, primary=True, block=-1,
        split="train",
    )  # fmt: skip


def box_of(blocks: Blocks, number: int) -> Box:
    w, s, e, n = (float(v[0]) for v in blocks.box(np.array([number])))
    return w, s, e, n


def side_points(box: Box) -> tuple[Floats, Floats]:
    """The edge of a box of degrees, densely."""
    w, s, e, n = box
    t = np.linspace(0, 1, 401)
    x, y = w + t * (e - w), s + t * (n - s)
    return (
        np.concatenate([x, x, 0 * y + w, 0 * y + e]),
        np.concatenate([0 * x + s, 0 * x + n, y, y]),
    )


def edge(grid: Grid, n: int = 8) -> tuple[Floats, Floats]:
    """The edge of a footprint, by pyproj."""
    w, s, e, top = grid.bounds
    t = np.linspace(0, 1, n, endpoint=False)
    x = np.concatenate([w + t * (e - w), 0 * t + e, e - t * (e - w), 0 * t + w])
    y = np.concatenate([0 * t + s, s + t * (top - s), 0 * t + top, top - t * (top - s)])
    lon, lat = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True).transform(x, y)
    return np.asarray(lon), np.asarray(lat)


def distance_km(a: tuple[Floats, Floats], b: tuple[Floats, Floats]) -> float:
    i, j = (v.ravel() for v in np.indices((a[0].size, b[0].size)))
    return float(GEOD.inv(a[0][i], a[1][i], b[0][j], b[1][j])[2].min()) / 1000


def in_box(box: Box, lon: float, lat: float) -> bool:
    w, s, e, n = box
    return s <= lat <= n and any(w <= lon + turn <= e for turn in (-360, 0, 360))


# --- blocks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [100.0, 700.0])
def test_blocks_have_exactly_equal_areas(side: float) -> None:
    blocks = Blocks.of(side)
    polar = {len(blocks.first) // 2 - 1, len(blocks.first) - 1}
    total = 0.0
    for band, (first, columns) in enumerate(zip(blocks.first, blocks.columns, strict=True)):
        w, s, e, n = box_of(blocks, int(first))
        # A parallel is no geodesic: many points, and a wedge to the pole is closed there.
        x = np.linspace(w, e, 2001)
        lon = np.concatenate([x, x[::-1]])
        lat = np.concatenate([np.full(2001, s), np.full(2001, n)])
        area = abs(GEOD.polygon_area_perimeter(lon, lat)[0]) / 1e6
        total += area * int(columns)
        if band in polar:
            assert 0.5 * side**2 < area < 1.6 * side**2
        else:
            assert area == pytest.approx(side**2, rel=1e-6)
            wide = np.array([s if s >= 0 else n])  # the side that looks to the equator
            across = distance_km((np.array([w]), wide), (np.array([e]), wide))
            assert across == pytest.approx(side, rel=0.2)
    assert total == pytest.approx(510_065_621.724, rel=1e-8)  # WGS 84


def test_every_place_lies_in_exactly_one_block() -> None:
    blocks = Blocks.of(400.0)
    total = int(blocks.columns.sum())
    w, s, e, n = blocks.box(np.arange(total))
    rng = np.random.default_rng(1)
    lon = np.concatenate([rng.uniform(-180, 180, 2000), [0, -180, 180, 179.9999999, -179.9999999]])
    lat = np.concatenate([np.degrees(np.arcsin(rng.uniform(-1, 1, 2000))), np.zeros(5)])
    lon = np.concatenate([lon, [-180, 0, 180, 77, -180, 0, 180, 77]])
    lat = np.concatenate([lat, [90.0] * 4, [-90.0] * 4])
    number = blocks.number(lon, lat)
    assert ((number >= 0) & (number < total)).all()
    for x, y, k in zip(lon, lat, number.tolist(), strict=True):
        holding = np.flatnonzero(
            (s <= y) & (y <= n) & ((w <= x) & (x <= e) | (w <= x + 360) & (x + 360 <= e)
                                   | (w <= x - 360) & (x - 360 <= e))
        )  # fmt: skip
        assert k in holding
        if abs(y) not in {0, 90} and abs(x) != 180:
            assert holding.size == 1
    assert (blocks.number(np.array([180.0, 540.0]), np.array([5.0, 5.0])) ==
            blocks.number(np.array([-180.0]), np.array([5.0]))).all()  # fmt: skip
    # The middle of every block, and only that, is in it: no block is missing or there twice.
    middle = blocks.number((w + e) / 2, (s + n) / 2)
    assert (middle == np.arange(total)).all()


@pytest.mark.parametrize(("train", "val", "test"), [(18, 1, 1), (7, 2, 1), (3, 0, 0)])
def test_every_super_block_has_its_shares(train: int, val: int, test: int) -> None:
    splits = Splits(train=train, val=val, test=test, seed=3)
    size = train + val + test
    kinds = split_of(np.arange(size * 1000), splits).reshape(1000, size)
    for row in kinds.tolist():
        assert Counter(row) == Counter({0: train, 1: val, 2: test}) - Counter()
    if val:
        # Not the same place of every super-block, and another seed deals otherwise.
        assert len({row.index(1) for row in kinds.tolist()}) > size - val
        other = split_of(np.arange(size * 1000), splits.model_copy(update={"seed": 4}))
        assert (other != kinds.ravel()).any()
    alone = [int(split_of(np.array([k]), splits)[0]) for k in (0, 5, size * 500 + 1)]
    assert alone == kinds.ravel()[[0, 5, size * 500 + 1]].tolist()


# --- sites ---------------------------------------------------------------------------------------


def test_adding_sites_never_moves_others() -> None:
    few = draw_sites(count=200, region="Slovenia")
    many = draw_sites(count=200, region="Europe", subset="b", seed=5)
    splits = Splits(block_km=50)
    alone = assign(few, splits)
    together = assign([*many, *few], splits)
    assert together[len(many) :] == alone
    assert {s.split for s in together} == {"train", "val", "test", "buffer"}
    assert all(dataclasses.replace(a, block=-1, split="train") == f for a, f in
               zip(alone, few, strict=True))  # fmt: skip


def test_the_order_and_the_form_of_sites_do_not_matter() -> None:
    sites = [*draw_sites(count=400, region="Italy")]
    splits = Splits(block_km=50)
    at_once = list(assign(sites, splits))
    assert list(assign(sites[::-1], splits)) == at_once[::-1]
    assert list(assign(SiteTable.of(sites), splits)) == at_once
    assert [one for site in sites[::7] for one in assign([site], splits)] == at_once[::7]
    # Another date or subset has another name and nothing else.
    others = [dataclasses.replace(s, subset="b", id=f"{s.id}-2022") for s in sites]
    assert [(s.block, s.split) for s in assign(others, splits)] == [
        (s.block, s.split) for s in at_once
    ]


PLACES = {
    "middle latitudes": (10.0, 14.0, 45.0, 48.0),
    "the antimeridian": (178.0, 182.0, 60.0, 62.0),
    "80° N": (0.0, 24.0, 79.0, 82.0),
    "the equator": (20.0, 23.0, -1.5, 1.5),
}


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("buffer", [10.0, 0.0])
def test_the_buffer_by_brute_force(where: str, buffer: float) -> None:
    w, e, s, n = PLACES[where]
    rng = np.random.default_rng(2)
    lon = (rng.uniform(w, e, 80) + 180) % 360 - 180
    lat = rng.uniform(s, n, 80)
    splits = Splits(train=3, val=1, test=1, block_km=60, buffer_km=buffer)
    blocks = Blocks.of(60)
    numbers = np.arange(int(blocks.columns.sum()))
    kinds = split_of(numbers, splits)
    bw, bs, be, bn = blocks.box(numbers)
    near_by = (bn > s - 1) & (bs < n + 1)
    near_by &= np.any([(be + t > w - 4) & (bw + t < e + 4) for t in (-360, 0, 360)], axis=0)
    shortlist = [(box_of(blocks, k), int(kinds[k]), k) for k in numbers[near_by].tolist()]
    seen: Counter[str] = Counter()
    for one in assign(
        [site(x, y) for x, y in zip(lon.tolist(), lat.tolist(), strict=True)], splits
    ):
        ring = edge(one.grid)
        cx, cy = one.grid.centre_lonlat()
        [home] = [(b, kind, k) for b, kind, k in shortlist if in_box(b, cx, cy)]
        assert one.block == home[2]
        leaves = not all(in_box(home[0], x, y) for x, y in zip(*ring, strict=True))
        least = np.inf
        for box, kind, _ in shortlist:
            if kind <= home[1]:
                continue
            if any(in_box(box, x, y) for x, y in zip(*ring, strict=True)):
                least = 0.0
                break
            sides = side_points(box)
            # Only the part of the box's edge that is near matters: by degrees, generously.
            dx = (sides[0] - cx + 180) % 360 - 180
            close = (np.abs(dx) * np.cos(np.radians(cy)) < 0.3) & (np.abs(sides[1] - cy) < 0.3)
            if close.any():
                least = min(least, distance_km(ring, (sides[0][close], sides[1][close])))
        plain = ("train", "val", "test")[home[1]]
        if least < buffer or (home[1] > 0 and leaves):
            assert one.split == "buffer", (one.lon, one.lat, least)
        elif least > buffer * 1.01 + 0.2 + 0.01:
            # Footprints count as the circle around them: 0.13 km more than half a side.
            assert one.split == plain, (one.lon, one.lat, least)
        else:
            assert one.split in {plain, "buffer"}
            seen["between"] += 1
        seen[one.split] += 1
    assert seen["train"] > 5
    assert seen["val"] + seen["test"] > 5
    assert seen["buffer"] > (10 if buffer else 0)
    assert seen["between"] < 15


def test_footprints_of_different_splits_are_the_buffer_apart() -> None:
    world = draw_sites(count=20_000)
    splits = Splits(train=3, val=1, test=1, block_km=40)
    sites = [s for s in assign(world, splits) if s.split != "buffer"]
    assert len(sites) > 3000
    found = leaks(sites, splits)
    assert (found.violations, found.checked, found.unchecked) == (0, len(sites), 0)
    assert found.nearest_km is not None
    assert found.nearest_km >= 10
    by_split = {k: [s for s in sites if s.split == k] for k in ("train", "val", "test")}
    least = np.inf
    for a, b in itertools.combinations(by_split, 2):
        lon, lat = (np.array([getattr(s, v) for s in by_split[a]]) for v in ("lon", "lat"))
        for late in by_split[b][:300]:
            close = (np.abs(lat - late.lat) < 0.2) & (np.abs(lon - late.lon) < 0.5)
            for i in np.flatnonzero(close):
                least = min(least, distance_km(edge(by_split[a][i].grid), edge(late.grid)))
    assert 10 < least < 20


def test_sites_without_a_place_keep_their_split() -> None:
    nowhere = dataclasses.replace(
        site(0, 0, name="picture", grid=Grid(None, Affine(1, 0, 0, 0, -1, 0), 64, 64)), split="test"
    )
    here = site(12.0, 46.0)
    sites = assign([nowhere, here], Splits())
    assert sites[0] == nowhere
    assert sites[1].block >= 0
    assert leaks(sites, Splits()).unchecked == 1
    assert assign([], Splits()) == []


def test_without_a_buffer_only_footprints_that_leave_are_set_aside() -> None:
    splits = Splits(train=1, val=1, test=0, block_km=60, buffer_km=0)
    sites = assign([site(x, 46.0) for x in np.linspace(10, 14, 200).tolist()], splits)
    found = leaks(sites, splits)
    assert found.violations == 0
    assert found.nearest_km is not None
    assert found.nearest_km > 0
    assert 0 < sum(s.split == "buffer" for s in sites) < 20


# --- leaks ---------------------------------------------------------------------------------------


def square(x: float, y: float, side: int, crs: str = "EPSG:32633") -> Grid:
    return Grid(crs, Affine(10, 0, x, 0, -10, y), side // 10, side // 10)


@pytest.mark.parametrize(
    ("lon", "lat", "turn"),
    [(12.3, 46.0, 1), (179.999, -17.0, 1), (20.0, 80.5, 1), (-70.0, -40.0, 0)],
)
def test_a_planted_violation_is_found_and_measured(lon: float, lat: float, turn: int) -> None:
    far = site((lon + 5 + 180) % 360 - 180, lat - 3, name="far")
    for km in (0.9, 4.0, 9.7, 10.3):
        x, y, _ = GEOD.fwd(lon, lat, 90 if turn else 37, km * 1000 + 640)
        a, b = site(lon, lat, name="a"), site(x, y, name="b")
        planted = [dataclasses.replace(a, split="train"), dataclasses.replace(b, split="test"), far]
        true = distance_km(edge(a.grid, 200), edge(b.grid, 200))
        found = leaks(planted, Splits())
        assert found.nearest == ("a/a", "a/b")
        assert found.nearest_km is not None
        assert true - 0.64 / 16 - 1e-3 <= found.nearest_km <= true + 1e-3
        if true < 10:
            assert found.violations == 1
        elif found.nearest_km > 10:
            assert found.violations == 0


def test_footprints_on_each_other_are_no_distance_apart() -> None:
    a = dataclasses.replace(site(12, 46, name="a"), split="train")
    for over in (
        site(12, 46, name="b"),
        site(12.003, 46, name="b"),
        site(12, 46, size=8, name="b"),
    ):
        found = leaks([a, dataclasses.replace(over, split="val")], Splits(buffer_km=0.1))
        assert (found.violations, found.nearest_km) == (1, 0.0)


def test_the_nearest_footprints_need_not_have_the_nearest_centres() -> None:
    # From the middle one, 20 km east and 20.1 km away aslant: corners point at each other there.
    at = square(500_000, 5_000_000, 2560)
    east = square(520_000, 5_000_000, 2560)
    aslant = square(500_000 - 14_210, 5_000_000 + 14_210, 2560)
    sites = [
        dataclasses.replace(site(0, 0, name=name, grid=grid), split=split)  # type: ignore[arg-type]
        for name, grid, split in (
            ("at", at, "test"),
            ("east", east, "train"),
            ("aslant", aslant, "train"),
        )
    ]
    found = leaks(sites, Splits())
    assert found.nearest == ("a/aslant", "a/at")
    true = distance_km(edge(at, 100), edge(aslant, 100))
    assert true < distance_km(edge(at, 100), edge(east, 100))
    assert found.nearest_km is not None
    assert true - 2.56 / 16 - 1e-3 <= found.nearest_km <= true + 1e-3


def test_nothing_to_measure() -> None:
    found = leaks([site(12, 46), site(13, 46)], Splits())
    assert (found.violations, found.nearest_km, found.nearest) == (0, None, None)
    assert found.as_json()["checked"] == 2
