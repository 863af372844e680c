"""A FunASR runtime's WebSocket server, as runtime/docs/websocket_protocol.md of modelscope/FunASR and its sources tell.

Three servers in one, by `server`: `cpp` (websocket-server-2pass.cpp: `is_final` in the last answer only), `python`
(funasr_wss_server.py: `is_final` as long as the client speaks) and `cpp_offline` (websocket-server.cpp: one answer).
Of the script, `latency_ms` is waited before the last answer, `drip_ms` before each other one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, Literal

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from bench.upstreams.fake import HOST, Session
from bench.upstreams.script import Fault, Kind, Script, Stage
from bench.upstreams.sentence_ear import SentenceEar
from bench.upstreams.websocket_fake import Recognition, WebSocketFake

END_SILENCE_MS: Final = 800
"""Of the runtime's own voice detector."""
STEP_BYTES: Final = 19_200
"""600 ms: a step of the online model with chunk_size 5, 10, 5."""

Server = Literal["cpp", "python", "cpp_offline"]


class FunAsr(WebSocketFake):
    """`session.texts` are the sentences it has told, `session.id` the client's wav_name."""

    def __init__(self, script: Script | None = None, *, port: int = 0, server: Server = "cpp") -> None:
        super().__init__(script, port=port)
        self.server: Server = server
        self.subprotocol = "binary" if server == "python" else None

    @property
    def url(self) -> str:
        return f"ws://{HOST}:{self.port}"

    def section(self) -> dict[str, Any]:
        return {"type": "fun_server", "host": HOST, "port": self.port, "is_ssl": False, "mode": self.mode}

    @property
    def mode(self) -> str:
        return "offline" if self.server == "cpp_offline" else "2pass"

    def _refusal(self, connection: ServerConnection, request: Request) -> Response | None:
        offered = request.headers.get("Sec-WebSocket-Protocol", "")
        if self.subprotocol is not None and self.subprotocol not in offered:
            return connection.respond(HTTPStatus.BAD_REQUEST, "")
        return None

    async def _talk(self, connection: ServerConnection, session: Session, fault: Fault | None) -> None:
        first = await connection.recv()
        session.started = json.loads(first)
        session.id = session.started["wav_name"]
        await _Recognition(self, connection, session, fault).run()


class _Recognition(Recognition[FunAsr]):
    """One session."""

    garbage = "no JSON at all"

    def __init__(self, fake: FunAsr, connection: ServerConnection, session: Session, fault: Fault | None) -> None:
        super().__init__(fake, connection, session, fault, SentenceEar(END_SILENCE_MS, STEP_BYTES))
        self._mode = session.started.get("mode", "2pass")
        self._told_chars = 0
        self._is_speaking = True

    async def run(self) -> None:
        if await self._fails(Stage.START):
            return
        async for message in self._connection:
            if isinstance(message, str):
                if json.loads(message).get("is_speaking") is False:
                    await self._finish(json.loads(message))
                    return
            elif not await self._takes(message):
                return
        self._session.was_closed = True

    async def _answer(self) -> None:
        if self._fake.server == "cpp_offline":
            return
        if self._ear.is_sentence_over:
            await self._tell_sentence()
        elif self._mode == "2pass" and self._ear.has_partial:
            await self._tell_piece()

    async def _tell_piece(self) -> None:
        text = self._ear.text
        piece, self._told_chars = text[self._told_chars :], len(text)
        if piece:
            await self._fake.pause(self._fake.script.drip_ms)
            await self._tell({"mode": "2pass-online", "text": piece, "is_final": self._says_final(is_last=False)})

    async def _tell_sentence(self, *, is_last: bool = False) -> None:
        text, self._told_chars = self._ear.next_sentence(), 0
        if text:
            self._session.texts.append(text)
        mode = "2pass-offline" if self._mode == "2pass" or self._fake.server == "cpp" else "offline"
        names_mode = bool(text) or self._fake.server != "cpp"
        answer: dict[str, Any] = {"mode": mode} if names_mode else {}
        await self._tell({**answer, "text": text, "is_final": self._says_final(is_last=is_last)})

    def _says_final(self, *, is_last: bool) -> bool:
        match self._fake.server:
            case "cpp":
                return is_last
            case "python":
                return self._is_speaking
            case "cpp_offline":
                return False

    async def _finish(self, closing: Mapping[str, Any]) -> None:
        self._session.was_finished = True
        self._is_speaking = False
        await self._fake.pause(self._fake.script.latency_ms)
        if await self._fails(Stage.FINISH):
            return
        if self._has(Kind.NO_RESULT):
            self._ear.next_sentence()
        if self._fake.server == "python" and not self._ear.text:
            if closing.get("is_end"):
                await self._tell({"is_end": True, "is_final": True})
            return
        await self._tell_sentence(is_last=True)

    async def _tell(self, answer: Mapping[str, Any]) -> None:
        await self._connection.send(json.dumps({**answer, "wav_name": self._session.id}, ensure_ascii=False))

    async def _fails_as(self, kind: Kind, stage: Stage) -> bool:
        if kind is Kind.ERROR:
            await self._tell({"is_end": True, "is_final": False, "error": "inference failed"})
        elif kind is Kind.WRONG_SESSION:
            other = {"mode": "offline", "text": "somebody else's", "is_final": True, "wav_name": "another"}
            await self._connection.send(json.dumps(other))
        return kind is Kind.ERROR
