"""Whole worker processes: signals, deaths, probes, threads."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client import REGISTRY

from router.pools.stream_ref import StreamRef
from router.pools.switchboard import Switchboard
from shared.ids import Role
from shared.process.probes import thread_budget
from shared.settings import metrics_port_of, router_endpoint
from tests.fakes.canary import blocked_lines
from tests.fakes.echo_service import EchoOpen
from tests.fakes.link_rig import until, workers_of
from tests.fakes.recording_owner import RecordingOwner

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
Process = asyncio.subprocess.Process
Spawn = Callable[..., Awaitable[Process]]
BASE_OFFSET = metrics_port_of(0, "tts", 0)


def free_base_port(slots: int = 3) -> int:
    """A metrics base whose tts ports are free now."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if BASE_OFFSET < port < 65_000 - slots:
            return port - BASE_OFFSET


@pytest_asyncio.fixture
async def board(tmp_path: Path) -> AsyncIterator[Switchboard]:
    made = Switchboard({Role.TTS: router_endpoint(tmp_path, 0, "tts")})
    await made.start()
    yield made
    await made.close()


@pytest_asyncio.fixture
async def spawn(tmp_path: Path) -> AsyncIterator[Spawn]:
    processes: list[Process] = []
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XZ_DEBUG_LOOP": "1"}
    base = free_base_port()

    async def start(slot: int = 0) -> Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.fakes.echo_service", str(tmp_path), str(slot), str(base)),
            env=environment,
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def joined(board: Switchboard, count: int = 1) -> list[dict[str, Any]]:
    await until(lambda: len(workers_of(board)) == count, patience_s=30.0)
    return workers_of(board)


async def talking(board: Switchboard, owner: RecordingOwner) -> StreamRef:
    ref = board.open(owner, Role.TTS, EchoOpen(burst_frames=1))
    await owner.until_told("audio")
    return ref


async def ended(process: Process) -> tuple[int, str]:
    output, _ = await asyncio.wait_for(process.communicate(), 15)
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_a_killed_worker_is_noticed_though_nobody_sends(board: Switchboard, spawn: Spawn) -> None:
    """The kernel closes its socket, the monitor tells, the PING that follows is refused: no beat is missed yet."""
    process = await spawn()
    await joined(board)
    owner = RecordingOwner()
    ref = await talking(board, owner)
    before = unreachable_deaths()
    process.kill()
    assert await owner.until_ended() == ("lost", "dead", True)
    assert unreachable_deaths() == before + 1
    assert not ref.send_audio(b"late")
    assert workers_of(board) == []


async def test_a_killed_worker_refuses_the_next_frame(board: Switchboard, spawn: Spawn) -> None:
    """Sending on never fills a void: within a few frames the stream is lost, and its successor serves the next one."""
    process = await spawn()
    [worker] = await joined(board)
    owner = RecordingOwner()
    ref = await talking(board, owner)
    process.kill()
    await process.wait()
    frames = 0
    while ref.send_audio(b"x" * 200):
        frames += 1
        await asyncio.sleep(0.01)
    assert frames < 20
    assert await owner.until_ended() == ("lost", "dead", True)
    await spawn()
    [successor] = await joined(board)
    assert successor["slot"] == worker["slot"] and successor["id"] != worker["id"]
    await talking(board, RecordingOwner())


async def test_a_frozen_worker_is_dead_and_comes_back_as_somebody_else(board: Switchboard, spawn: Spawn) -> None:
    """SIGSTOP closes no socket: silence does it. Woken up, it is told to leave and rejoins."""
    process = await spawn()
    [frozen] = await joined(board)
    owner = RecordingOwner()
    await talking(board, owner)
    process.send_signal(signal.SIGSTOP)
    assert await owner.until_ended() == ("lost", "dead", True)
    process.send_signal(signal.SIGCONT)
    [again] = await joined(board)
    assert again["id"] != frozen["id"] and again["pid"] == frozen["pid"]
    await talking(board, RecordingOwner())


async def test_sigterm_drains_and_exits_zero(board: Switchboard, spawn: Spawn) -> None:
    """The open stream is finished first; nothing is slow, nothing is left."""
    process = await spawn()
    await joined(board)
    owner = RecordingOwner()
    ref = await talking(board, owner)
    process.terminate()
    await owner.until_told("draining")
    ref.end()
    assert (await owner.until_ended())[0] == "done"
    code, output = await ended(process)
    assert code == 0
    assert blocked_lines(output.partition("worker_drained")[0]) == []
    assert "Traceback" not in output
    await until(lambda: workers_of(board) == [])


async def test_a_second_sigterm_hurries(board: Switchboard, spawn: Spawn) -> None:
    """What is open then fails, retryable, after a second and not after the whole minute."""
    process = await spawn()
    await joined(board)
    owner = RecordingOwner()
    await talking(board, owner)
    process.terminate()
    await owner.until_told("draining")
    process.terminate()
    assert await owner.until_ended() == ("lost", "drained", True)
    code, _ = await ended(process)
    assert code == 0


async def test_ctrl_c_does_not_reach_a_worker(board: Switchboard, spawn: Spawn) -> None:
    """It goes to the whole terminal group; the supervisor decides."""
    process = await spawn()
    await joined(board)
    process.send_signal(signal.SIGINT)
    ref = await talking(board, RecordingOwner())
    process.terminate()
    ref.end()
    assert (await ended(process))[0] == 0


async def test_a_process_answers_its_probes_without_a_thread_of_its_own(board: Switchboard, spawn: Spawn) -> None:
    """The same number of threads with no stream and with eight, within the budget that it tells."""
    await spawn()
    [worker] = await joined(board)
    address = f"http://127.0.0.1:{worker['metrics_port']}"
    async with aiohttp.ClientSession() as http:
        idle = await metrics(http, address)
        for _ in range(8):
            await talking(board, RecordingOwner())
        busy = await metrics(http, address)
        async with http.get(f"{address}/readyz") as response:
            assert (response.status, (await response.json())["active"]) == (200, 8)
        async with http.get(f"{address}/healthz") as response:
            assert response.status == 200
    assert idle["xz_process_threads"] == busy["xz_process_threads"]
    assert busy["xz_thread_budget"] == thread_budget(link=True)
    assert busy["xz_process_threads"] <= busy["xz_thread_budget"]
    assert busy["xz_process_tasks"] > 0


async def test_a_worker_whose_port_is_taken_says_so_and_fails(board: Switchboard, spawn: Spawn) -> None:
    """Named, non-zero, before it joins anything."""
    await spawn()
    [worker] = await joined(board)
    code, output = await ended(await spawn())
    assert code == 1
    assert str(worker["metrics_port"]) in output and "XZ_METRICS_PORT" in output
    assert len(workers_of(board)) == 1


async def test_a_worker_does_not_outlive_its_parent(tmp_path: Path, board: Switchboard) -> None:
    """The supervisor's death drains it, though nobody is left to send SIGTERM."""
    script = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-m', 'tests.fakes.echo_service', {str(tmp_path)!r}, '0', sys.argv[1]])\n"
        "time.sleep(60)\n"
    )
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, str(free_base_port())),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    [worker] = await joined(board)
    parent.kill()
    await parent.wait()
    await until(lambda: workers_of(board) == [])
    await until(lambda: not Path(f"/proc/{worker['pid']}/exe").exists() or is_zombie(worker["pid"]))


def unreachable_deaths() -> float:
    return REGISTRY.get_sample_value("xz_worker_deaths_total", {"pool": "tts", "cause": "unreachable"}) or 0.0


def is_zombie(pid: int) -> bool:
    """Ended, but not yet collected by whoever inherited it."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


async def metrics(http: aiohttp.ClientSession, address: str) -> dict[str, float]:
    async with http.get(f"{address}/metrics") as response:
        lines = (await response.text()).splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, value in pairs}
