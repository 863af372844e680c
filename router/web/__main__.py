"""`python -m router.web --slot N [--listen-fd FD]`: one web process."""

from __future__ import annotations

import argparse
import sys

from router.web.process import EXIT_CANNOT_START, PROGRAM, run
from shared.config.load import load
from shared.errors import XiaozhiError
from shared.log.setup import close, configure


def main() -> int:
    parser = argparse.ArgumentParser(prog="router.web", description="Answers what devices and operators ask over HTTP.")
    parser.add_argument("--slot", type=int, default=0)
    parser.add_argument("--listen-fd", type=int, help="inherited listening socket; without it the port is bound")
    arguments = parser.parse_args()
    try:
        settings = load()
        writer = configure(PROGRAM, arguments.slot, settings.log)
    except XiaozhiError as error:
        sys.stderr.write(f"web: {error}\n")
        return EXIT_CANNOT_START
    try:
        return run(settings, arguments.slot, arguments.listen_fd)
    finally:
        close(writer)


if __name__ == "__main__":
    sys.exit(main())
