"""One table, one JSON and one plot of rows of ratios.

python benchmarks/results.py FOLDER   # one of all parts in a folder: bench.json, bench.png
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One line of a table: ours against something, over some rounds."""

    what: str
    against: str
    bar: float
    """Ratio that ours is to have: times faster. 0: none is set."""

    low: float
    median: float
    high: float
    size: float = 0
    """Bytes of its files over those of ours. 0: it has none."""

    def __str__(self) -> str:
        met = "" if self.median >= self.bar else "  MISSED"
        bar = f"bar {self.bar:g}" if self.bar else "no bar"
        size = f"{self.size:6.2f}" if self.size else " " * 6
        return (
            f"{self.what:<20} {self.against:<34} {self.low:6.2f} {self.median:6.2f} "
            f"{self.high:6.2f} {size}   {bar}{met}"
        )


HEAD = f"{'what':<20} {'against':<34} {'least':>6} {'median':>6} {'most':>6} {'bytes':>6}"


def row(what: str, against: str, bar: float, ratios: Sequence[float], size: float = 0) -> Row:
    """A row of the ratios of some rounds, printed."""
    found = Row(what, against, bar, min(ratios), statistics.median(ratios), max(ratios), size)
    print(found, flush=True)
    return found


def write(folder: Path, name: str, rows: Sequence[Row], about: dict[str, object]) -> None:
    """`<name>.json` and `<name>.png` in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    machine = {"cores": os.cpu_count(), "load": [round(n, 1) for n in os.getloadavg()]}
    said = {**about, "machine": machine, "rows": [asdict(row) for row in rows]}
    (folder / f"{name}.json").write_text(json.dumps(said, indent=1))
    plot(folder / f"{name}.png", rows)


TICKS = [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100]
MET, MISSED, NONE = "#0b6e4f", "#a3123f", "#4a5a6a"


def plot(path: Path, rows: Sequence[Row]) -> None:
    """Medians with their range on a logarithmic axis, what is compared above its rows, and bars."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    groups = list(dict.fromkeys(row.what for row in rows))
    lines = len(rows) + 1.4 * len(groups)
    figure, axes = plt.subplots(figsize=(7, 0.9 + 0.2 * lines), layout="constrained")
    at, places, labels = 0.0, [], []
    for group in groups:
        axes.annotate(
            group, (0, at), xycoords=("axes fraction", "data"), xytext=(6, 0),
            textcoords="offset points", fontsize=8, fontweight="bold", va="center",
        )  # fmt: skip
        for row in [row for row in rows if row.what == group]:
            at += 1
            places.append(at)
            labels.append(row.against)
            colour = NONE if not row.bar else MET if row.median >= row.bar else MISSED
            axes.plot([row.low, row.high], [at, at], color=colour, linewidth=2, alpha=0.45)
            axes.plot(row.median, at, "o", color=colour, markersize=4)
            axes.annotate(
                f"{row.median:.2f}", (row.high, at), xytext=(6, 0), textcoords="offset points",
                va="center", fontsize=7, color=colour,
                bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"},
            )  # fmt: skip
            if row.bar:
                axes.plot([row.bar, row.bar], [at - 0.32, at + 0.32], color="black", linewidth=1.2)
        at += 1.4
    axes.set_yticks(places, labels, fontsize=7)
    axes.set_ylim(at - 0.6, -0.8)
    axes.set_xscale("log")
    low = min([0.5, *(row.low for row in rows)]) * 0.8
    high = max([2.0, *(row.high for row in rows)]) * 1.5
    axes.set_xlim(low, high)
    shown = [tick for tick in TICKS if low <= tick <= high]
    axes.set_xticks(shown, [f"{tick:g}" for tick in shown], fontsize=8)
    axes.minorticks_off()
    axes.axvline(1, color="grey", linewidth=0.6, zorder=0)
    axes.set_xlabel(
        "ours, times as fast (dot: median, line: range of the rounds)\n"
        "black: what is asked for; green: met, red: missed, grey: nothing is asked for", fontsize=8
    )  # fmt: skip
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.savefig(path, dpi=150)
    plt.close(figure)


PARTS = ("shards", "cog_readers")


def together(folder: Path) -> None:
    """The parts of a folder as one table, printed, with one JSON and one plot."""
    parts = [path for path in (folder / f"{name}.json" for name in PARTS) if path.exists()]
    said = {path.stem: json.loads(path.read_text()) for path in parts}
    rows = [Row(**one) for part in said.values() for one in part.pop("rows")]
    print(HEAD, *rows, sep="\n")
    write(folder, "bench", rows, {"parts": said})
    print(f"JSON and plot: {folder / 'bench.json'}, {folder / 'bench.png'}")


if __name__ == "__main__":
    together(Path(sys.argv[1]))
