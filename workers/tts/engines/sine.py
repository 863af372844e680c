"""`type: sine`: a scripted voice for load tests and tests; the pitch tells the text, the length follows its characters.

Options: `ms_per_char` (60), `first_chunk_ms` (0: the latency of the first chunk, which holds no thread), `chunk_ms`
(1000), `pitch_hz` (None = by voice and text), `fail` ("raise", "late" = after the first chunk, "hang"), `hang_s` (20).
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from shared.errors import ConfigError, EngineError
from workers.tts.engine import Later, Pcm, Speech, seed_of

_FAILURES = (None, "raise", "late", "hang")
_LEVEL = 0.2
_LOWEST_HZ = 200
_STEP_HZ = 40
_STEPS = 64


def pitch_hz_of(text: str, voice: str | None) -> int:
    """The pitch a text is spoken with: one of 64, 40 Hz apart."""
    return _LOWEST_HZ + seed_of(text, voice) % _STEPS * _STEP_HZ


class SineEngine:
    """A tone for every text."""

    deterministic = True
    sample_rate = 24_000
    languages = frozenset(("en", "zh"))

    def __init__(self, section: str, options: dict[str, Any]) -> None:
        self._ms_per_char = float(options.get("ms_per_char", 60))
        self._first_chunk_ms = float(options.get("first_chunk_ms", 0))
        self._chunk_ms = float(options.get("chunk_ms", 1000))
        self._pitch_hz: float | None = options.get("pitch_hz")
        self._fail: str | None = options.get("fail")
        self._hang_s = float(options.get("hang_s", 20))
        if self._fail not in _FAILURES:
            raise ConfigError(f"TTS.{section}.fail", self._fail, f"one of {_FAILURES}")

    def load(self) -> None:
        pass

    def synthesise(self, text: str, voice: str | None, language: str | None, seed: int) -> Speech:
        if self._first_chunk_ms:
            yield Later(self._first_chunk_ms)
        self._maybe_fail("raise")
        pitch_hz = self._pitch_hz or pitch_hz_of(text, voice)
        total = max(1, int(len(text) * self._ms_per_char * self.sample_rate / 1000))
        step = max(1, int(self._chunk_ms * self.sample_rate / 1000))
        for start in range(0, total, step):
            yield self._tone(start, min(start + step, total), pitch_hz)
            self._maybe_fail("late")

    def _tone(self, start: int, end: int, pitch_hz: float) -> Pcm:
        phase = np.arange(start, end) * (2 * np.pi * pitch_hz / self.sample_rate)
        tone: Pcm = (_LEVEL * np.sin(phase)).astype(np.float32)
        return tone

    def _maybe_fail(self, point: str) -> None:
        if self._fail == "hang":
            time.sleep(self._hang_s)
        if self._fail == point:
            raise EngineError("the scripted failure", code="scripted")
