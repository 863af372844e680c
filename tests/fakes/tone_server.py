"""The simplest service outside there can be, with its fake and its engine: what the seam needs and nothing else.

One connection a segment. The client sends one line of JSON, `{"text", "voice"}`; the answer is pieces, each behind its
length (4 bytes, big-endian); length 0 says that all was said, ERROR is followed by a line with a code.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncGenerator
from typing import Any

from bench.upstreams.fake import HOST, Fake, Session
from bench.upstreams.script import Fault, Kind, Stage
from bench.upstreams.voice import spoken
from shared.settings import EngineChoice
from shared.upstream.deadlines import Deadlines
from shared.upstream.faults import Code, CodeTable, UpstreamError
from shared.upstream.faults import Kind as FaultKind
from shared.upstream.upstream import Limits, Upstream
from workers.tts.engine import AnyEngine, SpeechRequest
from workers.tts.engines import registry
from workers.tts.engines.attempts import retried

ERROR = 0xFFFFFFFF
PIECE_BYTES = 4801
"""An odd number: a piece ends within a sample."""
CODES = CodeTable({"quota": (Code.QUOTA, FaultKind.QUOTA), "error": (Code.FAILED, FaultKind.RETRYABLE)})


class ToneServer(Fake):
    """Speaks every text as `bench.upstreams.voice` does, at 16 kHz."""

    rate_hz = 16_000
    _server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"{HOST}:{self.port}"

    def section(self) -> dict[str, Any]:
        return {"type": "tone", "port": self.port, "rate_hz": self.rate_hz}

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, HOST, self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._tasks: set[asyncio.Task[None]] = set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        session = Session()
        self.sessions.append(session)
        fault = self.faults.next()
        session.fault = fault.kind.value if fault else ""
        try:
            await self._session(reader, writer, session, fault)
        except (ConnectionError, asyncio.IncompleteReadError):
            session.was_closed = True
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _session(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, session: Session, fault: Fault | None
    ) -> None:
        if await self._suffers(Stage.CONNECT, fault, reader, writer):
            return
        session.started = json.loads(await reader.readline())
        session.texts.append(session.started["text"])
        if await self._suffers(Stage.START, fault, reader, writer):
            return
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await self._answer(writer, session, fault, gone)
        finally:
            session.was_closed = gone.done() and not session.was_finished
            gone.cancel()

    async def _answer(
        self, writer: asyncio.StreamWriter, session: Session, fault: Fault | None, gone: asyncio.Future[bytes]
    ) -> None:
        script = self.script
        await asyncio.wait((gone,), timeout=script.latency_ms / 1000)
        has_result = fault is None or fault.kind is not Kind.NO_RESULT
        sound = spoken(session.started["text"], self.rate_hz) if has_result else b""
        for start in range(0, len(sound), PIECE_BYTES):
            if gone.done():
                return
            if start and await self._suffers(Stage.STREAM, fault, gone, writer):
                return
            piece = sound[start : start + PIECE_BYTES]
            writer.write(struct.pack(">I", len(piece)) + piece)
            await writer.drain()
            session.audio_bytes += len(piece)
            if script.drip_ms:
                await asyncio.wait((gone,), timeout=script.drip_ms / 1000)
        if await self._suffers(Stage.FINISH, fault, gone, writer):
            return
        session.was_finished = True
        writer.write(struct.pack(">I", 0))
        await writer.drain()

    async def _suffers(
        self,
        stage: Stage,
        fault: Fault | None,
        peer: asyncio.StreamReader | asyncio.Future[bytes],
        writer: asyncio.StreamWriter,
    ) -> bool:
        if fault is None or fault.stage is not stage or fault.kind is Kind.NO_RESULT:
            return False
        if fault.kind in (Kind.ERROR, Kind.QUOTA):
            writer.write(struct.pack(">I", ERROR) + fault.kind.value.encode() + b"\n")
            await writer.drain()
        elif fault.kind is Kind.GARBAGE:
            writer.write(b"\x7f" * 40)
            await writer.drain()
        if fault.kind is not Kind.CLOSE:
            await (peer.read(-1) if isinstance(peer, asyncio.StreamReader) else asyncio.wait((peer,)))
        return True


class ToneEngine:
    """A RemoteEngine that asks a ToneServer."""

    deterministic = False
    languages: frozenset[str] = frozenset()
    is_named = False

    def __init__(self, section: str, options: dict[str, Any]) -> None:
        self._port = int(options["port"])
        self.sample_rate = int(options.get("rate_hz", 16_000))
        deadlines = Deadlines(
            connect_s=options.get("connect_timeout_s", 3.0),
            first_s=options.get("first_timeout_s", 5.0),
            idle_s=options.get("idle_timeout_s", 5.0),
        )
        self._upstream = Upstream(f"TTS.{section}", Limits(deadlines))
        self.closed = 0

    async def start(self) -> None:
        """Nothing is kept warm."""

    def speak(self, request: SpeechRequest) -> AsyncGenerator[bytes, None]:
        return retried(lambda: self._pieces(request), self._upstream.name)

    async def _pieces(self, request: SpeechRequest) -> AsyncGenerator[bytes, None]:
        async with self._upstream.request(request.owner) as asked:
            async with asked.waits.connecting():
                reader, writer = await self._connected()
            try:
                writer.write(json.dumps({"text": request.text, "voice": request.voice}).encode() + b"\n")
                async with asked.waits.first():
                    piece = await self._piece(reader)
                asked.on_first_byte()
                while piece:
                    yield piece
                    async with asked.waits.next():
                        piece = await self._piece(reader)
            finally:
                writer.close()

    async def close(self) -> None:
        self.closed += 1

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            return await asyncio.open_connection(HOST, self._port)
        except OSError:
            raise UpstreamError("the tone server is away", code=Code.CONNECT) from None

    async def _piece(self, reader: asyncio.StreamReader) -> bytes:
        try:
            (size,) = struct.unpack(">I", await reader.readexactly(4))
            if size == ERROR:
                raise CODES.error((await reader.readline()).decode().strip(), "the tone server said so")
            if size > PIECE_BYTES:
                raise UpstreamError("no message of the tone server", code=Code.MALFORMED)
            return await reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise UpstreamError("the tone server closed", code=Code.CLOSED) from None


def build(choice: EngineChoice) -> AnyEngine:
    """The registry's engines, and this one as `tone`."""
    return ToneEngine(choice.name, choice.options) if choice.type == "tone" else registry.build(choice)
