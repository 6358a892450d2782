"""`las export --lmdb`: a corpus in the records of the LMDBs that the authors of LAS publish.

A record is `pickle((bytes, shape, name))` under `<kind>_<i>`: images under `s2_<i>` (CHW, the type of
the provider's numbers), labels under `dw_<i>`, `osm_<i>` (HW, uint8). That is how NoLDO-S12 of the
same first author has them, and LAS names its own `dw_test_lmdb`; that LAS has the same records is an
assumption. `access.lmdb` reads them without running their pickles.
"""

from __future__ import annotations

import pickle  # written, never read: it is the form of those who read it
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from las_builder.core.workspace import writing_folder
from las_builder.errors import InputError
from las_builder.pack import Decoded

IMAGES = {"sentinel-2": "s2", "landsat": "l8"}
LABELS = {"dynamic-world": "dw", "openstreetmap": "osm"}


def prefix(name: str, known: Mapping[str, str], other: str) -> str:
    """How keys of an imagery source or label product begin."""
    return next((short for start, short in known.items() if name.startswith(start)), other)


def record(array: NDArray[Any], name: str) -> bytes:
    """One value: the bytes of the array in native order, its shape, and the name of the sample."""
    return pickle.dumps((np.ascontiguousarray(array).tobytes(), array.shape, name), protocol=4)


def export(folder: Path, samples: Iterable[Decoded], *, image: str, label: str) -> int:
    """Write `<image>_lmdb` and `<label>_lmdb` with the keys `<image>_<i>`, `<label>_<i>`.

    Args:
        folder: To hold both; made whole or not at all.
        samples: In the order of their numbers.
        image: Prefix of the images.
        label: Prefix of the labels.

    Returns:
        How many samples.

    Raises:
        InputError: The folder is there, or the package lmdb is not.
    """
    try:
        import lmdb
    except ImportError as error:
        raise InputError(
            "las export", "--lmdb", "no package lmdb", "lmdb", "pip install lmdb"
        ) from error
    if folder.exists():
        raise InputError("las export", "--lmdb", str(folder), "a folder that is not there yet")
    counts: Counter[str] = Counter()
    with writing_folder(folder) as part:
        # The size of the map is an upper bound; the file is as large as what is in it.
        open_at = {
            kind: lmdb.open(str(part / f"{kind}_lmdb"), map_size=1 << 42, sync=False)
            for kind in (image, label)
        }
        try:
            for sample in samples:
                for kind, array in ((image, sample.image), (label, sample.label)):
                    with open_at[kind].begin(write=True) as batch:
                        key = f"{kind}_{counts[kind]}"
                        batch.put(key.encode(), record(array, str(sample.metadata["key"])))
                        counts[kind] += 1
        finally:
            for one in open_at.values():
                one.sync(True)
                one.close()
    return counts[label]
