"""The worker's recognisers: scarce, so each is taken when speech begins and given back with its text.

Rules: a recogniser at work has a seat. Engines that compute here share `seats`; an engine that costs this machine
little has a number of its own. First come, first served; who waits longer than `wait_s` is refused with `asr_busy`. One
that fails, is stuck or dies is closed and made anew before its seat is free again. Recognisers of an engine that takes
long to load are made before the worker serves. Sections that are the same but for their name share one engine, its
seats and its idle recognisers. Of the other slow engines no more than `seats` recognisers lie idle together, and the
one that lay idle longest makes room.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from enum import Enum, auto

import structlog
from prometheus_client import Counter

from shared.errors import EngineError
from shared.process.owned_tasks import OwnedTasks
from workers.asr import metrics
from workers.asr.engines.engine import Engine, OnLoss, Recogniser, RemoteEngine

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
        self._seat_count = seats
        self._first = _first_names(engines)
        self._count = {name: own.get(name, seats) for name in engines}
        self._seats = {name: asyncio.Semaphore(own[name]) if name in own else shared for name in self._first.values()}
        self._wait_s = wait_s
        self._cancel_timeout_s = cancel_timeout_s
        self._idle: dict[str, list[Recogniser]] = {name: [] for name in self._first.values()}
        self._default = ""
        self._spares: list[tuple[str, Recogniser]] = []
        """Idle recognisers of slow engines that are not the default, the one that lay idle longest first."""
        self._holders: dict[Recogniser, OnLoss] = {}
        """Whom to tell when one that is at work dies."""
        self._tasks = OwnedTasks("recogniser_task_failed")
        self._is_closed = False

    @property
    def remote(self) -> list[RemoteEngine]:
        """The engines that ask services outside."""
        engines = [self.engines[name] for name in self._idle]
        return [engine for engine in engines if isinstance(engine, RemoteEngine)]

    async def start(self, default: str) -> None:
        """Make the default engine's recognisers (one if they are quick to make) and one of each other slow engine."""
        self._default = self._first[default]
        others = [name for name in self._idle if self.engines[name].is_heavy and name != self._default]
        count = self._count[default] if self.engines[default].is_heavy else 1
        wanted = [self._default] * count + others[: self._seat_count]
        made = await asyncio.gather(*(self._make(name) for name in wanted), return_exceptions=True)
        for name, result in zip(wanted, made, strict=True):
            if not isinstance(result, BaseException):
                self._lay_down(name, result)
            elif name == self._default or not isinstance(result, EngineError):
                raise result
            else:
                log.warning("recogniser_not_made", engine=name, code=result.code)

    async def take(self, engine: str, on_loss: OnLoss) -> Recogniser:
        """Raises EngineError: asr_busy (retryable) if all are at work, or what making one raises."""
        engine = self._first[engine]
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
            recogniser = self._pick_up(engine) or await self._make(engine)
        except BaseException:
            self._seats[engine].release()
            raise
        metrics.RECOGNISERS_BUSY.inc()
        self._holders[recogniser] = on_loss
        return recogniser

    def give_back(self, engine: str, recogniser: Recogniser, outcome: Outcome) -> None:
        """The utterance is over for it. Returns at once; the seat is free when the recogniser is fit again."""
        engine = self._first[engine]
        metrics.RECOGNISERS_BUSY.dec()
        self._holders.pop(recogniser, None)
        if outcome is Outcome.IDLE and recogniser.is_usable and not self._is_closed:
            self._lay_down(engine, recogniser)
            self._seats[engine].release()
        elif outcome is Outcome.UNFINISHED:
            self._tasks.start(self._leave(engine, recogniser), f"asr-leave-{engine}")
        else:
            self._tasks.start(self._replace(engine, recogniser, metrics.REPLACED_BROKEN), f"asr-replace-{engine}")

    async def close(self) -> None:
        """Close all of them."""
        self._is_closed = True
        await self._tasks.close()
        idle = [one for recognisers in self._idle.values() for one in recognisers]
        await asyncio.gather(*(one.close() for one in idle))
        await asyncio.gather(*(engine.close() for engine in self.remote))

    def _pick_up(self, engine: str) -> Recogniser | None:
        if not self._idle[engine]:
            return None
        recogniser = self._idle[engine][-1]
        self._forget_idle(engine, recogniser)
        return recogniser

    def _lay_down(self, engine: str, recogniser: Recogniser) -> None:
        self._idle[engine].append(recogniser)
        if engine != self._default and self.engines[engine].is_heavy:
            self._spares.append((engine, recogniser))
            self._make_room()

    def _make_room(self) -> None:
        while len(self._spares) > self._seat_count:
            engine, recogniser = self._spares[0]
            self._forget_idle(engine, recogniser)
            self._tasks.start(recogniser.close(), f"asr-close-{engine}")

    def _forget_idle(self, engine: str, recogniser: Recogniser) -> None:
        self._idle[engine].remove(recogniser)
        if (engine, recogniser) in self._spares:
            self._spares.remove((engine, recogniser))

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
            self._forget_idle(engine, recogniser)
            self._tasks.start(self._refill(engine, recogniser), f"asr-refill-{engine}")

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
            self._lay_down(engine, recogniser)
            self._seats[engine].release()

    async def _replace(self, engine: str, recogniser: Recogniser, reason: Counter) -> None:
        reason.inc()
        await recogniser.close()
        try:
            self._lay_down(engine, await self._make(engine))
        except EngineError as error:
            log.warning("recogniser_not_replaced", engine=engine, code=error.code)
        finally:
            self._seats[engine].release()


def _first_names(engines: Mapping[str, Engine]) -> dict[str, str]:
    """Each section's name → the name under which its engine is known here."""
    names: dict[int, str] = {}
    return {name: names.setdefault(id(engine), name) for name, engine in engines.items()}
