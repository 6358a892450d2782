"""The files of an annotated set, put together: which image goes with which masks, where and when.

Only names are looked at here, and the publisher's tables; `imports.py` opens the pictures.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from las_builder.catalogs import AnnotatedSet
from las_builder.catalogs.annotated import PART, FilePattern, Table
from las_builder.core.types import Split
from las_builder.errors import CatalogError, ImportFolderError, SourceError

SHOWN = 10
"""Files that a message names; it counts them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A picture with its masks; every path is relative to the folder."""

    place: str
    """Code of the place: a short name and a hash of the parts that make it one."""

    images: tuple[str, ...]
    """In the order of `images.files`."""

    masks: tuple[str, ...]
    """In the order of `masks.files`."""

    split: Split
    first: date
    """First and last day that it can be from; equal if the day is known."""

    last: date
    code: int | None = None
    """Class of the whole picture, where it has one instead of masks."""

    @property
    def id(self) -> str:
        """The path of its first image without suffix."""
        return self.images[0].rpartition(".")[0]


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """Every picture of a folder that is imported."""

    pairs: Sequence[Pair]
    """By place, then day."""

    places: Mapping[str, Sequence[Pair]]
    """Code of a place to its pictures."""

    left_out: int
    """Images without masks and masks without images, where the declaration lets them be."""


def listing(declared: AnnotatedSet, folder: str, only: frozenset[str]) -> Listing:
    """The pictures in a folder, read once per process.

    Args:
        declared: Layout, splits and dates.
        folder: The user's copy.
        only: Splits of the publisher that are imported.

    Raises:
        SourceError: There is no such folder; says how to get a copy.
        ImportFolderError: No file where one should be; masks are missing; two pictures of one place
            and day; a table that is not there or does not say what it must.
    """
    return _listing(declared.name, declared.model_dump_json(by_alias=True), folder, only)


@functools.lru_cache(maxsize=4)
def _listing(name: str, declaration: str, folder: str, only: frozenset[str]) -> Listing:
    declared = AnnotatedSet.model_validate_json(declaration)
    root = Path(folder)
    if not root.is_dir():
        raise SourceError(
            f"catalogs/imports/{name}.yaml", "folder", folder, f"a folder with {declared.title}",
            declared.obtain,
        )  # fmt: skip
    found = _found(declared, root)
    splits, dates, codes = _splits(declared, root), _dates(declared, root), _codes(declared, root)
    imported: dict[tuple[str, ...], tuple[dict[int, str], Split]] = {}
    for key, files in sorted(found.items()):
        split = splits(dict(zip(declared.common, key, strict=True)))
        if split in only:
            imported[key] = (files, split)
    if not imported:
        raise ImportFolderError(
            root, "splits", "no picture in any", f"pictures in {' or '.join(sorted(only))}",
            "Check `splits` of the declaration, and that lists and folders are of one copy.",
        )  # fmt: skip
    whole = _whole(declared, root, imported)
    pairs = []
    images = len(declared.images.files)
    for key, (files, split) in whole.items():
        parts = dict(zip(declared.common, key, strict=True))
        first, last = dates(parts)
        paths = tuple(files[i] for i in sorted(files))
        pairs.append(
            Pair(
                # A place that is in two splits is two places: what is too near is set aside later.
                place=_code([*(parts[p] for p in declared.place), split]), images=paths[:images],
                masks=paths[images:], split=split, first=first, last=last, code=codes(parts),
            )
        )  # fmt: skip
    pairs.sort(key=lambda pair: (pair.place, pair.first, pair.images))
    return Listing(pairs, _places(pairs, root), len(imported) - len(whole))


def parts_of(declared: AnnotatedSet, picture: str) -> dict[str, str]:
    """Parts of the path of a picture, by its id; none of one that has another layout."""
    pattern = declared.images.files[0]
    bare = pattern.model_copy(update={"path": pattern.path.rpartition(".")[0]})
    match = _expression(bare, declared.parts).fullmatch(picture)
    return {} if match is None else match.groupdict()


def _found(declared: AnnotatedSet, root: Path) -> dict[tuple[str, ...], dict[int, str]]:
    """Values of the common parts to the file of each pattern."""
    kinds = declared.patterns
    patterns = [_expression(kind, declared.parts) for kind in kinds]
    tails = [PART.split(kind.path)[-1] for kind in kinds]
    found: dict[tuple[str, ...], dict[int, str]] = {}
    others: list[str] = []
    hits = [0] * len(patterns)
    for path in _walk(root):
        for i, (pattern, tail) in enumerate(zip(patterns, tails, strict=True)):
            match = pattern.fullmatch(path) if path.endswith(tail) else None
            if match is None:
                continue
            key = tuple(match[name] for name in declared.common)
            files = found.setdefault(key, {})
            if i in files:
                raise ImportFolderError(
                    root, "layout", f"{files[i]} and {path}",
                    f"one file of {kinds[i].path} for {_words(declared.common, key)}",
                    "Remove one of them.",
                )  # fmt: skip
            files[i] = path
            hits[i] += 1
            break
        else:
            if len(others) < 5:
                others.append(path)
    for i, kind in enumerate(kinds):
        if not hits[i]:
            raise ImportFolderError(
                root, "layout", f"no file like {kind.path}; there is {some(others, 5)}",
                f"the folder of {declared.title} as its publisher laid it out", declared.obtain,
            )  # fmt: skip
    return found


def _whole(
    declared: AnnotatedSet, root: Path,
    imported: dict[tuple[str, ...], tuple[dict[int, str], Split]],
) -> dict[tuple[str, ...], tuple[dict[int, str], Split]]:  # fmt: skip
    """Those pictures that have everything; what is missing is an error, unless it may be."""
    images = len(declared.images.files)
    patterns = declared.patterns
    bare: list[str] = []
    lacking: list[str] = []
    whole = {}
    for key, (files, split) in imported.items():
        missing = [i for i in range(len(patterns)) if i not in files]
        if not missing:
            whole[key] = (files, split)
        elif missing[0] >= images:
            bare.append(_filled(patterns[missing[0]].path, declared.common, key))
        else:
            lacking.append(_filled(patterns[missing[0]].path, declared.common, key))
    if bare and (declared.unlabelled == "error" or not whole):
        raise ImportFolderError(
            root, "masks", f"{len(bare):,} of {len(imported):,} missing: {some(bare)}",
            f"a mask like {patterns[images].path} of every image",
            f"{declared.obtain} Complete the copy, or leave those images out.",
        )  # fmt: skip
    if lacking and (declared.imageless == "error" or not whole):
        raise ImportFolderError(
            root, "images", f"{len(lacking):,} of {len(imported):,} missing: {some(lacking)}",
            "every file of every picture",
            f"{declared.obtain} Complete the copy, or remove what is left of them.",
        )  # fmt: skip
    return whole


def _places(pairs: Sequence[Pair], root: Path) -> dict[str, list[Pair]]:
    places: dict[str, list[Pair]] = {}
    for pair in pairs:
        places.setdefault(pair.place, []).append(pair)
    for several in places.values():
        seen: dict[date, Pair] = {}
        for pair in several:
            other = seen.setdefault(pair.first, pair)
            if other is not pair:
                raise ImportFolderError(
                    root, "layout", f"{other.images[0]} and {pair.images[0]}",
                    "one picture of a place and day",
                    "Remove one of them; or the declaration's `place` or `date` leaves a part out.",
                )  # fmt: skip
    return places


def _walk(root: Path) -> Iterable[str]:
    """Every file below a folder, relative to it, with slashes, in order."""
    for folder, names, files in os.walk(root, followlinks=True):
        names.sort()
        inside = Path(folder).relative_to(root).as_posix()
        for name in sorted(files):
            yield name if inside == "." else f"{inside}/{name}"


def _expression(pattern: FilePattern, parts: Mapping[str, str]) -> re.Pattern[str]:
    """A path with parts as a regular expression; a part that comes again must be the same."""
    seen: set[str] = set()
    text = ""
    for i, piece in enumerate(PART.split(pattern.path)):
        if i % 2 == 0:
            text += re.escape(piece)
        elif piece in seen:
            text += f"(?P={piece})"
        else:
            seen.add(piece)
            text += f"(?P<{piece}>{parts.get(piece, '[^/]+')})"
    return re.compile(text)


def _filled(text: str, names: Sequence[str], values: Sequence[str]) -> str:
    """A path with the parts that are known."""
    known = dict(zip(names, values, strict=True))
    return PART.sub(lambda part: known.get(part[1], part[0]), text)


def _code(values: Sequence[str]) -> str:
    """Lower-case letters, digits and hyphens; different values, different codes."""
    name = re.sub("[^a-z0-9]+", "-", "-".join(values).lower()).strip("-")[:40].rstrip("-")
    digest = hashlib.blake2s("\0".join(values).encode(), digest_size=4).hexdigest()
    return f"{name}-{digest}" if name else digest


def _words(names: Sequence[str], values: Sequence[str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))


def some(names: Sequence[str], shown: int = SHOWN) -> str:
    """The first of them."""
    if not names:
        return "nothing"
    return ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")


# ---- splits and dates


Parts = Mapping[str, str]


Rule = Callable[[Mapping[str, str]], Any]


def _splits(declared: AnnotatedSet, root: Path) -> Rule:
    """From the parts of a path to its split; None: not imported."""
    rule = declared.splits
    if rule.all is not None:
        return lambda parts: rule.all  # noqa: ARG005
    if rule.lists is not None:
        known: dict[str, str] = {}
        for split, file in rule.lists.items():
            for line in _lines(root, file, declared):
                if known.setdefault(line, split) != split:
                    raise ImportFolderError(
                        root / file,
                        "line",
                        line,
                        f"tiles that {rule.lists[known[line]]} lacks",  # type: ignore[index]
                    )
        return lambda parts: known.get(_key(rule.entry, parts))
    if rule.table is not None:
        column = _Column(root, rule.table, declared)
        return lambda parts: _named(rule.names, column(parts), root)
    return lambda parts: _named(rule.names, parts[rule.part or ""], root)


def _named(names: Mapping[str, Any], value: object, where: Path) -> str | None:
    if value is None:  # a tile that the publisher's table leaves out
        return None
    if str(value) not in names:
        raise ImportFolderError(
            where, "splits", str(value), ", ".join(sorted(names)),
            "Add it to `splits.names` of the declaration.",
        )  # fmt: skip
    found: str | None = names[str(value)]
    return found


def _dates(declared: AnnotatedSet, root: Path) -> Rule:
    """From the parts of a path to the first and last day that it can be from."""
    rule = declared.date
    if rule.between is not None:
        return lambda parts: rule.between  # noqa: ARG005
    if rule.day is not None:
        return lambda parts: (rule.day, rule.day)  # noqa: ARG005
    column = None if rule.table is None else _Column(root, rule.table, declared)

    def of(parts: Parts) -> tuple[date, date]:
        value = _key(rule.text or "", parts) if column is None else column(parts)
        if value is None:
            raise ImportFolderError(
                root, "date", None, f"a date of {_words(list(parts), list(parts.values()))}"
            )
        if isinstance(value, datetime | date):
            day = value.date() if isinstance(value, datetime) else value
            return day, day
        try:
            day = datetime.strptime(str(value), rule.format).date()  # a day, no hour
        except ValueError:
            raise ImportFolderError(
                root, "date", str(value), f"a date like {rule.format}",
                "Correct `date.format` of the declaration, or the file.",
            ) from None  # fmt: skip
        return day, _last(day, rule.format)

    return of


def _codes(declared: AnnotatedSet, root: Path) -> Rule:
    """From the parts of a path to the class of the whole picture."""
    said = declared.masks
    if said.table is None:
        return lambda parts: None  # noqa: ARG005
    column = _Column(root, said.table, declared)

    def of(parts: Parts) -> int:
        value = column(parts)
        if str(value) not in said.names:
            raise ImportFolderError(
                root, "class", f"{value} of {_words(list(parts), list(parts.values()))}",
                ", ".join(sorted(said.names)), "Add it to `masks.names` of the declaration.",
            )  # fmt: skip
        return said.names[str(value)]

    return of


def _last(day: date, said: str) -> date:
    """The last day of what a format says: of the day, the month or the year."""
    if "%d" in said or "%j" in said:
        return day
    if "%m" in said or "%b" in said:
        after = date(day.year + day.month // 12, day.month % 12 + 1, 1)
    else:
        after = date(day.year + 1, 1, 1)
    return date.fromordinal(after.toordinal() - 1)


def _key(text: str, parts: Parts) -> str:
    return PART.sub(lambda part: parts[part[1]], text)


def _file(root: Path, name: str, declared: AnnotatedSet) -> Path:
    path = root / name
    if not path.is_file():
        raise ImportFolderError(
            root, "layout", f"no {name}", f"the file {name} of {declared.title}", declared.obtain
        )
    return path


def _lines(root: Path, name: str, declared: AnnotatedSet) -> list[str]:
    path = _file(root, name, declared)
    if path.suffix == ".json":  # as COCO lists its images
        return [Path(image["file_name"]).name for image in _json(path).get("images", [])]
    text = path.read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip()]


class _Column:
    """What a publisher's table says of the parts of a path; None: nothing."""

    def __init__(self, root: Path, table: Table, declared: AnnotatedSet) -> None:
        self._root, self._table, self._declared = root, table, declared
        self._read: dict[str, dict[str, Any]] = {}

    def __call__(self, parts: Parts) -> Any:
        name = _key(self._table.file, parts)
        if name not in self._read:
            path = _file(self._root, name, self._declared)
            self._read[name] = _column(path, self._table, self._declared)
        return self._read[name].get(_key(self._table.key, parts))


def _column(path: Path, table: Table, declared: AnnotatedSet) -> dict[str, Any]:
    """Key to what the column says."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        names = pq.read_schema(path).names
        key = table.key_column or names[0]
        _check_columns(path, names, key, table.column)
        found = pq.read_table(path, columns=list(dict.fromkeys([key, table.column])))
        return dict(
            zip(map(str, found[key].to_pylist()), found[table.column].to_pylist(), strict=True)
        )
    if path.suffix == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            names = list(rows.fieldnames or [])
            key = table.key_column or (names[0] if names else "")
            _check_columns(path, names, key, table.column)
            return {row[key]: row[table.column] for row in rows}
    if path.suffix not in (".json", ".geojson"):
        allowed = "a .csv, .parquet, .json or .geojson file"
        raise CatalogError(declared.name, "table.file", table.file, allowed)
    said = _json(path)
    if said.get("type") == "FeatureCollection":
        records = [feature["properties"] for feature in said["features"]]
        names = list(records[0]) if records else []
        key = table.key_column or (names[0] if names else "")
        _check_columns(path, names, key, table.column)
        return {str(record[key]): record.get(table.column) for record in records}
    first: dict[str, Any] = next(iter(said.values()), {})
    _check_columns(path, list(first), table.column)
    return {key: record.get(table.column) for key, record in said.items()}


def _json(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as problem:
        raise ImportFolderError(path, "json", str(problem), "valid JSON") from None
    return said if isinstance(said, dict) else {}


def _check_columns(path: Path, names: Sequence[str], *wanted: str) -> None:
    for name in wanted:
        if name not in names:
            raise ImportFolderError(path, "columns", ", ".join(names), f"a column {name}")
