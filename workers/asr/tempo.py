"""How long speech detection waits for company: not at all for a few streams, a moment for many.

A batch of one window costs three times as much a window as a batch of thirty. Streams send a frame every 20 to 60 ms,
each at its own moment; a short wait lets theirs meet. Pure: the caller brings the time.
"""

from __future__ import annotations

from dataclasses import dataclass

PERIOD_S = 1.0
BUSY_PER_S = 80.0
"""Requests a second, about five streams: below it, waiting would only delay."""

PATIENCE_S = 0.02
"""Decisions come later by half of it on average, beside an end silence of 500 ms."""


@dataclass(slots=True)
class Tempo:
    """Requests a second, counted over whole periods."""

    _began_s: float = 0.0
    _count: int = 0
    _rate: float = 0.0

    def served(self, requests: int, now: float) -> None:
        self._count += requests
        passed_s = now - self._began_s
        if passed_s >= PERIOD_S:
            self._rate = self._count / passed_s
            self._began_s, self._count = now, 0

    @property
    def patience_s(self) -> float:
        return PATIENCE_S if self._rate >= BUSY_PER_S else 0.0
