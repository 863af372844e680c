"""What the web process knows of the cluster. It keeps nothing: it asks the routers, and remembers a second long."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
from pydantic import ValidationError

from router.web.disk import DiskThread
from router.web.fetch import get_page
from router.web.metrics import RecycledCounts
from router.web.snapshot import LOOPBACK, ClusterReport, RouterSnapshot, Target, router_target, worker_targets
from shared.desired import read_desired
from shared.settings import ClusterSettings, metrics_port_of

_log = structlog.get_logger(__name__)

FRESH_S = 1.0
ASK_TIMEOUT_S = 0.8
MAX_QUESTIONS = 16
"""At the same time."""
FATAL_FILE = "fatal.json"
"""{"asr_00": {"reason": "..."}, ...}: processes that do not come up, written by `xiaozhi up` into the run directory."""
RECYCLED_FILE = "recycled.json"
"""{"asr/age": 2, ...}: processes that `xiaozhi up` has replaced, by program and reason."""

_GAUGE = re.compile(r"^(xz_process_threads|xz_thread_budget) ([0-9.e+]+)$", re.MULTILINE)
_VERSION = re.compile(r'^xz_build_info\{[^}]*\bversion="([^"]*)"', re.MULTILINE)


class ClusterView:
    """Asks the routers of this machine on their metrics ports: the ones that should run at present."""

    def __init__(self, settings: ClusterSettings, slot: int, disk: DiskThread) -> None:
        self._settings = settings
        self._slot = slot
        self._disk = disk
        self._own_host = settings.advertised_host or socket.gethostname()
        self._lock = asyncio.Lock()
        self._report: ClusterReport | None = None
        self._asked_s = 0.0
        self._recycled = RecycledCounts()
        self._questions = asyncio.Semaphore(MAX_QUESTIONS)

    async def report(self) -> ClusterReport:
        """At most a second old. Callers at the same time share one round of questions."""
        async with self._lock:
            now_s = asyncio.get_running_loop().time()
            if self._report is None or now_s - self._asked_s >= FRESH_S:
                self._report = await self._ask_all()
                self._asked_s = now_s
            return self._report

    async def targets(self) -> list[Target]:
        """Every process, for Prometheus: the configured routers whether they answer or not, and all known workers."""
        report = await self.report()
        own = Target("web", self._slot, LOOPBACK, self._port_of("web", self._slot))
        routers = [router_target(slot, self._port_of("router", slot), told) for slot, told in report.routers.items()]
        return [own, *routers, *worker_targets(report.workers(), self._own_host)]

    async def scrape_targets(self) -> list[Target]:
        """As Prometheus finds them: this machine's processes under its name, if they can be reached by others."""
        targets = await self.targets()
        if self._settings.metrics_host == LOOPBACK:
            return targets
        return [replace(target, host=self._own_host) if target.host == LOOPBACK else target for target in targets]

    async def processes(self, targets: Sequence[Target]) -> list[dict[str, Any]]:
        """Threads and version of each, as it tells them itself; without them if it does not answer. Another machine's
        processes are not asked: their metrics ports are open to their own machine and to Prometheus only."""
        pages = await asyncio.gather(*(self._metrics_of(target) for target in targets))
        return [
            {"program": target.program, "slot": target.slot, "metrics": target.address} | target.load | _facts(page)
            for target, page in zip(targets, pages, strict=True)
        ]

    def _port_of(self, program: str, slot: int) -> int:
        return metrics_port_of(self._settings.metrics_port, program, slot)

    async def _ask_all(self) -> ClusterReport:
        slots = await self._disk.run(router_slots, self._settings)
        snapshots = await asyncio.gather(*(self._ask(slot) for slot in slots))
        fatal = await self._disk.run(read_fatal, self._settings.run_dir / FATAL_FILE)
        self._recycled.update(await self._disk.run(read_recycled, self._settings.run_dir / RECYCLED_FILE))
        return ClusterReport(dict(zip(slots, snapshots, strict=True)), fatal)

    async def _ask(self, slot: int) -> RouterSnapshot | None:
        page = await self._get(self._port_of("router", slot), "/cluster")
        if page is None:
            return None
        try:
            return RouterSnapshot.model_validate_json(page)
        except ValidationError as error:
            _log.warning("router_snapshot_malformed", slot=slot, faults=error.error_count())
            return None

    async def _metrics_of(self, target: Target) -> str | None:
        return await self._get(target.port, "/metrics") if target.host == LOOPBACK else None

    async def _get(self, port: int, path: str) -> str | None:
        async with self._questions:
            return await get_page(LOOPBACK, port, path, timeout_s=ASK_TIMEOUT_S)


def router_slots(settings: ClusterSettings) -> Sequence[int]:
    """The routers that should run now; the configured ones if nobody says (a web process on its own)."""
    desired = read_desired(settings.run_dir)
    return range(settings.counts.routers) if desired is None else desired.get("router", ())


def read_recycled(path: Path) -> dict[str, int]:
    """Replacements of old and large processes, by "program/reason"; empty if the file is not there."""
    try:
        counts = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return {str(key): int(count) for key, count in counts.items()}


def read_fatal(path: Path) -> dict[str, str]:
    """Processes that do not come up, with the reason; empty if the file is not there."""
    try:
        failures = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return {name: _reason(failure) for name, failure in failures.items()} if isinstance(failures, dict) else {}


def _reason(failure: object) -> str:
    return str(failure.get("reason", "")) if isinstance(failure, dict) else str(failure)


def _facts(page: str | None) -> dict[str, Any]:
    if page is None:
        return {"answers": False}
    gauges = {name: int(float(value)) for name, value in _GAUGE.findall(page)}
    version = _VERSION.search(page)
    return {
        "answers": True,
        "version": version[1] if version else None,
        "threads": gauges.get("xz_process_threads"),
        "thread_budget": gauges.get("xz_thread_budget"),
    }
