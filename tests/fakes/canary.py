"""Tells a blocked event loop from a machine that stood still.

The processes under test warn `loop_blocked` when their loop was late and had not been waiting for a processor. On a
virtual machine that the host takes off its processor for 200 ms, every process says so at once. A thread of the test
process that only sleeps is the canary: what it felt too was the machine.
"""

from __future__ import annotations

import re
import threading
import time
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

NAP_S = 0.01
STALL_S = 0.03
SLACK_S = 0.3
"""A line is written a moment after the stall that it tells of."""

_BLOCKED = re.compile(r"^(\S+Z) .*loop_blocked.*blocked_ms=(\d+)")


class Canary(threading.Thread):
    """Notes when it could not run although it wanted to and no other process of this machine was in its place."""

    def __init__(self) -> None:
        super().__init__(name="canary", daemon=True)
        self.stalls: list[tuple[float, float]] = []

    def run(self) -> None:
        schedstat = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")

        def waited_s() -> float:
            return int(schedstat.read_text().split()[1]) / 1e9

        while True:
            before_s, began_s = waited_s(), time.monotonic()
            time.sleep(NAP_S)
            late_s = time.monotonic() - began_s - NAP_S - (waited_s() - before_s)
            if late_s > STALL_S:
                self.stalls.append((time.time() - late_s, time.time()))

    def felt(self, from_s: float, until_s: float) -> bool:
        return any(start < until_s + SLACK_S and end > from_s - SLACK_S for start, end in self.stalls)


@cache
def canary() -> Canary:
    """One for the test process."""
    bird = Canary()
    bird.start()
    return bird


def blocked_lines(log: str) -> list[str]:
    """Lines of a process's log about blocks of its loop that were its own."""
    found = []
    for line in log.splitlines():
        match = _BLOCKED.match(line)
        if match:
            at_s = datetime.fromisoformat(match[1]).replace(tzinfo=UTC).timestamp()
            if not canary().felt(at_s - int(match[2]) / 1000, at_s):
                found.append(line)
    return found
