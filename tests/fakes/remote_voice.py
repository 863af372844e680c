"""A voice engine of a service outside, alone with its fake: what is heard of it, and that nothing of it is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bench.upstreams.synthesiser import Synthesiser
from bench.upstreams.voice import heard
from shared.marks import Mark
from shared.settings import EngineChoice
from shared.upstream.faults import UpstreamError
from workers.tts.engine import RemoteEngine, SpeechRequest, is_remote
from workers.tts.engines.registry import build

SECTION = "Voice"
PATIENT = {
    "connect_timeout_s": 20,
    "first_timeout_s": 20,
    "idle_timeout_s": 20,
    "queue_timeout_s": 20,
    "cancel_timeout_s": 10,
}
PATIENCE_S = 30.0


def mark(number: int) -> str:
    """A text that is heard as itself."""
    return Mark(number // 10, number % 10).word


def asked(text: str, voice: str | None = None, owner: str = "s") -> SpeechRequest:
    return SpeechRequest(text=text, voice=voice, language=None, owner=owner)


def remote(section: dict[str, Any]) -> RemoteEngine:
    engine = build(EngineChoice(name=SECTION, type=section["type"], options=section))
    assert is_remote(engine)
    return engine


@asynccontextmanager
async def speaking(fake: Synthesiser, **options: Any) -> AsyncIterator[RemoteEngine]:
    """The engine that asks `fake`. When it is closed, no task and no connection of it may be left."""
    before = asyncio.all_tasks()
    engine = remote({**fake.section(), **PATIENT, **options})
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()
    ours = [task.get_name() for task in asyncio.all_tasks() - before if task.get_name().startswith(("upstream", "tts"))]
    assert ours == []
    await until(lambda: not fake.open_connections)
    await until(lambda: asyncio.all_tasks() <= before)


async def until(condition: Callable[[], object]) -> None:
    """For what another end of a connection does; nobody tells."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.003)


async def said(engine: RemoteEngine, request: SpeechRequest | str) -> bytes:
    """All the sound of a text."""
    request = asked(request) if isinstance(request, str) else request
    async with asyncio.timeout(PATIENCE_S):
        return b"".join([piece async for piece in engine.speak(request)])


async def word(engine: RemoteEngine, text: str) -> str:
    """The mark that is heard."""
    return heard(await said(engine, text), engine.sample_rate)


async def failure(engine: RemoteEngine, request: SpeechRequest | str) -> tuple[UpstreamError, bytes]:
    """How a segment fails, and what was heard before; after that nothing more comes."""
    request = asked(request) if isinstance(request, str) else request
    pieces, sound = engine.speak(request), []
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(UpstreamError) as caught:
            while True:
                sound.append(await anext(pieces))
        with pytest.raises(StopAsyncIteration):
            await anext(pieces)
    return caught.value, b"".join(sound)


async def begun(engine: RemoteEngine, text: str) -> tuple[AsyncGenerator[bytes, None], bytes]:
    """A segment that has given its first piece."""
    pieces = engine.speak(asked(text))
    async with asyncio.timeout(PATIENCE_S):
        return pieces, await anext(pieces)
