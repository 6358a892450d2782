from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from las_builder.catalogs import Catalogs, Imagery, Strata
from las_builder.core.options import Patch, Sites
from las_builder.plan import Draft
from las_builder.plan.allocation import allocate, rounded

AREAS = np.array([100.0, 400.0, 2500.0, 0.0])
NAMES = ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("rule", "want"),
    [
        ("proportional", [10, 40, 250, 0]),
        ("equal", [100, 100, 100, 0]),
        ("sqrt", [37, 75, 188, 0]),
        ("neyman", [60, 120, 120, 0]),
        ({"a": 1, "c": 2}, [100, 0, 200, 0]),
        ({"c": 5, "d": 9}, [0, 0, 300, 0]),
    ],
)
def test_rules(rule: str | dict[str, float], want: list[int]) -> None:
    spread = np.array([12.0, 6.0, 0.96, 3.0]) if rule == "neyman" else None
    found = allocate(rule, NAMES, AREAS, spread, 300)
    assert found.sum() == 300
    assert found == pytest.approx(want, abs=1)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=30).filter(lambda v: max(v) > 1e-3),
    st.integers(1, 5000),
    st.integers(0, 3),
)
def test_rounded_counts_add_up(share: list[float], total: int, least: int) -> None:
    found = rounded(np.array(share), total, least)
    some = np.array(share) > 0
    assert found.sum() == total
    assert (found[~some] == 0).all()
    if least * some.sum() <= total:
        assert (found[some] >= least).all()


def test_the_table_says_what_every_cell_gets(strata: Strata, sentinel: Imagery) -> None:
    def draft(count: int, **more: object) -> Draft:
        return Draft.of(
            subset="a", sites=Sites(count=count, region="ITA", **more), patch=Patch(size=64),  # type: ignore[arg-type]
            imagery=sentinel, products=[], strata=strata, where="r",
        )  # fmt: skip

    design = [
        {"share": 0.8, "strata": ["urbanisation"], "allocation": "equal"},
        {"share": 0.2, "near": "cities", "top": 3000, "sigma_km": 60},
    ]
    made = draft(300, spacing_km=4, design=design)
    found = made.allocation
    assert sum(cell.count for cell in found.cells) == 300
    by_name = {cell.stratum: cell for cell in found.cells}
    assert by_name["urban"].population == pytest.approx(
        by_name["urban"].area_km2 / found.target_km2
    )
    assert [cell.few for cell in found.cells] == [False] * 4
    sites = made.draw()
    for cell in found.cells:
        here = sites.of_rows((sites.component == cell.component) & (sites.stratum == cell.stratum))
        assert here.primary.sum() == cell.count
        assert len(here) == pytest.approx(cell.expected, abs=4.5 * np.sqrt(cell.expected))
        w = here.weight_km2[here.primary]
        assert w.sum() ** 2 / (w**2).sum() == pytest.approx(cell.effective, rel=0.15)
        assert cell.fits is not None
        assert cell.fits >= cell.count
    assert found.fits is not None
    assert draft(found.fits, spacing_km=4, design=design).allocation.fits == pytest.approx(
        found.fits, rel=0.02
    )
    lines = found.table().splitlines()
    assert len(lines) == 6
    assert "300 sites" in lines[0]
    assert f"at most {found.fits:,} fit" in lines[0]
    assert draft(300).allocation.fits is None
    only = draft(40, design=[{"share": 1, "strata": ["urbanisation"], "allocation": {"urban": 1}}])
    assert only.allocation.outside_km2 == pytest.approx(
        found.target_km2 - by_name["urban"].area_km2
    )
    assert only.allocation.few == ()
    assert "not in the population" in only.allocation.table()
    # Milan, the Gennargentu, the Tyrrhenian Sea.
    lon, lat = np.array([9.19, 9.3, 11.5]), np.array([45.46, 40.0, 40.0])
    assert only.law.target.contains(lon, lat).tolist() == [True, True, False]
    assert only.reaches(lon, lat).tolist() == [True, False, False]
    assert all(site.stratum == "urban" for site in only.draw())


def test_catalogs_of_another_folder_are_asked(catalogs: Catalogs, strata: Strata) -> None:
    assert strata.catalogs == catalogs
