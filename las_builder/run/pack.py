"""`las pack`: cube rows to shards; a shard whose inputs have not changed is left alone."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from las_builder import plan
from las_builder.catalogs import Strata
from las_builder.core.types import Harmonised, Scene, Site
from las_builder.core.workspace import (
    Workspace,
    canonical_json,
    sha256_file,
    write_json,
)
from las_builder.errors import LasError, StageError, WorkspaceError
from las_builder.fetch import PatchResult
from las_builder.fetch.cube import open_round
from las_builder.harmonise import Crosswalk
from las_builder.harmonise.consensus import Consensus, Design
from las_builder.harmonise.decisions import Decisions, decided, dropped, kept, read_decisions
from las_builder.harmonise.filters import Filters, Seen
from las_builder.pack import (
    Rejected,
    Sample,
    SampleRecord,
    ShardReport,
    Shards,
    SubsetInfo,
    manifest,
    open_shards,
    sample_key,
    shard_name,
    write_index,
    write_rejected,
    write_shard,
)
from las_builder.pack.caption import CLIMATES, caption
from las_builder.pack.record import between, scene_facts
from las_builder.recipe import Corpus, Subset
from las_builder.run import consume as consuming
from las_builder.run.consensus import labeller, maps_of_row, places
from las_builder.run.engine import Engine
from las_builder.run.rounds import Standing, final_weights, standing
from las_builder.run.versions import Versions, read_versions, write_weights
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
    labeller: Crosswalk | Consensus
    strata: Mapping[str, str]
    """Site to its stratum of the consensus; of one product, none."""

    filters: Filters
    decisions: Decisions
    """Of the sites of its rows."""

    rows: tuple[tuple[Path, int, SampleRecord], ...]
    """(group of the cube, row in it, what is known of the sample)."""

    others: Mapping[str, tuple[tuple[Path, int, Mapping[str, str]], ...]]
    """Key of a sample to the rows of its site at other dates, with their product versions, where a
    filter compares label maps and they come from other ones."""

    siblings: Mapping[str, tuple[tuple[Path, int], ...]]
    """Key of a sample to the other rows of its site, where stability is evidence."""

    places: Mapping[str, str]
    """Site to where it is, in words, where captions are asked for."""

    pixels: tuple[str, ...]
    """Hashes of the block manifests that the rows come from."""

    consumed: tuple[str, ...] = ()
    """Blocks of the rows whose images were freed: enough for a shard that is there, for no other."""

    def inputs(self) -> str:
        """Hash of all that decides the bytes of the shard."""
        said = {
            "samples": [record.metadata(self.subset) for _, _, record in self.rows],
            "rows": [[group.name, row] for group, row, _ in self.rows],
            "classes": self.subset.taxonomy.model_dump(mode="json"),
            **self.labeller.said(),
            "strata": dict(sorted(self.strata.items())),
            "filters": self.filters.said(),
            "decisions": {k: [list(astuple(d)) for d in v] for k, v in self.decisions.items()},
            "others": {
                key: [[group.name, row] for group, row, _ in rows]
                for key, rows in self.others.items()
            },
            "pixels": self.pixels,
            **({"captions": dict(sorted(self.places.items()))} if self.places else {}),
        }
        return hashlib.sha256(canonical_json(said)).hexdigest()


@dataclass(slots=True)
class LeftOut:
    """What filters and decisions did to the patches of one shard, counted on the way."""

    considered: Counter[str] = field(default_factory=Counter)
    rejected: list[Rejected] = field(default_factory=list)
    changed: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def reject(self, record: SampleRecord, step: str) -> None:
        """This patch is in no shard."""
        self.rejected.append(Rejected(record.key, record.site, record.stratum, step))

    def change(self, step: str, **pixels: int) -> None:
        """One sample was gone over by a step."""
        self.changed[step].update({"samples": int(any(pixels.values())), **pixels})

    def told(self, report: ShardReport) -> ShardReport:
        """The report with what was counted."""
        return replace(
            report,
            considered=dict(sorted(self.considered.items())),
            rejected=tuple(self.rejected),
            changed={step: dict(counts) for step, counts in sorted(self.changed.items())},
        )


def pack_shard(job: PackJob) -> ShardReport:
    """Write one shard and its report; one without a sample is a report alone.

    Raises:
        LegendError: The cube holds a code that the legend does not list.
        StageError: It is to be written anew, and images were freed.
        WorkspaceError: The disk is full or read-only.
    """
    inputs = job.inputs()
    if job.part.exists():
        said = json.loads(job.part.read_text())
        if said["inputs"] == inputs and (job.path.exists() or not said["report"]["samples"]):
            return ShardReport.from_json(said["report"])
    if job.consumed:
        raise StageError(
            f"{job.path.name} is to be written anew, and `las pack --consume` freed the images of "
            f"block {job.consumed[0]}; `las fetch --retry consumed` reads them again"
        )
    left_out = LeftOut()
    samples = _samples(job, left_out)
    first = next(samples, None)
    if first is None:
        job.path.unlink(missing_ok=True)
        report = ShardReport.empty(job.path.name, job.subset.name, job.split)
    else:
        report = write_shard(
            job.path, itertools.chain([first], samples), subset=job.subset.name, split=job.split
        )
    report = left_out.told(report)
    write_json(job.part, {"inputs": inputs, "report": report.to_json()})
    return report


def _samples(job: PackJob, left_out: LeftOut) -> Iterator[Sample]:
    """The samples that no filter and no reviewer leaves out, in the order of the rows."""
    names = [entry.name for entry in job.subset.taxonomy.classes]
    groups = _Groups()
    for path, row, record in job.rows:
        left_out.considered[record.stratum] += 1
        decisions = job.decisions.get(record.site, ())
        if dropped(decisions):
            left_out.reject(record, "drop")
            continue
        label, decided_on = decided(
            _label(
                job, groups[path], row, record, record.products, job.siblings.get(record.key, ())
            ),
            decisions,
            names,
        )
        others = [
            decided(_label(job, groups[at], line, record, versions), decisions, names)[0]
            for at, line, versions in job.others.get(record.key, ())
        ]
        image = np.asarray(groups[path]["image"][row])
        valid = np.asarray(groups[path]["valid"][row], dtype=bool)
        found = job.filters.apply(
            label,
            Seen(
                grid=record.grid, image=image, valid=valid, scale=record.scale,
                offset=record.offset, others=others,
            ),
            keep=kept(decisions),
        )  # fmt: skip
        if found.rejected is not None:
            left_out.reject(record, found.rejected)
            continue
        for line in decided_on:
            left_out.change(line["action"], relabelled=line.get("pixels", 0))
        for effect in found.effects:
            left_out.change(effect.step, ignored=effect.ignored, lowered=effect.lowered)
        record = replace(  # noqa: PLW2901 - the same record, with what became of it
            record,
            confidence_kind=found.label.confidence_kind,
            decisions=decided_on,
            filters=[asdict(effect) for effect in found.effects],
            caption=_caption(job, record, found.label.classes) if job.places else None,
        )
        yield Sample(
            key=record.key,
            grid=record.grid,
            bands=job.subset.bands,
            image=image,
            valid=valid,
            label=found.label.classes,
            confidence=found.label.confidence,
            scale=record.scale,
            offset=record.offset,
            classes=tuple(job.subset.taxonomy.classes),
            metadata=record.metadata(job.subset),
        )


def _caption(job: PackJob, record: SampleRecord, label: NDArray[np.uint8]) -> str:
    return caption(
        label,
        [entry.title for entry in job.subset.taxonomy.classes],
        when=record.datetime,
        lat=record.lat,
        place=job.places[record.site],
        sensor=job.subset.imagery.title,
        makers=[product.title for product in job.subset.products],
    )


class _Groups(dict[Path, Any]):
    """Rounds of a cube, opened when first asked for."""

    def __missing__(self, path: Path) -> Any:
        self[path] = open_round(path)
        return self[path]


def _label(
    job: PackJob, group: Any, row: int, record: SampleRecord, versions: Mapping[str, str],
    siblings: Sequence[tuple[Path, int]] = (),
) -> Harmonised:  # fmt: skip
    """What the label products say of one row of a cube."""
    makers = [p for p in job.subset.products if p.name in job.labeller.products]
    maps = maps_of_row(
        group, row, makers, grid=record.grid, versions=versions, siblings=siblings,
        arrays=job.labeller.arrays,
    )  # fmt: skip
    if isinstance(job.labeller, Consensus):
        return job.labeller.harmonise(maps, job.strata[record.site])
    return job.labeller.harmonise(maps)


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


def packed(corpus: Corpus, space: Workspace) -> tuple[list[SubsetInfo], Shards]:
    """What a corpus has been packed into, to be read."""
    return [subset_info(s) for s in corpus.subsets], open_shards(space.shards, space.index)


def pack(
    corpus: Corpus, space: Workspace, engine: Engine, *, into: Path | None = None,
    consume: bool = False,
) -> str:  # fmt: skip
    """Pack every stored patch of the splits train, val and test that filters and reviewers leave.

    Args:
        corpus: With the taxonomies and filters to pack by.
        space: With plan, scenes and cube.
        engine: To work with.
        into: Where shards, index and manifest go; None: into the workspace.
        consume: Free the images of blocks that are in shards, once these were read again.

    Returns:
        A line a subset: shards and samples, and what was left out, stratum by stratum.

    Raises:
        StageError: Nothing is stored, or blocks are not fetched yet, or all was rejected.
        InputError: A code without a legend; decisions on what there is not; a full or read-only
            disk.
    """
    out = space if into is None else _elsewhere(into)
    sites = plan.read_plan(space.plan)
    own = {
        subset.name: {site.id: site for site in sites if site.subset == subset.name}
        for subset in corpus.subsets
    }
    decisions = {
        subset.name: read_decisions(
            space.subset(subset.name).decisions,
            own[subset.name],
            [entry.name for entry in subset.crosswalk.taxonomy.classes],
        )
        for subset in corpus.subsets
    }
    reports: list[ShardReport] = []
    stored: dict[str, dict[tuple[int, int], str]] = {}
    weights: dict[str, Mapping[str, float | None]] = {}
    versions = read_versions(space) if into is None else Versions(shards={}, packed_by={})
    for subset in corpus.subsets:
        now = standing(own[subset.name].values(), space.subset(subset.name), subset.layout)
        if now.undone:
            raise StageError(
                f"{subset.name}: {now.undone} blocks are not fetched; run `las fetch` first"
            )
        found, stored[subset.name], weights[subset.name] = _pack_subset(
            subset, own[subset.name], now, decisions[subset.name], space, out, engine, versions
        )
        reports += found
    if not reports:
        raise StageError(f"{corpus.name}: nothing is stored in train, val or test; see `las fetch`")
    _forget_others(out, reports)
    write_rejected(out.rejected, reports)
    if not any(report.samples for report in reports):
        raise StageError(
            f"{corpus.name}: filters and decisions left no sample; {out.rejected} says which did"
        )
    write_index(out.index, reports)
    infos = [subset_info(subset) for subset in corpus.subsets]
    whole = manifest(reports, infos, sources=_sources(corpus, space))
    for name, decided_on in decisions.items():
        actions = Counter(line.action for lines in decided_on.values() for line in lines)
        whole["subsets"][name]["decisions"] = dict(actions)
    if versions.shards:
        for line in whole["shards"]:
            line["version"] = versions.shards.get(line["name"], versions.next)
        write_weights(out, weights)
    write_json(out.manifest, whole)
    by_name = {info.name: [r for r in reports if r.subset == info.name] for info in infos}
    lines = [line for name, found in by_name.items() for line in _lines(name, found)]
    if consume:
        consuming.verify(reports, out.shards)
        for subset in corpus.subsets:
            home, found = space.subset(subset.name), by_name[subset.name]
            done = consuming.consume(stored[subset.name], found, home, subset.layout)
            lines.append(f"{subset.name}: {done}")
    return "\n".join(lines)


def _lines(name: str, packed: Sequence[ShardReport]) -> list[str]:
    """What was packed of one subset and what was not, for people."""
    if not packed:
        return []
    shards = sum(report.samples > 0 for report in packed)
    lines = [f"{name}: {sum(report.samples for report in packed)} samples in {shards} shards"]
    rejected: dict[str, Counter[str]] = defaultdict(Counter)
    for line in (line for report in packed for line in report.rejected):
        rejected[line.step][line.stratum] += 1
    for step, strata in sorted(rejected.items()):
        most = sorted(strata.items(), key=lambda item: (-item[1], item[0]))
        shown = ", ".join(f"{stratum} {n}" for stratum, n in most[:8])
        more = f", {len(most) - 8} more strata" if len(most) > 8 else ""
        lines.append(f"  {step} left out {strata.total()}: {shown}{more}")
    changed: dict[str, Counter[str]] = defaultdict(Counter)
    for report in packed:
        for step, counts in report.changed.items():
            changed[step].update(counts)
    for step, counts in sorted(changed.items()):
        done = [f"{counts[k]} {k}" for k in ("ignored", "lowered", "relabelled") if counts[k]]
        if done:
            lines.append(f"  {step}: {', '.join(done)} pixels in {counts['samples']} samples")
    return lines


def _days(scene: Scene) -> list[date]:
    """The day of a scene; of a composite those of its first and last."""
    if not scene.members:
        return [scene.datetime.date()]
    days = [one.datetime.date() for one in scene.members]
    return [min(days), max(days)]


def _pack_subset(
    subset: Subset, sites: dict[str, Site], now: Standing, decisions: Decisions, space: Workspace,
    out: Workspace, engine: Engine, versions: Versions,
) -> tuple[list[ShardReport], dict[tuple[int, int], str], Mapping[str, float | None]]:  # fmt: skip
    """Reports; (round, row) of every stored patch to its key, "" where its split is not packed; and
    site to weight.
    """
    stored: dict[tuple[int, int], str] = {}
    by_split: dict[str, list[Row]] = defaultdict(list)
    by_site: dict[str, list[Row]] = defaultdict(list)
    home = space.subset(subset.name)
    made_by = labeller(subset, sites, now, space, engine)
    made_by_dates = isinstance(made_by, Consensus) and made_by.needs_siblings
    # Shards are mixtures, so rows are asked for out of order: 131,072 of them are held.
    rows = {number: PinnedRows(home.scenes(number), groups=256) for number in home.rounds()}
    for number, line in now.results:
        split = sites[line.site].split
        if line.state == "stored":
            stored[number, line.row] = ""
        if line.state == "stored" and split in PACKED:
            scene = rows[number].rows(line.row, line.row + 1)[0].scene
            row = Row(number, line, sample_key(line.site, *_days(scene)))
            stored[number, line.row] = row.key
            by_split[split].append(row)
            if subset.filters.compare_maps or made_by_dates:
                by_site[line.site].append(row)
    shards: dict[tuple[str, int], Sequence[Row]] = {}
    size = subset.recipe.shards.samples
    kept_shards = versions.reports(subset, space) if versions.shards else []
    held = {member.key for report in kept_shards for member in report.members}
    held |= {line.key for report in kept_shards for line in report.rejected}
    for name, found in sorted(by_split.items()):
        # By hash, so that a shard is a mixture of the whole Earth and its order is the same on
        # every machine. What filters reject leaves its shard smaller and moves nothing else.
        new = [row for row in found if row.key not in held]
        new.sort(key=lambda row: hashlib.blake2s(row.key.encode()).digest())
        first = versions.number_from(subset.name, name)
        for i, start in enumerate(range(0, len(new), size), first):
            shards[name, i] = new[start : start + size]
    # A sample that could have been rejected for its label has no known chance, and so no weight.
    selected = subset.filters.select or any(
        dropped(decisions.get(row.line.site, ())) for found in by_split.values() for row in found
    )
    weights = dict.fromkeys(sites) if selected else final_weights(now)
    reports = list(kept_shards)
    for _, report in engine.each(
        pack_shard,
        list(shards),
        prepare=partial(
            _job, subset, sites, weights, decisions, by_site, space, out, rows, shards, made_by
        ),
        title=f"{subset.name} pack",
        unit="samples",
        size=lambda shard: len(shards[shard]),
    ):
        if isinstance(report, LasError):
            raise report
        reports.append(report)
    return reports, stored, weights


def _job(
    subset: Subset, sites: dict[str, Site], weights: Mapping[str, float | None],
    decisions: Decisions, by_site: Mapping[str, Sequence[Row]], space: Workspace,
    out: Workspace, pinned: dict[int, PinnedRows], shards: dict[tuple[str, int], Sequence[Row]],
    made_by: Crosswalk | Consensus, shard: tuple[str, int],
) -> PackJob:  # fmt: skip
    split, number = shard
    home = space.subset(subset.name)
    rows, blocks, consumed = [], set(), set()
    others: dict[str, tuple[tuple[Path, int, Mapping[str, str]], ...]] = {}
    makers = [product.name for product in subset.labels]

    def maps(row: Row) -> list[str]:
        """The label maps that a row comes from."""
        return [(row.line.versions or {}).get(name, "") for name in makers]

    about = {row.line.site for row in shards[shard]}
    design = subset.crosswalk
    here = [sites[site] for site in sorted(about)]
    strata = (
        dict(zip(sorted(about), places(subset, design, here), strict=True))
        if isinstance(design, Design) else {}
    )  # fmt: skip
    siblings: dict[str, tuple[tuple[Path, int], ...]] = {}
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
            scenes=tuple(scene.id for scene in found.scene.parts),
            composite=found.scene.composite,
            scene=scene_facts(found.scene.properties),
            sources=tuple(scene.href for scene in found.scene.parts if scene.href),
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
            consensus=(
                made_by.about_label(strata[site.id]) if isinstance(made_by, Consensus) else None
            ),
            between=(
                between(found.scene.properties)
                if subset.imported is not None or found.scene.members
                else None
            ),
        )
        rows.append((home.cube / str(row.round), row.line.row, record))
        compared = [
            other for other in by_site.get(row.line.site, ())
            if subset.filters.compare_maps and maps(other) != maps(row)
        ]  # fmt: skip
        if compared:
            others[row.key] = tuple(
                (home.cube / str(other.round), other.line.row, dict(other.line.versions or {}))
                for other in compared
            )
        beside = (
            [other for other in by_site.get(row.line.site, ()) if other != row]
            if isinstance(made_by, Consensus) and made_by.needs_siblings else []
        )  # fmt: skip
        if beside:
            siblings[row.key] = tuple(
                (home.cube / str(other.round), other.line.row) for other in beside
            )
        if home.consumed(
            own := f"r{row.round}-{row.line.row // subset.layout.block_patches:05d}"
        ).exists():
            consumed.add(own)
        for read in (row, *compared, *beside):
            block = read.line.row // subset.layout.block_patches
            name = f"r{read.round}-{block:05d}"
            blocks.add(home.block(name))
            blocks.update(home.added(name, product.name) for product in subset.layout.added)
    name = shard_name(subset.name, split, number)
    words = _in_words(subset, here) if subset.recipe.captions else {}
    return PackJob(
        path=out.shards / name,
        part=out.shards / ".parts" / f"{name}.json",
        split=split,
        subset=subset_info(subset),
        labeller=made_by,
        strata=strata,
        places=words,
        filters=subset.filters,
        decisions={site: decisions[site] for site in sorted(about & decisions.keys())},
        rows=tuple(rows),
        others=others,
        siblings=siblings,
        pixels=tuple(sha256_file(block) for block in sorted(blocks)),
        consumed=tuple(sorted(consumed)),
    )


def _in_words(subset: Subset, sites: Sequence[Site]) -> dict[str, str]:
    """Site to country and climate; "" for a picture without a place."""
    strata = Strata.load(subset.catalogs)
    out = {}
    for site in sites:
        if site.lon is None or site.lat is None:
            out[site.id] = ""
            continue
        country = strata.countries[int(strata.country(site.lon, site.lat))].name
        zone = strata.climate_name(int(strata.climate(site.lon, site.lat)))
        climate = f"{CLIMATES[zone[0]]} climate" if zone else ""
        out[site.id] = ", ".join(word for word in (country, climate) if word)
    return out


def _elsewhere(folder: Path) -> Workspace:
    """Another folder to pack into, whose older shards are ours to remove.

    Raises:
        WorkspaceError: It is a workspace, or holds tar files that no packing left.
    """
    out = Workspace(folder)
    strange = any(out.shards.glob("*.tar")) and not (out.shards / ".parts").is_dir()
    if out.lock.exists() or strange:
        raise WorkspaceError(
            folder, "--into", out.lock.name if out.lock.exists() else out.shards.name,
            "a folder that is new or of an earlier `las pack --into`",
        )  # fmt: skip
    return out


def _forget_others(space: Workspace, reports: Sequence[ShardReport]) -> None:
    """Remove shards of an earlier packing that this one does not have."""
    names = {report.name for report in reports}
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
            "filters": subset.filters.said(),
        }
        digest = hashlib.sha256(canonical_json(declared)).hexdigest()
        found[f"{subset.name}/declarations"] = digest
        if home.decisions.exists():
            found[f"{subset.name}/decisions"] = sha256_file(home.decisions)
    return found
