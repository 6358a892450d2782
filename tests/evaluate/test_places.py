"""Intervals of places: against drawing them one by one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from kit_imports import SETS

from las_builder.catalogs import Catalogs
from las_builder.core.grid import Grid
from las_builder.errors import CatalogError
from las_builder.evaluate import score as scores
from las_builder.evaluate.benchmark import Task, Tile, tiles_of
from las_builder.evaluate.metrics import interval, metrics, paired
from las_builder.evaluate.places import grouped, where

CATALOGS = Catalogs.load()
FLAIR = Task.of("flair", CATALOGS)


def tables(seed: int, groups: np.ndarray, classes: int = 3) -> np.ndarray:
    """Matrices that are alike within a group."""
    chance = np.random.default_rng(seed)
    shares = chance.dirichlet(np.ones(classes**2) * 0.7, groups.max() + 1)
    return np.stack([chance.multinomial(400, shares[g]) for g in groups]).reshape(
        -1, classes, classes
    )


def by_hand(tiles: np.ndarray, groups: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Every draw as a list of tiles."""
    chance = np.random.default_rng(seed)
    n = groups.max() + 1
    out = []
    for _ in range(draws):
        total = np.zeros(tiles.shape[1:], int)
        for group in chance.integers(0, n, n):
            for tile in np.flatnonzero(groups == group):
                total += tiles[tile]
        true, said, right = total.sum(1), total.sum(0), np.diag(total)
        with np.errstate(invalid="ignore"):
            iou = right / (true + said - right)
        out.append(iou[true > 0].mean())
    return np.array(out)


def test_places_are_drawn_as_a_whole() -> None:
    groups = np.array([0, 1, 0, 2, 3, 3, 3, 1, 4, 0, 5, 5])
    a, b = tables(1, groups), tables(2, groups)
    # Another truth would be refused: b says other things of the pixels of a.
    b = np.stack([
        np.stack([np.random.default_rng([i, k]).multinomial(n, [0.5, 0.3, 0.2])
                  for k, n in enumerate(tile.sum(1))])
        for i, tile in enumerate(a)
    ])  # fmt: skip
    mine = by_hand(a, groups, 300, 7)
    found = interval(a, groups=groups, draws=300, seed=7)
    assert (found.low, found.high) == pytest.approx(np.percentile(mine, [2.5, 97.5]), abs=1e-12)
    assert found.value == metrics(a.sum(axis=0)).miou
    gained = by_hand(b, groups, 300, 7) - mine
    found = paired(a, b, groups=groups, draws=300, seed=7)
    assert (found.low, found.high) == pytest.approx(np.percentile(gained, [2.5, 97.5]), abs=1e-12)
    # Tiles of one place are alike: taken as independent they promise too much.
    alone = interval(a, draws=300, seed=7)
    placed = interval(a, groups=groups, draws=300, seed=7)
    assert placed.high - placed.low > 1.2 * (alone.high - alone.low)


def test_intervals_of_places_hold_the_truth_where_those_of_tiles_do_not() -> None:
    """30 places of 8 tiles, a hundred times."""
    groups = np.repeat(np.arange(30), 8)
    chance = np.random.default_rng(5)
    hits = {"places": 0, "tiles": 0}
    # Of a place, the share that is right is drawn once; the mean share is 0.7 for both classes.
    for i in range(100):
        right = chance.beta(3.5, 1.5, 30)[groups]
        wins = chance.binomial(200, right[:, None], (240, 2))
        counts = np.empty((240, 2, 2), np.int64)
        counts[:, 0, 0], counts[:, 0, 1] = wins[:, 0], 200 - wins[:, 0]
        counts[:, 1, 1], counts[:, 1, 0] = wins[:, 1], 200 - wins[:, 1]
        true = 0.7 / 1.3
        for name, g in (("places", groups), ("tiles", None)):
            found = interval(counts, groups=g, draws=200, seed=i)
            hits[name] += found.low <= true <= found.high
    assert hits["places"] >= 88
    assert hits["tiles"] <= 70


def test_neighbours_are_one_place() -> None:
    # North and south of the equator; each pair is some 100 m apart.
    far = [(i * 30 - 170.0, lat) for i in range(6) for lat in (-45.0, 10.0)]
    near = [(lon + 0.001, lat + 0.0005) for lon, lat in far]
    names = [f"tile {i}" for i in range(24)]
    found = grouped(FLAIR, names, [*far, *near])
    assert found.by == "blocks of 10 km"
    assert (found.count, found.places) == (12, 12)
    assert found.of.tolist() == [*range(12), *range(12)]
    # Files that do not say where they are stay alone, also beside those that do.
    found = grouped(FLAIR, names, [*far, *[None] * 12])
    assert (found.by, found.count) == ("blocks of 10 km, tiles", 24)
    assert grouped(FLAIR, names, [None] * 24).by == "tiles"
    # One town is no sample of places.
    found = grouped(FLAIR, names, [(13.0 + i * 1e-4, 52.4) for i in range(24)])
    assert (found.by, found.count) == ("tiles", 24)
    assert found.places <= 2


def test_areas_that_a_layout_names(tmp_path: Path) -> None:
    task = Task.of("openearthmap", CATALOGS)
    names = [f"{region}/images/{region}_{i}" for region in "abcdefghijkl" for i in range(2)]
    found = grouped(task, names, [(0.0, 0.0)] * 24)
    assert (found.by, found.count) == ("region", 12)
    assert found.of.tolist() == [i // 2 for i in range(24)]
    # Records of the release have no such names.
    assert grouped(task, [f"mask_{i}" for i in range(24)], [None] * 24).by == "tiles"
    home = tmp_path / "benchmarks"
    home.mkdir()
    ours = CATALOGS.file("benchmarks", "openearthmap").read_text()
    (home / "openearthmap.yaml").write_text(ours.replace("area: [region]", "area: [town]"))
    with pytest.raises(CatalogError, match="region, tile"):
        Task.of("openearthmap", Catalogs.load(tmp_path))


class Placed:
    """Twelve places of two tiles, half of them wrong."""

    names = [f"t{i}" for i in range(24)]  # noqa: RUF012

    def __init__(self, share: float = 0.6) -> None:
        self.share = share

    def read(self, i: int) -> Tile:
        grid = Grid("EPSG:4326", Affine(1e-4, 0, i // 2 * 10.0 - 60, 0, -1e-4, -33.0), 20, 20)
        chance = np.random.default_rng(i // 2)
        truth = chance.integers(0, 3, (20, 20)).astype(np.uint8)
        return Tile(f"t{i}", np.zeros((3, 20, 20), np.float32), truth, (0, 1, 2), grid)

    def answer(self, tile: Tile) -> list[scores.Piece]:
        chance = np.random.default_rng([int(tile.name[1:]), 3])
        wrong = chance.random((20, 20)) > self.share
        said = np.where(wrong, (tile.truth + 1) % 3, tile.truth)
        p = np.zeros((len(FLAIR.classes), 20, 20), np.float32)
        np.put_along_axis(p, said[None].astype(int), 1, axis=0)
        return [scores.Piece(0, 0, p)]


def test_scores_say_what_was_drawn(tmp_path: Path) -> None:
    files = []
    for name, share in (("a", 0.6), ("b", 0.8)):
        tiles = Placed(share)
        method = scores.Method(name=name, kind="checkpoint", facts={}, answer=tiles.answer)
        for _ in range(2):  # the second time from what was kept
            files.append(scores.score(FLAIR, tiles, method, tmp_path, unseen_classes=None))
    found = json.loads(files[1].read_text())
    assert found["drawn"] == {"by": "blocks of 10 km", "groups": 12, "places": 12}
    assert [tile["group"] for tile in found["tiles"]] == [i // 2 for i in range(24)]
    counts = np.array([tile["counts"] for tile in found["tiles"]])
    mine = by_hand(counts, np.arange(24) // 2, 1000, 0)
    assert found["miou_95"] == pytest.approx(np.percentile(mine, [2.5, 97.5]), abs=1e-12)
    assert "12 places (blocks of 10 km)" in scores.compare(files[0], files[2])
    few = replace(method, name="few", answer=tiles.answer)
    tiles.names = tiles.names[:4]
    file = scores.score(FLAIR, tiles, few, tmp_path, unseen_classes=None)
    found = json.loads(file.read_text())
    assert found["drawn"] == {"by": "tiles", "groups": 4, "places": 2}
    assert "the 4 tiles (2 places only)" in scores.compare(file, file)


def test_places_of_real_layouts(tmp_path: Path) -> None:
    SETS["loveda"](tmp_path / "loveda")
    tiles = tiles_of(Task.of("loveda", CATALOGS), tmp_path / "loveda")
    assert where(tiles.read(0)) is None
    SETS["flair"](tmp_path / "flair")
    lon, lat = where(tiles_of(FLAIR, tmp_path / "flair").read(0)) or (0, 0)
    assert (lon, lat) == pytest.approx((1.7, 47.4), abs=0.6)  # 600 km, 6,700 km of Lambert 93
