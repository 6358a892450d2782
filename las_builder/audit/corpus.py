"""`audit.html`: the subsets of a corpus beside each other, with a link to the page of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from las_builder.audit.agreement import Agreement, OfClass
from las_builder.audit.cells import CAN, MORE, PALETTE, Html, html_table, percent, swatch
from las_builder.audit.charts import Bar, bars
from las_builder.audit.page import Findings
from las_builder.audit.population import Estimate
from las_builder.catalogs import Taxonomy
from las_builder.core.page import STYLE
from las_builder.core.types import IGNORE
from las_builder.core.workspace import write_bytes, write_json


@dataclass(frozen=True, kw_only=True)
class Brief:
    """What the page of a corpus says of one subset: no pictures, no counts."""

    subset: str
    labels: tuple[str, ...]
    sites: int
    patches: int
    area_km2: float | None
    synthetic: tuple[str, ...]
    taxonomy: Taxonomy | None
    """In which products are compared: level 1."""

    agreement: tuple[Agreement, ...]
    """Of every pair of products, in it."""

    balance: Mapping[str, Mapping[int, Estimate]]
    """Label product to class to its share of what it says."""

    right: Mapping[str, Estimate]
    """Product to overall accuracy, where there are reference points."""

    @classmethod
    def of(cls, found: Findings) -> Brief:
        """Of one subset."""
        taxonomy = found.levels[0].taxonomy if found.levels else None
        name = taxonomy.name if taxonomy else ""
        return cls(
            subset=found.subset,
            labels=tuple(p.name for p in found.products if p.name in found.labels),
            sites=len(found.population),
            patches=int(found.population.patches.sum()),
            area_km2=found.population.area_km2,
            synthetic=found.synthetic,
            taxonomy=taxonomy,
            agreement=tuple(
                at for pair in found.compared for at in pair.levels if at.taxonomy == name
            ),
            balance={
                s.product: s.by_class[name]
                for s in found.stated
                if s.product in found.labels and name in s.by_class
            },
            right={j.product: j.accuracy.overall for j in found.judged},
        )


def write_corpus(path: Path, corpus: str, subsets: Sequence[tuple[Brief, str]]) -> None:
    """Write the page, and its numbers as JSON of the same name.

    Args:
        path: `audit.html`.
        corpus: Its name.
        subsets: Each with the way from the page to its own.

    Raises:
        WorkspaceError: The disk is full or read-only.
    """
    write_json(path.with_suffix(".json"), _as_json(corpus, subsets))
    write_bytes(path, _html(corpus, subsets).encode())


def _as_json(corpus: str, subsets: Sequence[tuple[Brief, str]]) -> dict[str, Any]:
    def names(one: Brief, index: int) -> str:
        classes = one.taxonomy.classes if one.taxonomy else []
        return "ignore" if index == IGNORE else classes[index].name

    def said(c: OfClass) -> dict[str, Any]:
        return {"of_a": c.of_a.as_json(), "of_b": c.of_b.as_json()}

    return {
        "corpus": corpus,
        "subsets": [
            {
                "subset": one.subset, "page": link, "labels": list(one.labels), "sites": one.sites,
                "patches": one.patches, "area_km2": one.area_km2, "synthetic": bool(one.synthetic),
                "taxonomy": one.taxonomy.name if one.taxonomy else None,
                "agreement": [
                    {
                        "a": at.a, "b": at.b,
                        **{k: getattr(at, k).as_json() for k in ("can_agree", "compared", "overall")},
                        "classes": {names(one, c.index): said(c) for c in at.classes},
                    }
                    for at in one.agreement
                ],
                "balance": {
                    product: {names(one, i): e.as_json() for i, e in shares.items()}
                    for product, shares in one.balance.items()
                },
                "accuracy": {product: e.as_json() for product, e in one.right.items()},
            }
            for one, link in subsets
        ],
    }  # fmt: skip


def _html(corpus: str, subsets: Sequence[tuple[Brief, str]]) -> str:
    briefs = [one for one, _ in subsets]
    whole = [
        (f"{len(briefs)}", "subsets"), (f"{sum(b.sites for b in briefs):,}", "sites"),
        (f"{sum(b.patches for b in briefs):,}", "patches"),
    ]  # fmt: skip
    made_up = sorted({what for one in briefs for what in one.synthetic})
    sections = [
        ("Subsets", _subsets(subsets)),
        ("Agreement", _agreement(briefs)),
        ("Balance of classes", _balance(briefs)),
    ]
    head = [
        '<!doctype html>\n<html lang="en"><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(corpus)}: audit</title><style>{STYLE}{MORE}</style>",
        f"<h1>{escape(corpus)}: what the labels of its subsets say</h1>",
        f'<p class="w">SYNTHETIC: {escape(" and ".join(made_up))} of some subset are made up.</p>'
        if made_up
        else "",
        '<div class="k">' + "".join(f"<div><b>{n}</b>{what}</div>" for n, what in whole) + "</div>",
        "<p class=note>± is half of a 95 % interval, the site being the unit; grey: fewer than 30 effective "
        "sites. Numbers are of the population of each subset, and populations differ: a "
        "difference between subsets is one of places, sensors and products together.</p>",
    ]
    body = [f"<section><h2>{title}</h2>\n{text}</section>" for title, text in sections if text]
    return "\n".join(part for part in [*head, *body, "</html>"] if part) + "\n"


def _subsets(subsets: Sequence[tuple[Brief, str]]) -> str:
    judged = any(one.right for one, _ in subsets)
    rows = [
        [
            f'<a href="{escape(link)}">{escape(one.subset)}</a>', "<br>".join(map(escape, one.labels)),
            f"{one.sites:,}", f"{one.patches:,}",
            "–" if one.area_km2 is None else f"{one.area_km2:,.0f}",
            *(
                [", ".join(f"{escape(p)} {percent(e)}" for p, e in one.right.items()) or "–"]
                if judged else []
            ),
        ]
        for one, link in subsets
    ]  # fmt: skip
    head = ["subset", "labels", "sites", "patches", "km² they stand for"]
    return html_table([*head, *(["right by reference points"] if judged else [])], rows, left=2)


def _agreement(briefs: Sequence[Brief]) -> str:
    pairs: dict[tuple[str, str], list[tuple[Brief, Agreement]]] = {}
    for one in briefs:
        for at in one.agreement:
            pairs.setdefault((at.a, at.b), []).append((one, at))
    if not pairs:
        return ""
    can, same = swatch(CAN), swatch(PALETTE[0])
    rows = [
        [
            f"{escape(a)}<br>{escape(b)}" if not k else "", escape(one.subset), percent(at.can_agree),
            percent(at.compared, plain=True), percent(at.overall),
            bars([Bar(at.can_agree, CAN), Bar(at.overall, PALETTE[0])], 1.0),
        ]
        for (a, b), several in sorted(pairs.items())
        for k, (one, at) in enumerate(several)
    ]  # fmt: skip
    head = [
        "products",
        "subset",
        Html(f"{can}can both be right"),
        "one class each",
        Html(f"{same}the same one"),
        "",
    ]
    out = [html_table(head, rows, left=2).replace('class="t"', 'class="t x"')]
    for (a, b), several in sorted(pairs.items()):
        if len(several) > 1:
            out.append(_by_class(a, b, several))
    return "\n".join(out)


def _by_class(a: str, b: str, several: Sequence[tuple[Brief, Agreement]]) -> str:
    """Of the pixels of a class by one product, those that the other puts in it too."""
    titles: dict[int, str] = {}
    for one, at in several:
        for c in at.classes:
            assert one.taxonomy is not None
            titles.setdefault(c.index, one.taxonomy.classes[c.index].title)

    def cell(at: Agreement, index: int, of: str) -> str:
        found = next((c for c in at.classes if c.index == index), None)
        if found is None or not (found.share_a.sites and found.share_b.sites):
            return "–"
        return percent(getattr(found, of))

    rows = [
        [escape(title), *(cell(at, i, of) for _, at in several for of in ("of_a", "of_b"))]
        for i, title in sorted(titles.items())
    ]
    head = [
        "class",
        *(f"{one.subset}: {words}" for one, _ in several for words in ("of A’s", "of B’s")),
    ]
    return (
        f"<h3>{escape(a)} (A) and {escape(b)} (B), by class</h3><p class=note>Of the compared pixels "
        f"that one puts in a class, those that the other does too; –: one of them says none there.</p>"
        f"{html_table(head, rows)}"
    )


def _balance(briefs: Sequence[Brief]) -> str:
    columns = [(one, product) for one in briefs for product in one.balance]
    if not columns:
        return ""
    titles: dict[int, str] = {}
    for one, product in columns:
        for index in one.balance[product]:
            assert one.taxonomy is not None
            titles[index] = (
                "no class, or several" if index == IGNORE else one.taxonomy.classes[index].title
            )
    rows = [
        [
            escape(title),
            *(
                percent(found) if (found := one.balance[product].get(index)) else "–"
                for one, product in columns
            ),
        ]
        for index, title in sorted(titles.items())
    ]
    head = [
        "class",
        *(Html(f"{escape(one.subset)}<br>{escape(product)}") for one, product in columns),
    ]
    return (
        "<p class=note>Of what the label product says in whole patches, in classes of level 1.</p>"
        + html_table(head, rows)
    )
