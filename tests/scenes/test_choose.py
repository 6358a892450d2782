"""Choosing scenes: the patch decides, not the scene-wide cloud share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np
import pyarrow.parquet as pq
import pytest
from affine import Affine

from las_builder.access import LabelRequest, ReadRequest, SearchRequest
from las_builder.catalogs import Catalogs, Imagery, LabelProduct
from las_builder.core.grid import Grid, from_lonlat
from las_builder.core.options import Dates, Patch
from las_builder.core.types import AssetRef, Chip, Gap, GapReason, Scene, Site
from las_builder.scenes import (
    MAX_TRIES,
    Outline,
    PinnedRows,
    SceneTable,
    counts_in,
    join,
    pin,
)
from las_builder.scenes.choose import covers, settle

PATCH = Grid("EPSG:32633", Affine(10, 0, 399960, 0, -10, 5000040), 66, 66)
TILE = Grid("EPSG:32633", Affine(10, 0, 350040, 0, -10, 5050020), 10980, 10980)


@pytest.fixture
def s2() -> Imagery:
    return Catalogs.load().imagery("sentinel-2-l2a")


def site(grid: Grid = PATCH) -> Site:
    lon, lat = grid.centre_lonlat()
    return Site(
        id=grid.code(), subset="s", lon=lon, lat=lat, grid=grid, component="uniform",
        stratum="land", density=1.0, weight_km2=1.0, rank=0, primary=True, block=0, split="train",
    )  # fmt: skip


def scene(day: str, cloud: float | None = 0.0, *, grid: Grid = TILE, tag: str = "") -> Scene:
    return Scene(
        id=f"S2_{day}{tag}", datetime=datetime.fromisoformat(day).replace(tzinfo=UTC),
        cloud_cover=cloud, grid=grid, assets={"SCL": AssetRef(href="mem://scl")},
    )  # fmt: skip


@dataclass
class FakeAccess:
    """Scenes held in memory; `clear` says what share of the patch each shows."""

    scenes: list[Scene]
    clear: dict[str, float] = field(default_factory=dict)
    looked: list[str] = field(default_factory=list)
    reads: int = 0
    maps: frozenset[str] | None = None
    """Scenes that have a label map; None: it must not be asked."""

    name: str = "fake"
    synthetic: bool = True

    def search(self, imagery: Imagery, requests: Sequence[SearchRequest]) -> list[list[Scene]]:
        keep = [
            s
            for s in self.scenes
            if requests[0].period.holds(s.datetime)
            and (s.cloud_cover is None or s.cloud_cover <= requests[0].max_cloud)
        ]
        return [sorted(keep, key=lambda s: (s.datetime, s.id)) for _ in requests]

    def read(self, imagery: Imagery, requests: Sequence[ReadRequest]) -> list[Chip | Gap]:
        chips: list[Chip | Gap] = []
        self.reads += 1
        for request in requests:
            assert request.bands == ("SCL",)
            assert request.categorical
            self.looked.append(request.scene.id)
            qa = np.full((1, *request.grid.shape), 9, np.uint8)
            share = self.clear.get(request.scene.id, 1.0)
            clear = round(abs(share) * qa[0].size)  # from the top; a negative one from below
            qa.reshape(-1)[:: 1 if share >= 0 else -1][:clear] = 4
            chips.append(
                Chip(
                    grid=request.grid, bands=("SCL",), data=qa,
                    inside=np.ones(request.grid.shape, bool), resampled=False,
                )
            )  # fmt: skip
        return chips

    def labels(self, product: LabelProduct, requests: Sequence[object]) -> list[Gap]:
        raise AssertionError("scenes never read labels")

    def labelled(self, product: LabelProduct, requests: Sequence[LabelRequest]) -> list[bool]:
        assert self.maps is not None
        return [r.scene.id in self.maps for r in requests]


def dates(**more: object) -> Dates:
    return Dates.model_validate(
        {"period": "2021-01-01/2022-01-01", "patch_min_clear": 0.9, "max_cloud": 80, **more}
    )


def test_a_cloudy_patch_under_a_clear_scene_is_passed_over(s2: Imagery) -> None:
    access = FakeAccess(
        [scene("2021-03-01", 1.0), scene("2021-04-01", 60.0)], {"S2_2021-03-01": 0.2}
    )
    (outcome,) = pin(access, s2, [site()], dates=dates(), patch=Patch(size=66))
    assert [p.scene.id for p in outcome.pinned] == ["S2_2021-04-01"]
    assert outcome.pinned[0].clear == 1.0
    assert access.looked == ["S2_2021-03-01", "S2_2021-04-01"]


def test_seasons_give_one_date_each_and_the_clearest_scene_first(s2: Imagery) -> None:
    access = FakeAccess(
        [scene("2021-02-01", 50.0), scene("2021-03-01", 5.0), scene("2021-08-01", 7.0)]
    )
    (outcome,) = pin(access, s2, [site()], dates=dates(per_site=2), patch=Patch(size=66))
    assert [(p.slot, p.scene.id) for p in outcome.pinned] == [
        (0, "S2_2021-03-01"),
        (1, "S2_2021-08-01"),
    ]


def test_clearest_takes_distinct_days(s2: Imagery) -> None:
    access = FakeAccess(
        [
            scene("2021-02-01", 1.0, tag="a"),
            scene("2021-02-01", 2.0, tag="b"),
            scene("2021-03-01", 9.0),
        ]
    )
    (outcome,) = pin(
        access, s2, [site()], dates=dates(per_site=2, choose="clearest"), patch=Patch(size=66)
    )
    assert [p.scene.id for p in outcome.pinned] == ["S2_2021-02-01a", "S2_2021-03-01"]


@pytest.mark.parametrize(
    ("scenes", "clear", "reason"),
    [
        ([], {}, GapReason.NO_SCENE),
        (["2021-02-01"], {"S2_2021-02-01": 0.5}, GapReason.TOO_CLOUDY),
        (["2020-02-01"], {}, GapReason.NO_SCENE),
    ],
)
def test_gaps_say_why(
    s2: Imagery, scenes: list[str], clear: dict[str, float], reason: GapReason
) -> None:
    access = FakeAccess([scene(day) for day in scenes], clear)
    (outcome,) = pin(access, s2, [site()], dates=dates(), patch=Patch(size=66))
    assert outcome.gap is not None
    assert outcome.gap.reason is reason
    assert outcome.pinned == ()


def test_fewer_dates_than_min_is_a_gap(s2: Imagery) -> None:
    access = FakeAccess([scene("2021-02-01")])
    (outcome,) = pin(access, s2, [site()], dates=dates(per_site=2, min=2), patch=Patch(size=66))
    assert outcome.gap is not None
    assert "1 of 2 dates" in outcome.gap.detail


def test_looks_are_bounded(s2: Imagery) -> None:
    days = [f"2021-{m:02d}-{d:02d}" for m in range(1, 13) for d in (1, 11)]
    access = FakeAccess([scene(day) for day in days], {f"S2_{day}": 0.0 for day in days})
    pin(access, s2, [site()], dates=dates(), patch=Patch(size=66))
    assert len(access.looked) == MAX_TRIES


def test_a_scene_coarser_than_the_gsd_is_a_gap(s2: Imagery) -> None:
    access = FakeAccess([scene("2021-02-01")])
    (outcome,) = pin(access, s2, [site()], dates=dates(), patch=Patch(size=66, gsd=5.0))
    assert outcome.gap is not None
    assert outcome.gap.reason is GapReason.TOO_COARSE


def test_a_scene_in_the_sites_zone_is_preferred_even_if_cloudier(s2: Imagery) -> None:
    lon, lat = PATCH.centre_lonlat()
    other = Grid("EPSG:32632", Affine(10, 0, 800040, 0, -10, 5090040), 10980, 10980)
    assert covers(other, PATCH), (lon, lat)
    access = FakeAccess([scene("2021-02-01", 0.0, grid=other), scene("2021-03-01", 30.0)])
    (outcome,) = pin(access, s2, [site()], dates=dates(), patch=Patch(size=66))
    assert outcome.pinned[0].scene.id == "S2_2021-03-01"
    assert outcome.pinned[0].grid == PATCH


def test_from_another_zone_the_grid_is_laid_on_that_scenes_lattice(s2: Imagery) -> None:
    other = Grid("EPSG:32632", Affine(10, 0, 800040, 0, -10, 5090040), 10980, 10980)
    moved = settle(PATCH, other)
    assert moved.crs == "EPSG:32632"
    assert s2.lattice.holds("EPSG:32632", other.transform)
    assert (moved.transform.c - other.transform.c) % 10 == 0
    a, b = np.array(moved.centre_lonlat()), np.array(PATCH.centre_lonlat())
    assert np.abs((a - b) * [111e3 * np.cos(np.radians(45)), 111e3]).max() <= 10.0


def test_all_dates_share_the_grid_of_the_first_where_origins_differ() -> None:
    naip = Catalogs.load().imagery("naip")
    first = Grid("EPSG:26911", Affine(1, 0, 577416.3, 0, -1, 5435214.7), 6000, 7000)
    second = Grid("EPSG:26911", Affine(1, 0, 577410.9, 0, -1, 5435220.2), 6000, 7000)
    nominal = Grid("EPSG:26911", Affine(1, 0, 579000, 0, -1, 5430000), 64, 64)
    access = FakeAccess(
        [scene("2013-06-01", None, grid=first), scene("2014-06-01", None, grid=second)]
    )
    (outcome,) = pin(
        access, naip, [site(nominal)], patch=Patch(size=64, gsd=1.0),
        dates=dates(period="2013-01-01/2015-01-01", per_site=2),
    )  # fmt: skip
    a, b = outcome.pinned
    assert a.grid == b.grid
    assert abs((a.grid.transform.c - first.transform.c) % 1) < 1e-9
    assert abs(a.grid.transform.c - nominal.transform.c) <= 0.5
    assert abs(a.grid.transform.f - nominal.transform.f) <= 0.5


@pytest.mark.parametrize("east", [0, 5490.0, 109800 - 660.0, 109800 - 659.99])
def test_a_settled_patch_stays_inside_its_scene(east: float) -> None:
    nominal = Grid("EPSG:32633", Affine(10, 0, 350040 + east, 0, -10, 5050020), 66, 66)
    assert covers(TILE, nominal)
    assert TILE.contains(settle(nominal, TILE))


def test_a_patch_over_the_edge_is_not_covered() -> None:
    over = Grid("EPSG:32633", Affine(10, 0, 350040 + 109800 - 640, 0, -10, 5050020), 66, 66)
    assert not covers(TILE, over)


def test_a_patch_across_the_antimeridian_is_covered_by_the_scene_of_the_other_zone() -> None:
    tile = Grid("EPSG:32601", Affine(10, 0, 300000, 0, -10, 7400040), 10980, 10980)
    x, y = from_lonlat("EPSG:32660", np.array([180.0]), np.array([66.2]))
    west, north = round(x[0] / 60) * 60 - 1320, round(y[0] / 60) * 60 + 1320
    patch = Grid("EPSG:32660", Affine(10, 0, west, 0, -10, north), 264, 264)
    ring = patch.outline_lonlat()
    assert ring[:, 0].min() < -179
    assert ring[:, 0].max() > 179
    assert covers(tile, patch)
    assert tile.contains(settle(patch, tile))
    far = Grid("EPSG:32660", Affine(10, 0, west - 100_000, 0, -10, north), 264, 264)
    assert not covers(tile, far)


def test_the_table_reads_back_what_it_wrote(s2: Imagery, tmp_path) -> None:
    access = FakeAccess([scene("2021-02-01", 3.25), scene("2021-08-01", None)])
    sites = [site(), site(Grid(PATCH.crs, Affine(10, 0, 401040, 0, -10, 5000040), 66, 66))]
    found = pin(access, s2, sites, dates=dates(per_site=2), patch=Patch(size=66))
    gap = pin(FakeAccess([]), s2, [site(TILE)], dates=dates(), patch=Patch(size=66))
    table = SceneTable((*found, *gap))
    table.write(tmp_path / "0.parquet")
    assert SceneTable.read(tmp_path / "0.parquet") == table
    assert list(PinnedRows(tmp_path / "0.parquet")) == table.patches
    first = (tmp_path / "0.parquet").read_bytes()
    table.write(tmp_path / "0.parquet")
    assert (tmp_path / "0.parquet").read_bytes() == first


def test_parts_are_joined_in_the_order_asked_for(s2: Imagery, tmp_path) -> None:
    access = FakeAccess([scene("2021-02-01", 3.25), scene("2021-08-01", None)])
    grids = [
        Grid(PATCH.crs, Affine(10, 0, 399960 + 1200 * i, 0, -10, 5000040), 66, 66) for i in range(5)
    ]
    found = pin(access, s2, [site(g) for g in grids], dates=dates(per_site=2), patch=Patch(size=66))
    (gap,) = pin(FakeAccess([]), s2, [site(TILE)], dates=dates(), patch=Patch(size=66))
    SceneTable((found[3], found[0], gap)).write(tmp_path / "a.parquet")
    SceneTable((found[2], found[4], found[1])).write(tmp_path / "b.parquet")
    wanted = SceneTable((*found[:3], gap, *found[3:]))
    order = [o.site for o in wanted.outcomes]
    join([tmp_path / "a.parquet", tmp_path / "b.parquet"], order, tmp_path / "0.parquet")
    assert SceneTable.read(tmp_path / "0.parquet") == wanted
    outline = Outline.read(tmp_path / "0.parquet")
    assert outline.sites == tuple(order)
    assert outline.gaps == {gap.site: "no-scene"}
    assert outline.patches == 10


def test_signatures_are_not_written(s2: Imagery, tmp_path) -> None:
    signed = Scene(
        id="S2_a", datetime=datetime(2021, 2, 1, tzinfo=UTC), cloud_cover=1.0, grid=TILE,
        assets={"SCL": AssetRef(href="https://h.example/a/SCL.tif?sig=SECRET&se=2021")},
    )  # fmt: skip
    (outcome,) = pin(FakeAccess([signed]), s2, [site()], dates=dates(), patch=Patch(size=66))
    SceneTable((outcome,)).write(tmp_path / "0.parquet")
    back = SceneTable.read(tmp_path / "0.parquet")
    assert back.patches[0].scene.assets["SCL"].href == "https://h.example/a/SCL.tif"


def test_a_median_takes_the_clearest_scenes_of_each_slot(s2: Imagery, tmp_path) -> None:
    days = ["2021-02-01", "2021-02-11", "2021-03-01", "2021-04-01", "2021-08-01", "2021-09-01"]
    shares = [0.95, 0.5, 0.05, -0.6, 0.7, 0.8]
    access = FakeAccess(
        [scene(day, float(i)) for i, day in enumerate(days)],
        {f"S2_{day}": share for day, share in zip(days, shares, strict=True)},
    )
    (outcome,) = pin(
        access, s2, [site()], patch=Patch(size=66),
        dates=dates(per_site=2, composite="median", composite_scenes=3),
    )  # fmt: skip
    (one,) = outcome.pinned  # the second half of the year is clear on 0.8 at most, not on 0.9
    assert one.scene.composite == "median"
    assert [p.id for p in one.scene.members] == ["S2_2021-02-01", "S2_2021-04-01", "S2_2021-02-11"]
    assert one.clear == 1.0
    assert dict(outcome.counts) == {"found": 6, "looked": 6, "cloudy": 3}
    table = SceneTable((outcome,))
    table.write(tmp_path / "0.parquet")
    assert SceneTable.read(tmp_path / "0.parquet") == table
    assert list(PinnedRows(tmp_path / "0.parquet")) == [one]


def test_best_keeps_only_scenes_that_give_pixels_and_stops_at_a_clear_one(s2: Imagery) -> None:
    days = ["2021-02-01", "2021-02-11", "2021-03-01", "2021-04-01"]
    scenes = [scene(day, float(i)) for i, day in enumerate(days)]
    shares = {"S2_2021-02-01": 0.4, "S2_2021-02-11": 0.7, "S2_2021-03-01": -0.4}
    access = FakeAccess(scenes[:3], shares)
    (outcome,) = pin(access, s2, [site()], patch=Patch(size=66), dates=dates(composite="best"))
    (one,) = outcome.pinned
    # The first sees nothing that the second, the clearest, does not.
    assert [p.id for p in one.scene.members] == ["S2_2021-02-11", "S2_2021-03-01"]
    access = FakeAccess(scenes[::-1], {**shares, "S2_2021-03-01": 1.0})
    (outcome,) = pin(access, s2, [site()], patch=Patch(size=66), dates=dates(composite="best"))
    assert [p.id for p in outcome.pinned[0].scene.members] == ["S2_2021-03-01"]
    assert "S2_2021-04-01" not in access.looked


def test_members_lie_on_one_lattice(s2: Imagery) -> None:
    shifted = Grid(TILE.crs, Affine(10, 0, 350045, 0, -10, 5050020), 10980, 10980)
    tile = Grid(TILE.crs, Affine(10, 0, 340020, 0, -10, 5050020), 10980, 10980)
    access = FakeAccess(
        [
            scene("2021-02-01", 0.0),
            scene("2021-03-01", 1.0, grid=shifted),
            scene("2021-04-01", 2.0, grid=tile),
        ]
    )
    (outcome,) = pin(access, s2, [site()], patch=Patch(size=66), dates=dates(composite="median"))
    (one,) = outcome.pinned
    assert [p.id for p in one.scene.members] == ["S2_2021-02-01", "S2_2021-04-01"]
    assert outcome.counts["lattice"] == 1
    assert TILE.contains(one.grid)


def test_a_composite_of_clouds_is_a_gap(s2: Imagery) -> None:
    days = [f"2021-{m:02d}-{d:02d}" for m in range(1, 13) for d in (1, 11)]
    access = FakeAccess([scene(day) for day in days], {f"S2_{day}": 0.0 for day in days})
    (outcome,) = pin(access, s2, [site()], patch=Patch(size=66), dates=dates(composite="median"))
    assert outcome.gap is not None
    assert outcome.gap.reason is GapReason.TOO_CLOUDY
    assert len(access.looked) == 8 + MAX_TRIES


def test_scenes_without_their_label_map_are_no_candidates(s2: Imagery) -> None:
    product = Catalogs.load().label("dynamic-world")
    scenes = [scene("2021-02-01", 1.0), scene("2021-03-01", 2.0), scene("2021-04-01", 3.0)]
    access = FakeAccess(scenes, maps=frozenset({"S2_2021-03-01"}))
    places = [site(), site(Grid(PATCH.crs, Affine(10, 0, 401040, 0, -10, 5000040), 66, 66))]
    found = pin(access, s2, places, patch=Patch(size=66), dates=dates(), labels=[product])
    assert [[p.scene.id for p in o.pinned] for o in found] == [["S2_2021-03-01"]] * 2
    assert set(access.looked) == {"S2_2021-03-01"}
    assert found[0].counts["unlabelled"] == 2
    (outcome,) = pin(
        FakeAccess(scenes, maps=frozenset()), s2, [site()], patch=Patch(size=66), dates=dates(),
        labels=[product],
    )  # fmt: skip
    assert outcome.gap is not None
    assert outcome.gap.reason is GapReason.NO_LABEL


def test_scenes_of_days_of_which_the_mask_says_nothing_are_no_candidates() -> None:
    imagery = Catalogs.load().imagery("sentinel-2-l1c").seen_by("qa60")
    access = FakeAccess([scene("2022-03-01"), scene("2023-03-01")])
    wide = dates(period="2021-01-01/2025-01-01")
    (outcome,) = pin(access, imagery, [site()], dates=wide, patch=Patch(size=66))
    assert outcome.gap is not None
    assert dict(outcome.counts) == {"found": 2, "silent": 2}
    assert outcome.gap.reason is GapReason.TOO_CLOUDY
    assert access.looked == []


def test_scenes_of_a_median_are_looked_at_together(s2: Imagery) -> None:
    days = [f"2021-{m:02d}-{d:02d}" for m in (1, 2, 3) for d in (1, 11, 21)]
    scenes = [scene(day, float(i)) for i, day in enumerate(days)]
    scenes.append(scene("2021-01-11", 1.5, tag="b"))  # of the same overpass as the second
    access = FakeAccess(scenes, {"S2_2021-01-11": 0.0, "S2_2021-01-21": 0.05})
    (outcome,) = pin(
        access, s2, [site()], patch=Patch(size=66),
        dates=dates(composite="median", composite_scenes=5),
    )  # fmt: skip
    (one,) = outcome.pinned
    # The first gives the lattice; then four at once, two of which are cloudy; then two more: the
    # other tile of the second day, which comes first by its cloud, and the next.
    assert access.reads == 3
    assert [s.id[3:] for s in sorted(one.scene.members, key=lambda s: s.datetime)] == [
        "2021-01-01", "2021-01-11b", "2021-02-01", "2021-02-11", "2021-02-21",
    ]  # fmt: skip
    assert dict(outcome.counts) == {"found": 10, "looked": 7, "cloudy": 2}


def test_a_table_of_an_earlier_version_is_read(s2: Imagery, tmp_path) -> None:
    access = FakeAccess([scene("2021-02-01", 3.25)])
    (found,) = pin(access, s2, [site()], dates=dates(), patch=Patch(size=66))
    (gap,) = pin(FakeAccess([]), s2, [site(TILE)], dates=dates(), patch=Patch(size=66))
    SceneTable((found, gap)).write(tmp_path / "new.parquet")
    table = pq.read_table(tmp_path / "new.parquet")
    pq.write_table(
        table.drop_columns(["composite", "members", "maps", "counts"]), tmp_path / "0.parquet"
    )
    plain = replace(found, counts={})
    assert SceneTable.read(tmp_path / "0.parquet") == SceneTable((plain, replace(gap, counts={})))
    assert list(PinnedRows(tmp_path / "0.parquet")) == list(plain.pinned)
    assert [counts for _, counts, _ in counts_in(tmp_path / "0.parquet")] == [{}, {}]
    join([tmp_path / "0.parquet"], [found.site, gap.site], tmp_path / "joined.parquet")
    assert Outline.read(tmp_path / "joined.parquet").patches == 1
