"""How a label product errs: how often, where, and what it takes the ground for.

Of every product, region and class an accuracy is drawn around the published one, and what the class
is taken for is drawn around weights of likeness. A product errs where one of three fields exceeds
the limit that gives this rate:

- common to all products: of each product's errors the share `common_share` lies there. The field
  and what the ground is taken for are the same for all, only the limit is the product's own, so
  the errors of the better product there are among those of the worse (as far as its legend tells
  the two covers apart; where it does not, its limit is lower by as much);
- the product's own, the same in every year, version and scene: `persistence` of the rest;
- what is left, drawn anew for each.

Everything here is computed for a point and from the seed, never from a window.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import annotated_types as at
import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import Field

from las_builder.access.virtual.blotches import Floats, Scales, above, ranks
from las_builder.access.virtual.ground import World
from las_builder.access.virtual.noise import RADIUS, in_space, layered, mixed, seed_of, unit
from las_builder.access.virtual.parameters import Published, Share, Strict
from las_builder.access.virtual.truth import LEAVES
from las_builder.catalogs import Catalogs, LabelProduct, Ontology
from las_builder.errors import CatalogError

Region = tuple[int, int, str]
"""Belt of latitude, cell along it, group of climates."""

GRAIN = 2000.0
"""Metres: a cube of this side lies in one region as a whole."""

_NAMED = 0.008  # the least chance with which a class is taken for another
_LEAST_TOLD = 0.2  # of the common confusions: below it a product has fewer common errors
_WORST, _BEST = 0.05, 0.995  # of the accuracies
_RARE = 1e-3  # share of a region: what a class without any counts as there


class Figure(Strict):
    """The published overall accuracy that a product is held to."""

    share: Published = Field(gt=0, lt=1)
    scope: str
    source: str
    verified: bool
    of: Literal["legend", "cover"] = "legend"
    """What has to agree: the codes, or what they mean at level 1 of the ontology."""

    among: str | None = None
    """An ontology node: the figure holds where this is the truth."""

    reference: Literal["pixel", "generalised"] = "pixel"
    """generalised: the truth is smoothed to the product's smallest unit before the two are compared."""


class ProductErrors(Strict):
    """How one product errs."""

    overall: Figure
    shift: float
    """Added to the log-odds of every class to be right, so that `overall` holds; solved by
    `benchmarks/virtual_products.py --calibrate`."""

    blotches: Scales
    """Of its own errors: where these fields are high together, it errs."""

    speckle: Annotated[float, at.Ge(0)]
    """Amplitude of what each pixel adds to the fields of `blotches`."""

    persistence: Share
    """Of the errors that are its own: how many are the same in every year, version and scene."""

    family: str | None = None
    """Products of one name share what persists; None: its own name."""

    displaced: tuple[float, float]
    """Standard deviation, along each axis, of where its pixels truly are, and the distance over
    which that varies; metres."""

    smoothing: Annotated[float, at.Ge(0)] = 0.0
    """Radius in pixels of the disc whose commonest class it shows; below 1: none."""

    smallest: int = Field(default=1, ge=1)
    """Pixels of its smallest unit."""


class Regions(Strict):
    """Where accuracies and confusions are drawn anew."""

    side_km: Annotated[float, at.Ge(100)]
    """Cells of about this side, times the groups of climates."""

    frayed_km: Annotated[float, at.Ge(0)]
    """Standard deviation by which their boundaries wander."""

    accuracy: Annotated[float, at.Ge(1)]
    """Concentration of the Beta distribution of each class's accuracy."""

    confusion: Annotated[float, at.Ge(0.1)]
    """Concentration of the Dirichlet distribution of what a class is taken for."""

    prevalence: Share
    """Power of a cover's share of the region that its chance to be named has."""


class Probabilities(Strict):
    """The probabilities that a product gives beside its codes."""

    concentration: Annotated[float, at.Ge(1)]
    """Of the Beta distribution of the top probability; its mean is the published accuracy."""

    overconfidence: Annotated[float, at.Ge(0)]
    """Power of the odds that are stated: 1 is calibrated."""

    missed: Share
    """Of what an error leaves over: how much the true class gets."""

    soft: Share
    """How much of the top probability goes to the neighbours' classes where all differ."""

    radius: Annotated[float, at.Ge(1)]
    """Of the neighbourhood, pixels."""

    blotches: Scales
    speckle: Annotated[float, at.Ge(0)]


class Priors(Strict):
    """Accuracy of the classes at level 1 of the ontology."""

    values: Mapping[str, Published]
    source: str
    basis: str
    verified: bool
    assumed: list[str]
    """Those that nobody published."""


class Products(Strict):
    """`catalogs/virtual/products.yaml`."""

    common_share: Share
    common: Scales
    """Fields of the errors that are common to all products."""

    choice: Scales
    """Fields of what an error takes the ground for."""

    sea_errors: Share
    """Of the pixels at sea, for every product."""

    regions: Regions
    priors: Priors
    taken_for: Mapping[str, Mapping[str, Annotated[float, at.Ge(0)]]]
    """Ontology node to what it is taken for, with weights; the nearest node above a leaf holds."""

    probabilities: Probabilities
    products: Mapping[str, ProductErrors]
    otherwise: ProductErrors
    """Of products that are not named."""

    def of(self, name: str) -> ProductErrors:
        """How the product of this name errs."""
        return self.products.get(name, self.otherwise)


@dataclass(frozen=True, slots=True, eq=False)
class Errors:
    """Everything about one product's errors that does not depend on the place."""

    world: World
    declared: Products
    own: ProductErrors
    name: str
    table: NDArray[np.integer]
    """Code of each leaf."""

    told: NDArray[np.bool_]
    """(leaf, leaf): whether the product tells the two apart, and has a code for the second."""

    accuracy: Floats
    """(leaf,) mean over regions."""

    likeness: Likeness


@dataclass(frozen=True, slots=True, eq=False)
class Likeness:
    """`taken_for`, by leaf."""

    weights: Floats
    """(leaf, node): of the nodes that a leaf is taken for."""

    members: NDArray[np.bool_]
    """(node, leaf): the leaves below each node; not the sea, which no land is taken for."""

    other_cover: NDArray[np.bool_]
    """(leaf, leaf): whether the two differ at level 1."""

    def mean(self) -> Floats:
        """(leaf, leaf) weights where all covers are equally common."""
        return self.spread(np.full(len(LEAVES), 1 / len(LEAVES)), 0.0)

    def spread(self, prevalence: Floats, power: float) -> Floats:
        """(leaf, leaf) weights of what each leaf is taken for, where covers have these shares."""
        inside = self.members * (prevalence + _RARE)
        total = inside.sum(axis=1)
        share = inside / total.clip(1e-12)[:, None]
        weights = (self.weights * np.round(total**power, 9)) @ share
        np.fill_diagonal(weights, 0.0)
        return np.asarray(weights)


@dataclass(frozen=True, slots=True, eq=False)
class Limits:
    """The three fields in some regions: (common, own, anew) x region x leaf."""

    errs: Floats
    """What the field must exceed for the product to err, (3, region, leaf); inf: never."""

    chances: Floats
    """(3, region, leaf, leaf): of what the ground is then taken for."""


def errors_of(
    world: World,
    product: LabelProduct,
    ontology: Ontology,
    table: NDArray[np.integer],
    declared: Products | None = None,
) -> Errors:
    """How a product errs in a world.

    Args:
        world: Which planet.
        product: Its accuracies of single classes are used where they are published.
        ontology: What `taken_for` speaks of.
        table: Code of each leaf.
        declared: Other parameters than those of the world.

    Raises:
        CatalogError: The parameters name a node that is none, or leave a class without a prior.
    """
    declared = declared or world.parameters("products", Products)
    path = Catalogs(world.folders).file("virtual", "products")
    likeness = _likeness(path, ontology, declared)
    own = declared.of(product.name)
    has = table != product.nodata
    told = (table[:, None] != table[None, :]) & has[None, :] & has[:, None]
    accuracy = _accuracy(path, product, table, likeness, told, declared)
    odds = np.log(accuracy / (1 - accuracy)) + own.shift
    accuracy = np.round(1 / (1 + np.exp(-odds)), 9).clip(_WORST, _BEST)
    accuracy[[leaf.startswith("water.marine") for leaf in LEAVES]] = 1 - declared.sea_errors
    accuracy[~has] = 1.0
    return Errors(world, declared, own, product.name, table, told, accuracy, likeness)


def _likeness(path: Path, ontology: Ontology, declared: Products) -> Likeness:
    for key, row in declared.taken_for.items():
        for node in (key, *row):
            if node not in ontology.by_id:
                raise CatalogError(path, f"taken_for.{key}", node, "an ontology node")
    rows = []
    for leaf in LEAVES:
        node = leaf
        while node not in declared.taken_for:
            if "." not in node:
                raise CatalogError(path, "taken_for", None, f"{node} and what it is taken for")
            node = node.rsplit(".", 1)[0]
        rows.append(declared.taken_for[node])
    nodes = sorted({node for row in rows for node in row})
    land = [not leaf.startswith("water.marine") for leaf in LEAVES]
    members = np.array([[leaf in ontology.below(node) for leaf in LEAVES] for node in nodes])
    top = np.array([leaf.split(".")[0] for leaf in LEAVES])
    return Likeness(
        weights=np.array([[row.get(node, 0.0) for node in nodes] for row in rows]),
        members=members & np.array(land),
        other_cover=top[:, None] != top[None, :],
    )


def _accuracy(
    path: Path,
    product: LabelProduct,
    table: NDArray[np.integer],
    likeness: Likeness,
    told: NDArray[np.bool_],
    declared: Products,
) -> Floats:
    """What is published of a leaf's code, else the prior of its cover.

    A legend that merges two covers does not err when it takes one for the other: the error of the
    prior counts in so far as the confusions leave the code.
    """
    published: dict[int, float] = {}
    for row in product.accuracy:
        figure = row.producers or row.users
        if row.value is not None and figure is not None:
            published.setdefault(row.value, figure / 100)
    weights = likeness.mean() * likeness.other_cover
    seen = (weights * told).sum(axis=1) / weights.sum(axis=1).clip(1e-9)
    out = np.empty(len(LEAVES))
    for i, leaf in enumerate(LEAVES):
        cover = leaf.split(".")[0]
        prior = declared.priors.values.get(cover)
        if prior is None:
            raise CatalogError(path, "priors.values", None, f"a value for {cover}")
        out[i] = published.get(int(table[i]), 1 - (1 - prior) * float(seen[i]))
    return out.clip(0.01, 0.99)


# ---- regions


def regions_of(world: World, regions: Regions, points: Floats) -> tuple[list[Region], Any]:
    """The regions of points, (3, n) in space: those that occur, and which one each point is in."""
    key = np.empty(points.shape[1], np.int64)
    _cubes(points, 1 / GRAIN, key)
    first = np.flatnonzero(np.append(True, key[1:] != key[:-1]))
    _, at_, inverse = np.unique(key[first], return_index=True, return_inverse=True)
    centres = (np.floor(points[:, first[at_]] / GRAIN) + 0.5) * GRAIN
    found = _regions(world, regions, centres)
    names = sorted(set(found))
    number = np.array([names.index(region) for region in found], np.int64)
    lengths = np.diff(np.append(first, key.size))
    return names, np.repeat(number[inverse], lengths)


@njit(cache=True)
def _cubes(points, inverse, key):  # type: ignore[no-untyped-def]
    for n in range(key.size):
        i = math.floor(points[0, n] * inverse)
        j = math.floor(points[1, n] * inverse)
        k = math.floor(points[2, n] * inverse)
        key[n] = (int(i) << 40) + (int(j) << 20) + int(k)


def _regions(world: World, regions: Regions, centres: Floats) -> list[Region]:
    right = 90_000_000_000  # nanodegrees: where the axes of x, y and z leave the sphere
    axes = np.stack(in_space(np.array([0, right, 0]), np.array([0, 0, right]))) / RADIUS
    x, y, z = axes.T @ centres
    lon = np.round(np.degrees(np.arctan2(y, x)), 6)
    lat = np.round(np.degrees(np.arctan2(z, np.hypot(x, y))), 6)
    scales = ((regions.frayed_km * 3000, 1.0), (regions.frayed_km * 500, 0.6))
    km = 180 / (math.pi * RADIUS / 1000)
    for axis in ("east", "north"):
        if regions.frayed_km == 0:
            break
        step = (
            regions.frayed_km
            * km
            * layered(list(centres), scales, seed_of(world.seed, "map", axis))
        )
        if axis == "east":
            lon = lon + step / np.round(np.cos(np.radians(lat)), 9).clip(0.05)
        else:
            lat = (lat + step).clip(-90, 90)
    belts, cells = _belts(regions.side_km)
    belt = np.floor((90 - lat) * (belts / 180)).astype(int).clip(0, belts - 1)
    along = np.floor(((lon + 180) % 360) * (cells[belt] / 360)).astype(int) % cells[belt]
    climate = _climate_groups(world)[world.strata.climate(lon, lat)]
    return [(int(b), int(c), str(g)) for b, c, g in zip(belt, along, climate, strict=True)]


@functools.lru_cache(maxsize=8)
def _belts(side_km: float) -> tuple[int, NDArray[np.int64]]:
    """How many belts of latitude, and how many cells of about equal area along each."""
    half = math.pi * RADIUS / 1000
    belts = max(1, round(half / side_km))
    middle = [90 - (belt + 0.5) * 180 / belts for belt in range(belts)]
    around = [round(2 * half / side_km * round(math.cos(math.radians(v)), 9)) for v in middle]
    return belts, np.array([max(1, cells) for cells in around])


@functools.lru_cache(maxsize=8)
def _climate_groups(world: World) -> NDArray[np.str_]:
    """Code of the climate to its group: the letter of Köppen, B and E with their second one."""
    groups = [""] * 256
    for code, name in world.strata.climates.items():
        groups[code] = name[:2] if name[0] in "BE" else name[:1]
    return np.array(groups)


@functools.lru_cache(maxsize=1024)
def _covers(world: World, regions: Regions, region: Region) -> Floats:
    """(leaf,) shares of a region's land, from some places in it."""
    belts, cells = _belts(regions.side_km)
    belt, cell, group = region
    hashes = mixed([np.arange(2048)], seed_of(world.seed, "places", region))
    u, v = (((hashes >> np.uint64(s)) & np.uint64(0xFFFFFFFF)) * 2.0**-32 for s in (0, 32))
    lon = np.round((cell + u) * (360 / cells[belt]) - 180, 7)
    lat = np.round(90 - (belt + v) * (180 / belts), 7)
    kept = np.flatnonzero(_climate_groups(world)[world.strata.climate(lon, lat)] == group)[:256]
    if not kept.size:
        return np.full(len(LEAVES), 1 / len(LEAVES))
    count = np.bincount(world.truth(lon[kept], lat[kept]), minlength=len(LEAVES))
    return np.asarray(count / kept.size, np.float64)


# ---- what is drawn for a region


def limits(errors: Errors, regions: Sequence[Region]) -> Limits:
    """What a product does in some regions."""
    drawn = [_limits(errors, region) for region in regions]
    return Limits(
        np.stack([errs for errs, _ in drawn], axis=1),
        np.stack([chances for _, chances in drawn], axis=1),
    )


@functools.lru_cache(maxsize=256)
def _limits(errors: Errors, region: Region) -> tuple[Floats, Floats]:
    """Limits (3, leaf) and chances (3, leaf, leaf)."""
    declared, own = errors.declared, errors.own
    together = common_confusions(errors, region)
    alone = own_confusions(errors, region)
    rate = 1 - accuracies(errors, region)
    rates = rates_of_fields(
        rate, (together * errors.told).sum(axis=1), declared.common_share, own.persistence
    )
    common, mine = ranks(declared.common, 0.0), ranks(own.blotches, own.speckle)
    errs = np.stack(
        [above(ranked, share) for ranked, share in zip((common, mine, mine), rates, strict=True)]
    )
    return errs, np.stack([together, alone, alone])


def accuracies(errors: Errors, region: Region) -> Floats:
    """(leaf,) drawn; leaves of one code share the draw."""
    from scipy.special import betaincinv

    seed = (errors.world.seed, "accuracy", errors.name, region)
    chance = np.array([unit(*seed, int(code)) for code in errors.table])
    k = errors.declared.regions.accuracy
    drawn = betaincinv(errors.accuracy * k, (1 - errors.accuracy) * k, chance)
    sure = errors.accuracy >= _BEST
    return np.where(sure, errors.accuracy, np.round(drawn, 9))


def common_confusions(errors: Errors, region: Region) -> Floats:
    """(leaf, leaf) chances of what all products take a leaf for: something of another cover."""
    seed = seed_of(errors.world.seed, "confusion", "common", region)
    return _confusions(errors, region, errors.likeness.other_cover, seed)


def own_confusions(errors: Errors, region: Region) -> Floats:
    """(leaf, leaf) chances of what a product takes a leaf for: something of another code."""
    seed = seed_of(errors.world.seed, "confusion", errors.name, region)
    return _confusions(errors, region, errors.told, seed)


def _confusions(errors: Errors, region: Region, allowed: NDArray[np.bool_], seed: int) -> Floats:
    from scipy.special import gammaincinv

    declared = errors.declared.regions
    covers = _covers(errors.world, declared, region)
    weights = errors.likeness.spread(covers, declared.prevalence) * allowed
    empty = weights.sum(axis=1) <= 0
    anything = allowed * (covers + _RARE) * errors.likeness.members.any(axis=0)
    weights[empty] = anything[empty]
    weights = np.round(weights / weights.sum(axis=1, keepdims=True).clip(1e-12), 12)
    weights[weights < _NAMED] = 0.0
    weights /= weights.sum(axis=1, keepdims=True).clip(1e-12)
    # Dirichlet: gamma variates by their quantiles, over their sum.
    number = np.arange(len(LEAVES))
    hashes = mixed([number[:, None], number[None, :]], seed)
    chance = ((hashes >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    drawn = np.zeros(weights.shape)
    some = weights > 0
    drawn[some] = gammaincinv(declared.confusion * weights[some], chance[some])
    total = drawn.sum(axis=1)
    good = total > 1e-12
    weights[good] = drawn[good] / total[good, None]
    return np.asarray(np.round(weights, 9))


def rates_of_fields(
    rate: Floats, told: Floats, common_share: float, persistence: float
) -> tuple[Floats, Floats, Floats]:
    """How often each of the three fields must err, so that together they err at `rate`.

    Args:
        rate: Of the product's errors.
        told: Share of the common confusions that change the product's code.
        common_share: Of its errors that are common ones.
        persistence: Of the other errors, those that are not drawn anew.

    Returns:
        Shares of the ground on which the common field, its own and the one drawn anew exceed their
        limits. The three are independent: (1 - told x common)(1 - own)(1 - anew) = 1 - rate.
    """
    common = (common_share * rate / told.clip(_LEAST_TOLD)).clip(0, 1)
    seen = common * told
    rest = (rate - seen) / (1 - seen).clip(1e-9)
    own = persistence * rest
    return common, own, (rest - own) / (1 - own).clip(1e-9)
