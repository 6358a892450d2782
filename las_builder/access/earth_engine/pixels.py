"""Pixels of Earth Engine: stored images as they are stored, composites as they are composed there.

A grid goes along with every request: CRS, affine transform and dimensions, never a scale. What can
be had without resampling is asked for on the patch itself, all bands at once; all else in the
image's own pixels, to be averaged or warped here as the pixels of any file are.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from las_builder.access import raster
from las_builder.access.cloudmask import with_masks
from las_builder.access.composite import composed
from las_builder.access.earth_engine import client, eecu
from las_builder.access.earth_engine.images import place_of
from las_builder.access.earth_engine.sizes import Piece, in_pieces
from las_builder.access.items import Map
from las_builder.access.meet import windows_around
from las_builder.access.protocol import ReadRequest
from las_builder.access.raster import Pixels, Place, Window
from las_builder.access.together import together
from las_builder.catalogs import Imagery, LabelProduct, Where
from las_builder.catalogs.earth_engine import EarthEngineService
from las_builder.core.grid import Grid
from las_builder.core.types import AssetRef, Chip, Gap, GapReason, Scene
from las_builder.errors import AccessError, StacError

INSIDE = "las_inside"
"""Our name of the band that is 1 where an image has a number to give."""

QA_KIND = np.dtype("uint16")
"""The widest type of a QA band that is declared."""

SCORE_KIND = np.dtype("float64")
"""The widest type of a score."""

Expression = Any
Layers = dict[str, NDArray[np.generic]]


# ---- one request


def grid_of(grid: Grid) -> dict[str, Any]:
    """A grid in the words of the service."""
    t = grid.transform
    crs = str(grid.crs)
    name = "crsCode" if ":" in crs[:12] else "crsWkt"
    return {
        "dimensions": {"width": grid.width, "height": grid.height}, name: crs,
        "affineTransform": {
            "scaleX": t.a, "shearX": 0, "translateX": t.c,
            "shearY": 0, "scaleY": t.e, "translateY": t.f,
        },
    }  # fmt: skip


def stored(service: EarthEngineService, image: str, piece: Piece) -> Layers:
    """Bands of a stored image: `getPixels`.

    Raises:
        AccessError: The service failed, or refused.
    """
    import ee

    asked = {
        "assetId": image, "fileFormat": "NPY", "grid": grid_of(piece.place),
        "bandIds": list(piece.bands),
    }  # fmt: skip
    return _decoded(service, image, piece, lambda: ee.data.getPixels(dict(asked)))


def computed(
    service: EarthEngineService, what: str, make: Callable[[Sequence[str]], Expression], piece: Piece
) -> Layers:  # fmt: skip
    """Bands of an expression: `computePixels`.

    Args:
        service: Asked.
        what: For messages.
        make: Bands to the expression that has them.
        piece: Which bands, and where.

    Raises:
        AccessError: The service failed, or refused.
    """
    import ee

    client.start(service)
    asked = {
        "expression": make(piece.bands), "fileFormat": "NPY", "grid": grid_of(piece.place),
        "bandIds": list(piece.bands),
    }  # fmt: skip
    return _decoded(service, what, piece, lambda: ee.data.computePixels(dict(asked)))


def _decoded(
    service: EarthEngineService, what: str, piece: Piece, job: Callable[[], bytes]
) -> Layers:
    """The fields of an NPY answer; one that is none is asked for once more."""
    problem = ""
    for _ in range(2):
        content = client.ask(service, what, partial(eecu.noting, job))
        try:
            array = np.load(io.BytesIO(content), allow_pickle=False)
        except (ValueError, OSError, EOFError) as reason:
            problem = f"no NPY of {len(content)} bytes: {reason}"
            continue
        names = array.dtype.names or ()
        if array.shape == (piece.height, piece.width) and set(piece.bands) <= set(names):
            return {name: np.ascontiguousarray(array[name]) for name in piece.bands}
        problem = (
            f"{array.shape} of {names}, asked for {piece.height} x {piece.width} of {piece.bands}"
        )
    raise AccessError(client.NAME, what, problem, kind="not-data", retryable=True, attempts=2)


# ---- images


@dataclass(frozen=True, slots=True)
class _Image:
    """Bands of one scene, by our names."""

    service: EarthEngineService
    imagery: Imagery
    where: Where
    scene: Scene
    places: dict[str, tuple[str, str]]
    """Our names of bands to image and band of theirs."""

    def silent(self, name: str) -> bool:
        """Whether 0, as which a masked pixel comes, says that there is nothing."""
        return self.nodata(name) == 0 or name in self.where.unused_zero

    def nodata(self, name: str) -> float | None:
        """The declared one of a band."""
        return self.imagery.validity.nodata if self.categorical(name) else self.imagery.nodata

    def own(self, name: str) -> Grid:
        """The pixels of a band."""
        return own_grid(self.scene, self.scene.assets[name])

    def kind(self, name: str) -> np.dtype[Any]:
        """Type of a band, or a wider one."""
        if not self.categorical(name):
            return self.imagery.dtype
        return SCORE_KIND if self.imagery.validity.clear_at_least is not None else QA_KIND

    def categorical(self, name: str) -> bool:
        """Whether it must not be mixed."""
        return name == self.imagery.validity.band

    def fetch(
        self, grid: Grid, names: Sequence[str]
    ) -> dict[str, tuple[NDArray[np.generic], NDArray[np.bool_]]]:
        """Numbers and where there are any, on pixels of a grid that need no resampling; a request
        for each image that holds some of the bands.
        """
        out = {}
        for image in dict.fromkeys(self.places[name][0] for name in names):
            here = [name for name in names if self.places[name][0] == image]
            out.update(self._fetch(image, grid, here))
        return out

    def _fetch(
        self, image: str, grid: Grid, names: Sequence[str]
    ) -> dict[str, tuple[NDArray[np.generic], NDArray[np.bool_]]]:
        theirs = {name: self.places[name][1] for name in names}
        masked = [name for name in names if not self.silent(name)]
        wanted = tuple(dict.fromkeys(theirs.values()))
        kinds = {theirs[name]: self.kind(name) for name in names}
        if masked:
            wanted, kinds[INSIDE] = (*wanted, INSIDE), np.dtype("uint8")
            make = partial(with_mask, image, tuple(theirs[name] for name in masked))
            read = partial(computed, self.service, image, make)
        else:
            read = partial(stored, self.service, image)
        whole = Piece(grid, wanted, (0, grid.height), (0, grid.width))
        found = in_pieces(whole, kinds, self.service, read, (self.where.collection, bool(masked)))
        out = {}
        for name in names:
            data = found[theirs[name]]
            inside = data != 0 if self.silent(name) else found[INSIDE] != 0
            out[name] = data, inside
        return out


def with_mask(image: str, masked: Sequence[str], bands: Sequence[str]) -> Expression:
    """Bands of a stored image, and one that is 1 where none of some bands is masked."""
    import ee

    one = ee.Image(image)
    inside = one.select(list(masked)).mask().reduce(ee.Reducer.min()).gt(0).rename(INSIDE)
    real = [band for band in bands if band != INSIDE]
    if not real:
        return inside
    return one.select(real).addBands(inside) if INSIDE in bands else one.select(real)


def own_grid(scene: Scene, ref: AssetRef) -> Grid:
    """The pixels of a band of a scene: the scene's extent in rows and columns of the band."""
    rows, cols = ref.shape or scene.grid.shape
    west, south, east, north = scene.grid.bounds
    place = Affine((east - west) / cols, 0.0, west, 0.0, (south - north) / rows, north)
    return Grid(scene.grid.crs, place, cols, rows)


@dataclass(slots=True)
class _Windows:
    """Bands of an image that share pixels, fetched together, in the image's own pixels."""

    image: _Image
    names: tuple[str, ...]
    grid: Grid
    last: tuple[Hashable, dict[str, tuple[NDArray[np.generic], NDArray[np.bool_]]]] | None = None

    def read(
        self, name: str, rows: tuple[int, int], cols: tuple[int, int]
    ) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        """Numbers and validity of one of them."""
        key = rows, cols
        if self.last is None or self.last[0] != key:
            piece = Piece(self.grid, (), rows, cols)
            self.last = key, self.image.fetch(piece.place, self.names)
        return self.last[1][name]


@dataclass(frozen=True, slots=True)
class _Band:
    """One of them, as `raster` knows sources."""

    windows: _Windows
    name: str

    @property
    def place(self) -> Place:
        """See `raster.Source`."""
        grid = self.windows.grid
        return Place(str(grid.crs), grid.transform, grid.height, grid.width, grid)

    def read(
        self, rows: tuple[int, int], cols: tuple[int, int]
    ) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        """See `raster.Source`."""
        return self.windows.read(self.name, rows, cols)


def read_images(
    service: EarthEngineService, imagery: Imagery, requests: Sequence[ReadRequest]
) -> list[Chip | Gap]:
    """See `Access.read`: requests of one image on one grid are one request to the service.

    Raises:
        StacError: A scene lacks a band.
        AccessError: The service failed.
    """
    read = with_masks(partial(_read_images, service), imagery)
    return read(imagery, requests)


def _read_images(
    service: EarthEngineService, imagery: Imagery, requests: Sequence[ReadRequest]
) -> list[Chip | Gap]:
    groups: dict[tuple[str, Grid], list[int]] = {}
    for i, request in enumerate(requests):
        groups.setdefault((request.scene.id, request.grid), []).append(i)
    jobs: dict[int, Callable[[], list[Chip | Gap]]] = {}
    here: list[int] = []
    for k, group in enumerate(groups.values()):
        first = requests[group[0]]
        if not first.scene.members:
            jobs[k] = partial(_group, service, imagery, [requests[i] for i in group])
        elif (members := _easy_members(service, imagery, first)) is not None:
            jobs[k] = partial(_composites, service, imagery, [requests[i] for i in group], members)
        else:
            here.append(k)  # composed of reads that go side by side themselves
    answers = dict(zip(jobs, together(list(jobs.values())), strict=True))
    out: dict[int, Chip | Gap] = {}
    for k, group in enumerate(groups.values()):
        if k in here:
            asked = [requests[i] for i in group]
            answers[k] = composed(partial(_read_images, service), imagery, asked)
        out.update(zip(group, answers[k], strict=True))
    return [out[i] for i in range(len(requests))]


def _ref(scene: Scene, name: str) -> AssetRef:
    found = scene.assets.get(name)
    if found is None:
        raise StacError(
            scene.id, "assets", ", ".join(sorted(scene.assets)), f"a scene that has the band {name}"
        )
    return found


def _image_of(
    service: EarthEngineService, imagery: Imagery, scene: Scene, names: Sequence[str]
) -> _Image:
    places = {name: place_of(_ref(scene, name).href) for name in names}
    wheres = [w for w in imagery.where if w.provider == client.NAME]
    ids = [image for image, _ in places.values()]
    where = next(
        (w for w in wheres for id_ in ids if w.collection and id_.startswith(f"{w.collection}/")),
        wheres[0],
    )
    return _Image(service, imagery, where, scene, places)


def _group(
    service: EarthEngineService, imagery: Imagery, requests: Sequence[ReadRequest]
) -> list[Chip | Gap]:
    names = list(dict.fromkeys(name for request in requests for name in request.bands))
    image, grid = _image_of(service, imagery, requests[0].scene, names), requests[0].grid
    layers = _layers(image, grid, names)
    return [_chip(request, [layers[name] for name in request.bands]) for request in requests]


def _layers(image: _Image, grid: Grid, names: Sequence[str]) -> dict[str, Pixels]:
    fills = {
        name: raster.fill_of(image.nodata(name), None, image.kind(name)) for name in names
    }  # fmt: skip
    easy = [
        name for name in names
        if raster.repeats(grid, image.own(name), categorical=image.categorical(name))
    ]  # fmt: skip
    out: dict[str, Pixels] = {}
    for name, (data, inside) in (image.fetch(grid, easy) if easy else {}).items():
        out[name] = _pixels(data, inside, image, name, fills[name])
    together_: dict[Grid, list[str]] = {}
    for name in names:
        if name not in out:
            together_.setdefault(image.own(name), []).append(name)
    for own, shared in together_.items():
        windows = _Windows(image, tuple(shared), own)
        for name in shared:
            qa = image.categorical(name)
            out[name] = raster.put_on(
                grid, _Band(windows, name), categorical=qa,
                dtype=image.kind(name), fill=fills[name],
            )  # fmt: skip
    return out


def _pixels(
    data: NDArray[np.generic], inside: NDArray[np.bool_], image: _Image, name: str, fill: float
) -> Pixels:
    kind = data.dtype if image.categorical(name) else image.imagery.dtype
    if not np.can_cast(data.dtype, kind, "safe"):
        raise AccessError(
            client.NAME,
            image.places[name][0],
            f"{name} is {data.dtype}, declared {kind}",
            kind="changed",
        )
    data = data.astype(kind)
    data[~inside] = fill
    return Pixels(data, inside, False)


def _chip(request: ReadRequest, layers: list[Pixels]) -> Chip | Gap:
    inside = np.logical_and.reduce([layer.inside for layer in layers])
    if not inside.any():
        return Gap(request.site, GapReason.NOT_COVERED, request.scene.id)
    return Chip(
        grid=request.grid,
        bands=request.bands,
        data=np.stack([layer.data for layer in layers]),
        inside=inside,
        resampled=any(layer.resampled for layer in layers),
    )


# ---- composites


def _easy_members(
    service: EarthEngineService, imagery: Imagery, request: ReadRequest
) -> list[_Image] | None:
    """The members of a composite; None where they have to be resampled, or their numbers shifted,
    or their masks made here.
    """
    scene, validity = request.scene, imagery.validity
    if validity.computed is not None:
        return None
    names = [*request.bands, *validity.reads]
    members = [_image_of(service, imagery, one, names) for one in scene.members]
    alike = all(
        raster.repeats(request.grid, one.own(name), categorical=one.categorical(name))
        for one in members for name in names
    )  # fmt: skip
    shifted = any(
        imagery.counts_to(one, scene, name) for one in scene.members for name in request.bands
    )
    return members if alike and not shifted else None


def _composites(
    service: EarthEngineService, imagery: Imagery, requests: Sequence[ReadRequest],
    members: Sequence[_Image],
) -> list[Chip | Gap]:  # fmt: skip
    return [_composite(service, imagery, request, members) for request in requests]


def _composite(
    service: EarthEngineService, imagery: Imagery, request: ReadRequest, members: Sequence[_Image]
) -> Chip | Gap:
    scene, grid = request.scene, request.grid
    theirs = [members[0].places[name][1] for name in request.bands]
    kinds = {**dict.fromkeys(theirs, imagery.dtype), INSIDE: np.dtype("uint8")}
    whole = Piece(grid, (*theirs, INSIDE), (0, grid.height), (0, grid.width))
    make = partial(composite_of, imagery, tuple(members), str(scene.composite))
    what = (members[0].where.collection, scene.composite, len(members))
    found = in_pieces(whole, kinds, service, partial(computed, service, scene.id[:80], make), what)
    inside = found[INSIDE] != 0
    if not inside.any():
        return Gap(request.site, GapReason.NOT_COVERED, scene.id)
    data = np.stack([found[name] for name in theirs]).astype(imagery.dtype)
    data[:, ~inside] = imagery.nodata or 0
    return Chip(grid=grid, bands=request.bands, data=data, inside=inside, resampled=False)


def composite_of(
    imagery: Imagery, members: Sequence[_Image], how: str, bands: Sequence[str]
) -> Expression:
    """A composite as `core.types.Composite` says, and where any member saw the surface.

    A member counts at a pixel where none of its bands is masked and its validity band calls the
    view clear. The middle two of an even number are halved upwards, as ours are.
    """
    import ee

    real = [band for band in bands if band != INSIDE]
    qa = imagery.validity.band
    spectral = [name for name in members[0].places if name != qa]
    seen = []
    for one in members:
        image = ee.Image(one.places[spectral[0]][0])
        every = image.select([one.places[name][1] for name in spectral])
        valid = every.mask().reduce(ee.Reducer.min()).gt(0)
        if qa is not None:
            other, band = one.places[qa]
            valid = valid.And(_clear(imagery, ee.Image(other).select(band)))
        seen.append(image.select(real or [one.places[spectral[0]][1]]).updateMask(valid))
    if how == "median":
        made = ee.ImageCollection.fromImages(seen).median()
        if imagery.dtype.kind in "iu":
            made = made.add(0.5).floor()
    else:
        made = ee.ImageCollection.fromImages(seen[::-1]).mosaic()  # the last is on top
    made = getattr(made, _CAST[imagery.dtype.name])()
    inside = made.select(0).mask().gt(0).rename(INSIDE)
    if not real:
        return inside
    return made.addBands(inside) if INSIDE in bands else made


_CAST = {
    "uint8": "toUint8", "uint16": "toUint16", "int16": "toInt16", "int32": "toInt32",
    "uint32": "toUint32", "float32": "toFloat",
}  # fmt: skip


def _clear(imagery: Imagery, qa: Expression) -> Expression:
    """1 where the surface was seen; masked where the validity band is."""
    validity = imagery.validity
    if validity.clear_at_least is not None:
        return qa.gte(validity.clear_at_least)
    if validity.clear_values is not None:
        return qa.remap(validity.clear_values, [1] * len(validity.clear_values), 0)
    return qa.bitwiseAnd(sum(1 << bit for bit in validity.clear_when_zero or [])).eq(0)


# ---- maps


@dataclass(slots=True)
class MapReader:
    """Windows of the maps of one product: codes and evidence of an image are one request."""

    service: EarthEngineService
    product: LabelProduct
    seen: dict[Hashable, Layers] = field(default_factory=dict)

    def around(self, grid: Grid, one: Map, ref: AssetRef) -> list[Window]:
        """See `maps.Around`; what the same image is asked for next comes along."""
        own, t = one.grid, one.grid.transform
        bands = [place_of(str(one.entry.item.assets[k].href))[1] for k in self._evidence(one)]
        codes = place_of(one.asset.href)[1]
        windows = []
        for piece in windows_around(grid, own, 2):
            part = Piece(own, tuple(dict.fromkeys([codes, *bands])), piece.rows, piece.cols)
            data = self._read(place_of(ref.href)[0], part)[place_of(ref.href)[1]]
            west = t.c + piece.turn + piece.cols[0] * t.a
            place = Affine(t.a, 0.0, west, 0.0, t.e, t.f + piece.rows[0] * t.e)
            there = Grid(own.crs, place, part.width, part.height)
            windows.append(Window(data, there, 0 if self._zero_is_nothing else None))
        return windows

    def _evidence(self, one: Map) -> list[str]:
        """Bands of the declared extras that an image has, by their names."""
        names = {
            where.assets.get(name, name)
            for where in self.product.where if where.provider == client.NAME
            for name in self.product.evidence
        }  # fmt: skip
        return sorted(names & one.entry.item.assets.keys())

    @property
    def _zero_is_nothing(self) -> bool:
        """Whether 0, as which a masked pixel comes, is no code but perhaps nodata."""
        product = self.product
        return product.nodata == 0 or 0 not in product.codes | set(product.recode)

    def _read(self, image: str, piece: Piece) -> Layers:
        key = (image, piece)
        if key in self.seen:
            return self.seen[key]
        codes, *others = piece.bands
        kinds = {codes: self.product.dtype, **dict.fromkeys(others, np.dtype("float64"))}
        what = (self.product.name, "map")
        if self._zero_is_nothing:
            found = in_pieces(
                piece, kinds, self.service, partial(stored, self.service, image), what
            )
        else:
            make = partial(with_mask, image, (codes,))
            more = Piece(piece.grid, (*piece.bands, INSIDE), piece.rows, piece.cols)
            kinds[INSIDE] = np.dtype("uint8")
            read = partial(computed, self.service, image, make)
            found = in_pieces(more, kinds, self.service, read, what)
            inside = found.pop(INSIDE) != 0
            found[codes] = np.where(inside, found[codes], self.product.nodata).astype(
                self.product.dtype
            )
        self.seen[key] = found
        return found
