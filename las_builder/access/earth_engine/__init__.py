"""Earth Engine as an `Access`: scenes, pixels and maps by Google's own client.

| module | what |
|---|---|
| `client` | credentials, the door, what refusals mean |
| `images` | what there is: images as STAC items |
| `pixels`, `scene_bands` | scenes as they are stored |
| `composites`, `map_windows` | what is composed there; label maps |
| `asking` | one request for pixels: `getPixels` or `computePixels` |
| `sizes` | how much at once |
| `eecu` | what it costs |
| `probe` | what the service says today against what is assumed |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from las_builder.access.earth_engine import client, eecu
from las_builder.access.earth_engine.images import (
    check_asset,
    entries_in,
    kept,
    map_entries,
    wheres_of,
    with_joined,
)
from las_builder.access.earth_engine.map_windows import MapReader
from las_builder.access.earth_engine.pixels import read_images
from las_builder.access.items import Index, Map, map_of, scene_of
from las_builder.access.maps import have_maps, pinned_maps, read_map
from las_builder.access.protocol import LabelRequest, ReadRequest, SearchRequest
from las_builder.access.stac_api import Box, boxes_of, cells_of
from las_builder.access.together import together
from las_builder.catalogs import Imagery, LabelProduct
from las_builder.catalogs.earth_engine import EarthEngineService
from las_builder.core.types import Chip, Gap, LabelSource, Period, PinnedMap, Scene
from las_builder.errors import SourceError, StacError


@dataclass(frozen=True, slots=True)
class EarthEngine:
    """An `Access` to Earth Engine. Cheap to make and to pickle: nothing is asked before it is needed."""

    service: EarthEngineService

    @property
    def name(self) -> str:
        """As recipes say it."""
        return client.NAME

    @property
    def synthetic(self) -> bool:
        """Never."""
        return False

    def search(self, imagery: Imagery, requests: Sequence[SearchRequest]) -> list[list[Scene]]:
        """See `Access.search`: one `value:compute` a collection for all patches of the same days.

        Scenes without all bands (NAIP has some without near infrared) are passed over.
        """
        out: list[list[Scene]] = [[] for _ in requests]
        asked: dict[tuple[Period, float], list[int]] = {}
        for i, request in enumerate(requests):
            asked.setdefault((request.period, request.max_cloud), []).append(i)
        bands = {*(band.name for band in imagery.bands), *imagery.validity.reads}
        joined = imagery.validity.joined.get(client.NAME)
        for (period, max_cloud), group in asked.items():
            boxes = [box for i in group for box in boxes_of(requests[i].grid)]
            found, broken = {}, []
            entries = entries_in(self.service, imagery, boxes, period=period, max_cloud=max_cloud)
            if joined is not None and any(entry.collection != joined for entry in entries):
                entries = with_joined(self.service, imagery, entries, boxes, period, joined)
            for entry in entries:
                try:
                    scene = scene_of(entry, imagery)
                except StacError as problem:
                    broken.append(problem)
                    continue
                if bands <= scene.assets.keys():
                    found[scene.id] = scene
            if broken and not found:
                raise broken[0]
            index = Index.of(sorted(found.values(), key=lambda s: (s.datetime, s.id)))
            for i in group:
                out[i] = [
                    scene for scene in index.meeting(requests[i].grid)
                    if period.holds(scene.datetime)
                    and (scene.cloud_cover is None or scene.cloud_cover <= max_cloud)
                ]  # fmt: skip
        return out

    def read(self, imagery: Imagery, requests: Sequence[ReadRequest]) -> list[Chip | Gap]:
        """See `Access.read`; composites are composed by the service."""
        found = read_images(self.service, imagery, requests)
        eecu.read_back(self.service)
        return found

    def labels(
        self, product: LabelProduct, requests: Sequence[LabelRequest]
    ) -> list[LabelSource | Gap]:
        """See `Access.labels`, and `stac.StaticStac.labels` for which map is taken."""
        indices = self._maps(product, requests)

        def one(index: Index[Map], request: LabelRequest) -> LabelSource | Gap:
            reader = MapReader(self.service, product)
            return read_map(product, index, request, reader.around)

        found = together(
            [
                lambda index=index, request=request: one(index, request)  # type: ignore[misc]
                for index, request in zip(indices, requests, strict=True)
            ]
        )
        eecu.read_back(self.service)
        return found

    def labelled(self, product: LabelProduct, requests: Sequence[LabelRequest]) -> list[bool]:
        """See `Access.labelled`."""
        indices = {
            request.grid: index
            for request, index in zip(requests, self._maps(product, requests), strict=True)
        }
        return have_maps(product, indices.__getitem__, requests)

    def label_maps(
        self, product: LabelProduct, requests: Sequence[LabelRequest]
    ) -> list[tuple[PinnedMap, ...]]:
        """The images of each request as they are now, for `PinnedScene.maps`."""
        indices = self._maps(product, requests)
        return [
            pinned_maps(product, index, request)
            for index, request in zip(indices, requests, strict=True)
        ]

    def _maps(self, product: LabelProduct, requests: Sequence[LabelRequest]) -> list[Index[Map]]:
        """The maps near each request. Those of a scene are asked for by its name, all at once;
        others by cells of a degree, whose answers are kept.
        """
        if product.epoch.rule == "same-scene":
            names = sorted({r.scene.id for r in requests})
            entries = entries_in(self.service, product, [], names=names) if names else []
            index = Index.of(sorted((map_of(e, product) for e in entries), key=lambda m: m.id))
            return [index] * len(requests)
        return [self._maps_in(product, tuple(cells_of(request.grid))) for request in requests]

    def _maps_in(self, product: LabelProduct, cells: tuple[Box, ...]) -> Index[Map]:
        def make() -> Index[Map]:
            entries = map_entries(self.service, product, cells)
            return Index.of(sorted((map_of(e, product) for e in entries), key=lambda m: m.id))

        where = tuple(w.collection for w in wheres_of(product))
        return kept((self.service.endpoint, "maps", product.name, where, cells), make)

    def settle(self) -> None:
        """Read back what the last requests cost."""
        eecu.read_back(self.service, least=1)

    def sites(self, imagery: Imagery, products: Sequence[LabelProduct]) -> list[Scene] | None:
        """Endless, as far as we are concerned."""
        del imagery, products
        return None

    def check(
        self, imagery: Imagery | None, bands: Sequence[str], products: Sequence[LabelProduct]
    ) -> None:
        """See `Access.check`: that there are credentials, a project, a tier, and the assets.

        Raises:
            SourceError: No credentials, no project, no such tier or asset, or one without pixels.
            AccessError: The service does not answer, or refuses.
        """
        del bands
        eecu.tier(self.service)
        things: list[Imagery | LabelProduct] = [imagery] if imagery is not None else []
        for thing in [*things, *products]:
            wheres = wheres_of(thing)
            if not wheres:
                key = "imagery" if isinstance(thing, Imagery) else "labels"
                has = ", ".join(sorted({where.provider for where in thing.where}))
                raise SourceError(
                    self.name, key, thing.name, f"what it has; {thing.name} comes from: {has}"
                )
            for where in wheres:
                check_asset(self.service, thing, where)
