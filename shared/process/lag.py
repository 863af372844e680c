"""How late the event loop runs its timers: the honest measure of "no event loop ever blocks"."""

from __future__ import annotations

import asyncio

from prometheus_client import Histogram

SAMPLE_INTERVAL_S = 0.1

LOOP_LAG = Histogram(
    "xz_loop_lag_seconds",
    "How much later than due a timer of the event loop ran",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5),
)


class LoopLag:
    """Samples the running loop's lag ten times a second."""

    def __init__(self) -> None:
        self._max_s = 0.0
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Starting twice is starting once."""
        if self._timer is None:
            self._schedule(asyncio.get_running_loop())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def take_max_ms(self) -> float:
        """The longest lag since this was last asked."""
        longest_s, self._max_s = self._max_s, 0.0
        return longest_s * 1000.0

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due_s = loop.time() + SAMPLE_INTERVAL_S
        self._timer = loop.call_at(self._due_s, self._sample, loop)

    def _sample(self, loop: asyncio.AbstractEventLoop) -> None:
        lag_s = max(0.0, loop.time() - self._due_s)
        self._max_s = max(self._max_s, lag_s)
        LOOP_LAG.observe(lag_s)
        self._schedule(loop)
