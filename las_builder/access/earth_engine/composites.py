"""Composites, worked out by the service where nothing has to be resampled or shifted."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from las_builder.access import raster
from las_builder.access.earth_engine.asking import INSIDE, Expression, computed
from las_builder.access.earth_engine.scene_bands import Image, image_of
from las_builder.access.earth_engine.sizes import Piece, in_pieces
from las_builder.access.protocol import ReadRequest
from las_builder.catalogs import Imagery
from las_builder.catalogs.earth_engine import EarthEngineService
from las_builder.core.types import Chip, Gap, GapReason


def easy_members(
    service: EarthEngineService, imagery: Imagery, request: ReadRequest
) -> list[Image] | None:
    """The members of a composite; None where they have to be resampled, or their numbers shifted,
    or their masks made here.
    """
    scene, validity = request.scene, imagery.validity
    if validity.computed is not None:
        return None
    names = [*request.bands, *validity.reads]
    members = [image_of(service, imagery, one, names) for one in scene.members]
    alike = all(
        raster.repeats(request.grid, one.own(name), categorical=one.categorical(name))
        for one in members for name in names
    )  # fmt: skip
    shifted = any(
        imagery.counts_to(one, scene, name) for one in scene.members for name in request.bands
    )
    return members if alike and not shifted else None


def read_composites(
    service: EarthEngineService, imagery: Imagery, requests: Sequence[ReadRequest],
    members: Sequence[Image],
) -> list[Chip | Gap]:  # fmt: skip
    """Chips of requests for one composite, whose members `easy_members` gave."""
    return [_composite(service, imagery, request, members) for request in requests]


def _composite(
    service: EarthEngineService, imagery: Imagery, request: ReadRequest, members: Sequence[Image]
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
    imagery: Imagery, members: Sequence[Image], how: str, bands: Sequence[str]
) -> Expression:
    """A composite as `core.types.Composite` says, and where any member saw the surface.

    A member counts at a pixel where none of its bands is masked or nodata and its validity band calls
    the view clear. The middle two of an even number are halved upwards, as ours are.
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
        if imagery.nodata is not None:
            valid = valid.And(every.neq(imagery.nodata).reduce(ee.Reducer.min()))
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
