"""Drawing sites with known densities: components on a target, thinned to a spacing.

    recipe ─▶ Target ─▶ parts (strata, counts) ─▶ law (densities) ─▶ points ─▶ grids ─▶ SiteTable

Every site belongs to a cell (component, stratum). Sites of a cell are ordered by a random number of
their own: the first are primaries, the rest reserves. `density` is that of the primaries of all
components together, Σ_k λ_k(x) n_kh / ∫_h λ_k, and `weight_km2` is 1 / density.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from las_builder.catalogs import Imagery, LabelProduct, Strata
from las_builder.core.grid import Grid, Lattice
from las_builder.core.options import Patch, Sites
from las_builder.core.types import Scene, Site
from las_builder.errors import InputError, RasterError, RegionError
from las_builder.plan import cells
from las_builder.plan.allocation import Allocation, Cell
from las_builder.plan.design import density, parts
from las_builder.plan.grids import Grids, grids_at
from las_builder.plan.law import Law
from las_builder.plan.passes import allocated
from las_builder.plan.process import Points, choice_of, key_of, order_of, parents, survivors
from las_builder.plan.regions import Box, Region, footprints, resolve
from las_builder.plan.sphere import Floats
from las_builder.plan.table import SiteTable
from las_builder.plan.target import Target

_WINDOWS = 5  # windows of a catalogue kept for each site wanted, reserves included


@dataclass(frozen=True, eq=False)
class Draft:
    """A draw that is known and not yet done."""

    subset: str
    sites: Sites
    patch: Patch
    lattice: Lattice
    law: Law
    """Of as many sites as the draw is made for, `Sites.drawn`."""

    counts: tuple[NDArray[np.int64], ...]
    """Primaries wanted of each stratum of each part."""

    @classmethod
    def on(
        cls, target: Target, subset: str, sites: Sites, patch: Patch, lattice: Lattice,
        where: object, whole: tuple[str, str],
    ) -> Draft:  # fmt: skip
        """On a target; `whole` names a uniform component and its one stratum."""
        drawn = sites.model_copy(update={"count": sites.drawn})
        law = Law.solve(target, drawn, where, whole)
        asked = law.parts if sites.drawn == sites.count else parts(sites, target, where, whole)
        return cls(subset, sites, patch, lattice, law, tuple(part.counts for part in asked))

    @classmethod
    def of(
        cls,
        *,
        subset: str,
        sites: Sites,
        patch: Patch,
        imagery: Imagery,
        products: Sequence[LabelProduct],
        strata: Strata,
        where: object,
    ) -> Draft:
        """What `draw` will do; its arguments and errors are the same."""
        target = Target.of(covered(sites, imagery, products, strata, where))
        if target.area == 0:
            names = ", ".join([imagery.name, *(p.name for p in products)])
            raise RegionError(
                where, "sites.region", sites.region, f"a region with land that {names} cover"
            )
        return cls.on(target, subset, sites, patch, imagery.lattice, where, ("uniform", "land"))

    @functools.cached_property
    def wanted(self) -> Floats:
        """Primaries per km2 in each cell of the target, (cells,)."""
        return density(self.law.parts, [n.astype(np.float64) for n in self.counts])

    def reaches(self, lon: Floats, lat: Floats) -> NDArray[np.bool_]:
        """Whether places (degrees, any shape) are of the population: target where sites may be."""
        target = self.law.target
        inside = target.contains(lon, lat)
        cell = target.cell_at(lon[inside], lat[inside])
        inside[inside] = (cell >= 0) & (self.wanted[cell] > 0)
        return inside

    @functools.cached_property
    def allocation(self) -> Allocation:
        """What every cell gets."""
        law, target = self.law, self.law.target
        counts = [count.astype(np.float64) for count in self.counts]
        wanted = self.wanted
        rows = []
        for part, n, mass in zip(law.parts, counts, law.mass, strict=True):
            names = len(part.names)
            first, second, worst = np.zeros(names), np.zeros(names), np.zeros(names)
            allocated(
                part.rate(np.ones(names)), *part.passed, target.areas, wanted, law.crowd, first,
                second, worst,
            )  # fmt: skip
            for h, name in enumerate(part.names):
                if n[h] == 0:
                    continue
                rows.append(
                    Cell(
                        component=part.name,
                        stratum=name,
                        area_km2=float(part.areas[h]),
                        population=float(part.areas[h]) / target.area,
                        count=int(n[h]),
                        fits=law.fit(int(part.counts[h]), float(worst[h])),
                        expected=float(mass[h]),
                        effective=float(n[h] * first[h] ** 2 / second[h]) if second[h] else 0.0,
                    )
                )
        return Allocation(
            subset=self.subset,
            count=self.sites.count,
            target_km2=target.area,
            outside_km2=float(target.areas[wanted == 0].sum()),
            fits=law.fits,
            cells=tuple(rows),
        )

    def draw(self) -> SiteTable:
        """Draw.

        Returns:
            Sites by component, stratum and rank; primaries are the first of their cell.
        """
        law, target = self.law, self.law.target
        key = key_of(self.sites.seed, self.subset)
        if law.regions is not None:
            points = cells.sites(target, law.wanted, law.regions, law.spacing_km, key)
        else:
            points = parents(target, law.parent, key)
            points = points.of(survivors(target, points, law.spacing_km))
        if law.spacing_km * 1000 < 2 * (self.lattice.cell or self.lattice.pixel):
            points = points.of(_one_each(self._grids(points), points.mark))
        # Cell by cell, while neighbours follow each other in memory.
        yields = law.yields(points.lon, points.lat, points.cell)
        component = self._component(points, key)
        stratum = np.empty(len(points), np.int32)
        for k, part in enumerate(law.parts):
            some = component == k
            stratum[some] = part.stratum(points.cell[some])
        first = np.concatenate([[0], np.cumsum([len(part.names) for part in law.parts])])
        cell = first[component] + stratum
        small = cell.astype(np.int16) if first[-1] < 1 << 15 else cell  # is sorted by its digits
        order = np.lexsort((order_of(target, points, key), small))
        points, component, cell = points.of(order), component[order], cell[order]
        grids = self._grids(points)
        start = np.searchsorted(cell, np.arange(first[-1] + 1))
        found = np.diff(start)
        rank = np.arange(len(points)) - start[cell]
        counts = np.concatenate(self.counts)
        primary = rank < counts[cell]
        have = np.split(np.minimum(found, counts).astype(np.float64), first[1:-1])
        dense = self._asked(points, have) * yields[order]

        names = [np.array(part.names, np.object_) for part in law.parts]
        labels = np.array([part.name for part in law.parts], np.object_)
        n = len(points)
        weight = np.divide(1, dense, out=np.full(n, np.nan), where=dense > 0)
        return SiteTable(
            subset=np.full(n, self.subset, np.object_),
            id=np.array([*grids.codes(), None], np.object_)[:-1],
            lon=points.lon,
            lat=points.lat,
            grids=grids,
            component=labels[component],
            stratum=np.concatenate(names)[cell] if n else np.empty(0, np.object_),
            density=dense,
            weight_km2=weight,
            rank=rank.astype(np.int64),
            primary=primary,
            block=np.full(n, -1, np.int64),
            split=np.full(n, "train", np.object_),
            p2=np.full(n, np.nan),
        )

    def _grids(self, points: Points) -> Grids:
        """The nominal grids around points."""
        return grids_at(self.lattice, points.lon, points.lat, self.patch.size, self.patch.gsd)

    def _component(self, points: Points, key: np.uint64) -> NDArray[np.intp]:
        """Which part drew each point: by chance, in proportion to what the parts ask for there."""
        law = self.law
        if len(law.parts) == 1:
            return np.zeros(len(points), np.intp)
        asked = np.stack(
            [part.density(m, points.cell) for part, m in zip(law.parts, law.asked, strict=True)]
        )
        running = np.cumsum(asked, axis=0)
        u = choice_of(law.target, points, key) * running[-1]
        return np.asarray(np.minimum((u >= running).sum(axis=0), len(law.parts) - 1), np.intp)

    def _asked(self, points: Points, have: Sequence[Floats]) -> Floats:
        """Density of primaries at points, per km2, over their yield, where cells have so many."""
        law = self.law
        total = np.zeros(len(points))
        for part, asked, mass, n in zip(law.parts, law.asked, law.mass, have, strict=True):
            # A cell of few candidates may by chance have none; then nothing stands for it.
            some = -np.expm1(-mass)
            rate = np.divide(asked * n * some, mass, out=np.zeros(mass.size), where=mass > 0)
            total += part.density(rate, points.cell)
        return total


def covered(
    sites: Sites, imagery: Imagery, products: Sequence[LabelProduct], strata: Strata, where: object
) -> Region:
    """The region of a recipe, as far as the imagery, its lattice and every label product reach.

    Raises:
        RegionError: Unknown region.
    """
    region = resolve(sites.region, strata, where).within(_reach(imagery.lattice))
    for extent in (imagery.extent, *(product.extent for product in products)):
        region = region.within(extent.bbox).covered(extent.countries, where)
    return region


def draw(
    *,
    subset: str,
    sites: Sites,
    patch: Patch,
    imagery: Imagery,
    products: Sequence[LabelProduct],
    strata: Strata,
    where: object,
) -> SiteTable:
    """Sites of a design on the land that the imagery and every label product cover.

    The target population is region ∩ land ∩ extents ∩ where the imagery's lattice reaches, as far
    as a component of the design draws there. `block` and `split` are not decided yet (-1,
    "train"): see `assign`.

    Args:
        subset: Name of the recipe; it and the seed choose the random numbers.
        sites: What the recipe asks.
        patch: Size of the nominal grids.
        imagery: Gives the lattice and the first extent.
        products: Label products whose extents count; not those that are only compared.
        strata: Gives the land and the layers.
        where: The recipe's file, for messages.

    Returns:
        Sites by component, stratum and rank: primaries, then reserves.

    Raises:
        RegionError: Unknown region, one without land, or too small for the count at this spacing.
        InputError: A strata layer that is not there or broken; a table that names no stratum.
    """
    draft = Draft.of(
        subset=subset, sites=sites, patch=patch, imagery=imagery, products=products,
        strata=strata, where=where,
    )  # fmt: skip
    return draft.draw()


def from_catalogue(
    *,
    subset: str,
    sites: Sites,
    patch: Patch,
    imagery: Imagery,
    scenes: Sequence[Scene],
    strata: Strata,
    where: object,
) -> SiteTable:
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
    whole = ("catalogue", "all")
    return Draft.on(target, subset, sites, patch, imagery.lattice, where, whole).draw()


def _one_each(grids: Grids, mark: Floats) -> NDArray[np.bool_]:
    """Of sites on one grid, which are one place, those of the smallest mark."""
    number = {crs: i for i, crs in enumerate(dict.fromkeys(grids.crs.tolist()))}
    crs = np.array([number[name] for name in grids.crs.tolist()], np.int64)
    order = np.lexsort((mark, crs, grids.north, grids.west))
    again = np.ones(max(0, mark.size - 1), np.bool_)
    for column in (grids.west, grids.north, crs):
        again &= column[order][1:] == column[order][:-1]
    keep = np.ones(mark.size, np.bool_)
    keep[order[1:][again]] = False
    return keep


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
) -> SiteTable:
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
    picked = picked[: _WINDOWS * sites.drawn]
    primaries = min(sites.count, len(picked))
    found = []
    for rank, i in enumerate(picked.tolist()):
        grid, column, row = tiles[frame[i]]
        window = _window(grid, column, row, size, size)
        density = primaries / (len(frame) * area_km2(window))
        found.append(
            _site(subset, ("catalogue", "all"), frame[i], window, window.centre_lonlat(), density,
                  rank, primary=rank < primaries)
        )  # fmt: skip
    return SiteTable.of(found)


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
    return Site(
        id=code,
        subset=subset,
        lon=at[0],
        lat=at[1],
        grid=grid,
        component=cell[0],
        stratum=cell[1],
        density=density,
        weight_km2=1 / density,
        rank=rank,
        primary=primary,
        block=-1,
        split="train",
    )
