"""A voiceprint server: knows a voice by the mark that is heard in its sound.

As the real one does, it names the likest of the voices it is asked about, with a low score if it is like none.

Stages: `connect` is the health check, `start` an identification. Faults: `silent` (no answer), `error` (unwell; 500),
`quota` (429), `close` (the connection), `garbage` (no JSON), `no_result` (an answer without a speaker), `wrong_session`
(a speaker that nobody asked for).
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiohttp import BodyPartReader, web

from bench.upstreams.fake import HOST, Session
from bench.upstreams.http_fake import HttpFake, pcm_of
from bench.upstreams.script import Fault, Kind, Stage
from bench.upstreams.voice import heard

KEY: Final = "voiceprint-key"
ALIKE: Final = 0.91
UNLIKE: Final = 0.12


class Voiceprint(HttpFake):
    """`health_checks` counts the looks at its health; each identification is a session."""

    health_checks = 0

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._port}/voiceprint/health?key={KEY}"

    def section(self) -> dict[str, Any]:
        """Without the speakers: their ids are words of marks."""
        return {"url": self.url}

    def _add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/voiceprint/health", self._health)
        router.add_post("/voiceprint/identify", self._identify)

    async def _health(self, request: web.Request) -> web.StreamResponse:
        self.health_checks += 1
        if request.query.get("key") != KEY:
            return web.json_response({"status": "unauthorized"}, status=401)
        fault = self.script.fault
        if fault is not None and fault.stage is Stage.CONNECT:
            return await self._suffer(fault, request, web.json_response({"status": "unhealthy"}))
        return web.json_response({"status": "healthy", "total_voiceprints": 2})

    async def _identify(self, request: web.Request) -> web.StreamResponse:
        session = self._session_of(request)
        try:
            return await self._answer(request, session)
        except asyncio.CancelledError:
            session.was_closed = True
            raise

    async def _answer(self, request: web.Request, session: Session) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return web.json_response({"detail": "unauthorized"}, status=401)
        file = await _read(request, session.started)
        if file is None:
            return web.json_response({"detail": "no file"}, status=422)
        ids: list[str] = session.started["speaker_ids"]
        try:
            pcm = pcm_of(file)
        except ValueError:
            return web.json_response({"detail": "no 16 kHz mono WAV"}, status=400)
        session.audio_bytes = len(pcm)
        await asyncio.sleep(self.script.latency_ms / 1000)
        fault = self.faults.next()
        if fault is not None and fault.stage is not Stage.CONNECT:
            session.fault = fault.kind.value
            return await self._suffer(fault, request, web.json_response({"detail": "internal"}, status=500))
        session.was_finished = True
        return web.json_response(_likest(heard(pcm), ids))

    async def _suffer(self, fault: Fault, request: web.Request, error: web.Response) -> web.StreamResponse:
        match fault.kind:
            case Kind.SILENT:
                await asyncio.Event().wait()
            case Kind.QUOTA:
                return web.json_response({"detail": "too many requests"}, status=429)
            case Kind.CLOSE:
                if request.transport is not None:
                    request.transport.close()
                return web.Response()
            case Kind.GARBAGE:
                return web.Response(body=b"\x00\xffnot json", content_type="application/json")
            case Kind.NO_RESULT:
                return web.json_response({})
            case Kind.WRONG_SESSION:
                return web.json_response({"speaker_id": "somebody-else", "score": ALIKE})
        return error


async def _read(request: web.Request, started: dict[str, Any]) -> bytes | None:
    """The file of the form; what stands beside it goes into `started`."""
    file = None
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader):
            continue
        if part.name == "speaker_ids":
            started["speaker_ids"] = (await part.text()).split(",")
        elif part.name == "file":
            file = bytes(await part.read())
            started |= {"filename": part.filename, "content_type": part.headers.get("Content-Type", "")}
    return file if "speaker_ids" in started else None


def _likest(word: str, ids: list[str]) -> dict[str, Any]:
    if word in ids:
        return {"speaker_id": word, "score": ALIKE}
    return {"speaker_id": ids[0], "score": UNLIKE}
