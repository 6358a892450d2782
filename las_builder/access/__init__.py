"""Where pixels come from. The only room with `ee`, `pystac_client` or a raster reader in it."""

from __future__ import annotations

from las_builder.access.protocol import Access, LabelRequest, ReadRequest, SearchRequest
from las_builder.catalogs import Catalogs
from las_builder.errors import SourceError

__all__ = [
    "Access",
    "LabelRequest",
    "ReadRequest",
    "SearchRequest",
    "open_access",
    "open_paired",
]


def open_access(
    source: str, *, catalogs: Catalogs | None = None, where: object = "command"
) -> Access:
    """The provider that a recipe names; nothing is fetched yet.

    Args:
        source: virtual, or the path or URL of a static STAC catalogue.
        catalogs: Declarations; None: ours alone.
        where: The recipe, for messages and for paths relative to it.

    Raises:
        SourceError: A provider that this version cannot read, or no catalogue.
    """
    if source == "virtual":
        from las_builder.access.virtual import VirtualEarth

        return VirtualEarth(catalogs or Catalogs.load())
    if source in ("earth-search", "planetary-computer", "earth-engine"):
        raise SourceError(
            where,
            "source",
            source,
            "`virtual`, or the path or URL of a static STAC catalogue",
            "This version does not read the live services yet.",
        )
    from las_builder.access.stac import StaticStac

    return StaticStac.at(source, where=where)


def open_paired(imagery: Access, labels: Access) -> Access:
    """Imagery from one provider, labels from another."""
    from las_builder.access.paired import Paired

    return Paired(imagery, labels)
