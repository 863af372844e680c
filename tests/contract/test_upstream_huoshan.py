"""The client of Volcengine's bidirectional synthesis against a server that speaks its bytes and all its faults."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from prometheus_client import REGISTRY

from bench.upstreams.huoshan import ACCESS_TOKEN, APPID, NOBODY, SPEAKER, Huoshan
from bench.upstreams.script import Fault, Script
from bench.upstreams.voice import spoken
from shared.errors import InvalidConfigError
from shared.upstream.faults import Code, Kind
from tests.fakes.remote_voice import (
    SECTION,
    asked,
    begun,
    failure,
    impatient,
    mark,
    remote,
    said,
    speaking,
    until,
    word,
)

pytestmark = pytest.mark.contract

LONG = "Once upon a time there was a very small robot. " * 8
"""Speaks for more than twenty seconds."""


def strays() -> float:
    return REGISTRY.get_sample_value("xz_tts_stray_messages_total", {"engine": SECTION}) or 0.0


def faulty(fault: str, **more: int) -> Script:
    return Script(fault=Fault.parse(fault), **more)


async def test_a_segment_is_heard_as_it_was_told() -> None:
    """Keys, voice and sound of the section; every sample comes, in the order it was sent."""
    async with Huoshan() as fake, speaking(fake, speech_rate="20", loudness_rate=-10, pitch=2) as engine:
        assert await said(engine, "Hello there.") == spoken("Hello there.", 24_000)
        [session] = fake.sessions
        assert session.headers["x-api-app-key"] == APPID
        assert session.headers["x-api-access-key"] == ACCESS_TOKEN
        assert session.headers["x-api-resource-id"] == "volc.service_type.10029"
        assert session.headers["x-api-connect-id"]
        assert session.started == {
            "speaker": SPEAKER,
            "audio_params": {"speech_rate": 20, "loudness_rate": -10, "format": "pcm", "sample_rate": 24_000},
            "additions": '{"post_process": {"pitch": 2}}',
        }
        assert session.texts == ["Hello there."]
        assert session.was_finished


async def test_todays_nested_keys_are_passed_on() -> None:
    """`audio_params`, `additions` and `mix_speaker` reach the service; the format stays the one we can play."""
    nested = {
        "audio_params": {"speech_rate": 5, "emotion": "happy", "format": "mp3", "sample_rate": 8000},
        "additions": {"post_process": {"pitch": 1}, "cache_config": {}},
        "mix_speaker": {"speakers": []},
    }
    async with Huoshan() as fake, speaking(fake, **nested, sample_rate=16_000) as engine:
        assert await said(engine, "Hello.") == spoken("Hello.", 16_000)
        assert engine.sample_rate == 16_000
        [session] = fake.sessions
        assert session.started["audio_params"] == {
            "speech_rate": 5,
            "loudness_rate": 0,
            "emotion": "happy",
            "format": "pcm",
            "sample_rate": 16_000,
        }
        assert session.started["additions"] == '{"post_process": {"pitch": 1}, "cache_config": {}}'
        assert session.started["mix_speaker"] == {"speakers": []}


async def test_a_devices_voice_overrules_the_sections() -> None:
    """Only if it has one."""
    async with Huoshan() as fake, speaking(fake) as engine:
        await said(engine, asked("Hello.", voice="another"))
        await said(engine, "Hello.")
    assert [session.started["speaker"] for session in fake.sessions] == ["another", SPEAKER]


@pytest.mark.parametrize("starts_connection", [True, False])
async def test_sessions_follow_each_other_on_one_connection(starts_connection: bool) -> None:
    """The handshake is the connection's, not the session's, and may be left out; each session has an id of its own."""
    async with Huoshan() as fake, speaking(fake, start_connection=starts_connection) as engine:
        for number in range(5):
            assert await word(engine, mark(number)) == mark(number)
        assert (fake.connections, fake.handshakes, fake.overlaps) == (1, int(starts_connection), 0)
    assert len({session.id for session in fake.sessions}) == 5


async def test_without_reuse_each_segment_has_a_connection() -> None:
    """`enable_ws_reuse: false`, also as the text that today's console writes."""
    async with Huoshan() as fake, speaking(fake, enable_ws_reuse="false") as engine:
        await said(engine, "One.")
        await until(lambda: not fake.open_connections)
        await said(engine, "Two.")
        assert fake.connections == 2


async def test_an_unused_connection_is_closed() -> None:
    """Nobody asks again, so nobody keeps it."""
    async with Huoshan() as fake, speaking(fake, warm_s=0.05) as engine:
        await said(engine, "One.")
        await until(lambda: not fake.open_connections)
        assert await word(engine, mark(2)) == mark(2)
        assert fake.farewells == 1


async def test_a_connection_that_died_in_its_sleep_costs_no_segment() -> None:
    """A new one is made, or the segment is asked for once more."""
    async with Huoshan() as fake, speaking(fake) as engine:
        await said(engine, "One.")
        await fake.close()
        await fake.start()
        assert await word(engine, mark(2)) == mark(2)
        assert fake.connections == 2


@pytest.mark.parametrize("is_pipelined", [True, False])
async def test_text_may_wait_for_the_start(is_pipelined: bool) -> None:
    """Either way it is heard, with a service that takes its time."""
    async with Huoshan(started_ms=50) as fake, speaking(fake, pipelined=is_pipelined) as engine:
        assert await word(engine, mark(1)) == mark(1)


@pytest.mark.parametrize("text", ["a", "好", "今天是 Monday，明天是 Tuesday。"])
async def test_short_and_mixed_texts_are_told_whole(text: str) -> None:
    """Chinese is not touched on its way."""
    async with Huoshan() as fake, speaking(fake) as engine:
        assert await said(engine, text) == spoken(text, 24_000)
        assert fake.sessions[0].texts == [text]


async def test_five_thousand_characters_are_one_session() -> None:
    """Told in pieces, heard whole."""
    text = ("今天天气很好 and the robot sings. " * 250)[:5000]
    async with Huoshan() as fake, speaking(fake, sample_rate=8000) as engine:
        sound = await said(engine, text)
        [session] = fake.sessions
        assert len(session.texts) > 1
        assert "".join(session.texts) == text
        assert sound == b"".join(spoken(piece, 8000) for piece in session.texts)


# Faults

BEFORE_ANY_SOUND = [
    ("silent@connect", Code.CONNECT_TIMEOUT, Kind.RETRYABLE),
    ("error@connect", Code.REFUSED, Kind.RETRYABLE),
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
async def test_a_fault_before_the_first_sound_is_a_typed_error(fault: str, code: str, kind: Kind) -> None:
    """Within the deadline, after one more attempt if that may help; no key is in the error."""
    async with Huoshan(faulty(fault)) as fake, speaking(fake, **impatient(fault, 0.4)) as engine:
        error, sound = await failure(engine, "Hello.")
        assert (error.code, error.kind, sound) == (code, kind, b"")
        assert fake.connections == (2 if kind is Kind.RETRYABLE else 1)
        assert ACCESS_TOKEN not in f"{error!r} {error} {error.__cause__!r}"


@pytest.mark.parametrize("fault", [fault for fault, _, kind in BEFORE_ANY_SOUND if kind is Kind.RETRYABLE])
async def test_a_passing_fault_is_not_noticed(fault: str) -> None:
    """The one retry is heard, whole and once."""
    options = impatient(fault, 2)
    async with Huoshan(faulty(f"{fault}*1")) as fake, speaking(fake, **options) as engine:
        assert await said(engine, mark(7)) == spoken(mark(7), 24_000)


@pytest.mark.parametrize(("fault", "code"), LATER)
async def test_a_fault_after_the_first_sound_ends_the_segment(fault: str, code: str) -> None:
    """What came is heard and nothing twice: there is no second attempt, and the connection is not used again."""
    async with Huoshan(faulty(f"{fault}*1")) as fake, speaking(fake, **impatient(fault, 2)) as engine:
        error, sound = await failure(engine, mark(1))
        assert error.code == code
        assert sound
        assert spoken(mark(1), 24_000).startswith(sound)
        assert len(fake.sessions) == 1
        assert await word(engine, mark(2)) == mark(2)
        assert fake.connections == 2


@pytest.mark.parametrize("fault", ["wrong_session@start", "wrong_session@stream", "wrong_session@finish"])
async def test_another_sessions_messages_are_not_heard(fault: str) -> None:
    """Neither its sound nor its end nor its failure."""
    async with Huoshan(faulty(fault)) as fake, speaking(fake) as engine:
        assert await said(engine, mark(3)) == spoken(mark(3), 24_000)


async def test_sound_that_comes_after_the_end_is_not_heard_by_the_next() -> None:
    """The connection is kept, and the next session knows its own sound by its id."""
    async with Huoshan(faulty("late_audio@finish")) as fake, speaking(fake) as engine:
        before = strays()
        for number in range(4):
            assert await said(engine, mark(number)) == spoken(mark(number), 24_000)
        assert fake.connections == 1
        assert strays() > before


# Refusals


async def test_a_wrong_key_is_not_tried_again() -> None:
    """It opens the breaker: the next segment goes to the fallback without asking."""
    async with Huoshan() as fake, speaking(fake, access_token="wrong") as engine:
        error, _ = await failure(engine, "Hello.")
        assert (error.code, error.kind) == (Code.AUTH, Kind.FATAL)
        assert "wrong" not in f"{error!r} {error}"
        error, _ = await failure(engine, "Hello.")
        assert error.code == Code.OPEN
        assert fake.connections == 1


async def test_a_voice_that_a_device_asked_for_is_its_own_fault() -> None:
    """The breaker stays closed for the others."""
    async with Huoshan() as fake, speaking(fake) as engine:
        for _ in range(8):
            error, _ = await failure(engine, asked("Hello.", voice=NOBODY))
            assert (error.code, error.kind) == (Code.INPUT, Kind.INPUT)
        assert await word(engine, mark(1)) == mark(1)
        assert len(fake.sessions) == 9


async def test_a_voice_that_the_section_names_is_somebodys_to_mend() -> None:
    """There is no use in asking again."""
    async with Huoshan() as fake, speaking(fake, speaker=NOBODY) as engine:
        error, _ = await failure(engine, "Hello.")
        assert (error.code, error.kind) == (Code.REFUSED, Kind.FATAL)
        assert len(fake.sessions) == 1


# Aborts


async def test_a_segment_that_nobody_asked_a_piece_of_connects_nowhere() -> None:
    """Closed before it began."""
    async with Huoshan() as fake, speaking(fake) as engine:
        await engine.speak(asked("Hello.")).aclose()
        assert fake.connections == 0


async def test_an_abort_while_connecting_leaves_nothing() -> None:
    """The half-open connection is cut at once."""
    async with Huoshan(faulty("silent@connect")) as fake, speaking(fake) as engine:
        task = asyncio.create_task(said(engine, "Hello."))
        await until(lambda: fake.connections)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert fake.sessions == []


async def test_an_abort_before_the_first_piece_cancels_the_session() -> None:
    """The service is told, and its connection serves the next segment as soon as it has confirmed."""
    async with Huoshan(Script(latency_ms=60_000)) as fake, speaking(fake) as engine:
        task = asyncio.create_task(said(engine, "Hello."))
        await until(lambda: fake.sessions and fake.sessions[0].was_finished)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: fake.sessions[0].was_cancelled and not fake.speaking)
        fake.script = Script()
        assert await word(engine, mark(2)) == mark(2)


async def test_an_abort_in_the_middle_cancels_the_session_and_keeps_the_connection() -> None:
    """CancelSession goes out at once and the next session follows its confirmation on the same connection."""
    async with Huoshan(Script(drip_ms=20)) as fake, speaking(fake, max_sessions=1) as engine:
        for number in range(3):
            pieces, _ = await begun(engine, LONG)
            await pieces.aclose()
            assert await word(engine, mark(number)) == mark(number)
        assert [session.was_cancelled for session in fake.sessions] == [True, False] * 3
        assert (fake.connections, fake.overlaps) == (1, 0)


async def test_an_abort_after_the_last_piece_leaves_a_connection_that_serves() -> None:
    """Whether the service's end or our cancel came first."""
    async with Huoshan() as fake, speaking(fake, max_sessions=1) as engine:
        for number in range(5):
            pieces, sound = await begun(engine, mark(number))
            whole = len(spoken(mark(number), 24_000))
            while len(sound) < whole:
                sound += await anext(pieces)
            await pieces.aclose()
            assert await word(engine, mark(number + 10)) == mark(number + 10)
        assert fake.overlaps == 0


async def test_a_cancel_that_is_not_confirmed_costs_the_connection_and_no_time() -> None:
    """The abort itself returns at once; its connection and its seat are free a moment later."""
    async with (
        Huoshan(faulty("silent@stream*1")) as fake,
        speaking(fake, max_sessions=1, cancel_timeout_s=0.2) as engine,
    ):
        pieces, _ = await begun(engine, LONG)
        await pieces.aclose()
        assert not fake.sessions[0].was_cancelled, "the abort has waited"
        assert await word(engine, mark(2)) == mark(2)
        assert fake.sessions[0].was_cancelled
        assert fake.connections == 2


async def test_sound_that_goes_on_after_a_cancel_is_not_heard_by_the_next() -> None:
    """The service says that it has cancelled and speaks on: its sound has the old id."""
    async with Huoshan(faulty("late_audio@stream*1", drip_ms=5)) as fake, speaking(fake) as engine:
        pieces, _ = await begun(engine, LONG)
        await pieces.aclose()
        await until(lambda: fake.sessions[0].was_cancelled)
        for number in range(5):
            assert await said(engine, mark(number)) == spoken(mark(number), 24_000)


async def test_an_abort_counts_neither_for_nor_against_the_service() -> None:
    """Twenty people interrupt, and the breaker is as before."""
    async with Huoshan(Script(drip_ms=20)) as fake, speaking(fake) as engine:
        for _ in range(20):
            pieces, _ = await begun(engine, LONG)
            await pieces.aclose()
        assert await word(engine, mark(1)) == mark(1)
        assert fake.overlaps == 0


async def test_closing_the_engine_waits_for_no_confirmation() -> None:
    """The rig checks that no task and no connection is left."""
    async with Huoshan(faulty("silent@stream")) as fake, speaking(fake) as engine:
        pieces, _ = await begun(engine, LONG)
        await pieces.aclose()


# Many at once


async def test_a_hundred_at_once_share_ten_seats_and_hear_their_own() -> None:
    """The provider never sees an eleventh session, nobody is refused, and no sound goes astray."""
    async with Huoshan(max_sessions=10) as fake, speaking(fake) as engine:
        words = await asyncio.gather(*(word(engine, mark(number)) for number in range(100)))
        assert words == [mark(number) for number in range(100)]
        assert fake.most_speaking <= 10
        assert fake.overlaps == 0
        assert Counter(session.fault for session in fake.sessions) == {"": 100}


async def test_a_hundred_at_once_with_interruptions_keep_the_quota() -> None:
    """A seat is free only when the service has confirmed the cancel."""
    async with Huoshan(Script(drip_ms=2), max_sessions=10) as fake, speaking(fake) as engine:

        async def person(number: int) -> str:
            if number % 3:
                return await word(engine, mark(number))
            pieces, _ = await begun(engine, LONG)
            await pieces.aclose()
            return mark(number)

        words = await asyncio.gather(*(person(number) for number in range(100)))
        assert words == [mark(number) for number in range(100)]
        assert fake.most_speaking <= 10
        assert fake.overlaps == 0


async def test_who_finds_no_seat_in_time_goes_without() -> None:
    """A bounded wait, then the fallback's turn."""
    async with Huoshan(Script(drip_ms=50)) as fake, speaking(fake, max_sessions=1, queue_timeout_s=0.1) as engine:
        pieces, _ = await begun(engine, LONG)
        error, _ = await failure(engine, "Hello.")
        assert (error.code, error.kind) == (Code.BUSY, Kind.QUOTA)
        await pieces.aclose()


# Configuration


@pytest.mark.parametrize("key", ["appid", "access_token", "speaker"])
def test_a_missing_key_is_named(key: str) -> None:
    """At the start, with what was expected."""
    section = {"type": "huoshan_double_stream", "appid": "a", "access_token": "b", "speaker": "c", key: "你的值"}
    with pytest.raises(InvalidConfigError, match=rf"TTS\.Voice\.{key}: "):
        remote(section)


def test_a_wrong_number_is_named_with_its_value() -> None:
    """Every wrong key is named, and no secret is shown."""
    options = {"appid": "a", "access_token": "hush", "speaker": "c", "speech_rate": 1000, "sample_rate": "44100"}
    with pytest.raises(InvalidConfigError) as caught:
        remote({"type": "huoshan_double_stream", **options})
    assert [error.key for error in caught.value.errors] == ["TTS.Voice.sample_rate", "TTS.Voice.speech_rate"]
    assert "hush" not in str(caught.value)
