"""What every recognition engine must do, whatever it is made of."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from bench.upstreams.script import Fault, Kind, Script, Stage
from shared.errors import EngineError
from tests.fakes.link_rig import until
from tests.fakes.recognition import ENTRIES, SEATS, SENTENCES, UPSTREAMS, Bench, Ear, Entry, opened_bench, plain
from tests.fakes.speech import RATE_HZ, Pcm, joined, noise, silence, tone
from workers.asr.engines.child import Word
from workers.asr.engines.engine import Brief, OnLoss, Recogniser
from workers.asr.engines.process import ChildRecogniser

pytestmark = [pytest.mark.contract, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=ENTRIES, ids=lambda entry: entry.name)
async def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with opened_bench(request.param, tmp_path_factory.mktemp("engine")) as bench:
        yield bench


def no_speech(bench: Bench) -> list[str]:
    """What a sound without speech is answered with."""
    return [bench.expected(SENTENCES[0])] if bench.entry.says == "its number" else [""]


async def test_a_sentence_has_its_text_once(bench: Bench) -> None:
    """A normal utterance: one text, no error, nothing after it; and again after each end."""
    for sentence in SENTENCES:
        ear = await bench.hear(bench.sound(sentence))
        assert ear.texts == [bench.expected(sentence)]
        assert (ear.errors, ear.partials_after) == ([], 0)


async def test_partials_come_before_the_text(bench: Bench) -> None:
    """A streaming engine tells what it has heard so far, never empty, never twice the same."""
    ear = await bench.hear(joined(*(bench.sound(sentence) for sentence in SENTENCES)))
    if not bench.entry.streams:
        assert ear.partials == []
        return
    assert ear.partials and all(ear.partials)
    assert all(one != after for one, after in zip(ear.partials, ear.partials[1:], strict=False))


@pytest.mark.parametrize("sound", [silence(0), silence(10), silence(60), silence(2000)], ids=lambda pcm: f"{len(pcm)}")
async def test_silence_has_an_empty_text(bench: Bench, sound: Pcm) -> None:
    """No audio at all, one frame, two seconds: one text without a word, and no error."""
    ear = await bench.hear(sound)
    assert (ear.texts, ear.errors) == (no_speech(bench), [])


@pytest.mark.parametrize("sound", [noise(60, 0.1), noise(1500), tone(120)], ids=["frame", "noise", "tone"])
async def test_no_speech_still_has_an_answer(bench: Bench, sound: Pcm) -> None:
    """A frame of noise, a quiet room, a burst: one text, whatever it says, and no error."""
    ear = await bench.hear(sound)
    assert (len(ear.texts), ear.errors) == (1, [])


async def test_thirty_seconds_are_heard(bench: Bench) -> None:
    """The longest utterance there is: one text and no error."""
    once = bench.sound(SENTENCES[0])
    ear = await bench.hear(joined(*[once] * (30 * RATE_HZ // len(once))), deadline_s=60.0)
    assert (len(ear.texts), ear.errors) == (1, [])
    assert ear.texts[0]


async def test_cancel_before_the_first_audio(bench: Bench) -> None:
    """Nothing is told, and the recogniser serves again."""
    utterance, ear = bench.begin()
    await asyncio.sleep(0)
    utterance.cancel()
    after = await bench.hear(bench.sound(SENTENCES[0]))
    assert ear.ends == 0
    assert after.texts == [bench.expected(SENTENCES[0])]


async def test_cancel_in_the_middle(bench: Bench) -> None:
    """What a cancelled utterance had said shows up in no other one."""
    cancelled = []
    for _ in range(SEATS):
        utterance, ear = bench.begin()
        utterance.feed(joined(bench.sound(SENTENCES[3]), bench.sound(SENTENCES[1])).tobytes(), 1)
        await asyncio.sleep(0)
        utterance.cancel()
        cancelled.append(ear)
    after = await bench.hear(bench.sound(SENTENCES[0]))
    assert after.texts == [bench.expected(SENTENCES[0])]
    assert all(ear.ends == 0 for ear in cancelled)


async def test_cancel_while_it_finishes(bench: Bench) -> None:
    """A text that comes too late is nobody's."""
    utterance, ear = bench.begin()
    utterance.feed(bench.sound(SENTENCES[3]).tobytes(), 1)
    utterance.end(1, 0)
    await asyncio.sleep(0)
    utterance.cancel()
    for _ in range(SEATS):
        after = await bench.hear(bench.sound(SENTENCES[1]))
        assert after.texts == [bench.expected(SENTENCES[1])]
    assert ear.ends == 0


async def test_cancel_after_the_text(bench: Bench) -> None:
    """It changes nothing any more."""
    utterance, ear = bench.begin()
    utterance.feed(bench.sound(SENTENCES[0]).tobytes(), 1)
    utterance.end(1, 0)
    async with asyncio.timeout(60):
        await ear.over.wait()
    utterance.cancel()
    after = await bench.hear(bench.sound(SENTENCES[1]))
    assert after.texts == [bench.expected(SENTENCES[1])]
    assert ear.ends == 1


async def test_many_interleaved_utterances(bench: Bench) -> None:
    """Each has its own text, however few recognisers there are."""
    sentences = [SENTENCES[number % len(SENTENCES)] for number in range(bench.entry.many)]
    begun = [bench.begin(deadline_s=100.0) for _ in sentences]
    first = bench.numbers - len(sentences) + 1
    pieces = [bench.sound(sentence, number % 64).tobytes() for number, sentence in enumerate(sentences)]
    for at in range(0, max(map(len, pieces)), 19_200):
        for (utterance, _), piece in zip(begun, pieces, strict=True):
            utterance.feed(piece[at : at + 19_200], at // 19_200)
        await asyncio.sleep(0)
    for utterance, _ in begun:
        utterance.end(1, 0)
    async with asyncio.timeout(100):
        for _, ear in begun:
            await ear.over.wait()
    wanted = [[bench.expected(sentence, first + at, at % 64)] for at, sentence in enumerate(sentences)]
    assert [ear.texts for _, ear in begun] == wanted


@pytest.mark.parametrize("entry", [one for one in ENTRIES if one.has_children], ids=lambda entry: entry.name)
async def test_a_killed_child_is_a_typed_error_and_its_successor_works(entry: Entry, tmp_path: Path) -> None:
    """kill -9 in the middle of an utterance: one error, which another worker may try, and the next one is heard."""
    others = children()
    async with opened_bench(entry, tmp_path, seats=1) as bench:
        utterance, ear = bench.begin()
        utterance.feed(bench.sound(SENTENCES[0]).tobytes(), 1)
        await asyncio.sleep(0)
        for pid in set(children()) - set(others):
            os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(60):
            await ear.over.wait()
        assert [(error.code, error.retryable) for error in ear.errors] == [("engine_died", True)]
        assert ear.texts == []
        after = await bench.hear(bench.sound(SENTENCES[1]))
        assert after.texts == [bench.expected(SENTENCES[1])]


def children() -> list[int]:
    """Recognisers' processes that are this process's own."""
    tasks = Path(f"/proc/{os.getpid()}/task").iterdir()
    pids = [pid for task in tasks for pid in _read(task / "children").split()]
    return [int(pid) for pid in pids if "workers.asr.engines" in _read(Path(f"/proc/{pid}/cmdline"))]


def _read(file: Path) -> str:
    """Empty, if the process or thread has ended meanwhile."""
    try:
        return file.read_text()
    except OSError:
        return ""


# Services outside that fail

FAILING = [
    Fault(kind, stage)
    for kind in (Kind.SILENT, Kind.ERROR, Kind.QUOTA, Kind.CLOSE, Kind.GARBAGE)
    for stage in (Stage.CONNECT, Stage.START, Stage.STREAM, Stage.FINISH)
]
ODD = [Fault(kind, Stage.FINISH) for kind in (Kind.NO_RESULT, Kind.NO_SPEECH, Kind.WRONG_SESSION)]
HURRIED = dict.fromkeys(("connect_timeout_s", "first_timeout_s", "idle_timeout_s"), 1.0)


def named(fault: Fault) -> str:
    return f"{fault.kind.value}@{fault.stage.value}"


async def heard_with(entry: Entry, fault: Fault, directory: Path) -> Ear:
    """A sentence that a service with this fault hears, and one more after it has been mended."""
    async with opened_bench(entry, directory, options=HURRIED) as bench:
        assert bench.fake is not None
        bench.fake.script = Script(fault=fault)
        ear = await bench.hear(bench.sound(SENTENCES[0]), deadline_s=20.0)
        bench.fake.script = Script()
        after = await bench.hear(bench.sound(SENTENCES[1]))
        assert after.ends == 1 and (after.texts or after.errors[0].code == "upstream_open")
    return ear


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        pytest.param(entry, fault, id=f"{entry.name}-{named(fault)}")
        for entry in UPSTREAMS
        for fault in FAILING
        if named(fault) not in entry.unknown
    ],
)
async def test_a_failing_service_is_one_typed_error(entry: Entry, fault: Fault, tmp_path: Path) -> None:
    """Whatever it does, and whenever: the utterance ends once, with an error that says what follows, in time."""
    ear = await heard_with(entry, fault, tmp_path)
    assert ear.texts == [] and len(ear.errors) == 1
    assert ear.errors[0].code.startswith("upstream_")


@pytest.mark.parametrize("fault", ODD, ids=named)
@pytest.mark.parametrize("entry", UPSTREAMS, ids=lambda entry: entry.name)
async def test_an_odd_service_ends_the_utterance_once(entry: Entry, fault: Fault, tmp_path: Path) -> None:
    """An end without a result, a word that nothing was heard, another session's message: a text or an error."""
    ear = await heard_with(entry, fault, tmp_path)
    assert ear.ends == 1
    assert all(error.code.startswith("upstream_") for error in ear.errors)


# Engines that fail


FAULTY = Entry("faulty", plain("faulty"))


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
    bench = Bench(FAULTY, engine)
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
    bench = Bench(FAULTY, engine)
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
