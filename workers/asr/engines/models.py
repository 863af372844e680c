"""The models a worker has loaded: each in one child process, shared by all recognisers of all sections that name it.

The shelf decides which are held; here they are loaded and ended. A model that dies is loaded again when the next
utterance wants it, or its recognisers are made anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog

from shared.errors import EngineError
from shared.process.owned_tasks import OwnedTasks
from workers.asr import metrics
from workers.asr.engines.model_process import STUCK_S, ModelProcess, ModelSpec
from workers.asr.engines.shelf import Close, Effect, Lease, Load, Shelf

log = structlog.get_logger(__name__)

MAX_MODELS = 2


class Loan:
    """One utterance's use of a model; to be given back, whatever becomes of it."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.process: asyncio.Future[ModelProcess] = asyncio.get_running_loop().create_future()
        """The loaded model, or an EngineError."""

    def answer(self, result: ModelProcess | EngineError) -> None:
        if self.process.done():
            return
        if isinstance(result, EngineError):
            self.process.set_exception(result)
            self.process.exception()  # nobody may be waiting
        else:
            self.process.set_result(result)


def _closing() -> EngineError:
    return EngineError("the worker is closing", code="engine_died", retryable=True)


class Models:
    """Of one worker. All methods are the event loop's."""

    def __init__(self, max_models: int = MAX_MODELS, *, stuck_s: float = STUCK_S) -> None:
        self._shelf = Shelf(max_models)
        self._stuck_s = stuck_s
        self._specs: dict[str, ModelSpec] = {}
        self._loaded: dict[str, ModelProcess] = {}
        self._loans: dict[str, list[Loan]] = {}
        """Those that wait for their model to be loaded."""
        self._tasks = OwnedTasks("model_task_failed")
        self._is_closed = False

    @property
    def loaded(self) -> dict[str, ModelProcess]:
        return dict(self._loaded)

    def borrow(self, spec: ModelSpec) -> Loan:
        """Never waits: the loan's `process` may, for the model to be loaded or for another one to be done with."""
        self._specs[spec.key] = spec
        lease, effects = self._shelf.take(spec.key)
        loan = Loan(lease)
        if self._is_closed:
            loan.answer(_closing())
        elif spec.key in self._loaded:
            loan.answer(self._loaded[spec.key])
        else:
            self._loans.setdefault(spec.key, []).append(loan)
            self._perform(effects)
        return loan

    def give_back(self, loan: Loan) -> None:
        waiting = self._loans.get(loan.lease.key, [])
        if loan in waiting:
            waiting.remove(loan)
        self._perform(self._shelf.give_back(loan.lease))

    async def warm(self, spec: ModelSpec) -> None:
        """Have it loaded before it is needed, unless another one would have to leave for it. Raises EngineError."""
        if not self._shelf.has_room(spec.key):
            return
        loan = self.borrow(spec)
        try:
            await loan.process
        finally:
            self.give_back(loan)

    async def close(self) -> None:
        """End them all."""
        self._is_closed = True
        await self._tasks.close()
        for key in list(self._loans):
            self._answer(key, _closing())
        await self._end(self._loaded.values())
        self._loaded.clear()
        metrics.MODELS_LOADED.set(0)

    def _perform(self, effects: list[Effect]) -> None:
        """What leaves is gone before what comes takes its memory."""
        if self._is_closed or not effects:
            return
        leaving = [self._loaded.pop(one.key) for one in effects if isinstance(one, Close)]
        for effect in effects:
            if isinstance(effect, Load):
                self._tasks.start(self._load(effect.key, leaving), f"asr-load-{self._specs[effect.key].name}")
                leaving = []

    async def _load(self, key: str, leaving: list[ModelProcess]) -> None:
        await self._end(leaving)
        try:
            process = await ModelProcess.spawn(self._specs[key], lambda: self._on_end(key), self._stuck_s)
        except EngineError as error:
            log.warning("model_not_loaded", model=self._specs[key].name, code=error.code)
            self._answer(key, error)
            self._perform(self._shelf.lost(key))
            return
        log.info("model_loaded", model=self._specs[key].name, pid=process.pid)
        self._loaded[key] = process
        self._count()
        effects = self._shelf.loaded(key)
        self._answer(key, process)
        self._perform(effects)

    def _answer(self, key: str, result: ModelProcess | EngineError) -> None:
        for loan in self._loans.pop(key, []):
            loan.answer(result)

    def _on_end(self, key: str) -> None:
        """A child has died by itself; who had an utterance open was told by it."""
        process = self._loaded.pop(key, None)
        if process is None or self._is_closed:
            return
        metrics.MODELS_LOST.inc()
        self._count()
        self._tasks.start(self._end([process]), f"asr-bury-{self._specs[key].name}")
        self._perform(self._shelf.lost(key))

    async def _end(self, processes: Iterable[ModelProcess]) -> None:
        for process in list(processes):
            await process.close()
        self._count()

    def _count(self) -> None:
        metrics.MODELS_LOADED.set(len(self._loaded))
