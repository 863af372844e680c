"""`type: sine`: a scripted voice for load tests and tests; the pitch tells the text, the length follows its characters.

Options: `ms_per_char` (60), `first_chunk_ms` (0: the latency of the first chunk, which holds no thread), `chunk_ms`
(1000), `pitch_hz` (None = by voice and text), `marks` (true: a text with words of marks sounds as the last one, see
shared/marks.py), `fail` ("raise", "late" = after the first chunk, "hang"), `fail_every` (only every n-th text, 1),
`hang_s` (20), `deterministic` (true; false = the worker may not say that it gives the same frames again), `stage` (a
directory of cues, see shared.rehearsal; the points are `synthesising`, before the first chunk, and `speaking`, behind
it).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from shared.errors import ConfigError, EngineError
from shared.marks import Mark, marks_in, sound_of
from shared.rehearsal import LOOK_S, Stage
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

    sample_rate = 24_000
    languages = frozenset(("en", "zh"))

    def __init__(self, section: str, options: dict[str, Any]) -> None:
        self._ms_per_char = float(options.get("ms_per_char", 60))
        self._first_chunk_ms = float(options.get("first_chunk_ms", 0))
        self._chunk_ms = float(options.get("chunk_ms", 1000))
        self._pitch_hz: float | None = options.get("pitch_hz")
        self._fail: str | None = options.get("fail")
        self._fail_every = max(1, int(options.get("fail_every", 1)))
        self._asked = 0
        self._has_marks = bool(options.get("marks", False))
        self._hang_s = float(options.get("hang_s", 20))
        self.deterministic = bool(options.get("deterministic", True))
        self._stage = Stage(options.get("stage"))
        if self._fail not in _FAILURES:
            raise ConfigError(f"TTS.{section}.fail", self._fail, f"one of {_FAILURES}")

    def load(self) -> None:
        pass

    def synthesise(self, text: str, voice: str | None, language: str | None, seed: int) -> Speech:
        if self._first_chunk_ms:
            yield Later(self._first_chunk_ms)
        self._asked += 1
        fails = self._asked % self._fail_every == 0
        yield from self._be_held("synthesising", text)
        self._maybe_fail("raise", fails)
        pitch_hz = self._pitch_hz or pitch_hz_of(text, voice)
        marks = marks_in(text) if self._has_marks else []
        total = max(1, int(len(text) * self._ms_per_char * self.sample_rate / 1000))
        step = max(1, int(self._chunk_ms * self.sample_rate / 1000))
        for start in range(0, total, step):
            end = min(start + step, total)
            yield self._chord(marks[-1], start, end) if marks else self._tone(start, end, pitch_hz)
            self._maybe_fail("late", fails)
            yield from self._be_held("speaking", text)

    def _be_held(self, point: str, text: str) -> Iterator[Later]:
        while self._stage.holds(point, text):
            yield Later(LOOK_S * 1000)

    def _chord(self, mark: Mark, start: int, end: int) -> Pcm:
        return sound_of(mark, start, end, self.sample_rate, _LEVEL / 2)

    def _tone(self, start: int, end: int, pitch_hz: float) -> Pcm:
        phase = np.arange(start, end) * (2 * np.pi * pitch_hz / self.sample_rate)
        tone: Pcm = (_LEVEL * np.sin(phase)).astype(np.float32)
        return tone

    def _maybe_fail(self, point: str, fails: bool) -> None:
        if self._fail == "hang" and fails:
            time.sleep(self._hang_s)
        if self._fail == point and fails:
            raise EngineError("the scripted failure", code="scripted")
