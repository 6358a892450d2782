"""How often two products say the same, and what each of them says: never whether it is true.

All numbers are shares of pixels, averaged over the dates of a site, and Hájek ratios over sites
(`plan.ratios`). Against another product the word is agreement; accuracy needs reference data
(`reference`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from las_builder.audit.count import CENTRE, CODE, PAIR, TIME, Counts
from las_builder.audit.population import Estimate, Level, Population, each, meeting
from las_builder.audit.reference import Shares
from las_builder.catalogs import LabelProduct, Ontology
from las_builder.core.types import IGNORE
from las_builder.harmonise.crosswalk import candidates
from las_builder.plan import ratios
from las_builder.plan.target import Floats


@dataclass(frozen=True, slots=True)
class OfClass:
    """One class by two products."""

    index: int
    share_a: Estimate
    """Of the compared pixels that `a` puts in it."""

    share_b: Estimate
    of_a: Estimate
    """Of the pixels that `a` puts in it, those that `b` does too."""

    of_b: Estimate


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Two products in the classes of one taxonomy."""

    a: str
    b: str
    taxonomy: str
    can_agree: Estimate
    """Of the pixels of which both say something, those where the classes that the two codes can be
    share one: coarse codes count, so this is of all of them."""

    compared: Estimate
    """Of the pixels of which both say something, those that both put into one class each. Where a code can
    be several, whether they agree cannot be said."""

    overall: Estimate
    """Of the compared pixels, those of one class."""

    interior: Estimate
    """Likewise, farther than `count.EDGE` pixels from any border between codes of either."""

    edge: Estimate
    """Likewise, nearer."""

    at_edges: Estimate
    """Of the compared pixels, those near a border."""

    classes: tuple[OfClass, ...]
    table: Mapping[tuple[int, int], float]
    """(class of a, class of b) to share of the compared pixels, weighted; what occurs."""

    by: Mapping[str, Mapping[str, Estimate]]
    """Layer to group to overall agreement."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Two products, at every level."""

    a: str
    b: str
    possible: Estimate
    """Of the pixels of which both say something, those where both can be right: where the sets of
    ontology leaves that the codes can mean share one."""

    levels: tuple[Agreement, ...]


def compare(
    counts: Counts, population: Population, products: Sequence[LabelProduct], pair: tuple[int, int],
    levels: Sequence[Level], possible: NDArray[np.int8],
) -> Compared:  # fmt: skip
    """Agreement of two products, all levels in one reading of their counts.

    Args:
        counts: Of the corpus.
        population: Its sites.
        products: As they were counted.
        pair: Places of the two among them, ascending.
        levels: Taxonomies.
        possible: See `both_right`.
    """
    a, b = (products[i] for i in pair)
    used = [lv for lv in levels if a.name in lv.tables and b.name in lv.tables]
    n = len(population)
    sheets = [_Sheet.empty(n, lv.size) for lv in used]
    joint = [np.zeros(lv.size * lv.size) for lv in used]
    both = np.zeros((n, 2))
    meets = [level.meets(a, b) for level in used]
    can_agree = [np.zeros((n, 2)) for _ in used]
    per_site = 1 / (population.patches * population.pixels)
    known_a, known_b = (np.array(sorted(p.codes), np.int64) for p in (a, b))
    for rows in counts.rows(PAIR, *pair):
        site, pixels = rows["site"], rows["n"] * per_site[rows["site"]]
        at = np.searchsorted(known_a, rows["code_a"]), np.searchsorted(known_b, rows["code_b"])
        for sums, can in zip((both, *can_agree), (possible, *meets), strict=True):
            _add(sums, site, 0, pixels * (can[at] == 1))
            _add(sums, site, 1, pixels * (can[at] >= 0))
        for level, sheet, table in zip(used, sheets, joint, strict=True):
            one, two = level.classes(a, rows["code_a"]), level.classes(b, rows["code_b"])
            some = (one != IGNORE) & (two != IGNORE)
            sheet.add(site[some], one[some], two[some], rows["edge"][some], pixels[some])
            weighted = pixels[some] * population.sample.weight[site[some]]
            np.add(
                table, np.bincount(one[some] * level.size + two[some], weighted, table.size), table
            )
    return Compared(
        a=a.name,
        b=b.name,
        possible=population.ratio(both[:, 0], both[:, 1]),
        levels=tuple(
            _agreement(a.name, b.name, level, sheet, table, can, both[:, 1], population)
            for level, sheet, table, can in zip(used, sheets, joint, can_agree, strict=True)
        ),
    )


def both_right(a: LabelProduct, b: LabelProduct, ontology: Ontology) -> NDArray[np.int8]:
    """Whether two products can both be right on one pixel: (codes of a, codes of b), ascending.

    1 where the sets of leaves that two codes can mean, as visible cover, share one; 0 where they do
    not; -1 where one of them means nothing.
    """
    sets = [
        [entries.get(code, frozenset()) for code in sorted(product.codes)]
        for product in (a, b)
        for entries in [
            {e.value: candidates(e, product, "cover", ontology) for e in product.classes}
        ]
    ]
    return meeting(*sets)


@dataclass(frozen=True, eq=False)
class _Sheet:
    """Sums of every site, in shares of a patch."""

    of_a: Floats
    """(sites, classes) pixels that a puts in a class, of those compared."""

    of_b: Floats
    same: Floats
    edge: Floats
    """(sites, 2) near borders: of one class; compared."""

    @classmethod
    def empty(cls, sites: int, classes: int) -> _Sheet:
        of_a, of_b, same = (np.zeros((sites, classes)) for _ in range(3))
        return cls(of_a, of_b, same, np.zeros((sites, 2)))

    def add(
        self, site: NDArray[Any], one: NDArray[Any], two: NDArray[Any], edge: NDArray[Any],
        pixels: Floats,
    ) -> None:  # fmt: skip
        alike = one == two
        _add(self.of_a, site, one, pixels)
        _add(self.of_b, site, two, pixels)
        _add(self.same, site[alike], one[alike], pixels[alike])
        _add(self.edge, site, 0, pixels * (alike & (edge == 1)))
        _add(self.edge, site, 1, pixels * (edge == 1))


def _add(matrix: Floats, row: NDArray[Any], column: NDArray[Any] | int, n: Floats) -> None:
    """Add to cells of a matrix, some of them several times; `row` is ascending but for little."""
    if not row.size:
        return
    low, high = int(row.min()), int(row.max()) + 1
    width = matrix.shape[1]
    flat = np.bincount((row - low).astype(np.int64) * width + column, n, (high - low) * width)
    matrix[low:high] += flat.reshape(-1, width)


def _agreement(
    a: str, b: str, level: Level, sheet: _Sheet, joint: Floats, can: Floats, said: Floats,
    population: Population,
) -> Agreement:  # fmt: skip
    same, compared = sheet.same.sum(axis=1), sheet.of_a.sum(axis=1)
    shares = [
        each(ratios(population.sample, one, compared, held="part"))
        for one in (sheet.of_a, sheet.of_b)
    ]
    meets = [
        each(ratios(population.sample, sheet.same, one, held="whole"))
        for one in (sheet.of_a, sheet.of_b)
    ]
    inner_same = np.maximum(same - sheet.edge[:, 0], 0)
    inner = np.where(compared - sheet.edge[:, 1] > 1e-12, compared - sheet.edge[:, 1], 0)
    total = joint.sum() or 1.0
    return Agreement(
        a=a,
        b=b,
        taxonomy=level.taxonomy.name,
        can_agree=population.ratio(can[:, 0], can[:, 1]),
        compared=population.ratio(compared, said),
        overall=population.ratio(same, compared),
        interior=population.ratio(inner_same, inner),
        edge=population.ratio(sheet.edge[:, 0], sheet.edge[:, 1]),
        at_edges=population.ratio(sheet.edge[:, 1], compared),
        classes=tuple(
            OfClass(i, shares[0][i], shares[1][i], meets[0][i], meets[1][i])
            for i in range(level.size)
            if shares[0][i].sites or shares[1][i].sites
        ),
        table={
            divmod(k, level.size): float(joint[k] / total) for k in np.flatnonzero(joint).tolist()
        },
        by={layer: population.by(layer, same, compared) for layer in population.groups},
    )


@dataclass(frozen=True, kw_only=True)
class Stated:
    """What one product says: of whole patches, and of the places that were drawn."""

    product: str
    composition: Mapping[int, Estimate]
    """Code to its share of the pixels of which the product says something, whole patches."""

    nothing: Estimate
    """Share of all pixels of which it says nothing."""

    areas: Mapping[int, Estimate] | None
    """Code, nodata included, to km2 of the target population, from central pixels; None: refused."""

    by_class: Mapping[str, Mapping[int, Estimate]]
    """Taxonomy to class index (255: no class, or several) to its share of the same pixels."""

    class_areas: Mapping[str, Mapping[int, Estimate]] | None
    """Taxonomy to class index (255: no class, several, or nothing said) to km2."""


def stated(
    counts: Counts, population: Population, place: int, product: LabelProduct,
    levels: Sequence[Level],
) -> Stated:  # fmt: skip
    """Composition and areas of one product, in its codes and in the classes of every level.

    Areas use the central pixel of each patch, because the draw is of central points: a pixel near
    the side of a patch is there because its centre was drawn, so whole patches smear the target
    population over its borders. They add up to the area of the population; what the product says
    nothing of is part of it.
    """
    codes = np.array(sorted(product.codes), np.int64)
    whole, centre = (
        _by_code(counts, population, kind, place, codes, scale)
        for kind, scale in ((CODE, population.pixels), (CENTRE, 1))
    )
    void = codes == product.nodata
    said = whole[:, ~void].sum(axis=1)
    shares = dict(
        zip(codes[~void].tolist(), _shares(population, whole[:, ~void], said), strict=True)
    )
    used = [level for level in levels if product.name in level.tables]
    grouped = {level.taxonomy.name: (level, level.classes(product, codes)) for level in used}

    def classed(matrix: Floats, denominator: Floats, keep: NDArray[np.bool_]) -> Any:
        out = {}
        for name, (_, index) in grouped.items():
            here = np.unique(index[keep])
            sums = np.stack([matrix[:, keep & (index == i)].sum(axis=1) for i in here], axis=1)
            out[name] = _occurring(here.tolist(), _shares(population, sums, denominator))
        return out

    areas = class_areas = None
    if population.area_km2 is not None:
        all_ = centre.sum(axis=1)
        km2 = population.area_km2
        found = _occurring(codes.tolist(), _shares(population, centre, all_))
        areas = {code: e.times(km2) for code, e in found.items()}
        class_areas = {
            name: {i: e.times(km2) for i, e in found.items()}
            for name, found in classed(centre, all_, np.ones(codes.size, np.bool_)).items()
        }
    return Stated(
        product=product.name,
        composition={code: e for code, e in shares.items() if e.sites},
        nothing=population.ratio(whole[:, void].sum(axis=1), whole.sum(axis=1)),
        areas=areas,
        by_class=classed(whole, said, ~void),
        class_areas=class_areas,
    )


def class_shares(
    counts: Counts, population: Population, place: int, product: LabelProduct, level: Level,
    *, centre: bool = True,
) -> Shares:  # fmt: skip
    """What reference points without weights need to know: shares of the classes of a map.

    Args:
        counts: Of the corpus.
        population: Its sites.
        place: Of the product, as it was counted.
        product: The map.
        level: Classes; what is in none of them counts in the whole.
        centre: By the central pixels; if not, by whole patches.
    """
    codes = np.array(sorted(product.codes), np.int64)
    kind, scale = (CENTRE, 1) if centre else (CODE, population.pixels)
    by_code = _by_code(counts, population, kind, place, codes, scale)
    index = level.classes(product, codes)
    part = by_code @ (index[:, None] == np.arange(level.size)).astype(np.float64)
    return Shares.estimated(population.sample, part, by_code.sum(axis=1))


def _by_code(
    counts: Counts, population: Population, kind: int, place: int, codes: NDArray[np.int64],
    scale: int,
) -> Floats:  # fmt: skip
    """(sites, codes), in shares of what there is of a site."""
    matrix = np.zeros((len(population), codes.size))
    per_site = 1 / (population.patches * scale)
    for rows in counts.rows(kind, place):
        site = rows["site"]
        _add(matrix, site, np.searchsorted(codes, rows["code_a"]), rows["n"] * per_site[site])
    return matrix


def _shares(population: Population, part: Floats, whole: Floats) -> list[Estimate]:
    return each(ratios(population.sample, part, whole, held="part"))


def _occurring(keys: Sequence[int], found: Sequence[Estimate]) -> dict[int, Estimate]:
    return {key: e for key, e in zip(keys, found, strict=True) if e.sites}


@dataclass(frozen=True, slots=True)
class Turn:
    """One code in two versions."""

    before: Estimate
    """Its share of the pixels of which both say something."""

    after: Estimate
    net: Estimate
    """After less before, in shares of those pixels."""

    kept: Estimate
    """Of the pixels that had it, those that still do."""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Two versions of one product family, or two years of one product, code by code."""

    before: str
    after: str
    changed: Estimate
    """Of the pixels of which both say something, those whose code differs."""

    codes: Mapping[int, Turn]
    moves: tuple[tuple[int, int, float], ...]
    """(code before, code after, share of those pixels), the largest first."""


def related(a: LabelProduct, b: LabelProduct) -> bool:
    """Whether two products are of one family: the codes of their legends mean the same."""
    one = {c.value: frozenset(c.means) for c in a.classes if c.means}
    two = {c.value: frozenset(c.means) for c in b.classes if c.means}
    shared = one.keys() & two.keys()
    return (
        len(shared) >= max(3, 0.8 * min(len(one), len(two)))
        and all(one[code] == two[code] for code in shared)
    )  # fmt: skip


def drift(
    counts: Counts, population: Population, products: Sequence[LabelProduct], pair: tuple[int, int]
) -> Drift:
    """Drift between two products of one family; the one of the earlier epoch comes first."""
    a, b = (products[i] for i in pair)
    turned = (b.epoch.start or date.min, b.version) < (a.epoch.start or date.min, a.version)
    keys = ("code_b", "code_a") if turned else ("code_a", "code_b")
    rows = (
        (r["site"], r[keys[0]], r[keys[1]], r["n"] / population.patches[r["site"]])
        for r in counts.rows(PAIR, *pair)
    )
    first, second = (b, a) if turned else (a, b)
    return _drift(rows, population, first, second, first.name, second.name)


def drifts_in_time(
    counts: Counts, population: Population, place: int, product: LabelProduct
) -> list[Drift]:
    """Drift between the versions that a product has at different dates of one site, by years."""
    years = sorted(
        {
            pair
            for r in counts.rows(TIME, place, place)
            for pair in zip(r["when_a"].tolist(), r["when_b"].tolist(), strict=True)
        }
    )
    out = []
    for first, second in years:
        total = np.zeros(len(population))
        for r in counts.rows(TIME, place, place):
            some = (r["when_a"] == first) & (r["when_b"] == second)
            np.add.at(total, r["site"][some], r["n"][some])
        times = np.maximum(total / population.pixels, 1.0)

        def rows(first: int = first, second: int = second, times: Floats = times) -> Any:
            for r in counts.rows(TIME, place, place):
                some = (r["when_a"] == first) & (r["when_b"] == second)
                site = r["site"][some]
                yield site, r["code_a"][some], r["code_b"][some], r["n"][some] / times[site]

        names = f"{product.name} {first}", f"{product.name} {second}"
        out.append(_drift(rows(), population, product, product, *names))
    return out


def _drift(
    rows: Any, population: Population, a: LabelProduct, b: LabelProduct, before: str, after: str
) -> Drift:
    codes = np.array(sorted(a.codes | b.codes), np.int64)
    n, k = len(population), codes.size
    of_a, of_b, same = (np.zeros((n, k)) for _ in range(3))
    joint = np.zeros(k * k)
    for site, one, two, pixels in rows:
        said = (one != a.nodata) & (two != b.nodata)
        i, j = np.searchsorted(codes, one[said]), np.searchsorted(codes, two[said])
        at, share = site[said], pixels[said] / population.pixels
        _add(of_a, at, i, share)
        _add(of_b, at, j, share)
        _add(same, at[i == j], i[i == j], share[i == j])
        joint += np.bincount(i * k + j, share * population.sample.weight[at], k * k)
    whole = of_a.sum(axis=1)
    one, two = _shares(population, of_a, whole), _shares(population, of_b, whole)
    net = each(ratios(population.sample, of_b - of_a, whole, held="whole"))
    kept = each(ratios(population.sample, same, of_a, held="whole"))
    total = joint.sum() or 1.0
    moved = [q for q in np.argsort(-joint, kind="stable").tolist() if joint[q] and q // k != q % k]
    return Drift(
        before=before,
        after=after,
        changed=population.ratio(whole - same.sum(axis=1), whole),
        codes={
            int(codes[i]): Turn(one[i], two[i], net[i], kept[i])
            for i in range(k)
            if one[i].sites or two[i].sites
        },
        moves=tuple(
            (int(codes[q // k]), int(codes[q % k]), float(joint[q] / total)) for q in moved[:40]
        ),
    )
