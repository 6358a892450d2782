"""Contact sheets: patches as a person sees them, with their labels in the legend's colours."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from las_builder.core.types import IGNORE
from las_builder.core.workspace import write_bytes, writing
from las_builder.pack.read import Decoded, Shards, reflectance

_COLUMNS = 6
_LEGEND_COLUMNS = 4
_IGNORE = (235, 235, 235)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Look:
    """One patch to look at."""

    rgb: NDArray[np.uint8]
    """(y, x, 3); dimmed where the surface was not seen."""

    label: NDArray[np.uint8]
    """(y, x, 3) in the legend's colours."""

    title: str
    """Where and when."""

    note: str
    """How clear, which split."""

    classes: frozenset[int]
    """Indices that occur."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Legend:
    """Of one subset."""

    subset: str
    imagery: str
    taxonomy: str
    samples: int
    synthetic: bool
    entries: tuple[tuple[int, str, str, float], ...]
    """(index, title, colour, share of the labelled pixels)."""


def look_at(sample: Decoded, subset: Mapping[str, Any]) -> Look:
    """A sample as pictures.

    Args:
        sample: As it was read back.
        subset: Its subset in `manifest.json`: classes, rgb, stretch.
    """
    names = [name if name in sample.bands else sample.bands[0] for name in subset["rgb"]]
    physical = reflectance(sample)
    low, high = subset["stretch"]
    planes = [physical[sample.bands.index(name)] for name in names]
    shown = np.clip((np.stack(planes, axis=-1) - low) / (high - low), 0, 1) ** 0.7
    shown[~sample.valid] = shown[~sample.valid] * 0.35 + 0.65
    palette = np.full((256, 3), _IGNORE, np.uint8)
    for entry in subset["classes"]:
        palette[entry["value"]] = tuple(bytes.fromhex(entry["color_hint"]))
    said = sample.metadata
    place = "no place" if said["lat"] is None else _place(said["lon"], said["lat"])
    return Look(
        rgb=(shown * 255).astype(np.uint8),
        label=palette[sample.label],
        title=f"{place}  {_when(said)[0]}",
        note=_when(said)[1],
        classes=frozenset(np.unique(sample.label).tolist()) - {IGNORE},
    )


def _when(said: Mapping[str, Any]) -> tuple[str, str]:
    """The day of a sample, its split and how clear it is; of a composite of what, and its days."""
    if "composite" not in said:
        return str(said["datetime"])[:10], f"{said['split']}, {said['clear'] * 100:.0f} % clear"
    first, last = (said[key][:10] for key in ("start_datetime", "end_datetime"))
    return f"{said['composite']} of {len(said['scenes'])}", f"{first} to {last}, {said['split']}"


def _place(lon: float, lat: float) -> str:
    return f"{abs(lat):.2f}°{'N' if lat >= 0 else 'S'} {abs(lon):.2f}°{'E' if lon >= 0 else 'W'}"


def contact_sheet(
    png: Path,
    html: Path | None,
    shards: Shards,
    manifest: Mapping[str, Any],
    *,
    title: str,
    patches: int,
) -> None:
    """Write a picture and a page of patches.

    Args:
        png: Picture to write.
        html: Page to write; opens without a server; None: none.
        shards: Of the corpus.
        manifest: Its `manifest.json`.
        title: Name of the corpus.
        patches: Of each subset, at most; from all splits, in the order of the shards, which is
            that of a hash and so a fair sample.

    Raises:
        WorkspaceError: The disk is full or read-only.
    """
    sheets = []
    for name, subset in manifest["subsets"].items():
        entries = [entry for entry in shards.entries if entry.subset == name]
        by_split = [[e for e in entries if e.split == s] for s in ("train", "val", "test")]
        few = [e for found in by_split[1:] for e in found[: max(1, patches // 6)]]
        chosen = (
            (by_split[0] + few)[:patches]
            if len(by_split[0]) < patches - len(few)
            else [*by_split[0][: patches - len(few)], *few]
        )
        looks = [look_at(shards.read(entry), subset) for entry in chosen]
        sheets.append((_legend(name, subset, looks), looks))
    _draw(png, sheets, title)
    if html is not None:
        _page(html, sheets, title)


def _legend(name: str, subset: Mapping[str, Any], looks: Sequence[Look]) -> Legend:
    pixels = {c["name"]: 0 for c in subset["classes"]}
    for split in subset["splits"].values():
        for key, n in split["label_pixels"].items():
            if key in pixels:
                pixels[key] += n
    total = sum(pixels.values()) or 1
    shown = frozenset().union(*(look.classes for look in looks)) if looks else frozenset()
    entries = tuple(
        (c["value"], c["title"], c["color_hint"], pixels[c["name"]] / total)
        for c in subset["classes"]
        if c["value"] in shown or pixels[c["name"]] > 0
    )
    return Legend(
        subset=name,
        imagery=subset["imagery"],
        taxonomy=subset["taxonomy"],
        samples=sum(split["samples"] for split in subset["splits"].values()),
        synthetic=subset["synthetic"],
        entries=entries,
    )


Sheets = Sequence[tuple[Legend, Sequence[Look]]]


def _draw(path: Path, sheets: Sheets, title: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    side, gap, head, foot = 1.9, 0.12, 0.42, 0.30  # inches
    columns = min(_COLUMNS, max(4, *(len(looks) for _, looks in sheets), 0))
    width = columns * (side + gap) + gap
    legend_rows = [max(1, -(-len(legend.entries) // _LEGEND_COLUMNS)) for legend, _ in sheets]
    bands = [-(-len(looks) // columns) for _, looks in sheets]
    heights = [
        0.38 + 0.22 * rows + n * (2 * side + gap + head)
        for rows, n in zip(legend_rows, bands, strict=True)
    ]
    height = 0.6 + sum(heights) + foot * len(sheets)
    figure = Figure(figsize=(width, height), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(gap / width, 1 - 0.3 / height, title, fontsize=17, fontweight="bold", va="center")
    top = height - 0.6
    for (legend, looks), rows in zip(sheets, legend_rows, strict=True):
        figure.text(
            gap / width, (top - 0.12) / height,
            f"{legend.subset}   {legend.imagery}, {legend.taxonomy}, {legend.samples:,} samples",
            fontsize=11.5, fontweight="bold", va="center",
        )  # fmt: skip
        marks = [
            Patch(facecolor=f"#{colour}", edgecolor="#777777", linewidth=0.4,
                  label=f"{name} {share * 100:.1f} %")
            for _, name, colour, share in legend.entries
        ]  # fmt: skip
        figure.legend(
            handles=marks, loc="upper left", bbox_to_anchor=(gap / width - 0.004, (top - 0.24) / height),
            ncols=_LEGEND_COLUMNS, frameon=False, fontsize=8, handlelength=1.1, handleheight=1.0,
            columnspacing=1.2, borderpad=0, labelspacing=0.3,
        )  # fmt: skip
        top -= 0.38 + 0.22 * rows
        for i, look in enumerate(looks):
            column, row = i % columns, i // columns
            x = (gap + column * (side + gap)) / width
            y = top - row * (2 * side + gap + head)
            for k, picture in enumerate((look.rgb, look.label)):
                axes = figure.add_axes(
                    (x, (y - 0.3 - (k + 1) * side - k * 0.04) / height, side / width, side / height)
                )
                axes.imshow(picture, interpolation="nearest" if k else "antialiased")
                axes.set_xticks([])
                axes.set_yticks([])
                for spine in axes.spines.values():
                    spine.set_linewidth(0.4)
                if legend.synthetic and not k:
                    axes.text(
                        0.5, 0.5, "SYNTHETIC", transform=axes.transAxes, ha="center", va="center",
                        rotation=35, fontsize=13, color="white", alpha=0.35, fontweight="bold",
                    )  # fmt: skip
            figure.text(x, (y - 0.1) / height, look.title, fontsize=7.5, va="center")
            figure.text(x, (y - 0.22) / height, look.note, fontsize=7, va="center", color="#666666")
        top -= bands[sheets.index((legend, looks))] * (2 * side + gap + head) + foot
    with writing(path) as part:
        figure.savefig(part, format="png", metadata={"Software": None})


_STYLE = """
body{font:14px/1.45 system-ui,sans-serif;margin:1.5rem auto;max-width:76rem;padding:0 1rem;color:#222}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin:2rem 0 .3rem}.l span{white-space:nowrap;margin-right:1rem}
.s{display:inline-block;width:.9rem;height:.9rem;border:1px solid #888;vertical-align:-.1rem;margin-right:.3rem}
.g{display:grid;grid-template-columns:repeat(auto-fill,minmax(11.5rem,1fr));gap:.8rem;margin-top:.7rem}
figure{margin:0}.p{position:relative}.p b{position:absolute;inset:0;display:grid;place-items:center;
transform:rotate(-35deg);color:#fff;opacity:.4;letter-spacing:.1em;pointer-events:none}
img{width:100%;display:block;image-rendering:pixelated;border:1px solid #bbb;box-sizing:border-box}
figcaption{font-size:.8rem}figcaption small{color:#666}
.w{background:#fff3cd;border:1px solid #e0c060;padding:.4rem .8rem}
"""


def _page(path: Path, sheets: Sheets, title: str) -> None:
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>",
        f"<style>{_STYLE}</style><h1>{escape(title)}</h1>",
    ]
    if any(legend.synthetic for legend, _ in sheets):
        parts.append("<p class=w>SYNTHETIC: the pixels marked so are made up.</p>")
    for legend, looks in sheets:
        mark = "<b>SYNTHETIC</b>" if legend.synthetic else ""
        parts.append(
            f"<h2>{escape(legend.subset)}</h2><p>{escape(legend.imagery)}, "
            f"{escape(legend.taxonomy)}, {legend.samples:,} samples; pixels that were not seen "
            "are pale, pixels without label grey.</p><p class=l>"
        )
        parts += [
            f"<span><i class=s style='background:#{colour}'></i>{escape(name)} "
            f"{share * 100:.1f} %</span>"
            for _, name, colour, share in legend.entries
        ]
        parts.append("</p><div class=g>")
        parts += [
            f"<figure><div class=p>{_img(look.rgb)}{mark}</div>{_img(look.label)}<figcaption>"
            f"{escape(look.title)}<br><small>{escape(look.note)}</small></figcaption></figure>"
            for look in looks
        ]
        parts.append("</div>")
    write_bytes(path, "\n".join(parts).encode())


def _img(picture: NDArray[np.uint8]) -> str:
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(picture).save(data, "PNG", optimize=True)
    return f"<img alt='' src='data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}'>"
