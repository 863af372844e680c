"""A fake upstream that is asked over HTTP: the server, what is noted of a request, and the sound in a form."""

from __future__ import annotations

import io
import logging
import wave
from abc import abstractmethod
from typing import Final

from aiohttp import web

from bench.upstreams.fake import HOST, Fake, Session

RATE_HZ: Final = 16_000
"""Of the sound that it is told."""
MAX_BYTES: Final = 32 * 1024 * 1024


class HttpFake(Fake):
    """Each request is a session."""

    _runner: web.AppRunner | None = None

    @abstractmethod
    def _add_routes(self, router: web.UrlDispatcher) -> None: ...

    async def start(self) -> None:
        app = web.Application(client_max_size=MAX_BYTES)
        self._add_routes(app.router)
        self._runner = web.AppRunner(
            app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None, logger=_quiet_logger()
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self._port).start()
        self._port = self._runner.addresses[0][1]

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def _session_of(self, request: web.Request) -> Session:
        session = Session(headers={name.lower(): value for name, value in request.headers.items()})
        self.sessions.append(session)
        return session


def pcm_of(file: bytes) -> bytes:
    """The samples of a WAV file, s16le mono. Raises ValueError."""
    try:
        with wave.open(io.BytesIO(file), "rb") as reader:
            if (reader.getnchannels(), reader.getsampwidth(), reader.getframerate()) == (1, 2, RATE_HZ):
                return reader.readframes(reader.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError("no WAV") from error
    raise ValueError("another format")


def _quiet_logger() -> logging.Logger:
    """What is done wrong here is done on purpose: no traceback of a connection that was hung up."""
    logger = logging.getLogger(f"{__name__}.server")
    logger.setLevel(logging.CRITICAL)
    return logger
