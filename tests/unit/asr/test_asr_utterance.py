"""An utterance whose recognisers fail: one retry, then the next engine, and one end whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from shared.errors import EngineError
from shared.upstream.faults import Code, Kind, UpstreamError
from tests.fakes.link_rig import until
from workers.asr.engines.engine import Brief, EndOwner, OnLoss, OnPartial, Recogniser, Transcript
from workers.asr.kept_sound import KeptSound
from workers.asr.recognisers import Recognisers
from workers.asr.utterance import Recognition, Utterance

pytestmark = pytest.mark.unit

DOWN = UpstreamError("down", code=Code.CLOSED)
REFUSED = UpstreamError("refused", code=Code.AUTH, kind=Kind.FATAL)
OPEN = UpstreamError("open", code=Code.OPEN, kind=Kind.QUOTA)
BAD = UpstreamError("bad", code=Code.INPUT, kind=Kind.INPUT)
PATIENCE_S = 20.0
NEVER_S = 3600.0


class Attempt:
    """A recogniser moved by the test; it hears what it is fed and says that."""

    def __init__(self, engine: Local, on_loss: OnLoss) -> None:
        self.engine = engine
        self.lose = on_loss
        self.heard = bytearray()
        self.brief: Brief | None = None
        self.say: OnPartial = lambda text: None
        self.error: EngineError | None = None
        self.may_answer = asyncio.Event()
        self.is_finishing = self.was_cancelled = self.is_closed = False
        self.is_usable = True

    def begin(self, brief: Brief, on_partial: OnPartial) -> None:
        self.engine.attempts.append(self)
        self.heard.clear()
        self.brief, self.say = brief, on_partial
        self.error = self.engine.errors.pop(0) if self.engine.errors else None
        if self.error is not None and self.engine.fails_at == "begin":
            raise self.error

    def feed(self, pcm: bytes) -> None:
        self.heard += pcm
        if self.error is not None and self.engine.fails_at == "feed":
            raise self.error

    async def finish(self) -> Transcript:
        self.is_finishing = True
        if self.error is not None and self.engine.fails_at == "finish":
            raise self.error
        if self.engine.is_held or self.error is not None:
            await self.may_answer.wait()
        return Transcript(self.heard.decode())

    async def cancel(self) -> None:
        self.was_cancelled = True

    async def close(self) -> None:
        self.is_closed = True


@dataclass
class Local:
    """An engine that computes here. `errors` are its attempts' failures in turn; then all goes well."""

    errors: list[EngineError] = field(default_factory=list)
    fails_at: str = "finish"
    is_held: bool = False
    is_heavy: bool = False
    attempts: list[Attempt] = field(default_factory=list)

    async def make(self, on_loss: OnLoss) -> Recogniser:
        return Attempt(self, on_loss)


@dataclass
class Cloud(Local):
    """A service outside."""

    endpoint: EndOwner = "own"
    resolves_names: bool = False

    async def close(self) -> None: ...


@dataclass
class Ear:
    """Listens to an utterance's outcome."""

    partials: list[str] = field(default_factory=list)
    endpoints: list[int | None] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    errors: list[EngineError] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def on_partial(self, utterance: Utterance, text: str) -> None:
        self.partials.append(text)

    def on_endpoint(self, utterance: Utterance, at_ms: int | None) -> None:
        self.endpoints.append(at_ms)

    def on_text(self, utterance: Utterance) -> None:
        assert utterance.transcript is not None
        self.texts.append(utterance.transcript.text)
        self.over.set()

    def on_failure(self, utterance: Utterance, error: EngineError) -> None:
        self.errors.append(error)
        utterance.cancel()
        self.over.set()

    @property
    def ends(self) -> int:
        return len(self.texts) + len(self.errors)

    async def waits(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.over.wait()
        for _ in range(5):
            await asyncio.sleep(0)


class Bench:
    """Utterances on engines in a row."""

    def __init__(self, *engines: Local, local_s: float = NEVER_S, upstream_s: float = NEVER_S) -> None:
        names = [f"engine-{number}" for number in range(len(engines))]
        self.recognisers = Recognisers(dict(zip(names, engines, strict=True)), seats=200, wait_s=PATIENCE_S)
        self.recognition = Recognition(self.recognisers, names[0], local_s, upstream_s, names[1:])
        self._numbers = 0

    def begin(self) -> tuple[Utterance, Ear]:
        self._numbers += 1
        ear = Ear()
        brief = Brief(f"session-{self._numbers}", self._numbers)
        return Utterance(brief, self.recognition, ear, keep_sample=0), ear

    async def hear(self, *words: str) -> Ear:
        utterance, ear = self.begin()
        for number, word in enumerate(words):
            utterance.feed(word.encode(), number)
            await asyncio.sleep(0)
        utterance.end(len(words), 0)
        await ear.waits()
        assert utterance.kept_bytes == 0
        return ear

    async def settled(self) -> None:
        await until(lambda: not self.recognisers._tasks)


@pytest.mark.parametrize("stage", ["begin", "feed", "finish"])
async def test_a_passing_failure_is_retried_once_with_all_the_sound(stage: str) -> None:
    """The second attempt hears from the first sample on, and nobody hears of the first."""
    cloud = Cloud([DOWN], fails_at=stage)
    ear = await Bench(cloud).hear("one ", "two ", "three")
    assert (ear.texts, ear.errors) == (["one two three"], [])
    assert len(cloud.attempts) == 2


async def test_two_failures_are_one_typed_error() -> None:
    """There is no third attempt, and another worker would ask the same service."""
    cloud = Cloud([DOWN, DOWN])
    ear = await Bench(cloud).hear("one")
    assert [(error.code, error.retryable) for error in ear.errors] == [(Code.CLOSED, False)]
    assert (len(cloud.attempts), ear.ends) == (2, 1)


@pytest.mark.parametrize("error", [REFUSED, OPEN, BAD])
async def test_what_a_retry_does_not_mend_goes_to_the_fallback_at_once(error: UpstreamError) -> None:
    """An open breaker above all: nobody waits."""
    cloud, local = Cloud([error]), Local()
    ear = await Bench(cloud, local).hear("one ", "two")
    assert (ear.texts, ear.errors) == (["one two"], [])
    assert (len(cloud.attempts), len(local.attempts)) == (1, 1)


@pytest.mark.parametrize("stage", ["begin", "feed", "finish"])
async def test_the_fallback_hears_the_same_sound(stage: str) -> None:
    """All that came before it at once, and what comes after as it comes."""
    cloud, local = Cloud([DOWN, DOWN], fails_at=stage), Local()
    ear = await Bench(cloud, local).hear("one ", "two ", "three")
    assert (ear.texts, ear.errors) == (["one two three"], [])
    assert bytes(local.attempts[0].heard) == b"one two three"


async def test_the_retry_is_the_utterances_not_the_engines() -> None:
    """Of a chain of services only the first that fails in passing is asked twice."""
    first, second, third = Cloud([DOWN, DOWN]), Cloud([DOWN]), Cloud()
    ear = await Bench(first, second, third).hear("one")
    assert ear.texts == ["one"]
    assert [len(one.attempts) for one in (first, second, third)] == [2, 1, 1]


async def test_when_all_fail_there_is_one_typed_error() -> None:
    """The last one's."""
    died = EngineError("died", code="engine_died", retryable=True)
    ear = await Bench(Cloud([REFUSED]), Local(errors=[died])).hear("one")
    assert [(error.code, error.retryable) for error in ear.errors] == [("engine_died", True)]
    assert ear.texts == []


async def test_nobody_is_interrupted_to_be_told_of_a_failure() -> None:
    """What no other worker would mend is told when speech is over; our own silence ends it then, and no sound waits."""
    cloud = Cloud([REFUSED], fails_at="begin", endpoint="upstream")
    utterance, ear = Bench(cloud).begin()
    utterance.feed(b"one ", 1)
    await until(lambda: utterance.end_owner == "own")
    utterance.feed(b"two", 2)
    for _ in range(5):
        await asyncio.sleep(0)
    assert (ear.ends, utterance.kept_bytes) == (0, 0)
    utterance.end(2, 0)
    await ear.waits()
    assert [error.code for error in ear.errors] == [Code.AUTH]


async def test_what_another_worker_may_mend_is_told_at_once() -> None:
    """It hears the sound while one speaks on."""
    utterance, ear = Bench(Local([EngineError("died", code="engine_died", retryable=True)], fails_at="begin")).begin()
    utterance.feed(b"one ", 1)
    await ear.waits()
    assert [error.code for error in ear.errors] == ["engine_died"]


async def test_an_engine_that_raises_anything_is_passed_over() -> None:
    """A bug of one engine costs no utterance if there is another."""
    cloud, local = Cloud(fails_at="begin"), Local()
    cloud.errors = [ZeroDivisionError()]  # type: ignore[list-item]
    ear = await Bench(cloud, local).hear("one")
    assert (ear.texts, ear.errors) == (["one"], [])


async def test_a_local_engine_that_dies_before_the_end_falls_back() -> None:
    """Its child is killed while one speaks: what was said is not lost."""
    first, second = Local(), Local()
    utterance, ear = Bench(first, second).begin()
    utterance.feed(b"one ", 1)
    await until(lambda: first.attempts)
    first.attempts[0].lose(EngineError("killed", code="engine_died", retryable=True))
    await until(lambda: second.attempts)
    utterance.feed(b"two", 2)
    utterance.end(2, 0)
    await ear.waits()
    assert (ear.texts, ear.errors) == (["one two"], [])


async def test_a_local_engine_alone_keeps_no_sound() -> None:
    """Nobody would hear it again."""
    local = Local()
    utterance, ear = Bench(local).begin()
    utterance.feed(b"one ", 1)
    await until(lambda: local.attempts and local.attempts[0].heard)
    utterance.feed(b"two", 2)
    assert utterance.kept_bytes == 0
    utterance.end(2, 0)
    await ear.waits()
    assert ear.texts == ["one two"]


async def test_an_engine_that_is_late_is_given_up_for_the_next_one() -> None:
    """Its share of the time is over; the next one has its own."""
    local, cloud = Local(is_held=True), Cloud()
    ear = await Bench(local, cloud, local_s=0.2, upstream_s=PATIENCE_S).hear("one")
    assert ear.texts == ["one"]
    assert local.attempts[0].is_finishing


async def test_no_retry_begins_behind_the_deadline() -> None:
    """With hardly any time left the failure is told at once."""
    cloud = Cloud([DOWN])
    ear = await Bench(cloud, upstream_s=0.4).hear("one")
    assert [error.code for error in ear.errors] == [Code.CLOSED]
    assert len(cloud.attempts) == 1


async def test_a_service_alone_that_is_late_is_a_typed_error() -> None:
    """Within the upstream's deadline, not the local one."""
    cloud = Cloud(is_held=True)
    ear = await Bench(cloud, upstream_s=0.2).hear("one")
    assert [(error.code, error.retryable) for error in ear.errors] == [(Code.TOTAL_TIMEOUT, False)]
    assert ear.ends == 1


async def test_partials_of_a_new_attempt_do_not_come_back_shorter() -> None:
    """Until it has caught up it says nothing; then it may say what it likes."""
    cloud = Cloud()
    utterance, ear = Bench(cloud).begin()
    await until(lambda: cloud.attempts)
    first = cloud.attempts[0]
    first.say("one two")
    first.lose(DOWN)
    await until(lambda: len(cloud.attempts) == 2)
    first.say("from the dead, and longer")
    for text in ("one", "one two", "one two three", "one to"):
        cloud.attempts[1].say(text)
    utterance.cancel()
    assert ear.partials == ["one two", "one two three", "one to"]


async def test_the_end_of_speech_is_the_owners_to_find() -> None:
    """Of the attempt at work, before the end, and only if the engine owns it."""
    cloud = Cloud(endpoint="upstream")
    utterance, ear = Bench(cloud, Local()).begin()
    await until(lambda: cloud.attempts)
    assert utterance.end_owner == "upstream"
    first = cloud.attempts[0]
    assert first.brief is not None
    first.brief.on_endpoint(500)
    first.lose(REFUSED)
    await until(lambda: utterance.end_owner == "own")
    first.brief.on_endpoint(900)
    utterance.end(1, 0)
    first.brief.on_endpoint(1000)
    await ear.waits()
    assert ear.endpoints == [500]


CANCELLED_AT: dict[str, Callable[[Local, Local], bool]] = {
    "before a recogniser": lambda cloud, local: True,
    "speaking": lambda cloud, local: bool(cloud.attempts),
    "retry": lambda cloud, local: len(cloud.attempts) == 2,
    "fallback": lambda cloud, local: bool(local.attempts),
}


@pytest.mark.parametrize("is_ended", [False, True])
@pytest.mark.parametrize("stage", CANCELLED_AT)
async def test_a_cancel_in_every_state_frees_everything(stage: str, is_ended: bool) -> None:
    """Nothing is told, and whoever was at work is left or closed."""
    errors = {"retry": [DOWN], "fallback": [DOWN, DOWN]}.get(stage, [])
    cloud, local = Cloud(list(errors), fails_at="feed", is_held=True), Local(is_held=True)
    bench = Bench(cloud, local)
    utterance, ear = bench.begin()
    utterance.feed(b"one", 1)
    if is_ended:
        utterance.end(1, 0)
    await until(lambda: CANCELLED_AT[stage](cloud, local))
    utterance.cancel()
    await asyncio.wait([utterance._task])
    await bench.settled()
    assert (ear.ends, utterance.kept_bytes) == (0, 0)
    assert all(one.was_cancelled or one.is_closed for one in (*cloud.attempts, *local.attempts))
    cloud.is_held = local.is_held = False
    assert (await bench.hear("two")).texts == ["two"]
    assert all(bench.recognisers._seats[name]._value == 200 for name in bench.recognisers._seats)


async def test_a_hundred_interleaved_utterances_keep_their_own_words() -> None:
    """While every third one's service fails, once or for good."""
    cloud, local = Cloud(), Local()
    cloud.errors = [DOWN, DOWN, REFUSED, DOWN] * 10
    bench = Bench(cloud, local)
    begun = [bench.begin() for _ in range(100)]
    for turn in range(5):
        for number, (utterance, _) in enumerate(begun):
            utterance.feed(f"{number}.{turn} ".encode(), turn)
        await asyncio.sleep(0)
    for utterance, _ in begun:
        utterance.end(5, 0)
    for _, ear in begun:
        await ear.waits()
    wanted = [["".join(f"{number}.{turn} " for turn in range(5))] for number in range(100)]
    assert [ear.texts for _, ear in begun] == wanted
    assert all(ear.ends == 1 for _, ear in begun)
    assert local.attempts


def test_kept_sound_has_a_bound() -> None:
    """Beyond it nothing is held, and it says so."""
    sound = KeptSound(max_bytes=10)
    sound.add(b"12345")
    assert (list(sound), sound.size_bytes, sound.is_whole) == ([b"12345"], 5, True)
    sound.add(b"678901")
    sound.add(b"2")
    assert (list(sound), sound.size_bytes, sound.is_whole) == ([], 0, False)
