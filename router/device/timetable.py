"""One timer for all conversations of a router: a heap of due times and a single timer on its head.

A conversation's due time moves with every frame, nearly always to later. So only an earlier time touches the heap; a
later one lets the old entry fire, find nothing due, and set itself again. `tick` must bear being called early.

If the process stood still, what has arrived meanwhile is read before anybody is told that a deadline has passed:
devices and workers have done nothing wrong.

Times are time.monotonic(): uvloop's own clock has whole milliseconds and stands still within an iteration. Its timers
are rounded to the nearest millisecond, so they are set a little late here; one that fires early would spin until its
time has come.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import time
from collections.abc import Callable
from itertools import count

LOOK_S = 0.25
"""The timer is set no further ahead, or a stall that ends just after a deadline would look like no stall."""

STALL_S = 0.25
"""A timer this late means that we stood still."""

GRACE_S = 0.05
"""For ZeroMQ's thread to wake up too and hand over what has arrived."""


class Timetable:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[tuple[float, int, Entry]] = []
        self._numbers = count()
        self._timer: asyncio.Handle | None = None
        self._armed_for = math.inf
        self._has_waited = False

    def entry(self, callback: Callable[[float], None]) -> Entry:
        """A place in the timetable; `callback` gets the time when it is due."""
        return Entry(self, callback)

    def push(self, entry: Entry, at: float) -> None:
        number = next(self._numbers)
        entry.at, entry.number = at, number
        heapq.heappush(self._heap, (at, number, entry))
        if at < self._armed_for:
            self._arm(at)

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        now = time.monotonic()
        at = min(at, now + LOOK_S)
        delay_ms = math.ceil(max(0.0, at - now) * 1000)
        self._armed_for = at
        self._timer = self._loop.call_later(delay_ms / 1000, self._run)

    def _run(self) -> None:
        now = time.monotonic()
        if self._has_stalled(now):
            self._timer = self._loop.call_later(GRACE_S, self._run)
            return
        self._timer, self._armed_for = None, math.inf
        while self._heap and self._heap[0][0] <= now:
            _at, number, entry = heapq.heappop(self._heap)
            if entry.number == number:
                entry.at = None
                entry.callback(now)
        if self._heap and self._heap[0][0] < self._armed_for:
            self._arm(self._heap[0][0])

    def _has_stalled(self, now: float) -> bool:
        """True once after a stall."""
        self._has_waited = not self._has_waited and now - self._armed_for > STALL_S
        return self._has_waited

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._heap.clear()


class Entry:
    """One conversation's place: `set` says when it wants to be called at the latest."""

    __slots__ = ("_timetable", "at", "callback", "number")

    def __init__(self, timetable: Timetable, callback: Callable[[float], None]) -> None:
        self._timetable = timetable
        self.callback = callback
        self.at: float | None = None
        self.number = -1

    def set(self, at: float | None) -> None:
        if at is not None and (self.at is None or at < self.at):
            self._timetable.push(self, at)

    def cancel(self) -> None:
        self.at = None
        self.number = -1
