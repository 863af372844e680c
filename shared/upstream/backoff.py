"""How long to wait before asking again: longer each time, and not the same for everybody. Pure.

`chance` is a number from 0 up to 1 that the caller draws.
"""

from __future__ import annotations

from dataclasses import dataclass

_MAX_DOUBLINGS = 30


@dataclass(frozen=True, slots=True)
class Backoff:
    """Doubles from `first_s` to `most_s`."""

    first_s: float
    most_s: float

    def ceiling_s(self, attempt: int) -> float:
        """After the first failure (`attempt` 1) `first_s`, after the second twice that, never more than `most_s`."""
        return min(self.most_s, self.first_s * 2.0 ** min(attempt - 1, _MAX_DOUBLINGS))

    def pause_s(self, attempt: int, chance: float) -> float:
        """Anything up to the ceiling, so that those who failed together do not come back together."""
        return self.ceiling_s(attempt) * chance

    def rest_s(self, attempt: int, chance: float, *, spread: float = 0.25) -> float:
        """At least the ceiling, and up to `spread` of it more: for a rest that must not be cut short."""
        return self.ceiling_s(attempt) * (1.0 + spread * chance)
