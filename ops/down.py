"""`xiaozhi down`: ask the cluster of this data directory to end, and wait until it has."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from ops.change.running import data_dir_of
from ops.cluster.lock import Holder, holder

POLL_S = 0.1


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser("down", help="stop the running cluster")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="default: %(default)g")
    parser.add_argument("--now", action="store_true", help="give conversations one second to end")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    return stop(data_dir_of(), args.timeout, is_now=args.now)


def stop(data_dir: Path, timeout_s: float, *, is_now: bool) -> int:
    """0 = nothing runs any more."""
    who = holder(data_dir)
    if who is None:
        print(f"no cluster runs on {data_dir}")
        return 0
    _ask(who)
    if is_now:
        time.sleep(2 * POLL_S)
        _ask(who)
    return _wait(data_dir, timeout_s)


def _ask(who: Holder) -> None:
    try:
        os.kill(who.pid, signal.SIGTERM)
    except ProcessLookupError:
        return


def _wait(data_dir: Path, timeout_s: float) -> int:
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        if holder(data_dir) is None:
            print("stopped")
            return 0
        time.sleep(POLL_S)
    print(f"still running after {timeout_s:g} s", file=sys.stderr)
    return 1
