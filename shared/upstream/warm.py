"""Connections that are kept for the next request.

Rules: a connection is given out to one request at a time and comes back only if that request ended cleanly: one that
failed or was cancelled is closed, unless its engine says by `keep` that the upstream has confirmed the end. One that
lay idle longer than `idle_s`, or that the other side closed, is not given out. If a kept one proves broken, the others
that lay beside it are closed too: what ended one has mostly ended all, and the retry must not meet the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, Generic, Protocol, TypeVar

from shared.upstream import metrics
from shared.upstream.faults import Code, UpstreamError


class Closable(Protocol):
    """What is kept. `close` never raises and takes no longer than a moment."""

    @property
    def is_open(self) -> bool: ...

    async def close(self) -> None: ...


C = TypeVar("C", bound=Closable)

_SIGNS_OF_DEATH: Final = frozenset({Code.CLOSED, Code.FIRST_TIMEOUT, Code.IDLE_TIMEOUT, Code.TOTAL_TIMEOUT})
"""What a request meets on a line that is cut somewhere between us, where nobody has told us of it."""


class WarmConnections(Generic[C]):
    """Of one upstream in one process."""

    def __init__(self, connect: Callable[[], Awaitable[C]], *, idle_s: float, name: str) -> None:
        """`connect` makes one; `name` is the upstream's, for its metrics. `idle_s` 0 = nothing is kept."""
        self._connect = connect
        self._idle_s = idle_s
        self._name = name
        self._kept: list[tuple[C, asyncio.TimerHandle]] = []
        """The one used last is the last."""
        self._confirmed: set[int] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._is_closed = False

    @asynccontextmanager
    async def borrowed(self) -> AsyncIterator[C]:
        """A kept connection or a new one. Leaving by an exception closes it, leaving normally keeps it."""
        kept = self._take()
        connection = kept if kept is not None else await self._made()
        is_clean = False
        try:
            yield connection
            is_clean = True
        except UpstreamError as error:
            if kept is not None and error.code in _SIGNS_OF_DEATH:
                self._close_kept()
            raise
        finally:
            await self._back(connection, is_clean=is_clean)

    def keep(self, connection: C) -> None:
        """The upstream has confirmed the end: keep it even if its request leaves by an exception."""
        self._confirmed.add(id(connection))

    async def close(self) -> None:
        """Close what is kept; what is given out is closed when it comes back."""
        self._is_closed = True
        self._close_kept()
        while self._closing:
            await asyncio.wait(self._closing)

    def _take(self) -> C | None:
        while self._kept:
            connection, timer = self._kept.pop()
            timer.cancel()
            self._show_kept()
            if connection.is_open:
                metrics.REUSES.labels(self._name).inc()
                return connection
            metrics.RECONNECTS.labels(self._name).inc()
            self._close_later(connection)
        return None

    async def _made(self) -> C:
        connection = await self._connect()
        metrics.CONNECTS.labels(self._name).inc()
        return connection

    async def _back(self, connection: C, *, is_clean: bool) -> None:
        is_confirmed = id(connection) in self._confirmed
        self._confirmed.discard(id(connection))
        if (is_clean or is_confirmed) and connection.is_open and self._idle_s > 0 and not self._is_closed:
            timer = asyncio.get_running_loop().call_later(self._idle_s, self._on_idle, connection)
            self._kept.append((connection, timer))
            self._show_kept()
            return
        await connection.close()

    def _on_idle(self, connection: C) -> None:
        self._kept = [one for one in self._kept if one[0] is not connection]
        self._show_kept()
        self._close_later(connection)

    def _close_kept(self) -> None:
        kept, self._kept = self._kept, []
        self._show_kept()
        for connection, timer in kept:
            timer.cancel()
            self._close_later(connection)

    def _close_later(self, connection: C) -> None:
        task = asyncio.get_running_loop().create_task(_closed(connection), name=f"upstream-close-{self._name}")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _show_kept(self) -> None:
        metrics.KEPT.labels(self._name).set(len(self._kept))


async def _closed(connection: Closable) -> None:
    await connection.close()
