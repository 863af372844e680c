"""`xiaozhi up` with the real processes, as a child of the test."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from ops.cluster.daemon import session_members
from tests.fakes.ports import ClusterPorts

ROOT = Path(__file__).resolve().parents[2]
READY = "stop         Ctrl-C"
"""The last line of the first screen."""


class RealCluster:
    """One `xiaozhi up`, one worker in each pool; ends with the block."""

    def __init__(
        self, data_dir: Path, run_dir: Path, ports: ClusterPorts, variables: Mapping[str, str] | None = None
    ) -> None:
        self.ports, self.run_dir, self.data_dir = ports, run_dir / "run", data_dir
        counts = {"XZ_ROUTERS": "1", "XZ_ASR": "1", "XZ_TTS": "1", "XZ_SESSION": "1"}
        places = {"XZ_DATA_DIR": str(data_dir), "XZ_RUN_DIR": str(self.run_dir), "PYTHONPATH": str(ROOT)}
        self.environment = os.environ | counts | places | ports.environment() | dict(variables or {})
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ops", "up"],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> RealCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self._reap()

    def read_until(self, text: str) -> str:
        assert self.process.stdout is not None
        seen = ""
        for line in self.process.stdout:
            seen += line
            if text in line:
                return seen
        pytest.fail(f"ended without {text!r}:\n{seen}")

    def has_output(self, timeout_s: float) -> bool:
        return bool(select.select([self.process.stdout], [], [], timeout_s)[0])

    @property
    def ota_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.http}/xiaozhi/ota/"

    def kill(self) -> None:
        """Leave nothing of it, whatever state it is in."""
        with suppress(OSError, ValueError):
            for pid in session_members(self.session):
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self._reap()

    def _reap(self) -> None:
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    @property
    def session(self) -> int:
        return int((self.run_dir / "supervisord.pid").read_text())

    def readyz(self) -> Any:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports.http}/readyz") as response:
                return json.load(response)
        except HTTPError as refused:
            return json.load(refused)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ops", *words], env=self.environment, capture_output=True, text=True, check=False
        )
