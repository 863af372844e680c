"""Whose words they are: asked at the end of speech, while the words are recognised.

Rules:
* Without a server, a key in its URL and somebody in the list nobody is asked.
* A transcript never waits longer than `max_wait_s` for its speaker. One that comes later is dropped, and counts as a
  failure of the server, so that one that is always late is soon not asked any more.
* Nothing that goes wrong here is felt: the words just have no speaker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import structlog

from shared.settings import VoiceprintSettings
from shared.upstream.faults import Code, UpstreamError
from shared.voiceprint import UNKNOWN, address_of
from workers.asr.kept_sound import KeptSound
from workers.asr.voiceprint import metrics
from workers.asr.voiceprint.health import Health
from workers.asr.voiceprint.server import VoiceprintServer

log = structlog.get_logger(__name__)


class Identification:
    """Of one utterance; its task belongs to whoever asked."""

    def __init__(self, server: VoiceprintServer, health: Health, session: str, pcm: bytes, max_wait_s: float) -> None:
        self._server = server
        self._health = health
        self._session = session
        self._max_wait_s = max_wait_s
        self._is_late = False
        self.task: asyncio.Task[str | None] = asyncio.create_task(self._run(pcm), name=f"voiceprint-{session}")

    async def speaker(self, within_s: float) -> str | None:
        """The words are there: who said them, if that is known in `max_wait_s` and in `within_s`, else None."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            await asyncio.wait((self.task,), timeout=max(0.0, min(within_s, self._max_wait_s)))
        finally:
            metrics.HELD_SECONDS.observe(loop.time() - began_s)
        if self.task.done() and not self.task.cancelled():
            return self.task.result()
        self._is_late = True
        metrics.LATE.inc()
        self.task.cancel()
        return None

    def drop(self) -> None:
        """There are no words, so nobody needs to know."""
        if not self.task.done():
            metrics.DROPPED.inc()
            self.task.cancel()

    async def _run(self, pcm: bytes) -> str | None:
        try:
            if not await self._health.is_good():
                metrics.UNHEALTHY.inc()
                return None
            name = await self._ask(pcm)
        except UpstreamError as error:
            if not self._is_late:
                metrics.FAILED.inc()
            log.warning("voiceprint_failed", session=self._session, code=error.code)
        except Exception as error:  # the root of a task: the words go on without a speaker
            metrics.FAILED.inc()
            log.exception("voiceprint_failed", session=self._session, error=type(error).__name__)
        else:
            (metrics.UNKNOWN if name == UNKNOWN else metrics.KNOWN).inc()
            return name
        return None

    async def _ask(self, pcm: bytes) -> str:
        async with self._server.upstream.request(self._session) as request, request.waits.first():
            try:
                name = await self._server.identify(pcm)
            except asyncio.CancelledError:
                if not self._is_late:
                    raise
                raise UpstreamError("later than anybody waits", code=Code.FIRST_TIMEOUT) from None
            request.on_first_byte()
            return name


class Voice:
    """One utterance as it is spoken, and the question whose voice it is. The calls are the utterance's."""

    def __init__(self, identify: Callable[[bytes], Identification]) -> None:
        self._identify = identify
        self._sound = KeptSound()
        self._asked: Identification | None = None

    def add(self, pcm: bytes) -> None:
        self._sound.add(pcm)

    def end(self) -> None:
        """Speech is over: ask, unless it was longer than anybody speaks."""
        if self._sound.is_whole and self._sound.size_bytes:
            self._asked = self._identify(b"".join(self._sound))
        self._sound.let_go()

    async def speaker(self, within_s: float) -> str | None:
        """The words are there: who said them. Waits `within_s` at most, and no longer than is configured."""
        return await self._asked.speaker(within_s) if self._asked is not None else None

    def drop(self) -> None:
        """Nobody needs to know, or not any more."""
        self._sound.let_go()
        if self._asked is not None:
            self._asked.drop()


class Speakers:
    """The known voices of one process."""

    def __init__(self, server: VoiceprintServer, max_wait_s: float) -> None:
        self._server = server
        self._max_wait_s = max_wait_s
        self._health = Health(self._look, name="voiceprint")
        self._tasks: set[asyncio.Task[str | None]] = set()

    @classmethod
    def of(cls, settings: VoiceprintSettings) -> Speakers | None:
        """None if nobody is to be told apart."""
        address = address_of(settings.url)
        if address is None or not settings.known:
            return None
        return cls(VoiceprintServer(address, settings.known, settings.similarity_threshold), settings.max_wait_s)

    def refresh(self) -> None:
        """Somebody may speak soon: know by then whether the server is well."""
        self._health.refresh()

    @property
    def resolves_names(self) -> bool:
        """Whether the process needs libuv's threads."""
        return self._server.resolves_names

    def listen(self, session: str) -> Voice:
        """Somebody begins to speak."""
        return Voice(partial(self.identify, session))

    def identify(self, session: str, pcm: bytes) -> Identification:
        """Speech is over: ask. `pcm` is s16le mono at 16 kHz."""
        asked = Identification(self._server, self._health, session, pcm, self._max_wait_s)
        self._tasks.add(asked.task)
        asked.task.add_done_callback(self._tasks.discard)
        return asked

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._health.close()
        await self._server.close()

    async def _look(self) -> bool:
        is_well = await self._server.is_well()
        metrics.HEALTHY.set(is_well)
        return is_well
