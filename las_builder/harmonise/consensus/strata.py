"""The stratum of a place: what classes it is of in some layers, the broadest first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from las_builder.catalogs import Catalogs, Strata
from las_builder.errors import RecipeError

NONE = "none"
"""Class of places to which a layer gives no code."""


def strata_at(
    catalogs: Catalogs, layers: Sequence[str], lon: Sequence[float | None],
    lat: Sequence[float | None], *, where: object = "recipe",
) -> list[str]:  # fmt: skip
    """Names like "Cfb/Europe", one a place; "" where there is no layer or no place.

    Args:
        catalogs: Whose layers.
        layers: Names; packaged arrays, or groups of their classes.
        lon: Degrees; None: without a place.
        lat: Degrees.
        where: File that asks, for messages.

    Raises:
        UnknownNameError: No layer of this name.
        RecipeError: A layer that is neither an array with classes nor a grouping of one.
    """
    located = [x is not None and y is not None for x, y in zip(lon, lat, strict=True)]
    x = np.array([0.0 if v is None else v for v in lon])
    y = np.array([0.0 if v is None else v for v in lat])
    found = [_classes(catalogs, name, x, y, f"consensus.strata.{i}", where)
             for i, name in enumerate(layers)]  # fmt: skip
    joined = ["/".join(parts) for parts in zip(*found, strict=True)] if found else [""] * len(x)
    return [name if known else "" for name, known in zip(joined, located, strict=True)]


def _classes(
    catalogs: Catalogs, name: str, lon: NDArray[np.float64], lat: NDArray[np.float64],
    key: str, where: object,
) -> list[str]:  # fmt: skip
    layer = catalogs.strata(name, where=where, key=key)
    if layer.of is not None:
        below = _classes(catalogs, layer.of, lon, lat, key, where)
        of = {
            member: group for group, members in (layer.groups or {}).items() for member in members
        }
        return [of.get(one, NONE) for one in below]
    if layer.array is None or layer.classes is None:
        raise RecipeError(where, key, name, "a packaged layer of classes, or groups of one")
    array = Strata.load(catalogs).array(name)
    rows, columns = array.shape
    row = np.floor((90 - lat) * (rows / 180)).astype(np.int64).clip(0, rows - 1)
    column = np.floor((lon + 180) * (columns / 360)).astype(np.int64) % columns
    names = layer.classes
    return [names.get(int(code), NONE) for code in array[row, column]]
