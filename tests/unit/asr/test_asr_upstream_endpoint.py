"""An upstream that owns the end of speech, on a real stream: decoding, voice detection and endpointing before it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from shared.link.messages import AsrCredit, Final, OpenAsr, SpeechEnd, SpeechStart
from shared.listening import Mode
from shared.process.watchdog import Watchdog
from shared.upstream.faults import Code, Kind, UpstreamError
from tests.fakes.asr_stream import AsrStream
from tests.fakes.speech import joined, packets, say, silence
from workers.asr.engines.engine import Brief, EndOwner, OnLoss, OnPartial, Recogniser, Transcript
from workers.asr.engines.whole import WholeUtterance
from workers.asr.free_listening import FreeListening
from workers.asr.held_listening import HeldListening
from workers.asr.recognisers import Recognisers
from workers.asr.utterance import Recognition
from workers.asr.vad import VoiceDetector

pytestmark = pytest.mark.unit

BYTES_PER_MS = 32
ONE, TWO = say("what time is it"), say("tell me a joke")


class Ender(WholeUtterance):
    """Says that speech is over when it has heard so much; its text is how many ms it was fed."""

    def __init__(self, cloud: Cloud) -> None:
        super().__init__(self._recognise)
        self._cloud = cloud
        self._brief_of_this: Brief | None = None
        self._fed_ms = 0

    def begin(self, brief: Brief, on_partial: OnPartial) -> None:
        super().begin(brief, on_partial)
        self._brief_of_this, self._fed_ms = brief, 0

    def feed(self, pcm: bytes) -> None:
        super().feed(pcm)
        self._fed_ms += len(pcm) // BYTES_PER_MS
        if self._cloud.fails:
            raise UpstreamError("refused", code=Code.AUTH, kind=Kind.FATAL)
        assert self._brief_of_this is not None
        for heard_ms, at_ms in self._cloud.ends:
            if self._fed_ms >= heard_ms:
                self._brief_of_this.on_endpoint(at_ms)

    async def _recognise(self, pcm: bytes, brief: Brief) -> Transcript:
        return Transcript(f"{len(pcm) // BYTES_PER_MS}")


@dataclass
class Cloud:
    """`ends`: after so many ms of an utterance it says that its speech was over at such a ms."""

    ends: list[tuple[int, int | None]] = field(default_factory=list)
    fails: bool = False
    endpoint: EndOwner = "upstream"
    is_heavy: bool = False
    resolves_names: bool = False

    async def make(self, on_loss: OnLoss) -> Recogniser:
        return Ender(self)

    async def close(self) -> None: ...


class Local:
    """Measures what it was fed."""

    is_heavy = False

    async def make(self, on_loss: OnLoss) -> Recogniser:
        async def recognise(pcm: bytes, brief: Brief) -> Transcript:
            return Transcript(f"local {len(pcm) // BYTES_PER_MS}")

        return WholeUtterance(recognise)


@pytest_asyncio.fixture
async def detector() -> AsyncIterator[VoiceDetector]:
    detector = VoiceDetector(4, Watchdog().watch("vad"))
    await detector.start()
    yield detector
    await detector.close()


async def heard(
    cloud: Cloud,
    detector: VoiceDetector,
    sent: list[bytes],
    *,
    position: int = 0,
    mode: Mode = "auto",
    utterance: int = 0,
) -> AsrStream:
    """Each packet is sent when the one before is decided on, as if it came in real time."""
    recognisers = Recognisers({"cloud": cloud, "local": Local()}, seats=4)
    recognition = Recognition(recognisers, "cloud", 20.0, 20.0, ["local"])
    stream, spec = AsrStream(), OpenAsr("s", mode, position, utterance)
    job = (
        HeldListening(stream, spec, recognition)
        if mode == "manual"
        else FreeListening(stream, spec, recognition, detector)
    )
    for count, packet in enumerate(sent, start=1):
        job.on_audio(packet)
        if count % 4 == 0:
            await stream.has(AsrCredit, count // 4)
    job.on_end()
    assert (await stream.ended()).code is None
    await recognisers.close()
    return stream


def positions(stream: AsrStream) -> list[int]:
    return [one.position for one in stream.events if isinstance(one, SpeechStart | SpeechEnd)]


async def test_our_silence_ends_nothing_and_the_upstream_does(detector: VoiceDetector) -> None:
    """Two sentences with a pause that we would have cut at are one utterance until the upstream says otherwise."""
    sent = packets(joined(silence(900), ONE, silence(1200), TWO, silence(2400)))
    total_ms = len(joined(ONE, silence(1200), TWO)) // 16
    stream = await heard(Cloud([(total_ms + 1000, None)]), detector, sent)
    assert (len(stream.of(SpeechStart)), len(stream.of(SpeechEnd)), len(stream.texts)) == (1, 1, 1)
    assert total_ms + 1000 <= int(stream.texts[0]) <= total_ms + 1000 + 240
    own = await heard(Cloud(endpoint="own"), detector, sent)
    assert len(own.of(SpeechEnd)) == 2


@pytest.mark.parametrize("at_ms", [None, 600])
async def test_speech_behind_the_end_is_the_next_utterances(detector: VoiceDetector, at_ms: int | None) -> None:
    """Somebody who talks on without a pause is cut where the upstream says, and nothing is told at an old position."""
    sent = packets(joined(silence(900), ONE, TWO, silence(3600)))
    stream = await heard(Cloud([(700, at_ms)]), detector, sent)
    starts, ends = stream.of(SpeechStart), stream.of(SpeechEnd)
    assert len(starts) == len(ends) == len(stream.texts) >= 2
    assert [one.utterance for one in starts] == [one.utterance for one in ends] == list(range(len(starts)))
    assert positions(stream) == sorted(set(positions(stream)))
    assert [one.position for one in stream.of(Final)] == [one.position for one in ends]


async def test_it_is_told_once_however_often_the_upstream_says_it(detector: VoiceDetector) -> None:
    """And what it says of an utterance that is over ends no other one."""
    sent = packets(joined(silence(900), ONE, silence(1500), TWO, silence(3600)))
    stream = await heard(Cloud([(700, 700), (700, 650), (760, None)]), detector, sent)
    assert len(stream.of(SpeechStart)) == len(stream.of(SpeechEnd)) == len(stream.texts)
    assert positions(stream) == sorted(set(positions(stream)))


async def test_a_replay_from_trim_finds_only_what_is_left(detector: VoiceDetector) -> None:
    """Another worker gets the log behind an utterance that has its text: it begins the next one, not the old one."""
    sent = packets(joined(silence(900), ONE, silence(1500), TWO, silence(3600)))
    cloud = Cloud([(len(ONE) // 16 + 700, None), (len(TWO) // 16 + 700, None)])
    first = await heard(cloud, detector, sent)
    assert len(first.texts) == 2
    final = first.bodies.index(first.of(Final)[0])
    trim = next(one.trim for one in first.bodies[final:] if isinstance(one, AsrCredit))
    second = await heard(cloud, detector, sent[trim:], position=trim, utterance=1)
    assert [one.utterance for one in second.of(SpeechStart)] == [1]
    assert abs(second.of(SpeechStart)[0].position - first.of(SpeechStart)[1].position) <= 1


async def test_a_held_key_is_ended_by_nobody_but_who_holds_it(detector: VoiceDetector) -> None:
    """The upstream may say what it likes."""
    sent = packets(joined(ONE, silence(1500), TWO))
    stream = await heard(Cloud([(500, None)]), detector, sent, mode="manual")
    assert [type(one) for one in stream.events] == [Final]
    assert abs(int(stream.texts[0]) - len(joined(ONE, silence(1500), TWO)) // 16) <= 60


async def test_a_fallback_to_an_engine_that_ends_nothing_hands_the_end_back(detector: VoiceDetector) -> None:
    """Then our own silence ends the utterance, as on a worker without the service."""
    sent = packets(joined(silence(900), ONE, silence(1500), TWO, silence(900)))
    stream = await heard(Cloud(fails=True), detector, sent)
    assert len(stream.of(SpeechEnd)) == 2
    assert all(text.startswith("local ") for text in stream.texts)
