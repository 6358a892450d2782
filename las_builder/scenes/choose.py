"""Search, rank, look at the validity band over the patch, keep what is clear enough there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import numpy as np
from affine import Affine

from las_builder.access import Access, ReadRequest, SearchRequest, pin_files
from las_builder.catalogs import Imagery
from las_builder.core.grid import Grid, from_lonlat
from las_builder.core.options import Dates, Patch
from las_builder.core.types import Gap, GapReason, PinnedScene, Scene, Site
from las_builder.scenes.table import Outcome

MAX_TRIES = 6
"""Scenes looked at for one date before it is given up. The scene-wide cloud share ranks them, so
after six the next is hardly ever better; each look costs one small read."""

_GSD_SLACK = 1.01
"""NAIP pixels are 0.598-0.601 m where the product says 0.6."""


def pin(
    access: Access,
    imagery: Imagery,
    sites: Sequence[Site],
    *,
    dates: Dates,
    patch: Patch,
    bands: Sequence[str] = (),
) -> list[Outcome]:
    """Choose the scenes of some sites, in the order of the sites.

    All sites are searched in one request, and each round of looks is one request, because some
    providers answer many sites at once.

    Args:
        access: Who is asked.
        imagery: What for.
        sites: Any sites of one subset.
        dates: Period, slots, how clear.
        patch: The recipe's patch; its `gsd` decides what is too coarse.
        bands: Those that will be read; of their files on the web and of the validity band's, size
            and ETag are pinned.
    """
    found = access.search(
        imagery,
        [
            SearchRequest(
                site=site.id, grid=site.grid, period=dates.period, max_cloud=dates.max_cloud
            )
            for site in sites
        ],
    )
    searches = [
        _Search.begin(site, scenes, dates, patch) for site, scenes in zip(sites, found, strict=True)
    ]
    while open_ := [(search, look) for search in searches if (look := search.next_look())]:
        shares = _clear_shares(access, imagery, [look for _, look in open_])
        for (search, look), share in zip(open_, shares, strict=True):
            search.record(look, share, dates.patch_min_clear)
    outcomes = [search.outcome(dates) for search in searches]
    files = [*bands, *([imagery.validity.band] if bands and imagery.validity.band else [])]
    return [
        replace(o, pinned=tuple(replace(p, scene=pin_files(p.scene, files)) for p in o.pinned))
        for o in outcomes
    ]


@dataclass(frozen=True, slots=True)
class _Look:
    """One scene about to be looked at, on the grid that the site would have."""

    site: str
    slot: int
    scene: Scene
    grid: Grid


@dataclass(slots=True)
class _Search:
    """What is known of one site while its scenes are being chosen."""

    site: Site
    patch: Patch
    queues: list[list[Scene]]
    """Per slot, best first."""

    wanted: int
    """Scenes to take from each queue."""

    seen: int
    """Scenes that cover the patch."""

    too_coarse: int
    pinned: list[PinnedScene] = field(default_factory=list)
    tries: int = 0
    slot: int = 0

    @classmethod
    def begin(cls, site: Site, scenes: list[Scene], dates: Dates, patch: Patch) -> _Search:
        limit = (patch.gsd or math.inf) * _GSD_SLACK
        covering = [scene for scene in scenes if covers(scene.grid, site.grid)]
        fine = [scene for scene in covering if max(scene.grid.pixel) <= limit]
        if dates.choose == "seasons":
            slots = dates.period.slots(dates.per_site)
            queues = [
                _rank(
                    [s for s in fine if slot.holds(s.datetime)], site, _middle(slot.start, slot.end)
                )
                for slot in slots
            ]
            wanted = 1
        else:
            queues = [_rank(fine, site, _middle(dates.period.start, dates.period.end))]
            wanted = dates.per_site
        return cls(site, patch, queues, wanted, len(covering), len(covering) - len(fine))

    def next_look(self) -> _Look | None:
        while self.slot < len(self.queues):
            queue = self.queues[self.slot]
            enough = sum(p.slot == self.slot for p in self.pinned) >= self.wanted
            if enough or not queue or self.tries >= MAX_TRIES * self.wanted:
                self.slot, self.tries = self.slot + 1, 0
                continue
            self.tries += 1
            scene = queue.pop(0)
            return _Look(self.site.id, self.slot, scene, self._grid_for(scene))
        return None

    def _grid_for(self, scene: Scene) -> Grid:
        if self.pinned:
            return self.pinned[0].grid
        if self.patch.lattice == "source":
            return self.site.grid
        return settle(self.site.grid, scene.grid)

    def record(self, look: _Look, share: float, enough: float) -> None:
        if share >= enough:
            self.pinned.append(
                PinnedScene(
                    site=look.site,
                    slot=look.slot,
                    scene=look.scene,
                    grid=look.grid,
                    clear=round(share, 6),
                )
            )
            # Two tiles of one overpass are one look at the ground, not two dates.
            day = look.scene.datetime.date()
            self.queues[look.slot] = [s for s in self.queues[look.slot] if s.datetime.date() != day]

    def outcome(self, dates: Dates) -> Outcome:
        if len(self.pinned) >= dates.min:
            ordered = sorted(self.pinned, key=lambda p: (p.scene.datetime, p.scene.id))
            return Outcome(
                self.site.id,
                tuple(
                    PinnedScene(site=p.site, slot=i, scene=p.scene, grid=p.grid, clear=p.clear)
                    for i, p in enumerate(ordered)
                ),
                None,
            )
        if self.seen == 0:
            reason, detail = GapReason.NO_SCENE, f"none in {dates.period}"
        elif self.seen == self.too_coarse:
            reason, detail = GapReason.TOO_COARSE, f"coarser than {self.patch.gsd} m"
        else:
            reason = GapReason.TOO_CLOUDY
            detail = f"{len(self.pinned)} of {dates.min} dates clear, {self.seen} scenes seen"
        return Outcome(self.site.id, (), Gap(self.site.id, reason, detail))


def _rank(scenes: Sequence[Scene], site: Site, target: datetime) -> list[Scene]:
    """Scenes in the site's CRS first, then the least cloud, then nearest to the target date."""

    def key(scene: Scene) -> tuple[bool, float, timedelta, str]:
        cloud = math.inf if scene.cloud_cover is None else scene.cloud_cover
        return scene.grid.crs != site.grid.crs, cloud, abs(scene.datetime - target), scene.id

    return sorted(scenes, key=key)


def _middle(start: object, end: object) -> datetime:
    first = datetime.fromisoformat(str(start)).replace(tzinfo=UTC)
    last = datetime.fromisoformat(str(end)).replace(tzinfo=UTC)
    return first + (last - first) / 2


def _clear_shares(access: Access, imagery: Imagery, looks: Sequence[_Look]) -> list[float]:
    """Share of each patch that the declaration calls clear; 1 where there is no validity band."""
    band = imagery.validity.band
    if band is None:
        return [1.0] * len(looks)
    chips = access.read(
        imagery,
        [
            ReadRequest(
                site=look.site, scene=look.scene, grid=look.grid, bands=(band,), categorical=True
            )
            for look in looks
        ],
    )
    shares = []
    for chip in chips:
        if isinstance(chip, Gap):
            shares.append(0.0)
            continue
        clear = imagery.validity.decode(chip.data[0].astype(np.int64)) & chip.inside
        shares.append(float(clear.mean()))
    return shares


def covers(scene: Grid, patch: Grid) -> bool:
    """Whether the whole patch lies inside the scene, whatever their CRS.

    Half a pixel of the scene is allowed at the edge, because `settle` may still move the patch by
    less than a pixel, and does so towards the inside.
    """
    if scene.crs == patch.crs:
        return scene.contains(patch, slack=0.5)
    ring = patch.outline_lonlat()
    x, y = from_lonlat(scene.crs, ring[:, 0], ring[:, 1])
    west, south, east, north = scene.bounds
    dx, dy = (p / 2 for p in scene.pixel)
    inside = (x >= west - dx) & (x <= east + dx) & (y >= south - dy) & (y <= north + dy)
    return bool(inside.all())


def settle(nominal: Grid, scene: Grid) -> Grid:
    """Move a nominal grid onto a scene's lattice.

    In the scene's CRS the move is less than a pixel; from another CRS the grid is laid anew around
    the same centre. The pixel size stays the recipe's. Where the scene's pixels are coarser the
    lattice is that of the sub-pixels that repeating them makes.
    """
    a, e = nominal.pixel
    if scene.crs == nominal.crs:
        west, north = nominal.transform.c, nominal.transform.f
    else:
        lon, lat = nominal.centre_lonlat()
        x, y = from_lonlat(scene.crs, np.array([lon]), np.array([lat]))
        west = float(x[0]) - nominal.width * a / 2
        north = float(y[0]) + nominal.height * e / 2
    columns = round((west - scene.transform.c) / a)
    rows = round((scene.transform.f - north) / e)
    spare_columns = round(scene.width * scene.pixel[0] / a) - nominal.width
    spare_rows = round(scene.height * scene.pixel[1] / e) - nominal.height
    columns = min(max(columns, 0), max(spare_columns, 0))
    rows = min(max(rows, 0), max(spare_rows, 0))
    moved = Affine(a, 0.0, scene.transform.c + columns * a, 0.0, -e, scene.transform.f - rows * e)
    return Grid(scene.crs, moved, nominal.width, nominal.height)
