"""Which samples make which step."""

from __future__ import annotations

from collections import Counter

import numpy as np

from las_builder.train.schedule import Schedule


def test_subsets_come_by_the_root_of_their_size() -> None:
    counts, steps = (100, 400, 2500), 6000
    schedule = Schedule(counts, steps, 4, seed=3)
    seen = Counter(schedule.subset(step) for step in range(steps))
    for which, root in enumerate((10, 20, 50)):
        share = root / 80
        error = (share * (1 - share) / steps) ** 0.5
        assert abs(seen[which] / steps - share) < 4 * error


def test_every_sample_once_before_any_twice() -> None:
    counts = (7, 12)
    schedule = Schedule(counts, 60, 3, seed=1)
    for which, count in enumerate(counts):
        came = [
            sample
            for step in range(60)
            if schedule.subset(step) == which
            for sample in schedule.samples(step)
        ]
        whole = len(came) // count * count
        assert whole > count
        epochs = np.reshape(came[:whole], (-1, count))
        assert (np.sort(epochs, axis=1) == np.arange(count)).all()
        assert (epochs[0] != epochs[1]).any()


def test_a_step_does_not_depend_on_how_many_follow_and_seeds_differ() -> None:
    short, long = Schedule((5, 9), 20, 2, seed=4), Schedule((5, 9), 90, 2, seed=4)
    said = [(s.subset(i), s.samples(i)) for s in (short, long) for i in range(20)]
    assert said[:20] == said[20:]
    other = Schedule((5, 9), 20, 2, seed=5)
    assert [other.samples(i) for i in range(20)] != [short.samples(i) for i in range(20)]
