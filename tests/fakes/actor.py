"""A device that plays a part in a conversation up to one phase, is held there, then goes on, and is judged.

What is asked for, whatever happens to workers meanwhile: the connection stays; what was said is heard exactly once; one
`tts stop` for one `tts start` and no sound outside; and packet for packet the whole reply, nothing twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, get_args

from tests.fakes.people import quiet, said
from tests.fakes.raw_device import RawDevice, identity_of
from tests.fakes.sounds import Run, prompt_sounds, runs_of, sine_sound
from tests.fakes.stage import Point, StageDirector

Phase = Literal[
    "idle", "listening", "hearing", "holding", "recognising", "thinking", "answering", "synthesising", "speaking"
]
PHASES: tuple[Phase, ...] = get_args(Phase)
AUTO: frozenset[Phase] = frozenset({"listening", "hearing"})
"""The microphone runs all the time. In the other phases a button is held."""

POINTS: tuple[Point, ...] = get_args(Point)
"""Of the phases, those in which a scripted engine holds it."""
SENTENCE = "tell me about the weather"
REPLY = "You said {text}. {session} says good day."
VOICE: dict[str, Any] = {"type": "sine", "ms_per_char": 30, "chunk_ms": 1200}
FRAME_S = 0.06


@cache
def utterance() -> tuple[bytes, ...]:
    return said(SENTENCE).packets


@dataclass
class Actor:
    device: RawDevice
    phase: Phase
    number: int
    stage: StageDirector
    turns: int = 0
    _goes_on: bool = False
    _pump: asyncio.Task[None] | None = None
    _words: deque[bytes] = field(default_factory=deque)

    def __repr__(self) -> str:
        return f"Actor({self.phase}, {self.name[:8]}, {self.device!r})"

    @property
    def name(self) -> str:
        return self.device.session

    @property
    def mac(self) -> str:
        return identity_of(self.number).device

    # The play

    async def take_position(self) -> None:
        """Go on until the phase, and stay there."""
        match self.phase:
            case "idle":
                return
            case "listening" | "hearing":
                self.device.listen("start", mode="auto")
                self._pump = asyncio.create_task(self._run_microphone(), name=f"microphone-{self.name[:8]}")
                if self.phase == "hearing":
                    self._words.extend(utterance())
                    await self._spoken(len(utterance()) // 2)
            case "holding":
                self._press(utterance()[: len(utterance()) // 2])
            case _:
                self.stage.hold(self.phase, self.name)
                self.say()
                await self.stage.reached(self.phase, self.name)
                if self.phase == "speaking":
                    await self.device.until(lambda: bool(self.device.audio))

    def held_in(self) -> int | None:
        """The process whose engine it waits for; the first one, if another has taken over."""
        arrivals = self.stage.arrivals(self.phase, self.name) if self.phase in POINTS else []
        return arrivals[0].pid if arrivals else None

    def go_on(self) -> None:
        """Nothing is held any more."""
        if self._goes_on:
            return
        self._goes_on = True
        for point in POINTS:
            self.stage.release(point, self.name)
        match self.phase:
            case "idle":
                self.say()
            case "listening":
                self._words.extend(utterance())
            case "holding":
                self.device.send_all(utterance()[len(utterance()) // 2 :])
                self.device.listen("stop")

    def say(self) -> None:
        """The sentence, with the button held."""
        self._press(utterance())
        self.device.listen("stop")

    async def over(self, timeout_s: float = 40.0) -> None:
        """The turn has ended."""
        self.turns += 1
        await self.device.until(lambda: len(self.device.texts("tts", "stop")) >= self.turns, timeout_s)

    def stop_microphone(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
            self._pump = None

    def _press(self, packets: Sequence[bytes]) -> None:
        self.device.listen("start", mode="manual")
        self.device.send_all(packets)

    async def _spoken(self, packets: int) -> None:
        while len(self._words) > len(utterance()) - packets:  # noqa: ASYNC110 - in the microphone's own time
            await asyncio.sleep(FRAME_S)

    async def _run_microphone(self) -> None:
        """As a device does: on while it listens, off while it speaks; and who is answered says nothing more."""
        silence, at = quiet(), 0
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while not self.device.is_gone:
            if len(self.device.texts("tts", "start")) == len(self.device.texts("tts", "stop")):
                self.device.send(self._words.popleft() if self._words else silence[at % len(silence)])
                at += 1
            else:
                self._words.clear()
            due_s += FRAME_S
            await asyncio.sleep(max(0.0, due_s - loop.time()))

    # The critic

    def complaints(self, *, may_be_cut: bool = False) -> list[str]:
        """What went wrong. `may_be_cut`: its last reply may have ended in an apology."""
        found = [f"connection lost, {self.device.close_code}"] if self.device.is_gone else []
        found += self._complaints_of_words()
        for turn, packets in enumerate(self._sounds_of_turns(found)):
            runs = [run for run in self.runs(packets, turn) if run.name != "filler.en"]
            if not self._is_whole(runs) and not (may_be_cut and turn == 0 and _is_apologised(runs)):
                found.append(f"turn {turn} sounded as {runs}")
        return [f"{self.phase} {self.name[:8]}: {one}" for one in found]

    def runs(self, packets: Sequence[bytes], turn: int) -> list[Run]:
        return runs_of(packets, {**self._reply(turn), **prompt_sounds()})

    def _complaints_of_words(self) -> list[str]:
        heard = [message["text"] for message in self.device.texts("stt")]
        expected = [f"utterance {turn} of {self.name}" for turn in range(self.turns)]
        starts, stops = len(self.device.texts("tts", "start")), len(self.device.texts("tts", "stop"))
        found = [] if heard == expected else [f"heard {heard}"]
        return found if starts == stops == self.turns else [*found, f"{starts} starts, {stops} stops"]

    def _reply(self, turn: int) -> dict[str, tuple[bytes, ...]]:
        said = f"You said utterance {turn} of {self.name}."
        return {"first": _sound(said), "second": _sound(f"{self.name} says good day.")}

    def _sounds_of_turns(self, found: list[str]) -> list[list[bytes]]:
        turns: list[list[bytes]] = []
        is_open = False
        for one in self.device.received:
            if one.is_text("tts", "start"):
                turns.append([])
                is_open = True
            elif one.is_text("tts", "stop"):
                is_open = False
            elif isinstance(one.body, bytes):
                if is_open:
                    turns[-1].append(one.body)
                else:
                    found.append("sound outside of a turn")
        return turns

    @staticmethod
    def _is_whole(runs: list[Run]) -> bool:
        return [run.name for run in runs] == ["first", "second"] and all(run.is_whole for run in runs)


def _is_apologised(runs: list[Run]) -> bool:
    """Something of the reply, whole, and the apology."""
    return bool(runs) and runs[-1].name == "apology.en" and all(run.is_whole for run in runs)


@cache
def _sound(text: str) -> tuple[bytes, ...]:
    return sine_sound(text, VOICE)
