"""The notebooks run from the top to the bottom, and are kept without outputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ee_replica import CATALOGS, Both, add_image, add_maps, home
from kit_loopback import serve
from replica import Replica, add_scenes, square

from las_builder.access import SearchRequest
from las_builder.access.virtual import VirtualEarth
from las_builder.core.types import Period

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
    assert "work/first/catalog/catalog.json: 1" in said
    said = run("auditing_label_products", tmp_path)
    assert "esa-worldcover-v200 and io-lulc-annual" in said
    said = run("reading_the_corpus_back", tmp_path)
    assert "SYNTHETIC: first" in said
    assert "EPSG:326" in said


def test_your_own_subset(tmp_path: Path) -> None:
    assert "work/mine/catalog/catalog.json: 16 items" in run("your_own_subset", tmp_path)


def test_zero_shot_evaluation(tmp_path: Path) -> None:
    """Without a trained model: what is learnt on the spot beats what has learnt nothing."""
    said = run("zero_shot_evaluation", tmp_path)
    assert (tmp_path / "work/evaluation/scores/index.html").stat().st_size > 20_000
    rows = [line.split()[0] for line in said.splitlines() if " mIoU 0." in line]
    assert len(rows) == 5
    assert rows[0] == "nothing-learnt"
    assert rows[-1].startswith("nothing-learnt-")
    assert ": a difference" in said


def test_from_earth_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the emulator."""
    root, folder = tmp_path / "root", tmp_path / "work"
    root.mkdir()
    folder.mkdir()
    both, imagery = Both(Replica(root)), CATALOGS.imagery("sentinel-2-l2a")
    earth, period = VirtualEarth(CATALOGS), Period.parse("2021-04-01/2021-10-01")
    around = square(CATALOGS, imagery, 11.5, 48.2, 300)
    for part in period.slots(2):
        for listed in add_scenes(
            both.replica, "stac", earth, imagery, around, part, clear=2, cloudy=0
        ):
            add_image(both, imagery, listed)
    asked = SearchRequest(site="x", grid=around, period=period, max_cloud=100)
    seen = {s.id: s for s in earth.search(imagery, [asked])[0]}
    used = [seen[i["id"]] for i in both.replica.items["stac"]]
    for name in ("esa-worldcover-v200", "dynamic-world"):
        add_maps(both, earth, CATALOGS.label(name), around, used)
    both.write()
    server = serve(root)
    try:
        monkeypatch.setenv("HOME", str(home(tmp_path)))
        monkeypatch.setenv("LAS_MIRRORS", server.mirrors)
        monkeypatch.setenv("LAS_PATIENCE_S", "20")
        for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT"):
            monkeypatch.delenv(name, raising=False)
        said = run("from_earth_engine", folder)
    finally:
        server.stop()
    assert "EECU-hours" in said
    assert "from-ee: 2 sites = 2 stored" in said
    assert "4 scenes;" in said
