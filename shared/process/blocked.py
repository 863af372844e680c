"""Finds an event loop that is blocked by its own process, not by a busy machine. For tests: XZ_DEBUG_LOOP=1.

asyncio's `slow_callback_duration` measures wall time, and on a machine with more processes than cores a callback is
"slow" whenever the kernel runs somebody else. The kernel counts that time (run_delay in /proc/…/schedstat), so it can
be taken off: what is left is computing, waiting for the GIL, or a blocking call, and those are ours. It is taken off
for every thread of the process, because the loop also waits while the thread that holds the GIL has no processor.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

LIMIT_S = 0.05
INTERVAL_S = 0.02
VARIABLE = "XZ_DEBUG_LOOP"


class BlockedLoop:
    """Samples the running loop and warns with `loop_blocked`; started on the loop's own thread."""

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self._limit_s = limit_s
        self._tasks = Path("/proc/self/task")
        self._waited_s = 0.0
        self._due_s = 0.0

    def start(self) -> None:
        self._schedule(asyncio.get_running_loop())

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        self._waited_s = self._run_delay_s()
        self._due_s = loop.time() + INTERVAL_S
        loop.call_at(self._due_s, self._sample, loop)

    def _sample(self, loop: asyncio.AbstractEventLoop) -> None:
        late_s = loop.time() - self._due_s
        if late_s > self._limit_s:
            blocked_s = late_s - (self._run_delay_s() - self._waited_s)
            if blocked_s > self._limit_s:
                log.warning("loop_blocked", blocked_ms=round(blocked_s * 1000), late_ms=round(late_s * 1000))
        self._schedule(loop)

    def _run_delay_s(self) -> float:
        """Of all threads together."""
        waited_ns = 0
        for task in self._tasks.iterdir():
            with suppress(OSError):  # it has ended meanwhile
                waited_ns += int((task / "schedstat").read_text().split()[1])
        return waited_ns / 1e9
