"""When a session that has lost its worker may go to another one. Pure.

A worker that dies leaves hundreds of sessions at once. If all of them were opened again in the same moment, the workers
that are left would stall under them and be taken for dead in their turn. So at most `most` go in each window; the rest
follow in the next ones, in their order.
"""

from __future__ import annotations

from typing import Final

MOST: Final = 20
PER_S: Final = 0.1


class RepinBudget:
    """Hands out places, each with the time at which it is free."""

    def __init__(self, most: int = MOST, per_s: float = PER_S) -> None:
        self._most = most
        self._per_s = per_s
        self._window_s = float("-inf")
        """When the window that is being filled begins; it may lie ahead."""
        self._taken = 0

    def __repr__(self) -> str:
        return f"RepinBudget({self._taken} of {self._most} from {self._window_s:.3f})"

    def take(self, now: float) -> float:
        """When the next one may go: `now`, or later."""
        if now >= self._window_s + self._per_s:
            self._window_s, self._taken = now, 0
        elif self._taken >= self._most:
            self._window_s, self._taken = self._window_s + self._per_s, 0
        self._taken += 1
        return max(now, self._window_s)
