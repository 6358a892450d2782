"""`las consensus`: fit, per subset, what makes one label of several products."""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from las_builder import plan
from las_builder.access.virtual import VirtualEarth
from las_builder.access.virtual.leaves import LEAVES
from las_builder.catalogs import LabelProduct
from las_builder.core.grid import Grid
from las_builder.core.types import LabelMap, PinnedScene, Site
from las_builder.core.workspace import (
    SubsetSpace,
    Workspace,
    canonical_json,
    sha256_file,
    write_json,
)
from las_builder.errors import (
    InputError,
    LasError,
    LasWarning,
    LegendError,
    RecipeError,
    StageError,
)
from las_builder.fetch import PatchResult
from las_builder.fetch.cube import open_round
from las_builder.harmonise import Crosswalk
from las_builder.harmonise.consensus import (
    Ballot,
    Consensus,
    Design,
    Tuples,
    fit,
)
from las_builder.harmonise.consensus.changes import changes
from las_builder.harmonise.consensus.held_out import Observed, calibrated_on
from las_builder.harmonise.consensus.model import VERSION
from las_builder.harmonise.consensus.reference import pixels_of, read_points
from las_builder.harmonise.consensus.strata import strata_at
from las_builder.harmonise.count import number_tuples
from las_builder.recipe import Corpus, Subset
from las_builder.run.engine import Engine
from las_builder.run.rounds import Standing, final_weights, standing
from las_builder.scenes import PinnedRows

Ints = NDArray[np.int64]

WHOLE = 1 << 40
"""What a site of mean weight counts for: counts are whole numbers, so their sum has no order."""

_NOWHERE = Affine(1, 0, 0, 0, -1, 0)

VIRTUAL = "virtual"
"""As a reference: the truth of the virtual Earth."""

_HELD = 1 << 22  # tuples held before they are merged

SIDE = 8
"""Of the grid of pixels that is looked at in a reference patch of the virtual Earth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountJob:
    """The stored rows of one block."""

    group: Path
    rows: tuple[tuple[int, str, int], ...]
    """(row, stratum, what each of its pixels counts for), in the order of rows."""

    siblings: Mapping[int, tuple[tuple[Path, int], ...]]
    """Row to the other rows of its site; only where stability is evidence."""

    products: tuple[LabelProduct, ...]
    ballots: tuple[Ballot, ...]
    looked_at: Mapping[int, tuple[Ints, Ints]] = field(default_factory=dict)
    """Row to the rows and columns of its reference pixels; None: all pixels are counted."""


def count_block(job: CountJob) -> dict[str, tuple[Ints, Ints]]:
    """Tuples of symbols of one block by stratum: (n, product), and what they count for, (n,)."""
    parts: dict[str, list[tuple[Ints, Ints]]] = defaultdict(list)
    for (_, stratum, unit), symbols in zip(job.rows, _symbols(job), strict=True):
        tuples, counts, _ = number_tuples(symbols)
        parts[stratum].append((tuples, counts * unit))
    return {stratum: merged(found) for stratum, found in sorted(parts.items())}


def look_block(job: CountJob) -> dict[int, Ints]:
    """Symbols of the reference pixels of one block: row to (point, product)."""
    return {
        row: np.stack([layer[job.looked_at[row]] for layer in symbols], axis=1).astype(np.int64)
        for (row, _, _), symbols in zip(job.rows, _symbols(job), strict=True)
    }


def _symbols(job: CountJob) -> Iterator[list[NDArray[np.signedinteger[Any]]]]:
    """Symbols of every product, a row of the job after the other.

    Rows are read together: one at a time, opening their shard takes as long as all else.
    """
    group: Any = open_round(job.group)
    start, stop = job.rows[0][0], job.rows[-1][0] + 1
    arrays = [name for ballot in job.ballots for name in ballot.arrays]
    held = {name: np.asarray(group[name][start:stop]) for name in arrays}
    for row, _, _ in job.rows:
        maps = maps_of_row(
            held, row - start, job.products, arrays=arrays, siblings=job.siblings.get(row, ())
        )
        yield [b.symbols(found) for b, found in zip(job.ballots, maps, strict=True)]


def maps_of_row(
    group: Any, row: int, products: Sequence[LabelProduct], *, grid: Grid | None = None,
    versions: Mapping[str, str] | None = None, siblings: Iterable[tuple[Path, int]] = (),
    arrays: Collection[str] = (),
) -> list[LabelMap]:  # fmt: skip
    """What label products say of one row of a cube, evidence included.

    Args:
        group: The round, or arrays of some of its rows.
        row: Of it.
        products: Whose maps.
        grid: Of the row; None where nobody asks.
        versions: Product to item or image.
        siblings: Other rows of the site, where stability is evidence.
        arrays: What is asked for beside codes: "shares/PRODUCT", "evidence/PRODUCT"; shares that
            nobody asks for are 0.
    """
    others: list[tuple[Any, int]] = [(open_round(path), line) for path, line in siblings]
    maps = []
    for product in products:
        codes = np.asarray(group[f"labels/{product.name}"][row])
        layers: dict[str, NDArray[Any]] = {}
        if f"evidence/{product.name}" in arrays:
            stored = np.asarray(group[f"evidence/{product.name}"][row])
            layers = dict(zip(product.evidence, stored, strict=True))
        if others:
            same = [np.asarray(g[f"labels/{product.name}"][line]) == codes for g, line in others]
            layers["stability"] = np.mean(same, axis=0)
        else:
            layers["stability"] = np.full(codes.shape, -1.0)
        share = np.broadcast_to(np.uint8(0), codes.shape)
        if f"shares/{product.name}" in arrays:
            share = np.asarray(group[f"shares/{product.name}"][row])
        maps.append(
            LabelMap(
                product=product.name,
                version=(versions or {}).get(product.name, ""),
                grid=grid or Grid(None, _NOWHERE, codes.shape[1], codes.shape[0]),
                codes=codes,
                share=share,
                evidence=layers,
            )
        )
    return maps


def merged(parts: Sequence[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    """Tuples of several counts, ascending, and the sums of what they count for."""
    if len(parts) == 1:
        return parts[0]
    said = np.concatenate([part[0] for part in parts])
    count = np.concatenate([part[1] for part in parts])
    if not len(said):
        return said, count
    order = np.lexsort(said.T[::-1])
    said, count = said[order], count[order]
    first = np.append(True, (said[1:] != said[:-1]).any(axis=1))
    return said[first], np.add.reduceat(count, np.flatnonzero(first))


def consensus(
    corpus: Corpus, space: Workspace, engine: Engine, *, reference: str | None = None
) -> str:
    """Fit every subset whose label comes of several products: `<subset>/consensus.json`.

    Args:
        corpus: Recipes.
        space: With plan, scenes and cube.
        engine: To count with.
        reference: Points to calibrate on, instead of the recipe's: a file, or "virtual".

    Returns:
        Some lines a subset: what was fitted, and what its confidence is worth.

    Raises:
        RecipeError: No subset has several label products; a reference it cannot have.
        StageError: Blocks are not fetched yet, or nothing is stored.
        InputError: Reference points that cannot be read, or lie in no patch.
    """
    asked = [subset for subset in corpus.subsets if isinstance(subset.crosswalk, Design)]
    if not asked:
        raise RecipeError(
            corpus.file, "labels", [p.name for s in corpus.subsets for p in s.labels],
            "several label products in one subset", "A single product needs no consensus.",
        )  # fmt: skip
    sites = plan.read_plan(space.plan)
    lines = []
    for subset in asked:
        own = {site.id: site for site in sites if site.subset == subset.name}
        now = standing(own.values(), space.subset(subset.name), subset.layout)
        lines += told(subset, _fit(subset, own, now, space, engine, reference))
    return "\n".join(lines)


def labeller(
    subset: Subset, sites: Mapping[str, Site], now: Standing, space: Workspace, engine: Engine
) -> Crosswalk | Consensus:
    """What labels the patches of a subset: its crosswalk, or its consensus, fitted if it is not
    yet, or on other blocks.
    """
    if isinstance(subset.crosswalk, Crosswalk):
        return subset.crosswalk
    return Consensus.from_json(_fit(subset, sites, now, space, engine, None)["consensus"])


def fitted(subset: Subset, home: SubsetSpace) -> dict[str, Any] | None:
    """What `consensus.json` holds, if it is of the blocks, declarations and options of today."""
    if not isinstance(subset.crosswalk, Design) or not home.consensus.exists():
        return None
    found = dict(json.loads(home.consensus.read_text()))
    same = found.get("inputs") == _inputs(subset, subset.crosswalk, home.blocks)
    return found if same else None


def told(subset: Subset, fitted: Mapping[str, Any]) -> list[str]:
    """What was fitted, for people."""
    said, report = fitted["consensus"], fitted["report"]
    products = ", ".join(one["product"] for one in said["products"])
    strata = [name for name in said["strata"] if name]
    lines = [
        f"{subset.name}: {said['method']} of {products} on {report['sites']} sites"
        + (f", {len(strata)} strata of their own" if strata else "")
    ]
    score_ = report["calibration"]
    if score_ is None:
        return [*lines, "  confidence is not calibrated: no --reference"]
    if score_["ece"] is None:
        return [*lines, f"  calibrated on {score_['sites']} sites, too few to score"]
    few = ", ".join(score_["few"]) or "none"
    return [
        *lines,
        f"  calibrated on {score_['sites']} sites: expected calibration error {score_['ece']:.3f} "
        f"({score_['low']:.3f} to {score_['high']:.3f}), {score_['uncalibrated']:.3f} without, "
        f"{score_['by_chance']:.3f} by chance alone; pooled for want of sites: {few}",
    ]


def _fit(
    subset: Subset, sites: Mapping[str, Site], now: Standing, space: Workspace, engine: Engine,
    reference: str | None,
) -> dict[str, Any]:  # fmt: skip
    """What `<subset>/consensus.json` holds; read if it is of these inputs, else made."""
    design = subset.crosswalk
    assert isinstance(design, Design)
    home = space.subset(subset.name)
    if now.undone:
        raise StageError(
            f"{subset.name}: {now.undone} blocks are not fetched; run `las fetch` first"
        )
    stored = [(n, line) for n, line in now.results if line.state == "stored"]
    if not stored:
        raise StageError(f"{subset.name}: nothing is stored; see `las fetch`")
    wanted = design.options.reference
    wanted = _beside(wanted, subset) if wanted not in (None, VIRTUAL) else wanted
    inputs = _inputs(subset, design, home.blocks)
    found = json.loads(home.consensus.read_text()) if home.consensus.exists() else {}
    same = found.get("inputs") == inputs
    asked = reference or wanted or found.get("reference")
    if same and found["reference"] == asked and found["reference_sha256"] == _content(asked):
        return dict(found)
    work = _Work.of(subset, design, sites, now, stored, space)
    counts = _count(work, engine)
    learnt = fit(design, counts, {"inputs": inputs})
    calibrated, scored = _calibrate(work, learnt, asked, engine)
    tables = [
        Crosswalk.build(design.taxonomy, [p], subset.catalogs.ontology).table
        if _has_class(p, subset, design) else {}
        for p in design.products
    ]  # fmt: skip
    content = {
        "inputs": inputs,
        "reference": asked,
        "reference_sha256": _content(asked),
        "consensus": calibrated.to_json(),
        "report": {
            "sites": len(work.strata),
            "calibration": scored,
            "changes": changes(calibrated, counts, tables),
        },
    }
    write_json(home.consensus, content)
    return dict(json.loads(home.consensus.read_text()))


def _has_class(product: LabelProduct, subset: Subset, design: Design) -> bool:
    """Whether any code of it lies in one class."""
    try:
        Crosswalk.build(design.taxonomy, [product], subset.catalogs.ontology)
    except LegendError:
        return False
    return True


def _inputs(subset: Subset, design: Design, blocks: Path) -> str:
    """Hash of all that decides what is learnt, the reference apart."""
    said = {
        "version": VERSION,
        "options": design.options.model_dump(mode="json", exclude={"reference", "reference_sites"}),
        "taxonomy": design.taxonomy.model_dump(mode="json"),
        "products": [p.model_dump(mode="json", by_alias=True) for p in design.products],
        "ontology": subset.catalogs.ontology.model_dump(mode="json"),
        "accuracies": subset.catalogs.accuracies.model_dump(mode="json"),
        "blocks": {p.name: sha256_file(p) for p in sorted(blocks.glob("[!.]*.json"))},
    }
    return hashlib.sha256(canonical_json(said)).hexdigest()


def _beside(reference: str | None, subset: Subset) -> str:
    """A file that a recipe names: beside the recipe, else here."""
    beside = subset.file.parent / str(reference)
    return str(beside if beside.is_file() else reference)


def _content(reference: str | None) -> str | None:
    """Hash of a file of reference points."""
    if reference in (None, VIRTUAL):
        return None
    path = Path(str(reference))
    if not path.is_file():
        raise InputError(path, "reference", str(path), "a file of points that is there")
    return sha256_file(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """The rows of one subset, and what their pixels count for."""

    subset: Subset
    design: Design
    sites: Mapping[str, Site]
    cube: Path
    scenes: Mapping[int, Path]
    """Round to its scene table."""

    rows: Mapping[str, tuple[tuple[int, int], ...]]
    """Site to its stored (round, row), ascending."""

    strata: Mapping[str, str]
    """Stored site to its stratum."""

    weights: Mapping[str, float]
    """Stored site to its weight; where selection had no known chance, the mean."""

    @classmethod
    def of(
        cls, subset: Subset, design: Design, sites: Mapping[str, Site], now: Standing,
        stored: Sequence[tuple[int, PatchResult]], space: Workspace,
    ) -> _Work:  # fmt: skip
        rows: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for number, line in stored:
            rows[line.site].append((number, line.row))
        ids = sorted(rows)
        final = final_weights(now)
        known = [w for site in ids if (w := final.get(site)) is not None]
        mean = sum(known) / len(known) if known else 1.0
        home = space.subset(subset.name)
        return cls(
            subset=subset,
            design=design,
            sites=sites,
            cube=home.cube,
            scenes={number: home.scenes(number) for number in home.rounds()},
            rows={site: tuple(sorted(rows[site])) for site in ids},
            strata=dict(zip(ids, places(subset, design, [sites[i] for i in ids]), strict=True)),
            weights={site: w if (w := final.get(site)) is not None else mean for site in ids},
        )

    def block_of(self, place: tuple[int, int]) -> tuple[int, int]:
        """(round, number) of the block that holds a row."""
        return place[0], place[1] // self.subset.layout.block_patches

    def job(self, key: tuple[int, int], content: Mapping[tuple[int, int], Any]) -> CountJob:
        """The rows of one block."""
        wants = any(e.kind == "stability" for b in self.design.ballots for e in b.evidence)
        rows, siblings = [], {}
        for place in sorted(content):
            site, unit = content[place]
            rows.append((place[1], self.strata[site], unit))
            if wants:
                siblings[place[1]] = tuple(
                    (self.cube / str(n), row) for n, row in self.rows[site] if (n, row) != place
                )
        return CountJob(
            group=self.cube / str(key[0]), rows=tuple(rows), siblings=siblings,
            products=self.design.products, ballots=self.design.ballots,
        )  # fmt: skip


def places(subset: Subset, design: Design, sites: Sequence[Site]) -> list[str]:
    """The stratum of each site, by the layers of the consensus."""
    return strata_at(
        subset.catalogs, design.options.strata, [s.lon for s in sites], [s.lat for s in sites],
        where=subset.file,
    )  # fmt: skip


def _count(work: _Work, engine: Engine) -> dict[str, Tuples]:
    """Counts of every stratum, over all blocks: the same for any number of workers."""
    pixels = work.subset.layout.height * work.subset.layout.width
    mean = sum(work.weights.values()) / len(work.weights)
    blocks: dict[tuple[int, int], dict[tuple[int, int], tuple[str, int]]] = defaultdict(dict)
    for site, rows in work.rows.items():
        unit = round(WHOLE * work.weights[site] / mean / (len(rows) * pixels))
        for place in rows:
            blocks[work.block_of(place)][place] = (site, unit)
    parts: dict[str, list[tuple[Ints, Ints]]] = defaultdict(list)
    held = 0
    for _, found in engine.each(
        count_block,
        sorted(blocks),
        prepare=lambda key: work.job(key, blocks[key]),
        title=f"{work.subset.name} consensus",
        unit="patches",
        size=lambda key: len(blocks[key]),
    ):
        if isinstance(found, LasError):
            raise found
        for stratum, part in found.items():
            parts[stratum].append(part)
            held += len(part[1])
        if held > _HELD:  # so that memory does not grow with blocks
            parts = defaultdict(list, {s: [merged(p)] for s, p in parts.items()})
            held = 0
    out = {}
    for stratum in sorted(parts):
        said, count = merged(parts[stratum])
        out[stratum] = Tuples(said=said, sites=count / WHOLE)
    return out


def _calibrate(
    work: _Work, learnt: Consensus, reference: str | None, engine: Engine
) -> tuple[Consensus, dict[str, Any] | None]:
    """The consensus with calibrated confidence, and what that is worth on other sites."""
    if reference is None:
        return learnt, None
    looked = _virtual(work) if reference == VIRTUAL else _given(work, Path(reference))
    by_block: dict[tuple[int, int], dict[int, _Looked]] = defaultdict(dict)
    for one in looked:
        by_block[work.block_of(one.place)][one.place[1]] = one
    said: dict[tuple[int, int], Ints] = {}
    for key, found in engine.each(
        look_block,
        sorted(by_block),
        prepare=lambda key: replace(
            work.job(key, {(key[0], row): (o.site, 0) for row, o in by_block[key].items()}),
            looked_at={row: o.at for row, o in by_block[key].items()},
        ),
        title=f"{work.subset.name} reference",
        unit="patches",
        size=lambda key: len(by_block[key]),
    ):
        if isinstance(found, LasError):
            raise found
        said.update({(key[0], row): symbols for row, symbols in found.items()})
    return calibrated_on(
        learnt,
        [
            Observed(
                site=one.site, block=work.sites[one.site].block, stratum=work.strata[one.site],
                said=said[one.place], truth=one.truth, weight=one.weight,
            )
            for one in looked
        ],
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Looked:
    """Reference pixels of one row."""

    place: tuple[int, int]
    site: str
    at: tuple[Ints, Ints]
    truth: Ints
    weight: NDArray[np.float64]


def _grids(work: _Work, rows: Iterable[tuple[int, int]]) -> dict[tuple[int, int], PinnedScene]:
    """The pinned scenes of some rows."""
    tables: dict[int, PinnedRows] = {}
    out = {}
    for number, row in sorted(rows):
        if number not in tables:
            tables[number] = PinnedRows(work.scenes[number], groups=16)
        out[number, row] = tables[number].rows(row, row + 1)[0]
    return out


def _virtual(work: _Work) -> list[_Looked]:
    """The truth of the virtual Earth on 8 x 8 pixels of some sites, those of val and test first.

    Raises:
        RecipeError: The labels are not made up: nobody knows the truth.
    """
    subset = work.subset
    if not subset.synthetic:
        raise RecipeError(
            subset.file, "consensus.reference", VIRTUAL, "with `source: virtual`",
            "Give a file of points.",
        )  # fmt: skip
    order = sorted(
        work.rows,
        key=lambda site: (
            work.sites[site].split not in ("val", "test"),
            hashlib.blake2s(site.encode()).digest(),
        ),
    )[: work.design.options.reference_sites]
    classes = work.design.classes
    class_of = {
        leaf: int(classes.of_atom[i]) for i, atom in enumerate(classes.atoms) for leaf in atom
    }
    number = np.array([class_of.get(leaf, len(classes.names)) for leaf in LEAVES], np.int64)
    earth = VirtualEarth(subset.catalogs)
    pinned = _grids(work, [work.rows[site][0] for site in order])
    out = []
    for site in order:
        place = work.rows[site][0]
        grid = pinned[place].grid
        rows = ((np.arange(SIDE) + 0.5) * grid.height / SIDE).astype(np.int64)
        columns = ((np.arange(SIDE) + 0.5) * grid.width / SIDE).astype(np.int64)
        at = np.meshgrid(rows, columns, indexing="ij")
        lon, lat = grid.lonlat()
        here = (at[0].ravel(), at[1].ravel())
        year = pinned[place].scene.datetime.year
        leaf = earth.truth(lon[here], lat[here], grid.size_m()[0] / grid.width, year)
        out.append(
            _Looked(
                place=place, site=site, at=here, truth=number[leaf],
                weight=np.full(leaf.size, work.weights[site] / leaf.size),
            )
        )  # fmt: skip
    return out


def _given(work: _Work, path: Path) -> list[_Looked]:
    """Points of a file that lie in stored patches.

    Raises:
        InputError: The file is none, or no point lies in a patch.

    Warns:
        LasWarning: Some points lie in none.
    """
    from scipy.spatial import cKDTree

    design = work.design
    points = read_points(path, design.classes.names[: design.classes.labels])
    located = [s for s in work.rows if work.sites[s].lon is not None]
    pinned = _grids(work, [work.rows[site][0] for site in located])
    xyz = _xyz(
        np.array([work.sites[s].lon for s in located], float),
        np.array([work.sites[s].lat for s in located], float),
    )
    reach = max((math.hypot(*pinned[work.rows[s][0]].grid.size_m()) for s in located), default=0.0)
    near = cKDTree(xyz).query_ball_point(_xyz(points.lon, points.lat), reach / 6.3e6)
    by_site: dict[int, list[int]] = defaultdict(list)
    for i, found in enumerate(near):
        for site in found:
            by_site[site].append(i)
    taken = np.zeros(points.lon.size, bool)
    out = []
    for number in sorted(by_site):
        site = located[number]
        place = work.rows[site][0]
        mine = np.array([i for i in by_site[number] if not taken[i]], np.int64)
        inside, row, column = pixels_of(pinned[place].grid, points.lon[mine], points.lat[mine])
        mine = mine[inside]
        if not mine.size:
            continue
        taken[mine] = True
        weight = (
            np.full(mine.size, work.weights[site] / mine.size)
            if points.weight is None else points.weight[mine]
        )  # fmt: skip
        out.append(
            _Looked(
                place=place, site=site, at=(row, column), truth=points.klass[mine], weight=weight
            )
        )
    lost = np.flatnonzero(~taken)
    if not out:
        raise InputError(
            path, "points", (round(float(points.lon[0]), 5), round(float(points.lat[0]), 5)),
            f"places in one of the {len(located)} stored patches",
            f"All {taken.size} points lie outside every patch; the first one is shown.",
        )  # fmt: skip
    if lost.size:
        first = (round(float(points.lon[lost[0]]), 5), round(float(points.lat[lost[0]]), 5))
        warnings.warn(
            f"{path}: {lost.size} of {taken.size} points lie in no stored patch, the first at "
            f"{first}; they are left out", LasWarning, stacklevel=2,
        )  # fmt: skip
    return out


def _xyz(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vectors, (n, 3)."""
    x, y = np.radians(lon), np.radians(lat)
    return np.stack([np.cos(y) * np.cos(x), np.cos(y) * np.sin(x), np.sin(y)], axis=1)
