"""A real session worker process behind a real socket: turns, tools, failures, drain; nothing said is logged."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from shared.ids import Role, WorkerId
from shared.link.envelope import Head, Kind, unpack_map
from shared.link.messages import Body, EffectsOk, FromDevice, Input, OpenSession, TurnOver
from shared.link.sockets import make_context
from shared.settings import StoreSettings, router_endpoint
from shared.store.store import Store
from tests.conftest import ClusterPorts
from tests.fakes.canary import blocked_lines
from tests.fakes.link_rig import BareRouter, Inbox
from tests.fakes.llm import FakeLlm, Script
from tests.fakes.session import FakeMcpDevice

pytestmark = pytest.mark.process

SECRET_WORDS = ("marmalade", "tangerine", "sk-hidden-key", "volume")
LOAD_TIMEOUT_S = 60.0

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
class Rig:
    """A worker process and the router it has joined."""

    process: asyncio.subprocess.Process
    router: BareRouter
    worker: WorkerId
    log: Path
    talks: dict[int, Talk] = field(default_factory=dict)

    def open(self, device: str) -> Talk:
        stream = len(self.talks) + 1
        talk = self.talks[stream] = Talk(self, stream, FakeMcpDevice())
        self.router.open(self.worker, stream, OpenSession(f"s{stream}", device, features={"mcp": True}))
        return talk

    def threads(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))


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
    config = CONFIG.format(url=llm.base_url)
    async with worker_process(run_dir, tmp_path, cluster_ports, config) as rig:
        yield rig


async def start(run_dir: Path, data_dir: Path, ports: ClusterPorts, config: str) -> asyncio.subprocess.Process:
    """The process logs to worker.log in its data directory."""
    (data_dir / ".config.yaml").write_text(config)
    await (await Store.open(StoreSettings(), data_dir, migrates=True)).close()
    environment = os.environ | ports.environment()
    environment |= {"XZ_RUN_DIR": str(run_dir), "XZ_DATA_DIR": str(data_dir)}
    environment |= {"XZ_DEBUG_LOOP": "1", "OPENBLAS_NUM_THREADS": "1"}
    with (data_dir / "worker.log").open("wb") as file:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "workers.session", "--slot", "0", env=environment, stdout=file, stderr=file
        )


@asynccontextmanager
async def worker_process(run_dir: Path, data_dir: Path, ports: ClusterPorts, config: str) -> AsyncIterator[Rig]:
    log = data_dir / "worker.log"
    context = make_context()
    router = BareRouter(context, router_endpoint(run_dir, 0, Role.SESSION))
    process = await start(run_dir, data_dir, ports, config)
    keeper = None
    try:
        async with asyncio.timeout(LOAD_TIMEOUT_S):
            worker = await router.until_joined()
        rig = Rig(process, router, worker, log)
        inbox = router.inboxes[worker] = Dispatch()
        inbox.rig = rig
        keeper = asyncio.create_task(keep_alive(rig), name="ping-worker")
        yield rig
    except BaseException:
        print(log.read_text())  # noqa: T201 - shown by pytest with the failure
        raise
    finally:
        if keeper:
            keeper.cancel()
        if process.returncode is None:
            process.kill()
            await process.wait()
        router.link.close()
        context.term()


async def keep_alive(rig: Rig) -> None:
    while True:
        rig.router.ping(rig.worker)
        await asyncio.sleep(0.5)


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
    assert_clean(rig.log.read_text())


def assert_clean(log: str) -> None:
    """Nothing said is in a DEBUG log, no exception was raised, and after the start no callback held the loop."""
    assert [word for word in SECRET_WORDS if word in log.lower()] == []
    assert "Traceback" not in log
    _, _, running = log.partition("worker_started")
    running, _, _ = running.partition("worker_drained")
    assert blocked_lines(running) == []


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
    process = await start(run_dir, tmp_path, cluster_ports, CONFIG.format(url="ftp://nowhere"))
    assert await asyncio.wait_for(process.wait(), LOAD_TIMEOUT_S) == 1
    log = (tmp_path / "worker.log").read_text()
    assert "LLM.Fake.base_url" in log
    assert "Traceback" not in log
    assert "sk-hidden-key" not in log
