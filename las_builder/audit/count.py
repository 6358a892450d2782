"""Counting: from the cube to a small table a site, once, out of core.

Every task reads some blocks patch by patch and writes one Parquet file; nothing in memory grows with
sites. The rows of a table:

    kind     CODE, CENTRE: a code of product `a` (whole patch; central pixel)
             PAIR: codes of products `a` and `b` on the same pixel
             TIME: codes of product `a` in two of its versions, of the years `when_a`, `when_b`
    site     place among the audited sites
    edge     PAIR: 1 where the pixel lies within `EDGE` pixels of a border between two codes of
             either product
    n        pixels, over all dates of the site
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from las_builder.catalogs import LabelProduct
from las_builder.core.workspace import plain_disk_errors, writing
from las_builder.errors import LegendError
from las_builder.fetch.cube import open_round
from las_builder.harmonise.count import count_pairs

CODE, CENTRE, PAIR, TIME = range(4)

EDGE = 2
"""Pixels from a border between two codes that count as its edge."""

_COLUMNS = ("site", "edge", "when_a", "when_b", "code_a", "code_b", "n")
_TYPES = ("int32", "int8", "int16", "int16", "int64", "int64", "int64")

Ints = NDArray[np.int64]
Numbers = NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True, slots=True)
class Row:
    """A stored patch of a round."""

    row: int
    site: int
    """Place among the audited sites."""

    version: tuple[str, ...]
    """Of each product, "" where it had nothing."""

    year: int
    """Of its image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountJob:
    """Some stored patches of one round, in order; those of one site may go on in the next job."""

    group: Path
    rows: tuple[Row, ...]
    before: tuple[Row, ...] = ()
    """Patches of the first site that an earlier job counts: what its versions are compared with."""

    products: tuple[LabelProduct, ...]
    out: Path
    """Folder of the tables."""

    @property
    def file(self) -> Path:
        """Named by the hash of all that decides its content."""
        said = [
            str(self.group.name), repr(self.rows), repr(self.before), str(EDGE),
            *(f"{p.name}{sorted(p.codes)}" for p in self.products),
        ]  # fmt: skip
        digest = hashlib.blake2b("\n".join(said).encode(), digest_size=12).hexdigest()
        return self.out / f"{digest}.parquet"


def count_block(job: CountJob) -> Path:
    """Count some patches and write the table; a table that is there is left alone.

    Raises:
        LegendError: The cube holds codes that the legend of their product does not list.
        WorkspaceError: The disk is full or read-only.
    """
    if job.file.exists():
        return job.file
    found = _Found(len(job.products))
    group = open_round(job.group)
    legends = [_Legend.of(product) for product in job.products]
    arrays = [group[f"labels/{product.name}"] for product in job.products]
    last: dict[int, tuple[Row, list[NDArray[Any]]]] = {}
    step = int(dict(group.attrs).get("block_patches", 32))  # type: ignore[arg-type]
    for several in _runs([*job.before, *job.rows], step):
        span = slice(several[0].row, several[-1].row + 1)
        stacks = [np.asarray(array[span]) for array in arrays]  # type: ignore[index]
        for row in several:
            codes = [stack[row.row - span.start] for stack in stacks]
            numbers = [legend.number(c) for legend, c in zip(legends, codes, strict=True)]
            if row not in job.before:
                _patch(found, row.site, numbers)
                if row.site in last:
                    _drift(found, *last[row.site], row, numbers)
            last = {row.site: (row, numbers)}
    found.write(job.file, legends)
    return job.file


def jobs_of(
    group: Path, rows: Sequence[Row], products: tuple[LabelProduct, ...], out: Path, size: int
) -> Iterator[CountJob]:
    """Jobs of about `size` patches each."""
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        first = some[0].site
        before = tuple(itertools.takewhile(lambda r, s=first: r.site == s, reversed(rows[:start])))  # type: ignore[misc]
        yield CountJob(group=group, rows=tuple(some), before=before[:1], products=products, out=out)


def near_edges(codes: NDArray[Any], within: int = EDGE) -> NDArray[np.bool_]:
    """Pixels within so many steps (up, down, left, right) of a border between two codes, (y, x).

    The two pixels at a border are within 1.
    """
    near = np.zeros(codes.shape, np.bool_)
    if within < 1:
        return near
    for axis in (0, 1):
        here, there = _halves(codes, axis)
        border = here != there
        one, two = _halves(near, axis)
        one |= border
        two |= border
    for _ in range(within - 1):
        wider = near.copy()
        for axis in (0, 1):
            (a, b), (was_a, was_b) = _halves(wider, axis), _halves(near, axis)
            a |= was_b
            b |= was_a
        near = wider
    return near


def _halves(array: NDArray[Any], axis: int) -> tuple[NDArray[Any], NDArray[Any]]:
    return (array[:-1], array[1:]) if axis == 0 else (array[:, :-1], array[:, 1:])


def _runs(rows: Sequence[Row], step: int) -> Iterator[list[Row]]:
    """Rows that lie in one block of the cube."""
    for _, some in itertools.groupby(rows, key=lambda r: r.row // step):
        yield list(some)


@dataclass(frozen=True, slots=True)
class _Legend:
    """Codes of a product as small numbers."""

    product: LabelProduct
    codes: Ints
    """Ascending."""

    table: Numbers | None
    """By code, where codes are at most 16 bits and not negative; the largest: no code of it."""

    dtype: np.dtype[Any]
    """Of the numbers, doubled."""

    @classmethod
    def of(cls, product: LabelProduct) -> _Legend:
        codes = np.array(sorted(product.codes), np.int64)
        dtype = np.dtype("uint8" if codes.size < 128 else "uint16")
        table = None
        if product.dtype.kind == "u" and product.dtype.itemsize <= 2:
            table = np.full(np.iinfo(product.dtype).max + 1, np.iinfo(dtype).max, dtype)
            table[codes] = np.arange(codes.size)
        return cls(product, codes, table, dtype)

    def number(self, codes: NDArray[Any]) -> Numbers:
        """Places of codes among those of the legend."""
        if self.table is not None:
            number: Numbers = self.table[codes]
            strange = number == np.iinfo(self.dtype).max
        else:
            place = np.minimum(np.searchsorted(self.codes, codes), self.codes.size - 1)
            strange = self.codes[place] != codes
            number = np.asarray(place.astype(self.dtype))
        if strange.any():
            raise LegendError(
                self.product.name, "code", np.unique(codes[strange])[:8].tolist(),
                f"the codes {', '.join(map(str, self.codes))}",
                "Codes outside the legend point to interpolated labels (a map resampled with "
                "bilinear or cubic) or to another product: get the map as it was published, or "
                "declare the codes.",
            )  # fmt: skip
        return number


def _patch(found: _Found, site: int, numbers: Sequence[Numbers]) -> None:
    edges = [near_edges(number) for number in numbers] if len(numbers) > 1 else []
    for a, number in enumerate(numbers):
        value, n = _values(number)
        found.add(CODE, a, 0, site=site, code_a=value, n=n)
        middle = np.array([number[number.shape[0] // 2, number.shape[1] // 2]])
        found.add(CENTRE, a, 0, site=site, code_a=middle, n=np.ones(1, np.int64))
    for a, b in itertools.combinations(range(len(numbers)), 2):
        edge = edges[a] | edges[b]
        one, two, n = count_pairs(numbers[a] * numbers[a].dtype.type(2) + edge, numbers[b])
        found.add(PAIR, a, b, site=site, edge=one % 2, code_a=one // 2, code_b=two, n=n)


def _drift(
    found: _Found, old: Row, before: Sequence[Numbers], new: Row,
    now: Sequence[Numbers],
) -> None:  # fmt: skip
    for a, (was, is_) in enumerate(zip(before, now, strict=True)):
        if old.version[a] != new.version[a] and old.version[a] and new.version[a]:
            one, two, n = count_pairs(was, is_)
            found.add(
                TIME, a, a, site=new.site, when_a=old.year, when_b=new.year, code_a=one,
                code_b=two, n=n,
            )  # fmt: skip


def _values(number: Numbers) -> tuple[Ints, Ints]:
    n = np.bincount(number.ravel())
    value = np.flatnonzero(n)
    return value, n[value]


class _Found:
    """Rows by (kind, a, b), which become row groups."""

    def __init__(self, products: int) -> None:
        self.parts: dict[tuple[int, int, int], list[dict[str, Any]]] = {}
        for a in range(products):
            for kind in (CODE, CENTRE):
                self.parts[kind, a, 0] = []

    def add(self, kind: int, a: int, b: int, *, n: Ints, **columns: Any) -> None:
        self.parts.setdefault((kind, a, b), []).append({"n": n, **columns})

    def write(self, path: Path, legends: Sequence[_Legend]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        fields = [(name, pa.type_for_alias(t)) for name, t in zip(_COLUMNS, _TYPES, strict=True)]
        keys = [(name, pa.int8()) for name in ("kind", "a", "b")]
        schema = pa.schema([*keys, *fields])
        with (
            plain_disk_errors(path),
            writing(path) as part,
            pq.ParquetWriter(part, schema, compression="zstd") as writer,
        ):
            for key, several in sorted(self.parts.items()):
                if not several:
                    continue
                sizes = [one["n"].size for one in several]
                columns = {
                    name: np.concatenate(
                        [
                            np.broadcast_to(np.asarray(one.get(name, 0), dtype), size)
                            for one, size in zip(several, sizes, strict=True)
                        ]
                    )
                    for name, dtype in zip(_COLUMNS, _TYPES, strict=True)
                }
                kind, a, b = key
                columns["code_a"] = legends[a].codes[columns["code_a"]]
                if kind in (PAIR, TIME):
                    columns["code_b"] = legends[b].codes[columns["code_b"]]
                total = sum(sizes)
                for name, value in zip(("kind", "a", "b"), key, strict=True):
                    columns[name] = np.full(total, value, np.int8)
                writer.write_table(pa.table(columns, schema=schema))


@dataclass(frozen=True, eq=False)
class Counts:
    """The tables of all jobs."""

    files: tuple[Path, ...]

    def rows(self, kind: int, a: int, b: int = 0) -> Iterator[dict[str, NDArray[Any]]]:
        """Rows of one kind and one or two products, file by file: column to values."""
        import pyarrow.parquet as pq

        for file in self.files:
            with pq.ParquetFile(file) as table:
                names = table.schema_arrow.names
                at = [names.index(name) for name in ("kind", "a", "b")]
                for group in range(table.metadata.num_row_groups):
                    said = table.metadata.row_group(group)
                    if tuple(said.column(i).statistics.min for i in at) == (kind, a, b):
                        found = table.read_row_group(group, columns=list(_COLUMNS))
                        yield {name: found[name].to_numpy() for name in _COLUMNS}
