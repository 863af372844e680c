"""python -m workers.asr --slot N: one asr worker process."""

from __future__ import annotations

import argparse
import sys

from shared import config
from shared.log import configure
from shared.watchdog import Watchdog
from shared.worker import run
from workers.asr.service import AsrService


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m workers.asr", description=__doc__)
    parser.add_argument("--slot", type=int, default=0)
    slot = parser.parse_args().slot
    settings = config.load()
    configure("asr", slot, settings.log)
    watchdog = Watchdog()
    service = AsrService(settings.asr, watchdog)
    return run(service, settings=settings, slot=slot, program="asr", watchdog=watchdog)


if __name__ == "__main__":
    sys.exit(main())
