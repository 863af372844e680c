"""How late this process's own event loop is: what it measures cannot be more exact than that."""

from __future__ import annotations

import asyncio
import time

SAMPLE_S = 0.02


class LagProbe:
    """Samples until `stop`; keeps every value, 50 a second."""

    def __init__(self) -> None:
        self.lags_ms: list[float] = []
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        # Not the loop's clock: uvloop's has whole milliseconds.
        self._due_s = time.monotonic() + SAMPLE_S
        self._timer = asyncio.get_running_loop().call_later(SAMPLE_S, self._sample)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _sample(self) -> None:
        self.lags_ms.append(max(0.0, time.monotonic() - self._due_s) * 1000)
        self.start()
