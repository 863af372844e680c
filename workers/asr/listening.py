"""One ear's stream: packets in order through the decoder and the search for utterances, utterances to their text.

Rules:
* Frames are taken one at a time: the next is decoded when the decisions on the one before are made, so a burst gives
  the same decisions as real time. The loop never works off more than PUMP_FRAMES in one go.
* Finals leave in the order of their utterances; DONE leaves when the stream has ended and the last Final is out.
* `trim` follows the search, and stays at the oldest utterance that has no text yet.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from typing import Any

import structlog

from shared.errors import EngineError
from shared.link.messages import AsrCredit, Final, OpenAsr, Partial
from shared.worker.service import Stream
from workers.asr import metrics
from workers.asr.endpoint import Begun, Ended
from workers.asr.engines.engine import Brief
from workers.asr.opus import Pcm, make_decoder, nominal_frame_ms
from workers.asr.timeline import RATE_HZ, Timeline
from workers.asr.utterance import Recognition, Utterance

log = structlog.get_logger(__name__)

CREDIT_MS = 240
"""Audio between two credits: a quarter of the messages that one per frame would take."""

PUMP_FRAMES = 8
MAX_PENDING_BYTES = 2 * 1024 * 1024
"""Far beyond the router's window; a stream that reaches it is not being served."""


class Listening(ABC):
    """The Job of an asr stream. Everything happens on the loop; how utterances are found is the subclass's."""

    def __init__(self, stream: Stream, spec: OpenAsr, recognition: Recognition) -> None:
        frame_ms = nominal_frame_ms(spec.frame_ms)
        self._stream = stream
        self._spec = spec
        self._recognition = recognition
        self._loop = asyncio.get_running_loop()
        self._decoder = make_decoder(spec)
        self._timeline = Timeline(spec.position, frame_ms)
        self._pending: deque[bytes | None] = deque()
        self._pending_bytes = 0
        self._is_scheduled = self._has_ended = self._is_over = False
        self._utterances: deque[Utterance] = deque()
        self._current: Utterance | None = None
        self._acked = self._trim = spec.position
        self._credit_frames = max(1, CREDIT_MS // frame_ms)
        self._speech_ms = 0

    @property
    def pending_frames(self) -> int:
        """Frames that wait to be decoded."""
        return len(self._pending)

    @property
    def kept_bytes(self) -> int:
        """Sound of its utterances that may have to be heard again."""
        return sum(one.kept_bytes for one in self._utterances)

    @property
    def backlog_s(self) -> float:
        """The sound in them: what came first has waited so long, if it came in real time."""
        return len(self._pending) * self._timeline.frame_samples / RATE_HZ

    # What the runtime calls

    def on_audio(self, packet: bytes) -> None:
        self._pending.append(packet)
        self._pending_bytes += len(packet)
        if self._pending_bytes > MAX_PENDING_BYTES:
            self._fail(EngineError("too much audio waits", code="asr_overloaded", retryable=True))
        self._pump()

    def on_event(self, body: dict[str, Any]) -> None:
        """No event is defined on the way to asr; what is unknown is ignored."""
        return

    def on_credit(self, body: dict[str, Any]) -> None:
        """Nothing here is paid for."""
        return

    def on_end(self) -> None:
        self._pending.append(None)
        self._pump()

    def on_abort(self, reason: str) -> None:
        self._close()

    # What an utterance calls

    def on_partial(self, utterance: Utterance, text: str) -> None:
        # The frame before the last one fed: the search may not have decided on the last one yet.
        position = max(self._spec.position, utterance.position - 1)
        self._stream.event(Partial(position, utterance.number, text))

    def on_endpoint(self, utterance: Utterance, at_ms: int | None) -> bool:
        """A held key is ended by who holds it."""
        return False

    def on_text(self, utterance: Utterance) -> None:
        while self._utterances and self._utterances[0].transcript is not None:
            self._deliver(self._utterances.popleft())
        self._credit(force=True)
        self._finish_if_over()

    def on_failure(self, utterance: Utterance, error: EngineError) -> None:
        self._fail(error)

    # What a subclass decides

    @property
    @abstractmethod
    def _is_busy(self) -> bool:
        """Decisions on the last frame are still to come."""

    @property
    @abstractmethod
    def _keep_sample(self) -> int:
        """The search needs nothing before it."""

    @abstractmethod
    def _on_pcm(self, pcm: Pcm) -> None:
        """A frame's samples, already on the timeline."""

    @abstractmethod
    def _on_mark(self) -> None:
        """An empty packet."""

    @abstractmethod
    def _on_last(self) -> None:
        """Every frame has been taken and no more will come."""

    @abstractmethod
    def _release(self) -> None:
        """The stream is over."""

    # Frames

    def _pump(self) -> None:
        budget = PUMP_FRAMES
        while self._pending and not (self._is_busy or self._is_over or self._is_scheduled):
            if budget == 0:
                self._is_scheduled = True
                self._loop.call_soon(self._pump_on)
                return
            budget -= 1
            self._take(self._pending.popleft())

    def _pump_on(self) -> None:
        self._is_scheduled = False
        self._pump()

    def _take(self, packet: bytes | None) -> None:
        if packet is None:
            self._end()
        elif packet:
            self._pending_bytes -= len(packet)
            self._decode(packet)
        else:
            self._timeline.add_mark()
            self._on_mark()
            self._credit()

    def _decode(self, packet: bytes) -> None:
        bad = self._decoder.bad_packets
        pcm = self._decoder.decode(packet)
        if self._decoder.bad_packets > bad:
            metrics.BAD_PACKETS.inc()
        metrics.AUDIO_SECONDS.inc(len(pcm) / RATE_HZ)
        self._timeline.add(len(pcm))
        self._on_pcm(pcm)
        if not self._is_busy:
            self._credit()

    def _end(self) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._on_last()
            self._finish_if_over()

    # Utterances

    def _begin(self, decision: Begun, keep_sample: int, sound: bytes = b"") -> None:
        brief = Brief(self._spec.session, decision.utterance, self._spec.language)
        utterance = Utterance(brief, self._recognition, self, keep_sample)
        self._utterances.append(utterance)
        self._current = utterance
        utterance.feed(sound, decision.position)

    def _stop(self, decision: Ended) -> None:
        if self._current is not None:
            metrics.ENDED[decision.reason].inc()
            if decision.reason == "silence":
                # What has come behind it and is not decoded yet is time that has passed.
                metrics.VAD_END_SECONDS.observe(decision.silence_ms / 1000 + self.backlog_s)
            self._current.end(decision.position, decision.speech_ms)
            self._current = None

    def _deliver(self, utterance: Utterance) -> None:
        transcript = utterance.transcript
        assert transcript is not None
        self._speech_ms += utterance.speech_ms
        self._stream.event(
            Final(
                position=utterance.position,
                utterance=utterance.number,
                text=transcript.text,
                speech_ms=utterance.speech_ms,
                engine_ms=round(utterance.engine_ms, 1),
                language=transcript.language,
                speaker=utterance.speaker,
            )
        )

    # The way back

    def _credit(self, force: bool = False) -> None:
        acked = self._timeline.position
        if self._is_over or not (force or acked - self._acked >= self._credit_frames):
            return
        keep_sample = min((self._keep_sample, *(one.keep_sample for one in self._utterances)))
        self._acked, self._trim = acked, max(self._trim, self._timeline.trim(keep_sample))
        self._stream.credit(AsrCredit(acked, self._trim))

    def _finish_if_over(self) -> None:
        if self._has_ended and not self._utterances and not self._is_over:
            self._stream.done(
                frames=self._timeline.position - self._spec.position,
                speech_ms=self._speech_ms,
                bad_packets=self._decoder.bad_packets,
            )
            self._close()

    def _fail(self, error: EngineError) -> None:
        if not self._is_over:
            log.warning("listening_failed", session=self._spec.session, code=error.code)
            self._stream.error(error.code, retryable=error.retryable, message=str(error))
            self._close()

    def _close(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._pending.clear()
        for utterance in self._utterances:
            utterance.cancel()
        self._utterances.clear()
        self._current = None
        self._release()
