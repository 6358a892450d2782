"""How often a host is asked, by all workers together: a limiter, and the gate that holds many.

The rules: never more than `per_second` requests a second and `in_flight` at once. Of 429s, isolated
ones are only retried; where more than 3 % of the last 200 requests were 429, both limits are
halved, at most once a second or once a Retry-After; then they grow back.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

WINDOW = 200
"""Requests over which the share of 429 is looked at."""

TOO_MANY = 0.03
"""Share of 429 among them above which everybody slows down."""

GROWTH_S = 1.0
"""Every so often a halved limit grows by a sixteenth of the declared one."""

LEASE_S = 600.0
"""A permit that was not given back for so long belonged to a worker that is no more: the slowest of
hosts, Earth Engine, is waited for half as long."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What a host allows one user."""

    per_second: float = 100.0
    in_flight: int = 16


@dataclass(slots=True)
class Limiter:
    """The limit of one host, shared by everybody; not safe for threads, see `Gate`.

    Times are seconds of any clock that only goes forward.
    """

    limit: Limit
    share: float = 1.0
    """Of the limit that is used at present; halved by 429s."""

    halvings: int = 0
    next_start: float = 0.0
    slowed: float = float("-inf")
    grown: float = 0.0
    not_before: float = float("-inf")
    """The next halving may come then."""

    running: dict[int, float] = field(default_factory=dict)
    """Permit to when it was taken."""

    last: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))
    """Of the last requests, which were 429; emptied by a halving, so that none counts twice."""

    permits: int = 0

    ended: deque[float] = field(default_factory=deque)
    """When the requests of the last second were over."""

    def take(self, now: float) -> tuple[int, float] | float:
        """A permit and the moment from which it may be used; or in how many seconds to ask again.

        A request reaches its host between its permit's start and its end, whenever a busy machine
        lets it: as those that run and those that ended within a second are never more than the
        rate, no second of the host's clock sees more.
        """
        self._grow(now)
        while self.ended and now - self.ended[0] >= 1.0:
            self.ended.popleft()
        rate = self.limit.per_second * self.share
        wait = self._wait(now, rate)
        if wait is not None:
            for permit in [p for p, since in self.running.items() if now - since > LEASE_S]:
                del self.running[permit]
            wait = self._wait(now, rate)
        if wait is not None:
            return wait
        start = max(now, self.next_start)
        self.next_start = start + 1 / rate
        self.permits += 1
        self.running[self.permits] = start
        return self.permits, start

    def _wait(self, now: float, rate: float) -> float | None:
        """Seconds after which to ask again; None: there is room for one more."""
        if rate >= 1 and len(self.running) + len(self.ended) >= int(rate):
            return 1.0 - (now - self.ended[0]) if self.ended else 1.0
        if len(self.running) >= max(1, int(self.limit.in_flight * self.share)):
            return 1.0
        return None

    def give(self, permit: int, now: float, *, throttled: bool, retry_after: float = 0.0) -> None:
        """A request is over; `throttled`: it was answered with 429."""
        if self.running.pop(permit, None) is not None:
            self.ended.append(now)
        self.last.append(throttled)
        if not throttled:
            return
        if sum(self.last) > TOO_MANY * WINDOW and now >= self.not_before:
            self.share = max(self.share / 2, 1 / 64)
            self.halvings += 1
            self.not_before = now + max(1.0, retry_after)
            self.grown = now
            self.last.clear()

    def _grow(self, now: float) -> None:
        if self.share < 1.0 and now - self.grown >= GROWTH_S:
            self.share = min(1.0, self.share + 1 / 16)
            self.grown = now


class Gate(Protocol):
    """Who lets requests through."""

    def take(self, host: str, limit: Limit) -> int:
        """Wait until a request may be sent; the permit is to be given back."""
        ...

    def give(self, host: str, permit: int, *, throttled: bool, retry_after: float) -> None:
        """The request is over."""
        ...


class LocalGate:
    """Limiters of one process, for any number of threads."""

    def __init__(self) -> None:
        self._limiters: dict[str, Limiter] = {}
        self._free = threading.Condition()

    def take(self, host: str, limit: Limit) -> int:
        """See `Gate.take`."""
        with self._free:
            limiter = self._limiters.setdefault(host, Limiter(limit))
            while isinstance(taken := limiter.take(time.monotonic()), float):
                self._free.wait(max(taken, 0.001))
        permit, start = taken
        time.sleep(max(0.0, start - time.monotonic()))
        return permit

    def slowed(self) -> dict[str, int]:
        """Host to how often its limit was halved."""
        with self._free:
            return {host: one.halvings for host, one in self._limiters.items()}

    def give(self, host: str, permit: int, *, throttled: bool, retry_after: float) -> None:
        """See `Gate.give`."""
        with self._free:
            self._limiters[host].give(
                permit, time.monotonic(), throttled=throttled, retry_after=retry_after
            )
            self._free.notify_all()  # who wakes may wait for another host
