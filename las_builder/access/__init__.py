"""Where pixels come from. The only room with `ee`, `pystac_client` or a raster reader in it."""

from __future__ import annotations

from collections.abc import Sequence

from las_builder.access.protocol import (
    Access,
    LabelRequest,
    ReadRequest,
    SearchRequest,
    label_key,
    label_requests,
)
from las_builder.catalogs import Catalogs, Imagery, LabelProduct
from las_builder.catalogs.models import PROVIDERS
from las_builder.core.types import PinnedMap, Scene

__all__ = [
    "Access",
    "LabelRequest",
    "ReadRequest",
    "SearchRequest",
    "label_files",
    "label_key",
    "label_maps",
    "label_requests",
    "may_have",
    "open_access",
    "open_paired",
    "pin_files",
    "settle",
]


def open_access(
    source: str, *, catalogs: Catalogs | None = None, where: object = "command"
) -> Access:
    """The provider that a recipe names; nothing is fetched yet.

    Args:
        source: virtual, earth-engine, a declared STAC API, or the path or URL of a STAC catalogue.
        catalogs: Declarations; None: ours alone.
        where: The recipe, for messages and for paths relative to it.

    Raises:
        SourceError: A provider that this version cannot read, or no catalogue.
    """
    if source == "virtual":
        from las_builder.access.virtual import VirtualEarth

        return VirtualEarth(catalogs or Catalogs.load())
    if source == "earth-engine":
        from las_builder.access.earth_engine import EarthEngine

        return EarthEngine((catalogs or Catalogs.load()).earth_engine)
    if source in STAC_APIS:
        from las_builder.access.stac_api import StacApi

        declared = catalogs or Catalogs.load()
        names = (source, *(name for name in STAC_APIS if name != source))
        return StacApi(tuple(declared.provider(name, where=where) for name in names))
    from las_builder.access import web
    from las_builder.access.stac import StaticStac, is_api

    if web.is_url(source) and not source.endswith(".json") and is_api(source):
        from las_builder.access.stac_api import StacApi, any_api

        return StacApi((any_api(source),))
    return StaticStac.at(source, where=where)


STAC_APIS = ("earth-search", "planetary-computer")
"""Those that are declared; imagery of one goes with labels of the other."""


def open_paired(imagery: Access, *labels: Access) -> Access:
    """Imagery from one provider, labels from others: each product from the first that has it."""
    from las_builder.access.paired import Paired

    return Paired(imagery, labels)


def may_have(source: str, thing: Imagery | LabelProduct) -> bool:
    """Whether a source has a thing, by the declarations; a catalogue says itself what it holds."""
    if source not in PROVIDERS:
        return True
    # Imagery from one public catalogue goes with labels from another: both are STAC.
    enough = STAC_APIS if source in STAC_APIS and isinstance(thing, LabelProduct) else (source,)
    return any(where.provider in enough for where in thing.where)


def label_files(access: Access, product: LabelProduct, request: LabelRequest) -> list[str]:
    """The files of a label product that a request would read; none where it is made otherwise."""
    from las_builder.access.paired import Paired

    if isinstance(access, Paired):
        return label_files(access.of(product), product, request)
    found = getattr(access, "label_files", None)
    return found(product, request) if found is not None else []


def label_maps(
    access: Access, product: LabelProduct, requests: Sequence[LabelRequest]
) -> list[tuple[PinnedMap, ...]] | None:
    """The maps of a label product that requests would read, as they are now; None where they are
    made, or where the provider cannot tell them beforehand.

    Raises:
        AccessError: A server failed.
    """
    from las_builder.access.paired import Paired

    if isinstance(access, Paired):
        return label_maps(access.of(product), product, requests)
    found = getattr(access, "label_maps", None)
    return found(product, requests) if found is not None else None


def settle(access: Access) -> None:
    """Called when a task has asked for all it needs: what a provider still wants to know of it, such
    as what its requests cost, is asked for now. A failure of that costs nothing.
    """
    from las_builder.access.paired import Paired

    for one in (access.imagery, *access.products) if isinstance(access, Paired) else (access,):
        if (found := getattr(one, "settle", None)) is not None:
            found()


def pin_files(scene: Scene, bands: Sequence[str]) -> Scene:
    """A scene with size and ETag of those of its files that are on the web.

    Raises:
        AccessError: A server failed.
    """
    refs = (ref for one in scene.parts for ref in one.assets.values())
    if not any(ref.href.startswith("http") for ref in refs):
        return scene
    from las_builder.access.read import pin_files as pinned

    return pinned(scene, bands)
