"""Stands between a router and a worker on a unix socket, reads every message, and can delay, repeat, lose or cut.

A connection of the worker is one connection to the router, so a death on either side is seen on the other. Nothing is
reordered: a connection is one lane, and a message that waits holds up those behind it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from bench.trial.wire_book import ENDS, WireBook, read_head
from bench.trial.zmtp import Message, MessageReader
from shared.link.envelope import Kind

READ_BYTES = 64 * 1024
DATA = frozenset({Kind.AUDIO, Kind.EVENT, Kind.CREDIT})
"""What may be lost alone: the gap in `seq` has to fail the stream. A live connection loses nothing, and one that breaks
loses what was under way with itself, which is what `cut` does."""
MAX_HELD = 20_000
"""Messages of a lane; then its sender has to wait, as a full socket makes it."""


@dataclass(slots=True)
class Treatment:
    """What is done to messages now."""

    delay_s: float = 0.0
    repeat_every: int = 0
    """0 = none."""
    lose_every: int = 0
    """Of the data; 0 = none."""


class Forwarder:
    """Listens on `path` and passes everything on to `target`. `now` is the book's clock."""

    def __init__(self, path: Path, target: Path, book: WireBook, now: Callable[[], float]) -> None:
        self.treatment = Treatment()
        self.repeated = 0
        self.repeated_ends = 0
        """DONEs and ERRORs that a router has got twice from here."""
        self.lost = 0
        self.delayed = 0
        self._path = path
        self._target = target
        self._book = book
        self._now = now
        self._server: asyncio.Server | None = None
        self._lanes: set[_LanePair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = count(1)

    async def start(self) -> None:
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._accept, self._path)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """End all connections; the worker makes new ones."""
        for lane in list(self._lanes):
            lane.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.set_name(f"forwarder-{self._path.name}")
        self._tasks.add(task)
        try:
            router_reader, router_writer = await asyncio.open_unix_connection(self._target)
        except OSError:
            writer.close()
            self._tasks.discard(task)
            return
        name = f"{self._path.name}#{next(self._numbers)}"
        lane = _LanePair(writer, router_writer)
        self._lanes.add(lane)
        self._book.on_connected(name)
        try:
            await self._pass_both(name, (reader, writer), (router_reader, router_writer))
        finally:
            lane.close()
            self._lanes.discard(lane)
            self._tasks.discard(task)
            self._book.on_closed(name)

    async def _pass_both(
        self,
        name: str,
        worker: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        router: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        """Until either side has gone."""
        up = asyncio.create_task(self._pass(name, worker[0], router[1], is_up=True), name=f"{name}-up")
        down = asyncio.create_task(self._pass(name, router[0], worker[1], is_up=False), name=f"{name}-down")
        try:
            await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)

    async def _pass(
        self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_up: bool
    ) -> None:
        """One direction; `is_up` is from the worker to the router."""
        messages = MessageReader()
        held: asyncio.Queue[tuple[float, Message]] = asyncio.Queue(MAX_HELD)
        sending = asyncio.create_task(self._send(name, held, writer, is_up=is_up), name=f"{name}-sender")
        try:
            while data := await reader.read(READ_BYTES):
                for message in messages.feed(data):
                    if is_up and message.parts:
                        self._book.from_worker(name, message.parts, self._now())
                    await held.put((time.monotonic() + self.treatment.delay_s, message))
        except OSError:
            return
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send(
        self, name: str, held: asyncio.Queue[tuple[float, Message]], writer: asyncio.StreamWriter, *, is_up: bool
    ) -> None:
        sent = 0
        while True:
            due_s, message = await held.get()
            wait_s = due_s - time.monotonic()
            if wait_s > 0:
                self.delayed += 1
                await asyncio.sleep(wait_s)
            sent += bool(message.parts)
            times = self._times(sent, message) if message.parts else 1
            for _ in range(times):
                if message.parts and not is_up:
                    self._book.to_worker(name, message.parts)
                writer.write(message.raw)
            await writer.drain()

    def _times(self, number: int, message: Message) -> int:
        """How often message number so-and-so is passed on."""
        treatment = self.treatment
        kind, _ = read_head(message.parts)
        if treatment.lose_every and number % treatment.lose_every == 0 and kind in DATA:
            self.lost += 1
            return 0
        if treatment.repeat_every and number % treatment.repeat_every == 0:
            self.repeated += 1
            self.repeated_ends += kind in ENDS
            return 2
        return 1


class _LanePair:
    """The two ends of one connection."""

    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self._writers = writers

    def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
