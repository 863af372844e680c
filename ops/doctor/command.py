"""`xiaozhi doctor`: what is wrong and how to mend it. Exit code 1 if anything has failed, else 0."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import structlog
from rich.console import Console
from rich.text import Text

from ops.doctor.checkup import DEADLINE_S, examine
from ops.doctor.finding import Finding, Level, has_failed
from shared.process.leave import leave

_STYLES = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser("doctor", help="explain what is wrong and how to mend it")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument(
        "--timeout", type=float, default=DEADLINE_S, metavar="SECONDS", help="for all looks together (%(default)g)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    # What is looked at may log; the answer is the findings alone.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    findings = examine(deadline_s=args.timeout)
    code = int(has_failed(findings))
    if args.json:
        print(json.dumps({"ok": code == 0, "findings": [asdict(finding) for finding in findings]}))
    else:
        show(findings, Console(soft_wrap=True, highlight=False))
    return leave(code)


def show(findings: Sequence[Finding], console: Console) -> None:
    """One line each; what is wrong first says itself, then how to mend it."""
    for finding in findings:
        first, *more = finding.what.splitlines()
        line = Text(f"{finding.level:<5}", style=_STYLES[finding.level])
        line.append(f" {finding.check}: {first}", style="default not bold")
        if finding.remedy:
            line.append(f" → {finding.remedy}", style="cyan not bold")
        console.print(line)
        for each in more:
            console.print(Text(f"        {each}"))
