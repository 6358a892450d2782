"""What is in the wheel and in the source archive; what the container recipe says of the checkout.

The recipe is parsed, not built: there is no docker where the tests run.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both archives, as hatchling makes them for `python -m build`."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist"]
    done = subprocess.run(
        [*command, "-d", str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def tracked(*folders: str) -> set[str]:
    """Files of the checkout, as git has them."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs the checkout that git knows")
    said = subprocess.run(
        ["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {line for line in said.stdout.splitlines() if (ROOT / line).is_file()}


def test_the_wheel_has_the_package_and_its_declarations(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        meta = archive.read(next(n for n in names if n.endswith("METADATA"))).decode()
    assert tracked("las_builder") <= names
    for line in tracked("catalogs", "pipelines"):
        assert f"las_builder/_declared/{line}" in names
    tops = {name.split("/")[0] for name in names}
    assert tops == {"las_builder", next(t for t in tops if t.endswith(".dist-info"))}
    assert "Requires-Python: >=3.11" in meta
    assert "# las_builder" in meta  # the README


def test_the_source_archive_can_be_tested(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    folders = ("las_builder", "catalogs", "pipelines", "tests", "docs", "notebooks")
    assert tracked(*folders, "mkdocs.yml", "Makefile", "Dockerfile", "README.md") <= names


def test_the_container_recipe_speaks_of_what_there_is() -> None:
    lines = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    said = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    assert said[0] == ["FROM", "python:3.12-slim"]
    assert {word for word, _ in said} <= {
        "FROM", "COPY", "RUN", "ENV", "USER", "WORKDIR", "ENTRYPOINT", "CMD"
    }  # fmt: skip
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    for word, rest in said:
        if word == "COPY":
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists()
                assert f"!{source}" in allowed
    (extras,) = re.findall(r"/src\[([\w,]+)\]", (ROOT / "Dockerfile").read_text())
    assert set(extras.split(",")) <= set(PROJECT["project"]["optional-dependencies"])
    (entry,) = [json.loads(rest) for word, rest in said if word == "ENTRYPOINT"]
    assert entry == list(PROJECT["project"]["scripts"])
    copied = {rest.split()[0] for word, rest in said if word == "COPY"}
    forced = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert {"las_builder", *forced} <= copied  # what the build needs
