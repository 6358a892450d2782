"""`audit/index.html`: one page that opens without a server, and `audit.json` beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from las_builder.audit.agreement import Agreement, Composition, Estimate
from las_builder.catalogs import LabelProduct, Taxonomy
from las_builder.core.workspace import write_bytes, write_json

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:64rem;padding:0 1rem;color:#222}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.2rem}table{border-collapse:collapse}
td,th{padding:.25rem .6rem;text-align:right;font-variant-numeric:tabular-nums}
th{font-weight:600}td.n,th.n{text-align:left}.bar{height:.8rem;display:inline-block}
.m td{border:1px solid #ddd;min-width:3.4rem}.note{color:#666}
.s{display:inline-block;width:.9rem;height:.9rem;border:1px solid #999;vertical-align:-.1rem}
.w{background:#fff3cd;border:1px solid #e0c060;padding:.4rem .8rem}
"""


def write_page(
    folder: Path, *, subset: str, sites: int, patches: int, synthetic: bool,
    products: Sequence[LabelProduct], compositions: Sequence[Composition],
    agreements: Sequence[Agreement], taxonomy: Taxonomy,
) -> None:  # fmt: skip
    """Write `index.html` and `audit.json`.

    Raises:
        WorkspaceError: The disk is full or read-only.
    """
    write_json(
        folder / "audit.json",
        {
            "subset": subset,
            "sites": sites,
            "patches": patches,
            "synthetic": synthetic,
            "composition": {
                c.product: {str(code): _json(e) for code, e in c.shares.items()}
                for c in compositions
            },
            "agreement": [
                {
                    "a": a.a, "b": a.b, "taxonomy": a.taxonomy, "overall": _json(a.overall),
                    "table": [[*key, share] for key, share in a.table.items()],
                }
                for a in agreements
            ],
        },
    )  # fmt: skip
    by_name = {product.name: product for product in products}
    parts = [
        f"<!doctype html><meta charset=utf-8><title>{escape(subset)}: audit</title>",
        f"<style>{_STYLE}</style><h1>{escape(subset)}: what the labels say</h1>",
        "<p class=w>SYNTHETIC: the pixels are made up.</p>" if synthetic else "",
        f"<p>{sites} sites, {patches} patches, before any filter. The site is the sampling unit; "
        "± is one standard error. Shares are composition of the patches, not area; between "
        "products the word is agreement, not accuracy.</p>",
        *(_composition(c, by_name[c.product]) for c in compositions),
        *(_agreement(a, taxonomy) for a in agreements),
    ]
    write_bytes(folder / "index.html", "\n".join(parts).encode())


def _composition(found: Composition, product: LabelProduct) -> str:
    classes = {entry.value: entry for entry in product.classes}
    rows = []
    for code, share in sorted(found.shares.items(), key=lambda item: -item[1].value):
        colour = classes[code].color_hint or "999999"
        rows.append(
            f"<tr><td>{code}<td class=n><span class=s style='background:#{colour}'></span> "
            f"{escape(classes[code].title)}<td>{_percent(share)}<td>{share.sites}"
            f"<td class=n><span class=bar style='background:#{colour};"
            f"width:{share.value * 20:.2f}rem'></span>"
        )
    return (
        f"<h2>{escape(product.title)}</h2><table><tr><th>code<th class=n>class<th>share"
        f"<th>sites<th>{''.join(rows)}</table>"
    )


def _agreement(found: Agreement, taxonomy: Taxonomy) -> str:
    if not found.table:
        return (
            f"<h2>{escape(found.a)} and {escape(found.b)}</h2><p>No pixel is in one class of "
            f"{escape(taxonomy.title)} by both."
        )
    used = sorted({index for key in found.table for index in key})
    names = [taxonomy.classes[i].title for i in used]
    peak = max(found.table.values(), default=1.0)
    rows = []
    for i, name in zip(used, names, strict=True):
        cells = []
        for j in used:
            share = found.table.get((i, j), 0.0)
            hue = "190,80%" if i == j else "20,90%"
            light = 100 - 45 * math.sqrt(share / peak)
            text = f"{share * 100:.1f}" if share else ""
            cells.append(f"<td style='background:hsl({hue},{light:.0f}%)'>{text}")
        rows.append(f"<tr><th class=n>{escape(name)}{''.join(cells)}")
    head = "".join(f"<th>{escape(name)}" for name in names)
    return (
        f"<h2>{escape(found.a)} and {escape(found.b)}</h2><p>They agree on "
        f"<b>{_percent(found.overall)}</b> of the pixels that both put into one class of "
        f"{escape(taxonomy.title)}. Rows: {escape(found.a)}; columns: {escape(found.b)}; "
        f"percent of the compared pixels.</p><table class=m><tr><th>{head}{''.join(rows)}</table>"
    )


def _percent(share: Estimate) -> str:
    error = "" if math.isnan(share.error) else f" ± {share.error * 100:.1f}"
    return f"{share.value * 100:.1f}{error} %"


def _json(estimate: Estimate) -> Mapping[str, Any]:
    def number(value: float) -> float | None:
        return None if math.isnan(value) else value

    return {
        "value": number(estimate.value),
        "error": number(estimate.error),
        "sites": estimate.sites,
    }
