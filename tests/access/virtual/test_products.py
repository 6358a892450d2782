"""How label products err: as declared, where declared, the same whoever asks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from affine import Affine
from scipy import ndimage
from scipy.stats import beta as beta_distribution

from las_builder.access.virtual import LEAVES, blotches, confusion, products
from las_builder.access.virtual.confusion import Products, Regions, errors_of, rates_of_fields
from las_builder.access.virtual.generalise import majority, reach, sieve
from las_builder.access.virtual.ground import Window, World, leaves
from las_builder.access.virtual.noise import NOWHERE, in_space, nanodegrees
from las_builder.access.virtual.products import (
    codes_of_leaves,
    errors_in,
    label,
    legend_of,
    said,
    truth_in_legend,
)
from las_builder.access.virtual.sky import CLOUD, SHADOW, sky
from las_builder.catalogs import Catalogs, LabelProduct, Where
from las_builder.catalogs.loader import packaged
from las_builder.core.grid import Grid
from las_builder.core.types import Scene
from las_builder.errors import CatalogError

Visit = Callable[..., Any]  # the fixture of conftest.py

CATALOGS = Catalogs.load()
ONTOLOGY = CATALOGS.ontology
WORLD = World(CATALOGS.folders, 0)
OCEAN = LEAVES.index("water.marine.ocean")
DECLARED = WORLD.parameters("products", Products)

EUROPE = Window("EPSG:4326", (4.0, 52.0), (0.05, 0.02), 0, 0, 260, 260)
"""Pixels far from each other: what is seen at one has nothing to do with the next."""


def product_of(name: str, *, errors: bool = True) -> LabelProduct:
    where = [Where(provider="virtual", errors=errors)]
    return CATALOGS.label(name).model_copy(update={"where": where})


def scene_of(year: int = 2021, crs: str = "EPSG:32632", name: str = "S2") -> Scene:
    """A clear one, large enough for any window here."""
    grid = Grid(crs, Affine(10, 0, 0, 0, -10, 9_000_000), 100_000, 900_000)
    when = datetime(year, 6, 1, tzinfo=UTC)
    return Scene(id=name, datetime=when, cloud_cover=0.0, grid=grid, assets={})


def said_on(
    name: str, window: Window, *, world: World = WORLD, gsd: float = 10.0, year: int = 2021,
    anew: object = 2021,
) -> products.Said:  # fmt: skip
    product = product_of(name)
    errors = errors_in(world, product, ONTOLOGY)
    return said(errors, legend_of(product, ONTOLOGY), gsd, window, year, anew)


# ---- generalisation


def discs(classes: np.ndarray, radius: float) -> np.ndarray:
    """`majority` again, by counting."""
    out = np.empty_like(classes)
    height, width = classes.shape
    for y in range(height):
        for x in range(width):
            inside = [
                classes[j, i]
                for j in range(height)
                for i in range(width)
                if (j - y) ** 2 + (i - x) ** 2 <= radius**2
            ]
            count = Counter(inside)
            best = [c for c in count if count[c] == max(count.values())]
            out[y, x] = classes[y, x] if classes[y, x] in best else min(best)
    return out


@pytest.mark.parametrize("radius", [0.0, 1.0, 1.5, 2.3, 3.0])
def test_majority_by_counting(radius: float) -> None:
    classes = np.random.default_rng(1).integers(0, 4, (14, 17)).astype(np.uint8)
    assert np.array_equal(majority(classes, radius), discs(classes, radius))


def sieved(classes: np.ndarray, smallest: int) -> np.ndarray:
    """`sieve` again, by scipy's labels and a look at every edge."""
    unit, n = np.zeros(classes.shape, int), 0
    for c in np.unique(classes):
        part, found = ndimage.label(classes == c)
        unit[part > 0] = part[part > 0] + n
        n += found
    size = np.bincount(unit.ravel(), minlength=n + 1)
    edges: dict[int, list[tuple[int, bool]]] = {}
    for a, b, ca, cb in (
        (unit[:, :-1], unit[:, 1:], classes[:, :-1], classes[:, 1:]),
        (unit[:-1], unit[1:], classes[:-1], classes[1:]),
    ):
        for u, v, cu, cv in zip(*(x.ravel().tolist() for x in (a, b, ca, cb)), strict=True):
            if u != v:
                edges.setdefault(u, []).append((cv, size[v] >= smallest))
                edges.setdefault(v, []).append((cu, size[u] >= smallest))
    out = classes.copy()
    for u, around in edges.items():
        if size[u] < smallest:
            stays = [c for c, large in around if large] or [c for c, _ in around]
            count = Counter(stays)
            out[unit == u] = min(c for c in count if count[c] == max(count.values()))
    return out


@pytest.mark.parametrize("smallest", [1, 2, 5, 12])
def test_sieve_by_labels_and_edges(smallest: int) -> None:
    rng = np.random.default_rng(2)
    for side in (9, 30):
        classes = rng.integers(0, 3, (side, side + 4)).astype(np.uint8)
        assert np.array_equal(sieve(classes, smallest), sieved(classes, smallest))
    assert (sieve(np.zeros((3, 3), np.uint8), 20) == 0).all(), "alone: nothing to merge with"


@pytest.mark.parametrize(("radius", "smallest"), [(0.0, 1), (1.5, 1), (1.0, 5), (2.85, 12)])
def test_generalisation_looks_no_further_than_it_says(radius: float, smallest: int) -> None:
    rng = np.random.default_rng(3)
    m = reach(radius, smallest)
    for coarse in (1, 2, 3):  # single pixels, and units of about the smallest size
        fine = rng.integers(0, 3, (120 // coarse, 120 // coarse)).astype(np.uint8)
        classes = fine.repeat(coarse, 0).repeat(coarse, 1)
        whole = sieve(majority(classes, radius), smallest)
        part = classes[50 - m : 62 + m, 50 - m : 62 + m]
        again = sieve(majority(part, radius), smallest)
        assert np.array_equal(again[m : m + 12, m : m + 12], whole[50:62, 50:62])


def test_long_units_do_not_reach_further_either() -> None:
    """Of two classes only: units wind, and whether a neighbour stays is decided far away."""
    rng = np.random.default_rng(8)
    m = reach(0.0, 9)
    for _ in range(60):
        classes = (rng.random((61, 61)) < 0.5).astype(np.uint8)
        part = classes[30 - m : 31 + m, 30 - m : 31 + m]
        assert sieve(part, 9)[m, m] == sieve(classes, 9)[30, 30]
    # A line of 8 pixels whose only neighbour that stays is seen at its far end.
    classes = np.array([[0, 1] * 20] * 40, np.uint8) + 2 * (np.indices((40, 40))[0] % 2)
    classes = classes.astype(np.uint8)
    classes[20, 10:18], classes[20, 18:30] = 9, 7
    assert (sieve(classes, 9)[20, 10:18] == 7).all()
    small = classes[20 - m : 21 + m, 10 - min(m, 10) : 11 + m]
    assert sieve(small, 9)[min(m, 20), min(m, 10)] == 7


# ---- the same whoever asks

PLACES = {
    "esa-worldcover-v200": Window("EPSG:4326", (0.0, 0.0), (1 / 12000,) * 2, 138000, -578000, 0, 0),
    "esa-worldcover-v100": Window("EPSG:4326", (0.0, 0.0), (1 / 12000,) * 2, 1690000, 401000, 0, 0),
    "dynamic-world": Window("EPSG:32632", (0.0, 0.0), (10.0, 10.0), 60000, -530000, 0, 0),
    "io-lulc-annual": Window("EPSG:32755", (0.0, 0.0), (10.0, 10.0), 60000, -600000, 0, 0),
    "nlcd": Window("EPSG:5070", (15.0, 15.0), (30.0, 30.0), 9000, -62000, 0, 0),
    "usda-cdl": Window("EPSG:5070", (15.0, 15.0), (30.0, 30.0), 9000, -62000, 0, 0),
    "corine": Window("EPSG:3035", (0.0, 0.0), (100.0, 100.0), 43000, -28000, 0, 0),
    "glc-fcs30d": Window("EPSG:4326", (0.0, 0.0), (2.6949458523585647e-04,) * 2, 90, -182000, 0, 0),
    "chesapeake-lc13": Window("EPSG:5070", (0.0, 0.0), (1.0, 1.0), 1540000, -1970000, 0, 0),
}


@pytest.mark.parametrize("name", PLACES)
def test_windows_that_overlap_agree(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    product, scene = product_of(name), scene_of()
    big = replace(PLACES[name], width=170, height=160)
    small = replace(big, column=big.column + 69, row=big.row + 73, width=31, height=17)
    one = label(WORLD, product, ONTOLOGY, big, scene)
    monkeypatch.setattr(products, "STRIP", 100)  # rows are worked on one by one
    other = label(WORLD, product, ONTOLOGY, small, scene)
    assert one is not None
    assert other is not None
    assert np.array_equal(one[0][73:90, 69:100], other[0])
    for key in one[1]:
        assert np.array_equal(one[1][key][73:90, 69:100], other[1][key])
    right = truth_in_legend(WORLD, product, ONTOLOGY, big, 2021)
    assert (one[0] != right).any(), "there are errors to agree on"
    assert len(np.unique(one[0])) > 1


def test_a_pixel_has_one_code_on_every_turn_of_the_globe() -> None:
    product, turn = product_of("esa-worldcover-v200"), 12000 * 360
    east = Window("EPSG:4326", (0.0, 0.0), (1 / 12000,) * 2, turn // 2 - 40, -798000, 80, 40)
    assert east.grid().bounds[2] > 180
    west = replace(east, column=east.column - turn)
    found = [label(WORLD, product, ONTOLOGY, window, scene_of()) for window in (east, west)]
    assert found[0] is not None
    assert found[1] is not None
    assert np.array_equal(found[0][0], found[1][0])
    right = truth_in_legend(WORLD, product, ONTOLOGY, east, 2021)
    wrong = found[0][0] != right
    assert wrong[:, :40].any()
    assert wrong[:, 40:].any()


def test_errors_go_on_across_the_border_of_zones() -> None:
    """The same ground in zones 32 and 33: other pixels, the same blotches."""
    from pyproj import Transformer

    a = Window("EPSG:32632", (0.0, 0.0), (10.0, 10.0), 71900, -531000, 320, 320)
    x, y = np.meshgrid(*a.xy())
    px, py = Transformer.from_crs("EPSG:32632", "EPSG:32633", always_xy=True).transform(x, y)
    column, row = np.floor(px / 10).astype(int), np.floor(-py / 10).astype(int)
    b = Window(
        "EPSG:32633", (0.0, 0.0), (10.0, 10.0), int(column.min()), int(row.min()),
        int(np.ptp(column)) + 1, int(np.ptp(row)) + 1,
    )  # fmt: skip
    one, two = said_on("io-lulc-annual", a), said_on("io-lulc-annual", b)
    wrong, there = one.why > 0, two.why[row - b.row, column - b.column] > 0
    assert wrong.mean() > 0.02
    assert (wrong & there).sum() > 0.7 * min(wrong.sum(), there.sum())


def test_same_codes_on_other_processors() -> None:
    probe = (
        "import hashlib, numpy as np\n"
        "from las_builder.access.virtual import products\n"
        "from las_builder.access.virtual.ground import Window, World\n"
        "from las_builder.catalogs import Catalogs\n"
        "c = Catalogs.load(); w = World(c.folders, 0); p = c.label('esa-worldcover-v200')\n"
        "e = products.errors_in(w, p, c.ontology); l = products.legend_of(p, c.ontology)\n"
        "window = Window('EPSG:4326', (4.0, 52.0), (0.07, 0.02), 0, 0, 90, 90)\n"
        "s = products.said(e, l, 10, window, 2021, 2021)\n"
        "print(hashlib.sha256(s.classes.tobytes() + s.taken.tobytes()).hexdigest())\n"
    )
    features = np._core._multiarray_umath.__cpu_features__
    off = " ".join(f for f in np._core._multiarray_umath.__cpu_dispatch__ if features.get(f))
    out = [
        subprocess.run(
            [sys.executable, "-c", probe], capture_output=True, text=True, check=True,
            env={**os.environ, "NPY_DISABLE_CPU_FEATURES": disabled},
        ).stdout
        for disabled in ("", off)
    ]  # fmt: skip
    assert out[0] == out[1]
    assert len(out[0].strip()) == 64


# ---- as often as declared


@pytest.mark.parametrize("name", ["esa-worldcover-v100", "glc-fcs30d", "io-lulc-annual"])
def test_classes_are_missed_as_often_as_drawn(name: str) -> None:
    """Errors counted on pixels far apart, against the accuracies of their regions."""
    errors = errors_in(WORLD, product_of(name), ONTOLOGY)
    lon, lat = EUROPE.lonlat()
    points = np.stack(in_space(nanodegrees(lon), nanodegrees(lat)))
    names, which = confusion.regions_of(WORLD, DECLARED.regions, points.reshape(3, -1))
    assert len(names) > 3
    rate = np.stack([1 - confusion.accuracies(errors, region) for region in names])
    found = said_on(name, EUROPE)
    table = errors.table
    wrong = table[found.taken] != table[found.moved]
    expected = rate[which.reshape(EUROPE.shape), found.moved]
    land = found.moved != OCEAN
    assert wrong[land].mean() == pytest.approx(expected[land].mean(), abs=0.01)
    for leaf in range(len(LEAVES)):
        of = land & (found.moved == leaf)
        n, p = of.sum(), expected[of].mean() if of.any() else 0
        if n > 400:
            assert wrong[of].mean() == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / n) + 0.01)
    assert wrong[~land].mean() < 0.002, "the sea is practically never wrong"


def test_what_a_class_is_taken_for_is_as_drawn() -> None:
    errors = errors_in(WORLD, product_of("esa-worldcover-v200"), ONTOLOGY)
    lon, lat = EUROPE.lonlat()
    points = np.stack(in_space(nanodegrees(lon), nanodegrees(lat)))
    names, which = confusion.regions_of(WORLD, DECLARED.regions, points.reshape(3, -1))
    found = said_on("esa-worldcover-v200", EUROPE)
    leaf = np.bincount(found.moved[found.why == 1]).argmax()
    for field, rows in ((1, confusion.common_confusions), (2, confusion.own_confusions)):
        drawn = np.stack([rows(errors, region) for region in names])
        of = (found.moved == leaf) & (found.why == field)
        expected = drawn[which.reshape(EUROPE.shape)[of], leaf].mean(axis=0)
        seen = np.bincount(found.taken[of], minlength=len(LEAVES)) / of.sum()
        assert of.sum() > 150
        assert np.abs(seen - expected).max() < 4 * np.sqrt(0.25 / of.sum())
        assert expected.sum() == pytest.approx(1, abs=1e-6)
        assert expected[leaf] == 0


def test_accuracies_vary_by_region_as_declared() -> None:
    """Quantiles of what is drawn, against the Beta distribution around the published figure."""
    errors = errors_in(WORLD, product_of("esa-worldcover-v200"), ONTOLOGY)
    regions = [(belt, cell, "C") for belt in range(3, 9) for cell in range(20)]
    drawn = np.stack([confusion.accuracies(errors, region) for region in regions])
    k = DECLARED.regions.accuracy
    seen = 0
    for leaf, mean in enumerate(errors.accuracy):
        if not 0.2 < mean < 0.97:
            continue
        seen += 1
        rank = beta_distribution.cdf(drawn[:, leaf], mean * k, (1 - mean) * k)
        # Uniform ranks: mean 1/2, variance 1/12.
        assert rank.mean() == pytest.approx(0.5, abs=4 * np.sqrt(1 / 12 / len(regions)))
        assert rank.var() == pytest.approx(1 / 12, abs=0.03)
    assert seen > 15
    same = [leaf for leaf, code in enumerate(errors.table) if code == 10]
    spread = np.ptp(drawn[:, same], axis=1)
    assert spread.max() < 0.5, "leaves of one code share the draw"
    assert np.corrcoef(drawn[:, same[0]], drawn[:, same[1]])[0, 1] > 0.95


def test_confusions_vary_by_region_as_declared() -> None:
    errors = errors_in(WORLD, product_of("esa-worldcover-v200"), ONTOLOGY)
    flat = errors.declared.model_copy(
        update={"regions": errors.declared.regions.model_copy(update={"prevalence": 0.0})}
    )
    errors = errors_of(WORLD, product_of("esa-worldcover-v200"), ONTOLOGY, errors.table, flat)
    errors = replace(errors, world=replace(WORLD, seed=5))
    # Nowhere: no region of these has any land, so that all have the same mean.
    regions = [(belt, cell, "nowhere") for belt in range(3, 9) for cell in range(20)]
    drawn = np.stack([confusion.own_confusions(errors, region) for region in regions])
    leaf, k = LEAVES.index("grass.managed.pasture_hay"), flat.regions.confusion
    mean = drawn[:, leaf].mean(axis=0)
    assert mean.sum() == pytest.approx(1, abs=1e-6)
    crops = np.array([name.startswith("crop.") for name in LEAVES])
    share = drawn[:, leaf, crops].sum(axis=1)
    p = share.mean()
    assert 0.2 < p < 0.7, "pasture is taken for crops more than for anything else"
    # Sums of a Dirichlet are Beta(k p, k (1 - p)).
    assert share.var() == pytest.approx(p * (1 - p) / (k + 1), rel=0.4)
    assert not drawn[:, leaf, errors.table == errors.table[leaf]].any(), "its own code is no error"


def test_rates_of_the_fields_add_up() -> None:
    rng = np.random.default_rng(4)
    rate, told = rng.uniform(0.02, 0.6, 50), rng.uniform(0.3, 1.0, 50)
    for common_share in (0.0, 0.25, 0.5):
        common, own, anew = rates_of_fields(rate, told, common_share, 0.7)
        right = (1 - told * common) * (1 - own) * (1 - anew)
        assert np.allclose(1 - right, rate)
        assert np.allclose(told * common, common_share * rate)
        assert np.all((own >= 0) & (anew >= 0))


def test_regions_are_large_and_about_equal() -> None:
    rng = np.random.default_rng(5)
    n = 60_000
    lat = np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    lon = rng.uniform(-180, 180, n)
    points = np.stack(in_space(nanodegrees(lon), nanodegrees(lat)))
    names, which = confusion.regions_of(WORLD, DECLARED.regions, points)
    cells = Counter((names[i][0], names[i][1]) for i in which)
    areas = np.array(list(cells.values())) / n * 510e6  # km2
    assert np.median(areas) == pytest.approx(DECLARED.regions.side_km**2, rel=0.2)
    middle = [a for (belt, _), a in zip(cells, areas, strict=True) if 1 <= belt <= 11]
    assert np.std(middle) / np.mean(middle) < 0.25
    # A place has one region on both sides of ±180°.
    lat = np.linspace(-70, 75, 40)
    sides = [
        confusion.regions_of(
            WORLD,
            DECLARED.regions,
            np.stack(in_space(nanodegrees(np.full(40, lon)), nanodegrees(lat))),
        )
        for lon in (180.0, -180.0)
    ]
    assert [sides[0][0][i] for i in sides[0][1]] == [sides[1][0][i] for i in sides[1][1]]


def test_boundaries_of_regions_are_frayed() -> None:
    straight = DECLARED.regions.model_copy(update={"frayed_km": 0.0})
    window = Window("EPSG:4326", (-30.0, 75.0), (0.1, 0.1), 0, 0, 600, 300)
    lon, lat = window.lonlat()
    points = np.stack(in_space(nanodegrees(lon), nanodegrees(lat))).reshape(3, -1)
    belts = []
    for regions in (straight, DECLARED.regions):
        names, which = confusion.regions_of(WORLD, regions, points)
        belt = np.array([name[0] for name in names])[which].reshape(window.shape)
        belts.append(belt)
    edges = [[int((b[:, x] == b[0, 0]).sum()) for x in range(0, 600, 3)] for b in belts]
    assert np.ptp(edges[0]) <= 1
    wander = np.std(edges[1]) * 0.1 * 111.2  # km
    assert wander == pytest.approx(DECLARED.regions.frayed_km, rel=0.6)
    assert isinstance(straight, Regions)


# ---- together


def world_with(tmp_path: Path, **values: float) -> World:
    """A world whose products.yaml says something else, as a user's --catalogs would."""
    declared = yaml.safe_load((packaged("catalogs") / "virtual" / "products.yaml").read_text())
    assert set(values) <= set(declared)
    (tmp_path / "virtual").mkdir(exist_ok=True)
    (tmp_path / "virtual" / "products.yaml").write_text(yaml.safe_dump({**declared, **values}))
    return World(Catalogs.load(tmp_path).folders, 0)


def strata_of(window: Window, leaf: np.ndarray) -> list[np.ndarray]:
    """Pixels of one class in one region, where there are many."""
    points = np.stack(in_space(*map(nanodegrees, window.lonlat())))
    names, which = confusion.regions_of(WORLD, DECLARED.regions, points.reshape(3, -1))
    both = which.reshape(leaf.shape) * len(LEAVES) + leaf
    count = np.bincount(both.ravel(), minlength=len(names) * len(LEAVES))
    return [both == k for k in np.flatnonzero(count > 150) if k % len(LEAVES) != OCEAN]


@pytest.mark.parametrize("share", [None, 0.0, 0.5])
def test_share_of_errors_that_all_products_make(tmp_path: Path, share: float | None) -> None:
    world = WORLD if share is None else world_with(tmp_path, common_share=share)
    wanted = 0.25 if share is None else share
    names = ("esa-worldcover-v200", "glc-fcs30d", "dynamic-world")
    found = {name: said_on(name, EUROPE, world=world) for name in names}
    same_ground = np.logical_and.reduce(
        [found[names[0]].moved == found[name].moved for name in names]
    )
    assert same_ground.all(), "pixels as large as these see the same ground"
    wrong, taken, rate = {}, {}, {}
    for name in names:
        table = errors_in(world, product_of(name), ONTOLOGY).table
        now = found[name]
        wrong[name] = table[now.taken] != table[now.moved]
        rate[name] = wrong[name].mean()
        taken[name] = now
        of_common = (now.why == 1)[wrong[name]].mean()
        assert of_common == pytest.approx(wanted, abs=0.02), name
    a, b = names[0], names[1]
    both = (found[a].why == 1) & (found[b].why == 1)
    assert np.array_equal(found[a].taken[both], found[b].taken[both])
    if wanted:
        assert both.sum() > 0.5 * min((found[a].why == 1).sum(), (found[b].why == 1).sum())
    # Outside of the common field they err independently, given the class and the region.
    one, two = (found[name].why > 1 for name in (a, b))
    free = (found[a].why != 1) & (found[b].why != 1)
    strata = [s & free for s in strata_of(EUROPE, found[a].moved)]
    expected = sum(one[s].mean() * two[s].sum() for s in strata)
    seen = sum((one[s] & two[s]).sum() for s in strata)
    assert seen == pytest.approx(expected, rel=0.1)
    # What two make together, counted without knowing the fields.
    together = wrong[a] & wrong[b] & (found[a].taken == found[b].taken)
    # The better of the two differs from class to class, so it is a little less than the share.
    shared = together.mean() / min(rate[a], rate[b])
    assert 0.65 * wanted <= shared <= wanted + 0.1


def test_the_better_product_errs_among_the_worse() -> None:
    """Two products of one legend: where the limit is higher, the common errors are a part."""
    product = product_of("esa-worldcover-v200")
    table = codes_of_leaves(product, ONTOLOGY)
    rows = []
    for shift in (0.0, 1.5):
        own = DECLARED.of(product.name).model_copy(update={"shift": shift})
        declared = DECLARED.model_copy(
            update={
                "products": {product.name: own},
                "regions": DECLARED.regions.model_copy(update={"accuracy": 1e6}),
            }
        )
        errors = errors_of(WORLD, product, ONTOLOGY, table, declared)
        found = said(errors, legend_of(product, ONTOLOGY), 10.0, EUROPE, 2021, 2021)
        rows.append(found)
    worse, better = (row.why == 1 for row in rows)
    assert 0 < better.sum() < 0.7 * worse.sum()
    assert not (better & ~worse).any()


def test_most_errors_stay_from_year_to_year() -> None:
    name, persistence = "io-lulc-annual", DECLARED.of("io-lulc-annual").persistence
    one, two = (said_on(name, EUROPE, anew=year) for year in (2020, 2021))
    assert np.array_equal(one.moved, two.moved)
    stays = one.why <= 2
    same = (one.why > 0) & (one.why == two.why) & (one.taken == two.taken)
    kept = same.sum() / (one.why > 0).sum()
    common = (one.why == 1).sum() / (one.why > 0).sum()
    assert kept == pytest.approx(common + (1 - common) * persistence, abs=0.04)
    assert np.array_equal(one.why[stays & (one.why > 0)], two.why[stays & (one.why > 0)])
    assert (one.why == 3).sum() > 100
    a, b = (
        label(WORLD, product_of(name), ONTOLOGY, replace(PLACES[name], width=250, height=250), s)
        for s in (scene_of(2020, "EPSG:32755"), scene_of(2021, "EPSG:32755"))
    )
    assert a is not None
    assert b is not None
    assert 0 < (a[0] != b[0]).mean() < 0.3


def test_versions_of_one_family_share_what_persists() -> None:
    a, b = (said_on(name, EUROPE) for name in ("esa-worldcover-v100", "esa-worldcover-v200"))
    c = said_on("glc-fcs30d", EUROPE)

    strata = strata_of(EUROPE, a.moved)

    def overlap(x: products.Said, y: products.Said) -> float:
        one, two = x.why == 2, y.why == 2
        free = [s & (x.why != 1) & (y.why != 1) for s in strata]
        by_chance = sum(one[s].mean() * two[s].sum() for s in free)
        return float(sum((one[s] & two[s]).sum() for s in free) / by_chance)

    assert overlap(a, b) > 2
    assert overlap(a, c) == pytest.approx(1, abs=0.1)


def test_errors_are_blotches_not_salt() -> None:
    """Errors of neighbours go together, at several scales; pixels a kilometre apart less so."""
    window = Window("EPSG:4326", (0.0, 0.0), (1 / 12000,) * 2, 138000, -578000, 300, 300)
    wrong = said_on("esa-worldcover-v200", window).why > 0
    assert 0.02 < wrong.mean() < 0.6
    near = np.corrcoef(wrong[:, 1:].ravel(), wrong[:, :-1].ravel())[0, 1]
    some = np.corrcoef(wrong[:, 12:].ravel(), wrong[:, :-12].ravel())[0, 1]
    assert 0.25 < near < 0.9, "neither salt nor clean blots"
    assert 0.05 < some < near


def test_edges_are_displaced_by_as_much_as_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen on a truth that is a number line: what a pixel sees says where it looked."""
    errors = errors_in(WORLD, product_of("esa-worldcover-v200"), ONTOLOGY)
    own = errors.own.model_copy(update={"displaced": (40.0, 800.0), "smoothing": 0.0})
    quiet = replace(errors, own=own, accuracy=np.ones(len(LEAVES)))
    n = len(LEAVES)
    offsets = []
    for axis, anew in ((1, 2019), (0, 2019)):

        def line(_: World, window: Window, *__: object, axis: int = axis) -> np.ndarray:
            columns, rows = np.meshgrid(*window.numbers())
            return ((columns, rows)[1 - axis] % n).astype(np.uint8)

        monkeypatch.setattr(products, "leaves", line)
        window = Window("EPSG:32632", (0.0, 0.0), (10.0, 10.0), 60000, -530000, 900, 900)
        legend = legend_of(product_of("esa-worldcover-v200"), ONTOLOGY)
        seen = said(quiet, legend, 10.0, window, 2021, anew).moved.astype(int)
        want = line(WORLD, window).astype(int)
        offsets.append((seen - want + n // 2) % n - n // 2)
    for offset in offsets:
        assert (offset * 10).std() == pytest.approx(40, rel=0.25)
        assert abs(offset.mean()) < 2
        assert np.abs(np.diff(offset, axis=1)).max() <= 1, "smooth"
    assert abs(np.corrcoef(offsets[0].ravel(), offsets[1].ravel())[0, 1]) < 0.3


# ---- single products


def test_corine_has_hardly_a_unit_below_25_hectares() -> None:
    product = product_of("corine")
    window = Window("EPSG:3035", (0.0, 0.0), (100.0, 100.0), 43000, -28000, 150, 150)
    found = label(WORLD, product, ONTOLOGY, window, scene_of(2018))
    assert found is not None
    plain = truth_in_legend(WORLD, product, ONTOLOGY, window, 2018)
    shares = []
    for codes in (plain, found[0]):
        small = 0
        for code in np.unique(codes):
            unit, _ = ndimage.label(codes == code)
            size = np.bincount(unit.ravel())
            inner = np.setdiff1d(
                np.arange(1, size.size), np.r_[unit[0], unit[-1], unit[:, 0], unit[:, -1]]
            )
            small += size[inner][size[inner] < 25].sum()
        shares.append(small / codes.size)
    assert shares[1] < 0.01
    assert shares[0] > 3 * shares[1]
    general = truth_in_legend(WORLD, product, ONTOLOGY, window, 2018, generalised=True)
    assert (found[0] == general).mean() > (found[0] == plain).mean()


def test_crops_of_cdl_rotate() -> None:
    product = product_of("usda-cdl", errors=False)
    window = Window("EPSG:5070", (15.0, 15.0), (30.0, 30.0), 5000, -69000, 200, 200)
    years = {}
    for year in (2019, 2020):
        found = label(WORLD, product, ONTOLOGY, window, scene_of(year))
        assert found is not None
        leaf = leaves(WORLD, window, 30, year)
        assert np.array_equal(found[0], codes_of_leaves(product, ONTOLOGY)[leaf])
        years[year] = (found[0], leaf)
        erring = said_on("usda-cdl", window, gsd=30, year=year)
        assert np.array_equal(erring.right, legend_of(product, ONTOLOGY).of_leaf[leaf])
    crops = np.array([name.startswith("crop.annual") for name in LEAVES])
    fields = crops[years[2019][1]]
    changed = years[2019][0] != years[2020][0]
    assert fields.mean() > 0.1
    assert changed[fields].mean() > 0.1
    assert changed[~fields].mean() < 0.02


def test_probabilities_mean_something(visit: Visit) -> None:
    product = product_of("dynamic-world")
    errors = errors_in(WORLD, product, ONTOLOGY)
    right, top, true, layers_ = [], [], [], []
    for lon, lat, crs in ((11.5, 48.2, 32632), (20.9, 44.0, 32634), (-1.6, 42.8, 32630),
                          (26.1, 53.0, 32635), (33.0, 1.0, 32636), (-61.0, -30.0, 32720),
                          (105.0, 14.0, 32648), (-93.0, 42.0, 32615)):  # fmt: skip
        grid = CATALOGS.imagery("sentinel-2-l2a").lattice.grid_at(lon, lat, 8)
        assert grid.crs == f"EPSG:{crs}"
        x, y = grid.xy()
        window = Window(
            grid.crs, (0.0, 0.0), (10.0, 10.0), int(x[0] // 10), int(-y[0] // 10), 120, 120
        )
        found = label(WORLD, product, ONTOLOGY, window, scene_of(crs=grid.crs))
        assert found is not None
        codes, evidence = found
        layers = np.stack([evidence[name] for name in product.evidence])
        assert layers.dtype == np.float32
        assert layers.min() >= 0
        assert layers.sum(axis=0) == pytest.approx(1, abs=1e-5)
        assert np.array_equal(layers.argmax(axis=0), codes)
        want = truth_in_legend(WORLD, product, ONTOLOGY, window, 2021)
        right.append((codes == want).ravel())
        top.append(layers.max(axis=0).ravel())
        true.append(np.take_along_axis(layers, want[None].astype(int), 0).ravel())
        layers_.append(layers.reshape(len(layers), -1))
    right_, top_, true_ = map(np.concatenate, (right, top, true))
    others = np.concatenate(layers_, axis=1)
    assert 0.4 < right_.mean() < 0.95
    # Where it errs, the true class has less than the top one, and still more than the rest.
    assert true_[~right_].mean() < 0.5 * top_[~right_].mean()
    assert true_[~right_].mean() > 2 * (1 - top_[~right_]).mean() / (len(others) - 1)
    assert top_[right_].mean() > top_[~right_].mean() + 0.05
    # Over-confident as declared: with the odds taken back it is about calibrated, as it is not.
    odds = (top_ / (1 - top_).clip(1e-6)) ** (1 / DECLARED.probabilities.overconfidence)
    back = odds / (1 + odds)
    order = np.argsort(back)
    bins = np.array_split(order, 10)
    error = np.mean([abs(back[b].mean() - right_[b].mean()) for b in bins])
    assert error < 0.12
    rising = [right_[b].mean() for b in bins]
    assert np.corrcoef(rising, range(10))[0, 1] > 0.8
    assert errors.own.overall.share == 0.72


def test_top_probability_is_calibrated_but_for_the_declared_power() -> None:
    """Draws where the code is right and where it is wrong, mixed as often as each is."""
    declared, accuracy = DECLARED.probabilities, 0.72
    wrong, right = products._top(declared.concentration, declared.overconfidence, accuracy)
    odds = (np.stack([wrong, right]) / (1 - np.stack([wrong, right]))) ** (
        1 / declared.overconfidence
    )
    wrong, right = odds / (1 + odds)
    for low, high in ((0.4, 0.5), (0.5, 0.6), (0.6, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 0.98)):
        inside = [((low <= v) & (v < high)).mean() for v in (wrong, right)]
        share = accuracy * inside[1] / (accuracy * inside[1] + (1 - accuracy) * inside[0])
        assert share == pytest.approx((low + high) / 2, abs=0.03)


def test_a_field_is_left_early_only_where_it_stays_below() -> None:
    fields = blotches.Fields.of([(((900.0, 1.0), (240.0, 0.6), (60.0, 0.45)), 0.3, 5)])
    n = 1500
    rng = np.random.default_rng(6)
    x, y, z = rng.uniform(0, 1e5, (3, n))
    columns, limits = rng.integers(0, 10**6, n), rng.normal(0, 1.2, n)
    key, value = np.full((8, 3), NOWHERE, np.int64), np.empty((8, 8))
    both = []
    for k in range(n):
        at = x[k], y[k], z[k], int(columns[k]), 7
        total = blotches.field(0, *at, 0, *fields.arrays(), key, value)
        both.append((blotches.exceeds(limits[k], 0, *at, *fields.arrays(), key, value), total))
    exceeds, totals = np.array([b[0] for b in both]), np.array([b[1] for b in both])
    assert np.array_equal(exceeds, totals >= limits)
    assert 0.2 < exceeds.mean() < 0.8
    assert totals.std() == pytest.approx(np.hypot(1, 0.3), rel=0.1)


def test_clouds_and_shadows_have_no_code(visit: Visit) -> None:
    product = product_of("dynamic-world")
    place = visit("sentinel-2-l2a", 11.5, 48.2, size=200)
    seen = 0
    for scene in sorted(place.scenes, key=lambda s: abs((s.cloud_cover or 0) - 50))[:4]:
        window = products.window_around(product, place.grid, scene)
        assert window is not None
        found = label(WORLD, product, ONTOLOGY, window, scene)
        assert found is not None
        state = sky(WORLD, scene, window).state
        hidden = (state == CLOUD) | (state == SHADOW)
        assert np.array_equal(found[0] == product.nodata, hidden)
        assert not np.stack(list(found[1].values()))[:, hidden].any()
        seen += 0 < hidden.mean() < 1
    assert seen


def test_scenes_share_most_of_their_errors() -> None:
    a, b = (said_on("dynamic-world", EUROPE, anew=name) for name in ("one", "two"))
    same = (a.why > 0) & (b.why == a.why) & (a.taken == b.taken)
    share = same.sum() / (a.why > 0).sum()
    assert 0.5 < share < 0.85


@pytest.mark.parametrize("name", ["esa-worldcover-v200", "io-lulc-annual", "nlcd"])
def test_without_errors_a_product_is_the_truth(name: str) -> None:
    product, window = product_of(name, errors=False), replace(PLACES[name], width=40, height=30)
    found = label(WORLD, product, ONTOLOGY, window, scene_of(crs=window.crs))
    assert found is not None
    leaf = WORLD.truth(*window.lonlat(), product.gsd, 2021)
    assert np.array_equal(found[0], codes_of_leaves(product, ONTOLOGY)[leaf])


# ---- declarations


def test_every_product_is_declared_as_published() -> None:
    names = [n for n in CATALOGS.names("labels") if CATALOGS.label(n).at("virtual") is not None]
    assert set(names) == set(DECLARED.products)
    for name in names:
        figure = DECLARED.of(name).overall
        published = {row.overall: row for row in CATALOGS.label(name).accuracy if row.overall}
        if figure.verified and name != "corine":
            row = published[round(100 * figure.share, 2)]
            assert row.verified
        elif not figure.verified:
            assert "assumed" in figure.scope
    assert DECLARED.of("corine").overall.share == 0.85, "what it was made to reach"
    assert DECLARED.of("no-such-product") is DECLARED.otherwise
    assert {leaf.split(".")[0] for leaf in LEAVES} <= set(DECLARED.priors.values)


def test_published_accuracies_of_classes_are_used() -> None:
    product = product_of("usda-cdl")
    own = DECLARED.of("usda-cdl").model_copy(update={"shift": 0.0})
    declared = DECLARED.model_copy(update={"products": {"usda-cdl": own}})
    table = codes_of_leaves(product, ONTOLOGY)
    errors = errors_of(WORLD, product, ONTOLOGY, table, declared)
    assert errors.accuracy[LEAVES.index("crop.annual.maize")] == pytest.approx(0.905)
    assert errors.accuracy[LEAVES.index("crop.annual.soy")] == pytest.approx(0.90)
    # Rangeland holds grass and shrub: one for the other is no error.
    io = product_of("io-lulc-annual")
    declared = DECLARED.model_copy(update={"products": {io.name: own}})
    merged = errors_of(WORLD, io, ONTOLOGY, codes_of_leaves(io, ONTOLOGY), declared)
    apart = product_of("esa-worldcover-v200")
    declared = DECLARED.model_copy(update={"products": {apart.name: own}})
    told = errors_of(WORLD, apart, ONTOLOGY, codes_of_leaves(apart, ONTOLOGY), declared)
    leaf = LEAVES.index("grass.natural.savanna")
    assert told.accuracy[leaf] == pytest.approx(0.34)
    assert merged.accuracy[leaf] > 0.45


def test_other_worlds_differ_in_what_is_ours_only(tmp_path: Path) -> None:
    other = replace(WORLD, spread=0.3, draw=2).parameters("products", Products)
    assert other.priors == DECLARED.priors
    assert all(other.of(n).overall == DECLARED.of(n).overall for n in DECLARED.products)
    assert other.common_share != DECLARED.common_share
    assert 0.7 <= other.common_share / DECLARED.common_share <= 1.3
    found = said_on("esa-worldcover-v200", EUROPE, world=replace(WORLD, spread=0.3, draw=2))
    assert 0.05 < (found.why[found.moved != OCEAN] > 0).mean() < 0.5


def test_more_scales_than_there_is_room_for_are_refused(tmp_path: Path) -> None:
    world = world_with(tmp_path, common=[[100.0 * k, 1.0] for k in range(1, 6)])  # type: ignore[arg-type]
    with pytest.raises(CatalogError, match=r"products.yaml: `common`"):
        errors_in(world, product_of("nlcd"), ONTOLOGY)


def test_a_node_that_is_none_is_named(tmp_path: Path) -> None:
    world = world_with(tmp_path, taken_for={"tree": {"shrubs": 1.0}})  # type: ignore[arg-type]
    with pytest.raises(CatalogError, match=r"products.yaml: `taken_for.tree` is 'shrubs'"):
        errors_in(world, product_of("nlcd"), ONTOLOGY)


# ---- speed


def test_speed_of_a_patch() -> None:
    """Beyond the truth, which is evaluated once for all that asks for it."""
    product = product_of("esa-worldcover-v200")
    window = Window("EPSG:4326", (0.0, 0.0), (1 / 12000,) * 2, 138000, -578000, 264, 264)
    times = []
    for _ in range(4):
        start = time.thread_time()
        label(WORLD, product, ONTOLOGY, window, scene_of())
        times.append(time.thread_time() - start)
    assert min(times) < 4 * 0.040
