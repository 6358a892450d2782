"""Draws where maps go wrong: across ±180°, in Antarctica, on Svalbard; land shares by pyproj."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pyproj import Geod, Transformer

from las_builder.catalogs import Catalogs, Strata
from las_builder.core.options import Patch, Sites
from las_builder.core.types import Site
from las_builder.plan import draw, write_plan

GEOD = Geod(ellps="WGS84")
CATALOGS = Catalogs.load()
STRATA = Strata.load(CATALOGS)
FIJI, CHUKOTKA = (176, -20, -178, -12), (170, 62, -168, 70)


def sites_of(
    region: object, count: int, imagery: str = "sentinel-2-l2a", **more: Any
) -> list[Site]:
    return draw(
        subset="a", sites=Sites(count=count, region=region, **more), patch=Patch(size=64),  # type: ignore[arg-type]
        imagery=CATALOGS.imagery(imagery), products=[], strata=STRATA, where="recipe.yaml",
    )  # fmt: skip


def places(sites: list[Site]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.array([s.lon for s in sites]), np.array([s.lat for s in sites])


def countries(sites: list[Site]) -> set[str]:
    return {STRATA.countries[i].iso2 for i in STRATA.country(*places(sites)).tolist()}


def land_km2(west: int, south: int, east: int, north: int) -> float:
    """Land in a box of whole degrees: shares of cells times their areas by pyproj."""
    total = 0.0
    for row in range((90 - north) * 20, (90 - south) * 20):
        top, low = 90 - row / 20, 90 - (row + 1) / 20
        area, _ = GEOD.polygon_area_perimeter([0, 0.05, 0.05, 0], [low, low, top, top])
        share = STRATA.land_cells[row, (west + 180) * 20 : (east + 180) * 20]
        total += abs(area) / 1e6 * float(share.sum(dtype=np.float64))
    return total


@pytest.mark.parametrize(
    ("box", "zones", "codes"),
    [
        (FIJI, {"EPSG:32760", "EPSG:32701"}, {"FJ"}),
        (CHUKOTKA, {"EPSG:32659", "EPSG:32660", "EPSG:32601", "EPSG:32602", "EPSG:32603"}, {"RU"}),
    ],
)
def test_a_box_across_the_antimeridian(
    box: tuple[int, int, int, int], zones: set[str], codes: set[str]
) -> None:
    west, south, east, north = box
    sites = sites_of(list(box), 400)
    lon, lat = places(sites)
    assert ((lat >= south) & (lat <= north)).all()
    assert ((lon >= west) | (lon <= east)).all()
    assert ((lon >= -180) & (lon < 180)).all()
    assert {s.grid.crs for s in sites} <= zones
    assert codes <= countries(sites)
    left, right = land_km2(west, south, 180, north), land_km2(-180, south, east, north)
    share = left / (left + right)
    assert 0 < (lon > 0).mean() < 1
    assert (lon > 0).mean() == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / len(lon)))
    weight = sum(s.weight_km2 or 0 for s in sites if s.primary)
    assert weight == pytest.approx(left + right, rel=0.01)


@pytest.mark.parametrize("box", [FIJI, CHUKOTKA])
def test_spacing_holds_across_the_antimeridian(box: tuple[int, int, int, int]) -> None:
    spacing = 3.0 if box is FIJI else 12.0
    sites = sites_of(list(box), 250, spacing_km=spacing)
    lon, lat = places(sites)
    i, j = np.triu_indices(lon.size, 1)
    apart = GEOD.inv(lon[i], lat[i], lon[j], lat[j])[2] / 1000
    assert spacing - 1e-6 <= apart.min() < spacing * 1.2
    west, south, east, north = box
    land = land_km2(west, south, 180, north) + land_km2(-180, south, east, north)
    weight = sum(s.weight_km2 or 0 for s in sites if s.primary)
    assert weight == pytest.approx(land, rel=0.05)


def near_centre(site: Site, step: float) -> bool:
    """Whether the grid's middle is within half a step of the place, in x and in y, by pyproj."""
    to = Transformer.from_crs("EPSG:4326", site.grid.crs, always_xy=True)
    x, y = to.transform(site.lon, site.lat)
    w, s, e, n = site.grid.bounds
    return abs((w + e) / 2 - x) <= step / 2 + 1e-3 and abs((s + n) / 2 - y) <= step / 2 + 1e-3


def test_antarctica() -> None:
    sites = sites_of("Antarctica", 100, imagery="landsat-c2-l2")
    lon, lat = places(sites)
    assert (lat < -60).all()
    assert lat.min() >= -82.7  # the imagery's extent
    assert countries(sites) == {"AQ"}
    assert {s.grid.crs for s in sites if s.lat < -63} == {"EPSG:3031"}
    assert all(near_centre(s, 30) for s in sites)
    assert np.histogram(lon, bins=[-180, -90, 0, 90, 180])[0].min() > 5


def test_svalbard() -> None:
    sites = sites_of([10, 76, 32, 81], 100)
    lon, lat = places(sites)
    assert ((lat >= 76) & (lat <= 81) & (lon >= 10) & (lon <= 32)).all()
    assert countries(sites) <= {"SJ", "NO"}
    # The MGRS knows no 32X and no 34X.
    assert {s.grid.crs for s in sites} == {"EPSG:32633", "EPSG:32635"}
    assert all((s.grid.crs == "EPSG:32633") == (s.lon < 21) for s in sites)
    cell = CATALOGS.imagery("sentinel-2-l2a").lattice.cell
    assert cell is not None
    assert all(near_centre(s, cell) for s in sites)


def test_equal_seeds_equal_bytes(tmp_path: Path) -> None:
    for name in ("1", "2"):
        write_plan(tmp_path / name, sites_of(list(FIJI), 100, spacing_km=3))
    write_plan(tmp_path / "3", sites_of(list(FIJI), 100, spacing_km=3, seed=1))
    first, second, other = ((tmp_path / name).read_bytes() for name in ("1", "2", "3"))
    assert first == second
    assert first != other
