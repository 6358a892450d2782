"""One recipe through Earth Engine, against what STAC gives of the same files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import yaml
import zarr
from ee_replica import CATALOGS, STAC, Both

from las_builder.access import ReadRequest, SearchRequest, open_access
from las_builder.access.protocol import LabelRequest
from las_builder.catalogs import LabelProduct
from las_builder.core.grid import Grid
from las_builder.core.types import Chip, LabelMap, LabelSource, Period, PinnedScene
from las_builder.harmonise import regrid
from las_builder.scenes import SceneTable


def compare(both: Both, recipe: Path, work: Path) -> dict[str, int]:
    """Every stored patch of a build against STAC's reading of the same scene on the same grid.

    Returns:
        Patches, pictures and maps that were compared, each to the bit.
    """
    said = yaml.safe_load(recipe.read_text())
    imagery = CATALOGS.imagery(said["imagery"])
    stac = open_access(STAC, catalogs=CATALOGS)
    home = work / said["name"] / said["name"]
    group = zarr.open_group(home / "cube.zarr" / "0", mode="r")
    patches = SceneTable.read(home / "scenes" / "0.parquet").patches
    period = Period.parse(said["dates"]["period"])
    bands = tuple(band.name for band in imagery.bands)
    counts = {"patches": 0, "pictures": 0, "maps": 0}
    for row, patch in enumerate(patches):
        if not group["stored"][row]:
            continue
        asked = SearchRequest(site=patch.site, grid=patch.grid, period=period, max_cloud=100)
        (listed,) = [s for s in stac.search(imagery, [asked])[0] if s.id == patch.scene.id]
        assert listed.grid == patch.scene.grid
        (chip,) = stac.read(
            imagery, [ReadRequest(site=patch.site, scene=listed, grid=patch.grid, bands=bands)]
        )
        assert isinstance(chip, Chip)
        found = group["image"][row]
        np.testing.assert_array_equal(found, chip.data, err_msg=f"{patch.site} {patch.scene.id}")
        assert found.any()
        assert bool(group["resampled"][row]) == chip.resampled
        counts["patches"] += 1
        counts["pictures"] += len(bands)
        for name in [*said["labels"], *said["compare"]]:
            _compare_map(both, CATALOGS.label(name), patch, group, row, stac)
            counts["maps"] += 1
    return counts


def _compare_map(
    both: Both, product: LabelProduct, patch: PinnedScene, group: Any, row: int, stac: Any
) -> None:
    if product.at("stac") is not None:
        request = LabelRequest(site=patch.site, grid=patch.grid, scene=patch.scene)
        (source,) = stac.labels(product, [request])
    else:
        source = straight(both, product, patch.scene.id)
    if not isinstance(source, LabelSource):
        assert (group[f"labels/{product.name}"][row] == product.nodata).all()
        return
    want = regrid(source, patch.grid, nodata=product.nodata, dtype=product.dtype)
    assert isinstance(want, LabelMap)
    for array, layer in (("labels", want.codes), ("shares", want.share)):
        np.testing.assert_array_equal(
            group[f"{array}/{product.name}"][row], layer, err_msg=f"{product.name} {patch.site}"
        )
    assert len(np.unique(want.codes)) >= 1
    assert (want.codes != product.nodata).any()
    for k, name in enumerate(product.evidence):
        np.testing.assert_array_equal(
            group[f"evidence/{product.name}"][row, k], want.evidence[name].astype(np.float32)
        )


def straight(both: Both, product: LabelProduct, scene: str) -> LabelSource:
    """The whole map of a scene, read with rasterio alone."""
    folder = both.replica.root / "files.example.org" / product.name / scene
    layers = {}
    for file in folder.glob("*.tif"):
        with rasterio.open(file) as raster:
            layers[file.stem] = raster.read(1)
            t, crs = raster.transform, f"EPSG:{raster.crs.to_epsg()}"
            grid = Grid(crs, t, raster.width, raster.height)
    codes = layers.pop("codes")
    return LabelSource(
        product=product.name, version=scene, grid=grid, codes=codes, nodata=product.nodata,
        evidence=layers,
    )  # fmt: skip
