"""Soak: devices talk for a long time without faults, and every process has to stay flat.

    python -m bench.soak --devices 20 --minutes 30

Starts a cluster of its own and samples memory, descriptors, tasks and threads of each process. The exit code is 1 if a
line through the last half rises by more than bench/trial/flatness.py allows, or if the judge has any complaint.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

from bench.chaos import show, write
from bench.trial.cluster import POOLS
from bench.trial.flatness import Growth, complaints_of, growths
from bench.trial.trial import Trial, TrialPlan

SAMPLE_S = 5.0


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description="Flat or not, over a long time.")
    parser.add_argument("--devices", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--workers", type=int, default=2, help="of each pool")
    parser.add_argument("--seed", default="soak")
    parser.add_argument("--sample", type=float, default=SAMPLE_S, metavar="S", help="seconds between two samples")
    parser.add_argument("--keep-logs", type=Path, metavar="DIRECTORY")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report and all samples")
    return parser


def plan_of(args: argparse.Namespace) -> TrialPlan:
    return TrialPlan(
        devices=args.devices,
        seconds=args.minutes * 60,
        seed=args.seed,
        counts=dict.fromkeys(POOLS, args.workers),
        sample_s=args.sample,
        keep_logs_in=args.keep_logs,
    )


def show_growths(found: Sequence[Growth]) -> None:
    table = Table("process", "what", "mean", "grown", "at most", box=None, pad_edge=False)
    for one in found:
        table.add_row(one.name, one.what, f"{one.mean:.1f}", f"{one.grown:+.2f}", f"{one.limit:.1f}")
    Console(highlight=False).print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if everything stayed flat and nothing went wrong."""
    args = make_parser().parse_args(arguments)
    trial = Trial(plan_of(args))
    gc.freeze()
    uvloop.run(trial.run())
    samples = trial.talking_samples()
    rising, report = complaints_of(samples), trial.report()
    write(
        {
            **report,
            "rising": [str(complaint) for complaint in rising],
            "samples": [
                {
                    "at_s": round(at_s, 1),
                    "held": [
                        [one.name, one.pid, one.memory_kib, one.descriptors, one.tasks, one.threads] for one in held
                    ],
                }
                for at_s, held in samples
            ],
        },
        args.json,
    )
    show(report)
    show_growths(growths(samples))
    print(f"{len(samples)} samples; not flat: {', '.join(map(str, rising)) or 'nothing'}")
    return 1 if rising or report["complaints"] or not growths(samples) else 0


if __name__ == "__main__":
    sys.exit(main())
