"""Where everything of a corpus lies, and the one way to write it: whole or not at all.

work/<corpus>/
  recipe.json  plan.parquet  splits.parquet  plan.png  plan.html  leaks.json  leaks.html
  <subset>/scenes/<round>.parquet  <subset>/cube.zarr/<round>  <subset>/blocks/<block>.json
  <subset>/audit/  <subset>/decisions.csv (the user's)  <subset>/consensus.json
  shards/  index.parquet  manifest.json  rejected.csv  catalog/  README.md  croissant.json
  versions.json  weights.parquet   where the corpus was extended
  logs/        what is particular to a run: attempts, times, rates; outside all hashes
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from las_builder.errors import WorkspaceError

EXTENDED = "extended"
"""Key of a lock: subset to the count before its first extension."""

YEARS = "years"
"""Key of a lock: subset that `las extend --period` added to {of: the subset with its sites, period}."""

ACCEPTED = "accepted_licences"
"""Key of a lock: what `--accept-licence` named when the plan was made."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folder of one corpus."""

    root: Path

    @property
    def lock(self) -> Path:
        """The resolved recipe that this workspace was made by."""
        return self.root / "recipe.json"

    @property
    def plan(self) -> Path:
        """GeoParquet, a row a site of every subset, reserves included."""
        return self.root / "plan.parquet"

    @property
    def splits(self) -> Path:
        """The blocks that hold sites, and the split of each."""
        return self.root / "splits.parquet"

    @property
    def plan_picture(self) -> Path:
        """A map of the plan."""
        return self.root / "plan.png"

    @property
    def plan_page(self) -> Path:
        """What the plan asks and what it got, beside the target population; one file."""
        return self.root / "plan.html"

    @property
    def leaks(self) -> Path:
        """{violations, nearest, checked, unchecked}."""
        return self.root / "leaks.json"

    @property
    def leaks_page(self) -> Path:
        """The same with a map of the blocks, to be read."""
        return self.root / "leaks.html"

    @property
    def audit_page(self) -> Path:
        """What the labels say of each other, subset beside subset; JSON beside it."""
        return self.root / "audit.html"

    @property
    def shards(self) -> Path:
        """WebDataset shards of every subset and split."""
        return self.root / "shards"

    @property
    def index(self) -> Path:
        """Byte offset and length of every member of every shard."""
        return self.root / "index.parquet"

    @property
    def manifest(self) -> Path:
        """Checksums, counts, histograms, statistics, and the hash of everything it came from."""
        return self.root / "manifest.json"

    @property
    def versions(self) -> Path:
        """The shards of earlier versions, which are not written again: see `run.versions`."""
        return self.root / "versions.json"

    @property
    def weights(self) -> Path:
        """Final weights of all sites, where shards of earlier versions state older ones."""
        return self.root / "weights.parquet"

    @property
    def rejected(self) -> Path:
        """The stored patches that no shard has, and the filter or decision that left them out."""
        return self.root / "rejected.csv"

    @property
    def catalog(self) -> Path:
        """The STAC collection of the corpus."""
        return self.root / "catalog"

    @property
    def logs(self) -> Path:
        """Attempts, times, rates."""
        return self.root / "logs"

    def subset(self, name: str) -> SubsetSpace:
        """The folder of one subset."""
        return SubsetSpace(self.root / name)

    def verify(self, recipe: Mapping[str, Any]) -> None:
        """Refuse a workspace that another recipe made; one that is not there yet is free.

        Raises:
            WorkspaceError: Another recipe made it; names the first key that differs.
        """
        found, wanted = self.locked(), json.loads(canonical_json(recipe))
        for key in (EXTENDED, ACCEPTED, YEARS):  # which decide no byte of the plan
            found.pop(key, None)
        if found and found != wanted:
            key, old, new = _first_difference(found, wanted)
            way_out = "Choose another --work, or remove the folder."
            if key.endswith(".sites.count") and (new or 0) > (old or 0):
                way_out = (
                    "`las sample --extend` or `las extend` raises it; or choose another --work."
                )
            elif key.endswith(".sites.count") and self.locked().get(EXTENDED):
                way_out = (
                    f"The plan was extended: write {old} into the recipe, or say --count {old}."
                )
            raise WorkspaceError(
                self.lock, key, new, f"{old!r}, which made this workspace", way_out
            )

    def locked(self) -> dict[str, Any]:
        """The recipe that made the workspace, and by `EXTENDED` the count that each extended
        subset was first drawn with; empty: none has.
        """
        return dict(json.loads(self.lock.read_text())) if self.lock.exists() else {}

    @property
    def accepted(self) -> frozenset[str]:
        """Whose licences the user accepted when the plan was made."""
        return frozenset(self.locked().get(ACCEPTED, []))

    def claim(self, recipe: Mapping[str, Any], accepted: Iterable[str] = ()) -> None:
        """Make the workspace this recipe's.

        Args:
            recipe: See `Corpus.lock`.
            accepted: Whose licences the user accepts.

        Raises:
            WorkspaceError: Another recipe made it; or the disk is full or read-only.
        """
        self.verify(recipe)
        if not self.lock.exists():
            names = {ACCEPTED: sorted(accepted)} if accepted else {}
            write_bytes(self.lock, canonical_json({**recipe, **names}))


@dataclass(frozen=True, slots=True)
class SubsetSpace:
    """The folder of one subset of a corpus."""

    root: Path

    def scenes(self, round_: int) -> Path:
        """A row a pinned scene, and a row a gap."""
        return self.root / "scenes" / f"{round_}.parquet"

    def scene_parts(self, round_: int) -> Path:
        """Finished pieces of a scene search that has not ended."""
        return self.root / "scenes" / f"{round_}.parts"

    @property
    def searched(self) -> Path:
        """What became of the scenes that were found, by stratum."""
        return self.root / "scenes.json"

    @property
    def cube(self) -> Path:
        """Zarr v3, one group a round."""
        return self.root / "cube.zarr"

    @property
    def blocks(self) -> Path:
        """One manifest a finished block."""
        return self.root / "blocks"

    def block(self, name: str) -> Path:
        """The manifest of a block; it is there if and only if the block is done."""
        return self.blocks / f"{name}.json"

    def added(self, name: str, product: str) -> Path:
        """The manifest of a product that joined a block later; done if and only if it is there."""
        return self.blocks / f"{name}.{product}.json"

    def consumed(self, name: str) -> Path:
        """There if and only if the images of a block were freed after packing."""
        return self.blocks / f"{name}.consumed"

    @property
    def audit(self) -> Path:
        """What the labels say of each other."""
        return self.root / "audit"

    @property
    def consensus(self) -> Path:
        """What makes one label of several products, as fitted; with what it changed."""
        return self.root / "consensus.json"

    @property
    def decisions(self) -> Path:
        """What reviewers decided about sites; written by people, read by `las pack`."""
        return self.root / "decisions.csv"

    def rounds(self) -> list[int]:
        """The rounds whose scenes are pinned, in order."""
        found = (self.root / "scenes").glob("*.parquet")
        return sorted(int(path.stem) for path in found)


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces that depend on anything: equal values, equal bytes."""
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        WorkspaceError: The disk is full or read-only.
    """
    with writing(path) as part:
        part.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write canonical JSON whole or not at all."""
    write_bytes(path, canonical_json(value))


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well.

    The name appears only when the content is whole and on the disk; a run that is killed leaves a
    file that starts with a dot, that no reader looks at, and that the next write of the same name
    sweeps away.

    Raises:
        WorkspaceError: The disk is full or read-only.
    """
    part: Path | None = None
    try:
        with plain_disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            os.close(handle)
            part = Path(name)
            yield part
            try:
                with part.open("rb") as file:
                    os.fsync(file.fileno())
                part.chmod(0o644)
                part.replace(path)
            except FileNotFoundError:
                # Another run wrote the same file meanwhile, and swept ours away as stale.
                if not path.exists():
                    raise
            part = None
            for stale in path.parent.glob(f".{path.name}.*"):
                stale.unlink(missing_ok=True)  # of a run that was killed
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def writing_folder(path: Path) -> Iterator[Path]:
    """Like `writing`, for a folder; if another run finished it first, that one stays.

    Raises:
        WorkspaceError: The disk is full or read-only.
    """
    part: Path | None = None
    try:
        with plain_disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
            part.chmod(0o755)
            yield part
            try:
                part.rename(path)
                part = None
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            for stale in path.parent.glob(f".{path.name}.*"):
                shutil.rmtree(stale, ignore_errors=True)
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)


_DISK = {
    errno.ENOSPC: "a disk with free space",
    errno.EDQUOT: "a disk with free quota",
    errno.EROFS: "a disk that can be written",
    errno.EACCES: "a folder that you may write",
    errno.EPERM: "a folder that you may write",
    errno.EFBIG: "a disk that takes files of this size",
}


@contextlib.contextmanager
def plain_disk_errors(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into one line of ours.

    Raises:
        WorkspaceError: The disk is full or read-only.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK:
            raise
        raise WorkspaceError(
            path,
            "disk",
            os.strerror(error.errno or 0),
            _DISK[error.errno or 0],
            "Free or choose another disk (--work), then run the same command again.",
        ) from error


def sha256_file(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_tree(path: Path) -> str:
    """Hex digest of a folder: names and content of every file, in order of name."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_file(file)}\n".encode())
    return digest.hexdigest()


def _first_difference(old: Any, new: Any, key: str = "recipe") -> tuple[str, Any, Any]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                return _first_difference(old.get(name), new.get(name), f"{key}.{name}")
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (a, b) in enumerate(zip(old, new, strict=True)):
            if a != b:
                return _first_difference(a, b, f"{key}[{i}]")
    return key.removeprefix("recipe."), old, new
