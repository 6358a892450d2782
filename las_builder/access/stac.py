"""A static STAC catalogue, on disk or over HTTP, with GeoTIFF assets: real files are "just STAC"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from las_builder.access import web
from las_builder.access.composite import composed
from las_builder.access.items import (
    CODES,
    PROVIDERS,
    Catalogue,
    Entry,
    catalogue_at,
    map_of,
    missing_asset,
    scene_of,
)
from las_builder.access.maps import files_of, have_maps, pinned_maps, read_map
from las_builder.access.protocol import LabelRequest, ReadRequest, SearchRequest
from las_builder.access.read import read_scenes
from las_builder.catalogs import Imagery, LabelProduct
from las_builder.core.types import Chip, Gap, LabelSource, PinnedMap, Scene
from las_builder.errors import LasError, SourceError, StacError

_ROOTS = ("catalog.json", "collection.json")


def is_api(url: str) -> bool:
    """Whether a URL is the landing page of a STAC API; False where nothing or no JSON answers."""
    import json

    from las_builder.access import wire

    try:
        said = json.loads(wire.get(url, headers={wire.Door.PAGE: "1"}).content)
    except (LasError, ValueError):
        return False
    return isinstance(said, dict) and "conformsTo" in said


@dataclass(frozen=True, slots=True)
class StaticStac:
    """An `Access` to a catalogue that is nothing but files.

    Cheap to make and to pickle: documents are read when first asked for, once per process.
    """

    root: str
    """Path or URL of catalog.json or collection.json."""

    name: str
    """What the recipe called it."""

    synthetic: bool = False

    @classmethod
    def at(cls, source: str, *, where: object = "command") -> StaticStac:
        """The catalogue at a path or URL, or in a folder.

        Args:
            source: As the recipe has it; a path may be relative to here or to the recipe.
            where: The file that asked.

        Raises:
            SourceError: There is no catalogue.
        """
        if web.is_url(source):
            last = source.rsplit("/", 1)[-1]
            return cls(source if "." in last else source.rstrip("/") + "/catalog.json", source)
        beside = [Path(where).parent / source] if isinstance(where, Path) else []
        for path in (Path(source), *beside):
            for file in (path, *(path / name for name in _ROOTS)):
                if file.is_file():
                    return cls(str(file.resolve()), source)
        raise SourceError(
            where, "source", source, "the path or URL of a STAC catalogue, or `virtual`",
            "`las index DIR --out CATALOGUE` makes one of a folder of rasters.",
        )  # fmt: skip

    def search(self, imagery: Imagery, requests: Sequence[SearchRequest]) -> list[list[Scene]]:
        """See `Access.search`."""
        index = catalogue_at(self.root).scenes(imagery)
        return [
            [
                scene
                for scene in index.meeting(request.grid)
                if request.period.holds(scene.datetime)
                and (scene.cloud_cover is None or scene.cloud_cover <= request.max_cloud)
            ]
            for request in requests
        ]

    def read(self, imagery: Imagery, requests: Sequence[ReadRequest]) -> list[Chip | Gap]:
        """See `Access.read`."""
        return composed(read_scenes, imagery, requests)

    def labels(
        self, product: LabelProduct, requests: Sequence[LabelRequest]
    ) -> list[LabelSource | Gap]:
        """See `Access.labels`.

        The map is that of the epoch rule; where a product declares its years, the nearest of them
        that the catalogue has at the place. Tiles on one lattice are joined, also over the
        antimeridian; of tiles on several (zones), those that cover most of the grid are taken.
        """
        index = catalogue_at(self.root).maps(product)
        return [read_map(product, index, request) for request in requests]

    def labelled(self, product: LabelProduct, requests: Sequence[LabelRequest]) -> list[bool]:
        """See `Access.labelled`."""
        index = catalogue_at(self.root).maps(product)
        return have_maps(product, lambda _: index, requests)

    def label_maps(
        self, product: LabelProduct, requests: Sequence[LabelRequest]
    ) -> list[tuple[PinnedMap, ...]]:
        """The maps of each request as they are now, for `PinnedScene.maps`."""
        index = catalogue_at(self.root).maps(product)
        return [pinned_maps(product, index, request) for request in requests]

    def label_files(self, product: LabelProduct, request: LabelRequest) -> list[str]:
        """The files of a label product that a request would read."""
        return files_of(product, catalogue_at(self.root).maps(product), request)

    def sites(self, imagery: Imagery, products: Sequence[LabelProduct]) -> list[Scene] | None:
        """Every scene; in a catalogue of labels alone, the footprints of its maps."""
        catalogue = catalogue_at(self.root)
        scenes = list(catalogue.scenes(imagery).things)
        if scenes:
            return scenes
        rasters = [product for product in reversed(products) if product.vector is None]
        maps = {m.grid: m for p in rasters for m in reversed(catalogue.maps(p).things)}
        return sorted(
            (
                Scene(id=m.id, datetime=m.first, cloud_cover=None, grid=m.grid, assets={})
                for m in maps.values()
            ),
            key=lambda scene: (scene.datetime, scene.id),
        )

    def check(
        self, imagery: Imagery | None, bands: Sequence[str], products: Sequence[LabelProduct]
    ) -> None:
        """See `Access.check`; local files must exist, those on the web are asked when read."""
        catalogue = catalogue_at(self.root)
        if imagery is not None:
            self._check_known(catalogue, imagery, "imagery")
            names = [*bands, *imagery.validity.reads]
            for entry in catalogue.items_of(imagery):
                scene = scene_of(entry, imagery)
                for name in names:
                    if name not in scene.assets:
                        raise missing_asset(entry, imagery, name)
                    _check_file(entry, name, scene.assets[name].href)
        for product in products:
            self._check_known(catalogue, product, "labels")
            for entry in catalogue.items_of(product):
                _check_file(entry, CODES, map_of(entry, product).asset.href)

    def _check_known(self, catalogue: Catalogue, thing: Imagery | LabelProduct, key: str) -> None:
        if catalogue.items_of(thing):
            return
        has = ", ".join(sorted({e.collection for e in catalogue.entries})) or "(none)"
        if not any(w.provider in PROVIDERS for w in thing.where):
            others = ", ".join(dict.fromkeys(w.provider for w in thing.where))
            raise SourceError(
                self.root, key, thing.name, f"what STAC catalogues have; here: {has}",
                f"{thing.name} comes from: {others}.",
            )  # fmt: skip
        raise SourceError(
            self.root, key, thing.name, f"what this catalogue has items of: {has}",
            f"Its items need the collection {thing.name} or what `where` of its file says.",
        )  # fmt: skip


def _check_file(entry: Entry, name: str, href: str) -> None:
    if not web.is_url(href) and not web.local_path(href).is_file():
        raise StacError(entry.href, f"assets ({name})", href, "a file that exists")
