"""A device's dialogue over the deaths of session workers and of the whole cluster, and over two routers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from yarl import URL

from ops.device.client import Device, DeviceOptions
from ops.device.enrolment import Identity, enrol, simulated_mac
from ops.device.tools import DeviceTools
from tests.fakes.cluster import Cluster, off_loop
from tests.fakes.people import ListedTools, quiet, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

CONFIG = """
selected_module: {ASR: ScriptedASR, TTS: SineTTS}
ASR: {ScriptedASR: {type: scripted}}
TTS: {SineTTS: {type: sine, ms_per_char: 15}}
"""

JOKE, AGAIN, STORY = "tell me a joke", "say that again", "tell me a story"
CHANGE = "self.audio_speaker.set_volume"


@dataclass
class TwoRouters(Cluster):
    """A second router with a port of its own, so that a test can say where a device connects."""

    @property
    def second_port(self) -> int:
        """Of the cluster's own range."""
        return self.ports.ws + 2

    def start(self, program: str, slot: int = 0) -> Any:
        if (program, slot) != ("router", 1):
            return super().start(program, slot)
        first = self.environment
        self.environment = {**first, "XZ_WS_PORT": str(self.second_port)}
        try:
            return super().start(program, slot)
        finally:
            self.environment = first


@pytest.fixture(scope="module")
def cluster() -> Iterator[TwoRouters]:
    counts = {"router": 2, "asr": 1, "tts": 1, "session": 3}
    with TwoRouters(CONFIG, counts=counts, environment={"XZ_ROUTERS": "2"}) as running:
        yield running


@asynccontextmanager
async def device(
    cluster: TwoRouters, number: int, *, router: int = 0, tools: DeviceTools | None = None
) -> AsyncIterator[Device]:
    """On the router that the test wants."""
    identity = Identity(simulated_mac("own", number))
    async with aiohttp.ClientSession() as http:
        enrolment = await enrol(http, cluster.ota_url, identity)
    url = URL(enrolment.url).with_port(cluster.second_port) if router else URL(enrolment.url)
    async with Device(DeviceOptions(identity, "manual"), quiet(), tools=tools) as client:
        await client.open(str(url), enrolment.token)
        yield client


def session_worker_of(cluster: Cluster, number: int) -> str:
    """Process name of the worker that has the device's session, as router 0 sees it."""
    mac = simulated_mac("own", number)
    for stream in json.loads(cluster.page("router", "/streams"))["streams"]:
        if stream["pool"] == "session" and stream["device"] == mac:
            program, slot = str(stream["worker"]).split(".", maxsplit=1)[0].split("-")
            return f"{program}-{int(slot)}"
    raise AssertionError(f"{mac} has no session: {cluster.page('router', '/streams')}")


def kill_session_of(cluster: Cluster, number: int) -> str:
    """Once the others can take over: a machine that is busy with other things has workers that lag."""
    deadline = time.monotonic() + 60
    while any(worker["state"] != "ready" for worker in session_workers(cluster, 0)):
        assert time.monotonic() < deadline, session_workers(cluster, 0)
        time.sleep(0.05)
    name = session_worker_of(cluster, number)
    cluster.kill(name)
    return name


async def revive(cluster: Cluster, name: str) -> None:
    """Another life of a worker, known to both routers; the dead one may still be in their pools for a moment."""
    # Here and not on another thread: a process is told to go when the thread that began it ends.
    process = cluster.start("session", int(name.rpartition("-")[2]))
    await off_loop(_wait_joined, cluster, process)


def _wait_joined(cluster: Cluster, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not all(process.pid in (worker["pid"] for worker in session_workers(cluster, slot)) for slot in (0, 1)):
        assert time.monotonic() < deadline and process.poll() is None, process
        time.sleep(0.05)


def session_workers(cluster: Cluster, router: int) -> list[dict[str, Any]]:
    workers: list[dict[str, Any]] = json.loads(cluster.page("router", "/cluster", router))["pools"]["session"]
    return workers


async def test_an_idle_device_keeps_its_dialogue_when_its_worker_is_killed(cluster: TwoRouters) -> None:
    """The next input finds another worker, which knows what was said."""
    async with device(cluster, 1) as client:
        joke = await client.ask_text(JOKE)
        name = await off_loop(kill_session_of, cluster, 1)
        again = await client.ask_text(AGAIN)
        assert again.reply == joke.reply and client.failure is None
    await revive(cluster, name)


async def test_a_complete_reply_is_heard_to_its_end_when_its_worker_is_killed(cluster: TwoRouters) -> None:
    """All text is there; the next worker commits the turn, so it can be said again."""
    async with device(cluster, 2) as client:
        whole = (await client.ask_text(STORY)).reply
        await client.ask_text(JOKE)
        telling = asyncio.create_task(client.ask_text(STORY), name="telling")
        before = client.firmware.counters.frames
        await until(lambda: client.firmware.counters.frames > before + 5)
        name = await off_loop(kill_session_of, cluster, 2)
        report = await telling
        counters = report.counters
        assert counters.tts_starts == counters.tts_stops and counters.stale_frames == 0
        again = await client.ask_text(AGAIN)
        assert again.reply == report.reply != whole
    await revive(cluster, name)


class DeadlyTools(ListedTools):
    """Kills the session worker while it waits for this device to run a tool."""

    def __init__(self, cluster: TwoRouters, number: int) -> None:
        super().__init__()
        self._cluster, self._number = cluster, number
        self.killed = ""

    def answer(self, request: object) -> dict[str, Any] | None:
        answer = super().answer(request)
        if not self.killed and self.calls and self.calls[-1][0] == CHANGE:
            self.killed = kill_session_of(self._cluster, self._number)
        return answer


async def test_a_tool_runs_once_although_its_worker_is_killed(cluster: TwoRouters) -> None:
    """The router knew that the turn changes something: it is not asked again, and the person hears an apology."""
    tools = DeadlyTools(cluster, 3)
    async with device(cluster, 3, tools=tools) as client:
        await asyncio.wait_for(tools.listed.wait(), 20)
        report = await client.ask_text("turn it up")
        assert [name for name, _ in tools.calls].count(CHANGE) == 1 and tools.volume == 80
        assert report.counters.tts_starts == report.counters.tts_stops == 1 and report.counters.frames > 0
        assert "eighty percent" in (await client.ask_text("what is the volume")).reply
    await revive(cluster, tools.killed)


async def test_a_connection_on_another_router_wins(cluster: TwoRouters) -> None:
    """The older one is closed as superseded and the dialogue goes on; the device's next connection wins again."""
    async with device(cluster, 4) as older:
        joke = await older.ask_text(JOKE)
        async with device(cluster, 4, router=1) as newer:
            assert (await newer.ask_text(AGAIN)).reply == joke.reply
            await until(lambda: older.failure is not None, 30)
            assert (
                older.failure is not None and older.failure.code == "closed_1000" and "superseded" in str(older.failure)
            )
            assert (await newer.ask_text(AGAIN)).reply == joke.reply and newer.failure is None
            async with device(cluster, 4) as newest:
                await until(lambda: newer.failure is not None, 30)
                assert "superseded" in str(newer.failure)
                assert (await newest.ask_text(AGAIN)).reply == joke.reply and newest.failure is None


async def test_a_dialogue_survives_the_whole_cluster(cluster: TwoRouters) -> None:
    """Every router and session worker is started anew within the window: the device goes on where it was."""
    async with device(cluster, 5) as client:
        joke = await client.ask_text(JOKE)
    await _restart(cluster)
    async with device(cluster, 5) as client:
        # A first turn waits 250 ms for the store and not longer; a busy machine may need more.
        await off_loop(_until_restored, cluster, 5)
        assert (await client.ask_text(AGAIN)).reply == joke.reply


def _until_restored(cluster: TwoRouters, number: int) -> None:
    """What the device has said before is there."""
    mac, deadline_s = simulated_mac("own", number), time.monotonic() + 30

    def is_told(line: str) -> bool:
        return "dialogue_restored" in line and mac in line and "turns=0" not in line

    while not any(is_told(line) for slot in range(3) for line in cluster.log(f"session-{slot}").splitlines()):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


async def _restart(cluster: TwoRouters) -> None:
    names = ["router-0", "router-1", "session-0", "session-1", "session-2"]
    for name in names:
        cluster.processes[name].terminate()
    for name in names:
        assert await off_loop(cluster.processes[name].wait, 30) == 0
    for name in names:
        program, slot = name.split("-")
        cluster.start(program, int(slot))
    await off_loop(cluster.wait_ready)


async def test_a_draining_worker_takes_no_turn_with_it(cluster: TwoRouters) -> None:
    """Told to stop in the middle of a reply: it is heard to its end, and the next worker can say it again."""
    async with device(cluster, 6) as client:
        telling = asyncio.create_task(client.ask_text(STORY), name="telling")
        await until(lambda: client.firmware.counters.frames > 5)
        name = await off_loop(session_worker_of, cluster, 6)
        cluster.processes[name].terminate()
        report = await telling
        assert (await client.ask_text(AGAIN)).reply == report.reply
    assert await off_loop(cluster.processes[name].wait, 30) == 0
    await revive(cluster, name)
