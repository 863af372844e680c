"""What a process tells of itself over HTTP: /metrics, /healthz, /readyz, on its own loop and port, without a thread.

A stuck loop fails its health check, which is the point. The thread budget is a sum of constants, never of devices;
it stands beside the real number so that an alert can compare the two.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import platform
import socket
from collections.abc import Callable, Mapping
from functools import partial
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, Info, generate_latest

from shared.errors import ConfigError
from shared.process.lag import LoopLag

INTERPRETER_THREADS = 1
ZMQ_THREADS = 2
"""I/O thread and reaper of the one context."""
LOG_WRITER_THREADS = 1
RESOLVER_THREADS = 4
"""libuv's pool, made by the first name that is resolved."""

LOOPBACK = "127.0.0.1"
BACKLOG = 64
KEEPALIVE_S = 75.0
"""aiohttp would hold a silent connection for an hour."""
SHUTDOWN_S = 1.0
"""Who reads a page slowly does not hold up the end of the process."""

BUILD_INFO = Info("xz_build", "Version of the program")
PROCESS_THREADS = Gauge("xz_process_threads", "Threads of this process")
THREAD_BUDGET = Gauge("xz_thread_budget", "Threads that this process may have by its settings")
PROCESS_TASKS = Gauge("xz_process_tasks", "asyncio tasks of this process")

Readiness = Callable[[], tuple[bool, dict[str, Any]]]
"""Whether the process can work, and the facts behind it."""

Page = Callable[[], dict[str, Any]]
"""A further page of the process, served as JSON to its own machine."""


def thread_budget(*, link: bool, resolves_names: bool = False, extra: int = 0) -> int:
    """Threads of a process. `extra`: compute threads, ONNX Runtime's, the store's."""
    fixed = INTERPRETER_THREADS + LOG_WRITER_THREADS
    return fixed + (ZMQ_THREADS if link else 0) + (RESOLVER_THREADS if resolves_names else 0) + extra


def thread_count() -> int:
    """Threads of this process as the kernel counts them, those of C libraries included."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def version() -> str:
    try:
        return importlib.metadata.version("xiaozhi-cluster")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def is_loopback(address: str) -> bool:
    """Also of an IPv4 address as an IPv6 socket shows it."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return (mapped or parsed).is_loopback


class Probes:
    """The three pages of one process. Also the owner of its loop-lag sampler."""

    def __init__(
        self, port: int, ready: Readiness, budget: int, *, host: str = LOOPBACK, pages: Mapping[str, Page] | None = None
    ) -> None:
        self.lag = LoopLag()
        self.port = port
        """The port really bound, once started (0 = any free one)."""
        self._host = host
        self._ready = ready
        self._budget = budget
        self._pages = dict(pages or {})
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Raises ConfigError if the port is taken."""
        listener = self._bind()
        self.port = listener.getsockname()[1]
        BUILD_INFO.info({"version": version(), "python": platform.python_version()})
        PROCESS_THREADS.set_function(thread_count)
        THREAD_BUDGET.set(self._budget)
        self._runner = web.AppRunner(
            self._application(),
            access_log=None,
            handle_signals=False,
            keepalive_timeout=KEEPALIVE_S,
            shutdown_timeout=SHUTDOWN_S,
        )
        await self._runner.setup()
        await web.SockSite(self._runner, listener, backlog=BACKLOG).start()
        self.lag.start()

    async def close(self) -> None:
        self.lag.stop()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _bind(self) -> socket.socket:
        # Bound here and not by the loop: a host name would be resolved on libuv's threads.
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        try:
            listener.bind((self._host, self.port))
        except OSError as error:
            listener.close()
            expected = f"a free port on {self._host} ({error.strerror})"
            raise ConfigError("XZ_METRICS_PORT", self.port, expected) from error
        return listener

    def _application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        for path, page in self._pages.items():
            app.router.add_get(path, partial(self._page, page))
        return app

    async def _metrics(self, request: web.Request) -> web.Response:
        PROCESS_TASKS.set(len(asyncio.all_tasks()))
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _page(self, page: Page, request: web.Request) -> web.Response:
        if not is_loopback(request.remote or ""):
            raise web.HTTPForbidden(text="for this machine only\n")
        return web.json_response(page())

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"ok": True})

    async def _readyz(self, request: web.Request) -> web.Response:
        is_ready, facts = self._ready()
        return web.json_response({"ready": is_ready, **facts}, status=200 if is_ready else 503)
