"""The client of OpenAI's speech API against a server that speaks its bytes and all its faults."""

from __future__ import annotations

import asyncio

import pytest

from bench.upstreams.encoding import FORMATS
from bench.upstreams.openai_speech import API_KEY, NOBODY, OpenAiSpeech
from bench.upstreams.script import Fault, Script
from bench.upstreams.voice import spoken
from shared.upstream.faults import Code, Kind, UpstreamError
from shared.upstream.tls import trust
from tests.fakes.remote_voice import asked, begun, failure, mark, remote, said, speaking, until, word

pytestmark = pytest.mark.contract

RATE_HZ = 24_000
LONG = "Once upon a time there was a very small robot. " * 20


def faulty(fault: str, **more: int) -> Script:
    return Script(fault=Fault.parse(fault), **more)


def impatient(fault: str, seconds: float = 0.4) -> dict[str, float]:
    """Options that find a silence soon. A connection that says nothing is one that gives no first sign."""
    if "silent" not in fault:
        return {}
    return {"idle_timeout_s" if fault.endswith(("stream", "finish")) else "first_timeout_s": seconds}


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


async def test_the_first_sound_comes_before_the_last_was_made() -> None:
    """It is decoded as it comes."""
    async with OpenAiSpeech(Script(drip_ms=20)) as fake, speaking(fake) as engine:
        pieces, sound = await begun(engine, LONG)
        assert 0 < len(sound) < len(spoken(LONG, RATE_HZ)) / 10
        assert not fake.sessions[0].was_finished
        await pieces.aclose()


async def test_segments_follow_each_other_on_one_connection() -> None:
    """No new handshake for each sentence."""
    async with OpenAiSpeech() as fake, speaking(fake) as engine:
        for number in range(5):
            assert await word(engine, mark(number)) == mark(number)
        assert fake.connections == 1


async def test_without_keeping_each_segment_has_a_connection() -> None:
    """`warm_s: 0`."""
    async with OpenAiSpeech() as fake, speaking(fake, warm_s=0) as engine:
        for number in range(3):
            assert await word(engine, mark(number)) == mark(number)
        assert fake.connections == 3


async def test_many_at_once_each_hear_their_own() -> None:
    """Nothing is shared but the section."""
    async with OpenAiSpeech() as fake, speaking(fake) as engine:
        heard = await asyncio.gather(*(word(engine, mark(number)) for number in range(20)))
        assert heard == [mark(number) for number in range(20)]


async def test_a_connection_that_died_in_its_sleep_costs_no_segment() -> None:
    """A new one is made, or the segment is asked for once more."""
    async with OpenAiSpeech() as fake, speaking(fake) as engine:
        await said(engine, "One.")
        await fake.close()
        await fake.start()
        assert await word(engine, mark(2)) == mark(2)


@pytest.mark.parametrize("text", ["a", "好", "今天是 Monday，明天是 Tuesday。"])
async def test_short_and_mixed_texts_are_told_whole(text: str) -> None:
    """Chinese is not touched on its way."""
    async with OpenAiSpeech() as fake, speaking(fake) as engine:
        assert await said(engine, text) == spoken(text, RATE_HZ)


async def test_five_thousand_characters_are_asked_for_in_parts() -> None:
    """None longer than the API takes, and nothing is lost."""
    text = ("今天天气很好，我们去公园走走吧。" * 320)[:5000]
    async with OpenAiSpeech() as fake, speaking(fake) as engine:
        sound = await said(engine, text)
        texts = [session.texts[0] for session in fake.sessions]
        assert "".join(texts) == text
        assert len(texts) > 1
        assert sound == b"".join(spoken(part, RATE_HZ) for part in texts)


async def test_a_devices_voice_overrules_the_sections() -> None:
    """Only if it has one."""
    async with OpenAiSpeech() as fake, speaking(fake) as engine:
        await said(engine, asked("Hello.", voice="nova"))
        await said(engine, "Hello.")
        assert [session.started["voice"] for session in fake.sessions] == ["nova", "onyx"]


async def test_a_server_without_keys_is_sent_none() -> None:
    """Local servers have none; an empty one would be refused by some."""
    async with OpenAiSpeech() as fake, speaking(fake, api_key="") as engine:
        error, _ = await failure(engine, "Hello.")
        assert error.code == Code.AUTH
        assert "authorization" not in fake.sessions[0].headers


# Faults

BEFORE_ANY_SOUND = [
    ("silent@connect", Code.FIRST_TIMEOUT, Kind.RETRYABLE),
    ("error@connect", Code.FAILED, Kind.RETRYABLE),
    ("quota@connect", Code.QUOTA, Kind.QUOTA),
    ("close@connect", Code.CLOSED, Kind.RETRYABLE),
    ("garbage@connect", Code.MALFORMED, Kind.RETRYABLE),
    ("silent@start", Code.FIRST_TIMEOUT, Kind.RETRYABLE),
    ("error@start", Code.FAILED, Kind.RETRYABLE),
    ("quota@start", Code.QUOTA, Kind.QUOTA),
    ("close@start", Code.CLOSED, Kind.RETRYABLE),
    ("garbage@start", Code.MALFORMED, Kind.RETRYABLE),
    ("no_result@start", Code.NO_RESULT, Kind.INPUT),
    ("no_result@finish", Code.NO_RESULT, Kind.INPUT),
]
LATER = [
    ("silent@stream", Code.IDLE_TIMEOUT),
    ("silent@finish", Code.IDLE_TIMEOUT),
    ("error@stream", Code.CLOSED),
    ("close@stream", Code.CLOSED),
    ("close@finish", Code.CLOSED),
]


@pytest.mark.parametrize(("fault", "code", "kind"), BEFORE_ANY_SOUND)
async def test_a_fault_before_the_first_sound_is_a_typed_error(fault: str, code: str, kind: Kind) -> None:
    """Within the deadline, after one more attempt if that may help; no key is in the error."""
    async with OpenAiSpeech(faulty(fault)) as fake, speaking(fake, **impatient(fault)) as engine:
        error, sound = await failure(engine, "Hello.")
        assert (error.code, error.kind, sound) == (code, kind, b"")
        assert len(fake.sessions) == (2 if kind is Kind.RETRYABLE else 1)
        assert API_KEY not in f"{error!r} {error} {error.__cause__!r}"


@pytest.mark.parametrize("fault", [fault for fault, _, kind in BEFORE_ANY_SOUND if kind is Kind.RETRYABLE])
async def test_a_passing_fault_is_not_noticed(fault: str) -> None:
    """The one retry is heard, whole and once."""
    async with OpenAiSpeech(faulty(f"{fault}*1")) as fake, speaking(fake, **impatient(fault, 2.0)) as engine:
        assert await said(engine, mark(7)) == spoken(mark(7), RATE_HZ)


@pytest.mark.parametrize(("fault", "code"), LATER)
async def test_a_fault_after_the_first_sound_ends_the_segment(fault: str, code: str) -> None:
    """What came is heard and nothing twice: there is no second attempt, and the connection is not used again."""
    async with OpenAiSpeech(faulty(f"{fault}*1", drip_ms=1)) as fake, speaking(fake, **impatient(fault, 1)) as engine:
        error, sound = await failure(engine, mark(1))
        assert error.code == code
        assert sound
        assert spoken(mark(1), RATE_HZ).startswith(sound)
        assert len(fake.sessions) == 1
        assert await word(engine, mark(2)) == mark(2)
        assert fake.connections == 2


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


async def test_a_wrong_key_is_not_tried_again() -> None:
    """It opens the breaker: the next segment goes to the fallback without asking."""
    async with OpenAiSpeech() as fake, speaking(fake, api_key="wrong-key") as engine:
        error, _ = await failure(engine, "Hello.")
        assert (error.code, error.kind) == (Code.AUTH, Kind.FATAL)
        assert "wrong-key" not in f"{error!r} {error}"
        error, _ = await failure(engine, "Hello.")
        assert error.code == Code.OPEN
        assert len(fake.sessions) == 1


async def test_a_wrong_address_is_somebodys_to_mend() -> None:
    """404 is not asked again."""
    async with OpenAiSpeech() as fake, speaking(fake, api_url=f"{fake.url}/nowhere") as engine:
        error, _ = await failure(engine, "Hello.")
        assert (error.code, error.kind) == (Code.REFUSED, Kind.FATAL)


async def test_a_text_that_is_refused_is_its_own_fault() -> None:
    """The breaker stays closed for the others."""
    async with OpenAiSpeech() as fake, speaking(fake) as engine:
        for _ in range(5):
            error, _ = await failure(engine, asked("Hello.", voice=NOBODY))
            assert (error.code, error.kind) == (Code.INPUT, Kind.INPUT)
        assert await word(engine, mark(1)) == mark(1)


async def test_a_server_that_is_not_there_is_a_typed_error() -> None:
    """At once."""
    fake = OpenAiSpeech()
    async with fake:
        section = fake.section()
    engine = remote(section)
    try:
        error, _ = await failure(engine, "Hello.")
        assert (error.code, error.kind, error.reason) == (Code.CONNECT, Kind.RETRYABLE, "network")
    finally:
        await engine.close()


# Aborts


async def test_a_segment_that_nobody_asked_a_piece_of_connects_nowhere() -> None:
    """Closed before it began."""
    async with OpenAiSpeech() as fake, speaking(fake) as engine:
        await engine.speak(asked("Hello.")).aclose()
        assert fake.connections == 0


async def test_an_abort_before_the_first_piece_closes_the_connection() -> None:
    """There is no other way to tell the server."""
    async with OpenAiSpeech(Script(latency_ms=60_000)) as fake, speaking(fake) as engine:
        task = asyncio.create_task(said(engine, "Hello."))
        await until(lambda: fake.sessions and fake.sessions[0].texts)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: fake.sessions[0].was_closed)


@pytest.mark.parametrize("fault", [None, Fault.parse("silent@stream")])
async def test_an_abort_in_the_middle_closes_the_connection(fault: Fault | None) -> None:
    """It is not used again; the next segment has another."""
    async with OpenAiSpeech(Script(drip_ms=20, fault=fault)) as fake, speaking(fake) as engine:
        pieces, _ = await begun(engine, LONG)
        await pieces.aclose()
        await until(lambda: fake.sessions[0].was_closed)
        fake.script = Script()
        assert await word(engine, mark(2)) == mark(2)
        assert fake.connections == 2


def test_its_host_may_be_a_name() -> None:
    """Looking it up costs threads."""
    assert remote({"type": "openai", "api_key": "k"}).is_named
    assert not remote({"type": "openai", "base_url": "http://127.0.0.1:1/v1"}).is_named


def test_certificates_are_read_when_it_is_made() -> None:
    """Which is off the loop: the first segment must not hold the loop for the tenth of a second that this takes."""
    trust.cache_clear()
    remote({"type": "openai", "api_key": "k"})
    assert trust.cache_info().currsize == 1
