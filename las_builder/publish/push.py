"""`las push`: a published corpus to a folder, any URL of fsspec, or the Hugging Face hub.

Only what is not there yet is sent, shards first and what describes them last, so that a corpus that
is half there has no catalogue, or that of before. Given again, the same command goes on.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from las_builder.core.workspace import canonical_json, sha256_file
from las_builder.errors import InputError, LasError, StageError

LEDGER = "published.json"
"""At the target: path to SHA-256 of what was sent whole."""

HUB = "hf://datasets/"
AT_ONCE = 2 << 30
"""Bytes of a commit to the hub, about: the most that is sent again after a failure."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of a corpus."""

    path: str
    """From the folder of the corpus."""

    size: int
    sha256: str


def files_of(root: Path, manifest: Mapping[str, Any]) -> tuple[list[File], list[File]]:
    """What makes a published corpus: its shards, and the files that describe them.

    Raises:
        InputError: It was not published; a shard is missing or of another size.
    """
    shards = [File(f"shards/{s['name']}", s["size"], s["sha256"]) for s in manifest["shards"]]
    for file in shards:
        there = root / file.path
        if not there.is_file() or there.stat().st_size != file.size:
            raise InputError(
                there, "size", "missing or another", f"{file.size} bytes", "Run `las pack`."
            )
    if not (root / "catalog" / "catalog.json").is_file():
        raise InputError(root, "catalog", "none", "a published corpus", "Run `las publish`.")
    inside = sorted(p for p in (root / "catalog").rglob("*") if p.is_file())
    names = ("index.parquet", "manifest.json", "leaks.json", "croissant.json", "README.md")
    # The catalogue itself is last: it is what readers look for.
    rest = [path for path in inside if path.name != "catalog.json"]
    rest += [root / name for name in names if (root / name).is_file()]
    rest.append(root / "catalog" / "catalog.json")
    return shards, [
        File(p.relative_to(root).as_posix(), p.stat().st_size, sha256_file(p))
        for p in rest if not p.name.startswith(".")
    ]  # fmt: skip


def push(root: Path, url: str, *, told: Callable[[str], None] = lambda _: None) -> tuple[int, int]:
    """Send a published corpus.

    Args:
        root: Of the workspace.
        url: A folder, `hf://datasets/OWNER/NAME`, or any URL that fsspec can write.
        told: Is told each file that is sent.

    Returns:
        Files sent, and files that were there already.

    Raises:
        InputError: Nothing to send; a URL that is none.
        StageError: The target refused; what was sent stays, the same command goes on.
    """
    manifest = json.loads((root / "manifest.json").read_text())
    shards, rest = files_of(root, manifest)
    send = _to_hub if url.startswith("hf://") else _to_files
    try:
        return send(root, url, shards, rest, told)
    except Exception as error:
        # The hub's client lets out what its HTTP package raises (httpx, httpx2: it varies with the
        # version), and that is no OSError where nobody answers.
        of_http = type(error).__module__.startswith("httpx")
        if isinstance(error, LasError) or not (
            isinstance(error, OSError | RuntimeError) or of_http
        ):
            raise
        raise StageError(
            f"{url}: {str(error).strip() or type(error).__name__}; the same command goes on"
        ) from error


def _to_files(
    root: Path, url: str, shards: Sequence[File], rest: Sequence[File], told: Callable[[str], None]
) -> tuple[int, int]:
    from fsspec.core import url_to_fs

    try:
        files, base = url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise InputError(
            "las push", "URL", url, "a folder or a URL of fsspec", str(error)
        ) from error
    base = base.rstrip("/")
    ledger_at = f"{base}/{LEDGER}"
    before: dict[str, str] = (
        json.loads(files.cat_file(ledger_at)) if files.exists(ledger_at) else {}
    )
    done = dict(before)
    sent = 0

    def note(known: Mapping[str, str]) -> None:
        files.pipe_file(ledger_at, canonical_json(known))

    for file in (*shards, *rest):
        target = f"{base}/{file.path}"
        if (
            done.get(file.path) == file.sha256
            and files.exists(target)
            and files.size(target) == file.size
        ):
            continue
        files.makedirs(target.rpartition("/")[0], exist_ok=True)
        if done.pop(file.path, None) is not None:
            note(done)  # half of a new file is not the old one
        files.put_file(str(root / file.path), target)
        done[file.path] = file.sha256
        sent += 1
        told(file.path)
        if file.path.startswith("shards/"):
            note(done)
    wanted = {file.path for file in (*shards, *rest)}
    for path in sorted(set(done) - wanted):
        if files.exists(f"{base}/{path}"):
            files.rm_file(f"{base}/{path}")
    final = {path: digest for path, digest in done.items() if path in wanted}
    if final != before:
        note(final)
    return sent, len(wanted) - sent


def _to_hub(
    root: Path, url: str, shards: Sequence[File], rest: Sequence[File], told: Callable[[str], None]
) -> tuple[int, int]:
    """Commits of about `AT_ONCE` bytes; the last has what describes the corpus."""
    name = url.removeprefix(HUB)
    if not url.startswith(HUB) or name.count("/") != 1 or not all(name.split("/")):
        raise InputError("las push", "URL", url, f"{HUB}OWNER/NAME")
    try:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    except ImportError as error:
        raise InputError(
            "las push", "URL", url, "the package huggingface_hub", "pip install huggingface_hub"
        ) from error
    api = HfApi()
    api.create_repo(name, repo_type="dataset", exist_ok=True)
    there = {
        entry.path: entry.lfs.sha256 if entry.lfs else entry.blob_id
        for entry in api.list_repo_tree(name, repo_type="dataset", recursive=True)
        if hasattr(entry, "blob_id")
    }

    def missing(file: File) -> bool:
        found = there.get(file.path)
        return found is None or file.sha256 != found != _git_id(root / file.path)

    def add(file: File) -> Any:
        told(file.path)
        return CommitOperationAdd(file.path, str(root / file.path))

    def commit(operations: Sequence[Any], title: str) -> None:
        api.create_commit(name, operations, commit_message=title, repo_type="dataset")

    wanted = [file for file in shards if missing(file)]
    for some in _batches(wanted):
        commit([add(file) for file in some], f"{len(some)} shards")
    new = [file for file in rest if missing(file)]
    ours = {file.path for file in (*shards, *rest)}
    stale = sorted(p for p in there if p.startswith(("shards/", "catalog/")) and p not in ours)
    if new or stale:
        commit(
            [*(CommitOperationDelete(path) for path in stale), *(add(file) for file in new)],
            "What describes the corpus",
        )
    sent = len(wanted) + len(new)
    return sent, len(ours) - sent


def _batches(files: Sequence[File]) -> Iterator[list[File]]:
    """Files in their order, about `AT_ONCE` bytes at a time."""
    ends = itertools.accumulate(file.size for file in files)
    for _, some in itertools.groupby(
        zip(files, ends, strict=True), key=lambda pair: (pair[1] - 1) // AT_ONCE
    ):
        yield [file for file, _ in some]


def _git_id(path: Path) -> str:
    """How git names the content of a file that is not in LFS."""
    found = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            found.update(part)
    return found.hexdigest()
