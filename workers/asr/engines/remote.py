"""A recogniser that asks a streaming service: one session of the service for each utterance.

Rules
- The connection is opened at `begin`. Sound waits until the service says that it wants it, then goes out in the packets
  it likes; `finish` sends what is left and the end at once behind it.
- `finish` has its text as soon as the service has said the last word; the connection is closed behind it. `cancel` and
  `close` close it at once, and so does a `finish` that is cancelled and closed.
- While the person speaks the service may be silent as long as it likes. Before it has started, while it does not take
  what is sent, and after the end of speech it is waited for no longer than the request's deadlines say.
- A service that ends the session before it was told to has lost sound: that is a failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from shared.errors import EngineError
from shared.upstream.faults import GIVEN_UP, Code, UpstreamError
from shared.upstream.upstream import Request, Upstream
from shared.upstream.websocket import Wire
from workers.asr.engines.dialogue import Dialogue, News, Over, Partial, SentenceOver, Started
from workers.asr.engines.engine import Brief, EndOwner, OnPartial, Transcript

LAST_WORD_S = 0.5
"""A closed connection has nothing to wait for but what is already here."""

log = structlog.get_logger(__name__)


def _as_it_is(error: UpstreamError) -> UpstreamError:
    return error


@dataclass(frozen=True, slots=True)
class Service:
    """One configured section, as its recognisers know it."""

    upstream: Upstream
    connect: Callable[[Brief], Awaitable[Wire]]
    dialogue: Callable[[Brief], Dialogue]
    endpoint: EndOwner = "own"
    judged: Callable[[UpstreamError], UpstreamError] = _as_it_is
    """What a failure of this service means here; it may do something about it."""
    starts_at_once: bool = False
    """It wants the sound without saying so."""


class RemoteRecogniser:
    """Owns the session of its utterance, and those before it until their connections are closed."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._session: RemoteSession | None = None
        self._ending: set[RemoteSession] = set()
        self._is_closed = False

    @property
    def is_usable(self) -> bool:
        return not self._is_closed

    def begin(self, brief: Brief, on_partial: OnPartial) -> None:
        self._ending = {session for session in self._ending if not session.is_closed}
        self._session = RemoteSession(self._service, brief, on_partial)
        self._ending.add(self._session)

    def feed(self, pcm: bytes) -> None:
        assert self._session is not None, "feed without begin"
        self._session.feed(pcm)

    async def finish(self) -> Transcript:
        assert self._session is not None, "finish without begin"
        return await self._session.finished()

    async def cancel(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def close(self) -> None:
        self._is_closed = True
        session, self._session = self._session, None
        await asyncio.gather(*(one.close(given_up=one is session) for one in self._ending))


class RemoteSession:
    """One utterance; owns its task and its connection."""

    def __init__(self, service: Service, brief: Brief, on_partial: OnPartial) -> None:
        self._service = service
        self._brief = brief
        self._on_partial = on_partial
        self._dialogue = service.dialogue(brief)
        self._waiting = bytearray()
        """Sound that has not been sent."""
        self._stir = asyncio.Event()
        """Something has happened that the task may wait for."""
        self._is_started = service.starts_at_once
        self._is_finished = self._was_endpoint_told = False
        self._news = 0
        loop = asyncio.get_running_loop()
        self._text: asyncio.Future[str] = loop.create_future()
        name = f"{service.upstream.name}-{brief.session}-{brief.utterance}"
        self._task = loop.create_task(self._run(), name=name)
        self._task.add_done_callback(self._on_done)

    @property
    def is_closed(self) -> bool:
        return self._task.done()

    def feed(self, pcm: bytes) -> None:
        """Raises UpstreamError if the session has failed."""
        if self._text.done():
            self._text.result()
        self._waiting += pcm
        if len(self._waiting) >= self._dialogue.packet_bytes:
            self._stir.set()

    async def finished(self) -> Transcript:
        self._is_finished = True
        self._stir.set()
        return Transcript(await self._text, self._brief.language)

    async def close(self, *, given_up: bool = False) -> None:
        """At once; returns when the connection is closed. `given_up`: whoever waited for its text ran out of time."""
        self._task.cancel(GIVEN_UP if given_up and self._is_finished else None)
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        async with self._service.upstream.request(self._brief.session) as request:
            try:
                await self._ask(request)
            except UpstreamError as error:
                raise self._service.judged(error) from None

    async def _ask(self, request: Request) -> None:
        async with request.waits.connecting():
            wire = await self._service.connect(self._brief)
        request.on_connected()
        try:
            text = await self._converse(wire, request)
            if not self._text.done():
                self._text.set_result(text)
        finally:
            await wire.close()

    async def _converse(self, wire: Wire, request: Request) -> str:
        hearing = asyncio.create_task(self._hear(wire), name=f"{self._task.get_name()}-hearing")
        hearing.add_done_callback(lambda _: self._stir.set())
        try:
            async with request.waits.first():
                await wire.send(self._dialogue.opening())
                await self._until(lambda: self._is_started, hearing)
            request.on_first_byte()
            await self._speak(wire, request, hearing)
            while not hearing.done():
                async with request.waits.next():
                    await self._news_after(self._news, hearing)
            return hearing.result()
        except UpstreamError as error:
            raise await _last_word(hearing, error) from None
        finally:
            hearing.cancel()
            await asyncio.wait([hearing])

    async def _speak(self, wire: Wire, request: Request, hearing: asyncio.Task[str]) -> None:
        """Returns when all sound and the end are sent."""
        size = self._dialogue.packet_bytes
        while not (self._is_finished and len(self._waiting) < size):
            await self._until(lambda: self._is_finished or len(self._waiting) >= size, hearing)
            while len(self._waiting) >= size:
                await self._send_sound(wire, request, size)
        if self._waiting:
            await self._send_sound(wire, request, len(self._waiting))
        async with request.waits.next():
            await wire.send(self._dialogue.closing())

    async def _send_sound(self, wire: Wire, request: Request, size: int) -> None:
        packet = bytes(self._waiting[:size])
        del self._waiting[:size]
        async with request.waits.next():
            await wire.send(self._dialogue.sound(packet))
        await asyncio.sleep(0)  # A whole utterance at once must not hold up the loop.

    async def _until(self, is_so: Callable[[], bool], hearing: asyncio.Task[str]) -> None:
        """Raises what `hearing` raised, or `upstream_closed` if the session is over."""
        while not is_so():
            if hearing.done():
                hearing.result()
                raise UpstreamError("it ended the session before it was told to", code=Code.CLOSED)
            await self._stir.wait()
            self._stir.clear()

    async def _news_after(self, count: int, hearing: asyncio.Task[str]) -> None:
        while self._news == count and not hearing.done():
            await self._stir.wait()
            self._stir.clear()

    async def _hear(self, wire: Wire) -> str:
        while True:
            for news in self._dialogue.read(await wire.receive()):
                if isinstance(news, Over):
                    return news.text
                self._on_news(news)

    def _on_news(self, news: News) -> None:
        self._news += 1
        self._stir.set()
        match news:
            case Started():
                self._is_started = True
            case Partial(text):
                self._on_partial(text)
            case SentenceOver(at_ms, text):
                self._on_sentence_over(at_ms, text)

    def _on_sentence_over(self, at_ms: int | None, text: str) -> None:
        if self._service.endpoint != "upstream" or self._is_finished or self._was_endpoint_told:
            return
        self._was_endpoint_told = True
        # What was sent behind that place is heard again as the next utterance's: it must not be in this text too.
        if self._brief.on_endpoint(at_ms) and at_ms is not None and not self._text.done():
            self._text.set_result(text)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, EngineError):
            log.error("recognition_failed", upstream=self._service.upstream.name, exc_info=error)
            error = EngineError(type(error).__name__, code="internal")
        if self._text.done():
            return
        if error is None:
            self._text.cancel()
        else:
            self._text.set_exception(error)
            self._text.exception()  # Whoever asks is told; nobody has to ask.


async def _last_word(hearing: asyncio.Task[str], error: UpstreamError) -> UpstreamError:
    """Why it failed: what the service said before it hung up counts more than that it did."""
    if error.code == Code.CLOSED:
        await asyncio.wait([hearing], timeout=LAST_WORD_S)
    heard = hearing.exception() if hearing.done() and not hearing.cancelled() else None
    return heard if isinstance(heard, UpstreamError) else error
