"""STAC 1.1: `collection.json`, `items.parquet` (stac-geoparquet), and JSON items on request.

An item is one sample. Its assets point into the shard: `href` is the tar, `las:offset` and
`las:length` the bytes of the member, `las:vsi` what GDAL opens beside the catalogue.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from las_builder.core.grid import Grid
from las_builder.core.workspace import write_bytes, write_json, writing
from las_builder.pack import SampleRecord, SubsetInfo
from las_builder.pack.record import projection, stac_time

STAC_VERSION = "1.1.0"
EXTENSIONS = {
    "classification": "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "eo": "https://stac-extensions.github.io/eo/v2.0.0/schema.json",
    "file": "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "projection": "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "raster": "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
}
_GEOTIFF = "image/tiff; application=geotiff"
_ROLES = {
    "image.tif": ("image", "Imagery in the provider's numbers", ["data"]),
    "label.tif": ("label", "Class index, 255 = ignore", ["labels"]),
    "confidence.tif": ("confidence", "Chance in percent that the class is right", ["data"]),
    "valid.tif": ("valid", "1 where the surface was seen", ["data-mask"]),
    "json": ("metadata", "What is known of the sample", ["metadata"]),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusInfo:
    """What the collection says of the whole."""

    name: str
    description: str
    subsets: tuple[SubsetInfo, ...]
    manifest: Mapping[str, Any]
    """`manifest.json` as it was written."""

    synthetic: bool


def publish(
    folder: Path, corpus: CorpusInfo, records: Iterable[SampleRecord], *, write_items: bool = False
) -> int:
    """Write the catalogue of a corpus; the number of items.

    Args:
        folder: `catalog/` of the workspace; shards, index and manifest lie beside it.
        corpus: What the whole is.
        records: Every sample, with its place in a shard.
        write_items: Also one JSON file an item, `items/<subset>/<id>.json`.

    Raises:
        WorkspaceError: The disk is full or read-only.
        ValueError: No sample.
    """
    by_name = {subset.name: subset for subset in corpus.subsets}
    items = sorted(
        (item(record, by_name[record.subset], corpus) for record in records),
        key=lambda found: found["id"],
    )
    if not items:
        raise ValueError("a catalogue needs samples")
    collection = _collection(corpus, items, write_items=write_items)
    _write_parquet(folder / "items.parquet", items, collection)
    if write_items:
        for found in items:
            said = {**found, "links": _links(corpus, depth=2)}
            said["assets"] = {
                key: {**asset, "href": f"../../{asset['href']}"}
                for key, asset in found["assets"].items()
            }
            subset = found["properties"]["las:subset"]
            write_json(folder / "items" / subset / f"{found['id']}.json", said)
    write_bytes(folder / "collection.json", json.dumps(collection, indent=1).encode())
    return len(items)


def item(record: SampleRecord, subset: SubsetInfo, corpus: CorpusInfo) -> dict[str, Any]:
    """One sample as a STAC item; hrefs are relative to `catalog/`."""
    geometry, bbox = footprint(record.grid)
    place = {} if record.grid.crs is None else projection(record.grid)
    title = f"{record.subset} {record.site} {record.datetime:%Y-%m-%d}"
    properties: dict[str, Any] = {
        "title": f"SYNTHETIC {title}" if record.synthetic else title,
        "datetime": stac_time(record.datetime),
        "gsd": round(min(record.grid.pixel), 6),
        **place,
        "las:split": record.split,
        "las:subset": record.subset,
        "las:site": record.site,
        "las:shard": record.shard,
        "las:scenes": list(record.scenes),
        "las:products": [f"{name}: {version}" for name, version in sorted(record.products.items())],
        "las:taxonomy": record.taxonomy,
        "las:clear": record.clear,
        "las:resampled": record.resampled,
        "las:weight_km2": record.weight_km2,
        "las:weight_km2_design": record.weight_km2_design,
        "las:synthetic": record.synthetic,
    }
    if record.cloud_cover is not None:
        properties["eo:cloud_cover"] = record.cloud_cover
    assets = {}
    for member, (offset, length) in record.members.items():
        key, words, roles = _ROLES[member]
        assets[key] = {
            "href": f"../shards/{record.shard}",
            "title": words,
            "type": "application/json" if member == "json" else _GEOTIFF,
            "roles": roles,
            "las:offset": offset,
            "las:length": length,
            "las:vsi": f"/vsitar/../shards/{record.shard}/{record.key}.{member}",
        }
    assets["image"]["bands"] = [
        {"name": name, "raster:scale": scale, "raster:offset": offset}
        for name, scale, offset in zip(subset.bands, record.scale, record.offset, strict=True)
    ]
    used = ["raster", *(["projection"] if place else [])]
    used += ["eo"] if record.cloud_cover is not None else []
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": [EXTENSIONS[name] for name in sorted(used)],
        "id": f"{record.subset}-{record.key}",
        "collection": corpus.name,
        "geometry": geometry,
        **({"bbox": bbox} if bbox is not None else {}),
        "properties": properties,
        "links": _links(corpus, depth=0),
        "assets": assets,
    }


def footprint(grid: Grid) -> tuple[dict[str, Any] | None, list[float] | None]:
    """Outline of a patch as GeoJSON (RFC 7946) and its bbox; None without a place.

    Across ±180° the polygon is cut in two and the bbox has west > east. A patch that holds a pole
    is the cap down to its lowest latitude.
    """
    import shapely

    if grid.crs is None:
        return None, None
    ring = np.round(grid.outline_lonlat(), 7)
    lon, lat = np.unwrap(ring[:, 0], period=360), ring[:, 1]
    if abs(lon[-1] - lon[0]) > 180:
        south = float(np.abs(lat).min())
        box = [-180.0, south, 180.0, 90.0] if lat[0] > 0 else [-180.0, -90.0, 180.0, -south]
        return dict(shapely.geometry.mapping(shapely.box(*box))), box
    lon = lon - 360 * np.floor((lon.mean() + 180) / 360)
    whole = shapely.geometry.polygon.orient(shapely.Polygon(np.column_stack([lon, lat])))
    west, south, east, north = whole.bounds
    if west >= -180 and east <= 180:
        return _plain(whole), [west, south, east, north]
    parts = []
    for turn in (-360, 0, 360):
        moved = shapely.affinity.translate(whole, turn)
        part = shapely.intersection(moved, shapely.box(-180, -90, 180, 90))
        if part.area > 0:
            parts.append(shapely.geometry.polygon.orient(part))
    west, east = ((v + 180) % 360 - 180 for v in (west, east))
    return _plain(shapely.MultiPolygon(parts)), [round(west, 7), south, round(east, 7), north]


def _plain(shape: Any) -> dict[str, Any]:
    """GeoJSON with lists, as JSON gives it back."""
    import shapely

    said: dict[str, Any] = json.loads(json.dumps(shapely.geometry.mapping(shape)))
    return said


def _collection(
    corpus: CorpusInfo, items: Sequence[Mapping[str, Any]], *, write_items: bool
) -> dict[str, Any]:
    import pystac

    boxes = [found["bbox"] for found in items if "bbox" in found]
    across = any(box[0] > box[2] for box in boxes)
    bbox = [
        -180.0 if across else min((b[0] for b in boxes), default=-180.0),
        min((b[1] for b in boxes), default=-90.0),
        180.0 if across else max((b[2] for b in boxes), default=180.0),
        max((b[3] for b in boxes), default=90.0),
    ]
    times = sorted(datetime.fromisoformat(i["properties"]["datetime"]) for i in items)
    licences = sorted({v for subset in corpus.subsets for v in subset.licenses.values()})
    name = f"SYNTHETIC {corpus.name}" if corpus.synthetic else corpus.name
    collection = pystac.Collection(
        id=corpus.name,
        title=name,
        description=corpus.description or f"The corpus {corpus.name}, built by las_builder.",
        extent=pystac.Extent(
            pystac.SpatialExtent([bbox]),
            pystac.TemporalExtent([[times[0].astimezone(UTC), times[-1].astimezone(UTC)]]),
        ),
        license=licences[0] if len(licences) == 1 and " " not in licences[0] else "other",
        keywords=["land cover", "training data", "weak labels", "WebDataset"],
        stac_extensions=[EXTENSIONS[k] for k in ("classification", "eo", "file", "raster")],
    )
    said = collection.to_dict(include_self_link=False)
    said["stac_version"] = STAC_VERSION
    said["links"] = [
        {"rel": "root", "href": "./collection.json", "type": "application/json"},
        *_item_links(items, write_items=write_items),
    ]
    said["las:synthetic"] = corpus.synthetic
    said["las:licenses"] = {s.name: s.licenses for s in corpus.subsets}
    said["las:attributions"] = {s.name: s.attributions for s in corpus.subsets}
    said["las:subsets"] = {s.name: _subset(s) for s in corpus.subsets}
    said["summaries"] = {
        "platform": sorted({p for s in corpus.subsets for p in s.imagery.platforms}),
        "gsd": sorted({found["properties"]["gsd"] for found in items}),
        "las:subset": sorted({found["properties"]["las:subset"] for found in items}),
        "las:split": sorted({found["properties"]["las:split"] for found in items}),
    }
    said["assets"] = {
        "items": {
            "href": "./items.parquet",
            "title": f"All {len(items)} items",
            "type": "application/vnd.apache.parquet",
            "roles": ["collection-mirror"],
        },
        "index": {
            "href": "../index.parquet",
            "title": "Byte offset and length of every member",
            "type": "application/vnd.apache.parquet",
            "roles": ["metadata"],
        },
        "manifest": {
            "href": "../manifest.json",
            "title": "Checksums, counts, histograms, statistics, and what it all came from",
            "type": "application/json",
            "roles": ["metadata"],
        },
        **{
            shard["name"].removesuffix(".tar"): {
                "href": f"../shards/{shard['name']}",
                "title": f"{shard['subset']} {shard['split']}, {shard['samples']} samples",
                "type": "application/x-tar",
                "roles": ["data"],
                # Multihash: 0x12 is sha2-256, 0x20 its length in bytes.
                "file:checksum": f"1220{shard['sha256']}",
                "file:size": shard["size"],
            }
            for shard in corpus.manifest["shards"]
        },
    }
    return said


def _subset(subset: SubsetInfo) -> dict[str, Any]:
    imagery = subset.imagery
    return {
        "imagery": imagery.name,
        "bands": [
            imagery.band(name).model_dump(mode="json", by_alias=True, exclude_none=True)
            for name in subset.bands
        ],
        "labels": {p.name: p.version for p in subset.products},
        "taxonomy": subset.taxonomy.name,
        "classification:classes": [
            {"value": i, "name": c.name, "title": c.title, "color_hint": c.color_hint}
            for i, c in enumerate(subset.taxonomy.classes)
        ],
        "prompts": {c.name: c.prompts for c in subset.taxonomy.classes},
        "synthetic": subset.synthetic,
    }


def _links(corpus: CorpusInfo, *, depth: int) -> list[dict[str, str]]:
    href = f"{'../' * depth or './'}collection.json"
    title = f"SYNTHETIC {corpus.name}" if corpus.synthetic else corpus.name
    return [
        {"rel": rel, "href": href, "type": "application/json", "title": title}
        for rel in ("root", "parent", "collection")
    ]


def _item_links(items: Sequence[Mapping[str, Any]], *, write_items: bool) -> list[dict[str, str]]:
    if not write_items:
        return []
    return [
        {
            "rel": "item",
            "href": f"./items/{found['properties']['las:subset']}/{found['id']}.json",
            "type": "application/geo+json",
        }
        for found in items
    ]


def _write_parquet(path: Path, items: Sequence[dict[str, Any]], collection: dict[str, Any]) -> None:
    import stac_geoparquet.arrow

    reader = stac_geoparquet.arrow.parse_stac_items_to_arrow(items)
    with writing(path) as part:
        stac_geoparquet.arrow.to_parquet(
            reader, part, collections={collection["id"]: collection}, compression="zstd"
        )
