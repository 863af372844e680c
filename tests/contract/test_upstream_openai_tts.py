"""What is particular to OpenAI's speech API; what it shares with other voices is in test_upstream_voices."""

from __future__ import annotations

import pytest

from bench.upstreams.encoding import FORMATS
from bench.upstreams.openai_speech import API_KEY, OpenAiSpeech
from bench.upstreams.voice import spoken
from shared.upstream.faults import Code, Kind, UpstreamError
from tests.fakes.remote_voice import failure, mark, remote, said, speaking, word
from tests.fakes.voice_services import faulty

pytestmark = pytest.mark.contract

RATE_HZ = 24_000


async def test_a_segment_is_heard_as_it_was_told() -> None:
    """Key, model, voice and speed of the section reach the server; every sample comes."""
    options = {"model": "tts-1-hd", "speed": "1.5", "instructions": "cheerfully"}
    async with OpenAiSpeech() as fake, speaking(fake, **options) as engine:
        assert await said(engine, "早上好, everybody.") == spoken("早上好, everybody.", RATE_HZ)
        [session] = fake.sessions
        assert session.started == {
            "model": "tts-1-hd",
            "input": "早上好, everybody.",
            "voice": "onyx",
            "response_format": "wav",
            "speed": 1.5,
            "instructions": "cheerfully",
        }
        assert session.headers["authorization"] == f"Bearer {API_KEY}"
        assert session.was_finished


@pytest.mark.parametrize("format_name", FORMATS)
async def test_every_format_is_heard(format_name: str) -> None:
    """As the section asks for it."""
    async with OpenAiSpeech() as fake, speaking(fake, format=format_name) as engine:
        assert await word(engine, f"{mark(3)} says hello") == mark(3)
        assert fake.sessions[0].started["response_format"] == format_name


@pytest.mark.parametrize("format_name", FORMATS)
async def test_what_was_not_asked_for_is_heard_too(format_name: str) -> None:
    """A server that has one format only, and calls it what it was asked for."""
    content_type = "audio/pcm" if format_name == "pcm" else "audio/wav"
    one = OpenAiSpeech(formats=(format_name,), ignores_format=True, content_type=content_type)
    async with one as fake, speaking(fake) as engine:
        assert await word(engine, f"{mark(4)} says hello") == mark(4)


async def test_a_server_that_takes_no_wav_is_asked_for_what_it_takes() -> None:
    """Once: from then on it is known."""
    async with OpenAiSpeech(formats=("pcm",)) as fake, speaking(fake) as engine:
        assert await said(engine, "Hello.") == spoken("Hello.", RATE_HZ)
        assert await said(engine, "Again.") == spoken("Again.", RATE_HZ)
        asked_for = [session.started["response_format"] for session in fake.sessions]
        assert asked_for == ["wav", "mp3", "pcm", "pcm"]


async def test_raw_samples_of_another_rate_are_heard_at_ours() -> None:
    """If the section tells their rate, or the answer does."""
    async with OpenAiSpeech(formats=("pcm",), content_type="audio/pcm;rate=48000") as fake:
        async with speaking(fake, format="pcm") as engine:
            assert len(await said(engine, "Hello.")) == pytest.approx(len(spoken("Hello.", RATE_HZ)) / 2, abs=200)
        fake.content_type = "application/octet-stream"
        async with speaking(fake, format="pcm", sample_rate=12_000) as engine:
            assert len(await said(engine, "Hello.")) == pytest.approx(len(spoken("Hello.", RATE_HZ)) * 2, abs=200)


async def test_without_keeping_each_segment_has_a_connection() -> None:
    """`warm_s: 0`."""
    async with OpenAiSpeech() as fake, speaking(fake, warm_s=0) as engine:
        for number in range(3):
            assert await word(engine, mark(number)) == mark(number)
        assert fake.connections == 3


async def test_a_server_without_keys_is_sent_none() -> None:
    """Local servers have none; an empty one would be refused by some."""
    async with OpenAiSpeech() as fake, speaking(fake, api_key="") as engine:
        error, _ = await failure(engine, "Hello.")
        assert error.code == Code.AUTH
        assert "authorization" not in fake.sessions[0].headers


@pytest.mark.parametrize("format_name", ["mp3", "opus", "flac"])
async def test_garbage_in_the_middle_of_the_sound_ends_the_segment(format_name: str) -> None:
    """With an error, or with what could be decoded; the next one is heard."""
    script = faulty("garbage@stream*1")
    async with OpenAiSpeech(script) as fake, speaking(fake, format=format_name) as engine:
        try:
            await said(engine, mark(1))
        except UpstreamError as error:
            assert error.code == Code.MALFORMED
        assert await word(engine, mark(2)) == mark(2)


@pytest.mark.parametrize("content_type", ["application/json", "text/html"])
async def test_a_message_in_place_of_sound_is_not_played(content_type: str) -> None:
    """Some servers answer 200 with one."""
    async with OpenAiSpeech(content_type=content_type) as fake, speaking(fake) as engine:
        error, _ = await failure(engine, "Hello.")
        assert error.code == Code.MALFORMED


async def test_a_wrong_address_is_somebodys_to_mend() -> None:
    """404 is not asked again."""
    async with OpenAiSpeech() as fake, speaking(fake, api_url=f"{fake.url}/nowhere") as engine:
        error, _ = await failure(engine, "Hello.")
        assert (error.code, error.kind) == (Code.REFUSED, Kind.FATAL)


def test_it_needs_the_threads_of_the_resolver() -> None:
    """A number passes through it as well: so does everything over HTTP."""
    assert remote({"type": "openai", "api_key": "k"}).is_named
    assert remote({"type": "openai", "base_url": "http://127.0.0.1:1/v1"}).is_named
