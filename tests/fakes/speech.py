"""Speech made by the project's own voice, as PCM and as the Opus packets a device would send."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import opuslib
import soxr
from hibari import Hibari

RATE_HZ = 16_000
Pcm = npt.NDArray[np.int16]


@cache
def _voice() -> Hibari:
    return Hibari()


@cache
def _spoken(text: str) -> bytes:
    sound = soxr.resample(np.asarray(_voice()(text, seed=0), np.float32), 24_000, RATE_HZ)
    return (np.clip(sound, -1, 1) * 32767).astype(np.int16).tobytes()


def say(text: str) -> Pcm:
    """`text` at 16 kHz."""
    return np.frombuffer(_spoken(text), np.int16)


def silence(ms: int) -> Pcm:
    return np.zeros(ms * RATE_HZ // 1000, np.int16)


def noise(ms: int, level: float = 0.003, seed: int = 1) -> Pcm:
    """White noise; 0.003 is a quiet room's."""
    samples = np.random.default_rng(seed).normal(0.0, level, ms * RATE_HZ // 1000)
    return (np.clip(samples, -1, 1) * 32767).astype(np.int16)


def tone(ms: int, hz: float = 300.0) -> Pcm:
    time_s = np.arange(ms * RATE_HZ // 1000) / RATE_HZ
    return (0.3 * 32767 * np.sin(2 * np.pi * hz * time_s)).astype(np.int16)


def joined(*pieces: Pcm) -> Pcm:
    return np.concatenate(pieces)


def frames(pcm: Pcm, frame_ms: int = 60) -> list[bytes]:
    """s16le pieces of one frame each, the last one padded."""
    size = frame_ms * RATE_HZ // 1000
    padded = np.concatenate((pcm, np.zeros(-len(pcm) % size, np.int16)))
    return [padded[at : at + size].tobytes() for at in range(0, len(padded), size)]


def packets(pcm: Pcm, frame_ms: int = 60) -> list[bytes]:
    """Opus as the firmware encodes it: 16 kHz mono, AUDIO, complexity 0."""
    encoder = opuslib.Encoder(RATE_HZ, 1, opuslib.APPLICATION_AUDIO)
    encoder.complexity = 0
    size = frame_ms * RATE_HZ // 1000
    return [encoder.encode(frame, size) for frame in frames(pcm, frame_ms)]
