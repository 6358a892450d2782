"""Sites as columns, and `plan.parquet` and `splits.parquet`: GeoParquet that QGIS opens."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from las_builder.core.options import Splits
from las_builder.core.types import Site
from las_builder.core.workspace import write_bytes
from las_builder.plan.grids import Grids, Names
from las_builder.plan.splits import SPLITS, Blocks, split_of
from las_builder.plan.target import Floats

_PLAIN = (
    "subset", "id", "lon", "lat", "component", "stratum", "rank", "primary", "density",
    "weight_km2", "block", "split",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class SiteTable(Sequence[Site]):
    """Sites as arrays of one length; a `Site` is made when one is asked for.

    Equal to another sequence of sites if the sites are equal, in the same order.
    """

    subset: Names
    id: Names
    lon: Floats
    """NaN: without a place."""

    lat: Floats
    grids: Grids
    component: Names
    stratum: Names
    density: Floats
    """NaN: unknown."""

    weight_km2: Floats
    """NaN: no known chance."""

    rank: NDArray[np.int64]
    primary: NDArray[np.bool_]
    block: NDArray[np.int64]
    split: Names
    p2: Floats
    """Chance of the second phase of a selection, which `density` holds already; NaN: there was none."""

    @classmethod
    def of(cls, sites: Iterable[Site]) -> SiteTable:
        """The columns of some sites."""
        if isinstance(sites, SiteTable):
            return sites
        rows = list(sites)

        def names(key: str) -> Names:
            out = np.empty(len(rows), np.object_)
            out[:] = [getattr(site, key) for site in rows]
            return out

        def numbers(key: str, dtype: Any = np.float64) -> NDArray[Any]:
            values = [getattr(site, key) for site in rows]
            return np.array([np.nan if v is None else v for v in values], dtype)

        return cls(
            subset=names("subset"), id=names("id"), lon=numbers("lon"), lat=numbers("lat"),
            grids=Grids.from_grids([site.grid for site in rows]), component=names("component"),
            stratum=names("stratum"), density=numbers("density"),
            weight_km2=numbers("weight_km2"), rank=numbers("rank", np.int64),
            primary=numbers("primary", np.bool_), block=numbers("block", np.int64),
            split=names("split"), p2=np.full(len(rows), np.nan),
        )  # fmt: skip

    @classmethod
    def join(cls, several: Sequence[SiteTable]) -> SiteTable:
        """One after the other."""
        if not several:
            return cls.of([])
        columns: dict[str, Any] = {
            field.name: np.concatenate([getattr(table, field.name) for table in several])
            for field in dataclasses.fields(cls)
            if field.name != "grids"
        }
        return cls(**columns, grids=Grids.join([table.grids for table in several]))

    def of_rows(self, which: Any) -> SiteTable:
        """Some rows: a slice, a mask or indices."""
        columns: dict[str, Any] = {
            field.name: getattr(self, field.name)[which]
            for field in dataclasses.fields(self)
            if field.name != "grids"
        }
        return SiteTable(**columns, grids=self.grids.of(which))

    def placed(self, sites: Sequence[Site]) -> SiteTable:
        """The same rows with the blocks and splits of the same sites."""
        placed = SiteTable.of(sites)
        return dataclasses.replace(self, block=placed.block, split=placed.split)

    def ordered(self) -> SiteTable:
        """By subset, component, stratum and rank."""
        names = (self.stratum, self.component, self.subset)
        return self.of_rows(np.lexsort([self.rank, *(_numbered(column) for column in names)]))

    def of_subset(self, name: str) -> SiteTable:
        """The rows of one subset."""
        return self.of_rows(self.subset == name)

    def __len__(self) -> int:
        return self.lon.size

    @overload
    def __getitem__(self, which: int) -> Site: ...

    @overload
    def __getitem__(self, which: slice) -> SiteTable: ...

    def __getitem__(self, which: int | slice) -> Site | SiteTable:
        if isinstance(which, slice):
            return self.of_rows(which)
        if not -len(self) <= which < len(self):
            raise IndexError(which)
        density, weight = float(self.density[which]), float(self.weight_km2[which])
        return Site(
            id=self.id[which],
            subset=self.subset[which],
            lon=None if math.isnan(self.lon[which]) else float(self.lon[which]),
            lat=None if math.isnan(self.lat[which]) else float(self.lat[which]),
            grid=self.grids.grid(which),
            component=self.component[which],
            stratum=self.stratum[which],
            density=None if math.isnan(density) else density,
            weight_km2=None if math.isnan(weight) else weight,
            rank=int(self.rank[which]),
            primary=bool(self.primary[which]),
            block=int(self.block[which]),
            split=self.split[which],
        )

    def __iter__(self) -> Iterator[Site]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return NotImplemented if not isinstance(other, Sequence) else False
        return all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]


def write_plan(path: Path, sites: Iterable[Site]) -> None:
    """Write what `plan_parquet` gives.

    Raises:
        WorkspaceError: The disk is full or read-only.
    """
    write_bytes(path, plan_parquet(sites))


def plan_parquet(sites: Iterable[Site]) -> bytes:
    """A row a site, by subset, component, stratum and rank; equal sites, equal bytes."""
    import geopandas
    import shapely

    table = SiteTable.of(sites).ordered()
    columns: dict[str, Any] = {name: getattr(table, name) for name in _PLAIN}
    grids = table.grids
    columns["crs"] = grids.crs
    nothing = np.zeros(len(table))
    transform = np.column_stack(
        [grids.pixel[:, 0], nothing, grids.west, nothing, -grids.pixel[:, 1], grids.north]
    )
    columns["transform"] = list(transform)
    columns["p2"] = table.p2
    columns["width"], columns["height"] = grids.width.astype(int), grids.height.astype(int)
    points = shapely.points(table.lon, table.lat)
    points[np.isnan(table.lon)] = None
    return _parquet(geopandas.GeoDataFrame(columns, geometry=points, crs="EPSG:4326"))


def _numbered(names: Names) -> NDArray[np.int64]:
    """The place of each name in the order of names."""
    at = {name: i for i, name in enumerate(sorted(set(names.tolist())))}
    return np.array([at[name] for name in names.tolist()], np.int64)


def read_plan(path: Path) -> SiteTable:
    """What `write_plan` wrote, exactly."""
    import pyarrow.parquet as pq

    names = [*_PLAIN, "p2", "crs", "transform", "width", "height"]
    found = pq.read_table(path, columns=names)
    if not len(found):
        return SiteTable.of([])
    columns: dict[str, Any] = {}
    for name in names[:-3]:
        column = found[name]
        if name in ("subset", "component", "stratum", "split", "crs"):  # few different ones
            coded = column.combine_chunks().dictionary_encode()
            words = np.array([*coded.dictionary.to_pylist(), None], np.object_)
            codes = coded.indices.fill_null(len(words) - 1)
            columns[name] = words[np.asarray(codes, np.int64)]
        else:
            columns[name] = column.to_numpy()
    transform = np.asarray(found["transform"].combine_chunks().flatten(), np.float64)
    transform = transform.reshape(-1, 6)
    grids = Grids(
        columns.pop("crs"),
        transform[:, 2].copy(),
        transform[:, 5].copy(),
        np.column_stack([transform[:, 0], -transform[:, 4]]),
        found["width"].to_numpy().astype(np.int32),
        found["height"].to_numpy().astype(np.int32),
    )
    return SiteTable(grids=grids, **columns)


def write_splits(path: Path, sites: Iterable[Site], splits: Splits) -> None:
    """Write the blocks that hold sites: number, split, box, and sites by split.

    Raises:
        WorkspaceError: The disk is full or read-only.
    """
    import geopandas
    import shapely

    table = SiteTable.of(sites)
    placed = table.block >= 0
    numbers, block = np.unique(table.block[placed], return_inverse=True)
    kinds = split_of(numbers, splits) if numbers.size else numbers
    columns: dict[str, Any] = {"block": numbers, "split": [SPLITS[kind] for kind in kinds.tolist()]}
    for name in (*SPLITS, "buffer", "benchmark"):
        here = block[table.split[placed] == name]
        columns[f"sites_{name}"] = np.bincount(here, minlength=numbers.size)
    boxes = shapely.box(*Blocks.of(splits.block_km).box(numbers))
    frame = geopandas.GeoDataFrame(columns, geometry=boxes, crs="EPSG:4326")
    write_bytes(path, _parquet(frame))


def _parquet(frame: Any) -> bytes:
    done = io.BytesIO()
    frame.to_parquet(done, index=False, compression="zstd")
    return done.getvalue()
