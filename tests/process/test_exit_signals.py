"""How every process ends: while it loads, with an engine that hangs, and when nobody is left to tell it."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ops.cluster.daemon import session_members
from ops.cluster.orphans import end_orphans, orphans_of
from shared.process.parent import SUPERVISOR_VARIABLE, Parent
from shared.settings import ClusterSettings, metrics_port_of
from tests.fakes import standin_cluster
from tests.fakes.cluster import MODULES, ROOT, Cluster, off_loop
from tests.fakes.people import device, said
from tests.fakes.ports import ClusterPorts
from tests.fakes.real_cluster import READY, RealCluster

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

PATIENCE_S = 40.0
Start = Callable[..., subprocess.Popen[bytes]]


def is_running(pid: int) -> bool:
    """A zombie does not run."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def children_of(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.01)


def readyz(port: int) -> int:
    """Status of a process's own page; 0 if it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


# While it loads


@pytest.fixture
def alone(run_dir: Path, cluster_ports: ClusterPorts) -> Iterator[Cluster]:
    """The directories and ports of a cluster of which nothing has been started."""
    cluster = Cluster(ports=cluster_ports)
    cluster.directory = run_dir
    cluster.data_dir, cluster.run_dir = run_dir / "data", run_dir / "run"
    cluster.data_dir.mkdir()
    cluster.run_dir.mkdir(mode=0o700)
    yield cluster
    for process in cluster.processes.values():
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.mark.parametrize("program", MODULES)
def test_sigterm_during_the_start_ends_it_with_zero(alone: Cluster, program: str) -> None:
    """Nobody waits for models: the first moment a process answers its probe is early enough to leave cleanly."""
    process = alone.start(program)
    port = metrics_port_of(alone.ports.metrics, program, 0)
    wait_for(lambda: readyz(port) != 0 or process.poll() is not None, "it never answered its probe")
    children = children_of(process.pid)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0, alone.log(f"{program}-0")
    assert "Traceback" not in alone.log(f"{program}-0")
    wait_for(lambda: not any(map(is_running, children)), "its children live on")


@pytest.mark.parametrize("program", MODULES)
def test_a_supervisor_that_died_before_it_was_looked_at_is_missed(alone: Cluster, program: str) -> None:
    """Importing takes a second; who inherits the process by then must not be taken for its supervisor."""
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    alone.environment = {SUPERVISOR_VARIABLE: str(ended.pid)}
    process = alone.start(program)
    assert process.wait(PATIENCE_S) == 0, alone.log(f"{program}-0")
    assert "parent_gone" in alone.log(f"{program}-0")


def test_a_living_supervisor_further_up_is_no_death() -> None:
    """A wrapper between the two, or a variable that was inherited from an outer cluster, ends nobody."""
    assert not Parent({SUPERVISOR_VARIABLE: str(os.getpid())}).is_gone
    assert not Parent({SUPERVISOR_VARIABLE: "no number"}).is_gone
    assert not Parent({}).is_gone


def test_callers_that_never_finish_asking_hold_up_no_end(alone: Cluster) -> None:
    """A handshake may take ten seconds; the end of the router does not wait for it."""
    process = alone.start("router")
    wait_for(lambda: readyz(metrics_port_of(alone.ports.metrics, "router", 0)) != 0, "it never answered its probe")
    callers = [socket.create_connection(("127.0.0.1", alone.ports.ws)) for _ in range(20)]
    try:
        for caller in callers:
            caller.sendall(b"GET /xiaozhi/v1/ HTTP/1.1\r\n")
        process.send_signal(signal.SIGTERM)
        assert process.wait(9) == 0, alone.log("router-0")
    finally:
        for caller in callers:
            caller.close()


# With work that hangs

HANGING = """
selected_module: {ASR: Script, LLM: Script, TTS: Tone}
ASR: {Script: {type: scripted%s}}
LLM: {Script: {type: scripted, reply: "You said {text}."}}
TTS: {Tone: {type: sine%s}}
"""
HANGS = {
    "asr": (", fail: sleep", ""),
    "tts": ("", ", fail: hang, hang_s: 30"),
}


@pytest.mark.parametrize("role", HANGS)
async def test_a_hanging_engine_does_not_outlast_the_deadline(role: str) -> None:
    """One SIGTERM: not ready at once, the stream fails at the deadline, exit 0 though the engine hangs on."""
    with Cluster(HANGING % HANGS[role]) as cluster:
        cluster.forgiven.add("router-0")  # it tells of the stream that it lost
        async with device(cluster, 1, mode="manual") as client:
            asked = asyncio.create_task(client.ask(said("tell me about the weather")), name="ask")
            await _until_active(cluster, role)
            process = cluster.processes[f"{role}-0"]
            process.send_signal(signal.SIGTERM)
            port = metrics_port_of(cluster.ports.metrics, role, 0)
            await off_loop(wait_for, lambda: readyz(port) in (0, 503), "it stays ready")
            assert await off_loop(process.wait, PATIENCE_S) == 0
            asked.cancel()
            await asyncio.wait([asked])


async def _until_active(cluster: Cluster, role: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not json.loads(await off_loop(cluster.page, role, "/readyz"))["active"]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


# Nobody is left to tell


def test_all_processes_end_with_their_supervisors_and_the_next_start_works_at_once(
    tmp_path: Path, run_dir: Path, cluster_ports: ClusterPorts
) -> None:
    """kill -9 of `xiaozhi up` and of supervisord in one moment: sockets, pid file and ports are no obstacle."""
    first = RealCluster(tmp_path / "data", run_dir, cluster_ports)
    again = None
    try:
        first.read_until(READY)
        members = session_members(first.session)
        assert len(members) >= 1 + len(MODULES) + 2  # supervisord, one of each, the recognisers of asr
        first.process.send_signal(signal.SIGKILL)
        os.kill(first.session, signal.SIGKILL)
        again = RealCluster(tmp_path / "data", run_dir, cluster_ports)
        again.read_until(READY)
        assert again.readyz()["ready"] is True
        assert not any(map(is_running, members))
        again.process.send_signal(signal.SIGINT)
        again.process.communicate()
        assert again.process.returncode == 0
        assert orphans_of(again.run_dir) == []
    finally:
        for cluster in filter(None, (again, first)):
            cluster.kill()


KINDS = {"router": "good", "asr": "good"}


@pytest.fixture
def stand_ins(tmp_path: Path, run_dir: Path) -> Iterator[Start]:
    """`xiaozhi up` of programs that start at once; ready when it returns."""
    started: list[subprocess.Popen[bytes]] = []

    def start(kinds: dict[str, str], stdout: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        conf, data_dir = tmp_path / "supervisord.conf", tmp_path / "data"
        conf.write_text(standin_cluster.conf_of(kinds))
        names = [f"{program}_00" for program in kinds]
        for name in names:
            (data_dir / f"{name}.ready").unlink(missing_ok=True)
        command = [sys.executable, standin_cluster.__file__, data_dir, run_dir / "run", conf, *names]
        up = subprocess.Popen(
            [*map(str, command), "--drain", "600"],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stdout,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        started.append(up)
        wait_for(lambda: all((data_dir / f"{name}.ready").exists() for name in names), "it never became ready")
        return up

    yield start
    for up in started:
        up.kill()
        up.wait()
    for pid in orphans_of(run_dir / "run"):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def supervisord_of(run_dir: Path) -> int:
    return int((run_dir / "run" / "supervisord.pid").read_text())


def test_a_closed_terminal_window_ends_it_cleanly(stand_ins: Start, run_dir: Path) -> None:
    """The terminal is gone together with the hang-up: what is still printed fails, the drain does not."""
    controller, terminal = pty.openpty()
    up = stand_ins(KINDS, terminal)
    os.close(terminal)
    session = supervisord_of(run_dir)
    os.close(controller)
    up.send_signal(signal.SIGHUP)
    assert up.wait(PATIENCE_S) == 0
    assert session_members(session) == []
    assert not (run_dir / "run").exists()


def test_what_outlived_its_supervisors_is_ended_before_the_next_start(
    stand_ins: Start, tmp_path: Path, run_dir: Path
) -> None:
    """What drains for minutes is hurried, what listens to nothing is killed; the person is told."""
    up = stand_ins({"router": "slow", "asr": "deaf", "tts": "parent"})
    session = supervisord_of(run_dir)
    left = session_members(session)
    os.kill(up.pid, signal.SIGKILL)
    os.kill(session, signal.SIGKILL)
    up.wait()
    told: list[str] = []
    settings = ClusterSettings(data_dir=tmp_path / "data", run_dir=run_dir / "run")
    assert set(end_orphans(settings, told.append)) <= set(left) and len(told) == 1
    assert not any(map(is_running, left))
    again = stand_ins(KINDS)
    again.send_signal(signal.SIGTERM)
    assert again.wait(PATIENCE_S) == 0


def test_a_start_does_not_touch_a_living_cluster(stand_ins: Start, tmp_path: Path, run_dir: Path) -> None:
    """Its processes carry the same marks; the lock tells them from orphans."""
    up = stand_ins(KINDS)
    alive = orphans_of(run_dir / "run")
    assert len(alive) == 3
    settings = ClusterSettings(data_dir=tmp_path / "data", run_dir=run_dir / "run")
    assert end_orphans(settings, lambda text: None) == []
    assert all(map(is_running, alive))
    up.send_signal(signal.SIGTERM)
    assert up.wait(PATIENCE_S) == 0
