"""What a run did, as values that add up: stored, gaps by reason, failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Tally:
    """How sites ended. Two tallies of disjoint sites add."""

    stored: int = 0
    gaps: Mapping[str, int] = field(default_factory=dict)
    """Reason to sites."""

    failed: Mapping[str, int] = field(default_factory=dict)
    """Error, in words, to sites."""

    @property
    def total(self) -> int:
        """Stored, gaps and failed together."""
        return self.stored + sum(self.gaps.values()) + sum(self.failed.values())

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.stored + other.stored,
            dict(Counter(self.gaps) + Counter(other.gaps)),
            dict(Counter(self.failed) + Counter(other.failed)),
        )

    def __str__(self) -> str:
        gaps = ", ".join(f"{n} {why}" for why, n in sorted(self.gaps.items())) or "0"
        failed = ", ".join(f"{n} {why}" for why, n in sorted(self.failed.items())) or "0"
        return f"{self.total} sites = {self.stored} stored + gaps: {gaps} + failed: {failed}"
