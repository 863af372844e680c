"""What the fakes of speech services over WebSockets share: a port, sessions that speak what they are told, and faults.

A fault strikes a session at its start, behind its first sound, or at its end; one `@connect` strikes a connection.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import suppress
from http import HTTPStatus
from typing import Final

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from bench.upstreams.fake import HOST, Fake, Session
from bench.upstreams.script import Fault, Kind, Script, Stage
from bench.upstreams.voice import spoken

CHUNK_MS: Final = 200
LATE_CHUNKS: Final = 3
GARBAGE: Final = b"\x00\xff garbage \xfe"

_REFUSALS: Final = {Kind.ERROR: HTTPStatus.SERVICE_UNAVAILABLE, Kind.QUOTA: HTTPStatus.TOO_MANY_REQUESTS}


class Synthesiser(Fake):
    """`max_sessions`: how many may speak at once (0 = any number); more are refused as by the provider."""

    def __init__(
        self, script: Script | None = None, *, port: int = 0, max_sessions: int = 0, started_ms: int = 0
    ) -> None:
        """`started_ms` is the time from a session's start to its confirmation."""
        super().__init__(script, port=port)
        self.max_sessions = max_sessions
        self.started_ms = started_ms
        self.speaking = 0
        self.most_speaking = 0
        self.open_connections = 0
        self._server: Server | None = None
        self._ending = asyncio.Event()

    @property
    def url(self) -> str:
        return f"ws://{HOST}:{self.port}{self.path}"

    @property
    @abstractmethod
    def path(self) -> str: ...

    @abstractmethod
    async def serve(self, connection: ServerConnection) -> None:
        """Answer a connection until it ends; `ConnectionClosed` may pass."""

    @abstractmethod
    def refusal(self, request: Request) -> HTTPStatus | None:
        """Of the keys in the headers."""

    async def start(self) -> None:
        self._ending = asyncio.Event()
        self._server = await serve(
            self._connected, HOST, self._port, process_request=self._answer, compression=None, open_timeout=None
        )
        self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self._ending.set()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def fault_at(self, *stages: Stage) -> Fault | None:
        """The next session's or connection's, if it strikes at one of these stages."""
        planned = self.script.fault
        return self.faults.next() if planned is not None and planned.stage in stages else None

    async def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        self.connections += 1
        status = self.refusal(request)
        if status is not None:
            return connection.respond(status, "refused\n")
        fault = self.fault_at(Stage.CONNECT)
        return await self._broken(connection, fault) if fault is not None else None

    async def _broken(self, connection: ServerConnection, fault: Fault) -> Response | None:
        match fault.kind:
            case Kind.SILENT:
                await self._gone(connection)
            case Kind.GARBAGE:
                connection.transport.write(GARBAGE + b"\r\n\r\n")
            case Kind.ERROR | Kind.QUOTA:
                return connection.respond(_REFUSALS[fault.kind], "refused\n")
        connection.transport.abort()
        return None

    async def _gone(self, connection: ServerConnection) -> None:
        """Until the client has given up, or we end."""
        ends = [
            asyncio.create_task(self._ending.wait(), name="fake-ending"),
            asyncio.create_task(connection.wait_closed(), name="fake-given-up"),
        ]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()

    async def _connected(self, connection: ServerConnection) -> None:
        self.open_connections += 1
        try:
            with suppress(ConnectionClosed):
                await self.serve(connection)
        finally:
            self.open_connections -= 1


class Talk(ABC):
    """One session: it speaks the texts it is given, in a task of its own."""

    def __init__(self, fake: Synthesiser, connection: ServerConnection, session: Session, rate_hz: int) -> None:
        self.fake = fake
        self.connection = connection
        self.session = session
        self.fault = fake.fault_at(Stage.START, Stage.STREAM, Stage.FINISH)
        session.fault = str(self.fault or "")
        self._rate_hz = rate_hz
        self._texts: asyncio.Queue[str | None] = asyncio.Queue()
        self._task = asyncio.create_task(self._run(), name=f"fake-talk-{session.id}")

    @abstractmethod
    async def started(self) -> bool:
        """Tell it, or why not."""

    @abstractmethod
    async def sentence(self, text: str, *, is_over: bool) -> None: ...

    @abstractmethod
    async def sound(self, pcm: bytes) -> None: ...

    @abstractmethod
    async def finished(self) -> None: ...

    @abstractmethod
    async def failed(self, *, is_quota: bool, stage: Stage) -> None: ...

    @abstractmethod
    async def strange(self, stage: Stage) -> None:
        """What another session would be sent."""

    @property
    def is_running(self) -> bool:
        return not self._task.done()

    def say(self, text: str) -> None:
        self.session.texts.append(text)
        self._texts.put_nowait(text)

    def finish(self) -> None:
        self.session.was_finished = True
        self._texts.put_nowait(None)

    def has(self, kind: Kind) -> bool:
        return self.fault is not None and self.fault.kind is kind

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def hang_up(self) -> None:
        """The client has gone."""
        if self.is_running:
            self.session.was_closed = True
        await self.stop()

    async def late(self) -> None:
        """Sound that comes when nobody waits for it any more."""
        pcm = spoken(self.session.texts[-1] if self.session.texts else "", self._rate_hz)
        for chunk in self._chunks(pcm)[:LATE_CHUNKS]:
            await self.sound(chunk)

    async def _run(self) -> None:
        self.fake.running += 1
        self.fake.speaking += 1
        self.fake.most_speaking = max(self.fake.most_speaking, self.fake.speaking)
        try:
            await self._spoken()
        except ConnectionClosed:
            self.session.was_closed = True
        finally:
            self.fake.speaking -= 1
            self.fake.running -= 1

    async def _spoken(self) -> None:
        if self._is_too_many:
            return await self.failed(is_quota=True, stage=Stage.START)
        await asyncio.sleep(self.fake.started_ms / 1000)
        if await self._suffers(Stage.START):
            return None
        if await self.started() and await self._say_all() and not await self._suffers(Stage.FINISH):
            await self.finished()
            if self._is_late:
                with suppress(ConnectionClosed):
                    await self.late()
        return None

    async def _say_all(self) -> bool:
        is_first = True
        while (text := await self._texts.get()) is not None:
            if is_first:
                await asyncio.sleep(self.fake.script.latency_ms / 1000)
            if not self.has(Kind.NO_RESULT) and not self.has(Kind.NO_SPEECH) and not await self._say(text, is_first):
                return False
            is_first = False
        return True

    async def _say(self, text: str, is_first: bool) -> bool:
        await self.sentence(text, is_over=False)
        for number, chunk in enumerate(self._chunks(spoken(text, self._rate_hz))):
            await self.sound(chunk)
            if is_first and number == 0 and await self._suffers(Stage.STREAM):
                return False
            await asyncio.sleep(self.fake.script.drip_ms / 1000)
        await self.sentence(text, is_over=True)
        return True

    async def _suffers(self, stage: Stage) -> bool:
        """Does the session end here?"""
        if self.fault is None or self.fault.stage is not stage:
            return False
        match self.fault.kind:
            case Kind.ERROR | Kind.QUOTA:
                await self.failed(is_quota=self.has(Kind.QUOTA), stage=stage)
            case Kind.CLOSE:
                await self.connection.close(1011)
            case Kind.GARBAGE:
                await self.connection.send(GARBAGE)
                await self.connection.send("{garbage")
            case Kind.WRONG_SESSION:
                await self.strange(stage)
        return self.fault.kind in (Kind.SILENT, Kind.ERROR, Kind.QUOTA, Kind.CLOSE, Kind.GARBAGE)

    def _chunks(self, pcm: bytes) -> list[bytes]:
        size = 2 * self._rate_hz * CHUNK_MS // 1000
        return [pcm[start : start + size] for start in range(0, len(pcm), size)]

    @property
    def _is_too_many(self) -> bool:
        return 0 < self.fake.max_sessions < self.fake.speaking

    @property
    def _is_late(self) -> bool:
        return self.has(Kind.LATE_AUDIO) and self.fault is not None and self.fault.stage is Stage.FINISH
