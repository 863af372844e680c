"""Two real routers behind one listening socket share what comes, and one that hangs, dies or leaves is done without."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from websockets.asyncio.client import connect

from shared.settings import metrics_port_of
from tests.fakes.cluster import ROOT
from tests.fakes.ports import ClusterPorts, free_cluster_ports

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

DEVICES = 200
OPEN = "server: {auth: {enabled: false}}\n"


class Routers:
    """Two routers that inherit one listening socket, as supervisord gives it to them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ports: ClusterPorts = free_cluster_ports()
        self.listening = socket.create_server(("127.0.0.1", self.ports.ws), backlog=1024)
        (directory / "run").mkdir(mode=0o700)
        (directory / "data").mkdir()
        (directory / "data" / ".config.yaml").write_text(OPEN)
        self.processes = [self.start(slot) for slot in (0, 1)]

    def start(self, slot: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "router", "--slot", str(slot), "--listen-fd", str(self.listening.fileno())]
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("XZ_")},
            **self.ports.environment(),
            "PYTHONPATH": str(ROOT),
            "XZ_DATA_DIR": str(self.directory / "data"),
            "XZ_RUN_DIR": str(self.directory / "run"),
            "XZ_DRAIN_S": "1",
        }
        with (self.directory / f"router-{slot}.log").open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[self.listening.fileno()],
            )

    def metric(self, slot: int, name: str) -> float | None:
        """None while the process does not answer."""
        port = metrics_port_of(self.ports.metrics, "router", slot)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return None
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))

    def connections(self) -> list[float | None]:
        return [self.metric(slot, "xz_connections") for slot in (0, 1)]

    async def until(self, condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
        loop, deadline = asyncio.get_running_loop(), time.monotonic() + timeout_s
        while not await loop.run_in_executor(None, condition):
            logs = [(self.directory / f"router-{slot}.log").read_text()[-1500:] for slot in (0, 1)]
            assert time.monotonic() < deadline, (self.connections(), logs)
            await asyncio.sleep(0.05)

    async def accepts(self, *slots: int) -> None:
        await self.until(lambda: all(self.metric(slot, "xz_accepting") == 1.0 for slot in slots))

    def stop(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self.processes:
            process.wait(20)
        self.listening.close()


@pytest.fixture(scope="module")
def routers() -> Iterator[Routers]:
    with TemporaryDirectory(prefix="xzf-", dir="/tmp") as directory:
        running = Routers(Path(directory))
        try:
            yield running
        finally:
            running.stop()


async def open_devices(routers: Routers, count: int, stack: AsyncExitStack, first: int = 0) -> None:
    """All at once; they are closed with the stack."""

    async def open_one(number: int) -> None:
        device = f"02:00:00:00:{number // 256:02x}:{number % 256:02x}"
        headers = {"Device-Id": device, "Client-Id": "fairness"}
        url = f"ws://127.0.0.1:{routers.ports.ws}/xiaozhi/v1/"
        opening = connect(
            url, additional_headers=headers, compression=None, ping_interval=None, open_timeout=60, proxy=None
        )
        await stack.enter_async_context(opening)

    await asyncio.gather(*(open_one(number) for number in range(first, first + count)))


async def test_none_takes_more_than_its_share(routers: Routers) -> None:
    """200 devices at once: each of two routers has at most 60 %, three times over."""
    await routers.accepts(0, 1)
    for _ in range(3):
        async with AsyncExitStack() as devices:
            await open_devices(routers, DEVICES, devices)
            await routers.until(lambda: sum(count or 0 for count in routers.connections()) == DEVICES)
            held = routers.connections()
            assert max(count or 0 for count in held) <= 0.6 * DEVICES, held
        await routers.until(lambda: routers.connections() == [0.0, 0.0])


async def test_a_router_that_hangs_or_is_gone_is_done_without(routers: Routers) -> None:
    """Its count grows stale, so the other takes all; a new one in its slot gets its share again."""
    await routers.accepts(0, 1)
    async with AsyncExitStack() as devices:
        await open_devices(routers, 40, devices)
        os.kill(routers.processes[1].pid, signal.SIGSTOP)
        # What the sleeper has in hand already waits for it; whatever comes now is taken by the other one.
        before = routers.metric(0, "xz_connections") or 0
        await open_devices(routers, 60, devices, first=1000)
        assert (routers.metric(0, "xz_connections") or 0) == before + 60
        routers.processes[1].kill()
        routers.processes[1].wait()
        routers.processes[1] = routers.start(1)
        await routers.accepts(1)
        await open_devices(routers, 60, devices, first=2000)
        assert routers.metric(1, "xz_connections") == 60
