"""A fake upstream that talks WebSocket: the server, the refusals at the door, and the faults that need no protocol."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from http import HTTPStatus
from typing import ClassVar, Final, Generic, TypeVar
from uuid import UUID

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from bench.upstreams.fake import HOST, Fake, Session
from bench.upstreams.script import Fault, Kind, Script, Stage
from bench.upstreams.sentence_ear import SentenceEar

INTERNAL_ERROR: Final = 1011


class WebSocketFake(Fake):
    """One session a connection; one that went wrong is closed by the service, others by the client."""

    def __init__(self, script: Script | None = None, *, port: int = 0) -> None:
        super().__init__(script, port=port)
        self._server: Server | None = None
        self._at_the_door: set[ServerConnection] = set()
        self._fault_of: dict[UUID, Fault | None] = {}

    async def start(self) -> None:
        self._server = await serve(
            self._serve, HOST, self._port, process_request=self._admit, compression=None, ping_interval=None
        )
        self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is None:
            return
        for connection in self._at_the_door:
            connection.transport.abort()
        self._server.close()
        await self._server.wait_closed()

    @abstractmethod
    def _refusal(self, connection: ServerConnection, request: Request) -> Response | None:
        """An answer to what is no upgrade, or to one with the wrong keys."""

    @abstractmethod
    async def _talk(self, connection: ServerConnection, session: Session, fault: Fault | None) -> None:
        """The session; returns when it has ended. `fault` is none of the CONNECT stage."""

    async def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        refusal = self._refusal(connection, request)
        if refusal is not None:
            return refusal
        self.connections += 1
        fault = self.faults.next()
        if fault is not None and fault.stage is Stage.CONNECT:
            return await self._turn_away(connection, fault)
        self._fault_of[connection.id] = fault
        return None

    async def _turn_away(self, connection: ServerConnection, fault: Fault) -> Response | None:
        match fault.kind:
            case Kind.ERROR:
                return connection.respond(HTTPStatus.INTERNAL_SERVER_ERROR, "")
            case Kind.QUOTA:
                return connection.respond(HTTPStatus.TOO_MANY_REQUESTS, "")
            case Kind.SILENT:
                self._at_the_door.add(connection)
                await connection.wait_closed()
                self._at_the_door.discard(connection)
            case Kind.GARBAGE:
                connection.transport.write(b"\x00\x01 no HTTP at all\r\n\r\n")
                connection.transport.close()
            case Kind.CLOSE:
                connection.transport.abort()
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        fault = self._fault_of.pop(connection.id, None)
        assert connection.request is not None
        session = Session(headers=dict(connection.request.headers.raw_items()))
        session.fault = str(fault or "")
        self.sessions.append(session)
        self.running += 1
        try:
            await self._talk(connection, session, fault)
        except ConnectionClosed:
            session.was_closed = True
        else:
            if not session.was_finished or fault is not None:
                await connection.close()
            await connection.wait_closed()
        finally:
            self.running -= 1

    async def pause(self, ms: int) -> None:
        if ms:
            await asyncio.sleep(ms / 1000)


async def stay_silent(connection: ServerConnection) -> None:
    """Nothing any more, whatever comes; raises ConnectionClosed in the end."""
    while True:
        await connection.recv()


FakeT = TypeVar("FakeT", bound=WebSocketFake)


class Talk(ABC, Generic[FakeT]):
    """One session under the fault that it was given."""

    garbage: ClassVar[str | bytes]
    """No message of the protocol."""

    def __init__(self, fake: FakeT, connection: ServerConnection, session: Session, fault: Fault | None) -> None:
        self._fake = fake
        self._connection = connection
        self._session = session
        self._fault = fault

    def _has(self, kind: Kind) -> bool:
        return self._fault is not None and self._fault.kind is kind

    async def _fails(self, stage: Stage) -> bool:
        """Whether the session ends here."""
        if self._fault is None or self._fault.stage is not stage:
            return False
        match self._fault.kind:
            case Kind.SILENT:
                await stay_silent(self._connection)
            case Kind.GARBAGE:
                await self._connection.send(self.garbage)
                await stay_silent(self._connection)
            case Kind.CLOSE:
                await self._hang_up()
                return True
        return await self._fails_as(self._fault.kind, stage)

    async def _hang_up(self) -> None:
        await self._connection.close(INTERNAL_ERROR)

    @abstractmethod
    async def _fails_as(self, kind: Kind, stage: Stage) -> bool:
        """What only the protocol can say; whether the session ends by it."""


class Recognition(Talk[FakeT]):
    """A session that is told sound."""

    def __init__(
        self,
        fake: FakeT,
        connection: ServerConnection,
        session: Session,
        fault: Fault | None,
        ear: SentenceEar,
    ) -> None:
        super().__init__(fake, connection, session, fault)
        self._ear = ear

    @abstractmethod
    async def _answer(self) -> None:
        """What is told behind each piece of sound."""

    async def _takes(self, pcm: bytes) -> bool:
        """Whether the session goes on; its fault strikes behind the first sound."""
        is_first = not self._session.audio_bytes
        self._session.audio_bytes += len(pcm)
        if is_first and await self._fails(Stage.STREAM):
            return False
        self._ear.hear(pcm)
        await self._answer()
        return True
