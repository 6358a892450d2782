"""Charts as inline SVG: bars with intervals, and tables of agreement."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from las_builder.audit.population import Estimate

INK = "#1f2529"
GREY = "#9fa9b1"

_WIDE = 200


@dataclass(frozen=True, slots=True)
class Bar:
    """One estimate of a row."""

    estimate: Estimate
    colour: str
    thin: bool = False
    """Beside another that it is compared with."""


def bars(several: Sequence[Bar], most: float, least: float = 0.0) -> str:
    """Bars below each other on a scale from `least` to `most`, each with its 95 % interval."""
    height = 15 * len(several) + 1
    scale = _WIDE / ((most - least) or 1.0)

    def x(value: float) -> float:
        return min(max((value - least) * scale, 0.0), _WIDE)

    out = []
    for k, bar in enumerate(several):
        top, value = 15 * k, bar.estimate.value
        if math.isnan(value):
            continue
        zero, here = x(0.0), x(value)
        y, tall = (top + 5, 6) if bar.thin else (top + 2, 12)
        out.append(
            f'<path d="M{min(zero, here):.1f} {y}h{abs(here - zero):.1f}v{tall}'
            f'h-{abs(here - zero):.1f}z" fill="{bar.colour}"/>'
        )
        low, high = bar.estimate.interval
        if not math.isnan(low):
            dash = ' stroke-dasharray="2 2"' if bar.estimate.few else ""
            out.append(
                f'<path d="M{x(low):.1f} {top + 8}H{x(high):.1f}" stroke="{INK}"{dash}/>'
                f'<path d="M{x(low):.1f} {top + 5}v6M{x(high):.1f} {top + 5}v6" stroke="{INK}"/>'
            )
    if least < 0:
        out.append(f'<path d="M{x(0.0):.1f} 0v{height}" stroke="{GREY}"/>')
    return (
        f'<svg class="b" style="height:{height}px" viewBox="0 0 {_WIDE + 2} {height}" '
        f'preserveAspectRatio="none" aria-hidden="true">{"".join(out)}</svg>'
    )


def scale_of(several: Sequence[Estimate]) -> float:
    """A round number that all values and most intervals lie below."""
    peak = max((e.value for e in several if not math.isnan(e.value)), default=0.0)
    reach = max(
        (min(e.interval[1], 1.6 * e.value) for e in several if not math.isnan(e.error)), default=0.0
    )
    return max(peak, reach) or 1.0


def matrix(
    rows: Sequence[str], columns: Sequence[str], value: Callable[[int, int], float | None],
    shade: Callable[[int, int], float], text: Callable[[int, int], str], *, row_title: str,
    column_title: str, good: Callable[[int, int], bool],
) -> str:  # fmt: skip
    """A table of shares as shaded squares with numbers.

    Args:
        rows: Names, shown at the left.
        columns: Names, shown above, turned.
        value: Of a cell, None: empty.
        shade: From 0 to 1.
        text: In the cell.
        row_title: What the rows are.
        column_title: What the columns are.
        good: Cells of agreement, in another colour.
    """
    rows, columns = [_short(name) for name in rows], [_short(name) for name in columns]
    side = 33
    left = 10 + 5.8 * max(map(len, rows), default=1)
    top = 30 + 4.1 * max(map(len, columns), default=1)
    wide = left + max(
        side * (j + 0.6) + max(4.6 * len(name), 0.5 * side) for j, name in enumerate(columns)
    )
    tall = top + side * len(rows) + 4
    out = [
        f'<text x="0" y="12" class="h">{escape(row_title)} ↓ {escape(column_title)} →</text>',
    ]
    for j, name in enumerate(columns):
        x = left + side * (j + 0.5)
        out.append(
            f'<text transform="translate({x + 3:.0f} {top - 3:.0f}) rotate(-42)">{escape(name)}</text>'
        )
    for i, name in enumerate(rows):
        y = top + side * (i + 0.5)
        out.append(
            f'<text x="{left - 5:.0f}" y="{y + 4:.0f}" text-anchor="end">{escape(name)}</text>'
        )
        for j in range(len(columns)):
            found = value(i, j)
            x = left + side * j
            light = 97 - 57 * min(max(shade(i, j), 0.0), 1.0) if found is not None else 97
            hue = "167,55%" if good(i, j) else "14,72%"
            fill = f"hsl({hue},{light:.0f}%)" if found is not None else "#f5f7f8"
            out.append(
                f'<rect x="{x:.0f}" y="{top + side * i:.0f}" width="{side - 1}" height="{side - 1}" '
                f'fill="{fill}"/>'
            )
            if found is not None:
                ink = ' fill="#fff"' if light < 58 else ""
                out.append(
                    f'<text x="{x + side / 2 - 0.5:.1f}" y="{y + 4:.0f}" text-anchor="middle"{ink}>'
                    f"{text(i, j)}</text>"
                )
    return (
        f'<div class="t"><svg class="m" style="max-width:{wide * 1.2:.0f}px;min-width:'
        f'{0.8 * wide:.0f}px" viewBox="0 0 {wide:.0f} {tall:.0f}" role="img" '
        f'aria-label="{escape(row_title)} against {escape(column_title)}">{"".join(out)}</svg></div>'
    )


def _short(name: str) -> str:
    return name if len(name) <= 21 else f"{name[:20].rstrip()}…"
