"""The seam between the worker and a voice: an engine computes here, or it asks a service outside.

A TtsEngine is loaded once on a compute thread and then turns texts into PCM there. It yields as soon as it has a
sentence, so that the first sound comes early and a cancel takes effect between two yields. Whoever has nothing yet
without computing (a scripted latency, a cloud service whose answer is on its way) yields `Later` and so gives its
thread back.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol, TypeGuard

import numpy as np
import numpy.typing as npt

Pcm = npt.NDArray[np.float32]
"""Mono samples, -1.0 … 1.0."""


@dataclass(frozen=True, slots=True)
class Later:
    """Nothing to hand over yet: ask again in `wait_ms`."""

    wait_ms: float


Speech = Iterator[Pcm | Later]


class TtsEngine(Protocol):
    """One configured voice engine. Every method may be called on any compute thread, also on several at once."""

    @property
    def deterministic(self) -> bool:
        """True: the same text, voice, language and seed are the same samples, in every process."""

    @property
    def sample_rate(self) -> int: ...

    @property
    def languages(self) -> frozenset[str]:
        """Primary BCP 47 tags it can speak."""

    def load(self) -> None:
        """Called once, before anything else. Raises EngineError or ConfigError."""

    def synthesise(self, text: str, voice: str | None, language: str | None, seed: int) -> Speech:
        """Speak `text` (cleaned, not empty). Closing the iterator must not block. Raises EngineError."""


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """One segment, for an engine that asks a service outside."""

    text: str
    """Cleaned, not empty, at most MAX_TEXT_BYTES."""
    voice: str | None
    language: str | None
    owner: str
    """The session, so that requests of many take turns; no part of what is sent."""


class RemoteEngine(Protocol):
    """One configured service outside. Every method belongs to the event loop; none blocks it, none starts a thread.

    It is made on another thread, before `start`, so that what it imports holds up nobody: making it touches no loop.
    """

    @property
    def deterministic(self) -> bool: ...

    @property
    def sample_rate(self) -> int: ...

    @property
    def languages(self) -> frozenset[str]:
        """Primary BCP 47 tags it can speak; empty = any."""

    @property
    def is_named(self) -> bool:
        """Must its host's name be resolved, or does it ask over HTTP? That costs the process libuv's four threads."""

    async def start(self) -> None:
        """Called once, before anything else. Must not fail because the service is away. Raises ConfigError."""

    def speak(self, request: SpeechRequest) -> AsyncGenerator[bytes, None]:
        """s16le mono at `sample_rate`, in pieces as they come (of any length, also odd).

        Raises UpstreamError within the deadlines. `aclose()` cancels at once: the service is told, or the connection
        closed, before anything else is sent on it; it returns within a moment. What the service still sends is dropped.
        Only the caller knows whether anything was heard, so there is one retry here and only before the first piece.
        """

    async def close(self) -> None:
        """Close every connection; never raises."""


AnyEngine = TtsEngine | RemoteEngine


def is_remote(engine: AnyEngine) -> TypeGuard[RemoteEngine]:
    return hasattr(engine, "speak")


def is_local(engine: AnyEngine) -> TypeGuard[TtsEngine]:
    return hasattr(engine, "synthesise")


def seed_of(text: str, voice: str | None) -> int:
    """The same number for the same text and voice, in every process."""
    return int.from_bytes(blake2b(f"{voice or ''}\0{text}".encode(), digest_size=8).digest(), "big")
