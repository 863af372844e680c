"""The one timer of a router's conversations, on both kinds of loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
import uvloop

from router.device.timetable import Entry, Timetable

pytestmark = pytest.mark.unit

LOOPS = pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])


class Bell:
    """An entry that remembers when it rang."""

    def __init__(self, timetable: Timetable) -> None:
        self.rang: list[float] = []
        self.event = asyncio.Event()
        self.entry: Entry = timetable.entry(self._ring)

    def _ring(self, now: float) -> None:
        self.rang.append(now)
        self.event.set()


def run(make_loop: Callable[[], asyncio.AbstractEventLoop], body: Callable[[Timetable], object]) -> None:
    async def main() -> None:
        timetable = Timetable(asyncio.get_running_loop())
        await body(timetable)  # type: ignore[misc]
        timetable.close()

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(main())


@LOOPS
def test_entries_ring_in_order_and_never_early(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Whatever the order in which they were set; a timer that fires early would spin."""

    async def body(timetable: Timetable) -> None:
        bells = [Bell(timetable) for _ in range(5)]
        now = time.monotonic()
        dues = [now + 0.0011 * factor for factor in (5, 1, 4, 2, 3)]
        for bell, due in zip(bells, dues, strict=True):
            bell.entry.set(due)
        for bell in bells:
            await bell.event.wait()
        assert all(bell.rang[0] >= due for bell, due in zip(bells, dues, strict=True))
        assert [len(bell.rang) for bell in bells] == [1] * 5

    run(make_loop, body)


@LOOPS
def test_what_is_due_already_rings_at_once(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """uvloop returns a handle without a time for such a timer; setting an earlier one must still work."""

    async def body(timetable: Timetable) -> None:
        first, second = Bell(timetable), Bell(timetable)
        first.entry.set(time.monotonic() - 1.0)
        second.entry.set(time.monotonic() - 2.0)
        await first.event.wait()
        await second.event.wait()

    run(make_loop, body)


@LOOPS
def test_an_earlier_time_moves_up_and_the_old_one_is_void(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Set twice, rung once, at the earlier time."""

    async def body(timetable: Timetable) -> None:
        bell, later = Bell(timetable), Bell(timetable)
        bell.entry.set(time.monotonic() + 0.01)
        bell.entry.set(time.monotonic() + 0.002)
        later.entry.set(time.monotonic() + 0.02)
        await later.event.wait()
        assert len(bell.rang) == 1

    run(make_loop, body)


@LOOPS
def test_a_cancelled_entry_never_rings(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """The line is closed; its time comes and nothing happens."""

    async def body(timetable: Timetable) -> None:
        bell, later = Bell(timetable), Bell(timetable)
        bell.entry.set(time.monotonic() + 0.001)
        bell.entry.cancel()
        later.entry.set(time.monotonic() + 0.005)
        await later.event.wait()
        assert bell.rang == []

    run(make_loop, body)


@LOOPS
def test_a_ringing_entry_may_set_itself_again(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """As a conversation does with its next frame."""

    async def body(timetable: Timetable) -> None:
        rings = 0
        done = asyncio.Event()

        def ring(now: float) -> None:
            nonlocal rings
            rings += 1
            done.set() if rings == 5 else entry.set(now)

        entry = timetable.entry(ring)
        entry.set(time.monotonic())
        await done.wait()

    run(make_loop, body)


@LOOPS
def test_after_a_stall_what_has_arrived_is_read_first(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """A process that stood still tells nobody of a deadline before everybody else had a moment to be heard."""

    async def body(timetable: Timetable) -> None:
        heard: list[float] = []
        loop = asyncio.get_running_loop()
        bell = Bell(timetable)
        bell.entry.set(time.monotonic() + 0.01)
        await asyncio.sleep(0)
        time.sleep(0.4)  # noqa: ASYNC251 - the stall
        # What arrived takes a few turns of the loop, as it does through ZeroMQ's thread.
        loop.call_later(0.02, lambda: heard.append(time.monotonic()))
        await bell.event.wait()
        assert heard and heard[0] <= bell.rang[0]
        bell.event.clear()
        bell.entry.set(time.monotonic())
        await bell.event.wait()
        assert len(bell.rang) == 2

    run(make_loop, body)
