"""Which samples make which step: a function of the seed and the step, and of nothing else.

So a run that was killed goes on where it was without a word about its data, and any number of
processes agree on it without talking.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SUBSETS, _ORDER, STEP, SAMPLE = range(4)  # streams of random numbers of one seed


def stream(seed: int, *which: int) -> np.random.Generator:
    """Random numbers of their own for anything that has whole numbers for a name."""
    return np.random.default_rng([seed, *which])


class Schedule:
    """The subset and the samples of every step.

    A step has one subset, drawn in proportion to the `balance`th power of its samples; the
    samples of a subset come in random order, each once before any comes again.

    Args:
        counts: Samples of each subset, all above 0.
        steps: Of the run.
        each: Samples of a step, on all devices together.
        seed: Of the run.
        balance: See `TrainConfig.balance`.
    """

    def __init__(
        self, counts: Sequence[int], steps: int, each: int, seed: int, balance: float = 0.5
    ) -> None:
        self.counts, self.each, self.seed = tuple(counts), each, seed
        share = np.round(np.asarray(counts, dtype=np.float64) ** balance, 9)
        edges = np.cumsum(share) / share.sum()
        drawn = stream(seed, _SUBSETS).random(steps)
        self._subset = np.minimum(np.searchsorted(edges, drawn, side="right"), len(counts) - 1)
        self._turn = np.zeros(steps, dtype=np.int64)  # how often its subset came before
        for i in range(len(counts)):
            mine = self._subset == i
            self._turn[mine] = np.arange(int(mine.sum()))

    def subset(self, step: int) -> int:
        """The subset of a step."""
        return int(self._subset[step])

    def samples(self, step: int) -> list[int]:
        """The samples of a step within their subset's."""
        which = self.subset(step)
        first = int(self._turn[step]) * self.each
        count = self.counts[which]
        return [
            int(_order(self.seed, which, place // count, count)[place % count])
            for place in range(first, first + self.each)
        ]


@functools.lru_cache(maxsize=32)
def _order(seed: int, subset: int, epoch: int, count: int) -> NDArray[np.int64]:
    return stream(seed, _ORDER, subset, epoch).permutation(count)
