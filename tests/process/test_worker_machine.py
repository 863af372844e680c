"""`xiaozhi up` on a machine that has workers only, for the routers of another one."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from ops.keys import KeyRing
from router.pools.switchboard import Switchboard
from shared.ids import Role
from shared.link.endpoints import Binding, endpoint_for
from shared.link.keys import MACHINES, keys_dir, load_router_keys
from tests.fakes.cluster import ROOT
from tests.fakes.link_rig import until
from tests.fakes.ports import ClusterPorts, free_port_range

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

CONFIG = """
selected_module: {ASR: ScriptedASR, TTS: SineTTS}
ASR: {ScriptedASR: {type: scripted}}
TTS: {SineTTS: {type: sine}}
cluster: {counts: {routers: 0, asr: 1, tts: 1, session: 1}}
"""


@pytest_asyncio.fixture
async def directory() -> AsyncIterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="xzw-", dir="/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def environment(directory: Path, ports: ClusterPorts, router: str) -> dict[str, str]:
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("XZ_")},
        **ports.environment(),
        "PYTHONPATH": str(ROOT),
        "XZ_DATA_DIR": str(directory / "far"),
        "XZ_RUN_DIR": str(directory / "run"),
        "XZ_ROUTER_ENDPOINTS": router,
        "XZ_DRAIN_S": "2",
    }


async def up(environ: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ops", "up"),
        env=environ,
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def test_its_workers_join_with_its_keys_and_not_without(directory: Path, cluster_ports: ClusterPorts) -> None:
    """Without keys it is refused, with what to do; with them it is ready when a router has answered each worker."""
    router = f"tcp://127.0.0.1:{free_port_range(3)}"
    (directory / "far").mkdir()
    (directory / "far" / ".config.yaml").write_text(CONFIG)
    environ = environment(directory, cluster_ports, router)

    refused = await up(environ)
    output, _ = await asyncio.wait_for(refused.communicate(), 60)
    assert refused.returncode == 2
    assert "worker.key" in output.decode() and "xiaozhi keys add" in output.decode()

    ring = KeyRing(directory / "near")
    ring.init()
    ring.add("far")
    (ring.directory / MACHINES / "far").rename(keys_dir(directory / "far"))
    bindings = {role: Binding(f"ipc://{directory}/near/r0-{role}", endpoint_for(router, role)) for role in Role}
    (directory / "near").chmod(0o700)
    board = Switchboard(bindings, load_keys=partial(load_router_keys, directory / "near"))
    await board.start()
    running = await up(environ)
    try:
        assert running.stdout is not None
        async with asyncio.timeout(90):
            lines = []
            while not any("is ready" in line for line in lines):
                line = (await running.stdout.readline()).decode()
                assert line, lines
                lines.append(line)
        await until(lambda: all(len(pool["workers"]) == 1 for pool in board.snapshot()["pools"].values()))
    finally:
        running.send_signal(signal.SIGINT)
        output, _ = await asyncio.wait_for(running.communicate(), 60)
        await board.close()
    assert running.returncode == 0, output.decode()


@pytest.mark.parametrize(
    ("module", "variable", "words"),
    [
        ("router", "XZ_LINK_BIND", ("router.key", "xiaozhi keys init")),
        ("workers.tts", "XZ_ROUTER_ENDPOINTS", ("worker.key", "xiaozhi keys add")),
    ],
)
async def test_no_process_uses_the_network_without_keys(
    directory: Path, cluster_ports: ClusterPorts, module: str, variable: str, words: tuple[str, ...]
) -> None:
    """Whoever starts one by hand is told which key and how to make it; the port is never opened."""
    (directory / "far").mkdir()
    (directory / "far" / ".config.yaml").write_text(CONFIG)
    environ = environment(directory, cluster_ports, "local") | {variable: "tcp://127.0.0.1:5600"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, "--slot", "0"),
        env=environ,
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    assert all(word in output.decode() for word in words)
    assert "Traceback" not in output.decode()
