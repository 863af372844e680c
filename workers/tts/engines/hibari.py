"""`type: hibari`: hibari-tts, English, 24 kHz, 130 times real time on one core; its wheel holds the voice "heart".

Options: `voice` (a name of hibari.voices; any but "heart" must have been downloaded before), `speed` (0.5 … 2.0).
The noise in a voice comes from the seed, so the same text is the same samples.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import structlog
from hibari import Hibari
from hibari.voices import VOICES, voice_path

from shared.errors import ConfigError, EngineError
from workers.tts import sentences
from workers.tts.engine import Pcm, Speech
from workers.tts.silence import shaped

log = structlog.get_logger(__name__)

_GAIN = 1.6
"""Brings its speech from -25 to -21 dBFS, the level of the other voices."""


class HibariEngine:
    """One model a voice, loaded once in a process and shared by all sections and threads."""

    deterministic = True
    sample_rate = 24_000
    languages = frozenset(("en",))

    def __init__(self, section: str, options: dict[str, Any]) -> None:
        self._section = section
        self._voice = str(options.get("voice") or "heart")
        self._speed = _speed(section, options.get("speed", 1.0))

    def load(self) -> None:
        if self._voice not in VOICES:
            raise ConfigError(f"TTS.{self._section}.voice", self._voice, "one of " + ", ".join(VOICES))
        try:
            model = _load(self._voice)
        except FileNotFoundError as error:
            expected = f"a downloaded voice (run: hibari --voice {self._voice} -o /dev/null hello)"
            raise ConfigError(f"TTS.{self._section}.voice", self._voice, expected) from error
        # An unknown word loads the second network too; the first call of each costs some 400 ms.
        model("Ready, frobnicator.", seed=0)

    def synthesise(self, text: str, voice: str | None, language: str | None, seed: int) -> Speech:
        model = self._model(voice)
        noise = np.random.default_rng(seed)
        for sentence in Hibari.split_sentences(text):
            for piece in sentences.bounded(sentence):
                yield from self._pieces(model, piece, noise)

    def _pieces(self, model: Hibari, piece: str, noise: np.random.Generator) -> Iterator[Pcm]:
        tail_ms = sentences.pause_after_ms(piece)
        try:
            for phonemes in model.phonemize(piece):
                pcm = model.from_ids(model.ids(phonemes), self._speed, noise)
                yield np.clip(shaped(pcm * np.float32(_GAIN), self.sample_rate, tail_ms=tail_ms), -1.0, 1.0)
        except (RuntimeError, ValueError, IndexError, KeyError) as error:
            raise EngineError(f"hibari failed with {type(error).__name__}", code="engine_failed") from None

    def _model(self, voice: str | None) -> Hibari:
        """The asked voice if it is on this machine, else the configured one: another voice beats silence."""
        if voice is None or voice not in VOICES:
            return _load(self._voice)
        try:
            return _load(voice)
        except FileNotFoundError:
            log.debug("tts_voice_missing", engine=self._section, voice=voice)
            return _load(self._voice)


@functools.cache
def _load(voice: str) -> Hibari:
    return Hibari(model=str(voice_path(voice, download_missing=False)), voice=voice, threads=1)


def _speed(section: str, value: object) -> float:
    if isinstance(value, int | float) and 0.5 <= value <= 2.0:
        return float(value)
    raise ConfigError(f"TTS.{section}.speed", value, "a number from 0.5 to 2.0")
