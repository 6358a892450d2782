"""`plan.png`: the same bytes twice, dots where the sites are, and the word where pixels are made up."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image

from las_builder.catalogs import Catalogs, Strata
from las_builder.core.options import Patch, Sites
from las_builder.core.types import Site
from las_builder.plan import draw, draw_plan
from las_builder.plan.picture import View
from las_builder.plan.splits import COLOURS

CATALOGS = Catalogs.load()
GREEN = (0x0B, 0x6E, 0x4F)
"""Of train."""


def sites(region: object, count: int) -> list[Site]:
    return draw(
        subset="a", sites=Sites(count=count, region=region), patch=Patch(size=64),  # type: ignore[arg-type]
        imagery=CATALOGS.imagery("sentinel-2-l2a"), products=[], strata=Strata.load(CATALOGS),
        where="recipe.yaml",
    )  # fmt: skip


def picture(path: Path, of: list[Site], *, synthetic: bool = False) -> NDArray[np.uint8]:
    path.write_bytes(draw_plan(of, Strata.load(CATALOGS), title="a corpus", synthetic=synthetic))
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def dots(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels of the colour of train, without the legend above the map."""
    return like(pixels, GREEN)[int(pixels.shape[0] * 0.2) :]


def like(pixels: NDArray[np.uint8], colour: tuple[int, ...]) -> NDArray[np.bool_]:
    return np.abs(pixels.astype(int) - colour).max(axis=-1) < 40


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
    land = np.abs(empty.astype(int) - (0xDE, 0xDB, 0xD3)).max(axis=-1) < 6
    sea = np.abs(empty.astype(int) - (0xEE, 0xF3, 0xF7)).max(axis=-1) < 6
    assert land.sum() / (land.sum() + sea.sum()) == pytest.approx(0.292, abs=0.015)


@pytest.mark.parametrize(
    "region", ["NZL,FJI", [-72, -55, -70, -20], [5, 50, 60, 52], [9, 47, 9.1, 47.1]]
)
def test_no_site_is_off_the_map(region: object) -> None:
    some = sites(region, 40)
    lon, lat = np.array([s.lon for s in some]), np.array([s.lat for s in some])
    for shape in (None, 0.5):
        view = View.of(lon, lat, shape)
        x, y = view.project.transform(lon, lat)
        west, south, east, north = view.box
        assert west < x.min() <= x.max() < east
        assert south < y.min() <= y.max() < north
        assert 0.4 < view.shape < 1.3
        assert shape is None or view.shape == pytest.approx(shape, rel=0.01)


@pytest.mark.parametrize("at", [(0.0, 0.0), (179.9, -17.0), (-60.0, 80.0)])
def test_a_mesh_of_a_map_is_where_the_projection_puts_it(at: tuple[float, float]) -> None:
    lon, lat = np.array([at[0] - 0.5, at[0] + 0.5]), np.array([at[1] - 0.5, at[1] + 0.5])
    for view in (View.of(lon, lat), View.of(np.zeros(0), np.zeros(0))):
        west, south, east, north = view.box
        x, y = np.linspace(west, east, 40), np.linspace(south, north, 20)
        found = view.degrees(x, y)
        on = np.isfinite(found[0])
        assert on.mean() > 0.7
        back = np.stack(view.project.transform(found[0][on], found[1][on]))
        mesh = np.stack(np.meshgrid(x, y))[:, on]
        assert np.abs(back - mesh).max() < 1e-4 * (east - west)


def test_every_split_has_its_colour_and_reserves_are_not_drawn(tmp_path: Path) -> None:
    some = [s for s in sites([10, 45, 12, 47], 90) if s.primary]
    for split in COLOURS:
        one = [dataclasses.replace(s, split=split) for s in some]
        pixels = picture(tmp_path / f"{split}.png", one)
        colour = tuple(round(255 * c) for c in to_rgb(COLOURS[split]))
        below = pixels[int(pixels.shape[0] * 0.2) :]
        assert like(below, colour).sum() > 90 * 10, split
        others = [c for c in COLOURS if c not in (split, "buffer")]
        for other in others:
            unlike = tuple(round(255 * c) for c in to_rgb(COLOURS[other]))
            assert like(below, unlike).mean() < 0.001, (split, other)
    spare = [dataclasses.replace(s, primary=False) for s in some]
    assert not dots(picture(tmp_path / "spare.png", spare)).any()


def test_every_subset_has_a_map(tmp_path: Path) -> None:
    some = sites([10, 45, 12, 47], 60)
    many = [dataclasses.replace(s, subset=f"s{k}") for k in range(5) for s in some]
    one, five = picture(tmp_path / "1.png", some), picture(tmp_path / "5.png", many)
    assert one.shape[1] == five.shape[1]
    half = five.shape[1] // 2
    low = like(five, GREEN)[-five.shape[0] // 4 :]
    assert low[:, :half].sum() > 500
    assert low[:, half:].sum() > 500
