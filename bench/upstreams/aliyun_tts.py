"""Alibaba's streaming synthesis, as help.aliyun.com/zh/isi/user-guide/websocket-protocol-description-for-cosyvoice-tts
tells. A token counts if it is in `tokens`.

Its sound names no task, and nothing cancels one: a task that is over, or that a new one has overtaken, may go on to
speak (`late_audio`).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Any, Final

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request

from bench.upstreams.fake import Session
from bench.upstreams.script import Kind, Script, Stage
from bench.upstreams.synthesiser import Synthesiser, Talk

APPKEY: Final = "fake-appkey"
TOKEN: Final = "fake-token"
NOBODY: Final = "nobody"
"""A voice that the service does not have."""
OK: Final = (20000000, "Gateway:SUCCESS:Success.")
EXPIRED: Final = (40000001, "Gateway:ACCESS_DENIED:The token has expired!")
WRONG_ORDER: Final = (40000002, "Gateway:MESSAGE_INVALID:Can't process message in state'STARTING'!")
TOO_MANY: Final = (40000005, "Gateway:TOO_MANY_REQUESTS:Too many requests!")
NO_APPKEY: Final = (40020105, "Meta:APPKEY_NOT_EXIST:Appkey not exist!")
NO_VOICE: Final = (41020001, "TTS:TtsClientError:Engine return error code: 418")
FAILURE: Final = (50000000, "GRPC_ERROR:Grpc error!")


class AliyunTts(Synthesiser):
    """`is_strict`: text before SynthesisStarted is refused, as the documentation would allow."""

    path = "/ws/v1"
    tokens: Collection[str] = (TOKEN,)

    def __init__(
        self,
        script: Script | None = None,
        *,
        port: int = 0,
        max_sessions: int = 0,
        started_ms: int = 0,
        is_strict: bool = False,
    ) -> None:
        super().__init__(script, port=port, max_sessions=max_sessions, started_ms=started_ms)
        self.is_strict = is_strict

    def section(self) -> dict[str, Any]:
        return {"type": "aliyun_stream", "appkey": APPKEY, "token": TOKEN, "ws_url": self.url}

    def refusal(self, request: Request) -> HTTPStatus | None:
        return None if request.headers.get("X-NLS-Token") in self.tokens else HTTPStatus.FORBIDDEN

    async def serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        talks: dict[str, _Task] = {}
        headers = dict(connection.request.headers)
        try:
            async for message in connection:
                await self._on_message(connection, talks, headers, json.loads(message))
        finally:
            for talk in talks.values():
                await talk.hang_up()

    async def _on_message(
        self, connection: ServerConnection, talks: dict[str, _Task], headers: dict[str, str], message: Mapping[str, Any]
    ) -> None:
        header, payload = message["header"], message.get("payload", {})
        assert header["namespace"] == "FlowingSpeechSynthesizer"
        if header["name"] == "StartSynthesis":
            for talk in talks.values():
                if talk.has(Kind.LATE_AUDIO):
                    await talk.late()
            talks[header["task_id"]] = self._begun(connection, headers, header, payload)
        elif header["name"] == "RunSynthesis":
            await talks[header["task_id"]].told(payload["text"])
        elif header["name"] == "StopSynthesis":
            talks[header["task_id"]].finish()

    def _begun(
        self, connection: ServerConnection, headers: dict[str, str], header: Mapping[str, Any], payload: dict[str, Any]
    ) -> _Task:
        session = Session(id=header["task_id"], headers=headers, started=payload)
        self.sessions.append(session)
        return _Task(self, connection, session, header["appkey"])


class _Task(Talk):
    fake: AliyunTts

    def __init__(self, fake: AliyunTts, connection: ServerConnection, session: Session, appkey: str) -> None:
        self._appkey = appkey
        self._is_started = False
        super().__init__(fake, connection, session, session.started["sample_rate"])

    async def told(self, text: str) -> None:
        if self.fake.is_strict and not self._is_started:
            await self.stop()
            return await self._event("TaskFailed", WRONG_ORDER)
        self.say(text)
        return None

    async def started(self) -> bool:
        refusal = self._refusal()
        if refusal is not None:
            await self._event("TaskFailed", refusal)
            return False
        self._is_started = True
        await self._event("SynthesisStarted", OK, {"session_id": uuid.uuid4().hex})
        return True

    async def sentence(self, text: str, *, is_over: bool) -> None:
        await self._event("SentenceEnd" if is_over else "SentenceBegin", OK, {"index": len(self.session.texts)})

    async def sound(self, pcm: bytes) -> None:
        await self.connection.send(pcm)

    async def finished(self) -> None:
        await self._event("SynthesisCompleted", OK)

    async def failed(self, *, is_quota: bool, stage: Stage) -> None:
        await self._event("TaskFailed", TOO_MANY if is_quota else FAILURE)

    async def strange(self, stage: Stage) -> None:
        await self._event("TaskFailed", FAILURE, task_id=uuid.uuid4().hex)
        await self._event("SynthesisCompleted", OK, task_id=uuid.uuid4().hex)

    def _refusal(self) -> tuple[int, str] | None:
        if self.session.headers["x-nls-token"] not in self.fake.tokens:
            return EXPIRED
        if self._appkey != APPKEY:
            return NO_APPKEY
        return NO_VOICE if self.session.started["voice"] == NOBODY else None

    async def _event(
        self, name: str, status: tuple[int, str], payload: Mapping[str, Any] | None = None, task_id: str = ""
    ) -> None:
        header = {
            "message_id": uuid.uuid4().hex,
            "task_id": task_id or self.session.id,
            "namespace": "FlowingSpeechSynthesizer",
            "name": name,
            "status": status[0],
            "status_text": status[1],
        }
        await self.connection.send(json.dumps({"header": header, "payload": payload or {}}))
