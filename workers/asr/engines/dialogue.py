"""What a streaming service says during one utterance, whatever it calls it. Pure.

A Dialogue is one service's codec and memory for one session: it makes the messages that go out and turns each one that
comes in into what it means. It knows neither sockets nor clocks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

Message = str | bytes


@dataclass(frozen=True, slots=True)
class Started:
    """It wants the sound."""


@dataclass(frozen=True, slots=True)
class Partial:
    """What it makes of the utterance so far."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SentenceOver:
    """It found an end of speech, `at_ms` after the first sample if it says where; `text` is what was said before it."""

    at_ms: int | None = None
    text: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Over:
    """The session has ended well; nothing more comes."""

    text: str = field(repr=False)


News = Started | Partial | SentenceOver | Over


class Dialogue(Protocol):
    """One session; 16 kHz s16le mono goes in."""

    @property
    def packet_bytes(self) -> int:
        """How much sound the service wants at once."""

    def opening(self) -> Message:
        """The first message."""

    def sound(self, pcm: bytes) -> Message: ...

    def closing(self) -> Message:
        """No more sound."""

    def read(self, message: Message) -> list[News]:
        """What a message means; nothing if it is none of this session's. Raises UpstreamError."""


def joined(sentences: Iterable[str]) -> str:
    """One text; a space only between two that are written with spaces."""
    text = ""
    for sentence in sentences:
        if text and sentence and text[-1].isascii() and sentence[0].isascii() and not text[-1].isspace():
            text += " "
        text += sentence
    return text.strip()
