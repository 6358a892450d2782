"""One request for pixels, and what came back.

A grid goes along with every request: CRS, affine transform and dimensions, never a scale. Masked pixels
come as 0; where that is a value the mask is asked for as a band.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from las_builder.access.earth_engine import client, eecu
from las_builder.access.earth_engine.sizes import Piece
from las_builder.catalogs.earth_engine import EarthEngineService
from las_builder.core.grid import Grid
from las_builder.errors import AccessError

INSIDE = "las_inside"
"""Our name of the band that is 1 where an image has a number to give."""


Expression = Any
Layers = dict[str, NDArray[np.generic]]


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


def with_mask(image: str, masked: Sequence[str], bands: Sequence[str]) -> Expression:
    """Bands of a stored image, and one that is 1 where none of some bands is masked."""
    import ee

    one = ee.Image(image)
    inside = one.select(list(masked)).mask().reduce(ee.Reducer.min()).gt(0).rename(INSIDE)
    real = [band for band in bands if band != INSIDE]
    if not real:
        return inside
    return one.select(real).addBands(inside) if INSIDE in bands else one.select(real)
