"""The hard limit of what a device is sent: sent − played ≤ capacity, counted in packets as the device counts.

The firmware's decode queue holds 40 packets and silently drops the newest when full (main/audio/audio_service.h of
78/xiaozhi-esp32). Played is computed from the schedule: a device plays one packet per frame duration, so the room in
its queue is a bucket of tokens. Beneath the pacer's lead of 3 to 5 it never binds; it is there for whoever changes the
lead.

A device whose socket takes nothing is blocked. Frames wait for it, in any number, and none is dropped; when it has been
blocked for `max_wait_s` it counts as slow. A monotonic clock comes in as `now`. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class FlowControlConfig:
    frame_ms: float = 60.0
    capacity_frames: int = 40
    max_wait_s: float = 5.0
    """A device that takes nothing for so long counts as slow."""


ENOUGH = 1.0 - 5e-7
"""Half a microtoken absorbs rounding: a frame due exactly now must not wait for the next tick."""


@dataclass(slots=True)
class TokenBucket:
    """Tokens on a monotonic clock: `capacity` at most, one more every `interval_s`."""

    capacity: int
    interval_s: float
    tokens: float = 0.0
    _at_s: float = 0.0

    def refill(self, now: float) -> None:
        if now > self._at_s:
            self.tokens = min(self.capacity, self.tokens + (now - self._at_s) / self.interval_s)
            self._at_s = now

    def take(self, now: float) -> bool:
        """Use one token. False, and nothing used, if there is none."""
        self.refill(now)
        if self.tokens < ENOUGH:
            return False
        self.tokens -= 1.0
        return True

    def next_at(self, now: float) -> float:
        """When a token will be there."""
        self.refill(now)
        return now + max(0.0, 1.0 - self.tokens) * self.interval_s


@dataclass(slots=True)
class FlowControl:
    """One device's queue and socket. It outlives replies: what one has left in the queue the next one finds there."""

    config: FlowControlConfig = field(default_factory=FlowControlConfig)
    _bucket: TokenBucket = field(init=False)
    _blocked_at: float | None = None

    def __post_init__(self) -> None:
        config = self.config
        self._bucket = TokenBucket(config.capacity_frames, config.frame_ms / 1000.0, config.capacity_frames)

    @property
    def is_blocked(self) -> bool:
        return self._blocked_at is not None

    @property
    def slow_at(self) -> float | None:
        """When the device will count as slow, unless its socket takes something before."""
        return None if self._blocked_at is None else self._blocked_at + self.config.max_wait_s

    def block(self, now: float) -> None:
        """The device's socket takes no more."""
        if self._blocked_at is None:
            self._blocked_at = now

    def unblock(self) -> None:
        self._blocked_at = None

    def is_slow(self, now: float) -> bool:
        slow_at = self.slow_at
        return slow_at is not None and now >= slow_at

    def allows(self, now: float) -> bool:
        """Whether one more frame may leave."""
        bucket = self._bucket
        bucket.refill(now)
        return bucket.tokens >= ENOUGH and self._blocked_at is None

    def sent(self, now: float) -> None:
        """One frame has left."""
        self._bucket.take(now)

    def next_at(self, now: float) -> float | None:
        """When one more frame may leave; None while blocked."""
        if self._blocked_at is not None:
            return None
        bucket = self._bucket
        bucket.refill(now)
        return now if bucket.tokens >= ENOUGH else bucket.next_at(now)
