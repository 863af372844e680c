"""A stream from OPEN to DONE: real decoding, voice detection and endpointing before a scripted recogniser."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import soxr
from prometheus_client import REGISTRY

from shared.errors import ConfigError, EngineError
from shared.link.messages import AsrCredit, Final, OpenAsr, Partial, SpeechEnd, SpeechHeld, SpeechStart
from shared.listening import Mode, VadProfile
from shared.process.watchdog import Watchdog
from shared.settings import AsrSettings, EngineChoice
from shared.worker.service import Job
from tests.fakes.asr_stream import AsrStream
from tests.fakes.speech import joined, noise, packets, say, silence
from workers.asr.engines.engine import Brief, OnLoss, Recogniser, Transcript
from workers.asr.engines.whole import WholeUtterance
from workers.asr.free_listening import FreeListening
from workers.asr.recognisers import Recognisers
from workers.asr.service import AsrService
from workers.asr.utterance import Recognition
from workers.asr.vad import VoiceDetector

pytestmark = pytest.mark.unit

TWO = "what time is it", "tell me a joke"


def scripted(name: str, **options: Any) -> EngineChoice:
    return EngineChoice(name=name, type="scripted", options=options)


def asr_settings(recognisers: int = 8, **extra: Any) -> AsrSettings:
    sections = [
        scripted("Script", recognisers=recognisers),
        scripted("Words", partials=True, text="one two three"),
        scripted("Slow", delay_ms=300),
        scripted("Raises", fail="raise"),
        scripted("Sleeps", fail="sleep"),
    ]
    return AsrSettings(
        engine=sections[0],
        engines={one.name: one for one in sections},
        capacity=50,
        final_timeout_s=extra.pop("final_timeout_s", 1.0),
        **extra,
    )


@pytest_asyncio.fixture
async def service() -> AsyncIterator[AsrService]:
    service = AsrService(asr_settings())
    await service.start()
    yield service
    await service.close()


def opened(service: AsrService, mode: Mode = "auto", **fields: Any) -> tuple[AsrStream, Job]:
    stream = AsrStream()
    spec = OpenAsr(session=fields.pop("session", "s1"), mode=mode, **({"position": 0, "utterance": 0} | fields))
    return stream, service.open(stream, spec.to_map())


def two_utterances() -> list[bytes]:
    return packets(joined(silence(900), say(TWO[0]), silence(1200), say(TWO[1]), silence(900)))


async def test_two_utterances_in_auto(service: AsrService) -> None:
    """Start, held, end, final for each, in order and numbered; then DONE with what was heard."""
    stream, job = opened(service, utterance=5)
    sent = two_utterances()
    for packet in sent:
        job.on_audio(packet)
    job.on_end()
    end = await stream.ended()
    names = [(type(one), one.utterance) for one in stream.events]  # type: ignore[attr-defined]
    for number in (5, 6):
        own = [kind for kind, utterance in names if utterance == number]
        assert own == [SpeechStart, SpeechHeld, SpeechEnd, Final]
    assert stream.texts == ["utterance 5 of s1", "utterance 6 of s1"]
    assert end.stats is not None and end.stats["frames"] == len(sent) and end.stats["bad_packets"] == 0
    assert 1200 < end.stats["speech_ms"] < 2600
    assert stream.after_end == 0


async def test_positions_count_up_from_where_the_stream_opens(service: AsrService) -> None:
    """SpeechStart before SpeechEnd, Final where the speech ended, acked and trim never back."""
    stream, job = opened(service, position=1000)
    for packet in two_utterances():
        job.on_audio(packet)
    job.on_end()
    await stream.ended()
    starts, ends, finals = stream.of(SpeechStart), stream.of(SpeechEnd), stream.of(Final)
    assert 1000 < starts[0].position < ends[0].position < starts[1].position < ends[1].position
    assert [one.position for one in finals] == [one.position for one in ends]
    credits_given = stream.of(AsrCredit)
    assert [one.acked for one in credits_given] == sorted(one.acked for one in credits_given)
    assert [one.trim for one in credits_given] == sorted(one.trim for one in credits_given)
    assert all(one.trim <= one.acked for one in credits_given)


async def test_trim_waits_for_the_final(service: AsrService) -> None:
    """While an utterance has no text its first frame is kept; at its Final it is given up."""
    stream, job = opened(service, engine="Slow")
    for packet in packets(joined(silence(1500), say(TWO[0]), silence(2400))):
        job.on_audio(packet)
    await stream.has(Final)
    start, final = stream.of(SpeechStart)[0], stream.of(Final)[0]
    before = stream.bodies[: stream.bodies.index(final)]
    kept = max(one.trim for one in before if isinstance(one, AsrCredit))
    assert kept <= start.position - 300 // 60
    await stream.has(AsrCredit, len(stream.of(AsrCredit)))
    job.on_end()
    await stream.ended()
    assert stream.of(AsrCredit)[-1].trim >= final.position


async def test_a_burst_decides_like_real_time(service: AsrService) -> None:
    """All packets at once, or each when the one before is acknowledged: the same events at the same positions."""
    sent = two_utterances()
    burst, job = opened(service)
    for packet in sent:
        job.on_audio(packet)
    job.on_end()
    await burst.ended()
    slow, job = opened(service)
    for count, packet in enumerate(sent, start=1):
        job.on_audio(packet)
        if count % 4 == 0:
            await slow.has(AsrCredit, count // 4)
    job.on_end()
    await slow.ended()
    kinds = (SpeechStart, SpeechHeld, SpeechEnd)
    assert [one for one in burst.events if isinstance(one, kinds)] == [
        one for one in slow.events if isinstance(one, kinds)
    ]


async def test_a_replay_from_trim_gives_the_same_answer(service: AsrService) -> None:
    """Another stream that gets the log from `trim` on finds the utterance at the same positions."""
    sent = packets(joined(noise(2400), say(TWO[0]), noise(1500)))
    first, job = opened(service)
    for packet in sent:
        job.on_audio(packet)
    job.on_end()
    await first.ended()
    for credit in first.of(AsrCredit):
        if credit.acked >= first.of(SpeechEnd)[0].position:
            break
        second, job = opened(service, position=credit.trim)
        for packet in sent[credit.trim :]:
            job.on_audio(packet)
        job.on_end()
        await second.ended()
        assert abs(second.of(SpeechStart)[0].position - first.of(SpeechStart)[0].position) <= 1
        assert abs(second.of(SpeechEnd)[0].position - first.of(SpeechEnd)[0].position) <= 1


async def test_an_empty_packet_ends_the_utterance_and_the_stream_lives_on(service: AsrService) -> None:
    """The browser page's end of recording: the text comes without 500 ms of silence, the next utterance too."""
    stream, job = opened(service)
    for packet in packets(joined(silence(900), say(TWO[0])[:18_000])):
        job.on_audio(packet)
    job.on_audio(b"")
    await stream.has(Final)
    assert stream.of(SpeechEnd)[0].position == stream.of(Final)[0].position
    for packet in packets(joined(silence(900), say(TWO[1]), silence(900))):
        job.on_audio(packet)
    job.on_end()
    assert (await stream.ended()).code is None
    assert stream.texts == ["utterance 0 of s1", "utterance 1 of s1"]


async def test_manual_is_one_utterance_without_events_before_its_final(service: AsrService) -> None:
    """A pause longer than the end silence, and an empty packet, end nothing while the key is held."""
    stream, job = opened(service, "manual")
    for packet in two_utterances():
        job.on_audio(packet)
    job.on_audio(b"")
    await stream.has(AsrCredit, 3)
    assert stream.events == []
    job.on_end()
    await stream.ended()
    assert [type(one) for one in stream.events] == [Final]
    assert stream.of(Final)[0].speech_ms > 4000
    assert max(one.trim for one in stream.of(AsrCredit)[:3]) == 0


async def test_manual_without_audio_still_has_its_final(service: AsrService) -> None:
    """END always yields one, without a recogniser."""
    stream, job = opened(service, "manual", utterance=3)
    job.on_end()
    await stream.ended()
    assert stream.of(Final) == [Final(0, 3, text="", speech_ms=0, engine_ms=0.0)]


async def test_manual_feeds_no_more_than_the_maximum(service: AsrService) -> None:
    """A forgotten key: audio goes on and is acknowledged, the text is of what came before the limit."""
    stream, job = opened(service, "manual", vad=VadProfile(max_utterance_ms=1200))
    for packet in packets(silence(6000)):
        job.on_audio(packet)
    await stream.has(AsrCredit, 20)
    assert stream.events == []
    job.on_end()
    await stream.ended()
    assert stream.of(Final)[0].speech_ms == 1200


async def test_partials_come_before_the_final_and_only_on_change(service: AsrService) -> None:
    """Growing texts, inside the utterance, never repeated."""
    stream, job = opened(service, engine="Words")
    for packet in two_utterances():
        job.on_audio(packet)
    job.on_end()
    await stream.ended()
    first = [one for one in stream.events if getattr(one, "utterance", None) == 0]
    texts = [one.text for one in first if isinstance(one, Partial)]
    assert texts == ["one", "one two", "one two three"]
    assert isinstance(first[-1], Final)
    end = stream.of(SpeechEnd)[0].position
    assert all(one.position < end for one in first if isinstance(one, Partial))


async def test_pcm_at_the_device_rate(service: AsrService) -> None:
    """s16le at 48 kHz is heard like Opus."""
    stream, job = opened(service, format="pcm", sample_rate=48_000)
    sound = joined(silence(900), say(TWO[0]), silence(900)).astype(np.float32)
    wide = soxr.resample(sound, 16_000, 48_000).astype(np.int16)
    for at in range(0, len(wide), 2880):
        job.on_audio(wide[at : at + 2880].tobytes())
    job.on_end()
    assert (await stream.ended()).code is None
    assert stream.texts == ["utterance 0 of s1"]


async def test_garbage_between_good_packets_is_counted_and_survived(service: AsrService) -> None:
    """The utterance is still found, the position still counts every packet."""
    stream, job = opened(service)
    sent = two_utterances()
    for number, packet in enumerate(sent):
        job.on_audio(b"\xff" * 50 if number % 16 == 3 else packet)
    job.on_end()
    end = await stream.ended()
    assert end.stats is not None and end.stats["bad_packets"] == len(range(3, len(sent), 16))
    assert end.stats["frames"] == len(sent) and len(stream.texts) == 2


@pytest.mark.parametrize(("engine", "code"), [("Raises", "scripted"), ("Sleeps", "asr_timeout")])
async def test_a_failing_engine_is_a_typed_error_and_delays_nobody(service: AsrService, engine: str, code: str) -> None:
    """One terminator for the stream that has it; a stream beside it is served meanwhile."""
    stream, job = opened(service, engine=engine)
    other, other_job = opened(service, session="other")
    for packet in two_utterances():
        job.on_audio(packet)
        other_job.on_audio(packet)
    job.on_end()
    other_job.on_end()
    assert (await other.ended()).code is None
    end = await stream.ended()
    assert (end.code, end.retryable) == (code, True)
    assert len(stream.ends) == 1 and stream.texts == []


async def test_how_long_ends_and_texts_took_is_measured(service: AsrService) -> None:
    """From the last voice to the decision, never less than the silence asked for; work by the length of its sound."""

    def sample(name: str) -> float:
        return REGISTRY.get_sample_value(name) or 0.0

    names = ("xz_vad_end_seconds_count", "xz_vad_end_seconds_sum", "xz_asr_realtime_factor_count")
    before = [sample(name) for name in names]
    stream, job = opened(service)
    for packet in two_utterances():
        job.on_audio(packet)
    job.on_end()
    assert (await stream.ended()).code is None
    ends, seconds, factors = (sample(name) - value for name, value in zip(names, before, strict=True))
    assert factors == 2
    assert 1 <= ends <= 2 and seconds >= 0.5 * ends
    assert sample("xz_asr_pending_frames") == 0
    assert sample("xz_asr_backlog_seconds") == 0 and sample("xz_asr_recogniser_waiters") == 0


async def test_a_stream_that_finds_no_recogniser_is_told_busy() -> None:
    """Speech on a worker whose recognisers are all at work: asr_busy, retryable."""
    service = AsrService(asr_settings(recognisers=1))
    await service.start()
    holder, holding = opened(service, "manual")
    for packet in packets(silence(300)):
        holding.on_audio(packet)
    await holder.has(AsrCredit)
    stream, job = opened(service)
    for packet in two_utterances():
        job.on_audio(packet)
    end = await stream.ended()
    assert (end.code, end.retryable) == ("asr_busy", True)
    holding.on_end()
    assert (await holder.ended()).code is None
    await service.close()


@pytest.mark.parametrize("mode", ["auto", "manual"])
@pytest.mark.parametrize("count", [0, 1, 30, 45, 70])
async def test_an_abort_at_any_moment_frees_everything(service: AsrService, mode: Mode, count: int) -> None:
    """Nothing is sent afterwards and the one recogniser serves the next stream."""
    tight = AsrService(asr_settings(recognisers=1))
    await tight.start()
    stream, job = opened(tight, mode)
    for packet in two_utterances()[:count]:
        job.on_audio(packet)
        await asyncio.sleep(0)
    stream.abort()
    job.on_abort("test")
    seen = len(stream.bodies)
    other, other_job = opened(tight, mode)
    for packet in two_utterances():
        other_job.on_audio(packet)
    other_job.on_end()
    assert (await other.ended()).code is None
    assert (len(stream.bodies), stream.after_end, stream.ends) == (seen, 0, [])
    await tight.close()


async def test_twenty_ears_hear_only_themselves(service: AsrService) -> None:
    """Interleaved packets of 20 streams; each text names its own session."""
    streams = [
        opened(service, session=f"ear-{number}", engine="Words" if number == 7 else None) for number in range(20)
    ]
    shifted = [packets(joined(silence(600 + 60 * number), say(TWO[number % 2]), silence(900))) for number in range(20)]
    for turn in range(max(map(len, shifted))):
        for (_, job), sent in zip(streams, shifted, strict=True):
            if turn < len(sent):
                job.on_audio(sent[turn])
        await asyncio.sleep(0)
    for _, job in streams:
        job.on_end()
    ends = await asyncio.gather(*(stream.ended() for stream, _ in streams))
    refused = [number for number, end in enumerate(ends) if end.code == "asr_busy"]
    heard = [number for number in range(20) if number not in refused]
    assert len(heard) >= 8
    for number in heard:
        assert streams[number][0].texts == ["one two three" if number == 7 else f"utterance 0 of ear-{number}"]


class Backwards:
    """An engine whose first text comes only after the second one's."""

    is_heavy = False

    def __init__(self) -> None:
        self.second_done = asyncio.Event()

    async def make(self, on_loss: OnLoss) -> Recogniser:
        return WholeUtterance(self._recognise)

    async def _recognise(self, pcm: bytes, brief: Brief) -> Transcript:
        if brief.utterance == 0:
            await self.second_done.wait()
            await asyncio.sleep(0)
        else:
            self.second_done.set()
        return Transcript(f"{brief.utterance}")


async def test_finals_leave_in_the_order_of_their_utterances() -> None:
    """A text that is ready before its predecessor's waits for it, and END for both."""
    detector = VoiceDetector(1, Watchdog().watch("vad"))
    await detector.start()
    recognition = Recognition(Recognisers({"backwards": Backwards()}, seats=2), "backwards", deadline_s=10)
    stream = AsrStream()
    job = FreeListening(stream, OpenAsr("s", "auto", 0, 0), recognition, detector)
    for packet in two_utterances():
        job.on_audio(packet)
    job.on_end()
    assert (await stream.ended()).code is None
    assert stream.texts == ["0", "1"]
    await detector.close()


class Measure:
    """An engine whose text is how many ms it was fed."""

    is_heavy = False

    async def make(self, on_loss: OnLoss) -> Recogniser:
        return WholeUtterance(self._recognise)

    async def _recognise(self, pcm: bytes, brief: Brief) -> Transcript:
        return Transcript(f"{len(pcm) // 32}")


@pytest.mark.parametrize("pre_roll_ms", [0, 300, 600])
async def test_the_recogniser_gets_the_utterance_with_its_pre_roll(pre_roll_ms: int) -> None:
    """All audio from the pre-roll's first sample to the frame in which the speech ended, once."""
    detector = VoiceDetector(1, Watchdog().watch("vad"))
    await detector.start()
    recognition = Recognition(Recognisers({"measure": Measure()}, seats=1), "measure", deadline_s=10)
    stream = AsrStream()
    spec = OpenAsr("s", "auto", 0, 0, vad=VadProfile(pre_roll_ms=pre_roll_ms))
    job = FreeListening(stream, spec, recognition, detector)
    for packet in packets(joined(silence(1500), say(TWO[0]), silence(1500))):
        job.on_audio(packet)
    job.on_end()
    assert (await stream.ended()).code is None
    begun_ms, ended_ms = stream.of(SpeechStart)[0].position * 60, stream.of(SpeechEnd)[0].position * 60
    onset_ms = begun_ms - 3 * 32  # of three voiced windows, the last in the frame that decided
    assert abs(int(stream.texts[0]) - (ended_ms - onset_ms + pre_roll_ms)) <= 60
    await detector.close()


async def test_an_unknown_engine_and_a_broken_open_are_refused(service: AsrService) -> None:
    """Typed, before anything is held."""
    with pytest.raises(EngineError) as refusal:
        opened(service, engine="None such")
    assert refusal.value.code == "unknown_engine"
    with pytest.raises(EngineError):
        opened(service, format="pcm", sample_rate=1)


async def test_too_much_waiting_audio_fails_the_stream(service: AsrService) -> None:
    """The queue of a stream has a bound."""
    stream, job = opened(service)
    for _ in range(600):
        if stream.is_open:
            job.on_audio(bytes(4000))
    assert (stream.end.code, stream.end.retryable) == ("asr_overloaded", True)


def test_caps_name_the_configured_sections_that_exist() -> None:
    """A section of a type that is not here is left out; as the default it is refused with the types there are."""
    cloud = EngineChoice(name="Cloud", type="no_such_type")
    service = AsrService(AsrSettings(engine=scripted("Script"), engines={"Cloud": cloud}))
    assert service.caps == {"engines": ["Script"]}
    with pytest.raises(ConfigError, match="pocketsphinx, scripted"):
        AsrService(AsrSettings(engine=cloud))
