"""`report.html` of a run: its curves, what it agrees with, and what it makes of a few patches."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from las_builder.core.page import STYLE
from las_builder.core.types import IGNORE
from las_builder.core.workspace import write_bytes
from las_builder.models.config import Level
from las_builder.train.config import TrainConfig
from las_builder.train.data import Source

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INKS = ("#0b6e4f", "#c46210", "#3b5b92", "#8c2d62", "#6a6d1f", "#2f7f8c", "#7a4b2a", "#555b61")
_SIDE = 192  # pixels that a patch is shown with, at most
_MORE = """
.p{display:grid;grid-template-columns:repeat(4,1fr);gap:.3rem;max-width:46rem;margin:.6rem 0}
.p figure{margin:0}.p img{image-rendering:pixelated;border:1px solid #c9d0d5;display:block}
.p figcaption{font-size:.78rem;color:#59636b;overflow-wrap:anywhere}
i.s{display:inline-block;width:.8rem;height:.8rem;margin-right:.3rem;vertical-align:-.08rem;
border:1px solid #b4bcc2}td.n{white-space:normal}
@media print{i.s{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One patch of a subset, its label, and what the model says."""

    subset: int
    key: str
    image: NDArray[np.float32]
    """(band, y, x), as the model takes it."""

    label: NDArray[np.int64]
    """(y, x), 255 = ignore."""

    said: NDArray[np.int64]
    """(y, x)."""

    sure: NDArray[np.float32]
    """(y, x), probability of `said`."""


def write_report(
    file: Path,
    config: TrainConfig,
    progress: Mapping[str, Any],
    sources: Sequence[Source],
    pictures: Sequence[Picture],
) -> None:
    """Write the page; it opens without a server.

    Args:
        file: Where.
        config: The run.
        progress: Its `curve` and `looks`: see `loop.train`.
        sources: Its subsets.
        pictures: Patches to show.

    Raises:
        WorkspaceError: The disk is full or read-only.
    """
    last = progress["looks"][-1]
    agreed = {k: v["agreement"] for k, v in last["subsets"].items() if v["agreement"] is not None}
    mean = f"{np.mean(list(agreed.values())):.3f}" if agreed else "none to hold it against"
    facts = [
        ("model", config.size),
        ("step", f"{progress['step']:,} of {config.steps:,}"),
        ("loss", f"{progress['curve'][-1]['loss']:.3f}" if progress["curve"] else "not yet"),
        ("agreement", mean),
    ]
    parts = [
        f"<h1>{escape(file.parent.name)}</h1>",
        '<div class="k">',
        *(f"<span><b>{escape(value)}</b>{escape(key)}</span>" for key, value in facts),
        "</div>",
        "<p>Agreement is the mean IoU with the labels of the val split, over the classes that these "
        "labels hold. They are weak labels: it is not accuracy, and the best possible value is not "
        "1. The averaged weights are looked at.</p>",
        _curves(progress),
        "<h2>Subsets</h2>",
        *(_subset(i, source, last, pictures) for i, source in enumerate(sources)),
        "<h2>The run</h2>",
        f"<pre>{escape(json.dumps(config.model_dump(mode='json'), indent=1))}</pre>",
    ]
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(file.parent.name)}</title><style>{STYLE}{_MORE}</style>"
        f"<body>{''.join(parts)}</body></html>\n"
    )
    write_bytes(file, page.encode())


def _curves(progress: Mapping[str, Any]) -> str:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.2, 3.1), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    curve = progress["curve"]
    steps = np.array([point["step"] for point in curve])
    loss = np.array([point["loss"] for point in curve])
    left.plot(steps, loss, color="#b9c4c0", linewidth=0.8)
    if len(loss) > 4:
        left.plot(steps, _smooth(loss), color=_INKS[0], linewidth=1.6)
    if len(loss):
        low, high = np.percentile(loss, [0, 99])
        left.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low) + 1e-6)
    _axes(left, "Loss")
    for i, name in enumerate(progress["looks"][-1]["subsets"]):
        seen = [
            (one["step"], one["subsets"][name]["agreement"])
            for one in progress["looks"]
            if one["subsets"].get(name, {}).get("agreement") is not None
        ]
        if seen:
            right.plot(
                *zip(*seen, strict=True), color=_INKS[i % len(_INKS)], marker="o", markersize=3,
                linewidth=1.4, label=name,
            )  # fmt: skip
    if right.lines:
        right.legend(frameon=False, fontsize=8)
        right.set_ylim(bottom=0)
    _axes(right, "Agreement with the labels of val (mIoU)")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return _img(file.getvalue(), "loss and agreement by step")


def _axes(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel("step", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of what is around, over a twentieth of the curve; narrower at its ends."""
    half = max(len(values) // 40, 1)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    i = np.arange(len(values))
    reach = np.minimum(np.minimum(i, len(values) - 1 - i), half)
    smoothed: NDArray[np.float64] = (sums[i + reach + 1] - sums[i - reach]) / (2 * reach + 1)
    return smoothed


def _subset(
    which: int, source: Source, last: Mapping[str, Any], pictures: Sequence[Picture]
) -> str:
    seen = last["subsets"][source.name]
    rows = "".join(
        f'<tr><td class="n"><i class="s" style="background:#{colour}"></i>'
        f"{escape(one.names[0])}</td><td>{'–' if iou is None else f'{iou:.3f}'}</td></tr>"
        for one, colour, iou in zip(source.classes, source.colours, seen["iou"], strict=True)
    )
    agreement, overall = (
        "–" if seen[key] is None else f"{seen[key]:.3f}" for key in ("agreement", "overall")
    )
    shown = "".join(_shown(source, p) for p in pictures if p.subset == which)
    return (
        f"<h3>{escape(source.name)}</h3>"
        f'<p class="note">{source.count("train"):,} samples to train on, {source.count("val"):,} of '
        f"val; {len(source.wavelengths)} bands, {escape(source.level)}. "
        f"Agreement {agreement}, the same class on {overall} of the pixels.</p>"
        f'<div class="t"><table><thead><tr><th class="n">class</th><th>IoU</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{shown}"
    )


def _shown(source: Source, picture: Picture) -> str:
    palette = np.full((256, 3), 235, np.uint8)
    for i, colour in enumerate(source.colours):
        palette[i] = tuple(bytes.fromhex(colour))
    grey = (np.clip(picture.sure, 0, 1) * 255).astype(np.uint8)
    panels = {
        "image": rgb(picture.image, source.wavelengths, source.level),
        "label": palette[np.where(picture.label == IGNORE, IGNORE, picture.label)],
        "prediction": palette[picture.said],
        "confidence, white = 1": np.repeat(grey[..., None], 3, axis=2),
    }
    figures = "".join(
        f"<figure>{_img(_png(array), name)}<figcaption>{name}</figcaption></figure>"
        for name, array in panels.items()
    )
    return f'<p class="note">{escape(picture.key)}</p><div class="p">{figures}</div>'


def rgb(
    image: NDArray[np.float32], wavelengths: Sequence[float], level: Level
) -> NDArray[np.uint8]:
    """(y, x, 3): the bands nearest to red, green and blue; 0.3 of reflectance is white."""
    waves = np.asarray(wavelengths)
    planes = np.stack([image[int(np.abs(waves - w).argmin())] for w in (0.665, 0.56, 0.49)], -1)
    stretched = planes if level == "display" else (np.clip(planes, 0, None) / 0.3) ** 0.7
    return np.asarray((np.nan_to_num(stretched).clip(0, 1) * 255).astype(np.uint8))


def _png(array: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    step = -(-max(array.shape[:2]) // _SIDE)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array[::step, ::step])).save(file, format="PNG")
    return file.getvalue()


def _img(data: bytes, alt: str) -> str:
    return (
        f'<img alt="{escape(alt)}" src="data:image/png;base64,{base64.b64encode(data).decode()}">'
    )
