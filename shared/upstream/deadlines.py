"""How long each step of one request may take, from the connection to the last byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from shared.upstream.faults import Code, UpstreamError


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds. `first_s` runs from the request to the first sign of a result, `idle_s` between two.

    `total_s` is what all waits may take together: what the caller does between two of them is not the upstream's time.
    """

    connect_s: float = 3.0
    first_s: float = 5.0
    idle_s: float = 5.0
    total_s: float = 60.0


class Waits:
    """The waits of one request."""

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()
        self._left_s = deadlines.total_s

    @asynccontextmanager
    async def connecting(self) -> AsyncIterator[None]:
        """Raises UpstreamError `upstream_connect_timeout`."""
        async with self._within(self._deadlines.connect_s, Code.CONNECT_TIMEOUT):
            yield

    @asynccontextmanager
    async def first(self) -> AsyncIterator[None]:
        """Until the first sign of a result. Raises UpstreamError `upstream_first_timeout`."""
        async with self._within(self._deadlines.first_s, Code.FIRST_TIMEOUT):
            yield

    @asynccontextmanager
    async def next(self) -> AsyncIterator[None]:
        """Until the next sign. Raises UpstreamError `upstream_idle_timeout`."""
        async with self._within(self._deadlines.idle_s, Code.IDLE_TIMEOUT):
            yield

    @asynccontextmanager
    async def _within(self, seconds: float, code: str) -> AsyncIterator[None]:
        began_s = self._loop.time()
        if seconds > self._left_s:
            seconds, code = self._left_s, Code.TOTAL_TIMEOUT
        try:
            async with asyncio.timeout_at(began_s + seconds) as timeout:
                yield
        except TimeoutError:
            if not timeout.expired():
                raise
            raise UpstreamError("the upstream did not answer in time", code=code) from None
        finally:
            self._left_s -= self._loop.time() - began_s
