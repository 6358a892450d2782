"""Jobs in threads: results in the order of jobs, errors of ours as they are."""

from __future__ import annotations

import time

import pytest

from las_builder.errors import RecipeError
from las_builder.run.engine import side_by_side


def test_results_come_in_the_order_of_jobs() -> None:
    ended = []

    def job(n: int) -> int:
        time.sleep(0.1 if n == 0 else 0)
        ended.append(n)
        return n

    assert side_by_side([lambda n=n: job(n) for n in range(5)]) == [0, 1, 2, 3, 4]
    assert sorted(ended) == [0, 1, 2, 3, 4]
    assert side_by_side([]) == []


def test_the_first_error_in_the_order_of_jobs_is_raised() -> None:
    done = []

    def wrong(key: str, wait: float) -> None:
        time.sleep(wait)
        raise RecipeError("recipe.yaml", key, 1, "2")

    with pytest.raises(RecipeError, match="one"):
        side_by_side([lambda: done.append(0), lambda: wrong("one", 0.1), lambda: wrong("two", 0)])
    assert done == [0]
