"""What the fakes hear and say: the marks of shared.marks, so that a judge knows whose sound it is. Pure."""

from __future__ import annotations

from typing import Final

import numpy as np

from shared.marks import mark_of, marks_in, sound_of

UNMARKED: Final = "hello"
MS_PER_CHAR: Final = 60
_LEVEL: Final = 0.1


def heard(pcm: bytes, rate_hz: int = 16_000, otherwise: str = UNMARKED) -> str:
    """The mark's word in s16le mono, or `otherwise`; "" for silence."""
    samples = np.frombuffer(pcm[: len(pcm) // 2 * 2], np.int16)
    if not len(samples) or not samples.any():
        return ""
    mark = mark_of(samples, rate_hz)
    return mark.word if mark else otherwise


def spoken(text: str, rate_hz: int = 24_000) -> bytes:
    """s16le mono, MS_PER_CHAR for each character: the last mark's chord, or a tone."""
    samples = max(1, len(text) * MS_PER_CHAR * rate_hz // 1000)
    marks = marks_in(text)
    if marks:
        wave = sound_of(marks[-1], 0, samples, rate_hz, _LEVEL)
    else:
        wave = 2 * _LEVEL * np.sin(np.arange(samples) * (2 * np.pi * 440 / rate_hz))
    return (np.clip(wave, -1, 1) * 32767).astype("<i2").tobytes()
