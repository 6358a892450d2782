"""Requests of one task side by side: what a worker waits for is the network.

Which blocks are worked on, and where, is `run.engine`; how many requests leave, `limit`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

R = TypeVar("R")

THREADS = 16
"""Reads of one process at once; above that a worker is busy with decoding (measured elsewhere:
one patch of 13 bands takes 12 ms of it)."""


@functools.lru_cache(maxsize=1)
def _pool(pid: int) -> ThreadPoolExecutor:  # noqa: ARG001  # threads do not survive a fork
    return ThreadPoolExecutor(THREADS, "las-read")


def together(jobs: Sequence[Callable[[], R]]) -> list[R]:
    """Results in order; the first error is raised when those begun are over."""
    if len(jobs) < 2:
        return [job() for job in jobs]
    running = [_pool(os.getpid()).submit(job) for job in jobs]
    try:
        return [job.result() for job in running]
    except BaseException:
        for job in running:
            job.cancel()
        wait(running)
        raise
