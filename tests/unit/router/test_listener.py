"""The listener that can pause: on a real socket, with siblings that the test invents."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from prometheus_client import REGISTRY

from router.device.listener import Listener
from router.device.share_table import ShareTable

pytestmark = pytest.mark.unit

LOOPS = pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
BACKLOG = 128


class Guest(asyncio.Protocol):
    """A connection's server side."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio.Transport.
        self._door.transports.append(transport)
        self._door.changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._door.listener.left()
        self._door.changed.set()


class Door:
    """A listener on a free port and those who came in."""

    def __init__(self, listening: Any, shares: ShareTable | None = None) -> None:
        self.transports: list[Any] = []
        self.changed = asyncio.Event()
        self.listener = Listener(
            asyncio.get_running_loop(),
            listening,
            lambda: Guest(self),
            backlog=BACKLOG,
            shares=shares,
            exhausted_s=0.1,
        )

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self.changed.clear()
                try:
                    async with asyncio.timeout(0.05):
                        await self.changed.wait()
                except TimeoutError:
                    continue

    async def shut(self) -> None:
        self.listener.close()
        for transport in self.transports:
            transport.abort()
        await self.listener.wait_closed()


def run(make_loop: Callable[[], asyncio.AbstractEventLoop], scenario: Callable[[], Any]) -> None:
    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(scenario())


def callers(port: int, count: int) -> list[socket.socket]:
    """Connections that the kernel has taken, whether or not anybody accepts them."""
    return [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]


def pauses(reason: str) -> float:
    return REGISTRY.get_sample_value("xz_accept_pauses_total", {"reason": reason}) or 0.0


@LOOPS
def test_alone_it_takes_all_and_counts_who_leaves(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Without siblings it never pauses; closed, it takes nobody and lets those inside be."""

    async def scenario() -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        door = Door(listening)
        assert not door.listener.is_serving()
        await door.listener.start_serving()
        ends = callers(port, 50)
        await door.until(lambda: len(door.transports) == 50)
        assert door.listener._open == 50
        for end in ends[:20]:
            end.close()
        await door.until(lambda: door.listener._open == 30)
        door.listener.close()
        assert not door.listener.is_serving() and door.listener.sockets == ()
        with pytest.raises(ConnectionRefusedError):
            callers(port, 1)
        assert not any(transport.is_closing() for transport in door.transports[20:])
        await door.shut()
        for end in ends:
            end.close()

    run(make_loop, scenario)


@LOOPS
def test_above_its_share_it_waits_for_its_siblings(
    make_loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    """What it leaves stays in the kernel's queue; a sibling that catches up, or dies, lets it go on."""

    async def scenario() -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        sibling = ShareTable(tmp_path, 1)

        def inside(count: int, beside: int) -> bool:
            """The sibling tells its count again and again, as long as it lives."""
            sibling.tell(beside, time.monotonic())
            return len(door.transports) == count

        sibling.tell(10, time.monotonic())
        door = Door(listening, ShareTable(tmp_path, 0))
        before = pauses("share")
        await door.listener.start_serving()
        ends = callers(port, 40)
        await door.until(lambda: inside(15, beside=10) and pauses("share") > before)
        assert [share.connections for share in sibling.siblings()] == [15]
        await door.until(lambda: inside(30, beside=20))
        sibling.close()
        await door.until(lambda: len(door.transports) == 40)
        await door.shut()
        for end in ends:
            end.close()

    run(make_loop, scenario)


class Exhausted:
    """A listening socket of a process that has no descriptor left, the first time."""

    def __init__(self, real: socket.socket) -> None:
        self._real = real
        self.refusals = 1

    def accept(self) -> tuple[socket.socket, Any]:
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.EMFILE, "too many open files")
        return self._real.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def test_out_of_descriptors_it_waits_and_loses_nobody() -> None:
    """No busy loop on a socket that stays readable: a pause, counted, then it tries again."""

    async def scenario() -> None:
        listening = Exhausted(socket.create_server(("127.0.0.1", 0)))
        door = Door(listening)
        before = pauses("descriptors")
        await door.listener.start_serving()
        ends = callers(listening.getsockname()[1], 3)
        await door.until(lambda: len(door.transports) == 3)
        assert pauses("descriptors") == before + 1
        await door.shut()
        for end in ends:
            end.close()

    run(asyncio.new_event_loop, scenario)
