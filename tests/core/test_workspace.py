"""Whole or not at all, and one workspace for one recipe."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from las_builder import errors
from las_builder.core.workspace import (
    Workspace,
    canonical_json,
    sha256_tree,
    write_bytes,
    writing,
    writing_folder,
)
from las_builder.errors import AccessError, InputError, UnknownNameError, WorkspaceError


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "a" / "file.bin"
    with pytest.raises(RuntimeError), writing(target) as part:
        part.write_bytes(b"half")
        raise RuntimeError("dies")
    assert list((tmp_path / "a").iterdir()) == []
    write_bytes(target, b"whole")
    assert target.read_bytes() == b"whole"
    assert [p.name for p in target.parent.iterdir()] == ["file.bin"]


def test_what_a_killed_run_left_is_swept_by_the_next(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from las_builder.core.workspace import writing, writing_folder\n"
        "with writing(Path(sys.argv[1]) / 'a.bin') as part, writing_folder(Path(sys.argv[1]) / 'b') as folder:\n"
        "    part.write_bytes(b'half'); (folder / 'x').write_text('half'); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -9
    assert len(list(tmp_path.iterdir())) == 2
    write_bytes(tmp_path / "a.bin", b"whole")
    with writing_folder(tmp_path / "b") as folder:
        (folder / "x").write_text("whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.bin", "b"]


def test_a_file_that_another_run_finished_first_is_left(tmp_path: Path) -> None:
    with writing(tmp_path / "a.bin") as part:
        part.write_bytes(b"same")
        write_bytes(tmp_path / "a.bin", b"same")  # sweeps `part` away
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]
    assert (tmp_path / "a.bin").read_bytes() == b"same"


def test_the_first_folder_stays(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with writing_folder(tmp_path / "x") as part:
            (part / "a").write_text(text)
    assert (tmp_path / "x" / "a").read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_what_the_disk_refuses_is_one_line(tmp_path: Path, code: int) -> None:
    with pytest.raises(WorkspaceError) as caught, writing(tmp_path / "f"):
        raise OSError(code, os.strerror(code))
    assert os.strerror(code) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_workspace_belongs_to_one_recipe(tmp_path: Path) -> None:
    space = Workspace(tmp_path)
    recipe = {"name": "a", "subsets": {"s": {"sites": {"count": 3, "seed": 1}}}}
    space.verify(recipe)
    assert not space.lock.exists()
    space.claim(recipe)
    space.claim(recipe)
    other = {"name": "a", "subsets": {"s": {"sites": {"count": 4, "seed": 1}}}}
    with pytest.raises(WorkspaceError, match=r"subsets\.s\.sites\.count.*is 4.*allowed: 3"):
        space.claim(other)


def test_equal_values_equal_bytes() -> None:
    assert canonical_json({"b": 1, "a": [1.5, "é"]}) == canonical_json({"a": [1.5, "é"], "b": 1})
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))


def test_the_digest_of_a_tree_sees_names_and_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    before = sha256_tree(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    renamed = sha256_tree(tmp_path)
    (tmp_path / "b").write_text("2")
    assert len({before, renamed, sha256_tree(tmp_path)}) == 3


def test_a_full_disk_is_exit_code_2(tmp_path: Path) -> None:
    """A real one: a file-size limit of the process stands in for the end of the disk."""
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from las_builder.core.workspace import write_bytes\n"
        "from las_builder.errors import InputError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_bytes(Path(sys.argv[1]), b'x' * 5000)\n"
        "except InputError as error: sys.exit(error.exit_code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "f")], check=False)
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_errors_survive_the_trip_from_a_worker() -> None:
    cases: list[errors.LasError] = [
        UnknownNameError("band", "B99", ["B01", "B02"], where="r.yaml", key="bands.0"),
        InputError("a.tif", "crs", None, "a CRS", "Give it one."),
        errors.LegendError("x", "code", [3], "1, 2"),
        AccessError("stac", "href", "503", retryable=True),
        errors.StageError("2 blocks failed"),
    ]
    for case in cases:
        back = pickle.loads(pickle.dumps(case))
        assert type(back) is type(case)
        assert str(back) == str(case)
        assert back.exit_code == case.exit_code


def test_of_many_names_the_nearest_are_listed() -> None:
    names = [f"product-{i:03d}" for i in range(200)] + [
        "esa-worldcover-v100",
        "esa-worldcover-v200",
    ]
    said = str(UnknownNameError("product", "worldcover", names, where="r.yaml", key="labels.0"))
    assert "esa-worldcover-v100, esa-worldcover-v200" in said
    assert len(said) < 400
    shown = said.split("among ")[1].split(" and ", maxsplit=1)[0].split(", ")
    assert len(shown) == 12
    assert f" and {len(names) - len(shown)} more." in said
    few = str(UnknownNameError("band", "B", names[:24], where="r.yaml", key="bands"))
    assert all(name in few for name in names[:24])
    assert "more" not in few


def test_every_error_is_in_the_tree_drawn_on_top() -> None:
    drawn = errors.__doc__ or ""
    found = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.LasError)
    ]
    assert len(found) > 10
    assert all(value.__name__ in drawn for value in found)


def test_the_nearest_name_is_offered() -> None:
    error = UnknownNameError(
        "imagery source", "sentinel2-l2a", ["naip", "sentinel-2-l2a"], where="r", key="imagery"
    )
    assert "Did you mean 'sentinel-2-l2a'?" in str(error)
