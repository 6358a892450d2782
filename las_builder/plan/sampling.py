"""Drawing sites with known densities: a Poisson process on land, thinned to a spacing.

Parents are a Poisson process of `mu` per km2 of the target population. Each has one uniform mark
and survives if no parent nearer than the spacing has a smaller one (Matérn's second rule), so
survivors have the density  λ(x) = (1 - exp(-mu·a(x))) / a(x),  where a(x) is the area of target
population within the spacing of x. `mu` is solved so that ∫λ is the mass wanted, reserves
included. Greedy rejection would have no known density.

Source: B. Matérn (1960), Spatial Variation; D. Stoyan, W. S. Kendall, J. Mecke (1995),
Stochastic Geometry and its Applications, §5.4.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from las_builder.catalogs import Imagery, LabelProduct, Strata
from las_builder.core.grid import Grid, Lattice
from las_builder.core.options import Patch, Sites
from las_builder.core.types import Scene, Site
from las_builder.errors import InputError, RasterError, RegionError
from las_builder.plan.regions import Box, footprints, resolve
from las_builder.plan.sphere import Floats, cartesian, disc
from las_builder.plan.target import Target

RESERVES = 1.3
"""Sites drawn for each site wanted."""

CROWD = 5.0
"""Most parents, expected within the spacing of a place; more would hardly add survivors."""

_WINDOWS = 5  # windows of a catalogue kept for each site wanted, reserves included
_DISC = 256  # points that stand for the disc around a site: a(x) to some 2 % on ragged coasts
_SPREAD = 16_384  # points that stand for the target population: ∫λ to some 0.1 %


def draw(
    *,
    subset: str,
    sites: Sites,
    patch: Patch,
    imagery: Imagery,
    products: Sequence[LabelProduct],
    strata: Strata,
    where: object,
) -> list[Site]:
    """Sites uniform per km2 on the land that the imagery and every label product cover.

    The target population is region ∩ land ∩ extents ∩ where the imagery's lattice reaches.
    `block` and `split` are not decided yet (-1, "train"): see `assign`.

    Args:
        subset: Name of the recipe; it and the seed choose the random numbers.
        sites: What the recipe asks.
        patch: Size of the nominal grids.
        imagery: Gives the lattice and the first extent.
        products: Label products whose extents count; not those that are only compared.
        strata: Gives the land.
        where: The recipe's file, for messages.

    Returns:
        Primaries (the first `count` of the cell), then reserves, by rank.

    Raises:
        RegionError: Unknown region, one without land, or too small for the count at this spacing.
    """
    extents = [imagery.extent, *(product.extent for product in products)]
    region = resolve(sites.region, strata, where).within(_reach(imagery.lattice))
    for extent in extents:
        region = region.within(extent.bbox).covered(extent.countries, where)
    target = Target.of(region)
    if target.area == 0:
        names = ", ".join([imagery.name, *(p.name for p in products)])
        raise RegionError(
            where, "sites.region", sites.region, f"a region with land that {names} cover"
        )
    return _matern(
        target, subset=subset, sites=sites, patch=patch, lattice=imagery.lattice, where=where,
        cell=("uniform", "land"),
    )  # fmt: skip


def from_catalogue(
    *,
    subset: str,
    sites: Sites,
    patch: Patch,
    imagery: Imagery,
    scenes: Sequence[Scene],
    strata: Strata,
    where: object,
) -> list[Site]:
    """Sites where the scenes of a static catalogue are.

    With `lattice: source`, every scene's grid is tiled from its first corner into patches that fit
    whole (a grid at several dates once), and a seeded permutation of all N windows picks: each is
    chosen with probability count / N. With `lattice: declared`, sites are uniform on the land
    where the patch lies whole within a scene, spaced as `draw` does it.

    Raises:
        RasterError: A scene has no CRS, or none is as large as a patch; names the scene.
        RegionError: No land, or too little of it for the count at this spacing.
    """
    first = {(s.grid.crs, s.grid.transform, s.grid.shape): s for s in reversed(scenes)}
    distinct = sorted(first.values(), key=lambda s: s.grid.code())
    for scene in distinct:
        if scene.grid.crs is None:
            raise RasterError(where, f"scene {scene.id}", "no CRS", "a raster with a CRS")
    if not distinct:
        raise RegionError(where, "sites.region", sites.region, "a catalogue that holds scenes")
    if patch.lattice == "source":
        return _windows(distinct, subset, sites, patch, where)
    rings = [
        grid.outline_lonlat(16)
        for scene in distinct
        if (grid := _centres(scene.grid, imagery.lattice, patch)) is not None
    ]
    if not rings:
        raise _too_small(distinct[0], patch, where)
    region = footprints("catalogue", rings, strata).within(_reach(imagery.lattice))
    target = Target.of(region)
    if target.area == 0:
        raise RegionError(where, "sites.region", sites.region, "scenes that hold land")
    return _matern(
        target, subset=subset, sites=sites, patch=patch, lattice=imagery.lattice, where=where,
        cell=("catalogue", "all"),
    )  # fmt: skip


def _matern(
    target: Target,
    *,
    subset: str,
    sites: Sites,
    patch: Patch,
    lattice: Lattice,
    where: object,
    cell: tuple[str, str],
) -> list[Site]:
    law = _Law.solve(target, sites, where)
    rng = generator(sites.seed, subset)
    parents = int(rng.poisson(law.mu * target.frame_area))
    lon, lat = target.at(rng.random((parents, 3)))
    mark, order = rng.random(parents), rng.random(parents)
    inside = target.contains(lon, lat)
    lon, lat, mark, order = lon[inside], lat[inside], mark[inside], order[inside]
    alive = survivors(lon, lat, mark, sites.spacing_km)
    lon, lat, mark, order = lon[alive], lat[alive], mark[alive], order[alive]

    grids = [
        lattice.grid_at(x, y, patch.size, patch.gsd)
        for x, y in zip(lon.tolist(), lat.tolist(), strict=True)
    ]
    codes = [grid.code() for grid in grids]
    chosen: dict[str, int] = {}
    for i in np.argsort(mark, kind="stable").tolist():
        chosen.setdefault(codes[i], i)  # two points on one grid are one place: the smaller mark
    kept = np.array(sorted(chosen.values()), np.intp)
    kept = kept[np.argsort(order[kept], kind="stable")]
    primaries = min(sites.count, kept.size)
    density = law.density(lon[kept], lat[kept]) * (primaries / law.mass)
    return [
        _site(subset, cell, codes[i], grids[i], (float(lon[i]), float(lat[i])), float(d), rank,
              primary=rank < primaries)
        for rank, (i, d) in enumerate(zip(kept.tolist(), density, strict=True))
    ]  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class _Law:
    """The parent density that gives the mass wanted, and the survivors' density it implies."""

    target: Target
    spacing_km: float
    mu: float
    """Parents per km2."""

    mass: float
    """∫λ: survivors expected."""

    @classmethod
    def solve(cls, target: Target, sites: Sites, where: object) -> _Law:
        # Of a few sites, chance could leave too few: five sigma more, where there is room.
        wanted = max(RESERVES * sites.count, sites.count + 5 * math.sqrt(sites.count))
        area = _near(target, *target.spread(_SPREAD), sites.spacing_km)

        def mass(mu: float) -> float:
            return float(np.mean(_survive(mu, area)) * target.area)

        most = CROWD / area.max() if sites.spacing_km > 0 else math.inf
        if sites.spacing_km > 0:
            fits = mass(most)
            if fits < RESERVES * sites.count:
                raise RegionError(
                    where,
                    "sites.count",
                    sites.count,
                    f"at most {math.floor(fits / RESERVES)} sites {sites.spacing_km:g} km apart, "
                    f"and their reserves, on {target.area:,.0f} km2 of land",
                    "Lower count or spacing_km, or widen the region.",
                )
            wanted = min(wanted, fits)
        low, high = wanted / target.area, min(most, wanted / target.area * 2)
        while mass(high) < wanted:
            high = min(most, high * 2)
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if mass(middle) < wanted else (low, middle)
        mu = settled(high)
        return cls(target, sites.spacing_km, mu, settled(mass(mu)))

    def density(self, lon: Floats, lat: Floats) -> Floats:
        """λ at places of the target, survivors per km2."""
        return _survive(self.mu, _near(self.target, lon, lat, self.spacing_km))


def settled(value: float) -> float:
    """Ten significant digits: what a sum's order of addition can change is left out."""
    return float(f"{value:.9e}")


def _survive(mu: float, area: Floats) -> Floats:
    """(1 - exp(-mu·a)) / a, which is mu where a is 0."""
    some = np.maximum(area, 1e-9)
    return np.where(area > 0, -np.expm1(-mu * some) / some, mu)


def _near(target: Target, lon: Floats, lat: Floats, radius_km: float) -> Floats:
    """Area of the target population within a radius of each place, km2."""
    share = np.zeros(lon.size)
    if radius_km == 0:
        return share
    for start in range(0, lon.size, 4096):
        part = slice(start, start + 4096)
        share[part] = target.contains(*disc(lon[part], lat[part], radius_km, _DISC)).mean(axis=1)
    return share * (math.pi * radius_km**2)


def survivors(lon: Floats, lat: Floats, mark: Floats, spacing_km: float) -> NDArray[np.bool_]:
    """Which parents live: those with no parent nearer than the spacing and of smaller mark.

    A parent that is dead itself kills all the same: that is what makes the density known.
    """
    alive = np.ones(lon.size, np.bool_)
    if spacing_km == 0 or lon.size == 0:
        return alive
    from scipy.spatial import cKDTree

    tree = cKDTree(cartesian(lon, lat))
    pairs = tree.query_pairs(spacing_km, output_type="ndarray")
    first_wins = mark[pairs[:, 0]] <= mark[pairs[:, 1]]
    alive[np.where(first_wins, pairs[:, 1], pairs[:, 0])] = False
    return alive


def generator(seed: int, name: str) -> np.random.Generator:
    """Random numbers of one subset: another name, or another seed, and they share nothing."""
    digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence([seed, int.from_bytes(digest, "big")]))
    )


def _reach(lattice: Lattice) -> Box:
    """Where a lattice has grids: UTM from 80° S to 84° N, further where it turns polar."""
    return -180.0, -80.0 if lattice.polar is None else -90.0, 180.0, 84.0


def _centres(grid: Grid, lattice: Lattice, patch: Patch) -> Grid | None:
    """The part of a scene in which the centre of a patch may lie, if the patch is to fit in it.

    Half a patch and half a lattice cell are taken off each side, for a patch in another CRS those
    of a square turned by 45°. A scene in degrees or feet is measured at its middle.
    """
    side = patch.size * (patch.gsd or lattice.pixel) + (lattice.cell or lattice.pixel)
    if grid.crs != lattice.crs_at(*grid.centre_lonlat()):
        side *= math.sqrt(2)
    width, height = grid.size_m()
    columns = math.ceil(side / 2 / (width / grid.width))
    rows = math.ceil(side / 2 / (height / grid.height))
    if 2 * columns >= grid.width or 2 * rows >= grid.height:
        return None
    return _window(grid, columns, rows, grid.width - 2 * columns, grid.height - 2 * rows)


def _window(grid: Grid, column: int, row: int, width: int, height: int) -> Grid:
    t = grid.transform
    corner = (t.c + column * t.a, t.f + row * t.e)
    moved = type(t)(t.a, t.b, corner[0], t.d, t.e, corner[1])
    return Grid(grid.crs, moved, width, height)


def _windows(
    scenes: Sequence[Scene], subset: str, sites: Sites, patch: Patch, where: object
) -> list[Site]:
    size = patch.size
    tiles: dict[str, tuple[Grid, int, int]] = {}
    for scene in scenes:
        grid = scene.grid
        if min(grid.shape) < size:
            raise _too_small(scene, patch, where)
        for row in range(0, grid.height - size + 1, size):
            for column in range(0, grid.width - size + 1, size):
                window = _window(grid, column, row, size, size)
                tiles.setdefault(window.code(), (grid, column, row))
    frame = sorted(tiles)
    picked = generator(sites.seed, subset).permutation(len(frame))
    picked = picked[: _WINDOWS * sites.count]
    primaries = min(sites.count, len(frame))
    found = []
    for rank, i in enumerate(picked.tolist()):
        grid, column, row = tiles[frame[i]]
        window = _window(grid, column, row, size, size)
        density = primaries / (len(frame) * area_km2(window))
        found.append(
            _site(subset, ("catalogue", "all"), frame[i], window, window.centre_lonlat(), density,
                  rank, primary=rank < primaries)
        )  # fmt: skip
    return found


def area_km2(grid: Grid) -> float:
    """Area of the ground under a grid, on WGS 84."""
    from pyproj import Geod

    ring = grid.outline_lonlat(16)
    area, _ = Geod(ellps="WGS84").polygon_area_perimeter(ring[:, 0], ring[:, 1])
    return abs(float(area)) / 1e6


def _too_small(scene: Scene, patch: Patch, where: object) -> InputError:
    return RasterError(
        where,
        "patch.size",
        patch.size,
        f"at most what scene {scene.id} holds, {scene.grid.width} x {scene.grid.height} pixels",
        "Choose a smaller patch, or leave this raster out.",
    )


def _site(
    subset: str,
    cell: tuple[str, str],
    code: str,
    grid: Grid,
    at: tuple[float, float],
    density: float,
    rank: int,
    *,
    primary: bool,
) -> Site:
    density = settled(density)
    return Site(
        id=code,
        subset=subset,
        lon=at[0],
        lat=at[1],
        grid=grid,
        component=cell[0],
        stratum=cell[1],
        density=density,
        weight_km2=settled(1 / density),
        rank=rank,
        primary=primary,
        block=-1,
        split="train",
    )
