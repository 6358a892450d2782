"""Search, rank, look at the validity band over the patch, keep what is clear enough there."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from las_builder.access import (
    Access,
    LabelRequest,
    ReadRequest,
    SearchRequest,
    label_maps,
    pin_files,
)
from las_builder.catalogs import Imagery, LabelProduct, Validity
from las_builder.core.grid import Grid, from_lonlat
from las_builder.core.options import Dates, Patch
from las_builder.core.types import Chip, Gap, GapReason, PinnedMap, PinnedScene, Scene, Site
from las_builder.scenes.seasons import Days, Slot, slots_of
from las_builder.scenes.table import Outcome

MAX_TRIES = 6
"""Scenes looked at for one date before it is given up. The scene-wide cloud share ranks them, so
after six the next is hardly ever better; each look costs one small read."""

MEMBER_CLEAR = 0.1
"""Share of the patch that a member of a composite shows, at least: of less than that, much is the
edge of clouds that the mask has missed."""

_LOOK_PIXELS = 1 << 25
"""Pixels of a validity band that are read at once."""

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
    labels: Sequence[LabelProduct] = (),
    compare: Sequence[LabelProduct] = (),
    seasons: Sequence[Days | None] = (),
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
        labels: Products without which a patch is a gap; a scene that has no map of one whose epoch
            is `same-scene` is no candidate.
        compare: Other products; the maps of these and of `labels` are pinned too.
        seasons: Of each site, for `choose: phenology`; see `local_seasons`.
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
        _Search.begin(site, scenes, dates, patch, imagery.validity, slots_of(dates, days))
        for site, scenes, days in zip(sites, found, seasons or [None] * len(sites), strict=True)
    ]
    for product in labels:
        if product.epoch.rule == "same-scene":
            _keep_labelled(access, product, searches)
    while open_ := [(search, look) for search in searches for look in search.next_looks()]:
        masks = _seen(access, imagery, [look for _, look in open_])
        for (search, look), mask in zip(open_, masks, strict=True):
            search.record(look, mask)
    outcomes = [search.outcome(dates) for search in searches]
    files = [*bands, *(imagery.validity.reads if bands else ())]
    outcomes = [
        replace(o, pinned=tuple(replace(p, scene=pin_files(p.scene, files)) for p in o.pinned))
        for o in outcomes
    ]
    return _with_maps(access, [*labels, *compare], outcomes)


def _with_maps(
    access: Access, products: Sequence[LabelProduct], outcomes: Sequence[Outcome]
) -> list[Outcome]:
    """The outcomes with the label maps of each pinned scene, so that no later map takes their place."""
    pinned = [p for outcome in outcomes for p in outcome.pinned]
    requests = [LabelRequest(site=p.site, grid=p.grid, scene=p.scene) for p in pinned]
    maps: list[dict[str, tuple[PinnedMap, ...]]] = [{} for _ in pinned]
    for product in products if pinned else ():
        for one, found in zip(maps, label_maps(access, product, requests) or (), strict=False):
            one[product.name] = found
    told = iter([replace(p, maps=found) for p, found in zip(pinned, maps, strict=True)])
    return [replace(o, pinned=tuple(next(told) for _ in o.pinned)) for o in outcomes]


@dataclass(frozen=True, slots=True)
class _Look:
    """One scene about to be looked at, on the grid that the site would have."""

    site: str
    slot: int
    scene: Scene
    grid: Grid


@dataclass(frozen=True, slots=True, eq=False)
class _Mask:
    """Where a scene shows the surface of a patch: 8 pixels a byte."""

    bits: NDArray[np.uint8]
    pixels: int

    @classmethod
    def of(cls, seen: NDArray[np.bool_]) -> _Mask:
        return cls(np.packbits(seen), seen.size)

    @property
    def share(self) -> float:
        return int(np.bitwise_count(self.bits).sum()) / self.pixels

    def __or__(self, other: _Mask) -> _Mask:
        return _Mask(self.bits | other.bits, self.pixels)

    def adds_to(self, other: _Mask) -> bool:
        return bool((self.bits & ~other.bits).any())


@dataclass(slots=True)
class _Search:
    """What is known of one site while its scenes are being chosen."""

    site: Site
    patch: Patch
    dates: Dates
    queues: list[list[Scene]]
    """Per slot, best first."""

    counts: Counter[str]
    """See `Outcome.counts`."""

    pinned: list[PinnedScene] = field(default_factory=list)
    members: list[tuple[_Look, _Mask]] = field(default_factory=list)
    """Of the composite of the slot that is being looked for."""

    on: Grid | None = None
    """Of the first scene that was kept: whose lattice the patch lies on."""

    tries: int = 0
    slot: int = 0

    @classmethod
    def begin(
        cls, site: Site, scenes: list[Scene], dates: Dates, patch: Patch, validity: Validity,
        slots: Sequence[Slot],
    ) -> _Search:  # fmt: skip
        limit = (patch.gsd or math.inf) * _GSD_SLACK
        covering = [scene for scene in scenes if covers(scene.grid, site.grid)]
        fine = [scene for scene in covering if max(scene.grid.pixel) <= limit]
        told = [scene for scene in fine if validity.speaks_of(scene.datetime)]
        queues = [_rank([s for s in told if slot.holds(s.datetime)], site, slot) for slot in slots]
        counts = Counter(
            found=len(scenes),
            partial=len(scenes) - len(covering),
            coarse=len(covering) - len(fine),
            silent=len(fine) - len(told),
        )
        return cls(site, patch, dates, queues, counts)

    @property
    def wanted(self) -> int:
        """Scenes to take from each queue."""
        if self.dates.composite is not None:
            return self.dates.composite_scenes
        return self.dates.per_site if self.dates.choose == "clearest" else 1

    def next_looks(self) -> list[_Look]:
        """What to look at next, none if the site is done: one scene; of a median, all that are
        still missing, once the patch has its lattice.
        """
        first = self.next_look()
        looks = [first] if first is not None else []
        if first is None or self.dates.composite != "median" or self.on is None:
            return looks
        queue, days = self.queues[self.slot], {first.scene.datetime.date()}
        while len(self.members) + len(looks) < self.wanted and self.tries < self._most:
            # The other tile of an overpass waits: it is looked at if this one is cloudy.
            scene = next((s for s in queue if s.datetime.date() not in days), None)
            if scene is None:
                break
            queue.remove(scene)
            if look := self._look_at(scene):
                looks.append(look)
                days.add(scene.datetime.date())
        return looks

    def next_look(self) -> _Look | None:
        while self.slot < len(self.queues):
            queue = self.queues[self.slot]
            if self._enough() or not queue:
                self._close()
                self.slot, self.tries = self.slot + 1, 0
                continue
            if look := self._look_at(queue.pop(0)):
                return look
        return None

    def _look_at(self, scene: Scene) -> _Look | None:
        """None: a composite cannot have it."""
        if self.dates.composite and self.on is not None and not _aligned(scene.grid, self.on):
            self.counts["lattice"] += 1
            return None
        self.tries += 1
        self.counts["looked"] += 1
        return _Look(self.site.id, self.slot, scene, self._grid_for(scene))

    @property
    def _most(self) -> int:
        """Scenes that are looked at for a composite, at most."""
        return self.wanted + MAX_TRIES

    def _enough(self) -> bool:
        """Whether the slot is full, or was looked for long enough."""
        if self.dates.composite is None:
            taken = sum(p.slot == self.slot for p in self.pinned)
            return taken >= self.wanted or self.tries >= MAX_TRIES * self.wanted
        whole = self.dates.composite == "best" and any(m.share == 1.0 for _, m in self.members)
        long = self.tries >= self._most
        return whole or long or len(self.members) >= self.wanted

    def _grid_for(self, scene: Scene) -> Grid:
        if self.members:
            return self.members[0][0].grid
        if self.pinned:
            return self.pinned[0].grid
        if self.patch.lattice == "source":
            return self.site.grid
        return settle(self.site.grid, scene.grid)

    def record(self, look: _Look, mask: _Mask) -> None:
        composite = self.dates.composite
        if mask.share < (self.dates.patch_min_clear if composite is None else MEMBER_CLEAR):
            self.counts["cloudy"] += 1
            return
        self.on = self.on or look.scene.grid
        if composite is None:
            self.pinned.append(_pinned(look, look.scene, mask))
        else:
            self.members.append((look, mask))
        # Two tiles of one overpass are one look at the ground, not two dates.
        day = look.scene.datetime.date()
        self.queues[look.slot] = [s for s in self.queues[look.slot] if s.datetime.date() != day]

    def _close(self) -> None:
        """Make the composite of a slot, the clearest members first, if it is clear enough."""
        way = self.dates.composite
        found, self.members = sorted(self.members, key=lambda m: -m[1].share), []
        if way is None or not found:
            return
        look, seen = found[0]
        kept = [look.scene]
        for other, mask in found[1:]:
            if way == "median" or mask.adds_to(seen):
                kept.append(other.scene)
            seen = seen | mask
        if seen.share >= self.dates.patch_min_clear:
            self.pinned.append(_pinned(look, Scene.of(way, kept), seen))
        else:
            self.counts["cloudy"] += len(found)

    def outcome(self, dates: Dates) -> Outcome:
        counts = {key: n for key, n in sorted(self.counts.items()) if n}
        if len(self.pinned) >= dates.min:
            ordered = sorted(self.pinned, key=lambda p: (p.scene.datetime, p.scene.id))
            pinned = tuple(replace(p, slot=i) for i, p in enumerate(ordered))
            return Outcome(self.site.id, pinned, None, counts)
        seen = self.counts["found"] - self.counts["partial"]
        if seen == 0:
            reason, detail = GapReason.NO_SCENE, f"none in {dates.period}"
        elif seen == self.counts["coarse"]:
            reason, detail = GapReason.TOO_COARSE, f"coarser than {self.patch.gsd} m"
        elif seen == self.counts["coarse"] + self.counts["unlabelled"]:
            reason = GapReason.NO_LABEL
            detail = f"none of {self.counts['unlabelled']} scenes has its map"
        else:
            reason = GapReason.TOO_CLOUDY
            detail = f"{len(self.pinned)} of {dates.min} dates clear, {seen} scenes seen"
            if silent := self.counts["silent"]:
                detail += f", {silent} of days of which the mask says nothing"
        return Outcome(self.site.id, (), Gap(self.site.id, reason, detail), counts)


def _pinned(look: _Look, scene: Scene, mask: _Mask) -> PinnedScene:
    return PinnedScene(
        site=look.site, slot=look.slot, scene=scene, grid=look.grid, clear=round(mask.share, 6)
    )


def _keep_labelled(access: Access, product: LabelProduct, searches: Sequence[_Search]) -> None:
    """Leave only those candidates that the product has a map of, asked for all sites at once."""
    asked = [(search, scene) for search in searches for queue in search.queues for scene in queue]
    has = access.labelled(
        product,
        [LabelRequest(site=s.site.id, grid=s.site.grid, scene=scene) for s, scene in asked],
    )
    kept = {
        (search.site.id, scene.id) for (search, scene), yes in zip(asked, has, strict=True) if yes
    }
    for search in searches:
        for queue in search.queues:
            before = len(queue)
            queue[:] = [scene for scene in queue if (search.site.id, scene.id) in kept]
            search.counts["unlabelled"] += before - len(queue)


def _rank(scenes: Sequence[Scene], site: Site, slot: Slot) -> list[Scene]:
    """Scenes in the site's CRS first, then the least cloud, then nearest to the slot's middle."""

    def key(scene: Scene) -> tuple[bool, float, timedelta, str]:
        cloud = math.inf if scene.cloud_cover is None else scene.cloud_cover
        return scene.grid.crs != site.grid.crs, cloud, slot.off(scene.datetime), scene.id

    return sorted(scenes, key=key)


def _seen(access: Access, imagery: Imagery, looks: Sequence[_Look]) -> list[_Mask]:
    """Where each scene shows the surface; everywhere where there is no validity band."""
    band = imagery.validity.band
    if band is None:
        return [_Mask.of(np.ones(look.grid.shape, bool)) for look in looks]
    step = max(1, _LOOK_PIXELS // max(look.grid.width * look.grid.height for look in looks))
    masks = []
    for start in range(0, len(looks), step):
        some = looks[start : start + step]
        chips = access.read(
            imagery,
            [
                ReadRequest(
                    site=k.site,
                    scene=k.scene,
                    grid=k.grid,
                    bands=(band,),
                    categorical=True,
                    shared=True,
                )
                for k in some
            ],
        )
        for look, chip in zip(some, chips, strict=True):
            clear = np.zeros(look.grid.shape, bool)
            if isinstance(chip, Chip):
                clear = imagery.validity.decode(chip.data[0]) & chip.inside
            masks.append(_Mask.of(clear))
    return masks


def _aligned(scene: Grid, other: Grid) -> bool:
    """Whether two scenes share pixels, so that neither need be resampled for the other."""
    if scene.crs != other.crs or scene.pixel != other.pixel:
        return False
    (a, e), s, t = scene.pixel, scene.transform, other.transform
    apart = ((s.c - t.c) / a, (s.f - t.f) / e)
    return all(abs(d - round(d)) < 1e-3 for d in apart)


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
