"""What a run keeps to go on with is whole, or as if it were not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from las_builder.evaluate import kept
from las_builder.evaluate.score import SHOWN, panels_of, shown_of


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b.npz"
    assert kept.read(file) is None
    kept.write(file, x=np.arange(5, dtype=np.uint8), name="tile", where=(1.5, np.nan))
    found = kept.read(file)
    assert found is not None
    assert set(found) == {"x", "name", "where"}
    np.testing.assert_array_equal(found["x"], np.arange(5))
    assert found["x"].dtype == np.uint8
    assert str(found["name"]) == "tile"


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_file_that_was_cut_is_not_there(share: float, tmp_path: Path) -> None:
    file = tmp_path / "b.npz"
    kept.write(file, x=np.arange(500))
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    assert kept.read(file) is None


def test_a_file_of_something_else_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "words.npz").write_text("no arrays")
    np.save(tmp_path / "one.npy", np.arange(3))
    with (tmp_path / "objects.npz").open("wb") as file:
        np.savez(file, x=np.array([{}], object))
    for name in ("words.npz", "one.npy", "objects.npz"):
        assert kept.read(tmp_path / name) is None


def test_a_page_opens_the_tiles_that_it_shows_and_no_others(tmp_path: Path) -> None:
    tiles = [{"name": f"t{i}"} for i in range(20)]
    shown = shown_of(len(tiles))
    assert (len(shown), shown[0], shown[-1]) == (SHOWN, 0, 19)
    for i, tile in enumerate(tiles):
        file = tmp_path / "m-b" / f"{i:06d}.npz"
        if i in shown[1:]:
            kept.write(file, name=tile["name"], panels=np.full((6, 2, 2), i, np.uint8))
        else:  # the first that is shown, too
            file.parent.mkdir(exist_ok=True)
            file.write_text("damaged")
    scores = {"method": "m", "benchmark": "b", "tiles": tiles}
    found = {name: int(panels[0, 0, 0]) for name, panels in panels_of(tmp_path, scores)}
    assert found == {f"t{i}": i for i in shown[1:]}
    assert shown_of(1) == [0]
    assert shown_of(3) == [0, 1, 2]
