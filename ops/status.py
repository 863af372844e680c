"""`xiaozhi status`: every process with its state, load and threads.

supervisord knows what runs; the web process knows what it does. Each is asked by itself, so that a dead web process
hides nothing but the loads.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ops.readiness import ADMIN_SOCKET_NAME
from ops.supervisor import ProcessInfo, ProcessName, Supervisor, SupervisorError
from ops.unix_http import get_json
from shared.config.load import load

Loads = Mapping[str, Mapping[str, Any]]
EXIT_DOWN = 3
"""As an init script's `status` says it (LSB 3.2, chapter 22.2): the program is not running."""


@dataclass(frozen=True, slots=True)
class Row:
    """One process. None = not told."""

    process: str
    state: str
    pid: int
    uptime_s: int
    active: int | None = None
    capacity: int | None = None
    threads: int | None = None
    lag_ms: float | None = None
    message: str = ""


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser("status", help="show the processes of the running cluster")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    run_dir = load().cluster.run_dir
    try:
        infos = [info for info in Supervisor(run_dir).all_infos() if info.state != "STOPPED" or info.message]
    except SupervisorError:
        print(json.dumps({"running": False, "processes": []}) if args.json else "no cluster is running")
        return EXIT_DOWN
    rows = make_rows(infos, loads_of(run_dir))
    if args.json:
        print(json.dumps({"running": True, "processes": [asdict(row) for row in rows]}))
    else:
        show(rows)
    return 0


def loads_of(run_dir: Path) -> Loads:
    """What the web process says of each process, by its name; nothing if it does not answer."""
    try:
        status, body = get_json(run_dir / ADMIN_SOCKET_NAME, "/api/cluster")
    except (OSError, http.client.HTTPException) as error:
        print(f"the web process does not answer ({type(error).__name__}); loads are missing", file=sys.stderr)
        return {}
    return by_process(body) if status == http.client.OK else {}


def by_process(body: Any) -> Loads:
    """What routers tell of themselves and of workers, and what each process tells of itself, brought together."""
    found: dict[str, dict[str, Any]] = {}
    if not isinstance(body, dict):
        return found
    for router in body.get("routers", ()):
        told = {"active": router["connections"], "draining": router["draining"]}
        found.setdefault(str(ProcessName("router", router["slot"])), {}).update(told)
    for worker in body.get("workers", ()):
        found.setdefault(str(ProcessName(worker["role"], worker["slot"])), {}).update(worker)
    for process in body.get("processes", ()):
        found.setdefault(str(ProcessName(process["program"], process["slot"])), {}).update(process)
    return found


def make_rows(infos: list[ProcessInfo], loads: Loads) -> list[Row]:
    return [_row(info, loads.get(str(info.name), {})) for info in infos]


def _row(info: ProcessInfo, load: Mapping[str, Any]) -> Row:
    return Row(
        process=str(info.name),
        state="DRAINING" if load.get("draining") else info.state,
        pid=info.pid,
        uptime_s=info.uptime_s,
        active=load.get("active"),
        capacity=load.get("capacity"),
        threads=load.get("threads") or threads_of(info.pid),
        lag_ms=load.get("lag_ms"),
        message=info.message,
    )


def threads_of(pid: int) -> int | None:
    """As the kernel counts them."""
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir()) if pid else None
    except OSError:
        return None


def show(rows: list[Row]) -> None:
    table = Table("process", "state", "pid", "up", "load", "threads", "lag", "", box=None, pad_edge=False)
    for row in rows:
        table.add_row(
            row.process,
            row.state,
            str(row.pid or "-"),
            _span(row.uptime_s),
            "-" if row.active is None else f"{row.active}/{row.capacity}" if row.capacity else str(row.active),
            "-" if row.threads is None else str(row.threads),
            "-" if row.lag_ms is None else f"{row.lag_ms:.0f} ms",
            row.message,
        )
    Console(soft_wrap=True).print(table)


def _span(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
