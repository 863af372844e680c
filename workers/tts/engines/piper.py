"""`type: piper`: a Piper voice (piper-tts), a local .onnx file with its .onnx.json, of some 40 languages.

Options: see shared/config/options/piper.py. A voice's noise comes from the model itself, which takes no seed, so the
same text is the same samples only if both kinds of noise are 0. piper-tts holds one eSpeak NG for all its voices, with
a lock of its own; it is another copy than the one of `type: espeak`.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from piper import PiperVoice, SynthesisConfig
from piper.config import PhonemeType, PiperConfig

from shared.config.options.piper import PiperTtsOptions
from shared.config.piper_voice import piper_files
from shared.errors import ConfigError, EngineError
from shared.settings import EngineChoice
from workers.tts import sentences
from workers.tts.engine import Pcm, Speech
from workers.tts.language import primary_tag
from workers.tts.loudness import levelled
from workers.tts.silence import shaped

_MAX_PIECE_CHARS: Final = 100
"""A piece is heard whole, so a short one is heard soon."""
_SPOKEN: Final = (PhonemeType.ESPEAK, PhonemeType.TEXT)
"""The others need libraries and models beside the voice, which piper-tts would fetch while it speaks."""


class PiperEngine:
    """One voice; its session computes in the calling thread alone."""

    slow_after_s = 10.0
    """A piece is at most some eight seconds of sound, and most machines are faster than that."""

    def __init__(self, section: str, options: dict[str, Any]) -> None:
        self._section = section
        self._options = PiperTtsOptions.of(EngineChoice(name=section, type="piper", options=options))
        self._key = f"TTS.{section}.model"
        self._model, description = piper_files(self._key, self._options.model)
        self._about, self._config = _read(self._key, description)
        self._speaker = self._configured_speaker()
        self._voice: PiperVoice | None = None

    @property
    def deterministic(self) -> bool:
        return self._noise("noise_scale") == self._noise("noise_w") == 0

    @property
    def sample_rate(self) -> int:
        return self._config.sample_rate

    @property
    def languages(self) -> frozenset[str]:
        code = self._about.get("language", {}).get("code") or self._config.espeak_voice
        tag = primary_tag(str(code).replace("_", "-"))
        return frozenset((tag,)) if tag else frozenset()

    def load(self) -> None:
        if self._config.phoneme_type not in _SPOKEN:
            expected = "a voice whose phoneme_type is espeak or text"
            raise ConfigError(self._key, self._options.model, expected)
        self._voice = PiperVoice(session=_session(self._key, self._model), config=self._config)
        # The first piece makes memory ready and starts eSpeak NG.
        for _ in self.synthesise("Ready.", None, None, 0):
            pass

    def synthesise(self, text: str, voice: str | None, language: str | None, seed: int) -> Speech:
        manner = SynthesisConfig(
            speaker_id=self._speaker if voice is None else self._number_of(voice, self._speaker),
            length_scale=self._config.length_scale / self._options.speed,
            noise_scale=self._options.noise_scale,
            noise_w_scale=self._options.noise_w,
            normalize_audio=False,
        )
        # What stands in double brackets would be read as phonemes.
        for sentence in sentences.sentences(text.replace("[[", "[ [")):
            for piece in sentences.bounded(sentence, _MAX_PIECE_CHARS):
                pcm = self._render(piece, manner)
                if len(pcm):
                    yield pcm

    def _render(self, piece: str, manner: SynthesisConfig) -> Pcm:
        if self._voice is None:
            raise EngineError("piper was not loaded", code="engine_failed")
        try:
            chunks = [chunk.audio_float_array for chunk in self._voice.synthesize(piece, manner)]
        except Exception as error:  # ONNX Runtime and eSpeak NG raise what they like; their texts may repeat ours
            raise EngineError(f"piper failed with {type(error).__name__}", code="engine_failed") from None
        pcm = np.concatenate(chunks) if chunks else np.zeros(0, np.float32)
        return shaped(levelled(pcm), self.sample_rate, tail_ms=sentences.pause_after_ms(piece))

    def _noise(self, name: str) -> float:
        given: float | None = getattr(self._options, name)
        own = {"noise_scale": self._config.noise_scale, "noise_w": self._config.noise_w_scale}
        return own[name] if given is None else given

    def _configured_speaker(self) -> int | None:
        given = str(self._options.speaker)
        if not given or self._config.num_speakers <= 1:
            return None
        number = self._number_of(given, None)
        if number is None:
            names = ", ".join(list(self._config.speaker_id_map)[:10])
            expected = f"a number below {self._config.num_speakers}" + (f", or one of {names}" if names else "")
            raise ConfigError(f"TTS.{self._section}.speaker", given, expected)
        return number

    def _number_of(self, name: str, otherwise: int | None) -> int | None:
        """Of a speaker's name or number; another speaker beats silence."""
        number = self._config.speaker_id_map.get(name)
        if number is None and name.isdecimal() and unicodedata.normalize("NFKC", name).isascii():
            number = int(name)
        return number if number is not None and number < self._config.num_speakers else otherwise


def _read(key: str, file: Path) -> tuple[Mapping[str, Any], PiperConfig]:
    try:
        about = json.loads(file.read_text("utf-8"))
        return about, PiperConfig.from_dict(about)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(key, str(file), "the description of a Piper voice (JSON)") from None


def _session(key: str, model: Path) -> onnxruntime.InferenceSession:
    """Without threads of its own: the process's compute threads are counted."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(model), sess_options=options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common base
        expected = f"an ONNX model that can be loaded ({type(error).__name__})"
        raise ConfigError(key, str(model), expected) from None
