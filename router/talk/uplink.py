"""The uplink log of one ear: ring, credit and replay in one deque of packets.

Cursors are frame numbers counted from 0 for the ear's life: trim ≤ acked ≤ sent ≤ head.
- trim: older frames are needed by nobody; they are forgotten.
- acked: the worker has processed the frames before it.
- sent: the frames before it have left for the present worker.
Replay is `rewind()`: sent goes back to trim and everything is sent again, within the window.

Limits are in ms and bytes, never in frames: clients send 20 ms frames, or 1.9 KB ones. A frame in the middle is never
dropped; what does not fit is an overload, and the utterance fails as a whole.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

PACKET_BYTES = 120
"""What a packet takes in memory besides its content."""


@dataclass(frozen=True, slots=True)
class UplinkLimits:
    backlog_ms: float = 6_000.0
    """How far the worker may lag behind, outside a replay."""
    log_ms: float = 65_000.0
    """How much is kept for a replay: the longest utterance twice."""
    log_bytes: int = 2 * 1024 * 1024
    """PACKET_BYTES for each packet included, so that a log of tiny ones is bounded too."""
    window_ms: float = 4_000.0
    """How much may be on its way to the worker at once."""


@dataclass(slots=True)
class UplinkLog:
    limits: UplinkLimits = field(default_factory=UplinkLimits)
    trim: int = 0
    acked: int = 0
    sent: int = 0
    size_bytes: int = 0
    _packets: deque[tuple[bytes, float]] = field(default_factory=deque)
    """Packet and its end on the log's own time line, in ms."""
    _end_ms: float = 0.0
    _trim_ms: float = 0.0
    _caught_up_at: int = 0
    """A replay is over when `acked` reaches this."""

    @property
    def head(self) -> int:
        return self.trim + len(self._packets)

    @property
    def kept_ms(self) -> float:
        return self._end_ms - self._trim_ms

    @property
    def backlog_ms(self) -> float:
        """Audio that the worker has not processed yet."""
        return self._end_ms - self._ends_at(self.acked)

    @property
    def replaying(self) -> bool:
        return self.acked < self._caught_up_at

    @property
    def overloaded(self) -> bool:
        """True when the utterance must fail: the worker is too slow, or the log is full."""
        full = self.kept_ms > self.limits.log_ms or self.size_bytes > self.limits.log_bytes
        return full or (not self.replaying and self.backlog_ms > self.limits.backlog_ms)

    def append(self, packet: bytes, duration_ms: float) -> None:
        """Add a frame at the head. An empty packet of 0 ms marks the end of an utterance."""
        self._end_ms += duration_ms
        self.size_bytes += len(packet) + PACKET_BYTES
        self._packets.append((packet, self._end_ms))

    def take(self) -> list[bytes]:
        """Frames that may leave now, in order; `sent` moves behind them."""
        limit_ms = self._ends_at(self.acked) + self.limits.window_ms
        first = self.sent - self.trim
        taken: list[bytes] = []
        for index in range(first, len(self._packets)):
            packet, end_ms = self._packets[index]
            if end_ms > limit_ms and taken:
                break
            if end_ms > limit_ms and self.sent > self.acked:
                break
            taken.append(packet)
        self.sent += len(taken)
        return taken

    def credit(self, acked: int, trim: int) -> None:
        """The worker's progress. Cursors never move back and never overtake what was sent."""
        self.acked = max(self.acked, min(acked, self.sent))
        self._forget(min(trim, self.acked))

    def rewind(self) -> None:
        """Everything from `trim` on will be sent again, to another worker."""
        self._caught_up_at = self.head
        self.sent = self.acked = self.trim

    def drop(self) -> None:
        """Forget all frames; the numbering goes on."""
        self.sent = self.acked = self.head
        self._forget(self.acked)
        self._caught_up_at = self.trim

    def _forget(self, until: int) -> None:
        while self.trim < until:
            packet, end_ms = self._packets.popleft()
            self.trim += 1
            self.size_bytes -= len(packet) + PACKET_BYTES
            self._trim_ms = end_ms

    def _ends_at(self, position: int) -> float:
        index = position - self.trim - 1
        return self._packets[index][1] if index >= 0 else self._trim_ms
