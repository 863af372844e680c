"""type: openai. Any server with OpenAI's `/audio/transcriptions`, which hears an utterance whole.

Rules
- The sound is collected and sent as one WAV file, made in memory, when speech is over. No sound, no request.
- A request is a task of its own, so that a cancel ends it at once: the connection is closed under it. One that outlasts
  the utterance's deadline counts as the server's failure.
"""

from __future__ import annotations

import asyncio
import io
import json
import time
import wave
from typing import Any, Final

import aiohttp

from shared.config.options.openai import OpenAiAsrOptions
from shared.settings import EngineChoice
from shared.upstream.deadlines import Deadlines
from shared.upstream.faults import GIVEN_UP, Code, UpstreamError
from shared.upstream.http import Answer, HttpConnections
from shared.upstream.tls import prepare_trust
from shared.upstream.upstream import Limits, Request, Upstream
from workers.asr.engines.engine import Brief, EndOwner, OnLoss, OnPartial, Recogniser, Transcript
from workers.asr.timeline import RATE_HZ

TOTAL_S: Final = 60.0
LEAST_BYTES: Final = RATE_HZ * 2 // 5
"""200 ms: OpenAI refuses what is shorter than 100 ms, so silence is put behind it."""
MAX_ANSWER_BYTES: Final = 1024 * 1024


class OpenAiAsrEngine:
    """One configured section; its connections are shared by its recognisers."""

    is_heavy = False
    endpoint: EndOwner = "own"

    def __init__(self, choice: EngineChoice) -> None:
        """Raises ConfigError."""
        self._options = options = OpenAiAsrOptions.of(choice)
        self.resolves_names = HttpConnections.resolves_names
        prepare_trust(options.url)
        name = f"ASR.{choice.name}"
        self.upstream = Upstream(name, _limits(options))
        self._http = HttpConnections(name, connect_s=options.connect_timeout_s, keep_s=options.warm_s)

    async def make(self, on_loss: OnLoss) -> Recogniser:
        return OpenAiRecogniser(self)

    async def close(self) -> None:
        await self._http.close()

    async def transcribed(self, pcm: bytes, language: str | None, request: Request) -> str:
        """Raises UpstreamError."""
        async with request.waits.first():
            answer = await self._post(pcm, language)
        request.on_first_byte()
        try:
            return _text(await _body(answer, request))
        finally:
            answer.close()

    async def _post(self, pcm: bytes, language: str | None) -> Answer:
        options = self._options
        form = aiohttp.FormData({"model": options.model_name, "response_format": "json"})
        if spoken := options.language or _primary(language):
            form.add_field("language", spoken)
        if options.prompt:
            form.add_field("prompt", options.prompt)
        form.add_field("file", _wav(pcm), filename="speech.wav", content_type="audio/wav")
        headers = {"Authorization": f"Bearer {options.api_key}"} if options.api_key else {}
        return await self._http.post(options.url, headers=headers, data=form)


class OpenAiRecogniser:
    """One utterance at a time."""

    def __init__(self, engine: OpenAiAsrEngine) -> None:
        self._engine = engine
        self._brief: Brief | None = None
        self._pcm = bytearray()
        self._task: asyncio.Task[Transcript] | None = None
        self._is_closed = False

    @property
    def is_usable(self) -> bool:
        return not self._is_closed

    def begin(self, brief: Brief, on_partial: OnPartial) -> None:
        self._brief = brief
        self._pcm.clear()

    def feed(self, pcm: bytes) -> None:
        self._pcm += pcm

    async def finish(self) -> Transcript:
        assert self._brief is not None, "finish without begin"
        pcm, brief = bytes(self._pcm), self._brief
        self._pcm.clear()
        if not pcm:
            return Transcript("", brief.language)
        name = f"{self._engine.upstream.name}-{brief.session}-{brief.utterance}"
        self._task = asyncio.create_task(self._ask(pcm, brief), name=name)
        await asyncio.wait([self._task])
        task, self._task = self._task, None
        return task.result()

    async def cancel(self) -> None:
        await self._stop(None)

    async def close(self) -> None:
        self._is_closed = True
        await self._stop(GIVEN_UP)

    async def _ask(self, pcm: bytes, brief: Brief) -> Transcript:
        began_s = time.monotonic()
        async with self._engine.upstream.request(brief.session) as request:
            text = await self._engine.transcribed(pcm, brief.language, request)
        return Transcript(text, brief.language, compute_s=time.monotonic() - began_s)

    async def _stop(self, why: str | None) -> None:
        self._pcm.clear()
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel(why)
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # whoever waited has gone


async def _body(answer: Answer, request: Request) -> bytes:
    body = bytearray()
    while True:
        async with request.waits.next():
            piece = await answer.piece()
        if not piece:
            return bytes(body)
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            raise UpstreamError("its answer has no end", code=Code.MALFORMED)


def _text(body: bytes) -> str:
    try:
        content: Any = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise UpstreamError("its answer is no JSON object", code=Code.MALFORMED)
    text = content.get("text")
    if not isinstance(text, str):
        raise UpstreamError("its answer holds no text", code=Code.NO_RESULT)
    return text.strip()


def _wav(pcm: bytes) -> io.BytesIO:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(RATE_HZ)
        writer.writeframes(pcm.ljust(LEAST_BYTES, b"\0"))
    file.seek(0)
    return file


def _primary(language: str | None) -> str:
    """`zh` of `zh-CN`: all that the API takes."""
    return (language or "").replace("_", "-").split("-")[0].lower()


def _limits(options: OpenAiAsrOptions) -> Limits:
    deadlines = Deadlines(options.connect_timeout_s, options.first_timeout_s, options.idle_timeout_s, total_s=TOTAL_S)
    return Limits(deadlines, sessions=options.max_sessions)
