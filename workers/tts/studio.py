"""Where segments are made: the cache, the segments in the making, their order, and the compute threads.

A segment asked for twice at once is made once. A segment is queued while a stream could be sent frames that are not
made yet, and not otherwise: no credit, no computing. One that nobody waits for any more is dropped at its next batch.
A service outside is asked as soon as somebody wants its segment, and takes a thread only to encode what has come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import structlog

from shared.errors import EngineError
from shared.upstream.faults import Code
from workers.tts import metrics
from workers.tts.cache import SegmentCache, SegmentKey
from workers.tts.compute import ComputePool
from workers.tts.delivery import FRAME_S, Delivery
from workers.tts.engine import AnyEngine
from workers.tts.jobs import DueQueue
from workers.tts.remote import RemoteTasks
from workers.tts.synthesis import Synthesis

log = structlog.get_logger(__name__)


class Listener(Protocol):
    """A stream that waits for a segment. `on_*` are called on the loop."""

    delivery: Delivery

    @property
    def has_another(self) -> bool:
        """It was sent nothing, and there is another engine that can speak all of it."""

    def on_frames(self, frames: Sequence[bytes]) -> None:
        """There are more frames; `frames` is the whole segment so far."""

    def on_made(self, frames: Sequence[bytes], synth_s: float, *, cached: bool) -> None:
        """These are all frames."""

    def on_failed(self, error: EngineError) -> None:
        """There will be no more frames."""


class Studio:
    """All methods are the event loop's."""

    def __init__(self, pool: ComputePool, cache: SegmentCache, complexity: int) -> None:
        self._pool = pool
        self._cache = cache
        self._complexity = complexity
        self._queue: DueQueue[Synthesis] = DueQueue()
        self._in_making: dict[SegmentKey, Synthesis] = {}
        self._listeners: dict[Synthesis, list[Listener]] = {}
        self._made_by: dict[Listener, Synthesis] = {}
        self._remotes = RemoteTasks()
        pool.on_idle = self._dispatch

    def join(self, listener: Listener, key: SegmentKey, engine: AnyEngine, owner: str) -> None:
        """Give the listener this segment's frames, from wherever they come soonest. `owner`: its session."""
        frames = self._cache.get(key)
        if frames is not None:
            metrics.CACHE_HIT.inc()
            listener.on_made(frames, 0.0, cached=True)
            return
        synthesis = self._in_making.get(key)
        (metrics.CACHE_SHARED if synthesis else metrics.CACHE_MISS).inc()
        if synthesis is None:
            synthesis = self._in_making[key] = Synthesis(key, engine, self._complexity, self._on_frames)
            self._listeners[synthesis] = []
            synthesis.begin(owner, self._remotes, self._on_due)
        self._listeners[synthesis].append(listener)
        self._made_by[listener] = synthesis
        listener.on_frames(synthesis.frames)
        self._schedule(synthesis)

    def on_credit(self, listener: Listener) -> None:
        """The listener has more credit."""
        synthesis = self._made_by.get(listener)
        if synthesis is not None:
            listener.on_frames(synthesis.frames)
            self._schedule(synthesis)

    def leave(self, listener: Listener, *, given_up: bool = False) -> None:
        """The listener wants no more of this segment. `given_up`: because nothing came for too long."""
        synthesis = self._made_by.pop(listener, None)
        if synthesis is None:
            return
        self._listeners[synthesis].remove(listener)
        if self._listeners[synthesis]:
            self._schedule(synthesis)
            return
        metrics.WASTED_FRAMES.inc(max(0, len(synthesis.frames) - listener.delivery.position))
        self._forget(synthesis)
        synthesis.cancel(given_up=given_up)

    async def close(self) -> None:
        """No service outside is read any more. The pool has been closed."""
        await self._remotes.close()

    def _on_due(self, synthesis: Synthesis) -> None:
        """A service outside has given something, or ended."""
        fault = synthesis.early_fault
        if synthesis.cancelled or synthesis.running:
            return
        if fault is not None and (not synthesis.has_sound or self._is_wholly_spared(synthesis)):
            self._fail(synthesis, fault)
        else:
            self._schedule(synthesis)

    def _is_wholly_spared(self, synthesis: Synthesis) -> bool:
        """The beginning of a segment is worth less than all of it from another engine, if everybody has one."""
        return all(listener.has_another for listener in self._listeners[synthesis])

    def _schedule(self, synthesis: Synthesis) -> None:
        """Queue it if a listener wants more than is made, with the due time of the most urgent."""
        if synthesis.running or synthesis.finished or synthesis.cancelled or synthesis.is_waiting:
            return
        made = len(synthesis.frames)
        wanting = [other.delivery for other in self._listeners[synthesis] if other.delivery.wants_more_than(made)]
        if not wanting:
            self._queue.discard(synthesis)
            return
        due_s = min(delivery.due_s for delivery in wanting)
        self._queue.put(synthesis.key.engine, synthesis, due_s)
        self._dispatch()

    def _dispatch(self) -> None:
        while self._pool.has_idle:
            synthesis = self._queue.take(self._pool.stuck_lanes)
            if synthesis is None:
                break
            self._start_step(synthesis)
        metrics.QUEUE_DEPTH.set(len(self._queue))
        metrics.THREADS_BUSY.set(self._pool.busy)

    def _start_step(self, synthesis: Synthesis) -> None:
        synthesis.running = True
        self._pool.run(
            synthesis.key.engine,
            synthesis.step,
            lambda error: self._on_step(synthesis, error),
            slow_after_s=getattr(synthesis.engine, "slow_after_s", None),
        )

    def _on_frames(self, synthesis: Synthesis, packets: list[bytes]) -> None:
        metrics.FRAMES.inc(len(packets))
        if synthesis.cancelled:
            metrics.WASTED_FRAMES.inc(len(packets))
            return
        synthesis.frames.extend(packets)
        for listener in list(self._listeners[synthesis]):
            listener.on_frames(synthesis.frames)

    def _on_step(self, synthesis: Synthesis, error: BaseException | None) -> None:
        synthesis.on_stepped()
        if synthesis.cancelled:
            synthesis.release()
        elif error is not None:
            self._fail(synthesis, error)
        elif synthesis.exhausted:
            self._finish(synthesis)
        elif synthesis.wait_ms:
            synthesis.is_paused = True
            asyncio.get_running_loop().call_later(synthesis.wait_ms / 1000, self._on_waited, synthesis)
        else:
            self._schedule(synthesis)

    def _on_waited(self, synthesis: Synthesis) -> None:
        synthesis.is_paused = False
        if not synthesis.cancelled:
            self._schedule(synthesis)

    def _finish(self, synthesis: Synthesis) -> None:
        synthesis.finished = True
        self._cache.put(synthesis.key, synthesis.frames)
        metrics.CACHE_BYTES.set(self._cache.bytes)
        if synthesis.frames:
            metrics.REALTIME_FACTOR.observe(synthesis.synth_s / (len(synthesis.frames) * FRAME_S))
        for listener in self._forget(synthesis):
            listener.on_made(synthesis.frames, synthesis.synth_s, cached=False)

    def _fail(self, synthesis: Synthesis, error: BaseException) -> None:
        reason = _engine_error(error)
        if reason.code != Code.OPEN:  # one that is known to fail is not asked, a hundred times a minute
            log.warning("tts_engine_failed", engine=synthesis.key.engine, code=reason.code, error=type(error).__name__)
        listeners = self._forget(synthesis)
        synthesis.cancel()
        for listener in listeners:
            listener.on_failed(reason)

    def _forget(self, synthesis: Synthesis) -> list[Listener]:
        """Take it off every table; returns who was listening."""
        self._queue.discard(synthesis)
        if self._in_making.get(synthesis.key) is synthesis:
            del self._in_making[synthesis.key]
        listeners = self._listeners.pop(synthesis, [])
        for listener in listeners:
            self._made_by.pop(listener, None)
        return listeners


def _engine_error(error: BaseException) -> EngineError:
    """An engine's own error as it is; of any other only the kind, because its message may quote the text."""
    if isinstance(error, EngineError):
        return error
    return EngineError(f"the engine raised {type(error).__name__}", code="engine_failed", retryable=True)
