"""The seats of one upstream in one process: `Seats` with futures to wait on.

A wait is bounded in time. Who gives up or is cancelled leaves at once, and a seat given to them meanwhile goes on to
the next: no wake-up is lost.
"""

from __future__ import annotations

import asyncio

from prometheus_client import Gauge

from shared.upstream import metrics
from shared.upstream.faults import Code, Kind, UpstreamError
from shared.upstream.seats import Seats

Ticket = asyncio.Future[None]


class Quota:
    """At most `sessions` at once, 0 = any number; who waits longer than `queue_s` goes without."""

    def __init__(self, sessions: int, *, queue_s: float, name: str) -> None:
        self._seats: Seats[Ticket] = Seats(sessions)
        self._queue_s = queue_s
        self._in_use = Share(metrics.IN_USE.labels(name))
        self._waiting = Share(metrics.WAITING.labels(name))
        metrics.QUOTA.labels(name).set(sessions)

    def __repr__(self) -> str:
        return f"Quota({self._seats!r})"

    async def take(self, owner: str) -> Ticket:
        """A seat; it must be given back. Raises UpstreamError `upstream_busy` after `queue_s`."""
        ticket: Ticket = asyncio.get_running_loop().create_future()
        is_seated = self._seats.enter(ticket, owner)
        self._show()
        if not is_seated:
            await self._turn(ticket)
        return ticket

    def give_back(self, ticket: Ticket) -> None:
        following = self._seats.leave(ticket)
        # A future is cancelled some time before its task wakes up and leaves the queue itself.
        while following is not None and following.cancelled():
            following = self._seats.leave(following)
        if following is not None:
            following.set_result(None)
        self._show()

    async def _turn(self, ticket: Ticket) -> None:
        try:
            async with asyncio.timeout(self._queue_s):
                await ticket
        except TimeoutError:
            self.give_back(ticket)
            raise UpstreamError("no seat came free in time", code=Code.BUSY, kind=Kind.QUOTA) from None
        except BaseException:
            self.give_back(ticket)
            raise

    def _show(self) -> None:
        self._in_use.show(self._seats.in_use)
        self._waiting.show(self._seats.waiting)


class Share:
    """This quota's part of a gauge: after a reload the old one's last requests run beside the new one's."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._shown = 0

    def show(self, number: int) -> None:
        self._gauge.inc(number - self._shown)
        self._shown = number
