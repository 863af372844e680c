"""One utterance on its way through a recogniser.

Rules: audio that comes before a recogniser is free waits here. From the end of speech the text must be there within
the deadline, whatever the recogniser does. It ends in exactly one of `on_text` and `on_failure`, or in neither if
cancelled.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

import structlog

from shared.errors import EngineError
from workers.asr import metrics
from workers.asr.engines.engine import Brief, Recogniser, Transcript
from workers.asr.recognisers import Outcome, Recognisers
from workers.asr.timeline import RATE_HZ

log = structlog.get_logger(__name__)

BYTES_PER_S = RATE_HZ * 2


@dataclass(frozen=True, slots=True)
class Recognition:
    """By what the utterances of a stream are recognised, and how long after the end of speech it may take."""

    recognisers: Recognisers
    engine: str
    deadline_s: float


class Listener(Protocol):
    """Who is told, on the loop."""

    def on_partial(self, utterance: Utterance, text: str) -> None: ...

    def on_text(self, utterance: Utterance) -> None: ...

    def on_failure(self, utterance: Utterance, error: EngineError) -> None:
        """It will not have a text; the listener cancels it."""


class Utterance:
    """Owns its task, and the recogniser while it has one."""

    def __init__(self, brief: Brief, recognition: Recognition, listener: Listener, keep_sample: int) -> None:
        self.number = brief.utterance
        self.keep_sample = keep_sample
        """Audio from here on is needed until its text is out."""
        self.position = 0
        """Frames before it have been fed; in the end, where it ended."""
        self.speech_ms = 0
        self.engine_ms = 0.0
        self.transcript: Transcript | None = None
        self._brief = brief
        self._recognition = recognition
        self._listener = listener
        self._recogniser: Recogniser | None = None
        self._outcome = Outcome.UNFINISHED
        self._waiting: list[bytes] = []
        self._fed_bytes = 0
        self._partial = ""
        self._loop = asyncio.get_running_loop()
        self._began_s = self._loop.time()
        self._ended_s: float | None = None
        self._ended = asyncio.Event()
        self._timeout: asyncio.Timeout | None = None
        self._task = self._loop.create_task(self._run(), name=f"utterance-{brief.session}-{brief.utterance}")

    def feed(self, pcm: bytes, position: int) -> None:
        self.position = position
        if not pcm:
            return
        self._fed_bytes += len(pcm)
        if self._recogniser is None:
            self._waiting.append(pcm)
            return
        try:
            self._recogniser.feed(pcm)
        except EngineError as error:
            self._fail(error)

    def end(self, position: int, speech_ms: int) -> None:
        """Speech is over; the clock runs."""
        self.position, self.speech_ms = position, speech_ms
        self._ended_s = self._loop.time()
        self._ended.set()
        if self._timeout is not None:
            self._timeout.reschedule(self._ended_s + self._recognition.deadline_s)

    def cancel(self) -> None:
        self._task.cancel()

    async def _run(self) -> None:
        try:
            self.transcript = await self._recognise_in_time()
        except EngineError as error:
            self._fail(error)
        except TimeoutError:
            self._fail(EngineError("no text within the deadline", code="asr_timeout", retryable=True))
        except Exception as error:
            log.exception("utterance_failed", error=type(error).__name__)
            self._fail(EngineError(type(error).__name__, code="internal"))
        else:
            self._succeed()
        finally:
            self._let_go()

    async def _recognise_in_time(self) -> Transcript:
        try:
            async with asyncio.timeout(None) as self._timeout:
                if self._ended_s is not None:
                    self._timeout.reschedule(self._ended_s + self._recognition.deadline_s)
                return await self._recognise()
        finally:
            self._timeout = None

    async def _recognise(self) -> Transcript:
        self._recogniser = recogniser = await self._recognition.recognisers.take(self._recognition.engine, self._fail)
        recogniser.begin(self._brief, self._on_partial)
        for pcm in self._waiting:
            recogniser.feed(pcm)
        self._waiting.clear()
        await self._ended.wait()
        return await recogniser.finish()

    def _on_partial(self, text: str) -> None:
        text = text.strip()
        if not text or text == self._partial or self._recogniser is None:
            return
        if not self._partial:
            metrics.FIRST_PARTIAL_SECONDS.observe(self._loop.time() - self._began_s)
        self._partial = text
        self._listener.on_partial(self, text)

    def _succeed(self) -> None:
        assert self._ended_s is not None and self.transcript is not None
        if self._fed_bytes and self.transcript.compute_s is not None:
            metrics.REALTIME_FACTOR.observe(self.transcript.compute_s / (self._fed_bytes / BYTES_PER_S))
        seconds = self._loop.time() - self._ended_s
        self.engine_ms = seconds * 1000
        metrics.FINAL_SECONDS.observe(seconds)
        self._outcome = Outcome.IDLE
        self._let_go()
        self._listener.on_text(self)

    def _fail(self, error: EngineError) -> None:
        if self._outcome is Outcome.BROKEN:
            return
        metrics.FAILURES.labels(error.code).inc()
        self._outcome = Outcome.BROKEN
        self._listener.on_failure(self, error)

    def _let_go(self) -> None:
        if self._recogniser is not None:
            recogniser, self._recogniser = self._recogniser, None
            self._recognition.recognisers.give_back(self._recognition.engine, recogniser, self._outcome)
