"""When each frame of a reply leaves for the device.

The device holds 40 packets and silently drops the newest when full; what it holds is heard even after a barge-in. So a
reply leaves in real time with a small lead: `lead` frames at once, then one per frame duration on an absolute grid.
After an underrun the grid starts anew, with its lead. Waiting never drops a frame.

The grids of all devices lie on common 10 ms steps, so that one wake-up of the router serves many of them.

`FlowControl` is the hard limit beneath it: sent − played ≤ capacity, counted in packets as the device counts, with
played computed from the schedule. With a lead of 3 to 5 it never binds; it is there for whoever changes the lead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

GRID_S = 0.01
"""A divisor of every Opus frame duration, so that a grid that begins on a step stays on steps."""


@dataclass(frozen=True, slots=True)
class FlowControlConfig:
    frame_ms: float = 60.0
    capacity_frames: int = 40
    """What the firmware's decode queue holds (main/audio/audio_service.h)."""
    max_wait_s: float = 5.0
    """A device that takes nothing for so long counts as slow."""


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
        # Half a microtoken absorbs rounding: a frame due exactly now must not wait for the next tick.
        if self.tokens < 1.0 - 5e-7:
            return False
        self.tokens -= 1.0
        return True

    def next_at(self, now: float) -> float:
        """When a token will be there."""
        self.refill(now)
        return now + max(0.0, 1.0 - self.tokens) * self.interval_s


def flow_control(config: FlowControlConfig, now: float) -> TokenBucket:
    """The hard limit as a bucket: full, it lets a whole device queue through; it refills as the device plays."""
    return TokenBucket(config.capacity_frames, config.frame_ms / 1000.0, config.capacity_frames, now)


@dataclass(slots=True)
class Pacer:
    """The schedule of one reply. Pure: the caller asks `may_send`, then tells `sent`."""

    lead_frames: int = 3
    config: FlowControlConfig = field(default_factory=FlowControlConfig)
    sent_frames: int = 0
    underruns: int = 0
    _playhead_s: float = 0.0
    """When the device will have played everything sent so far."""
    _not_before_s: float = 0.0
    _held: bool = False
    _bucket: TokenBucket | None = None

    @property
    def frame_s(self) -> float:
        return self.config.frame_ms / 1000.0

    @property
    def playhead_s(self) -> float:
        return self._playhead_s

    @property
    def held(self) -> bool:
        return self._held

    def start(self, now: float, not_before: float) -> None:
        """A new reply: nothing leaves before `not_before` (the device needs a moment after `tts start`)."""
        self.sent_frames = 0
        self.underruns = 0
        self._playhead_s = 0.0
        self._not_before_s = not_before
        self._held = False
        self._bucket = flow_control(self.config, now)

    def hold(self) -> None:
        """Send nothing until `resume`: somebody may have begun to speak."""
        self._held = True

    def resume(self) -> None:
        self._held = False

    def may_send(self, now: float) -> bool:
        if self._held or now < self._not_before_s or self._bucket is None:
            return False
        ahead = now + self.lead_frames * self.frame_s
        # 1e-6: the timer may fire a rounding error early; the grid is absolute, so nothing drifts.
        return self._playhead_s < ahead - self.frame_s + 1e-6 and self._bucket_allows(now)

    def _bucket_allows(self, now: float) -> bool:
        assert self._bucket is not None
        self._bucket.refill(now)
        return self._bucket.tokens >= 1.0 - 5e-7

    def sent(self, now: float) -> None:
        """One frame has left."""
        assert self._bucket is not None
        self._bucket.take(now)
        if self._playhead_s < now:
            self.underruns += self.sent_frames > 0
            self._playhead_s = now - now % GRID_S
        self._playhead_s += self.frame_s
        self.sent_frames += 1

    def next_due(self, now: float) -> float | None:
        """When the next frame may leave; None while held or not started."""
        if self._held or self._bucket is None:
            return None
        due = self._playhead_s - (self.lead_frames - 1) * self.frame_s
        return max(due, self._not_before_s, self._bucket.next_at(now) if not self._bucket_allows(now) else due)

    def unplayed_frames(self, now: float) -> int:
        """Frames that have left but that the device has not played yet."""
        if self._playhead_s <= now:
            return 0
        return min(self.sent_frames, math.ceil((self._playhead_s - now) / self.frame_s - 1e-6))
