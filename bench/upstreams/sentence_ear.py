"""What a fake recogniser hears of the sound that comes in: sentences with silence behind them. Pure."""

from __future__ import annotations

from typing import Final

import numpy as np

from bench.upstreams.voice import heard

BYTES_PER_MS: Final = 32
LOUD: Final = 200
"""Of 32,767: what is softer is silence."""


class SentenceEar:
    """One session's ear; 16 kHz s16le mono."""

    def __init__(self, end_silence_ms: int, partial_bytes: int = 16_000) -> None:
        self._end_silence_ms = end_silence_ms
        self._partial_bytes = partial_bytes
        self._pcm = bytearray()
        self._silence_ms = 0.0
        self._told_bytes = 0
        self.heard_ms = 0.0

    def hear(self, pcm: bytes) -> None:
        self.heard_ms += len(pcm) / BYTES_PER_MS
        if _is_loud(pcm):
            self._silence_ms = 0.0
        else:
            self._silence_ms += len(pcm) / BYTES_PER_MS
        if self._pcm or self._silence_ms == 0.0:
            self._pcm += pcm

    @property
    def has_partial(self) -> bool:
        """Is there so much more that a new partial is due? Asked once for each."""
        if len(self._pcm) - self._told_bytes < self._partial_bytes:
            return False
        self._told_bytes = len(self._pcm)
        return True

    @property
    def is_sentence_over(self) -> bool:
        return bool(self._pcm) and self._silence_ms >= self._end_silence_ms

    @property
    def text(self) -> str:
        """What it makes of the open sentence."""
        return heard(bytes(self._pcm))

    def next_sentence(self) -> str:
        """The open sentence's text; a new one is waited for."""
        text = self.text
        self._pcm.clear()
        self._silence_ms, self._told_bytes = 0.0, 0
        return text


def _is_loud(pcm: bytes) -> bool:
    samples = np.frombuffer(pcm[: len(pcm) // 2 * 2], np.int16)
    return bool(len(samples)) and int(np.abs(samples.astype(np.int32)).max()) >= LOUD
