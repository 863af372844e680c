"""The tts worker's service: one stream is one segment, OPEN → AUDIO … → DONE or ERROR.

* A text with nothing to speak is DONE with no frames; one over 16 KiB is refused.
* A segment that could be sent frames and has got none for `segment_timeout_s` fails with `timeout`, whatever its engine
  is doing. Waiting for credit does not count.
* A segment that its engine cannot speak goes to the next of its chain (`workers.tts.segment`).
"""

from __future__ import annotations

from typing import Any

import structlog

from shared.errors import EngineError
from shared.ids import Role
from shared.link.messages import OpenTts
from shared.process.watchdog import LOAD_S, Watchdog
from shared.settings import TtsSettings
from shared.worker.service import Job, Stream
from workers.tts import metrics
from workers.tts.cache import SegmentCache
from workers.tts.compute import SLOW_AFTER_S, ComputePool
from workers.tts.engines import registry
from workers.tts.opus import OpusEncoder
from workers.tts.segment import Patience, SegmentJob
from workers.tts.studio import Studio
from workers.tts.text import MAX_TEXT_BYTES, speakable
from workers.tts.voices import Build, Voices

log = structlog.get_logger(__name__)

SPARE_THREADS = 2
"""Threads that may take the place of stuck ones."""
ONNX_RUNTIME_THREADS = 1
"""Started when it is imported; its sessions here have none of their own."""


class TtsService:
    """Texts to Opus."""

    role = Role.TTS

    def __init__(
        self,
        settings: TtsSettings,
        *,
        watchdog: Watchdog | None = None,
        build: Build = registry.build,
        slow_after_s: float = SLOW_AFTER_S,
    ) -> None:
        self._settings = settings
        self._patience = Patience(settings.segment_timeout_s, settings.first_frame_timeout_s)
        self._voices = Voices(settings, build)
        self._pool = ComputePool(
            "tts-compute", threads=settings.synth_threads, spares=SPARE_THREADS, slow_after_s=slow_after_s
        )
        self._studio = Studio(self._pool, SegmentCache(settings.cache_bytes), settings.opus_complexity)
        # One watch for all threads: it runs only while the engine everybody uses is stuck, or no thread is left.
        self._watch = (watchdog or Watchdog()).watch("tts-compute")
        self._pool.on_health = self._on_health
        self._pool.on_stuck = self._on_stuck
        self._caps: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"TtsService({', '.join(self._voices.names())}; {self._pool!r})"

    @property
    def capacity(self) -> int:
        return self._settings.capacity

    @property
    def caps(self) -> dict[str, Any]:
        return self._caps

    @property
    def stalled_ms(self) -> float:
        return self._pool.stalled_ms(self._vital_lane)

    @property
    def extra_threads(self) -> int:
        """Compute threads, those included that take the place of stuck ones, and ONNX Runtime's."""
        return self._settings.synth_threads + SPARE_THREADS + ONNX_RUNTIME_THREADS

    @property
    def resolves_names(self) -> bool:
        """Is a service outside known by its host's name? Told when the service has been started."""
        return self._voices.resolves_names

    async def start(self) -> None:
        OpusEncoder(self._settings.opus_complexity)
        self._pool.start()
        await self._pool.call("load", self._voices.load, slow_after_s=LOAD_S)
        await self._voices.start()
        self._caps = {
            "engines": self._voices.names(),
            "default": self._settings.engine.name,
            "deterministic": self._voices.deterministic(),
        }

    def open(self, stream: Stream, body: dict[str, Any]) -> Job:
        request = OpenTts.from_map(body)
        if len(request.text.encode()) > MAX_TEXT_BYTES:
            raise EngineError(f"a text of more than {MAX_TEXT_BYTES} bytes", code="text_too_long")
        voices = self._voices.find(request.engine)
        job = SegmentJob(stream, request, voices, self._studio, self._patience)
        job.begin(speakable(request.text))
        return job

    async def close(self) -> None:
        await self._pool.close()
        await self._studio.close()
        await self._voices.close()

    @property
    def _vital_lane(self) -> str:
        return self._voices.default.name if self._caps else ""

    def _on_stuck(self, engine: str) -> None:
        log.warning("tts_engine_stuck", engine=engine)
        metrics.THREADS_STUCK.inc()

    def _on_health(self) -> None:
        if not self._pool.is_stalled(self._vital_lane):
            self._watch.idle()
        elif self._watch.busy_s == 0:
            self._watch.busy()
