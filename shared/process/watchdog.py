"""A wedged process ends itself, with the guilty stacks on standard error.

An interval timer sends SIGALRM; faulthandler's handler, which needs no GIL, writes all stacks, and the signal's default
action ends the process. The event loop postpones the timer every two seconds, but only while every registered compute
thread is alive: a loop that beats over dead threads is no use. The supervisor starts a successor.

Setting a timer is one system call. `faulthandler.dump_traceback_later` would do the same with a C thread, but re-arming
it waits, with the GIL held, until the old thread has been scheduled and has ended: 240 ms were seen on a busy machine.
"""

from __future__ import annotations

import asyncio
import faulthandler
import signal
import sys
import time
from collections.abc import Callable
from typing import TextIO

FEED_INTERVAL_S = 2.0
HANG_S = 15.0
"""How long the loop may be stuck."""
LOAD_S = 180.0
"""Loading models may take so long, in the loop or out of it."""
COMPUTE_S = 60.0
"""How long one piece of work of a compute thread may take."""


class Watch:
    """One compute thread's word that it is alive. `busy`, `beat` and `idle` are called on that thread."""

    def __init__(self, name: str, limit_s: float, clock: Callable[[], float]) -> None:
        self.name = name
        self.limit_s = limit_s
        self._clock = clock
        self._since_s: float | None = None

    def __repr__(self) -> str:
        return f"Watch({self.name}, {'idle' if self._since_s is None else f'busy since {self._since_s:.1f}'})"

    def busy(self) -> None:
        """A piece of work begins."""
        self._since_s = self._clock()

    def beat(self) -> None:
        """The work goes on and makes progress."""
        if self._since_s is not None:
            self._since_s = self._clock()

    def idle(self) -> None:
        """The piece of work is finished."""
        self._since_s = None

    @property
    def busy_s(self) -> float:
        """How long the present piece of work has gone without progress."""
        since_s = self._since_s
        return 0.0 if since_s is None else self._clock() - since_s

    @property
    def is_alive(self) -> bool:
        return self.busy_s < self.limit_s


class Watchdog:
    """Owns the process's one interval timer. Made and used on the main thread."""

    def __init__(
        self,
        *,
        hang_s: float = HANG_S,
        feed_interval_s: float = FEED_INTERVAL_S,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hang_s = hang_s
        self._feed_interval_s = feed_interval_s
        self._stream = stream if stream is not None else sys.stderr
        self._clock = clock
        self._watches: list[Watch] = []
        self._timer: asyncio.TimerHandle | None = None
        self._is_armed = False

    def watch(self, name: str, limit_s: float = COMPUTE_S) -> Watch:
        """Register a compute thread."""
        watch = Watch(name, limit_s, self._clock)
        self._watches.append(watch)
        return watch

    def unwatch(self, watch: Watch) -> None:
        self._watches.remove(watch)

    @property
    def stuck(self) -> list[Watch]:
        return [watch for watch in self._watches if not watch.is_alive]

    def allow(self, seconds: float = LOAD_S) -> None:
        """Give the process so long before it must be fed."""
        if not self._is_armed:
            self._is_armed = True
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            faulthandler.register(signal.SIGALRM, file=self._stream, all_threads=True, chain=True)
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def start(self) -> None:
        """Feed from the running loop."""
        self._feed(asyncio.get_running_loop())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        if self._is_armed:
            self._is_armed = False
            faulthandler.unregister(signal.SIGALRM)

    def _feed(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self.stuck:
            self.allow(self._hang_s)
        self._timer = loop.call_later(self._feed_interval_s, self._feed, loop)
