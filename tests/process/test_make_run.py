"""`xiaozhi up` with the real processes, and the commands that look at it."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.cluster.daemon import session_members
from ops.process import ProcessName
from ops.supervisor import Supervisor
from tests.fakes.ports import ClusterPorts
from tests.fakes.real_cluster import RealCluster

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cluster(tmp_path: Path, run_dir: Path, cluster_ports: ClusterPorts) -> Iterator[RealCluster]:
    with RealCluster(tmp_path / "data", run_dir, cluster_ports) as started:
        yield started


def test_a_cluster_starts_is_looked_at_and_ends(cluster: RealCluster) -> None:
    """The first screen of the README: ready, both URLs, how to talk to it; status; Ctrl-C leaves nothing."""
    screen = cluster.read_until("stop")
    assert f":{cluster.ports.ws}/xiaozhi/v1/" in screen
    assert f":{cluster.ports.http}/xiaozhi/ota/" in screen
    assert 'talk --say "what time is it"' in screen
    session = cluster.session

    assert cluster.readyz()["ready"] is True
    status = json.loads(cluster.command("status", "--json").stdout)
    processes = {row["process"]: row for row in status["processes"]}
    assert set(processes) == {"web_00", "router_00", "asr_00", "tts_00", "session_00"}
    assert {row["state"] for row in processes.values()} == {"RUNNING"}
    assert all(processes[name]["capacity"] > 0 for name in ("asr_00", "tts_00", "session_00"))
    assert all(row["threads"] for row in processes.values())

    cluster.process.send_signal(signal.SIGINT)
    cluster.process.communicate()
    assert cluster.process.returncode == 0
    assert session_members(session) == []
    assert not cluster.run_dir.exists()
    assert cluster.command("status").returncode == 3


def test_a_worker_that_cannot_live_is_named_by_the_web_process(cluster: RealCluster) -> None:
    """In less than half a minute, with the rest still running, and a clean end afterwards."""
    cluster.read_until("stop")
    asr = ProcessName("asr", 0)
    supervisor = Supervisor(cluster.run_dir)
    while not cluster.has_output(0.1):
        (info,) = supervisor.infos([asr])
        if info.pid:
            os.kill(info.pid, signal.SIGKILL)
    assert "asr_00 is down" in cluster.read_until("asr_00")
    while (answer := cluster.readyz())["ready"]:
        cluster.has_output(0.1)
    assert set(answer["fatal"]) == {"asr_00"}
    cluster.process.send_signal(signal.SIGINT)
    cluster.process.communicate()
    assert cluster.process.returncode == 0


def test_down_ends_it(cluster: RealCluster) -> None:
    """From another terminal; a second `down` has nothing to do."""
    cluster.read_until("stop")
    done = cluster.command("down")
    assert (done.returncode, done.stdout) == (0, "stopped\n")
    cluster.process.communicate()
    assert cluster.process.returncode == 0
    assert "no cluster runs" in cluster.command("down").stdout


def test_a_taken_port_is_named_before_anything_starts(
    tmp_path: Path, run_dir: Path, cluster_ports: ClusterPorts
) -> None:
    """Exit code 2, the port and what to do; no process was started, no file is left."""
    with socket.create_server(("0.0.0.0", cluster_ports.ws)):
        refused = RealCluster(tmp_path / "data", run_dir, cluster_ports)
        output, _ = refused.process.communicate()
    assert refused.process.returncode == 2
    assert f"port {cluster_ports.ws}" in output
    assert not refused.run_dir.exists()


def test_a_wrong_setting_is_named_before_anything_starts(
    tmp_path: Path, run_dir: Path, cluster_ports: ClusterPorts
) -> None:
    """Key, value and what was expected."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ".config.yaml").write_text("server:\n  port: often\n")
    refused = RealCluster(tmp_path / "data", run_dir, ClusterPorts(ws=0, http=cluster_ports.http, metrics=9700))
    output, _ = refused.process.communicate()
    assert refused.process.returncode == 2
    assert "XZ_WS_PORT" in output or "server.port" in output
