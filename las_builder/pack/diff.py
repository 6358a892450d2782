"""Two packings, patch by patch: what only one has, and what differs in what both have.

Patches are matched by subset and key. Memory holds the two indices and one patch of each.
"""

from __future__ import annotations

import enum
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from las_builder.core.grid import Grid
from las_builder.core.types import IGNORE
from las_builder.errors import WorkspaceError
from las_builder.harmonise.count import count_pairs
from las_builder.pack.encode import MEMBERS
from las_builder.pack.read import Entry, SortedShards, pixels
from las_builder.pack.record import SampleRecord

IGNORED = "ignore"
"""Name of the class of pixels without a label."""


class State(enum.StrEnum):
    """What became of a patch from A to B."""

    SAME = "same"
    """The same bytes, or the same pixels and metadata in other bytes."""

    CHANGED = "changed"
    ONLY_A = "only-a"
    ONLY_B = "only-b"


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchDiff:
    """One patch."""

    subset: str
    key: str
    site: str
    split_a: str | None
    split_b: str | None
    grid: Grid
    """Of A, where A has it."""

    state: State
    grid_changed: bool = False
    """It lies elsewhere: then no pixels are compared."""

    pixels: int = 0
    """That were compared."""

    image: int = 0
    """Pixels in which a band differs that both have."""

    label: int = 0
    """Pixels whose class has another name."""

    confidence: int = 0
    """Pixels."""

    valid: int = 0
    """Pixels."""

    transitions: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """(class in A, class in B) to pixels, where they differ."""

    metadata: tuple[str, ...] = ()
    """Keys of the JSON that differ."""


def compare(a: SortedShards, b: SortedShards) -> Iterator[PatchDiff]:
    """Every patch of A or B, in the order of subset and key.

    Raises:
        WorkspaceError: A shard is cut off or not of its index; a sample lacks a member.
    """
    left, right = iter(a), iter(b)
    one, two = next(left, None), next(right, None)
    while one is not None or two is not None:
        if two is None or (one is not None and _place(one) < _place(two)):
            assert one is not None
            yield _alone(a, one, State.ONLY_A)
            one = next(left, None)
        elif one is None or _place(two) < _place(one):
            yield _alone(b, two, State.ONLY_B)
            two = next(right, None)
        else:
            yield _both(a, one, b, two)
            one, two = next(left, None), next(right, None)


def _place(entry: Entry) -> tuple[str, str]:
    return entry.subset, entry.key


def _record(entry: Entry, said: bytes) -> SampleRecord:
    return SampleRecord.from_metadata(json.loads(said), shard=entry.shard, members=entry.members)


def _alone(shards: SortedShards, entry: Entry, state: State) -> PatchDiff:
    record = _record(entry, shards.member(entry, "json"))
    return PatchDiff(
        subset=entry.subset, key=entry.key, site=record.site, grid=record.grid, state=state,
        split_a=entry.split if state is State.ONLY_A else None,
        split_b=entry.split if state is State.ONLY_B else None,
    )  # fmt: skip


def _both(a: SortedShards, one: Entry, b: SortedShards, two: Entry) -> PatchDiff:
    mine = {name: a.member(one, name) for name in MEMBERS}
    theirs = {name: b.member(two, name) for name in MEMBERS}
    said_a, said_b = json.loads(mine["json"]), json.loads(theirs["json"])
    record = _record(one, mine["json"])
    other = _record(two, theirs["json"])
    metadata = tuple(
        sorted(k for k in said_a.keys() | said_b.keys() if said_a.get(k) != said_b.get(k))
    )
    moved = record.grid != other.grid
    counts: dict[str, int] = {}
    transitions: dict[tuple[str, str], int] = {}
    if not moved:
        for name in ("confidence", "valid"):
            member = f"{name}.tif"
            counts[name] = _changed(mine[member], theirs[member])
        counts["image"] = _image(mine["image.tif"], theirs["image.tif"], said_a, said_b)
        if mine["label.tif"] != theirs["label.tif"] or said_a["classes"] != said_b["classes"]:
            transitions = _transitions(
                pixels(mine["label.tif"])[0], pixels(theirs["label.tif"])[0],
                said_a["classes"], said_b["classes"], one.key,
            )  # fmt: skip
        counts["label"] = sum(transitions.values())
    changed = moved or bool(metadata) or any(counts.values())
    return PatchDiff(
        subset=one.subset, key=one.key, site=record.site, grid=record.grid,
        split_a=one.split, split_b=two.split, state=State.CHANGED if changed else State.SAME,
        grid_changed=moved, pixels=0 if moved else record.grid.width * record.grid.height,
        transitions=transitions, metadata=metadata, **counts,
    )  # fmt: skip


def _changed(one: bytes, two: bytes) -> int:
    """Pixels that differ in two members of one band; other bytes may hold the same pixels."""
    return 0 if one == two else int((pixels(one) != pixels(two)).any(axis=0).sum())


def _image(one: bytes, two: bytes, said_a: Mapping[str, Any], said_b: Mapping[str, Any]) -> int:
    if one == two:
        return 0
    names_a, names_b = ([band["name"] for band in said["bands"]] for said in (said_a, said_b))
    both = [name for name in names_a if name in names_b]
    if not both:
        return 0
    a = pixels(one)[[names_a.index(name) for name in both]]
    b = pixels(two)[[names_b.index(name) for name in both]]
    return int((a != b).any(axis=0).sum())


def _transitions(
    a: NDArray[np.generic], b: NDArray[np.generic], classes_a: Sequence[str],
    classes_b: Sequence[str], key: str,
) -> dict[tuple[str, str], int]:  # fmt: skip
    found: Counter[tuple[str, str]] = Counter()
    for one, two, n in zip(*count_pairs(a.astype(np.uint8), b.astype(np.uint8)), strict=True):
        names = _name(int(one), classes_a, key), _name(int(two), classes_b, key)
        if names[0] != names[1]:
            found[names] += int(n)
    return dict(found)


def _name(index: int, classes: Sequence[str], key: str) -> str:
    if index == IGNORE:
        return IGNORED
    if index >= len(classes):
        raise WorkspaceError(
            key, "label", index, f"class indices below {len(classes)}, and {IGNORE}",
            "The shard is damaged: pack again.",
        )  # fmt: skip
    return classes[index]


@dataclass(slots=True)
class SubsetDiff:
    """What the patches of one subset add up to."""

    states: Counter[str] = field(default_factory=Counter)
    """Patches."""

    changed: Counter[str] = field(default_factory=Counter)
    """image, label, confidence, valid, metadata, split, grid: patches in which it differs."""

    pixels: Counter[str] = field(default_factory=Counter)
    """compared, image, label, confidence, valid: pixels."""

    transitions: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(class in A, class in B) to pixels."""

    patches: Counter[tuple[str, str]] = field(default_factory=Counter)
    """The same, to patches."""

    metadata: Counter[str] = field(default_factory=Counter)
    """Key to patches in which it differs."""

    def add(self, patch: PatchDiff) -> None:
        """One more patch."""
        self.states[patch.state] += 1
        self.pixels["compared"] += patch.pixels
        for name in ("image", "label", "confidence", "valid"):
            self.pixels[name] += getattr(patch, name)
            self.changed[name] += getattr(patch, name) > 0
        self.changed["metadata"] += bool(patch.metadata)
        self.changed["grid"] += patch.grid_changed
        both = patch.split_a is not None and patch.split_b is not None
        self.changed["split"] += both and patch.split_a != patch.split_b
        self.transitions.update(patch.transitions)
        self.patches.update(patch.transitions.keys())
        self.metadata.update(patch.metadata)

    def to_json(self) -> dict[str, Any]:
        """Plain values; transitions the largest first."""
        return {
            "patches": {state.value: self.states[state] for state in State},
            "changed_patches": dict(self.changed),
            "pixels": dict(self.pixels),
            "transitions": [
                {"from": a, "to": b, "pixels": n, "patches": self.patches[a, b]}
                for (a, b), n in self.ordered()
            ],
            "metadata": dict(self.metadata),
        }

    def ordered(self) -> list[tuple[tuple[str, str], int]]:
        """Transitions, the largest first."""
        return sorted(self.transitions.items(), key=lambda item: (-item[1], item[0]))


def totals() -> defaultdict[str, SubsetDiff]:
    """Subset to what its patches add up to."""
    return defaultdict(SubsetDiff)
