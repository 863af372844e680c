"""The Whisper model of a child process.

Rules: one pass at temperature 0, so that a text takes a bounded time and is the same every time; at most so many tokens
as anybody can say in that time, since a model that has lost the thread repeats itself; a window that it takes for
silence has no text. Sound without any level is not shown to it: it would make something up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from faster_whisper import WhisperModel

from workers.asr.engines.model_child import Heard
from workers.asr.engines.samples import Samples, samples_of
from workers.asr.timeline import RATE_HZ

TOKENS_PER_S = 12
"""Fast Chinese is 7 characters a second, of one to two tokens each."""
LEAST_TOKENS = 24
MOST_TOKENS = 220
"""Half of the model's text window, which the prompt shares."""
HALF_A_CHARACTER = "\N{REPLACEMENT CHARACTER}"
"""What is left of one whose last token was cut off."""
SILENCE_LEVEL = 1e-4
"""Of full scale, 3 steps of 16 bit."""


def language_of(tag: str | None) -> str | None:
    """Whisper's name for a language tag, such as zh for zh-CN; yue stays Cantonese."""
    code = (tag or "").replace("_", "-").split("-")[0].lower()
    return {"": None, "cmn": "zh", "nb": "no", "fil": "tl", "iw": "he", "in": "id"}.get(code, code)


class WhisperHearing:
    """One utterance."""

    def __init__(self, model: LoadedWhisper, language: str | None) -> None:
        self._model = model
        self._language = language
        self._pcm = bytearray()

    def feed(self, pcm: bytes) -> str:
        self._pcm += pcm
        return ""

    def finish(self) -> Heard:
        return self._model.text_of(samples_of(bytes(self._pcm)), self._language)


class LoadedWhisper:
    """Shared by all utterances."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._model = WhisperModel(
            options["model"],
            device=options["device"],
            compute_type=options["compute_type"],
            cpu_threads=options["threads"],
            download_root=options["download_dir"] or None,
            local_files_only=not options["download"],
        )
        self._beam_size = options["beam_size"]
        self._prompt = options["initial_prompt"] or None
        self._languages = frozenset(self._model.supported_languages)
        self.text_of(np.full(RATE_HZ, 0.01, np.float32), "en")

    def hear(self, language: str | None) -> WhisperHearing:
        code = language_of(language)
        return WhisperHearing(self, code if code in self._languages else None)

    def text_of(self, samples: Samples, language: str | None) -> Heard:
        if not len(samples) or float(np.abs(samples).max()) < SILENCE_LEVEL:
            return "", language
        segments, found = self._model.transcribe(
            samples,
            language=language,
            beam_size=self._beam_size,
            temperature=0.0,
            condition_on_previous_text=False,
            without_timestamps=True,
            vad_filter=False,
            initial_prompt=self._prompt,
            max_new_tokens=min(MOST_TOKENS, LEAST_TOKENS + len(samples) * TOKENS_PER_S // RATE_HZ),
        )
        text = "".join(segment.text for segment in segments)
        return text.replace(HALF_A_CHARACTER, "").strip(), found.language


def make_model(options: dict[str, Any]) -> LoadedWhisper:
    return LoadedWhisper(options)
