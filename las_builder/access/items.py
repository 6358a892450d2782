"""The items of a static STAC catalogue, and what they are to us: scenes and maps."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from las_builder.access import web
from las_builder.access.meet import disc, discs_meet, overlap
from las_builder.catalogs import Imagery, LabelProduct, Where
from las_builder.core.grid import Grid, crs_name
from las_builder.core.types import AssetRef, Scene
from las_builder.errors import SourceError, StacError

if TYPE_CHECKING:
    import pystac

PROVIDERS = ("stac", "earth-search", "planetary-computer")
"""Whose names a static catalogue may use: its own, or those of where its items were copied from."""

CODES = "codes"
"""What `where.assets` calls the classes of a label product."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """An item, where it was read from, and the collection it is in ("" if none)."""

    item: pystac.Item
    href: str
    collection: str
    provider: str | None = None
    """Whose names it uses; None: those of a static catalogue, which may be anybody's."""


@dataclass(frozen=True, slots=True, eq=False)
class Map:
    """One item of a label product."""

    id: str
    entry: Entry
    asset: AssetRef
    grid: Grid
    """Its pixels; of a vector, its box as one pixel of degrees."""

    first: datetime
    last: datetime

    def speaks_of(self, year: int) -> bool:
        """Whether a year lies in its time."""
        return self.first.year <= year <= self.last.year


T = TypeVar("T", Scene, Map)


@dataclass(frozen=True, slots=True, eq=False)
class Index(Generic[T]):
    """Things with a grid, in order, that can be asked which of them meet another grid."""

    things: Sequence[T]
    discs: NDArray[np.float64]
    """(n, 3): see `meet.disc`."""

    @classmethod
    def of(cls, things: Sequence[T]) -> Index[T]:
        """Of things in the order in which they are to be found."""
        discs = [disc(thing.grid) for thing in things]
        return cls(things, np.array(discs, dtype=np.float64).reshape(-1, 3))

    def meeting(self, grid: Grid) -> Iterator[T]:
        """Those that share ground with a grid, in order."""
        for i in np.flatnonzero(discs_meet(grid, self.discs)).tolist():
            if overlap(grid, self.things[i].grid):
                yield self.things[i]


@dataclass(frozen=True, slots=True, eq=False)
class Catalogue:
    """Every item below one root document."""

    root: str
    entries: Sequence[Entry]
    _scenes: dict[str, tuple[Imagery, Index[Scene]]] = field(default_factory=dict)
    _maps: dict[str, tuple[LabelProduct, Index[Map]]] = field(default_factory=dict)

    def items_of(self, thing: Imagery | LabelProduct) -> list[Entry]:
        """The items of an imagery source or a label product."""
        return [entry for entry in self.entries if _is_of(thing, entry)]

    def scenes(self, imagery: Imagery) -> Index[Scene]:
        """Its scenes, by (datetime, id); made once."""
        kept = self._scenes.get(imagery.name)
        if kept is None or (kept[0] is not imagery and kept[0] != imagery):
            found = sorted((scene_of(e, imagery) for e in self.items_of(imagery)), key=_by_time)
            kept = self._scenes[imagery.name] = (imagery, Index.of(found))
        return kept[1]

    def maps(self, product: LabelProduct) -> Index[Map]:
        """Its maps, by id; made once."""
        kept = self._maps.get(product.name)
        if kept is None or (kept[0] is not product and kept[0] != product):
            found = sorted((map_of(e, product) for e in self.items_of(product)), key=lambda m: m.id)
            kept = self._maps[product.name] = (product, Index.of(found))
        return kept[1]


def catalogue_at(root: str) -> Catalogue:
    """The catalogue, read once per process and again if its root file is replaced."""
    stamp = 0 if web.is_url(root) else web.local_path(root).stat().st_mtime_ns
    return _load(root, stamp)


@functools.lru_cache(maxsize=8)
def _load(root: str, stamp: int) -> Catalogue:  # noqa: ARG001  # the stamp is part of the key
    entries = sorted(_walk(root), key=lambda entry: entry.href)
    return Catalogue(root, entries)


def _walk(root: str) -> Iterator[Entry]:
    import pystac
    from pystac.utils import make_absolute_href

    waiting: list[tuple[str, str]] = [(root, "")]
    seen: set[str] = set()
    while waiting:
        href, collection = waiting.pop()
        if href in seen:
            continue
        seen.add(href)
        document = _document(href)
        kind, links = document.get("type"), document.get("links") or []
        if "conformsTo" in document or any(link.get("rel") == "search" for link in links):
            raise SourceError(
                href, "source", href, "a static STAC catalogue",
                "This is a STAC API, which this version does not search yet; save the items that "
                "you need, or name the path or URL of a static catalogue.",
            )  # fmt: skip
        if kind == "Feature":
            try:
                item = pystac.Item.from_dict(document, href=href, migrate=False)
            except (
                pystac.STACError,
                pystac.STACTypeError,
                LookupError,
                TypeError,
                ValueError,
            ) as p:
                raise StacError(href, "item", f"{type(p).__name__}: {p}", "a STAC item") from p
            yield Entry(item, href, item.collection_id or collection)
            continue
        if kind not in ("Catalog", "Collection"):
            raise StacError(href, "type", kind, "Catalog, Collection or Feature")
        below = str(document.get("id", "")) if kind == "Collection" else collection
        waiting += [
            (make_absolute_href(str(link["href"]), href, start_is_dir=False), below)
            for link in links
            if link.get("rel") in ("child", "item") and "href" in link
        ]


def _document(href: str) -> dict[str, Any]:
    if web.is_url(href):
        content = web.get(href, key="link")
    else:
        try:
            content = web.local_path(href).read_bytes()
        except OSError as problem:
            found = f"{problem.strerror}"
            raise StacError(href, "link", found, "a document that can be read") from None
    try:
        document = json.loads(content)
    except ValueError as problem:
        raise StacError(href, "json", str(problem), "valid JSON") from None
    if not isinstance(document, dict):
        raise StacError(href, "json", type(document).__name__, "a STAC document")
    return document


# ---- what an item is to us


def _by_time(scene: Scene) -> tuple[datetime, str]:
    return scene.datetime, scene.id


def names_of(thing: Imagery | LabelProduct, provider: str | None = None) -> list[Where]:
    """What a provider calls it; None: those whose items a static catalogue may hold, its own first."""
    asked = PROVIDERS if provider is None else (provider,)
    return [w for name in asked for w in thing.where if w.provider == name]


def _is_of(thing: Imagery | LabelProduct, entry: Entry) -> bool:
    """Whether an item belongs to an imagery source or a label product.

    By its collection, and where versions share one (WorldCover) by the properties that `match`
    asks for. In a collection of our own name those properties may be missing, but not different.
    """
    properties = entry.item.properties
    shared = [w for w in names_of(thing, entry.provider) if w.collection == entry.collection]
    if entry.collection != thing.name:
        return any(w.holds(properties) for w in shared)
    return not any(
        key in properties and properties[key] not in (want if isinstance(want, list) else [want])
        for w in shared
        for key, want in w.match.items()
    )


def scene_of(entry: Entry, imagery: Imagery) -> Scene:
    """An item as a scene, with those declared bands that it has; its grid is that of the finest.

    Raises:
        StacError: None of the bands, no date, or no projection.
    """
    assets, grids = {}, []
    bands = [band.name for band in imagery.bands]
    for name in dict.fromkeys([*bands, *imagery.validity.reads]):
        common = next((b.common_name for b in imagery.bands if b.name == name), None)
        found = find_asset(entry, imagery, name, common)
        if found is not None:
            assets[name] = reference_to(entry, *found, region_of(entry, imagery))
            if name in bands:  # that of validity may be finer, but a patch is of the spectral bands
                grids.append(_grid(entry, found[0]))
    if not grids:
        raise missing_asset(entry, imagery, *(band.name for band in imagery.bands))
    cloud = entry.item.properties.get("eo:cloud_cover")
    return Scene(
        id=entry.item.id,
        datetime=_times(entry)[0],
        cloud_cover=None if cloud is None else float(cloud),
        grid=min(grids, key=lambda grid: grid.pixel),
        assets=assets,
        properties={
            key: value
            for key, value in entry.item.properties.items()
            if isinstance(value, str | float | int | bool)
        },
        href=entry.href if entry.href.startswith(("http://", "https://")) else "",
    )


def map_of(entry: Entry, product: LabelProduct) -> Map:
    """An item as a map of a label product.

    Raises:
        StacError: No asset with the codes, no date, or no projection (of a vector: no bbox).
    """
    found = find_asset(entry, product, CODES, None) or find_asset(
        entry, product, product.name, None
    )
    if found is None:
        raise missing_asset(entry, product, CODES)
    first, last = _times(entry)
    reference = reference_to(entry, *found, region_of(entry, product))
    grid = _grid(entry, found[0]) if product.vector is None else _reach(entry)
    return Map(entry.item.id, entry, reference, grid, first, last)


def _reach(entry: Entry) -> Grid:
    """The box of an item as one pixel of degrees: where features may be, which have no pixels."""
    box = entry.item.bbox or []
    if len(box) == 6:
        box = [*box[:2], *box[3:5]]
    if len(box) != 4:
        raise StacError(entry.href, "bbox", box, "west, south, east, north of what it reaches")
    west, south, east, north = (float(v) for v in box)
    east += 360.0 * (west > east)
    if not (west < east and -90.001 <= south < north <= 90.001):
        raise StacError(entry.href, "bbox", box, "a box in degrees that is not empty")
    return Grid("EPSG:4326", Affine(east - west, 0, west, 0, south - north, north), 1, 1)


def _times(entry: Entry) -> tuple[datetime, datetime]:
    """First and last moment, UTC; equal for an item with a single one."""
    from pystac.utils import str_to_datetime

    properties = entry.item.properties
    moments = []
    for key in ("start_datetime", "end_datetime"):
        text = properties.get(key) or properties.get("datetime") or properties.get("start_datetime")
        try:
            moment = str_to_datetime(str(text))
        except ValueError:
            raise StacError(entry.href, key, text, "a date and time in RFC 3339") from None
        moments.append(moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC))
    if properties.get("datetime"):  # of a scene that states all three, the nominal one
        moment = str_to_datetime(str(properties["datetime"]))
        moments[0] = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moments[0], max(moments)


def find_asset(
    entry: Entry, thing: Imagery | LabelProduct, name: str, common: str | None
) -> tuple[pystac.Asset, int] | None:
    """The asset that holds a band, and the number of the band in it.

    By the asset's key: what `where` says, then the band's own name; then by the name of a band
    inside an asset.
    """
    assets = entry.item.assets
    wheres = [w for w in names_of(thing, entry.provider) if name in w.assets]
    for key, where in [*((w.assets[name], w) for w in wheres), (name, None)]:
        if key in assets:
            siblings = [n for n, k in where.assets.items() if k == key] if where else [name]
            return assets[key], _band_in(assets[key], name, common, siblings)
    wanted = {name, *(w.assets[name] for w in wheres)}
    for asset in assets.values():
        for i, band in enumerate(_bands(asset), start=1):
            if band.get("name") in wanted:
                return asset, i
    return None


def _band_in(asset: pystac.Asset, name: str, common: str | None, siblings: list[str]) -> int:
    bands = _bands(asset)
    for i, band in enumerate(bands, start=1):
        if band.get("name") == name:
            return i
    # A common name tells bands apart only where one of them has it: Sentinel-2 has three rededge.
    same = [i for i, b in enumerate(bands, start=1) if common and common in _common_names(b)]
    if len(same) == 1:
        return same[0]
    return siblings.index(name) + 1


def _common_names(band: dict[str, Any]) -> tuple[Any, Any]:
    return band.get("eo:common_name"), band.get("common_name")


def _bands(asset: pystac.Asset) -> list[dict[str, Any]]:
    """What is said of the bands of an asset: STAC 1.1, or the eo and raster extensions of 1.0."""
    for key in ("bands", "eo:bands", "raster:bands"):
        if asset.extra_fields.get(key):
            return list(asset.extra_fields[key])
    return []


def region_of(entry: Entry, thing: Imagery | LabelProduct) -> str:
    """Where the buckets of a thing's provider are."""
    return next((w.region for w in names_of(thing, entry.provider)), "us-west-2")


def reference_to(
    entry: Entry, asset: pystac.Asset, index: int, region: str = "us-west-2"
) -> AssetRef:
    """Where a band of an asset is, absolute, with scale and offset as the item states them."""
    stated: dict[str, float | None] = {}
    for what in ("scale", "offset"):
        value = asset.extra_fields.get(f"raster:{what}")
        for key, names in (("bands", (f"raster:{what}",)), ("raster:bands", (what,))):
            bands = asset.extra_fields.get(key) or []
            if index <= len(bands):
                value = next((bands[index - 1][n] for n in names if n in bands[index - 1]), value)
        stated[what] = None if value is None else float(value)
    href = asset.get_absolute_href()
    if href is None:
        raise StacError(entry.href, "assets.href", asset.href, "a path or URL")
    if href.startswith("s3://"):
        href = _bucket_url(href, entry, asset, region)
    elif not web.is_url(href) and not href.startswith("ee://"):
        href = str(web.local_path(href))
    shape = asset.extra_fields.get("proj:shape")  # that of an item may be of its finest band
    size = asset.extra_fields.get("file:size")
    return AssetRef(
        href=href, index=index, scale=stated["scale"], offset=stated["offset"],
        shape=(int(shape[0]), int(shape[1])) if shape and len(shape) == 2 else None,
        size=size if isinstance(size, int) else None,
    )  # fmt: skip


def _bucket_url(href: str, entry: Entry, asset: pystac.Asset, region: str) -> str:
    """The https URL of s3://BUCKET/KEY; where the item states no region, in the declared one."""
    bucket, _, key = href.removeprefix("s3://").partition("/")
    said = {**entry.item.properties, **asset.extra_fields}
    return f"https://{bucket}.s3.{said.get('storage:region', region)}.amazonaws.com/{key}"


def _grid(entry: Entry, asset: pystac.Asset) -> Grid:
    """CRS, transform and shape: of the asset where it has its own, else of the item."""
    crs = None
    for source in (asset.extra_fields, entry.item.properties):
        code, epsg = source.get("proj:code"), source.get("proj:epsg")
        wkt, projjson = source.get("proj:wkt2"), source.get("proj:projjson")
        crs = code or (f"EPSG:{epsg}" if epsg else None) or wkt
        crs = crs or (json.dumps(projjson) if projjson else None)
        if crs:
            break
    said: dict[str, Any] = {**entry.item.properties, **asset.extra_fields}
    transform, shape, box = (said.get(f"proj:{key}") for key in ("transform", "shape", "bbox"))
    if not crs:
        raise _no_projection(entry, "proj:code", None, "a CRS (proj:code, proj:epsg or proj:wkt2)")
    if not shape:
        raise _no_projection(entry, "proj:shape", shape, "[rows, columns]")
    if transform is None and box is None:
        raise _no_projection(entry, "proj:transform", transform, "6 or 9 numbers")
    try:
        height, width = (int(n) for n in shape)
        if transform is not None:
            affine = Affine(*(float(v) for v in transform[:6]))
        else:
            west, south, east, north = (float(v) for v in box or ())
            affine = Affine((east - west) / width, 0, west, 0, (south - north) / height, north)
        return Grid(crs_name(crs), affine, width, height)
    except (TypeError, ValueError) as problem:  # pyproj's CRSError is a ValueError's cousin
        raise _no_projection(entry, "proj:*", str(problem), "a north-up grid") from None
    except RuntimeError as problem:  # pyproj.exceptions.CRSError
        raise _no_projection(entry, "proj:code", crs, f"a CRS ({problem})") from None


def _no_projection(entry: Entry, key: str, found: object, allowed: str) -> StacError:
    return StacError(
        entry.href, key, found, allowed,
        "Every item needs the projection extension: where its pixels are is never guessed.",
    )  # fmt: skip


def missing_asset(entry: Entry, thing: Imagery | LabelProduct, *wanted: str) -> StacError:
    """The error that says which assets were looked for, and which there are."""
    names = [w.assets[n] for n in wanted for w in names_of(thing, entry.provider) if n in w.assets]
    keys = " or ".join(dict.fromkeys([*names, *wanted]))
    return StacError(
        entry.href, "assets", ", ".join(sorted(entry.item.assets)) or "(none)",
        f"an asset or band called {keys}", f"{thing.name} needs it.",
    )  # fmt: skip
