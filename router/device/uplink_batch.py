"""Gathers the uplink of many devices for a few milliseconds, so that one wake-up of a worker serves them all.

Each frame on its own wakes four threads on its way: two of ZeroMQ, the worker's loop, its speech detection. With one
device nothing is gathered: a frame that finds no window open leaves at once and opens one. What comes within the window
leaves together at its end. END leaves behind everything gathered, so the answer to a released button waits for nothing.
"""

from __future__ import annotations

import asyncio

from router.pools.stream_ref import StreamRef

WINDOW_S = 0.015


class UplinkBatch:
    """One for all lines of a router."""

    def __init__(self, loop: asyncio.AbstractEventLoop, window_s: float = WINDOW_S) -> None:
        self._loop = loop
        self._window_s = window_s
        self._gathered: list[tuple[StreamRef, bytes]] = []
        self._timer: asyncio.Handle | None = None

    def add(self, ref: StreamRef, packet: bytes) -> None:
        if self._timer is not None:
            self._gathered.append((ref, packet))
            return
        self._timer = self._loop.call_later(self._window_s, self._on_window_over)
        ref.send_audio(packet)

    def flush(self) -> None:
        """Send what is gathered; the window stays open."""
        gathered, self._gathered = self._gathered, []
        for ref, packet in gathered:
            # A stream that has ended meanwhile takes nothing; its ear has the log.
            ref.send_audio(packet)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._gathered.clear()

    def _on_window_over(self) -> None:
        self._timer = None
        if self._gathered:
            self._timer = self._loop.call_later(self._window_s, self._on_window_over)
            self.flush()
