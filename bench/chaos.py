"""Chaos: devices talk while workers are killed, stopped, wedged and drained, links disturbed, and engines fail.

    python -m bench.chaos --devices 50 --seconds 600 --seed 7

Starts a cluster of its own and judges it all the time (bench/trial/judge.py, books.py and wire_book.py say by which
rules); the exit code is 1 if there is a complaint or, unless services outside are asked, if anybody was let go. The
seed names the plan of faults and what the people do; the same seed is the same plan. `--engines embedded` has real
engines behind it; then marks are not judged. `--keep-logs DIRECTORY` keeps the processes' logs.

`--engines upstream` asks services outside: fakes in this process that hear and say marks, and fail, hang, slow down and
vanish by a plan of their own. Each person must hear an answer or an apology every time. Workers are killed as well, but
less often (`--every 0` = not at all). Who hears two apologies in a row is let go, which is no complaint there: all
recognisers may fail at once.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from bench.trial.cluster import POOLS
from bench.trial.faults import STAGED, WEIGHTS, Fault, plan_faults
from bench.trial.trial import EMBEDDED_CONFIG, Trial, TrialPlan, trial_config
from bench.trial.upstream_plan import UpstreamFault, plan_upstream_faults
from bench.trial.upstreams import LLM, PROVIDERS

EVERY_S = {"scripted": 2.0, "embedded": 2.0, "upstream": 12.0}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description="Faults under talking devices.")
    parser.add_argument("--devices", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", default="7")
    parser.add_argument("--workers", type=int, default=3, help="of each pool")
    parser.add_argument("--every", type=float, metavar="S", help="seconds between two faults, about: 2, upstream 12")
    parser.add_argument("--upstream-every", type=float, default=2.5, metavar="S", help="the same of services outside")
    parser.add_argument("--providers", default=",".join(PROVIDERS), help="services outside, in the order of asking")
    parser.add_argument("--forward", type=int, default=1, metavar="N", help="workers of each pool behind a forwarder")
    parser.add_argument("--asr-fails", type=int, default=60, metavar="N", help="every N-th utterance; 0 = none")
    parser.add_argument("--llm-fails", type=int, default=60, metavar="N", help="every N-th request; 0 = none")
    parser.add_argument("--tts-fails", type=int, default=200, metavar="N", help="every N-th segment; 0 = none")
    parser.add_argument("--engines", choices=("scripted", "embedded", "upstream"), default="scripted")
    parser.add_argument("--plan", action="store_true", help="only print the plan of faults")
    parser.add_argument("--keep-logs", type=Path, metavar="DIRECTORY")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report")
    return parser


def faults_of(args: argparse.Namespace) -> list[Fault]:
    every_s = args.every if args.every is not None else EVERY_S[args.engines]
    if not every_s:
        return []
    counts = dict.fromkeys(POOLS, args.workers)
    forwarded = [(pool, slot) for pool in POOLS for slot in range(min(args.forward, args.workers))]
    # Only scripted engines take stage directions.
    weights = {act: 0.0 if act in STAGED and not is_scripted(args) else weight for act, weight in WEIGHTS.items()}
    return plan_faults(args.seed, args.seconds, counts=counts, every_s=every_s, forwarded=forwarded, weights=weights)


def upstream_faults_of(args: argparse.Namespace) -> list[UpstreamFault]:
    if not providers_of(args):
        return []
    return plan_upstream_faults(args.seed, args.seconds, [*providers_of(args), LLM], every_s=args.upstream_every)


def providers_of(args: argparse.Namespace) -> list[str]:
    return str(args.providers).split(",") if args.engines == "upstream" else []


def is_scripted(args: argparse.Namespace) -> bool:
    return str(args.engines) == "scripted"


def config_of(args: argparse.Namespace) -> str:
    if not is_scripted(args):
        return EMBEDDED_CONFIG if args.engines == "embedded" else ""
    return trial_config(asr_fail_every=args.asr_fails, llm_fail_every=args.llm_fails, tts_fail_every=args.tts_fails)


def plan_of(args: argparse.Namespace) -> TrialPlan:
    return TrialPlan(
        devices=args.devices,
        seconds=args.seconds,
        seed=args.seed,
        counts=dict.fromkeys(POOLS, args.workers),
        faults=faults_of(args),
        forwarded=[f"{pool}-{slot}" for pool in POOLS for slot in range(min(args.forward, args.workers))],
        config=config_of(args),
        has_marks=args.engines != "embedded",
        providers=providers_of(args),
        upstream_faults=upstream_faults_of(args),
        keep_logs_in=args.keep_logs,
    )


def show(report: dict[str, Any]) -> None:
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, show_header=False)
    for key, value in report.items():
        if key not in ("examples", "complaints"):
            words = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
            table.add_row(key, words)
    console.print(table)
    for line in report["examples"]:
        console.print(f"  {line}", markup=False)
    found = ", ".join(f"{count} {code}" for code, count in report["complaints"].items())
    console.print(f"complaints: {found or 'none'}")


def write(report: dict[str, Any], path: Path | None) -> None:
    if path is not None:
        path.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if there was nothing to complain of."""
    args = make_parser().parse_args(arguments)
    if args.plan:
        planned: list[Fault | UpstreamFault] = [*faults_of(args), *upstream_faults_of(args)]
        print(*sorted(planned, key=lambda fault: fault.at_s), sep="\n")
        return 0
    trial = Trial(plan_of(args))
    # A full collection over all modules' objects would hold the loop for tens of milliseconds.
    gc.freeze()
    uvloop.run(trial.run())
    report = trial.report()
    write(report, args.json)
    show(report)
    is_good = not report["complaints"] and (args.engines == "upstream" or not report["turns"].get("let_go"))
    return 0 if is_good and report["turns"].get("answered") else 1


if __name__ == "__main__":
    sys.exit(main())
