"""`xiaozhi scale ROLE N`: more or fewer processes of a role, while people talk."""

from __future__ import annotations

import argparse
import time
from functools import partial
from typing import Any

from ops.change.changes import RefusedError, scaling
from ops.change.course import GaveUp
from ops.change.observing import cluster_of, own_host
from ops.change.operating import Site, add_limits, exit_code_of, follow, limits_of, operate, seconds_since
from ops.change.sight import hosts_with


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser("scale", help="more or fewer processes of a role")
    parser.add_argument("role", help="session, asr, tts, router or web")
    parser.add_argument("count", type=int, help="how many processes it should have")
    add_limits(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    return operate(f"scale {args.role} {args.count}", args.wait, partial(scale, args))


def scale(args: argparse.Namespace, site: Site) -> int:
    wanted = site.running.wanted()
    before = sum(name.program == args.role for name in wanted)
    units = scaling(args.role, args.count, wanted, site.slots())
    refuse_to_empty(site, args.role, args.count)
    began_s = time.monotonic()
    course = follow(site, units, limits_of(args))
    after = sum(name.program == args.role for name in course.wanted)
    words = f"{args.role} has {after}" if isinstance(course.verdict, GaveUp) else f"{args.role}: {before} → {after}"
    site.terminal.line(f"{words} processes, after {seconds_since(began_s)}")
    return exit_code_of(course)


def refuse_to_empty(site: Site, role: str, count: int) -> None:
    """Raises RefusedError if nobody would be left to do the work of `role`."""
    run_dir = site.running.run_dir
    if count == 0 and not hosts_with(cluster_of(run_dir), role) - {own_host(run_dir)}:
        raise RefusedError(f"{role} 0 would leave nobody for its work: no other machine has workers of it")
