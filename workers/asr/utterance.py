"""One utterance on its way through a recogniser, and through the next one if that fails.

Rules
- Sound that comes before a recogniser is free waits here; it stays here as long as it may have to be heard again.
- A service that failed in passing is asked once more, one time in an utterance. After that, and after any other
  failure, the next engine of the chain gets the whole sound at once, and what comes after it as it comes.
- From the end of speech the text must be there within the chain's deadlines, whatever recognisers do.
- It ends in exactly one of `on_text` and `on_failure`, or in neither if cancelled.
- A recogniser that starts anew tells no partial that is shorter than the one told last, until it has caught up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from shared.errors import EngineError
from shared.upstream.retry import with_one_retry
from workers.asr import metrics
from workers.asr.chain import Candidate, RecognitionChain
from workers.asr.engines.engine import Brief, EndOwner, Recogniser, RemoteEngine, Transcript
from workers.asr.kept_sound import KeptSound
from workers.asr.recognisers import Outcome, Recognisers
from workers.asr.timeline import RATE_HZ
from workers.asr.voiceprint.speakers import Speakers

log = structlog.get_logger(__name__)

BYTES_PER_S = RATE_HZ * 2

SPEAKER_SPARE_S = 0.25
"""So long before the deadline nobody is waited for who is not needed."""

RETRY_LEFT_S = 0.5
"""With less than this before its deadline an engine is not asked again: the next one makes better use of it."""


@dataclass(frozen=True, slots=True)
class Recognition:
    """By what the utterances of a stream are recognised, and how long after the end of speech it may take."""

    recognisers: Recognisers
    engine: str
    deadline_s: float
    """Of engines that compute here."""
    upstream_deadline_s: float = 8.0
    """Of services outside."""
    fallbacks: Sequence[str] = ()
    """Who is asked in turn when `engine` fails."""
    speakers: Speakers | None = None
    """Whose voices are told apart."""

    def chain(self) -> RecognitionChain:
        names = dict.fromkeys((self.engine, *self.fallbacks))
        return RecognitionChain([self._candidate(name) for name in names], self.deadline_s, self.upstream_deadline_s)

    def _candidate(self, name: str) -> Candidate:
        engine = self.recognisers.engines[name]
        return Candidate(name, True, engine.endpoint) if isinstance(engine, RemoteEngine) else Candidate(name)


class Listener(Protocol):
    """Who is told, on the loop."""

    def on_partial(self, utterance: Utterance, text: str) -> None: ...

    def on_endpoint(self, utterance: Utterance, at_ms: int | None) -> bool:
        """The engine that owns the end of speech has found it, so far from the utterance's first sample.

        True: the utterance ends there. False: it does not, or not for that.
        """

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
        self.speaker: str | None = None
        self._voice = recognition.speakers.listen(brief.session) if recognition.speakers is not None else None
        self._brief = brief
        self._recognisers = recognition.recognisers
        self._chain = recognition.chain()
        self._listener = listener
        self._sound = KeptSound()
        self._recogniser: Recogniser | None = None
        self._attempt = 0
        self._is_repeat = self._has_repeated = self._is_catching_up = self._is_cancelled = False
        self._has_failed = False
        self._is_over = asyncio.Event()
        """Speech is over."""
        self._fed_bytes = 0
        self._partial = ""
        self._loop = asyncio.get_running_loop()
        self._began_s = self._loop.time()
        self._ended_s: float | None = None
        self._ended: asyncio.Future[None] = self._loop.create_future()
        """Of the attempt: speech is over, or its recogniser has failed before."""
        self._timeout: asyncio.Timeout | None = None
        self._task = self._loop.create_task(self._run(), name=f"utterance-{brief.session}-{brief.utterance}")

    @property
    def end_owner(self) -> EndOwner:
        """Who finds its end of speech."""
        return "own" if self._has_failed else self._chain.current.endpoint

    @property
    def kept_bytes(self) -> int:
        """Sound that is held for a recogniser to come."""
        return self._sound.size_bytes

    def feed(self, pcm: bytes, position: int) -> None:
        self.position = position
        if not pcm:
            return
        self._fed_bytes += len(pcm)
        self._sound.add(pcm)
        if self._voice is not None:
            self._voice.add(pcm)
        if self._recogniser is None:
            return
        try:
            self._recogniser.feed(pcm)
        except EngineError as error:
            self._on_loss(error)

    def end(self, position: int, speech_ms: int) -> None:
        """Speech is over; the clock runs."""
        self.position, self.speech_ms = position, speech_ms
        self._ended_s = self._loop.time()
        self._is_over.set()
        if self._voice is not None:
            self._voice.end()
        if self._timeout is not None:
            self._timeout.reschedule(self._due_s())
        if not self._ended.done():
            self._ended.set_result(None)

    def cancel(self) -> None:
        self._is_cancelled = True
        self._task.cancel()
        self._let_go()

    async def _run(self) -> None:
        try:
            transcript = await self._recognise()
            self._count(transcript)
            self.speaker = await self._speaker_of(transcript)
            self.transcript = transcript
        except EngineError as error:
            metrics.FAILURES.labels(error.code).inc()
            await self._said_out(error)
            self._listener.on_failure(self, error)
        else:
            self._listener.on_text(self)
        finally:
            self._let_go()

    async def _said_out(self, error: EngineError) -> None:
        self._has_failed = True
        self._let_go()
        if not error.retryable:
            await self._is_over.wait()

    async def _recognise(self) -> Transcript:
        while True:
            error = await self._tried()
            if isinstance(error, Transcript):
                return error
            failed, has_next = self._chain.current.engine, self._chain.fail(error)
            if not has_next or not self._sound.is_whole:
                raise self._chain.verdict()
            self._is_repeat = False
            metrics.FALLBACKS.labels(failed).inc()
            log.warning("asr_fallback", engine=failed, code=error.code, next=self._chain.current.engine)

    async def _tried(self) -> Transcript | EngineError:
        """What the chain's current engine makes of it."""
        upstream = f"ASR.{self._chain.current.engine}"
        try:
            async with asyncio.timeout_at(self._due_s()) as self._timeout:
                return await with_one_retry(self._ask, is_safe=self._may_repeat, upstream=upstream)
        except EngineError as error:
            return error
        except TimeoutError:
            return self._chain.late()
        except Exception as error:  # an engine's bug: the next one takes over
            log.exception("utterance_failed", error=type(error).__name__)
            return EngineError(type(error).__name__, code="internal")
        finally:
            self._timeout = None

    def _due_s(self) -> float | None:
        """Loop time by which the current engine must have the text; None before the end of speech."""
        if self._ended_s is None:
            return None
        return self._ended_s + self._chain.due_s(self._loop.time() - self._ended_s)

    def _may_repeat(self) -> bool:
        if self._has_repeated or not self._sound.is_whole:
            return False
        due_s = self._timeout.when() if self._timeout is not None else None
        return due_s is None or due_s - self._loop.time() >= RETRY_LEFT_S

    async def _ask(self) -> Transcript:
        """One attempt of one recogniser."""
        self._has_repeated, self._is_repeat = self._has_repeated or self._is_repeat, True
        self._attempt += 1
        self._is_catching_up = bool(self._partial)
        self._ended = self._loop.create_future()
        if self._ended_s is not None:
            self._ended.set_result(None)
        engine = self._chain.current.engine
        self._recogniser = recogniser = await self._recognisers.take(engine, self._on_loss)
        outcome = Outcome.BROKEN
        try:
            transcript = await self._hear(recogniser)
            outcome = Outcome.IDLE
            return transcript
        except asyncio.CancelledError:
            outcome = Outcome.UNFINISHED if self._is_cancelled else Outcome.BROKEN
            raise
        finally:
            self._recogniser = None
            self._recognisers.give_back(engine, recogniser, outcome)

    async def _hear(self, recogniser: Recogniser) -> Transcript:
        attempt = self._attempt

        def on_partial(text: str) -> None:
            if attempt == self._attempt and self._recogniser is not None:
                self._on_partial(text)

        def on_endpoint(at_ms: int | None) -> bool:
            is_wanted = attempt == self._attempt and self._ended_s is None and self.end_owner == "upstream"
            return is_wanted and self._listener.on_endpoint(self, at_ms)

        if not self._sound.is_whole:
            raise EngineError("too much sound waits for a recogniser", code="asr_overloaded")
        recogniser.begin(replace(self._brief, on_endpoint=on_endpoint), on_partial)
        for pcm in self._sound:
            recogniser.feed(pcm)
        if not self._chain.can_repeat:
            self._sound.let_go()
        await self._ended
        return await recogniser.finish()

    def _on_loss(self, error: EngineError) -> None:
        """Between `begin` and the end of speech; after it `finish` fails."""
        if not self._ended.done():
            self._ended.set_exception(error)
            self._ended.exception()  # nobody may be waiting

    def _on_partial(self, text: str) -> None:
        text = text.strip()
        if not text or text == self._partial:
            return
        if self._is_catching_up and len(text) < len(self._partial):
            return
        self._is_catching_up = False
        if not self._partial:
            metrics.FIRST_PARTIAL_SECONDS.observe(self._loop.time() - self._began_s)
        self._partial = text
        self._listener.on_partial(self, text)

    def _count(self, transcript: Transcript) -> None:
        assert self._ended_s is not None
        if self._fed_bytes and transcript.compute_s is not None:
            metrics.REALTIME_FACTOR.observe(transcript.compute_s / (self._fed_bytes / BYTES_PER_S))
        seconds = self._loop.time() - self._ended_s
        self.engine_ms = seconds * 1000
        metrics.FINAL_SECONDS.observe(seconds)

    async def _speaker_of(self, transcript: Transcript) -> str | None:
        """Who said it, if that is known in time: it is no reason to miss the deadline."""
        due_s = self._due_s()
        if self._voice is None or due_s is None or not transcript.text.strip():
            return None
        return await self._voice.speaker(due_s - SPEAKER_SPARE_S - self._loop.time())

    def _let_go(self) -> None:
        self._sound.let_go()
        if self._voice is not None:
            self._voice.drop()
