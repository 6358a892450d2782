"""One limiter for all workers: it lives in Dask's scheduler, and workers ask it for permits."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from las_builder.access import wire
from las_builder.access.limit import Limit, Limiter
from las_builder.errors import AccessError

if TYPE_CHECKING:
    from distributed import Client


def share_limits(client: Client) -> None:
    """Make every worker of a cluster, also one that joins later, ask one limiter."""
    from distributed.diagnostics.plugin import SchedulerPlugin, WorkerPlugin

    class Keeper(SchedulerPlugin):  # type: ignore[misc]
        """Holds the limiters; a second run on the same cluster finds those of the first."""

        name = "las-limits"

        def start(self, scheduler: Any) -> None:
            """Answer `las_take`, `las_give` and `las_slowed`."""
            keep = getattr(scheduler, "las_keep", None) or Keep()
            scheduler.las_keep = keep
            scheduler.handlers.update(
                las_take=keep.take, las_give=keep.give, las_slowed=keep.slowed
            )

    class Asker(WorkerPlugin):  # type: ignore[misc]
        """Sends this worker's requests through the scheduler's gate."""

        name = "las-limits"

        def setup(self, worker: Any) -> None:
            """Called when the worker joins."""
            wire.let_through(SchedulerGate(worker))

    client.register_plugin(Keeper())
    client.register_plugin(Asker())


class Keep:
    """Limiters of hosts, asked by coroutines of one event loop."""

    def __init__(self) -> None:
        self._limiters: dict[str, Limiter] = {}
        self._free: dict[str, asyncio.Event] = {}

    async def take(self, host: str, per_second: float, in_flight: int) -> tuple[int, float]:
        """A permit, and in how many seconds it may be used; waits while too many are in flight."""
        limiter = self._limiters.setdefault(host, Limiter(Limit(per_second, in_flight)))
        free = self._free.setdefault(host, asyncio.Event())
        while isinstance(taken := limiter.take(time.monotonic()), float):
            free.clear()
            try:
                await asyncio.wait_for(free.wait(), max(taken, 0.001))
            except TimeoutError:
                continue
        permit, start = taken
        if (pause := start - time.monotonic()) > 0.5:  # a worker that dies meanwhile is noticed
            await asyncio.sleep(pause)
        return permit, max(0.0, start - time.monotonic())

    async def give(self, host: str, permit: int, throttled: bool, retry_after: float) -> None:
        """The request is over."""
        if (limiter := self._limiters.get(host)) is not None:
            limiter.give(permit, time.monotonic(), throttled=throttled, retry_after=retry_after)
            self._free[host].set()

    async def slowed(self) -> dict[str, int]:
        """Host to how often its limit was halved."""
        return {host: one.halvings for host, one in self._limiters.items()}


def slowed(client: Client) -> dict[str, int]:
    """Host to how often the limit of a cluster was halved."""
    found: dict[str, int] = client.sync(client.scheduler.las_slowed)
    return found


class SchedulerGate:
    """A gate (see `access.limit.Gate`) of a worker; threads may share it."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker

    def take(self, host: str, limit: Limit) -> int:
        """See `Gate.take`."""
        permit, pause = self._ask(
            "las_take", host=host, per_second=limit.per_second, in_flight=limit.in_flight
        )
        time.sleep(pause)
        return int(permit)

    def give(self, host: str, permit: int, *, throttled: bool, retry_after: float) -> None:
        """See `Gate.give`."""
        self._ask(
            "las_give", host=host, permit=permit, throttled=throttled, retry_after=retry_after
        )

    def _ask(self, what: str, **said: Any) -> Any:
        from distributed.utils import sync

        try:
            return sync(self._worker.loop, getattr(self._worker.scheduler, what), **said)
        except (RuntimeError, OSError) as problem:
            # A worker that is told to stop while its threads still read.
            raise AccessError("las", what, f"the run is over ({problem})", kind="ended") from None
