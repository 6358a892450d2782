"""Records of the LAS release, and records that are none."""

from __future__ import annotations

import os
import pickle
import pickletools
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest

from las_builder.access.lmdb import Records, plain, shape_of
from las_builder.errors import InputError
from las_builder.publish.lmdb import record


def write(path: Path, values: dict[str, bytes]) -> Path:
    with lmdb.open(str(path), map_size=1 << 24) as store, store.begin(write=True) as batch:
        for key, value in values.items():
            batch.put(key.encode(), value)
    return path


def images(n: int = 12) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 9000, (3, 7, 5 + i), dtype=np.uint16) for i in range(n)]


def test_arrays_come_back_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    given = images()
    path = write(
        tmp_path / "s2_lmdb", {f"s2_{i}": record(a, f"tile-{i}") for i, a in enumerate(given)}
    )
    found = list(Records(path, "s2", "uint16"))
    assert [one.name for one in found] == [f"tile-{i}" for i in range(12)]  # not 0, 1, 10, 11, 2
    assert len(Records(path, "s2", "uint16")) == 12
    for one, array in zip(found, given, strict=True):
        np.testing.assert_array_equal(one.data, array)
        assert one.data.dtype == np.uint16


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_plain_values_are_those_of_pickle(protocol: int) -> None:
    big = 2**40
    values: list[Any] = [
        (b"a" * 300, (3, 264, 264), "x" * 300), (b"", (), ""), (1, (2, (3, (4, 5, 6, 7))), -1, big),
        None, (b"q", b"q", (b"q",)), tuple(range(300)),
    ]  # fmt: skip
    for value in values:
        assert plain(pickle.dumps(value, protocol=protocol)) == value
        assert plain(pickletools.optimize(pickle.dumps(value, protocol=protocol))) == value


class Hostile:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.file}",)


def test_a_hostile_record_is_refused_and_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "run"
    good = record(images(1)[0], "good")
    for i, bad in enumerate(
        [
            pickle.dumps((b"", (0,), Hostile(mark))),
            pickle.dumps(Hostile(mark), protocol=0),
            pickle.dumps((b"", [1, 2], "list")),
            pickle.dumps({"a": 1}),
            pickle.dumps((b"", (np.int64(3),), "numpy")),
            pickle.dumps((b"ab", (2,), "old"), protocol=2),  # bytes by calling _codecs.encode
            b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00Q.",  # a persistent object
            b"\x80\x04\x82\x01.",  # an extension
        ]
    ):
        path = write(tmp_path / f"{i}_lmdb", {"s2_0": good, "s2_1": bad})
        records = iter(Records(path, "s2", "uint16"))
        assert next(records).name == "good"
        with pytest.raises(InputError, match="s2_1"):
            next(records)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Hostile(mark)))  # pickle itself runs it
    assert mark.exists()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (pickle.dumps((b"abc", (2,), "n")), "3 bytes"),
        (pickle.dumps((b"abcd", (-2,), "n")), r"\(bytes, shape, name\)"),
        (pickle.dumps((b"abcd", (True, 2), "n")), r"\(bytes, shape, name\)"),
        (pickle.dumps((b"abcd", (2,))), r"\(bytes, shape, name\)"),
        (pickle.dumps(("abcd", (2,), "n")), r"\(bytes, shape, name\)"),
        (pickle.dumps((b"abcd", (2,), "n"))[:-6], "pickle"),
        (b"", "pickle"),
        (b"no pickle", "pickle"),
        (b"\x80\x04\x85.", "more than there is"),
        (b"\x80\x04t.", "without a beginning"),
        (b"\x80\x04h\x07.", "reference to nothing"),
        (b"\x80\x04(.", "no one value"),
    ],
)
def test_records_that_are_broken(tmp_path: Path, data: bytes, words: str) -> None:
    path = write(tmp_path / "x_lmdb", {"s2_0": data or b"\x00"})
    with pytest.raises(InputError, match=words):
        list(Records(path, "s2", "uint16"))


def test_the_shape_of_a_record_whatever_its_type(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x_lmdb",
        {
            "a_0": record(np.zeros((3, 4, 5), np.uint16), "a"),
            "b_0": pickle.dumps(print),
            "c_0": pickle.dumps((b"abcd", [2, 2], "n")),
            "d_0": pickle.dumps((b"abc", (2, 2), "n")),
        },
    )
    assert shape_of(path, "a") == (3, 4, 5)
    with pytest.raises(InputError, match="makes more than bytes"):
        shape_of(path, "b")
    with pytest.raises(InputError, match="EMPTY_LIST"):
        shape_of(path, "c")
    with pytest.raises(InputError, match="unknown size"):
        shape_of(path, "d")


def test_files_that_are_broken(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no data\.mdb"):
        list(Records(tmp_path, "s2", "uint16"))
    path = write(
        tmp_path / "s2_lmdb", {f"s2_{i}": record(a, str(i)) for i, a in enumerate(images())}
    )
    with pytest.raises(InputError, match=r"dw_0 to dw_11"):
        list(Records(path, "dw", "uint8"))
    file = path / "data.mdb"
    whole = file.read_bytes()
    for size in (len(whole) // 2, 5000, 100):
        file.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"data\.mdb"):
            list(Records(path, "s2", "uint16"))
    file.write_bytes(b"\0" * len(whole))
    with pytest.raises(InputError, match=r"data\.mdb"):
        list(Records(path, "s2", "uint16"))
