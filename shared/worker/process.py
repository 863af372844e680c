"""The life of a worker process: start its service, join all routers, beat, drain, exit.

Signals
- SIGTERM drains: a draining BEAT at once, no new streams, wait for the open ones with the role's deadline, close the
  service, exit 0. A second SIGTERM shortens the deadline to a second.
- SIGHUP reads lists of routers again.
- SIGINT is ignored: Ctrl-C in a terminal reaches the whole foreground group, but it is the supervisor who stops
  workers.
- The supervisor's own death drains too.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal

import structlog
import uvloop

from shared.config.reload import reloaded
from shared.errors import ConfigError, EngineError
from shared.ids import Role
from shared.link.endpoints import leaves_the_machine
from shared.link.keys import WorkerKeys, load_worker_keys
from shared.link.sockets import make_context
from shared.process.blocked import VARIABLE as DEBUG_VARIABLE
from shared.process.blocked import BlockedLoop
from shared.process.drain import drain_deadline_s
from shared.process.lag import LoopLag
from shared.process.leave import leave
from shared.process.parent import Parent
from shared.process.probes import THREAD_BUDGET, Probes, thread_budget
from shared.process.watchdog import LOAD_S, Watchdog
from shared.settings import Settings, metrics_port_of
from shared.worker.routers import RouterSources
from shared.worker.runtime import WorkerRuntime
from shared.worker.service import Service

log = structlog.get_logger(__name__)

DRAIN_S = {Role.ASR: 20.0, Role.TTS: 30.0, Role.SESSION: 60.0}
"""How long streams may go on after SIGTERM, unless XZ_DRAIN_S says otherwise; stopwaitsecs must be longer."""
SLOW_CALLBACK_S = 0.05
CLOSE_S = 5.0
"""How long a service may take to close once its streams have ended; an engine that hangs is left behind."""

EXIT_OK = 0
EXIT_CANNOT_START = 1


def run(
    service: Service,
    *,
    settings: Settings,
    slot: int,
    program: str,
    drain_s: float | None = None,
    watchdog: Watchdog | None = None,
) -> int:
    """Be a worker process until told to stop. Returns the exit code.

    Logging is set up by the caller. A service with compute threads is made with the same `watchdog`, so that it can
    register them. Threads beyond the runtime's own are told in its attribute `extra_threads`; whether it asks hosts by
    name, which costs libuv's, in `resolves_names`, once it has started.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process = WorkerProcess(
        service, settings, slot=slot, program=program, drain_s=drain_s, watchdog=watchdog or Watchdog()
    )
    debug = os.environ.get(DEBUG_VARIABLE) == "1"
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop, debug=debug) as runner:
            code = runner.run(process.live(), context=None)
    finally:
        process.context.term()
    return leave(code)


class WorkerProcess:
    """Signals, watchdog, probes and the order in which things start and stop."""

    def __init__(
        self,
        service: Service,
        settings: Settings,
        *,
        slot: int,
        program: str,
        drain_s: float | None,
        watchdog: Watchdog,
    ) -> None:
        self.context = make_context()
        self._service = service
        self._settings = settings
        self._slot = slot
        self._program = program
        self._drain_s = drain_deadline_s(DRAIN_S[service.role]) if drain_s is None else drain_s
        self._parent = Parent()
        self._watchdog = watchdog
        self._stop = asyncio.Event()
        self._runtime: WorkerRuntime | None = None

    async def live(self) -> int:
        loop = asyncio.get_running_loop()
        loop.slow_callback_duration = LOAD_S
        loop.add_signal_handler(signal.SIGTERM, self._on_term)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        self._watchdog.allow(LOAD_S)
        self._check_parent()
        try:
            return await self._serve()
        except (ConfigError, EngineError) as error:
            log.critical(
                "worker_cannot_start", program=self._program, slot=self._slot, code=error.code, error=str(error)
            )
            return EXIT_CANNOT_START
        finally:
            self._watchdog.stop()

    async def _serve(self) -> int:
        keys = self._keys()
        probes = Probes(self._metrics_port, self._ready, self._thread_budget, host=self._settings.cluster.metrics_host)
        await probes.start()
        try:
            if await self._load():
                THREAD_BUDGET.set(self._thread_budget)  # what resolves names is known now
                await self._work(probes.lag, keys)
        finally:
            await probes.close()
        return EXIT_OK

    async def _load(self) -> bool:
        """Start the service. False if told to stop meanwhile."""
        loading = asyncio.create_task(self._service.start(), name="service-start")
        stopping = asyncio.create_task(self._stop.wait(), name="stop-wait")
        try:
            await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
            if loading.done():
                await loading
                return not self._stop.is_set()
            return False
        finally:
            for task in (loading, stopping):
                task.cancel()
            await asyncio.gather(loading, stopping, return_exceptions=True)

    async def _work(self, lag: LoopLag, keys: WorkerKeys | None) -> None:
        cluster = self._settings.cluster
        self._runtime = runtime = WorkerRuntime(
            self._service,
            RouterSources(cluster, self._service.role),
            slot=self._slot,
            context=self.context,
            epoch=self._settings.epoch,
            metrics_port=self._metrics_port,
            lag=lag,
            on_beat=self._check_parent,
            keys=keys,
            host_name=cluster.advertised_host,
            leave_s=self._drain_s,
        )
        gc.collect()
        gc.freeze()
        self._watchdog.start()
        if os.environ.get(DEBUG_VARIABLE) == "1":
            BlockedLoop().start()
        await asyncio.sleep(0)  # from here on nothing may be slow, and the collection was
        asyncio.get_running_loop().slow_callback_duration = SLOW_CALLBACK_S
        runtime.join()
        log.info("worker_started", program=self._program, slot=self._slot, capacity=self._service.capacity)
        await self._stop.wait()
        await runtime.drain(self._drain_s)
        await self._close_service()
        runtime.close()

    async def _close_service(self) -> None:
        closing = asyncio.create_task(self._service.close(), name="service-close")
        done, _ = await asyncio.wait((closing,), timeout=CLOSE_S)
        if done:
            await closing
            return
        log.warning("service_close_timed_out", program=self._program, slot=self._slot, after_s=CLOSE_S)
        closing.cancel()

    @property
    def _metrics_port(self) -> int:
        return metrics_port_of(self._settings.cluster.metrics_port, self._program, self._slot)

    @property
    def _thread_budget(self) -> int:
        asks_outside = self._service.role is Role.SESSION or bool(getattr(self._service, "resolves_names", False))
        resolves_names = asks_outside or leaves_the_machine(self._settings.cluster)
        extra = int(getattr(self._service, "extra_threads", 0))
        return thread_budget(link=True, resolves_names=resolves_names, extra=extra)

    def _keys(self) -> WorkerKeys | None:
        """For routers over TCP. Raises ConfigError: without keys nothing leaves this machine."""
        cluster = self._settings.cluster
        return load_worker_keys(cluster.data_dir) if leaves_the_machine(cluster) else None

    def _ready(self) -> tuple[bool, dict[str, object]]:
        runtime = self._runtime
        is_ready = runtime is not None and not runtime.is_draining and not self._stop.is_set()
        facts: dict[str, object] = {"program": self._program, "slot": self._slot, "active": 0, "routers": 0}
        if runtime is not None:
            facts |= {"active": runtime.active(), "routers": runtime.routers_heard()}
        return is_ready, facts

    def _on_term(self) -> None:
        if self._stop.is_set() and self._runtime is not None:
            self._runtime.hurry()
        self._stop.set()

    def _on_hangup(self) -> None:
        self._settings = reloaded(self._program, self._settings)
        reconfigure = getattr(self._service, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(self._settings)
        if self._runtime is not None:
            self._runtime.adopt(self._settings.epoch)
            self._runtime.reload()

    def _check_parent(self) -> None:
        if self._parent.is_gone and not self._stop.is_set():
            log.warning("parent_gone", program=self._program, slot=self._slot)
            self._stop.set()
