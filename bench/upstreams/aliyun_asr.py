"""Alibaba's real-time transcription and its token service, as help.aliyun.com/document_detail/84428.html tells.

One port serves both: `/ws/v1` is the gateway, everything else CreateToken. A token counts if it came from here and has
not been taken back. Of the script, `latency_ms` is waited before TranscriptionStarted and before the last sentence.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from bench.upstreams.fake import HOST, Session
from bench.upstreams.script import Fault, Kind, Script, Stage
from bench.upstreams.sentence_ear import SentenceEar
from bench.upstreams.websocket_fake import Recognition, WebSocketFake

APPKEY: Final = "fake-appkey"
KEY_ID: Final = "fake-key-id"
SECRET: Final = "fake-key-secret"
SUCCESS: Final = 20000000
STATUS: Final = {Kind.ERROR: 50000000, Kind.QUOTA: 40000005, Kind.NO_SPEECH: 40270002}
FOREIGN: Final = "f" * 32


class AliyunAsr(WebSocketFake):
    """`session.texts` are the sentences it has told; `session.id` is the task."""

    def __init__(self, script: Script | None = None, *, port: int = 0) -> None:
        super().__init__(script, port=port)
        self.tokens: dict[str, float] = {}
        """Issued and not taken back, with the Unix second of expiry."""
        self.token_life_s = 86_400.0
        self.token_refusal = ""
        """The token service's answer, such as InvalidAccessKeyId.NotFound; empty = it issues one."""
        self.token_requests = 0

    @property
    def url(self) -> str:
        return f"ws://{HOST}:{self.port}/ws/v1"

    @property
    def token_url(self) -> str:
        return f"http://{HOST}:{self.port}/"

    def section(self) -> dict[str, Any]:
        return {
            "type": "aliyun_stream",
            "appkey": APPKEY,
            "access_key_id": KEY_ID,
            "access_key_secret": SECRET,
            "ws_url": self.url,
            "token_url": self.token_url,
        }

    def _refusal(self, connection: ServerConnection, request: Request) -> Response | None:
        path = urlsplit(request.path)
        if path.path != "/ws/v1":
            status, answer = self._token_answer(dict(parse_qsl(path.query)))
            return connection.respond(status, json.dumps(answer))
        if self.tokens.get(request.headers.get("X-NLS-Token", ""), 0.0) < time.time():
            return connection.respond(HTTPStatus.FORBIDDEN, "Forbidden\n")
        return None

    def _token_answer(self, query: Mapping[str, str]) -> tuple[HTTPStatus, dict[str, Any]]:
        self.token_requests += 1
        if self.token_refusal:
            return HTTPStatus.BAD_REQUEST, {"Code": self.token_refusal, "Message": "refused"}
        if query.get("AccessKeyId") != KEY_ID or query.get("Action") != "CreateToken":
            return HTTPStatus.NOT_FOUND, {"Code": "InvalidAccessKeyId.NotFound", "Message": "no such key"}
        if query.get("Signature") != _signature(query):
            return HTTPStatus.BAD_REQUEST, {"Code": "SignatureDoesNotMatch", "Message": "wrong signature"}
        token, expires_at = uuid.uuid4().hex, time.time() + self.token_life_s
        self.tokens[token] = expires_at
        return HTTPStatus.OK, {"NlsRequestId": "1", "Token": {"Id": token, "ExpireTime": int(expires_at)}}

    async def _talk(self, connection: ServerConnection, session: Session, fault: Fault | None) -> None:
        start = json.loads(await connection.recv())
        session.started, session.id = start, start["header"]["task_id"]
        if start["header"]["name"] != "StartTranscription" or start["header"]["appkey"] != APPKEY:
            await _send(connection, "TaskFailed", session.id, status=40020105)
            return
        task = _Task(self, connection, session, fault, start["payload"].get("max_sentence_silence", 800))
        await task.run()


class _Task(Recognition[AliyunAsr]):
    """One transcription."""

    garbage = '{"header":'

    def __init__(
        self, fake: AliyunAsr, connection: ServerConnection, session: Session, fault: Fault | None, silence_ms: int
    ) -> None:
        super().__init__(fake, connection, session, fault, SentenceEar(silence_ms))
        self._index = 1

    async def run(self) -> None:
        await self._fake.pause(self._fake.script.latency_ms)
        if await self._fails(Stage.START):
            return
        await self._tell("TranscriptionStarted", {"session_id": self._session.id})
        while isinstance(message := await self._connection.recv(), bytes):
            if not await self._takes(message):
                return
        await self._stop(json.loads(message)["header"])

    async def _answer(self) -> None:
        if self._ear.is_sentence_over:
            await self._end_sentence()
        elif self._ear.has_partial:
            await self._fake.pause(self._fake.script.drip_ms)
            await self._tell("TranscriptionResultChanged", self._payload(result=self._ear.text))

    async def _stop(self, header: Mapping[str, Any]) -> None:
        self._session.was_finished = header["name"] == "StopTranscription" and header["task_id"] == self._session.id
        await self._fake.pause(self._fake.script.latency_ms)
        if await self._fails(Stage.FINISH):
            return
        if self._ear.text and not self._has(Kind.NO_RESULT):
            await self._end_sentence()
        await self._tell("TranscriptionCompleted", {})
        if self._has(Kind.LATE_AUDIO):
            await self._tell("SentenceEnd", self._payload(result="too late"))

    async def _end_sentence(self) -> None:
        text = self._ear.next_sentence()
        self._session.texts.append(text)
        await self._fake.pause(self._fake.script.drip_ms)
        await self._tell("SentenceEnd", self._payload(begin_time=0, result=text, confidence=0.9))
        self._index += 1

    def _payload(self, **more: Any) -> dict[str, Any]:
        return {"index": self._index, "time": int(self._ear.heard_ms), **more}

    async def _tell(self, name: str, payload: Mapping[str, Any]) -> None:
        await _send(self._connection, name, self._session.id, payload)

    async def _fails_as(self, kind: Kind, stage: Stage) -> bool:
        if kind in STATUS:
            await _send(self._connection, "TaskFailed", self._session.id, status=STATUS[kind])
        elif kind is Kind.WRONG_SESSION:
            await _send(self._connection, "SentenceEnd", FOREIGN, {"index": 1, "result": "another's words"})
            await _send(self._connection, "TaskFailed", FOREIGN, status=STATUS[Kind.ERROR])
        return kind in STATUS


async def _send(
    connection: ServerConnection,
    name: str,
    task_id: str,
    payload: Mapping[str, Any] | None = None,
    *,
    status: int = SUCCESS,
) -> None:
    header = {
        "namespace": "Default" if name == "TaskFailed" else "SpeechTranscriber",
        "name": name,
        "status": status,
        "message_id": uuid.uuid4().hex,
        "task_id": task_id,
        "status_text": "Gateway:SUCCESS:Success." if status == SUCCESS else "Gateway:FAILED",
    }
    message = {"header": header} if payload is None else {"header": header, "payload": payload}
    await connection.send(json.dumps(message))


def _signature(query: Mapping[str, str]) -> str:
    """Of Alibaba's RPC interface, made anew from what came."""
    parts = sorted((quote(k, safe=""), quote(v, safe="")) for k, v in query.items() if k != "Signature")
    signed = "GET&%2F&" + quote("&".join(f"{k}={v}" for k, v in parts), safe="")
    return base64.b64encode(hmac.new(f"{SECRET}&".encode(), signed.encode(), hashlib.sha1).digest()).decode()
