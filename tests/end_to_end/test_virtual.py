"""`las virtual`: what it writes is the world, to the pixel, and opens anywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from kit import Las
from PIL import Image
from pyproj import Transformer

from las_builder.access.virtual import VirtualEarth
from las_builder.access.virtual.leaves import COLOURS, LEAVES, LETTERS
from las_builder.catalogs import Catalogs


def test_a_place_as_files(las: Las, tmp_path: Path) -> None:
    out = tmp_path / "place"
    said = las(
        "virtual", "--at", "11,48.3", "--size", 64, "--out", out,
        "--products", "esa-worldcover-v200,dynamic-world,corine",
    )  # fmt: skip
    assert said.code == 0, said
    names = ["image", "truth", "esa-worldcover-v200", "dynamic-world", "corine"]
    want = {out / f"{name}.{kind}" for name in names for kind in ("tif", "png")}
    assert {Path(line) for line in said.out.split()} == want | {out / "overview.png"}
    with rasterio.open(out / "truth.tif") as file:
        codes, place = file.read(1), (file.crs, file.transform)
        assert file.colormap(1)[LEAVES.index("water.marine.ocean")][:3] == tuple(
            bytes.fromhex(COLOURS["~"])
        )
        assert len([t for t in file.tags(1) if t.startswith("class_")]) == len(LEAVES)
    rows, columns = np.mgrid[:64, :64] + 0.5
    t = place[1]
    x, y = t.c + t.a * columns, t.f + t.e * rows
    lonlat = Transformer.from_crs(place[0], "EPSG:4326", always_xy=True).transform(x, y)
    earth = VirtualEarth(Catalogs.load())
    assert np.array_equal(codes, earth.truth(*lonlat, 10.0, 2021))
    with rasterio.open(out / "image.tif") as file:
        assert (file.crs, file.transform) == place
        assert file.count == 12
        assert file.descriptions[3] == "B04"
        red = file.read(4) * file.scales[3] + file.offsets[3]
    assert 0.005 < np.median(red) < 0.5
    product = earth.catalogs.label("esa-worldcover-v200")
    with rasterio.open(out / "esa-worldcover-v200.tif") as file:
        assert set(np.unique(file.read(1))) <= product.codes | {product.nodata}
        assert (file.crs, file.transform) == place
    with Image.open(out / "truth.png") as picture:
        shown = np.asarray(picture)
    palette = np.array([list(bytes.fromhex(COLOURS[letter])) for letter in LETTERS])
    assert np.array_equal(shown, palette[codes])
    with Image.open(out / "overview.png") as picture:
        assert picture.size[0] > 800


def test_other_sensors_other_worlds(las: Las, tmp_path: Path) -> None:
    said = las(
        "virtual", "--at=-93.63,41.69", "--sensor", "naip", "--gsd", 0.3, "--size", 64,
        "--period", "2016-01-01/2022-01-01", "--products", "nlcd", "--out", tmp_path / "a",
    )  # fmt: skip
    assert said.code == 0, said
    with rasterio.open(tmp_path / "a" / "image.tif") as file:
        assert file.res == (0.3, 0.3)
        assert file.count == 4
        one = file.read()
    said = las(
        "virtual", "--at=-93.63,41.69", "--sensor", "naip", "--gsd", 0.3, "--size", 64, "--seed", 1,
        "--period", "2016-01-01/2022-01-01", "--products", "nlcd", "--out", tmp_path / "b",
    )  # fmt: skip
    assert said.code == 0, said
    with rasterio.open(tmp_path / "b" / "image.tif") as file:
        assert not np.array_equal(one, file.read())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--at", "11;48"], ["--at", "11;48", "LON,LAT"]),
        (["--at", "11,98"], ["--at", "11,98"]),
        (["--at", "11,48", "--sensor", "sentinel-2"], ["--sensor", "sentinel-2-l2a"]),
        (["--at", "11,48", "--products", "worldcover"], ["--products", "esa-worldcover-v200"]),
        (["--at", "11,48", "--period", "2021"], ["--period", "2021"]),
        (["--at", "11,48", "--sensor", "naip"], ["--period", "all of the place"]),
        (["--at", "0,-89", "--period", "2021-06-01/2021-07-01"], ["--period"]),
    ],
)
def test_one_line(las: Las, tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    said = las("virtual", *arguments, "--size", 32, "--out", tmp_path / "out")
    assert said.code == 2, said
    assert len(said.err.splitlines()) == 1, said.err
    for word in words:
        assert word in said.err
    assert not (tmp_path / "out").exists()
