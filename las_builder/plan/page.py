"""`plan.html`: what a plan asks and what it got, beside the target population; one file, no script."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from las_builder.catalogs import Strata
from las_builder.core.options import Component, Sites, Splits
from las_builder.core.page import STYLE
from las_builder.core.types import PUBLISHED
from las_builder.core.workspace import write_bytes
from las_builder.plan.allocation import FEW, Cell
from las_builder.plan.design import RESERVES
from las_builder.plan.passes import sums
from las_builder.plan.published import OURS
from las_builder.plan.sampling import Draft
from las_builder.plan.splits import COLOURS, Leaks, leaks_section
from las_builder.plan.strata import classes
from las_builder.plan.table import SiteTable
from las_builder.plan.target import COLUMNS, ROWS, Floats, Ints, Target

_BAND = 10
"""Degrees of latitude of a line of the histogram."""

_LINES = 24
"""Classes that a histogram shows one by one; the rest of a long one is summed."""

_UNITS = 500_000
"""Of 1e-7 degrees, along a side of a land cell."""


@dataclass(frozen=True, eq=False)
class Chapter:
    """What the page tells of one subset."""

    name: str
    about: str
    """Of what imagery with what labels."""

    sites: Sites
    draft: Draft | None
    """None where the scenes of a catalogue decide."""


def write_page(
    path: Path, *, title: str, description: str, synthetic: bool, sites: SiteTable,
    chapters: Sequence[Chapter], splits: Splits, leaks: Leaks, picture: Path,
    bodies: Sequence[str] | None = None,
) -> None:  # fmt: skip
    """Write the page; equal arguments, equal bytes.

    Args:
        path: To write.
        title: Name of the corpus.
        description: Of the corpus, may be empty.
        synthetic: Whether the pixels will be made up; then the page says so.
        sites: Of the whole corpus.
        chapters: A subset each.
        splits: As declared.
        leaks: As measured.
        picture: PNG that is put into the page.
        bodies: `chapter_html` of each chapter, where it is made already.

    Raises:
        WorkspaceError: The disk is full or read-only.
    """
    if bodies is None:
        bodies = [chapter_html(chapter, sites) for chapter in chapters]
    primary = sites.of_rows(sites.primary)
    image = base64.b64encode(picture.read_bytes()).decode()
    figures = (
        (len(primary), "sites"), (len(sites) - len(primary), "reserves"),
        (len(chapters), "subset" if len(chapters) == 1 else "subsets"),
        (leaks.violations, "leaks"),
    )  # fmt: skip
    links = "".join(
        f'<a href="#{escape(c.name)}">{escape(c.name)}</a>' for c in chapters if len(chapters) > 1
    )
    parts = [
        '<!doctype html>\n<html lang="en"><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}: plan</title><style>{STYLE}</style>",
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(description)}</p>" if description else "",
        '<p class="w">SYNTHETIC: the places are real, the pixels will be made up.</p>'
        if synthetic
        else "",
        '<div class="k">' + "".join(f"<div><b>{n:,}</b>{what}</div>" for n, what in figures),
        f"</div><nav>{links}</nav>",
        f'<img alt="Map of the sites of each subset by split" src="data:image/png;base64,{image}">',
        _splits(primary, chapters, splits),
        leaks_section(leaks),
        *bodies,
        "</html>",
    ]
    write_bytes(path, ("\n".join(part for part in parts if part) + "\n").encode())


def _table(what: str, subset: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the first column holds names, and what is HTML already starts with "<"."""

    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=n' if i == 0 else ''}>{x if x.startswith('<') else escape(x)}</{tag}>"
            for i, x in enumerate(row)
        )

    body = "".join(f"<tr>{cells(row, 'td')}</tr>\n" for row in rows)
    return (
        f'<div class="t"><table data-what="{what}" data-subset="{escape(subset)}"><thead><tr>'
        f"{cells(head, 'th')}</tr></thead><tbody>\n{body}</tbody></table></div>"
    )


def _splits(primary: SiteTable, chapters: Sequence[Chapter], splits: Splits) -> str:
    """Splits as they came out."""
    shares = {"train": splits.train, "val": splits.val, "test": splits.test}
    whole = sum(shares.values())
    names = [name for name in COLOURS if name in shares or (primary.split == name).any()]
    head = [
        "subset", "sites",
        *(f'<i class="d" style="background:{COLOURS[name]}"></i>{name}' for name in names),
    ]  # fmt: skip
    rows = []
    tables = [(c.name, primary.of_subset(c.name)) for c in chapters]
    for name, table in [*tables, *([("all", primary)] if len(tables) > 1 else [])]:
        count = Counter(table.split.tolist())
        rows.append([name, f"{len(table):,}", *(_of(count[split], len(table)) for split in names)])
    declared = ", ".join(f"{name} {100 * n / whole:g} %" for name, n in shares.items())
    return (
        '<section id="splits"><h2>Splits</h2>\n'
        f"<p>Blocks of {splits.block_km:g} km are dealt to {declared}, the same for every subset "
        "and date. Sites follow their block; those nearer than "
        f"{splits.buffer_km:g} km to another split are buffer, fetched and audited and in no split. "
        f"So the shares of sites come out as below.</p>\n{_table('splits', '', head, rows)}</section>"
    )


def _of(n: int, whole: int) -> str:
    return f"{n:,} ({100 * n / whole:.1f} %)" if whole else "0"


def chapter_html(chapter: Chapter, sites: SiteTable) -> str:
    """The section of one subset, from the sites of the corpus or its own; splits do not matter."""
    table = sites.of_subset(chapter.name)
    primary = table.of_rows(table.primary)
    parts = [
        f'<section id="{escape(chapter.name)}"><h2>{escape(chapter.name)}</h2>',
        f"<p>{escape(chapter.about)}</p>",
        _words(chapter, table),
        f"<h3>Weights</h3>{_weights(chapter, primary)}",
        f"<h3>Cells</h3>{_cells(chapter, table)}",
        _histograms(chapter, primary),
        "</section>",
    ]
    return "\n".join(parts)


def _words(chapter: Chapter, table: SiteTable) -> str:
    """The design in sentences."""
    sites, draft = chapter.sites, chapter.draft
    n = int(table.primary.sum())
    if len(table) and table.component[0] in (PUBLISHED, OURS):
        nowhere = int(np.isnan(table.lon).sum())
        whose = "its publisher's" if table.component[0] == PUBLISHED else "that of its block"
        return (
            f"<ul><li>{n:,} windows of the pictures of an annotated set, {len(table) - n:,} more in "
            f"reserve, {nowhere:,} without a place.</li><li>The split of each is {whose}, unless it "
            "is too near to another split's. Nobody knows their chances.</li></ul>"
        )
    region = sites.region if isinstance(sites.region, str) else ", ".join(map(str, sites.region))
    lines = [
        f"{n:,} sites and {len(table) - n:,} reserves in {region}, drawn with seed {sites.seed}."
    ]
    if draft is not None:
        target, allocation = draft.law.target, draft.allocation
        lines.append(
            f"The target population is {target.area - allocation.outside_km2:,.0f} km² of land that "
            "the imagery and the labels cover."
        )
        if allocation.outside_km2 > 0:
            lines.append(
                f"{allocation.outside_km2:,.0f} km² more of the region's land get no site and are "
                "no part of it."
            )
    else:
        lines.append("The sites are where the catalogue has scenes.")
    lines += [_component(component) for component in sites.design]
    if sites.spacing_km > 0 and sites.rule == "matern":
        lines.append(
            f"No two sites are nearer than {sites.spacing_km:g} km: Matérn's second rule thins a "
            "Poisson process, and the densities are those of what it leaves."
        )
    if sites.rule == "cells":
        apart = f", {sites.spacing_km:g} km apart" if sites.spacing_km > 0 else ""
        lines.append(
            f"One site at most lies in each cell of a rotated equal-area partition{apart}."
        )
    if sites.select is not None:
        lines.append(
            f"They are chosen in a second phase among {sites.select.candidates:g} candidates for "
            "each site, by the classes in their labels, with known chances."
        )
    if sites.capacity is not None:
        lines.append(f"It is drawn for {sites.capacity:,} sites, so it can be extended to these.")
    lines.append(
        f"At least {RESERVES - 1:.0%} more are drawn as reserves of each cell; one replaces a site of "
        "its own cell that has no pixels, in a random order that was drawn beforehand."
    )
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def _component(component: Component) -> str:
    share = f"{100 * component.share:g} % of the count"
    if component.uniform is not None:
        return f"{share}: uniform on land, per km²."
    if component.near is not None:
        weight = "by population" if component.weight == "population" else "all alike"
        return (
            f"{share}: near the {component.top:,} largest cities, {weight}, with a Gaussian of "
            f"{component.sigma_km:g} km."
        )
    layers = " and ".join(component.strata or [])
    rule = component.allocation
    how = {
        "proportional": "in proportion to area",
        "equal": "alike",
        "sqrt": "in proportion to the root of area",
        "neyman": "in proportion to area times spread (Neyman)",
    }[rule] if isinstance(rule, str) else "in given proportions"  # fmt: skip
    return (
        f"{share}: stratified by {layers}, strata counted {how}; those below "
        f"{component.merge_km2:g} km² are drawn together, and the smallest of the rest where sites "
        "would not suffice for two in each."
    )


def _weights(chapter: Chapter, primary: SiteTable) -> str:
    weight = primary.weight_km2
    known = weight[np.isfinite(weight)]
    if not known.size:
        return (
            "<p>No site has a weight: its chance is not known, and areas cannot be estimated.</p>"
        )
    total = float(known.sum())
    kish = total**2 / float((known**2).sum())
    low, middle, high = np.quantile(known, [0, 0.5, 1])
    rows = [
        ["sites with a weight", f"{known.size:,} of {weight.size:,}"],
        ["sum, km²", f"{total:,.0f}"],
        ["least, km²", f"{low:,.1f}"],
        ["median, km²", f"{middle:,.1f}"],
        ["most, km²", f"{high:,.1f}"],
        ["effective sites (Kish)", f"{kish:,.0f}"],
    ]
    if chapter.draft is not None:
        area = chapter.draft.law.target.area - chapter.draft.allocation.outside_km2
        rows.insert(
            2, ["target population, km²", f"{area:,.0f} (the sum is {total / area:.1%} of it)"]
        )
    return (
        '<p class="note">A site stands for weight_km2 = 1 / density. The sum estimates the target '
        "population without bias.</p>" + _table("weights", chapter.name, ["", ""], rows)
    )


def _cells(chapter: Chapter, table: SiteTable) -> str:
    """A line a cell: what is asked and what came."""
    found: Counter[tuple[str, str]] = Counter()
    first: Counter[tuple[str, str]] = Counter()
    for c, s, p in zip(
        table.component.tolist(), table.stratum.tolist(), table.primary.tolist(), strict=True
    ):
        found[c, s] += 1
        first[c, s] += p
    asked: dict[tuple[str, str], Cell] = {}
    if chapter.draft is not None:
        asked = {(c.component, c.stratum): c for c in chapter.draft.allocation.cells}
    chosen = chapter.sites.select is not None
    rows, few, short = [], 0, 0
    for key in sorted({*asked, *found}):
        cell = asked.get(key)
        few += first[key] < FEW
        notes = [f"fewer than {FEW}"] if first[key] < FEW else []
        if cell is not None and not chosen and first[key] < cell.count:
            notes.append(f"short of {cell.count - first[key]:,}")
            short += 1
        rows.append(
            [
                ": ".join(key),
                "" if cell is None else f"{cell.area_km2:,.0f}",
                "" if cell is None else f"{100 * cell.population:.2f} %",
                "" if cell is None or chosen else f"{cell.count:,}",
                "" if cell is None or chosen else "any" if cell.fits is None else f"{cell.fits:,}",
                f"{first[key]:,}",
                f"{found[key] - first[key]:,}",
                "; ".join(notes),
            ]
        )  # fmt: skip
    head = ["component: stratum", "km²", "population", "asked", "fits", "sites", "reserves", ""]
    note = f"{len(rows):,} cells"
    if few:
        note += f"; {few:,} with fewer than {FEW} sites, which say little alone"
    note += f"; {short:,} with fewer sites than asked." if short else "."
    return f'<p class="note">{note}</p>' + _table("cells", chapter.name, head, rows)


def _histograms(chapter: Chapter, primary: SiteTable) -> str:
    """Sites beside the target population, by latitude, climate, country and every other layer."""
    if not len(primary):
        return ""
    if chapter.draft is None:
        return (
            '<p class="note">No histograms: the target population is what the catalogue has scenes '
            "of, which is not known beside the sites themselves.</p>"
        )
    law = chapter.draft.law
    target = law.target
    areas = np.where(law.wanted > 0, target.areas, 0.0)
    at = cells_of(target, primary.lon, primary.lat)
    layers = ["climate", "country"]
    for component in chapter.sites.design:
        layers += [name for name in component.strata or [] if name not in layers]
    out = [
        "<h3>By latitude</h3>",
        '<p class="note">Upper bar: the target population, by area. Lower bar: the sites. Line: the '
        "sites by weight, which ought to meet the upper bar.</p>",
        _latitudes(chapter, target, areas, primary),
    ]
    for layer in layers:
        number, names = _layer(layer, target)
        whole = np.zeros(len(names))
        sums(number, areas, whole)
        mine = number[at]
        order = [i for i in np.argsort(-whole, kind="stable").tolist() if whole[i] > 0]
        groups = [(names[i], np.array([i])) for i in order[:_LINES]]
        if len(order) > _LINES:
            rest = np.array(order[_LINES:])
            groups.append((f"{rest.size} others", rest))
        out.append(f"<h3>By {escape(layer)}</h3>")
        out.append(
            _bars(
                chapter.name, layer, [name for name, _ in groups],
                [float(whole[which].sum()) for _, which in groups],
                [np.isin(mine, which) for _, which in groups], primary.weight_km2,
            )
        )  # fmt: skip
    return "\n".join(out)


def cells_of(target: Target, lon: Floats, lat: Floats) -> NDArray[np.intp]:
    """The cells of a target that drew sites, exactly: coordinates are whole 1e-7 degrees."""
    x = np.rint(lon * 1e7).astype(np.int64) + 1_800_000_000
    y = 900_000_000 - np.rint(lat * 1e7).astype(np.int64)
    return np.asarray(target.number[y // _UNITS - target.top, x // _UNITS % COLUMNS], np.intp)


def _layer(name: str, target: Target) -> tuple[Ints, Sequence[str]]:
    strata: Strata = target.region.strata
    if name != "country":
        return classes(name, target)
    names = [country.name for country in strata.countries]
    codes = np.arange(len(names), dtype=np.int32)
    return target.meant(strata.array("country"), codes), names


def _latitudes(chapter: Chapter, target: Target, areas: Floats, primary: SiteTable) -> str:
    bands, rows = 180 // _BAND, np.zeros(ROWS)
    sums(target.row, areas, rows)
    whole = rows.reshape(bands, -1).sum(axis=1)[::-1]
    mine = np.clip(np.floor((primary.lat + 90) / _BAND).astype(np.intp), 0, bands - 1)
    used = np.flatnonzero((whole > 0) | (np.bincount(mine, minlength=bands) > 0))
    show = range(int(used[-1]), int(used[0]) - 1, -1)  # north is up
    return _bars(
        chapter.name, "latitude", [_band(k * _BAND - 90) for k in show],
        [float(whole[k]) for k in show], [mine == k for k in show], primary.weight_km2,
    )  # fmt: skip


def _band(south: int) -> str:
    degree: Callable[[int], str] = lambda v: f"{abs(v)}°{'N' if v > 0 else 'S' if v < 0 else ''}"  # noqa: E731
    return f"{degree(south)} – {degree(south + _BAND)}"


def _bars(
    subset: str, what: str, names: Sequence[str], whole: Sequence[float],
    mine: Sequence[NDArray[np.bool_]], weight: Floats,
) -> str:  # fmt: skip
    """A line a class: share of the population, of sites, of sites by weight."""
    total, n = sum(whole), weight.size
    mass = float(weight.sum())  # NaN where any is unknown: then no share by weight is shown
    shares = [
        (area / total, float(is_.sum()) / n, float(weight[is_].sum()) / mass)
        for area, is_ in zip(whole, mine, strict=True)
    ]
    most = max(v for row in shares for v in row if np.isfinite(v)) or 1.0
    rows = [
        [
            name, f"{100 * a:.2f} %", f"{int(is_.sum()):,}", f"{100 * b:.2f} %",
            f"{100 * c:.2f} %" if np.isfinite(c) else "", _bar(a / most, b / most, c / most),
        ]
        for name, is_, (a, b, c) in zip(names, mine, shares, strict=True)
    ]  # fmt: skip
    head = [what, "population", "sites", "of sites", "by weight", ""]
    return _table(what, subset, head, rows)


def _bar(population: float, sites: float, weight: float) -> str:
    tick = f'<path d="M{180 * weight:.1f} 0v13" stroke="#1f2529"/>' if np.isfinite(weight) else ""
    return (
        '<svg class="h" viewBox="0 0 182 14" preserveAspectRatio="none" aria-hidden="true">'
        f'<path d="M0 1h{180 * population:.1f}v5h-{180 * population:.1f}z" fill="#9fa9b1"/>'
        f'<path d="M0 7h{180 * sites:.1f}v5h-{180 * sites:.1f}z" fill="{COLOURS["train"]}"/>{tick}</svg>'
    )
