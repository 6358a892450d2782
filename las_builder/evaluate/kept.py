"""Arrays that a run keeps on disk to go on with: whole, or as if they were not there."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from las_builder.core.workspace import writing


def read(file: Path) -> dict[str, NDArray[Any]] | None:
    """The arrays of a file by name; None: it is not there, or it is damaged."""
    try:
        with file.open("rb") as opened:
            # NumPy would take something else for a pickle, or for one bare array.
            if not zipfile.is_zipfile(opened):
                return None
            opened.seek(0)
            with np.load(opened, allow_pickle=False) as kept:
                return {name: kept[name] for name in kept.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error):
        return None


def write(file: Path, **arrays: Any) -> None:
    """Write arrays by name, whole or not at all.

    Raises:
        WorkspaceError: The disk is full or read-only.
    """
    with writing(file) as part, part.open("wb") as opened:
        np.savez(opened, **arrays)
