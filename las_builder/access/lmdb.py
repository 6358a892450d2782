"""Arrays from the LMDB files of the LAS release, whose values are pickles that are never run.

A record is `pickle((bytes, shape, name))`. It is read opcode by opcode by something that can make
nothing but bytes, whole numbers, text, nothing and tuples of these; whatever else a pickle asks
for (a class, a function, a list to fill, an object from outside) refuses the record by name.
"""

from __future__ import annotations

import itertools
import pickletools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from las_builder.errors import InputError

_VALUES = frozenset({
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BININT", "BININT1", "BININT2", "LONG1", "INT",
    "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
})  # fmt: skip
"""Opcodes that push their argument."""

_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()


def plain(data: bytes) -> Any:
    """The value of a pickle of bytes, numbers, text and tuples.

    Raises:
        ValueError: It asks for something else, or is cut off.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for opcode, argument, _ in pickletools.genops(data):
        name = opcode.name
        if name in _VALUES:
            stack.append(argument)
        elif name == "NONE":
            stack.append(None)
        elif name in _TUPLES:
            n = _TUPLES[name]
            stack[len(stack) - n :] = [tuple(_top(stack, n))]
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "TUPLE":
            at = next((i for i in range(len(stack) - 1, -1, -1) if stack[i] is _MARK), None)
            if at is None:
                raise ValueError("a tuple without a beginning")
            stack[at:] = [tuple(stack[at + 1 :])]
        elif name == "MEMOIZE":
            memo[len(memo)] = _top(stack, 1)[0]
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[int(argument or 0)] = _top(stack, 1)[0]
        elif name in ("BINGET", "LONG_BINGET"):
            if argument not in memo:
                raise ValueError("a reference to nothing")
            stack.append(memo[argument])
        elif name == "STOP":
            if len(stack) != 1 or stack[0] is _MARK:
                raise ValueError("no one value")
            return stack[0]
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"it asks for {name}, which makes more than bytes, numbers and text")
    raise ValueError("it is cut off")


def _top(stack: list[Any], n: int) -> list[Any]:
    if len(stack) < n or any(one is _MARK for one in stack[len(stack) - n :]):
        raise ValueError("it takes more than there is")
    return stack[len(stack) - n :]


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One array of an LMDB."""

    key: str
    name: str
    """Of the sample, as its makers call it."""

    data: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Records:
    """The arrays of one LMDB, `<kind>_<i>`."""

    path: Path
    kind: str
    """What keys begin with: s2, dw, osm."""

    dtype: str
    """Of the numbers; a record does not say. NumPy's name, native order."""

    def __len__(self) -> int:
        """Of this kind; of all, where there is none of it, so that reading one says so."""
        counts = kinds(self.path)
        return counts.get(self.kind, sum(counts.values()))

    def read(self, i: int) -> Record:
        """The one of this number.

        Raises:
            InputError: As iterating does.
        """
        with _opened(self.path) as store, store.begin() as view:
            return self._at(view, i)

    def __iter__(self) -> Iterator[Record]:
        """In the order of their numbers.

        Raises:
            InputError: No LMDB; a record that is missing, that is refused, or whose bytes are not of
                its shape.
        """
        n = len(self)
        with _opened(self.path) as store, store.begin() as view:
            for i in range(n):
                yield self._at(view, i)

    def _at(self, view: Any, i: int) -> Record:
        key = f"{self.kind}_{i}"
        found = view.get(key.encode())
        if found is None:
            counts = _counts(view, self.path)
            n = counts.get(self.kind, sum(counts.values()))
            raise InputError(
                self.path, "key", sorted(_some(view)), f"{self.kind}_0 to {self.kind}_{n - 1}",
                "Name the kind that its keys begin with.",
            )  # fmt: skip
        return self._read(key, found)

    def _read(self, key: str, found: bytes) -> Record:
        try:
            value = plain(found)
        except ValueError as problem:
            raise InputError(
                self.path, key, f"a pickle of which {problem}", "(bytes, shape, name)",
                "It is not read: pickles can run code. Ask whoever made the file.",
            ) from None  # fmt: skip
        match value:
            case (bytes() as data, tuple() as shape, str() as name) if all(
                type(side) is int and side >= 0 for side in shape
            ):
                wanted = int(np.prod(shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize
                if len(data) == wanted:
                    return Record(key, name, np.frombuffer(data, self.dtype).reshape(shape))
                raise InputError(
                    self.path, key, f"{len(data)} bytes",
                    f"{wanted}: {self.dtype} of shape {shape}", "Cut off, or of another type.",
                )  # fmt: skip
        raise InputError(self.path, key, _words(value), "(bytes, shape, name)")


def kinds(path: Path) -> dict[str, int]:
    """What keys of an LMDB begin with, and how many there are: {"s2": 340, "dw": 340}.

    Raises:
        InputError: No LMDB, or keys that are not <kind>_<i>.
    """
    with _opened(path) as store, store.begin() as view:
        return _counts(view, path)


def _counts(view: Any, path: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for key in view.cursor().iternext(values=False):
        kind, _, number = bytes(key).decode(errors="replace").rpartition("_")
        if not kind or not number.isdigit():
            raise InputError(path, "key", f"{kind}_{number}"[:80], "<kind>_<i>, like s2_0")
        found[kind] = found.get(kind, 0) + 1
    return dict(sorted(found.items()))


def shape_of(path: Path, kind: str) -> tuple[int, ...]:
    """Shape of the first record of a kind, whatever its type.

    Raises:
        InputError: No LMDB, no such record, or one that is refused.
    """
    for dtype in ("uint8", "uint16", "float32"):
        try:
            return tuple(Records(path, kind, dtype).read(0).data.shape)
        except InputError as problem:
            if not str(problem.found).endswith(" bytes"):  # not a matter of the type
                raise
    raise InputError(path, f"{kind}_0", "numbers of an unknown size", "1, 2 or 4 bytes each")


def _some(view: Any) -> list[str]:
    keys = itertools.islice(view.cursor().iternext(values=False), 3)
    return [bytes(key).decode(errors="replace") for key in keys]


def _words(value: Any) -> str:
    kinds = [type(one).__name__ for one in value] if isinstance(value, tuple) else value
    return str(kinds)[:80]


def _opened(path: Path) -> Any:
    try:
        import lmdb
    except ImportError:
        raise InputError(
            path, "lmdb", "not installed", "the package lmdb", "pip install 'las-builder[export]'"
        ) from None
    if not (path / "data.mdb").is_file():
        raise InputError(path, "file", "no data.mdb", "an unpacked LMDB, <name>_lmdb/data.mdb")
    try:
        store = lmdb.open(str(path), readonly=True, lock=False, max_dbs=0)
    except lmdb.Error as problem:
        raise InputError(path, "data.mdb", str(problem), "an LMDB that is whole") from None
    # Pages are mapped into memory: one that the file does not have ends the process.
    wanted = (store.info()["last_pgno"] + 1) * store.stat()["psize"]
    there = (path / "data.mdb").stat().st_size
    if there < wanted:
        store.close()
        raise InputError(path, "data.mdb", f"{there} bytes", f"{wanted}", "Unpack it again.")
    return store
