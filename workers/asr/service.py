"""The asr role: ears are many and cheap, recognisers few."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakSet

from shared.errors import EngineError
from shared.ids import Role
from shared.link.messages import OpenAsr
from shared.process.watchdog import Watchdog
from shared.settings import AsrSettings, VoiceprintSettings
from shared.worker.service import Job, Stream
from workers.asr import metrics
from workers.asr.engines.engine import Engine
from workers.asr.engines.models import Models
from workers.asr.engines.registry import make_engines, own_seats
from workers.asr.free_listening import FreeListening
from workers.asr.held_listening import HeldListening
from workers.asr.listening import Listening
from workers.asr.opus import OpusDecoder
from workers.asr.recognisers import Recognisers
from workers.asr.utterance import Recognition
from workers.asr.vad import VoiceDetector
from workers.asr.voiceprint.speakers import Speakers


class AsrService:
    """What an asr worker does. Its threads are the voice detector's: none per stream, none per recogniser."""

    role = Role.ASR
    extra_threads = VoiceDetector.threads

    def __init__(
        self,
        settings: AsrSettings,
        watchdog: Watchdog | None = None,
        voiceprint: VoiceprintSettings | None = None,
    ) -> None:
        self._settings = settings
        self._speakers = Speakers.of(voiceprint or VoiceprintSettings())
        watch = (watchdog or Watchdog()).watch("asr-vad")
        self._detector = VoiceDetector(settings.capacity, watch)
        self._models = Models(settings.max_models)
        engines = make_engines(settings, self._models)
        self._listenings: WeakSet[Listening] = WeakSet()
        self._fallbacks = _fallbacks(settings, engines)
        self._recognisers = Recognisers(engines, settings.recognisers, own_seats=own_seats(settings, engines))

    @property
    def capacity(self) -> int:
        return self._settings.capacity

    @property
    def resolves_names(self) -> bool:
        """Is a service outside known by its host's name?"""
        has_named_speakers = self._speakers is not None and self._speakers.resolves_names
        return has_named_speakers or any(one.resolves_names for one in self._recognisers.remote)

    @property
    def caps(self) -> dict[str, Any]:
        return {"engines": sorted(self._recognisers.engines)}

    @property
    def stalled_ms(self) -> float:
        """Of the voice detector; a recogniser that hangs is replaced at its deadline and holds up nobody else."""
        return self._detector.stalled_ms

    async def start(self) -> None:
        OpusDecoder.load_library()
        # Asked when somebody scrapes: nothing is counted per frame.
        metrics.PENDING_FRAMES.set_function(lambda: sum(one.pending_frames for one in self._listenings))
        metrics.KEPT_BYTES.set_function(lambda: sum(one.kept_bytes for one in self._listenings))
        metrics.BACKLOG_SECONDS.set_function(lambda: max((one.backlog_s for one in self._listenings), default=0.0))
        await self._detector.start()
        await self._recognisers.start(self._settings.engine.name)

    def open(self, stream: Stream, body: dict[str, Any]) -> Job:
        spec = OpenAsr.from_map(body)
        engine = spec.engine or self._settings.engine.name
        if engine not in self._recognisers.engines:
            raise EngineError("no such engine section here", code="unknown_engine")
        recognition = Recognition(
            self._recognisers,
            engine,
            self._settings.final_timeout_s,
            self._settings.upstream_timeout_s,
            self._fallbacks,
            self._speakers,
        )
        if self._speakers is not None:
            self._speakers.refresh()
        listening: Listening
        if spec.mode == "manual":
            listening = HeldListening(stream, spec, recognition)
        else:
            listening = FreeListening(stream, spec, recognition, self._detector)
        self._listenings.add(listening)
        return listening

    async def close(self) -> None:
        await self._recognisers.close()
        if self._speakers is not None:
            await self._speakers.close()
        await self._models.close()
        await self._detector.close()


def _fallbacks(settings: AsrSettings, engines: Mapping[str, Engine]) -> tuple[str, ...]:
    """Who is asked in turn when any section fails; the default is among them if it has others behind it."""
    if not settings.fallbacks:
        return ()
    return tuple(name for name in (settings.engine.name, *settings.fallbacks) if name in engines)
