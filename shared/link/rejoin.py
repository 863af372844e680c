"""How soon a worker comes back to a router that has sent it away, or that it never hears. Pure.

Rules
- The first time at once: a worker that was taken for dead loses no time. Who is sent away again soon waits longer and
  longer, so that a worker that is not wanted does not knock a thousand times a second.
- A router over TCP that is not heard for a while is tried anew: after a refused key libzmq itself tries no more, and
  the router's name may mean another address by now.
"""

from __future__ import annotations

from dataclasses import dataclass

DELAYS_S = (0.0, 0.5, 1.0, 2.0, 5.0)
WELCOME_S = 10.0
"""Whoever stayed for so long was welcome."""
UNHEARD_S = 10.0


@dataclass(slots=True)
class RejoinPace:
    """The attempts towards one router."""

    joined_s: float
    attempts: int = 0

    def next_delay_s(self, now: float) -> float:
        """How long to stay away; counts as an attempt."""
        if now - self.joined_s >= WELCOME_S:
            self.attempts = 0
        delay_s = DELAYS_S[min(self.attempts, len(DELAYS_S) - 1)]
        self.attempts += 1
        self.joined_s = now + delay_s
        return delay_s
