"""Publishing 150,000 items: columns against stac-geoparquet from dicts, CPU seconds and memory.

Chunks of a corpus of Sentinel-2 patches (12 bands, 5 assets, 4 links, sun and platform) are written
by `publish.table` from records, and by stac-geoparquet (`stac_items_to_arrow`, `to_parquet`'s own
writer) from the dicts of the same items, one after the other in turns; making records and dicts is
in neither figure. Both files are then compared row by row, and every item is validated: the core
schema and those of the extensions in tests/publish/schemas (jsonschema-rs).

    python benchmarks/publish_speed.py            # 16,384 items, both; content compared, validated
    python benchmarks/publish_speed.py --memory   # 150,000 items, ours alone, through `publish`
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from affine import Affine
from pyproj import datadir

from las_builder.catalogs import Catalogs
from las_builder.core.grid import Grid
from las_builder.harmonise import Crosswalk
from las_builder.pack import MEMBERS, SampleRecord, SubsetInfo
from las_builder.publish import CorpusInfo, publish
from las_builder.publish.table import CHUNK, Facts, batch, items_of, schema, table_writer

SAMPLES = 256


def subset() -> SubsetInfo:
    catalogs = Catalogs.load()
    imagery, product = catalogs.imagery("sentinel-2-l2a"), catalogs.label("esa-worldcover-v200")
    return SubsetInfo(
        name="las-s2-worldcover", imagery=imagery, bands=tuple(b.name for b in imagery.bands),
        taxonomy=Crosswalk.build("native", [product]).taxonomy, products=(product,), synthetic=False,
    )  # fmt: skip


def records(n: int, info: SubsetInfo) -> Iterator[SampleRecord]:
    bands = len(info.bands)
    for i in range(n):
        zone, south = 1 + i % 60, (i // 60) % 2
        grid = Grid(
            f"EPSG:32{7 if south else 6}{zone:02d}",
            Affine(10, 0, 300_000 + 60 * (i % 5000), 0, -10, 5_000_040 + 60 * (i // 60 % 9000)),
            264, 264,
        )  # fmt: skip
        when = datetime(2021, 1, 1, 10, tzinfo=UTC) + timedelta(minutes=i % 500_000)
        key = f"{i:08d}-{when:%Y%m%d}"
        at = 2_000_000 * (i % SAMPLES)
        yield SampleRecord(
            key=key, subset=info.name, split="train", site=f"{i:08d}", grid=grid, datetime=when,
            scenes=(f"S2B_T{zone:02d}VNK_{when:%Y%m%d}_{i:06d}",),
            products={"esa-worldcover-v200": f"ESA_WorldCover_10m_2021_v200_{i % 2600:04d}"},
            taxonomy=info.taxonomy.name, scale=(1e-4,) * bands, offset=(-0.1,) * bands,
            synthetic=False, cloud_cover=float(i % 20), clear=0.9 + i % 10 / 100,
            weight_km2=900.0 + i % 777, weight_km2_design=900.0, component="continent+climate",
            stratum=f"Europe/{i % 30}",
            scene={"platform": "sentinel-2b", "view:sun_elevation": 40 + i % 400 / 10,
                   "view:sun_azimuth": 140 + i % 300 / 10},
            sources=(f"https://stac.example/v1/collections/sentinel-2-l2a/items/{key}",),
            shard=f"{info.name}-train-{i // SAMPLES:06d}.tar",
            members={name: (at + 400_000 * j, 399_000 - j) for j, name in enumerate(MEMBERS)},
        )  # fmt: skip


def corpus(n: int, info: SubsetInfo) -> CorpusInfo:
    shards = [
        {"name": f"{info.name}-train-{i:06d}.tar", "subset": info.name, "split": "train",
         "sha256": hashlib.sha256(str(i).encode()).hexdigest(), "size": 10**9, "samples": SAMPLES}
        for i in range(-(-n // SAMPLES))
    ]  # fmt: skip
    manifest = {"license": {"id": "CC-BY-4.0"}, "las_builder": "0.1.0", "shards": shards}
    return CorpusInfo(
        name="bench", description="", subsets=(info,), manifest=manifest, synthetic=False
    )


def compare(n: int) -> None:
    from stac_geoparquet.arrow._api import stac_items_to_arrow
    from stac_geoparquet.arrow._batch import StacJsonBatch

    info = subset()
    facts: Facts = corpus(n, info).facts(info)
    made = list(records(n, info))
    ours = theirs = 0.0
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        one, two = Path(name) / "ours.parquet", Path(name) / "theirs.parquet"
        peer = None
        with table_writer(one) as writer:
            for start in range(0, n, CHUNK):
                some = made[start : start + CHUNK]
                begin = time.process_time()
                rows, _ = batch(some, facts)
                writer.write_batch(rows)
                mine = time.process_time() - begin
                dicts = list(items_of(rows))
                begin = time.process_time()
                if peer is None:
                    peer_schema = StacJsonBatch.from_dicts(dicts[:1]).inner.schema
                arrow = stac_items_to_arrow(dicts, schema=peer_schema)
                if peer is None:
                    peer = pq.ParquetWriter(two, arrow.schema, compression="zstd")
                peer.write_batch(arrow)
                other = time.process_time() - begin
                ours, theirs = ours + mine, theirs + other
                ratios.append(other / mine)
        peer.close()
        same(one, two)
        per = 150_000 / n
        print(f"ours {ours * per:.1f} s, stac-geoparquet {theirs * per:.1f} s per 150,000 (CPU); "
              f"ratio of chunks {min(ratios):.1f} to {max(ratios):.1f}")  # fmt: skip
        print(f"{one.stat().st_size * per / 1e6:.1f} MB, {two.stat().st_size * per / 1e6:.1f} MB")
        begin = time.process_time()
        count = validate(one)
        print(f"{count} items valid, {(time.process_time() - begin) * per:.1f} s per 150,000")


def same(one: Path, two: Path) -> None:
    """Equal values in every column that the other has; ours has more, all of them null."""
    ours, theirs = pq.read_table(one), pq.read_table(two)
    for name in ours.column_names:
        if name not in theirs.column_names:
            assert ours[name].null_count == len(ours), name
        elif name != "geometry":
            assert ours[name].to_pylist() == theirs[name].to_pylist(), name
    import shapely

    left, right = (shapely.from_wkb(t["geometry"].to_pylist()) for t in (ours, theirs))
    assert shapely.equals_exact(left, right, 0).all()


def validate(path: Path) -> int:
    """Every item against the schemas; returns how many."""
    import jsonschema_rs
    from pystac.validation.local_validator import get_local_schema_cache

    known = get_local_schema_cache()
    core = next(uri for uri in known if uri.endswith("item-spec/json-schema/item.json"))
    for file in (Path(__file__).parents[1] / "tests" / "publish" / "schemas").glob("*.json"):
        said = json.loads(file.read_text())
        known[said["$id"].removesuffix("#")] = said
    projjson = json.loads((Path(datadir.get_data_dir()) / "projjson.schema.json").read_text())
    known["https://proj.org/schemas/v0.7/projjson.schema.json"] = projjson
    registry = jsonschema_rs.Registry(list(known.items()))
    checks = {
        uri: jsonschema_rs.validator_for(known[uri], registry=registry)
        for uri in [core, *(u for u in known if "stac-extensions" in u)]
    }
    count = 0
    for rows in pq.ParquetFile(path).iter_batches(4096):
        for said in items_of(pa.RecordBatch.from_arrays(rows.columns, schema=schema())):
            assert [link["rel"] for link in said["links"]].count("collection") == 1
            for uri in [core, *said["stac_extensions"]]:
                if uri in checks:
                    checks[uri].validate(said)
            count += 1
    return count


def memory(n: int) -> None:
    info = subset()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for file in ("manifest.json", "index.parquet"):
            (root / file).write_bytes(b"")
        begin, clock = time.process_time(), time.perf_counter()
        publish(root / "catalog", corpus(n, info), records(n, info))
        used, wall = time.process_time() - begin, time.perf_counter() - clock
        size = (root / "catalog" / "items.parquet").stat().st_size
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{n} items: {used:.1f} CPU s with making the records, {wall:.1f} s, "
          f"{size / 1e6:.1f} MB, peak {peak:.0f} MiB")  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int)
    parser.add_argument("--memory", action="store_true")
    said = parser.parse_args()
    (memory if said.memory else compare)(said.items or (150_000 if said.memory else 16_384))
    sys.exit(0)
