"""The seam between the worker and a voice.

An engine is loaded once on a compute thread and then turns texts into PCM there. It yields as soon as it has a
sentence, so that the first sound comes early and a cancel takes effect between two yields. Whoever has nothing yet
without computing (a scripted latency, a cloud service whose answer is on its way) yields `Later` and so gives its
thread back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

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


def seed_of(text: str, voice: str | None) -> int:
    """The same number for the same text and voice, in every process."""
    return int.from_bytes(blake2b(f"{voice or ''}\0{text}".encode(), digest_size=8).digest(), "big")
