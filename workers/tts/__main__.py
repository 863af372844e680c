"""python -m workers.tts --slot N: one tts worker process."""

from __future__ import annotations

import argparse
import sys

from shared import config
from shared.log import configure
from shared.watchdog import Watchdog
from shared.worker import run
from workers.tts.service import TtsService


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m workers.tts", description=__doc__)
    parser.add_argument("--slot", type=int, default=0)
    slot = parser.parse_args().slot
    settings = config.load()
    configure("tts", slot, settings.log)
    watchdog = Watchdog()
    service = TtsService(settings.tts, watchdog=watchdog)
    return run(service, settings=settings, slot=slot, program="tts", watchdog=watchdog)


if __name__ == "__main__":
    sys.exit(main())
