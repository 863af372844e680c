"""The configured engines: built from their sections, made ready, found by a section's name with their stand-ins.

Engines that compute are loaded on a compute thread; those that ask a service outside are built there too, because of
what they import, and started on the loop. Sections of the same type and options share one engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import structlog

from shared.errors import ConfigError, EngineError
from shared.settings import EngineChoice, TtsSettings
from workers.tts.engine import AnyEngine, RemoteEngine, is_local, is_remote

log = structlog.get_logger(__name__)

MAX_REPORTED = 100
"""Unknown sections are named once each, and no more than so many."""
CLOSE_S = 1.0
"""For all services outside together."""

Build = Callable[[EngineChoice], AnyEngine]


@dataclass(frozen=True, slots=True)
class Voice:
    """An engine that is ready, under the name that lanes, cache and metrics know it by."""

    name: str
    engine: AnyEngine


class Voices:
    """Every method but `load` is the event loop's."""

    def __init__(self, settings: TtsSettings, build: Build) -> None:
        self._default = settings.engine
        self._fallbacks = settings.fallbacks
        self._choices = {**settings.engines, settings.engine.name: settings.engine}
        self._build = build
        self._voices: dict[str, Voice] = {}
        self._chain: tuple[Voice, ...] = ()
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

    async def start(self) -> None:
        """After `load`. The same holds for what has to be started."""
        for voice in self._distinct():
            if is_remote(voice.engine):
                await self._start(voice, voice.engine)
        self._chain = tuple(self._stand_ins())

    @property
    def default(self) -> Voice:
        return self._voices[self._default.name]

    @property
    def resolves_names(self) -> bool:
        """Is a service outside known by its host's name?"""
        return any(engine.is_named for engine in self._remotes())

    def find(self, section: str | None) -> list[Voice]:
        """The section's engine and who speaks when it fails: the default, then its fallbacks.

        The default comes first for None and for a section that is not here (another beats silence).
        """
        voice = None if section is None else self._voices.get(section)
        if section is not None and voice is None:
            self._report_unknown(section)
        return _unique((voice or self.default, *self._chain))

    def names(self) -> list[str]:
        return sorted(self._voices)

    def deterministic(self) -> list[str]:
        return sorted(name for name, voice in self._voices.items() if voice.engine.deterministic)

    async def close(self) -> None:
        """Close what is connected to the outside, within a bound."""
        closings = [asyncio.create_task(engine.close(), name="tts-engine-close") for engine in self._remotes()]
        if not closings:
            return
        done, late = await asyncio.wait(closings, timeout=CLOSE_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*closings, return_exceptions=True)
        for task in done:
            if error := task.exception():
                log.warning("tts_engine_close_failed", error=type(error).__name__)

    def _distinct(self) -> list[Voice]:
        return _unique(self._voices.values())

    def _remotes(self) -> Iterator[RemoteEngine]:
        for voice in self._distinct():
            if is_remote(voice.engine):
                yield voice.engine

    def _stand_ins(self) -> Iterator[Voice]:
        yield self.default
        for name in self._fallbacks:
            if name in self._voices:
                yield self._voices[name]
            else:
                log.warning("tts_fallback_left_out", engine=name)

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
            if is_local(engine):
                engine.load()
        except (ConfigError, EngineError) as error:
            self._leave_out(choice.name, error)
            return None
        return Voice(choice.name, engine)

    async def _start(self, voice: Voice, engine: RemoteEngine) -> None:
        try:
            await engine.start()
        except (ConfigError, EngineError) as error:
            self._leave_out(voice.name, error)
            self._voices = {name: other for name, other in self._voices.items() if other is not voice}

    def _leave_out(self, name: str, error: ConfigError | EngineError) -> None:
        if name == self._default.name:
            raise error
        log.warning("tts_engine_left_out", engine=name, reason=str(error))


def _unique(voices: Iterable[Voice]) -> list[Voice]:
    """Each once, where it comes first."""
    first: dict[str, Voice] = {}
    for voice in voices:
        first.setdefault(voice.name, voice)
    return list(first.values())
