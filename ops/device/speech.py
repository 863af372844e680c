"""What a simulated person says: a text spoken by the project's own voices, or a WAV file; 16 kHz mono samples."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr

from ops.device.opus import MIC_RATE, Pcm
from shared.errors import XiaozhiError
from workers.tts.engine import Later
from workers.tts.engines.embedded import EmbeddedEngine

_SPEECH_SEED = 1
_EDGE_S = 0.12
"""Quiet before and after, as from a person who presses a button."""


class SpeechError(XiaozhiError):
    """Nothing can be said."""

    code = "speech"


class Voice:
    """The project's voices: English by hibari, everything else by eSpeak NG. Loaded at the first text."""

    def __init__(self) -> None:
        self._engine: EmbeddedEngine | None = None

    def say(self, text: str, language: str | None = None) -> Pcm:
        engine = self._loaded()
        # Without an end mark a voice leaves the last word hanging.
        ended = f"{text}." if text[-1:].isascii() and text[-1:].isalnum() else text
        parts = [part for part in engine.synthesise(ended, None, language, _SPEECH_SEED) if not isinstance(part, Later)]
        if not parts:
            raise SpeechError("there is nothing to pronounce in this text")
        return _as_microphone(np.concatenate(parts), engine.sample_rate)

    def _loaded(self) -> EmbeddedEngine:
        if self._engine is None:
            self._engine = EmbeddedEngine("talk", {})
            self._engine.load()
        return self._engine


def read_wav(path: Path) -> Pcm:
    """A PCM file of any rate, 8 to 32 bits, any number of channels. SpeechError if it is none."""
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
            raw = file.readframes(file.getnframes())
    except (wave.Error, EOFError, OSError) as error:
        raise SpeechError(f"{path} cannot be read as a PCM WAV file: {error}") from error
    samples = _samples(raw[: len(raw) - len(raw) % (channels * width)], width)
    if not samples.size:
        raise SpeechError(f"{path} holds no sound")
    return _as_microphone(samples.reshape(-1, channels).mean(axis=1, dtype=np.float32), rate)


def write_wav(path: Path, pcm: Pcm, rate: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm.astype("<i2").tobytes())


def _samples(raw: bytes, width: int) -> npt.NDArray[np.float32]:
    """Between -1 and 1."""
    if width == 1:
        return (np.frombuffer(raw, np.uint8).astype(np.float32) - 128) / np.float32(128)
    if width == 3:
        padded = np.zeros((len(raw) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        raw, width = padded.tobytes(), 4
    return np.frombuffer(raw, f"<i{width}").astype(np.float32) / np.float32(1 << (8 * width - 1))


def _as_microphone(samples: npt.NDArray[np.float32], rate: int) -> Pcm:
    heard = soxr.resample(samples, rate, MIC_RATE) if rate != MIC_RATE else samples
    quiet = np.zeros(int(_EDGE_S * MIC_RATE), np.float32)
    framed = np.concatenate([quiet, heard, quiet])
    pcm: Pcm = (np.clip(framed, -1, 1) * 32767).astype(np.int16)
    return pcm
