"""A server with OpenAI's three ways to talk: speech, transcriptions, chat completions. Each may be used alone.

Speech is streamed in the format that is asked for, if it is one of `formats`; others are refused with 400, or, with
`ignores_format`, answered with the first of `formats`, as many servers do. A transcription is the mark that is heard.

Stages: `connect` before the request is read, `start` behind it, `stream` behind the first piece of the answer, `finish`
before its end. HTTP has no message for a failure in the middle of sound, so that `error` and `quota` close there.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import BodyPartReader, web

from bench.upstreams import openai_chat
from bench.upstreams.encoding import CONTENT_TYPES, FORMATS, encoded
from bench.upstreams.fake import HOST, Session
from bench.upstreams.http_fake import HttpFake, pcm_of
from bench.upstreams.openai_chat import hang_up
from bench.upstreams.script import Fault, Kind, Script, Stage
from bench.upstreams.voice import heard, spoken

API_KEY: Final = "fake-openai-key"
RATE_HZ: Final = 24_000
MAX_TEXT_CHARS: Final = 4096
NOBODY: Final = "nobody"
"""A voice that it does not have."""
GARBAGE: Final = b"\x00\x01 this is no sound at all \xfe"
NOT_HTTP: Final = b"\x00\xff no HTTP at all\r\n\r\n"

Serve = Callable[[web.Request, Session, Fault | None], Awaitable[web.StreamResponse]]


class OpenAiSpeech(HttpFake):
    """A session's `started` is the request's body without the sound."""

    def __init__(
        self,
        script: Script | None = None,
        *,
        port: int = 0,
        formats: tuple[str, ...] = FORMATS,
        ignores_format: bool = False,
        content_type: str = "",
    ) -> None:
        """`content_type` is what it calls every sound, whatever it is; "" = by its name."""
        super().__init__(script, port=port)
        self.formats = formats
        self.ignores_format = ignores_format
        self.content_type = content_type
        self.reply = openai_chat.REPLY
        """What it answers in a chat to a question with a mark, {mark} in it."""
        self._lines: set[Any] = set()

    @property
    def open_connections(self) -> int:
        return sum(not line.is_closing() for line in self._lines)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/v1"

    def section(self) -> dict[str, Any]:
        """Of TTS."""
        return {"type": "openai", "api_url": f"{self.url}/audio/speech", "api_key": API_KEY, "voice": "onyx"}

    def asr_section(self) -> dict[str, Any]:
        return {
            "type": "openai",
            "base_url": f"{self.url}/audio/transcriptions",
            "api_key": API_KEY,
            "model_name": "gpt-4o-mini-transcribe",
        }

    def llm_section(self) -> dict[str, Any]:
        return {"type": "openai", "base_url": self.url, "api_key": API_KEY, "model_name": "fake"}

    def _add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_post("/v1/audio/speech", self._served(self._speech))
        router.add_post("/v1/audio/transcriptions", self._served(self._transcription))
        router.add_post("/v1/chat/completions", self._served(self._chat))

    def _served(self, serve: Serve) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def served(request: web.Request) -> web.StreamResponse:
            if request.transport not in self._lines:
                self._lines.add(request.transport)
                self.connections += 1
            session = self._session_of(request)
            fault = self.faults.next()
            session.fault = str(fault or "")
            self.running += 1
            try:
                return await self._answered(request, session, fault, serve)
            except (asyncio.CancelledError, ConnectionResetError):
                session.was_closed = True
                raise
            finally:
                self.running -= 1

        return served

    async def _answered(
        self, request: web.Request, session: Session, fault: Fault | None, serve: Serve
    ) -> web.StreamResponse:
        if fault is not None and fault.stage is Stage.CONNECT:
            return await _refusal(request, fault)
        if request.headers.get("Authorization") != f"Bearer {API_KEY}":
            return _error(401, "invalid_api_key")
        await _read(request, session)
        if fault is not None and fault.stage is Stage.START and fault.kind is not Kind.GARBAGE:
            return await _refusal(request, fault)
        return await serve(request, session, fault)

    # What it is asked

    async def _speech(self, request: web.Request, session: Session, fault: Fault | None) -> web.StreamResponse:
        asked = str(session.started.get("response_format", "mp3"))
        text = str(session.started.get("input", ""))
        session.texts.append(text)
        if not text or len(text) > MAX_TEXT_CHARS or session.started.get("voice") == NOBODY:
            return _error(400, "invalid_request_error")
        if asked not in self.formats and not self.ignores_format:
            return _error(400, "unsupported_response_format")
        kind = asked if asked in self.formats else self.formats[0]
        await asyncio.sleep(self.script.latency_ms / 1000)
        response = web.StreamResponse(headers={"Content-Type": self.content_type or CONTENT_TYPES[kind]})
        await response.prepare(request)
        if fault is None or fault.kind not in (Kind.NO_RESULT, Kind.NO_SPEECH):
            is_whole = await self._say(request, response, _sound(text, kind, fault), fault)
        else:
            is_whole = True
        if is_whole and not await _suffers(request, fault, Stage.FINISH):
            session.was_finished = True
            await response.write_eof()
        return response

    async def _say(self, request: web.Request, response: web.StreamResponse, sound: Any, fault: Fault | None) -> bool:
        """Whether it was said to its end."""
        for number, piece in enumerate(sound):
            await response.write(piece)
            if number == 0 and await _suffers(request, fault, Stage.STREAM):
                return False
            await asyncio.sleep(self.script.drip_ms / 1000)
        return True

    async def _transcription(self, request: web.Request, session: Session, fault: Fault | None) -> web.StreamResponse:
        if "file" not in session.started:
            return _error(400, "no file")
        pcm = session.started.pop("file")
        session.audio_bytes = len(pcm)
        await asyncio.sleep(self.script.latency_ms / 1000)
        text = heard(pcm)
        if fault is not None:
            match fault.kind:
                case Kind.GARBAGE:
                    return web.Response(body=GARBAGE, content_type="application/json")
                case Kind.NO_RESULT:
                    return web.json_response({})
                case Kind.NO_SPEECH:
                    text = ""
                case _:
                    return await _refusal(request, fault)
        session.was_finished = True
        if session.started.get("response_format") == "text":
            return web.Response(text=text)
        return web.json_response({"text": text})

    async def _chat(self, request: web.Request, session: Session, fault: Fault | None) -> web.StreamResponse:
        if fault is not None and fault.stage is Stage.START:
            return web.Response(body=GARBAGE, content_type="text/event-stream")
        return await openai_chat.answer(request, session, self.script, fault, self.reply)


def _sound(text: str, kind: str, fault: Fault | None) -> Any:
    pcm = spoken(text, RATE_HZ)
    if fault is None or fault.kind is not Kind.GARBAGE or fault.stage is Stage.FINISH:
        return encoded(pcm, kind, RATE_HZ)
    garbage = [GARBAGE * 400]
    return garbage if fault.stage is Stage.START else [next(encoded(pcm, kind, RATE_HZ)), *garbage]


async def _suffers(request: web.Request, fault: Fault | None, stage: Stage) -> bool:
    """Does a stream of sound end here?"""
    if fault is None or fault.stage is not stage:
        return False
    match fault.kind:
        case Kind.SILENT:
            await asyncio.Event().wait()
        case Kind.CLOSE | Kind.ERROR | Kind.QUOTA:
            hang_up(request)
    return False


async def _refusal(request: web.Request, fault: Fault) -> web.StreamResponse:
    match fault.kind:
        case Kind.SILENT:
            await asyncio.Event().wait()
        case Kind.QUOTA:
            return _error(429, "rate_limit_exceeded")
        case Kind.CLOSE:
            hang_up(request)
        case Kind.GARBAGE:
            assert request.transport is not None
            request.transport.write(NOT_HTTP)
            request.transport.close()
            raise ConnectionResetError
        case Kind.NO_RESULT | Kind.NO_SPEECH:
            return web.Response(body=b"", content_type="audio/mpeg")
    return _error(500, "server_error")


def _error(status: int, code: str) -> web.Response:
    return web.json_response({"error": {"message": "refused: the request was ...", "code": code}}, status=status)


async def _read(request: web.Request, session: Session) -> None:
    """The request's body into `session.started`; a WAV file as its samples."""
    if not request.content_type.startswith("multipart/"):
        session.started = json.loads(await request.read())
        return
    async for part in await request.multipart():
        if isinstance(part, BodyPartReader) and part.name:
            data = bytes(await part.read())
            session.started[part.name] = _pcm_of(data) if part.name == "file" else data.decode()


def _pcm_of(file: bytes) -> bytes:
    try:
        return pcm_of(file)
    except ValueError as error:
        raise web.HTTPBadRequest(text="no 16 kHz mono WAV") from error
