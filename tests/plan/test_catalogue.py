from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from affine import Affine
from pyproj import Geod

from las_builder.catalogs import Imagery, Strata
from las_builder.core.grid import Grid
from las_builder.core.options import Patch, Sites
from las_builder.core.types import Scene, Site
from las_builder.errors import RasterError, RegionError
from las_builder.plan import from_catalogue


def scene(name: str, grid: Grid, day: int = 1) -> Scene:
    when = datetime(2021, 6, day, tzinfo=UTC)
    return Scene(id=name, datetime=when, cloud_cover=None, grid=grid, assets={})


KENYA = Grid("EPSG:32737", Affine(10, 0, 300_003.7, 0, -10, 9_800_011.2), 1000, 700)
FIJI = Grid("EPSG:32760", Affine(10, 0, 770_000, 0, -10, 8_160_000), 3000, 3000)


def run(scenes, strata: Strata, imagery: Imagery, count: int = 5, **patch) -> list[Site]:
    return from_catalogue(
        subset="s", sites=Sites(count=count, region="catalogue", seed=1), patch=Patch(**patch),
        imagery=imagery, scenes=scenes, strata=strata, where="recipe.yaml",
    )  # fmt: skip


def test_source_windows_are_the_raster_s_own_pixels(strata: Strata, sentinel: Imagery) -> None:
    scenes = [scene("a", KENYA), scene("b", KENYA, day=9)]  # one grid at two dates
    sites = run(scenes, strata, sentinel, count=6, size=200, lattice="source")
    corners = {((s.grid.transform.c - 300_003.7) / 10, (9_800_011.2 - s.grid.transform.f) / 10)
               for s in sites}  # fmt: skip
    assert len(sites) == 15
    assert corners == {(200.0 * i, 200.0 * j) for i in range(5) for j in range(3)}
    assert all(KENYA.contains(s.grid) and s.grid.shape == (200, 200) for s in sites)
    assert [s.primary for s in sites] == [True] * 6 + [False] * 9
    assert [s.rank for s in sites] == list(range(15))
    assert {s.cell for s in sites} == {("catalogue", "all")}
    ring = sites[0].grid.outline_lonlat(32)
    area = abs(Geod(ellps="WGS84").polygon_area_perimeter(ring[:, 0], ring[:, 1])[0]) / 1e6
    assert sites[0].weight_km2 == pytest.approx(15 * area / 6, rel=1e-6)
    assert sites[0].density == pytest.approx(6 / 15 / area, rel=1e-6)


def test_order_of_scenes_changes_nothing(strata: Strata, sentinel: Imagery) -> None:
    scenes = [scene("a", KENYA), scene("f", FIJI)]
    one = run(scenes, strata, sentinel, size=256, lattice="source")
    assert run(scenes[::-1], strata, sentinel, size=256, lattice="source") == one


def test_every_window_has_the_same_chance(strata: Strata, sentinel: Imagery) -> None:
    seen = dict.fromkeys(range(15), 0)
    for seed in range(300):
        sites = from_catalogue(
            subset="s", sites=Sites(count=3, region="catalogue", seed=seed),
            patch=Patch(size=200, lattice="source"), imagery=sentinel,
            scenes=[scene("a", KENYA)], strata=strata, where="",
        )  # fmt: skip
        for site in sites[:3]:
            column, row = site.grid.transform.c - 300_003.7, 9_800_011.2 - site.grid.transform.f
            seen[round(column / 2000) + 5 * round(row / 2000)] += 1
    counts = np.array(list(seen.values()))
    assert counts.sum() == 900
    assert ((counts - 60) ** 2 / 60).sum() < 29.1  # chi-squared, 14 degrees of freedom, p = 0.01


def test_a_raster_smaller_than_the_patch_is_refused(strata: Strata, sentinel: Imagery) -> None:
    for lattice in ("source", "declared"):
        with pytest.raises(
            RasterError,
            match=r"`patch.size` is 800; allowed: at most what scene a holds, 1000 x 700",
        ):
            run([scene("a", KENYA)], strata, sentinel, size=800, lattice=lattice)


def test_a_raster_without_place_is_refused(strata: Strata, sentinel: Imagery) -> None:
    nowhere = Grid(None, Affine(1, 0, 0, 0, -1, 0), 900, 900)
    with pytest.raises(RasterError, match="scene x"):
        run([scene("x", nowhere)], strata, sentinel, size=64, lattice="source")
    with pytest.raises(RegionError, match="holds scenes"):
        run([], strata, sentinel, size=64)


def test_declared_lattice_draws_patches_that_fit(strata: Strata, sentinel: Imagery) -> None:
    sites = run([scene("a", KENYA)], strata, sentinel, count=12, size=200)
    assert len(sites) >= 12
    for site in sites:
        assert KENYA.contains(site.grid)
        assert sentinel.lattice.holds(site.grid.crs, site.grid.transform)
    inner = 10 * (1000 - 200 - 6) * 10 * (700 - 200 - 6) / 1e6
    assert sum(s.weight_km2 for s in sites if s.primary) == pytest.approx(inner, rel=0.02)


def test_declared_lattice_across_the_antimeridian(strata: Strata, sentinel: Imagery) -> None:
    west = Grid("EPSG:32701", Affine(10, 0, 180_000, 0, -10, 8_160_000), 3000, 3000)
    sites = run([scene("f", FIJI), scene("w", west)], strata, sentinel, count=60, size=64)
    lon, lat = np.array([s.lon for s in sites]), np.array([s.lat for s in sites])
    assert strata.is_land(lon, lat).all()
    assert (lon > 179).any()
    assert (lon < -179).any()
    for site in sites:
        x, y = site.grid.centre_lonlat()
        assert any(
            g.bounds[0] <= px <= g.bounds[2] and g.bounds[1] <= py <= g.bounds[3]
            for g in (FIJI, west)
            for px, py in [_in(g, x, y)]
        )


def _in(grid: Grid, lon: float, lat: float) -> tuple[float, float]:
    from pyproj import Transformer

    return Transformer.from_crs("EPSG:4326", grid.crs, always_xy=True).transform(lon, lat)
