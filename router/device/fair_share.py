"""When a router stops accepting because its siblings behind the same listening socket have fewer connections.

The kernel wakes the last process that began to wait first (its queue is last-in-first-out), so without this one router
takes nearly all (cloudflare: "Why does one NGINX worker take all the load?"). Each router knows how many connections
its living siblings hold, and accepts one more unless it would have more than 1.2 times its fair share.

Rules
- A handful is never unfair: below ALWAYS every router accepts.
- Whoever has the fewest always accepts, so there is always somebody who does.
- A sibling that has not told its count for STALE_S is dead or hangs, and does not count.

Pure: `now` is a monotonic clock, the same for all processes of a machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

FACTOR = 1.2
ALWAYS = 8
STALE_S = 2.0


@dataclass(frozen=True, slots=True)
class Share:
    """What one router told of itself."""

    told_at: float
    connections: int


def may_accept(own: int, siblings: Iterable[Share], now: float) -> bool:
    """Whether a router with `own` connections takes one more."""
    living = [share.connections for share in siblings if -STALE_S < now - share.told_at < STALE_S]
    if own < ALWAYS or own <= min(living, default=own):
        return True
    return own + 1 <= FACTOR * (own + 1 + sum(living)) / (len(living) + 1)
