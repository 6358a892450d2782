"""The slots of a site: which days each of its dates may be of, and which of them are the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from las_builder.catalogs import Catalogs, Strata
from las_builder.core.options import Dates
from las_builder.core.types import Period, Site

YEAR = 365
Days = tuple[int, int, int, int]
"""Four days of the year, 0-364, in the order in which they follow each other."""

QUARTERS: Days = (78, 171, 264, 354)
"""20 March, 21 June, 22 September, 21 December: the dates of SSL4EO-S12."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One of the dates of a site."""

    period: Period
    """No scene is of another day."""

    seasons: Days | None = None
    """Where the year is divided: its four middles."""

    which: int = 0
    """Of `seasons`."""

    def holds(self, when: datetime) -> bool:
        """Whether a scene of that moment is one of its candidates."""
        if not self.period.holds(when):
            return False
        if self.seasons is None:
            return True
        day = _day(when)
        before, here, after = (self.seasons[(self.which + i) % 4] for i in (-1, 0, 1))
        back, ahead = (here - before) % YEAR, (after - here) % YEAR
        since, until = (day - here) % YEAR, (here - day) % YEAR
        return since * 2 < ahead or until * 2 <= back

    def off(self, when: datetime) -> timedelta:
        """How far a moment is from the middle of the slot."""
        if self.seasons is None:
            return abs(when - middle(self.period))
        apart = (_day(when) - self.seasons[self.which]) % YEAR
        return timedelta(days=min(apart, YEAR - apart))


def _day(when: datetime) -> int:
    """Of the year, from 0; the 366th is the 365th."""
    return min(when.astimezone(UTC).timetuple().tm_yday, YEAR) - 1


def middle(period: Period) -> datetime:
    """Of a period, UTC."""
    first, last = (
        datetime(day.year, day.month, day.day, tzinfo=UTC) for day in (period.start, period.end)
    )
    return first + (last - first) / 2


def slots_of(dates: Dates, days: Days | None = None) -> list[Slot]:
    """The slots of a site, in the order of the year.

    Args:
        dates: Of the recipe.
        days: Of `choose: phenology`: the middles of the site's own seasons; None: it has none.
    """
    if dates.choose == "seasons":
        return [Slot(part) for part in dates.period.slots(dates.per_site)]
    if dates.choose == "clearest":
        return [Slot(dates.period)]
    four = QUARTERS if dates.choose == "four-seasons" or days is None else days
    return [Slot(dates.period, four, i) for i in range(4)]


def local_seasons(sites: Sequence[Site], catalogs: Catalogs) -> list[Days | None]:
    """Green-up, maturity, senescence and dormancy at each site; None: none that can be told.

    Raises:
        CatalogError: `phenology.yaml` is wrong.
    """
    placed = [(s.lon, s.lat) for s in sites if s.lon is not None and s.lat is not None]
    if not placed:
        return [None] * len(sites)
    strata = Strata.load(catalogs)
    lon, lat = np.array(placed, np.float64).T
    codes = iter(strata.climate(lon, lat).tolist())
    known, names = catalogs.phenology, strata.climates
    return [
        None
        if site.lon is None or site.lat is None
        else known.days(names.get(next(codes), ""), site.lat)
        for site in sites
    ]
