"""A small corpus of two subsets as it lies on the disk: shards, index, manifest."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from pyproj import datadir
from pystac.validation.local_validator import get_local_schema_cache

from las_builder.catalogs import Catalogs
from las_builder.core.grid import Grid
from las_builder.core.workspace import Workspace, write_json
from las_builder.harmonise import Crosswalk
from las_builder.pack import (
    Sample,
    SampleRecord,
    SubsetInfo,
    manifest,
    open_shards,
    sample_key,
    shard_name,
    write_index,
    write_shard,
)
from las_builder.publish import CorpusInfo

SITES = {
    "north": Grid("EPSG:32632", Affine(10, 0, 549890.0, 0, -10, 6344080.0), 16, 16),
    "south": Grid("EPSG:32718", Affine(10, 0, 717730.0, 0, -10, 5700090.0), 16, 16),
    "antimeridian": Grid("EPSG:32660", Affine(10, 0, 636040.0, 0, -10, 7323250.0), 16, 16),
    "nowhere": Grid(None, Affine(1, 0, 0, 0, -1, 0), 16, 16),
    "own-crs": Grid(
        'PROJCRS["own",BASEGEOGCRS["WGS 84",DATUM["World Geodetic System 1984",ELLIPSOID["WGS 84",'
        '6378137,298.257223563]]],CONVERSION["c",METHOD["Lambert Azimuthal Equal Area"],PARAMETER['
        '"Latitude of natural origin",12],PARAMETER["Longitude of natural origin",34],PARAMETER['
        '"False easting",0],PARAMETER["False northing",0]],CS[Cartesian,2],AXIS["(E)",east],'
        'AXIS["(N)",north],LENGTHUNIT["metre",1]]',
        Affine(10, 0, 100.0, 0, -10, 100.0), 16, 16,
    ),
    "pole": Grid("EPSG:3031", Affine(30, 0, -250.0, 0, -30, 230.0), 16, 16),
}  # fmt: skip


@dataclass(frozen=True)
class Made:
    space: Workspace
    corpus: CorpusInfo
    records: list[SampleRecord]


def subset_info(name: str, imagery: str, label: str, bands: tuple[str, ...]) -> SubsetInfo:
    catalogs = Catalogs.load()
    product = catalogs.label(label)
    return SubsetInfo(
        name=name, imagery=catalogs.imagery(imagery), bands=bands,
        taxonomy=Crosswalk.build("native", [product]).taxonomy, products=(product,), synthetic=True,
    )  # fmt: skip


def sample(subset: SubsetInfo, place: str, split: str, number: int) -> tuple[Sample, SampleRecord]:
    grid, rng = SITES[place], np.random.default_rng(number)
    when = datetime(2021, 6, 1 + number, 10, 30, 11, 24000, tzinfo=UTC)
    lon, lat = (None, None) if grid.crs is None else grid.centre_lonlat()
    n = len(subset.bands)
    record = SampleRecord(
        key=sample_key(place, when.date()), subset=subset.name, split=split, site=place, grid=grid,
        datetime=when, scenes=(f"scene-{number}",) if number else (),
        products={subset.products[0].name: "item-1"}, taxonomy=subset.taxonomy.name,
        scale=(1e-4,) * n, offset=(-0.1,) * n, synthetic=True, lon=lon, lat=lat,
        cloud_cover=3.5 if number else None, clear=0.93,
        scene={"platform": "sentinel-2a", "view:sun_elevation": 41.5} if number else {},
        sources=(f"https://stac.example/items/scene-{number}",) if number else (),
        weight_km2=None if lon is None else 12.5, weight_km2_design=None if lon is None else 12,
        component="land-0", stratum="1",
    )  # fmt: skip
    shape = grid.shape
    return Sample(
        key=record.key, grid=grid, bands=subset.bands,
        image=rng.integers(0, 9999, (n, *shape)).astype(np.uint16), valid=rng.random(shape) > 0.1,
        label=rng.integers(0, 3, shape).astype(np.uint8), confidence=np.full(shape, 255, np.uint8),
        scale=record.scale, offset=record.offset, classes=tuple(subset.taxonomy.classes),
        metadata=record.metadata(subset),
    ), record  # fmt: skip


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Made]:
    """Make a corpus of the places named; its second subset has only the first of them."""

    def made(*places: str, one_subset: bool = False) -> Made:
        space = Workspace(tmp_path_factory.mktemp("corpus"))
        subsets = [
            subset_info("s2", "sentinel-2-l2a", "esa-worldcover-v200", ("B02", "B04")),
            subset_info("l8", "landsat-c2-l2", "nlcd", ("SR_B2", "SR_B4")),
        ][: 1 if one_subset else 2]
        reports = []
        for subset in subsets:
            for split, some in (("train", places), ("val", places[:1])):
                chosen = some if subset.name == "s2" else places[:1]
                shift = 0 if split == "train" else 10
                pairs = [sample(subset, p, split, i + shift) for i, p in enumerate(chosen)]
                path = space.shards / shard_name(subset.name, split, 0)
                samples = (s for s, _ in pairs)
                reports.append(write_shard(path, samples, subset=subset.name, split=split))
        write_index(space.index, reports)
        said = manifest(reports, subsets, sources={"recipe": "abc"})
        write_json(space.manifest, said)
        info = CorpusInfo(
            name="tiny", description="", subsets=tuple(subsets), manifest=said, synthetic=True
        )
        records = open_shards(space.shards, space.index).records()
        return Made(space, info, sorted(records, key=lambda record: (record.subset, record.key)))

    return made


@pytest.fixture
def whole(corpus: Callable[..., Made]) -> Made:
    return corpus(*SITES)


@pytest.fixture(scope="session")
def schemas() -> dict[str, Any]:
    """URI to schema: the core's as pystac has them, the extensions' of `schemas/`."""
    found: dict[str, Any] = get_local_schema_cache()
    for path in (Path(__file__).parent / "schemas").glob("*.json"):
        said = json.loads(path.read_text())
        found[said["$id"].removesuffix("#")] = said
    projjson = Path(datadir.get_data_dir()) / "projjson.schema.json"
    found["https://proj.org/schemas/v0.7/projjson.schema.json"] = json.loads(projjson.read_text())
    for name in ("eo", "raster"):  # no package has these: see `check_extensions` of test_stac
        uri = f"https://stac-extensions.github.io/{name}/v2.0.0/schema.json"
        found[uri] = {"$schema": "http://json-schema.org/draft-07/schema#", "$id": uri}
    return found
