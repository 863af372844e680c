"""`type: sherpa`: a VITS, Kokoro or Matcha voice of sherpa-onnx 2, from a local directory.

Options: see shared/config/options/sherpa.py. What lies in the directory is checked before the library sees it, which
ends the process on a model that it does not like. A voice with a lexicon reads the words that stand there; any other
reads the phonemes that eSpeak NG makes of a text. Noise takes no seed, so the same text is the same samples only with a
VITS voice whose two kinds of noise are 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import sherpa_onnx

from shared.config.local_tts import sherpa_voice
from shared.config.model_files import Model
from shared.config.options.sherpa import SherpaTtsOptions
from shared.errors import ConfigError, EngineError
from shared.settings import EngineChoice
from workers.tts import sentences
from workers.tts.engine import Pcm, Speech
from workers.tts.engines.espeak import phonemes
from workers.tts.language import primary_tag
from workers.tts.loudness import levelled
from workers.tts.silence import shaped
from workers.tts.spelling import KOKORO_SIGNS, first_words, known_signs, known_words

_MAX_PIECE_CHARS: Final = 60
"""A piece is heard whole, so a short one is heard soon; and Kokoro takes 510 sounds at most."""
_LEXICONS: Final = ("lexicon", "lexicon_en", "lexicon_zh")
_RULES: Final = ("date_fst", "number_fst", "phone_fst")

_TAGS: Final[Mapping[str, str]] = {
    "chinese": "zh",
    "english": "en",
    "german": "de",
    "french": "fr",
    "spanish": "es",
    "japanese": "ja",
    "korean": "ko",
    "cantonese": "yue",
    "russian": "ru",
    "italian": "it",
    "portuguese": "pt",
}


class SherpaTtsEngine:
    """One voice. Computing releases Python's lock, so the threads of a worker speak at once."""

    slow_after_s = 15.0
    """Kokoro is about as slow as speech on an old core."""

    def __init__(self, section: str, options: dict[str, Any]) -> None:
        self._options = SherpaTtsOptions.of(EngineChoice(name=section, type="sherpa", options=options))
        self._key = f"TTS.{section}.model_dir"
        self._section = section
        self._model = sherpa_voice(section, self._options)
        self._reads_words = bool(_parts(self._model, _LEXICONS))
        self._known: frozenset[str] = frozenset()
        self._tts: sherpa_onnx.OfflineTts | None = None

    @property
    def deterministic(self) -> bool:
        return self._model.kind == "vits" and self._options.noise_scale == self._options.noise_w == 0

    @property
    def sample_rate(self) -> int:
        return int(self._loaded().sample_rate)

    @property
    def languages(self) -> frozenset[str]:
        told = self._options.language.replace(",", " ").split()
        return frozenset(filter(None, map(primary_tag, told))) or _languages_of(self._model)

    def load(self) -> None:
        config = config_of(self._model, self._options)
        if not config.validate():
            raise ConfigError(self._key, self._options.model_dir, f"a whole {self._model.kind} voice for sherpa-onnx")
        files = _parts(self._model, _LEXICONS) if self._reads_words else [self._model.files["tokens"]]
        self._known = first_words(_lines(self._key, files))
        self._tts = sherpa_onnx.OfflineTts(config)
        if self._options.speaker >= max(1, self._tts.num_speakers):
            expected = f"a whole number below {max(1, self._tts.num_speakers)}"
            raise ConfigError(f"TTS.{self._section}.speaker", self._options.speaker, expected)
        # The first piece makes memory ready.
        for _ in self.synthesise("你好。" if "zh" in self.languages else "Ready.", None, None, 0):
            pass

    def synthesise(self, text: str, voice: str | None, language: str | None, seed: int) -> Speech:
        speaker = self._speaker(voice)
        for sentence in sentences.sentences(text):
            for piece in sentences.bounded(sentence, _MAX_PIECE_CHARS):
                pcm = self._render(piece, speaker)
                if len(pcm):
                    yield pcm

    def _render(self, piece: str, speaker: int) -> Pcm:
        manner = sherpa_onnx.GenerationConfig()
        manner.sid, manner.speed = speaker, self._options.speed
        text = self._put(piece)
        if not any(sign.isalnum() for sign in text):
            return np.zeros(0, np.float32)
        if not self._reads_words:
            manner.phoneme_codepoints = [[ord(sign) for sign in text]]
            text = ""
        try:
            sound = self._loaded().generate(text, manner)
        except RuntimeError as error:
            raise EngineError(f"sherpa-onnx failed with {type(error).__name__}", code="engine_failed") from None
        pcm = levelled(np.asarray(sound.samples, np.float32))
        return shaped(pcm, self.sample_rate, tail_ms=sentences.pause_after_ms(piece))

    def _put(self, piece: str) -> str:
        """As the voice reads it."""
        if self._reads_words:
            return known_words(piece, self._known, reads_numbers="number_fst" in self._model.files)
        signs = KOKORO_SIGNS if self._model.kind == "kokoro" else None
        return known_signs(phonemes(piece, self._model.metadata.get("voice", "en-us")), self._known, signs)

    def _speaker(self, voice: str | None) -> int:
        """The asked number if there is one, else the configured one: another voice beats silence."""
        if voice is None or not (voice.isascii() and voice.isdecimal()):
            return self._options.speaker
        return int(voice) if int(voice) < self._loaded().num_speakers else self._options.speaker

    def _loaded(self) -> sherpa_onnx.OfflineTts:
        if self._tts is None:
            raise EngineError("the voice was not loaded", code="engine_failed")
        return self._tts


def config_of(model: Model, options: SherpaTtsOptions) -> sherpa_onnx.OfflineTtsConfig:
    """What the library is told of a voice."""
    files = model.files
    common = {"tokens": files["tokens"], "lexicon": ",".join(_parts(model, _LEXICONS))}
    own: Any
    match model.kind:
        case "vits":
            own = sherpa_onnx.OfflineTtsVitsModelConfig(
                model=files["model"], **common, **_noises(options, "noise_scale_w")
            )
        case "kokoro":
            own = sherpa_onnx.OfflineTtsKokoroModelConfig(model=files["model"], voices=files["voices"], **common)
        case _:
            own = sherpa_onnx.OfflineTtsMatchaModelConfig(
                acoustic_model=files["acoustic_model"], vocoder=files["vocoder"], **common, **_noises(options)
            )
    whole = sherpa_onnx.OfflineTtsModelConfig(
        **{model.kind: own}, num_threads=options.threads, provider=options.provider
    )
    rules = ",".join(_parts(model, _RULES))
    return sherpa_onnx.OfflineTtsConfig(model=whole, rule_fsts=rules, max_num_sentences=1)


def _parts(model: Model, names: tuple[str, ...]) -> list[str]:
    return [model.files[name] for name in names if name in model.files]


def _lines(key: str, files: list[str]) -> Iterator[str]:
    for file in files:
        try:
            with Path(file).open(encoding="utf-8") as lines:
                yield from lines
        except (OSError, ValueError):
            raise ConfigError(key, file, "a text file in UTF-8") from None


def _noises(options: SherpaTtsOptions, rhythm: str = "") -> dict[str, float]:
    given = {"noise_scale": options.noise_scale, rhythm: options.noise_w}
    return {name: value for name, value in given.items() if name and value is not None}


def _languages_of(model: Model) -> frozenset[str]:
    """By what the model says of itself, and by the lexicons beside it."""
    said = model.metadata.get("language", "").lower()
    tags = {tag for name, tag in _TAGS.items() if name in said}
    tags |= {part.removeprefix("lexicon_") for part in model.files if part.startswith("lexicon_")}
    return frozenset(tags or filter(None, (primary_tag(said), primary_tag(model.metadata.get("voice")))))
