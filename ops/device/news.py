"""What a device tells the one who watches it, as it happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    OPENED = "opened"
    LISTENING = "listening"
    DONE_SPEAKING = "done_speaking"
    TRANSCRIPT = "transcript"
    EMOTION = "emotion"
    REPLY_STARTED = "reply_started"
    SENTENCE = "sentence"
    FIRST_AUDIO = "first_audio"
    ABORTED = "aborted"
    REPLY_STOPPED = "reply_stopped"
    TOOL_CALLED = "tool_called"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class News:
    kind: Kind
    ms: float | None
    """After the person was done speaking; None = not yet."""
    text: str = ""


Observer = Callable[[News], None]
