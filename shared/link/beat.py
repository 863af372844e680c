"""Who is alive: the rules by which a router judges a worker and a worker a router. Pure.

Rules
- Any message is a sign of life. A worker answers each PING with a BEAT.
- A peer is suspect after 2 unanswered PINGs and 2 s of silence, dead after 3 and 3 s. Both must hold: PINGs come faster
  to workers with live streams (so that a closed socket is noticed), and a busy loop must not be taken for a dead one.
- A stall is not a death. After a stall of our own everybody is forgiven, and judged anew from what is heard next.
- A worker that reports lag takes no new streams until two clean beats in a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from shared.ids import Role, WorkerId
from shared.link.messages import Beat

BEAT_INTERVAL_S = 0.5
BEAT_COALESCE_S = 0.02
"""Changes within this time travel in one BEAT."""

TICK_S = 0.25
"""The router's clock: PINGs, judgement, stuck lanes."""

LATE_TICK_S = 0.25
"""A tick this late means that we were the ones who stalled."""

PING_IDLE_S = 1.0
PING_LIVE_S = 0.25

SUSPECT = (2, 2.0)
"""Unanswered PINGs, and seconds of silence."""
DEAD = (3, 3.0)

ROUTER_SILENT_S = 5.0
"""A router that was heard before and is silent for so long is gone: its streams are cancelled."""

LAGGING_MS = 250.0
STALLING_MS = 500.0
STALLED_MS = 3_000.0
"""A compute thread stuck for so long fails the streams of its worker."""
CLEAN_BEATS = 2


def worker_id(role: Role, slot: int, boot: str) -> WorkerId:
    """Identity of one incarnation on a link, such as asr-03.1f2e3d4c."""
    return WorkerId(f"{role}-{slot:02d}.{boot}")


class Verdict(Enum):
    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"


@dataclass(slots=True)
class Liveness:
    """What one peer's silence means."""

    heard_s: float
    pinged_s: float | None = None
    unanswered: int = 0

    def on_heard(self, now: float) -> None:
        self.heard_s = now
        self.unanswered = 0

    def on_pinged(self, now: float) -> None:
        self.pinged_s = now
        self.unanswered += 1

    def is_ping_due(self, now: float, interval_s: float) -> bool:
        # A timer may fire a little early; half a tick of tolerance keeps the cadence.
        return self.pinged_s is None or now - self.pinged_s >= interval_s - TICK_S / 2

    def forgive(self, now: float) -> None:
        """We stalled: what was not heard may not be held against anybody."""
        self.on_heard(now)

    def verdict(self, now: float) -> Verdict:
        silent_s = now - self.heard_s
        if self.unanswered >= DEAD[0] and silent_s >= DEAD[1]:
            return Verdict.DEAD
        if self.unanswered >= SUSPECT[0] and silent_s >= SUSPECT[1]:
            return Verdict.SUSPECT
        return Verdict.ALIVE


@dataclass(slots=True)
class Steadiness:
    """Whether a worker's loop and compute threads keep up, with hysteresis."""

    clean_beats: int = CLEAN_BEATS

    @property
    def is_lagging(self) -> bool:
        return self.clean_beats < CLEAN_BEATS

    def on_beat(self, beat: Beat) -> None:
        is_clean = beat.lag_ms <= LAGGING_MS and beat.stalled_ms <= STALLING_MS
        self.clean_beats = min(CLEAN_BEATS, self.clean_beats + 1) if is_clean else 0


@dataclass(slots=True)
class RouterWatch:
    """One router as its worker sees it: which life of it, and when it was last heard."""

    boot: str | None = None
    heard_s: float | None = None

    def on_heard(self, now: float) -> None:
        self.heard_s = now

    def on_boot(self, boot: str) -> bool:
        """True if this is another life of the router than the one that opened our streams."""
        is_new = self.boot is not None and self.boot != boot
        self.boot = boot
        return is_new

    def is_gone(self, now: float) -> bool:
        return self.heard_s is not None and now - self.heard_s >= ROUTER_SILENT_S

    def forgive(self, now: float) -> None:
        if self.heard_s is not None:
            self.heard_s = now


@dataclass(slots=True)
class BeatClock:
    """When the next BEAT is due."""

    due_s: float

    def on_change(self, now: float) -> None:
        self.due_s = min(self.due_s, now + BEAT_COALESCE_S)

    def on_urgent(self, now: float) -> None:
        self.due_s = now

    def on_sent(self, now: float) -> None:
        self.due_s = now + BEAT_INTERVAL_S

    def late_s(self, now: float) -> float:
        return max(0.0, now - self.due_s)
