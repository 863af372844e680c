"""`xiaozhi status`: every process with its state, load, threads and epoch; with --watch again and again.

supervisord knows what runs; the web process knows what it does. Each is asked by itself, so that a dead web process
hides nothing but the loads.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ops.change.observing import admin_sockets, cluster_of, webs_of
from ops.change.right import doing
from ops.change.running import EXIT_DOWN, NotRunningError, Running, running
from ops.process import ProcessInfo, ProcessName
from ops.supervisor import Supervisor, SupervisorError
from shared.config.epoch import current_epoch

Loads = Mapping[str, Mapping[str, Any]]
WATCH_S = 1.0


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
    epoch: int | None = None
    """Of the configuration it runs with."""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """A cluster at one moment."""

    rows: list[Row]
    epoch: int | None
    """Of the configuration that the cluster has agreed on."""
    work: str | None
    """What somebody is doing to the cluster: scaling, restarting, recycling."""
    is_web_silent: bool = False


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser("status", help="show the processes of the running cluster")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--watch", action="store_true", help="again every second, until Ctrl-C")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    try:
        if args.watch:
            return watch(args.json)
        report = report_of(running())
    except (NotRunningError, SupervisorError):
        print(json.dumps({"running": False, "processes": []}) if args.json else "no cluster is running")
        return EXIT_DOWN
    if report.is_web_silent:
        print("the web process does not answer; loads are missing", file=sys.stderr)
    if args.json:
        print(as_json(report))
    else:
        Console(soft_wrap=True).print(shown(report))
    return 0


def watch(is_json: bool) -> int:
    """Until Ctrl-C, or until the cluster has ended. On a terminal in place, elsewhere one block after the other."""
    console = Console(soft_wrap=True)
    if is_json or not console.is_terminal:
        for report in reports():
            print(as_json(report) if is_json else as_text(report), flush=True)
        return EXIT_DOWN
    with Live(console=console, auto_refresh=False, screen=False) as live:
        for report in reports():
            live.update(shown(report), refresh=True)
    print("the cluster has ended")
    return EXIT_DOWN


def reports() -> Iterator[Report]:
    """One a second for as long as the cluster runs. Raises NotRunningError if it does not run at first."""
    cluster = running()
    while True:
        try:
            yield report_of(cluster)
            time.sleep(WATCH_S)
            cluster = running()
        except (NotRunningError, SupervisorError):
            return


def report_of(cluster: Running) -> Report:
    """Raises SupervisorError, NotRunningError."""
    wanted = cluster.wanted()
    infos = Supervisor(cluster.run_dir).all_infos()
    shown_infos = [info for info in infos if info.state != "STOPPED" or info.message or info.name in wanted]
    body = cluster_of(cluster.run_dir) if admin_sockets(cluster.run_dir) else None
    return Report(
        make_rows(shown_infos, by_process(body, webs_of(cluster.run_dir))),
        current_epoch(cluster.run_dir),
        doing(cluster.run_dir),
        is_web_silent=body is None,
    )


def by_process(body: Any, webs: Iterable[Mapping[str, Any]] = ()) -> Loads:
    """What routers tell of themselves and of workers, and what each process tells of itself, brought together."""
    found: dict[str, dict[str, Any]] = {str(ProcessName("web", web["slot"])): {"epoch": web["epoch"]} for web in webs}
    if not isinstance(body, dict):
        return found
    for router in body.get("routers", ()):
        told = {"active": router["connections"], "draining": router["draining"], "epoch": router.get("epoch")}
        found.setdefault(str(ProcessName("router", router["slot"])), {}).update(told)
    for worker in body.get("workers", ()):
        found.setdefault(str(ProcessName(worker["role"], worker["slot"])), {}).update(worker)
    for process in body.get("processes", ()):
        found.setdefault(str(ProcessName(process["program"], process["slot"])), {}).update(process)
    for name, reason in body.get("fatal", {}).items():
        found.setdefault(name, {})["fatal"] = reason
    return found


def make_rows(infos: list[ProcessInfo], loads: Loads) -> list[Row]:
    return [_row(info, loads.get(str(info.name), {})) for info in infos]


def _row(info: ProcessInfo, load: Mapping[str, Any]) -> Row:
    return Row(
        process=str(info.name),
        state=_state(info, load),
        pid=info.pid,
        uptime_s=info.uptime_s,
        active=load.get("active"),
        capacity=load.get("capacity"),
        threads=load.get("threads") or threads_of(info.pid),
        lag_ms=load.get("lag_ms"),
        epoch=load.get("epoch"),
        message=load.get("fatal") or info.message,
    )


def _state(info: ProcessInfo, load: Mapping[str, Any]) -> str:
    if load.get("draining") or info.state == "STOPPING":
        return "DRAINING"
    return "FATAL" if load.get("fatal") and info.has_ended else info.state


def threads_of(pid: int) -> int | None:
    """As the kernel counts them."""
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir()) if pid else None
    except OSError:
        return None


def as_json(report: Report) -> str:
    rows = [asdict(row) for row in report.rows]
    return json.dumps({"running": True, "epoch": report.epoch, "work": report.work, "processes": rows})


def as_text(report: Report) -> str:
    """For a pipe or a file: the time, then what a terminal would show."""
    console = Console(width=200)
    with console.capture() as capture:
        console.print(shown(report))
    lines = [line.rstrip() for line in capture.get().splitlines()]
    return "\n".join([time.strftime("%Y-%m-%dT%H:%M:%S%z"), *lines, ""])


def shown(report: Report) -> RenderableType:
    table = Table("process", "state", "pid", "up", "load", "threads", "lag", "epoch", "", box=None, pad_edge=False)
    for row in report.rows:
        table.add_row(*_cells(row))
    work = [Text(f"at work: {report.work}")] if report.work else []
    return Group(table, *work)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.process,
        row.state,
        str(row.pid or "-"),
        _span(row.uptime_s),
        "-" if row.active is None else f"{row.active}/{row.capacity}" if row.capacity else str(row.active),
        "-" if row.threads is None else str(row.threads),
        "-" if row.lag_ms is None else f"{row.lag_ms:.0f} ms",
        "-" if row.epoch is None else str(row.epoch),
        row.message,
    )


def _span(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
