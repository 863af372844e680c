"""A recogniser that asks a fake service, and what it was told."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from bench.upstreams.fake import HOST, Fake
from bench.upstreams.script import Fault, Script
from shared.marks import Mark, sound_of
from shared.settings import EngineChoice
from shared.upstream.faults import UpstreamError
from tests.fakes.link_rig import until
from workers.asr.engines.engine import Brief, RemoteEngine
from workers.asr.engines.registry import make_engine
from workers.asr.engines.remote import RemoteRecogniser

RATE_HZ = 16_000
BYTES_PER_MS = 32
PATIENCE_S = 20.0
LONG = {"connect_timeout_s": 20, "first_timeout_s": 20, "idle_timeout_s": 20}
"""Deadlines that no machine misses."""


@contextmanager
def refusing_port() -> Iterator[int]:
    """Somebody has it and nobody listens."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        yield taken.getsockname()[1]


def marked(mark: Mark, ms: int = 600) -> bytes:
    """s16le mono at 16 kHz that a fake hears as the mark's word."""
    return bytes((sound_of(mark, 0, ms * RATE_HZ // 1000, RATE_HZ, 0.3) * 32767).astype("<i2").tobytes())


def quiet(ms: int) -> bytes:
    return bytes(ms * BYTES_PER_MS)


@dataclass
class Ear:
    """Whom the recogniser tells."""

    partials: list[str] = field(default_factory=list)
    endpoints: list[int | None] = field(default_factory=list)
    ends_there: bool = False
    """Whether an end of speech that the service finds ends the utterance."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def on_partial(self, text: str) -> None:
        self.partials.append(text)
        self.changed.set()

    def on_endpoint(self, at_ms: int | None) -> bool:
        self.endpoints.append(at_ms)
        self.changed.set()
        return self.ends_there

    def brief(self, utterance: int = 1, session: str = "session") -> Brief:
        return Brief(session, utterance, on_endpoint=self.on_endpoint)


@asynccontextmanager
async def engine_of(fake: Fake, options: Mapping[str, Any]) -> AsyncIterator[RemoteEngine]:
    """The engine of the section that leads to `fake`, with `options` beside."""
    section = fake.section()
    engine = make_engine(EngineChoice(name="Fake", type=section.pop("type"), options={**section, **options}))
    assert isinstance(engine, RemoteEngine)
    try:
        yield engine
    finally:
        await engine.close()


@asynccontextmanager
async def recogniser_from(engine: RemoteEngine) -> AsyncIterator[RemoteRecogniser]:
    recogniser = await engine.make(lambda error: None)
    assert isinstance(recogniser, RemoteRecogniser)
    try:
        yield recogniser
    finally:
        await recogniser.close()


@asynccontextmanager
async def recogniser_of(fake: Fake, **options: Any) -> AsyncIterator[RemoteRecogniser]:
    async with engine_of(fake, {**LONG, **options}) as engine, recogniser_from(engine) as recogniser:
        yield recogniser


async def text_of(recogniser: RemoteRecogniser, pcm: bytes, ear: Ear | None = None) -> str:
    """An utterance as a device sends it: begin, frames of 60 ms, finish."""
    ear = ear or Ear()
    recogniser.begin(ear.brief(), ear.on_partial)
    step = 60 * BYTES_PER_MS
    for start in range(0, len(pcm), step):
        recogniser.feed(pcm[start : start + step])
        await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_S):
        return (await recogniser.finish()).text


def with_fault(text: str) -> Script:
    return Script(fault=Fault.parse(text))


async def failure_of(recogniser: RemoteRecogniser, pcm: bytes) -> UpstreamError:
    """How an utterance fails."""
    with pytest.raises(UpstreamError) as failure:
        await text_of(recogniser, pcm)
    return failure.value


async def next_failure(recogniser: RemoteRecogniser) -> UpstreamError:
    """What `feed` raises at last."""
    failures: list[UpstreamError] = []

    def has_failed() -> bool:
        try:
            recogniser.feed(b"")
        except UpstreamError as error:
            failures.append(error)
        return bool(failures)

    await until(has_failed)
    return failures[0]
