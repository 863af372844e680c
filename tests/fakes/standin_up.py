"""One `xiaozhi up` of stand-in programs under the real supervisord, as a child of the test."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from ops.cluster.daemon import session_members
from ops.cluster.lock import holder
from ops.process import ProcessInfo, ProcessName
from ops.supervisor import Supervisor
from tests.fakes import standin_cluster

ROOT = Path(__file__).parents[2]
NAMES = ("web_00", "router_00", "session_00", "asr_00", "asr_01", "tts_00")
PATIENT_S = 600.0
"""A drain that would outlast the test's timeout: a test that ends shows that nobody waited for it."""


class Up:
    """Which of NAMES are started is told by `kinds`, program → kind of stand-in."""

    def __init__(self, directory: Path, run_dir: Path, kinds: Mapping[str, str], drain_s: float, stdin: int) -> None:
        self.data_dir, self.run_dir = directory / "data", run_dir / "run"
        conf = directory / "supervisord.conf"
        conf.write_text(standin_cluster.conf_of(dict(kinds)))
        names = [name for name in NAMES if name.partition("_")[0] in kinds]
        command = [sys.executable, standin_cluster.__file__, self.data_dir, self.run_dir, conf, *names]
        self.environment = os.environ | {"PYTHONPATH": str(ROOT), "XZ_DATA_DIR": str(self.data_dir)}
        self.process = subprocess.Popen(
            [*map(str, command), "--drain", str(drain_s)],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        self.session = 0

    def wait_until_ready(self) -> None:
        self.wait_for("ready")
        self.session = int((self.run_dir / "supervisord.pid").read_text())

    def wait_for(self, text: str) -> str:
        """The line with it."""
        assert self.process.stdout is not None
        seen = []
        for line in self.process.stdout:
            seen.append(line)
            if text in line:
                return line
        pytest.fail(f"ended without {text!r}: {seen}")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """Exit code and what was printed since."""
        output, _ = self.process.communicate()
        return self.process.returncode, output

    def kill_everything(self) -> None:
        self.process.kill()
        for pid in session_members(self.session) if self.session else ():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def assert_nothing_is_left(self) -> None:
        assert session_members(self.session) == []
        assert not self.run_dir.exists()
        assert holder(self.data_dir) is None

    # Operating it

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A `xiaozhi` command in another terminal."""
        return subprocess.run(
            [sys.executable, "-m", "ops", *words], env=self.environment, capture_output=True, text=True, check=False
        )

    def begin(self, *words: str) -> Command:
        """A command that goes on beside the test."""
        return Command([sys.executable, "-m", "ops", *words], self.environment)

    def infos(self) -> dict[str, ProcessInfo]:
        return {str(info.name): info for info in Supervisor(self.run_dir).all_infos()}

    def running(self, program: str) -> list[int]:
        """Slots that run."""
        return sorted(
            info.name.slot
            for info in self.infos().values()
            if info.name.program == program and info.state in ("STARTING", "RUNNING")
        )

    def pid(self, name: str) -> int:
        (info,) = Supervisor(self.run_dir).infos([ProcessName.parse(name)])
        return info.pid

    def wait_for_life(self, name: str, before: int) -> None:
        """Until `xiaozhi up` has started it anew; the test's timeout is the limit."""
        while self.pid(name) in (0, before):
            self.process.poll()
            time.sleep(0.05)

    def epochs(self) -> dict[str, int]:
        """What each stand-in that is heard runs with."""
        return {path.stem: json.loads(path.read_text())["epoch"] for path in self.data_dir.glob("*.ready")}

    def desired(self, program: str) -> list[int]:
        found: dict[str, list[int]] = json.loads((self.run_dir / "desired.json").read_text())
        return found.get(program, [])


class Command:
    """A running `xiaozhi` command; its lines are collected by a thread of the test."""

    def __init__(self, words: list[str], environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            words,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="command-output", daemon=True)
        self._reader.start()

    def wait_for(self, text: str) -> None:
        while (line := self._queue.get()) is not None:
            self.lines.append(line)
            if text in line:
                return
        pytest.fail(f"ended without {text!r}: {self.lines}")

    def end(self) -> tuple[int, str]:
        """Exit code and everything it printed."""
        while (line := self._queue.get()) is not None:
            self.lines.append(line)
        self._reader.join()
        return self.process.wait(), "".join(self.lines)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(line)
        self.process.stdout.close()
        self._queue.put(None)


Start = Callable[..., Up]
