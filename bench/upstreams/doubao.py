"""Volcengine's large-model streaming recognition ("sauc"), as www.volcengine.com/docs/6561/1354869 tells.

Of the script, `latency_ms` is waited before the first answer and before the last. A sentence is definite after the
silence that the client asked for, but not within the first ten seconds unless it asked for that too.
"""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from bench.upstreams.fake import HOST, Session
from bench.upstreams.script import Fault, Kind, Script, Stage
from bench.upstreams.sentence_ear import SentenceEar
from bench.upstreams.websocket_fake import Recognition, WebSocketFake, stay_silent

APP_ID: Final = "1234567890"
ACCESS_TOKEN: Final = "fake-access-token"
ERRORS: Final = {
    Kind.ERROR: (55000000, "[Internal] engine failed"),
    Kind.QUOTA: (45000292, "quota exceeded for types: concurrency"),
}


class Doubao(WebSocketFake):
    """`session.texts` are the definite sentences it has told; `session.id` is the client's X-Api-Connect-Id."""

    def __init__(self, script: Script | None = None, *, port: int = 0) -> None:
        super().__init__(script, port=port)
        self.compresses = True
        """Whether its answers are gzipped; the service does both."""
        self.numbers = True
        """Whether its answers carry a sequence."""

    @property
    def url(self) -> str:
        return f"ws://{HOST}:{self.port}/api/v3/sauc/bigmodel_async"

    def section(self) -> dict[str, Any]:
        return {"type": "doubao_stream", "appid": APP_ID, "access_token": ACCESS_TOKEN, "ws_url": self.url}

    def _refusal(self, connection: ServerConnection, request: Request) -> Response | None:
        given = [request.headers.get(f"X-Api-{name}") for name in ("App-Key", "Access-Key")]
        if given != [APP_ID, ACCESS_TOKEN] or not request.headers.get("X-Api-Resource-Id"):
            return connection.respond(HTTPStatus.FORBIDDEN, "")
        return None

    async def _talk(self, connection: ServerConnection, session: Session, fault: Fault | None) -> None:
        session.id = session.headers.get("X-Api-Connect-Id", "")
        kind, payload = _unpacked(await connection.recv())
        if kind != 0x10:
            await connection.send(_error_frame(45000001, "[Invalid argument] no request"))
            return
        session.started = json.loads(payload)
        await _Recognition(self, connection, session, fault).run()


class _Recognition(Recognition[Doubao]):
    """One session."""

    garbage = b"\x11\x91\x11\x00\x00\x00\x00\x01\x00\x00\x00\x04junk"

    def __init__(self, fake: Doubao, connection: ServerConnection, session: Session, fault: Fault | None) -> None:
        request = session.started["request"]
        super().__init__(fake, connection, session, fault, SentenceEar(request.get("end_window_size", 800)))
        self._not_before_ms = request.get("force_to_speech_time", 10_000)
        self._sequence = 0
        self._sentences: list[dict[str, Any]] = []

    async def run(self) -> None:
        await self._fake.pause(self._fake.script.latency_ms)
        if await self._fails(Stage.START):
            return
        await self._tell({"audio_info": {"duration": 0}, "result": {"text": ""}})
        kind = 0x20
        while kind == 0x20:
            kind, pcm = _unpacked(await self._connection.recv())
            if not await self._takes(pcm):
                return
        await self._finish(kind)

    async def _answer(self) -> None:
        if self._ear.is_sentence_over and self._ear.heard_ms >= self._not_before_ms:
            self._end_sentence()
        elif not self._ear.has_partial:
            return
        await self._fake.pause(self._fake.script.drip_ms)
        await self._tell(self._result())

    async def _finish(self, kind: int) -> None:
        self._session.was_finished = kind == 0x22
        await self._fake.pause(self._fake.script.latency_ms)
        if await self._fails(Stage.FINISH):
            return
        if self._ear.text:
            self._end_sentence()
        is_mute = self._has(Kind.NO_RESULT)
        await self._tell({"audio_info": {"duration": 0}} if is_mute else self._result(), is_last=True)
        if self._has(Kind.LATE_AUDIO):
            await self._tell({"result": {"text": "too late"}})

    def _end_sentence(self) -> None:
        text, end_ms = self._ear.next_sentence(), int(self._ear.heard_ms)
        self._session.texts.append(text)
        self._sentences.append({"definite": True, "start_time": 0, "end_time": end_ms, "text": text})

    def _result(self) -> dict[str, Any]:
        """Everything so far, as "full" asks for."""
        pending = self._ear.text
        open_one = [{"definite": False, "start_time": 0, "end_time": 0, "text": pending}] if pending else []
        sentences = self._sentences + open_one
        text = "".join(sentence["text"] for sentence in sentences)
        return {
            "audio_info": {"duration": int(self._ear.heard_ms)},
            "result": {"text": text, "utterances": sentences} if sentences else {"text": ""},
        }

    async def _tell(self, body: Mapping[str, Any], *, is_last: bool = False) -> None:
        self._sequence += 1
        payload = json.dumps(body).encode()
        if self._fake.compresses:
            payload = gzip.compress(payload)
        flags = 0b01 * self._fake.numbers | 0b10 * is_last
        frame = bytes([0x11, 0x90 | flags, 0x11 if self._fake.compresses else 0x10, 0x00])
        if self._fake.numbers:
            frame += struct.pack(">i", -self._sequence if is_last else self._sequence)
        await self._connection.send(frame + struct.pack(">I", len(payload)) + payload)

    async def _fails_as(self, kind: Kind, stage: Stage) -> bool:
        if kind in ERRORS:
            await self._connection.send(_error_frame(*ERRORS[kind]))
        elif kind is Kind.NO_SPEECH:
            await self._tell({"code": 1013, "message": "no valid speech in audio", "sequence": self._sequence})
            if stage is Stage.FINISH:
                await stay_silent(self._connection)
        return kind in ERRORS


def _unpacked(message: str | bytes) -> tuple[int, bytes]:
    """The second byte of a client's frame, and its payload."""
    assert isinstance(message, bytes) and message[0] == 0x11 and message[2] & 0x0F == 1, "no gzipped frame"
    (size,) = struct.unpack_from(">I", message, 4)
    assert len(message) == 8 + size, "the size does not fit"
    return message[1], gzip.decompress(message[8:])


def _error_frame(code: int, text: str) -> bytes:
    body = json.dumps({"error": text}).encode()
    return b"\x11\xf0\x10\x00" + struct.pack(">II", code, len(body)) + body
