"""Pixels: on the grid, the same whoever asks, decoded by the declaration."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from affine import Affine
from pyproj import Transformer

from las_builder.access import ReadRequest
from las_builder.access.virtual import LEAVES, VirtualEarth
from las_builder.catalogs import Catalogs, Imagery
from las_builder.core.grid import Grid
from las_builder.core.types import Chip, Gap, GapReason, Scene
from las_builder.errors import SourceError

Visit = Callable[..., Any]  # the fixture of conftest.py


def read(
    earth: VirtualEarth, imagery: Imagery, scene: Scene, grid: Grid, bands: tuple[str, ...] = ()
) -> Chip:
    names = bands or tuple(b.name for b in imagery.bands)
    request = ReadRequest(site="a", scene=scene, grid=grid, bands=names)
    chip = earth.read(imagery, [request])[0]
    assert isinstance(chip, Chip)
    assert chip.grid == grid
    assert chip.bands == names
    return chip


def moved(grid: Grid, columns: float, rows: float, size: int | None = None) -> Grid:
    """The grid some of its pixels further east and south."""
    t = grid.transform
    place = Affine(t.a, 0.0, t.c + columns * t.a, 0.0, t.e, t.f + rows * t.e)
    return Grid(grid.crs, place, size or grid.width, size or grid.height)


PLACES = [
    ("sentinel-2-l2a", 11.5, 48.2, None),
    ("sentinel-2-l1c", 18.6, -33.5, None),
    ("landsat-c2-l2", 18.6, -33.5, None),
    ("landsat-c2-l2", -60.0, -75.0, None),
    ("naip", -93.5, 42.1, 0.6),
]


@pytest.mark.parametrize(("name", "lon", "lat", "pixel"), PLACES)
def test_overlapping_requests_agree_on_every_pixel(
    earth: VirtualEarth, visit: Visit, name: str, lon: float, lat: float, pixel: float | None
) -> None:
    period = "2018-01-01/2022-01-01" if name == "naip" else "2021-05-01/2021-07-01"
    if lat < -60:  # no sun there in June
        period = "2021-11-01/2022-01-01"
    imagery, grid, scenes = visit(name, lon, lat, pixel=pixel, period=period)
    scene = max(scenes, key=lambda s: s.cloud_cover)
    t = scene.grid.transform
    # On the scene's own pixels; NAIP scenes have an origin of their own.
    start = [round((grid.transform.c - t.c) / t.a), round((t.f - grid.transform.f) / t.a)]
    grid = moved(Grid(grid.crs, t, 66, 66), *start)
    one = read(earth, imagery, scene, grid)
    other = read(earth, imagery, scene, moved(grid, 13, 29, 100))
    assert not one.resampled
    assert one.inside.all()
    assert one.data.dtype == imagery.dtype
    assert np.array_equal(one.data[:, 29:, 13:], other.data[:, :37, :53])
    alone = read(earth, imagery, scene, moved(grid, 40, 50, 8), (imagery.bands[-1].name,))
    assert np.array_equal(alone.data[0], one.data[-1, 50:58, 40:48])
    assert len(np.unique(one.data)) > 20


def test_coarse_bands_are_whole_pixels_of_the_tile(earth: VirtualEarth, visit: Visit) -> None:
    imagery, grid, scenes = visit("sentinel-2-l1c", 11.5, 48.2)
    chip = read(earth, imagery, scenes[0], moved(grid, 7, 4))
    for band, layer in zip(imagery.bands, chip.data, strict=True):
        k = round(band.gsd / 10)
        # A 20 m pixel starts where the tile's does: 7 columns on is inside one.
        x = (7 + np.arange(66)) // k
        y = (4 + np.arange(66)) // k
        blocks = {}
        for i in range(66):
            for j in range(66):
                blocks.setdefault((y[i], x[j]), set()).add(int(layer[i, j]))
        assert all(len(values) == 1 for values in blocks.values()), band.name
        assert len({next(iter(v)) for v in blocks.values()}) > 10


@pytest.mark.parametrize("name", ["sentinel-2-l2a", "landsat-c2-l2"])
def test_qa_tells_the_clouds(earth: VirtualEarth, visit: Visit, name: str) -> None:
    imagery, grid, scenes = visit(name, 11.5, 48.2, size=264, period="2021-04-01/2021-11-01")
    qa = imagery.validity.band
    bright = next(b for b in imagery.bands if b.common_name == "blue")
    shares = []
    for scene in sorted(scenes, key=lambda s: s.cloud_cover or 0)[::6]:
        request = ReadRequest(site="a", scene=scene, grid=grid, bands=(qa,), categorical=True)
        chip = earth.read(imagery, [request])[0]
        assert isinstance(chip, Chip)
        assert chip.inside.all()
        clear = imagery.validity.decode(chip.data[0].astype(np.int64))
        shares.append(clear.mean())
        scale, offset = imagery.radiometry(scene, bright.name, provider="virtual")
        blue = read(earth, imagery, scene, grid, (bright.name,)).data[0] * scale + offset
        # In this land of fields and woods only clouds are this bright. Detectors miss some edges,
        # and what is thin is flagged before it is bright.
        if clear.mean() > 0.1:
            assert (blue[clear] > 0.3).mean() < 0.05
        if (blue > 0.3).mean() > 0.1:
            assert clear[blue > 0.3].mean() < 0.1
        shadow = np.isin(chip.data[0], (3, 23888))
        assert not (shadow & clear).any()
        if shadow.mean() > 0.02 and clear.mean() > 0.1:
            assert blue[shadow].mean() < blue[clear].mean()
    assert min(shares) < 0.2
    assert max(shares) > 0.95


def test_qa_names_the_cover(earth: VirtualEarth, visit: Visit) -> None:
    for lon, lat, scl in ((-40.0, 72.0, 11), (-30.0, 30.0, 6), (-61.0, -4.0, 4), (5.0, 24.0, 5)):
        imagery, grid, scenes = visit("sentinel-2-l2a", lon, lat)
        values = np.concatenate(
            [read(earth, imagery, s, grid, ("SCL",)).data.ravel() for s in scenes]
        )
        clear = values[np.isin(values, imagery.validity.clear_values)]
        assert (clear == scl).mean() > 0.5, LEAVES
        assert read(earth, imagery, scenes[0], grid, ("SCL",)).data.dtype == np.uint8


def test_numbers_follow_the_processing_baseline(earth: VirtualEarth, visit: Visit) -> None:
    physical = {}
    for period, baseline in (
        ("2021-06-01/2021-08-01", "03.01"),
        ("2022-06-01/2022-08-01", "05.10"),
    ):
        imagery, grid, scenes = visit("sentinel-2-l2a", -40.0, 72.0, period=period)
        scene = min(scenes, key=lambda s: s.cloud_cover)
        assert scene.properties["s2:processing_baseline"] == baseline
        number = float(np.median(read(earth, imagery, scene, grid, ("B11",)).data))
        # Ice is dark in the shortwave: reflectance near 0.10.
        physical[baseline] = (number - (1000 if baseline == "05.10" else 0)) / 10000
    assert physical["03.01"] == pytest.approx(0.10, abs=0.02)
    assert physical["05.10"] == pytest.approx(physical["03.01"], abs=0.01)


def test_signatures_have_the_published_shapes(earth: VirtualEarth, visit: Visit) -> None:
    def spectrum(lon: float, lat: float) -> dict[str, float]:
        imagery, grid, scenes = visit(
            "sentinel-2-l2a", lon, lat, period="2021-04-01/2021-10-01", max_cloud=60
        )
        blue = [np.median(read(earth, imagery, scene, grid, ("B02",)).data) for scene in scenes]
        chip = read(earth, imagery, scenes[int(np.argmin(blue))], grid)  # no cloud in the patch
        return {
            b.name: float(np.median(layer)) / 10000
            for b, layer in zip(imagery.bands, chip.data, strict=True)
        }

    forest, sand, sea = spectrum(-61.0, -4.0), spectrum(5.0, 24.0), spectrum(-30.0, 30.0)
    assert forest["B08"] > 5 * forest["B04"]
    assert forest["B03"] > forest["B04"]
    assert sand["B02"] < sand["B04"] < sand["B11"]
    assert max(sea.values()) < 0.05
    assert sea["B02"] > sea["B08"]


def test_fields_are_greener_in_summer(earth: VirtualEarth, visit: Visit) -> None:
    def ndvi(lon: float, lat: float, period: str) -> float:
        imagery, grid, scenes = visit("landsat-c2-l2", lon, lat, size=132, period=period)
        seen = []
        for scene in scenes:
            red, nir, qa = read(earth, imagery, scene, grid, ("SR_B4", "SR_B5", "QA_PIXEL")).data
            red, nir = (v * 0.0000275 - 0.2 for v in (red, nir))
            seen.append(((nir - red) / (nir + red))[imagery.validity.decode(qa)])
        return float(np.median(np.concatenate(seen)))

    summer, winter = "2021-07-01/2021-08-15", "2021-01-01/2021-02-15"
    assert ndvi(-93.5, 42.1, summer) > ndvi(-93.5, 42.1, winter) + 0.15
    assert ndvi(-62.0, -33.5, winter) > ndvi(-62.0, -33.5, summer) + 0.15


def test_outside_the_scene_is_nothing(earth: VirtualEarth, visit: Visit) -> None:
    imagery, _, scenes = visit("sentinel-2-l2a", 11.5, 48.2)
    scene = scenes[0]
    corner = moved(Grid(scene.grid.crs, scene.grid.transform, 66, 66), -30, -42)
    chip = read(earth, imagery, scene, corner, ("B02", "B11", "B01", "SCL"))
    want = np.zeros((66, 66), bool)
    want[42:, 30:] = True
    assert np.array_equal(chip.inside, want)
    assert (chip.data[:, ~want] == 0).all()
    assert (chip.data[:, want] > 0).all()
    away = ReadRequest(site="a", scene=scene, grid=moved(corner, -500, 0), bands=("B02",))
    assert earth.read(imagery, [away]) == [Gap("a", GapReason.NOT_COVERED, scene.id)]
    elsewhere = imagery.lattice.grid_at(-70.0, -10.0, 66)
    request = ReadRequest(site="a", scene=scene, grid=elsewhere, bands=("B02",))
    assert isinstance(earth.read(imagery, [request])[0], Gap)


def test_other_pixels_than_the_scenes(earth: VirtualEarth, visit: Visit) -> None:
    imagery, grid, scenes = visit("landsat-c2-l2", 11.5, 48.2)
    scene = min(scenes, key=lambda s: s.cloud_cover)
    names = ("SR_B4", "SR_B5", "QA_PIXEL")
    own = read(earth, imagery, scene, grid, names)

    # Three times finer, edges shared: repeated.
    t = grid.transform
    finer = Grid(grid.crs, Affine(10, 0, t.c + 20, 0, -10, t.f - 50), 90, 90)
    chip = read(earth, imagery, scene, finer, names)
    assert not chip.resampled
    repeated = own.data.repeat(3, axis=1).repeat(3, axis=2)
    assert np.array_equal(chip.data, repeated[:, 5:95, 2:92])

    # Three times coarser: averaged, the validity band picked.
    coarser = read(
        earth, imagery, scene, Grid(grid.crs, Affine(90, 0, t.c, 0, -90, t.f), 22, 22), names
    )
    mean = own.data[:2].reshape(2, 22, 3, 22, 3).mean(axis=(2, 4))
    assert np.abs(coarser.data[:2] - mean).max() <= 0.5
    assert np.array_equal(coarser.data[2], own.data[2, 1::3, 1::3])

    # Neither: warped, here by hand for each pixel.
    shifted = moved(grid, 20.4, 20.7, 12)
    other = Grid("EPSG:3035", Affine(30, 0, 0, 0, -30, 0), 12, 12)
    lon, lat = grid.centre_lonlat()
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:3035", always_xy=True).transform(lon, lat)
    other = replace(other, transform=Affine(30, 0, x - 180, 0, -30, y + 180))
    for target in (shifted, other):
        chip = read(earth, imagery, scene, target, names)
        assert chip.resampled
        assert chip.inside.all()
        back = Transformer.from_crs(target.crs, grid.crs, always_xy=True)
        for i, j in ((0, 0), (3, 7), (11, 11), (5, 2)):
            place = target.transform
            px, py = back.transform(place.c + (j + 0.5) * 30, place.f - (i + 0.5) * 30)
            c, r = (px - t.c) / 30, (t.f - py) / 30
            assert chip.data[2, i, j] == own.data[2, int(r), int(c)]
            c, r = c - 0.5, r - 0.5
            j0, i0 = int(np.floor(c)), int(np.floor(r))
            u, v = c - j0, r - i0
            four = own.data[:2, i0 : i0 + 2, j0 : j0 + 2].astype(float)
            want = (four * np.outer([1 - v, v], [1 - u, u])).sum(axis=(1, 2))
            assert np.abs(chip.data[:2, i, j] - want).max() <= 0.51


def test_check_refuses_what_is_not_declared(earth: VirtualEarth, catalogs: Catalogs) -> None:
    for name in catalogs.names("imagery"):
        earth.check(catalogs.imagery(name), [], [])
    for name in catalogs.names("labels"):
        product = catalogs.label(name)
        if product.at("virtual") is not None:
            earth.check(None, [], [product])
            continue
        with pytest.raises(SourceError, match=f"{name}: `source` is 'virtual'"):
            earth.check(None, [], [product])
    imagery = catalogs.imagery("sentinel-2-l2a")
    with pytest.raises(SourceError, match="sentinel-2-l2a"):
        earth.search(imagery.model_copy(update={"where": imagery.where[:1]}), [])
    odd = imagery.model_copy(
        update={"validity": imagery.validity.model_copy(update={"band": "CLD"})}
    )
    with pytest.raises(SourceError, match="SCL, QA_PIXEL"):
        earth.read(odd, [])


def test_speed_of_a_patch(earth: VirtualEarth, visit: Visit) -> None:
    imagery, grid, scenes = visit("sentinel-2-l1c", 11.5, 48.2, size=264)
    times = []
    for k in range(3):
        place = moved(grid, 300.0 * k, 0)
        start = time.process_time()
        read(earth, imagery, scenes[0], place)
        times.append(time.process_time() - start)
    assert min(times) < 2 * 0.600  # and room for a busy machine


@pytest.mark.parametrize(
    ("name", "air"),
    [
        ("sentinel-2-l1c", True),
        ("landsat-c2-l1", True),
        ("sentinel-2-l2a", False),
        ("hls2-s30", False),  # has a cirrus band, and is of the surface all the same
        ("hls2-l30", False),
    ],
)
def test_only_the_top_of_the_atmosphere_holds_the_air(
    earth: VirtualEarth, visit: Visit, name: str, air: bool
) -> None:
    imagery, grid, scenes = visit(name, 11.5, 48.2, period="2021-05-01/2021-10-01")
    scene = min(scenes, key=lambda s: s.cloud_cover or 0)
    coastal = next(b.name for b in imagery.bands if b.common_name == "coastal")
    scale, offset = imagery.radiometry(scene, coastal, provider="virtual")
    dark = np.percentile(read(earth, imagery, scene, grid, (coastal,)).data * scale + offset, 5)
    assert (dark > 0.08) == air
