"""A real session worker process behind a real socket: turns, tools, failures, drain; nothing said is logged."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from shared.ids import Role
from shared.link.envelope import Head, Kind, unpack_map
from shared.link.messages import Body, EffectsOk, FromDevice, Input, OpenSession, TurnOver
from shared.settings import StoreSettings
from shared.store.store import Store
from tests.conftest import ClusterPorts
from tests.fakes.link_rig import Inbox
from tests.fakes.llm import FakeLlm, Script
from tests.fakes.session import FakeMcpDevice
from tests.fakes.worker_rig import LOAD_TIMEOUT_S, LOG_NAME, WorkerRig, assert_clean, started, worker_process

pytestmark = pytest.mark.process

SECRET_WORDS = ("marmalade", "tangerine", "sk-hidden-key", "volume")

CONFIG = """
selected_module:
  LLM: Fake
LLM:
  Fake:
    type: openai
    url: {url}
    model_name: m
    api_key: sk-hidden-key
log:
  log_level: DEBUG
"""


@dataclass
class Talk:
    """One session of the process, seen from the router: it acknowledges effects and plays the device's tools."""

    rig: Rig
    stream: int
    device: FakeMcpDevice
    events: list[dict[str, Any]] = field(default_factory=list)
    ends: list[Kind] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _sent: int = 0

    def send(self, body: Body) -> None:
        self._say(Kind.EVENT, body.pack())

    def end(self) -> None:
        self._say(Kind.END, b"")

    def _say(self, kind: Kind, body: bytes) -> None:
        self._sent += 1
        self.rig.router.say(self.rig.worker, kind, self.stream, self._sent, body)

    def on_message(self, kind: Kind, body: bytes) -> None:
        self.changed.set()
        if kind is not Kind.EVENT:
            self.ends.append(kind)
            return
        event = unpack_map(body)
        self.events.append(event)
        if event["name"] == "effects":
            self.send(EffectsOk(event["gen"], event["n"]))
        if event["name"] == "to_device" and event["message"]["type"] == "mcp":
            reply = self.device.answer(event["message"]["payload"])
            if reply is not None:
                self.send(FromDevice({"type": "mcp", "payload": reply}))

    def named(self, name: str, gen: int | None = None) -> list[dict[str, Any]]:
        return [event for event in self.events if event["name"] == name and gen in (None, event.get("gen"))]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def ended(self) -> None:
        await self.until(lambda: self.ends)

    async def turn(self, gen: int, text: str) -> list[str]:
        self.send(Input(gen, text, "asr"))
        await self.until(lambda: self.named("reply_end", gen))
        texts = [segment["text"] for segment in self.named("segment", gen)]
        self.send(TurnOver(gen, "complete", "", len(texts)))
        return texts


@dataclass
class Rig(WorkerRig):
    """With the talks that go on over it."""

    talks: dict[int, Talk] = field(default_factory=dict)

    def open(self, device: str) -> Talk:
        stream = len(self.talks) + 1
        talk = self.talks[stream] = Talk(self, stream, FakeMcpDevice())
        self.router.open(self.worker, stream, OpenSession(f"s{stream}", device, features={"mcp": True}))
        return talk


class Dispatch(Inbox):
    """Hands each stream's messages to its talk."""

    rig: Rig | None = None

    def put(self, head: Head, body: bytes) -> None:
        super().put(head, body)
        talk = self.rig.talks.get(int(head.stream)) if self.rig is not None else None
        if talk is not None:
            talk.on_message(Kind(head.kind), body)


@pytest.fixture
async def llm() -> AsyncIterator[FakeLlm]:
    server = FakeLlm()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def rig(run_dir: Path, tmp_path: Path, cluster_ports: ClusterPorts, llm: FakeLlm) -> AsyncIterator[Rig]:
    await (await Store.open(StoreSettings(), tmp_path, migrates=True)).close()
    config = CONFIG.format(url=llm.base_url)
    async with worker_process(
        Rig, role=Role.SESSION, config=config, run_dir=run_dir, data_dir=tmp_path, ports=cluster_ports
    ) as rig:
        inbox = rig.router.inboxes[rig.worker] = Dispatch()
        inbox.rig = rig
        yield rig


async def terminate(rig: Rig) -> int:
    rig.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(30):
        return await rig.process.wait()


async def test_it_talks_and_logs_nothing_said(rig: Rig, llm: FakeLlm) -> None:
    """A model, a tool and a failure, then a clean exit; no step over 50 ms, and no word or key in the DEBUG log."""
    talk = rig.open("aa:bb")
    call = ("self_audio_speaker_set_volume", '{"volume": 20}')
    llm.scripts.extend([Script(tokens=(), calls=(call,)), Script(tokens=("Marmalade", " it is.")), Script(status=401)])
    assert await talk.turn(1, "tangerine please") == ["Marmalade it is."]
    assert talk.named("profile") == talk.events[:1]
    assert talk.device.volume == 20
    assert (await talk.turn(2, "what time is it"))[0].startswith("It is ")
    llm.default = Script(status=401)
    assert await talk.turn(3, "音量调到三十") == ["音量已经调到百分之三十。"]
    talk.end()
    await talk.ended()
    assert talk.ends == [Kind.DONE]
    assert await terminate(rig) == 0
    assert_clean(rig.log.read_text(), SECRET_WORDS)


async def test_threads_do_not_grow_with_devices(rig: Rig, llm: FakeLlm) -> None:
    """One device or a hundred, the process has the same threads."""
    await rig.open("first").turn(1, "hello there")
    before = rig.threads()
    talks = [rig.open(f"d{n}") for n in range(100)]
    said = await asyncio.gather(*(talk.turn(1, "who are you really") for talk in talks))
    assert said == [["Hello there."]] * 100
    assert rig.threads() == before


async def test_an_upstream_that_hangs_delays_nobody(rig: Rig, llm: FakeLlm) -> None:
    """Twenty turns that wait for a dead model do not hold up another device, and end when they are over."""
    llm.scripts.extend([Script(fault="hang")] * 20)
    stuck = [rig.open(f"d{n}") for n in range(20)]
    for talk in stuck:
        talk.send(Input(1, "never answered", "asr"))
    async with asyncio.timeout(20):
        while len(llm.requests) < len(stuck):
            llm.asked.clear()
            await llm.asked.wait()
    assert await rig.open("free").turn(1, "good question") == ["Hello there."]
    for talk in stuck:
        talk.send(TurnOver(1, "interrupted", "abort", 0))
        talk.end()
    await asyncio.gather(*(talk.ended() for talk in stuck))
    assert all(talk.ends == [Kind.DONE] for talk in stuck)


async def test_a_model_that_cannot_be_used_is_named(run_dir: Path, tmp_path: Path, cluster_ports: ClusterPorts) -> None:
    """A configuration that cannot work ends the process with the option's name, before it joins anything."""
    process = await started(
        role=Role.SESSION,
        config=CONFIG.format(url="ftp://nowhere"),
        run_dir=run_dir,
        data_dir=tmp_path,
        ports=cluster_ports,
    )
    assert await asyncio.wait_for(process.wait(), LOAD_TIMEOUT_S) == 1
    log = (tmp_path / LOG_NAME).read_text()
    assert "LLM.Fake.base_url" in log
    assert "Traceback" not in log
    assert "sk-hidden-key" not in log
