"""What a service outside says, on its way from the event loop to a compute thread.

* `RemoteSpeech` is one segment: a task on the loop reads the pieces as they come, a compute thread takes them as
  samples. Nobody polls: the thread does other work while there is nothing, and is asked again when a frame is there.
* Sound that waits to be encoded is bounded. Beyond that the service is not read until half of it is gone; no deadline
  of the service's runs meanwhile, because nobody waits for it.
* A cancel is one call: the task is cancelled where it stands, so the engine tells the service, or closes the
  connection, at once. Whatever still comes is dropped. That closing has a bound and an owner, `RemoteTasks`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any

import numpy as np
import structlog

from shared.errors import EngineError
from shared.upstream.faults import GIVEN_UP, Code, Kind, UpstreamError
from workers.tts import metrics
from workers.tts.engine import Later, Pcm, RemoteEngine, SpeechRequest
from workers.tts.opus import FRAME_MS

log = structlog.get_logger(__name__)

AHEAD_S = 20.0
"""Sound that may wait to be encoded, beyond what credit has let through already."""
CLOSE_WITHIN_S = 1.0
"""An engine that takes longer to let go of a cancelled segment is cancelled again, and that is counted."""
SAMPLE_BYTES = 2
BATCH_FRAMES = 16
"""Taken by a compute thread at once: as much as one step makes."""

_NOTHING_YET = Later(0)


class Int16Stream:
    """Bytes of s16le, cut anywhere, to samples; the odd byte is kept for the next piece."""

    def __init__(self) -> None:
        self._odd = b""

    def samples(self, piece: bytes) -> Pcm:
        data = self._odd + piece if self._odd else piece
        whole = len(data) - len(data) % SAMPLE_BYTES
        self._odd = data[whole:]
        pcm: Pcm = np.frombuffer(data[:whole], "<i2").astype(np.float32)
        pcm *= np.float32(1 / 32768)
        return pcm


class RemoteTasks:
    """Owns every task that reads a service, until it has really ended."""

    def __init__(self, close_within_s: float = CLOSE_WITHIN_S) -> None:
        self._close_within_s = close_within_s
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, reading: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(reading, name="tts-remote")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        metrics.REMOTE_SEGMENTS.set(len(self._tasks))
        return task

    def cancel(self, task: asyncio.Task[None], *, given_up: bool = False) -> None:
        """At once; returns before the engine has let go. `given_up`: because nothing came for too long."""
        if task.done():
            return
        task.cancel(GIVEN_UP if given_up else None)
        asyncio.get_running_loop().call_later(self._close_within_s, self._insist, task)

    async def close(self) -> None:
        """Cancel all and wait for them, within the bound."""
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=self._close_within_s)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        metrics.REMOTE_SEGMENTS.set(len(self._tasks))

    def _insist(self, task: asyncio.Task[None]) -> None:
        if not task.done():
            metrics.CLOSES_LATE.inc()
            log.warning("tts_remote_close_late", after_s=self._close_within_s)
            task.cancel()


class RemoteSpeech:
    """One segment of a remote engine. An iterator for one compute thread at a time; all else is the loop's.

    The iterator gives Pcm; Later when there is nothing yet; and at the end raises what the service's failure was,
    behind the sound that came before it.
    """

    def __init__(
        self, engine: RemoteEngine, request: SpeechRequest, on_due: Callable[[], None], *, ahead_s: float = AHEAD_S
    ) -> None:
        self._engine = engine
        self._request = request
        self._on_due = on_due
        self._frame_bytes = engine.sample_rate * FRAME_MS // 1000 * SAMPLE_BYTES
        self._ahead_bytes = int(ahead_s * engine.sample_rate) * SAMPLE_BYTES
        self._pieces: deque[bytes] = deque()
        self._received = 0
        self._taken = 0
        """Written by the compute thread, read by both."""
        self._int16 = Int16Stream()
        self._room = asyncio.Event()
        self.fault: EngineError | None = None
        """Why it has ended, if not well."""
        self._has_ended = False
        """Set last: what the loop knows of the end is then in its place."""

    # The loop's

    @property
    def is_due(self) -> bool:
        """A compute thread would find a frame more, or the end."""
        return self._has_ended or self._received // self._frame_bytes > self._taken // self._frame_bytes

    @property
    def has_frame(self) -> bool:
        """Sound has come, enough to be heard."""
        return self._received >= self._frame_bytes

    @property
    def waiting_bytes(self) -> int:
        return self._received - self._taken

    async def read(self) -> None:
        """The task's body: until the service has said everything, or failed."""
        fault: EngineError | None = None
        try:
            async with aclosing(self._engine.speak(self._request)) as pieces:
                async for piece in pieces:
                    await self._put(piece)
            if not self._received:
                fault = UpstreamError("the upstream finished without sound", code=Code.NO_RESULT, kind=Kind.INPUT)
        except EngineError as error:
            fault = error
        except Exception as error:  # the task's root: the segment fails, its text stays out of the log
            fault = EngineError(f"the engine raised {type(error).__name__}", code="engine_failed", retryable=True)
        self.fault = fault
        self._has_ended = True
        self._on_due()

    def on_taken(self) -> None:
        """A compute thread has taken some: read on if that made room."""
        if self.waiting_bytes <= self._ahead_bytes // 2:
            self._room.set()

    async def _put(self, piece: bytes) -> None:
        was_due = self.is_due
        most = BATCH_FRAMES * self._frame_bytes
        for start in range(0, len(piece), most):
            self._pieces.append(piece[start : start + most])
        self._received += len(piece)
        if self.is_due and not was_due:
            self._on_due()
        if self.waiting_bytes >= self._ahead_bytes:
            self._room.clear()
            await self._room.wait()

    # The compute thread's

    def __iter__(self) -> RemoteSpeech:
        return self

    def __next__(self) -> Pcm | Later:
        has_ended = self._has_ended  # looked at first: what came before the end is then among the pieces
        data = self._take()
        if data:
            return self._int16.samples(data)
        if not has_ended:
            return _NOTHING_YET
        if self.fault is not None:
            raise self.fault
        raise StopIteration

    def _take(self) -> bytes:
        taken: list[bytes] = []
        size, most = 0, BATCH_FRAMES * self._frame_bytes
        while self._pieces and size < most:
            taken.append(self._pieces.popleft())
            size += len(taken[-1])
        self._taken += size
        return b"".join(taken)
