"""`plan.parquet` and `splits.parquet`: GeoParquet that QGIS opens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine

from las_builder.core.grid import Grid
from las_builder.core.options import Splits
from las_builder.core.types import Site
from las_builder.core.workspace import writing
from las_builder.plan.splits import SPLITS, Blocks, split_of

_PLAIN = (
    "subset", "id", "lon", "lat", "component", "stratum", "rank", "primary", "density",
    "weight_km2", "block", "split",
)  # fmt: skip


def write_plan(path: Path, sites: Sequence[Site]) -> None:
    """Write a row a site, by subset, component, stratum and rank; equal sites, equal bytes.

    Raises:
        WorkspaceError: The disk is full or read-only.
    """
    import geopandas
    import shapely

    rows = sorted(sites, key=lambda s: (s.subset, s.component, s.stratum, s.rank, s.id))
    columns: dict[str, Any] = {name: [getattr(s, name) for s in rows] for name in _PLAIN}
    columns["crs"] = [s.grid.crs for s in rows]
    columns["transform"] = [list(s.grid.transform)[:6] for s in rows]
    columns["width"] = [s.grid.width for s in rows]
    columns["height"] = [s.grid.height for s in rows]
    points = shapely.points([s.lon for s in rows], [s.lat for s in rows])
    _write(geopandas.GeoDataFrame(columns, geometry=points, crs="EPSG:4326"), path)


def read_plan(path: Path) -> list[Site]:
    """What `write_plan` wrote, exactly."""
    import pyarrow.parquet as pq

    names = [*_PLAIN, "crs", "transform", "width", "height"]
    return [
        Site(
            **{name: row[name] for name in _PLAIN},
            grid=Grid(row["crs"], Affine(*row["transform"]), row["width"], row["height"]),
        )
        for batch in pq.ParquetFile(path).iter_batches(8192, columns=names)
        for row in batch.to_pylist()
    ]


def write_splits(path: Path, sites: Sequence[Site], splits: Splits) -> None:
    """Write the blocks that hold sites: number, split, box, and sites by split.

    Raises:
        WorkspaceError: The disk is full or read-only.
    """
    import geopandas
    import shapely

    inside = Counter((site.block, site.split) for site in sites if site.block >= 0)
    numbers = np.array(sorted({block for block, _ in inside}), np.int64)
    kinds = split_of(numbers, splits) if numbers.size else numbers
    columns: dict[str, Any] = {
        "block": numbers,
        "split": [SPLITS[kind] for kind in kinds.tolist()],
        **{
            f"sites_{name}": [inside[block, name] for block in numbers.tolist()]
            for name in (*SPLITS, "buffer")
        },
    }
    boxes = shapely.box(*Blocks.of(splits.block_km).box(numbers))
    _write(geopandas.GeoDataFrame(columns, geometry=boxes, crs="EPSG:4326"), path)


def _write(frame: Any, path: Path) -> None:
    with writing(path) as part:
        frame.to_parquet(part, index=False, compression="zstd")
