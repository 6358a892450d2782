"""STAC APIs by pystac-client: Earth Search, the Planetary Computer, or any other at a URL."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from las_builder.access import signing, wire
from las_builder.access.composite import composed
from las_builder.access.items import Entry, Index, Map, map_of, names_of, scene_of
from las_builder.access.limit import Limit
from las_builder.access.maps import files_of, have_maps, pinned_maps, read_map
from las_builder.access.meet import extent_in
from las_builder.access.protocol import LabelRequest, ReadRequest, SearchRequest
from las_builder.access.read import read_scenes
from las_builder.catalogs import Imagery, LabelProduct, StacProvider, Where
from las_builder.core.grid import Grid
from las_builder.core.types import Chip, Gap, LabelSource, Period, PinnedMap, Scene
from las_builder.errors import AccessError, LasWarning, SourceError, StacError

if TYPE_CHECKING:
    from pystac_client import Client

CELL = 1.0
"""Degrees: label maps are searched for by cells of this size, whose answers are kept."""

SIGN: dict[str, wire.Sign | None] = {
    "none": None,
    "sign": signing.planetary,
    "requester-pays": signing.requester_pays,
}

LONLAT = "EPSG:4326"

Box = tuple[float, float, float, float]
"""West, south, east, north in degrees; none over the antimeridian."""

KEPT = (
    "collection", "geometry", "properties.datetime", "properties.start_datetime",
    "properties.end_datetime", "properties.platform", "properties.eo:cloud_cover",
    "properties.proj:epsg", "properties.proj:code", "properties.proj:wkt2",
    "properties.proj:projjson", "properties.proj:shape", "properties.proj:transform",
    "properties.proj:bbox", "properties.gsd", "properties.storage:region",
)  # fmt: skip
"""What is asked for of an item where the API can leave out the rest, besides what rules need."""


@dataclass(frozen=True, slots=True)
class StacApi:
    """An `Access` to STAC APIs. Cheap to make and to pickle: nothing is asked before it is needed."""

    providers: tuple[StacProvider, ...]
    """The first has the imagery; label products may come from the others."""

    @property
    def name(self) -> str:
        """As recipes say it."""
        return self.providers[0].name

    @property
    def synthetic(self) -> bool:
        """Never: what is made up is made elsewhere."""
        return False

    def search(self, imagery: Imagery, requests: Sequence[SearchRequest]) -> list[list[Scene]]:
        """See `Access.search`: one search for all patches that ask for the same days.

        Items that lack what reading needs are passed over where others do not; scenes of which
        nobody can say whether their offset has been applied are passed over, see `OffsetRule`.

        Raises:
            StacError: No item has what reading needs; names the field of the first.
        """
        provider = self._of(imagery)
        out: list[list[Scene]] = [[] for _ in requests]
        asked: dict[tuple[Period, float], list[int]] = {}
        for i, request in enumerate(requests):
            asked.setdefault((request.period, request.max_cloud), []).append(i)
        for (period, max_cloud), group in asked.items():
            boxes = [box for i in group for box in boxes_of(requests[i].grid)]
            found, broken = {}, []
            for entry in items_in(provider, imagery, boxes, period, max_cloud):
                try:
                    scene = scene_of(entry, imagery)
                except StacError as problem:
                    broken.append(problem)
                    continue
                if imagery.trusted(scene):
                    found[scene.id] = scene
            if broken and not found:
                raise broken[0]
            index = Index.of(sorted(found.values(), key=lambda s: (s.datetime, s.id)))
            for i in group:
                out[i] = [
                    scene
                    for scene in index.meeting(requests[i].grid)
                    if period.holds(scene.datetime)
                    and (scene.cloud_cover is None or scene.cloud_cover <= max_cloud)
                ]
        return out

    def read(self, imagery: Imagery, requests: Sequence[ReadRequest]) -> list[Chip | Gap]:
        """See `Access.read`."""
        self._know()
        return composed(read_scenes, imagery, requests)

    def labels(
        self, product: LabelProduct, requests: Sequence[LabelRequest]
    ) -> list[LabelSource | Gap]:
        """See `Access.labels`, and `stac.StaticStac.labels` for which map is taken."""
        self._know()
        provider = self._of(product)
        return [read_map(product, _maps_at(provider, product, r.grid), r) for r in requests]

    def labelled(self, product: LabelProduct, requests: Sequence[LabelRequest]) -> list[bool]:
        """See `Access.labelled`."""
        self._know()
        provider = self._of(product)
        return have_maps(product, lambda grid: _maps_at(provider, product, grid), requests)

    def label_maps(
        self, product: LabelProduct, requests: Sequence[LabelRequest]
    ) -> list[tuple[PinnedMap, ...]]:
        """The maps of each request as they are now, for `PinnedScene.maps`."""
        self._know()
        provider = self._of(product)
        return [pinned_maps(product, _maps_at(provider, product, r.grid), r) for r in requests]

    def label_files(self, product: LabelProduct, request: LabelRequest) -> list[str]:
        """The files of a label product that a request would read."""
        return files_of(product, _maps_at(self._of(product), product, request.grid), request)

    def sites(self, imagery: Imagery, products: Sequence[LabelProduct]) -> list[Scene] | None:
        """Endless, as far as we are concerned."""
        del imagery, products
        return None

    def check(
        self, imagery: Imagery | None, bands: Sequence[str], products: Sequence[LabelProduct]
    ) -> None:
        """See `Access.check`: that the collections are there, and what reading them costs.

        Raises:
            SourceError: A collection is not there, or its reader pays and there is no access key.
            AccessError: The API does not answer.
        """
        del bands
        things: list[Imagery | LabelProduct] = [imagery] if imagery is not None else []
        for thing in [*things, *products]:
            provider = self._of(thing)
            for where in names_of(thing, provider.name):
                _check_collection(provider, thing, where)
                if where.auth == "requester-pays":
                    _say_who_pays(provider, thing, where)

    def _of(self, thing: Imagery | LabelProduct) -> StacProvider:
        """Who has it."""
        self._know()
        asked = self.providers[:1] if isinstance(thing, Imagery) else self.providers
        for provider in asked:
            if names_of(thing, provider.name):
                return provider
        has = ", ".join(sorted({where.provider for where in thing.where}))
        key = "imagery" if isinstance(thing, Imagery) else "labels"
        raise SourceError(
            self.name, key, thing.name, f"what it has; {thing.name} comes from: {has}"
        )

    def _know(self) -> None:
        for provider in self.providers:
            wire.know(_hosts(provider))


@functools.lru_cache(maxsize=16)
def _hosts_of(said: tuple[tuple[str, float, int, str], ...]) -> tuple[wire.Host, ...]:
    return tuple(wire.Host(host, Limit(rate, many), SIGN[auth]) for host, rate, many, auth in said)


def _hosts(provider: StacProvider) -> tuple[wire.Host, ...]:
    return _hosts_of(tuple((h.host, h.per_second, h.in_flight, h.auth) for h in provider.hosts))


def any_api(url: str) -> StacProvider:
    """The declaration of an API that has none: it uses the names of static catalogues."""
    return StacProvider(name="stac", title=url, api=url, verified=False, sources=[url])


# ---- asking


@functools.lru_cache(maxsize=8)
def _client(api: str, pid: int) -> Client:  # noqa: ARG001  # sockets do not survive a fork
    import pystac_client
    from pystac_client.stac_api_io import StacApiIO

    io = StacApiIO(max_retries=None, timeout=wire.READ_S)
    wire.equipped(io.session)
    with our_words(api):
        return pystac_client.Client.open(api, stac_io=io)


def client(provider: StacProvider) -> Client:
    """The client of a provider, opened once in a process.

    Raises:
        AccessError: The API does not answer.
    """
    return _client(provider.api, os.getpid())


@contextmanager
def our_words(api: str) -> Iterator[None]:
    """What pystac-client raises, as errors of ours."""
    from pystac import STACError
    from pystac_client.exceptions import APIError

    try:
        yield
    except (APIError, STACError, ValueError, KeyError, TypeError) as problem:
        cause: BaseException | None = problem
        while cause is not None:
            if isinstance(cause, wire.Failure):
                raise cause.error from None
            cause = cause.__cause__ or cause.__context__
        text = f"{type(problem).__name__}: {problem}"
        raise AccessError(api, "search", text, retryable=True, kind="not-data") from problem


def items_in(
    provider: StacProvider,
    thing: Imagery | LabelProduct,
    boxes: Sequence[Box],
    period: Period | None = None,
    max_cloud: float | None = None,
) -> list[Entry]:
    """The items of a thing that meet any of some boxes.

    Args:
        provider: Who is asked.
        thing: Imagery or a label product that it has.
        boxes: See `boxes_of`.
        period: Days; None: any.
        max_cloud: Percent; items that do not say are kept.

    Raises:
        AccessError: The API failed.
    """
    import pystac

    api = client(provider)
    entries = {}
    for where in names_of(thing, provider.name):
        collection = where.collection or thing.name
        said = {
            "collections": [collection],
            "limit": provider.page,
            **_place(boxes),
            **wanted(api, thing, where, max_cloud),
        }
        if period is not None:
            said["datetime"] = f"{period.start}T00:00:00Z/{_last_moment(period)}"
        with our_words(provider.api):
            for found in api.search(**said).items_as_dicts():
                item = pystac.Item.from_dict(found, migrate=False, preserve_dict=False)
                href = f"{provider.api}/collections/{collection}/items/{item.id}"
                item.set_self_href(href)
                if where.holds(item.properties):
                    entries[item.id] = Entry(item, href, collection, provider.name)
    return [entries[key] for key in sorted(entries)]


def boxes_of(grid: Grid) -> list[Box]:
    """A grid as boxes of longitude and latitude; two where it lies over the antimeridian."""
    (west, east), (south, north) = extent_in(grid, LONLAT)
    south, north = max(south, -90.0), min(north, 90.0)
    if east - west >= 360:
        return [(-180.0, south, 180.0, north)]
    west, east = (west + 180) % 360 - 180, (west + 180) % 360 - 180 + (east - west)
    if east > 180:
        return [(west, south, 180.0, north), (-180.0, south, east - 360, north)]
    return [(west, south, east, north)]


def _place(boxes: Sequence[Box]) -> dict[str, Any]:
    if len(boxes) == 1:
        return {"bbox": list(boxes[0])}
    rings = [[[[w, s], [e, s], [e, n], [w, n], [w, s]]] for w, s, e, n in sorted(set(boxes))]
    return {"intersects": {"type": "MultiPolygon", "coordinates": rings}}


def wanted(
    api: Client, thing: Imagery | LabelProduct, where: Where, max_cloud: float | None
) -> dict[str, Any]:
    """Conditions on properties, and which fields are wanted, as far as the API knows of them.

    What it does not know of is done here, so an API that knows nothing gives the same scenes.
    """
    out: dict[str, Any] = {}
    if _conforms(api, "FILTER") and _conforms_to_cql2_json(api):
        parts = [_one_of(key, want) for key, want in sorted(where.match.items())]
        if max_cloud is not None and max_cloud < 100:
            cloud = {"property": "eo:cloud_cover"}
            few = {"op": "<=", "args": [cloud, max_cloud]}
            parts.append({"op": "or", "args": [few, {"op": "isNull", "args": [cloud]}]})
        if parts:
            out["filter"] = parts[0] if len(parts) == 1 else {"op": "and", "args": parts}
            out["filter_lang"] = "cql2-json"
    elif _conforms(api, "QUERY") and where.match:
        # `query` cannot say "or unknown", so clouds are looked at here.
        out["query"] = {
            key: {"in": want} if isinstance(want, list) else {"eq": want}
            for key, want in sorted(where.match.items())
        }
    if _conforms(api, "FIELDS"):
        out["fields"] = {
            "include": ["id", "type", "stac_version", "bbox", "links", *_fields(thing, where)]
        }
    return out


def _one_of(key: str, want: object) -> dict[str, Any]:
    op, value = ("in", want) if isinstance(want, list) else ("=", want)
    return {"op": op, "args": [{"property": key}, value]}


def _fields(thing: Imagery | LabelProduct, where: Where) -> list[str]:
    if isinstance(thing, Imagery):
        names = [band.name for band in thing.bands]
        names += thing.validity.reads
        keys = {
            key
            for rule in thing.offset_rules
            for key in (rule.property, *rule.unless, *rule.doubtful)
        }
        keys |= {thing.sun_elevation} if thing.sun_elevation else set()
        assets = {where.assets.get(name, name) for name in names}
    else:
        # Evidence may be assets of any name, and what a map is paired by any property.
        return ["collection", "geometry", "properties", "assets"]
    keys |= set(where.match)
    return [
        *KEPT,
        *(f"properties.{k}" for k in sorted(keys)),
        *(f"assets.{k}" for k in sorted(assets)),
    ]


def _conforms(api: Client, what: str) -> bool:
    return bool(api.conforms_to(what))


def _conforms_to_cql2_json(api: Client) -> bool:
    return any("cql2-json" in uri for uri in api.get_conforms_to())


def _last_moment(period: Period) -> str:
    from datetime import timedelta

    return f"{period.end - timedelta(days=1)}T23:59:59.999999Z"


# ---- maps


def _maps_at(provider: StacProvider, product: LabelProduct, grid: Grid) -> Index[Map]:
    """The maps near a grid; cells of a degree are asked for once in a process."""
    asked = _Asked(provider, product)
    found = {one.id: one for cell in cells_of(grid) for one in _maps_in(cell, asked)}
    return Index.of([found[key] for key in sorted(found)])


def cells_of(grid: Grid) -> list[Box]:
    """The cells of a degree that a grid meets, none of them empty: neither beyond 180 degrees nor
    beyond a pole.
    """
    last_column, last_row = int(180 // CELL) - 1, int(90 // CELL) - 1
    return [
        (column * CELL, row * CELL, (column + 1) * CELL, (row + 1) * CELL)
        for west, south, east, north in boxes_of(grid)
        for column in range(int(west // CELL), min(int(east // CELL), last_column) + 1)
        for row in range(int(south // CELL), min(int(north // CELL), last_row) + 1)
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """Provider and product, passed by the names under which answers are kept."""

    provider: StacProvider
    product: LabelProduct

    def __hash__(self) -> int:
        return hash((self.provider.api, self.product.name))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Asked) and (self.provider, self.product) == (
            other.provider, other.product,
        )  # fmt: skip


@functools.lru_cache(maxsize=4096)
def _maps_in(cell: Box, asked: _Asked) -> tuple[Map, ...]:
    entries = items_in(asked.provider, asked.product, [cell])
    return tuple(map_of(entry, asked.product) for entry in entries)


# ---- before a run


def _check_collection(provider: StacProvider, thing: Imagery | LabelProduct, where: Where) -> None:
    name = where.collection or thing.name
    try:
        with our_words(provider.api):
            client(provider).get_collection(name)
    except AccessError as problem:
        if problem.kind == "absent":
            key = "imagery" if isinstance(thing, Imagery) else "labels"
            raise SourceError(
                provider.api, key, thing.name, "collections that it has",
                f"It has no {name}; see `where` of the declaration.",
            ) from None  # fmt: skip
        raise


def _say_who_pays(provider: StacProvider, thing: Imagery | LabelProduct, where: Where) -> None:
    """Before the run, not at the first 403."""
    if signing.aws_key() is None:
        others = sorted(
            {w.provider for w in thing.where if w.auth != "requester-pays"} - {"virtual"}
        )
        raise SourceError(
            provider.name, "source", provider.name,
            f"an AWS access key beside it: whoever reads its {thing.name} pays for the transfer",
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or take it from "
            f"{', '.join(others)}.",
        )  # fmt: skip
    warnings.warn(
        f"{provider.name}: your AWS account pays for what is read of {thing.name} "
        f"(about 0.09 USD a GB outside of {where.region}, free of transfer costs inside)",
        LasWarning, stacklevel=2,
    )  # fmt: skip
