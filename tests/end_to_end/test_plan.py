"""`las sample` by its files: equal bytes, nothing on a dry run, nothing moved by extending."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from kit import Las

MOVED = ["primary", "density", "weight_km2"]
"""All that extending may change of a site."""

RECIPE = {
    "name": "few",
    "imagery": "sentinel-2-l2a",
    "bands": ["B02"],
    "labels": ["esa-worldcover-v200"],
    "source": "virtual",
    "patch": {"size": 64},
    "sites": {
        "count": 120, "region": "MDG,MOZ,NZL,FJI", "seed": 3, "spacing_km": 10,
        "design": [
            {"share": 0.4, "uniform": "land"},
            {"share": 0.6, "strata": ["climate-group"], "allocation": "sqrt"},
        ],
    },
    "dates": {"period": "2021-01-01/2022-01-01"},
}  # fmt: skip


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "few.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    return path


def with_sites(path: Path, **more: object) -> Path:
    content = {**RECIPE, "sites": {**RECIPE["sites"], **more}}  # type: ignore[dict-item]
    path.write_text(yaml.safe_dump(content))
    return path


def table(work: Path) -> pd.DataFrame:
    return pq.read_table(work / "few" / "plan.parquet").to_pandas()


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_same_seed_gives_the_same_bytes(las: Las, recipe: Path, tmp_path: Path) -> None:
    for name in "ab":
        said = las("sample", recipe, "--work", tmp_path / name)
        assert said.code == 0, said
    a, b = files(tmp_path / "a"), files(tmp_path / "b")
    assert {"few/plan.parquet", "few/plan.html", "few/plan.png"} <= set(a)
    assert a == b
    assert las("sample", recipe, "--work", tmp_path / "c", "--seed", 4).code == 0
    other = files(tmp_path / "c")
    assert all(other[f"few/plan.{kind}"] != a[f"few/plan.{kind}"] for kind in ("parquet", "html"))


def test_a_dry_run_prints_the_allocation_and_writes_nothing(
    las: Las, recipe: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    said = las("sample", recipe, "--work", work, "--dry-run")
    assert said.code == 0, said
    assert not work.exists()
    assert las("sample", recipe, "--work", work).code == 0
    plan = table(work)
    assert files(work)
    printed = {
        row[1]: int(row[2].replace(",", ""))
        for row in re.finditer(r"^(\S+: .+?)  +[\d,]+ +[\d.]+ % +([\d,]+) ", said.out, re.M)
    }
    drawn = Counter(
        f"{c}: {s}"
        for c, s, first in zip(plan.component, plan.stratum, plan.primary, strict=True)
        if first
    )
    assert printed == drawn
    before = files(work)
    assert las("sample", recipe, "--work", work, "--dry-run", "--count", 30).code == 0
    assert files(work) == before


def test_extending_keeps_every_site_and_its_split(las: Las, recipe: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    assert las("sample", recipe, "--work", work).code == 0
    old = table(work)
    said = las("sample", recipe, "--work", work, "--extend", 135)
    assert said.code == 0, said
    new = table(work)
    kept = [name for name in old if name not in MOVED]
    pd.testing.assert_frame_equal(old[kept], new[kept], check_exact=True)
    assert (new.primary | ~old.primary).all()
    assert old.primary.sum() == 120
    assert new.primary.sum() == 135
    # More sites stand for the same land: by the weights of both, and within a cell in proportion.
    assert new.weight_km2[new.primary].sum() == pytest.approx(
        old.weight_km2[old.primary].sum(), rel=0.02
    )
    assert (new.density > old.density).mean() > 0.9
    np.testing.assert_allclose(new.weight_km2 * new.density, 1)
    # Other stages take the new count, and refuse the old one, naming the way.
    assert las("sample", recipe, "--work", work, "--count", 135).code == 0
    refused = las("sample", recipe, "--work", work)
    assert refused.code == 2
    assert "sites.count" in refused.err
    refused = las("sample", recipe, "--work", work, "--count", 140)
    assert "--extend" in refused.err
    assert las("sample", recipe, "--work", work, "--extend", 120).code == 2
    again = files(work)
    assert las("sample", recipe, "--work", work, "--extend", 135).code == 0
    assert files(work) == again


def test_what_reserves_do_not_hold_is_refused_and_what_they_hold_is_not(
    las: Las, recipe: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    assert las("sample", recipe, "--work", work).code == 0
    before = files(work)
    said = las("sample", recipe, "--work", work, "--extend", 400)
    assert said.code == 2
    assert files(work) == before
    most = int(re.search(r"at most (\d+)", said.err)[1])  # type: ignore[index]
    assert 120 < most < 200
    assert las("sample", recipe, "--work", work, "--extend", most + 1).code == 2
    assert las("sample", recipe, "--work", work, "--extend", most).code == 0
    assert table(work).primary.sum() == most
    said = las("sample", recipe, "--work", tmp_path / "none", "--extend", 130)
    assert said.code == 2
    assert "las sample" in said.err


def test_strata_stay_those_of_the_draw(las: Las, recipe: Path, tmp_path: Path) -> None:
    """Few sites merge strata; more of them would merge fewer, and none is drawn anew."""
    design = [{"share": 1.0, "strata": ["continent", "climate"], "merge_km2": 0}]
    with_sites(recipe, count=16, design=design)
    assert las("sample", recipe, "--work", tmp_path).code == 0
    old = table(tmp_path)
    assert las("sample", recipe, "--work", tmp_path, "--extend", 20).code == 0
    new = table(tmp_path)
    assert new.primary.sum() == 20
    assert set(new.stratum) == set(old.stratum)
    assert 3 < len(set(old.stratum)) <= 8


def test_a_plan_with_capacity_is_extended_to_what_a_larger_count_draws(
    las: Las, recipe: Path, tmp_path: Path
) -> None:
    with_sites(recipe, capacity=240)
    assert las("sample", recipe, "--work", tmp_path / "a").code == 0
    old = table(tmp_path / "a")
    assert old.primary.sum() == 120
    assert len(old) > 260  # room for 240 and their reserves
    for count in (150, 240):
        said = las("sample", recipe, "--work", tmp_path / "a", "--extend", count)
        assert said.code == 0, said
    with_sites(recipe, capacity=240, count=240)
    assert las("sample", recipe, "--work", tmp_path / "b").code == 0
    extended, whole = files(tmp_path / "a" / "few"), files(tmp_path / "b" / "few")
    assert extended["plan.parquet"] == whole["plan.parquet"]
    assert extended["plan.png"] == whole["plan.png"]
    # A recipe whose count was raised is the plan's again, and --extend without a number reads it.
    assert las("sample", recipe, "--work", tmp_path / "a").code == 0
    assert las("sample", recipe, "--work", tmp_path / "a", "--extend", 241).code == 2
