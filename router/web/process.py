"""The life of a web process: sockets, thread, registry, probes, and the order in which they start and stop.

SIGTERM: not ready, listeners closed, answers under way get XZ_DRAIN_S (a second SIGTERM: one second), then the registry
closes and the process exits 0. SIGHUP: look at the cluster's epoch. SIGINT is the supervisor's business. Its parent's
death drains it too.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from typing import Any

import structlog
import uvloop
from aiohttp import web

from router.web.admission import Admissions
from router.web.app import admin_application, public_application
from router.web.caller import Neighbourhood, parse_networks
from router.web.cluster import ClusterView
from router.web.disk import DISK_THREADS, DiskThread
from router.web.listen import BACKLOG, AdminSocket, bound_socket, inherited_socket
from router.web.operator import AdminKey, OperatorDesk
from router.web.ota import DeviceDesk
from router.web.shelf import FirmwareShelf
from shared.config.reload import reloaded
from shared.errors import ConfigError, XiaozhiError
from shared.identity.devices import DeviceRegistry, devices_path
from shared.process.blocked import VARIABLE as DEBUG_VARIABLE
from shared.process.blocked import BlockedLoop
from shared.process.drain import DRAIN_SECONDS, HURRY_S, drain_deadline_s
from shared.process.parent import Parent
from shared.process.probes import Probes, thread_budget
from shared.process.watchdog import LOAD_S, Watchdog
from shared.settings import AuthSettings, Settings, metrics_port_of
from shared.store.database import resolves_names, store_threads
from shared.store.upkeep import Upkeep

_log = structlog.get_logger(__name__)

PROGRAM = "web"
KEEPALIVE_S = 15.0
"""How long a connection may be silent, or take to send a request's head; aiohttp's own limit is an hour."""
DRAIN_S = 5.0
"""How long requests may go on after SIGTERM, unless XZ_DRAIN_S says otherwise."""
SLOW_CALLBACK_S = 0.05
PARENT_CHECK_S = 1.0
FIRMWARE_DIRECTORY = "bin"
EXIT_OK = 0
EXIT_CANNOT_START = 1


def neighbourhood(auth: AuthSettings, websocket_url: str | None) -> Neighbourhood:
    """Raises ConfigError if a trusted proxy is no address or network."""
    try:
        proxies = parse_networks(auth.trusted_proxies)
    except ValueError as error:
        raise ConfigError("server.trusted_proxies", auth.trusted_proxies, "addresses or CIDR networks") from error
    origins = frozenset(origin.rstrip("/").lower() for origin in auth.allowed_origins)
    return Neighbourhood(proxies, origins, _own_names(websocket_url))


def _own_names(websocket_url: str | None) -> frozenset[str]:
    host = socket.gethostname().lower()
    names = {host, f"{host}.local"}
    if websocket_url:
        names.add(websocket_url.partition("://")[2].partition("/")[0].partition(":")[0].lower())
    return frozenset(names)


def run(settings: Settings, slot: int, listen_fd: int | None) -> int:
    """Serve until told to stop. Returns the exit code. Logging is set up by the caller."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    debug = os.environ.get(DEBUG_VARIABLE) == "1"
    # What was imported stays; not collected again and again, and not on the loop, which it would hold up.
    gc.collect()
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop, debug=debug) as runner:
        return runner.run(WebProcess(settings, slot, listen_fd).live())


class WebProcess:
    def __init__(self, settings: Settings, slot: int, listen_fd: int | None) -> None:
        self._settings = settings
        self._slot = slot
        self._listen_fd = listen_fd
        self._parent = Parent()
        self._watchdog = Watchdog()
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._is_serving = False

    async def live(self) -> int:
        loop = asyncio.get_running_loop()
        loop.slow_callback_duration = SLOW_CALLBACK_S
        loop.add_signal_handler(signal.SIGTERM, self._on_term)
        loop.add_signal_handler(signal.SIGHUP, self._on_hup)
        self._watchdog.allow(LOAD_S)
        disk = DiskThread()
        disk.adopt(loop)
        try:
            await self._serve(disk)
        except XiaozhiError as error:
            _log.critical("web_cannot_start", code=error.code, error=str(error))
            return EXIT_CANNOT_START
        finally:
            self._watchdog.stop()
            disk.close()
        return EXIT_OK

    async def _serve(self, disk: DiskThread) -> None:
        settings = self._settings
        around = neighbourhood(settings.auth, settings.web.websocket_url)
        registry = await disk.run(DeviceRegistry.open, devices_path(settings.cluster.data_dir))
        view = ClusterView(settings.cluster, self._slot, disk)
        port = metrics_port_of(settings.cluster.metrics_port, PROGRAM, self._slot)
        probes = Probes(port, self._ready, self._thread_budget(), host=settings.cluster.metrics_host)
        upkeep = Upkeep(settings.store, settings.cluster.data_dir)
        try:
            await upkeep.start()
            await probes.start()
            shelf = FirmwareShelf(settings.cluster.data_dir / FIRMWARE_DIRECTORY, settings.web.firmware_cache_s, disk)
            desk = DeviceDesk(settings, around, Admissions(settings.auth, registry, disk), shelf)
            await self._listen(desk, view)
        finally:
            await probes.close()
            await upkeep.close()
            await disk.run(registry.close)

    def _thread_budget(self) -> int:
        store = self._settings.store
        return thread_budget(
            link=False, resolves_names=resolves_names(store), extra=DISK_THREADS + store_threads(store)
        )

    async def _listen(self, desk: DeviceDesk, view: ClusterView) -> None:
        key = AdminKey(self._settings.web.admin_token)
        public = _runner(public_application(desk, OperatorDesk(view, key)))
        admin = _runner(admin_application(OperatorDesk(view, None, self._life)))
        admin_socket = AdminSocket(self._settings.cluster.run_dir, self._slot)
        try:
            await public.setup()
            await admin.setup()
            await web.SockSite(admin, admin_socket.bind(), backlog=BACKLOG).start()
            await web.SockSite(public, self._public_socket(), backlog=BACKLOG).start()
            if os.environ.get(DEBUG_VARIABLE) == "1":
                BlockedLoop().start()
            await self._wait_for_the_end()
        finally:
            admin_socket.remove()
            with DRAIN_SECONDS.time():
                await self._close_runners(public, admin)

    def _public_socket(self) -> socket.socket:
        if self._listen_fd is not None:
            return inherited_socket(self._listen_fd)
        return bound_socket(self._settings.cluster.host, self._settings.cluster.http_port)

    async def _wait_for_the_end(self) -> None:
        self._watchdog.start()
        self._is_serving = True
        self._check_parent()
        _log.info("web_started", enroll=self._settings.auth.enroll)
        if not self._settings.auth.enabled:
            _log.warning("authentication_is_off", remedy="any device may connect; set server.auth.enabled: true")
        await self._stop.wait()
        self._is_serving = False
        _log.info("web_draining")

    async def _close_runners(self, *runners: web.AppRunner) -> None:
        """Listeners close at once; requests under way have until the deadline."""
        closing = asyncio.create_task(_cleanup(runners), name="web-drain")
        hurrying = asyncio.create_task(self._hurry.wait(), name="web-hurry")
        await asyncio.wait((closing, hurrying), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait((closing,), timeout=HURRY_S if self._hurry.is_set() else None)
        for task in (closing, hurrying):
            task.cancel()
        await asyncio.gather(closing, hurrying, return_exceptions=True)

    def _ready(self) -> tuple[bool, dict[str, Any]]:
        return self._is_serving, {"program": PROGRAM, "slot": self._slot}

    def _life(self) -> dict[str, int]:
        return {"slot": self._slot, "pid": os.getpid(), "epoch": self._settings.epoch}

    def _on_hup(self) -> None:
        self._settings = reloaded(PROGRAM, self._settings)

    def _on_term(self) -> None:
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    def _check_parent(self) -> None:
        if self._parent.is_gone:
            _log.warning("parent_gone")
            self._stop.set()
        if not self._stop.is_set():
            asyncio.get_running_loop().call_later(PARENT_CHECK_S, self._check_parent)


def _runner(app: web.Application) -> web.AppRunner:
    # No access log: its lines hold query strings, in which some clients send their token.
    return web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        shutdown_timeout=drain_deadline_s(DRAIN_S),
        keepalive_timeout=KEEPALIVE_S,
    )


async def _cleanup(runners: tuple[web.AppRunner, ...]) -> None:
    await asyncio.gather(*(runner.cleanup() for runner in runners))
