"""python -m workers.tts --slot N: one tts worker process."""

from __future__ import annotations

import argparse
import sys

from shared.config.load import load
from shared.config.provider_limits import for_one_of
from shared.desired import number_of
from shared.log.setup import configure
from shared.process.watchdog import Watchdog
from shared.worker.process import run
from workers.tts.service import TtsService


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m workers.tts", description=__doc__)
    parser.add_argument("--slot", type=int, default=0)
    slot = parser.parse_args().slot
    settings = load()
    configure("tts", slot, settings.log)
    watchdog = Watchdog()
    processes = number_of("tts", settings.cluster.run_dir) or settings.cluster.counts.tts
    service = TtsService(for_one_of(settings.tts, processes), watchdog=watchdog)
    return run(service, settings=settings, slot=slot, program="tts", watchdog=watchdog)


if __name__ == "__main__":
    sys.exit(main())
