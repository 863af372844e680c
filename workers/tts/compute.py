"""Named compute threads, a fixed number of them, that a hanging call cannot take away.

Work comes from the event loop and its end is told there. A call that takes longer than is normal is *stuck*: a spare
thread takes its place (a bounded number of times) until it returns, then the number of threads shrinks back. A thread
cannot be killed, so an engine with a stuck call should get no second one: `stuck_lanes` names them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

Work = Callable[[], None]
Finished = Callable[[BaseException | None], None]

SLOW_AFTER_S = 1.0
"""A step of synthesis takes 5 to 150 ms; this leaves room for a machine with something else to do."""


class _Call:
    """One piece of work on its way through a thread."""

    __slots__ = ("finished", "lane", "slow_after_s", "started_s", "timer", "work")

    def __init__(self, lane: str, work: Work, finished: Finished, slow_after_s: float, now_s: float) -> None:
        self.lane = lane
        self.work = work
        self.finished = finished
        self.slow_after_s = slow_after_s
        self.started_s = now_s
        self.timer: asyncio.TimerHandle | None = None


class _Thread:
    """A thread and its inbox. Its fields belong to the event loop; the thread itself only sees the inbox."""

    def __init__(
        self, name: str, loop: asyncio.AbstractEventLoop, ended: Callable[[_Thread, BaseException | None], None]
    ) -> None:
        self._loop = loop
        self._ended = ended
        self._inbox: SimpleQueue[Work | None] = SimpleQueue()
        self.call: _Call | None = None
        self.stuck = False
        self.exited = loop.create_future()
        # Daemon: a call that never returns must not keep the process from exiting.
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def give(self, call: _Call) -> None:
        self.call = call
        self._inbox.put(call.work)

    def stop(self) -> None:
        self._inbox.put(None)

    def _run(self) -> None:
        while (work := self._inbox.get()) is not None:
            error: BaseException | None = None
            try:
                work()
            except BaseException as caught:  # the thread's root: the loop hears of it and decides
                error = caught
            self._tell(self._ended, self, error)
        self._tell(self.exited.set_result, None)

    def _tell(self, callback: Callable[..., object], *arguments: object) -> None:
        # A closed loop means that this call was stuck when the process went on to its end: nobody is left to tell.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *arguments)


class ComputePool:
    """`threads` threads, and up to `spares` more while calls are stuck. All methods are the event loop's."""

    def __init__(self, name: str, *, threads: int, spares: int, slow_after_s: float = SLOW_AFTER_S) -> None:
        self._name = name
        self._size = threads
        self._spares = spares
        self._slow_after_s = slow_after_s
        self._numbers = 0
        self._threads: list[_Thread] = []
        self._closing = False
        self.on_idle: Callable[[], None] = lambda: None
        """Called when a thread has become free."""
        self.on_stuck: Callable[[str], None] = lambda lane: None
        """Called with the lane of a call that has become stuck."""
        self.on_health: Callable[[], None] = lambda: None
        """Called when `stalled_ms` may have begun or ceased to grow."""

    def __repr__(self) -> str:
        return (
            f"ComputePool({self._name}, {len(self._threads)} threads, {self.busy} busy, stuck {set(self.stuck_lanes)})"
        )

    def start(self) -> None:
        for _ in range(self._size):
            self._add_thread()

    @property
    def has_idle(self) -> bool:
        return any(thread.call is None for thread in self._threads)

    @property
    def busy(self) -> int:
        return sum(thread.call is not None for thread in self._threads)

    @property
    def stuck_lanes(self) -> frozenset[str]:
        return frozenset(thread.call.lane for thread in self._threads if thread.stuck and thread.call)

    def run(self, lane: str, work: Work, finished: Finished, *, slow_after_s: float | None = None) -> None:
        """Do `work` on an idle thread, then `finished(error)` on the loop. There must be an idle thread."""
        loop = asyncio.get_running_loop()
        thread = next(thread for thread in self._threads if thread.call is None)
        call = _Call(lane, work, finished, slow_after_s or self._slow_after_s, loop.time())
        call.timer = loop.call_later(call.slow_after_s, self._on_slow, thread, call)
        thread.give(call)

    async def call(self, lane: str, work: Work, *, slow_after_s: float) -> None:
        """Do `work` on an idle thread and wait for it; raises what it raised."""
        done = asyncio.get_running_loop().create_future()

        def finished(error: BaseException | None) -> None:
            if not done.done():
                done.set_exception(error) if error else done.set_result(None)

        self.run(lane, work, finished, slow_after_s=slow_after_s)
        await done

    def stalled_ms(self, vital_lane: str) -> float:
        """How long overdue the vital lane's call is, or the latest of all calls when no thread is left; else 0."""
        return max((self._overdue_ms(call) for call in self._stalling_calls(vital_lane)), default=0.0)

    def is_stalled(self, vital_lane: str) -> bool:
        """Whether `stalled_ms` is growing."""
        return bool(self._stalling_calls(vital_lane))

    async def close(self, timeout_s: float = 1.0) -> None:
        """Ends the idle threads at once and waits for the busy ones; stuck ones are left to the process's end."""
        self._closing = True
        for thread in self._threads:
            thread.stop()
        if exits := [thread.exited for thread in self._threads if not thread.stuck]:
            await asyncio.wait(exits, timeout=timeout_s)

    def _add_thread(self) -> None:
        self._numbers += 1
        name = f"{self._name}-{self._numbers}"
        self._threads.append(_Thread(name, asyncio.get_running_loop(), self._on_ended))

    def _on_slow(self, thread: _Thread, call: _Call) -> None:
        if thread.call is not call or self._closing:
            return
        thread.stuck = True
        sound = sum(not other.stuck for other in self._threads)
        if sound < self._size and len(self._threads) < self._size + self._spares:
            self._add_thread()
        self.on_stuck(call.lane)
        self.on_health()
        self.on_idle()

    def _on_ended(self, thread: _Thread, error: BaseException | None) -> None:
        call, thread.call, thread.stuck = thread.call, None, False
        assert call is not None
        if call.timer:
            call.timer.cancel()
        self._retire_surplus(thread)
        self.on_health()
        call.finished(error)
        self.on_idle()

    def _retire_surplus(self, thread: _Thread) -> None:
        if not self._closing and sum(not other.stuck for other in self._threads) > self._size:
            self._threads.remove(thread)
            thread.stop()

    def _stalling_calls(self, vital_lane: str) -> list[_Call]:
        """The stuck calls that keep others from being served."""
        stuck = [thread.call for thread in self._threads if thread.stuck and thread.call]
        vital = [call for call in stuck if call.lane == vital_lane]
        none_left = len(stuck) == len(self._threads)
        return vital + ([max(stuck, key=lambda call: call.started_s)] if stuck and none_left else [])

    def _overdue_ms(self, call: _Call) -> float:
        return (asyncio.get_running_loop().time() - call.started_s - call.slow_after_s) * 1000
