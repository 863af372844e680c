"""`python -m router --slot N [--listen-fd FD]`: one router process."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

import uvloop

from router.app import RouterProcess
from shared.config.load import load
from shared.errors import XiaozhiError
from shared.log.setup import close, configure
from shared.process.blocked import VARIABLE
from shared.settings import Settings


def main() -> int:
    parser = argparse.ArgumentParser(prog="router", description="Terminates device WebSockets.")
    parser.add_argument("--slot", type=int, default=0)
    parser.add_argument("--listen-fd", type=int, help="inherited listening socket; without it the port is bound")
    arguments = parser.parse_args()
    try:
        settings = load()
    except XiaozhiError as error:
        sys.stderr.write(f"router: {error}\n")
        return 1
    writer = configure("router", arguments.slot, settings.log)
    try:
        debug = os.environ.get(VARIABLE) == "1"
        with asyncio.Runner(loop_factory=uvloop.new_event_loop, debug=debug) as runner:
            return runner.run(_live(settings, arguments.slot, arguments.listen_fd))
    finally:
        close(writer)


async def _live(settings: Settings, slot: int, listen_fd: int | None) -> int:
    return await RouterProcess(settings, slot, listen_fd).live()


if __name__ == "__main__":
    sys.exit(main())
