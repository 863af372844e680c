"""The worker's recognisers: scarce, so each is taken when speech begins and given back with its text.

Rules: a recogniser at work has a seat. Engines that compute here share `seats`; an engine that costs this machine
little has a number of its own. First come, first served; who waits longer than `wait_s` is refused with `asr_busy`. One
that fails, is stuck or dies is closed and made anew before its seat is free again. Recognisers of an engine that takes
long to load are made before the worker serves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping
from enum import Enum, auto
from typing import Any

import structlog
from prometheus_client import Counter

from shared.errors import EngineError
from workers.asr import metrics
from workers.asr.engines.engine import Engine, OnLoss, Recogniser

log = structlog.get_logger(__name__)

WAIT_S = 0.3
CANCEL_TIMEOUT_S = 1.0
"""A recogniser that cannot leave an utterance in this time is stuck."""


class Outcome(Enum):
    """How an utterance left its recogniser."""

    IDLE = auto()
    """Ready for the next one."""
    UNFINISHED = auto()
    """Still in an utterance that nobody wants any more."""
    BROKEN = auto()
    """Raised, or missed its deadline."""


class Recognisers:
    """Shared by all streams of a worker."""

    def __init__(
        self,
        engines: Mapping[str, Engine],
        seats: int,
        *,
        own_seats: Mapping[str, int] | None = None,
        wait_s: float = WAIT_S,
        cancel_timeout_s: float = CANCEL_TIMEOUT_S,
    ) -> None:
        self.engines = engines
        own = own_seats or {}
        shared = asyncio.Semaphore(seats)
        self._count = {name: own.get(name, seats) for name in engines}
        self._seats = {name: asyncio.Semaphore(own[name]) if name in own else shared for name in engines}
        self._wait_s = wait_s
        self._cancel_timeout_s = cancel_timeout_s
        self._idle: dict[str, list[Recogniser]] = {name: [] for name in engines}
        self._holders: dict[Recogniser, OnLoss] = {}
        """Whom to tell when one that is at work dies."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def start(self, default: str) -> None:
        """Make the default engine's recognisers (one if they are quick to make) and one of each other slow engine."""
        heavy = [name for name, engine in self.engines.items() if engine.is_heavy and name != default]
        wanted = [default] * (self._count[default] if self.engines[default].is_heavy else 1) + heavy
        made = await asyncio.gather(*(self._make(name) for name in wanted))
        for name, recogniser in zip(wanted, made, strict=True):
            self._idle[name].append(recogniser)

    async def take(self, engine: str, on_loss: OnLoss) -> Recogniser:
        """Raises EngineError: asr_busy (retryable) if all are at work, or what making one raises."""
        began_s = time.monotonic()
        metrics.WAITING_FOR_RECOGNISER.inc()
        try:
            async with asyncio.timeout(self._wait_s):
                await self._seats[engine].acquire()
        except TimeoutError as error:
            raise EngineError("all recognisers are at work", code="asr_busy", retryable=True) from error
        finally:
            metrics.WAITING_FOR_RECOGNISER.dec()
        metrics.RECOGNISER_WAIT_SECONDS.observe(time.monotonic() - began_s)
        try:
            recogniser = self._idle[engine].pop() if self._idle[engine] else await self._make(engine)
        except BaseException:
            self._seats[engine].release()
            raise
        metrics.RECOGNISERS_BUSY.inc()
        self._holders[recogniser] = on_loss
        return recogniser

    def give_back(self, engine: str, recogniser: Recogniser, outcome: Outcome) -> None:
        """The utterance is over for it. Returns at once; the seat is free when the recogniser is fit again."""
        metrics.RECOGNISERS_BUSY.dec()
        self._holders.pop(recogniser, None)
        if outcome is Outcome.IDLE and recogniser.is_usable and not self._is_closed:
            self._idle[engine].append(recogniser)
            self._seats[engine].release()
        elif outcome is Outcome.UNFINISHED:
            self._spawn(self._leave(engine, recogniser), f"asr-leave-{engine}")
        else:
            self._spawn(self._replace(engine, recogniser, metrics.REPLACED_BROKEN), f"asr-replace-{engine}")

    async def close(self) -> None:
        """Close all of them."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        idle = [one for recognisers in self._idle.values() for one in recognisers]
        await asyncio.gather(*(one.close() for one in idle))

    async def _make(self, engine: str) -> Recogniser:
        lost: list[Recogniser] = []
        recogniser = await self.engines[engine].make(
            lambda error: self._on_loss(engine, lost[0], error) if lost else None
        )
        lost.append(recogniser)
        return recogniser

    def _on_loss(self, engine: str, recogniser: Recogniser, error: EngineError) -> None:
        if recogniser in self._holders:
            self._holders[recogniser](error)  # who holds it gives it back as broken
        elif recogniser in self._idle[engine] and not self._is_closed:
            self._idle[engine].remove(recogniser)
            self._spawn(self._refill(engine, recogniser), f"asr-refill-{engine}")

    async def _refill(self, engine: str, recogniser: Recogniser) -> None:
        await self._seats[engine].acquire()
        await self._replace(engine, recogniser, metrics.REPLACED_LOST)

    async def _leave(self, engine: str, recogniser: Recogniser) -> None:
        try:
            async with asyncio.timeout(self._cancel_timeout_s):
                await recogniser.cancel()
        except (TimeoutError, EngineError):
            await self._replace(engine, recogniser, metrics.REPLACED_STUCK)
        except asyncio.CancelledError:
            await recogniser.close()
            raise
        else:
            self._idle[engine].append(recogniser)
            self._seats[engine].release()

    async def _replace(self, engine: str, recogniser: Recogniser, reason: Counter) -> None:
        reason.inc()
        await recogniser.close()
        try:
            self._idle[engine].append(await self._make(engine))
        except EngineError as error:
            log.warning("recogniser_not_replaced", engine=engine, code=error.code)
        finally:
            self._seats[engine].release()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("recogniser_task_failed", task=task.get_name(), error=type(error).__name__, exc_info=error)
