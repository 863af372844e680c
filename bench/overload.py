"""Overload: three times as many people as there is room for, and what becomes of each, and of the cluster afterwards.

    python -m bench.overload --room 20

Starts a cluster of its own whose session workers take `--room` conversations together. First as many people talk as
there is room for; then `--times` as many; then, when those have gone, the first number again until all are served. The
exit code is 1 unless everybody was either served or heard "busy" once and was let go with 1013, the served were at
least as many as there is room for, their late frames did not grow beyond LATE_POINTS, and the cluster recovered.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
import yaml

from bench.chaos import show, write
from bench.trial.cluster import TrialCluster
from bench.trial.events import DeviceEvent, Frame, HungUp, ReplyStarted, Sentence, Spoke, Tone, TurnOver
from bench.trial.judge import LET_GO, Complaint, Judge
from bench.trial.marked_device import FrameReader, MarkedDevice
from bench.trial.people import GIVE_UP_S, LAST_WORD, MS_PER_CHAR, Speeches, silent_room
from bench.trial.trial import trial_config
from ops.device.client import DeviceOptions
from ops.device.effects import Counters
from ops.device.enrolment import DeviceError, Identity, enrol, simulated_mac
from shared.marks import NUMBERS

LATE_POINTS = 1.0
"""Percentage points by which the share of late frames of the served may grow in the storm."""
RECOVERY_S = 30.0
WORKERS = 2


@dataclass(slots=True)
class Guest:
    """One device, and what became of it."""

    number: int
    answers: int = 0
    prompts: int = 0
    """Replies that were a canned prompt."""
    is_in_prompt: bool = False
    close_code: int | None = None
    error: str = ""
    counters: Counters = field(default_factory=Counters)

    @property
    def was_served(self) -> bool:
        return self.answers > 0 and self.close_code is None and not self.prompts and not self.error

    @property
    def was_let_go(self) -> bool:
        """Heard it once, and was not answered before or after."""
        return self.prompts == 1 and self.close_code == LET_GO

    def on(self, event: DeviceEvent) -> None:
        match event:
            case ReplyStarted():
                self.is_in_prompt = False
            case Frame(tone=Tone.PROMPT) if not self.is_in_prompt:
                self.is_in_prompt = True
                self.prompts += 1
            case Sentence(text=text) if LAST_WORD in text:
                self.answers += 1
            case HungUp(code=code):
                self.close_code = code


def verdict(
    calm: Sequence[Guest], storm: Sequence[Guest], room: int, recovery_s: float | None, at_s: float
) -> list[Complaint]:
    """What was not as it has to be. Pure."""
    found = []

    def complain(code: str, who: str, words: str) -> None:
        found.append(Complaint(code, who, at_s, words))

    for guest in calm:
        if not guest.was_served:
            complain("refused_with_room", f"device {guest.number}", f"{guest}")
    for guest in storm:
        if not (guest.was_served or guest.was_let_go):
            complain("neither_served_nor_let_go", f"device {guest.number}", f"{guest}")
    served = [guest for guest in storm if guest.was_served]
    if len(served) < room:
        complain("room_left_empty", "storm", f"{len(served)} served, room for {room}")
    if len(served) == len(storm):
        complain("no_overload", "storm", "everybody was served: nothing was tested")
    grown = late_percent(served) - late_percent(calm)
    if grown > LATE_POINTS:
        complain(
            "served_fell_behind", "storm", f"late frames: {late_percent(calm):.2f} % → {late_percent(served):.2f} %"
        )
    if recovery_s is None:
        complain("did_not_recover", "cluster", f"not everybody was served {RECOVERY_S:g} s after the storm")
    return found


def late_percent(guests: Sequence[Guest]) -> float:
    frames = sum(guest.counters.frames for guest in guests)
    return 100 * sum(guest.counters.late_frames for guest in guests) / frames if frames else 0.0


class Overload:
    """One run."""

    def __init__(self, room: int, times: int, seconds: float) -> None:
        self.room, self.times, self.seconds = room, times, seconds
        self.calm: list[Guest] = []
        self.storm: list[Guest] = []
        self.recovery_s: float | None = None
        self.complaints: list[Complaint] = []
        self.judge = Judge(ms_per_char=MS_PER_CHAR, last_word=LAST_WORD)
        self._guests: dict[int, Guest] = {}
        self._speeches = Speeches(NUMBERS, turns=2)
        self._reader = FrameReader()
        self._numbers = count()
        self._began_s = time.monotonic()
        config = yaml.safe_load(trial_config())
        config["cluster"]["session"] = {"capacity": room // WORKERS}
        self._cluster = TrialCluster(
            yaml.safe_dump(config), counts={"session": WORKERS, "asr": WORKERS, "tts": WORKERS}
        )

    async def run(self) -> None:
        async with self._cluster, aiohttp.ClientSession() as http:
            await self._crowd(http, self.room, 3.0)
            self.calm = await self._served_crowd(http, self.seconds)
            self.storm = await self._crowd(http, self.room * self.times, self.seconds)
            ended_s = time.monotonic()
            while self.recovery_s is None and time.monotonic() - ended_s < RECOVERY_S:
                tried_s = time.monotonic()
                if all(guest.was_served for guest in await self._crowd(http, self.room, 0.1)):
                    self.recovery_s = tried_s - ended_s
        now = self._now()
        self.judge.finish(now)
        self.complaints = [
            *verdict(self.calm, self.storm, self.room, self.recovery_s, now),
            *self.judge.complaints,
            *self._cluster.complaints,
        ]

    async def _served_crowd(self, http: aiohttp.ClientSession, seconds: float) -> list[Guest]:
        """The warm-up's places are free a moment after its people have gone."""
        await asyncio.sleep(1.0)
        return await self._crowd(http, self.room, seconds)

    async def _crowd(self, http: aiohttp.ClientSession, people: int, seconds: float) -> list[Guest]:
        """All at once; each asks until the time is over, at least once."""
        ends_s = time.monotonic() + seconds
        guests = [Guest(next(self._numbers)) for _ in range(people)]
        async with asyncio.TaskGroup() as group:
            for guest in guests:
                self._guests[guest.number] = guest
                group.create_task(self._visit(http, guest, ends_s), name=f"guest-{guest.number}")
        return guests

    async def _visit(self, http: aiohttp.ClientSession, guest: Guest, ends_s: float) -> None:
        identity = Identity(simulated_mac("overload", guest.number))
        place = await enrol(http, self._cluster.ota_url, identity)
        options = DeviceOptions(identity, mode="manual", answer_timeout_s=GIVE_UP_S)
        device = MarkedDevice(options, silent_room(), number=guest.number, reader=self._reader, tell=self._tell)
        async with device:
            try:
                await device.open(place.url, place.token)
                turn = 0
                while turn == 0 or time.monotonic() < ends_s:
                    turn += 1
                    await self._ask(device, guest, turn)
            except DeviceError as error:
                guest.error = "" if guest.close_code == LET_GO else error.code
            guest.counters = device.firmware.counters.copy()

    async def _ask(self, device: MarkedDevice, guest: Guest, turn: int) -> None:
        mark, speech = self._speeches.of(guest.number % NUMBERS, turn)
        self._tell(Spoke(guest.number, mark.turn))
        await device.ask(speech)
        self._tell(TurnOver(guest.number, mark.turn))
        # Who is let go is closed behind the prompt's last frame.
        await device.until(lambda: False, 0.3)

    def _tell(self, event: DeviceEvent) -> None:
        self._guests[event.device].on(event)
        self.judge.on(event, self._now())

    def _now(self) -> float:
        return round(time.monotonic() - self._began_s, 3)

    def report(self) -> dict[str, Any]:
        served = [guest for guest in self.storm if guest.was_served]
        return {
            "room": self.room,
            "devices": len(self.storm),
            "served": len(served),
            "let_go": sum(guest.was_let_go for guest in self.storm),
            "late_percent_calm": round(late_percent(self.calm), 3),
            "late_percent_storm": round(late_percent(served), 3),
            "recovery_s": None if self.recovery_s is None else round(self.recovery_s, 2),
            "turns": dict(self.judge.outcomes),
            "complaints": dict(Counter(complaint.code for complaint in self.complaints)),
            "examples": [str(complaint) for complaint in self.complaints[:40]],
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if the excess was let go, the rest kept pace, and all was well afterwards."""
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description="Three times too many people.")
    parser.add_argument("--room", type=int, default=20, help="conversations that the cluster takes; an even number")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0, help="of the calm, and of the storm")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report")
    args = parser.parse_args(arguments)
    overload = Overload(args.room, args.times, args.seconds)
    gc.freeze()
    uvloop.run(overload.run())
    report = overload.report()
    write(report, args.json)
    show(report)
    return 1 if report["complaints"] else 0


if __name__ == "__main__":
    sys.exit(main())
