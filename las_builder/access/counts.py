"""What goes over the wire, counted; imports nothing that takes time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counts:
    """What went over the wire in this process."""

    requests: Counter[str] = field(default_factory=Counter)
    """Host to requests sent, retries included."""

    received: Counter[str] = field(default_factory=Counter)
    """Host to bytes of bodies."""

    failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(host, class) to answers that were no use."""

    spent: Counter[str] = field(default_factory=Counter)
    """What a provider says that requests cost it, by its unit; see `earth_engine.eecu`."""

    def copy(self) -> Counts:
        """As they are now."""
        return Counts(
            Counter(self.requests), Counter(self.received), Counter(self.failures),
            Counter(self.spent),
        )  # fmt: skip

    def since(self, before: Counts) -> Counts:
        """What was added."""
        return Counts(
            self.requests - before.requests,
            self.received - before.received,
            self.failures - before.failures,
            self.spent - before.spent,
        )

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.requests + other.requests,
            self.received + other.received,
            self.failures + other.failures,
            self.spent + other.spent,
        )


counts = Counts()
"""Of this process."""
