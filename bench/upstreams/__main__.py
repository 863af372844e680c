"""python -m bench.upstreams [NAME ...]: run servers that speak like the cloud services, to try a cluster without them.

It prints each server's address and a configuration that leads there, and serves until Ctrl-C. The keys in it are the
fakes' own; no real key is needed. A fault is NAME:KIND@STAGE[*TIMES], such as huoshan:error@start*2.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from contextlib import AsyncExitStack
from typing import Any

import yaml

from bench.upstreams.fake import Fake
from bench.upstreams.roster import NAMES, faults_of, made, merged, sections_of
from bench.upstreams.script import Fault, Kind, Script, Stage


def main(arguments: list[str] | None = None) -> int:
    parser = _parser()
    chosen = parser.parse_args(arguments)
    try:
        faults = faults_of(chosen.fault)
    except ValueError as error:
        parser.error(str(error))
    names = [name for name in NAMES if name in chosen.names or not chosen.names]
    try:
        asyncio.run(_serve(names, faults, chosen))
    except OSError as error:
        print(f"a port cannot be used: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.upstreams",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"kinds: {', '.join(kind.value for kind in Kind)}; stages: {', '.join(stage.value for stage in Stage)}",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", type=_name, help=f"of {', '.join(NAMES)}; none = all")
    parser.add_argument("--fault", action="append", default=[], metavar="NAME:KIND@STAGE[*TIMES]", help="repeatable")
    parser.add_argument("--latency-ms", type=int, default=0, help="from a request to the first result")
    parser.add_argument("--drip-ms", type=int, default=0, help="between two pieces of a result")
    parser.add_argument("--port-base", type=int, default=0, help="the first of the ports; 0 = free ones")
    return parser


def _name(text: str) -> str:
    if text not in NAMES:
        raise argparse.ArgumentTypeError(f"one of {', '.join(NAMES)} is expected, not {text}")
    return text


async def _serve(names: list[str], faults: dict[str, Fault], chosen: argparse.Namespace) -> None:
    is_over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, is_over.set)
    async with AsyncExitStack() as running:
        documents: list[dict[str, Any]] = []
        for name in names:
            port = chosen.port_base + NAMES.index(name) if chosen.port_base else 0
            script = Script(chosen.latency_ms, chosen.drip_ms, faults.get(name))
            fake: Fake = await running.enter_async_context(made(name, script, port))
            documents.append(sections_of(name, fake))
            print(f"# {name}: {fake.url}{_said(faults.get(name))}")
        print(yaml.safe_dump(merged(documents), sort_keys=False, allow_unicode=True), flush=True)
        await is_over.wait()


def _said(fault: Fault | None) -> str:
    return (
        f" ({fault.kind.value} at {fault.stage.value}{f', {fault.times} times' if fault.times else ''})"
        if fault
        else ""
    )


if __name__ == "__main__":
    sys.exit(main())
