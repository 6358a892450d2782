"""`audit/index.html`: one page that opens without a server, reads on a phone and prints; and
`audit.json` beside it, with every number.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from las_builder.audit.agreement import Agreement, Compared, Drift, Stated
from las_builder.audit.cells import (
    CAN,
    MORE,
    PALETTE,
    Html,
    few,
    html_table,
    km2_text,
    number,
    percent,
    share_text,
    short_percent,
    signed,
    swatch,
)
from las_builder.audit.charts import GREY, Bar, bars, matrix, scale_of
from las_builder.audit.contested import Contested, Picture
from las_builder.audit.count import EDGE
from las_builder.audit.population import Estimate, Level, Population
from las_builder.audit.reference import Accuracy
from las_builder.catalogs import LabelProduct, Taxonomy
from las_builder.core.page import STYLE
from las_builder.core.types import IGNORE
from las_builder.core.workspace import write_bytes, write_json
from las_builder.plan import FEW

_LINES = 24
"""Groups that a table shows one by one; all are in the JSON."""

_DETAILED = 18
"""Classes of a taxonomy of which a table of agreement is drawn; of more, the largest differences."""

LITTLE = 0.1
"""Share of pixels in one single class by both products below which their agreement says little."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One product against reference points."""

    product: str
    taxonomy: Taxonomy
    accuracy: Accuracy
    area_km2: float | None
    said: Mapping[str, int]
    """Points that could not be used, by why."""


@dataclass(frozen=True, kw_only=True)
class Balance:
    """Classes of the subset's own taxonomy by its label, or one of the products that make it."""

    product: str
    """The product's name; of a consensus, "the consensus of" its products."""

    taxonomy: Taxonomy
    shares: Mapping[int, Estimate]
    """Class index to its share of all pixels; 255: ignored."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All that an audit found."""

    subset: str
    about: str
    synthetic: tuple[str, ...]
    """What is made up: images, labels."""

    population: Population
    products: tuple[LabelProduct, ...]
    labels: frozenset[str]
    """Those that make the label; the others are only compared."""

    levels: tuple[Level, ...]
    compared: tuple[Compared, ...]
    stated: tuple[Stated, ...]
    drifts: tuple[Drift, ...]
    balance: tuple[Balance, ...]
    contested: tuple[Contested, ...]
    pictures: tuple[Picture, ...]
    judged: tuple[Judged, ...] = ()
    lost_points: str = ""
    """What became of reference points that no patch holds."""

    own: tuple[Level, ...] = ()
    """The classes of the subset's labels."""

    consensus: tuple[Mapping[str, Any], ...] = ()
    """What a consensus changed, a line a stratum and product: `harmonise.consensus.changes`."""


def write_page(folder: Path, found: Findings) -> None:
    """Write `index.html` and `audit.json`; equal findings, equal bytes.

    Raises:
        WorkspaceError: The disk is full or read-only.
    """
    write_json(folder / "audit.json", as_json(found))
    write_bytes(folder / "index.html", _Page(found).html().encode())


def as_json(found: Findings) -> dict[str, Any]:
    """Every number, by names of products, codes of legends and names of classes."""
    names = {
        taxonomy.name: [entry.name for entry in taxonomy.classes]
        for taxonomy in (
            *(level.taxonomy for level in (*found.levels, *found.own)),
            *(balance.taxonomy for balance in found.balance),
        )
    }

    def name(taxonomy: str, index: int) -> str:
        return "ignore" if index == IGNORE else names[taxonomy][index]

    def estimates(several: Mapping[int, Estimate] | None, taxonomy: str | None = None) -> Any:
        if several is None:
            return None
        return {
            (name(taxonomy, key) if taxonomy else str(key)): e.as_json()
            for key, e in several.items()
        }

    def agreement(one: Agreement) -> dict[str, Any]:
        return {
            "taxonomy": one.taxonomy,
            **{
                key: getattr(one, key).as_json()
                for key in (
                    "can_agree", "compared", "overall", "interior", "edge", "at_edges"
                )
            },
            "classes": {
                name(one.taxonomy, c.index): {
                    "share_a": c.share_a.as_json(), "share_b": c.share_b.as_json(),
                    "of_a": c.of_a.as_json(), "of_b": c.of_b.as_json(),
                }
                for c in one.classes
            },
            "table": [
                [name(one.taxonomy, i), name(one.taxonomy, j), share]
                for (i, j), share in one.table.items()
            ],
            "by": {
                layer: {group: e.as_json() for group, e in groups.items()}
                for layer, groups in one.by.items()
            },
        }  # fmt: skip

    population = found.population
    return {
        "subset": found.subset,
        "synthetic": bool(found.synthetic),
        "sites": len(population),
        "patches": int(population.patches.sum()),
        "area_km2": population.area_km2,
        "areas_refused": population.refused or None,
        "edge_pixels": EDGE,
        "products": [p.name for p in found.products],
        "agreement": [
            {
                "a": c.a, "b": c.b, "both_can_be_right": c.possible.as_json(),
                "levels": [agreement(one) for one in c.levels],
            }
            for c in found.compared
        ],
        "stated": [
            {
                "product": s.product,
                "composition": estimates(s.composition),
                "nothing": s.nothing.as_json(),
                "areas_km2": estimates(s.areas),
                "by_class": {t: estimates(e, t) for t, e in s.by_class.items()},
                "class_areas_km2": None
                if s.class_areas is None
                else {t: estimates(e, t) for t, e in s.class_areas.items()},
            }
            for s in found.stated
        ],
        "drift": [
            {
                "before": d.before, "after": d.after, "changed": d.changed.as_json(),
                "codes": {
                    str(code): {
                        key: getattr(turn, key).as_json()
                        for key in ("before", "after", "net", "kept")
                    }
                    for code, turn in d.codes.items()
                },
                "moves": [list(move) for move in d.moves],
            }
            for d in found.drifts
        ],
        "balance": [
            {
                "product": b.product,
                "taxonomy": b.taxonomy.name,
                "classes": {
                    "ignore" if i == IGNORE else b.taxonomy.classes[i].name: e.as_json()
                    for i, e in b.shares.items()
                },
            }
            for b in found.balance
        ],
        "consensus": [dict(line) for line in found.consensus] or None,
        "contested": [dataclasses.asdict(c) for c in found.contested[:100]],
        "reference": [_judged(j) for j in found.judged],
        "reference_points_left_out": found.lost_points or None,
    }  # fmt: skip


def _judged(one: Judged) -> dict[str, Any]:
    names = [entry.name for entry in one.taxonomy.classes]
    found = one.accuracy
    return {
        "product": one.product, "taxonomy": one.taxonomy.name, "points": found.points,
        "sites": found.sites, "weighted": found.weighted, "unused": dict(one.said),
        "overall": found.overall.as_json(),
        "classes": {
            names[c.index]: {
                "points_map": c.points_map, "points_reference": c.points_reference,
                "users": c.users.as_json(), "producers": c.producers.as_json(),
                "mapped": c.mapped, "area": c.area.as_json(),
                "area_km2": None if one.area_km2 is None else c.area.times(one.area_km2).as_json(),
            }
            for c in found.classes
        },
        "matrix": [[names[i], names[j], p, found.counted[i, j]] for (i, j), p in found.matrix.items()],
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Page:
    found: Findings

    def html(self) -> str:
        found, population = self.found, self.found.population
        figures = [
            (f"{len(population):,}", "sites"),
            (f"{int(population.patches.sum()):,}", "patches"),
            (str(len(found.products)), "product" if len(found.products) == 1 else "products"),
        ]
        if population.area_km2 is not None:
            figures.append((km2_text(population.area_km2), "km² they stand for"))
        sections = [
            ("agreement", "Agreement", self._agreement()),
            ("says", "What each product says", self._stated()),
            ("drift", "Drift", self._drift()),
            ("balance", "Balance of classes", self._balance()),
            ("consensus", "What the consensus changed", self._consensus()),
            ("reference", "Accuracy", self._reference()),
            ("contested", "The most contested patches", self._contested()),
            ("how", "How to read this", self._how()),
        ]
        sections = [one for one in sections if one[2]]
        links = "".join(f'<a href="#{key}">{escape(title)}</a>' for key, title, _ in sections)
        head = [
            '<!doctype html>\n<html lang="en"><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(found.subset)}: audit</title><style>{STYLE}{MORE}</style>",
            f"<h1>{escape(found.subset)}: what the labels say</h1>",
            f"<p>{escape(found.about)}</p>",
            f'<p class="w">SYNTHETIC: the {escape(" and the ".join(found.synthetic))} are made up.</p>'
            if found.synthetic
            else "",
            '<div class="k">' + "".join(f"<div><b>{n}</b>{what}</div>" for n, what in figures),
            f"</div><nav>{links}</nav>",
            self._short(),
        ]
        body = [
            f'<section id="{key}"><h2>{escape(title)}</h2>\n{text}</section>'
            for key, title, text in sections
        ]
        return "\n".join(part for part in [*head, *body, "</html>"] if part) + "\n"

    @property
    def _unit(self) -> tuple[str, float]:
        """Of areas, and how many km2 it is."""
        whole = self.found.population.area_km2 or 0.0
        return ("10³ km²", 1000.0) if whole >= 100_000 else ("km²", 1.0)

    def _area(self, e: Estimate) -> str:
        if math.isnan(e.value):
            return "–"
        value, low = (v / self._unit[1] for v in (e.value, e.interval[0]))
        half = "" if math.isnan(e.error) else f"± {number(value - low)}"
        text = f'{number(value)} <span class="pm">{half}</span>'
        return few(text) if e.few else text

    def _title(self, name: str) -> str:
        return next((p.title for p in self.found.products if p.name == name), name)

    def _short(self) -> str:
        lines = []
        for one in self.found.compared:
            if len(self.found.compared) > 3 and one.a not in self.found.labels:
                continue
            who = f"<b>{escape(one.a)}</b> and <b>{escape(one.b)}</b>"
            if one.levels:
                lines.append(f"<li>{who} {self._told(one.levels[0])}</li>")
            else:
                lines.append(
                    f"<li>{who} can both be right on <b>{percent(one.possible)}</b> of the pixels that "
                    "both speak of. One of them says no single class in which to compare them.</li>"
                )
        for drift in self.found.drifts:
            lines.append(
                f"<li>From <b>{escape(drift.before)}</b> to <b>{escape(drift.after)}</b> "
                f"<b>{percent(drift.changed)}</b> of the pixels change their code.</li>"
            )
        lines += [
            f"<li>Against {j.accuracy.points:,} reference points <b>{escape(j.product)}</b> is right on "
            f"<b>{percent(j.accuracy.overall)}</b> of the area.</li>"
            for j in self.found.judged
        ]
        if self.found.population.refused:
            lines.append(
                f"<li>No areas are estimated: {escape(self.found.population.refused)}</li>"
            )
        return f"<ul>{''.join(lines)}</ul>" if lines else ""

    def _told(self, at: Agreement) -> str:
        where = [
            f"{percent(e, plain=True)} {words}"
            for e, words in (
                (at.interior, "away from borders"), (at.edge, f"within {EDGE} pixels of one"),
            )
            if not math.isnan(e.value)
        ]  # fmt: skip
        few = " That is little to judge them by." if at.compared.value < LITTLE else ""
        return (
            f"can both be right on <b>{percent(at.can_agree)}</b> of the pixels that both speak of, in "
            f"{escape(at.taxonomy)}. On {percent(at.compared, plain=True)} each says one single class: "
            f"the same on <b>{percent(at.overall)}</b> of them"
            + (f" ({', '.join(where)})" if where else "")
            + f".{few}"
        )

    # Agreement

    def _agreement(self) -> str:
        if not self.found.compared:
            return ""
        out = []
        if len(self.found.products) > 2:
            for level in self.found.levels:
                out.append(self._overview(level))
        out += [self._pair(one) for one in self.found.compared]
        return "\n".join(out)

    def _overview(self, level: Level) -> str:
        names = [p.name for p in self.found.products if p.name in level.tables]
        of: dict[tuple[str, str], Agreement] = {}
        for one in self.found.compared:
            for at in one.levels:
                if at.taxonomy == level.taxonomy.name:
                    of[one.a, one.b] = of[one.b, one.a] = at

        def value(i: int, j: int) -> float | None:
            found = of.get((names[i], names[j]))
            if found is None or (i < j and not found.compared.value >= LITTLE):
                return None
            e = found.overall if i < j else found.can_agree
            return None if math.isnan(e.value) else e.value

        drawn = matrix(
            names, names, value, lambda i, j: 2 * (value(i, j) or 0) - 1,
            lambda i, j: f"{100 * (value(i, j) or 0):.0f}", row_title="product",
            column_title="product", good=lambda _i, _j: True,
        )  # fmt: skip
        return (
            f"<h3>All products, {escape(level.taxonomy.title)}</h3><p class=note>Below the diagonal: "
            "percent of the pixels that two products both speak of on which both can be right, coarse "
            "codes included. Above it: of the pixels that each puts into one single class, percent in the "
            f"same one; blank where fewer than {100 * LITTLE:.0f} % are such.</p>{drawn}"
        )

    def _pair(self, one: Compared) -> str:
        parts = [
            f"<h3>{escape(self._title(one.a))} and {escape(self._title(one.b))}</h3>",
            f"<p class=note>A: {escape(one.a)}. B: {escape(one.b)}.</p>",
            f"<p>On {percent(one.possible)} of the pixels that both speak of, what their codes can mean "
            "overlaps down to the leaves of the ontology.</p>",
        ]
        if not one.levels:
            return "".join(parts) + (
                "<p>No code of one of them lies in a single class: there is nothing more to compare.</p>"
            )
        can, same = swatch(CAN), swatch(PALETTE[0])
        head = [
            "classes", Html(f"{can}can both be right"), "one class each", Html(f"{same}the same one"), "inside",
            "at borders", "",
        ]  # fmt: skip
        level_rows = [
            [
                escape(at.taxonomy), percent(at.can_agree), percent(at.compared, plain=True),
                percent(at.overall), percent(at.interior, plain=True),
                percent(at.edge, plain=True),
                bars([Bar(at.can_agree, CAN), Bar(at.overall, PALETTE[0])], 1.0),
            ]
            for at in one.levels
        ]  # fmt: skip
        parts.append(
            html_table(head, level_rows).replace('class="t"', 'class="t x"')
            + f"<p class=note>At borders: within {EDGE} pixels of a border between codes of either.</p>"
        )
        for at in one.levels:
            level = next(lv for lv in self.found.levels if lv.taxonomy.name == at.taxonomy)
            parts.append(self._tables(one, at, level))
        by = one.levels[0].by
        if one.a in self.found.labels:
            parts += [self._by(layer, groups) for layer, groups in by.items() if len(groups) > 1]
        return "\n".join(parts)

    def _tables(self, one: Compared, at: Agreement, level: Level) -> str:
        titles = [entry.title for entry in level.taxonomy.classes]
        if not at.table:
            return f"<p>No pixel is in one class of {escape(level.taxonomy.title)} by both.</p>"
        rows = sorted({i for i, _ in at.table} | {j for _, j in at.table})
        of_row: dict[int, float] = {}
        for (i, _), share in at.table.items():
            of_row[i] = of_row.get(i, 0.0) + share
        intro = f"<h4>{escape(level.taxonomy.title)}</h4>"
        if len(rows) <= _DETAILED and at is one.levels[0]:
            drawn = matrix(
                [titles[i] for i in rows], [titles[j] for j in rows],
                lambda i, j: at.table.get((rows[i], rows[j])),
                lambda i, j: at.table.get((rows[i], rows[j]), 0.0) / (of_row.get(rows[i]) or 1.0),
                lambda i, j: short_percent(at.table.get((rows[i], rows[j]), 0.0)),
                row_title="A", column_title="B", good=lambda i, j: i == j,
            )  # fmt: skip
            note = (
                "<p class=note>Percent of the compared pixels, by weight; the darker, the larger the part "
                "of the row.</p>"
            )
        else:
            differ = sorted(
                ((share, i, j) for (i, j), share in at.table.items() if i != j), reverse=True
            )[:12]
            top = differ[0][0] if differ else 1.0
            drawn = "" if not differ else html_table(
                [one.a, one.b, "of the compared", ""],
                [
                    [
                        escape(titles[i]), escape(titles[j]), f"{100 * share:.2f} %",
                        bars([Bar(Estimate(share, math.nan, math.inf, 0), "#b2182b")], top),
                    ]
                    for share, i, j in differ
                ],
                left=2,
            )  # fmt: skip
            note = (
                "<p class=note>The largest differences; the whole table is in audit.json.</p>"
                if differ
                else "<p class=note>No pixel is in different classes.</p>"
            )
        has_a, has_b = (set(level.tables[name].values()).__contains__ for name in (one.a, one.b))
        by_class = html_table(
            [
                "class", Html(f"{swatch(PALETTE[0])}of A’s, B agrees"),
                Html(f"{swatch(PALETTE[1])}of B’s, A agrees"), "sites", "",
            ],
            [
                [
                    swatch(level.taxonomy.classes[c.index].color_hint) + escape(titles[c.index]),
                    percent(c.of_a) if has_b(c.index) else "B has none",
                    percent(c.of_b) if has_a(c.index) else "A has none",
                    str(max(c.of_a.sites, c.of_b.sites)),
                    bars(
                        [Bar(c.of_a, PALETTE[0]), Bar(c.of_b, PALETTE[1])], 1.0
                    ) if has_a(c.index) and has_b(c.index) else "",
                ]
                for c in at.classes
            ],
        )  # fmt: skip
        return f"{intro}{note}{drawn}{by_class}"

    def _by(self, layer: str, groups: Mapping[str, Estimate]) -> str:
        shown = list(groups.items())[:_LINES]
        rows = [
            [escape(name), f"{e.sites:,}", percent(e), bars([Bar(e, PALETTE[0])], 1.0)]
            for name, e in shown
        ]
        more = (
            f"<p class=note>{len(groups) - len(shown)} more with fewer sites are in audit.json.</p>"
            if len(groups) > len(shown)
            else ""
        )
        return f"<h4>By {escape(layer)}</h4>{html_table([layer, 'sites', 'agree', ''], rows)}{more}"

    # What is stated

    def _stated(self) -> str:
        out = [self._class_areas(level) for level in self.found.levels[:1]]
        out += [self._codes(one) for one in self.found.stated]
        return "\n".join(part for part in out if part)

    def _class_areas(self, level: Level) -> str:
        name = level.taxonomy.name
        found = [s for s in self.found.stated if name in s.by_class]
        if not found:
            return ""
        colours = {s.product: PALETTE[i % len(PALETTE)] for i, s in enumerate(found)}
        areas = self.found.population.area_km2 is not None
        several = [
            (s.class_areas or {}).get(name, {}) if areas else s.by_class[name] for s in found
        ]
        keys = sorted({key for one in several for key in one})
        most = scale_of([e for one in several for key, e in one.items()])
        rows = []
        for key in keys:
            title = "no class, or several" if key == IGNORE else level.taxonomy.classes[key].title
            here = [one.get(key) for one in several]
            rows.append(
                [
                    escape(title),
                    *("" if e is None else (self._area(e) if areas else percent(e)) for e in here),
                    bars(
                        [
                            Bar(e or Estimate(0.0, math.nan, math.inf, 0), colours[s.product])
                            for s, e in zip(found, here, strict=True)
                        ],
                        most,
                    ),
                ]
            )
        head = [
            "class",
            *(Html(swatch(colours[s.product]) + escape(s.product)) for s in found),
            "",
        ]  # fmt: skip
        what = (
            f"Areas in the target population, {self._unit[0]}, from the central pixel of each patch, with "
            "95 % intervals."
            if areas
            else "Composition of the patches, percent; not areas."
        )
        return f"<h3>{escape(level.taxonomy.title)}</h3><p class=note>{what}</p>{html_table(head, rows)}"

    def _codes(self, one: Stated) -> str:
        product = next(p for p in self.found.products if p.name == one.product)
        entries = {e.value: e for e in product.classes}
        areas = one.areas or {}
        total = sum(e.value for e in areas.values()) or 1.0
        order = sorted(one.composition, key=lambda c: -one.composition[c].value)
        order += [c for c in areas if c not in one.composition and c != product.nodata]
        every = [*one.composition.values(), *(e.times(1 / total) for e in areas.values())]
        most = scale_of(every)
        rows, rest = [], order[_LINES:]
        for code in order[:_LINES]:
            entry = entries.get(code)
            whole, centre = one.composition.get(code), areas.get(code)
            colour = f"#{entry.color_hint}" if entry is not None and entry.color_hint else GREY
            several = [Bar(whole, colour, thin=True)] if whole else []
            if centre is not None:
                several.insert(0, Bar(centre.times(1 / total), colour))
            rows.append(
                [
                    f"{swatch(colour)}{code} {escape(entry.title if entry else '')}",
                    percent(whole) if whole else "",
                    *([self._area(centre) if centre else ""] if one.areas is not None else []),
                    str(whole.sites if whole else centre.sites if centre else 0),
                    bars(several, most),
                ]
            )
        head = [
            "code",
            "composition",
            *([f"area, {self._unit[0]}"] if one.areas is not None else []),
            "sites",
            "",
        ]
        nothing = (
            f"<p class=note>It says nothing of {percent(one.nothing, plain=True)} of the pixels.</p>"
            if one.nothing.value > 0
            else ""
        )
        if rest:
            share = sum(one.composition[code].value for code in rest if code in one.composition)
            nothing = (
                f"<p class=note>{len(rest)} more codes are {100 * share:.2f} % of the pixels together; "
                f"they are in audit.json.</p>{nothing}"
            )
        legend = (
            "<p class=note>Composition: whole patches. Area: central pixels. Bars: area above, composition "
            "below (thin).</p>"
            if one.areas is not None
            else ""
        )
        return f"<h3>{escape(product.title)}</h3>{legend}{html_table(head, rows)}{nothing}"

    # Drift, balance

    def _drift(self) -> str:
        return "\n".join(self._one_drift(d) for d in self.found.drifts)

    def _one_drift(self, one: Drift) -> str:
        names = self._code_titles(one.before.split(" ")[0])
        if not one.codes:
            return f"<h3>{escape(one.before)} → {escape(one.after)}</h3><p>They never meet.</p>"
        order = sorted(one.codes, key=lambda c: -one.codes[c].before.value)
        reach = max(
            max(abs(t.net.value), *(abs(v) for v in t.net.interval if not math.isnan(v)), 1e-9)
            for t in one.codes.values()
        )
        rows = [
            [
                escape(names.get(code, str(code))), percent(turn.before, plain=True),
                percent(turn.after, plain=True), signed(turn.net),
                percent(turn.kept, plain=True),
                bars([Bar(turn.net, "#b2182b" if turn.net.value < 0 else PALETTE[0])], reach, -reach),
            ]
            for code in order
            for turn in [one.codes[code]]
        ]  # fmt: skip
        table = html_table(["class", "before", "after", "net", "kept", "net change"], rows)
        most = one.moves[0][2] if one.moves else 1.0
        moves = html_table(
            ["from", "to", "of all pixels", ""],
            [
                [
                    escape(names.get(a, str(a))), escape(names.get(b, str(b))), f"{100 * s:.2f} %",
                    bars([Bar(Estimate(s, math.nan, math.inf, 0), "#b2182b")], most),
                ]
                for a, b, s in one.moves[:10]
            ],
            left=2,
        )  # fmt: skip
        return (
            f"<h3>{escape(one.before)} → {escape(one.after)}</h3><p>{percent(one.changed)} of the pixels "
            "have another code. Two versions of a map differ by what changed on the ground, and by how "
            f"they were made: this is both.</p>{table}<h4>The largest moves</h4>{moves}"
        )

    def _code_titles(self, product: str) -> dict[int, str]:
        found = next((p for p in self.found.products if p.name == product), None)
        return {} if found is None else {e.value: e.title for e in found.classes}

    def _balance(self) -> str:
        out = []
        for one in self.found.balance:
            most = scale_of(list(one.shares.values()))
            rows = []
            for i, e in sorted(one.shares.items(), key=lambda item: -item[1].value):
                entry = None if i == IGNORE else one.taxonomy.classes[i]
                colour = f"#{entry.color_hint}" if entry else GREY
                rows.append(
                    [
                        swatch(colour) + (escape(entry.title) if entry else "ignored"),
                        percent(e), f"{e.sites:,}", f"{e.effective:,.0f}",
                        bars([Bar(e, colour)], most),
                    ]
                )  # fmt: skip
            missing = [c.title for i, c in enumerate(one.taxonomy.classes) if i not in one.shares]
            note = f"<p class=note>Nowhere: {escape(', '.join(missing))}.</p>" if missing else ""
            out.append(
                f"<h3>{escape(one.taxonomy.title)}, by {escape(one.product)}</h3>"
                + html_table(["class", "of all pixels", "sites", "effective sites", ""], rows)
                + note
            )
        return "\n".join(out)

    # Consensus

    def _consensus(self) -> str:
        if not self.found.consensus:
            return ""
        several = len({line["stratum"] for line in self.found.consensus}) > 1
        rows = [
            [
                escape(line["product"]),
                *([escape(line["stratum"] or "all")] if several else []),
                f"{line['sites']:,.0f}", f"{100 * line['changed']:.1f} %",
                bars([Bar(Estimate(line["changed"], math.nan, math.inf, 0), "#b2182b")], 1.0),
                f"{100 * line['filled']:.1f} %",
                "<br>".join(
                    f"{escape(a)} → {escape(b)} {escape(share_text(share))}"
                    for a, b, share in line["largest"][:2]
                ),
            ]
            for line in self.found.consensus
        ]  # fmt: skip
        head = [
            "product", *(["stratum"] if several else []), "sites", "changed", "", "filled",
            "largest changes, of the ground",
        ]  # fmt: skip
        return (
            "<p>The label of this subset is made from several products. Changed: of the ground where a "
            "product alone says a class, where the label says another. Filled: of all ground, where "
            "only the label says one. By the weights of the sites it was fitted on, without an interval."
            "</p>" + html_table(head, rows).replace('class="t"', 'class="t x"')
        )

    # Reference

    def _reference(self) -> str:
        if not self.found.judged and not self.found.lost_points:
            return ""
        out = [f"<p>{escape(self.found.lost_points)}</p>"] if self.found.lost_points else []
        out += [self._one_judged(one) for one in self.found.judged]
        return "\n".join(out)

    def _one_judged(self, one: Judged) -> str:
        found = one.accuracy
        classes = one.taxonomy.classes
        used = sorted({c.index for c in found.classes})
        drawn = matrix(
            [classes[i].title for i in used], [classes[j].title for j in used],
            lambda i, j: found.matrix.get((used[i], used[j])),
            lambda i, j: found.matrix.get((used[i], used[j]), 0.0)
            / (sum(v for (a, _), v in found.matrix.items() if a == used[i]) or 1.0),
            lambda i, j: short_percent(found.matrix.get((used[i], used[j]), 0.0)),
            row_title=one.product, column_title="reference", good=lambda i, j: i == j,
        )  # fmt: skip
        km2 = one.area_km2
        rows = [
            [
                swatch(classes[c.index].color_hint) + escape(classes[c.index].title),
                f"{c.points_map}", f"{c.points_reference}", percent(c.users),
                percent(c.producers),
                percent(c.area) if km2 is None else self._area(c.area.times(km2)),
                bars([Bar(c.users, PALETTE[0]), Bar(c.producers, PALETTE[1])], 1.0),
            ]
            for c in found.classes
        ]  # fmt: skip
        head = [
            "class", "by map", "by reference", "user's", "producer's",
            "share of area" if km2 is None else f"area, {self._unit[0]}", "",
        ]  # fmt: skip
        how = (
            "Points are weighted as the file says; errors are linearised over the cells of the plan, the "
            "site being the unit."
            if found.weighted
            else "Points are taken as a random sample within each class of the map (Olofsson et al. 2014); "
            "points of one patch are a cluster."
        )
        unused = "".join(f" {n:,} points: {escape(why)}." for why, n in one.said.items())
        return (
            f"<h3>{escape(self._title(one.product))}</h3><p>Right on <b>{percent(found.overall)}</b> of the "
            f"area, by {found.points:,} points in {found.sites:,} sites, in classes of "
            f"{escape(one.taxonomy.title)}. {how}{unused}</p><p class=note>Error matrix, percent of "
            "area.</p>"
            + drawn
            + html_table(head, rows).replace('class="t"', 'class="t x"')
            + "<p class=note>By map, by reference: points of the class.</p>"
        )

    # Contested

    def _contested(self) -> str:
        if not self.found.contested:
            return ""
        by_site = {c.site: (n, c) for n, c in enumerate(self.found.contested, 1)}
        out = [
            f"<p>Sites by the share of pixels on which two products cannot both be right, in "
            f"{escape(self.found.levels[0].taxonomy.title)}. "
            f"{len(self.found.contested):,} of them are in <code>contested.gpkg</code>.</p>"
        ]
        for one in self.found.pictures:
            n, said = by_site[one.site]
            worst = said.worst
            words = (
                f" {worst[0]} says {worst[1]} where {worst[2]} says {worst[3]}: "
                f"{share_text(worst[4])} of the patch."
                if worst
                else ""
            )
            figures = [("image", f"data:image/jpeg;base64,{one.image}", "")]
            figures += [
                (name, f"data:image/png;base64,{png}", self._legend(name, one.codes[name]))
                for name, png in one.labels
            ]
            figures.append(
                ("disagreement", f"data:image/png;base64,{one.disagreement}", "red: they cannot both be "
                 "right; grey: fewer than two speak")
            )  # fmt: skip
            shown = "".join(
                f'<figure><img alt="{escape(name)}" src="{src}"><figcaption><b>{escape(name)}</b> '
                f"{legend}</figcaption></figure>"
                for name, src, legend in figures
            )
            out.append(
                f"<h4>{n}. {escape(one.where)}: {escape(share_text(said.disagreement))} differ</h4>"
                f'<p class="note">{escape(said.site)}.{escape(words)}</p><div class="p">{shown}</div>'
            )
        return "\n".join(out)

    def _legend(self, name: str, codes: Sequence[int]) -> str:
        product = next(p for p in self.found.products if p.name == name)
        entries = {e.value: e for e in product.classes}
        return " ".join(
            f'<span class="l">{swatch(f"#{e.color_hint}" if e.color_hint else GREY)}{escape(e.title)}'
            "</span>"
            for e in (entries[c] for c in codes[:5])
        )

    def _how(self) -> str:
        population = self.found.population
        weights = (
            "Sites count by their final weights, the area each stands for."
            if population.weighted
            else "All sites count alike, because not all have a known chance of selection: numbers are of "
            "these sites, and not of any population."
        )
        lines = [
            "Agreement is not accuracy: two maps made from the same satellite agree on their common "
            "errors. Only reference data says who is right.",
            f"± is half of a 95 % interval, 1.96 standard errors. The site is the sampling unit: the "
            f"{population.pixels:,} pixels of a patch are one observation, averaged over its dates. "
            f"{weights}",
            f'Numbers that rest on fewer than {FEW} effective sites are <span class="few">grey, marked '
            "(too few)</span>, and their intervals dashed: they are too narrow.",
            "Two products “can both be right” where a class is among those that either code can be. "
            "“The same one” is of the pixels that each puts into one single class: whether a code that can "
            "be several agrees cannot be said, so where codes are coarse it is of few pixels, and not of a "
            "fair part of them.",
            "Composition is of whole patches. Area is of the target population and uses the central pixel "
            "of each patch, which is what was drawn; whole patches reach beyond the population.",
        ]
        return "<ul>" + "".join(f"<li>{line}</li>" for line in lines) + "</ul>"
