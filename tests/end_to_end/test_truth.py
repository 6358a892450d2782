"""A noise-free product comes out of the tar as the virtual truth, pixel for pixel.

The way back is pyproj's alone: the centre of every packed pixel goes into the product's CRS, to the
centre of the product pixel that holds it, and to the truth there.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from pyproj import Transformer

from las_builder import recipe, run
from las_builder.access.virtual import VirtualEarth
from las_builder.catalogs import Catalogs, LabelProduct
from las_builder.catalogs.loader import packaged
from las_builder.core.grid import Grid
from las_builder.core.workspace import Workspace
from las_builder.pack import open_shards


@pytest.fixture(scope="module")
def catalogs(tmp_path_factory: pytest.TempPathFactory) -> Catalogs:
    """A noise-free WorldCover and the map of these tests before what is packaged."""
    home = tmp_path_factory.mktemp("catalogs")
    shutil.copytree(Path(__file__).parent / "catalogs", home, dirs_exist_ok=True)
    declared = (packaged("catalogs") / "labels" / "esa-worldcover-v200.yaml").read_text()
    exact = declared.replace("{provider: virtual}", "{provider: virtual, errors: false}")
    assert exact != declared
    (home / "labels" / "esa-worldcover-v200.yaml").write_text(exact)
    return Catalogs.load(home)


PLACES = {
    "zones 32 and 33 north": [9.0, 44.0, 14.0, 49.0],
    "zone 21 south": [-60.0, -36.0, -55.0, -30.0],
    "zone 55 south": [145.0, -37.0, 149.5, -31.0],
    "zones 60 and 1, over the antimeridian": [177.0, -19.0, -179.0, -16.0],
}


def truth_of(earth: VirtualEarth, product: LabelProduct, grid: Grid) -> np.ndarray:
    """Codes that a noise-free product has under the centre of every pixel."""
    assert grid.crs is not None
    x, y = np.meshgrid(*grid.xy())
    crs = product.lattice.crs
    if crs == "mgrs-utm":
        crs = grid.crs  # the virtual Earth cuts such maps in the zone that is asked for
    px, py = Transformer.from_crs(grid.crs, crs, always_xy=True).transform(x, y)
    (ox, oy), pixel = product.lattice.origin, product.lattice.pixel
    cx = (np.floor((px - ox) / pixel) + 0.5) * pixel + ox
    cy = (np.floor((py - oy) / pixel) + 0.5) * pixel + oy
    lon, lat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(cx, cy)
    return earth.truth_codes(product, lon, lat)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("imagery", "bands", "product"),
    [
        ("sentinel-2-l2a", ["B02", "B05", "B01"], "esa-worldcover-v200"),
        ("landsat-c2-l2", ["SR_B4"], "truth-30m"),
    ],
)
def test_packed_labels_are_the_truth(
    tmp_path: Path, catalogs: Catalogs, place: str, imagery: str, bands: list[str], product: str
) -> None:
    content = {
        "name": "truth",
        "imagery": imagery,
        "bands": bands,
        "labels": [product],
        "source": "virtual",
        "patch": {"size": 96},
        "sites": {"count": 5, "region": PLACES[place], "seed": 4},
        "dates": {"period": "2021-01-01/2022-01-01", "choose": "clearest"},
        "splits": {"train": 1, "val": 0, "test": 0},
    }
    (tmp_path / "truth.yaml").write_text(yaml.safe_dump(content))
    corpus = recipe.read(str(tmp_path / "truth.yaml"), catalogs=catalogs)
    space = Workspace(tmp_path / "work")
    with run.Engine(workers=1) as engine:
        run.build(corpus, space, engine)
    shards = open_shards(space.shards, space.index)
    declared = corpus.subsets[0].labels[0]
    codes = np.full(256, declared.nodata)
    for code, index in corpus.subsets[0].crosswalk.table.items():
        if index != 255:
            codes[index] = code
    assert len(shards.entries) == 5
    mixed = 0
    for entry in shards.entries:
        sample = shards.read(entry)
        want = truth_of(VirtualEarth(catalogs), declared, sample.grid)
        got = codes[sample.label]
        np.testing.assert_array_equal(got, want)
        assert sample.metadata["resampled"] is False
        if len(np.unique(want)) > 1:
            mixed += 1
            for axis in (0, 1):  # a shift by one pixel would be seen
                assert (np.roll(got, 1, axis=axis) != want).any()
    assert mixed >= 3
