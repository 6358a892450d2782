"""What a label product says of the truth: in its own codes, on its own lattice, with its errors."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from las_builder.access.meet import extent_in
from las_builder.access.virtual.ground import Window, World, leaves
from las_builder.access.virtual.noise import in_space, layered, mixed, nanodegrees, seed_of
from las_builder.access.virtual.orbits import in_bbox
from las_builder.access.virtual.sky import CLEAR, sky
from las_builder.access.virtual.truth import LEAVES, LETTERS
from las_builder.catalogs import LabelProduct, Ontology
from las_builder.core.grid import Grid, is_geographic, mgrs_zone
from las_builder.core.types import Scene

MARGIN = 2
"""Pixels of the product to spare around a patch."""

LARGEST = 1 << 26
"""Pixels of a window; only a patch that holds a pole asks for more, of a product in degrees."""

_CONFUSED: Mapping[str, str] = {
    "L": "=W", "=": "LW", "B": "NSP", "E": "BOS", "N": "BHF", "F": "NTS", "O": "EB",
    "S": "GBD", "H": "SNT", "G": "SCP", "T": "JSG", "P": "CGU", "U": "PGi", "M": "CYP",
    "C": "PMG", "Y": "MCP", "I": "WCP", "V": "SCB", "b": "iDr", "r": "ibP", "i": "bDr",
    "D": "RSG", "Z": "DRK", "R": "DSJ", "J": "TRS", "W": "PXL", "X": "BWE", "K": "RDJ",
}  # fmt: skip
"""What each leaf is taken for, the likeliest first. The sea is never missed."""

_BLOTCHES = ((900.0, 1.0), (180.0, 0.6))
_CERTAINTY = 0.7


def codes_of_leaves(product: LabelProduct, ontology: Ontology) -> NDArray[np.integer]:
    """The code of each of `truth.LEAVES`, in the type of the product.

    The code with the fewest leaves among those that can mean it, the lowest first; where none
    can, that of the nearest relative, climbing the ontology; else nodata.
    """
    meanings = {
        entry.value: frozenset().union(*(ontology.below(node) for node in entry.means))
        for entry in product.classes
        if entry.means and entry.value != product.nodata
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


def window_around(product: LabelProduct, grid: Grid, scene: Scene) -> Window | None:
    """The product's own pixels that cover a grid, with a margin; None where that has no end.

    Around ±180° columns go on beyond 180.
    """
    crs = product.lattice.crs
    if crs == "mgrs-utm":
        crs = _utm_crs(product, grid, scene)
    (west, east), (south, north) = extent_in(grid, crs)
    if is_geographic(crs) and west < -180:
        west, east = west + 360, east + 360
    (ox, oy), pixel = product.lattice.origin, product.lattice.pixel
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
) -> NDArray[np.integer] | None:
    """Codes on a window of the product's lattice, (height, width); nodata where it says nothing.

    None where the whole window lies outside the product's extent.
    """
    ring = in_bbox(product.extent.bbox, *window.grid().outline_lonlat().T)
    if not ring.any():
        return None
    table = codes_of_leaves(product, ontology)
    where = product.at("virtual")
    if where is not None and where.noise > 0:
        year = product.epoch.year_for(scene.datetime.year)
        codes = _with_errors(world, product, table, window, (where.noise, year))
    else:
        codes = table[leaves(world, window)]
    if not ring.all():
        codes[~in_bbox(product.extent.bbox, *window.lonlat())] = product.nodata
    if product.epoch.rule == "same-scene" and window.crs == scene.grid.crs:
        codes[sky(world, scene, window).state != CLEAR] = product.nodata
    return codes


def _with_errors(
    world: World,
    product: LabelProduct,
    table: NDArray[np.integer],
    window: Window,
    share_and_year: tuple[float, int],
) -> NDArray[np.integer]:
    """Blotches in which another code stands, on that share of the land."""
    share, year = share_and_year
    seed = seed_of(world.seed, product.name, year)
    leaf, confused = leaves(world, window), _confusions(table, product.nodata)
    codes = table[leaf]
    lon, lat = window.lonlat()
    limit = _limit(share)
    for top in range(0, window.height, rows := max(1, (1 << 14) // window.width)):
        part = slice(top, top + rows)
        points = in_space(nanodegrees(lon[part]), nanodegrees(lat[part]))
        wrong = layered(points, _BLOTCHES, seed) >= limit
        choice = layered(points, ((1_300.0, 1.0),), seed + 7)
        taken_for = confused[leaf[part], np.searchsorted((0.3, 1.1), choice)]
        codes[part] = np.where(wrong, taken_for, codes[part])
    return codes


def _confusions(table: NDArray[np.integer], nodata: int) -> NDArray[np.integer]:
    """(leaf, choice) to a wrong code, the likeliest first; the right one where there is no other."""
    letters = list(LETTERS)
    out = np.repeat(table[:, None], 3, axis=1)
    for i, letter in enumerate(letters):
        if letter == "~" or table[i] == nodata:
            continue
        kin = [table[letters.index(k)] for k in _CONFUSED[letter]]
        # In a coarse legend all of them may share one code: then any other will do.
        wrong = list(dict.fromkeys(c for c in (*kin, *table[1:]) if c not in (table[i], nodata)))
        if any(code in wrong for code in kin):
            wrong = [code for code in wrong if code in kin]
        if wrong:
            out[i] = [wrong[min(choice, len(wrong) - 1)] for choice in range(3)]
    return out


@functools.lru_cache(maxsize=64)
def _limit(share: float) -> float:
    """What the field of blotches exceeds on this share of the world, from a sample of it."""
    n = 1 << 16
    coordinates = [mixed([np.arange(n)], axis).astype(np.float64) * 1e-12 for axis in range(3)]
    field = np.sort(layered(coordinates, _BLOTCHES, 0))
    wrong = round(share * n)
    return float("inf") if wrong == 0 else float(field[n - wrong])


def evidence(product: LabelProduct, codes: NDArray[np.integer]) -> dict[str, NDArray[np.float32]]:
    """Probabilities of the classes, (y, x) each: 0.7 for the code that stands, the others share."""
    values: Sequence[int] = [
        next((c.value for c in product.classes if c.name == name), -1) for name in product.evidence
    ]
    rest = (1 - _CERTAINTY) / max(1, len(values) - 1)
    out = {}
    for name, value in zip(product.evidence, values, strict=True):
        layer = np.where(codes == value, np.float32(_CERTAINTY), np.float32(rest))
        out[name] = np.where(codes == product.nodata, np.float32(0), layer)
    return out
