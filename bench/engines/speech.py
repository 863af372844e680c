"""Sound to recognise: sentences spoken by the embedded voices, recordings, and noise to put under them."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr
import yaml

from shared.errors import ConfigError
from workers.asr.timeline import RATE_HZ
from workers.tts.engine import Later
from workers.tts.engines.embedded import EmbeddedEngine

Pcm = npt.NDArray[np.int16]
FULL_SCALE = 32767
BEFORE = np.zeros(RATE_HZ * 3 // 10, np.int16)
AFTER = np.zeros(RATE_HZ // 2, np.int16)
"""The pause in which an endpoint is found."""


@dataclass(frozen=True, slots=True)
class Sound:
    """One utterance."""

    said: str
    language: str
    pcm: Pcm
    """16 kHz mono."""
    name: str = "spoken"

    @property
    def seconds(self) -> float:
        return len(self.pcm) / RATE_HZ


def spoken(languages: tuple[str, ...], count: int) -> Iterator[Sound]:
    """The sentences of each language, at most `count` of each (0 = all)."""
    engine = EmbeddedEngine("bench", {})
    engine.load()
    text = resources.files("bench.engines").joinpath("sentences.yaml").read_text("utf-8")
    sentences = yaml.safe_load(text)
    for language in languages:
        for said in sentences[language][: count or None]:
            yield Sound(said, language, np.concatenate((BEFORE, _say(engine, said, language), AFTER)))


def recorded(path: Path) -> Iterator[Sound]:
    """Of a YAML list of `file` (beside it), `text` and `language`. Raises ConfigError."""
    for entry in yaml.safe_load(path.read_text("utf-8")):
        file = path.parent / entry["file"]
        yield Sound(entry["text"], entry["language"], _read(file), file.stem)


def noisy(sound: Sound, db: float) -> Sound:
    """With white noise so many dB below the sound's own level; the same noise each time."""
    wave_form = sound.pcm.astype(np.float64)
    voiced = wave_form[wave_form != 0]
    level = np.sqrt(np.mean(voiced**2)) if len(voiced) else 0.0
    noise = np.random.default_rng(1).normal(0.0, level * 10 ** (-db / 20), len(wave_form))
    pcm = np.clip(wave_form + noise, -FULL_SCALE, FULL_SCALE).astype(np.int16)
    return replace(sound, pcm=pcm)


def _say(engine: EmbeddedEngine, said: str, language: str) -> Pcm:
    parts = [part for part in engine.synthesise(said, None, language, 1) if not isinstance(part, Later)]
    sound = np.concatenate(parts)
    return _to_int16(soxr.resample(_to_float(sound), engine.sample_rate, RATE_HZ))


def _to_float(sound: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    floats = sound.astype(np.float32)
    return floats / np.float32(FULL_SCALE) if sound.dtype == np.int16 else floats


def _to_int16(sound: npt.NDArray[np.float32]) -> Pcm:
    return (np.clip(sound, -1, 1) * FULL_SCALE).astype(np.int16)


def _read(path: Path) -> Pcm:
    with wave.open(str(path)) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (RATE_HZ, 1, 2):
            raise ConfigError("sounds", path.name, "16 kHz, mono, 16 bit")
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)
