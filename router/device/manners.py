"""How much nonsense one device may send before it is ignored for a while. Valid audio never counts."""

from __future__ import annotations

from dataclasses import dataclass, field

from router.talk.pacing import TokenBucket

BURST_MESSAGES = 40
REFILL_PER_S = 10.0


@dataclass(slots=True)
class Manners:
    """Every malformed message costs a token; with none left, messages are dropped unread until one has come back."""

    now: float
    _bucket: TokenBucket = field(init=False)

    def __post_init__(self) -> None:
        self._bucket = TokenBucket(BURST_MESSAGES, 1.0 / REFILL_PER_S, BURST_MESSAGES, self.now)

    def limited(self, now: float) -> bool:
        self._bucket.refill(now)
        return self._bucket.tokens < 1.0

    def offend(self, now: float) -> None:
        self._bucket.take(now)
