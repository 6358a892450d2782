"""The corpus as a STAC 1.1 collection: `collection.json`, `items.parquet`, JSON items on request.

    catalog/
      collection.json                 extent, licence, bands and classes by subset, the shards
      items.parquet                   stac-geoparquet: an item a sample, ordered by id
      items/<subset>/<id>.json        the same items, on request

Links and assets are relative, so a corpus can be moved or uploaded as it is.
"""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from las_builder.catalogs import Imagery, LabelProduct
from las_builder.core.types import IGNORE
from las_builder.core.workspace import sha256_file, write_json, writing
from las_builder.errors import WorkspaceError
from las_builder.pack import SampleRecord, SubsetInfo
from las_builder.pack.record import projection, stac_time
from las_builder.publish.footprint import BBox, footprint, overall

STAC = "1.1.0"
_EXTENSION = "https://stac-extensions.github.io/{}/schema.json"
PROJECTION, EO, RASTER, CLASSIFICATION, FILE, ALTERNATE = (
    _EXTENSION.format(name)
    for name in (
        "projection/v2.0.0", "eo/v2.0.0", "raster/v2.0.0", "classification/v2.0.0", "file/v2.1.0",
        "alternate-assets/v1.2.0",
    )
)  # fmt: skip

GEOTIFF = "image/tiff; application=geotiff"
TAR = "application/x-tar"
PARQUET = "application/vnd.apache.parquet"
CHUNK = 4096
"""Items in one row group of items.parquet."""

_MEMBERS = {
    "image": ("image.tif", "The provider's numbers", GEOTIFF, ["data"]),
    "label": ("label.tif", "Class of each pixel, 255 = no label", GEOTIFF, ["data", "labels"]),
    "confidence": ("confidence.tif", "Percent, 255 = nothing is said", GEOTIFF, ["data"]),
    "valid": ("valid.tif", "1 where the surface was seen", GEOTIFF, ["data-mask"]),
    "metadata": ("json", "Where everything comes from", "application/json", ["metadata"]),
}
"""Asset to (member, title, media type, roles)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusInfo:
    """What the collection says of a corpus."""

    name: str
    description: str
    subsets: tuple[SubsetInfo, ...]

    manifest: Mapping[str, Any]
    """The value of manifest.json: the shards and their checksums."""

    synthetic: bool
    """Whether any pixel is made up; titles then begin with SYNTHETIC."""


def publish(
    folder: Path,
    corpus: CorpusInfo,
    records: Iterable[SampleRecord],
    *,
    write_items: bool = False,
) -> int:
    """Write the catalogue.

    Args:
        folder: `catalog/` of the workspace; shards, index and manifest lie beside it.
        corpus: The collection.
        records: Of every sample, packed, in any order.
        write_items: Whether to write each item as JSON too.

    Returns:
        How many items there are.

    Raises:
        WorkspaceError: No samples, two of one id; the disk is full or read-only.
    """
    ordered = sorted(records, key=item_id)
    if not ordered:
        raise WorkspaceError(folder, "samples", 0, "at least one packed sample", "Run `las pack`.")
    for one, two in itertools.pairwise(ordered):
        if item_id(one) == item_id(two):
            raise WorkspaceError(folder, "item", item_id(one), "one sample of this id")
    said = collection(folder, corpus, ordered, items=write_items)
    _write_parquet(folder / "items.parquet", corpus, ordered, said)
    said["assets"]["items"] = _file(
        folder / "items.parquet", folder, "All items", PARQUET, ["stac-items"]
    )
    if write_items:
        kept = set()
        for record in ordered:
            path = folder / _item_href(record)
            write_json(path, item(record, corpus, up="../../.."))
            kept.add(path)
        for path in (folder / "items").glob("*/*.json"):
            if path not in kept:
                path.unlink()
    else:
        shutil.rmtree(folder / "items", ignore_errors=True)
    write_json(folder / "collection.json", said)
    return len(ordered)


def item_id(record: SampleRecord) -> str:
    """Unique in the corpus: two subsets may have a sample of one place and day."""
    return f"{record.subset}-{record.key}"


def item(record: SampleRecord, corpus: CorpusInfo, *, up: str) -> dict[str, Any]:
    """A sample as a STAC item.

    A picture without a place has no geometry. The assets' `href` is the shard; where a member lies
    in it is said by `las:offset` and `las:length` (bytes) and by the alternates, which GDAL opens:
    `vsitar` by name, `vsisubfile` by byte range, which needs no reading of the tar. They hold for
    the folder that `href` is relative to.

    Args:
        record: Packed.
        corpus: It belongs to.
        up: From the folder of the item to that of the workspace.
    """
    geometry, bbox = footprint(record.grid)
    subset = next(s for s in corpus.subsets if s.name == record.subset)
    shard = f"{up}/shards/{record.shard}"
    when = f"{record.datetime:%Y-%m-%d}"
    if record.composite is not None and record.between is not None:
        when = " to ".join(f"{end:%Y-%m-%d}" for end in record.between)
    title = f"{record.subset}, {record.site}, {when}"
    cloud = {} if record.cloud_cover is None else {"eo:cloud_cover": record.cloud_cover}
    gsd = {}
    if record.grid.crs is not None:
        gsd = {"gsd": round(math.sqrt(record.grid.pixel_area()), 6)}
    return {
        "type": "Feature",
        "stac_version": STAC,
        "stac_extensions": [PROJECTION, RASTER, ALTERNATE, *([EO] if cloud else [])],
        "id": item_id(record),
        "collection": corpus.name,
        "geometry": geometry,
        **({} if bbox is None else {"bbox": list(bbox)}),
        "properties": {
            "datetime": stac_time(record.datetime),
            **record.interval(),
            "title": f"SYNTHETIC: {title}" if record.synthetic else title,
            **gsd,
            **cloud,
            **projection(record.grid),
            "las:subset": record.subset,
            "las:split": record.split,
            "las:site": record.site,
            "las:scenes": list(record.scenes),
            **({"las:composite": record.composite} if record.composite is not None else {}),
            "las:products": [
                {"name": name, "version": version}
                for name, version in sorted(record.products.items())
            ],
            "las:taxonomy": record.taxonomy,
            "las:weight_km2": record.weight_km2,
            "las:weight_km2_design": record.weight_km2_design,
            "las:component": record.component,
            "las:stratum": record.stratum,
            "las:clear": record.clear,
            "las:resampled": record.resampled,
            "las:shard": record.shard,
            "las:synthetic": record.synthetic,
        },
        "links": [
            {
                "rel": rel,
                "href": f"{up}/catalog/collection.json",
                "type": "application/json",
            }
            for rel in ("root", "parent", "collection")
        ],
        "assets": {
            name: _asset(record, subset, shard, name)
            for name, (member, *_) in _MEMBERS.items()
            if member in record.members
        },
    }


def _asset(record: SampleRecord, subset: SubsetInfo, shard: str, name: str) -> dict[str, Any]:
    member, title, _, roles = _MEMBERS[name]
    offset, length = record.members[member]
    file = f"{record.key}.{member}"
    bands = {}
    if name == "image":
        scaled = zip(subset.bands, record.scale, record.offset, strict=True)
        bands = {
            "bands": [
                {"name": band, "raster:scale": float(scale), "raster:offset": float(off)}
                for band, scale, off in scaled
            ]
        }
    return {
        "href": shard,
        "type": TAR,
        "title": title,
        "roles": roles,
        "las:member": file,
        "las:offset": offset,
        "las:length": length,
        **bands,
        "alternate": {
            "vsitar": {"href": f"/vsitar/{shard}/{file}"},
            "vsisubfile": {"href": f"/vsisubfile/{offset}_{length},{shard}"},
        },
    }


def collection(
    folder: Path, corpus: CorpusInfo, records: Sequence[SampleRecord], *, items: bool
) -> dict[str, Any]:
    """The corpus as a STAC collection, without the asset of its items, which are not written yet."""
    boxes = [box for record in records if (box := footprint(record.grid)[1]) is not None]
    times = [when for r in records for when in (r.between or (r.datetime,))]
    title = f"{corpus.name}: satellite patches with weak land-cover labels"
    if corpus.synthetic:
        title = f"SYNTHETIC: {title}"
    text = corpus.description or title
    return {
        "type": "Collection",
        "stac_version": STAC,
        "stac_extensions": [EO, RASTER, CLASSIFICATION, FILE],
        "id": corpus.name,
        "title": title,
        "description": f"SYNTHETIC, no pixel was measured. {text}" if corpus.synthetic else text,
        "keywords": _keywords(corpus),
        "license": corpus.manifest["license"]["id"],
        "providers": _providers(corpus),
        "extent": _extent(boxes, times),
        "summaries": _summaries(corpus, records),
        "item_assets": {
            name: {"title": said, "type": TAR, "roles": roles}
            for name, (_, said, _, roles) in _MEMBERS.items()
        },
        "assets": _assets(folder, corpus),
        "links": [
            {"rel": "root", "href": "./collection.json", "type": "application/json"},
            *(
                {
                    "rel": "item",
                    "href": f"./{_item_href(record)}",
                    "type": "application/geo+json",
                }
                for record in (records if items else [])
            ),
        ],
    }


def _extent(boxes: Sequence[BBox], times: Sequence[datetime]) -> dict[str, Any]:
    """Of located samples; the whole Earth where none is located, as STAC demands a box."""
    around = overall(boxes) or (-180.0, -90.0, 180.0, 90.0)
    return {
        "spatial": {"bbox": [list(around)]},
        "temporal": {"interval": [[stac_time(min(times)), stac_time(max(times))]]},
    }


def _keywords(corpus: CorpusInfo) -> list[str]:
    names = {s.imagery.name for s in corpus.subsets} | {
        p.name for s in corpus.subsets for p in s.products
    }
    more = ["synthetic"] if corpus.synthetic else []
    return [*more, "land cover", "semantic segmentation", "weak labels", *sorted(names)]


def _providers(corpus: CorpusInfo) -> list[dict[str, Any]]:
    """Whom to name for imagery and labels, each with its licence, and who made the corpus."""
    things: list[Imagery | LabelProduct] = []
    for subset in corpus.subsets:
        things += [subset.imagery, *subset.products]
    found = {
        thing.name: {
            "name": thing.title,
            "description": f"{thing.attribution} (licence: {thing.license})",
            "roles": ["licensor", "producer"],
        }
        for thing in things
    }
    ours = {"name": "las_builder", "roles": ["processor"]}
    return [*(found[name] for name in sorted(found)), ours]


def _summaries(corpus: CorpusInfo, records: Sequence[SampleRecord]) -> dict[str, Any]:
    counted = corpus.manifest["subsets"]
    subsets = [
        {
            "name": subset.name,
            "imagery": subset.imagery.name,
            "platform": subset.imagery.platforms,
            "gsd": subset.imagery.gsd,
            "bands": _bands(subset),
            "las:taxonomy": subset.taxonomy.name,
            "las:products": [{"name": p.name, "version": p.version} for p in subset.products],
            "classification:classes": _classes(subset),
            "license": subset.licenses,
            "attribution": subset.attributions,
            "las:synthetic": subset.synthetic,
            "samples": {
                split: said["samples"] for split, said in counted[subset.name]["splits"].items()
            },
        }
        for subset in corpus.subsets
    ]
    summaries: dict[str, Any] = {
        "platform": sorted({p for s in corpus.subsets for p in s.imagery.platforms}),
        "gsd": sorted({s.imagery.gsd for s in corpus.subsets}),
        "las:split": sorted({record.split for record in records}),
        "las:synthetic": sorted({record.synthetic for record in records}),
        "las:subsets": subsets,
        "las:license": corpus.manifest["license"],
    }
    if len(subsets) == 1:  # of several subsets these would be a mixture that nobody can use
        summaries["bands"] = subsets[0]["bands"]
        summaries["classification:classes"] = subsets[0]["classification:classes"]
    return summaries


def _bands(subset: SubsetInfo) -> list[dict[str, Any]]:
    """As declared; scale and offset vary from scene to scene and are the items' to say."""
    return [
        subset.imagery.band(name).model_dump(
            mode="json", by_alias=True, exclude_none=True, exclude={"scale", "offset"}
        )
        for name in subset.bands
    ]


def _classes(subset: SubsetInfo) -> list[dict[str, Any]]:
    classes = [
        {"value": i, "name": c.name, "title": c.title, "color_hint": c.color_hint}
        for i, c in enumerate(subset.taxonomy.classes)
    ]
    return [*classes, {"value": IGNORE, "name": "ignore", "title": "No label", "nodata": True}]


def _assets(folder: Path, corpus: CorpusInfo) -> dict[str, Any]:
    root = folder.parent
    manifest, index = root / "manifest.json", root / "index.parquet"
    return {
        "manifest": _file(
            manifest, folder, "Counts, statistics, checksums", "application/json", ["metadata"]
        ),
        "index": _file(index, folder, "Byte range of every member", PARQUET, ["metadata"]),
        **{
            shard["name"].removesuffix(".tar"): {
                "href": f"../shards/{shard['name']}",
                "type": TAR,
                "title": f"{shard['samples']} samples of {shard['subset']}, {shard['split']}",
                "roles": ["data"],
                "las:split": shard["split"],
                "las:subset": shard["subset"],
                "file:checksum": multihash(shard["sha256"]),
                "file:size": shard["size"],
            }
            for shard in corpus.manifest["shards"]
        },
    }


def _file(path: Path, folder: Path, title: str, media: str, roles: list[str]) -> dict[str, Any]:
    """A file of the catalogue's folder or of the one above as an asset."""
    return {
        "href": f"./{path.name}" if path.parent == folder else f"../{path.name}",
        "type": media,
        "title": title,
        "roles": roles,
        "file:checksum": multihash(sha256_file(path)),
        "file:size": path.stat().st_size,
    }


def multihash(sha256: str) -> str:
    """A SHA-256 as a multihash: 0x12 says which hash, 0x20 how many bytes."""
    return f"1220{sha256}"


def _item_href(record: SampleRecord) -> str:
    return f"items/{record.subset}/{item_id(record)}.json"


def _write_parquet(
    path: Path, corpus: CorpusInfo, records: Sequence[SampleRecord], about: Mapping[str, Any]
) -> None:
    """stac-geoparquet, a chunk of items in memory at a time, the collection among its metadata.

    The format has no items without geometry: an item without a place has an empty polygon and a box
    of NaN here, and null in JSON.
    """
    import pyarrow as pa
    from stac_geoparquet.arrow import to_parquet
    from stac_geoparquet.arrow._api import stac_items_to_arrow
    from stac_geoparquet.arrow._batch import StacJsonBatch

    def rows(some: Iterable[SampleRecord]) -> list[dict[str, Any]]:
        return [_placed(item(record, corpus, up="..")) for record in some]

    # The columns are those of one item of every kind: subset, and which facts are known.
    kinds = {_kind(record): record for record in reversed(records)}
    schema = StacJsonBatch.from_dicts(rows(kinds[kind] for kind in sorted(kinds))).inner.schema

    def batches() -> Iterator[Any]:
        for start in range(0, len(records), CHUNK):
            yield stac_items_to_arrow(rows(records[start : start + CHUNK]), schema=schema)

    some = batches()
    first = next(some)
    reader = pa.RecordBatchReader.from_batches(first.schema, itertools.chain([first], some))
    with writing(path) as part:
        links = [link for link in about["links"] if link["rel"] != "item"]
        collections = {corpus.name: {**about, "links": links}}
        to_parquet(reader, part, collections=collections, compression="zstd")


def _kind(record: SampleRecord) -> tuple[Any, ...]:
    """What decides which columns an item has."""
    facts = (
        record.cloud_cover, record.weight_km2, record.weight_km2_design, record.clear,
        record.grid.crs, record.scenes or None, record.products or None, record.between,
        record.composite,
    )  # fmt: skip
    wkt = record.grid.crs is not None and len(record.grid.crs) >= 24
    return (record.subset, wkt, *(fact is not None for fact in facts))


def _placed(said: dict[str, Any]) -> dict[str, Any]:
    if said["geometry"] is None:
        nowhere = {"type": "Polygon", "coordinates": []}
        return {**said, "geometry": nowhere, "bbox": [math.nan] * 4}
    return said
