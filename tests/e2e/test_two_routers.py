"""Routers of one machine share their workers: they talk at once, and what happens to one is nothing to the other."""

from __future__ import annotations

import asyncio
import copy
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

from shared.ids import Role, StreamId
from shared.link.envelope import Kind, pack_head
from shared.link.messages import Done
from shared.settings import router_endpoint
from tests.fakes.cluster import Cluster, off_loop
from tests.fakes.link_rig import plain_beat
from tests.fakes.ports import is_free
from tests.fakes.raw_device import RawDevice, raw_device

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SCRIPTED = """
selected_module: {ASR: ScriptedASR, LLM: ScriptedLLM, TTS: SineTTS}
ASR: {ScriptedASR: {type: scripted, delay_ms: 100}}
LLM: {ScriptedLLM: {type: scripted, reply: "You said {text}. Good day.", first_token_ms: 50}}
TTS: {SineTTS: {type: sine, ms_per_char: 60}}
"""
STORY = "once upon a time there was a very long story, and nobody ever heard the end of it, " * 2
SHORT = "hello there"
ROUTERS = 3


class RouterTrio(Cluster):
    """Each router has a port of its own, so that a test knows which one a device is on. Two of three run at first."""

    def start(self, program: str, slot: int = 0) -> Any:
        if program == "router":
            self.environment = {**self.environment, "XZ_WS_PORT": str(self.port_of(slot))}
        return super().start(program, slot)

    def port_of(self, slot: int) -> int:
        return self.ports.ws if slot == 0 else self.ports.http + slot

    def at(self, slot: int) -> Cluster:
        """This cluster, as devices of router `slot` see it."""
        seen = copy.copy(self)
        seen.ports = replace(self.ports, ws=self.port_of(slot))
        return seen

    def workers(self, slot: int, role: str = "tts") -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = json.loads(self.page("router", "/cluster", slot))["pools"][role]
        except (OSError, ValueError):
            return []
        return found

    def is_complete(self, slot: int) -> bool:
        return all(len(self.workers(slot, role)) >= self.counts[role] for role in ("asr", "tts", "session"))

    def _all_joined(self) -> bool:
        running = [slot for slot in range(ROUTERS) if f"router-{slot}" in self.processes]
        return super()._all_joined() and all(self.is_complete(slot) for slot in running)


@pytest.fixture(scope="module")
def cluster() -> Iterator[RouterTrio]:
    counts = {"router": 2, "asr": 1, "tts": 2, "session": 2}
    trio = RouterTrio(SCRIPTED, counts=counts, environment={"XZ_ROUTERS": "2"})
    while not all(is_free(trio.port_of(slot)) for slot in range(ROUTERS)):
        trio = RouterTrio(SCRIPTED, counts=counts, environment={"XZ_ROUTERS": "2"})
    with trio as running:
        yield running


async def hears(device: RawDevice, text: str) -> None:
    """A whole turn, of which every sentence is shown and spoken."""
    over = len(device.texts("tts", "stop"))
    device.listen("detect", text=text)
    await device.turns_over(over + 1)
    sentences = [message["text"] for message in device.texts("tts", "sentence_start")]
    assert sentences[-1].startswith("Good day")
    assert any(text[:20] in sentence for sentence in sentences)


async def begins(device: RawDevice, text: str) -> None:
    frames = len(device.audio)
    device.listen("detect", text=text)
    await device.until(lambda: len(device.audio) > frames + 5)


async def test_devices_of_both_talk_at_once_over_the_same_workers(cluster: RouterTrio) -> None:
    """One pool: each router has every worker, and sees the load that the other one makes."""
    identities = [[(w["incarnation"], w["pid"]) for w in await off_loop(cluster.workers, slot)] for slot in (0, 1)]
    assert sorted(identities[0]) == sorted(identities[1])
    async with AsyncExitStack() as stack:
        devices = [await stack.enter_async_context(raw_device(cluster.at(n % 2), 10 + n)) for n in range(6)]
        for device in devices:
            await begins(device, STORY)

        def sums(slot: int) -> tuple[int, int]:
            told = cluster.workers(slot, "session")
            return sum(one["active"] for one in told), sum(one["ours"] for one in told)

        async with asyncio.timeout(20):
            while [await off_loop(sums, slot) for slot in (0, 1)] != [(6, 3), (6, 3)]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        for device in devices:
            device.send({"type": "abort"})
            await device.turns_over()
        await asyncio.gather(*(hears(device, f"{SHORT} {n}") for n, device in enumerate(devices)))


async def test_a_killed_router_costs_the_other_ones_devices_nothing(cluster: RouterTrio) -> None:
    """Its streams are dropped by the workers; it comes back and they rejoin, without anybody's help."""
    async with raw_device(cluster.at(1), 21) as kept, raw_device(cluster.at(0), 20) as lost:
        await begins(lost, STORY)
        await begins(kept, STORY)
        failures = await off_loop(cluster.metric, "router", "xz_stream_failures_total", 1)
        await off_loop(cluster.kill, "router-0")
        await lost.gone()
        async with asyncio.timeout(30):
            # A worker notices the silence after five seconds.
            while not await off_loop(is_alone, cluster):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert not kept.is_gone
        await kept.turns_over()
        sentences = [message["text"] for message in kept.texts("tts", "sentence_start")]
        assert sentences[-1].startswith("Good day")
        assert len(kept.texts("tts", "stop")) == len(kept.texts("tts", "start")) == 1
        assert await off_loop(cluster.metric, "router", "xz_stream_failures_total", 1) == failures
        cluster.start("router", 0)
        await off_loop(cluster.wait_ready)
        async with raw_device(cluster.at(0), 20) as again:
            await asyncio.gather(hears(again, SHORT), hears(kept, SHORT))


def is_alone(cluster: RouterTrio) -> bool:
    """Whether the workers hold no more session streams than router 1 knows of."""
    told = cluster.workers(1, "session")
    return bool(told) and sum(one["active"] for one in told) == sum(one["ours"] for one in told)


async def test_a_router_that_is_added_is_joined_and_one_that_ends_is_left(cluster: RouterTrio) -> None:
    """No worker is restarted, and a story on another router is told to its end."""
    before = {one["pid"] for one in await off_loop(cluster.workers, 1)}
    async with raw_device(cluster.at(1), 31) as listener:
        await begins(listener, STORY)
        added = cluster.start("router", 2)
        async with asyncio.timeout(30):
            while not await off_loop(cluster.is_complete, 2):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        async with raw_device(cluster.at(2), 32) as guest:
            await hears(guest, SHORT)
        added.send_signal(signal.SIGTERM)
        assert await off_loop(added.wait, 20) == 0
        assert not list(cluster.run_dir.glob("r2-*"))
        await listener.turns_over()
        assert [text["text"] for text in listener.texts("tts", "sentence_start")][-1].startswith("Good day")
    assert {one["pid"] for one in await off_loop(cluster.workers, 1)} == before


class Liar(threading.Thread):
    """A member of every pool that takes no streams and talks about everybody else's, as fast as it is read."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__(name="liar", daemon=True)
        self._run_dir = run_dir
        self._enough = threading.Event()
        self.said = 0

    def run(self) -> None:
        context = zmq.Context()
        sockets = [self._join(context, role) for role in Role]
        stream = 0
        while not self._enough.wait(0.005):
            stream = stream % 400 + 1
            for socket in sockets:
                self._lie(socket, StreamId(stream))
        for socket in sockets:
            socket.close(0)
        context.term()

    def stop(self) -> None:
        self._enough.set()
        self.join()

    def _join(self, context: Any, role: Role) -> Any:
        socket = context.socket(zmq.DEALER)
        socket.setsockopt_string(zmq.IDENTITY, f"{role}-39.1iar1iar")
        socket.connect(router_endpoint(self._run_dir, 0, role))
        body = plain_beat(slot=39, capacity=0).to_map() | {"role": role.value}
        socket.send_multipart([pack_head(Kind.BEAT), packed(body)])
        return socket

    def _lie(self, socket: Any, stream: StreamId) -> None:
        lies = [
            [pack_head(Kind.DONE, stream, 0), Done().pack()],
            [pack_head(Kind.AUDIO, stream, self.said), b"x" * 200],
            [pack_head(Kind.AUDIO, stream, 1), b"x" * 70_000],
            [pack_head(Kind.EVENT, stream, 1), b"\x91" * 5_000],
            [pack_head(Kind.BEAT), packed({"role": "tts", "capacity": -1})],
            [b"\xdd\xff\xff\xff\xff", b""],
        ]
        for lie in lies:
            try:
                socket.send_multipart(lie, zmq.NOBLOCK)
                self.said += 1
            except zmq.Again:
                return


def packed(body: dict[str, Any]) -> bytes:
    raw: bytes = msgpack.packb(body)
    return raw


async def test_a_worker_that_lies_is_heard_by_nobody(cluster: RouterTrio) -> None:
    """Foreign streams, wrong numbers, bodies over the limit, bombs: counted at the router, unknown to every device."""
    liar = Liar(cluster.run_dir)
    dropped = await off_loop(cluster.metric, "router", "xz_link_dropped_total")
    failures = await off_loop(cluster.metric, "router", "xz_stream_failures_total")
    async with AsyncExitStack() as stack:
        devices = [await stack.enter_async_context(raw_device(cluster.at(0), 40 + n)) for n in range(3)]
        liar.start()
        try:
            for _ in range(3):
                await asyncio.gather(*(hears(device, f"{SHORT} {n}") for n, device in enumerate(devices)))
        finally:
            await off_loop(liar.stop)
        assert all(len(one.texts("tts", "start")) == len(one.texts("tts", "stop")) == 3 for one in devices)
    assert liar.said > 1000
    assert await off_loop(cluster.metric, "router", "xz_link_dropped_total") > dropped + 500
    assert await off_loop(cluster.metric, "router", "xz_stream_failures_total") == failures
