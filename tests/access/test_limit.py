"""The limiter against its rules, on a clock of our own."""

from __future__ import annotations

import itertools
import random
import threading
import time

import pytest

from las_builder.access import wire
from las_builder.access.limit import LEASE_S, Limit, Limiter, LocalGate
from las_builder.catalogs import Catalogs


def drive(
    limiter: Limiter, seconds: float, took: float, fails: float, seed: int = 1
) -> tuple[list[float], list[float]]:
    """Ask as often as it lets us; starts of requests, and when the share was halved."""
    chance, now = random.Random(seed), 0.0
    running: list[tuple[float, int]] = []
    starts, halved = [], []
    while now < seconds:
        taken = limiter.take(now)
        if isinstance(taken, float):
            now = min([now + max(taken, 1e-6), *(end for end, _ in running)])
        else:
            permit, start = taken
            starts.append(start)
            running.append((start + took, permit))
            now = max(now, start)
        for end, permit in sorted(running):
            if end <= now:
                before = limiter.halvings
                limiter.give(permit, now, throttled=chance.random() < fails)
                if limiter.halvings > before:
                    halved.append(now)
        running = [(end, permit) for end, permit in running if end > now]
    return starts, halved


def most_within(times: list[float], span: float) -> int:
    times, most, first = sorted(times), 0, 0
    for i, t in enumerate(times):
        while times[first] <= t - span:
            first += 1
        most = max(most, i - first + 1)
    return most


def taken_at_once(limiter: Limiter, n: int) -> list[int]:
    found = [limiter.take(0.0) for _ in range(n)]
    return [taken[0] for taken in found if isinstance(taken, tuple)]


@pytest.mark.parametrize(("rate", "many", "took"), [(50, 100, 0.01), (50, 4, 0.5), (7, 3, 0.2)])
def test_never_more_a_second_nor_in_flight_and_nearly_as_many(rate, many, took) -> None:
    starts, _ = drive(Limiter(Limit(rate, many)), 60, took, 0.0)
    assert most_within(starts, 1.0) <= rate
    assert most_within(starts, took * 0.999) <= many
    assert len(starts) / 60 > 0.9 * min(rate / (1 + took), many / took)


def test_isolated_refusals_slow_nobody_down() -> None:
    limiter = Limiter(Limit(200, 100))
    for i in range(3000):
        taken = limiter.take(i * 0.01)
        assert isinstance(taken, tuple)
        limiter.give(taken[0], i * 0.01, throttled=i % 40 == 0)  # 2.5 %: 5 of 200
    assert (limiter.halvings, limiter.share) == (0, 1.0)


def test_many_refusals_halve_once_a_second_or_a_retry_after() -> None:
    _, halved = drive(Limiter(Limit(100, 100)), 60, 0.05, 0.3)
    assert len(halved) > 3
    assert min(b - a for a, b in itertools.pairwise(halved)) >= 1.0
    limiter = Limiter(Limit(1000, 1000))
    permits = taken_at_once(limiter, 400)
    for i, permit in enumerate(permits[:200]):
        limiter.give(permit, i * 0.05, throttled=True, retry_after=30)
    assert limiter.halvings == 1, "ten seconds, and the server said thirty"


def test_it_takes_seven_of_two_hundred_and_none_counts_twice() -> None:
    limiter = Limiter(Limit(1000, 1000))
    permits = taken_at_once(limiter, 40)
    for permit in permits[:6]:
        limiter.give(permit, 1.0, throttled=True)
    assert limiter.halvings == 0
    limiter.give(permits[6], 1.0, throttled=True)
    assert limiter.halvings == 1
    for permit in permits[7:13]:
        limiter.give(permit, 9.0, throttled=True)
    assert limiter.halvings == 1, "those before the halving are spent"
    limiter.give(permits[13], 9.0, throttled=True)
    assert limiter.halvings == 2


def test_a_halved_limit_grows_back() -> None:
    limiter = Limiter(Limit(10, 10))
    limiter.share, limiter.grown = 0.5, 0.0
    shares = []
    for second in range(1, 12):
        limiter.take(float(second))
        shares.append(limiter.share)
    assert shares[0] == pytest.approx(0.5625)
    assert shares[-1] == 1.0


@pytest.mark.parametrize("limit", [Limit(10, 2), Limit(2, 10)], ids=["in flight", "a second"])
def test_permits_of_a_dead_worker_come_back(limit: Limit) -> None:
    limiter = Limiter(limit)
    assert len(taken_at_once(limiter, 3)) == 2
    assert isinstance(limiter.take(1.0), float)
    assert isinstance(limiter.take(LEASE_S + 5.0), tuple)


def test_no_lease_ends_while_a_host_is_waited_for() -> None:
    """Else more would be in flight than a slow service allows."""
    slowest = max(wire.READ_S, Catalogs.load().earth_engine.read_s)
    assert 1.5 * (wire.CONNECT_S + slowest) < LEASE_S


def test_requests_that_leave_late_and_together_are_not_too_many_for_any_second() -> None:
    """A busy machine: permits are used whenever threads wake up; the host counts arrivals."""
    chance, limiter, now = random.Random(4), Limiter(Limit(40, 40)), 0.0
    arrivals: list[float] = []
    running: list[tuple[float, int]] = []
    while now < 60:
        taken = limiter.take(now)
        if isinstance(taken, float):
            now = min([now + max(taken, 1e-6), *(end for end, _ in running)])
        else:
            arrival = taken[1] + chance.choice([0.0, 0.0, 0.3, 0.9]) * chance.random()
            arrivals.append(arrival)
            running.append((arrival + 0.02, taken[0]))
            now = max(now, taken[1])
        for end, permit in sorted(running):
            if end <= now:
                limiter.give(permit, end, throttled=False)
        running = [(end, permit) for end, permit in running if end > now]
    assert most_within(arrivals, 1.0) <= 40
    assert len(arrivals) > 60 * 40 * 0.6


def test_a_permit_that_is_given_back_wakes_whoever_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And not only one of those that wait for another host."""
    really = Limiter._wait
    monkeypatch.setattr(
        Limiter, "_wait", lambda *asked: None if really(*asked) is None else 60.0
    )  # nobody looks again on his own
    gate, limit, waited = LocalGate(), Limit(1000, 1), list[str]()
    held = {host: gate.take(host, limit) for host in ("a", "b")}

    def wait(host: str) -> None:
        gate.take(host, limit)
        waited.append(host)

    threads = [threading.Thread(target=wait, args=(host,), daemon=True) for host in held]
    for thread in threads:
        thread.start()
        time.sleep(0.1)  # the one that waits for "a" is the first in the queue
    for host, thread in zip("ba", reversed(threads), strict=True):
        gate.give(host, held[host], throttled=False, retry_after=0.0)
        thread.join(10)
    assert waited == ["b", "a"]
