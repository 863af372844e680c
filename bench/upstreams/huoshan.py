"""Volcengine's bidirectional synthesis, v3, as www.volcengine.com/docs/6561/1329505 tells.

It takes sessions with and without the handshake of the connection before them, one at a time, each under an id of its
own. A cancel is answered with SessionCanceled, unless the session is to be silent; under `late_audio` it speaks on, all
the same.
"""

from __future__ import annotations

import json
import struct
import uuid
from http import HTTPStatus
from typing import Any, Final

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request

from bench.upstreams.fake import Session
from bench.upstreams.script import Kind, Script, Stage
from bench.upstreams.synthesiser import Synthesiser, Talk

APPID: Final = "fake-appid"
ACCESS_TOKEN: Final = "fake-access-token"
SPEAKER: Final = "zh_female_wanwanxiaohe_moon_bigtts"
NOBODY: Final = "nobody"
"""A voice that the service does not have."""
OK: Final = (20000000, "ok")
TOO_MANY: Final = (45000000, "quota exceeded for types: concurrency")
NO_VOICE: Final = (45000001, "[Invalid argument] speaker not found")
BUSY: Final = (55000001, "session error: another session is running")
FAILURE: Final = (55000000, "server error")

_RESPONSE = bytes.fromhex("11941000")
_SOUND = bytes.fromhex("11b41000")
_ERROR = bytes.fromhex("11f01000")


class Huoshan(Synthesiser):
    """`error@connect` is a ConnectionFailed in answer to the first message."""

    path = "/api/v3/tts/bidirection"

    def __init__(
        self, script: Script | None = None, *, port: int = 0, max_sessions: int = 0, started_ms: int = 0
    ) -> None:
        super().__init__(script, port=port, max_sessions=max_sessions, started_ms=started_ms)
        self.handshakes = 0
        self.farewells = 0
        self.overlaps = 0
        """Sessions that were begun before the last one's end."""
        self._ids: set[str] = set()

    def section(self) -> dict[str, Any]:
        return {
            "type": "huoshan_double_stream",
            "ws_url": self.url,
            "appid": APPID,
            "access_token": ACCESS_TOKEN,
            "speaker": SPEAKER,
        }

    def refusal(self, request: Request) -> HTTPStatus | None:
        keys = request.headers.get("X-Api-App-Key"), request.headers.get("X-Api-Access-Key")
        return None if keys == (APPID, ACCESS_TOKEN) else HTTPStatus.UNAUTHORIZED

    async def serve(self, connection: ServerConnection) -> None:
        line = _Line(self, connection)
        try:
            async for message in connection:
                assert isinstance(message, bytes)
                if not await line.on_message(message):
                    break
        finally:
            for talk in line.talks.values():
                await talk.hang_up()

    def is_new(self, session_id: str) -> bool:
        is_new = session_id not in self._ids
        self._ids.add(session_id)
        return is_new

    async def _broken(self, connection: ServerConnection, fault: Any) -> Any:
        if fault.kind is Kind.ERROR:
            connection.refuses = True  # type: ignore[attr-defined]
            return None
        return await super()._broken(connection, fault)


class _Line:
    """One connection."""

    def __init__(self, fake: Huoshan, connection: ServerConnection) -> None:
        self._fake = fake
        self._connection = connection
        self.talks: dict[str, _Session] = {}

    async def on_message(self, message: bytes) -> bool:
        assert message[:4] == bytes.fromhex("11141000")
        (event,) = struct.unpack(">i", message[4:8])
        if getattr(self._connection, "refuses", False):
            await self._connection.send(_RESPONSE + _event(51) + _sized(b"c0ffee") + _meta((45000000, "refused")))
            return True
        match event:
            case 1:
                self._fake.handshakes += 1
                await self._connection.send(_RESPONSE + _event(50) + _sized(b"c0ffee") + _sized(b"{}"))
            case 2:
                self._fake.farewells += 1
                await self._connection.send(_RESPONSE + _event(52) + _sized(b"c0ffee") + _meta(OK))
                return False
            case _:
                await self._on_session(event, message[8:])
        return True

    async def _on_session(self, event: int, rest: bytes) -> None:
        size = struct.unpack(">I", rest[:4])[0]
        session_id, body = rest[4 : 4 + size].decode(), json.loads(rest[8 + size :])
        talk = self.talks.get(session_id)
        if event == 100:
            await self._begin(session_id, body)
        elif talk is None:
            await self._connection.close(1000, "non-exist session")
        elif event == 200:
            talk.say(body["req_params"]["text"])
        elif event == 102:
            talk.finish()
        elif event == 101:
            await talk.cancelled()

    async def _begin(self, session_id: str, body: dict[str, Any]) -> None:
        if any(talk.is_running and not talk.session.was_cancelled for talk in self.talks.values()):
            self._fake.overlaps += 1
            return await self._connection.send(_ERROR + struct.pack(">i", BUSY[0]) + _meta(BUSY))
        headers = dict(self._connection.request.headers) if self._connection.request else {}
        session = Session(id=session_id, headers=headers, started=body["req_params"])
        self._fake.sessions.append(session)
        if not self._fake.is_new(session_id):
            return await self._connection.send(_RESPONSE + _event(153) + _sized(session_id.encode()) + _meta(BUSY))
        self.talks[session_id] = _Session(self._fake, self._connection, session)
        return None


class _Session(Talk):
    def __init__(self, fake: Huoshan, connection: ServerConnection, session: Session) -> None:
        super().__init__(fake, connection, session, session.started["audio_params"]["sample_rate"])

    async def cancelled(self) -> None:
        self.session.was_cancelled = True
        if self.has(Kind.SILENT):
            return
        if not self.has(Kind.LATE_AUDIO):
            await self.stop()
        await self._tell(151, _meta(OK))

    async def started(self) -> bool:
        has_voice = bool(self.session.started["speaker"] != NOBODY)
        await (self._tell(150, _sized(b"{}")) if has_voice else self._tell(153, _meta(NO_VOICE)))
        return has_voice

    async def sentence(self, text: str, *, is_over: bool) -> None:
        await self._tell(351 if is_over else 350, _sized(json.dumps({"text": text}).encode()))

    async def sound(self, pcm: bytes) -> None:
        await self._tell(352, _sized(pcm), head=_SOUND)

    async def finished(self) -> None:
        await self._tell(152, _meta(OK))

    async def failed(self, *, is_quota: bool, stage: Stage) -> None:
        """By another message at each stage: SessionFailed, an error frame, an end that is none."""
        status = TOO_MANY if is_quota else FAILURE
        if stage is Stage.STREAM:
            await self.connection.send(_ERROR + struct.pack(">i", status[0]) + _meta(status))
        else:
            await self._tell(153 if stage is Stage.START else 152, _meta(status))

    async def strange(self, stage: Stage) -> None:
        other = uuid.uuid4().hex
        await self._tell(352, _sized(b"\x40\x1f" * 2400), head=_SOUND, session_id=other)
        await self._tell(153, _meta(FAILURE), session_id=other)
        await self._tell(152, _meta(OK), session_id=other)

    async def _tell(self, event: int, body: bytes, *, head: bytes = _RESPONSE, session_id: str = "") -> None:
        name = (session_id or self.session.id).encode()
        await self.connection.send(head + _event(event) + _sized(name) + body)


def _event(number: int) -> bytes:
    return struct.pack(">i", number)


def _sized(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def _meta(status: tuple[int, str]) -> bytes:
    return _sized(json.dumps({"status_code": status[0], "message": status[1]}).encode())
