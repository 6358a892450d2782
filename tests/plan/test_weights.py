from __future__ import annotations

import pytest
from affine import Affine

from las_builder.core.grid import Grid
from las_builder.core.types import Site
from las_builder.plan import final_weights

GRID = Grid("EPSG:32632", Affine(10, 0, 0, 0, -10, 0), 8, 8)


def site(
    name: str, stratum: str, weight: float | None, primary: bool = True, component: str = "c"
) -> Site:
    return Site(
        id=name, subset="s", lon=0, lat=0, grid=GRID, component=component, stratum=stratum,
        density=None, weight_km2=weight, rank=0, primary=primary, block=0, split="train",
    )  # fmt: skip


def test_reserves_take_over_what_gaps_stood_for() -> None:
    plan = [
        site("a", "x", 10), site("b", "x", 30), site("r", "x", 20, primary=False),
        site("unused", "x", 50, primary=False), site("d", "y", 7),
    ]  # fmt: skip
    found = final_weights(plan, {"a", "r", "d"})
    assert found.km2 == pytest.approx({"a": 10 * 40 / 30, "r": 20 * 40 / 30, "d": 7})
    assert found.pooled == {}
    everything = final_weights(plan, {"a", "b", "d"})
    assert everything.km2 == {"a": 10, "b": 30, "d": 7}


def test_an_empty_stratum_is_pooled_with_its_parent_s() -> None:
    plan = [
        site("a", "A/x", 10), site("b", "A/y", 30), site("c", "A/z", 5), site("d", "B/x", 100),
    ]  # fmt: skip
    found = final_weights(plan, {"a", "c", "d"})
    assert found.km2 == pytest.approx({"a": 10 * 45 / 15, "c": 5 * 45 / 15, "d": 100})
    assert found.pooled == {("c", "A/y"): ("c", "A")}
    found = final_weights(plan, {"a", "b", "c"})
    assert sum(v or 0 for v in found.km2.values()) == pytest.approx(145)
    assert found.pooled == {("c", "B/x"): ("c", "")}
    other = [*plan, site("e", "land", 55, component="cities")]
    found = final_weights(other, {"a"})
    assert found.km2 == pytest.approx({"a": 200})
    assert set(found.pooled.values()) == {("", "")}
    found = final_weights(other, {"e", "a", "b", "c", "d"})
    assert found.km2 == {"a": 10, "b": 30, "c": 5, "d": 100, "e": 55}


def test_components_keep_their_own_totals() -> None:
    plan = [site("a", "land", 10, component="u"), site("b", "land", 30, component="v"),
            site("c", "land", 2, component="v")]  # fmt: skip
    assert final_weights(plan, {"a", "b"}).km2 == pytest.approx({"a": 10, "b": 32})


def test_no_chance_no_weight_and_nothing_stored() -> None:
    plan = [site("a", "x", None), site("b", "x", 3)]
    assert final_weights(plan, {"a", "b"}).km2 == {"a": None, "b": 3}
    assert final_weights(plan, set()).km2 == {}
    assert final_weights([], {"a"}).km2 == {}
