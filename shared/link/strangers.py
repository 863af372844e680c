"""Who knocked at a router's TCP port and was not let in, told from the events of the socket's monitor. Pure.

Rules
- libzmq names no connection in its handshake events. One I/O thread writes them all, so a failed handshake's own
  disconnect is the next one.
- What breaks off without having shaken hands or failed to (bytes that are no ZMTP at all) is known by its short life:
  nobody is in a handshake for longer than HANDSHAKE_S.
- In doubt a disconnect is taken for a worker's: that costs one PING to each of them, the other mistake a late death.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto

HANDSHAKE_S = 5.0
"""libzmq ends a handshake that takes longer (ZMQ_HANDSHAKE_IVL)."""
SLACK_S = 0.5
MAX_REMEMBERED = 4_096
"""Connections; descriptors run out long before."""


class Knock(Enum):
    """What the monitor tells."""

    ACCEPTED = auto()
    SUCCEEDED = auto()
    FAILED_KEY = auto()
    FAILED_PROTOCOL = auto()
    FAILED_MECHANISM = auto()
    FAILED_SILENTLY = auto()
    DISCONNECTED = auto()


class Reason(StrEnum):
    """Why somebody was not let in. The values go into metrics."""

    KEY = "key"
    """The machine's key is not on the list."""
    MECHANISM = "mechanism"
    """No CURVE at all."""
    HANDSHAKE = "handshake"
    """A wrong router key, or a broken handshake."""
    BROKEN_OFF = "broken_off"
    """It went, or said nothing in time."""
    GARBAGE = "garbage"
    """No ZMTP."""


REASON_OF = {
    Knock.FAILED_KEY: Reason.KEY,
    Knock.FAILED_MECHANISM: Reason.MECHANISM,
    Knock.FAILED_PROTOCOL: Reason.HANDSHAKE,
    Knock.FAILED_SILENTLY: Reason.BROKEN_OFF,
}


@dataclass(slots=True)
class Doorstep:
    """The connections of one listening socket, as far as they can be told apart."""

    accepted_s: dict[int, float] = field(default_factory=dict)
    """Descriptor → when."""
    shaking: int = 0
    """Accepted, and neither in nor refused yet."""
    refused: int = 0
    """Refused, and not closed yet."""

    def on_knock(self, knock: Knock, descriptor: int, now: float) -> Reason | None:
        """Why somebody was turned away, if this event says so."""
        if knock is Knock.ACCEPTED:
            self._remember(descriptor, now)
            return None
        if knock is Knock.SUCCEEDED:
            self.shaking = max(0, self.shaking - 1)
            return None
        if knock is Knock.DISCONNECTED:
            return self._on_disconnected(descriptor, now)
        self.shaking = max(0, self.shaking - 1)
        self.refused += 1
        return REASON_OF[knock]

    @property
    def is_empty(self) -> bool:
        return not (self.accepted_s or self.shaking or self.refused)

    def is_strangers(self, knock: Knock) -> bool:
        """Whether this disconnect, not told to `on_knock` yet, is surely no worker's."""
        return knock is Knock.DISCONNECTED and self.refused > 0

    def _remember(self, descriptor: int, now: float) -> None:
        self.shaking += 1
        self.accepted_s.pop(descriptor, None)
        self.accepted_s[descriptor] = now
        if len(self.accepted_s) > MAX_REMEMBERED:
            del self.accepted_s[next(iter(self.accepted_s))]

    def _on_disconnected(self, descriptor: int, now: float) -> Reason | None:
        accepted_s = self.accepted_s.pop(descriptor, None)
        if self.refused:
            self.refused -= 1
            return None
        is_young = accepted_s is not None and now - accepted_s < HANDSHAKE_S + SLACK_S
        if is_young and self.shaking:
            self.shaking -= 1
            return Reason.GARBAGE
        return None
