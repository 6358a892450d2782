"""What a STAC provider says today, against what its declarations assume; few and cheap requests."""

from __future__ import annotations

from collections.abc import Sequence

from las_builder.access import raster, wire
from las_builder.access.counts import counts
from las_builder.access.items import Entry, find_asset, map_of, names_of, scene_of
from las_builder.access.meet import same_crs
from las_builder.access.stac_api import StacApi, client, our_words, wanted
from las_builder.catalogs import Imagery, LabelProduct, StacProvider
from las_builder.catalogs.models import Where
from las_builder.core.types import Scene
from las_builder.errors import LasError

MOST_REQUESTS = 20


def reader() -> tuple[str, bool]:
    """The version of GDAL, and whether it reads JPEG 2000."""
    import rasterio
    from rasterio.drivers import raster_driver_extensions

    return rasterio.__gdal_version__, "jp2" in raster_driver_extensions()


def probe(
    provider: StacProvider, imagery: Sequence[Imagery], products: Sequence[LabelProduct] = ()
) -> tuple[int, list[str]]:
    """Ask for the landing page and the collections, of each imagery for an item and the header of one file, of label
    products, as far as requests last, for an item.

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
    lines += _of_collections(provider, [*imagery, *products])
    for one in imagery:
        for where in names_of(one, provider.name):
            name = where.collection or one.name
            if asked() > MOST_REQUESTS - 5:
                lines.append(f"not asked: {one.name}; {asked()} requests are enough")
                continue
            try:
                lines += _of_imagery(provider, one, where, name)
            except LasError as problem:
                lines.append(f"DIFFERS: {one.name}: {problem}")
    left = []
    # Those that share a collection with another are the likeliest to be wrong.
    for product in sorted(products, key=lambda p: not names_of(p, provider.name)[0].match):
        if asked() >= MOST_REQUESTS - 1:
            left.append(product.name)
            continue
        try:
            lines += _of_product(provider, product, names_of(product, provider.name)[0])
        except LasError as problem:
            lines.append(f"DIFFERS: {product.name}: {problem}")
    if left:
        lines.append(f"not asked: {', '.join(left)}; {asked()} requests are enough")
    return asked(), lines


def _of_collections(provider: StacProvider, things: Sequence[Imagery | LabelProduct]) -> list[str]:
    with our_words(provider.api):
        there = {one.id for one in client(provider).get_collections()}
    ours = {w.collection or t.name for t in things for w in names_of(t, provider.name)}
    lacks = ", ".join(sorted(ours - there))
    return [_line(not lacks, f"all {len(ours)} collections are there", f"it lacks {lacks}")]


def _an_item(
    provider: StacProvider, thing: Imagery | LabelProduct, where: Where, collection: str
) -> Entry | None:
    """One item that the declaration asks for."""
    import pystac

    api = client(provider)
    said = {"collections": [collection], "limit": 1, "max_items": 1}
    asked = {k: v for k, v in wanted(api, thing, where, None).items() if k != "fields"}
    with our_words(provider.api):
        found = next(iter(api.search(**said, **asked).items_as_dicts()), None)
    if found is None:
        return None
    item = pystac.Item.from_dict(found, migrate=False)
    href = f"{provider.api}/collections/{collection}/items/{item.id}"
    return Entry(item, href, collection, provider.name)


def _of_product(provider: StacProvider, product: LabelProduct, where: Where) -> list[str]:
    collection = where.collection or product.name
    entry = _an_item(provider, product, where, collection)
    if entry is None:
        return [f"DIFFERS: {product.name}: no item in {collection} with {dict(where.match)}"]
    found = map_of(entry, product)
    lines = [f"as assumed: {product.name}: {entry.item.id} has an asset with its codes"]
    lattice = product.lattice
    if product.vector is None and lattice is not None and lattice.crs.startswith("EPSG:"):
        lines.append(
            _line(
                same_crs(found.grid.crs, lattice.crs),
                f"{product.name}: lies in {lattice.crs}",
                f"{found.grid.crs}",
            )
        )
    return lines


def _of_imagery(
    provider: StacProvider, imagery: Imagery, where: Where, collection: str
) -> list[str]:
    entry = _an_item(provider, imagery, where, collection)
    if entry is None:
        return [f"DIFFERS: {imagery.name}: no item in {collection}"]
    item = entry.item
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
