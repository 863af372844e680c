"""One service outside, as one process knows it: whether it is asked, how many at once, and what came of it.

An engine makes one Upstream a configured section and asks it for every request:

    async with upstream.request(owner) as request:            # breaker, then a seat within the quota
        async with request.waits.connecting():
            connection = await …
        async with request.waits.first():
            chunk = await …
        request.on_first_byte()

What leaves the block decides. An EngineError is counted by code and told to the breaker by kind (one without a kind as
RETRYABLE). Leaving normally is a success. A task that was cancelled with GIVEN_UP is a failure. Everything else, any
other cancellation above all, says nothing of the upstream: it is neither a success nor a failure, and if it was the
breaker's probe, the next request is.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from shared.errors import EngineError
from shared.upstream import metrics
from shared.upstream.breaker import END_OF, Breaker, End, Pass, State
from shared.upstream.deadlines import Deadlines, Waits
from shared.upstream.faults import GIVEN_UP, Code, Kind, UpstreamError
from shared.upstream.quota import Quota, Ticket

_STATE_NUMBERS = {State.CLOSED: 0, State.HALF_OPEN: 1, State.OPEN: 2}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a provider and we ourselves allow."""

    deadlines: Deadlines = field(default_factory=Deadlines)
    sessions: int = 0
    """Requests at once of this process; 0 = any number."""
    queue_s: float = 2.0
    """How long a request waits for a seat."""
    warm_s: float = 0.0
    """How long an unused connection is kept; 0 = not at all."""


class Request:
    """One request while it runs."""

    def __init__(self, name: str, deadlines: Deadlines) -> None:
        self.waits = Waits(deadlines)
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._began_s = self._loop.time()
        self._has_first_byte = False

    def on_connected(self) -> None:
        """A connection was opened for this request alone; WarmConnections count their own."""
        metrics.CONNECTS.labels(self._name).inc()

    def on_first_byte(self) -> None:
        """The first sign of a result is here; later calls do nothing."""
        if not self._has_first_byte:
            self._has_first_byte = True
            metrics.FIRST_BYTE.labels(self._name).observe(self._loop.time() - self._began_s)


class Upstream:
    """All methods are the event loop's."""

    def __init__(self, name: str, limits: Limits) -> None:
        self.name = name
        """The section, such as "TTS.HuoshanDoubleStreamTTS": the metrics' label."""
        self.limits = limits
        self._breaker = Breaker(random.random)
        self._quota = Quota(limits.sessions, queue_s=limits.queue_s, name=name)
        self._show_state()

    @property
    def is_open(self) -> bool:
        """Is its breaker open, so that it is not worth asking now?"""
        return self._breaker.refuses(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def request(self, owner: str) -> AsyncIterator[Request]:
        """`owner` (a session) takes its turn among the others.

        Raises UpstreamError `upstream_open`, `upstream_busy`.
        """
        if self.is_open:
            raise self._counted(_open_error())
        ticket = await self._seat(owner)
        try:
            async with self._judged():
                yield Request(self.name, self.limits.deadlines)
        finally:
            self._quota.give_back(ticket)

    async def _seat(self, owner: str) -> Ticket:
        try:
            return await self._quota.take(owner)
        except UpstreamError as error:
            raise self._counted(error) from None

    @asynccontextmanager
    async def _judged(self) -> AsyncIterator[None]:
        """Tells the breaker and the metrics how the block ended."""
        held, end = self._admit(), End.NOTHING
        try:
            yield
            end = End.SUCCESS
        except EngineError as error:
            self._counted(error)
            end = END_OF[error.kind if isinstance(error, UpstreamError) else Kind.RETRYABLE]
            raise
        except (asyncio.CancelledError, GeneratorExit) as error:
            if GIVEN_UP in error.args:
                self._counted(UpstreamError("nothing came for too long", code=Code.LATE))
                end = End.FAILURE
            else:
                metrics.CANCELS.labels(self.name).inc()
            raise
        finally:
            self._breaker.ended(held, end, asyncio.get_running_loop().time())
            self._show_state()

    def _admit(self) -> Pass:
        """The breaker may have opened while the request waited for its seat."""
        held = self._breaker.admit(asyncio.get_running_loop().time())
        self._show_state()
        if held is None:
            raise self._counted(_open_error())
        metrics.REQUESTS.labels(self.name).inc()
        return held

    def _counted(self, error: EngineError) -> EngineError:
        reason = error.reason if isinstance(error, UpstreamError) else ""
        metrics.ERRORS.labels(self.name, error.code, reason).inc()
        return error

    def _show_state(self) -> None:
        metrics.BREAKER_STATE.labels(self.name).set(_STATE_NUMBERS[self._breaker.state])


def _open_error() -> UpstreamError:
    return UpstreamError("it has failed too often to be asked now", code=Code.OPEN, kind=Kind.QUOTA)
