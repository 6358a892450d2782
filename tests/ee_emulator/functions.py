"""The functions of Earth Engine that the emulator knows; each takes the arguments by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import shapely
from affine import Affine
from pyproj import CRS
from shapely.geometry import mapping, shape
from shapely.ops import transform as moved

from ee_emulator.images import (
    Array,
    Band,
    Collection,
    Frame,
    Image,
    Refused,
    constant,
    gathered,
    pointwise,
    reprojected,
    same,
    turn,
)  # fmt: skip

KNOWN: dict[str, Callable[..., Any]] = {}


def function(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def note(make: Callable[..., Any]) -> Callable[..., Any]:
        KNOWN.update(dict.fromkeys(names, make))
        return make

    return note


@dataclass(frozen=True)
class Projection:
    crs: str
    transform: Affine

    def described(self) -> dict[str, Any]:
        return {"type": "Projection", "crs": self.crs, "transform": list(self.transform)[:6]}


@dataclass(frozen=True)
class Reducer:
    name: str
    weighted: bool = False


@dataclass(frozen=True)
class DateRange:
    start: float
    end: float
    """Milliseconds; not included."""


Filter = Callable[[Image], bool]


# ---- images


def image_of(value: Any) -> Image:
    if isinstance(value, Image):
        return value
    if isinstance(value, bool | int | float):
        return Image((constant("constant", value),))
    raise Refused(f"Cannot convert {type(value).__name__} to an Image.")


@function("Image.constant")
def image_constant(value: Any) -> Image:
    values = value if isinstance(value, list) else [value]
    names = ["constant"] if len(values) == 1 else [f"constant_{i}" for i in range(len(values))]
    return Image(tuple(constant(n, v) for n, v in zip(names, values, strict=True)))


@function("Image.select")
def image_select(
    input: Image, bandSelectors: list[Any], newNames: list[str] | None = None
) -> Image:
    found: list[Band] = []
    for wanted in bandSelectors:
        if isinstance(wanted, int | float):
            found.append(input.bands[int(wanted)])
            continue
        hits = [b for b in input.bands if re.fullmatch(wanted, b.name)]
        found += hits or [input.band(wanted)]
    if newNames is not None:
        found = [replace(b, name=n) for b, n in zip(found, newNames, strict=True)]
    return replace(input, bands=tuple(found))


@function("Image.rename")
def image_rename(input: Image, names: list[str]) -> Image:
    if len(names) != len(input.bands):
        raise Refused("Image.rename: The number of names must match the number of bands.")
    return replace(
        input, bands=tuple(replace(b, name=n) for b, n in zip(input.bands, names, strict=True))
    )


@function("Image.addBands")
def image_add_bands(
    dstImg: Image, srcImg: Image, names: list[str] | None = None, overwrite: bool = False
) -> Image:
    new = [b for b in srcImg.bands if names is None or b.name in names]
    old = [b for b in dstImg.bands if not (overwrite and b.name in {n.name for n in new})]
    taken = {b.name for b in old}
    out = [*old]
    for band in new:
        name, k = band.name, 1
        while name in taken:
            name, k = f"{band.name}_{k}", k + 1
        taken.add(name)
        out.append(replace(band, name=name))
    return replace(dstImg, bands=tuple(out))


@function("Image.cat")
def image_cat(images: list[Image]) -> Image:
    out = images[0]
    for image in images[1:]:
        out = image_add_bands(out, image)
    return out


@function("Image.bandNames")
def band_names(image: Image) -> list[str]:
    return [b.name for b in image.bands]


@function("Image.mask")
def image_mask(image: Image, mask: Image | None = None) -> Image:
    if mask is not None:
        raise Refused("emulator: Image.mask with a second argument is not emulated")
    return image.each(
        lambda b: replace(
            pointwise(b.name, "float32", [b], lambda v, m: (m.astype("float32"), m | True)),
            crs=b.crs, transform=b.transform,
        )
    )  # fmt: skip


@function("Image.updateMask")
def update_mask(image: Image, mask: Any) -> Image:
    masks = image_of(mask).bands
    return replace(
        image,
        bands=tuple(
            pointwise(b.name, b.dtype, [b, masks[i if len(masks) > 1 else 0]],
                      lambda v, m, w, n: (v, m & n & (w != 0)))
            for i, b in enumerate(image.bands)
        ),
    )  # fmt: skip


@function("Image.selfMask")
def self_mask(image: Image) -> Image:
    return update_mask(image, image)


@function("Image.unmask")
def unmask(input: Image, value: Any = 0, sameFootprint: bool = True) -> Image:
    if sameFootprint:
        raise Refused("emulator: unmask with sameFootprint is not emulated")
    fills = image_of(value).bands
    return replace(
        input,
        bands=tuple(
            pointwise(b.name, np.result_type(b.dtype, np.min_scalar_type(0)),
                      [b, fills[i if len(fills) > 1 else 0]],
                      lambda v, m, w, n: (np.where(m, v, w), m | n))
            for i, b in enumerate(input.bands)
        ),
    )  # fmt: skip


@function("Image.remap")
def remap(
    image: Image, defaultValue: Any = None, bandName: str | None = None, **lists: Any
) -> Image:
    old, new = lists["from"], lists["to"]
    band = image.band(bandName) if bandName else image.bands[0]

    def make(v: Array, m: Array) -> tuple[Array, Array]:
        out = np.full(v.shape, 0 if defaultValue is None else defaultValue, "int32")
        hit = np.zeros(v.shape, bool)
        for a, b in zip(old, new, strict=True):
            here = v == a
            out[here], hit[here] = b, True
        return out, m & (hit if defaultValue is None else True)

    return replace(image, bands=(pointwise("remapped", "int32", [band], make),))


@function("Image.where")
def where(input: Image, test: Any, value: Any) -> Image:
    tests, values = image_of(test).bands, image_of(value).bands

    def make(v: Array, m: Array, t: Array, tm: Array, w: Array, wm: Array) -> tuple[Array, Array]:
        use = tm & (t != 0) & wm
        return np.where(use, w, v), m

    return replace(
        input,
        bands=tuple(
            pointwise(b.name, np.result_type(b.dtype, values[0].dtype),
                      [b, tests[i if len(tests) > 1 else 0], values[i if len(values) > 1 else 0]],
                      make)
            for i, b in enumerate(input.bands)
        ),
    )  # fmt: skip


def _wide(*types: np.dtype[Any]) -> Any:
    return np.result_type(*types, np.int32)


BINARY: dict[str, tuple[Callable[..., Any], str | None]] = {
    "add": (np.add, None), "subtract": (np.subtract, None), "multiply": (np.multiply, None),
    "divide": (np.true_divide, "float64"), "max": (np.maximum, None), "min": (np.minimum, None),
    "mod": (np.fmod, None), "pow": (np.power, "float64"),
    "eq": (np.equal, "uint8"), "neq": (np.not_equal, "uint8"), "lt": (np.less, "uint8"),
    "lte": (np.less_equal, "uint8"), "gt": (np.greater, "uint8"), "gte": (np.greater_equal, "uint8"),
    "and": (lambda a, b: (a != 0) & (b != 0), "uint8"),
    "or": (lambda a, b: (a != 0) | (b != 0), "uint8"),
    "bitwiseAnd": (lambda a, b: a.astype("int64") & b.astype("int64"), None),
    "bitwiseOr": (lambda a, b: a.astype("int64") | b.astype("int64"), None),
    "bitwiseXor": (lambda a, b: a.astype("int64") ^ b.astype("int64"), None),
    "leftShift": (lambda a, b: a.astype("int64") << b.astype("int64"), None),
    "rightShift": (lambda a, b: a.astype("int64") >> b.astype("int64"), None),
}  # fmt: skip


def _binary(name: str) -> Callable[..., Image]:
    make, kind = BINARY[name]

    def apply(image1: Any, image2: Any) -> Image:
        one, two = image_of(image1), image_of(image2)
        n = max(len(one.bands), len(two.bands))
        if {len(one.bands), len(two.bands)} - {1, n}:
            raise Refused("Images must have the same number of bands, or one of them a single one.")
        named = one if len(one.bands) >= len(two.bands) else two
        bands = []
        for i in range(n):
            a, b = (x.bands[i if len(x.bands) > 1 else 0] for x in (one, two))
            dtype = np.dtype(kind) if kind else _wide(a.dtype, b.dtype)

            def both(v: Array, m: Array, w: Array, k: Array, d: Any = dtype) -> Any:
                wide = np.result_type(d, v.dtype, w.dtype) if d.kind != "u" else None
                v, w = (v, w) if wide is None else (v.astype(wide), w.astype(wide))
                with np.errstate(all="ignore"):
                    return make(v, w).astype(d), m & k

            placed = pointwise(named.bands[i].name, dtype, [a, b], both)
            base = a if a.crs != "EPSG:4326" or b.size is None else b
            bands.append(replace(placed, crs=base.crs, transform=base.transform))
        return replace(one, bands=tuple(bands), id=None)

    return apply


for _name in BINARY:
    function(f"Image.{_name}")(_binary(_name))

UNARY: dict[str, tuple[Callable[[Array], Array], str | None]] = {
    "not": (lambda a: a == 0, "uint8"), "abs": (np.abs, None), "floor": (np.floor, None),
    "ceil": (np.ceil, None), "round": (lambda a: np.floor(a + 0.5), None),
    "sqrt": (np.sqrt, "float64"), "exp": (np.exp, "float64"), "log": (np.log, "float64"),
}  # fmt: skip
TYPES = {
    "toByte": "uint8", "byte": "uint8", "toUint8": "uint8", "uint8": "uint8", "toInt8": "int8",
    "int8": "int8", "toUint16": "uint16", "uint16": "uint16", "toInt16": "int16", "int16": "int16",
    "toShort": "int16", "toInt32": "int32", "int32": "int32", "toInt": "int32", "int": "int32",
    "toUint32": "uint32", "uint32": "uint32", "toFloat": "float32", "float": "float32",
    "toDouble": "float64", "double": "float64",
}  # fmt: skip


def _same_place(band: Band, dtype: Any, make: Callable[[Array], Array]) -> Band:
    new = pointwise(band.name, dtype, [band], lambda v, m: (make(v), m))
    return replace(new, crs=band.crs, transform=band.transform)


def _unary(name: str) -> Callable[..., Image]:
    make, kind = UNARY[name]

    def apply(value: Any = None, image: Any = None, input: Any = None) -> Image:
        one = image_of(next(v for v in (value, image, input) if v is not None))
        return one.each(
            lambda b: _same_place(
                b, kind or b.dtype, lambda v: make(v).astype(kind or b.dtype)
            )
        )  # fmt: skip

    return apply


def _cast(kind: str) -> Callable[..., Image]:
    dtype = np.dtype(kind)

    def to(v: Array) -> Array:
        if dtype.kind == "f":
            return v.astype(dtype)
        limits = np.iinfo(dtype)  # assumption 8: what does not fit is the nearest that does
        return np.clip(np.trunc(v), limits.min, limits.max).astype(dtype)

    def apply(value: Any = None, image: Any = None) -> Image:
        one = image_of(value if value is not None else image)
        return one.each(lambda b: _same_place(b, dtype, to))

    return apply


for _name in UNARY:
    function(f"Image.{_name}")(_unary(_name))
for _name, _kind in TYPES.items():
    function(f"Image.{_name}")(_cast(_kind))


@function("Image.normalizedDifference")
def normalized_difference(input: Image, bandNames: list[str] | None = None) -> Image:
    a, b = (input.band(n) for n in bandNames) if bandNames else input.bands[:2]

    def make(v: Array, m: Array, w: Array, k: Array) -> tuple[Array, Array]:
        v, w = v.astype("float64"), w.astype("float64")
        total = v + w
        fine = m & k & (v >= 0) & (w >= 0) & (total != 0)
        return (v - w) / np.where(total == 0, 1, total), fine

    return replace(input, bands=(pointwise("nd", "float64", [a, b], make),))


@function("Image.clip")
def clip(input: Image, geometry: Any) -> Image:
    """Keeps the pixels whose centres lie in a geometry (assumption 4)."""
    area = geometry_of(geometry)

    def clipped(band: Band) -> Band:
        def pull(frame: Frame) -> tuple[Array, Array]:
            values, mask = band.pull(frame)
            lon, lat = frame.centres("EPSG:4326")
            return values, mask & shapely.contains_xy(area, lon, lat)

        return replace(band, pull=pull)

    return input.each(clipped)


@function("Image.projection")
def projection(image: Image) -> Projection:
    return Projection(image.bands[0].crs, image.bands[0].transform)


@function("Image.reproject")
def reproject(
    image: Image, crs: Any, crsTransform: list[float] | None = None, scale: float | None = None
) -> Image:
    place = projection_of(crs)
    transform = Affine(*crsTransform) if crsTransform else place.transform
    if scale is not None:
        transform = Affine(scale, 0, 0, 0, -scale, 0)  # assumption 5
    return image.each(lambda b: reprojected(b, place.crs, transform))


@function("Image.setDefaultProjection")
def set_default_projection(
    image: Image, crs: Any, crsTransform: list[float] | None = None, scale: float | None = None
) -> Image:
    place = projection_of(crs)
    transform = Affine(*crsTransform) if crsTransform else place.transform
    if scale is not None:
        transform = Affine(scale, 0, 0, 0, -scale, 0)
    return image.each(lambda b: replace(b, crs=place.crs, transform=transform))


@function("Image.reduceResolution")
def reduce_resolution(
    image: Image, reducer: Reducer, bestEffort: bool = False, maxPixels: int = 64
) -> Image:
    return image.each(lambda b: replace(b, gather=reducer.name, pull=b.pull))


@function("Image.reduce")
def image_reduce(image: Image, reducer: Reducer) -> Image:
    band = pointwise(
        reducer.name, _reduced_type(reducer, [b.dtype for b in image.bands]), image.bands,
        lambda *parts: over(reducer.name, parts[::2], parts[1::2]),
    )  # fmt: skip
    first = image.bands[0]
    return replace(image, bands=(replace(band, crs=first.crs, transform=first.transform),))


@function("Image.linkCollection")
def link_collection(
    input: Image, imageCollection: Collection, linkedBands: Any = None,
    linkedProperties: Any = None, matchPropertyName: str = "system:index",
) -> Image:  # fmt: skip
    """Bands of the image that goes with this one; masked where there is none."""
    key = input.properties.get(matchPropertyName)
    hit = next(
        (i for i in imageCollection.images if i.properties.get(matchPropertyName) == key), None
    )
    out = input
    if linkedBands is not None:
        names = linkedBands if isinstance(linkedBands, list) else [linkedBands]
        if hit is not None:
            new = image_select(hit, names)
        else:
            new = update_mask(Image(tuple(constant(n, 0) for n in names)), 0)
        out = image_add_bands(out, new, overwrite=True)
    if linkedProperties is not None and hit is not None:
        names = linkedProperties if isinstance(linkedProperties, list) else [linkedProperties]
        more = {n: hit.properties[n] for n in names if n in hit.properties}
        out = replace(out, properties={**out.properties, **more})
    return out


@function("Image.reduceRegion")
def reduce_region(
    image: Image, reducer: Reducer, geometry: Any = None, scale: float | None = None,
    crs: Any = None, crsTransform: list[float] | None = None, bestEffort: bool = False,
    maxPixels: float = 1e7, tileScale: float = 1,
) -> dict[str, Any]:  # fmt: skip
    """A statistic of each band: weighted by the share of each pixel inside, or (assumption 4, of
    reducers without weights) of pixels whose centre lies inside.
    """
    first = image.bands[0]
    place = projection_of(crs).crs if crs else first.crs
    step = Affine(*crsTransform) if crsTransform else first.transform
    if scale is not None:
        step = Affine(scale, 0, 0, 0, -scale, 0)
    area = geometry_of(geometry)
    if not same(place, "EPSG:4326"):
        area = moved(lambda x, y: turn("EPSG:4326", place).transform(x, y), area)
    west, south, east, north = area.bounds
    (c0, r0), (c1, r1) = ~step @ (west, north), ~step @ (east, south)
    left, top = int(np.floor(min(c0, c1))), int(np.floor(min(r0, r1)))
    frame = Frame(
        place, step @ Affine.translation(left, top),
        int(np.ceil(max(c0, c1))) - left + 1, int(np.ceil(max(r0, r1))) - top + 1,
    )  # fmt: skip
    if frame.width * frame.height > maxPixels and not bestEffort:
        raise Refused(
            f"Image.reduceRegion: Too many pixels in the region. Found {frame.width * frame.height}, "
            f"but maxPixels allows only {int(maxPixels)}."
        )
    x, y = frame.centres(place)
    share = shapely.contains_xy(area, x, y).astype(np.float64)
    if reducer.weighted:
        t = frame.transform
        for row, col in np.ndindex(frame.shape):
            (a, b), (c, d) = t @ (col, row), t @ (col + 1, row + 1)
            share[row, col] = shapely.box(a, min(b, d), c, max(b, d)).intersection(area).area / abs(
                t.a * t.e
            )
    out: dict[str, Any] = {}
    for band in image.bands:
        values, mask = gathered(band).pull(frame)
        kept, weight = values[mask & (share > 0)].astype(np.float64), share[mask & (share > 0)]
        out[band.name] = _statistic(reducer, kept, weight)
    return out


def _statistic(reducer: Reducer, kept: Array, weight: Array) -> Any:
    if reducer.name == "count":
        return int(kept.size)
    if not kept.size:
        return 0 if reducer.name == "sum" else None
    if reducer.name == "frequencyHistogram":
        codes, counts = np.unique(kept, return_counts=True)
        names = [str(int(c)) if float(c).is_integer() else str(c) for c in codes]
        return dict(zip(names, counts.tolist(), strict=True))
    if reducer.name == "toList":
        return kept.tolist()
    if reducer.name == "mean":
        return float((kept * weight).sum() / weight.sum())
    if reducer.name == "sum":
        return float((kept * weight).sum())
    simple = {"min": np.min, "max": np.max, "median": np.median}
    if reducer.name in simple:
        return float(simple[reducer.name](kept))
    if reducer.name == "mode":
        codes, counts = np.unique(kept, return_counts=True)
        return float(codes[counts.argmax()])
    if reducer.name == "first":
        return float(kept[0])
    raise Refused(f"emulator: reduceRegion with {reducer.name} is not emulated")


def over(name: str, values: Sequence[Array], masks: Sequence[Array]) -> tuple[Array, Array]:
    """A reducer over numbers that lie on each other; masked ones do not count (assumption 1)."""
    data, mask = np.stack(values), np.stack(masks)
    count = mask.sum(axis=0)
    if name == "count":
        return count, np.ones(count.shape, bool)
    if name == "median":  # assumption 2: of an even number, the mean of the middle two
        held = np.sort(np.where(mask, data.astype(np.float64), np.inf), axis=0)
        low, high = np.maximum(count - 1, 0) // 2, count // 2
        a = np.take_along_axis(held, low[None], 0)[0]
        b = np.take_along_axis(held, np.minimum(high, len(held) - 1)[None], 0)[0]
        with np.errstate(invalid="ignore"):
            return np.where(count > 0, (a + b) / 2, 0), count > 0
    if name == "mode":  # assumption 9: of several, the smallest
        codes = np.unique(data[mask]) if mask.any() else np.zeros(1, data.dtype)
        votes = np.stack([((data == c) & mask).sum(axis=0) for c in codes])
        return codes[votes.argmax(axis=0)], count > 0
    if name in ("first", "firstNonNull", "last", "lastNonNull"):
        order = slice(None) if name.startswith("first") else slice(None, None, -1)
        at = mask[order].argmax(axis=0)
        return np.take_along_axis(data[order], at[None], 0)[0], count > 0
    wide = data.astype(np.float64)
    if name == "mean":
        return np.where(mask, wide, 0).sum(axis=0) / np.maximum(count, 1), count > 0
    if name == "sum":
        return np.where(mask, wide, 0).sum(axis=0), count > 0
    if name in ("min", "max"):
        edge = np.inf if name == "min" else -np.inf
        held = np.where(mask, wide, edge)
        found = held.min(axis=0) if name == "min" else held.max(axis=0)
        return np.where(count > 0, found, 0).astype(data.dtype), count > 0
    raise Refused(f"emulator: the reducer {name} is not emulated")


def _reduced_type(reducer: Reducer, types: Sequence[np.dtype[Any]]) -> Any:
    if reducer.name in ("median", "mean", "sum"):
        return np.dtype("float64")
    return np.dtype("int64") if reducer.name == "count" else np.result_type(*types)


# ---- reducers

for _name in ("median", "mode", "min", "max", "count", "first", "last", "firstNonNull",
              "lastNonNull", "toList", "frequencyHistogram"):  # fmt: skip
    function(f"Reducer.{_name}")(lambda _n=_name, **_: Reducer(_n))
for _name in ("mean", "sum"):
    function(f"Reducer.{_name}")(lambda _n=_name, **_: Reducer(_n, weighted=True))


@function("Reducer.unweighted")
def unweighted(reducer: Reducer) -> Reducer:
    return replace(reducer, weighted=False)


# ---- collections


@function("ImageCollection.fromImages")
def from_images(images: list[Image]) -> Collection:
    return Collection(tuple(image_of(i) for i in images))


@function("Collection.filter")
def collection_filter(collection: Collection, filter: Filter) -> Collection:
    return replace(collection, images=tuple(i for i in collection.images if filter(i)))


@function("Collection.map")
def collection_map(
    collection: Collection, baseAlgorithm: Callable[..., Any], dropNulls: bool = False
) -> Collection:
    made = tuple(baseAlgorithm(image) for image in collection.images)
    kept = tuple(m for m in made if m is not None) if dropNulls else made
    if any(not isinstance(m, Image) for m in kept):
        raise Refused("emulator: a collection is mapped to images only")
    # An image keeps its place in the collection whatever is made of it.
    named = tuple(
        replace(m, properties={"system:index": i.properties.get("system:index"), **m.properties})
        for m, i in zip(kept, collection.images, strict=True)
    )
    return replace(collection, images=named)


@function("Collection.limit")
def collection_limit(
    collection: Collection, limit: int | None = None, key: str | None = None,
    ascending: bool = True,
) -> Collection:  # fmt: skip
    found = list(collection.images)
    if key is not None:
        found.sort(key=lambda i: i.properties[key], reverse=not ascending)
    return replace(collection, images=tuple(found[:limit]))


@function("Collection.first")
def collection_first(collection: Collection) -> Image | None:
    return collection.images[0] if collection.images else None


@function("Collection.size")
def collection_size(collection: Collection) -> int:
    return len(collection.images)


@function("Collection.merge", "ImageCollection.merge")
def collection_merge(collection1: Collection, collection2: Collection) -> Collection:
    return Collection((*collection1.images, *collection2.images))


@function("Collection.toList")
def to_list(collection: Collection, count: int, offset: int = 0) -> list[Image]:
    return list(collection.images[offset : offset + count])


@function("AggregateFeatureCollection.array")
def aggregate_array(collection: Collection, property: str) -> list[Any]:
    return [i.properties[property] for i in collection.images if property in i.properties]


def _stacked(collection: Collection, name: str) -> Image:
    """Band by band over the images of a collection, by the names of the first."""
    if not collection.images:
        return Image(())  # assumption 10: an image without bands
    first = collection.images[0]
    bands = []
    for band in first.bands:
        layers = [i.band(band.name) for i in collection.images]
        kind = _reduced_type(Reducer(name), [b.dtype for b in layers])
        bands.append(pointwise(band.name, kind, layers, lambda *p: over(name, p[::2], p[1::2])))
    # What is made of several images has no pixels of its own.
    return Image(
        tuple(replace(b, crs="EPSG:4326", transform=Affine(1, 0, 0, 0, 1, 0)) for b in bands)
    )


@function("ImageCollection.mosaic")
def mosaic(collection: Collection) -> Image:
    """The last image on top (assumption 6)."""
    return _stacked(collection, "last")


for _name in ("median", "mode", "mean", "min", "max", "count", "sum"):
    function(f"reduce.{_name}")(lambda collection, _n=_name: _stacked(collection, _n))


@function("ImageCollection.reduce")
def collection_reduce(collection: Collection, reducer: Reducer, parallelScale: float = 1) -> Image:
    made = _stacked(collection, reducer.name)
    return made.each(lambda b: replace(b, name=f"{b.name}_{reducer.name}"))


@function("ImageCollection.qualityMosaic")
def quality_mosaic(collection: Collection, qualityBand: str) -> Image:
    """All bands of the image whose quality is highest (assumption 7: of equals, the first)."""
    if not collection.images:
        return Image(())
    images = collection.images
    n = len(images)

    def chosen(name: str) -> Band:
        layers = [i.band(name) for i in images]
        quality = [i.band(qualityBand) for i in images]

        def make(*parts: Array) -> tuple[Array, Array]:
            v, m = np.stack(parts[: 2 * n : 2]), np.stack(parts[1 : 2 * n : 2])
            q, k = np.stack(parts[2 * n :: 2]), np.stack(parts[2 * n + 1 :: 2])
            at = np.where(k, q.astype(np.float64), -np.inf).argmax(axis=0)[None]
            seen = k.any(axis=0)
            return np.take_along_axis(v, at, 0)[0], np.take_along_axis(m, at, 0)[0] & seen

        return pointwise(name, layers[0].dtype, [*layers, *quality], make)

    return Image(tuple(chosen(b.name) for b in images[0].bands))


# ---- filters


def _value(image: Image, field: str | None, constant_: Any) -> Any:
    return constant_ if field is None else image.properties.get(field)


def _compare(test: Callable[[Any, Any], bool], *, missing: bool = False) -> Callable[..., Filter]:
    def make(
        leftField: str | None = None, rightValue: Any = None, rightField: str | None = None,
        leftValue: Any = None, **_: Any,
    ) -> Filter:  # fmt: skip
        def holds(image: Image) -> bool:
            a, b = _value(image, leftField, leftValue), _value(image, rightField, rightValue)
            return missing if a is None or b is None else test(a, b)

        return holds

    return make


for _names, _test in {
    ("eq", "equals"): lambda a, b: a == b,
    ("neq", "notEquals"): lambda a, b: a != b,
    ("lt", "lessThan"): lambda a, b: a < b,
    ("lte", "lessThanOrEquals"): lambda a, b: a <= b,
    ("gt", "greaterThan"): lambda a, b: a > b,
    ("gte", "greaterThanOrEquals"): lambda a, b: a >= b,
    ("listContains",): lambda a, b: b in a,
    ("inList",): lambda a, b: a in b,
    ("stringStartsWith",): lambda a, b: str(a).startswith(b),
    ("stringContains",): lambda a, b: b in str(a),
}.items():
    function(*(f"Filter.{n}" for n in _names))(_compare(_test))


@function("Filter.dateRangeContains")
def date_range_contains(leftValue: DateRange, rightField: str, **_: Any) -> Filter:
    return lambda i: (
        rightField in i.properties and leftValue.start <= i.properties[rightField] < leftValue.end
    )


@function("Filter.intersects")
def filter_intersects(leftField: str, rightValue: Any, **_: Any) -> Filter:
    if leftField != ".all":
        raise Refused("emulator: Filter.intersects of a property is not emulated")
    area = geometry_of(rightValue)
    return lambda i: footprint_of(i).intersects(area)


@function("Filter.and")
def filter_and(filters: list[Filter]) -> Filter:
    return lambda i: all(f(i) for f in filters)


@function("Filter.or")
def filter_or(filters: list[Filter]) -> Filter:
    return lambda i: any(f(i) for f in filters)


@function("Filter.not")
def filter_not(filter: Filter) -> Filter:
    return lambda i: not filter(i)


@function("Filter.notNull")
def not_null(properties: list[str]) -> Filter:
    return lambda i: all(i.properties.get(p) is not None for p in properties)


# ---- geometries, projections, dates, properties


def geometry_of(value: Any) -> shapely.Geometry:
    if isinstance(value, shapely.Geometry):
        return value
    if isinstance(value, Mapping) and "type" in value:
        return shape(value)
    raise Refused(f"Cannot convert {type(value).__name__} to a Geometry.")


def footprint_of(image: Image) -> shapely.Geometry:
    """Where an image has pixels, in degrees."""
    band = image.bands[0]
    if "system:footprint" in image.properties:
        return shape(image.properties["system:footprint"])
    if band.size is None:
        raise Refused("emulator: an image that is not stored has no footprint")
    return outline(band.crs, band.transform, band.size)


def outline(
    crs: str, transform: Affine, size: tuple[int, int], per_side: int = 8
) -> shapely.Geometry:
    s = np.linspace(0, 1, per_side, endpoint=False)
    cols = np.concatenate([s, 0 * s + 1, 1 - s, 0 * s]) * size[0]
    rows = np.concatenate([0 * s, s, 0 * s + 1, 1 - s]) * size[1]
    x, y = transform @ (cols, rows)
    lon, lat = (x, y) if same(crs, "EPSG:4326") else turn(crs, "EPSG:4326").transform(x, y)
    if np.ptp(lon) > 180:  # over the antimeridian: one piece on either side
        east = shapely.Polygon(np.column_stack([np.where(lon < 0, lon + 360, lon), lat]))
        west = shapely.affinity.translate(east, -360) if hasattr(shapely, "affinity") else east
        return shapely.union_all([east, west])
    return shapely.Polygon(np.column_stack([lon, lat]))


def _geometry(kind: str) -> Callable[..., shapely.Geometry]:
    def make(coordinates: Any, **_: Any) -> shapely.Geometry:
        return shape({"type": kind, "coordinates": coordinates})

    return make


for _name in ("Point", "MultiPoint", "Polygon", "MultiPolygon", "LineString"):
    function(f"GeometryConstructors.{_name}")(_geometry(_name))


@function("Feature")
def feature(geometry: Any, metadata: Any = None) -> shapely.Geometry:
    if metadata:
        raise Refused("emulator: features with properties are not emulated")
    return geometry_of(geometry)


@function("GeometryConstructors.Rectangle", "GeometryConstructors.BBox")
def rectangle(coordinates: Any = None, **sides: Any) -> shapely.Geometry:
    if coordinates is None:
        return shapely.box(*(sides[k] for k in ("west", "south", "east", "north")))
    flat = np.array(coordinates, float).reshape(-1, 2)
    return shapely.box(*flat.min(axis=0), *flat.max(axis=0))


@function("GeometryConstructors.MultiGeometry")
def multi_geometry(geometries: list[Any], **_: Any) -> shapely.Geometry:
    return shapely.union_all([geometry_of(g) for g in geometries])


@function("Projection")
def projection_of(
    crs: Any, transform: list[float] | None = None, transformWkt: str | None = None
) -> Projection:
    if isinstance(crs, Projection):
        return crs
    CRS.from_user_input(crs)
    return Projection(crs, Affine(*transform) if transform else Affine(1, 0, 0, 0, 1, 0))


@function("Projection.crs")
def projection_crs(projection: Projection) -> str:
    return projection.crs


@function("Projection.nominalScale")
def nominal_scale(proj: Projection) -> float:
    if CRS.from_user_input(proj.crs).is_geographic:
        return abs(proj.transform.a) * 111319.49079327358
    return float(abs(proj.transform.a))


@function("Date")
def date(value: Any, timeZone: str | None = None) -> float:
    from datetime import UTC, datetime

    if isinstance(value, int | float):
        return float(value)
    moment = datetime.fromisoformat(value)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000


@function("Date.millis")
def date_millis(date: float) -> float:
    return date


@function("DateRange")
def date_range(start: Any, end: Any = None, timeZone: str | None = None) -> DateRange:
    first = date(start)
    return DateRange(first, first + 1 if end is None else date(end))


@function("Element.get")
def element_get(object: Image, property: str) -> Any:
    return object.properties.get(property)


@function("Element.set")
def element_set(object: Image, key: str, value: Any) -> Image:
    return replace(object, properties={**object.properties, key: value})


@function("Element.setMulti")
def element_set_multi(object: Image, properties: dict[str, Any]) -> Image:
    return replace(object, properties={**object.properties, **properties})


@function("Element.copyProperties", "Image.copyProperties")
def copy_properties(
    destination: Image, source: Image, properties: list[str] | None = None,
    exclude: list[str] | None = None,
) -> Image:  # fmt: skip
    wanted = {
        k: v for k, v in source.properties.items()
        if (k in properties if properties is not None else not k.startswith("system:"))
        and k not in (exclude or [])
    }  # fmt: skip
    return replace(destination, properties={**destination.properties, **wanted})


def described(value: Any) -> Any:
    """What a value looks like in an answer."""
    if isinstance(value, Image):
        said: dict[str, Any] = {
            "type": "Image",
            "bands": [
                {
                    "id": b.name, "data_type": _pixel_type(b.dtype), "crs": b.crs,
                    "crs_transform": list(b.transform)[:6],
                    **({"dimensions": list(b.size)} if b.size else {}),
                }
                for b in value.bands
            ],
            "properties": {k: v for k, v in value.properties.items() if v is not None},
        }  # fmt: skip
        return said | ({"id": value.id} if value.id else {})
    if isinstance(value, Collection):
        return {
            "type": "ImageCollection", "bands": [],
            **({"id": value.id} if value.id else {}),
            "features": [described(i) for i in value.images],
        }  # fmt: skip
    if isinstance(value, Projection):
        return value.described()
    if isinstance(value, shapely.Geometry):
        return mapping(value)
    if isinstance(value, list):
        return [described(v) for v in value]
    if isinstance(value, dict):
        return {k: described(v) for k, v in value.items()}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise Refused(f"Cannot express {type(value).__name__} as a value.")


def _pixel_type(dtype: np.dtype[Any]) -> dict[str, Any]:
    if dtype.kind == "f":
        return {"type": "PixelType", "precision": "float" if dtype.itemsize == 4 else "double"}
    limits = np.iinfo(dtype)
    return {"type": "PixelType", "precision": "int", "min": int(limits.min), "max": int(limits.max)}
