"""All concurrency: independent jobs on Dask distributed, a bounded number in flight."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from las_builder.access.counts import Counts, counts
from las_builder.errors import InputError, LasError

if TYPE_CHECKING:
    from distributed import Client

J = TypeVar("J")
P = TypeVar("P")
R = TypeVar("R")


@dataclass(slots=True)
class Engine:
    """A cluster that starts with the first job and ends with the run.

    One worker is this process, without a cluster; more are processes of one thread each, because
    GDAL and NumPy hold the interpreter's lock for much of the work.
    """

    workers: int = 2
    scheduler: str | None = None
    """`tcp://...` of a cluster that exists; None: one of our own on this machine."""

    sent: Counts = field(default_factory=Counts)
    """What the jobs of this run sent over the wire, and received."""

    _exit: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _client: Client | None = None

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *error: object) -> None:
        self._exit.close()
        self._client = None

    def client(self) -> Client:
        """The Dask client."""
        if self._client is None:
            import dask
            from distributed import Client, LocalCluster

            # Idle workers are told nothing of use by the profiler, and its samples only grow.
            dask.config.set(
                {
                    "distributed.worker.profile.enabled": False,
                    "distributed.admin.tick.limit": "1h",
                    # Logs that only grow with tasks.
                    "distributed.admin.log-length": 100,
                    "distributed.admin.low-level-log-length": 100,
                    "distributed.worker.memory.target": False,
                    "distributed.worker.memory.spill": False,
                    "distributed.worker.memory.pause": False,
                    "distributed.worker.memory.terminate": False,
                    "distributed.scheduler.allowed-failures": 0,
                    # Dask sets MALLOC_TRIM_THRESHOLD_, which makes every array of more than
                    # 128 kB a fresh mapping: fetching was 5 times slower with it.
                    "distributed.nanny.pre-spawn-environ": {
                        "OMP_NUM_THREADS": "1",
                        "OPENBLAS_NUM_THREADS": "1",
                        # Errors come back as values. What a worker logs while the cluster closes
                        # on a busy machine is no news, and would bury the one line that is.
                        "DASK_LOGGING__DISTRIBUTED": "critical",
                    },
                }
            )
            if self.scheduler is not None:
                self._client = self._exit.enter_context(Client(self.scheduler))
            else:
                cluster = self._exit.enter_context(
                    LocalCluster(
                        n_workers=self.workers,
                        threads_per_worker=1,
                        silence_logs=logging.CRITICAL,
                        host="127.0.0.1",
                        dashboard_address="127.0.0.1:0",  # any free port: two runs do not meet
                    )
                )
                self._client = self._exit.enter_context(Client(cluster))
            from las_builder.run.gate import share_limits

            share_limits(self._client)
        return self._client

    def slowed(self) -> Counter[str]:
        """Host to how often its limit has been halved so far, because of too many 429."""
        if self.workers == 1 and self.scheduler is None:
            from las_builder.access import wire

            return Counter(wire.slowed())
        if self._client is None and self.scheduler is None:
            return Counter()  # a cluster of our own that has not begun; others remember
        from las_builder.run.gate import slowed

        return Counter(slowed(self.client()))

    def each(
        self,
        work: Callable[[P], R],
        jobs: Sequence[J],
        *,
        title: str,
        unit: str,
        prepare: Callable[[J], P],
        size: Callable[[J], int] = lambda _: 1,
    ) -> Iterator[tuple[J, R | LasError]]:
        """Run every job; yield it with its result, or with the error of ours that it raised.

        At most two jobs a worker are in flight, so that memory does not grow with jobs. An
        `InputError` ends the run at once: nothing else can come out right. Results come in no
        particular order.

        Args:
            work: A function of this package: workers import it.
            jobs: What there is to do; small.
            prepare: From a job to what the function is given; called when the job is next, so
                that what is prepared and not yet done is bounded.
            title: For the progress line.
            unit: What a job consists of, for the rate.
            size: How many units a job is.
        """  # fmt: skip
        if not jobs:
            return
        progress = Progress(title, unit, sum(map(size, jobs)))
        finished = self._alone if self.workers == 1 and self.scheduler is None else self._shared
        for job, (result, sent) in finished(work, jobs, prepare):
            self.sent += sent
            if isinstance(result, InputError):
                raise result
            progress.advance(size(job))
            yield job, result
        progress.end()

    @staticmethod
    def _alone(
        work: Callable[[P], R], jobs: Sequence[J], prepare: Callable[[J], P]
    ) -> Iterator[tuple[J, tuple[R | LasError, Counts]]]:
        for job in jobs:
            yield job, counted(work, prepare(job))

    def _shared(
        self, work: Callable[[P], R], jobs: Sequence[J], prepare: Callable[[J], P]
    ) -> Iterator[tuple[J, tuple[R | LasError, Counts]]]:
        from distributed import as_completed

        client = self.client()
        waiting = iter(jobs)
        running: dict[Any, J] = {}
        finished = as_completed()
        in_flight = 2 * max(1, len(client.scheduler_info()["workers"]))

        def start() -> None:
            job = next(waiting, None)
            if job is not None:
                future = client.submit(counted, work, prepare(job), pure=False, retries=0)
                running[future] = job
                finished.add(future)

        for _ in range(in_flight):
            start()
        for future in finished:
            job = running.pop(future)
            result, sent = future.result()
            future.release()
            if isinstance(result, InputError):
                client.cancel(list(running))
            else:
                start()
            yield job, (result, sent)


def side_by_side(jobs: Sequence[Callable[[], R]], cost: Sequence[float] = ()) -> list[R]:
    """Results of jobs that share memory, in order, in as many threads as there are cores.

    For work in kernels and NumPy, which let go of the interpreter's lock. The first error, in the
    order of jobs, is raised when all are done.

    Args:
        jobs: Independent of each other.
        cost: Of each: the dearest start first, so that none is left over for one core at the end.
    """
    if len(jobs) < 2:
        return [job() for job in jobs]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(len(jobs), os.cpu_count() or 1)) as pool:
        order = sorted(range(len(jobs)), key=lambda i: -cost[i] if cost else 0)
        running = {i: pool.submit(jobs[i]) for i in order}
    return [running[i].result() for i in range(len(jobs))]


def outcome(work: Callable[[P], R], job: P) -> R | LasError:
    """What a job gives, an error of ours included.

    Errors come back as values, without the provider's exception that caused them: that one may
    not survive the way from another process, and what it said is in the message.
    """
    try:
        return work(job)
    except LasError as error:
        error.__cause__ = error.__context__ = error.__traceback__ = None
        return error


def counted(work: Callable[[P], R], job: P) -> tuple[R | LasError, Counts]:
    """What a job gives, and what it sent over the wire; a worker does one job after the other."""
    before = counts.copy()
    return outcome(work, job), counts.since(before)


class Progress:
    """Rate and time left on stderr: a line that rewrites itself, or a line now and then."""

    def __init__(self, title: str, unit: str, total: int) -> None:
        self.title, self.unit, self.total, self.done = title, unit, total, 0
        self.started = self.told = time.monotonic()
        self.live = sys.stderr.isatty()

    def advance(self, n: int) -> None:
        """So many more are done."""
        self.done += n
        now = time.monotonic()
        if self.live or now - self.told >= 10:
            self.told = now
            self._tell(end="\r" if self.live else "\n")

    def end(self) -> None:
        """All is done."""
        self._tell(end="\n")

    def _tell(self, end: str) -> None:
        seconds = max(time.monotonic() - self.started, 1e-6)
        rate = self.done / seconds
        left = (self.total - self.done) / rate if rate else 0.0
        pace = f"{rate:.1f} {self.unit}/s" if rate >= 1 else f"{1 / rate:.1f} s/{self.unit}"
        clock = f"{int(left // 3600)}:{int(left // 60 % 60):02d}:{int(left % 60):02d}"
        ending = f"{seconds:.0f} s" if self.done >= self.total else f"{clock} left"
        line = f"{self.title}: {self.done}/{self.total} {self.unit}, {pace}, {ending}"
        sys.stderr.write(f"{line:<79}{end}")
        sys.stderr.flush()
