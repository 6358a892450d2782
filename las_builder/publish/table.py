"""`items.parquet`: an item a sample in the form of stac-geoparquet 1.0, written column by column.

Columns are those of the STAC item, its properties at the top; hrefs are relative to the folder of
the file. All corpora have the same columns: what an item does not have is null. An item without a
place has an empty polygon and the box of the whole Earth here, because readers of the form take
neither null nor NaN there; in JSON (`items_of`) it has null and no box.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from las_builder.core.workspace import writing
from las_builder.pack import MEMBERS, SampleRecord
from las_builder.pack.record import SCENE_FACTS, stac_time
from las_builder.publish.footprint import Outlines, outlines

STAC = "1.1.0"
_EXTENSION = "https://stac-extensions.github.io/{}/schema.json"
PROJECTION, EO, RASTER, CLASSIFICATION, FILE, PROCESSING, SCIENTIFIC, VIEW, VERSION = (
    _EXTENSION.format(name)
    for name in (
        "projection/v2.0.0", "eo/v2.0.0", "raster/v2.0.0", "classification/v2.0.0", "file/v2.1.0",
        "processing/v1.1.0", "scientific/v1.0.0", "view/v1.0.0", "version/v1.2.0",
    )
)  # fmt: skip

TAR = "application/x-tar"
CHUNK = 8192
"""Items in one group of rows, at most; a group is of one collection."""

ASSETS = {
    "image": ("image.tif", "The provider's numbers", ["data"]),
    "label": ("label.tif", "Class of each pixel, 255 = no label", ["data", "labels"]),
    "confidence": ("confidence.tif", "Percent, 255 = nothing is said", ["data"]),
    "valid": ("valid.tif", "1 where the surface was seen", ["data-mask"]),
    "metadata": ("json", "Where everything comes from", ["metadata"]),
}
"""Asset to (member, title, roles)."""

_STRING, _DOUBLE, _TIME = pa.string(), pa.float64(), pa.timestamp("us", tz="UTC")
_STRINGS = pa.list_(_STRING)
_NAMED = pa.list_(pa.struct([("name", _STRING), ("version", _STRING)]))
_LINK = pa.struct([("rel", _STRING), ("href", _STRING), ("type", _STRING)])
_BAND = pa.struct([("name", _STRING), ("raster:scale", _DOUBLE), ("raster:offset", _DOUBLE)])
_EARTH = (-180.0, -90.0, 180.0, 90.0)
_BOX = pa.struct([(name, _DOUBLE) for name in ("xmin", "ymin", "xmax", "ymax")])


def _asset_type(name: str) -> pa.DataType:
    return pa.struct(
        [
            ("href", _STRING), ("type", _STRING), ("title", _STRING), ("roles", _STRINGS),
            ("file:checksum", _STRING), ("file:size", pa.int64()), ("las:member", _STRING),
            ("las:offset", pa.int64()), ("las:length", pa.int64()),
            *([("bands", pa.list_(_BAND))] if name == "image" else []),
        ]
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the items of one collection have in common."""

    bands: tuple[str, ...]
    """Of the image."""

    licence: str
    """SPDX expression, or "other"."""

    software: Mapping[str, str]
    """Program to version."""

    shards: Mapping[str, tuple[str, int]]
    """File name of each shard to its SHA-256 (hex) and bytes."""

    versions: Mapping[str, str]
    """File name of each shard to the version of the corpus that it came with."""


def schema() -> pa.Schema:
    """Of items.parquet, without the metadata of the file."""
    from stac_geoparquet.arrow._crs import WGS84_CRS_JSON

    wkb = {
        "ARROW:extension:name": "geoarrow.wkb",
        "ARROW:extension:metadata": json.dumps({"crs": WGS84_CRS_JSON}),
    }
    return pa.schema(
        [
            ("type", _STRING),
            ("stac_version", _STRING),
            ("stac_extensions", _STRINGS),
            ("id", _STRING),
            ("collection", _STRING),
            pa.field("geometry", pa.binary(), metadata=wkb),
            ("bbox", _BOX),
            ("links", pa.list_(_LINK)),
            ("assets", pa.struct([(name, _asset_type(name)) for name in ASSETS])),
            ("datetime", _TIME),
            ("start_datetime", _TIME),
            ("end_datetime", _TIME),
            ("title", _STRING),
            ("license", _STRING),
            ("version", _STRING),
            ("gsd", _DOUBLE),
            ("platform", _STRING),
            ("constellation", _STRING),
            *((name, _DOUBLE) for name in SCENE_FACTS if name.startswith("view:")),
            ("eo:cloud_cover", _DOUBLE),
            ("proj:code", _STRING),
            ("proj:wkt2", _STRING),
            ("proj:shape", pa.list_(pa.int64())),
            ("proj:transform", pa.list_(_DOUBLE)),
            ("processing:software", pa.struct([("las_builder", _STRING)])),
            ("las:subset", _STRING),
            ("las:split", _STRING),
            ("las:site", _STRING),
            ("las:scenes", _STRINGS),
            ("las:composite", _STRING),
            ("las:products", _NAMED),
            ("las:taxonomy", _STRING),
            ("las:weight_km2", _DOUBLE),
            ("las:weight_km2_design", _DOUBLE),
            ("las:component", _STRING),
            ("las:stratum", _STRING),
            ("las:clear", _DOUBLE),
            ("las:resampled", pa.bool_()),
            ("las:caption", _STRING),
            ("las:shard", _STRING),
            ("las:synthetic", pa.bool_()),
        ]
    )


def item_id(record: SampleRecord) -> str:
    """Unique in the corpus: two subsets may have a sample of one place and day."""
    return f"{record.subset}-{record.key}"


def batch(records: Sequence[SampleRecord], facts: Facts) -> tuple[pa.RecordBatch, Outlines]:
    """Samples of one subset as rows; also where they are, for the collection."""
    n, one = len(records), records[0]
    where = outlines([record.grid for record in records])
    titles = [f"{r.subset}, {r.site}, {_days(r)}" for r in records]
    crs = [record.grid.crs for record in records]
    coded = [c is not None and len(c) < 24 and ":" in c for c in crs]
    shards = [record.shard for record in records]

    def const(value: Any, kind: pa.DataType) -> pa.Array:
        return pa.repeat(pa.scalar(value, kind), n)

    def of(name: str) -> list[Any]:
        return [getattr(record, name) for record in records]

    columns: dict[str, Any] = {
        "type": const("Feature", _STRING),
        "stac_version": const(STAC, _STRING),
        "stac_extensions": [_extensions(record) for record in records],
        "id": [f"{one.subset}-{key}" for key in of("key")],
        "collection": const(one.subset, _STRING),
        "geometry": where.wkb,
        "bbox": pa.StructArray.from_arrays(
            [
                pa.array(np.where(np.isnan(edge), anywhere, edge))
                for edge, anywhere in zip(where.boxes.T, _EARTH, strict=True)
            ],
            fields=list(_BOX),
        ),
        "links": _links(records),
        "assets": _assets(records, facts),
        "datetime": of("datetime"),
        "start_datetime": [r.between[0] if r.between else None for r in records],
        "end_datetime": [r.between[1] if r.between else None for r in records],
        "title": [f"SYNTHETIC: {t}" for t in titles] if one.synthetic else titles,
        "license": const(facts.licence, _STRING),
        "version": [facts.versions[shard] for shard in shards],
        "gsd": where.gsd,
        "eo:cloud_cover": of("cloud_cover"),
        "proj:code": [c if is_code else None for c, is_code in zip(crs, coded, strict=True)],
        "proj:wkt2": [None if is_code else c for c, is_code in zip(crs, coded, strict=True)],
        "proj:shape": _rows([r.grid.shape for r in records], pa.int64()),
        "proj:transform": _rows([tuple(r.grid.transform)[:6] for r in records], _DOUBLE),
        "processing:software": pa.StructArray.from_arrays(
            [const(facts.software["las_builder"], _STRING)], ["las_builder"]
        ),
        "las:scenes": of("scenes"),
        "las:products": [
            [{"name": name, "version": v} for name, v in sorted(r.products.items())]
            for r in records
        ],
        **{
            f"las:{name}": of(name)
            for name in (
                "subset", "split", "site", "taxonomy", "weight_km2", "weight_km2_design",
                "composite", "component", "stratum", "clear", "resampled", "caption", "synthetic",
            )
        },
        "las:shard": shards,
        **{name: [r.scene.get(name) for r in records] for name in SCENE_FACTS},
    }  # fmt: skip
    shape = schema()
    arrays = [
        value if isinstance(value, pa.Array) else pa.array(value, field.type)
        for field, value in ((field, columns[field.name]) for field in shape)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=shape), where


def _days(record: SampleRecord) -> str:
    """The day of a sample; of a composite, its first and last."""
    ends: Sequence[datetime] = (record.datetime,)
    if record.composite is not None and record.between is not None:
        ends = record.between
    return " to ".join(f"{end:%Y-%m-%d}" for end in ends)


def _extensions(record: SampleRecord) -> list[str]:
    """Those that it has fields of."""
    return [
        PROJECTION, RASTER, FILE, PROCESSING, VERSION,
        *([] if record.cloud_cover is None else [EO]),
        *([VIEW] if any(name.startswith("view:") for name in record.scene) else []),
    ]  # fmt: skip


def _rows(values: Sequence[Sequence[float]], kind: pa.DataType) -> pa.Array:
    """Lists of one length."""
    flat = np.array(values)
    ends = np.arange(len(values) + 1, dtype=np.int32) * flat.shape[1]
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(flat.ravel(), kind))


def _links(records: Sequence[SampleRecord]) -> pa.Array:
    """Root, parent and collection of each, and the items that its pixels come from."""
    home = f"./{records[0].subset}/collection.json"
    own = [("root", "./catalog.json", "application/json")] + [
        (rel, home, "application/json") for rel in ("parent", "collection")
    ]
    geojson = "application/geo+json"
    counts = [len(own) + len(record.sources) for record in records]
    said = [
        link
        for record in records
        for link in (*own, *(("derived_from", url, geojson) for url in record.sources))
    ]
    parts = [pa.array(column, _STRING) for column in zip(*said, strict=True)]
    ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(
        pa.array(ends), pa.StructArray.from_arrays(parts, fields=list(_LINK))
    )


def _assets(records: Sequence[SampleRecord], facts: Facts) -> pa.Array:
    """The members of each sample: the shard, and the range of bytes in it."""
    n = len(records)
    shards = [record.shard for record in records]
    common = {
        "href": pa.array([f"../shards/{shard}" for shard in shards]),
        "type": pa.repeat(TAR, n),
        "file:checksum": pa.array([f"1220{facts.shards[shard][0]}" for shard in shards]),
        "file:size": pa.array([facts.shards[shard][1] for shard in shards], pa.int64()),
    }
    keys = [record.key for record in records]
    found = []
    for name, (member, title, roles) in ASSETS.items():
        place = np.array([record.members[member] for record in records], np.int64)
        columns = {
            **common,
            "title": pa.repeat(title, n),
            "roles": pa.repeat(pa.scalar(roles, _STRINGS), n),
            "las:member": pa.array([f"{key}.{member}" for key in keys]),
            "las:offset": pa.array(place[:, 0]),
            "las:length": pa.array(place[:, 1]),
        }
        if name == "image":
            columns["bands"] = _bands(records, facts.bands)
        kind = _asset_type(name)
        found.append(
            pa.StructArray.from_arrays([columns[field.name] for field in kind], fields=list(kind))
        )
    return pa.StructArray.from_arrays(found, names=list(ASSETS))


def _bands(records: Sequence[SampleRecord], names: Sequence[str]) -> pa.Array:
    scale, offset = (np.array([getattr(r, key) for r in records]) for key in ("scale", "offset"))
    ends = np.arange(len(records) + 1, dtype=np.int32) * len(names)
    bands = pa.StructArray.from_arrays(
        [
            pa.array(list(names) * len(records), _STRING),
            pa.array(scale.ravel(), _DOUBLE),
            pa.array(offset.ravel(), _DOUBLE),
        ],
        fields=list(_BAND),
    )
    return pa.ListArray.from_arrays(pa.array(ends), bands)


@contextlib.contextmanager
def table_writer(path: Path) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetWriter` of items; `finish` it with the collections.

    Raises:
        WorkspaceError: The disk is full or read-only.
    """
    import pyarrow.parquet as pq

    with (
        writing(path) as part,
        # Without Arrow's copy of the schema, which would hide metadata that is added at the end.
        pq.ParquetWriter(part, schema(), compression="zstd", store_schema=False) as writer,
    ):
        yield writer


def finish(writer: Any, collections: Mapping[str, Mapping[str, Any]]) -> None:
    """State what the file is: GeoParquet 1.1, stac-geoparquet 1.0 with its collections."""
    from stac_geoparquet.arrow._to_parquet import create_parquet_metadata

    said = create_parquet_metadata(schema(), schema_version="1.1.0", collections=collections)
    writer.add_key_value_metadata(said)


def items_of(rows: pa.RecordBatch, *, up: str = "") -> Iterator[dict[str, Any]]:
    """Rows as STAC items in JSON: without what is null, without a geometry where there is none.

    Args:
        rows: Of items.parquet.
        up: From the folder where an item will be to that of items.parquet: "../../".
    """
    import shapely
    from shapely.geometry import mapping

    def moved(href: str) -> str:
        return href if not up or "://" in href else up + href.removeprefix("./")

    for row in rows.to_pylist():
        said = {name: row.pop(name) for name in _TOP}
        shape, box = shapely.from_wkb(said["geometry"]), list(said["bbox"].values())
        place = {"geometry": _plain(mapping(shape)), "bbox": box}
        about = {key: _plain(value) for key, value in row.items() if value is not None}
        if "proj:wkt2" in about:
            about["proj:code"] = None
        yield {
            **{key: said[key] for key in ("type", "stac_version", "stac_extensions", "id")},
            "collection": said["collection"],
            **({"geometry": None} if shape.is_empty else place),
            "properties": about,
            "links": [{**link, "href": moved(link["href"])} for link in said["links"]],
            "assets": {
                name: {**asset, "href": moved(asset["href"])}
                for name, asset in said["assets"].items()
            },
        }


_TOP = (
    "type", "stac_version", "stac_extensions", "id", "collection", "geometry", "bbox", "links",
    "assets",
)  # fmt: skip
"""Columns that are no properties."""


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, datetime):
        return stac_time(value)
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return {k: _plain(v) for k, v in value.items()} if isinstance(value, dict) else value


assert {member for member, *_ in ASSETS.values()} == set(MEMBERS)
