"""Accuracies against the example that Olofsson et al. (2014) worked, and against plain loops."""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from audit_kit import CATALOGS

from las_builder.audit import Shares, accuracy, class_indices, place, read_points
from las_builder.core.grid import to_lonlat
from las_builder.errors import InputError, LegendError, RasterError
from las_builder.plan import Sample

# Olofsson et al. (2014), Remote Sensing of Environment 148, Table 8: sample counts, rows the map
# (deforestation, forest gain, stable forest, stable non-forest), columns the reference; W_i of
# Table 8; estimates of section 5.2 and Table 9, 30 m pixels, ± 1.96 standard errors. The paper was not
# at hand: counts, W_i, user's and overall accuracy and the area of deforestation are as in the
# examples of github:hagc/mapaccuracy@0f77f995:R/olofsson.R and of other re-implementations, the half-widths of the
# other areas and of producer's accuracy are remembered.
COUNTS = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
SHARES = np.array([0.020, 0.015, 0.320, 0.645])
HECTARES = 10_000_000 * 0.09


def listed(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    i, j = np.nonzero(counts)
    return np.repeat(i, counts[i, j]), np.repeat(j, counts[i, j])


def test_the_example_of_olofsson_2014() -> None:
    mapped, reference = listed(COUNTS)
    found = accuracy(
        mapped,
        reference,
        size=4,
        shares=Shares(SHARES),
        weight=None,
        cluster=np.arange(mapped.size),
    )
    half = 1.96
    assert found.points == 640
    assert found.overall.value == pytest.approx(0.95, abs=0.005)
    assert half * found.overall.error == pytest.approx(0.02, abs=0.005)
    users = [(0.88, 0.07), (0.73, 0.10), (0.93, 0.04), (0.96, 0.02)]
    producers = [(0.75, 0.21), (0.85, None), (0.93, 0.03), (0.96, None)]
    hectares = [(21_158, 6_158), (11_686, 3_756), (285_770, 15_510), (581_386, 16_282)]
    for c, u, p, a in zip(found.classes, users, producers, hectares, strict=True):
        assert (c.users.value, half * c.users.error) == pytest.approx(u, abs=0.0051)
        assert c.producers.value == pytest.approx(p[0], abs=0.0051)
        if p[1] is not None:  # others by eq. 7, which is tested below
            assert half * c.producers.error == pytest.approx(p[1], abs=0.0051)
        area = c.area.times(HECTARES)
        assert (area.value, half * area.error) == pytest.approx(a, abs=1.01)
    assert found.classes[0].area.value * 10_000_000 == pytest.approx(235_086, abs=1)
    assert found.matrix[0, 0] == pytest.approx(0.0176)


def by_formula(n: np.ndarray, w: np.ndarray):
    """Equations 4 to 7, 9 to 11 of the paper, term by term."""
    rows = n.sum(axis=1)
    p = w[:, None] * n / rows[:, None]
    q = len(w)
    u = [n[i, i] / rows[i] for i in range(q)]
    overall = sum(w[i] * u[i] for i in range(q))
    v_o = sum(w[i] ** 2 * u[i] * (1 - u[i]) / (rows[i] - 1) for i in range(q))
    v_u = [u[i] * (1 - u[i]) / (rows[i] - 1) for i in range(q)]
    col = p.sum(axis=0)
    v_p = []
    for j in range(q):
        pj = p[j, j] / col[j]
        first = (w[j] * (1 - pj)) ** 2 * u[j] * (1 - u[j]) / (rows[j] - 1)
        rest = sum(
            w[i] ** 2 * (n[i, j] / rows[i]) * (1 - n[i, j] / rows[i]) / (rows[i] - 1)
            for i in range(q)
            if i != j
        )
        v_p.append((first + pj**2 * rest) / col[j] ** 2)
    v_a = [sum((w[i] * p[i, j] - p[i, j] ** 2) / (rows[i] - 1) for i in range(q)) for j in range(q)]
    return overall, v_o, u, v_u, [p[j, j] / col[j] for j in range(q)], v_p, col, v_a


@pytest.mark.parametrize("seed", range(3))
def test_every_formula_of_the_paper(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 40, (5, 5)) + np.diag(rng.integers(20, 200, 5))
    w = rng.dirichlet(np.ones(5))
    mapped, reference = listed(n)
    mix = rng.permutation(mapped.size)
    found = accuracy(
        mapped[mix],
        reference[mix],
        size=5,
        shares=Shares(w * 7),
        weight=None,
        cluster=np.arange(mix.size),
    )
    overall, v_o, u, v_u, p, v_p, a, v_a = by_formula(n, w)
    assert (found.overall.value, found.overall.error**2) == pytest.approx((overall, v_o))
    for j, c in enumerate(found.classes):
        assert (c.users.value, c.users.error**2) == pytest.approx((u[j], v_u[j]))
        assert (c.producers.value, c.producers.error**2) == pytest.approx((p[j], v_p[j]))
        assert (c.area.value, c.area.error**2) == pytest.approx((a[j], v_a[j]))


def test_points_of_one_patch_are_a_cluster() -> None:
    mapped, reference = listed(COUNTS)
    alone = accuracy(
        mapped,
        reference,
        size=4,
        shares=Shares(SHARES),
        weight=None,
        cluster=np.arange(mapped.size),
    )
    # Every point five times over, at one site: no more evidence than before.
    again = accuracy(
        np.repeat(mapped, 5), np.repeat(reference, 5), size=4, shares=Shares(SHARES), weight=None,
        cluster=np.repeat(np.arange(mapped.size), 5),
    )  # fmt: skip
    assert again.overall.value == pytest.approx(alone.overall.value)
    assert again.overall.error == pytest.approx(alone.overall.error, rel=1e-9)
    for one, two in zip(again.classes, alone.classes, strict=True):
        assert one.users.error == pytest.approx(two.users.error, rel=1e-9)
        assert one.area.error == pytest.approx(two.area.error, rel=1e-9)
    assert again.sites == 640
    blind = accuracy(
        np.repeat(mapped, 5), np.repeat(reference, 5), size=4, shares=Shares(SHARES), weight=None,
        cluster=np.arange(5 * mapped.size),
    )  # fmt: skip
    assert blind.overall.error < 0.5 * alone.overall.error


def test_areas_estimated_from_the_points_themselves_add_their_variance() -> None:
    # One point in each of 640 sites that also say what the map's areas are: strata then add nothing,
    # and every number is a plain share or ratio of 640 independent points.
    mapped, reference = listed(COUNTS)
    n = mapped.size
    sample = Sample(np.ones(n), np.zeros(n, int))
    shares = Shares.estimated(sample, (mapped[:, None] == np.arange(4)).astype(float), np.ones(n))
    found, plain = (
        accuracy(mapped, reference, size=4, shares=s, weight=w, cluster=np.arange(n))
        for s, w in ((shares, None), (None, np.ones(n)))
    )
    known = accuracy(
        mapped, reference, size=4, shares=Shares(shares.value), weight=None, cluster=np.arange(n)
    )
    p = float((mapped == reference).mean())
    assert found.overall.value == pytest.approx(p)
    assert found.overall.error == pytest.approx(math.sqrt(p * (1 - p) / n), rel=0.01)
    for one, two in zip(found.classes, plain.classes, strict=True):
        for name in ("users", "producers", "area"):
            a, b = getattr(one, name), getattr(two, name)
            assert (a.value, a.error) == pytest.approx((b.value, b.error), rel=0.015)
    area = (reference == 0).mean()
    assert found.classes[0].area.error == pytest.approx(math.sqrt(area * (1 - area) / n), rel=0.01)
    assert known.classes[0].area.error < 0.5 * found.classes[0].area.error
    assert known.classes[0].users.error == found.classes[0].users.error  # does not depend on areas


@pytest.mark.parametrize("weights", [True, False])
def test_effective_sites_are_sites_and_not_points(weights: bool) -> None:
    sites, each = 10, 16
    mapped = np.zeros(sites * each, int)
    reference = np.where(np.arange(mapped.size) < 2 * each, 1, 0)  # class 1: all in two sites
    found = accuracy(
        mapped, reference, size=2, shares=Shares(np.ones(2)), cluster=np.repeat(np.arange(sites), each),
        weight=np.ones(mapped.size) if weights else None,
    )  # fmt: skip
    assert found.overall.effective == pytest.approx(sites)
    assert found.classes[0].users.effective == pytest.approx(sites)
    for e in (found.classes[1].area, found.classes[1].producers):
        assert (e.effective, e.sites) == (pytest.approx(2), 2)
        assert e.few


@pytest.mark.parametrize("weights", [True, False])
def test_one_site_says_nothing_of_how_sites_differ(weights: bool) -> None:
    # Class 1 of the map is in one site alone: its share that is right has no error that could be known.
    mapped = np.array([0, 0, 0, 0, 1, 1, 1])
    reference = np.array([0, 0, 1, 0, 1, 1, 0])
    found = accuracy(
        mapped, reference, size=2, shares=Shares(np.ones(2)), cluster=np.array([0, 1, 2, 3, 4, 4, 4]),
        weight=np.ones(7) if weights else None,
    )  # fmt: skip
    assert found.classes[1].users.value == pytest.approx(2 / 3)
    assert math.isnan(found.classes[1].users.error)
    assert found.classes[0].users.error > 0
    assert found.overall.error > 0


def test_weights_of_points_against_drawing_sites_again() -> None:
    rng = np.random.default_rng(2)
    sites, each = 200, 6
    right = rng.random(sites)[:, None] > rng.random((sites, each))
    mapped = rng.integers(0, 3, (sites, each))
    reference = np.where(right, mapped, (mapped + 1) % 3)
    weight = np.repeat(rng.uniform(1, 5, sites), each).reshape(sites, each)
    found = accuracy(
        mapped.ravel(), reference.ravel(), size=3, shares=None, weight=weight.ravel(),
        cluster=np.repeat(np.arange(sites), each),
    )  # fmt: skip
    drawn = rng.integers(0, sites, (3000, sites))
    again = (weight * right)[drawn].sum((1, 2)) / weight[drawn].sum((1, 2))
    assert found.weighted
    assert found.overall.value == pytest.approx((weight * right).sum() / weight.sum())
    assert found.overall.error == pytest.approx(again.std(), rel=0.06)
    hit = (weight * right * (mapped == 1))[drawn].sum((1, 2))
    users = hit / (weight * (mapped == 1))[drawn].sum((1, 2))
    assert found.classes[1].users.error == pytest.approx(users.std(), rel=0.08)


def test_points_find_their_pixel(tmp_path: Path) -> None:
    # Two patches of one place at two dates, one beyond ±180° and one in the south.
    crs = ["EPSG:32632", "EPSG:32632", "EPSG:32701", "EPSG:32733"]
    transform = np.array(
        [[10, 0, 500_000, 0, -10, 5_000_000]] * 2
        + [[10, 0, 177_800, 0, -10, 8_000_000], [30, 0, 400_000, 0, -30, 7_500_000]], float
    )  # fmt: skip
    days = np.array([18_000, 18_200, 18_000, 18_000])
    want = [(0, 3, 4), (2, 0, 19), (3, 19, 0)]
    lines = ["lon,lat,class,date"]
    for k, r, c in want:
        a, _, x, _, e, y = transform[k]
        lon, lat = to_lonlat(crs[k], np.array([x + (c + 0.5) * a]), np.array([y + (r + 0.5) * e]))
        turn = 360 if k == 2 and lon[0] < 0 else 0
        lines.append(f"{lon[0] + turn:.7f},{lat[0]:.7f},water,{'2019-05-01' if k == 0 else ''}")
    lines += ["0,0,water,", lines[1].replace("2019-05-01", "2019-10-30")]
    path = tmp_path / "points.csv"
    path.write_text("\n".join(lines))
    points = read_points(path)
    found = place(points, crs, transform, (20, 20), days)
    assert found.point.tolist() == [0, 1, 2, 4]  # the fourth lies in no patch
    assert found.patch.tolist() == [0, 2, 3, 1]  # of two dates, the nearer
    assert list(zip(found.row.tolist(), found.column.tolist(), strict=True)) == [
        (3, 4), (0, 19), (19, 0), (3, 4),
    ]  # fmt: skip
    assert points.when[0] == date(2019, 5, 1)
    assert points.weight is None


BAD = {
    "no class column": ("lon,lat,kind\n1,2,water", "class"),
    "a longitude that is none": ("lon,lat,class\n1,2,water\nx,2,water", "lon, row 2"),
    "off the globe": ("lon,lat,class\n1,95,water", "lat, row 1"),
    "no weight": ("lon,lat,class,weight\n1,2,water,0", "weight, row 1"),
    "a day that is none": ("lon,lat,class,date\n1,2,water,May", "date, row 1"),
    "empty": ("", "file"),
}


@pytest.mark.parametrize("what", list(BAD))
def test_bad_points_are_one_line(what: str, tmp_path: Path) -> None:
    text, key = BAD[what]
    path = tmp_path / "points.csv"
    path.write_text(text)
    with pytest.raises(InputError) as told:
        read_points(path)
    assert key in str(told.value)
    assert "\n" not in str(told.value)
    with pytest.raises(InputError, match="exists"):
        read_points(tmp_path / "none.csv")


def test_vector_points_in_any_crs(tmp_path: Path) -> None:
    import geopandas
    from shapely.geometry import Point, box

    frame = geopandas.GeoDataFrame(
        {"Class": ["water"], "weight": [2.5]},
        geometry=[Point(500_000, 5_000_000)],
        crs="EPSG:32632",
    )
    frame.to_file(tmp_path / "p.gpkg")
    points = read_points(tmp_path / "p.gpkg")
    assert (points.lon[0], points.lat[0]) == pytest.approx((9.0, 45.15), abs=0.01)
    assert points.weight.tolist() == [2.5]
    frame.set_geometry([box(0, 0, 1, 1)]).set_crs("EPSG:32632", allow_override=True).to_file(
        tmp_path / "q.gpkg"
    )
    with pytest.raises(InputError, match="Polygon"):
        read_points(tmp_path / "q.gpkg")
    with pytest.warns(UserWarning, match="crs"):
        frame.set_crs(None, allow_override=True).to_file(tmp_path / "r.shp")
    with pytest.raises(RasterError, match="CRS"):
        read_points(tmp_path / "r.shp")


def test_classes_by_name_title_or_prompt(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("lon,lat,class\n1,2,Tree cover\n1,2,tree_cover\n1,2,FOREST\n1,2,water\n")
    taxonomy = CATALOGS.taxonomy("cover-9")
    names = [taxonomy.classes[i].name for i in class_indices(read_points(path), taxonomy, path)]
    assert names == ["tree_cover"] * 3 + ["water"]
    path.write_text("lon,lat,class\n1,2,lava\n1,2,water\n")
    with pytest.raises(LegendError, match="lava") as told:
        class_indices(read_points(path), taxonomy, path)
    assert "1 of 2 points" in str(told.value)
    assert math.isfinite(told.value.exit_code)
