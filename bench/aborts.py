"""Aborts at every stage of a turn: what comes after the `tts stop` that answers one?

    python -m bench.aborts --count 1000 --devices 25

Starts a cluster of its own. Engines are held at the stage that is meant (shared/rehearsal.py), so that each abort meets
what it is aimed at; then they are let go, and the device listens for what should not come. The exit code is 1 if a
frame of the aborted turn comes behind its `tts stop`, if there is not exactly one `tts stop`, or if the judge has any
other complaint.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from math import floor
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
import yaml

from bench.chaos import write
from bench.tally import spread
from bench.trial.cluster import TrialCluster
from bench.trial.events import Spoke, TurnOver
from bench.trial.judge import Complaint, Judge
from bench.trial.marked_device import FrameReader, MarkedDevice
from bench.trial.people import LAST_WORD, MS_PER_CHAR, TURNS, Speeches, give_up, silent_room
from bench.trial.trial import trial_config
from ops.device.client import DeviceOptions
from ops.device.enrolment import DeviceError, Identity, enrol, simulated_mac
from shared.marks import NUMBERS, Mark

PATIENCE_S = 30.0
LINGER_S = 0.4
"""How long a device listens for what should not come."""
LOOK_S = 0.005
NOTED_TURNS = (0, 4, 8)
"""In these the scripted model calls a tool (see trial.NOTES)."""
PLAIN_TURNS = tuple(turn for turn in range(TURNS) if turn not in NOTED_TURNS)


def abort_config() -> str:
    """As in every trial, but each segment is made anew: one from the cache is never being synthesised."""
    config = yaml.safe_load(trial_config())
    config["cluster"]["tts"] = {"cache_bytes": 0}
    return yaml.safe_dump(config)


@dataclass(slots=True)
class Scene:
    """One turn that will be aborted."""

    device: MarkedDevice
    mark: Mark
    stage: Path
    speak: Callable[[], None]
    """Say it aloud."""
    type: Callable[[], None]

    async def noted(self, point: str, name: str) -> None:
        """Until a scripted engine has come to its cue."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not any(self.stage.glob(f"{point}~{name}@*")):
            if time.monotonic() > deadline_s:
                raise DeviceError(f"no engine has come to {point}", code="no_cue")
            await asyncio.sleep(LOOK_S)

    async def until(self, condition: Callable[[], bool]) -> None:
        if not await self.device.until(condition, PATIENCE_S):
            raise DeviceError("the moment for the abort has not come", code="no_moment")

    def cue(self, point: str, name: str) -> None:
        (self.stage / f"{point}~{name}").touch()

    def uncue(self) -> None:
        """Everybody who was held for this device goes on."""
        for name in (self.device.session, self.mark.word):
            for cue in self.stage.glob(f"*~{name}*"):
                cue.unlink(missing_ok=True)


async def listening(scene: Scene) -> None:
    uplink = scene.device.firmware.counters.uplink_frames
    scene.speak()
    await scene.until(lambda: scene.device.firmware.counters.uplink_frames > uplink + 8)


async def recognising(scene: Scene) -> None:
    scene.cue("recognising", scene.device.session)
    scene.speak()
    await scene.noted("recognising", scene.device.session)


async def thinking(scene: Scene) -> None:
    scene.cue("thinking", scene.device.session)
    scene.type()
    await scene.noted("thinking", scene.device.session)


async def tool_call(scene: Scene) -> None:
    calls = len(scene.device.tools.calls)
    scene.device.holds_answers = True
    scene.type()
    await scene.until(lambda: len(scene.device.tools.calls) > calls)


async def synthesising(scene: Scene) -> None:
    scene.cue("synthesising", scene.mark.word)
    scene.type()
    await scene.noted("synthesising", scene.mark.word)


async def first_frame(scene: Scene) -> None:
    frames = scene.device.frames
    scene.type()
    await scene.until(lambda: scene.device.frames > frames)


async def speaking(scene: Scene) -> None:
    scene.type()
    starts = scene.device.starts
    await scene.until(lambda: scene.device.starts > starts and scene.device.marked_frames > 15)


async def draining(scene: Scene) -> None:
    """The last frame has been sent, and the device has not played it."""
    scene.type()
    starts, device = scene.device.starts, scene.device

    def is_last() -> bool:
        whole = floor(len(device.sentence) * MS_PER_CHAR / 60)
        return device.starts > starts and LAST_WORD in device.sentence and device.sentence_frames >= whole

    await scene.until(is_last)


STAGES: dict[str, Callable[[Scene], Awaitable[None]]] = {
    "listening": listening,
    "recognising": recognising,
    "thinking": thinking,
    "tool_call": tool_call,
    "synthesising": synthesising,
    "first_frame": first_frame,
    "speaking": speaking,
    "draining": draining,
}
CROSSING = frozenset({"draining", "speaking"})
"""Here an abort may cross the reply's own end, and then both are answered."""


@dataclass
class Aborts:
    """All aborts of a run, against one cluster. `complaints` is whole after `run`."""

    devices: int
    count: int
    """Of each stage."""
    stages: Sequence[str] = tuple(STAGES)
    complaints: list[Complaint] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    stop_ms: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.judge = Judge(ms_per_char=MS_PER_CHAR, last_word=LAST_WORD)
        self._speeches = Speeches(self.devices)
        self._reader = FrameReader()
        self._turn: Counter[int] = Counter()
        self._began_s = time.monotonic()

    async def run(self) -> None:
        counts = {"session": 2, "asr": 2, "tts": 2}
        async with TrialCluster(abort_config(), counts=counts) as cluster:
            async with AsyncExitStack() as stack, aiohttp.ClientSession() as http:
                devices = [await self._connect(stack, http, cluster, number) for number in range(self.devices)]
                for stage in self.stages:
                    await self._abort_all(devices, stage, cluster.stage)
            self.judge.finish(self._now())
        self.complaints += [*self.judge.complaints, *cluster.complaints]

    async def _connect(
        self, stack: AsyncExitStack, http: aiohttp.ClientSession, cluster: TrialCluster, number: int
    ) -> MarkedDevice:
        identity = Identity(simulated_mac("aborts", number))
        place = await enrol(http, cluster.ota_url, identity)
        options = DeviceOptions(identity, mode="manual", answer_timeout_s=PATIENCE_S)
        device = MarkedDevice(
            options,
            silent_room(),
            number=number,
            reader=self._reader,
            tell=lambda event: self.judge.on(event, self._now()),
        )
        await stack.enter_async_context(device)
        await device.open(place.url, place.token)
        return device

    async def _abort_all(self, devices: Sequence[MarkedDevice], stage: str, cues: Path) -> None:
        async with asyncio.TaskGroup() as group:
            for number, device in enumerate(devices):
                share = self.count // self.devices + (number < self.count % self.devices)
                group.create_task(self._abort_often(device, stage, cues, share), name=f"aborts-{number}")

    async def _abort_often(self, device: MarkedDevice, stage: str, cues: Path, times: int) -> None:
        for _ in range(times):
            try:
                await self._abort_once(device, stage, cues)
            except DeviceError as error:
                self._complain(error.code, device, f"{stage}: {error}")
                return

    async def _abort_once(self, device: MarkedDevice, stage: str, cues: Path) -> None:
        scene = self._scene(device, stage, cues)
        starts, stops = device.starts, device.stops
        try:
            await STAGES[stage](scene)
            is_over = device.stops > stops
            began_s = time.monotonic()
            give_up(device)
            await device.until(lambda: device.stops > stops + is_over, PATIENCE_S)
        finally:
            scene.uncue()
            device.answer_tools()
        self.stop_ms.setdefault(stage, []).append((time.monotonic() - began_s) * 1000)
        await asyncio.sleep(LINGER_S)
        self._check_stops(device, stage, device.starts - starts, device.stops - stops)
        self.done[stage] += 1
        self.judge.on(TurnOver(device.number, scene.mark.turn), self._now())
        await device.settled()

    def _scene(self, device: MarkedDevice, stage: str, cues: Path) -> Scene:
        """The next turn of a device: one with a tool where that is wanted, else one without; never twice the same."""
        turns = NOTED_TURNS if stage == "tool_call" else PLAIN_TURNS
        self._turn[device.number] += 1
        mark, speech = self._speeches.of(device.number, turns[self._turn[device.number] % len(turns)])

        def speak() -> None:
            self.judge.on(Spoke(device.number, mark.turn), self._now())
            device.begin(speech)

        def type_it() -> None:
            self.judge.on(Spoke(device.number, mark.turn), self._now())
            device.begin_text(f"note {mark.word}")

        return Scene(device, mark, cues, speak, type_it)

    def _check_stops(self, device: MarkedDevice, stage: str, starts: int, stops: int) -> None:
        wanted = max(starts, 1)
        if stops != wanted and not (stage in CROSSING and stops == wanted + 1):
            self._complain("not_one_stop", device, f"{stage}: {starts} tts start, {stops} tts stop")
        if starts > 1:
            self._complain("late_start", device, f"{stage}: a reply began behind the abort")

    def _complain(self, code: str, device: MarkedDevice, words: str) -> None:
        self.complaints.append(Complaint(code, f"device {device.number}", round(self._now(), 3), words))

    def _now(self) -> float:
        return time.monotonic() - self._began_s

    def report(self) -> dict[str, Any]:
        codes = Counter(complaint.code for complaint in self.complaints)
        return {
            "devices": self.devices,
            "aborts": dict(self.done),
            "stale_frames": codes["stale_frame"],
            "abort_to_tts_stop_ms": {stage: spread(values) for stage, values in self.stop_ms.items()},
            "complaints": dict(codes),
            "examples": [str(complaint) for complaint in self.complaints[:40]],
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if each abort was answered by exactly one `tts stop` with nothing behind it."""
    parser = argparse.ArgumentParser(prog="python -m bench.aborts", description="Aborts at every stage of a turn.")
    parser.add_argument("--devices", type=int, default=25, help=f"at most {NUMBERS}")
    parser.add_argument("--count", type=int, default=1000, help="aborts a stage, over all devices")
    parser.add_argument("--stage", action="append", choices=tuple(STAGES), help="only this one; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report")
    args = parser.parse_args(arguments)
    aborts = Aborts(min(args.devices, NUMBERS), args.count, args.stage or tuple(STAGES))
    gc.freeze()
    uvloop.run(aborts.run())
    report = aborts.report()
    write(report, args.json)
    for stage, times in report["abort_to_tts_stop_ms"].items():
        print(f"{stage:14} {report['aborts'].get(stage, 0):5} aborts   tts stop after {times} ms")
    print(*report["examples"], sep="\n")
    print(f"stale frames: {report['stale_frames']}, complaints: {report['complaints'] or 'none'}")
    is_whole = all(report["aborts"].get(stage, 0) == args.count for stage in aborts.stages)
    return 0 if is_whole and not report["complaints"] else 1


if __name__ == "__main__":
    sys.exit(main())
