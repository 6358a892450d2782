"""`plan.parquet` and `splits.parquet`: exact, repeatable, and what geopandas opens."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from affine import Affine

from las_builder.catalogs import Catalogs, Strata
from las_builder.core.grid import Grid
from las_builder.core.options import Patch, Sites, Splits
from las_builder.core.types import Site
from las_builder.plan import SiteTable, assign, draw, read_plan, write_plan, write_splits

SPLITS = Splits(block_km=50, train=3)


@pytest.fixture(scope="module")
def sites() -> list[Site]:
    catalogs = Catalogs.load()
    found = [
        site
        for subset, region in (("europe", "Slovenia"), ("seam", [176, -20, -178, -12]))
        for site in draw(
            subset=subset, sites=Sites(count=150, region=region), patch=Patch(size=64),
            imagery=catalogs.imagery("sentinel-2-l2a"), products=[],
            strata=Strata.load(catalogs), where="recipe.yaml",
        )
    ]  # fmt: skip
    nowhere = dataclasses.replace(
        found[0], subset="pictures", id="nocrs-0-0-abc", density=None, weight_km2=None,
        grid=Grid(None, Affine(1, 0, 0, 0, -1, 0), 30, 20),
    )  # fmt: skip
    return [*assign(found, SPLITS), nowhere]


def test_what_is_read_is_what_was_written(sites: list[Site], tmp_path: Path) -> None:
    path = tmp_path / "new" / "plan.parquet"
    write_plan(path, sites)
    key = lambda s: (s.subset, s.rank)  # noqa: E731
    assert read_plan(path) == sorted(sites, key=key)
    write_plan(tmp_path / "again.parquet", list(reversed(sites)))
    assert (tmp_path / "again.parquet").read_bytes() == path.read_bytes()
    assert [p.name for p in path.parent.iterdir()] == ["plan.parquet"]


def test_no_site_is_a_table_too(tmp_path: Path) -> None:
    write_plan(tmp_path / "plan.parquet", [])
    assert read_plan(tmp_path / "plan.parquet") == []


def test_geopandas_sees_the_points(sites: list[Site], tmp_path: Path) -> None:
    write_plan(tmp_path / "plan.parquet", sites)
    frame = geopandas.read_parquet(tmp_path / "plan.parquet")
    assert frame.crs.to_epsg() == 4326
    seen = set(zip(frame["subset"], frame["id"], frame.geometry.x, frame.geometry.y, strict=True))
    assert seen == {(s.subset, s.id, s.lon, s.lat) for s in sites}
    assert (frame.geometry.x == frame["lon"]).all()
    assert (frame.geometry.y == frame["lat"]).all()


def test_sites_set_aside_for_benchmarks_are_counted_in_their_blocks(
    sites: list[Site], tmp_path: Path
) -> None:
    aside = [dataclasses.replace(s, split="benchmark") if s.block >= 0 else s for s in sites]
    write_splits(tmp_path / "splits.parquet", aside, SPLITS)
    frame = geopandas.read_parquet(tmp_path / "splits.parquet")
    assert frame["sites_benchmark"].sum() == sum(s.block >= 0 for s in sites) > 0
    assert not frame[["sites_train", "sites_val", "sites_test", "sites_buffer"]].to_numpy().any()


def test_blocks_of_the_splits_hold_their_sites(sites: list[Site], tmp_path: Path) -> None:
    write_splits(tmp_path / "splits.parquet", sites, SPLITS)
    frame = geopandas.read_parquet(tmp_path / "splits.parquet")
    placed = [s for s in sites if s.block >= 0]
    assert frame["block"].is_monotonic_increasing
    assert set(frame["block"]) == {s.block for s in placed}
    names = ["train", "val", "test", "buffer", "benchmark"]
    counted = frame[[f"sites_{name}" for name in names]].to_numpy()
    assert counted.sum() == len(placed)
    for site in placed:
        row = frame[frame["block"] == site.block].iloc[0]
        lon, lat = site.grid.centre_lonlat()
        assert any(row.geometry.intersects(shapely.Point(lon + t, lat)) for t in (-360, 0, 360))
        assert site.split in {row["split"], "buffer"}
        assert row[f"sites_{site.split}"] > 0
    blank = tmp_path / "none.parquet"
    write_splits(blank, [], SPLITS)
    assert len(geopandas.read_parquet(blank)) == 0
    assert np.unique(frame["block"]).size == len(frame)


def test_a_table_is_a_sequence_of_sites(sites: list[Site]) -> None:
    table = SiteTable.of(sites)
    assert table == sites
    assert list(table) == sites
    assert table[3:7] == sites[3:7]
    assert table[-1] == sites[-1]
    assert table[:0] == []
    assert table != sites[:-1]
    assert SiteTable.of(table) is table
    joined = SiteTable.join([table[:5], table[5:]])
    assert joined == sites
    assert SiteTable.join([]) == []
    assert joined.of_subset("pictures") == [sites[-1]]
    with pytest.raises(IndexError):
        table[len(sites)]
    moved = table.placed([dataclasses.replace(s, block=4, split="val") for s in sites])
    assert {(s.block, s.split) for s in moved} == {(4, "val")}
    assert [s.id for s in moved] == [s.id for s in sites]


def test_chances_of_a_second_phase_are_kept(sites: list[Site], tmp_path: Path) -> None:
    table = SiteTable.of(sites)
    table = dataclasses.replace(table, p2=np.where(table.primary, 0.25, np.nan))
    write_plan(tmp_path / "plan.parquet", table)
    again = read_plan(tmp_path / "plan.parquet")
    assert (again.p2[again.primary] == 0.25).all()
    assert np.isnan(again.p2[~again.primary]).all()
    assert (
        geopandas.read_parquet(tmp_path / "plan.parquet")["p2"].isna().sum()
        == (~again.primary).sum()
    )
