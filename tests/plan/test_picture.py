"""`plan.png`: the same bytes twice, dots where the sites are, and the word where pixels are made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from las_builder.catalogs import Catalogs, Strata
from las_builder.core.options import Patch, Sites
from las_builder.core.types import Site
from las_builder.plan import draw, draw_plan
from las_builder.plan.picture import _view

CATALOGS = Catalogs.load()
GREEN = (0x0B, 0x6E, 0x4F)
"""Of the first subset."""


def sites(region: object, count: int) -> list[Site]:
    return draw(
        subset="a", sites=Sites(count=count, region=region), patch=Patch(size=64),  # type: ignore[arg-type]
        imagery=CATALOGS.imagery("sentinel-2-l2a"), products=[], strata=Strata.load(CATALOGS),
        where="recipe.yaml",
    )  # fmt: skip


def picture(path: Path, of: list[Site], *, synthetic: bool = False) -> NDArray[np.uint8]:
    draw_plan(path, of, Strata.load(CATALOGS), title="a corpus", synthetic=synthetic)
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def dots(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels of the first subset's colour, without the legend above the map."""
    close = np.abs(pixels.astype(int) - GREEN).max(axis=-1) < 40
    return close[int(pixels.shape[0] * 0.2) :]


def test_equal_sites_give_equal_bytes_and_synthetic_says_so(tmp_path: Path) -> None:
    some = sites([176, -20, -178, -12], 60)
    plain = picture(tmp_path / "1.png", some)
    picture(tmp_path / "2.png", some)
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()
    marked = picture(tmp_path / "3.png", some, synthetic=True)
    assert marked.shape == plain.shape
    changed = (marked != plain).any(axis=-1)
    assert 0.005 < changed.mean() < 0.3  # a word across the map, not another map
    assert marked[changed].mean() < plain[changed].mean()


@pytest.mark.parametrize(("region", "count"), [("global", 300), ([176, -20, -178, -12], 60)])
def test_the_sites_are_in_the_picture(tmp_path: Path, region: object, count: int) -> None:
    some = sites(region, count)
    full = picture(tmp_path / "full.png", some)
    assert np.unique(full.reshape(-1, 3), axis=0).shape[0] > 50
    marks = dots(full)
    # Sites on both sides of ±180° are one group in the middle, not two at the edges.
    rows, columns = np.nonzero(marks)
    assert marks.sum() > count * 5
    assert np.ptp(columns) > marks.shape[1] * 0.4
    assert np.ptp(rows) > marks.shape[0] * 0.25
    if region != "global":
        assert marks.shape[1] * 0.2 < np.median(columns) < marks.shape[1] * 0.8


def test_nothing_to_draw_is_a_map_all_the_same(tmp_path: Path) -> None:
    empty = picture(tmp_path / "empty.png", [])
    assert not dots(empty).any()
    # Land is 29 % of the globe, which fills most of the picture: areas are true.
    land = np.abs(empty.astype(int) - (0xD9, 0xD6, 0xCF)).max(axis=-1) < 6
    sea = np.abs(empty.astype(int) - (0xEE, 0xF3, 0xF7)).max(axis=-1) < 6
    assert land.sum() / (land.sum() + sea.sum()) == pytest.approx(0.292, abs=0.015)


@pytest.mark.parametrize(
    "region", ["NZL,FJI", [-72, -55, -70, -20], [5, 50, 60, 52], [9, 47, 9.1, 47.1]]
)
def test_no_site_is_off_the_map(region: object) -> None:
    some = sites(region, 40)
    lon, lat = np.array([s.lon for s in some]), np.array([s.lat for s in some])
    project, (west, south, east, north) = _view(lon, lat)
    x, y = project.transform(lon, lat)
    assert west < x.min() <= x.max() < east
    assert south < y.min() <= y.max() < north
    assert 0.4 < (north - south) / (east - west) < 1.3
