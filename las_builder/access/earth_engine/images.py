"""Images of Earth Engine as STAC items, so that they become scenes and maps like all others."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

from affine import Affine

from las_builder.access.earth_engine import client
from las_builder.access.items import CODES, Entry
from las_builder.access.stac_api import Box
from las_builder.catalogs import Imagery, LabelProduct, Where
from las_builder.catalogs.earth_engine import EarthEngineService
from las_builder.core.types import Period
from las_builder.errors import AccessError, SourceError

if TYPE_CHECKING:
    import pystac

SCHEME = "ee://"
"""Hrefs are ee://ASSET#BAND."""

KEPT = (
    "PROCESSING_BASELINE", "MGRS_TILE", "SPACECRAFT_NAME", "SPACECRAFT_ID", "PRODUCT_ID",
    "LANDSAT_PRODUCT_ID",
)  # fmt: skip
"""Properties that are kept of an image, besides those that a declaration asks for."""

FEW = 100
"""Collections of maps with at most so many images are listed whole, once in a process."""

NAMED = 1000
"""Images asked for by name in one request; a request may hold 10 MB, an answer 5,000 images."""

R = TypeVar("R")


def href_of(image: str, band: str) -> str:
    """Where a band of an image is."""
    return f"{SCHEME}{image}#{band}"


def place_of(href: str) -> tuple[str, str]:
    """Image and band of an href."""
    image, _, band = href.removeprefix(SCHEME).partition("#")
    return image, band


def asset(service: EarthEngineService, name: str) -> dict[str, Any]:
    """What is said of an asset, asked for once in a process.

    Raises:
        AccessError: (class `absent`) There is none, or not for this user.
    """
    import ee

    return kept(
        (service.endpoint, "asset", name),
        lambda: client.ask(service, name, lambda: ee.data.getAsset(name)),
    )


KEPT_ANSWERS = 4096
_answers: OrderedDict[tuple[Hashable, ...], Any] = OrderedDict()
_keeping = threading.Lock()


def kept(key: tuple[Hashable, ...], make: Callable[[], R]) -> R:
    """What was made for a key before, in this process, else what is made now."""
    with _keeping:
        if key in _answers:
            return cast("R", _answers[key])
    made = make()
    with _keeping:
        _answers[key] = made
        while len(_answers) > KEPT_ANSWERS:
            _answers.popitem(last=False)
    return made


def forget() -> None:
    """Ask for everything anew."""
    with _keeping:
        _answers.clear()


def wheres_of(thing: Imagery | LabelProduct) -> list[Where]:
    """How Earth Engine calls a thing; names with {year} once for every year."""
    out = []
    for where in thing.where:
        if where.provider != client.NAME or where.collection is None:
            continue
        if "{year}" not in where.collection:
            out.append(where)
            continue
        years = thing.epoch.years or [] if isinstance(thing, LabelProduct) else []
        codes = where.assets.get(CODES, CODES)
        out += [
            where.model_copy(
                update={
                    "collection": where.collection.replace("{year}", str(year)),
                    "years": {year: codes},  # such images state no time
                }
            )
            for year in years
        ]
    return out


def check_asset(service: EarthEngineService, thing: Imagery | LabelProduct, where: Where) -> None:
    """Refuse what is not there, or what has no pixels.

    Raises:
        SourceError: There is no such asset, or it is a table.
        AccessError: The service does not answer.
    """
    key = "imagery" if isinstance(thing, Imagery) else "labels"
    name = str(where.collection)
    try:
        kind = asset(service, name).get("type")
    except AccessError as problem:
        if problem.kind != "absent":
            raise
        others = sorted({w.provider for w in thing.where} - {client.NAME, "virtual"})
        raise SourceError(
            client.NAME, key, thing.name, f"an asset that is there and yours to read, not {name}",
            f"{problem.problem}"
            + (f" {thing.name} comes from {', '.join(others)} too." if others else ""),
        ) from None  # fmt: skip
    if kind not in ("IMAGE", "IMAGE_COLLECTION"):
        raise SourceError(
            client.NAME, key, thing.name, f"an image or a collection of images; {name} is a {kind}",
            "Tables of Earth Engine are not read; save the features as a file.",
        )  # fmt: skip


def entries_in(
    service: EarthEngineService,
    thing: Imagery | LabelProduct,
    boxes: Sequence[Box],
    *,
    period: Period | None = None,
    max_cloud: float | None = None,
    names: Sequence[str] = (),
) -> list[Entry]:
    """The images of a thing that meet any of some boxes: one request for all of them.

    Args:
        service: Asked.
        thing: Imagery or a label product.
        boxes: West, south, east, north, none over the antimeridian; none at all: anywhere.
        period: Days; None: any.
        max_cloud: Percent of whole images; those that do not say are kept.
        names: `system:index` of those that are wanted; none: all.

    Raises:
        AccessError: The service failed.
    """
    found = {}
    parts = [list(names[i : i + NAMED]) for i in range(0, len(names), NAMED)] or [[]]
    for where, part in ((where, part) for where in wheres_of(thing) for part in parts):
        for said in _images(service, where, list(boxes), period, max_cloud, part):
            for entry in entries_of(said, thing, where):
                if where.holds(entry.item.properties):
                    found[entry.href, entry.item.id] = entry
    return [found[key] for key in sorted(found)]


def with_joined(
    service: EarthEngineService, imagery: Imagery, entries: Sequence[Entry], boxes: Sequence[Box],
    period: Period | None, joined: str,
) -> list[Entry]:  # fmt: skip
    """Images with the validity band that another collection holds of them under the same id; those
    of which it holds none are left out.
    """
    beside = Where(provider="earth-engine", collection=joined, auth="ee")
    other = {
        str(said.get("properties", {}).get("system:index", said["id"].rsplit("/", 1)[-1])): said
        for said in _images(service, beside, list(boxes), period, None, [])
    }
    out = []
    for entry in entries:
        said = other.get(entry.item.id)
        if said is None:
            continue
        for band in said["bands"]:
            if band["id"] in imagery.validity.reads:
                entry.item.assets[band["id"]] = _band(str(said["id"]), band)
        out.append(entry)
    return out


def _images(
    service: EarthEngineService, where: Where, boxes: list[Box], period: Period | None,
    max_cloud: float | None, names: list[str],
) -> list[dict[str, Any]]:  # fmt: skip
    name = str(where.collection)
    if asset(service, name).get("type") == "IMAGE":
        return [_one(service, name)]
    try:
        return _listed(service, where, boxes, period, max_cloud, names, None)
    except AccessError as problem:
        n = (len(boxes) + 1) // 2
        if not client.splits(service, problem) or len(boxes) < 2:
            raise
        parts = [
            _images(service, where, half, period, max_cloud, names)
            for half in (boxes[:n], boxes[n:])
        ]
        return [image for part in parts for image in part]


def _one(service: EarthEngineService, name: str) -> dict[str, Any]:
    import ee

    client.start(service)
    return kept(
        (service.endpoint, "image", name),
        lambda: client.ask(service, name, lambda: ee.data.computeValue(ee.Image(name))),
    )


def _listed(
    service: EarthEngineService, where: Where, boxes: list[Box], period: Period | None,
    max_cloud: float | None, names: list[str], most: int | None,
) -> list[dict[str, Any]]:  # fmt: skip
    import ee

    def ask() -> Any:
        images = ee.ImageCollection(where.collection)
        if boxes:
            images = images.filterBounds(_region(boxes))
        if period is not None:
            images = images.filterDate(str(period.start), str(period.end))
        for key, want in sorted(where.match.items()):
            images = images.filter(
                ee.Filter.inList(key, want) if isinstance(want, list) else ee.Filter.eq(key, want)
            )
        if where.cloud and max_cloud is not None and max_cloud < 100:
            few = ee.Filter.lte(where.cloud, max_cloud)
            images = images.filter(ee.Filter.Or(few, ee.Filter.notNull([where.cloud]).Not()))
        if names:
            images = images.filter(ee.Filter.inList("system:index", names))
        return ee.data.computeValue(images if most is None else images.limit(most))

    client.start(service)  # expressions are put together with functions that the service names
    said: dict[str, Any] = client.ask(service, str(where.collection), ask)
    return list(said.get("features", []))


def _region(boxes: Sequence[Box]) -> Any:
    import ee

    rings = [[[[w, s], [e, s], [e, n], [w, n], [w, s]]] for w, s, e, n in sorted(set(boxes))]
    if len(rings) == 1:
        return ee.Geometry.Polygon(rings[0], None, False)
    return ee.Geometry.MultiPolygon(rings, None, False)


def map_entries(
    service: EarthEngineService, product: LabelProduct, cells: Sequence[Box]
) -> list[Entry]:
    """The maps of a product in some cells; answers are kept, small collections are listed whole."""
    found = {}
    for where in wheres_of(product):
        for said in _maps(service, where, cells):
            for entry in entries_of(said, product, where):
                if where.holds(entry.item.properties):
                    found[entry.href, entry.item.id] = entry
    return [found[key] for key in sorted(found)]


def _maps(service: EarthEngineService, where: Where, cells: Sequence[Box]) -> list[dict[str, Any]]:
    name = str(where.collection)
    if asset(service, name).get("type") == "IMAGE":
        return [_one(service, name)]
    match = json.dumps(dict(where.match), sort_keys=True)  # products may share a collection
    every = kept(
        (service.endpoint, "few", name, match),
        lambda: _listed(service, where, [], None, None, [], FEW + 1),
    )
    if len(every) <= FEW:
        return every
    parts = [
        kept(
            (service.endpoint, "cell", name, match, cell),
            lambda cell=cell: _images(service, where, [cell], None, None, []),  # type: ignore[misc]
        )
        for cell in cells
    ]
    return [image for part in parts for image in part]


# ---- as items


def entries_of(said: dict[str, Any], thing: Imagery | LabelProduct, where: Where) -> list[Entry]:
    """An image, as the value of an expression describes it, as a STAC item; of one whose bands are
    years (`where.years`) one for each year.
    """
    import pystac

    properties, name = said.get("properties", {}), str(said["id"])
    index = str(properties.get("system:index", name.rsplit("/", 1)[-1]))
    first, last = _times(properties, thing)
    wanted = {*KEPT, *where.match}
    if isinstance(thing, Imagery):
        for rule in thing.offset_rules:
            wanted |= {rule.property, *rule.unless, *rule.doubtful}
    kept_: dict[str, Any] = {key: properties[key] for key in sorted(wanted & properties.keys())}
    if said.get("version") is not None:
        kept_["earth-engine:version"] = str(said["version"])
    if where.cloud and properties.get(where.cloud) is not None:
        kept_["eo:cloud_cover"] = float(properties[where.cloud])
    if isinstance(thing, Imagery) and thing.sun_elevation and where.sun_elevation in properties:
        kept_[thing.sun_elevation] = float(properties[where.sun_elevation])
    assets = {band["id"]: _band(name, band) for band in said["bands"]}
    times = [(index, first, last, assets)]
    if where.years:
        times = [
            (f"{index}-{year}", datetime(year, 1, 1, tzinfo=UTC),
             datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC), {CODES: assets[band]})
            for year, band in sorted(where.years.items()) if band in assets
        ]  # fmt: skip
    out = []
    for id_, start, end, bands in times:
        more = {"start_datetime": _text(start), "end_datetime": _text(end)}
        if isinstance(thing, Imagery):
            more = {"datetime": _text(start)}
        item = pystac.Item(
            id=id_, geometry=None, bbox=None, datetime=start,
            properties={**kept_, **more},
        )  # fmt: skip
        item.assets = dict(bands)
        out.append(Entry(item, SCHEME + name, str(where.collection), client.NAME))
    return out


def _band(image: str, said: dict[str, Any]) -> pystac.Asset:
    import pystac

    place = Affine(*said["crs_transform"])
    if said.get("origin"):  # of images that were cut out of larger ones
        place = Affine(
            place.a, place.b, place.c + place.a * said["origin"][0],
            place.d, place.e, place.f + place.e * said["origin"][1],
        )  # fmt: skip
    more: dict[str, Any] = {"proj:transform": list(place)[:6]}
    more["proj:code" if ":" in said["crs"][:12] else "proj:wkt2"] = said["crs"]
    if said.get("dimensions"):
        more["proj:shape"] = said["dimensions"][::-1]
    return pystac.Asset(href=href_of(image, said["id"]), extra_fields=more)


def _times(properties: dict[str, Any], thing: Imagery | LabelProduct) -> tuple[datetime, datetime]:
    """First and last moment; the end that Earth Engine states is no more part of it. An image that
    states none is of the time that its product declares.
    """
    start, end = properties.get("system:time_start"), properties.get("system:time_end")
    if start is None and isinstance(thing, LabelProduct) and thing.epoch.start is not None:
        days = thing.epoch.start, thing.epoch.end or thing.epoch.start
        first, last = (datetime(d.year, d.month, d.day, tzinfo=UTC) for d in days)
        return first, last
    first, last = (
        datetime.fromtimestamp(float(ms or start or 0) / 1000, UTC) for ms in (start, end)
    )
    return first, max(first, last - timedelta(milliseconds=1))


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
