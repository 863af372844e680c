"""The life of a worker process: start its service, join all routers, beat, drain, exit.

Signals
- SIGTERM drains: a draining BEAT at once, no new streams, wait for the open ones with the role's deadline, close the
  service, exit 0. A second SIGTERM shortens the deadline to a second.
- SIGINT is ignored: Ctrl-C in a terminal reaches the whole foreground group, but it is the supervisor who stops
  workers.
- The supervisor's own death drains too.
"""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass

import structlog
import uvloop
import zmq
from prometheus_client import Histogram

from shared.beat import LATE_TICK_S, BeatClock, worker_id
from shared.blocked import VARIABLE as DEBUG_VARIABLE
from shared.blocked import BlockedLoop
from shared.endpoints import router_endpoints_for
from shared.envelope import PROTO
from shared.errors import ConfigError, EngineError
from shared.ids import Role, WorkerId
from shared.lag import LoopLag
from shared.link import make_context
from shared.messages import Beat
from shared.parent import Parent
from shared.peer import RouterPeer
from shared.probes import Probes, thread_budget
from shared.service import Service
from shared.settings import Settings, metrics_port_of
from shared.watchdog import LOAD_S, Watchdog

log = structlog.get_logger(__name__)

DRAIN_S = {Role.ASR: 20.0, Role.TTS: 30.0, Role.SESSION: 60.0}
"""How long streams may go on after SIGTERM. The supervisor's stopwaitsecs must be longer."""
HURRY_S = 1.0
DRAIN_NOTICE_S = 0.1
"""OPENs that cross the draining BEAT are still refused in words, not by a closed socket."""
LAST_WORDS_MS = 500
SLOW_CALLBACK_S = 0.05

EXIT_OK = 0
EXIT_CANNOT_START = 1

DRAIN_SECONDS = Histogram(
    "xz_drain_seconds", "From SIGTERM to the last stream's end", buckets=(0.1, 1, 2, 5, 10, 20, 30, 60)
)


@dataclass(frozen=True, slots=True)
class Label:
    """What a worker says of itself in every BEAT and never changes."""

    role: Role
    slot: int
    incarnation: str
    epoch: int
    metrics_port: int

    def identity(self, boot: str) -> WorkerId:
        return worker_id(self.role, self.slot, boot)


class WorkerRuntime:
    """A service on the link: its routers, its beats, its drain. Lives in a running loop."""

    def __init__(
        self,
        service: Service,
        endpoints: list[str],
        *,
        slot: int,
        context: zmq.Context[zmq.Socket[bytes]],
        epoch: int = 1,
        metrics_port: int = 0,
        lag: LoopLag | None = None,
        on_beat: Callable[[], None] | None = None,
    ) -> None:
        self.service = service
        self.role = service.role
        self.peers: list[RouterPeer] = []
        self.is_draining = False
        self._label = Label(service.role, slot, secrets.token_hex(4), epoch, metrics_port)
        self._endpoints = endpoints
        self._context = context
        self._lag = lag or LoopLag()
        self._on_beat = on_beat
        self._host_name = socket.gethostname()
        self._loop = asyncio.get_running_loop()
        self._clock = BeatClock(due_s=self._loop.time())
        # A timer's own when() cannot be asked: uvloop makes one that is due now into a plain Handle.
        self._timer: asyncio.Handle | None = None
        self._timer_due_s = 0.0
        self._idle: asyncio.Future[None] | None = None
        self._is_noticed = False
        self._deadline: asyncio.Handle | None = None
        self._deadline_s = 0.0
        self._lag_ms = 0.0

    def __repr__(self) -> str:
        return f"WorkerRuntime({self._label.identity(self._label.incarnation)}, {self.active()} active)"

    def join(self) -> None:
        """Connect to all routers. The service must have been started."""
        self._lag.start()
        identity = self._label.identity(self._label.incarnation)
        self.peers = [RouterPeer(self._context, endpoint, identity, self) for endpoint in self._endpoints]
        self._schedule()

    async def drain(self, deadline_s: float) -> None:
        """Take nothing new and wait for the open streams; what is left at the deadline fails, retryable."""
        began_s = self._loop.time()
        self.is_draining = True
        self._clock.on_urgent(began_s)
        self._schedule()
        self._idle = self._loop.create_future()
        self._set_deadline(began_s + deadline_s)
        await asyncio.sleep(min(DRAIN_NOTICE_S, deadline_s))
        self._is_noticed = True
        self._check_idle()
        await self._idle
        self._set_deadline(None)
        log.info("worker_drained", left=self.active(), took_s=round(self._loop.time() - began_s, 2))
        for peer in self.peers:
            peer.fail_streams("drained")
        DRAIN_SECONDS.observe(self._loop.time() - began_s)

    def hurry(self) -> None:
        """Shorten a running drain."""
        hurried_s = self._loop.time() + HURRY_S
        if self._deadline is not None and self._deadline_s > hurried_s:
            self._set_deadline(hurried_s)

    def close(self, linger_ms: int = LAST_WORDS_MS) -> None:
        self._lag.stop()
        if self._timer is not None:
            self._timer.cancel()
        for peer in self.peers:
            peer.close(linger_ms)

    # What a RouterPeer asks

    def refusal(self) -> str | None:
        if self.is_draining:
            return "draining"
        return "full" if self.active() >= self.service.capacity else None

    def active(self) -> int:
        return sum(len(peer.streams) for peer in self.peers)

    def on_load_changed(self) -> None:
        self._clock.on_change(self._loop.time())
        self._schedule()
        self._check_idle()

    def new_identity(self) -> WorkerId:
        """For a rejoin."""
        return self._label.identity(secrets.token_hex(4))

    def beat(self, opened: int) -> Beat:
        label, service = self._label, self.service
        return Beat(
            role=label.role.value,
            incarnation=label.incarnation,
            slot=label.slot,
            capacity=service.capacity,
            active=self.active(),
            draining=self.is_draining,
            lag_ms=self._lag_ms,
            stalled_ms=service.stalled_ms,
            epoch=label.epoch,
            proto=PROTO,
            pid=os.getpid(),
            host=self._host_name,
            metrics_port=label.metrics_port,
            caps=service.caps,
            opened=opened,
        )

    # Beats

    def _schedule(self) -> None:
        due_s = self._clock.due_s
        if self._timer is not None:
            if self._timer_due_s <= due_s:
                return
            self._timer.cancel()
        self._timer_due_s = due_s
        self._timer = self._loop.call_at(due_s, self._send_beats)

    def _send_beats(self) -> None:
        now = self._loop.time()
        is_late = self._clock.late_s(now) > LATE_TICK_S
        self._clock.on_sent(now)
        self._timer = None
        self._schedule()
        self._lag_ms = self._lag.take_max_ms()
        for peer in self.peers:
            peer.send_beat()
            if is_late:
                peer.forgive()
            else:
                peer.judge()
        if self._on_beat is not None:
            self._on_beat()

    def _set_deadline(self, at_s: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline_s = at_s or 0.0
        self._deadline = None if at_s is None else self._loop.call_at(at_s, self._stop_waiting)

    def _check_idle(self) -> None:
        if self._is_noticed and self.active() == 0:
            self._stop_waiting()

    def _stop_waiting(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)


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
    register them. Threads beyond the runtime's own are told in its attribute `extra_threads`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process = WorkerProcess(
        service, settings, slot=slot, program=program, drain_s=drain_s, watchdog=watchdog or Watchdog()
    )
    debug = os.environ.get(DEBUG_VARIABLE) == "1"
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop, debug=debug) as runner:
            return runner.run(process.live(), context=None)
    finally:
        process.context.term()


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
        self._drain_s = DRAIN_S[service.role] if drain_s is None else drain_s
        self._parent = Parent()
        self._watchdog = watchdog
        self._stop = asyncio.Event()
        self._runtime: WorkerRuntime | None = None

    async def live(self) -> int:
        loop = asyncio.get_running_loop()
        loop.slow_callback_duration = LOAD_S
        loop.add_signal_handler(signal.SIGTERM, self._on_term)
        self._watchdog.allow(LOAD_S)
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
        probes = Probes(self._metrics_port, self._ready, self._thread_budget)
        await probes.start()
        try:
            if await self._load():
                await self._work(probes.lag)
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

    async def _work(self, lag: LoopLag) -> None:
        self._runtime = runtime = WorkerRuntime(
            self._service,
            router_endpoints_for(self._settings.cluster, self._service.role),
            slot=self._slot,
            context=self.context,
            epoch=self._settings.epoch,
            metrics_port=self._metrics_port,
            lag=lag,
            on_beat=self._check_parent,
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
        await self._service.close()
        runtime.close()

    @property
    def _metrics_port(self) -> int:
        return metrics_port_of(self._settings.cluster.metrics_port, self._program, self._slot)

    @property
    def _thread_budget(self) -> int:
        resolves_names = self._service.role is Role.SESSION
        extra = int(getattr(self._service, "extra_threads", 0))
        return thread_budget(link=True, resolves_names=resolves_names, extra=extra)

    def _ready(self) -> tuple[bool, dict[str, object]]:
        runtime = self._runtime
        is_ready = runtime is not None and not runtime.is_draining
        return is_ready, {"program": self._program, "slot": self._slot, "active": runtime.active() if runtime else 0}

    def _on_term(self) -> None:
        if self._stop.is_set() and self._runtime is not None:
            self._runtime.hurry()
        self._stop.set()

    def _check_parent(self) -> None:
        if self._parent.is_gone and not self._stop.is_set():
            log.warning("parent_gone", program=self._program, slot=self._slot)
            self._stop.set()
