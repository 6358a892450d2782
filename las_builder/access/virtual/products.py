"""What a label product says of the truth: in its own codes, on its own lattice, with its errors.

A product that errs looks at the truth slightly beside where it says it looks, takes some of what
it sees for something else (`confusion`, `blotches`), and leaves out what is small (`generalise`). One that
does not (`errors: false`) says the codes of the truth at the centres of its pixels.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from las_builder.access.meet import extent_in
from las_builder.access.virtual.blotches import Fields, Scales, field, ranks, see, waits
from las_builder.access.virtual.confusion import (
    Errors,
    errors_of,
    limits,
    regions_of,
)
from las_builder.access.virtual.generalise import majority, reach, sieve
from las_builder.access.virtual.ground import Window, World, leaves
from las_builder.access.virtual.noise import (
    NOWHERE,
    RADIUS,
    deviation,
    in_space,
    nanodegrees,
    seed_of,
)
from las_builder.access.virtual.orbits import in_bbox
from las_builder.access.virtual.sky import CLOUD, SHADOW, sky
from las_builder.access.virtual.truth import LEAVES
from las_builder.catalogs import LabelProduct, Ontology
from las_builder.core.grid import Grid, is_geographic, metres_per_unit, mgrs_zone
from las_builder.core.types import Scene

T = TypeVar("T")
U = TypeVar("U", bound=np.generic)

MARGIN = 2
"""Pixels of the product to spare around a patch."""

LARGEST = 1 << 26
"""Pixels of a window; only a patch that holds a pole asks for more, of a product in degrees."""

NONE = 255
"""The class of a pixel that the legend has no code for."""

STRIP = 1 << 18
"""Pixels that are worked on at a time."""

_FARTHEST = 1 / deviation([1.0])  # in standard deviations: noise is bounded
_LEAST_TOP = 0.2  # of nine classes
_STEEPEST = 0.05  # cosine of the latitude from which on a degree of longitude is not shorter


@dataclass(frozen=True, slots=True)
class The(Generic[T]):
    """A thing as a key of a cache: itself, not what it says."""

    it: T

    def __hash__(self) -> int:
        return id(self.it)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, The) and self.it is other.it


@dataclass(frozen=True, slots=True, eq=False)
class Legend:
    """The codes that a product can have in this world, numbered."""

    codes: NDArray[np.integer]
    """Ascending; at `NONE`, nodata."""

    of_leaf: NDArray[np.uint8]
    """Number of the code of each of `truth.LEAVES`, or `NONE`."""


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What a product that errs says of a window, and how it came to it; (height, width) each."""

    classes: NDArray[np.uint8]
    """Number in `Legend.codes`."""

    right: NDArray[np.uint8]
    """What the truth at the pixel is in this legend."""

    taken: NDArray[np.uint8]
    """The leaf it thought it saw, before generalisation."""

    moved: NDArray[np.uint8]
    """The leaf where it looked."""

    why: NDArray[np.uint8]
    """0 where the two are one, 1 for the errors common to all products, 2 for those of its own
    that persist, 3 for those that do not."""


def codes_of_leaves(product: LabelProduct, ontology: Ontology) -> NDArray[np.integer]:
    """The code of each of `truth.LEAVES`, in the type of the product.

    The code with the fewest leaves among those that can mean it, the lowest first; where none
    can, that of the nearest relative, climbing the ontology; else nodata. Meanings that are `ours`
    do not count: they widen what a code may be, and are not what its producer maps.
    """
    meanings = {
        entry.value: frozenset().union(*(ontology.below(node) for node in named))
        for entry in product.classes
        if (named := [node for node in entry.means if node not in entry.ours])
        and entry.value != product.nodata
    }
    table = [_code_of(leaf, meanings, ontology, product.nodata) for leaf in LEAVES]
    return np.array(table, product.dtype)


def _code_of(
    leaf: str, meanings: Mapping[int, frozenset[str]], ontology: Ontology, nodata: int
) -> int:
    node = leaf
    while True:
        kin = ontology.below(node)
        fitting = [(len(meant), code) for code, meant in meanings.items() if meant & kin]
        if fitting:
            return min(fitting)[1]
        if "." not in node:
            return nodata
        node = node.rsplit(".", 1)[0]


def legend_of(product: LabelProduct, ontology: Ontology) -> Legend:
    """The codes of a product, numbered; made once for each declaration."""
    return _legend(The(product), The(ontology))


def errors_in(world: World, product: LabelProduct, ontology: Ontology) -> Errors:
    """How a product errs in a world; made once for each declaration."""
    return _errors(world, The(product), The(ontology))


@functools.lru_cache(maxsize=64)
def _legend(product: The[LabelProduct], ontology: The[Ontology]) -> Legend:
    table = codes_of_leaves(product.it, ontology.it)
    codes, number = np.unique(table, return_inverse=True)
    out = np.full(256, product.it.nodata, product.it.dtype)
    out[: codes.size] = codes
    number[table == product.it.nodata] = NONE
    return Legend(out, number.astype(np.uint8))


@functools.lru_cache(maxsize=64)
def _errors(world: World, product: The[LabelProduct], ontology: The[Ontology]) -> Errors:
    return errors_of(world, product.it, ontology.it, codes_of_leaves(product.it, ontology.it))


def window_around(product: LabelProduct, grid: Grid, scene: Scene) -> Window | None:
    """The product's own pixels that cover a grid, with a margin; None where that has no end.

    Around ±180° columns go on beyond 180.
    """
    lattice = product.lattice
    if lattice is None:
        raise ValueError(f"{product.name} is no raster")
    crs = lattice.crs
    if crs == "mgrs-utm":
        crs = _utm_crs(product, grid, scene)
    (west, east), (south, north) = extent_in(grid, crs)
    if is_geographic(crs) and west < -180:
        west, east = west + 360, east + 360
    (ox, oy), pixel = lattice.origin, lattice.pixel
    left, right = np.floor((west - ox) / pixel), np.ceil((east - ox) / pixel)
    top, bottom = np.floor((oy - north) / pixel), np.ceil((oy - south) / pixel)
    width, height = right - left + 2 * MARGIN, bottom - top + 2 * MARGIN
    if not np.isfinite(width * height) or width * height > LARGEST:
        return None
    column, row = int(left) - MARGIN, int(top) - MARGIN
    return Window(crs, (ox, oy), (pixel, pixel), column, row, int(width), int(height))


def _utm_crs(product: LabelProduct, grid: Grid, scene: Scene) -> str:
    """A map of each scene comes as the scene does; others in the zone of the place."""
    for crs in (scene.grid.crs if product.epoch.rule == "same-scene" else None, grid.crs):
        if crs is not None and crs.startswith(("EPSG:326", "EPSG:327")):
            return crs
    lon, lat = grid.centre_lonlat()
    return f"EPSG:{326 if lat >= 0 else 327}{mgrs_zone(lon, lat):02d}"


def label(
    world: World, product: LabelProduct, ontology: Ontology, window: Window, scene: Scene
) -> tuple[NDArray[np.integer], dict[str, NDArray[np.float32]]] | None:
    """What a product says of a window of its lattice.

    Returns:
        Codes, (height, width), nodata where it says nothing; and its evidence, layers of the same
        shape. None where the whole window lies outside the product's extent.
    """
    ring = in_bbox(product.extent.bbox, *window.grid().outline_lonlat().T)
    if not ring.any():
        return None
    same_scene = product.epoch.rule == "same-scene"
    year = scene.datetime.year if same_scene else product.epoch.year_for(scene.datetime.year)
    anew: object = scene.id if same_scene else year
    where = product.at("virtual")
    legend, errors = legend_of(product, ontology), errors_in(world, product, ontology)
    around = math.floor(errors.declared.probabilities.radius) if product.evidence else 0
    wide = _grown(window, around, around)
    if where is not None and not where.errors:
        classes = right = legend.of_leaf[leaves(world, wide, product.gsd, year)]
    else:
        found = said(errors, legend, product.gsd, wide, year, anew)
        classes, right = found.classes, found.right
    codes = legend.codes[_inner(classes, around, around)]
    if not ring.all():
        codes[~in_bbox(product.extent.bbox, *window.lonlat())] = product.nodata
    if same_scene and window.crs == scene.grid.crs:
        state = sky(world, scene, window).state
        codes[(state == CLOUD) | (state == SHADOW)] = product.nodata
    if not product.evidence:
        return codes, {}
    layers = _evidence(errors, legend, product, wide, classes, right, anew)
    layers[:, codes == product.nodata] = 0
    return codes, dict(zip(product.evidence, layers, strict=True))


def truth_in_legend(
    world: World,
    product: LabelProduct,
    ontology: Ontology,
    window: Window,
    year: int,
    *,
    generalised: bool = False,
) -> NDArray[np.integer]:
    """The codes that are right: of the truth at the centres of the product's pixels.

    Args:
        world: Which planet.
        product: Its codes, its pixel.
        ontology: What its codes mean.
        window: Of its lattice.
        year: Whose crops stand in the fields.
        generalised: Smoothed, and its smallest units merged, as the product does it.
    """
    legend, own = legend_of(product, ontology), errors_in(world, product, ontology).own
    around = reach(own.smoothing, own.smallest) if generalised else 0
    wide = _grown(window, around, around)
    classes = legend.of_leaf[leaves(world, wide, product.gsd, year)]
    if generalised:
        classes = _inner(sieve(majority(classes, own.smoothing), own.smallest), around, around)
    return legend.codes[classes]


def said(
    errors: Errors, legend: Legend, gsd: float, window: Window, year: int, anew: object
) -> Said:
    """What a product that errs says.

    Args:
        errors: How it does.
        legend: Its codes.
        gsd: Metres: what is narrower than about half of it, it does not see.
        window: Of its lattice.
        year: Whose crops stand in the fields.
        anew: Year or scene that the errors which do not persist are drawn for.
    """
    own = errors.own
    around = reach(own.smoothing, own.smallest)
    wide = _grown(window, around, around)
    drift = _drift(own.displaced[0], wide)
    left, top = (math.ceil(_FARTHEST * float(side)) + 1 for side in drift.max(axis=0))
    leaf = leaves(errors.world, _grown(wide, top, left), gsd, year)
    moved, taken, why = (np.empty(wide.shape, np.uint8) for _ in range(3))
    fields, wait = _fields(errors, anew), waits(errors.declared.choice)
    for start in range(0, wide.height, rows := max(1, STRIP // wide.width)):
        part = _rows(wide, start, min(rows, wide.height - start))
        points = np.stack(in_space(*(nanodegrees(v) for v in part.lonlat())))
        regions, which = regions_of(errors.world, errors.declared.regions, points.reshape(3, -1))
        found = limits(errors, regions)
        at = slice(start, start + part.height)
        see(
            points, leaf[start : start + part.height + 2 * top], top, left, drift[at],
            *_numbers(part), which.reshape(part.shape), errors.told, found.errs, found.chances, wait,
            *fields.arrays(), moved[at], taken[at], why[at],
        )  # fmt: skip
    classes = legend.of_leaf[taken]
    classes = sieve(majority(classes, own.smoothing), own.smallest)
    inside = leaf[top : top + wide.height, left : left + wide.width]
    return Said(
        *(
            _inner(layer, around, around)
            for layer in (classes, legend.of_leaf[inside], taken, moved, why)
        )
    )


def _fields(errors: Errors, anew: object) -> Fields:
    """East, south; then where and for what: in common, of its own, drawn anew."""
    own, world = errors.own, errors.world.seed
    drift: Scales = ((own.displaced[1], 1.0),)
    choice = errors.declared.choice
    common = seed_of(world, "products", "common")
    mine = seed_of(world, "products", own.family or errors.name)
    new = seed_of(world, "products", errors.name, "anew", anew)
    return Fields.of(
        [
            (drift, 0.0, seed_of(world, "products", errors.name, "east", anew)),
            (drift, 0.0, seed_of(world, "products", errors.name, "south", anew)),
            (errors.declared.common, 0.0, common),
            (choice, 0.0, common + 1000),
            (own.blotches, own.speckle, mine),
            (choice, 0.0, mine + 1000),
            (own.blotches, own.speckle, new),
            (choice, 0.0, new + 1000),
        ]
    )


def _numbers(window: Window) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Columns and rows, the same on every turn of the globe."""
    columns, rows = window.numbers()
    if is_geographic(window.crs):
        turn = 360 / window.pixel[0]
        if abs(turn - round(turn)) < 1e-6:
            columns = columns % round(turn)
    return columns, rows


def _drift(metres: float, window: Window) -> NDArray[np.float64]:
    """(height, 2): the columns and rows that some metres are."""
    out = np.empty((window.height, 2))
    if is_geographic(window.crs):
        degree = math.pi * RADIUS / 180
        _, lat = window.xy()
        shrunk = np.round(np.cos(np.radians(lat)), 9).clip(_STEEPEST)
        out[:, 0] = metres / (window.pixel[0] * degree * shrunk)
        out[:, 1] = metres / (window.pixel[1] * degree)
    else:
        unit = metres_per_unit(window.crs)
        out[:] = metres / (window.pixel[0] * unit), metres / (window.pixel[1] * unit)
    return out


def _grown(window: Window, rows: int, columns: int) -> Window:
    """The window with some pixels more on each side."""
    return replace(
        window,
        column=window.column - columns,
        row=window.row - rows,
        width=window.width + 2 * columns,
        height=window.height + 2 * rows,
    )


def _rows(window: Window, start: int, count: int) -> Window:
    return replace(window, row=window.row + start, height=count)


def _inner(layer: NDArray[U], rows: int, columns: int) -> NDArray[U]:
    """An array without some pixels on each side."""
    height, width = layer.shape
    return layer[rows : height - rows, columns : width - columns]


# ---- evidence


def _evidence(
    errors: Errors,
    legend: Legend,
    product: LabelProduct,
    wide: Window,
    classes: NDArray[np.uint8],
    right: NDArray[np.uint8],
    anew: object,
) -> NDArray[np.float32]:
    """Probabilities of the classes that the evidence is named after, (layer, height, width).

    The top one is the chance that the code is right, drawn from Beta(a, b) of mean a / (a + b) =
    the published accuracy: given that it is right it is Beta(a + 1, b), else Beta(a, b + 1), which
    makes it calibrated; then its odds are raised to the declared power. Of the rest an error gives
    a declared part to the class that is right, and the others go to what the class is mistaken
    for. Near other classes some of the top one is theirs.
    """
    declared = errors.declared.probabilities
    around = math.floor(declared.radius)
    inner = _grown(wide, -around, -around)
    layer = np.full(256, -1, np.int64)
    for number, name in enumerate(product.evidence):
        value = next((c.value for c in product.classes if c.name == name), None)
        layer[np.flatnonzero(legend.codes == value)] = number
    layer[NONE] = -1
    names = len(product.evidence)
    likely = np.full((names, names), 0.02)
    both = errors.likeness.mean() + errors.likeness.mean().T
    of_leaf = layer[legend.of_leaf]
    for i, j in zip(*np.nonzero(both), strict=True):
        if of_leaf[i] >= 0 and of_leaf[j] >= 0:
            likely[of_leaf[i], of_leaf[j]] += both[i, j]
    np.fill_diagonal(likely, 0.0)
    likely /= likely.sum(axis=1, keepdims=True).clip(1e-9)
    points = np.stack(in_space(*(nanodegrees(v) for v in inner.lonlat())))
    seed = seed_of(errors.world.seed, "products", errors.name, "sure", anew)
    fields = Fields.of([(declared.blotches, declared.speckle, seed)])
    out = np.empty((names, *inner.shape), np.float32)
    _share(
        classes, _inner(right, around, around), layer, around, declared.radius**2, likely,
        _top(declared.concentration, declared.overconfidence, errors.own.overall.share), declared.missed, declared.soft, points,
        *_numbers(inner), ranks(declared.blotches, declared.speckle), *fields.arrays(), out,
    )  # fmt: skip
    return out


@functools.lru_cache(maxsize=64)
def _top(concentration: float, overconfidence: float, accuracy: float) -> NDArray[np.float64]:
    """Quantiles of the top probability where the code is wrong and where it is right, (2, n)."""
    from scipy.special import betaincinv

    a, b = accuracy * concentration, (1 - accuracy) * concentration
    chance = (np.arange(1024) + 0.5) / 1024
    top = np.stack([betaincinv(a, b + 1, chance), betaincinv(a + 1, b, chance)]).clip(
        1e-6, 1 - 1e-6
    )
    odds = (top / (1 - top)) ** overconfidence
    return np.asarray(np.round(odds / (1 + odds), 6).clip(_LEAST_TOP, 0.999))


@njit(cache=True)
def _share(  # type: ignore[no-untyped-def]
    classes, right, layer, around, radius2, likely, tops, missed, soft, points, columns, rows,
    ranked, inverse, amplitude, speckle, seed, out,
):  # fmt: skip
    names, height, width = out.shape
    key = np.full((inverse.size, 3), NOWHERE, np.int64)
    value = np.empty((inverse.size, 8))
    count, p = np.zeros(names), np.zeros(names)
    for r in range(height):
        for c in range(width):
            said = classes[r + around, c + around]
            own = layer[said]
            if own < 0:
                out[:, r, c] = 0
                continue
            count[:] = 0
            total = 0
            for j in range(-around, around + 1):
                for i in range(-around, around + 1):
                    if j * j + i * i <= radius2:
                        k = layer[classes[r + around + j, c + around + i]]
                        if k >= 0:
                            count[k] += 1
                            total += 1
            sure = field(
                0, points[0, r, c], points[1, r, c], points[2, r, c], columns[c], rows[r], 0,
                inverse, amplitude, speckle, seed, key, value,
            )  # fmt: skip
            rank = np.searchsorted(ranked, sure) * tops.shape[1] // (ranked.size + 1)
            true = right[r, c]
            q = tops[1 if true == said else 0, rank]
            top = q * (1 - soft * (1 - count[own] / total))
            rest = 1 - q
            p[:] = 0
            if true != said and layer[true] >= 0:
                p[layer[true]] += missed * rest
                rest *= 1 - missed
            for k in range(names):
                p[k] += rest * likely[own, k]
                if k != own and count[k] > 0:
                    p[k] += (q - top) * count[k] / (total - count[own])
            others = 0.0
            for k in range(names):
                if k != own:
                    p[k] = min(p[k], 0.98 * top)
                    others += p[k]
            p[own] = 1 - others
            for k in range(names):
                out[k, r, c] = p[k]
