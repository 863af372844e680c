"""A whole cluster of real processes for one test module: free ports, own directories, logs kept, end checked."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from bench.trial.cluster import BAD_LINES, MODULES
from shared.settings import metrics_port_of
from tests.fakes.canary import blocked_lines
from tests.fakes.ports import ClusterPorts, free_cluster_ports

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")
READY_S = 60.0


@dataclass
class Cluster:
    """`with Cluster(...) as cluster`: ready inside, checked and gone behind."""

    config: str = ""
    counts: Mapping[str, int] = field(default_factory=lambda: {"asr": 1, "tts": 1, "session": 1})
    environment: Mapping[str, str] = field(default_factory=dict)
    ports: ClusterPorts = field(default_factory=free_cluster_ports)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _lived: dict[str, int] = field(default_factory=dict)
    """Length of each log when the end began."""
    forgiven: set[str] = field(default_factory=set)
    """Processes that a test has killed or wedged on purpose: their log is not judged."""
    stunned: set[str] = field(default_factory=set)
    """Processes that a test has stopped for a while: nothing else than a blocked loop may be said of them."""

    def __enter__(self) -> Cluster:
        self.directory = Path(tempfile.mkdtemp(prefix="xzc-", dir="/tmp"))
        self.data_dir, self.run_dir = self.directory / "data", self.directory / "run"
        self.data_dir.mkdir()
        self.run_dir.mkdir(mode=0o700)
        if self.config:
            (self.data_dir / ".config.yaml").write_text(self.config, encoding="utf-8")
        try:
            for program in MODULES:
                for slot in range(self.counts.get(program, 1)):
                    self.start(program, slot)
            self.wait_ready()
        except BaseException:
            self._kill_all()
            raise
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._stop_all()
        complaints = [] if kind else self._complaints()
        shutil.rmtree(self.directory, ignore_errors=True)
        assert not complaints, "\n".join(complaints)

    @property
    def environ(self) -> dict[str, str]:
        return {
            **{key: value for key, value in os.environ.items() if not key.startswith("XZ_")},
            **self.ports.environment(),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "XZ_DATA_DIR": str(self.data_dir),
            "XZ_RUN_DIR": str(self.run_dir),
            "XZ_DRAIN_S": "2",
            "XZ_DEBUG_LOOP": "1",
            "XZ_LOG_LEVEL": "DEBUG",
            **self.environment,
        }

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.ports.ws}/xiaozhi/v1/"

    @property
    def ota_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.http}/xiaozhi/ota/"

    def start(self, program: str, slot: int = 0) -> subprocess.Popen[bytes]:
        name = f"{program}-{slot}"
        with self.log_path(name).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", MODULES[program], "--slot", str(slot)],
                cwd=ROOT,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.processes[name] = process
        return process

    def log_path(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def log(self, name: str) -> str:
        return self.log_path(name).read_text(encoding="utf-8", errors="replace")

    def logs(self) -> str:
        return "\n".join(self.log(name) for name in self.processes)

    def page(self, program: str, path: str, slot: int = 0) -> str:
        """A page of a process's own port; also of one that answers 503."""
        port = metrics_port_of(self.ports.metrics, program, slot)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            return error.read().decode()

    def metric(self, program: str, name: str, slot: int = 0) -> float:
        """Sum over all labels of one metric (as it is written on the page)."""
        lines = self.page(program, "/metrics", slot).splitlines()
        pattern = re.compile(rf"{re.escape(name)}(\{{.*\}})? (\S+)$")
        return sum(float(match[2]) for line in lines if (match := pattern.match(line)))

    def wait_ready(self) -> None:
        """Until the router has a worker of each pool and all workers that were asked for."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            for name, process in self.processes.items():
                assert process.poll() is None or name in self.forgiven, f"{name} ended:\n{self.log(name)[-3000:]}"
            if self._all_joined():
                return
            time.sleep(0.05)
        raise AssertionError(f"not ready within {READY_S} s:\n{self.logs()[-4000:]}")

    def _all_joined(self) -> bool:
        try:
            pools = json.loads(self.page("router", "/cluster"))["pools"]
            urllib.request.urlopen(f"http://127.0.0.1:{self.ports.http}/healthz", timeout=2).close()
        except (OSError, ValueError):
            return False
        return all(len(pools[role]) >= self.counts.get(role, 1) for role in ("asr", "tts", "session"))

    def kill(self, name: str) -> None:
        self.forgiven.add(name)
        self.processes[name].kill()
        self.processes[name].wait()

    def _stop_all(self) -> None:
        self._lived = {name: len(self.log(name)) for name in self.processes}
        order = sorted(self.processes, key=lambda name: not name.startswith(("router", "web")))
        for name in order:
            if self.processes[name].poll() is None:
                self.processes[name].send_signal(signal.SIGTERM)
        for name in order:
            try:
                self.processes[name].wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.processes[name].kill()
                self.processes[name].wait()

    def _kill_all(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _complaints(self) -> list[str]:
        found = []
        for name, process in self.processes.items():
            if name in self.forgiven:
                continue
            if process.returncode != 0:
                found.append(f"{name} exited with {process.returncode}:\n{self.log(name)[-2000:]}")
            # Closing sockets may take a moment when nothing else is served any more.
            if name not in self.stunned:
                found += [f"{name}: {line}" for line in blocked_lines(self.log(name)[: self._lived.get(name)])]
            lines = self.log(name).splitlines()
            for number, line in enumerate(lines):
                if BAD_LINES.search(line):
                    found.append("\n".join([f"{name}:", *lines[max(0, number - 1) : number + 30]]))
        return found


async def off_loop(call: Callable[..., T], *arguments: object) -> T:
    """A blocking call about a cluster: the devices of this process go on while it waits."""
    return await asyncio.get_running_loop().run_in_executor(None, call, *arguments)


@asynccontextmanager
async def running(cluster: Cluster) -> AsyncIterator[Cluster]:
    """The same as `with cluster`, for a test whose fakes live on the loop."""
    await off_loop(cluster.__enter__)
    try:
        yield cluster
    except BaseException as error:
        await off_loop(lambda error=error: cluster.__exit__(type(error), error, None))
        raise
    await off_loop(lambda: cluster.__exit__(None, None, None))


async def metric(cluster: Cluster, program: str, name: str, slot: int = 0, **labels: str) -> float:
    """A metric's sum over all labels, or its value for all the labels it has."""
    pairs = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return await off_loop(cluster.metric, program, f"{name}{{{pairs}}}" if pairs else name, slot)
