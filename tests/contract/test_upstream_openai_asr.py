"""Any server with OpenAI's transcriptions, checked with the real client against the fake."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bench.upstreams.openai_speech import API_KEY, OpenAiSpeech
from bench.upstreams.script import Fault, Script
from shared.errors import ConfigError
from shared.marks import Mark
from shared.settings import EngineChoice
from shared.upstream.faults import Code, Kind, UpstreamError
from tests.fakes.link_rig import until
from tests.fakes.remote_asr import LONG, PATIENCE_S, Ear, marked, quiet, refusing_port
from workers.asr.engines.engine import Brief, RemoteEngine
from workers.asr.engines.openai_asr import LEAST_BYTES, OpenAiAsrEngine, OpenAiRecogniser
from workers.asr.engines.registry import make_engine

pytestmark = pytest.mark.contract

FAULTS = {
    "silent@connect": (Code.FIRST_TIMEOUT, Kind.RETRYABLE),
    "error@connect": (Code.FAILED, Kind.RETRYABLE),
    "quota@connect": (Code.QUOTA, Kind.QUOTA),
    "close@connect": (Code.CLOSED, Kind.RETRYABLE),
    "garbage@connect": (Code.MALFORMED, Kind.RETRYABLE),
    "silent@start": (Code.FIRST_TIMEOUT, Kind.RETRYABLE),
    "error@start": (Code.FAILED, Kind.RETRYABLE),
    "quota@start": (Code.QUOTA, Kind.QUOTA),
    "close@start": (Code.CLOSED, Kind.RETRYABLE),
    "error@finish": (Code.FAILED, Kind.RETRYABLE),
    "garbage@finish": (Code.MALFORMED, Kind.RETRYABLE),
    "no_result@finish": (Code.NO_RESULT, Kind.RETRYABLE),
}
SHORT = {"first_timeout_s": 0.3}


def with_fault(text: str) -> Script:
    return Script(fault=Fault.parse(text))


def engine_at(section: dict[str, Any], **options: Any) -> OpenAiAsrEngine:
    options = {**section, **LONG, **options}
    engine = make_engine(EngineChoice(name="Fake", type=options.pop("type"), options=options))
    assert isinstance(engine, RemoteEngine) and isinstance(engine, OpenAiAsrEngine)
    return engine


@asynccontextmanager
async def recogniser_of(section: dict[str, Any], **options: Any) -> AsyncIterator[OpenAiRecogniser]:
    engine = engine_at(section, **options)
    recogniser = await engine.make(lambda error: None)
    assert isinstance(recogniser, OpenAiRecogniser)
    try:
        yield recogniser
    finally:
        await recogniser.close()
        await engine.close()


async def text_of(recogniser: OpenAiRecogniser, pcm: bytes, language: str | None = None) -> str:
    recogniser.begin(Brief("session", 1, language), Ear().on_partial)
    for start in range(0, len(pcm), 1920):
        recogniser.feed(pcm[start : start + 1920])
    async with asyncio.timeout(PATIENCE_S):
        return (await recogniser.finish()).text


async def failure_of(recogniser: OpenAiRecogniser, pcm: bytes) -> UpstreamError:
    with pytest.raises(UpstreamError) as failure:
        await text_of(recogniser, pcm)
    return failure.value


async def test_what_is_said_comes_back() -> None:
    """Every sample arrives as one WAV file; the text is the sound's own; the connection is kept."""
    pcm = marked(Mark(3, 5), 1530)
    async with OpenAiSpeech() as fake, recogniser_of(fake.asr_section()) as recogniser:
        for turn in range(3):
            assert await text_of(recogniser, marked(Mark(1, turn))) == Mark(1, turn).word
        assert await text_of(recogniser, pcm) == Mark(3, 5).word
        assert (fake.sessions[-1].audio_bytes, fake.connections) == (len(pcm), 1)
        assert fake.sessions[0].started == {"model": "gpt-4o-mini-transcribe", "response_format": "json"}
        assert fake.sessions[0].headers["authorization"] == f"Bearer {API_KEY}"


async def test_nothing_said_is_an_empty_text() -> None:
    """Silence, and no sound at all, which nobody is asked about; what is very short is filled up."""
    async with OpenAiSpeech() as fake, recogniser_of(fake.asr_section()) as recogniser:
        assert await text_of(recogniser, b"") == ""
        assert fake.sessions == []
        assert await text_of(recogniser, quiet(900)) == ""
        assert await text_of(recogniser, quiet(20)) == ""
        assert fake.sessions[-1].audio_bytes == LEAST_BYTES
        fake.script = with_fault("no_speech@finish")
        assert await text_of(recogniser, marked(Mark(1, 1))) == ""


@pytest.mark.parametrize(("fault", "expected"), FAULTS.items())
async def test_every_fault_is_a_typed_failure_within_the_deadline(fault: str, expected: tuple[str, Kind]) -> None:
    """It names no key, and the next utterance is heard."""
    code, kind = expected
    options = SHORT if code == Code.FIRST_TIMEOUT else {}
    async with (
        OpenAiSpeech(with_fault(f"{fault}*1")) as fake,
        recogniser_of(fake.asr_section(), **options) as recogniser,
    ):
        failure = await failure_of(recogniser, marked(Mark(1, 1)))
        assert (failure.code, failure.kind) == (code, kind)
        assert API_KEY not in f"{failure!r} {failure.reason}"
        fake.script = Script()
    async with OpenAiSpeech() as fake, recogniser_of(fake.asr_section()) as recogniser:
        assert await text_of(recogniser, marked(Mark(1, 2))) == Mark(1, 2).word


async def test_a_wrong_key_and_a_wrong_address_are_fatal() -> None:
    """Somebody must mend them."""
    async with OpenAiSpeech() as fake:
        for options, code in (({"api_key": "wrong"}, Code.AUTH), ({"base_url": f"{fake.url}/nowhere"}, Code.REFUSED)):
            async with recogniser_of(fake.asr_section(), **options) as recogniser:
                failure = await failure_of(recogniser, marked(Mark(1, 1)))
                assert (failure.code, failure.kind) == (code, Kind.FATAL)


async def test_nobody_there_is_a_failure_to_connect() -> None:
    """A host that refuses."""
    with refusing_port() as port:
        section = {"type": "openai", "base_url": f"http://127.0.0.1:{port}", "model_name": "any"}
        async with recogniser_of(section) as recogniser:
            assert (await failure_of(recogniser, marked(Mark(1, 1)))).code == Code.CONNECT


async def test_a_cancel_closes_the_request_at_once() -> None:
    """The server sees it while it still thinks; the recogniser serves again."""
    async with OpenAiSpeech(with_fault("silent@start")) as fake, recogniser_of(fake.asr_section()) as recogniser:
        recogniser.begin(Brief("session", 1), Ear().on_partial)
        recogniser.feed(marked(Mark(1, 1)))
        finishing = asyncio.create_task(recogniser.finish())
        await until(lambda: fake.sessions and fake.sessions[0].started)
        finishing.cancel()
        await asyncio.wait([finishing])
        await recogniser.cancel()
        await until(lambda: fake.sessions[0].was_closed)
        fake.script = Script()
        assert await text_of(recogniser, marked(Mark(1, 2))) == Mark(1, 2).word


async def test_a_server_that_is_always_late_is_left_alone_for_a_while() -> None:
    """Whoever waited has given up each time: its breaker opens, and the next utterance does not wait."""
    async with OpenAiSpeech(with_fault("silent@start")) as fake:
        engine = engine_at(fake.asr_section())
        for _ in range(50):
            if engine.upstream.is_open:
                break
            recogniser = await engine.make(lambda error: None)
            recogniser.begin(Brief("session", 1), Ear().on_partial)
            recogniser.feed(marked(Mark(1, 1)))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await recogniser.finish()
            await recogniser.close()
        assert engine.upstream.is_open
        await engine.close()


async def test_many_utterances_at_once_do_not_mix() -> None:
    """Twenty recognisers of one engine, each with its own words."""
    async with OpenAiSpeech(Script(latency_ms=20)) as fake:
        engine = engine_at(fake.asr_section())
        recognisers = [OpenAiRecogniser(engine) for _ in range(20)]
        said = [text_of(one, marked(Mark(number, number))) for number, one in enumerate(recognisers)]
        texts = await asyncio.gather(*said)
        await engine.close()
    assert texts == [Mark(number, number).word for number in range(20)]


@pytest.mark.parametrize(
    ("options", "spoken", "sent"),
    [({}, None, None), ({}, "zh-CN", "zh"), ({}, "en_US", "en"), ({"language": "fr"}, "zh-CN", "fr")],
)
async def test_the_language_is_the_sections_or_the_devices(
    options: dict[str, str], spoken: str | None, sent: str | None
) -> None:
    """Two letters are all that the API takes."""
    async with OpenAiSpeech() as fake, recogniser_of(fake.asr_section(), **options, prompt="Xiaozhi") as recogniser:
        await text_of(recogniser, marked(Mark(1, 1)), spoken)
        assert (fake.sessions[0].started.get("language"), fake.sessions[0].started["prompt"]) == (sent, "Xiaozhi")


async def test_the_address_may_be_written_in_three_ways() -> None:
    """Whole, as in today's files; its beginning; or whole in a key of its own."""
    async with OpenAiSpeech() as fake:
        whole = f"{fake.url}/audio/transcriptions"
        for options in ({"base_url": whole}, {"base_url": f"{fake.url}/"}, {"base_url": "http://x", "api_url": whole}):
            async with recogniser_of(fake.asr_section(), **options) as recogniser:
                assert await text_of(recogniser, marked(Mark(1, 1))) == Mark(1, 1).word


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"api_key": "k"}, "model_name"),
        ({"model_name": "m"}, "api_key"),
        ({"model_name": "m", "api_key": "你的api_key"}, "api_key"),
        ({"model_name": "m", "api_key": "k", "base_url": "ftp://host"}, "base_url"),
    ],
)
def test_a_wrong_key_is_named(options: dict[str, Any], key: str) -> None:
    """An example that was never filled in counts as not given."""
    with pytest.raises(ConfigError, match=f"ASR.Open.{key}"):
        make_engine(EngineChoice(name="Open", type="openai", options=options))
