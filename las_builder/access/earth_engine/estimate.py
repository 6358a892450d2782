"""What fetching pinned patches will ask of Earth Engine: a few of them are asked for and counted.

How well pixels are packed on the way and what they cost in EECU nobody can compute beforehand, but
patches of one recipe are alike: same bands, same size, same kind of maps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from las_builder.access.counts import Counts, counts
from las_builder.access.earth_engine import EarthEngine, eecu
from las_builder.access.protocol import ReadRequest, label_requests
from las_builder.catalogs import Imagery, LabelProduct
from las_builder.core.types import PinnedScene

SAMPLES = 5
"""Patches asked for, evenly spread."""

START = 5
"""Requests of a worker that starts: a token, discovery and the list of functions."""

START_BYTES = 825_000.0


@dataclass(frozen=True, slots=True)
class Need:
    """Of a whole `las fetch`."""

    pixels: float
    """Requests for pixels."""

    others: float
    """Requests for what there is and what it cost, and of workers that start."""

    bytes: float
    eecu_seconds: float | None
    """None: the service said nothing."""

    sampled: int


def need(
    engine: EarthEngine, imagery: Imagery, bands: Sequence[str], products: Sequence[LabelProduct],
    calls: Sequence[Sequence[PinnedScene]], blocks: int, workers: int,
) -> Need:  # fmt: skip
    """Estimate the requests, bytes and EECU of some patches.

    Args:
        engine: Asked for a few of them.
        imagery: With the bands below.
        bands: Read of every patch.
        products: Label products.
        calls: Patches in the groups in which they will be asked for.
        blocks: Tasks that the calls belong to.
        workers: Of the run; one is this process, which has started.

    Raises:
        SourceError: No credentials, or a refusal.
        AccessError: The service does not answer.
    """
    every = [patch for call in calls for patch in call]
    step = max(1, len(every) // SAMPLES)
    sample = every[::step][:SAMPLES]
    eecu.read_back(engine.service, least=1)
    pixels = others = size = cost = 0.0
    told = True

    def add(sent: Counts, times: float) -> None:
        nonlocal pixels, size, cost, told
        pixels += sum(sent.requests.values()) * times
        size += sum(sent.received.values()) * times
        told &= sent.spent[eecu.READ] == sent.spent[eecu.ASKED] > 0
        cost += sent.spent[eecu.SPENT] / 1000 * times

    add(_sent(engine, lambda: _images(engine, imagery, bands, sample)), len(every) / len(sample))
    for product in products:
        wanted = [label_requests(product, call) for call in calls]
        requests, total = [*label_requests(product, sample).values()], sum(map(len, wanted))
        engine.labels(product, requests[:1])  # after which the maps there are need no asking
        eecu.read_back(engine.service, least=1)
        listing = _sent(engine, lambda p=product, r=requests: engine.labelled(p, r))  # type: ignore[misc]
        sent = _sent(engine, lambda p=product, r=requests: engine.labels(p, r))  # type: ignore[misc]
        add(sent.since(listing), total / len(requests))
        asked = sum(listing.requests.values())
        others += asked * len(wanted)
        size += sum(listing.received.values()) * total / len(requests)
        if not asked:
            others += workers  # each lists the maps once
    if eecu.wanted():
        others += blocks * math.ceil(pixels / blocks / eecu.BATCH)
    if workers > 1:
        others, size = others + START * workers, size + START_BYTES * workers
    return Need(pixels, others, size, cost if told else None, len(sample))


def _sent(engine: EarthEngine, job: Callable[[], object]) -> Counts:
    """What a job sends, and what that cost; reading the cost back is not counted."""
    before = counts.copy()
    job()
    sent = counts.since(before)
    before = counts.copy()
    eecu.read_back(engine.service, least=1)
    spent = counts.since(before).spent
    return Counts(sent.requests, sent.received, sent.failures, sent.spent + spent)


def _images(
    engine: EarthEngine, imagery: Imagery, bands: Sequence[str], sample: Sequence[PinnedScene]
) -> None:
    qa = imagery.validity.band
    requests = []
    for p in sample:
        requests.append(ReadRequest(site=p.site, scene=p.scene, grid=p.grid, bands=tuple(bands)))
        if qa is not None and not p.scene.members:
            requests.append(
                ReadRequest(site=p.site, scene=p.scene, grid=p.grid, bands=(qa,), categorical=True)
            )
    engine.read(imagery, requests)
