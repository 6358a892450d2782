"""`las pack`: cube rows to shards; a shard whose inputs have not changed is left alone."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from las_builder import plan
from las_builder.core.types import LabelMap, Site
from las_builder.core.workspace import (
    Workspace,
    canonical_json,
    sha256_file,
    write_json,
)
from las_builder.errors import LasError, StageError
from las_builder.fetch import PatchResult
from las_builder.fetch.cube import open_round
from las_builder.harmonise import Crosswalk
from las_builder.pack import (
    Sample,
    SampleRecord,
    ShardReport,
    SubsetInfo,
    manifest,
    sample_key,
    shard_name,
    write_index,
    write_shard,
)
from las_builder.recipe import Corpus, Subset
from las_builder.run.engine import Engine
from las_builder.run.rounds import Standing, final_weights, standing
from las_builder.scenes import PinnedRows

PACKED = ("train", "val", "test")
"""Sites of the other splits are fetched and audited, never packed."""


@dataclass(frozen=True, slots=True)
class Row:
    """One stored row of a cube that belongs into a shard."""

    round: int
    line: PatchResult
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PackJob:
    """One shard."""

    path: Path
    part: Path
    """Its report, written last: the shard is done if and only if this is there and its `inputs`
    are those of the job."""

    split: str
    subset: SubsetInfo
    crosswalk: Crosswalk
    rows: tuple[tuple[Path, int, SampleRecord], ...]
    """(group of the cube, row in it, what is known of the sample)."""

    pixels: tuple[str, ...]
    """Hashes of the block manifests that the rows come from."""

    def inputs(self) -> str:
        """Hash of all that decides the bytes of the shard."""
        said = {
            "samples": [record.metadata(self.subset) for _, _, record in self.rows],
            "rows": [[group.name, row] for group, row, _ in self.rows],
            "classes": self.crosswalk.taxonomy.model_dump(mode="json"),
            "table": {str(k): v for k, v in self.crosswalk.table.items()},
            "prior": {str(k): v for k, v in self.crosswalk.prior.items()},
            "pixels": self.pixels,
        }
        return hashlib.sha256(canonical_json(said)).hexdigest()


def pack_shard(job: PackJob) -> ShardReport:
    """Write one shard and its report.

    Raises:
        LegendError: The cube holds a code that the legend does not list.
        WorkspaceError: The disk is full or read-only.
    """
    inputs = job.inputs()
    if job.part.exists() and job.path.exists():
        said = json.loads(job.part.read_text())
        if said["inputs"] == inputs:
            return ShardReport.from_json(said["report"])
    report = write_shard(job.path, _samples(job), subset=job.subset.name, split=job.split)
    write_json(job.part, {"inputs": inputs, "report": report.to_json()})
    return report


def _samples(job: PackJob) -> Iterator[Sample]:
    product = job.crosswalk.product
    groups = {path: open_round(path) for path in {path for path, _, _ in job.rows}}
    for path, row, record in job.rows:
        group = groups[path]
        codes = np.asarray(group[f"labels/{product}"][row])  # type: ignore[index]
        share = np.asarray(group[f"shares/{product}"][row])  # type: ignore[index]
        label = job.crosswalk.harmonise(
            [
                LabelMap(
                    product=product, version=record.products[product], grid=record.grid,
                    codes=codes, share=share.astype(np.uint8),
                )
            ]
        )  # fmt: skip
        said = {**record.metadata(job.subset), "confidence_kind": label.confidence_kind}
        yield Sample(
            key=record.key,
            grid=record.grid,
            bands=job.subset.bands,
            image=np.asarray(group["image"][row]),  # type: ignore[index]
            valid=np.asarray(group["valid"][row], dtype=bool),  # type: ignore[index]
            label=label.classes,
            confidence=label.confidence,
            scale=record.scale,
            offset=record.offset,
            classes=tuple(job.subset.taxonomy.classes),
            metadata=said,
        )


def subset_info(subset: Subset) -> SubsetInfo:
    """What shards and catalogue say of a subset."""
    return SubsetInfo(
        name=subset.name,
        imagery=subset.imagery,
        bands=subset.bands,
        taxonomy=subset.crosswalk.taxonomy,
        products=subset.labels,
        synthetic=subset.synthetic,
    )


def pack(corpus: Corpus, space: Workspace, engine: Engine) -> str:
    """Pack every stored patch of the splits train, val and test.

    Returns:
        A line a subset: shards and samples.

    Raises:
        StageError: Nothing is stored, or blocks are not fetched yet.
        InputError: A code without a legend; a full or read-only disk.
    """
    sites = plan.read_plan(space.plan)
    reports: list[ShardReport] = []
    for subset in corpus.subsets:
        own = {site.id: site for site in sites if site.subset == subset.name}
        now = standing(own.values(), space.subset(subset.name), subset.layout)
        if now.undone:
            raise StageError(
                f"{subset.name}: {now.undone} blocks are not fetched; run `las fetch` first"
            )
        reports += _pack_subset(subset, own, now, space, engine)
    if not reports:
        raise StageError(f"{corpus.name}: nothing is stored in train, val or test; see `las fetch`")
    _forget_others(space, {report.name for report in reports})
    write_index(space.index, reports)
    infos = [subset_info(subset) for subset in corpus.subsets]
    write_json(space.manifest, manifest(reports, infos, sources=_sources(corpus, space)))
    return "\n".join(
        f"{info.name}: {sum(r.samples for r in packed)} samples in {len(packed)} shards"
        for info in infos
        if (packed := [r for r in reports if r.subset == info.name])
    )


def _pack_subset(
    subset: Subset, sites: dict[str, Site], now: Standing, space: Workspace, engine: Engine
) -> list[ShardReport]:
    by_split: dict[str, list[Row]] = defaultdict(list)
    home = space.subset(subset.name)
    # Shards are mixtures, so rows are asked for out of order: 131,072 of them are held.
    rows = {number: PinnedRows(home.scenes(number), groups=256) for number in home.rounds()}
    for number, line in now.results:
        split = sites[line.site].split
        if line.state == "stored" and split in PACKED:
            day = rows[number].rows(line.row, line.row + 1)[0].scene.datetime.date()
            by_split[split].append(Row(number, line, sample_key(line.site, day)))
    shards: dict[tuple[str, int], Sequence[Row]] = {}
    size = subset.recipe.shards.samples
    for name, found in sorted(by_split.items()):
        # By hash, so that a shard is a mixture of the whole Earth and its order is the same on
        # every machine.
        found.sort(key=lambda row: hashlib.blake2s(row.key.encode()).digest())
        for i, start in enumerate(range(0, len(found), size)):
            shards[name, i] = found[start : start + size]
    reports: list[ShardReport] = []
    for _, report in engine.each(
        pack_shard,
        list(shards),
        prepare=partial(_job, subset, sites, final_weights(now), space, rows, shards),
        title=f"{subset.name} pack",
        unit="samples",
        size=lambda shard: len(shards[shard]),
    ):
        if isinstance(report, LasError):
            raise report
        reports.append(report)
    return reports


def _job(
    subset: Subset, sites: dict[str, Site], weights: Mapping[str, float | None], space: Workspace,
    pinned: dict[int, PinnedRows], shards: dict[tuple[str, int], Sequence[Row]],
    shard: tuple[str, int],
) -> PackJob:  # fmt: skip
    split, number = shard
    home = space.subset(subset.name)
    rows, blocks = [], set()
    for row in shards[shard]:
        (found,) = pinned[row.round].rows(row.line.row, row.line.row + 1)
        site = sites[row.line.site]
        radiometry = [subset.imagery.radiometry(found.scene, band) for band in subset.bands]
        record = SampleRecord(
            key=row.key,
            subset=subset.name,
            split=split,
            site=site.id,
            grid=found.grid,
            datetime=found.scene.datetime,
            scenes=(found.scene.id,),
            products=dict(row.line.versions or {}),
            taxonomy=subset.crosswalk.taxonomy.name,
            scale=tuple(scale for scale, _ in radiometry),
            offset=tuple(offset for _, offset in radiometry),
            synthetic=subset.synthetic,
            lon=site.lon,
            lat=site.lat,
            cloud_cover=found.scene.cloud_cover,
            clear=row.line.clear,
            resampled=row.line.resampled,
            weight_km2=weights[site.id],
            weight_km2_design=site.weight_km2,
            component=site.component,
            stratum=site.stratum,
        )
        rows.append((home.cube / str(row.round), row.line.row, record))
        block = row.line.row // subset.layout.block_patches
        blocks.add(home.block(f"r{row.round}-{block:05d}"))
    name = shard_name(subset.name, split, number)
    return PackJob(
        path=space.shards / name,
        part=space.shards / ".parts" / f"{name}.json",
        split=split,
        subset=subset_info(subset),
        crosswalk=subset.crosswalk,
        rows=tuple(rows),
        pixels=tuple(sha256_file(block) for block in sorted(blocks)),
    )


def _forget_others(space: Workspace, names: set[str]) -> None:
    """Remove shards of an earlier packing that this one does not have."""
    for path in [*space.shards.glob("*.tar"), *space.shards.glob(".parts/*.tar.json")]:
        if path.name.removesuffix(".json") not in names:
            path.unlink()


def _digest(files: Iterable[Path]) -> str:
    """Hex digest of some files: their names and their content."""
    said = "".join(f"{file.name}\0{sha256_file(file)}\n" for file in files)
    return hashlib.sha256(said.encode()).hexdigest()


def _sources(corpus: Corpus, space: Workspace) -> dict[str, str]:
    """Everything that the shards came from, by hash."""
    found = {"recipe": sha256_file(space.lock), "plan": sha256_file(space.plan)}
    for subset in corpus.subsets:
        home = space.subset(subset.name)
        found[f"{subset.name}/scenes"] = _digest(home.scenes(n) for n in home.rounds())
        found[f"{subset.name}/blocks"] = _digest(sorted(home.blocks.glob("[!.]*.json")))
        declared = {
            "recipe": subset.recipe.model_dump(mode="json"),
            "imagery": subset.imagery.model_dump(mode="json", by_alias=True),
            "labels": [p.model_dump(mode="json", by_alias=True) for p in subset.labels],
            "taxonomy": subset.crosswalk.taxonomy.model_dump(mode="json"),
        }
        digest = hashlib.sha256(canonical_json(declared)).hexdigest()
        found[f"{subset.name}/declarations"] = digest
    return found
