"""Strata: layers of every kind against what they were made of, and small ones merged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.warp
import yaml
from affine import Affine
from kit import raster

from las_builder.access.coarse import COVERS
from las_builder.access.virtual import LEAVES, VirtualEarth
from las_builder.catalogs import Catalogs, Strata
from las_builder.errors import CatalogError, LegendError, RasterError, UnknownNameError
from las_builder.plan import resolve
from las_builder.plan.strata import classes, parent, shares, stratify
from las_builder.plan.target import Target

BASE = {"title": "t", "license": "x", "attribution": "a", "verified": False, "sources": ["here"]}
BOX = [10.0, 45.0, 12.0, 46.0]


def with_layer(folder: Path, name: str, **said: object) -> Strata:
    (folder / "strata").mkdir(exist_ok=True)
    (folder / "strata" / f"{name}.yaml").write_text(yaml.safe_dump({**BASE, **said}))
    return Strata.load(Catalogs.load(folder))


def target_of(spec: object, strata: Strata) -> Target:
    return Target.of(resolve(spec, strata, ""))  # type: ignore[arg-type]


def named(name: str, target: Target) -> list[str]:
    number, names = classes(name, target)
    return [names[i] for i in number]


def test_packaged_layers_are_asked_at_the_middle_of_the_cell(strata: Strata) -> None:
    target = target_of([176, -20, -178, -12], strata)
    lon, lat = target.centres()
    zones = [strata.climate_name(c) or "none" for c in strata.climate(lon, lat)]
    assert named("climate", target) == zones
    codes = [strata.countries[i].iso3 or "none" for i in strata.country(lon, lat)]
    assert named("country", target) == codes
    letters = {"tropical": "A", "dry": "B", "temperate": "C", "continental": "D", "polar": "E"}
    assert [letters.get(g, "n") for g in named("climate-group", target)] == [z[0] for z in zones]
    assert "Melanesia" in named("m49", target)


def test_a_combination_is_every_layer_and_its_areas_add_up(strata: Strata) -> None:
    target = target_of("ESP", strata)
    found = stratify(["climate", "urbanisation"], target, 0, "r", "k")
    both = zip(named("climate", target), named("urbanisation", target), strict=True)
    assert [found.names[i] for i in found.number] == ["/".join(pair) for pair in both]
    assert found.areas.sum() == pytest.approx(target.area)
    assert list(found.names) == sorted(found.names)
    assert (parent("Cfb/urban"), parent("Cfb")) == ("Cfb", "")


def test_small_strata_are_drawn_together(strata: Strata) -> None:
    target = target_of("ESP", strata)
    every = stratify(["climate", "urbanisation"], target, 0, "r", "k")
    found = stratify(["climate", "urbanisation"], target, 6000, "r", "k")
    sizes = dict(zip(every.names, every.areas, strict=True))
    for before, after in zip(every.number[::50], found.number[::50], strict=True):
        old, new = every.names[before], found.names[after]
        if sizes[old] >= 6000:
            assert new == old
        else:
            assert new in (f"{parent(old)}/other", "other")
    assert (found.areas[[n != "other" for n in found.names]] >= 6000).all()
    assert any(n.endswith("/other") for n in found.names)
    assert found.areas.sum() == pytest.approx(target.area)
    one = stratify(["climate"], target, 1e9, "r", "k")
    assert one.names == ("other",)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32632"])
def test_a_raster_of_the_user_is_a_layer(crs: str, tmp_path: Path) -> None:
    if crs == "EPSG:4326":
        place = Affine(0.01, 0, 9.5, 0, -0.01, 46.5)
        shape = (200, 300)
    else:
        place = Affine(2000, 0, 500_000, 0, -2000, 5_150_000)
        shape = (140, 160)
    data = np.random.default_rng(0).integers(1, 4, shape).astype(np.uint8)
    data[:, 70:90] = 9  # nodata
    raster(tmp_path / "strata" / "b.tif", data, crs=crs, transform=place)
    strata = with_layer(
        tmp_path, "biome", raster={"path": "b.tif", "nodata": 9},
        classes={1: "taiga", 2: "steppe", 3: "a/b"},
    )  # fmt: skip
    target = target_of(BOX, strata)
    found = np.array(named("biome", target))
    lon, lat = target.centres()
    with rasterio.open(tmp_path / "strata" / "b.tif") as file:
        x, y = rasterio.warp.transform("EPSG:4326", crs, lon, lat)
        want = np.array([v[0] for v in file.sample(zip(x, y, strict=True))])
        inside = [
            file.bounds.left < a < file.bounds.right and file.bounds.bottom < b < file.bounds.top
            for a, b in zip(x, y, strict=True)
        ]
    words = np.where(
        inside, np.array(["none", "taiga", "steppe", "a-b", *["none"] * 6])[want], "none"
    )
    # An overview takes one pixel of several: no more than a cell away.
    assert (found == words).mean() > (0.99 if crs == "EPSG:32632" else 0.3)
    assert set(found) == {"none", "taiga", "steppe", "a-b"}
    assert (found == "none").mean() == pytest.approx((words == "none").mean(), abs=0.03)


def test_a_raster_is_read_over_the_antimeridian(tmp_path: Path) -> None:
    place = Affine(1, 0, 0, 0, -1, 90)  # 0 to 360 degrees
    data = np.tile(np.arange(360) // 180 + 1, (180, 1)).astype(np.uint8)
    raster(tmp_path / "strata" / "half.tif", data, crs="EPSG:4326", transform=place)
    strata = with_layer(
        tmp_path, "half", raster={"path": "half.tif"}, classes={1: "east", 2: "west"}
    )
    target = target_of([176, -20, -178, -12], strata)
    lon, _ = target.centres()
    assert named("half", target) == ["east" if x > 0 else "west" for x in lon]


def test_rasters_that_say_too_little_are_refused(tmp_path: Path) -> None:
    data = np.full((20, 30), 7, np.uint8)
    place = Affine(0.1, 0, 9.5, 0, -0.1, 46.5)
    folder = tmp_path / "strata"
    raster(folder / "nocrs.tif", data, crs=None, transform=place)
    raster(folder / "ok.tif", data, crs="EPSG:4326", transform=place)
    raster(folder / "real.tif", data.astype(np.float32), crs="EPSG:4326", transform=place)
    said = {"classes": {1: "a", 2: "b"}}
    cases = [
        ({"path": "ok.tif"}, LegendError, "`classes` is 7; allowed: the codes 1, 2"),
        ({"path": "ok.tif", "band": 2}, RasterError, "band"),
        ({"path": "real.tif"}, RasterError, "whole numbers"),
        ({"path": "gone.tif"}, RasterError, "gone.tif"),
    ]
    for i, (source, kind, words) in enumerate(cases):
        strata = with_layer(tmp_path, f"l{i}", raster=source, **said)
        with pytest.raises(kind, match=words):
            classes(f"l{i}", target_of(BOX, strata))
    strata = with_layer(tmp_path, "nocrs", raster={"path": "nocrs.tif"}, **said)
    with pytest.raises(RasterError, match="says its CRS"):
        classes("nocrs", target_of(BOX, strata))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "exactly one of file, of, near"),
        ({"of": "climate"}, "`groups` with `of`"),
        ({"raster": {"path": "x"}}, "`classes`"),
        ({"cover": {"cell": 0.07, "pick": "dominant", "provider": "virtual"},
          "classes": {1: "tree"}}, "whole multiple"),
        ({"cover": {"cell": 0.1, "pick": "rarest", "provider": "virtual"},
          "classes": {1: "tree"}}, "rarest"),
    ],
)  # fmt: skip
def test_declarations_that_cannot_be(said: dict, words: str, tmp_path: Path) -> None:
    strata = with_layer(tmp_path, "odd", **said)
    with pytest.raises(CatalogError, match=words):
        classes("odd", target_of(BOX, strata))


def test_groups_name_classes_that_exist(tmp_path: Path, strata: Strata) -> None:
    odd = with_layer(tmp_path, "odd", of="climate", groups={"x": ["Cfb", "Qqq"]})
    with pytest.raises(CatalogError, match="'Qqq'; allowed: classes of climate"):
        classes("odd", target_of(BOX, odd))
    with pytest.raises(UnknownNameError, match="landcover"):
        classes("landcovr", target_of(BOX, strata))


def test_land_cover_of_the_virtual_earth(strata: Strata, catalogs: Catalogs) -> None:
    target = target_of(BOX, strata)
    found, names = shares("landcover", target)
    assert set(names) <= set(COVERS)
    assert found.sum(axis=1) == pytest.approx(1, abs=0.02)
    # The truth itself, at other places of one coarse cell.
    lon, lat = target.centres()
    cell = (np.floor((90 - lat) * 4) * 1440 + np.floor((lon + 180) * 4)).astype(int)
    dominant = np.array(named("landcover", target))
    rarest = np.array(named("landcover-rarest", target))
    rng = np.random.default_rng(0)
    for one in np.unique(cell)[::9]:
        rows = np.flatnonzero(cell == one)
        assert len(set(dominant[rows])) == len(set(rarest[rows])) == 1
        row, column = divmod(int(one), 1440)
        x, y = (column + rng.random(500)) / 4 - 180, 90 - (row + rng.random(500)) / 4
        truth = [LEAVES[i].split(".")[0] for i in VirtualEarth(catalogs).truth(x, y)]
        for k, name in enumerate(names):
            p = found[rows[0], k]
            assert truth.count(name) / 500 == pytest.approx(p, abs=0.45)
        picked = names.index(dominant[rows[0]])
        assert found[rows[0]].argmax() == picked
        scarce = names.index(rarest[rows[0]])
        assert found[rows[0], scarce] >= 0.05 or scarce == picked
    assert dominant.tolist() != rarest.tolist()


def test_land_cover_shares_of_a_raster(tmp_path: Path) -> None:
    place = Affine(0.01, 0, 9, 0, -0.01, 47)
    data = np.ones((300, 400), np.uint8)
    data[:, 200:] = 2  # east of 11°
    data[:50] = 3  # north of 46.5°: not in the box
    strata = with_layer(
        tmp_path, "cover",
        cover={"cell": 0.1, "pick": "rarest", "above": 0.3, "rarest": [2, 1], "samples": 10,
               "raster": {"path": "c.tif", "nodata": 3}},
        classes={1: "a", 2: "b"},
    )  # fmt: skip
    raster(tmp_path / "strata" / "c.tif", data, crs="EPSG:4326", transform=place)
    target = target_of(BOX, strata)
    lon, _ = target.centres()
    assert named("cover", target) == ["b" if x > 11 else "a" for x in lon]
    found, names = shares("cover", target)
    assert names == ("a", "b")
    assert found[lon > 11].tolist() == [[0, 1]] * int((lon > 11).sum())
    raster(tmp_path / "strata" / "c.tif", data * 2, crs="EPSG:4326", transform=place)
    with pytest.raises(LegendError, match="`classes` is 4"):
        shares("cover", target)


def test_no_more_strata_than_are_asked_for_and_the_smallest_go_first(strata: Strata) -> None:
    target = target_of("ESP", strata)
    every = stratify(["climate", "urbanisation"], target, 0, "r", "k")
    sizes = dict(zip(every.names, every.areas, strict=True))
    for most in (len(sizes), len(sizes) - 1, 5, 1):
        found = stratify(["climate", "urbanisation"], target, 0, "r", "k", most=most)
        assert len(found.names) <= most
        assert found.areas.sum() == pytest.approx(target.area)
        kept = [sizes[name] for name in found.names if name in sizes]
        moved = [sizes[name] for name in sizes if name not in found.names]
        assert max(moved, default=0) < min(kept, default=np.inf)
    assert stratify(["climate"], target, 0, "r", "k", most=99).names == tuple(
        sorted(set(named("climate", target)))
    )
