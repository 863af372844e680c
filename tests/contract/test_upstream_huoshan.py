"""What is particular to Volcengine's bidirectional synthesis; the rest is in test_upstream_voices."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import REGISTRY

from bench.upstreams.huoshan import ACCESS_TOKEN, APPID, NOBODY, SPEAKER, Huoshan
from bench.upstreams.script import Script
from bench.upstreams.voice import spoken
from shared.errors import InvalidConfigError
from shared.upstream.faults import Code, Kind
from tests.fakes.remote_voice import (
    SECTION,
    begun,
    failure,
    mark,
    remote,
    said,
    speaking,
    until,
    word,
)
from tests.fakes.voice_services import LONG, faulty

pytestmark = pytest.mark.contract


def strays() -> float:
    return REGISTRY.get_sample_value("xz_tts_stray_messages_total", {"engine": SECTION}) or 0.0


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


async def test_a_connection_that_nobody_needs_is_taken_leave_of() -> None:
    """By the message that the service expects."""
    async with Huoshan() as fake, speaking(fake, warm_s=0.05) as engine:
        await said(engine, "One.")
        await until(lambda: not fake.open_connections)
        assert fake.farewells == 1


@pytest.mark.parametrize("is_pipelined", [True, False])
async def test_text_may_wait_for_the_start(is_pipelined: bool) -> None:
    """Either way it is heard, with a service that takes its time."""
    async with Huoshan(started_ms=50) as fake, speaking(fake, pipelined=is_pipelined) as engine:
        assert await word(engine, mark(1)) == mark(1)


# Refusals


async def test_a_voice_that_the_section_names_is_somebodys_to_mend() -> None:
    """There is no use in asking again."""
    async with Huoshan() as fake, speaking(fake, speaker=NOBODY) as engine:
        error, _ = await failure(engine, "Hello.")
        assert (error.code, error.kind) == (Code.REFUSED, Kind.FATAL)
        assert len(fake.sessions) == 1


# Aborts


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


async def test_sound_that_comes_after_the_end_is_counted() -> None:
    """The next session knows its own by its id, on the same connection."""
    async with Huoshan(faulty("late_audio@finish")) as fake, speaking(fake) as engine:
        before = strays()
        for number in range(2):
            await said(engine, mark(number))
        assert fake.connections == 1
        assert strays() > before


async def test_closing_the_engine_waits_for_no_confirmation() -> None:
    """The rig checks that no task and no connection is left."""
    async with Huoshan(faulty("silent@stream")) as fake, speaking(fake) as engine:
        pieces, _ = await begun(engine, LONG)
        await pieces.aclose()


# Many at once


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
