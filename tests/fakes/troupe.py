"""A cluster with two workers of each role, devices held in every phase on both of them, and faults for one of them."""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from tests.fakes.actor import PHASES, REPLY, VOICE, Actor, Phase, utterance
from tests.fakes.cluster import Cluster, off_loop
from tests.fakes.raw_device import raw_device
from tests.fakes.stage import Order, Point, StageDirector

ROLES = ("asr", "tts", "session")
SLOTS = (0, 1)

ORDER_OF_ENTRY: tuple[Phase, ...] = (
    "idle", "listening", "hearing", "holding", "thinking", "answering", "synthesising", "recognising", "speaking",
)  # fmt: skip
"""What has a deadline comes last."""

SERVED_BY: dict[Phase, tuple[str, ...]] = {
    "idle": ("session",),
    "listening": ("session", "asr"),
    "hearing": ("session", "asr"),
    "holding": ("session", "asr"),
    "recognising": ("session", "asr"),
    "thinking": ("session",),
    "answering": ("session",),
    "synthesising": ("session", "tts"),
    "speaking": ("session", "tts"),
}
"""The roles that a device in this phase has a stream with."""

CONFIG = """
selected_module: {{ASR: ScriptedASR, LLM: ScriptedLLM, TTS: SineTTS}}
ASR:
  ScriptedASR: {{type: scripted, stage: "{stage}"}}
  PocketSphinxASR: {{type: scripted}}
LLM: {{ScriptedLLM: {{type: scripted, reply: "{reply}", stage: "{stage}"}}}}
TTS:
  SineTTS: {{type: {type}, ms_per_char: {ms_per_char}, chunk_ms: {chunk_ms}, stage: "{stage}",
    deterministic: {deterministic}}}
  EmbeddedTTS: {{type: sine}}
  EspeakTTS: {{type: sine}}
  HibariTTS: {{type: sine}}
cluster:
  asr: {{recognisers: 64, final_timeout_s: 30}}"""
"""Nothing that takes long to load: workers are started again and again."""

PATIENCE = """
  ear: {final_timeout_s: 10}
  mouth: {segment_timeout_s: 30, first_frame_timeout_s: 10, next_frame_timeout_s: 10}
"""
"""On a busy machine it takes seconds to have everybody in position; nobody may be late meanwhile."""

JOIN_S = 90.0
"""How long processes may take to start on a machine with something else to do."""


def slot_of(worker: str) -> int:
    """Of an identity such as asr-01.1f2e3d4c."""
    return int(worker.partition(".")[0].rpartition("-")[2])


@dataclass
class Troupe:
    cluster: Cluster
    stage: StageDirector
    slots: dict[int, int] = field(default_factory=dict)
    """On which session worker a device was, by its number: the router always prefers the same one."""
    _numbers: set[int] = field(default_factory=set)
    _exits: AsyncExitStack = field(default_factory=AsyncExitStack)
    actors: list[Actor] = field(default_factory=list)
    _wedged: set[str] = field(default_factory=set)

    # What the router says

    async def page(self, path: str) -> dict[str, Any]:
        return dict(json.loads(await off_loop(self.cluster.page, "router", path)))

    async def worker_of(self, role: str, mac: str) -> str | None:
        """The identity of the worker that serves this device."""
        rows = (await self.page("/streams"))["streams"]
        return next((str(row["worker"]) for row in rows if row["pool"] == role and row["device"] == mac), None)

    async def streams_on(self, name: str) -> dict[str, str]:
        """Stream and device of those that the process of this name, such as asr-1, has with the router."""
        role, _, slot = name.partition("-")
        rows = (await self.page("/streams"))["streams"]
        mine = (row for row in rows if row["pool"] == role and slot_of(row["worker"]) == int(slot))
        return {str(row["stream"]): str(row["device"]) for row in mine}

    async def metric(self, name: str, **labels: str) -> float:
        pairs = ",".join(f'{key}="{value}"' for key, value in labels.items())
        return float(await off_loop(self.cluster.metric, "router", f"{name}{{{pairs}}}" if pairs else name))

    async def until(self, condition: Callable[[], Any], timeout_s: float = 30.0) -> None:
        """`condition` is a coroutine function; the router tells its numbers only when it is asked."""
        try:
            async with asyncio.timeout(timeout_s):
                while not await condition():  # noqa: ASYNC110 - the router is another process
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"not within {timeout_s} s: {await self.page('/cluster')}") from None

    async def identities(self, pids: Collection[int]) -> set[str]:
        """Under which names these processes are in their pools."""
        pools = (await self.page("/cluster"))["pools"]
        return {str(one["id"]) for workers in pools.values() for one in workers if one["pid"] in pids}

    # The play

    async def enter(self, phase: Phase, session_slot: int | None = None) -> Actor:
        """A connected device; if asked, one whose session is on the worker of this slot."""
        while True:
            number = self._next_number(session_slot)
            exits = AsyncExitStack()
            device = await exits.enter_async_context(raw_device(self.cluster, number))
            actor = Actor(device, phase, number, self.stage)
            slot = self.slots[number] = slot_of(await self.placed("session", actor))
            if session_slot in (None, slot):
                exits.callback(actor.stop_microphone)
                self._exits.push_async_exit(exits)
                self.actors.append(actor)
                return actor
            await exits.aclose()
            self._numbers.discard(number)

    def _next_number(self, session_slot: int | None) -> int:
        """Of a device that is not here yet, and that is not known to go elsewhere."""
        numbers = (n for n in count(1) if n not in self._numbers and self.slots.get(n) in (None, session_slot))
        number = next(numbers)
        self._numbers.add(number)
        return number

    async def placed(self, role: str, actor: Actor) -> str:
        async with asyncio.timeout(10):
            while (worker := await self.worker_of(role, actor.mac)) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return worker

    async def set_scene(self, *phases: Phase) -> None:
        """Devices in every phase (or these): both workers of each role serve some of every phase."""
        for phase in (one for one in ORDER_OF_ENTRY if not phases or one in phases):
            missing = {(role, slot) for role in SERVED_BY[phase] for slot in SLOTS}
            while missing:
                # A worker that was late a moment ago takes no streams for a second.
                await self.until(self._all_joined, JOIN_S)
                session = next((slot for role, slot in missing if role == "session"), None)
                actor = await self.enter(phase, session)
                await actor.take_position()
                missing -= {(role, slot_of(await self.placed(role, actor))) for role in SERVED_BY[phase]}

    def release(self) -> None:
        """Everybody goes on, if the process that it depends on still can."""
        for actor in self.actors:
            actor.go_on()

    async def finish(self) -> None:
        """Everybody goes on, to the end of the turn."""
        self.release()
        async with asyncio.TaskGroup() as group:
            for actor in self.actors:
                group.create_task(actor.over())

    def complaints(self, may_be_cut: Callable[[Actor], bool] = lambda actor: False) -> list[str]:
        """Of all devices. Whose reply may be cut may have heard an apology."""
        return [complaint for actor in self.actors for complaint in actor.complaints(may_be_cut=may_be_cut(actor))]

    async def leave(self) -> None:
        """All devices hang up."""
        for actor in self.actors:
            for phase in PHASES:
                self.stage.release(phase, actor.name)  # type: ignore[arg-type]
        self.actors.clear()
        self._numbers.clear()
        await self._exits.aclose()
        self._exits = AsyncExitStack()

    # Faults

    async def kill(self, name: str) -> float:
        """SIGKILL; seconds until the router has all its streams elsewhere."""
        victims = await self.streams_on(name)
        began_s = time.monotonic()
        await off_loop(self.cluster.kill, name)
        return await self.moved(victims, began_s)

    async def moved(self, victims: dict[str, str], began_s: float, timeout_s: float = 30.0) -> float:
        """Seconds until none of these streams lives any more."""

        async def is_over() -> bool:
            live = {str(row["stream"]) for row in (await self.page("/streams"))["streams"]}
            return not live & victims.keys()

        await self.until(is_over, timeout_s)
        return time.monotonic() - began_s

    def freeze(self, *names: str) -> None:
        """SIGSTOP: they do nothing more, and their sockets take what is sent."""
        self.cluster.stunned.update(names)
        for name in names:
            self.cluster.processes[name].send_signal(signal.SIGSTOP)

    def thaw(self, *names: str) -> None:
        for name in names:
            self.cluster.processes[name].send_signal(signal.SIGCONT)

    async def wedge(self, name: str, point: Point, order: Order) -> None:
        """Have the engine obey that holds somebody at this point in this process. Its successor will hold them too."""
        pid = self.cluster.processes[name].pid
        self.cluster.forgiven.add(name)
        self._wedged.add(name)
        actor = next(one for one in self.actors if one.phase == point and one.held_in() == pid)
        self.stage.order(point, actor.name, order)
        await self.stage.obeyed(point, actor.name)
        self.stage.hold(point, actor.name)

    async def ended(self, name: str) -> int:
        """The process ends by itself. Its exit code."""
        return int(await off_loop(self.cluster.processes[name].wait, JOIN_S))

    async def restart(self, *names: str) -> None:
        """Those of these processes that have ended, or are wedged, come back."""
        for name in self._wedged:
            await off_loop(self.cluster.kill, name)
        self._wedged.clear()
        for name in names:
            if self.cluster.processes[name].poll() is not None:
                role, _, slot = name.partition("-")
                self.cluster.start(role, int(slot))
        await self.until(self._all_joined, JOIN_S)

    async def _all_joined(self) -> bool:
        pools = (await self.page("/cluster"))["pools"]
        pids = {worker["pid"] for workers in pools.values() for worker in workers if worker["state"] == "ready"}
        return all(
            process.pid in pids for name, process in self.cluster.processes.items() if name.partition("-")[0] in ROLES
        )


@contextmanager
def theatre(*, deterministic: bool = True, patience: str = PATIENCE) -> Iterator[tuple[Cluster, StageDirector]]:
    """A cluster with two workers of each role, and a stage. Without patience the deadlines are those of every day."""
    utterance()
    with tempfile.TemporaryDirectory(prefix="xzs-", dir="/tmp") as directory:
        config = CONFIG.format(stage=directory, reply=REPLY, deterministic=str(deterministic).lower(), **VOICE)
        with Cluster(config + patience, counts=dict.fromkeys(ROLES, len(SLOTS))) as cluster:
            yield cluster, StageDirector(Path(directory))


@asynccontextmanager
async def performance(cluster: Cluster, stage: StageDirector) -> AsyncIterator[Troupe]:
    """One evening: the devices leave at its end, the workers stay."""
    troupe = Troupe(cluster, stage)
    try:
        yield troupe
    finally:
        await troupe.leave()
