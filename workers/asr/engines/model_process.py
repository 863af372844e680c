"""A loaded model in its child process, seen from the worker: pipes on the loop, no thread.

Rules: many utterances are open on it at a time, each told its own answers by its number. If the child dies, everybody
who has one open gets a typed error. A child that owes an answer and says nothing for `stuck_s` is killed.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from asyncio.subprocess import Process
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgpack
import structlog

from shared.errors import EngineError
from workers.asr.engines.child import Word
from workers.asr.engines.engine import OnPartial, Transcript
from workers.asr.engines.process import READ_BYTES, loading, start_child

log = structlog.get_logger(__name__)

LOAD_S = 60.0
STUCK_S = 20.0
"""Longer than any utterance takes on a machine that is good enough for its model."""


MOST_THREADS = 4


def threads_of(asked: int) -> int:
    """What a section says; 0 = one a core that is ours, as more would only wait for each other."""
    return asked or min(MOST_THREADS, len(os.sched_getaffinity(0)))


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Which model, and how its child is started. Equal specs share one."""

    key: str
    """Tells one from another."""
    name: str
    """For logs and people."""
    module: str
    """With `make_model(options)`."""
    options: dict[str, Any] = field(compare=False)
    threads: int = 1
    variables: dict[str, str] = field(default_factory=dict, compare=False)
    """Of its environment."""
    load_s: float = LOAD_S


@dataclass(slots=True, eq=False)
class OpenUtterance:
    """One that the child knows of."""

    number: int
    on_partial: OnPartial
    on_failure: Callable[[EngineError], None]
    answer: asyncio.Future[Transcript]


class ModelProcess:
    """`on_end` is told once, when the child is gone, however that came about."""

    _numbers = itertools.count(1)

    def __init__(self, process: Process, spec: ModelSpec, on_end: Callable[[], None], stuck_s: float) -> None:
        self._process = process
        self._spec = spec
        self._on_end = on_end
        self._stuck_s = stuck_s
        self._open: dict[int, OpenUtterance] = {}
        self._owed: set[int] = set()
        """Utterances whose FINISH or CANCEL has not been answered."""
        self._watch: asyncio.TimerHandle | None = None
        self._is_gone = self._is_closed = False
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._reader = self._loop.create_task(self._read(), name=f"asr-model-{process.pid}")

    @classmethod
    async def spawn(cls, spec: ModelSpec, on_end: Callable[[], None], stuck_s: float = STUCK_S) -> ModelProcess:
        """Loaded and warm. Raises EngineError; `on_end` is not told then."""
        program = "workers.asr.engines.model_child"
        process = await start_child(program, spec.module, threads=spec.threads, **spec.variables)
        model = cls(process, spec, on_end, stuck_s)
        async with loading(model, spec.name, spec.load_s):
            model._send(Word.OPTIONS, 0, spec.options)
            await asyncio.shield(model._ready)
        return model

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_gone(self) -> bool:
        return self._is_gone or self._is_closed

    def begin(
        self, language: str | None, on_partial: OnPartial, on_failure: Callable[[EngineError], None]
    ) -> OpenUtterance:
        """`on_failure` is called if it fails while nobody waits for its text. Raises EngineError."""
        utterance = OpenUtterance(next(self._numbers), on_partial, on_failure, self._loop.create_future())
        self._send(Word.BEGIN, utterance.number, language)
        self._open[utterance.number] = utterance
        return utterance

    def feed(self, utterance: OpenUtterance, pcm: bytes) -> None:
        self._send(Word.PCM, utterance.number, pcm)

    async def finish(self, utterance: OpenUtterance) -> Transcript:
        if utterance.number in self._open:  # else it has failed, and its answer says how
            self._owe(Word.FINISH, utterance.number)
        return await utterance.answer

    def cancel(self, utterance: OpenUtterance) -> None:
        """What it still says is dropped; what has not been computed yet is not."""
        if self._open.pop(utterance.number, None) is not None and not self.is_gone:
            self._owe(Word.CANCEL, utterance.number)

    async def close(self) -> None:
        """Ends the child, a stuck one too; never raises."""
        self._is_closed = True
        self._stop_watch()
        if self._process.returncode is None:
            self._process.kill()
        self._reader.cancel()
        await asyncio.wait({self._reader})
        await self._process.wait()
        self._fail_all()
        assert self._process.stdin is not None
        self._process.stdin.close()

    def _owe(self, word: Word, number: int) -> None:
        self._send(word, number)
        self._owed.add(number)
        if self._watch is None:
            self._watch = self._loop.call_later(self._stuck_s, self._on_stuck)

    def _send(self, word: Word, number: int, payload: Any = None) -> None:
        if self.is_gone:
            raise self._death()
        assert self._process.stdin is not None
        self._process.stdin.write(msgpack.packb((int(word), number, payload)))

    async def _read(self) -> None:
        assert self._process.stdout is not None
        unpacker = msgpack.Unpacker(use_list=False)
        while data := await self._process.stdout.read(READ_BYTES):
            unpacker.feed(data)
            for word, number, payload in unpacker:
                self._on_message(word, number, payload)
            self._heard_from()
        self._lose()

    def _on_message(self, word: int, number: int, payload: Any) -> None:
        if word == Word.READY:
            self._ready.set_result(None)
            return
        if word == Word.FAILED:
            log.error("recogniser_raised", child=self._spec.module, error=payload)
        if word != Word.PARTIAL:
            self._owed.discard(number)
        utterance = self._open.get(number)
        if utterance is None:
            return
        if word == Word.PARTIAL:
            utterance.on_partial(payload)
            return
        del self._open[number]
        if word == Word.FINAL:
            text, compute_s, language = payload
            _answer(utterance, Transcript(text, language, compute_s))
        elif word == Word.FAILED:
            _fail(utterance, EngineError(f"{self._spec.module} raised", code="engine_raised", retryable=True))

    def _heard_from(self) -> None:
        self._stop_watch()
        if self._owed:
            self._watch = self._loop.call_later(self._stuck_s, self._on_stuck)

    def _stop_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _on_stuck(self) -> None:
        self._watch = None
        log.error("recogniser_stuck", child=self._spec.module, pid=self.pid, seconds=self._stuck_s)
        self._process.kill()

    def _lose(self) -> None:
        self._is_gone = True
        self._stop_watch()
        if not self._ready.done():
            self._ready.set_exception(self._death())
            self._ready.exception()  # nobody may be waiting
        elif not self._is_closed:
            log.warning("recogniser_lost", child=self._spec.module, pid=self.pid)
        self._fail_all()
        if not self._is_closed:
            self._on_end()

    def _fail_all(self) -> None:
        utterances, self._open = self._open, {}
        for utterance in utterances.values():
            _fail(utterance, self._death())

    def _death(self) -> EngineError:
        return EngineError(f"{self._spec.module} is gone", code="engine_died", retryable=True)


def _answer(utterance: OpenUtterance, transcript: Transcript) -> None:
    if not utterance.answer.done():
        utterance.answer.set_result(transcript)


def _fail(utterance: OpenUtterance, error: EngineError) -> None:
    if not utterance.answer.done():
        utterance.answer.set_exception(error)
        utterance.answer.exception()  # nobody may be waiting
    utterance.on_failure(error)
