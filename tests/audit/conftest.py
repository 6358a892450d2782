"""A small cube with made-up codes, counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import zarr

from las_builder.audit import Counts, Row, count_block, jobs_of
from las_builder.catalogs import LabelProduct


@pytest.fixture
def counted(tmp_path: Path) -> Callable[..., Counts]:
    """Codes (patch, y, x) by product, in rows that belong to sites, as counts."""

    def of(
        products: Sequence[LabelProduct], labels: Sequence[np.ndarray], rows: Sequence[Row],
        size: int = 100, name: str = "0",
    ) -> Counts:  # fmt: skip
        group = zarr.open_group(tmp_path / name, mode="w", zarr_format=3)
        group.attrs["block_patches"] = 2
        for product, codes in zip(products, labels, strict=True):
            group.create_array(f"labels/{product.name}", data=codes)
        jobs = jobs_of(tmp_path / name, rows, tuple(products), tmp_path / f"counts-{name}", size)
        return Counts(tuple(count_block(job) for job in jobs))

    return of
