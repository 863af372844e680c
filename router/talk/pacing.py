"""When each frame of a reply leaves for the device.

The device holds 40 packets and silently drops the newest when full; what it holds is heard even after a barge-in. So a
reply leaves in real time with a small lead: `lead` frames at once, then one per frame duration on an absolute grid.
After an underrun the grid starts anew, with its lead. Waiting never drops a frame.

The grids of all devices lie on common 10 ms steps, so that one wake-up of the router serves many of them.

Beneath it lies the hard limit, router.talk.flow_control; somebody who speaks (`hold`) and a socket that takes nothing
(`block`) stop a pacer independently of each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from router.talk.flow_control import FlowControl, FlowControlConfig

GRID_S = 0.01
"""A divisor of every Opus frame duration, so that a grid that begins on a step stays on steps."""


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
    _started: bool = False
    _flow: FlowControl = field(init=False)

    def __post_init__(self) -> None:
        self._flow = FlowControl(self.config)

    @property
    def frame_s(self) -> float:
        return self.config.frame_ms / 1000.0

    @property
    def playhead_s(self) -> float:
        return self._playhead_s

    @property
    def slow_at(self) -> float | None:
        """When the device will count as slow; None while its socket takes what it is sent."""
        return self._flow.slow_at

    def start(self, now: float, not_before: float) -> None:
        """A new reply: nothing leaves before `not_before` (the device needs a moment after `tts start`)."""
        self.sent_frames = 0
        self.underruns = 0
        self._playhead_s = 0.0
        self._not_before_s = not_before
        self._held = False
        self._started = True

    def hold(self) -> None:
        """Send nothing until `resume`: somebody may have begun to speak."""
        self._held = True

    def resume(self) -> None:
        self._held = False

    def block(self, now: float) -> None:
        """The device's socket takes nothing: send nothing until `unblock`, whoever speaks and whatever begins."""
        self._flow.block(now)

    def unblock(self) -> None:
        self._flow.unblock()

    def may_send(self, now: float) -> bool:
        if self._held or now < self._not_before_s or not self._started:
            return False
        ahead_s = (self.lead_frames - 1) * self.config.frame_ms / 1000.0
        # 1e-6: the timer may fire a rounding error early; the grid is absolute, so nothing drifts.
        return self._playhead_s < now + ahead_s + 1e-6 and self._flow.allows(now)

    def sent(self, now: float) -> None:
        """One frame has left."""
        self._flow.sent(now)
        if self._playhead_s < now:
            self.underruns += self.sent_frames > 0
            self._playhead_s = now - now % GRID_S
        self._playhead_s += self.frame_s
        self.sent_frames += 1

    def next_due(self, now: float) -> float | None:
        """When the next frame may leave; None while held, blocked or not started."""
        if self._held or not self._started:
            return None
        token_at = self._flow.next_at(now)
        if token_at is None:
            return None
        due = max(self._playhead_s - (self.lead_frames - 1) * self.config.frame_ms / 1000.0, self._not_before_s)
        return due if token_at <= now else max(due, token_at)

    def unplayed_frames(self, now: float) -> int:
        """Frames that have left but that the device has not played yet."""
        if self._playhead_s <= now:
            return 0
        return min(self.sent_frames, math.ceil((self._playhead_s - now) / self.frame_s - 1e-6))
