"""`python -m workers.session --slot N`: one worker process of the session pool."""

from __future__ import annotations

import argparse
import sys

import structlog

from shared.config.load import load
from shared.errors import ConfigError
from shared.log.setup import configure
from shared.worker.process import run
from workers.session.service import SessionService

log = structlog.get_logger(__name__)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m workers.session", description=__doc__)
    parser.add_argument("--slot", type=int, default=0, help="number of this process in its pool")
    slot: int = parser.parse_args().slot
    settings = load()
    configure("session", slot, settings.log)
    try:
        service = SessionService(settings)
    except ConfigError as error:
        log.critical("worker_cannot_start", code=error.code, key=error.key, expected=error.expected)
        return 1
    return run(service, settings=settings, slot=slot, program="session")


if __name__ == "__main__":
    sys.exit(main())
