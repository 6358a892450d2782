"""Captions of patches: what the label shows, where and when, in the words of a template.

The text side of image-text training in the manner of ChatEarthNet (Yuan et al. 2025, ESSD 17, which
writes from WorldCover too, but by a language model); here by templates alone, so that equal patches
have equal captions and no word says more than the label does. Numbers are whole percents of labelled
pixels, by integer arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from las_builder.core.types import IGNORE

NAMED, MENTIONED = 5, 1
"""Percent from which a class is given with its share, or mentioned."""

TROPIC = 23.4
"""Degrees: nearer to the equator there is no summer and no winter."""

_SEASONS = ("winter", "spring", "summer", "autumn")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
CLIMATES = {"A": "tropical", "B": "arid", "C": "temperate", "D": "cold", "E": "polar"}
"""First letter of a Köppen-Geiger zone."""


def caption(
    label: NDArray[np.uint8],
    titles: Sequence[str],
    *,
    when: datetime,
    lat: float | None,
    place: str,
    sensor: str,
    makers: Sequence[str],
) -> str:
    """A few sentences on a patch.

    Args:
        label: (y, x) class index, 255 = no label.
        titles: Of the classes, by index.
        when: Of the scene.
        lat: Of the middle, degrees; None: a picture without a place.
        place: Where it is, such as "Germany, temperate climate"; "": nobody knows.
        sensor: Title of the imagery.
        makers: Titles of the label products.
    """
    counts = np.bincount(label.ravel(), minlength=256)
    labelled = int(counts[:IGNORE].sum())
    lines = [f"{sensor}{f' of {place}' if place else ''}, {_season(when, lat)}."]
    if not labelled:
        return f"{lines[0]} No label."
    shares = {i: _percent(int(counts[i]), labelled) for i in range(len(titles)) if counts[i]}
    order = sorted(shares, key=lambda i: (-int(counts[i]), i))
    lines.append(_cover(order, shares, titles))
    beside = _beside(label, order[0], len(titles))
    if beside is not None and shares[order[0]] < 95:
        lines.append(f"{titles[order[0]]} lies mostly beside {_in_text(titles[beside])}.")
    void = _percent(int(counts[IGNORE]), label.size)
    if void >= NAMED:
        lines.append(f"{void} % of it has no label.")
    lines.append(f"Labelled by {_and(list(makers))}.")
    return " ".join(lines)


def _percent(part: int, whole: int) -> int:
    """Rounded half up."""
    return (200 * part + whole) // (2 * whole)


def _season(when: datetime, lat: float | None) -> str:
    month = f"{_MONTHS[when.month - 1]} {when.year}"
    if lat is None or abs(lat) < TROPIC:
        return month
    season = when.month % 12 // 3 + (2 if lat < 0 else 0)
    return f"{_SEASONS[season % 4]}, {month}"


def _cover(order: Sequence[int], shares: dict[int, int], titles: Sequence[str]) -> str:
    first = order[0]
    if shares[first] >= 95:
        text = f"Almost all of it is {_in_text(titles[first])}"
    else:
        named = [i for i in order if shares[i] >= NAMED] or [first]
        text = _and([f"{_in_text(titles[i])} ({shares[i]} %)" for i in named])
        text = text[0].upper() + text[1:]
    little = [i for i in order if MENTIONED <= shares[i] < NAMED and i != first]
    if little:
        text += f"; a little {_and([_in_text(titles[i]) for i in little[:3]])}"
    return f"{text}."


def _beside(label: NDArray[np.uint8], one: int, classes: int) -> int | None:
    """The class with the longest border to one, in edges of pixels; the lower of equals."""
    counts = np.zeros(classes, np.int64)
    for a, b in ((label[:, :-1], label[:, 1:]), (label[:-1], label[1:])):
        for here, there in ((a, b), (b, a)):
            found = there[(here == one) & (there != one) & (there < classes)]
            counts += np.bincount(found, minlength=classes)[:classes]
    return int(counts.argmax()) if counts.any() else None


def _in_text(title: str) -> str:
    """A title within a sentence: "Tree cover" as "tree cover", "NLCD" as it is."""
    return title if title[:2].isupper() else title[:1].lower() + title[1:]


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
