"""People with marked devices: each talks turn after turn, and some break in, give up, or type instead.

What a person does next comes from a random number generator of their own, so a seed names a run's people.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache

import aiohttp

from bench.trial.events import DeviceEvent, Interrupted, Spoke, TurnOver
from bench.trial.marked_device import FrameReader, MarkedDevice, marked_speech
from ops.device.client import DeviceOptions
from ops.device.enrolment import DeviceError, Identity, enrol, simulated_mac
from ops.device.firmware import State
from ops.device.opus import Pcm, Speech, encode_speech, silence
from ops.device.speech import Voice
from shared.listening import Mode
from shared.marks import Mark

SENTENCE = "tell me about the weather"
REAL_QUESTION = "what time is it"
"""What the embedded recogniser understands and the offline brain answers."""
TURNS = 16
"""After so many turns a person's marks begin anew: sound that is older than that has other ways to be found."""
REPLY = "You said {text}. There is more to say on {text}. With that it is over for {text}."
LAST_WORD = "over"
MS_PER_CHAR = 40
GIVE_UP_S = 40.0
"""Without a word from the server in a turn."""
RECONNECT_S = 1.0
MODES: tuple[Mode, ...] = ("auto", "manual", "realtime")


@dataclass(frozen=True, slots=True)
class Habits:
    """How often people do what, as weights."""

    hear_out: float = 6
    abort: float = 2
    break_in: float = 1
    """Only where the device listens while it speaks."""
    type: float = 1
    pause_s: tuple[float, float] = (0.1, 1.0)


@cache
def silent_room() -> tuple[bytes, ...]:
    return silence()


class Speeches:
    """What each person says in each turn, encoded once. Real recognisers are spoken to without a mark."""

    def __init__(self, people: int, turns: int = TURNS, *, has_marks: bool = True) -> None:
        self._turns = turns
        voice: Pcm = Voice().say(SENTENCE if has_marks else REAL_QUESTION)
        plain = encode_speech(voice)
        self._said = {
            mark: marked_speech(voice, mark) if has_marks else plain
            for mark in (Mark(number, turn) for number in range(people) for turn in range(turns))
        }

    def of(self, number: int, turn: int) -> tuple[Mark, Speech]:
        mark = Mark(number, turn % self._turns)
        return mark, self._said[mark]


@dataclass(slots=True)
class Company:
    """What all people of a run share."""

    ota_url: str
    speeches: Speeches
    reader: FrameReader
    tell: Callable[[DeviceEvent], None]
    seed: str
    habits: Habits = Habits()
    ends_s: float = 0.0
    """On time.monotonic(): nobody begins a turn later."""

    async def talk(self, people: int, modes: Sequence[Mode] = MODES) -> None:
        """Until all have hung up."""
        async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
            for number in range(people):
                person = Person(self, number, modes[number % len(modes)], http)
                group.create_task(person.live(), name=f"person-{number}")


class Person:
    """One, with one device."""

    def __init__(self, company: Company, number: int, mode: Mode, http: aiohttp.ClientSession) -> None:
        self._company = company
        self._number = number
        self._mode: Mode = mode
        self._http = http
        self._identity = Identity(simulated_mac(company.seed, number))
        self._chance = random.Random(f"{company.seed} {number}")
        self._turn = 0

    async def live(self) -> None:
        """Connected again whenever the server has hung up; the judge knows of it by then."""
        await asyncio.sleep(self._chance.uniform(0, 2.0))
        while time.monotonic() < self._company.ends_s:
            try:
                await self._talk()
            except DeviceError:
                await asyncio.sleep(RECONNECT_S)

    async def _talk(self) -> None:
        place = await enrol(self._http, self._company.ota_url, self._identity)
        options = DeviceOptions(self._identity, mode=self._mode, answer_timeout_s=GIVE_UP_S)
        company = self._company
        device = MarkedDevice(options, silent_room(), number=self._number, reader=company.reader, tell=company.tell)
        async with device:
            await device.open(place.url, place.token)
            while time.monotonic() < company.ends_s:
                await self._take_turn(device)
                await asyncio.sleep(self._chance.uniform(*company.habits.pause_s))

    async def _take_turn(self, device: MarkedDevice) -> None:
        act = self._choose()
        try:
            await act(device)
        except DeviceError as error:
            if error.code == "no_answer":
                self._over(has_given_up=True, stage=str(error))
            raise
        self._over()

    def _choose(self) -> Callable[[MarkedDevice], Awaitable[None]]:
        habits = self._company.habits
        acts: dict[Callable[[MarkedDevice], Awaitable[None]], float] = {
            self._hear_out: habits.hear_out,
            self._abort: habits.abort,
            self._break_in: habits.break_in if self._mode == "realtime" else 0.0,
            self._type: habits.type if self._mode != "realtime" else 0.0,
        }
        return self._chance.choices(list(acts), list(acts.values()))[0]

    # Acts

    async def _hear_out(self, device: MarkedDevice) -> None:
        await device.ask(self._next_speech())

    async def _type(self, device: MarkedDevice) -> None:
        self._turn += 1
        mark, _ = self._company.speeches.of(self._number, self._turn)
        self._company.tell(Spoke(self._number, mark.turn))
        await device.ask_text(f"note {mark.word}")

    async def _abort(self, device: MarkedDevice) -> None:
        """At a stage of the turn that chance picks."""
        device.begin(self._next_speech())
        starts, frames, uplink = device.starts, device.frames, device.firmware.counters.uplink_frames
        more = self._chance.randint(3, 30)
        stages: tuple[Callable[[], bool], ...] = (
            lambda: device.firmware.counters.uplink_frames > uplink + more,
            lambda: device.microphone.is_quiet,
            lambda: device.starts > starts,
            lambda: device.frames > frames + more,
        )
        stage = self._chance.choice(stages)
        # A reply that was over before its moment came has been heard out.
        await device.until(lambda: stage() or device.is_turn_over, GIVE_UP_S)
        if not device.is_turn_over:
            give_up(device)
        await device.turn_over()

    async def _break_in(self, device: MarkedDevice) -> None:
        """Speak into the answer; the turn that it belongs to is over with that."""
        device.begin(self._next_speech())
        more = self._chance.randint(4, 15)
        await device.until(lambda: device.marked_frames > more or device.is_turn_over, GIVE_UP_S)
        if device.is_turn_over:
            return
        self._company.tell(Interrupted(self._number))
        self._over()
        await device.ask(self._next_speech())

    def _next_speech(self) -> Speech:
        self._turn += 1
        mark, speech = self._company.speeches.of(self._number, self._turn)
        self._company.tell(Spoke(self._number, mark.turn))
        return speech

    def _over(self, *, has_given_up: bool = False, stage: str = "") -> None:
        self._company.tell(TurnOver(self._number, self._turn, has_given_up, stage))


def give_up(device: MarkedDevice) -> None:
    """Abort, and say nothing more. A held key is let go."""
    device.microphone.hush()
    device.abort()
    if device.options.mode == "manual" and device.firmware.state is State.LISTENING:
        device.let_go()
