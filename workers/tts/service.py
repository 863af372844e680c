"""The tts worker's service: one stream is one segment, OPEN → AUDIO … → DONE or ERROR.

* A text with nothing to speak is DONE with no frames; one over 16 KiB is refused.
* A segment that could be sent frames and has got none for `segment_timeout_s` fails with `timeout`, whatever its engine
  is doing. Waiting for credit does not count.
* Frames are sent as soon as they are encoded, against credit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog

from shared.errors import EngineError
from shared.ids import Role
from shared.link.messages import OpenTts, TtsCredit
from shared.process.watchdog import LOAD_S, Watchdog
from shared.settings import TtsSettings
from shared.worker.service import Job, Stream
from workers.tts import metrics
from workers.tts.cache import SegmentCache, SegmentKey
from workers.tts.compute import SLOW_AFTER_S, ComputePool
from workers.tts.delivery import Delivery
from workers.tts.engines import registry
from workers.tts.language import primary_tag
from workers.tts.opus import FRAME_MS, OpusEncoder
from workers.tts.studio import Studio
from workers.tts.text import MAX_TEXT_BYTES, speakable
from workers.tts.voices import Build, Voice, Voices

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

    async def start(self) -> None:
        OpusEncoder(self._settings.opus_complexity)
        self._pool.start()
        await self._pool.call("load", self._voices.load, slow_after_s=LOAD_S)
        self._caps = {
            "engines": self._voices.names(),
            "default": self._settings.engine.name,
            "deterministic": self._voices.deterministic(),
        }

    def open(self, stream: Stream, body: dict[str, Any]) -> Job:
        request = OpenTts.from_map(body)
        if len(request.text.encode()) > MAX_TEXT_BYTES:
            raise EngineError(f"a text of more than {MAX_TEXT_BYTES} bytes", code="text_too_long")
        voice = self._voices.find(request.engine)
        job = SegmentJob(stream, request, voice, self._studio, self._settings.segment_timeout_s)
        job.begin(speakable(request.text))
        return job

    async def close(self) -> None:
        await self._pool.close()

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


class SegmentJob:
    """One stream's segment: shared.worker.service.Job towards the runtime, Listener towards the studio."""

    def __init__(self, stream: Stream, request: OpenTts, voice: Voice, studio: Studio, timeout_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._stream = stream
        self._request = request
        self._voice = voice
        self._studio = studio
        self._timeout_s = timeout_s
        self._opened_s = self._progress_s = self._loop.time()
        self._first_frame_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._made: tuple[Sequence[bytes], float, bool] | None = None
        self.delivery = Delivery(
            window_frames=request.window_frames,
            skip_frames=request.skip_frames,
            dry_at_s=self._opened_s + request.dry_ms / 1000,
        )

    def __repr__(self) -> str:
        return f"SegmentJob({self._stream.id}, {self._voice.name}, {self.delivery!r})"

    def begin(self, text: str) -> None:
        """Ask for the frames of the cleaned text."""
        if not text:
            self.on_made((), 0.0, cached=False)
            return
        self._timer = self._loop.call_later(self._timeout_s, self._check_progress)
        key = SegmentKey(self._voice.name, self._request.voice, primary_tag(self._request.language), text)
        self._studio.join(self, key, self._voice.engine)

    # Job

    def on_audio(self, packet: bytes) -> None:
        """Nothing goes up on this stream."""

    def on_event(self, body: dict[str, Any]) -> None:
        """No events go to a segment."""

    def on_credit(self, body: dict[str, Any]) -> None:
        self.delivery.grant(TtsCredit.from_map(body).frames)
        self._progress_s = self._loop.time()
        if self._made is not None:
            self._send_made()
        else:
            self._studio.on_credit(self)

    def on_end(self) -> None:
        """OPEN told everything; the segment ends by itself."""

    def on_abort(self, reason: str) -> None:
        self._release()
        metrics.ABORTED.inc()

    # Listener

    def on_frames(self, frames: Sequence[bytes]) -> None:
        had_credit = self.delivery.credit > 0
        ready = self.delivery.take(len(frames))
        for position in ready:
            self._stream.audio(frames[position])
        if ready:
            self._note_progress()
        if had_credit and not self.delivery.credit:
            metrics.CREDIT_WAITS.inc()

    def on_made(self, frames: Sequence[bytes], synth_s: float, *, cached: bool) -> None:
        self._made = (frames, synth_s, cached)
        self._send_made()

    def on_failed(self, error: EngineError) -> None:
        self._release()
        metrics.FAILED.inc()
        metrics.ERRORS.labels(error.code).inc()
        self._stream.error(error.code, retryable=error.retryable, message=str(error))

    def _send_made(self) -> None:
        assert self._made is not None
        frames, synth_s, cached = self._made
        self.on_frames(frames)
        if self.delivery.is_complete(len(frames)) and self._stream.is_open:
            self._release()
            metrics.DONE.inc()
            self._stream.done(**self._stats(synth_s, cached))

    def _stats(self, synth_s: float, cached: bool) -> dict[str, Any]:
        first_frame_s = self._first_frame_s if self._first_frame_s is not None else self._opened_s
        return {
            "frames": self.delivery.sent,
            "audio_ms": self.delivery.sent * FRAME_MS,
            "synth_ms": round(synth_s * 1000, 1),
            "first_frame_ms": round((first_frame_s - self._opened_s) * 1000, 1),
            "cached": cached,
            "deterministic": self._voice.engine.deterministic,
        }

    def _note_progress(self) -> None:
        self._progress_s = self._loop.time()
        if self._first_frame_s is None:
            self._first_frame_s = self._progress_s
            metrics.FIRST_FRAME.observe(self._first_frame_s - self._opened_s)

    def _check_progress(self) -> None:
        """The segment's deadline; moves on with every frame and stands still without credit."""
        now = self._loop.time()
        if not self.delivery.credit:
            self._progress_s = now
        due_s = self._progress_s + self._timeout_s
        if now < due_s:
            self._timer = self._loop.call_at(due_s, self._check_progress)
            return
        log.warning("tts_segment_timeout", session=self._request.session, engine=self._voice.name)
        self.on_failed(EngineError("no frame within the segment's deadline", code="timeout", retryable=True))

    def _release(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._studio.leave(self)
