"""`xiaozhi doctor` beside a cluster that is well, and where much is broken."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.process import ProcessName
from ops.supervisor import Supervisor
from tests.fakes.ports import ClusterPorts
from tests.fakes.real_cluster import READY, RealCluster

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

SECRET = "s3cret-of-the-operator"


def by_check(done: subprocess.CompletedProcess[str]) -> dict[str, list[dict[str, str]]]:
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["ok"] is (done.returncode == 0)
    found: dict[str, list[dict[str, str]]] = {}
    for finding in answer["findings"]:
        found.setdefault(finding["check"], []).append(finding)
    return found


@pytest.fixture
def cluster(tmp_path: Path, run_dir: Path, cluster_ports: ClusterPorts) -> Iterator[RealCluster]:
    with RealCluster(tmp_path / "data", run_dir, cluster_ports) as started:
        yield started


def test_a_running_cluster_is_well_until_a_worker_hangs(cluster: RealCluster) -> None:
    """Nothing fails; its own ports are its own; then a frozen worker, which supervisord takes for running, is named."""
    cluster.read_until(READY)
    done = cluster.command("doctor", "--json")
    found = by_check(done)
    assert done.returncode == 0, done.stdout
    assert "in use by this cluster" in found["ports"][0]["what"]
    assert found["processes"][0]["what"] == "5 RUNNING"
    assert found["workers"][0]["what"] == "all 3 have joined a router"
    assert found["store"][0]["level"] == "ok"
    text = cluster.command("doctor")
    assert text.returncode == 0 and all(line.startswith(("ok ", "warn ")) for line in text.stdout.splitlines())

    (web,) = Supervisor(cluster.run_dir).infos([ProcessName("web", 0)])
    os.kill(web.pid, signal.SIGSTOP)
    try:
        done = cluster.command("doctor", "--json")
    finally:
        os.kill(web.pid, signal.SIGCONT)
    assert done.returncode == 1
    assert "the web process does not answer" in by_check(done)["cluster"][0]["what"]


def test_all_that_is_broken_is_told_at_once(tmp_path: Path, run_dir: Path, cluster_ports: ClusterPorts) -> None:
    """A taken port, a dead upstream, a wrong address for devices, an open run directory; and no secret."""
    data_dir, at = tmp_path / "data", run_dir / "run"
    data_dir.mkdir()
    at.mkdir(mode=0o755)
    at.chmod(0o755)
    (data_dir / ".config.yaml").write_text(
        f"""
selected_module: {{LLM: Mine}}
LLM: {{Mine: {{type: openai, base_url: "http://u:{SECRET}@127.0.0.1:9/{SECRET}", model_name: m, api_key: {SECRET}}}}}
server: {{websocket: "ws://localhost:8000/xiaozhi/v1/", auth_key: {SECRET}-of-at-least-sixteen}}
"""
    )
    places = {"XZ_DATA_DIR": str(data_dir), "XZ_RUN_DIR": str(at)}
    with socket.create_server(("0.0.0.0", cluster_ports.ws)):
        done = subprocess.run(
            [sys.executable, "-m", "ops", "doctor", "--json"],
            env=os.environ | places | cluster_ports.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
    found = by_check(done)
    assert done.returncode == 1 and done.stderr == ""
    assert (
        f"(process {os.getpid()})" in found["ports"][0]["what"] and str(cluster_ports.ws) in found["ports"][0]["what"]
    )
    assert "mode 0755" in found["run directory"][0]["what"]
    assert "http://127.0.0.1:9 (LLM.Mine.base_url): nothing listens there" in found["upstream"][0]["what"]
    assert "the device itself" in found["OTA answer"][0]["what"]
    assert found["cluster"][0]["what"] == "it is not running"
    assert SECRET not in done.stdout


def test_a_program_that_cannot_live_is_shown_with_its_last_words(cluster: RealCluster) -> None:
    """While it is tried again and given up."""
    cluster.read_until(READY)
    asr = ProcessName("asr", 0)
    supervisor = Supervisor(cluster.run_dir)
    while not cluster.has_output(0.1):
        (info,) = supervisor.infos([asr])
        if info.pid:
            os.kill(info.pid, signal.SIGKILL)
    cluster.read_until("asr_00 is down")
    done = cluster.command("doctor", "--json")
    found = by_check(done)
    assert done.returncode == 1
    told = [each["what"] for each in found.get("processes", []) if each["level"] == "fail"]
    assert told and told[0].startswith("asr_00 is ") and "asr_00.log" in found["processes"][0]["remedy"]
