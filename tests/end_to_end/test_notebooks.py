"""The notebooks run from the top to the bottom, and are kept without outputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def cells(name: str) -> list[dict[str, object]]:
    return list(json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())["cells"])


def program(name: str) -> str:
    """Its code as a script; a line of the shell fails the script if it fails."""
    lines = ["import subprocess", "import matplotlib", "matplotlib.use('agg')"]
    for cell in cells(name):
        if cell["cell_type"] == "code":
            for line in "".join(cell["source"]).splitlines():
                shell = f"subprocess.run({line[1:]!r}, shell=True, check=True)"
                lines.append(shell if line.startswith("!") else line)
    return "\n".join(lines)


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebooks_are_kept_without_outputs(path: Path) -> None:
    for cell in cells(path.stem):
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    compile(program(path.stem), path.name, "exec")


def run(name: str, folder: Path) -> str:
    # `las` of this interpreter, as a user's shell finds it.
    commands = folder / "bin"
    commands.mkdir(exist_ok=True)
    las = commands / "las"
    las.write_text(f'#!/bin/sh\nexec {sys.executable} -m las_builder.cli "$@"\n')
    las.chmod(0o755)
    path = os.pathsep.join([str(NOTEBOOKS.parent), *sys.path])
    environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", program(name)], cwd=folder, env=environment, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, f"{name}: {done.stdout[-2000:]}{done.stderr[-3000:]}"
    return done.stdout


def test_three_that_follow_each_other(tmp_path: Path) -> None:
    said = run("a_corpus_in_ten_minutes", tmp_path)
    assert "Labelled by ESA WorldCover" in said
    assert "work/first/catalog/catalog.json: 2" in said
    said = run("auditing_label_products", tmp_path)
    assert "esa-worldcover-v200 and io-lulc-annual" in said
    said = run("reading_the_corpus_back", tmp_path)
    assert "SYNTHETIC: first" in said
    assert "EPSG:326" in said


def test_your_own_subset(tmp_path: Path) -> None:
    assert "work/mine/catalog/catalog.json: 16 items" in run("your_own_subset", tmp_path)
