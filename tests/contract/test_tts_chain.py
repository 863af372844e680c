"""What a service outside may do to a segment, and who speaks instead: every remote engine against its fake's faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from prometheus_client import REGISTRY

from bench.upstreams.script import Fault, Script
from bench.upstreams.voice import spoken as sound_of
from shared.errors import ConfigError, EngineError
from shared.link.messages import TtsCredit
from shared.settings import EngineChoice, TtsSettings
from shared.upstream.deadlines import Deadlines
from shared.upstream.faults import Code, UpstreamError
from shared.upstream.upstream import Limits, Upstream
from tests.fakes.link_rig import until
from tests.fakes.tone_server import build
from tests.fakes.tts_stream import RecordingStream, decoded, pitch_hz
from tests.fakes.voice_place import IMPATIENT, REMOTE, SOON_IDLE, VoicePlace, running, speak, spoken, voice_place
from workers.tts.engine import AnyEngine, SpeechRequest
from workers.tts.engines.sine import SineEngine, pitch_hz_of
from workers.tts.remote import AHEAD_S
from workers.tts.service import TtsService

pytestmark = pytest.mark.contract

TEXT = "The weather is fine today, and so it will be tomorrow."
BEFORE_SOUND = [
    "close@connect",
    "silent@connect",
    "error@connect",
    "quota@connect",
    "silent@start",
    "error@start",
    "quota@start",
    "close@start",
    "garbage@start",
    "no_result@stream",
]
IN_MID_SOUND = ["silent@stream", "error@stream", "close@stream"]
BEHIND_SOUND = ["silent@finish", "error@finish", "close@finish", "garbage@finish", "late_audio@finish"]
CODES = {value for name, value in vars(Code).items() if name.isupper()}


@pytest.fixture(params=REMOTE)
async def place(request: pytest.FixtureRequest) -> AsyncIterator[VoicePlace]:
    async with voice_place(request.param) as place:
        yield place


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def is_the_tone(stream: RecordingStream, text: str) -> bool:
    """Was it Beep who spoke?"""
    return abs(pitch_hz(decoded(stream.packets)) - pitch_hz_of(text, None)) < 4


# One engine alone


@pytest.mark.parametrize("fault", [*BEFORE_SOUND, *IN_MID_SOUND])
async def test_a_fault_is_one_typed_error_in_time(place: VoicePlace, fault: str) -> None:
    """Whatever the service does, the segment ends once, with a code, long before the segment's own deadline."""
    place.fake.script = Script(fault=Fault.parse(fault))
    options = SOON_IDLE if fault in IN_MID_SOUND else IMPATIENT
    async with running(place.service(options, segment_timeout_s=60)) as service:
        stream = await spoken(service, TEXT)
    assert stream.end.code in CODES
    assert len(stream.ends) == 1
    assert stream.after_end == 0
    assert bool(stream.packets) == (fault in IN_MID_SOUND)


@pytest.mark.parametrize("fault", BEHIND_SOUND)
async def test_a_fault_behind_the_last_sound_costs_no_sound(place: VoicePlace, fault: str) -> None:
    """Everything that came is spoken, the segment ends once, and the next one is its own."""
    async with running(place.service(SOON_IDLE, cache_bytes=0)) as service:
        whole = await spoken(service, TEXT)
        place.fake.script = Script(fault=Fault.parse(f"{fault}*1"))
        stream = await spoken(service, TEXT)
        assert len(stream.ends) == 1
        assert stream.packets[: len(whole.packets) - 2] == whole.packets[:-2]
        assert (await spoken(service, TEXT)).packets == whole.packets


async def test_a_service_that_is_away_holds_up_nobody(place: VoicePlace) -> None:
    """The worker becomes ready without it, its segments fail with a code, and it is asked no more after a few."""
    await place.fake.close()
    async with running(place.service()) as service:
        ends = [(await spoken(service, f"Sentence {n}.")).end for n in range(5)]
        assert [end.code for end in ends[:1]] == [Code.CONNECT]
        assert ends[-1].code == Code.OPEN


async def test_a_cancel_is_seen_by_the_service(place: VoicePlace) -> None:
    """At once: it need not speak to the end for nobody."""
    place.fake.script = Script(drip_ms=20)
    async with running(place.service()) as service:
        stream, job = speak(service, TEXT * 40, window_frames=100_000)
        await stream.has_packets(5)
        stream.abort()
        job.on_abort("barge_in")
        heard = len(stream.packets)
        session = place.fake.sessions[0]
        await until(lambda: session.was_cancelled or session.was_closed)
        place.fake.script = Script()
        assert (await spoken(service, "And now?")).packets
        assert (len(stream.packets), stream.after_end) == (heard, 0)


async def test_silent_services_hold_no_thread_and_no_beat(place: VoicePlace) -> None:
    """Thirty segments that wait for an answer leave the only thread to others, and nothing is told as stalled."""
    place.fake.script = Script(fault=Fault.parse("silent@start"))
    settings = place.settings(engines={"Beep": EngineChoice(name="Beep", type="sine")}, synth_threads=1)
    async with running(TtsService(settings, build=build)) as service:
        waiting = [speak(service, f"Sentence {n}.") for n in range(30)]
        for n in range(20):
            assert (await spoken(service, f"number {n}", engine="Beep")).packets
        assert service.stalled_ms == 0
        assert all(stream.is_open for stream, _ in waiting)
        for stream, job in waiting:
            stream.abort()
            job.on_abort("barge_in")
        await until(lambda: value("xz_tts_remote_segments") == 0)
    assert all(stream.packets == [] for stream, _ in waiting)


# A chain


@pytest.mark.parametrize("fault", BEFORE_SOUND)
async def test_the_next_engine_speaks_what_the_first_could_not(place: VoicePlace, fault: str) -> None:
    """The whole segment, in one voice, told before its first frame."""
    place.fake.script = Script(fault=Fault.parse(fault))
    async with running(place.with_stand_in(IMPATIENT)) as service:
        before = value("xz_tts_fallbacks_total", engine="Default")
        stream = await spoken(service, TEXT)
        alone = await spoken(service, TEXT, engine="Beep")
    assert stream.end.code is None
    assert stream.packets == alone.packets
    assert alone.stats["cached"], "what a stand-in said is kept under its own name"
    assert [event.to_map()["engine"] for event in stream.events] == ["Beep"]
    assert value("xz_tts_fallbacks_total", engine="Default") == before + 1


@pytest.mark.parametrize("fault", IN_MID_SOUND)
async def test_a_segment_is_never_begun_twice(place: VoicePlace, fault: str) -> None:
    """Once a frame was sent nobody else goes on: what came is spoken, then one error. Else another speaks it all."""
    async with running(place.with_stand_in(SOON_IDLE, cache_bytes=0, first_frame_timeout_s=20)) as service:
        whole = await spoken(service, TEXT)
        place.fake.script = Script(fault=Fault.parse(fault))
        stream = await spoken(service, TEXT)
        alone = await spoken(service, TEXT, engine="Beep")
    assert stream.packets
    if stream.events:
        assert (stream.end.code, stream.packets) == (None, alone.packets)
    else:
        assert stream.end.code in CODES
        assert stream.packets == whole.packets[: len(stream.packets)]


async def test_the_default_voice_is_back_when_it_is_well(place: VoicePlace) -> None:
    """What the stand-in said of the same text is not taken for the default's."""
    async with running(place.with_stand_in(cache_bytes=0, first_frame_timeout_s=20)) as service:
        whole = await spoken(service, TEXT)
    place.fake.script = Script(fault=Fault.parse("error@start*2"))  # one, and its retry
    async with running(place.with_stand_in(first_frame_timeout_s=20)) as service:
        assert is_the_tone(await spoken(service, TEXT), TEXT)
        assert (await spoken(service, TEXT)).packets == whole.packets


async def test_an_open_breaker_costs_no_time(place: VoicePlace) -> None:
    """A service known to be silent is not waited for again."""
    place.fake.script = Script(fault=Fault.parse("silent@start"))
    late = {"upstream": "TTS.Default", "code": Code.LATE, "reason": ""}
    before = value("xz_upstream_errors_total", **late)
    async with running(place.with_stand_in(first_frame_timeout_s=0.2)) as service:
        for n in range(3):
            assert is_the_tone(await spoken(service, f"Sentence {n}."), f"Sentence {n}.")
        # The third failure may be on its way still: an aborted session is given a moment to end.
        await until(lambda: value("xz_upstream_breaker_state", upstream="TTS.Default") == 2)
        asked = len(place.fake.sessions)
        for n in range(10):
            assert (await spoken(service, f"Another {n}.")).stats["frames"]
        assert len(place.fake.sessions) == asked
        assert value("xz_upstream_errors_total", **late) == before + 3


async def test_a_segment_that_goes_on_elsewhere_stays_with_its_engine(place: VoicePlace) -> None:
    """Frames of another voice do not fit behind those that were heard."""
    place.fake.script = Script(fault=Fault.parse("error@start"))
    async with running(place.with_stand_in(IMPATIENT)) as service:
        stream = await spoken(service, TEXT, skip_frames=7)
    assert stream.end.code in CODES
    assert (stream.packets, stream.events) == ([], [])


async def test_a_devices_own_engine_has_the_default_behind_it(place: VoicePlace) -> None:
    """Which has its own voices: the device's choice of one is not passed on."""
    place.fake.script = Script(fault=Fault.parse("close@start"))
    own = EngineChoice(name="Own", type=place.engine, options={**place.options, **IMPATIENT})
    settings = TtsSettings(engine=EngineChoice(name="Beep", type="sine"), engines={"Own": own})
    async with running(TtsService(settings, build=build)) as service:
        stream = await spoken(service, TEXT, engine="Own", voice="somebody")
        assert stream.packets == (await spoken(service, TEXT)).packets


# The seam itself


@dataclass
class Talker:
    """A RemoteEngine that does what the test says."""

    talk: Callable[[SpeechRequest], AsyncGenerator[bytes, None]]
    sample_rate: int = 24_000
    starting: Callable[[], Awaitable[None]] | None = None
    deterministic: bool = False
    languages: frozenset[str] = frozenset()
    is_named: bool = False
    closed: int = 0
    asked: list[SpeechRequest] = field(default_factory=list)

    async def start(self) -> None:
        if self.starting is not None:
            await self.starting()

    def speak(self, request: SpeechRequest) -> AsyncGenerator[bytes, None]:
        self.asked.append(request)
        return self.talk(request)

    async def close(self) -> None:
        self.closed += 1


def service_of(*engines: tuple[str, AnyEngine], **more: object) -> TtsService:
    """The first is the default, the others stand behind it in their order."""
    made = dict(engines)
    choices = {name: EngineChoice(name=name, type=name) for name in made}
    first, *others = made
    settings = TtsSettings(engine=choices[first], engines=choices, fallbacks=tuple(others), **more)  # type: ignore[arg-type]
    return TtsService(settings, build=lambda choice: made[choice.name])


def beep() -> SineEngine:
    return SineEngine("Beep", {})


async def test_bytes_may_be_cut_anywhere() -> None:
    """An odd byte waits for the next piece: the sound is the same however it is cut."""
    pcm = sound_of("a few words", 16_000)

    def cut(*sizes: int) -> Callable[[SpeechRequest], AsyncGenerator[bytes, None]]:
        async def talk(request: SpeechRequest) -> AsyncGenerator[bytes, None]:
            start, turn = 0, 0
            while start < len(pcm):
                yield pcm[start : start + sizes[turn % len(sizes)]]
                start += sizes[turn % len(sizes)]
                turn += 1

        return talk

    heard = []
    for sizes in ((len(pcm),), (1, 2, 3, 777), (4801,), (0, 1919, 1)):
        async with running(service_of(("a", Talker(cut(*sizes), sample_rate=16_000)))) as service:
            heard.append((await spoken(service, "a few words")).packets)
    assert heard[0] and all(packets == heard[0] for packets in heard)


async def test_the_first_frame_leaves_as_soon_as_it_is_there() -> None:
    """Sixty milliseconds of sound are enough; the rest of the sentence may take its time."""
    rest = asyncio.Event()

    async def talk(request: SpeechRequest) -> AsyncGenerator[bytes, None]:
        yield sound_of("x")[:2880]
        await rest.wait()
        yield sound_of("x")

    async with running(service_of(("a", Talker(talk)))) as service:
        stream, _ = speak(service, "hello")
        await stream.has_packets(1)
        assert len(stream.packets) == 1
        rest.set()
        assert (await stream.ended()).code is None


async def test_a_service_is_not_read_far_ahead_and_its_deadlines_stand_still_meanwhile() -> None:
    """Sound ahead is bounded; a device that plays slowly makes no upstream late, neither idle nor in total."""
    second = b"\x01\x02" * 24_000
    given = 0

    async def talk(request: SpeechRequest) -> AsyncGenerator[bytes, None]:
        nonlocal given
        upstream = Upstream("t-ahead", Limits(Deadlines(idle_s=0.5, total_s=1.5)))
        async with upstream.request(request.owner) as asked:
            for _ in range(int(2 * AHEAD_S)):
                async with asked.waits.next():
                    await asyncio.sleep(0)
                given += 1
                yield second

    loop = asyncio.get_running_loop()
    async with running(service_of(("a", Talker(talk)), ("Beep", beep()))) as service:
        stream, job = speak(service, "long", window_frames=20)
        await stream.has_packets(20)
        until_s = loop.time() + 2.0
        while loop.time() < until_s:
            assert (await spoken(service, "other", engine="Beep")).packets
        assert (len(stream.packets), stream.is_open) == (20, True)
        assert given <= AHEAD_S + 4
        job.on_credit(TtsCredit(frames=10_000).to_map())
        assert (await stream.ended()).code is None
        assert len(stream.packets) >= 2 * AHEAD_S * 1000 / 60


async def test_the_same_segment_is_asked_for_once_by_whoever_joins() -> None:
    """And one listener's abort does not end it for the others."""
    gate = asyncio.Event()

    async def talk(request: SpeechRequest) -> AsyncGenerator[bytes, None]:
        await gate.wait()
        yield sound_of(request.text)

    engine = Talker(talk)
    async with running(service_of(("a", engine))) as service:
        opened = [speak(service, "same") for _ in range(4)]
        opened[0][0].abort()
        opened[0][1].on_abort("barge_in")
        gate.set()
        await asyncio.gather(*(stream.ended() for stream, _ in opened[1:]))
    assert len(engine.asked) == 1
    assert (engine.asked[0].text, engine.asked[0].owner) == ("same", "s")


async def test_a_cancel_before_the_first_step_asks_nobody() -> None:
    """Nothing was sent, so nothing has to be taken back."""

    async def talk(request: SpeechRequest) -> AsyncGenerator[bytes, None]:
        yield b""

    engine = Talker(talk)
    async with running(service_of(("a", engine))) as service:
        stream, job = speak(service, "never")
        stream.abort()
        job.on_abort("barge_in")
        await asyncio.sleep(0)
    assert engine.asked == []


async def test_an_engine_that_does_not_let_go_is_counted_and_ended() -> None:
    """The stream is over at once; the closing has a bound, also at the worker's end."""
    closing = asyncio.Event()

    async def talk(request: SpeechRequest) -> AsyncGenerator[bytes, None]:
        try:
            yield sound_of(request.text)
            await asyncio.sleep(3600)
        finally:
            closing.set()
            await asyncio.sleep(3600)

    before = value("xz_tts_remote_closes_late_total")
    async with running(service_of(("a", Talker(talk)))) as service:
        stream, job = speak(service, "hello")
        await stream.has_packets(3)
        stream.abort()
        job.on_abort("barge_in")
        await asyncio.wait_for(closing.wait(), 20)
        await until(lambda: value("xz_tts_remote_segments") == 0)
    assert value("xz_tts_remote_closes_late_total") == before + 1


@pytest.mark.parametrize(
    ("error", "code"),
    [(UpstreamError("x", code=Code.CLOSED), Code.CLOSED), (ValueError("quotes the text"), "engine_failed")],
)
async def test_when_all_fail_there_is_one_error(error: Exception, code: str) -> None:
    """The last engine's code; another worker may try if it might have fared better with any of them."""

    async def talk(request: SpeechRequest) -> AsyncGenerator[bytes, None]:
        raise error
        yield b""

    last = SineEngine("Beep", {"fail": "raise"})
    async with running(service_of(("a", Talker(talk)), ("b", Talker(talk)), ("Beep", last))) as service:
        stream = await spoken(service, TEXT)
    assert (stream.end.code, stream.end.retryable) == ("scripted", True)
    assert [event.to_map()["engine"] for event in stream.events] == ["b", "Beep"]
    async with running(service_of(("a", Talker(talk)))) as service:
        assert (await spoken(service, TEXT)).end.code == code


async def test_a_silent_engine_has_a_share_and_not_the_whole_deadline() -> None:
    """Each gets its time, and the segment as a whole has one."""

    async def talk(request: SpeechRequest) -> AsyncGenerator[bytes, None]:
        await asyncio.sleep(3600)
        yield b""

    silent = [(name, Talker(talk)) for name in "abc"]
    async with running(service_of(*silent, ("Beep", beep()), first_frame_timeout_s=0.1)) as service:
        assert (await spoken(service, TEXT)).end.code is None
    async with running(service_of(*silent, segment_timeout_s=2)) as service:
        assert (await spoken(service, TEXT)).end.code == "timeout"
        assert [len(engine.asked) for _, engine in silent] == [2, 2, 2]


async def test_services_are_started_on_the_loop_and_closed_with_the_worker() -> None:
    """One that cannot be used is left out, unless it is the default; then the worker does not start."""

    async def talk(request: SpeechRequest) -> AsyncGenerator[bytes, None]:
        yield sound_of(request.text)

    async def refuse() -> None:
        raise ConfigError("TTS.b.key", "x", "a key")

    good, bad = Talker(talk, is_named=True), Talker(talk, starting=refuse)
    async with running(service_of(("a", good), ("b", bad))) as service:
        assert service.caps["engines"] == ["a"]
        assert service.resolves_names
        assert (await spoken(service, TEXT)).packets
    assert (good.closed, bad.closed) == (1, 0)
    with pytest.raises(ConfigError):
        async with running(service_of(("b", bad))):
            raise AssertionError("it started")


async def test_finished_without_sound_is_a_failure() -> None:
    """There was something to say, so somebody else says it."""

    async def talk(request: SpeechRequest) -> AsyncGenerator[bytes, None]:
        yield b""

    async with running(service_of(("a", Talker(talk)), ("Beep", beep()))) as service:
        assert is_the_tone(await spoken(service, TEXT), TEXT)
    async with running(service_of(("a", Talker(talk)))) as service:
        end = (await spoken(service, TEXT)).end
        assert (end.code, end.retryable) == (Code.NO_RESULT, False)


async def test_an_engine_error_that_is_no_upstreams_keeps_its_code() -> None:
    """A decoder that fails in a remote engine, for one."""

    async def talk(request: SpeechRequest) -> AsyncGenerator[bytes, None]:
        raise EngineError("no such format", code="decode")
        yield b""

    async with running(service_of(("a", Talker(talk)))) as service:
        assert (await spoken(service, TEXT)).end.code == "decode"
