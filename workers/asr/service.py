"""The asr role: ears are many and cheap, recognisers few."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

from shared.errors import EngineError
from shared.ids import Role
from shared.link.messages import OpenAsr
from shared.process.watchdog import Watchdog
from shared.settings import AsrSettings
from shared.worker.service import Job, Stream
from workers.asr import metrics
from workers.asr.engines.registry import make_engines, own_seats
from workers.asr.free_listening import FreeListening
from workers.asr.held_listening import HeldListening
from workers.asr.listening import Listening
from workers.asr.opus import OpusDecoder
from workers.asr.recognisers import Recognisers
from workers.asr.utterance import Recognition
from workers.asr.vad import VoiceDetector


class AsrService:
    """What an asr worker does. Its threads are the voice detector's: none per stream, none per recogniser."""

    role = Role.ASR
    extra_threads = VoiceDetector.threads

    def __init__(self, settings: AsrSettings, watchdog: Watchdog | None = None) -> None:
        self._settings = settings
        watch = (watchdog or Watchdog()).watch("asr-vad")
        self._detector = VoiceDetector(settings.capacity, watch)
        engines = make_engines(settings)
        self._listenings: WeakSet[Listening] = WeakSet()
        self._recognisers = Recognisers(engines, settings.recognisers, own_seats=own_seats(settings, engines))

    @property
    def capacity(self) -> int:
        return self._settings.capacity

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
        metrics.BACKLOG_SECONDS.set_function(lambda: max((one.backlog_s for one in self._listenings), default=0.0))
        await self._detector.start()
        await self._recognisers.start(self._settings.engine.name)

    def open(self, stream: Stream, body: dict[str, Any]) -> Job:
        spec = OpenAsr.from_map(body)
        engine = spec.engine or self._settings.engine.name
        if engine not in self._recognisers.engines:
            raise EngineError("no such engine section here", code="unknown_engine")
        recognition = Recognition(self._recognisers, engine, self._settings.final_timeout_s)
        listening: Listening
        if spec.mode == "manual":
            listening = HeldListening(stream, spec, recognition)
        else:
            listening = FreeListening(stream, spec, recognition, self._detector)
        self._listenings.add(listening)
        return listening

    async def close(self) -> None:
        await self._recognisers.close()
        await self._detector.close()
