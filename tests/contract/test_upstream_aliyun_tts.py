"""The client of Alibaba's streaming synthesis against a server that speaks its messages and all its faults."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from bench.upstreams.aliyun_asr import KEY_ID, SECRET, AliyunAsr
from bench.upstreams.aliyun_tts import APPKEY, NOBODY, TOKEN, AliyunTts
from bench.upstreams.script import Fault, Script
from bench.upstreams.voice import spoken
from shared.config.options.aliyun import AliyunTtsOptions
from shared.errors import InvalidConfigError
from shared.settings import EngineChoice
from shared.upstream.faults import Code, Kind
from tests.fakes.remote_voice import asked, begun, failure, impatient, mark, remote, said, speaking, until, word

pytestmark = pytest.mark.contract

LONG = "Once upon a time there was a very small robot. " * 8
"""Speaks for more than twenty seconds."""


def faulty(fault: str, **more: int) -> Script:
    return Script(fault=Fault.parse(fault), **more)


async def test_a_segment_is_heard_as_it_was_told() -> None:
    """Keys, voice and sound of the section; every sample comes, in the order it was sent."""
    options = {"voice": "longwan", "volume": "70", "speech_rate": -100, "pitch_rate": 30, "format": "pcm"}
    async with AliyunTts() as fake, speaking(fake, **options) as engine:
        assert await said(engine, "Hello there.") == spoken("Hello there.", 24_000)
        [session] = fake.sessions
        assert session.headers["x-nls-token"] == TOKEN
        assert session.started == {
            "voice": "longwan",
            "format": "pcm",
            "sample_rate": 24_000,
            "volume": 70,
            "speech_rate": -100,
            "pitch_rate": 30,
        }
        assert session.texts == ["Hello there."]
        assert session.was_finished


async def test_a_devices_voice_overrules_the_sections() -> None:
    """Only if it has one."""
    async with AliyunTts() as fake, speaking(fake) as engine:
        await said(engine, asked("Hello.", voice="longwan"))
        await said(engine, "Hello.")
    assert [session.started["voice"] for session in fake.sessions] == ["longwan", "longxiaochun"]


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 24_000, 48_000])
async def test_the_rate_is_the_sections(rate_hz: int) -> None:
    """Asked for and told to the worker."""
    async with AliyunTts() as fake, speaking(fake, sample_rate=str(rate_hz)) as engine:
        assert engine.sample_rate == rate_hz
        assert await said(engine, "Hello.") == spoken("Hello.", rate_hz)


async def test_tasks_follow_each_other_on_one_connection() -> None:
    """Each has an id of its own; the service is slow to confirm the start."""
    async with AliyunTts(started_ms=10) as fake, speaking(fake) as engine:
        for number in range(5):
            assert await word(engine, mark(number)) == mark(number)
        assert fake.connections == 1
    assert len({session.id for session in fake.sessions}) == 5


async def test_an_unused_connection_is_closed() -> None:
    """Before the service hangs up, which it does after ten seconds."""
    async with AliyunTts() as fake, speaking(fake, warm_s=0.05) as engine:
        await said(engine, "One.")
        await until(lambda: not fake.open_connections)
        assert await word(engine, mark(2)) == mark(2)


async def test_a_connection_that_died_in_its_sleep_costs_no_segment() -> None:
    """A new one is made, or the segment is asked for once more."""
    async with AliyunTts() as fake, speaking(fake) as engine:
        await said(engine, "One.")
        await fake.close()
        await fake.start()
        assert await word(engine, mark(2)) == mark(2)
        assert fake.connections == 2


async def test_text_waits_for_the_start_as_documented() -> None:
    """A service that refuses text before SynthesisStarted speaks."""
    async with AliyunTts(started_ms=30, is_strict=True) as fake, speaking(fake) as engine:
        assert await word(engine, mark(1)) == mark(1)


async def test_text_may_follow_the_start_at_once() -> None:
    """By option; a service that does not take it so says it, and that is an error like any other."""
    async with AliyunTts(started_ms=30) as fake, speaking(fake, pipelined=True) as engine:
        assert await word(engine, mark(1)) == mark(1)
    async with AliyunTts(started_ms=30, is_strict=True) as fake, speaking(fake, pipelined=True) as engine:
        error, _ = await failure(engine, "Hello.")
        assert (error.code, error.reason) == (Code.REFUSED, "40000002")


@pytest.mark.parametrize("text", ["a", "好", "今天是 Monday，明天是 Tuesday。"])
async def test_short_and_mixed_texts_are_told_whole(text: str) -> None:
    """Chinese is not touched on its way."""
    async with AliyunTts() as fake, speaking(fake) as engine:
        assert await said(engine, text) == spoken(text, 24_000)
        assert fake.sessions[0].texts == [text]


async def test_five_thousand_characters_are_one_task() -> None:
    """Told in pieces, heard whole."""
    text = ("今天天气很好 and the robot sings. " * 250)[:5000]
    async with AliyunTts() as fake, speaking(fake, sample_rate=8000) as engine:
        sound = await said(engine, text)
        [session] = fake.sessions
        assert len(session.texts) > 1
        assert "".join(session.texts) == text
        assert sound == b"".join(spoken(piece, 8000) for piece in session.texts)


# Faults

BEFORE_ANY_SOUND = [
    ("silent@connect", Code.CONNECT_TIMEOUT, Kind.RETRYABLE),
    ("error@connect", Code.FAILED, Kind.RETRYABLE),
    ("quota@connect", Code.QUOTA, Kind.QUOTA),
    ("close@connect", Code.CONNECT, Kind.RETRYABLE),
    ("garbage@connect", Code.CONNECT, Kind.RETRYABLE),
    ("silent@start", Code.FIRST_TIMEOUT, Kind.RETRYABLE),
    ("error@start", Code.FAILED, Kind.RETRYABLE),
    ("quota@start", Code.QUOTA, Kind.QUOTA),
    ("close@start", Code.CLOSED, Kind.RETRYABLE),
    ("garbage@start", Code.MALFORMED, Kind.RETRYABLE),
    ("no_result@finish", Code.NO_RESULT, Kind.RETRYABLE),
    ("no_speech@finish", Code.NO_RESULT, Kind.RETRYABLE),
]
LATER = [
    (f"{kind}@{stage}", code)
    for kind, code in (
        ("silent", Code.IDLE_TIMEOUT),
        ("error", Code.FAILED),
        ("quota", Code.QUOTA),
        ("close", Code.CLOSED),
        ("garbage", Code.MALFORMED),
    )
    for stage in ("stream", "finish")
]


@pytest.mark.parametrize(("fault", "code", "kind"), BEFORE_ANY_SOUND)
@pytest.mark.parametrize("is_pipelined", [False, True])
async def test_a_fault_before_the_first_sound_is_a_typed_error(
    fault: str, code: str, kind: Kind, is_pipelined: bool
) -> None:
    """Within the deadline, after one more attempt if that may help; no key is in the error."""
    options = {"pipelined": is_pipelined, **impatient(fault, 0.4)}
    async with AliyunTts(faulty(fault)) as fake, speaking(fake, **options) as engine:
        error, sound = await failure(engine, "Hello.")
        assert (error.code, error.kind, sound) == (code, kind, b"")
        assert fake.connections == (2 if kind is Kind.RETRYABLE else 1)
        assert TOKEN not in f"{error!r} {error} {error.__cause__!r}"


@pytest.mark.parametrize("fault", [fault for fault, _, kind in BEFORE_ANY_SOUND if kind is Kind.RETRYABLE])
async def test_a_passing_fault_is_not_noticed(fault: str) -> None:
    """The one retry is heard, whole and once."""
    options = impatient(fault, 2)
    async with AliyunTts(faulty(f"{fault}*1")) as fake, speaking(fake, **options) as engine:
        assert await said(engine, mark(7)) == spoken(mark(7), 24_000)


@pytest.mark.parametrize(("fault", "code"), LATER)
async def test_a_fault_after_the_first_sound_ends_the_segment(fault: str, code: str) -> None:
    """What came is heard and nothing twice: there is no second attempt, and the connection is not used again."""
    # Bytes that are no event are sound to this protocol, so that garbage is the text behind them.
    async with AliyunTts(faulty(f"{fault}*1")) as fake, speaking(fake, **impatient(fault, 2)) as engine:
        error, sound = await failure(engine, mark(1))
        assert error.code == code
        assert sound
        assert "garbage" in fault or spoken(mark(1), 24_000).startswith(sound)
        assert len(fake.sessions) == 1
        assert await word(engine, mark(2)) == mark(2)
        assert fake.connections == 2


@pytest.mark.parametrize("fault", ["wrong_session@start", "wrong_session@stream", "wrong_session@finish"])
async def test_another_tasks_events_are_not_heeded(fault: str) -> None:
    """Neither its end nor its failure."""
    async with AliyunTts(faulty(fault)) as fake, speaking(fake) as engine:
        assert await said(engine, mark(3)) == spoken(mark(3), 24_000)


@pytest.mark.parametrize("is_pipelined", [False, True])
async def test_sound_that_comes_after_the_end_is_not_heard_by_the_next(is_pipelined: bool) -> None:
    """The next task's own sound begins behind its SynthesisStarted."""
    async with (
        AliyunTts(faulty("late_audio@finish"), started_ms=5) as fake,
        speaking(fake, pipelined=is_pipelined) as engine,
    ):
        for number in range(4):
            assert await said(engine, mark(number)) == spoken(mark(number), 24_000)
        assert fake.connections == 1


# Refusals


async def test_a_configured_token_that_is_refused_is_not_tried_again() -> None:
    """It opens the breaker: the next segment goes to the fallback without asking."""
    async with AliyunTts() as fake, speaking(fake, token="wrong") as engine:
        error, _ = await failure(engine, "Hello.")
        assert (error.code, error.kind) == (Code.AUTH, Kind.FATAL)
        error, _ = await failure(engine, "Hello.")
        assert error.code == Code.OPEN
        assert fake.connections == 1


async def test_a_token_that_the_service_took_back_is_fetched_anew() -> None:
    """Whether the upgrade or the start is refused, nobody notices, and the old connections are not asked again."""
    async with AliyunAsr() as issuer, AliyunTts() as fake:
        keys = {"token": "", "access_key_id": KEY_ID, "access_key_secret": SECRET, "token_url": issuer.token_url}
        fake.tokens = issuer.tokens
        async with speaking(fake, **keys) as engine:
            assert await word(engine, mark(1)) == mark(1)
            issuer.tokens.clear()
            assert await word(engine, mark(2)) == mark(2)
            assert await word(engine, mark(3)) == mark(3)
            assert issuer.token_requests == 2
            assert fake.connections == 2
    tokens = [session.headers["x-nls-token"] for session in fake.sessions]
    assert tokens[0] == tokens[1] != tokens[2] == tokens[3]


async def test_a_wrong_appkey_is_somebodys_to_mend() -> None:
    """There is no use in asking again."""
    async with AliyunTts() as fake, speaking(fake, appkey="wrong") as engine:
        error, _ = await failure(engine, "Hello.")
        assert (error.code, error.kind) == (Code.AUTH, Kind.FATAL)
        assert len(fake.sessions) == 1


async def test_a_voice_that_a_device_asked_for_is_its_own_fault() -> None:
    """The breaker stays closed for the others."""
    async with AliyunTts() as fake, speaking(fake) as engine:
        for _ in range(8):
            error, _ = await failure(engine, asked("Hello.", voice=NOBODY))
            assert (error.code, error.kind) == (Code.INPUT, Kind.INPUT)
        assert await word(engine, mark(1)) == mark(1)
        assert len(fake.sessions) == 9


# Aborts


async def test_a_segment_that_nobody_asked_a_piece_of_connects_nowhere() -> None:
    """Closed before it began."""
    async with AliyunTts() as fake, speaking(fake) as engine:
        await engine.speak(asked("Hello.")).aclose()
        assert fake.connections == 0


async def test_an_abort_while_connecting_leaves_nothing() -> None:
    """The half-open connection is cut at once."""
    async with AliyunTts(faulty("silent@connect")) as fake, speaking(fake) as engine:
        task = asyncio.create_task(said(engine, "Hello."))
        await until(lambda: fake.connections)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert fake.sessions == []


async def test_an_abort_before_the_first_piece_closes_the_connection() -> None:
    """There is no other way to say it."""
    async with AliyunTts(Script(latency_ms=60_000)) as fake, speaking(fake) as engine:
        task = asyncio.create_task(said(engine, "Hello."))
        await until(lambda: fake.sessions and fake.sessions[0].was_finished)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: fake.sessions[0].was_closed and not fake.speaking)
        fake.script = Script()
        assert await word(engine, mark(2)) == mark(2)
        assert fake.connections == 2


async def test_an_aborted_tasks_connection_is_never_used_again() -> None:
    """Its sound, which goes on and names no task, is not heard by the next."""
    async with AliyunTts(faulty("late_audio@stream", drip_ms=5)) as fake, speaking(fake) as engine:
        for number in range(3):
            pieces, _ = await begun(engine, LONG)
            await pieces.aclose()
            assert await said(engine, mark(number)) == spoken(mark(number), 24_000)
        await until(lambda: [session.was_closed for session in fake.sessions] == [True, False] * 3)
        # The connection of a task that came to its end serves the next, the aborted ones' do not.
        assert fake.connections == 4


async def test_an_abort_after_the_last_piece_leaves_no_old_sound() -> None:
    """Its end had not been read: the connection is closed."""
    async with AliyunTts() as fake, speaking(fake) as engine:
        for number in range(5):
            pieces, sound = await begun(engine, mark(number))
            while len(sound) < len(spoken(mark(number), 24_000)):
                sound += await anext(pieces)
            await pieces.aclose()
            assert await said(engine, mark(number + 10)) == spoken(mark(number + 10), 24_000)


async def test_an_abort_counts_neither_for_nor_against_the_service() -> None:
    """Twenty people interrupt, and the breaker is as before."""
    async with AliyunTts(Script(drip_ms=20)) as fake, speaking(fake) as engine:
        for _ in range(20):
            pieces, _ = await begun(engine, LONG)
            await pieces.aclose()
        assert await word(engine, mark(1)) == mark(1)


# Many at once


async def test_a_hundred_at_once_share_ten_seats_and_hear_their_own() -> None:
    """The provider never sees an eleventh task, nobody is refused, and no sound goes astray."""
    async with AliyunTts(max_sessions=10) as fake, speaking(fake, max_sessions=10) as engine:
        words = await asyncio.gather(*(word(engine, mark(number)) for number in range(100)))
        assert words == [mark(number) for number in range(100)]
        assert fake.most_speaking <= 10
        assert Counter(session.fault for session in fake.sessions) == {"": 100}


async def test_who_finds_no_seat_in_time_goes_without() -> None:
    """A bounded wait, then the fallback's turn."""
    async with AliyunTts(Script(drip_ms=50)) as fake, speaking(fake, max_sessions=1, queue_timeout_s=0.1) as engine:
        pieces, _ = await begun(engine, LONG)
        error, _ = await failure(engine, "Hello.")
        assert (error.code, error.kind) == (Code.BUSY, Kind.QUOTA)
        await pieces.aclose()


# Configuration


def test_a_missing_key_is_named() -> None:
    """At the start, with what was expected; an example that was not filled in counts as missing."""
    with pytest.raises(InvalidConfigError) as caught:
        remote({"type": "aliyun_stream", "appkey": "你的阿里云项目Appkey", "token": "x"})
    assert [error.key for error in caught.value.errors] == ["TTS.Voice.appkey"]
    with pytest.raises(InvalidConfigError) as caught:
        remote({"type": "aliyun_stream", "appkey": APPKEY, "access_key_id": "alone"})
    assert [error.key for error in caught.value.errors] == ["TTS.Voice.access_key_id"]


def test_wrong_numbers_are_named() -> None:
    """All of them at once."""
    options = {"appkey": APPKEY, "token": "hush", "volume": 101, "speech_rate": "fast", "sample_rate": 11_025}
    with pytest.raises(InvalidConfigError) as caught:
        remote({"type": "aliyun_stream", **options})
    keys = [error.key.rpartition(".")[2] for error in caught.value.errors]
    assert sorted(keys) == ["sample_rate", "speech_rate", "volume"]
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "wss://nls-gateway-cn-beijing.aliyuncs.com/ws/v1"),
        ("nls-gateway-cn-shanghai.aliyuncs.com", "wss://nls-gateway-cn-shanghai.aliyuncs.com/ws/v1"),
        ("nls-gateway-cn-beijing-internal.aliyuncs.com", "ws://nls-gateway-cn-beijing-internal.aliyuncs.com:80/ws/v1"),
    ],
)
def test_the_gateway_is_the_hosts(host: str, url: str) -> None:
    """Without a host it is Beijing, where the voices are."""
    choice = EngineChoice(name="V", type="aliyun_stream", options={"appkey": "a", "token": "b", "host": host})
    assert AliyunTtsOptions.of(choice).url == url
