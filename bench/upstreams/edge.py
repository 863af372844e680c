"""The service that Microsoft Edge reads pages aloud with, as its messages are seen in the browser.

One request a connection: `speech.config`, then `ssml`; the answer is turn.start, response, MP3 in binary messages,
audio.metadata for each sentence, turn.end. There is no message for an error: the connection is closed, with 1007 for
what it cannot speak, 1011 for its own failures, 1013 if there are too many.

`ahead_s`: its clock is so far ahead of ours, so that the token of our time is refused with 403 and its own time.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from contextlib import suppress
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from bench.upstreams.encoding import encoded
from bench.upstreams.fake import HOST, Session
from bench.upstreams.script import Fault, Kind, Script, Stage
from bench.upstreams.voice import spoken
from bench.upstreams.websocket_fake import INTERNAL_ERROR, Talk, WebSocketFake, stay_silent

RATE_HZ: Final = 24_000
NOBODY: Final = "xx-XX-NobodyNeural"
"""A voice that the service does not have."""
CANNOT_SPEAK: Final = 1007
CLOSES: Final = {Kind.ERROR: (INTERNAL_ERROR, "internal error"), Kind.QUOTA: (1013, "too many requests")}

_PATH: Final = "/consumer/speech/synthesize/readaloud/edge/v1"
TRUSTED: Final = "fake-trusted-client-token"
_TOKEN: Final = re.compile(r"([0-9A-F]{16}-)?[0-9A-F]{64}")
_NAMESPACE: Final = "{http://www.w3.org/2001/10/synthesis}"
_SENTENCE: Final = re.compile(r"[^。！？.!?]+[。！？.!?]*")


class Edge(WebSocketFake):
    """Its sessions' `started` holds output format, voice, rate, volume and pitch."""

    def __init__(self, script: Script | None = None, *, port: int = 0, ahead_s: float = 0.0) -> None:
        super().__init__(script, port=port)
        self.ahead_s = ahead_s
        self.tokens: list[str] = []
        """In the order in which they came."""
        self.forbids = False
        """Every token is refused."""

    @property
    def open_connections(self) -> int:
        return len(self._server.connections) if self._server is not None else 0

    @property
    def url(self) -> str:
        return f"ws://{HOST}:{self.port}{_PATH}?TrustedClientToken={TRUSTED}"

    def section(self) -> dict[str, Any]:
        return {"type": "edge", "url": self.url, "voice": "zh-CN-XiaoxiaoNeural"}

    def _refusal(self, connection: ServerConnection, request: Request) -> Response | None:
        address = urlsplit(request.path)
        if address.path != _PATH:
            return connection.respond(HTTPStatus.NOT_FOUND, "")
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        token = query.get("Sec-MS-GEC", "")
        is_old = bool(self.ahead_s) and token in (self.tokens[:1] or [token])
        self.tokens.append(token)
        has_all = query.get("TrustedClientToken") == TRUSTED and "ConnectionId" in query
        is_whole = has_all and "Sec-MS-GEC-Version" in query and bool(_TOKEN.fullmatch(token))
        return self._forbidden(connection) if self.forbids or is_old or not is_whole else None

    def _forbidden(self, connection: ServerConnection) -> Response:
        response = connection.respond(HTTPStatus.FORBIDDEN, "")
        del response.headers["Date"]
        response.headers["Date"] = formatdate(time.time() + self.ahead_s, usegmt=True)
        return response

    async def _talk(self, connection: ServerConnection, session: Session, fault: Fault | None) -> None:
        config = _headers_and_body(await connection.recv())
        assert config[0]["Path"] == "speech.config", config
        headers, ssml = _headers_and_body(await connection.recv())
        assert headers["Path"] == "ssml", headers
        session.id = headers["X-RequestId"]
        session.started = _wishes(config[1], ssml)
        session.texts.append(session.started.pop("text"))
        if session.started["voice"] == _full_name(NOBODY):
            return await connection.close(CANNOT_SPEAK, f"Unsupported voice {session.started['voice']}.")
        turn = _Turn(self, connection, session, fault)
        if await turn.speak():
            session.was_finished = True
        return None


class _Turn(Talk[Edge]):
    """One answer."""

    garbage = b"\xff\xff garbage"

    def __init__(self, fake: Edge, connection: ServerConnection, session: Session, fault: Fault | None) -> None:
        super().__init__(fake, connection, session, fault)
        self._stream_id = uuid.uuid4().hex.upper()

    async def speak(self) -> bool:
        """Whether it went to its end."""
        if await self._fails(Stage.START):
            return False
        await self._text("turn.start", {"context": {"serviceTag": uuid.uuid4().hex}})
        stream = {"type": "inline", "streamId": self._stream_id}
        await self._text("response", {"context": {"serviceTag": uuid.uuid4().hex}, "audio": stream})
        await self._rest(self._fake.script.latency_ms)
        if not self._has(Kind.NO_RESULT) and not await self._sound():
            return False
        if await self._fails(Stage.FINISH):
            return False
        await self._audio(b"")
        await self._text("turn.end", {})
        if self._has(Kind.LATE_AUDIO):
            for piece in encoded(spoken("late", RATE_HZ), "mp3", RATE_HZ):
                await self._audio(piece)
        return True

    async def _sound(self) -> bool:
        is_first = True
        for piece in encoded(spoken(self._session.texts[0], RATE_HZ), "mp3", RATE_HZ):
            await self._audio(piece)
            if is_first and await self._fails(Stage.STREAM):
                return False
            is_first = False
            await self._rest(self._fake.script.drip_ms)
        for sentence in _SENTENCE.findall(self._session.texts[0]):
            text = {"Text": sentence, "Length": len(sentence), "BoundaryType": "SentenceBoundary"}
            data = {"Offset": 1_000_000, "Duration": 10_000_000, "text": text}
            await self._text("audio.metadata", {"Metadata": [{"Type": "SentenceBoundary", "Data": data}]})
        return True

    async def _rest(self, ms: int) -> None:
        """Raises ConnectionClosed as soon as the client has gone."""
        with suppress(TimeoutError):
            async with asyncio.timeout(ms / 1000):
                await stay_silent(self._connection)

    async def _hang_up(self) -> None:
        self._connection.transport.abort()

    async def _fails_as(self, kind: Kind, stage: Stage) -> bool:
        if kind in CLOSES:
            await self._connection.close(*CLOSES[kind])
        elif kind is Kind.WRONG_SESSION:
            other = uuid.uuid4().hex
            await self._audio(b"\x00" * 1440, request_id=other)
            await self._text("turn.end", {}, request_id=other)
        return kind in CLOSES

    async def _text(self, path: str, body: dict[str, Any], *, request_id: str = "") -> None:
        head = f"X-RequestId:{request_id or self._session.id}\r\nContent-Type:application/json; charset=utf-8\r\n"
        await self._connection.send(f"{head}Path:{path}\r\n\r\n{json.dumps(body)}")

    async def _audio(self, mp3: bytes, *, request_id: str = "") -> None:
        kind = "Content-Type:audio/mpeg\r\n" if mp3 else ""
        head = f"X-RequestId:{request_id or self._session.id}\r\n{kind}X-StreamId:{self._stream_id}\r\nPath:audio\r\n"
        await self._connection.send(len(head).to_bytes(2, "big") + head.encode() + mp3)


def _headers_and_body(message: str | bytes) -> tuple[dict[str, str], str]:
    assert isinstance(message, str), "the browser sends text"
    head, _, body = message.partition("\r\n\r\n")
    return {name: value for name, _, value in (line.partition(":") for line in head.split("\r\n"))}, body


def _wishes(config: str, ssml: str) -> dict[str, Any]:
    audio = json.loads(config)["context"]["synthesis"]["audio"]
    speak = ElementTree.fromstring(ssml)
    voice = speak.find(f"{_NAMESPACE}voice")
    prosody = speak.find(f"{_NAMESPACE}voice/{_NAMESPACE}prosody")
    assert voice is not None and prosody is not None, ssml
    return {
        "format": audio["outputFormat"],
        "voice": voice.get("name"),
        **{name: prosody.get(name) for name in ("rate", "volume", "pitch")},
        "text": "".join(prosody.itertext()),
    }


def _full_name(short: str) -> str:
    language, _, name = short.rpartition("-")
    return f"Microsoft Server Speech Text to Speech Voice ({language}, {name})"
