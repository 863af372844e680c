"""The fakes themselves: sections that the server takes, and OpenAI's three ways to talk with OpenAI's own client."""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import openai
import pytest

from bench.upstreams.openai_speech import API_KEY, OpenAiSpeech
from bench.upstreams.roster import NAMES, made, sections_of
from bench.upstreams.script import Fault, Script
from bench.upstreams.voice import heard, spoken
from shared.config.options.table import OPTIONS
from shared.marks import Mark
from shared.settings import EngineChoice

pytestmark = pytest.mark.contract

MARK = Mark(2, 40)
AMPLE_S = 30.0


@pytest.mark.parametrize("name", NAMES)
async def test_its_section_is_one_that_the_server_takes(name: str) -> None:
    """Every key is what the engine's options expect, and the address is the running fake's."""
    async with made(name, Script(), 0) as fake:
        for kind, content in sections_of(name, fake).items():
            for section, options in content.items() if kind != "voiceprint" else ():
                assert str(fake.port) in str(options)
                model = OPTIONS.get((kind, options["type"]))
                assert model is not None or kind == "LLM"
                if model is not None:
                    model.of(EngineChoice(name=section, type=options["type"], options=options))


@asynccontextmanager
async def client_of(fake: OpenAiSpeech, api_key: str = API_KEY) -> AsyncIterator[openai.AsyncOpenAI]:
    async with (
        asyncio.timeout(AMPLE_S),
        openai.AsyncOpenAI(base_url=fake.url, api_key=api_key, max_retries=0) as client,
    ):
        yield client


def wav_of(pcm: bytes) -> io.BytesIO:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, 16_000, 0, "NONE", ""))
        writer.writeframes(pcm)
    file.seek(0)
    file.name = "audio.wav"
    return file


async def test_it_says_what_it_is_given() -> None:
    """Raw samples, as they are."""
    async with OpenAiSpeech() as fake, client_of(fake) as client:
        answer = await client.audio.speech.create(
            model="tts-1", voice="onyx", input=f"{MARK.word} hello", response_format="pcm"
        )
        assert heard(answer.content, 24_000) == MARK.word


@pytest.mark.parametrize(("fault", "text"), [("", MARK.word), ("no_speech@finish", "")])
async def test_it_hears_what_is_said(fault: str, text: str) -> None:
    """A file in a form, with what stands beside it."""
    script = Script(fault=Fault.parse(fault) if fault else None)
    async with OpenAiSpeech(script) as fake, client_of(fake) as client:
        file = wav_of(spoken(f"{MARK.word} hello", 16_000))
        answer = await client.audio.transcriptions.create(model="whisper-1", file=file, language="en")
        assert answer.text == text
        assert fake.sessions[0].started == {"model": "whisper-1", "language": "en"}
        assert fake.sessions[0].audio_bytes > 0


async def test_it_answers_word_by_word() -> None:
    """With the mark of the question."""
    async with OpenAiSpeech() as fake, client_of(fake) as client:
        stream = await client.chat.completions.create(
            model="fake", messages=[{"role": "user", "content": f"hello {MARK.word}"}], stream=True
        )
        words = [chunk.choices[0].delta.content async for chunk in stream]
        assert "".join(word or "" for word in words) == f"I have heard {MARK.word}."
        assert len(words) > 2


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("error@connect", openai.InternalServerError),
        ("quota@start", openai.RateLimitError),
        ("close@start", openai.APIConnectionError),
        ("close@stream", openai.APIConnectionError),
        ("error@stream", openai.APIError),
        ("garbage@finish", ValueError),
    ],
)
async def test_an_answer_fails_where_it_is_told(fault: str, error: type[Exception]) -> None:
    """As that client sees it; the next one is well."""
    async with OpenAiSpeech(Script(fault=Fault.parse(f"{fault}*1"))) as fake, client_of(fake) as client:
        with pytest.raises(error):
            await _chat(client)
        assert await _chat(client)


async def test_a_wrong_key_is_refused() -> None:
    """As everywhere."""
    async with OpenAiSpeech() as fake, client_of(fake, "wrong") as client:
        with pytest.raises(openai.AuthenticationError):
            await _chat(client)


async def _chat(client: openai.AsyncOpenAI) -> str:
    stream = await client.chat.completions.create(
        model="fake", messages=[{"role": "user", "content": "hello"}], stream=True
    )
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
