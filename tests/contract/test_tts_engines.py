"""What every voice engine must do, through the real service: cleaning, order, credit, encoding, deadlines."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from prometheus_client import REGISTRY

from shared.errors import ConfigError, EngineError, WorkerProtocolError
from shared.link.messages import TtsCredit
from shared.process.watchdog import Watchdog
from shared.settings import EngineChoice, TtsSettings
from tests.fakes.tts_stream import RecordingStream, decoded, pitch_hz
from tests.fakes.voice_place import ALL, VoicePlace, running, speak, spoken, voice_place
from workers.tts.engine import Later, Pcm, Speech
from workers.tts.engines.registry import build
from workers.tts.engines.sine import pitch_hz_of
from workers.tts.service import SPARE_THREADS, TtsService

pytestmark = pytest.mark.contract

SENTENCE = {"hibari": "The weather is fine today.", "espeak": "今天天气很好。"}


def settings_of(type_name: str, options: dict[str, Any] | None = None, **more: Any) -> TtsSettings:
    return TtsSettings(engine=EngineChoice(name="Default", type=type_name, options=options or {}), **more)


@pytest.fixture(params=ALL)
async def place(request: pytest.FixtureRequest) -> AsyncIterator[VoicePlace]:
    """Every engine once: those that compute here, and those that ask a service, with its fake."""
    async with voice_place(request.param) as place:
        yield place


# Every engine


@pytest.mark.parametrize("text", ["", "  \n", "🎉", "...", "\u200b"])
async def test_nothing_to_say_is_done_with_no_frames(place: VoicePlace, text: str) -> None:
    """A text without letters ends well and at once."""
    async with running(place.service()) as service:
        stream = await spoken(service, text)
        assert stream.packets == []
        assert stream.stats["frames"] == 0


async def test_a_sentence_sounds_like_speech_and_is_the_same_twice(place: VoicePlace) -> None:
    """Sound with energy, of a plausible length; the same text twice is the same frames, from cache or not."""
    text = SENTENCE.get(place.engine, "The weather is fine today.")
    async with running(place.service(cache_bytes=0)) as service:
        first, second = await spoken(service, text), await spoken(service, text)
    async with running(place.service()) as service:
        elsewhere, cached = await spoken(service, text), await spoken(service, text)
    sound = decoded(first.packets)
    assert 30 * len(text) < len(sound) / 24 < 400 * len(text)
    assert 0.01 < float(np.sqrt(np.mean(sound**2))) < 0.4
    assert np.abs(sound).max() <= 1.0
    assert first.stats["deterministic"] == (place.server is None)
    assert first.packets == second.packets == elsewhere.packets == cached.packets
    assert [stream.stats["cached"] for stream in (first, second, elsewhere, cached)] == [False, False, False, True]
    assert first.stats["frames"] == len(first.packets)
    assert first.stats["audio_ms"] == 60 * len(first.packets)


@pytest.mark.parametrize("text", ["a", "5", "好", "%"])
async def test_one_character_ends_well(place: VoicePlace, text: str) -> None:
    """However short the text, the segment ends with DONE; in a language the engine speaks, with sound."""
    async with running(place.service()) as service:
        stream = await spoken(service, text)
        assert stream.end.code is None
        assert stream.packets or (place.engine == "hibari" and text == "好")


async def test_five_thousand_characters_come_in_pieces(place: VoicePlace) -> None:
    """The first frames of a long text are there long before the last, and all of it is spoken."""
    text = ("Once upon a time there was a very small robot, and it told stories. " * 74)[:5000]
    async with running(place.service(segment_timeout_s=60)) as service:
        stream = await spoken(service, text)
    assert len(stream.packets) * 60 > 30 * len(text)
    assert stream.arrived_s[0] < stream.arrived_s[len(stream.packets) // 2]


@pytest.mark.parametrize("place", [name for name in ALL if name != "hibari"], indirect=True)
async def test_mixed_chinese_and_english_is_spoken_whole(place: VoicePlace) -> None:
    """Each part adds its own sound; all engines but one speak both."""
    async with running(place.service()) as service:
        parts = [await spoken(service, text) for text in ("今天是", "Monday", "明天是", "Tuesday")]
        mixed = await spoken(service, "今天是 Monday，明天是 Tuesday。")
    assert all(part.packets for part in parts)
    assert len(mixed.packets) > 0.6 * sum(len(part.packets) for part in parts)


async def test_a_cancel_before_the_first_chunk_sends_nothing(place: VoicePlace) -> None:
    """Aborted at once, not one frame leaves, and the worker goes on."""
    async with running(place.service()) as service:
        stream, job = speak(service, "This will not be heard.")
        stream.abort()
        job.on_abort("barge_in")
        after = await spoken(service, "This is heard.")
        assert after.packets
        assert (stream.packets, stream.after_end, stream.ends) == ([], 0, [])


async def test_a_cancel_in_mid_stream_stops_the_sound(place: VoicePlace) -> None:
    """Nothing is sent after the abort, and a long text is not computed to its end."""
    text = "Once upon a time there was a very small robot, and it told stories. " * 60
    async with running(place.service()) as service:
        stream, job = speak(service, text, window_frames=100_000)
        await stream.has_packets(3)
        stream.abort()
        job.on_abort("barge_in")
        heard = len(stream.packets)
        assert (await spoken(service, "Hello.")).packets
        assert len(stream.packets) == heard
        assert stream.after_end == 0
        assert stream.ends == []


async def test_a_hundred_interleaved_requests_each_get_their_own_sound(place: VoicePlace) -> None:
    """Spoken side by side on two threads, every text sounds as it does alone."""
    texts = [f"Number {n}." for n in range(20)]
    async with running(place.service(cache_bytes=0, synth_threads=2, capacity=100)) as service:
        alone = [(await spoken(service, text)).packets for text in texts]
        opened = [speak(service, texts[n % 20], dry_ms=n * 7 % 50)[0] for n in range(100)]
        await asyncio.gather(*(stream.ended() for stream in opened))
    assert all(stream.packets == alone[n % 20] for n, stream in enumerate(opened))


async def test_frames_played_before_are_skipped(place: VoicePlace) -> None:
    """A re-issued segment goes on exactly where the first one was cut."""
    text = SENTENCE.get(place.engine, "The weather is fine today.")
    async with running(place.service(cache_bytes=0)) as service:
        whole = await spoken(service, text)
        rest = await spoken(service, text, skip_frames=5)
        beyond = await spoken(service, text, skip_frames=10_000)
    assert rest.packets == whole.packets[5:]
    assert (beyond.packets, beyond.stats["frames"]) == ([], 0)


async def test_credit_holds_a_segment_back(place: VoicePlace) -> None:
    """Not one frame more than the window; the sound goes on when credit comes, also from the cache."""
    text = SENTENCE.get(place.engine, "The weather is fine today.")
    async with running(place.service()) as service:
        for _ in ("fresh", "cached"):
            stream, job = speak(service, text, window_frames=4)
            await stream.has_packets(4)
            other = await spoken(service, "Meanwhile.")
            assert other.packets
            assert len(stream.packets) == 4
            job.on_credit(TtsCredit(frames=2).to_map())
            await stream.has_packets(6)
            assert (await spoken(service, "Meanwhile.")).packets
            assert len(stream.packets) == 6
            job.on_credit(TtsCredit(frames=1000).to_map())
            await stream.ended()
            assert stream.packets == (await spoken(service, text)).packets


# The default engine's own promises


async def test_the_embedded_voice_speaks_english_with_hibari_and_the_rest_with_espeak() -> None:
    """The voice is picked by the language of the text, whatever is declared for the device."""
    async with running(TtsService(settings_of("hibari"))) as service:
        english = await spoken(service, "Good morning.")
    async with running(TtsService(settings_of("espeak"))) as service:
        chinese = await spoken(service, "早上好。", language="zh")
    async with running(TtsService(settings_of("embedded"))) as service:
        assert (await spoken(service, "Good morning.", language="zh-CN")).packets == english.packets
        mixed = await spoken(service, "早上好。", language="en")
    assert abs(len(mixed.packets) - len(chinese.packets)) <= 1


def test_loudness_of_the_voices_is_alike() -> None:
    """A reply that changes its voice does not change its level by more than 4 dB."""
    levels = []
    for type_name, text, language in (("hibari", "Good morning to you all.", "en"), ("espeak", "今天天气很好。", "zh")):
        engine = build(EngineChoice(name="x", type=type_name))
        engine.load()
        sound = np.concatenate(
            [part for part in engine.synthesise(text, None, language, 1) if not isinstance(part, Later)]
        )
        loud = sound[np.abs(sound) > 0.01]
        levels.append(20 * np.log10(np.sqrt(np.mean(loud**2))))
    assert abs(levels[0] - levels[1]) < 4


async def test_the_sine_voice_tells_texts_apart_by_pitch() -> None:
    """A load test knows from the sound alone whose answer it hears."""
    async with running(TtsService(settings_of("sine"))) as service:
        stream = await spoken(service, "device 7, question 3")
    assert pitch_hz(decoded(stream.packets)) == pytest.approx(pitch_hz_of("device 7, question 3", None), abs=3)


async def test_a_scripted_latency_holds_no_thread() -> None:
    """Fifty voices that each wait 200 ms are through in far less than 10 s on one thread."""
    async with running(TtsService(settings_of("sine", {"first_chunk_ms": 200}))) as service:
        async with asyncio.timeout(5):
            streams = await asyncio.gather(*(spoken(service, f"text {n}") for n in range(50)))
    assert all(stream.stats["first_frame_ms"] >= 199 for stream in streams)


# Engines that misbehave


@dataclass
class Scripted:
    """An engine whose calls do what the test says."""

    behave: Callable[[str], None] = lambda text: None
    chunks: int = 3
    deterministic: bool = True
    sample_rate: int = 24_000
    languages: frozenset[str] = frozenset(("en",))
    calls: list[str] = field(default_factory=list)
    closed: int = 0

    def load(self) -> None:
        pass

    def synthesise(self, text: str, voice: str | None, language: str | None, seed: int) -> Speech:
        self.calls.append(text)
        try:
            for _ in range(self.chunks):
                self.behave(text)
                yield self._chunk()
        finally:
            self.closed += 1

    def _chunk(self) -> Pcm:
        return np.full(24_000, 0.1, np.float32)


def service_of(engines: dict[str, Scripted], **more: Any) -> TtsService:
    choices = {name: EngineChoice(name=name, type="scripted", options={"name": name}) for name in engines}
    slow_after_s = more.pop("slow_after_s", 0.05)
    watchdog = more.pop("watchdog", None)
    settings = TtsSettings(engine=next(iter(choices.values())), engines=choices, **more)
    return TtsService(settings, build=lambda choice: engines[choice.name], slow_after_s=slow_after_s, watchdog=watchdog)


def raising(error: Exception) -> Callable[[str], None]:
    def behave(text: str) -> None:
        if "fail" in text:
            raise error

    return behave


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (EngineError("quota", code="quota", retryable=True), "quota", True),
        (ValueError("a message that quotes the text"), "engine_failed", True),
        (SystemExit(1), "engine_failed", True),
        (StopIteration(), "engine_failed", True),
    ],
)
async def test_an_exception_is_one_typed_error(error: Exception, code: str, retryable: bool) -> None:
    """Whatever an engine raises ends its own segment once, and the next one is spoken."""
    async with running(service_of({"a": Scripted(raising(error))})) as service:
        failed = await spoken(service, "fail")
        assert (failed.end.code, failed.end.retryable) == (code, retryable)
        assert (await spoken(service, "fine")).packets
        assert len(failed.ends) == 1


async def test_a_failure_after_the_first_chunk_ends_the_segment_once() -> None:
    """Frames, then one ERROR."""
    async with running(TtsService(settings_of("sine", {"fail": "late"}))) as service:
        stream = await spoken(service, "a text of more than one second")
    assert stream.packets
    assert stream.end.code == "scripted"


async def test_a_hanging_engine_delays_only_its_own_segments() -> None:
    """The default speaks its segments when its share is over, other segments meanwhile, and it gets no second call."""
    release = threading.Event()

    def hang(text: str) -> None:
        release.wait(30)

    bad, good = Scripted(hang), Scripted()
    async with running(service_of({"good": good, "bad": bad}, segment_timeout_s=1)) as service:
        stuck = [speak(service, f"stuck {n}", engine="bad")[0] for n in range(5)]
        for n in range(20):
            assert (await spoken(service, f"fine {n}")).packets
        ends = await asyncio.gather(*(stream.ended() for stream in stuck))
        assert {end.code for end in ends} == {None}
        assert len(bad.calls) == 1
        assert service.stalled_ms == 0
        release.set()


async def test_a_hanging_default_engine_is_told_in_the_beat() -> None:
    """`stalled_ms` grows while the engine everybody uses is stuck, and is 0 again when it returns."""
    release = threading.Event()
    engine = Scripted(lambda text: None if text.startswith("fine") else (release.wait(30), None)[1])
    async with running(service_of({"a": engine}, segment_timeout_s=0.3)) as service:
        assert (await spoken(service, "fine")).packets
        assert service.stalled_ms == 0
        stream, _ = speak(service, "stuck")
        assert (await stream.ended()).code == "timeout"
        assert service.stalled_ms > 100
        release.set()
        assert (await spoken(service, "fine again")).packets
        assert service.stalled_ms == 0


async def test_threads_return_to_their_number_after_a_hang() -> None:
    """Spares are bounded, and they end when the stuck calls return."""
    release = threading.Event()

    def hang(text: str) -> None:
        release.wait(30)

    engines = {"good": Scripted(), **{f"bad{n}": Scripted(hang) for n in range(5)}}
    before = set(threading.enumerate())
    async with running(service_of(engines, segment_timeout_s=1)) as service:
        stuck = [speak(service, "stuck", engine=f"bad{n}")[0] for n in range(5)]
        await asyncio.gather(*(stream.ended() for stream in stuck))
        ours = set(threading.enumerate()) - before
        assert sorted(thread.name for thread in ours) == [f"tts-compute-{n}" for n in range(1, 2 + SPARE_THREADS)]
        assert service.stalled_ms > 0
        release.set()
        assert (await spoken(service, "fine")).packets
        assert service.stalled_ms == 0
    for thread in ours:
        thread.join(5)
    assert not any(thread.is_alive() for thread in ours)


async def test_an_abort_closes_the_engines_iterator() -> None:
    """What an engine holds for a segment is freed when nobody waits for it."""
    engine = Scripted(chunks=40)
    async with running(service_of({"a": engine})) as service:
        stream, job = speak(service, "long", window_frames=20)
        await stream.has_packets(20)
        stream.abort()
        job.on_abort("barge_in")
        await spoken(service, "next")
    assert engine.calls == ["long", "next"]
    assert engine.closed == 2


async def test_the_same_segment_at_once_is_made_once() -> None:
    """Single flight: later streams join, each with its own credit, and one abort does not end the others."""
    engine = Scripted()
    async with running(service_of({"a": engine})) as service:
        streams = [speak(service, "same") for _ in range(4)]
        streams[0][0].abort()
        streams[0][1].on_abort("barge_in")
        await asyncio.gather(*(stream.ended() for stream, _ in streams[1:]))
    assert engine.calls == ["same"]
    assert len({tuple(stream.packets) for stream, _ in streams[1:]}) == 1


async def test_a_segment_without_credit_is_not_computed_to_its_end() -> None:
    """Out of credit the engine is not pulled, and no thread waits: another segment is spoken on the only one."""
    engine = Scripted(chunks=100)
    loop = asyncio.get_running_loop()
    async with running(service_of({"a": engine}, segment_timeout_s=0.4, cache_bytes=0)) as service:
        stream, _ = speak(service, "long", window_frames=10)
        await stream.has_packets(10)
        until_s = loop.time() + 1.0
        while loop.time() < until_s:
            assert len((await spoken(service, "other")).packets) >= 1600
        assert len(stream.packets) == 10
        assert stream.is_open, "waiting for credit is no missed deadline"


async def test_the_most_urgent_device_is_served_first() -> None:
    """Of those that wait, the one that runs dry first; a long segment yields to it between steps."""
    gate = threading.Event()
    engine = Scripted(lambda text: (gate.wait(10), None)[1], chunks=1)
    async with running(service_of({"a": engine}, slow_after_s=10)) as service:
        opened = [speak(service, "first")[0]]
        opened += [speak(service, f"dry in {ms}", dry_ms=ms)[0] for ms in (900, 100, 500)]
        gate.set()
        await asyncio.gather(*(stream.ended() for stream in opened))
    assert engine.calls == ["first", "dry in 100", "dry in 500", "dry in 900"]


async def test_a_hang_of_the_default_engine_ends_the_process_in_the_end() -> None:
    """The watchdog's watch runs while everybody's engine is stuck, and only then."""
    release = threading.Event()
    engines = {"good": Scripted(lambda text: (release.wait(30), None)[1]), "bad": Scripted(lambda text: None)}
    now = 0.0
    watchdog = Watchdog(clock=lambda: now)
    async with running(service_of(engines, segment_timeout_s=0.3, watchdog=watchdog)) as service:
        assert (await spoken(service, "fine", engine="bad")).packets
        now = 1000.0
        assert not watchdog.stuck
        assert (await spoken(service, "stuck")).end.code == "timeout"
        now = 2000.0
        assert watchdog.stuck
        release.set()
        assert (await spoken(service, "fine again")).packets
        assert not watchdog.stuck


async def test_made_wasted_and_cached_frames_are_counted() -> None:
    """What an abort throws away, and what the cache saves, can be seen."""

    def value(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0.0

    names = ("xz_tts_frames_total", "xz_tts_wasted_frames_total")
    async with running(service_of({"a": Scripted(chunks=3)})) as service:
        made, wasted = (value(name) for name in names)
        hits = value("xz_tts_cache_lookups_total", result="hit")
        one = await spoken(service, "one")
        assert value("xz_tts_frames_total") == made + len(one.packets)
        await spoken(service, "one")
        assert value("xz_tts_cache_lookups_total", result="hit") == hits + 1
        assert value("xz_tts_frames_total") == made + len(one.packets)
        stream, job = speak(service, "two", window_frames=1)
        await stream.has_packets(1)
        stream.abort()
        job.on_abort("barge_in")
        await spoken(service, "three")
        assert wasted < value("xz_tts_wasted_frames_total") <= wasted + len(one.packets)


# What the service refuses


async def test_a_text_over_the_bound_is_refused() -> None:
    """16 KiB is the end; the runtime answers with the code."""
    async with running(TtsService(settings_of("sine"))) as service:
        with pytest.raises(EngineError) as caught:
            speak(service, "字" * 6000)
        assert caught.value.code == "text_too_long"


async def test_a_malformed_open_is_refused() -> None:
    """A body without a text is the other side's fault."""
    async with running(TtsService(settings_of("sine"))) as service:
        with pytest.raises(WorkerProtocolError):
            service.open(RecordingStream(), {"session": "s"})


async def test_an_unknown_engine_is_replaced_by_the_default() -> None:
    """A device's setting that names a removed section is still answered with a voice."""
    async with running(TtsService(settings_of("sine"))) as service:
        assert (await spoken(service, "hello", engine="Gone")).packets


async def test_capabilities_name_engines_and_which_may_be_skipped_in() -> None:
    """The router must know before a death whether frames can be skipped."""
    sections = {"Beep": EngineChoice(name="Beep", type="sine"), "Bad": EngineChoice(name="Bad", type="cloud")}
    async with running(TtsService(settings_of("espeak", engines=sections))) as service:
        assert service.caps == {
            "engines": ["Beep", "Default"],
            "default": "Default",
            "deterministic": ["Beep", "Default"],
        }


@pytest.mark.parametrize(
    ("type_name", "options"),
    [
        ("cloud", {}),
        ("hibari", {"voice": "nobody"}),
        ("hibari", {"speed": 9}),
        ("espeak", {"voice": "klingon-b"}),
        ("espeak", {"variant": "../../x"}),
        ("espeak", {"rate_wpm": "fast"}),
        ("sine", {"fail": "sometimes"}),
    ],
)
async def test_a_wrong_option_is_named_before_anything_is_spoken(type_name: str, options: dict[str, Any]) -> None:
    """The default engine must load, or the worker does not start."""
    service = TtsService(settings_of(type_name, options))
    with pytest.raises(ConfigError) as caught:
        await service.start()
    await service.close()
    assert caught.value.key.startswith("TTS.Default.")
