"""Accepts devices' connections, and pauses while siblings behind the same listening socket have too few.

asyncio's own servers cannot pause. This one stands in for them under websockets' Server: it watches the listening
socket itself and hands each accepted socket to the loop. Without siblings (`shares` is None) it never pauses for
fairness.

Out of descriptors, it pauses for a second; what waits in the kernel's queue is not lost.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterable

import structlog

from router import metrics
from router.device.fair_share import may_accept
from router.device.share_table import ShareTable

log = structlog.get_logger(__name__)

BATCH = 16
"""Connections accepted in one go; then the loop serves those that are there."""

PAUSE_S = 0.05
TELL_S = 0.5
EXHAUSTED_S = 1.0


class Listener(asyncio.AbstractServer):
    """`factory` makes the protocol of a connection; it calls `left` when that is gone."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listening: socket.socket,
        factory: Callable[[], asyncio.BaseProtocol],
        *,
        backlog: int,
        shares: ShareTable | None = None,
        exhausted_s: float = EXHAUSTED_S,
    ) -> None:
        self._loop = loop
        self._socket = listening
        self._factory = factory
        self._shares = shares
        self._exhausted_s = exhausted_s
        self._backlog = backlog
        self._open = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_serving = self._is_watching = False
        self._resume: asyncio.TimerHandle | None = None
        self._teller: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"Listener({self._open} open, {'accepting' if self._is_watching else 'paused'})"

    @property
    def sockets(self) -> Iterable[socket.socket]:
        return (self._socket,) if self._is_serving else ()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def is_serving(self) -> bool:
        return self._is_serving

    async def start_serving(self) -> None:
        self._socket.setblocking(False)
        self._socket.listen(self._backlog)
        self._is_serving = True
        self._tell_on()
        self._watch()

    async def serve_forever(self) -> None:
        raise NotImplementedError("the gateway waits for its own end")

    def close(self) -> None:
        """Accept no more. Connections live on."""
        if not self._is_serving:
            return
        self._is_serving = False
        self._unwatch()
        for timer in (self._resume, self._teller):
            if timer is not None:
                timer.cancel()
        if self._shares is not None:
            self._shares.close()
            self._shares = None
        self._socket.close()

    async def wait_closed(self) -> None:
        """Until accepted sockets have found their protocols; websockets waits for those itself."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def left(self) -> None:
        """A connection is gone."""
        self._open -= 1
        self._tell()

    # Within

    def _watch(self) -> None:
        self._resume = None
        if self._is_serving and not self._is_watching:
            self._is_watching = True
            self._loop.add_reader(self._socket.fileno(), self._on_readable)
            metrics.ACCEPTING.set(1)

    def _unwatch(self) -> None:
        if self._is_watching:
            self._is_watching = False
            self._loop.remove_reader(self._socket.fileno())
            metrics.ACCEPTING.set(0)

    def _pause(self, seconds: float, reason: str) -> None:
        self._unwatch()
        metrics.ACCEPT_PAUSES.labels(reason).inc()
        self._resume = self._loop.call_later(seconds, self._on_pause_over)

    def _on_pause_over(self) -> None:
        if self._may_accept():
            self._watch()
        else:
            self._resume = self._loop.call_later(PAUSE_S, self._on_pause_over)

    def _on_readable(self) -> None:
        for _ in range(BATCH):
            if not self._may_accept():
                self._pause(PAUSE_S, "share")
                return
            try:
                accepted, _address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.warning("accept_failed", error=error.strerror)
                self._pause(self._exhausted_s, "descriptors")
                return
            self._take(accepted)

    def _take(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        self._open += 1
        self._tell()
        task = self._loop.create_task(self._connect(accepted), name="device-accept")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._factory, accepted)
        except OSError as error:
            # It was gone before it was there, and its protocol will not hear of it.
            log.info("accepted_socket_failed", error=error.strerror)
            accepted.close()
            self.left()

    def _may_accept(self) -> bool:
        return self._shares is None or may_accept(self._open, self._shares.siblings(), time.monotonic())

    def _tell(self) -> None:
        if self._shares is not None:
            self._shares.tell(self._open, time.monotonic())

    def _tell_on(self) -> None:
        if self._shares is not None:
            self._tell()
            self._teller = self._loop.call_later(TELL_S, self._tell_on)
