"""`xiaozhi restart`: new lives for processes; all at once, or with --rolling one after the other while people talk."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from ops.change.changes import RefusedError, restarting, rolling, targets_of
from ops.change.course import GaveUp, Up
from ops.change.operating import Site, add_limits, exit_code_of, follow, limits_of, operate, seconds_since
from ops.process import ProcessName


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser("restart", help="restart processes of the running cluster")
    parser.add_argument("what", nargs="*", metavar="ROLE|PROCESS", help="such as asr or asr_01; --rolling: default all")
    parser.add_argument("--rolling", action="store_true", help="one at a time, none before the one before has joined")
    add_limits(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    words = ["restart", *(["--rolling"] if args.rolling else []), *args.what]
    return operate(" ".join(words), args.wait, partial(restart, args))


def restart(args: argparse.Namespace, site: Site) -> int:
    if not args.what and not args.rolling:
        raise RefusedError("say what to restart, or --rolling for everything, one at a time")
    targets = targets_of(args.what, site.running.wanted(), site.slots())
    return renew(site, targets, args)


def renew(site: Site, targets: Sequence[ProcessName], args: argparse.Namespace, epoch: int = 0) -> int:
    """Restart these; with an `epoch` a new life must run at least that."""
    wanted = site.running.wanted()
    units = rolling(targets, wanted, site.slots()) if args.rolling else restarting(targets, wanted)
    began_s = time.monotonic()
    course = follow(site, units, limits_of(args), epoch)
    renewed = [step.name for step in course.done if isinstance(step, Up) and step.name in targets]
    if isinstance(course.verdict, GaveUp):
        site.terminal.line(f"restarted before that: {', '.join(map(str, renewed)) or 'none'}")
        for spare in sorted(course.wanted - wanted - set(targets), key=str):
            site.terminal.line(f"{spare} stays in its place")
    else:
        site.terminal.line(f"restarted {', '.join(map(str, renewed))}, after {seconds_since(began_s)}")
    return exit_code_of(course)
