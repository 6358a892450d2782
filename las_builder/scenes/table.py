"""`scenes/<round>.parquet`: a row a pinned scene, and a row a gap."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from affine import Affine

from las_builder.core.grid import Grid
from las_builder.core.types import AssetRef, Gap, GapReason, PinnedMap, PinnedScene, Scene
from las_builder.core.workspace import canonical_json, writing


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the search for scenes of one site came to."""

    site: str
    pinned: tuple[PinnedScene, ...]
    gap: Gap | None
    counts: Mapping[str, int] = field(default_factory=dict)
    """Scenes, by what became of them. found: by the search; partial: do not hold the patch;
    coarse: coarser than the recipe says; silent: of days of which the
    validity band says nothing; unlabelled: without their label map; lattice: not on
    that of the composite; looked: at over the patch; cloudy: not clear enough there."""


ROW_GROUP = 512
"""Rows that are read together: `PinnedRows` holds one group."""

HELD_BYTES = 256 * 2**20
"""Of groups of rows, where several are held."""

_SCHEMA = pa.schema(
    [
        ("site", pa.string()),
        ("slot", pa.int16()),
        ("scene", pa.string()),
        ("datetime", pa.timestamp("us", tz="UTC")),
        ("cloud_cover", pa.float64()),
        ("clear", pa.float64()),
        ("crs", pa.string()),
        ("transform", pa.list_(pa.float64(), 6)),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("scene_crs", pa.string()),
        ("scene_transform", pa.list_(pa.float64(), 6)),
        ("scene_width", pa.int32()),
        ("scene_height", pa.int32()),
        ("assets", pa.string()),
        ("properties", pa.string()),
        ("composite", pa.string()),
        ("members", pa.string()),
        ("maps", pa.string()),
        ("counts", pa.string()),
        ("href", pa.string()),
        ("gap", pa.string()),
        ("gap_detail", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class SceneTable:
    """The pinned scenes of one round, in the order in which the cube holds them."""

    outcomes: tuple[Outcome, ...]

    @property
    def patches(self) -> list[PinnedScene]:
        """One for each row of the cube."""
        return [pinned for outcome in self.outcomes for pinned in outcome.pinned]

    @property
    def gaps(self) -> list[Gap]:
        """Sites for which too few scenes were found."""
        return [outcome.gap for outcome in self.outcomes if outcome.gap]

    @property
    def sites(self) -> list[str]:
        """Every site that was searched in this round."""
        return [outcome.site for outcome in self.outcomes]

    def write(self, path: Path) -> None:
        """Write whole or not at all; equal tables give equal bytes."""
        rows = [row for outcome in self.outcomes for row in _rows(outcome)]
        table = pa.Table.from_pylist(rows, schema=_SCHEMA)
        _write(table, path)

    @classmethod
    def read(cls, path: Path) -> SceneTable:
        """What `write` wrote, exactly."""
        grouped: dict[str, list[dict[str, Any]]] = {}
        for row in pq.read_table(path, schema=_SCHEMA).to_pylist():
            grouped.setdefault(row["site"], []).append(row)
        return cls(tuple(_outcome(site, rows) for site, rows in grouped.items()))


@dataclass(frozen=True, slots=True)
class Outline:
    """Of a scene table, only how each site ended: small for any number of sites."""

    sites: tuple[str, ...]
    """In the order of the table."""

    gaps: Mapping[str, str]
    """Site to reason."""

    patches: int

    @classmethod
    def read(cls, path: Path) -> Outline:
        """From two columns of a table."""
        table = pq.read_table(path, columns=["site", "gap"])
        sites, gaps = table["site"].to_pylist(), table["gap"].to_pylist()
        return cls(
            tuple(dict.fromkeys(sites)),
            {site: gap for site, gap in zip(sites, gaps, strict=True) if gap is not None},
            sum(gap is None for gap in gaps),
        )


def counts_in(path: Path) -> Iterator[tuple[str, dict[str, int], str | None]]:
    """Of each site of a table its `Outcome.counts`, and the reason if it is a gap."""
    table = pq.read_table(path, columns=["site", "gap", "counts"], schema=_SCHEMA)
    last = None
    for site, gap, counts in zip(*(column.to_pylist() for column in table.columns), strict=True):
        if site != last:  # the rows of a site follow each other, and the first has its counts
            yield site, json.loads(counts or "{}"), gap
        last = site


def join(parts: Sequence[Path], order: Sequence[str], path: Path) -> None:
    """Write the tables of several searches as one, sites in the order given.

    Raises:
        WorkspaceError: The disk is full or read-only.
    """
    table = pa.concat_tables([pq.read_table(part, schema=_SCHEMA) for part in parts])
    rank = {site: i for i, site in enumerate(order)}
    place = pa.array([rank[site] for site in table["site"].to_pylist()], pa.int64())
    # Stable: the dates of a site keep their order.
    table = table.take(pc.sort_indices(place)) if table.num_rows else table
    _write(table, path)


class PinnedRows:
    """The pinned scenes of a round as a sequence that reads the rows it is asked for.

    A corpus has hundreds of thousands; a task is given the few of its block, so what is held is
    a few groups of rows, whatever the number of sites.

    Args:
        path: `scenes/<round>.parquet`.
        groups: Groups of rows (512 each, about 1 MB, of composites 10) to hold: one where rows are
            asked for in order, more where they are not; fewer where they take more than 256 MB.
    """

    def __init__(self, path: Path, groups: int = 1) -> None:
        self._file = pq.ParquetFile(path)
        gap = self._file.read(columns=["gap"], use_threads=False)["gap"]
        self._pinned = np.flatnonzero(gap.is_null().to_numpy())
        """Row of the file of each row of the cube."""

        sizes = [
            self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)
        ]
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        largest = max((self._file.metadata.row_group(i).total_byte_size for i in range(len(sizes))),
                      default=1)  # fmt: skip
        held = max(1, min(groups, HELD_BYTES // max(largest, 1)))
        self._group = functools.lru_cache(maxsize=held)(self._read_group)

    def __len__(self) -> int:
        return len(self._pinned)

    def rows(self, start: int, stop: int) -> list[PinnedScene]:
        """Rows `start` to `stop` of the round's cube."""
        wanted = self._pinned[start:stop]
        groups = np.searchsorted(self._starts, wanted, side="right") - 1
        out = []
        for group in np.unique(groups).tolist():
            here = wanted[groups == group] - self._starts[group]
            out += [_pinned(row) for row in self._group(group).take(pa.array(here)).to_pylist()]
        return out

    def _read_group(self, group: int) -> pa.Table:
        return self._file.read_row_group(group, use_threads=False)

    def __iter__(self) -> Iterator[PinnedScene]:
        for start in range(0, len(self), 256):
            yield from self.rows(start, start + 256)


def _write(table: pa.Table, path: Path) -> None:
    with writing(path) as part:
        pq.write_table(table, part, compression="zstd", store_schema=True, row_group_size=ROW_GROUP)


def unsigned(href: str) -> str:
    """An href without its signature: tokens expire, names do not."""
    parts = urlsplit(href)
    if parts.scheme not in ("http", "https"):
        return href
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))


def _rows(outcome: Outcome) -> list[dict[str, Any]]:
    counts = _text(dict(outcome.counts)) if outcome.counts else None
    if outcome.gap is not None:
        gap = outcome.gap
        reason = {"gap": gap.reason.value, "gap_detail": gap.detail}
        return [{"site": outcome.site, "counts": counts, **reason}]
    return [
        {
            "site": pinned.site,
            "slot": pinned.slot,
            "scene": pinned.scene.id,
            "datetime": pinned.scene.datetime.astimezone(UTC),
            "cloud_cover": pinned.scene.cloud_cover,
            "clear": pinned.clear,
            **_grid_row(pinned.grid, ""),
            **_grid_row(pinned.scene.grid, "scene_"),
            "assets": _text(_assets(pinned.scene)),
            "properties": _text(dict(pinned.scene.properties)),
            "composite": pinned.scene.composite,
            "members": _members(pinned.scene),
            "maps": _text(_maps(pinned)) if pinned.maps else None,
            "counts": None if i else counts,
            "href": unsigned(pinned.scene.href) or None,
        }
        for i, pinned in enumerate(outcome.pinned)
    ]


def _assets(scene: Scene) -> dict[str, Any]:
    return {
        band: {
            "href": unsigned(ref.href),
            "index": ref.index,
            "scale": ref.scale,
            "offset": ref.offset,
            **_state(ref),
        }
        for band, ref in scene.assets.items()
    }


def _maps(pinned: PinnedScene) -> dict[str, Any]:
    return {
        product: [[one.id, one.href, one.size, one.etag] for one in maps]
        for product, maps in pinned.maps.items()
    }


def _members(scene: Scene) -> str | None:
    """The members of a composite as JSON; None: it is none."""
    if not scene.members:
        return None
    return _text(
        [
            {
                "scene": one.id,
                "datetime": one.datetime.astimezone(UTC).isoformat(),
                "cloud_cover": one.cloud_cover,
                **_grid_row(one.grid, "scene_"),
                "assets": _assets(one),
                "properties": dict(one.properties),
                **({"href": unsigned(one.href)} if one.href else {}),
            }
            for one in scene.members
        ]
    )


def _state(ref: AssetRef) -> dict[str, Any]:
    """What is known of the file, where anything is."""
    said = {"shape": ref.shape and list(ref.shape), "size": ref.size, "etag": ref.etag}
    return {key: value for key, value in said.items() if value is not None}


def _reference(said: dict[str, Any]) -> AssetRef:
    shape = said.pop("shape", None)
    return AssetRef(**said, shape=tuple(shape) if shape else None)


def _text(value: object) -> str:
    return json.dumps(json.loads(canonical_json(value)), sort_keys=True, separators=(",", ":"))


def _grid_row(grid: Grid, prefix: str) -> dict[str, Any]:
    return {
        f"{prefix}crs": grid.crs,
        f"{prefix}transform": list(grid.transform)[:6],
        f"{prefix}width": grid.width,
        f"{prefix}height": grid.height,
    }


def _grid(row: dict[str, Any], prefix: str) -> Grid:
    return Grid(
        row[f"{prefix}crs"],
        Affine(*row[f"{prefix}transform"]),
        row[f"{prefix}width"],
        row[f"{prefix}height"],
    )


def _outcome(site: str, rows: list[dict[str, Any]]) -> Outcome:
    counts = json.loads(rows[0]["counts"] or "{}")
    if rows[0]["gap"] is not None:
        gap = Gap(site, GapReason(rows[0]["gap"]), rows[0]["gap_detail"])
        return Outcome(site, (), gap, counts)
    return Outcome(site, tuple(_pinned(row) for row in rows), None, counts)


def _pinned(row: dict[str, Any]) -> PinnedScene:
    scene = _scene(row, json.loads(row["assets"]), json.loads(row["properties"]))
    if members := row.get("members"):  # a table of an earlier version has no such column
        found = tuple(_scene(one, one["assets"], one["properties"]) for one in json.loads(members))
        scene = replace(scene, composite=row["composite"], members=found)
    maps = {
        product: tuple(PinnedMap(id=i, href=h, size=n, etag=e) for i, h, n, e in found)
        for product, found in json.loads(row.get("maps") or "{}").items()
    }
    return PinnedScene(
        site=row["site"], slot=row["slot"], scene=scene, grid=_grid(row, ""), clear=row["clear"],
        maps=maps,
    )  # fmt: skip


def _scene(row: dict[str, Any], assets: dict[str, Any], properties: dict[str, Any]) -> Scene:
    moment: datetime | str = row["datetime"]
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    return Scene(
        id=row["scene"],
        datetime=moment.astimezone(UTC),
        cloud_cover=row["cloud_cover"],
        grid=_grid(row, "scene_"),
        assets={band: _reference(ref) for band, ref in assets.items()},
        properties=properties,
        href=row.get("href") or "",  # tables of older versions have none
    )
