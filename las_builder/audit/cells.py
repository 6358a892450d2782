"""Pieces of HTML that pages of audits are made of: tables, numbers with intervals, colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from las_builder.audit.population import Estimate

MORE = """
svg.b{width:202px;display:block}.x svg.b{width:110px}svg.m{width:100%;height:auto;font:11px system-ui,sans-serif}
svg.m .h{fill:#59636b}.t+.t{margin-top:1rem}nav a{display:inline-block}
.p{display:grid;grid-template-columns:repeat(auto-fill,minmax(10.2rem,1fr));gap:.6rem;margin:.5rem 0 1.6rem}
.l{display:block;padding-left:1.15rem;text-indent:-1.15rem}
.p figure{margin:0}.p img{image-rendering:pixelated;border:1px solid #c9d0d5;display:block}
.p figcaption{font-size:.78rem;line-height:1.3;color:#59636b;overflow-wrap:anywhere}
.few{color:#8a949b}i.s{display:inline-block;width:.8rem;height:.8rem;margin-right:.3rem;
vertical-align:-.08rem;border:1px solid #b4bcc2}
td.b{padding-top:0;padding-bottom:0}
@media print{.p{grid-template-columns:repeat(5,1fr)}.p figure{break-inside:avoid}i.s{print-color-adjust:exact;
-webkit-print-color-adjust:exact}h2{break-before:auto}.note,h4,#contested>p{break-after:avoid}
.x table{break-inside:avoid}}
td.n{min-width:5.2rem}h4{margin:1.2rem 0 .2rem}
@media (max-width:40rem){svg.b{width:84px}td.n{max-width:8rem;overflow-wrap:break-word}td .pm{display:block}.p{grid-template-columns:repeat(2,1fr)}}
"""
"""Beside `core.page.STYLE`."""

CAN = "#8fb8a8"
"""Colour of where two products can both be right."""

PALETTE = ("#0b6e4f", "#c46210", "#3b5b92", "#8c2d62", "#6a6d1f", "#2f7f8c", "#7a4b2a", "#555b61")


class Html(str):
    """Text that is HTML already; any other is escaped."""

    __slots__ = ()


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table of HTML cells; the first `left` columns are text. Heads are text unless `Html`."""

    def cell(tag: str, i: int, text: str) -> str:
        kind = " class=n" if i < left else " class=b" if "<svg" in text else ""
        return f"<{tag}{kind}>{text}</{tag}>"

    titles = "".join(
        f"<th{' class=n' if i < left else ''}>{h if isinstance(h, Html) else escape(h)}</th>"
        for i, h in enumerate(head)
    )
    body = "".join(
        "<tr>" + "".join(cell("td", i, text) for i, text in enumerate(row)) + "</tr>\n"
        for row in rows
    )
    return f'<div class="t"><table><thead><tr>{titles}</tr></thead><tbody>\n{body}</tbody></table></div>'


def swatch(colour: str) -> str:
    """A square of a colour, with or without #."""
    colour = colour if colour.startswith("#") else f"#{colour}"
    return f'<i class="s" style="background:{colour}"></i>'


def percent(e: Estimate, *, plain: bool = False) -> str:
    """With half of the 95 % interval, unless plain; grey where it rests on too few sites."""
    if math.isnan(e.value):
        return "–"
    digits = 1 if e.value >= 0.01 or e.value == 0 else 2
    text = f"{100 * e.value:.{digits}f}"
    if 0 < e.value < 0.00005:
        text = "&lt; 0.01 %"
    elif not plain and not math.isnan(e.error):
        text += f' <span class="pm">± {100 * (e.interval[1] - e.value):.{digits}f} %</span>'
    else:
        text += " %"
    return few(text, told=not plain) if e.few else text


def share_text(share: float) -> str:
    """Percent without an interval, as short as may be; not escaped."""
    value = 100 * share
    return f"{value:.0f} %" if value >= 9.95 else f"{value:.1f} %" if value >= 0.05 else "< 0.1 %"


def few(text: str, *, told: bool = True) -> str:
    """Grey: it rests on too few sites."""
    more = ' <span class="pm">(too few)</span>' if told else ""
    return f'<span class="few">{text}{more}</span>'


def signed(e: Estimate) -> str:
    """A difference with its sign."""
    half = "" if math.isnan(e.error) else f" ± {100 * (e.interval[1] - e.value):.2f}"
    text = f"{100 * e.value:+.2f} <span class='pm'>{half} %</span>"
    return few(text) if e.few else text


def number(value: float) -> str:
    """With as many digits as say something."""
    return (
        "0"
        if abs(value) < 0.0005
        else f"{value:,.0f}"
        if abs(value) >= 100
        else f"{value:,.1f}"
        if abs(value) >= 1
        else f"{value:.3f}"
    )


def km2_text(value: float) -> str:
    """An area for a headline."""
    return f"{value / 1e6:,.1f} M" if value >= 1e6 else f"{value:,.0f}"


def short_percent(share: float) -> str:
    """Percent for a cell of a matrix."""
    value = 100 * share
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 0.05 else "·"
