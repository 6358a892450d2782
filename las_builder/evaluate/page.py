"""`scores/index.html`: every row of a folder of scores, and tiles beside their truth."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from las_builder.catalogs import Catalogs
from las_builder.core.page import STYLE
from las_builder.core.types import IGNORE
from las_builder.core.workspace import write_bytes
from las_builder.errors import UnknownNameError
from las_builder.evaluate.predict import colours
from las_builder.evaluate.score import ZERO_SHOT, drawn_of, panels_of, read_scores

_MORE = """
.t{margin:.5rem 0 1rem}.t th{white-space:normal;vertical-align:bottom}
.p{display:grid;gap:.3rem;margin:.6rem 0}
@media(max-width:700px){.p{grid-template-columns:repeat(3,1fr)!important}}
.p figure{margin:0}.p img{image-rendering:pixelated;border:1px solid #c9d0d5;display:block}
.p figcaption{font-size:.78rem;color:#59636b;overflow-wrap:anywhere}
i.s{display:inline-block;width:.8rem;height:.8rem;margin-right:.3rem;vertical-align:-.08rem;
border:1px solid #b4bcc2}td.n{white-space:normal;max-width:22rem}
@media print{i.s{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""
_PAPER = "LandSegmenter of the paper, with official SAM2.1 and GeoRSCLIP weights"
_CLIP = "CLIP, ProxyCLIP and the fusion with them, with official GeoRSCLIP weights"
"""Rows that everybody looks for; never run here until scores of the folder say otherwise."""


def write_page(out: Path, catalogs: Catalogs) -> Path:
    """Write the page over all `*.json` of a folder; it opens without a server.

    Raises:
        InputError: A JSON that `las evaluate` did not write.
        WorkspaceError: The disk is full or read-only.
    """
    found = [read_scores(file) for file in sorted(out.glob("*.json"))]
    names = list(dict.fromkeys(one["benchmark"] for one in found))
    parts = [
        "<h1>Scores</h1>",
        "<p>From one confusion matrix over all tiles of a benchmark; means over the classes that its "
        "truth holds. Behind mIoU: 95 % of draws with replacement of what is named below, places or "
        "tiles; tiles that lie beside each other are alike, so of tiles it is too narrow. Unseen are classes that no subset of the training had, by "
        "name or by meaning.</p>",
    ]
    for name in names:
        rows = [one for one in found if one["benchmark"] == name]
        rows.sort(key=lambda one: (-(one["miou"] or 0), one["method"]))
        parts.append(_benchmark(rows, out, catalogs))
    parts += [
        "<h2>Never run</h2>",
        "<ul>" + "".join(f"<li>{row}: never run</li>" for row in _never(found)) + "</ul>",
    ]
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Scores</title><style>{STYLE}{_MORE}</style><body>{''.join(parts)}</body></html>\n"
    )
    written = out / "index.html"
    write_bytes(written, page.encode())
    return written


def _never(found: Sequence[Mapping[str, Any]]) -> list[str]:
    official = any(one.get("clip", {}).get("size", "").startswith("georsclip") for one in found)
    return [_PAPER] if official else [_PAPER, _CLIP]


def _benchmark(rows: Sequence[Mapping[str, Any]], out: Path, catalogs: Catalogs) -> str:
    first = rows[0]
    paint = _paint(first, catalogs)
    heads = ("mIoU", "95 %", "seen", "unseen", "mean F1", "overall", "boundary", "uncertainty")
    lines = []
    for one in rows:
        span = one["miou_95"]
        between = "" if span is None else f"{100 * span[0]:.1f} to {100 * span[1]:.1f}"
        cells = [
            _share(one["miou"]), between, _share(one["miou_seen"]), _share(one["miou_unseen"]),
            _share(one["mf1"]), _share(one["overall"]), _share(one["boundary_miou"]),
            _share(one["uncertainty"]),
        ]  # fmt: skip
        lines.append(_row(one["method"], cells))
    parts = [
        f"<h2>{escape(first['title'])}</h2>",
        f"<p>{escape(first['benchmark'])}, {escape(first['split'])}: {len(first['tiles']):,} tiles, "
        f"{first['pixels']:,} pixels with a truth; intervals draw {drawn_of(first)}. "
        f"{escape(first['note'])}</p>",
        _table("method", heads, lines),
        _classes(rows, paint),
        *(f'<p class="note">{escape(text)}</p>' for one in rows if (text := _said(one))),
        *(_pictures(one, rows, out, paint) for one in rows),
    ]
    return "<section>" + "".join(parts) + "</section>"


def _classes(rows: Sequence[Mapping[str, Any]], paint: NDArray[np.uint8]) -> str:
    """IoU of each class by method."""
    lines = []
    for i, entry in enumerate(rows[0]["classes"]):
        new = any(one["classes"][i]["unseen"] for one in rows)
        lines.append(
            _row(
                entry["name"] + (" (unseen)" if new else ""),
                [f"{entry['pixels']:,}", *(_share(one["classes"][i]["iou"]) for one in rows)],
                paint[i],
            )
        )
    return _table("IoU of a class", ["pixels", *(one["method"] for one in rows)], lines)


def _said(one: Mapping[str, Any]) -> str:
    """What has to be known of a row."""
    said = []
    bands = one.get("bands")
    if bands:
        said.append(f"given {', '.join(bands['used'])}")
        said += [f"{band} stands in for {colour}" for colour, band in bands["filled"].items()]
        if bands["left_out"]:
            said.append(f"not given {', '.join(bands['left_out'])}")
        if bands.get("missing"):
            waves = ", ".join(f"{wave:g}" for wave in bands["missing"])
            said.append(f"trained with bands at {waves} µm, which are not there")
        if bands.get("foreign"):
            said.append(f"trained on nothing of level {bands['foreign']}")
    if "learnt" in one:
        said.append(_learnt(one["learnt"]))
    if one["absent"]:
        wrong = ", ".join(f"{name} ({n:,} pixels)" for name, n in one["absent"].items())
        said.append(f"says classes that the truth does not hold: {wrong}")
    if "constant" in one:
        said.append(f"always {one['constant']}, chosen knowing the truth")
    if "nearest" in one:
        pairs = (f"{own} as {near or 'nothing'}" for own, near in one["nearest"].items())
        said.append(f"read {', '.join(pairs)}")
    if "size" in one:
        large = one["size"] != "nano"
        known = (
            "whether from weights of SAM2.1 is not kept" if large else "without weights of SAM2.1"
        )
        said.append(f"a LandSegmenter {one['size']}, {known}")
    if "clip" in one:
        clip = one["clip"]
        said.append(
            f"CLIP is {clip['size']} of {clip['file']}, windows brought to {clip['side']} pixels"
            + ("; official weights: never run" if clip["size"] == "nano" else "")
        )
    if "proxy" in one:
        centred = ", their mean taken out" if one["proxy"]["centred"] else ""
        said.append(f"the proxy is LandSegmenter's features ({one['proxy']['embedding']}){centred}")
    if "fusion" in one:
        said.append(_fused(one["fusion"]))
    if one["silent"]:
        share = one["silent"] / max(one["silent"] + one["pixels"], 1)
        said.append(f"says nothing of {100 * share:.1f} % of the pixels, which are left out")
    if one["kind"] in ZERO_SHOT and one["miou_seen"] is None and one["miou_unseen"] is None:
        said.append("the checkpoint does not say what it was trained on")
    return f"{one['method']}: {'; '.join(said)}." if said else ""


def _learnt(facts: Mapping[str, Any]) -> str:
    """What a row says of what it learnt from."""
    tiles = f"{facts['tiles']:,} of the {facts['of']:,} training tiles"
    drawn = f"{100 * facts['share']:g} %, seed {facts['seed']}"
    if facts["protocol"] == "linear-probe":
        return f"a linear classifier of {facts['pixels']:,} pixels of {tiles} ({drawn})"
    return f"tuned for {facts['steps']:,} steps on {tiles} ({drawn})"


def _fused(fusion: Mapping[str, Any]) -> str:
    """How a row of fusion was fused."""
    least = {"mean": "mean over the pixels it wins", "max": "largest anywhere"}[
        fusion["confidence"]
    ]
    below = fusion["below"]
    heard = "as far as a class lacks" if below is None else f"for classes below {below:g} of"
    than = " beside ProxyCLIP" if fusion.get("relative") else ""
    where = f"where LandSegmenter is uncertain{than}" if fusion["gate"] else "everywhere"
    return f"ProxyCLIP is heard {heard} confidence ({least}), {where}"


def _pictures(
    one: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], out: Path, paint: NDArray[np.uint8]
) -> str:
    """Tiles of a row; with what CLIP gives beside it in the same line, as the paper's figure 5 has it."""
    if one["kind"] == "majority" or any(one.get("beside") == row["method"] for row in rows):
        return ""
    order = {"proxyclip": "ProxyCLIP", "fusion": "fusion"}
    beside = [row for row in rows if row.get("beside") == one["method"] and row["kind"] in order]
    beside.sort(key=lambda row: (list(order).index(row["kind"]), row["method"]))
    theirs = [(row, dict(panels_of(out, row))) for row in beside]
    lines = []
    for name, panels in panels_of(out, one):
        grey = np.repeat(panels[5][..., None], 3, axis=-1)
        shown = [
            (np.moveaxis(panels[:3], 0, -1), name.rsplit("/")[-1]), (paint[panels[3]], "truth"),
            (paint[panels[4]], "LandSegmenter" if beside else "prediction"),
        ]  # fmt: skip
        for row, kept in theirs:
            if name in kept:
                variant = row["method"].removeprefix(f"{one['method']}-fusion-")
                more = f" ({variant})" if variant != row["method"] else ""
                shown.append((paint[kept[name][4]], order[row["kind"]] + more))
        shown.append((grey, "uncertainty, white: 1"))
        figures = "".join(
            f'<figure><img alt="{escape(words)}" src="data:image/png;base64,{_png(array)}">'
            f"<figcaption>{escape(words)}</figcaption></figure>"
            for array, words in shown
        )
        columns = f"grid-template-columns:repeat({len(shown)},1fr)"
        lines.append(f'<div class="p" style="{columns}">{figures}</div>')
    return f"<h3>{escape(one['method'])}</h3>{''.join(lines)}" if lines else ""


def _paint(one: Mapping[str, Any], catalogs: Catalogs) -> NDArray[np.uint8]:
    """Colours of the class indices, (256, 3): the legend's where it has them all; 255 is white."""
    names = [entry["name"] for entry in one["classes"]]
    chosen = colours(names, catalogs)
    try:
        _, _, product = catalogs.scored(one["benchmark"])
        hints = {entry.value: entry.color_hint for entry in product.classes}
        own = [hints.get(entry["code"]) for entry in one["classes"]]
        if all(own) and len(set(own)) == len(own) and "FFFFFF" not in own:
            chosen = [tuple(bytes.fromhex(str(hint))) for hint in own]  # type: ignore[misc]
    except UnknownNameError:
        pass  # scores of a benchmark that was declared elsewhere
    out = np.full((IGNORE + 1, 3), 255, np.uint8)
    out[: len(chosen)] = chosen
    return out


def _png(array: NDArray[np.uint8]) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _row(name: str, cells: Sequence[str], colour: NDArray[np.uint8] | None = None) -> str:
    mark = (
        ""
        if colour is None
        else f'<i class="s" style="background:rgb{tuple(colour.tolist())}"></i>'
    )
    said = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f'<tr><td class="n">{mark}{escape(name)}</td>{said}</tr>'


def _table(first: str, heads: Sequence[str], rows: Sequence[str]) -> str:
    named = "".join(f"<th>{escape(head)}</th>" for head in heads)
    return (
        f'<div class="t"><table><thead><tr><th class="n">{escape(first)}</th>{named}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
