"""`las push`: to a folder, to memory, to a hub of the loopback with the real huggingface_hub client."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import pytest
from kit_hub import hub

import las_builder
from las_builder.core.workspace import sha256_file
from las_builder.errors import InputError, StageError
from las_builder.publish import publish, write_cards
from las_builder.publish.push import LEDGER, push

REPO = "someone/tiny"


@pytest.fixture
def home(whole: Any) -> Path:
    publish(whole.space.catalog, whole.corpus, whole.records)
    write_cards(whole.space.root, whole.corpus, {})
    return Path(whole.space.root)


def digests(folder: Path) -> dict[str, str]:
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != LEDGER)
    return {p.relative_to(folder).as_posix(): sha256_file(p) for p in files}


def test_a_folder_and_what_changed_of_it(home: Path, tmp_path: Path) -> None:
    there, told = tmp_path / "there", []
    sent, kept = push(home, str(there), told=told.append)
    want = {k: v for k, v in digests(home).items() if not k.startswith("shards/.parts")}
    assert digests(there) == want
    assert (sent, kept) == (len(want), 0)
    assert told[-1] == "catalog/catalog.json"
    assert told[0].startswith("shards/")
    times = {p: p.stat().st_mtime_ns for p in there.rglob("*")}
    assert push(home, str(there)) == (0, len(want))
    assert {p: p.stat().st_mtime_ns for p in there.rglob("*")} == times
    # A file that was cut off is sent again, one that is no more is removed.
    shard = next((there / "shards").glob("*.tar"))
    shard.write_bytes(shard.read_bytes()[:700])
    (home / "leaks.json").write_text("{}")
    assert push(home, str(there))[0] == 2
    (home / "leaks.json").unlink()
    assert push(home, str(there))[0] == 0
    assert digests(there) == want
    assert len(list(las_builder.open_corpus(there).samples())) == 9


def test_a_change_that_was_sent_in_part_and_taken_back(home: Path, tmp_path: Path) -> None:
    """The ledger would say that what is there is the old file, and its size is the same."""
    there, readme = tmp_path / "there", home / "README.md"
    push(home, str(there))
    want, old = digests(there), readme.read_bytes()

    def stop(path: str) -> None:
        if path == "README.md":
            raise RuntimeError("killed")

    readme.write_bytes(old.replace(b"e", b"E"))
    with pytest.raises(StageError, match="killed"):
        push(home, str(there), told=stop)
    assert (there / "README.md").read_bytes() == readme.read_bytes()
    readme.write_bytes(old)
    assert push(home, str(there))[0] == 1
    assert digests(there) == want


def test_any_file_system_and_what_is_refused(home: Path) -> None:
    push(home, "memory://bucket/tiny")
    assert len(list(las_builder.open_corpus("memory://bucket/tiny").samples())) == 9
    assert push(home, "memory://bucket/tiny")[0] == 0
    fsspec.filesystem("memory").rm("/bucket", recursive=True)
    with pytest.raises(InputError, match="hf://datasets/OWNER/NAME"):
        push(home, "hf://tiny")
    with pytest.raises(InputError, match="fsspec"):
        push(home, "nosuchthing://bucket/tiny")
    next((home / "shards").glob("*.tar")).unlink()
    with pytest.raises(InputError, match="las pack"):
        push(home, "memory://bucket/tiny")


def las_push(home: Path, url: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the client reads where the hub is when it is imported."""
    environment = {
        **os.environ, "HF_ENDPOINT": url, "HF_TOKEN": "hf_any", "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HOME": str(home / ".hf"),
    }  # fmt: skip
    program = (
        "import sys; from pathlib import Path; import las_builder.publish.push as p\n"
        "p.AT_ONCE = 1\n"
        "try: print(p.push(Path(sys.argv[1]), sys.argv[2]))\n"
        "except p.StageError as error: print(error); sys.exit(1)"
    )
    command = [sys.executable, "-c", program, str(home), f"hf://datasets/{REPO}"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_hub_that_refuses_half_way_gets_each_file_once(home: Path) -> None:
    """Basic LFS transfers and commits; Xet is off."""
    shards = sorted((home / "shards").glob("*.tar"))
    assert len(shards) == 4
    with hub(REPO) as there:
        there.refuse_after = 2
        first = las_push(home, there.url)
        assert first.returncode == 1, first.stderr
        assert "the same command goes on" in first.stdout, first.stderr
        assert there.commits == ["1 shards", "1 shards"]
        assert "catalog/catalog.json" not in there.files
        there.refuse_after = None
        second = las_push(home, there.url)
        assert second.returncode == 0, second.stdout + second.stderr
        want = {
            k: v for k, v in digests(home).items() if not k.startswith(("shards/.parts", ".hf"))
        }
        assert set(there.files) == set(want)
        for path in want:
            assert there.read(path) == (home / path).read_bytes()
        assert len(there.puts) == len(set(there.puts)) == 4 + 2  # shards, items and index: once
        commits = list(there.commits)
        assert commits[-1] == "What describes the corpus"
        third = las_push(home, there.url)
        assert third.stdout.strip() == f"(0, {len(want)})", third.stderr
        assert there.commits == commits
        assert json.loads(there.read("croissant.json"))["name"] == "tiny"


def test_a_hub_that_does_not_answer_is_one_line(home: Path) -> None:
    with socket.socket() as nobody:  # bound and not listening: connections are refused
        nobody.bind(("127.0.0.1", 0))
        done = las_push(home, f"http://127.0.0.1:{nobody.getsockname()[1]}")
    assert done.returncode == 1
    assert done.stdout.startswith(f"hf://datasets/{REPO}: "), done.stderr
    assert done.stdout.strip().endswith("the same command goes on")
