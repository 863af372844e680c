"""A stream whose service fails, from packets to text: real decoding, the real client, a fake's real bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from bench.upstreams.fun_asr import FunAsr
from bench.upstreams.script import Fault, Script
from shared.link.messages import Final, OpenAsr, Partial, SpeechEnd
from shared.marks import Mark
from shared.settings import AsrSettings, EngineChoice
from tests.fakes.asr_stream import AsrStream
from tests.fakes.remote_asr import LONG, marked, refusing_port
from tests.fakes.speech import joined, packets, say, silence
from workers.asr.service import AsrService

pytestmark = pytest.mark.contract

HERE = EngineChoice(name="Here", type="scripted", options={"text": "heard {mark}"})
SPOKEN = Mark(3, 7)


def section(fake: FunAsr, **options: Any) -> EngineChoice:
    own = {**fake.section(), **LONG, **options}
    return EngineChoice(name="Fun", type=own.pop("type"), options=own)


@asynccontextmanager
async def serving(*choices: EngineChoice, **fields: Any) -> AsyncIterator[AsrService]:
    """The first is the default, the others take over in turn."""
    settings = AsrSettings(
        engine=choices[0],
        engines={one.name: one for one in choices},
        fallbacks=tuple(one.name for one in choices[1:]),
        capacity=10,
        final_timeout_s=20,
        upstream_timeout_s=40,
        **fields,
    )
    service = AsrService(settings)
    await service.start()
    try:
        yield service
    finally:
        await service.close()


async def held(service: AsrService, pcm: bytes, engine: str | None = None) -> AsrStream:
    """A key is pressed, something is said, the key is let go."""
    stream = AsrStream()
    job = service.open(stream, OpenAsr("s", "manual", 0, 0, engine=engine).to_map())
    for packet in packets(np.frombuffer(pcm, np.int16)):
        job.on_audio(packet)
        await asyncio.sleep(0)
    job.on_end()
    await stream.ended()
    return stream


@pytest.mark.parametrize("fault", ["error@connect", "error@start", "close@stream", "error@finish", "garbage@finish"])
async def test_the_fallback_hears_the_very_sound(fault: str) -> None:
    """Wherever the service fails, twice, the next engine has the mark that was said, once."""
    async with FunAsr(Script(fault=Fault.parse(fault))) as fake, serving(section(fake), HERE) as service:
        stream = await held(service, marked(SPOKEN, 1500))
        assert (stream.texts, stream.end.code, fake.connections) == ([f"heard {SPOKEN.word}"], None, 2)


async def test_a_failure_in_passing_is_mended_by_the_service_itself() -> None:
    """The second session hears everything."""
    async with FunAsr(Script(fault=Fault.parse("close@stream*1"))) as fake, serving(section(fake), HERE) as service:
        stream = await held(service, marked(SPOKEN, 1500))
        assert (stream.texts, fake.connections) == ([SPOKEN.word], 2)


async def test_an_open_breaker_costs_nobody_a_wait() -> None:
    """After some failures the service is not asked at all."""
    async with FunAsr(Script(fault=Fault.parse("error@start"))) as fake, serving(section(fake), HERE) as service:
        for _ in range(4):
            assert (await held(service, marked(SPOKEN))).texts == [f"heard {SPOKEN.word}"]
        seen = fake.connections
        assert (await held(service, marked(SPOKEN))).texts == [f"heard {SPOKEN.word}"]
        assert fake.connections == seen


async def test_without_a_fallback_the_failure_is_one_typed_error() -> None:
    """And the worker serves on."""
    async with FunAsr(Script(fault=Fault.parse("error@finish*2"))) as fake, serving(section(fake)) as service:
        stream = await held(service, marked(SPOKEN))
        assert (stream.end.code, stream.end.retryable, stream.texts) == ("upstream_failed", False, [])
        assert (await held(service, marked(SPOKEN))).texts == [SPOKEN.word]


async def test_a_devices_own_section_has_the_clusters_behind_it() -> None:
    """It is asked first; when it fails the default and its fallbacks take over."""
    with refusing_port() as port:
        own = EngineChoice(name="Own", type="fun_server", options={"port": port, "is_ssl": False, **LONG})
        async with FunAsr() as fake, serving(section(fake), HERE, own) as service:
            assert (await held(service, marked(SPOKEN), "Own")).texts == [SPOKEN.word]
            assert service.caps == {"engines": ["Fun", "Here", "Own"]}
            assert not service.resolves_names


async def test_the_service_owns_the_end_of_speech() -> None:
    """Its sentence ends the utterance on the stream, and the next one is found behind it."""
    sentences = ("what time is it", "tell me a joke")
    async with FunAsr() as fake, serving(section(fake, endpoint="upstream"), HERE) as service:
        stream = AsrStream()
        job = service.open(stream, OpenAsr("s", "auto", 0, 0).to_map())
        for number, sentence in enumerate(sentences, start=1):
            for packet in packets(joined(silence(300), say(sentence), silence(1800))):
                job.on_audio(packet)
            await stream.has(SpeechEnd, number)
        job.on_end()
        assert (await stream.ended()).code is None
        assert len(stream.texts) == len(stream.of(SpeechEnd)) == 2
        assert all(stream.texts)
        first = [one for one in stream.events if getattr(one, "utterance", None) == 0]
        assert isinstance(first[-1], Final) and any(isinstance(one, Partial) for one in first)


async def test_names_of_hosts_are_known_before_the_first_utterance() -> None:
    """They cost the process the resolver's threads."""
    named = EngineChoice(name="Named", type="fun_server", options={"host": "asr.example"})
    async with serving(HERE, named) as service:
        assert service.resolves_names
