"""The `xiaozhi` command: one subcommand a module, loaded only when it is asked for."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import IO, cast

COMMANDS = (
    "up",
    "down",
    "status",
    "scale",
    "drain",
    "restart",
    "reload",
    "devices",
    "keys",
    "doctor",
    "models",
    "talk",
)
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the subcommand."""
    open_standard_files()
    words = list(sys.argv[1:] if arguments is None else arguments)
    args = make_parser(words).parse_args(words)
    try:
        return int(args.run(args))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe has gone; Python would complain again while it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1


def make_parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """Imports only the module of the subcommand that `words` begin with; all of them for --help."""
    parser = argparse.ArgumentParser(prog="xiaozhi", description="Run and look after a xiaozhi cluster.")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in COMMANDS:
        if name in words[:1] or words[:1] not in [[command] for command in COMMANDS]:
            importlib.import_module(f"ops.{name}").add_parser(subparsers)
    return parser


def open_standard_files() -> None:
    """With descriptor 0, 1 or 2 closed, the next socket would get that number and be written to as a terminal."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdin = cast(IO[str], sys.stdin or open(0, closefd=False))  # noqa: SIM115
    sys.stdout = cast(IO[str], sys.stdout or open(1, "w", closefd=False))  # noqa: SIM115
    sys.stderr = cast(IO[str], sys.stderr or open(2, "w", closefd=False))  # noqa: SIM115


if __name__ == "__main__":
    sys.exit(main())
