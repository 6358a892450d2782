"""The dataset card of a corpus: `README.md` as Hugging Face reads it, `croissant.json`, from the same facts.

Croissant 1.0: https://docs.mlcommons.org/croissant/docs/croissant-spec.html. The card's head is the
YAML of https://huggingface.co/docs/hub/datasets-cards. What is said stands in manifest.json and the
declarations; nothing depends on when or where it is written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from las_builder.core.workspace import sha256_file, write_bytes, write_json
from las_builder.pack import SubsetInfo
from las_builder.publish.stac import CorpusInfo

HUB_SPLITS = {"train": "train", "val": "validation", "test": "test"}
"""Our splits by the names of Hugging Face."""

_SIZES = (
    (1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)  # fmt: skip
_DATA_TYPES = {
    "id": "sc:Text", "collection": "sc:Text", "las:split": "sc:Text", "datetime": "sc:DateTime",
    "title": "sc:Text", "las:site": "sc:Text", "las:stratum": "sc:Text", "las:shard": "sc:Text",
    "las:weight_km2": "sc:Float", "las:clear": "sc:Float",
}  # fmt: skip
_ABOUT = {
    "id": "Of the STAC item", "collection": "The subset", "las:split": "train, val or test",
    "datetime": "Of the scene, UTC", "title": "Subset, site and day", "las:site": "The place",
    "las:stratum": "Of the design", "las:shard": "The tar that holds the sample",
    "las:weight_km2": "Area that the site stands for, km2",
    "las:clear": "Share of the patch in which the surface was seen, 0-1",
}  # fmt: skip


def write_cards(root: Path, corpus: CorpusInfo, pictures: Mapping[str, str]) -> None:
    """Write `README.md` and `croissant.json` into the folder of a published corpus.

    Args:
        root: Holds `shards/`, `catalog/`, `index.parquet` and `manifest.json`.
        corpus: Published.
        pictures: Path from `root` to what it shows.

    Raises:
        WorkspaceError: The disk is full or read-only.
    """
    write_json(root / "croissant.json", croissant(root, corpus))
    write_bytes(root / "README.md", card(corpus, pictures).encode())


def croissant(root: Path, corpus: CorpusInfo) -> dict[str, Any]:
    """The corpus in Croissant 1.0: every file with its checksum, the samples as records."""
    files = [
        _file_object(root, "catalog/items.parquet", "application/x-parquet"),
        _file_object(root, "manifest.json", "application/json"),
        *(
            {
                "@type": "cr:FileObject",
                "@id": shard["name"],
                "name": shard["name"],
                "contentUrl": f"shards/{shard['name']}",
                "contentSize": f"{shard['size']} B",
                "encodingFormat": "application/x-tar",
                "sha256": shard["sha256"],
            }
            for shard in corpus.manifest["shards"]
        ),
    ]
    splits = [{"splits/name": name, "splits/url": f"cr:{url}"} for name, url in _SPLIT_TERMS]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": corpus.name,
        "description": corpus.text,
        "license": _licence_url(corpus.licence),
        "citeAs": corpus.citation,
        "version": f"{corpus.versions[-1]}.0.0",
        "keywords": ["land cover", "semantic segmentation", "weak labels", "remote sensing"],
        "isLiveDataset": False,
        "distribution": files,
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "splits",
                "name": "splits",
                "dataType": "cr:Split",
                "key": {"@id": "splits/name"},
                "field": [
                    {"@type": "cr:Field", "@id": "splits/name", "name": "name", "dataType": "sc:Text"},
                    {"@type": "cr:Field", "@id": "splits/url", "name": "url", "dataType": "sc:URL"},
                ],
                "data": splits,
            },
            {
                "@type": "cr:RecordSet",
                "@id": "samples",
                "name": "samples",
                "description": "A row a sample; pixels are the bytes las:offset to las:offset + "
                "las:length of the shard, see the column assets.",
                "key": {"@id": "samples/id"},
                "field": [
                    {
                        "@type": "cr:Field",
                        "@id": f"samples/{name}",
                        "name": name,
                        "description": _ABOUT[name],
                        "dataType": kind,
                        **({"references": {"field": {"@id": "splits/name"}}}
                           if name == "las:split" else {}),
                        "source": {
                            "fileObject": {"@id": "catalog/items.parquet"},
                            "extract": {"column": name},
                        },
                    }
                    for name, kind in _DATA_TYPES.items()
                ],
            },
            *(_classes(subset) for subset in corpus.subsets),
        ],
    }  # fmt: skip


_SPLIT_TERMS = (("train", "TrainingSplit"), ("val", "ValidationSplit"), ("test", "TestSplit"))


def _classes(subset: SubsetInfo) -> dict[str, Any]:
    """The legend of a subset as records."""
    name = f"{subset.name}-classes"
    kinds = {"value": "sc:Integer", "name": "sc:Text", "title": "sc:Text"}
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"Class index in the label of {subset.name}; 255 is no label.",
        "key": {"@id": f"{name}/value"},
        "field": [
            {"@type": "cr:Field", "@id": f"{name}/{key}", "name": key, "dataType": kind}
            for key, kind in kinds.items()
        ],
        "data": [
            {f"{name}/value": i, f"{name}/name": entry.name, f"{name}/title": entry.title}
            for i, entry in enumerate(subset.taxonomy.classes)
        ],
    }


def _file_object(root: Path, path: str, media: str) -> dict[str, Any]:
    file = root / path
    return {
        "@type": "cr:FileObject",
        "@id": path,
        "name": path.rpartition("/")[2],
        "contentUrl": path,
        "contentSize": f"{file.stat().st_size} B",
        "encodingFormat": media,
        "sha256": sha256_file(file),
    }


def _licence_url(licence: str) -> str:
    if licence == "other":
        return "other: see README.md"
    return f"https://spdx.org/licenses/{licence}.html"


def card(corpus: CorpusInfo, pictures: Mapping[str, str]) -> str:
    """`README.md`: YAML for the hub, then what a reader asks first."""
    counts = {
        name: {s: about["splits"][s]["samples"] for s in HUB_SPLITS if s in about["splits"]}
        for name, about in corpus.manifest["subsets"].items()
    }
    total = sum(n for splits in counts.values() for n in splits.values())
    plain = corpus.licence != "other"
    head = {
        "pretty_name": corpus.title,
        "license": corpus.licence.lower() if plain else "other",
        **({} if plain else {"license_name": "see-below", "license_link": "README.md#licence"}),
        "task_categories": ["image-segmentation"],
        "tags": ["remote-sensing", "earth-observation", "land-cover", "webdataset", "stac",
                 *(["synthetic"] if corpus.synthetic else [])],
        "size_categories": [next((s for most, s in _SIZES if total < most), "n>10M")],
        "configs": [
            {
                "config_name": name,
                "data_files": [
                    {"split": HUB_SPLITS[split], "path": f"shards/{name}-{split}-*.tar"}
                    for split, n in splits.items() if n
                ],
            }
            for name, splits in counts.items() if any(splits.values())
        ],
    }  # fmt: skip
    lines = [
        "---",
        yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=100).rstrip(),
        "---",
        "",
        f"# {corpus.title}",
        "",
        corpus.text,
        "",
        *(f"![{shows}]({path})\n\n*{shows}*\n" for path, shows in pictures.items()),
        "## What is in it",
        "",
        "| subset | imagery | labels | classes | train | val | test |",
        "|---|---|---|---|---|---|---|",
        *(_row(subset, counts[subset.name]) for subset in corpus.subsets),
        "",
        "A sample is five files in a WebDataset tar: `image.tif`, `label.tif`, `confidence.tif`, `valid.tif` "
        "(GeoTIFF with CRS, scale, offset and legend) and `json` (scenes, dates, products, weight). Labels are "
        "class indices, 255 = no label; they come from land-cover products and err: confidence is percent, "
        "255 = nothing is said. Labels are not altered by clouds: multiply by `valid`.",
        "",
        *_shares(corpus),
        "## Reading it",
        "",
        "```python",
        "import las_builder",
        "",
        'corpus = las_builder.open_corpus("URL or folder of this corpus")',
        "items = corpus.items()  # a GeoDataFrame: filter it",
        'for sample in corpus.samples(items[items["las:split"] == "train"]):',
        "    sample.image, sample.label, sample.valid, sample.metadata",
        "```",
        "",
        "`catalog/items.parquet` is stac-geoparquet (geopandas, DuckDB, rustac), `catalog/catalog.json` STAC 1.1; any "
        "WebDataset reader takes `shards/*.tar`. Each sample states `las:weight_km2`, the area that its site "
        "stands for; statistics that shall hold for the Earth need it.",
        "",
        "## Licence",
        "",
        _licence(corpus),
        "",
        *_sources(corpus),
        "",
        "## Citation",
        "",
        corpus.citation,
        "",
        f"Made by las_builder {corpus.manifest['las_builder']}, version {corpus.versions[-1]} of the corpus; "
        f"manifest {_digest(corpus.manifest)}.",
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def _row(subset: SubsetInfo, counts: Mapping[str, int]) -> str:
    cells = [
        f"`{subset.name}`",
        f"{subset.imagery.title}, {len(subset.bands)} bands, {subset.imagery.gsd:g} m",
        "; ".join(f"{p.title} ({p.version})" for p in subset.products),
        f"{len(subset.taxonomy.classes)} ({subset.taxonomy.name})",
        *(f"{counts.get(split, 0):,}" for split in HUB_SPLITS),
    ]
    return f"| {' | '.join(cells)} |"


def _shares(corpus: CorpusInfo) -> list[str]:
    """The most frequent classes of each subset, of pixels that have a label."""
    out = []
    for subset in corpus.subsets:
        pixels: dict[str, int] = {}
        for said in corpus.manifest["subsets"][subset.name]["splits"].values():
            for name, n in said["label_pixels"].items():
                pixels[name] = pixels.get(name, 0) + n
        labelled = sum(n for name, n in pixels.items() if name != "ignore")
        titles = {entry.name: entry.title for entry in subset.taxonomy.classes}
        most = sorted(((n, name) for name, n in pixels.items() if name in titles), reverse=True)
        shown = ", ".join(f"{titles[name]} {n / labelled:.1%}" for n, name in most[:8] if n)
        if labelled:
            out += [f"- `{subset.name}`, pixels with a label: {shown}"]
    return ["Shares of patches, not of the Earth:", "", *out, ""]


def _licence(corpus: CorpusInfo) -> str:
    said = corpus.manifest["license"]
    words = [
        *(["name the sources below"] if said["attribution"] else []),
        *(["no commercial use"] if said["non_commercial"] else []),
        *(["share alike"] if said["share_alike"] else []),
        *([] if said["redistribution"] else ["not to be passed on"]),
    ]
    text = f"**{said['id']}**" + (f": {', '.join(words)}" if words else "")
    text += f", because of {', '.join(said['because'])}" if said["because"] else ""
    if said["unknown"]:
        text += f". Nobody has said what these ask: {', '.join(said['unknown'])}"
    return f"{text}. Computed from the licences of what it is made from; bookkeeping, not legal advice."


def _sources(corpus: CorpusInfo) -> list[str]:
    licences = {part.name: part.licence.id for s in corpus.subsets for part in s.ingredients}
    named = dict(pair for s in corpus.subsets for pair in s.attributions.items())
    return [
        "| made from | licence | attribution |",
        "|---|---|---|",
        *(f"| `{name}` | {licences[name]} | {named[name]} |" for name in sorted(licences)),
    ]


def _digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:12]


_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{
        name: f"cr:{name}"
        for name in (
            "citeAs", "column", "extract", "field", "fileProperty", "fileObject", "fileSet",
            "format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path",
            "recordSet", "references", "regex", "repeated", "replace", "samplingRate", "separator",
            "source", "subField", "transform", "equivalentProperty",
        )
    },
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "sc": "https://schema.org/",
}  # fmt: skip
"""Of Croissant 1.0, as its specification gives it."""
