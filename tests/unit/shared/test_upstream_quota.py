"""Waiting for a seat: bounded, fair, and without a lost wake-up however many are cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from shared.upstream.faults import Kind, UpstreamError
from shared.upstream.quota import Quota

pytestmark = pytest.mark.unit

LONG_S = 60.0


def shown(name: str, upstream: str) -> float | None:
    return REGISTRY.get_sample_value(f"xz_upstream_{name}", {"upstream": upstream})


async def settled() -> None:
    """All that is due now has run."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_who_waits_too_long_goes_without() -> None:
    """The error is no reason to ask the same upstream again, and the place in the queue is free."""
    quota = Quota(1, queue_s=0.01, name="t-busy")
    ticket = await quota.take("a")
    with pytest.raises(UpstreamError) as failure:
        await quota.take("b")
    assert (failure.value.code, failure.value.kind, failure.value.retryable) == ("upstream_busy", Kind.QUOTA, False)
    assert (shown("in_use", "t-busy"), shown("waiting", "t-busy"), shown("quota", "t-busy")) == (1, 0, 1)
    quota.give_back(ticket)
    assert shown("in_use", "t-busy") == 0


async def test_a_seat_that_comes_free_goes_to_who_waits() -> None:
    """It is given over at once, so that nobody who comes later can take it."""
    quota = Quota(1, queue_s=LONG_S, name="t-next")
    first = await quota.take("a")
    waiting = asyncio.create_task(quota.take("b"), name="waits")
    await settled()
    quota.give_back(first)
    late = asyncio.create_task(quota.take("c"), name="late")
    ticket = await waiting
    assert not late.done()
    quota.give_back(ticket)
    quota.give_back(await late)


async def test_a_seat_given_to_somebody_who_was_cancelled_goes_on() -> None:
    """Cancelled before or after the hand-over: the seat reaches the next in both cases."""
    for when in ("before", "after"):
        quota = Quota(1, queue_s=LONG_S, name="t-cancel")
        first = await quota.take("a")
        cancelled = asyncio.create_task(quota.take("b"), name="cancelled")
        following = asyncio.create_task(quota.take("c"), name="following")
        await settled()
        if when == "before":
            cancelled.cancel()
            quota.give_back(first)
        else:
            quota.give_back(first)
            cancelled.cancel()
        quota.give_back(await asyncio.wait_for(following, 10.0))
        await asyncio.wait([cancelled])
        assert cancelled.cancelled()
        assert shown("in_use", "t-cancel") == 0


class Walk:
    """Steps of many waiters in a row of turns of the loop."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.quota = Quota(limit, queue_s=LONG_S, name="t-walk")
        self.tasks: list[asyncio.Task[None]] = []
        self.inside = 0
        self.may_end = asyncio.Event()

    async def visit(self, owner: str) -> None:
        ticket = await self.quota.take(owner)
        try:
            self.inside += 1
            assert self.inside <= self.limit
            await self.may_end.wait()
        finally:
            self.inside -= 1
            self.quota.give_back(ticket)

    async def go(self, steps: Iterator[tuple[str, int]]) -> None:
        for what, number in steps:
            match what:
                case "come":
                    self.tasks.append(asyncio.create_task(self.visit(str(number % 3)), name=f"visit-{number}"))
                case "cancel" if self.tasks:
                    self.tasks[number % len(self.tasks)].cancel()
                case "turn":
                    await asyncio.sleep(0)
        await settled()
        alive = sum(not task.done() for task in self.tasks)
        assert self.inside == min(self.limit, alive), "a seat is free while somebody waits"
        self.may_end.set()
        async with asyncio.timeout(30.0):
            done = await asyncio.gather(*self.tasks, return_exceptions=True)
        assert [one for one in done if one is not None and not isinstance(one, asyncio.CancelledError)] == []
        assert "0 of" in repr(self.quota) and "0 waiting" in repr(self.quota)


STEPS = st.lists(st.tuples(st.sampled_from(["come", "come", "cancel", "turn"]), st.integers(0, 50)), max_size=60)


@given(STEPS, st.integers(1, 4))
def test_no_wake_up_is_lost(steps: list[tuple[str, int]], limit: int) -> None:
    """Whoever comes and is cancelled when: never more than the limit inside, never a free seat while somebody waits."""

    async def walk() -> None:
        await Walk(limit).go(iter(steps))

    asyncio.run(walk())
