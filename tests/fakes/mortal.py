"""A router's conversation with real session services behind it, in one process, which can be killed at any message.

A killed service does what a killed process does: nothing more is sent, nothing more is written, its tasks are gone; the
router sees its streams dead, and another service on the same store takes over. The router's time stands still while a
worker thinks, so no deadline depends on the machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from router.talk.effects import AbortStream, Effect, EndStream, OpenStream, StreamEvent, StreamKey
from router.talk.mouth import MouthState
from shared.ids import Role, StreamId
from shared.link.messages import Body, FromDevice, ToDevice
from shared.worker.service import Job
from tests.fakes.session import FakeMcpDevice
from tests.fakes.world import World
from workers.session.service import SessionService

FRAMES = 5
"""Of every segment."""

OWN_TASKS = ("session-", "store-commits", "store-losses")
"""Not those that the database's driver has under way."""


@dataclass
class MortalStream:
    """A Stream of shared.worker.service, whose messages go to the router one by one."""

    theatre: Theatre
    key: StreamKey
    id: StreamId
    is_open: bool = True
    job: Job | None = None

    def audio(self, packet: bytes) -> None:
        raise AssertionError("a session sends no audio")

    def credit(self, body: Body) -> None:
        raise AssertionError("a session sends no credit")

    def event(self, body: Body) -> None:
        if self.is_open:
            self.theatre.post(lambda: self.theatre.on_event(self.key, body))

    def done(self, **stats: Any) -> None:
        self._end(lambda: self.theatre.world.done(self.key))

    def error(self, code: str, *, retryable: bool = False, message: str = "") -> None:
        self._end(lambda: self.theatre.world.lose(self.key, code, retryable=retryable))

    def _end(self, tell: Callable[[], object]) -> None:
        if self.is_open:
            self.theatre.post(tell)
            self.is_open = False


class MortalWorld(World):
    """Its session streams go to the theatre's service."""

    theatre: Theatre

    def _apply(self, effect: Effect) -> None:
        super()._apply(effect)
        match effect:
            case OpenStream(key) if key.role == Role.SESSION:
                self.theatre.open(key, effect.body)
            case StreamEvent(key, body) if key.role == Role.SESSION:
                self.theatre.to_worker(key, lambda job: job.on_event(body.to_map()))
            case EndStream(key) if key.role == Role.SESSION:
                self.theatre.to_worker(key, lambda job: job.on_end())
            case AbortStream(key, reason) if key.role == Role.SESSION:
                self.theatre.to_worker(key, lambda job: job.on_abort(reason))
            case _:
                pass


@dataclass
class Theatre:
    """`kill_at`: the message that is lost with its worker, counted from 1; 0 = nobody dies."""

    make_service: Callable[[], Awaitable[SessionService]]
    device: FakeMcpDevice
    kill_at: int = 0
    messages: int = 0
    has_died: bool = False
    log: list[str] = field(default_factory=list)
    """What travelled, by name, for the assertion messages."""
    world: MortalWorld = field(default_factory=lambda: MortalWorld(auto_commit=False))
    _service: SessionService | None = None
    _streams: dict[StreamKey, MortalStream] = field(default_factory=dict)
    _queue: list[Callable[[], object]] = field(default_factory=list)
    _others: set[asyncio.Task[Any]] = field(default_factory=set)
    _count: int = 0

    def __post_init__(self) -> None:
        self.world.theatre = self

    async def start(self) -> None:
        self._others = asyncio.all_tasks()
        self._service = await self.make_service()

    async def close(self) -> None:
        assert self._service is not None
        await self._service.close()

    # Messages

    def open(self, key: StreamKey, body: Body) -> None:
        self._count += 1
        stream = self._streams[key] = MortalStream(self, key, StreamId(self._count))

        def begin() -> None:
            assert self._service is not None
            stream.job = self._service.open(stream, body.to_map())

        self.post(begin)

    def to_worker(self, key: StreamKey, tell: Callable[[Job], None]) -> None:
        stream = self._streams[key]

        def deliver() -> None:
            if stream.job is not None and stream.is_open:
                tell(stream.job)

        self.post(deliver)

    def post(self, deliver: Callable[[], object]) -> None:
        self._queue.append(deliver)

    def on_event(self, key: StreamKey, body: Body) -> None:
        if key not in self.world.open:
            return
        self.log.append(body.name)
        conversation, now = self.world.conversation, self.world.now
        self.world.do(conversation.stream_event(key, body.to_map(), now))
        if isinstance(body, ToDevice) and body.message.get("type") == "mcp":
            reply = self.device.answer(body.message["payload"])
            if reply is not None:
                message = FromDevice({"type": "mcp", "payload": reply})
                self.world.do(conversation.session.tell(message))

    # Time

    async def until(self, condition: Callable[[], object]) -> None:
        """Let messages travel, and time pass where the router waits for nothing but time."""
        try:
            async with asyncio.timeout(30):
                while not condition() or self._queue:
                    await self._turn()
        except TimeoutError:
            raise AssertionError(f"stuck, killed at {self.kill_at}: {self.world.conversation!r} {self.log}") from None

    async def _turn(self) -> None:
        while self._queue:
            deliver = self._queue.pop(0)
            self.messages += 1
            if self.messages == self.kill_at:
                await self._kill()
                return
            deliver()
            self._speak()
        self._speak()
        mouth = self.world.conversation.mouth
        if mouth.state in (MouthState.SPEAKING, MouthState.DRAINING) or any(job.frames for job in mouth._jobs):
            self.world.advance(0.06)
        await asyncio.sleep(0.0005)

    def _speak(self) -> None:
        while any(key.role == Role.TTS for key in self.world.open):
            self.world.speaks(FRAMES)

    async def _kill(self) -> None:
        self.has_died = True
        for stream in self._streams.values():
            stream.is_open = False
        self._queue.clear()
        tasks = asyncio.all_tasks() - self._others
        for task in tasks:
            if task.get_name().startswith(OWN_TASKS):  # what has reached the database happens, as after a real kill
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert self._service is not None
        await self._service._keeper._store.close()  # as the kernel closes its files
        self._service = await self.make_service()
        for key in sorted(key for key in self.world.open if key.role == Role.SESSION):
            self.world.lose(key)
