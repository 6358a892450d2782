from __future__ import annotations

from collections.abc import Callable

import pytest

from las_builder.catalogs import Catalogs, Imagery, Strata
from las_builder.core.options import Patch, Sites
from las_builder.core.types import Site
from las_builder.plan import draw

Draw = Callable[..., list[Site]]


@pytest.fixture(scope="session")
def catalogs() -> Catalogs:
    return Catalogs.load()


@pytest.fixture(scope="session")
def strata(catalogs: Catalogs) -> Strata:
    return Strata.load(catalogs)


@pytest.fixture(scope="session")
def sentinel(catalogs: Catalogs) -> Imagery:
    return catalogs.imagery("sentinel-2-l2a")


@pytest.fixture(scope="session")
def landsat(catalogs: Catalogs) -> Imagery:
    return catalogs.imagery("landsat-c2-l2")


@pytest.fixture(scope="session")
def drawn(strata: Strata, sentinel: Imagery) -> Draw:
    def call(count: int, region: object = "global", **more: object) -> list[Site]:
        asked = {k: v for k, v in more.items() if k in ("seed", "spacing_km")}
        rest = {k: v for k, v in more.items() if k not in asked}
        given: dict[str, object] = {
            "subset": "a", "patch": Patch(size=64), "imagery": sentinel, "products": [],
            "strata": strata, "where": "recipe.yaml", **rest,
        }  # fmt: skip
        return draw(sites=Sites(count=count, region=region, **asked), **given)

    return call
