"""What reviewers decided: `<subset>/decisions.csv` of a workspace, read by `las pack`.

    site,action,class,to,who,why
    s2-32632-0a1b,drop,,,A. Reviewer,label shifted by 200 m
    s2-32632-7c2d,relabel,cropland,grassland,A. Reviewer,"alpine meadow, seen in May and August"
    s2-32632-9e0f,ignore-class,wetland,,A. Reviewer,half of it is rice
    s2-32632-3b4a,keep,,,A. Reviewer,a lake and nothing else is right here

Decisions come before the filters. `drop` leaves every date of the site out; `keep` passes over the
filters that reject; `relabel` and `ignore-class` change one class of the site.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from las_builder.core.types import IGNORE, NO_CONFIDENCE, Harmonised
from las_builder.errors import InputError, UnknownNameError
from las_builder.harmonise.filters import relabelled

COLUMNS = ("site", "action", "class", "to", "who", "why")
ACTIONS = {"keep": 0, "drop": 0, "relabel": 2, "ignore-class": 1}
"""Action to the number of classes that it names."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One line of the file."""

    site: str
    action: str
    class_: int | None = None
    """Class index that is changed; None for keep and drop."""

    to: int | None = None
    """relabel: class index that it becomes."""


Decisions = Mapping[str, tuple[Decision, ...]]
"""Site to what was decided about it, in the order of the file."""


def read_decisions(path: Path, sites: Container[str], classes: Sequence[str]) -> Decisions:
    """Read and check the decisions of one subset; a file that is not there decides nothing.

    Args:
        path: `decisions.csv`, UTF-8, with the columns of `COLUMNS` in any order.
        sites: Ids of the subset's plan.
        classes: Names, in the order of their indices.

    Raises:
        InputError: A column, site, class or action that there is not, nobody who decided, no
            reason, or two decisions that contradict each other; names file and line.
    """
    if not path.exists():
        return {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            _check_columns(path, reader.fieldnames or ())
            found = [(_line(path, reader.line_num, row, sites, classes)) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise InputError(path, "file", str(problem), "CSV in UTF-8") from None
    by_site: dict[str, list[Decision]] = defaultdict(list)
    for where, decision in found:
        _check_against(where, decision, by_site[decision.site])
        by_site[decision.site].append(decision)
    return {site: tuple(lines) for site, lines in by_site.items()}


def dropped(decisions: Sequence[Decision]) -> bool:
    """Whether a site is left out."""
    return any(decision.action == "drop" for decision in decisions)


def kept(decisions: Sequence[Decision]) -> bool:
    """Whether no filter may reject a site."""
    return any(decision.action == "keep" for decision in decisions)


def decided(
    label: Harmonised, decisions: Sequence[Decision], classes: Sequence[str]
) -> tuple[Harmonised, list[dict[str, Any]]]:
    """A label as reviewers want it, and what was changed for the sample's JSON.

    All decisions look at the label as it was: two relabels may swap two classes. What a reviewer
    relabels carries no confidence, since the published one is that of the class it had.
    """
    after, confidence = label.classes.copy(), label.confidence.copy()
    said: list[dict[str, Any]] = []
    for decision in decisions:
        if decision.class_ is None:
            said.append({"action": decision.action})
            continue
        here = label.classes == decision.class_
        after[here] = IGNORE if decision.to is None else decision.to
        confidence[here] = NO_CONFIDENCE
        said.append(
            {
                "action": decision.action,
                "class": classes[decision.class_],
                **({"to": classes[decision.to]} if decision.to is not None else {}),
                "pixels": int(here.sum()),
            }
        )
    return relabelled(label, after, confidence), said


def _check_columns(path: Path, found: Sequence[str]) -> None:
    allowed = f"the columns {', '.join(COLUMNS)}, divided by commas"
    for name in found:
        if name not in COLUMNS or found.count(name) > 1:
            raise InputError(f"{path}:1", "column", name, allowed)
    for name in COLUMNS:
        if name not in found and name not in ("class", "to"):
            raise InputError(f"{path}:1", "column", None, allowed, f"{name} is missing.")


def _line(
    path: Path, number: int, row: Mapping[Any, Any], sites: Container[str], classes: Sequence[str]
) -> tuple[str, Decision]:
    where = f"{path}:{number}"
    if None in row:
        raise InputError(where, "row", row[None], f"{len(COLUMNS)} values", "Quote commas.")
    said = {key: (value or "").strip() for key, value in row.items()}
    if said["site"] not in sites:
        raise InputError(
            where, "site", said["site"], "a site of the plan", "Ids are in plan.parquet."
        )
    action = said["action"]
    if action not in ACTIONS:
        raise UnknownNameError("action", action, ACTIONS, where=where, key="action")
    named: list[int | None] = []
    for i, key in enumerate(("class", "to")):
        name = said.get(key, "")
        if i >= ACTIONS[action]:
            if name:
                raise InputError(where, key, name, f"nothing beside {action}")
            named.append(None)
        elif name not in classes:
            raise UnknownNameError("class", name, classes, where=where, key=key)
        else:
            named.append(classes.index(name))
    if named[0] is not None and named[0] == named[1]:
        raise InputError(where, "to", said["to"], "another class")
    for key in ("who", "why"):
        if not said[key]:
            raise InputError(where, key, "", f"{key} decided it" if key == "who" else "a reason")
    return where, Decision(said["site"], action, *named)


def _check_against(where: str, new: Decision, others: Sequence[Decision]) -> None:
    for old in others:
        whole = "drop" in (new.action, old.action)
        if whole or (new.action == old.action == "keep") or (
            new.class_ is not None and new.class_ == old.class_
        ):  # fmt: skip
            raise InputError(
                where, "action", new.action,
                f"decisions on {new.site} that go with its other line, {old.action}",
                "Remove one of the two lines.",
            )  # fmt: skip
