"""What README and guides tell people to type: every command is parsed, every Python block compiles."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from las_builder.cli import las

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Language and content of the fenced blocks."""
    for found in re.finditer(r"^```(\w*)\n(.*?)^```", page.read_text(), re.S | re.M):
        yield found[1], found[2]


def typed(page: Path, program: str) -> Iterator[list[str]]:
    """The lines of blocks without a language that start with a program."""
    for language, block in blocks(page):
        if language in ("", "sh", "bash", "console"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line.removeprefix("$ "), comments=True)
                if words[:1] == [program]:
                    yield words[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_las_command_is_one(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, options and their types; that files are there is the user's."""
    monkeypatch.setattr(click.Path, "convert", lambda self, value, param, ctx: Path(value))
    for words in typed(page, "las"):
        with click.Context(las) as context:
            name, command, rest = las.resolve_command(context, list(words))
            assert command is not None
            if "--help" not in rest:
                command.make_context(name, rest, parent=context)


def test_a_command_that_is_none_would_be_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```\nlas build demo --wrkers 2\n```\n")
    (words,) = typed(page, "las")
    with click.Context(las) as context, pytest.raises(click.NoSuchOption):
        las.commands["build"].make_context("build", words[1:], parent=context)
    assert sum(len(list(typed(page, "las"))) for page in PAGES) > 40


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_target_of_make_is_one(page: Path) -> None:
    targets = set(re.findall(r"^([a-z ]+):", (ROOT / "Makefile").read_text(), re.M))
    names = {name for line in targets for name in line.split()}
    variables = set(re.findall(r"\$\((\w+)\)", (ROOT / "Makefile").read_text()))
    for words in typed(page, "make"):
        for word in words:
            known = variables if "=" in word else names
            assert word.partition("=")[0] in known, f"make {word}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_in_pages_compiles(page: Path) -> None:
    for language, block in blocks(page):
        if language == "python":
            compile(block, page.name, "exec")


def test_the_site_builds_with_every_command(tmp_path: Path) -> None:
    mkdocs = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir"]
    done = subprocess.run(
        [*mkdocs, str(tmp_path / "site")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "commands" / "index.html").read_text()
    for name, command in las.commands.items():
        assert f'id="{name}"' in page or f">{name}<" in page
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.opts[0] in page, f"{name} {parameter.opts[0]}"
    guides = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    listed = (ROOT / "mkdocs.yml").read_text()
    assert {name for name in guides if f"{name}.md" not in listed} == set()
