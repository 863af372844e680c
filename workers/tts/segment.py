"""One stream of the tts worker: a segment, the engines that may speak it, and what was sent of it.

* Frames are sent as soon as they are encoded, against credit; one DONE or ERROR ends it.
* An engine that fails before a frame was sent, or has none within its share of the time, is left for the next one of
  the chain. A segment that goes on where another worker broke off is not: the next voice would begin elsewhere.
* The deadline is the segment's, whichever engines are asked; it moves on with every frame and stands still without
  credit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from shared.errors import EngineError
from shared.link.messages import OpenTts, Substituted, TtsCredit
from shared.worker.service import Stream
from workers.tts import metrics
from workers.tts.cache import SegmentKey
from workers.tts.chain import SegmentChain
from workers.tts.delivery import Delivery
from workers.tts.language import primary_tag
from workers.tts.opus import FRAME_MS
from workers.tts.studio import Studio
from workers.tts.voices import Voice

log = structlog.get_logger(__name__)

LATE = "late"
"""The router's reason for an abort when a frame did not come in time."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a segment may be without a frame: as a whole, and with an engine that others stand behind."""

    segment_s: float
    first_frame_s: float


class SegmentJob:
    """One stream's segment: shared.worker.service.Job towards the runtime, Listener towards the studio."""

    def __init__(
        self, stream: Stream, request: OpenTts, voices: Sequence[Voice], studio: Studio, patience: Patience
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._stream = stream
        self._request = request
        self._studio = studio
        self._timeout_s = patience.segment_s
        self._text = ""
        self._opened_s = self._progress_s = self._loop.time()
        self._first_frame_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._share: asyncio.TimerHandle | None = None
        self._made: tuple[Sequence[bytes], float, bool] | None = None
        dry_s = request.dry_ms / 1000
        self._chain = SegmentChain(voices[:1] if request.skip_frames else voices, patience.first_frame_s, dry_s)
        self.delivery = Delivery(
            window_frames=request.window_frames,
            skip_frames=request.skip_frames,
            dry_at_s=self._opened_s + dry_s,
        )

    def __repr__(self) -> str:
        return f"SegmentJob({self._stream.id}, {self._chain.current.name}, {self.delivery!r})"

    def begin(self, text: str) -> None:
        """Ask for the frames of the cleaned text."""
        if not text:
            self.on_made((), 0.0, cached=False)
            return
        self._text = text
        self._timer = self._loop.call_later(self._timeout_s, self._check_progress)
        self._ask()

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
        self._release(given_up=reason == LATE)
        metrics.ABORTED.inc()

    # Listener

    @property
    def has_another(self) -> bool:
        return not self.delivery.sent and not self._chain.is_last

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
        self._stop_share()
        self._send_made()

    def on_failed(self, error: EngineError) -> None:
        """The engine that was asked gives no more."""
        self._stop_share()
        failed = self._chain.current
        if self.delivery.sent or not self._chain.fail(error):
            self._fail(error if self.delivery.sent else self._chain.verdict())
            return
        metrics.FALLBACKS.labels(failed.name).inc()
        log.debug("tts_fallback", engine=failed.name, code=error.code, next=self._chain.current.name)
        self._stream.event(Substituted(self._chain.current.name))
        self._ask()

    # Within

    def _ask(self) -> None:
        """The chain's current engine; it may answer before this returns."""
        now = self._loop.time()
        share_s = self._chain.share_s(now - self._opened_s, self._progress_s + self._timeout_s - now)
        if share_s is not None:
            self._share = self._loop.call_later(max(0.0, share_s), self._on_share_over, share_s)
        asked = self._chain.current
        # A stand-in has voices of its own; the name that was chosen means nothing to it.
        voice = self._request.voice if self._chain.is_first else None
        key = SegmentKey(asked.name, voice, primary_tag(self._request.language), self._text)
        self._studio.join(self, key, asked.engine, self._request.session)

    def _on_share_over(self, share_s: float) -> None:
        if not self.delivery.credit:
            self._share = self._loop.call_later(share_s, self._on_share_over, share_s)
            return
        self._studio.leave(self, given_up=True)
        self.on_failed(EngineError("no frame within the engine's share", code="timeout", retryable=True))

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
            "deterministic": self._chain.current.engine.deterministic,
        }

    def _note_progress(self) -> None:
        self._progress_s = self._loop.time()
        self._stop_share()
        if self._first_frame_s is None:
            self._first_frame_s = self._progress_s
            metrics.FIRST_FRAME.observe(self._first_frame_s - self._opened_s)

    def _check_progress(self) -> None:
        """The segment's deadline."""
        now = self._loop.time()
        if not self.delivery.credit:
            self._progress_s = now
        due_s = self._progress_s + self._timeout_s
        if now < due_s:
            self._timer = self._loop.call_at(due_s, self._check_progress)
            return
        log.warning("tts_segment_timeout", session=self._request.session, engine=self._chain.current.name)
        self._release(given_up=True)
        self._fail(EngineError("no frame within the segment's deadline", code="timeout", retryable=True))

    def _fail(self, error: EngineError) -> None:
        self._release()
        metrics.FAILED.inc()
        metrics.ERRORS.labels(error.code).inc()
        self._stream.error(error.code, retryable=error.retryable, message=str(error))

    def _stop_share(self) -> None:
        if self._share is not None:
            self._share.cancel()
            self._share = None

    def _release(self, *, given_up: bool = False) -> None:
        self._stop_share()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._studio.leave(self, given_up=given_up)
