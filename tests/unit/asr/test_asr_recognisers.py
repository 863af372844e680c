"""Recognisers are scarce: who gets one, who is refused, and what becomes of the broken ones."""

from __future__ import annotations

import asyncio

import pytest

from shared.errors import ConfigError, EngineError
from shared.settings import AsrSettings, EngineChoice
from workers.asr.engines.engine import Brief, EndOwner, OnLoss, OnPartial, Recogniser, Transcript
from workers.asr.engines.registry import LIGHT_SEATS, make_engine, make_engines, own_seats
from workers.asr.recognisers import Outcome, Recognisers

pytestmark = pytest.mark.unit


class Hand:
    """A recogniser moved by the test."""

    def __init__(self, on_loss: OnLoss) -> None:
        self.is_usable = True
        self.is_closed = False
        self.on_loss = on_loss
        self.may_cancel = asyncio.Event()

    def begin(self, brief: Brief, on_partial: OnPartial) -> None: ...

    def feed(self, pcm: bytes) -> None: ...

    async def finish(self) -> Transcript:
        return Transcript("")

    async def cancel(self) -> None:
        await self.may_cancel.wait()

    async def close(self) -> None:
        self.is_closed = True


class Hands:
    """Makes them; `fails` makes the next one fail."""

    is_heavy = True

    def __init__(self) -> None:
        self.made: list[Hand] = []
        self.fails = 0

    async def make(self, on_loss: OnLoss) -> Recogniser:
        if self.fails:
            self.fails -= 1
            raise EngineError("none left", code="engine_start")
        self.made.append(Hand(on_loss))
        return self.made[-1]


async def settled(recognisers: Recognisers) -> None:
    await recognisers._tasks.settled()
    await asyncio.sleep(0)


async def test_they_are_made_before_they_are_needed() -> None:
    """The default engine's all, and one of every other engine that takes long."""
    first, second = Hands(), Hands()
    recognisers = Recognisers({"first": first, "second": second}, seats=3)
    await recognisers.start("first")
    assert (len(first.made), len(second.made)) == (3, 1)
    await recognisers.close()
    assert all(hand.is_closed for hand in first.made + second.made)


async def test_an_engine_with_seats_of_its_own_competes_with_nobody() -> None:
    """The others share the worker's number, and are refused while it is free."""
    hands = {name: Hands() for name in ("here", "also", "cloud")}
    recognisers = Recognisers(hands, seats=1, own_seats={"cloud": 2}, wait_s=0.01)
    await recognisers.start("here")
    held = await recognisers.take("here", pytest.fail)
    for engine in ("also", "here"):
        with pytest.raises(EngineError, match="at work"):
            await recognisers.take(engine, pytest.fail)
    clouds = [await recognisers.take("cloud", pytest.fail) for _ in range(2)]
    with pytest.raises(EngineError, match="at work"):
        await recognisers.take("cloud", pytest.fail)
    recognisers.give_back("cloud", clouds[0], Outcome.IDLE)
    with pytest.raises(EngineError, match="at work"):
        await recognisers.take("also", pytest.fail)
    recognisers.give_back("here", held, Outcome.IDLE)
    await recognisers.take("also", pytest.fail)
    await recognisers.close()


def test_seats_of_engines_come_from_their_sections() -> None:
    """A section's own number, 64 for what computes elsewhere, the worker's number for the rest."""
    sections = {
        "Sphinx": EngineChoice(name="Sphinx", type="pocketsphinx"),
        "Own": EngineChoice(name="Own", type="pocketsphinx", options={"recognisers": 3}),
        "Light": EngineChoice(name="Light", type="scripted"),
        "Few": EngineChoice(name="Few", type="scripted", options={"recognisers": 1}),
    }
    settings = AsrSettings(engine=sections["Sphinx"], engines=sections)
    assert own_seats(settings, make_engines(settings)) == {"Own": 3, "Light": LIGHT_SEATS, "Few": 1}


@pytest.mark.parametrize("number", [0, True, "3", 1025, 1.5])
def test_a_number_of_seats_that_cannot_be_is_named(number: object) -> None:
    """The message says which section's key is wrong."""
    with pytest.raises(ConfigError) as caught:
        make_engine(EngineChoice(name="Odd", type="scripted", options={"recognisers": number}))
    assert caught.value.key == "ASR.Odd.recognisers"


async def test_one_more_than_there_are_is_refused_as_busy() -> None:
    """After the wait, with an error another worker may do better on."""
    recognisers = Recognisers({"hand": Hands()}, seats=2, wait_s=0.01)
    await recognisers.start("hand")
    await recognisers.take("hand", pytest.fail)
    await recognisers.take("hand", pytest.fail)
    with pytest.raises(EngineError) as refusal:
        await recognisers.take("hand", pytest.fail)
    assert (refusal.value.code, refusal.value.retryable) == ("asr_busy", True)


async def test_who_waits_gets_the_next_one_back() -> None:
    """First come, first served; the same recogniser serves again."""
    hands = Hands()
    recognisers = Recognisers({"hand": hands}, seats=1, wait_s=30)
    await recognisers.start("hand")
    held = await recognisers.take("hand", pytest.fail)
    order: list[int] = []

    async def wait(number: int) -> None:
        recogniser = await recognisers.take("hand", pytest.fail)
        order.append(number)
        recognisers.give_back("hand", recogniser, Outcome.IDLE)

    waiting = [asyncio.create_task(wait(number)) for number in range(4)]
    await asyncio.sleep(0)
    assert order == []
    recognisers.give_back("hand", held, Outcome.IDLE)
    await asyncio.gather(*waiting)
    assert order == [0, 1, 2, 3] and len(hands.made) == 1


async def test_a_broken_one_is_closed_and_made_anew() -> None:
    """Its seat is free only when its successor is warm."""
    hands = Hands()
    recognisers = Recognisers({"hand": hands}, seats=1, wait_s=30)
    await recognisers.start("hand")
    broken = await recognisers.take("hand", pytest.fail)
    recognisers.give_back("hand", broken, Outcome.BROKEN)
    successor = await recognisers.take("hand", pytest.fail)
    assert hands.made[0].is_closed and successor is hands.made[1]


async def test_one_that_cannot_leave_an_utterance_is_replaced() -> None:
    """A cancelled utterance frees the seat by an answer or by a new recogniser."""
    hands = Hands()
    recognisers = Recognisers({"hand": hands}, seats=1, wait_s=30, cancel_timeout_s=0.01)
    await recognisers.start("hand")
    stuck = await recognisers.take("hand", pytest.fail)
    recognisers.give_back("hand", stuck, Outcome.UNFINISHED)
    assert await recognisers.take("hand", pytest.fail) is hands.made[1]
    assert hands.made[0].is_closed
    recognisers.give_back("hand", hands.made[1], Outcome.UNFINISHED)
    hands.made[1].may_cancel.set()
    assert await recognisers.take("hand", pytest.fail) is hands.made[1]


async def test_an_idle_one_that_dies_is_replaced() -> None:
    """Nobody has to trip over it first."""
    hands = Hands()
    recognisers = Recognisers({"hand": hands}, seats=2, wait_s=30)
    await recognisers.start("hand")
    hands.made[0].on_loss(EngineError("gone", code="engine_died"))
    await settled(recognisers)
    assert len(hands.made) == 3 and hands.made[0].is_closed
    assert {await recognisers.take("hand", pytest.fail), await recognisers.take("hand", pytest.fail)} == set(
        hands.made[1:]
    )


async def test_the_holder_of_one_that_dies_is_told() -> None:
    """At once, not at its next call; it is replaced when the holder gives it back."""
    hands = Hands()
    recognisers = Recognisers({"hand": hands}, seats=1, wait_s=30)
    await recognisers.start("hand")
    told: list[EngineError] = []
    held = await recognisers.take("hand", told.append)
    hands.made[0].on_loss(EngineError("gone", code="engine_died"))
    assert [error.code for error in told] == ["engine_died"] and len(hands.made) == 1
    recognisers.give_back("hand", held, Outcome.BROKEN)
    assert await recognisers.take("hand", pytest.fail) is hands.made[1]


async def test_a_seat_survives_a_recogniser_that_cannot_be_made() -> None:
    """The next one to ask tries again."""
    hands = Hands()
    recognisers = Recognisers({"hand": hands}, seats=1, wait_s=30)
    await recognisers.start("hand")
    hands.fails = 2
    recognisers.give_back("hand", await recognisers.take("hand", pytest.fail), Outcome.BROKEN)
    await settled(recognisers)
    with pytest.raises(EngineError) as failure:
        await recognisers.take("hand", pytest.fail)
    assert failure.value.code == "engine_start"
    assert await recognisers.take("hand", pytest.fail) is hands.made[1]


async def test_many_takers_that_give_up_leak_no_seat() -> None:
    """Refused and cancelled waiters leave every seat usable."""
    recognisers = Recognisers({"hand": Hands()}, seats=2, wait_s=0.001)
    await recognisers.start("hand")
    held = [await recognisers.take("hand", pytest.fail), await recognisers.take("hand", pytest.fail)]
    waiting = [asyncio.create_task(recognisers.take("hand", pytest.fail)) for _ in range(20)]
    await asyncio.sleep(0)
    for task in waiting[::2]:
        task.cancel()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, EngineError | asyncio.CancelledError) for result in results)
    for one in held:
        recognisers.give_back("hand", one, Outcome.IDLE)
    assert len({id(await recognisers.take("hand", pytest.fail)) for _ in range(2)}) == 2


# Many sections


def sections(count: int, **options: object) -> AsrSettings:
    """`count` devices, each with a section of its own that says the same."""
    own = {
        f"Own{number}": EngineChoice(name=f"Own{number}", type="scripted", options=options) for number in range(count)
    }
    return AsrSettings(engine=EngineChoice(name="Script", type="scripted"), engines=own, recognisers=2)


async def test_fifty_devices_with_a_section_each_share_an_engine() -> None:
    """What is held does not grow with the number of sections that say the same."""
    settings = sections(50, partials=True, text="one two")
    engines = make_engines(settings)
    assert len(engines) == 51
    assert len({id(engine) for engine in engines.values()}) == 2
    recognisers = Recognisers(engines, settings.recognisers, own_seats=own_seats(settings, engines))
    await recognisers.start("Script")
    seen = set()
    for name in engines:
        recogniser = await recognisers.take(name, pytest.fail)
        seen.add(id(recogniser))
        recognisers.give_back(name, recogniser, Outcome.IDLE)
    assert len(seen) == 2
    assert sum(map(len, recognisers._idle.values())) == 2
    await recognisers.close()


def test_sections_that_differ_in_one_option_do_not_share() -> None:
    """Neither do those of another type."""
    choices = [
        EngineChoice(name="A", type="scripted", options={"text": "a"}),
        EngineChoice(name="B", type="scripted", options={"text": "b"}),
        EngineChoice(name="C", type="pocketsphinx", options={}),
        EngineChoice(name="D", type="scripted", options={"text": "a"}),
        EngineChoice(name="E", type="scripted", options={"text": "a", "recognisers": 3}),
    ]
    engines = make_engines(AsrSettings(engine=choices[0], engines={one.name: one for one in choices}))
    assert engines["A"] is engines["D"]
    assert len({id(engine) for engine in engines.values()}) == 4


async def test_slow_engines_of_fifty_devices_hold_few_recognisers() -> None:
    """All different: as many lie idle as there are seats, and the one that lay idle longest made room."""
    hands = {"default": Hands(), **{f"own-{number}": Hands() for number in range(50)}}
    recognisers = Recognisers(hands, seats=2)
    await recognisers.start("default")
    for name in hands:
        recogniser = await recognisers.take(name, pytest.fail)
        recognisers.give_back(name, recogniser, Outcome.IDLE)
        await settled(recognisers)
        alive = [hand for one in hands.values() for hand in one.made if not hand.is_closed]
        assert len(alive) <= 2 + 2
    assert {name for name, one in hands.items() if any(not hand.is_closed for hand in one.made)} == {
        "default",
        "own-48",
        "own-49",
    }
    await recognisers.close()
    assert all(hand.is_closed for one in hands.values() for hand in one.made)


async def test_a_spare_that_dies_is_made_anew_and_no_seat_is_lost() -> None:
    """An idle recogniser of a slow engine that is not the default."""
    first, second = Hands(), Hands()
    recognisers = Recognisers({"first": first, "second": second}, seats=2)
    await recognisers.start("first")
    second.made[0].on_loss(EngineError("killed", code="engine_died", retryable=True))
    await settled(recognisers)
    assert (len(second.made), second.made[0].is_closed) == (2, True)
    taken = [await recognisers.take("second", pytest.fail) for _ in range(2)]
    assert taken[0] is second.made[1]
    for one in taken:
        recognisers.give_back("second", one, Outcome.IDLE)
    await recognisers.close()


async def test_an_engine_that_asks_outside_is_closed_with_the_rest() -> None:
    """Once, behind its recognisers, however many sections share it."""
    cloud = Outside()
    recognisers = Recognisers({"a": cloud, "b": cloud}, seats=1)
    await recognisers.start("a")
    assert recognisers.remote == [cloud]
    await recognisers.close()
    assert (cloud.closes, [hand.is_closed for hand in cloud.made]) == (1, [True])


class Outside(Hands):
    """A service's engine."""

    is_heavy = False
    endpoint: EndOwner = "own"
    resolves_names = True

    def __init__(self) -> None:
        super().__init__()
        self.closes = 0

    async def close(self) -> None:
        assert all(hand.is_closed for hand in self.made)
        self.closes += 1
