"""Components: Gaussians and rings around cities by pyproj, counts that add up, bad designs."""

from __future__ import annotations

import numpy as np
import pytest
from pyproj import Geod

from las_builder.catalogs import Strata
from las_builder.core.options import Sites
from las_builder.errors import InputError, LasError, RecipeError, RegionError
from las_builder.plan import resolve
from las_builder.plan.cities import Towns, gaussians, nearest_class, people_around
from las_builder.plan.design import Part, parts
from las_builder.plan.law import Law
from las_builder.plan.target import Target

GEOD = Geod(ellps="WGS84")


def target_of(spec: object, strata: Strata) -> Target:
    return Target.of(resolve(spec, strata, ""))  # type: ignore[arg-type]


def designed(strata: Strata, spec: object, count: int, *design: dict) -> list[Part]:
    sites = Sites(count=count, region=spec, design=list(design))  # type: ignore[arg-type]
    return parts(sites, target_of(spec, strata), "recipe.yaml")


def distances(target: Target, towns: Towns, step: int = 1) -> np.ndarray:
    """Kilometres from every (every so many) cell to every city, (cells, cities)."""
    lon, lat = (v[::step] for v in target.centres())
    n, m = lon.size, towns.lon.size
    km = GEOD.inv(
        np.repeat(lon, m), np.repeat(lat, m), np.tile(towns.lon, n), np.tile(towns.lat, n)
    )[2]
    return np.asarray(km).reshape(n, m) / 1000


@pytest.mark.parametrize(
    "spec", ["FJI", [-179, -21, 179, -13], [10, 76, 32, 81], [-78, -1, -77, 0]]
)
@pytest.mark.parametrize("sigma", [20.0, 300.0])
def test_gaussians_are_of_the_geodesic(spec: object, sigma: float, strata: Strata) -> None:
    target = target_of(spec, strata)
    rng = np.random.default_rng(0)
    pick = rng.choice(target.row.size, min(7, target.row.size), replace=False)
    lon, lat = target.centres()
    towns = Towns(  # some in reach, one on the other side of ±180°, one far away
        np.append(lon[pick] + rng.normal(0, 0.5, pick.size), 0.0),
        np.append(lat[pick] + rng.normal(0, 0.3, pick.size), 45.0),
        rng.uniform(1, 9, pick.size + 1),
    )
    found = gaussians(target, towns, towns.people, sigma)
    step = 1 + target.row.size // 500
    km = distances(target, towns, step)
    want = (towns.people * np.where(km < 5 * sigma, np.exp(-(km**2) / (2 * sigma**2)), 0)).sum(1)
    np.testing.assert_allclose(found[::step], want, rtol=2e-3, atol=2e-4)


def test_cells_of_earlier_targets_are_remembered_and_change_nothing(strata: Strata) -> None:
    small, large, beside = (
        target_of(box, strata) for box in ([5, 45, 8, 47], [3, 44, 9, 48], [8, 44, 12, 46])
    )
    towns = Towns.of(strata, 4000)
    once = [gaussians(target, towns, towns.people, 41.5) for target in (small, large, beside)]
    other_order = Towns(towns.lon, towns.lat, towns.people * 2)  # remembered apart
    again = [gaussians(t, other_order, other_order.people, 41.5) for t in (beside, large, small)]
    for one, two in zip(once, reversed(again), strict=True):
        assert (2 * one == two).all()
    inside = np.searchsorted(large.key, small.key)
    assert (once[1][inside] == once[0]).all()
    assert (once[0] > 0).any()


def test_people_and_rings_around_cities(strata: Strata) -> None:
    target = target_of([138, 34, 142, 37], strata)
    towns = Towns.of(strata)
    assert (np.diff(towns.people) <= 0).all()
    near = (np.abs(towns.lon - 140) < 4) & (np.abs(towns.lat - 35.5) < 3)
    some = Towns(towns.lon[near], towns.lat[near], towns.people[near])
    km = distances(target, some)
    found = people_around(target, towns, 50)
    want = (some.people * (km <= 50)).sum(axis=1)
    edge = (np.abs(km - 50) < 0.1).any(axis=1)
    assert found[~edge].tolist() == want[~edge].tolist()
    rules = [(1, 1_000_000, 25.0), (1, 50_000, 10.0), (2, 50_000, 30.0)]
    kind = nearest_class(target, towns, rules, 3)
    large, small = some.people >= 1_000_000, some.people >= 50_000
    urban = (km[:, large] <= 25).any(axis=1) | (km[:, small] <= 10).any(axis=1)
    around = (km[:, small] <= 30).any(axis=1)
    want = np.where(urban, 1, np.where(around, 2, 3))
    close = (np.abs(km[..., None] - [25, 10, 30]) < 0.1).any(axis=(1, 2))
    assert (kind == want)[~close].all()
    assert set(kind.tolist()) == {1, 2, 3}


def test_counts_add_up_and_densities_are_what_is_asked(strata: Strata) -> None:
    found = designed(
        strata, "ITA", 1001,
        {"share": 0.5, "near": "cities", "sigma_km": 30, "weight": "population"},
        {"share": 0.3, "strata": ["climate", "urbanisation"], "allocation": "sqrt"},
        {"share": 0.2, "uniform": "land"},
    )  # fmt: skip
    assert [int(p.counts.sum()) for p in found] == [501, 300, 200]
    assert [p.name for p in found] == ["cities", "climate+urbanisation", "uniform"]
    for part in found:
        mass = part.density(part.counts.astype(float)) * part.target.areas
        stratum = part.stratum(np.arange(part.target.row.size))
        got = np.bincount(stratum, mass, len(part.names))
        np.testing.assert_allclose(got, part.counts, rtol=1e-9)
        at = np.array([5, 7])
        whole = part.density(part.counts.astype(float))
        assert part.density(part.counts.astype(float), at).tolist() == whole[at].tolist()
    stratified = found[1]
    assert "Csa/urban" in stratified.names
    ratio = stratified.counts / np.sqrt(stratified.areas)
    many = stratified.counts > 10
    assert ratio[many].std() / ratio[many].mean() < 0.1


def test_what_does_not_fit_names_the_key_that_asks_for_it(strata: Strata) -> None:
    region = [5.0, 45.0, 6.0, 46.0]
    for key, sites in (
        ("sites.count", {"count": 5000}),
        ("sites.capacity", {"count": 10, "capacity": 5000}),
    ):
        with pytest.raises(RegionError, match=f"`{key}` is 5000.*at most") as caught:
            whole = Sites(region=region, spacing_km=5, **sites)  # type: ignore[arg-type]
            drawn = whole.model_copy(update={"count": whole.drawn})
            Law.solve(target_of(region, strata), drawn, "recipe.yaml", ("uniform", "land"))
        assert f"Lower {key} or spacing_km" in str(caught.value)


def test_equal_components_get_names_of_their_own(strata: Strata) -> None:
    found = designed(
        strata, "FJI", 10, {"share": 0.5, "uniform": "land"}, {"share": 0.5, "uniform": "land"}
    )
    assert [p.name for p in found] == ["uniform", "uniform-2"]


def test_neyman_goes_by_declared_spread_or_by_class_fractions(strata: Strata) -> None:
    declared = designed(
        strata, "ITA", 300,
        {"share": 1, "strata": ["urbanisation"], "allocation": "neyman",
         "spread": {"urban": 4.0, "peri-urban": 2.0, "rural": 1.0}},
    )[0]  # fmt: skip
    score = declared.areas * [
        {"urban": 4.0, "peri-urban": 2.0, "rural": 1.0}[name] for name in declared.names
    ]
    np.testing.assert_allclose(declared.counts, 300 * score / score.sum(), atol=1)
    mixed = designed(
        strata, "ITA", 300,
        {"share": 1, "strata": ["urbanisation"], "allocation": "neyman", "spread": "landcover"},
    )[0]  # fmt: skip
    assert mixed.counts.sum() == 300
    assert (mixed.counts >= 2).all()


CLIMATES = ("BSk", "Cfa", "Cfb", "Cfc", "Csa", "Csb", "Dfa", "Dfb", "Dfc", "ET")


@pytest.mark.parametrize(
    ("design", "words"),
    [
        ({"strata": ["climat"]}, ["sites.design.0.strata.0", "climat", "climate"]),
        ({"strata": ["land"]}, ["classes", "a layer of classes"]),
        ({"strata": ["climate"], "allocation": {"Zzz": 1}}, ["allocation", "'Zzz'", "Csa"]),
        ({"strata": ["climate"], "allocation": "neyman", "spread": {"Q": 1}}, ["spread", "'Q'"]),
        ({"strata": ["climate"], "allocation": "neyman", "spread": "climate"}, ["cover"]),
        (
            {"strata": ["climate"], "allocation": dict.fromkeys(CLIMATES, 1)},
            ["10 strata for 9 sites"],
        ),
        ({"near": "cities", "top": 1, "sigma_km": 5}, ["near", "1 largest cities"]),
    ],
)
def test_bad_designs_are_one_line(design: dict, words: list[str], strata: Strata) -> None:
    with pytest.raises(InputError) as error:
        designed(strata, "europe", 9, {"share": 1, **design})
    text = str(error.value)
    assert "\n" not in text
    for word in words:
        assert word in text
    assert isinstance(error.value, RecipeError | RegionError | LasError)
