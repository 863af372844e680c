"""What every recognition engine must do, whatever it is made of."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from shared.errors import EngineError
from shared.settings import EngineChoice
from tests.fakes.link_rig import until
from tests.fakes.speech import Pcm, joined, noise, say, silence, tone
from workers.asr.engines.child import Word
from workers.asr.engines.engine import Brief, Engine, OnLoss, Recogniser
from workers.asr.engines.process import ChildRecogniser
from workers.asr.engines.registry import make_engine
from workers.asr.recognisers import Recognisers
from workers.asr.utterance import Recognition, Utterance

pytestmark = [pytest.mark.contract, pytest.mark.asyncio(loop_scope="module")]

CHOICES = {
    "pocketsphinx": EngineChoice(name="pocketsphinx", type="pocketsphinx"),
    "scripted whole": EngineChoice(name="scripted whole", type="scripted"),
    "scripted stream": EngineChoice(name="scripted stream", type="scripted", options={"partials": True}),
}
SEATS = 2
SENTENCES = ("what time is it", "tell me a joke", "thank you very much", "set the volume to fifty")


@dataclass
class Ear:
    """Listens to an utterance's outcome."""

    partials: list[str] = field(default_factory=list)
    partials_after: int = 0
    texts: list[str] = field(default_factory=list)
    errors: list[EngineError] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def on_partial(self, utterance: Utterance, text: str) -> None:
        if self.over.is_set():
            self.partials_after += 1
        self.partials.append(text)

    def on_text(self, utterance: Utterance) -> None:
        assert utterance.transcript is not None
        self.texts.append(utterance.transcript.text)
        self.over.set()

    def on_failure(self, utterance: Utterance, error: EngineError) -> None:
        self.errors.append(error)
        utterance.cancel()
        self.over.set()


class Bench:
    """Utterances on one engine, as streams would run them."""

    def __init__(self, name: str, engine: Engine, seats: int = SEATS) -> None:
        self.name = name
        self.recognisers = Recognisers({name: engine}, seats, wait_s=60)
        self._numbers = 0

    def begin(self, deadline_s: float = 30.0) -> tuple[Utterance, Ear]:
        ear = Ear()
        self._numbers += 1
        brief = Brief(f"session-{self._numbers}", self._numbers)
        return Utterance(brief, Recognition(self.recognisers, self.name, deadline_s), ear, 0), ear

    async def hear(self, pcm: Pcm | bytes, deadline_s: float = 30.0) -> Ear:
        utterance, ear = self.begin(deadline_s)
        sound = pcm if isinstance(pcm, bytes) else pcm.tobytes()
        for at in range(0, len(sound), 1920):
            utterance.feed(sound[at : at + 1920], at // 1920)
        utterance.end(len(sound) // 1920, 0)
        async with asyncio.timeout(60):
            await ear.over.wait()
        return ear


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=list(CHOICES))
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    bench = Bench(request.param, make_engine(CHOICES[request.param]))
    await bench.recognisers.start(request.param)
    yield bench
    await bench.recognisers.close()


def expected(bench: Bench, utterance: int, sentence: str) -> str:
    return sentence if bench.name == "pocketsphinx" else f"utterance {utterance} of session-{utterance}"


async def test_a_sentence_has_its_text_once(bench: Bench) -> None:
    """A normal utterance: one text, no error, nothing after it."""
    for sentence in SENTENCES:
        ear = await bench.hear(joined(silence(300), say(sentence), silence(500)))
        assert ear.texts == [expected(bench, bench._numbers, sentence)]
        assert (ear.errors, ear.partials_after) == ([], 0)


async def test_partials_come_before_the_text(bench: Bench) -> None:
    """A streaming engine tells what it has heard so far, never empty, never twice the same."""
    ear = await bench.hear(joined(silence(300), say("the weather is nice today and i want to go out"), silence(500)))
    if bench.name == "scripted whole":
        assert ear.partials == []
        return
    assert len(ear.partials) >= 2 and all(ear.partials)
    assert all(one != after for one, after in zip(ear.partials, ear.partials[1:], strict=False))


@pytest.mark.parametrize("sound", [silence(2000), noise(1500), tone(120), silence(0), silence(10)])
async def test_no_speech_still_has_an_answer(bench: Bench, sound: Pcm) -> None:
    """Silence, noise, a burst, nothing at all: one text, perhaps empty, and no error."""
    ear = await bench.hear(sound)
    assert len(ear.texts) == 1 and ear.errors == []
    if bench.name == "pocketsphinx" and not sound.any():
        assert ear.texts == [""]


async def test_cancel_before_the_first_audio(bench: Bench) -> None:
    """Nothing is told, and the recogniser serves again."""
    utterance, ear = bench.begin()
    await asyncio.sleep(0)
    utterance.cancel()
    after = await bench.hear(say(SENTENCES[0]))
    assert (ear.texts, ear.errors) == ([], [])
    assert after.texts == [expected(bench, bench._numbers, SENTENCES[0])]


async def test_cancel_in_the_middle(bench: Bench) -> None:
    """What a cancelled utterance had said shows up in no other one."""
    cancelled = []
    for _ in range(SEATS):
        utterance, ear = bench.begin()
        utterance.feed(joined(say(SENTENCES[3]), say(SENTENCES[1])).tobytes(), 1)
        await asyncio.sleep(0)
        utterance.cancel()
        cancelled.append(ear)
    after = await bench.hear(joined(silence(300), say(SENTENCES[0]), silence(300)))
    assert after.texts == [expected(bench, bench._numbers, SENTENCES[0])]
    assert all((ear.texts, ear.errors) == ([], []) for ear in cancelled)


async def test_cancel_while_it_finishes(bench: Bench) -> None:
    """A text that comes too late is nobody's."""
    utterance, ear = bench.begin()
    utterance.feed(say(SENTENCES[3]).tobytes(), 1)
    utterance.end(1, 0)
    await asyncio.sleep(0)
    utterance.cancel()
    after = [await bench.hear(joined(silence(300), say(SENTENCES[1]), silence(300))) for _ in range(SEATS)]
    assert {tuple(one.texts) for one in after} <= {
        (expected(bench, bench._numbers - back, SENTENCES[1]),) for back in range(SEATS)
    }
    assert ear.texts == []


async def test_twenty_interleaved_utterances(bench: Bench) -> None:
    """Each has its own text, however few recognisers there are."""
    sentences = [SENTENCES[1 + number % 2] for number in range(20)]
    begun = [bench.begin(deadline_s=100.0) for _ in sentences]
    first = bench._numbers - len(sentences) + 1
    pieces = [joined(silence(200), say(sentence), silence(300)).tobytes() for sentence in sentences]
    for at in range(0, max(map(len, pieces)), 19_200):
        for (utterance, _), piece in zip(begun, pieces, strict=True):
            utterance.feed(piece[at : at + 19_200], at // 19_200)
        await asyncio.sleep(0)
    for utterance, _ in begun:
        utterance.end(1, 0)
    async with asyncio.timeout(100):
        for _, ear in begun:
            await ear.over.wait()
    wanted = [[expected(bench, first + number, sentence)] for number, sentence in enumerate(sentences)]
    assert [ear.texts for _, ear in begun] == wanted


# Engines that fail


class FaultyEngine:
    """Children whose decoder fails on purpose."""

    is_heavy = True

    def __init__(self, how: str, where: str) -> None:
        self._options = {"how": how, "where": where}
        self.made: list[ChildRecogniser] = []

    async def make(self, on_loss: OnLoss) -> Recogniser:
        self.made.append(await ChildRecogniser.spawn("tests.fakes.faulty_decoder", self._options, on_loss))
        return self.made[-1]


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


FAILS, WORKS = b"\x01" * 9600, b"\x00" * 9600


@pytest.mark.parametrize("where", ["feed", "finish"])
@pytest.mark.parametrize(
    ("how", "code"), [("raise", "engine_raised"), ("exit", "engine_died"), ("sleep", "asr_timeout")]
)
async def test_a_failing_child_is_a_typed_error_and_its_successor_works(how: str, code: str, where: str) -> None:
    """Exactly one error within the deadline, nobody beside it is disturbed, and the seat is good again."""
    engine = FaultyEngine(how, where)
    bench = Bench("faulty", engine)
    await bench.recognisers.start("faulty")
    failing = asyncio.create_task(bench.hear(FAILS, deadline_s=1.0))
    beside = await bench.hear(WORKS)
    assert beside.texts == ["9600"] and not beside.errors
    ear = await failing
    assert [(error.code, error.retryable) for error in ear.errors] == [(code, True)]
    assert ear.texts == []
    again = await asyncio.gather(*(bench.hear(WORKS) for _ in range(4)))
    assert [one.texts for one in again] == [["9600"]] * 4
    await until(lambda: len(engine.made) == SEATS + 1)
    await bench.recognisers.close()
    assert not any(is_there(child.pid) for child in engine.made)


async def test_a_child_that_cannot_start_is_named() -> None:
    """The service does not start; the error says which decoder it was."""
    with pytest.raises(EngineError, match="faulty_decoder") as failure:
        await FaultyEngine("raise", "make").make(lambda error: None)
    assert failure.value.code == "engine_start"


async def test_an_idle_child_that_is_killed_is_replaced() -> None:
    """kill -9 of a child costs no utterance."""
    engine = FaultyEngine("raise", "never")
    bench = Bench("faulty", engine)
    await bench.recognisers.start("faulty")
    for child in list(engine.made):
        os.kill(child.pid, signal.SIGKILL)
    await until(lambda: len(engine.made) == 2 * SEATS)
    assert all(child.is_usable for child in engine.made[SEATS:])
    assert (await bench.hear(WORKS)).texts == ["9600"]
    await bench.recognisers.close()


async def test_an_answer_to_the_utterance_before_is_nobodys() -> None:
    """A text and the answer to a cancel may cross with the next utterance's beginning."""
    engine = FaultyEngine("pause", "finish")
    await engine.make(lambda error: None)
    recogniser, partials = engine.made[0], list[str]()
    recogniser.begin(Brief("s", 1), partials.append)
    before = recogniser._utterance
    recogniser.begin(Brief("s", 2), partials.append)
    recogniser.feed(FAILS)
    finishing = asyncio.create_task(recogniser.finish())
    await until(lambda: partials)
    for word in (Word.PARTIAL, Word.FINAL, Word.IDLE):
        recogniser._on_message(word, before, "late")
    assert (await finishing).text == "9600"
    assert set(partials) == {"9600"}
    await recogniser.close()
