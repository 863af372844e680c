"""What an ear tells its conversation."""

from __future__ import annotations

from dataclasses import dataclass

from shared.listening import Mode


@dataclass(frozen=True, slots=True)
class Transcript:
    """An utterance was recognised; `text` is not empty. `ended_at` is when its speech was over."""

    text: str
    mode: Mode
    language: str | None
    speech_ms: int
    engine_ms: float
    ended_at: float
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class SpeechBegan:
    pass


@dataclass(frozen=True, slots=True)
class SpeechConfirmed:
    """It is speech and no cough: it lasted, or a word was recognised."""


@dataclass(frozen=True, slots=True)
class SpeechVanished:
    """What began as speech held no words."""


@dataclass(frozen=True, slots=True)
class UtteranceFailed:
    reason: str


Heard = Transcript | SpeechBegan | SpeechConfirmed | SpeechVanished | UtteranceFailed
HEARD = (Transcript, SpeechBegan, SpeechConfirmed, SpeechVanished, UtteranceFailed)
