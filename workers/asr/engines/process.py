"""A recogniser in a child process, seen from the worker: pipes on the loop, no thread.

Rules: every answer carries the number of the utterance it belongs to, so what a cancelled one still says is dropped.
When the child dies, who waits gets a typed error and `on_loss` is called; `close` kills.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

import msgpack
import structlog

from shared.errors import EngineError
from workers.asr.engines.child import Word
from workers.asr.engines.engine import Brief, OnLoss, OnPartial, Transcript

log = structlog.get_logger(__name__)

READY_TIMEOUT_S = 30.0
READ_BYTES = 64 * 1024
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


async def start_child(program: str, module: str, *, threads: int = 1, **variables: str) -> Process:
    """`program` in a process of its own, to load `module`; libraries have so many threads. Raises EngineError."""
    command = (sys.executable, "-m", program, module, str(os.getpid()))
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads)) | variables
    try:
        return await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, env=environment)
    except OSError as error:
        raise EngineError(f"cannot start {module}: {error.strerror}", code="engine_start") from error


class Child(Protocol):
    async def close(self) -> None: ...


@asynccontextmanager
async def loading(child: Child, name: str, within_s: float) -> AsyncIterator[None]:
    """Around what waits until a child is ready: one that is not in time, or dies, is closed. Raises EngineError."""
    try:
        async with asyncio.timeout(within_s):
            yield
    except BaseException as error:
        await child.close()
        if isinstance(error, TimeoutError | EngineError):
            raise EngineError(f"{name} did not become ready", code="engine_start") from error
        raise


class ChildRecogniser:
    """One child, one utterance at a time."""

    _numbers = itertools.count(1)

    def __init__(self, process: Process, name: str, on_loss: OnLoss) -> None:
        self._process = process
        self._name = name
        self._on_loss = on_loss
        self._on_partial: OnPartial = lambda text: None
        self._utterance = 0
        self._language: str | None = None
        self._is_lost = self._is_closed = False
        self._failure = "engine_died"
        loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[Any] = loop.create_future()
        self._reader = loop.create_task(self._read(), name=f"asr-child-{process.pid}")

    @classmethod
    async def spawn(cls, module: str, options: dict[str, Any], on_loss: OnLoss) -> ChildRecogniser:
        """A child that runs `module`'s decoder, loaded and warm. Raises EngineError."""
        child = cls(await start_child("workers.asr.engines.child", module), module, on_loss)
        async with loading(child, module, READY_TIMEOUT_S):
            child._send(Word.OPTIONS, 0, options)
            await child._answer
        return child

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_usable(self) -> bool:
        return not (self._is_lost or self._is_closed)

    def begin(self, brief: Brief, on_partial: OnPartial) -> None:
        self._utterance = next(self._numbers)
        self._on_partial = on_partial
        self._language = brief.language
        self._send(Word.BEGIN)

    def feed(self, pcm: bytes) -> None:
        self._send(Word.PCM, payload=pcm)

    async def finish(self) -> Transcript:
        text, compute_s = await self._ask(Word.FINISH)
        return Transcript(text, compute_s=compute_s)

    async def cancel(self) -> None:
        await self._ask(Word.CANCEL)

    async def close(self) -> None:
        self._is_closed = True
        if self._process.returncode is None:
            self._process.kill()
        self._reader.cancel()
        await asyncio.wait({self._reader})
        await self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def _ask(self, word: Word) -> Any:
        self._answer = asyncio.get_running_loop().create_future()
        self._send(word)
        return await self._answer

    def _send(self, word: Word, utterance: int | None = None, payload: Any = None) -> None:
        if not self.is_usable:
            raise self._error()
        assert self._process.stdin is not None
        number = self._utterance if utterance is None else utterance
        self._process.stdin.write(msgpack.packb((int(word), number, payload)))

    async def _read(self) -> None:
        assert self._process.stdout is not None
        unpacker = msgpack.Unpacker(use_list=False)
        while data := await self._process.stdout.read(READ_BYTES):
            unpacker.feed(data)
            for word, utterance, payload in unpacker:
                self._on_message(word, utterance, payload)
        self._lose()

    def _on_message(self, word: int, utterance: int, payload: Any) -> None:
        if word == Word.FAILED:
            log.error("recogniser_raised", child=self._name, error=payload)
            self._failure = "engine_raised"
        elif utterance != self._utterance:
            return
        elif word == Word.PARTIAL:
            self._on_partial(payload)
        elif not self._answer.done():
            self._answer.set_result(payload)

    def _lose(self) -> None:
        self._is_lost = True
        if not self._answer.done():
            self._answer.set_exception(self._error())
            self._answer.exception()  # nobody may be waiting
        if not self._is_closed:
            log.warning("recogniser_lost", child=self._name, pid=self._process.pid)
            self._on_loss(self._error())

    def _error(self) -> EngineError:
        return EngineError(f"{self._name} is gone", code=self._failure, retryable=True)
