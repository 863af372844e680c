"""Routers on one machine, workers on another, and a cable between them that is cut while somebody talks."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ops.keys import KeyRing
from shared.link.keys import MACHINES, keys_dir
from shared.settings import metrics_port_of
from tests.fakes.cluster import MODULES, ROOT, Cluster, off_loop
from tests.fakes.people import until
from tests.fakes.ports import free_port_range
from tests.fakes.raw_device import RawDevice, raw_device
from tests.fakes.second_machine import SecondMachine, why_not

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

SCRIPTED = """
selected_module: {ASR: ScriptedASR, LLM: ScriptedLLM, TTS: SineTTS}
ASR: {ScriptedASR: {type: scripted, delay_ms: 100}}
LLM: {ScriptedLLM: {type: scripted, reply: "You said {text}. Good day.", first_token_ms: 50}}
TTS: {SineTTS: {type: sine, ms_per_char: 60}}
server: {admin_token: let-me-see}
"""
STORY = "once upon a time there was a very long story, and nobody ever heard the end of it, " * 3
CUT_S = 5.0
WORKERS = ("asr", "tts", "session")


@dataclass
class TwoMachines(Cluster):
    """Web and router here, all workers there; nothing of this machine's directories is used there."""

    machine: SecondMachine = field(default_factory=SecondMachine)
    link_port: int = field(default_factory=lambda: free_port_range(3))

    def __enter__(self) -> TwoMachines:
        self.far_dir = Path("/tmp") / f"{self.machine.name}-far"  # short: sockets lie in it
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            super().__exit__(*error)
        finally:
            shutil.rmtree(self.far_dir, ignore_errors=True)

    def start(self, program: str, slot: int = 0) -> subprocess.Popen[bytes]:
        if not self.far_dir.exists():
            self._hand_over_keys()
        if program not in WORKERS:
            self.environment = {
                "XZ_LINK_BIND": f"tcp://{self.machine.near}:{self.link_port}",
                "XZ_METRICS_HOST": "0.0.0.0",
                "XZ_ADVERTISED_HOST": self.machine.near,
            }
            return super().start(program, slot)
        name = f"{program}-{slot}"
        with self.log_path(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*self.machine.prefix, sys.executable, "-m", MODULES[program], "--slot", str(slot)],
                cwd=ROOT,
                env=self.far_environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self.processes[name]

    @property
    def far_environ(self) -> dict[str, str]:
        environ = {key: value for key, value in self.environ.items() if key != "XZ_LINK_BIND"}
        return environ | {
            "XZ_DATA_DIR": str(self.far_dir / "data"),
            "XZ_RUN_DIR": str(self.far_dir / "run"),
            "XZ_ROUTER_ENDPOINTS": f"tcp://{self.machine.near}:{self.link_port}",
            "XZ_METRICS_HOST": "0.0.0.0",
            "XZ_ADVERTISED_HOST": self.machine.far,
        }

    def _hand_over_keys(self) -> None:
        ring = KeyRing(self.data_dir)
        ring.init()
        ring.add("far")
        (self.far_dir / "data").mkdir(parents=True)
        (self.far_dir / "data" / ".config.yaml").write_text(self.config, encoding="utf-8")
        (ring.directory / MACHINES / "far").rename(keys_dir(self.far_dir / "data"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[TwoMachines]:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with SecondMachine() as machine, TwoMachines(SCRIPTED, machine=machine) as running:
        yield running


async def hears(device: RawDevice, text: str) -> None:
    """A whole turn."""
    over = len(device.texts("tts", "stop"))
    device.listen("detect", text=text)
    await device.turns_over(over + 1)
    sentences = [message["text"] for message in device.texts("tts", "sentence_start")]
    assert sentences[-1].startswith("Good day")
    assert len(device.texts("tts", "start")) == len(device.texts("tts", "stop")) == over + 1


async def test_workers_of_another_machine_serve_and_are_watched(cluster: TwoMachines) -> None:
    """They join with their machine's key; Prometheus is told where to find them, and does."""
    async with raw_device(cluster, 1) as device:
        await hears(device, "hello there")
    targets = await off_loop(scrape_targets, cluster)
    for program in WORKERS:
        address = f"{cluster.machine.far}:{metrics_port_of(cluster.ports.metrics, program, 0)}"
        assert address in targets
        page = await off_loop(read, f"http://{address}/metrics")
        gauges = dict(line.split(" ") for line in page.splitlines() if line.startswith("xz_") and "{" not in line)
        assert float(gauges["xz_process_threads"]) <= float(gauges["xz_thread_budget"])
    for path, status in (("/metrics", 200), ("/cluster", 403), ("/streams", 403)):
        port = metrics_port_of(cluster.ports.metrics, "router", 0)
        assert f"{cluster.machine.near}:{port}" in targets
        told = await off_loop(status_there, cluster.machine, port, path)
        assert told == status, f"another machine asks for {path}"
    router = await off_loop(cluster.page, "router", "/metrics")
    gauges = dict(line.split(" ") for line in router.splitlines() if line.startswith("xz_") and "{" not in line)
    assert float(gauges["xz_process_threads"]) <= float(gauges["xz_thread_budget"])


def status_there(machine: SecondMachine, port: int, path: str) -> int:
    """What the other machine gets when it asks this one."""
    script = (
        "import http.client, sys\n"
        f"connection = http.client.HTTPConnection({machine.near!r}, {port}, timeout=10)\n"
        f"connection.request('GET', {path!r})\n"
        "sys.exit(connection.getresponse().status - 200)\n"
    )
    command = [*machine.prefix, sys.executable, "-c", script]
    return 200 + subprocess.run(command, check=False).returncode


def scrape_targets(cluster: Cluster) -> list[str]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{cluster.ports.http}/sd", headers={"Authorization": "Bearer let-me-see"}
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        groups = json.loads(answer.read())
    return [target for group in groups for target in group["targets"]]


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


async def test_a_cable_cut_for_five_seconds_leaves_nothing_open(cluster: TwoMachines) -> None:
    """In the middle of a story: the turn ends, with one `tts stop`; mended, the workers come back and all is well."""
    async with raw_device(cluster, 2) as teller, raw_device(cluster, 3) as idle:
        teller.listen("detect", text=STORY)
        await teller.until(lambda: len(teller.audio) > 5)
        await off_loop(cluster.machine.cut)
        await asyncio.sleep(CUT_S)
        await off_loop(cluster.machine.mend)
        await teller.turns_over()
        await off_loop(cluster.wait_ready)
        await teller.until(lambda: len(teller.texts("tts", "start")) == len(teller.texts("tts", "stop")))
        for device in (teller, idle):
            assert not device.is_gone
        over = len(teller.texts("tts", "stop"))
        teller.listen("detect", text="hello again")
        await teller.turns_over(over + 1)
        assert teller.texts("tts", "sentence_start")[-1]["text"].startswith("Good day")
        await hears(idle, "hello there")
    await until(lambda: cluster.metric("router", "xz_connections") == 0)
    await until(lambda: cluster.metric("router", "xz_streams") == 0)


async def test_a_revoked_machine_is_cut_off(cluster: TwoMachines) -> None:
    """Its workers are gone from the pools within seconds and knock in vain; added anew they are not: keys differ."""
    refused = await off_loop(cluster.metric, "router", "xz_link_auth_refused_total")
    KeyRing(cluster.data_dir).revoke("far")

    def workers() -> int:
        pools: dict[str, list[Any]] = json.loads(cluster.page("router", "/cluster"))["pools"]
        return sum(len(pool) for pool in pools.values())

    await until(lambda: workers() == 0)
    await until(lambda: cluster.metric("router", "xz_link_auth_refused_total") > refused)
    assert workers() == 0
