"""What the firmware core asks its shell to do, and what it has counted."""

from __future__ import annotations

from dataclasses import dataclass, fields

from shared.listening import Mode


@dataclass(frozen=True, slots=True)
class SendStart:
    mode: Mode


@dataclass(frozen=True, slots=True)
class SendStop:
    pass


@dataclass(frozen=True, slots=True)
class SendDetect:
    text: str


@dataclass(frozen=True, slots=True)
class SendAbort:
    reason: str | None


@dataclass(frozen=True, slots=True)
class SendPacket:
    packet: bytes


@dataclass(frozen=True, slots=True)
class Capture:
    """The microphone has heard one more frame: encode and send it."""


@dataclass(frozen=True, slots=True)
class Play:
    """The speaker begins this packet."""

    packet: bytes
    at_s: float


Effect = SendStart | SendStop | SendDetect | SendAbort | SendPacket | Capture | Play


@dataclass(slots=True)
class Counters:
    """What happened since power-on. Stale and early frames are also counted as outside."""

    frames: int = 0
    """Downlink frames that arrived."""
    played_frames: int = 0
    late_frames: int = 0
    """Came more than 65 ms (60 + 5) after the frame before, within one sentence."""
    underruns: int = 0
    """The sound had run dry within a sentence when the frame came."""
    pauses: int = 0
    """The sound had run dry between two sentences."""
    overflow_frames: int = 0
    """Dropped because the decode queue was full."""
    outside_frames: int = 0
    """Dropped because the device was not in Speaking."""
    stale_frames: int = 0
    """After a `tts stop` and before the next `tts start`: audio of a dead reply."""
    early_frames: int = 0
    """After `tts start`, before the main loop had entered Speaking."""
    cleared_frames: int = 0
    """Were queued when the queue was cleared."""
    after_abort_frames: int = 0
    """Between an abort and its `tts stop`."""
    tts_starts: int = 0
    tts_stops: int = 0
    aborts: int = 0
    uplink_frames: int = 0
    uplink_dropped: int = 0
    """Microphone frames lost because too many waited to be sent."""

    def copy(self) -> Counters:
        return self.since(Counters())

    def since(self, earlier: Counters) -> Counters:
        """What has been added since `earlier` was copied."""
        return Counters(*(getattr(self, key.name) - getattr(earlier, key.name) for key in fields(self)))

    def add(self, other: Counters) -> None:
        for key in fields(self):
            setattr(self, key.name, getattr(self, key.name) + getattr(other, key.name))
