"""The virtual Earth, and one way to ask it for the pixels of a place."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from las_builder.access import SearchRequest
from las_builder.access.virtual import VirtualEarth
from las_builder.catalogs import Catalogs, Imagery
from las_builder.core.grid import Grid
from las_builder.core.types import Period, Scene


class Place(NamedTuple):
    imagery: Imagery
    grid: Grid
    scenes: list[Scene]
    """That contain the grid."""


@pytest.fixture(scope="session")
def catalogs() -> Catalogs:
    return Catalogs.load()


@pytest.fixture(scope="session")
def earth(catalogs: Catalogs) -> VirtualEarth:
    return VirtualEarth(catalogs)


Visit = Callable[..., Place]


@pytest.fixture(scope="session")
def visit(catalogs: Catalogs, earth: VirtualEarth) -> Visit:
    """An imagery source at a place: its grid, and the scenes that hold all of it."""

    def visit(
        name: str,
        lon: float,
        lat: float,
        *,
        size: int = 66,
        pixel: float | None = None,
        period: str = "2021-05-01/2021-07-01",
        max_cloud: float = 100.0,
    ) -> Place:
        imagery = catalogs.imagery(name)
        grid = imagery.lattice.grid_at(lon, lat, size, pixel)
        request = SearchRequest(
            site="a", grid=grid, period=Period.parse(period), max_cloud=max_cloud
        )
        found = earth.search(imagery, [request])[0]
        return Place(imagery, grid, [s for s in found if s.grid.contains(grid)])

    return visit
