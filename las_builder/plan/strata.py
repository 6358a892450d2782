"""Strata: what class every land cell of a target has in a layer, and combinations of layers.

A layer is asked at the middle of the land cell of 0.05°, whatever its own resolution is, so that a
place has the same stratum whoever asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from las_builder.access.coarse import COVERS, codes_at, raster_shares, truth_shares
from las_builder.catalogs import Strata
from las_builder.catalogs.models import Cover, StrataLayer
from las_builder.errors import CatalogError, LegendError
from las_builder.plan.cities import Towns, nearest_class, people_around
from las_builder.plan.passes import NO_FLOATS, relabel, sums
from las_builder.plan.target import CELL, COLUMNS, ROWS, Floats, Ints, Target, lattice_centres

NONE = "none"
"""Class of places to which a layer gives no code."""

OTHER = "other"
"""Small strata of one parent, drawn together."""

_CELL_KM = 5.5


@dataclass(frozen=True, eq=False)
class Stratification:
    """A stratum for every cell of a target."""

    names: tuple[str, ...]
    """By number; parts of a combination are joined by "/", the broadest first."""

    number: Ints
    """Of each cell, (cells,)."""

    areas: Floats
    """Of target population in each stratum, km2."""


def stratify(
    layers: Sequence[str], target: Target, merge_km2: float, where: object, key: str,
    *, most: int | None = None,
) -> Stratification:  # fmt: skip
    """The combination of some layers.

    Args:
        layers: Names, the broadest first.
        target: Whose cells.
        merge_km2: Strata smaller than this become "other" of their parent, if any stratum of it
            is left, else of its parent, and so on up.
        where: The recipe, for messages.
        key: Of the recipe that names the layers.
        most: Strata; where there are more, the smallest join their parent's "other" too, one by
            one.

    Raises:
        UnknownNameError: No layer of this name.
        CatalogError: A layer is continuous, or its declaration is broken.
        RasterError: A raster without CRS.
        LegendError: A raster with codes outside the legend.
    """
    found = [classes(name, target, where=where, key=f"{key}.{i}") for i, name in enumerate(layers)]
    number, combinations = found[0][0], len(found[0][1])
    for codes, names in found[1:]:
        number *= np.int32(len(names))
        number += codes
        combinations *= len(names)
    every = np.zeros(combinations)
    sums(number, NO_FLOATS, every)
    here = np.flatnonzero(every)
    every[:] = 0
    sums(number, target.areas, every)
    labels = []
    for combined in here.tolist():
        value, parts = combined, []
        for _, names in reversed(found):
            value, code = divmod(value, len(names))
            parts.append(names[code])
        labels.append("/".join(reversed(parts)))
    areas = every[here]
    merged, moved = _merged(labels, areas, merge_km2)
    while most is not None and len(merged) > max(1, most):
        sizes = np.bincount(moved, areas, len(merged))
        merge_km2 = float(np.nextafter(sizes[sizes >= merge_km2].min(), np.inf))
        merged, moved = _merged(labels, areas, merge_km2)
    new = np.zeros(combinations, np.int32)
    new[here] = moved
    total = np.zeros(len(merged))
    relabel(number, new, target.areas, total)
    return Stratification(tuple(merged), number, total)


def parent(stratum: str) -> str:
    """The stratum that leaves the last part out; "" is all of a component."""
    return stratum.rpartition("/")[0]


def _merged(
    labels: Sequence[str], areas: Floats, least: float
) -> tuple[list[str], NDArray[np.int64]]:
    """Names by ascending order, and the new number of every old stratum."""
    name = list(labels)
    for _ in range(1 + max((label.count("/") for label in labels), default=0)):
        sizes: dict[str, float] = {}
        for label, area in zip(name, areas.tolist(), strict=True):
            sizes[label] = sizes.get(label, 0.0) + area
        small = {label for label, area in sizes.items() if area < least}
        name = [_up(label) if label in small else label for label in name]
    names = sorted(set(name))
    at = {label: i for i, label in enumerate(names)}
    return names, np.array([at[label] for label in name], np.int64)


def _up(label: str) -> str:
    above, _, last = label.rpartition("/")
    if last == OTHER:  # too small even together: with those of the parent above
        above = above.rpartition("/")[0]
        if not above and label == OTHER:
            return OTHER
    return f"{above}/{OTHER}" if above else OTHER


def classes(
    name: str, target: Target, *, where: object = "command", key: str = "strata"
) -> tuple[Ints, tuple[str, ...]]:
    """The class of every cell in one layer.

    Returns:
        A number for each cell, (cells,), and the names by number; "none" is where no code is.
    """
    strata = target.region.strata
    layer = strata.catalogs.strata(name, where=where, key=key)
    file = strata.catalogs.file("strata", name)
    if layer.of is not None:
        return _grouped(layer, target, file)
    if layer.classes is None:
        raise CatalogError(file, "classes", None, "codes and their names: a layer of classes")
    values = sorted(layer.classes)
    names = (*(layer.classes[v].replace("/", "-") for v in values), NONE)
    array = _packaged(layer, strata)
    if array is not None:
        meant = np.full(256, -1, np.int32)
        meant[0] = len(values)
        meant[values] = np.arange(len(values))
        found = target.meant(array, meant)
        if found.min(initial=0) >= 0:
            return found, names
    codes = _codes(layer, target, strata, file)
    known = np.array(values)
    at = np.searchsorted(known, codes)
    at[at == known.size] = 0
    fits = known[at] == codes
    odd = codes[~fits & (codes != 0)]
    if odd.size:
        raise LegendError(
            file, "classes", int(odd[0]), f"the codes {', '.join(str(v) for v in values)}",
            "Declare the code, or name it as `nodata`.",
        )  # fmt: skip
    return np.where(fits, at, len(values)).astype(np.int32), names


def _grouped(layer: StrataLayer, target: Target, file: object) -> tuple[Ints, tuple[str, ...]]:
    numbers, names = classes(layer.of or "", target, where=file, key="of")
    groups = layer.groups or {}
    names_of: Mapping[str, int] = {
        member: i for i, members in enumerate(groups.values()) for member in members
    }
    odd = sorted(set(names_of) - set(names))
    if odd:
        raise CatalogError(file, "groups", odd[0], f"classes of {layer.of}")
    moved = np.array([names_of.get(name, len(groups)) for name in names], np.int32)
    return moved[numbers], (*groups, NONE)


def _packaged(layer: StrataLayer, strata: Strata) -> NDArray[np.uint8] | None:
    """The global array of a layer that has one, of codes up to 255."""
    if layer.file is None:
        return None
    array = strata.array(layer.name)
    fits = array.dtype == np.uint8 and all(0 <= v < 256 for v in layer.classes or {})
    return array if fits else None


def _codes(layer: StrataLayer, target: Target, strata: Strata, file: object) -> NDArray[np.int64]:
    """The layer's own codes, 0 for none, (cells,)."""
    if layer.near is not None:
        rules = [(n.value, n.people, n.within_km) for n in layer.near]
        rest = list(layer.classes or {})[-1]
        return nearest_class(target, Towns.of(strata), rules, rest)
    if layer.people is not None:
        total = people_around(target, Towns.of(strata), layer.people.within_km)
        return np.asarray(np.searchsorted(layer.people.steps, total, side="right") + 1, np.int64)
    if layer.raster is not None:
        lon, lat = target.centres()
        path = _path(layer.raster.path, file)
        codes, valid = codes_at(path, layer.raster.band, lon, lat, _CELL_KM)
        return np.where(valid & (codes != layer.raster.nodata), codes, 0)
    if layer.cover is not None:
        return _cover(layer, layer.cover, target, file)
    array = strata.array(layer.name)
    lon, lat = lattice_centres()
    row = np.floor((90 - lat) * (array.shape[0] / 180)).astype(np.int64)
    column = np.floor((lon + 180) * (array.shape[1] / 360)).astype(np.int64)
    return np.asarray(array[row[target.row], column[target.column]], np.int64)


def _path(path: str, file: object) -> str:
    from pathlib import Path

    beside = Path(str(file)).parent / path
    return path if "://" in path or path.startswith("/vsi") else str(beside)


def _cover(layer: StrataLayer, cover: Cover, target: Target, file: object) -> NDArray[np.int64]:
    shares, coarse = _shares(layer, cover, target, file)
    codes = np.array(sorted(layer.classes or {}))
    some = shares.sum(axis=1) > 0
    if cover.pick == "dominant":
        picked = codes[shares.argmax(axis=1)]
    else:
        order = cover.rarest or []
        odd = sorted(set(order) ^ set(codes.tolist()))
        if odd:
            raise CatalogError(file, "cover.rarest", odd[0], "every code of `classes`, once")
        # Where no class comes up to `above`, the dominant one.
        picked = codes[shares.argmax(axis=1)]
        for value in reversed(order):
            picked[shares[:, np.searchsorted(codes, value)] >= cover.above] = value
    return np.where(some, picked, 0)[coarse]


def shares(
    name: str, target: Target, *, where: object = "command", key: str = "strata"
) -> tuple[Floats, tuple[str, ...]]:
    """Shares of classes in the coarse cell of every land cell, from a layer of class fractions.

    Returns:
        (cells, classes) between 0 and 1, rows of 0 where nothing is known; names of the classes.
    """
    layer = target.region.strata.catalogs.strata(name, where=where, key=key)
    file = target.region.strata.catalogs.file("strata", name)
    if layer.cover is None:
        raise CatalogError(file, "cover", None, "class fractions: a layer with `cover`")
    found, coarse = _shares(layer, layer.cover, target, file)
    names = tuple((layer.classes or {})[v] for v in sorted(layer.classes or {}))
    return found[coarse].astype(np.float64), names


def _shares(
    layer: StrataLayer, cover: Cover, target: Target, file: object
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(coarse cells, classes by ascending code), and the coarse cell of every land cell."""
    block = round(cover.cell / CELL)
    wide = -(-COLUMNS // block)
    flat = (target.row // block).astype(np.int64) * wide + target.column // block
    coarse, inverse = np.unique(flat, return_inverse=True)
    row, column = coarse // wide, coarse % wide
    values = sorted(layer.classes or {})
    if cover.raster is not None:
        path = _path(cover.raster.path, file)
        found, odd = raster_shares(
            path, cover.raster.band, values, cover.cell, cover.samples, row, column
        )
        odd = odd[odd != cover.raster.nodata]
        if odd.size:
            raise LegendError(
                file, "classes", int(odd[0]), f"the codes {', '.join(str(v) for v in values)}",
                "Declare the code, or name it as `nodata`.",
            )  # fmt: skip
        return found, inverse
    if ROWS % block or COLUMNS % block:
        raise CatalogError(file, "cover.cell", cover.cell, "a divisor of 180 degrees")
    names = layer.classes or {}
    odd_names = [names[v] for v in values if names[v] not in COVERS]
    if odd_names:
        raise CatalogError(file, "classes", odd_names[0], f"the covers {', '.join(COVERS)}")
    every = truth_shares(target.region.strata.catalogs, cover.cell, cover.samples, row, column)
    of = [COVERS.index(names[v]) for v in values]
    return (every[:, of] / np.float32(255)).astype(np.float32), inverse
