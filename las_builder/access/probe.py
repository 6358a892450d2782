"""What a STAC provider says today, against what its declarations assume; few and cheap requests."""

from __future__ import annotations

from collections.abc import Sequence

from las_builder.access import raster, wire
from las_builder.access.counts import counts
from las_builder.access.items import Entry, find_asset, names_of, scene_of
from las_builder.access.meet import same_crs
from las_builder.access.stac_api import StacApi, client, our_words
from las_builder.catalogs import Imagery, StacProvider
from las_builder.core.types import Scene
from las_builder.errors import LasError

MOST_REQUESTS = 20


def reader() -> tuple[str, bool]:
    """The version of GDAL, and whether it reads JPEG 2000."""
    import rasterio
    from rasterio.drivers import raster_driver_extensions

    return rasterio.__gdal_version__, "jp2" in raster_driver_extensions()


def probe(provider: StacProvider, imagery: Sequence[Imagery]) -> tuple[int, list[str]]:
    """Ask for the landing page, and of each imagery for an item and the header of one file.

    Returns:
        Requests sent, and lines that begin with "as assumed", "DIFFERS" or "not asked".

    Raises:
        AccessError: The API does not answer.
    """
    before = sum(counts.requests.values())

    def asked() -> int:
        return sum(counts.requests.values()) - before

    StacApi((provider,)).read(imagery[0], []) if imagery else None  # its hosts are known from here
    api = client(provider)
    knows = [name for name in ("FILTER", "QUERY", "FIELDS") if api.conforms_to(name)]
    lines = [
        f"as assumed: the API answers; of filter, query and fields it knows {', '.join(knows) or 'none'}"
    ]
    for one in imagery:
        for where in names_of(one, provider.name):
            name = where.collection or one.name
            if asked() > MOST_REQUESTS - 5:
                lines.append(f"not asked: {one.name}; {asked()} requests are enough")
                continue
            try:
                lines += _of_imagery(provider, one, name)
            except LasError as problem:
                lines.append(f"DIFFERS: {one.name}: {problem}")
    return asked(), lines


def _of_imagery(provider: StacProvider, imagery: Imagery, collection: str) -> list[str]:
    import pystac

    api, where = client(provider), names_of(imagery, provider.name)[0]
    with our_words(provider.api):
        found = next(
            iter(api.search(collections=[collection], limit=1, max_items=1).items_as_dicts()),
            None,
        )
    if found is None:
        return [f"DIFFERS: {imagery.name}: no item in {collection}"]
    item = pystac.Item.from_dict(found, migrate=False)
    entry = Entry(
        item, f"{provider.api}/collections/{collection}/items/{item.id}", collection, provider.name
    )
    lines = []
    qa = imagery.validity.band
    names = [*(band.name for band in imagery.bands), *imagery.validity.reads]
    missing = [n for n in names if find_asset(entry, imagery, n, None) is None]
    lines.append(
        _line(
            not missing,
            f"{imagery.name}: {item.id} has an asset for every band",
            f"lacks {', '.join(missing)}; it has {', '.join(sorted(item.assets))}",
        )
    )
    lines.append(
        _line(
            where.holds(item.properties) or not where.match,
            f"{imagery.name}: properties to match",
            f"{dict(where.match)} does not hold",
        )
    )
    for rule in imagery.offset_rules:
        lines.append(
            _line(
                rule.property in item.properties,
                f"{imagery.name}: {rule.property} is stated",
                "it is not, so offsets cannot be known",
            )
        )
    scene = scene_of(entry, imagery)
    lattice = imagery.lattice
    if lattice.cell is not None:
        lines.append(
            _line(
                lattice.holds(scene.grid.crs or "", scene.grid.transform),
                f"{imagery.name}: lies on the declared lattice",
                f"{scene.grid.crs} {tuple(scene.grid.transform)[:6]}",
            )
        )
    return [*lines, *_of_file(imagery, scene, qa or imagery.rgb[0])]


def _of_file(imagery: Imagery, scene: Scene, band: str) -> list[str]:
    ref = scene.assets.get(band)
    if ref is None:
        return []
    try:
        found = raster.open_raster(ref.href)
        kind = found.dataset.dtypes[ref.index - 1]
        right = same_crs(found.crs, scene.grid.crs)
        lines = [
            _line(
                right,
                f"{imagery.name}: the CRS of {band} is its item's",
                f"{found.crs[:80]} and {scene.grid.crs}",
            )
        ]
        if band != imagery.validity.band:
            lines.append(
                _line(
                    kind == imagery.data_type,
                    f"{imagery.name}: pixels are {kind}",
                    f"declared {imagery.data_type}",
                )
            )
        return [
            *lines,
            f"as assumed: {imagery.name}: {band} is read with {wire.host_of(ref.href).pattern}",
        ]
    except LasError as problem:
        return [f"DIFFERS: {imagery.name}: {band} cannot be read: {problem}"]
    finally:
        raster.close_web()


def _line(right: bool, what: str, otherwise: str) -> str:
    return f"as assumed: {what}" if right else f"DIFFERS: {what}: {otherwise}"
