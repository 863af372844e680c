"""How conversations and routers end, and what a device hears when a worker is killed in the middle of its turn."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable, Iterator
from functools import cache
from subprocess import Popen
from typing import Any

import pytest

from ops.device.client import Device
from tests.fakes.cluster import Cluster, metric, off_loop
from tests.fakes.people import device, quiet, said, until
from tests.fakes.raw_device import RawDevice, raw_device

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

SCRIPTED = """
selected_module: {ASR: ScriptedASR, LLM: ScriptedLLM, TTS: SineTTS}
ASR: {ScriptedASR: {type: scripted, delay_ms: 400}}
LLM: {ScriptedLLM: {type: scripted, reply: "You said {text}. Good day.", first_token_ms: 400}}
TTS: {SineTTS: {type: sine, ms_per_char: 12, first_chunk_ms: 600}}
cluster: {asr: {recognisers: 8}}
"""
SENTENCE = "tell me about the weather"
STORY = "that once upon a time there was a very long story, and nobody ever heard the end of it, " * 3


@cache
def utterance() -> tuple[bytes, ...]:
    """A sentence and the silence behind it."""
    return (*said(SENTENCE).packets, *quiet()[:12])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    utterance()
    counts = {"asr": 2, "tts": 2, "session": 2}
    with Cluster(SCRIPTED, counts=counts, environment={"XZ_DRAIN_S": "30"}) as running:
        yield running


# A router goes


async def begin_story(device: RawDevice) -> None:
    device.listen("detect", text=STORY)
    await device.until(lambda: len(device.audio) > 5)


@pytest.fixture
def router(cluster: Cluster) -> Iterator[Popen[bytes]]:
    """The cluster's router; another one is there for the next test."""
    yield cluster.processes["router-0"]
    cluster.processes["router-0"].wait(10)
    cluster.start("router")
    cluster.wait_ready()


async def test_sigterm_lets_a_turn_end_and_closes_with_1001(cluster: Cluster, router: Popen[bytes]) -> None:
    """The idle are let go at once, nobody new comes in, who speaks is heard out; then exit 0."""
    # One comes and goes before: that the router was empty once does not mean that it is.
    async with raw_device(cluster, 3):
        pass
    await until(lambda: cluster.metric("router", "xz_connections") == 0)
    async with raw_device(cluster, 1) as talker, raw_device(cluster, 2) as idle:
        talker.listen("detect", text="something of some length, please")
        await talker.until(lambda: bool(talker.audio))
        router.send_signal(signal.SIGTERM)
        await idle.gone()
        assert idle.close_code == 1001 and not talker.texts("tts", "stop")
        with pytest.raises(OSError, match="Connect call failed"):
            await asyncio.open_connection("127.0.0.1", cluster.ports.ws)
        await talker.gone()
        assert talker.close_code == 1001
        sentences = [message["text"] for message in talker.texts("tts", "sentence_start")]
        assert sentences[-1].startswith("Good day") and talker.received[-1].is_text("tts", "stop")
        assert talker.times("tts", "stop")[0] >= talker.audio_times[0] + 0.06 * len(talker.audio)
    assert await off_loop(router.wait, 10) == 0


async def test_a_second_sigterm_hurries(cluster: Cluster, router: Popen[bytes]) -> None:
    """Long before the reply would have ended, the device is closed with 1001 and the router is gone, exit 0."""
    async with raw_device(cluster, 1) as talker:
        await begin_story(talker)
        router.send_signal(signal.SIGTERM)
        await until(lambda: "router_draining" in cluster.log("router-0").rpartition("router_started")[2])
        router.send_signal(signal.SIGTERM)
        await talker.gone()
        assert talker.close_code == 1001
        assert len(talker.audio) < 100 and not talker.texts("tts", "stop")
    assert await off_loop(router.wait, 5) == 0


# A worker is killed


async def holder(cluster: Cluster, role: str) -> str:
    """The process that has the only open stream of its pool, once there is one."""
    async with asyncio.timeout(5):
        while True:
            workers = json.loads(await off_loop(cluster.page, "router", "/cluster"))["pools"][role]
            busy = [worker["slot"] for worker in workers if worker["active"]]
            if len(busy) == 1:
                return f"{role}-{busy[0]}"


async def kill_holder(cluster: Cluster, role: str) -> str:
    deaths = await metric(cluster, "router", "xz_worker_deaths_total")
    name = await holder(cluster, role)
    await off_loop(cluster.kill, name)
    async with asyncio.timeout(10):
        # The router tells its numbers only when it is asked.
        while await metric(cluster, "router", "xz_worker_deaths_total") == deaths:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return name


async def _hearing(client: Device) -> None:
    await until(lambda: client.firmware.counters.uplink_frames > 12)


async def _answering(client: Device) -> None:
    await until(lambda: client.firmware.counters.tts_starts > 0)


@pytest.mark.parametrize(
    ("role", "stage"),
    [("asr", _hearing), ("session", _answering), ("tts", _answering)],
    ids=["asr", "session", "tts"],
)
async def test_a_turn_survives_its_worker(
    cluster: Cluster, role: str, stage: Callable[[Device], Awaitable[None]]
) -> None:
    """Killed while it hears, thinks or synthesises: another one takes over, and the whole answer is heard, once."""
    async with device(cluster, 10, mode="manual") as client:
        client.begin(said(SENTENCE))
        await stage(client)
        killed = await kill_holder(cluster, role)
        report = await client.turn_over()
        counters = report.counters
        assert client.session in report.stt and client.session in report.reply
        assert report.reply.endswith("Good day")
        assert counters.tts_starts == counters.tts_stops == 1 and counters.stale_frames == 0
    program, _, slot = killed.partition("-")
    cluster.start(program, int(slot))
    await off_loop(cluster.wait_ready)


async def test_pools_restarted_while_idle_are_not_noticed(cluster: Cluster) -> None:
    """All workers are killed and come back between two turns of a connected device."""
    workers = [(role, slot) for role in ("asr", "tts", "session") for slot in range(2)]
    async with device(cluster, 20, mode="manual") as client:
        await client.ask_text("hello there")
        for role, slot in workers:
            await off_loop(cluster.kill, f"{role}-{slot}")
        for role, slot in workers:
            cluster.start(role, slot)
        await off_loop(cluster.wait_ready)
        report = await client.ask(said(SENTENCE))
        assert client.session in report.reply and report.counters.tts_stops == 1


# A conversation ends by itself


SHORT = """
close_connection_no_voice_time: 4
end_prompt: {enable: true, prompt: Say goodbye}
cluster:
  device: {hello_timeout_s: 2, idle_grace_s: 8, ping_interval_s: 3, dead_after_s: 6}
"""


async def short_lives() -> dict[str, tuple[RawDevice, float]]:
    """Four devices at the same time, until each is closed; with how often closes were counted as theirs."""
    ends: dict[str, tuple[RawDevice, float]] = {}

    with Cluster(SCRIPTED.rpartition("cluster:")[0] + SHORT) as cluster:

        async def live(number: int, name: str, reason: str, **how: Any) -> None:
            async with raw_device(cluster, number, **how) as device:
                if name == "listening":
                    await listen_on(device)
                await device.gone()
                ends[name] = device, await metric(cluster, "router", "xz_ws_close_total", reason=reason)

        async with asyncio.TaskGroup() as lives:
            lives.create_task(live(30, "mute", "no_hello", hello=None))
            lives.create_task(live(31, "listening", "goodbye"))
            lives.create_task(live(32, "silent", "idle"))
            lives.create_task(live(33, "lost", "dead", is_deaf=True))
    return ends


async def listen_on(device: RawDevice) -> None:
    """The microphone is on, and nobody speaks."""
    device.listen("start", mode="auto")
    while not device.is_gone:
        for packet in quiet():
            if device.texts("tts", "start") or device.is_gone:
                return
            device.send(packet)
            await asyncio.sleep(0.06)


@pytest.fixture(scope="module")
def ends() -> dict[str, tuple[RawDevice, float]]:
    return asyncio.run(short_lives())


def test_a_listening_device_is_told_goodbye(ends: dict[str, tuple[RawDevice, float]]) -> None:
    """After the time without voice: the end prompt is answered aloud and not shown, then `tts stop`, then 1000."""
    device, closes = ends["listening"]
    assert device.close_code == 1000 and closes == 1
    assert not device.texts("stt")
    assert device.texts("tts", "sentence_start")[0]["text"].startswith("You said Say goodbye")
    assert device.received[-1].is_text("tts", "stop")
    assert device.times("tts", "stop")[0] >= device.audio_times[0] + 0.06 * len(device.audio)


def test_a_silent_device_is_closed_after_the_grace(ends: dict[str, tuple[RawDevice, float]]) -> None:
    """It sends nothing and would hear nothing. Its pongs kept it from being taken for dead before."""
    device, closes = ends["silent"]
    assert device.close_code == 1000 and closes == 1 and not device.audio


def test_a_connection_without_hello_is_closed(ends: dict[str, tuple[RawDevice, float]]) -> None:
    """Whatever connects and says nothing."""
    device, closes = ends["mute"]
    assert device.close_code == 1000 and closes == 1 and not device.received


def test_a_device_that_answers_no_ping_is_dropped(ends: dict[str, tuple[RawDevice, float]]) -> None:
    """Half-open connections are found by pings alone: no device notices them (#3348 of xiaozhi-esp32-server)."""
    device, closes = ends["lost"]
    assert device.close_code is None and closes == 1
