"""`type: huoshan_double_stream`: Volcengine's bidirectional synthesis. Keys: shared/config/options/volcengine.py.

A segment is one session. An aborted one is cancelled at once; its connection and its seat stay taken until the service
has confirmed its end, and the connection is closed if that takes longer than `cancel_timeout_s`. A new connection
begins with the documented handshake; the text follows the start of a session without waiting, unless `pipelined` says
otherwise.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import AsyncExitStack, suppress
from typing import Any, Final

from shared.config.options.volcengine import HuoshanTtsOptions
from shared.settings import EngineChoice
from shared.upstream.deadlines import Deadlines
from shared.upstream.faults import UpstreamError
from shared.upstream.host import is_name
from shared.upstream.tls import prepare_trust
from shared.upstream.upstream import Limits, Upstream
from shared.upstream.warm import WarmConnections
from shared.upstream.websocket import Wire, open_wire
from workers.tts import metrics
from workers.tts.engine import SpeechRequest
from workers.tts.engines import huoshan_frames as frames
from workers.tts.engines.attempts import Pieces, blamed_on, retried
from workers.tts.engines.huoshan_protocol import Session, Wishes

TYPE: Final = "huoshan_double_stream"
LEAVE_S: Final = 0.1
"""Only a service that takes nothing any more uses it up."""


class Line:
    """A connection that takes its leave as documented before it is closed."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.receive = wire.receive
        self.send = wire.send

    @property
    def is_open(self) -> bool:
        return self._wire.is_open

    async def close(self) -> None:
        """Never raises, and never waits for the other side longer than a moment."""
        try:
            with suppress(UpstreamError, TimeoutError):
                async with asyncio.timeout(LEAVE_S):
                    await self.send(frames.finish_connection())
        finally:
            await self._wire.close()


class HuoshanDoubleStreamEngine:
    """One section."""

    deterministic = False
    languages: frozenset[str] = frozenset()

    def __init__(self, section: str, options: dict[str, Any]) -> None:
        self._options = HuoshanTtsOptions.of(EngineChoice(name=section, type=TYPE, options=options))
        self._upstream = Upstream(f"TTS.{section}", _limits(self._options))
        self._lines = WarmConnections(self._connect, idle_s=self._options.kept_s, name=self._upstream.name)
        self._strays = metrics.STRAYS.labels(section)
        self._cancelling: set[asyncio.Task[None]] = set()
        prepare_trust(self._options.ws_url)

    @property
    def sample_rate(self) -> int:
        return self._options.sample_rate

    @property
    def is_named(self) -> bool:
        return is_name(self._options.ws_url)

    async def start(self) -> None:
        """The first segment connects."""

    def speak(self, request: SpeechRequest) -> Pieces:
        return retried(lambda: self._pieces(request), self._upstream.name)

    async def close(self) -> None:
        for task in self._cancelling:
            task.cancel()
        await asyncio.gather(*self._cancelling, return_exceptions=True)
        await self._lines.close()

    async def _pieces(self, request: SpeechRequest) -> Pieces:
        async with AsyncExitStack() as held:
            asked = await held.enter_async_context(self._upstream.request(request.owner))
            async with asked.waits.connecting():
                line = await held.enter_async_context(self._lines.borrowed())
            session = Session(uuid.uuid4().hex)
            held.callback(lambda: self._strays.inc(session.strays))
            try:
                async with asked.waits.first():
                    await self._begin(line, session, request)
                    piece = await _next(line, session, request)
                asked.on_first_byte()
                while piece:
                    yield piece
                    async with asked.waits.next():
                        piece = await _next(line, session, request)
            except (asyncio.CancelledError, GeneratorExit) as aborted:
                self._cancel(held.pop_all(), line, session, aborted)
                raise

    async def _connect(self) -> Line:
        line = Line(await open_wire(self._options.ws_url, _headers(self._options)))
        try:
            await self._shake_hands(line)
        except BaseException:
            await line.close()
            raise
        return line

    async def _shake_hands(self, line: Line) -> None:
        if not self._options.start_connection:
            return
        await line.send(frames.start_connection())
        while True:
            frame = frames.decode(await line.receive())
            if frame.event == frames.Event.CONNECTION_STARTED:
                return
            Session("").take(frame)

    async def _begin(self, line: Line, session: Session, request: SpeechRequest) -> None:
        wishes = self._wishes(request.voice)
        await line.send(session.opening(wishes))
        while not self._options.pipelined and not session.is_started:
            await _take(line, session, request)
        for message in session.text(request.text, wishes):
            await line.send(message)

    def _wishes(self, voice: str | None) -> Wishes:
        chosen = self._options
        audio = {"speech_rate": chosen.speech_rate, "loudness_rate": chosen.loudness_rate, **chosen.audio_params}
        audio |= {"format": "pcm", "sample_rate": chosen.sample_rate}
        additions = {"post_process": {"pitch": chosen.pitch}} if chosen.pitch else {}
        return Wishes(voice or chosen.speaker, audio, {**additions, **chosen.additions}, chosen.mix_speaker)

    def _cancel(self, held: AsyncExitStack, line: Line, session: Session, aborted: BaseException) -> None:
        name = f"tts-cancel-{self._upstream.name}"
        task = asyncio.get_running_loop().create_task(self._cancelled(held, line, session, aborted), name=name)
        self._cancelling.add(task)
        task.add_done_callback(self._cancelling.discard)

    async def _cancelled(self, held: AsyncExitStack, line: Line, session: Session, aborted: BaseException) -> None:
        """Ends what `held` holds as the abort would have done, but for the connection if it can be kept."""
        try:
            with suppress(UpstreamError, TimeoutError):
                async with asyncio.timeout(self._options.cancel_timeout_s):
                    await line.send(session.cancel())
                    while not session.is_over:
                        session.take(frames.decode(await line.receive()))
                self._lines.keep(line)
        finally:
            await held.__aexit__(type(aborted), aborted, aborted.__traceback__)


async def _next(line: Line, session: Session, request: SpeechRequest) -> bytes:
    """The next sound, or nothing at the session's end."""
    piece = b""
    while not piece and not session.is_over:
        piece = await _take(line, session, request)
    return piece


async def _take(line: Line, session: Session, request: SpeechRequest) -> bytes:
    message = await line.receive()
    try:
        return session.take(frames.decode(message))
    except UpstreamError as error:
        raise blamed_on(request.voice, error) from None


def _headers(options: HuoshanTtsOptions) -> dict[str, str]:
    return {
        "X-Api-App-Key": options.appid,
        "X-Api-Access-Key": options.access_token,
        "X-Api-Resource-Id": options.resource_id,
        "X-Api-Connect-Id": str(uuid.uuid4()),
    }


def _limits(options: HuoshanTtsOptions) -> Limits:
    deadlines = Deadlines(
        connect_s=options.connect_timeout_s,
        first_s=options.first_timeout_s,
        idle_s=options.idle_timeout_s,
        total_s=options.tts_timeout,
    )
    return Limits(deadlines, options.max_sessions, options.queue_timeout_s, options.kept_s)
