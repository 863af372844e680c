"""A cluster of its own for one run: real processes on free ports, restarted when they end as a supervisor would.

What the run does to a process on purpose is told here first (`expect_end`); one that ends by itself is a complaint, and
so is a traceback in a log or an exit code other than 0 at the end.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.trial.judge import Complaint
from bench.trial.pages import Pages
from shared.config.port_probe import listen_fault
from shared.settings import METRICS_OFFSETS, metrics_port_of

ROOT = Path(__file__).resolve().parents[2]
MODULES = {
    "web": "router.web",
    "router": "router",
    "session": "workers.session",
    "asr": "workers.asr",
    "tts": "workers.tts",
}
POOLS = ("session", "asr", "tts")
READY_S = 90.0
RESTART_S = 0.5
"""From a process's end to its successor, as supervisord's first attempt takes."""
LOOK_S = 0.1
STOP_S = 40.0
_PORTS, _PORTS_STEP = (10_125, 30_000), 200
"""Between the ranges that the tests' clusters use (tests/fakes/ports.py)."""
_SPARE = range(3, 10)
_CLAIM = 2
"""A port of the range that no process uses: whoever has bound it has the range."""
BAD_LINES = re.compile(r"Traceback|stream_owner_raised|was never (awaited|retrieved)|RuntimeWarning")


@dataclass(slots=True)
class Slot:
    """One place for a process."""

    program: str
    number: int
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    ended_s: float | None = None
    is_end_expected: bool = False
    is_stopped: bool = False
    """By SIGSTOP."""

    @property
    def name(self) -> str:
        return f"{self.program}-{self.number}"

    @property
    def pid(self) -> int:
        return self.process.pid if self.process is not None else 0

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None


@dataclass
class TrialCluster:
    """`async with`: ready inside, gone behind. `complaints` is whole after it."""

    config: str
    counts: Mapping[str, int] = field(default_factory=lambda: {"session": 2, "asr": 2, "tts": 2})
    environment: Mapping[str, str] = field(default_factory=dict)
    slot_environment: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """More variables for some, by name ("asr-0")."""
    keep_logs_in: Path | None = None

    def __post_init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="xzt-", dir="/tmp"))
        self.stage = self.directory / "stage"
        """Where the scripted engines look for cues (shared/rehearsal.py)."""
        self.data_dir, self.run_dir = self.directory / "data", self.directory / "run"
        for directory in (self.stage, self.data_dir):
            directory.mkdir()
        self.run_dir.mkdir(mode=0o700)
        self.complaints: list[Complaint] = []
        self.restarts = 0
        self.pages: Pages
        self.slots = {
            slot.name: slot
            for program in MODULES
            for slot in (Slot(program, number) for number in range(self.counts.get(program, 1)))
        }
        self._base, self._claim = _claim_ports()
        self._began_s = time.monotonic()
        self._is_ending = False
        self._keeper: asyncio.Task[None] | None = None

    @property
    def ota_url(self) -> str:
        return f"http://127.0.0.1:{self._base + 1}/xiaozhi/ota/"

    @property
    def router_port(self) -> int:
        return self.port_of("router", 0)

    @property
    def spare_ports(self) -> list[int]:
        """Seven of its range that none of its processes uses."""
        return [self._base + offset for offset in _SPARE]

    def port_of(self, program: str, number: int) -> int:
        """Of its metrics."""
        return metrics_port_of(self._base + 10, program, number)

    def running(self) -> list[tuple[str, int, int]]:
        """(name, pid, port) of each process that is there and not stopped."""
        return [
            (slot.name, slot.pid, self.port_of(slot.program, slot.number))
            for slot in self.slots.values()
            if slot.is_running and not slot.is_stopped
        ]

    async def __aenter__(self) -> TrialCluster:
        self.pages = Pages()
        config = self.config.replace("STAGE", str(self.stage))
        (self.data_dir / ".config.yaml").write_text(config, encoding="utf-8")
        try:
            for slot in self.slots.values():
                self._start(slot)
            self._keeper = asyncio.create_task(self._keep(), name="trial-keeper")
            await self.ready()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        self._is_ending = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self.pages.close()
        await self._stop_all()
        self._claim.close()
        self._read_logs()
        if self.keep_logs_in is not None:
            shutil.copytree(self.directory, self.keep_logs_in, dirs_exist_ok=True, ignore=_without_sockets)
        shutil.rmtree(self.directory, ignore_errors=True)

    async def ready(self) -> None:
        """Until the router has all workers and the web process answers. RuntimeError with the logs' ends otherwise."""
        deadline_s = time.monotonic() + READY_S
        while time.monotonic() < deadline_s:
            joined = await self.pages.joined(self.router_port)
            told = await self.pages.sums(self.port_of("web", 0), ["xz_process_tasks"])
            if told["xz_process_tasks"] and all(joined.get(role, 0) >= self.counts.get(role, 1) for role in POOLS):
                return
            await asyncio.sleep(LOOK_S)
        raise RuntimeError("the cluster is not ready:\n" + "\n".join(self.log_end(name) for name in self.slots))

    def log_end(self, name: str, chars: int = 800) -> str:
        path = self.directory / f"{name}.log"
        return f"{name}: {path.read_text(errors='replace')[-chars:]}" if path.exists() else f"{name}: no log"

    def expect_end(self, name: str) -> None:
        self.slots[name].is_end_expected = True

    def send(self, name: str, number: signal.Signals) -> None:
        """A signal for a process, if it is there."""
        slot = self.slots[name]
        if slot.is_running:
            slot.is_stopped = number is signal.SIGSTOP or (slot.is_stopped and number is not signal.SIGCONT)
            os.kill(slot.pid, number)

    # Inside

    def _start(self, slot: Slot) -> None:
        with (self.directory / f"{slot.name}.log").open("ab") as log:
            slot.process = subprocess.Popen(
                [sys.executable, "-m", MODULES[slot.program], "--slot", str(slot.number)],
                cwd=ROOT,
                env=self._environment(slot.name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        slot.starts += 1
        slot.ended_s, slot.is_end_expected, slot.is_stopped = None, False, False

    def _environment(self, name: str) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("XZ_")}
        return {
            **inherited,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "MALLOC_ARENA_MAX": "2",
            "XZ_WS_PORT": str(self._base),
            "XZ_HTTP_PORT": str(self._base + 1),
            "XZ_METRICS_PORT": str(self._base + 10),
            "XZ_DATA_DIR": str(self.data_dir),
            "XZ_RUN_DIR": str(self.run_dir),
            "XZ_DRAIN_S": "8",
            "XZ_LOG_LEVEL": "INFO",
            **self.environment,
            **self.slot_environment.get(name, {}),
        }

    async def _keep(self) -> None:
        while True:
            for slot in self.slots.values():
                self._look_after(slot)
            await asyncio.sleep(LOOK_S)

    def _look_after(self, slot: Slot) -> None:
        if slot.is_running:
            return
        now = time.monotonic()
        if slot.ended_s is None:
            slot.ended_s = now
            if not slot.is_end_expected:
                code = slot.process.returncode if slot.process else None
                self._complain("died_by_itself", slot.name, f"exit code {code}")
        elif now - slot.ended_s >= RESTART_S and not self._is_ending:
            self.restarts += 1
            self._start(slot)

    async def _stop_all(self) -> None:
        """Routers and web first, while the workers still answer them."""
        for programs in (("router", "web"), POOLS):
            group = [slot for slot in self.slots.values() if slot.program in programs and slot.process is not None]
            for slot in group:
                self.send(slot.name, signal.SIGCONT)
                self.send(slot.name, signal.SIGTERM)
            deadline_s = time.monotonic() + STOP_S
            for slot in group:
                while slot.is_running and time.monotonic() < deadline_s:  # noqa: ASYNC110 - processes set no event
                    await asyncio.sleep(LOOK_S / 2)
            for slot in group:
                self._judge_end(slot)

    def _judge_end(self, slot: Slot) -> None:
        assert slot.process is not None
        if slot.is_running:
            self._complain("did_not_stop", slot.name, f"still there {STOP_S:g} s after SIGTERM")
            slot.process.kill()
        code = slot.process.wait()
        if code != 0 and not slot.is_end_expected:
            self._complain("bad_exit", slot.name, f"exit code {code}")

    def _read_logs(self) -> None:
        for name in self.slots:
            path = self.directory / f"{name}.log"
            lines = path.read_text(errors="replace").splitlines() if path.exists() else []
            for number, line in enumerate(lines):
                if BAD_LINES.search(line):
                    self._complain("bad_log_line", name, " | ".join(lines[max(0, number - 1) : number + 25]))

    def _complain(self, code: str, who: str, words: str) -> None:
        self.complaints.append(Complaint(code, who, round(time.monotonic() - self._began_s, 3), words))


def _claim_ports() -> tuple[int, socket.socket]:
    """The first of a range in which devices, HTTP and all metrics find room, and a socket that keeps others off it."""
    offsets = [0, 1, *_SPARE, *(10 + offset + slot for offset in METRICS_OFFSETS.values() for slot in range(4))]
    for _ in range(200):
        base = random.randrange(*_PORTS, _PORTS_STEP)
        claim = socket.socket()
        try:
            claim.bind(("127.0.0.1", base + _CLAIM))
        except OSError:
            claim.close()
            continue
        if all(listen_fault("0.0.0.0", base + offset) is None for offset in offsets):
            return base, claim
        claim.close()
    raise RuntimeError("no free range of ports on this machine")


def _without_sockets(directory: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(directory) / name).is_socket()]
