"""What requests cost in the unit of the service, read back from the profiles of its answers."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from las_builder.access.counts import counts
from las_builder.access.earth_engine import client
from las_builder.catalogs.earth_engine import EarthEngineService
from las_builder.errors import LasError, SourceError

R = TypeVar("R")
BATCH = 64
"""Profiles that are read back by one request, at most."""

SPENT, READ, ASKED = "eecu-milliseconds", "eecu-requests-read", "eecu-requests"
"""Names in `counts.spent`: what was read back, of how many requests, of how many."""

_ids: list[str] = []
_lock = threading.Lock()
_HEAD = re.compile(r"EECU.?s", re.IGNORECASE)


def wanted() -> bool:
    """Whether profiles are asked for: unless LAS_EE_PROFILE is 0."""
    return os.environ.get("LAS_EE_PROFILE", "1") != "0"


def noting(job: Callable[[], R]) -> R:
    """Run a job of the client's, and note the profile of its answer."""
    import ee

    found: list[str] = []
    if wanted():
        with ee.data.profiling(found.append):
            out = job()
    else:
        out = job()
    with _lock:
        _ids.extend(found)
        counts.spent[ASKED] += 1
    return out


def read_back(service: EarthEngineService, *, least: int = BATCH) -> None:
    """Read the profiles that were noted, if there are enough of them; a failure costs nothing.

    Args:
        service: Asked.
        least: Fewer are left for later.
    """
    while True:
        with _lock:
            if not _ids or len(_ids) < least:
                return
            batch, _ids[:] = _ids[:BATCH], _ids[BATCH:]
        try:
            text = client.ask(service, "profiles", partial(_told, batch))
            seconds = seconds_of(text)
        except LasError:  # of no account
            return
        if seconds is not None:
            with _lock:
                counts.spent[SPENT] += round(seconds * 1000)
                counts.spent[READ] += len(batch)


def _told(ids: list[str]) -> str:
    import ee

    profiles = ee.ApiFunction.lookup("Profile.getProfiles")
    if profiles is None:
        raise ee.EEException("there is no Profile.getProfiles")
    return str(ee.data.computeValue(profiles.call(ids=ids)))


def seconds_of(text: str) -> float | None:
    """The sum of the column EECU·s of a profile; None where there is no such column.

    Args:
        text: A table whose columns are parted by two spaces or more.
    """
    lines = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines() if line.strip()]
    for i, line in enumerate(lines):
        at = next((k for k, word in enumerate(line) if _HEAD.fullmatch(word)), None)
        if at is None:
            continue
        numbers = []
        for row in lines[i + 1 :]:
            try:
                numbers.append(float(row[at].replace(",", "")))
            except (ValueError, IndexError):
                continue  # a line that goes on, or a rule
        return sum(numbers)
    return None


def tier(service: EarthEngineService) -> tuple[str, float]:
    """The user's tier, from LAS_EE_TIER, and its EECU-hours a month.

    Raises:
        SourceError: There is no such tier.
    """
    name = os.environ.get("LAS_EE_TIER", next(iter(service.tiers)))
    if name not in service.tiers:
        raise SourceError(client.NAME, "LAS_EE_TIER", name, ", ".join(service.tiers))
    return name, service.tiers[name]
