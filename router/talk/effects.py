"""What the pure cores of a device conversation ask of the world.

A core takes an event and `now` and returns a list of these; the gateway executes them in order and decides nothing.
Streams are named by the core: a `StreamKey` is a role and a number that counts up, so that an answer to a stream that
was given up is recognised by its key alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from shared.ids import Role, WorkerId
from shared.link.messages import Body


class StreamKey(NamedTuple):
    """One stream of one conversation; never used twice."""

    role: Role
    number: int


@dataclass(frozen=True, slots=True)
class SendText:
    """A JSON message to the device; the gateway adds the session id unless `bare`."""

    message: dict[str, Any]
    bare: bool = False


@dataclass(frozen=True, slots=True)
class SendAudio:
    """One Opus packet to the device, framed by the gateway as this device wants it."""

    packet: bytes


@dataclass(frozen=True, slots=True)
class SendPing:
    """A WebSocket ping behind everything sent so far; its pong comes back with the same token."""

    token: int


@dataclass(frozen=True, slots=True)
class OpenStream:
    key: StreamKey
    body: Body
    prefer: WorkerId | None = None
    """Worker that should take it if it can."""
    exclude: frozenset[WorkerId] = field(default_factory=frozenset)
    """Workers that must not take it."""
    engine: str | None = None
    wait_s: float = 5.0
    is_repin: bool = False
    """A session that leaves a dead or draining worker, perhaps with many others: it waits for its turn."""


@dataclass(frozen=True, slots=True)
class StreamAudio:
    key: StreamKey
    packet: bytes


@dataclass(frozen=True, slots=True)
class StreamEvent:
    key: StreamKey
    body: Body


@dataclass(frozen=True, slots=True)
class StreamCredit:
    key: StreamKey
    body: Body


@dataclass(frozen=True, slots=True)
class EndStream:
    key: StreamKey


@dataclass(frozen=True, slots=True)
class AbortStream:
    key: StreamKey
    reason: str


@dataclass(frozen=True, slots=True)
class CloseDevice:
    """Close the device's connection."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Count:
    """Add one to the counter `metric` (see router.metrics) under `label`."""

    metric: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Observe:
    """Put `value` into the histogram `metric` (see router.metrics)."""

    metric: str
    value: float


@dataclass(frozen=True, slots=True)
class LogTurn:
    """One line about a finished turn: numbers and words of ours, never what was said."""

    fields: dict[str, Any]


Effect = (
    SendText
    | SendAudio
    | SendPing
    | OpenStream
    | StreamAudio
    | StreamEvent
    | StreamCredit
    | EndStream
    | AbortStream
    | CloseDevice
    | Count
    | Observe
    | LogTurn
)
