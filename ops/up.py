"""`xiaozhi up`: check, start everything, wait until it is ready, stay until asked to end.

Exit codes: 0 after Ctrl-C, SIGTERM or `xiaozhi down`; 1 if the cluster cannot start or has died; 2 if a check refuses.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ops.addresses import shown_host
from ops.cluster import signals
from ops.cluster.hold import hold
from ops.cluster.orphans import end_orphans
from ops.cluster.plan import DEFAULT_DRAIN_S, Plan, plan_of
from ops.cluster.readiness import absent_here, missing_of
from ops.cluster.store import bring_up_to_date
from ops.terminal import Terminal
from shared.config.load import load_with_warnings
from shared.config.preflight import check, config_problems
from shared.errors import ConfigError, XiaozhiError
from shared.settings import ClusterSettings

EXIT_REFUSED = 2
LONGEST_WAIT_S = 3600
DEFAULT_HTTP_PORT = ClusterSettings().http_port


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser("up", help="start the cluster and stay in the foreground")
    parser.add_argument(
        "--drain",
        type=seconds,
        metavar="SECONDS",
        default=os.environ.get("XZ_DRAIN_S") or str(DEFAULT_DRAIN_S),
        help=f"how long conversations may go on after Ctrl-C (default: XZ_DRAIN_S, else {DEFAULT_DRAIN_S:g})",
    )
    parser.set_defaults(run=run)


def seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= LONGEST_WAIT_S:
        raise argparse.ArgumentTypeError(f"must be between 0 and {LONGEST_WAIT_S}, not {text}")
    return value


def run(args: argparse.Namespace) -> int:
    with signals.blocked(), Terminal() as terminal:
        try:
            settings, warnings = load_with_warnings()
        except ConfigError as error:
            return refuse(terminal, config_problems(error))
        for warning in warnings:
            terminal.line(f"warning: {warning}")
        end_orphans(settings.cluster, terminal.line)
        terminal.progress("checking configuration, ports, models, directories")
        problems = check(settings)
        terminal.end_progress()
        if problems:
            return refuse(terminal, problems)
        try:
            for news in bring_up_to_date(settings):
                terminal.line(news)
        except XiaozhiError as error:
            return refuse(terminal, [error])
        plan = plan_of(settings.cluster, os.environ, args.drain)
        show = partial(show_ready, terminal, settings.cluster, plan)
        try:
            return hold(plan, terminal, missing_in(plan, settings.cluster), show)
        except XiaozhiError as error:
            return refuse(terminal, [error])


def refuse(terminal: Terminal, reasons: Sequence[object]) -> int:
    """Name everything at once: nobody wants to find the second fault after mending the first."""
    terminal.end_progress()
    terminal.line("xiaozhi-cluster was not started:")
    for reason in reasons:
        terminal.line(f"  {reason}")
    return EXIT_REFUSED


def missing_in(plan: Plan, settings: ClusterSettings) -> Callable[[], str | None]:
    """What a start waits for."""
    if settings.counts.routers:
        return partial(missing_of, plan.run_dir, plan.names)
    return partial(absent_here, plan.names, settings.metrics_port)


def show_ready(terminal: Terminal, settings: ClusterSettings, plan: Plan, took_s: float) -> None:
    host = shown_host(settings.host)
    ota_url = f"http://{host}:{settings.http_port}/xiaozhi/ota/"
    counts = settings.counts
    terminal.line(
        f"xiaozhi-cluster is ready after {took_s:.1f} s: {counts.routers} router, {counts.asr} asr, {counts.tts} tts, "
        f"{counts.session} session"
    )
    if not counts.routers:
        terminal.line(f"  routers      {', '.join(settings.router_endpoints)}")
        terminal.line(f"  logs         {plan.log_dir}")
        terminal.line("  stop         Ctrl-C")
        return
    terminal.line(f"  WebSocket    ws://{host}:{settings.ws_port}/xiaozhi/v1/")
    terminal.line(f"  OTA          {ota_url}   (set this in your devices)")
    terminal.line(f"  talk to it   {talk_command(settings, ota_url)}")
    terminal.line(f"  logs         {plan.log_dir}")
    terminal.line("  stop         Ctrl-C")


def talk_command(settings: ClusterSettings, ota_url: str) -> str:
    """As it can be typed in another terminal, which does not have our variables."""
    words = [own_command(), "talk", "--say", '"what time is it"']
    if settings.http_port != DEFAULT_HTTP_PORT:
        words += ["--ota", ota_url]
    return " ".join(words)


def own_command() -> str:
    """`xiaozhi` if the shell finds it, else the path that leads to it."""
    if shutil.which("xiaozhi"):
        return "xiaozhi"
    command = Path(sys.executable).with_name("xiaozhi")
    return shlex.quote(os.path.relpath(command) if command.is_relative_to(Path.cwd()) else str(command))
