"""python -m bench.engines [asr] [tts] [llm]: measures each configured engine and shows a table for each kind.

The configuration is the cluster's own (data/.config.yaml), or the file that --config names. Cloud engines are really
asked, which may cost money.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path

import structlog
import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench.engines.plan import Plan, Row
from shared.config.load import load_with_warnings
from shared.errors import ConfigError

KINDS = ("asr", "tts", "llm")
FILE_WIDTH = 240
"""Characters, where no terminal says how wide it is."""
Measure = Callable[[Plan], Awaitable[list[Row]]]


def measure_of(kind: str) -> Measure:
    """The kind's own module; imported when asked for, as each has its libraries."""
    measure: Measure = import_module(f"bench.engines.{kind}").measure
    return measure


def plan_of(options: argparse.Namespace, progress: Progress) -> Plan:
    """Raises ConfigError."""
    settings, warnings = load_with_warnings(user_file=options.config)
    for warning in warnings:
        progress.console.print(str(warning), style="yellow", markup=False)
    return Plan(
        settings=settings,
        progress=progress,
        sections=frozenset(options.section),
        count=options.count,
        languages=tuple(options.language or ("en", "zh")),
        noise_db=tuple(options.noise_db),
        pace=options.pace,
        sounds=options.sounds,
        tells_language=options.tell_language,
        texts=options.texts,
    )


async def measured(options: argparse.Namespace) -> dict[str, list[Row]]:
    with Progress(console=Console(stderr=True), transient=True) as progress:
        plan = plan_of(options, progress)
        return {kind: await measure_of(kind)(plan) for kind in KINDS if kind in options.kinds or not options.kinds}


def shown(kind: str, rows: list[Row]) -> Table:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(*columns, title=kind, title_justify="left", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*("" if row.get(name) is None else str(row[name]) for name in columns))
    return table


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.engines", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}; all, if none is named")
    parser.add_argument("--config", type=Path, help="a configuration file in place of data/.config.yaml")
    parser.add_argument("--section", action="append", default=[], help="only this section; may be repeated")
    parser.add_argument("--count", type=int, default=0, help="requests an engine and language; 0 = all there are")
    parser.add_argument("--language", action="append", choices=("en", "zh"), help="only this one; may be repeated")
    parser.add_argument(
        "--noise-db", action="append", type=float, default=[], help="recognise again with noise so far below the speech"
    )
    parser.add_argument("--pace", type=float, default=1.0, help="how fast sound is fed; 1 = as spoken, 0 = at once")
    parser.add_argument("--sounds", type=Path, help="a YAML list of recordings to recognise: file, text, language")
    parser.add_argument("--tell-language", action="store_true", help="tell recognisers which language is spoken")
    parser.add_argument("--texts", action="store_true", help="show what was heard")
    parser.add_argument("--json", action="store_true", help="rows as JSON instead of tables")
    return parser


def main() -> int:
    parser = arguments()
    options = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    if unknown := set(options.kinds) - set(KINDS):
        parser.error(f"no such kind: {', '.join(sorted(unknown))}")
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found = runner.run(measured(options))
    except ConfigError as error:
        sys.exit(str(error))
    if options.json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
        return 0
    console = Console(width=None if sys.stdout.isatty() else FILE_WIDTH)
    for kind, rows in found.items():
        console.print(shown(kind, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
