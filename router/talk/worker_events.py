"""Which events a worker of each role may send, and their bodies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.ids import Role
from shared.link.messages import (
    Body,
    Claimed,
    CloseAfter,
    Committed,
    Effects,
    Emotion,
    Final,
    Interrupt,
    Partial,
    Profile,
    ReplyEnd,
    Segment,
    SpeechEnd,
    SpeechHeld,
    SpeechStart,
    Substituted,
    ToDevice,
)

AsrEvent = SpeechStart | SpeechHeld | Partial | SpeechEnd | Final


def _named(*bodies: type[Body]) -> Mapping[str, type[Body]]:
    return {body.name: body for body in bodies}


EVENTS: Mapping[Role, Mapping[str, type[Body]]] = {
    Role.ASR: _named(SpeechStart, SpeechHeld, Partial, SpeechEnd, Final),
    Role.TTS: _named(Substituted),
    Role.SESSION: _named(
        Profile, Claimed, Committed, Segment, Emotion, ReplyEnd, Interrupt, CloseAfter, ToDevice, Effects
    ),
}


def decode_event(role: Role, body: dict[str, Any]) -> Body | None:
    """The event; None if this role has none of that name. Raises WorkerProtocolError for a wrong body."""
    name = body.get("name")
    kind = EVENTS[role].get(name) if isinstance(name, str) else None
    return None if kind is None else kind.from_map(body)
