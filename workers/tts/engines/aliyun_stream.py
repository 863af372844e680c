"""`type: aliyun_stream`: Alibaba's CosyVoice over its streaming interface. Keys: shared/config/options/aliyun.py.

A segment is one task. Its connection is kept for the next only if the task came to its own end: the service can neither
cancel nor mark its sound, so that the connection of an aborted task is closed. The text is held back until the service
has confirmed the start, as it documents, unless `pipelined` says otherwise.
"""

from __future__ import annotations

import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

from shared.config.options.aliyun import AliyunTtsOptions
from shared.settings import EngineChoice
from shared.upstream.aliyun_token import TokenSource, token_source
from shared.upstream.deadlines import Deadlines
from shared.upstream.faults import Code, Kind, UpstreamError
from shared.upstream.host import is_name
from shared.upstream.tls import prepare_trust
from shared.upstream.upstream import Limits, Request, Upstream
from shared.upstream.warm import WarmConnections
from shared.upstream.websocket import Wire, open_wire
from workers.tts import metrics
from workers.tts.engine import SpeechRequest
from workers.tts.engines.aliyun_protocol import Task, Wishes
from workers.tts.engines.attempts import Pieces, blamed_on, retried

TYPE: Final = "aliyun_stream"
OF_TOKENS: Final = frozenset({"401", "403", "40000001"})
"""Reasons of a refusal that another token may lift."""


@dataclass(slots=True)
class _Current:
    """The token of new connections."""

    token: str = field(default="", repr=False)


class Line:
    """A connection and the token it was opened with: one whose token was replaced is not asked for another task."""

    def __init__(self, wire: Wire, token: str, current: _Current) -> None:
        self._wire = wire
        self.token = token
        self._current = current
        self.receive = wire.receive
        self.send = wire.send
        self.close = wire.close

    @property
    def is_open(self) -> bool:
        return self._wire.is_open and self.token == self._current.token


class AliyunStreamEngine:
    """One section."""

    deterministic = False
    languages: frozenset[str] = frozenset()

    def __init__(self, section: str, options: dict[str, Any]) -> None:
        self._options = AliyunTtsOptions.of(EngineChoice(name=section, type=TYPE, options=options))
        self._upstream = Upstream(f"TTS.{section}", _limits(self._options))
        self._lines = WarmConnections(self._connect, idle_s=self._options.warm_s, name=self._upstream.name)
        self._tokens = _token_source(self._options, self._upstream.name)
        self._current = _Current()
        self._strays = metrics.STRAYS.labels(section)
        prepare_trust(self._options.url)

    @property
    def sample_rate(self) -> int:
        return self._options.sample_rate

    @property
    def is_named(self) -> bool:
        return is_name(self._options.url)

    async def start(self) -> None:
        """The first segment connects."""

    def speak(self, request: SpeechRequest) -> Pieces:
        return retried(lambda: self._pieces(request), self._upstream.name)

    async def close(self) -> None:
        await self._lines.close()
        await self._tokens.close()

    async def _pieces(self, request: SpeechRequest) -> Pieces:
        async with AsyncExitStack() as held:
            asked = await held.enter_async_context(self._upstream.request(request.owner))
            line = await self._line(held, asked)
            task = Task(self._options.appkey, uuid.uuid4().hex, _new_id)
            held.callback(lambda: self._strays.inc(task.strays))
            async with asked.waits.first():
                await self._begin(line, task, request)
                piece = await self._next(line, task, request)
            asked.on_first_byte()
            while piece:
                yield piece
                async with asked.waits.next():
                    piece = await self._next(line, task, request)

    async def _line(self, held: AsyncExitStack, asked: Request) -> Line:
        async with asked.waits.connecting():
            self._current.token = await self._tokens.value()
            return await held.enter_async_context(self._lines.borrowed())

    async def _connect(self) -> Line:
        token = self._current.token
        try:
            wire = await open_wire(self._options.url, {"X-NLS-Token": token})
        except UpstreamError as error:
            raise self._judged(error, token) from None
        return Line(wire, token, self._current)

    async def _begin(self, line: Line, task: Task, request: SpeechRequest) -> None:
        await line.send(task.opening(self._wishes(request)))
        while not self._options.pipelined and not task.is_started:
            await self._take(line, task, request)
        for message in task.text(request.text):
            await line.send(message)

    async def _next(self, line: Line, task: Task, request: SpeechRequest) -> bytes:
        """The next sound, or nothing at the task's end."""
        piece = b""
        while not piece and not task.is_over:
            piece = await self._take(line, task, request)
        return piece

    async def _take(self, line: Line, task: Task, request: SpeechRequest) -> bytes:
        message = await line.receive()
        try:
            return task.take(message)
        except UpstreamError as error:
            raise blamed_on(request.voice, self._judged(error, line.token)) from None

    def _judged(self, error: UpstreamError, token: str) -> UpstreamError:
        """A refused token is fetched anew, and the segment asked for again; one that is configured stays refused."""
        if error.reason not in OF_TOKENS:
            return error
        self._tokens.reject(token)
        kind = Kind.RETRYABLE if self._options.access_key_id else Kind.FATAL
        return UpstreamError(str(error), code=Code.AUTH, kind=kind, reason=error.reason)

    def _wishes(self, request: SpeechRequest) -> Wishes:
        chosen = self._options
        voice = request.voice or chosen.voice
        return Wishes(voice, chosen.sample_rate, chosen.volume, chosen.speech_rate, chosen.pitch_rate)


def _limits(options: AliyunTtsOptions) -> Limits:
    deadlines = Deadlines(
        connect_s=options.connect_timeout_s,
        first_s=options.first_timeout_s,
        idle_s=options.idle_timeout_s,
        total_s=options.tts_timeout,
    )
    return Limits(deadlines, options.max_sessions, options.queue_timeout_s, options.warm_s)


def _token_source(options: AliyunTtsOptions, name: str) -> TokenSource:
    return token_source(
        options.token, options.access_key_id, options.access_key_secret, url=options.token_url, name=name
    )


def _new_id() -> str:
    return uuid.uuid4().hex
