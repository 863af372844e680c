"""The life of a router process: what starts, what runs, how it drains.

Signals: SIGTERM (and SIGINT) drains: not ready, listener closed, running turns end, then the rest is closed, the
workers are told, exit 0. A second signal shortens the deadline to one second. The supervisor's death drains too.
SIGHUP: keys are read again, and the cluster's epoch is looked at.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from functools import partial
from typing import Any

import structlog

from router.device.gateway import Gateway
from router.device.share_table import ShareTable
from router.pools.switchboard import Switchboard
from router.talk.prompts import load_prompts
from shared.config.reload import reloaded
from shared.errors import ConfigError
from shared.identity.devices import DeviceReader, devices_path
from shared.ids import Role
from shared.link.endpoints import binding_of
from shared.link.keys import load_router_keys
from shared.process.blocked import VARIABLE as DEBUG_VARIABLE
from shared.process.blocked import BlockedLoop
from shared.process.drain import DRAIN_SECONDS, HURRY_S, drain_deadline_s
from shared.process.parent import Parent
from shared.process.probes import Probes, thread_budget, thread_count, version
from shared.process.watchdog import Watchdog
from shared.settings import Settings, metrics_port_of

log = structlog.get_logger(__name__)

DRAIN_S = 600.0
"""How long conversations may go on after SIGTERM, unless XZ_DRAIN_S says otherwise."""

PARENT_CHECK_S = 0.5
SLOW_CALLBACK_S = 0.05


class RouterProcess:
    def __init__(self, settings: Settings, slot: int, listen_fd: int | None) -> None:
        self._settings = settings
        self._slot = slot
        self._listen_fd = listen_fd
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._parent = Parent()
        self._watchdog = Watchdog()
        cluster = settings.cluster
        self._switchboard = Switchboard(
            {role: binding_of(cluster, slot, role) for role in Role},
            load_keys=partial(load_router_keys, cluster.data_dir) if cluster.link_bind else None,
        )
        self._registry = DeviceReader.open(devices_path(cluster.data_dir))
        self._gateway = Gateway(settings, self._switchboard, load_prompts(), self._registry)

    async def live(self) -> int:
        loop = asyncio.get_running_loop()
        loop.slow_callback_duration = SLOW_CALLBACK_S
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        loop.add_signal_handler(signal.SIGHUP, self._on_hup)
        probes = Probes(
            metrics_port_of(self._settings.cluster.metrics_port, "router", self._slot),
            self._ready,
            thread_budget(link=True),
            host=self._settings.cluster.metrics_host,
            pages={"/cluster": self._cluster, "/streams": self._switchboard.streams},
        )
        try:
            await probes.start()
            await self._switchboard.start()
            await self._gateway.start(self._listener(), self._shares())
        except ConfigError as error:
            log.critical("router_cannot_start", slot=self._slot, code=error.code, error=str(error))
            return 1
        await self._run()
        await probes.close()
        return 0

    async def _run(self) -> None:
        gc.collect()
        gc.freeze()
        self._watchdog.start()
        if os.environ.get(DEBUG_VARIABLE) == "1":
            BlockedLoop().start()
        self._watch_parent()
        log.info("router_started", slot=self._slot, pid=os.getpid())
        await self._stop.wait()
        drain_s = drain_deadline_s(DRAIN_S)
        log.info("router_draining", connections=self._gateway.connections, deadline_s=drain_s)
        with DRAIN_SECONDS.time():
            await self._gateway.drain(drain_s, self._hurry)
        self._gateway.close()
        await self._switchboard.close()
        self._registry.close()
        self._watchdog.stop()
        log.info("router_stopped")

    def _listener(self) -> socket.socket:
        if self._listen_fd is not None:
            # The supervisor holds the listening socket, so a restart resets nobody.
            return socket.socket(fileno=os.dup(self._listen_fd))
        cluster = self._settings.cluster
        family = socket.AF_INET6 if ":" in cluster.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((cluster.host, cluster.ws_port))
        except OSError as error:
            listener.close()
            raise ConfigError("XZ_WS_PORT", cluster.ws_port, f"a free port ({error.strerror})") from error
        return listener

    def _shares(self) -> ShareTable | None:
        """Only who shares a listening socket has siblings that can take what this router leaves."""
        if self._listen_fd is None:
            return None
        try:
            return ShareTable(self._settings.cluster.run_dir, self._slot)
        except OSError as error:
            log.warning("no_share_table", error=error.strerror)
            return None

    def _on_hup(self) -> None:
        """Keys are read again; settings count from a device's next connection on."""
        self._settings = reloaded("router", self._settings)
        self._gateway.reconfigure(self._settings)
        self._switchboard.reload()

    def _on_signal(self) -> None:
        if self._stop.is_set():
            asyncio.get_running_loop().call_later(HURRY_S, self._hurry.set)
        self._stop.set()

    def _watch_parent(self) -> None:
        if self._parent.is_gone:
            log.warning("parent_gone", slot=self._slot)
            self._stop.set()
        else:
            asyncio.get_running_loop().call_later(PARENT_CHECK_S, self._watch_parent)

    def _ready(self) -> tuple[bool, dict[str, Any]]:
        missing = self._missing()
        is_ready = not missing and not self._stop.is_set()
        return is_ready, {"program": "router", "slot": self._slot, "missing": missing}

    def _missing(self) -> list[str]:
        pools = self._switchboard.snapshot()["pools"]
        return [role for role, pool in pools.items() if not pool["ready"]]

    def _cluster(self) -> dict[str, Any]:
        """What the web process and the `xiaozhi` command show of this router and its workers."""
        snapshot = self._switchboard.snapshot()
        return {
            "router": {
                "slot": self._slot,
                "pid": os.getpid(),
                "version": version(),
                "connections": self._gateway.connections,
                "sessions": self._gateway.phases(),
                "threads": thread_count(),
                "draining": self._stop.is_set(),
                "epoch": self._settings.epoch,
            },
            "pools": {role: pool["workers"] for role, pool in snapshot["pools"].items()},
            "ready": not self._missing() and not self._stop.is_set(),
            "missing": self._missing(),
        }
