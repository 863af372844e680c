"""The client of a voiceprint server against its fake: who speaks is told in time, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from prometheus_client import REGISTRY

from bench.upstreams.script import Fault, Script
from bench.upstreams.voiceprint import KEY, Voiceprint
from shared.link.messages import Final, OpenAsr
from shared.listening import Mode
from shared.marks import Mark, sound_of
from shared.settings import AsrSettings, EngineChoice, VoiceprintSettings
from shared.voiceprint import UNKNOWN
from tests.fakes.asr_stream import AsrStream
from tests.fakes.speech import joined, packets, say, silence
from workers.asr.service import AsrService
from workers.asr.timeline import RATE_HZ
from workers.asr.voiceprint.speakers import Speakers

pytestmark = pytest.mark.contract

ZHANG, LI, STRANGER = Mark(1, 1), Mark(2, 1), Mark(3, 1)
LIST = (f"{ZHANG.word},张三,a programmer", f"{LI.word},李四,a teacher")
LONG_S = 20.0
"""Longer than any test; an answer is there before, or the test fails."""


def pcm_of(mark: Mark, seconds: float = 1.0) -> bytes:
    wave = sound_of(mark, 0, int(seconds * RATE_HZ), RATE_HZ, 0.1)
    return (wave * 32767).astype("<i2").tobytes()


def settings(fake: Voiceprint, **others: Any) -> VoiceprintSettings:
    return VoiceprintSettings(url=fake.url, speakers=LIST, **{"max_wait_s": 5.0, **others})


def results(result: str) -> float:
    return REGISTRY.get_sample_value("xz_voiceprint_results_total", {"result": result}) or 0.0


@pytest.fixture
async def fake() -> AsyncIterator[Voiceprint]:
    async with Voiceprint() as running:
        yield running


def made(fake: Voiceprint, **others: Any) -> Speakers:
    speakers = Speakers.of(settings(fake, **others))
    assert speakers is not None
    return speakers


async def who(speakers: Speakers, mark: Mark, seconds: float = 1.0) -> str | None:
    return await speakers.identify("s1", pcm_of(mark, seconds)).speaker(LONG_S)


@pytest.mark.parametrize(("mark", "name"), [(ZHANG, "张三"), (LI, "李四"), (STRANGER, UNKNOWN)])
async def test_a_voice_is_known_by_its_sound(fake: Voiceprint, mark: Mark, name: str) -> None:
    """The form carries all ids and the whole sound as a WAV file; the key is in the header."""
    speakers = made(fake)
    assert await who(speakers, mark) == name
    (session,) = fake.sessions
    assert session.started == {
        "speaker_ids": [ZHANG.word, LI.word],
        "filename": "audio.wav",
        "content_type": "audio/wav",
    }
    assert session.headers["authorization"] == f"Bearer {KEY}" and session.headers["accept"] == "application/json"
    assert session.audio_bytes == RATE_HZ * 2
    await speakers.close()


async def test_a_long_utterance_is_sent_whole(fake: Voiceprint) -> None:
    """Five minutes, the longest that can be configured."""
    speakers = made(fake)
    assert await who(speakers, LI, 300.0) == "李四"
    assert fake.sessions[0].audio_bytes == 300 * RATE_HZ * 2
    await speakers.close()


async def test_the_threshold_is_the_configured_one(fake: Voiceprint) -> None:
    """A voice that is less alike than that is nobody's."""
    speakers = made(fake, similarity_threshold=0.95)
    assert await who(speakers, ZHANG) == UNKNOWN
    await speakers.close()


async def test_fifty_at_once_cause_one_look_at_the_health(fake: Voiceprint) -> None:
    """And each gets its own answer."""
    speakers = made(fake)
    asked = [who(speakers, mark) for mark in (ZHANG, LI, STRANGER) * 17]
    assert await asyncio.gather(*asked) == ["张三", "李四", UNKNOWN] * 17
    assert fake.health_checks == 1 and len(fake.sessions) == 51
    await speakers.close()


@pytest.mark.parametrize("fault", ["error", "quota", "close", "garbage", "no_result"])
async def test_a_server_that_is_not_well_is_not_asked(fake: Voiceprint, fault: str) -> None:
    """A bad health is believed like a good one: it is not looked at again for every utterance."""
    fake.script = Script(fault=Fault.parse(f"{fault}@connect"))
    speakers = made(fake)
    before = results("unhealthy")
    assert await who(speakers, ZHANG) is None
    looks = fake.health_checks
    assert [await who(speakers, ZHANG) for _ in range(2)] == [None] * 2
    assert results("unhealthy") == before + 3
    assert fake.sessions == [] and fake.health_checks == looks
    await speakers.close()


async def test_a_server_that_is_away_is_not_asked() -> None:
    """Nobody listens at its port."""
    async with Voiceprint() as gone:
        pass
    speakers = made(gone)
    assert await who(speakers, ZHANG) is None
    await speakers.close()


@pytest.mark.parametrize("fault", ["error", "quota", "close", "garbage", "no_result"])
async def test_a_failed_identification_is_no_speaker(fake: Voiceprint, fault: str) -> None:
    """The words go on without one, and the next utterance is asked for again."""
    fake.script = Script(fault=Fault.parse(f"{fault}@start*1"))
    speakers = made(fake)
    before = results("failed")
    assert await who(speakers, ZHANG) is None
    assert results("failed") == before + 1 and fake.sessions[0].fault == fault
    assert await who(speakers, ZHANG) == "张三"
    await speakers.close()


async def test_an_id_that_nobody_asked_for_is_nobodys(fake: Voiceprint) -> None:
    """A server that knows more voices than our list."""
    fake.script = Script(fault=Fault.parse("wrong_session@start"))
    speakers = made(fake)
    assert await who(speakers, ZHANG) == UNKNOWN
    await speakers.close()


@pytest.mark.parametrize("stage", ["connect", "start"])
async def test_a_turn_is_not_held_longer_than_it_may_be(fake: Voiceprint, stage: str) -> None:
    """A server that says nothing: the transcript waits as long as is configured, and the answer is given up."""
    fake.script = Script(fault=Fault.parse(f"silent@{stage}"))
    speakers = made(fake, max_wait_s=0.2)
    asked = speakers.identify("s1", pcm_of(ZHANG))
    while not (fake.health_checks if stage == "connect" else fake.sessions):  # noqa: ASYNC110 - no event
        await asyncio.sleep(0.01)
    before, loop = results("late"), asyncio.get_running_loop()
    began_s = loop.time()
    assert await asked.speaker(LONG_S) is None
    held_s = loop.time() - began_s
    assert 0.19 < held_s < 2.5
    assert results("late") == before + 1
    await asyncio.wait((asked.task,))
    await speakers.close()


async def test_the_wait_ends_with_the_utterances_own_deadline(fake: Voiceprint) -> None:
    """A transcript that came late already has no half second more."""
    fake.script = Script(fault=Fault.parse("silent@start"))
    speakers = made(fake, max_wait_s=5.0)
    asked = speakers.identify("s1", pcm_of(ZHANG))
    async with asyncio.timeout(4.0):
        assert await asked.speaker(0.0) is None
        assert await speakers.identify("s2", pcm_of(ZHANG)).speaker(-1.0) is None
    await speakers.close()


async def test_what_came_while_the_words_were_recognised_costs_no_time(fake: Voiceprint) -> None:
    """It is asked in parallel: an answer that is there already is taken, even with no time left."""
    speakers = made(fake)
    asked = speakers.identify("s1", pcm_of(ZHANG))
    await asyncio.wait((asked.task,))
    assert await asked.speaker(0.0) == "张三"
    await speakers.close()


async def test_a_server_that_is_always_late_is_soon_not_asked(fake: Voiceprint) -> None:
    """After three late answers the turns are not held at all for a while."""
    fake.script = Script(fault=Fault.parse("silent@start"))
    speakers = made(fake, max_wait_s=0.05)
    for n in range(3):
        asked = speakers.identify("s1", pcm_of(ZHANG))
        while len(fake.sessions) <= n:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
        assert await asked.speaker(LONG_S) is None
        await asyncio.wait((asked.task,))
    patient = speakers.identify("s1", pcm_of(ZHANG))
    await asyncio.wait((patient.task,), timeout=LONG_S)
    assert patient.task.done() and len(fake.sessions) == 3
    await speakers.close()


async def test_what_nobody_waits_for_is_seen_at_the_server_at_once(fake: Voiceprint) -> None:
    """Words that were nothing, or a turn that was aborted: the request is closed."""
    fake.script = Script(fault=Fault.parse("silent@start"))
    speakers = made(fake)
    asked = speakers.identify("s1", pcm_of(ZHANG))
    async with asyncio.timeout(LONG_S):
        while not fake.sessions:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
        asked.drop()
        while not fake.sessions[0].was_closed:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await speakers.close()


async def test_closing_ends_what_is_under_way(fake: Voiceprint) -> None:
    """No task is left behind, whatever the server does."""
    fake.script = Script(fault=Fault.parse("silent@start"))
    speakers = made(fake)
    asked = [speakers.identify(f"s{n}", pcm_of(ZHANG)) for n in range(5)]
    async with asyncio.timeout(LONG_S):
        while len(fake.sessions) < 5:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
        await speakers.close()
    assert all(one.task.done() for one in asked)


@pytest.mark.parametrize("stage", ["connect", "start"])
@pytest.mark.parametrize("fault", ["error", "quota", "close", "garbage", "no_result"])
async def test_no_key_and_no_name_is_logged(
    fake: Voiceprint,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    fault: str,
    stage: str,
) -> None:
    """What goes wrong is told, without the address, which carries the key."""
    caplog.set_level("DEBUG")
    speakers = made(fake)
    fake.script = Script(fault=Fault.parse(f"{fault}@{stage}"))
    await who(speakers, ZHANG)
    logged = caplog.text + capsys.readouterr().out
    assert "voiceprint_" in logged and KEY not in logged and "张三" not in logged
    await speakers.close()


async def test_the_fake_hears_silence_as_nobody(fake: Voiceprint) -> None:
    """A test of a voice must not pass without one."""
    speakers = made(fake)
    assert await speakers.identify("s1", bytes(RATE_HZ)).speaker(LONG_S) == UNKNOWN
    await speakers.close()


# Behind an ear: real packets, voice detection and endpointing before a scripted recogniser


def ear_settings(**options: Any) -> AsrSettings:
    script = EngineChoice(name="Script", type="scripted", options={"text": "hello {mark}", **options})
    return AsrSettings(engine=script, engines={script.name: script}, capacity=20, final_timeout_s=10.0)


def marked(mark: Mark) -> list[bytes]:
    """Somebody says something, with a mark over it, between two silences."""
    voice = say("could you please tell me about the weather")
    tones = sound_of(mark, 0, len(voice), RATE_HZ, 0.05) * 32767
    spoken = np.clip(voice + tones, -32767, 32767).astype(np.int16)
    return packets(joined(silence(600), spoken, silence(1200)))


async def heard(service: AsrService, sent: list[bytes], mode: Mode = "auto", session: str = "s1") -> list[Final]:
    stream = AsrStream()
    job = service.open(stream, OpenAsr(session=session, mode=mode, position=0, utterance=0).to_map())
    for packet in sent:
        job.on_audio(packet)
    job.on_end()
    await stream.ended()
    return stream.of(Final)


@asynccontextmanager
async def ears(fake: Voiceprint, asr: AsrSettings, **others: Any) -> AsyncIterator[AsrService]:
    service = AsrService(asr, voiceprint=settings(fake, **others))
    await service.start()
    try:
        yield service
    finally:
        await service.close()


@pytest.mark.parametrize("mode", ["auto", "realtime", "manual"])
async def test_the_final_carries_the_speaker(fake: Voiceprint, mode: Mode) -> None:
    """In every mode, from the sound of the whole utterance."""
    async with ears(fake, ear_settings()) as service:
        (final,) = await heard(service, marked(ZHANG), mode)
    assert (final.text, final.speaker) == (f"hello {ZHANG.word}", "张三")
    assert fake.sessions[0].audio_bytes > RATE_HZ * 2


async def test_each_of_many_ears_gets_its_own_speaker(fake: Voiceprint) -> None:
    """Ten at once."""
    marks = [(ZHANG, LI, STRANGER)[n % 3] for n in range(10)]
    sounds = {mark: marked(mark) for mark in (ZHANG, LI, STRANGER)}
    names = {ZHANG: "张三", LI: "李四", STRANGER: UNKNOWN}
    async with ears(fake, ear_settings()) as service:
        finals = await asyncio.gather(*(heard(service, sounds[mark], session=f"s{n}") for n, mark in enumerate(marks)))
    assert [[one.speaker for one in each] for each in finals] == [[names[mark]] for mark in marks]


async def test_a_silent_server_costs_the_ear_its_speaker_and_no_more(fake: Voiceprint) -> None:
    """The text comes, once, without a speaker."""
    fake.script = Script(fault=Fault.parse("silent@start"))
    async with ears(fake, ear_settings(), max_wait_s=0.1) as service:
        (final,) = await heard(service, marked(ZHANG))
    assert (final.text, final.speaker) == (f"hello {ZHANG.word}", None)
    assert fake.sessions[0].was_closed


async def test_an_utterance_without_words_waits_for_nobody(fake: Voiceprint) -> None:
    """A cough has no speaker; the request is given up at once."""
    fake.script = Script(fault=Fault.parse("silent@start"))
    async with ears(fake, ear_settings(text=" ", delay_ms=50), max_wait_s=5.0) as service:
        before = REGISTRY.get_sample_value("xz_voiceprint_held_seconds_count")
        (final,) = await heard(service, marked(ZHANG))
        assert REGISTRY.get_sample_value("xz_voiceprint_held_seconds_count") == before
    assert (final.text.strip(), final.speaker) == ("", None)


async def test_without_a_server_nobody_is_asked(fake: Voiceprint) -> None:
    """The default."""
    service = AsrService(ear_settings())
    await service.start()
    (final,) = await heard(service, marked(ZHANG))
    await service.close()
    assert final.speaker is None and fake.connections == 0 and not fake.sessions
