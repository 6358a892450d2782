"""Versions of a corpus: what an earlier one has packed is never written again.

`las extend` notes the shards that are there in `versions.json`; `las pack` leaves them alone and packs
what is new into further ones. A sample keeps the JSON that it was packed with; its present weight is
in `weights.parquet` and in the catalogue, because weights are those of the whole corpus.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from las_builder.core.workspace import Workspace, canonical_json, write_bytes, write_json
from las_builder.errors import WorkspaceError
from las_builder.pack import ShardReport
from las_builder.publish.stac import FIRST
from las_builder.recipe import Corpus, Subset


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """What was packed before the corpus was last extended."""

    shards: Mapping[str, str]
    """File name to the version that it came with."""

    packed_by: Mapping[str, str]
    """Subset to a hash of what makes its labels."""

    @property
    def next(self) -> str:
        """Of the shards that are packed now."""
        return str(max(map(int, self.shards.values()), default=int(FIRST) - 1) + 1)

    def reports(self, subset: Subset, space: Workspace) -> list[ShardReport]:
        """The shards of a subset that stay as they are.

        Raises:
            WorkspaceError: One is missing, or labels are made otherwise now.
        """
        found = []
        for name in sorted(self.shards):
            part = space.shards / ".parts" / f"{name}.json"
            if not part.exists():
                raise WorkspaceError(space.shards, name, "no report", "a shard that stays")
            report = ShardReport.from_json(json.loads(part.read_text())["report"])
            if report.subset != subset.name:
                continue
            if not (space.shards / name).is_file():
                raise WorkspaceError(space.shards, name, "missing", "a shard of an earlier version")
            found.append(report)
        if found and self.packed_by[subset.name] != made_by(subset):
            raise WorkspaceError(
                space.versions, subset.name, "other classes, filters or products",
                "those of the shards that are there, which are not written again",
                "`las pack --into` packs all of it anew.",
            )  # fmt: skip
        return found

    def number_from(self, subset: str, split: str) -> int:
        """The first number that is free for a shard."""
        start = f"{subset}-{split}-"
        taken = [
            int(name.removesuffix(".tar").removeprefix(start))
            for name in self.shards
            if name.startswith(start) and name.removesuffix(".tar").removeprefix(start).isdigit()
        ]
        return max(taken, default=-1) + 1


def read_versions(space: Workspace) -> Versions:
    """Of a workspace; none: it was never extended."""
    said = json.loads(space.versions.read_text()) if space.versions.exists() else {}
    return Versions(shards=said.get("shards", {}), packed_by=said.get("packed_by", {}))


def freeze(corpus: Corpus, space: Workspace) -> None:
    """Note what is packed, so that it stays; of what is noted already nothing changes."""
    if not space.manifest.exists():
        return
    known = read_versions(space)
    there = json.loads(space.manifest.read_text())["shards"]
    shards = {s["name"]: known.shards.get(s["name"], str(s.get("version", FIRST))) for s in there}
    now = {subset.name: made_by(subset) for subset in corpus.subsets}
    write_json(space.versions, {"shards": shards, "packed_by": {**now, **known.packed_by}})


def made_by(subset: Subset) -> str:
    """Hash of what decides the meaning of a label: classes, products, filters, bands."""
    said = {
        "classes": subset.crosswalk.taxonomy.model_dump(mode="json"),
        "labels": [product.name for product in subset.labels],
        "filters": subset.filters.said(),
        "bands": list(subset.bands),
    }
    return hashlib.sha256(canonical_json(said)).hexdigest()


def write_weights(space: Workspace, weights: Mapping[str, Mapping[str, float | None]]) -> None:
    """Write `weights.parquet`: subset, site, weight_km2."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [(s, site, km2) for s, found in weights.items() for site, km2 in sorted(found.items())]
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    kinds = (pa.string(), pa.string(), pa.float64())
    table = pa.table(
        [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)],
        names=["subset", "site", "weight_km2"],
    )
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    write_bytes(space.weights, out.getvalue())


def read_weights(space: Workspace) -> dict[tuple[str, str], Any]:
    """(subset, site) to weight, km2; empty where every sample states its own."""
    import pyarrow.parquet as pq

    if not space.weights.exists():
        return {}
    columns = pq.read_table(space.weights).to_pydict()
    pairs = zip(columns["subset"], columns["site"], strict=True)
    return dict(zip(pairs, columns["weight_km2"], strict=True))
