"""What Earth Engine does today, against each row of `catalogs/earth-engine/assumptions.yaml`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from las_builder.access.counts import counts
from las_builder.access.earth_engine import EarthEngine, client, eecu
from las_builder.access.earth_engine.asking import INSIDE, computed, stored, with_mask
from las_builder.access.earth_engine.sizes import Piece, counted
from las_builder.catalogs.earth_engine import Assumption
from las_builder.core.grid import Grid
from las_builder.errors import AccessError

MAP, BAND = "ESA/WorldCover/v200/2021", "Map"
"""A public image whose pixels are known: 1/12000 of a degree."""

PLACE = (11.5, 48.2)
"""Degrees east and north of where it is looked at: a town and its fields."""

STEP = 1 / 12000
SIDE = 16


def probe(engine: EarthEngine, rows: Sequence[Assumption]) -> tuple[int, list[str]]:
    """Ask for each row, with the user's credentials, in fewer than twenty requests.

    Returns:
        Requests sent, and a line for each row that begins with "as assumed", "DIFFERS" or
        "not asked".

    Raises:
        SourceError: No credentials, or a refusal that ends it.
        AccessError: The service does not answer.
    """
    before = sum(counts.requests.values())
    client.start(engine.service)
    looks = _Looks(engine)
    lines = []
    for row in rows:
        name = f"{row.number} {row.name}"
        check = CHECKS.get(row.name)
        if check is None:
            lines.append(f"not asked: {name}")
            continue
        try:
            found = check(looks)
        except AccessError as problem:
            lines.append(f"DIFFERS: {name}: {problem}")
            continue
        lines.append(f"as assumed: {name}" if not found else f"DIFFERS: {name}: {found}")
    return sum(counts.requests.values()) - before, lines


@dataclass(slots=True)
class _Looks:
    """Answers that several rows are read from."""

    engine: EarthEngine
    kept: dict[str, Any] = field(default_factory=dict)

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]

    def native(self) -> NDArray[np.generic]:
        """Stored pixels on their own grid."""
        return self.once("native", lambda: self.map_on(_grid(0.0, STEP, SIDE)))  # type: ignore[no-any-return]

    def map_on(self, grid: Grid) -> NDArray[np.generic]:
        """The map on a grid, by `getPixels`."""
        return stored(self.engine.service, MAP, _whole(grid, (BAND,)))[BAND]

    def numbers(self) -> dict[str, float]:
        """One pixel of every rule about numbers."""
        return self.once("numbers", lambda: _numbers(self.engine))  # type: ignore[no-any-return]


def _whole(grid: Grid, bands: tuple[str, ...]) -> Piece:
    return Piece(grid, bands, (0, grid.height), (0, grid.width))


def _grid(shift: float, pixel: float, size: int) -> Grid:
    """A grid on the map's pixels, or so many of them off."""
    west = (round(PLACE[0] / STEP) + shift) * STEP
    north = (round(PLACE[1] / STEP) - shift) * STEP
    return Grid("EPSG:4326", Affine(pixel, 0.0, west, 0.0, -pixel, north), size, size)


def _numbers(engine: EarthEngine) -> dict[str, float]:
    import ee

    def made(bands: Sequence[str]) -> Any:
        def stack(*values: float) -> Any:
            return ee.ImageCollection.fromImages([ee.Image.constant(v).toInt32() for v in values])

        def scored(value: float) -> Any:
            return ee.Image.constant([value, 5]).toInt32().rename(["value", "quality"])

        hidden = ee.Image.constant(100).toInt32().updateMask(0)
        few = ee.ImageCollection.fromImages(
            [*(ee.Image.constant(v).toInt32() for v in (1, 2, 4, 9)), hidden]
        )
        best = ee.ImageCollection.fromImages([scored(1), scored(2)]).qualityMosaic("quality")
        parts = {
            "median": few.median(),
            "mosaic": stack(1, 2).mosaic(),
            "quality": best.select("value"),
            "mode": stack(3, 1, 1, 3).mode(),
            "fraction": ee.Image.constant(2.7).toUint16(),
            "below": ee.Image.constant(-3).toUint16(),
            "above": ee.Image.constant(70000).toUint16(),
            "masked": ee.Image.constant(7).updateMask(0),
        }
        out = ee.Image.cat([image.toDouble().rename(name) for name, image in parts.items()])
        return out.select(list(bands))

    names = ("median", "mosaic", "quality", "mode", "fraction", "below", "above", "masked")
    one = _whole(_grid(0.0, STEP, 1), names)
    found = computed(engine.service, "a pixel of numbers", made, one)
    return {name: float(found[name][0, 0]) for name in names}


def _is(name: str, want: float, looks: _Looks) -> str:
    found = looks.numbers()[name]
    return "" if found == want else f"{name} is {found}, assumed {want}"


def _all(*checks: Callable[[_Looks], str]) -> Callable[[_Looks], str]:
    return lambda looks: "; ".join(said for check in checks if (said := check(looks)))


def _masked(looks: _Looks) -> str:
    said = _is("masked", 0.0, looks)
    far = Grid("EPSG:4326", Affine(STEP, 0, 11.5, 0, -STEP, 89.0), 2, 2)  # no map so far north
    found = looks.map_on(far)
    return said or ("" if not found.any() else f"outside of a stored image {np.unique(found)}")


def _nearest(looks: _Looks) -> str:
    fine = looks.once("fine", lambda: looks.map_on(_grid(0.0, STEP / 4, SIDE * 4)))
    native = looks.native()
    if len(np.unique(native)) < 2:
        return "all pixels looked at are alike, so nothing is told"
    off = int((fine != native.repeat(4, 0).repeat(4, 1)).sum())
    return f"{off} of {fine.size} finer pixels are not those they lie in" if off else ""


def _centre(looks: _Looks) -> str:
    shifted = looks.map_on(_grid(0.75, STEP, SIDE - 1))
    off = int((shifted != looks.native()[1:, 1:]).sum())
    return f"{off} of {shifted.size} pixels are not those that hold their centres" if off else ""


def _types(looks: _Looks) -> str:
    found = looks.native()
    wrong = found.dtype != np.uint8 or found.shape != (SIDE, SIDE)
    return f"a map of bytes comes as {found.dtype} {found.shape}" if wrong else ""


def _scale(looks: _Looks) -> str:
    import ee

    made = ee.Image(MAP).reproject("EPSG:32632", None, 1000).projection()
    said = client.ask(looks.engine.service, "projection", partial(ee.data.computeValue, made))
    want = [1000, 0, 0, 0, -1000, 0]
    return "" if said.get("transform") == want else f"{said.get('transform')}, assumed {want}"


def _empty(looks: _Looks) -> str:
    import ee

    made = ee.ImageCollection([]).median().bandNames()
    said = client.ask(looks.engine.service, "bands", partial(ee.data.computeValue, made))
    return "" if said == [] else f"it has the bands {said}"


def _size(looks: _Looks) -> str:
    import ee

    service = looks.engine.service
    side = 4096
    while counted(side * side, [np.dtype("uint8")]) <= service.max_bytes:
        side += 1
    want = counted(side * side, [np.dtype("uint8")])
    grid = Grid("EPSG:4326", Affine(STEP, 0, 0, 0, -STEP, 0), side, side)
    try:
        computed(
            service,
            "too much",
            lambda _: ee.Image.constant(1).toByte(),
            _whole(grid, ("constant",)),
        )
    except AccessError as problem:
        said = re.search(r"\((\d+) bytes\)", problem.problem)
        if problem.kind != "too-large" or said is None:
            return problem.problem
        return "" if int(said[1]) == want else f"{said[1]} bytes are counted, assumed {want}"
    return f"{want} bytes, as we count them, were allowed"


def _eecu(looks: _Looks) -> str:
    before = counts.copy()
    eecu.read_back(looks.engine.service, least=1)
    spent = counts.since(before).spent
    return "" if spent[eecu.READ] else "no profile, or none with that column"


def _described(looks: _Looks) -> str:
    import ee

    west, north = PLACE
    near = ee.Geometry.Polygon(
        [[[west, north], [west + STEP, north], [west, north - STEP]]], None, False
    )
    made = ee.ImageCollection(MAP.rpartition("/")[0]).filterBounds(near).select([BAND])
    said = client.ask(looks.engine.service, MAP, partial(ee.data.computeValue, made))
    images = said.get("features", [])
    if not images:
        return "no image there"
    (band,) = images[0].get("bands", [{}])[:1]
    lacks = [k for k in ("data_type", "crs", "crs_transform", "dimensions") if k not in band]
    lacks += [k for k in ("id", "properties") if k not in images[0]]
    return f"lacks {', '.join(lacks)}" if lacks else ""


def _mask_band(looks: _Looks) -> str:
    far = Grid("EPSG:4326", Affine(STEP, 0, 11.5, 0, -STEP, 89.0), 2, 2)
    make = partial(with_mask, MAP, (BAND,))
    service = looks.engine.service
    outside = computed(service, MAP, make, _whole(far, (BAND, INSIDE)))[INSIDE]
    inside = computed(service, MAP, make, _whole(_grid(0.0, STEP, 2), (BAND, INSIDE)))[INSIDE]
    fine = not outside.any() and inside.all()
    return "" if fine else f"{outside.tolist()} outside, {inside.tolist()} inside"


CHECKS: dict[str, Callable[[_Looks], str]] = {
    "masked-zero": _masked,
    "even-median": partial(_is, "median", 3.0),
    "nearest": _nearest,
    "pixel-centre": _centre,
    "scale-origin": _scale,
    "mosaic-order": partial(_is, "mosaic", 2.0),
    "quality-ties": partial(_is, "quality", 1.0),
    "casts": _all(
        partial(_is, "fraction", 2.0), partial(_is, "below", 0.0), partial(_is, "above", 65535.0)
    ),
    "mode-ties": partial(_is, "mode", 1.0),
    "empty": _empty,
    "request-size": _size,
    "npy-types": _types,
    "eecu": _eecu,
    "described": _described,
    "mask-band": _mask_band,
}
"""Row to what differs, in words; "" where it is as assumed."""
