"""`las index`: a folder of georeferenced rasters, and of features, as a static STAC catalogue.

A small YAML beside them says what no raster says of itself: the sensor, the date, the label
product. Everything is checked, every pixel read once, before the first byte is written.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field

from las_builder.access.features import features_reach
from las_builder.access.items import CODES
from las_builder.access.maps import check_codes
from las_builder.access.raster import Raster, open_raster, read_blocks
from las_builder.catalogs import Catalogs, Imagery, LabelProduct
from las_builder.catalogs.loader import read_yaml
from las_builder.core.options import Strict
from las_builder.core.workspace import sha256_tree, writing_folder
from las_builder.errors import CatalogError, RasterError, UnknownNameError, WorkspaceError

if TYPE_CHECKING:
    import pystac

CONFIG = "index.yaml"
PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
EO = "https://stac-extensions.github.io/eo/v2.0.0/schema.json"


def _moment(value: Any) -> Any:
    """A day is its noon: nobody who gives only a day knows the hour."""
    if isinstance(value, str):  # quoted in the YAML
        with contextlib.suppress(ValueError):
            value = datetime.fromisoformat(value) if "T" in value else date.fromisoformat(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime.combine(value, time(12), UTC)
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    if not isinstance(value, datetime):
        raise ValueError("a date like 2022-10-05, or a date and time like 2022-10-05T11:54:11Z")
    return value


Moment = Annotated[datetime, BeforeValidator(_moment)]


class BandFile(Strict):
    """One raster of a scene."""

    path: str
    """Relative to the folder."""

    bands: list[str | None] = Field(min_length=1)
    """Declared name of each band in the file, in order; null for one that is not used."""


class SceneEntry(Strict):
    """One acquisition."""

    imagery: str
    """Name of a declaration in catalogs/imagery."""

    id: str | None = None
    """By default from the path of its first file."""

    date: Moment
    cloud_cover: float | None = Field(default=None, ge=0, le=100)
    """Percent of the scene."""

    properties: dict[str, str | float | int | bool] = Field(default_factory=dict)
    """What rules of the declaration ask for, e.g. s2:processing_baseline."""

    files: list[BandFile] = Field(min_length=1)


class LabelEntry(Strict):
    """One map of a label product."""

    product: str
    """Name of a declaration in catalogs/labels."""

    id: str | None = None
    start: date
    end: date
    """Last day."""

    file: str
    """A raster; of a vector product, a file of features."""

    band: int = Field(default=1, ge=1)
    bbox: tuple[float, float, float, float] | None = None
    """Vectors: west, south, east, north that were mapped, degrees; None: the box of its features."""

    properties: dict[str, str | float | int | bool] = Field(default_factory=dict)


class FolderIndex(Strict):
    """The whole file."""

    title: str
    description: str = ""
    license: str
    scenes: list[SceneEntry] = Field(default_factory=list)
    labels: list[LabelEntry] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What was indexed."""

    out: Path
    """The catalogue, for `source:` of a recipe."""

    items: Mapping[str, int]
    """Items of each imagery source and label product."""

    def __str__(self) -> str:
        items = ", ".join(f"{n} {name}" for name, n in sorted(self.items.items()))
        return f"{self.out / 'catalog.json'}: {items}"


def index_folder(
    folder: Path, config: Path | None, out: Path, *, catalogs: Catalogs | None = None
) -> IndexReport:
    """Turn a folder of rasters into a static STAC 1.1 catalogue.

    Hrefs of assets are relative to the items, so that folder and catalogue can move, or be served,
    together. The same input gives the same bytes; if `out` holds just that catalogue, it stays.

    Args:
        folder: Where the rasters are.
        config: What they are; None: index.yaml in the folder.
        out: A folder that does not exist yet, or is empty.
        catalogs: Declarations; None: ours alone.

    Raises:
        CatalogError: The config says something it must not.
        UnknownNameError: An imagery source, label product or band that nothing declares.
        RasterError: A raster is missing, truncated, without CRS, or has other bands or another type.
        LegendError: A label raster holds codes that its product does not declare.
        WorkspaceError: `out` holds something else, or cannot be written.
    """
    if not folder.is_dir():
        raise CatalogError("command", "DIR", str(folder), "a folder of rasters")
    config = config or folder / CONFIG
    catalogs = catalogs or Catalogs.load()
    what = read_yaml(config, FolderIndex)
    if not what.scenes and not what.labels:
        raise CatalogError(config, "scenes", None, "at least one entry in `scenes` or `labels`")
    parts = [
        *(_scene(entry, f"scenes.{i}", folder, config, catalogs) for i, entry in enumerate(what.scenes)),
        *(_label(entry, f"labels.{i}", folder, config, catalogs) for i, entry in enumerate(what.labels)),
    ]  # fmt: skip
    _check_ids(parts, config)
    _write(what, parts, out)
    return IndexReport(out, Counter(part.thing.name for part in parts))


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """One raster as an asset."""

    raster: Raster
    key: str
    bands: Sequence[str | None]
    roles: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One item to be, checked."""

    key: str
    """Of the config."""

    thing: Imagery | LabelProduct
    id: str
    start: datetime
    end: datetime | None
    """None: a moment."""

    files: Sequence[_File] = ()
    features: tuple[str, tuple[float, float, float, float]] | None = None
    """Of a vector: its file, and the box that it reaches; it has no raster."""

    properties: Mapping[str, Any] = field(default_factory=dict)


def _scene(entry: SceneEntry, key: str, folder: Path, config: Path, catalogs: Catalogs) -> _Part:
    imagery = catalogs.imagery(entry.imagery, where=config, key=f"{key}.imagery")
    ways = (imagery.validity, *imagery.validities.values())
    names_of_qa = [way.band for way in ways if way.band and way.computed is None]
    known = [*(band.name for band in imagery.bands), *names_of_qa]
    files, seen = [], set[str]()
    for i, file in enumerate(entry.files):
        at = f"{key}.files.{i}"
        names = [name for name in file.bands if name is not None]
        for name in names:
            if name not in known:
                raise UnknownNameError(
                    f"band of {imagery.name}", name, known, where=config, key=f"{at}.bands"
                )
            if name in seen:
                raise CatalogError(config, f"{at}.bands", name, "every band once in a scene")
            seen.add(name)
        raster = _open(folder, file.path, config, f"{at}.path")
        count = raster.dataset.count
        if count != len(file.bands):
            raise RasterError(
                raster.href, "bands", count,
                f"{len(file.bands)}, as {config} says in {at}.bands",
            )  # fmt: skip
        for index, band in enumerate(file.bands, start=1):
            own = np.dtype(raster.dataset.dtypes[index - 1])
            if band not in (None, *names_of_qa) and not np.can_cast(own, imagery.dtype, "safe"):
                raise RasterError(
                    raster.href, f"type of band {index} ({band})", str(own),
                    f"a type that {imagery.data_type} of {imagery.name} holds without loss",
                )  # fmt: skip
            if band is not None:
                for _ in read_blocks(raster, index):
                    pass  # a truncated file fails here, not after hours of fetching
        asset = names[0] if names and len(file.bands) == 1 else Path(file.path).stem
        roles = ["data-mask"] if set(names) <= set(names_of_qa) else ["data"]
        files.append(_File(raster=raster, key=asset, bands=file.bands, roles=roles))
    cloud = {} if entry.cloud_cover is None else {"eo:cloud_cover": entry.cloud_cover}
    return _Part(
        key=key,
        thing=imagery,
        id=entry.id or _id(entry.files[0].path),
        start=entry.date,
        end=None,
        files=files,
        properties={**entry.properties, **cloud},
    )


def _label(entry: LabelEntry, key: str, folder: Path, config: Path, catalogs: Catalogs) -> _Part:
    product = catalogs.label(entry.product, where=config, key=f"{key}.product")
    if entry.end < entry.start:
        raise CatalogError(config, f"{key}.end", str(entry.end), f"a day from {entry.start} on")
    part = _Part(
        key=key,
        thing=product,
        id=entry.id or _id(entry.file),
        start=datetime.combine(entry.start, time(0), UTC),
        end=datetime.combine(entry.end, time(23, 59, 59), UTC),
        properties=entry.properties,
    )
    if product.vector is not None:
        file = _file(folder, entry.file, config, f"{key}.file")
        found = features_reach(file, product)  # every feature is read
        box = entry.bbox or found
        if box is None:
            raise CatalogError(
                config, f"{key}.bbox", None, f"the box that was mapped: {entry.file} has no feature"
            )
        return replace(part, features=(file, box))
    if entry.bbox is not None:
        raise CatalogError(config, f"{key}.bbox", entry.bbox, "nothing: rasters say where they are")
    raster = _open(folder, entry.file, config, f"{key}.file")
    for block in read_blocks(raster, entry.band):
        check_codes(block, raster.dataset.nodatavals[entry.band - 1], product, raster.href)
    bands = [CODES if i == entry.band else None for i in range(1, raster.dataset.count + 1)]
    return replace(part, files=[_File(raster=raster, key=CODES, bands=bands, roles=["data"])])


def _open(folder: Path, path: str, config: Path, key: str) -> Raster:
    return open_raster(_file(folder, path, config, key))


def _file(folder: Path, path: str, config: Path, key: str) -> str:
    file = (folder / path).resolve()
    if not file.is_file():
        raise CatalogError(config, key, path, f"a file in {folder}")
    return str(file)


def _id(path: str) -> str:
    """The path without suffix: the one name that differs between files of one folder."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", str(Path(path).with_suffix("")))


def _check_ids(parts: Sequence[_Part], config: Path) -> None:
    seen: dict[tuple[str, str], str] = {}
    for part in parts:
        other = seen.setdefault((part.thing.name, part.id), part.key)
        if other != part.key:
            raise CatalogError(
                config, f"{part.key}.id", part.id, f"an id that {other} does not have",
                "Give one of them an `id` of its own.",
            )  # fmt: skip


# ---- writing


def _write(what: FolderIndex, parts: Sequence[_Part], out: Path) -> None:
    import pystac

    out = Path(os.path.abspath(out))  # noqa: PTH100  # not resolve(): hrefs follow the given path
    catalog = pystac.Catalog(
        id=_id(what.title.lower()), description=what.description or what.title, title=what.title
    )
    for name in sorted({part.thing.name for part in parts}):
        mine = sorted((p for p in parts if p.thing.name == name), key=lambda part: part.id)
        items = [_item(part) for part in mine]
        collection = pystac.Collection(
            id=name,
            description=mine[0].thing.description or mine[0].thing.title,
            title=mine[0].thing.title,
            license=what.license,
            extent=_extent(items),
        )
        catalog.add_child(collection)
        collection.add_items(items)
    catalog.normalize_hrefs(str(out))
    catalog.make_all_asset_hrefs_relative()
    with writing_folder(out) as part_folder:
        catalog.save(pystac.CatalogType.SELF_CONTAINED, dest_href=str(part_folder))
        new = sha256_tree(part_folder)
    if sha256_tree(out) != new:  # writing_folder keeps what is there
        raise WorkspaceError(
            out, "--out", "another content", "a folder that does not exist yet, or is empty"
        )


def _features_item(part: _Part) -> pystac.Item:
    """Of a file of features: a box, and no projection, which only pixels have."""
    import pystac

    href, (west, south, east, north) = part.features or ("", (0.0, 0.0, 0.0, 0.0))
    boxes = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
    rings = [[[[w, south], [e, south], [e, north], [w, north], [w, south]]] for w, e in boxes]
    kind, coordinates = ("Polygon", rings[0]) if len(rings) == 1 else ("MultiPolygon", rings)
    item = pystac.Item(
        id=part.id,
        geometry={"type": kind, "coordinates": coordinates},
        bbox=[west, south, east, north],
        datetime=None,
        start_datetime=part.start,
        end_datetime=part.end,
        properties=dict(part.properties),
    )
    media = {
        ".gpkg": pystac.MediaType.GEOPACKAGE,
        ".fgb": pystac.MediaType.FLATGEOBUF,
        ".geojson": pystac.MediaType.GEOJSON,
        ".json": pystac.MediaType.GEOJSON,
        ".parquet": pystac.MediaType.PARQUET,
    }.get(Path(href).suffix.lower())
    item.add_asset(CODES, pystac.Asset(href=href, media_type=media, roles=["data"]))
    return item


def _item(part: _Part) -> pystac.Item:
    import pystac
    from rio_stac import create_stac_item

    if part.features is not None:
        return _features_item(part)
    finest = min((file.raster for file in part.files), key=lambda r: abs(r.dataset.transform.a))
    properties = dict(part.properties)
    if part.end is not None:
        properties["start_datetime"] = _text(part.start)
        properties["end_datetime"] = _text(part.end)
    item: pystac.Item = create_stac_item(
        finest.dataset,
        input_datetime=None if part.end else part.start,
        id=part.id,
        properties=properties,
        geom_densify_pts=4,
        geom_precision=7,
    )
    item.assets.clear()
    item.bbox = _bbox(item.geometry)
    item.stac_extensions = [EO, PROJECTION]
    item.properties.update(_projection(finest))
    for file in part.files:
        extra: dict[str, Any] = {
            "bands": [_band(part.thing, *band) for band in enumerate(file.bands, start=1)]
        }
        types = sorted(set(file.raster.dataset.dtypes))
        if len(types) == 1:
            extra["data_type"] = types[0]
        nodata = file.raster.dataset.nodata
        if nodata is not None:
            extra["nodata"] = "nan" if np.isnan(nodata) else nodata
        if file.raster is not finest:
            extra.update(_projection(file.raster))
        asset = pystac.Asset(
            href=file.raster.href,
            media_type=pystac.MediaType.GEOTIFF if file.raster.dataset.driver == "GTiff" else None,
            roles=list(file.roles),
            extra_fields=extra,
        )
        item.add_asset(file.key, asset)
    return item


def _band(thing: Imagery | LabelProduct, index: int, name: str | None) -> dict[str, Any]:
    """A band as STAC 1.1 has it. Scale and offset stay with the declaration, whose rules decide."""
    if name is None:
        return {"name": f"unused-{index}"}
    if isinstance(thing, LabelProduct):
        return {"name": name}
    band = next((band for band in thing.bands if band.name == name), None)
    said = band.model_dump(by_alias=True, exclude_none=True) if band else {}
    return {"name": name, **{key: said[key] for key in said if key.startswith("eo:")}}


def _projection(raster: Raster) -> dict[str, Any]:
    dataset = raster.dataset
    code = {"proj:code": raster.crs} if len(raster.crs) < 24 else {"proj:wkt2": raster.crs}
    return {
        **code,
        "proj:shape": [dataset.height, dataset.width],
        "proj:transform": [float(v) for v in tuple(dataset.transform)[:6]],
    }


def _bbox(geometry: Any) -> list[float]:
    """West, south, east, north; west > east over the antimeridian, as RFC 7946 has it.

    There the outline comes cut in two, a part at each end of the map.
    """
    if geometry["type"] == "Polygon":
        return _box(_positions(geometry["coordinates"]))
    boxes = [_box(_positions(polygon)) for polygon in geometry["coordinates"]]
    west = min(box[0] for box in boxes if box[0] > 0)
    east = max(box[2] for box in boxes if box[2] < 0)
    return [west, min(box[1] for box in boxes), east, max(box[3] for box in boxes)]


def _positions(rings: Any) -> list[Sequence[float]]:
    return [position for ring in rings for position in ring]


def _box(positions: Sequence[Sequence[float]]) -> list[float]:
    x, y = [p[0] for p in positions], [p[1] for p in positions]
    return [min(x), min(y), max(x), max(y)]


def _extent(items: Sequence[pystac.Item]) -> pystac.Extent:
    import pystac

    boxes = [item.bbox for item in items if item.bbox]
    crosses = any(box[0] > box[2] for box in boxes)
    west = -180.0 if crosses else min(box[0] for box in boxes)
    east = 180.0 if crosses else max(box[2] for box in boxes)
    box = [west, min(box[1] for box in boxes), east, max(box[3] for box in boxes)]
    times = [moment for item in items for moment in _times(item)]
    return pystac.Extent(
        pystac.SpatialExtent([box]), pystac.TemporalExtent([[min(times), max(times)]])
    )


def _times(item: pystac.Item) -> Iterator[datetime]:
    from pystac.utils import str_to_datetime

    if item.datetime is not None:
        yield item.datetime
    for key in ("start_datetime", "end_datetime"):
        if key in item.properties:
            yield str_to_datetime(item.properties[key])


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
