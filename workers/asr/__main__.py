"""python -m workers.asr --slot N: one asr worker process."""

from __future__ import annotations

import argparse
import sys

from shared.config.load import load
from shared.config.provider_limits import for_one_of
from shared.desired import number_of
from shared.log.setup import configure
from shared.process.watchdog import Watchdog
from shared.worker.process import run
from workers.asr.service import AsrService


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m workers.asr", description=__doc__)
    parser.add_argument("--slot", type=int, default=0)
    slot = parser.parse_args().slot
    settings = load()
    configure("asr", slot, settings.log)
    watchdog = Watchdog()
    processes = number_of("asr", settings.cluster.run_dir) or settings.cluster.counts.asr
    service = AsrService(for_one_of(settings.asr, processes), watchdog, settings.voiceprint)
    return run(service, settings=settings, slot=slot, program="asr", watchdog=watchdog)


if __name__ == "__main__":
    sys.exit(main())
