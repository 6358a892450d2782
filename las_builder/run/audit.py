"""`las audit`: count the cube block by block, estimate, and write a page a subset."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from las_builder import audit as audits
from las_builder import plan
from las_builder.catalogs import LabelProduct, Strata, Taxonomy
from las_builder.core.grid import Grid
from las_builder.core.types import IGNORE
from las_builder.core.workspace import SubsetSpace, Workspace
from las_builder.errors import InputError, LasError, LegendError
from las_builder.fetch import PatchResult
from las_builder.fetch.cube import open_round
from las_builder.harmonise import Crosswalk
from las_builder.harmonise.crosswalk import Reading, read_code
from las_builder.publish.footprint import footprint
from las_builder.recipe import Corpus, Subset
from las_builder.run.balance import consensus_balance
from las_builder.run.consensus import fitted
from las_builder.run.engine import Engine
from las_builder.run.rounds import Standing, final_weights, standing
from las_builder.run.sample import draft

LEVELS = ("level-1", "level-2")
"""Taxonomies in which products are compared: the levels of the ontology."""

_PATCHES = 256
"""Of one task, and of one table of counts."""

_PICTURES, _CONTESTED = 12, 2000


def audit(corpus: Corpus, space: Workspace, engine: Engine, reference: Path | None = None) -> str:
    """Audit every subset of a corpus whose blocks are fetched.

    Args:
        corpus: Whose.
        space: Where it is.
        engine: Counts blocks.
        reference: Points to measure accuracy with; see `audit.read_points`.

    Returns:
        A few lines a subset: what agrees with what, and where the page is.

    Raises:
        LegendError: The cube holds codes outside a legend, or the points classes outside the
            taxonomies.
        InputError: The reference cannot be read.
        WorkspaceError: The disk is full or read-only.
    """
    points = None if reference is None else (reference, audits.read_points(reference))
    sites = plan.read_plan(space.plan)
    lines, pages = [], []
    for subset in corpus.subsets:
        own = sites.of_subset(subset.name)
        found, page = _audit(subset, own, corpus, space.subset(subset.name), engine, points)
        pages.append((audits.Brief.of(found), page.relative_to(space.root).as_posix()))
        lines += [*_told(found), str(page)]
    if len(pages) > 1:
        audits.write_corpus(space.audit_page, corpus.name, pages)
        lines.append(str(space.audit_page))
    return "\n".join(lines)


def _audit(
    subset: Subset, sites: plan.SiteTable, corpus: Corpus, home: SubsetSpace, engine: Engine,
    points: tuple[Path, audits.Points] | None,
) -> tuple[audits.Findings, Path]:  # fmt: skip
    now = standing(sites, home, subset.layout)
    products = (*subset.labels, *subset.compare)
    stored = sites.of_rows(np.isin(sites.id.astype(str), np.array(sorted(now.stored), str)))
    patches = _Patches.of(now, stored, home, products)
    known = draft(subset, Strata.load(corpus.catalogs))
    population = _population(subset, stored, now, patches, corpus, known)
    counts = _counted(home, patches, products, engine, subset.name)
    levels = _levels(corpus, products)
    own = _own(subset, corpus)
    ontology = corpus.catalogs.ontology
    couples = list(itertools.combinations(range(len(products)), 2))
    every = [
        *levels,
        *(lv for lv in own if lv.taxonomy.name not in {x.taxonomy.name for x in levels}),
    ]
    stated = [
        audits.stated(counts, population, i, product, every) for i, product in enumerate(products)
    ]
    judged: tuple[audits.Judged, ...] = ()
    lost = ""
    if points is not None:
        judged, lost = _judged(
            points, patches, population, products,
            [*every, *_named(corpus, products, ["cover-9"])], counts, home, known,
        )  # fmt: skip
    ranked = audits.rank(counts, population, products, levels[0], _CONTESTED) if levels else []
    seen = [c for c in ranked[: 4 * _PICTURES] if not patches.freed(c.site, subset, home)]
    fit = fitted(subset, home)
    folder = home.audit
    audits.write_contested(
        folder / "contested.gpkg", ranked, {c.site: patches.outline(c.site) for c in ranked}
    )
    found = audits.Findings(
        subset=subset.name,
        about=f"{subset.imagery.title} with {', '.join(p.title for p in subset.labels)}"
        + (f", compared with {', '.join(p.title for p in subset.compare)}." if subset.compare else "."),
        synthetic=_made_up(subset),
        population=population,
        products=products,
        labels=frozenset(p.name for p in subset.labels),
        levels=tuple(levels),
        compared=tuple(
            audits.compare(
                counts, population, products, pair, levels,
                audits.both_right(products[pair[0]], products[pair[1]], ontology),
            )
            for pair in couples
        ),
        stated=tuple(stated),
        drifts=(
            *(
                audits.drift(counts, population, products, (i, j))
                for i, j in couples
                if audits.related(products[i], products[j])
            ),
            *(
                drift
                for i, product in enumerate(products)
                for drift in audits.drifts_in_time(counts, population, i, product)
            ),
        ),
        balance=(
            *consensus_balance(subset, stored, population, patches.rows, home, engine),
            *(
                audits.Balance(
                    product=product.name, taxonomy=level.taxonomy,
                    shares=stated[i].by_class[level.taxonomy.name],
                )
                for level in own
                for i, product in enumerate(subset.labels)
                if product.name in level.tables
            ),
        ),
        contested=tuple(ranked),
        pictures=tuple(
            audits.picture(
                c.site, patches.words(c.site), *patches.first(c.site), subset.imagery, products,
                levels[0],
            )
            for c in seen[:_PICTURES]
        ),
        judged=judged,
        lost_points=lost,
        own=tuple(own),
        consensus=() if fit is None else tuple(fit["report"]["changes"]),
    )  # fmt: skip
    audits.write_page(folder, found)
    return found, folder / "index.html"


def _made_up(subset: Subset) -> tuple[str, ...]:
    source = subset.recipe.source
    if isinstance(source, str):
        return ("images", "labels") if source == "virtual" else ()
    return tuple(
        what
        for what, where in (("images", (source.imagery,)), ("labels", source.products))
        if "virtual" in where
    )


def _told(found: audits.Findings) -> list[str]:
    """What is worth a line on the terminal."""
    population = found.population
    lines = [
        f"{found.subset}: {len(population):,} sites, {int(population.patches.sum()):,} patches"
    ]
    for one in found.compared:
        if one.levels:
            at = one.levels[0]
            few = " (too few sites)" if at.can_agree.few else ""
            lines.append(
                f"  {one.a} and {one.b} can both be right on {_percent(at.can_agree)} of the pixels in "
                f"{at.taxonomy}; agree on {_percent(at.overall)} of the {100 * at.compared.value:.1f} % that "
                f"each puts into one class{few}"
            )
    lines += [
        f"  {j.product}: right on {_percent(j.accuracy.overall)} of the area by {j.accuracy.points} points"
        for j in found.judged
    ]
    if found.lost_points:
        lines.append(f"  {found.lost_points}")
    if population.refused:
        lines.append(f"  no areas: {population.refused}")
    return lines


def _percent(e: audits.Estimate) -> str:
    half = "" if math.isnan(e.error) else f" ± {100 * (e.interval[1] - e.value):.1f}"
    return "nothing" if math.isnan(e.value) else f"{100 * e.value:.1f}{half} %"


@dataclass(frozen=True, eq=False)
class _Patches:
    """The stored patches of a subset: arrays of one length, by round and row."""

    cube: Path
    sites: plan.SiteTable
    round: NDArray[np.int64]
    row: NDArray[np.int64]
    site: NDArray[np.int64]
    """Place among the stored sites."""

    time: NDArray[np.int64]
    """Seconds since 1970."""

    crs: list[str]
    transform: NDArray[np.float64]
    rows: dict[int, list[audits.Row]]
    """By round."""

    shape: tuple[int, int]

    @classmethod
    def of(
        cls, now: Standing, stored: plan.SiteTable, home: SubsetSpace,
        products: Sequence[LabelProduct],
    ) -> _Patches:  # fmt: skip
        at = {name: i for i, name in enumerate(stored.id.tolist())}
        by_round: dict[int, list[PatchResult]] = defaultdict(list)
        for round_, line in now.results:
            if line.state == "stored":
                by_round[round_].append(line)
        columns: dict[str, list[Any]] = {key: [] for key in ("round", "row", "site", "time")}
        crs: list[str] = []
        transforms = [np.zeros((0, 6))]
        rows: dict[int, list[audits.Row]] = {}
        for round_, lines in sorted(by_round.items()):
            lines.sort(key=lambda line: line.row)
            group = open_round(home.cube / str(round_))
            times, names = np.asarray(group["time"][:]), np.asarray(group["crs"][:])  # type: ignore[index]
            which = np.array([line.row for line in lines])
            transforms.append(np.asarray(group["transform"][:])[which])  # type: ignore[index]
            crs += [str(name) for name in names[which]]
            rows[round_] = []
            for line in lines:
                seconds = int(times[line.row])
                columns["round"].append(round_)
                columns["row"].append(line.row)
                columns["site"].append(at[line.site])
                columns["time"].append(seconds)
                versions = line.versions or {}
                rows[round_].append(
                    audits.Row(
                        line.row, at[line.site], tuple(versions.get(p.name, "") for p in products),
                        datetime.fromtimestamp(seconds, UTC).year,
                    )
                )  # fmt: skip
        numbers = {key: np.array(value, np.int64) for key, value in columns.items()}
        grids = stored.grids
        shape = (int(grids.height[0]), int(grids.width[0])) if len(stored) else (1, 1)
        return cls(
            cube=home.cube, sites=stored, crs=crs, transform=np.concatenate(transforms), rows=rows,
            shape=shape, **numbers,
        )  # fmt: skip

    def _place(self, site: str) -> int:
        return int(np.flatnonzero(self.sites.id == site)[0])

    def _patch(self, site: str) -> int:
        return int(np.flatnonzero(self.site == self._place(site))[0])

    def first(self, site: str) -> tuple[Path, int]:
        """Round and row of the first patch of a site."""
        i = self._patch(site)
        return self.cube / str(self.round[i]), int(self.row[i])

    def freed(self, site: str, subset: Subset, home: SubsetSpace) -> bool:
        """Whether the image of that patch was freed after packing."""
        i = self._patch(site)
        number = int(self.row[i]) // subset.layout.block_patches
        return home.consumed(f"r{self.round[i]}-{number:05d}").exists()

    def outline(self, site: str) -> Any:
        """Polygon of a site, WGS 84; None where it has no place."""
        import shapely
        from affine import Affine

        i = self._patch(site)
        h, w = self.shape
        grid = Grid(self.crs[i] or None, Affine(*self.transform[i].tolist()), w, h)
        geometry = footprint(grid)[0]
        return None if geometry is None else shapely.geometry.shape(geometry)

    def words(self, site: str) -> str:
        """Where and when."""
        i, k = self._patch(site), self._place(site)
        lon, lat = float(self.sites.lon[k]), float(self.sites.lat[k])
        day = datetime.fromtimestamp(int(self.time[i]), UTC).date().isoformat()
        return f"{abs(lat):.3f}° {'N' if lat >= 0 else 'S'} {abs(lon):.3f}° {'E' if lon >= 0 else 'W'}, {day}"


def _population(
    subset: Subset, stored: plan.SiteTable, now: Standing, patches: _Patches, corpus: Corpus,
    known: plan.Draft | None,
) -> audits.Population:  # fmt: skip
    km2 = final_weights(now)
    weight = np.array([km2.get(site) or math.nan for site in stored.id.tolist()], np.float64)
    unknown = int(np.isnan(weight).sum())
    area, refused = None, ""
    if not len(stored):
        refused = "no site is stored."
    elif unknown:
        refused = (
            f"{unknown:,} of {len(stored):,} sites were selected by something that has no known chance "
            "(weight_km2 is null), so nobody knows what area they stand for."
        )
        weight = np.ones(len(stored))
    else:
        area = _area(now, known)
    sites = subset.recipe.sites
    return audits.Population(
        ids=stored.id.tolist(),
        sample=plan.Sample.of(stored, weight, sites.rule),
        patches=np.bincount(patches.site, minlength=len(stored)).astype(np.float64),
        pixels=patches.shape[0] * patches.shape[1],
        area_km2=area,
        refused=refused,
        groups=_groups(stored, corpus),
    )


def _area(now: Standing, known: plan.Draft | None) -> float:
    """Of the target population: as it was drawn from; else what the weights of the plan add up to."""
    if known is None:
        return float(sum(s.weight_km2 or 0.0 for s in now.sites if s.primary))
    return float(known.law.target.area - known.allocation.outside_km2)


def _groups(sites: plan.SiteTable, corpus: Corpus) -> dict[str, audits.Groups]:
    strata = Strata.load(corpus.catalogs)
    zone = strata.climate(sites.lon, sites.lat).astype(np.intp)
    zones = {int(code): strata.climate_name(int(code)) for code in np.unique(zone)}
    main = corpus.catalogs.strata("climate-group").groups or {}
    group_of = {name: group for group, names in main.items() for name in names}
    country = strata.country(sites.lon, sites.lat).astype(np.intp)
    names = [strata.countries[i] for i in country.tolist()]
    layers = {
        "climate": [group_of.get(zones[int(code)], "") for code in zone],
        "climate zone": [zones[int(code)] for code in zone],
        "continent": [c.continent for c in names],
        "country": [c.name for c in names],
    }
    out = {}
    for layer, of_site in layers.items():
        found = sorted({name for name in of_site if name})
        at = {name: i for i, name in enumerate(found)}
        number = np.array([at.get(name, -1) for name in of_site], np.intp)
        out[layer] = audits.Groups(tuple(found), number)
    return out


def _counted(
    home: SubsetSpace, patches: _Patches, products: tuple[LabelProduct, ...], engine: Engine,
    name: str,
) -> audits.Counts:  # fmt: skip
    """Count what is not counted yet; tables of what is no longer there are removed."""
    folder = home.audit / "counts"
    jobs = [
        job
        for round_, rows in patches.rows.items()
        for job in audits.jobs_of(home.cube / str(round_), rows, products, folder, _PATCHES)
    ]
    waiting = [job for job in jobs if not job.file.exists()]
    for _, found in engine.each(
        audits.count_block, waiting, prepare=lambda job: job, title=f"{name} audit", unit="patches",
        size=lambda job: len(job.rows),
    ):  # fmt: skip
        if isinstance(found, LasError):
            raise found
    files = tuple(job.file for job in jobs)
    for stale in set(folder.glob("*.parquet")) - set(files):
        stale.unlink()
    return audits.Counts(files)


def _levels(corpus: Corpus, products: Sequence[LabelProduct]) -> list[audits.Level]:
    return _named(corpus, products, LEVELS) or _named(corpus, products, ["cover-9"])


def _named(
    corpus: Corpus, products: Sequence[LabelProduct], names: Sequence[str]
) -> list[audits.Level]:
    """Those of some taxonomies that the catalogues have."""
    known = corpus.catalogs.names("taxonomies")
    return [_level(corpus.catalogs.taxonomy(n), products, corpus) for n in names if n in known]


def _own(subset: Subset, corpus: Corpus) -> list[audits.Level]:
    """The classes of the subset's labels."""
    taxonomy = subset.crosswalk.taxonomy
    if isinstance(subset.crosswalk, Crosswalk) and subset.recipe.taxonomy == "native":
        tables = {subset.labels[0].name: subset.crosswalk.table}
        return [audits.Level(taxonomy, tables)]
    return [_level(taxonomy, (*subset.labels, *subset.compare), corpus)]


def _level(taxonomy: Taxonomy, products: Sequence[LabelProduct], corpus: Corpus) -> audits.Level:
    tables = {}
    for product in products:
        try:
            crosswalk = Crosswalk.build(taxonomy, [product], corpus.catalogs.ontology)
        except LegendError:  # no code lies in one class: it has a composition and no agreement
            continue
        tables[product.name] = crosswalk.table
    may = {
        product.name: {
            entry.value: _may(read_code(entry, product, taxonomy, corpus.catalogs.ontology))
            for entry in product.classes
            if entry.value != product.nodata
        }
        for product in products
    }
    return audits.Level(taxonomy, tables, may)


def _may(reading: Reading) -> frozenset[int]:
    """Classes that a code can be."""
    return frozenset(reading.between if reading.index == IGNORE else (reading.index,))


def _judged(
    given: tuple[Path, audits.Points], patches: _Patches, population: audits.Population,
    products: Sequence[LabelProduct], levels: Sequence[audits.Level],
    counts: audits.Counts, home: SubsetSpace, known: plan.Draft | None,
) -> tuple[tuple[audits.Judged, ...], str]:  # fmt: skip
    path, points = given
    level = _speaks(points, levels, path)
    total, lost = len(points), []
    if known is not None:  # a patch on a coast or a border has pixels that no site stands for
        lon = np.where(points.lon > 180, points.lon - 360, points.lon)
        inside = known.reaches(lon, points.lat)
        lost += _lost(points.of(np.flatnonzero(~inside)), total, "outside of the target population")
        points = points.of(np.flatnonzero(inside))
    placed = audits.place(
        points, patches.crs, patches.transform, patches.shape, patches.time // 86_400
    )
    away = np.setdiff1d(np.arange(len(points)), placed.point)
    lost += _lost(points.of(away), total, "in no stored patch")
    if not placed.point.size:
        return (), " ".join(lost)
    reference = audits.class_indices(points, level.taxonomy, path)
    here = points.of(placed.point)
    cluster = patches.site[placed.patch]
    out = []
    for number, product in enumerate(products):
        if product.name not in level.tables:
            continue
        codes = _codes_at(home, patches, placed, product)
        strange = ~np.isin(codes, list(product.codes))
        if strange.any():
            raise LegendError(
                product.name, "code", np.unique(codes[strange])[:8].tolist(), "codes of the legend"
            )
        mapped = level.classes(product, codes)
        use = mapped != IGNORE
        nothing = int((codes == product.nodata).sum())
        unused = Counter(
            {
                f"{product.name} says nothing there": nothing,
                f"its code there is no single class of {level.taxonomy.name}": int((~use).sum())
                - nothing,
            }
        )
        if not use.any():
            continue
        shares = audits.class_shares(counts, population, number, product, level)
        judged_area = None
        if population.area_km2 is not None:
            judged_area = float(shares.value.sum()) * population.area_km2
        weight = None if here.weight is None else here.weight[use]
        if weight is None and (shares.value[np.unique(mapped[use])] <= 0).any():
            # Points on classes so rare that no central pixel has them: their area is that of patches.
            shares = audits.class_shares(counts, population, number, product, level, centre=False)
        out.append(
            audits.Judged(
                product=product.name,
                taxonomy=level.taxonomy,
                accuracy=audits.accuracy(
                    mapped[use], reference[placed.point][use], size=level.size, shares=shares,
                    weight=weight, cluster=cluster[use],
                    stratum=population.sample.cell[cluster[use]],
                ),
                area_km2=judged_area,
                said={why: n for why, n in unused.items() if n > 0},
            )
        )  # fmt: skip
    return tuple(out), " ".join(lost)


def _lost(points: audits.Points, total: int, where: str) -> list[str]:
    """A sentence on points that judge nothing, if there are any."""
    if not len(points):
        return []
    some = ", ".join(f"{x:g} {y:g}" for x, y in zip(points.lon[:5], points.lat[:5], strict=True))
    more = " and others" if len(points) > 5 else ""
    return [f"{len(points):,} of {total:,} reference points lie {where}: {some}{more} (lon lat)."]


def _speaks(points: audits.Points, levels: Sequence[audits.Level], path: Path) -> audits.Level:
    """The first taxonomy that has all classes of the points: the levels, the subset's own, cover-9."""
    problems = []
    for level in levels:
        try:
            audits.class_indices(points, level.taxonomy, path)
        except InputError as problem:
            problems.append((len(problem.found) if isinstance(problem.found, list) else 0, problem))
        else:
            return level
    raise min(problems, key=lambda item: item[0])[1]


def _codes_at(
    home: SubsetSpace, patches: _Patches, placed: audits.Placed, product: LabelProduct
) -> NDArray[np.int64]:
    codes = np.empty(placed.point.size, np.int64)
    for round_ in np.unique(patches.round[placed.patch]).tolist():
        array: Any = open_round(home.cube / str(round_))[f"labels/{product.name}"]
        some = np.flatnonzero(patches.round[placed.patch] == round_)
        rows = patches.row[placed.patch[some]]
        for row in np.unique(rows).tolist():
            at = some[rows == row]
            codes[at] = np.asarray(array[row])[placed.row[at], placed.column[at]]
    return codes
