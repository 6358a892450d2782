"""Samples that look like the real thing: smooth fields, patches of classes, a cloud, a scene edge."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pytest
from affine import Affine

from las_builder.catalogs import Catalogs
from las_builder.core.grid import Grid
from las_builder.harmonise import Crosswalk
from las_builder.pack import Sample, SampleRecord, SubsetInfo, sample_key

BANDS = ("B02", "B03", "B04", "B08")
PLACES = {
    "north": Grid("EPSG:32632", Affine(10, 0, 549892.6974487305, 0, -10, 6344077.614), 40, 40),
    "south": Grid("EPSG:32718", Affine(10, 0, 717729.835, 0, -10, 5700093.331), 40, 40),
    "antimeridian": Grid("EPSG:32660", Affine(10, 0, 760000.1, 0, -10, 7400000.3), 40, 40),
    "nowhere": Grid(None, Affine(1, 0, 0, 0, -1, 0), 40, 40),
}


@pytest.fixture(scope="session")
def subset() -> SubsetInfo:
    catalogs = Catalogs.load()
    product = catalogs.label("esa-worldcover-v200")
    return SubsetInfo(
        name="s2-test",
        imagery=catalogs.imagery("sentinel-2-l2a"),
        bands=BANDS,
        taxonomy=Crosswalk.build("native", [product]).taxonomy,
        products=(product,),
        synthetic=True,
    )


Make = Callable[..., tuple[Sample, SampleRecord]]


@pytest.fixture(scope="session")
def make(subset: SubsetInfo) -> Make:
    """A sample and its record, of a place of `PLACES` and a number."""

    def made(place: str = "north", number: int = 0, *, offset: float = -0.1, dtype: str = "uint16"):
        grid = PLACES[place]
        rng = np.random.default_rng(number)
        y, x = np.mgrid[: grid.height, : grid.width]
        field = np.sin((x + 13 * number) / 7.0) + np.cos(y / (5.0 + number))
        noise = rng.normal(0, 60, (len(subset.bands), *grid.shape))
        image = 2200 + 400 * field + 150 * np.arange(len(subset.bands))[:, None, None] + noise
        label = (np.digitize(field, [-1, 0, 1]) * 2).astype(np.uint8)
        label[:3, :5] = 255
        valid = np.hypot(x - 30, y - 9) > 6
        when = datetime(2021, 6, 1 + number, 10, 30, 11, tzinfo=UTC)
        lon, lat = (None, None) if grid.crs is None else grid.centre_lonlat()
        site = f"{place}-{grid.code()}"
        record = SampleRecord(
            key=sample_key(site, when.date()), subset=subset.name, split="train", site=site,
            grid=grid, datetime=when, scenes=(f"S2A_{number}",),
            products={"esa-worldcover-v200": "item-1"}, taxonomy=subset.taxonomy.name,
            scale=(1e-4,) * len(subset.bands), offset=(offset,) * len(subset.bands), synthetic=True,
            lon=lon, lat=lat, cloud_cover=3.5, clear=float(valid.mean()),
            weight_km2=12.5, weight_km2_design=12.0, component="land-0", stratum="1",
        )  # fmt: skip
        sample = Sample(
            key=record.key, grid=grid, bands=subset.bands,
            image=image.astype(dtype), valid=valid, label=label,
            confidence=np.where(label == 255, 255, 83).astype(np.uint8),
            scale=record.scale, offset=record.offset, classes=tuple(subset.taxonomy.classes),
            metadata=record.metadata(subset),
        )  # fmt: skip
        return sample, record

    return made
