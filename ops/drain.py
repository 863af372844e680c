"""`xiaozhi drain PROCESS`: take one process out; it stays out until `xiaozhi scale` or `xiaozhi restart`."""

from __future__ import annotations

import argparse
import time
from functools import partial
from typing import Any

from ops.change.changes import RefusedError, draining, parse_name
from ops.change.operating import Site, add_limits, exit_code_of, follow, limits_of, operate, seconds_since
from ops.scale import refuse_to_empty


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser("drain", help="take one process out of the running cluster")
    parser.add_argument("process", help="such as asr_01")
    parser.add_argument("--force", action="store_true", help="even if it is the last of its role")
    add_limits(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    return operate(f"drain {args.process}", args.wait, partial(drain, args))


def drain(args: argparse.Namespace, site: Site) -> int:
    name, wanted = parse_name(args.process, site.slots()), site.running.wanted()
    if name not in wanted:
        raise RefusedError(f"{name} is out already")
    left = sum(other.program == name.program for other in wanted) - 1
    if not args.force:
        refuse_to_empty(site, name.program, left)
    began_s = time.monotonic()
    course = follow(site, draining(name), limits_of(args))
    site.terminal.line(f"{name} is out after {seconds_since(began_s)}; `xiaozhi restart {name}` brings it back")
    return exit_code_of(course)
