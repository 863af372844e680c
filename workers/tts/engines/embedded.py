"""`type: embedded`, the default: comes with the installation, speaks every part of a text in its own language.

English is spoken by hibari, everything else by eSpeak NG; a text that mixes them is cut where the language changes.
Options: `voice` and `speed` (of hibari), `variant`, `rate_wpm` and `pitch` (of eSpeak NG).
"""

from __future__ import annotations

from typing import Any

from workers.tts.engine import Speech, TtsEngine
from workers.tts.engines.espeak import EspeakEngine
from workers.tts.engines.hibari import HibariEngine
from workers.tts.language import Run, language_runs
from workers.tts.resample import resampled
from workers.tts.text import speakable


class EmbeddedEngine:
    """Picks the voice by the language of each run."""

    deterministic = True
    sample_rate = 24_000

    def __init__(self, section: str, options: dict[str, Any]) -> None:
        self._english = HibariEngine(section, _only(options, "voice", "speed"))
        self._others = EspeakEngine(section, _only(options, "variant", "rate_wpm", "pitch"))

    @property
    def languages(self) -> frozenset[str]:
        return self._english.languages | self._others.languages

    def load(self) -> None:
        self._english.load()
        self._others.load()

    def synthesise(self, text: str, voice: str | None, language: str | None, seed: int) -> Speech:
        for run in language_runs(text, language):
            if speakable(run.text):
                yield from self._spoken(run, voice, seed)

    def _spoken(self, run: Run, voice: str | None, seed: int) -> Speech:
        engine: TtsEngine = self._english if run.language in self._english.languages else self._others
        speech = engine.synthesise(run.text, voice, run.language, seed)
        return resampled(speech, engine.sample_rate, self.sample_rate)


def _only(options: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: options[key] for key in keys if key in options}
