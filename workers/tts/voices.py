"""The configured engines: built from their sections, loaded on a compute thread, found by a section's name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from shared.errors import ConfigError, EngineError
from shared.settings import EngineChoice, TtsSettings
from workers.tts.engine import TtsEngine

log = structlog.get_logger(__name__)

MAX_REPORTED = 100
"""Unknown sections are named once each, and no more than so many."""

Build = Callable[[EngineChoice], TtsEngine]


@dataclass(frozen=True, slots=True)
class Voice:
    """A loaded engine under the name that lanes and cache know it by."""

    name: str
    engine: TtsEngine


class Voices:
    """Sections of the same type and options share one engine."""

    def __init__(self, settings: TtsSettings, build: Build) -> None:
        self._default = settings.engine
        self._choices = {**settings.engines, settings.engine.name: settings.engine}
        self._build = build
        self._voices: dict[str, Voice] = {}
        self._reported: set[str] = set()

    def load(self) -> None:
        """On a compute thread. The default must load; another section that does not is warned about and left out."""
        loaded: dict[str, Voice] = {}
        for choice in self._in_order():
            kind = f"{choice.type} {sorted(choice.options.items(), key=str)}"
            if kind not in loaded and (voice := self._loaded(choice)):
                loaded[kind] = voice
            if kind in loaded:
                self._voices[choice.name] = loaded[kind]

    @property
    def default(self) -> Voice:
        return self._voices[self._default.name]

    def find(self, section: str | None) -> Voice:
        """The section's engine; the default for None and for a section that is not here (another beats silence)."""
        if section is None:
            return self.default
        voice = self._voices.get(section)
        if voice is None:
            self._report_unknown(section)
        return voice or self.default

    def names(self) -> list[str]:
        return sorted(self._voices)

    def deterministic(self) -> list[str]:
        return sorted(name for name, voice in self._voices.items() if voice.engine.deterministic)

    def _report_unknown(self, section: str) -> None:
        if section not in self._reported and len(self._reported) < MAX_REPORTED:
            self._reported.add(section)
            log.warning("tts_engine_unknown", engine=section)

    def _in_order(self) -> Iterable[EngineChoice]:
        """The default first, so that its name is the shared one."""
        yield self._default
        yield from (choice for name, choice in self._choices.items() if name != self._default.name)

    def _loaded(self, choice: EngineChoice) -> Voice | None:
        try:
            engine = self._build(choice)
            engine.load()
        except (ConfigError, EngineError) as error:
            if choice is self._default:
                raise
            log.warning("tts_engine_left_out", engine=choice.name, reason=str(error))
            return None
        return Voice(choice.name, engine)
