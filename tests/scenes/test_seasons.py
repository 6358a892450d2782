"""Which days the dates of a site may be of: quarters, local seasons, the years of a product."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import yaml

from las_builder import recipe
from las_builder.access import ReadRequest, SearchRequest
from las_builder.access.virtual import VirtualEarth
from las_builder.catalogs import Catalogs, Strata
from las_builder.core.options import Dates
from las_builder.core.types import Chip, Period, Site
from las_builder.errors import RecipeError
from las_builder.scenes.seasons import QUARTERS, Days, Slot, local_seasons, slots_of

CATALOGS = Catalogs.load()
DAYS = [datetime(2020, 1, 1, 12, tzinfo=UTC) + timedelta(days=i) for i in range(3 * 365 + 1)]


def dates(**more: object) -> Dates:
    said = {"period": "2020-01-01/2023-01-01", "per_site": 4, "choose": "phenology", **more}
    return Dates.model_validate(said)


def place(lon: float, lat: float) -> Site:
    grid = CATALOGS.imagery("sentinel-2-l2a").lattice.grid_at(lon, lat, 66)
    return Site(
        id=grid.code(), subset="s", lon=lon, lat=lat, grid=grid, component="uniform",
        stratum="land", density=1.0, weight_km2=1.0, rank=0, primary=True, block=0, split="train",
    )  # fmt: skip


@pytest.mark.parametrize("days", [QUARTERS, (305, 52, 150, 227), (163, 227, 290, 44), (0, 1, 2, 3)])
def test_every_day_is_of_one_season_and_of_the_nearest(days: Days) -> None:
    slots = slots_of(dates(), days)
    for when in DAYS:
        (held,) = [slot for slot in slots if slot.holds(when)]
        nearest = min(slot.off(when) for slot in slots)
        assert held.off(when) == nearest
    outside = datetime(2019, 12, 31, tzinfo=UTC)
    assert not any(slot.holds(outside) for slot in slots)


def test_quarters_are_around_equinoxes_and_solstices() -> None:
    for choose, days in (("four-seasons", (1, 2, 3, 4)), ("phenology", None)):
        slots = slots_of(dates(choose=choose), days)
        assert [slot.seasons for slot in slots] == [QUARTERS] * 4
        for i, (month, day) in enumerate([(3, 20), (6, 21), (9, 22), (12, 21)]):
            assert slots[i].off(datetime(2021, month, day, tzinfo=UTC)) == timedelta(0)
    # The quarter of December goes on into the next year.
    assert slots[3].holds(datetime(2021, 1, 20, tzinfo=UTC))
    assert slots[3].off(datetime(2021, 1, 1, tzinfo=UTC)) == timedelta(days=11)
    assert not slots[3].holds(datetime(2021, 2, 20, tzinfo=UTC))


def test_equal_parts_and_the_whole_period_are_as_they_were() -> None:
    parts = slots_of(dates(choose="seasons", per_site=2))
    assert [slot.period for slot in parts] == Period.parse("2020-01-01/2023-01-01").slots(2)
    assert parts[0].off(datetime(2020, 10, 1, tzinfo=UTC)) == timedelta(0)
    assert slots_of(dates(choose="clearest", per_site=3)) == [
        Slot(Period.parse("2020-01-01/2023-01-01"))
    ]
    with pytest.raises(ValueError, match="per_site: 4"):
        dates(per_site=2)


PLACES = {
    # climate, green-up, about: month by month as anybody there would say it
    "Bavaria": (11.5, 48.2, "Cfb", 4),
    "Saxony's mirror in Argentina": (-60.0, -38.0, "Cfb", 10),
    "Yakutia": (129.0, 62.0, "Dfd", 6),
    "Andalusia": (-5.0, 37.3, "Csa", 11),
    "Cape": (18.9, -33.5, "Csb", 5),
    "Guinea": (-9.5, 10.5, "Aw", 6),
    "Zambia": (28.0, -14.5, "Cwa", 12),
}


@pytest.mark.parametrize("name", PLACES)
def test_local_seasons_begin_when_plants_turn_green(name: str) -> None:
    lon, lat, climate, month = PLACES[name]
    strata = Strata.load(CATALOGS)
    found = strata.climates[int(strata.climate([lon], [lat])[0])]
    assert found[0] == climate[0]
    days = CATALOGS.phenology.days(climate, lat)
    assert days is not None
    begin = date(2021, 1, 1) + timedelta(days=days[0])
    assert abs((begin.month - month + 6) % 12 - 6) <= 1
    steps = [(b - a) % 365 for a, b in zip(days, (*days[1:], days[0]), strict=True)]
    assert sum(steps) == 365
    assert min(steps) >= 30


@pytest.mark.parametrize(
    ("lon", "lat"),
    [(-62.0, -3.0), (37.0, -1.5), (10.0, 25.0), (-40.0, 72.0), (0.0, -85.0)],
    ids=["Amazonia", "Kenya", "Sahara", "Greenland", "Antarctica"],
)
def test_evergreen_dry_frozen_and_twice_green_places_fall_back_to_quarters(
    lon: float, lat: float
) -> None:
    assert local_seasons([place(lon, lat)], CATALOGS) == [None]


def test_sites_keep_their_order_and_pictures_without_a_place_have_no_season() -> None:
    import dataclasses

    bavaria, cape = place(11.5, 48.2), place(18.9, -33.5)
    nowhere = dataclasses.replace(bavaria, lon=None, lat=None)
    first, none, second = local_seasons([bavaria, nowhere, cape], CATALOGS)
    assert none is None
    assert first == local_seasons([bavaria], CATALOGS)[0]
    assert second == local_seasons([cape], CATALOGS)[0]
    assert first != second
    assert local_seasons([nowhere], CATALOGS) == [None]
    # At ±180° the same place has the same season.
    east, west = place(179.9999999, -17.5), place(-180.0, -17.5)
    assert local_seasons([east], CATALOGS) == local_seasons([west], CATALOGS)


def test_all_climates_are_named_once_and_spring_moves_towards_the_pole() -> None:
    named = [c for group in CATALOGS.phenology.groups.values() for c in group.climates]
    assert sorted(named) == sorted(Strata.load(CATALOGS).climates.values())
    south, north = (CATALOGS.phenology.days("Dfb", lat) for lat in (45.0, 50.0))
    assert south is not None
    assert north is not None
    assert north[0] - south[0] == 20
    assert south[2] - north[2] == 20


@pytest.mark.parametrize(("lon", "lat"), [(11.5, 48.2), (-60.0, -38.0)])
def test_the_virtual_earth_is_greener_at_maturity_than_in_dormancy(lon: float, lat: float) -> None:
    """Its seasons are declared elsewhere and know nothing of ours."""
    imagery, earth, site = (
        CATALOGS.imagery("sentinel-2-l2a"),
        VirtualEarth(CATALOGS),
        place(lon, lat),
    )
    (days,) = local_seasons([site], CATALOGS)
    slots = slots_of(dates(period="2021-01-01/2022-01-01"), days)
    request = SearchRequest(site="a", grid=site.grid, period=slots[0].period, max_cloud=60)
    (scenes,) = earth.search(imagery, [request])
    green = []
    for slot in (slots[1], slots[3]):
        held = [
            s for s in scenes if slot.holds(s.datetime) and s.grid.contains(site.grid, slack=0.5)
        ]
        best = min(held, key=lambda s: (s.cloud_cover or 0, s.id))
        (chip,) = earth.read(
            imagery, [ReadRequest(site="a", scene=best, grid=site.grid, bands=("B04", "B08"))]
        )
        assert isinstance(chip, Chip)
        radiometry = [imagery.radiometry(best, band, provider="virtual") for band in chip.bands]
        red, nir = (
            chip.data[i].astype(float) * scale + offset
            for i, (scale, offset) in enumerate(radiometry)
        )
        green.append(np.median((nir - red) / (nir + red)))
    assert green[0] > green[1] + 0.05


# ---- the years of a product


def write(folder: Path, labels: list[str], **more: object) -> Path:
    content = {
        "name": "made", "imagery": "sentinel-2-l2a", "labels": labels, "source": "virtual",
        "patch": {"size": 64}, "sites": {"count": 2},
        "taxonomy": "native" if len(labels) == 1 else "cover-9",
        "dates": {"period": "product"}, "splits": {"train": 1, "val": 0, "test": 0}, **more,
    }  # fmt: skip
    (folder / "made.yaml").write_text(yaml.safe_dump(content))
    return folder / "made.yaml"


@pytest.mark.parametrize(
    ("labels", "period"),
    [
        (["esa-worldcover-v200"], "2021-01-01/2022-01-01"),
        (["io-lulc-annual"], "2017-01-01/2024-01-01"),
        (["io-lulc-annual", "esa-worldcover-v100"], "2020-01-01/2021-01-01"),
        (["corine"], "2018-01-01/2019-01-01"),
    ],
)
def test_the_period_of_a_product(tmp_path: Path, labels: list[str], period: str) -> None:
    found = recipe.read(str(write(tmp_path, labels)))
    dates = found.subsets[0].recipe.dates
    assert str(dates.period) == period
    assert found.subsets[0].lock()["dates"]["period"] == period


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["dynamic-world"], "dynamic-world does not say"),
        (["esa-worldcover-v200", "cgls-lc100"], "speak of one time.*cgls-lc100 2015"),
    ],
)
def test_products_without_a_common_time_are_refused(
    tmp_path: Path, labels: list[str], words: str
) -> None:
    with pytest.raises(RecipeError, match=rf"dates\.period.*{words}"):
        recipe.read(str(write(tmp_path, labels)))
