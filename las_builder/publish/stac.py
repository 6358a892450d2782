"""The corpus as STAC 1.1: a catalogue, a collection a subset, items as GeoParquet, JSON on request.

    catalog/
      catalog.json                    the corpus
      items.parquet                   stac-geoparquet: an item a sample, by collection and id
      <subset>/collection.json        extent, licence, citation, bands and classes, the shards
      <subset>/versions/<n>.json      the same of an earlier version, where the corpus was extended
      <subset>/items/<id>.json        the items of the table, on request

Links and assets are relative, so a corpus can be moved or uploaded as it is.
"""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from las_builder.catalogs import Imagery, LabelProduct
from las_builder.core.licence import LICENCES
from las_builder.core.types import IGNORE
from las_builder.core.workspace import sha256_file, write_json
from las_builder.errors import WorkspaceError
from las_builder.pack import SampleRecord, SubsetInfo
from las_builder.pack.record import stac_time
from las_builder.publish.footprint import BBox, overall
from las_builder.publish.table import (
    ASSETS,
    CHUNK,
    CLASSIFICATION,
    EO,
    FILE,
    PROCESSING,
    RASTER,
    SCIENTIFIC,
    STAC,
    TAR,
    VERSION,
    Facts,
    batch,
    finish,
    item_id,
    items_of,
    table_writer,
)

PARQUET = "application/vnd.apache.parquet"
JSON, GEOJSON = "application/json", "application/geo+json"
FIRST = "1"
"""Version of a corpus that was never extended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusInfo:
    """What the catalogue says of a corpus."""

    name: str
    description: str
    subsets: tuple[SubsetInfo, ...]

    manifest: Mapping[str, Any]
    """The value of manifest.json: the shards and their checksums."""

    synthetic: bool
    """Whether any pixel is made up; titles then begin with SYNTHETIC."""

    @property
    def title(self) -> str:
        """Of the catalogue."""
        plain = f"{self.name}: satellite patches with weak land-cover labels"
        return f"SYNTHETIC: {plain}" if self.synthetic else plain

    @property
    def text(self) -> str:
        """What it is, in a sentence or more."""
        return _said(self.synthetic, self.description or self.title)

    @property
    def licence(self) -> str:
        """What it may be passed on under: SPDX, or "other"."""
        return str(self.manifest["license"]["id"])

    @property
    def versions(self) -> list[str]:
        """Oldest first; the last is this one."""
        return sorted({_version(shard) for shard in self.manifest["shards"]}, key=int) or [FIRST]

    @property
    def citation(self) -> str:
        """How to name it: what it is made of is named by its own publishers' words."""
        sources = dict(pair for s in self.subsets for pair in sorted(s.attributions.items()))
        made = (
            f"{self.title}, version {self.versions[-1]}, las_builder {self.manifest['las_builder']}"
        )
        return f"{made}. Made from: {'; '.join(sources.values())}."

    def facts(self, subset: SubsetInfo) -> Facts:
        """What its items have in common."""
        shards = [s for s in self.manifest["shards"] if s["subset"] == subset.name]
        return Facts(
            bands=subset.bands,
            licence=self.licence,
            software={"las_builder": self.manifest["las_builder"]},
            shards={s["name"]: (s["sha256"], s["size"]) for s in shards},
            versions={s["name"]: _version(s) for s in shards},
        )


@dataclass(slots=True)
class Tally:
    """What a collection says of its items, counted as they are written."""

    boxes: set[BBox] = field(default_factory=set)
    times: tuple[datetime, datetime] | None = None
    splits: Counter[str] = field(default_factory=Counter)
    platforms: set[str] = field(default_factory=set)
    ids: list[str] = field(default_factory=list)
    """Of the items, where JSON is asked for."""

    def add(self, records: Sequence[SampleRecord], boxes: Iterable[BBox]) -> None:
        """Some more items."""
        self.boxes.update(boxes)
        times = [when for r in records for when in (r.between or (r.datetime,))]
        times += self.times or ()
        self.times = (min(times), max(times))
        self.splits.update(record.split for record in records)
        self.platforms.update(r.scene["platform"] for r in records if "platform" in r.scene)

    @staticmethod
    def merged(parts: Sequence[Tally]) -> Tally:
        """Of all of them."""
        out = Tally()
        for part in parts:
            out.boxes |= part.boxes
            times = [*(out.times or ()), *(part.times or ())]
            out.times = (min(times), max(times)) if times else None
            out.splits += part.splits
            out.platforms |= part.platforms
            out.ids += part.ids
        return out


Tallies = Mapping[str, Mapping[str, Tally]]
"""Subset to version to what came with it."""


def publish(
    folder: Path,
    corpus: CorpusInfo,
    records: Iterable[SampleRecord],
    *,
    write_items: bool = False,
) -> int:
    """Write the catalogue. The same corpus gives the same bytes.

    Args:
        folder: `catalog/` of the workspace; shards, index and manifest lie beside it.
        corpus: The corpus.
        records: Of every sample, packed, by subset and key. Memory holds `CHUNK` of them.
        write_items: Whether to write each item as JSON too.

    Returns:
        How many items there are.

    Raises:
        WorkspaceError: No samples, two of one id; the disk is full or read-only.
    """
    tallies: dict[str, dict[str, Tally]] = defaultdict(lambda: defaultdict(Tally))
    infos = {subset.name: subset for subset in corpus.subsets}
    count = 0
    for name in infos:  # of an earlier publication
        shutil.rmtree(folder / name / "items", ignore_errors=True)
    with table_writer(folder / "items.parquet") as writer:
        for some in _chunks(folder, records):
            facts = corpus.facts(infos[some[0].subset])
            rows, where = batch(some, facts)
            writer.write_batch(rows)
            count += len(some)
            by_version = defaultdict(list)
            for i, record in enumerate(some):
                by_version[facts.versions[record.shard]].append(i)
            boxes = where.boxes.tolist()
            for version, chosen in by_version.items():
                tally = tallies[some[0].subset][version]
                known = [tuple(boxes[i]) for i in chosen if boxes[i][0] == boxes[i][0]]
                tally.add([some[i] for i in chosen], known)
                if write_items:
                    tally.ids += [item_id(some[i]) for i in chosen]
            if write_items:
                for said in items_of(rows, up="../../"):
                    write_json(folder / said["collection"] / "items" / f"{said['id']}.json", said)
        if not count:
            raise WorkspaceError(
                folder, "samples", 0, "at least one packed sample", "Run `las pack`."
            )
        written = [subset for subset in corpus.subsets if subset.name in tallies]
        last = corpus.versions[-1]
        found = {s.name: collection(folder, corpus, s, tallies, last) for s in written}
        bare = {name: {**said, "links": _not_items(said)} for name, said in found.items()}
        finish(writer, bare)
    table = _file(
        folder / "items.parquet", "../items.parquet", "All items", PARQUET, ["stac-items"]
    )
    for path in folder.iterdir():
        if path.is_dir() and path.name not in found and (path / "collection.json").exists():
            shutil.rmtree(path)
    (folder / "collection.json").unlink(missing_ok=True)  # of a version with one collection
    for subset in written:
        said = found[subset.name]
        said["assets"] = {"items": table, **said["assets"]}
        write_json(folder / subset.name / "collection.json", said)
        for version in _versions_of(tallies, subset)[:-1]:
            old = collection(folder, corpus, subset, tallies, version)
            write_json(folder / subset.name / "versions" / f"{version}.json", old)
    write_json(folder / "catalog.json", catalogue(corpus, [s.name for s in written]))
    return count


def _chunks(folder: Path, records: Iterable[SampleRecord]) -> Iterator[list[SampleRecord]]:
    """Records of one subset, some at a time.

    Raises:
        WorkspaceError: Two of one id, or not by subset and key.
    """
    last: tuple[str, str] | None = None
    some: list[SampleRecord] = []
    for record in records:
        now = (record.subset, record.key)
        if last is not None and now <= last:
            raise WorkspaceError(
                folder, "item", item_id(record), "one sample of this id, in the order of ids"
            )
        if some and (record.subset != some[0].subset or len(some) == CHUNK):
            yield some
            some = []
        some.append(record)
        last = now
    if some:
        yield some


def catalogue(corpus: CorpusInfo, subsets: Sequence[str]) -> dict[str, Any]:
    """The corpus as a STAC catalogue."""
    return {
        "type": "Catalog",
        "stac_version": STAC,
        "stac_extensions": [],
        "id": corpus.name,
        "title": corpus.title,
        "description": corpus.text,
        "las:license": corpus.manifest["license"],
        "links": [
            {"rel": "root", "href": "./catalog.json", "type": JSON},
            *(
                {"rel": "child", "href": f"./{name}/collection.json", "type": JSON, "title": name}
                for name in subsets
            ),
            {"rel": "items", "href": "./items.parquet", "type": PARQUET, "title": "All items"},
        ],
    }


def _versions_of(tallies: Tallies, subset: SubsetInfo) -> list[str]:
    return sorted(tallies[subset.name], key=int)


def _version(shard: Mapping[str, Any]) -> str:
    """Of a shard of the manifest: the version of the corpus that it came with."""
    return str(shard.get("version", FIRST))


def _said(synthetic: bool, text: str) -> str:
    return f"SYNTHETIC, no pixel was measured. {text}" if synthetic else text


def _not_items(said: Mapping[str, Any]) -> list[Any]:
    return [link for link in said["links"] if link["rel"] != "item"]


def collection(
    folder: Path, corpus: CorpusInfo, subset: SubsetInfo, tallies: Tallies, version: str
) -> dict[str, Any]:
    """One subset, as it was at a version, without the asset of its items."""
    own = _versions_of(tallies, subset)
    held = [v for v in own if int(v) <= int(version)]
    tally = Tally.merged([tallies[subset.name][v] for v in held])
    assert tally.times is not None
    title = f"{subset.name}: {subset.imagery.title}, {', '.join(p.title for p in subset.products)}"
    current = held == own
    up, home = ("..", ".") if current else ("../..", "..")
    sources = [
        {"doi": p.doi, "citation": p.attribution} for p in subset.products if p.doi is not None
    ]
    more: dict[str, dict[str, Any]] = {
        "image": {
            "bands": _bands(subset),
            "data_type": subset.imagery.data_type,
            "raster:spatial_resolution": subset.imagery.gsd,
        },
        "label": {"classification:classes": _classes(subset)},
    }
    around = overall(tally.boxes) or (-180.0, -90.0, 180.0, 90.0)  # STAC demands a box
    return {
        "type": "Collection",
        "stac_version": STAC,
        "stac_extensions": [
            EO, RASTER, CLASSIFICATION, FILE, PROCESSING, SCIENTIFIC, VERSION,
        ],
        "id": subset.name,
        "title": f"SYNTHETIC: {title}" if subset.synthetic else title,
        "description": _said(subset.synthetic, corpus.description or title),
        "keywords": _keywords(subset),
        "license": corpus.licence,
        "version": held[-1],
        "las:imagery": subset.imagery.name,
        "sci:citation": corpus.citation,
        **({"sci:publications": sources} if sources else {}),
        "providers": _providers(subset),
        "extent": {
            "spatial": {"bbox": [list(around)]},
            "temporal": {"interval": [[stac_time(when) for when in tally.times]]},
        },
        "summaries": _summaries(corpus, subset, tally),
        "item_assets": {
            name: {
                "title": said,
                "type": TAR,
                "roles": roles,
                **more.get(name, {}),
            }
            for name, (_, said, roles) in ASSETS.items()
        },
        "assets": _assets(folder, corpus, subset, up, held),
        "links": [
            {"rel": "root", "href": f"{up}/catalog.json", "type": JSON},
            {"rel": "parent", "href": f"{up}/catalog.json", "type": JSON},
            *_licence_links(subset),
            *({"rel": "cite-as", "href": f"https://doi.org/{line['doi']}"} for line in sources),
            *_version_links(own, held[-1], home),
            *(
                {"rel": "item", "href": f"{home}/items/{name}.json", "type": GEOJSON}
                for name in tally.ids
            ),
        ],
    }  # fmt: skip


def _version_links(own: Sequence[str], version: str, home: str) -> list[dict[str, Any]]:
    """To the versions before and after, and to the newest."""
    at = own.index(version)

    def link(rel: str, wanted: str) -> dict[str, Any]:
        file = "collection.json" if wanted == own[-1] else f"versions/{wanted}.json"
        return {"rel": rel, "href": f"{home}/{file}", "type": JSON, "title": f"version {wanted}"}

    before = [link("predecessor-version", own[at - 1])] if at else []
    after = [
        link("successor-version", own[at + 1]), link("latest-version", own[-1]),
    ] if at + 1 < len(own) else []  # fmt: skip
    return before + after


def _licence_links(subset: SubsetInfo) -> list[dict[str, Any]]:
    """To the text of each ingredient's licence, where it has one on the web."""
    urls = {}
    for part in subset.ingredients:
        source = LICENCES[part.licence.id].source if part.licence.id in LICENCES else ""
        if source.startswith("https://"):
            urls[source.split(" ")[0]] = part.licence.id
    return [{"rel": "license", "href": url, "title": name} for url, name in sorted(urls.items())]


def _keywords(subset: SubsetInfo) -> list[str]:
    names = {subset.imagery.name, *(product.name for product in subset.products)}
    more = ["synthetic"] if subset.synthetic else []
    return [*more, "land cover", "semantic segmentation", "weak labels", *sorted(names)]


def _providers(subset: SubsetInfo) -> list[dict[str, Any]]:
    """Whom to name for imagery and labels, each with its licence, and who made the corpus."""
    things: list[Imagery | LabelProduct] = [subset.imagery, *subset.products]
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


def _summaries(corpus: CorpusInfo, subset: SubsetInfo, tally: Tally) -> dict[str, Any]:
    platforms = tally.platforms or set(subset.imagery.platforms)
    return {
        "platform": sorted(platforms),
        "gsd": [subset.imagery.gsd],
        "bands": _bands(subset),
        "las:split": sorted(tally.splits),
        "las:samples": [{"split": k, "samples": n} for k, n in sorted(tally.splits.items())],
        "las:synthetic": [subset.synthetic],
        "las:taxonomy": [subset.taxonomy.name],
        "las:products": [{"name": p.name, "version": p.version} for p in subset.products],
        "las:licenses": [
            {"name": name, "license": said} for name, said in sorted(subset.licenses.items())
        ],
        "las:license": [dict(corpus.manifest["license"])],
        "classification:classes": _classes(subset),
        "processing:software": [{"las_builder": corpus.manifest["las_builder"]}],
    }


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


def _assets(
    folder: Path, corpus: CorpusInfo, subset: SubsetInfo, up: str, versions: Sequence[str]
) -> dict[str, Any]:
    root = folder.parent
    up = f"{up}/.."
    return {
        "manifest": _file(
            root / "manifest.json", f"{up}/manifest.json", "Counts, statistics, checksums", JSON,
            ["metadata"],
        ),
        "index": _file(
            root / "index.parquet", f"{up}/index.parquet", "Byte range of every member", PARQUET,
            ["metadata"],
        ),
        **{
            shard["name"].removesuffix(".tar"): {
                "href": f"{up}/shards/{shard['name']}",
                "type": TAR,
                "title": f"{shard['samples']} samples of {shard['subset']}, {shard['split']}",
                "roles": ["data"],
                "las:split": shard["split"],
                "las:version": _version(shard),
                "file:checksum": multihash(shard["sha256"]),
                "file:size": shard["size"],
            }
            for shard in corpus.manifest["shards"]
            if shard["subset"] == subset.name and _version(shard) in versions
        },
    }  # fmt: skip


def _file(path: Path, href: str, title: str, media: str, roles: list[str]) -> dict[str, Any]:
    """A file as an asset."""
    return {
        "href": href,
        "type": media,
        "title": title,
        "roles": roles,
        "file:checksum": multihash(sha256_file(path)),
        "file:size": path.stat().st_size,
    }


def multihash(sha256: str) -> str:
    """A SHA-256 as a multihash: 0x12 says which hash, 0x20 how many bytes."""
    return f"1220{sha256}"
